"""What an enemy on the wire, or a careless user, can try. See also the tables of `vectors.py`."""

from __future__ import annotations

import gc
import mmap
import struct
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product
from types import ModuleType
from typing import Any

import pytest
from harness import WAYS, by_feed, by_spans, by_windows, run, size_of, split
from vectors import announce, frame

from framewire import (
    Ascii,
    Delimited,
    FrameTooLarge,
    FramingError,
    HeaderError,
    IncompleteFrame,
    LengthField,
    MultiprocessingPipe,
    Netstring,
    Spec,
    Varint,
    _core_py,
)

with suppress(ImportError):  # PyPy has none
    import tracemalloc
needs_tracing = pytest.mark.skipif("tracemalloc" not in globals(), reason="PyPy does not trace memory")

KIB = 1024
MIB = 1024 * KIB

SIZED = [Ascii(10), LengthField(4), LengthField(8, adjust=-8), Varint(), Netstring(), MultiprocessingPipe()]
by_any_way = pytest.mark.parametrize("give", WAYS.values(), ids=WAYS)
by_format = pytest.mark.parametrize("spec", SIZED, ids=lambda spec: spec.name)


# Headers.


@by_any_way
@pytest.mark.parametrize("chunk_size", [1, 10, 20, 21, 22, 1000, 10**6])
def test_a_million_digits_are_refused_at_the_21st(core: ModuleType, give: Any, chunk_size: int) -> None:
    decoder = core.Decoder("netstring")
    stream = b"1:x," + b"9" * 10**6
    outcome = run(decoder, split(stream, chunk_size), give)
    assert outcome.payloads == [b"x"]
    assert isinstance(decoder.error, HeaderError)
    assert decoder.error.offset == 4
    assert len(str(decoder.error)) < 300
    # No more than what tells it: the rest is not even looked at.
    decoder.reset()
    base = size_of(decoder)
    decoder.feed(b"9" * 20)
    assert decoder.error is None
    assert size_of(decoder) <= base + 64
    with pytest.raises(HeaderError):
        decoder.feed(b"9")


@pytest.mark.parametrize("spec", [Ascii(10), Ascii(10, ">"), Ascii(10, "0"), Ascii(3), Ascii(17)], ids=lambda s: s.name)
def test_nothing_but_ascii_digits_and_padding_passes(core: ModuleType, spec: Ascii) -> None:
    """Any byte at any place of the header."""
    good = announce(spec, 7)
    for at, byte in product(range(spec.width), range(256)):
        header = good[:at] + bytes([byte]) + good[at + 1 :]
        digits = header.rstrip(b" ") if spec.align == "<" else header.lstrip(b" ") if spec.align == ">" else header
        decoder = core.Decoder(spec, max_size=None)
        if digits and not set(digits) - set(b"0123456789"):
            assert decoder.feed(header) == ([] if int(digits) else [b""])
            assert decoder.needed_size == (int(digits) or spec.width)
        else:
            with pytest.raises(HeaderError) as raised:
                decoder.feed(header)
            assert repr(header) in raised.value.reason


def test_every_wrong_byte_in_a_netstring_is_found(core: ModuleType) -> None:
    good = b"12:hello world!,"
    for at in (0, 1, 2, 15):
        for byte in range(256):
            stream = good[:at] + bytes([byte]) + good[at + 1 :]
            if stream == good or (at in (0, 1) and byte in b"123456789" + b"0" * at):
                continue  # another length
            if at == 1 and byte == ord(":"):
                continue  # a length of one digit
            decoder = core.Decoder("netstring")
            with pytest.raises(HeaderError) as raised:
                decoder.feed(stream)
            assert raised.value.offset == 0


def zeros(size: int) -> mmap.mmap:
    """Memory that is never touched, so that it need not be there."""
    try:
        return mmap.mmap(-1, size)
    except (OSError, OverflowError):
        pytest.skip(f"the system does not map {size} bytes")


