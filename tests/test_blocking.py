"""The blocking driver: scripted sockets for what a kernel rarely does, real sockets, files and pipes for the rest."""

from __future__ import annotations

import errno
import gc
import importlib.util
import io
import os
import select
import signal
import socket
import ssl
import sys
import tempfile
import threading
from _thread import interrupt_main
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from functools import partial
from itertools import filterfalse
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pairs import over_tcp, over_tls, over_unix

from framewire import FrameTooLarge, HeaderError, IncompleteFrame, blocking
from framewire.blocking import LONGEST_WAIT, READABLE, WRITABLE, FramedSocket, FrameReader, FrameWriter, connect
from framewire.connection import LARGE_SIZE

PAYLOADS = [b"hello", b"", b"wonderful", b"world"]
STREAM = b"5         hello0         9         wonderful5         world"
ENDS = [15, 25, 44, 59]
"""Where each frame of the stream ends."""


@pytest.fixture(autouse=True)
def _on_each_core(core: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("framewire.connection.Decoder", core.Decoder)
    monkeypatch.setattr("framewire.connection.Encoder", core.Encoder)


BLOCK = BlockingIOError(errno.EAGAIN, "it would block")
RESET = ConnectionResetError(errno.ECONNRESET, "reset by peer")


class ScriptedSocket:
    """A socket that does what it is told: gives these chunks, takes so many bytes, raises these errors.

    Out of `incoming` it would block; out of `outgoing` it takes everything.
    """

    def __init__(self, incoming: Iterable[bytes | Exception] = (), outgoing: Iterable[int | Exception] = ()) -> None:
        self.incoming = deque(incoming)
        self.outgoing = deque(outgoing)
        self.windows: list[int] = []
        self.sent = bytearray()
        self.buffers: list[list[Any]] = []
        self.shut: list[int] = []
        self.before: Callable[[], None] = lambda: None

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def fileno(self) -> int:
        return 7

    def recv_into(self, window: memoryview) -> int:
        self.before()
        self.windows.append(len(window))
        step = self.incoming.popleft() if self.incoming else BLOCK
        if isinstance(step, Exception):
            raise step
        n = min(len(step), len(window))
        window[:n] = step[:n]
        if n < len(step):
            self.incoming.appendleft(step[n:])
        return n

    def sendmsg(self, buffers: list[Any]) -> int:
        self.before()
        self.buffers.append(buffers)
        step = self.outgoing.popleft() if self.outgoing else sys.maxsize
        if isinstance(step, Exception):
            raise step
        data = b"".join(buffers)[:step]
        self.sent += data
        return len(data)

    def shutdown(self, how: int) -> None:
        self.shut.append(how)

    def close(self) -> None:
        pass


class Clock:
    """Time that passes only in waits, which all take as long as they may."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[tuple[int, float]] = []
        self.step: float | None = None

    def sleep(self, fd: int, event: int, seconds: float | None) -> None:
        assert fd == 7
        assert seconds is not None, "this would wait for ever"
        if self.step is not None:
            seconds = min(seconds, self.step)
        self.waits.append((event, seconds))
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(blocking, "monotonic", lambda: clock.now)
    monkeypatch.setattr(blocking, "_sleep", clock.sleep)
    return clock


def scripted(
    incoming: Iterable[bytes | Exception] = (), outgoing: Iterable[int | Exception] = (), **options: Any
) -> Any:
    """A framed socket over a script, with a timeout so that nothing can wait for ever."""
    sock: Any = ScriptedSocket(incoming, outgoing)
    return FramedSocket(sock, "ascii10", **{"timeout": 1, **options})


# Receiving, scripted


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_a_timeout_anywhere_in_the_stream_loses_no_byte(cut: int, clock: Clock) -> None:
    framed = scripted([STREAM[:cut], BLOCK, BLOCK, STREAM[cut:], b""] if cut else [BLOCK, BLOCK, STREAM, b""])
    payloads, timeouts = [], 0
    while True:
        try:
            payload = framed.recv()
        except TimeoutError:
            timeouts += 1
            continue
        if payload is None:
            break
        payloads.append(payload)
    assert payloads == PAYLOADS
    assert timeouts == 1
    assert clock.waits == [(READABLE, 1)]


def test_one_byte_at_a_time_gives_the_same_payloads(clock: Clock) -> None:
    framed = scripted([*(bytes([byte]) for byte in STREAM), b""])
    assert list(framed) == PAYLOADS


def test_recv_many_returns_what_has_come_without_waiting_for_more() -> None:
    framed = scripted([STREAM + STREAM[:20], STREAM[20:], b""])
    assert framed.recv() == PAYLOADS[0]
    assert framed.recv_many() == [*PAYLOADS[1:], PAYLOADS[0]]
    assert framed.recv_many() == PAYLOADS[1:]
    assert framed.recv_many() == []
    assert framed.recv_many() == []


def test_the_deadline_is_for_the_whole_call_not_for_each_read(clock: Clock) -> None:
    clock.step = 0.4
    framed = scripted([b"5", BLOCK, b" ", BLOCK, b" ", BLOCK, b" ", BLOCK, *(bytes([byte]) for byte in STREAM[4:])])
    with pytest.raises(TimeoutError):
        framed.recv()
    assert sum(seconds for _, seconds in clock.waits) == pytest.approx(1)
    assert framed.recv_many() == [b"hello"]


def test_bytes_that_never_stop_coming_do_not_put_off_the_deadline(clock: Clock) -> None:
    framed = scripted([bytes([byte]) for byte in STREAM])

    def tick() -> None:
        clock.now += 0.3

    framed.sock.before = tick
    with pytest.raises(TimeoutError):
        framed.recv()
    assert clock.waits == []
    assert framed.recv(timeout=100) == b"hello"


def test_a_payload_that_is_there_is_returned_however_late_it_is(clock: Clock) -> None:
    framed = scripted([STREAM])

    def tick() -> None:
        clock.now += 100

    framed.sock.before = tick
    assert framed.recv() == PAYLOADS[0]
    assert framed.recv(timeout=-1) == PAYLOADS[1]


def test_a_timeout_of_zero_takes_what_is_there_and_does_not_wait(clock: Clock) -> None:
    framed = scripted([STREAM])
    assert [framed.recv(timeout=0) for _ in PAYLOADS] == PAYLOADS
    with pytest.raises(TimeoutError):
        framed.recv(timeout=0)
    assert clock.waits == []


def test_the_timeout_of_a_call_overrides_that_of_the_socket(clock: Clock) -> None:
    framed = scripted(timeout=None)
    for seconds in (3, 0.5):
        with pytest.raises(TimeoutError):
            framed.recv_many(timeout=seconds)
    framed.timeout = 2
    with pytest.raises(TimeoutError):
        framed.recv()
    assert [seconds for _, seconds in clock.waits] == [3, 0.5, 2]
    with pytest.raises(AssertionError, match="for ever"):
        framed.recv(timeout=None)


def test_a_long_timeout_waits_in_parts(clock: Clock) -> None:
    framed = scripted(timeout=2.5 * LONGEST_WAIT)
    with pytest.raises(TimeoutError):
        framed.recv()
    assert [seconds for _, seconds in clock.waits] == [LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT / 2]


def test_an_error_is_raised_when_all_before_it_is_out_and_then_by_every_call() -> None:
    framed = scripted([STREAM + b"GET / HTTP/1.1"])
    assert [framed.recv() for _ in PAYLOADS] == PAYLOADS
    for call in (framed.recv, framed.recv_many, framed.recv):
        with pytest.raises(HeaderError) as raised:
            call()
        assert raised.value.offset == len(STREAM)


@pytest.mark.parametrize("cut", sorted({*range(len(STREAM))} - {0, *ENDS}))
def test_a_stream_that_ends_inside_a_frame_is_incomplete(cut: int) -> None:
    framed = scripted([STREAM[:cut], b""])
    whole = sum(end <= cut for end in ENDS)
    assert [framed.recv() for _ in range(whole)] == PAYLOADS[:whole]
    for _ in range(2):
        with pytest.raises(IncompleteFrame):
            framed.recv()


def test_a_lost_connection_is_an_error_behind_the_payloads_and_never_becomes_a_clean_end() -> None:
    framed = scripted([STREAM, RESET, b"", b""])
    assert [framed.recv() for _ in PAYLOADS] == PAYLOADS
    for call in (framed.recv, framed.recv, framed.recv_many):
        with pytest.raises(ConnectionResetError):
            call()


def test_a_connection_found_lost_by_sending_has_no_clean_end_for_the_receiver() -> None:
    framed = scripted([STREAM[:15], b""], [RESET])
    with pytest.raises(ConnectionResetError):
        framed.send(b"hello")
    assert framed.recv() == b"hello"
    with pytest.raises(ConnectionResetError):
        framed.recv()


def test_a_peer_that_only_stopped_receiving_can_still_end_cleanly() -> None:
    framed = scripted([STREAM, b""], [BrokenPipeError(errno.EPIPE, "broken pipe")])
    with pytest.raises(BrokenPipeError):
        framed.send(b"hello")
    assert list(framed) == PAYLOADS


def test_a_peer_given_up_by_the_system_does_not_look_like_a_timeout() -> None:
    framed = scripted([OSError(errno.ETIMEDOUT, "timed out"), b""])
    for _ in range(2):
        with pytest.raises(ConnectionAbortedError) as raised:
            framed.recv()
        assert raised.value.errno == errno.ETIMEDOUT


def test_an_interrupted_system_call_is_made_again(clock: Clock) -> None:
    framed = scripted([InterruptedError(errno.EINTR, "interrupted"), STREAM], [InterruptedError(errno.EINTR, "")])
    assert framed.recv() == b"hello"
    framed.send(b"hello")
    assert framed.sock.sent == b"5         hello"


def test_read_size_is_the_most_that_is_read_at_a_time() -> None:
    framed = scripted([STREAM, b""], read_size=16)
    assert list(framed) == PAYLOADS
    assert set(framed.sock.windows) == {16}


def test_a_large_payload_is_read_where_it_will_lie() -> None:
    payload = bytes(range(256)) * 4096
    framed = scripted([f"{len(payload):<10}".encode() + payload, b""])
    assert framed.recv() == payload
    assert len(framed.sock.windows) < 10


# Sending, scripted


@pytest.mark.parametrize("cut", range(len(STREAM)))
def test_a_timeout_anywhere_in_sending_loses_and_repeats_no_byte(cut: int, clock: Clock) -> None:
    framed = scripted(outgoing=[cut, BLOCK, BLOCK] if cut else [BLOCK, BLOCK])
    with pytest.raises(TimeoutError, match=str(len(STREAM) - cut)):
        framed.send_many(PAYLOADS)
    assert framed.queued_size == len(STREAM) - cut
    assert clock.waits == [(WRITABLE, 1)]
    framed.send(b"next")
    assert framed.sock.sent == STREAM + b"4         next"
    assert framed.queued_size == 0


def test_partial_sends_go_on_where_they_stopped(clock: Clock) -> None:
    clock.step = 0.001
    framed = scripted(outgoing=[1, BLOCK, 2, 3, BLOCK, 5, 8])
    framed.send_many(PAYLOADS)
    assert framed.sock.sent == STREAM


def test_the_deadline_is_for_the_whole_call_not_for_each_send(clock: Clock) -> None:
    clock.step = 0.4
    framed = scripted(outgoing=[1, BLOCK] * len(STREAM))
    with pytest.raises(TimeoutError):
        framed.send_many(PAYLOADS)
    assert sum(seconds for _, seconds in clock.waits) == pytest.approx(1)
    framed.flush(timeout=100)
    assert framed.sock.sent == STREAM


def test_flush_with_nothing_to_send_does_nothing() -> None:
    framed = scripted()
    framed.flush()
    framed.send_many([])
    assert framed.sock.buffers == []


def test_a_batch_goes_out_in_one_system_call() -> None:
    framed = scripted()
    framed.send_many([b"x"] * 1000)
    assert len(framed.sock.buffers) == 1


def test_a_large_payload_reaches_the_system_call_without_a_copy() -> None:
    payload = bytes(LARGE_SIZE)
    framed = scripted()
    framed.send(payload)
    ((header, sent),) = framed.sock.buffers
    assert header == b"65536     "
    assert sent is payload


def test_a_socket_without_sendmsg_is_sent_one_buffer_after_the_other() -> None:
    class PlainSocket(ScriptedSocket):
        sendmsg = property()  # type: ignore[assignment]  # there is none

        def send(self, data: Any) -> int:
            return ScriptedSocket.sendmsg(self, [data])

    sock: Any = PlainSocket(outgoing=[3, 5, 1000])
    payload = bytes(LARGE_SIZE)
    FramedSocket(sock, "u32be").send(payload)
    assert sock.sent == b"\0\1\0\0" + payload
    assert [len(buffers) for buffers in sock.buffers] == [1, 1, 1, 1]


def test_a_refused_payload_sends_nothing() -> None:
    framed = scripted(max_size=4)
    for call in (framed.send, lambda payload: framed.send_many([b"ok", payload])):
        with pytest.raises(FrameTooLarge):
            call(b"hello")
    assert framed.sock.buffers == []
    assert framed.queued_size == 0


def test_nothing_is_queued_for_a_connection_that_cannot_send() -> None:
    framed = scripted(outgoing=[BrokenPipeError(errno.EPIPE, "broken pipe")])
    with pytest.raises(BrokenPipeError):
        framed.send(b"hello")
    queued = framed.queued_size
    for call in (framed.send, lambda payload: framed.send_many([payload])):
        with pytest.raises(BrokenPipeError):
            call(b"hello")
    assert framed.queued_size == queued


def test_a_half_close_comes_behind_all_that_is_unsent(clock: Clock) -> None:
    framed = scripted(outgoing=[3, BLOCK, BLOCK])
    with pytest.raises(TimeoutError):
        framed.send(b"hello")
    framed.sock.outgoing += [BLOCK, BLOCK]
    with pytest.raises(TimeoutError):
        framed.send_eof()
    assert framed.sock.shut == []
    framed.flush()
    assert framed.sock.sent == b"5         hello"
    assert framed.sock.shut == [socket.SHUT_WR]
    with pytest.raises(RuntimeError):
        framed.send(b"more")


def test_a_half_close_that_finds_the_peer_gone_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    framed = scripted()

    def shutdown(how: int) -> None:
        raise OSError(code, "shutdown")

    monkeypatch.setattr(framed.sock, "shutdown", shutdown)
    code = errno.ENOTCONN
    framed.send_eof()
    code = errno.EBADF
    with pytest.raises(OSError, match="shutdown"):
        framed.send_eof()


def test_each_direction_waits_for_what_tls_asks(clock: Clock) -> None:
    framed = scripted([ssl.SSLWantWriteError(), STREAM], [ssl.SSLWantReadError(), ssl.SSLWantWriteError()], timeout=9)
    clock.step = 1
    assert framed.recv() == b"hello"
    framed.send(b"hello")
    assert [event for event, _ in clock.waits] == [WRITABLE, READABLE, WRITABLE]


# Interrupts


def moves_two_bytes_and_then_ctrl_c() -> Callable[[Any], int]:
    """A system call, in C from end to end, at whose return an interrupt is pending."""
    return partial(next, filterfalse(interrupt_main, [int(signal.SIGINT)]))


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.implementation.name != "cpython" or signal.SIGINT != 2, reason="counts on how CPython signals")
@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_at_the_end_of_a_system_call_loses_nothing() -> None:
    sock: Any = ScriptedSocket([b"\0\5hello"])
    framed = FramedSocket(sock, "u16be", timeout=1)
    framed._connection.get_buffer()[:2] = b"\0\0"  # the bytes that will "come": the frame of an empty payload
    sock.recv_into = moves_two_bytes_and_then_ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        framed.recv()
    del sock.recv_into
    assert framed.recv() == b""
    assert framed.recv() == b"hello"

    sock.sendmsg = moves_two_bytes_and_then_ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        framed.send(b"hello")
    del sock.sendmsg
    framed.flush()
    assert sock.sent == b"hello"


def test_an_exception_while_a_call_waits_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(fd: int, event: int, seconds: float | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(blocking, "_sleep", interrupt)
    framed = scripted([STREAM[:7], BLOCK, STREAM[7:]], [7, BLOCK])
    with pytest.raises(KeyboardInterrupt):
        framed.recv()
    assert framed.recv_many() == PAYLOADS
    with pytest.raises(KeyboardInterrupt):
        framed.send_many(PAYLOADS)
    framed.flush()
    assert framed.sock.sent == STREAM


# Real sockets


Pair = tuple[FramedSocket, FramedSocket]


@pytest.fixture(params=["unix", "tcp", "tls"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Two connected framed sockets, with a timeout that is only ever reached by a test that hangs."""
    if request.param == "tls":
        socks: tuple[socket.socket, socket.socket] = over_tls(request.getfixturevalue("certificate"))
    else:
        socks = over_unix() if request.param == "unix" else over_tcp()
    here, there = (FramedSocket(sock, "ascii10", timeout=60) for sock in socks)
    with here, there:
        yield here, there


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def test_payloads_cross_a_connection_in_both_directions(pair: Pair) -> None:
    here, there = pair
    here.send_many(PAYLOADS)
    there.send(b"back")
    assert [there.recv() for _ in PAYLOADS] == PAYLOADS
    assert here.recv() == b"back"
    here.close()
    assert there.recv() is None
    assert there.recv() is None


def test_a_silent_peer_times_out_and_can_speak_later(pair: Pair) -> None:
    here, there = pair
    with pytest.raises(TimeoutError):
        here.recv(timeout=0.001)
    with pytest.raises(TimeoutError):
        here.recv(timeout=0)
    there.send(b"hello")
    assert here.recv() == b"hello"


def test_a_peer_that_does_not_receive_times_out_and_still_gets_every_byte(pair: Pair) -> None:
    here, there = pair
    payloads = [bytes([i]) * 300_000 for i in range(50)]
    with pytest.raises(TimeoutError):
        here.send_many(payloads, timeout=0.001)
    assert here.queued_size > 0
    flush = in_thread(here.flush)
    assert [there.recv() for _ in payloads] == payloads
    flush.join()
    assert here.queued_size == 0


def test_one_thread_receives_while_another_sends(pair: Pair) -> None:
    here, there = pair
    payloads = [bytes([i % 256]) * (i * 37 % 5000) for i in range(2000)]
    payloads[1000] = bytes(1_000_000)
    got: dict[str, list[bytes]] = {}

    def receive(name: str, framed: FramedSocket) -> None:
        got[name] = [framed.recv() or b"" for _ in payloads]

    def send(framed: FramedSocket) -> None:
        for payload in payloads:
            framed.send(payload)

    threads = [
        in_thread(partial(receive, "here", here)),
        in_thread(partial(receive, "there", there)),
        in_thread(partial(send, here)),
        in_thread(partial(send, there)),
    ]
    for thread in threads:
        thread.join()
    assert got == {"here": payloads, "there": payloads}


def test_frames_of_several_threads_go_out_whole_and_reach_one_of_several(pair: Pair) -> None:
    here, there = pair
    got: list[bytes] = []

    def send(name: int) -> None:
        for i in range(100):
            here.send(bytes([name, i]) * (1 + i * 977 % 50_000))

    def receive() -> None:
        while (payload := there.recv(timeout=None)) not in (None, b"end"):
            got.append(payload)

    receivers = [in_thread(receive) for _ in range(2)]
    senders = [in_thread(partial(send, name)) for name in range(4)]
    for thread in senders:
        thread.join()
    here.send_many([b"end", b"end"])
    for thread in receivers:
        thread.join()
    assert sorted(payload[:2] for payload in got) == sorted(bytes([name, i]) for name in range(4) for i in range(100))
    assert all(payload == payload[:2] * (1 + payload[1] * 977 % 50_000) for payload in got)


def test_a_half_closed_connection_still_receives() -> None:
    here, there = (FramedSocket(sock, "ascii10", timeout=60) for sock in over_tcp())
    with here, there:
        here.send(b"question")
        here.send_eof()
        assert list(there) == [b"question"]
        there.send(b"answer")
        there.send_eof()
        assert list(here) == [b"answer"]


def test_tls_cannot_be_half_closed(certificate: Path) -> None:
    here, there = (FramedSocket(sock, "ascii10", timeout=60) for sock in over_tls(certificate))
    with here, there:
        with pytest.raises(NotImplementedError):
            here.send_eof()
        here.send(b"still open")
        assert there.recv() == b"still open"


def test_closing_tls_tells_the_peer_that_it_is_meant(certificate: Path) -> None:
    here, there = over_tls(certificate)
    with closing(there):
        FramedSocket(here, "ascii10").close()
        there.suppress_ragged_eofs = False
        assert there.recv(1) == b""


def test_a_real_reset_is_an_error_behind_what_has_come() -> None:
    here, there = over_tcp()
    with FramedSocket(here, "ascii10", timeout=60) as framed:
        framed.send(b"never read")
        there.sendall(STREAM)
        assert framed.recv() == b"hello"
        there.close()  # with unread bytes: a reset
        assert framed.recv_many() == PAYLOADS[1:]
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                framed.recv()


def test_a_closed_socket_is_an_error_not_an_end() -> None:
    here, there = over_unix()
    with closing(there):
        framed = FramedSocket(here, "ascii10")
        framed.close()
        framed.close()
        assert framed.fileno() == -1
        for call in (framed.recv, framed.recv_many, partial(framed.send, b"")):
            with pytest.raises(OSError):  # noqa: PT011
                call()


def test_a_thread_that_waits_is_woken_by_a_shutdown() -> None:
    here, there = (FramedSocket(sock, "ascii10", timeout=60) for sock in over_unix())
    with here, there:
        got: list[bytes | None] = []
        thread = in_thread(lambda: got.append(here.recv()))
        here.sock.shutdown(socket.SHUT_RDWR)
        thread.join()
        assert got == [None]


def test_a_framed_socket_shows_what_it_is() -> None:
    here, there = over_unix()
    with closing(there), FramedSocket(here, "u32be", timeout=5) as framed:
        assert framed.sock is here
        assert framed.fileno() == here.fileno()
        assert framed.timeout == 5
        assert framed.spec.name == "u32be"
        assert repr(framed) == f"<FramedSocket u32be over {here!r}>"
        assert not here.getblocking()


@pytest.mark.parametrize("options", [{"spec": "u33"}, {"max_size": -1}, {"read_size": 0}])
def test_an_impossible_framed_socket_is_refused_when_it_is_made(options: dict[str, Any]) -> None:
    here, there = over_unix()
    with here, there, pytest.raises(ValueError, match=r"u33|-1|0"):
        FramedSocket(here, **{"spec": "ascii10", **options})


def test_waiting_works_where_there_is_neither_poll_nor_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "poll", raising=False)
    monkeypatch.setitem(sys.modules, "ssl", None)
    found = importlib.util.find_spec("framewire.blocking")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    here, there = (module.FramedSocket(sock, "ascii10", timeout=60) for sock in over_unix())
    with here, there:
        payload = bytes(2_000_000)
        with pytest.raises(TimeoutError):
            here.recv(timeout=0.001)
        with pytest.raises(TimeoutError):
            here.send(payload, timeout=0.001)
        thread = in_thread(here.flush)
        assert there.recv() == payload
        thread.join()


