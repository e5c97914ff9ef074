"""Who runs on a workload, and what must come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeAlias

from .workloads import Workload

Take: TypeAlias = Callable[[Sequence[bytes]], object]
"""Gets what a rival has made, in batches. While the clock runs it is ``len``: what it is given is dropped at once, as
by a program that handles each message."""

Run: TypeAlias = Callable[[Take], None]

FLOOR, COMPILED, PURE = "floor", "compiled core", "pure core"


class Disagreement(Exception):
    """A rival's result is not what it should be: nothing that it says about speed would mean anything."""


@dataclass
class Contest:
    """All rivals on one workload. What they hold open is closed with it."""

    workload: Workload
    runs: dict[str, Run] = field(default_factory=dict)
    expected: dict[str, list[bytes]] = field(default_factory=dict)
    resources: ExitStack = field(default_factory=ExitStack)

    def add(self, name: str, run: Run, expected: list[bytes]) -> None:
        self.runs[name] = run
        self.expected[name] = expected

    def event_loop(self) -> asyncio.AbstractEventLoop:
        """One that lives as long as the contest."""
        loop = asyncio.new_event_loop()
        loop.set_debug(False)  # else PYTHONASYNCIODEBUG would be measured
        self.resources.callback(close, loop)
        return loop

    def check(self) -> None:
        """Run each once.

        Raises:
            Disagreement: If what one of them makes is not as expected.
        """
        for name, run in self.runs.items():
            made: list[bytes] = []
            run(made.extend)
            if made != self.expected[name]:
                where = f"{self.workload.task}, {self.workload.label}"
                raise Disagreement(f"{where}: {name} gives another result than it should; nothing is measured")

    def __enter__(self) -> Contest:
        return self

    def __exit__(self, *raised: object) -> None:
        self.resources.close()


def close(loop: asyncio.AbstractEventLoop) -> None:
    """End it with its tasks; there are some after Ctrl-C, and what they leave undone is no news."""
    loop.set_exception_handler(lambda loop, context: None)
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks))
    loop.close()
