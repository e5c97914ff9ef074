"""The chat: one room, several doors, and everybody who comes through them, as real processes over loopback.

The tutorial's own client and server are written anew here, after its description.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from chatting import ENVIRONMENT, PATIENCE, Process, RawClient, Server, framed, joined, pair, raw_client
from conftest import CORES
from looping import loop, narrow, recv_all, reset, run_until

from framewire.loop import Channel, Handler, Loop
from framewire.servers import chat
from framewire.servers.chat import LINE_SIZE, LINES, FramedDoor, RawDoor, Room
from framewire.servers.joining import Framed, Message, Raw, cut, render
from framewire.servers.terminal import Editor
from framewire.servers.text import fit, to_text, width

__all__ = ["loop"]  # the fixture

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals, pipes and terminals")


@pytest.fixture(params=CORES)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(core=request.param) as server:
        yield server


# The raw door: exactly the lines of the select() tutorial.


def test_enter_relay_and_offline_are_the_lines_of_the_tutorial(server: Server) -> None:
    with raw_client(server) as one, raw_client(server) as two, raw_client(server) as three:
        assert one.line() == f"[{two.name}] entered our chatting room\n"
        assert one.line() == f"[{three.name}] entered our chatting room\n"
        assert two.line() == f"[{three.name}] entered our chatting room\n"
        two.say(b"client 2\n")
        assert one.line() == three.line() == f"\r[{two.address}] client 2\n"
        two.leave()  # not the last that came
        assert one.line() == three.line() == f"{two.in_words} is offline\n"
        three.say(b"bye\n")
        three.leave()
        assert one.line() == f"\r[{three.address}] bye\n"
        assert one.line() == f"{three.in_words} is offline\n"
        one.leave()
        assert [client.rest() for client in (one, two, three)] == ["", "", ""]  # nobody has heard itself


def test_who_is_lost_is_offline(server: Server) -> None:
    with raw_client(server) as one:
        two = raw_client(server)
        assert one.line() == f"[{two.name}] entered our chatting room\n"
        two._file.close()
        reset(two.sock)
        assert one.line() == f"{two.in_words} is offline\n"


def test_text_is_split_at_line_ends_and_not_at_reads(server: Server) -> None:
    with raw_client(server) as one, raw_client(server) as two:
        one.line()
        for byte in b"half a line, and\r\nanother\n\nthe end":
            two.say(bytes([byte]))
        heard = [one.line() for _ in range(3)]
        assert heard == [f"\r[{two.address}] {text}\n" for text in ["half a line, and", "another", ""]]
        two.leave()
        assert one.line() == f"{two.in_words} is offline\n"  # half a line is no message


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_that_is_too_long_ends_that_connection_alone(server: Server, end: bytes) -> None:
    with raw_client(server) as one, raw_client(server) as two, raw_client(server) as three:
        one.line(), one.line(), two.line()
        two.say(b"x" * LINE_SIZE + b"\n")
        assert one.line() == three.line() == f"\r[{two.address}] {'x' * LINE_SIZE}\n"
        two.say(b"before\n" + b"x" * (LINE_SIZE + 1) + end)
        assert one.line() == three.line() == f"\r[{two.address}] before\n"
        assert two.rest() == ""
        two.sock.close()
        two._file.close()
        assert one.line() == three.line() == f"{two.in_words} is offline\n"
        three.say(b"still here\n")
        assert one.line() == f"\r[{three.address}] still here\n"
        server.expect(rb"%s disconnected: FrameTooLarge: [^\n]*limit of 4096" % two.name.encode(), "stderr")


def test_bytes_that_are_no_text_harm_nobody(server: Server) -> None:
    with raw_client(server) as one, raw_client(server) as two, framed(server, b"ann") as three:
        one.line(), one.line(), two.line()
        two.say(b"caf\xc3\xa9 caf\xe9\ta\x1b[2J\x00\x07\r\x7f\xc2\x9b\xe2\x80\xae\n")
        text = "café caf\\xe9\ta\\x1b[2J\\x00\\x07\\r\\x7f\\x9b\\u202e"
        assert one.line() == f"\r[{two.address}] {text}\n"
        assert pair(three) == (two.name, text)
        three.send(b"\xff\x1b")
        assert one.line() == two.line() == "\r[ann] \\xff\\x1b\n"


# The framed door, and both.


def test_who_speaks_through_one_door_is_heard_through_all(server: Server) -> None:
    with framed(server, b"ann") as ann, raw_client(server) as raw:
        assert pair(ann) == ("[server]", f"{raw.name} entered our chatting room")
        with framed(server, "bøb".encode()) as bob:
            assert pair(ann) == ("[server]", "bøb entered our chatting room")
            assert raw.line() == "[bøb] entered our chatting room\n"
            ann.send_many([b"hello", b"all of you"])
            assert [raw.line(), raw.line()] == ["\r[ann] hello\n", "\r[ann] all of you\n"]
            raw.say(b"hi, ann\nhi, bob\n")
            assert [pair(ann), pair(ann)] == [(raw.name, "hi, ann"), (raw.name, "hi, bob")]
            assert [pair(bob), pair(bob)] == [("ann", "hello"), ("ann", "all of you")]
            assert [pair(bob), pair(bob)] == [(raw.name, "hi, ann"), (raw.name, "hi, bob")]
        assert pair(ann) == ("[server]", "bøb is offline")
        assert raw.line() == "Client (bøb) is offline\n"
        raw.leave()
        assert pair(ann) == ("[server]", f"{raw.name} is offline")


def test_the_frames_of_the_framed_door(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.framed_port), PATIENCE) as sock:
        with server.logs(" is ann"):
            for byte in b"3         ann5         hello":
                sock.sendall(bytes([byte]))
        with server.logs(r"\d disconnected"), framed(server, b"bob") as bob:
            bob.send(b"hi, ann!")
        sock.shutdown(socket.SHUT_WR)
        assert recv_all(sock) == (
            b"8         [server]29        bob entered our chatting room"
            b"3         bob8         hi, ann!"
            b"8         [server]14        bob is offline"
        )


def test_a_frame_of_several_lines_is_as_many_messages(server: Server) -> None:
    with raw_client(server) as raw, framed(server, b"ann") as ann:
        raw.line()
        ann.send_many([b"one\ntwo\r\n[bob] three\n", b""])
        assert [raw.line() for _ in range(4)] == [f"\r[ann] {text}\n" for text in ["one", "two", "[bob] three", ""]]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"", "a name must not be empty"),
        (b"x" * 33, "a name must not have more than 32 characters"),
        (b"a\xffb", "a name must be UTF-8"),
        (b"a\nb", "a name must not have characters that cannot be seen"),
        (b"\x1b[2J", "a name must not have characters that cannot be seen"),
        ("a\u202eb".encode(), "a name must not have characters that cannot be seen"),
        (b"a] b", "a name must not have [ ] ( ) : in it, nor blanks around it"),
        (b"[server]", "a name must not have [ ] ( ) : in it, nor blanks around it"),
        (b"127.0.0.1:9", "a name must not have [ ] ( ) : in it, nor blanks around it"),
        (b" ann", "a name must not have [ ] ( ) : in it, nor blanks around it"),
        (b"bob", "the name bob is taken"),
        (b"BOB", "the name BOB is taken"),
    ],
)
def test_a_name_that_cannot_be_had_is_refused(loop: Loop, name: bytes, reason: str) -> None:
    _, address = new_door(loop, FramedDoor)
    bob, other = Listening(b"bob"), Listening(name, b"heard by nobody")
    loop.connect(address, bob)
    run_until(loop, lambda: loop.stats().received_count == 1)
    loop.connect(address, other)
    run_until(loop, lambda: other.over)
    assert other.heard == [b"[server]", reason.encode()]
    assert bob.heard == []


def test_a_name_is_free_again(server: Server) -> None:
    with framed(server, b"ann") as ann:
        for _ in range(3):
            with framed(server, b"x" * 32) as other:
                assert pair(ann) == ("[server]", "x" * 32 + " entered our chatting room")
                other.send(b"hi")
                assert pair(ann) == ("x" * 32, "hi")
            assert pair(ann) == ("[server]", "x" * 32 + " is offline")


@pytest.mark.parametrize("sent", [b"", b"3         an"])
def test_who_does_not_say_who_it_is_has_to_go(loop: Loop, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "NAME_TIMEOUT", 0.05)
    door, address = new_door(loop, FramedDoor)
    silent = Listening()
    loop.connect(address, silent).write(sent)
    run_until(loop, lambda: silent.over)
    assert silent.heard == [b"[server]", b"no name came in 0.05 seconds"]
    assert door.room.members == []


def test_what_is_no_frame_ends_that_connection_alone(server: Server) -> None:
    with framed(server, b"ann") as ann:
        with socket.create_connection(("127.0.0.1", server.framed_port), PATIENCE) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert recv_all(sock) == b""
        server.expect(rb"disconnected: HeaderError: [^\n]*looks like an HTTP request", "stderr")
        with framed(server, b"bob") as bob:
            bob.send(b"x" * (LINE_SIZE + 1))
            assert pair(ann)[1] == "bob entered our chatting room"
            assert bob.recv() is None
        assert pair(ann)[1] == "bob is offline"


# In one process: many members.


class Listening(Handler):
    """Somebody who has something to say at first, and hears what the others say."""

    def __init__(self, *payloads: bytes) -> None:
        self.payloads = payloads
        self.heard: list[bytes] = []
        self.said_count = self.offline_count = 0
        self.over = False

    def connected(self, channel: Channel) -> None:
        channel.send_many(self.payloads)

    def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
        self.heard += payloads
        self.said_count += sum([b" says " in payload for payload in payloads])
        self.offline_count += sum([b" is offline" in payload for payload in payloads])

    def disconnected(self, channel: Channel, error: Exception | None) -> None:
        self.over = True


def new_door(loop: Loop, kind: type[Any], room: Room | None = None, **options: Any) -> tuple[Any, Any]:
    """A door whose sockets hold little, so that who does not receive is soon seen."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    narrow(listening)
    door = kind(Room() if room is None else room, loop, **options)
    return door, door.listen(listening).address


