"""The two endpoints: the same calls on the same sockets leave both in the same state."""

from __future__ import annotations

import importlib
import random
import socket
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from conftest import CORES, EXAMPLES

from framewire import FramingError, _core_py, _endpoint_py

KIB = 1024
HIGH_MARK = 100 * KIB
LARGE = 300 * KIB


class Twin:
    """One endpoint, the peer at the other end of its socket, and what it has received."""

    def __init__(self, endpoints: ModuleType, core: ModuleType, spec: str) -> None:
        self.endpoints = endpoints
        self.spec = spec
        self.turn = endpoints.Turn()
        self.endpoint = endpoints.Endpoint(
            self.turn, core.Decoder(spec, max_size=500 * KIB), core.Encoder(spec, max_size=500 * KIB), HIGH_MARK
        )
        self.sock, self.peer = socket.socketpair()
        for sock in (self.sock, self.peer):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * KIB)
        self.endpoint.attach(self.sock)
        self.payloads: list[bytes] = []
        self.at_peer = bytearray()

    def close(self) -> None:
        self.endpoint.detach()
        self.sock.close()
        self.peer.close()

    def call(self, method: str, *args: Any) -> object:
        try:
            return getattr(self.endpoint, method)(*args)
        except (RuntimeError, FramingError) as error:
            return (type(error), str(error))

    def receive(self) -> None:
        if self.endpoint.ended:
            return
        try:
            self.payloads += self.endpoint.receive()
        except OSError as error:
            self.endpoint.lose(error)

    def from_peer(self, data: bytes) -> int:
        try:
            return self.peer.send(data)
        except (BlockingIOError, BrokenPipeError):
            return 0

    def to_peer(self, size: int) -> int:
        try:
            data = self.peer.recv(size)
        except (BlockingIOError, ConnectionResetError):
            return -1
        self.at_peer += data
        return len(data)

    def flush_all(self) -> list[bool]:
        self.endpoint.blocked = False
        return [one is self.endpoint for one in self.endpoints.flush_all(self.turn.take_dirty())]

    def send_to_all(self, data: bytes) -> tuple[int, int]:
        behind, left = self.endpoints.send_to_all([self.endpoint, self.endpoint], data, 2)
        return len(behind), len(left)

    def state(self) -> tuple[Any, ...]:
        endpoint = self.endpoint
        return (
            self.payloads,
            bytes(self.at_peer),
            [bytes(buffer) for buffer in endpoint.unsent()],
            [len(self.turn.dirty), len(self.turn.over)],
            [endpoint.unsent_size, endpoint.mode, endpoint.ended, endpoint.blocked, endpoint.over],
            [endpoint.received_size, endpoint.received_count, endpoint.sent_size, endpoint.sent_count],
            (type(endpoint.failure), endpoint.failure and endpoint.failure.args),
            endpoint.decoder.buffered_size,
        )


def both() -> list[tuple[ModuleType, ModuleType]]:
    pairs: list[tuple[ModuleType, ModuleType]] = [(_endpoint_py, _core_py)]
    if "c" in CORES:
        compiled = importlib.import_module("framewire._core_c")
        if not compiled.HAS_SOCKETS:
            pytest.skip("the compiled endpoint needs POSIX sockets")
        pairs.append((compiled, compiled))
    return pairs


@pytest.fixture(params=range(len(CORES)), ids=["py", "c"][: len(CORES)])
def twin(request: pytest.FixtureRequest) -> Iterator[Twin]:
    twin = Twin(*both()[request.param], "u32be")
    yield twin
    twin.close()


