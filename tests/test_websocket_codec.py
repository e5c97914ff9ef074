"""The WebSocket codec: what it reads and writes is what RFC 6455 and RFC 7692 say, however it is cut."""

from __future__ import annotations

import copy
import dataclasses
import gc
import os
import pickle
import weakref
import zlib
from array import array
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, product
from types import ModuleType
from typing import Any

import pytest
from harness import by_feed, by_windows, fields, needs_sizes, size_of, split, two_way_splits
from websocket_vectors import (
    ALONE,
    BAD,
    BINARY,
    CLOSE,
    DEFLATE,
    FIN,
    GOOD,
    HELLO,
    KEY,
    MORE,
    PING,
    POEM,
    ROLES,
    RSV1,
    TEXT,
    WAYS,
    Bad,
    Good,
    Outcome,
    announce,
    codec_of,
    frame,
    hexed,
    joined,
    naive_mask,
    peer,
    run,
    with_roles,
)

from framewire import FrameTooLarge, FramingError, HeaderError, IncompleteFrame
from framewire._websocket_py import Close, Deflate, Part, Ping, Pong
from framewire.errors import PayloadError

KIB = 1024
MIB = 1024 * KIB

good = pytest.mark.parametrize(("vector", "role"), list(with_roles(GOOD)))
bad = pytest.mark.parametrize(("vector", "role"), list(with_roles(BAD)))
by_role = pytest.mark.parametrize("role", ROLES)
by_two_ways = pytest.mark.parametrize("give", [by_feed, by_windows()], ids=["feed", "window"])


@pytest.fixture
def codec(core: ModuleType) -> ModuleType:
    """The module of one core: MessageDecoder, MessageEncoder, mask."""
    return codec_of(core)


# The examples of the standards.

RFC_6455 = [
    ("client", "81 05 48 65 6c 6c 6f", "Hello"),
    ("server", "81 85 37 fa 21 3d 7f 9f 4d 51 58", "Hello"),
    ("client", "01 03 48 65 6c 80 02 6c 6f", "Hello"),
    ("client", "89 05 48 65 6c 6c 6f", Ping(b"Hello")),
    ("server", "8a 85 37 fa 21 3d 7f 9f 4d 51 58", Pong(b"Hello")),
    ("client", "82 7e 01 00" + "aa" * 256, b"\xaa" * 256),
    ("client", "82 7f 00 00 00 00 00 01 00 00" + "aa" * 65_536, b"\xaa" * 65_536),
]


@pytest.mark.parametrize(("role", "stream", "message"), RFC_6455, ids=[example[1][:26] for example in RFC_6455])
def test_the_examples_of_rfc_6455(codec: ModuleType, role: str, stream: str, message: Any) -> None:
    data = hexed(stream)
    assert codec.MessageDecoder(role).feed(data) == [message]
    writer = codec.MessageEncoder(peer(role), mask_key=(lambda: KEY) if role == "server" else None)
    if isinstance(message, Ping):
        assert writer.ping(message.payload) == data
    elif isinstance(message, Pong):
        assert writer.pong(message.payload) == data
    elif data[0] == TEXT:
        assert writer.encode_part("Hel") + writer.encode_part("lo", final=True) == data
    else:
        assert writer.encode(message) == data
        assert b"".join(writer.encode_parts(message)) == data
        assert writer.encode_many([message, message]) == 2 * data
        assert writer.encode_part(message, final=True) == data


RFC_7692 = [
    ("c1 07 f2 48 cd c9 c9 07 00", 1),
    ("41 03 f2 48 cd 80 04 c9 c9 07 00", 1),
    ("c1 07 f2 48 cd c9 c9 07 00 c1 05 f2 00 11 00 00", 2),
    ("c1 0b 00 05 00 fa ff 48 65 6c 6c 6f 00", 1),
    ("c1 08 f3 48 cd c9 c9 07 00 00", 1),
    ("c1 0d f2 48 05 00 00 00 ff ff ca c9 c9 07 00", 1),
]


@pytest.mark.parametrize(("stream", "count"), RFC_7692)
def test_the_examples_of_rfc_7692(codec: ModuleType, stream: str, count: int) -> None:
    for chunks in (*two_way_splits(hexed(stream)), split(hexed(stream), 1)):
        decoder = codec.MessageDecoder("client", deflate=DEFLATE)
        assert run(decoder, chunks, eof=True) == Outcome(["Hello"] * count, None, 0, False)


# Chunking never matters.


@good
def test_a_stream_in_one_piece_gives_its_messages(codec: ModuleType, vector: Good, role: str) -> None:
    decoder = codec.MessageDecoder(role, **vector.options)
    messages = decoder.feed(vector.stream(role))
    assert messages == vector.messages
    assert [type(one) for one in messages] == [type(one) for one in vector.messages]
    assert decoder.feed_eof() == []
    assert decoder.error is None
    assert decoder.closed == isinstance(messages[-1], Close)


@good
def test_every_split_in_two_gives_the_same(codec: ModuleType, vector: Good, role: str) -> None:
    stream = vector.stream(role)
    for way, give in WAYS.items():
        for chunks in two_way_splits(stream):
            outcome = run(codec.MessageDecoder(role, **vector.options), chunks, give, eof=True)
            assert outcome[:3] == (vector.messages, None, 0), (way, chunks)


@good
def test_small_chunks_and_windows_give_the_same(codec: ModuleType, vector: Good, role: str) -> None:
    stream = vector.stream(role)
    for (way, give), size in product(WAYS.items(), (1, 2, 3, 5, 7)):
        outcome = run(codec.MessageDecoder(role, **vector.options), split(stream, size), give, eof=True)
        assert outcome[:3] == (vector.messages, None, 0), (way, size)
    for hint in range(1, min(len(stream), 40) + 2):
        outcome = run(codec.MessageDecoder(role, **vector.options), [stream], by_windows(hint))
        assert outcome[:3] == (vector.messages, None, 0), hint