def test_in_a_room_of_200_where_20_stall_the_others_lose_nothing(loop: Loop) -> None:
    room = Room()
    raw, raw_address = new_door(loop, RawDoor, room, limit=64 * 1024)
    framed, framed_address = new_door(loop, FramedDoor, room, limit=64 * 1024)
    members: list[tuple[Listening, Channel]] = []
    for i in range(200):
        handler = Listening(*([] if i % 2 else [b"name %d" % i]))
        sock = socket.create_connection(raw_address if i % 2 else framed_address)
        narrow(sock)
        members.append((handler, loop.attach(sock, handler, LINES if i % 2 else "ascii10")))
    run_until(loop, lambda: len(room.members) == 200)
    stalled, others = members[:20], members[20:]
    for _, channel in stalled:
        channel.pause_reading()
    speakers = others[:6]  # as many at either door

    said_count = 0
    while raw.group.disconnected_count + framed.group.disconnected_count < 20:
        assert said_count < 1000, "nobody is found to stall"
        for who, (_, channel) in enumerate(speakers):
            channel.send(b"speaker %d says %d, %s" % (who, said_count, b"x" * 900))
        said_count += 1
        heard_count = said_count * (180 * 6 - 6)
        run_until(loop, lambda: sum(handler.said_count for handler, _ in others) == heard_count)  # noqa: B023
    run_until(loop, lambda: all(handler.offline_count == 20 for handler, _ in others))
    assert len(room.members) == 180
    everything = [b"%d" % i for i in range(said_count)]
    for handler, _ in others:
        said = [re.search(rb"speaker (\d) says (\d+),", payload) for payload in handler.heard]
        for who, (speaker, _) in enumerate(speakers):
            heard = [mark[2] for mark in said if mark and int(mark[1]) == who]
            assert heard == ([] if handler is speaker else everything)
        assert not handler.over


