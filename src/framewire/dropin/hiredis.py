r"""A ``Reader`` for framed streams with the interface of hiredis-py's, as redis-py's parsers use it.

::

    reader = framewire.dropin.hiredis.Reader("u32be")
    reader.feed(chunk)
    while (payload := reader.gets()) is not NOT_ENOUGH_DATA:
        ...

framewire reads frames and not RESP, so this does not replace hiredis for Redis. It is for a program that was written
around such a reader (two verbs, errors of its own classes, a sentinel of its own) and whose stream has frames: the
import changes, the loop stays. hiredis need not be installed, and is never changed: there is no ``install``. The
semantics are those of hiredis-py 3, as it behaves. What differs:

- ``notEnoughData`` is the object `NOT_ENOUGH_DATA` unless given, not False: an empty payload is as false as False.
- `spec` and ``max_size`` are new. A frame over the limit is a protocol error.
- ``replyError`` is accepted and never called: a frame cannot be an error reply.
- ``setmaxbuf`` is remembered and has no effect: the decoder gives memory back by itself.
- ``getmaxbuf`` and ``has_data`` as there; ``len`` counts the waiting payloads without their headers.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable
from operator import index
from typing import TYPE_CHECKING, Any, Final

from .._core import Decoder
from .._wire import contiguous
from ..errors import FramingError
from ..spec import DEFAULT_MAX_SIZE, Spec
from . import _versions

if TYPE_CHECKING:
    from .._wire import BytesLike

__all__ = ["NOT_ENOUGH_DATA", "SEAMS", "VERSIONS", "Reader"]

VERSIONS = _versions.HIREDIS
"""The versions of hiredis-py, first and last, whose ``Reader`` is the model."""

SEAMS: tuple[str, ...] = ()
"""Nothing of hiredis is replaced."""

IDLE_SIZE = 16 * 1024
"""What `Reader.getmaxbuf` says at first, in bytes: hiredis's default (``REDIS_READER_MAX_BUF``)."""


class _NotEnoughData:
    """The type of `NOT_ENOUGH_DATA`. It has no truth value, so that nobody takes an empty payload for it."""

    __slots__ = ()

    def __bool__(self) -> bool:
        raise TypeError("NOT_ENOUGH_DATA is neither true nor false: compare with `is`, an empty payload is false too")

    def __reduce__(self) -> str:
        return "NOT_ENOUGH_DATA"

    def __repr__(self) -> str:
        return "NOT_ENOUGH_DATA"


NOT_ENOUGH_DATA: Final = _NotEnoughData()
"""What `Reader.gets` returns while there is no whole frame, unless the reader was given an object of its caller."""


