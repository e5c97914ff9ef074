/**
 * The page of the chat: come in under a name, see who is here, listen and speak.
 *
 *     we     {"type": "join", "name": "ann"}          first, and again after every reconnection
 *            {"type": "say", "text": "hello"}
 *     server {"type": "welcome", "name": "ann", "members": ["ann", "bob", "127.0.0.1:48953"], "time": 1552068299.0}
 *            {"type": "refused", "reason": "the name ann is taken"}                    and the end
 *            {"type": "entered" | "left", "name": "bob", "time": ...}
 *            {"type": "said", "name": "bob", "text": "hi", "time": ...}                never what we have said
 *
 * Text from others is only ever text: nothing here makes HTML of it.
 */

import { Connection } from "./connection.js";
import { Conversation, timeElement } from "./conversation.js";
import { complaint, nameElement } from "./names.js";
import { showStatus } from "./status.js";

const LINE_SIZE = 4096; // bytes of UTF-8 in a line
const NEARLY = 0.8; // of them, from which on they are counted in view

const element = Object.fromEntries([...document.querySelectorAll("[id]")].map((one) => [one.id, one]));
const connection = new Connection();
const conversation = new Conversation(element.log, element.news);
const members = new Set();

let name = ""; // ours, as it was asked for or given
let inside = false; // the room has been entered, though the connection may be lost now
let lostAt = null; // when it was, in seconds
let skew = 0; // seconds by which the server's clock is ahead of ours

const now = () => Date.now() / 1000 + skew;
const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

// What comes from the server.

const handlers = {
  welcome(message) {
    skew = message.time - Date.now() / 1000;
    name = message.name;
    members.clear();
    message.members.forEach((member) => members.add(member));
    showMembers();
    if (lostAt === null) {
      conversation.notice(message.time, "You entered as ", nameElement(name));
    } else {
      const back = ["You are back as ", nameElement(name), ". "];
      conversation.notice(message.time, ...back, "What was said since ", timeElement(lostAt), " is missing.");
    }
    lostAt = null;
    if (!inside) showRoom(true);
    showTrouble("");
  },

  refused(message) {
    if (inside) {
      // Most often our own last connection, of which the server does not know yet that it is dead.
      showTrouble(sentence(message.reason));
      connection.drop();
    } else {
      connection.stop();
      refuse(message.reason);
    }
  },

  entered(message) {
    if (members.has(message.name)) return;
    members.add(message.name);
    showMembers();
    conversation.notice(message.time, nameElement(message.name), " entered");
  },

  left(message) {
    if (!members.delete(message.name)) return;
    showMembers();
    conversation.notice(message.time, nameElement(message.name), " left");
  },

  said(message) {
    conversation.said(message.name, message.text, message.time);
    if (document.hidden) showUnseen(unseen + 1);
  },
};

connection.addEventListener("open", () => connection.send({ type: "join", name }));

connection.addEventListener("message", ({ detail: message }) => {
  if (Object.hasOwn(handlers, message.type)) handlers[message.type](message);
});

connection.addEventListener("change", () => {
  const connected = connection.state === "connected";
  if (connected) measure();
  else if (inside && lostAt === null) lostAt = now();
  element.send.setAttribute("aria-disabled", String(!connected));
});

// Coming in.

element.join.addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = element.name.value.trim();
  if (wanted === name && connection.state === "connecting") return; // or the second would find the name taken
  name = wanted;
  const reason = complaint(name);
  if (reason) {
    connection.stop();
    refuse(reason);
  } else {
    refuse("");
    connection.start();
  }
});

function refuse(reason) {
  element["name-error"].textContent = reason && sentence(reason);
  element.name.setAttribute("aria-invalid", String(reason !== ""));
  if (reason) element.name.select();
}

function showRoom(shown) {
  inside = shown;
  element.entrance.hidden = shown;
  element.room.hidden = !shown;
  element.people.hidden = !shown;
  (shown ? element.text : element.name).focus();
}

// While we are inside.

function showTrouble(text) {
  element["trouble-text"].textContent = text;
  element.trouble.hidden = text === "";
}

element.rename.addEventListener("click", () => {
  connection.stop();
  showTrouble("");
  showRoom(false);
  element.name.select();
});

function showMembers() {
  element.count.textContent = members.size;
  element["people-count"].textContent = members.size;
  element.members.replaceChildren(
    ...[...members].map((member) => {
      const item = document.createElement("li");
      item.append(nameElement(member), member === name ? " (you)" : "");
      return item;
    }),
  );
}

const peopleShown = () => element.people.getAttribute("aria-expanded") === "true";

element.people.addEventListener("click", () => showPeople(!peopleShown()));

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !peopleShown()) return;
  showPeople(false);
  element.people.focus();
});

/** Where there is little room; elsewhere they are always in view. */
function showPeople(shown) {
  element.people.setAttribute("aria-expanded", String(shown));
  element.here.classList.toggle("shown", shown);
}

// Speaking. What is typed leaves the field when it is sent, and not before.

const size = (line) => new TextEncoder().encode(line).length;
const lines = () => element.text.value.split(/\r\n|[\r\n]/).filter((line) => line.trim());

element.text.addEventListener("keydown", (event) => {
  // 229: an input method has taken the key, as Safari tells it.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  element.say.requestSubmit();
});

element.text.addEventListener("input", measure);

element.say.addEventListener("submit", (event) => {
  event.preventDefault();
  element.text.focus();
  if (lines().length === 0 || longest() > LINE_SIZE) return;
  if (connection.state !== "connected") {
    hint("Not sent, there is no connection. Your line stays here.");
    return;
  }
  for (const text of lines()) {
    connection.send({ type: "say", text });
    conversation.said(name, text, now(), true);
  }
  element.text.value = "";
  measure();
});

const longest = () => Math.max(0, ...lines().map(size));

/** Say how much more there can be, and make the field as high as what is in it; the style sheet has a limit. */
function measure() {
  const used = longest();
  element.size.hidden = used < NEARLY * LINE_SIZE;
  element.size.textContent = `${used.toLocaleString("en")} of ${LINE_SIZE.toLocaleString("en")} bytes`;
  element.text.setAttribute("aria-invalid", String(used > LINE_SIZE));
  hint(used > LINE_SIZE ? `Too long: a line has at most ${LINE_SIZE.toLocaleString("en")} bytes.` : "");
  element.text.style.height = "auto";
  element.text.style.height = `${element.text.scrollHeight + element.text.offsetHeight - element.text.clientHeight}px`;
}

function hint(text) {
  if (element.hint.textContent !== text) element.hint.textContent = text;
}

// In another tab: how much was said meanwhile.

const title = document.title;
let unseen = 0;

function showUnseen(count) {
  unseen = count;
  document.title = count ? `(${count}) ${title}` : title;
}

document.addEventListener("visibilitychange", () => document.hidden || showUnseen(0));

showStatus(connection, () => (inside ? element.text : element.name).focus());
