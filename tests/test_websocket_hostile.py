"""What an enemy behind a WebSocket, or a careless user, can try. See also the tables of `websocket_vectors.py`."""

from __future__ import annotations

import gc
import sys
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

import pytest
from harness import by_feed, by_windows, needs_sizes, size_of, split
from websocket_vectors import (
    BINARY,
    DEFLATE,
    FIN,
    HELLO,
    KEY,
    MORE,
    PING,
    ROLES,
    RSV1,
    TEXT,
    WAYS,
    announce,
    codec_of,
    frame,
    joined,
    peer,
    run,
)

from framewire import FrameTooLarge, FramingError, HeaderError, IncompleteFrame, _core_py, _deflate, _websocket_py
from framewire._websocket_py import Close, Deflate, Ping
from framewire.errors import PayloadError

with suppress(ImportError):  # PyPy has none
    import tracemalloc
needs_tracing = pytest.mark.skipif("tracemalloc" not in globals(), reason="PyPy does not trace memory")
needs_pep_688 = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="Python code can be a buffer from 3.12 on (PEP 688)"
)

KIB = 1024
MIB = 1024 * KIB

by_role = pytest.mark.parametrize("role", ROLES)
by_any_way = pytest.mark.parametrize("give", WAYS.values(), ids=WAYS)


@pytest.fixture
def codec(core: ModuleType) -> ModuleType:
    """The module of one core: MessageDecoder, MessageEncoder, mask."""
    return codec_of(core)


# Floods.


@by_any_way
@pytest.mark.parametrize("first", [FIN | BINARY, FIN | TEXT, FIN | PING])
@by_role
def test_a_flood_of_empty_frames_comes_out_and_leaves_nothing_behind(
    codec: ModuleType, give: Any, first: int, role: str
) -> None:
    decoder = codec.MessageDecoder(role)
    base = size_of(decoder)
    empty = {FIN | BINARY: b"", FIN | TEXT: "", FIN | PING: Ping()}[first]
    assert give(decoder, frame(role, first) * 5000) == [empty] * 5000
    assert decoder.buffered_size == 0
    assert size_of(decoder) <= base + 64 * KIB
    assert give(decoder, frame(role, FIN | TEXT, b"x")) == ["x"]


@needs_tracing
@pytest.mark.parametrize("options", [{}, {"parts": True}, {"deflate": DEFLATE}], ids=["whole", "parts", "deflate"])
@by_role
def test_a_flood_of_empty_fragments_costs_no_memory(codec: ModuleType, options: dict[str, Any], role: str) -> None:
    decoder = codec.MessageDecoder(role, **options)
    decoder.feed(frame(role, TEXT | RSV1 if "deflate" in options else TEXT))
    flood = frame(role, MORE) * 1000
    decoder.feed(flood)
    tracemalloc.start()
    try:
        for _ in range(20):
            assert decoder.feed(flood) == []
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert grown < 8 * KIB
    end = decoder.feed(frame(role, FIN, b"\0" if "deflate" in options else b""))
    assert joined(end) == [""]


@needs_tracing
@by_role
def test_ten_thousand_promises_of_the_limit_cost_almost_nothing(codec: ModuleType, role: str) -> None:
    count = 10_000
    tracemalloc.start()
    try:
        decoders = [codec.MessageDecoder(role) for _ in range(count)]
        before = tracemalloc.get_traced_memory()[0]
        for i, decoder in enumerate(decoders):
            (by_windows() if i % 2 else by_feed)(decoder, announce(role, FIN | TEXT, 16 * MIB))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown <= count * 3 * KIB


@needs_sizes
@by_role
def test_a_promise_and_one_byte_cost_64_kib_at_most(codec: ModuleType, role: str) -> None:
    for first in (FIN | TEXT, FIN | BINARY, BINARY):
        decoder = codec.MessageDecoder(role)
        base = size_of(decoder)
        decoder.feed(announce(role, first, 16 * MIB))
        decoder.feed(b"x")
        assert size_of(decoder) <= base + 65 * KIB


