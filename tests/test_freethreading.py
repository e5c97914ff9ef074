"""Threads at once: an object for each of them, and one that all of them share on purpose.

An object is for one thread at a time. Whoever breaks that rule gets a RuntimeError or what is right, and never a
payload that nobody sent: each payload here ends with its checksum. The tests hold with the interpreter's lock too, and
prove more on a free-threaded build. Sharing is tested on the compiled core; the pure one does not promise so much.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import random
import re
import select
import socket
import subprocess
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from types import ModuleType
from typing import Any

import pytest
from conftest import CORES, EXAMPLES, EXPECT
from harness import WAYS, split
from looping import LIMIT
from websocket_vectors import POEM, codec_of

import framewire
from framewire import Ascii, Delimited, FixedSize, HeaderError, LengthField, MultiprocessingPipe, Netstring, Varint
from framewire._websocket_py import Close, Deflate, Ping

THREADS = 8
REFUSED = re.compile("another thread|the stream has ended|made once|not initialised")
TURNS = 25 * EXAMPLES
PATIENCE = 10 * LIMIT
KIB = 1024

FORMATS = [
    Ascii(10),
    LengthField(4),
    LengthField(2, "little", offset=1, adjust=2),
    Varint(),
    Netstring(),
    MultiprocessingPipe(),
    Delimited(b"\r\n"),
    FixedSize(32),
]
by_format = pytest.mark.parametrize("spec", FORMATS, ids=lambda spec: spec.name)
free_threaded = pytest.mark.skipif(
    getattr(sys, "_is_gil_enabled", lambda: True)(), reason="the interpreter has its lock"
)


@pytest.fixture(autouse=True)
def many_switches() -> Iterator[None]:
    """With the lock: let it change hands as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    if "c" not in CORES:
        pytest.skip("needs the compiled core")
    return importlib.import_module("framewire._core_c")


def together(*works: Callable[[], Any]) -> list[Any]:
    """Run them at once, each in a thread of its own; return what they return, or raise what the first one raised."""
    results: list[Any] = [None] * len(works)
    raised: list[BaseException] = []
    start = threading.Barrier(len(works))

    def run(i: int, work: Callable[[], Any]) -> None:
        try:
            start.wait(PATIENCE)
            results[i] = work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "threads that wait for each other"
    for error in raised:
        raise error
    return results


def each(work: Callable[[int], Any], count: int = THREADS) -> list[Any]:
    """`together`, the same for each number."""
    return together(*(lambda i=i: work(i) for i in range(count)))


def sealed(content: bytes) -> bytes:
    return content + b"%08x" % zlib.crc32(content)


def is_sealed(payload: Any) -> bool:
    return sealed(bytes(payload[:-8])) == payload


def some_payloads(rand: random.Random, count: int, sizes: Iterable[int] = (0, 1, 9, 50, 200, 1000)) -> list[bytes]:
    """Payloads that every format but `FixedSize` can carry: digits, letters, and their checksum."""
    return [sealed(rand.choice([b"7", b"ab", b"xyz.,"]) * rand.choice([*sizes])) for _ in range(count)]


def payloads_for(spec: framewire.Spec, rand: random.Random, count: int) -> list[bytes]:
    if isinstance(spec, FixedSize):
        return [sealed(b"%0*d" % (spec.size - 8, rand.randrange(10**9))) for _ in range(count)]
    return some_payloads(rand, count, (0, 1, 9, 50, 200, 1000, 10_000))


def tried(call: Callable[[], Any]) -> Any:
    """What comes of it; None if it was refused because another thread was there."""
    try:
        return call()
    except RuntimeError as error:
        if not REFUSED.search(str(error)):
            raise
        return None


def insisted(call: Callable[[], Any]) -> Any:
    """What comes of it when it is not refused."""
    while (result := tried(call)) is None:
        pass
    return result


# One for each thread.


