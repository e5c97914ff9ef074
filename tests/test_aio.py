"""The asyncio driver, on asyncio and on uvloop: a scripted transport for orders that a kernel rarely makes, real
connections for the rest."""

from __future__ import annotations

import asyncio
import errno
import gc
import importlib
import logging
import os
import random
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from drivers import PAYLOADS, STREAM, frames
from looping import LIMIT, narrow, recv_all, recv_exactly, reset
from pairs import over_tcp, over_unix, tls_contexts

from framewire import FrameTooLarge, HeaderError, IncompleteFrame, LengthField, aio
from framewire.aio import FRAME_COST, LARGE_SIZE, READ_SIZE, FramedStream, Server

LOCALHOST = ("127.0.0.1", 0)

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(autouse=True)
def _on_each_core(core: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("framewire.aio.Decoder", core.Decoder)
    monkeypatch.setattr("framewire.aio.Encoder", core.Encoder)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run a coroutine on a loop that at its end has no task left, and nothing to complain of."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed")
    loop = importlib.import_module(request.param).new_event_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    refused = "Error on transport creation for incoming connection"  # in debug mode, where no stream was made

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        return loop.run_until_complete(asyncio.wait_for(main, LIMIT))

    if hasattr(gc, "freeze"):
        gc.freeze()  # what was there before need not be looked through at the end
    yield run
    run(steps(3))
    left = asyncio.all_tasks(loop)
    loop.close()
    gc.collect()
    if hasattr(gc, "unfreeze"):
        gc.unfreeze()
    assert not left
    assert not [context for context in complaints if context["message"] != refused]


