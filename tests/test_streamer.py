"""The streamer and its watcher: real processes over loopback, and the programs of the tutorials on either side."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import CORES

import framewire
from framewire import commands_stream
from framewire.loop import Channel, Group, Handler, Loop, Stats
from framewire.servers import reporting
from framewire.servers.streamer import Clock, FileLines, Streamer

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals, pipes and terminals")
with_proc = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc to see a process's memory in")

PATIENCE = 60
"""Seconds after which what should have happened is a failure."""

GREETING = b"Welcome to the server!"

TIME = re.compile(rb"The time is \d+\.\d+")


@pytest.fixture(params=CORES)
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """Of the processes: one core after the other."""
    return {**os.environ, "FRAMEWIRE_CORE": request.param, "PYTHONUNBUFFERED": "1"}


class Process:
    """A process of which every line of standard error is kept. The end of the context is its end."""

    def __init__(self, command: list[Any], env: dict[str, str], **options: Any) -> None:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.popen = subprocess.Popen([sys.executable, *map(str, command)], env=env, **{**pipes, **options})
        self.said: list[str] = []
        self._news = threading.Condition()
        self._closed = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stderr
        for line in self.popen.stderr:
            with self._news:
                self.said.append(line.decode().rstrip("\r\n"))
                self._news.notify_all()
        with self._news:
            self._closed = True
            self._news.notify_all()

    def await_line(self, pattern: str, test: Callable[[re.Match[str]], bool] = bool) -> re.Match[str]:
        """Wait until it has said something like this."""

        def find() -> re.Match[str] | None:
            found = [match for line in self.said if (match := re.search(pattern, line)) and test(match)]
            return found[0] if found else None

        with self._news:
            self._news.wait_for(lambda: find() or self._closed, PATIENCE)
            match = find()
        assert match, self.said
        return match

    @property
    def port(self) -> int:
        return int(self.await_line(r"listening on .*:(\d+) for")[1])

    def line(self) -> bytes:
        assert self.popen.stdout
        return self.popen.stdout.readline().rstrip(b"\r\n")

    def lines(self) -> list[bytes]:
        """All that it still writes, up to its end."""
        assert self.popen.stdout
        return self.popen.stdout.read().splitlines()

    def wait(self) -> int:
        status = self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *raised: object) -> None:
        self.popen.kill()
        self.wait()
        for pipe in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if pipe is not None:
                pipe.close()


def stream(action: str, *args: object, env: dict[str, str], **options: Any) -> Process:
    return Process(["-m", "framewire", "stream", action, *args], env, **options)


def serve(*args: object, env: dict[str, str], **options: Any) -> Process:
    return stream("serve", "--port", 0, *args, env=env, **options)


def watch(port: int, *args: object, env: dict[str, str], **options: Any) -> Process:
    return stream("watch", "127.0.0.1", port, *args, env=env, **options)


def program(text: str, *args: object, env: dict[str, str]) -> Process:
    return Process(["-c", text, *args], env)


@contextmanager
def client(port: int, spec: str = "ascii10") -> Iterator[framewire.FramedSocket]:
    with framewire.connect(("127.0.0.1", port), spec, timeout=PATIENCE) as connection:
        yield connection


def rest(connection: framewire.FramedSocket) -> list[bytes]:
    """All that still comes. The connection is then closed, which is what a server waits for at its end."""
    with connection:
        return list(connection)


def numbered(count: int, size: int = 0) -> list[bytes]:
    return [b"%08d " % number + b"x" * max(size - 9, 0) for number in range(1, count + 1)]


@pytest.fixture
def file_of(tmp_path: Path) -> Callable[[list[bytes]], Path]:
    def make(lines: list[bytes]) -> Path:
        path = tmp_path / "lines"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return path

    return make


FileOf = Callable[[list[bytes]], Path]


# The programs of the tutorials, written anew after their description.


CLIENT = """
import socket, sys
HEADERSIZE = 10
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
s.connect(("127.0.0.1", int(sys.argv[1])))
while True:
    full_msg = ""
    new_msg = True
    while True:
        msg = s.recv(16)
        if new_msg:
            print("new msg len:", msg[:HEADERSIZE])
            msglen = int(msg[:HEADERSIZE])  # a ValueError at the end of the stream, which is how this program ends
            new_msg = False
        full_msg += msg.decode("utf-8")
        if len(full_msg) - HEADERSIZE == msglen:
            print(full_msg[HEADERSIZE:])
            new_msg = True
            full_msg = ""