@by_format
def test_each_thread_has_a_decoder_and_an_encoder(core: ModuleType, spec: framewire.Spec) -> None:
    shared = core.Encoder(spec)  # it keeps nothing

    def work(i: int) -> None:
        rand = random.Random(i)
        own = core.Encoder(spec)
        for turn in range(2 * EXAMPLES):
            payloads = payloads_for(spec, rand, 20)
            encoder = shared if turn % 2 else own
            stream = encoder.encode_many(payloads)
            assert stream == b"".join(map(own.encode, payloads))
            assert stream == b"".join(b"".join(encoder.encode_parts(payload)) for payload in payloads)
            for way, give in WAYS.items():
                decoder = core.Decoder(spec)
                chunks = split(stream, rand.choice([17, 500, 100_000]))
                if way == "windows of 3":
                    chunks = split(stream[: stream.find(payloads[3])], 50)
                got = [payload for chunk in chunks for payload in give(decoder, chunk)]
                assert got == payloads[: len(got)]
                assert way == "windows of 3" or len(got) == len(payloads)

    each(work)


def test_each_thread_receives_large_payloads_where_they_stay(core: ModuleType) -> None:
    def work(i: int) -> None:
        rand = random.Random(i)
        encoder, decoder = core.Encoder("u32be"), core.Decoder("u32be")
        payloads = [sealed(rand.randbytes(rand.choice([100, 70 * KIB, 300 * KIB]))) for _ in range(12)]
        stream = encoder.encode_many(payloads)
        got: list[bytes] = []
        kept: list[memoryview] = []
        at = 0
        while at < len(stream):
            window = decoder.get_buffer()
            n = min(len(window), len(stream) - at, rand.choice([1000, 50_000, 500_000]))
            window[:n] = stream[at : at + n]
            if rand.random() < 0.2:
                kept.append(window[:n])  # which makes the memory stay, and the payload go elsewhere
            got += decoder.buffer_updated(n)
            for view in kept:
                view[:] = bytes(len(view))
            at += n
        assert got == payloads

    each(work)


@pytest.mark.parametrize("deflate", [None, Deflate()], ids=["plain", "deflate"])
@pytest.mark.parametrize("role", ["server", "client"])
def test_each_thread_has_a_websocket(core: ModuleType, role: str, deflate: Deflate | None) -> None:
    codec = codec_of(core)
    peer = "client" if role == "server" else "server"

    def work(i: int) -> None:
        rand = random.Random(i)
        encoder, decoder = codec.MessageEncoder(peer, deflate=deflate), codec.MessageDecoder(role, deflate=deflate)
        for _ in range(2 * EXAMPLES):
            messages: list[Any] = [
                rand.choice([POEM * 3, "plain text", bytes(300), rand.randbytes(40), "a" * 5000]) for _ in range(30)
            ]
            frames = encoder.encode_many(messages[:10])
            for message in messages[10:]:
                frames += encoder.encode(message)
            frames += encoder.ping(b"here") + encoder.encode_part("in ") + encoder.encode_part("two", final=True)
            got = [one for chunk in split(frames, rand.choice([100, 3000, 10**6])) for one in decoder.feed(chunk)]
            assert got == [*messages, Ping(b"here"), "in two"]
        assert decoder.feed(encoder.close(1000)) == [Close(1000, "")]

    each(work)


def test_a_decoder_may_go_from_thread_to_thread(core: ModuleType) -> None:
    """One at a time is all that is asked for: each call here comes from a thread of its own."""
    rand = random.Random(1)
    decoder, payloads = core.Decoder("u32be"), [sealed(rand.randbytes(n)) for n in (5, 200 * KIB, 0, 70 * KIB, 9000)]
    stream = core.Encoder("u32be").encode_many(payloads)
    got: list[bytes] = []

    def elsewhere(call: Callable[[], Any]) -> Any:
        return together(call)[0]

    at = 0
    while at < len(stream):
        if rand.random() < 0.3:
            n = min(1000, len(stream) - at)
            got += elsewhere(lambda at=at, n=n: decoder.feed(stream[at : at + n]))
        else:
            window = elsewhere(decoder.get_buffer)
            n = min(len(window), len(stream) - at, rand.choice([10_000, 100_000]))
            window[:n] = stream[at : at + n]
            got += elsewhere(lambda n=n: decoder.buffer_updated(n))
        at += n
    assert got == payloads


