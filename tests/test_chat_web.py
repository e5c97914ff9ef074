"""The chat's door for browsers: what is said over its WebSocket, and the page in a browser."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import pytest
from chatting import PATIENCE, Process, WebClient, WebServer, framed, joined, pair, raw_client
from conftest import CORES
from web.browser import Browser, browser, needs_browser

import framewire.servers
from framewire.servers.chat import LINE_SIZE
from framewire.servers.pages import POLICY
from framewire.websocket import HandshakeRefused


@pytest.fixture(params=CORES)
def server(request: pytest.FixtureRequest) -> Iterator[WebServer]:
    with WebServer(core=request.param) as server:
        yield server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


def web(server: WebServer, name: str | None = None) -> WebClient:
    return WebClient(server.web_port, name)


# What is said.


def test_who_speaks_through_one_door_is_heard_through_all(server: WebServer) -> None:
    with ExitStack() as stack:
        ann = stack.enter_context(web(server, "ann"))
        assert ann.welcome == {"type": "welcome", "name": "ann", "members": ["ann"]}
        raw = stack.enter_context(raw_client(server))
        assert ann.receive() == {"type": "entered", "name": raw.name}
        bob = stack.enter_context(framed(server, b"bob"))
        assert ann.receive() == {"type": "entered", "name": "bob"}
        assert raw.line() == "[bob] entered our chatting room\n"
        eve = stack.enter_context(web(server, "eve"))
        assert eve.welcome == {"type": "welcome", "name": "eve", "members": ["ann", raw.name, "bob", "eve"]}
        assert ann.receive() == {"type": "entered", "name": "eve"}
        assert pair(bob) == ("[server]", "eve entered our chatting room")
        raw.line()

        ann.send(type="say", text="hé, <b>all</b>\n& you")
        for text in ["hé, <b>all</b>", "& you"]:
            assert raw.line() == f"\r[ann] {text}\n"
            assert pair(bob) == ("ann", text)
            assert eve.receive() == {"type": "said", "name": "ann", "text": text}
        raw.say(b"hello \xff\n")
        for page in (ann, eve):
            assert page.receive() == {"type": "said", "name": raw.name, "text": "hello \\xff"}
        bob.send(b"hi")
        for page in (ann, eve):
            assert page.receive() == {"type": "said", "name": "bob", "text": "hi"}
        assert raw.line() == "\r[bob] hi\n"
        eve.socket.close()
        assert ann.receive() == {"type": "left", "name": "eve"}
        assert raw.line() == "Client (eve) is offline\n"


@pytest.mark.parametrize("name", ["", "x" * 33, " ann", "a\nb", "[server]", "\ud800", "127.0.0.1:5"])
def test_a_name_that_cannot_be_is_refused_with_a_reason(server: WebServer, name: str) -> None:
    with web(server) as client:
        client.send(type="join", name=name)
        told = json.loads(str(client.socket.recv()))
        assert told["type"] == "refused"
        assert told["reason"].startswith("a name must ")
        assert client.end() == (1000, "")


def test_a_name_that_is_taken_is_refused(server: WebServer) -> None:
    with framed(server, b"ann"), web(server) as client:
        client.send(type="join", name="ANN")
        assert client.receive() == {"type": "refused", "reason": "the name ANN is taken"}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("hello", "a message is a JSON object with a type"),
        ("[" * 100_000, "a message is a JSON object with a type"),
        ("[]", "a message is a JSON object with a type"),
        ('{"type": 5}', "a message is a JSON object with a type"),
        (b'{"type": "join", "name": "ann"}', "a message is a JSON object with a type"),
        ('{"type": "say", "text": "before I am in"}', "join comes first, and once"),
        ('{"type": "join"}', "the name is missing"),
        ('{"type": "join", "name": 5}', "the name is missing"),
        ('{"type": "nonsense"}', "no such type"),
    ],
    ids=repr,
)
def test_what_is_not_understood_ends_that_connection_alone(
    server: WebServer, message: str | bytes, reason: str
) -> None:
    with web(server, "ann") as ann, web(server) as client:
        client.socket.send(message[: 6 * LINE_SIZE])
        assert client.end() == (1008, reason)
        with web(server, "bob"):
            assert ann.receive() == {"type": "entered", "name": "bob"}


def test_a_line_that_is_too_long_ends_the_connection(server: WebServer) -> None:
    with web(server, "ann") as ann, web(server, "bob") as bob:
        ann.receive()
        bob.send(type="say", text="é" * (LINE_SIZE // 2))
        assert ann.receive()["text"] == "é" * (LINE_SIZE // 2)
        bob.send(type="say", text="é" * (LINE_SIZE // 2) + "x")
        assert bob.end()[0] == 1009
        assert ann.receive() == {"type": "left", "name": "bob"}
        with web(server, "eve") as eve:
            eve.socket.send("x" * (6 * LINE_SIZE + 65))
            assert eve.end()[0] == 1009


def test_halves_of_characters_are_told_as_bytes(server: WebServer) -> None:
    with web(server, "ann") as ann, web(server, "bob") as bob, raw_client(server) as raw:
        ann.receive(), ann.receive(), bob.receive()
        bob.socket.send('{"type": "say", "text": "\\ud800 \\u001b[2J"}')
        assert ann.receive()["text"] == "\\xed\\xa0\\x80 \\x1b[2J"
        assert raw.line() == "\r[bob] \\xed\\xa0\\x80 \\x1b[2J\n"


def test_the_server_goes_with_a_word(server: WebServer) -> None:
    with web(server, "ann") as ann:
        server.popen.terminate()
        assert ann.end() == (1001, "")
    assert server.wait() == 0


# What is served.


def test_pages_of_elsewhere_cannot_connect(server: WebServer) -> None:
    url = f"ws://127.0.0.1:{server.web_port}/ws"
    for origin in ("http://example.org", f"http://localhost:{server.web_port}", "http://127.0.0.1:1", "null"):
        with pytest.raises(HandshakeRefused) as caught:
            framewire.websocket.blocking.connect(url, origin=origin, timeout=PATIENCE)
        assert caught.value.status == 403
    framewire.websocket.blocking.connect(url, origin=server.url.rstrip("/"), timeout=PATIENCE).close()


def test_other_origins_can_be_allowed() -> None:
    with WebServer("--origin", "https://example.org") as server:
        url = f"ws://127.0.0.1:{server.web_port}/ws"
        framewire.websocket.blocking.connect(url, origin="https://example.org", timeout=PATIENCE).close()
        with pytest.raises(HandshakeRefused):
            framewire.websocket.blocking.connect(url, origin="http://example.org", timeout=PATIENCE)


def test_the_page_and_its_files_are_served_over_one_connection(server: WebServer) -> None:
    connection = HTTPConnection("127.0.0.1", server.web_port, timeout=PATIENCE)
    folder = Path(framewire.servers.__file__).parent / "web"
    for path, file in [("/", "chat.html"), *((f"/{file.name}", file.name) for file in folder.iterdir())]:
        connection.request("GET", path)
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, (folder / file).read_bytes())
        assert response.headers["Content-Security-Policy"] == POLICY
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    connection.request("HEAD", "/chat.js?x=1")
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"")
    assert response.headers.get_content_type() == "text/javascript"
    connection.close()


@pytest.mark.parametrize("path", ["/nothing", "/../chat.py", "/%2e%2e/chat.py", "/web/chat.html", "//", "/CHAT.HTML"])
def test_nothing_else_is(server: WebServer, path: str) -> None:
    connection = HTTPConnection("127.0.0.1", server.web_port, timeout=PATIENCE)
    connection.request("GET", path)
    assert connection.getresponse().status == 404
    connection.close()


def test_a_port_that_is_in_use_is_named() -> None:
    command = [sys.executable, "-m", "framewire", "chat", "serve", "--port", 0]
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with Process([*command, "--web", port]) as process:
            assert process.wait() == 1
            assert f"cannot listen on 127.0.0.1:{port}: ".encode() in process.output["stderr"]


def test_origin_alone_makes_no_sense() -> None:
    command = [sys.executable, "-m", "framewire", "chat", "serve", "--origin", "https://example.org"]
    with Process(command) as process:
        assert process.wait() == 2
        assert b"--origin needs --web" in process.output["stderr"]


# The page in a browser.


@needs_browser
def test_four_kinds_of_clients_hear_each_other(server: WebServer, chromium: Browser) -> None:
    with ExitStack() as stack:
        page = chromium.open(server.url)
        stack.callback(page.close)
        page.join("ann")
        page.wait(lambda page: page.members() == ["ann"])
        raw = stack.enter_context(raw_client(server))
        bob = stack.enter_context(framed(server, b"bob"))
        raw.line()
        cat = stack.enter_context(joined(server.framed_port, "--name", "cat"))
        cat.expect(rb"")
        assert raw.line() == "[cat] entered our chatting room\n"
        assert pair(bob) == ("[server]", "cat entered our chatting room")
        page.wait(lambda page: page.members() == ["ann", raw.name, "bob", "cat"])

        page.say("from the browser")
        assert raw.line() == "\r[ann] from the browser\n"
        assert pair(bob) == ("ann", "from the browser")
        cat.expect(rb"ann.*from the browser")
        raw.say(b"from telnet <script>alert(1)</script>\n")
        assert pair(bob) == (raw.name, "from telnet <script>alert(1)</script>")
        cat.expect(rb"from telnet")
        bob.send("from a program, ünd so on".encode())
        assert raw.line() == "\r[bob] from a program, ünd so on\n"
        cat.expect("from a program, ünd so on".encode())
        cat.say("from the terminal")
        assert raw.line() == "\r[cat] from the terminal\n"
        assert pair(bob) == ("cat", "from the terminal")
        page.wait(lambda page: len(page.log()) >= 8)
        assert page.log()[-4:] == [
            "ann: from the browser",
            f"{raw.name}: from telnet <script>alert(1)</script>",
            "bob: from a program, ünd so on",
            "cat: from the terminal",
        ]
        assert page.complaints() == []


@needs_browser
def test_the_page_comes_back_by_itself_when_the_server_does(chromium: Browser) -> None:
    with WebServer() as server, web(server, "bob") as bob:
        page = chromium.open(server.url)
        page.join("ann")
        assert bob.receive() == {"type": "entered", "name": "ann"}
        bob.send(type="say", text="before")
        page.wait_for("log", "before")
        server.popen.terminate()
        server.wait()
        page.wait_for("state", "Reconnecting")
        page.find("text").send_keys("typed meanwhile")
        with WebServer("--web", server.web_port) as again:
            page.find("now").click()
            page.wait_for("log", "You are back as ann")
            with raw_client(again) as raw:
                page.wait(lambda page: page.members() == ["ann", raw.name])
                page.find("send").click()
                assert raw.line() == "\r[ann] typed meanwhile\n"
            assert page.log()[-1] != ""
            assert any(line == "bob: before" for line in page.log())
        page.close()
