"""framewire.dropin.twisted: the same callbacks in the same order as the host's own receivers, and what differs."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import EXAMPLES

import framewire

pytest.importorskip("twisted", reason="Twisted is not installed; the bench extra has it")

from twisted.protocols import basic

from framewire.dropin import UnsupportedVersion
from framewire.dropin import twisted as dropin

HERE = Path(__file__).parent
NAMES = [
    "Int8StringReceiver",
    "Int16StringReceiver",
    "Int32StringReceiver",
    "IntNStringReceiver",
    "NetstringReceiver",
    "LineReceiver",
    "LineOnlyReceiver",
]
STOCK = {name: getattr(basic, name) for name in NAMES}
OURS = {name: getattr(dropin, name) for name in NAMES}


@pytest.fixture(autouse=True)
def on_core(core: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test here runs on both cores."""
    monkeypatch.setattr(dropin, "Decoder", core.Decoder)
    monkeypatch.setattr(dropin, "CORE", core.__name__.rpartition("_")[2])


class Transport:
    """Writes down what it is told."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.disconnecting = False

    def write(self, data: bytes) -> None:
        self.log.append(("write", data))

    def writeSequence(self, parts: Any) -> None:  # noqa: N802
        self.write(b"".join(parts))

    def loseConnection(self) -> None:  # noqa: N802
        self.log.append("lose")
        self.disconnecting = True

    def pauseProducing(self) -> None:  # noqa: N802
        self.log.append("pause")

    def resumeProducing(self) -> None:  # noqa: N802
        self.log.append("resume")

    def stopProducing(self) -> None:  # noqa: N802
        self.log.append("stop")


def chunks_of(stream: bytes, rng: random.Random) -> list[bytes]:
    """The stream in chunks: whole, in single bytes, or in random ones of one scale, some of them empty."""
    scale = rng.choice([1, 3, 7, 40, 300, len(stream) + 1] if len(stream) < 3000 else [40, 300, len(stream) + 1])
    chunks = []
    pos = 0
    while pos < len(stream):
        size = rng.randint(0, scale) if scale <= len(stream) else scale
        chunks.append(stream[pos : pos + size])
        pos += size
    return chunks


def sizes(limit: int, rng: random.Random) -> list[int]:
    """Lengths around the limit and around nothing."""
    return [
        rng.choice([0, 1, 2, max(limit - 1, 0), limit, rng.randint(0, limit), rng.randint(0, 3 * limit)])
        for _ in range(rng.randint(1, 40))
    ]


def play(stock: type, ours: type, make: Callable[[type, random.Random, list[Any]], Any], script: int) -> None:
    """Do the same with both classes, and compare everything they did."""
    logs: list[list[Any]] = []
    for cls in (stock, ours):
        log: list[Any] = []
        make(cls, random.Random(script), log)
        logs.append(log)
    host, mine = logs
    if mine != host:  # pytest's own comparison of such lists takes minutes
        at = next((i for i, pair in enumerate(zip(host, mine, strict=False)) if pair[0] != pair[1]), -1)
        pytest.fail(f"seed {script}, event {at}, behind {host[:at][-3:]}:\n{host[at:][:2]}\n{mine[at:][:2]}"[:4000])


def deliver(receiver: Any, chunks: list[bytes], rng: random.Random, log: list[Any]) -> None:
    """Feed the chunks; resume a paused receiver now or later. What the host does after "over" is its fault."""
    for chunk in chunks:
        if receiver.paused and rng.random() < 0.5:
            receiver.resumeProducing()
        if "over" in log or receiver.transport.disconnecting:
            return
        log.append(("returned", receiver.dataReceived(chunk)))
    while receiver.paused and "over" not in log:
        receiver.resumeProducing()


SEEDS = range(80 * EXAMPLES)


@pytest.mark.parametrize(
    ("name", "fmt"),
    [(name, None) for name in NAMES[:3]] + [("IntNStringReceiver", fmt) for fmt in ("<H", "!Q", "=I", "!xB", "<L")],
)
def test_string_receivers_do_what_the_host_does(name: str, fmt: str | None) -> None:
    def session(cls: type, rng: random.Random, log: list[Any]) -> None:
        receiver = cls()
        if fmt is not None:
            receiver.structFormat, receiver.prefixLength = fmt, struct.calcsize(fmt)
        if rng.random() < 0.8:
            receiver.MAX_LENGTH = rng.choice([0, 5, 50, 80, 81.5])
        limit = int(min(receiver.MAX_LENGTH, 80))
        restless = rng.choice([0, 0, 0.05, 0.5])
        frame = lambda payload: struct.pack(receiver.structFormat, len(payload)) + payload  # noqa: E731

        def received(payload: bytes) -> None:
            log.append(payload)
            if rng.random() >= restless:
                return
            act = rng.randrange(7)
            if act == 0:
                receiver.pauseProducing()
            elif act == 1:
                log.append(receiver.recvd)
            elif act == 2:
                receiver.recvd = receiver.recvd[rng.randint(0, 3) :]
            elif act == 3:
                receiver.recvd = b"".join(frame(rng.randbytes(rng.randint(0, limit))) for _ in range(2)) + b"\0"
            elif act == 4:
                receiver.MAX_LENGTH = rng.choice([limit, limit // 2, 2 * limit])
            elif act == 5:
                receiver.stringReceived = lambda payload: (log.append("other"), received(payload))
            else:
                receiver.paused = True
                log.append(receiver.recvd)

        def exceeded(length: int) -> None:
            log.extend(["over", length, receiver.recvd])

        receiver.stringReceived = received
        receiver.lengthLimitExceeded = exceeded
        receiver.makeConnection(Transport(log))
        stream = b"".join(frame(rng.randbytes(min(size, 255))) for size in sizes(limit, rng)) + rng.randbytes(3)
        deliver(receiver, chunks_of(stream, rng), rng, log)
        if "over" not in log:
            log.append(receiver.recvd)

    for seed in SEEDS:
        play(STOCK[name], OURS[name], session, seed)


def test_the_netstring_receiver_does_what_the_host_does() -> None:
    def session(cls: type, rng: random.Random, log: list[Any]) -> None:
        receiver = cls()
        receiver.MAX_LENGTH = limit = rng.choice([5, 50, 99, 100, 101])
        restless = rng.choice([0, 0.1, 0.5])

        def received(payload: bytes) -> None:
            log.append(payload)
            if rng.random() < restless:
                if rng.random() < 0.5:
                    receiver.MAX_LENGTH = rng.choice([limit, limit // 2, 2 * limit])
                else:
                    receiver.dataReceived(rng.choice([b"", b"1", b"3:abc,"]))
                    log.append("inner done")

        receiver.stringReceived = received
        receiver.makeConnection(Transport(log))
        parts = []
        for size in sizes(limit, rng):
            wrong = rng.choice([b"01:a,", b":,", b"1:ab", b"-1:a,", b"a", b"9" * 400, b" 1:a,", b"1\0:a,", b"1;a,"])
            payload = rng.randbytes(size if rng.random() < 0.1 else min(size, limit))
            parts.append(wrong if rng.random() < 0.02 else b"%d:%b," % (len(payload), payload))
        for chunk in chunks_of(b"".join(parts), rng):
            receiver.dataReceived(chunk)
            log.append(receiver.brokenPeer)

    for seed in SEEDS:
        play(STOCK["NetstringReceiver"], OURS["NetstringReceiver"], session, seed)


DELIMITERS = [b"\r\n", b"\n", b"aa", b"aab", b"\0", b"a" * 300, b"abcab"]


def lines_stream(limit: int, delimiter: bytes, rng: random.Random) -> bytes:
    parts: list[bytes] = []
    for size in sizes(limit, rng):
        size = size if rng.random() < 0.1 else min(size, limit)
        parts += [
            bytes(rng.choices(b"abc\r\n\0", k=size)),
            delimiter if rng.random() < 0.97 else rng.choice(DELIMITERS),
        ]
    return b"".join(parts) + b"abc"


def test_the_line_receiver_does_what_the_host_does() -> None:
    def session(cls: type, rng: random.Random, log: list[Any]) -> None:
        receiver = cls()
        receiver.delimiter = delimiter = rng.choice(DELIMITERS)
        receiver.MAX_LENGTH = limit = rng.choice([0, 5, 50, 80, 400])
        restless = rng.choice([0, 0, 0.05, 0.5])

        def received(line: bytes) -> object:
            log.append(line)
            if rng.random() >= restless:
                return None
            act = rng.randrange(11)
            if act == 0:
                receiver.pauseProducing()
            elif act == 1:
                receiver.setRawMode()
            elif act == 2:
                receiver.delimiter = rng.choice(DELIMITERS)
            elif act == 3:
                receiver.MAX_LENGTH = rng.choice([limit, limit // 2, 2 * limit])
            elif act == 4:
                log.append(("cleared", receiver.clearLineBuffer()))
            elif act == 5:
                receiver.dataReceived(b"more" + receiver.delimiter + b"a")
            elif act == 6:
                return "why"
            elif act == 7:
                receiver.lineReceived = lambda line: (log.append("other"), received(line))[1]
            elif act == 8:
                receiver.pauseProducing()
                receiver.resumeProducing()
            elif act == 9:
                receiver.setLineMode(b"extra")
            elif rng.random() < 0.1:
                receiver.transport.loseConnection()
            return None

        def raw(data: bytes) -> object:
            log.append(("raw", data))
            act = rng.randrange(4)
            if act == 0:
                receiver.setLineMode(data[len(data) // 2 :])
            elif act == 1:
                receiver.pauseProducing()
            elif act == 2:
                receiver.line_mode = 1
            return rng.choice([None, None, "raw why"])

        def exceeded(line: bytes) -> object:
            log.append(("too long", line))
            return rng.choice([None, "long why"])

        receiver.lineReceived = received
        receiver.rawDataReceived = raw
        receiver.lineLengthExceeded = exceeded
        receiver.makeConnection(Transport(log))
        deliver(receiver, chunks_of(lines_stream(limit, delimiter, rng), rng), rng, log)
        log.append(receiver.clearLineBuffer())

    for seed in SEEDS:
        play(STOCK["LineReceiver"], OURS["LineReceiver"], session, seed)


def test_the_line_only_receiver_does_what_the_host_does() -> None:
    def session(cls: type, rng: random.Random, log: list[Any]) -> None:
        receiver = cls()
        receiver.delimiter = delimiter = rng.choice(DELIMITERS)
        receiver.MAX_LENGTH = limit = rng.choice([0, 5, 50, 80, 400])
        restless = rng.choice([0, 0.05, 0.5])

        def received(line: bytes) -> None:
            log.append(line)
            if rng.random() < restless:
                act = rng.randrange(4)
                if act == 0:
                    receiver.delimiter = rng.choice(DELIMITERS)
                elif act == 1:
                    receiver.MAX_LENGTH = rng.choice([limit, limit // 2, 2 * limit])
                elif act == 2 and rng.random() < 0.1:
                    receiver.transport.loseConnection()
                elif act == 3:
                    receiver.dataReceived(b"more")

        def exceeded(line: bytes) -> object:
            log.append(("too long", line))
            return rng.choice([None, "long why"])

        receiver.lineReceived = received
        receiver.lineLengthExceeded = exceeded
        receiver.makeConnection(Transport(log))
        chunks = chunks_of(lines_stream(limit, delimiter, rng), rng)
        log.extend(("returned", receiver.dataReceived(chunk)) for chunk in chunks)

    for seed in SEEDS:
        play(STOCK["LineOnlyReceiver"], OURS["LineOnlyReceiver"], session, seed)


# The interface.


@pytest.mark.parametrize("name", NAMES)
def test_a_receiver_is_one_of_the_host_with_the_same_attributes(name: str) -> None:
    ours, stock = OURS[name], STOCK[name]
    assert issubclass(ours, stock)
    assert ours.__name__ == stock.__name__
    for attribute in ("MAX_LENGTH", "structFormat", "prefixLength", "delimiter", "line_mode", "paused"):
        assert getattr(ours, attribute, None) == getattr(stock, attribute, None)
    assert dropin.StringTooLongError is basic.StringTooLongError


@pytest.mark.parametrize("name", NAMES)
def test_what_is_sent_has_the_bytes_of_the_host(name: str) -> None:
    logs: list[list[Any]] = []
    for cls in (STOCK[name], OURS[name]):
        log: list[Any] = []
        receiver = cls()
        if name.startswith("IntN"):
            receiver.structFormat, receiver.prefixLength = "<H", 2
        receiver.makeConnection(Transport(log))
        send = receiver.sendLine if "Line" in name else receiver.sendString
        most = 256 ** getattr(receiver, "prefixLength", 8)
        for size in (0, 5, 255, 256, 65535, 65536):
            if size < most:
                send(b"x" * size)
            else:
                with pytest.raises(dropin.StringTooLongError) as raised:
                    send(b"x" * size)
                log.append(str(raised.value))
        logs.append(log)
    assert logs[0] == logs[1]


@pytest.mark.parametrize("name", [*NAMES[:3], "LineReceiver"])
def test_data_before_a_connection_is_taken_where_the_host_takes_it(name: str) -> None:
    stream = struct.pack(STOCK[name].structFormat, 3) + b"one" if name.startswith("Int") else b"one\r\n"
    seen: list[bytes] = []
    receiver = OURS[name]()
    receiver.stringReceived = receiver.lineReceived = seen.append
    receiver.dataReceived(stream)
    assert seen == [b"one"]


@pytest.mark.parametrize("name", NAMES[:3])
def test_the_hooks_have_the_defaults_of_the_host(name: str) -> None:
    log: list[Any] = []
    receiver = OURS[name]()
    receiver.makeConnection(Transport(log))
    receiver.MAX_LENGTH = 4
    header = struct.pack(receiver.structFormat, 4)
    with pytest.raises(NotImplementedError):
        receiver.dataReceived(header + b"four")
    receiver.dataReceived(struct.pack(receiver.structFormat, 5))
    assert log == ["lose"]
    with pytest.raises(TypeError):
        receiver.dataReceived("text")


def test_any_bytes_like_data_is_taken_and_not_kept() -> None:
    for kind in (bytearray, memoryview):
        seen: list[bytes] = []
        receiver = OURS["Int8StringReceiver"]()
        receiver.stringReceived = seen.append
        data = bytearray(b"\3one\3tw")
        receiver.dataReceived(kind(data) if kind is memoryview else data)
        data[:] = b"x" * len(data)
        receiver.dataReceived(bytearray(b"o"))
        assert seen == [b"one", b"two"]
        assert all(type(payload) is bytes for payload in seen)


# What differs from the host, as the docstring of the module says.


def int8(**hooks: Any) -> Any:
    receiver = OURS["Int8StringReceiver"]()
    for name, hook in hooks.items():
        setattr(receiver, name, hook)
    receiver.makeConnection(Transport([]))
    return receiver


def test_after_the_limit_was_exceeded_no_message_comes_twice() -> None:
    seen: list[Any] = []
    receiver = int8(stringReceived=seen.append, lengthLimitExceeded=seen.append, MAX_LENGTH=3)
    receiver.dataReceived(b"\3one\4four")
    receiver.dataReceived(b"\3two")
    assert seen == [b"one", 4, 4]
    receiver.MAX_LENGTH = 4
    receiver.dataReceived(b"")
    assert seen == [b"one", 4, 4, b"four", b"two"]


def test_what_is_assigned_to_recvd_when_the_limit_is_exceeded_comes_next() -> None:
    seen: list[Any] = []

    def exceeded(length: int) -> None:
        seen.append(length)
        receiver.recvd = receiver.recvd[1 + length :]

    receiver = int8(stringReceived=seen.append, lengthLimitExceeded=exceeded, MAX_LENGTH=3)
    receiver.dataReceived(b"\3one\4four\3two")
    assert seen == [b"one", 4]
    receiver.dataReceived(b"\1x")
    assert seen == [b"one", 4, b"two", b"x"]


def test_an_error_in_a_callback_leaves_what_follows_it() -> None:
    seen: list[bytes] = []

    def received(payload: bytes) -> None:
        seen.append(payload)
        if payload == b"bad":
            raise ZeroDivisionError

    receiver = int8(stringReceived=received)
    with pytest.raises(ZeroDivisionError):
        receiver.dataReceived(b"\3one\3bad\3two\5thr")
    assert receiver.recvd == b"\3two\5thr"
    receiver.dataReceived(b"ee")
    assert seen == [b"one", b"bad", b"two", b"three"]


def test_a_call_from_inside_a_callback_waits_for_its_turn() -> None:
    seen: list[bytes] = []

    def received(payload: bytes) -> None:
        seen.append(payload)
        receiver.pauseProducing()
        receiver.resumeProducing()
        if payload == b"one":
            receiver.dataReceived(b"\5three")
            assert receiver.recvd == b"\3two\5three"

    receiver = int8(stringReceived=received)
    receiver.dataReceived(b"\3one\3two")
    assert seen == [b"one", b"two", b"three"]


def test_recvd_can_be_assigned_from_outside() -> None:
    seen: list[bytes] = []
    receiver = int8(stringReceived=seen.append)
    receiver.dataReceived(b"\5thr")
    assert receiver.recvd == b"\5thr"
    receiver.recvd = b"\3o"
    receiver.dataReceived(b"ne")
    receiver.recvd = ""  # as AMP does
    assert (seen, receiver.recvd) == ([b"one"], b"")


def test_a_negative_length_is_over_every_limit() -> None:
    seen: list[Any] = []
    receiver = OURS["IntNStringReceiver"]()
    receiver.structFormat, receiver.prefixLength = "!b", 1
    receiver.stringReceived = receiver.lengthLimitExceeded = seen.append
    receiver.dataReceived(b"\3one\xff...")
    assert seen == [b"one", -1]


def test_a_netstring_length_with_a_newline_is_refused_at_once() -> None:
    log: list[Any] = []
    receiver = OURS["NetstringReceiver"]()
    receiver.makeConnection(Transport(log))
    receiver.dataReceived(b"3\n")
    assert (log, receiver.brokenPeer) == (["lose"], 1)


# Linear time, counted in bytes that are looked at.


@pytest.fixture
def cut_sizes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many bytes each batch was cut from."""
    found: list[int] = []

    def counted(original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def cut(self: Any, window: Any) -> Any:
            found.append(len(window))
            return original(self, window)

        return cut

    for cls in (dropin._Cutter, dropin._LineCutter):
        monkeypatch.setattr(cls, "cut", counted(cls.cut))
    return found


@pytest.mark.parametrize("name", NAMES[:3] + NAMES[4:])
def test_a_message_in_many_chunks_is_looked_at_once(name: str, cut_sizes: list[int]) -> None:
    size = 200 if name == "Int8StringReceiver" else 60_000
    payload = random.Random(1).randbytes(size).translate(None, b"\r\n")
    stream = {
        "Line": payload + b"\r\n",
        "Nets": b"%d:%b," % (len(payload), payload),
    }.get(name[:4]) or struct.pack(OURS[name].structFormat, len(payload)) + payload
    seen: list[bytes] = []
    receiver = OURS[name]()
    receiver.stringReceived = receiver.lineReceived = seen.append
    receiver.makeConnection(Transport([]))
    receiver.MAX_LENGTH = 10**6
    for pos in range(0, len(stream), 7):
        receiver.dataReceived(stream[pos : pos + 7])
    assert seen == [payload]
    assert sum(cut_sizes) <= 2 * len(stream) + 14  # the cutter of lines counts itself and the one it stands on


@pytest.mark.parametrize("act", ["pause", "limit", "recvd", "delimiter", "raw"])
def test_callbacks_that_stop_the_delivery_each_time_do_not_make_it_quadratic(act: str, cut_sizes: list[int]) -> None:
    count = 5000
    seen: list[bytes] = []

    def received(payload: bytes) -> None:
        seen.append(payload)
        if act == "pause":
            receiver.pauseProducing()
        elif act == "limit":
            receiver.MAX_LENGTH = 99 if receiver.MAX_LENGTH == 100 else 100
        elif act == "recvd":
            receiver.recvd = receiver.recvd
        elif act == "delimiter":
            receiver.delimiter = b"\n" if receiver.delimiter == b"\r\n" else b"\r\n"
        else:
            receiver.setRawMode()

    lines = act in ("delimiter", "raw")
    receiver = OURS["LineReceiver" if lines else "Int8StringReceiver"]()
    receiver.stringReceived = receiver.lineReceived = received
    receiver.rawDataReceived = lambda data: receiver.setLineMode(data)
    receiver.makeConnection(Transport([]))
    receiver.dataReceived((b"line\r\n" if lines else b"\4line") * count)
    while receiver.paused:
        receiver.resumeProducing()
    assert len(seen) == count
    assert sum(cut_sizes) <= dropin.FAR + count * 2 * dropin.NEAR


# Rebinding the names.


def test_importing_patches_nothing_and_installing_can_be_undone() -> None:
    assert not dropin.installed()
    with dropin.patched():
        assert dropin.installed()
        assert {name: getattr(basic, name) for name in NAMES} == OURS
    dropin.install()
    dropin.install()
    dropin.uninstall()
    assert not dropin.installed()
    assert {name: getattr(basic, name) for name in NAMES} == STOCK


def test_an_unknown_version_of_the_host_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import twisted
    from incremental import Version

    monkeypatch.setattr(twisted, "version", Version("Twisted", 99, 1, 0))
    with pytest.raises(UnsupportedVersion, match=r"Twisted 99\.1\.0"):
        dropin.install()
    assert {name: getattr(basic, name) for name in NAMES} == STOCK


# In real processes.


def environment(core: ModuleType) -> dict[str, str]:
    return {
        **os.environ,
        "FRAMEWIRE_CORE": core.__name__.rpartition("_")[2],
        "PYTHONPATH": str(Path(framewire.__file__).parents[1]),
    }


def test_the_tests_of_the_host_pass(core: ModuleType) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "host_suites" / "twisted.py")],
        env=environment(core),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