def refuse(encoder: Any, size: int, *methods: str) -> None:
    with zeros(size) as payload, memoryview(payload) as view:
        for method in methods:
            with pytest.raises(FrameTooLarge) as raised:
                getattr(encoder, method)(
                    *{"encode_many": ([view],), "encode_into": (view, bytearray(99))}.get(method, (view,))
                )
            assert (raised.value.size, raised.value.limit) == (size, size - 1)
            raised.value.__traceback__ = None  # its frames hold views of the memory
            del raised


@pytest.mark.parametrize("max_size", [None, 10**11])
def test_an_eleventh_digit_is_not_written_into_ten_bytes(core: ModuleType, max_size: int | None) -> None:
    """The tutorial's ``f"{n:<10}"`` grows to eleven, and every reader is lost."""
    refuse(core.Encoder("ascii10", max_size=max_size), 10**10, "encode_parts", "encode_into")
    refuse(core.Encoder("ascii7", max_size=max_size), 10**7, "encode", "encode_many", "encode_parts", "encode_into")


def test_an_eleventh_digit_is_not_read_as_part_of_the_length(core: ModuleType) -> None:
    decoder = core.Decoder("ascii10", max_size=None)
    decoder.feed(b"10000000000")
    assert decoder.needed_size == 10**9 - 1


def test_a_payload_is_as_long_as_its_buffer_whatever_its_own_code_says(core: ModuleType) -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 10**10

    assert core.Encoder("ascii10").encode(Huge(b"x")) == b"1         x"
    assert core.Decoder("ascii10").feed(Huge(b"1         x")) == [b"x"]


def test_an_error_says_what_the_bytes_look_like(core: ModuleType) -> None:
    for stream, what in [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "an HTTP request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "a TLS hello"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "an SSH banner"),
        (b"12:hello world!,", "a netstring"),
        (b"Hello there, who is it?", "text"),
    ]:
        decoder = core.Decoder("u32be")
        with pytest.raises(FrameTooLarge, match=f"looks like {what}") as raised:
            decoder.feed(stream)
        assert raised.value.looks_like == what
        assert raised.value.head == stream[:16]


# Floods.


@by_any_way
@pytest.mark.parametrize("spec", [*SIZED, Delimited(b"\n")], ids=lambda spec: spec.name)
def test_a_flood_of_empty_frames_comes_out_and_leaves_nothing_behind(core: ModuleType, spec: Spec, give: Any) -> None:
    decoder = core.Decoder(spec)
    base = size_of(decoder)
    flood = frame(spec, b"") * 5000
    assert give(decoder, flood) == [b""] * 5000
    assert decoder.buffered_size == 0
    window = 64 * KIB
    assert size_of(decoder) <= base + window
    assert give(decoder, frame(spec, b"x")) == [b"x"]


def silent(core: ModuleType, spec: Spec, count: int) -> list[Any]:
    """Decoders that were promised the limit, half of them through a window."""
    header = announce(spec, 16 * MIB)
    decoders = [core.Decoder(spec) for _ in range(count)]
    for i, decoder in enumerate(decoders):
        assert (by_windows() if i % 2 else by_feed)(decoder, header) == []
        assert decoder.buffered_size == len(header)
    return decoders


@needs_tracing
@pytest.mark.parametrize("spec", [LengthField(4), Netstring()], ids=lambda spec: spec.name)
def test_ten_thousand_promises_of_the_limit_cost_almost_nothing(core: ModuleType, spec: Spec) -> None:
    count = 10_000
    base = size_of(core.Decoder(spec))
    tracemalloc.start()
    try:
        decoders = silent(core, spec, count)
        traced = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    told = sum(map(size_of, decoders))
    assert told <= count * (base + 1 * KIB)
    assert traced <= count * 4 * KIB


@needs_tracing
@by_format
def test_a_promise_and_one_byte_cost_64_kib_at_most(core: ModuleType, spec: Spec) -> None:
    base = size_of(core.Decoder(spec))
    tracemalloc.start()
    try:
        decoders = silent(core, spec, 100)
        for decoder in decoders:
            decoder.feed(b"x")
        traced = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert max(map(size_of, decoders)) <= base + 65 * KIB
    assert traced <= 100 * 70 * KIB


