"""Two reports side by side: what became faster, what slower, and how much of it is noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import wrap

from .results import Report, Result
from .setting import VARIES
from .table import LEAST_COLUMN, NAME_WIDTH, WIDTH, number


@dataclass(frozen=True)
class Ratio:
    """How many times as fast a rival is now."""

    value: float
    least: float
    """If it then was as fast as the best quarter of its rounds, and is now as slow as the worst."""
    most: float
    """The other way round."""

    @classmethod
    def of(cls, old: Result, new: Result) -> Ratio:
        return cls(
            ratio(old.median, new.median),
            ratio(old.quartile, new.upper_quartile),
            ratio(old.upper_quartile, new.quartile),
        )

    @property
    def noise(self) -> float:
        """Half of the way from least to most, as a share."""
        return math.sqrt(self.most / self.least) - 1

    @property
    def is_noise(self) -> bool:
        """The middle halves of the rounds overlap."""
        return self.least <= 1 <= self.most


def ratio(old: float, new: float) -> float:
    return max(old, 0.01) / max(new, 0.01)


def compare(old: Report, new: Report) -> str:
    """The ratios of all that is in both, each with its noise below."""
    lines = [*differences(old, new)]
    marked = compared = 0
    for task in new.tasks():
        ratios = {
            (after.rival, after.label): Ratio.of(before, after)
            for after in new.results
            if after.task == task and (before := old.find(task, after.label, after.rival)) is not None
        }
        if ratios:
            lines += ["", *table(task, ratios)]
        compared += len(ratios)
        marked += sum(not one.is_noise for one in ratios.values())
    if not compared:
        return "\n".join([*lines, "", "Nothing is in both reports."]) + "\n"
    lines += ["", *wrap(_legend(marked, compared), WIDTH)]
    return "\n".join(lines) + "\n"


def table(task: str, ratios: dict[tuple[str, str], Ratio]) -> Iterator[str]:
    """Two lines for each rival."""
    labels = list(dict.fromkeys(label for _, label in ratios))
    columns = [max(LEAST_COLUMN, len(label) + 2) for label in labels]
    lines = [(f"{task}, now by then", [f"{label} " for label in labels])]
    for rival in dict.fromkeys(rival for rival, _ in ratios):
        cells = [ratios.get((rival, label)) for label in labels]
        lines.append((rival, [_cell(cell, noise=False) for cell in cells]))
        lines.append(("", [_cell(cell, noise=True) for cell in cells]))
    for name, texts in lines:
        yield (
            f"{name:<{NAME_WIDTH}}" + "".join(f"{text:>{n}}" for text, n in zip(texts, columns, strict=True))
        ).rstrip()


def _legend(marked: int, compared: int) -> str:
    return (
        "How many times as fast as then; below it the noise, from the quartiles of both runs. A star: the middle "
        f"halves of the rounds do not overlap ({marked} of {compared}). What differs between the runs, such as other "
        "work on the machine, moves all: look at the floor and the peers first, whose code is the same."
    )


def _cell(one: Ratio | None, *, noise: bool) -> str:
    if one is None:
        return "" if noise else "- "
    if noise:
        return f"+-{100 * one.noise:.0f}% " if one.noise < 10 else "+->999% "
    return number(one.value) + (" " if one.is_noise else "*")


def differences(old: Report, new: Report) -> Iterator[str]:
    """What the two runs do not have in common, but for when they were."""
    yield f"then: {old.setting.get('when', '?')}    now: {new.setting.get('when', '?')}"
    for name in dict.fromkeys([*old.setting, *new.setting]):
        before, after = old.setting.get(name, "-"), new.setting.get(name, "-")
        if name not in VARIES and before != after:
            yield from wrap(f"not the same {name}: {before} then, {after} now", WIDTH, subsequent_indent="    ")
