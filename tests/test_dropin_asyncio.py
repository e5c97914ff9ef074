"""The reader for asyncio: frames and bytes in any order, under any chunking, cancellation and pausing; and the host's
own tests with it in place."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import random
import subprocess
import sys
import weakref
from asyncio import streams
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from harness import size_of
from hypothesis import given
from hypothesis import strategies as st
from strategies import payloads_of, specs

import framewire
from framewire import Delimited, FrameTooLarge, HeaderError, IncompleteFrame, Spec
from framewire._core_py import Encoder
from framewire.dropin import UnsupportedVersion
from framewire.dropin import asyncio as dropin
from framewire.dropin.asyncio import StreamReader

HOST_READER = asyncio.StreamReader
LIMIT = 20.0
"""Seconds after which a test that waits has failed."""


@pytest.fixture(scope="module", autouse=True)
def core_in_use(core: ModuleType) -> Iterator[None]:
    before, dropin.Decoder = dropin.Decoder, core.Decoder
    yield
    dropin.Decoder = before


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(main(), LIMIT)

    return asyncio.run(bounded())


def reader_of(spec: Spec | str | None = "u8", data: bytes = b"", *, eof: bool = False, **options: Any) -> StreamReader:
    """A reader that has received `data`; made inside a running loop."""
    reader = StreamReader(spec=spec, **options)
    reader.feed_data(data)
    if eof:
        reader.feed_eof()
    return reader


class Transport:
    """Delivers a stream, a chunk in each turn of the loop, unless it is paused; and notes what is asked of it."""

    def __init__(self, chunks: list[bytes], reader: StreamReader) -> None:
        self.chunks = chunks
        self.reader = reader
        self.paused = False
        self.pauses = 0
        self.most_unread = 0
        reader.set_transport(self)  # type: ignore[arg-type]

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True
        self.pauses += 1

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False

    async def deliver(self) -> None:
        for chunk in self.chunks:
            while self.paused:
                await asyncio.sleep(0)
            self.reader.feed_data(chunk)
            self.most_unread = max(self.most_unread, len(self.reader._raw))
            await asyncio.sleep(0)
        self.reader.feed_eof()


def cut(stream: bytes, sizes: Iterator[int]) -> list[bytes]:
    chunks, pos = [], 0
    while pos < len(stream):
        size = next(sizes)
        chunks.append(stream[pos : pos + size])
        pos += size
    return chunks


def u8(*payloads: bytes) -> bytes:
    return Encoder("u8").encode_many(payloads)


# Frames and bytes


@given(st.data(), st.randoms(use_true_random=False))
def test_frames_and_bytes_come_in_order_whatever_the_chunks_the_turns_and_the_cancellations(
    data: st.DataObject, rng: random.Random
) -> None:
    spec = data.draw(specs(writable=True))
    drawn = data.draw(st.lists(payloads_of(spec), max_size=12))
    encoder = Encoder(spec)
    payloads, frames = [], []
    for payload in drawn:
        try:
            frames.append(encoder.encode(payload))
        except (ValueError, FrameTooLarge):
            continue
        payloads.append(payload)
    stream = b"".join(frames)
    if framewire._core_py.Decoder(spec).feed(stream + (b"x" if isinstance(spec, Delimited) else b"")) != payloads:
        return  # some delimiters read otherwise where two payloads meet
    size = data.draw(st.sampled_from([1, 7, 40, 10_000]))

    async def main() -> None:
        reader = StreamReader(spec=spec, limit=data.draw(st.sampled_from([1, 20, 65536])))
        transport = Transport(cut(stream, iter(lambda: rng.randint(1, size), 0)), reader)
        delivery = asyncio.ensure_future(transport.deliver())
        done = 0
        while done < len(payloads):
            way = rng.choice(["frame", "frame", "frames", "bytes", "look"])
            if way == "look":
                assert b"".join(frames[done:]).startswith(bytes(reader._buffer))
                continue
            if way == "bytes":
                task = asyncio.ensure_future(reader.readexactly(len(frames[done])))
            else:
                task = asyncio.ensure_future(reader.readframe() if way == "frame" else reader.readframes())
            if rng.random() < 0.5:
                for _ in range(rng.randint(0, 4)):
                    await asyncio.sleep(0)
                task.cancel()
            try:
                result: Any = await task
            except asyncio.CancelledError:
                continue
            if way == "bytes":
                assert result == frames[done]
                done += 1
            elif way == "frame":
                assert result == payloads[done]
                done += 1
            else:
                assert result
                assert result == payloads[done : done + len(result)]
                done += len(result)
        await delivery
        assert await reader.readframe() is None
        assert await reader.readframes() == []
        assert await reader.read() == b""
        assert reader.at_eof()
        assert not transport.paused

    run(main)


@pytest.mark.parametrize("taken", range(5))
@pytest.mark.parametrize(
    ("spec", "stream"),
    [
        ("u8", b"\1a\0\2bc\1d\3xy"),
        ("u32be", b"\0\0\0\1a\0\0\0\0\0\0\0\2bc\0\0\0\1d\0\0"),
        ("netstring", b"1:a,0:,2:bc,1:d,3:x"),
        (Delimited(b"\n", b"\r\n", b"\r"), b"a\r\n\nbc\rd\nxy"),
        (Delimited(b"|", keep=True), b"a||bc|d|xy"),
    ],
)
def test_what_is_left_of_a_batch_can_be_read_as_bytes(spec: Spec | str, stream: bytes, taken: int) -> None:
    async def main() -> None:
        reader = reader_of(spec, stream)
        payloads = [await reader.readframe() for _ in range(min(taken, 4))]
        bare = [b"a", b"", b"bc", b"d"]
        assert [payload and payload.rstrip(b"|") for payload in payloads] == bare[: min(taken, 4)]
        rest = bytes(reader._buffer)
        assert stream.endswith(rest)
        again = framewire.Decoder(spec).feed(rest)
        assert [payload.rstrip(b"|") for payload in again] == bare[min(taken, 4) :]
        assert await reader.read(1000) == rest

    run(main)


def test_lines_and_frames_can_take_turns_for_ever_in_linear_time() -> None:
    turns = 3000
    stream = b"\0\0\0\5helloa line\n" * turns
    fed = 0

    async def main() -> None:
        nonlocal fed
        reader = StreamReader(spec="u32be", limit=2**20)
        decoder = reader._decoder

        class Counting:
            def feed(self, chunk: memoryview) -> list[bytes]:
                nonlocal fed
                fed += len(chunk)
                return decoder.feed(chunk)  # type: ignore[union-attr]

            def __getattr__(self, name: str) -> Any:
                return getattr(decoder, name)

        reader._decoder = Counting()  # type: ignore[assignment]
        reader.feed_data(stream)
        for _ in range(turns):
            assert await reader.readframe() == b"hello"
            assert await reader.readline() == b"a line\n"

    run(main)
    assert fed <= turns * 2 * dropin.LEAST_AHEAD


def test_a_reader_without_a_format_is_a_plain_one_until_it_gets_one() -> None:
    async def main() -> None:
        reader = reader_of(None, b"hello\n\3onerest")
        assert reader.spec is None
        for read in (reader.readframe, reader.readframes):
            with pytest.raises(RuntimeError, match="no wire format"):
                await read()
        assert await reader.readline() == b"hello\n"
        reader.set_spec("u8")
        assert reader.spec == framewire.LengthField(1)
        assert await reader.readframe() == b"one"
        reader.set_spec("u16le")
        with pytest.raises(ValueError, match="bogus"):
            reader.set_spec("bogus")
        assert reader.spec == framewire.LengthField(2, "little")
        assert await reader.readexactly(4) == b"rest"

    run(main)


def test_wrong_arguments_fail_in_the_constructor() -> None:
    async def main() -> None:
        for options in ({"spec": "bogus"}, {"limit": 0}, {"spec": "u8", "max_size": -1}):
            with pytest.raises(ValueError, match=r".+"):
                StreamReader(**options)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="bogus"):
            await dropin.start_server(lambda reader, writer: None, spec="bogus")

    run(main)


CALLS = st.one_of(
    st.tuples(st.just("read"), st.integers(-1, 12)),
    st.tuples(st.just("readexactly"), st.integers(-1, 12)),
    st.tuples(st.just("readline")),
    st.tuples(st.just("readuntil"), st.sampled_from([b"", b"a", b"ab", bytearray(b"b")])),
    st.tuples(st.just("feed_data"), st.lists(st.sampled_from(b"ab\n"), max_size=12).map(bytes)),
    st.tuples(st.just("feed_eof")),
    st.tuples(st.just("look")),
)


@given(st.lists(CALLS, max_size=20), st.integers(1, 8), st.booleans())
def test_bytes_are_read_as_by_the_host_in_results_errors_and_leftovers(
    calls: list[tuple[Any, ...]], limit: int, framing: bool
) -> None:
    async def outcomes(reader: Any, frames: bool) -> list[Any]:
        seen: list[Any] = []
        ended = False
        for name, *args in calls:
            if frames:
                reader._read_frames()
            if name == "look":
                seen.append((bytes(reader._buffer), reader.at_eof(), repr(reader)))
            elif name.startswith("feed"):
                if not ended:
                    getattr(reader, name)(*args)
                ended = ended or name == "feed_eof"
            else:
                task = asyncio.ensure_future(getattr(reader, name)(*args))
                for _ in range(3):
                    await asyncio.sleep(0)
                if not task.done():
                    task.cancel()
                try:
                    seen.append((type(await task), task.result()))
                except asyncio.CancelledError:
                    seen.append("waits")
                except asyncio.IncompleteReadError as error:
                    seen.append((error.partial, error.expected))
                except asyncio.LimitOverrunError as error:
                    seen.append(error.consumed)
                except ValueError:
                    seen.append(ValueError)
        return seen

    async def main() -> None:
        expected = await outcomes(HOST_READER(limit), False)
        assert await outcomes(StreamReader(limit, spec="u32be"), framing) == expected

    run(main)


def test_readexactly_does_not_hold_back_the_bytes_that_it_waits_for() -> None:
    stream = bytes(range(256)) * 20

    async def main() -> None:
        reader = StreamReader(limit=16)
        transport = Transport(cut(stream, iter(lambda: 7, 0)), reader)
        delivery = asyncio.ensure_future(transport.deliver())
        assert await reader.readexactly(5000) == stream[:5000]
        assert transport.pauses <= 1  # when the last of them had come
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(5000)
        assert caught.value.partial == stream[5000:]
        await delivery

    run(main)


def test_async_iteration_gives_lines_as_in_the_host() -> None:
    async def main() -> None:
        reader = reader_of("u8", b"\1xone\ntwo\nend", eof=True)
        assert await reader.readframe() == b"x"
        assert [line async for line in reader] == [b"one\n", b"two\n", b"end"]

    run(main)


# The end and the errors


def test_the_end_between_two_frames_is_none_or_an_empty_list() -> None:
    async def main() -> None:
        reader = reader_of("u8", u8(b"one", b""), eof=True)
        assert not reader.at_eof()
        assert [await reader.readframe() for _ in range(4)] == [b"one", b"", None, None]
        assert reader.at_eof()
        assert await reader.readframes() == []
        assert await reader.readframe() is None

    run(main)


@pytest.mark.parametrize("many", [False, True])
def test_a_payload_that_only_the_end_completes_comes_out(many: bool) -> None:
    async def main() -> None:
        reader = reader_of(Delimited(b"\r\n", b"\r"), b"one\rtwo\r", eof=True)
        if many:
            assert [*await reader.readframes(), *await reader.readframes()] == [b"one", b"two"]
        else:
            assert await reader.readframe() == b"one"
            assert bytes(reader._buffer) == b"two\r"
            assert [await reader.readframe() for _ in range(2)] == [b"two", None]

    run(main)


def test_a_frame_cut_short_is_an_error_and_its_bytes_are_still_there() -> None:
    async def main() -> None:
        reader = reader_of("u8", b"skipped" + u8(b"one") + b"\5tw", eof=True)
        assert await reader.readexactly(7) == b"skipped"
        assert await reader.readframe() == b"one"
        for read in (reader.readframe, reader.readframes, reader.readframe):
            with pytest.raises(IncompleteFrame) as caught:
                await read()
            assert (caught.value.offset, caught.value.received, caught.value.missing) == (11, 3, 3)
        assert not reader.at_eof()
        assert await reader.read() == b"\5tw"
        assert await reader.readframe() is None

    run(main)


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("many", [False, True])
def test_an_error_waits_its_turn_and_stays(size: int, many: bool) -> None:
    stream = b"name\n" + Encoder("ascii10").encode_many([b"one", b"two"]) + b"GET / HTTP/1.1\r\n"

    async def main() -> None:
        reader = StreamReader(spec="ascii10")
        Transport(cut(stream, iter(lambda: size, 0)), reader)
        delivery = asyncio.ensure_future(reader._transport.deliver())
        assert await reader.readline() == b"name\n"
        payloads: list[bytes | None] = []
        while len(payloads) < 2:
            payloads += await reader.readframes() if many else [await reader.readframe()]
        assert payloads == [b"one", b"two"]
        for read in (reader.readframe, reader.readframes, reader.readframe):
            with pytest.raises(HeaderError, match="an HTTP request" if size == 100 else None) as caught:
                await read()
            assert caught.value.offset == 31
        await delivery
        assert await reader.readline() == b"GET / HTTP/1.1\r\n"

    run(main)


def test_a_frame_over_the_limit_is_refused_on_its_header_while_the_transport_still_runs() -> None:
    async def main() -> None:
        reader = reader_of("u32be", b"xy", max_size=100)
        assert await reader.readexactly(2) == b"xy"
        waiting = asyncio.ensure_future(reader.readframe())
        await asyncio.sleep(0)
        reader.feed_data(b"\0\0\0\x65")
        with pytest.raises(FrameTooLarge) as caught:
            await waiting
        assert (caught.value.size, caught.value.limit, caught.value.offset) == (101, 100, 2)

    run(main)


def test_bytes_behind_an_error_are_held_back_by_the_transport() -> None:
    async def main() -> None:
        reader = StreamReader(spec="ascii10", limit=100)
        transport = Transport([b"bad header"] + [bytes(50)] * 1000, reader)
        delivery = asyncio.ensure_future(transport.deliver())
        for _ in range(20):
            with pytest.raises(HeaderError):
                await reader.readframe()
            await asyncio.sleep(0)
        assert transport.paused
        assert transport.most_unread <= 250
        delivery.cancel()

    run(main)


def test_an_exception_of_the_transport_is_raised_at_once_as_in_the_host() -> None:
    async def main() -> None:
        reader = reader_of("u8", b"\1")
        waiting = asyncio.ensure_future(reader.readframe())
        await asyncio.sleep(0)
        reader.set_exception(ConnectionResetError("gone"))
        with pytest.raises(ConnectionResetError):
            await waiting
        reader = reader_of("u8", u8(b"one", b"two"))
        assert await reader.readframe() == b"one"
        reader.set_exception(ConnectionResetError("gone"))
        assert isinstance(reader.exception(), ConnectionResetError)
        for read in (reader.readframe, reader.readframes, reader.read):
            with pytest.raises(ConnectionResetError):
                await read()  # type: ignore[operator]

    run(main)


def test_memory_that_runs_out_while_decoding_loses_nothing() -> None:
    async def main() -> None:
        reader = reader_of("u8", u8(b"one", b"two"))
        decoder = reader._decoder

        class Poor:
            failures = 1

            def feed(self, chunk: memoryview) -> list[bytes]:
                if self.failures:
                    self.failures -= 1
                    raise MemoryError
                return decoder.feed(chunk)  # type: ignore[union-attr]

            def __getattr__(self, name: str) -> Any:
                return getattr(decoder, name)

        reader._decoder = Poor()  # type: ignore[assignment]
        with pytest.raises(MemoryError):
            await reader.readframe()
        assert await reader.readframes() == [b"one", b"two"]
        waiting = asyncio.ensure_future(reader.readframe())
        await asyncio.sleep(0)
        Poor.failures = 1
        reader.feed_data(u8(b"three"))  # the transport does not meet it
        Poor.failures = 0
        assert await waiting == b"three"

    run(main)


# Waiting


def test_two_coroutines_cannot_wait_at_the_same_time() -> None:
    async def main() -> None:
        for first, second in [("readframe", "readframes"), ("readframe", "readline"), ("readline", "readframe")]:
            reader = reader_of("u8")
            waiting = asyncio.ensure_future(getattr(reader, first)())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match=rf"{second if second != 'readline' else 'readuntil'}\(\) called"):
                await getattr(reader, second)()
            with pytest.raises(RuntimeError, match="set_spec"):
                reader.set_spec("u16be")
            reader.feed_data(b"\1\n")
            assert await waiting in (b"\n", b"\1\n")

    run(main)


@pytest.mark.parametrize("read", ["readframe", "readframes"])
def test_a_timeout_at_any_split_loses_no_byte(read: str) -> None:
    stream = Encoder("ascii10").encode_many([b"hello", b"", b"world"])

    async def main() -> None:
        for split in range(len(stream) + 1):
            reader = reader_of("ascii10", stream[:split])
            payloads: list[bytes] = []
            while True:
                try:
                    got = await asyncio.wait_for(getattr(reader, read)(), 0.001)
                except asyncio.TimeoutError:  # not the built-in one in 3.10
                    break
                payloads += got if read == "readframes" else [got]
            reader.feed_data(stream[split:])
            reader.feed_eof()
            while got := await reader.readframes():
                payloads += got
            assert payloads == [b"hello", b"", b"world"]

    run(main)


def test_a_cancelled_frame_can_be_read_as_bytes_at_any_split() -> None:
    stream = u8(b"hello", b"world")

    async def main() -> None:
        for split in range(len(stream)):
            reader = reader_of("u8", stream[:split])
            waiting = asyncio.ensure_future(reader.readframe())
            await asyncio.sleep(0)
            done = waiting.done()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            reader.feed_data(stream[split:])
            reader.feed_eof()
            assert await reader.read() == stream[6 if done else 0 :]

    run(main)


def test_a_waiting_read_is_woken_once_for_a_frame_in_many_chunks() -> None:
    async def main() -> None:
        reader = StreamReader(spec="u32be")
        woken = 0
        wake = reader._wakeup_waiter

        def count() -> None:
            nonlocal woken
            woken += 1
            wake()

        reader._wakeup_waiter = count  # type: ignore[method-assign]
        waiting = asyncio.ensure_future(reader.readframe())
        stream = Encoder("u32be").encode(bytes(1000))
        for pos in range(0, len(stream), 7):
            await asyncio.sleep(0)
            reader.feed_data(stream[pos : pos + 7])
        assert await waiting == bytes(1000)
        assert woken == 1

    run(main)


def test_a_look_at_the_buffer_while_a_frame_is_awaited_does_no_harm() -> None:
    async def main() -> None:
        reader = reader_of("u8", b"\5he")
        waiting = asyncio.ensure_future(reader.readframe())
        await asyncio.sleep(0)
        assert "3 bytes" in repr(reader)
        for byte in b"llo":
            reader.feed_data(bytes([byte]))
            await asyncio.sleep(0)
            repr(reader)
        assert await waiting == b"hello"

    run(main)


# Pausing


def test_the_transport_pauses_over_twice_the_limit_and_is_resumed_by_frames() -> None:
    stream = u8(*[bytes(9)] * 1000)

    async def main() -> None:
        reader = StreamReader(spec="u8", limit=100)
        transport = Transport(cut(stream, iter(lambda: 30, 0)), reader)
        delivery = asyncio.ensure_future(transport.deliver())
        count = 0
        while count < 1000:
            while not transport.paused and not delivery.done():  # it runs ahead as far as it may
                await asyncio.sleep(0)
            while transport.paused or (delivery.done() and count < 1000):
                assert await reader.readframe() == bytes(9)
                count += 1
        assert await reader.readframe() is None
        assert transport.pauses > 10
        assert transport.most_unread <= 230
        await delivery

    run(main)


def test_the_transport_is_resumed_as_soon_as_no_more_than_the_limit_is_unread() -> None:
    async def main() -> None:
        reader = StreamReader(spec="u8", limit=2000)
        transport = Transport([u8(*[bytes(9)] * 500)], reader)
        reader._read_frames()
        reader.feed_data(transport.chunks[0])
        assert transport.paused
        while transport.paused:
            assert len(reader._raw) > 2000
            assert await reader.readframe() == bytes(9)
        assert 0 < len(reader._raw) <= 2000

    run(main)


@pytest.mark.parametrize("read", ["readframe", "readframes"])
def test_a_frame_larger_than_the_limit_is_never_waited_for_with_the_transport_paused(read: str) -> None:
    payload = bytes(range(256)) * 40

    async def main() -> None:
        reader = StreamReader(spec="u32be", limit=16)
        transport = Transport(cut(Encoder("u32be").encode_many([payload, b"x"] * 2), iter(lambda: 50, 0)), reader)
        delivery = asyncio.ensure_future(transport.deliver())
        while not transport.paused:  # nobody reads yet
            await asyncio.sleep(0)
        payloads: list[bytes] = []
        while got := await getattr(reader, read)():
            payloads += got if read == "readframes" else [got]
        assert payloads == [payload, b"x"] * 2
        await delivery

    run(main)


def test_the_transport_is_resumed_by_bytes_too_after_frames() -> None:
    async def main() -> None:
        reader = StreamReader(spec="u8", limit=10)
        transport = Transport([u8(b"one") + bytes(30), b"end"], reader)
        delivery = asyncio.ensure_future(transport.deliver())
        assert await reader.readframe() == b"one"
        assert transport.paused
        assert await reader.readexactly(25) == bytes(25)
        assert not transport.paused
        await delivery
        assert await reader.read() == bytes(5) + b"end"

    run(main)


def test_a_cancelled_frame_no_longer_keeps_the_transport_running() -> None:
    async def main() -> None:
        reader = reader_of("u32be", (10**6).to_bytes(4, "big"), limit=100)
        transport = Transport([], reader)
        waiting = asyncio.ensure_future(reader.readframe())
        await asyncio.sleep(0)
        reader.feed_data(bytes(1000))
        assert not transport.paused
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        reader.feed_data(b"x")
        assert transport.paused

    run(main)


def test_a_transport_that_cannot_pause_is_not_asked_again() -> None:
    class Stubborn:
        asked = 0

        def pause_reading(self) -> None:
            self.asked += 1
            raise NotImplementedError

    async def main() -> None:
        reader = StreamReader(spec="u8", limit=1)
        transport = Stubborn()
        reader.set_transport(transport)  # type: ignore[arg-type]
        reader._read_frames()
        for _ in range(3):
            reader.feed_data(u8(b"hello"))
        assert transport.asked == 1
        assert await reader.readframes() == [b"hello"] * 3

    run(main)


def test_memory_follows_what_came_and_is_given_back() -> None:
    async def main() -> None:
        reader = reader_of("u32be", (10 * 2**20).to_bytes(4, "big"))
        waiting = asyncio.ensure_future(reader.readframe())
        await asyncio.sleep(0)
        assert size_of(reader._raw) + size_of(reader._decoder) < 100_000
        for _ in range(160):
            reader.feed_data(bytes(64 * 1024))
        assert len(await waiting) == 10 * 2**20
        assert size_of(reader._raw) + size_of(reader._decoder) < 100_000

    run(main)


# In the place of the host's


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    if kind == "uvloop":
        uvloop: Any = pytest.importorskip("uvloop")
        return uvloop.new_event_loop()  # type: ignore[no-any-return]
    return asyncio.new_event_loop()


def run_in(kind: str, main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(main(), LIMIT)

    loop = new_loop(kind)
    try:
        loop.run_until_complete(bounded())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


PAYLOADS = [b"hello", b"", b"x" * 300_000, b"wonderful", b"world"] * 3


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_server_and_a_client_of_ours_talk(kind: str) -> None:
    async def echo(reader: StreamReader, writer: asyncio.StreamWriter) -> None:
        while (payload := await reader.readframe()) is not None:
            writer.write(Encoder("u32be").encode(payload))
            await writer.drain()
        writer.close()

    async def main() -> None:
        server = await dropin.start_server(echo, "127.0.0.1", 0, spec="u32be", limit=1000)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await dropin.open_connection("127.0.0.1", port, spec="u32be", limit=1000)
        assert isinstance(reader, HOST_READER)

        async def send() -> None:
            writer.write(Encoder("u32be").encode_many(PAYLOADS))
            await writer.drain()
            writer.write_eof()

        sending = asyncio.ensure_future(send())
        received: list[bytes] = []
        while payloads := await reader.readframes():
            received += payloads
        await sending
        assert received == PAYLOADS
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run_in(kind, main)


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_the_hosts_own_functions_make_ours_while_it_is_installed(kind: str) -> None:
    async def serve(reader: Any, writer: asyncio.StreamWriter) -> None:
        assert type(reader) is StreamReader
        reader.set_spec("u8")
        assert await reader.readframe() == b"ping"
        assert await reader.readline() == b"and a line\n"
        writer.write(u8(b"pong"))
        writer.close()

    async def main() -> None:
        with dropin.patched():
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert type(reader) is StreamReader
            reader.set_spec("u8")
            writer.write(u8(b"ping") + b"and a line\n")
            assert await reader.readframe() == b"pong"
            assert await reader.readframe() is None
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()

    run_in(kind, main)


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe of a child, as POSIX has it")
def test_the_output_of_a_child_can_be_read_as_frames() -> None:
    code = "import sys; sys.stdout.buffer.write(bytes([5]) + b'hello' + b'a line\\n' + bytes([5]) + b'world')"

    async def main() -> None:
        with dropin.patched():
            child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        reader = child.stdout
        assert isinstance(reader, StreamReader)
        reader.set_spec("u8")
        assert await reader.readframe() == b"hello"
        assert await reader.readline() == b"a line\n"
        assert await reader.readframes() == [b"world"]
        assert await reader.readframe() is None
        assert await child.wait() == 0

    run(main)


def test_install_replaces_both_names_and_uninstall_puts_the_very_class_back() -> None:
    assert not dropin.installed()
    dropin.install()
    try:
        dropin.install()
        assert asyncio.StreamReader is streams.StreamReader is StreamReader  # type: ignore[comparison-overlap]
        assert dropin.installed()
    finally:
        dropin.uninstall()
    dropin.uninstall()
    assert asyncio.StreamReader is streams.StreamReader is HOST_READER
    with pytest.raises(ZeroDivisionError), dropin.patched():
        1 / (streams.StreamReader is not StreamReader)  # type: ignore[comparison-overlap]
    assert streams.StreamReader is HOST_READER


def test_a_host_without_what_it_rests_on_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(HOST_READER, "_wakeup_waiter")
    with pytest.raises(UnsupportedVersion, match="_wakeup_waiter"):
        dropin.install()
    assert streams.StreamReader is HOST_READER


def test_a_reader_can_be_weakly_referenced_and_goes_with_its_last_reference() -> None:
    async def main() -> None:
        reader = reader_of("u8", u8(b"one", b"two"))
        assert await reader.readframe() == b"one"
        ref = weakref.ref(reader)
        del reader
        gc.collect()
        assert ref() is None

    run(main)


@pytest.mark.skipif(importlib.util.find_spec("test") is None, reason="this Python comes without its own tests")
@pytest.mark.parametrize("option", [None, "--frames"])
def test_the_hosts_own_tests_of_streams_pass(core: ModuleType, option: str | None) -> None:
    pytest.importorskip("test.test_asyncio.test_streams", exc_type=ImportError)
    script = Path(__file__).parent / "host_suites" / "asyncio_streams.py"
    done = subprocess.run(
        [sys.executable, str(script), *filter(None, [option]), "test.test_asyncio.test_streams"],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(framewire.__file__).parents[1]),
            "FRAMEWIRE_CORE": core.__name__.rpartition("_")[2],
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