@good
def test_a_cut_stream_ends_alike_for_every_split(codec: ModuleType, vector: Good, role: str) -> None:
    stream = vector.stream(role)
    for cut in {*range(0, len(stream), max(len(stream) // 7, 1)), len(stream) - 1}:
        whole = run(codec.MessageDecoder(role, **vector.options), [stream[:cut]], eof=True)
        for give in WAYS.values():
            for chunks in ([stream[: cut // 2], stream[cut // 2 : cut]], split(stream[:cut], 1)):
                assert run(codec.MessageDecoder(role, **vector.options), chunks, give, eof=True) == whole, (cut, chunks)


@good
def test_parts_come_to_the_same_messages(codec: ModuleType, vector: Good, role: str) -> None:
    stream = vector.stream(role)
    for give in WAYS.values():
        for chunks in (*two_way_splits(stream), split(stream, 1), split(stream, 3)):
            outcome = run(codec.MessageDecoder(role, parts=True, **vector.options), chunks, give, eof=True)
            messages = joined(outcome.messages)
            if vector.name == "a close inside of a message":
                messages = messages[:1]  # the part before it stands last
            assert (messages, outcome.error) == (vector.messages, None), chunks


# What is wrong.


@bad
def test_a_bad_stream_fails_in_its_frame_after_what_stands_before(codec: ModuleType, vector: Bad, role: str) -> None:
    before, rest = vector.parts(role)
    decoder = codec.MessageDecoder(role, **vector.options)
    outcome = run(decoder, [before + rest + b"and more"])
    assert outcome.messages == vector.messages
    error = decoder.error
    assert type(error) is vector.error
    assert (error.size, error.limit) == vector.what if vector.error is FrameTooLarge else error.reason == vector.what
    assert error.offset == len(before)
    assert (rest + b"and more").startswith(error.head)
    assert 0 < len(error.head) <= 16
    assert outcome[2:] == (0, False)


@bad
def test_a_bad_stream_fails_at_the_very_byte(codec: ModuleType, vector: Bad, role: str) -> None:
    stream, shown = b"".join(vector.parts(role)), vector.shown(role)
    expected = run(codec.MessageDecoder(role, **vector.options), [stream])
    for give in WAYS.values():
        decoder = codec.MessageDecoder(role, **vector.options)
        messages: list[Any] = []
        for fed, chunk in enumerate(split(stream[:shown], 1)):
            assert decoder.error is None, fed
            with suppress(FramingError):
                messages += give(decoder, chunk)
        assert (messages, fields(decoder.error)) == expected[:2]
    for size in range(shown):
        decoder = codec.MessageDecoder(role, **vector.options)
        assert run(decoder, [stream[:size]]).error is None, size
    assert run(codec.MessageDecoder(role, **vector.options), [stream[:shown]]) == expected


@bad
def test_every_split_in_two_fails_alike(codec: ModuleType, vector: Bad, role: str) -> None:
    stream = b"".join(vector.parts(role))
    whole = codec.MessageDecoder(role, **vector.options)
    expected = run(whole, [stream])
    for give in WAYS.values():
        for chunks in two_way_splits(stream):
            decoder = codec.MessageDecoder(role, **vector.options)
            assert run(decoder, chunks, give) == expected, chunks
            assert whole.error.head.startswith(decoder.error.head)
    for hint in range(1, min(len(stream), 20)):
        assert run(codec.MessageDecoder(role, **vector.options), [stream], by_windows(hint)) == expected, hint


@bad
def test_parts_fail_alike(codec: ModuleType, vector: Bad, role: str) -> None:
    stream = b"".join(vector.parts(role))
    expected = run(codec.MessageDecoder(role, **vector.options), [stream])
    for chunks in ([stream], split(stream, 1), split(stream, 2)):
        outcome = run(codec.MessageDecoder(role, parts=True, **vector.options), chunks)
        assert outcome.error == expected.error
        assert [one for one in joined(outcome.messages) if not isinstance(one, list)] == vector.messages


@bad
def test_an_error_waits_for_its_turn_and_stays(codec: ModuleType, vector: Bad, role: str) -> None:
    stream = b"".join(vector.parts(role))
    decoder = codec.MessageDecoder(role, **vector.options)
    if vector.messages:
        assert decoder.feed(stream) == vector.messages
    with pytest.raises(vector.error) as first:
        decoder.feed(stream)
    with pytest.raises(vector.error) as second:
        decoder.get_buffer()
    with pytest.raises(vector.error) as third:
        decoder.feed_eof()
    assert first.value is second.value is third.value is decoder.error


@bad
def test_reset_begins_a_clean_stream_after_an_error(codec: ModuleType, vector: Bad, role: str) -> None:
    stream = b"".join(vector.parts(role))
    decoder, fresh = (codec.MessageDecoder(role, **vector.options) for _ in range(2))
    run(decoder, [stream])
    decoder.reset()
    assert (decoder.error, decoder.buffered_size, decoder.needed_size) == (None, 0, fresh.needed_size)
    assert run(decoder, split(stream, 2)) == run(fresh, [stream])


@by_role
def test_a_frame_with_the_wrong_masking_is_refused_at_its_second_byte(codec: ModuleType, role: str) -> None:
    for first, second in product((FIN | TEXT, BINARY, FIN | PING), (0, 5, 125)):
        masked = 0x80 if role == "client" else 0
        decoder = codec.MessageDecoder(role)
        assert decoder.feed(bytes([first])) == []
        with pytest.raises(HeaderError) as raised:
            decoder.feed(bytes([masked | second]))
        assert raised.value.reason == f"a frame {'with' if masked else 'without'} a mask from a {peer(role)}"
        assert (raised.value.offset, raised.value.head) == (0, bytes([first, masked | second]))


def test_every_first_byte_is_accepted_or_refused_by_the_table(codec: ModuleType) -> None:
    for first, opened, deflate in product(range(256), (False, True), (None, DEFLATE)):
        decoder = codec.MessageDecoder("client", deflate=deflate)
        if opened:
            decoder.feed(b"\1\1x")
        opcode, control = first & 15, bool(first & 8)
        fine = opcode in (0, 1, 2, 8, 9, 10)
        fine = fine and (first & FIN or not control)
        fine = fine and (control or (opcode == 0) == opened)
        fine = fine and (not first & 0x70 or (first & 0x70 == RSV1 and deflate is not None and opcode in (1, 2)))
        with suppress(HeaderError):
            decoder.feed(bytes([first]))
        assert (decoder.error is None) == bool(fine), (first, opened, deflate)


@by_role
def test_lengths_in_more_bytes_than_they_need_can_be_allowed(codec: ModuleType, role: str) -> None:
    for give, (size, width) in product(WAYS.values(), [(0, 2), (125, 2), (0, 8), (125, 8), (126, 8), (65_535, 8)]):
        decoder = codec.MessageDecoder(role, long_lengths=True)
        stream = frame(role, FIN | BINARY, b"x" * size, width=width)
        assert run(decoder, [stream[:5], stream[5:]], give, eof=True).messages == [b"x" * size]
        assert decoder.feed_eof() == []
    decoder = codec.MessageDecoder(role, long_lengths=True)
    with pytest.raises(FrameTooLarge) as raised:
        decoder.feed(announce(role, FIN | BINARY, 2**64 - 1))
    assert (raised.value.size, raised.value.limit) == (2**64 - 1, 16 * MIB)
    decoder = codec.MessageDecoder(role, long_lengths=True)
    with pytest.raises(HeaderError, match="control frame of more"):
        decoder.feed(announce(role, FIN | PING, 5, width=2))


# Limits.


@by_role
@pytest.mark.parametrize("limit", [0, 1, 125, 126, 300, 65_535, 65_536])
def test_the_limit_itself_passes_and_one_more_does_not(codec: ModuleType, role: str, limit: int) -> None:
    for options in ({"max_size": limit}, {"max_frame_size": limit}, {"max_size": None, "max_frame_size": limit}):
        decoder = codec.MessageDecoder(role, **options)
        for size in {0, max(limit - 1, 0), limit}:
            assert decoder.feed(frame(role, FIN | BINARY, b"x" * size)) == [b"x" * size]
        with pytest.raises(FrameTooLarge) as raised:
            decoder.feed(announce(role, FIN | TEXT, limit + 1))
        assert (raised.value.size, raised.value.limit) == (limit + 1, limit)


@by_role
def test_the_limit_of_a_message_counts_all_its_fragments(codec: ModuleType, role: str) -> None:
    for sizes in ([50, 50], [0, 100, 0], [1] * 100):
        decoder = codec.MessageDecoder(role, max_size=100)
        pieces = [frame(role, BINARY if i == 0 else MORE, b"x" * size) for i, size in enumerate(sizes)]
        assert decoder.feed(b"".join(pieces)) == []
        assert decoder.feed(frame(role, FIN | PING, b"y" * 125)) == [Ping(b"y" * 125)]  # which no limit counts
        with pytest.raises(FrameTooLarge) as raised:
            decoder.feed(announce(role, FIN, 1))
        assert (raised.value.size, raised.value.limit) == (101, 100)
        decoder.reset()
        assert decoder.feed(b"".join(pieces) + frame(role, FIN)) == [b"x" * 100]
        assert decoder.feed(frame(role, FIN | BINARY, b"z" * 100)) == [b"z" * 100]  # each message by itself


def test_the_limit_of_a_frame_is_not_that_of_a_message(codec: ModuleType) -> None:
    decoder = codec.MessageDecoder("client", max_size=100, max_frame_size=10)
    assert decoder.feed(frame("client", BINARY, b"x" * 10) + frame("client", FIN, b"y" * 10)) == [b"x" * 10 + b"y" * 10]
    with pytest.raises(FrameTooLarge) as raised:
        decoder.feed(announce("client", FIN | TEXT, 11))
    assert (raised.value.size, raised.value.limit) == (11, 10)
    assert (decoder.max_size, decoder.max_frame_size) == (100, 10)


@by_role
@pytest.mark.parametrize("parts", [False, True])
def test_the_limit_holds_for_what_is_decompressed(codec: ModuleType, role: str, parts: bool) -> None:
    for size, whole in product((99, 100, 101, 5000), (True, False)):
        writer = codec.MessageEncoder(peer(role), deflate=DEFLATE)
        if whole:
            stream = writer.encode(b"x" * size)
        else:
            stream = writer.encode_part(b"x" * (size - 7)) + writer.encode_part(b"x" * 7, final=True)
        decoder = codec.MessageDecoder(role, deflate=DEFLATE, max_size=100, parts=parts)
        outcome = run(decoder, split(stream, 3))
        if size <= 100:
            assert (joined(outcome.messages), outcome.error) == ([b"x" * size], None)
        else:
            assert isinstance(decoder.error, FrameTooLarge)
            assert (decoder.error.size, decoder.error.limit) == (101, 100)


def test_a_decoder_without_a_limit_must_be_asked_for(codec: ModuleType) -> None:
    assert codec.MessageDecoder("client").max_size == 16 * MIB
    decoder = codec.MessageDecoder("client", max_size=None)
    assert decoder.max_size is None
    assert decoder.feed(announce("client", FIN | BINARY, 2**62)) == []
    assert decoder.needed_size == 2**62


# Text.


def is_a_beginning_of_utf8(data: bytes) -> bool:
    """Whether more bytes could make it UTF-8: tried with every rest that there can be."""
    rests = [b"", *(bytes(rest) for size in (1, 2, 3) for rest in product((0x80, 0x90, 0xA0, 0xBF), repeat=size))]
    for rest in rests:
        with suppress(UnicodeDecodeError):
            (data + rest).decode()
            return True
    return False


EDGES = [0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF]
LEADS = [*EDGES, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF8, 0xFC, 0xFE, 0xFF]


def odd_texts() -> Iterator[bytes]:
    yield from (bytes([one]) for one in range(256))
    yield from (bytes(two) for two in product(LEADS, EDGES))
    yield from (bytes(three) for three in product(LEADS[13:], EDGES[3:10], EDGES[2:10]))
    yield from (bytes(four) for four in product(LEADS[19:24], EDGES[3:9], EDGES[3:10:3], EDGES[1:10:2]))


@pytest.mark.parametrize("parts", [False, True])
def test_text_fails_at_the_first_byte_that_no_utf8_has_there(codec: ModuleType, parts: bool) -> None:
    beginnings: dict[bytes, bool] = {}
    for text in odd_texts():
        shows = None  # how many bytes it takes to see it
        for size in range(1, len(text) + 1):
            begun = text[:size]
            if begun not in beginnings:
                beginnings[begun] = is_a_beginning_of_utf8(begun)
            if not beginnings[begun]:
                shows = size
                break
        else:
            with suppress(UnicodeDecodeError):
                text.decode()
                shows = 99
        stream = frame("client", FIN | TEXT, text)
        decoder = codec.MessageDecoder("client", parts=parts)
        for fed, chunk in enumerate(split(stream, 1), 1):
            with suppress(PayloadError):
                decoder.feed(chunk)
            wrong = fed - 2 >= shows if shows is not None else fed == len(stream)
            assert (decoder.error is not None) == wrong, (text, fed)
        whole = codec.MessageDecoder("client", parts=parts)
        with suppress(PayloadError):
            whole.feed(stream)
        assert fields(whole.error) == fields(decoder.error)
        if whole.error is not None:
            with pytest.raises(UnicodeDecodeError) as raised:
                text.decode()
            assert whole.error.reason == f"the text is not UTF-8 at byte {raised.value.start}"


def test_text_in_fragments_fails_as_the_whole(codec: ModuleType) -> None:
    for text in ("aé€😀z".encode(), b"ok \xe2\x82 no", b"\xed\xa0\x80", b"0123456789abcdef\xf4\x90"):
        whole = codec.MessageDecoder("client")
        expected = run(whole, [frame("client", FIN | TEXT, text)])
        for left, middle in product(range(len(text) + 1), (b"", b"x")):
            between = frame("client", FIN | PING, b"") if middle else b""
            stream = frame("client", TEXT, text[:left]) + between + frame("client", FIN, text[left:])
            for size in (1, 3, 100):
                decoder = codec.MessageDecoder("client")
                outcome = run(decoder, split(stream, size))
                assert [one for one in outcome.messages if one != Ping()] == expected.messages
                assert getattr(decoder.error, "reason", None) == getattr(whole.error, "reason", None)


@by_two_ways
def test_long_text_is_checked_wherever_the_wrong_byte_stands(codec: ModuleType, give: Any) -> None:
    """Around the width of the widest loops, and over 64 KiB, where the window is direct."""
    for size, at in product((40, 300, 70_000), (0, 1, 15, 16, 17, 31, 32, 33, 38, -1)):
        text = bytearray(b"a" * size)
        text[at] = 0xFF
        for role in ROLES:
            decoder = codec.MessageDecoder(role)
            stream = frame(role, FIN | TEXT, bytes(text))
            run(decoder, [stream[:20], stream[20:]], give)
            assert decoder.error.reason == f"the text is not UTF-8 at byte {at % size}"


@by_role
@by_two_ways
def test_long_text_that_is_not_ascii_comes_out_whole(codec: ModuleType, role: str, give: Any) -> None:
    for unit in ("a", "é", "€", "😀", POEM):
        for size in (1, 5, 16, 17, 100, 1000, 70_000):
            text = (unit * size)[:size]
            stream = frame(role, FIN | TEXT, text.encode())
            for chunk_size in (len(stream), 50_001):
                assert run(codec.MessageDecoder(role), split(stream, chunk_size), give).messages == [text]


# Fragments, parts, control frames.


@by_role
def test_controls_stand_where_they_came(codec: ModuleType, role: str) -> None:
    pieces = [frame(role, BINARY, b"0")]
    for i in range(1, 20):
        pieces += [frame(role, FIN | PING, b"%d" % i), frame(role, MORE, b"%d" % i)]
    pieces.append(frame(role, FIN, b"."))
    expected = [*(Ping(b"%d" % i) for i in range(1, 20)), b"".join(b"%d" % i for i in range(20)) + b"."]
    for size in (1, 10, 1000):
        assert run(codec.MessageDecoder(role), split(b"".join(pieces), size)).messages == expected


@by_role
def test_parts_come_as_the_bytes_come(codec: ModuleType, role: str) -> None:
    decoder = codec.MessageDecoder(role, parts=True)
    stream = frame(role, BINARY, b"abc") + frame(role, FIN | PING) + frame(role, FIN, b"de")
    header = 6 if role == "server" else 2
    assert decoder.feed(stream[: header + 2]) == [Part(b"ab", False)]
    assert decoder.feed(b"") == []
    assert decoder.feed(stream[header + 2 : header + 3]) == [Part(b"c", False)]
    assert decoder.feed(stream[header + 3 : -1]) == [Ping(), Part(b"d", False)]
    assert decoder.feed(stream[-1:]) == [Part(b"e", True)]
    assert decoder.feed(frame(role, FIN | TEXT)) == [Part("", True)]
    assert decoder.feed(frame(role, TEXT) + frame(role, MORE) + frame(role, FIN)) == [Part("", True)]


def test_parts_of_text_end_between_characters(codec: ModuleType) -> None:
    text = "aé€😀" * 3
    decoder = codec.MessageDecoder("client", parts=True)
    parts = list(chain.from_iterable(decoder.feed(one) for one in split(frame("client", FIN | TEXT, text.encode()), 1)))
    assert [part.data for part in parts] == list(text)
    assert [part.final for part in parts] == [False] * 11 + [True]


@by_role
def test_the_limit_holds_for_parts(codec: ModuleType, role: str) -> None:
    decoder = codec.MessageDecoder(role, parts=True, max_size=5)
    assert decoder.feed(frame(role, BINARY, b"abc")) == [Part(b"abc", False)]
    with pytest.raises(FrameTooLarge) as raised:
        decoder.feed(announce(role, FIN, 3))
    assert (raised.value.size, raised.value.limit) == (6, 5)


# The end.


@by_role
def test_what_follows_a_close_is_dropped(codec: ModuleType, role: str) -> None:
    close = frame(role, FIN | CLOSE, b"\x03\xe8bye")
    for give, rest in product(WAYS.values(), (b"", b"\xff\xff garbage", close, frame(role, FIN | TEXT, b"more"))):
        decoder = codec.MessageDecoder(role)
        assert not decoder.closed
        assert give(decoder, frame(role, TEXT, b"cut") + close + rest) == [Close(1000, "bye")]
        assert decoder.closed
        assert (decoder.buffered_size, decoder.needed_size, decoder.error) == (0, 0, None)
        assert give(decoder, rest) == give(decoder, b"x" * 100_000) == []
        assert (decoder.buffered_size, decoder.needed_size, decoder.error) == (0, 0, None)
        assert decoder.feed_eof() == decoder.feed_eof() == []
        decoder.reset()
        assert not decoder.closed
        assert give(decoder, frame(role, FIN | TEXT, b"new")) == ["new"]


def test_close_codes_are_those_that_may_stand_in_a_frame(codec: ModuleType) -> None:
    allowed = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}
    writer = codec.MessageEncoder("server")
    for code in {*range(990, 1120), 0, 2999, 3000, 3999, 4000, 4999, 5000, 65_535}:
        decoder = codec.MessageDecoder("client")
        stream = frame("client", FIN | CLOSE, code.to_bytes(2, "big") + b"why")
        if code in allowed:
            assert decoder.feed(stream) == [Close(code, "why")]
            assert writer.close(code, "why") == stream
        else:
            with pytest.raises(HeaderError, match=f"status code {code},"):
                decoder.feed(stream)
            if code != 1005:
                with pytest.raises(ValueError, match=f"code={code} "):
                    writer.close(code, "why")


@by_role
def test_an_end_between_messages_is_clean(codec: ModuleType, role: str) -> None:
    decoder = codec.MessageDecoder(role)
    assert decoder.needed_size == (6 if role == "server" else 2)
    decoder.feed(frame(role, FIN | TEXT, b"x") + frame(role, FIN | PING))
    assert decoder.feed_eof() == decoder.feed_eof() == []
    assert (decoder.error, decoder.needed_size) == (None, 0)
    for call in (lambda: decoder.feed(b""), decoder.get_buffer, lambda: decoder.buffer_updated(0)):
        with pytest.raises(RuntimeError, match="ended"):
            call()
    decoder.reset()
    assert decoder.feed(frame(role, FIN | TEXT, b"x")) == ["x"]


def ends(role: str, stream: bytes, options: dict[str, Any]) -> list[tuple[int, tuple[Any, ...]]]:
    """Where a stream of one message in two fragments may end, and what is to be said of it."""
    first, second = frame(role, BINARY, b"x" * 200), frame(role, FIN, b"yz")
    header, short = (8, 6) if role == "server" else (4, 2)
    return [
        (1, ("header", 1, short - 1, 0, first[:1])),
        (2, ("header", 2, header - 2, 0, first[:2])),
        (header - 1, ("header", header - 1, 1, 0, first[: header - 1])),
        (header, ("payload", header, 200, 0, first[:header])),
        (header + 7, ("payload", header + 7, 193, 0, first[:header])),
        (header + 200, ("message", 200, None, header + 200, b"")),
        (header + 201, ("header", 1, short - 1, header + 200, second[:1])),
        (header + 200 + short, ("payload", short, 2, header + 200, second[:short])),
        (header + 201 + short, ("payload", short + 1, 1, header + 200, second[:short])),
    ]


@by_role
@pytest.mark.parametrize("options", [{}, {"parts": True}], ids=["whole", "parts"])
def test_an_end_inside_a_message_says_where_and_how_much_is_missing(
    codec: ModuleType, role: str, options: dict[str, Any]
) -> None:
    stream = frame(role, BINARY, b"x" * 200) + frame(role, FIN, b"yz")
    for cut, expected in ends(role, stream, options):
        for give in WAYS.values():
            decoder = codec.MessageDecoder(role, **options)
            outcome = run(decoder, split(stream[:cut], 50), give, eof=True)
            error = decoder.error
            assert type(error) is IncompleteFrame
            assert (error.part, error.received, error.missing, error.offset, error.head) == expected
            assert (outcome.buffered_size, decoder.needed_size) == (0, 0)


# What a decoder tells about itself.


@good
def test_buffered_size_is_what_has_come_of_the_unfinished_frame(codec: ModuleType, vector: Good, role: str) -> None:
    starts = [0]
    for one in vector.made(role):
        starts.append(starts[-1] + len(one))
    decoder = codec.MessageDecoder(role, **vector.options)
    for i, chunk in enumerate(split(vector.stream(role), 1), 1):
        decoder.feed(chunk)
        assert decoder.buffered_size == i - max(start for start in starts if start <= i)


@good
def test_reading_what_is_needed_never_reads_past_a_frame(codec: ModuleType, vector: Good, role: str) -> None:
    decoder, messages = codec.MessageDecoder(role, **vector.options), []
    for one in vector.made(role):
        at = reads = 0
        while at < len(one):
            needed = decoder.needed_size
            assert 0 < needed <= len(one) - at
            messages += decoder.feed(one[at : at + needed])
            at += needed
            reads += 1
        assert reads <= 3
    assert messages == vector.messages


def test_a_decoder_shows_its_options(codec: ModuleType) -> None:
    decoder = codec.MessageDecoder("server", max_size=100, max_frame_size=50, deflate=DEFLATE)
    assert (decoder.role, decoder.max_size, decoder.max_frame_size, decoder.deflate) == ("server", 100, 50, DEFLATE)
    assert repr(decoder) == "MessageDecoder('server', max_size=100)"
    encoder = codec.MessageEncoder("client", max_size=None, deflate=ALONE)
    assert (encoder.role, encoder.max_size, encoder.deflate) == ("client", None, ALONE)
    assert repr(encoder) == "MessageEncoder('client', max_size=None)"
    for thing, names in (
        (decoder, ("role", "max_size", "max_frame_size", "deflate", "error", "closed", "buffered_size", "needed_size")),
        (encoder, ("role", "max_size", "deflate")),
    ):
        for name in (*names, "anything"):
            with pytest.raises(AttributeError):
                setattr(thing, name, None)


NO_SUCH = [
    ((), {}, TypeError),
    (("both",), {}, ValueError),
    ((None,), {}, ValueError),
    ((b"server",), {}, ValueError),
    (("server", 5), {}, TypeError),
    (("server",), {"max_size": -1}, ValueError),
    (("server",), {"max_size": 1.5}, TypeError),
    (("server",), {"max_size": True}, TypeError),
    (("server",), {"max_size": "5"}, TypeError),
    (("server",), {"deflate": True}, TypeError),
    (("server",), {"deflate": "permessage-deflate"}, TypeError),
    (("server",), {"anything": 1}, TypeError),
]


@pytest.mark.parametrize(("arguments", "options", "error"), NO_SUCH)
def test_an_impossible_configuration_dies_in_the_constructor(
    codec: ModuleType, arguments: Any, options: Any, error: type[Exception]
) -> None:
    for kind in (codec.MessageDecoder, codec.MessageEncoder):
        with pytest.raises(error):
            kind(*arguments, **options)


def test_an_impossible_option_of_one_kind_dies_in_the_constructor(codec: ModuleType) -> None:
    for max_frame_size, error in ((-1, ValueError), (1.5, TypeError), (True, TypeError), ("5", TypeError)):
        with pytest.raises(error, match="max_frame_size"):
            codec.MessageDecoder("server", max_frame_size=max_frame_size)
    for mask_key in (b"abcd", 5):
        with pytest.raises(TypeError, match="callable"):
            codec.MessageEncoder("client", mask_key=mask_key)
    with pytest.raises(ValueError, match="does not mask"):
        codec.MessageEncoder("server", mask_key=bytes)


@pytest.mark.parametrize("name", ["server_max_window_bits", "client_max_window_bits"])
def test_window_bits_are_8_to_15(name: str) -> None:
    for bits in range(8, 16):
        assert getattr(Deflate(**{name: bits}), name) == bits
    for wrong, error in ((7, ValueError), (16, ValueError), (-15, ValueError), ("9", TypeError), (9.5, TypeError)):
        with pytest.raises(error, match=name):
            Deflate(**{name: wrong})


def test_neither_is_pickled_or_copied(codec: ModuleType) -> None:
    for thing in (codec.MessageDecoder("server"), codec.MessageEncoder("client", deflate=DEFLATE)):
        for way in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot pickle"):
                way(thing)


@pytest.mark.parametrize("message", [Ping(b"x"), Pong(), Close(1000, "x"), Part("x", True), Part(b"x", False), DEFLATE])
def test_messages_and_parameters_are_values(message: Any) -> None:
    assert pickle.loads(pickle.dumps(message)) == message == copy.copy(message)
    assert hash(message) == hash(copy.copy(message))
    with pytest.raises(AttributeError):
        setattr(message, dataclasses.fields(message)[0].name, None)


@pytest.mark.parametrize("kind", ["MessageDecoder", "MessageEncoder"])
def test_it_can_be_referred_to_weakly_and_dies_at_once(codec: ModuleType, kind: str) -> None:
    thing = getattr(codec, kind)("server", deflate=DEFLATE)
    reference = weakref.ref(thing)
    assert reference() is thing
    del thing
    gc.collect()
    assert reference() is None


# What may be fed, and the window.


class Bytes(bytes):
    """Bytes with code of their own, none of which the codec may ask."""

    def __len__(self) -> int:
        raise AssertionError

    def __getitem__(self, key: Any) -> Any:
        raise AssertionError

    def __iter__(self) -> Any:
        raise AssertionError


class Str(str):
    """The same of text."""

    def __len__(self) -> int:
        raise AssertionError

    def encode(self, *arguments: Any) -> bytes:
        raise AssertionError


BUFFERS = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "a slice of a view": lambda data: memoryview(b"?" + data + b"?")[1:-1],
    "a view in two dimensions": lambda data: memoryview(data).cast("B", (2, len(data) // 2)),
    "array of ints": lambda data: array("i", data),
    "a subclass of bytes": Bytes,
}


@by_role
@pytest.mark.parametrize("make", BUFFERS.values(), ids=BUFFERS)
def test_any_contiguous_buffer_can_be_fed_and_sent(codec: ModuleType, make: Any, role: str) -> None:
    stream = frame(role, FIN | TEXT, b"text") + frame(role, FIN | BINARY, b"twelve bytes")
    stream += b"\x01" * (-len(stream) % 4 or 4)
    decoder = codec.MessageDecoder(role)
    assert decoder.feed(make(stream[: len(stream) // 4 * 4][:12])) is not None
    decoder.reset()
    assert decoder.feed(make(stream)) == ["text", b"twelve bytes"]
    encoder = codec.MessageEncoder(peer(role), mask_key=(lambda: KEY) if role == "server" else None)
    message, expected = make(b"twelve bytes"), frame(role, FIN | BINARY, b"twelve bytes")
    assert encoder.encode(message) == encoder.encode_part(message, final=True) == expected
    assert encoder.encode_many([message, message]) == 2 * expected
    assert b"".join(encoder.encode_parts(message)) == expected
    assert encoder.ping(message) == frame(role, FIN | PING, b"twelve bytes")
    assert codec.mask(message, KEY) == naive_mask(b"twelve bytes", KEY)


def test_what_is_fed_is_not_kept(codec: ModuleType) -> None:
    for role in ROLES:
        chunk = bytearray(frame(role, FIN | BINARY, b"one") + frame(role, FIN | BINARY, b"two"))
        kept = bytes(chunk[-2:])
        decoder = codec.MessageDecoder(role)
        del chunk[-2:]
        messages = decoder.feed(chunk)
        chunk[:] = b"?" * 100  # can grow: nobody holds it
        assert messages == [b"one"]
        assert decoder.feed(kept) == [b"two"]


@pytest.mark.parametrize("chunk", ["text", 5, None, [1, 2], 1.5, object()], ids=repr)
def test_what_is_not_bytes_is_a_type_error(codec: ModuleType, chunk: Any) -> None:
    decoder = codec.MessageDecoder("client")
    decoder.feed(b"\x81\3on")
    with pytest.raises(TypeError):
        decoder.feed(chunk)
    assert decoder.error is None
    assert decoder.feed(b"e") == ["one"]


def test_a_buffer_with_gaps_is_a_buffer_error(codec: ModuleType) -> None:
    decoder, encoder, gaps = codec.MessageDecoder("client"), codec.MessageEncoder("server"), memoryview(b"abcdef")[::2]
    for call in (
        decoder.feed,
        encoder.encode,
        encoder.encode_part,
        encoder.encode_parts,
        encoder.ping,
        lambda gaps: encoder.encode_many([b"x", gaps]),
        lambda gaps: codec.mask(gaps, KEY),
    ):
        with pytest.raises(BufferError):
            call(gaps)
    assert decoder.feed(b"\x81\1x") == ["x"]
    assert encoder.encode("x") == b"\x81\1x"


def test_arguments_are_positional_where_they_say_so(codec: ModuleType) -> None:
    decoder, encoder = codec.MessageDecoder("client"), codec.MessageEncoder("server")
    for call in (
        lambda: decoder.feed(),
        lambda: decoder.feed(b"", b""),
        lambda: decoder.feed(chunk=b""),
        lambda: decoder.buffer_updated(n=0),
        lambda: decoder.feed_eof(1),
        lambda: encoder.encode(message=b""),
        lambda: encoder.encode(b"", False),
        lambda: encoder.encode_part(b"", True),
        lambda: encoder.ping(payload=b""),
        lambda: encoder.close(code=1000),
    ):
        with pytest.raises(TypeError):
            call()
    assert len(decoder.get_buffer(hint=5)) == 5


@pytest.mark.parametrize("hint", [0, 1, 2, 100, 64 * KIB, 10**9, -1, -100])
def test_a_window_is_never_empty_and_no_longer_than_its_hint(codec: ModuleType, hint: int) -> None:
    decoder = codec.MessageDecoder("server")
    for _ in range(2):
        window = decoder.get_buffer(hint)
        assert (window.readonly, window.format, window.ndim) == (False, "B", 1)
        assert len(window) > 0
        if hint > 0:
            assert len(window) <= hint
        decoder.feed(announce("server", BINARY, MIB) + b"x")  # the second is over the payload itself


@pytest.mark.parametrize("first", [FIN | BINARY, FIN | TEXT, BINARY], ids=["binary", "text", "a fragment"])
@by_role
def test_a_window_over_a_payload_ends_with_its_frame(codec: ModuleType, role: str, first: int) -> None:
    decoder = codec.MessageDecoder(role)
    stream = frame(role, first, b"x" * 100_000)
    decoder.feed(stream[:-100_000])
    received = 0
    while received < 100_000:
        window = decoder.get_buffer(10**6)
        assert len(window) <= 100_000 - received == decoder.needed_size
        n = len(window)
        window[:] = stream[len(stream) - 100_000 + received :][:n]
        received += n
        messages = decoder.buffer_updated(n)
    if first == BINARY:
        messages = decoder.feed(frame(role, FIN, b""))
    assert messages == ["x" * 100_000 if first & 15 == TEXT else b"x" * 100_000]


@pytest.mark.parametrize("size", [70_000, 300_000])
@by_role
def test_large_messages_come_whole_by_every_way(codec: ModuleType, role: str, size: int) -> None:
    payload = (bytes(range(251)) * (size // 251 + 1))[:size]
    text = (POEM * size)[: size // 2]
    pieces = split(payload, size // 3)
    stream = frame(role, FIN | BINARY, payload) + frame(role, FIN | TEXT, text.encode())
    stream += frame(role, BINARY, pieces[0]) + frame(role, FIN | PING, b"?")
    stream += b"".join(frame(role, MORE, piece) for piece in pieces[1:]) + frame(role, FIN)
    expected = [payload, text, Ping(b"?"), payload]
    ways = (by_feed, by_windows(), by_windows(1000), by_windows(MIB))
    for give, chunk_size in product(ways, (10**7, 100_003, 20_011)):
        assert run(codec.MessageDecoder(role), split(stream, chunk_size), give, eof=True).messages == expected


@by_role
def test_a_window_may_be_released_by_its_user(codec: ModuleType, role: str) -> None:
    decoder = codec.MessageDecoder(role)
    with decoder.get_buffer() as window:
        stream = frame(role, FIN | TEXT, b"x")
        window[: len(stream)] = stream
    assert decoder.buffer_updated(len(stream)) == ["x"]
    for first in (FIN | TEXT, FIN | BINARY):
        stream = frame(role, first, b"y" * 70_000)
        messages = decoder.feed(stream[:20])
        at = 20
        while at < len(stream):
            with decoder.get_buffer() as window:
                n = len(window)
                window[:] = stream[at : at + n]
            messages += decoder.buffer_updated(n)
            at += n
        assert messages == ["y" * 70_000 if first & 15 == TEXT else b"y" * 70_000]


@pytest.mark.parametrize("begun", [b"", announce("client", BINARY, MIB)], ids=["between frames", "over a payload"])
def test_a_wrong_count_leaves_the_window_lent(codec: ModuleType, begun: bytes) -> None:
    decoder = codec.MessageDecoder("client")
    decoder.feed(begun)
    window = decoder.get_buffer(10)
    for n in (-1, len(window) + 1, 2**31, 2**63, 2**64, -(2**70)):
        with pytest.raises(ValueError, match=f"n={n} bytes"):
            decoder.buffer_updated(n)
    for wrong in ("1", 1.0, None, b"1"):
        with pytest.raises(TypeError):
            decoder.buffer_updated(wrong)
    window[:3] = b"\x81\x7e\1"
    assert decoder.buffer_updated(3) == []
    assert decoder.buffered_size == 3 + len(begun)


def test_a_window_is_for_one_time(codec: ModuleType) -> None:
    decoder = codec.MessageDecoder("client")
    with pytest.raises(RuntimeError, match="get_buffer"):
        decoder.buffer_updated(0)
    for end in (lambda: decoder.buffer_updated(0), lambda: decoder.feed(b""), decoder.get_buffer, decoder.reset):
        window = decoder.get_buffer()
        end()
        with pytest.raises(ValueError, match="released"):
            window[0] = 1
    with pytest.raises(RuntimeError, match="get_buffer"):
        decoder.buffer_updated(0)


# Memory, and copies.


@needs_sizes
@by_two_ways
@pytest.mark.parametrize("first", [FIN | BINARY, FIN | TEXT])
def test_memory_is_given_back_after_a_large_message(codec: ModuleType, give: Any, first: int) -> None:
    decoder = codec.MessageDecoder("server")
    base = size_of(decoder)
    stream = frame("server", first, b"x" * 4 * MIB)
    assert not give(decoder, stream[: 3 * MIB])
    assert size_of(decoder) >= base + 3 * MIB - 20
    assert len(give(decoder, stream[3 * MIB :])) == 1
    decoder.get_buffer()
    decoder.buffer_updated(0)
    assert size_of(decoder) == base


@needs_sizes
@pytest.mark.parametrize("end", ["reset", "error", "eof", "close"])
def test_memory_is_given_back_when_the_stream_is_over(codec: ModuleType, end: str) -> None:
    decoder = codec.MessageDecoder("client")
    base = size_of(decoder)
    decoder.feed(frame("client", BINARY, b"x" * MIB))
    assert size_of(decoder) >= base + MIB
    if end == "reset":
        decoder.reset()
    elif end == "error":
        with pytest.raises(HeaderError):
            decoder.feed(b"\x83")
    elif end == "close":
        assert decoder.feed(b"\x88\0") == [Close()]
    else:
        with pytest.raises(IncompleteFrame):
            decoder.feed_eof()
    assert size_of(decoder) == base


@needs_sizes
@pytest.mark.parametrize("chunk_size", [100, 4096, 50_000, 200_000])
@pytest.mark.parametrize("fragment_size", [300, 70_000, MIB])
def test_no_more_is_reserved_than_twice_what_has_come(codec: ModuleType, fragment_size: int, chunk_size: int) -> None:
    decoder = codec.MessageDecoder("server")
    base = size_of(decoder)
    pieces = split(b"x" * MIB, fragment_size)
    stream = b"".join(frame("server", MORE if i else BINARY, piece) for i, piece in enumerate(pieces))
    received = 0
    for chunk in split(stream, chunk_size):
        decoder.feed(chunk)
        received += len(chunk)
        assert size_of(decoder) - base <= max(64 * KIB, 2 * received) + 14
    assert decoder.feed(frame("server", FIN)) == [b"x" * MIB]


@needs_sizes
@pytest.mark.parametrize("hint", [4, 1000, -1])
def test_no_more_is_reserved_for_a_window_either(codec: ModuleType, hint: int) -> None:
    decoder = codec.MessageDecoder("client")
    base = size_of(decoder)
    decoder.feed(announce("client", FIN | BINARY, 16 * MIB))
    received = 0
    for _ in range(5):
        window = decoder.get_buffer(hint)
        assert size_of(decoder) - base - 14 <= max(64 * KIB, 2 * received)
        received += len(window)
        decoder.buffer_updated(len(window))


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 100, 64 * KIB])
@pytest.mark.parametrize("payload_size", [0, 1, 32, 1000])
@pytest.mark.parametrize("first", [FIN | BINARY, FIN | TEXT, FIN | PING])
@by_two_ways
def test_a_byte_of_small_messages_is_moved_at_most_three_times(
    codec: ModuleType, first: int, chunk_size: int, payload_size: int, give: Any
) -> None:
    """Through the scratch window, out of its mask, and to its place."""
    if first == FIN | PING and payload_size > 125:
        payload_size = 125
    count = 4000 // (payload_size + 10)
    decoder = codec.MessageDecoder("server")
    stream = count * frame("server", first, b"x" * payload_size)
    assert len(run(decoder, split(stream, chunk_size), give).messages) == count
    assert decoder._moved <= 3 * len(stream)


@pytest.mark.parametrize("chunk_size", [777, 64 * KIB, MIB // 2, 10 * MIB])
@pytest.mark.parametrize("way", ["one frame", "fragments", "parts"])
@by_two_ways
def test_the_bytes_moved_grow_with_the_size_and_not_faster(
    codec: ModuleType, chunk_size: int, way: str, give: Any
) -> None:
    for size in (128 * KIB + 1, 256 * KIB, 256 * KIB + 1, MIB, MIB + 1):  # the worst are just behind a doubling
        decoder = codec.MessageDecoder("server", parts=way == "parts")
        stream = frame("server", FIN | BINARY, b"x" * size)
        if way == "fragments":
            pieces = split(b"x" * size, 10_000)
            stream = b"".join(frame("server", MORE if i else BINARY, piece) for i, piece in enumerate(pieces))
            stream += frame("server", FIN)
        messages = joined(run(decoder, split(stream, chunk_size), give).messages)
        assert messages == [b"x" * size]
        # Through the scratch window, out of its mask, to its place, and once as the memory there grows.
        assert decoder._moved <= 4 * len(stream) + 128 * KIB


def test_the_first_window_over_a_fragment_is_large(codec: ModuleType) -> None:
    decoder = codec.MessageDecoder("client")
    decoder.feed(frame("client", BINARY, bytes(200_000))[:10])
    assert len(decoder.get_buffer()) == 65_536


def test_a_large_payload_received_through_the_window_lands_where_it_stays(codec: ModuleType) -> None:
    """Apart from the header's window, bytes move only when the memory for them grows."""
    for role in ROLES:
        decoder = codec.MessageDecoder(role)
        size = 4 * MIB
        decoder.feed(announce(role, FIN | BINARY, size))
        grown = 0
        while decoder.needed_size == size or decoder.buffered_size:
            before, received = decoder._moved, size - decoder.needed_size
            window = decoder.get_buffer(64 * KIB)
            n = len(window)
            window[:] = bytes(n)
            messages = decoder.buffer_updated(n)
            if decoder._moved > before:
                assert decoder._moved - before <= received
                grown += decoder._moved - before
        assert len(messages) == 1
        assert grown <= size


# Masks.


def test_a_mask_is_what_the_standard_says(codec: ModuleType) -> None:
    data = bytes(i * 7 + i // 256 & 255 for i in range(1200))
    for size in range(1101):
        offset = size * 5 % 7
        for start in (0, 1 + size % 15):  # and not aligned
            part = data[start : start + size]
            assert codec.mask(memoryview(data)[start : start + size], KEY, offset) == naive_mask(part, KEY, offset)


def test_a_mask_begins_anywhere(codec: ModuleType) -> None:
    for size, offset in product((0, 1, 3, 4, 5, 15, 16, 17, 255, 256, 257, 383, 1027), (*range(9), 2**31, 2**64 + 3)):
        data = os.urandom(size)
        assert codec.mask(data, KEY, offset) == naive_mask(data, KEY, offset % 4)
        assert codec.mask(codec.mask(data, KEY, offset), bytearray(KEY), offset) == data
    assert type(codec.mask(bytearray(b"x"), KEY)) is bytes


def test_a_decoder_unmasks_every_size_in_every_split(codec: ModuleType) -> None:
    for size in (*range(40), 127, 128, 255, 256, 257, 300):
        data = bytes(i * 13 & 255 for i in range(size))
        stream = frame("server", FIN | BINARY, data)
        for at in range(0, len(stream), 1 if size < 40 else 17):
            assert run(codec.MessageDecoder("server"), [stream[:at], stream[at:]]).messages == [data]


def test_a_mask_needs_four_bytes_and_a_place(codec: ModuleType) -> None:
    for key in (b"", b"abc", b"abcde", bytearray(3)):
        with pytest.raises(ValueError, match=f"4 bytes, not {len(key)}"):
            codec.mask(b"x", key)
    with pytest.raises(ValueError, match="-1"):
        codec.mask(b"x", KEY, -1)
    for arguments in (("x", KEY), (b"x", "abcd"), (b"x", KEY, 1.0), (b"x", KEY, "1"), (b"x",), (None, KEY), (b"x", 5)):
        with pytest.raises(TypeError):
            codec.mask(*arguments)
    assert codec.mask(data=b"x", key=KEY, offset=1) == bytes([ord("x") ^ KEY[1]])


# Compression.

MESSAGES = ["", "a", POEM * 5, b"", b"x" * 70_000, bytes(range(256)) * 3, POEM * 5, "", b"x" * 100, b"\0\0\xff\xff"]


@by_role
@pytest.mark.parametrize("alone", [False, True], ids=["context", "no context"])
@pytest.mark.parametrize("bits", [*range(8, 16)])
def test_what_is_compressed_comes_back(codec: ModuleType, role: str, alone: bool, bits: int) -> None:
    name = peer(role)
    deflate = Deflate(**{f"{name}_no_context_takeover": alone, f"{name}_max_window_bits": bits})
    encoder = codec.MessageEncoder(name, deflate=deflate)
    stream = b"".join(encoder.encode(message) for message in MESSAGES)
    stream += encoder.encode_many(MESSAGES) + encoder.encode("plain", compress=False)
    stream += encoder.encode_part("") + encoder.encode_part(POEM) + encoder.encode_part("", final=True)
    stream += encoder.encode_part(b"", final=True) + b"".join(encoder.encode_parts(b"last"))
    expected = [*MESSAGES, *MESSAGES, "plain", POEM, b"", b"last"]
    for size in (1, 1000, 10**7):
        assert run(codec.MessageDecoder(role, deflate=deflate), split(stream, size), eof=True).messages == expected
    parts = run(codec.MessageDecoder(role, deflate=deflate, parts=True), split(stream, 100))
    assert joined(parts.messages) == expected


@pytest.mark.parametrize("bits", [*range(8, 16)])
def test_zlib_reads_what_is_written_with_a_window_of_that_size(codec: ModuleType, bits: int) -> None:
    """At most 2 ** bits back, which a decoder of less memory than zlib's would rely on; 8 bits are not even tried."""
    encoder = codec.MessageEncoder("server", deflate=Deflate(server_max_window_bits=bits))
    reader = zlib.decompressobj(wbits=-max(bits, 9))
    unit = bytes(i * i * 31 >> 5 & 255 for i in range(2**bits + 300))
    for message in (unit + unit, b"", unit, b"x" * 1000):
        header, payload = encoder.encode_parts(message)
        assert header[0] == FIN | RSV1 | BINARY
        assert reader.decompress(payload + b"\0\0\xff\xff") == message
    if bits == 8:  # nothing is looked up, however near
        assert len(encoder.encode(b"abcdefgh" * 1000)) > 2000


def test_zlib_compresses_what_is_read(codec: ModuleType) -> None:
    writer = zlib.compressobj(wbits=-15)
    decoder = codec.MessageDecoder("client", deflate=DEFLATE)
    for message in (b"hello" * 100, b"hello" * 50, os.urandom(70_000), b"x" * 10**6):
        data = writer.compress(message) + writer.flush(zlib.Z_SYNC_FLUSH)
        assert decoder.feed(frame("client", FIN | RSV1 | BINARY, data[:-4])) == [message]


def test_a_message_of_final_blocks_is_read(codec: ModuleType) -> None:
    """RFC 7692, section 7.2.3.4: whoever cannot flush in another way."""
    decoder = codec.MessageDecoder("client", deflate=DEFLATE)
    for message in (b"hello", b"", b"hello again", bytes(100_000)):
        writer = zlib.compressobj(wbits=-15)
        data = writer.compress(message) + writer.flush(zlib.Z_FINISH)
        for end in (b"", b"\0"):
            assert decoder.feed(frame("client", FIN | RSV1 | BINARY, data + end)) == [message]
            stream = frame("client", RSV1 | BINARY, data) + frame("client", FIN, data + end)
            assert run(decoder, split(stream, 7)).messages == [message * 2]
    assert decoder.feed(frame("client", FIN | RSV1 | TEXT, HELLO)) == ["Hello"]


@pytest.mark.parametrize("alone", [DEFLATE, ALONE], ids=["context", "no context"])
def test_context_is_taken_over_or_not(codec: ModuleType, alone: Deflate) -> None:
    encoder = codec.MessageEncoder("server", deflate=alone)
    first, second = encoder.encode("Hello"), encoder.encode("Hello")
    assert first == b"\xc1\x07" + HELLO
    assert second == (b"\xc1\x05" + hexed("f2 00 11 00 00") if alone is DEFLATE else first)


def test_one_side_may_forget_and_the_other_not(codec: ModuleType) -> None:
    deflate = Deflate(client_no_context_takeover=True)
    for role, forgets in (("server", False), ("client", True)):
        encoder = codec.MessageEncoder(role, deflate=deflate)
        sizes = [len(encoder.encode(POEM * 10)) for _ in range(2)]
        assert (sizes[0] == sizes[1]) == forgets


@pytest.mark.parametrize("fragments", [[b""], [b"", b""], [b"", b"", b""]], ids=len)
def test_compressed_without_any_data_is_empty_and_harms_nothing(codec: ModuleType, fragments: list[bytes]) -> None:
    """Section 7.2.3.6 asks for one byte, but there is only one thing that it can mean."""
    writer = codec.MessageEncoder("server", deflate=DEFLATE)
    opcodes = [RSV1 | TEXT, *[0] * (len(fragments) - 1)]
    opcodes[-1] |= FIN
    stream = writer.encode("hello") + b"".join(map(frame, ["client"] * 3, opcodes, fragments)) + writer.encode("hello")
    decoder = codec.MessageDecoder("client", deflate=DEFLATE)
    assert decoder.feed(stream) == ["hello", "", "hello"]


def test_reset_forgets_what_was_compressed(codec: ModuleType) -> None:
    decoder = codec.MessageDecoder("client", deflate=DEFLATE)
    assert decoder.feed(b"\xc1\x07" + HELLO) == ["Hello"]
    decoder.reset()
    with pytest.raises(PayloadError):
        decoder.feed(b"\xc1\x05" + hexed("f2 00 11 00 00"))
    decoder.reset()
    assert decoder.feed(b"\xc1\x07" + HELLO + b"\xc1\x05" + hexed("f2 00 11 00 00")) == ["Hello"] * 2


# The encoder.


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 255, 256, 300, 65_535, 65_536, 70_000])
def test_an_encoder_writes_exactly_these_bytes(codec: ModuleType, role: str, size: int) -> None:
    reader = peer(role)
    encoder = codec.MessageEncoder(role, mask_key=(lambda: KEY) if role == "client" else None)
    data = bytes(i * 3 & 127 for i in range(size))
    wide = "é" * (size // 2) + "x" * (size % 2)
    for message, first, payload in (
        (data, BINARY, data),
        (bytearray(data), BINARY, data),
        (data.decode(), TEXT, data),
        (wide, TEXT, wide.encode()),
        (Str(wide), TEXT, wide.encode()),
    ):
        expected = frame(reader, FIN | first, payload)
        assert encoder.encode(message) == encoder.encode(message, compress=False) == expected
        assert encoder.encode_many(iter([message, message])) == 2 * expected
        header, rest = encoder.encode_parts(message)
        assert bytes(header) + bytes(rest) == expected
        if role == "server" and not isinstance(message, str):
            assert rest is message
        begun = encoder.encode_part(message) + encoder.encode_part(message)
        fragment = frame(reader, MORE, payload)
        assert begun == frame(reader, first, payload) + fragment
        assert encoder.encode_part(message, final=True) == frame(reader, FIN, payload)
    if size <= 125:
        assert (encoder.ping(data), encoder.pong(data)) == (frame(reader, FIN | 9, data), frame(reader, FIN | 10, data))
    assert encoder.encode_many([]) == b""


@pytest.mark.parametrize("role", ROLES)
def test_control_frames_are_written_and_limited(codec: ModuleType, role: str) -> None:
    encoder = codec.MessageEncoder(role, max_size=0, mask_key=(lambda: KEY) if role == "client" else None)
    reader = peer(role)
    assert encoder.ping() == frame(reader, FIN | 9)
    assert encoder.pong() == frame(reader, FIN | 10)
    assert encoder.close() == encoder.close(1005) == frame(reader, FIN | CLOSE)
    assert encoder.close(1000) == frame(reader, FIN | CLOSE, b"\x03\xe8")
    assert encoder.close(4999, "é" * 61) == frame(reader, FIN | CLOSE, b"\x13\x87" + "é".encode() * 61)
    for method, arguments, what in [
        ("ping", (b"x" * 126,), "126 bytes"),
        ("pong", (b"x" * 126,), "126 bytes"),
        ("close", (1000, "é" * 62), "124 bytes"),
        ("close", (1005, "why"), "without a code"),
    ]:
        with pytest.raises(ValueError, match=what):
            getattr(encoder, method)(*arguments)
    for method, arguments in [
        ("ping", ("text",)),
        ("pong", (None,)),
        ("close", ("1000",)),
        ("close", (1000.0,)),
        ("close", (None,)),
        ("close", (1000, b"why")),
        ("close", (1000, None)),
    ]:
        with pytest.raises(TypeError):
            getattr(encoder, method)(*arguments)
    with pytest.raises(UnicodeEncodeError):
        encoder.close(1000, "\ud800")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("deflate", [None, DEFLATE], ids=["plain", "deflate"])
def test_a_message_over_the_limit_is_refused_and_nothing_is_written(
    codec: ModuleType, role: str, deflate: Deflate | None
) -> None:
    encoder = codec.MessageEncoder(role, max_size=10, deflate=deflate)
    decoder = codec.MessageDecoder(peer(role), deflate=deflate)
    assert decoder.feed(encoder.encode(b"x" * 10) + encoder.encode("é" * 5)) == [b"x" * 10, "é" * 5]
    for message in (b"x" * 11, "x" * 11, "é" * 6, bytearray(11)):
        for write in (
            encoder.encode,
            encoder.encode_parts,
            encoder.encode_part,
            lambda message: encoder.encode(message, compress=False),
            lambda message: encoder.encode_many([b"fine", message]),
        ):
            with pytest.raises(FrameTooLarge) as raised:
                write(message)
            assert (raised.value.size, raised.value.limit, raised.value.offset) == (len(str(message).encode())
                if isinstance(message, str) else len(message), 10, None)  # fmt: skip
    assert decoder.feed(encoder.encode_part(b"12345") + encoder.encode_part(b"12345")) == []
    with pytest.raises(FrameTooLarge) as raised:
        encoder.encode_part(b"1", final=True)
    assert (raised.value.size, raised.value.limit) == (11, 10)
    assert decoder.feed(encoder.encode_part(b"", final=True)) == [b"1234512345"]
    assert decoder.feed(encoder.encode(b"x" * 10)) == [b"x" * 10]


@pytest.mark.parametrize("deflate", [None, DEFLATE], ids=["plain", "deflate"])
def test_a_message_in_parts_is_finished_before_another_begins(codec: ModuleType, deflate: Deflate | None) -> None:
    encoder = codec.MessageEncoder("server", deflate=deflate)
    decoder = codec.MessageDecoder("client", deflate=deflate)
    messages = decoder.feed(encoder.encode_part("one ") + encoder.ping(b"?") + encoder.encode_part("two"))
    for write in (
        encoder.encode,
        encoder.encode_parts,
        lambda message: encoder.encode(message, compress=False),
        lambda message: encoder.encode_many([message]),
        lambda message: encoder.encode_many([message], compress=False),
    ):
        with pytest.raises(RuntimeError, match="in parts"):
            write("other")
    with pytest.raises(TypeError, match="a binary message inside of a text one"):
        encoder.encode_part(b"three")
    messages += decoder.feed(encoder.encode_part("", final=True) + encoder.encode(b"other"))
    assert messages == [Ping(b"?"), "one two", b"other"]
    encoder.encode_part(b"")
    with pytest.raises(TypeError, match="a text message inside of a binary one"):
        encoder.encode_part("x")


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "é\udc80"])
def test_surrogates_cannot_be_sent(codec: ModuleType, text: str) -> None:
    for encoder in (codec.MessageEncoder("server"), codec.MessageEncoder("server", deflate=DEFLATE)):
        for method in ("encode", "encode_parts", "encode_part", "encode_many"):
            with pytest.raises(UnicodeEncodeError):
                getattr(encoder, method)([text] if method == "encode_many" else text)
        assert encoder.encode("x", compress=False) == b"\x81\1x"


@pytest.mark.parametrize("message", [5, None, [b"x"], 1.5, object()], ids=repr)
def test_what_is_no_message_is_a_type_error(codec: ModuleType, message: Any) -> None:
    encoder = codec.MessageEncoder("client")
    for write in (encoder.encode, encoder.encode_parts, encoder.encode_part, lambda one: encoder.encode_many([one])):
        with pytest.raises(TypeError):
            write(message)
    with pytest.raises(TypeError):
        encoder.encode_many(5)


def test_a_client_asks_for_a_key_for_each_frame(codec: ModuleType) -> None:
    keys = [b"%04d" % i for i in range(20)]
    drawn = iter(keys)
    for deflate in (None, ALONE):
        encoder = codec.MessageEncoder("client", mask_key=lambda: next(drawn), deflate=deflate)
        stream = encoder.encode("a") + encoder.encode_many(["b", b"c"]) + b"".join(encoder.encode_parts("d"))
        stream += encoder.ping() + encoder.pong(b"x") + encoder.encode_part("e") + encoder.encode_part("f", final=True)
        stream += encoder.encode("é", compress=False) + encoder.close()
        used = []
        while stream:
            used.append(stream[2:6])
            stream = stream[6 + (stream[1] & 127) :]
        assert used == (keys[10:] if deflate else keys[:10])


class Key(bytes):
    def __len__(self) -> int:
        return 4


@pytest.mark.parametrize("key", [b"", b"abc", b"abcde", "abcd", None, 5, bytearray(b"abcd"), Key(b"a")], ids=repr)
def test_a_key_that_is_none_is_refused(codec: ModuleType, key: Any) -> None:
    encoder = codec.MessageEncoder("client", mask_key=lambda: key)
    for write in (
        encoder.encode,
        encoder.encode_parts,
        encoder.encode_part,
        encoder.ping,
        encoder.pong,
        lambda message: encoder.encode_many([message]),
    ):
        with pytest.raises(ValueError, match="4 bytes"):
            write(b"x")
    with pytest.raises(ValueError, match="4 bytes"):
        encoder.close()


@pytest.mark.parametrize("deflate", [None, DEFLATE], ids=["plain", "deflate"])
def test_a_key_that_fails_leaves_no_trace(codec: ModuleType, deflate: Deflate | None) -> None:
    fails = False

    def key() -> bytes:
        if fails:
            raise LookupError("mine")
        return KEY

    encoder = codec.MessageEncoder("client", mask_key=key, deflate=deflate)
    decoder = codec.MessageDecoder("server", deflate=deflate)
    assert decoder.feed(encoder.encode("the first")) == ["the first"]
    lost = "never looked back to"
    for write in (
        encoder.encode,
        encoder.encode_parts,
        encoder.encode_part,
        lambda message: encoder.encode_many(["x", message]),
        lambda message: encoder.ping(),
    ):
        fails = True
        with pytest.raises(LookupError, match="mine"):
            write(lost)
        fails = False
        assert decoder.feed(encoder.encode(lost)) == [lost]
    assert decoder.feed(encoder.encode_part("a")) == []
    fails = True
    with pytest.raises(LookupError):
        encoder.encode_part("b", final=True)
    fails = False
    assert decoder.feed(encoder.encode_part("c", final=True)) == ["ac"]


def test_a_mask_key_that_is_false_is_still_asked(codec: ModuleType) -> None:
    class Keys:
        def __bool__(self) -> bool:
            return False

        def __call__(self) -> bytes:
            return KEY

    assert codec.MessageEncoder("client", mask_key=Keys()).encode("Hello") == frame("server", FIN | TEXT, b"Hello")


def keys_of(stream: bytes) -> list[bytes]:
    """The keys of short frames."""
    return [stream[at + 2 : at + 6] for at in range(0, len(stream), 7)]


def test_the_systems_keys_do_not_repeat(codec: ModuleType) -> None:
    stream = b""
    for _ in range(2):
        encoder = codec.MessageEncoder("client")
        stream += encoder.encode_many([b"x"] * 1000) + b"".join(encoder.encode("x") for _ in range(300))
        stream += encoder.ping(b"x") + encoder.encode_part("x", final=True)
    keys = keys_of(stream)
    assert len(keys) == 2604
    assert len(set(keys)) > 2600  # two of 2 ** 32 may be the same
    assert codec.MessageDecoder("server").feed(stream)[:2] == [b"x", b"x"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_does_not_use_its_parents_keys(codec: ModuleType) -> None:
    encoder = codec.MessageEncoder("client")
    encoder.encode_many([b"x"] * 3)
    encoder.ping(b"x")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, encoder.encode_many([b"x"] * 50) + encoder.ping(b"x") * 1)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        theirs = pipe.read()
    os.waitpid(child, 0)
    ours = encoder.encode_many([b"x"] * 50) + encoder.ping(b"x")
    assert len(keys_of(theirs)) == len(keys_of(ours)) == 51
    assert not set(keys_of(theirs)) & set(keys_of(ours))
