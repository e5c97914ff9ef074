"""Twisted's string and line receivers on framewire's decoder: change one import line.

::

    from twisted.protocols.basic import Int32StringReceiver     # before
    from framewire.dropin.twisted import Int32StringReceiver    # after

Each class is a subclass of the one whose name it has, with the same bytes on the wire, attributes, hooks and errors
(`twisted.protocols.basic`, Twisted 24 to 26). What a chunk holds is cut in one call of the core instead of message by
message, and a message that comes in many chunks is collected in linear time, where the host copies all of it for each.

What differs, on purpose:

- The host's private attributes (``_buffer``, ``_unprocessed``, ``_remainingData``, ...) are not kept up.
- After `lengthLimitExceeded`, an error in `stringReceived`, or a call of ``dataReceived`` from inside it (which
  ``resumeProducing`` makes), the host's length-prefixed receivers deliver messages of that chunk a second time. These
  never do; a call from inside waits for its turn.
- ``recvd`` takes effect wherever it is assigned; in the host only inside `stringReceived`.
- A signed length that is negative counts as one over the limit.
- `NetstringReceiver` refuses a newline behind the digits at once, the host with the byte after it; and a ``MAX_LENGTH``
  of 0 is a limit, not a math error.

How it works. Cutting runs ahead of the callbacks, and a callback may pause, change the mode, the limit or the
delimiter, or take what is left. So a batch remembers where it was cut from: what was not delivered is counted back, and
cut again when its turn comes. A receiver whose callbacks do that often cuts less far ahead (`_Inbox.reach`), so that
the work stays linear.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from operator import length_hint
from struct import calcsize, pack, unpack
from typing import TYPE_CHECKING, Any, Literal

from .._core import CORE, Decoder
from ..spec import MAX_DELIMITER_SIZE, Delimited, LengthField, Netstring, Spec
from . import _versions
from ._patch import Patch

if TYPE_CHECKING:
    Window = bytes | bytearray | memoryview

__all__ = [
    "SEAMS",
    "VERSIONS",
    "Int8StringReceiver",
    "Int16StringReceiver",
    "Int32StringReceiver",
    "IntNStringReceiver",
    "LineOnlyReceiver",
    "LineReceiver",
    "NetstringReceiver",
    "StringTooLongError",
    "install",
    "installed",
    "patched",
    "uninstall",
]

VERSIONS = _versions.TWISTED
"""The versions of Twisted, first and last, that this module is known to fit."""

SEAMS = ("protocols.basic",)
"""Where `install` replaces the receivers."""

basic: Any = import_module("twisted.protocols.basic")  # Any: its types are not there wherever ours are checked

StringTooLongError = basic.StringTooLongError
"""The host's own: an AssertionError, raised by ``sendString``."""

FAR = 256 * 1024
"""Most bytes cut ahead of the callbacks, unless a single frame is larger."""

SHORT = 256
"""Bytes of lines that are not worth a call of the core."""

NEAR = 512
"""Bytes cut ahead after a callback has stopped the one before; doubled by each that is not stopped."""


class _Cutter:
    """Cuts what stands whole at the front of some bytes. `overhead` is what a frame has beside its payload."""

    __slots__ = ("decoder", "overhead")

    def __init__(self, spec: Spec, overhead: int) -> None:
        self.decoder = Decoder(spec, max_size=None)  # the receiver looks at the sizes, with the limit of that moment
        self.overhead = overhead

    def cut(self, window: Window) -> tuple[list[bytes], int]:
        """The payloads, and how many bytes their frames take. The first frame is known to be whole and good."""
        decoder = self.decoder
        try:
            payloads: list[bytes] = decoder.feed(window)
            error: Any = decoder.error  # it waits for its turn, when that frame is the first
            return payloads, len(window) - decoder.buffered_size if error is None else error.offset
        finally:
            decoder.reset()

    def size(self, payloads: list[bytes]) -> int:
        """Bytes in the frames of these payloads."""
        return sum(map(len, payloads)) + self.overhead * len(payloads)


class _NetstringCutter(_Cutter):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(Netstring(), 2)

    def size(self, payloads: list[bytes]) -> int:
        return super().size(payloads) + sum(len(str(len(payload))) for payload in payloads)


