"""Measures framewire's asyncio driver beside a `readexactly` loop, and prints the ratios next to the bars.

    python bench/aio.py                                   asyncio, and uvloop where it is installed: a minute
    python bench/aio.py --count 50000 --rounds 3          a quick look

The messages come over a loopback socket from another process, which has encoded them beforehand and writes them as fast
as the system takes them. In each round all readers run in turn on the same messages, in another order, each on an event
loop and a connection of its own; each has compared what it received with what was sent before anything is timed.

`drain` receives with no framing at all: how fast the sender is. A reader close to it measures the sender.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import random
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from report import ratios, setting

import framewire
from framewire import aio

READEXACTLY = "readexactly loop"
BARS = {("recv_many", READEXACTLY): 8.0}
"""(top, bottom): how many times the messages per second, at 32 B."""

ECHO_COUNT = 4_000
"""Round trips of one echo, one message in flight."""


def messages(count: int, size: int) -> list[bytes]:
    rand = random.Random(1)
    return [rand.randbytes(size) for _ in range(min(count, 1000))] * -(-count // min(count, 1000))


def send_all(port: int, count: int, size: int) -> None:
    """The other process: for each connection, all messages; one that begins with a byte gets its bytes back."""
    stream = framewire.Encoder("u32be").encode_many(messages(count, size)[:count])
    with socket.create_connection(("127.0.0.1", port)) as control:
        control.sendall(b"r")
        while answer := control.recv(2):
            with socket.create_connection(("127.0.0.1", int.from_bytes(answer, "big"))) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if sock.recv(1) == b"s":
                    sock.sendall(stream)
                    sock.shutdown(socket.SHUT_WR)
                    sock.recv(1)
                else:
                    while chunk := sock.recv(65536):
                        sock.sendall(chunk)


async def by_readexactly(sock: socket.socket, _: list[bytes]) -> list[bytes]:
    reader, writer = await asyncio.open_connection(sock=sock)
    received = []
    try:
        while True:
            header = await reader.readexactly(4)
            received.append(await reader.readexactly(int.from_bytes(header, "big")))
    except asyncio.IncompleteReadError:
        pass
    writer.close()
    return received


async def by_recv_many(sock: socket.socket, _: list[bytes]) -> list[bytes]:
    stream = await aio.from_socket(sock, "u32be")
    received: list[bytes] = []
    while batch := await stream.recv_many():
        received += batch
    stream.abort()
    return received


async def by_recv(sock: socket.socket, _: list[bytes]) -> list[bytes]:
    stream = await aio.from_socket(sock, "u32be")
    received = []
    while (payload := await stream.recv()) is not None:
        received.append(payload)
    stream.abort()
    return received


async def by_iteration(sock: socket.socket, _: list[bytes]) -> list[bytes]:
    stream = await aio.from_socket(sock, "u32be")
    received = [payload async for payload in stream]
    stream.abort()
    return received


class Drain(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self.window = memoryview(bytearray(256 * 1024))
        self.ended = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.window

    def buffer_updated(self, nbytes: int) -> None:
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None)


async def by_drain(sock: socket.socket, sent: list[bytes]) -> list[bytes]:
    _, protocol = await asyncio.get_running_loop().create_connection(Drain, sock=sock)
    await protocol.ended
    return sent


async def echo_by_readexactly(sock: socket.socket, sent: list[bytes]) -> list[bytes]:
    reader, writer = await asyncio.open_connection(sock=sock)
    received = []
    for payload in sent[:ECHO_COUNT]:
        writer.write(len(payload).to_bytes(4, "big") + payload)
        await writer.drain()
        header = await reader.readexactly(4)
        received.append(await reader.readexactly(int.from_bytes(header, "big")))
    writer.close()
    return received


async def echo_by_recv(sock: socket.socket, sent: list[bytes]) -> list[bytes]:
    stream = await aio.from_socket(sock, "u32be")
    received: list[Any] = []
    for payload in sent[:ECHO_COUNT]:
        await stream.send(payload)
        received.append(await stream.recv())
    stream.abort()
    return received


Reader = Callable[[socket.socket, "list[bytes]"], Awaitable["list[bytes]"]]

READERS: dict[str, Reader] = {
    READEXACTLY: by_readexactly,
    "recv_many": by_recv_many,
    "recv": by_recv,
    "async for": by_iteration,
    "drain": by_drain,
    "readexactly echo": echo_by_readexactly,
    "recv echo": echo_by_recv,
}
PAIRS = [("recv_many", READEXACTLY), ("recv", READEXACTLY), ("async for", READEXACTLY)]
PAIRS += [("drain", "recv_many"), ("recv echo", "readexactly echo")]


@contextmanager
def sender(count: int, size: int) -> Iterator[Callable[[], socket.socket]]:
    """The other process, ready; and what makes a connection to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as data:
        process = get_context("spawn").Process(target=send_all, args=(listener.getsockname()[1], count, size))
        process.start()
        control, _ = listener.accept()
        with control:
            control.recv(1)

            def connect() -> socket.socket:
                control.sendall(data.getsockname()[1].to_bytes(2, "big"))
                sock, _ = data.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock

            yield connect
        process.join()