"""

SERVER = """
import socket, sys, time
HEADERSIZE = 10
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
s.bind(("127.0.0.1", 0))
s.listen(5)
print("listening on 127.0.0.1:%d for the tutorial" % s.getsockname()[1], file=sys.stderr)
while True:
    clientsocket, address = s.accept()
    msg = "Welcome to the server!"
    msg = f"{len(msg):<{HEADERSIZE}}" + msg
    clientsocket.send(bytes(msg, "utf-8"))
    while True:
        time.sleep(0.05)
        msg = f"The time is {time.time()}"
        msg = f"{len(msg):<{HEADERSIZE}}" + msg
        clientsocket.send(bytes(msg, "utf-8"))
"""

BURST_SERVER = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
s.bind(("127.0.0.1", 0))
s.listen(1)
print("listening on 127.0.0.1:%d for the tutorial" % s.getsockname()[1], file=sys.stderr)
connection, address = s.accept()
for i in range(20):
    message = f"message {i}: " + "x" * (i * 37)
    connection.send(f"{len(message):<10}{message}".encode())
connection.close()
"""


def test_the_tutorials_client_prints_every_message(environment: dict[str, str]) -> None:
    with serve("--every", "0.05", "--count", 5, env=environment) as server:
        with program(CLIENT, server.port, env=environment) as reader:
            printed = reader.lines()
            reader.wait()
        assert server.wait() == 0
    assert printed.pop() == b"new msg len: b''"
    assert len(printed) == 2 * 6
    headers, messages = printed[::2], printed[1::2]
    assert messages[0] == GREETING
    assert all(TIME.fullmatch(message) for message in messages[1:])
    assert headers == [b"new msg len: %r" % b"%-10d" % len(message) for message in messages]
    times = [float(message.split()[-1]) for message in messages[1:]]
    assert times == sorted(times)


def test_the_tutorials_server_is_watched(environment: dict[str, str]) -> None:
    with (
        program(SERVER, env=environment) as server,
        watch(server.port, "--count", 4, "--read-size", 16, env=environment) as watcher,
    ):
        first, *others = watcher.lines()
        assert (watcher.wait(), watcher.said) == (0, [])
    assert first == GREETING
    assert len(others) == 3
    assert all(TIME.fullmatch(message) for message in others)


def test_twenty_messages_that_come_at_once_are_read_whole(environment: dict[str, str]) -> None:
    with (
        program(BURST_SERVER, env=environment) as server,
        watch(server.port, "--no-reconnect", env=environment) as watcher,
    ):
        assert watcher.lines() == [b"message %d: " % i + b"x" * (i * 37) for i in range(20)]
        assert (watcher.wait(), watcher.said) == (0, [])
        assert server.wait() == 0


# Who gets what.


def test_who_comes_late_is_greeted_and_goes_on_with_the_others(environment: dict[str, str], file_of: FileOf) -> None:
    lines = numbered(60)
    with serve("--every", "0.02", file_of(lines), env=environment) as server, client(server.port) as first:
        assert first.recv() == GREETING
        assert [first.recv() for _ in range(5)] == lines[:5]
        with client(server.port) as second:
            assert second.recv() == GREETING
            received = rest(second)
        assert received
        assert received == lines[-len(received) :]
        assert len(received) <= 55
        assert rest(first) == lines[5:]
        assert server.wait() == 0


def test_a_slow_watcher_slows_nobody_and_misses_the_oldest(environment: dict[str, str], file_of: FileOf) -> None:
    lines = numbered(1500, 10_000)  # far more than the buffers of the system and the limit hold
    with serve("--every", "0.001", file_of(lines), env=environment) as server, client(server.port) as slow:
        assert slow.recv() == GREETING
        with client(server.port) as quick:
            assert quick.recv() == GREETING
            received = rest(quick)
        assert received == lines[-len(received) :]
        late = rest(slow)
        assert late[-1] == lines[-1]
        assert late == sorted(set(late))  # in order, none twice
        assert len(late) < 1500
        assert server.wait() == 0
        missed = int(server.await_line(r"messages that clients have missed: (\d+)")[1])
    assert missed == 1500 - len(late)


