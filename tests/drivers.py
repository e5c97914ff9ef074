"""What every driver must do, over every transport: one list of checks, and an adapter for each driver.

A check gets a `Scene`: the driver on one end of a connection, and on the other a peer that is a plain socket (or one of
the standard library's TLS sockets) which does what the check says, byte for byte.
"""

from __future__ import annotations

import asyncio
import importlib
import random
import select
import socket
import ssl
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, Protocol

import pytest
from looping import LIMIT, check_empty, narrow, recv_all, recv_exactly, reset, run_until, settle, steered

from framewire import FrameTooLarge, HeaderError, IncompleteFrame, aio
from framewire._core_py import Encoder
from framewire.blocking import FramedSocket
from framewire.loop import Channel, Handler, State

PAYLOADS = [b"hello", b"", b"wonderful", b"world"]
STREAM = b"5         hello0         9         wonderful5         world"


def frames(payloads: list[bytes]) -> bytes:
    return Encoder("ascii10", max_size=None).encode_many(payloads)


class Driver(Protocol):
    """A connection of the driver under test, for one thread. Nothing of it waits longer than `LIMIT` seconds."""

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext | None, **options: Any) -> None:
        """Use a connected socket; over TLS make the handshake, as a client of ``localhost``."""

    def send(self, payload: bytes) -> None: ...
    def send_many(self, payloads: list[bytes]) -> None: ...
    def flush(self) -> None:
        """Wait until all is sent."""

    def poll(self) -> list[bytes]:
        """Take the payloads that have come, without waiting."""

    def recv(self) -> bytes | None:
        """The next payload; None at the end; raise the error of the stream."""

    def send_eof(self) -> None: ...
    def close(self) -> None:
        """Close in order: what was sent arrives."""


class BlockingDriver:
    def __init__(self, sock: socket.socket, tls: ssl.SSLContext | None, **options: Any) -> None:
        if tls is not None:
            sock.settimeout(LIMIT)
            sock = tls.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)
        self.framed = FramedSocket(sock, "ascii10", timeout=LIMIT, **options)
        self.send, self.send_many, self.recv = self.framed.send, self.framed.send_many, self.framed.recv
        self.flush, self.send_eof = self.framed.flush, self.framed.send_eof

    def poll(self) -> list[bytes]:
        try:
            return self.framed.recv_many(timeout=0)
        except TimeoutError:
            return []

    def close(self) -> None:
        self.framed.close()


class LoopDriver(Handler):
    """One channel of a loop, which runs whenever something is asked of it."""

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext | None, **options: Any) -> None:
        self.loop = steered()
        self.payloads: deque[bytes] = deque()
        self.open = self.over = False
        self.error: Exception | None = None
        self.channel = self.loop.attach(
            sock,
            self,
            "ascii10",
            tls=tls,
            server_side=False,
            server_hostname="localhost",
            close_timeout=LIMIT,
            **options,
        )
        run_until(self.loop, lambda: self.open or self.over or self.channel.state == State.CLOSED)
        assert self.open

    def connected(self, channel: Channel) -> None:
        self.open = True

    def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
        assert payloads
        assert not self.over
        self.payloads += payloads

    def eof_received(self, channel: Channel) -> bool:
        self.over = True
        return True

    def disconnected(self, channel: Channel, error: Exception | None) -> None:
        self.over = True
        self.error = error

    def send(self, payload: bytes) -> None:
        self.channel.send(payload)
        settle(self.loop)

    def send_many(self, payloads: list[bytes]) -> None:
        self.channel.send_many(payloads)
        settle(self.loop)

    def flush(self) -> None:
        run_until(self.loop, lambda: not self.channel.queued_size)
        if self.error is not None:
            raise self.error

    def poll(self) -> list[bytes]:
        settle(self.loop)
        payloads = list(self.payloads)
        self.payloads.clear()
        return payloads

    def recv(self) -> bytes | None:
        run_until(self.loop, lambda: self.payloads or self.over or self.channel.decoder.error)
        if self.payloads:
            return self.payloads.popleft()
        error = self.channel.decoder.error or self.error
        if error is not None:
            raise error
        return None

    def send_eof(self) -> None:
        self.channel.send_eof()
        settle(self.loop)

    def close(self) -> None:
        if self.channel.state == State.CLOSED:
            self.loop.close()
            return
        self.channel.close()
        run_until(self.loop, lambda: self.channel.state == State.CLOSED)
        self.loop.close()
        check_empty(self.loop)


