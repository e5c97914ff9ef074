"""The core in Python: the reference for its compiled twin, and the source of its types.

Strategy. A chunk is parsed where it lies; nothing is copied in order to be parsed. Frames that stand whole in the chunk
are cut out of it (one copy, the payload). What is left at its end, less than one frame, is stowed: a header cut short
in ``_header``, a payload cut short in ``_body``, which is the memory of the final ``bytes``. The next chunk first
resumes that frame; the rest of it is parsed where it lies again::

    chunk ──> _resume ─────────> cut ────────> _stow
              finish the         the whole     keep the rest
              stowed frame       frames        for next time

Rules that hold here and in ``_core_c.pyx``, which has the same classes, methods and order:

- A header is a function of its bytes alone, so no result depends on chunking. An error that shows in the middle of a
  header shows at the same byte for every chunking.
- A length is compared with the limit before anything is done with it. Memory is reserved for bytes that came, not for
  bytes that were promised: at most max(64 KiB, 2 x received).
- What is handed out is ``bytes`` that nobody else can write to.
- An error waits until the payloads before it are out, and then stays.
- ``_busy`` is set while a method runs, because the code of a caller's buffer can call back.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from io import BytesIO
from operator import index
from typing import TYPE_CHECKING, Any, NoReturn, overload

from ._wire import COMMA, FORMATS, DelimitedFormat, Format, Refused, contiguous, flat, no_comma, refusal
from .errors import HEAD_SIZE, IncompleteFrame
from .spec import DEFAULT_MAX_SIZE, Spec, resolve

if TYPE_CHECKING:
    from ._wire import BytesLike

WINDOW_SIZE = 64 * 1024
"""Bytes in a window; also what may be reserved for a frame before its bytes have come."""

DIRECT_WINDOW_SIZE = 256 * 1024
"""Bytes in a window over a payload, unless the hint asks for more: longer reads leave the caches."""

SHORT_BODY = 256
"""Bytes reserved for a short payload whose delimiter is still to come."""


class Stream:
    """What the decoders have in common: the gate, the error, the payload on its way, and the window."""

    __slots__ = (
        "__weakref__",
        "_body",
        "_busy",
        "_ended",
        "_error",
        "_frame_offset",
        "_moved",
        "_received",
        "_scratch",
        "_window",
        "_window_size",
    )

    def __init__(self) -> None:
        self._busy = False
        self._moved = 0  # bytes copied so far: the tests count them
        self._scratch: bytearray | None = None
        self._window: memoryview | None = None
        self._window_size = 0
        self._clear()

    def _clear(self) -> None:
        self._received = 0  # bytes of the stream so far
        self._frame_offset = 0  # where in the stream the unfinished frame begins
        self._error: Exception | None = None
        self._ended = False
        self._drop()

    def _drop(self) -> None:
        """Forget the unfinished frame."""
        self._body: _Body | None = None  # what has come of a payload

    @property
    def error(self) -> Exception | None:
        """What ended the stream, as soon as it is known: a `FramingError`, or a MemoryError that lost bytes.
        None while all is well."""
        return self._error

    @property
    def buffered_size(self) -> int:
        """Bytes that have come of the unfinished frame, its header included."""
        return self._received - self._frame_offset

    def reset(self) -> None:
        """Begin a new stream: forget what was received, the error and the end."""
        if self._busy:
            self._enter()
        self._busy = True
        # Code of others may run when these go (a callback of a weak reference, the locals of a traceback): at the end.
        window, self._window = self._window, None
        error, self._error = self._error, None
        if window is not None:
            with suppress(BufferError):
                window.release()
        self._scratch = None
        self._clear()
        self._busy = False
        del window, error

    def __sizeof__(self) -> int:
        """Bytes of memory in use, what is reserved for frames included."""
        size = object.__sizeof__(self)
        if self._body is not None:
            size += self._body.capacity
        if self._scratch is not None:
            size += len(self._scratch)
        return size

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"cannot pickle {type(self).__name__!r}: it holds a part of a stream")

    def _enter(self) -> None:
        """The gate of every method: one call at a time, none after the end."""
        if self._busy:
            raise RuntimeError("a call from inside a call of the same decoder, or from another thread")
        self._raise_error()
        if self._ended:
            raise RuntimeError("the stream has ended: feed_eof() was called; reset() begins a new one")
        self._busy = True

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error.with_traceback(None)

    def _fail(self, error: Exception) -> None:
        self._drop()
        self._frame_offset = self._received
        self._error = error

    def _flat(self, chunk: BytesLike) -> bytes:
        data = flat(chunk)
        if data is not chunk:
            self._moved += len(data)
        return data

    def _lend(self, body: _Body | None, wanted: int, most: int) -> memoryview:
        """A window over the payload on its way, of at most `most` bytes, or if that is None over scratch memory."""
        if body is not None:
            moved, view = body.window(min(wanted if wanted > 0 else DIRECT_WINDOW_SIZE, most))
            self._moved += moved
            self._scratch = None
        else:
            if self._scratch is None:
                self._scratch = bytearray(WINDOW_SIZE)
            view = memoryview(self._scratch)[: wanted if 0 < wanted < WINDOW_SIZE else WINDOW_SIZE]
        self._window = view
        self._window_size = len(view)
        return view

    def _lent(self, n: int) -> int:
        """How many of the window's bytes were received, if that makes sense."""
        n = index(n)
        if self._window is None:
            raise RuntimeError("buffer_updated() without a window: call get_buffer() first")
        if not 0 <= n <= self._window_size:
            raise ValueError(f"n={n} bytes cannot have come into a window of {self._window_size} bytes")
        return n

    def _take_back(self) -> None:
        """End the lease of the window, so that nobody else can write to the payload on its way."""
        if self._window is not None:
            with suppress(BufferError):
                self._window.release()
            self._window = None
            if self._body is not None:
                self._moved += self._body.settle()

    def _scratched(self, n: int) -> bytes:
        """`n` bytes that were received into scratch memory, which is taken back."""
        full = n == self._window_size
        self._take_back()
        assert self._scratch is not None
        data = bytes(memoryview(self._scratch)[:n])
        self._moved += n
        if not full:
            self._scratch = None  # the stream has fallen quiet: give the memory back
        return data


