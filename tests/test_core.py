"""The laws of the core: what goes in comes out whole, however it is cut."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import weakref
from array import array
from contextlib import suppress
from itertools import product
from multiprocessing.connection import Pipe
from types import ModuleType
from typing import Any

import pytest
from harness import WAYS, Outcome, by_feed, by_windows, fields, needs_sizes, run, size_of, split, two_way_splits
from hypothesis import given
from hypothesis import strategies as st
from strategies import MAX_SIZE, chunkings, delimited, payloads_of, specs, streams
from vectors import BAD, GOOD, NETTY, Bad, Good, announce, frame, ids, trailer

from framewire import (
    Ascii,
    Delimited,
    FixedSize,
    FrameTooLarge,
    FramingError,
    HeaderError,
    IncompleteFrame,
    LengthField,
    MultiprocessingPipe,
    Netstring,
    Spec,
    Varint,
)

KIB = 1024
MIB = 1024 * KIB

good = pytest.mark.parametrize("vector", GOOD, ids=ids(GOOD))
# Where no delimiter begins another, a frame is over with its last byte.
CERTAIN = [
    vector
    for vector in GOOD
    if not any(a != b and b.startswith(a) for a, b in product(getattr(vector.spec, "delimiters", ()), repeat=2))
]
certain = pytest.mark.parametrize("vector", CERTAIN, ids=ids(CERTAIN))
bad = pytest.mark.parametrize("vector", BAD, ids=[vector.name for vector in BAD])


# Law 1: chunking never matters.


@good
def test_a_stream_in_one_piece_gives_its_payloads(core: ModuleType, vector: Good) -> None:
    decoder = core.Decoder(vector.spec)
    assert decoder.feed(vector.stream) == vector.payloads
    assert decoder.feed_eof() == []
    assert decoder.error is None


@good
def test_every_split_in_two_gives_the_same(core: ModuleType, vector: Good) -> None:
    for way, give in WAYS.items():
        for chunks in two_way_splits(vector.stream):
            outcome = run(core.Decoder(vector.spec), chunks, give)
            assert outcome == Outcome(vector.payloads, None, 0), (way, chunks)


@good
def test_every_split_in_two_of_a_cut_stream_gives_the_same(core: ModuleType, vector: Good) -> None:
    """The frames that are whole, and the same rest."""
    stream = vector.stream[: 2 * max(len(vector.stream) // 3, 1)]
    whole = run(core.Decoder(vector.spec), [stream], eof=True)
    for way, give in WAYS.items():
        for chunks in two_way_splits(stream):
            assert run(core.Decoder(vector.spec), chunks, give, eof=True) == whole, (way, chunks)


@good
def test_small_chunks_give_the_same(core: ModuleType, vector: Good) -> None:
    for (way, give), size in product(WAYS.items(), (1, 2, 3, 5, 7)):
        outcome = run(core.Decoder(vector.spec), split(vector.stream, size), give)
        assert outcome == Outcome(vector.payloads, None, 0), (way, size)


@good
def test_windows_of_every_small_size_give_the_same(core: ModuleType, vector: Good) -> None:
    for hint in range(1, min(len(vector.stream), 40) + 2):
        outcome = run(core.Decoder(vector.spec), [vector.stream], by_windows(hint))
        assert outcome == Outcome(vector.payloads, None, 0), hint


@bad
def test_a_bad_stream_fails_in_its_frame_after_the_payloads_before_it(core: ModuleType, vector: Bad) -> None:
    decoder = core.Decoder(vector.spec, max_size=vector.max_size)
    assert run(decoder, [vector.stream]).payloads == vector.payloads
    error = decoder.error
    assert type(error) is vector.error
    assert error.offset == vector.offset
    assert error.head == vector.stream[vector.offset :][: len(error.head)]
    assert 0 < len(error.head) <= 16
    if isinstance(error, FrameTooLarge):
        assert (error.size, error.limit) == (vector.size, vector.limit)


@bad
def test_every_split_in_two_fails_alike(core: ModuleType, vector: Bad) -> None:
    whole = core.Decoder(vector.spec, max_size=vector.max_size)
    expected = run(whole, [vector.stream])
    for way, give in WAYS.items():
        for chunks in two_way_splits(vector.stream):
            decoder = core.Decoder(vector.spec, max_size=vector.max_size)
            assert run(decoder, chunks, give) == expected, (way, chunks)
            assert whole.error.head.startswith(decoder.error.head)


@bad
def test_byte_by_byte_the_error_shows_at_its_byte(core: ModuleType, vector: Bad) -> None:
    expected = run(core.Decoder(vector.spec, max_size=vector.max_size), [vector.stream])
    for way, give in WAYS.items():
        decoder = core.Decoder(vector.spec, max_size=vector.max_size)
        payloads: list[bytes] = []
        for fed, chunk in enumerate(split(vector.stream[: vector.shows], 1)):
            assert decoder.error is None, (way, fed)
            with suppress(FramingError):
                payloads += give(decoder, chunk)
        assert Outcome(payloads, fields(decoder.error), 0) == expected, way


@bad
def test_the_error_shows_with_the_chunk_that_brings_its_byte(core: ModuleType, vector: Bad) -> None:
    for size in range(len(vector.stream) + 1):
        decoder = core.Decoder(vector.spec, max_size=vector.max_size)
        run(decoder, [vector.stream[:size]])
        assert (decoder.error is not None) == (size >= vector.shows), size


@bad
def test_windows_of_every_small_size_fail_alike(core: ModuleType, vector: Bad) -> None:
    expected = run(core.Decoder(vector.spec, max_size=vector.max_size), [vector.stream])
    for hint in range(1, len(vector.stream) + 2):
        decoder = core.Decoder(vector.spec, max_size=vector.max_size)
        assert run(decoder, [vector.stream], by_windows(hint)) == expected, hint


@given(st.data())
def test_chunking_never_matters_for_any_bytes(core: ModuleType, data: st.DataObject) -> None:
    spec = data.draw(specs())
    stream = data.draw(streams(spec))
    chunks = data.draw(chunkings(stream))
    give = data.draw(st.sampled_from(sorted(WAYS)))
    decoders = [core.Decoder(spec, max_size=MAX_SIZE) for _ in range(3)]
    whole = run(decoders[0], [stream], eof=True)
    assert run(decoders[1], chunks, WAYS[give], eof=True) == whole
    assert run(decoders[2], split(stream, 1), eof=True) == whole


@given(st.data())
def test_any_payloads_come_back_whole(core: ModuleType, data: st.DataObject) -> None:
    spec = data.draw(specs(writable=True))
    encoder, decoder = core.Encoder(spec), core.Decoder(spec)
    payloads, stream = [], b""
    for payload in data.draw(st.lists(payloads_of(spec), max_size=6)):
        try:
            encoded = encoder.encode(payload)
        except ValueError:
            # Only a delimiter in the wrong place: everything else drawn here can be carried.
            assert isinstance(spec, Delimited)
            continue
        payloads.append(payload)
        stream += encoded
    assert encoder.encode_many(payloads) == stream
    give = data.draw(st.sampled_from(sorted(WAYS)))
    assert run(decoder, data.draw(chunkings(stream)), WAYS[give]) == Outcome(payloads, None, 0)


def naive(stream: bytes, spec: Delimited) -> tuple[list[bytes], int]:
    """The payloads of a whole stream, and how many bytes are left, by the definition alone."""
    payloads: list[bytes] = []
    begin = at = 0
    while at < len(stream):
        found = max((d for d in spec.delimiters if stream.startswith(d, at)), key=len, default=b"")
        at += len(found) or 1
        if found:
            payloads.append(stream[begin : at if spec.keep else at - len(found)])
            begin = at
    return payloads, len(stream) - begin


@given(delimited(), st.data())
def test_the_earliest_delimiter_wins_and_at_a_tie_the_longest(
    core: ModuleType, spec: Delimited, data: st.DataObject
) -> None:
    stream = data.draw(st.lists(st.sampled_from([b"x", b"a", b"b", b"\r", b"\n", *spec.delimiters])).map(b"".join))
    decoder = core.Decoder(spec)
    outcome = run(decoder, data.draw(chunkings(stream)), eof=True)
    payloads, left = naive(stream, spec)
    assert outcome.payloads == payloads
    if left:
        assert (type(decoder.error), decoder.error.received, decoder.error.offset) == (
            IncompleteFrame,
            left,
            len(stream) - left,
        )
    else:
        assert decoder.error is None


@pytest.mark.parametrize("picture", NETTY)
def test_the_pictures_in_nettys_documentation(core: ModuleType, picture: str) -> None:
    spec, header, result = NETTY[picture]
    text = b"HELLO, WORLD"
    stream, expected = bytes.fromhex(header) + text, bytes.fromhex(result) + text
    for way, give in WAYS.items():
        for chunks in two_way_splits(2 * stream):
            assert run(core.Decoder(spec), chunks, give) == Outcome(2 * [expected], None, 0), (way, chunks)


LARGE = [
    LengthField(4),
    LengthField(4, offset=2, strip=0),
    LengthField(4, strip=9),
    LengthField(4, adjust=-4, strip=2),
    Ascii(10),
    Varint(),
    Netstring(),
    Delimited(b"\r\n"),
    Delimited(b"\r\n", b"\r\n\r\n", keep=True),
    FixedSize(200_000),
    MultiprocessingPipe(),
]


@pytest.mark.parametrize("spec", LARGE, ids=lambda spec: spec.name)
@pytest.mark.parametrize("hint", [-1, 1000, 64 * KIB, 10 * MIB])
def test_large_payloads_give_the_same_by_every_way(core: ModuleType, spec: Spec, hint: int) -> None:
    payloads = [bytes(range(251)) * 800, b"x" * 200_000]  # over the 64 KiB from which windows are direct
    payloads = [payload.replace(b"\r\n", b"--")[:200_000] for payload in payloads]
    between = announce(spec, 0) + trailer(spec) if not isinstance(spec, FixedSize) else b""
    if getattr(spec, "strip", None) == 9:
        between = b""
    if getattr(spec, "keep", False):
        payloads = [payload + b"\r\n" for payload in payloads]
        between = b""
    stream = b"".join(frame(spec, payload) + between for payload in payloads)
    whole = run(core.Decoder(spec), [stream], eof=True)
    assert whole.error is None
    assert len(whole.payloads) == (4 if between else 2)
    strip = getattr(spec, "strip", None)
    if strip is None:
        assert [payload for payload in whole.payloads if payload] == payloads
    for size in (100_000, 65_539, 12_345):
        assert run(core.Decoder(spec), split(stream, size), eof=True) == whole, size
        assert run(core.Decoder(spec), split(stream, size), WAYS["spans"], eof=True) == whole, size
    for size in (len(stream), 100_003, 20_011):
        assert run(core.Decoder(spec), split(stream, size), by_windows(hint), eof=True) == whole, size


# Limits.

LIMITED = [
    Ascii(5),
    Ascii(5, ">"),
    Ascii(5, "0"),
    LengthField(2),
    LengthField(3, "little"),
    LengthField(8),
    LengthField(2, offset=3),
    LengthField(2, adjust=7),
    LengthField(2, adjust=-7),
    LengthField(2, adjust=7, strip=0),
    LengthField(2, adjust=-7, strip=5),
    LengthField(8, adjust=7),
    LengthField(8, adjust=-7),
    Varint(32),
    Varint(64),
    Netstring(),
    Delimited(b"\n"),
    Delimited(b"\r\n"),
    Delimited(b"\r\n", b"\n", keep=True),
    MultiprocessingPipe(),
]


@pytest.mark.parametrize("limit", [7, 9, 100, 300])
@pytest.mark.parametrize("spec", LIMITED, ids=lambda spec: spec.name)
def test_the_limit_itself_passes_and_one_more_does_not(core: ModuleType, spec: Spec, limit: int) -> None:
    """The bytes that follow the header are counted, whatever strip removes; or those before a delimiter."""
    end = b"\n" if getattr(spec, "keep", False) else b""
    for size in (limit - 1, limit):
        if size >= getattr(spec, "adjust", 0):
            decoder = core.Decoder(spec, max_size=limit)
            strip = getattr(spec, "strip", None)
            expected = b"x" * size + end
            if strip is not None:
                expected = (announce(spec, size) + expected)[strip:]
            assert decoder.feed(frame(spec, b"x" * size + end) if not end else expected) == [expected]
    decoder = core.Decoder(spec, max_size=limit)
    with pytest.raises(FrameTooLarge) as raised:
        decoder.feed(announce(spec, limit + 1) + (b"x" * (limit + 1) if isinstance(spec, Delimited) else b""))
    assert raised.value.size == (None if isinstance(spec, Delimited) else limit + 1)
    assert raised.value.limit == limit


@pytest.mark.parametrize("limit", [7, 9, 100, 300])
@pytest.mark.parametrize(
    "spec", [spec for spec in LIMITED if getattr(spec, "strip", None) is None], ids=lambda spec: spec.name
)
def test_an_encoder_refuses_what_a_decoder_of_its_limit_would(core: ModuleType, spec: Spec, limit: int) -> None:
    end = b"\n" if getattr(spec, "keep", False) else b""
    encoder = core.Encoder(spec, max_size=limit)
    for size in (limit - 1, limit):
        if size >= getattr(spec, "adjust", 0):
            encoded = encoder.encode(b"x" * size + end)
            assert core.Decoder(spec, max_size=limit).feed(encoded) == [b"x" * size + end]
    with pytest.raises(FrameTooLarge) as raised:
        encoder.encode(b"x" * (limit + 1) + end)
    assert (raised.value.size, raised.value.limit, raised.value.offset) == (limit + 1, limit, None)


def test_a_decoder_without_a_limit_must_be_asked_for(core: ModuleType) -> None:
    assert core.Decoder("u32be").max_size == 16 * MIB
    decoder = core.Decoder("u32be", max_size=None)
    assert decoder.max_size is None
    assert decoder.feed(b"\xff\xff\xff\xff") == []
    assert decoder.needed_size == 2**32 - 1


# Law 2: errors wait their turn.


@bad
def test_an_error_behind_payloads_waits_for_the_next_call(core: ModuleType, vector: Bad) -> None:
    for way, give in WAYS.items():
        decoder = core.Decoder(vector.spec, max_size=vector.max_size)
        if vector.payloads:
            assert by_feed(decoder, vector.stream) == vector.payloads
            assert decoder.error is not None
        with pytest.raises(vector.error) as first:
            give(decoder, vector.stream)
        with pytest.raises(vector.error) as second:
            give(decoder, b"and more")
        assert first.value is second.value is decoder.error, way


def test_a_raised_error_does_not_gather_tracebacks(core: ModuleType) -> None:
    decoder = core.Decoder("u8", max_size=1)
    depths = []
    for _ in range(5):
        with pytest.raises(FrameTooLarge) as raised:
            decoder.feed(b"\xff")
        depths.append(len(raised.traceback))
    assert len(set(depths[1:])) == 1


@bad
def test_reset_begins_a_clean_stream(core: ModuleType, vector: Bad) -> None:
    decoder = core.Decoder(vector.spec, max_size=vector.max_size)
    run(decoder, [vector.stream])
    decoder.reset()
    assert decoder.error is None
    assert decoder.buffered_size == 0
    fresh = core.Decoder(vector.spec, max_size=vector.max_size)
    assert decoder.needed_size == fresh.needed_size
    assert run(decoder, [vector.stream]) == run(fresh, [vector.stream])


@good
def test_reset_forgets_a_part_of_a_frame_and_the_end(core: ModuleType, vector: Good) -> None:
    decoder = core.Decoder(vector.spec)
    for cut in range(len(vector.stream)):
        run(decoder, [vector.stream[:cut]], eof=cut % 2 == 0)
        decoder.reset()
        assert run(decoder, [vector.stream], eof=True) == Outcome(vector.payloads, None, 0)
        decoder.reset()


def test_reset_takes_the_window_back(core: ModuleType) -> None:
    decoder = core.Decoder("u8")
    decoder.get_buffer()
    decoder.reset()
    with pytest.raises(RuntimeError):
        decoder.buffer_updated(1)


# What a decoder tells about itself.


@certain
def test_buffered_size_is_what_has_come_of_the_unfinished_frame(core: ModuleType, vector: Good) -> None:
    ends = [0]
    for one in vector.frames:
        ends.append(ends[-1] + len(one))
    decoder = core.Decoder(vector.spec)
    for i, chunk in enumerate(split(vector.stream, 1), 1):
        decoder.feed(chunk)
        assert decoder.buffered_size == i - max(end for end in ends if end <= i)


@certain
def test_reading_what_is_needed_never_reads_past_a_frame(core: ModuleType, vector: Good) -> None:
    decoder, at, reads, payloads = core.Decoder(vector.spec), 0, 0, []
    for one in vector.frames:
        stop = at + len(one)
        while at < stop:
            needed = decoder.needed_size
            assert 0 < needed <= stop - at
            payloads += decoder.feed(vector.stream[at : at + needed])
            at += needed
            reads += 1
    assert payloads == vector.payloads
    if not isinstance(vector.spec, (Delimited, Varint, Netstring)):
        assert reads <= 3 * len(vector.frames)


def test_needed_size_is_nothing_once_the_stream_is_over(core: ModuleType) -> None:
    decoder = core.Decoder("u8")
    assert decoder.needed_size == 1
    decoder.feed_eof()
    assert decoder.needed_size == 0


def test_a_decoder_shows_its_format_and_its_limit(core: ModuleType) -> None:
    decoder = core.Decoder("ascii10", max_size=100)
    assert (decoder.spec, decoder.max_size) == (Ascii(10), 100)
    assert repr(decoder) == "Decoder(Ascii(width=10, align='<'), max_size=100)"
    with pytest.raises(AttributeError):
        decoder.spec = Ascii(5)
    with pytest.raises(AttributeError):
        decoder.error = None
    with pytest.raises(AttributeError):
        decoder.anything = 1


@pytest.mark.parametrize("kind", ["Decoder", "Encoder"])
@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        (("ascii99",), {}, ValueError),
        (("nothing",), {}, ValueError),
        ((5,), {}, TypeError),
        ((None,), {}, TypeError),
        ((), {}, TypeError),
        (("u8",), {"max_size": -1}, ValueError),
        (("u8",), {"max_size": 2**63}, ValueError),
        (("u8",), {"max_size": 1.5}, TypeError),
        (("u8",), {"max_size": True}, TypeError),
        (("u8",), {"max_size": "5"}, TypeError),
        (("u8", 5), {}, TypeError),
        (("fixed:10",), {"max_size": 9}, ValueError),
        (("u8,adjust=10",), {"max_size": 9}, ValueError),
    ],
)
def test_an_impossible_configuration_dies_in_the_constructor(
    core: ModuleType, kind: str, arguments: Any, options: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        getattr(core, kind)(*arguments, **options)


def test_a_decoder_is_not_pickled_or_copied(core: ModuleType) -> None:
    decoder = core.Decoder("u8")
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="part of a stream"):
            way(decoder)


@pytest.mark.parametrize("kind", ["Decoder", "Encoder"])
def test_it_can_be_referred_to_weakly_and_dies_at_once(core: ModuleType, kind: str) -> None:
    thing = getattr(core, kind)("u8")
    reference = weakref.ref(thing)
    assert reference() is thing
    del thing
    gc.collect()
    assert reference() is None


# What may be fed.


class Bytes(bytes):
    """Bytes with code of their own, none of which the core may ask."""

    def __len__(self) -> int:
        raise AssertionError

    def __getitem__(self, key: Any) -> Any:
        raise AssertionError

    def __iter__(self) -> Any:
        raise AssertionError


BUFFERS = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "a slice of a view": lambda data: memoryview(b"?" + data + b"?")[1:-1],
    "a view in two dimensions": lambda data: memoryview(data).cast("B", (2, len(data) // 2)),
    "array of ints": lambda data: array("i", data),
    "array of bytes": lambda data: array("b", data),
    "a subclass of bytes": Bytes,
}


@pytest.mark.parametrize("make", BUFFERS.values(), ids=BUFFERS)
@pytest.mark.parametrize("method", ["feed", "feed_spans"])
def test_any_contiguous_buffer_can_be_fed(core: ModuleType, make: Any, method: str) -> None:
    stream = announce(LengthField(2), 9) + b"ninebytes" + announce(LengthField(2), 100) + b"cut"
    stream += bytes(-len(stream) % 4)
    decoder = core.Decoder(LengthField(2))
    payloads = getattr(decoder, method)(make(stream))
    assert [bytes(payload) for payload in payloads] == [b"ninebytes"]
    assert decoder.buffered_size == len(stream) - 11


def test_a_numpy_array_can_be_fed(core: ModuleType) -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is optional")
    assert core.Decoder("u8").feed(numpy.frombuffer(b"\3one\3two", dtype=numpy.uint8)) == [b"one", b"two"]


@pytest.mark.parametrize("method", ["feed", "feed_spans"])
def test_what_is_fed_is_not_kept(core: ModuleType, method: str) -> None:
    chunk = bytearray(b"\3one\3tw")
    decoder = core.Decoder("u8")
    result = getattr(decoder, method)(chunk)
    chunk[:] = b"????????????"  # can grow: nobody holds it
    assert [bytes(payload) for payload in result] == [b"one"]
    assert decoder.feed(b"o") == [b"two"]


@pytest.mark.parametrize("method", ["feed", "feed_spans"])
@pytest.mark.parametrize("chunk", ["text", 5, None, [1, 2], 1.5, object()], ids=repr)
def test_what_is_not_bytes_is_a_type_error(core: ModuleType, method: str, chunk: Any) -> None:
    decoder = core.Decoder("u8")
    decoder.feed(b"\3on")
    with pytest.raises(TypeError):
        getattr(decoder, method)(chunk)
    assert decoder.error is None
    assert decoder.feed(b"e") == [b"one"]


@pytest.mark.parametrize("method", ["feed", "feed_spans"])
def test_a_buffer_with_gaps_is_a_buffer_error(core: ModuleType, method: str) -> None:
    decoder = core.Decoder("u8")
    with pytest.raises(BufferError):
        getattr(decoder, method)(memoryview(b"abcdef")[::2])
    assert decoder.feed(b"\1x") == [b"x"]


def test_a_chunk_is_positional_and_there_is_one(core: ModuleType) -> None:
    decoder = core.Decoder("u8")
    for call in (
        lambda: decoder.feed(),
        lambda: decoder.feed(b"", b""),
        lambda: decoder.feed(chunk=b""),
        lambda: decoder.feed_spans(chunk=b""),
        lambda: decoder.buffer_updated(n=0),
        lambda: decoder.feed_eof(1),
    ):
        with pytest.raises(TypeError):
            call()
    assert len(decoder.get_buffer(hint=5)) == 5


# The lent window.


def test_a_window_is_writable_bytes(core: ModuleType) -> None:
    decoder = core.Decoder("u8")
    window = decoder.get_buffer()
    assert (window.readonly, window.format, window.ndim, window.itemsize) == (False, "B", 1, 1)
    assert len(window) >= 64 * KIB


@pytest.mark.parametrize("hint", [0, 1, 2, 100, 64 * KIB, 10**9, -1, -100])
def test_a_window_is_never_empty_and_no_longer_than_its_hint(core: ModuleType, hint: int) -> None:
    decoder = core.Decoder("u32be")
    for _ in range(2):
        window = decoder.get_buffer(hint)
        assert len(window) > 0
        if hint > 0:
            assert len(window) <= hint
        decoder.feed(announce(LengthField(4), MIB) + b"x")  # the second is over the payload itself


def test_a_window_over_a_payload_ends_with_it(core: ModuleType) -> None:
    decoder = core.Decoder("u32be")
    decoder.feed(announce(LengthField(4), 100_000))
    received = 0
    while received < 100_000:
        window = decoder.get_buffer(10**6)
        assert len(window) <= 100_000 - received == decoder.needed_size
        window[:] = b"x" * len(window)
        received += len(window)
        payloads = decoder.buffer_updated(len(window))
    assert payloads == [b"x" * 100_000]


@pytest.mark.parametrize("begun", [b"", announce(LengthField(4), MIB)], ids=["between frames", "over a payload"])
def test_a_wrong_count_leaves_the_window_lent(core: ModuleType, begun: bytes) -> None:
    decoder = core.Decoder("u32be")
    decoder.feed(begun)
    window = decoder.get_buffer(10)
    for n in (-1, len(window) + 1, 2**31, 2**63, 2**64, -(2**70)):
        with pytest.raises(ValueError, match=f"n={n} bytes"):
            decoder.buffer_updated(n)
    for wrong in ("1", 1.0, None, b"1"):
        with pytest.raises(TypeError):
            decoder.buffer_updated(wrong)
    window[:3] = b"\0\0\0"
    assert decoder.buffer_updated(3) == []
    assert decoder.buffered_size == 3 + len(begun)


def test_nothing_received_is_no_harm(core: ModuleType) -> None:
    decoder = core.Decoder("u8")
    decoder.get_buffer()
    assert decoder.buffer_updated(0) == []
    assert decoder.buffered_size == 0


def test_a_window_is_for_one_time(core: ModuleType) -> None:
    decoder = core.Decoder("u8")
    with pytest.raises(RuntimeError, match="get_buffer"):
        decoder.buffer_updated(0)
    window = decoder.get_buffer()
    decoder.buffer_updated(0)
    with pytest.raises(RuntimeError, match="get_buffer"):
        decoder.buffer_updated(0)
    with pytest.raises(ValueError, match="released"):
        window[0] = 1


@pytest.mark.parametrize("call", ["feed", "feed_spans"])
def test_feeding_takes_the_window_back(core: ModuleType, call: str) -> None:
    decoder = core.Decoder("u8")
    window = decoder.get_buffer()
    getattr(decoder, call)(b"\3on")
    with pytest.raises(RuntimeError, match="get_buffer"):
        decoder.buffer_updated(1)
    with pytest.raises(ValueError, match="released"):
        window[0] = 1


def test_a_window_asked_for_again_replaces_the_first(core: ModuleType) -> None:
    decoder = core.Decoder("u8")
    first = decoder.get_buffer()
    second = decoder.get_buffer()
    with pytest.raises(ValueError, match="released"):
        first[0] = 1
    second[:2] = b"\1x"
    assert decoder.buffer_updated(2) == [b"x"]


# Spans.


def test_spans_are_a_sequence_of_views(core: ModuleType) -> None:
    chunk = b"\3one\0\3two\5three\4cu"
    spans = core.Decoder("u8").feed_spans(chunk)
    assert type(spans) is core.Spans
    assert len(spans) == 4
    assert spans.tolist() == [b"one", b"", b"two", b"three"]
    assert [bytes(span) for span in spans] == spans.tolist()
    assert [bytes(spans[i]) for i in range(-4, 4)] == 2 * spans.tolist()
    assert [spans[1:][i] for i in range(3)] == [b"", b"two", b"three"]
    assert spans[::-1].tolist() == [b"three", b"two", b"", b"one"]
    assert spans[1:3].tolist() == [b"", b"two"]
    assert spans[5:].tolist() == []
    assert spans[0].readonly
    assert spans[0].obj is chunk
    assert list(spans.offsets) == [1, 5, 6, 10]
    assert list(spans.lengths) == [3, 0, 3, 5]
    assert bytes(spans.data) == chunk
    assert repr(spans) == "<Spans of 4 payloads, 11 bytes>"


@pytest.mark.parametrize("key", [4, -5, 2**70, -(2**70)])
def test_a_span_out_of_range_is_an_index_error(core: ModuleType, key: int) -> None:
    spans = core.Decoder("u8").feed_spans(b"\1a\1b\1c\1d")
    with pytest.raises(IndexError):
        spans[key]


@pytest.mark.parametrize("key", ["0", None, 1.0])
def test_a_span_is_found_by_its_index_alone(core: ModuleType, key: Any) -> None:
    spans = core.Decoder("u8").feed_spans(b"\1a")
    with pytest.raises(TypeError):
        spans[key]


def test_spans_are_made_by_a_decoder_only(core: ModuleType) -> None:
    with pytest.raises(TypeError, match="feed_spans"):
        core.Spans()


def test_no_spans_are_still_spans(core: ModuleType) -> None:
    spans = core.Decoder("u8").feed_spans(b"\3on")
    assert (len(spans), spans.tolist(), list(spans)) == (0, [], [])
    assert not spans
    assert len(spans.offsets) == len(spans.lengths) == 0
    with pytest.raises(IndexError):
        spans[0]


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize(
    "spec", [LengthField(2), LengthField(2, strip=0), Netstring(), Delimited(b"\r\n"), FixedSize(7)]
)
def test_a_payload_from_an_earlier_chunk_stands_first(core: ModuleType, spec: Spec, joined: bool) -> None:
    payloads = [b"seven b", b"ytes is", b"a word."]
    stream = b"".join(frame(spec, payload) for payload in payloads)
    expected = core.Decoder(spec).feed(stream)
    for chunks in two_way_splits(stream):
        decoder = core.Decoder(spec)
        first = decoder.feed(chunks[0])
        spans = decoder.feed_spans(chunks[1])
        if joined:
            assert len(spans.data) >= sum(spans.lengths)
        rest = expected[len(first) :]
        assert len(spans) == len(rest)
        assert spans.tolist() == rest
        assert [bytes(spans[i]) for i in range(len(rest))] == rest
        assert [bytes(span) for span in spans] == rest
        assert [bytes(spans[i - len(rest)]) for i in range(len(rest))] == rest
        assert spans[::2].tolist() == rest[::2]
        located = zip(spans.offsets, spans.lengths, strict=True)
        assert [bytes(spans.data[start : start + size]) for start, size in located] == rest
        assert f"{len(rest)} payloads, {sum(map(len, rest))} bytes" in repr(spans)


def test_offsets_and_lengths_are_read_only_numbers_of_64_bits(core: ModuleType) -> None:
    spans = core.Decoder("u8").feed_spans(b"\1a\1b")
    for view in (spans.offsets, spans.lengths):
        assert (view.format, view.itemsize, view.readonly, view.ndim) == ("q", 8, True, 1)
    assert spans.data.readonly


def test_numpy_takes_offsets_and_lengths_without_a_copy(core: ModuleType) -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is optional")
    spans = core.Decoder("u8").feed_spans(b"\3one\5three")
    offsets, lengths, data = (numpy.asarray(view) for view in (spans.offsets, spans.lengths, spans.data))
    assert not offsets.flags.owndata
    assert offsets.dtype == lengths.dtype == numpy.int64
    assert data[offsets[1] : offsets[1] + lengths[1]].tobytes() == b"three"


def test_views_outlive_spans_and_decoder(core: ModuleType) -> None:
    decoder = core.Decoder("u8")
    spans = decoder.feed_spans(bytearray(b"\3one\5three"))
    views = [spans[1], spans.data, spans.offsets, spans.lengths]
    del spans, decoder
    gc.collect()
    assert [bytes(views[0]), bytes(views[1]), list(views[2]), list(views[3])] == [
        b"three",
        b"\3one\5three",
        [1, 5],
        [3, 5],
    ]


# The end of the stream.


@good
def test_the_end_between_frames_is_clean(core: ModuleType, vector: Good) -> None:
    for way, give in WAYS.items():
        for count in range(len(vector.frames) + 1):
            decoder = core.Decoder(vector.spec)
            outcome = run(decoder, vector.frames[:count], give, eof=True)
            assert outcome == Outcome(vector.payloads[:count], None, 0), (way, count)
            assert decoder.feed_eof() == []
            with pytest.raises(RuntimeError, match="ended"):
                decoder.feed(b"more")
            with pytest.raises(RuntimeError, match="ended"):
                decoder.get_buffer()
            assert decoder.error is None


def cut_short(vector: Good, cut: int) -> IncompleteFrame | None:
    """What the end after `cut` bytes must be."""
    begin = index = 0
    while cut >= begin + len(vector.frames[index]):
        begin += len(vector.frames[index])
        index += 1
    one, header = vector.frames[index], vector.headers[index]
    received = cut - begin
    if not received:
        return None
    head = one[: min(received, 16)]
    if isinstance(vector.spec, Delimited):
        return IncompleteFrame("payload", received, None, begin, head)
    if received >= header:
        if getattr(vector.spec, "strip", None) is not None:
            head = one[: min(header, 16)]
        return IncompleteFrame("payload", received, len(one) - received, begin, head)
    missing: int | None = header - received
    if isinstance(vector.spec, (Varint, Netstring)):
        missing = None
    elif isinstance(vector.spec, MultiprocessingPipe) and received < 4:
        missing = 4 - received
    return IncompleteFrame("header", received, missing, begin, head)


@certain
def test_an_end_inside_a_frame_says_where_and_how_much_is_missing(core: ModuleType, vector: Good) -> None:
    for way, give in WAYS.items():
        for cut in range(len(vector.stream)):
            decoder = core.Decoder(vector.spec)
            outcome = run(decoder, [vector.stream[:cut]], give, eof=True)
            expected = cut_short(vector, cut)
            assert outcome.error == fields(expected), (way, cut)
            if expected is not None:
                assert decoder.error.head == expected.head
                assert str(decoder.error) == str(expected)
                assert isinstance(decoder.error, EOFError)


def test_the_end_decides_where_one_delimiter_begins_another(core: ModuleType) -> None:
    decoder = core.Decoder(Delimited(b"\r", b"\r\n"))
    assert decoder.feed(b"one\rtwo\r") == [b"one"]
    assert decoder.feed_eof() == [b"two"]
    assert decoder.error is None
    assert decoder.feed_eof() == []


def test_payloads_that_the_end_completes_come_before_the_error(core: ModuleType) -> None:
    decoder = core.Decoder(Delimited(b"\r", b"\r\n\r\n"))
    assert decoder.feed(b"one\r\n\r") == []
    assert decoder.feed_eof() == [b"one", b"\n"]
    decoder.reset()
    assert decoder.feed(b"one\r\n") == []
    assert decoder.feed_eof() == [b"one"]
    assert isinstance(decoder.error, IncompleteFrame)
    assert (decoder.error.offset, decoder.error.received) == (4, 1)
    with pytest.raises(IncompleteFrame):
        decoder.feed_eof()


def test_a_bad_stream_stays_bad_at_its_end(core: ModuleType) -> None:
    decoder = core.Decoder("u8", max_size=1)
    assert decoder.feed(b"\1a\2") == [b"a"]
    with pytest.raises(FrameTooLarge) as raised:
        decoder.feed_eof()
    assert raised.value is decoder.error


# Law 4: memory follows the bytes received.


@needs_sizes
@pytest.mark.parametrize("give", [by_feed, by_windows()], ids=["feed", "window"])
@pytest.mark.parametrize(
    "spec", [LengthField(4), Ascii(10), Varint(), Netstring(), Delimited(b"\n")], ids=lambda s: s.name
)
def test_memory_is_given_back_after_a_large_frame(core: ModuleType, spec: Spec, give: Any) -> None:
    decoder = core.Decoder(spec)
    base = size_of(decoder)
    stream = frame(spec, b"x" * 4 * MIB)
    assert not give(decoder, stream[: 3 * MIB])
    assert size_of(decoder) >= base + 3 * MIB
    assert give(decoder, stream[3 * MIB :]) == [b"x" * 4 * MIB]
    decoder.get_buffer()
    decoder.buffer_updated(0)
    assert size_of(decoder) == base


@needs_sizes
@pytest.mark.parametrize("end", ["reset", "error", "eof"])
def test_memory_is_given_back_when_the_stream_is_over(core: ModuleType, end: str) -> None:
    decoder = core.Decoder(Netstring())
    base = size_of(decoder)
    decoder.feed(b"1000000:" + b"x" * 999_999)
    assert size_of(decoder) >= base + 999_999
    if end == "reset":
        decoder.reset()
    elif end == "error":
        with pytest.raises(HeaderError):
            decoder.feed(b"x;")
    else:
        with pytest.raises(IncompleteFrame):
            decoder.feed_eof()
    assert size_of(decoder) == base


@needs_sizes
@pytest.mark.parametrize("chunk_size", [100, 4096, 50_000, 200_000])
@pytest.mark.parametrize(
    "spec", [LengthField(4), Netstring(), Delimited(b"\n"), LengthField(4, strip=0)], ids=lambda s: s.name
)
def test_no_more_is_reserved_than_twice_what_has_come(core: ModuleType, spec: Spec, chunk_size: int) -> None:
    decoder = core.Decoder(spec)
    base = size_of(decoder)
    received = 0
    for chunk in split(frame(spec, b"x" * MIB)[:-2], chunk_size):
        decoder.feed(chunk)
        received += len(chunk)
        assert decoder.buffered_size == received
        reserved = size_of(decoder) - base - len(announce(spec, MIB))
        assert reserved <= max(64 * KIB, 2 * received)


@needs_sizes
@pytest.mark.parametrize("hint", [4, 1000, -1])
def test_no_more_is_reserved_for_a_window_either(core: ModuleType, hint: int) -> None:
    """Of one frame: the window between frames is the decoder's own."""
    decoder = core.Decoder("u32be")
    base = size_of(decoder)
    window = decoder.get_buffer(4)
    window[:] = announce(LengthField(4), 16 * MIB)
    decoder.buffer_updated(4)
    received = 0
    for _ in range(5):
        window = decoder.get_buffer(hint)
        assert size_of(decoder) - base - 4 <= max(64 * KIB, 2 * received)
        window[:] = b"x" * len(window)
        received += len(window)
        decoder.buffer_updated(len(window))


