"""What the tests of the chat talk to: its server and its client as processes, and plain sockets at its doors."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import time as now
from typing import Any

from conftest import CORES

import framewire
import framewire.websocket.blocking
from framewire import websocket

ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "PYTHONUNBUFFERED")}

PATIENCE = 60
"""Seconds after which what should have happened is a failure."""


class Process:
    """A process, and all that it has written so far. The end of the context is its end."""

    def __init__(self, command: list[Any], **options: Any) -> None:
        pipes = dict.fromkeys(["stdin", "stdout", "stderr"], subprocess.PIPE)
        self.popen = subprocess.Popen([*map(str, command)], **{**pipes, "env": ENVIRONMENT, **options})
        self.output = {"stdout": b"", "stderr": b""}
        self._news = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=(name, pipe))
            for name in self.output
            if (pipe := getattr(self.popen, name)) is not None
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, pipe: Any) -> None:
        while data := os.read(pipe.fileno(), 65536):
            with self._news:
                self.output[name] += data
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def expect(self, pattern: bytes, name: str = "stdout", after: int = 0) -> re.Match[bytes]:
        """Wait until it has written something like this."""
        with self._news:
            found = self._news.wait_for(lambda: re.search(pattern, self.output[name][after:]), PATIENCE)
        assert found, self.output
        return found

    def lines(self) -> list[str]:
        return self.output["stdout"].decode().splitlines()

    def say(self, *lines: str) -> None:
        assert self.popen.stdin
        self.popen.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self.popen.stdin.flush()

    def wait(self) -> int:
        status = self.popen.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return status

    def end(self) -> int:
        """Close its input, and wait."""
        assert self.popen.stdin
        self.popen.stdin.close()
        return self.wait()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *raised: object) -> None:
        self.popen.kill()
        self.wait()
        for pipe in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if pipe is not None:
                pipe.close()


class Server(Process):
    """``framewire chat serve`` with both doors."""

    def __init__(self, *args: object, core: str = CORES[0]) -> None:
        command = [sys.executable, "-m", "framewire", "chat", "serve", "--port", 0, "--framed-port", 0, *args]
        super().__init__(command, env={**ENVIRONMENT, "FRAMEWIRE_CORE": core})
        found = self.expect(rb"listening on [^\n]*:(\d+) for [^\n]*\n[^\n]*listening on [^\n]*:(\d+) for", "stderr")
        self.raw_port, self.framed_port = int(found[1]), int(found[2])

    @contextmanager
    def logs(self, pattern: str) -> Iterator[None]:
        """Wait, when this is left, for a line in the log."""
        after = len(self.output["stderr"])
        yield
        self.expect(f"{pattern}\n".encode(), "stderr", after)


class RawClient:
    """Somebody at a raw door, who is in the room."""

    def __init__(self, port: int, server: Server | None = None) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.name = "{}:{}".format(*self.sock.getsockname())
        self.address = repr(self.sock.getsockname())
        self.in_words = "Client ({}, {})".format(*self.sock.getsockname())
        self._file = self.sock.makefile("rb")
        if server is not None:
            server.expect(rf"{self.name} connected\n".encode(), "stderr")

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)

    def line(self) -> str:
        return self._file.readline().decode()

    def rest(self) -> str:
        """All up to the end of the connection."""
        return self._file.read().decode()

    def leave(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()
        self.sock.close()


def raw_client(server: Server) -> RawClient:
    return RawClient(server.raw_port, server)


@contextmanager
def framed(server: Server, name: bytes) -> Iterator[framewire.FramedSocket]:
    """Somebody at a framed door, who is in the room."""
    with framewire.connect(("127.0.0.1", server.framed_port), timeout=PATIENCE) as connection:
        with server.logs(f" is {name.decode()}"):
            connection.send(name)
        yield connection


def pair(connection: framewire.FramedSocket) -> tuple[str, str]:
    name, text = connection.recv(), connection.recv()
    assert name is not None
    assert text is not None
    return name.decode(), text.decode()


def joined(port: int, *args: str, **options: Any) -> Process:
    """``framewire chat join``."""
    return Process([sys.executable, "-m", "framewire", "chat", "join", *args, "127.0.0.1", port], **options)


class WebServer(Server):
    """``framewire chat serve`` with all three doors."""

    def __init__(self, *args: object, core: str = CORES[0]) -> None:
        super().__init__("--web", 0, *args, core=core)
        self.web_port = int(self.expect(rb"listening on [^\n]*:(\d+) for websocket", "stderr")[1])
        self.url = f"http://127.0.0.1:{self.web_port}/"


class WebClient:
    """Somebody at the door for browsers, with a WebSocket of our own."""

    def __init__(self, port: int, name: str | None = None, **options: Any) -> None:
        self.socket = websocket.blocking.connect(f"ws://127.0.0.1:{port}/ws", timeout=PATIENCE, **options)
        if name is not None:
            self.send(type="join", name=name)
            self.welcome = self.receive()
            assert self.welcome["type"] == "welcome", self.welcome

    def send(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))

    def receive(self) -> dict[str, Any]:
        """The next message, without its time."""
        text = self.socket.recv()
        assert isinstance(text, str), self.socket.close_code
        message: dict[str, Any] = json.loads(text)
        time = message.pop("time")
        assert abs(time - now()) < PATIENCE
        return message

    def end(self) -> tuple[int | None, str]:
        """How the server has closed the connection, with nothing more before that."""
        assert self.socket.recv() is None
        return self.socket.close_code, self.socket.close_reason

    def __enter__(self) -> WebClient:
        return self

    def __exit__(self, *raised: object) -> None:
        self.socket.close()