class Decoder(Stream):
    r"""Turns a stream of bytes into payloads.

    >>> decoder = Decoder("ascii10")
    >>> decoder.feed(b"5         hello6         wor")
    [b'hello']
    >>> decoder.feed(b"ld!")
    [b'world!']

    The result is the same for every chunking. When a header is bad, the payloads before it come out first; then every
    call raises the same error, and `error` shows it at once. A decoder is for one thread at a time, and a call from
    inside one of its own calls is a `RuntimeError`.

    Args:
        spec: A wire format, or its name (see `framewire.spec`).
        max_size: Most bytes that may follow a header, checked on the header; most bytes before a delimiter.
            16 MiB unless given; None lifts the limit.

    Raises:
        ValueError, TypeError: If the format or the limit makes no sense.
    """

    __slots__ = (
        "_format",
        "_header",
        "_max_size",
        "_missing",
        "_origin",
        "_scanned",
        "_skip",
        "_spec",
    )

    def __init__(self, spec: Spec | str, *, max_size: int | None = DEFAULT_MAX_SIZE) -> None:
        if hasattr(self, "_spec"):
            raise RuntimeError("a Decoder is made once; reset() begins a new stream")
        self._spec, limit = resolve(spec, max_size)
        self._max_size = max_size
        self._format = FORMATS[type(self._spec)](self._spec, limit)
        super().__init__()

    def _clear(self) -> None:
        self._origin = 0  # where in the stream the data now being parsed begins
        super()._clear()

    def _drop(self) -> None:
        super()._drop()  # the body is there once the header is whole
        self._header = bytearray()  # what has come of its header
        self._missing = 0  # bytes of the frame still to come after that
        self._skip = 0  # bytes at the front of these that are not part of the payload
        self._scanned = 0  # no delimiter begins before this byte of the payload

    @property
    def spec(self) -> Spec:
        """The wire format."""
        return self._spec

    @property
    def max_size(self) -> int | None:
        """The limit, as it was given."""
        return self._max_size

    @property
    def needed_size(self) -> int:
        """Bytes that must still come before there can be a payload, as far as it is known: the rest of the header, then
        the rest of the frame. Reading so many at a time never reads past a frame. 0 once the stream is over."""
        if self._error is not None or self._ended:
            return 0
        return self._missing_size() or 1

    def feed(self, chunk: BytesLike, /) -> list[bytes]:
        """Take a chunk of the stream; return the payloads that it completes.

        Args:
            chunk: Any contiguous bytes-like object, of any size. It is not kept.

        Returns:
            The payloads in order, often none. Each is a ``bytes`` of its own.

        Raises:
            HeaderError, FrameTooLarge: When every payload before the bad header is out.
            RuntimeError: After `feed_eof`.
        """
        self._enter()
        try:
            data = self._flat(chunk)
            payloads: list[bytes] = []
            self._advance(data, payloads, lambda data, pos: self._cut(data, pos, payloads))
            if not payloads:
                self._raise_error()
            return payloads
        finally:
            self._busy = False

    def get_buffer(self, hint: int = -1) -> memoryview:
        """Lend a window to receive into: ``n = sock.recv_into(decoder.get_buffer())``, then `buffer_updated`.

        A payload over 64 KiB is received where its final ``bytes`` will be. `buffer_updated` takes the window back and
        releases it; a slice of it that is kept costs a copy, and never changes a payload. The names and rules are those
        of ``asyncio.BufferedProtocol``.

        Args:
            hint: Most bytes wanted; -1 leaves the size to the decoder.

        Returns:
            A writable ``memoryview``, never empty, valid until the next call of any method. Its content is undefined.

        Raises:
            HeaderError, FrameTooLarge, RuntimeError: As `feed`.
        """
        self._enter()
        try:
            wanted = index(hint)
            self._take_back()
            body = self._body
            if body is not None and (body.size is None or not body.have < body.size > WINDOW_SIZE or self._skip):
                body = None
            return self._lend(body, wanted, sys.maxsize)
        finally:
            self._busy = False

    def buffer_updated(self, n: int, /) -> list[bytes]:
        """Say that `n` bytes were received into the window; return the payloads that they complete.

        Raises:
            ValueError: If `n` is negative or more than the window holds; the window stays lent.
            HeaderError, FrameTooLarge, RuntimeError: As `feed`; RuntimeError if no window is lent.
        """
        self._enter()
        try:
            n = self._lent(n)
            payloads: list[bytes] = []
            if self._scratch is None:
                assert self._body is not None
                self._body.have += n
                self._take_back()
                self._received += n
                self._missing -= n
                if not self._missing:
                    payloads.append(self._finish())
                    self._frame_offset = self._received
            else:
                self._advance(self._scratched(n), payloads, lambda data, pos: self._cut(data, pos, payloads))
            if not payloads:
                self._raise_error()
            return payloads
        finally:
            self._busy = False

    def feed_spans(self, chunk: BytesLike, /) -> Spans:
        """Take a chunk of the stream; return where the payloads lie that it completes.

        As `feed`, but with no object for each payload. The spans lie over `chunk` itself if it is ``bytes``, which they
        keep alive, else over a copy of it.

        Raises:
            HeaderError, FrameTooLarge, RuntimeError: As `feed`.
        """
        self._enter()
        try:
            carried: list[bytes] = []
            spans = _spans(b"", array("q"), array("q"))
            self._advance(self._flat(chunk), carried, lambda data, pos: spans._find(self._format, data, pos))
            if carried:
                spans._carried = carried[0]
            if not spans:
                self._raise_error()
            return spans
        finally:
            self._busy = False

    def feed_eof(self) -> list[bytes]:
        r"""Say that the stream has ended.

        Returns:
            The payloads that only the end completes: none, except for `Delimited` where one delimiter begins another
            (``\r`` at the end, which might have become ``\r\n``). After such payloads look at `error`, or call again.

        Raises:
            IncompleteFrame: If the stream ended inside a frame.
            HeaderError, FrameTooLarge: As `feed`.
        """
        if self._ended and not self._busy and self._error is None:
            return []
        self._enter()
        try:
            self._take_back()
            self._scratch = None
            payloads: list[bytes] = []
            if isinstance(self._format, DelimitedFormat) and self._body is not None:
                data = self._body.finish()
                base = self._origin = self._frame_offset
                scanned = self._scanned
                self._drop()
                try:
                    pos, scanned = self._format.cut(data, 0, payloads, scanned, final=True)
                    self._frame_offset = base + pos
                    if pos < len(data):
                        self._stow(data, pos, scanned)
                except Refused as refused:
                    self._refuse(refused)
            if self._error is None:
                if self.buffered_size:
                    self._fail(self._incomplete())
                self._ended = True
            if not payloads:
                self._raise_error()
            return payloads
        finally:
            self._busy = False

    def __sizeof__(self) -> int:
        """Bytes of memory in use, what is reserved for frames included."""
        return super().__sizeof__() + len(self._header)

    def __repr__(self) -> str:
        return f"Decoder({self._spec!r}, max_size={self._max_size})"

    def _advance(self, data: bytes, carried: list[bytes], extract: Callable[[bytes, int], tuple[int, int]]) -> None:
        """Run `data` through the three steps. `extract` takes what stands whole in it from a position on, and returns
        where it stopped, and up to where it has looked for a delimiter."""
        self._take_back()
        self._received += len(data)
        try:
            self._origin = self._frame_offset
            data, pos = self._resume(data, carried)
            if self._header or self._body is not None:
                return
            self._origin = self._received - len(data)
            pos, scanned = extract(data, pos)
            self._frame_offset = self._origin + pos
            if pos < len(data):
                self._stow(data, pos, scanned)
        except Refused as refused:
            self._refuse(refused)
        except MemoryError as error:
            self._fail(error)  # bytes are lost: to go on would be to be wrong about the next boundary
            raise

    def _cut(self, data: bytes, pos: int, payloads: list[bytes]) -> tuple[int, int]:
        stop, scanned = self._format.cut(data, pos, payloads)
        self._moved += stop - pos
        return stop, scanned

    def _resume(self, data: bytes, carried: list[bytes]) -> tuple[bytes, int]:
        """Go on with the stowed frame; return the data to go on with, and where in it that frame ends."""
        if self._body is not None and isinstance(self._format, DelimitedFormat):
            return self._resume_delimited(self._body, self._format, data, carried)
        pos = 0
        if self._body is None:
            have = len(self._header)
            if not have:
                return data, 0
            missing = self._format.header_missing(self._header)
            if missing is not None and missing > len(data):
                self._header += data
                self._moved += len(data)
                return data, len(data)
            header = bytes(self._header) + data[: self._format.room]
            found = self._format.header(header, 0, len(header))
            if found is None:
                self._header += data
                self._moved += len(data)
                return data, len(data)
            pos = found[0] - have
            self._begin(header[: found[0]], *found)
        pos = self._fill(data, pos)
        if not self._missing:
            carried.append(self._finish())
        return data, pos

    def _resume_delimited(
        self, body: _Body, wire: DelimitedFormat, data: bytes, carried: list[bytes]
    ) -> tuple[bytes, int]:
        """`_resume` for delimiters: one may begin in what is stowed and end in `data`, so the seam is searched first,
        then `data` by itself. What was searched before is not searched again."""
        tail = body.peek(self._scanned)
        seam = tail + data[: wire.longest - 1]
        begins, size = wire.find(seam, 0, len(seam))
        if begins >= len(tail):
            begins, size = wire.find(data, 0, len(data))
            begins += len(tail)
        payload_size = self._scanned + begins
        if payload_size > wire.limit:
            raise Refused(0, body.peek(0, HEAD_SIZE) + data[:HEAD_SIZE])
        if not size:
            self._moved += body.write(memoryview(data))
            self._scanned = payload_size
            return data, len(data)
        stop = begins + size - len(tail)
        if wire.keep:
            payload_size += size
        if payload_size > body.have:
            self._moved += body.write(memoryview(data)[: payload_size - body.have])
        body.have = payload_size
        carried.append(self._finish())
        if stop >= 0:
            return data, stop
        # A long delimiter might have begun there, but it was a short one: behind that the tail has bytes to give back.
        data = tail[stop:] + data
        self._moved += len(data)
        return data, 0

    def _stow(self, data: bytes, pos: int, scanned: int) -> None:
        """Keep the rest of `data`, which begins a frame that it does not finish."""
        if isinstance(self._format, DelimitedFormat):
            self._body = _Body(None)
            self._moved += self._body.write(memoryview(data)[pos:])
            self._scanned = scanned - pos
            return
        found = self._format.header(data, pos, len(data))
        if found is None:
            self._header += data[pos:]
            self._moved += len(data) - pos
            return
        self._begin(data[pos : pos + found[0]], *found)
        self._fill(data, pos + found[0])

    def _begin(self, header: bytes, header_size: int, size: int) -> None:
        """The header is whole: what follows belongs to the payload."""
        strip = header_size if self._format.strip is None else self._format.strip
        self._header = bytearray(header)
        self._missing = size + len(self._format.trailer)
        self._skip = max(strip - header_size, 0)
        self._body = _Body(header_size + size - strip)
        if strip < header_size:
            self._moved += self._body.write(memoryview(header)[strip:])

    def _fill(self, data: bytes, pos: int) -> int:
        """Move the bytes of the stowed frame out of `data`; return where they end."""
        body = self._body
        assert body is not None
        assert body.size is not None
        stop = pos + min(len(data) - pos, self._missing)
        self._missing -= stop - pos
        skipped = min(self._skip, stop - pos)
        self._skip -= skipped
        pos += skipped
        payload_stop = min(stop, pos + body.size - body.have)
        if payload_stop > pos:
            self._moved += body.write(memoryview(data)[pos:payload_stop])
        if payload_stop < stop and data[payload_stop] != COMMA:
            head = bytes(self._header) + body.peek(0, HEAD_SIZE) + data[payload_stop:stop]
            raise Refused(0, head, no_comma(body.size))
        return stop

    def _finish(self) -> bytes:
        """The stowed frame is whole: hand out its payload."""
        assert self._body is not None
        payload = self._body.finish()
        self._drop()
        return payload

    def _missing_size(self) -> int | None:
        """Bytes still to come in the part of the frame that is being received; None where nothing tells."""
        if self._body is None:
            return self._format.header_missing(self._header)
        return self._missing or None

    def _refuse(self, refused: Refused) -> None:
        self._fail(refusal(refused, self._format.limit, self._origin))

    def _incomplete(self) -> IncompleteFrame:
        part, head = "header", bytes(self._header)
        if self._body is not None:
            part = "payload"
            if self._format.strip is None:
                head += self._body.peek(0, HEAD_SIZE)
        return IncompleteFrame(part, self.buffered_size, self._missing_size(), self._frame_offset, head[:HEAD_SIZE])