class _LineCutter(_Cutter):
    """Lines by the compiled core; by ``bytes.split`` where that is faster, and for delimiters that no core takes."""

    __slots__ = ("delimiter", "short")

    def __init__(self, delimiter: bytes) -> None:
        self.delimiter = delimiter
        self.overhead = len(delimiter)
        self.short = sys.maxsize  # windows up to this size are split
        if CORE == "c" and len(delimiter) <= MAX_DELIMITER_SIZE:
            super().__init__(Delimited(delimiter), len(delimiter))
            self.short = SHORT

    def cut(self, window: Window) -> tuple[list[bytes], int]:
        if len(window) > self.short:
            return super().cut(window)
        lines = bytes(window).split(self.delimiter)
        return lines, len(window) - len(lines.pop())


@lru_cache(maxsize=64)
def _length_field(fmt: str, prefix: int) -> LengthField | None:
    """The wire format of a ``structFormat``; None if it is no plain unsigned length of this size."""
    if re.fullmatch(r"[@=<>!]?[BHILQN]", fmt) is None or calcsize(fmt) != prefix:
        return None
    order: Literal["big", "little"] = "big" if pack(fmt, 1)[-1] == 1 else "little"
    return LengthField(prefix, order)


class _Inbox:
    """What a receiver has taken in and not yet passed on: ``data[pos:]``, then `late`.

    ::

        chunk ──> data   delivered | cut ahead | the rest          while a chunk is worked on, or paused
                         0        pos         end
        chunk ──> late   what came meanwhile; between chunks, the beginning of a frame

    A frame that comes in many chunks grows in `late`, and is looked at again when `needed` bytes are there.
    """

    __slots__ = (
        "broken",
        "busy",
        "counted",
        "cutter",
        "data",
        "end",
        "key",
        "late",
        "left",
        "length",
        "needed",
        "payloads",
        "pos",
        "reach",
        "returned",
        "scanned",
    )

    def __init__(self) -> None:
        self.data: bytes | bytearray = b""
        self.pos = 0
        self.late = bytearray()
        self.busy = False  # callbacks are being made
        self.broken = False  # a comma was missing: nothing that follows is a netstring
        self.needed = 0  # bytes of the frame in `late`, if they are known; only while `data` is empty
        self.length: Any = 0  # what its header says
        self.scanned = 0  # no delimiter begins before this byte of `late`
        self.key: object = None  # what `cutter` was made for
        self.cutter: Any = None
        self.reach = FAR  # bytes to cut ahead
        self.payloads: list[bytes] = []  # the batch: what was cut ahead
        self.left: Iterator[bytes] = iter(())  # of these, what no callback has got yet
        self.returned = 0  # 1 if the last one drawn from `left` was not delivered
        self.counted = 0  # payloads at the front of the batch that `pos` is already behind
        self.end = 0  # where the batch ends

    def cut(self, first: int) -> Iterator[bytes]:
        """Cut a batch from `pos` on, where a whole frame of `first` bytes stands."""
        data, pos = self.data, self.pos
        stop = pos + max(first, self.reach)
        if pos == 0 and stop >= len(data):
            payloads, used = self.cutter.cut(data)
        else:
            with memoryview(data) as view, view[pos:stop] as window:
                payloads, used = self.cutter.cut(window)
        self.payloads, self.returned, self.counted, self.end = payloads, 0, 0, pos + used
        left: Iterator[bytes] = iter(payloads)
        self.left = left
        return left

    def place(self) -> int:
        """Move `pos` behind what was delivered, and return it."""
        if self.payloads:
            open_count = length_hint(self.left) + self.returned
            if not open_count:
                self.pos = self.end
            else:
                done = len(self.payloads) - open_count
                self.pos += self.cutter.size(self.payloads[self.counted : done])
                self.counted = done
        return self.pos

    def close(self) -> None:
        """End the batch: whoever draws from it finds it empty, and what was not delivered will be cut anew."""
        if self.payloads:
            self.place()
            self.reach = NEAR if length_hint(self.left) + self.returned else min(2 * self.reach, FAR)
            deque(self.left, maxlen=0)
            self.payloads = []
        if self.pos >= len(self.data):
            self.data = b""
            self.pos = 0

    def rest(self) -> bytes:
        """A copy of all that was not delivered."""
        with memoryview(self.data) as view, view[self.place() :] as part:
            return b"".join((part, self.late))

    def replace(self, data: bytes) -> bytes:
        """Put `data` in the place of all that was not delivered, and return that."""
        rest = self.rest()
        self.close()
        self.data = data
        self.pos = self.needed = self.scanned = 0
        self.late = bytearray()
        return rest

    def join(self) -> bool:
        """Bring everything together at the front of `data`, or, if nothing has come behind it, lay it by in `late`.

        Returns:
            Whether there is anything to look at again.
        """
        data, pos, late = self.data, self.pos, self.late
        self.pos = 0
        if late:
            if pos < len(data):
                with memoryview(data) as view, view[pos:] as part:
                    joined = bytearray(part)
                joined += late
                late = joined
            self.data, self.late = late, bytearray()
            return True
        if type(data) is bytearray and not pos:
            self.late = data
        else:
            with memoryview(data) as view, view[pos:] as part:
                self.late = bytearray(part)
        self.data = b""
        return False


