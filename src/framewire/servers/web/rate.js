/**
 * How many messages came in each of the last seconds, from counts that are told now and then.
 *
 *     [null, null, 4, 5, …, 5]     one for each second, the newest last; null: nobody listened, or not all the time
 *
 * All times are those of the server, in seconds.
 */

export const SPAN = 60; // seconds that are remembered

export class Rate {
  #seconds = new Map(); // second -> messages in it
  #begun = 0; // when we began to listen
  #next = 0; // the first second that is not over
  #phase = null; // where in them seconds begin
  #count = null; // null: not listening

  /** We listen from now on, and the count is this. */
  begin(time, count) {
    this.#count = count;
    this.#begun = time;
    this.#setPhase(null);
  }

  /** The count is now this. */
  update(time, count) {
    // An eighth from the first news, so that 1, 2, 3 or 4 in a second, a little early or late, are as many in each.
    if (this.#phase === null) this.#setPhase((time + 0.125) % 1);
    const second = this.#second(time);
    if (second >= this.#next || this.#seconds.has(second)) {
      this.#seconds.set(second, (this.#seconds.get(second) ?? 0) + Math.max(0, count - this.#count));
    }
    this.#count = count;
  }

  /** We listen no longer. */
  end(time) {
    if (this.#count === null) return;
    this.#fill(time);
    this.#seconds.delete(this.#next); // it is not over
    this.#count = null;
  }

  /** The last SPAN seconds that are over by now. */
  series(now) {
    const end = this.#second(now);
    if (this.#count !== null) this.#fill(now);
    for (const second of this.#seconds.keys()) if (second < end - SPAN) this.#seconds.delete(second);
    return Array.from({ length: SPAN }, (_, index) => this.#seconds.get(end - SPAN + index) ?? null);
  }

  /** In seconds of which nothing was told nothing came. */
  #fill(time) {
    const end = this.#second(time);
    for (; this.#next < end; this.#next++) this.#seconds.set(this.#next, this.#seconds.get(this.#next) ?? 0);
  }

  #setPhase(phase) {
    this.#phase = phase;
    this.#next = Math.ceil(this.#begun - (phase ?? 0)); // the first that is ours as a whole
    for (const second of this.#seconds.keys()) if (second >= this.#next) this.#seconds.delete(second);
  }

  #second(time) {
    return Math.floor(time - (this.#phase ?? 0));
  }
}
