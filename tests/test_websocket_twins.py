"""The two WebSocket codecs against each other: the same calls, over arbitrary bytes, must come to the same."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from itertools import count
from types import ModuleType
from typing import Any

import pytest
from conftest import EXAMPLES
from harness import fields
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import chunkings
from test_twins import BUFFERS, HINTS, NUMBERS, ODD
from websocket_vectors import (
    ALONE,
    BINARY,
    CLOSE,
    DEFLATE,
    FIN,
    GOOD,
    HELLO,
    KEY,
    MORE,
    POEM,
    ROLES,
    RSV1,
    TEXT,
    announce,
    frame,
    joined,
    naive_mask,
    peer,
    run,
)

from framewire import FramingError, _websocket_py
from framewire._websocket_py import Deflate
from framewire.errors import PayloadError

CORES = [importlib.import_module("framewire._core_c"), _websocket_py]

KIB = 1024
DEFLATES = [None, DEFLATE, ALONE, Deflate(server_max_window_bits=9, client_max_window_bits=8)]
KINDS = ["MessageDecoder", "MessageEncoder"]


def told(call: Callable[[], Any]) -> Any:
    """What a call came to, in a form that can be compared: its result, or its error with all that it says."""
    try:
        return call()
    except FramingError as error:
        return fields(error), error.head, error.looks_like, str(error)
    except (TypeError, BufferError) as error:
        return type(error)  # the interpreter words these
    except Exception as error:
        return type(error), str(error)


class Player:
    """Plays one sequence of operations on a decoder of one core, and writes down what came of each."""

    def __init__(self, core: ModuleType, role: str, options: dict[str, Any]) -> None:
        self.decoder = core.MessageDecoder(role, **options)
        self.window: memoryview | None = None
        self.kept: list[memoryview] = []
        self.messages: list[tuple[Any, str]] = []

    def play(self, operation: tuple[Any, ...]) -> Any:
        name, *arguments = operation
        result = told(lambda: getattr(self, name)(*arguments))
        if isinstance(result, list):
            self.messages += [(message, repr(message)) for message in result]
        decoder, error = self.decoder, self.decoder.error
        return (
            result,
            [type(one) for one in result] if isinstance(result, list) else None,
            (decoder.buffered_size, decoder.needed_size, decoder.closed),
            fields(error),
            None if error is None else (str(error), error.args),
        )

    def feed(self, chunk: bytes, kind: str) -> Any:
        return self.decoder.feed(BUFFERS[kind](chunk))

    def get_buffer(self, hint: Any) -> int:
        """Borrow, and do not give back."""
        self.window = self.decoder.get_buffer(hint)
        return len(self.window)

    def buffer_updated(self, n: Any) -> Any:
        if self.window is not None and isinstance(n, int) and n >= 0:
            told(lambda: self.window.__setitem__(slice(0, n), b"5" * min(n, len(self.window))))  # never what was there
        return self.decoder.buffer_updated(n)

    def receive(self, chunk: bytes, hint: int, part: int, keep: bool) -> Any:
        """As a driver does: borrow, fill at most `part`, give back; until the chunk is used up."""
        messages: list[Any] = []
        while chunk:
            window = self.decoder.get_buffer(hint)
            n = min(len(window), len(chunk), part)
            window[:n] = chunk[:n]
            if keep:
                self.kept.append(window[:])
            try:
                messages += self.decoder.buffer_updated(n)
            except FramingError:
                if not messages:
                    raise
            chunk = chunk[n:]
            if self.decoder.error is not None:
                break
        return messages

    def touch(self) -> Any:
        """Write to every window that was kept, once its frame is out; a window itself has been released."""
        if self.decoder.buffered_size == 0:
            for view in self.kept:
                view[:] = b"!" * len(view)
        assert all(repr(message) == copy for message, copy in self.messages)
        return None if self.window is None else told(lambda: self.window[:0].nbytes)

    def forget(self) -> None:
        self.kept.clear()

    def feed_eof(self) -> Any:
        return self.decoder.feed_eof()

    def reset(self) -> None:
        return self.decoder.reset()

    def show(self) -> Any:
        return repr(self.decoder), self.decoder.role, self.decoder.max_size, self.decoder.max_frame_size


OTHERS = st.sampled_from(["touch", "touch", "forget", "feed_eof", "reset", "show"]).map(lambda name: (name,))
PARTS = st.sampled_from([1, 3, 10**9])


def operations(chunk: st.SearchStrategy[bytes]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.one_of(
        st.tuples(st.just("feed"), chunk, ODD),
        st.tuples(st.just("receive"), chunk, HINTS, PARTS, st.booleans()),
        st.tuples(st.just("get_buffer"), NUMBERS),
        st.tuples(st.just("buffer_updated"), NUMBERS),
        OTHERS,
    )


TEXTS = st.sampled_from(
    [b"", b"a", b"Hello", POEM.encode(), b"\xc3", b"\xa9", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"a\xff"]
)
DEFLATED = st.sampled_from(
    [HELLO, b"\0", b"", HELLO[:3], HELLO[3:], b"\xf2\0\x11\0\0", b"\xf3\x48\xcd\xc9\xc9\x07\0", b"\3\0\3\0", b"\7"]
)
PAYLOADS = st.one_of(TEXTS, DEFLATED, st.binary(max_size=20), st.sampled_from([125, 126, 127, 300]).map(bytes))
SIZES = [0, 1, 125, 126, 127, 300, 301, 65_535, 65_536, 2**31, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


@st.composite
def likely(draw: st.DrawFn, role: str) -> bytes:
    """A piece of a stream that takes a decoder somewhere: a frame, most often one that is allowed."""
    kind = draw(st.integers(0, 9))
    key = draw(st.sampled_from([KEY, bytes(4), b"\x80\xff\0\1"]))
    if kind == 0:
        return draw(st.binary(max_size=6))
    if kind == 1:
        width = draw(st.sampled_from([None, 8]))
        return announce(
            role, draw(st.sampled_from([0x81, 0x82, 0x02, 0x89])), draw(st.sampled_from(SIZES)), width=width
        )
    if kind == 2:
        return frame(
            role, FIN | CLOSE, draw(st.sampled_from([b"", b"\x03", b"\x03\xe8ok", b"\x03\xed", b"\x03\xe8\xff"]))
        )
    if kind == 3:
        return frame(role, draw(st.sampled_from([FIN | 9, FIN | 10])), draw(st.binary(max_size=5)), key=key)
    firsts = [FIN | TEXT, FIN | BINARY, TEXT, BINARY, MORE, MORE, FIN, FIN, FIN | RSV1 | TEXT, RSV1 | BINARY]
    first = draw(st.sampled_from(firsts) if kind < 9 else st.integers(0, 255))
    width = draw(st.sampled_from([None] * 9 + [2, 8]))
    whole = frame(role, first, draw(PAYLOADS), width=width, key=key)
    if kind == 4:
        cut = draw(st.integers(0, len(whole)))
        return whole[:cut] + draw(st.binary(max_size=2)) + whole[cut:]
    return whole


@st.composite
def written(draw: st.DrawFn, role: str, deflate: Deflate | None) -> bytes:
    """What an encoder writes, perhaps with some bytes of it changed."""
    encoder = _websocket_py.MessageEncoder(
        peer(role), deflate=deflate, mask_key=(lambda: KEY) if role == "server" else None
    )
    stream = bytearray()
    message = st.one_of(st.sampled_from(["", "Hello", POEM, POEM * 9]), st.binary(max_size=30))
    for one in draw(st.lists(message, max_size=4)):
        stream += encoder.encode(one, compress=draw(st.booleans()))
        parts = draw(st.sampled_from([[], [one], [one, one], [one[:1], one[1:], one[:0]]]))
        for i, part in enumerate(parts, 1):
            stream += encoder.encode_part(part, final=i == len(parts))
            stream += encoder.ping(b"?") if draw(st.booleans()) else b""
    for at, byte in draw(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=2)):
        if stream:
            stream[at % len(stream)] = byte
    return bytes(stream)


def streams(role: str, deflate: Deflate | None) -> st.SearchStrategy[bytes]:
    return st.one_of(st.lists(likely(role), max_size=8).map(b"".join), written(role, deflate))


@st.composite
def decoders(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A role, and options."""
    options = {
        "max_size": draw(st.sampled_from([300, 300, 30, 0, None])),
        "max_frame_size": draw(st.sampled_from([None, None, 126, 10])),
        "deflate": draw(st.sampled_from(DEFLATES)),
        "parts": draw(st.booleans()),
        "long_lengths": draw(st.booleans()),
    }
    return draw(st.sampled_from(ROLES)), options