def _part(data: bytes | bytearray, start: int, stop: int) -> bytes:
    if type(data) is bytes:
        return data[start:stop]
    with memoryview(data) as view, view[start:stop] as part:
        return bytes(part)


class IntNStringReceiver(basic.IntNStringReceiver):  # type: ignore[misc]
    r"""Strings behind a length of `prefixLength` bytes, packed as `structFormat` (``struct`` syntax).

    ::

        structFormat = "!H"     00 05 | hello

    Subclasses define these two, and `stringReceived`. ``MAX_LENGTH`` (of the class or of the receiver) is read for
    every message. While `paused` nothing is delivered, and what comes is kept.
    """

    _inbox: _Inbox | None = None

    @property
    def recvd(self) -> bytes:
        """All that has come and was not delivered, from the header of the next message on; a copy. What is assigned
        takes its place."""
        return b"" if self._inbox is None else self._inbox.rest()

    @recvd.setter
    def recvd(self, data: Window) -> None:
        if self._inbox is None:
            self._inbox = _Inbox()
        self._inbox.replace(bytes(data) if data else b"")  # AMP assigns ""

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Deliver the messages that `data` completes."""
        inbox = self._inbox
        if inbox is None:
            inbox = self._inbox = _Inbox()
        late = inbox.late
        if late or inbox.busy or inbox.data:
            late += data
            if inbox.busy or (len(late) < inbox.needed and inbox.length <= self.MAX_LENGTH):
                return
        else:
            inbox.data = data if type(data) is bytes else b"" + data
        inbox.needed = 0
        inbox.busy = True
        try:
            self._deliver(inbox)
        finally:
            inbox.close()
            inbox.busy = False

    def _deliver(self, inbox: _Inbox) -> None:
        fmt, prefix = self.structFormat, self.prefixLength
        while not self.paused:
            data, pos = inbox.data, inbox.pos
            end = len(data)
            start = pos + prefix
            stop, length = start, 0
            if start <= end:
                (length,) = unpack(fmt, data[pos:start])
                if length > self.MAX_LENGTH or length < 0:
                    self.lengthLimitExceeded(length)
                    return
                stop = start + length
            if stop > end or start > end:
                if inbox.join():
                    continue
                inbox.needed, inbox.length = stop - pos, length
                return
            if end - stop < prefix or not self._prepare(inbox, fmt, prefix):
                inbox.pos = stop
                self.stringReceived(_part(data, start, stop))
                continue
            for payload in inbox.cut(stop - pos):
                if self.paused or len(payload) > self.MAX_LENGTH:
                    inbox.returned = 1
                    break
                self.stringReceived(payload)
            inbox.close()

    def _prepare(self, inbox: _Inbox, fmt: str, prefix: int) -> bool:
        """Whether there is a cutter for this format."""
        if inbox.key != (fmt, prefix):
            inbox.key = (fmt, prefix)
            spec = _length_field(fmt, prefix)
            inbox.cutter = None if spec is None else _Cutter(spec, prefix)
        return inbox.cutter is not None


class Int32StringReceiver(IntNStringReceiver, basic.Int32StringReceiver):  # type: ignore[misc]
    """Strings behind a 32-bit length, big-endian: ``00 00 00 05 | hello``."""


class Int16StringReceiver(IntNStringReceiver, basic.Int16StringReceiver):  # type: ignore[misc]
    """Strings behind a 16-bit length, big-endian: ``00 05 | hello``."""


class Int8StringReceiver(IntNStringReceiver, basic.Int8StringReceiver):  # type: ignore[misc]
    """Strings behind a length of one byte: ``05 | hello``."""


_LENGTH = re.compile(rb"(0|[1-9][0-9]*)(:?)")


class NetstringReceiver(basic.NetstringReceiver):  # type: ignore[misc]
    """Netstrings: ``5:hello,``.

    What is no netstring, or is longer than ``MAX_LENGTH``, loses the connection and sets ``brokenPeer``. The limit is
    read for every message, when its length has come.
    """

    _inbox: _Inbox | None = None

    def makeConnection(self, transport: Any) -> None:  # noqa: N802
        """Begin with nothing received."""
        self._inbox = _Inbox()
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Deliver the netstrings that `data` completes."""
        inbox = self._inbox
        if inbox is None:
            inbox = self._inbox = _Inbox()
        late = inbox.late
        if inbox.busy:  # as in the host, a call from inside a callback delivers all there is before it returns
            inbox.close()
        if late or inbox.data:
            late += data
            if len(late) < inbox.needed:
                return
        else:
            inbox.data = data if type(data) is bytes else b"" + data
        outer = inbox.busy
        inbox.busy = True
        try:
            self._deliver(inbox)
        finally:
            inbox.close()
            inbox.busy = outer

    def _deliver(self, inbox: _Inbox) -> None:
        while inbox.late or inbox.pos < len(inbox.data):
            data, pos = inbox.data, inbox.pos
            if pos == len(data):
                inbox.join()
                continue
            head = None if inbox.broken else _LENGTH.match(data, pos)
            if head is None:
                self._handleParseError()
                return
            digits, colon = head.groups()
            accepted, inbox.needed = inbox.needed, 0
            length = int(digits) if len(digits) <= 19 else sys.maxsize  # as good as any other past every memory
            if not accepted and length > self.MAX_LENGTH:
                self._handleParseError()
                return
            start = head.end()
            stop = start + length + 1
            if not colon:
                if start < len(data):
                    self._handleParseError()
                    return
                if inbox.join():
                    continue
                return
            if stop > len(data):
                if not inbox.join():
                    inbox.needed = stop - pos
                    return
                inbox.needed = accepted
                continue
            if data[stop - 1] != 0x2C:
                inbox.broken = True
                inbox.pos = stop
                self._handleParseError()
                return
            if accepted or len(data) - stop < 3:
                inbox.pos = stop
                self.stringReceived(_part(data, start, stop - 1))
                continue
            if inbox.cutter is None:
                inbox.cutter = _NetstringCutter()
            for payload in inbox.cut(stop - pos):
                if len(payload) > self.MAX_LENGTH:
                    inbox.returned = 1
                    break
                self.stringReceived(payload)
            inbox.close()


