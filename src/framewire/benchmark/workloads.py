"""What is measured: seeded payloads, in the framing of everybody who runs on them.

The bytes are made here without framewire and without its peers, so that nobody can agree with himself by mistake.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

SEED = 1243
CHUNK_SIZE = 64 * 1024
VOLUME = 4 * 2**20
"""Bytes of payload in a stream, but for the least and the most payloads."""
LEAST_COUNT, MOST_COUNT = 4, 16_384


@dataclass(frozen=True)
class Workload:
    """`count` payloads of `size` bytes; a stream of them comes in chunks of `chunk_size`."""

    task: str
    size: int
    count: int
    chunk_size: int = CHUNK_SIZE

    @property
    def label(self) -> str:
        if self.task == "reassembly":
            return f"{size_text(self.size)} by {self.chunk_size:,}"
        return size_text(self.size)

    def payloads(self) -> list[bytes]:
        rng = random.Random(SEED)
        return [rng.randbytes(self.size) for _ in range(self.count)]


def workloads(*, quick: bool = False) -> list[Workload]:
    """All that is measured, in the order of the tables.

    Args:
        quick: Fewer sizes, and a quarter of the bytes.
    """
    decoded = [32, 1024, 64 * 1024, 2**20] if quick else [8, 32, 128, 1024, 8 * 1024, 64 * 1024, 2**20]
    volume = VOLUME // 4 if quick else VOLUME
    sized = [(size, min(max(volume // size, LEAST_COUNT), MOST_COUNT)) for size in decoded]
    return [
        *(Workload("decode", size, count) for size, count in sized),
        *(Workload("encode", size, count) for size, count in sized),
        Workload("reassembly", 2**20, 1 if quick else 2, 1460),  # what a packet carries on Ethernet
        Workload("reassembly", 64, 256 if quick else 1024, 7),
        # A message fits into what the kernel keeps for a socket: both ends of the pair are in one thread.
        Workload("echo", 64, 200),
        Workload("echo", 4096, 200),
    ]


# The framings.


def u32be(size: int) -> bytes:
    return size.to_bytes(4, "big")


def ascii10(size: int) -> bytes:
    """The tutorial's: decimal digits, padded with spaces to ten bytes."""
    return f"{size:<10}".encode()


def msgpack_bin(size: int) -> bytes:
    """A ``bin`` object of msgpack, with the shortest of its three lengths."""
    for first, width in ((b"\xc4", 1), (b"\xc5", 2)):
        if size < 1 << 8 * width:
            return first + size.to_bytes(width, "big")
    return b"\xc6" + size.to_bytes(4, "big")


def frames(header: Callable[[int], bytes], payloads: Iterable[bytes]) -> bytes:
    return b"".join(part for payload in payloads for part in (header(len(payload)), payload))


def bulk_strings(payloads: Iterable[bytes]) -> bytes:
    """What hiredis reads: bulk strings of RESP."""
    return b"".join(b"$%d\r\n%b\r\n" % (len(payload), payload) for payload in payloads)


def cut(stream: bytes, chunk_size: int) -> list[bytes]:
    return [stream[pos : pos + chunk_size] for pos in range(0, len(stream), chunk_size)]


def batched(payloads: list[bytes]) -> list[list[bytes]]:
    """The payloads in lists of about a chunk each."""
    count = max(1, CHUNK_SIZE // len(payloads[0]))
    return [payloads[pos : pos + count] for pos in range(0, len(payloads), count)]


def size_text(size: int) -> str:
    for unit, name in ((2**20, "MiB"), (2**10, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"