class AioDriver:
    """One stream on an event loop in a thread of its own: over TLS its transport has bytes left to send when the stream
    has none, and nothing says so; only a loop that runs sends them."""

    new_loop: Callable[[], asyncio.AbstractEventLoop] = staticmethod(asyncio.new_event_loop)

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext | None, **options: Any) -> None:
        self.loop = self.new_loop()
        self.complaints: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        hostname = None if tls is None else "localhost"
        try:
            self.stream = self.run(aio.from_socket(sock, "ascii10", tls=tls, server_hostname=hostname, **options))
        except BaseException:
            self.stop()
            raise

    def run(self, call: Awaitable[Any]) -> Any:
        async def limited() -> Any:
            return await asyncio.wait_for(call, LIMIT)

        return asyncio.run_coroutine_threadsafe(limited(), self.loop).result()

    def send(self, payload: bytes) -> None:
        self.run(self.stream.send(payload))

    def send_many(self, payloads: list[bytes]) -> None:
        self.run(self.stream.send_many(payloads))

    def flush(self) -> None:
        async def flush() -> None:
            await self.stream.flush()
            while self.stream.queued_size:
                await asyncio.sleep(0.001)
            await self.stream.flush()

        self.run(flush())

    def poll(self) -> list[bytes]:
        try:
            return self.run(self.stream.recv_many(timeout=0))
        except TimeoutError:
            return []

    def recv(self) -> bytes | None:
        return self.run(self.stream.recv())

    def send_eof(self) -> None:
        async def send_eof() -> None:
            self.stream.send_eof()

        self.run(send_eof())

    def close(self) -> None:
        if self.loop.is_closed():
            return
        try:
            self.run(self.stream.close(timeout=LIMIT))
        finally:
            self.stop()
        assert not self.complaints

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(LIMIT)
        assert not self.thread.is_alive()
        self.loop.close()


class UvloopDriver(AioDriver):
    @staticmethod
    def new_loop() -> asyncio.AbstractEventLoop:
        return importlib.import_module("uvloop").new_event_loop()


