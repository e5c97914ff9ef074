"""Decode and reassembly: a stream in chunks becomes payloads.

Each rival has `feed`, which takes a chunk and returns the payloads that it completed; asyncio's reader is a coroutine,
and has a loop of its own. None of them knows the sizes beforehand.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from .contest import FLOOR, Contest, Run, Take
from .libraries import cores, library
from .workloads import CHUNK_SIZE, Workload, ascii10, bulk_strings, cut, frames, msgpack_bin, u32be

UNPACK = struct.Struct(">I").unpack_from
READER_LIMIT = 2**24
"""The largest message that Twisted accepts here; framewire's own default."""


def decoding(workload: Workload) -> Contest:
    """Who decodes, on this workload."""
    payloads = workload.payloads()
    chunks = cut(frames(u32be, payloads), workload.chunk_size)
    it = Contest(workload)

    def add(name: str, make: Callable[[], Any], chunks: list[bytes] = chunks) -> None:
        it.add(name, partial(feed, make, chunks), payloads)

    floor = join_known if workload.task == "reassembly" else unpack_known
    it.add(FLOOR, floor(workload, payloads), payloads)
    for name, (decoder, _) in cores().items():
        add(name, partial(decoder, "u32be"))
    add("tutorial's loop", Tutorial, cut(frames(ascii10, payloads), workload.chunk_size))
    add("struct and slices", StructAndSlices)
    loop = it.event_loop()
    it.add("asyncio streams", lambda take: loop.run_until_complete(read(chunks, take)), payloads)
    if library("Twisted"):
        add("Twisted", Twisted)
    if library("msgpack"):
        add("msgpack", Msgpack, cut(frames(msgpack_bin, payloads), workload.chunk_size))
    if library("hiredis"):
        add("hiredis", Hiredis, cut(bulk_strings(payloads), workload.chunk_size))
    return it


def feed(make: Callable[[], Any], chunks: list[bytes], take: Take) -> None:
    feed = make().feed
    for chunk in chunks:
        if payloads := feed(chunk):
            take(payloads)


# The floor: the least that Python can do about a stream of which all is known, without a compiler.


def unpack_known(workload: Workload, payloads: list[bytes]) -> Run:
    """``struct`` in C makes the payloads from a format that knows where each one lies: about a chunk in each call."""
    stream = frames(u32be, payloads)
    frame_size = 4 + workload.size
    count = max(1, CHUNK_SIZE // frame_size)
    unpack = struct.Struct(f"4x{workload.size}s" * count).unpack_from
    whole, rest = divmod(len(payloads), count)
    starts = range(0, whole * count * frame_size, count * frame_size)
    unpack_rest = struct.Struct(f"4x{workload.size}s" * rest).unpack_from

    def run(take: Take) -> None:
        for start in starts:
            take(unpack(stream, start))
        if rest:
            take(unpack_rest(stream, whole * count * frame_size))

    return run


def join_known(workload: Workload, payloads: list[bytes]) -> Run:
    """The pieces of each payload are there, and joined in C: one call for each payload, and none for each chunk."""
    pieces = [cut(payload, workload.chunk_size) for payload in payloads]

    def run(take: Take) -> None:
        for parts in pieces:
            take([b"".join(parts)])

    return run


# The peers.


class Tutorial:
    """The loop of the sockets tutorial, made correct: what comes is appended to a buffer, and each message is cut off
    its front. A chunk of many messages, or a message of many chunks, is copied over and over."""

    def __init__(self) -> None:
        self.buffer = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        payloads = []
        self.buffer += chunk
        while len(self.buffer) >= 10 and len(self.buffer) >= 10 + int(self.buffer[:10]):
            size = int(self.buffer[:10])
            payloads.append(self.buffer[10 : 10 + size])
            self.buffer = self.buffer[10 + size :]
        return payloads


class StructAndSlices:
    """What an experienced programmer writes: a position that moves through the chunk, and chunks joined only when the
    message is whole."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.missing = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        payloads: list[bytes] = []
        if self.parts:
            self.parts.append(chunk)
            self.missing -= len(chunk)
            if self.missing > 0:
                return payloads
            chunk = b"".join(self.parts)
            self.parts.clear()
        unpack, append = UNPACK, payloads.append
        start, end = 4, len(chunk)
        stop = 4
        while start <= end:
            stop = start + unpack(chunk, start - 4)[0]
            if stop > end:
                break
            append(chunk[start:stop])
            start = stop = stop + 4
        if start - 4 < end:
            self.parts.append(chunk[start - 4 :])
            self.missing = stop - end
        return payloads


class Twisted:
    """Int32StringReceiver."""

    def __init__(self) -> None:
        self.receiver = library("Twisted").Int32StringReceiver()
        self.receiver.MAX_LENGTH = READER_LIMIT

    def feed(self, chunk: bytes) -> list[bytes]:
        payloads: list[bytes] = []
        self.receiver.stringReceived = payloads.append
        self.receiver.dataReceived(chunk)
        return payloads


class Msgpack:
    """Unpacker, on ``bin`` objects."""

    def __init__(self) -> None:
        self.unpacker = library("msgpack").Unpacker()

    def feed(self, chunk: bytes) -> list[bytes]:
        self.unpacker.feed(chunk)
        return list(self.unpacker)


class Hiredis:
    """Reader, on bulk strings."""

    def __init__(self) -> None:
        self.reader = library("hiredis").Reader()

    def feed(self, chunk: bytes) -> list[bytes]:
        payloads: list[bytes] = []
        gets, append = self.reader.gets, payloads.append
        self.reader.feed(chunk)
        while (payload := gets()) is not False:
            append(payload)
        return payloads


async def read(chunks: list[bytes], take: Take) -> None:
    """``readexactly`` on a StreamReader that is fed as by a transport: a chunk in each turn of the loop."""
    reader = asyncio.StreamReader()
    payloads: list[bytes] = []

    async def feed() -> None:
        try:
            for chunk in chunks:
                reader.feed_data(chunk)
                await asyncio.sleep(0)  # the reader takes all that is whole, and then waits
                hand_over()
        finally:
            reader.feed_eof()

    def hand_over() -> None:
        if payloads:
            take(payloads)
            payloads.clear()

    feeder = asyncio.create_task(feed())
    try:
        while True:
            size = int.from_bytes(await reader.readexactly(4), "big")
            payloads.append(await reader.readexactly(size))
    except asyncio.IncompleteReadError:
        await feeder
        hand_over()
