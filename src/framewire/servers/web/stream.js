/**
 * The page of the stream: the newest messages, how many there were, and how many come in a second.
 *
 *     server {"type": "hello", "source": "the clock", "interval": 1.0, "time": 1552068299.0, "count": 12345}
 *            {"type": "update", "count": 12350, "newest": ["...", ...], "time": ...}        at most four in a second
 *
 * `count` is of all messages since the server began, `newest` has the last of those since the update before, as many
 * as it holds; so the number of each is known, and numbers that are left out tell of messages that are not shown.
 */

import { Connection } from "./connection.js";
import { drawPlot } from "./plot.js";
import { Rate } from "./rate.js";
import { Follower } from "./scroll.js";
import { showStatus } from "./status.js";

const KEPT_COUNT = 200; // messages in the list
const TEXT_LENGTH = 2000; // characters of one that are shown
const PRESENT = 5; // seconds over which the present rate is taken
const TICK = 500; // milliseconds between drawings

const element = Object.fromEntries([...document.querySelectorAll("[id]")].map((one) => [one.id, one]));
const connection = new Connection();
const follower = new Follower(element.list);
const rate = new Rate();

let count = null; // messages so far
let skew = 0; // seconds from our clock, which never jumps, to the server's
let newest = []; // [number, text] of the last of them, also while the list stands still
let pausedAt = null; // the count when it was halted

const now = () => performance.now() / 1000 + skew;
const number = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 1 : 0 });

// What comes from the server.

const handlers = {
  hello(message) {
    const pace = message.interval > 0 ? `every ${message.interval.toLocaleString("en")} s` : "as fast as it goes";
    element.source.textContent = `${message.source}, ${pace}`;
    if (pausedAt !== null && message.count < pausedAt) pausedAt = message.count; // it counts anew
    rate.begin(message.time, message.count);
  },

  update(message) {
    rate.update(message.time, message.count);
    const first = message.count - message.newest.length + 1;
    const added = message.newest.map((text, index) => [first + index, text]);
    newest = [...newest, ...added].slice(-KEPT_COUNT);
    if (pausedAt === null) showMessages(added);
  },
};

connection.addEventListener("message", ({ detail: message }) => {
  if (!Object.hasOwn(handlers, message.type)) return;
  skew = message.time - performance.now() / 1000;
  handlers[message.type](message);
  count = message.count;
  showCount();
});

connection.addEventListener("change", () => {
  if (connection.state !== "connected") rate.end(now());
});

// The list.

function showMessages(added) {
  if (added.length === 0) return;
  element.list.append(...added.map(row));
  follower.hold(() => [...element.list.children].slice(0, -KEPT_COUNT).forEach((one) => one.remove()));
  follower.grown();
}

function row([ordinal, text]) {
  const item = document.createElement("li");
  const gutter = document.createElement("span");
  gutter.className = "number";
  gutter.textContent = ordinal.toLocaleString("en");
  const words = document.createElement("span");
  words.className = "text";
  words.dir = "auto";
  words.textContent =
    text.length > TEXT_LENGTH ? `${text.slice(0, TEXT_LENGTH)}… (${number(text.length)} characters)` : text;
  item.append(gutter, " ", words);
  return item;
}

element.pause.addEventListener("click", () => {
  if (pausedAt === null) {
    pausedAt = count ?? 0;
  } else {
    pausedAt = null;
    element.list.replaceChildren();
    showMessages(newest);
    follower.follow();
  }
  element.pause.textContent = pausedAt === null ? "Pause" : "Resume";
  element.pause.classList.toggle("paused", pausedAt !== null);
  showCount();
});

// Figures and plot.

function showCount() {
  element.count.textContent = count === null ? "–" : number(count);
  element.missed.textContent = pausedAt === null ? "" : `${number(count - pausedAt)} new`;
}

function showRate() {
  const numbers = rate.series(now());
  const known = numbers.filter((one) => one !== null);
  const present = numbers.slice(-PRESENT).filter((one) => one !== null);
  const current = connection.state === "connected" && present.length ? number(mean(present)) : "–";
  write(element.rate, current);
  if (known.length > 0) {
    const [least, most] = [Math.min(...known), Math.max(...known)].map(number);
    const unknown = numbers.length - numbers.findIndex((one) => one !== null) - known.length;
    const gap = unknown ? `; unknown for ${unknown} s` : "";
    write(element.summary, `Now ${current} · least ${least} · most ${most} · mean ${number(mean(known))}${gap}`);
  }
  drawPlot(element.plot, numbers);
}

const mean = (numbers) => numbers.reduce((sum, one) => sum + one, 0) / numbers.length;

function write(where, text) {
  if (where.textContent !== text) where.textContent = text;
}

setInterval(() => document.hidden || showRate(), TICK);
new ResizeObserver(showRate).observe(element.plot);

showStatus(connection, () => element.pause.focus());
connection.start();
