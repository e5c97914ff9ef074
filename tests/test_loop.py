"""The event loop: calls and timers, listeners and connections, deadlines, backpressure and broadcasts.

Time passes only where the loop waits (the fixture `timeless`), so no test takes as long as its deadlines.
"""

from __future__ import annotations

import itertools
import logging
import os
import random
import selectors
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from looping import (
    LIMIT,
    Clock,
    Echo,
    Recorder,
    clock,
    loop,
    narrow,
    recv_all,
    recv_exactly,
    reset,
    run_turns,
    run_until,
    settle,
    steered,
    timeless,
)
from pairs import over_tcp, over_unix, tls_contexts

import framewire.broadcast
import framewire.loop
from framewire import Decoder, FrameTooLarge, HeaderError, IncompleteFrame
from framewire._core_py import Encoder
from framewire.channel import IDLE_LOOKS
from framewire.loop import Channel, Group, Handler, Loop, State

__all__ = ["clock", "loop", "timeless"]

LOCAL = ("127.0.0.1", 0)


def frames(payloads: list[bytes]) -> bytes:
    return Encoder("ascii10", max_size=None).encode_many(payloads)


def attached(
    loop: Loop, handler: Handler, spec: str = "ascii10", *, over: Any = over_unix, tight: bool = False, **options: Any
) -> tuple[Channel, socket.socket]:
    """A channel that is open, and its peer."""
    here, there = over()
    if tight:
        narrow(here, there)
    there.settimeout(LIMIT)
    channel = loop.attach(here, handler, spec, **options)
    run_turns(loop)
    return channel, there


def drained(there: socket.socket) -> bytes:
    """What has come, without waiting."""
    there.setblocking(False)
    received = bytearray()
    with suppress(BlockingIOError):
        while chunk := there.recv(1 << 20):
            received += chunk
    there.settimeout(LIMIT)
    return bytes(received)


# Calls


def test_calls_come_in_order_and_those_from_within_in_the_next_turn(loop: Loop) -> None:
    calls: list[Any] = []

    def first() -> None:
        calls.append("first")
        loop.call_soon(lambda: (calls.append(("third", loop.turn_count)), loop.stop()))

    loop.call_soon(first)
    loop.call_soon(calls.append, "second")
    loop.run()
    assert calls == ["first", "second", ("third", 2)]


def test_timers_come_in_the_order_of_their_times(timeless: Loop) -> None:
    calls: list[int] = []
    order = list(range(100))
    random.Random(5).shuffle(order)
    for i in order:
        timeless.call_later(i, calls.append, i)
    run_until(timeless, lambda: len(calls) == 100)
    assert calls == sorted(order)


def test_a_timer_comes_when_it_is_due_and_never_before(timeless: Loop, clock: Clock) -> None:
    came: list[float] = []
    begin = clock.now
    timer = timeless.call_later(5, lambda: came.append(clock.now))
    assert timer.pending
    assert timer.when == begin + 5
    run_until(timeless, lambda: came)
    assert begin + 5 <= came[0] < begin + 5.1
    assert not timer.pending
    timer.cancel()


def test_the_time_is_that_of_the_turn(timeless: Loop, clock: Clock) -> None:
    recorder = Recorder()
    _, there = attached(timeless, recorder)
    times: list[float] = []
    recorder.frames_received = lambda channel, payloads: times.append(timeless.time())  # type: ignore[method-assign]
    clock.now += 1000
    with there:
        there.sendall(frames([b"x"]))
        settle(timeless)
    assert times == [clock.now]


def test_a_timer_of_the_past_comes_in_the_next_turn(timeless: Loop) -> None:
    calls: list[int] = []

    def again() -> None:
        calls.append(timeless.turn_count)
        if len(calls) < 5:
            timeless.call_later(-1, again)

    timeless.call_later(0, again)
    run_until(timeless, lambda: len(calls) == 5)
    assert len(set(calls)) == 5


def test_a_timer_can_cancel_another_that_is_due(timeless: Loop) -> None:
    calls: list[str] = []
    timeless.call_later(1, lambda: other.cancel())
    other = timeless.call_later(1, calls.append, "other")
    timeless.call_later(2, calls.append, "last")
    run_until(timeless, lambda: calls)
    assert calls == ["last"]


def test_cancelled_timers_do_not_pile_up(timeless: Any) -> None:
    kept = timeless.call_later(10**6, print)
    for _ in range(20_000):
        timeless.call_later(1000, print).cancel()
    assert len(timeless._timers) < 300
    kept.cancel()


def test_timers_that_are_cancelled_when_they_are_due_do_not_pile_up_either(timeless: Any) -> None:
    def cancel(timers: list[Any]) -> None:
        for timer in timers:
            timer.cancel()

    for _ in range(20):
        timers: list[Any] = []
        timeless.call_later(1, cancel, timers)
        timers += [timeless.call_later(1.5, pytest.fail) for _ in range(5000)]
        done = timeless.call_later(2, lambda: None)
        timeless._selector.clock.now += 1.7  # a long turn: all are due at once
        run_until(timeless, lambda: not done.pending)  # noqa: B023
    for _ in range(20_000):
        timeless.call_later(1000, print).cancel()
    assert len(timeless._timers) < 300


def test_a_timer_in_a_thousand_years_is_no_trouble(timeless: Loop) -> None:
    calls: list[int] = []
    for seconds in (1e300, float("inf"), 3e10, 10**7):
        timeless.call_later(seconds, calls.append, 1)
    timeless.call_later(1, calls.append, 2)
    run_until(timeless, lambda: calls)
    assert calls == [2]


def test_a_far_timer_does_not_overflow_the_selector() -> None:
    with Loop() as loop:
        loop.call_later(1e9, print)
        thread = threading.Timer(0.05, loop.call_soon_threadsafe, [loop.stop])
        thread.start()
        loop.run()
        thread.join()


def test_a_call_that_raises_harms_nobody_else(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []
    loop.call_soon(lambda: 1 // 0)
    loop.call_later(0, lambda: [][1])
    loop.call_later(0.001, calls.append, 1)
    run_until(loop, lambda: calls)
    assert {record.exc_info[0] for record in caplog.records if record.exc_info} == {ZeroDivisionError, IndexError}


def test_calls_from_threads_all_come_in_each_threads_order(loop: Loop) -> None:
    calls: list[tuple[int, int]] = []

    def work(number: int) -> None:
        for i in range(500):
            loop.call_soon_threadsafe(calls.append, (number, i))
            if i % 50 == 0:
                time.sleep(0.001)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    run_until(loop, lambda: len(calls) == 2000)
    for thread in threads:
        thread.join()
    for number in range(4):
        assert [i for n, i in calls if n == number] == list(range(500))


def test_no_wakeup_is_lost_when_a_call_is_made_in_the_middle_of_a_turn(loop: Any) -> None:
    """A thread that was stopped between its call, which has come, and the wakeup: the next one must wake the loop."""
    calls: list[int] = []
    loop._woken = True
    loop._wake()
    turns = loop.turn_count
    run_until(loop, lambda: loop.turn_count == turns + 2)  # one for the wakeup, with nothing to call
    thread = threading.Timer(0.02, loop.call_soon_threadsafe, [calls.append, 2])
    thread.start()
    run_until(loop, lambda: calls)
    thread.join()


def test_threads_that_call_while_the_loop_falls_asleep_always_wake_it() -> None:
    calls = 0
    with Loop() as loop:
        done = threading.Event()

        def called() -> None:
            nonlocal calls
            calls += 1
            done.set()

        def work() -> None:
            for _ in range(2000):
                done.clear()
                loop.call_soon_threadsafe(called)
                assert done.wait(LIMIT), "a wakeup was lost"
            loop.call_soon_threadsafe(loop.stop)

        thread = threading.Thread(target=work)
        thread.start()
        watchdog = loop.call_later(LIMIT + 5, loop.stop)
        loop.run()
        thread.join()
        assert watchdog.pending
    assert calls == 2000


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signals here")
@pytest.mark.parametrize("while_running", [False, True])
def test_signals_come_into_the_loop(loop: Loop, while_running: bool) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    calls: list[int] = []
    loop.call_later(LIMIT, loop.stop)
    if while_running:
        loop.call_soon(loop.on_signal, signal.SIGUSR1, calls.append, 1)
        run_turns(loop)
    else:
        loop.on_signal(signal.SIGUSR1, calls.append, 1)
    thread = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGUSR1])
    thread.start()
    run_until(loop, lambda: calls)
    thread.join()
    assert calls == [1]
    loop.close()
    loop._timers.clear()
    assert signal.getsignal(signal.SIGUSR1) == before
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals cannot be sent to threads here")
@pytest.mark.parametrize("while_running", [False, True])
def test_a_signal_that_another_thread_gets_wakes_the_loop(loop: Loop, while_running: bool) -> None:
    calls: list[int] = []
    if while_running:
        loop.call_soon(loop.on_signal, signal.SIGUSR1, calls.append, 1)
    else:
        loop.on_signal(signal.SIGUSR1, calls.append, 1)
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    kill = threading.Timer(0.1, signal.pthread_kill, [other.ident, signal.SIGUSR1])
    kill.start()
    try:
        run_until(loop, lambda: calls)
    finally:
        stop.set()
        other.join()
        kill.join()


def test_signals_are_for_the_main_thread(loop: Loop) -> None:
    errors: list[Exception] = []

    def work() -> None:
        try:
            loop.on_signal(signal.SIGINT, print)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert isinstance(errors[0], ValueError)
    assert not loop._signals