# One for all.


@by_format
def test_a_shared_decoder_gives_what_is_right_or_refuses(compiled: ModuleType, spec: framewire.Spec) -> None:
    """Each chunk is whole frames, so that any order of the chunks is a stream."""
    decoder, encoder = compiled.Decoder(spec), compiled.Encoder(spec)
    over = threading.Event()

    def feed(i: int) -> None:
        rand = random.Random(i)
        for _ in range(TURNS):
            payloads = payloads_for(spec, rand, rand.randrange(1, 6))
            chunk = encoder.encode_many(payloads)
            way = rand.randrange(3)
            if way == 0:
                got = insisted(lambda chunk=chunk: decoder.feed(chunk))
            elif way == 1:
                got = insisted(lambda chunk=chunk: decoder.feed(bytearray(chunk)))
            else:
                got = insisted(lambda chunk=chunk: decoder.feed_spans(chunk).tolist())
            assert got == payloads

    def disturb(i: int) -> None:
        rand = random.Random(i)
        while not over.is_set():
            tried(rand.choice([decoder.reset, decoder.feed_eof, decoder.get_buffer, lambda: decoder.feed(b"")]))
            with suppress(ValueError, RuntimeError):  # no window, or it has been taken back
                assert decoder.buffer_updated(0) == []
            assert decoder.error is None
            assert (decoder.spec, decoder.buffered_size >= 0, decoder.needed_size >= 0) == (spec, True, True)
            assert repr(decoder).startswith("Decoder(")
            assert sys.getsizeof(decoder) > 0
            tried(decoder.reset)

    def feed_all() -> None:
        try:
            each(feed, THREADS - 2)
        finally:
            over.set()

    together(feed_all, lambda: disturb(1), lambda: disturb(2))
    decoder.reset()
    payloads = payloads_for(spec, random.Random(1), 5)
    assert decoder.feed(encoder.encode_many(payloads)) == payloads


def test_a_shared_payload_on_its_way_is_whole_in_the_end(compiled: ModuleType) -> None:
    """Its bytes are all the same, so that any order will do; meanwhile windows over it come, are kept, and go."""
    size, step = 400 * KIB, 5 * KIB
    for _ in range(2 * EXAMPLES):
        decoder = compiled.Decoder("u32be")
        assert decoder.feed(size.to_bytes(4, "big")) == []
        steps = itertools.count(0, step)

        def feed(decoder: Any = decoder, steps: Iterator[int] = steps) -> list[bytes]:
            got: list[bytes] = []
            while next(steps) < size:
                got += insisted(lambda: decoder.feed(b"x" * step))
            return got

        over = threading.Event()

        def look(decoder: Any = decoder, over: threading.Event = over) -> None:
            kept: list[Any] = []
            while not over.is_set():
                window = tried(decoder.get_buffer)
                if window is not None:
                    with suppress(ValueError, BufferError):  # it has been taken back meanwhile
                        kept.append(memoryview(window.obj))
                with suppress(RuntimeError, ValueError):
                    decoder.buffer_updated(0)
                del kept[:-4]

        def feed_all(feed: Any = feed, over: threading.Event = over) -> list[bytes]:
            try:
                return [*itertools.chain(*together(*[feed] * (THREADS - 2)))]
            finally:
                over.set()

        got, *_ = together(feed_all, look, look)
        assert got == [b"x" * size]
        assert decoder.buffered_size == 0


def test_a_shared_decoder_that_has_failed_gives_everybody_the_same_error(compiled: ModuleType) -> None:
    decoder = compiled.Decoder("ascii10")
    with pytest.raises(HeaderError):
        decoder.feed(b"nonsense..")

    def work(_: int) -> None:
        for _ in range(TURNS):
            assert decoder.error.offset == 0
            with pytest.raises((HeaderError, RuntimeError)) as raised:
                decoder.feed(b"1         x")
            assert raised.value is decoder.error or "another thread" in str(raised.value)

    each(work)


