"""The table and the plot of the README, made from what run.py has measured.

The table stands between two markers in README.md, which has to have them; the plot is docs/pictures/yardsticks.svg.
Both show time for a message, so that less is better everywhere, and every case that was measured, won or lost.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
PLOT = ROOT / "docs" / "pictures" / "yardsticks.svg"
BEGIN, END = "<!-- yardsticks: begin -->", "<!-- yardsticks: end -->"

CASES = {
    "dropped": ("decode, dropped", "Decode, each payload dropped at once"),
    "kept": ("decode, kept", "Decode, all payloads kept"),
    "S1-1x1": ("echo, 1 in flight", "Echo, one connection, 1 in flight"),
    "S1-1x1000": ("echo, 1,000 in flight", "Echo, one connection, 1,000 in flight"),
    "S1-100x10": ("echo, 100 connections", "Echo, 100 connections, 10 in flight on each"),
}
ROWS = {
    "spans": ("**framewire**, `feed_spans`", "framewire spans"),
    "framewire": ("**framewire**", "framewire"),
    "polling": ("**framewire**, `busy_poll`", "framewire polling"),
    "c": ("C", "C"),
    "tokio": ("Rust, tokio-util", "Rust, tokio-util"),
    "netty": ("Java, Netty", "Java, Netty"),
    "go": ("Go, bufio", "Go, bufio"),
}
"""How a row is called in the table and in the plot."""
OURS = ("spans", "framewire", "polling")

# The plot, in pixels of its own.
WIDTH, MARGIN, GAP = 860, 8, 36
LABEL_WIDTH, VALUE_WIDTH = 134, 62
HEAD_HEIGHT, ROW_HEIGHT, BAR_HEIGHT, FOOT_HEIGHT = 30, 24, 15, 22
PANEL_WIDTH = (WIDTH - 2 * MARGIN - GAP) // 2
BAR_WIDTH = PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #24292f }
.title { font-weight: 600 }
.ours { font-weight: 600 }
.quiet { fill: #656d76; font-size: 12px }
.value { font-variant-numeric: tabular-nums }
rect { fill: #b3bac3 }
rect.ours { fill: #2563eb }
line { stroke: #d0d7de }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .quiet { fill: #9198a1 }
  rect { fill: #59626d }
  rect.ours { fill: #6ea8fe }
  line { stroke: #3d444d }
}
"""


def publish(results: dict[str, Any]) -> None:
    """Rewrite the plot, and what stands between the markers of the README."""
    text = README.read_text("utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        sys.exit(f"{README.name} has no place for the table: a line {BEGIN} and, below it, a line {END}")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    README.write_text(f"{head}{BEGIN}\n{table(results)}{END}{tail}", "utf-8")
    PLOT.write_text(plot(results), "utf-8")


def medians(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Nanoseconds for a message, by case and row, in the order of CASES and ROWS."""
    measured = {case: results["cases"][case]["ns"] for case in CASES if case in results["cases"]}
    return {
        case: {row: median(times[row]) for row in ROWS if row in times} for case, times in measured.items() if times
    }


def amount(ns: float) -> str:
    if ns >= 10_000:
        return f"{ns / 1000:.1f} µs"
    return f"{ns:,.0f} ns" if ns >= 100 else f"{ns:.1f} ns"


# The table.


def table(results: dict[str, Any]) -> str:
    cases = medians(results)
    found = [row for row in ROWS if any(row in times for times in cases.values())]
    lines = [
        f"![Bars: the time for a message, here and in other languages]({PLOT.relative_to(ROOT).as_posix()})",
        "",
        f"| 32-byte payloads | {' | '.join(CASES[case][0] for case in cases)} |",
        f"|---|{'---:|' * len(cases)}",
    ]
    for row in found:
        cells = (amount(times[row]) if row in times else "" for times in cases.values())
        lines.append(f"| {ROWS[row][0]} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *about(results), ""])


def about(results: dict[str, Any]) -> list[str]:
    """What the numbers depend on, and what is missing among them."""
    it = results["setting"]
    lines = [
        f"Time for a message: medians of {it['run']}, by `python bench/yardsticks/run.py --readme`.",
        f"{it['cpu']}; {it['system']}; {'; '.join(it['versions'].values())}.",
    ]
    lines += [f"Not measured: {ROWS[row][1]} ({why})." for row, why in results["missing"].items()]
    return lines


# The plot.


def plot(results: dict[str, Any]) -> str:
    cases = medians(results)
    panels = [panel(CASES[case][1], times) for case, times in cases.items()]
    panels.append(legend(results))
    parts, top = [], 0
    for pair in (panels[i : i + 2] for i in range(0, len(panels), 2)):
        for column, (body, _) in enumerate(pair):
            left = MARGIN + column * (PANEL_WIDTH + GAP)
            parts.append(f'<g transform="translate({left} {top})">\n{body}</g>\n')
        top += max(height for _, height in pair)
    said = "; ".join(f"{CASES[case][1]}: {spoken(times)}" for case, times in cases.items())
    return (
        f'<svg viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" role="img" '
        'aria-labelledby="yardsticks-title yardsticks-desc" xmlns="http://www.w3.org/2000/svg">\n'
        '<title id="yardsticks-title">The time for a message, here and in other languages</title>\n'
        f'<desc id="yardsticks-desc">{escape(said)}.</desc>\n'
        f"<style>{STYLE}</style>\n{''.join(parts)}</svg>\n"
    )


def panel(title: str, times: dict[str, float]) -> tuple[str, int]:
    """One case: its drawing, and how high it is. The fastest comes first."""
    scale = BAR_WIDTH / max(times.values())
    height = HEAD_HEIGHT + ROW_HEIGHT * len(times)
    parts = [text(0, 19, title, "title")]
    for i, (row, ns) in enumerate(sorted(times.items(), key=lambda item: item[1])):
        top, length = HEAD_HEIGHT + i * ROW_HEIGHT, max(1.5, ns * scale)
        kind = "ours" if row in OURS else ""
        parts += [
            text(LABEL_WIDTH - 8, top + 16, ROWS[row][1], kind, 'text-anchor="end"'),
            f'<rect class="{kind}" x="{LABEL_WIDTH}" y="{top + 4}" width="{length:.1f}" height="{BAR_HEIGHT}"/>\n',
            text(LABEL_WIDTH + length + 6, top + 16, amount(ns), f"value {kind}".strip()),
        ]
    parts.append(f'<line x1="{LABEL_WIDTH}" x2="{LABEL_WIDTH}" y1="{HEAD_HEIGHT}" y2="{height}"/>\n')
    return "".join(parts), height + FOOT_HEIGHT


def legend(results: dict[str, Any]) -> tuple[str, int]:
    it = results["setting"]
    parts = [text(0, 19, "Time for a message of 32 bytes: shorter is better", "title")]
    lines = [*it["versions"].values(), it["cpu"], it["system"], f"medians of {it['run']}"]
    parts += [text(0, HEAD_HEIGHT + 14 + 19 * i, line, "quiet") for i, line in enumerate(lines)]
    return "".join(parts), HEAD_HEIGHT + 19 * len(lines) + FOOT_HEIGHT


def text(x: float, y: float, content: str, kind: str = "", more: str = "") -> str:
    attributes = " ".join(part for part in (f'class="{kind}"' if kind else "", more) if part)
    return f'<text x="{x:g}" y="{y:g}"{" " if attributes else ""}{attributes}>{escape(content)}</text>\n'


def spoken(times: dict[str, float]) -> str:
    return ", ".join(f"{ROWS[row][1]} {amount(ns)}" for row, ns in times.items())