def test_what_a_slow_member_misses_is_whole_messages(loop: Loop) -> None:
    door, address = new_door(loop, FramedDoor, policy="drop_oldest", limit=64 * 1024)
    bob, ann, cat = Listening(b"bob"), Listening(b"ann"), Listening(b"cat")
    slow = loop.connect(address, bob)
    run_until(loop, lambda: len(door.room.members) == 1)
    slow.pause_reading()
    speaker = loop.connect(address, ann)
    loop.connect(address, cat)
    run_until(loop, lambda: len(door.room.members) == 3)
    said_count = 0
    while not door.group.dropped_count:
        assert said_count < 10_000, "nothing is dropped"
        speaker.send(b"%d says %s" % (said_count, b"x" * 1000))
        said_count += 1
        run_until(loop, lambda: cat.said_count == said_count)  # noqa: B023
    speaker.send(b"the last")
    slow.resume_reading()
    run_until(loop, lambda: bob.heard[-1:] == [b"the last"])
    assert {*bob.heard[::2]} == {b"[server]", b"ann"}
    numbers = [int(text.split()[0]) for text in bob.heard[1::2] if b" says " in text]
    assert numbers == sorted(numbers)
    assert len(numbers) == bob.said_count < said_count
    assert door.group.dropped_count == 2 * (said_count - len(numbers))


# Programs of others.

