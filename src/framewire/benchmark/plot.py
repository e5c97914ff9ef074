"""Decoding as a picture: throughput over payload size, both on logarithmic scales, a line for each rival.

SVG, written by hand. It follows the reader's light or dark theme; each line has its name beside its begin, where small
messages set the rivals apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from textwrap import wrap

from .contest import COMPILED, FLOOR, PURE
from .results import Report, Result
from .workloads import size_text

WIDTH, HEIGHT = 880, 560
LEFT, RIGHT, TOP, BOTTOM = 180, 88, 96, 64
"""Margins; the names of the lines stand in the left one."""

LINE = 17
"""From one name to the next, at the least."""

COLOURS = {
    FLOOR: ("#6b7280", "#9ca3af"),
    COMPILED: ("#c2410c", "#fb923c"),
    PURE: ("#b45309", "#fcd34d"),
    "msgpack": ("#1d4ed8", "#60a5fa"),
    "hiredis": ("#0f766e", "#2dd4bf"),
    "struct and slices": ("#7e22ce", "#c084fc"),
    "Twisted": ("#be185d", "#f472b6"),
    "asyncio streams": ("#4d7c0f", "#a3e635"),
    "tutorial's loop": ("#475569", "#cbd5e1"),
}
"""In light and in dark."""
OTHER = ("#334155", "#e2e8f0")

STYLE = """
svg {{ background: #ffffff; font-family: system-ui, -apple-system, "Segoe UI", sans-serif; font-size: 13px; }}
text {{ fill: #374151; }}
.title {{ fill: #111827; font-size: 18px; font-weight: 600; }}
.small {{ font-size: 12px; fill: #4b5563; }}
.grid {{ stroke: #e5e7eb; }}
.line {{ fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }}
.ours .line {{ stroke-width: 3.2; }}
.floor .line {{ stroke-dasharray: 2 5; }}
.band {{ fill: currentColor; opacity: 0.1; }}
.dot {{ fill: currentColor; }}
.leader {{ stroke: currentColor; opacity: 0.55; fill: none; }}
.rival text {{ fill: currentColor; }}
.ours text {{ font-weight: 600; }}
{light}
@media (prefers-color-scheme: dark) {{
svg {{ background: #0f1419; }}
text {{ fill: #d1d5db; }}
.title {{ fill: #f3f4f6; }}
.small {{ fill: #9ca3af; }}
.grid {{ stroke: #27303a; }}
{dark}
}}
"""


@dataclass
class Line:
    """A rival's results, by size."""

    name: str
    number: int
    results: list[Result]

    @property
    def colours(self) -> tuple[str, str]:
        return COLOURS.get(self.name, OTHER)

    @property
    def kind(self) -> str:
        return "ours" if self.name in (COMPILED, PURE) else "floor" if self.name == FLOOR else "peer"


@dataclass(frozen=True)
class Scale:
    """From values to places, by their logarithms."""

    least: float
    most: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        span = math.log(self.most / self.least) or 1.0
        share = math.log(min(max(value, self.least), self.most) / self.least) / span
        return round(self.begin + share * (self.end - self.begin), 1)


def plot(report: Report) -> str:
    """The SVG.

    Raises:
        ValueError: If the report has nothing about decoding.
    """
    lines = lines_of(report)
    if not lines:
        raise ValueError("the report has nothing about decoding")
    results = [result for line in lines for result in line.results]
    sizes = sorted({result.size for result in results})
    x = Scale(sizes[0], sizes[-1], LEFT, WIDTH - RIGHT)
    decades = range(
        math.floor(math.log10(min(result.speed for result in results))),
        math.ceil(math.log10(max(result.speed for result in results))) + 1,
    )
    y = Scale(10.0 ** decades[0], 10.0 ** decades[-1], HEIGHT - BOTTOM, TOP)
    parts = [*head(report, lines), *axes(sizes, decades, x, y)]
    places = spread([y(line.results[0].speed) for line in lines])
    # Ours on top of the others.
    order = sorted(range(len(lines)), key=lambda number: lines[number].kind == "ours")
    parts += [draw(lines[number], places[number], x, y) for number in order]
    return "\n".join([*parts, "</svg>"]) + "\n"


def lines_of(report: Report) -> list[Line]:
    lines = []
    for number, name in enumerate(report.rivals("decode")):
        results = [result for result in report.results if (result.task, result.rival) == ("decode", name)]
        lines.append(Line(name, number, sorted(results, key=lambda result: result.size)))
    return lines


def head(report: Report, lines: list[Line]) -> list[str]:
    light = "\n".join(f".r{line.number} {{ color: {line.colours[0]}; }}" for line in lines)
    dark = "\n".join(f".r{line.number} {{ color: {line.colours[1]}; }}" for line in lines)
    known = report.setting.get
    names = ["core", "python", "machine", *(["peers"] if known("peers") != "none" else []), "when"]
    about = ", ".join([f"framewire {known('framewire', '?')}", *(known(name, "?") for name in names)])
    told = wrap(about, 118, max_lines=2, placeholder=" ...")
    title = "Decoding: payload a second, by the size of a payload"
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title desc">',
        f'<title id="title">{title}</title>',
        f'<desc id="desc">{escape(describe(lines))}</desc>',
        f"<style>{STYLE.format(light=light, dark=dark)}</style>",
        f'<text class="title" x="24" y="34">{title}</text>',
        *(f'<text class="small" x="24" y="{56 + 16 * row}">{escape(text)}</text>' for row, text in enumerate(told)),
    ]


def describe(lines: list[Line]) -> str:
    """The picture in words."""
    return " ".join(
        f"{line.name}: "
        + ", ".join(f"{result.speed:.3g} MB/s at {size_text(result.size)}" for result in line.results)
        + "."
        for line in lines
    )


def axes(sizes: list[int], decades: range, x: Scale, y: Scale) -> list[str]:
    bottom = HEIGHT - BOTTOM
    parts = []
    for size in sizes:
        at = x(size)
        parts.append(f'<path class="grid" d="M{at} {TOP}V{bottom}"/>')
        parts.append(f'<text class="small" x="{at}" y="{bottom + 20}" text-anchor="middle">{size_text(size)}</text>')
    for decade in decades:
        at = y(10.0**decade)
        parts.append(f'<path class="grid" d="M{LEFT} {at}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="small" x="{WIDTH - RIGHT + 10}" y="{at + 4}">{speed_text(decade)}</text>')
    parts.append(
        f'<text class="small" x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{bottom + 44}" text-anchor="middle">'
        "size of a payload, in chunks of 64 KiB; the bands are from quartile to quartile</text>"
    )
    return parts


def speed_text(decade: int) -> str:
    """``100 MB/s``."""
    for unit, name in ((3, "GB/s"), (0, "MB/s"), (-3, "kB/s")):
        if decade >= unit:
            return f"{10 ** (decade - unit):,} {name}"
    return f"{10.0 ** (decade + 6):g} B/s"


def spread(places: list[float]) -> list[float]:
    """Where the names go: as near to these places as can be, `LINE` apart, none above or below the axes."""
    order = sorted(range(len(places)), key=places.__getitem__)
    spread = dict(zip(order, (places[number] for number in order), strict=True))
    low, high = float(TOP), float(HEIGHT - BOTTOM)
    # Groups that would overlap are merged, each around the mean of its places.
    groups: list[list[int]] = []
    middles: list[float] = []
    for number in order:
        group, middle = [number], min(max(spread[number], low), high)
        while groups and middles[-1] + len(groups[-1]) * LINE / 2 > middle - len(group) * LINE / 2:
            group = groups.pop() + group
            middles.pop()
            middle = sum(spread[one] for one in group) / len(group)
            half = (len(group) - 1) * LINE / 2
            middle = min(max(middle, low + half), high - half)
        groups.append(group)
        middles.append(middle)
    for group, middle in zip(groups, middles, strict=True):
        for row, number in enumerate(group):
            spread[number] = middle + (row - (len(group) - 1) / 2) * LINE
    return [round(spread[number], 1) for number in range(len(places))]


def draw(line: Line, place: float, x: Scale, y: Scale) -> str:
    """A line, its band, its points, and its name with a leader to it."""
    points = [(x(result.size), y(result.speed)) for result in line.results]
    upper = [(x(result.size), y(1e3 * result.size / max(result.quartile, 0.01))) for result in line.results]
    lower = [(x(result.size), y(1e3 * result.size / max(result.upper_quartile, 0.01))) for result in line.results]
    begin = points[0]
    leader = f"M{LEFT - 34} {place}L{LEFT - 10} {begin[1]}H{begin[0]}"
    return "\n".join(
        [
            f'<g class="rival r{line.number} {line.kind}">',
            f"<title>{escape(line.name)}</title>",
            f'<path class="band" d="{path(upper + lower[::-1])}Z"/>',
            f'<path class="line" d="{path(points)}"/>',
            *(f'<circle class="dot" cx="{at}" cy="{height}" r="2.6"/>' for at, height in points),
            f'<path class="leader" d="{leader}"/>',
            f'<text x="{LEFT - 40}" y="{place + 4.5:g}" text-anchor="end">{escape(line.name)}</text>',
            "</g>",
        ]
    )


def path(points: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{at} {height}" for at, height in points)
