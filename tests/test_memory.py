"""Memory may run out at any allocation: the compiled core then raises, loses no boundary, and never crashes."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

import pytest

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
    testcapi.set_nomemory(allocation, allocation + 1)
    try:
        work()
    except MemoryError:
        return True
    finally:
        testcapi.remove_mem_hooks()
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
