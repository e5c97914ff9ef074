"""Measures a WebSocket server on wsproto, as it is and with `framewire.dropin.wsproto`, in pairs, round by round.

    python bench/dropin_wsproto.py                   every row, and the bars
    python bench/dropin_wsproto.py --rounds 5        a quick look
    FRAMEWIRE_CORE=py python bench/dropin_wsproto.py

What is measured is the processor time of the server, user and system, by message: an asyncio protocol that gives what
comes to a ``WSConnection`` and takes its events. The client is another process, whose time does not count; it has its
frames ready, masked with keys of their own. ``nothing`` is the same server when it only receives: no drop-in can come
below that, and over TCP on one machine, where the system copies and counts more, it is a good part of a large message.

unix, tcp      the socket: a Unix one, as behind a reverse proxy, or TCP over loopback
receive        messages are counted as they come
text           the same, of letters beyond ASCII too
echo           each is sent back
by turns       each is sent back, and the client waits for it: every message pays for a wake-up of asyncio
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import platform
import random
import socket
import sys
import tempfile
import threading
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from time import process_time_ns
from typing import Any

import wsproto
from wsproto import WSConnection
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Message, Request, TextMessage
from wsproto.frame_protocol import FrameProtocol

import framewire
from framewire.dropin import wsproto as dropin

KIB = 1024
WAYS = {"nothing": contextlib.nullcontext, "wsproto": contextlib.nullcontext, "framewire": dropin.patched}
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass(frozen=True)
class Row:
    """What is measured: `count` messages of `size` bytes."""

    family: str
    name: str
    size: int
    count: int
    bar: float | None = None

    @property
    def text(self) -> bool:
        return self.name == "text"

    @property
    def echo(self) -> bool:
        return self.name in ("echo", "by turns")


ROWS = [
    Row("unix", "receive", 64, 20_000, 2.5),
    Row("unix", "receive", KIB, 10_000),
    Row("unix", "receive", 64 * KIB, 500),
    Row("unix", "receive", 1 << 20, 60, 6.0),
    Row("unix", "text", 64, 20_000),
    Row("unix", "text", 1 << 20, 60),
    Row("unix", "echo", 64, 10_000),
    Row("unix", "echo", 1 << 20, 60),
    Row("unix", "by turns", 64, 3_000),
    Row("tcp", "receive", 64, 20_000),
    Row("tcp", "receive", 1 << 20, 60),
    Row("tcp", "by turns", 64, 3_000),
]


@lru_cache
def messages(row: Row) -> tuple[list[bytes | str], list[bytes]]:
    """Some messages, and the frames that a client makes of them."""
    source = random.Random(row.size)
    host = FrameProtocol(True, [])
    bodies: list[bytes | str] = []
    for _ in range(min(row.count, 20)):
        if row.text:
            text = "".join(source.choices("abcdefghijklmnopqrstuvwxyz éü", k=min(row.size, 4 * KIB)))
            bodies.append((text * (row.size // len(text))).encode()[: row.size].decode(errors="ignore"))
        else:
            bodies.append(source.randbytes(row.size))
    return bodies, [bytes(host.send_data(body)) for body in bodies]


def check(row: Row) -> None:
    """What is timed must be what was sent: in pieces as a socket gives them."""
    bodies, frames = messages(row)
    with dropin.patched():
        conn = wsproto.Connection(ConnectionType.SERVER)
        data, got = b"".join(frames), []
        part: Any = "" if row.text else b""
        for at in range(0, len(data), 100_003):
            conn.receive_data(data[at : at + 100_003])
            for event in conn.events():
                assert isinstance(event, Message)
                part += event.data
                if event.message_finished:
                    got.append(part)
                    part = part[:0]
    assert got == bodies


class Server(asyncio.Protocol):
    """Counts messages, and sends them back if it is to."""

    def __init__(self, row: Row, done: asyncio.Future[int]) -> None:
        self.conn = WSConnection(ConnectionType.SERVER)
        self.row, self.done = row, done
        self.left = row.count
        self.started = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        conn, echo = self.conn, self.row.echo
        conn.receive_data(data)
        for event in conn.events():
            if isinstance(event, (BytesMessage, TextMessage)):
                if echo:
                    self.transport.write(conn.send(Message(event.data, event.frame_finished, event.message_finished)))
                if event.message_finished:
                    self.left -= 1
            elif isinstance(event, Request):
                self.transport.write(conn.send(AcceptConnection()))
                self.started = process_time_ns()
            elif isinstance(event, CloseConnection):
                raise AssertionError(f"refused: {event}")
        if not self.left:
            self.end()

    def end(self) -> None:
        if not self.done.done():
            self.done.set_result(process_time_ns() - self.started)
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or EOFError("the client has left"))


class Idle(Server):
    """Does nothing with what comes after the handshake."""

    def __init__(self, row: Row, done: asyncio.Future[int]) -> None:
        super().__init__(row, done)
        frames = messages(row)[1]
        self.left = row.count // len(frames) * sum(map(len, frames))

    def data_received(self, data: bytes) -> None:
        if not self.started:
            super().data_received(data)
            return
        self.left -= len(data)
        if not self.left:
            self.end()


def reply_size(size: int) -> int:
    return size + (2 if size <= 125 else 4 if size <= 65535 else 10)


def client(sock: socket.socket, row: Row, frames: list[bytes]) -> None:
    """Send everything, as fast as it is taken, and leave when all is answered."""
    sock.sendall(REQUEST)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    reader = threading.Thread(target=read_all, args=[sock])
    if row.name == "echo":
        reader.start()
    if row.name == "by turns":
        for i in range(row.count):
            sock.sendall(frames[i % len(frames)])
            left = reply_size(row.size)
            while left:
                left -= len(sock.recv(left))
    else:
        batch = b"".join(frames)
        for _ in range(row.count // len(frames)):
            sock.sendall(batch)
    if row.name == "echo":
        reader.join()
    else:
        read_all(sock)


def read_all(sock: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):
        while sock.recv(1 << 20):
            pass


def listen(row: Row, folder: str) -> tuple[socket.socket, Any]:
    if row.family == "tcp":
        listener = socket.create_server(("127.0.0.1", 0))
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{folder}/{len(os.listdir(folder))}")
        listener.listen()
    return listener, listener.getsockname()


async def serve(listener: socket.socket, row: Row, kind: type[Server]) -> int:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[int] = loop.create_future()
    conn, _ = listener.accept()
    listener.close()
    await loop.connect_accepted_socket(lambda: kind(row, done), conn)
    return await done


def run(row: Row, frames: list[bytes], name: str, folder: str) -> int:
    """One round of one of them; nanoseconds."""
    listener, address = listen(row, folder)
    child = os.fork()
    if not child:
        try:
            with socket.socket(listener.family) as sock:
                listener.close()
                sock.settimeout(60)
                sock.connect(address)
                client(sock, row, frames)
        finally:
            os._exit(0)
    with WAYS[name]():
        taken = asyncio.run(serve(listener, row, Idle if name == "nothing" else Server))
    os.waitpid(child, 0)
    return taken


def measure(row: Row, rounds: int) -> dict[str, list[int]]:
    """Run each in each round, in turn first; a first round, to warm up, is not counted."""
    check(row)
    frames = messages(row)[1]
    names = [name for name in WAYS if name != "nothing" or not row.echo]
    times: dict[str, list[int]] = {name: [] for name in names}
    gc.collect()
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(-1, rounds):
            names.reverse()
            for name in names:
                taken = run(row, frames, name, folder)
                if round_ >= 0:
                    times[name].append(taken)
    return times


def size_of(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size // KIB} KiB" if size >= KIB else f"{size} B"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    print(
        f"framewire {framewire.__version__} ({framewire.CORE}), wsproto {wsproto.__version__}, "
        f"CPython {platform.python_version()}, processor time of the server in us/message"
    )
    print(f"{'':<15}{'':>8}{'nothing':>10}{'wsproto':>10}{'framewire':>10}{'medians':>9}{'rounds':>9}  bar")
    short = 0
    for row in ROWS:
        times = measure(row, options.rounds)
        stock, ours = times["wsproto"], times["framewire"]
        ratio = median(stock) / median(ours)
        by_round = median(one / other for one, other in zip(stock, ours, strict=True))
        verdict = ""
        if row.bar and framewire.CORE == "c":
            met = ratio >= row.bar
            short += not met
            verdict = f">= {row.bar:g} {'pass' if met else 'SHORT'}"
            if met != (by_round >= row.bar):
                verdict += " (the rounds disagree)"
        numbers = "".join(
            f"{median(times[name]) / row.count / 1000:>10.2f}" if name in times else f"{'':>10}" for name in WAYS
        )
        what = f"{row.family}, {row.name}"
        print(f"{what:<15}{size_of(row.size):>8}{numbers}{ratio:>8.2f}x{by_round:>8.2f}x  {verdict}", flush=True)
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
