/**
 * A WebSocket to the server of this page that comes back by itself.
 *
 *     off ──start──> connecting ──first message──> connected
 *                      │     ^                         │
 *                     lost   └─ wait over, retry ─┐    │ lost
 *                      └───────> waiting <────────┴────┘        stop, from anywhere: off
 *
 * Messages are JSON objects with a "type". It counts as connected when the server has spoken: a socket that opens and
 * stays silent is as good as none. A browser can neither send a ping nor see one, so that a dead connection is found by
 * the server, or when something is sent.
 */

const SHORTEST_WAIT = 1; // seconds until the next attempt; twice as long after each that fails
const LONGEST_WAIT = 30;
const ANSWER_TIME = 10; // seconds for the first message
const STABLE_TIME = 10; // seconds after which a connection counts as good, and the waits begin anew

/**
 * Events: "open" (the server can be written to), "message" (`detail` is the object), and "change" (of `state`).
 */
export class Connection extends EventTarget {
  state = "off";
  #socket = null;
  #timer = 0;
  #attempts = 0;
  #since = 0;
  #due = 0;

  constructor() {
    super();
    // What may have been in the way is gone, and timers of a page in the background are late.
    addEventListener("online", () => this.retry());
    document.addEventListener("visibilitychange", () => document.hidden || this.retry());
  }

  /** Seconds until the next attempt. */
  get wait() {
    return Math.max(0, this.#due - performance.now()) / 1000;
  }

  /** Connect anew, whatever has been. */
  start() {
    this.#attempts = 0;
    this.#connect();
  }

  /** Do not wait any longer. */
  retry() {
    if (this.state === "waiting") this.#connect();
  }

  /** Give the connection up, and try again after a while. */
  drop() {
    if (this.state === "connected" && performance.now() - this.#since > 1000 * STABLE_TIME) this.#attempts = 0;
    const longest = Math.min(LONGEST_WAIT, SHORTEST_WAIT * 2 ** this.#attempts++);
    const wait = longest * (0.5 + Math.random() / 2); // by chance, so that not all come back at once
    this.#release();
    this.#due = performance.now() + 1000 * wait;
    this.#timer = setTimeout(() => this.#connect(), 1000 * wait);
    this.#become("waiting");
  }

  stop() {
    this.#release();
    this.#become("off");
  }

  /** Send an object; false if there is nobody to send it to. */
  send(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  #connect() {
    this.#release();
    const url = new URL("ws", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = (this.#socket = new WebSocket(url));
    const ours = (handle) => (event) => this.#socket === socket && handle(event); // not one that is given up
    socket.onopen = ours(() => this.dispatchEvent(new Event("open")));
    socket.onmessage = ours((event) => this.#receive(socket, event.data));
    socket.onclose = ours(() => this.drop());
    this.#timer = setTimeout(() => this.drop(), 1000 * ANSWER_TIME);
    this.#become("connecting");
  }

  #receive(socket, data) {
    const message = parse(data);
    if (message === null) return;
    this.dispatchEvent(new CustomEvent("message", { detail: message }));
    if (this.#socket !== socket || this.state === "connected") return; // the first may have been the last
    clearTimeout(this.#timer);
    this.#since = performance.now();
    this.#become("connected");
  }

  #release() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
}

/** The object that a message holds; null for anything else. */
function parse(data) {
  try {
    const message = JSON.parse(data);
    return typeof message?.type === "string" ? message : null;
  } catch {
    return null;
  }
}
