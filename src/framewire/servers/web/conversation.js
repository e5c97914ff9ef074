/**
 * What has been said in the room, and what has happened there, since the page was opened.
 *
 *     <div id="log" role="log" tabindex="0">
 *       <p class="notice"><bdi class="name colour-3">bob</bdi> entered <time>14:05</time></p>
 *       <p class="said"><bdi class="name colour-3">bob</bdi> <span class="text">hello</span> <time>14:05</time></p>
 *       <p class="said follows">…</p>      by the same, soon after: the name is there for those who listen
 *       <p class="said own">…</p>
 *     </div>
 */

import { nameElement } from "./names.js";
import { Follower } from "./scroll.js";

const KEPT_COUNT = 2000; // messages and notices in the page
const FORGOTTEN_COUNT = 100; // of which so many go at a time, the oldest

const PAUSE = 5 * 60; // seconds after which a name is shown again

const hours = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const days = new Intl.DateTimeFormat("en-GB", { dateStyle: "full" });
const moments = new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "medium" });

export class Conversation {
  #log;
  #button;
  #follower;
  #unread = 0;
  #last = {}; // who spoke last, and when
  #day = null;
  #cut = null; // tells that the oldest are gone

  /** `log` is where it stands, `button` leads to what is new below. */
  constructor(log, button) {
    this.#log = log;
    this.#button = button;
    this.#follower = new Follower(log, () => this.#count(0));
    button.addEventListener("click", () => this.#follower.follow());
  }

  /** Times are seconds since 1970. */
  said(name, text, time, own = false) {
    this.#date(time);
    const follows = this.#last.name === name && this.#last.own === own && time - this.#last.time < PAUSE;
    this.#last = { name, own, time };
    const words = document.createElement("span");
    words.className = "text";
    words.dir = "auto";
    words.textContent = text;
    const row = paragraph("said", nameElement(name), " ", words, " ", timeElement(time));
    row.classList.toggle("own", own);
    row.classList.toggle("follows", follows);
    this.#add(row);
    if (own) this.#follower.follow();
    else if (!this.#follower.following) this.#count(this.#unread + 1);
  }

  /** Something has happened: text, and elements such as names. */
  notice(time, ...parts) {
    this.#date(time);
    this.#last = {};
    this.#add(paragraph("notice", ...parts, " ", timeElement(time)));
  }

  /** A page may stay open over midnight. */
  #date(time) {
    const day = days.format(new Date(1000 * time));
    if (this.#day !== null && this.#day !== day) {
      this.#last = {};
      this.#add(paragraph("notice day", day));
    }
    this.#day = day;
  }

  #add(row) {
    this.#log.append(row);
    if (this.#log.children.length > KEPT_COUNT) this.#follower.hold(() => this.#forget());
    this.#follower.grown();
  }

  #forget() {
    if (this.#cut === null) {
      const count = KEPT_COUNT.toLocaleString("en");
      this.#cut = paragraph("notice", `This page keeps at most ${count} lines; older ones are gone.`);
      this.#log.prepend(this.#cut);
    }
    for (const row of [...this.#log.children].slice(1, 1 + FORGOTTEN_COUNT)) row.remove();
    this.#cut.nextElementSibling.classList.remove("follows"); // it shall have a name again
  }

  #count(unread) {
    this.#unread = unread;
    this.#button.textContent = `${unread} new ${unread === 1 ? "message" : "messages"}`;
    if (unread === 0 && document.activeElement === this.#button) this.#log.focus();
    this.#button.hidden = unread === 0;
  }
}

function paragraph(className, ...parts) {
  const element = document.createElement("p");
  element.className = className;
  element.append(...parts);
  return element;
}

/** A time of day; the whole of it for whoever asks. `time` is in seconds since 1970. */
export function timeElement(time) {
  const date = new Date(1000 * time);
  const element = document.createElement("time");
  element.dateTime = date.toISOString();
  element.title = moments.format(date);
  element.textContent = hours.format(date);
  return element;
}