class Scene:
    """The driver, and its peer. `peer` is the socket to read and write on, `wire` the one below."""

    def __init__(
        self,
        driver: Callable[..., Any],
        pair: tuple[socket.socket, socket.socket],
        contexts: tuple[ssl.SSLContext, ssl.SSLContext] | None,
        *,
        tight: bool,
        options: dict[str, Any],
    ) -> None:
        here, self.wire = pair
        self.tls = contexts is not None
        if tight:
            narrow(*pair)
        self.wire.settimeout(LIMIT)
        self.peer: Any = self.wire
        if contexts is None:
            self.driver: Driver = driver(here, None, **options)
        else:
            shake = self.aside(self._shake, contexts[0])
            self.driver = driver(here, contexts[1], **options)
            shake()

    def _shake(self, context: ssl.SSLContext) -> None:
        self.peer = self.wire = context.wrap_socket(self.wire, server_side=True, suppress_ragged_eofs=False)

    def aside(self, call: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        """Call in another thread; what is returned awaits the result."""
        result: list[Any] = []
        failure: list[BaseException] = []

        def work() -> None:
            try:
                result.append(call(*args))
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()

        def wait() -> Any:
            thread.join(LIMIT)
            assert not thread.is_alive(), "the peer hangs"
            if failure:
                raise failure[0]
            return result[0]

        return wait

    def end(self) -> None:
        """The peer will send no more."""
        if self.tls:
            self.peer.setblocking(False)
            with suppress(ssl.SSLWantReadError):  # close_notify has gone out; its answer is another matter
                while not self._unwrap():
                    select.select([], [self.peer], [], LIMIT)
            self.peer.settimeout(LIMIT)
        else:
            self.peer.shutdown(socket.SHUT_WR)

    def _unwrap(self) -> bool:
        try:
            self.peer.unwrap()
        except ssl.SSLWantWriteError:
            return False
        return True

    def received(self) -> list[bytes]:
        """All payloads up to the end."""
        return list(iter(self.driver.recv, None))

    def close(self) -> None:
        self.wire.close()
        with suppress(OSError):
            self.driver.close()


Begin = Callable[..., Scene]
"""Makes a scene: ``begin(tight=False, **options of the driver)``."""


@pytest.fixture
def scene(request: pytest.FixtureRequest, driver: Any, transport: Any) -> Iterator[Begin]:
    """For a module with the fixtures `driver`, an adapter, and `transport`: what makes a pair, and contexts or None."""
    pair, contexts = transport
    opened: list[Scene] = []

    def make(*, tight: bool = False, **options: Any) -> Scene:
        opened.append(Scene(driver, pair(), contexts, tight=tight, options=options))
        return opened[-1]

    yield make
    for scene in opened:
        scene.close()


# The checks.

CHECKS: list[Callable[[Begin], None]] = []


def check(function: Callable[[Begin], None]) -> Callable[[Begin], None]:
    CHECKS.append(function)
    return function


@check
def payloads_come_in_order_and_batches_come_whole(begin: Begin) -> None:
    scene = begin()
    scene.peer.sendall(STREAM * 500)
    assert [scene.driver.recv() for _ in range(2000)] == PAYLOADS * 500


@check
def one_byte_at_a_time_gives_the_same_payloads(begin: Begin) -> None:
    scene = begin()
    payloads = []
    for i in range(len(STREAM)):
        scene.peer.sendall(STREAM[i : i + 1])
        payloads += scene.driver.poll()
    scene.end()
    assert payloads + scene.received() == PAYLOADS


@check
def half_a_frame_is_no_payload(begin: Begin) -> None:
    scene = begin()
    scene.peer.sendall(STREAM[:12])
    assert scene.driver.poll() == []
    scene.peer.sendall(STREAM[12:20])
    assert scene.driver.recv() == b"hello"
    assert scene.driver.poll() == []
    scene.peer.sendall(STREAM[20:])
    assert [scene.driver.recv() for _ in range(3)] == PAYLOADS[1:]


@check
def empty_and_large_payloads_come_whole(begin: Begin) -> None:
    scene = begin()
    payloads = [b"", random.Random(1).randbytes(1 << 20), b"", bytes(65536), b"x" * 65535, b"y" * 300_000, b""]
    sent = scene.aside(scene.peer.sendall, frames(payloads))
    assert [scene.driver.recv() for _ in payloads] == payloads
    sent()


@check
def empty_and_large_payloads_arrive_whole(begin: Begin) -> None:
    scene = begin()
    payloads = [b"", random.Random(2).randbytes(1 << 20), b"", bytes(65536), b"x" * 65535, b"y" * 300_000, b""]
    expected = frames(payloads)
    received = scene.aside(recv_exactly, scene.peer, len(expected))
    for payload in payloads:
        scene.driver.send(payload)
    scene.driver.flush()
    assert received() == expected


@check
def many_payloads_go_out_in_order_or_none_does(begin: Begin) -> None:
    scene = begin(max_size=100)
    scene.driver.send(b"first")
    with pytest.raises(FrameTooLarge):
        scene.driver.send_many([b"fine", b"x" * 101, b"fine"])
    scene.driver.send_many(PAYLOADS)
    scene.driver.send(b"last")
    expected = frames([b"first", *PAYLOADS, b"last"])
    assert recv_exactly(scene.peer, len(expected)) == expected


@check
def a_socket_that_takes_little_gets_everything_in_order(begin: Begin) -> None:
    scene = begin(tight=True)
    rand = random.Random(3)
    payloads = [rand.randbytes(rand.choice([0, 1, 100, 5000, 70_000])) for _ in range(100)]
    expected = frames(payloads)

    def dribble_in() -> bytes:
        received = bytearray()
        while len(received) < len(expected):
            received += scene.peer.recv(rand.choice([1, 100, 4096, 16384]))
        return bytes(received)

    received = scene.aside(dribble_in)
    for payload in payloads[:50]:
        scene.driver.send(payload)
    scene.driver.send_many(payloads[50:])
    scene.driver.flush()
    assert received() == expected


@check
def a_peer_that_dribbles_is_understood(begin: Begin) -> None:
    scene = begin(tight=True)
    rand = random.Random(4)
    payloads = [rand.randbytes(rand.choice([0, 1, 100, 5000, 70_000])) for _ in range(30)]
    stream = frames(payloads)

    def dribble_out() -> None:
        at = 0
        while at < len(stream):
            size = rand.choice([1, 9, 11, 1000, 30_000])
            scene.peer.sendall(stream[at : at + size])
            at += size
        scene.end()

    sent = scene.aside(dribble_out)
    assert scene.received() == payloads
    sent()


@check
def both_directions_flow_at_once(begin: Begin) -> None:
    scene = begin()
    payloads = [bytes([i]) * 1000 for i in range(200)]

    def echo() -> None:
        for payload in payloads:
            frame = frames([payload])
            assert recv_exactly(scene.peer, len(frame)) == frame
            scene.peer.sendall(frame)

    echoed = scene.aside(echo)
    received: list[Any] = []
    for i, payload in enumerate(payloads):
        scene.driver.send(payload)
        received += scene.driver.poll()
        if i - len(received) > 10:
            received.append(scene.driver.recv())
    received += [scene.driver.recv() for _ in payloads[len(received) :]]
    assert received == payloads
    echoed()


@check
def errors_wait_their_turn(begin: Begin) -> None:
    scene = begin()
    scene.peer.sendall(STREAM + b"GET / HTTP/1.1\r\n\r\n" + STREAM)
    assert [scene.driver.recv() for _ in PAYLOADS] == PAYLOADS
    with pytest.raises(HeaderError) as first:
        scene.driver.recv()
    assert first.value.offset == len(STREAM)
    with pytest.raises(HeaderError) as again:
        scene.driver.recv()
    assert again.value is first.value


@check
def a_frame_past_the_limit_is_refused_at_its_header(begin: Begin) -> None:
    scene = begin(max_size=1000)
    scene.peer.sendall(frames([b"x" * 1000, b""]) + b"1001      ")
    assert scene.driver.recv() == b"x" * 1000
    assert scene.driver.recv() == b""
    with pytest.raises(FrameTooLarge) as refused:
        scene.driver.recv()
    assert (refused.value.size, refused.value.limit) == (1001, 1000)


@check
def the_end_comes_after_all_payloads_and_stays(begin: Begin) -> None:
    scene = begin()
    scene.peer.sendall(STREAM)
    scene.end()
    assert scene.received() == PAYLOADS
    assert scene.driver.recv() is None


@check
def an_end_in_a_header_is_an_error(begin: Begin) -> None:
    scene = begin()
    scene.peer.sendall(STREAM + b"5    ")
    scene.end()
    assert [scene.driver.recv() for _ in PAYLOADS] == PAYLOADS
    with pytest.raises(IncompleteFrame) as cut:
        scene.driver.recv()
    assert cut.value.part == "header"


@check
def an_end_in_a_payload_is_an_error(begin: Begin) -> None:
    scene = begin()
    scene.peer.sendall(STREAM + b"5         hel")
    scene.end()
    assert [scene.driver.recv() for _ in PAYLOADS] == PAYLOADS
    with pytest.raises(IncompleteFrame) as cut:
        scene.driver.recv()
    assert (cut.value.part, cut.value.missing) == ("payload", 2)


@check
def after_the_peers_end_the_other_half_goes_on(begin: Begin) -> None:
    scene = begin()
    if scene.tls:
        pytest.skip("the peer of the standard library reads nothing after its own end")
    scene.peer.sendall(STREAM)
    scene.end()
    assert scene.received() == PAYLOADS
    scene.driver.send_many(PAYLOADS)
    scene.driver.flush()
    assert recv_exactly(scene.peer, len(STREAM)) == STREAM


@check
def after_our_end_the_peers_half_goes_on(begin: Begin) -> None:
    scene = begin()
    if scene.tls:
        with pytest.raises(NotImplementedError):
            scene.driver.send_eof()
        scene.driver.send(b"hello")
        return
    scene.driver.send_many(PAYLOADS)
    scene.driver.send_eof()
    with pytest.raises(RuntimeError):
        scene.driver.send(b"too late")
    with pytest.raises(RuntimeError):
        scene.driver.send_many([b"too late"])
    assert recv_all(scene.peer) == STREAM
    scene.peer.sendall(STREAM)
    scene.end()
    assert scene.received() == PAYLOADS


@check
def a_reset_in_a_frame_is_an_error_after_the_payloads(begin: Begin) -> None:
    scene = begin()
    scene.driver.send(b"what the peer never reads")
    scene.driver.flush()
    scene.peer.sendall(STREAM + b"5         hel")
    assert [scene.driver.recv() for _ in PAYLOADS] == PAYLOADS
    assert scene.driver.poll() == []
    reset(scene.peer)
    with pytest.raises(OSError, match=r".") as lost:
        scene.driver.recv()
    assert not isinstance(lost.value, TimeoutError)
    with pytest.raises(OSError, match=r"."):
        scene.driver.recv()


@check
def a_peer_that_is_gone_ends_sending(begin: Begin) -> None:
    scene = begin()
    reset(scene.peer)

    def send() -> None:
        for _ in range(100):
            scene.driver.send(b"x" * 100_000)
            scene.driver.flush()

    with pytest.raises(OSError, match=r".") as lost:
        send()
    assert not isinstance(lost.value, TimeoutError)


@check
def closing_loses_nothing_that_was_sent(begin: Begin) -> None:
    scene = begin(tight=True)
    payloads = [bytes([i]) * 10_000 for i in range(100)]
    expected = frames(payloads)

    def read() -> bytes:
        received = bytearray(recv_exactly(scene.peer, 20_000))
        with suppress(OSError):
            scene.peer.sendall(STREAM)
        received += recv_all(scene.peer)
        scene.peer.close()
        return bytes(received)

    received = scene.aside(read)
    scene.driver.send_many(payloads)
    scene.driver.recv()  # the peer's own data is not left to make a reset of the end
    scene.driver.poll()
    scene.driver.close()
    assert received() == expected