def test_a_decoder_is_made_once_whoever_makes_it(compiled: ModuleType) -> None:
    """``__init__`` in all threads at once: the format is that of the one who made it."""
    for _ in range(TURNS):
        decoder = compiled.Decoder.__new__(compiled.Decoder)
        encoder = compiled.Encoder.__new__(compiled.Encoder)

        def work(i: int, decoder: Any = decoder, encoder: Any = encoder) -> bool:
            spec = LengthField(4, offset=1000) if i % 2 else Delimited(b"%d\n" % i)
            tried(lambda: encoder.__init__(spec))
            return tried(lambda: decoder.__init__(spec) or decoder.spec == spec) is True

        assert each(work).count(True) == 1
        payload = sealed(b"hello")
        assert decoder.feed(compiled.Encoder(decoder.spec).encode(payload)) == [payload]
        assert compiled.Decoder(encoder.spec).feed(encoder.encode(payload)) == [payload]


def test_shared_spans_are_joined_once(compiled: ModuleType) -> None:
    payloads = some_payloads(random.Random(1), 20)
    stream = compiled.Encoder("u32be").encode_many(payloads)
    for _ in range(TURNS):
        decoder = compiled.Decoder("u32be")
        assert not decoder.feed_spans(stream[:10])
        spans = decoder.feed_spans(stream[10:])

        def by_places(spans: Any = spans) -> list[bytes]:
            starts, sizes, data = spans.offsets.tolist(), spans.lengths.tolist(), spans.data
            return [bytes(data[start : start + size]) for start, size in zip(starts, sizes, strict=True)]

        def by_index(spans: Any = spans) -> list[bytes]:
            assert repr(spans) == f"<Spans of 20 payloads, {sum(map(len, payloads))} bytes>"
            return [bytes(spans[i]) for i in range(len(spans))]

        for got in together(
            *[by_places, by_index, spans.tolist, lambda s=spans: s[:].tolist(), lambda s=spans: s[::-1].tolist()[::-1]]
        ):
            assert got == payloads


def test_a_list_that_is_changed_while_it_is_encoded(compiled: ModuleType) -> None:
    """What comes out are frames of payloads that have been in it."""
    encoder = compiled.Encoder("u32be")
    payloads: list[Any] = some_payloads(random.Random(1), 50)
    over = threading.Event()

    def change(i: int) -> None:
        rand = random.Random(i)
        while not over.is_set():
            for payload in some_payloads(rand, 8):
                payloads[rand.randrange(20)] = rand.choice([payload, bytearray(payload)])
                payloads.append(payload)
            del payloads[50:]

    def encode() -> None:
        try:
            for _ in range(TURNS):
                got = compiled.Decoder("u32be").feed(encoder.encode_many(payloads))
                assert len(got) >= 50
                assert all(map(is_sealed, got))
        finally:
            over.set()

    together(encode, encode, lambda: change(1), lambda: change(2))


@pytest.mark.parametrize("deflate", [None, Deflate()], ids=["plain", "deflate"])
def test_a_shared_message_decoder_gives_what_is_right_or_refuses(compiled: ModuleType, deflate: Deflate | None) -> None:
    decoder = compiled.MessageDecoder("server", deflate=deflate)
    over = threading.Event()

    def feed(i: int) -> None:
        rand = random.Random(i)
        encoder = compiled.MessageEncoder("client")
        for _ in range(TURNS):
            messages: list[Any] = [rand.choice([POEM, "text" * 9, rand.randbytes(300), b""]) for _ in range(5)]
            chunk = encoder.encode_many(messages) + encoder.ping(b"%d" % i)
            assert insisted(lambda chunk=chunk: decoder.feed(chunk)) == [*messages, Ping(b"%d" % i)]

    def disturb() -> None:
        rand = random.Random(1)
        while not over.is_set():
            tried(rand.choice([decoder.reset, decoder.feed_eof, decoder.get_buffer, lambda: decoder.feed(b"")]))
            with suppress(ValueError, RuntimeError):
                assert decoder.buffer_updated(0) == []
            assert (decoder.error, decoder.closed, decoder.role) == (None, False, "server")
            tried(decoder.reset)

    def feed_all() -> None:
        try:
            each(feed, THREADS - 1)
        finally:
            over.set()

    together(feed_all, disturb)


