"""The blocking driver: frames over one socket, or over a binary file or pipe.

Rules that hold here:

- No system call on a socket blocks; waiting is a step of its own (`wait`), with nothing in the hand. So a timeout, or
  anything else that ends a wait, loses no byte.
- One thread receives while others send. Senders hold their lock for a system call, never while they wait: whoever can
  send next sends for all. Receivers take turns, and hold theirs: what one has received another could not be woken for.
- What a system call moved is booked before anything can come in between (`_book`): after Ctrl-C the stream goes on
  where it was.
- A deadline is for the whole call, however many system calls that takes.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from io import BufferedIOBase, RawIOBase
from selectors import EVENT_READ, DefaultSelector
from time import monotonic
from typing import IO, TYPE_CHECKING, Any, Generic, TypeVar

from ._address import EXHAUSTED, address_name, listening_on, path_of, remove
from .connection import LARGE_SIZE, Connection
from .errors import FramingError
from .spec import DEFAULT_MAX_SIZE, Spec, resolve

if TYPE_CHECKING:
    import ssl
    from types import EllipsisType
    from typing import TypeAlias

    from typing_extensions import Self

    from ._wire import BytesLike

    BinaryFile: TypeAlias = IO[bytes] | RawIOBase | BufferedIOBase

D = TypeVar("D", bound="SocketDriver[Any]")
P = TypeVar("P")  # what a payload is
T = TypeVar("T")

logger = logging.getLogger("framewire")

LONGEST_WAIT = 3600.0
"""Seconds in one wait at most; longer timeouts wait again. ``poll`` counts milliseconds in 32 bits."""

LINGER_TIME = 2.0
"""Seconds that the peer of a connection whose handler has returned gets to receive the rest, and to end its part."""

NO_LISTENER = {errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP}
"""What accept() says of a socket that does not listen, and never will."""

# What a system call waits for. NOTHING: it has been made.
NOTHING = 0
if hasattr(select, "poll"):
    READABLE, WRITABLE = select.POLLIN, select.POLLOUT

    def _sleep(fd: int, event: int, seconds: float | None) -> None:
        poll = select.poll()  # select.select() cannot see descriptors from 1024 on
        poll.register(fd, event)
        poll.poll(None if seconds is None else seconds * 1000)

else:
    READABLE, WRITABLE = 1, 2

    def _sleep(fd: int, event: int, seconds: float | None) -> None:
        select.select([fd] if event & READABLE else [], [fd] if event & WRITABLE else [], [], seconds)


def wait(fd: int, event: int, deadline: float | None) -> bool:
    """Wait until a call on `fd` may succeed; False if it is too late for that."""
    seconds = None
    if deadline is not None:
        seconds = min(deadline - monotonic(), LONGEST_WAIT)
        if seconds <= 0:
            return False
    if event != NOTHING:
        _sleep(fd, event, seconds)
    return True


def _book(call: Callable[[Any], int | None], data: object, book: Callable[[int], None]) -> int | None:
    """Move bytes with ``n = call(data)`` and then ``book(n)``; return n. None means that the call would block."""
    moved: list[int | None] = []
    try:
        # There is no bytecode, hence no KeyboardInterrupt, between the call and its place in the list.
        moved.extend(map(call, (data,)))
    finally:
        if moved and moved[0] is not None:
            book(moved[0])
    return moved[0]


class _Inbox(Generic[P]):
    """The receiving half of a driver: a connection, and the payloads that wait to be taken one at a time."""

    def __init__(self, connection: Any, read_size: int | None) -> None:
        if read_size is not None and read_size < 1:
            raise ValueError(f"read_size must be at least 1, not {read_size}")
        self._connection = connection
        self._read_size = -1 if read_size is None else read_size
        self._payloads: deque[P] = deque()

    def _complete(self) -> bool:
        """Whether there is a payload to take, or the end of the stream; raise the error if it is its turn."""
        if not self._payloads:
            self._payloads += self._connection.frames_received()
        return bool(self._payloads) or self._connection.eof_received

    def _take(self) -> P | None:
        return self._payloads.popleft() if self._payloads else None

    def _take_all(self) -> list[P]:
        payloads = list(self._payloads)
        self._payloads.clear()
        return payloads

    def _received(self, n: int) -> None:
        if n:
            self._connection.buffer_updated(n)
        else:
            self._connection.receive_eof()


def connect(
    address: tuple[str, int] | str | bytes | os.PathLike[str],
    spec: Spec | str = "ascii10",
    *,
    timeout: float | None = None,
    max_size: int | None = DEFAULT_MAX_SIZE,
    read_size: int | None = None,
) -> FramedSocket:
    """Connect to a server of frames.

    ::

        with framewire.connect(("127.0.0.1", 1243)) as server:
            for payload in server:
                print(payload.decode())

    Args:
        address: ``(host, port)`` for TCP, or the path of a Unix socket.
        spec: A wire format, or its name (see `framewire.spec`).
        timeout: Seconds to connect, for each address that the host has; then the `FramedSocket.timeout` of every call.
            None waits as long as it takes.
        max_size, read_size: As in `FramedSocket`.

    Returns:
        The connected socket, which is the caller's to close. TCP is told not to hold small frames back
        (``TCP_NODELAY``).

    Raises:
        OSError: If there is no connection; TimeoutError if there is none in time.
        ValueError, TypeError: As `FramedSocket`.
    """
    sock = connected(address, timeout)
    try:
        return FramedSocket(sock, spec, timeout=timeout, max_size=max_size, read_size=read_size)
    except BaseException:
        sock.close()
        raise


def connected(address: tuple[str, int] | str | bytes | os.PathLike[str], timeout: float | None) -> socket.socket:
    """A socket that is connected to this address, in so many seconds for each one that the host has."""
    if isinstance(address, tuple):
        sock = socket.create_connection(address, timeout)
    elif hasattr(socket, "AF_UNIX"):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        raise NotImplementedError(f"no Unix sockets on this platform, which {address!r} needs: give (host, port)")
    try:
        if isinstance(address, tuple):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            sock.settimeout(timeout)
            sock.connect(os.fspath(address))
    except BaseException:
        sock.close()
        raise
    return sock


class SocketDriver(_Inbox[P]):
    """A connected stream socket whose calls block, until their timeout: what `FramedSocket` shares with others.

    Args:
        sock: A connected stream socket, which becomes non-blocking, and is closed with this object.
        connection: What has the words of `Connection`, for the bytes of both directions.
        timeout: The seconds that a call may take if it does not say otherwise; None waits as long as it takes.
        read_size: Most bytes to read at a time; None leaves it to the connection.
    """

    def __init__(
        self, sock: socket.socket, connection: Any, timeout: float | None = None, read_size: int | None = None
    ) -> None:
        super().__init__(connection, read_size)
        self._sock = sock
        # Not imported: it takes longer to load than all of framewire, and whoever made an SSLSocket has loaded it.
        ssl = sys.modules.get("ssl")
        self._tls = ssl is not None and isinstance(sock, ssl.SSLSocket)
        self._gathers = hasattr(sock, "sendmsg") and not self._tls  # not on Windows
        self._receiving = threading.Lock()
        self._sending = threading.Lock()
        self._exclusive = self._sending if self._tls else nullcontext()  # OpenSSL allows one call at a time
        self._broken: OSError | None = None  # why nothing can be sent any more
        self._lost: OSError | None = None  # why the incoming stream will have no clean end
        self.timeout = timeout
        sock.setblocking(False)

    @property
    def sock(self) -> socket.socket:
        """The socket below. To wake a thread that waits for it: ``sock.shutdown(socket.SHUT_RDWR)``."""
        return self._sock

    @property
    def queued_size(self) -> int:
        """Bytes that a timeout left unsent, headers included; `flush` sends them."""
        size: int = self._connection.queued_size
        return size

    def flush(self, *, timeout: float | EllipsisType | None = ...) -> None:
        """Send what an earlier call left unsent, if anything.

        Raises:
            TimeoutError, OSError: As `send`.
        """
        deadline = self._deadline(timeout)
        while True:
            with self._sending:
                event = self._write()
                if not self._connection.queued_size:
                    break
            if not wait(self._sock.fileno(), event, deadline):
                raise TimeoutError(f"{self.queued_size} bytes could not be sent in time; flush() sends them")
        self._flushed()

    def close(self) -> None:
        """Close the socket. What a timeout left unsent is lost: `flush` comes before. Closing twice is nothing.

        Over TLS the peer is told that this end is meant (``close_notify``), if that can be done at once.
        """
        if self._tls:
            with self._sending, suppress(OSError, ValueError):
                self._sock.unwrap()  # type: ignore[attr-defined]
        self._sock.close()

    def fileno(self) -> int:
        """The descriptor of the socket; -1 once it is closed."""
        return self._sock.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _receive(self, take: Callable[[], T], timeout: float | EllipsisType | None) -> T:
        with self._receiving:
            if not self._complete():
                self._fill(self._deadline(timeout))
            return take()

    def _fill(self, deadline: float | None) -> None:
        while True:
            event = self._read()
            if self._complete():
                return
            if not wait(self._sock.fileno(), event, deadline):
                raise TimeoutError("no payload was complete in time; what has come of it is kept")

    def _read(self) -> int:
        window = self._connection.get_buffer(self._read_size)
        with self._exclusive:
            return self._attempt(READABLE, self._sock.recv_into, window, self._received)

    def _write(self) -> int:
        buffers = self._connection.data_to_send()
        if not buffers:
            return NOTHING
        if self._gathers:
            return self._attempt(WRITABLE, self._sock.sendmsg, buffers, self._connection.data_sent)
        return self._attempt(WRITABLE, self._sock.send, buffers[0], self._connection.data_sent)

    def _attempt(self, event: int, call: Callable[[Any], int], data: object, book: Callable[[int], None]) -> int:
        """Make a system call; return what it waits for."""
        try:
            _book(call, data, book)
        except (BlockingIOError, InterruptedError):
            return event
        except OSError as error:
            ssl = sys.modules.get("ssl")
            if ssl is not None and isinstance(error, ssl.SSLWantReadError):
                return READABLE
            if ssl is not None and isinstance(error, ssl.SSLWantWriteError):
                return WRITABLE
            if isinstance(error, TimeoutError):
                # The system gave the peer up (ETIMEDOUT); to call again would be in vain, unlike after our timeout.
                error = ConnectionAbortedError(*error.args)
            if event == WRITABLE:
                self._broken = error
            if not isinstance(error, BrokenPipeError):  # which tells nothing of what the peer has sent
                self._lost = error
            raise error
        return NOTHING

    def _check_sendable(self) -> None:
        """Raise what has ended sending, rather than queue what can never go out."""
        if self._broken is not None:
            raise self._broken.with_traceback(None)

    def _received(self, n: int) -> None:
        # The system tells of a lost connection once, and then of an end that the peer has never sent.
        if not n and self._lost is not None:
            raise self._lost.with_traceback(None)
        super()._received(n)

    def _deadline(self, timeout: float | EllipsisType | None) -> float | None:
        if timeout is ...:
            timeout = self.timeout
        return None if timeout is None else monotonic() + timeout

    def _flushed(self) -> None:
        """All is sent."""

    def _end(self, how: int) -> None:
        """Let who receives see the end (SHUT_RD), or all calls fail (SHUT_RDWR); another thread says so."""
        self._sock.shutdown(how)

    def _linger(self) -> None:
        """Send what is left and the end, and await the peer's: a socket that is closed with unread bytes resets the
        connection, which can destroy what is still on its way."""
        self.flush(timeout=LINGER_TIME)
        if not self._tls:
            self._sock.shutdown(socket.SHUT_WR)
            self._read_out(monotonic() + LINGER_TIME)

    def _read_out(self, deadline: float | None) -> None:
        """Take what still comes, for nothing, up to the peer's end."""
        while wait(self._sock.fileno(), READABLE, deadline):
            if not self._sock.recv(LARGE_SIZE):
                break


