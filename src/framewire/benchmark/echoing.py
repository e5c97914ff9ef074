"""Echo: a message goes through a pair of sockets and comes back, one at a time.

Both ends are in one thread, which sends, reads at the other end, answers, and reads the answer: four system calls, and
nobody waits for a processor. So it is the library that is measured, and not the scheduler. A message has to fit into
what the kernel keeps for a socket.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol

from .. import FramedSocket, aio
from .contest import FLOOR, Contest, Take
from .decoding import Msgpack, StructAndSlices, Tutorial
from .encoding import struct_and_join, tutorial
from .libraries import cores, library
from .workloads import Workload

READ_SIZE = 64 * 1024


class End(Protocol):
    """One end of the pair."""

    def send(self, payload: bytes, /) -> object: ...

    def recv(self) -> Any: ...


class AsyncEnd(Protocol):
    """The same for asyncio."""

    async def send(self, payload: bytes, /) -> object: ...

    async def recv(self) -> Any: ...

    async def close(self) -> None: ...


def echoing(workload: Workload) -> Contest:
    """Who echoes, on this workload."""
    payloads = workload.payloads()
    it = Contest(workload)
    loop = it.event_loop()

    def add(name: str, end: Callable[[socket.socket], End]) -> None:
        here, there = (end(it.resources.enter_context(sock)) for sock in socket.socketpair())
        it.add(name, partial(echo, here, there, payloads), payloads)

    def add_async(name: str, end: Callable[[socket.socket], Awaitable[AsyncEnd]]) -> None:
        here, there = (loop.run_until_complete(end(sock)) for sock in socket.socketpair())
        it.resources.callback(loop.run_until_complete, close(here, there))
        it.add(name, lambda take: loop.run_until_complete(echo_async(here, there, payloads, take)), payloads)

    add(FLOOR, Bare)
    for name, (decoder, encoder) in cores().items():
        add(name, lambda sock, d=decoder, e=encoder: Framing(sock, d("u32be"), e("u32be").encode))  # type: ignore[misc]
    add("FramedSocket", lambda sock: FramedSocket(sock, "u32be"))
    add_async("framewire.aio", lambda sock: aio.from_socket(sock, "u32be"))
    add("tutorial's loop", lambda sock: Framing(sock, Tutorial(), lambda payload: tutorial([payload])))
    add("struct and slices", lambda sock: Framing(sock, StructAndSlices(), lambda payload: struct_and_join([payload])))
    if library("multiprocessing"):
        add("multiprocessing", partial(Multiprocessing, resources=it.resources))
    if library("msgpack"):
        add("msgpack", lambda sock: Framing(sock, Msgpack(), library("msgpack").Packer().pack))
    add_async("asyncio streams", Streams.open)
    return it


def echo(here: End, there: End, payloads: list[bytes], take: Take) -> None:
    for payload in payloads:
        here.send(payload)
        there.send(there.recv())
        take([here.recv()])


async def echo_async(here: AsyncEnd, there: AsyncEnd, payloads: list[bytes], take: Take) -> None:
    for payload in payloads:
        await here.send(payload)
        await there.send(await there.recv())
        take([await here.recv()])


async def close(*ends: AsyncEnd) -> None:
    await asyncio.gather(*(end.close() for end in ends))


class Bare:
    """The floor: no framing at all. What one read returns is taken for one message, which is right only here."""

    def __init__(self, sock: socket.socket) -> None:
        self.send = sock.sendall
        self.recv = partial(sock.recv, READ_SIZE)


class Framing:
    """A parser and an encoder on a bare socket."""

    def __init__(self, sock: socket.socket, parser: Any, encode: Callable[[bytes], bytes]) -> None:
        self.sendall, self.encode = sock.sendall, encode
        self.read, self.feed = sock.recv, parser.feed

    def send(self, payload: bytes) -> None:
        self.sendall(self.encode(payload))

    def recv(self) -> Any:
        while not (payloads := self.feed(self.read(READ_SIZE))):
            pass
        return payloads[0]


class Multiprocessing:
    """multiprocessing's Connection, which the socket now belongs to."""

    def __init__(self, sock: socket.socket, resources: ExitStack) -> None:
        connection = resources.enter_context(library("multiprocessing").Connection(sock.detach()))
        self.send, self.recv = connection.send_bytes, connection.recv_bytes


class Streams:
    """asyncio's StreamReader and StreamWriter."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, sock: socket.socket) -> Streams:
        return cls(*await asyncio.open_connection(sock=sock))

    async def send(self, payload: bytes) -> None:
        self.writer.write(len(payload).to_bytes(4, "big") + payload)
        await self.writer.drain()

    async def recv(self) -> bytes:
        size = int.from_bytes(await self.reader.readexactly(4), "big")
        return await self.reader.readexactly(size)

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()