# Law 5: copies are counted.


def moved(decoder: Any) -> int:
    """The bytes that the decoder has copied, apart from cutting a payload out of a chunk where it stands whole."""
    if not hasattr(decoder, "_moved"):
        pytest.skip("a release build of the compiled core does not count its copies")
    return decoder._moved


COUNTED = [LengthField(4), Ascii(10), Varint(), Netstring(), Delimited(b"\n"), Delimited(b"\r\n", b"\n")]


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 100, 64 * KIB])
@pytest.mark.parametrize("payload_size", [0, 1, 32, 1000])
@pytest.mark.parametrize("spec", COUNTED, ids=lambda spec: spec.name)
@pytest.mark.parametrize("give", [by_feed, by_windows()], ids=["feed", "window"])
def test_a_byte_of_small_payloads_is_moved_at_most_twice(
    core: ModuleType, spec: Spec, chunk_size: int, payload_size: int, give: Any
) -> None:
    count = 4000 // (payload_size + 10)
    decoder = core.Decoder(spec)
    stream = count * frame(spec, b"x" * payload_size)
    payloads = run(decoder, split(stream, chunk_size), give).payloads
    assert len(payloads) == count
    # Where no header tells the size, the memory for a payload may be moved once as it grows.
    assert moved(decoder) <= (3 if isinstance(spec, Delimited) else 2) * len(stream)