TUTORIAL_CLIENT = """
import select, socket, sys

server = socket.socket()
server.connect((sys.argv[1], int(sys.argv[2])))
sys.stdout.write("Connected to remote host. You can start sending messages\\n[Me] ")
sys.stdout.flush()
while True:
    for ready in select.select([sys.stdin, server], [], [])[0]:
        if ready is server:
            data = server.recv(4096)
            if not data:
                sys.stdout.write("\\nDisconnected from chat server\\n")
                sys.exit()
            sys.stdout.write(data.decode())
        else:
            message = sys.stdin.readline()
            if not message:
                sys.exit()
            server.sendall(message.encode())
        sys.stdout.write("[Me] ")
        sys.stdout.flush()
"""

TUTORIAL_SERVER = """
import select, socket, sys

listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", 0))
listener.listen(10)
sockets = [listener]
sys.stderr.write("Chat server started on port %d\\n" % listener.getsockname()[1])
sys.stderr.flush()

def broadcast(sender, text):
    for sock in sockets:
        if sock is not listener and sock is not sender:
            sock.sendall(text)

while True:
    for sock in select.select(sockets, [], [])[0]:
        if sock is listener:
            client, address = listener.accept()
            sockets.append(client)
            sys.stderr.write("Client (%s, %s) connected\\n" % address)
            sys.stderr.flush()
            broadcast(client, ("[%s:%s] entered our chatting room\\n" % address).encode())
        else:
            address = sock.getpeername()
            data = sock.recv(4096)
            if data:
                broadcast(sock, ("\\r[" + str(address) + "] ").encode() + data)
            else:
                sockets.remove(sock)
                broadcast(sock, ("Client (%s, %s) is offline\\n" % address).encode())
                sock.close()
"""