def test_a_shared_message_encoder_never_uses_a_key_twice(compiled: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = itertools.count()

    def urandom(size: int) -> bytes:
        return b"".join(next(numbers).to_bytes(4, "big") for _ in range(size // 4))

    monkeypatch.setattr("os.urandom", urandom)
    encoder = compiled.MessageEncoder("client")
    keys: list[bytes] = []

    def work(i: int) -> None:
        rand = random.Random(i)
        decoder = compiled.MessageDecoder("server")
        for _ in range(TURNS):
            messages = [rand.choice(["text", POEM, b"bytes"]) for _ in range(4)]
            chunk = encoder.encode(messages[0])
            keys.append(bytes(chunk[4:8] if chunk[1] & 0x7F == 126 else chunk[2:6]))
            assert decoder.feed(chunk + encoder.encode_many(messages[1:])) == messages

    each(work)
    assert len(keys) == THREADS * TURNS
    assert max(Counter(keys).values()) == 1


# Endpoints.


class Wire:
    """A connected endpoint, and a peer that collects whatever comes."""

    def __init__(self, compiled: ModuleType, turn: Any) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.theirs.settimeout(PATIENCE)
        self.endpoint = compiled.Endpoint(turn, compiled.Decoder("u32be"), compiled.Encoder("u32be"), 10**9)
        self.endpoint.attach(self.ours)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.endpoint.detach()
        self.ours.close()
        self.theirs.close()

    def finish(self) -> None:
        """Send what is queued, and the end."""
        try:
            while not self.endpoint.flush():
                select.select([], [self.ours], [], LIMIT)
            assert self.endpoint.failure is None
        finally:
            self.ours.shutdown(socket.SHUT_WR)

    def collect(self) -> list[bytes]:
        """Every payload until the end."""
        decoder = framewire.Decoder("u32be")
        got: list[bytes] = []
        while chunk := self.theirs.recv(1 << 20):
            got += decoder.feed(chunk)
        assert decoder.feed_eof() == []
        return got


@pytest.fixture
def endpoints(compiled: ModuleType) -> ModuleType:
    if not compiled.HAS_SOCKETS:
        pytest.skip("the compiled endpoint needs POSIX sockets")
    return compiled


def test_frames_that_threads_send_to_one_endpoint_stay_whole(endpoints: ModuleType) -> None:
    """And those of each thread stay in order."""
    turn = endpoints.Turn()
    with Wire(endpoints, turn) as wire:
        endpoint = wire.endpoint

        def work(i: int) -> list[bytes]:
            rand = random.Random(i)
            sent: list[bytes] = []
            for n in range(TURNS):
                payloads = [sealed(b"%d %d " % (i, n) + b"x" * rand.choice([0, 50, 70 * KIB])) for _ in range(3)]
                endpoint.send(payloads[0])
                endpoint.send_many(payloads[1:2])
                endpoint.write(endpoint.encoder.encode(payloads[2]))
                sent += payloads
                endpoint.blocked = False
                endpoints.flush_all(turn.take_dirty())
                turn.take_over()
            return sent

        def send_all() -> list[list[bytes]]:
            try:
                return each(work)
            finally:
                wire.finish()

        got, sent = together(wire.collect, send_all)
    assert all(map(is_sealed, got))
    for i, payloads in enumerate(sent):
        assert [payload for payload in got if payload.startswith(b"%d " % i)] == payloads


def test_what_threads_send_to_many_endpoints_comes_whole(endpoints: ModuleType) -> None:
    turn = endpoints.Turn()
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(endpoints, turn)) for _ in range(4)]
        members = [wire.endpoint for wire in wires]
        encoder = endpoints.Encoder("u32be")

        def work(i: int) -> None:
            rand = random.Random(i)
            for n in range(TURNS):
                payload = sealed(b"%d %d " % (i, n) + b"x" * rand.choice([0, 50, 5000]))
                behind, _ = endpoints.send_to_all(members, encoder.encode(payload), 1)
                for member in behind:
                    member.append(encoder.encode(payload), 1)
                    member.blocked = False
                endpoints.flush_all(turn.take_dirty())

        def send_all() -> None:
            try:
                each(work)
            finally:
                for wire in wires:
                    wire.finish()

        _, *collected = together(send_all, *(wire.collect for wire in wires))
    for got in collected:
        assert len(got) == THREADS * TURNS
        assert all(map(is_sealed, got))


@pytest.mark.parametrize("shared", ["endpoint", "turn"])
def test_threads_that_receive_at_once_get_what_was_sent_or_are_refused(endpoints: ModuleType, shared: str) -> None:
    """On one endpoint, or on endpoints of one loop, which receive into the same memory."""
    turn = endpoints.Turn()
    rand = random.Random(1)
    payloads = [sealed(rand.randbytes(rand.choice([0, 100, 3000, 200 * KIB]))) for _ in range(4 * TURNS)]
    stream = framewire.Encoder("u32be").encode_many(payloads)
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(endpoints, turn)) for _ in range(1 if shared == "endpoint" else 3)]

        def send(wire: Wire) -> None:
            wire.theirs.sendall(stream)
            wire.theirs.shutdown(socket.SHUT_WR)

        def receive(wire: Wire) -> list[bytes]:
            got: list[bytes] = []
            while not wire.endpoint.ended:
                got += tried(wire.endpoint.receive) or []
            return got

        readers = [wires[i % len(wires)] for i in range(THREADS - 2)]
        results = together(
            *[lambda wire=wire: send(wire) for wire in wires], *[lambda wire=wire: receive(wire) for wire in readers]
        )[len(wires) :]
        for wire in wires:
            got = [one for reader, part in zip(readers, results, strict=True) if reader is wire for one in part]
            assert Counter(got) == Counter(payloads)
            assert wire.endpoint.decoder.error is None


