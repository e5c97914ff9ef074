"""What goes wrong around an event loop: peers that stall, flood and vanish, descriptors that run out, and chance."""

from __future__ import annotations

import errno
import logging
import random
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from looping import (
    LIMIT,
    Echo,
    Recorder,
    clock,
    loop,
    narrow,
    recv_exactly,
    reset,
    run_turns,
    run_until,
    settle,
    timeless,
)
from pairs import over_tcp, over_unix, tls_contexts

from framewire import Decoder, IncompleteFrame
from framewire._core_py import Encoder
from framewire.loop import Channel, Group, Loop, State

resource = pytest.importorskip("resource", reason="no limits of descriptors here")

__all__ = ["clock", "loop", "timeless"]

LOCAL = ("127.0.0.1", 0)
LOST = (OSError, IncompleteFrame)


def frames(payloads: list[bytes]) -> bytes:
    return Encoder("ascii10", max_size=None).encode_many(payloads)


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Have so many descriptors, or skip the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"this needs {count} descriptors, and the hard limit here is {hard} (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def run_program(program: str, *args: str) -> str:
    """Run a program of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *args],
        capture_output=True,
        text=True,
        timeout=5 * LIMIT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Peers


def test_a_peer_that_sends_a_byte_at_a_time_keeps_nobody_waiting(loop: Loop) -> None:
    echo = Echo()
    address = loop.listen(LOCAL, echo).address
    with socket.create_connection(address) as slow, socket.create_connection(address) as quick:
        for i, byte in enumerate(frames([b"slowly", b"but surely"])):
            slow.sendall(bytes([byte]))
            quick.sendall(frames([b"%d" % i]))
            run_until(loop, lambda: b"%d" % i in echo.received)  # noqa: B023
        run_until(loop, lambda: b"but surely" in echo.received)
        slow.settimeout(LIMIT)
        settle(loop)
        assert recv_exactly(slow, 36) == frames([b"slowly", b"but surely"])


def test_a_peer_that_resets_in_a_frame_ends_only_itself(loop: Loop) -> None:
    echo = Echo()
    address = loop.listen(LOCAL, echo).address
    for i in range(20):
        sock = socket.create_connection(address)
        sock.sendall(frames([b"one"]) + b"5         hel")
        run_until(loop, lambda: len(echo.received) == i + 1)  # noqa: B023
        reset(sock)
    run_until(loop, lambda: len(echo.errors) == 20)
    assert all(isinstance(error, LOST) for error in echo.errors.values())
    with socket.create_connection(address) as sock:
        sock.sendall(frames([b"alive"]))
        run_until(loop, lambda: b"alive" in echo.received)


@pytest.mark.parametrize("option", ["idle_timeout", "frame_timeout"])
def test_a_peer_that_announces_the_limit_and_goes_silent_costs_little_and_is_closed(
    timeless: Loop, option: str
) -> None:
    recorder = Recorder()
    limit = 1 << 30
    here, there = over_unix()
    options: Any = {option: 30}
    channel = timeless.attach(here, recorder, max_size=limit, **options)
    there.sendall(b"%-10d" % limit + b"x")
    settle(timeless)
    assert channel.decoder.buffered_size <= 11
    run_until(timeless, lambda: channel.state > State.OPEN)
    there.close()
    run_until(timeless, lambda: recorder.errors)
    assert isinstance(recorder.errors[channel], TimeoutError)


def test_a_thousand_that_connect_and_say_nothing_are_closed(loop: Loop) -> None:
    with descriptors(2200), ExitStack() as stack:
        recorder = Recorder()
        address = loop.listen(LOCAL, recorder, idle_timeout=1).address
        with socket.create_connection(address) as alive:
            for _ in range(1000):
                stack.enter_context(socket.create_connection(address))
            done = False

            def speak() -> None:
                if not done:
                    alive.sendall(frames([b"x"]))
                    loop.call_later(0.1, speak)

            speak()
            run_until(loop, lambda: sum(channel.state > State.OPEN for channel in recorder.channels) == 1000)
            done = True
            stack.close()
            run_until(loop, lambda: len(recorder.errors) == 1000)
            assert all(isinstance(error, TimeoutError) for error in recorder.errors.values())
            assert len(loop.channels) == 1


def test_shutting_down_with_data_in_flight_loses_nothing(loop: Loop) -> None:
    """Some read slowly, some are in the middle of sending: all get all that was sent to them."""
    recorder = Recorder()
    address = loop.listen(LOCAL, recorder).address
    payloads = [b"%d" % i * 1000 for i in range(300)]
    received: list[bytes] = []

    def peer(number: int) -> None:
        with socket.create_connection(address, LIMIT) as sock:
            narrow(sock)
            sock.sendall(frames([b"hello"]))
            if number % 2:
                sock.sendall(frames([b"x" * 1_000_000]))
            data = bytearray()
            while chunk := sock.recv(10_000 if number % 3 else 1000):
                data += chunk
            received.append(bytes(data))

    threads = [threading.Thread(target=peer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    run_until(loop, lambda: recorder.received.count(b"hello") == 8)
    for channel in recorder.channels:
        channel.send_many(payloads)
    loop.call_soon(loop.shutdown, LIMIT)
    run_until(loop, lambda: False)
    for thread in threads:
        thread.join()
    assert received == [frames(payloads)] * 8


# Descriptors


def test_without_descriptors_the_server_waits_and_goes_on_accepting_later() -> None:
    assert "served 60 of 60" in run_program("""
        import logging, os, resource, socket
        from framewire.loop import Handler, Loop
        warnings = []
        class Count(logging.Handler):
            def emit(self, record):
                warnings.append(record.getMessage())
        logging.getLogger("framewire").addHandler(Count(logging.WARNING))

        class Echo(Handler):
            count = 0
            def frames_received(self, channel, payloads):
                Echo.count += len(payloads)
                channel.send_many(payloads)

        with Loop() as loop:
            address = loop.listen(("127.0.0.1", 0), Echo()).address
            clients = [socket.create_connection(address) for _ in range(60)]
            for client in clients:
                client.sendall(b"5         hello")
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + 20, hard))
            loop.call_later(0.5, loop.stop)
            loop.run()
            assert Echo.count == 20, Echo.count
            assert loop.turn_count < 50, loop.turn_count
            assert 1 <= len(warnings) <= 2, warnings
            assert "cannot accept" in warnings[0]
            for client in clients[:20]:   # whoever goes makes room at once, without a wait
                assert client.recv(100) == b"5         hello"
                client.close()
            watchdog = loop.call_later(20, loop.stop)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + 100, hard))
            def last():
                if Echo.count == 60:
                    loop.stop()
                else:
                    loop.call_later(0.01, last)
            last()
            loop.run()
            assert watchdog.pending
            print("served", Echo.count, "of 60")
            for client in clients:
                client.close()
    """)


class ScriptedListener:
    """A listening socket whose `accept` fails first as it is told."""

    def __init__(self, failures: list[int]) -> None:
        self.sock = socket.create_server(LOCAL)
        self.failures = failures

    def accept(self) -> Any:
        if self.failures:
            number = self.failures.pop(0)
            raise OSError(number, "as the script says")
        return self.sock.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_accept_may_fail(timeless: Loop, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    recorder = Recorder()
    scripted: Any = ScriptedListener([number] * 3)
    monkeypatch.setattr("framewire.loop.listening_on", lambda *args, **kwargs: scripted)
    scripted.setblocking(False)
    listener = timeless.listen(LOCAL, recorder)
    with socket.create_connection(listener.address):
        run_until(timeless, lambda: recorder.channels)
    assert timeless.turn_count < 20
    run_until(timeless, lambda: recorder.errors)


# No busy loop


def turns_over(loop: Loop, seconds: float) -> int:
    """How many turns the loop makes in this time; the one that ends it is not counted."""
    before = loop.turn_count
    loop.call_later(seconds, loop.stop)
    loop.run()
    return loop.turn_count - before - 1


def test_a_thousand_idle_connections_make_no_turns(loop: Loop) -> None:
    with descriptors(2200), ExitStack() as stack:
        echo = Echo()
        address = loop.listen(LOCAL, echo).address
        for _ in range(1000):
            sock = stack.enter_context(socket.create_connection(address))
            sock.sendall(frames([b"x"]))
        run_until(loop, lambda: len(echo.received) == 1000)
        settle(loop)
        assert turns_over(loop, 1) <= 1
        for channel in echo.channels:
            channel.abort()


@pytest.mark.parametrize(
    "state", ["paused", "half-closed", "half-closed by us", "lingering", "stalled", "draining", "backlog", "reset"]
)
def test_a_connection_that_waits_makes_no_turns(loop: Loop, state: str) -> None:
    recorder = Recorder()
    recorder.eof_answer = True
    here, there = over_tcp()
    narrow(here, there)
    channel = loop.attach(here, recorder)
    group = Group(loop)
    run_turns(loop)
    there.sendall(frames([b"x"]))
    if state == "paused":
        channel.pause_reading()
    elif state == "half-closed":
        there.shutdown(socket.SHUT_WR)
    elif state == "half-closed by us":
        channel.send_eof()
    elif state == "lingering":
        channel.close()
    elif state in ("stalled", "draining"):
        channel.send(b"x" * 2_000_000)
        if state == "draining":
            channel.close()
            there.shutdown(socket.SHUT_WR)
    elif state == "backlog":
        group.add(channel)
        for _ in range(8):
            group.send(b"x" * 100_000)
            run_turns(loop)
    else:
        channel.pause_reading()
        reset(there)
    settle(loop)
    assert turns_over(loop, 0.2) <= 1
    there.close()


@pytest.mark.parametrize("state", ["open", "paused", "handshaking", "stalled", "lingering", "draining"])
def test_a_tls_connection_that_waits_makes_no_turns(loop: Loop, certificate: Path, state: str) -> None:
    server, client = tls_contexts(certificate)
    recorder = Recorder()
    here, there = over_tcp()
    there.settimeout(LIMIT)
    channel = loop.attach(here, recorder, tls=server)
    wrapped: list[Any] = [there]

    def shake() -> None:
        wrapped[0] = client.wrap_socket(there, server_hostname="localhost")
        wrapped[0].sendall(frames([b"x"]))

    if state != "handshaking":
        thread = threading.Thread(target=shake)
        thread.start()
        run_until(loop, lambda: recorder.received)
        thread.join()
    if state == "paused":
        channel.pause_reading()
        wrapped[0].sendall(frames([b"x"]))
    elif state in ("stalled", "draining"):
        channel.send(b"x" * 10_000_000)
    if state in ("lingering", "draining"):
        channel.close()
    settle(loop)
    assert turns_over(loop, 0.2) <= 1
    wrapped[0].close()


# Ten thousand

SERVER = """
    import resource, sys
    from framewire.loop import Handler, Loop
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (10_200, hard))
    class Echo(Handler):
        ended = 0
        def frames_received(self, channel, payloads):
            channel.send_many(payloads)
        def disconnected(self, channel, error):
            assert error is None, error
            Echo.ended += 1
            if Echo.ended == 10_000:
                loop.stop()
    with Loop() as loop:
        watchdog = loop.call_later(100, loop.stop)
        listener = loop.listen(("127.0.0.1", 0), Echo(), backlog=4096)
        print(listener.address[1], flush=True)
        loop.run()
        assert watchdog.pending
        print("served", loop.stats().received_count, "of", loop.stats().accepted_count, flush=True)