@needs_tracing
def test_what_comes_after_an_error_or_a_close_is_dropped(codec: ModuleType) -> None:
    for end in (b"\x83", b"\x88\0", b"\x81\1\xff"):
        decoder = codec.MessageDecoder("client")
        base = size_of(decoder)
        decoder.feed(frame("client", BINARY, b"x" * 100_000))
        with suppress(FramingError):
            decoder.feed(frame("client", FIN) + end)
        assert size_of(decoder) == base
        chunk = b"\x81\5hello" * 100_000
        tracemalloc.start()
        try:
            for _ in range(10):
                with suppress(FramingError):
                    assert decoder.feed(chunk) == []
            grown = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert grown < 64 * KIB
        assert size_of(decoder) == base
        assert decoder.buffered_size == 0


@by_role
def test_bytes_after_a_refused_length_are_never_read_as_frames(codec: ModuleType, role: str) -> None:
    """A payload must not become messages because its header was refused: that would be an injection."""
    decoder = codec.MessageDecoder(role, max_size=10)
    inner = frame(role, FIN | TEXT, b"evil")
    stream = frame(role, FIN | TEXT, b"x") + announce(role, FIN | BINARY, 100) + inner * 20
    for size in (1, 7, 1000):
        decoder.reset()
        assert run(decoder, split(stream, size)).messages == ["x"]


def test_no_length_wraps_around(codec: ModuleType) -> None:
    for length in (2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 10, 2**64 - 1):
        for done in (0, 10):
            decoder = codec.MessageDecoder("server", max_size=2**31 - 1, long_lengths=True)
            decoder.feed(frame("server", BINARY, b"x" * done))
            with pytest.raises(FrameTooLarge) as raised:
                decoder.feed(announce("server", FIN, length, width=8))
            assert (raised.value.size, raised.value.limit) == (done + length, 2**31 - 1)
    decoder = codec.MessageDecoder("server", max_size=None)
    decoder.feed(frame("server", BINARY, b"x" * 10))
    with pytest.raises(FrameTooLarge):
        decoder.feed(announce("server", FIN, 2**62 - 9, width=8))


# Compression.


def bomb(size: int) -> bytes:
    """`size` zeros, compressed as one message."""
    writer = zlib.compressobj(9, wbits=-15)
    return (writer.compress(bytes(size)) + writer.flush(zlib.Z_SYNC_FLUSH))[:-4]


@needs_tracing
@pytest.mark.parametrize("parts", [False, True], ids=["whole", "parts"])
def test_a_bomb_is_refused_without_swelling(codec: ModuleType, parts: bool) -> None:
    data = bomb(64 * MIB)
    assert len(data) < 70 * KIB
    decoder = codec.MessageDecoder("client", deflate=DEFLATE, max_size=100_000, parts=parts)
    stream = frame("client", FIN | RSV1 | BINARY, data)
    tracemalloc.start()
    try:
        with pytest.raises(FrameTooLarge) as raised:
            decoder.feed(stream)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (raised.value.size, raised.value.limit) == (100_001, 100_000)
    assert peak < MIB


