"""`framewire.dropin.wsproto`: the same frames, calls and errors as the host's own classes, whatever comes."""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import os
import random
import struct
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import pytest
from conftest import CORES
from hypothesis import given
from hypothesis import strategies as st

import framewire._core
from framewire.dropin import UnsupportedVersion, _versions, _wsproto_py

wsproto = pytest.importorskip("wsproto")
from wsproto import connection, events, frame_protocol  # noqa: E402
from wsproto.extensions import Extension, PerMessageDeflate  # noqa: E402
from wsproto.frame_protocol import CloseReason, Opcode, RsvBits  # noqa: E402

KEY = b"\x37\xfa\x21\x3d"
HOST = {name: getattr(frame_protocol, name) for name in ("FrameDecoder", "FrameProtocol", "XorMaskerSimple")}
OLD = _versions.known(
    wsproto.__version__, ((0,), (1, 2))
)  # where payloads can be bytearrays, and cannot be memoryviews


def load(core: str) -> ModuleType:
    """The drop-in, on one core, beside the one that anybody has imported."""
    chosen = framewire._core.CORE
    framewire._core.CORE = core
    try:
        spec = importlib.util.find_spec("framewire.dropin.wsproto")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        framewire._core.CORE = chosen
    return module


LOADED = {core: load(core) for core in CORES}


@pytest.fixture(params=CORES)
def dropin(request: pytest.FixtureRequest) -> ModuleType:
    return LOADED[request.param]


def each_core() -> Any:
    return pytest.mark.parametrize("core", CORES)


def mask(data: bytes, key: bytes = KEY) -> bytes:
    return bytes(byte ^ key[i % 4] for i, byte in enumerate(data))


def frame(first: int, payload: bytes = b"", key: bytes | None = KEY, size: int | None = None, width: int = 0) -> bytes:
    """A frame as its sender pleases: any first byte, a length that lies, or stands in too many bytes."""
    size = len(payload) if size is None else size
    width = width or (0 if size < 126 else 2 if size < 65536 else 8)
    code = size if not width else 126 if width == 2 else 127
    head = bytes([first, code | (0x80 if key is not None else 0)]) + (size.to_bytes(width, "big") if width else b"")
    return head + (payload if key is None else key + mask(payload, key))


def told(error: BaseException) -> tuple[Any, ...]:
    return "error", type(error), str(error), getattr(error, "code", None)


def plain(one: Any) -> tuple[Any, ...]:
    """A frame as it can be compared: with the types of what is in it."""
    assert isinstance(one, frame_protocol.Frame)
    payload = bytes(one.payload) if OLD and isinstance(one.payload, bytearray) else one.payload
    return one.opcode, type(one.opcode), type(payload), payload, one.frame_finished, one.message_finished


def decoded(decoder: Any, chunks: Iterable[bytes]) -> list[Any]:
    """What a FrameDecoder makes of these chunks, up to the first error; None where it wants more."""
    found: list[Any] = []
    for chunk in chunks:
        decoder.receive_bytes(chunk)
        while True:
            try:
                one = decoder.process_buffer()
            except frame_protocol.ParseFailed as error:
                return [*found, told(error)]
            if one is None:
                found.append(None)
                break
            found.append(plain(one))
    return found


def received(protocol: Any, chunks: Iterable[bytes]) -> list[Any]:
    """What a FrameProtocol makes of them, and that it says nothing more after an error or a close."""
    found: list[Any] = []
    for chunk in chunks:
        protocol.receive_bytes(chunk)
        try:
            found += map(plain, protocol.received_frames())
        except frame_protocol.ParseFailed as error:
            found.append(told(error))
        found.append(None)
    return found


def same(
    dropin: ModuleType, client: bool, chunks: list[bytes], extensions: Callable[[], list[Any]] = list
) -> list[Any]:
    """Both decoders and both protocols agree on these chunks; what the decoders say."""
    wanted = decoded(HOST["FrameDecoder"](client, extensions()), chunks)
    assert decoded(dropin.FrameDecoder(client, extensions()), chunks) == wanted
    protocols = [received(cls(client, extensions()), chunks) for cls in (HOST["FrameProtocol"], dropin.FrameProtocol)]
    assert protocols[1] == protocols[0]
    return wanted