async def steps(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def aside(call: Callable[..., Any], *args: Any) -> Any:
    """Call what blocks, in another thread."""
    return await asyncio.get_running_loop().run_in_executor(None, call, *args)


async def pair(
    make: Callable[[], tuple[socket.socket, socket.socket]] = over_unix, *, tight: bool = False, **options: Any
) -> tuple[FramedStream, socket.socket]:
    here, there = make()
    if tight:
        narrow(here, there)
    there.settimeout(LIMIT)
    return await aio.from_socket(here, "ascii10", **options), there


async def outcome(call: Awaitable[Any]) -> Any:
    """What it returned or raised; a cancellation, which is none of ours, is not let through."""
    (result,) = await asyncio.gather(call, return_exceptions=True)
    return result


def as_list(received: Any) -> list[bytes]:
    """Payloads, however they were received; none if something was raised."""
    return received if isinstance(received, list) else [received] if isinstance(received, bytes) else []


class ScriptedTransport:
    """A transport that does what the test says, when it says so."""

    def __init__(self, *, half_closes: bool = True) -> None:
        self.written = bytearray()
        self.calls: list[str] = []
        self.half_closes = half_closes
        self.closing = False

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        self.limits = high, low

    def write(self, data: bytes) -> None:
        assert not self.closing
        self.written += data

    def can_write_eof(self) -> bool:
        return self.half_closes

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> None:
        return None

    def pause_reading(self) -> None:
        self.calls.append("pause_reading")

    def resume_reading(self) -> None:
        self.calls.append("resume_reading")

    def write_eof(self) -> None:
        self.calls.append("write_eof")

    def close(self) -> None:
        self.closing = True

    abort = close


def scripted(**options: Any) -> tuple[FramedStream, Any, ScriptedTransport]:
    stream = FramedStream("ascii10", **options)
    protocol = stream._protocol()
    transport = ScriptedTransport()
    protocol.connection_made(transport)
    return stream, protocol, transport


def give(protocol: Any, data: bytes) -> None:
    """What a transport does with what it has received."""
    while data:
        window = protocol.get_buffer(-1)
        n = min(len(window), len(data))
        window[:n] = data[:n]
        protocol.buffer_updated(n)
        data = data[n:]


def ask(stream: FramedStream, how: str) -> Coroutine[Any, Any, Any]:
    return {"recv": stream.recv, "recv_many": stream.recv_many, "next": stream.__anext__}[how]()


# Cancellation and timeouts.


@pytest.mark.parametrize("how", ["recv", "recv_many", "next"])
def test_a_receive_cancelled_after_any_step_at_any_split_loses_nothing(run: Run, how: str) -> None:
    async def main() -> None:
        stream, peer = await pair()
        for split in range(len(STREAM) + 1):
            for count in range(4):
                task = asyncio.ensure_future(ask(stream, how))
                peer.sendall(STREAM[:split])
                await steps(count)
                task.cancel()
                received = as_list(await outcome(task))
                peer.sendall(STREAM[split:])
                while len(received) < len(PAYLOADS):
                    received += as_list(await ask(stream, how))
                assert received == PAYLOADS
        peer.close()
        await stream.close()

    run(main())


@pytest.mark.parametrize("how", ["recv", "recv_many"])
@pytest.mark.parametrize("timeout", [0, 0.0005])
def test_a_timeout_at_any_split_loses_nothing(run: Run, how: str, timeout: float) -> None:
    async def main() -> None:
        stream, peer = await pair()
        for split in range(len(STREAM) + 1):
            peer.sendall(STREAM[:split])
            received: list[bytes] = []
            timed_out = False
            while not timed_out:
                result = await outcome(getattr(stream, how)(timeout=timeout))
                received += as_list(result)
                timed_out = isinstance(result, TimeoutError)
            with suppress(asyncio.TimeoutError):
                received += as_list(await asyncio.wait_for(ask(stream, how), timeout))
            peer.sendall(STREAM[split:])
            while len(received) < len(PAYLOADS):
                received += as_list(await getattr(stream, how)(timeout=LIMIT))
            assert received == PAYLOADS
        peer.close()
        await stream.close()

    run(main())


def test_receivers_are_served_in_the_order_in_which_they_asked(run: Run) -> None:
    async def main() -> None:
        stream, peer = await pair()
        for chunk in (1, 7, 1000):
            tasks = [asyncio.ensure_future(stream.recv()) for _ in range(20)]
            await steps(1)
            tasks[3].cancel()
            tasks[17].cancel()
            data = frames([b"%d" % i for i in range(18)])
            for i in range(0, len(data), chunk):
                peer.sendall(data[i : i + chunk])
                await steps(i % 3)
            results = [await outcome(task) for task in tasks]
            cancelled = [i for i, result in enumerate(results) if isinstance(result, asyncio.CancelledError)]
            assert cancelled == [3, 17]
            assert [r for r in results if isinstance(r, bytes)] == [b"%d" % i for i in range(18)]
        peer.close()
        await stream.close()

    run(main())


def test_who_comes_later_does_not_overtake_one_that_was_woken(run: Run) -> None:
    async def main() -> None:
        stream, protocol, _ = scripted()
        first = asyncio.ensure_future(stream.recv())
        await steps(1)
        give(protocol, STREAM)
        assert await asyncio.gather(stream.recv_many(), first) == [PAYLOADS[1:], PAYLOADS[0]]

    run(main())


def test_a_receiver_that_is_cancelled_when_woken_passes_the_turn_on(run: Run) -> None:
    async def main() -> None:
        stream, protocol, _ = scripted()
        tasks = [asyncio.ensure_future(stream.recv()) for _ in range(3)]
        await steps(1)
        give(protocol, frames([b"one"]))
        tasks[0].cancel()
        assert isinstance(await outcome(tasks[0]), asyncio.CancelledError)
        assert await tasks[1] == b"one"
        give(protocol, frames([b"two"]))
        assert await tasks[2] == b"two"

    run(main())


def test_two_reads_in_one_turn_end_nobodys_stream(run: Run) -> None:
    async def main() -> None:
        stream, protocol, _ = scripted()
        for first in (stream.recv, stream.recv_many):
            for second in (stream.recv, stream.recv_many):
                tasks = [asyncio.ensure_future(call()) for call in (first, second)]
                await steps(1)
                give(protocol, frames([b"one"]) + b"3         t")
                give(protocol, b"w")  # nothing is complete, but the first has not run yet
                await steps(5)
                assert as_list(tasks[0].result()) == [b"one"]
                assert not tasks[1].done()
                give(protocol, b"o")
                assert as_list(await tasks[1]) == [b"two"]
                tasks = [asyncio.ensure_future(call()) for call in (first, second)]
                await steps(1)
                give(protocol, frames([b"one"]))
                give(protocol, frames([b"two"]))
                await steps(5)
                if not tasks[1].done():
                    give(protocol, frames([b"three"]))
                got = [payload for task in tasks for payload in as_list(await task)]
                assert got in ([b"one", b"two"], [b"one", b"two", b"three"])

    run(main())


def test_the_end_comes_to_all_who_wait(run: Run) -> None:
    async def main() -> None:
        stream, peer = await pair()
        tasks = [asyncio.ensure_future(call()) for call in (stream.recv, stream.recv, stream.recv_many, stream.recv)]
        await steps(1)
        peer.sendall(frames([b"one"]))
        peer.close()
        assert await asyncio.gather(*tasks) == [b"one", None, [], None]
        assert [payload async for payload in stream] == []
        await stream.close()

    run(main())


@pytest.mark.parametrize(
    ("tail", "kind"), [(b"GET / HTTP/1.1", HeaderError), (b"5   ", IncompleteFrame), (b"5         h", IncompleteFrame)]
)
def test_an_error_comes_to_all_who_wait_after_the_payloads(run: Run, tail: bytes, kind: type[Exception]) -> None:
    async def main() -> None:
        stream, peer = await pair()
        tasks = [asyncio.ensure_future(stream.recv()) for _ in range(6)]
        await steps(1)
        peer.sendall(STREAM + tail)
        peer.shutdown(socket.SHUT_WR)
        results = [await outcome(task) for task in tasks]
        assert results[:4] == PAYLOADS
        assert isinstance(results[4], kind)
        assert results[5] is results[4]
        for call in (stream.recv, stream.recv_many, stream.__anext__):
            assert await outcome(call()) is results[4]
        await stream.send(b"it was not me")
        assert await aside(recv_exactly, peer, 23) == b"13        it was not me"
        peer.close()
        await stream.close()

    run(main())


def test_a_reset_after_the_peers_end_does_not_take_the_end_back(run: Run) -> None:
    async def main() -> None:
        stream, protocol, _ = scripted()
        assert protocol.eof_received()
        assert await stream.recv() is None
        protocol.connection_lost(ConnectionResetError(errno.ECONNRESET, "reset by peer"))
        assert await stream.recv() is None
        with pytest.raises(ConnectionResetError):
            await stream.send(b"x")
        with pytest.raises(ConnectionResetError):
            await stream.flush()

    run(main())


# Sending.


def test_a_cancelled_send_is_not_sent_and_never_in_part(run: Run) -> None:
    async def main() -> None:
        stream, peer = await pair(tight=True, high_mark=10_000, low_mark=1000)
        rand = random.Random(1)
        sent: list[bytes] = []

        async def send(payload: bytes, many: bool) -> None:
            await (stream.send_many([payload, b"and", payload]) if many else stream.send(payload))
            sent.extend([payload, b"and", payload] if many else [payload])

        reading = asyncio.ensure_future(aside(slowly, peer))
        cancelled = 0
        for i in range(60):
            sizes = [rand.choice([0, 10, 3000, 20_000, LARGE_SIZE]) for _ in range(5)]
            tasks = [asyncio.ensure_future(send(bytes([i]) * size, size == 10)) for size in sizes]
            await steps(i % 4)
            victims = [task for task in tasks if rand.random() < 0.5]
            for victim in victims:
                victim.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            cancelled += sum(isinstance(result, asyncio.CancelledError) for result in results)
        assert cancelled > 20
        stream.send_eof()
        assert await reading == frames(sent)
        peer.close()
        await stream.close()

    def slowly(peer: socket.socket) -> bytes:
        received = bytearray()
        while chunk := peer.recv(8192):
            received += chunk
        return bytes(received)

    run(main())


def test_many_senders_wait_at_the_high_mark_and_go_on_in_order(run: Run) -> None:
    async def main() -> None:
        stream, protocol, transport = scripted()
        assert transport.limits == (aio.HIGH_MARK, aio.LOW_MARK)
        protocol.pause_writing()
        tasks = [asyncio.ensure_future(stream.send(b"%d" % i)) for i in range(100)]
        flushing = asyncio.ensure_future(stream.flush())
        await steps(3)
        assert not any(task.done() for task in [*tasks, flushing])
        tasks[50].cancel()
        protocol.resume_writing()
        protocol.pause_writing()  # before any of them has run
        await steps(3)
        assert not transport.written
        assert tasks[50].cancelled()
        protocol.resume_writing()
        await asyncio.gather(*tasks[:50], *tasks[51:], flushing)
        await steps(2)
        assert transport.written == frames([b"%d" % i for i in range(100) if i != 50])

    run(main())


def test_senders_that_wait_hear_that_the_connection_is_lost(run: Run) -> None:
    async def main() -> None:
        stream, peer = await pair(over_tcp, tight=True, high_mark=1000, low_mark=0)
        tasks = [asyncio.ensure_future(stream.send(bytes(4_000_000))) for _ in range(3)]
        tasks.append(asyncio.ensure_future(stream.flush()))
        await steps(10)
        assert tasks[0].done()
        assert not tasks[1].done()
        reset(peer)
        results = [await outcome(task) for task in tasks[1:]]
        assert all(isinstance(result, OSError) for result in results)
        assert isinstance(await outcome(stream.recv()), OSError)
        await stream.close()

    run(main())


def test_what_waits_to_be_sent_is_bounded_by_the_high_mark(run: Run) -> None:
    async def main() -> None:
        stream, peer = await pair(tight=True, high_mark=100_000, low_mark=10_000)
        most = 0

        async def send() -> None:
            nonlocal most
            for _ in range(50):
                await stream.send(bytes(990))
                most = max(most, stream.queued_size)

        sending = asyncio.gather(*(send() for _ in range(20)))
        received = await aside(recv_exactly, peer, 1000 * 1000)
        await sending
        assert received == frames([bytes(990)]) * 1000
        assert most <= 100_000 + LARGE_SIZE + 1000
        peer.close()
        await stream.close()

    run(main())


def test_what_one_turn_sends_is_written_at_once(run: Run) -> None:
    async def main() -> None:
        stream, _, transport = scripted()
        writes: list[bytes] = []
        transport.write = writes.append  # type: ignore[method-assign]
        for payload in PAYLOADS:
            await stream.send(payload)
        await stream.send_many(PAYLOADS)
        assert not writes
        await steps(1)
        assert writes == [STREAM * 2]
        payload = bytes(LARGE_SIZE)
        await stream.send(b"before")
        await stream.send(payload)
        await stream.send(b"after")
        assert writes[1:] == [frames([b"before"]), b"65536     ", payload]
        assert writes[3] is payload
        await steps(1)
        assert writes[4:] == [frames([b"after"])]

    run(main())


def test_who_waits_for_an_answer_has_sent_the_question(run: Run) -> None:
    async def main() -> None:
        stream, protocol, transport = scripted()
        for payload in PAYLOADS:
            await stream.send(payload)
        first_step = stream.recv()
        first_step.send(None)  # and none of the loop
        assert transport.written == STREAM
        first_step.close()
        asking = asyncio.ensure_future(stream.recv())
        await steps(1)
        give(protocol, frames([b"yes"]))
        assert await asking == b"yes"

    run(main())


def test_a_payload_may_change_when_it_is_sent(run: Run) -> None:
    async def main() -> None:
        stream, peer = await pair()
        payload = bytearray(b"x" * 100_000)
        await stream.send(payload)
        payload[:] = b"y" * 100_000
        await stream.send(memoryview(payload)[:3])
        payload[:] = b"z" * 100_000
        expected = frames([b"x" * 100_000, b"yyy"])
        assert await aside(recv_exactly, peer, len(expected)) == expected
        peer.close()
        await stream.close()

    run(main())


def test_a_payload_that_is_refused_harms_nothing(run: Run) -> None:
    async def main() -> None:
        stream, peer = await pair(max_size=10)
        with pytest.raises(FrameTooLarge):
            await stream.send(bytes(11))
        with pytest.raises(TypeError):
            await stream.send("text")  # type: ignore[arg-type]
        with pytest.raises(FrameTooLarge):
            await stream.send_many([b"fine", bytes(11)])
        await stream.send(b"fine")
        assert await aside(recv_exactly, peer, 14) == frames([b"fine"])
        peer.close()
        await stream.close()

    run(main())


# Memory.


def test_reading_pauses_above_the_limit_and_goes_on_below_its_half(run: Run) -> None:
    async def main() -> None:
        stream, protocol, transport = scripted(read_limit=10 * (FRAME_COST + 1))
        give(protocol, frames([b"x"] * 10))
        assert transport.calls == []
        give(protocol, frames([b"x"]))
        give(protocol, frames([b"x"]))
        assert transport.calls == ["pause_reading"]
        for _ in range(6):
            assert await stream.recv() == b"x"
        assert transport.calls == ["pause_reading"]
        assert await stream.recv() == b"x"
        assert transport.calls == ["pause_reading", "resume_reading"]
        give(protocol, frames([b""] * 100))
        assert len(await stream.recv_many()) == 105
        assert transport.calls == ["pause_reading", "resume_reading"] * 2

    run(main())


@pytest.mark.parametrize("read_limit", [0, 1000])
def test_a_frame_larger_than_the_limit_arrives(run: Run, read_limit: int) -> None:
    async def main() -> None:
        stream, peer = await pair(read_limit=read_limit)
        payloads = [b"", bytes(300_000), b"x", bytes(1_000_000), b""]
        sending = asyncio.ensure_future(aside(peer.sendall, frames(payloads)))
        assert [await stream.recv() for _ in payloads] == payloads
        await sending
        peer.close()
        await stream.close()

    run(main())


@pytest.mark.parametrize("payload", [b"", b"xy"], ids=["empty", "small"])
@pytest.mark.parametrize("over", ["unix", "tls"])
def test_a_flood_of_small_frames_fills_no_memory(run: Run, payload: bytes, over: str, certificate: Path) -> None:
    data = frames([payload] * 60_000)
    bound = 10_000 + READ_SIZE // (10 + len(payload)) * (FRAME_COST + len(payload)) + 2 * FRAME_COST

    async def flood(stream: FramedStream, sending: asyncio.Future[Any]) -> None:
        await until(lambda: stream._reading_paused)
        count = 0
        while count < 60_000:
            await steps(count % 3)
            assert stream._waiting_size <= bound
            batch = await stream.recv_many()
            assert set(batch) == {payload}
            count += len(batch)
        await sending

    async def over_a_socket() -> None:
        stream, peer = await pair(read_limit=10_000)
        sending = asyncio.ensure_future(aside(peer.sendall, data))
        await flood(stream, sending)
        peer.close()
        await stream.close()

    async def over_tls() -> None:
        serving, connecting = tls_contexts(certificate)

        async def handler(client: FramedStream) -> None:
            await client.send_many([payload] * 60_000)
            assert await client.recv() is None

        async with await aio.start_server(handler, LOCALHOST, tls=serving) as server:
            stream = await aio.open_connection(
                server.addresses[0], tls=connecting, server_hostname="localhost", read_limit=10_000
            )
            done = asyncio.get_running_loop().create_future()
            done.set_result(None)
            await flood(stream, done)
            await stream.close()

    run(over_a_socket() if over == "unix" else over_tls())


def test_large_payloads_are_received_in_linear_time(run: Run, core: ModuleType) -> None:
    if not hasattr(core.Decoder("ascii10"), "_moved"):
        pytest.skip("only the pure core counts the bytes that it moves")

    async def main() -> None:
        stream, peer = await pair()
        payload = random.Random(2).randbytes(8 << 20)
        sending = asyncio.ensure_future(aside(peer.sendall, frames([payload, payload])))
        for _ in range(2):
            assert await stream.recv() == payload
        await sending
        # Once at most where it is received in place. Where it is not: out of the shared memory, into the payload, and
        # once more as that grows.
        assert stream._decoder._moved <= 3.1 * 2 * len(payload)
        peer.close()
        await stream.close()

    run(main())


# Closing.


def test_closing_sends_what_is_unsent_and_awaits_the_peers_end(run: Run) -> None:
    async def main() -> None:
        stream, peer = await pair(tight=True)
        await stream.send_many([bytes(100_000)])
        closing = asyncio.ensure_future(stream.close())
        again = asyncio.ensure_future(stream.close())
        assert len(await aside(recv_all, peer)) == 100_010
        peer.sendall(STREAM)
        await steps(10)
        assert not closing.done()
        peer.close()
        await asyncio.gather(closing, again)
        await stream.close()
        assert "closed" in repr(stream)

    run(main())


def test_closing_is_over_at_its_deadline(run: Run) -> None:
    async def main() -> None:
        for size in (0, 1_000_000):
            stream, peer = await pair(tight=True)
            await stream.send(bytes(size))
            await stream.close(timeout=0.01)
            assert stream.transport.is_closing()
            received = bytearray()
            with suppress(ConnectionResetError):
                received += await aside(recv_all, peer)
            assert len(received) <= size + 10
            peer.close()

    run(main())


def test_a_cancelled_close_aborts(run: Run) -> None:
    async def main() -> None:
        stream, peer = await pair()
        closing = asyncio.ensure_future(stream.close())
        await steps(2)
        closing.cancel()
        assert isinstance(await outcome(closing), asyncio.CancelledError)
        await stream.close()
        assert await aside(recv_all, peer) == b""
        peer.close()

    run(main())


def test_closing_ends_what_others_wait_for(run: Run) -> None:
    async def main() -> None:
        stream, peer = await pair(tight=True, high_mark=0, low_mark=0)
        peer.sendall(STREAM)
        receiving = [asyncio.ensure_future(stream.recv()) for _ in range(6)]
        sending = [asyncio.ensure_future(stream.send(bytes(200_000))) for _ in range(3)]
        await steps(10)
        closing = asyncio.ensure_future(stream.close())
        assert [await task for task in receiving] == [*PAYLOADS, None, None]
        assert len(await aside(recv_all, peer)) == 200_010
        peer.close()
        await closing
        results = [await outcome(task) for task in sending]
        assert results[0] is None
        assert all(isinstance(result, RuntimeError | OSError) for result in results[1:])

    run(main())


def test_after_close_there_is_nothing_to_receive_and_nothing_can_be_sent(run: Run) -> None:
    async def main() -> None:
        for end in ("close", "abort"):
            stream, peer = await pair()
            assert "open" in repr(stream)
            peer.sendall(STREAM)
            await until(lambda stream=stream: stream._payloads)
            if end == "abort":
                stream.abort()
                stream.abort()
            peer.close()
            await stream.close()
            stream.abort()
            stream.send_eof()
            assert await stream.recv() is None
            assert await stream.recv_many(timeout=0) == []
            assert [payload async for payload in stream] == []
            for call in (stream.send(b"x"), stream.send_many([b"x"])):
                assert isinstance(await outcome(call), RuntimeError)
            assert stream.queued_size == 0

    run(main())


def test_aborting_ends_a_receiver_quietly(run: Run) -> None:
    async def main() -> None:
        stream, peer = await pair()
        receiving = asyncio.ensure_future(stream.recv())
        await steps(1)
        stream.abort()
        assert await receiving is None
        await stream.close()
        peer.close()

    run(main())


def test_closing_a_connection_that_is_reset_is_no_error(run: Run) -> None:
    async def main() -> None:
        for count in range(4):
            stream, peer = await pair(over_tcp)
            reset(peer)
            await steps(count)
            await stream.send(b"x") if not count else None
            await stream.close()
            stream, peer = await pair(over_tcp)
            await stream.send(b"x")
            reset(peer)
            with suppress(OSError):
                stream.send_eof()
            await stream.close()

    run(main())


def test_half_closing_twice_is_nothing_and_receiving_goes_on(run: Run) -> None:
    async def main() -> None:
        stream, peer = await pair()
        await stream.send(b"hello")
        stream.send_eof()
        stream.send_eof()
        with pytest.raises(RuntimeError):
            await stream.send(b"x")
        assert await aside(recv_all, peer) == frames([b"hello"])
        peer.sendall(STREAM)
        peer.close()
        assert [payload async for payload in stream] == PAYLOADS
        await stream.close()

    run(main())


def test_closing_while_reading_is_paused_hears_the_peers_end(run: Run) -> None:
    async def main() -> None:
        stream, peer = await pair(read_limit=0)
        sending = asyncio.ensure_future(aside(peer.sendall, frames([bytes(100_000)] * 20)))
        await until(lambda: stream._reading_paused)
        closing = asyncio.ensure_future(stream.close(timeout=LIMIT))
        await sending
        peer.close()
        await closing

    run(main())


# Connecting.


def test_a_connection_that_cannot_be_made_in_time_leaves_nothing(run: Run, certificate: Path) -> None:
    _, context = tls_contexts(certificate)

    async def main() -> None:
        with socket.create_server(LOCALHOST) as listener:  # which says nothing to the handshake
            address = listener.getsockname()
            connect = aio.open_connection(address, tls=context, server_hostname="localhost", timeout=0.02)
            with pytest.raises(TimeoutError, match=r"not connected in 0\.02 s"):
                await connect
            connecting = asyncio.ensure_future(aio.open_connection(address, tls=context, server_hostname="localhost"))
            await asyncio.sleep(0.02)
            connecting.cancel()
            assert isinstance(await outcome(connecting), asyncio.CancelledError)
            for count in range(6):
                connecting = asyncio.ensure_future(aio.open_connection(address))
                await steps(count)
                connecting.cancel()
                made = await outcome(connecting)
                if isinstance(made, FramedStream):
                    made.abort()
                    await made.close()
        await steps(5)

    run(main())


def test_the_systems_own_timeout_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def create_connection(*args: Any, **options: Any) -> None:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    async def main() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", create_connection)
        for timeout in (None, 10.0):
            with pytest.raises(TimeoutError, match="Connection timed out"):
                await aio.open_connection(LOCALHOST, timeout=timeout)

    asyncio.run(main())


def test_a_refused_connection_and_a_wrong_certificate_are_errors(run: Run, certificate: Path) -> None:
    serving, _ = tls_contexts(certificate)

    async def main() -> None:
        with socket.create_server(LOCALHOST) as listener:
            address = listener.getsockname()
        with pytest.raises(ConnectionRefusedError):
            await aio.open_connection(address)
        async with await aio.start_server(echo, LOCALHOST, tls=serving) as server:
            with pytest.raises(ssl.SSLCertVerificationError):
                await aio.open_connection(server.addresses[0], tls=ssl.create_default_context())

    run(main())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"spec": "no such"}, ValueError),
        ({"spec": 10}, TypeError),
        ({"max_size": -1}, ValueError),
        ({"read_limit": -1}, ValueError),
        ({"low_mark": 2, "high_mark": 1}, ValueError),
        ({"low_mark": -1}, ValueError),
    ],
)
def test_wrong_arguments_are_told_at_once(run: Run, options: dict[str, Any], error: type[Exception]) -> None:
    async def main() -> None:
        with pytest.raises(error):
            await aio.open_connection(LOCALHOST, **options)
        with pytest.raises(error):
            await aio.start_server(echo, LOCALHOST, **options)
        here, there = over_unix()
        with here, there, pytest.raises(error):
            await aio.from_socket(here, **options)

    run(main())


