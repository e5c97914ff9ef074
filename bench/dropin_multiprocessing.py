"""Measures `framewire.dropin.multiprocessing.Connection` beside the standard library's, in one process, round by round.

    python bench/dropin_multiprocessing.py                   every row, and the bars
    python bench/dropin_multiprocessing.py --rounds 5        a quick look
    FRAMEWIRE_CORE=py python bench/dropin_multiprocessing.py

``both`` is a ``send_bytes`` and the ``recv_bytes`` that takes it, in one thread; ``send`` and ``recv`` are the two
apart. ``process`` receives from, or sends to, another process, which makes plain system calls and is the same
for both. The messages of ``7-byte chunks`` were written seven bytes at a time (a stream: the reader gets as many as are
there).
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import random
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection
from statistics import median
from time import perf_counter_ns
from typing import Any

import framewire
from framewire.dropin import multiprocessing as dropin

KIB = 1024
CLASSES = {"standard library": connection.Connection, "framewire": dropin.Connection}
Run = Callable[[type[Any]], int]
"""Measures one class once; returns nanoseconds."""


@dataclass(frozen=True)
class Row:
    """What is measured: `count` messages for a time."""

    name: str
    size: int
    count: int
    run: Run
    bar: float | None = None


def pair(cls: type[Any], kind: str) -> tuple[Any, Any]:
    """A sending and a receiving end."""
    if kind == "pipe":
        reading, writing = os.pipe()
        return cls(writing, readable=False), cls(reading, writable=False)
    one, other = socket.socketpair()
    return cls(one.detach()), cls(other.detach())


def check(cls: type[Any], kind: str, body: bytes) -> None:
    """What is timed must be what was sent, byte for byte."""
    sender, receiver = pair(cls, kind)
    with sender, receiver:
        sender.send_bytes(body)
        assert os.read(receiver.fileno(), 1 << 20) == struct.pack("!i", len(body)) + body
        sender.send_bytes(body)
        assert receiver.recv_bytes() == body


def in_one_thread(kind: str, size: int, count: int, half: str) -> Run:
    """Send as many as a socket holds, then receive them; time both or one half."""
    body = random.Random(size).randbytes(size)
    batch = 1 if half == "both" else max(1, min(50, 32 * KIB // (size + 4)))

    def run(cls: type[Any]) -> int:
        sender, receiver = pair(cls, kind)
        total = 0
        with sender, receiver:
            send, recv = sender.send_bytes, receiver.recv_bytes
            if half == "both":
                start = perf_counter_ns()
                for _ in range(count):
                    send(body)
                    recv()
                return perf_counter_ns() - start
            turns = range(batch)
            for _ in range(count // batch):
                before = perf_counter_ns()
                for _ in turns:
                    send(body)
                between = perf_counter_ns()
                for _ in turns:
                    recv()
                total += between - before if half == "send" else perf_counter_ns() - between
        return total * count // (count // batch * batch)

    check(CLASSES["framewire"], kind, body)
    return run


def with_a_process(size: int, count: int, half: str, chunk_size: int = 0) -> Run:
    """Send to, or receive from, another process."""
    body = random.Random(size).randbytes(size)
    data = struct.pack("!i", size) + body
    chunks = [data[at : at + chunk_size] for at in range(0, len(data), chunk_size)] if chunk_size else [data]

    def peer(fd: int) -> None:
        if half == "send":
            while os.read(fd, 1 << 18):
                pass
            return
        for _ in range(count):
            for chunk in chunks:
                left = memoryview(chunk)
                while left:
                    left = left[os.write(fd, left) :]

    def run(cls: type[Any]) -> int:
        one, other = socket.socketpair()
        child = os.fork()
        if not child:
            try:
                one.close()
                peer(other.fileno())
            finally:
                os._exit(0)
        other.close()
        with cls(one.detach()) as conn:
            if half == "recv":
                assert conn.poll(None)
            start = perf_counter_ns()
            for _ in range(count):
                if half == "send":
                    conn.send_bytes(body)
                else:
                    received = conn.recv_bytes()
            taken = perf_counter_ns() - start
        if half == "recv":
            assert received == body
        os.waitpid(child, 0)
        return taken

    return run


def chunked(size: int, count: int) -> Run:
    """Receive messages that were written seven bytes at a time before."""
    data = struct.pack("!i", size) + random.Random(size).randbytes(size)

    def run(cls: type[Any]) -> int:
        total = 0
        sender, receiver = pair(cls, "socket")
        with sender, receiver:
            for _ in range(count):
                for at in range(0, len(data), 7):
                    os.write(sender.fileno(), data[at : at + 7])
                start = perf_counter_ns()
                received = receiver.recv_bytes()
                total += perf_counter_ns() - start
                assert received == data[4:]
        return total

    return run


def rows() -> list[Row]:
    made = []
    for kind in ("socket", "pipe"):
        for size, count, bar in ((32, 5000, None), (64, 5000, 1.5), (KIB, 5000, None), (16 * KIB, 2000, 1.3)):
            for half in ("both", "send", "recv"):
                run = in_one_thread(kind, size, count, half)
                made.append(Row(f"{kind}, {half}", size, count, run, bar if half == "both" else None))
    made += [Row(f"process, {half}", 1 << 20, 40, with_a_process(1 << 20, 40, half)) for half in ("send", "recv")]
    made.append(Row("7-byte chunks", 32, 3000, chunked(32, 3000)))
    made.append(Row("7-byte chunks", KIB, 500, chunked(KIB, 500)))
    made.append(Row("7-byte chunks, process", 1 << 20, 1, with_a_process(1 << 20, 1, "recv", 7)))
    return made


def measure(row: Row, rounds: int) -> dict[str, list[int]]:
    """Run both in each round, in turn first; a first round, to warm up, is not counted."""
    times: dict[str, list[int]] = {name: [] for name in CLASSES}
    names = list(CLASSES)
    gc.collect()
    gc.disable()
    try:
        for round_ in range(-1, rounds):
            names.reverse()
            for name in names:
                taken = row.run(CLASSES[name])
                if round_ >= 0:
                    times[name].append(taken)
    finally:
        gc.enable()
    return times


def size_of(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size // KIB} KiB" if size >= KIB else f"{size} B"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    print(f"framewire {framewire.__version__} ({framewire.CORE}), CPython {platform.python_version()}, us/message")
    print(f"{'':<26}{'':>8}{'standard':>12}{'framewire':>12}{'medians':>9}{'rounds':>9}  bar")
    short = 0
    for row in rows():
        times = measure(row, options.rounds)
        stock, ours = (times[name] for name in CLASSES)
        ratio = median(stock) / median(ours)
        by_round = median(one / other for one, other in zip(stock, ours, strict=True))
        verdict = ""
        if row.bar and framewire.CORE == "c":
            met = ratio >= row.bar
            short += not met
            verdict = f">= {row.bar:g} {'pass' if met else 'SHORT'}"
            if met != (by_round >= row.bar):
                verdict += " (the rounds disagree)"
        numbers = "".join(f"{median(one) / row.count / 1000:>12.2f}" for one in (stock, ours))
        print(f"{row.name:<26}{size_of(row.size):>8}{numbers}{ratio:>8.2f}x{by_round:>8.2f}x  {verdict}", flush=True)
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