class Reader:
    r"""Turns chunks into payloads: `feed` takes, `gets` gives one.

    >>> reader = Reader("u8", encoding="utf-8")
    >>> reader.feed(b"\x05hello\x05wor")
    >>> reader.gets(), reader.gets()
    ('hello', NOT_ENOUGH_DATA)

    Args:
        spec: A wire format, or its name (see `framewire.spec`).
        protocolError: Called with the text of a framing error; makes the exception that `gets` raises, with framewire's
            own as its cause. Without it framewire's own is raised.
        replyError: For the sake of programs that pass it.
        encoding: Payloads come as ``str`` in this encoding; as ``bytes`` if it is None.
        errors: How to decode what is not in the encoding, as in ``bytes.decode``; None means "strict".
        notEnoughData: What `gets` returns while there is no whole frame: any object of yours.
        max_size: Most bytes that may follow a header (see `framewire.Decoder`). 16 MiB unless given; None lifts the
            limit.

    Raises:
        TypeError: If an error class cannot be called, or an argument is of the wrong type.
        LookupError: If there is no such encoding or error handler.
        ValueError: If the format or the limit makes no sense.
    """

    __slots__ = (
        "__weakref__",
        "_decoder",
        "_encoding",
        "_error",
        "_errors",
        "_max_buf",
        "_not_enough_data",
        "_payloads",
        "_protocol_error",
    )

    def __init__(
        self,
        spec: Spec | str = "u32be",
        *,
        protocolError: Callable[[str], BaseException] | None = None,  # noqa: N803 - the host's names
        replyError: Callable[[str], Any] | None = None,  # noqa: N803
        encoding: str | None = None,
        errors: str | None = None,
        notEnoughData: Any = NOT_ENOUGH_DATA,  # noqa: N803
        max_size: int | None = DEFAULT_MAX_SIZE,
    ) -> None:
        for given in (protocolError, replyError):
            if given is not None and not callable(given):
                raise TypeError(f"Expected a callable, not {type(given).__name__}")
        self._protocol_error = protocolError
        self._not_enough_data = notEnoughData
        self._max_buf = IDLE_SIZE
        self._payloads: deque[bytes] = deque()
        self._error: BaseException | None = None  # what every further gets() raises
        self._decoder = Decoder(spec, max_size=max_size)
        self.set_encoding(encoding, errors)

    def feed(self, buf: BytesLike | str, off: int = 0, len: int = -1, /) -> None:  # noqa: A002
        """Take a chunk of the stream: ``buf[off : off + len]`` without a slice, or all of it from `off` on.

        What is wrong with the bytes shows in `gets`, in its turn; after that bytes are dropped.

        Args:
            buf: Any contiguous bytes-like object, or text, which is taken as UTF-8. It is not kept.
            off: Where in it to begin.
            len: How many bytes to take; -1 for all that follow.

        Raises:
            ValueError: If `off` or `len` is negative, or they reach beyond the end.
            TypeError: If `buf` is neither text nor bytes-like.
        """
        if self._decoder.error is not None:
            _checked(buf, off, len).release()  # the bytes are dropped, but wrong arguments are wrong still
            return
        try:
            if type(buf) is bytes and off == 0 and len == -1:
                self._payloads += self._decoder.feed(buf)
            else:
                with _checked(buf, off, len) as part:
                    self._payloads += self._decoder.feed(part)
        except FramingError:
            return  # gets() raises it

    def gets(self, shouldDecode: bool = True, /) -> Any:  # noqa: N803
        """The next payload, or the sentinel while there is no whole frame.

        Args:
            shouldDecode: Whether to decode it, if the reader has an encoding.

        Raises:
            FramingError: When every payload before the bad header is out, and then by every call; an exception made by
                ``protocolError``, if it was given: the same one each time.
            UnicodeDecodeError: If the payload is not in the encoding; the next call goes on with the next payload.
        """
        try:
            payload = self._payloads.popleft()
        except IndexError:
            if self._decoder.error is None:
                return self._not_enough_data
        else:
            if self._encoding is None or not shouldDecode:
                return payload
            return payload.decode(self._encoding, self._errors)
        raise self._failure().with_traceback(None)

    def has_data(self) -> bool:
        """Whether there is anything that `gets` has not returned: a payload or a part of a frame."""
        return bool(self._payloads) or self._decoder.buffered_size > 0

    def len(self) -> int:
        """Bytes that were received and not returned: the waiting payloads without their headers, and the unfinished
        frame with it. It takes time in proportion to the waiting payloads."""
        return sum(map(len, self._payloads)) + self._decoder.buffered_size

    def setmaxbuf(self, maxbuf: int | None, /) -> None:
        """Set what `getmaxbuf` says; None for the default. It is not a limit for messages, and has no other effect.

        Raises:
            ValueError: If it is negative.
        """
        size = IDLE_SIZE if maxbuf is None else index(maxbuf)
        if size < 0:
            raise ValueError(f"maxbuf value out of range: {size}")
        self._max_buf = size

    def getmaxbuf(self) -> int:
        """What `setmaxbuf` has set; 16384 at first."""
        return self._max_buf

    def set_encoding(self, encoding: str | None = None, errors: str | None = None) -> None:
        """Have the payloads from the next `gets` on as ``str``, or as ``bytes`` if `encoding` is None.

        Raises:
            LookupError: If there is no such encoding or error handler; nothing has changed then.
        """
        for name, given in (("encoding", encoding), ("errors", errors)):
            if given is not None and not isinstance(given, str):
                raise TypeError(f"{name} must be str or None, not {type(given).__name__}")
        if encoding is not None:
            codecs.lookup(encoding)
        if errors is not None:
            codecs.lookup_error(errors)
        self._encoding = encoding
        self._errors = "strict" if errors is None else errors

    def _failure(self) -> BaseException:
        if self._error is None:
            cause = self._decoder.error
            assert cause is not None
            if self._protocol_error is None or not isinstance(cause, FramingError):
                self._error = cause
            else:
                error = self._protocol_error(str(cause))
                if not isinstance(error, BaseException):
                    raise TypeError(f"protocolError made no exception: {type(error).__name__}")
                error.__cause__ = cause
                self._error = error
        return self._error

    def __repr__(self) -> str:
        return f"<Reader of {self._decoder.spec!r}, {self.len()} bytes>"


def _checked(buf: BytesLike | str, off: int, length: int) -> memoryview:
    """The part of `buf` that `Reader.feed` is to take."""
    whole = contiguous(buf.encode() if isinstance(buf, str) else buf)
    size = whole.nbytes
    off, length = index(off), index(length)
    if length == -1:
        length = size - off
    if off < 0 or length < 0:
        raise ValueError(f"negative input: off={off}, len={length} of {size} bytes")
    if off + length > size:
        raise ValueError(f"input is larger than buffer size: off={off}, len={length} of {size} bytes")
    return whole[off : off + length]