def old_python() -> str:
    """A Python 2.7, if there is one. What stands in the path may only stand for one that is not there."""
    for path in [shutil.which("python2.7"), *Path.home().glob(".pyenv/versions/2.7*/bin/python2.7")]:
        if path and subprocess.run([path, "-c", ""], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return str(path)
    return ""


CHATTERS: dict[str, Callable[[Path, int], list[Any]]] = {
    "python 3": lambda script, port: [sys.executable, "-u", script, "127.0.0.1", port],
    "python 2.7": lambda script, port: [old_python(), "-u", script, "127.0.0.1", port],
    "nc": lambda script, port: [shutil.which("nc") or "", "127.0.0.1", port],
}


@posix
@pytest.mark.parametrize("name", CHATTERS)
def test_clients_of_others_chat_with_ours(server: Server, name: str, tmp_path: Path) -> None:
    script = tmp_path / "client.py"
    script.write_text(TUTORIAL_CLIENT)
    command = CHATTERS[name](script, server.raw_port)
    if not command[0]:
        pytest.skip(f"no {name} here")
    with joined(server.framed_port, "--name", "ann") as ann:
        server.expect(rb" is ann\n", "stderr")
        with Process(command) as other:
            who = ann.expect(rb"(127\.0\.0\.1:\d+) entered our chatting room\n")[1].decode()
            other.say("hello from outside")
            ann.expect(rb"hello from outside\n")
            ann.say("hello, you", "and you")
            other.expect(rb"\r\[ann\] hello, you\n(\[Me\] )*\r\[ann\] and you\n")
            assert ann.end() == 0
            other.expect(rb"Client \(ann\) is offline\n")
        assert ann.lines() == [f"{who} entered our chatting room", f"[{who}] hello from outside"]


@posix
def test_the_tutorials_own_server_is_joined_by_ours(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(TUTORIAL_SERVER)
    with Process([sys.executable, script]) as tutorial, ExitStack() as stack:
        port = int(tutorial.expect(rb"started on port (\d+)\n", "stderr")[1])
        one = stack.enter_context(joined(port, "--raw"))
        tutorial.expect(rb" connected\n", "stderr")
        raw = stack.enter_context(RawClient(port))
        one.expect(re.escape(raw.name.encode()) + rb"\] entered our chatting room\n")
        two = stack.enter_context(joined(port, "--raw"))
        assert "entered our chatting room" in raw.line()
        raw.say(b"h\xc3\xa9llo\x07\n")
        for ours in (one, two):
            ours.expect(rb"llo\\x07\n")
            assert ours.lines()[-1] == f"[{raw.address}] héllo\\x07"
        two.say("one", "two")
        one.expect(rb"two\n")
        assert [line.split("] ")[-1] for line in one.lines()[-2:]] == ["one", "two"]
        assert one.end() == 0
        two.expect(rb"Client \(127\.0\.0\.1, \d+\) is offline\n")
        tutorial.popen.kill()
        assert two.wait() == 1
        assert two.output["stderr"] == b"framewire: Disconnected from chat server\n"


# Our client.


def test_what_is_piped_is_said_and_what_is_heard_is_printed(server: Server) -> None:
    with raw_client(server) as raw, joined(server.framed_port, "--name", "ann") as ann:
        assert raw.line() == "[ann] entered our chatting room\n"
        ann.say("one", "", "tw\xf6")
        assert [raw.line() for _ in range(3)] == ["\r[ann] one\n", "\r[ann] \n", "\r[ann] twö\n"]
        raw.say(b"a\tb \\ \x1b[31m\nsecond\n")
        ann.expect(rb"second\n")
        assert ann.popen.stdin
        ann.popen.stdin.write(b"not UTF-8: \xe9\r\nthe last has no line break")
        assert ann.end() == 0
        assert raw.line() == "\r[ann] not UTF-8: \\xe9\n"
        assert raw.line() == "\r[ann] the last has no line break\n"
        assert raw.line() == "Client (ann) is offline\n"
        assert ann.lines() == [f"[{raw.name}] a\tb \\ \\x1b[31m", f"[{raw.name}] second"]
        assert ann.output["stderr"] == b""


def test_a_long_file_is_said_whole(server: Server, tmp_path: Path) -> None:
    lines = [f"{i} {'long ' * (i % 60)}" for i in range(5_000)]
    path = tmp_path / "poem"
    path.write_text("\n".join([*lines, "é" * 5000]))  # the last is longer than the server takes
    with path.open("rb") as file, raw_client(server) as raw:
        with joined(server.framed_port, "--name", "ann", stdin=file) as ann:
            assert raw.line() == "[ann] entered our chatting room\n"
            for line in lines:
                assert raw.line() == f"\r[ann] {line}\n"
            assert [raw.line().count("é") for _ in range(3)] == [2048, 2048, 904]
            assert ann.wait() == 0
        assert raw.line() == "Client (ann) is offline\n"


def test_a_server_that_is_not_there_or_goes_away(server: Server) -> None:
    with joined(server.framed_port, "--name", "ann") as ann, joined(server.framed_port, "--name", "b:b") as bob:
        assert bob.wait() == 1
        assert bob.lines() == ["a name must not have [ ] ( ) : in it, nor blanks around it"]
        assert bob.output["stderr"] == b"framewire: Disconnected from chat server\n"
        server.expect(rb" is ann\n", "stderr")
        server.popen.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert ann.wait() == 1
        assert ann.output["stderr"] == b"framewire: Disconnected from chat server\n"
    with joined(server.framed_port, "--raw") as late:
        assert late.wait() == 1
        assert late.output["stderr"] == (
            f"framewire: cannot connect to 127.0.0.1:{server.framed_port}: Connection refused\n".encode()
        )


@posix
def test_ctrl_c_ends_our_client_and_a_closed_pipe_too(server: Server) -> None:
    with raw_client(server) as raw:
        with joined(server.framed_port, "--name", "ann") as ann:
            assert raw.line() == "[ann] entered our chatting room\n"
            ann.popen.send_signal(signal.SIGINT)
            assert ann.wait() == 130
            assert ann.output == {"stdout": b"", "stderr": b""}
        assert raw.line() == "Client (ann) is offline\n"
        reading, writing = os.pipe()
        with joined(server.framed_port, "--name", "bob", stdout=writing) as bob:
            os.close(writing)
            os.close(reading)
            assert raw.line() == "[bob] entered our chatting room\n"
            raw.say(b"is anybody there?\n")
            assert bob.wait() == 141
            assert bob.output["stderr"] == b""


def test_what_our_server_says_of_itself() -> None:
    with Server("--max-clients", "1", "--stats", "0.1") as server, raw_client(server) as raw:
        server.expect(rb"127\.0\.0\.1:\d+ connected\n", "stderr")
        with RawClient(server.raw_port) as other:
            assert other.rest() == ""
        server.expect(rb"refused: 1 connections are there\n", "stderr")
        server.expect(rb"\n[\d:]+ 1 connection, in \d+ ", "stderr")
        raw.leave()
        server.expect(rb"127\.0\.0\.1:\d+ disconnected\n", "stderr")


def test_wrong_arguments_are_told() -> None:
    for args, complaint in [
        (["serve", "--port", "0", "--limit", "1K"], b"limit must be at least 65536 bytes"),
        (["serve", "--port", "0", "--idle-timeout", "0"], b"idle_timeout must be more than 0 seconds"),
        (["join", "--raw", "--name", "ann"], b"not allowed with argument"),
    ]:
        with Process([sys.executable, "-m", "framewire", "chat", *args]) as process:
            assert process.wait() == 2
            assert complaint in process.output["stderr"]
    with Server() as server:
        command = [sys.executable, "-m", "framewire", "chat", "serve", "--port", server.raw_port]
        with Process(command) as process:
            assert process.wait() == 1
            assert b"cannot listen on 127.0.0.1:" in process.output["stderr"]


# The terminal.


class Terminal(Process):
    """``framewire chat join`` on a terminal of a few rows, of which it knows what is to be seen."""

    def __init__(self, port: int, *args: str, columns: int = 40, rows: int = 8, **environment: str) -> None:
        fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
        try:
            self.keyboard, other = pty.openpty()
        except OSError as error:  # a container without /dev/pts
            pytest.skip(f"no pseudo-terminal: {error}")
        fcntl.ioctl(other, termios.TIOCSWINSZ, bytes([rows, 0, columns, 0, 0, 0, 0, 0]))
        self.size = columns, rows
        self.modes = lambda: termios.tcgetattr(self.keyboard)[:4]
        self.first_modes = self.modes()
        super().__init__(
            [sys.executable, "-m", "framewire", "chat", "join", *args, "127.0.0.1", port],
            env={**ENVIRONMENT, "TERM": "xterm", **environment},
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        reader = threading.Thread(target=self._read, args=("stdout", self))
        reader.start()
        self._readers.append(reader)

    def fileno(self) -> int:
        return self.keyboard

    def _read(self, name: str, pipe: Any) -> None:
        try:
            super()._read(name, pipe)
        except OSError:  # Linux: the other end is closed
            with self._news:
                self._news.notify_all()

    def type(self, keys: str) -> None:
        os.write(self.keyboard, keys.encode())

    def shows(self, *rows: str, cursor: int | None = None) -> None:
        """Wait until this is the screen, up to the row of the cursor."""

        def right() -> bool:
            self.seen, at = screen(self.output["stdout"].decode(errors="ignore"), *self.size)
            return self.seen == [*rows] and cursor in (None, at)

        with self._news:
            assert self._news.wait_for(right, PATIENCE), self.seen

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)
        os.close(self.keyboard)


def screen(output: str, columns: int, rows: int) -> tuple[list[str], int]:
    """The rows of a terminal after this output, down to that of the cursor, and the cursor's column."""
    cells = [[" "] * columns for _ in range(rows)]
    row = column = 0
    for token in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|[^\x1b]", output):
        if token == "\r":
            column = 0
        elif token == "\n":
            row += 1
        elif token == "\x1b[J":
            cells[row][column:] = [" "] * (columns - column)
            cells[row + 1 :] = [[" "] * columns for _ in cells[row + 1 :]]
        elif token.endswith("C") and len(token) > 1:
            column += int(token[2:-1])
        elif token == "\x1b[2J":
            cells = [[" "] * columns for _ in range(rows)]
        elif token == "\x1b[H":
            row = column = 0
        elif len(token) == 1:
            assert token.isprintable(), f"{token!r} gets to the terminal"
            if column + width(token) > columns:
                row, column = row + 1, 0
            if row == rows:
                cells, row = [*cells[1:], [" "] * columns], rows - 1
            cells[row][column : column + width(token)] = [token, ""][: width(token)]
            column += width(token)
        else:
            assert token.endswith("m"), f"{token!r} gets to the terminal"
        if row == rows:
            cells, row = [*cells[1:], [" "] * columns], rows - 1
    return ["".join(cells[i]).rstrip() for i in range(row + 1)], column


@posix
def test_a_message_does_not_tear_what_is_being_typed(server: Server) -> None:
    with raw_client(server) as raw, Terminal(server.framed_port, "--name", "ann") as ann:
        assert raw.line() == "[ann] entered our chatting room\n"
        ann.shows("[Me]")
        ann.type("half a lin")
        ann.shows("[Me] half a lin", cursor=15)
        raw.say(b"one\n")
        ann.shows(f"[{raw.name}] one", "[Me] half a lin", cursor=15)
        ann.type("\x1b[D\x1b[D")
        ann.shows(f"[{raw.name}] one", "[Me] half a lin", cursor=13)
        raw.say(b"a message that is longer than the terminal\n")
        long = f"[{raw.name}] a message that is longer than the terminal"
        ann.shows(f"[{raw.name}] one", long[:40], long[40:], "[Me] half a lin", cursor=13)
        ann.type("\x05e\n")
        assert raw.line() == "\r[ann] half a line\n"
        ann.shows(f"[{raw.name}] one", long[:40], long[40:], "[Me] half a line", "[Me]", cursor=5)
        ann.type("\x04")
        assert ann.wait() == 0
        assert ann.modes() == ann.first_modes


@posix
def test_a_line_longer_than_the_terminal_scrolls(server: Server) -> None:
    with raw_client(server) as raw, Terminal(server.framed_port, "--name", "ann", columns=20) as ann:
        raw.line()
        ann.type("0123456789abcdefghijklmn漢字")
        ann.shows("[Me] lmn漢字", cursor=12)
        raw.say(b"x\n")
        prefix = f"[{raw.name}] x"
        above = [prefix[:20].rstrip(), *([prefix[20:]] if len(prefix) > 20 else [])]
        ann.shows(*above, "[Me] lmn漢字", cursor=12)
        ann.type("\x01")
        ann.shows(*above, "[Me] 0123456789abcd", cursor=5)
        ann.type("\n")
        assert raw.line() == "\r[ann] 0123456789abcdefghijklmn漢字\n"
        ann.shows(*above, "[Me] 0123456789abcde", "fghijklmn漢字", "[Me]")


@posix
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "server", "Ctrl-D"])
def test_the_terminal_is_left_as_it_was(server: Server, how: str) -> None:
    with Terminal(server.framed_port, "--name", "ann") as ann:
        ann.shows("[Me]")
        assert ann.modes() != ann.first_modes
        if how == "server":
            ann.type("half")
            ann.shows("[Me] half")
            server.popen.terminate()
        elif how == "Ctrl-D":
            ann.type("\x04")
        else:
            ann.popen.send_signal(getattr(signal, how))
        assert ann.wait() == {"server": 1, "Ctrl-D": 0}.get(how, 128 + getattr(signal, how, 0))
        assert ann.modes() == ann.first_modes
        if how == "server":
            ann.shows("[Me] half", "framewire: Disconnected from chat server", "")


