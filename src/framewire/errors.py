"""Every exception of framewire.

::

    Exception
    └── FramingError               the stream, or a payload, breaks the wire format
        ├── HeaderError            a header or a delimiter that the format does not allow
        ├── PayloadError           a payload that the format does not allow: text that is not UTF-8
        ├── FrameTooLarge          a frame over the limit           (also a ValueError)
        └── IncompleteFrame        the stream ended inside a frame  (also an EOFError)

All of them end the stream: what follows a wrong boundary cannot be trusted, so a decoder that has failed drops every
further byte and raises the same error until ``reset()``.

Whose fault was it? A decoder's error carries the stream offset of the frame at fault; an encoder's error
(a payload too large to send) has ``offset`` None, and nothing was written.

Wrong arguments are ``ValueError`` or ``TypeError``; a call at the wrong time is a ``RuntimeError``.
"""

from __future__ import annotations

import re

HEAD_SIZE = 16
"""How many of a frame's first bytes an error keeps."""

_PROTOCOLS = [
    (rb"(?:GET|POST|PUT|HEAD|DELETE|OPTIONS|PATCH|CONNECT|TRACE) ", "an HTTP request"),  # RFC 9110, section 9.3
    (rb"PRI \* HTTP/2", "an HTTP/2 connection preface"),  # RFC 9113, section 3.4
    (rb"HTTP/\d", "an HTTP response"),
    (rb"\x16\x03[\x00-\x04]", "a TLS hello"),  # RFC 8446, section 5.1: handshake record
    (rb"\x15\x03[\x00-\x04]", "a TLS alert"),
    (rb"SSH-\d", "an SSH banner"),  # RFC 4253, section 4.2
    (rb"PROXY |\r\n\r\n\0\r\nQUIT\n", "a PROXY protocol header"),
    (rb"\x1f\x8b", "gzip data"),  # RFC 1952
]
_FRAMINGS = [
    (rb"\d{1,9}:.", "a netstring"),
    (rb"\d{1,9} {2,}", "a decimal header padded with spaces, such as ascii10"),
    (rb" {2,}\d", "a decimal header padded with spaces on the left"),
    (rb"0{2,}\d*[^\d.]", "a decimal header padded with zeros"),
    (rb"\0{2,3}[^\0]", "a big-endian length field of four bytes"),
    (rb"[\x01\x02\x81\x82\xc1\xc2][\x7f\xff]\0", "a WebSocket frame"),  # RFC 6455, section 5.2: 64 bits of length
    (rb"[^\0].?\0{2,3}.", "a little-endian length field of four bytes"),
    (rb"[\t\r\n\x20-\x7e]{4,}\Z", "text"),
]


def looks_like(head: bytes) -> str | None:
    """What the first bytes of a stream seem to be, or None.

    A wrong length is mostly another protocol on the port:

    >>> looks_like(b"GET / HTTP/1.1")
    'an HTTP request'
    >>> looks_like(bytes([22, 3, 1, 2, 0]))
    'a TLS hello'
    >>> looks_like(b"Hello there")
    'text'
    """
    return _first_match(_PROTOCOLS + _FRAMINGS, head)


def _first_match(looks: list[tuple[bytes, str]], head: bytes) -> str | None:
    return next((what for pattern, what in looks if re.match(pattern, head, re.DOTALL)), None)


class FramingError(Exception):
    """The bytes do not keep to the wire format.

    Attributes:
        offset: Where the frame at fault begins, in bytes from the start of the stream; None from an encoder.
        head: The first bytes seen of that frame, 16 at most; fewer when fewer had arrived.
        looks_like: What these bytes seem to be (``"an HTTP request"``), or None.
    """

    offset: int | None
    head: bytes

    @property
    def looks_like(self) -> str | None:
        return looks_like(self.head)

    def _where(self, what: str) -> str:
        """The text of the error, built from its fields."""
        if self.offset is None:
            return what
        text = f"{what}, in the frame at stream offset {self.offset}"
        if self.head:
            text += f", which begins {self.head!r}"
            if self.looks_like:
                text += f" and looks like {self.looks_like}"
        return text


class HeaderError(FramingError):
    """A header that the wire format does not allow.

    Attributes:
        reason: What is wrong with it, with the value.
        offset, head, looks_like: As in `FramingError`.
    """

    def __init__(self, reason: str, offset: int | None = None, head: bytes = b"") -> None:
        super().__init__(reason, offset, head)
        self.reason = reason
        self.offset = offset
        self.head = head

    def __str__(self) -> str:
        return self._where(self.reason)


class PayloadError(FramingError):
    """A payload that the wire format does not allow: of WebSocket messages, text that is not UTF-8, or compressed data
    that is damaged.

    Attributes:
        reason: What is wrong with it, and where.
        offset, head, looks_like: As in `FramingError`.
    """

    @property
    def looks_like(self) -> str | None:
        """Only another protocol: its own framing was right."""
        return _first_match(_PROTOCOLS, self.head)

    def __init__(self, reason: str, offset: int | None = None, head: bytes = b"") -> None:
        super().__init__(reason, offset, head)
        self.reason = reason
        self.offset = offset
        self.head = head

    def __str__(self) -> str:
        return self._where(self.reason)


class FrameTooLarge(FramingError, ValueError):
    """A frame over the limit: refused on its header, before any memory is reserved for it.

    Attributes:
        size: The bytes that follow the header, as announced; None where nothing announces them (a delimiter that has
            not come within the limit).
        limit: The most that is accepted, in bytes: ``max_size``, or what the length field can hold.
        offset, head, looks_like: As in `FramingError`.
    """

    def __init__(self, size: int | None, limit: int, offset: int | None = None, head: bytes = b"") -> None:
        super().__init__(size, limit, offset, head)
        self.size = size
        self.limit = limit
        self.offset = offset
        self.head = head

    def __str__(self) -> str:
        if self.size is None:
            return self._where(f"no delimiter within the limit of {self.limit} bytes")
        return self._where(f"size {self.size} is over the limit of {self.limit} bytes")


class IncompleteFrame(FramingError, EOFError):
    """The stream ended inside a frame.

    Attributes:
        part: Where it was cut: ``"header"`` or ``"payload"`` (which includes what closes a payload); ``"message"``
            between two fragments of one.
        received: Bytes of the frame that had arrived, header included; of the message, between fragments.
        missing: Bytes that were still to come in that part, as far as the format tells; None if it cannot be known.
        offset, head, looks_like: As in `FramingError`.
    """

    @property
    def looks_like(self) -> str | None:
        """Only another protocol: its own framing was right as far as it went."""
        return _first_match(_PROTOCOLS, self.head)

    def __init__(
        self, part: str, received: int, missing: int | None, offset: int | None = None, head: bytes = b""
    ) -> None:
        super().__init__(part, received, missing, offset, head)
        self.part = part
        self.received = received
        self.missing = missing
        self.offset = offset
        self.head = head

    def __str__(self) -> str:
        missing = "" if self.missing is None else f", {self.missing} more expected"
        return self._where(f"the stream ended in the {self.part} after {self.received} bytes{missing}")
