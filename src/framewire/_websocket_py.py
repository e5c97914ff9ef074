r"""WebSocket messages in Python: the reference for the compiled twin, ``ext/websocket.pxi``.

A message travels in one frame or in several, and control frames may stand between these (RFC 6455, section 5)::

    81 05 'hello'                                 a text, from a server
    82 85 37 fa 21 3d  7f 9f 4d 51 58             b"hello", from a client, with its key
    01 02 'he'   89 00   80 03 'llo'              a text in two fragments, and a ping between them

Strategy. Frames are taken where they lie in the chunk: a payload is unmasked on its way to the memory of its final
object. A message that stands whole in one frame of the chunk is made at once. Anything else goes piece by piece, as it
comes: unmasked, decompressed, checked to be UTF-8, and put behind what has come of its message; so what is wrong is
found at the first byte that shows it, and no memory is held for what was announced and has not come.

Rules that hold here and in the twin:

- A header is a function of its bytes and of the message that is under way. What is wrong with it is found at the same
  byte for every chunking.
- A size is compared with the limits before anything is done with it, and nothing is added to it before.
- An error waits until the messages before it are out, and then stays.
- ``_busy`` is set while a method runs, because the code of a caller's buffer can call back.
- After a close frame nothing more comes (section 5.5.1): what does is dropped.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from ._core_py import WINDOW_SIZE, Stream, _Body
from ._deflate import Compressor, Decompressor, Deflate
from ._wire import contiguous, flat
from .errors import HEAD_SIZE, FrameTooLarge, HeaderError, IncompleteFrame, PayloadError
from .spec import DEFAULT_MAX_SIZE

if TYPE_CHECKING:
    from ._wire import BytesLike

__all__ = ["Close", "Deflate", "MessageDecoder", "MessageEncoder", "Part", "Ping", "Pong", "mask"]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
OPCODES: Final = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
FIN, RSV1, RSV, CONTROL, MASKED = 0x80, 0x40, 0x70, 0x08, 0x80

HEADER_SIZE = 14
"""Bytes that are enough for any header."""

CONTROL_SIZE = 125
"""Most bytes in the payload of a control frame (section 5.5)."""

NO_LIMIT = 2**62
"""More than any message."""

NO_STATUS = 1005
"""The code of a close frame that has none (section 7.4.1). It never stands in one."""


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping, which wants a pong with the same payload: at most 125 bytes (RFC 6455, section 5.5.2)."""

    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Pong:
    """A pong, asked for or not (RFC 6455, section 5.5.3)."""

    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Close:
    """The end of what the peer sends, and why (RFC 6455, sections 5.5.1 and 7.4).

    Attributes:
        code: 1000 for a normal end. 1005 if the peer gave none.
        reason: Text for people who look for faults: at most 123 bytes of UTF-8.
    """

    code: int = NO_STATUS
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """What has come of a message since the last part; from a decoder with ``parts=True``.

    Attributes:
        data: ``str`` of a text, ``bytes`` of anything else. It may be empty at the end of a message.
        final: Whether it is the last one of its message.
    """

    data: str | bytes
    final: bool


Message: TypeAlias = str | bytes | Part | Ping | Pong | Close


def mask(data: BytesLike, key: BytesLike, offset: int = 0) -> bytes:
    r"""Mask or unmask: byte i XOR byte ``(offset + i) % 4`` of the key (RFC 6455, section 5.3).

    >>> mask(mask(b"hello", b"7\xfa!="), b"7\xfa!=")
    b'hello'

    Args:
        data: Any contiguous bytes-like object.
        key: Four bytes.
        offset: Where in the payload `data` begins.

    Raises:
        ValueError: If the key has not four bytes, or the offset is negative.
    """
    turn, key = _offset(offset), flat(key)
    if len(key) != 4:
        raise ValueError(f"key must have 4 bytes, not {len(key)}")
    return _mask(flat(data), key, turn)


def _offset(offset: int) -> int:
    offset = index(offset)
    if offset < 0:
        raise ValueError(f"offset must be 0 or more, not {offset}")
    return offset % 4