@posix
def test_a_suspended_client_gives_the_terminal_back_and_takes_it_again(server: Server) -> None:
    with raw_client(server) as raw, Terminal(server.framed_port, "--name", "ann") as ann:
        raw.line()
        ann.type("draft")
        ann.shows("[Me] draft")
        ours = ann.modes()
        ann.popen.send_signal(signal.SIGTSTP)
        # In a session of its own nobody could continue it, so the system does not let it stop: it goes on at once.
        raw.say(b"hello\n")
        ann.shows(f"[{raw.name}] hello", "[Me] draft")
        assert ann.modes() == ours
        ann.type("\n")
        assert raw.line() == "\r[ann] draft\n"


@posix
def test_colours_are_for_terminals_that_have_them(server: Server) -> None:
    def shown(ann: Terminal, raw: RawClient) -> bytes:
        assert raw.line() == "[ann] entered our chatting room\n"
        raw.say(b"hello\n")
        ann.expect(rb"hello[^\n]*\r?\n")
        ann.type("\x04")
        assert ann.wait() == 0
        assert raw.line() == "Client (ann) is offline\n"
        return ann.output["stdout"]

    with raw_client(server) as raw:
        name = re.escape(f"[{raw.name}]".encode())
        with Terminal(server.framed_port, "--name", "ann") as ann:
            assert re.search(rb"\x1b\[\d+m%s\x1b\[0m hello" % name, shown(ann, raw))
        with Terminal(server.framed_port, "--name", "ann", NO_COLOR="1") as ann:
            assert re.search(rb"\x1b\[J%s hello" % name, shown(ann, raw))
        with Terminal(server.framed_port, "--name", "ann", TERM="dumb") as ann:
            assert shown(ann, raw).startswith(f"[Me] \r[{raw.name}] hello\r\n[Me] ".encode())
            assert b"\x1b" not in ann.output["stdout"]