def compare(role: str, options: dict[str, Any], script: list[tuple[Any, ...]]) -> None:
    players = [Player(core, role, options) for core in CORES]
    for step, operation in enumerate([*script, ("touch",)]):
        left, right = (player.play(operation) for player in players)
        assert left == right, f"step {step}: {operation!r:.500}"


@settings(max_examples=300 * EXAMPLES)
@given(st.data())
def test_any_operations_over_any_bytes_come_to_the_same(data: st.DataObject) -> None:
    role, options = data.draw(decoders(), label="decoder")
    script = data.draw(st.lists(operations(streams(role, options["deflate"])), max_size=12), label="script")
    compare(role, options, script)


@settings(max_examples=300 * EXAMPLES)
@given(st.data())
def test_one_stream_in_any_pieces_by_any_ways_comes_to_the_same(data: st.DataObject) -> None:
    """Operations on arbitrary bytes seldom finish a frame; here the pieces belong together."""
    role, options = data.draw(decoders(), label="decoder")
    chunks = data.draw(chunkings(data.draw(streams(role, options["deflate"]))), label="chunks")
    script = [data.draw(operations(st.just(chunk))) for chunk in chunks]
    compare(role, options, [*script, ("feed_eof",), ("feed_eof",), ("reset",)])


def without_reason(one: Any, options: dict[str, Any]) -> Any:
    """What a run came to; zlib keeps the text to itself that stands before the damage in what it was given."""
    if options["deflate"] is None or one.error is None or one.error[0] is not PayloadError:
        return one
    kind, *fields = one.error
    return one._replace(error=(kind, *((name, value) for name, value in fields if name != "reason")))


