"""`framewire.dropin.websockets`: step by step what the host does, at every seam, on both twins; and what differs."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import logging
import os
import random
import secrets
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from conftest import CORES
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("websockets", reason="websockets is not installed; the test extra has it")

from websockets import utils
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.client import ClientProtocol
from websockets.exceptions import ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import CLIENT, CONNECTING, OPEN, SERVER, Protocol, Side
from websockets.server import ServerProtocol
from websockets.streams import StreamReader
from websockets.uri import parse_uri
from websockets.version import version

from framewire.dropin import UnsupportedVersion, _websockets_py
from framewire.dropin import websockets as dropin

OWNERS = [(Frame, "parse"), (Frame, "serialize"), (Protocol, "parse"), (Protocol, "receive_data")]
STOCK = [vars(owner)[name] for owner, name in OWNERS]
STOCK_SERIALIZE = Frame.serialize
NEW = int(version.split(".")[0]) >= dropin.PROTOCOL_VERSIONS[0][0]
SEAMS: list[dropin.Seam] = ["mask", "frame", "protocol"]
SIDES = [SERVER, CLIENT]
KEY = b"\x12\x9a\x00\xff"

new_only = pytest.mark.skipif(not NEW, reason="for websockets 16 and newer")


@contextlib.contextmanager
def using(core: str) -> Iterator[None]:
    """Let this twin do the work. Afterwards the host must be as it was."""
    twin: ModuleType = _websockets_py if core == "py" else importlib.import_module("framewire._core_c")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WebsocketsFraming", "websockets_apply_mask"):
            patch.setattr(dropin, name, getattr(twin, name))
        dropin._mixin.cache_clear()
        yield
    dropin._mixin.cache_clear()
    assert dropin.installed() is None
    assert [vars(owner)[name] for owner, name in OWNERS] == STOCK


@pytest.fixture(params=CORES)
def ours(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(request.param):
        yield request.param


# The host and we do the same, step by step.


def frame(
    opcode: int, data: bytes = b"", *, mask: bool = True, fin: bool = True, rsv: int = 0, width: int = 0, top: int = 0
) -> bytes:
    """Any frame, allowed or not. `width`: bytes of the length, if more than it needs; `top`: added to a long length."""
    size, masked = len(data), 0x80 if mask else 0
    width = width or (0 if size < 126 else 2 if size < 65536 else 8)
    head = bytes([(0x80 if fin else 0) | rsv | opcode, masked | (size if not width else 126 if width == 2 else 127)])
    head += (size + top).to_bytes(width, "big") if width else b""
    return head + (KEY + utils.apply_mask(data, KEY) if mask else data)


class Told:
    """What a protocol shows to those who drive it."""

    def __init__(self, side: Side, max_size: Any, extensions: list[Any], cls: type[Protocol] = Protocol) -> None:
        keys = itertools.count()
        self.steps: list[Any] = []
        self.keys = lambda size: next(keys).to_bytes(size, "big")
        self.protocol = cls(side, max_size=max_size)
        self.protocol.extensions = extensions

    def do(self, work: Callable[[Protocol], None]) -> None:
        before, secrets.token_bytes = secrets.token_bytes, self.keys  # type: ignore[assignment]
        protocol = self.protocol
        try:
            work(protocol)
            raised = None
        except Exception as error:
            raised = repr(error)
        finally:
            secrets.token_bytes = before
        error = protocol.parser_exc
        self.steps.append(
            (
                raised,
                [(type(event.data), type(event.opcode), event) for event in protocol.events_received()],  # type: ignore
                protocol.data_to_send(),
                protocol.state,
                protocol.close_rcvd,
                protocol.close_sent,
                protocol.close_rcvd_then_sent,
                protocol.current_size if NEW else None,
                protocol.eof_sent,
                protocol.close_expected(),
                type(error),
                error.args if error else None,
                str(error),
            )
        )


def story(side: Side, max_size: Any, extension: str, chunks: list[bytes], eof: bool, cls: type[Protocol]) -> list[Any]:
    extensions: list[Any] = []
    if extension == "deflate":
        extensions = [PerMessageDeflate(False, False, 12, 12)]
    elif extension == "flip":
        extensions = [Flip()]
    told = Told(side, max_size, extensions, cls)
    for chunk in chunks:
        told.do(lambda protocol, chunk=chunk: protocol.receive_data(chunk))  # type: ignore[misc]
    if eof:
        told.do(lambda protocol: protocol.receive_eof())
        told.do(lambda protocol: protocol.receive_data(b"x"))
    told.steps.append(told.protocol.reader.eof)
    return [*told.steps, told.protocol.reader.buffer]


class Flip:
    """An extension that uses RSV2, and says no to what is empty."""

    name = "flip"

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        if not frame.data:
            raise ProtocolError(f"empty, of at most {max_size}")
        return Frame(frame.opcode, bytes(frame.data)[::-1], frame.fin, frame.rsv1, False, frame.rsv3)

    def encode(self, frame: Frame) -> Frame:
        return Frame(frame.opcode, bytes(frame.data)[::-1], frame.fin, frame.rsv1, True, frame.rsv3)


def assert_same(side: Side, max_size: Any, extension: str, chunks: list[bytes], eof: bool) -> None:
    expected = story(side, max_size, extension, chunks, eof, Protocol)
    runs: list[tuple[Any, type[Protocol]]] = [(seam, Protocol) for seam in SEAMS]
    if NEW:
        runs.append((None, mixed()))
    for seam, cls in runs:
        with dropin.patched(seam) if seam else contextlib.nullcontext():
            got = story(side, max_size, extension, chunks, eof, cls)
        # All but the reader's buffer, where frames that are not whole keep the fields that the host has taken out.
        assert got[:-1] == expected[:-1], seam
        assert got[-1].endswith(expected[-1])
        if not expected[-1]:
            assert len(got[-1]) <= 14


_classes: list[type[Protocol]] = []


def mixed() -> type[Protocol]:
    if not _classes:

        class Mixed(dropin.FramewireMixin, Protocol):
            pass

        _classes.append(Mixed)
    return _classes[0]


SIZES = [0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 63, 124, 125, 126, 127, 128, 255, 256, 257, 300, 511, 70_000]
CLOSES = [b"", b"\x03", b"\x03\xe8", b"\x03\xe8bye", b"\x03\xec", b"\x03\xe8\xff", b"\x0b\xb8ok"]


@st.composite
def pieces(draw: st.DrawFn, side: Side) -> bytes:
    """A frame, mostly allowed; sometimes anything."""
    mask = (side is SERVER) != (draw(st.integers(0, 40)) == 0)
    kind = draw(st.sampled_from(["data", "data", "data", "part", "rest", "ping", "pong", "odd", "close", "noise"]))
    if kind == "noise":
        return draw(st.binary(max_size=12))
    data = random.Random(draw(st.integers(0, 99))).randbytes(draw(st.sampled_from(SIZES)))
    if kind == "close":
        return frame(8, draw(st.sampled_from(CLOSES)), mask=mask)
    if kind in ("ping", "pong"):
        return frame(9 if kind == "ping" else 10, data[:125], mask=mask)
    if kind == "odd":
        width = draw(st.sampled_from([0, 2, 8])) if len(data) < 65536 else 8
        top = draw(st.sampled_from([0, 0, 1 << 63])) if width == 8 else 0
        opcode = draw(st.integers(0, 15))
        rsv = draw(st.sampled_from([0, 0, 0, 0x10, 0x20, 0x40]))
        return frame(opcode, data, mask=mask, fin=draw(st.booleans()), rsv=rsv, width=width, top=top)
    opcode = draw(st.sampled_from([1, 2])) if kind != "rest" else 0
    return frame(opcode, data, mask=mask, fin=kind == "data" or (kind == "rest" and draw(st.booleans())))


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    places = sorted(draw(st.sets(st.integers(0, len(data)), max_size=12)))
    return [data[start:end] for start, end in itertools.pairwise([0, *places, len(data)])]


LIMITS: list[Any] = [1 << 20, None, 300, 0, 2**70]
if NEW:
    LIMITS += [(300, 100), (None, 127), (1000, None), (0, None)]


@pytest.mark.parametrize("core_name", CORES)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("extension", ["", "flip", "deflate"])
@given(data=st.data())
def test_any_stream_in_any_pieces_is_what_it_is_to_the_host(
    core_name: str, side: Side, extension: str, data: st.DataObject
) -> None:
    stream = b"".join(data.draw(st.lists(pieces(side), max_size=8)))
    limit, eof = data.draw(st.sampled_from(LIMITS)), data.draw(st.booleans())
    with using(core_name):
        assert_same(side, limit, extension, data.draw(cuts(stream)), eof)


BAD = [
    frame(3, b"opcode"),
    frame(11, b""),
    frame(1, b"masking", mask=False),
    frame(2, bytes(301)),
    frame(2, bytes(5), width=8, top=1 << 63),
    frame(1, b"reserved", rsv=0x10),
    frame(1, b"", rsv=0x40),
    frame(9, bytes(126)),
    frame(8, bytes(126)),
    frame(10, b"in parts", fin=False),
    frame(0, b"nothing to continue"),
    frame(1, b"a", fin=False) + frame(2, b"b"),
    frame(1, b"a", fin=False) + frame(8, b""),
    frame(1, bytes(200), fin=False) + frame(0, bytes(101)),
    *[frame(8, data) + b"whatever follows" for data in CLOSES],
    frame(8, b"") + frame(3, b"no error any more"),
]
GOOD = [
    frame(1, b"hello"),
    frame(2, bytes(126)),
    frame(2, bytes(5), width=2),
    frame(2, bytes(5), width=8),
    frame(2, bytes(300), width=8),
    frame(1, b""),
    frame(9, b"ping") + frame(10, b"pong") + frame(9, b""),
    frame(1, b"a", fin=False) + frame(9, b"between") + frame(0, b"b", fin=False) + frame(0, b"c"),
]


@pytest.mark.parametrize("stream", [*BAD, *GOOD], ids=lambda stream: stream[:8].hex())
@pytest.mark.parametrize("eof", [False, True])
def test_every_cut_and_every_byte_is_what_it_is_to_the_host(ours: str, stream: bytes, eof: bool) -> None:
    before = frame(2, b"before")
    for end in range(len(stream) + 1):
        assert_same(SERVER, 300, "", [before + stream[:end], stream[end:]], eof)
        if eof:
            assert_same(SERVER, 300, "", [stream[:end]], True)
    assert_same(SERVER, 300, "", [bytes([byte]) for byte in before + stream], eof)


@pytest.mark.parametrize("size", [65_535, 65_536, 100_000, 1 << 20])
@pytest.mark.parametrize("chunk_size", [1000, 65_536, 262_144])
@pytest.mark.parametrize("side", SIDES)
def test_large_frames_in_pieces_are_what_they_are_to_the_host(
    ours: str, size: int, chunk_size: int, side: Side
) -> None:
    mask = side is SERVER
    large = frame(2, random.Random(size).randbytes(size), mask=mask)
    stream = large + frame(1, b"small", mask=mask) + large + frame(8, b"", mask=mask)
    chunks = [stream[at : at + chunk_size] for at in range(0, len(stream), chunk_size)]
    assert_same(side, None, "", chunks, True)


@pytest.mark.parametrize("size", [2**62, 2**63 - 1, 2**63, 2**64 - 10, 2**64 - 1])
@pytest.mark.parametrize("limit", [None, 2**70])
def test_the_longest_lengths_are_waited_for_as_by_the_host(ours: str, size: int, limit: Any) -> None:
    stream = frame(2, b"", width=8, top=size) + bytes(300)
    for end in range(20):
        assert_same(SERVER, limit, "", [stream[:end], stream[end:], bytes(1000)], True)
    assert_same(SERVER, limit, "", [bytes([byte]) for byte in stream], True)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_chunks_are_of_any_type(ours: str, kind: Any) -> None:
    stream = frame(1, b"hello") + frame(2, bytes(300)) + frame(9, b"x")
    assert_same(SERVER, None, "", [kind(stream[:50]), kind(stream[50:])], True)


def test_a_chunk_that_is_none_is_an_error_and_changes_nothing(ours: str) -> None:
    assert_same(SERVER, None, "", [frame(1, b"a")[:3], None, "text", frame(1, b"a")[3:]], True)  # type: ignore[list-item]


# Frames by themselves.


def parse(data: list[bytes], eof: bool = False, cls: Any = Frame, **options: Any) -> Any:
    """What Frame.parse() says after each piece, and what it leaves."""
    reader = StreamReader()
    parser = cls.parse(reader.read_exact, **options)
    told: list[Any] = []
    for piece in data:
        reader.feed_data(piece)
        if eof and piece is data[-1]:
            reader.feed_eof()
        try:
            told.append(next(parser))
        except StopIteration as stop:
            result = stop.value
            return [*told, type(result), type(result.data), result, vars(result), bytes(reader.buffer)]
        except Exception as error:
            return [*told, repr(error), str(error)]
    return told


@pytest.mark.parametrize("seam", SEAMS)
def test_a_frame_is_parsed_as_by_the_host(ours: str, seam: dropin.Seam) -> None:
    class Derived(Frame):
        def check(self) -> None:
            raise ProtocolError("checked")

    options: list[dict[str, Any]] = [
        {"mask": True},
        {"mask": False},
        {"mask": True, "max_size": 5},
        {"mask": True, "max_size": -1},
        {"mask": True, "max_size": 2**80},
        {"mask": True, "max_size": 5, "extensions": []},
        {"mask": True, "max_size": 500, "extensions": [Flip()]},
        {"mask": True, "cls": Derived},
    ]
    for stream, option, eof in itertools.product([*BAD, *GOOD], options, [False, True]):
        for pieces_ in ([stream + b"rest"], [stream[:1], stream[1:3], stream[3:]], [stream[:-1]], [b"", stream[:7]]):
            expected = parse(pieces_, eof, **option)
            with dropin.patched(seam):
                assert parse(pieces_, eof, **option) == expected


def test_another_source_than_the_hosts_reader_is_read_by_the_host(ours: str) -> None:
    data = bytearray(frame(1, b"hello"))

    def read_exact(size: int) -> Any:
        part = bytes(data[:size])
        del data[:size]
        return part
        yield

    class Slow(StreamReader):
        def read_exact(self, n: int) -> Any:
            yield
            return (yield from super().read_exact(n))

    with dropin.patched("frame"):
        with pytest.raises(StopIteration) as caught:
            next(Frame.parse(read_exact, mask=True))
        assert caught.value.value == Frame(Opcode.TEXT, b"hello")
        reader = Slow()
        reader.feed_data(frame(2, b"slowly"))
        parser = Frame.parse(reader.read_exact, mask=True)
        assert [next(parser, "whole") for _ in range(4)] == [None, None, None, "whole"]


def outcome(work: Callable[[], Any]) -> Any:
    try:
        result = work()
    except Exception as error:
        return repr(error)
    return type(result), result


@pytest.mark.parametrize("seam", SEAMS)
def test_a_frame_is_written_as_by_the_host(ours: str, seam: dropin.Seam, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_bytes", lambda size: KEY[:size])
    halves = memoryview(bytes(40))[::2]
    data: list[Any] = [bytes(size) for size in (0, 1, 125, 126, 65_535, 65_536)]
    data += [bytearray(b"array"), memoryview(b"view"), halves, "text", None]
    if importlib.util.find_spec("websockets.speedups"):  # without, the host masks no more than the items it counts
        data.append(memoryview(bytes(8)).cast("H"))
    opcodes = [*Opcode, 3, 15, 16, -1, "1"]
    for opcode, body, fin, rsv in itertools.product(opcodes, data, [True, False], [False, True]):
        for mask, extensions in itertools.product([True, False], [None, [], [Flip()]]):

            def work(
                opcode: Any = opcode,
                body: Any = body,
                fin: Any = fin,
                rsv: Any = rsv,
                mask: Any = mask,
                ext: Any = extensions,
            ) -> bytes:
                return Frame(opcode, body, fin, rsv1=rsv).serialize(mask=mask, extensions=ext)

            expected = outcome(work)
            with dropin.patched(seam):
                assert outcome(work) == expected, (opcode, body, fin, rsv, mask, extensions)


@pytest.mark.parametrize("seam", SEAMS)
def test_keys_come_from_the_secrets_module_when_they_are_needed(
    ours: str, seam: dropin.Seam, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def token_bytes(size: int) -> bytes:
        asked.append(size)
        return KEY

    with dropin.patched(seam):
        monkeypatch.setattr(secrets, "token_bytes", token_bytes)
        assert Frame(Opcode.TEXT, b"hello").serialize(mask=True) == frame(1, b"hello")
        assert Frame(Opcode.TEXT, b"hello").serialize(mask=False) == frame(1, b"hello", mask=False)
        assert asked == [4]
        protocol = Protocol(CLIENT)
        protocol.receive_data(frame(9, b"ping", mask=False))
        assert protocol.data_to_send() == [frame(10, b"ping")]
        assert asked == [4, 4]
        monkeypatch.setattr(secrets, "token_bytes", lambda size: b"abc")
        with pytest.raises(ValueError, match="mask must contain 4 bytes"):
            Frame(Opcode.TEXT, b"hello").serialize(mask=True)


def test_a_source_of_keys_that_fails_ends_the_connection_as_in_the_host(
    ours: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def token_bytes(size: int) -> bytes:
        raise OSError("no more randomness")

    def run() -> Any:
        caplog.clear()
        protocol = Protocol(CLIENT)
        monkeypatch.setattr(secrets, "token_bytes", token_bytes)
        chunk = frame(1, b"before", mask=False) + frame(9, b"ping", mask=False) + frame(1, b"after", mask=False)
        with pytest.raises(OSError, match="no more randomness"):
            protocol.receive_data(chunk)  # it cannot send a close frame either
        return protocol.events, protocol.writes, protocol.state, bytes(protocol.reader.buffer), caplog.messages

    expected = run()
    assert expected[-1] == ["parser failed"]
    for seam in SEAMS:
        with dropin.patched(seam):
            assert run() == expected


@new_only
@pytest.mark.parametrize("early", [0, 5, 10, 13])
def test_an_interrupt_loses_nothing(ours: str, early: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(size: int) -> bytes:
        raise KeyboardInterrupt

    stream = frame(1, b"before", mask=False) + frame(9, b"ping", mask=False) + frame(1, b"after", mask=False)
    with dropin.patched("protocol"):
        protocol = Protocol(CLIENT)
        protocol.receive_data(stream[:early])
        with monkeypatch.context() as patch:
            patch.setattr(secrets, "token_bytes", interrupted)
            with pytest.raises(KeyboardInterrupt):
                protocol.receive_data(stream[early:])
        protocol.receive_data(b"")
        assert [event.data for event in protocol.events_received()] == [b"before", b"ping", b"after"]  # type: ignore[union-attr]
        assert len(protocol.data_to_send()) == 1


def test_masking_is_as_the_hosts(ours: str) -> None:
    mask = dropin.websockets_apply_mask
    data = random.Random(0).randbytes(1000)
    for start, size in itertools.product(range(9), [*range(70), 127, 128, 255, 256, 257, 900]):
        part = data[start : start + size]
        expected = utils.apply_mask(part, KEY)
        for given_ in (part, bytearray(part), memoryview(data)[start : start + size], memoryview(part * 2)[:size]):
            result = mask(given_, KEY)
            assert type(result) is bytes
            assert result == expected
    assert mask(data=memoryview(data)[::2], mask=bytearray(KEY)) == utils.apply_mask(data[::2], KEY)
    assert mask(data, memoryview(KEY)) == utils.apply_mask(data, KEY)
    for wrong in (b"", b"abc", b"abcde"):
        with pytest.raises(ValueError, match="mask must contain 4 bytes"):
            mask(data, wrong)
    for arguments in (("text", KEY), (data, "text"), (None, KEY), (data, None), ([1], KEY)):
        with pytest.raises(TypeError):
            mask(*arguments)


# What runs beside it.


@pytest.mark.parametrize("name", ["recv_frame", "send_frame"])
@pytest.mark.parametrize("where", ["class", "object", "host"])
@pytest.mark.parametrize("seam", SEAMS)
def test_methods_of_somebody_else_are_called(
    ours: str, name: str, where: str, seam: dropin.Seam, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Frame] = []
    host = getattr(Protocol, name)

    def method(self: Protocol, frame: Frame) -> None:
        called.append(frame)
        host(self, frame)

    class Derived(Protocol):
        pass

    with dropin.patched(seam):
        if where != "object":
            monkeypatch.setattr(Derived if where == "class" else Protocol, name, method)
        protocol = Derived(SERVER)
        if where == "object":
            monkeypatch.setattr(protocol, name, method.__get__(protocol))
        protocol.receive_data(frame(9, b"1") + frame(1, b"2"))
        protocol.receive_data(frame(9, b"3"))
    opcodes = [frame.opcode for frame in called]
    assert opcodes == ([Opcode.PING, Opcode.TEXT, Opcode.PING] if name == "recv_frame" else [Opcode.PONG] * 2)
    assert [event.data for event in protocol.events_received()] == [b"1", b"2", b"3"]  # type: ignore[union-attr]


@pytest.mark.parametrize("seam", SEAMS)
def test_the_log_at_debug_is_the_hosts(ours: str, seam: dropin.Seam, caplog: pytest.LogCaptureFixture) -> None:
    def run() -> list[str]:
        caplog.clear()
        protocol = Protocol(SERVER, logger=logging.getLogger("host"))
        protocol.receive_data(frame(1, b"hello") + frame(9, b"ping"))
        protocol.receive_data(frame(8, b"\x03\xe8bye"))
        protocol.receive_eof()
        return [record.getMessage() for record in caplog.records if record.name == "host"]

    with caplog.at_level(logging.DEBUG, "host"):
        expected = run()
        with dropin.patched(seam):
            assert run() == expected
    assert any("hello" in line for line in expected)


@pytest.mark.parametrize("seam", SEAMS)
def test_what_is_changed_between_chunks_is_seen(ours: str, seam: dropin.Seam) -> None:
    def run() -> list[Any]:
        told = Told(SERVER, 100, [])
        protocol = told.protocol
        told.do(lambda protocol: protocol.receive_data(frame(2, bytes(100)) + frame(1, b"a")[:3]))
        protocol.extensions = [Flip()]  # type: ignore[list-item]
        told.do(lambda protocol: protocol.receive_data(frame(1, b"a")[3:] + frame(9, b"abc")))
        if NEW:
            protocol.max_message_size = 10
        told.do(lambda protocol: protocol.fail(1011))
        told.do(lambda protocol: protocol.receive_data(frame(1, b"never")))
        told.do(lambda protocol: protocol.receive_eof())
        return told.steps

    expected = run()
    with dropin.patched(seam):
        assert run() == expected


@pytest.mark.parametrize("seam", SEAMS)
def test_a_connection_goes_on_as_it_began(ours: str, seam: dropin.Seam) -> None:
    stream = frame(1, b"first") + frame(2, bytes(300)) + frame(9, b"ping")
    for before, after in ((None, seam), (seam, None)):
        with dropin.patched(before) if before else contextlib.nullcontext():
            protocol = Protocol(SERVER)
            protocol.receive_data(stream[:15])
        with dropin.patched(after) if after else contextlib.nullcontext():
            protocol.receive_data(stream[15:])
            protocol.receive_data(stream)
        assert [type(event) for event in protocol.events_received()] == [Frame] * 6
        assert protocol.data_to_send() == [frame(10, b"ping", mask=False)] * 2
        assert protocol.parser_exc is None


@pytest.mark.parametrize("seam", ["frame", "protocol"])
def test_memory_follows_what_came_and_not_what_a_header_says(ours: str, seam: dropin.Seam) -> None:
    with dropin.patched(seam):
        protocol = Protocol(SERVER, max_size=None)
        protocol.receive_data(frame(2, b"", width=8, top=1 << 40))
        for count in range(1, 20):
            protocol.receive_data(bytes(50_000))
            assert sys.getsizeof(protocol.reader.buffer) <= max(2 * 65_536, 2 * 50_000 * count + 200)


@pytest.mark.parametrize("seam", ["frame", "protocol"])
def test_a_lent_buffer_does_not_move(ours: str, seam: dropin.Seam) -> None:
    with dropin.patched(seam):
        protocol = Protocol(SERVER, max_size=None)
        protocol.receive_data(frame(1, b"hello")[:5])
        with memoryview(protocol.reader.buffer), pytest.raises(BufferError):
            protocol.receive_data(frame(1, b"hello")[5:])


# Seams.


def test_what_install_replaces_uninstall_puts_back(ours: str) -> None:
    for seam in SEAMS:
        assert dropin.installed() is None
        dropin.uninstall()
        dropin.install(seam)
        dropin.install(seam)
        in_force = "frame" if seam == "protocol" and not NEW else seam
        assert dropin.installed() == in_force
        changed = [vars(owner)[name] is not old for (owner, name), old in zip(OWNERS, STOCK, strict=True)]
        assert (
            changed
            == {
                "mask": [False] * 4,
                "frame": [True, True, False, False],
                "protocol": [True] * 4,
            }[in_force]
        )
        assert Frame.parse.__module__.startswith("framewire") == (seam != "mask")
        frames: Any = importlib.import_module("websockets.frames")
        if seam == "mask":
            assert frames.apply_mask.__module__.startswith("framewire")
        with dropin.patched(seam), dropin.patched(seam):
            pass
        assert dropin.installed() == in_force
        dropin.uninstall()
        assert [vars(owner)[name] for owner, name in OWNERS] == STOCK
        assert not frames.apply_mask.__module__.startswith("framewire")


def test_the_frame_seam_is_the_default(ours: str) -> None:
    with dropin.patched():
        assert dropin.installed() == "frame"


def test_another_seam_is_not_replaced(ours: str) -> None:
    with dropin.patched("frame"):
        with pytest.raises(RuntimeError, match=r"the seam 'frame' is installed.*uninstall\(\) first"):
            dropin.install("mask")
        with pytest.raises(RuntimeError), dropin.patched("mask"):
            raise AssertionError
        assert dropin.installed() == "frame"
    with pytest.raises(ValueError, match="no such seam: 'other'"):
        dropin.install("other")  # type: ignore[arg-type]


@pytest.mark.parametrize("found", ["11.0.3", "18.0", "18.0.dev0+g1234", "3.4"])
def test_an_unknown_version_is_refused_by_name(ours: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websockets.version.version", found)
    for seam in SEAMS:
        with pytest.raises(UnsupportedVersion, match=f"websockets {found}".replace("+", r"\+")):
            dropin.install(seam)
    with pytest.raises(UnsupportedVersion):
        type("Mixed", (dropin.FramewireMixin, Protocol), {})


def test_an_older_version_gets_the_frame_seam(ours: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websockets.version.version", "15.0.1")
    with dropin.patched("protocol"):
        assert dropin.installed() == "frame"
        dropin.install("protocol")
        dropin.install("frame")
    with pytest.raises(UnsupportedVersion, match="16 and 17"):
        type("Mixed", (dropin.FramewireMixin, Protocol), {})


def test_an_install_is_logged_at_debug(ours: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "framewire"), dropin.patched("frame"):
        dropin.install("frame")
    assert len(caplog.messages) == 2
    assert version in caplog.messages[0]
    assert "'frame'" in caplog.messages[0]
    assert all(record.levelno == logging.DEBUG for record in caplog.records)


def test_nothing_is_replaced_by_the_import() -> None:
    assert dropin.installed() is None
    assert [vars(owner)[name] for owner, name in OWNERS] == STOCK
    assert Frame.parse.__module__ == "websockets.frames"


@pytest.mark.filterwarnings("ignore:websockets.legacy:DeprecationWarning")
def test_the_legacy_implementation_is_masked_too(ours: str) -> None:
    legacy: Any = importlib.import_module("websockets.legacy.framing")
    before = legacy.apply_mask
    with dropin.patched("mask"):
        assert legacy.apply_mask.__module__.startswith("framewire")
    assert legacy.apply_mask is before


# The mixin.


@new_only
def test_the_mixin_goes_below_the_handshake(ours: str) -> None:
    class Server(dropin.FramewireMixin, ServerProtocol):
        pass

    class Client(ClientProtocol, dropin.FramewireMixin):
        pass

    for cls, host in ((Server, ServerProtocol), (Client, ClientProtocol)):
        assert cls.__mro__ == (cls, host, dropin.FramewireMixin, Protocol, object)
    client, server = Client(parse_uri("ws://example.com/")), Server()
    assert server.state is CONNECTING
    client.send_request(client.connect())
    server.receive_data(b"".join(client.data_to_send()))
    (request,) = server.events_received()
    server.send_response(server.accept(request))  # type: ignore[arg-type]
    server.send_text(b"already here")
    client.receive_data(b"".join(server.data_to_send()))
    assert len(client.events_received()) == 2
    assert client.state is server.state is OPEN
    client.send_text(b"hello")
    client.send_ping(b"ping")
    server.receive_data(b"".join(client.data_to_send()))
    assert server.events_received() == [Frame(Opcode.TEXT, b"hello"), Frame(Opcode.PING, b"ping")]
    assert server.data_to_send() == [frame(10, b"ping", mask=False)]
    client.send_close(1000, "bye")
    server.receive_data(b"".join(client.data_to_send()))
    assert server.close_rcvd == Close(1000, "bye")
    assert dropin.installed() is None


@new_only
def test_the_mixin_needs_a_protocol(ours: str) -> None:
    with pytest.raises(TypeError, match=r"derived from websockets\.protocol\.Protocol"):
        type("Wrong", (dropin.FramewireMixin, StreamReader), {})
    with pytest.raises(TypeError, match=r"derived from websockets\.protocol\.Protocol"):
        type("Wrong", (dropin.FramewireMixin,), {})


@new_only
def test_methods_over_the_mixin_are_called(ours: str) -> None:
    sent: list[Frame] = []
    received: list[Frame] = []

    class Sender(dropin.FramewireMixin, Protocol):
        def send_frame(self, frame: Frame) -> None:
            sent.append(frame)
            super().send_frame(frame)

    class Receiver(dropin.FramewireMixin, Protocol):
        def recv_frame(self, frame: Frame) -> None:
            received.append(frame)
            super().recv_frame(frame)

    for cls, frames in ((Sender, sent), (Receiver, received)):
        protocol = cls(SERVER)
        protocol.receive_data(frame(9, b"ping"))
        assert len(frames) == 1
        assert protocol.data_to_send() == [frame(10, b"ping", mask=False)]


# End to end.


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("seam", SEAMS)
def test_a_server_and_a_client_talk(ours: str, seam: dropin.Seam, compression: Any) -> None:
    messages: list[Any] = ["text", b"bytes", "", b"", "\u2603" * 50_000, os.urandom(200_000), ["in ", "parts"]]

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async def talk() -> None:
        async with serve(echo, "127.0.0.1", 0, compression=compression) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}", compression=compression, proxy=None) as client:
                for message in messages:
                    await client.send(message)
                    expected = "".join(message) if isinstance(message, list) else message
                    assert await client.recv() == expected
                await (await client.ping())
            assert client.close_code == 1000

    with dropin.patched(seam):
        asyncio.run(asyncio.wait_for(talk(), 60))
