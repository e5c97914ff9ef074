"""Measures framewire.dropin.twisted beside Twisted's own receivers, and prints the ratios next to the bars.

    python bench/dropin_twisted.py                  everything
    python bench/dropin_twisted.py --rounds 3       a quick look

Both run in turn, round by round, in one process, in another order each round; the payloads are compared before anything
is timed. A receiver is a class with a method, as people write it; the time includes that method, which counts. The
transport is a stub: what a reactor adds is the same for both.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter_ns
from typing import Any

from twisted import version
from twisted.protocols import basic
from workloads import SEED, cut

import framewire
from framewire.dropin import twisted as dropin

KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True)
class Workload:
    """`bar` is how many times as fast as the host ours has to be; None where nothing was promised."""

    receiver: str
    payload_size: int
    count: int
    chunk_size: int
    bar: float | None = None

    def __str__(self) -> str:
        sizes = " in ".join(size_text(size) for size in (self.payload_size, self.chunk_size))
        return f"{self.receiver:<20} {sizes:<20}"


def size_text(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB" if size >= KIB else f"{size} B"


WORKLOADS = [
    Workload("Int32StringReceiver", 32, 100_000, 64 * KIB, 3),
    Workload("Int32StringReceiver", 32, 20_000, 7),
    Workload("Int32StringReceiver", KIB, 20_000, 64 * KIB),
    Workload("Int32StringReceiver", KIB, 1_000, 7),
    Workload("Int32StringReceiver", MIB, 1, 7),
    Workload("Int32StringReceiver", MIB, 16, 64 * KIB),
    Workload("Int32StringReceiver", 16 * MIB, 1, 64 * KIB),
    Workload("Int16StringReceiver", 32, 100_000, 64 * KIB),
    Workload("Int8StringReceiver", 32, 100_000, 64 * KIB),
    Workload("NetstringReceiver", 32, 50_000, 64 * KIB, 5),
    Workload("NetstringReceiver", 32, 10_000, 7),
    Workload("NetstringReceiver", KIB, 500, 7),
    Workload("NetstringReceiver", MIB, 1, 7),
    Workload("NetstringReceiver", KIB, 10_000, 64 * KIB),
    Workload("NetstringReceiver", MIB, 16, 64 * KIB),
    Workload("LineReceiver", 32, 100_000, 64 * KIB, 2),
    Workload("LineReceiver", 32, 20_000, 7),
    Workload("LineReceiver", KIB, 500, 7),
    Workload("LineReceiver", 128 * KIB, 1, 7),  # 1 MiB takes the host minutes: its time is quadratic
    Workload("LineReceiver", KIB, 20_000, 64 * KIB),
    Workload("LineReceiver", MIB, 8, 64 * KIB),
    Workload("LineOnlyReceiver", 32, 100_000, 64 * KIB, 1),
    Workload("LineOnlyReceiver", 32, 20_000, 7),
    Workload("LineOnlyReceiver", KIB, 500, 7),
    Workload("LineOnlyReceiver", 128 * KIB, 1, 7),
    Workload("LineOnlyReceiver", KIB, 20_000, 64 * KIB),
    Workload("LineOnlyReceiver", MIB, 8, 64 * KIB),
]

GROWTH = [1, 4, 16]
"""MiB in the one message whose time has to grow with its size."""


class Transport:
    disconnecting = False


def make(module: Any, name: str, *, keep: bool) -> Any:
    """A receiver that keeps the payloads, or counts them."""

    class Receiver(getattr(module, name)):  # type: ignore[misc]
        MAX_LENGTH = 64 * MIB
        count = 0

        def stringReceived(self, payload: bytes) -> None:  # noqa: N802
            self.count += 1

        def lineReceived(self, line: bytes) -> None:  # noqa: N802
            self.count += 1

    receiver = Receiver()
    if keep:
        receiver.payloads = []
        receiver.stringReceived = receiver.lineReceived = receiver.payloads.append
    receiver.makeConnection(Transport())
    return receiver


def frames(workload: Workload) -> tuple[list[bytes], list[bytes]]:
    """The payloads, and the chunks."""
    rng = random.Random(SEED)
    clean = bytes(ord("a") + i % 26 for i in range(256))  # no delimiter in a line
    payloads = [rng.randbytes(workload.payload_size).translate(clean) for _ in range(workload.count)]
    spec = {"Int3": "u32be", "Int1": "u16be", "Int8": "u8", "Nets": "netstring"}.get(workload.receiver[:4], "crlf")
    return payloads, cut(framewire.Encoder(spec).encode_many(payloads), workload.chunk_size)


def feed(receiver: Any, chunks: list[bytes]) -> None:
    take = receiver.dataReceived
    for chunk in chunks:
        take(chunk)


def measure(workload: Workload, rounds: int) -> tuple[list[float], list[float], float]:
    """Nanoseconds a message, the host's and ours, median and least; and the median of the ratios round by round."""
    payloads, chunks = frames(workload)
    modules = {"host": basic, "ours": dropin}
    for module in modules.values():
        receiver = make(module, workload.receiver, keep=True)
        feed(receiver, chunks)
        assert receiver.payloads == payloads, f"{workload}: {module.__name__} gives other payloads"
        del receiver
    times: dict[str, list[int]] = {name: [] for name in modules}
    rng = random.Random(SEED)
    order = list(modules)
    for round_ in range(-1, rounds):
        rng.shuffle(order)
        for name in order:
            receiver = make(modules[name], workload.receiver, keep=False)
            gc.collect()
            gc.disable()
            start = perf_counter_ns()
            feed(receiver, chunks)
            stop = perf_counter_ns()
            gc.enable()
            assert receiver.count == workload.count
            if round_ >= 0:
                times[name].append(stop - start)
    by_round = median(host / ours for host, ours in zip(times["host"], times["ours"], strict=True))
    host, ours = ([median(of) / workload.count, min(of) / workload.count] for of in times.values())
    return host, ours, by_round


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a bar is not met")
    options = parser.parse_args(arguments)
    print(f"core {framewire.CORE}, Twisted {version.public()}, Python {sys.version.split()[0]}; ns a message, medians")
    print(f"{'':<42}{'host':>14}{'ours':>14}{'host/ours':>11}{'rounds':>8}  bar")
    short = False
    for workload in WORKLOADS:
        (host, _), (ours, _), by_round = measure(workload, options.rounds)
        verdict = ""
        if workload.bar is not None:
            met = host / ours >= workload.bar
            short |= not met
            verdict = f">= {workload.bar:g}  {'pass' if met else 'SHORT'}"
        print(
            f"{workload!s:<42}{host:>14,.0f}{ours:>14,.0f}{host / ours:>11.2f}{by_round:>8.2f}  {verdict}", flush=True
        )
    for name in ("Int32StringReceiver", "LineReceiver"):
        grown = [measure(Workload(name, size * MIB, 1, 64 * KIB), options.rounds)[:2] for size in GROWTH]
        for who, index in (("host", 0), ("ours", 1)):
            row = ", ".join(
                f"{size} MiB {times[index][1] / 1e6:.2f} ms" for size, times in zip(GROWTH, grown, strict=True)
            )
            steepness = grown[-1][index][1] / grown[0][index][1] / (GROWTH[-1] / GROWTH[0])
            verdict = ""
            if who == "ours":
                met = steepness <= 4  # what leaves the caches costs more for each byte; quadratic would be 16
                short |= not met
                verdict = f": linear {'pass' if met else 'SHORT'}"
            print(
                f"{name}, one message, {who}, least: {row}; {steepness:.1f} x the time for each byte{verdict}",
                flush=True,
            )
    return 1 if short and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
