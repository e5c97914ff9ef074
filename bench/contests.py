"""What is measured against what: the frame around the lists of rivals.py and websocket_rivals.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from workloads import Workload

Run = Callable[[], Any]

FLOOR, FEED, PURE = "floor", "feed", "pure core"
BEST_HAND = "best hand-written"
"""Stands for the fastest of `peers.HAND`."""

STREAMING = ", streaming"
"""Ends the names of those that drop what a chunk completes before the next; the others keep every payload."""


@dataclass(frozen=True)
class Bar:
    """`top` may take at most `limit` times as long as `bottom`; at least, where `at_least` is set."""

    top: str
    bottom: str
    limit: float
    at_least: bool = False
    pure: bool = False
    """It is about the pure core, whichever core is measured."""

    def met(self, ratio: float) -> bool:
        return ratio >= self.limit if self.at_least else ratio <= self.limit


def whole(result: Any) -> Any:
    """The view of those whose results are compared as they are."""
    return result


@dataclass
class Contest:
    """All that is measured on one workload, and compared with `expected` before that."""

    workload: Workload
    prime: Run
    """Runs before each measured one, so that all find the same caches and the same free memory."""
    kept: str = ""
    """The limit whose result is all the memory that a rival's result takes."""
    bars: list[Bar] = field(default_factory=list)
    runs: dict[str, Run] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)
    views: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    """What of a result is compared; making it is nobody's time."""
    kinds: dict[str, str] = field(default_factory=dict)
    """c, py, limit or peer."""

    def add(self, kind: str, name: str, run: Run, expected: Any, view: Callable[[Any], Any] = whole) -> None:
        self.runs[name] = run
        self.expected[name] = expected
        self.views[name] = view
        self.kinds[name] = kind

    def check(self, name: str) -> None:
        if self.views[name](self.runs[name]()) != self.expected[name]:
            raise AssertionError(f"{self.workload.name}: {name!r} gives another result")


def load_core(name: str) -> Any:
    """``c`` or ``py``."""
    return import_module(f"framewire._core_{name}")


def fresh(loop: Callable[[Any, Any], Any], maker: Callable[[], Any], data: Any) -> Any:
    """A loop over a decoder or encoder made for it."""
    return loop(maker(), data)