def test_a_format_that_can_only_be_read_is_received(run: Run) -> None:
    async def main() -> None:
        here, peer = over_unix()
        stream = await aio.from_socket(here, LengthField(2, strip=0))
        peer.sendall(b"\0\1x")
        assert await stream.recv() == b"\0\1x"
        with pytest.raises(ValueError, match="strip"):
            await stream.send(b"x")
        peer.close()
        await stream.close()

    run(main())


# Servers.


async def echo(client: FramedStream) -> None:
    async for payload in client:
        await client.send(payload)


async def talk(address: Any, **options: Any) -> None:
    async with await aio.open_connection(address, **options) as stream:
        await stream.send_many(PAYLOADS)
        if options.get("tls") is None:
            stream.send_eof()
            assert [payload async for payload in stream] == PAYLOADS
        else:
            assert [await stream.recv() for _ in PAYLOADS] == PAYLOADS


@pytest.mark.parametrize("over", ["tcp", "tls", "unix", "socket"])
def test_a_server_serves_many(run: Run, over: str, tmp_path: Path, certificate: Path) -> None:
    contexts = tls_contexts(certificate) if over == "tls" else (None, None)

    async def main() -> None:
        path = tmp_path / "socket"
        address: Any = {"unix": path, "socket": socket.create_server(LOCALHOST) if over == "socket" else None}.get(
            over, LOCALHOST
        )
        async with await aio.start_server(echo, address, tls=contexts[0]) as server:
            at = path if over == "unix" else server.addresses[0]
            assert over != "unix" or server.addresses == [str(path)]
            options = {} if contexts[1] is None else {"tls": contexts[1], "server_hostname": "localhost"}
            await asyncio.gather(*(talk(at, **options) for _ in range(20)))
            await until(lambda: not server.connections)
        assert server.addresses == []
        assert not path.exists()
        with pytest.raises(OSError, match=r"."):
            await aio.open_connection(at)

    run(main())


