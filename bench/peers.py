"""What people use today, on the same payloads in chunks of the same size. None of them knows the sizes beforehand.

Each wears the decoder's `feed`, a call for each chunk, so that the loops of workloads.py run it; asyncio's reader is a
coroutine, and has loops of its own.
"""

from __future__ import annotations

import asyncio
import io
import struct
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any

from workloads import cut

UNPACK = struct.Struct(">I").unpack_from


class HandUnpackFrom:
    """What is left of a chunk goes in front of the next; the length by ``struct``, the payload by slicing."""

    def __init__(self) -> None:
        self.tail = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        unpack = UNPACK
        payloads: list[bytes] = []
        append = payloads.append
        data = self.tail + chunk
        pos, end = 0, len(data)
        last = end - 4
        while pos <= last:
            (size,) = unpack(data, pos)
            start = pos + 4
            stop = start + size
            if stop > end:
                break
            append(data[start:stop])
            pos = stop
        self.tail = data[pos:]
        return payloads


class HandFromBytes:
    """As `HandUnpackFrom`, with ``int.from_bytes``."""

    def __init__(self) -> None:
        self.tail = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        from_bytes = int.from_bytes
        payloads: list[bytes] = []
        append = payloads.append
        data = self.tail + chunk
        pos, end = 0, len(data)
        while pos + 4 <= end:
            start = pos + 4
            stop = start + from_bytes(data[pos:start], "big")
            if stop > end:
                break
            append(data[start:stop])
            pos = stop
        self.tail = data[pos:]
        return payloads


class HandBytearray:
    """A buffer that loses each frame at its front."""

    def __init__(self) -> None:
        self.buffer = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        unpack, buffer = UNPACK, self.buffer
        payloads: list[bytes] = []
        append = payloads.append
        buffer += chunk
        while len(buffer) >= 4:
            (size,) = unpack(buffer)
            stop = 4 + size
            if len(buffer) < stop:
                break
            append(bytes(buffer[4:stop]))
            del buffer[:stop]
        return payloads


class HandMemoryview:
    """A buffer that is cut through a view."""

    def __init__(self) -> None:
        self.buffer = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        unpack, buffer = UNPACK, self.buffer
        payloads: list[bytes] = []
        append = payloads.append
        buffer += chunk
        pos, end = 0, len(buffer)
        with memoryview(buffer) as view:
            while pos + 4 <= end:
                (size,) = unpack(view, pos)
                start = pos + 4
                stop = start + size
                if stop > end:
                    break
                append(bytes(view[start:stop]))
                pos = stop
        del buffer[:pos]
        return payloads


class HandBytesIO:
    """Read as a file."""

    def __init__(self) -> None:
        self.tail = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        unpack = UNPACK
        payloads: list[bytes] = []
        append = payloads.append
        data = self.tail + chunk
        read = io.BytesIO(data).read
        pos = 0
        while len(header := read(4)) == 4:
            (size,) = unpack(header)
            payload = read(size)
            if len(payload) < size:
                break
            append(payload)
            pos += 4 + size
        self.tail = data[pos:]
        return payloads


class Guess:
    """Guesses that the next frames have the size of the first, and checks each header: right for any sizes, and fast
    only where neighbours are alike. Nobody writes this; it shows what knowing the sizes would be worth."""

    def __init__(self) -> None:
        self.tail = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        payloads: list[bytes] = []
        append = payloads.append
        data = self.tail + chunk
        pos, end = 0, len(data)
        while pos + 4 <= end:
            (size,) = UNPACK(data, pos)
            frame_size = 4 + size
            stop = pos + (end - pos) // frame_size * frame_size
            if stop == pos:
                break
            for length, payload in struct.iter_unpack(f">I{size}s", memoryview(data)[pos:stop]):
                if length != size:
                    break
                append(payload)
                pos += frame_size
        self.tail = data[pos:]
        return payloads


class Msgpack:
    """msgpack's Unpacker, on ``bin`` objects."""

    def __init__(self) -> None:
        self.unpacker = import_module("msgpack").Unpacker()

    def feed(self, chunk: bytes) -> list[bytes]:
        self.unpacker.feed(chunk)
        return list(self.unpacker)


class Hiredis:
    """hiredis's Reader, on RESP bulk strings."""

    def __init__(self) -> None:
        self.reader = import_module("hiredis").Reader()

    def feed(self, chunk: bytes) -> list[bytes]:
        payloads: list[bytes] = []
        gets, append = self.reader.gets, payloads.append
        self.reader.feed(chunk)
        while (payload := gets()) is not False:
            append(payload)
        return payloads


class Twisted:
    """Twisted's Int32StringReceiver."""

    def __init__(self) -> None:
        self.receiver = import_module("twisted.protocols.basic").Int32StringReceiver()

    def feed(self, chunk: bytes) -> list[bytes]:
        payloads: list[bytes] = []
        self.receiver.stringReceived = payloads.append
        self.receiver.dataReceived(chunk)
        return payloads


def asyncio_reader(chunks: list[bytes]) -> list[bytes]:
    """asyncio's StreamReader with ``readexactly``, fed as a transport would: a chunk in each turn of the loop."""
    payloads: list[bytes] = []
    asyncio.run(_read(chunks, payloads, lambda: None))
    return payloads


def asyncio_reader_streaming(chunks: list[bytes]) -> int:
    payloads: list[bytes] = []
    count = 0

    def drop() -> None:
        nonlocal count
        count += len(payloads)
        payloads.clear()

    asyncio.run(_read(chunks, payloads, drop))
    return count


async def _read(chunks: list[bytes], payloads: list[bytes], done: Callable[[], None]) -> None:
    reader = asyncio.StreamReader()

    async def feed() -> None:
        for chunk in chunks:
            reader.feed_data(chunk)
            await asyncio.sleep(0)  # the reader takes all that is whole, and then waits
            done()
        reader.feed_eof()

    feeder = asyncio.create_task(feed())
    try:
        while True:
            header = await reader.readexactly(4)
            payloads.append(await reader.readexactly(int.from_bytes(header, "big")))
    except asyncio.IncompleteReadError:
        await feeder
        done()


HAND: dict[str, Callable[[], Any]] = {
    "hand: unpack_from": HandUnpackFrom,
    "hand: from_bytes": HandFromBytes,
    "hand: bytearray": HandBytearray,
    "hand: memoryview": HandMemoryview,
    "hand: BytesIO": HandBytesIO,
}
GUESS: dict[str, Callable[[], Any]] = {"guess equal sizes": Guess}
LIBRARIES: dict[str, Callable[[], Any]] = {"msgpack": Msgpack, "hiredis": Hiredis, "twisted": Twisted}


def installed(name: str) -> str | None:
    """The version of a library; None if it is not here."""
    try:
        return version(name)
    except ImportError:
        return None


def chunks_for(name: str, payloads: list[bytes], chunks: list[bytes]) -> list[bytes]:
    """What the peer `name` reads: `chunks`, unless it has a framing of its own."""
    size = len(chunks[0])
    if name == "msgpack":
        packer = import_module("msgpack").Packer()
        return cut(b"".join(map(packer.pack, payloads)), size)
    if name == "hiredis":
        return cut(b"".join(b"$%d\r\n%b\r\n" % (len(payload), payload) for payload in payloads), size)
    return chunks