@needs_tracing
@pytest.mark.parametrize(
    ("spec", "stream"),
    [
        (Ascii(10), b"x" * 10),
        (Netstring(), b"x"),
        (LengthField(4), b"\xff" * 4),
        (Delimited(b"\n"), b"x" * (16 * MIB + 1)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_comes_after_an_error_is_dropped(core: ModuleType, spec: Spec, stream: bytes) -> None:
    decoder = core.Decoder(spec)
    base = size_of(decoder)
    with suppress(FramingError):
        decoder.feed(stream)
    error = decoder.error
    assert error is not None
    assert size_of(decoder) == base
    chunk = b"5" * MIB
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(32):
            for call in (decoder.feed, decoder.feed_spans):
                with pytest.raises(type(error)) as raised:
                    call(chunk)
                assert raised.value is error
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 64 * KIB
    assert size_of(decoder) == base
    assert decoder.buffered_size == 0


def test_bytes_after_a_bad_length_are_never_read_as_headers(core: ModuleType) -> None:
    """A payload must not become frames because its header was refused: that would be an injection."""
    decoder = core.Decoder("u16be", max_size=10)
    inner = frame(LengthField(2), b"evil")
    assert run(decoder, [b"\0\1x", announce(LengthField(2), 100), inner * 20]).payloads == [b"x"]


def test_minus_two_is_an_error_where_the_standard_library_reads_an_empty_message(core: ModuleType) -> None:
    for length in (-2, -3, -(2**31)):
        with pytest.raises(HeaderError, match=str(length)):
            core.Decoder("multiprocessing").feed(struct.pack("!i", length) + b"hello")
    with pytest.raises(FrameTooLarge):
        core.Decoder("multiprocessing").feed(struct.pack("!iQ", -1, 2**63 + 5))


@pytest.mark.parametrize("adjust", [1, 7, 2**31, 2**61])
def test_adjust_never_wraps_a_length_around(core: ModuleType, adjust: int) -> None:
    spec = LengthField(8, adjust=adjust)
    for length in (2**64 - 1, 2**64 - adjust, 2**63 - adjust, 2**63 - adjust - 1, 2**63 - 1, 2**63):
        decoder = core.Decoder(spec, max_size=None)
        with pytest.raises(FrameTooLarge) as raised:
            decoder.feed(length.to_bytes(8, "big") + b"hello")
        assert raised.value.size == length + adjust


@pytest.mark.parametrize("adjust", [-1, -8, -(2**31), -(2**63), 1 - 2**64])
def test_a_length_below_nothing_is_refused(core: ModuleType, adjust: int) -> None:
    spec = LengthField(8, adjust=adjust)
    for length in {0, -adjust - 1, -adjust // 2}:
        decoder = core.Decoder(spec, max_size=None)
        with pytest.raises(HeaderError, match=f"length {length} with adjust={adjust}"):
            decoder.feed(length.to_bytes(8, "big"))
    decoder = core.Decoder(spec, max_size=None)
    assert decoder.feed((-adjust).to_bytes(8, "big")) == [b""]


# Windows after the decoder has gone on.

GO_ON = {
    "feed": by_feed,
    "spans": by_spans,
    "window": by_windows(),
    "small windows": by_windows(10_000),
}


@pytest.mark.parametrize("size", [3, 64 * KIB + 1, 300_000])
@pytest.mark.parametrize("way", GO_ON.values(), ids=GO_ON)
@pytest.mark.parametrize("hint", [1, 100, 100_000, 10 * MIB])
def test_a_kept_view_never_changes_a_payload(core: ModuleType, size: int, way: Any, hint: int) -> None:
    decoder = core.Decoder("u32be")
    payload = bytes(range(1, 251)) * (size // 250 + 1)
    payload = payload[:size]
    decoder.feed(announce(LengthField(4), size))
    window = decoder.get_buffer(min(hint, size))
    kept = window[:]
    n = len(window)
    window[:] = payload[:n]
    payloads = decoder.buffer_updated(n)
    if n < size:
        payloads += way(decoder, payload[n:])
    assert payloads == [payload]
    kept[:] = b"!" * n
    assert payloads == [payload]
    # The next frame may not come to lie where the view still writes.
    again = way(decoder, frame(LengthField(4), payload))
    kept[:] = b"?" * n
    assert again == payloads == [payload]
    del decoder
    kept[:] = b"#" * n
    assert bytes(kept) == b"#" * n
    assert again == payloads == [payload]


@pytest.fixture
def plain_memory(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The pure core with the memory that PyPy needs."""
    monkeypatch.setattr(_core_py, "_Memory", _core_py._PlainMemory)
    return _core_py


@pytest.mark.parametrize("size", [3, 64 * KIB + 1, 300_000])
@pytest.mark.parametrize("way", GO_ON.values(), ids=GO_ON)
def test_a_kept_view_never_changes_a_payload_in_plain_memory(plain_memory: ModuleType, size: int, way: Any) -> None:
    for hint in (1, 100, 100_000):
        test_a_kept_view_never_changes_a_payload(plain_memory, size, way, hint)


@by_any_way
@by_format
def test_plain_memory_gives_the_same(plain_memory: ModuleType, spec: Spec, give: Any) -> None:
    payloads = [bytes([i]) * size for i, size in enumerate([0, 5, 1000, 200_000, 3])]
    stream = b"".join(frame(spec, payload) for payload in payloads)
    for size in (13, 999, 70_000):
        assert run(plain_memory.Decoder(spec), split(stream, size), give).payloads == payloads
    decoder = plain_memory.Decoder(spec)
    give(decoder, stream[:150_000])
    with pytest.raises(IncompleteFrame) as raised:
        decoder.feed_eof()
    assert raised.value.head == stream[raised.value.offset :][:16]


@pytest.mark.parametrize("end", ["reset", "error", "eof", "gone", "grown"])
def test_a_kept_view_outlives_its_frame(core: ModuleType, end: str) -> None:
    decoder = core.Decoder("netstring")
    decoder.feed(b"300000:")
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
            decoder.feed(b"x" * 280_000 + b";")
    elif end == "eof":
        with pytest.raises(IncompleteFrame):
            decoder.feed_eof()
    elif end == "grown":
        decoder.feed(b"x" * 200_000)
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


@pytest.mark.parametrize("size", [10, 100_000])
def test_the_object_behind_a_window_lends_nothing_of_a_payload(core: ModuleType, size: int) -> None:
    decoder = core.Decoder("u32be")
    decoder.feed(announce(LengthField(4), size))
    window = decoder.get_buffer(size)
    owner = window.obj
    n = len(window)
    window[:] = b"x" * n
    payloads = decoder.buffer_updated(n) + decoder.feed(b"x" * (size - n))
    assert payloads == [b"x" * size]
    with suppress(BufferError, ValueError, TypeError):
        view = memoryview(owner)
        with suppress(TypeError):
            view[:] = b"!" * len(view)
    assert payloads == [b"x" * size]


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("whole", [False, True])
def test_a_view_taken_from_the_owner_while_the_window_is_lent_costs_a_copy_only(
    core: ModuleType, size: int, whole: bool
) -> None:
    decoder = core.Decoder("u32be")
    decoder.feed(announce(LengthField(4), size))
    window = decoder.get_buffer(size if whole else 7)
    view = memoryview(window.obj)
    n = len(window)
    window[:] = b"x" * n
    payloads = decoder.buffer_updated(n) + decoder.feed(b"x" * (size - n))
    assert payloads == [b"x" * size]
    view[:] = b"!" * len(view)
    assert payloads == [b"x" * size]
    assert decoder.feed(frame(LengthField(4), b"next")) == [b"next"]


def test_a_view_that_cannot_be_released_is_left_alone(core: ModuleType) -> None:
    """Somebody took a buffer of the window itself, so that the window cannot be released."""
    numpy = pytest.importorskip("numpy", reason="numpy is optional")
    for size in (10, 100_000):
        decoder = core.Decoder("u32be")
        decoder.feed(announce(LengthField(4), size))
        window = decoder.get_buffer(size)
        numbers = numpy.frombuffer(window, dtype=numpy.uint8)
        n = len(window)
        window[:] = b"x" * n
        payloads = decoder.buffer_updated(n) + decoder.feed(b"x" * (size - n))
        numbers[:] = 33
        with suppress(ValueError):
            window[:] = b"?" * n
        assert payloads == [b"x" * size]
        del numbers
        assert decoder.feed(frame(LengthField(4), b"next")) == [b"next"]


def test_payloads_are_not_shared_with_the_chunk_or_with_each_other(core: ModuleType) -> None:
    chunk = bytearray(b"\3one\3two")
    for give in (by_feed, by_spans):
        payloads = give(core.Decoder("u8"), chunk)
        copies = [bytes(bytearray(payload)) for payload in payloads]
        chunk[:] = b"!" * len(chunk)
        assert payloads == copies
        chunk[:] = b"\3one\3two"


# Calls from inside a call.


class Index:
    """A number whose making runs code."""

    def __init__(self, value: int, code: Any) -> None:
        self.value, self.code = value, code

    def __index__(self) -> int:
        self.code()
        return self.value


def calls(decoder: Any) -> dict[str, Any]:
    return {
        "feed": lambda: decoder.feed(b"\1z"),
        "feed_spans": lambda: decoder.feed_spans(b"\1z"),
        "get_buffer": lambda: decoder.get_buffer(),
        "buffer_updated": lambda: decoder.buffer_updated(0),
        "feed_eof": lambda: decoder.feed_eof(),
        "reset": lambda: decoder.reset(),
    }


def refusing(decoder: Any, refused: list[str]) -> Any:
    """Code that tries every method, all of which must refuse."""

    def code() -> None:
        for name, call in calls(decoder).items():
            with pytest.raises(RuntimeError, match="inside"):
                call()
            refused.append(name)
        assert decoder.error is None

    return code


def test_a_number_whose_code_calls_back_is_refused(core: ModuleType) -> None:
    decoder, refused = core.Decoder("u8"), []
    decoder.feed(b"\3on")
    window = decoder.get_buffer(Index(5, refusing(decoder, refused)))
    assert len(window) == 5
    window[:3] = b"e\1y"
    assert decoder.buffer_updated(Index(3, refusing(decoder, refused))) == [b"one", b"y"]
    assert len(refused) == 12


def test_a_number_whose_code_fails_changes_nothing(core: ModuleType) -> None:
    def code() -> None:
        raise LookupError("mine")

    decoder = core.Decoder("u8")
    window = decoder.get_buffer()
    for call in (decoder.get_buffer, decoder.buffer_updated):
        with pytest.raises(LookupError, match="mine"):
            call(Index(1, code))
    window[:2] = b"\1x"
    assert decoder.buffer_updated(2) == [b"x"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python code can be a buffer from 3.12 on (PEP 688)")
@pytest.mark.parametrize("method", ["feed", "feed_spans"])
@pytest.mark.parametrize("when", ["__buffer__", "__release_buffer__"])
def test_a_buffer_whose_code_calls_back_is_refused(core: ModuleType, method: str, when: str) -> None:
    decoder, refused = core.Decoder("u8"), []

    class Chunk:
        def __buffer__(self, flags: int) -> memoryview:
            if when == "__buffer__":
                refusing(decoder, refused)()
            return memoryview(b"e\3two\x09si")

        def __release_buffer__(self, view: memoryview) -> None:
            if when == "__release_buffer__":
                refusing(decoder, refused)()

    decoder.feed(b"\3on")
    assert [bytes(payload) for payload in getattr(decoder, method)(Chunk())] == [b"one", b"two"]
    assert len(refused) == 6
    assert decoder.feed(b"xteenth") == [b"sixteenth"]


def test_code_that_runs_while_a_list_is_made_is_refused(core: ModuleType) -> None:
    decoder, refused, ran = core.Decoder("u8"), [], []
    inside = False

    class Late:
        def __del__(self) -> None:
            if inside:  # the compiled core keeps the list that it has given out last, and lets go of it in a call
                ran.append(self)
                refusing(decoder, refused)()

    for chunk in (b"\x05ab", b"c", b"d"):
        given = decoder.feed(b"")
        given.append(Late())
        del given
        inside = True
        assert decoder.feed(chunk) == []
        inside = False
    assert len(refused) == 6 * len(ran)
    assert decoder.buffered_size == 5
    with pytest.raises(IncompleteFrame) as caught:
        decoder.feed_eof()
    assert (caught.value.offset, caught.value.head) == (0, b"\x05abcd")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python code can be a buffer from 3.12 on (PEP 688)")
def test_a_payload_that_changes_its_mind_about_its_size_makes_no_broken_frame(core: ModuleType) -> None:
    class Shifty:
        size = 0

        def __buffer__(self, flags: int) -> memoryview:
            self.size += 1
            return memoryview(bytes(self.size))

    encoder = core.Encoder("u8")
    for write in (encoder.encode, lambda payload: encoder.encode_many([payload, payload])):
        try:
            stream = write(Shifty())
        except (BufferError, ValueError, RuntimeError):
            continue
        decoder = core.Decoder("u8")
        assert all(set(payload) == {0} for payload in decoder.feed(stream))
        assert decoder.feed_eof() == []


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
def test_a_collection_whose_code_calls_back_breaks_nothing(core: ModuleType, give: Any) -> None:
    """It may come between two calls, or inside of one and then be refused; in neither case may the stream suffer."""
    decoder, answers = core.Decoder("u32be"), set()
    nothing = b"" if give in (by_feed, by_spans) else None  # a window would be taken back by feeding

    def code() -> None:
        try:
            decoder.feed(nothing)
        except (RuntimeError, TypeError) as error:
            answers.add(type(error))

    payloads = [b"x" * size for size in (0, 5, 1000, 100_000)] * 3
    stream = b"".join(frame(LengthField(4), payload) for payload in payloads)
    got: list[bytes] = []
    with collecting(code):
        for chunk in split(stream, 50_021):
            got += give(decoder, chunk)
    assert got == payloads
    assert answers <= ({RuntimeError} if nothing is not None else {RuntimeError, TypeError})


def test_an_iterator_may_call_the_encoder_that_draws_from_it(core: ModuleType) -> None:
    """An encoder keeps nothing, so this is no misuse."""
    encoder = core.Encoder("u8")

    def payloads() -> Iterator[bytes]:
        for word in (b"one", b"two"):
            yield encoder.encode_many([word, word])

    assert encoder.encode_many(payloads()) == b"\x08\3one\3one\x08\3two\3two"


def test_an_iterator_may_change_the_list_behind_it(core: ModuleType) -> None:
    words = [b"one", b"two", b"six"]

    class Drawn(list):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[bytes]:
            for word in words:
                self.clear()
                yield word

    assert core.Encoder("u8").encode_many(Drawn(words)) == b"\3one\3two\3six"


def test_an_iterable_that_lies_about_its_length_breaks_nothing(core: ModuleType) -> None:
    class Liar:
        def __init__(self, length: int) -> None:
            self.length = length

        def __len__(self) -> int:
            return self.length

        def __length_hint__(self) -> int:
            return self.length

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"a"] * 100)

    for length in (0, 5, 10**6):
        assert core.Encoder("u8").encode_many(Liar(length)) == b"\1a" * 100


def test_decoders_made_wrongly_refuse_to_work(core: ModuleType) -> None:
    for method, arguments in [
        ("feed", (b"x",)),
        ("get_buffer", ()),
        ("feed_spans", (b"x",)),
        ("feed_eof", ()),
        ("reset", ()),
    ]:
        decoder = core.Decoder.__new__(core.Decoder)
        with pytest.raises((AttributeError, RuntimeError)):
            getattr(decoder, method)(*arguments)
    encoder = core.Encoder.__new__(core.Encoder)
    for method, arguments in [("encode", (b"x",)), ("encode_many", ([b"x"],)), ("encode_parts", (b"x",))]:
        with pytest.raises((AttributeError, RuntimeError, TypeError)):
            getattr(encoder, method)(*arguments)
    spans = core.Spans.__new__(core.Spans)
    for look in (len, list, repr, lambda spans: spans.tolist(), lambda spans: spans.data, lambda spans: spans[0]):
        with suppress(AttributeError, RuntimeError, TypeError, IndexError):
            look(spans)


def test_a_slice_of_spans_looks_at_its_bounds_once(core: ModuleType) -> None:
    class Moving:
        looks = 0

        def __index__(self) -> int:
            Moving.looks += 1
            return 0 if Moving.looks == 1 else 90

    spans = core.Decoder("u8").feed_spans(b"\x05hello" * 100)
    assert spans[Moving() :].tolist() == [b"hello"] * 100


@pytest.mark.parametrize("begun", [b"", (10**6).to_bytes(4, "big") + bytes(70_000)], ids=["nothing", "large payload"])
def test_what_runs_when_reset_drops_a_window_meets_a_whole_decoder(core: ModuleType, begun: bytes) -> None:
    decoder = core.Decoder("u32be")
    decoder.feed(begun)
    lent: list[memoryview] = []
    window = decoder.get_buffer()
    callback = weakref.ref(window, lambda _: lent.append(decoder.get_buffer(5)))
    del window
    decoder.reset()
    gc.collect()
    assert callback() is None
    (again,) = lent
    again[:] = b"\0\0\0\1x"
    assert decoder.buffer_updated(5) == [b"x"]
    assert decoder.buffered_size == 0


def test_what_runs_when_reset_drops_an_error_meets_a_whole_decoder(core: ModuleType) -> None:
    class Last:
        def __del__(self) -> None:
            seen.append(decoder.feed(b"\0\0\0\1x\0"))

    def fail() -> None:
        last = Last()
        with pytest.raises(FrameTooLarge):
            decoder.feed(b"\xff" * 4)
        assert last

    seen: list[list[bytes]] = []
    decoder = core.Decoder("u32be")
    fail()
    decoder.reset()
    gc.collect()
    assert all(payloads == [b"x"] for payloads in seen)
    assert decoder.buffered_size == len(seen)


def test_a_window_may_be_released_by_its_user(core: ModuleType) -> None:
    decoder = core.Decoder("u8")
    with decoder.get_buffer(2) as window:
        window[:] = b"\1x"
    assert decoder.buffer_updated(2) == [b"x"]


def test_a_subclass_of_a_format_is_no_format_that_the_cores_know(core: ModuleType) -> None:
    class Mine(LengthField):
        pass

    for kind in (core.Decoder, core.Encoder):
        for spec in (Mine(4), Spec()):
            with pytest.raises(TypeError, match=r"not (Mine|Spec)"):
                kind(spec)


def test_a_delimiter_that_is_a_subclass_of_bytes_is_taken_for_its_bytes(core: ModuleType) -> None:
    class Mine(bytes):
        pass

    assert core.Decoder(Delimited(Mine(b"x"))).feed(b"1x2x") == [b"1", b"2"]


def test_an_encoder_does_not_call_what_a_subclass_overrides(core: ModuleType) -> None:
    class Mine(core.Encoder):  # type: ignore[misc, name-defined]
        def encode(self, payload: bytes, /) -> bytes:
            raise AssertionError

    assert Mine("u8").encode_many([b"a", bytearray(b"b")]) == b"\1a\1b"
    assert Mine("u8").encode_many(iter([b"a", bytearray(b"b")])) == b"\1a\1b"


def test_what_was_made_is_not_made_again(core: ModuleType) -> None:
    for made in (core.Decoder("u8"), core.Encoder("u8")):
        with pytest.raises(RuntimeError, match="made once"):
            made.__init__("u16be")