def test_a_slow_watcher_is_cut_off_if_that_is_the_policy(environment: dict[str, str], file_of: FileOf) -> None:
    lines = numbered(1500, 10_000)
    with (
        serve("--every", "0.001", "--policy", "disconnect", file_of(lines), env=environment) as server,
        client(server.port) as slow,
    ):
        assert slow.recv() == GREETING
        with client(server.port) as quick:
            assert quick.recv() == GREETING
            received = rest(quick)
        assert received == lines[-len(received) :]
        server.await_line(r"disconnected: TimeoutError: \d+ bytes wait to be received, more than the limit of 1048576")
        assert server.wait() == 0


def test_in_a_burst_all_wait_for_the_slowest(environment: dict[str, str], file_of: FileOf) -> None:
    lines = numbered(15_000, 1000)
    with (
        serve("--burst", file_of(lines), env=environment) as server,
        client(server.port) as slow,
        client(server.port) as quick,
    ):
        received: list[bytes] = []
        reader = threading.Thread(target=lambda: received.extend(rest(quick)))
        reader.start()
        assert rest(slow) == [GREETING, *lines]
        reader.join(PATIENCE)
        assert received[0] == GREETING
        assert received[1:] == lines[len(lines) + 1 - len(received) :]
        assert server.wait() == 0


@pytest.mark.parametrize("policy", ["wait", "drop_oldest", "disconnect"])
def test_a_burst_goes_no_faster_than_its_only_client(policy: str, environment: dict[str, str], file_of: FileOf) -> None:
    lines = numbered(20_000, 1000)
    with (
        serve("--burst", "--policy", policy, file_of(lines), env=environment) as server,
        client(server.port) as connection,
    ):
        assert rest(connection) == [GREETING, *lines]
        assert server.wait() == 0


