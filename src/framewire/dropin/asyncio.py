"""A ``StreamReader`` for asyncio that reads frames as well as bytes.

Two lines to change: where the reader is made, and the loop that reads::

    reader = framewire.dropin.asyncio.StreamReader(spec="u32be")       # or open_connection(host, port, spec="u32be")
    ...
    while (payloads := await reader.readframes()):                     # was: readexactly(4), then readexactly(n)

It is an `asyncio.StreamReader`: whoever takes one takes this (``StreamReaderProtocol``, ``StreamWriter``), and its byte
methods are the host's own code. Where the host makes the reader itself, `install` (or the context manager `patched`)
has it make these; `StreamReader.set_spec` then names the wire format.

Strategy. ``_buffer`` holds every byte that was not read, as in the host, and the decoder parses copies of them. So
nothing is ever lost between the two ways of reading: to go from frames back to bytes is to forget what was decoded
ahead. A reader is in one of two modes; `_raw` is the bytearray in both::

    bytes     _raw:  | unread                            |
    frames    _raw:  | taken | batch | fed    | not fed  |     a look at `_buffer`, a property, goes back to bytes

- taken, batch: whole frames that are decoded already; those taken are cut off together when the batch is used up
- fed: the beginning of a frame, which the decoder knows. A waiting read is woken when the frame is whole, not by each
  chunk of it, and the transport is not paused before: a frame may be larger than the limit.
- How far to decode ahead doubles from a few frames on, and begins anew with the change of mode. So a program that
  changes after every frame still costs time in proportion to its bytes.

A property is slower than an attribute, and the host's methods look at ``_buffer`` several times; those that find what
they want in it at once have a short way here, and leave the rest to the host.
"""

from __future__ import annotations

import asyncio
from asyncio import streams
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from .._core import Decoder
from ..errors import FrameTooLarge, FramingError, HeaderError, IncompleteFrame
from ..spec import DEFAULT_MAX_SIZE, Delimited, Netstring, Spec
from . import UnsupportedVersion, _versions
from ._patch import Patch

if TYPE_CHECKING:
    from .._wire import BytesLike

__all__ = [
    "SEAMS",
    "VERSIONS",
    "StreamReader",
    "install",
    "installed",
    "open_connection",
    "patched",
    "start_server",
    "uninstall",
]

VERSIONS = _versions.CPYTHON
"""The CPython versions, first and last, that this module is known to fit. `install` goes by what it finds there."""

SEAMS = ("StreamReader",)
"""What `install` replaces in ``asyncio``."""

DEFAULT_LIMIT = 64 * 1024
"""The host's own default for ``limit``, in bytes."""

LEAST_AHEAD = 256
"""Bytes decoded ahead at first; a frame that is longer is decoded whole in any case."""

MOST_AHEAD = 64 * 1024
"""Bytes decoded ahead at most, for `StreamReader.readframe`: what is decoded takes memory besides the bytes."""

SMALL_SIZE = 4 * 1024
"""Bytes that are copied sooner than looked at through a ``memoryview``, whose making and release take longer."""


