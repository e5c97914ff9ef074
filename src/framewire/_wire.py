"""The wire formats in Python: the only part of the pure core that knows their bytes. ``ext/wire.h`` is its twin.

Strategy. A format looks at ``data[pos:end]``, a part of the stream that begins at a frame, and says how large the
header is and how much follows it. It keeps no state, so what it says depends on the bytes alone: where more bytes are
needed it says so, and will look again from the start (a header is short), except for delimiters, where the caller
remembers how far the search has come.

The compiled core comes here too, when it has found that something is wrong: the reference says what.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import HEAD_SIZE, FrameTooLarge, HeaderError
from .spec import (
    Ascii,
    Delimited,
    FixedSize,
    LengthField,
    MultiprocessingPipe,
    Netstring,
    Spec,
    Varint,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

    BytesLike: TypeAlias = bytes | bytearray | memoryview | Buffer

COMMA = ord(",")


def contiguous(data: BytesLike) -> memoryview:
    """A view of `data` as bytes.

    Raises:
        TypeError: If it is not bytes-like.
        BufferError: If it is not contiguous.
    """
    view = memoryview(data)
    if not view.c_contiguous:
        raise BufferError("the buffer is not C-contiguous")
    if view.format == "B" and view.ndim == 1:
        return view
    if not view.nbytes:  # which cannot be cast when it has more than one dimension
        return memoryview(b"" if view.readonly else bytearray())
    return view.cast("B")


def flat(data: BytesLike) -> bytes:
    """`data` itself if it is ``bytes``, else a copy."""
    if type(data) is bytes:
        return data
    with memoryview(data) as view:  # released here and not by the collector, which PyPy lets take its time
        if not view.c_contiguous:
            raise BufferError("the buffer is not C-contiguous")
        return view.tobytes()


class Refused(Exception):
    """A frame that cannot be accepted: a bad header if there is a `reason`, else a size over the limit."""

    def __init__(self, pos: int, head: bytes, reason: str | None = None, size: int | None = None) -> None:
        self.pos = pos  # of the frame in the data being parsed
        self.head = head
        self.reason = reason
        self.size = size


def refusal(refused: Refused, limit: int, origin: int) -> HeaderError | FrameTooLarge:
    """The error to raise, where the data that was being parsed begins at stream offset `origin`."""
    offset, head = origin + refused.pos, refused.head[:HEAD_SIZE]
    if refused.reason is None:
        return FrameTooLarge(refused.size, limit, offset, head)
    return HeaderError(refused.reason, offset, head)


def refused_header(reference: Format, data: bytes) -> Refused | None:
    """Why `reference` refuses the header that `data` begins with, if it does.

    For the twin: where memory runs out, compiled code that catches an exception gets it without a traceback, and
    crashes when it lets go of that.
    """
    try:
        reference.header(data, 0, len(data))
    except Refused as refused:
        return refused
    return None


class Format:
    """How one wire format is read and written: the part of the core that knows its bytes.

    ``data[pos:end]`` is a part of the stream that begins at a frame.
    """

    room = 32
    """Bytes that are enough to tell any header."""

    strip: int | None = None
    """Leading bytes that are not part of the payload; None: the header."""

    trailer = b""
    """What stands behind a payload."""

    def __init__(self, spec: Any, limit: int) -> None:
        self.spec = spec
        self.limit = limit

    def header(self, data: bytes, pos: int, end: int) -> tuple[int, int] | None:
        """The sizes of the header and of what follows it (without a trailer); None if the header is not whole.

        Raises:
            Refused: If the header is not allowed, or over the limit.
        """
        raise NotImplementedError

    def header_missing(self, header: bytes | bytearray) -> int | None:
        """Bytes that a header cut short is missing, at the least; None if nothing tells."""
        return None

    def prefix(self, payload: bytes | memoryview) -> bytes:
        """The header to send before `payload`.

        Raises:
            FrameTooLarge, ValueError: If this payload cannot be sent.
        """
        raise NotImplementedError

    def check_writable(self) -> None:
        """Raise ValueError if nothing can be sent in this format."""

    def scan(
        self, data: bytes, pos: int, starts: list[int], stops: list[int], scanned: int = 0, *, final: bool = False
    ) -> tuple[int, int]:
        """Where the payloads lie that stand whole in ``data[pos:]``; return where the first unfinished frame begins,
        and up to where that was searched for its delimiter (`scanned` and `final` are for delimiters alone)."""
        end, strip, trailer = len(data), self.strip, len(self.trailer)
        while True:
            found = self.header(data, pos, end)
            if found is None:
                return pos, pos
            header_size, size = found
            stop = pos + header_size + size
            if stop + trailer > end:
                return pos, pos
            if trailer and data[stop] != COMMA:
                raise Refused(pos, data[pos : stop + 1], no_comma(size))
            starts.append(pos + (header_size if strip is None else strip))
            stops.append(stop)
            pos = stop + trailer

    def cut(
        self, data: bytes, pos: int, payloads: list[bytes], scanned: int = 0, *, final: bool = False
    ) -> tuple[int, int]:
        """As `scan`, with the payloads themselves."""
        starts: list[int] = []
        stops: list[int] = []
        try:
            return self.scan(data, pos, starts, stops, scanned, final=final)
        finally:
            payloads += [data[start:stop] for start, stop in zip(starts, stops, strict=False)]

    def accept(self, data: bytes, pos: int, size: int) -> int:
        """`size`, if that many bytes may follow the header."""
        if size > self.limit:
            raise Refused(pos, data[pos : pos + HEAD_SIZE], size=size)
        return size

    def check_size(self, size: int) -> int:
        """`size`, if a payload of that many bytes may be sent."""
        if size > self.limit:
            raise FrameTooLarge(size, self.limit)
        return size


class AsciiFormat(Format):
    def __init__(self, spec: Ascii, limit: int) -> None:
        super().__init__(spec, limit)
        self.width = spec.width
        self.fill = {"<": " <", ">": " >", "0": "0>"}[spec.align] + str(spec.width)

    def header(self, data: bytes, pos: int, end: int) -> tuple[int, int] | None:
        stop = pos + self.width
        if stop > end:
            return None
        field = digits = data[pos:stop]
        if self.spec.align == "<":
            digits = field.rstrip(b" ")
        elif self.spec.align == ">":
            digits = field.lstrip(b" ")
        # For bytes, isdigit() is ASCII 0-9 and at least one; int() of at most 20 digits is harmless.
        if not digits.isdigit():
            raise Refused(
                pos,
                data[pos : pos + HEAD_SIZE],
                f"a header of {self.width} bytes must be decimal digits padded as {self.spec!r} says, not {field!r}",
            )
        return self.width, self.accept(data, pos, int(digits))

    def header_missing(self, header: bytes | bytearray) -> int | None:
        return self.width - len(header)

    def prefix(self, payload: bytes | memoryview) -> bytes:
        return format(self.check_size(len(payload)), self.fill).encode()


class LengthFieldFormat(Format):
    def __init__(self, spec: LengthField, limit: int) -> None:
        super().__init__(spec, limit)
        self.size = spec.header_size
        self.strip = spec.strip
        self.room = spec.header_size + HEAD_SIZE
        self.zeros = bytes(spec.offset)
        self.plain: struct.Struct | None = None
        if spec.width in (1, 2, 4, 8) and not spec.offset and not spec.adjust and spec.strip is None:
            self.plain = struct.Struct(
                (">" if spec.byteorder == "big" else "<") + {1: "B", 2: "H", 4: "I", 8: "Q"}[spec.width]
            )

    def header(self, data: bytes, pos: int, end: int) -> tuple[int, int] | None:
        stop = pos + self.size
        if stop > end:
            return None
        spec = self.spec
        length = int.from_bytes(data[pos + spec.offset : stop], spec.byteorder)
        size = length + spec.adjust
        if size < 0:
            raise Refused(
                pos, data[pos : pos + HEAD_SIZE], f"length {length} with adjust={spec.adjust} is less than nothing"
            )
        self.accept(data, pos, size)
        if self.strip is not None and self.size + size < self.strip:
            raise Refused(
                pos,
                data[pos : pos + HEAD_SIZE],
                f"a frame of {self.size + size} bytes (length {length}) is shorter than strip={self.strip}",
            )
        return self.size, size

    def header_missing(self, header: bytes | bytearray) -> int | None:
        return self.size - len(header)

    def cut(
        self, data: bytes, pos: int, payloads: list[bytes], scanned: int = 0, *, final: bool = False
    ) -> tuple[int, int]:
        # The common case, written out: a call for each frame would cost more than all the rest. With a limit that no
        # frame in this chunk can pass, "does it stand whole in the chunk" is the only question.
        end = len(data)
        if self.plain is None or self.limit < end:
            return super().cut(data, pos, payloads)
        unpack, width, append = self.plain.unpack_from, self.size, payloads.append
        with suppress(struct.error):  # where not even a header is left
            while True:
                (size,) = unpack(data, pos)
                start = pos + width
                stop = start + size
                if stop > end:
                    break
                append(data[start:stop])
                pos = stop
        return pos, pos

    def prefix(self, payload: bytes | memoryview) -> bytes:
        size = self.check_size(len(payload))
        if size < self.spec.adjust:
            raise ValueError(f"a payload of {size} bytes is shorter than adjust={self.spec.adjust}")
        length: bytes = (size - self.spec.adjust).to_bytes(self.spec.width, self.spec.byteorder)
        return self.zeros + length if self.zeros else length

    def check_writable(self) -> None:
        if self.strip is not None:
            raise ValueError(f"{self.spec!r} cannot be written: nobody knows the bytes that strip={self.strip} removed")


class VarintFormat(Format):
    def __init__(self, spec: Varint, limit: int) -> None:
        super().__init__(spec, limit)
        self.longest = 5 if spec.bits == 32 else 10

    def header(self, data: bytes, pos: int, end: int) -> tuple[int, int] | None:
        size = shift = 0
        for at in range(pos, min(end, pos + self.longest)):
            group = data[at]
            size |= (group & 0x7F) << shift
            shift += 7
            if group < 0x80:
                if size >> self.spec.bits:
                    raise Refused(
                        pos, data[pos : pos + HEAD_SIZE], f"varint length {size} does not fit {self.spec.bits} bits"
                    )
                return at + 1 - pos, self.accept(data, pos, size)
        if end - pos < self.longest:
            return None
        raise Refused(pos, data[pos : pos + HEAD_SIZE], f"a varint length is longer than {self.longest} bytes")

    def prefix(self, payload: bytes | memoryview) -> bytes:
        size = self.check_size(len(payload))
        groups = bytearray()
        while size >= 0x80:
            groups.append(size & 0x7F | 0x80)
            size >>= 7
        groups.append(size)
        return bytes(groups)


class NetstringFormat(Format):
    trailer = b","
    # At most 20 digits: as many as 64 bits can have.
    length = re.compile(rb"(0|[1-9][0-9]{0,19}):")
    digits = re.compile(rb"0|[1-9][0-9]{0,19}")

    def header(self, data: bytes, pos: int, end: int) -> tuple[int, int] | None:
        match = self.length.match(data, pos, end)
        if match is not None:
            return match.end() - pos, self.accept(data, pos, int(match[1]))
        digits = self.digits.match(data, pos, end)
        at = pos if digits is None else digits.end()
        if at == end:
            return None
        raise Refused(
            pos,
            data[pos : pos + HEAD_SIZE],
            "a netstring begins with a length of at most 20 digits, no zeros in front, and a colon, "
            f"not {data[pos : at + 1]!r}",
        )

    def prefix(self, payload: bytes | memoryview) -> bytes:
        return b"%d:" % self.check_size(len(payload))


class FixedSizeFormat(Format):
    def header(self, data: bytes, pos: int, end: int) -> tuple[int, int] | None:
        return 0, self.spec.size

    def header_missing(self, header: bytes | bytearray) -> int | None:
        size: int = self.spec.size
        return size

    def prefix(self, payload: bytes | memoryview) -> bytes:
        if len(payload) != self.spec.size:
            raise ValueError(f"a payload of {self.spec!r} has {self.spec.size} bytes, not {len(payload)}")
        return b""


class MultiprocessingPipeFormat(Format):
    short = struct.Struct("!i")
    long = struct.Struct("!iQ")

    def header(self, data: bytes, pos: int, end: int) -> tuple[int, int] | None:
        if pos + 4 > end:
            return None
        (size,) = self.short.unpack_from(data, pos)
        if size >= 0:
            return 4, self.accept(data, pos, size)
        if size != -1:
            raise Refused(pos, data[pos : pos + HEAD_SIZE], f"length {size} is negative, and only -1 has a meaning")
        if pos + 12 > end:
            return None
        return 12, self.accept(data, pos, self.long.unpack_from(data, pos)[1])

    def header_missing(self, header: bytes | bytearray) -> int | None:
        return (4 if len(header) < 4 else 12) - len(header)

    def prefix(self, payload: bytes | memoryview) -> bytes:
        size = self.check_size(len(payload))
        return self.short.pack(size) if size <= 0x7FFFFFFF else self.long.pack(-1, size)


class DelimitedFormat(Format):
    def __init__(self, spec: Delimited, limit: int) -> None:
        super().__init__(spec, limit)
        self.keep = spec.keep
        self.delimiters = sorted(spec.delimiters, key=len, reverse=True)
        self.longest = len(self.delimiters[0])
        self.trailer = b"" if spec.keep else spec.delimiters[0]
        # Longest first: a regular expression takes the first alternative that matches.
        self.search = re.compile(b"|".join(map(re.escape, self.delimiters))).search

    def find(self, data: bytes, start: int, end: int, final: bool = False) -> tuple[int, int]:
        """The first delimiter that begins in ``data[start:end]``: where, and its size.

        Size 0 means that there is none, and that none can begin before that place. Unless this is the `final` data,
        the place can be one where a delimiter may have begun whose end is still to come.
        """
        if len(self.delimiters) == 1:
            at = data.find(self.delimiters[0], start, end)
            size = self.longest if at >= 0 else 0
        else:
            match = self.search(data, start, end)
            at = match.start() if match else -1
            size = match.end() - at if match else 0
        if at < 0:
            at = end
        if not final:
            for begins in range(max(start, end - self.longest + 1), min(at + 1, end)):
                rest = data[begins:end]
                if any(len(other) > len(rest) and other.startswith(rest) for other in self.delimiters):
                    return begins, 0
        return at, size

    def scan(
        self, data: bytes, pos: int, starts: list[int], stops: list[int], scanned: int = 0, *, final: bool = False
    ) -> tuple[int, int]:
        end = len(data)
        scanned = max(scanned, pos)
        while True:
            at, size = self.find(data, scanned, end, final)
            if at - pos > self.limit:
                raise Refused(pos, data[pos : pos + HEAD_SIZE])
            if not size:
                return pos, at
            starts.append(pos)
            stops.append(at + size if self.keep else at)
            pos = scanned = at + size

    def prefix(self, payload: bytes | memoryview) -> bytes:
        data = flat(payload)
        end = len(data)
        # What a decoder would do with it, with more to come behind: first inside the payload, then where the payload
        # and the delimiter meet.
        at, found = self.find(data, 0, end)
        if not found:
            begins, found = self.find(data[at:] + self.trailer, 0, end - at + len(self.trailer))
            at += begins
        if at + found != end + len(self.trailer) or not found or (at < end and not self.keep):
            if self.keep and not data.endswith(self.spec.delimiters):
                raise ValueError(f"a payload of {self.spec!r} must end with a delimiter")
            raise ValueError(f"the payload would be cut at byte {at}, by a delimiter of {self.spec!r}")
        self.check_size(at)
        return b""

    def check_writable(self) -> None:
        for other in self.delimiters:
            if self.trailer and other != self.trailer and other.startswith(self.trailer):
                raise ValueError(
                    f"{self.spec!r} cannot be written: frames would end with {self.trailer!r}, which begins {other!r}; "
                    "put another delimiter first"
                )


def no_comma(size: int) -> str:
    return f"a comma must follow the {size} bytes of a netstring"


FORMATS: dict[type[Spec], Callable[[Any, int], Format]] = {
    Ascii: AsciiFormat,
    LengthField: LengthFieldFormat,
    Varint: VarintFormat,
    Netstring: NetstringFormat,
    Delimited: DelimitedFormat,
    FixedSize: FixedSizeFormat,
    MultiprocessingPipe: MultiprocessingPipeFormat,
}