"""


def test_ten_thousand_connections_at_once_are_all_served() -> None:
    """The server is one process, and its clients are a loop in another: each needs ten thousand descriptors."""
    with descriptors(10_200):
        server = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SERVER)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            with Loop() as loop:
                clients = Ten(loop, port)
                loop.call_later(100, loop.stop)
                loop.run()
                assert (clients.answered, clients.ended) == (10_000, 10_000)
            assert server.stdout.readline() == "served 10000 of 10000\n"
            assert server.wait(LIMIT) == 0
        finally:
            server.kill()
            server.wait()
            if server.stdout is not None:
                server.stdout.close()


class Ten(Recorder):
    """Ten thousand clients: when the last is connected all send, and when the last is answered all close."""

    def __init__(self, loop: Loop, port: int) -> None:
        super().__init__()
        self.loop = loop
        self.port = port
        self.begun = self.answered = self.ended = 0
        for _ in range(500):
            self.begin()

    def begin(self) -> None:
        self.begun += 1
        self.loop.connect(("127.0.0.1", self.port), self, close_timeout=60)

    def connected(self, channel: Channel) -> None:
        self.payloads[channel] = []
        if self.begun < 10_000:
            self.begin()
        elif len(self.payloads) == 10_000:
            for one in self.payloads:
                one.send(b"%d" % id(one))

    def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
        assert payloads == [b"%d" % id(channel)]
        self.answered += 1
        if self.answered == 10_000:
            for one in self.payloads:
                one.close()

    def disconnected(self, channel: Channel, error: Exception | None) -> None:
        assert error is None
        self.ended += 1
        if self.ended == 10_000:
            self.loop.stop()


# Chance


class Wild(Recorder):
    """Does anything at any time. What it may not do is what no handler may: block."""

    def __init__(self, loop: Loop, rand: random.Random, groups: list[Group]) -> None:
        super().__init__()
        self.loop = loop
        self.rand = rand
        self.groups = groups
        self.number = 0
        self.pauses: dict[Channel, int] = {}
        self.live: list[Channel] = []

    def act(self, channel: Channel) -> None:
        rand = self.rand
        if rand.random() < 0.2 and self.live:
            channel = rand.choice(self.live)
        self.number += 1
        payload = b"%d:" % self.number + b"." * rand.choice([0, 3, 1000, 70_000])
        sendable = channel.mode != 1
        group = rand.choice(self.groups)
        action = rand.randrange(32)
        if action < 8 and sendable:
            channel.send(payload)
        elif action < 11 and sendable:
            channel.send_many([payload, b"", payload])
        elif action == 11:
            group.add(channel)
        elif action == 12:
            group.discard(channel)
        elif action < 16:
            group.send(payload, exclude=rand.choice([None, channel]))
        elif action == 16:
            channel.close(rand.choice([None, ValueError("a reason")]))
        elif action == 17 and rand.random() < 0.5:
            channel.abort(rand.choice([None, ValueError("a reason")]))
        elif action == 18:
            channel.pause_reading()
            self.loop.call_later(rand.random() * 0.01, channel.resume_reading)
        elif action == 19 and rand.random() < 0.3:
            with suppress(NotImplementedError):
                channel.send_eof()
        elif action == 20:
            self.loop.call_later(rand.random() * 0.01, self.act, channel)
        elif action == 21:
            self.loop.call_soon(self.act, channel)
        elif action == 22 and rand.random() < 0.2:
            raise LookupError("wild")

    def connected(self, channel: Channel) -> None:
        super().connected(channel)
        self.live.append(channel)
        self.act(channel)

    def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
        super().frames_received(channel, payloads)
        self.act(channel)

    def eof_received(self, channel: Channel) -> bool | None:
        super().eof_received(channel)
        self.act(channel)
        return self.rand.random() < 0.3

    def sending_paused(self, channel: Channel) -> None:
        super().sending_paused(channel)
        self.act(channel)

    def sending_resumed(self, channel: Channel) -> None:
        super().sending_resumed(channel)
        self.act(channel)

    def disconnected(self, channel: Channel, error: Exception | None) -> None:
        super().disconnected(channel, error)
        if channel in self.live:
            self.live.remove(channel)
        self.act(channel)


class WildPeer:
    """A peer that dribbles, stalls, half-closes, resets; and remembers what it has sent and received."""

    def __init__(self, rand: random.Random, sock: socket.socket) -> None:
        self.rand = rand
        self.sock = sock
        sock.setblocking(False)
        self.sent: list[bytes] = []
        self.stream = bytearray()
        self.out = 0
        self.received = bytearray()
        self.over = self.ended = self.gone = False

    def step(self) -> None:
        rand = self.rand
        if self.gone:
            return
        action = rand.randrange(40)
        with suppress(BlockingIOError):
            try:
                if action < 14:
                    chunk = self.sock.recv(rand.choice([1, 100, 5000, 200_000]))
                    self.received += chunk
                    self.over = self.over or not chunk
                elif action < 30 and not self.ended:
                    if len(self.stream) - self.out < 1000:
                        payload = b"%d:" % len(self.sent) + b"x" * rand.choice([0, 5, 300, 70_000])
                        self.sent.append(payload)
                        self.stream += frames([payload])
                    size = rand.choice([1, 11, 1000, 100_000])
                    self.out += self.sock.send(self.stream[self.out : self.out + size])
                elif action == 30 and rand.random() < 0.2 and not self.ended:
                    self.sock.shutdown(socket.SHUT_WR)
                    self.ended = True
                elif action == 31 and rand.random() < 0.1:
                    reset(self.sock)
                    self.gone = True
                elif action == 32 and rand.random() < 0.1:
                    self.sock.close()
                    self.gone = True
            except BlockingIOError:
                raise
            except OSError:
                self.sock.close()
                self.gone = True


@pytest.mark.parametrize("policy", ["disconnect", "drop_oldest", "wait"])
@pytest.mark.parametrize("seed", range(8))
def test_whatever_handlers_and_peers_do_the_loop_keeps_its_word(
    loop: Any, seed: int, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    print(f"seed {seed}, policy {policy}")
    caplog.set_level(logging.CRITICAL, "framewire")
    rand = random.Random(f"{seed} {policy}")
    groups = [Group(loop, policy=policy, limit=100_000) for _ in range(2)]
    handler = Wild(loop, rand, groups)
    listener = loop.listen(LOCAL, handler, high_mark=50_000, low_mark=10_000, close_timeout=0.05)
    peers: dict[Any, WildPeer] = {}
    begun: list[Channel] = []
    for step in range(2500):
        if step % 40 == 0:
            if rand.random() < 0.5:
                sock = socket.create_connection(listener.address)
                peers[sock.getsockname()] = WildPeer(rand, sock)
            else:
                here, there = over_unix() if rand.random() < 0.5 else over_tcp()
                narrow(here)
                channel = loop.attach(here, handler, high_mark=50_000, low_mark=10_000, close_timeout=0.05)
                begun.append(channel)
                peers[channel] = WildPeer(rand, there)
        for peer in rand.sample(list(peers.values()), min(len(peers), 8)):
            peer.step()
        if handler.live and rand.random() < 0.3:
            with suppress(LookupError):
                handler.act(rand.choice(handler.live))
        run_turns(loop)
    for key, peer in peers.items():
        channel = next((one for one in handler.channels if key in (one, one.peername)), None)
        if channel is not None:
            got = handler.payloads[channel]
            assert got == peer.sent[: len(got)], "payloads are lost or out of order"
            check_numbers(peer.received)
    for _ in range(100):
        for peer in peers.values():
            peer.step()
    for peer in peers.values():
        peer.sock.close()
    loop.shutdown(5)
    run_until(loop, lambda: False)
    assert not loop.channels
    assert set(handler.errors) >= set(handler.payloads), "a channel that connected was never disconnected"
    assert handler.names.count("disconnected") == len(handler.errors)
    assert not any(len(group) for group in groups)
    assert not any(group.full for group in groups)
    assert loop.stats().queued_size == 0
    run_turns(loop, 3)
    assert len(loop._selector.get_map()) == 1  # what wakes the loop
    for channel in handler.channels:
        assert channel.groups == ()
        assert channel.backlog is None
        assert channel._timer is None
        assert channel._frame_timer is None
        assert channel._paused is None


def check_numbers(stream: bytearray) -> None:
    """What a peer has received is frames."""
    decoder = Decoder("ascii10")
    decoder.feed(bytes(stream))
    assert decoder.error is None


def test_clean_peers_lose_nothing_among_wild_ones(loop: Loop) -> None:
    """Echo clients that behave get every byte back while others do not."""
    rand = random.Random(7)
    echo = Echo()
    address = loop.listen(LOCAL, echo, high_mark=30_000, low_mark=5000, close_timeout=0.1).address
    wild = [WildPeer(rand, socket.create_connection(address)) for _ in range(20)]
    clean = [WildPeer(rand, socket.create_connection(address)) for _ in range(5)]
    for _ in range(2000):
        rand.choice(wild).step()
        peer = rand.choice(clean)
        if len(peer.stream) - peer.out < 1000:
            payload = b"%d:" % len(peer.sent) + b"x" * rand.choice([0, 5, 300, 20_000])
            peer.sent.append(payload)
            peer.stream += frames([payload])
        with suppress(BlockingIOError):
            peer.out += peer.sock.send(peer.stream[peer.out : peer.out + rand.choice([1, 11, 1000, 30_000])])
        with suppress(BlockingIOError):
            peer.received += peer.sock.recv(rand.choice([1, 1000, 30_000]))
        run_turns(loop)
    for peer in clean:
        while peer.received != peer.stream:
            with suppress(BlockingIOError):
                peer.out += peer.sock.send(peer.stream[peer.out :])
            with suppress(BlockingIOError):
                peer.received += peer.sock.recv(100_000)
            assert peer.stream.startswith(peer.received)
            run_turns(loop)
    for peer in wild + clean:
        peer.sock.close()