@pytest.mark.skipif("c" not in CORES, reason="needs both")
@pytest.mark.parametrize("spec", ["u32be", "ascii10", "lines", "netstring"])
@pytest.mark.parametrize("seed", range(30 * EXAMPLES))
def test_any_calls_leave_both_in_the_same_state(spec: str, seed: int) -> None:
    rand = random.Random(f"{spec} {seed}")
    twins = [Twin(endpoints, core, spec) for endpoints, core in both()]
    encoder = _core_py.Encoder(spec)
    streams: list[bytes] = []

    def payload() -> bytes:
        return bytes([rand.randrange(65, 90)]) * rand.choice([0, 1, 30, 4000, 70_000, 200_000])

    def in_twins(method: str, *args: Any) -> None:
        answers = [getattr(twin, method)(*args) for twin in twins]
        assert answers[0] == answers[1], method

    def in_endpoints(method: str, *args: Any) -> None:
        outcomes = [twin.call(method, *args) for twin in twins]
        assert outcomes[0] == outcomes[1], method

    try:
        for _ in range(rand.randrange(60)):
            action = rand.randrange(12)
            if action < 2:
                if not streams:
                    stream = encoder.encode_many([payload() for _ in range(rand.randrange(4))])
                    streams.append(stream if rand.random() < 0.95 else b"\xff!" * 20)
                part = streams.pop()
                sent = [twin.from_peer(part[:65_000]) for twin in twins]
                assert sent[0] == sent[1]
                if part[sent[0] :]:
                    streams.append(part[sent[0] :])
            elif action < 4:
                in_twins("receive")
            elif action == 4:
                in_endpoints("send", payload())
            elif action == 5:
                in_endpoints("send_many", [payload() for _ in range(rand.randrange(5))])
            elif action == 6:
                in_endpoints("write", b"w" * rand.randrange(100))
            elif action == 7:
                in_twins("flush_all")
            elif action == 8:
                in_twins("send_to_all", b"all" * rand.randrange(1, 30_000))
            elif action == 9:
                in_twins("to_peer", rand.choice([1, 5000, 1_000_000]))
            elif action == 10:
                for twin in twins:
                    twin.endpoint.over = False
                    twin.turn.take_over()
            elif rand.random() < 0.2:
                end = rand.choice(["close", "ending", "shutdown"])
                for twin in twins:
                    if end == "close":
                        twin.peer.close()
                    elif end == "ending":
                        twin.endpoint.mode = _endpoint_py.ENDING
                    else:
                        twin.peer.shutdown(socket.SHUT_WR)
            states = [twin.state() for twin in twins]
            assert states[0] == states[1], action
            if twins[0].peer.fileno() < 0:
                break
        for _ in range(3):
            in_twins("flush_all")
            in_twins("receive")
        states = [twin.state() for twin in twins]
        assert states[0] == states[1]
    finally:
        for twin in twins:
            twin.close()


def test_what_is_queued_leaves_in_one_call_for_many(twin: Twin) -> None:
    for i in range(50):
        twin.endpoint.send(b"%d" % i)
    assert twin.endpoint.unsent_size == sum(4 + len(str(i)) for i in range(50))
    assert twin.endpoints.flush_all(twin.turn.take_dirty()) == []
    assert twin.to_peer(10_000) == sum(4 + len(str(i)) for i in range(50))
    assert twin.endpoint.unsent_size == 0


def test_a_full_socket_blocks_and_goes_on_where_it_was(twin: Twin) -> None:
    frames = [bytes([i]) * 30_000 for i in range(1, 40)]
    for frame in frames:
        twin.endpoint.send(frame)
    assert twin.endpoint.blocked
    assert twin.endpoint.over
    assert twin.turn.take_over() == [twin.endpoint]
    while twin.endpoint.unsent_size:
        assert twin.to_peer(1_000_000) > 0
        twin.endpoint.flush()
    while twin.to_peer(1_000_000) > 0:
        pass
    assert bytes(twin.at_peer) == b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


def test_a_loss_is_left_for_the_loop_and_what_comes_after_is_dropped(twin: Twin) -> None:
    twin.peer.close()
    twin.endpoint.send(b"x")
    assert twin.endpoints.flush_all(twin.turn.take_dirty()) == [twin.endpoint]
    assert isinstance(twin.endpoint.failure, BrokenPipeError)
    twin.endpoint.send(b"y")
    assert twin.endpoint.unsent_size == 0


class Shouting:
    """Another decoder and encoder: payloads are text, and what is sent is in capitals."""

    def __init__(self, spec: str) -> None:
        self.decoder = _core_py.Decoder(spec, max_size=None)
        self.encoder = _core_py.Encoder(spec, max_size=None)
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.decoder, name)

    def feed(self, chunk: Any) -> list[str]:
        self.calls.append("feed")
        return [payload.decode() for payload in self.decoder.feed(chunk)]

    def buffer_updated(self, n: int) -> list[str]:
        self.calls.append("buffer_updated")
        return [payload.decode() for payload in self.decoder.buffer_updated(n)]

    def encode(self, payload: Any) -> bytes:
        return self.encoder.encode(payload.upper())

    def encode_many(self, payloads: Any) -> bytes:
        return self.encoder.encode_many([payload.upper() for payload in payloads])

    def encode_parts(self, payload: Any) -> Any:
        return self.encoder.encode_parts(payload.upper())