class StreamReader(asyncio.StreamReader):
    r"""An `asyncio.StreamReader`, and frames.

    ::

        00 00 00 05 h e l l o 00 00 00 02 o k 72 65 73 74 \n       spec="u32be"
        `---- readframe ----'`-- readframe -'`-- readline --'

    Frame and byte methods can take turns: each goes on with the first byte that the others have left. Whichever is
    cancelled or times out has taken nothing.

    As with the host's own, one coroutine waits at a time, and what the transport reports as an exception
    (`set_exception`) is raised at once by every method, before what still waits to be read.

    Args:
        limit: As for the host's: the longest line, and half of what is kept unread before the transport is paused, in
            bytes. A frame is limited by `max_size` instead.
        loop: As for the host's.
        spec: The wire format of `readframe` and `readframes`, or its name; None to name it later, with `set_spec`.
        max_size: Most bytes that may follow a header (see `framewire.Decoder`). 16 MiB unless given; None lifts the
            limit.

    Raises:
        ValueError, TypeError: If an argument makes no sense.
    """

    if TYPE_CHECKING:
        _eof: bool
        _exception: BaseException | None
        _limit: int
        _loop: asyncio.AbstractEventLoop
        _paused: bool
        _transport: Any
        _waiter: asyncio.Future[None] | None

        async def _wait_for_data(self, func_name: str) -> None: ...

        def _wakeup_waiter(self) -> None: ...

    def __init__(
        self,
        limit: int = DEFAULT_LIMIT,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        spec: Spec | str | None = None,
        max_size: int | None = DEFAULT_MAX_SIZE,
    ) -> None:
        self._decoder: Decoder | None = None if spec is None else Decoder(spec, max_size=max_size)
        self._raw = bytearray()
        self._framing = False  # the mode
        self._received = 0  # bytes of the stream so far
        self._origin = 0  # where in the stream the decoder began
        self._start = 0  # where in the decoder's stream `_raw` begins
        self._fed = 0  # how much of `_raw` the decoder has had
        self._batch: list[bytes] = []  # decoded and not taken, the first one last
        self._batch_count = 0  # what it was in the beginning
        self._batch_size = 0  # bytes of `_raw` that it came from
        self._ahead = LEAST_AHEAD
        self._wanted = 0  # size of `_raw` that lets the waiting frame method go on; 0 if none waits
        self._error: FramingError | None = None  # what is wrong behind the batch
        super().__init__(limit, loop)

    # Frames

    @property
    def spec(self) -> Spec | None:
        """The wire format; None if there is none yet."""
        return None if self._decoder is None else self._decoder.spec

    def set_spec(self, spec: Spec | str, *, max_size: int | None = DEFAULT_MAX_SIZE) -> None:
        """Read frames of this format from the next byte on. For readers that the host has made, and for protocols that
        change their framing in the middle.

        Raises:
            ValueError, TypeError: If the format or the limit makes no sense; nothing has changed then.
            RuntimeError: While another coroutine waits for data.
        """
        decoder = Decoder(spec, max_size=max_size)
        if self._waiter is not None:
            raise RuntimeError("set_spec() called while another coroutine is already waiting for incoming data")
        self._read_bytes()
        self._decoder = decoder

    async def readframe(self) -> bytes | None:
        """The next payload; None when the stream has ended between two frames (a payload may be empty: compare with
        None).

        Raises:
            HeaderError, FrameTooLarge: When every payload before the bad header is read, and then by every call; its
                bytes, header and all, can still be read as bytes. The offset counts from the stream's first byte.
            IncompleteFrame: If the stream ended inside a frame; likewise.
            RuntimeError: Without a wire format; or if another coroutine waits for data already.
        """
        while True:
            if self._exception is not None:
                raise self._exception
            batch = self._batch or self._decode(self._ahead)
            if batch:
                payload = batch.pop()
                if not batch:
                    self._cut()
                return payload
            if self._error is not None:
                raise self._error.with_traceback(None)
            if self._eof:
                return None
            await self._wait_for_frame("readframe")

    async def readframes(self) -> list[bytes]:
        """Every payload that is there, and at least one; ``[]`` when the stream has ended between two frames.

        One ``await`` for many payloads: the fast way where messages are small. What one call returns came in at most
        two times the limit and one read of the transport, or is one large frame.

        Raises:
            HeaderError, FrameTooLarge, IncompleteFrame, RuntimeError: As `readframe`.
        """
        while True:
            if self._exception is not None:
                raise self._exception
            payloads: list[bytes] = []
            while batch := self._batch or self._decode(self._received):  # as far as there is anything
                batch.reverse()
                payloads = payloads + batch if payloads else batch
                self._batch = []
                self._cut()
            if payloads:
                return payloads
            if self._error is not None:
                raise self._error.with_traceback(None)
            if self._eof:
                return []
            await self._wait_for_frame("readframes")

    async def _wait_for_frame(self, name: str) -> None:
        """Wait until a frame is whole, or bad, or the stream is over. What the host's ``_wait_for_data`` does is done
        here: one more coroutine for each message would be felt."""
        assert self._decoder is not None
        if self._waiter is not None:
            raise RuntimeError(f"{name}() called while another coroutine is already waiting for incoming data")
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._wanted = len(self._raw) + self._decoder.needed_size
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._wanted = 0

    def _decode(self, ahead: int) -> list[bytes]:
        """With the batch used up, decode the next one and return it: `ahead` bytes of what is there, or as many as it
        takes to get one frame. If it is empty, there is an error, or the decoder has had everything."""
        raw = self._raw if self._framing else self._read_frames()
        fed, size = self._fed, len(raw)
        if self._error is not None or (fed == size and not self._eof):
            return self._batch
        decoder = self._decoder
        assert decoder is not None
        payloads: list[bytes] = []
        try:
            while fed < size and not payloads:
                stop = min(fed + max(ahead, decoder.needed_size), size)
                if not fed and stop == size:
                    payloads = decoder.feed(raw)
                elif stop - fed <= SMALL_SIZE:
                    payloads = decoder.feed(raw[fed:stop])
                else:
                    with memoryview(raw) as whole, whole[fed:stop] as chunk:
                        payloads = decoder.feed(chunk)
                fed = stop
                ahead *= 2
            if not payloads and self._eof:
                payloads = decoder.feed_eof()
        except FramingError:
            fed = size
        except MemoryError:
            self._read_bytes()  # which has lost nothing; the decoder has
            raise
        self._fed = fed
        received = self._start + fed
        error = decoder.error
        if error is not None:
            assert isinstance(error, FramingError)
            assert error.offset is not None
            self._error = _later(error, self._origin)
            received = error.offset
        elif payloads:
            received -= decoder.buffered_size
        if payloads:
            payloads.reverse()
            self._batch = payloads
            self._batch_count = len(payloads)
            self._batch_size = received - self._start
            if self._ahead < MOST_AHEAD:
                self._ahead *= 2
        return payloads

    def _cut(self) -> None:
        """The batch is used up: forget its bytes."""
        size = self._batch_size
        del self._raw[:size]
        self._start += size
        self._fed -= size
        self._batch_count = self._batch_size = 0
        if self._paused:
            self._maybe_resume_transport()

    # The two modes

    def _read_frames(self) -> bytearray:
        """Go to frames mode, if it is not so yet; return the unread bytes."""
        if not self._framing:
            if self._decoder is None:
                raise RuntimeError("there is no wire format to read frames of: StreamReader(spec=...) or set_spec()")
            self._decoder.reset()
            self._origin = self._received - len(self._raw)
            self._start = self._fed = self._wanted = 0
            self._framing = True
        return self._raw

    def _read_bytes(self) -> bytearray:
        """Go to bytes mode, if it is not so yet; return the unread bytes."""
        if self._framing:
            assert self._decoder is not None
            if self._batch:
                del self._raw[: self._taken_size()]
                self._batch = []
            self._batch_count = self._batch_size = self._wanted = 0
            self._ahead = LEAST_AHEAD
            self._error = None
            self._framing = False
            self._decoder.reset()
        return self._raw

    def _replace_bytes(self, raw: bytearray) -> None:
        self._read_bytes()
        self._raw = raw

    _buffer = property(_read_bytes, _replace_bytes)

    def _taken_size(self) -> int:
        """The bytes at the front that belong to payloads taken from the batch, of which some are left."""
        taken = self._batch_count - len(self._batch)
        if not taken:
            return 0
        assert self._decoder is not None
        decoder = Decoder(self._decoder.spec, max_size=self._decoder.max_size)
        spans = decoder.feed_spans(bytes(self._raw[: self._batch_size]))
        if isinstance(decoder.spec, Delimited):  # such a frame begins with its payload
            if taken == len(spans):  # the last was completed by the end of the stream
                return self._batch_size - decoder.buffered_size
            return int(spans.offsets[taken])
        end = int(spans.offsets[taken - 1] + spans.lengths[taken - 1])
        return end + 1 if isinstance(decoder.spec, Netstring) else end

    # What the host's own class does, in both modes

    def feed_data(self, data: BytesLike) -> None:  # type: ignore[override]  # the stubs know less than the host takes
        assert not self._eof, "feed_data after feed_eof"
        raw = self._raw
        before = len(raw)
        raw += data
        size = len(raw)
        if size == before:
            return
        self._received += size - before
        if self._wanted and not self._is_enough(size):
            return
        self._wakeup_waiter()
        if size > 2 * self._limit and self._transport is not None and not self._paused:
            try:
                self._transport.pause_reading()
            except NotImplementedError:
                self._transport = None  # as the host: it is not asked again
            else:
                self._paused = True

    def _is_enough(self, size: int) -> bool:
        """Whether what waits for `_wanted` bytes can go on with the `size` that there are."""
        if size < self._wanted:
            return False
        if self._framing:
            assert self._decoder is not None
            try:
                if not self._batch and not self._decode(self._ahead) and self._error is None:
                    self._wanted = size + self._decoder.needed_size
                    return False
            except MemoryError:
                pass  # for the waiting method to meet, not for the transport
        self._wanted = 0
        return True

    async def readexactly(self, n: int) -> bytes:
        """Exactly `n` bytes, as the host's. It is woken when they are there, not by each chunk, and the transport is
        not paused before.

        Raises:
            asyncio.IncompleteReadError: If the stream ends before; with the bytes that there are, which are then read.
            ValueError: If `n` is negative.
        """
        if n < 0:
            raise ValueError(f"readexactly size can not be less than zero: {n}")
        if self._exception is not None:
            raise self._exception
        if n == 0:
            return b""
        raw = self._read_bytes() if self._framing else self._raw
        while len(raw) < n:
            if self._eof:
                partial = bytes(raw)
                raw.clear()
                raise asyncio.IncompleteReadError(partial, n)
            if self._waiter is None:
                self._wanted = n
            try:
                await self._wait_for_data("readexactly")
            finally:
                self._wanted = 0
            raw = self._read_bytes()
        return self._take(n)

    async def readuntil(self, separator: Any = b"\n") -> bytes:
        """As the host's."""
        if type(separator) is bytes and separator and self._exception is None:
            found = (self._read_bytes() if self._framing else self._raw).find(separator)
            if 0 <= found <= self._limit:
                return self._take(found + len(separator))
        return await super().readuntil(separator)

    async def read(self, n: int = -1) -> bytes:
        """As the host's."""
        if n > 0 and self._exception is None and (raw := self._read_bytes() if self._framing else self._raw):
            return self._take(min(n, len(raw)))
        return await super().read(n)

    def _take(self, n: int) -> bytes:
        """Cut `n` bytes off the front, in bytes mode."""
        raw = self._raw
        if n <= SMALL_SIZE:
            data = bytes(raw[:n])
            del raw[:n]
        elif n == len(raw):
            data = bytes(raw)
            raw.clear()
        else:
            with memoryview(raw) as whole, whole[:n] as part:
                data = bytes(part)
            del raw[:n]
        if self._paused:
            self._maybe_resume_transport()
        return data

    def at_eof(self) -> bool:
        """Whether everything is read and the stream has ended."""
        return self._eof and not self._raw

    def _maybe_resume_transport(self) -> None:
        if self._paused and len(self._raw) <= self._limit:
            self._paused = False
            self._transport.resume_reading()