@pytest.mark.parametrize("chunk_size", [777, 64 * KIB, MIB // 2, 10 * MIB])
@pytest.mark.parametrize("spec", [*COUNTED, LengthField(4, strip=0), FixedSize(MIB)], ids=lambda spec: spec.name)
@pytest.mark.parametrize("give", [by_feed, by_windows()], ids=["feed", "window"])
def test_the_bytes_moved_grow_with_the_size_and_not_faster(
    core: ModuleType, spec: Spec, chunk_size: int, give: Any
) -> None:
    """Once to their place, once as the memory there grows, and 64 KiB through the first window."""
    for payload_size in (128 * KIB + 1, 256 * KIB, 256 * KIB + 1, MIB, MIB + 1):  # the worst are just behind a doubling
        if isinstance(spec, FixedSize) and payload_size != spec.size:
            continue
        decoder = core.Decoder(spec)
        stream = frame(spec, b"x" * payload_size)
        assert len(run(decoder, split(stream, chunk_size), give).payloads) == 1
        assert moved(decoder) <= (3 if isinstance(spec, Delimited) else 2) * len(stream) + 64 * KIB


@pytest.mark.parametrize("strip", [None, 0, 65_535])
@pytest.mark.parametrize("give", [by_feed, by_windows()], ids=["feed", "window"])
def test_the_bytes_of_a_long_header_are_not_moved_for_every_byte_that_comes(
    core: ModuleType, strip: int | None, give: Any
) -> None:
    spec = LengthField(4, offset=65_535, strip=strip)
    stream = frame(spec, b"hello")
    decoder = core.Decoder(spec)
    assert run(decoder, split(stream, 5), give).payloads == [stream[65_539 if strip is None else strip :]]
    assert moved(decoder) <= 4 * len(stream)


def test_a_large_payload_received_through_the_window_lands_where_it_stays(core: ModuleType) -> None:
    """Apart from the header's window, bytes move only when the memory for them grows."""
    decoder = core.Decoder("u32be")
    payload_size = 4 * MIB
    window = decoder.get_buffer(4)
    window[:] = announce(LengthField(4), payload_size)
    payloads = decoder.buffer_updated(4)
    grown = 0
    for received in range(0, payload_size, 64 * KIB):
        before = moved(decoder)
        window = decoder.get_buffer(64 * KIB)
        window[:] = b"x" * (64 * KIB)
        payloads = decoder.buffer_updated(64 * KIB)
        if moved(decoder) > before:
            assert moved(decoder) - before <= received
            grown += moved(decoder) - before
    assert payloads == [b"x" * payload_size]
    assert grown <= payload_size


@pytest.mark.parametrize(
    "spec",
    [Delimited(b"\n"), Delimited(b"\r\n"), Delimited(b"\n", b"\r\n"), Delimited(b"a", b"aab"), Delimited(b"x" * 200)],
    ids=lambda spec: spec.name[:20],
)
def test_the_search_for_a_delimiter_never_starts_over(spec: Delimited, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the pure core, where it can be counted."""
    from framewire import _core_py, _wire

    searched = 0
    find = _wire.DelimitedFormat.find

    def counting(self: Any, data: bytes, start: int, end: int, final: bool = False) -> tuple[int, int]:
        nonlocal searched
        at, size = find(self, data, start, end, final)
        searched += at + size - start
        return at, size

    monkeypatch.setattr(_wire.DelimitedFormat, "find", counting)
    longest = max(map(len, spec.delimiters))
    for chunk_size in (1, 7, 1000):
        decoder = _core_py.Decoder(spec)
        stream = b"xxxab" * 2000
        searched = 0
        for chunk in split(stream, chunk_size):
            decoder.feed(chunk)
        chunk_count = len(stream) // chunk_size
        assert searched <= len(stream) + 2 * longest * chunk_count


# The encoder.

WRITABLE = [vector for vector in GOOD if getattr(vector.spec, "strip", None) is None]


@pytest.mark.parametrize("vector", WRITABLE, ids=ids(WRITABLE))
def test_an_encoder_writes_exactly_these_bytes(core: ModuleType, vector: Good) -> None:
    try:
        encoder = core.Encoder(vector.spec)
    except ValueError:
        assert isinstance(vector.spec, Delimited)
        return
    expected = [frame(vector.spec, payload) for payload in vector.payloads]
    assert [encoder.encode(payload) for payload in vector.payloads] == expected
    assert encoder.encode_many(vector.payloads) == b"".join(expected)
    assert [b"".join(encoder.encode_parts(payload)) for payload in vector.payloads] == expected
    room = bytearray(sum(map(len, expected)))
    at = 0
    for payload in vector.payloads:
        at += encoder.encode_into(payload, room, at)
    assert room == b"".join(expected)


@pytest.mark.parametrize("message", ["", "hello", "é", "Welcome to the server!", "x" * 1000])
def test_ascii10_is_the_header_of_the_sockets_tutorial(core: ModuleType, message: str) -> None:
    msg = message.encode()
    assert core.Encoder("ascii10").encode(msg) == bytes(f"{len(msg):<10}", "utf-8") + msg


def test_varint_is_the_prefix_of_protobufs_delimited_streams(core: ModuleType) -> None:
    # The number in protobuf's documentation of its encoding: 150 is 96 01; and in that of LEB128: 624485 is E5 8E 26.
    for size, header in [(1, "01"), (127, "7f"), (128, "8001"), (150, "9601"), (300, "ac02"), (624_485, "e58e26")]:
        payload = bytes(size)
        assert core.Encoder("varint").encode_parts(payload) == (bytes.fromhex(header), payload)
        assert core.Decoder("varint").feed(bytes.fromhex(header) + payload) == [payload]


@pytest.mark.parametrize(
    ("spec", "size", "limit"),
    [
        (Ascii(1), 10, 9),
        (Ascii(2, "0"), 100, 99),
        (LengthField(1), 256, 255),
        (LengthField(2), 65_536, 65_535),
        (LengthField(1, adjust=-1), 255, 254),
        (LengthField(1, adjust=5), 261, 260),
        (LengthField(1, adjust=-255), 1, 0),
    ],
    ids=repr,
)
def test_a_payload_over_what_the_field_can_hold_is_refused(core: ModuleType, spec: Spec, size: int, limit: int) -> None:
    for max_size in (None, 10**6):
        encoder = core.Encoder(spec, max_size=max_size)
        encoder.encode(bytes(limit))
        for write in (
            encoder.encode,
            encoder.encode_parts,
            lambda payload, encoder=encoder: encoder.encode_many([b"x" * limit, payload]),
            lambda payload, encoder=encoder: encoder.encode_into(payload, bytearray(10**6)),
        ):
            with pytest.raises(FrameTooLarge) as raised:
                write(bytes(size))
            assert (raised.value.size, raised.value.limit, raised.value.offset) == (size, limit, None)


def test_a_payload_shorter_than_adjust_is_refused(core: ModuleType) -> None:
    encoder = core.Encoder(LengthField(2, adjust=3))
    assert encoder.encode(b"abc") == b"\0\0abc"
    with pytest.raises(ValueError, match="adjust=3"):
        encoder.encode(b"ab")


@pytest.mark.parametrize("size", [0, 3, 5])
def test_a_payload_of_another_size_than_the_fixed_one_is_refused(core: ModuleType, size: int) -> None:
    with pytest.raises(ValueError, match=f"4 bytes, not {size}"):
        core.Encoder(FixedSize(4)).encode(bytes(size))


@pytest.mark.parametrize(
    ("spec", "payload"),
    [
        (Delimited(b"\n"), b"a\nb"),
        (Delimited(b"\n"), b"\n"),
        (Delimited(b"\r\n"), b"a\r\n"),
        (Delimited(b"\r\n", b"\n"), b"a\nb"),
        (Delimited(b"aa"), b"a"),  # "a" + "aa" would be cut after the second a
        (Delimited(b"ab", b"b"), b"a" * 3 + b"b"),
        (Delimited(b"bab"), b"xba"),  # "xba" + "bab" is cut after "xbab"
        (Delimited(b"\n", keep=True), b"a"),
        (Delimited(b"\n", keep=True), b""),
        (Delimited(b"\n", keep=True), b"a\nb\n"),
        (Delimited(b"\r", b"\r\n", keep=True), b"a\r"),
    ],
    ids=repr,
)
def test_a_payload_that_would_be_cut_elsewhere_is_refused(core: ModuleType, spec: Delimited, payload: bytes) -> None:
    encoder = core.Encoder(spec)
    for write in (
        encoder.encode,
        encoder.encode_parts,
        lambda payload: encoder.encode_many([payload]),
        lambda payload: encoder.encode_into(payload, bytearray(100)),
    ):
        with pytest.raises(ValueError, match="delimiter"):
            write(payload)


@given(delimited(writable=True), st.data())
def test_an_encoder_refuses_exactly_what_would_be_cut_elsewhere(
    core: ModuleType, spec: Delimited, data: st.DataObject
) -> None:
    payload = data.draw(payloads_of(spec))
    stream = payload + trailer(spec)
    # Whatever comes behind: the worst is what could go on with a longer delimiter.
    others = [d[i:] for d in spec.delimiters for i in range(len(d) + 1)]
    carried = all(naive(stream + other, spec)[0][:1] == [payload] for other in others) and naive(stream, spec)[1] == 0
    encoder = core.Encoder(spec)
    if carried:
        assert encoder.encode(payload) == stream
    else:
        with pytest.raises(ValueError, match="delimiter"):
            encoder.encode(payload)


@pytest.mark.parametrize(
    "spec",
    [LengthField(2, strip=0), LengthField(2, strip=1), LengthField(2, strip=3), Delimited(b"\r", b"\r\n")],
    ids=repr,
)
def test_a_format_that_cannot_be_written_has_no_encoder(core: ModuleType, spec: Spec) -> None:
    core.Decoder(spec)
    with pytest.raises(ValueError, match="cannot be written"):
        core.Encoder(spec)


@pytest.mark.parametrize("make", BUFFERS.values(), ids=BUFFERS)
def test_a_payload_is_any_contiguous_buffer(core: ModuleType, make: Any) -> None:
    """The length counts bytes, whatever the items are."""
    encoder = core.Encoder("u16be")
    payload = make(b"ninebytes" + b"\0" * 3)
    size = memoryview(payload).nbytes
    expected = announce(LengthField(2), size) + memoryview(payload).tobytes()
    assert encoder.encode(payload) == expected
    assert encoder.encode_many([payload, b"", payload]) == expected + b"\0\0" + expected
    header, body = encoder.encode_parts(payload)
    assert header == announce(LengthField(2), size)
    assert body is payload
    room = bytearray(size + 2)
    assert encoder.encode_into(payload, room) == size + 2
    assert room == expected


@pytest.mark.parametrize("spec", [LengthField(2), FixedSize(3), Delimited(b"\n")], ids=lambda spec: spec.name)
@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ("abc", TypeError),
        (3, TypeError),
        (None, TypeError),
        ([1], TypeError),
        (memoryview(b"aabbcc")[::2], BufferError),
    ],
    ids=repr,
)
def test_a_payload_that_is_not_bytes_is_refused(
    core: ModuleType, spec: Spec, payload: Any, error: type[Exception]
) -> None:
    encoder = core.Encoder(spec)
    for write in (
        encoder.encode,
        encoder.encode_parts,
        lambda payload: encoder.encode_many([b"abc", payload]),
        lambda payload: encoder.encode_into(payload, bytearray(10)),
    ):
        with pytest.raises(error):
            write(payload)


def test_many_payloads_come_from_any_iterable(core: ModuleType) -> None:
    encoder = core.Encoder("u8")
    expected = b"\1a\2bb\0"
    payloads = [b"a", b"bb", b""]
    for iterable in (
        payloads,
        tuple(payloads),
        iter(payloads),
        (payload for payload in payloads),
        dict.fromkeys(payloads),
    ):
        assert encoder.encode_many(iterable) == expected
    assert encoder.encode_many([]) == b""
    for wrong in (5, None, b"abc", "abc"):
        with pytest.raises(TypeError):
            encoder.encode_many(wrong)


def test_a_buffer_that_changes_while_others_are_drawn_is_taken_as_it_was(core: ModuleType) -> None:
    reused = bytearray(3)

    def payloads() -> Any:
        for word in (b"one", b"two", b"six"):
            reused[:] = word
            yield reused

    assert core.Encoder("u8").encode_many(payloads()) == b"\3one\3two\3six"


def test_an_error_of_the_iterable_passes_through(core: ModuleType) -> None:
    def payloads() -> Any:
        yield b"one"
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        core.Encoder("u8").encode_many(payloads())


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("u8", (b"\5", b"hello")),
        ("fixed:5", (b"hello",)),
        ("netstring", (b"5:", b"hello", b",")),
        ("lines", (b"hello", b"\n")),
    ],
)
def test_parts_leave_out_what_is_empty(core: ModuleType, spec: str, parts: tuple[bytes, ...]) -> None:
    payload = b"hello"
    made = core.Encoder(spec).encode_parts(payload)
    assert type(made) is tuple
    assert made == parts
    assert any(part is payload for part in made)


def test_an_empty_payload_is_still_a_part(core: ModuleType) -> None:
    assert core.Encoder("u8").encode_parts(b"") == (b"\0", b"")
    assert core.Encoder("lines").encode_parts(b"") == (b"", b"\n")


def test_encoding_in_place_moves_a_payload_within_its_own_buffer(core: ModuleType) -> None:
    for begin in range(20):
        room = bytearray(40)
        room[begin : begin + 5] = b"hello"
        assert core.Encoder("ascii10").encode_into(memoryview(room)[begin : begin + 5], room, 3) == 15
        assert room[3:18] == b"5         hello"


def test_encode_into_touches_only_its_frame(core: ModuleType) -> None:
    for spec in ("ascii10", "u32le", "varint", "netstring", "lines", "fixed:5", "multiprocessing"):
        expected = frame(core.Encoder(spec).spec, b"hello")
        room = bytearray(b"?" * 40)
        assert core.Encoder(spec).encode_into(b"hello", room, offset=7) == len(expected)
        assert room == b"?" * 7 + expected + b"?" * (33 - len(expected))


@pytest.mark.parametrize("offset", [-1, 8, 40, 2**40, 2**70, -(2**70)])
def test_encode_into_refuses_what_does_not_fit_and_writes_nothing(core: ModuleType, offset: int) -> None:
    room = bytearray(b"?" * 13)
    with pytest.raises(ValueError, match=f"offset={offset} "):
        core.Encoder("u8").encode_into(b"hello", room, offset)
    assert room == b"?" * 13
    assert core.Encoder("u8").encode_into(b"hello", room, 7) == 6


def test_encode_into_needs_a_writable_contiguous_buffer(core: ModuleType) -> None:
    encoder = core.Encoder("u8")
    for room in (bytes(10), memoryview(bytes(10)), memoryview(bytearray(20))[::2]):
        with pytest.raises(BufferError):
            encoder.encode_into(b"x", room)
    for wrong in ("text", None, 5):
        with pytest.raises(TypeError):
            encoder.encode_into(b"x", wrong)
    numbers = array("i", [0] * 4)
    assert encoder.encode_into(b"x", numbers) == 2
    assert numbers.tobytes()[:2] == b"\1x"


def test_an_encoder_is_pickled_and_copied(core: ModuleType) -> None:
    encoder = core.Encoder("u16be", max_size=50)
    for twin in (pickle.loads(pickle.dumps(encoder)), copy.copy(encoder), copy.deepcopy(encoder)):
        assert type(twin) is core.Encoder
        assert (twin.spec, twin.max_size) == (LengthField(2), 50)
        assert twin.encode(b"x") == b"\0\1x"
    assert repr(encoder).startswith("Encoder(LengthField(width=2")


# Other people's ends of the wire.


def test_multiprocessing_reads_what_we_write_and_we_read_what_it_writes(core: ModuleType) -> None:
    ours, theirs = Pipe()
    messages = [b"x", b"hello", b"y" * 20_000]  # within what a pipe holds
    with ours, theirs:
        for message in messages:
            os.write(ours.fileno(), core.Encoder("multiprocessing").encode(message))
            assert theirs.recv_bytes() == message
            theirs.send_bytes(message)
        theirs.send_bytes(b"")
        theirs.close()
        decoder, payloads = core.Decoder("multiprocessing"), []
        while chunk := os.read(ours.fileno(), 1000):
            payloads += decoder.feed(chunk)
    assert payloads == [*messages, b""]
    assert decoder.feed_eof() == []