# A free-threaded build.


@free_threaded
@pytest.mark.skipif(EXPECT == "pure", reason="needs the compiled core")
def test_the_lock_stays_off() -> None:
    """Of all modules that need no other package; a module that did not declare what it is would put it on and warn."""
    code = (
        "import importlib, pkgutil, sys, framewire\n"
        "assert framewire.CORE == 'c'\n"
        "for module in pkgutil.walk_packages(framewire.__path__, 'framewire.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        try:\n"
        "            importlib.import_module(module.name)\n"
        "        except ImportError as error:\n"
        "            assert error.name and not error.name.startswith('framewire'), error\n"
        "assert 'framewire._core_c' in sys.modules\n"
        "assert not sys._is_gil_enabled()\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_collector_may_run_in_the_midst_of_it(compiled: ModuleType) -> None:
    over = threading.Event()

    def collect() -> None:
        while not over.is_set():
            gc.collect()

    def work(i: int) -> None:
        rand = random.Random(i)
        for _ in range(2 * EXAMPLES):
            payloads = some_payloads(rand, 100)
            stream = compiled.Encoder("ascii10").encode_many(payloads)
            decoder = compiled.Decoder("ascii10")
            assert [one for chunk in split(stream, 5000) for one in decoder.feed(chunk)] == payloads
            assert compiled.Decoder("ascii10").feed_spans(stream).tolist() == payloads

    def work_all() -> None:
        try:
            each(work, THREADS - 1)
        finally:
            over.set()

    together(work_all, collect)