def test_any_decoder_and_encoder_of_that_manner_will_do(twin: Twin) -> None:
    shouting = Shouting("u32be")
    endpoint = twin.endpoints.Endpoint(twin.turn, shouting, None, HIGH_MARK)
    endpoint.attach(twin.sock)
    with pytest.raises(ValueError, match="can only be read"):
        endpoint.send(b"x")
    endpoint.encoder = shouting
    endpoint.send(b"a")
    endpoint.send(b"b" * LARGE)
    endpoint.send_many([b"c", b"d"])
    while twin.to_peer(1 << 20) > 0 or endpoint.unsent_size:
        endpoint.blocked = False
        endpoint.flush()
    frames = _core_py.Encoder("u32be", max_size=None).encode_many([b"A", b"B" * LARGE, b"C", b"D"])
    assert bytes(twin.at_peer) == frames
    assert endpoint.sent_count == 4
    received: list[str] = []
    sent = 0
    while sent < len(frames) or len(received) < 4:
        sent += twin.from_peer(frames[sent:])
        received += endpoint.receive()
    assert received == ["A", "B" * LARGE, "C", "D"]
    assert {"feed", "buffer_updated"} <= set(shouting.calls)
    assert (endpoint.received_size, endpoint.received_count) == (len(frames), 4)
    assert endpoint.receive() == []
    twin.from_peer(b"\0\0\0\1E\xff\xff\xff\xff")
    twin.peer.shutdown(socket.SHUT_WR)
    assert endpoint.receive() == ["E"]
    assert endpoint.receive() == []
    assert endpoint.ended


@pytest.mark.parametrize("wrong", [LookupError, KeyboardInterrupt])
def test_what_another_decoder_raises_harms_no_other_endpoint(twin: Twin, wrong: type[BaseException]) -> None:
    def fail(chunk: Any) -> list[str]:
        raise wrong("by design")

    shouting = Shouting("u32be")
    shouting.feed = fail  # type: ignore[method-assign]
    endpoint = twin.endpoints.Endpoint(twin.turn, shouting, None, HIGH_MARK)
    endpoint.attach(twin.sock)
    twin.from_peer(b"\0\0\0\1x")
    with pytest.raises(wrong, match="by design"):
        endpoint.receive()
    twin.from_peer(b"\0\0\0\1y")
    assert twin.endpoint.receive() == [b"y"]


def test_bytes_only_can_be_written(twin: Twin) -> None:
    with pytest.raises(TypeError, match="not bytearray"):
        twin.endpoint.write(bytearray(b"x"))


@pytest.mark.skipif("c" not in CORES, reason="the compiled one")
def test_an_endpoint_that_was_not_initialised_says_so() -> None:
    endpoint_type = importlib.import_module("framewire._core_c").Endpoint
    endpoint = endpoint_type.__new__(endpoint_type)
    for call in (endpoint.receive, lambda: endpoint.send(b"x"), lambda: endpoint.append(b"x", 1)):
        with pytest.raises(RuntimeError, match="not initialised"):
            call()
    assert endpoint.flush()


@pytest.mark.skipif("c" not in CORES, reason="the compiled one")
def test_a_wait_gives_out_the_same_object_for_the_same_event() -> None:
    selectors = pytest.importorskip("framewire._selector")
    here, there = socket.socketpair()
    with here, there, selectors.CompiledEpollSelector() as selector:
        key = selector.register(here, 1, "data")
        assert selector.select(0) == []
        there.send(b"x")
        (first,) = selector.select()
        (second,) = selector.select(10)
        assert first is second
        assert first == (key, 1)
        changed = selector.modify(here, 3, "other")
        assert selector.select() == [(changed, 3)]
        selector.unregister(here)
        assert selector.select(0) == []
        with pytest.raises(KeyError):
            selector.unregister(here)


@pytest.mark.parametrize("chosen", CORES)
def test_what_two_loops_receive_at_once_is_not_mixed(chosen: str) -> None:
    """Each has memory of its own, since each may be a thread of its own."""
    endpoints: Any = _endpoint_py if chosen == "py" else importlib.import_module("framewire._core_c")
    there = Twin(endpoints, _core_py, "fixed:4")

    class Interrupted(_core_py.Decoder):
        def feed(self, chunk: Any, /) -> list[bytes]:
            there.receive()  # as another thread would, between the system call and the parse
            return super().feed(chunk)

    here, peer = socket.socketpair()
    endpoint = endpoints.Endpoint(endpoints.Turn(), Interrupted("fixed:4"), None, HIGH_MARK)
    endpoint.attach(here)
    with here, peer:
        peer.sendall(b"mine")
        there.from_peer(b"gone")
        assert endpoint.receive() == [b"mine"]
        assert there.payloads == [b"gone"]
        endpoint.detach()
    there.close()
