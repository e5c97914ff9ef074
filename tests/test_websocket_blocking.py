"""WebSockets over blocking sockets: the client, connections, and the server with a thread for each."""

from __future__ import annotations

import importlib
import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from looping import LIMIT
from pairs import over_tcp, over_tls, over_unix, tls_contexts

from framewire import FrameTooLarge, HeaderError, IncompleteFrame
from framewire.blocking import ThreadServer
from framewire.websocket import Close, Deflate, MessageDecoder, MessageEncoder, Part, Ping, Pong
from framewire.websocket.blocking import WebSocket, connect, serve
from framewire.websocket.handshake import HandshakeError, HandshakeRefused, IncompleteHandshake, Request, Response
from framewire.websocket.protocol import ClientProtocol, ServerProtocol, State

LOCAL = ("127.0.0.1", 0)
MESSAGES = ["hello", b"", "w\u00f6rld", b"x" * 70_000, "y" * 70_000]
PAGE = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"


@pytest.fixture(autouse=True)
def _on_each_core(core: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = core if core.__name__.endswith("_c") else importlib.import_module("framewire._websocket_py")
    monkeypatch.setattr("framewire.websocket.protocol.MessageDecoder", codec.MessageDecoder)
    monkeypatch.setattr("framewire.websocket.protocol.MessageEncoder", codec.MessageEncoder)


@contextmanager
def aside(call: Callable[[], object]) -> Iterator[None]:
    """Run it in another thread meanwhile; what it raises is raised here."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(LIMIT)
        assert not thread.is_alive()
    if failed:
        raise failed[0]


@pytest.fixture(params=["unix", "tcp", "tls"])
def socks(request: pytest.FixtureRequest) -> tuple[socket.socket, socket.socket]:
    if request.param == "tls":
        return over_tls(request.getfixturevalue("certificate"))
    return over_unix() if request.param == "unix" else over_tcp()


def pair(socks: tuple[socket.socket, socket.socket], **options: Any) -> tuple[WebSocket, WebSocket]:
    """A client and a server over these sockets, open."""
    both = {name: options.pop(name) for name in ("max_size", "parts", "deflate") if name in options}
    client = WebSocket(socks[0], ClientProtocol("ws://example.org/chat", **both), timeout=LIMIT)
    server = WebSocket(socks[1], ServerProtocol(**both, **options), timeout=LIMIT)
    with aside(lambda: server._open(None)):
        assert client._open(None)
    return client, server


class Peer:
    """The other end of a WebSocket, which says what it likes, byte by byte."""

    def __init__(self, role: str = "client", **options: Any) -> None:
        self.role = role
        ours, self.sock = over_tcp()
        self.sock.settimeout(LIMIT)
        protocols = {
            "client": ClientProtocol("ws://example.org", deflate=False),
            "server": ServerProtocol(deflate=False),
        }
        protocol = protocols.pop(role)
        (other,) = protocols.values()
        if role == "server":
            protocol, other = other, protocol
            self.websocket = WebSocket(ours, protocol, timeout=LIMIT, **options)
        else:
            self.websocket = WebSocket(ours, other, timeout=LIMIT, **options)
            other = protocol
        with aside(lambda: self.websocket._open(None)):
            while not other.opened:
                for buffer in other.data_to_send():
                    self.sock.sendall(buffer)
                    other.data_sent(len(buffer))
                if not other.opened:
                    other.receive_data(self.sock.recv(1000))
            for buffer in other.data_to_send():
                self.sock.sendall(buffer)
        self.encoder = MessageEncoder(role)
        self.decoder = MessageDecoder(role)
        self.seen: list[Any] = []

    def send(self, *messages: Any) -> None:
        self.sock.sendall(b"".join(map(self.encoded, messages)))

    def encoded(self, message: Any) -> bytes:
        if isinstance(message, Close):
            return self.encoder.close(message.code, message.reason)
        if isinstance(message, (Ping, Pong)):
            return getattr(self.encoder, type(message).__name__.lower())(message.payload)
        return self.encoder.encode(message)

    def next(self) -> Any:
        """The next frame that comes."""
        while not self.seen:
            data = self.sock.recv(100_000)
            assert data, "the end, instead of a frame"
            self.seen += self.decoder.feed(data)
        return self.seen.pop(0)

    def ended(self) -> bool:
        """Wait for the end of the stream, after what was taken with `next`."""
        return not self.seen and not self.sock.recv(100_000)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.sock.close()
        self.websocket.close(timeout=0)


BOTH = pytest.mark.parametrize("role", ["client", "server"])
"""Whose part the peer plays."""


# A connection


def test_messages_go_both_ways(socks: Any) -> None:
    client, server = pair(socks)
    for here, there in ((client, server), (server, client)):
        with aside(lambda here=here: [here.send(message) for message in MESSAGES]):
            assert [there.recv() for _ in MESSAGES] == MESSAGES
        with aside(
            lambda here=here: (here.send_many(MESSAGES), here.send_part("pa"), here.send_part("rts", final=True))
        ):
            received: list[Any] = []
            while len(received) <= len(MESSAGES):
                received += there.recv_many()
        assert received == [*MESSAGES, "parts"]
    with aside(client.close):
        assert list(server) == []
        server.close()
    assert (client.close_code, server.close_code) == (1000, 1000)


def test_twenty_megabytes_go_both_ways_at_once(socks: Any) -> None:
    client, server = pair(socks, max_size=None, deflate=False)
    data = os.urandom(20_000_000)

    def other() -> None:
        with aside(lambda: server.send(data)):
            assert server.recv() == data
        server.close()

    with aside(other):
        with aside(lambda: client.send(data)):
            assert client.recv() == data
        assert client.recv() is None
        client.close()


def test_both_know_what_was_agreed_on() -> None:
    client, server = pair(over_unix(), deflate=Deflate(server_max_window_bits=10))
    assert client.deflate == server.deflate == Deflate(server_max_window_bits=10)
    for one in (client, server):
        assert one.request is not None
        assert one.request.target == "/chat"
        assert one.response is not None
        assert one.response.status == 101
        assert (one.subprotocol, one.close_code, one.close_reason) == (None, None, "")
        assert one.protocol.state is State.OPEN
        assert repr(one).startswith("<WebSocket open over ")
    with aside(client.close):
        server.close()


@BOTH
def test_a_timeout_anywhere_in_the_stream_loses_no_byte(role: str) -> None:
    with Peer(role) as peer:
        data = b"".join(map(peer.encoded, ["hello", b"world"]))
        messages = []
        for i in range(len(data)):
            with pytest.raises(TimeoutError):
                peer.websocket.recv(timeout=0)
            peer.sock.sendall(data[i : i + 1])
            if i == len(peer.encoded("hello")) - 1 or i == len(data) - 1:
                messages.append(peer.websocket.recv())
        assert messages == ["hello", b"world"]


def test_parts_come_as_they_arrive() -> None:
    client, server = pair(over_unix(), parts=True)
    client.send_part(b"one")
    assert server.recv() == Part(b"one", False)
    client.send_part(b"two", final=True)
    parts = [server.recv()]
    while not parts[-1].final:
        parts.append(server.recv())
    assert b"".join(part.data for part in parts) == b"two"
    with aside(client.close):
        server.close()


@BOTH
def test_a_ping_is_answered_by_who_receives(role: str) -> None:
    with Peer(role) as peer, aside(lambda: peer.websocket.recv() == "end" or pytest.fail("something else")):
        peer.send(Ping(b"1"))
        assert peer.next() == Pong(b"1")
        peer.send(Ping(b"2"), Ping(b"3"))
        assert (peer.next(), peer.next()) == (Pong(b"2"), Pong(b"3"))
        peer.send("end")


@BOTH
def test_pongs_come_to_who_has_sent_the_pings(role: str) -> None:
    with Peer(role) as peer:
        pings = [peer.websocket.ping(payload) for payload in (b"1", b"2", b"3")]
        assert [peer.next() for _ in pings] == [Ping(b"1"), Ping(b"2"), Ping(b"3")]
        peer.send(Pong(b"unasked"), Pong(b"2"), "text")
        assert peer.websocket.recv() == "text"
        assert [ping.is_set() for ping in pings] == [True, True, False]
        peer.send(Pong(b"3"), Close())
        assert peer.websocket.recv() is None
        assert pings[2].is_set()


def test_messages_of_many_threads_stay_whole() -> None:
    client, server = pair(over_unix())

    def send(number: int) -> None:
        for i in range(100):
            client.send(f"{number} {i} " + "x" * 1000)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    got = [server.recv().split() for _ in range(400)]  # type: ignore[union-attr]
    for thread in threads:
        thread.join(LIMIT)
    for number in range(4):
        assert [int(words[1]) for words in got if int(words[0]) == number] == [*range(100)]
    with aside(client.close):
        server.close()


def test_what_a_timeout_left_unsent_goes_out_later() -> None:
    client, server = pair(over_unix(), deflate=False)
    data = bytes(5_000_000)
    with pytest.raises(TimeoutError):
        client.send(data, timeout=0.01)
    assert client.queued_size
    with aside(client.flush):
        assert server.recv() == data
    with aside(client.close):
        server.close()


def test_who_receives_sends_what_was_left_unsent() -> None:
    client, server = pair(over_unix(), deflate=False)
    data = bytes(5_000_000)
    with pytest.raises(TimeoutError):
        client.send(data, timeout=0.01)

    def other() -> None:
        assert server.recv() == data
        server.send("it has come")

    with aside(other):
        assert client.recv() == "it has come"
    with aside(client.close):
        server.close()


def test_a_message_that_is_refused_is_not_sent() -> None:
    client, server = pair(over_unix(), max_size=10)
    with pytest.raises(FrameTooLarge):
        client.send("x" * 11)
    with pytest.raises(ValueError, match="125"):
        client.ping(bytes(126))
    with pytest.raises(ValueError, match=r"."):
        client.close(999)
    client.send("good")
    assert server.recv() == "good"
    with aside(client.close):
        server.close()


# The end


@BOTH
def test_closing_waits_for_the_peers_close(role: str) -> None:
    with Peer(role) as peer, aside(lambda: peer.websocket.close(4001, "enough")):
        assert peer.next() == Close(4001, "enough")
        peer.send("crossing", Close(4002))
        if role == "server":
            peer.sock.close()  # the server ends first: RFC 6455, section 7.1.1
        else:
            assert peer.ended()
            peer.sock.close()
    assert peer.websocket.close_code == 4002
    assert peer.websocket.fileno() == -1
    peer.websocket.close()
    with pytest.raises(RuntimeError, match="after close"):
        peer.websocket.send("x")


@BOTH
def test_the_peers_close_is_answered_and_ends_the_messages(role: str) -> None:
    with Peer(role) as peer:
        peer.send("last", Close(1001, "good night"))
        assert list(peer.websocket) == ["last"]
        assert peer.next() == Close(1001)
        assert (peer.websocket.close_code, peer.websocket.close_reason) == (1001, "good night")
        assert peer.websocket.recv() is None
        assert peer.websocket.recv_many() == []
        with pytest.raises(BrokenPipeError, match="closed by the peer: 1001"):
            peer.websocket.send("x")


def test_a_message_before_the_peers_close_can_be_answered() -> None:
    with Peer() as peer:
        peer.send("question", Close())
        for message in peer.websocket:
            peer.websocket.send(f"answer to {message}")
        assert (peer.next(), peer.next()) == ("answer to question", Close())


@BOTH
def test_after_a_shutdown_messages_still_come(role: str) -> None:
    with Peer(role) as peer:
        peer.websocket.shutdown(1000, "no more from here")
        assert peer.next() == Close(1000, "no more from here")
        with pytest.raises(RuntimeError, match="after close"):
            peer.websocket.send("x")
        peer.send("more", "from there", Close())
        assert list(peer.websocket) == ["more", "from there"]
        assert peer.websocket.close_code == 1005


@BOTH
def test_an_end_without_a_close_is_told(role: str) -> None:
    with Peer(role) as peer:
        peer.send("last")
        peer.sock.shutdown(socket.SHUT_WR)
        assert list(peer.websocket) == ["last"]
        assert peer.websocket.close_code == 1006


@BOTH
def test_an_end_in_a_frame_is_an_error(role: str) -> None:
    with Peer(role) as peer:
        peer.send("first")
        peer.sock.sendall(peer.encoded("hello")[:-1])
        peer.sock.shutdown(socket.SHUT_WR)
        assert peer.websocket.recv() == "first"
        for _ in range(2):
            with pytest.raises(IncompleteFrame):
                peer.websocket.recv()


@BOTH
def test_what_is_wrong_is_told_to_the_peer_in_its_turn(role: str) -> None:
    with Peer(role) as peer:
        peer.send("first")
        peer.sock.sendall(b"\xff\xff")
        assert peer.websocket.recv() == "first"
        for _ in range(2):
            with pytest.raises(HeaderError):
                peer.websocket.recv()
        assert peer.next().code == 1002
        with aside(peer.websocket.close):
            peer.sock.sendall(bytes(100_000))  # what makes no reset
            assert peer.ended()
            peer.sock.close()


@BOTH
def test_a_peer_that_does_not_answer_is_left_after_the_timeout(role: str) -> None:
    with Peer(role) as peer:
        peer.websocket.close(timeout=0.01)
        assert peer.next() == Close(1000)
        assert peer.websocket.fileno() == -1


@BOTH
def test_a_peer_that_reads_nothing_is_left_after_the_timeout(role: str) -> None:
    with Peer(role) as peer:
        with pytest.raises(TimeoutError):
            peer.websocket.send(bytes(16_000_000), timeout=0.01)
        peer.websocket.close(timeout=0.01)
        assert peer.websocket.fileno() == -1


def test_closing_takes_what_the_peer_must_get_rid_of_first() -> None:
    """Both have more to send than the sockets hold: who only sent would wait for ever."""
    client, server = pair(over_tcp(), deflate=False)
    data = bytes(5_000_000)
    for one in (client, server):
        with pytest.raises(TimeoutError):
            one.send(data, timeout=0.01)
    with aside(lambda: server.close(timeout=LIMIT)):
        client.close(timeout=LIMIT)
    assert (client.close_code, server.close_code) == (1000, 1000)


def test_closing_lets_another_thread_receive_the_end() -> None:
    client, server = pair(over_tcp())
    received: list[Any] = []
    began = threading.Event()

    def receive() -> None:
        began.set()
        received.extend(client)

    with aside(receive):
        assert began.wait(LIMIT)
        with aside(lambda: client.close(timeout=LIMIT)):
            server.send("before the end")
            assert server.recv() is None
            server.close()
    assert client.close_code == 1000
    assert received in ([], ["before the end"])  # whoever reads it: closing drops it


@BOTH
def test_closing_wakes_a_thread_that_waits_in_vain(role: str) -> None:
    with Peer(role) as peer:
        waits = threading.Event()
        fill = peer.websocket._fill

        def tell_and_fill(deadline: float | None) -> None:
            waits.set()
            fill(deadline)

        peer.websocket._fill = tell_and_fill  # type: ignore[method-assign]
        ends: list[object] = []
        with aside(lambda: ends.append(peer.websocket.recv())):
            assert waits.wait(LIMIT)
            peer.websocket.close(timeout=0.01)
        assert ends == [None]
        assert peer.websocket.close_code == 1006


def test_a_context_tells_how_it_ended() -> None:
    with Peer("server") as peer:
        with aside(lambda: (peer.next(), peer.send(Close()), peer.sock.close())), peer.websocket:
            pass
        assert peer.websocket.protocol.close_sent == Close(1000)
    with Peer("server") as peer:
        with (
            aside(lambda: (peer.next(), peer.send(Close()), peer.sock.close())),
            pytest.raises(ZeroDivisionError),
            peer.websocket,
        ):
            raise ZeroDivisionError
        assert peer.websocket.protocol.close_sent == Close(1011)


# A server


@contextmanager
def serving(
    handler: Callable[[WebSocket], object], address: Any = LOCAL, **options: Any
) -> Iterator[ThreadServer[Any]]:
    with serve(handler, address, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown(LIMIT)
            thread.join(LIMIT)
            assert not thread.is_alive()
            assert server.connection_count == 0


def to(server: ThreadServer[Any], path: str = "/", **options: Any) -> WebSocket:
    host, port = server.address
    return connect(f"ws://{host}:{port}{path}", timeout=LIMIT, **options)


def said(sock: socket.socket, data: bytes) -> bytes:
    """Say that, and return all that comes up to the end."""
    with sock:
        sock.settimeout(LIMIT)
        sock.sendall(data)
        received = b""
        with suppress(ConnectionError):
            while chunk := sock.recv(1000):
                received += chunk
        return received


def echo(client: WebSocket) -> None:
    for message in client:
        client.send(message)  # type: ignore[arg-type]


def test_each_connection_is_served_while_the_others_wait() -> None:
    with serving(echo) as server, ExitStack() as stack:
        clients = [stack.enter_context(to(server)) for _ in range(20)]
        for client in clients:
            client.send_many(["one", b"two"])
        for client in reversed(clients):
            assert [client.recv(), client.recv()] == ["one", b"two"]


def test_when_a_handler_returns_the_server_closes() -> None:
    with serving(lambda client: client.send("bye")) as server:
        client = to(server)
        assert list(client) == ["bye"]
        assert client.close_code == 1000
        client.close()


def test_what_was_sent_last_arrives_though_the_peer_goes_on_sending() -> None:
    def brief(client: WebSocket) -> None:
        client.recv()
        client.send(bytes(1_000_000), compress=False)

    with serving(brief) as server, to(server) as client:
        client.send_many([b"x" * 1000] * 100)
        assert client.recv() == bytes(1_000_000)
        assert client.recv() is None


def test_what_a_handler_raises_ends_its_own_connection(caplog: pytest.LogCaptureFixture) -> None:
    def fragile(client: WebSocket) -> None:
        for message in client:
            if message == "break":
                raise ZeroDivisionError("broken")
            client.send(message)  # type: ignore[arg-type]

    with caplog.at_level(logging.INFO, "framewire"), serving(fragile) as server:
        with to(server) as one, to(server) as other:
            one.send("break")
            assert one.recv() is None
            assert one.close_code == 1011
            other.send("still here")
            assert other.recv() == "still here"
        assert b"400 Bad Request" in said(socket.create_connection(server.address), b"\x16\x03\x01\x00\x00")
        assert b"426 Upgrade Required" in said(socket.create_connection(server.address), PAGE)
    (failed,) = [record for record in caplog.records if record.exc_info]
    assert "the handler failed" in failed.message
    assert "looks like a TLS hello" in caplog.text
    assert "not for a WebSocket" in caplog.text


def test_an_error_of_the_peer_is_told_to_it_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "framewire"), serving(echo) as server:
        client = to(server, deflate=False)
        client.sock.send(b"\xff\xff")
        assert client.recv() is None
        assert client.close_code == 1002
        client.close()
    assert "HeaderError" in caplog.text
    assert not [record for record in caplog.records if record.exc_info]


def test_pages_are_served_on_the_same_port() -> None:
    def respond(request: Request) -> Response | None:
        if request.values("Upgrade"):
            return None
        return Response(200 if request.path == "/" else 404, (("Content-Type", "text/html"),), request.path.encode())

    with serving(echo, respond=respond) as server:
        last = b"GET /missing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        answers = said(socket.create_connection(server.address), PAGE * 2 + last)
        assert answers.count(b"HTTP/1.1 200 OK\r\n") == 2
        assert answers.endswith(b"\r\n\r\n/missing")
        with to(server, "/chat") as client:
            client.send("hello")
            assert client.recv() == "hello"


def test_pages_go_out_to_who_has_asked_for_many_and_ended() -> None:
    with serving(echo, respond=lambda request: Response(200, (), bytes(500_000))) as server:
        with socket.create_connection(server.address, LIMIT) as sock:
            sock.sendall(PAGE * 20)
            sock.shutdown(socket.SHUT_WR)
            size = 0
            while chunk := sock.recv(100_000):
                size += len(chunk)
        assert size > 20 * 500_000


def test_who_has_come_for_a_page_is_let_go_without_an_error(caplog: pytest.LogCaptureFixture) -> None:
    handled: list[object] = []
    with (
        caplog.at_level(logging.INFO, "framewire"),
        serving(handled.append, respond=lambda request: Response(200, (), b"hello"), handshake_timeout=0.05) as server,
    ):
        assert said(socket.create_connection(server.address), PAGE).endswith(b"hello")
        assert said(socket.create_connection(server.address), b"") == b""
        assert said(socket.create_connection(server.address), PAGE[:10]) == b""
    assert not handled
    ends = [record.message for record in caplog.records if "disconnected" in record.message]
    assert sum("TimeoutError" in message for message in ends) == 1


def test_an_application_can_refuse() -> None:
    def respond(request: Request) -> Response | None:
        return None if request.path == "/chat" else Response(404, (("X", "y"),), b"no such room")

    with serving(echo, respond=respond, subprotocols=["a"]) as server:
        with pytest.raises(HandshakeRefused) as refused:
            to(server, "/nowhere")
        assert (refused.value.status, refused.value.body) == (404, b"no such room")
        assert ("x", "y") in refused.value.headers
        with pytest.raises(HandshakeRefused, match="403 Forbidden"):
            to(server, "/chat", origin="http://evil.example")
        with to(server, "/chat", subprotocols=["b", "a"]) as client:
            assert client.subprotocol == "a"


def test_a_shutdown_says_that_the_server_goes_away() -> None:
    came = threading.Event()
    received: list[list[Any]] = []
    failed: list[Exception] = []

    def collect(client: WebSocket) -> None:
        came.set()
        received.append(list(client))
        try:
            client.send("too late")
        except OSError as error:
            failed.append(error)

    with serving(collect) as server, to(server) as client:
        client.send_many(["one", "two"])
        assert came.wait(LIMIT)
        with aside(lambda: server.shutdown(LIMIT)):
            assert list(client) == []
            assert client.close_code == 1001
            client.close()
    assert received == [["one", "two"]]
    assert isinstance(failed[0], BrokenPipeError)


def test_a_shutdown_ends_a_handler_that_only_sends(caplog: pytest.LogCaptureFixture) -> None:
    came = threading.Event()

    def stream(client: WebSocket) -> None:
        while True:
            client.send("tick")
            came.set()

    with caplog.at_level(logging.INFO, "framewire"), serving(stream) as server, to(server) as client:
        assert came.wait(LIMIT)
        with aside(lambda: server.shutdown(LIMIT)):
            assert set(client) == {"tick"}
            assert client.close_code == 1001
            client.close()
    assert "the server is shutting down" in caplog.text
    assert not [record for record in caplog.records if record.exc_info]


def test_a_handler_that_does_not_end_has_its_connection_taken_away() -> None:
    came = threading.Event()

    def stubborn(client: WebSocket) -> None:
        came.set()
        client.recv()

    with serving(stubborn) as server, Stranger(server) as stranger:
        assert came.wait(LIMIT)
        server.shutdown(0.05)
        stranger.read_to_the_end()


class Stranger:
    """A client that opens a connection, and then neither answers nor goes."""

    def __init__(self, server: ThreadServer[Any]) -> None:
        self.sock = socket.create_connection(server.address, LIMIT)
        self.sock.sendall(b"".join(ClientProtocol("ws://example.org").data_to_send()))
        assert self.sock.recv(1000).startswith(b"HTTP/1.1 101 ")

    def read_to_the_end(self) -> None:
        while self.sock.recv(1000):
            pass

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.sock.close()


def test_a_shutdown_ends_connections_that_are_not_open_yet() -> None:
    with serving(echo) as server, socket.create_connection(server.address, LIMIT) as sock:
        sock.sendall(PAGE[:10])
        while not server.connection_count:
            pass
        with aside(lambda: server.shutdown(0.05)):
            assert said(sock, b"") == b""


def test_over_tls(certificate: Path) -> None:
    theirs, ours = tls_contexts(certificate)
    with serving(echo, tls=theirs) as server:
        port = server.address[1]
        with connect(f"wss://localhost:{port}/", address=server.address, tls=ours, timeout=LIMIT) as client:
            client.send_many(MESSAGES)
            assert [client.recv() for _ in MESSAGES] == MESSAGES
        assert client.close_code == 1000
        with connect(f"wss://localhost:{port}/", address=server.address, tls=ours, timeout=LIMIT) as client:
            client.shutdown()
            assert list(client) == []
            client.sock.settimeout(LIMIT)
            assert client.sock.recv(1) == b""  # an end that is meant, by the rules of TLS
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(f"wss://localhost:{port}/", address=server.address, timeout=LIMIT)
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(f"wss://127.0.0.1:{port}/", tls=ours, timeout=LIMIT)
        with pytest.raises((HandshakeError, OSError)):
            to(server)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
def test_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving(echo, path), connect("ws://localhost/", address=path, timeout=LIMIT) as client:
        client.send("hello")
        assert client.recv() == "hello"


def test_wrong_arguments_are_told() -> None:
    for options in ({"max_connections": 0}, {"max_size": -1}, {"origins": "http://a"}):
        with pytest.raises((ValueError, TypeError)):
            serve(echo, LOCAL, **options)
    with pytest.raises(ValueError, match="http:"):
        connect("http://example.org")
    with pytest.raises(ValueError, match="wss:"):
        connect("ws://example.org", tls=ssl.create_default_context())
    with socket.socket() as sock, pytest.raises(ValueError, match="read_size"):
        WebSocket(sock, ServerProtocol(), read_size=0)


# A client without luck


@contextmanager
def answering(answer: bytes | None) -> Iterator[str]:
    """A server that gives the same answer to whatever comes, or none and stays."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            sock, _ = listening.accept()
            with sock:
                sock.settimeout(LIMIT)
                sock.recv(1000)
                if answer is not None:
                    sock.sendall(answer)
                    sock.shutdown(socket.SHUT_WR)
                while sock.recv(1000):
                    pass

        with aside(run):
            yield "ws://{}:{}/".format(*listening.getsockname())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", IncompleteHandshake),
        (b"HTTP/1.1 101", IncompleteHandshake),
        (b"SSH-2.0-OpenSSH\r\n\r\n", HandshakeError),
        (b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", HandshakeError),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", HandshakeRefused),
        (None, TimeoutError),
    ],
)
def test_without_a_right_answer_there_is_no_connection(answer: bytes | None, error: type[Exception]) -> None:
    with answering(answer) as url, pytest.raises(error):
        connect(url, timeout=LIMIT if answer is not None else 0.05)


def test_where_nobody_listens_there_is_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        connect(f"ws://127.0.0.1:{port}", timeout=LIMIT)


@pytest.mark.parametrize("together", [True, False])
def test_what_is_wrong_behind_the_answer_is_for_recv(together: bool) -> None:
    """Whether it comes in the same read as the answer or not."""
    ours, theirs = over_tcp()
    protocol = ServerProtocol(deflate=False)

    def answer() -> None:
        while not protocol.opened:
            protocol.receive_data(theirs.recv(1000))
        head, bad = b"".join(protocol.data_to_send()), b"\xc1"
        if together:
            theirs.sendall(head + bad)
        else:
            theirs.sendall(head)
            opened.wait(LIMIT)
            theirs.sendall(bad)

    opened = threading.Event()
    client = WebSocket(ours, ClientProtocol("ws://example.org", deflate=False), timeout=LIMIT)
    with theirs, aside(answer):
        assert client._open(None)
        opened.set()
        with pytest.raises(HeaderError, match="reserved bits 100"):
            client.recv()
    client.close()