class Spans:
    """Where payloads lie: offsets and lengths over one owner, with no object for each payload.

    >>> spans = Decoder("u8").feed_spans(b"\x03one\x03two")
    >>> len(spans), bytes(spans[1]), spans.tolist()
    (2, b'two', [b'one', b'two'])
    >>> spans.offsets.tolist(), spans.lengths.tolist()
    ([1, 5], [3, 3])

    Made by `Decoder.feed_spans`. It owns its memory (the chunk, if that was ``bytes``), and so does each view of it.
    A payload that began in an earlier chunk stands first. It is joined with the rest only when `data`, `offsets`,
    `lengths` or a slice is first asked for, so that indexing, iteration and `tolist` never copy the chunk.
    """

    __slots__ = ("_carried", "_data", "_lengths", "_offsets", "_view")

    _carried: bytes | None
    _data: bytes
    _lengths: array[int]
    _offsets: array[int]

    def __init__(self) -> None:
        raise TypeError("Spans are made by Decoder.feed_spans()")

    @property
    def data(self) -> memoryview:
        """The owner, as bytes that `offsets` point into. Read-only."""
        self._join()
        return memoryview(self._data)

    @property
    def offsets(self) -> memoryview:
        """Where each payload begins in `data`: 64-bit integers (format ``q``), read-only."""
        self._join()
        return memoryview(self._offsets).toreadonly()

    @property
    def lengths(self) -> memoryview:
        """How many bytes each payload has: 64-bit integers (format ``q``), read-only."""
        self._join()
        return memoryview(self._lengths).toreadonly()

    def tolist(self) -> list[bytes]:
        """Every payload as ``bytes`` of its own."""
        data = self._data
        cut = [data[offset : offset + length] for offset, length in zip(self._offsets, self._lengths, strict=True)]
        return cut if self._carried is None else [self._carried, *cut]

    def __len__(self) -> int:
        return len(self._lengths) + (self._carried is not None)

    @overload
    def __getitem__(self, key: int, /) -> memoryview: ...
    @overload
    def __getitem__(self, key: slice, /) -> Spans: ...
    def __getitem__(self, key: int | slice, /) -> memoryview | Spans:
        """One payload as a read-only view, or the spans of a slice."""
        if isinstance(key, slice):
            picked = range(len(self))[key]  # looks at the bounds once: their __index__ is the code of others
            self._join()
            offsets = array("q", [self._offsets[i] for i in picked])
            return _spans(self._data, offsets, array("q", [self._lengths[i] for i in picked]))
        i = index(key)
        count = len(self)
        if i < 0:
            i += count
        if not 0 <= i < count:
            raise IndexError(f"index {index(key)} is out of range for {count} spans")
        if self._carried is not None:
            if i == 0:
                return memoryview(self._carried)
            i -= 1
        offset = self._offsets[i]
        return memoryview(self._data)[offset : offset + self._lengths[i]]

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle 'Spans': they lie over a chunk; tolist() can be")

    def __iter__(self) -> Iterator[memoryview]:
        for i in range(len(self)):
            yield self[i]

    def __repr__(self) -> str:
        return f"<Spans of {len(self)} payloads, {sum(self._lengths) + len(self._carried or b'')} bytes>"

    def _find(self, wire: Format, data: bytes, pos: int) -> tuple[int, int]:
        """Fill in the places of what stands whole in ``data[pos:]``."""
        starts: list[int] = []
        stops: list[int] = []
        self._data = data
        try:
            return wire.scan(data, pos, starts, stops)
        finally:
            self._offsets = array("q", starts)
            self._lengths = array("q", [stop - start for start, stop in zip(starts, stops, strict=False)])

    def _join(self) -> None:
        if self._carried is not None:
            shift = len(self._carried)
            self._data = self._carried + self._data
            self._offsets = array("q", [0, *(offset + shift for offset in self._offsets)])
            self._lengths = array("q", [shift, *self._lengths])
            self._carried = None


