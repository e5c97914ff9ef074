"""Workloads small enough to run under valgrind: for regression.py, which counts what they take.

    PYTHONPATH=src python -S bench/counted.py 1,5 "D1 feed" "loop echo"         # none named: all

Each runs so many rounds, in a process that is forked for it: one start of the interpreter does for all, and none finds
what another has left. A line of JSON from each names its process, and with it callgrind's file, and gives the processor
time of its fastest round in nanoseconds; or it says what went wrong. The first result is compared with what is known,
before the rounds. Nothing is imported but framewire and the standard library; POSIX only.
"""

from __future__ import annotations

import gc
import json
import os
import random
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import cycle
from operator import xor
from time import process_time_ns
from typing import Any

import workloads
from workloads import READ_SIZE, SEED, WORKLOADS, Data, cut

import framewire

Run = Callable[[], Any]

ECHO_COUNT = 10
"""Frames in each batch of an echo."""


class Masked(Data):
    """Binary messages of 64 bytes from a WebSocket client, each with a key of its own (RFC 6455, section 5.2)."""

    def __init__(self, frame_count: int) -> None:
        rng = random.Random(SEED)
        self.payloads = [rng.randbytes(64) for _ in range(frame_count)]
        keys = [rng.randbytes(4) for _ in self.payloads]
        headers = [b"\x82\xc0" + key for key in keys]  # FIN and binary, MASK and the length
        bodies = [bytes(map(xor, payload, cycle(key))) for payload, key in zip(self.payloads, keys, strict=True)]
        self.lay(headers, bodies, 64 * 1024)


# Each maker gives what is run, and the result that it must have.


def feed(name: str, frame_count: int) -> tuple[Run, Any]:
    data = shrunk(name, frame_count)
    return lambda: workloads.feed(framewire.Decoder(WORKLOADS[name].spec), data.chunks), data.payloads


def spans(name: str, frame_count: int) -> tuple[Run, Any]:
    data = shrunk(name, frame_count)
    return lambda: workloads.feed_spans(framewire.Decoder(WORKLOADS[name].spec), data.chunks), frame_count


def window(name: str, frame_count: int) -> tuple[Run, Any]:
    data = shrunk(name, frame_count)
    return lambda: workloads.window(framewire.Decoder(WORKLOADS[name].spec), fill, data.stream), data.payloads


def encode(frame_count: int) -> tuple[Run, Any]:
    data = shrunk("E1", frame_count)
    return lambda: b"".join(map(framewire.Encoder("u32be").encode, data.payloads)), data.stream


def encode_many(frame_count: int) -> tuple[Run, Any]:
    data = shrunk("E1", frame_count)
    return lambda: framewire.Encoder("u32be").encode_many(data.payloads), data.stream


def feed_masked(frame_count: int) -> tuple[Run, Any]:
    from framewire.websocket import MessageDecoder

    data = Masked(frame_count)
    return lambda: workloads.feed(MessageDecoder("server"), data.chunks), data.payloads


def endpoint_echo(frame_count: int) -> tuple[Run, Any]:
    """Below the loop: one read, one `send_many`, one flush for each batch."""
    from framewire._endpoint import Endpoint, Turn, flush_all

    batches = cut(shrunk("D1", frame_count).stream, ECHO_COUNT * 36)
    turn = Turn()
    endpoint = Endpoint(turn, framewire.Decoder("u32be"), framewire.Encoder("u32be"), READ_SIZE)
    sock, peer = socket.socketpair()
    sock.setblocking(False)
    endpoint.attach(sock)

    def run() -> list[bytes]:
        echoes = []
        for batch in batches:
            peer.send(batch)
            endpoint.send_many(endpoint.receive())
            flush_all(turn.take_dirty())
            echoes.append(peer.recv(READ_SIZE))
        return echoes

    return run, batches


def loop_echo(frame_count: int) -> tuple[Run, Any]:
    """Both ends on one loop: a batch is sent when the one before it has come back."""
    from framewire.loop import Channel, Handler, Loop

    payloads = shrunk("D1", frame_count).payloads

    class Echo(Handler):
        def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
            channel.send_many(payloads)

    class Client(Handler):
        def __init__(self) -> None:
            self.echoes: list[bytes] = []

        def connected(self, channel: Channel) -> None:
            self.frames_received(channel, [])

        def frames_received(self, channel: Channel, payloads_: list[bytes]) -> None:
            self.echoes += payloads_
            count = len(self.echoes)
            if count == frame_count:
                channel.loop.stop()
            elif count % ECHO_COUNT == 0:
                channel.send_many(payloads[count : count + ECHO_COUNT])

    def run() -> list[bytes]:
        client = Client()
        with Loop() as loop:
            for sock, handler in zip(socket.socketpair(), [client, Echo()], strict=True):
                loop.attach(sock, handler, "u32be")
            loop.run()
        return client.echoes

    return run, payloads


def shrunk(name: str, frame_count: int) -> Data:
    return Data(replace(WORKLOADS[name], frame_count=frame_count))


def fill(window: memoryview, stream: bytes, pos: int) -> int:
    """What ``recv_into`` does, from a stream that is there already."""
    part = memoryview(stream)[pos : pos + len(window)]
    window[: len(part)] = part
    return len(part)


MAKERS: dict[str, Callable[[], tuple[Run, Any]]] = {
    "D1 feed": partial(feed, "D1", 10_000),
    "D1 spans": partial(spans, "D1", 40_000),
    "D1 window": partial(window, "D1", 10_000),
    "D2 feed": partial(feed, "D2", 10_000),  # ascii10
    "D3 feed": partial(feed, "D3", 5_000),
    "D4 window": partial(window, "D4", 2),
    "D5 feed": partial(feed, "D5", 1_000),
    "D6 feed": partial(feed, "D6", 10_000),  # varint
    "E1 encode": partial(encode, 5_000),
    "E1 encode_many": partial(encode_many, 20_000),
    "W1a feed": partial(feed_masked, 5_000),
    "endpoint echo": partial(endpoint_echo, 5_000),
    "loop echo": partial(loop_echo, 2_000),
}


def measure(name: str, rounds: int) -> dict[str, Any]:
    run, expected = MAKERS[name]()
    if run() != expected:
        raise AssertionError("another result")
    gc.collect()
    gc.disable()
    times = []
    for _ in range(rounds):
        start = process_time_ns()
        run()
        times.append(process_time_ns() - start)
    return {"ns": min(times)}


def main(rounds: str, *names: str) -> None:
    for name in names or MAKERS:
        for count in map(int, rounds.split(",")):
            about = {"name": name, "rounds": count}
            child = os.fork()
            if child:
                _, status = os.waitpid(child, 0)
                if status:
                    print(json.dumps({**about, "error": f"ended by status {status}"}), flush=True)
                continue
            try:
                found = measure(name, count)
            except Exception as error:
                found = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps({**about, "pid": os.getpid(), **found}), flush=True)
            os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
