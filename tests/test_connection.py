"""The sans-I/O connection: order, limits, the two ends of a stream, and what is sent without a copy."""

from __future__ import annotations

import random
import sys
from types import ModuleType

import pytest
from harness import size_of

from framewire import Delimited, FrameTooLarge, HeaderError, IncompleteFrame, LengthField
from framewire.connection import LARGE_SIZE, MAX_BUFFERS, SINK_SIZE, Connection

PAYLOADS = [b"hello", b"", b"wonderful", b"world"]
STREAM = b"5         hello0         9         wonderful5         world"
LARGE = bytes(range(256)) * (LARGE_SIZE // 256)


@pytest.fixture(autouse=True)
def _on_each_core(core: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("framewire.connection.Decoder", core.Decoder)
    monkeypatch.setattr("framewire.connection.Encoder", core.Encoder)


def received(connection: Connection, *chunks: bytes) -> list[bytes]:
    for chunk in chunks:
        connection.receive_data(chunk)
    return connection.frames_received()


def drain(connection: Connection, *, at_most: int = sys.maxsize) -> bytes:
    """Send all that is queued, as a socket that takes `at_most` bytes at a time would."""
    sent = bytearray()
    while buffers := connection.data_to_send():
        data = b"".join(buffers)[:at_most]
        sent += data
        connection.data_sent(len(data))
    return bytes(sent)


# Receiving


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_payloads_come_in_order_wherever_the_stream_is_cut(cut: int) -> None:
    assert received(Connection("ascii10"), STREAM[:cut], STREAM[cut:]) == PAYLOADS


@pytest.mark.parametrize("hint", [1, 2, 7, 16, -1])
def test_payloads_come_through_lent_windows_of_any_size(hint: int) -> None:
    connection = Connection("ascii10")
    rest = STREAM
    while rest:
        window = connection.get_buffer(hint)
        n = min(len(window), len(rest))
        window[:n] = rest[:n]
        connection.buffer_updated(n)
        rest = rest[n:]
    assert connection.frames_received() == PAYLOADS


def test_payloads_are_collected_once() -> None:
    connection = Connection("ascii10")
    assert received(connection, STREAM) == PAYLOADS
    assert connection.frames_received() == []


def test_an_error_shows_at_once_but_is_raised_in_its_turn_and_then_by_every_call() -> None:
    connection = Connection("ascii10")
    connection.receive_data(STREAM)
    assert connection.error is None
    connection.receive_data(b"GET / HTTP/1.1")
    assert isinstance(connection.error, HeaderError)
    assert connection.error.offset == len(STREAM)
    assert connection.frames_received() == PAYLOADS
    for _ in range(2):
        with pytest.raises(HeaderError) as raised:
            connection.frames_received()
        assert raised.value is connection.error


def test_a_frame_over_the_limit_is_an_error_in_both_directions() -> None:
    connection = Connection("u8", max_size=3)
    connection.send(b"abc")
    with pytest.raises(FrameTooLarge):
        connection.send(b"abcd")
    connection.receive_data(b"\x03abc\x04")
    assert connection.frames_received() == [b"abc"]
    with pytest.raises(FrameTooLarge):
        connection.frames_received()


def test_bytes_after_an_error_are_dropped_and_cost_no_memory() -> None:
    connection = Connection("ascii10")
    connection.receive_data(b"GET / HTTP/1.1")
    size = size_of(connection._decoder)
    for _ in range(100):
        connection.receive_data(STREAM)
        window = connection.get_buffer()
        assert len(window) == SINK_SIZE
        window[: len(STREAM)] = STREAM
        connection.buffer_updated(len(STREAM))
    assert len(connection.get_buffer(7)) == 7
    connection.receive_eof()
    assert size_of(connection._decoder) <= size
    with pytest.raises(HeaderError):
        connection.frames_received()


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_the_end_is_clean_between_frames_and_an_error_inside_one(cut: int) -> None:
    connection = Connection("ascii10")
    connection.receive_data(STREAM[:cut])
    assert not connection.eof_received
    connection.receive_eof()
    assert connection.eof_received
    ends = [0, 15, 25, 44, 59]
    whole = sum(end <= cut for end in ends) - 1
    if whole:
        assert connection.frames_received() == PAYLOADS[:whole]
    if cut in ends:
        assert connection.frames_received() == []
    else:
        with pytest.raises(IncompleteFrame) as raised:
            connection.frames_received()
        assert raised.value.offset == ends[whole]


def test_the_end_can_complete_a_payload() -> None:
    connection = Connection(Delimited(b"\r\n", b"\r"))
    assert received(connection, b"one\r\ntwo\r") == [b"one"]
    connection.receive_eof()
    assert connection.frames_received() == [b"two"]
    assert connection.frames_received() == []


def test_the_end_can_be_told_twice() -> None:
    connection = Connection("ascii10")
    connection.receive_eof()
    connection.receive_eof()
    assert connection.frames_received() == []


def test_nothing_can_come_after_the_end() -> None:
    connection = Connection("ascii10")
    connection.receive_eof()
    with pytest.raises(RuntimeError):
        connection.receive_data(b"1")
    with pytest.raises(RuntimeError):
        connection.get_buffer()
    with pytest.raises(RuntimeError):
        connection.buffer_updated(0)


def test_a_window_must_be_lent_and_large_enough() -> None:
    connection = Connection("ascii10")
    with pytest.raises(RuntimeError):
        connection.buffer_updated(1)
    window = connection.get_buffer(4)
    with pytest.raises(ValueError, match="5"):
        connection.buffer_updated(5)
    window[:] = STREAM[:4]
    connection.buffer_updated(4)
    assert received(connection, STREAM[4:]) == PAYLOADS


# Sending


def test_nothing_is_queued_at_first() -> None:
    connection = Connection("ascii10")
    assert connection.data_to_send() == []
    assert connection.queued_size == 0
    connection.data_sent(0)


@pytest.mark.parametrize("at_most", [1, 2, 16, sys.maxsize])
def test_frames_go_out_in_order_however_few_bytes_are_taken(at_most: int) -> None:
    connection = Connection("ascii10")
    connection.send(PAYLOADS[0])
    connection.send_many(PAYLOADS[1:3])
    connection.send(PAYLOADS[3])
    assert drain(connection, at_most=at_most) == STREAM


def test_small_frames_are_joined_into_one_buffer() -> None:
    connection = Connection("ascii10")
    for payload in PAYLOADS:
        connection.send(payload)
    assert connection.data_to_send() == [STREAM]


@pytest.mark.parametrize("spec", ["ascii10", "netstring", "lines"])
def test_a_large_payload_is_sent_from_where_it_lies(spec: str) -> None:
    large = b"x" * LARGE_SIZE
    small = large[:-1]
    connection = Connection(spec)
    connection.send(large)
    connection.send_many([b"a", large, b"b", large, small])
    queued = [buffer for buffer in connection.data_to_send() if buffer is large]
    assert len(queued) == 3
    receiver = Connection(spec)
    assert received(receiver, drain(connection)) == [large, b"a", large, b"b", large, small]


def test_a_large_payload_sent_in_part_is_still_not_copied() -> None:
    connection = Connection("u32be")
    connection.send(LARGE)
    connection.data_to_send()
    connection.data_sent(4 + 1000)
    (rest,) = connection.data_to_send()
    assert isinstance(rest, memoryview)
    assert rest.obj is LARGE
    assert rest == LARGE[1000:]


class Mine(bytes):
    """Not a ``bytes`` that nobody can have given more to."""


@pytest.mark.parametrize("size", [10, LARGE_SIZE, 3 * LARGE_SIZE])
@pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data))])
def test_a_payload_that_can_change_is_copied_when_it_is_queued(kind: type, size: int) -> None:
    payload = kind(bytes(size))
    connection = Connection("u32be")
    connection.send(payload)
    connection.send_many([payload])
    payload[:] = b"\xff" * size
    assert drain(connection) == (size.to_bytes(4, "big") + bytes(size)) * 2