# The parts.


def test_the_keys_of_the_editor() -> None:
    def typed(keys: str) -> str:
        editor = Editor("")
        assert editor.feed(keys) == []
        row, column = editor.view(80)
        return f"{row[:column]}|{row[column:]}"

    assert typed("abc") == "abc|"
    assert typed("abc\x1b[D\x1bOD") == typed("abc\x02\x02") == "a|bc"
    assert typed("abc\x01\x1b[C\x06") == "ab|c"
    assert typed("abc\x1b[H") == typed("abc\x1b[1~") == typed("abc\x02\x1bOH") == "|abc"
    assert typed("abc\x01\x1b[F") == typed("abc\x01\x1b[4~") == typed("abc\x01\x05") == "abc|"
    assert typed("abc\x7f") == typed("abc\x08") == "ab|"
    assert typed("abc\x01\x1b[3~") == typed("abc\x01\x04") == "|bc"
    assert typed("abc\x02\x15") == "|c"
    assert typed("abc\x02\x0b") == "ab|"
    assert typed("one two  \x17") == typed("one two\x17") == "one |"
    assert typed("one\x17\x17\x7f\x1b[D\x1b[3~") == "|"
    assert typed("a\tb") == "a b|"
    assert typed("e\u0301\x7f") == "|"
    assert typed("ae\u0301\x02\x02\x1b[C") == "a|e\u0301"
    assert typed("a\u202e\x9bb\x1b[5;2~\x1bx\x1b[200~\x1f\x00c") == "abc|"


