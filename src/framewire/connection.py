"""One connection without I/O: a decoder for what comes in, an encoder and a queue for what goes out.

::

    transport ──> receive_data ──> Decoder ──> frames_received ──> application
    transport <── data_to_send <── queue <──── Encoder <── send <── application

A driver moves bytes and does nothing else: receive, collect, flush. Here is all the rest that drivers would otherwise
each decide for themselves: the order of payloads and errors, the end of the stream in both directions, and what is
still to be sent. Below this line there is no socket, clock, thread or log.

The two directions share nothing, so one thread may receive while another sends; each direction is for one thread at a
time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING

from ._core import Decoder, Encoder
from ._wire import flat
from .errors import FramingError
from .spec import DEFAULT_MAX_SIZE, Spec

if TYPE_CHECKING:
    from ._wire import BytesLike

LARGE_SIZE = 64 * 1024
"""A payload of so many bytes is sent from where it lies; smaller ones are joined, which is cheaper than one more
buffer in the system call. Also about what is joined at a time."""

MAX_BUFFERS = 16
"""Most buffers for one system call: the least IOV_MAX that POSIX allows (``_XOPEN_IOV_MAX``). Of two neighbours in a
long queue one has 64 KiB or more, so that this is more than a socket takes at once anyway."""

SINK_SIZE = 16 * 1024
"""Bytes in the window that is lent after an error, to receive what will be dropped."""


class Connection:
    """Both directions of a stream of frames, without I/O.

    >>> client, server = Connection("ascii10"), Connection("ascii10")
    >>> client.send(b"hello")
    >>> client.send_many([b"wonderful", b"world"])
    >>> for buffer in client.data_to_send():
    ...     server.receive_data(buffer)
    ...     client.data_sent(len(buffer))
    >>> server.frames_received()
    [b'hello', b'wonderful', b'world']

    Args:
        spec: A wire format, or its name (see `framewire.spec`). One that can only be read (its ``strip`` is not its
            header) is good for receiving.
        max_size: Most bytes in a payload, in both directions (see `Decoder` and `Encoder`). 16 MiB unless given; None
            lifts the limit.

    Raises:
        ValueError, TypeError: If the format or the limit makes no sense.
    """

    def __init__(self, spec: Spec | str, *, max_size: int | None = DEFAULT_MAX_SIZE) -> None:
        self._decoder = Decoder(spec, max_size=max_size)
        self._payloads: list[bytes] = []  # received and not collected
        self._eof_received = False
        self._sink: memoryview | None = None  # the window once the decoder has failed
        self._encoder: Encoder | None = None  # made by the first send: some formats can only be read
        self._queue: deque[bytes | memoryview] = deque()  # the buffers to send
        self._small: list[bytes] = []  # what will be joined to be the next of them
        self._small_size = 0
        self._queued_size = 0
        self._ending = False

    @property
    def spec(self) -> Spec:
        """The wire format."""
        return self._decoder.spec

    # Receiving

    def receive_data(self, chunk: BytesLike, /) -> None:
        """Take a chunk of the stream; then collect `frames_received`.

        It never raises what is wrong with the bytes: that is for `frames_received`, in its turn. Once it is known
        (`error`), further bytes are dropped, here and in `buffer_updated`, so that nothing grows.

        Raises:
            RuntimeError: After `receive_eof`.
        """
        self._receive(self._decoder.feed, chunk)

    def get_buffer(self, hint: int = -1) -> memoryview:
        """Lend a window to receive into, then `buffer_updated`: see `Decoder.get_buffer`.

        Raises:
            RuntimeError: After `receive_eof`.
        """
        if self._decoder.error is None:
            return self._decoder.get_buffer(hint)
        if self._sink is None:
            self._sink = memoryview(bytearray(SINK_SIZE))
        return self._sink[:hint] if hint > 0 else self._sink

    def buffer_updated(self, n: int, /) -> None:
        """Say that `n` bytes were received into the window; then collect `frames_received`.

        Raises:
            ValueError: If `n` is negative or more than the window holds; the window stays lent.
            RuntimeError: If no window is lent, or after `receive_eof`.
        """
        self._receive(self._decoder.buffer_updated, n)

    def receive_eof(self) -> None:
        """Say that the peer will send no more; then collect `frames_received`, which tells of a frame cut short."""
        self._eof_received = True
        self._receive(self._decoder.feed_eof)

    def frames_received(self) -> list[bytes]:
        """The payloads received since the last call, in order; often none.

        Raises:
            HeaderError, FrameTooLarge, IncompleteFrame: When every payload before the error has been collected, and
                then by every call.
        """
        payloads, self._payloads = self._payloads, []
        if not payloads and self._decoder.error is not None:
            raise self._decoder.error.with_traceback(None)
        return payloads

    @property
    def error(self) -> Exception | None:
        """What ended the incoming stream, as soon as it is known: payloads from before it may still wait for
        `frames_received`. None while all is well."""
        return self._decoder.error

    @property
    def eof_received(self) -> bool:
        """Whether `receive_eof` was called."""
        return self._eof_received

    def _receive(self, decode: Callable[..., list[bytes]], *args: object) -> None:
        if self._decoder.error is None:
            try:
                payloads = decode(*args)
            except FramingError:
                return  # the decoder keeps it
            self._payloads += payloads

    # Sending

    def send(self, payload: BytesLike, /) -> None:
        """Queue the frame of one payload, to be sent with `data_to_send`.

        A ``bytes`` of 64 KiB or more is kept, not copied. Anything else is copied now, and may change afterwards.

        Raises:
            FrameTooLarge, ValueError: As `Encoder.encode`; nothing is queued.
            RuntimeError: After `send_eof`.
        """
        encoder = self._writable()
        if type(payload) is bytes and len(payload) >= LARGE_SIZE:
            self._put(encoder.encode_parts(payload))
        else:
            self._put([encoder.encode(payload)])

    def send_many(self, payloads: Iterable[BytesLike], /) -> None:
        """Queue the frames of many payloads: as `send` for each, but all of them or, when one is refused, none."""
        encoder = self._writable()
        items = [flat(payload) for payload in payloads]
        parts: list[BytesLike] = []
        begin = 0
        for i, payload in enumerate(items):
            if len(payload) >= LARGE_SIZE:
                parts.append(encoder.encode_many(items[begin:i]))
                parts += encoder.encode_parts(payload)
                begin = i + 1
        parts.append(encoder.encode_many(items[begin:] if begin else items))
        self._put(parts)

    def send_eof(self) -> None:
        """Say that nothing more will be sent. What is queued still goes out; then `eof_sent` is true."""
        self._ending = True

    def data_to_send(self) -> list[bytes | memoryview]:
        """What to send next: buffers for one ``sock.sendmsg``, or to be written one behind the other.

        Then say with `data_sent` how much of it was sent; until then the same bytes come again. A kept payload appears
        as the very object that was given to `send`.

        Returns:
            At most 16 buffers, none of them empty; an empty list if nothing is queued.
        """
        if len(self._queue) < MAX_BUFFERS:
            self._join()
        return list(islice(self._queue, MAX_BUFFERS))

    def data_sent(self, n: int, /) -> None:
        """Say that the first `n` bytes of `data_to_send` were sent; they are forgotten.

        Raises:
            ValueError: If that is negative or more than there was.
        """
        if not 0 <= n <= self._queued_size - self._small_size:
            ready = self._queued_size - self._small_size
            raise ValueError(f"n={n} bytes cannot have been sent of the {ready} that data_to_send() gave")
        self._queued_size -= n
        while n:
            buffer = self._queue.popleft()
            if n < len(buffer):
                self._queue.appendleft(memoryview(buffer)[n:])
                break
            n -= len(buffer)

    @property
    def queued_size(self) -> int:
        """Bytes still to be sent, headers included."""
        return self._queued_size

    @property
    def eof_sent(self) -> bool:
        """Whether `send_eof` was called and all before it is sent: time for the driver to half-close its transport."""
        return self._ending and not self._queued_size

    @property
    def closed(self) -> bool:
        """Whether both directions are over: nothing more can come, and nothing is left to send.

        An error ends the incoming direction, as its end does. Payloads may still wait for `frames_received`.
        """
        return (self._eof_received or self.error is not None) and self.eof_sent

    def _writable(self) -> Encoder:
        if self._ending:
            raise RuntimeError("nothing can be sent after send_eof()")
        if self._encoder is None:
            self._encoder = Encoder(self._decoder.spec, max_size=self._decoder.max_size)
        return self._encoder

    def _put(self, parts: Iterable[BytesLike]) -> None:
        """Queue what the encoder made: bytes that nobody else can change."""
        for part in parts:
            assert isinstance(part, bytes)
            self._queued_size += len(part)
            if len(part) >= LARGE_SIZE:
                self._join()
                self._queue.append(part)
            elif part:
                self._small.append(part)
                self._small_size += len(part)
                if self._small_size >= LARGE_SIZE:
                    self._join()

    def _join(self) -> None:
        if self._small:
            self._queue.append(b"".join(self._small))
            self._small.clear()
            self._small_size = 0

    def __repr__(self) -> str:
        return f"Connection({self._decoder.spec!r}, max_size={self._decoder.max_size})"
