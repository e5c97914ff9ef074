"""What the tests of the event loop share: a handler that writes down what it hears, and ways to run a loop."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from selectors import BaseSelector
from typing import Any

import pytest

from framewire._endpoint import new_selector
from framewire.loop import Channel, Handler, Loop, State

LIMIT = 20.0
"""Seconds after which a test that hangs fails. Nothing waits for it to pass."""


class Recorder(Handler):
    """Writes down what it hears, and checks the order in which a handler hears it."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Channel]] = []
        self.payloads: dict[Channel, list[bytes]] = {}
        self.batches: list[list[bytes]] = []
        self.errors: dict[Channel, Exception | None] = {}
        self.paused: set[Channel] = set()
        self.eof_answer: bool | None = None

    def note(self, name: str, channel: Channel) -> None:
        assert channel not in self.errors, f"{name} after disconnected"
        self.events.append((name, channel))

    def connected(self, channel: Channel) -> None:
        assert channel.state == State.OPEN
        assert channel not in self.payloads
        self.note("connected", channel)
        self.payloads[channel] = []

    def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
        assert payloads
        assert channel.state == State.OPEN
        self.note("frames_received", channel)
        self.payloads[channel] += payloads
        self.batches.append(payloads)

    def eof_received(self, channel: Channel) -> bool | None:
        assert channel.state == State.OPEN
        self.note("eof_received", channel)
        return self.eof_answer

    def sending_paused(self, channel: Channel) -> None:
        self.note("sending_paused", channel)
        assert channel not in self.paused
        self.paused.add(channel)

    def sending_resumed(self, channel: Channel) -> None:
        self.note("sending_resumed", channel)
        self.paused.remove(channel)

    def disconnected(self, channel: Channel, error: Exception | None) -> None:
        self.note("disconnected", channel)
        assert channel.state == State.CLOSED
        self.errors[channel] = error

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    @property
    def channels(self) -> list[Channel]:
        return list(self.payloads)

    @property
    def received(self) -> list[bytes]:
        """The payloads of all channels."""
        return [payload for payloads in self.payloads.values() for payload in payloads]


class Echo(Recorder):
    def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
        super().frames_received(channel, payloads)
        channel.send_many(payloads)


class Steered(BaseSelector):
    """A selector that stops its loop when a condition holds; with a clock, time passes only where the loop waits."""

    def __init__(self, inner: BaseSelector | None = None, clock: Clock | None = None) -> None:
        self.inner = new_selector() if inner is None else inner
        self.clock = clock
        self.until: Callable[[], object] = lambda: False
        self.loop: Any = None
        self.deadline = time.monotonic() + LIMIT
        self.waits: list[float | None] = []

    def register(self, fileobj: Any, events: int, data: Any = None) -> Any:
        return self.inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> Any:
        return self.inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> Any:
        return self.inner.modify(fileobj, events, data)

    def get_map(self) -> Any:
        return self.inner.get_map()

    def close(self) -> None:
        self.inner.close()

    def select(self, timeout: float | None = None) -> Any:
        if self.until():
            self.loop.stop()
            return []
        self.waits.append(timeout)
        if self.clock is not None:
            ready = self.inner.select(0)
            if not ready:
                assert timeout is not None, "the loop waits for ever"
                self.clock.now += timeout + 1e-6
            return ready
        left = self.deadline - time.monotonic()
        assert left > 0, "the test hangs"
        if timeout is not None and timeout < left:
            return self.inner.select(timeout)
        ready = self.inner.select(left)
        assert ready, "the loop waits for ever"
        return ready


class Clock:
    """Time as the tests like it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def steered(inner: BaseSelector | None = None, clock: Clock | None = None) -> Loop:
    selector = Steered(inner, clock)
    selector.loop = Loop(selector)
    return selector.loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop for `run_until`, at the end of which nothing may be left."""
    with checked(steered()) as loop:
        yield loop


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("framewire.loop.monotonic", clock)
    return clock


@pytest.fixture
def timeless(clock: Clock) -> Iterator[Loop]:
    """A loop in which time passes only while it waits, and then at once; for peers in the same thread."""
    with checked(steered(None, clock)) as loop:
        yield loop


@contextmanager
def checked(loop: Loop) -> Iterator[Loop]:
    with loop:
        yield loop
    check_empty(loop)


def check_empty(loop: Any) -> None:
    """A closed loop keeps nothing."""
    assert not loop.channels
    assert not loop._connectors
    assert not loop._listeners
    assert not loop._timers


def run_until(loop: Any, condition: Callable[[], object]) -> None:
    """Make turns until the condition holds."""
    selector = loop._selector
    selector.until = condition
    selector.deadline = time.monotonic() + LIMIT
    try:
        loop.run()
    finally:
        selector.until = lambda: False


def run_turns(loop: Any, count: int = 1) -> None:
    """Make some turns, and do not wait."""
    for _ in range(count):
        loop.call_soon(loop.stop)
        loop._selector.deadline = time.monotonic() + LIMIT
        loop.run()


def settle(loop: Any) -> None:
    """Make turns as long as there is something to do at once."""
    deadline = time.monotonic() + LIMIT
    while loop._soon or loop.turn.dirty or loop.turn.over or loop._groups or loop._selector.inner.select(0):
        assert time.monotonic() < deadline, "the loop is always busy"
        run_turns(loop)


def recv_exactly(sock: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        chunk = sock.recv(min(size - len(received), 65536))
        assert chunk, f"the stream ended {size - len(received)} bytes too early"
        received += chunk
    return bytes(received)


def recv_all(sock: socket.socket) -> bytes:
    received = bytearray()
    while chunk := sock.recv(65536):
        received += chunk
    return bytes(received)


def reset(sock: socket.socket) -> None:
    """Close a TCP socket with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def narrow(*socks: socket.socket) -> None:
    """Let these sockets hold little, so that they would block soon."""
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
