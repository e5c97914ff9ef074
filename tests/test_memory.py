"""Memory may run out at any allocation: the compiled core then raises, loses no boundary, and never crashes."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
import sysconfig
from types import ModuleType

import pytest
from websocket_vectors import BINARY, DEFLATE, FIN, HELLO, MORE, PING, POEM, RSV1, TEXT, announce, frame, joined

from framewire import Delimited, FramingError, Spec, parse_spec

if sys.implementation.name != "cpython":
    pytest.skip("this Python has no hooks that make allocations fail", allow_module_level=True)
testcapi = pytest.importorskip("_testcapi", reason="this Python comes without the hooks that make allocations fail")


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    if os.environ.get("FRAMEWIRE_EXPECT") == "pure":
        pytest.skip("what Python itself allocates for the pure core is not ours to test")
    return importlib.import_module("framewire._core_c")


def without_memory_at(allocation: int, work: object) -> bool:
    """Run `work` with that allocation failing; whether it noticed."""
    assert callable(work)
    gc.disable()  # the allocation might be one of somebody's gc callback
    testcapi.set_nomemory(allocation, allocation + 1)
    try:
        work()
    except MemoryError:
        return True
    finally:
        testcapi.remove_mem_hooks()
        gc.enable()
    return False


STREAMS = [
    (parse_spec("u32be"), b"\0\0\0\x20" + b"x" * 32),
    (parse_spec("netstring"), b"3:abc,"),
    (parse_spec("lines"), b"hello\n"),
    (Delimited(b"a", b"abcd"), b"1abcx1a2"),
]


@pytest.mark.parametrize("way", ["feed", "feed_spans", "get_buffer"])
@pytest.mark.parametrize("size", [5, 1000])
@pytest.mark.parametrize(("spec", "unit"), STREAMS, ids=lambda value: getattr(value, "name", ""))
def test_a_decoder_without_memory_never_goes_on_at_a_wrong_place(
    compiled: ModuleType, spec: Spec, unit: bytes, size: int, way: str
) -> None:
    stream = unit * 60
    whole = compiled.Decoder(spec).feed(stream)
    noticed = 0
    for allocation in range(50):
        decoder = compiled.Decoder(spec)
        payloads: list[bytes] = []

        def receive(decoder: object = decoder, payloads: list[bytes] = payloads) -> None:
            for begin in range(0, len(stream), size):
                chunk = stream[begin : begin + size]
                if way == "feed":
                    payloads += decoder.feed(chunk)  # type: ignore[attr-defined]
                elif way == "feed_spans":
                    payloads += decoder.feed_spans(chunk).tolist()  # type: ignore[attr-defined]
                else:
                    window = decoder.get_buffer(len(chunk))  # type: ignore[attr-defined]
                    window[:] = chunk
                    payloads += decoder.buffer_updated(len(chunk))  # type: ignore[attr-defined]

        failed = without_memory_at(allocation, receive)
        noticed += failed
        assert payloads == (whole[: len(payloads)] if failed else whole)
        decoder.reset()
        assert decoder.feed(stream) == whole
    assert noticed


@pytest.mark.skipif(sysconfig.get_config_var("Py_GIL_DISABLED") == 1, reason="there each chunk goes the long way")
def test_a_short_chunk_for_which_there_is_no_memory_was_not_taken(compiled: ModuleType) -> None:
    noticed = 0
    for allocation in range(5):
        decoder = compiled.Decoder("u8")
        decoder.feed(b"\x06ab")
        given = [decoder.feed(b"") for _ in range(200)]  # so that lists have to be made anew
        noticed += without_memory_at(allocation, lambda decoder=decoder: decoder.feed(b""))
        failed = without_memory_at(allocation, lambda decoder=decoder: decoder.feed(b"cd"))
        noticed += failed
        assert decoder.error is None
        assert decoder.buffered_size == (3 if failed else 5)
        assert decoder.feed(b"cdef" if failed else b"ef") == [b"abcdef"]
        del given
    assert noticed


def test_a_stream_that_was_cut_never_ends_well_for_want_of_memory(compiled: ModuleType) -> None:
    noticed = 0
    for make, cut in (
        (lambda: compiled.Decoder("u8"), b"\x06ab"),
        (lambda: compiled.MessageDecoder("client"), b"\x81\x05he"),
    ):
        for allocation in range(30):
            decoder = make()
            decoder.feed(cut)
            with contextlib.suppress(FramingError, MemoryError):  # which may hit the traceback of the other
                noticed += without_memory_at(allocation, decoder.feed_eof)
            with pytest.raises(FramingError):
                decoder.feed_eof()
    assert noticed


def test_a_large_payload_without_memory_fails_and_its_kept_slices_stay_valid(compiled: ModuleType) -> None:
    frame = (300_000).to_bytes(4, "big") + b"y" * 300_000
    noticed = 0
    for allocation in range(40):
        decoder = compiled.Decoder("u32be")
        kept: list[memoryview] = []

        def receive(decoder: object = decoder, kept: list[memoryview] = kept) -> None:
            begin = 0
            while begin < len(frame):
                window = decoder.get_buffer()  # type: ignore[attr-defined]
                size = min(len(window), len(frame) - begin, 50_000)
                window[:size] = frame[begin : begin + size]
                kept.append(window[:3])
                begin += size
                decoder.buffer_updated(size)  # type: ignore[attr-defined]

        noticed += without_memory_at(allocation, receive)
        for view in kept:
            view[:] = b"!!!"
            view.release()
        try:
            decoder.feed(b"")
        except MemoryError:
            assert isinstance(decoder.error, MemoryError)
        except FramingError:
            pytest.fail("running out of memory is not the peer's fault")
        decoder.reset()
        assert decoder.feed(frame) == [frame[4:]]
    assert noticed


def test_without_memory_to_leave_a_kept_slice_no_payload_is_made_that_it_can_write(compiled: ModuleType) -> None:
    noticed = 0
    for allocation in range(12):
        decoder = compiled.Decoder("u32be")
        decoder.feed((70_000).to_bytes(4, "big") + b"x" * 65_536)
        kept = decoder.get_buffer()[:]
        noticed += without_memory_at(allocation, lambda decoder=decoder: decoder.feed(b""))
        try:
            payloads = decoder.feed(b"y" * 4_464)
        except MemoryError:
            payloads = []
        kept[:4] = b"EVIL"
        kept.release()
        assert not any(b"EVIL" in payload for payload in payloads)
    assert noticed


def test_an_encoder_without_memory_raises_and_works_again(compiled: ModuleType) -> None:
    payloads = [b"x" * 10] * 500 + [b"y" * 100_000]
    whole = compiled.Encoder("u32be").encode_many(payloads)
    noticed = 0
    for allocation in range(20):
        encoder = compiled.Encoder("u32be")
        noticed += without_memory_at(allocation, lambda encoder=encoder: encoder.encode_many(payloads))
        assert encoder.encode_many(payloads) == whole
    assert noticed


# WebSocket messages.

PIECES = [
    (FIN | TEXT, b"hello"),
    (FIN | BINARY, b"x" * 300),
    (FIN | TEXT, POEM.encode()),
    (TEXT, POEM.encode()[:5]),
    (FIN | PING, b"ping"),
    (MORE, POEM.encode()[5:]),
    (FIN, b""),
    (FIN | RSV1 | TEXT, HELLO),
    (FIN | BINARY, b"y" * 5000),
]


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "parts"])
@pytest.mark.parametrize("way", ["feed", "get_buffer"])
@pytest.mark.parametrize("size", [5, 1000, 10**6])
@pytest.mark.parametrize("role", ["server", "client"])
def test_a_message_decoder_without_memory_never_goes_on_at_a_wrong_place(
    compiled: ModuleType, role: str, size: int, way: str, parts: bool
) -> None:
    stream = b"".join(frame(role, *one) for one in PIECES) * 3
    options = {"deflate": DEFLATE, "parts": parts}
    whole = joined(compiled.MessageDecoder(role, **options).feed(stream))
    noticed = 0
    for allocation in (*range(60), *range(60, 400, 17)):
        decoder = compiled.MessageDecoder(role, **options)
        messages: list[object] = []

        def receive(decoder: object = decoder, messages: list[object] = messages) -> None:
            at = 0
            while at < len(stream):
                if way == "feed":
                    chunk = stream[at : at + size]
                    at += len(chunk)
                    messages += decoder.feed(chunk)  # type: ignore[attr-defined]
                else:
                    window = decoder.get_buffer(size)  # type: ignore[attr-defined]
                    n = min(len(window), len(stream) - at)
                    window[:n] = stream[at : at + n]
                    at += n
                    messages += decoder.buffer_updated(n)  # type: ignore[attr-defined]

        failed = without_memory_at(allocation, receive)
        noticed += failed
        got = [one for one in joined(messages) if not isinstance(one, list)]
        assert got == (whole[: len(got)] if failed else whole)
        try:
            decoder.feed(b"")
        except MemoryError:
            assert isinstance(decoder.error, MemoryError)
        except FramingError:
            pytest.fail("running out of memory is not the peer's fault")
        decoder.reset()
        assert joined(decoder.feed(stream)) == whole
    assert noticed


@pytest.mark.parametrize("first", [FIN | TEXT, FIN | BINARY, BINARY], ids=["text", "binary", "a fragment"])
def test_a_large_message_without_memory_fails_and_its_kept_slices_stay_valid(compiled: ModuleType, first: int) -> None:
    stream = frame("server", first, b"y" * 300_000) + (frame("server", FIN) if first == BINARY else b"")
    noticed = 0
    for allocation in range(60):
        decoder = compiled.MessageDecoder("server")
        kept: list[memoryview] = []

        def receive(decoder: object = decoder, kept: list[memoryview] = kept) -> None:
            begin = 0
            while begin < len(stream):
                window = decoder.get_buffer()  # type: ignore[attr-defined]
                size = min(len(window), len(stream) - begin, 50_000)
                window[:size] = stream[begin : begin + size]
                kept.append(window[:3])
                begin += size
                decoder.buffer_updated(size)  # type: ignore[attr-defined]

        noticed += without_memory_at(allocation, receive)
        for view in kept:
            view[:] = b"!!!"
            view.release()
        try:
            decoder.feed(b"")
        except MemoryError:
            assert isinstance(decoder.error, MemoryError)
        decoder.reset()
        (message,) = decoder.feed(stream)
        assert message in ("y" * 300_000, b"y" * 300_000)
    assert noticed


@pytest.mark.parametrize("stream", [b"\x83", b"\x81\5hell\xff", announce("client", FIN | BINARY, 2**40), b"\x88\1x"])
def test_an_error_that_there_is_no_memory_for_is_still_an_error(compiled: ModuleType, stream: bytes) -> None:
    noticed = 0
    for allocation in range(40):
        decoder = compiled.MessageDecoder("client")
        # SystemError is the interpreter's word for an exception that it cannot make.
        with contextlib.suppress(FramingError, MemoryError, SystemError):
            without_memory_at(allocation, lambda decoder=decoder: decoder.feed(stream))
        noticed += isinstance(decoder.error, MemoryError)
        assert isinstance(decoder.error, (FramingError, MemoryError))
        with pytest.raises((FramingError, MemoryError)):
            decoder.feed(b"\x81\1x")
    assert noticed


@pytest.mark.parametrize("role", ["server", "client"])
@pytest.mark.parametrize("deflate", [None, DEFLATE], ids=["plain", "deflate"])
def test_a_message_encoder_without_memory_raises_and_works_again(
    compiled: ModuleType, role: str, deflate: object
) -> None:
    messages = [b"x" * 10, POEM, "ascii", bytearray(b"z" * 9)] * 20 + [b"y" * 100_000]
    key = (lambda: b"abcd") if role == "client" else None
    noticed = 0
    for allocation in range(60):
        encoder = compiled.MessageEncoder(role, deflate=deflate, mask_key=key)
        for write in (
            lambda encoder=encoder: encoder.encode_many(messages, compress=False),
            lambda encoder=encoder: encoder.encode(POEM, compress=False),
            lambda encoder=encoder: encoder.encode(b"x" * 1000, compress=False),
            lambda encoder=encoder: encoder.ping(b"x"),
            lambda encoder=encoder: compiled.mask(b"x" * 1000, b"abcd"),
        ):
            noticed += without_memory_at(allocation, write)
        decoder = compiled.MessageDecoder("client" if role == "server" else "server", deflate=deflate)
        assert decoder.feed(encoder.encode_many(messages, compress=False)) == messages
    assert noticed