def run(loop_name: str, name: str, sock: socket.socket, sent: list[bytes]) -> tuple[float, list[bytes]]:
    loop = importlib.import_module(loop_name).new_event_loop()

    async def timed() -> tuple[float, list[bytes]]:
        sock.setblocking(True)
        sock.send(b"e" if name.endswith("echo") else b"s")
        start = perf_counter()
        received = await READERS[name](sock, sent)
        return perf_counter() - start, received

    try:
        result: tuple[float, list[bytes]] = loop.run_until_complete(timed())
        loop.run_until_complete(asyncio.sleep(0.001))
        return result
    finally:
        loop.close()


def compare(loop_name: str, count: int, size: int, rounds: int, seed: int) -> dict[str, Any]:
    """All readers on one kind of loop, checked, measured and printed."""
    sent = messages(count, size)[:count]
    times: dict[str, list[float]] = {name: [] for name in READERS}
    names = list(READERS)
    rand = random.Random(seed)
    with sender(count, size) as connect:
        for round_ in range(-1, rounds):
            rand.shuffle(names)
            for name in names:
                seconds, received = run(loop_name, name, connect(), sent)
                if round_ >= 0:
                    times[name].append(seconds)
                elif received != (sent[:ECHO_COUNT] if name.endswith("echo") else sent):
                    raise SystemExit(f"{name} on {loop_name} did not receive what was sent")
                del received
    print(f"\n{loop_name}: {count:,} messages of {size:,} B")
    print(f"  {'':<40}{'us/message':>12}{'least':>9}{'messages/s':>14}")
    rows = {}
    for name, measured in times.items():
        number = min(count, ECHO_COUNT) if name.endswith("echo") else count
        middle = median(measured) / number
        print(f"  {name:<40}{middle * 1e6:>12.3f}{min(measured) / number * 1e6:>9.3f}{1 / middle:>14,.0f}")
        rows[name] = {"seconds": measured, "per_message": middle}
    print(f"  {'':<40}{'medians':>12}{'rounds':>9}{'least':>8}  bar")
    bars = []
    for top, bottom in PAIRS:
        numbers = ratios(times[bottom], times[top])
        bar = BARS.get((top, bottom)) if size == 32 else None
        verdict = "-" if bar is None else "pass" if numbers[0] >= bar else "SHORT"
        wanted = "" if bar is None else f">= {bar:g}"
        print(
            f"  {top + ' / ' + bottom:<40}{numbers[0]:>12.2f}{numbers[1]:>9.2f}{numbers[2]:>8.2f}  {wanted:<8}{verdict}"
        )
        bars.append({"top": top, "bottom": bottom, "ratio": numbers, "bar": bar, "verdict": verdict})
    sys.stdout.flush()
    return {"count": count, "size": size, "readers": rows, "bars": bars}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--count", type=int, default=200_000, help="messages in each run")
    parser.add_argument("--size", type=int, default=32, help="bytes in each")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0, help="of the orders in which the readers run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there as well")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a bar is not met")
    options = parser.parse_args(arguments)
    about = setting(framewire.CORE)
    for key, value in about.items():
        print(f"{key:<10} {value}")
    results: dict[str, Any] = {"setting": about, "loops": {}}
    for loop_name in ("asyncio", "uvloop"):
        if find_spec(loop_name) is None:
            print(f"\n{loop_name} is not installed")
            continue
        results["loops"][loop_name] = compare(loop_name, options.count, options.size, options.rounds, options.seed)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    short = any(row["verdict"] == "SHORT" for result in results["loops"].values() for row in result["bars"])
    return 1 if short and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
