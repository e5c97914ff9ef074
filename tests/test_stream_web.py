"""The stream for people who look on: what its WebSocket tells, and the page in a browser."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chatting import ENVIRONMENT, PATIENCE, Process
from conftest import CORES
from web.browser import browser, needs_browser

import framewire
from framewire.servers.stream_web import NEWEST_COUNT, TEXT_SIZE
from framewire.websocket import blocking


class StreamServer(Process):
    """``framewire stream serve`` with a page."""

    def __init__(self, *args: object, core: str, **options: Any) -> None:
        command = [sys.executable, "-m", "framewire", "stream", "serve", "--port", 0, "--web", 0, *args]
        super().__init__(command, env={**ENVIRONMENT, "FRAMEWIRE_CORE": core}, **options)
        found = self.expect(rb"listening on [^\n]*:(\d+) for [^\n]*\n[^\n]*listening on [^\n]*:(\d+) for", "stderr")
        self.port, self.web_port = int(found[1]), int(found[2])


@contextmanager
def looking_on(server: StreamServer, **options: Any) -> Iterator[blocking.WebSocket]:
    scheme = "wss" if options else "ws"
    with blocking.connect(f"{scheme}://localhost:{server.web_port}/ws", timeout=PATIENCE, **options) as socket:
        yield socket


def told(socket: blocking.WebSocket) -> dict[str, Any]:
    message = socket.recv()
    assert isinstance(message, str)
    found: dict[str, Any] = json.loads(message)
    return found


@pytest.fixture(params=CORES)
def core(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_who_looks_on_gets_the_stream_goes_on_for_it_and_is_counted_from_the_beginning(
    core: str, tmp_path: Path
) -> None:
    lines = tmp_path / "poem.txt"
    lines.write_bytes(b"one\n<i>two</i>\nf\xc3\xbcr \xff\x1b[2J\n" + b"x" * (TEXT_SIZE + 1) + b"\n")
    with StreamServer("--every", "0.01", lines, core=core) as server, looking_on(server) as socket:
        hello = told(socket)
        assert (hello["type"], hello["source"], hello["interval"], hello["count"]) == ("hello", "poem.txt", 0.01, 0)
        newest: list[str] = []
        while len(newest) < 4:
            update = told(socket)
            newest += update["newest"]
            assert (update["type"], update["count"]) == ("update", len(newest))
        assert newest == [
            "one",
            "<i>two</i>",
            "für \\xff\\x1b[2J",
            "x" * TEXT_SIZE + f"… ({TEXT_SIZE + 1} bytes)",
        ]
        assert socket.recv() is None
        assert socket.close_code == 1001
        assert server.wait() == 0


def test_a_burst_is_counted_and_its_newest_are_shown(core: str) -> None:
    with StreamServer("--burst", "--count", 20_000, core=core) as server:
        with framewire.connect(("localhost", server.port), timeout=PATIENCE) as client, looking_on(server) as socket:
            assert told(socket)["type"] == "hello"
            received = 0
            for payloads in iter(client.recv_many, []):
                received += len(payloads)
            updates = [json.loads(str(message)) for message in socket]
        assert received == 20_001  # with the greeting
        assert updates[-1]["count"] == 20_000
        assert all(len(update["newest"]) <= NEWEST_COUNT for update in updates)
        assert re.fullmatch(r"The time is \d+\.\d+", updates[-1]["newest"][-1])
        assert len(updates) < 1000  # by time, not by message


def test_nobody_there_nothing_is_taken(core: str) -> None:
    with StreamServer("--burst", "-", core=core) as server:
        assert server.popen.stdin
        server.popen.stdin.write(b"waiting\n")
        server.popen.stdin.flush()
        with looking_on(server) as first:
            assert told(first)["count"] == 0
            assert told(first)["newest"] == ["waiting"]
        server.expect(rb"disconnected", "stderr")
        server.popen.stdin.write(b"for the next\n")
        server.popen.stdin.flush()
        with looking_on(server) as second:
            assert told(second)["count"] == 1
            assert told(second)["newest"] == ["for the next"]


def test_over_tls_the_page_is_too(core: str, certificate: Path) -> None:
    context = ssl.create_default_context(cafile=str(certificate))
    with StreamServer("--cert", certificate, core=core) as server, looking_on(server, tls=context) as socket:
        assert told(socket)["source"] == "the clock"


@needs_browser
def test_the_page_shows_the_newest_messages_and_their_rate() -> None:
    with (
        StreamServer("--every", "0.05", core=CORES[0], stdin=subprocess.DEVNULL) as server,
        browser() as chromium,
    ):
        page = chromium.open(f"http://127.0.0.1:{server.web_port}/")
        page.wait_for("source", "the clock")
        page.wait(lambda page: "The time is" in page.text("list"))
        page.wait(lambda page: page.text("summary").startswith("Now "))
        assert page.complaints() == []