def _spans(data: bytes, offsets: array[int], lengths: array[int]) -> Spans:
    spans = Spans.__new__(Spans)
    spans._carried = None
    spans._data = data
    spans._offsets = offsets
    spans._lengths = lengths
    return spans


class Encoder:
    r"""Turns payloads into frames. It keeps nothing from one call to the next.

    >>> encoder = Encoder("ascii10")
    >>> encoder.encode(b"hello")
    b'5         hello'
    >>> encoder.encode_many([b"one", b"two"])
    b'3         one3         two'

    A payload is any contiguous bytes-like object; encode text first, the length counts bytes. What a decoder of the
    same format and limit would not give back is refused, and then nothing is written.

    Args:
        spec: A wire format, or its name (see `framewire.spec`).
        max_size: Most bytes in a payload (that follow the header, where ``adjust`` is in use). 16 MiB unless given;
            None leaves the limit to the format.

    Raises:
        ValueError, TypeError: If the format or the limit makes no sense, or if the format cannot be written: a
            `LengthField` whose ``strip`` is not its header, or a first delimiter that begins another.
    """

    __slots__ = ("__weakref__", "_format", "_max_size", "_spec")

    def __init__(self, spec: Spec | str, *, max_size: int | None = DEFAULT_MAX_SIZE) -> None:
        if hasattr(self, "_spec"):
            raise RuntimeError("an Encoder is made once")
        self._spec, limit = resolve(spec, max_size)
        self._max_size = max_size
        self._format = FORMATS[type(self._spec)](self._spec, min(limit, self._spec.largest()))
        self._format.check_writable()

    @property
    def spec(self) -> Spec:
        """The wire format."""
        return self._spec

    @property
    def max_size(self) -> int | None:
        """The limit, as it was given."""
        return self._max_size

    def encode(self, payload: BytesLike, /) -> bytes:
        """The frame of one payload.

        Raises:
            FrameTooLarge: If the payload is over the limit, or over what the length field can hold.
            ValueError: If the format cannot carry this payload (a delimiter in it, a size other than the fixed one).
        """
        data = payload if type(payload) is bytes else contiguous(payload)
        return b"".join((self._format.prefix(data), data, self._format.trailer))

    def encode_many(self, payloads: Iterable[BytesLike], /) -> bytes:
        """The frames of many payloads, one behind the other in one ``bytes``.

        Raises:
            FrameTooLarge, ValueError: As `encode`, for the first payload that cannot be sent; nothing is written.
        """
        wire = self._format
        parts: list[bytes] = []
        for payload in payloads:
            data = payload if type(payload) is bytes else contiguous(payload)
            parts.append(wire.prefix(data))
            parts.append(data if type(data) is bytes else bytes(data))  # it may be changed before the next is drawn
            if wire.trailer:
                parts.append(wire.trailer)
        return b"".join(parts)

    def encode_parts(self, payload: BytesLike, /) -> tuple[BytesLike, ...]:
        """The frame in parts, for ``sock.sendmsg(parts)``: a large payload is never copied.

        Returns:
            The header and the payload: the very object, which must not change until it is sent. `Netstring` and
            `Delimited` have a third part behind the payload. Empty parts are left out, but never the payload.
        """
        wire = self._format
        header = wire.prefix(payload if type(payload) is bytes else contiguous(payload))
        if wire.trailer:
            return (header, payload, wire.trailer) if header else (payload, wire.trailer)
        return (header, payload) if header else (payload,)

    def encode_into(self, payload: BytesLike, buffer: BytesLike, offset: int = 0) -> int:
        """Write the frame of one payload into `buffer` at `offset`.

        The payload may lie in the same buffer: put it where it will stand, behind the header, and nothing moves.

        Returns:
            The bytes written.

        Raises:
            ValueError: If the frame does not fit, or as `encode`; nothing is written.
            BufferError: If `buffer` is read-only.
        """
        data = contiguous(payload)
        room = contiguous(buffer)
        if room.readonly:
            raise BufferError("encode_into() needs a writable buffer")
        offset = index(offset)
        header, trailer = self._format.prefix(data), self._format.trailer
        size = len(header) + len(data) + len(trailer)
        if not 0 <= offset <= len(room) - size:
            raise ValueError(f"a frame of {size} bytes does not fit at offset={offset} into {len(room)} bytes")
        start = offset + len(header)
        stop = start + len(data)
        room[start:stop] = data
        room[offset:start] = header
        room[stop : stop + len(trailer)] = trailer
        return size

    def __reduce__(self) -> tuple[Any, ...]:
        return _encoder, (type(self), self._spec, self._max_size)

    def __repr__(self) -> str:
        return f"Encoder({self._spec!r}, max_size={self._max_size})"