# connect()


def test_connecting_over_tcp_sends_small_frames_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = connect(listener.getsockname(), timeout=60, read_size=16)
        there, _ = listener.accept()
    with here, there:
        assert here.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert here.timeout == 60
        there.sendall(STREAM)
        assert [here.recv() for _ in PAYLOADS] == PAYLOADS


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A path short enough for a Unix socket."""
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("no Unix sockets here")
    with tempfile.TemporaryDirectory(prefix="fw") as directory:
        yield Path(directory) / "s"


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_connecting_over_a_unix_socket_takes_its_path(short_path: Path, kind: Callable[[Path], Any]) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_path))
        listener.listen()
        here = connect(kind(short_path), "lines", max_size=100, timeout=60)
        there, _ = listener.accept()
    with here, there:
        here.send(b"hello")
        assert there.recv(100) == b"hello\n"
        with pytest.raises(FrameTooLarge):
            here.send(bytes(101))


def test_a_connection_that_fails_leaves_no_socket_open(short_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        connect(str(short_path))
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(ValueError, match="u33"):
        connect(listener.getsockname(), "u33")
    gc.collect()  # a socket left open would warn here, and warnings are errors


def test_a_platform_without_unix_sockets_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    with pytest.raises(NotImplementedError, match="host, port"):
        connect("/a/path")


# Files and pipes


class RawFile(io.RawIOBase):
    """A raw file of scripted steps: chunks to give, sizes to take, None where it would block."""

    def __init__(self, incoming: Iterable[bytes | None] = (), outgoing: Iterable[int | None] = ()) -> None:
        self.incoming = deque(incoming)
        self.outgoing = deque(outgoing)
        self.written = bytearray()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, window: Any) -> int | None:
        step = self.incoming.popleft() if self.incoming else b""
        if step is None:
            return None
        n = min(len(step), len(window))
        window[:n] = step[:n]
        if n < len(step):
            self.incoming.appendleft(step[n:])
        return n

    def write(self, data: Any) -> int | None:
        step = self.outgoing.popleft() if self.outgoing else sys.maxsize
        if step is None:
            return None
        self.written += data[:step]
        return min(step, len(data))


FILES: dict[str, Callable[[bytes], Any]] = {
    "memory": io.BytesIO,
    "raw": lambda data: RawFile([data]),
    "raw, byte by byte": lambda data: RawFile(bytes([byte]) for byte in data),
    "buffered": lambda data: io.BufferedReader(RawFile([data])),
    "buffered, small": lambda data: io.BufferedReader(RawFile([data]), buffer_size=3),
}


@pytest.mark.parametrize("kind", FILES)
def test_frames_are_read_from_any_binary_file(kind: str) -> None:
    with FrameReader(FILES[kind](STREAM), "ascii10") as reader:
        assert reader.read() == PAYLOADS[0]
        assert list(reader) == PAYLOADS[1:]
        assert reader.read() is None
        assert reader.read_many() == []


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
@pytest.mark.parametrize("read_size", [None, 4])
def test_a_file_cut_inside_a_frame_gives_what_is_whole_and_then_the_offset(cut: int, read_size: int | None) -> None:
    reader = FrameReader(io.BytesIO(STREAM[:cut]), "ascii10", read_size=read_size)
    whole = sum(end <= cut for end in ENDS)
    assert [reader.read() for _ in range(whole)] == PAYLOADS[:whole]
    if cut in (0, *ENDS):
        assert reader.read() is None
    else:
        with pytest.raises(IncompleteFrame) as raised:
            reader.read()
        assert raised.value.offset == [0, *ENDS][whole]


def test_a_bad_header_in_a_file_is_raised_behind_the_payloads_before_it() -> None:
    reader = FrameReader(io.BytesIO(STREAM + b"not a header"), "ascii10")
    assert reader.read_many() == PAYLOADS
    for call in (reader.read, reader.read_many):
        with pytest.raises(HeaderError) as raised:
            call()
        assert raised.value.offset == len(STREAM)


def test_a_buffered_pipe_gives_a_frame_as_soon_as_it_has_come() -> None:
    read_end, write_end = os.pipe()
    with FrameReader(open(read_end, "rb"), "ascii10") as reader, FrameWriter(write_end, "ascii10") as writer:
        for payload in PAYLOADS:
            writer.write(payload)
            assert reader.read() == payload


def test_descriptors_are_closed_with_their_reader_and_writer() -> None:
    read_end, write_end = os.pipe()
    with FrameReader(read_end, "ascii10") as reader:
        with FrameWriter(write_end, "ascii10") as writer:
            writer.write_many(PAYLOADS)
        assert list(reader) == PAYLOADS
    for fd in (read_end, write_end):
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            os.fstat(fd)


def test_a_file_that_has_nothing_yet_loses_nothing() -> None:
    reader = FrameReader(RawFile([STREAM[:7], None, STREAM[7:]]), "ascii10")
    with pytest.raises(BlockingIOError):
        reader.read()
    assert list(reader) == PAYLOADS


@pytest.mark.parametrize("at_most", [1, 2, 7, 100])
def test_a_raw_file_that_writes_in_part_gets_every_byte_once(at_most: int) -> None:
    file = RawFile(outgoing=[at_most] * len(STREAM))
    FrameWriter(file, "ascii10").write_many(PAYLOADS)
    assert file.written == STREAM


@pytest.mark.parametrize("cut", range(1, len(STREAM)))
def test_a_file_that_is_full_goes_on_where_it_stopped(cut: int) -> None:
    file = RawFile(outgoing=[cut, None])
    writer = FrameWriter(file, "ascii10")
    with pytest.raises(BlockingIOError):
        writer.write_many(PAYLOADS)
    writer.flush()
    assert file.written == STREAM


@pytest.mark.parametrize("cut", range(1, len(STREAM)))
def test_a_buffered_file_that_is_full_goes_on_where_it_stopped(cut: int) -> None:
    file = RawFile(outgoing=[cut, None, None, None])
    writer = FrameWriter(io.BufferedWriter(file, buffer_size=3), "ascii10")
    for step in (partial(writer.write_many, PAYLOADS), *[writer.flush] * 4):
        with suppress(BlockingIOError):
            step()
    assert file.written == STREAM


def test_a_buffered_file_is_flushed_when_asked_and_closed_with_the_writer() -> None:
    file = RawFile()
    with FrameWriter(io.BufferedWriter(file), "ascii10") as writer:
        writer.write(PAYLOADS[0])
        assert file.written == b""
        writer.flush()
        assert file.written == STREAM[: ENDS[0]]
        writer.write_many(PAYLOADS[1:])
    assert file.written == STREAM
    assert file.closed
    writer.close()


def test_a_file_is_closed_even_if_it_cannot_be_flushed() -> None:
    file = RawFile(outgoing=[3, None, None])
    writer = FrameWriter(file, "ascii10")
    with pytest.raises(BlockingIOError):
        writer.write(b"hello")
    with pytest.raises(BlockingIOError):
        writer.close()
    assert file.closed


def test_a_refused_payload_writes_nothing() -> None:
    file = RawFile()
    writer = FrameWriter(file, "u8", max_size=4)
    for call in (writer.write, lambda payload: writer.write_many([b"ok", payload])):
        with pytest.raises(FrameTooLarge):
            call(b"hello")
    assert file.written == b""


def test_a_text_file_is_refused_when_the_reader_or_writer_is_made() -> None:
    for kind in (FrameReader, FrameWriter):
        for file in (io.StringIO(), io.TextIOWrapper(io.BytesIO()), "a path"):
            with pytest.raises(TypeError, match="binary"):
                kind(file, "ascii10")  # type: ignore[arg-type]


def test_readers_and_writers_show_what_they_are() -> None:
    file = io.BytesIO()
    assert repr(FrameReader(file, "ascii10")) == f"<FrameReader ascii10 over {file!r}>"
    assert repr(FrameWriter(file, "ascii10")) == f"<FrameWriter ascii10 over {file!r}>"