def test_only_exact_bytes_are_kept() -> None:
    payload = Mine(LARGE)
    connection = Connection("u32be")
    connection.send(payload)
    assert all(type(buffer) is bytes for buffer in connection.data_to_send())
    assert drain(connection) == LARGE_SIZE.to_bytes(4, "big") + LARGE


def test_a_payload_counts_its_bytes_not_its_items() -> None:
    connection = Connection("u32be")
    items = memoryview(LARGE).cast("I")
    connection.send(items)
    connection.send_many([items])
    assert drain(connection) == (LARGE_SIZE.to_bytes(4, "big") + LARGE) * 2


def test_any_mix_of_payloads_and_partial_sends_gives_the_same_stream(core: ModuleType) -> None:
    choose = random.Random(1)
    sizes = [0, 1, 100, 10_000, LARGE_SIZE - 1, LARGE_SIZE, LARGE_SIZE + 1, 3 * LARGE_SIZE]
    connection = Connection("varint")
    expected, sent = bytearray(), bytearray()
    encoder = core.Encoder("varint")
    for _ in range(500):
        payloads = [choose.randbytes(choose.choice(sizes)) for _ in range(choose.randrange(4))]
        expected += encoder.encode_many(payloads)
        if len(payloads) == 1:
            connection.send(payloads[0])
        else:
            connection.send_many(iter(payloads))
        buffers = connection.data_to_send()
        assert all(map(len, buffers))
        assert len(buffers) <= MAX_BUFFERS
        data = b"".join(buffers)
        data = data[: choose.choice([0, 1, len(data) // 2, len(data)])]
        sent += data
        connection.data_sent(len(data))
        assert connection.queued_size == len(expected) - len(sent)
    assert sent + drain(connection, at_most=200_000) == expected
    assert connection.queued_size == 0


def test_small_frames_behind_a_blocked_socket_do_not_become_as_many_buffers() -> None:
    connection = Connection("u8")
    for _ in range(10_000):
        connection.send(b"x")
        assert len(connection.data_to_send()) <= MAX_BUFFERS
    assert connection.queued_size == 20_000
    assert len(connection._queue) == MAX_BUFFERS
    assert drain(connection) == b"\x01x" * 10_000


def test_what_is_not_sent_is_offered_again() -> None:
    connection = Connection("ascii10")
    connection.send(b"hello")
    first = connection.data_to_send()
    connection.send(b"")
    assert b"".join(connection.data_to_send()).startswith(b"".join(first))


def test_a_refused_payload_leaves_nothing_behind() -> None:
    connection = Connection("fixed:5")
    with pytest.raises(ValueError, match="4"):
        connection.send(b"four")
    with pytest.raises(ValueError, match="4"):
        connection.send_many([b"fives", b"four"])
    with pytest.raises(TypeError):
        connection.send("fives")  # type: ignore[arg-type]
    assert connection.queued_size == 0
    assert connection.data_to_send() == []


@pytest.mark.parametrize("n", [-1, 7])
def test_no_more_can_be_sent_than_was_offered(n: int) -> None:
    connection = Connection("u8")
    connection.send(b"hello")
    connection.data_to_send()
    connection.send(b"world")
    with pytest.raises(ValueError, match=str(n)):
        connection.data_sent(n)
    assert drain(connection) == b"\x05hello\x05world"


def test_a_format_that_can_only_be_read_can_be_received() -> None:
    connection = Connection(LengthField(1, strip=0))
    assert received(connection, b"\x01a\x02bc") == [b"\x01a", b"\x02bc"]
    with pytest.raises(ValueError, match="strip=0"):
        connection.send(b"a")


# Both directions


def test_an_error_in_one_direction_leaves_the_other_alone() -> None:
    connection = Connection("ascii10")
    connection.receive_data(b"GET / HTTP/1.1")
    connection.send(b"hello")
    assert drain(connection) == b"5         hello"


def test_the_end_is_sent_when_all_before_it_is() -> None:
    connection = Connection("ascii10")
    connection.send(b"hello")
    assert not connection.eof_sent
    connection.send_eof()
    connection.send_eof()
    assert not connection.eof_sent
    for send in (connection.send, lambda payload: connection.send_many([payload])):
        with pytest.raises(RuntimeError):
            send(b"more")
    assert drain(connection) == b"5         hello"
    assert connection.eof_sent


@pytest.mark.parametrize("end", [b"", b"GET / HTTP/1.1"])
def test_a_connection_is_closed_when_both_directions_are_over(end: bytes) -> None:
    connection = Connection("ascii10")
    connection.send(b"hello")
    connection.send_eof()
    assert not connection.closed
    if end:
        connection.receive_data(end)
    else:
        connection.receive_eof()
    assert not connection.closed
    drain(connection)
    assert connection.closed


def test_a_connection_shows_its_format_and_its_limit() -> None:
    connection = Connection("u32be", max_size=1000)
    assert connection.spec == LengthField(4)
    assert repr(connection) == f"Connection({LengthField(4)!r}, max_size=1000)"


@pytest.mark.parametrize(("spec", "max_size"), [("u33", 1), ("ascii10", -1), ("fixed:5", 4)])
def test_an_impossible_connection_is_refused_when_it_is_made(spec: str, max_size: int) -> None:
    with pytest.raises(ValueError, match=r"u33|-1|4"):
        Connection(spec, max_size=max_size)
