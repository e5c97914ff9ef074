"""`framewire.dropin.multiprocessing`: the bytes, both ways with the standard library, and what it does better."""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import io
import mmap
import multiprocessing
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import connection, reduction
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from framewire.dropin import UnsupportedVersion, _pipe_py
from framewire.dropin import multiprocessing as dropin
from framewire.dropin._patch import Patch

if sys.implementation.name != "cpython":
    pytest.skip("what is replaced is CPython's", allow_module_level=True)
if sys.platform == "win32":
    pytest.skip("not for Windows, whose pipes keep messages apart", allow_module_level=True)
import fcntl
import termios
import tracemalloc

# Its pools and queues fork beside their own threads; from 3.15 on that warning, made an error, leaves the child behind.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

LIMIT = 20.0
STOCK = connection.Connection
FORK = multiprocessing.get_context("fork")
SIZES = [0, 1, 3, 4, 64, 2047, 2048, 2049, 16383, 16384, 16385, 65535, 65536, 65537, 131072, 131073, 1_000_003]
LONG = b"\xff\xff\xff\xff"


@pytest.fixture(params=["c", "py"])
def ours(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which twin moves the bytes."""
    if request.param == "py":
        twin: ModuleType = _pipe_py
    elif os.environ.get("FRAMEWIRE_EXPECT") == "pure":
        pytest.skip("no compiled core here")
    else:
        twin = importlib.import_module("framewire._core_c")
    for name in ("pipe_send", "pipe_recv", "pipe_recv_into"):
        monkeypatch.setattr(dropin, name, getattr(twin, name))
    return str(request.param)


class Ends:
    """One of our connections, and the bare other end of it."""

    def __init__(self) -> None:
        one, self.peer = socket.socketpair()
        self.peer.settimeout(LIMIT)
        self.conn = dropin.Connection(one.detach())

    def put(self, data: bytes) -> None:
        self.peer.sendall(data)

    def waiting(self) -> int:
        """Bytes that our connection has not read."""
        room = array.array("i", [0])
        fcntl.ioctl(self.conn.fileno(), termios.FIONREAD, room)
        return room[0]

    def take(self, size: int) -> bytes:
        parts = b""
        while len(parts) < size and (part := self.peer.recv(size - len(parts))):
            parts += part
        return parts


@pytest.fixture
def ends(ours: str) -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.conn.close()
    ends.peer.close()


def frame(body: bytes) -> bytes:
    return struct.pack("!i", len(body)) + body


def put_all(ends: Ends, data: bytes) -> None:
    """Send, to a connection that may be closed before it has read all."""
    with contextlib.suppress(OSError):
        ends.put(data)


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@contextlib.contextmanager
def child(work: Callable[..., None], *args: Any) -> Iterator[Any]:
    """Run `work` in a process of its own, which must end well."""
    process = FORK.Process(target=work, args=args)
    process.start()
    try:
        yield process
        process.join(LIMIT)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()


# The bytes.


@pytest.mark.parametrize("body", [b"", b"a", b"hello", bytes(range(256))])
def test_a_message_is_a_length_of_four_bytes_and_the_body(ends: Ends, body: bytes) -> None:
    ends.conn.send_bytes(body)
    assert ends.take(4 + len(body)) == struct.pack("!i", len(body)) + body
    ends.put(frame(body))
    assert ends.conn.recv_bytes() == body


@pytest.mark.parametrize("size", SIZES)
def test_every_size_arrives_whole_both_ways(ends: Ends, size: int) -> None:
    body = os.urandom(size)
    sender = in_thread(lambda: ends.conn.send_bytes(body))
    assert ends.take(4 + size) == frame(body)
    sender.join(LIMIT)
    sender = in_thread(lambda: ends.put(frame(body) + frame(b"next")))
    assert ends.conn.recv_bytes() == body
    assert ends.conn.recv_bytes() == b"next"
    sender.join(LIMIT)


@pytest.mark.parametrize("size", [0, 5, 3000, 70_000])
def test_the_form_of_eight_bytes_is_read_whatever_it_says(ends: Ends, size: int) -> None:
    body = os.urandom(size)
    sender = in_thread(lambda: ends.put(LONG + struct.pack("!Q", size) + body + frame(b"next")))
    assert ends.conn.recv_bytes() == body
    assert ends.conn.recv_bytes() == b"next"
    sender.join(LIMIT)


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 8, 11, 12, 13, 100])
@pytest.mark.parametrize("long", [False, True])
def test_a_message_in_two_pieces_is_one(ends: Ends, cut: int, long: bool) -> None:
    body = os.urandom(3000)
    stream = (LONG + struct.pack("!Q", 3000) + body) if long else frame(body)
    ends.put(stream[:cut])
    results: list[bytes] = []
    receiver = in_thread(lambda: results.append(ends.conn.recv_bytes()))
    while ends.waiting():
        time.sleep(0.001)
    ends.put(stream[cut:])
    receiver.join(LIMIT)
    assert results == [body]


def test_one_byte_at_a_time_is_one_message(ends: Ends) -> None:
    body = os.urandom(300)

    def put() -> None:
        for byte in frame(body):
            ends.put(bytes([byte]))

    sender = in_thread(put)
    assert ends.conn.recv_bytes() == body
    sender.join(LIMIT)


@pytest.mark.parametrize("size", [0, 1, 2048, 2049, 16384, 60_000])
def test_a_message_goes_out_with_one_write(ours: str, size: int) -> None:
    try:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # which keeps writes apart
    except OSError as error:
        pytest.skip(f"no sockets that keep writes apart ({error})")
    with dropin.Connection(one.detach()) as conn, other:
        other.settimeout(LIMIT)
        conn.send_bytes(bytes(size))
        assert len(other.recv(100_000)) == 4 + size


@pytest.mark.skipif(sys.maxsize < 2**40, reason="needs 64 bits")
def test_two_gigabytes_take_the_form_of_eight_bytes(ours: str) -> None:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            free = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable")) * 1024
    except OSError:
        pytest.skip("this system does not tell how much memory is free")
    if free < 6 * 2**30:
        pytest.skip("needs 6 GiB of free memory")
    size = 2**31 + 5
    one, other = dropin.Pipe(duplex=False)

    with one, other, mmap.mmap(-1, size) as body:  # pages of zeros that are never written take no memory
        if hasattr(mmap, "MADV_HUGEPAGE"):
            body.madvise(mmap.MADV_HUGEPAGE)
        body[-5:] = b"hello"
        sender = in_thread(lambda: other.send_bytes(body))
        fd = one.fileno()
        assert os.read(fd, 12) == LONG + struct.pack("!Q", size)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 1 << 20)
        left = size - 5
        memory = memoryview(bytearray(1 << 20))
        while left:
            left -= os.readv(fd, [memory[: min(left, len(memory))]])
        assert os.read(fd, 6) == b"hello"
        sender.join(LIMIT)
        assert not sender.is_alive()


def test_a_part_of_any_buffer_can_be_sent(ends: Ends) -> None:
    data = b"0123456789"
    for buf in (data, bytearray(data), memoryview(data), array.array("H", data)):
        ends.conn.send_bytes(buf)
        ends.conn.send_bytes(buf, 3)
        ends.conn.send_bytes(buf, 3, 4)
        ends.conn.send_bytes(buf, 10)
        expected = frame(data) + frame(data[3:]) + frame(data[3:7]) + frame(b"")
        assert ends.take(len(expected)) == expected


@pytest.mark.parametrize("buf", [b"abcd", bytearray(b"abcd"), array.array("H", b"abcd")])
@pytest.mark.parametrize("args", [(-1,), (5,), (0, -1), (0, 5), (2, 3), (4, 1)])
def test_what_is_outside_a_buffer_is_refused_as_the_host_does(ends: Ends, buf: Any, args: Any) -> None:
    with pytest.raises(ValueError, match=r".") as ours:
        ends.conn.send_bytes(buf, *args)
    with pytest.raises(ValueError, match=r".") as host:
        STOCK.send_bytes(ends.conn, buf, *args)
    assert str(ours.value) == str(host.value)
    with pytest.raises(TypeError):
        ends.conn.send_bytes("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ends.conn.send_bytes(memoryview(b"abcdef")[::2])
    assert ends.conn.writable
    ends.conn.send_bytes(b"ok")
    assert ends.take(6) == frame(b"ok")


# Not one byte too many.


@pytest.mark.parametrize("size", [0, 1, 64, 2048, 2049, 5000, 65536, 65537, 150_000])
def test_not_one_byte_behind_a_message_is_read(ends: Ends, size: int) -> None:
    behind = frame(b"next") + b"rest"
    sender = in_thread(lambda: ends.put(frame(bytes(size)) + behind))
    assert ends.conn.recv_bytes() == bytes(size)
    sender.join(LIMIT)
    assert ends.waiting() == len(behind)
    target = bytearray(10)
    assert ends.conn.recv_bytes_into(target) == 4
    assert ends.waiting() == 4


def test_a_header_alone_is_read_before_a_message_is_refused(ends: Ends) -> None:
    ends.put(frame(bytes(100)))
    with pytest.raises(OSError, match="bad message length"):
        ends.conn.recv_bytes(99)
    assert ends.waiting() == 100


def test_poll_and_wait_see_the_next_message(ends: Ends) -> None:
    assert not ends.conn.poll()
    assert not ends.conn.poll(0.01)
    assert not ends.conn.poll(-1)
    ends.put(frame(b"a") + frame(b"b"))
    assert ends.conn.poll(None)
    assert ends.conn.recv_bytes() == b"a"
    assert ends.conn.poll(LIMIT)
    assert connection.wait([ends.conn], 0) == [ends.conn]
    assert ends.conn.recv_bytes() == b"b"
    assert not ends.conn.poll(0)
    ends.peer.close()
    assert ends.conn.poll(0)
    with pytest.raises(EOFError):
        ends.conn.recv_bytes()


def test_processes_can_read_one_pipe_in_turn(ours: str) -> None:
    reader, writer = dropin.Pipe(duplex=False)

    def read_one() -> None:
        assert reader.recv_bytes() == b"for the child"

    with reader, writer:
        writer.send_bytes(b"for the child")
        writer.send_bytes(b"for the parent")
        with child(read_one):
            pass
        assert reader.recv_bytes() == b"for the parent"


# What is no message.


@pytest.mark.parametrize("length", [-2, -3, -1000, -(2**31)])
def test_a_negative_length_is_refused(ends: Ends, length: int) -> None:
    ends.put(struct.pack("!i", length) + frame(b"never"))
    with pytest.raises(OSError, match=f"bad message length: {length}"):
        ends.conn.recv_bytes()
    assert not ends.conn.readable
    with pytest.raises(OSError, match="write-only"):
        ends.conn.recv_bytes()
    ends.conn.send_bytes(b"still")
    assert ends.take(9) == frame(b"still")


def test_the_host_takes_a_negative_length_for_an_empty_message(ends: Ends) -> None:
    with STOCK(ends.conn.fileno()) as stock:
        ends.put(struct.pack("!i", -2))
        assert stock.recv_bytes() == b""
        ends.conn._handle = None  # type: ignore[assignment]


def test_a_refused_message_closes_what_can_only_be_read(ours: str) -> None:
    reader, writer = dropin.Pipe(duplex=False)
    with writer:
        os.write(writer.fileno(), struct.pack("!i", -2))
        with pytest.raises(OSError, match="bad message length"):
            reader.recv()
        assert reader.closed


@pytest.mark.parametrize("size", [2**63, 2**64 - 1])
def test_a_length_that_no_memory_could_hold_is_refused(ends: Ends, size: int) -> None:
    ends.put(LONG + struct.pack("!Q", size))
    with pytest.raises(OSError, match=f"bad message length: {size}"):
        ends.conn.recv_bytes()


def test_a_refusal_says_what_the_bytes_look_like(ends: Ends) -> None:
    ends.put(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(OSError, match=r"bad message length: 1213486160 \(these bytes look like text"):
        ends.conn.recv_bytes(1000)


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize(("size", "ok"), [(99, True), (100, True), (101, False), (3000, False), (70_000, False)])
def test_maxlength_is_the_most_that_is_taken(ends: Ends, size: int, ok: bool, long: bool) -> None:
    head = LONG + struct.pack("!Q", size) if long else struct.pack("!i", size)
    sender = in_thread(lambda: put_all(ends, head + bytes(size)))
    if ok:
        assert ends.conn.recv_bytes(100) == bytes(size)
    else:
        with pytest.raises(OSError, match="bad message length"):
            ends.conn.recv_bytes(100)
        assert not ends.conn.readable
    with pytest.raises((ValueError, OSError)):
        ends.conn.recv_bytes(-1)
    sender.join(LIMIT)


def test_a_limit_of_any_size_is_one(ends: Ends) -> None:
    ends.put(frame(b"") + frame(b"a") + frame(b"b"))
    assert ends.conn.recv_bytes(0) == b""
    assert ends.conn.recv_bytes(2**64) == b"a"
    with pytest.raises(ValueError, match="negative maxlength"):
        ends.conn.recv_bytes(-1)
    with pytest.raises(OSError, match="bad message length"):
        ends.conn.recv_bytes(0)


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        (frame(b"abc")[:1], "in its header, after 1 bytes"),
        (LONG, "in its header, after 4 bytes"),
        (LONG + bytes(7), "in its header, after 11 bytes"),
        (frame(b"abc")[:4], "in its body, after 0 of 3 bytes"),
        (frame(b"abc")[:6], "in its body, after 2 of 3 bytes"),
        (frame(bytes(5000))[:3000], "in its body, after 2996 of 5000 bytes"),
        (frame(bytes(300_000))[:100_004], "in its body, after 100000 of 300000 bytes"),
        (LONG + struct.pack("!Q", 2**40) + bytes(100), f"in its body, after 100 of {2**40} bytes"),
    ],
)
@pytest.mark.parametrize("way", ["recv_bytes", "recv", "recv_bytes_into"])
def test_a_stream_that_ends_inside_a_message_is_told(ends: Ends, stream: bytes, told: str, way: str) -> None:
    sender = in_thread(lambda: (ends.put(stream), ends.peer.close()))
    arguments = [bytearray(400_000)] if way == "recv_bytes_into" else []
    with pytest.raises(OSError, match=f"got end of file during message: {told}"):
        getattr(ends.conn, way)(*arguments)
    sender.join(LIMIT)


def test_a_stream_that_ends_between_messages_is_an_eof_error(ends: Ends) -> None:
    ends.put(frame(b"last"))
    ends.peer.close()
    assert ends.conn.recv_bytes() == b"last"
    for _ in range(2):
        with pytest.raises(EOFError):
            ends.conn.recv_bytes()
        with pytest.raises(EOFError):
            ends.conn.recv_bytes_into(bytearray(3))
        with pytest.raises(EOFError):
            ends.conn.recv()


@pytest.mark.parametrize("came", [0, 10, 100_000])
def test_memory_follows_what_came_and_not_what_a_header_says(ends: Ends, came: int) -> None:
    if sys.implementation.name != "cpython":
        pytest.skip("nothing to measure memory with")
    ends.put(LONG + struct.pack("!Q", 2**40) + bytes(came))
    ends.peer.shutdown(socket.SHUT_WR)
    gc.collect()
    tracemalloc.start()
    try:
        with pytest.raises(OSError, match="got end of file"):
            ends.conn.recv_bytes()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= max(64 * 1024, 2 * came) + 40_000


# Into a buffer of the caller's.


@pytest.mark.parametrize("size", [0, 1, 64, 3000, 70_000])
@pytest.mark.parametrize("offset", [0, 5])
def test_a_message_lands_in_a_buffer(ends: Ends, size: int, offset: int) -> None:
    body = os.urandom(size)
    sender = in_thread(lambda: ends.put(frame(body)))
    target = bytearray(b"." * (offset + size + 3))
    assert ends.conn.recv_bytes_into(target, offset) == size
    assert target == b"." * offset + body + b"..."
    sender.join(LIMIT)


def test_a_buffer_of_larger_items_is_filled_by_the_byte(ends: Ends) -> None:
    ends.put(frame(b"abcd") + frame(b"abc"))
    target = array.array("H", bytes(8))
    assert ends.conn.recv_bytes_into(target) == 4
    assert target.tobytes() == b"abcd" + bytes(4)
    assert ends.conn.recv_bytes_into(target, 5) == 3
    assert target.tobytes() == b"abcd\0abc"


def test_a_message_that_is_too_large_for_a_buffer_is_handed_over(ends: Ends) -> None:
    ends.put(frame(b"hello") + frame(b"") + frame(b"x"))
    with pytest.raises(multiprocessing.BufferTooShort) as caught:
        ends.conn.recv_bytes_into(bytearray(7), 3)
    assert caught.value.args == (b"hello",)
    assert ends.conn.recv_bytes_into(bytearray()) == 0
    with pytest.raises(multiprocessing.BufferTooShort):
        ends.conn.recv_bytes_into(bytearray())


def test_a_buffer_that_makes_no_sense_costs_no_message(ends: Ends) -> None:
    ends.put(frame(b"hello"))
    with pytest.raises(ValueError, match="negative offset"):
        ends.conn.recv_bytes_into(bytearray(9), -1)
    with pytest.raises(ValueError, match="offset too large"):
        ends.conn.recv_bytes_into(bytearray(9), 10)
    with pytest.raises(TypeError):
        ends.conn.recv_bytes_into(b"read only")
    with pytest.raises(TypeError):
        ends.conn.recv_bytes_into(memoryview(bytearray(20))[::2])
    assert ends.conn.recv_bytes() == b"hello"


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("size", [10, 3000, 70_000, 140_000])
@pytest.mark.parametrize("way", ["recv_bytes", "recv_bytes_into"])
def test_without_memory_a_message_is_whole_or_the_connection_says_that_it_is_not(
    ours: str, way: str, size: int, long: bool
) -> None:
    testcapi = pytest.importorskip("_testcapi", reason="this Python has no hooks that make allocations fail")
    if ours == "py" or not hasattr(testcapi, "set_nomemory"):
        pytest.skip("what Python itself allocates for the pure twin is not ours to test")
    body = os.urandom(size)
    noticed = 0
    for allocation in range(25):
        ends = Ends()
        ends.peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 19)  # no thread, whose allocations could fail
        head = LONG + struct.pack("!Q", size) if long else struct.pack("!i", size)
        ends.put(head + body + frame(b"next"))
        target = bytearray(size // 2)
        failed = False
        result: Any = None
        testcapi.set_nomemory(allocation, allocation + 1)
        try:
            result = ends.conn.recv_bytes() if way == "recv_bytes" else ends.conn.recv_bytes_into(target)
        except MemoryError:
            failed = True
        except multiprocessing.BufferTooShort as error:
            result = error.args[0]
        finally:
            testcapi.remove_mem_hooks()
        if failed:
            noticed += 1
            if ends.conn.readable:  # the message is there still, or was lost as a whole
                assert ends.conn.recv_bytes() in (body, b"next")
        else:
            assert result == body
        ends.conn.close()
        ends.peer.close()
    assert noticed


# The rest of the surface.


def test_a_connection_knows_its_state(ours: str) -> None:
    reader, writer = dropin.Pipe(duplex=False)
    assert (reader.readable, reader.writable, writer.readable, writer.writable) == (True, False, False, True)
    for send in (reader.send_bytes, reader.send):
        with pytest.raises(OSError, match="read-only"):
            send(b"")
    for receive in (writer.recv_bytes, writer.recv, writer.poll, lambda: writer.recv_bytes_into(bytearray(1))):
        with pytest.raises(OSError, match="write-only"):
            receive()
    with reader, writer:
        assert not reader.closed
        assert reader.fileno() >= 0
    assert reader.closed
    for call in (reader.fileno, reader.recv_bytes, reader.recv, reader.poll, lambda: writer.send_bytes(b"")):
        with pytest.raises(OSError, match="handle is closed"):
            call()
    reader.close()
    with pytest.raises(ValueError, match="invalid handle"):
        dropin.Connection(-1)
    with pytest.raises(ValueError, match="at least one"):
        dropin.Connection(0, False, False)
    with pytest.raises((TypeError, AttributeError)):
        dropin.Connection("0")  # type: ignore[arg-type]


def test_a_descriptor_that_is_none_is_an_os_error(ours: str) -> None:
    conn = dropin.Connection(44_977_608)
    for call in (conn.recv_bytes, conn.recv, lambda: conn.send_bytes(b"x"), lambda: conn.recv_bytes_into(bytearray(1))):
        with pytest.raises(OSError, match=r"Bad file descriptor|file descriptor"):
            call()
    conn._handle = None  # type: ignore[assignment]


def test_a_lost_peer_is_a_broken_pipe(ends: Ends) -> None:
    ends.peer.close()
    for _ in range(2):
        with pytest.raises(BrokenPipeError):
            ends.conn.send_bytes(b"x")


def test_what_the_host_is_made_of_works_too(ends: Ends) -> None:
    ends.put(frame(b"hello") + frame(b"large"))
    buffer = ends.conn._recv_bytes()
    assert isinstance(buffer, io.BytesIO)
    assert (buffer.tell(), buffer.getvalue()) == (5, b"hello")
    ends.conn._send_bytes(memoryview(b"there"))
    assert ends.take(9) == frame(b"there")
    with pytest.raises(OSError, match="bad message length"):
        ends.conn._recv_bytes(3)


@pytest.mark.parametrize("thing", [None, {"a": [1, 2.5, "é"]}, b"x" * 100_000, list(range(20_000))])
def test_objects_go_both_ways_with_the_host(ours: str, thing: object) -> None:
    one, other = connection.Pipe()
    with dropin.from_connection(one) as mine, other:
        sender = in_thread(lambda: mine.send(thing))
        assert other.recv() == thing
        sender.join(LIMIT)
        sender = in_thread(lambda: other.send(thing))
        assert mine.recv() == thing
        sender.join(LIMIT)


def test_a_connection_can_be_taken_over(ours: str) -> None:
    one, other = connection.Pipe(duplex=False)
    fd = one.fileno()
    mine = dropin.from_connection(one)
    assert (type(mine), mine.fileno(), mine.readable, mine.writable) == (dropin.Connection, fd, True, False)
    assert one.closed
    del one
    gc.collect()
    assert dropin.from_connection(mine) is mine
    with mine, other:
        other.send_bytes(b"still open")
        assert mine.recv_bytes() == b"still open"
    with pytest.raises(OSError, match="handle is closed"):
        dropin.from_connection(other)
    with pytest.raises(TypeError, match="not object"):
        dropin.from_connection(object())  # type: ignore[arg-type]


# Beside the host, in processes.


def echo(conn: Any) -> None:
    """Send everything back, and end with the stream."""
    with conn, contextlib.suppress(EOFError):
        while True:
            conn.send_bytes(conn.recv_bytes())


ECHO = """
import sys
from multiprocessing import connection
with connection.Client(sys.argv[1], authkey=b"key") as conn:
    assert "framewire" not in sys.modules
    while True:
        try:
            conn.send_bytes(conn.recv_bytes())
        except EOFError:
            break
"""


def test_a_host_that_knows_nothing_of_framewire_echoes_every_size(ours: str, tmp_path: Path) -> None:
    address = str(tmp_path / "socket")
    with (
        dropin.Listener(address, authkey=b"key") as listener,
        subprocess.Popen([sys.executable, "-c", ECHO, address]) as process,
    ):
        with listener.accept() as conn:
            assert type(conn) is dropin.Connection
            for size in SIZES:
                body = os.urandom(size)
                sender = in_thread(lambda body=body: conn.send_bytes(body))  # type: ignore[misc]
                assert conn.recv_bytes() == body
                sender.join(LIMIT)
        assert process.wait(LIMIT) == 0


@pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET"])
def test_our_client_and_the_hosts_listener_know_each_other(ours: str, family: str) -> None:
    with connection.Listener(family=family, authkey=b"key") as listener:

        def work() -> None:
            with dropin.Client(listener.address, authkey=b"key") as conn:
                assert type(conn) is dropin.Connection
                echo(conn)

        with child(work), listener.accept() as conn:
            assert type(conn) is STOCK
            for size in SIZES[:14]:
                body = os.urandom(size)
                conn.send_bytes(body)
                assert conn.recv_bytes() == body


def test_a_wrong_key_is_refused(ours: str) -> None:
    with dropin.Listener(family="AF_UNIX", authkey=b"right") as listener:

        def work() -> None:
            with pytest.raises((multiprocessing.AuthenticationError, EOFError, OSError)):
                dropin.Client(listener.address, authkey=b"wrong")

        with child(work), pytest.raises(multiprocessing.AuthenticationError):
            listener.accept()


def test_a_connection_and_a_descriptor_can_be_sent_over_a_connection(ours: str, tmp_path: Path) -> None:
    here, there = dropin.Pipe()
    path = tmp_path / "written by a child"

    def work() -> None:
        here.close()
        with there:
            conn = there.recv()
            assert type(conn) is STOCK  # what is in force where it arrives
            conn.send_bytes(b"through a connection that was sent")
            fd = reduction.recv_handle(there)
            os.write(fd, b"through a descriptor that was sent")
            os.close(fd)
            there.send_bytes(b"done")

    with here, child(work):
        there.close()
        mine, theirs = dropin.Pipe()
        with mine:
            here.send(theirs)
            assert mine.recv_bytes() == b"through a connection that was sent"
            theirs.close()
        with path.open("wb") as file:
            reduction.send_handle(here, file.fileno(), None)
            assert here.recv_bytes() == b"done"
    assert path.read_bytes() == b"through a descriptor that was sent"


def test_a_connection_pickles_only_for_processes(ours: str) -> None:
    one, other = dropin.Pipe()
    with one, other:
        copy = reduction.ForkingPickler.loads(reduction.ForkingPickler.dumps(one))
        with copy:
            copy.send_bytes(b"copied")
        assert other.recv_bytes() == b"copied"
        assert b"framewire" not in bytes(reduction.ForkingPickler.dumps(one))


# Installed.


@pytest.fixture
def clean() -> Iterator[None]:
    assert not dropin.installed()
    yield
    dropin.uninstall()
    assert connection.Connection is STOCK


def test_the_host_uses_it_from_install_to_uninstall(ours: str, clean: None) -> None:
    dropin.install()
    dropin.install()
    assert dropin.installed()
    assert connection.Connection is dropin.Connection
    assert connection.Connection.__module__.startswith("framewire")
    one, other = connection.Pipe()
    with one, other:
        assert type(one) is dropin.Connection
    dropin.uninstall()
    assert not dropin.installed()
    assert connection.Connection is STOCK
    dropin.uninstall()
    one, other = connection.Pipe()
    with one, other:
        assert type(one) is STOCK


def test_blocks_can_be_nested(clean: None) -> None:
    with dropin.patched():
        with dropin.patched():
            assert dropin.installed()
        assert connection.Connection is dropin.Connection
    assert connection.Connection is STOCK
    dropin.install()
    with pytest.raises(ZeroDivisionError), dropin.patched():
        _ = 1 / 0
    assert dropin.installed()


def test_queues_managers_and_pools_run_on_it(ours: str, clean: None) -> None:
    with dropin.patched():
        queue = FORK.Queue()
        simple = FORK.SimpleQueue()
        assert type(queue._reader) is dropin.Connection

        def work() -> None:
            for _ in range(100):
                queue.put(simple.get())

        with child(work):
            for number in range(100):
                simple.put((number, b"x" * number * 100))
                assert queue.get(timeout=LIMIT) == (number, b"x" * number * 100)
        queue.close()
        simple.close()
        with FORK.Manager() as manager:
            shared = manager.dict()
            with child(lambda: shared.update(a=[1, 2, 3])):
                pass
            assert shared["a"] == [1, 2, 3]
        with FORK.Pool(2) as pool:
            assert pool.map(abs, range(-50, 0)) == list(range(50, 0, -1))


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 16, 0), (4, 0, 0)])
def test_an_unknown_version_is_refused(clean: None, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "version_info", version)
        with pytest.raises(UnsupportedVersion, match=r"cpython \d\.\d+; known are those of CPython 3\.10 to 3\.15"):
            dropin.install()
        with pytest.raises(UnsupportedVersion), dropin.patched():
            pass
    assert not dropin.installed()
    assert connection.Connection is STOCK


def test_windows_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        for call in (dropin.install, dropin.Pipe, dropin.Listener, lambda: dropin.Connection(0)):
            with pytest.raises(UnsupportedVersion, match="Windows"):
                call()
        with pytest.raises(UnsupportedVersion, match="Windows"):
            dropin.Client("nowhere")


def test_a_patch_restores_what_was_a_classs_own_and_what_was_inherited() -> None:
    class Base:
        inherited = 1

    class Host(Base):
        @staticmethod
        def own() -> int:
            return 2

    before = dict(vars(Host))
    patch = Patch(lambda: [(Host, "own", 3), (Host, "inherited", 4), (Host, "new", 5)])
    with patch.patched():
        assert (Host.own, Host.inherited, Host.new) == (3, 4, 5)  # type: ignore[comparison-overlap, attr-defined]
    assert dict(vars(Host)) == before


def test_a_patch_leaves_what_somebody_else_has_replaced_since() -> None:
    class Host:
        one = two = 1

    patch = Patch(lambda: [(Host, "one", 2), (Host, "two", 2)])
    patch.install()
    Host.two = 3
    with pytest.raises(RuntimeError, match=r"Host\.two was replaced again"):
        patch.uninstall()
    assert (Host.one, Host.two, patch.installed()) == (2, 3, True)
    Host.two = 2
    patch.uninstall()
    assert (Host.one, Host.two) == (1, 1)


def test_a_patch_that_fails_changes_nothing() -> None:
    class Host:
        one = 1

    patch = Patch(lambda: [(Host, "one", 2), (3, "real", 4)])
    with pytest.raises((TypeError, AttributeError)):
        patch.install()
    assert Host.one == 1
    assert not patch.installed()


# Interrupted.


class Interrupt(Exception):
    pass


@contextlib.contextmanager
def alarm(handler: Callable[[], None], seconds: float = 0.05) -> Iterator[None]:
    """Have `handler` called by a signal, again and again."""
    old = signal.signal(signal.SIGALRM, lambda number, where: handler())
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def raising() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise Interrupt


@pytest.mark.parametrize("cut", [0, 2, 4, 9, 2000, 60_000, 100_000])
@pytest.mark.parametrize("way", ["recv_bytes", "recv_bytes_into"])
def test_a_signal_whose_handler_returns_goes_unnoticed(ends: Ends, cut: int, way: str) -> None:
    body = os.urandom(150_000) if cut > 2000 else os.urandom(2050)
    stream = frame(body)
    ends.put(stream[:cut])
    count = [0]

    def handler() -> None:
        count[0] += 1
        if count[0] == 3:
            in_thread(lambda: ends.put(stream[cut:]))

    target = bytearray(200_000)
    with alarm(handler, 0.01):
        if way == "recv_bytes":
            assert ends.conn.recv_bytes() == body
        else:
            assert target[: ends.conn.recv_bytes_into(target)] == body
    assert count[0] >= 3


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("cut", [0, 2, 4, 9, 12, 13, 2000, 60_000, 100_000])
@pytest.mark.parametrize("first", ["recv_bytes", "recv_bytes_into", "recv_bytes_into a small one"])
@pytest.mark.parametrize("then", ["recv_bytes", "recv_bytes_into", "recv_bytes_into a small one"])
def test_after_an_exception_the_next_call_gets_the_message_whole(
    ends: Ends, cut: int, first: str, then: str, long: bool
) -> None:
    body = os.urandom(150_000) if cut > 2000 else os.urandom(2050)
    stream = (LONG + struct.pack("!Q", len(body)) if long else struct.pack("!i", len(body))) + body
    ends.put(stream[:cut])

    def receive(way: str) -> bytes:
        if way == "recv_bytes":
            return ends.conn.recv_bytes()
        target = bytearray(10 if "small" in way else 200_000)
        try:
            return bytes(target[: ends.conn.recv_bytes_into(target)])
        except multiprocessing.BufferTooShort as error:
            return bytes(error.args[0])

    def handler() -> None:
        if not ends.waiting():  # it has read all that there is
            raising()

    for _ in range(2):
        with pytest.raises(Interrupt), alarm(handler, 0.005):
            receive(first)
    assert ends.waiting() == 0
    sender = in_thread(lambda: ends.put(stream[cut:] + frame(b"next")))
    assert receive(then) == body
    assert ends.conn.recv_bytes() == b"next"
    sender.join(LIMIT)


def test_a_limit_holds_for_what_had_begun_to_come(ends: Ends) -> None:
    ends.put(frame(bytes(100))[:50])
    with pytest.raises(Interrupt), alarm(lambda: None if ends.waiting() else raising(), 0.005):
        ends.conn.recv_bytes(100)
    with pytest.raises(OSError, match="bad message length: 100"):
        ends.conn.recv_bytes(99)


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_after_an_exception_in_the_middle_of_sending_nothing_more_can_be_sent(ends: Ends, size: int) -> None:
    fill = bytes(1000)
    ends.conn.send_bytes(b"first")
    sent = 0
    fd = ends.conn.fileno()
    if size == 100:  # nothing at all goes out: the connection can be used as before
        os.set_blocking(fd, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += os.write(fd, fill)
        os.set_blocking(fd, True)
    with pytest.raises(Interrupt), alarm(raising, 0.2):
        ends.conn.send_bytes(bytes(size))
    assert ends.conn.writable == (size == 100)
    if size == 100:
        reader = in_thread(lambda: ends.take(9 + sent))
        ends.conn.send_bytes(b"next")
        reader.join(LIMIT)
        assert ends.take(8) == frame(b"next")
    else:
        for send in (ends.conn.send_bytes, ends.conn.send):
            with pytest.raises(OSError, match="went out in part"):
                send(b"next")
        ends.put(frame(b"the other way"))
        assert ends.conn.recv_bytes() == b"the other way"


def test_a_signal_while_sending_is_handled_and_the_message_goes_on(ends: Ends) -> None:
    body = os.urandom(2_000_000)
    taken: list[bytes] = []
    count = [0]

    def handler() -> None:
        count[0] += 1
        if count[0] == 3:
            in_thread(lambda: taken.append(ends.take(4 + len(body))))

    with alarm(handler, 0.01):
        ends.conn.send_bytes(body)
    while not taken:
        time.sleep(0.001)
    assert taken == [frame(body)]
    assert count[0] >= 3


def test_a_descriptor_that_would_block_says_so_and_nothing_is_lost(ends: Ends) -> None:
    os.set_blocking(ends.conn.fileno(), False)
    with pytest.raises(BlockingIOError):
        ends.conn.recv_bytes()
    body = os.urandom(5000)
    for at in range(0, 5004, 1001):
        with pytest.raises(BlockingIOError):
            ends.conn.recv_bytes()
        ends.put(frame(body)[at : at + 1001])
    assert ends.conn.recv_bytes() == body
    with pytest.raises(BlockingIOError):
        ends.conn.send_bytes(bytes(10_000_000))
    assert not ends.conn.writable
    with pytest.raises(OSError, match="went out in part"):
        ends.conn.send_bytes(b"next")


def test_a_message_of_which_nothing_went_out_can_be_sent_again(ours: str) -> None:
    reader, writer = dropin.Pipe(duplex=False)
    with reader, writer:
        os.set_blocking(writer.fileno(), False)
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                writer.send_bytes(bytes(508))  # 4 KiB are eight of them: a pipe takes all of one, or nothing
                count += 1
        assert writer.writable
        assert [reader.recv_bytes() for _ in range(count)] == [bytes(508)] * count
        writer.send_bytes(b"again")
        assert reader.recv_bytes() == b"again"


def test_other_threads_run_while_one_waits(ours: str) -> None:
    one, other = dropin.Pipe()
    results: list[bytes] = []
    with one, other:
        receiver = in_thread(lambda: results.append(one.recv_bytes()))
        other.send_bytes(b"from another thread")
        receiver.join(LIMIT)
    assert results == [b"from another thread"]


def test_the_hosts_own_tests_have_a_runner_that_says_what_it_skips() -> None:
    script = Path(__file__).parent / "host_suites" / "multiprocessing_connection.py"
    done = subprocess.run(
        [sys.executable, str(script), "TestInvalidHandle", "OtherTest", "TestInvalidFamily"],
        env={**os.environ, "PYTHONPATH": str(Path(dropin.__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed, 0 errors" in done.stdout or "SKIPPED: this interpreter comes without its tests" in done.stdout