def test_a_path_in_use_is_not_taken_over(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "socket"
        async with await aio.start_server(echo, path):
            with pytest.raises(OSError, match=r"."):
                await aio.start_server(echo, path)
            await talk(path)
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(os.fspath(path))
        async with await aio.start_server(echo, os.fspath(path)):
            await talk(os.fspath(path))

    run(main())


def test_a_handler_that_fails_is_logged_and_harms_no_other(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(client: FramedStream) -> None:
        async for payload in client:
            if payload == b"fail":
                raise ZeroDivisionError("as it must")
            if payload == b"os":
                raise OSError("as it may")
            await client.send(payload)

    async def main() -> None:
        async with await aio.start_server(handler, LOCALHOST, max_size=100) as server:
            other = await aio.open_connection(server.addresses[0])
            for bad in (frames([b"fail"]), frames([b"os"]), b"GET / HTTP/1.1\r\n\r\n", b"101       ", b"5    "):
                reader, writer = await asyncio.open_connection(*server.addresses[0])
                writer.write(frames([b"fine"]) + bad)
                writer.write_eof()
                assert await reader.read() == frames([b"fine"])
                writer.close()
                await writer.wait_closed()
                await other.send(b"still here")
                assert await other.recv() == b"still here"
            await other.close()

    with caplog.at_level(logging.INFO, "framewire"):
        run(main())
    tracebacks = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert tracebacks == [ZeroDivisionError]
    ends = [record.message for record in caplog.records if "disconnected: " in record.message]
    for name in ("OSError: as it may", "HeaderError", "FrameTooLarge", "IncompleteFrame"):
        assert sum(name in end for end in ends) == 1


def test_shutting_down_lets_handlers_take_what_has_come_and_see_the_end(run: Run) -> None:
    ended: list[list[bytes]] = []

    async def main() -> None:
        started, go_on = asyncio.Event(), asyncio.Event()

        async def handler(client: FramedStream) -> None:
            started.set()
            await go_on.wait()
            ended.append([payload async for payload in client])
            await client.send(b"goodbye")

        server = await aio.start_server(handler, LOCALHOST)
        stream = await aio.open_connection(server.addresses[0])
        await stream.send_many(PAYLOADS)
        await started.wait()
        (client,) = server.connections
        await until(lambda: len(client._payloads) == len(PAYLOADS))
        stopping = asyncio.ensure_future(server.shutdown())
        waiting = asyncio.ensure_future(server.serve_forever())
        await steps(3)
        await stream.send(b"too late")
        assert not stopping.done()
        go_on.set()
        assert [payload async for payload in stream] == [b"goodbye"]
        await stream.close()
        await stopping
        await waiting
        assert ended == [PAYLOADS]
        assert not server.connections
        await server.shutdown()

    run(main())


def test_shutting_down_cancels_handlers_that_are_late(run: Run) -> None:
    cancelled: list[FramedStream] = []

    async def late(client: FramedStream) -> None:
        try:
            await asyncio.sleep(LIMIT)
        except asyncio.CancelledError:
            cancelled.append(client)
            raise

    async def main() -> None:
        server = await aio.start_server(late, LOCALHOST)
        streams = [await aio.open_connection(server.addresses[0]) for _ in range(3)]
        await until(lambda: len(server.connections) == 3)
        await steps(2)
        await server.shutdown(timeout=0.01)
        assert len(cancelled) == 3
        for stream in streams:
            with suppress(OSError):
                assert await stream.recv() is None
            await stream.close()

    run(main())


def test_a_shutdown_that_is_cancelled_still_ends_every_handler(run: Run) -> None:
    async def late(client: FramedStream) -> None:
        await asyncio.sleep(LIMIT)

    async def main() -> None:
        server = await aio.start_server(late, LOCALHOST)
        stream = await aio.open_connection(server.addresses[0])
        await until(lambda: server.connections)
        stopping = asyncio.ensure_future(server.shutdown(timeout=LIMIT))
        await steps(2)
        stopping.cancel()
        assert isinstance(await outcome(stopping), asyncio.CancelledError)
        await until(lambda: not server.connections)
        await stream.close()

    run(main())


def test_a_connection_that_is_ready_only_after_the_shutdown_gets_no_handler(run: Run, certificate: Path) -> None:
    serving, connecting = tls_contexts(certificate)
    served: list[FramedStream] = []

    async def handler(client: FramedStream) -> None:
        served.append(client)

    def shake(sock: socket.socket) -> None:
        with suppress(OSError), connecting.wrap_socket(sock, server_hostname="localhost") as wrapped:
            wrapped.recv(1)

    async def main() -> None:
        server = await aio.start_server(handler, LOCALHOST, tls=serving)
        sock = await aside(socket.create_connection, server.addresses[0])
        sock.settimeout(LIMIT)
        await asyncio.sleep(0.05)
        await server.shutdown()
        await aside(shake, sock)
        sock.close()
        await steps(5)
        assert not server.connections
        assert not served

    run(main())


def test_a_server_that_is_cancelled_shuts_down_in_order(run: Run) -> None:
    ended: list[str] = []

    async def main() -> None:
        async def handler(client: FramedStream) -> None:
            await echo(client)
            await client.send(b"goodbye")
            ended.append("in order")

        with socket.create_server(LOCALHOST) as listener:
            address = listener.getsockname()
            serving = asyncio.ensure_future(aio.serve(handler, listener, max_size=100, shutdown_timeout=LIMIT))
            stream = await aio.open_connection(address)
            await stream.send(b"hello")
            assert await stream.recv() == b"hello"
            serving.cancel()
            assert [payload async for payload in stream] == [b"goodbye"]
            await stream.close()
            assert isinstance(await outcome(serving), asyncio.CancelledError)
        assert ended == ["in order"]

    run(main())


def test_one_loop_after_another(run: Run) -> None:
    async def main() -> None:
        async with await aio.start_server(echo, LOCALHOST) as server:
            await talk(server.addresses[0])

    for _ in range(3):
        run(main())
        asyncio.run(main())


def test_a_server_is_made_by_start_server_and_listens_at_one_port_for_each_address() -> None:
    async def main() -> None:
        async with await aio.start_server(echo, ("", 0)) as server:
            assert isinstance(server, Server)
            assert len({address[1] for address in server.addresses}) == 1

    asyncio.run(main())
