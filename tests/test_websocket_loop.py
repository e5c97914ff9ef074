"""WebSockets on the event loop: channels of both roles, against the protocol without I/O and against each other.

Where a `Peer` is in the same thread, time passes only where the loop waits (the fixture `timeless`).
"""

from __future__ import annotations

import importlib
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import CORES
from looping import Clock, Echo, Recorder, clock, loop, narrow, reset, run_turns, run_until, settle, timeless
from pairs import over_tcp, over_unix, tls_contexts

from framewire import FrameTooLarge, HeaderError, IncompleteFrame
from framewire.errors import PayloadError
from framewire.loop import Channel, Group, Handler, Loop, State
from framewire.websocket import Close, MessageDecoder, MessageEncoder, Pong
from framewire.websocket.handshake import HandshakeError, HandshakeRefused, Request, Response
from framewire.websocket.loop import Client, Server, WebSocketChannel
from framewire.websocket.protocol import HIGH_MARK, ClientProtocol, Protocol, ServerProtocol

__all__ = ["clock", "loop", "timeless"]

KIB, MIB = 1024, 1024 * 1024
URL = "ws://localhost/chat"
LOCAL = ("127.0.0.1", 0)
MESSAGES = ["hello", b"", "", b"wonderful", "wörld"]


@pytest.fixture(autouse=True, params=CORES)
def _on_each_core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    core = importlib.import_module("framewire._core_c" if request.param == "c" else "framewire._websocket_py")
    if not hasattr(core, "MessageDecoder"):
        pytest.skip("this core has no WebSockets")
    for name in ("MessageDecoder", "MessageEncoder"):
        monkeypatch.setattr(f"framewire.websocket.protocol.{name}", getattr(core, name))
    monkeypatch.setattr("framewire.websocket.loop.MessageEncoder", core.MessageEncoder)


class Peer:
    """The other end: a protocol, and a plain socket that never blocks."""

    def __init__(self, sock: socket.socket, protocol: Protocol) -> None:
        self.sock = sock
        self.protocol = protocol
        self.messages: list[Any] = []
        self.ended = False
        self.reads = True
        sock.setblocking(False)

    def move(self) -> None:
        """Move all bytes that can be moved, and end the stream when it is time."""
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while buffers := self.protocol.data_to_send():
                self.protocol.data_sent(self.sock.send(b"".join(buffers)))
        with suppress(BlockingIOError, ConnectionResetError):
            while self.reads and not self.ended:
                chunk = self.sock.recv(MIB)
                if chunk:
                    self.protocol.receive_data(chunk)
                else:
                    self.ended = True
                    self.protocol.receive_eof()
                self.collect()
        if self.protocol.end_of_sending and self.sock.fileno() >= 0:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)

    def collect(self) -> None:
        with suppress(HeaderError, HandshakeError, IncompleteFrame):
            while messages := self.protocol.messages_received():
                self.messages += messages


class Door(Echo):
    """Echoes, and may be told to do something else at some call."""

    def __init__(self, **calls: Callable[[WebSocketChannel], object]) -> None:
        super().__init__()
        self.calls = calls

    def connected(self, channel: Channel) -> None:
        super().connected(channel)
        self.calls.get("connected", lambda _: None)(channel)  # type: ignore[arg-type]

    def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
        if "frames_received" in self.calls:
            Recorder.frames_received(self, channel, payloads)
            self.calls["frames_received"](channel)  # type: ignore[arg-type]
        else:
            super().frames_received(channel, payloads)