def test_the_history_of_the_editor() -> None:
    editor = Editor("")

    def after(keys: str) -> str:
        editor.feed(keys)
        return editor.view(80)[0]

    assert editor.feed("one\ntwo\ntwo\n\nthree\x1b[A") == ["one", "two", "two", ""]
    assert editor.view(80)[0] == "two"
    assert after("\x10") == "one"
    assert after("\x10") == "one"
    assert after("\x0e") == "two"
    assert after("\x1b[B") == "three"
    assert after("\x1b[B") == "three"
    assert editor.feed("\x1b[A!\n") == ["two!"]
    assert after("\x1b[A") == "two!"


def test_the_editor_takes_keys_in_any_pieces() -> None:
    keys = "héllo\x1b[D\x1b[3~x\x1bOHy\n\x1b[A\x1b[1~z\r\x04 late"
    whole = Editor("> ")
    lines = whole.feed(keys)
    assert lines == ["yhéllx", "zyhéllx"]
    assert whole.ended
    for size in (1, 2, 3):
        editor = Editor("> ")
        pieces = [keys[i : i + size] for i in range(0, len(keys), size)]
        assert [line for piece in pieces for line in editor.feed(piece)] == lines
        assert editor.ended


def test_the_cursor_is_always_to_be_seen() -> None:
    editor = Editor("[Me] ")
    for key in [*("ab漢字e\u0301 c" * 10), *(["\x1b[D"] * 50), *(["\x1b[C"] * 30), *(["\x7f"] * 30)]:
        editor.feed(key)
        for columns in (8, 20, 21, 200):
            row, column = editor.view(columns)
            assert width(row) < columns
            assert len("[Me] ") <= column <= width(row)


def test_room_in_columns() -> None:
    assert [width(text) for text in ["", "abc", "é", "e\u0301", "漢字", "🙂"]] == [0, 3, 1, 1, 4, 2]
    assert [fit("a漢b", columns) for columns in range(6)] == [0, 1, 1, 2, 3, 3]


def test_dialects() -> None:
    raw = Raw()
    assert raw.hello() == []
    payloads = [b"\r[('127.0.0.1', 1)] hi [x] y", b"[127.0.0.1:1] entered our chatting room", b"\r", b"\r[x"]
    assert [*raw.read(payloads)] == [
        Message("('127.0.0.1', 1)", "hi [x] y"),
        Message(None, "[127.0.0.1:1] entered our chatting room"),
        Message(None, ""),
        Message(None, "[x"),
    ]
    framed = Framed("ann")
    assert framed.hello() == [b"ann"]
    assert [*framed.read([b"bob"])] == []
    assert [*framed.read([b"hi", b"[server]", b"x is offline", b"c\x1b"])] == [
        Message("bob", "hi"),
        Message(None, "x is offline"),
    ]
    assert [*framed.read([b"\xff"])] == [Message("c\\x1b", "\\xff")]
    assert render(Message("bob", "hi"), coloured=False) == "[bob] hi"
    assert render(Message(None, "x is offline"), coloured=False) == "x is offline"


def test_a_line_is_cut_between_characters() -> None:
    for text in ["", "abc", "é" * 10, "漢字" * 10, "🙂" * 10, "a🙂é漢" * 10]:
        data = text.encode()
        for size in (4, 5, 6, 7):
            pieces = [*cut(data, size)]
            assert b"".join(pieces) == data
            assert all(len(piece) <= size and piece.decode() is not None for piece in pieces)
    assert b"".join(cut(b"\x80" * 9, 4)) == b"\x80" * 9  # no characters at all


def test_no_text_makes_a_terminal_do_anything() -> None:
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x11000)]))
    kept = to_text(everything.encode())
    assert not re.search("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", kept)
    assert to_text(bytes(range(256))).isprintable() or "\t" in to_text(bytes(range(256)))