@settings(max_examples=200 * EXAMPLES)
@given(st.data())
def test_chunking_never_matters_for_any_bytes(data: st.DataObject) -> None:
    role, options = data.draw(decoders(), label="decoder")
    stream = data.draw(streams(role, options["deflate"]), label="stream")
    chunks = data.draw(chunkings(stream))
    for core in CORES:
        whole, cut, bytewise = (
            run(core.MessageDecoder(role, **options), pieces, eof=True)
            for pieces in ([stream], chunks, [stream[i : i + 1] for i in range(len(stream))])
        )
        for one in (cut, bytewise):
            assert without_reason(one, options)[1:] == without_reason(whole, options)[1:]
            # What has come of a message that is not over may have come in other parts, or not yet.
            left, right = ([m for m in joined(run.messages) if not isinstance(m, list)] for run in (one, whole))
            assert left == right


def test_a_frame_that_is_damaged_and_no_text_either_is_refused_wherever_it_is_cut() -> None:
    stream = b"A\x877\xfa!=\xc5\xfa!=7\x05\xde\x00\x8a7\xfa\x00=}7\xe8\xf40\xfa!=\xc8\x05"  # a text in two frames
    for core in CORES:
        for size in range(1, len(stream) + 1):
            pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
            found = run(core.MessageDecoder("server", deflate=Deflate()), pieces, eof=True)
            assert found.error is not None
            assert found.error[0] is PayloadError, size


LARGE = st.sampled_from([64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 100_000, 131_072, 300_000])


def large_operations(chunk: bytes) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """What feeds this chunk, and perhaps something between."""
    feed = st.tuples(st.just("feed"), st.just(chunk), st.sampled_from(["bytes", "bytearray", "memoryview"]))
    hints, parts = st.sampled_from([-1, 10_000, 10**6]), st.sampled_from([9_999, 10**9])
    receive = st.tuples(st.just("receive"), st.just(chunk), hints, parts, st.booleans())
    borrow = st.tuples(st.just("get_buffer"), st.sampled_from([-1, 0, 10, 10**6]))
    update = st.tuples(st.just("buffer_updated"), st.sampled_from([0, 1, 10, 10**7]))
    return st.one_of(
        st.one_of(feed, receive).map(lambda one: [one, ("touch",)]), st.tuples(borrow, update, feed).map(list)
    )