class LineReceiver(basic.LineReceiver):  # type: ignore[misc]
    """Lines that end with `delimiter`, and bytes as they come in raw mode.

    ``delimiter``, ``MAX_LENGTH``, ``line_mode`` and ``paused`` are read for every line. A line over ``MAX_LENGTH`` goes
    to `lineLengthExceeded` with all that has come behind it, and nothing of that is kept.
    """

    _inbox: _Inbox | None = None

    def clearLineBuffer(self) -> bytes:  # noqa: N802
        """Forget all that was not delivered, and return it."""
        return b"" if self._inbox is None else self._inbox.replace(b"")

    def dataReceived(self, data: bytes) -> Any:  # noqa: N802
        """Deliver the lines that `data` completes, or the data itself in raw mode.

        Returns:
            What a callback has returned, if it was true and has stopped the delivery.
        """
        inbox = self._inbox
        if inbox is None:
            inbox = self._inbox = _Inbox()
        late = inbox.late
        if late or inbox.busy or inbox.data:
            late += data
            if inbox.busy:
                return None
            if not inbox.data and self.line_mode and inbox.key == self.delimiter:
                size, margin = len(late), len(self.delimiter)
                if size < self.MAX_LENGTH + margin and margin and late.find(self.delimiter, inbox.scanned) < 0:
                    inbox.scanned = max(size - margin + 1, 0)
                    return None
        else:
            inbox.data = data if type(data) is bytes else b"" + data
        inbox.busy = True
        try:
            return self._deliver(inbox)
        finally:
            inbox.close()
            inbox.busy = False

    def _deliver(self, inbox: _Inbox) -> Any:
        while not self.paused:
            data, pos = inbox.data, inbox.pos
            if pos >= len(data):
                if not inbox.late:
                    return None
                inbox.join()
                continue
            if not self.line_mode:
                why = self.rawDataReceived(inbox.replace(b""))
                if why:
                    return why
                continue
            delimiter = self.delimiter
            if inbox.key != delimiter:
                inbox.key = delimiter
                inbox.cutter = _LineCutter(bytes(delimiter)) if delimiter else None
                inbox.scanned = 0
            stop = data.find(delimiter, pos + inbox.scanned) if delimiter else -1
            inbox.scanned = 0
            if stop < 0:
                inbox.scanned = max(len(data) - pos - len(delimiter) + 1, 0)
                if inbox.late:
                    inbox.join()
                    continue
                if len(data) - pos >= self.MAX_LENGTH + len(delimiter):
                    return self.lineLengthExceeded(inbox.replace(b""))
                inbox.join()
                return None
            after = stop + len(delimiter)
            if len(data) - after < len(delimiter) and stop - pos <= self.MAX_LENGTH:
                inbox.pos = after
                why = self.lineReceived(_part(data, pos, stop))
                if why or (self.transport and self.transport.disconnecting):
                    return why
                continue
            for line in inbox.cut(after - pos):
                if self.paused or not self.line_mode or self.delimiter != delimiter:
                    inbox.returned = 1
                    break
                if len(line) > self.MAX_LENGTH:
                    inbox.returned = 1
                    return self.lineLengthExceeded(inbox.replace(b""))
                why = self.lineReceived(line)
                if why or (self.transport and self.transport.disconnecting):
                    return why
            inbox.close()
        return None


