/**
 * The state of a connection, in words: "Connected", "Reconnecting in 3 s…" with a button not to wait.
 *
 *     <div id="status">
 *       <span id="state" role="status">Connected</span>   announced, hence without the seconds
 *       <span id="countdown">in 3 s…</span>
 *       <button id="now" type="button" hidden>Now</button>
 *     </div>
 */

const TICK = 250; // milliseconds

/**
 * Show it from now on. `refocus` is called when the button goes away under somebody's hands.
 */
export function showStatus(connection, refocus) {
  const [box, state, countdown, now] = ["status", "state", "countdown", "now"].map((id) => document.getElementById(id));
  let lost = false; // a first attempt is no reconnection
  let timer = 0;

  const count = () => {
    countdown.textContent = connection.state === "waiting" ? `in ${Math.ceil(connection.wait)} s…` : "…";
  };

  const show = () => {
    clearInterval(timer);
    if (connection.state === "waiting") {
      lost = true;
      timer = setInterval(count, TICK);
    } else if (connection.state !== "connecting") {
      lost = false;
    }
    const settled = { off: "Not connected", connected: "Connected" }[connection.state];
    const text = settled ?? (lost ? "Reconnecting" : "Connecting");
    if (state.textContent !== text) state.textContent = text; // the same again would be announced again
    box.className = lost ? "lost" : connection.state;
    countdown.hidden = connection.state === "off" || connection.state === "connected";
    count();
    const focused = document.activeElement === now;
    now.hidden = !lost; // it stays during an attempt, so that the focus can
    if (now.hidden && focused) refocus();
  };

  now.addEventListener("click", () => connection.retry());
  connection.addEventListener("change", show);
  show();
}
