"""A report as tables for a terminal of 80 columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from textwrap import wrap

from .contest import COMPILED, FLOOR, PURE
from .results import Report

WIDTH = 80
NAME_WIDTH = 18
LEAST_COLUMN = 8

TITLES = {
    "decode": "decode, in chunks of 64 KiB: MB of payload a second",
    "encode": "encode, about 64 KiB a call: MB of payload a second",
    "reassembly": "reassembly, a message that comes in small chunks: MB of payload a second",
    "echo": "echo over a pair of sockets, one message at a time: round trips a second",
}


def render(report: Report) -> str:
    """The setting; then for each task the speeds, and how many times as fast framewire is as each of the others."""
    lines = [*render_setting(report), ""]
    for task in report.tasks():
        labels, rivals = report.labels(task), report.rivals(task)
        ours = COMPILED if COMPILED in rivals else PURE
        others = [rival for rival in rivals if rival != ours]

        def speed(rival: str, label: str, task: str = task) -> str:
            result = report.find(task, label, rival)
            return "-" if result is None else number(result.speed)

        def times(rival: str, label: str, task: str = task, ours: str = ours) -> str:
            mine, other = report.find(task, label, ours), report.find(task, label, rival)
            return "-" if mine is None or other is None else number(mine.speed / other.speed)

        lines += [TITLES[task], *grid("", labels, rivals, speed)]
        lines += ["", *grid("times as fast as", labels, others, times, indent="  "), ""]
    lines += wrap(
        f"Medians of {rounds(report)} rounds of all in turn, the garbage collector off. Times as fast: the core in use "
        f"beside that one. The {FLOOR}: what C code in Python itself takes to make the same bytes, knowing beforehand "
        "where each part lies; for echo, the same system calls and nothing else.",
        WIDTH,
    )
    return "\n".join(lines) + "\n"


def render_setting(report: Report) -> Iterator[str]:
    width = max(map(len, report.setting), default=0)
    for name, value in report.setting.items():
        lines = wrap(value, WIDTH - width - 2) or [""]
        yield f"{name:<{width}}  {lines[0]}"
        yield from (f"{'':<{width}}  {line}" for line in lines[1:])


def grid(
    title: str, labels: list[str], rivals: list[str], cell: Callable[[str, str], str], indent: str = ""
) -> list[str]:
    """A line for each rival, a column for each label."""
    rows = {rival: [cell(rival, label) for label in labels] for rival in rivals}
    columns = [
        max(LEAST_COLUMN, len(label) + 2, *(len(row[at]) + 1 for row in rows.values()))
        for at, label in enumerate(labels)
    ]

    def line(name: str, cells: list[str]) -> str:
        return f"{name:<{NAME_WIDTH}}" + "".join(f"{text:>{width}}" for text, width in zip(cells, columns, strict=True))

    return [line(title, labels), *(line(indent + rival, row) for rival, row in rows.items())]


def rounds(report: Report) -> str:
    counts = [result.rounds for result in report.results] or [0]
    least, most = min(counts), max(counts)
    return f"{least}" if least == most else f"{least} to {most}"


def number(value: float) -> str:
    """With three digits: ``0.0123``, ``1.23``, ``123``, ``12,300``."""
    if value <= 0:
        return "0"
    digits = 2 - math.floor(math.log10(value))
    value = round(value, digits)
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}"
