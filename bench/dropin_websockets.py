"""Measures ``websockets`` as it is, and on `framewire.dropin.websockets` at its seams, round by round.

    python bench/dropin_websockets.py                   every row, and the bars
    python bench/dropin_websockets.py --rounds 3        a quick look
    FRAMEWIRE_CORE=py python bench/dropin_websockets.py

End to end: servers under asyncio, each in a process of its own, take messages from this process over loopback; what is
told is the processor time of the server for each message. ``receive``: messages come as fast as they are taken.
``echo``: each is sent back before the next one comes. ``deflate``: received, compressed.

Sans-I/O: ``receive_data`` and ``events_received`` of a protocol, in this process, in chunks of 64 KiB or of one frame.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import gc
import os
import platform
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from time import perf_counter_ns, process_time_ns
from typing import Any

import websockets
from websockets.asyncio.server import serve
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, SERVER, Protocol

import framewire
from framewire.dropin import websockets as dropin

KIB = 1024
SEAMS = ["stock", "frame", "protocol"]
MAX_SIZE = 1 << 21


@dataclass(frozen=True)
class Row:
    """What is measured: `count` messages of `size` bytes."""

    name: str
    size: int
    count: int
    run: Callable[[Row, str], int]
    bars: tuple[float, float] | None = None  # frame, protocol


def seam(name: str) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if name == "stock" else dropin.patched(name)  # type: ignore[arg-type]


def payload(size: int) -> bytes:
    """What compresses to about a half."""
    return random.Random(size).randbytes((size + 1) // 2).hex().encode()[:size]


# A server, in a process of its own.


async def handler(connection: Any) -> None:
    """Take what the first message announces; tell how long that took."""
    async for order in connection:
        what, count = order.split()
        start = process_time_ns()
        for _ in range(int(count)):
            message = await connection.recv()
            if what == "echo":
                await connection.send(message)
        await connection.send(str(process_time_ns() - start))


async def serve_forever() -> None:
    deflate = "deflate" if "deflate" in sys.argv else None
    async with serve(handler, "127.0.0.1", 0, compression=deflate, max_size=MAX_SIZE) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        gc.freeze()
        await server.wait_closed()


@contextlib.contextmanager
def servers() -> Iterator[dict[tuple[str, bool], int]]:
    """The ports of servers for each seam, without and with compression."""
    processes = []
    ports = {}
    try:
        for name in SEAMS:
            for deflate in (False, True):
                command = [sys.executable, __file__, "--serve", name, *["deflate"] * deflate]
                process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                processes.append(process)
                assert process.stdout
                ports[name, deflate] = int(process.stdout.readline())
        yield ports
    finally:
        for process in processes:
            process.kill()
            process.communicate()


# A client that costs next to nothing: its frames are made before.


class Peer:
    """A plain socket that has shaken hands."""

    def __init__(self, port: int, deflate: bool) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else ""
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall(
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{extension}\r\n".encode()
        )
        self.file = self.sock.makefile("rb")
        lines = list(iter(self.file.readline, b"\r\n"))
        assert lines[0].startswith(b"HTTP/1.1 101"), lines
        self.protocol = Protocol(CLIENT, max_size=None)
        if deflate:
            from websockets.extensions.permessage_deflate import PerMessageDeflate

            self.protocol.extensions = [PerMessageDeflate(False, False, 12, 12)]

    def encode(self, data: bytes, count: int = 1) -> bytes:
        for _ in range(count):
            self.protocol.send_binary(data)
        return b"".join(self.protocol.data_to_send())

    def take(self) -> bytes:
        """The next message; what the server asks to know that somebody is there is passed over."""
        while True:
            for frame in self.protocol.events_received():
                if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
                    return bytes(frame.data)
            data = self.sock.recv(1 << 18)
            if not data:
                raise EOFError("the server has closed the connection")
            self.protocol.receive_data(data)

    def close(self) -> None:
        self.protocol.send_close()
        self.sock.sendall(b"".join(self.protocol.data_to_send()))
        while self.sock.recv(1 << 10):
            pass

    def order(self, what: str, count: int) -> None:
        self.protocol.send_text(f"{what} {count}".encode())
        self.sock.sendall(b"".join(self.protocol.data_to_send()))


@contextlib.contextmanager
def connected(port: int, deflate: bool) -> Iterator[Peer]:
    peer = Peer(port, deflate)
    with peer.sock, peer.file:
        yield peer
        peer.close()


def end_to_end(ports: dict[tuple[str, bool], int], what: str) -> Callable[[Row, str], int]:
    def run(row: Row, name: str) -> int:
        deflate = what == "deflate"
        body = payload(row.size)
        with connected(ports[name, deflate], deflate) as peer:
            if what == "echo":
                peer.order("echo", row.count)
                frame = peer.encode(body)
                for _ in range(row.count):
                    peer.sock.sendall(frame)
                    assert peer.take() == body
            else:
                peer.order("receive", row.count)
                data = peer.encode(body, row.count)
                peer.sock.sendall(data)
            return int(peer.take())

    return run


def sans_io(side: Any, chunk_size: int) -> Callable[[Row, str], int]:
    """Time receive_data() of a protocol on this `side`, in chunks; 0 is one frame at a time."""

    def run(row: Row, name: str) -> int:
        frame = Frame(Opcode.BINARY, payload(row.size)).serialize(mask=side is SERVER)
        data = frame * row.count
        step = chunk_size or len(frame)
        chunks = [data[at : at + step] for at in range(0, len(data), step)]
        with seam(name):
            protocol = Protocol(side, max_size=MAX_SIZE)
            received = 0
            start = perf_counter_ns()
            for chunk in chunks:
                protocol.receive_data(chunk)
                received += len(protocol.events_received())
            taken = perf_counter_ns() - start
        assert received == row.count
        return taken

    return run


def rows(ports: dict[tuple[str, bool], int]) -> list[Row]:
    receive, echo, deflate = (end_to_end(ports, what) for what in ("receive", "echo", "deflate"))
    return [
        Row("receive", 64, 10000, receive, (1.5, 1.8)),
        Row("receive", KIB, 10000, receive),
        Row("receive", 64 * KIB, 600, receive),
        Row("receive", 1 << 20, 60, receive),
        Row("echo", 64, 2000, echo),
        Row("deflate", 64, 5000, deflate),
        Row("sans-I/O, server", 64, 20000, sans_io(SERVER, 64 * KIB)),
        Row("sans-I/O, server, by frame", 64, 20000, sans_io(SERVER, 0)),
        Row("sans-I/O, server", KIB, 20000, sans_io(SERVER, 64 * KIB)),
        Row("sans-I/O, server", 64 * KIB, 400, sans_io(SERVER, 64 * KIB)),
        Row("sans-I/O, server", 1 << 20, 40, sans_io(SERVER, 64 * KIB)),
        Row("sans-I/O, client", 64, 20000, sans_io(CLIENT, 64 * KIB)),
        Row("sans-I/O, client", 1 << 20, 40, sans_io(CLIENT, 64 * KIB)),
    ]


def measure(row: Row, rounds: int) -> dict[str, list[int]]:
    """Run all in each round, in turn first; a first round, to warm up, is not counted."""
    times: dict[str, list[int]] = {name: [] for name in SEAMS}
    names = list(SEAMS)
    gc.collect()
    gc.disable()
    try:
        for round_ in range(-1, rounds):
            names.append(names.pop(0))
            for name in names:
                taken = row.run(row, name)
                if round_ >= 0:
                    times[name].append(taken)
    finally:
        gc.enable()
    return times


def size_of(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size // KIB} KiB" if size >= KIB else f"{size} B"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        with seam(options.serve[0]):
            asyncio.run(serve_forever())
        return 0
    python = platform.python_version()
    print(f"framewire ({framewire.CORE}), websockets {websockets.__version__}, CPython {python}, us/message")
    print(f"{'':<36}" + "".join(f"{name:>10}" for name in SEAMS) + "   gain, median of rounds; of medians in brackets")
    short = 0
    with servers() as ports:
        for row in rows(ports):
            times = measure(row, options.rounds)
            line = f"{row.name:<27}{size_of(row.size):>8} "
            line += "".join(f"{median(times[name]) / row.count / 1000:>10.2f}" for name in SEAMS) + "  "
            for at, name in enumerate(SEAMS[1:]):
                gain = median(stock / ours for stock, ours in zip(times["stock"], times[name], strict=True))
                line += f" {name} {gain:.2f}x [{median(times['stock']) / median(times[name]):.2f}]"
                if row.bars and framewire.CORE == "c":
                    met = gain >= row.bars[at]
                    short += not met
                    line += f" >= {row.bars[at]:g} {'pass' if met else 'SHORT'}"
            print(line, flush=True)
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