PEER = """
import importlib, sys
from twisted.internet import protocol, reactor

role, module, names, *ports = sys.argv[1:]
left = names.split()

def finished():
    left.pop()
    if not left:
        reactor.stop()

def peer(name):
    lines = name.startswith("Line")
    payloads = [bytes([65 + i % 26]) * size for i, size in enumerate([0, 1, 5, 255, 3, 100] * 200)]
    if not name.startswith("Int8"):
        payloads += [b"z" * 9000]
    seen = []

    class Peer(getattr(importlib.import_module(module), name)):
        def connectionMade(self):
            if role == "client":
                for payload in payloads:
                    self.say(payload)

        def say(self, payload):
            (self.sendLine if lines else self.sendString)(payload)

        def received(self, payload):
            if role == "server":
                self.say(payload)
                return
            seen.append(payload)
            if len(seen) == len(payloads):
                self.transport.loseConnection()

        lineReceived = stringReceived = received

        def connectionLost(self, reason):
            if role == "client":
                print(name, "the same" if seen == payloads else f"other: {len(seen)} of {len(payloads)}")
            finished()

    return Peer

if role == "server":
    factories = [protocol.Factory.forProtocol(peer(name)) for name in left]
    print(*(reactor.listenTCP(0, one, interface="127.0.0.1").getHost().port for one in factories), flush=True)
else:
    for name, port in zip(list(left), ports):
        reactor.connectTCP("127.0.0.1", int(port), protocol.ClientFactory.forProtocol(peer(name)))
reactor.callLater(60, reactor.stop)
reactor.run()
"""


@pytest.mark.parametrize("server", ["twisted.protocols.basic", "framewire.dropin.twisted"])
def test_ours_and_the_host_understand_each_other_over_a_socket(server: str, core: ModuleType) -> None:
    modules = ["twisted.protocols.basic", "framewire.dropin.twisted"]
    client = modules[1 - modules.index(server)]
    names = [name for name in NAMES if name != "IntNStringReceiver"]
    env = environment(core)
    arguments = [sys.executable, "-c", PEER]
    with subprocess.Popen([*arguments, "server", server, " ".join(names)], env=env, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            ports = process.stdout.readline().decode().split()
            assert len(ports) == len(names)
            done = subprocess.run(
                [*arguments, "client", client, " ".join(names), *ports],
                env=env,
                capture_output=True,
                text=True,
                check=False,
                timeout=90,
            )
            assert sorted(done.stdout.splitlines()) == sorted(f"{name} the same" for name in names), done.stderr
            assert process.wait(90) == 0
        finally:
            process.kill()
