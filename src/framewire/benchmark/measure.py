"""Rounds of all rivals in turn, in another order each time, until the time is up.

The garbage collector is off while a contest lasts; what was made before it is none of its concern.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns

from .contest import Contest, Run, Take
from .decoding import decoding
from .echoing import echoing
from .encoding import encoding
from .results import Result
from .workloads import SEED, Workload

MAKERS: dict[str, Callable[[Workload], Contest]] = {
    "decode": decoding,
    "reassembly": decoding,
    "encode": encoding,
    "echo": echoing,
}

LEAST_ROUNDS, MOST_ROUNDS = 3, 201
TURN = 2_000_000
"""Nanoseconds that a turn should last: a rival that is faster runs several times in it."""
MOST_REPEATS = 1000

Clock = Callable[[], int]
"""Nanoseconds."""

Show = Callable[[str, float], object]
"""Gets what is being done, and the share of the time that is over."""


def bench(
    workloads: Iterable[Workload],
    seconds: float,
    *,
    show: Show = lambda what, share: None,
    clock: Clock = perf_counter_ns,
) -> Iterator[Result]:
    """Compare the results of all rivals on all workloads; then measure, a share of the time for each workload.

    Raises:
        Disagreement: Before anything is measured, if a rival makes anything but what it should.
    """
    workloads = list(workloads)
    begin = clock()
    deadline = begin + round(seconds * 1e9)
    for workload in workloads:
        show(f"comparing: {workload.task}", 0.0)
        with MAKERS[workload.task](workload) as contest:
            contest.check()
    for done, workload in enumerate(workloads):
        what = f"{workload.task} {workload.label}"

        def tick(what: str = what) -> None:
            now = clock()
            show(what, (now - begin) / max(deadline - begin, now - begin, 1))

        tick()
        with MAKERS[workload.task](workload) as contest:
            now = clock()
            until = now + max(0, deadline - now) // (len(workloads) - done)
            for name, times in measure(contest, until, tick=tick, clock=clock).items():
                yield Result.of(workload, name, times)


def measure(
    contest: Contest, until: int, *, tick: Callable[[], object] = lambda: None, clock: Clock = perf_counter_ns
) -> dict[str, list[float]]:
    """Run all rivals in each round, until the clock shows `until`: nanoseconds for each message, round by round."""
    once = {name: timed(run, 1, clock) for name, run in contest.runs.items()}
    repeats = {name: min(max(1, TURN // max(1, time)), MOST_REPEATS) for name, time in once.items()}
    count = contest.workload.count
    times: dict[str, list[float]] = {name: [] for name in repeats}
    names = list(repeats)
    rng = random.Random(SEED)
    with no_garbage_collection():
        for round_ in range(MOST_ROUNDS):
            if round_ >= LEAST_ROUNDS and clock() >= until:
                break
            rng.shuffle(names)
            for name in names:
                times[name].append(timed(contest.runs[name], repeats[name], clock) / (repeats[name] * count))
                tick()
            gc.collect()
    return times


def timed(run: Run, repeat: int, clock: Clock) -> int:
    take: Take = len
    start = clock()
    for _ in range(repeat):
        run(take)
    return clock() - start


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Off, and what there is out of its sight; then as it was."""
    enabled = gc.isenabled()
    gc.collect()
    if hasattr(gc, "freeze"):  # not on PyPy
        gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        if hasattr(gc, "unfreeze"):
            gc.unfreeze()
        if enabled:
            gc.enable()
