"""The byte-moving half of a channel, in Python: the reference for its compiled twin, ``ext/endpoint.pxi``.

Strategy. A connection that is quiet owns no buffer. What comes is received into one piece of memory that all share and
is parsed where it lies; only a payload of 64 KiB or more is received where it stays. What goes out is a list of
``bytes`` that were encoded once, written with one system call for many, and never copied or joined here.

Rules that hold here and in the twin:

- No call blocks, and none calls foreign code; what a handler must hear of is left for the loop, in `Turn`.
- A failed send raises nothing, since it may happen long after the `Endpoint.send` that caused it: it stands in
  `Endpoint.failure`, and the endpoint among those that `flush_all` returns.
- Bytes of two frames are never out of order: whoever has a queue gets everything through it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .errors import FramingError

if TYPE_CHECKING:
    from typing import Any, Protocol

    from ._wire import BytesLike

    class Reader(Protocol):
        """What an endpoint asks of a decoder: a `Decoder`, or another of its manner, which may give other things."""

        @property
        def error(self) -> Exception | None: ...
        @property
        def buffered_size(self) -> int: ...
        @property
        def needed_size(self) -> int: ...
        def feed(self, chunk: BytesLike, /) -> list[Any]: ...
        def get_buffer(self, hint: int = -1) -> memoryview: ...
        def buffer_updated(self, n: int, /) -> list[Any]: ...
        def feed_eof(self) -> list[Any]: ...

    class Writer(Protocol):
        """What an endpoint asks of an encoder: an `Encoder`, or another of its manner, which may take other things."""

        def encode(self, payload: Any, /) -> bytes: ...
        def encode_many(self, payloads: Any, /) -> bytes: ...
        def encode_parts(self, payload: Any, /) -> tuple[BytesLike, ...]: ...


READ_SIZE = 256 * 1024
"""Most bytes received from one connection in a turn, so that a firehose starves nobody."""

DIRECT_SIZE = 64 * 1024
"""A payload of which so much is missing is received where it stays."""

LARGE_SIZE = 64 * 1024
"""What is queued goes out at once when it has reached this size, before the end of the turn. Also: a ``bytes`` of so
many is sent from where it lies."""

MAX_BUFFERS = 64
"""Most buffers in one system call."""

OPEN, ENDING, GONE = 0, 1, 2  # whether more can be sent: yes | no, the end was sent | no, and nobody needs to know

if hasattr(socket.socket, "sendmsg"):
    _sendmsg = socket.socket.sendmsg
else:  # Windows

    def _sendmsg(sock: socket.socket, buffers: list[bytes | memoryview]) -> int:  # type: ignore[misc]
        return sock.send(b"".join(buffers))


class Turn:
    """What a turn of the loop leaves to be done at its end, in two lists that stay the same objects."""

    __slots__ = ("dirty", "over", "window")

    def __init__(self) -> None:
        self.dirty: list[Any] = []  # endpoints with something to send
        self.over: list[Any] = []  # those whose queue has passed the high mark since somebody looked
        self.window = memoryview(bytearray(READ_SIZE))  # to receive into: of one loop, which is one thread

    def take_dirty(self) -> list[Any]:
        dirty = self.dirty.copy()
        self.dirty.clear()
        return dirty

    def take_over(self) -> list[Any]:
        over = self.over.copy()
        self.over.clear()
        return over


class Endpoint:
    """A non-blocking stream socket with a decoder, and the queue of what is to be sent.

    Args:
        turn: Where it says that it has something to send.
        decoder: For what comes in.
        encoder: For what goes out; one without state may be shared. None if the format can only be read.
        high_mark: Bytes in the queue above which `over` is set, until somebody unsets it.
    """

    __slots__ = (
        "_chunks",
        "_first",
        "_listed",
        "_offset",
        "_turn",
        "attended",
        "blocked",
        "decoder",
        "encoder",
        "ended",
        "failure",
        "high_mark",
        "in_order",
        "mode",
        "over",
        "plain",
        "received_count",
        "received_size",
        "sent_count",
        "sent_size",
        "sock",
        "unsent_size",
    )

    def __init__(self, turn: Turn, decoder: Reader, encoder: Writer | None, high_mark: int) -> None:
        self._turn = turn
        self.decoder = decoder
        self.encoder = encoder
        self.high_mark = high_mark
        self.sock: socket.socket | None = None
        self.plain = True  # false for a subclass that has `receive` and `flush` of its own
        self.mode = OPEN
        self.ended = False  # nothing more comes in: the end of the stream, or an error of the decoder
        self.blocked = True  # the socket takes nothing now; so it is before there is one
        self.over = False
        self.attended = False  # flush_all() returns it even if all is sent
        self.in_order = False  # what is sent has to pass through put_in_order()
        self.failure: OSError | None = None  # why nothing can be sent any more
        self._listed = False  # it stands in the turn's list
        self._chunks: list[bytes] | None = None
        self._first = 0  # of the chunks, which one is the next
        self._offset = 0  # and how much of it has been sent
        self.unsent_size = 0
        self.received_size = self.received_count = self.sent_size = self.sent_count = 0

    def attach(self, sock: socket.socket) -> None:
        """Begin to use a connected socket, which is non-blocking."""
        self.sock = sock
        self.blocked = False

    def detach(self) -> None:
        """Forget the socket and all that is unsent; the socket is not closed."""
        self.sock = None
        self.mode = GONE
        self.forget()

    def receive(self) -> list[bytes]:
        """Receive once, at most 256 KiB.

        Returns:
            The payloads that are now whole. At the end of the stream, and after an error of the decoder, `ended` is
            set.

        Raises:
            OSError: If the connection is lost.
        """
        assert self.sock is not None
        decoder = self.decoder
        try:
            if decoder.needed_size >= DIRECT_SIZE:
                n = self.sock.recv_into(decoder.get_buffer(READ_SIZE))
                return self.received(n, None)
            window = self._turn.window
            n = self.sock.recv_into(window)
            return self.received(n, window[:n])
        except (BlockingIOError, InterruptedError):
            return []

    def received(self, n: int, chunk: memoryview | None) -> list[bytes]:
        """Parse `n` bytes that were received: those of `chunk`, or else into the decoder's window; 0 is the end."""
        decoder = self.decoder
        self.received_size += n
        try:
            if not n:
                payloads = decoder.feed_eof()
                self.ended = True
            elif chunk is None:
                payloads = decoder.buffer_updated(n)
            else:
                payloads = decoder.feed(chunk)
        except FramingError:
            payloads = []  # the decoder keeps the error
        if decoder.error is not None:
            self.ended = True
        self.received_count += len(payloads)
        return payloads

    def send(self, payload: BytesLike, /) -> None:
        """Queue the frame of one payload. It goes out at the end of this turn of the loop, or before.

        A ``bytes`` of 64 KiB or more is kept, not copied. Anything else is copied now, and may change afterwards. What
        is sent to a connection that is lost is dropped, as bytes on their way would be: `Handler.disconnected` tells.

        Raises:
            FrameTooLarge, ValueError: As `Encoder.encode`; nothing is queued.
            RuntimeError: After ``close`` and ``send_eof``.
        """
        encoder = self._writable()
        if type(payload) is bytes and len(payload) >= LARGE_SIZE:
            for part in encoder.encode_parts(payload):
                if part:
                    self.put(part, 0)  # type: ignore[arg-type]
            self.sent_count += 1
        else:
            self.put(encoder.encode(payload), 1)

    def send_many(self, payloads: Iterable[BytesLike], /) -> None:
        """Queue the frames of many payloads, which are copied: all of them or, when one is refused, none.

        Raises:
            FrameTooLarge, ValueError, RuntimeError: As `send`.
        """
        encoder = self._writable()
        if not isinstance(payloads, list):
            payloads = list(payloads)
        self.put(encoder.encode_many(payloads), len(payloads))

    def write(self, data: bytes, /) -> None:
        """Queue bytes that are frames already.

        Raises:
            TypeError: If they are not ``bytes``, which nobody can change any more.
            RuntimeError: As `send`.
        """
        if type(data) is not bytes:
            raise TypeError(f"write() takes bytes, not {type(data).__name__}")
        self._check_mode()
        self.put(data, 0)

    def put(self, data: bytes, count: int) -> None:
        """Queue `data`, which holds `count` frames."""
        if self.in_order:
            self.put_in_order(data, count)
        else:
            self.append(data, count)

    def put_in_order(self, data: bytes, count: int) -> None:
        """What `put` does if `in_order` is set; for a subclass."""
        raise NotImplementedError

    def append(self, data: bytes, count: int) -> None:
        """Put `data` at the end of the queue, whatever `in_order` says."""
        if self.mode == GONE or not data:
            return
        if self._chunks is None:
            self._chunks = []
        self._chunks.append(data)
        self.unsent_size += len(data)
        self.sent_count += count
        if not self._listed:
            self._listed = True
            self._turn.dirty.append(self)
        if self.unsent_size >= LARGE_SIZE or self.unsent_size > self.high_mark:
            if not self.blocked:
                self.flush()
            if self.unsent_size > self.high_mark and not self.over:
                self.over = True
                self._turn.over.append(self)

    def flush(self) -> bool:
        """Send what is queued, as far as the socket takes it; return whether nothing is left (see also `failure`)."""
        if self.unsent_size and self.sock is not None:
            try:
                while self.unsent_size:
                    if not self.sent(_sendmsg(self.sock, self.unsent())):
                        self.blocked = True
                        return False
            except (BlockingIOError, InterruptedError):
                self.blocked = True
                return False
            except OSError as error:
                self.lose(error)
                return True
            self.blocked = False
        return not self.unsent_size

    def unsent(self) -> list[bytes | memoryview]:
        """The buffers to send next, at most `MAX_BUFFERS`."""
        if self._chunks is None:
            return []
        buffers: list[bytes | memoryview] = [*self._chunks[self._first : self._first + MAX_BUFFERS]]
        if self._offset:
            buffers[0] = memoryview(buffers[0])[self._offset :]
        return buffers

    def sent(self, n: int) -> bool:
        """Forget the first `n` bytes of the queue; return whether that was all which `unsent` had given."""
        assert self._chunks is not None
        last = min(self._first + MAX_BUFFERS, len(self._chunks))
        self.sent_size += n
        self.unsent_size -= n
        n += self._offset
        while self._first < last:
            size = len(self._chunks[self._first])
            if n < size:
                break
            n -= size
            self._first += 1
        self._offset = n
        done = self._first == last
        if not self.unsent_size:
            self._chunks, self._first = None, 0
        elif self._first > MAX_BUFFERS and self._first > len(self._chunks) // 2:
            del self._chunks[: self._first]
            self._first = 0
        return done

    def lose(self, error: OSError) -> None:
        """Note why nothing can be sent any more, and see to it that the loop hears of it."""
        self.failure = error
        self.mode = GONE
        self.forget()
        if not self._listed:
            self._listed = True
            self._turn.dirty.append(self)

    def forget(self) -> None:
        """Drop what is unsent."""
        self._chunks = None
        self._first = self._offset = self.unsent_size = 0

    def _writable(self) -> Writer:
        self._check_mode()
        if self.encoder is None:
            raise ValueError(f"{self.decoder.spec!r} can only be read")  # type: ignore[attr-defined]
        return self.encoder

    def _check_mode(self) -> None:
        if self.mode == ENDING:
            raise RuntimeError("nothing can be sent after close() and send_eof()")