def _encoder(kind: type[Encoder], spec: Spec, max_size: int | None) -> Encoder:
    return kind(spec, max_size=max_size)


class _FinalMemory(BytesIO):
    """A ``BytesIO`` that goes quietly: from CPython 3.13 on the collector complains of one that still has views."""

    __slots__ = ()

    def close(self) -> None:
        with suppress(BufferError):
            super().close()


class _PlainMemory:
    """What `_Body` needs of a ``BytesIO``, over a ``bytearray``: for PyPy.

    The views of PyPy's own have no address, and so ``SSLSocket.recv_into`` refuses them. The price is a copy of every
    payload at its end, which PyPy's own makes as well.
    """

    __slots__ = ("_bytes", "_position")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._position = 0

    def seek(self, position: int) -> None:
        self._position = position

    def write(self, data: bytes | memoryview) -> None:
        stop = self._position + len(data)
        if stop > len(self._bytes):
            self._bytes += bytes(stop - len(self._bytes))
        self._bytes[self._position : stop] = data
        self._position = stop

    def read(self, size: int) -> bytes:
        with memoryview(self._bytes) as whole, whole[self._position : self._position + size] as part:
            return bytes(part)

    def truncate(self, size: int) -> None:
        self._bytes.append(0)  # a BufferError while there are views, even if there is nothing to cut off
        del self._bytes[size:]

    def getbuffer(self) -> memoryview:
        return memoryview(self._bytes)

    def getvalue(self) -> bytes:
        return bytes(self._bytes)


