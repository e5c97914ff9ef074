"""Measures what a StreamReader gains: framewire's drop-in beside asyncio's own reader, in one run.

    python bench/dropin_asyncio.py                                  everything, on the compiled core if there is one
    python bench/dropin_asyncio.py --only 32,1024 --rounds 5        a quick look
    FRAMEWIRE_CORE=py python bench/dropin_asyncio.py --json pure.json

Every rival gets the same messages, four bytes of length in front of each, and has to end with the same list of
payloads, which is compared before anything is timed:

    host readexactly    asyncio.StreamReader: readexactly(4), then readexactly(n)
    ours readexactly    the same loop on the drop-in, for a program that changes nothing else
    ours readframe      one await for each message
    ours readframes     one await for all that is there

and the same bytes in the same way:

    64 KiB      the stream in chunks of 64 KiB, one in each turn of the loop: what a busy socket delivers
    whole       each message in a turn of its own, as with request and answer
    7 bytes     chunks of 7 bytes, one in each turn
    socket      through a socket pair, written by a thread as fast as it goes; the event loop's own cost is in it

A turn of the loop costs the same for all of them, and with small chunks it is most of the time. There is no bar for a
StreamReader: that of 8 times the messages of a readexactly loop is for ``aio.recv_many``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
import random
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

import framewire
from framewire.dropin import asyncio as dropin

SEED = 1243
CHUNK_SIZE = 64 * 1024
COUNTS = {  # messages of each size
    32: {"64 KiB": 40_000, "whole": 5_000, "7 bytes": 3_000, "socket": 40_000},
    1024: {"64 KiB": 10_000, "whole": 5_000, "7 bytes": 100, "socket": 10_000},
    1024 * 1024: {"64 KiB": 16, "whole": 16, "7 bytes": 1, "socket": 16},
}

Read = Callable[[Any], Awaitable[list[bytes]]]


async def by_readexactly(reader: Any) -> list[bytes]:
    payloads = []
    try:
        while True:
            size = int.from_bytes(await reader.readexactly(4), "big")
            payloads.append(await reader.readexactly(size))
    except asyncio.IncompleteReadError:
        return payloads


async def by_readframe(reader: Any) -> list[bytes]:
    payloads = []
    while (payload := await reader.readframe()) is not None:
        payloads.append(payload)
    return payloads


async def by_readframes(reader: Any) -> list[bytes]:
    payloads: list[bytes] = []
    while got := await reader.readframes():
        payloads += got
    return payloads


def host() -> asyncio.StreamReader:
    return asyncio.StreamReader()


def ours() -> dropin.StreamReader:
    return dropin.StreamReader(spec="u32be")


RIVALS: dict[str, tuple[Callable[[], asyncio.StreamReader], Read]] = {
    "host readexactly": (host, by_readexactly),
    "ours readexactly": (ours, by_readexactly),
    "ours readframe": (ours, by_readframe),
    "ours readframes": (ours, by_readframes),
}


class Feeder:
    """A transport that delivers one chunk in each turn of the loop, unless it is paused."""

    def __init__(self, reader: asyncio.StreamReader, chunks: list[bytes]) -> None:
        self.reader = reader
        self.chunks = iter(chunks)
        self.paused = False
        self.loop = asyncio.get_running_loop()
        reader.set_transport(self)  # type: ignore[arg-type]
        self.loop.call_soon(self.turn)

    def turn(self) -> None:
        if self.paused:
            return
        chunk = next(self.chunks, None)
        if chunk is None:
            self.reader.feed_eof()
            return
        self.reader.feed_data(chunk)
        self.loop.call_soon(self.turn)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        if self.paused:
            self.paused = False
            self.loop.call_soon(self.turn)


async def fed(make: Callable[[], asyncio.StreamReader], read: Read, chunks: list[bytes]) -> tuple[int, list[bytes]]:
    """The time it took, in nanoseconds, and the payloads."""
    reader = make()
    start = perf_counter_ns()
    Feeder(reader, chunks)
    payloads = await read(reader)
    return perf_counter_ns() - start, payloads


async def through_a_socket(
    make: Callable[[], asyncio.StreamReader], read: Read, chunks: list[bytes]
) -> tuple[int, list[bytes]]:
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    reader = make()
    transport, _ = await loop.create_connection(lambda: asyncio.StreamReaderProtocol(reader), sock=near)

    def send() -> None:
        for chunk in chunks:
            far.sendall(chunk)
        far.close()

    sender = threading.Thread(target=send)
    start = perf_counter_ns()
    sender.start()
    payloads = await read(reader)
    stop = perf_counter_ns()
    sender.join()
    transport.close()
    await asyncio.sleep(0)
    return stop - start, payloads


def chunks_of(payloads: list[bytes], way: str) -> list[bytes]:
    frames = [len(payload).to_bytes(4, "big") + payload for payload in payloads]
    if way == "whole":
        return frames
    stream = b"".join(frames)
    size = 7 if way == "7 bytes" else CHUNK_SIZE
    return [stream[pos : pos + size] for pos in range(0, len(stream), size)]


def measure(size: int, way: str, count: int, rounds: int) -> dict[str, list[int]]:
    """Nanoseconds of every rival in every round, all of them in each round, in another order each time."""
    rng = random.Random(SEED)
    payloads = [rng.randbytes(size) for _ in range(count)]
    chunks = chunks_of(payloads, way)
    deliver = through_a_socket if way == "socket" else fed
    names = list(RIVALS)
    times: dict[str, list[int]] = {name: [] for name in names}
    with asyncio.Runner() if hasattr(asyncio, "Runner") else _Runner() as runner:
        for round_ in range(-1, rounds):
            rng.shuffle(names)
            for name in names:
                gc.collect()
                gc.disable()
                time, result = runner.run(deliver(*RIVALS[name], chunks))
                gc.enable()
                if round_ < 0 and result != payloads:
                    raise SystemExit(f"{name} gives other payloads than were sent: {size} bytes, {way}")
                if round_ >= 0:
                    times[name].append(time)
                del result
    return times


class _Runner:
    """``asyncio.Runner`` for 3.10."""

    def __enter__(self) -> _Runner:
        self.loop = asyncio.new_event_loop()
        return self

    def run(self, what: Any) -> Any:
        return self.loop.run_until_complete(what)

    def __exit__(self, *exc: object) -> None:
        self.loop.close()


def shown(size: int) -> str:
    for unit, scale in (("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size // scale} {unit}"
    return f"{size} B"


def report(size: int, way: str, count: int, times: dict[str, list[int]]) -> dict[str, Any]:
    print(
        f"\n{count:,} x {shown(size)}, {way}\n  {'':<20}{'us/message':>12}{'least':>10}{'x host':>10}{'by round':>10}"
    )
    base = times["host readexactly"]
    rows = {}
    for name, measured in times.items():
        us = median(measured) / count / 1e3
        ratio = median(base) / median(measured)
        by_round = median(one / other for one, other in zip(base, measured, strict=True))
        print(f"  {name:<20}{us:>12.2f}{min(measured) / count / 1e3:>10.2f}{ratio:>10.2f}{by_round:>10.2f}", flush=True)
        rows[name] = {"us": us, "ratio": ratio, "by_round": by_round, "ns": measured}
    return {"size": size, "way": way, "count": count, "rivals": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="sizes in bytes, with commas")
    parser.add_argument("--ways", default="", help="of delivery, with commas")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of messages")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    sizes = [int(size) for size in args.only.split(",") if size] or list(COUNTS)
    print(f"framewire {framewire.__version__}, core {framewire.CORE}; {platform.python_implementation()} "
          f"{platform.python_version()}; the host's reader is asyncio's own")  # fmt: skip
    rows = []
    for size in sizes:
        for way, count in COUNTS[size].items():
            if args.ways and way not in args.ways.split(","):
                continue
            count = max(1, round(count * args.scale))
            rows.append(report(size, way, count, measure(size, way, count, args.rounds)))
    if args.json:
        args.json.write_text(json.dumps({"core": framewire.CORE, "rows": rows}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
