"""WebSockets under asyncio and uvloop: against the protocol without I/O, and every driver against every other."""

from __future__ import annotations

import asyncio
import importlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import CORES
from looping import LIMIT, narrow, reset
from pairs import tls_contexts
from test_aio import Run, aside, run, until
from test_websocket_loop import MESSAGES, PAGES, URL, Peer, frames, page, request_bytes

from framewire import FrameTooLarge, HeaderError, IncompleteFrame, websocket
from framewire.errors import PayloadError
from framewire.loop import Channel, Handler, Loop
from framewire.websocket import Close, Part
from framewire.websocket.aio import WebSocketServer, WebSocketStream, connect, serve, start_server
from framewire.websocket.handshake import HandshakeRefused, IncompleteHandshake
from framewire.websocket.protocol import ClientProtocol, ServerProtocol

blocking: Any = pytest.importorskip("framewire.websocket.blocking")

__all__ = ["run"]

KIB, MIB = 1024, 1024 * 1024
LOCAL = ("127.0.0.1", 0)


@pytest.fixture(autouse=True, params=CORES)
def _on_each_core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    core: ModuleType = importlib.import_module(
        "framewire._core_c" if request.param == "c" else "framewire._websocket_py"
    )
    for name in ("MessageDecoder", "MessageEncoder"):
        monkeypatch.setattr(f"framewire.websocket.protocol.{name}", getattr(core, name))


@pytest.fixture(params=["server", "client"])
def role(request: pytest.FixtureRequest) -> str:
    """Of the stream."""
    return str(request.param)


class Scene:
    """A stream of a role, its peer, and what makes them."""

    stream: WebSocketStream

    def __init__(self, peer: Peer, server: WebSocketServer | None) -> None:
        self.peer = peer
        self.server = server
        self.returned = asyncio.Event()

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the peer move until the condition holds."""

        def moved() -> object:
            self.peer.move()
            return condition()

        await until(moved)

    async def close(self) -> None:
        """The peer goes, and the stream."""
        self.peer.sock.close()
        await self.stream.close()
        if self.server is not None:
            self.returned.set()
            await self.server.shutdown()


async def begun(*, tight: bool = False, **options: Any) -> Scene:
    """A server's scene in which nothing has been sent yet; its stream is there once it is open."""

    async def handler(stream: WebSocketStream) -> None:
        scene.stream = stream
        await scene.returned.wait()

    server = await start_server(handler, LOCAL, **options)
    sock = socket.create_connection(server.addresses[0])
    if tight:
        narrow(sock)
    scene = Scene(Peer(sock, ClientProtocol(URL, max_size=options.get("max_size", 16 * MIB))), server)
    return scene


async def opened(role: str, *, tight: bool = False, **options: Any) -> Scene:
    if role == "server":
        scene = await begun(tight=tight, **options)
        await scene.until(lambda: hasattr(scene, "stream") and scene.peer.protocol.opened)
        return scene
    with socket.create_server(LOCAL) as listener:
        listener.setblocking(False)
        connecting = asyncio.ensure_future(connect(URL, address=listener.getsockname(), **options))
        sock, _ = await asyncio.get_running_loop().sock_accept(listener)
    if tight:
        narrow(sock)
    scene = Scene(Peer(sock, ServerProtocol(max_size=options.get("max_size", 16 * MIB))), None)
    await scene.until(connecting.done)
    scene.stream = connecting.result()
    return scene


# Messages


def test_messages_go_both_ways(run: Run, role: str) -> None:
    async def main() -> None:
        scene = await opened(role)
        stream, peer = scene.stream, scene.peer
        peer.protocol.send_many(MESSAGES)
        await scene.until(lambda: True)
        assert [await stream.recv(timeout=LIMIT) for _ in MESSAGES] == MESSAGES
        peer.protocol.send_many(MESSAGES)
        await scene.until(lambda: stream._payloads)
        assert await stream.recv_many() == MESSAGES
        await stream.send_many(MESSAGES)
        for message in MESSAGES:
            await stream.send(message)
        await stream.send("not compressed", compress=False)
        await scene.until(lambda: len(peer.messages) == 2 * len(MESSAGES) + 1)
        assert peer.messages == [*MESSAGES, *MESSAGES, "not compressed"]
        assert stream.protocol.deflate == peer.protocol.deflate is not None
        assert stream.request is not None
        assert stream.request.target == "/chat"
        assert repr(stream) == "<WebSocketStream open>"
        await scene.close()
        assert repr(stream) == "<WebSocketStream closed>"

    run(main())