_Memory: type[_FinalMemory] | type[_PlainMemory] = _PlainMemory if sys.implementation.name == "pypy" else _FinalMemory


class _Body:
    """A payload on its way, in the memory of its final ``bytes``.

    ``BytesIO`` is what makes this possible in CPython: ``getbuffer()`` lends its memory, and ``getvalue()`` hands the
    same memory out as ``bytes``. While a view of it lives, it refuses to resize (`BufferError`).
    """

    __slots__ = ("_memory", "capacity", "have", "size")

    def __init__(self, size: int | None) -> None:
        self.size = size  # of the whole payload; None where only a delimiter will tell
        self.have = 0
        self.capacity = 0
        self._memory = _Memory()

    def write(self, data: memoryview) -> int:
        """Append `data`; return how many bytes were copied."""
        coming = self.have + len(data)
        moved = self._reserve(coming) if coming > self.capacity else 0
        self._memory.seek(self.have)
        self._memory.write(data)
        self.have = coming
        return moved + len(data)

    def window(self, wanted: int) -> tuple[int, memoryview]:
        """A view of the memory behind what has come, for at most `wanted` bytes; and how many bytes were copied."""
        needed = self.have + 1 if self.size is not None else max(self.have, SHORT_BODY) + 1
        moved = self._reserve(needed) if self.have == self.capacity else 0
        stop = min(self.capacity, self.have + wanted)
        with self._memory.getbuffer() as whole:  # released here and not by the collector, which PyPy lets take its time
            return moved, whole[self.have : stop]

    def settle(self) -> int:
        """Make sure that nobody else can write to what has come; return how many bytes were copied.

        If somebody has kept a slice of a window, the memory is left to it, and the payload goes on with a copy.
        """
        try:
            self._memory.truncate(self.capacity)
        except BufferError:
            have = self.peek(0)
            self._memory = _Memory()
            self._resize(self.capacity)
            self._memory.seek(0)
            self._memory.write(have)
            return len(have)
        return 0

    def peek(self, start: int, size: int = sys.maxsize) -> bytes:
        """A copy of what has come, from `start` on."""
        self._memory.seek(start)
        return self._memory.read(min(self.have - start, size))

    def finish(self) -> bytes:
        """What has come, as ``bytes``."""
        self._memory.truncate(self.have)
        return self._memory.getvalue()

    def _reserve(self, needed: int) -> int:
        """Make room for `needed` bytes, and some more; return how many bytes that may have copied.

        At most 64 KiB are reserved, or less than twice what has come. The steps are halves of the size, so that growing
        moves each byte at most once in all.
        """
        capacity = self.size
        if capacity is None:
            capacity = SHORT_BODY if needed <= SHORT_BODY else WINDOW_SIZE if needed <= WINDOW_SIZE else 2 * needed
        else:
            while capacity > WINDOW_SIZE and (capacity + 1) // 2 >= needed:
                capacity = (capacity + 1) // 2
        self._resize(capacity)
        return self.have

    def _resize(self, capacity: int) -> None:
        self._memory.seek(capacity - 1)
        self._memory.write(b"\0")
        self.capacity = capacity