def test_any_descriptor_can_be_watched(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    here, there = socket.socketpair()
    calls: list[bytes] = []

    def ready() -> None:
        calls.append(here.recv(100))
        if len(calls) == 1:
            raise ValueError("the first")

    with here, there:
        loop.watch(here, selectors.EVENT_READ, ready)
        there.send(b"one")
        run_until(loop, lambda: len(calls) == 1)
        assert "the first" in caplog.text
        there.send(b"two")
        run_until(loop, lambda: len(calls) == 2)
        loop.unwatch(here)
        there.send(b"three")
        settle(loop)
        assert calls == [b"one", b"two"]
        with pytest.raises(KeyError):
            loop.unwatch(here)


def test_what_is_unwatched_is_not_called_even_in_the_same_turn(loop: Loop) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    calls: list[int] = []

    def ready(i: int) -> None:
        calls.append(i)
        for here, _ in pairs:
            loop.unwatch(here)

    for i, (here, there) in enumerate(pairs):
        loop.watch(here, selectors.EVENT_READ, lambda i=i: ready(i))
        there.send(b"x")
    settle(loop)
    assert len(calls) == 1
    for pair in pairs:
        for sock in pair:
            sock.close()


# Running


def test_misuse_is_an_error() -> None:
    loop = steered()
    errors: list[Any] = []

    def inside() -> None:
        for call in (loop.run, loop.close):
            with pytest.raises(RuntimeError) as misused:
                call()
            errors.append(misused.value)

    loop.call_soon(inside)
    run_turns(loop)
    assert len(errors) == 2
    loop.close()
    loop.close()
    here, there = socket.socketpair()
    with here, there:
        for misuse in (
            loop.run,
            lambda: loop.listen(LOCAL, Recorder()),
            lambda: loop.connect(LOCAL, Recorder()),
            lambda: loop.attach(here, Recorder()),
        ):
            with pytest.raises(RuntimeError, match="the loop is closed"):
                misuse()
        assert here.fileno() >= 0
    loop.call_soon_threadsafe(print)  # a thread that comes too late


def test_a_loop_can_run_again(loop: Loop) -> None:
    calls: list[int] = []
    for i in range(3):
        loop.call_soon(calls.append, i)
        run_turns(loop)
    assert calls == [0, 1, 2]


def test_a_keyboard_interrupt_comes_out_of_run(loop: Loop) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    run_turns(loop)


def test_closing_a_loop_with_calls_that_call_themselves_ends() -> None:
    loop = Loop()

    def again() -> None:
        loop.call_soon(again)

    again()
    loop.close()


def test_closing_a_loop_closes_all_that_is_left(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    loop = steered()
    path = loop.listen(LOCAL, recorder).address
    loop.connect(path, recorder)
    run_until(loop, lambda: recorder.names.count("connected") == 2)
    here, there = socket.socketpair()
    with there:
        loop.attach(here, recorder)  # never begun
        failed = loop.connect(path, recorder)
        loop.close()
    assert here.fileno() == -1
    assert recorder.names.count("disconnected") == 3
    assert failed in recorder.errors
    assert not loop.channels


@pytest.mark.parametrize("how", ["abort", "close the loop", "shutdown"])
def test_an_attempt_to_connect_can_be_given_up(how: str, loop: Loop) -> None:
    recorder = Recorder()
    with socket.socket() as listener:  # a full backlog: connections are neither made nor refused
        listener.bind(LOCAL)
        listener.listen(0)
        others = []
        for _ in range(4):
            others.append(socket.socket())
            others[-1].setblocking(False)
            others[-1].connect_ex(listener.getsockname())
        channel = loop.connect(listener.getsockname(), recorder, timeout=LIMIT)
        run_turns(loop, 3)
        assert channel.state == State.CONNECTING
        if how == "abort":
            channel.abort()
            run_turns(loop)
            assert len(loop._selector.get_map()) == 1
        elif how == "shutdown":
            loop.shutdown()
            loop.run()
        loop.close()
        for other in others:
            other.close()
    assert recorder.errors == {channel: None}
    assert not loop._connectors


# Listeners


def test_a_listener_on_tcp_says_where_it_is(loop: Loop) -> None:
    echo, client = Echo(), Recorder()
    listener = loop.listen(LOCAL, echo)
    host, port = listener.address
    assert (host, port > 0) == ("127.0.0.1", True)
    channel = loop.connect(listener.address, client)
    channel.context = "mine"
    assert channel.state == State.CONNECTING
    channel.send(b"before there is a connection")
    run_until(loop, lambda: client.received)
    assert client.received == [b"before there is a connection"]
    assert channel.peername == listener.address
    assert channel.name == f"127.0.0.1:{port}"
    assert channel.context == "mine"
    assert channel.loop is loop
    assert channel.handler is client
    (served,) = echo.channels
    assert served.context is None
    assert loop.channels == {channel, served}
    assert served.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert channel.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not channel.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    channel.close()
    run_until(loop, lambda: client.errors and echo.errors)
    assert client.errors == {channel: None}
    assert echo.errors == {served: None}
    assert not loop.channels
    listener.close()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.address)


def test_a_listener_on_ipv6(loop: Loop) -> None:
    recorder = Recorder()
    try:
        listener = loop.listen(("::1", 0), recorder, keepalive=True)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    assert len(listener.address) == 4
    channel = loop.connect(listener.address[:2], recorder)
    run_until(loop, lambda: len(recorder.channels) == 2)
    assert channel.name == f"[::1]:{listener.address[1]}"
    for one in recorder.channels:
        assert bool(one.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is (one is not channel)


def test_a_listener_on_every_address_takes_both_families(loop: Loop) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no dual-stack sockets here")
    recorder = Recorder()
    port = loop.listen(("::", 0), recorder).address[1]
    for host in ("127.0.0.1", "::1"):
        loop.connect((host, port), recorder)
    run_until(loop, lambda: len(recorder.channels) == 4)


def test_a_listener_on_a_path_removes_it_in_the_end(loop: Loop, tmp_path: Path) -> None:
    recorder = Recorder()
    path = tmp_path / "socket"
    listener = loop.listen(path, recorder)
    assert listener.address == str(path)
    channel = loop.connect(path, recorder)
    run_until(loop, lambda: len(recorder.channels) == 2)
    assert channel.name == str(path)
    with pytest.raises(OSError, match="in use"):
        loop.listen(path, recorder)
    run_turns(loop, 3)
    assert path.exists()
    listener.close()
    assert not path.exists()


def test_a_path_that_a_dead_server_has_left_is_taken(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    recorder = Recorder()
    loop.listen(path, recorder)
    loop.connect(path, recorder)
    run_until(loop, lambda: len(recorder.channels) == 2)


def test_a_path_of_a_server_that_is_only_busy_is_not_taken(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(path)
        busy.listen(0)
        waiting.connect(path)
        with pytest.raises(OSError, match="in use"):
            loop.listen(path, Recorder())


def test_a_path_that_is_no_socket_is_left_alone(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(OSError, match="in use"):
        loop.listen(path, Recorder())
    assert path.read_text() == "data"


def test_a_path_that_another_server_has_taken_over_stays(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    first = loop.listen(path, Recorder())
    path.rename(tmp_path / "moved")
    second = loop.listen(path, Recorder())
    first.close()
    assert path.exists()
    second.close()
    assert not path.exists()


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="no SO_REUSEPORT here")
def test_listeners_can_share_a_port(loop: Loop) -> None:
    recorder = Recorder()
    address = loop.listen(LOCAL, recorder, reuse_port=True).address
    loop.listen(address, recorder, reuse_port=True)
    with pytest.raises(OSError, match="in use"):
        loop.listen(address, recorder)
    for _ in range(10):
        loop.connect(address, recorder)
    run_until(loop, lambda: len(recorder.channels) == 20)


def test_a_listener_takes_a_socket_that_listens(loop: Loop) -> None:
    recorder = Recorder()
    listener = loop.listen(socket.create_server(LOCAL), recorder)
    loop.connect(listener.address, recorder)
    run_until(loop, lambda: len(recorder.channels) == 2)


def test_connections_past_the_limit_are_refused(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "framewire")
    recorder = Recorder()
    listener = loop.listen(LOCAL, recorder, max_channels=3)
    socks = [socket.create_connection(listener.address, LIMIT) for _ in range(5)]
    run_until(loop, lambda: len(recorder.channels) == 3)
    run_until(loop, lambda: loop.stats().refused_count == 2)
    refused = [sock for sock in socks if f"{sock.getsockname()[1]} refused" in caplog.text]
    assert len(refused) == 2
    for sock in refused:
        assert sock.recv(1) == b""
    socks[0].close()
    run_until(loop, lambda: recorder.errors)
    with socket.create_connection(listener.address):
        run_until(loop, lambda: len(recorder.channels) == 4)
    for sock in socks:
        sock.close()


def test_a_listener_closed_by_its_first_connection_accepts_no_other(loop: Loop) -> None:
    recorder = Recorder()
    listener = loop.listen(LOCAL, recorder)
    connected = recorder.connected

    def close(channel: Channel) -> None:
        connected(channel)
        listener.close()

    recorder.connected = close  # type: ignore[method-assign]
    socks = [socket.create_connection(listener.address) for _ in range(3)]
    run_until(loop, lambda: recorder.channels)
    run_turns(loop, 2)
    assert len(recorder.channels) == 1
    for sock in socks:
        sock.close()


@pytest.mark.parametrize(
    "options",
    [
        {"low_mark": 2, "high_mark": 1},
        {"low_mark": -1},
        {"idle_timeout": 0},
        {"frame_timeout": -1},
        {"handshake_timeout": 0},
        {"close_timeout": 0},
        {"idle_timeout": float("nan")},
        {"spec": "no such format"},
        {"max_size": -1},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused_at_once(loop: Loop, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        loop.listen(LOCAL, Recorder(), **{"spec": "ascii10", **options})
    with pytest.raises(ValueError, match=r"."):
        loop.connect(LOCAL, Recorder(), **{"spec": "ascii10", **options})


@pytest.mark.parametrize("options", [{"nonsense": 1}, {"handshake_timeout": None}, {"close_timeout": None}], ids=str)
def test_options_of_the_wrong_type_are_refused_at_once(loop: Loop, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        loop.listen(LOCAL, Recorder(), **options)


# Connecting


def test_a_connection_that_is_refused_is_told_once(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "framewire")
    with socket.create_server(LOCAL) as gone:
        address = gone.getsockname()
    recorder = Recorder()
    channel = loop.connect(address, recorder)
    channel.send(b"lost")
    run_until(loop, lambda: recorder.errors)
    assert recorder.names == ["disconnected"]
    assert isinstance(recorder.errors[channel], ConnectionRefusedError)
    assert f"{address[0]}:{address[1]} not connected: ConnectionRefusedError" in caplog.text
    channel.send(b"dropped")
    channel.close()
    channel.abort()
    run_turns(loop, 2)
    assert channel.queued_size == 0


def test_a_path_without_a_server_is_told(loop: Loop, tmp_path: Path) -> None:
    recorder = Recorder()
    channel = loop.connect(tmp_path / "nobody", recorder)
    run_until(loop, lambda: recorder.errors)
    assert isinstance(recorder.errors[channel], FileNotFoundError)


@pytest.mark.parametrize(
    "address",
    [
        ("no-such-host.invalid", 1),
        ("x" * 300, 1),
        ("é." * 200, 1),
        ("nul\0nul", 1),
        ("127.0.0.1", 70_000),
        ("127.0.0.1", 10**30),
        ("127.0.0.1", -1),
        "x" * 300,
    ],
    ids=lambda address: ascii(address)[:30],
)
def test_an_address_that_leads_nowhere_is_told(loop: Loop, address: Any) -> None:
    recorder = Recorder()
    channel = loop.connect(address, recorder)
    run_until(loop, lambda: recorder.errors)
    assert isinstance(recorder.errors[channel], OSError)
    assert channel.state == State.CLOSED


@pytest.mark.parametrize("address", [7, None, (7, 7), (None, 7)], ids=str)
def test_what_is_no_address_is_refused_at_once(loop: Loop, address: Any) -> None:
    with pytest.raises(TypeError):
        loop.connect(address, Recorder())


def test_every_address_of_a_host_is_tried(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    address = loop.listen(LOCAL, recorder).address
    with socket.create_server(LOCAL) as gone:
        dead = gone.getsockname()
    threads: list[Any] = []

    def getaddrinfo(host: Any, port: int, *args: Any, **options: Any) -> list[Any]:
        if options.get("flags"):
            raise socket.gaierror(socket.EAI_NONAME, "a name")
        threads.append(threading.current_thread())
        dead6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", dead[1], 0, 0))
        return [dead6, *((socket.AF_INET, socket.SOCK_STREAM, 6, "", a) for a in (dead, address, dead))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    channel = loop.connect(("somewhere", 5), recorder)
    run_until(loop, lambda: len(recorder.channels) == 2)
    assert channel.peername == address
    assert threads[0] is not threading.current_thread()


def test_when_no_address_answers_the_last_error_is_told(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(LOCAL) as gone:
        dead = gone.getsockname()
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", dead)] * 3
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
    recorder = Recorder()
    channel = loop.connect(dead, recorder)
    run_until(loop, lambda: recorder.errors)
    assert isinstance(recorder.errors[channel], ConnectionRefusedError)


def test_a_connection_that_takes_too_long_is_given_up(timeless: Loop) -> None:
    recorder = Recorder()
    with socket.socket() as listener:
        listener.bind(LOCAL)
        listener.listen(0)
        others = []
        for _ in range(4):
            others.append(socket.socket())
            others[-1].setblocking(False)
            others[-1].connect_ex(listener.getsockname())
        channel = timeless.connect(listener.getsockname(), recorder, timeout=5)
        run_until(timeless, lambda: recorder.errors)
        for other in others:
            other.close()
    assert isinstance(recorder.errors[channel], TimeoutError)


def test_a_name_that_is_looked_up_for_too_long_is_given_up(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    release, recorder = threading.Event(), Recorder()

    def getaddrinfo(*args: Any, **options: Any) -> Any:
        if not options.get("flags"):
            release.wait(LIMIT)
        raise socket.gaierror(socket.EAI_NONAME, "nobody knows")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    channel = loop.connect(("somewhere", 5), recorder, timeout=0.05)
    run_until(loop, lambda: recorder.errors)
    assert isinstance(recorder.errors[channel], TimeoutError)
    release.set()
    run_turns(loop, 3)
    assert len(recorder.errors) == 1


def test_a_connected_socket_can_be_attached_and_dropped_before_it_begins(loop: Loop) -> None:
    recorder = Recorder()
    here, there = socket.socketpair()
    with there:
        channel = loop.attach(here, recorder)
        channel.abort()
        run_turns(loop, 2)
        assert here.fileno() == -1
    assert recorder.events == []


# Frames and the life of a channel


def test_counts_and_sizes_are_kept(loop: Loop) -> None:
    recorder = Recorder()
    channel, there = attached(loop, recorder)
    channel.send(b"hello")
    channel.send_many([b"a", b"bc"])
    channel.send_many([])
    channel.send_many(payload for payload in [b"x"])
    channel.send(b"y" * 100_000)
    settled = 15 + 11 + 12 + 11 + 100_010
    recv = threading.Thread(target=recv_exactly, args=(there, settled))
    recv.start()
    there.sendall(frames([b"one", b"two"]) + b"3")
    run_until(loop, lambda: not channel.queued_size and len(recorder.received) == 2)
    recv.join()
    assert (channel.sent_count, channel.sent_size) == (5, settled)
    assert (channel.received_count, channel.received_size) == (2, 27)
    stats = loop.stats()
    assert (stats.channel_count, stats.sent_count, stats.sent_size) == (1, 5, settled)
    there.close()
    run_until(loop, lambda: recorder.errors)
    assert isinstance(recorder.errors[channel], IncompleteFrame)
    stats = loop.stats()
    assert (stats.channel_count, stats.received_count, stats.received_size, stats.queued_size) == (0, 2, 27, 0)


def test_what_a_turn_sends_goes_out_in_one_call(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    channel, there = attached(loop, Recorder())
    sends = count_sends(monkeypatch)
    for i in range(50):
        channel.send(b"%d" % i)
    assert sends == []
    run_turns(loop)
    if sends:  # the compiled endpoint sends below Python
        assert len(sends) == 1
    assert drained(there) == frames([b"%d" % i for i in range(50)])
    there.close()


def count_sends(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note every sendmsg() of the pure endpoint from here on."""
    sends: list[int] = []
    inner = framewire._endpoint_py._sendmsg

    def sendmsg(sock: socket.socket, buffers: Any) -> int:
        sends.append(sock.fileno())
        return inner(sock, buffers)

    monkeypatch.setattr("framewire._endpoint_py._sendmsg", sendmsg)
    return sends


def test_sending_refuses_what_it_cannot_send(loop: Loop) -> None:
    channel, there = attached(loop, Recorder(), max_size=10)
    with pytest.raises(FrameTooLarge):
        channel.send(b"x" * 11)
    with pytest.raises(FrameTooLarge):
        channel.send_many([b"fine", b"x" * 11])
    with pytest.raises(TypeError):
        channel.write(bytearray(b"no"))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        channel.send("text")  # type: ignore[arg-type]
    assert channel.queued_size == 0
    channel.write(b"2         ok")
    channel.send(bytearray(b"fine"))
    channel.send(memoryview(b"too"))
    run_turns(loop)
    assert drained(there) == frames([b"ok", b"fine", b"too"])
    there.close()


def test_after_closing_sending_is_an_error_and_after_the_end_it_is_nothing(loop: Loop) -> None:
    recorder = Recorder()
    channel, there = attached(loop, recorder)
    channel.close()
    for misuse in (lambda: channel.send(b"x"), lambda: channel.send_many([b"x"]), lambda: channel.write(b"x")):
        with pytest.raises(RuntimeError):
            misuse()
    channel.close()
    channel.send_eof()
    there.close()
    run_until(loop, lambda: recorder.errors)
    for call in (lambda: channel.send(b"x"), lambda: channel.send_many([b"x"]), channel.close, channel.send_eof):
        call()
    channel.abort()
    assert recorder.names == ["connected", "disconnected"]
    assert channel.queued_size == 0
    assert repr(channel).startswith("<Channel closed ")


def test_bytes_that_are_no_frame_close_the_channel_with_the_error(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "framewire")
    recorder = Recorder()
    channel, there = attached(loop, recorder, over=over_tcp)
    there.sendall(frames([b"one"]) + b"GET / HTTP/1.1\r\n\r\n")
    run_until(loop, lambda: channel.state > State.OPEN)
    there.sendall(b"more")
    assert there.recv(1) == b""
    there.close()
    run_until(loop, lambda: recorder.errors)
    assert recorder.received == [b"one"]
    assert isinstance(recorder.errors[channel], HeaderError)
    assert f"{channel.name} disconnected: HeaderError: " in caplog.text


def test_reading_pauses_as_often_as_it_was_asked_for(loop: Loop) -> None:
    recorder = Recorder()
    channel, there = attached(loop, recorder)
    channel.pause_reading()
    channel.pause_reading()
    there.sendall(frames([b"x"]))
    settle(loop)
    channel.resume_reading()
    settle(loop)
    assert recorder.received == []
    channel.resume_reading()
    run_until(loop, lambda: recorder.received)
    with pytest.raises(RuntimeError):
        channel.resume_reading()
    there.close()


def test_a_channel_paused_as_it_connects_reads_nothing(loop: Loop) -> None:
    class Pausing(Recorder):
        def connected(self, channel: Channel) -> None:
            super().connected(channel)
            channel.pause_reading()

    recorder = Pausing()
    here, there = socket.socketpair()
    there.sendall(frames([b"x"]))
    channel = loop.attach(here, recorder)
    run_turns(loop, 3)
    assert recorder.received == []
    channel.resume_reading()
    run_until(loop, lambda: recorder.received)
    there.close()


def test_the_end_of_the_peer_closes_after_what_is_queued(loop: Loop) -> None:
    echo = Echo()
    channel, there = attached(loop, echo, tight=True)
    payloads = [b"x" * 1000] * 500
    send = threading.Thread(target=lambda: (there.sendall(frames(payloads)), there.shutdown(socket.SHUT_WR)))
    received: list[bytes] = []
    recv = threading.Thread(target=lambda: received.append(recv_all(there)))
    send.start()
    recv.start()
    run_until(loop, lambda: echo.errors)
    send.join()
    recv.join()
    there.close()
    assert received == [frames(payloads)]
    assert echo.errors == {channel: None}
    assert echo.names.count("eof_received") == 1


def test_the_sending_half_can_stay_open_after_the_peers_end(loop: Loop) -> None:
    recorder = Recorder()
    recorder.eof_answer = True
    channel, there = attached(loop, recorder)
    there.shutdown(socket.SHUT_WR)
    run_until(loop, lambda: "eof_received" in recorder.names)
    settle(loop)
    assert channel.state == State.OPEN
    channel.send(b"still here")
    settle(loop)
    assert recv_exactly(there, 20) == frames([b"still here"])
    channel.close()
    run_until(loop, lambda: recorder.errors)
    assert recv_all(there) == b""
    assert recorder.errors == {channel: None}
    there.close()


def test_two_half_closes_make_an_end_without_an_error(loop: Loop) -> None:
    recorder = Recorder()
    channel, there = attached(loop, recorder)
    channel.send(b"last")
    channel.send_eof()
    channel.send_eof()
    settle(loop)
    assert recv_all(there) == frames([b"last"])
    there.sendall(frames([b"answer"]))
    run_until(loop, lambda: recorder.received)
    there.shutdown(socket.SHUT_WR)
    run_until(loop, lambda: recorder.errors)
    assert recorder.names == ["connected", "frames_received", "eof_received", "disconnected"]
    assert recorder.errors == {channel: None}
    there.close()


def test_a_half_close_before_the_connection_goes_out_with_it(loop: Loop) -> None:
    echo, client = Echo(), Recorder()
    address = loop.listen(LOCAL, echo).address
    channel = loop.connect(address, client)
    channel.send(b"all")
    channel.send_eof()
    run_until(loop, lambda: client.errors and echo.errors)
    assert client.received == [b"all"]
    assert client.errors == {channel: None}


def test_closing_a_channel_of_which_the_peer_still_sends_loses_nothing(loop: Loop) -> None:
    """The peer reads nothing before it has sent all that it has: it must be rid of it."""
    recorder = Recorder()
    channel, there = attached(loop, recorder, over=over_tcp)
    narrow(there, channel.sock)
    payload = b"x" * 3_000_000
    received: list[bytes] = []

    def peer() -> None:
        there.sendall(frames([b"y" * 3_000_000]))
        received.append(recv_all(there))
        there.close()

    thread = threading.Thread(target=peer)
    channel.send(payload)
    channel.close()
    thread.start()
    run_until(loop, lambda: recorder.errors)
    thread.join()
    assert received == [frames([payload])]
    assert recorder.errors == {channel: None}


def test_closing_waits_for_a_peer_that_is_silent_only_so_long(timeless: Loop) -> None:
    recorder = Recorder()
    channel, there = attached(timeless, recorder, close_timeout=5)
    channel.send(b"bye")
    channel.close()
    settle(timeless)
    assert channel.state == State.LINGERING
    assert recv_all(there) == frames([b"bye"])
    run_until(timeless, lambda: recorder.errors)
    assert recorder.errors == {channel: None}
    there.close()


def test_closing_gives_up_what_the_peer_does_not_take(timeless: Loop) -> None:
    recorder = Recorder()
    channel, there = attached(timeless, recorder, close_timeout=5, tight=True)
    channel.send(b"x" * 1_000_000)
    channel.close()
    settle(timeless)
    assert channel.state == State.DRAINING
    run_until(timeless, lambda: recorder.errors)
    assert isinstance(recorder.errors[channel], TimeoutError)
    there.close()


def test_the_reason_of_a_close_is_told_even_if_the_peer_resets(loop: Loop) -> None:
    recorder = Recorder()
    channel, there = attached(loop, recorder, over=over_tcp, tight=True)
    channel.send(b"x" * 1_000_000)
    there.sendall(b"nonsense!!")
    run_until(loop, lambda: channel.state == State.DRAINING)
    reset(there)
    run_until(loop, lambda: recorder.errors)
    assert isinstance(recorder.errors[channel], HeaderError)


def test_a_shutdown_sends_all_that_is_queued_and_ends_the_run(loop: Loop) -> None:
    echo = Echo()
    address = loop.listen(LOCAL, echo).address
    payload = b"x" * 2_000_000
    received: list[bytes] = []

    def peer() -> None:
        with socket.create_connection(address, LIMIT) as sock:
            sock.sendall(frames([b"hello"]))
            received.append(recv_all(sock))

    threads = [threading.Thread(target=peer) for _ in range(5)]
    for thread in threads:
        thread.start()
    run_until(loop, lambda: len(echo.received) == 5)
    for channel in echo.channels:
        channel.send(payload)
    loop.call_soon(loop.shutdown, LIMIT)
    loop.call_soon(loop.shutdown)
    loop._selector.deadline = time.monotonic() + LIMIT
    loop.run()
    for thread in threads:
        thread.join()
    assert received == [frames([b"hello", payload])] * 5
    assert len(echo.errors) == 5
    assert not any(echo.errors.values())


def test_a_shutdown_ends_at_its_deadline(timeless: Loop) -> None:
    recorder = Recorder()
    channel, there = attached(timeless, recorder, tight=True, close_timeout=1000)
    channel.send(b"x" * 1_000_000)
    timeless.shutdown(3)
    timeless.run()
    assert isinstance(recorder.errors[channel], TimeoutError)
    assert "before the end" in str(recorder.errors[channel])
    there.close()


def test_a_shutdown_of_a_loop_with_nothing_ends_at_once(timeless: Loop, clock: Clock) -> None:
    before = clock.now
    timeless.shutdown()
    timeless.run()
    assert clock.now < before + 1


# Handlers that raise

CALLBACKS = [
    "connected",
    "frames_received",
    "eof_received",
    "sending_paused",
    "sending_resumed",
    "disconnected",
]


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_handler_that_raises_ends_its_own_channel_only(
    loop: Loop, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    class Raising(Recorder):
        pass

    def fail(self: Recorder, channel: Channel, *args: Any) -> Any:
        getattr(Recorder, name)(self, channel, *args)
        raise LookupError(f"in {name}")

    setattr(Raising, name, fail)
    raising, harmless = Raising(), Recorder()
    good, good_peer = attached(loop, harmless)
    here, there = socket.socketpair()
    there.settimeout(LIMIT)
    there.sendall(frames([b"x"]))
    bad = loop.attach(here, raising)
    run_turns(loop, 2)
    if name.startswith("sending"):
        bad.send(b"x" * 1_000_000)
        run_turns(loop)
        while not raising.errors:
            drained(there)
            run_turns(loop)
    elif bad.state == State.OPEN:
        there.shutdown(socket.SHUT_WR)
    run_until(loop, lambda: raising.errors)
    run_turns(loop)
    if name == "disconnected":
        assert raising.errors == {bad: None}
    else:
        assert isinstance(raising.errors[bad], LookupError)
    assert raising.names.count("disconnected") == 1
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info
    assert record.exc_info[0] is LookupError
    assert name in record.getMessage()
    good_peer.sendall(frames([b"fine"]))
    run_until(loop, lambda: harmless.received)
    assert good.state == State.OPEN
    good_peer.close()
    there.close()


def test_disconnected_comes_never_out_of_another_call(loop: Loop) -> None:
    depth = 0

    class Nested(Recorder):
        def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
            nonlocal depth
            depth += 1
            channel.abort()
            other.abort(ValueError("mine"))
            depth -= 1

        def disconnected(self, channel: Channel, error: Exception | None) -> None:
            assert depth == 0
            super().disconnected(channel, error)

    handler = Nested()
    channel, there = attached(loop, handler)
    other, other_there = attached(loop, handler)
    there.sendall(frames([b"x"]))
    run_until(loop, lambda: len(handler.errors) == 2)
    assert handler.errors[channel] is None
    assert isinstance(handler.errors[other], ValueError)
    for sock in (there, other_there):
        sock.close()


def test_a_channel_that_is_over_is_forgotten(loop: Loop) -> None:
    recorder = Recorder()
    group = Group(loop)
    channel, there = attached(loop, recorder, idle_timeout=100, frame_timeout=100)
    group.add(channel)
    there.sendall(frames([b"x"]) + b"1")
    run_until(loop, lambda: recorder.received)
    group.send(b"x")
    there.close()
    run_until(loop, lambda: recorder.errors)
    assert len(group) == 0
    assert not loop.channels
    assert not any(timer.pending for timer in loop._timers)
    assert channel.sock is None
    assert channel.groups == ()


# Logging


def test_each_connection_and_its_end_is_a_line(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "framewire")
    recorder = Recorder()
    listener = loop.listen(LOCAL, recorder)
    with socket.create_connection(listener.address) as sock:
        run_until(loop, lambda: recorder.channels)
        name = "{}:{}".format(*sock.getsockname())
    run_until(loop, lambda: recorder.errors)
    assert caplog.messages == [f"listening on {listener.name} for ascii10", f"{name} connected", f"{name} disconnected"]
    caplog.clear()
    with socket.create_connection(listener.address) as sock:
        sock.sendall(b"12")
        run_until(loop, lambda: len(recorder.channels) == 2)
        name = "{}:{}".format(*sock.getsockname())
    run_until(loop, lambda: len(recorder.errors) == 2)
    assert caplog.messages[0] == f"{name} connected"
    assert caplog.messages[1].startswith(f"{name} disconnected: IncompleteFrame: ")
    assert len(caplog.messages) == 2


# Deadlines


def test_an_idle_channel_is_closed_between_one_and_one_and_a_quarter_timeouts(timeless: Loop, clock: Clock) -> None:
    recorder = Recorder()
    channel, there = attached(timeless, recorder, idle_timeout=40)
    for seconds in (35, 39, 1, 20):
        done = timeless.call_later(seconds, lambda: None)
        run_until(timeless, lambda: not done.pending)  # noqa: B023
        assert channel.state == State.OPEN
        there.sendall(b"1" if seconds == 35 else b" ")
        settle(timeless)
    last = clock.now
    run_until(timeless, lambda: channel.state > State.OPEN)
    assert 40 <= clock.now - last <= 40 * (1 + 1 / IDLE_LOOKS) + 1
    assert recv_all(there) == b""
    there.close()
    run_until(timeless, lambda: recorder.errors)
    assert isinstance(recorder.errors[channel], TimeoutError)
    assert "idle for 40 s" in str(recorder.errors[channel])


def test_sending_is_no_idling(timeless: Loop) -> None:
    recorder = Recorder()
    channel, there = attached(timeless, recorder, idle_timeout=4)
    for _ in range(20):
        done = timeless.call_later(3, channel.send, b"x")
        run_until(timeless, lambda: not done.pending)  # noqa: B023
    settle(timeless)
    assert channel.state == State.OPEN
    there.close()


def test_a_frame_must_be_complete_in_time(timeless: Loop, clock: Clock) -> None:
    recorder = Recorder()
    channel, there = attached(timeless, recorder, frame_timeout=10)
    begin = 0.0
    for i, byte in enumerate(b"100       " + b"x" * 90):
        done = timeless.call_later(1, lambda: None)
        run_until(timeless, lambda: not done.pending or channel.state > State.OPEN)  # noqa: B023
        if channel.state > State.OPEN:
            break
        if i == 0:
            begin = clock.now
        there.sendall(bytes([byte]))
        settle(timeless)
    assert 10 <= clock.now - begin <= 11
    there.close()
    run_until(timeless, lambda: recorder.errors)
    assert "a frame was not complete after 10 s" in str(recorder.errors[channel])


def test_a_frame_has_all_its_time_however_long_the_pause_before_it(timeless: Loop, clock: Clock) -> None:
    recorder = Recorder()
    channel, there = attached(timeless, recorder, frame_timeout=10)

    def wait(seconds: float) -> None:
        done = timeless.call_later(seconds, lambda: None)
        run_until(timeless, lambda: not done.pending)

    for pause in (100, 9.5, 0.1, 5, 9.9, 1):
        there.sendall(b"3         x")
        settle(timeless)
        wait(9.8)
        there.sendall(b"yz")
        settle(timeless)
        clock.now += pause  # the loop sleeps
        assert channel.state == State.OPEN
    wait(100)
    assert recorder.received == [b"xyz"] * 6
    assert channel.state == State.OPEN
    there.close()


def test_a_frame_that_we_do_not_read_is_not_late(timeless: Loop) -> None:
    recorder = Recorder()
    channel, there = attached(timeless, recorder, frame_timeout=10)
    there.sendall(b"3         x")
    settle(timeless)
    channel.pause_reading()
    there.sendall(b"yz")
    done = timeless.call_later(1000, lambda: None)
    run_until(timeless, lambda: not done.pending)
    channel.resume_reading()
    settle(timeless)
    assert recorder.received == [b"xyz"]
    there.close()


def test_a_handshake_must_be_over_in_time(timeless: Loop, certificate: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "framewire")
    recorder = Recorder()
    server, _ = tls_contexts(certificate)
    channel, there = attached(timeless, recorder, tls=server, handshake_timeout=7)
    there.sendall(b"\x16\x03\x01")
    run_until(timeless, lambda: channel.state == State.CLOSED)
    assert "no TLS handshake in 7 s" in caplog.text
    assert recorder.events == []
    there.close()


def test_who_does_not_speak_tls_is_refused(loop: Loop, certificate: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "framewire")
    recorder = Recorder()
    server, _ = tls_contexts(certificate)
    channel, there = attached(loop, recorder, tls=server, over=over_tcp)
    there.sendall(frames([b"hello"]))
    run_until(loop, lambda: channel.state == State.CLOSED)
    assert "not connected: SSLError" in caplog.text
    assert recorder.events == []
    there.close()


def test_a_certificate_for_somebody_else_is_refused(loop: Loop, certificate: Path) -> None:
    server, client = tls_contexts(certificate)
    recorder = Recorder()
    address = loop.listen(LOCAL, Recorder(), tls=server).address
    channel = loop.connect(address, recorder, tls=client)  # the host is 127.0.0.1, the certificate for localhost
    run_until(loop, lambda: recorder.errors)
    assert isinstance(recorder.errors[channel], ssl.SSLCertVerificationError)


def test_tls_channels_of_one_loop_talk(loop: Loop, certificate: Path) -> None:
    server, client = tls_contexts(certificate)
    echo, recorder = Echo(), Recorder()
    address = loop.listen(LOCAL, echo, tls=server).address
    payloads = [b"x" * size for size in (0, 1, 20_000, 70_000, 1_000_000)] * 3
    channel = loop.connect(address, recorder, tls=client, server_hostname="localhost")
    channel.send_many(payloads)
    run_until(loop, lambda: len(recorder.received) == len(payloads))
    assert recorder.received == payloads
    channel.close()
    run_until(loop, lambda: recorder.errors and echo.errors)
    assert recorder.errors == {channel: None}
    assert list(echo.errors.values()) == [None]


def tls_attached(loop: Loop, handler: Handler, certificate: Path, **options: Any) -> tuple[Channel, ssl.SSLSocket]:
    """An open channel over TLS, and its peer: a socket of the standard library."""
    server, client = tls_contexts(certificate)
    here, there = over_tcp()
    there.settimeout(LIMIT)
    wrapped: list[ssl.SSLSocket] = []
    thread = threading.Thread(target=lambda: wrapped.append(client.wrap_socket(there, server_hostname="localhost")))
    thread.start()
    channel = loop.attach(here, handler, tls=server, **options)
    run_until(loop, lambda: channel.state == State.OPEN)
    thread.join()
    wrapped[0].settimeout(LIMIT)
    return channel, wrapped[0]


def test_what_openssl_holds_is_read_after_a_pause(loop: Loop, certificate: Path) -> None:
    class Pausing(Recorder):
        def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
            super().frames_received(channel, payloads)
            channel.pause_reading()
            loop.call_later(0.001, channel.resume_reading)

    recorder = Pausing()
    _, there = tls_attached(loop, recorder, certificate)
    payloads = [b"x" * 1000] * 2000
    send = threading.Thread(target=there.sendall, args=(frames(payloads),))
    send.start()
    run_until(loop, lambda: len(recorder.received) == 2000)
    send.join()
    there.close()


def test_many_large_payloads_over_tls_are_not_joined_again_and_again(loop: Loop, certificate: Path) -> None:
    channel: Any
    channel, there = tls_attached(loop, Recorder(), certificate)
    for _ in range(100):
        channel.blocked = True
        channel.send(b"x" * 100_000)
    sizes: list[int] = []
    record = channel._record
    while channel.unsent_size:
        data = record()
        sizes.append(len(data))
        channel.sent(min(16384, len(data)))
    assert max(sizes) <= 100_000
    there.close()


@pytest.mark.parametrize("size", [0, 1_000_000])
def test_closing_tls_while_the_peer_sends_loses_nothing(loop: Loop, certificate: Path, size: int) -> None:
    recorder = Recorder()
    channel, there = tls_attached(loop, recorder, certificate)
    narrow(channel.sock)
    payload = b"x" * size
    there.sendall(frames([b"y" * 30_000]))
    channel.send(payload)
    channel.close()
    received: list[bytes] = []

    def peer() -> None:
        received.append(recv_exactly(there, 10 + size))
        there.sendall(frames([b"z" * 30_000]))
        received.append(recv_all(there))
        there.close()

    thread = threading.Thread(target=peer)
    thread.start()
    run_until(loop, lambda: recorder.errors)
    thread.join()
    assert received == [frames([payload]), b""]
    assert recorder.errors == {channel: None}


def test_a_tls_stream_that_is_cut_off_is_an_error(loop: Loop, certificate: Path) -> None:
    recorder = Recorder()
    channel, there = tls_attached(loop, recorder, certificate)
    there.sendall(frames([b"one"]))
    run_until(loop, lambda: recorder.received)
    socket.socket.shutdown(there, socket.SHUT_WR)
    run_until(loop, lambda: recorder.errors)
    assert isinstance(recorder.errors[channel], ssl.SSLError)
    there.close()


# Any selector


@pytest.mark.parametrize(
    "name", [None, "DefaultSelector", "SelectSelector", "PollSelector", "EpollSelector", "KqueueSelector"]
)
def test_every_selector_will_do(name: str | None) -> None:
    if name is not None and not hasattr(selectors, name):
        pytest.skip(f"no {name} here")
    loop = Loop(None if name is None else getattr(selectors, name)())
    echo, client = Echo(), Recorder()
    with loop:
        address = loop.listen(LOCAL, echo).address
        watchdog = loop.call_later(LIMIT, loop.stop)
        payloads = [b"x" * size for size in (0, 1, 100, 100_000)] * 10
        for _ in range(5):
            loop.connect(address, client).send_many(payloads)

        def look() -> None:
            if len(client.received) == 200:
                loop.shutdown()
            else:
                loop.call_later(0.001, look)

        look()
        loop.run()
        assert watchdog.pending
        assert client.received == payloads * 5
        assert len(client.errors) == len(echo.errors) == 5


# Backpressure


def test_an_echo_to_a_peer_that_does_not_read_stops_reading(loop: Loop) -> None:
    echo = Echo()
    channel, there = attached(loop, echo)
    there.setblocking(False)
    frame = frames([b"x" * 1000])
    sent = 0

    def push() -> int:
        """Send until the socket takes no more."""
        before = sent
        at = sent
        with suppress(BlockingIOError):
            while True:
                at += there.send(frame[at % len(frame) :])
        return at - before

    while moved := push():
        sent += moved
        settle(loop)
        assert channel.queued_size < 256 * 1024 + 256 * 1024 + 20_000
    assert "sending_paused" in echo.names
    before = loop.turn_count
    run_turns(loop)
    assert loop.turn_count == before + 1
    received = bytearray()
    there.settimeout(LIMIT)
    while len(received) < sent - len(frame):
        received += drained(there)
        settle(loop)
    assert echo.names.count("sending_paused") == echo.names.count("sending_resumed")
    assert bytes(received) == (frame * (sent // len(frame)))[: len(received)]
    there.close()


def test_a_slow_receiver_pauses_the_channel_whose_frames_it_gets(loop: Loop) -> None:
    class Forward(Recorder):
        def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
            super().frames_received(channel, payloads)
            if channel is not slow:
                slow.send_many(payloads)

    handler = Forward()
    slow, slow_peer = attached(loop, handler, tight=True)
    source, source_peer = attached(loop, handler)
    other, other_peer = attached(loop, handler)
    payloads = [b"%06d" % i * 100 for i in range(5000)]
    send = threading.Thread(target=source_peer.sendall, args=(frames(payloads),))
    send.start()
    run_until(loop, lambda: handler.paused)
    assert handler.paused == {slow}
    other_peer.sendall(frames([b"other"]))
    run_until(loop, lambda: handler.payloads[other])  # who is not the cause goes on until it is one
    received = bytearray()
    total = len(frames([*payloads, b"other"]))
    recv = threading.Thread(target=lambda: received.extend(recv_exactly(slow_peer, total)))
    recv.start()
    run_until(loop, lambda: not slow.queued_size and len(handler.received) == 5001)
    send.join()
    recv.join()
    assert handler.payloads[source] == payloads
    rest = bytes(received).replace(frames([b"other"]), b"", 1)
    assert rest == frames(payloads)
    for sock in (slow_peer, source_peer, other_peer):
        sock.close()


@pytest.mark.parametrize("end", ["abort", "reset", "close"])
def test_when_the_slow_receiver_ends_the_source_goes_on(loop: Loop, end: str) -> None:
    class Forward(Recorder):
        def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
            super().frames_received(channel, payloads)
            if slow.state == State.OPEN:
                slow.send_many(payloads)

    handler = Forward()
    slow, slow_peer = attached(loop, handler, over=over_tcp, tight=True)
    source, source_peer = attached(loop, handler)
    payloads = [b"x" * 1000] * 3000
    send = threading.Thread(target=source_peer.sendall, args=(frames(payloads),))
    send.start()
    run_until(loop, lambda: handler.paused)
    if end == "abort":
        slow.abort()
    elif end == "close":
        slow.close()
    else:
        reset(slow_peer)
    run_until(loop, lambda: len(handler.payloads[source]) == 3000)
    send.join()
    slow_peer.close()
    source_peer.close()


def test_sending_pauses_above_the_high_mark_and_resumes_at_the_low_one(loop: Loop) -> None:
    recorder = Recorder()
    channel, there = attached(loop, recorder, tight=True, high_mark=50_000, low_mark=20_000)
    sizes: list[int] = []
    recorder.sending_resumed = lambda channel: sizes.append(channel.queued_size)  # type: ignore[method-assign]
    for _ in range(40):
        channel.send(b"x" * 1000)
    run_turns(loop)
    assert recorder.paused == set()
    for _ in range(60):
        channel.send(b"x" * 1000)
    run_turns(loop)
    assert recorder.paused == {channel}
    received = 0
    while not sizes:
        received += len(there.recv(4096))
        run_turns(loop)
    assert sizes[0] <= 20_000
    there.close()


def test_who_was_not_told_to_pause_is_not_told_to_resume(loop: Loop) -> None:
    recorder = Recorder()
    channel, there = attached(loop, recorder, high_mark=100_000, low_mark=99_999, tight=True)
    channel.blocked = True
    channel.send(b"x" * 100_000)
    assert channel.over
    channel.blocked = False
    run_turns(loop)
    assert 0 < channel.queued_size < 99_999
    assert recorder.names == ["connected"]
    there.close()


def test_a_queue_above_its_mark_is_told_even_if_nothing_can_be_sent(loop: Loop) -> None:
    recorder = Recorder()
    group = Group(loop, limit=1 << 20)
    channel, there = attached(loop, recorder, tight=True)
    group.add(channel)
    for _ in range(3):
        group.send(b"x" * 100_000)
        run_turns(loop)
    recorder.events.clear()
    paused = recorder.paused
    if not paused:
        channel.send(b"x" * 300_000)
        run_turns(loop)
    assert paused == {channel}
    there.close()


def test_a_firehose_starves_nobody(loop: Loop) -> None:
    recorder = Recorder()
    firehose, hose_peer = attached(loop, recorder)
    other, other_peer = attached(loop, recorder)
    stop = threading.Event()

    def spray() -> None:
        with suppress(OSError):
            while not stop.is_set():
                hose_peer.sendall(frames([b"x" * 1000] * 100))

    thread = threading.Thread(target=spray)
    thread.start()
    for i in range(50):
        before = firehose.received_size
        turns = loop.turn_count
        other_peer.sendall(frames([b"%d" % i]))
        run_until(loop, lambda: len(recorder.payloads[other]) > i)  # noqa: B023
        assert firehose.received_size - before <= (loop.turn_count - turns + 1) * 256 * 1024
    stop.set()
    firehose.abort()
    thread.join()
    for sock in (hose_peer, other_peer):
        sock.close()


def test_a_payload_is_received_where_it_stays_whatever_its_size(loop: Loop) -> None:
    recorder = Recorder()
    channel, there = attached(loop, recorder)
    payloads = [b"x" * 3_000_000, b"", b"y" * 65_536, b"z" * 65_535, b"w"]
    send = threading.Thread(target=there.sendall, args=(frames(payloads),))
    send.start()
    run_until(loop, lambda: len(recorder.received) == 5)
    send.join()
    assert recorder.received == payloads
    assert channel.received_count == 5
    there.close()


# Broadcast


def members(loop: Loop, group: Group, count: int, handler: Recorder, **options: Any) -> list[tuple[Channel, Any]]:
    pairs = [attached(loop, handler, **options) for _ in range(count)]
    for channel, _ in pairs:
        group.add(channel)
    return pairs


def close_all(pairs: list[tuple[Channel, Any]]) -> None:
    for _, there in pairs:
        there.close()


def test_a_group_sends_to_all_but_one_and_once_in_a_turn(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(loop)
    pairs = members(loop, group, 5, Recorder())
    channels = [channel for channel, _ in pairs]
    assert len(group) == 5
    assert list(group) == channels
    assert channels[0] in group
    assert "nothing" not in group
    sends = count_sends(monkeypatch)
    for i in range(20):
        group.send(b"%d" % i)
    group.send_many([b"a", b"b"])
    group.send_many([])
    run_turns(loop)
    if sends:
        assert len(sends) == 5
    expected = frames([*(b"%d" % i for i in range(20)), b"a", b"b"])
    assert [drained(there) for _, there in pairs] == [expected] * 5
    assert {channel.sent_count for channel in channels} == {22}
    group.send(b"x", exclude=channels[0])
    group.send_many([b"y", b"z"], exclude=channels[1])
    group.send(b"w")
    run_turns(loop)
    assert drained(pairs[0][1]) == frames([b"y", b"z", b"w"])
    assert drained(pairs[1][1]) == frames([b"x", b"w"])
    assert drained(pairs[2][1]) == frames([b"x", b"y", b"z", b"w"])
    close_all(pairs)


@pytest.mark.parametrize("policy", ["disconnect", "drop_oldest", "wait"])
def test_direct_and_group_payloads_arrive_in_the_order_of_the_calls(loop: Loop, policy: str) -> None:
    rand = random.Random(6)
    group = Group(loop, policy=policy, limit=1 << 30)
    recorder = Recorder()
    pairs = [attached(loop, recorder, tight=True, high_mark=1 << 30) for _ in range(4)]
    expected = [bytearray() for _ in pairs]
    received = [bytearray() for _ in pairs]
    for i in range(1500):
        action = rand.randrange(8)
        size = rand.choice([0, 5, 100, 3000, 70_000])
        payload = b"%d" % i + b"." * (size if rand.random() < 0.3 else 5)
        number = rand.randrange(4)
        channel = pairs[number][0]
        if action == 0:
            group.add(channel)
        elif action == 1:
            group.discard(channel)
        elif action in (2, 3):
            channel.send(payload)
            expected[number] += frames([payload])
        elif action == 4:
            excluded = rand.choice([None, channel])
            group.send(payload, exclude=excluded)
            for n, (member, _) in enumerate(pairs):
                if member in group and member is not excluded:
                    expected[n] += frames([payload])
        elif action == 5:
            group.send_many([payload, b"second"])
            for n, (member, _) in enumerate(pairs):
                if member in group:
                    expected[n] += frames([payload, b"second"])
        elif action == 6:
            run_turns(loop)
        else:
            received[number] += drained(pairs[number][1])
    while any(len(r) < len(e) for r, e in zip(received, expected, strict=True)):
        for n, (_, there) in enumerate(pairs):
            received[n] += drained(there)
        run_turns(loop)
    assert received == expected
    assert all(channel.queued_size == 0 and channel.backlog is None for channel, _ in pairs)
    close_all(pairs)


def test_a_member_that_is_still_connecting_gets_all_in_order(loop: Loop) -> None:
    group = Group(loop)
    server = Recorder()

    class Client(Recorder):
        def connected(self, channel: Channel) -> None:
            super().connected(channel)
            group.send(b"third" * 20_000)
            group.send(b"fourth")
            channel.send(b"fifth")

    address = loop.listen(LOCAL, server).address
    channel = loop.connect(address, Client())
    group.add(channel)
    group.send(b"first")
    channel.send(b"second")
    run_until(loop, lambda: len(server.received) == 5)
    assert server.received == [b"first", b"second", b"third" * 20_000, b"fourth", b"fifth"]
    assert channel.backlog is None
    assert channel.queued_size == 0


def test_a_handler_that_hears_of_it_in_a_flush_cannot_overtake_the_broadcast(loop: Loop) -> None:
    class Resumed(Recorder):
        def sending_resumed(self, channel: Channel) -> None:
            super().sending_resumed(channel)
            group.send(b"late" * 20_000)

    group = Group(loop, policy="drop_oldest", limit=1 << 30)
    recorder = Resumed()
    first, first_peer = attached(loop, recorder, high_mark=1000, low_mark=900, tight=True)
    group.add(first)
    pairs = members(loop, group, 3, recorder, high_mark=1000, low_mark=900, tight=True)
    pairs.append((first, first_peer))
    received = [bytearray() for _ in pairs]
    for i in range(30):
        group.send(b"%d" % i * 1000)
        for channel, _ in pairs:
            channel.send(b"direct %d" % i)
        run_turns(loop)
        received[i % 4] += drained(pairs[i % 4][1])
    while any(channel.queued_size for channel, _ in pairs):
        for n, (_, there) in enumerate(pairs):
            received[n] += drained(there)
        run_turns(loop)
        if recorder.names.count("sending_resumed") > 200:
            break
    for n, (channel, there) in enumerate(pairs):
        received[n] += drained(there)
        channel.abort()
    run_turns(loop, 2)
    for data in received:
        payloads = [p for p in Decoder("ascii10").feed(bytes(data)) if not p.startswith(b"late")]
        numbers = [int(p.split()[1]) * 2 + 1 if p.startswith(b"direct") else -1 for p in payloads]
        direct = [n for n in numbers if n >= 0]
        assert direct == sorted(direct)
        groups = [p for p in payloads if not p.startswith(b"direct")]
        assert groups == [b"%d" % i * 1000 for i in range(len(groups))]
    close_all(pairs)


def test_a_member_that_falls_behind_is_disconnected(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "framewire")
    group = Group(loop, limit=100_000)
    recorder = Recorder()
    pairs = members(loop, group, 3, recorder, tight=True)
    slow = pairs[0][0]
    received = [bytearray() for _ in pairs]
    for i in range(100):
        group.send(b"%03d" % i * 1000)
        run_turns(loop)
        for n in (1, 2):
            received[n] += drained(pairs[n][1])
            run_turns(loop)
            received[n] += drained(pairs[n][1])
            run_turns(loop)
    assert isinstance(recorder.errors[slow], TimeoutError)
    assert "limit of 100000" in str(recorder.errors[slow])
    assert set(recorder.errors) == {slow}
    assert (group.disconnected_count, group.dropped_count, len(group)) == (1, 0, 2)
    assert "falls behind" in caplog.text
    expected = frames([b"%03d" % i * 1000 for i in range(100)])
    while any(len(received[n]) < len(expected) for n in (1, 2)):
        for n in (1, 2):
            received[n] += drained(pairs[n][1])
        run_turns(loop)
    assert received[1] == received[2] == expected
    close_all(pairs)


def test_a_member_that_falls_behind_misses_the_oldest_and_both_sides_know(loop: Loop) -> None:
    group = Group(loop, policy="drop_oldest", limit=100_000)
    recorder = Recorder()
    pairs = members(loop, group, 2, recorder, tight=True)
    (slow, slow_peer), (fast, fast_peer) = pairs
    received = bytearray()
    slow.send(b"direct")
    for i in range(200):
        group.send(b"%03d" % i * 1000)
        if i == 150:
            slow.send(b"also direct")
        run_turns(loop)
        assert slow.queued_size <= 110_000
        for _ in range(3):
            received += drained(fast_peer)
            run_turns(loop)
    payloads = [b"%03d" % i * 1000 for i in range(200)]
    assert bytes(received) + drained(fast_peer) == frames(payloads)
    late = bytearray()
    while slow.queued_size:
        late += drained(slow_peer)
        run_turns(loop)
    late += drained(slow_peer)
    decoder = Decoder("ascii10")
    got = decoder.feed(bytes(late))
    assert decoder.buffered_size == 0
    assert got[0] == b"direct"
    assert b"also direct" in got
    got = [payload for payload in got if not payload.endswith(b"direct")]
    missed = [payload for payload in payloads if payload not in got]
    assert missed
    assert got == [payload for payload in payloads if payload in got]
    assert got[-1] == payloads[-1]
    assert group.dropped(slow) == (len(missed), len(frames(missed)))
    assert group.dropped(fast) == (0, 0)
    assert (group.dropped_count, group.dropped_size) == (len(missed), len(frames(missed)))
    assert slow.backlog is None
    group.discard(slow)
    assert group.dropped(slow) == (0, 0)
    assert group.dropped_count == len(missed)
    close_all(pairs)


def test_a_source_waits_for_the_slowest_member(loop: Loop) -> None:
    class Relay(Recorder):
        def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
            super().frames_received(channel, payloads)
            group.send_many(payloads, exclude=channel)

    group = Group(loop, policy="wait", limit=200_000)
    handler = Relay()
    pairs = members(loop, group, 3, handler, tight=True)
    (source, source_peer), (slow, slow_peer), (fast, fast_peer) = pairs
    payloads = [b"%05d" % i * 200 for i in range(3000)]
    expected = frames(payloads)
    send = threading.Thread(target=source_peer.sendall, args=(expected,))
    send.start()
    fast_received: list[bytes] = []
    fast_thread = threading.Thread(target=lambda: fast_received.append(recv_exactly(fast_peer, len(expected))))
    fast_thread.start()
    run_until(loop, lambda: group.full)
    settle(loop)
    assert slow.queued_size < 200_000 + 300_000
    assert len(handler.payloads[source]) < 3000
    slow_received: list[bytes] = []
    slow_thread = threading.Thread(target=lambda: slow_received.append(recv_exactly(slow_peer, len(expected))))
    slow_thread.start()
    run_until(loop, lambda: slow.sent_size == fast.sent_size == len(expected))
    for thread in (send, fast_thread, slow_thread):
        thread.join()
    assert slow_received == fast_received == [expected]
    assert not group.full
    assert group.dropped_count == group.disconnected_count == 0
    close_all(pairs)


@pytest.mark.parametrize("how", ["abort", "discard", "close", "reset"])
def test_when_the_slowest_member_leaves_its_sources_go_on(loop: Loop, how: str) -> None:
    class Relay(Recorder):
        def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
            super().frames_received(channel, payloads)
            group.send_many(payloads, exclude=channel)

    group = Group(loop, policy="wait", limit=100_000)
    handler = Relay()
    pairs = members(loop, group, 2, handler, over=over_tcp, tight=True, high_mark=1 << 30, low_mark=1 << 30)
    (source, source_peer), (slow, slow_peer) = pairs
    payloads = [b"x" * 1000] * 3000
    send = threading.Thread(target=source_peer.sendall, args=(frames(payloads),))
    send.start()
    run_until(loop, lambda: group.full)
    if how == "abort":
        slow.abort()
    elif how == "discard":
        group.discard(slow)
    elif how == "close":
        slow.close()
    else:
        reset(slow_peer)
    run_until(loop, lambda: len(handler.payloads[source]) == 3000)
    assert not group.full
    send.join()
    close_all(pairs)


def test_a_timer_that_sends_can_see_that_the_group_is_full(loop: Loop) -> None:
    group = Group(loop, policy="wait", limit=100_000)
    pairs = members(loop, group, 1, Recorder(), tight=True)
    while not group.full:
        group.send(b"x" * 10_000)
        run_turns(loop)
        assert pairs[0][0].queued_size < 200_000
    while group.full:
        drained(pairs[0][1])
        run_turns(loop)
    close_all(pairs)


def test_a_group_takes_members_only_of_its_own_format(loop: Loop) -> None:
    group = Group(loop, "u32be")
    channel, there = attached(loop, Recorder())
    with pytest.raises(ValueError, match="ascii10"):
        group.add(channel)
    there.close()
    with pytest.raises(ValueError, match="policy"):
        Group(loop, policy="nonsense")
    with pytest.raises(ValueError, match="limit"):
        Group(loop, limit=1)


def test_members_that_come_go_and_end_in_the_middle(loop: Loop) -> None:
    group = Group(loop, max_size=1000)
    recorder = Recorder()
    pairs = members(loop, group, 3, recorder)
    (first, _), (second, _), (third, _) = pairs
    group.send(b"one")
    group.add(first)
    group.discard(second)
    group.discard(second)
    group.send(b"two")
    with pytest.raises(FrameTooLarge):
        group.send(b"x" * 1001)
    third.close()
    assert third not in group
    group.send(b"three")
    group.add(third)
    assert third not in group
    run_turns(loop)
    group.add(second)
    group.send(b"four")
    first.abort()
    group.add(first)
    assert len(group) == 1
    run_turns(loop)
    assert [drained(there) for _, there in pairs] == [
        frames([b"one", b"two", b"three"]),
        frames([b"one", b"four"]),
        frames([b"one", b"two"]),
    ]
    close_all(pairs)
    run_until(loop, lambda: len(recorder.errors) == 3)
    assert len(group) == 0
    group.send(b"to nobody")
    run_turns(loop)


def test_closing_a_member_that_is_then_found_too_slow_leaves_nothing_behind(loop: Loop) -> None:
    recorder = Recorder()
    group = Group(loop, limit=64 * 1024)
    channel, there = attached(loop, recorder, tight=True)
    group.add(channel)
    channel.send(b"x" * 65_000)
    run_turns(loop)
    group.send(b"y" * 60_000)
    channel.close()
    run_until(loop, lambda: recorder.errors)
    assert isinstance(recorder.errors[channel], TimeoutError)
    assert not any(timer.pending for timer in loop._timers)
    channel.send(b"dropped")
    there.close()


def test_a_close_sends_what_the_backlog_holds(loop: Loop) -> None:
    recorder = Recorder()
    group = Group(loop)
    channel, there = attached(loop, recorder, tight=True)
    group.add(channel)
    for i in range(50):
        group.send(b"%d" % i * 1000)
        run_turns(loop)
    channel.send(b"last")
    channel.close()
    received: list[bytes] = []
    recv = threading.Thread(target=lambda: (received.append(recv_all(there)), there.close()))
    recv.start()
    run_until(loop, lambda: recorder.errors)
    recv.join()
    assert received == [frames([*(b"%d" % i * 1000 for i in range(50)), b"last"])]
    assert recorder.errors == {channel: None}


def test_a_group_over_tls(loop: Loop, certificate: Path) -> None:
    group = Group(loop, policy="drop_oldest", limit=1 << 30)
    recorder = Recorder()
    pairs = [tls_attached(loop, recorder, certificate) for _ in range(3)]
    narrow(*(channel.sock for channel, _ in pairs))
    for channel, _ in pairs:
        group.add(channel)
    payloads = [b"%d" % i * 300 for i in range(1000)]
    expected = frames(payloads)
    received: list[bytes] = []

    def read(there: socket.socket) -> None:
        received.append(recv_exactly(there, len(expected)))

    threads = [threading.Thread(target=read, args=(there,)) for _, there in pairs]
    for i in range(0, 1000, 10):
        group.send_many(payloads[i : i + 10])
        run_turns(loop)
        if i == 500:
            for thread in threads:
                thread.start()
    run_until(loop, lambda: not any(channel.queued_size for channel, _ in pairs))
    for thread in threads:
        thread.join()
    assert received == [expected] * 3
    close_all(pairs)


def test_a_member_that_stalls_harms_nobody(loop: Loop) -> None:
    for policy in ("disconnect", "drop_oldest"):
        group = Group(loop, policy=policy, limit=100_000)
        pairs = members(loop, group, 20, Recorder())
        stalled, rest = pairs[:3], pairs[3:]
        received = [bytearray() for _ in rest]
        payloads = [b"%04d" % i * 500 for i in range(1000)]
        for i in range(0, 1000, 20):
            group.send_many(payloads[i : i + 20])
            run_turns(loop)
            for n, (_, there) in enumerate(rest):
                received[n] += drained(there)
        assert {bytes(data) for data in received} == {frames(payloads)}
        for channel, _ in stalled:
            assert group.dropped(channel)[0] > 0 or channel.state == State.CLOSED
        for channel, _ in pairs:
            channel.abort()
        run_turns(loop)
        close_all(pairs)


# The ends of what was begun


def test_what_is_sent_and_closed_before_the_connection_arrives(loop: Loop) -> None:
    with socket.create_server(LOCAL) as server:
        server.settimeout(LIMIT)
        recorder = Recorder()
        channel = loop.connect(server.getsockname(), recorder, "ascii10")
        channel.send_many([b"hello", b"world"])
        channel.close()
        with pytest.raises(RuntimeError, match="after close"):
            channel.send(b"late")
        run_until(loop, lambda: channel.state is State.LINGERING)
        there, _ = server.accept()
        with there:
            assert recv_all(there) == frames([b"hello", b"world"])
        run_until(loop, lambda: channel.state is State.CLOSED)
        run_turns(loop)
        assert recorder.names == ["disconnected"]


def test_timers_of_the_same_time_keep_their_order(timeless: Loop) -> None:
    calls: list[int] = []
    for i in range(50):
        timeless.call_later(1, calls.append, i)
    run_until(timeless, lambda: len(calls) == 50)
    assert calls == list(range(50))


def test_a_loop_can_be_used_again_after_a_shutdown(loop: Loop) -> None:
    for _ in range(2):
        loop.listen(LOCAL, Echo(), "ascii10")
        channel, there = attached(loop, Echo())
        with there:
            loop.shutdown()
            there.close()
            loop.run()
        assert channel.state is State.CLOSED
        assert not loop.channels


def test_an_abort_while_closing_tells_why_it_was_closed(loop: Loop) -> None:
    recorder = Recorder()
    channel, there = attached(loop, recorder)
    with there:
        reason = ValueError("enough")
        channel.close(reason)
        channel.abort()
        run_turns(loop)
    assert recorder.errors == {channel: reason}


def test_a_connection_that_we_did_not_get_is_no_refusal(loop: Loop) -> None:
    with socket.create_server(LOCAL) as server:
        address = server.getsockname()
    recorder = Recorder()
    loop.connect(address, recorder, "ascii10")
    run_until(loop, lambda: recorder.names)
    assert loop.stats().refused_count == 0


def test_ctrl_c_in_the_middle_of_a_flush_loses_nothing(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    channel, there = attached(loop, Echo())
    with there:

        def interrupted(endpoints: list[Any]) -> list[Any]:
            monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr(framewire.loop, "flush_all", interrupted)
        channel.send(b"hello")
        with pytest.raises(KeyboardInterrupt):
            loop.run()
        run_turns(loop)
        assert drained(there) == frames([b"hello"])


def test_a_selector_that_can_watch_few_sockets_gets_few() -> None:
    if not hasattr(selectors, "SelectSelector"):
        pytest.skip("no SelectSelector here")
    with Loop(selectors.SelectSelector()) as loop:
        assert loop.listen(LOCAL, Echo(), "ascii10").max_channels == 500
        assert loop.listen(LOCAL, Echo(), "ascii10", max_channels=7).max_channels == 7


# Polling


class Due(selectors.DefaultSelector):
    """A selector whose only event comes at given times of a clock. To ask takes a microsecond, to be woken thirty."""

    def __init__(self, clock: Clock, times: list[float]) -> None:
        super().__init__()
        self.clock = clock
        self.times = times
        self.asked: list[float | None] = []
        self.called: list[float] = []
        self.loop: Any = None

    def call(self, events: int) -> None:
        self.called.append(self.clock.now)
        if not self.times:
            self.loop.stop()

    def select(self, timeout: float | None = None) -> Any:
        self.asked.append(timeout)
        end = float("inf") if timeout is None else self.clock.now + timeout
        self.clock.now += 1e-6
        if timeout != 0 and self.times[0] > self.clock.now:
            self.clock.now = min(self.times[0], end) + 30e-6
        if self.times[0] > self.clock.now:
            return []
        self.times.pop(0)
        return [(selectors.SelectorKey(None, -1, selectors.EVENT_READ, self.call), selectors.EVENT_READ)]


@pytest.fixture
def due(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Due]:
    """Runs a loop with ``busy_poll=50e-6`` until events have come so long behind each other."""
    monkeypatch.setattr("framewire.loop.monotonic", clock)

    def run(gaps: list[float], *timers: float) -> Due:
        times = list(itertools.accumulate(gaps, initial=clock.now))
        selector = Due(clock, times)
        with Loop(selector, busy_poll=50e-6) as selector.loop:
            for seconds in timers:
                selector.loop.call_later(seconds, lambda: selector.called.append(-clock.now))
            selector.loop.run()
        return selector

    return run


def test_a_conversation_is_polled_for(due: Callable[..., Due]) -> None:
    selector = due([20e-6] * 100)
    assert selector.asked.count(None) == 1  # the first
    assert len(selector.called) == 101
    assert 5 * 100 < selector.asked.count(0) < 20 * 100


def test_after_one_poll_in_vain_it_sleeps(due: Callable[..., Due]) -> None:
    selector = due([20e-6, 20e-6, *[1e-3] * 100])
    assert selector.asked.count(None) == 1 + 100
    assert selector.asked.count(0) < 110  # 50 us, once


def test_a_conversation_that_goes_on_is_polled_for_again(due: Callable[..., Due]) -> None:
    selector = due([20e-6, 1e-3, 1e-3, 10e-6, *[20e-6] * 10])
    assert selector.asked[-1] == 0
    assert selector.asked.count(None) == 4


def test_no_timer_is_late_for_the_polling(due: Callable[..., Due], clock: Clock) -> None:
    begin = clock.now
    selector = due([10e-6, 10e-6, 1e-3], 45e-6)
    (came,) = [-now for now in selector.called if now < 0]
    assert 45e-6 <= came - begin < 45e-6 + 35e-6  # and the time that it takes to wake up


@pytest.mark.parametrize("seconds", [-1, 1.5, float("nan")])
def test_what_busy_poll_may_be(seconds: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1 second"):
        Loop(busy_poll=seconds)


def test_an_echo_with_polling() -> None:
    class Client(Handler):
        count = 0

        def connected(self, channel: Channel) -> None:
            channel.send(b"0")

        def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
            assert payloads == [b"%d" % self.count]
            self.count += 1
            channel.send(b"%d" % self.count) if self.count < 300 else channel.loop.stop()

    client = Client()
    with Loop(busy_poll=0.01) as loop:
        loop.connect(loop.listen(LOCAL, Echo(), "u32be").address, client, "u32be")
        loop.call_later(LIMIT, loop.stop)
        loop.run()
    assert client.count == 300