class FramedSocket(SocketDriver[bytes]):
    """A connected stream socket that carries frames. Calls block, until their timeout.

    >>> here, there = (FramedSocket(sock, "ascii10") for sock in socket.socketpair())
    >>> with here, there:
    ...     here.send(b"hello")
    ...     here.send_many([b"wonderful", b"world"])
    ...     here.send_eof()
    ...     print(there.recv())
    ...     print(list(there))
    b'hello'
    [b'wonderful', b'world']

    A timeout, like any other exception while a call waits, loses nothing: what has come is kept for the next call, and
    what could not be sent is sent first by the next `send` or `flush`. (So do not send it again.)

    Any thread may call any method: one can receive while others send, and every frame goes out whole. Threads that
    receive from one socket take turns, and a timeout counts from the turn.

    Args:
        sock: A connected stream socket: TCP, Unix, or an ``ssl.SSLSocket``. It now belongs to this object, which makes
            it non-blocking and closes it.
        spec: A wire format, or its name (see `framewire.spec`).
        max_size: Most bytes in a payload, in both directions; 16 MiB unless given, None lifts the limit.
        timeout: The seconds that a call may take if it does not say otherwise; None waits as long as it takes.
        read_size: Most bytes to read at a time; None leaves it to the decoder, which is fast.

    Raises:
        ValueError, TypeError: If the format, the limit or `read_size` makes no sense.
    """

    _connection: Connection

    def __init__(
        self,
        sock: socket.socket,
        spec: Spec | str,
        *,
        max_size: int | None = DEFAULT_MAX_SIZE,
        timeout: float | None = None,
        read_size: int | None = None,
    ) -> None:
        super().__init__(sock, Connection(spec, max_size=max_size), timeout, read_size)

    @property
    def spec(self) -> Spec:
        """The wire format."""
        return self._connection.spec

    def recv(self, *, timeout: float | EllipsisType | None = ...) -> bytes | None:
        """Receive one payload.

        Args:
            timeout: Seconds that the whole call may take; 0 takes only what is there. Left out, it is `self.timeout`.

        Returns:
            The payload; None at the end of the stream.

        Raises:
            TimeoutError: If no payload is complete in time. The part that has come is kept.
            HeaderError, FrameTooLarge, IncompleteFrame: When every payload before the error is out, and then by every
                call.
            OSError: If the connection is lost (``ConnectionResetError``...), in the same way.
        """
        return self._receive(self._take, timeout)

    def recv_many(self, *, timeout: float | EllipsisType | None = ...) -> list[bytes]:
        """Receive the payloads that have come, one at least: waits only if there is none.

        Returns:
            The payloads in order; an empty list at the end of the stream.

        Raises:
            TimeoutError, HeaderError, FrameTooLarge, IncompleteFrame, OSError: As `recv`.
        """
        return self._receive(self._take_all, timeout)

    def __iter__(self) -> Iterator[bytes]:
        """The payloads up to the end of the stream, each as `recv` returns it."""
        return iter(self.recv, None)

    def send(self, payload: BytesLike, /, *, timeout: float | EllipsisType | None = ...) -> None:
        """Send one payload, behind what an earlier call left unsent.

        Args:
            payload: Any contiguous bytes-like object.
            timeout: Seconds that the whole call may take. Left out, it is `self.timeout`.

        Raises:
            TimeoutError: If not all was sent in time. The rest is kept, and goes out first with the next call.
            FrameTooLarge, ValueError: If the payload cannot be sent (see `Encoder.encode`); nothing was.
            RuntimeError: After `send_eof`.
            OSError: If the connection is lost (``BrokenPipeError``, ``ConnectionResetError``...), and then by every
                call.
        """
        with self._sending:
            self._check_sendable()
            self._connection.send(payload)
        self.flush(timeout=timeout)

    def send_many(self, payloads: Iterable[BytesLike], /, *, timeout: float | EllipsisType | None = ...) -> None:
        """Send many payloads with as few system calls as possible: all of them or, when one is refused, none.

        Raises:
            TimeoutError, FrameTooLarge, ValueError, RuntimeError, OSError: As `send`.
        """
        payloads = list(payloads)  # the caller's code runs before the lock is taken
        with self._sending:
            self._check_sendable()
            self._connection.send_many(payloads)
        self.flush(timeout=timeout)

    def send_eof(self, *, timeout: float | EllipsisType | None = ...) -> None:
        """Send what is unsent, then say that nothing more will come: the peer's `recv` returns None. Receiving goes on.

        Raises:
            NotImplementedError: Over TLS, which cannot end one direction alone in Python (nor can asyncio).
            TimeoutError, OSError: As `send`; `flush` can finish it.
        """
        if self._tls:
            raise NotImplementedError("a TLS connection cannot be half-closed: close() it")
        with self._sending:
            self._connection.send_eof()
        self.flush(timeout=timeout)

    def __repr__(self) -> str:
        return f"<FramedSocket {self.spec.name} over {self._sock!r}>"

    def _flushed(self) -> None:
        if self._connection.eof_sent:
            self._half_close()

    def _half_close(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # macOS, where the peer has closed: then it is done
                raise


def serve(
    handler: Callable[[FramedSocket], object],
    address: tuple[str, int] | str | os.PathLike[str] | socket.socket,
    spec: Spec | str = "ascii10",
    *,
    max_connections: int = 100,
    timeout: float | None = None,
    tls: ssl.SSLContext | None = None,
    handshake_timeout: float = 10.0,
    backlog: int = 128,
    max_size: int | None = DEFAULT_MAX_SIZE,
) -> ThreadServer[FramedSocket]:
    """Listen for connections, to serve each in a thread of its own.

    ::

        def echo(client):
            for payload in client:
                client.send(payload)

        with framewire.blocking.serve(echo, ("127.0.0.1", 1243)) as server:
            server.serve_forever()

    Args:
        handler: Gets the `FramedSocket`, in the connection's thread. When it returns, the connection is closed. A
            `FramingError` or an ``OSError`` that it lets through is the peer's fault, and is logged; anything else is
            logged with its traceback. Neither harms another connection.
        address: ``(host, port)`` for TCP, port 0 for any that is free; the path of a Unix socket; or a listening
            socket.
        spec: A wire format, or its name.
        max_connections: Most threads at a time. Further connections wait until one ends.
        timeout: The `FramedSocket.timeout` of every connection, in seconds.
        tls: An ``ssl.SSLContext`` for connections over TLS.
        handshake_timeout: Seconds for the handshake of TLS.
        backlog: Connections that the system keeps until they are accepted.
        max_size: As in `FramedSocket`.

    Raises:
        OSError: If that address cannot be had.
        ValueError, TypeError: If the format or a limit makes no sense.
    """
    if max_connections < 1:
        raise ValueError(f"max_connections must be at least 1, not {max_connections}")
    spec, max_size = resolve(spec, max_size)

    def framed(sock: socket.socket) -> FramedSocket:
        if tls is not None:
            sock.settimeout(handshake_timeout)
            sock = tls.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return FramedSocket(sock, spec, max_size=max_size, timeout=timeout)

    return ThreadServer(handler, listening_on(address, backlog), framed, max_connections)


class ThreadServer(Generic[D]):
    """A listening socket, and a thread for each of its connections; `serve` makes it."""

    def __init__(
        self,
        handler: Callable[[D], object],
        listening: socket.socket,
        framed: Callable[[socket.socket], D],
        max_connections: int,
    ) -> None:
        self._handler = handler
        self._listening = listening
        self._path = path_of(listening)
        self._framed = framed
        self._free = threading.Semaphore(max_connections)
        self._lock = threading.Lock()
        self._threads: dict[threading.Thread, Callable[[int], None]] = {}  # and what ends the connection of each
        self._stopping = False
        self._accepting: int | None = None  # the thread that does
        self._ended = threading.Event()  # nobody does
        self._ended.set()
        self._woken, self._wake = socket.socketpair()
        self._selector = DefaultSelector()
        self._selector.register(listening, EVENT_READ)
        self._selector.register(self._woken, EVENT_READ)
        self.address: Any = listening.getsockname()
        """Where it listens: ``(host, port)``, with two more for IPv6, or a path."""

    @property
    def connection_count(self) -> int:
        """Connections whose handlers run."""
        return len(self._threads)

    def serve_forever(self) -> None:
        """Accept connections until `shutdown` is called, by another thread or a signal handler."""
        self._ended.clear()
        self._accepting = threading.get_ident()
        try:
            while not self._stopping:
                self._serve_one()
        finally:
            self._accepting = None
            self._ended.set()

    def shutdown(self, timeout: float = 5.0) -> None:
        """Accept no more; let every handler take what has come, see the end of its stream, and return.

        Args:
            timeout: Seconds after which the connections of the handlers that still run are shut down: their calls fail.
        """
        self._stop()
        if self._accepting != threading.get_ident():  # not out of a signal handler
            self._ended.wait(LONGEST_WAIT)
        deadline = monotonic() + timeout
        for how in (socket.SHUT_RD, socket.SHUT_RDWR):
            with self._lock:
                threads = dict(self._threads)
            for end in threads.values():
                with suppress(OSError):  # it is closed, or the peer has gone
                    end(how)
            for thread in threads:
                if thread is not threading.current_thread():
                    thread.join(max(deadline - monotonic(), 0))
            deadline += 1.0

    def close(self) -> None:
        """Stop listening, and `shutdown`. Twice is nothing."""
        self.shutdown()
        if self._path is not None and self._listening.fileno() >= 0:
            remove(*self._path)
        self._selector.close()
        for sock in (self._listening, self._woken, self._wake):
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._free.release()  # serve_forever() may wait for a thread to end
        with suppress(OSError):
            self._wake.send(b"\0")

    def _serve_one(self) -> None:
        """Accept a connection, as soon as there is a thread for it."""
        if not self._free.acquire(timeout=LONGEST_WAIT):
            return
        try:
            accepted = None if self._stopping else self._accept()
        except BaseException:
            self._free.release()
            raise
        if accepted is None:
            self._free.release()
            return
        sock, address = accepted
        thread = threading.Thread(target=self._serve, args=(sock, address_name(address)), daemon=True)
        with self._lock:
            self._threads[thread] = sock.shutdown
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more threads
            logger.warning("%s refused: %s", address_name(address), error)
            sock.close()
            with self._lock:
                del self._threads[thread]
            self._free.release()

    def _accept(self) -> tuple[socket.socket, Any] | None:
        self._selector.select()
        if self._stopping:
            return None
        try:
            return self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return None
        except OSError as error:
            if error.errno in EXHAUSTED:
                logger.warning("%s cannot accept: %s; trying again", address_name(self.address), error)
                _sleep(self._woken.fileno(), READABLE, 1.0)
            elif error.errno in NO_LISTENER:
                raise
            else:  # Linux tells here what is wrong with the network of a connection that waits: accept(2)
                logger.info("%s: a connection was gone before it was accepted: %s", address_name(self.address), error)
            return None

    def _serve(self, sock: socket.socket, name: str) -> None:
        reason = ""
        try:
            with suppress(OSError):
                sock.setblocking(True)
            framed = self._framed(sock)
            with self._lock:
                self._threads[threading.current_thread()] = framed._end
            if self._stopping:
                framed._end(socket.SHUT_RD)
            logger.info("%s connected", name)
            with framed:
                self._handler(framed)
                framed._linger()
        except (FramingError, OSError) as error:
            reason = f": {type(error).__name__}: {error}"
        except Exception:
            logger.exception("%s: the handler failed", name)
        finally:
            sock.close()
            logger.info("%s disconnected%s", name, reason)
            with self._lock:  # last: who shuts down waits for those that stand here
                del self._threads[threading.current_thread()]
            self._free.release()


class FrameReader(_Inbox[bytes]):
    r"""Reads frames from a binary file or a pipe.

    >>> from io import BytesIO
    >>> reader = FrameReader(BytesIO(b"one\ntwo\nthree\n"), "lines")
    >>> reader.read()
    b'one'
    >>> list(reader)
    [b'two', b'three']

    It reads ahead: what it has taken from the file beyond the last payload is its own, so nobody else can go on reading
    where it stopped. The offset in an error counts from where it began.

    Args:
        file: A binary file, buffered or raw, or the descriptor of one. Closed with the reader.
        spec: A wire format, or its name (see `framewire.spec`).
        max_size: Most bytes in a payload; 16 MiB unless given, None lifts the limit.
        read_size: Most bytes to read at a time; None leaves it to the decoder, which is fast.

    Raises:
        ValueError, TypeError: If the format, the limit or `read_size` makes no sense, or if the file is a text file.
    """

    def __init__(
        self,
        file: BinaryFile | int,
        spec: Spec | str,
        *,
        max_size: int | None = DEFAULT_MAX_SIZE,
        read_size: int | None = None,
    ) -> None:
        super().__init__(Connection(spec, max_size=max_size), read_size)
        self._file = _binary(file, "rb", "readinto")
        # readinto1() of a buffered file returns what has come; readinto() would wait for a full window.
        self._readinto = getattr(self._file, "readinto1", None) or self._file.readinto

    def read(self) -> bytes | None:
        """Read one payload.

        Returns:
            The payload; None at the end of the file.

        Raises:
            HeaderError, FrameTooLarge, IncompleteFrame: When every payload before the error is out, and then by every
                call.
            OSError: If the file cannot be read; BlockingIOError if it does not block and has nothing yet. Nothing is
                lost.
        """
        self._fill()
        return self._take()

    def read_many(self) -> list[bytes]:
        """Read at least one payload, and those that came with it.

        Returns:
            The payloads in order; an empty list at the end of the file.

        Raises:
            HeaderError, FrameTooLarge, IncompleteFrame, OSError: As `read`.
        """
        self._fill()
        return self._take_all()

    def __iter__(self) -> Iterator[bytes]:
        """The payloads up to the end of the file, each as `read` returns it."""
        return iter(self.read, None)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FrameReader {self._connection.spec.name} over {self._file!r}>"

    def _fill(self) -> None:
        while not self._complete():
            if _book(self._readinto, self._connection.get_buffer(self._read_size), self._received) is None:
                raise BlockingIOError(errno.EAGAIN, "the file has no bytes yet")


class FrameWriter:
    """Writes frames to a binary file or a pipe.

    >>> from io import BytesIO
    >>> file = BytesIO()
    >>> writer = FrameWriter(file, "u16be")
    >>> writer.write(b"hello")
    >>> writer.write_many([b"wonderful", b"world"])
    >>> file.getvalue()
    b'\\x00\\x05hello\\x00\\twonderful\\x00\\x05world'

    Every call hands its frames to the file. A buffered file may keep them until `flush` or `close`; a raw file, or a
    descriptor, writes them at once: use `write_many` for small ones.

    Args:
        file: A binary file, buffered or raw, or the descriptor of one. Closed with the writer.
        spec: A wire format, or its name (see `framewire.spec`).
        max_size: Most bytes in a payload; 16 MiB unless given, None lifts the limit.

    Raises:
        ValueError, TypeError: If the format or the limit makes no sense, or if the file is a text file.
    """

    def __init__(self, file: BinaryFile | int, spec: Spec | str, *, max_size: int | None = DEFAULT_MAX_SIZE) -> None:
        self._connection = Connection(spec, max_size=max_size)
        self._file = _binary(file, "wb", "write")

    def write(self, payload: BytesLike, /) -> None:
        """Write the frame of one payload.

        Raises:
            FrameTooLarge, ValueError: If the payload cannot be sent (see `Encoder.encode`); nothing is written.
            OSError: If the file cannot be written; BlockingIOError if it does not block and is full. A raw file, and
                one that is full, goes on where it stopped with the next call: do not write the payload again.
        """
        self._connection.send(payload)
        self._write()

    def write_many(self, payloads: Iterable[BytesLike], /) -> None:
        """Write the frames of many payloads: all of them or, when one is refused, none.

        Raises:
            FrameTooLarge, ValueError, OSError: As `write`.
        """
        self._connection.send_many(payloads)
        self._write()

    def flush(self) -> None:
        """Write what is unwritten, and let a buffered file write what it keeps."""
        self._write()
        self._file.flush()

    def close(self) -> None:
        """Flush and close the file. If flushing fails it is closed all the same."""
        try:
            if not self._file.closed:
                self.flush()
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FrameWriter {self._connection.spec.name} over {self._file!r}>"

    def _write(self) -> None:
        connection = self._connection
        while connection.queued_size:
            try:
                written = _book(self._file.write, connection.data_to_send()[0], connection.data_sent)
            except BlockingIOError as error:  # from a buffered file, which may have taken a part
                connection.data_sent(getattr(error, "characters_written", 0))
                raise
            if written is None:
                raise BlockingIOError(errno.EAGAIN, "the file takes no bytes now")


def _binary(file: BinaryFile | int, mode: str, method: str) -> Any:
    if isinstance(file, int):
        return open(file, mode, buffering=0)
    if not hasattr(file, method) or hasattr(file, "encoding"):
        raise TypeError(f"file must be a binary file or a descriptor, not {file!r}")
    return file
