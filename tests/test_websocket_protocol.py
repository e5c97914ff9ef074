"""A WebSocket connection without I/O: messages, pings and ends in their order, wherever the stream is cut."""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import pytest
from harness import size_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framewire import FrameTooLarge, HeaderError, IncompleteFrame
from framewire.connection import LARGE_SIZE, MAX_BUFFERS, SINK_SIZE
from framewire.errors import PayloadError
from framewire.websocket import Close, Deflate, MessageDecoder, MessageEncoder, Part, Ping, Pong
from framewire.websocket import protocol as module
from framewire.websocket.handshake import HandshakeError, HandshakeRefused, IncompleteHandshake, Request, Response
from framewire.websocket.protocol import HIGH_MARK, MAX_PINGS, ClientProtocol, Protocol, ServerProtocol, State

URL = "ws://example.org/chat"
PAGE = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
MESSAGES = ["hello", b"", "", b"wonderful", "w\u00f6rld", "x" * 300]
LARGE = bytes(range(256)) * (LARGE_SIZE // 256)


@pytest.fixture(autouse=True)
def _on_each_core(core: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = core if core.__name__.endswith("_c") else importlib.import_module("framewire._websocket_py")
    monkeypatch.setattr(module, "MessageDecoder", codec.MessageDecoder)
    monkeypatch.setattr(module, "MessageEncoder", codec.MessageEncoder)
    monkeypatch.setattr("framewire.websocket.handshake.new_key", lambda: "dGhlIHNhbXBsZSBub25jZQ==")  # one for all


def drain(protocol: Protocol, *, at_most: int = sys.maxsize) -> bytes:
    """Send all that is queued, as a socket that takes `at_most` bytes at a time would."""
    sent = bytearray()
    while buffers := protocol.data_to_send():
        data = b"".join(buffers)[:at_most]
        sent += data
        protocol.data_sent(len(data))
    return bytes(sent)


def collect(protocol: Protocol) -> list[Any]:
    """All messages up to now."""
    messages = []
    while some := protocol.messages_received():
        messages += some
    return messages


def move(here: Protocol, there: Protocol) -> list[Any]:
    """What one sends reaches the other; return the messages."""
    there.receive_data(drain(here))
    return collect(there)


def pair(*, client: dict[str, Any] | None = None, **options: Any) -> tuple[ClientProtocol, ServerProtocol]:
    """An open connection."""
    here, there = ClientProtocol(URL, **(client or {})), ServerProtocol(**options)
    assert move(here, there) == []
    assert move(there, here) == []
    assert here.state is there.state is State.OPEN
    return here, there


def plain(**options: Any) -> tuple[ClientProtocol, ServerProtocol]:
    """An open connection whose messages are not compressed."""
    return pair(deflate=False, **options)


def frames(role: str, *messages: Any) -> bytes:
    """What `role` sends for these, uncompressed."""
    encoder = MessageEncoder(role)
    data = b""
    for message in messages:
        if isinstance(message, (Ping, Pong)):
            data += getattr(encoder, type(message).__name__.lower())(message.payload)
        elif isinstance(message, Close):
            data += encoder.close(message.code, message.reason)
        else:
            data += encoder.encode(message)
    return data


def seen(role: str, data: bytes) -> list[Any]:
    """What `role` sees in uncompressed frames."""
    return MessageDecoder(role).feed(data)


def fed(protocol: Protocol, *chunks: bytes) -> tuple[list[Any], Exception | None]:
    """The messages in these chunks, and the error after them."""
    messages = []
    try:
        for chunk in chunks:
            protocol.receive_data(chunk)
            while some := protocol.messages_received():
                messages += some
    except (HeaderError, PayloadError, FrameTooLarge, HandshakeError) as error:
        return messages, error
    return messages, None


def tell(protocol: Protocol) -> tuple[Any, ...]:
    """All that can be seen of it."""
    error = protocol.error
    return (
        protocol.state,
        protocol.opened,
        protocol.close_received,
        protocol.close_sent,
        protocol.close_code,
        protocol.end_of_sending,
        protocol.closed,
        protocol.queued_size,
        type(error),
        getattr(error, "offset", None),
        getattr(error, "reason", None),
    )


def ways_to_send(protocol: Protocol) -> list[Callable[[], object]]:
    return [
        lambda: protocol.send("x"),
        lambda: protocol.send_many([]),
        lambda: protocol.send_part("x"),
        lambda: protocol.write_frames(b"x"),
        lambda: protocol.ping(),
    ]


def other(protocol: Protocol) -> str:
    return "server" if isinstance(protocol, ClientProtocol) else "client"


# The opening


def test_both_know_what_was_agreed_on() -> None:
    client, server = pair(client={"subprotocols": ["b", "a"]}, subprotocols=["a", "b"])
    assert client.subprotocol == server.subprotocol == "a"
    assert client.deflate == server.deflate == Deflate()
    assert client.request is not None
    assert server.request is not None
    assert client.request.target == server.request.target == "/chat"
    assert client.response is not None
    assert client.response.status == 101
    assert (client.opened, client.error, client.close_code) == (True, None, None)


CONVERSATION = [*MESSAGES, Ping(b"1"), "behind", Ping(b"2"), Close(1001, "going")]


def request() -> bytes:
    return drain(ClientProtocol(URL, deflate=False))


def answer(**options: Any) -> bytes:
    server = ServerProtocol(**options)
    server.receive_data(request())
    return drain(server)


def of_a_client() -> bytes:
    encoder = MessageEncoder("client", mask_key=lambda: b"\x01\x02\x03\x04")
    data = encoder.encode_many(MESSAGES) + encoder.ping(b"1") + encoder.encode("behind")
    return request() + data + encoder.ping(b"2") + encoder.close(1001, "going")


def of_a_server() -> bytes:
    return answer() + frames("server", *CONVERSATION)


SIDES = [
    pytest.param(of_a_client, ServerProtocol, id="server"),
    pytest.param(of_a_server, lambda: ClientProtocol(URL, deflate=False, mask_key=lambda: b"abcd"), id="client"),
]


@pytest.mark.parametrize(("stream", "make"), SIDES)
def test_a_conversation_is_the_same_wherever_it_is_cut(
    stream: Callable[[], bytes], make: Callable[[], Protocol]
) -> None:
    data = stream()

    def run(chunks: Iterable[bytes]) -> tuple[Any, ...]:
        protocol = make()
        messages, error = fed(protocol, *chunks)
        assert error is None
        return messages, drain(protocol), tell(protocol)

    whole = run([data])
    assert whole[0] == [*MESSAGES, "behind"]
    assert whole[2][:4] == (State.CLOSED, True, Close(1001, "going"), Close(1001))
    for cut in range(1, len(data)):
        assert run([data[:cut], data[cut:]]) == whole, cut
    assert run([data[i : i + 1] for i in range(len(data))]) == whole


@pytest.mark.parametrize("hint", [1, 2, 7, 16, -1])
@pytest.mark.parametrize(("stream", "make"), SIDES)
def test_a_conversation_is_the_same_through_lent_windows(
    stream: Callable[[], bytes], make: Callable[[], Protocol], hint: int
) -> None:
    protocol, rest, messages = make(), stream(), []
    while rest:
        window = protocol.get_buffer(hint)
        n = min(len(window), len(rest))
        window[:n] = rest[:n]
        protocol.buffer_updated(n)
        rest = rest[n:]
        messages += collect(protocol)
    assert messages == [*MESSAGES, "behind"]
    assert protocol.close_received == Close(1001, "going")


@pytest.mark.parametrize("make", [ServerProtocol, lambda: ClientProtocol(URL)])
def test_a_window_holds_what_it_holds(make: Callable[[], Protocol]) -> None:
    protocol = make()
    with pytest.raises(RuntimeError):
        protocol.buffer_updated(0)
    window = protocol.get_buffer(5)
    assert len(window) == 5
    for n in (-1, 6):
        with pytest.raises(ValueError, match=f"n={n}"):
            protocol.buffer_updated(n)
    window[:] = b"GET /"
    protocol.buffer_updated(4)
    assert protocol.buffered_size == 4 or protocol.error is not None  # a client sees that it is no answer
    with pytest.raises(RuntimeError):
        protocol.buffer_updated(1)


@pytest.mark.parametrize("status", [400, 403, 426])
def test_a_refusal_is_told_to_both(status: int) -> None:
    client = ClientProtocol(URL, origin="http://evil.example" if status == 403 else None)
    server = ServerProtocol()
    data = drain(client)
    if status != 403:
        data = data.replace(b"Upgrade: websocket\r\n" if status == 426 else b"Connection: Upgrade\r\n", b"X: y\r\n")
    server.receive_data(data)
    assert isinstance(server.error, HandshakeError)
    assert server.error.status == status
    client.receive_data(drain(server))
    for _ in range(2):
        with pytest.raises(HandshakeError) as raised:
            server.messages_received()
        assert raised.value is server.error
        with pytest.raises(HandshakeRefused) as refused:
            client.messages_received()
        assert refused.value.status == status
    assert server.error.reason.encode() in refused.value.body
    for protocol in (client, server):
        assert (protocol.state, protocol.opened, protocol.close_code) == (State.CLOSED, False, None)
        assert (protocol.end_of_sending, protocol.closed) == (True, True)
        with pytest.raises(BrokenPipeError, match="failed"):
            protocol.send("x")
    server.receive_data(b"dropped")
    assert len(server.get_buffer()) == SINK_SIZE


def test_an_end_before_the_connection_is_open() -> None:
    client, server = ClientProtocol(URL), ServerProtocol()
    server.receive_eof()
    assert collect(server) == []
    assert (server.state, server.opened, server.error, server.closed) == (State.CLOSED, False, None, True)
    client.receive_eof()
    with pytest.raises(IncompleteHandshake):
        client.messages_received()
    drain(client)
    assert client.closed


def test_nothing_is_sent_before_the_connection_is_open() -> None:
    for protocol in (ClientProtocol(URL), ServerProtocol()):
        for send in ways_to_send(protocol):
            with pytest.raises(RuntimeError, match="before the connection is open"):
                send()


def test_a_connection_can_be_given_up_before_it_is_open() -> None:
    client = ClientProtocol(URL)
    client.close()
    assert client.state is State.CLOSED
    assert not client.end_of_sending  # the request is still there
    drain(client)
    assert client.end_of_sending
    client.receive_data(answer())
    assert collect(client) == []
    assert not client.opened
    with pytest.raises(RuntimeError, match="after close"):
        client.send("x")


@pytest.mark.parametrize(
    "options",
    [{"max_size": 0.5}, {"max_size": -1}, {"origins": "http://a"}, {"subprotocols": "a"}, {"max_head_size": 0}],
)
def test_options_that_make_no_sense_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        ServerProtocol(**options)


# Pages


def test_pages_are_served_before_a_connection_is_opened() -> None:
    def respond(request: Request) -> Response | None:
        return Response(200, (), b"<p>hello") if request.path == "/" else None

    server = ServerProtocol(respond=respond)
    for cut in range(len(PAGE)):
        assert fed(server, PAGE[:cut], PAGE[cut:]) == ([], None)
        assert drain(server).endswith(b"\r\n\r\n<p>hello")
        assert server.state is State.CONNECTING
    server.receive_data(request() + of_a_client()[len(request()) :])
    assert collect(server) == [*MESSAGES, "behind"]


def test_a_page_for_a_client_that_sends_no_more_still_goes_out() -> None:
    server = ServerProtocol(respond=lambda request: Response(200, (), b"hello"))
    server.receive_data(PAGE)
    server.receive_eof()
    assert collect(server) == []
    assert (server.state, server.end_of_sending) == (State.CLOSED, False)
    assert drain(server).endswith(b"hello")
    assert (server.end_of_sending, server.closed, server.error) == (True, True, None)


def test_requests_wait_while_answers_are_not_taken() -> None:
    body = bytes(HIGH_MARK // 2)
    server = ServerProtocol(respond=lambda request: None if request.values("Upgrade") else Response(200, (), body))
    server.receive_data(PAGE * 20 + of_a_client())
    assert server.queued_size < 2 * HIGH_MARK
    assert drain(server).count(b"HTTP/1.1 200 OK") == 20
    assert collect(server) == [*MESSAGES, "behind"]


def test_requests_that_wait_are_answered_though_the_stream_has_ended() -> None:
    body = bytes(HIGH_MARK)
    server = ServerProtocol(respond=lambda request: None if request.values("Upgrade") else Response(200, (), body))
    server.receive_data(PAGE * 3 + request() + frames("client", "last", "cut")[:-1])
    server.receive_eof()
    assert collect(server) == []
    assert server.state is State.CONNECTING
    assert drain(server).count(b"HTTP/1.1 200 OK") == 3
    assert server.messages_received() == ["last"]
    with pytest.raises(IncompleteFrame):
        server.messages_received()
    assert (server.state, server.close_code) == (State.CLOSED, 1006)


def test_who_asks_and_takes_no_answer_is_cut_off() -> None:
    server = ServerProtocol(respond=lambda request: Response(200, (), bytes(HIGH_MARK)))
    for _ in range(1000):
        server.receive_data(PAGE * 100)
    with pytest.raises(HandshakeError, match="faster"):
        server.messages_received()
    assert server.queued_size < 3 * HIGH_MARK


def test_an_error_of_the_application_comes_out() -> None:
    server = ServerProtocol(respond=lambda request: 1 // 0)
    server.receive_data(PAGE)
    with pytest.raises(ZeroDivisionError):
        server.messages_received()
    assert drain(server).startswith(b"HTTP/1.1 500 ")
    assert server.closed


# Messages


@pytest.mark.parametrize("deflate", [False, True, Deflate(True, True, 9, 9)])
def test_messages_come_as_they_were_sent(deflate: Any) -> None:
    client, server = pair(deflate=deflate)
    messages = [*MESSAGES, LARGE, "y" * LARGE_SIZE, b"z" * 3 * LARGE_SIZE]
    for here, there in ((client, server), (server, client)):
        here.send_many(messages)
        assert move(here, there) == messages
        for message in messages:
            here.send(message)
        here.send(bytearray(b"a"))
        here.send(memoryview(b"b"), compress=False)
        assert move(here, there) == [*messages, b"a", b"b"]


def test_what_both_can_compress_is_compressed_unless_it_shall_not_be() -> None:
    for compressed, (client, server) in ((True, pair()), (False, plain())):
        for here, there in ((client, server), (server, client)):
            here.send("x" * 10_000)
            assert (here.queued_size < 100) is compressed
            here.send("y" * 10_000, compress=False)
            assert here.queued_size > 10_000
            assert move(here, there) == ["x" * 10_000, "y" * 10_000]


def test_messages_are_collected_once() -> None:
    client, server = pair()
    client.send_many(MESSAGES)
    server.receive_data(drain(client))
    assert server.messages_received() == MESSAGES
    assert server.messages_received() == []


@pytest.mark.parametrize("at_most", [1, 3, 1000, LARGE_SIZE])
def test_what_a_transport_takes_in_part_is_not_sent_twice(at_most: int) -> None:
    client, server = plain()
    messages: list[Any] = ["hello", b"x" * 70_000, b"small", "y" * 70_000]
    for message in messages:
        server.send(message)
    size = server.queued_size
    data = drain(server, at_most=at_most)
    assert len(data) == size
    assert server.queued_size == 0
    assert fed(client, data) == (messages, None)


def test_a_large_message_of_a_server_is_not_copied() -> None:
    _, server = plain()
    server.send(LARGE)
    assert [buffer is LARGE for buffer in server.data_to_send()] == [False, True]


def test_many_buffers_come_a_few_at_a_time() -> None:
    client, server = plain()
    for _ in range(2 * MAX_BUFFERS):
        server.send(LARGE)
    assert len(server.data_to_send()) == MAX_BUFFERS
    assert move(server, client) == [LARGE] * 2 * MAX_BUFFERS
    with pytest.raises(ValueError, match="n=1"):
        server.data_sent(1)
    with pytest.raises(ValueError, match="n=-1"):
        server.data_sent(-1)


def test_many_small_messages_are_joined() -> None:
    client, server = plain()
    for i in range(10_000):
        server.send(b"%09d" % i)
    assert len(server.data_to_send()) == 2
    assert move(server, client) == [b"%09d" % i for i in range(10_000)]


def test_what_is_copied_may_change() -> None:
    client, server = plain()
    data = bytearray(LARGE)
    server.send(data)
    data[:] = bytes(len(data))
    assert move(server, client) == [LARGE]


def test_a_message_goes_in_parts_with_others_words_in_between() -> None:
    for options in ({}, {"deflate": False}):
        client, server = pair(**options)
        client.send_part("he")
        client.ping(b"?")
        client.send_part("llo")
        client.send_part(" world", final=True)
        client.send_part(b"x", final=True)
        assert move(client, server) == ["hello world", b"x"]
        assert move(server, client) == [Pong(b"?")]


def test_parts_are_handed_out_as_they_come() -> None:
    client, server = pair(parts=True, client={"parts": True})
    client.send_part("h\u00e9")
    assert move(client, server) == [Part("h\u00e9", False)]
    client.send_part("llo", final=True)
    data = drain(client)
    assert "".join(part.data for part in fed(server, *(data[i : i + 1] for i in range(len(data))))[0]) == "llo"
    server.send(b"x")
    got = move(server, client)
    assert b"".join(part.data for part in got) == b"x"
    assert [part.final for part in got] == [False] * (len(got) - 1) + [True]


def test_frames_that_were_encoded_elsewhere_go_as_they_are() -> None:
    client, server = plain()
    server.send("one")
    server.write_frames(frames("server", "two", "three"), 2)
    server.write_frames(server.encoder.encode("four"))
    assert move(server, client) == ["one", "two", "three", "four"]


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_message_that_is_refused_is_not_queued(role: str) -> None:
    client, server = pair(max_size=10, client={"max_size": 10})
    here, there = (client, server) if role == "client" else (server, client)
    with pytest.raises(FrameTooLarge):
        here.send("x" * 11)
    with pytest.raises(FrameTooLarge):
        here.send_many(["good", "x" * 11])
    with pytest.raises(TypeError):
        here.send(7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="125"):
        here.ping(bytes(126))
    for code, reason in ((999, ""), (1006, ""), (1000, "x" * 124), (1005, "x")):
        with pytest.raises(ValueError, match=r"."):
            here.close(code, reason)
    assert here.queued_size == 0
    here.send("fits")
    assert move(here, there) == ["fits"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(st.text(max_size=200), st.binary(max_size=200)), max_size=10),
    st.booleans(),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_any_messages_come_through_any_cuts(
    messages: list[str | bytes], deflate: bool, by_client: bool, rng: random.Random
) -> None:
    client, server = pair(deflate=deflate)
    here, there = (client, server) if by_client else (server, client)
    here.send_many(messages[: len(messages) // 2])
    for message in messages[len(messages) // 2 :]:
        here.send(message)
    here.close(4000, "done")
    data = drain(here, at_most=rng.randint(1, 1000))
    got, at = [], 0
    while at < len(data):
        size = rng.randint(1, 300)
        there.receive_data(data[at : at + size])
        got += collect(there)
        at += size
    assert got == messages
    assert there.close_received == Close(4000, "done")
    assert move(there, here) == []
    assert here.close_received == Close(4000)


# Pings


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_ping_is_answered_at_once_and_not_shown(role: str) -> None:
    client, server = plain()
    protocol: Protocol = client if role == "client" else server
    protocol.receive_data(frames(other(protocol), "before", Ping(b"1"), Ping(b"2")))
    assert seen(other(protocol), drain(protocol)) == [Pong(b"1"), Pong(b"2")]
    assert collect(protocol) == ["before"]


def test_a_pong_is_shown_to_whom_it_answers() -> None:
    client, server = plain()
    for payload in (b"1", b"2", b"3", b"2"):
        server.ping(payload)
    assert seen("client", drain(server)) == [Ping(b"1"), Ping(b"2"), Ping(b"3"), Ping(b"2")]
    data = frames("client", Pong(b"0"), Pong(b"2"), Pong(b"1"), Pong(), "text", Pong(b"2"), Pong(b"3"), Pong(b"2"))
    assert fed(server, data) == ([Pong(b"2"), "text", Pong(b"2")], None)
    client.ping()
    client.ping(bytearray(b"x"))
    move(client, server)
    assert move(server, client) == [Pong(), Pong(b"x")]


def test_pings_that_nobody_answers_are_forgotten() -> None:
    _, server = plain()
    for number in range(MAX_PINGS + 1):
        server.ping(b"%d" % number)
        drain(server)
    assert fed(server, frames("client", Pong(b"0"), Pong(b"1"))) == ([Pong(b"1")], None)


def test_a_flood_of_pings_is_answered_with_the_newest_once_there_is_room() -> None:
    client, server = plain()
    server.send(bytes(HIGH_MARK))
    size = server.queued_size
    for number in range(10_000):
        server.receive_data(frames("client", Ping(b"%d" % number)))
    assert server.queued_size == size
    sent = seen("client", drain(server, at_most=10_000))
    assert sent == [bytes(HIGH_MARK), Pong(b"9999")]
    server.receive_data(frames("client", Ping(b"and then")))
    assert seen("client", drain(server)) == [Pong(b"and then")]
    assert client.error is None


def test_a_pong_that_waits_is_dropped_when_there_is_a_close() -> None:
    _, server = plain()
    server.send(bytes(HIGH_MARK))
    server.receive_data(frames("client", Ping(b"late")))
    server.close()
    server.receive_data(frames("client", Ping(b"later")))
    assert drain(server) == frames("server", bytes(HIGH_MARK), Close(1000))
    server.receive_data(frames("client", Ping(b"last")))
    assert drain(server) == b""


# The end


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "going away"), (4999, "\u00fcber"), (1005, "")])
def test_either_may_close(role: str, code: int, reason: str) -> None:
    client, server = pair()
    here, there = (client, server) if role == "client" else (server, client)
    here.send("last")
    here.close(code, reason)
    here.close(1001)  # which is nothing any more
    assert (here.state, here.close_sent, here.end_of_sending) == (State.CLOSING, Close(code, reason), False)
    assert move(here, there) == ["last"]
    assert (there.state, there.close_received, there.close_code) == (State.CLOSED, Close(code, reason), code)
    assert move(there, here) == []
    assert (here.state, here.close_received, here.close_code) == (State.CLOSED, Close(code), code)
    # The server ends the stream, the client waits for that: section 7.1.1.
    assert (server.end_of_sending, server.closed) == (True, False)
    assert (client.end_of_sending, client.closed) == (False, False)
    client.receive_eof()
    assert (client.end_of_sending, client.closed) == (True, True)
    server.receive_eof()
    assert server.closed
    assert client.error is server.error is None
    assert collect(client) == collect(server) == []


@pytest.mark.parametrize("role", ["client", "server"])
def test_both_may_close_at_the_same_time(role: str) -> None:
    client, server = pair()
    client.close(1000)
    server.close(1001)
    data = drain(client), drain(server)
    server.receive_data(data[0])
    client.receive_data(data[1])
    assert collect(client) == collect(server) == []
    assert (client.close_code, server.close_code) == (1001, 1000)
    assert client.state is server.state is State.CLOSED
    assert drain(client) == drain(server) == b""


def test_a_close_waits_until_what_came_before_it_is_answered() -> None:
    client, server = plain()
    client.send("question")
    client.close()
    server.receive_data(drain(client))
    assert server.close_received == Close(1000)
    assert (server.state, server.close_sent) == (State.OPEN, None)
    assert server.messages_received() == ["question"]
    server.send("answer")
    assert server.messages_received() == []
    assert server.close_sent == Close(1000)
    assert move(server, client) == ["answer"]
    assert client.close_code == 1000


def test_what_comes_before_the_peers_close_is_delivered_after_ours() -> None:
    client, server = plain()
    server.close()
    client.send("crossing")
    client.ping(b"crossing too")
    assert move(client, server) == ["crossing"]
    assert move(server, client) == []
    assert move(client, server) == []
    assert (server.close_code, client.close_code) == (1000, 1000)


def test_what_comes_behind_a_close_is_dropped() -> None:
    client, server = plain()
    server.receive_data(frames("client", "one", Close(1000), "two") + b"\xff\xff\xff")
    assert collect(server) == ["one"]
    server.receive_data(b"\xff\xff\xff")
    server.receive_eof()
    assert collect(server) == []
    assert (server.error, server.close_code) == (None, 1000)
    assert client.error is None


@pytest.mark.parametrize("role", ["client", "server"])
def test_nothing_is_sent_after_close(role: str) -> None:
    client, server = pair()
    protocol: Protocol = client if role == "client" else server
    protocol.close()
    data = protocol.data_to_send()
    for send in ways_to_send(protocol):
        with pytest.raises(RuntimeError, match="after close"):
            send()
    assert protocol.data_to_send() == data


def test_after_the_peers_close_sending_is_an_error_of_the_connection() -> None:
    client, server = pair()
    client.close(1001)
    move(client, server)
    with pytest.raises(BrokenPipeError, match="closed by the peer: 1001"):
        server.send("x")


@pytest.mark.parametrize("role", ["client", "server"])
def test_an_end_without_a_close_is_told(role: str) -> None:
    client, server = plain()
    protocol: Protocol = client if role == "client" else server
    protocol.receive_data(frames(other(protocol), "last"))
    protocol.receive_eof()
    protocol.receive_eof()
    assert protocol.eof_received
    assert protocol.close_code is None
    assert protocol.messages_received() == ["last"]
    protocol.send("into the void")
    assert protocol.messages_received() == []
    assert (protocol.close_received, protocol.close_code, protocol.close_sent) == (None, 1006, None)
    assert (protocol.state, protocol.error, protocol.end_of_sending) == (State.CLOSED, None, False)
    with pytest.raises(BrokenPipeError, match="1006"):
        protocol.send("x")
    drain(protocol)
    assert (protocol.end_of_sending, protocol.closed) == (True, True)
    for call in (lambda: protocol.receive_data(b"x"), protocol.get_buffer, lambda: protocol.buffer_updated(0)):
        with pytest.raises(RuntimeError):
            call()


@pytest.mark.parametrize("role", ["client", "server"])
def test_an_end_in_a_frame_is_an_error_and_not_answered(role: str) -> None:
    for end in range(1, len(frames(role, "hello"))):
        client, server = plain()
        protocol: Protocol = server if role == "client" else client
        protocol.receive_data(frames(role, "one") + frames(role, "hello")[:end])
        protocol.receive_eof()
        assert protocol.messages_received() == ["one"]
        for _ in range(2):
            with pytest.raises(IncompleteFrame):
                protocol.messages_received()
        assert (protocol.close_sent, protocol.close_code, protocol.closed) == (None, 1006, True)


WRONG = [
    pytest.param(b"\xc1\x80", HeaderError, 1002, id="reserved bits"),
    pytest.param(b"\x83\x80", HeaderError, 1002, id="opcode"),
    pytest.param(b"\x80\x80", HeaderError, 1002, id="continuation"),
    pytest.param(b"\x89\xfe", HeaderError, 1002, id="long ping"),
    pytest.param(b"\x88\x81\x00\x00\x00\x00\x03", HeaderError, 1002, id="close of one byte"),
    pytest.param(b"\x88\x82\x00\x00\x00\x00\x03\xed", HeaderError, 1002, id="close 1005"),
    pytest.param(b"\x81\x81\x00\x00\x00\x00\xff", PayloadError, 1007, id="text"),
    pytest.param(b"\x81\x82\x00\x00\x00\x00\xc3\x28", PayloadError, 1007, id="text cut"),
    pytest.param(b"\x82\xff\x00\x00\x00\x00\x7f\xff\xff\xff", FrameTooLarge, 1009, id="size"),
]


@pytest.mark.parametrize(("wrong", "kind", "code"), WRONG)
def test_what_is_wrong_is_told_to_the_peer_in_its_turn(wrong: bytes, kind: type[Exception], code: int) -> None:
    before = frames("client", "one", Ping(b"?"), b"two")
    data = before + wrong

    def run(chunks: Iterable[bytes]) -> tuple[Any, ...]:
        _, server = plain(max_size=1000)
        messages, error = fed(server, *chunks)
        assert type(error) is kind
        return messages, seen("client", drain(server)), tell(server)

    whole = run([data])
    assert whole[0] == ["one", b"two"]
    pong, close = whole[1]
    assert pong == Pong(b"?")
    assert close.code == code
    assert close.reason
    assert whole[2][0] is State.CLOSED
    assert whole[2][4:7] == (1006, True, True)
    for cut in range(len(data)):
        assert run([data[:cut], data[cut:]]) == whole
    assert run([data[i : i + 1] for i in range(len(data))]) == whole


def test_an_error_shows_at_once_and_waits_for_its_turn() -> None:
    client, server = plain()
    server.receive_data(frames("client", "one") + b"\xff")
    assert isinstance(server.error, HeaderError)
    assert (server.state, server.closed) == (State.OPEN, False)
    assert server.messages_received() == ["one"]
    server.send("answer")
    for _ in range(2):
        with pytest.raises(HeaderError) as raised:
            server.messages_received()
        assert raised.value is server.error
    answered = seen("client", drain(server))
    assert answered[0] == "answer"
    assert answered[1].code == 1002
    with pytest.raises(BrokenPipeError, match="failed"):
        server.send("x")
    assert client.error is None


def test_a_client_that_has_failed_does_not_wait_for_the_server() -> None:
    client, _ = plain()
    assert isinstance(fed(client, frames("client", "masked"))[1], HeaderError)
    assert not client.end_of_sending
    drain(client)
    assert (client.end_of_sending, client.closed) == (True, True)


def test_an_error_after_our_close_is_not_told() -> None:
    _, server = plain()
    server.close()
    drain(server)
    assert isinstance(fed(server, b"\xff")[1], HeaderError)
    assert drain(server) == b""
    assert server.closed


def test_bytes_after_an_error_are_dropped_and_cost_no_memory() -> None:
    _, server = plain()
    server.receive_data(b"\xff")
    size = size_of(server._decoder)
    for _ in range(100):
        server.receive_data(bytes(1000))
        window = server.get_buffer()
        assert len(window) == SINK_SIZE
        server.buffer_updated(len(window))
    assert len(server.get_buffer(7)) == 7
    server.receive_eof()
    assert size_of(server._decoder) <= size
    with pytest.raises(HeaderError):
        server.messages_received()


def test_a_long_reason_fits_in_a_close() -> None:
    _, server = plain()
    server._fail(HeaderError("\u00fc" * 100))
    (close,) = seen("client", drain(server))
    assert close == Close(1002, "\u00fc" * 61)


def test_the_sizes_tell_what_is_still_to_come() -> None:
    client, server = plain()
    assert (server.buffered_size, server.needed_size >= 1) == (0, True)
    data = frames("client", bytes(1000))
    server.receive_data(data[:500])
    assert server.buffered_size == 500
    assert server.needed_size == len(data) - 500
    assert (client.buffered_size, client.queued_size) == (0, 0)
    half = ServerProtocol()
    half.receive_data(PAGE[:10])
    assert (half.buffered_size, half.needed_size) == (10, 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=100), st.randoms(use_true_random=False))
def test_any_bytes_are_messages_or_one_of_the_errors(noise: bytes, rng: random.Random) -> None:
    def run(chunks: list[bytes]) -> tuple[Any, ...]:
        _, server = plain()
        messages, _ = fed(server, *chunks)
        return messages, drain(server), tell(server)

    cut = rng.randint(0, len(noise))
    assert run([noise]) == run([noise[:cut], noise[cut:]]) == run([noise[i : i + 1] for i in range(len(noise))])


def test_it_says_what_it_is() -> None:
    client, server = pair()
    assert repr(server) == "<ServerProtocol open>"
    client.close()
    assert repr(client) == "<ClientProtocol closing>"