class LineOnlyReceiver(basic.LineOnlyReceiver):  # type: ignore[misc]
    """Lines that end with `delimiter`, and nothing else.

    The lines behind one that loses the connection, or that is longer than ``MAX_LENGTH``, are dropped.
    """

    _tail: bytes | bytearray = b""
    _cutter: _Cutter | None = None
    _cutter_delimiter: bytes = b""

    def dataReceived(self, data: bytes) -> Any:  # noqa: N802
        """Deliver the lines that `data` completes."""
        delimiter, tail = self.delimiter, self._tail
        if len(tail) + len(data) <= SHORT:
            lines = (bytes(tail) + data).split(delimiter)
            self._tail = lines.pop()
        else:
            cutter, scanned = self._cutter, 0
            if cutter is None or self._cutter_delimiter != delimiter:
                cutter = self._cutter = _LineCutter(bytes(delimiter))
                self._cutter_delimiter = delimiter
            elif type(tail) is bytearray:  # it was laid by after a look for this delimiter
                scanned = max(len(tail) - len(delimiter) + 1, 0)
            if tail:
                whole = tail if type(tail) is bytearray else bytearray(tail)
                whole += data
                if whole.find(delimiter, scanned) < 0:
                    self._tail = whole
                    return self.lineLengthExceeded(bytes(whole)) if len(whole) > self.MAX_LENGTH else None
                lines, used = cutter.cut(whole)
                self._tail = _part(whole, used, len(whole))
            else:
                lines, used = cutter.cut(data if type(data) is bytes else b"" + data)
                self._tail = b"" + data[used:]
        for line in lines:
            if self.transport.disconnecting:
                return None
            if len(line) > self.MAX_LENGTH:
                return self.lineLengthExceeded(line)
            self.lineReceived(line)
        if len(self._tail) > self.MAX_LENGTH:
            return self.lineLengthExceeded(bytes(self._tail))
        return None


def _changes() -> list[tuple[Any, str, Any]]:
    version = import_module("twisted").version
    _versions.check("Twisted", version.public(), VERSIONS)
    classes = [
        Int8StringReceiver,
        Int16StringReceiver,
        Int32StringReceiver,
        IntNStringReceiver,
        NetstringReceiver,
        LineReceiver,
        LineOnlyReceiver,
    ]
    return [(basic, cls.__name__, cls) for cls in classes]


_patch = Patch(_changes)
install = _patch.install
uninstall = _patch.uninstall
installed = _patch.installed
patched = _patch.patched
