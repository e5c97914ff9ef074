/**
 * A list that grows at its end and follows it, unless somebody has scrolled back to read.
 */

const NEAR = 24; // pixels from the end that still count as the end

export class Follower {
  #list;
  #changed;
  #frame = 0;
  #top = 0; // where it stood last
  following = true;

  /** `changed` is called when it begins or ceases to follow. */
  constructor(list, changed = () => {}) {
    this.#list = list;
    this.#changed = changed;
    list.style.overflowAnchor = "none"; // or the browser would do once more what `hold` does
    list.addEventListener("scroll", () => this.#scrolled());
    new ResizeObserver(() => this.#settle()).observe(list); // the keyboard of a phone takes room away
  }

  /** To call when something was added; however often, it scrolls once. */
  grown() {
    this.#frame ||= requestAnimationFrame(() => this.#settle());
  }

  /** Go to the end, and follow it. */
  follow() {
    this.#set(true);
    this.#settle();
  }

  /** Change something above what somebody reads, which stands still. */
  hold(change) {
    const last = this.#list.lastElementChild;
    const before = this.following ? 0 : last.offsetTop; // to ask takes time
    change();
    if (!this.following) this.#list.scrollTop -= before - last.offsetTop;
  }

  #settle() {
    this.#frame = 0;
    if (!this.following) return;
    this.#list.scrollTop = this.#list.scrollHeight;
    this.#top = this.#list.scrollTop;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#list;
    if (scrollHeight - scrollTop - clientHeight < NEAR) this.#set(true);
    else if (scrollTop < this.#top) this.#set(false); // by somebody; while we scroll down the list may grow further
    this.#top = scrollTop;
  }

  #set(following) {
    if (following === this.following) return;
    this.following = following;
    this.#changed();
  }
}