def _mask(data: bytes | memoryview, key: bytes, turn: int) -> bytes:
    size = len(data)
    keys = (key[turn:] + key[:turn]) * (size // 4 + 1)
    return (int.from_bytes(data, "little") ^ int.from_bytes(keys[:size], "little")).to_bytes(size, "little")


@dataclass(slots=True)
class _Frame:
    """A header that was read."""

    first: int
    size: int
    key: bytes  # empty if it is not masked
    header: bytes


class Wrong(Exception):
    """What must not be accepted: the kind of error and its first fields; where it stands is for the decoder to say."""

    def __init__(self, kind: Callable[..., Exception], *fields: Any) -> None:
        self.kind = kind
        self.fields = fields


def caught(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a call returns, or the `Wrong` that it raises.

    For the twin: where memory runs out, compiled code that catches an exception gets it without a traceback, and
    crashes when it lets go of that.
    """
    try:
        return call(*arguments, **options)
    except Wrong as wrong:
        return wrong


@dataclass(slots=True)
class Rules:
    """What a header is checked against: the stream's own rules, and those of the message that is under way."""

    masked: bool  # what comes must be masked, or must not be
    long_lengths: bool
    compression: bool
    frame_limit: int  # bytes in the payload of a frame
    limit: int  # bytes in a message
    opened: int = 0  # the opcode of a message of which not all fragments have come
    compressed: bool = False  # whether it is
    done: int = 0  # bytes of its payloads on the wire so far

    def read(self, data: bytes) -> _Frame | None:
        """Read the header that `data` begins with, or see that it is not whole yet.

        Raises:
            Wrong: As soon as the bytes that are there show it.
        """
        there = len(data)
        if not there:
            return None
        first = data[0]
        self._check_first(first)
        if there < 2:
            return None
        masked, size = bool(data[1] & MASKED), data[1] & 0x7F
        if masked != self.masked:
            raise Wrong(HeaderError, f"a frame {'with' if masked else 'without'} a mask from a {self._peer()}")
        at = 2
        if size > CONTROL_SIZE:
            if first & CONTROL:
                raise Wrong(HeaderError, f"a control frame of more than {CONTROL_SIZE} bytes")
            width = 2 if size == 126 else 8
            if width == 8 and there > 2 and data[2] & 0x80 and not self.long_lengths:
                raise Wrong(HeaderError, "a length whose highest bit is set")
            at += width
            if there < at:
                return None
            size = int.from_bytes(data[2:at], "big")
            if size <= (CONTROL_SIZE if width == 2 else 0xFFFF) and not self.long_lengths:
                raise Wrong(HeaderError, f"a length of {size} in {width} bytes, which needs fewer")
        if not first & CONTROL:
            self._check_size(first, size)
        stop = at + 4 if masked else at
        if there < stop:
            return None
        return _Frame(first, size, data[at:stop], data[:stop])

    def _check_first(self, first: int) -> None:
        opcode, reserved = first & 0x0F, first & RSV
        if opcode not in OPCODES:
            raise Wrong(HeaderError, f"opcode {opcode}, which is reserved")
        if reserved and (reserved != RSV1 or not self.compression or opcode not in (TEXT, BINARY)):
            raise Wrong(HeaderError, f"reserved bits {reserved >> 4:03b}, which must not be set here")
        if opcode & CONTROL:
            if not first & FIN:
                raise Wrong(HeaderError, "a control frame in fragments")
        elif opcode == CONTINUATION:
            if not self.opened:
                raise Wrong(HeaderError, "a continuation without a message")
        elif self.opened:
            raise Wrong(HeaderError, "a new message inside of another")

    def _check_size(self, first: int, size: int) -> None:
        compressed = self.compressed if self.opened else first & RSV1
        limit = wire_limit(self.limit) if compressed else self.limit
        if size > limit - self.done:
            raise Wrong(FrameTooLarge, self.done + size, limit)
        if size > self.frame_limit:
            raise Wrong(FrameTooLarge, size, self.frame_limit)

    def _peer(self) -> str:
        return "client" if self.masked else "server"


def wire_limit(limit: int) -> int:
    """Bytes on the wire of a compressed message that comes to `limit` bytes: what cannot be compressed grows a little,
    and each fragment may add an empty block."""
    return min(limit + limit // 8 + 1024, NO_LIMIT)


def close_of(payload: bytes) -> Close:
    """What the payload of a close frame says (sections 5.5.1 and 7.4).

    Raises:
        Wrong: If it must not say so.
    """
    if not payload:
        return Close()
    if len(payload) == 1:
        raise Wrong(HeaderError, "a close frame of 1 byte, which is half a status code")
    code = int.from_bytes(payload[:2], "big")
    if not may_be_sent(code):
        raise Wrong(HeaderError, f"a close frame with the status code {code}")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError as error:
        raise not_utf8(error.start, "reason of the close frame") from None


def may_be_sent(code: int) -> bool:
    """Whether a close frame may have this status code: the registered ones, and those for libraries and programs.

    Registered are 1000 to 1014, but 1004 to 1006 have no use on the wire (RFC 6455, section 7.4; IANA's registry).
    """
    return (1000 <= code <= 1014 and not 1004 <= code <= 1006) or 3000 <= code <= 4999


def not_utf8(start: int, what: str = "text") -> Wrong:
    return Wrong(PayloadError, f"the {what} is not UTF-8 at byte {start}")


class _Text:
    """A text that comes in pieces."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._size = 0

    def decode(self, piece: bytes, *, final: bool) -> str:
        """The next piece, up to its last whole character.

        Raises:
            Wrong: At the first byte that shows that this is no UTF-8.
        """
        pending = self._decoder.getstate()[0]
        try:
            text = self._decoder.decode(piece, final)
        except UnicodeDecodeError as error:
            raise not_utf8(self._size - len(pending) + error.start) from None
        self._size += len(piece)
        pending = self._decoder.getstate()[0]
        if pending[:1] == b"\xed" and pending[1:2] >= b"\xa0":
            # Half of a surrogate, which CPython's decoder lets pass until its third byte, for "surrogatepass".
            raise not_utf8(self._size - len(pending))
        return text


class MessageDecoder(Stream):
    r"""Turns a stream of WebSocket frames into messages: text as ``str``, anything else as ``bytes``.

    >>> decoder = MessageDecoder("client")
    >>> decoder.feed(b"\x81\x05hello\x01\x03wor")
    ['hello']
    >>> decoder.feed(b"\x89\x00\x80\x02ld\x88\x02\x03\xe8")
    [Ping(payload=b''), 'world', Close(code=1000, reason='')]

    The result is the same for every chunking. When a frame is wrong, the messages before it come out first; then every
    call raises the same error, and `error` shows it at once. What is wrong is found at the first byte that shows it:
    in a header, in text, in compressed data. (If a compressed frame is damaged and its text is no UTF-8 either, the
    `reason` may name the one or the other.) A decoder is for one thread at a time, and a call from inside one of its
    own calls is a `RuntimeError`.

    Args:
        role: Whose decoder it is: a ``"server"`` reads masked frames, a ``"client"`` frames that are not.
        max_size: Most bytes in a message, decompressed: checked on the headers, and while it is decompressed.
            16 MiB unless given; None lifts the limit.
        max_frame_size: Most bytes in the payload of a frame; None for as many as a message may have.
        deflate: What was agreed on about compression; None if nothing was.
        parts: Hand data out as it comes, as `Part`, and put no messages together.
        long_lengths: Accept lengths in more bytes than they need, and lengths whose highest bit is set. Section 5.2
            forbids them, but some libraries let them pass.

    Raises:
        ValueError, TypeError: If an argument makes no sense.
    """

    __slots__ = (
        "_closed",
        "_control",
        "_deflate",
        "_frame",
        "_have",
        "_header",
        "_inflate",
        "_max_frame_size",
        "_max_size",
        "_parts",
        "_role",
        "_rules",
        "_size",
        "_text",
    )

    def __init__(
        self,
        role: str,
        *,
        max_size: int | None = DEFAULT_MAX_SIZE,
        max_frame_size: int | None = None,
        deflate: Deflate | None = None,
        parts: bool = False,
        long_lengths: bool = False,
    ) -> None:
        if hasattr(self, "_role"):
            raise RuntimeError("a MessageDecoder is made once; reset() begins a new stream")
        check_role(role)
        check_deflate(deflate)
        limit, frame_limit = check_limit("max_size", max_size), check_limit("max_frame_size", max_frame_size)
        self._rules = Rules(role == "server", bool(long_lengths), deflate is not None, frame_limit, limit)
        self._role = role
        self._max_size = max_size
        self._max_frame_size = max_frame_size
        self._deflate = deflate
        self._parts = bool(parts)
        super().__init__()

    def _clear(self) -> None:
        self._closed = False
        self._inflate: Decompressor | None = None
        if self._deflate is not None:
            self._inflate = self._deflate.decompressor("client" if self._role == "server" else "server")
        super()._clear()

    def _drop(self) -> None:
        """Forget the unfinished frame and the unfinished message."""
        self._header = b""  # what has come of a header
        self._frame: _Frame | None = None  # the frame whose payload has not come, or not all of it
        self._have = 0  # what has come of that
        self._control = b""  # the same, of a control frame
        self._end_message()

    def _end_message(self) -> None:
        rules = self._rules
        rules.opened, rules.compressed, rules.done = 0, False, 0
        self._body = None  # what has come of the message
        self._size = 0  # of that, or of what was handed out in parts
        self._text: _Text | None = None  # of a text: how far it is UTF-8

    @property
    def role(self) -> str:
        """``"server"`` or ``"client"``: whose decoder it is."""
        return self._role

    @property
    def max_size(self) -> int | None:
        """The limit of a message, as it was given."""
        return self._max_size

    @property
    def max_frame_size(self) -> int | None:
        """The limit of a frame, as it was given."""
        return self._max_frame_size

    @property
    def deflate(self) -> Deflate | None:
        """What was agreed on about compression, as it was given."""
        return self._deflate

    @property
    def closed(self) -> bool:
        """Whether a `Close` has come. What comes behind it is dropped."""
        return self._closed

    @property
    def needed_size(self) -> int:
        """Bytes that must still come before there can be a message, as far as it is known: the rest of the header, then
        the rest of the frame. Reading so many at a time never reads past a frame. 0 once the stream is over."""
        if self._error is not None or self._ended or self._closed:
            return 0
        return self._missing_size()

    def feed(self, chunk: BytesLike, /) -> list[Message]:
        """Take a chunk of the stream; return the messages that it completes.

        Args:
            chunk: Any contiguous bytes-like object, of any size. It is not kept.

        Returns:
            The messages and control frames in order, often none: ``str``, ``bytes``, `Ping`, `Pong`, `Close`; with
            ``parts=True`` `Part` for the first two.

        Raises:
            HeaderError, PayloadError, FrameTooLarge: When everything before the wrong frame is out.
            RuntimeError: After `feed_eof`.
        """
        self._enter()
        try:
            data = self._flat(chunk)
            self._take_back()
            return self._take(data)
        finally:
            self._busy = False

    def get_buffer(self, hint: int = -1) -> memoryview:
        """Lend a window to receive into: ``n = sock.recv_into(decoder.get_buffer())``, then `buffer_updated`.

        A payload over 64 KiB is received where its final object will be, and unmasked there. `buffer_updated` takes the
        window back and releases it; a slice of it that is kept costs a copy, and never changes a message. The names and
        rules are those of ``asyncio.BufferedProtocol``.

        Args:
            hint: Most bytes wanted; -1 leaves the size to the decoder.

        Returns:
            A writable ``memoryview``, never empty, valid until the next call of any method. Its content is undefined.

        Raises:
            HeaderError, PayloadError, FrameTooLarge, RuntimeError: As `feed`.
        """
        self._enter()
        try:
            wanted = index(hint)
            self._take_back()
            frame = self._frame
            if frame is None or not self._direct(frame):
                return self._lend(None, wanted, 0)
            return self._lend(self._body, wanted, frame.size - self._have)
        finally:
            self._busy = False

    def buffer_updated(self, n: int, /) -> list[Message]:
        """Say that `n` bytes were received into the window; return the messages that they complete.

        Raises:
            ValueError: If `n` is negative or more than the window holds; the window stays lent.
            HeaderError, PayloadError, FrameTooLarge, RuntimeError: As `feed`; RuntimeError if no window is lent.
        """
        self._enter()
        try:
            n = self._lent(n)
            return self._take_direct(n) if self._scratch is None else self._take(self._scratched(n))
        finally:
            self._busy = False

    def feed_eof(self) -> list[Message]:
        """Say that the stream has ended.

        Returns:
            An empty list.

        Raises:
            IncompleteFrame: If the stream ended inside a frame, or between the fragments of a message.
            HeaderError, PayloadError, FrameTooLarge: As `feed`.
        """
        if self._ended and not self._busy and self._error is None:
            return []
        self._enter()
        try:
            self._take_back()
            self._scratch = None
            if self._header or self._frame is not None or self._rules.opened:
                self._fail(self._incomplete())
            self._ended = True
            self._raise_error()
            return []
        finally:
            self._busy = False

    def __sizeof__(self) -> int:
        """Bytes of memory in use, what is reserved for messages included."""
        return super().__sizeof__() + len(self._header) + len(self._control)

    def __repr__(self) -> str:
        return f"MessageDecoder({self._role!r}, max_size={self._max_size})"

    def _take(self, data: bytes) -> list[Message]:
        """Run `data` through header, payload, header, payload, ..., up to its end, an error or a close frame."""
        messages: list[Message] = []
        pos, size = 0, len(data)
        base = self._received
        self._received += size
        try:
            while pos < size and not self._closed:
                if self._frame is None:
                    if not self._header:
                        self._frame_offset = base + pos
                    stowed = len(self._header)
                    self._header += data[pos : pos + HEADER_SIZE - stowed]
                    frame = self._rules.read(self._header)
                    if frame is None:
                        break
                    pos += len(frame.header) - stowed
                    self._header = b""
                    if self._begin(frame, data, pos, messages):
                        pos += frame.size
                        continue
                frame = self._frame
                assert frame is not None
                piece = memoryview(data)[pos : pos + frame.size - self._have]
                pos += len(piece)
                self._take_piece(frame, piece, messages)
        except Wrong as wrong:
            self._refuse(wrong)
        except Exception as error:
            self._fail(error)  # bytes are lost
            raise
        else:
            if self._frame is None and not self._header:
                self._frame_offset = self._received
        if not messages:
            self._raise_error()
        return messages

    def _begin(self, frame: _Frame, data: bytes, pos: int, messages: list[Message]) -> bool:
        """A header is whole. Return whether all is done: a message that stands whole in the chunk."""
        rules = self._rules
        self._have = 0
        self._frame = frame
        if frame.first & CONTROL:
            self._control = b""
            return False
        opcode = frame.first & 0x0F
        if not rules.opened:
            rules.compressed = bool(frame.first & RSV1)
            if frame.first & FIN and not rules.compressed and not self._parts and len(data) - pos >= frame.size:
                self._moved += frame.size
                payload = data[pos : pos + frame.size]
                if frame.key:
                    payload = _mask(payload, frame.key, 0)
                messages.append(payload if opcode == BINARY else _text(payload))
                self._frame = None
                return True
            if not self._parts:
                self._body = _Body(None if rules.compressed or not frame.first & FIN else frame.size)
            if opcode == TEXT:
                self._text = _Text()
            rules.opened = opcode
        rules.done += frame.size
        return False

    def _take_piece(self, frame: _Frame, piece: memoryview, messages: list[Message]) -> None:
        """Bytes of the payload of the unfinished frame; perhaps its last ones, perhaps none."""
        data = _mask(piece, frame.key, self._have % 4) if frame.key else bytes(piece)
        self._moved += len(data)
        self._have += len(data)
        last = self._have == frame.size
        if frame.first & CONTROL:
            self._control += data
        else:
            self._take_data(data, messages, final=last and bool(frame.first & FIN))
        if last:
            self._finish_frame(frame, messages)

    def _take_direct(self, n: int) -> list[Message]:
        """`n` bytes of the payload of the unfinished frame have been received where they stay."""
        frame, body = self._frame, self._body
        assert frame is not None
        assert body is not None
        body.have += n
        self._take_back()
        piece = body.peek(body.have - n) if frame.key or self._text is not None else b""
        if frame.key:
            piece = _mask(piece, frame.key, self._have % 4)
            body.have -= n
            with memoryview(piece) as view:
                body.write(view)
        self._received += n
        self._have += n
        self._size += n
        messages: list[Message] = []
        try:
            if self._text is not None:
                self._text.decode(piece, final=self._have == frame.size and bool(frame.first & FIN))
            if self._have == frame.size:
                self._finish_frame(frame, messages)
                self._frame_offset = self._received
        except Wrong as wrong:
            self._refuse(wrong)
        except Exception as error:
            self._fail(error)
            raise
        if not messages:
            self._raise_error()
        return messages

    def _take_data(self, data: bytes, messages: list[Message], *, final: bool) -> None:
        """Bytes of a message, unmasked."""
        if self._rules.compressed:
            data = self._decompressed(data, final=final)
        self._size += len(data)
        text = None if self._text is None else self._text.decode(data, final=final)
        if self._parts:
            part = data if text is None else text
            if part or final:
                messages.append(Part(part, final))
        elif data:
            assert self._body is not None
            with memoryview(data) as view:
                self._moved += self._body.write(view)

    def _decompressed(self, data: bytes, *, final: bool) -> bytes:
        assert self._inflate is not None
        limit = self._rules.limit
        room = limit - self._size
        made = self._inflate.decompress(data, room, final=final)
        if made is None:
            raise Wrong(PayloadError, "the compressed data of a message is damaged")
        if len(made) > room:
            raise Wrong(FrameTooLarge, limit + 1, limit)
        return made

    def _finish_frame(self, frame: _Frame, messages: list[Message]) -> None:
        if frame.first & CONTROL:
            payload, self._control = self._control, b""
            opcode = frame.first & 0x0F
            if opcode == CLOSE:
                messages.append(close_of(payload))
                self._closed = True
            else:
                messages.append((Ping if opcode == PING else Pong)(payload))
        elif frame.first & FIN:
            if not self._parts:
                assert self._body is not None
                payload = self._body.finish()
                messages.append(payload if self._rules.opened == BINARY else payload.decode())
            self._end_message()
        self._frame = None
        if self._closed:
            self._drop()

    def _direct(self, frame: _Frame) -> bool:
        """Whether what comes next of this frame can be received where it stays."""
        if frame.first & CONTROL or self._rules.compressed or self._parts:
            return False
        return frame.size > WINDOW_SIZE

    def _missing_size(self) -> int:
        """Bytes still to come in the part of the frame that is being received."""
        if self._frame is not None:
            return self._frame.size - self._have
        header = self._header
        size = 6 if self._rules.masked else 2
        if len(header) > 1:
            size += {126: 2, 127: 8}.get(header[1] & 0x7F, 0)
        return size - len(header)

    def _refuse(self, wrong: Wrong) -> None:
        head = self._header if self._frame is None else self._frame.header
        self._fail(wrong.kind(*wrong.fields, self._frame_offset, head[:HEAD_SIZE]))

    def _incomplete(self) -> IncompleteFrame:
        if self._frame is not None:
            part, head = "payload", self._frame.header
        elif self._header:
            part, head = "header", self._header
        else:
            return IncompleteFrame("message", self._size, None, self._frame_offset)
        return IncompleteFrame(part, self.buffered_size, self._missing_size(), self._frame_offset, head)


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise not_utf8(error.start) from None


def check_role(role: object) -> None:
    if role not in ("server", "client"):
        raise ValueError(f"role must be 'server' or 'client', not {role!r}")


def check_limit(name: str, limit: int | None) -> int:
    """The limit as a number.

    Raises:
        ValueError: If it is negative.
        TypeError: If it is no number.
    """
    if limit is None:
        return NO_LIMIT
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"{name} must be an int or None, not {limit!r}")
    if limit < 0:
        raise ValueError(f"{name} must be 0 or more, not {limit}")
    return min(limit, NO_LIMIT)


def check_deflate(deflate: object) -> None:
    if deflate is not None and not isinstance(deflate, Deflate):
        raise TypeError(f"deflate must be a Deflate or None, not {deflate!r}")


KEYS_SIZE = 512
"""Bytes of the system's randomness that an encoder fetches at a time: 128 keys."""

_forks = 0


def _forked() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class _Keys:
    """Masking keys: unpredictable, and fresh for every frame (section 5.3). A child process does not use its
    parent's."""

    def __init__(self) -> None:
        self._bytes = b""
        self._used = 0
        self._forks = _forks

    def __call__(self) -> bytes:
        if self._used == len(self._bytes) or self._forks != _forks:
            self._bytes, self._used, self._forks = os.urandom(KEYS_SIZE), 0, _forks
        self._used += 4
        return self._bytes[self._used - 4 : self._used]


class MessageEncoder:
    r"""Turns messages into WebSocket frames: ``str`` into text, bytes-like objects into binary messages.

    >>> encoder = MessageEncoder("server")
    >>> encoder.encode("hello")
    b'\x81\x05hello'
    >>> encoder.encode_many([b"one", "two"])
    b'\x82\x03one\x81\x03two'
    >>> encoder.close(1000, "bye")
    b'\x88\x05\x03\xe8bye'

    A client masks what it sends, each frame with a key of its own. A message over `max_size` is refused, and then
    nothing is written. An encoder is for one thread at a time; what it makes has to be sent in that order where it
    compresses, or sends in parts.

    Args:
        role: Who sends: a ``"server"`` or a ``"client"``.
        max_size: Most bytes in a message, before it is compressed. 16 MiB unless given; None lifts the limit.
        deflate: What was agreed on about compression; None if nothing was.
        mask_key: Called for each frame of a client; returns the four bytes of a key. The randomness of the operating
            system unless given.

    Raises:
        ValueError, TypeError: If an argument makes no sense.
    """

    __slots__ = (
        "__weakref__",
        "_compressor",
        "_deflate",
        "_limit",
        "_mask_key",
        "_max_size",
        "_opened",
        "_role",
        "_sent",
    )

    def __init__(
        self,
        role: str,
        *,
        max_size: int | None = DEFAULT_MAX_SIZE,
        deflate: Deflate | None = None,
        mask_key: Callable[[], bytes] | None = None,
    ) -> None:
        if hasattr(self, "_role"):
            raise RuntimeError("a MessageEncoder is made once")
        check_role(role)
        check_deflate(deflate)
        check_mask_key(role, mask_key)
        self._limit = check_limit("max_size", max_size)
        self._role = role
        self._max_size = max_size
        self._deflate = deflate
        self._mask_key: Callable[[], bytes] | None = mask_key
        if role == "client" and mask_key is None:
            self._mask_key = _Keys()
        self._compressor: Compressor | None = None if deflate is None else deflate.compressor(role)
        self._opened = 0  # the opcode of the message that is being sent in parts
        self._sent = 0  # bytes of it so far

    @property
    def role(self) -> str:
        """``"server"`` or ``"client"``: who sends."""
        return self._role

    @property
    def max_size(self) -> int | None:
        """The limit of a message, as it was given."""
        return self._max_size

    @property
    def deflate(self) -> Deflate | None:
        """What was agreed on about compression, as it was given."""
        return self._deflate

    def encode(self, message: str | BytesLike, /, *, compress: bool = True) -> bytes:
        """The frame of one message.

        Args:
            message: ``str`` for a text; any contiguous bytes-like object for anything else.
            compress: False leaves it as it is, even if compression was agreed on: for what is compressed already.

        Raises:
            FrameTooLarge: If it is over the limit.
            UnicodeEncodeError: If a text has surrogates in it, which UTF-8 has not.
            RuntimeError: While a message is sent in parts.
        """
        return b"".join(self._frame(*self._payload(message), self._key(), compress=compress))

    def encode_many(self, messages: Iterable[str | BytesLike], /, *, compress: bool = True) -> bytes:
        """The frames of many messages, one behind the other in one ``bytes``.

        Raises:
            FrameTooLarge, UnicodeEncodeError, RuntimeError: As `encode`, for the first message that cannot be sent;
                nothing is written.
        """
        # A copy of what may be changed before the next is drawn.
        items = [self._payload(one if isinstance(one, str) else flat(one)) for one in messages]
        keyed = [(*item, self._key()) for item in items]
        return b"".join([part for item in keyed for part in self._frame(*item, compress=compress)])

    def encode_parts(self, message: str | BytesLike, /, *, compress: bool = True) -> tuple[BytesLike, ...]:
        """The frame in parts, for ``sock.sendmsg(parts)``: what a server sends uncompressed is never copied.

        Returns:
            The header and the payload: the very object, if it is sent as it is; it must not change until then.

        Raises:
            FrameTooLarge, UnicodeEncodeError, RuntimeError: As `encode`.
        """
        opcode, data = self._payload(message)
        header, payload = self._frame(opcode, data, self._key(), compress=compress)
        return header, message if payload is data and not isinstance(message, str) else payload

    def encode_part(self, data: str | BytesLike, /, *, final: bool = False) -> bytes:
        """A fragment of a message whose size need not be known. The first one tells text from anything else.

        Args:
            data: The same kind in all parts of a message.
            final: Whether it is the last part.

        Raises:
            TypeError: If the parts of a message are not of one kind.
            FrameTooLarge: If the message is over the limit; this part is not sent.
        """
        opcode, payload = _opcode(data), str.encode(data) if isinstance(data, str) else contiguous(data)
        if self._opened and opcode != self._opened:
            raise TypeError(f"a part of a {_kind(opcode)} message inside of a {_kind(self._opened)} one")
        size = self._sent + len(payload)
        if size > self._limit:
            raise FrameTooLarge(size, self._limit)
        first, key = CONTINUATION if self._opened else opcode, self._key()
        if self._compressor is not None:
            payload = self._compressor.compress(payload, final=final)
            first |= 0 if self._opened else RSV1
        frame = b"".join(_framed(first | FIN if final else first, payload, key))
        self._opened, self._sent = (0, 0) if final else (opcode, size)
        return frame

    def ping(self, payload: BytesLike = b"", /) -> bytes:
        """A ping, which the peer answers with a pong of the same payload; allowed between the parts of a message.

        Raises:
            ValueError: If the payload has more than 125 bytes.
        """
        return self._control(PING, flat(payload))

    def pong(self, payload: BytesLike = b"", /) -> bytes:
        """A pong: as `ping`."""
        return self._control(PONG, flat(payload))

    def close(self, code: int = NO_STATUS, reason: str = "", /) -> bytes:
        """A close frame: nothing may be sent after it.

        Args:
            code: Why (section 7.4): 1000 to 1003, 1007 to 1014, 3000 to 4999; 1005 sends none.
            reason: For people who look for faults: at most 123 bytes of UTF-8.

        Raises:
            ValueError: If the code must not be sent, or the reason is too long, or there is a reason without a code.
        """
        code = index(code)
        text = str.encode(reason)
        if code == NO_STATUS:
            if text:
                raise ValueError("a close frame cannot have a reason without a code")
            return self._control(CLOSE, b"")
        if not may_be_sent(code):
            raise ValueError(f"code={code} must not be sent: 1000 to 1003, 1007 to 1014 and 3000 to 4999 may")
        if len(text) > CONTROL_SIZE - 2:
            raise ValueError(f"the reason has {len(text)} bytes, and at most {CONTROL_SIZE - 2} fit")
        return self._control(CLOSE, code.to_bytes(2, "big") + text)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"cannot pickle {type(self).__name__!r}: its stream has one")

    def __repr__(self) -> str:
        return f"MessageEncoder({self._role!r}, max_size={self._max_size})"

    def _payload(self, message: str | BytesLike) -> tuple[int, bytes | memoryview]:
        """The opcode and the bytes of a message that may be sent."""
        if self._opened:
            raise RuntimeError("a message is being sent in parts, and no other can begin before its end")
        data = str.encode(message) if isinstance(message, str) else contiguous(message)
        if len(data) > self._limit:
            raise FrameTooLarge(len(data), self._limit)
        return _opcode(message), data

    def _key(self) -> bytes:
        """The key of the next frame, empty for a server.

        It comes before anything is compressed: if the caller's code fails there, nothing was written, and a later
        message must not look back to what the peer never had.
        """
        return b"" if self._mask_key is None else checked_key(self._mask_key())

    def _frame(
        self, opcode: int, data: bytes | memoryview, key: bytes, *, compress: bool
    ) -> tuple[bytes, bytes | memoryview]:
        first = FIN | opcode
        if compress and self._compressor is not None:
            data = self._compressor.compress(data, final=True)
            first |= RSV1
        return _framed(first, data, key)

    def _control(self, opcode: int, payload: bytes) -> bytes:
        if len(payload) > CONTROL_SIZE:
            raise ValueError(f"the payload has {len(payload)} bytes, and a control frame at most {CONTROL_SIZE}")
        return b"".join(_framed(FIN | opcode, payload, self._key()))


def _framed(first: int, data: bytes | memoryview, key: bytes) -> tuple[bytes, bytes | memoryview]:
    """Header and payload as they stand on the wire."""
    size = len(data)
    masked = MASKED if key else 0
    if size < 126:
        header = bytes((first, masked | size))
    elif size < 65536:
        header = bytes((first, masked | 126)) + size.to_bytes(2, "big")
    else:
        header = bytes((first, masked | 127)) + size.to_bytes(8, "big")
    return (header + key, _mask(data, key, 0)) if key else (header, data)


def _opcode(message: object) -> int:
    return TEXT if isinstance(message, str) else BINARY


def _kind(opcode: int) -> str:
    return "text" if opcode == TEXT else "binary"


def check_mask_key(role: str, mask_key: object) -> None:
    if mask_key is not None:
        if role == "server":
            raise ValueError("a server does not mask: no mask_key")
        if not callable(mask_key):
            raise TypeError(f"mask_key must be callable, not {mask_key!r}")


def checked_key(key: object) -> bytes:
    """What a ``mask_key`` returned, if that is a key."""
    if type(key) is not bytes or len(key) != 4:
        raise ValueError(f"mask_key() must return 4 bytes, not {key!r}")
    return key