@settings(max_examples=60 * EXAMPLES)
@given(st.data())
def test_large_frames_in_any_pieces_by_any_ways_come_to_the_same(data: st.DataObject) -> None:
    """Over 64 KiB the window is over the payload itself, and memory grows and is given back."""
    role = data.draw(st.sampled_from(ROLES))
    stream = b""
    for size in data.draw(st.lists(LARGE, min_size=1, max_size=2)):
        kind, unit = data.draw(st.sampled_from([(BINARY, bytes(range(256))), (TEXT, b"a"), (TEXT, "é".encode())]))
        body = bytearray((unit * size)[:size])
        if data.draw(st.booleans()):
            body[data.draw(st.sampled_from([0, size // 2, size - 1]))] = 0xFF
        if data.draw(st.booleans()):
            stream += frame(role, FIN | kind, bytes(body))
        else:
            stream += frame(role, kind, bytes(body)) + frame(role, FIN | 9) + frame(role, FIN, bytes(body[:100]))
    script = [one for chunk in data.draw(chunkings(stream)) for one in data.draw(large_operations(chunk))]
    options = {"max_size": data.draw(st.sampled_from([10**6, 70_000, None])), "parts": data.draw(st.booleans())}
    compare(role, options, [*script, ("feed_eof",)])


@settings(max_examples=200 * EXAMPLES)
@given(st.data())
def test_constructors_come_to_the_same(data: st.DataObject) -> None:
    role = data.draw(st.sampled_from([*ROLES, *ROLES, "x", None, 5, b"client", []]))
    limits = st.sampled_from([None, -1, 0, 1, 300, 2**62 - 1, 2**62, 2**63 - 1, 2**63, 2**64, 1.5, True, "5"])
    shared = {"max_size": data.draw(limits), "deflate": data.draw(st.sampled_from([*DEFLATES, True, "x", Deflate]))}
    options = {
        "MessageDecoder": {"max_frame_size": data.draw(limits), "parts": data.draw(st.sampled_from([0, 1, "x", None]))},
        "MessageEncoder": {"mask_key": data.draw(st.sampled_from([None, bytes, b"abcd", 5]))},
    }
    for kind in KINDS:
        made = [getattr(core, kind) for core in CORES]
        left, right = (told(lambda one=one, o=options[kind]: repr(one(role, **shared, **o))) for one in made)
        assert left == right


MESSAGES = st.one_of(
    st.sampled_from(["", "a", "Hello", POEM, "\ud800", "é" * 63, "x" * 125, "x" * 126, "x" * 70_000]),
    st.tuples(st.one_of(st.binary(max_size=20), st.sampled_from([125, 126, 300, 70_000]).map(bytes)), ODD),
)
WRITES = st.one_of(
    st.tuples(st.just("encode"), MESSAGES, st.booleans()),
    st.tuples(st.just("encode_parts"), MESSAGES, st.booleans()),
    st.tuples(st.just("encode_many"), st.lists(MESSAGES, max_size=4), st.booleans(), st.booleans()),
    st.tuples(st.just("encode_part"), MESSAGES, st.booleans()),
    st.tuples(st.sampled_from(["ping", "pong"]), MESSAGES),
    st.tuples(st.just("close"), st.sampled_from([1000, 1005, 1006, 4999, 0, -1, None, "1"]), MESSAGES),
)


class Writer:
    """Plays one sequence of operations on an encoder of one core."""

    def __init__(self, core: ModuleType, role: str, options: dict[str, Any], fails: int) -> None:
        self.keys = count()
        self.fails = fails
        mask_key = self.key if role == "client" else None
        self.encoder = core.MessageEncoder(role, mask_key=mask_key, **options)

    def key(self) -> Any:
        """Each of them another; some are none."""
        number = next(self.keys)
        if self.fails and number % self.fails == self.fails - 1:
            if number % 2:
                raise LookupError(number)
            return b"bad"
        return number.to_bytes(4, "big")

    def play(self, operation: tuple[Any, ...]) -> Any:
        name, what, *flags = operation
        if name == "encode_many":
            objects = [self.made(one) for one in what]
            messages = iter(objects) if flags[1] else objects
            return told(lambda: self.encoder.encode_many(messages, compress=flags[0]))
        if name == "close":
            return told(lambda: self.encoder.close(what, flags[0] if isinstance(flags[0], str) else "why"))
        message = self.made(what)
        options = {"encode_part": "final", "encode": "compress", "encode_parts": "compress"}
        given = {options[name]: flags[0]} if flags else {}
        result = told(lambda: getattr(self.encoder, name)(message, **given))
        if name == "encode_parts" and isinstance(result, tuple) and not isinstance(result[0], (type, tuple)):
            return ["itself" if part is message else bytes(part) for part in result]
        return result

    @staticmethod
    def made(message: Any) -> Any:
        return message if isinstance(message, str) else BUFFERS[message[1]](message[0])


@settings(max_examples=300 * EXAMPLES)
@given(st.data())
def test_encoders_come_to_the_same(data: st.DataObject) -> None:
    role = data.draw(st.sampled_from(ROLES), label="role")
    options = {
        "max_size": data.draw(st.sampled_from([None, 10, 300, 65_536])),
        "deflate": data.draw(st.sampled_from(DEFLATES)),
    }
    fails = data.draw(st.sampled_from([0, 0, 2, 3, 5]))
    writers = [Writer(core, role, options, fails) for core in CORES]
    for step, operation in enumerate(data.draw(st.lists(WRITES, max_size=10), label="script")):
        left, right = (writer.play(operation) for writer in writers)
        assert left == right, f"step {step}: {operation!r:.500}"
    assert next(writers[0].keys) == next(writers[1].keys)


@settings(max_examples=200 * EXAMPLES)
@given(st.data())
def test_what_one_writes_the_other_reads(data: st.DataObject) -> None:
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
    messages = data.draw(st.lists(text | st.binary(max_size=300), max_size=6))
    role, deflate = data.draw(st.sampled_from(ROLES)), data.draw(st.sampled_from(DEFLATES))
    for writer, reader in (CORES, CORES[::-1]):
        encoder = writer.MessageEncoder(role, deflate=deflate)
        stream = encoder.encode_many(messages) + b"".join(map(encoder.encode, messages))
        assert reader.MessageDecoder(peer(role), deflate=deflate).feed(stream) == 2 * messages


@settings(max_examples=200 * EXAMPLES)
@given(st.data())
def test_masks_come_to_the_same(data: st.DataObject) -> None:
    chunk, kind = data.draw(st.binary(max_size=600)), data.draw(ODD)
    key = data.draw(st.sampled_from([KEY, bytearray(KEY), b"", b"abc", "abcd", None, memoryview(b"abcdabcd")[::2]]))
    offset = data.draw(NUMBERS | st.integers(0, 9))
    results = [told(lambda core=core: core.mask(BUFFERS[kind](chunk), key, offset)) for core in CORES]
    assert results[0] == results[1]
    if isinstance(results[0], bytes) and kind == "bytes":
        assert results[0] == naive_mask(chunk, bytes(key), offset % 4)


@pytest.mark.parametrize("vector", GOOD, ids=[vector.name for vector in GOOD])
@pytest.mark.parametrize("role", ROLES)
def test_every_changed_byte_comes_to_the_same(vector: Any, role: str) -> None:
    stream = vector.stream(role)
    for at in range(min(len(stream), 60)):
        for byte in {0, 1, 0x7E, 0x7F, 0x80, 0xFE, 0xFF, stream[at] ^ 0x80, stream[at] ^ 0x40, stream[at] ^ 8}:
            changed = stream[:at] + bytes([byte]) + stream[at + 1 :]
            results = []
            for core in CORES:
                decoder = core.MessageDecoder(role, **vector.options)
                results.append((run(decoder, [changed], eof=True), str(decoder.error)))
            assert results[0] == results[1], (at, byte)


@pytest.mark.parametrize("kind", KINDS)
def test_both_have_the_same_public_names(kind: str) -> None:
    compiled, pure = ({name for name in dir(getattr(core, kind)) if name[0] != "_"} for core in CORES)
    assert compiled == pure
    assert compiled


def members(kind: str) -> list[str]:
    return [f"{kind}.{name}" for name in dir(getattr(_websocket_py, kind)) if not name.startswith("_")]


def parameters(thing: Any) -> list[Any]:
    return [(one.name, one.kind, one.default) for one in inspect.signature(thing).parameters.values()]


@pytest.mark.parametrize("path", [*members("MessageDecoder"), *members("MessageEncoder")])
def test_both_have_the_same_signatures_and_say_the_same(path: str) -> None:
    kind, name = path.split(".")
    compiled, pure = (inspect.getattr_static(getattr(core, kind), name) for core in CORES)
    assert callable(compiled) == callable(pure)
    assert inspect.getdoc(compiled) == inspect.getdoc(pure) is not None
    if callable(pure):
        assert parameters(compiled)[1:] == parameters(pure)[1:]


@pytest.mark.parametrize("name", [*KINDS, "mask"])
def test_both_go_by_the_same_name_and_say_the_same(name: str) -> None:
    compiled, pure = (getattr(core, name) for core in CORES)
    assert compiled.__name__ == pure.__name__ == compiled.__qualname__ == name
    assert (compiled.__module__, pure.__module__) == ("framewire._core_c", "framewire._websocket_py")
    assert inspect.getdoc(compiled) == inspect.getdoc(pure) is not None


def test_both_masks_have_the_same_signature() -> None:
    assert parameters(CORES[0].mask) == parameters(CORES[1].mask)