@needs_tracing
def test_a_bomb_of_final_blocks_is_refused_without_swelling(codec: ModuleType) -> None:
    writer = zlib.compressobj(9, wbits=-15)
    block = writer.compress(bytes(50_000)) + writer.flush(zlib.Z_FINISH)
    decoder = codec.MessageDecoder("client", deflate=DEFLATE, max_size=100_000)
    assert decoder.feed(frame("client", FIN | RSV1 | BINARY, block * 2)) == [bytes(100_000)]
    tracemalloc.start()
    try:
        with pytest.raises(FrameTooLarge) as raised:
            decoder.feed(frame("client", FIN | RSV1 | BINARY, block * 1000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (raised.value.size, raised.value.limit) == (100_001, 100_000)
    assert peak < MIB


def test_what_stands_behind_final_blocks_is_not_copied_for_each_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = 0
    make = zlib.decompressobj

    class Counting:
        """zlib's object, with what it copies counted."""

        def __init__(self, wbits: int) -> None:
            self._inner = make(wbits)
            self.eof = False

        def decompress(self, data: bytes, most: int) -> bytes:
            made = self._inner.decompress(data, most)
            self.eof = self._inner.eof
            return made

        @property
        def unused_data(self) -> bytes:
            nonlocal copied
            copied += len(self._inner.unused_data)
            return self._inner.unused_data

    monkeypatch.setattr(zlib, "decompressobj", Counting)
    data = b"\3\0" * 20_000
    assert Deflate().decompressor("client").decompress(data, 100) == b""
    # A piece behind each of the 20000 blocks, but not the whole rest.
    assert len(data) < copied <= len(data) + 20_000 * _deflate.PIECE_SIZE


@needs_sizes
@by_role
def test_what_is_compressed_is_not_kept_once_it_is_out(codec: ModuleType, role: str) -> None:
    decoder = codec.MessageDecoder(role, deflate=DEFLATE)
    base = size_of(decoder)
    assert decoder.feed(frame(role, FIN | RSV1 | BINARY, bomb(4 * MIB))) == [bytes(4 * MIB)]
    assert size_of(decoder) == base


def test_damage_anywhere_is_an_error_or_another_message(codec: ModuleType) -> None:
    """Never an exception of another kind, and never more than the limit."""
    encoder = codec.MessageEncoder("server", deflate=DEFLATE)
    stream = encoder.encode("hello hello hello, who is it?" * 5) + encoder.encode(bytes(range(256)))
    for at in range(len(stream)):
        for bit in (1, 0x10, 0x80):
            changed = stream[:at] + bytes([stream[at] ^ bit]) + stream[at + 1 :]
            decoder = codec.MessageDecoder("client", deflate=DEFLATE, max_size=300)
            outcome = run(decoder, split(changed, 50), eof=True)
            assert all(len(one) <= 300 for one in outcome.messages if isinstance(one, (str, bytes)))
            assert isinstance(decoder.error, (type(None), HeaderError, PayloadError, FrameTooLarge, IncompleteFrame))


# Windows after the decoder has gone on.

GO_ON = {"feed": by_feed, "window": by_windows(), "small windows": by_windows(10_000)}


@pytest.mark.parametrize("size", [3, 64 * KIB + 1, 300_000])
@pytest.mark.parametrize("way", GO_ON.values(), ids=GO_ON)
@pytest.mark.parametrize("hint", [1, 100, 100_000, 10 * MIB])
@by_role
def test_a_kept_view_never_changes_a_message(codec: ModuleType, role: str, size: int, way: Any, hint: int) -> None:
    decoder = codec.MessageDecoder(role)
    payload = (bytes(range(1, 251)) * (size // 250 + 1))[:size]
    stream = frame(role, FIN | BINARY, payload)
    header = len(stream) - size
    decoder.feed(stream[:header])
    window = decoder.get_buffer(min(hint, size))
    kept = window[:]
    n = len(window)
    window[:] = stream[header : header + n]
    messages = decoder.buffer_updated(n)
    if n < size:
        messages += way(decoder, stream[header + n :])
    assert messages == [payload]
    kept[:] = b"!" * n
    assert messages == [payload]
    again = way(decoder, stream)  # which may not come to lie where the view still writes
    kept[:] = b"?" * n
    assert again == messages == [payload]
    del decoder
    kept[:] = b"#" * n
    assert bytes(kept) == b"#" * n
    assert again == messages == [payload]


def test_a_kept_view_never_changes_a_message_in_plain_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pure core with the memory that PyPy needs."""
    monkeypatch.setattr(_core_py, "_Memory", _core_py._PlainMemory)
    for role in ROLES:
        for size in (3, 64 * KIB + 1, 300_000):
            for way in GO_ON.values():
                for hint in (100, 100_000):
                    test_a_kept_view_never_changes_a_message(_websocket_py, role, size, way, hint)


@pytest.mark.parametrize("end", ["reset", "error", "eof", "gone", "grown", "close"])
def test_a_kept_view_outlives_its_frame(codec: ModuleType, end: str) -> None:
    decoder = codec.MessageDecoder("client")
    decoder.feed(announce("client", BINARY, 100_000))
    views = []
    for _ in range(2):
        window = decoder.get_buffer(10_000)
        views.append(window[:])
        window[:] = b"x" * len(window)
        decoder.buffer_updated(len(window))
    if end == "reset":
        decoder.reset()
    elif end == "error":
        with pytest.raises(HeaderError):
            decoder.feed(b"x" * decoder.needed_size + b"\x83")
    elif end == "eof":
        with pytest.raises(IncompleteFrame):
            decoder.feed_eof()
    elif end == "close":
        assert decoder.feed(b"x" * decoder.needed_size + b"\x88\0") == [Close()]
    elif end == "grown":
        decoder.feed(b"x" * 70_000)
    else:
        del decoder
        gc.collect()
    others = [b"A" * 70_000 for _ in range(20)]  # whatever memory was freed, these have it
    for view in views:
        view[:] = b"!" * len(view)
        assert bytes(view) == b"!" * len(view)
    assert set(others) == {b"A" * 70_000}
    for view in views:
        view.release()  # or the cycle of the decoder, its error, and this frame would keep them


def test_a_view_that_cannot_be_released_is_left_alone(codec: ModuleType) -> None:
    """Somebody took a buffer of the window itself, so that the window cannot be released."""
    numpy = pytest.importorskip("numpy", reason="numpy is optional")
    for role in ROLES:
        for size in (10, 100_000):
            decoder = codec.MessageDecoder(role)
            stream = frame(role, FIN | BINARY, b"x" * size)
            header = len(stream) - size
            decoder.feed(stream[:header])
            window = decoder.get_buffer(size)
            numbers = numpy.frombuffer(window, dtype=numpy.uint8)
            n = len(window)
            window[:] = stream[header : header + n]
            messages = decoder.buffer_updated(n) + decoder.feed(stream[header + n :])
            numbers[:] = 33
            with suppress(ValueError):
                window[:] = b"?" * n
            assert messages == [b"x" * size]
            del numbers
            assert decoder.feed(frame(role, FIN | BINARY, b"next")) == [b"next"]


# Calls from inside a call.


class Index:
    """A number whose making runs code."""

    def __init__(self, value: int, code: Any) -> None:
        self.value, self.code = value, code

    def __index__(self) -> int:
        self.code()
        return self.value


def refusing(decoder: Any, refused: list[str]) -> Any:
    """Code that tries every method, all of which must refuse."""
    calls = {
        "feed": lambda: decoder.feed(b"\x82\1z"),
        "get_buffer": lambda: decoder.get_buffer(),
        "buffer_updated": lambda: decoder.buffer_updated(0),
        "feed_eof": lambda: decoder.feed_eof(),
        "reset": lambda: decoder.reset(),
    }

    def code() -> None:
        for name, call in calls.items():
            with pytest.raises(RuntimeError, match="inside"):
                call()
            refused.append(name)
        assert decoder.error is None

    return code


def test_a_number_whose_code_calls_back_is_refused(codec: ModuleType) -> None:
    decoder, refused = codec.MessageDecoder("client"), []
    decoder.feed(b"\x81\3on")
    window = decoder.get_buffer(Index(5, refusing(decoder, refused)))
    assert len(window) == 5
    window[:4] = b"e\x82\1y"
    assert decoder.buffer_updated(Index(4, refusing(decoder, refused))) == ["one", b"y"]
    assert len(refused) == 10


def test_a_number_whose_code_fails_changes_nothing(codec: ModuleType) -> None:
    def code() -> None:
        raise LookupError("mine")

    decoder = codec.MessageDecoder("client")
    window = decoder.get_buffer()
    for call in (decoder.get_buffer, decoder.buffer_updated):
        with pytest.raises(LookupError, match="mine"):
            call(Index(1, code))
    window[:3] = b"\x81\1x"
    assert decoder.buffer_updated(3) == ["x"]


@needs_pep_688
@pytest.mark.parametrize("when", ["__buffer__", "__release_buffer__"])
def test_a_buffer_whose_code_calls_back_is_refused(codec: ModuleType, when: str) -> None:
    decoder, refused = codec.MessageDecoder("client"), []

    class Chunk:
        def __buffer__(self, flags: int) -> memoryview:
            if when == "__buffer__":
                refusing(decoder, refused)()
            return memoryview(b"e\x82\3two\1\3si")

        def __release_buffer__(self, view: memoryview) -> None:
            if when == "__release_buffer__":
                refusing(decoder, refused)()

    decoder.feed(b"\x81\3on")
    assert decoder.feed(Chunk()) == ["one", b"two"]
    assert len(refused) == 5
    assert decoder.feed(b"x\x80\0") == ["six"]


class Shifty:
    """A buffer of another size each time that somebody looks."""

    def __init__(self) -> None:
        self.size = 0

    def __buffer__(self, flags: int) -> memoryview:
        self.size += 1
        return memoryview(bytes(self.size))


@needs_pep_688
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("deflate", [None, DEFLATE], ids=["plain", "deflate"])
def test_a_message_that_changes_its_mind_about_its_size_makes_no_broken_frame(
    codec: ModuleType, role: str, deflate: Deflate | None
) -> None:
    encoder = codec.MessageEncoder(role, deflate=deflate)
    decoder = codec.MessageDecoder(peer(role), deflate=deflate)
    shifty = Shifty()
    for write in (
        encoder.encode,
        lambda one: encoder.encode_many([one, one]),
        lambda one: encoder.encode_part(one, final=True),
        encoder.ping,
    ):
        try:
            stream = write(shifty)
        except (BufferError, ValueError, RuntimeError):
            continue
        messages = decoder.feed(stream)
        assert messages
        assert all(set(getattr(one, "payload", one)) == {0} for one in messages)
    assert (decoder.error, decoder.buffered_size) == (None, 0)
    assert set(codec.mask(shifty, bytes(4))) == {0}


@needs_pep_688
def test_a_message_that_calls_the_encoder_breaks_nothing(codec: ModuleType) -> None:
    encoder = codec.MessageEncoder("client")
    decoder = codec.MessageDecoder("server")

    class Calling:
        def __buffer__(self, flags: int) -> memoryview:
            inner.append(encoder.encode(b"inner") + encoder.encode_many(["inner"]))
            return memoryview(b"outer")

    inner: list[bytes] = []
    stream = encoder.encode(Calling()) + encoder.encode_many([Calling(), b"x"])
    assert decoder.feed(stream) == [b"outer", b"outer", b"x"]
    assert decoder.feed(b"".join(inner)) == [b"inner", "inner"] * len(inner)


@contextmanager
def collecting(code: Any) -> Iterator[None]:
    """Run `code` in every garbage collection, and have one as often as can be."""
    threshold = gc.get_threshold()

    def callback(phase: str, info: Any) -> None:
        code()

    gc.callbacks.append(callback)
    gc.set_threshold(1)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(callback)


@pytest.mark.skipif(not hasattr(gc, "get_threshold"), reason="PyPy collects in its own time")
@pytest.mark.parametrize("give", GO_ON.values(), ids=GO_ON)
@by_role
def test_a_collection_whose_code_calls_back_breaks_nothing(codec: ModuleType, role: str, give: Any) -> None:
    """It may come between two calls, or inside of one and then be refused; in neither case may the stream suffer."""
    decoder, answers = codec.MessageDecoder(role, deflate=DEFLATE), set()
    nothing = b"" if give is by_feed else None  # a window would be taken back by feeding

    def code() -> None:
        try:
            decoder.feed(nothing)
        except (RuntimeError, TypeError) as error:
            answers.add(type(error))

    encoder = codec.MessageEncoder(peer(role), deflate=DEFLATE)
    expected = ["x" * 5, b"y" * 1000, b"z" * 100_000, ""] * 3
    stream = b"".join(encoder.encode(one, compress=i % 3 == 0) + encoder.ping() for i, one in enumerate(expected))
    got: list[Any] = []
    with collecting(code):
        for chunk in split(stream, 50_021):
            got += give(decoder, chunk)
    assert [one for one in got if one != Ping()] == expected
    assert answers <= ({RuntimeError} if nothing is not None else {RuntimeError, TypeError})


def test_a_mask_key_may_call_its_encoder(codec: ModuleType) -> None:
    depth = 0
    inner: list[bytes] = []

    def key() -> bytes:
        nonlocal depth
        if not depth:
            depth += 1
            inner.append(encoder.encode("inner") + encoder.encode_many([b"inner"] * 2) + encoder.ping())
            depth -= 1
        return KEY

    encoder = codec.MessageEncoder("client", mask_key=key)
    stream = encoder.encode("outer") + encoder.encode_many(["outer", "é", bytearray(b"x")])
    decoder = codec.MessageDecoder("server")
    assert decoder.feed(stream) == ["outer", "outer", "é", b"x"]
    assert decoder.feed(b"".join(inner)) == ["inner", b"inner", b"inner", Ping()] * 4


# Odd iterables.


def test_an_iterator_may_call_the_encoder_that_draws_from_it(codec: ModuleType) -> None:
    encoder = codec.MessageEncoder("server")

    def messages() -> Iterator[bytes]:
        for word in (b"one", b"two"):
            yield encoder.encode_many([word, word])

    assert encoder.encode_many(messages()) == b"\x82\n\x82\3one\x82\3one\x82\n\x82\3two\x82\3two"


def test_an_iterator_that_begins_a_message_in_parts_is_refused(codec: ModuleType) -> None:
    encoder = codec.MessageEncoder("server")

    def messages() -> Iterator[str]:
        yield "one"
        begun.append(encoder.encode_part("part"))
        yield "two"

    begun: list[bytes] = []
    with pytest.raises(RuntimeError, match="in parts"):
        encoder.encode_many(messages())
    assert [*begun, encoder.encode_part("", final=True)] == [b"\1\4part", b"\x80\0"]


def test_what_is_drawn_may_change_before_the_next(codec: ModuleType) -> None:
    shared = bytearray(b"one")

    def messages() -> Iterator[bytearray]:
        for word in (b"one", b"two", b"three"):
            shared[:] = word
            yield shared

    assert codec.MessageEncoder("server").encode_many(messages()) == b"\x82\3one\x82\3two\x82\5three"


def test_an_iterator_may_change_the_list_behind_it(codec: ModuleType) -> None:
    words = [b"one", "two", b"six"]

    class Drawn(list):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[Any]:
            for word in words:
                self.clear()
                yield word

    assert codec.MessageEncoder("server").encode_many(Drawn(words)) == b"\x82\3one\x81\3two\x82\3six"


def test_an_iterable_that_fails_or_lies_breaks_nothing(codec: ModuleType) -> None:
    class Liar:
        def __init__(self, length: int) -> None:
            self.length = length

        def __len__(self) -> int:
            return self.length

        __length_hint__ = __len__

        def __iter__(self) -> Iterator[str]:
            return iter(["a"] * 100)

    encoder = codec.MessageEncoder("server")
    for length in (0, 5, 10**6):
        assert encoder.encode_many(Liar(length)) == b"\x81\1a" * 100

    def failing() -> Iterator[str]:
        yield "a"
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        encoder.encode_many(failing())
    assert encoder.encode("a") == b"\x81\1a"


# Objects made wrongly, and what runs when they go.


def test_what_was_made_wrongly_refuses_to_work(codec: ModuleType) -> None:
    for method, arguments in [
        ("feed", (b"x",)),
        ("get_buffer", ()),
        ("buffer_updated", (0,)),
        ("feed_eof", ()),
        ("reset", ()),
        ("__repr__", ()),
    ]:
        decoder = codec.MessageDecoder.__new__(codec.MessageDecoder)
        if method == "__repr__":
            with suppress(AttributeError):
                repr(decoder)
            continue
        with pytest.raises((AttributeError, RuntimeError)):
            getattr(decoder, method)(*arguments)
    encoder = codec.MessageEncoder.__new__(codec.MessageEncoder)
    for method, arguments in [
        ("encode", (b"x",)),
        ("encode_many", ([b"x"],)),
        ("encode_parts", (b"x",)),
        ("encode_part", (b"x",)),
        ("ping", ()),
        ("close", ()),
        ("__repr__", ()),
    ]:
        with pytest.raises((AttributeError, RuntimeError)):
            getattr(encoder, method)(*arguments)


def test_what_was_made_is_not_made_again(codec: ModuleType) -> None:
    for made in (codec.MessageDecoder("server"), codec.MessageEncoder("server")):
        with pytest.raises(RuntimeError, match="made once"):
            made.__init__("client")
    for kind in (codec.MessageDecoder, codec.MessageEncoder):
        half = kind.__new__(kind)
        with pytest.raises(ValueError, match="role"):
            half.__init__("nobody")
        half.__init__("server")  # which failed before, and was not made
        assert half.role == "server"


def test_an_encoder_does_not_call_what_a_subclass_overrides(codec: ModuleType) -> None:
    class Mine(codec.MessageEncoder):  # type: ignore[misc, name-defined]
        def encode(self, message: Any, /, *, compress: bool = True) -> bytes:
            raise AssertionError

        encode_parts = encode_part = encode  # type: ignore[assignment]

    assert Mine("server").encode_many(["a", bytearray(b"b")]) == b"\x81\1a\x82\1b"


@pytest.mark.parametrize("begun", [b"", announce("client", FIN | BINARY, MIB) + bytes(70_000), b"\x88\0", b"\x01\2a"])
def test_what_runs_when_reset_drops_a_window_meets_a_whole_decoder(codec: ModuleType, begun: bytes) -> None:
    decoder = codec.MessageDecoder("client", deflate=DEFLATE)
    decoder.feed(b"\xc1\7" + HELLO)
    decoder.feed(begun)
    heard: list[Any] = []
    window = decoder.get_buffer()
    callback = weakref.ref(window, lambda _: heard.append(decoder.feed(b"\xc1\7" + HELLO + b"\x81\1x")))
    del window
    decoder.reset()
    gc.collect()
    assert callback() is None
    assert heard == [["Hello", "x"]]
    assert decoder.feed(b"\xc1\5\xf2\0\x11\0\0") == ["Hello"]  # which looks back to what came in between


def test_what_runs_when_reset_drops_a_window_may_close(codec: ModuleType) -> None:
    decoder = codec.MessageDecoder("client")
    window = decoder.get_buffer()
    callback = weakref.ref(window, lambda _: decoder.feed(b"\x88\0"))
    del window
    decoder.reset()
    gc.collect()
    assert callback() is None
    assert decoder.closed


def test_what_runs_when_reset_drops_an_error_meets_a_whole_decoder(codec: ModuleType) -> None:
    class Last:
        def __del__(self) -> None:
            seen.append(decoder.feed(b"\x82\1x\x82"))

    def fail() -> None:
        last = Last()
        with pytest.raises(HeaderError):
            decoder.feed(b"\x83")
        assert last

    seen: list[list[bytes]] = []
    decoder = codec.MessageDecoder("client")
    fail()
    decoder.reset()
    gc.collect()
    assert all(messages == [b"x"] for messages in seen)
    assert decoder.buffered_size == len(seen)


def test_messages_are_not_shared_with_the_chunk(codec: ModuleType) -> None:
    chunk = bytearray(b"\x82\3one\x81\3two\x89\3two\x88\5\3\xe8bye")
    messages = codec.MessageDecoder("client").feed(chunk)
    copies = repr(messages)
    chunk[:] = b"!" * len(chunk)
    assert repr(messages) == copies


def test_an_error_says_what_the_bytes_look_like(codec: ModuleType) -> None:
    decoder = codec.MessageDecoder("server")
    with pytest.raises(HeaderError, match="looks like an HTTP request") as raised:
        decoder.feed(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert raised.value.looks_like == "an HTTP request"
    assert raised.value.head == b"GET / HTTP/1.1"  # as much as a header may have


def test_a_raised_error_does_not_gather_tracebacks(codec: ModuleType) -> None:
    decoder = codec.MessageDecoder("client")
    depths = []
    for _ in range(5):
        with pytest.raises(HeaderError) as raised:
            decoder.feed(b"\x83")
        depths.append(len(raised.traceback))
    assert len(set(depths[1:])) == 1