def cut(data: bytes, *places: int) -> list[bytes]:
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def stream(key: bytes | None) -> bytes:
    """Frames of every kind."""
    text = "grüße €, 𝄞".encode()
    return b"".join(
        [
            frame(0x82, b"", key),
            frame(0x81, b"", key),
            frame(0x81, text, key),
            frame(0x82, b"abcdefg", key),
            frame(0x01, text[:4], key),  # between the bytes of a character
            frame(0x89, b"ping", key),
            frame(0x00, text[4:9], key),
            frame(0x80, text[9:], key),
            frame(0x02, b"ab", key),
            frame(0x8A, b"", key),
            frame(0x80, b"", key),
            frame(0x82, bytes(130), key),
            frame(0x88, b"\x03\xe8bye", key),
            frame(0x82, b"behind", key),
        ]
    )


@pytest.mark.parametrize("client", [False, True])
def test_every_split_gives_what_the_host_gives(dropin: ModuleType, client: bool) -> None:
    data = stream(None if client else KEY)
    whole = same(dropin, client, [data])
    assert len(whole) == 15
    for place in range(len(data)):
        same(dropin, client, cut(data, place))
    same(dropin, client, [data[i : i + 1] for i in range(len(data))])


def test_chunks_that_wait_are_taken_together(dropin: ModuleType) -> None:
    data = stream(KEY)
    for size in (1, 2, 3, 7, 50):
        decoders = [cls(False) for cls in (HOST["FrameDecoder"], dropin.FrameDecoder)]
        for decoder in decoders:
            for start in range(0, len(data), size):
                decoder.receive_bytes(data[start : start + size])
        assert decoded(decoders[1], [b""]) == decoded(decoders[0], [b""])


def test_whoever_takes_one_frame_a_chunk_gets_all_in_order(dropin: ModuleType) -> None:
    decoders = [cls(False) for cls in (HOST["FrameDecoder"], dropin.FrameDecoder)]
    data = stream(KEY)
    for start in range(0, len(data), 11):
        got = []
        for decoder in decoders:
            decoder.receive_bytes(data[start : start + 11])
            got.append(decoder.process_buffer())
        assert got[0] == got[1]
    assert decoded(decoders[1], [b"", b""]) == decoded(decoders[0], [b"", b""])


@pytest.mark.parametrize("client", [False, True])
def test_every_beginning_of_a_header_is_judged_as_the_host_does(dropin: ModuleType, client: bool) -> None:
    tails = [b"", b"\0", b"\0\0", b"\0\x7e", b"\xff\xff" + bytes(3), b"\x80" + bytes(13), bytes(5) + b"\1" + bytes(8)]
    for first in range(256):
        for second in (0, 1, 125, 126, 127, 128, 129, 253, 254, 255):
            head = bytes([first, second])
            for tail in tails:
                data = head + tail
                assert decoded(dropin.FrameDecoder(client), [data]) == decoded(HOST["FrameDecoder"](client), [data])


