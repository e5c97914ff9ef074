/**
 * A plot of messages per second: a bar for each second, the newest at the right.
 *
 *     10 ┤
 *      5 ┤      ▂▄▆▆▄▂ ░░░▆▆      ░ nothing is known of these
 *      0 ┼──────────────────
 *      60 s ago  30 s ago  now
 */

const LEFT = 44; // pixels around the bars, for what is written at the axes
const RIGHT = 6;
const TOP = 8;
const BOTTOM = 22;
const TICKS = 3; // at most so many steps of the vertical axis, and one more

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** Draw the numbers (null: not known) into the svg element, in place of what is there. */
export function drawPlot(svg, numbers) {
  const { width, height } = svg.getBoundingClientRect();
  const [right, bottom] = [width - RIGHT, height - BOTTOM];
  const step = niceStep(Math.max(1, ...numbers) / TICKS);
  const top = step * Math.ceil(Math.max(1, ...numbers) / step);
  const bar = (right - LEFT) / numbers.length;
  const x = (index) => LEFT + bar * index;
  const y = (number) => bottom - ((bottom - TOP) * number) / top;

  const parts = [];
  for (let tick = 0; tick <= top; tick += step) {
    parts.push(shape("line", { class: "grid", x1: LEFT, x2: right, y1: y(tick), y2: y(tick) }));
    parts.push(label(compact.format(tick), { x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }));
  }

  const first = numbers.findIndex((number) => number !== null); // before that there was no page
  let bars = "";
  let gaps = "";
  numbers.forEach((number, index) => {
    if (number > 0) bars += box(x(index) + 0.1 * bar, y(number), 0.8 * bar, bottom);
    if (number === null && first >= 0 && index > first) gaps += box(x(index), TOP, bar, bottom);
  });
  parts.push(shape("path", { class: "unknown", d: gaps }), shape("path", { class: "bars", d: bars }));

  const middle = numbers.length / 2;
  parts.push(label(`${numbers.length} s ago`, { x: LEFT, y: height - 4, "text-anchor": "start" }));
  parts.push(label(`${middle} s ago`, { x: x(middle), y: height - 4, "text-anchor": "middle" }));
  parts.push(label("now", { x: right, y: height - 4, "text-anchor": "end" }));
  svg.replaceChildren(...parts);
}

/** The least of 1, 2, 5, 10, 20, ... that is no less than this. */
function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, least)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least);
}

const box = (x, y, width, bottom) => `M${x.toFixed(2)} ${bottom}V${y.toFixed(2)}h${width.toFixed(2)}V${bottom}z`;

function label(text, attributes) {
  const element = shape("text", attributes);
  element.textContent = text;
  return element;
}

function shape(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