def flush_all(endpoints: list[Any]) -> list[Any]:
    """Flush those that a turn has left.

    Returns:
        Those that somebody must look after: not all is sent, or there is a `failure`, or they are `attended`.
    """
    left = []
    for endpoint in endpoints:
        endpoint._listed = False
        done = endpoint.flush() if not endpoint.blocked else not endpoint.unsent_size
        if not done or endpoint.failure is not None or endpoint.attended:
            left.append(endpoint)
    return left


def send_to_all(endpoints: list[Any], data: bytes, count: int) -> tuple[list[Any], list[Any]]:
    """Send the same bytes, which are `count` frames, to each endpoint now.

    Returns:
        Those to which nothing was sent, because their socket is blocked or something is before it; and those that
        have begun, or failed, and must be looked after.
    """
    behind, left = [], []
    for endpoint in endpoints:
        if endpoint.mode != OPEN:
            continue
        if endpoint.unsent_size and not endpoint.blocked:
            endpoint.flush()
        if endpoint.unsent_size or endpoint.blocked:
            behind.append(endpoint)
            continue
        endpoint._chunks = [data]
        endpoint.unsent_size = len(data)
        endpoint.sent_count += count
        if not endpoint.flush() or endpoint.failure is not None:
            left.append(endpoint)
    return behind, left
