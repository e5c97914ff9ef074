"""The two cores against each other: the same calls, over arbitrary bytes, must come to the same."""

from __future__ import annotations

import importlib
import inspect
from array import array
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from conftest import EXAMPLES
from harness import fields
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import EDGES, MAX_SIZE, chunkings, payloads_of, specs, streams
from vectors import announce, trailer

from framewire import FramingError, LengthField, Netstring, Spec, _core_py

_core_c = importlib.import_module("framewire._core_c")
CORES = [_core_c, _core_py]

KIB = 1024


def told(call: Callable[[], Any]) -> Any:
    """What a call came to, in a form that can be compared: its result, or its error with all that it says."""
    try:
        result = call()
    except FramingError as error:
        return fields(error), error.head, error.looks_like, str(error)
    except (TypeError, BufferError) as error:
        return type(error)  # the interpreter words these
    except Exception as error:
        return type(error), str(error)
    if isinstance(result, list):
        assert all(type(item) is bytes for item in result)
    return result


class Bytes(bytes):
    pass


BUFFERS: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "a subclass": Bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "a slice of a view": lambda data: memoryview(b"?" + data + b"?")[1:-1],
    "array of shorts": lambda data: array("h", data + bytes(len(data) % 2)),
    "in two dimensions": lambda data: memoryview(data + bytes(2 - len(data) % 2)).cast("B", (2, len(data) // 2 + 1)),
    "with gaps": lambda data: memoryview(data + b"??")[::2],
    "backwards": lambda data: memoryview(data + b"??")[::-1],
    "text": lambda data: data.decode("latin-1"),
    "None": lambda data: None,
}
ODD = st.sampled_from(["bytes"] * 6 + list(BUFFERS))
NUMBERS = st.sampled_from(
    [
        -(2**70),
        -(2**63),
        -2,
        -1,
        0,
        1,
        2,
        3,
        5,
        100,
        65_536,
        65_537,
        10**6,
        2**31,
        2**63,
        2**64,
        2**70,
        None,
        "1",
        1.0,
        True,
    ]
)


class Player:
    """Plays one sequence of operations on a decoder of one core, and writes down what came of each."""

    def __init__(self, core: ModuleType, spec: Spec, max_size: int | None) -> None:
        self.decoder = core.Decoder(spec, max_size=max_size)
        self.window: memoryview | None = None
        self.kept: list[memoryview] = []
        self.payloads: list[tuple[Any, Any]] = []

    def play(self, operation: tuple[Any, ...]) -> Any:
        name, *arguments = operation
        result = told(lambda: getattr(self, name)(*arguments))
        if name in ("feed", "receive", "feed_eof", "buffer_updated") and isinstance(result, list):
            self.payloads += [(payload, bytearray(payload)) for payload in result]
        error = self.decoder.error
        return (
            result,
            self.decoder.buffered_size,
            self.decoder.needed_size,
            fields(error),
            None if error is None else (str(error), error.args),
        )

    def feed(self, chunk: bytes, kind: str) -> list[bytes]:
        return self.decoder.feed(BUFFERS[kind](chunk))

    def feed_spans(self, chunk: bytes, kind: str, look: int) -> Any:
        """Look at the spans in one order or another: some looks join them, which must not show."""
        spans = self.decoder.feed_spans(BUFFERS[kind](chunk))
        looks: list[Callable[[], Any]] = [
            lambda: spans.tolist(),
            lambda: [bytes(span) for span in spans],
            lambda: [bytes(spans[i]) for i in range(-len(spans), len(spans))],
            lambda: (list(spans.offsets), list(spans.lengths), bytes(spans.data)),
            lambda: (list(spans.lengths), spans.tolist()),
            lambda: spans[::2].tolist() + spans[::-1].tolist() + spans[1:].tolist(),
            lambda: (repr(spans), len(spans), bool(spans)),
            lambda: told(lambda: spans[len(spans)]) == told(lambda: spans[-len(spans) - 1]),
            lambda: [spans[i].readonly for i in range(len(spans))],
        ]
        return len(spans), [one() for one in looks[look:] + looks[:look]]

    def get_buffer(self, hint: Any) -> int:
        """Borrow, and do not give back."""
        self.window = self.decoder.get_buffer(hint)
        return len(self.window)

    def buffer_updated(self, n: Any) -> list[bytes]:
        if self.window is not None and isinstance(n, int) and n >= 0:
            told(lambda: self.window.__setitem__(slice(0, n), b"5" * min(n, len(self.window))))  # never what was there
        return self.decoder.buffer_updated(n)

    def receive(self, chunk: bytes, hint: int, part: int, keep: bool) -> list[bytes]:
        """As a driver does: borrow, fill at most `part`, give back; until the chunk is used up."""
        payloads: list[bytes] = []
        while chunk:
            window = self.decoder.get_buffer(hint)
            n = min(len(window), len(chunk), part)
            window[:n] = chunk[:n]
            if keep:
                self.kept.append(window[:])
            try:
                payloads += self.decoder.buffer_updated(n)
            except FramingError:
                if not payloads:
                    raise
            chunk = chunk[n:]
            if self.decoder.error is not None:
                break
        return payloads

    def touch(self) -> Any:
        """Write to every window that was kept, once its frame is out; a window itself has been released."""
        if self.decoder.buffered_size == 0:
            for view in self.kept:
                view[:] = b"!" * len(view)
        assert all(payload == copy for payload, copy in self.payloads)
        return None if self.window is None else told(lambda: self.window[:0].nbytes)

    def forget(self) -> None:
        self.kept.clear()

    def feed_eof(self) -> list[bytes]:
        return self.decoder.feed_eof()

    def reset(self) -> None:
        return self.decoder.reset()

    def show(self) -> tuple[str, Any, Any]:
        return repr(self.decoder), self.decoder.spec, self.decoder.max_size


HINTS = st.sampled_from([-1, 0, 1, 2, 3, 7, 64 * KIB, 10**6])
PARTS = st.sampled_from([1, 3, 10**9])
OTHERS = st.sampled_from(["touch", "touch", "forget", "feed_eof", "reset", "show"]).map(lambda name: (name,))


def operations(chunk: st.SearchStrategy[bytes]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.one_of(
        st.tuples(st.just("feed"), chunk, ODD),
        st.tuples(st.just("feed_spans"), chunk, ODD, st.integers(0, 8)),
        st.tuples(st.just("receive"), chunk, HINTS, PARTS, st.booleans()),
        st.tuples(st.just("get_buffer"), NUMBERS),
        st.tuples(st.just("buffer_updated"), NUMBERS),
        OTHERS,
    )


def compare(spec: Spec, max_size: int | None, script: list[tuple[Any, ...]]) -> None:
    players = [Player(core, spec, max_size) for core in CORES]
    for step, operation in enumerate(script):
        left, right = (player.play(operation) for player in players)
        assert left == right, f"step {step}: {operation!r:.500}"
    left, right = (player.play(("touch",)) for player in players)
    assert left == right


@settings(max_examples=300 * EXAMPLES)
@given(st.data())
def test_any_operations_over_any_bytes_come_to_the_same(data: st.DataObject) -> None:
    spec = data.draw(specs(), label="spec")
    max_size = data.draw(st.sampled_from([MAX_SIZE, MAX_SIZE, 20, 26, None]), label="max_size")
    script = data.draw(st.lists(operations(streams(spec)), max_size=12), label="script")
    compare(spec, max_size, script)


@settings(max_examples=200 * EXAMPLES)
@given(st.data())
def test_one_stream_in_any_pieces_by_any_ways_comes_to_the_same(data: st.DataObject) -> None:
    """Operations on arbitrary bytes seldom finish a frame; here the pieces belong together."""
    spec = data.draw(specs(), label="spec")
    max_size = data.draw(st.sampled_from([MAX_SIZE, 30, None]), label="max_size")
    chunks = data.draw(chunkings(data.draw(streams(spec))), label="chunks")
    script = [data.draw(operations(st.just(chunk))) for chunk in chunks]
    compare(spec, max_size, [*script, ("feed_eof",), ("feed_eof",), ("reset",)])


LARGE = [LengthField(4), LengthField(4, strip=0), LengthField(3, "little", adjust=-3, strip=9), Netstring()]
SIZES = st.sampled_from([64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 100_000, 131_072, 300_000])


def large_operations(chunk: bytes) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """What feeds this chunk, and perhaps something between."""
    feed = st.tuples(st.just("feed"), st.just(chunk), st.sampled_from(["bytes", "bytearray", "memoryview"]))
    spans = st.tuples(st.just("feed_spans"), st.just(chunk), st.just("bytes"), st.integers(0, 8))
    hints, parts = st.sampled_from([-1, 10_000, 10**6]), st.sampled_from([9_999, 10**9])
    receive = st.tuples(st.just("receive"), st.just(chunk), hints, parts, st.booleans())
    borrow = st.tuples(st.just("get_buffer"), st.sampled_from([-1, 0, 10, 10**6]))
    update = st.tuples(st.just("buffer_updated"), st.sampled_from([0, 1, 10, 10**7]))
    return st.one_of(
        st.one_of(feed, spans, receive).map(lambda one: [one, ("touch",)]),
        st.tuples(borrow, update, feed).map(list),
    )


@settings(max_examples=60 * EXAMPLES)
@given(st.data())
def test_large_frames_in_any_pieces_by_any_ways_come_to_the_same(data: st.DataObject) -> None:
    """Over 64 KiB the window is over the payload itself, and memory grows and is given back."""
    spec = data.draw(st.sampled_from(LARGE))
    stream = b""
    for size in data.draw(st.lists(SIZES, min_size=1, max_size=2)):
        body = bytes(range(256)) * (size // 256 + 1)
        stream += announce(spec, size) + body[:size] + trailer(spec)
    script = [one for chunk in data.draw(chunkings(stream)) for one in data.draw(large_operations(chunk))]
    compare(spec, data.draw(st.sampled_from([10**6, 70_000, None])), [*script, ("feed_eof",)])


@settings(max_examples=200 * EXAMPLES)
@given(specs(), st.data())
def test_constructors_come_to_the_same(spec: Spec, data: st.DataObject) -> None:
    argument = data.draw(st.sampled_from([spec, spec.name, spec.name + "x", None, 5]))
    max_size = data.draw(st.sampled_from([None, -1, 0, 1, 5, MAX_SIZE, 2**63 - 1, 2**63, 2**64, 1.5, True, "5"]))
    for kind in ("Decoder", "Encoder"):
        made = [
            told(lambda core=core, kind=kind: repr(getattr(core, kind)(argument, max_size=max_size))) for core in CORES
        ]
        assert made[0] == made[1]


@settings(max_examples=200 * EXAMPLES)
@given(st.data())
def test_encoders_come_to_the_same(data: st.DataObject) -> None:
    spec = data.draw(specs(writable=True), label="spec")
    sizes = st.sampled_from([size for size in EDGES if size <= 70_000])
    payload = st.one_of(payloads_of(spec), payloads_of(spec), sizes.map(bytes))
    payloads = data.draw(st.lists(st.tuples(payload, ODD), max_size=5), label="payloads")
    max_size = data.draw(st.sampled_from([None, 10, MAX_SIZE, 65_536]), label="max_size")
    room_size, offset = data.draw(st.sampled_from([0, 5, 40, 400])), data.draw(NUMBERS)
    results = []
    for core in CORES:
        encoder = told(lambda core=core: core.Encoder(spec, max_size=max_size))
        if isinstance(encoder, tuple):
            results.append([encoder])
            continue
        objects = [BUFFERS[kind](payload) for payload, kind in payloads]
        room = bytearray(b"?" * room_size)
        result: list[Any] = [repr(encoder), told(lambda e=encoder, o=objects: e.encode_many(o))]
        result.append(told(lambda e=encoder, o=objects: e.encode_many(iter(o))))
        for one in objects:
            result.append(told(lambda e=encoder, o=one: e.encode(o)))
            parts = told(lambda e=encoder, o=one: e.encode_parts(o))
            if type(parts) is tuple and all(not isinstance(part, type) for part in parts):
                parts = ["itself" if part is one else part for part in parts]
            result.append(parts)
            result.append(told(lambda e=encoder, o=one, r=room: e.encode_into(o, r, offset)))
            result.append(told(lambda e=encoder, o=one, r=room: e.encode_into(o, r)))
            result.append(told(lambda e=encoder, o=one, r=room: e.encode_into(o, bytes(r))))
            result.append(bytes(room))
        results.append(result)
    assert results[0] == results[1]


@settings(max_examples=200 * EXAMPLES)
@given(st.data())
def test_what_one_writes_the_other_reads(data: st.DataObject) -> None:
    spec = data.draw(specs(writable=True))
    payloads = data.draw(st.lists(payloads_of(spec), max_size=5))
    for writer, reader in (CORES, CORES[::-1]):
        stream = told(lambda writer=writer: writer.Encoder(spec).encode_many(payloads))
        if isinstance(stream, bytes):
            assert reader.Decoder(spec).feed(stream) == payloads


@pytest.mark.parametrize("kind", ["Decoder", "Encoder", "Spans"])
def test_both_have_the_same_public_names(kind: str) -> None:
    compiled, pure = ({name for name in dir(getattr(core, kind)) if name[0] != "_"} for core in CORES)
    assert compiled == pure
    assert compiled


def members(kind: str) -> list[str]:
    return [f"{kind}.{name}" for name in dir(getattr(_core_py, kind)) if not name.startswith("_")]


@pytest.mark.parametrize("path", [*members("Decoder"), *members("Encoder"), *members("Spans")])
def test_both_have_the_same_signatures_and_say_the_same(path: str) -> None:
    kind, name = path.split(".")
    compiled, pure = (inspect.getattr_static(getattr(core, kind), name) for core in CORES)
    assert callable(compiled) == callable(pure)
    assert inspect.getdoc(compiled) == inspect.getdoc(pure) is not None
    if callable(pure):
        ours, theirs = (list(inspect.signature(one).parameters.values())[1:] for one in (compiled, pure))
        assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


@pytest.mark.parametrize("kind", ["Decoder", "Encoder", "Spans"])
def test_both_go_by_the_same_name_and_say_the_same(kind: str) -> None:
    compiled, pure = (getattr(core, kind) for core in CORES)
    assert compiled.__name__ == pure.__name__ == compiled.__qualname__ == kind
    assert (compiled.__module__, pure.__module__) == ("framewire._core_c", "framewire._core_py")
    assert inspect.getdoc(compiled) == inspect.getdoc(pure)