def test_a_message_of_twenty_mebibytes(run: Run, role: str) -> None:
    async def main() -> None:
        scene = await opened(role, max_size=None, deflate=False)
        message = bytes(range(256)) * (20 * MIB // 256)
        scene.peer.protocol.send(message, compress=False)
        receiving = asyncio.ensure_future(scene.stream.recv())
        await scene.until(receiving.done)
        assert receiving.result() == message
        await scene.stream.send(message)
        await scene.until(lambda: scene.peer.messages)
        assert scene.peer.messages == [message]
        await scene.close()

    run(main())


def test_messages_in_parts(run: Run, role: str) -> None:
    async def main() -> None:
        scene = await opened(role, parts=True)
        stream, peer = scene.stream, scene.peer
        for data, final in [("hel", False), ("lo", True)]:
            peer.protocol.send_part(data, final)
            await scene.until(lambda: stream._payloads)
            assert await stream.recv() == Part(data, final)
        with pytest.raises(TypeError):
            await stream.send_part(5)  # type: ignore[arg-type]
        await stream.send_part(b"wor")
        with pytest.raises(RuntimeError, match="in parts"):
            await stream.send("in between")
        await stream.send_part(b"ld", final=True)
        await stream.send("after it")
        await scene.until(lambda: len(peer.messages) == 2)
        assert peer.messages == [b"world", "after it"]
        assert stream._waiting_size == 0
        await scene.close()

    run(main())


def test_senders_wait_for_a_slow_peer(run: Run, role: str) -> None:
    async def main() -> None:
        scene = await opened(role, tight=True, deflate=False)
        sending = [asyncio.ensure_future(scene.stream.send(bytes(100_000))) for _ in range(100)]
        await asyncio.wait(sending, timeout=0.05)
        assert 0 < sum(task.done() for task in sending) < 100
        assert scene.stream.queued_size < 3 * MIB
        await scene.until(lambda: len(scene.peer.messages) == 100)
        await asyncio.gather(*sending)
        await scene.close()

    run(main())


def test_reading_pauses_above_the_limit(run: Run) -> None:
    async def main() -> None:
        scene = await opened("server", tight=True, read_limit=100_000)
        message = "x" * 9_000
        for _ in range(200):
            scene.peer.protocol.send(message, compress=False)
        await scene.until(lambda: scene.stream._reading_paused)
        for _ in range(20):
            await scene.until(lambda: True)
        assert scene.peer.protocol.queued_size
        received: list[Any] = []

        async def receive() -> None:
            while len(received) < 200:
                received.extend(await scene.stream.recv_many())

        receiving = asyncio.ensure_future(receive())
        await scene.until(receiving.done)
        assert received == [message] * 200
        await scene.close()

    run(main())


def test_a_receive_that_is_cancelled_loses_nothing(run: Run) -> None:
    async def main() -> None:
        scene = await opened("server")
        stream = frames("hello", b"world")
        for cut in range(len(stream)):
            receiving = asyncio.ensure_future(scene.stream.recv())
            scene.peer.sock.send(stream[:cut])
            await asyncio.sleep(0)
            receiving.cancel()
            await asyncio.wait([receiving])
            received = [] if receiving.cancelled() else [receiving.result()]
            scene.peer.sock.send(stream[cut:])
            while len(received) < 2:
                received += await scene.stream.recv_many(timeout=LIMIT)
            assert received == ["hello", b"world"]
        with pytest.raises(TimeoutError):
            await scene.stream.recv(timeout=0.001)
        await scene.close()

    run(main())


# The opening handshake


def test_a_stream_that_is_cut_anywhere_gives_the_same(run: Run) -> None:
    stream = request_bytes() + frames("hello", b"world", close=(1001, "bye"))
    received: list[tuple[list[Any], int | None]] = []

    async def echo(client: WebSocketStream) -> None:
        messages = []
        async for message in client:
            messages.append(message)
            await client.send(message)
        received.append((messages, client.close_code))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await start_server(echo, LOCAL) as server:
            for cut in range(len(stream) + 1):
                with socket.socket() as sock:
                    sock.setblocking(False)
                    await loop.sock_connect(sock, server.addresses[0])
                    for part in (stream[:cut], stream[cut:]):
                        await loop.sock_sendall(sock, part)
                        for _ in range(3):
                            await asyncio.sleep(0)
                    answer = bytearray()
                    while chunk := await loop.sock_recv(sock, MIB):
                        answer += chunk
                    assert answer.startswith(b"HTTP/1.1 101 ")
                    assert answer.endswith(b"\r\n\r\n" + frames("hello", b"world", role="server", close=(1001, "")))
        assert received == [(["hello", b"world"], 1001)] * (len(stream) + 1)

    run(main())


def test_an_answer_that_comes_byte_by_byte(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(LOCAL) as listener:
            listener.setblocking(False)
            connecting = asyncio.ensure_future(connect(URL, address=listener.getsockname()))
            sock, _ = await loop.sock_accept(listener)
        with sock:
            protocol = ServerProtocol()
            while not protocol.opened:
                protocol.receive_data(await loop.sock_recv(sock, MIB))
            for byte in b"".join(protocol.data_to_send()) + frames("hello", role="server", close=(1000,)):
                await loop.sock_sendall(sock, bytes([byte]))
                await asyncio.sleep(0)
            stream = await connecting
            assert [message async for message in stream] == ["hello"]
            assert stream.close_code == 1000
        await stream.close()

    run(main())


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone", HandshakeRefused),
        (b"HTTP/1.1 101 ", IncompleteHandshake),
        (b"", IncompleteHandshake),
        (b"SSH-2.0-x\r\n\r\n", websocket.HandshakeError),
    ],
)
def test_a_server_that_does_not_open(run: Run, answer: bytes, kind: type[Exception]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(LOCAL) as listener:
            listener.setblocking(False)
            connecting = asyncio.ensure_future(connect(URL, address=listener.getsockname()))
            sock, _ = await loop.sock_accept(listener)
        with sock:
            await loop.sock_recv(sock, MIB)
            await loop.sock_sendall(sock, answer)
            sock.shutdown(socket.SHUT_WR)
            with pytest.raises(kind) as caught:
                await connecting
            assert getattr(caught.value, "body", b"none") == b"none"
            assert await loop.sock_recv(sock, 1) == b""

    run(main())


def test_connecting_has_its_time(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(LOCAL) as listener:
            with pytest.raises(TimeoutError, match=r"not connected in 0\.02 s"):
                await connect(URL, address=listener.getsockname(), timeout=0.02)
            with listener.accept()[0] as sock:
                sock.settimeout(LIMIT)
                assert (await aside(sock.recv, MIB)).startswith(b"GET /chat ")
                with suppress(ConnectionResetError):
                    assert await aside(sock.recv, 1) == b""

    run(main())


def test_a_connection_that_is_lost_in_the_handshake(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(LOCAL) as listener:
            listener.setblocking(False)
            connecting = asyncio.ensure_future(connect(URL, address=listener.getsockname()))
            sock, _ = await asyncio.get_running_loop().sock_accept(listener)
        reset(sock)
        with pytest.raises(OSError, match="reset"):
            await connecting

    run(main())


def test_a_client_has_its_time_to_open(run: Run) -> None:
    async def main() -> None:
        scene = await begun(handshake_timeout=0.02)
        assert scene.server is not None
        with scene.peer.sock as sock:
            sock.settimeout(LIMIT)
            assert await aside(sock.recv, 1) == b""
        assert not scene.server.connections
        await scene.server.shutdown()

    run(main())


def test_wrong_arguments_are_told_at_once(run: Run) -> None:
    async def main() -> None:
        for options in ({"ping_interval": 0}, {"max_size": -1}, {"high_mark": 1, "low_mark": 2}, {"origins": "x"}):
            with pytest.raises((ValueError, TypeError)):
                await start_server(lambda _: None, LOCAL, **options)  # type: ignore[arg-type, return-value]
        with pytest.raises(ValueError, match="http"):
            await connect("http://localhost/")
        with pytest.raises(ValueError, match="not a wss: URL"):
            await connect(URL, tls=object())  # type: ignore[arg-type]

    run(main())


# Pages


async def http(sock: socket.socket, request: bytes, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, request)
    answer = bytearray()
    while b"\r\n\r\n" not in answer or len(answer.partition(b"\r\n\r\n")[2]) < size:
        chunk = await loop.sock_recv(sock, MIB)
        assert chunk
        answer += chunk
    return bytes(answer)


def test_pages_and_then_a_websocket_on_one_connection(run: Run) -> None:
    async def main() -> None:
        scene = await begun(respond=page)
        for path, body in PAGES.items():
            answer = await http(scene.peer.sock, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), len(body))
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b"\r\n\r\n" + body)
        await scene.until(lambda: hasattr(scene, "stream"))
        await scene.stream.send("hello")
        await scene.until(lambda: scene.peer.messages)
        await scene.close()

    run(main())


def test_requests_wait_while_nobody_reads_the_answers(run: Run) -> None:
    made = 0

    def respond(request: Any) -> Any:
        nonlocal made
        made += 1
        return page(request)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        scene = await begun(respond=respond)
        sock = scene.peer.sock
        await loop.sock_sendall(sock, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        await until(lambda: made)
        for _ in range(50):
            await asyncio.sleep(0)
        assert made < 20
        size = 0
        while size < 100 * MIB:
            size += (await loop.sock_recv(sock, MIB)).count(b"y")
        assert made == 100
        sock.close()
        assert scene.server is not None
        await scene.server.shutdown()

    run(main())


@pytest.mark.parametrize(
    ("request_", "status"),
    [(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426), (b"GET /fails HTTP/1.1\r\nHost: x\r\n\r\n", 500)],
)
def test_a_wrong_request_is_answered(run: Run, caplog: pytest.LogCaptureFixture, request_: bytes, status: int) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        scene = await begun(respond=page if status == 500 else None)
        with scene.peer.sock as sock:
            answer = await http(sock, request_, 0)
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert await loop.sock_recv(sock, 1) == b""
        assert scene.server is not None
        await scene.server.shutdown()
        assert not scene.server._opening

    run(main())
    assert ("no such page" in caplog.text) == (status == 500)


# Closing


def test_the_stream_closes(run: Run, role: str) -> None:
    async def main() -> None:
        scene = await opened(role)
        await scene.stream.send("last")
        closing = asyncio.ensure_future(scene.stream.close(4001, "because"))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="after close"):
            await scene.stream.send("too late")
        scene.peer.protocol.send("is not received")
        await scene.until(closing.done)
        assert scene.peer.messages == ["last"]
        assert scene.peer.protocol.close_received == Close(4001, "because")
        assert scene.stream.close_code == 4001
        assert await scene.stream.recv() is None
        await scene.stream.close()
        await scene.close()

    run(main())


@pytest.mark.parametrize("close", [(1005,), (1000, "done")])
def test_the_peer_closes(run: Run, role: str, close: tuple[Any, ...]) -> None:
    async def main() -> None:
        scene = await opened(role)
        stream, peer = scene.stream, scene.peer
        peer.protocol.send_many(["one", b"two"])
        peer.protocol.close(*close)
        await scene.until(lambda: stream.protocol.close_received)
        assert await stream.recv() == "one"
        await stream.send("answered")  # a Close waits its turn
        assert await stream.recv() == b"two"
        await stream.send("too")
        assert await stream.recv() is None
        with pytest.raises(BrokenPipeError, match="closed by the peer"):
            await stream.send("too late")
        await scene.until(lambda: peer.protocol.close_received)
        assert peer.messages == ["answered", "too"]
        assert peer.protocol.close_received == Close(close[0])
        assert stream.close_code == close[0]
        assert await stream.recv_many() == []
        await scene.until(lambda: peer.ended or role == "client")
        await scene.close()

    run(main())


def test_a_close_is_answered_when_nothing_waits(run: Run, role: str) -> None:
    async def main() -> None:
        scene = await opened(role)
        scene.peer.protocol.close(3000)
        await scene.until(lambda: scene.peer.protocol.close_received)
        assert scene.stream.close_code == 3000
        await scene.close()

    run(main())


def test_both_close_at_once(run: Run, role: str) -> None:
    async def main() -> None:
        scene = await opened(role)
        closing = asyncio.ensure_future(scene.stream.close(3001))
        await asyncio.sleep(0)
        scene.peer.protocol.close(3002)  # it has not read ours
        await scene.until(closing.done)
        assert scene.stream.close_code == 3002
        assert scene.peer.protocol.close_code == 3001
        await scene.close()

    run(main())


def test_closing_is_over_at_its_deadline(run: Run, role: str) -> None:
    async def main() -> None:
        scene = await opened(role)
        await scene.stream.close(timeout=0.02)
        assert scene.stream.close_code == 1006
        await scene.close()

    run(main())


def test_a_wrong_code_changes_nothing(run: Run) -> None:
    async def main() -> None:
        scene = await opened("server")
        with pytest.raises(ValueError, match="1006"):
            await scene.stream.close(1006)
        with pytest.raises(NotImplementedError):
            scene.stream.send_eof()
        with pytest.raises(FrameTooLarge):
            await scene.stream.send(bytes(16 * MIB + 1))
        await scene.stream.send("hello")
        await scene.until(lambda: scene.peer.messages == ["hello"])
        await scene.close()

    run(main())


def test_a_stream_that_ends_without_a_close(run: Run, role: str) -> None:
    async def main() -> None:
        scene = await opened(role)
        scene.peer.sock.send(frames("hello", role="client" if role == "server" else "server"))
        scene.peer.sock.shutdown(socket.SHUT_WR)
        assert await scene.stream.recv() == "hello"
        assert await scene.stream.recv() is None
        assert scene.stream.close_code == 1006
        await scene.close()

    run(main())


def test_a_connection_that_is_lost(run: Run, role: str) -> None:
    async def main() -> None:
        scene = await opened(role)
        pinging = asyncio.ensure_future(scene.stream.ping())
        await asyncio.sleep(0)
        reset(scene.peer.sock)
        for call in (scene.stream.recv, scene.stream.recv_many, scene.stream.ping, lambda: scene.stream.send("x")):
            with pytest.raises(OSError, match=r"reset|closed"):
                await call()  # type: ignore[operator]
        with pytest.raises(OSError, match="reset"):
            await pinging
        assert scene.stream.close_code == 1006
        await scene.close()

    run(main())


@pytest.mark.parametrize(
    ("wrong", "code", "kind"),
    [
        (b"\x83\x80\0\0\0\0", 1002, HeaderError),
        (b"\x81\x82\0\0\0\0\xff\xff", 1007, PayloadError),
        (b"\x82\xff\0\0\0\0\x10\0\0\0\0\0\0\0", 1009, FrameTooLarge),
        (b"\x81", None, IncompleteFrame),
    ],
)
def test_what_is_wrong_is_told_after_the_messages_before_it(
    run: Run, wrong: bytes, code: int | None, kind: type[Exception]
) -> None:
    async def main() -> None:
        scene = await opened("server", deflate=False)
        scene.peer.sock.send(frames("hello") + wrong)
        if code is None:
            scene.peer.sock.shutdown(socket.SHUT_WR)
        await until(lambda: scene.stream._over)
        assert await scene.stream.recv() == "hello"
        await scene.stream.send("answered")
        for _ in range(2):
            with pytest.raises(kind):
                await scene.stream.recv()
        await scene.until(lambda: scene.peer.ended)
        assert scene.peer.messages == ["answered"]
        assert scene.peer.protocol.close_code == (code or 1006)
        await scene.close()

    run(main())


# Pings


def test_pings_and_their_pongs(run: Run, role: str) -> None:
    async def main() -> None:
        scene = await opened(role)
        pings = [asyncio.ensure_future(scene.stream.ping(payload)) for payload in (b"one", None, b"three")]
        await scene.until(pings[2].done)
        assert all(0 <= ping.result() < LIMIT for ping in pings)
        scene.peer.protocol.ping(b"mine")
        await scene.until(lambda: scene.peer.messages)
        assert scene.peer.messages[0].payload == b"mine"
        with pytest.raises(TimeoutError, match="no pong"):
            await scene.stream.ping(timeout=0.001)
        with pytest.raises(ValueError, match="126"):
            await scene.stream.ping(bytes(126))
        await scene.close()

    run(main())


def test_a_peer_that_does_not_live_is_left(run: Run) -> None:
    async def main() -> None:
        scene = await opened("server", ping_interval=0.02, ping_timeout=0.5)
        size = scene.stream._received_size
        await scene.until(lambda: scene.stream._received_size >= size + 18)  # it answers three of them
        with pytest.raises(TimeoutError, match=r"nothing came in 0\.5 s after a ping"):
            await scene.stream.recv()
        with pytest.raises(TimeoutError):
            await scene.stream.send("x")
        assert scene.stream.close_code == 1006
        await scene.close()

    run(main())


def test_a_flood_of_pings_is_not_answered_without_end(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        scene = await opened("server", tight=True)
        pings = importlib.import_module("framewire._websocket_py").MessageEncoder("client").ping(bytes(125)) * 100
        for _ in range(500):
            await loop.sock_sendall(scene.peer.sock, pings)
        await until(lambda: scene.stream._received_size > 500 * len(pings))
        assert scene.stream.queued_size < 2 * MIB
        scene.peer.protocol.send("after all that")
        await scene.until(lambda: scene.stream._payloads)
        assert await scene.stream.recv() == "after all that"
        await scene.close()

    run(main())


# Servers


def test_a_server_that_shuts_down_goes_away(run: Run) -> None:
    async def main() -> None:
        async def echo(client: WebSocketStream) -> None:
            async for message in client:
                await client.send(message)

        server = await start_server(echo, LOCAL)
        clients = [await connect(f"ws://127.0.0.1:{server.addresses[0][1]}/") for _ in range(3)]
        with socket.create_connection(server.addresses[0]) as idle:
            await until(lambda: server._opening)
            for client in clients:
                await client.send("hello")
                assert await client.recv() == "hello"
            receiving = [asyncio.ensure_future(client.recv()) for client in clients]
            await server.shutdown()
            assert await asyncio.gather(*receiving) == [None] * 3
            assert [client.close_code for client in clients] == [1001] * 3
            idle.settimeout(LIMIT)
            assert await aside(idle.recv, 1) == b""
        for client in clients:
            await client.close()

    run(main())


def test_a_handler_that_fails_is_an_internal_error(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async def fail(client: WebSocketStream) -> None:
            await client.recv()
            raise LookupError("by design")

        server = await start_server(fail, LOCAL)
        async with server, await connect(f"ws://127.0.0.1:{server.addresses[0][1]}/") as client:
            await client.send("go")
            assert await client.recv() is None
            assert client.close_code == 1011

    run(main())
    assert "by design" in caplog.text


def test_serving_until_it_is_cancelled(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(LOCAL) as listener:
            address = listener.getsockname()

            async def greet(client: WebSocketStream) -> None:
                await client.send(client.subprotocol or "")

            serving = asyncio.ensure_future(serve(greet, listener.dup(), subprotocols=["a", "b"]))
            async with await connect(f"ws://127.0.0.1:{address[1]}/", subprotocols=["b"], timeout=LIMIT) as client:
                assert [message async for message in client] == ["b"]
                assert client.close_code == 1000
            serving.cancel()
            await asyncio.wait([serving])
            assert serving.cancelled()

    run(main())


def test_many_connections_at_once(run: Run) -> None:
    async def main() -> None:
        async def echo(client: WebSocketStream) -> None:
            async for message in client:
                await client.send(message)

        async def call(i: int) -> Any:
            async with await connect(f"ws://127.0.0.1:{server.addresses[0][1]}/") as client:
                await client.send(f"hello {i}")
                await asyncio.sleep(0)
                return await client.recv()

        async with await start_server(echo, LOCAL) as server:
            answers = await asyncio.gather(*[call(i) for i in range(400)])
        assert answers == [f"hello {i}" for i in range(400)]
        assert not server.connections
        assert not server._opening

    run(main())


@pytest.mark.parametrize("who", ["server", "client"])
def test_over_tls(run: Run, certificate: Path, who: str) -> None:
    async def main() -> None:
        async def echo(client: WebSocketStream) -> None:
            async for message in client:
                await client.send(message)
                if message == "last" and who == "server":
                    await client.close(4000)

        server_side, client_side = tls_contexts(certificate)
        async with await start_server(echo, LOCAL, tls=server_side) as server:
            url = f"wss://localhost:{server.addresses[0][1]}/"
            async with await connect(url, tls=client_side, timeout=LIMIT) as client:
                await client.send_many(["hello", bytes(3 * MIB), "last"])
                assert [await client.recv() for _ in range(3)] == ["hello", bytes(3 * MIB), "last"]
                if who == "server":
                    assert await client.recv() is None
            assert client.close_code == (4000 if who == "server" else 1000)
            with pytest.raises(OSError, match="certificate verify failed"):
                await connect(url, timeout=LIMIT)

    run(main())


# Every driver against every other


class LoopEcho(Handler):
    def frames_received(self, channel: Channel, messages: Any) -> None:
        channel.send_many(messages)


@contextmanager
def loop_server() -> Iterator[int]:
    loop = Loop()
    listener = loop.listen(LOCAL, LoopEcho(), websocket.Server())
    thread = threading.Thread(target=loop.run)
    thread.start()
    yield listener.address[1]
    loop.call_soon_threadsafe(loop.shutdown, LIMIT)
    thread.join(LIMIT)
    loop.close()


@contextmanager
def aio_server() -> Iterator[int]:
    async def echo(client: WebSocketStream) -> None:
        async for message in client:
            await client.send(message)

    async def main() -> None:
        nonlocal stop
        stop = asyncio.get_running_loop(), asyncio.Event()
        async with await start_server(echo, LOCAL) as server:
            ports.append(server.addresses[0][1])
            ready.set()
            await stop[1].wait()

    ports: list[int] = []
    ready = threading.Event()
    stop: Any = None
    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(LIMIT)
    yield ports[0]
    stop[0].call_soon_threadsafe(stop[1].set)
    thread.join(LIMIT)


@contextmanager
def blocking_server() -> Iterator[int]:
    def echo(client: Any) -> None:
        for message in client:
            client.send(message)

    with blocking.serve(echo, LOCAL) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.address[1]
        server.shutdown()
        thread.join(LIMIT)


def loop_client(url: str, messages: list[Any]) -> tuple[list[Any], int | None]:
    received: list[Any] = []

    class Caller(Handler):
        def frames_received(self, channel: Channel, payloads: list[Any]) -> None:
            received.extend(payloads)
            if len(received) == len(messages):
                channel.close()

        def disconnected(self, channel: Channel, error: Exception | None) -> None:
            loop.stop()

    with Loop() as loop:
        channel = websocket.Client(url).connect(loop, Caller())
        channel.send_many(messages)
        loop.call_later(LIMIT, loop.stop)
        loop.run()
    return received, channel.websocket.close_code


def aio_client(url: str, messages: list[Any]) -> tuple[list[Any], int | None]:
    async def main() -> tuple[list[Any], int | None]:
        async with await connect(url, timeout=LIMIT) as client:
            sending = asyncio.ensure_future(client.send_many(messages))
            received = [await client.recv(timeout=LIMIT) for _ in messages]
            await sending
        return received, client.close_code

    return asyncio.run(main())


def blocking_client(url: str, messages: list[Any]) -> tuple[list[Any], int | None]:
    with blocking.connect(url, timeout=LIMIT) as client:
        received = []
        for message in messages:
            client.send(message)
            received.append(client.recv())
    return received, client.close_code


@pytest.mark.parametrize("server", [loop_server, aio_server, blocking_server])
@pytest.mark.parametrize("client", [loop_client, aio_client, blocking_client])
def test_every_driver_talks_to_every_other(server: Any, client: Any) -> None:
    messages = [*MESSAGES, "x" * MIB, bytes(range(256)) * 4096, "after"]
    with server() as port:
        assert client(f"ws://127.0.0.1:{port}/", messages) == (messages, 1000)