def _later(error: FramingError, offset: int) -> FramingError:
    """The same error in a stream that began `offset` bytes earlier."""
    if not offset or error.offset is None:
        return error
    offset += error.offset
    if isinstance(error, HeaderError):
        return HeaderError(error.reason, offset, error.head)
    if isinstance(error, FrameTooLarge):
        return FrameTooLarge(error.size, error.limit, offset, error.head)
    assert isinstance(error, IncompleteFrame)
    return IncompleteFrame(error.part, error.received, error.missing, offset, error.head)


async def open_connection(
    host: Any = None,
    port: Any = None,
    *,
    spec: Spec | str | None = None,
    max_size: int | None = DEFAULT_MAX_SIZE,
    limit: int = DEFAULT_LIMIT,
    **options: Any,
) -> tuple[StreamReader, asyncio.StreamWriter]:
    """`asyncio.open_connection` with a reader for frames of `spec`; the other arguments are the host's.

    Raises:
        ValueError, TypeError: If the format or a limit makes no sense; no connection was made.
        OSError: As the host's.
    """
    loop = asyncio.get_running_loop()
    reader = StreamReader(limit, loop, spec=spec, max_size=max_size)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, host, port, **options)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def start_server(
    client_connected_cb: Callable[[StreamReader, asyncio.StreamWriter], Awaitable[None] | None],
    host: Any = None,
    port: Any = None,
    *,
    spec: Spec | str | None = None,
    max_size: int | None = DEFAULT_MAX_SIZE,
    limit: int = DEFAULT_LIMIT,
    **options: Any,
) -> asyncio.Server:
    """`asyncio.start_server` whose readers are for frames of `spec`; the other arguments are the host's.

    Raises:
        ValueError, TypeError: If the format or a limit makes no sense; nothing was opened.
        OSError: As the host's.
    """
    loop = asyncio.get_running_loop()
    StreamReader(limit, loop, spec=spec, max_size=max_size)  # bad arguments fail here, not with the first client

    def protocol() -> asyncio.StreamReaderProtocol:
        reader = StreamReader(limit, loop, spec=spec, max_size=max_size)
        called: Any = client_connected_cb
        return asyncio.StreamReaderProtocol(reader, called, loop=loop)

    return await loop.create_server(protocol, host, port, **options)


def _changes() -> list[tuple[Any, str, Any]]:
    for name in ("_wait_for_data", "_wakeup_waiter", "_maybe_resume_transport"):
        if not hasattr(asyncio.StreamReader, name):
            raise UnsupportedVersion(f"this asyncio.StreamReader has no {name}(), which the replacement rests on")
    return [(streams, "StreamReader", StreamReader), (asyncio, "StreamReader", StreamReader)]


_patch = Patch(_changes)
install = _patch.install
uninstall = _patch.uninstall
installed = _patch.installed
patched = _patch.patched
