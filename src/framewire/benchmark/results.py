"""What came of it: a result for each rival on each workload, and the report that is kept as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from statistics import quantiles
from typing import Any

from .workloads import Workload

FORMAT = 1
"""Of the JSON; another number is another meaning."""


@dataclass(frozen=True)
class Result:
    """A rival on a workload: nanoseconds for each message, over all rounds."""

    task: str
    label: str
    size: int
    chunk_size: int
    rival: str
    rounds: int
    least: float
    quartile: float
    """A quarter of the rounds took less."""
    median: float
    upper_quartile: float
    """A quarter of the rounds took more."""

    @classmethod
    def of(cls, workload: Workload, rival: str, times: list[float]) -> Result:
        quartile, median, upper = quantiles(times, n=4, method="inclusive")
        return cls(
            *(workload.task, workload.label, workload.size, workload.chunk_size, rival, len(times)),
            *(round(value, 2) for value in (min(times), quartile, median, upper)),
        )

    @property
    def speed(self) -> float:
        """By the median: round trips a second for echo, else millions of bytes of payload a second."""
        median = max(self.median, 0.01)
        return 1e9 / median if self.task == "echo" else 1e3 * self.size / median


@dataclass(frozen=True)
class Report:
    """All results of one run, and what they depend on."""

    setting: dict[str, str]
    results: list[Result]

    def tasks(self) -> list[str]:
        return list(dict.fromkeys(result.task for result in self.results))

    def labels(self, task: str) -> list[str]:
        return list(dict.fromkeys(result.label for result in self.results if result.task == task))

    def rivals(self, task: str) -> list[str]:
        return list(dict.fromkeys(result.rival for result in self.results if result.task == task))

    def find(self, task: str, label: str, rival: str) -> Result | None:
        """The result of this rival; None if it did not run there."""
        wanted = (task, label, rival)
        found = (result for result in self.results if (result.task, result.label, result.rival) == wanted)
        return next(found, None)

    def to_json(self) -> str:
        report = {"format": FORMAT, "setting": self.setting, "results": [asdict(result) for result in self.results]}
        return json.dumps(report, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """
        Raises:
            ValueError: If this is not what `to_json` made.
        """
        try:
            report = json.loads(text)
            version, about, results = report["format"], report["setting"], report["results"]
            if version == FORMAT:
                return cls({str(name): str(about[name]) for name in about}, [_result(fields) for fields in results])
        except (json.JSONDecodeError, KeyError, TypeError):
            raise ValueError("this is no report of framewire bench") from None
        raise ValueError(f"the format of the report is {version!r}, and this framewire reads {FORMAT}")


def _result(fields: dict[str, Any]) -> Result:
    result = Result(**fields)
    texts = (result.task, result.label, result.rival)
    numbers = (result.size, result.rounds, result.least, result.quartile, result.median, result.upper_quartile)
    if not all(isinstance(text, str) for text in texts) or not all(0 <= number < math.inf for number in numbers):
        raise TypeError
    return result
