"""`blocking.serve`: a thread for each connection."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from looping import LIMIT
from pairs import tls_contexts

import framewire
from framewire.blocking import FramedSocket, ThreadServer, serve

LOCAL = ("127.0.0.1", 0)


@contextmanager
def serving(handler: Callable[[FramedSocket], object], address: Any = LOCAL, **options: Any) -> Iterator[ThreadServer]:
    with serve(handler, address, "u32be", **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown(LIMIT)
            thread.join(LIMIT)
            assert not thread.is_alive()
            assert server.connection_count == 0


def connected(server: ThreadServer) -> FramedSocket:
    return framewire.connect(server.address, "u32be", timeout=LIMIT)


def ended(sock: socket.socket) -> bool:
    """Wait for the end of the stream, or its loss."""
    sock.settimeout(LIMIT)
    with suppress(ConnectionError):
        while sock.recv(1000):
            pass
    return True


def echo(client: FramedSocket) -> None:
    for payload in client:
        client.send(payload)


def test_each_connection_is_served_while_the_others_wait() -> None:
    with serving(echo) as server, ExitStack() as stack:
        clients = [stack.enter_context(connected(server)) for _ in range(20)]
        for turn in range(3):
            for i, client in enumerate(clients):
                client.send(b"%d %d" % (turn, i))
        for turn in range(3):
            for i, client in reversed([*enumerate(clients)]):
                assert client.recv() == b"%d %d" % (turn, i)
        for client in clients:
            client.send_eof()
            assert client.recv() is None
            client.close()


def test_no_more_than_the_limit_are_served_and_the_others_come_when_one_ends() -> None:
    running: list[int] = []
    most: list[int] = []

    def count(client: FramedSocket) -> None:
        running.append(1)
        most.append(len(running))
        client.send(b"your turn")
        client.recv()
        running.pop()

    with serving(count, max_connections=2) as server, ExitStack() as stack:
        clients = [stack.enter_context(connected(server)) for _ in range(6)]
        waiting = list(clients)
        while waiting:
            served = [client for client in waiting[:2] if client.recv() == b"your turn"]
            for client in served:
                waiting.remove(client)
                client.send(b"thanks")
                assert client.recv() is None
                client.close()
    assert len(most) == 6
    assert max(most) <= 2


def test_what_a_handler_raises_ends_its_own_connection(caplog: pytest.LogCaptureFixture) -> None:
    def fragile(client: FramedSocket) -> None:
        for payload in client:
            if payload == b"break":
                raise ZeroDivisionError("broken")
            client.send(payload)

    with caplog.at_level(logging.INFO, "framewire"), serving(fragile) as server:
        with connected(server) as one, connected(server) as other:
            one.send(b"break")
            assert one.recv() is None
            one.close()
            other.send(b"still here")
            assert other.recv() == b"still here"
        with connected(server) as stranger:
            stranger.sock.send(b"GET / HTTP/1.1\r\n\r\n")
            assert ended(stranger.sock)
    (failed,) = [record for record in caplog.records if record.exc_info]
    assert "the handler failed" in failed.message
    assert "ZeroDivisionError" in caplog.text
    assert "looks like an HTTP request" in caplog.text


def test_a_shutdown_lets_handlers_take_what_has_come_and_see_the_end() -> None:
    came = threading.Event()
    received: list[list[bytes]] = []

    def collect(client: FramedSocket) -> None:
        came.set()
        payloads = list(client)
        received.append(payloads)
        client.send_many(payloads)

    with serving(collect) as server, connected(server) as client:
        client.send_many([b"one", b"two"])
        assert came.wait(LIMIT)
        server.shutdown(LIMIT)
        assert list(client) == [b"one", b"two"]
    assert received == [[b"one", b"two"]]


def test_a_handler_that_does_not_end_has_its_connection_taken_away() -> None:
    came, failed = threading.Event(), threading.Event()

    def stubborn(client: FramedSocket) -> None:
        came.set()
        try:
            while True:
                client.send(bytes(100_000))
        except OSError:
            failed.set()
            raise

    with serving(stubborn) as server, connected(server):
        assert came.wait(LIMIT)
        server.shutdown(0.05)
        assert failed.wait(LIMIT)


def test_over_tls(certificate: Any) -> None:
    theirs, ours = tls_contexts(certificate)
    with serving(echo, tls=theirs) as server:
        sock = ours.wrap_socket(socket.create_connection(server.address, LIMIT), server_hostname="localhost")
        with FramedSocket(sock, "u32be", timeout=LIMIT) as client:
            client.send(b"secret")
            assert client.recv() == b"secret"
        with socket.create_connection(server.address, LIMIT) as plain:  # no handshake: gone, and nobody else with it
            plain.sendall(b"hello there, this is no TLS\n" * 20)
            assert ended(plain)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
def test_over_a_unix_socket_whose_path_goes_with_the_server(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with serving(echo, path) as server:
        with connected(server) as client:
            client.send(b"hello")
            assert client.recv() == b"hello"
        assert os.path.exists(path)
    assert not os.path.exists(path)


def test_one_thread_receives_what_another_has_caused() -> None:
    """Both directions of one socket at a time."""

    def relay(client: FramedSocket) -> None:
        sender = threading.Thread(target=lambda: [client.send(b"%d" % i) for i in range(2000)])
        sender.start()
        assert list(client) == [b"%d" % i for i in range(2000)]
        sender.join()
        client.send(b"all of them")

    with serving(relay) as server, connected(server) as client:
        sender = threading.Thread(target=lambda: ([client.send(b"%d" % i) for i in range(2000)], client.send_eof()))
        sender.start()
        assert list(client) == [*(b"%d" % i for i in range(2000)), b"all of them"]
        sender.join()


def test_what_was_sent_last_arrives_though_the_peer_goes_on_sending() -> None:
    """A socket that is closed with unread bytes resets the connection, and what is on its way is lost."""

    def brief(client: FramedSocket) -> None:
        client.recv()
        client.send(bytes(1_000_000))

    with serving(brief) as server, connected(server) as client:
        client.send_many([b"x" * 1000] * 100)
        assert client.recv() == bytes(1_000_000)
        assert client.recv() is None


def test_a_server_can_be_closed_as_soon_as_it_is_started() -> None:
    for _ in range(200):
        with serve(echo, LOCAL, "u32be") as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
        thread.join(LIMIT)
        assert not thread.is_alive()


def test_what_accept_cannot_do_now_it_does_later(caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        """A listening socket on a bad day."""

        def __init__(self, sock: socket.socket) -> None:
            self._sock = sock
            self.errors = [errno.EMFILE, errno.EPROTO, errno.ECONNABORTED]

        def accept(self) -> Any:
            if self.errors:
                number = self.errors.pop()
                raise OSError(number, os.strerror(number))
            return self._sock.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sock, name)

    with caplog.at_level(logging.INFO, "framewire"), serve(echo, LOCAL, "u32be") as server:
        server._listening = Failing(server._listening)  # type: ignore[assignment]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with connected(server) as client:
            client.send(b"hello")
            assert client.recv() == b"hello"
        server.shutdown(LIMIT)
        thread.join(LIMIT)
    assert "cannot accept" in caplog.text
    assert "gone before it was accepted" in caplog.text


def test_a_connection_for_which_there_is_no_thread_is_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refused = threading.Event()

    def start(thread: threading.Thread) -> None:
        if "_serve" in repr(thread._target):  # type: ignore[attr-defined]
            monkeypatch.undo()
            refused.set()
            raise RuntimeError("can't start new thread")
        real(thread)

    real = threading.Thread.start
    with serving(echo, max_connections=1) as server:
        monkeypatch.setattr(threading.Thread, "start", start)
        with connected(server) as unlucky:
            assert ended(unlucky.sock)
        assert refused.is_set()
        with connected(server) as client:
            client.send(b"hello")
            assert client.recv() == b"hello"
    assert "can't start new thread" in caplog.text


def test_wrong_arguments_are_told() -> None:
    with pytest.raises(ValueError, match="max_connections must be at least 1, not 0"):
        serve(echo, LOCAL, max_connections=0)
    with pytest.raises(ValueError, match="nonsense"):
        serve(echo, LOCAL, "nonsense")