def begin(
    loop: Loop,
    handler: Handler,
    role: str = "server",
    *,
    over: Callable[[], tuple[socket.socket, socket.socket]] = over_unix,
    tight: bool = False,
    peer: Protocol | None = None,
    websocket: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[WebSocketChannel, Peer]:
    """A channel of that role, whose handshake has not begun, and its peer."""
    here, there = over()
    if tight:
        narrow(here, there)
    max_size = options.get("max_size", 16 * MIB)
    if role == "server":
        spec: Any = Server(**(websocket or {}))
        protocol: Protocol = ClientProtocol(URL, max_size=max_size) if peer is None else peer
    else:
        spec = Client(URL, **(websocket or {}))
        protocol = ServerProtocol(max_size=max_size) if peer is None else peer
    channel = loop.attach(here, handler, spec, server_side=role == "server", **options)
    assert isinstance(channel, WebSocketChannel)
    return channel, Peer(there, protocol)


def talk(loop: Loop, peer: Peer, until: Callable[[], object]) -> None:
    """Let both sides move until the condition holds."""
    for _ in range(100_000):
        peer.move()
        settle(loop)
        peer.move()
        if until():
            return
    raise AssertionError("nothing more happens")


def opened(loop: Loop, handler: Handler, role: str = "server", **options: Any) -> tuple[WebSocketChannel, Peer]:
    """A channel that is open, and its peer."""
    channel, peer = begin(loop, handler, role, **options)
    talk(loop, peer, lambda: channel.state == State.OPEN and peer.protocol.opened)
    return channel, peer


def request_bytes() -> bytes:
    return b"".join(ClientProtocol(URL, deflate=False).data_to_send())


def frames(*messages: Any, role: str = "client", close: tuple[Any, ...] | None = None) -> bytes:
    """Frames as a peer of that role sends them."""
    encoder = importlib.import_module("framewire._websocket_py").MessageEncoder(role, max_size=None)
    return encoder.encode_many(messages) + (b"" if close is None else encoder.close(*close))


@pytest.fixture(params=["server", "client"])
def role(request: pytest.FixtureRequest) -> str:
    """Of the channel."""
    return str(request.param)


# Messages


def test_messages_go_both_ways(timeless: Loop, role: str) -> None:
    echo = Echo()
    channel, peer = opened(timeless, echo, role)
    with peer.sock:
        peer.protocol.send_many(MESSAGES)
        talk(timeless, peer, lambda: len(peer.messages) == len(MESSAGES))
        assert peer.messages == MESSAGES
        assert echo.payloads[channel] == MESSAGES
        assert [type(message) for message in echo.received] == [type(message) for message in MESSAGES]
        assert channel.websocket.deflate == peer.protocol.deflate is not None
        for message in MESSAGES:
            channel.send(message)
        talk(timeless, peer, lambda: len(peer.messages) == 2 * len(MESSAGES))
        assert peer.messages == 2 * MESSAGES


def test_two_channels_of_one_loop(loop: Loop) -> None:
    echo, recorder = Echo(), Recorder()
    listener = loop.listen(LOCAL, echo, Server(subprotocols=["chat"]))
    channel = Client(f"ws://127.0.0.1:{listener.address[1]}/", subprotocols=["other", "chat"]).connect(loop, recorder)
    assert not channel.websocket.opened
    run_until(loop, lambda: recorder.payloads)
    assert channel.websocket.subprotocol == "chat"
    channel.send_many(MESSAGES)
    run_until(loop, lambda: len(recorder.received) == len(MESSAGES))
    assert recorder.received == MESSAGES
    channel.close(code=4000, reason="enough")
    run_until(loop, lambda: recorder.errors and echo.errors)
    assert [*recorder.errors.values(), *echo.errors.values()] == [None, None]
    (server,) = echo.channels
    assert isinstance(server, WebSocketChannel)
    assert server.websocket.close_received == Close(4000, "enough")
    assert channel.websocket.close_received == Close(4000)


def test_what_is_sent_before_it_is_open_goes_out_then(timeless: Loop) -> None:
    recorder = Recorder()
    channel, peer = begin(timeless, recorder, "client")
    with peer.sock:
        channel.send("first")
        settle(timeless)  # the request has gone out
        channel.send_many([b"second", "x" * 100_000])
        group = Group(timeless, channel.settings.spec)
        group.add(channel)
        group.send("third")
        channel.send("fourth")
        settle(timeless)
        talk(timeless, peer, lambda: len(peer.messages) == 5)
        assert peer.messages == ["first", b"second", "x" * 100_000, "third", "fourth"]
        channel.send("fifth")
        group.send("sixth")
        channel.send("seventh")
        talk(timeless, peer, lambda: len(peer.messages) == 8)
        assert peer.messages[5:] == ["fifth", "sixth", "seventh"]
        assert channel.queued_size == 0


def test_a_channel_closed_before_it_is_open_sends_what_it_has(loop: Loop) -> None:
    echo, recorder = Echo(), Recorder()
    listener = loop.listen(LOCAL, echo, Server())
    channel = loop.connect(listener.address, recorder, Client(URL))
    channel.send("hello")
    channel.close()
    run_until(loop, lambda: recorder.errors and echo.errors)
    assert echo.received == ["hello"]
    assert recorder.errors == {channel: None}
    assert isinstance(channel, WebSocketChannel)
    assert channel.websocket.close_code == 1000


@pytest.mark.parametrize("size", [100 * KIB, 20 * MIB])
def test_large_messages_over_narrow_sockets(timeless: Loop, role: str, size: int) -> None:
    echo = Echo()
    channel, peer = opened(
        timeless, echo, role, tight=size < MIB, max_size=None, websocket={"deflate": False}, over=over_tcp
    )
    with peer.sock:
        message = bytes(range(256)) * (size // 256)
        peer.protocol.send(message)
        peer.protocol.send(message[: size // 2].decode("latin-1"))
        talk(timeless, peer, lambda: len(peer.messages) == 2)
        assert peer.messages == [message, message[: size // 2].decode("latin-1")]
        assert channel.queued_size == 0


def test_messages_in_parts(timeless: Loop) -> None:
    recorder = Recorder()
    _, peer = opened(timeless, recorder, websocket={"parts": True})
    with peer.sock:
        peer.protocol.send_part("hel")
        talk(timeless, peer, lambda: recorder.received)
        peer.protocol.send_part("lo", final=True)
        talk(timeless, peer, lambda: recorder.received[-1].final)  # type: ignore[attr-defined]
        assert "".join(part.data for part in recorder.received) == "hello"  # type: ignore[attr-defined]


def test_a_pong_goes_before_the_answers_to_what_came_with_the_ping(timeless: Loop) -> None:
    _, peer = opened(timeless, Echo(), websocket={"deflate": False})
    with peer.sock:
        writer, heard = MessageEncoder("client"), MessageDecoder("client")
        peer.sock.sendall(writer.encode_part("hel") + writer.ping(b"?") + writer.encode_part("lo", final=True))
        answers: list[Any] = []

        def listen() -> bool:
            with suppress(BlockingIOError):
                answers.extend(heard.feed(peer.sock.recv(1000)))
            return len(answers) == 2

        peer.reads = False
        talk(timeless, peer, listen)
        assert answers == [Pong(b"?"), "hello"]


def test_messages_are_sent_in_parts(timeless: Loop) -> None:
    channel, peer = opened(timeless, Recorder())
    with peer.sock:
        channel.send_part("hel")
        with pytest.raises(RuntimeError, match="in parts"):
            channel.send("in between")
        with pytest.raises(TypeError, match="binary"):
            channel.send_part(b"lo")
        channel.send_part("lo", final=True)
        channel.send("after it")
        talk(timeless, peer, lambda: len(peer.messages) == 2)
        assert peer.messages == ["hello", "after it"]
        group = Group(timeless, channel.settings.spec)
        group.add(channel)
        with pytest.raises(RuntimeError, match="in no group"):
            channel.send_part("a group could come in between")
        channel.close()
        with pytest.raises(RuntimeError, match="an open channel"):
            channel.send_part("late")


# The opening handshake


def test_a_stream_that_is_cut_anywhere_gives_the_same(timeless: Loop) -> None:
    stream = request_bytes() + frames("hello", b"world", close=(1001, "bye"))
    for cut in range(len(stream) + 1):
        echo = Echo()
        channel, peer = begin(timeless, echo, peer=ClientProtocol(URL, deflate=False))
        with peer.sock:
            for part in (stream[:cut], stream[cut:]):
                peer.sock.send(part)
                settle(timeless)
            answer = peer.sock.recv(MIB)
            assert answer.startswith(b"HTTP/1.1 101 ")
            assert answer.endswith(b"\r\n\r\n" + frames("hello", b"world", role="server", close=(1001, "")))
            assert peer.sock.recv(MIB) == b""  # the server ends first
        settle(timeless)
        assert echo.received == ["hello", b"world"], cut
        assert echo.errors == {channel: None}
        assert echo.names[0] == "connected"
        assert channel.websocket.close_code == 1001


def test_a_stream_that_comes_byte_by_byte(timeless: Loop) -> None:
    echo = Echo()
    channel, peer = begin(timeless, echo)
    with peer.sock:
        for byte in request_bytes() + frames("hello"):
            peer.sock.send(bytes([byte]))
            settle(timeless)
        assert echo.received == ["hello"]
        assert channel.state == State.OPEN


def test_an_answer_that_comes_byte_by_byte(timeless: Loop) -> None:
    recorder = Recorder()
    channel, peer = begin(timeless, recorder, "client")
    with peer.sock:
        settle(timeless)
        peer.protocol.receive_data(peer.sock.recv(MIB))
        for byte in b"".join(peer.protocol.data_to_send()) + frames("hello", role="server"):
            assert not recorder.received
            peer.sock.send(bytes([byte]))
            settle(timeless)
        assert recorder.names == ["connected", "frames_received"]
        assert recorder.received == ["hello"]
        assert channel.state == State.OPEN


def test_messages_that_come_with_the_handshake_wait_for_whoever_pauses(timeless: Loop) -> None:
    door = Door(connected=lambda channel: channel.pause_reading())
    channel, peer = begin(timeless, door)
    with peer.sock:
        peer.sock.send(request_bytes() + frames("hello"))
        settle(timeless)
        assert door.names == ["connected"]
        channel.resume_reading()
        settle(timeless)
        assert door.received == ["hello"]


def test_a_refused_client_hears_why(loop: Loop) -> None:
    recorder = Recorder()
    listener = loop.listen(LOCAL, Echo(), Server(origins={"https://example.org"}))
    channel = loop.connect(listener.address, recorder, Client(URL, origin="https://example.com"))
    channel.send("lost")
    run_until(loop, lambda: recorder.errors)
    error = recorder.errors[channel]
    assert isinstance(error, HandshakeRefused)
    assert error.status == 403
    assert recorder.names == ["disconnected"]
    run_until(loop, lambda: not loop.channels)
    assert loop.stats().refused_count == 1


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"426"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", b"405"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000, b"431"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 200 + b"\r\n\r\n", b"400"),
    ],
)
def test_a_wrong_request_is_answered_and_nobody_hears_of_it(timeless: Loop, request_: bytes, status: bytes) -> None:
    echo = Echo()
    _, peer = begin(timeless, echo)
    with peer.sock:
        peer.sock.send(request_)
        settle(timeless)
        assert peer.sock.recv(MIB).startswith(b"HTTP/1.1 " + status)
        assert peer.sock.recv(MIB) == b""
    settle(timeless)
    assert not echo.events
    assert not timeless.channels


def test_a_handshake_has_its_time(timeless: Loop, clock: Clock, role: str) -> None:
    recorder = Recorder()
    channel, peer = begin(timeless, recorder, role, handshake_timeout=7)
    channel.outgoing = channel._told = role == "client"
    began = clock.now
    with peer.sock:
        peer.sock.send(b"GET /"[: 5 if role == "server" else 0])
        run_until(timeless, lambda: channel.state == State.CLOSED)
        assert began + 7 <= clock.now < began + 7.1
    settle(timeless)
    if role == "client":
        assert isinstance(recorder.errors[channel], TimeoutError)
        assert "no opening handshake in 7 s" in str(recorder.errors[channel])
    else:
        assert not recorder.events


def test_a_peer_that_goes_in_the_handshake(timeless: Loop, role: str) -> None:
    recorder = Recorder()
    channel, peer = begin(timeless, recorder, role)
    channel._told = role == "client"
    peer.sock.send(b"HTTP/1.1 101"[: 12 if role == "client" else 3])
    settle(timeless)
    peer.sock.close()
    settle(timeless)
    assert channel.state == State.CLOSED
    assert recorder.names == ["disconnected"] * (role == "client")


# Pages


PAGES = {"/": b"<!doctype html>" + b"x" * 1000, "/large": b"y" * MIB, "/none": b""}


def page(request: Request) -> Response | None:
    if request.path == "/fails":
        raise LookupError("no such page")
    body = PAGES.get(request.path)
    return None if body is None else Response(200, (("Content-Type", "text/html"),), body)


def test_pages_and_then_a_websocket_on_one_connection(timeless: Loop) -> None:
    echo = Echo()
    channel, peer = begin(timeless, echo, websocket={"respond": page}, over=over_tcp)
    with peer.sock:
        for path, body in PAGES.items():
            peer.sock.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            received = bytearray()
            while not received.endswith(b"\r\n\r\n" + body):
                settle(timeless)
                with suppress(BlockingIOError):
                    received += peer.sock.recv(MIB)
            assert received.startswith(b"HTTP/1.1 200 ")
        assert not echo.events
        talk(timeless, peer, lambda: peer.protocol.opened)
        peer.protocol.send("hello")
        talk(timeless, peer, lambda: peer.messages)
        assert echo.received == ["hello"]
        assert channel.state == State.OPEN


def test_requests_wait_while_nobody_reads_the_answers(timeless: Loop) -> None:
    echo = Echo()
    channel, peer = begin(timeless, echo, websocket={"respond": page}, over=over_tcp)
    request = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with peer.sock:
        peer.sock.send(request * 100)
        settle(timeless)
        assert channel.queued_size < 3 * MIB
        assert channel.websocket.queued_size < 3 * MIB
        answered, size = 0, 0
        while size < 100 * MIB:
            settle(timeless)
            with suppress(BlockingIOError):
                chunk = peer.sock.recv(MIB)
                answered += chunk.count(b"HTTP/1.1 200")
                size += chunk.count(b"y")
        assert answered <= 100
        assert not echo.events
    settle(timeless)
    assert not timeless.channels


def test_who_has_had_its_pages_may_stay_for_a_while(timeless: Loop, clock: Clock) -> None:
    _, peer = begin(timeless, Echo(), websocket={"respond": page}, handshake_timeout=7)
    with peer.sock:
        settle(timeless)
        for _ in range(3):
            clock.now += 5
            peer.sock.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            settle(timeless)
            assert peer.sock.recv(MIB).startswith(b"HTTP/1.1 200 ")
        run_until(timeless, lambda: not timeless.channels)
        assert peer.sock.recv(MIB) == b""


def test_a_page_that_fails_is_logged(timeless: Loop, caplog: pytest.LogCaptureFixture) -> None:
    _, peer = begin(timeless, Echo(), websocket={"respond": page})
    with peer.sock:
        peer.sock.send(b"GET /fails HTTP/1.1\r\nHost: localhost\r\n\r\n")
        settle(timeless)
        assert peer.sock.recv(MIB).startswith(b"HTTP/1.1 500 ")
    settle(timeless)
    assert "respond() failed" in caplog.text
    assert "no such page" in caplog.text


# Closing


@pytest.mark.parametrize("code", [1000, 1001, 4999])
def test_the_channel_closes(timeless: Loop, role: str, code: int) -> None:
    recorder = Recorder()
    channel, peer = opened(timeless, recorder, role)
    with peer.sock:
        channel.send("last")
        channel.close(code=code, reason="because")
        with pytest.raises(RuntimeError, match="after close"):
            channel.send("too late")
        peer.protocol.send("is not heard")
        talk(timeless, peer, lambda: recorder.errors)
        assert peer.messages == ["last"]
        assert peer.protocol.close_received == Close(code, "because")
        assert recorder.errors == {channel: None}
        assert not recorder.received
        assert channel.websocket.close_code == code
        assert peer.ended


@pytest.mark.parametrize("codes", [(), (1000, "done"), (3000, "")])
def test_the_peer_closes(timeless: Loop, role: str, codes: tuple[Any, ...]) -> None:
    echo = Echo()
    channel, peer = opened(timeless, echo, role)
    with peer.sock:
        peer.protocol.send_many(["one", b"two"])
        peer.protocol.close(*(codes or (1005,)))
        talk(timeless, peer, lambda: echo.errors and peer.protocol.close_received)
        assert peer.messages == ["one", b"two"]  # what came before the Close was answered before it
        assert echo.errors == {channel: None}
        assert echo.names[-2:] == ["eof_received", "disconnected"]
        assert channel.websocket.close_code == (codes[0] if codes else 1005)
        assert peer.protocol.close_received == Close(*(codes[:1] or (1005,)))


def test_both_close_at_once(timeless: Loop, role: str) -> None:
    recorder = Recorder()
    channel, peer = opened(timeless, recorder, role)
    with peer.sock:
        channel.close(code=1001)
        peer.protocol.close(3001)
        talk(timeless, peer, lambda: recorder.errors)
        assert channel.websocket.close_code == 3001
        assert peer.protocol.close_code == 1001
        assert recorder.errors == {channel: None}


def test_a_server_ends_the_stream_first(timeless: Loop) -> None:
    channel, peer = opened(timeless, Recorder(), "client")
    with peer.sock:
        peer.protocol.close()
        peer.sock.send(b"".join(peer.protocol.data_to_send()))
        settle(timeless)
        assert peer.sock.recv(MIB)
        with pytest.raises(BlockingIOError):
            peer.sock.recv(MIB)
        assert channel.state == State.DRAINING
        peer.sock.shutdown(socket.SHUT_WR)
        settle(timeless)
        assert channel.state == State.CLOSED


def test_a_close_has_its_time(timeless: Loop, clock: Clock, role: str) -> None:
    recorder = Recorder()
    channel, peer = opened(timeless, recorder, role, close_timeout=3)
    began = clock.now
    with peer.sock:
        channel.close()
        run_until(timeless, lambda: recorder.errors)
        assert began + 3 <= clock.now < began + 3.1
        assert isinstance(recorder.errors[channel], TimeoutError)
        assert "no Close came back in 3 s" in str(recorder.errors[channel])


def test_a_peer_that_does_not_go_is_left(timeless: Loop, clock: Clock, role: str) -> None:
    recorder = Recorder()
    channel, peer = opened(timeless, recorder, role, close_timeout=3)
    began = clock.now
    with peer.sock:
        peer.sock.send(frames(role="client" if role == "server" else "server", close=(1000,)))
        run_until(timeless, lambda: recorder.errors)
        assert began + 3 <= clock.now < began + 3.1
        assert recorder.errors == {channel: None}


def test_a_close_waits_for_what_was_sent_before(timeless: Loop, role: str) -> None:
    recorder = Recorder()
    channel, peer = opened(timeless, recorder, role, tight=True, websocket={"deflate": False})
    group = Group(timeless, channel.settings.spec, limit=10 * MIB)
    group.add(channel)
    with peer.sock:
        channel.send(b"x" * MIB)
        group.send("to all")
        channel.send("to one")
        group.send("to all again")
        channel.close()
        talk(timeless, peer, lambda: recorder.errors)
        assert peer.messages == [b"x" * MIB, "to all", "to one", "to all again"]
        assert peer.protocol.close_code == 1000
        assert recorder.errors == {channel: None}


def test_an_answered_close_waits_for_what_was_sent_before(timeless: Loop, role: str) -> None:
    group: Any = None

    def send(channel: WebSocketChannel) -> None:
        group.send("to all")
        channel.send("x" * MIB)
        group.send("to all again")

    door = Door(frames_received=send)
    channel, peer = opened(timeless, door, role, tight=True)
    group = Group(timeless, channel.settings.spec, limit=10 * MIB)
    group.add(channel)
    with peer.sock:
        peer.protocol.send("go")
        peer.protocol.close()
        talk(timeless, peer, lambda: door.errors)
        assert peer.messages == ["to all", "x" * MIB, "to all again"]
        assert peer.protocol.close_code == 1000
        assert len(group) == 0


def test_a_stream_that_ends_without_a_close(timeless: Loop, role: str) -> None:
    echo = Echo()
    channel, peer = opened(timeless, echo, role)
    with peer.sock:
        peer.protocol.send("hello")
        peer.move()
        peer.sock.shutdown(socket.SHUT_WR)
        settle(timeless)
        assert echo.received == ["hello"]
        assert echo.errors == {channel: None}
        assert channel.websocket.close_code == 1006
        assert peer.sock.recv(MIB)


def test_a_stream_that_is_cut_off_anywhere(timeless: Loop) -> None:
    stream = frames("hello", b"world" * 50)
    for cut in range(len(stream)):
        echo = Echo()
        channel, peer = opened(timeless, echo, over=over_tcp)
        peer.sock.send(stream[:cut])
        settle(timeless)
        peer.move()
        if cut % 2:
            reset(peer.sock)
        else:
            peer.sock.close()
        settle(timeless)
        assert echo.names[-1] == "disconnected"
        assert echo.received == ["hello"] * (cut >= 11)
        if cut % 2:
            assert isinstance(echo.errors[channel], OSError)
        else:
            assert isinstance(echo.errors[channel], IncompleteFrame) == (cut not in (0, 11))


@pytest.mark.parametrize(
    ("wrong", "code", "kind"),
    [
        (b"\x83\x80\0\0\0\0", 1002, HeaderError),
        (b"\x81\x05hello", 1002, HeaderError),
        (b"\x81\x82\0\0\0\0\xff\xff", 1007, PayloadError),
        (b"\x82\xff\0\0\0\0\x10\0\0\0\0\0\0\0", 1009, FrameTooLarge),
    ],
)
def test_what_is_wrong_is_told(timeless: Loop, wrong: bytes, code: int, kind: type[Exception]) -> None:
    echo = Echo()
    channel, peer = opened(timeless, echo, websocket={"deflate": False})
    with peer.sock:
        peer.sock.send(frames("hello") + wrong)
        talk(timeless, peer, lambda: peer.ended)
        assert peer.messages == ["hello"]
        assert peer.protocol.close_code == code
        peer.sock.close()
        settle(timeless)
        assert type(echo.errors[channel]) is kind


def test_a_shutdown_says_that_the_server_goes_away(timeless: Loop) -> None:
    echo = Echo()
    channel, peer = opened(timeless, echo)
    _, other = begin(timeless, echo)
    with peer.sock, other.sock:
        run_turns(timeless)
        timeless.shutdown()
        talk(timeless, peer, lambda: echo.errors)
        assert peer.protocol.close_code == 1001
        assert echo.errors == {channel: None}
        assert other.sock.recv(MIB) == b""
        assert not timeless.channels


def test_a_handler_that_fails_is_an_internal_error(timeless: Loop, caplog: pytest.LogCaptureFixture) -> None:
    def fail(channel: WebSocketChannel) -> None:
        raise LookupError("by design")

    door = Door(frames_received=fail)
    channel, peer = opened(timeless, door)
    with peer.sock:
        peer.protocol.send("hello")
        talk(timeless, peer, lambda: peer.ended)
        assert peer.protocol.close_code == 1011
        assert isinstance(door.errors[channel], LookupError)
    assert "by design" in caplog.text


def test_a_wrong_code_changes_nothing(timeless: Loop) -> None:
    channel, peer = opened(timeless, Recorder())
    with peer.sock:
        with pytest.raises(ValueError, match="1006"):
            channel.close(code=1006)
        with pytest.raises(ValueError, match="124 bytes"):
            channel.close(reason="x" * 124)
        assert channel.state == State.OPEN
        channel.send("hello")
        talk(timeless, peer, lambda: peer.messages)


def test_an_open_channel_is_aborted(timeless: Loop, role: str) -> None:
    recorder = Recorder()
    channel, peer = opened(timeless, recorder, role)
    with peer.sock:
        channel.abort()
        talk(timeless, peer, lambda: peer.ended)
        assert peer.protocol.close_code == 1006
        assert recorder.errors == {channel: None}


def test_what_a_websocket_cannot_do(timeless: Loop) -> None:
    channel, peer = begin(timeless, Recorder())
    with peer.sock:
        with pytest.raises(RuntimeError, match="open channel"):
            channel.ping()
        with pytest.raises(NotImplementedError):
            channel.send_eof()
        channel.abort()


# Deadlines


def test_an_idle_channel_is_closed(timeless: Loop, clock: Clock) -> None:
    recorder = Recorder()
    channel, peer = opened(timeless, recorder, idle_timeout=8)
    began = clock.now
    with peer.sock:
        run_until(timeless, lambda: channel.state > State.OPEN)
        assert began + 8 <= clock.now <= began + 10.1
        talk(timeless, peer, lambda: recorder.errors)
        assert peer.protocol.close_code == 1001
        assert isinstance(recorder.errors[channel], TimeoutError)


def test_a_frame_has_its_time(timeless: Loop) -> None:
    recorder = Recorder()
    channel, peer = opened(timeless, recorder, frame_timeout=3)
    with peer.sock:
        peer.sock.send(frames("whole", "not whole")[:-1])
        run_until(timeless, lambda: channel.state > State.OPEN)
        assert recorder.received == ["whole"]
        talk(timeless, peer, lambda: peer.protocol.close_received)
        assert peer.protocol.close_code == 1001


def test_pings_keep_a_connection_alive(timeless: Loop, clock: Clock) -> None:
    recorder = Recorder()
    channel, peer = opened(timeless, recorder, websocket={"ping_interval": 20, "ping_timeout": 5})
    with peer.sock:
        began = clock.now
        sizes = set()
        while clock.now < began + 110:
            timeless.call_later(1, timeless.stop)
            timeless.run()
            peer.move()
            sizes.add(channel.received_size)
        assert channel.state == State.OPEN
        assert len(sizes) == 6  # five pongs
        peer.reads = False
        run_until(timeless, lambda: channel.state > State.OPEN)
        assert began + 120 <= clock.now < began + 130
        peer.reads = True
        talk(timeless, peer, lambda: recorder.errors)
        assert "nothing came in 5 s after a ping" in str(recorder.errors[channel])
        assert peer.protocol.close_code == 1001


@pytest.mark.parametrize("wrong", [{"ping_interval": 0}, {"ping_timeout": -1}, {"max_head_size": "x"}])
def test_options_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Server(**wrong)
    with pytest.raises((ValueError, TypeError)):
        Client(URL, **wrong)


def test_limits_that_make_no_sense(timeless: Loop) -> None:
    with pytest.raises(ValueError, match="max_size"):
        timeless.listen(LOCAL, Echo(), Server(), max_size=-1)
    with pytest.raises(ValueError, match="http"):
        Client("http://localhost/")
    with pytest.raises(ValueError, match="not a wss: URL"):
        Client(URL).connect(timeless, Echo(), tls=object())  # type: ignore[arg-type]


# Pings


def test_pings_and_their_pongs(timeless: Loop, role: str) -> None:
    recorder = Recorder()
    channel, peer = opened(timeless, recorder, role)
    answered: list[str] = []
    with peer.sock:
        channel.ping(b"one", lambda: answered.append("one"))
        channel.ping(b"two")
        channel.ping(b"three", lambda: answered.append("three"))
        peer.protocol.send("hello")
        talk(timeless, peer, lambda: len(answered) == 2)
        assert answered == ["one", "three"]
        peer.protocol.ping(b"mine")
        talk(timeless, peer, lambda: peer.messages)
        assert [pong.payload for pong in peer.messages] == [b"mine"]
        assert recorder.received == ["hello"]


def test_a_flood_of_pings_is_not_answered_without_end(timeless: Loop) -> None:
    channel, peer = opened(timeless, Recorder())
    encoder = importlib.import_module("framewire._websocket_py").MessageEncoder("client")
    pings = encoder.ping(b"x" * 125) * 2000
    with peer.sock:
        sent = 0
        while not channel._pauses:
            with suppress(BlockingIOError):
                sent += peer.sock.send(pings[sent % len(pings) :])
            settle(timeless)
            assert sent < 10 * MIB
        assert channel.unsent_size + channel.websocket.queued_size < 3 * HIGH_MARK
        peer.sock.setblocking(True)
        peer.sock.send(pings[sent % len(pings) :][: -sent % (6 + 125)])  # the rest of one
        peer.sock.setblocking(False)
        talk(timeless, peer, lambda: not channel.queued_size)
        assert channel._pauses == 0


def test_a_callback_that_fails_ends_its_channel(timeless: Loop, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    channel, peer = opened(timeless, recorder)
    with peer.sock:
        channel.ping(b"", lambda: [][0])
        talk(timeless, peer, lambda: recorder.errors)
        assert isinstance(recorder.errors[channel], IndexError)
        assert peer.protocol.close_code == 1011


# Backpressure and broadcast


def test_reading_pauses_while_the_answers_are_not_read(timeless: Loop, role: str) -> None:
    echo = Echo()
    channel, peer = opened(timeless, echo, role, over=over_tcp, websocket={"deflate": False})
    peer.reads = False
    with peer.sock:
        for _ in range(300):
            peer.protocol.send(b"x" * 100_000)
            peer.move()
            settle(timeless)
        assert channel.queued_size < MIB
        assert channel in echo.paused
        peer.reads = True
        talk(timeless, peer, lambda: len(peer.messages) == 300)
        assert channel not in echo.paused


class Members:
    """Channels of one group, which have a peer each."""

    def __init__(self, loop: Loop, count: int, *, tight: bool = False, **options: Any) -> None:
        self.loop = loop
        self.recorder = Recorder()
        self.group = Group(loop, Server(), **options)
        self.channels, self.peers = [], []
        for _ in range(count):
            channel, peer = opened(loop, self.recorder, tight=tight)
            self.group.add(channel)
            self.channels.append(channel)
            self.peers.append(peer)

    def __enter__(self) -> Members:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for peer in self.peers:
            peer.sock.close()
        settle(self.loop)

    def talk(self, until: Callable[[], object]) -> None:
        for _ in range(10_000):
            for peer in self.peers:
                peer.move()
            settle(self.loop)
            if until():
                return
        raise AssertionError("nothing more happens")


def test_a_group_sends_to_all_but_one(timeless: Loop) -> None:
    with Members(timeless, 3) as members:
        members.group.send("to all")
        members.group.send_many([b"to", "two"], exclude=members.channels[1])
        members.channels[1].send("to one " * 100)
        members.talk(lambda: all(len(peer.messages) > 1 for peer in members.peers))
        assert [peer.messages for peer in members.peers] == [
            ["to all", b"to", "two"],
            ["to all", "to one " * 100],
            ["to all", b"to", "two"],
        ]


def test_a_member_that_falls_behind_is_disconnected(timeless: Loop) -> None:
    with Members(timeless, 2, tight=True, limit=100 * KIB) as members:
        members.peers[0].reads = False
        for _ in range(20):
            members.group.send("x" * 10_000)
            members.talk(lambda: True)
        members.talk(lambda: len(members.peers[1].messages) == 20)
        assert isinstance(members.recorder.errors[members.channels[0]], TimeoutError)
        assert members.group.disconnected_count == 1


def test_a_member_that_falls_behind_misses_the_oldest(timeless: Loop) -> None:
    with Members(timeless, 2, tight=True, policy="drop_oldest", limit=100 * KIB) as members:
        members.peers[0].reads = False
        for i in range(30):
            members.group.send(f"{i:5}" * 2_000)
            members.talk(lambda: True)
        members.peers[0].reads = True
        members.talk(lambda: members.peers[0].messages and members.peers[0].messages[-1].startswith("   29"))
        assert len(members.peers[1].messages) == 30
        count, _ = members.group.dropped(members.channels[0])
        assert count == 30 - len(members.peers[0].messages) > 0


def test_who_speaks_waits_for_a_member_that_falls_behind(timeless: Loop) -> None:
    with Members(timeless, 2, tight=True, policy="wait", limit=100 * KIB) as members:
        slow, speaker = members.peers
        members.recorder.frames_received = lambda channel, messages: members.group.send_many(messages)  # type: ignore[method-assign]
        slow.reads = False
        for _ in range(50):
            speaker.protocol.send("x" * 10_000, compress=False)
            members.talk(lambda: True)
        assert members.group.full
        assert len(speaker.messages) < 50
        slow.reads = True
        members.talk(lambda: len(slow.messages) == len(speaker.messages) == 50)


def test_a_group_takes_its_own_kind_only(timeless: Loop) -> None:
    client, peer = opened(timeless, Recorder(), "client")
    server, other = opened(timeless, Recorder(), "server", websocket={"respond": page})
    with peer.sock, other.sock:
        group = Group(timeless, Server())
        group.add(server)  # other options, the same frames
        with pytest.raises(ValueError, match="the channel has websocket"):
            group.add(client)
        with pytest.raises(ValueError, match="the group sends ascii10"):
            Group(timeless, "ascii10").add(server)
        with pytest.raises(FrameTooLarge):
            Group(timeless, Server(), max_size=3).send("four")
        assert repr(group) == "<Group of 1 websocket>"


def test_compressed_and_broadcast_messages_keep_their_order(timeless: Loop) -> None:
    with Members(timeless, 1, tight=True, limit=10 * MIB) as members:
        (channel,), (peer,) = members.channels, members.peers
        assert channel.websocket.deflate is not None
        expected = []
        for i in range(300):
            (channel.send if i % 3 else members.group.send)(f"{i} " * 500)
            expected.append(f"{i} " * 500)
        members.talk(lambda: len(peer.messages) == 300)
        assert peer.messages == expected


# TLS


@pytest.mark.parametrize("size", [5, 3 * MIB])
def test_over_tls(loop: Loop, certificate: Path, size: int) -> None:
    server, client = tls_contexts(certificate)
    echo, recorder = Echo(), Recorder()
    listener = loop.listen(LOCAL, echo, Server(deflate=False), tls=server)
    client_side = Client(f"wss://localhost:{listener.address[1]}/", deflate=False)
    channel = loop.connect(listener.address, recorder, client_side, tls=client, server_hostname="localhost")
    channel.send("early")  # type: ignore[arg-type]
    run_until(loop, lambda: recorder.received)
    channel.send_many([b"x" * size, "last"])  # type: ignore[list-item]
    run_until(loop, lambda: len(recorder.received) == 3)
    assert recorder.received == ["early", b"x" * size, "last"]
    channel.close()
    run_until(loop, lambda: recorder.errors and echo.errors)
    assert [*recorder.errors.values(), *echo.errors.values()] == [None, None]
    assert isinstance(channel, WebSocketChannel)
    assert channel.websocket.close_code == 1000


def test_a_server_closes_over_tls(loop: Loop, certificate: Path) -> None:
    server, client = tls_contexts(certificate)
    door, recorder = Door(frames_received=lambda channel: channel.close(code=4001)), Recorder()
    listener = loop.listen(LOCAL, door, Server(), tls=server)
    channel = Client(f"wss://localhost:{listener.address[1]}/").connect(loop, recorder, tls=client)
    channel.send("go")
    run_until(loop, lambda: recorder.errors and door.errors)
    assert [*recorder.errors.values(), *door.errors.values()] == [None, None]
    assert channel.websocket.close_code == 4001


def test_the_handshake_after_that_of_tls_has_the_same_time(timeless: Loop, clock: Clock, certificate: Path) -> None:
    server, client = tls_contexts(certificate)
    echo = Echo()
    listener = timeless.listen(LOCAL, echo, Server(), tls=server, handshake_timeout=7)
    recorder = Recorder()
    timeless.connect(listener.address, recorder, "lines", tls=client, server_hostname="localhost")
    run_until(timeless, lambda: recorder.payloads)
    began = clock.now
    run_until(timeless, lambda: recorder.errors or recorder.names[-1] == "eof_received")
    assert began + 5 < clock.now <= began + 7.1
    assert not echo.events


# Many


def test_a_thousand_connections(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "framewire")
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 1000
    if hard != resource.RLIM_INFINITY and hard < 2 * count + 200:
        pytest.skip(f"{hard} open files are too few")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * count + 200), hard))
    try:
        echo, recorder = Echo(), Recorder()
        listener = loop.listen(LOCAL, echo, Server())
        room = Group(loop, Server())
        for _ in range(count):
            loop.connect(listener.address, recorder, Client(URL)).send("hello")  # type: ignore[arg-type]
        run_until(loop, lambda: len(recorder.received) == count)
        assert recorder.received == ["hello"] * count
        for channel in echo.channels:
            room.add(channel)
        room.send("to all")
        run_until(loop, lambda: len(recorder.received) == 2 * count)
        loop.shutdown()
        loop.run()
        assert set(recorder.errors.values()) | set(echo.errors.values()) == {None}
        assert len(recorder.errors) == len(echo.errors) == count
        assert {channel.websocket.close_code for channel in recorder.channels} == {1001}  # type: ignore[attr-defined]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