LENGTHS = [0, 1, 125, 126, 127, 65535, 65536, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


@pytest.mark.parametrize("size", LENGTHS)
@pytest.mark.parametrize("width", [2, 8])
def test_lengths_must_be_minimal_and_have_no_top_bit(dropin: ModuleType, size: int, width: int) -> None:
    if size >> 8 * width:
        return
    for first in (0x82, 0x01, 0x89, 0xC2):
        for key in (KEY, None):
            data = frame(first, b"abc", key, size=size, width=width)
            for place in range(15):
                same(dropin, False, cut(data, place))
                same(dropin, True, cut(data, place))


def test_a_refusal_is_repeated(dropin: ModuleType) -> None:
    decoder = dropin.FrameDecoder(client=False)
    decoder.receive_bytes(frame(0x82, b"good") + frame(0x83))
    assert decoder.process_buffer().payload == b"good"
    for _ in range(2):
        with pytest.raises(frame_protocol.ParseFailed, match=r"^Invalid opcode 0x3$") as caught:
            decoder.process_buffer()
        assert caught.value.code is CloseReason.PROTOCOL_ERROR


ANY_FRAME = st.builds(
    frame,
    st.one_of(st.sampled_from([0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x88, 0x89, 0x8A]), st.integers(0, 255)),
    st.one_of(
        st.binary(max_size=140),
        st.text(max_size=40).map(str.encode),
        st.integers(0, 5100).map(lambda code: struct.pack("!H", code) + b"why"),
    ),
    st.one_of(st.binary(min_size=4, max_size=4), st.just(KEY), st.none()),
)
PLACES = st.lists(st.integers(0, 400), max_size=6)


@each_core()
@given(frames=st.lists(ANY_FRAME, max_size=6), places=PLACES, client=st.booleans())
def test_any_frames_in_any_pieces(core: str, frames: list[bytes], places: list[int], client: bool) -> None:
    same(LOADED[core], client, cut(b"".join(frames), *places))


@each_core()
@given(frames=st.lists(ANY_FRAME, max_size=8), places=PLACES)
def test_any_frames_that_are_masked_as_they_must_be(core: str, frames: list[bytes], places: list[int]) -> None:
    good = [one for one in frames if one[1] & 0x80 and one[0] & 0x70 == 0 and one[0] & 0x0F in set(Opcode)]
    same(LOADED[core], False, cut(b"".join(good), *places))


@each_core()
@given(data=st.binary(max_size=300), places=PLACES, client=st.booleans())
def test_any_bytes(core: str, data: bytes, places: list[int], client: bool) -> None:
    same(LOADED[core], client, cut(data, *places))


@each_core()
@given(
    text=st.one_of(st.binary(max_size=24), st.text(max_size=12).map(str.encode)),
    fragments=st.lists(st.integers(0, 24), max_size=3),
    places=PLACES,
)
def test_bad_text_fails_where_the_host_fails(core: str, text: bytes, fragments: list[int], places: list[int]) -> None:
    parts = cut(text, *fragments)
    last = len(parts) - 1
    data = b"".join(frame((0x80 if i == last else 0) | (i == 0), part) for i, part in enumerate(parts))
    same(LOADED[core], False, cut(data + frame(0x82, b"next"), *places))


@pytest.mark.parametrize("size", [1, 125, 126, 4096, 65535, 65536, 1_000_003])
def test_payloads_of_every_size_and_key(dropin: ModuleType, size: int) -> None:
    source = random.Random(size)
    key, body = source.randbytes(4), source.randbytes(size)
    data = frame(0x82, b"", key, size=size) + bytes(HOST["XorMaskerSimple"](key).process(bytearray(body)))
    for chunk_size in (size + 14, 65536, 4099):
        found = same(dropin, False, [data[at : at + chunk_size] for at in range(0, len(data), chunk_size)])
        assert b"".join(one[3] for one in found if one) == body
        assert {one[2] for one in found if one} == {bytes}


@pytest.mark.parametrize("make", [bytearray, memoryview])
def test_chunks_of_other_types(dropin: ModuleType, make: Callable[[bytes], Any]) -> None:
    same(dropin, False, [make(frame(0x82, b"abc")), make(b"")])


@pytest.mark.parametrize("wrong", [5, "text", None, [1, 2]])
def test_what_is_no_chunk_is_a_type_error(dropin: ModuleType, wrong: Any) -> None:
    with pytest.raises(TypeError):
        dropin.FrameDecoder(False).receive_bytes(wrong)


def test_a_chunk_may_change_after_it_was_taken(dropin: ModuleType) -> None:
    chunk = bytearray(frame(0x82, b"abc"))
    decoder = dropin.FrameDecoder(False)
    decoder.receive_bytes(chunk)
    chunk[:] = bytes(len(chunk))
    assert decoder.process_buffer().payload == b"abc"


# Extensions.


class Recorder(Extension):  # type: ignore[misc]
    """Notes each call, marks what it sees, and refuses where it is told to."""

    name = "recorder"

    def __init__(
        self, log: list[Any], mark: str, fail: str = "", uses: tuple[bool, ...] = (True, False, False)
    ) -> None:
        self.log, self.mark, self.fail, self.uses = log, mark, fail, uses

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool:
        return True

    def frame_inbound_header(self, proto: Any, opcode: Any, rsv: Any, payload_length: int) -> Any:
        self.log.append((self.mark, "header", proto.client, proto.extensions.index(self), opcode, rsv, payload_length))
        assert isinstance(rsv, RsvBits)
        return CloseReason.POLICY_VIOLATION if self.fail == "header" else RsvBits(*self.uses)

    def frame_inbound_payload_data(self, proto: Any, data: Any) -> Any:
        self.log.append((self.mark, "data", proto.client, bytes(data)))
        return CloseReason.GOING_AWAY if self.fail == "data" else bytes(data) + self.mark.encode()

    def frame_inbound_complete(self, proto: Any, fin: bool) -> Any:
        self.log.append((self.mark, "complete", proto.client, fin))
        if self.fail == "none":
            return None
        return CloseReason.MESSAGE_TOO_BIG if self.fail == "complete" else b"." + self.mark.encode()

    def frame_outbound(self, proto: Any, opcode: Any, rsv: Any, data: Any, fin: bool) -> Any:
        self.log.append((self.mark, "outbound", opcode, rsv, type(data), data, fin))
        return RsvBits(rsv.rsv1, True, rsv.rsv3), data + self.mark.encode()


@pytest.mark.parametrize("fail", ["", "none", "header", "data", "complete"])
@pytest.mark.parametrize("uses", [(True, False, False), (False, True, True), (False, False, False)])
def test_extensions_are_asked_as_the_host_asks_them(dropin: ModuleType, fail: str, uses: tuple[bool, ...]) -> None:
    data = b"".join(
        [frame(0xC2, b"abc"), frame(0x89, b"ping"), frame(0x01, b""), frame(0x80, b"de"), frame(0xB2, b"fg")]
    )
    for place in range(len(data)):
        results = []
        for kind in ("FrameDecoder", "FrameProtocol"):
            for module in (HOST, vars(dropin)):
                log: list[Any] = []
                extensions = [Recorder(log, "x", "none"), Recorder(log, "y", fail, uses)]
                work = decoded if kind == "FrameDecoder" else received
                results.append((work(module[kind](False, extensions), cut(data, place)), log))
        assert results[0] == results[1]
        assert results[2] == results[3]


def test_extensions_come_before_the_masking(dropin: ModuleType) -> None:
    log: list[Any] = []
    found = decoded(dropin.FrameDecoder(True, [Recorder(log, "x", "header")]), [frame(0x82, b"abc")])
    assert found == [("error", frame_protocol.ParseFailed, "error in extension", CloseReason.POLICY_VIOLATION)]
    assert len(log) == 1


def test_extensions_that_are_not_enabled_are_left_out(dropin: ModuleType) -> None:
    found = []
    for cls in (HOST["FrameProtocol"], dropin.FrameProtocol):
        log: list[Any] = []
        never, late = Recorder(log, "never"), Recorder(log, "late")
        never.enabled = bool  # type: ignore[method-assign]
        protocol = cls(False, [never, late])
        sent = [bytes(protocol.send_data(b"a"))]
        late.enabled = bool  # type: ignore[method-assign]
        sent.append(bytes(protocol.send_data(b"a")))
        protocol.receive_bytes(frame(0xC2, b"b"))
        found.append((sent, list(protocol.received_frames()), bytes(protocol.send_data(b"a")), log))
    assert found[0] == found[1]
    assert found[0][2] == b"\x82\x01a"


class Reentrant(Recorder):
    """Feeds the decoder, or asks it, while it is asked."""

    def frame_inbound_payload_data(self, proto: Any, data: bytes) -> bytes:
        if self.mark == "feed" and data == b"one":
            proto.receive_bytes(frame(0x82, b"three"))
        if self.mark == "ask":
            proto.process_buffer()
        return data

    def frame_inbound_header(self, proto: Any, *_: Any) -> Any:
        if self.mark == "ask header":
            proto.process_buffer()
        return RsvBits(False, False, False)

    def frame_inbound_complete(self, proto: Any, fin: bool) -> None:
        return None


def test_what_an_extension_feeds_waits_its_turn(dropin: ModuleType) -> None:
    for chunks in ([frame(0x82, b"one") + frame(0x82, b"two")], [frame(0x82, b"one"), frame(0x82, b"two")]):
        found = []
        for cls in (HOST["FrameDecoder"], dropin.FrameDecoder):
            decoder = cls(False, [Reentrant([], "feed")])
            found.append([one[3] for one in decoded(decoder, chunks) if one])
        assert sorted(found[1]) == [b"one", b"three", b"two"]
        assert found[0] == found[1]


def test_an_extension_cannot_ask_the_decoder_that_asks_it(dropin: ModuleType) -> None:
    for mark in ("ask", "ask header"):
        decoder = dropin.FrameDecoder(False, [Reentrant([], mark)])
        decoder.receive_bytes(frame(0x82, b"one"))
        with pytest.raises(RuntimeError, match="from inside an extension"):
            decoder.process_buffer()


def deflate(**options: Any) -> list[Any]:
    extension = PerMessageDeflate(**options)
    extension.finalize("permessage-deflate")
    return [extension]


@pytest.mark.parametrize("options", [{}, {"client_no_context_takeover": True, "client_max_window_bits": 9}])
def test_compressed_messages(dropin: ModuleType, options: dict[str, Any]) -> None:
    sender = HOST["FrameProtocol"](True, deflate(**options))
    data = b"".join(
        bytes(one)
        for one in (
            sender.send_data("grüße " * 50),
            sender.send_data(b"binary" * 100, fin=False),
            sender.ping(b"between"),
            sender.send_data(bytes(300)),
            sender.send_data(b""),
            sender.close(1000, "bye"),
        )
    )
    for place in range(0, len(data), 3):
        found = same(dropin, False, cut(data, place), lambda: deflate(**options))
        assert ("error",) not in [one[:1] for one in found if one]


@each_core()
@given(bad=st.binary(max_size=60), places=PLACES, rest=st.lists(ANY_FRAME, max_size=3))
def test_what_is_no_deflated_data(core: str, bad: bytes, places: list[int], rest: list[bytes]) -> None:
    same(LOADED[core], False, cut(frame(0xC1, bad) + b"".join(rest), *places), deflate)


# Sending.


def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = itertools.count(1)
    monkeypatch.setattr(os, "urandom", lambda size: (next(numbers) * 0x01020304).to_bytes(size, "big"))


def both(
    monkeypatch: pytest.MonkeyPatch, dropin: ModuleType, work: Callable[[Any], Any], client: bool, *rest: Any
) -> None:
    """Do the same with both protocols, and with the same keys: the same bytes, of the same type, or the same error."""
    results = []
    for cls in (HOST["FrameProtocol"], dropin.FrameProtocol):
        keys(monkeypatch)
        log: list[Any] = []
        extensions = [make(log) for make in rest]
        try:
            data = work(cls(client, extensions))
            results.append((data if isinstance(data, list) else [data], log))
            assert {type(one) for one in results[-1][0]} == {bytearray}
        except (TypeError, ValueError) as error:
            results.append((told(error), log))
    assert results[0] == results[1]


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("size", [0, 1, 3, 4, 15, 16, 17, 125, 126, 127, 255, 256, 65535, 65536, 200_001])
def test_what_is_sent_is_what_the_host_sends(
    monkeypatch: pytest.MonkeyPatch, dropin: ModuleType, client: bool, size: int
) -> None:
    body = random.Random(size).randbytes(size)
    views = [] if OLD else [memoryview, lambda data: memoryview(data * 2)[::2]]
    for make in (bytes, bytearray, *views):
        given_body = make(body)
        both(monkeypatch, dropin, lambda protocol, made=given_body: protocol.send_data(made), client)
    both(monkeypatch, dropin, lambda protocol: protocol.send_data("é" * size), client)
    both(monkeypatch, dropin, lambda protocol: [protocol.send_data(body, fin) for fin in (False, False, True)], client)
    for name in ("ping", "pong"):
        both(monkeypatch, dropin, lambda protocol, name=name: getattr(protocol, name)(body), client)
    both(monkeypatch, dropin, lambda protocol: protocol.close(1000, "r" * size), client)
    both(monkeypatch, dropin, lambda protocol: protocol.send_data(body), client, lambda log: Recorder(log, "x"))
    both(
        monkeypatch,
        dropin,
        lambda protocol: [protocol.send_data(body, False), protocol.ping(body[:100])],
        client,
        lambda log: Recorder(log, "x"),
        lambda log: Recorder(log, "y"),
    )


@pytest.mark.parametrize("wrong", [5, None, [1], object()])
def test_what_cannot_be_sent(monkeypatch: pytest.MonkeyPatch, dropin: ModuleType, wrong: Any) -> None:
    both(monkeypatch, dropin, lambda protocol: protocol.send_data(wrong), True)
    both(monkeypatch, dropin, lambda protocol: [protocol.send_data(b"", False), protocol.send_data("")], True)


def test_every_frame_has_a_key_of_its_own_from_the_system(dropin: ModuleType) -> None:
    protocol = dropin.FrameProtocol(True, [])
    assert len({bytes(protocol.send_data(bytes(4))[2:6]) for _ in range(50)}) == 50


def test_compressed_sending_reads_back(dropin: ModuleType) -> None:
    sender = dropin.FrameProtocol(True, deflate())
    reader = HOST["FrameProtocol"](False, deflate())
    reader.receive_bytes(bytes(sender.send_data("text " * 50) + sender.send_data(b"x" * 500)))
    assert [one.payload for one in reader.received_frames()] == ["text " * 50, b"x" * 500]


# The masker.


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_the_masker_goes_on_with_its_key(dropin: ModuleType, make: Callable[[bytes], Any]) -> None:
    source = random.Random(1)
    maskers = [cls(KEY) for cls in (HOST["XorMaskerSimple"], dropin.XorMaskerSimple)]
    for size in (0, 1, 2, 3, 4, 5, 64, 1023, 1024, 1025, 4097, 70_001, 0, 1):
        data = source.randbytes(size)
        one, other = (masker.process(make(data)) for masker in maskers)
        assert bytes(one) == bytes(other)
        assert type(other) is (bytes if OLD else bytearray)


@pytest.mark.parametrize("key", [b"", b"abc", b"abcde"])
def test_a_key_has_four_bytes(dropin: ModuleType, key: bytes) -> None:
    with pytest.raises(ValueError, match=f"4 bytes, not {len(key)}"):
        dropin.XorMaskerSimple(key)


# Installing.


def in_place() -> dict[str, Any]:
    return {name: getattr(frame_protocol, name) for name in HOST} | {"connection": connection.FrameProtocol}


BEFORE = {**HOST, "connection": HOST["FrameProtocol"]}


def test_nothing_is_patched_by_an_import(dropin: ModuleType) -> None:
    assert in_place() == BEFORE
    assert dropin.installed() == ()


@pytest.mark.parametrize("seams", [("decoder",), ("masker",), ("decoder", "masker")])
def test_install_and_uninstall(dropin: ModuleType, seams: tuple[str, ...]) -> None:
    wanted = dict(BEFORE)
    if "decoder" in seams:
        wanted |= {"FrameDecoder": dropin.FrameDecoder} | dict.fromkeys(
            ("FrameProtocol", "connection"), dropin.FrameProtocol
        )
    if "masker" in seams:
        wanted["XorMaskerSimple"] = dropin.XorMaskerSimple
    options = {seam: seam in seams for seam in dropin.SEAMS}
    try:
        for _ in range(2):
            dropin.install(**options)
            assert in_place() == wanted
            assert dropin.installed() == seams
        with dropin.patched():
            assert dropin.installed() == dropin.SEAMS
            with dropin.patched(decoder=False):
                assert dropin.installed() == ("masker",)
            assert dropin.installed() == dropin.SEAMS
        assert in_place() == wanted
    finally:
        dropin.uninstall()
    assert in_place() == BEFORE
    dropin.uninstall()
    with pytest.raises(ZeroDivisionError), dropin.patched(**options):
        raise ZeroDivisionError
    assert in_place() == BEFORE


def test_nothing_cannot_be_installed(dropin: ModuleType) -> None:
    with pytest.raises(ValueError, match="nothing"):
        dropin.install(decoder=False, masker=False)
    with pytest.raises(TypeError):
        dropin.install(True)


@pytest.mark.parametrize("version", ["0.15.0", "1.4.0", "1.10.0", "2.0.0", "10.0"])
def test_a_version_that_is_not_known_is_refused(
    dropin: ModuleType, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(wsproto, "__version__", version)
    text = f"wsproto {version}: framewire.dropin.wsproto fits wsproto 1.0 to 1.3"
    for options in ({}, {"decoder": False}, {"masker": False}):
        with pytest.raises(UnsupportedVersion) as caught:
            dropin.install(**options)
        assert str(caught.value) == text
        with pytest.raises(UnsupportedVersion), dropin.patched(**options):
            pass
    assert in_place() == BEFORE
    assert dropin.installed() == ()


def test_the_installed_version_is_known(dropin: ModuleType) -> None:
    assert _versions.known(wsproto.__version__, dropin.VERSIONS)
    for good in ("1.0.0", "1.2.0", "1.3.2", "1.3.10", "1.3"):
        assert _versions.known(good, dropin.VERSIONS)


def test_somebody_elses_class_is_not_lost(dropin: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with dropin.patched():
        with monkeypatch.context() as other:
            other.setattr(frame_protocol, "FrameDecoder", object)
            with pytest.raises(RuntimeError, match="FrameDecoder was replaced again"):
                dropin.uninstall()
        assert dropin.installed() == dropin.SEAMS
    assert in_place() == BEFORE


def talk() -> list[Any]:
    """A conversation of two connections of the host: all events of both."""
    client = connection.Connection(connection.ConnectionType.CLIENT, deflate())
    server = connection.Connection(connection.ConnectionType.SERVER, deflate())
    said: list[Any] = []
    for event in (
        events.TextMessage(data="grüße"),
        events.BytesMessage(data=b"a" * 70_000, message_finished=False),
        events.Ping(payload=b"?"),
        events.BytesMessage(data=b"end"),
        events.CloseConnection(code=1000, reason="done"),
    ):
        server.receive_data(client.send(event))
        for one in server.events():
            said.append(one)
            if isinstance(one, (events.Ping, events.CloseConnection)):
                client.receive_data(server.send(one.response()))
        said += client.events()
    assert (client.state, server.state) == (connection.ConnectionState.CLOSED,) * 2
    return said


@pytest.mark.parametrize("options", [{}, {"decoder": False}, {"masker": False}])
def test_connections_of_the_host_use_what_is_installed(dropin: ModuleType, options: dict[str, bool]) -> None:
    wanted = talk()
    assert len(wanted) == 7
    with dropin.patched(**options):
        conn = connection.Connection(connection.ConnectionType.SERVER)
        ours = options.get("decoder", True)
        assert (type(conn._proto) is dropin.FrameProtocol) == ours
        assert (type(conn._proto._frame_decoder) is dropin.FrameDecoder) == ours
        assert isinstance(conn._proto, HOST["FrameProtocol"])
        assert talk() == wanted


def test_a_connection_that_is_there_goes_on_with_what_it_has(dropin: ModuleType) -> None:
    before = connection.Connection(connection.ConnectionType.SERVER)
    before.receive_data(frame(0x82, b"abc")[:7])
    assert [event.data for event in before.events()] == [b"a"]
    with dropin.patched():
        before.receive_data(frame(0x82, b"abc")[7:])
        assert [event.data for event in before.events()] == [b"bc"]
        within = connection.Connection(connection.ConnectionType.SERVER)
        within.receive_data(frame(0x82, b"abc")[:7])
    within.receive_data(frame(0x82, b"abc")[7:])
    assert b"".join(event.data for event in within.events()) == b"abc"


# The twins.


def test_a_decoder_is_made_once(dropin: ModuleType) -> None:
    decoder = dropin.FrameDecoder(False)
    with pytest.raises(RuntimeError, match="made once"):
        decoder.__init__(True)
    decoder.receive_bytes(frame(0x82, b"abc"))
    assert decoder.process_buffer().payload == b"abc"


@pytest.mark.skipif(len(CORES) < 2, reason="there is one core")
def test_the_twins_have_the_same_face() -> None:
    compiled = importlib.import_module("framewire._core_c")
    for name in ("wsproto_frame", "wsproto_mask"):
        mine, other = (inspect.signature(getattr(module, name)) for module in (_wsproto_py, compiled))
        assert list(mine.parameters) == list(other.parameters)
    for name, method in vars(_wsproto_py.WsprotoReader).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            other_method = getattr(compiled.WsprotoReader, name)
            assert list(inspect.signature(method).parameters) == list(inspect.signature(other_method).parameters)
            assert (
                method.__doc__ == inspect.getdoc(other_method) or method.__doc__.split() == other_method.__doc__.split()
            )


def test_a_reader_alone_refuses_to_judge(dropin: ModuleType) -> None:
    reader = dropin.WsprotoReader(False, [], frame_protocol.Frame, dropin._OPCODES)
    reader.receive_bytes(b"\x83\x80")
    with pytest.raises(NotImplementedError):
        reader.process_buffer()