@with_proc
@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer keeps memory that was freed")
def test_a_burst_keeps_its_memory(environment: dict[str, str]) -> None:
    def peak() -> int:
        status = Path(f"/proc/{server.popen.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])

    with serve("--burst", env=environment) as server, client(server.port) as connection:
        assert connection.recv() == GREETING
        before = peak()
        size = 0
        while size < 30 * 2**20:
            payloads = connection.recv_many()
            assert TIME.fullmatch(payloads[0])
            size += sum(map(len, payloads))
        assert peak() - before < 10 * 1024


@pytest.mark.parametrize("spec", ["u32be", "netstring", "varint", "lines"])
def test_any_format_that_can_hold_the_greeting(spec: str, environment: dict[str, str]) -> None:
    with serve("-f", spec, "--burst", "--count", 10, env=environment) as server, client(server.port, spec) as reader:
        messages = rest(reader)
        assert server.wait() == 0
    assert messages[0] == GREETING
    assert len(messages) == 11


def test_a_client_that_speaks_another_protocol_is_refused_alone(environment: dict[str, str], file_of: FileOf) -> None:
    with (
        serve("--every", "0.01", file_of(numbered(20)), env=environment) as server,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as stranger,
    ):
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while stranger.recv(1000):  # the greeting, then the end
            pass
        stranger.close()
        server.await_line(r"disconnected: HeaderError: .* looks like an HTTP request")
        with client(server.port) as connection:
            assert next(iter(connection)) == GREETING
            assert rest(connection)[-1] == numbered(20)[-1]
        assert server.wait() == 0


# Sources.


def test_a_file_waits_for_its_first_client(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "poem.txt"
    file.write_bytes(b"first\n\n\xc3\xa9\r\nno end")
    with serve("--every", "0.001", file, env=environment) as server:
        server.await_line("listening")
        with client(server.port) as connection:
            assert rest(connection) == [GREETING, b"first", b"", b"\xc3\xa9\r", b"no end"]
        assert server.wait() == 0


@pytest.mark.parametrize("every", ["0.001", "0"])
def test_lines_are_sent_as_they_come_from_a_pipe(every: str, environment: dict[str, str]) -> None:
    with (
        serve("--every", every, "-", env=environment, stdin=subprocess.PIPE) as server,
        client(server.port) as connection,
    ):
        pipe = server.popen.stdin
        assert pipe
        assert connection.recv() == GREETING
        for text in [b"one", b"two", b"x" * 200_000]:
            pipe.write(text[:2])
            pipe.flush()
            pipe.write(text[2:] + b"\n")
            pipe.flush()
            assert connection.recv() == text
        pipe.write(b"three\nfour")
        pipe.close()
        assert rest(connection) == [b"three", b"four"]
        assert server.wait() == 0


def test_a_pipe_is_read_no_further_than_it_is_sent(environment: dict[str, str]) -> None:
    lines = numbered(50_000, 1000)
    with serve("--burst", "-", env=environment, stdin=subprocess.PIPE) as server:
        pipe = server.popen.stdin
        assert pipe
        feeder = threading.Thread(target=lambda: (pipe.write(b"\n".join(lines)), pipe.close()))
        feeder.start()
        server.await_line("listening")
        assert feeder.is_alive()  # 50 MB, and nobody is there
        with client(server.port) as connection:
            assert rest(connection) == [GREETING, *lines]
        feeder.join(PATIENCE)
        assert server.wait() == 0


def test_standard_input_may_be_a_regular_file(environment: dict[str, str], file_of: FileOf) -> None:
    lines = numbered(5000)
    with (
        open(file_of(lines), "rb") as stdin,
        serve("--burst", "-", env=environment, stdin=stdin) as server,
        client(server.port) as connection,
    ):
        assert rest(connection) == [GREETING, *lines]
        assert server.wait() == 0


def test_nothing_to_send_is_the_end(environment: dict[str, str], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    for file in ["-", empty]:
        with serve(file, env=environment) as server:
            assert server.wait() == 0


@posix
def test_a_named_pipe_may_get_its_writer_later(environment: dict[str, str], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with serve("--burst", pipe, env=environment) as server, client(server.port) as connection:
        assert connection.recv() == GREETING
        with open(pipe, "wb") as writer:
            writer.write(b"one\ntwo\n")
        assert rest(connection) == [b"one", b"two"]
        assert server.wait() == 0


def test_a_line_that_cannot_be_sent_is_told_after_those_before_it(environment: dict[str, str], file_of: FileOf) -> None:
    file = file_of([b"one", b"two", b"x" * 300, b"four"])
    for pace in [["--every", "0.001"], ["--burst"]]:
        with serve("-f", "u8", *pace, file, env=environment) as server:
            with client(server.port, "u8") as connection:
                assert rest(connection) == [GREETING, b"one", b"two"]
            assert server.wait() == 1
        assert server.said[-1] == f"framewire: {file}: line 3: size 300 is over the limit of 255 bytes"
    with serve("--burst", "--max-size", "100", file, env=environment) as server:
        with client(server.port) as connection:
            assert rest(connection)[:1] == [GREETING]
        assert server.wait() == 1
    assert server.said[-1] == f"framewire: {file}: line 3 is over the limit of 100 bytes"


def test_a_source_that_is_none_is_status_1(environment: dict[str, str], tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with serve(missing, env=environment) as server:
        assert server.wait() == 1
    assert server.said == [f"framewire: {missing}: No such file or directory"]
    if os.name == "posix":
        with serve(tmp_path, env=environment) as server:
            assert server.wait() == 1
        assert server.said[-1] == f"framewire: {tmp_path}: Is a directory"
        with serve("-", env=environment, stdin=None, preexec_fn=lambda: os.close(0)) as server:
            assert server.wait() == 1
        assert server.said == ["framewire: standard input is closed"]


def test_an_address_that_cannot_be_had_is_status_1(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with stream("serve", "--port", port, env=environment) as server:
            assert server.wait() == 1
    assert re.fullmatch(f"framewire: cannot listen on 127.0.0.1:{port}: .+", server.said[-1])
    with serve("--host", "a..b", env=environment) as server:
        assert server.wait() == 1
    assert server.said[-1].startswith("framewire: cannot listen on a..b:0: ")


# The end.


@posix
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_loses_nothing_that_is_on_its_way(
    signum: int, status: int, environment: dict[str, str], file_of: FileOf
) -> None:
    lines = numbered(20_000, 1000)
    sent = r"message (\d+) sent to 1 client"
    with serve("--burst", "-v", file_of(lines), env=environment) as server, client(server.port) as connection:
        server.await_line(sent, lambda match: int(match[1]) > 1000)
        server.popen.send_signal(signum)
        server.await_line(f"{signal.Signals(signum).name}: ")
        received = rest(connection)
        assert server.wait() == status
        count = int([match for line in server.said if (match := re.search(sent, line))][-1][1])
    assert 1000 < count < 20_000
    assert received == [GREETING, *lines[:count]]


@posix
def test_a_second_signal_ends_it_at_once(environment: dict[str, str]) -> None:
    with serve("--burst", "-v", env=environment) as server, client(server.port):
        server.await_line(r"message \d+ sent")
        server.popen.send_signal(signal.SIGTERM)
        server.await_line("SIGTERM: ")
        server.popen.send_signal(signal.SIGTERM)
        assert server.wait() == 0


@posix
def test_a_signal_ends_it_while_nobody_is_there(environment: dict[str, str]) -> None:
    with serve(env=environment) as server:
        server.await_line("listening")
        server.popen.send_signal(signal.SIGTERM)
        assert server.wait() == 0


# Watching again.


def test_watch_connects_again_when_the_server_comes_back(environment: dict[str, str]) -> None:
    with serve("--every", "0.01", env=environment) as server:
        port = server.port
        with watch(port, "--count", 200, env=environment) as watcher:
            assert watcher.line() == GREETING
            assert TIME.fullmatch(watcher.line())
            server.popen.kill()
            server.wait()
            trouble = watcher.await_line(f"framewire: .*127.0.0.1:{port}.*; trying again$")
            assert trouble
            with stream("serve", "--port", port, "--every", "0.01", env=environment):
                messages = watcher.lines()
                assert watcher.wait() == 0
    assert messages.count(GREETING) == 1
    assert len(messages) == 198
    assert watcher.said == [trouble.string]


def test_watch_waits_for_a_server(environment: dict[str, str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with watch(port, "--count", 3, env=environment) as watcher:
        watcher.await_line(f"cannot connect to 127.0.0.1:{port}: .*; trying again")
        with stream("serve", "--port", port, "--burst", env=environment):
            assert watcher.line() == GREETING
            assert watcher.wait() == 0
    assert len(watcher.said) == 1


@pytest.mark.parametrize("answer", [GREETING, b"HTTP/1.1 400 Bad Request\r\n"])
def test_watch_does_not_come_back_to_another_protocol(answer: bytes, environment: dict[str, str]) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        watch(listener.getsockname()[1], env=environment) as watcher,
    ):
        peer, _ = listener.accept()
        with peer:
            peer.sendall(answer)
            assert watcher.wait() == 1
    assert len(watcher.said) == 1


class Stop(Exception):
    pass


def watch_without_server(monkeypatch: pytest.MonkeyPatch, outcomes: list[Any]) -> list[float]:
    """The pauses between attempts to connect that have these outcomes: an error, or batches of payloads."""
    pauses: list[float] = []
    monkeypatch.setattr(commands_stream.time, "sleep", pauses.append)

    class Connection(nullcontext[None]):
        def __init__(self, batches: list[Any]) -> None:
            super().__init__()
            self._left = iter(batches)

        def recv_many(self) -> list[bytes]:
            batch: Any = next(self._left, [])
            if isinstance(batch, Exception):
                raise batch
            return batch  # type: ignore[no-any-return]

    def connect(*_: object, **__: object) -> Any:
        if not outcomes:
            raise Stop
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return Connection(outcome)

    monkeypatch.setattr(commands_stream, "connect", connect)
    args = SimpleNamespace(
        host="h", port=1, tls=False, ca=None, max_size=None, read_size=None, no_reconnect=False, count=None
    )
    with pytest.raises(Stop):
        for _ in commands_stream._messages(args, framewire.parse_spec("ascii10")):  # type: ignore[arg-type]
            pass
    return pauses


def test_the_pauses_grow_up_to_five_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses = watch_without_server(monkeypatch, [ConnectionRefusedError(111, "Connection refused")] * 12)
    longest = [min(0.1 * 2**i, 5.0) for i in range(12)]
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, longest, strict=True))
    assert len(set(pauses)) > 6  # not all watchers at once
    assert capsys.readouterr().err == "framewire: cannot connect to h:1: Connection refused; trying again\n"


def test_every_loss_is_told_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    refused = ConnectionRefusedError(111, "Connection refused")
    cut = framewire.Decoder("ascii10")
    cut.feed(b"5   ")
    with pytest.raises(framewire.IncompleteFrame) as incomplete:
        cut.feed_eof()
    watch_without_server(
        monkeypatch,
        [
            refused,
            refused,
            [[b"one"]],
            refused,
            [[b"two"], incomplete.value],
            [],
            refused,
            [[b"three"], OSError(5, "I/O")],
        ],
    )
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "framewire: cannot connect to h:1: Connection refused; trying again"
    assert said[1] == "framewire: h:1 has closed the connection; trying again"
    assert said[2].startswith("framewire: h:1: the stream ended in the header after 4 bytes")
    assert said[3] == "framewire: h:1: I/O; trying again"
    assert len(said) == 4


# TLS.


def test_over_tls(environment: dict[str, str], certificate: Path, tmp_path: Path) -> None:
    trusted = certificate.with_suffix(".crt")
    with serve("--cert", certificate, "--every", "0.01", env=environment) as server:
        with stream("watch", "--ca", trusted, "--count", 3, "localhost", server.port, env=environment) as watcher:
            assert watcher.line() == GREETING
            assert len(watcher.lines()) == 2
            assert watcher.wait() == 0
        with stream("watch", "--tls", "localhost", server.port, env=environment) as watcher:  # who has signed this?
            assert watcher.wait() == 1
        assert "certificate verify failed" in watcher.said[0].lower()
    with serve("--cert", tmp_path / "missing", env=environment) as server:
        assert server.wait() == 1
    assert server.said[-1] == f"framewire: {tmp_path / 'missing'}: No such file or directory"


# The log and the statistics.


def test_the_log_has_a_line_for_each_connect_and_disconnect(environment: dict[str, str]) -> None:
    with serve("--burst", "--count", 3, env=environment) as server:
        with client(server.port) as connection:
            name = f"127.0.0.1:{connection.sock.getsockname()[1]}"
            assert len(rest(connection)) == 4
        assert server.wait() == 0
    said = "\n".join(server.said)
    assert re.search(rf"^\d\d:\d\d:\d\d {name} connected$", said, re.MULTILINE)
    assert re.search(rf"^\d\d:\d\d:\d\d {name} disconnected$", said, re.MULTILINE)
    assert "message" not in said


@posix
def test_quiet_says_nothing_but_warnings(environment: dict[str, str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with (
        stream("serve", "--port", port, "-q", env=environment) as server,
        watch(port, "--count", 1, env=environment) as watcher,
    ):
        assert watcher.lines() == [GREETING]
        server.popen.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    assert server.said == []


@posix
def test_few_open_files_are_told(environment: dict[str, str]) -> None:
    resource = pytest.importorskip("resource")
    for limits, said in [
        ((100, 200), [r"no more than about 200 connections: that is the limit of open files"]),
        ((100, 5000), []),
    ]:

        def limit(limits: tuple[int, int] = limits) -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

        with serve("-q", "-", env=environment, preexec_fn=limit) as server:
            assert server.wait() == 0
        assert len(server.said) == len(said)
        assert all(re.search(one, line) for one, line in zip(said, server.said, strict=True))


STATS = (
    r"\d+ connections?, in [\d,]+ msg/s [\d.,]+ k?M?B/s, out [\d,]+ msg/s [\d.,]+ k?M?B/s, "
    r"queued [\d.,]+ k?M?B, dropped [\d,]+"
)


def test_statistics_are_a_line_each_time(environment: dict[str, str]) -> None:
    with serve("--every", "0.01", "--stats", "0.05", env=environment) as server, client(server.port) as connection:
        assert connection.recv() == GREETING
        server.await_line(r"^\d\d:\d\d:\d\d 1 connection, .*, out [1-9]\d* msg/s")
        lines = [line for line in server.said if "msg/s" in line]
        assert all(re.fullmatch(rf"\d\d:\d\d:\d\d {STATS}", line) for line in lines)


@posix
def test_statistics_are_one_line_on_a_terminal(environment: dict[str, str]) -> None:
    pty = pytest.importorskip("pty")
    try:
        here, there = pty.openpty()
    except OSError as error:  # a container without /dev/pts
        pytest.skip(f"no pseudo-terminal: {error}")
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 40, 0, 0))
    environment["TERM"] = "xterm"
    command = [
        sys.executable,
        "-m",
        "framewire",
        "stream",
        "serve",
        "--port",
        "0",
        "--every",
        "0.01",
        "--stats",
        "0.02",
    ]
    shown = b""
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=there) as process:
        os.close(there)
        try:
            while shown.count(b"0 connections") < 2:
                shown += os.read(here, 4096)
            match = re.search(rb"127.0.0.1:(\d+)", shown)
            assert match
            with client(int(match[1])) as connection:
                while shown.count(b"1 connection, ") < 3:
                    shown += os.read(here, 4096)
                assert connection.recv() == GREETING
            process.send_signal(signal.SIGTERM)
            while True:
                try:
                    data = os.read(here, 4096)
                except OSError:  # Linux: the other end is closed
                    break
                if not data:
                    break
                shown += data
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            os.close(here)
    lines = shown.decode().split("\r\n")
    updates = [line.split("\r\x1b[K") for line in lines]
    visible = [parts[-1] for parts in updates]  # what is left in each line of the terminal
    assert visible[-1] == ""
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in visible[:-1])
    assert not any("msg/s" in line for line in visible)
    refreshed = [text for parts in updates for text in parts[:-1] if text]
    assert len(refreshed) >= 5
    assert all(len(text) == 39 for text in refreshed)  # or it would go on in the next line


def test_the_line_of_statistics_says_what_happened() -> None:
    before = Stats(1, 1, 0, 1000, 10, 5000, 50, 0)
    now = Stats(1234, 1300, 3, 1500, 20, 30_005_000, 1_000_050, 1_048_576)
    assert reporting.describe(before, now, 2.0) == (
        "1,234 connections, in 5 msg/s 250 B/s, out 500,000 msg/s 15 MB/s, queued 1.0 MB, dropped 0"
    )
    with Loop() as loop:
        group = Group(loop)
        group.dropped_count, group.disconnected_count = 7, 2
        assert reporting.describe(now, now, 0, (group, group)).endswith(", dropped 14, cut off 4")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9_940, "9.9 kB"), (9_960, "10 kB"), (999_400, "999 kB"),
     (999_600, "1.0 MB"), (5_000_000_000_000, "5,000 GB")],
)  # fmt: skip
def test_sizes_have_units(size: int, text: str) -> None:
    assert reporting.with_unit(size) == text


# In one process.


@pytest.mark.parametrize("every", [0, 0.001])
def test_an_idle_streamer_makes_no_turns(every: float, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b"one\ntwo\n")
    with Loop() as loop:
        sources = [Clock(), FileLines(loop, str(file))]
        for source in sources:
            Streamer(loop, source, every=every).listen(("127.0.0.1", 0))
        loop.call_later(0.2, loop.stop)
        loop.run()
        assert loop.turn_count < 5
        for source in sources:
            source.close()


class Stalled(Handler):
    """Connects, and reads nothing."""

    def connected(self, channel: Channel) -> None:
        channel.pause_reading()


def test_who_waits_for_a_stalled_client_makes_few_turns() -> None:
    with Loop() as loop:
        streamer = Streamer(loop, Clock(), every=0, limit=64 * 1024)
        loop.connect(streamer.listen(("127.0.0.1", 0)).address, Stalled())
        counts: list[int] = []

        def look() -> None:
            if streamer.group.full:
                counts.append(loop.turn_count)
            if len(counts) == 2:
                loop.stop()
            else:
                loop.call_later(0.5, look)

        look()
        loop.call_later(PATIENCE, loop.stop)
        loop.run()
        assert len(counts) == 2
        assert counts[1] - counts[0] < 60
