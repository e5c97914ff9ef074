"""What the benches measure: seeded streams whose frames are known beforehand, and the loops that every rival runs.

The bytes are made here without framewire, so that it cannot agree with itself by mistake. Both cores, the limits and,
where it has the same methods, a peer go through the same loops.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

SEED = 1243
READ_SIZE = 256 * 1024
"""Most bytes in one read through the window."""


@dataclass(frozen=True)
class Workload:
    """A stream of `frame_count` payloads of `payload_size` bytes each, in chunks of `chunk_size`."""

    name: str
    spec: str
    frame_count: int
    payload_size: int
    chunk_size: int

    def __str__(self) -> str:
        return f"{self.name}: {self.frame_count:,} x {_size(self.payload_size)}, {self.spec}, {_how(self)}"

    def scaled(self, scale: float) -> Workload:
        count = max(2, round(self.frame_count * scale))
        return Workload(self.name, self.spec, count, self.payload_size, self.chunk_size)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("D1", "u32be", 1_000_000, 32, 64 * 1024),
        Workload("D2", "ascii10", 1_000_000, 32, 64 * 1024),
        Workload("D3", "u32be", 100_000, 1024, 64 * 1024),
        Workload("D4", "u32be", 200, 4 * 1024 * 1024, 0),
        Workload("D5", "u32be", 100_000, 32, 7),
        Workload("D6", "varint", 1_000_000, 32, 64 * 1024),
        Workload("E1", "u32be", 1_000_000, 32, 0),
    )
}


class Data:
    """A workload's bytes, and what is known about them."""

    def __init__(self, workload: Workload) -> None:
        rng = random.Random(SEED)
        headers = [HEADERS[workload.spec](workload.payload_size)] * workload.frame_count
        self.payloads = [rng.randbytes(workload.payload_size) for _ in headers]
        self.lay(headers, self.payloads, workload.chunk_size)

    def lay(self, headers: list[bytes], bodies: list[bytes], chunk_size: int) -> None:
        """Make the stream, and note what lies where."""
        self.stream = b"".join(part for frame in zip(headers, bodies, strict=True) for part in frame)
        self.chunks = cut(self.stream, chunk_size)
        self.lengths = array("q", map(len, bodies))
        ends = list(accumulate(map(len, headers), initial=0))[1:]
        ends = [header + payload for header, payload in zip(ends, accumulate(self.lengths), strict=True)]
        self.offsets = array("q", (end - length for end, length in zip(ends, self.lengths, strict=True)))
        self.stops = list(accumulate(map(len, self.chunks)))
        """Where each chunk ends in the stream."""
        done = [bisect_right(ends, stop) for stop in self.stops]
        self.batches = list(zip([0, *done], done, strict=False))
        """The frames that each chunk completes: the first, and the one behind the last."""


def cut(stream: bytes, chunk_size: int) -> list[bytes]:
    """The stream in chunks; whole, if their size is 0."""
    if not chunk_size:
        return [stream]
    return [stream[pos : pos + chunk_size] for pos in range(0, len(stream), chunk_size)]


# The loops.


def feed(decoder: Any, chunks: list[bytes]) -> list[bytes]:
    """Every payload in one list."""
    payloads: list[bytes] = []
    for chunk in chunks:
        payloads += decoder.feed(chunk)
    return payloads


def feed_streaming(decoder: Any, chunks: list[bytes]) -> int:
    """What each chunk completes is dropped before the next."""
    count = 0
    for chunk in chunks:
        count += len(decoder.feed(chunk))
    return count


def feed_bare(decoder: Any, chunks: list[bytes]) -> None:
    """Nothing but the calls."""
    for chunk in chunks:
        decoder.feed(chunk)


def feed_sparse(decoder: Any, chunks: list[bytes]) -> list[bytes]:
    """As `feed`, where most chunks complete nothing."""
    payloads: list[bytes] = []
    for chunk in chunks:
        if completed := decoder.feed(chunk):
            payloads += completed
    return payloads


def feed_spans(decoder: Any, chunks: list[bytes]) -> int:
    count = 0
    for chunk in chunks:
        count += len(decoder.feed_spans(chunk))
    return count


def window(decoder: Any, fill: Callable[[memoryview, bytes, int], int], stream: bytes) -> list[bytes]:
    """Receive through the window; every payload in one list."""
    payloads: list[bytes] = []
    pos, end = 0, len(stream)
    while pos < end:
        n = fill(decoder.get_buffer(READ_SIZE), stream, pos)
        payloads += decoder.buffer_updated(n)
        pos += n
    return payloads


def window_streaming(decoder: Any, fill: Callable[[memoryview, bytes, int], int], stream: bytes) -> int:
    """Receive through the window; each payload is dropped before the next."""
    size = 0
    pos, end = 0, len(stream)
    while pos < end:
        n = fill(decoder.get_buffer(READ_SIZE), stream, pos)
        for payload in decoder.buffer_updated(n):
            size += len(payload)
            del payload
        pos += n
    return size


def floor(limit: Any, batches: list[tuple[int, int]]) -> list[bytes]:
    """`feed` for the floor, chunk by chunk."""
    payloads: list[bytes] = []
    for first, last in batches:
        payloads += limit.cut(first, last)
    return payloads


def floor_streaming(limit: Any, batches: list[tuple[int, int]]) -> int:
    count = 0
    for first, last in batches:
        count += len(limit.cut(first, last))
    return count


def scan(scan_headers: Callable[[bytes, int, int], tuple[int, int, int]], stream: bytes, stops: Sequence[int]) -> int:
    """`feed_spans` for the bare scan: the same chunks, as parts of the whole stream."""
    pos = count = 0
    for stop in stops:
        pos, n, _ = scan_headers(stream, pos, stop)
        count += n
    return count


# How the headers look.


def _varint(size: int) -> bytes:
    groups = []
    while size > 0x7F:
        groups.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*groups, size])


HEADERS: dict[str, Callable[[int], bytes]] = {
    "u32be": lambda size: size.to_bytes(4, "big"),
    "ascii10": lambda size: f"{size:<10}".encode(),
    "varint": _varint,
}


def _size(size: int) -> str:
    for unit, name in ((1024 * 1024, "MiB"), (1024, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"


def _how(workload: Workload) -> str:
    if workload.chunk_size:
        return f"chunks of {_size(workload.chunk_size)}"
    return "one run" if workload.name.startswith(("E", "W2")) else f"reads of {_size(READ_SIZE)} through the window"
