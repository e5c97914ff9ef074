r"""Wire formats: how a frame says where its payload ends.

A format is a small value: frozen, checked when it is made, hashable, comparable, and reachable by a name.

>>> parse_spec("ascii10")
Ascii(width=10, align='<')
>>> LengthField(4).name
'u32be'
>>> parse_spec("u32be") == LengthField(4)
True

The names (`parse_spec` reads them, `Spec.name` writes them)::

    ascii10 ascii8-right ascii4-zero    decimal digits: padded on the right, on the left, with zeros
    u8 u16be u24le u32be ... u64le      an unsigned length of 1-8 bytes
    u32be,offset=2,adjust=-4,strip=0    the same inside a larger header
    varint varint32                     LEB128, up to 64 or 32 bits
    netstring                           12:hello world!,
    lines crlf nul                      delimited by "\n", by "\r\n", by a zero byte
    delimited:\r\n|\n                   delimited by any of these; "\", "|" and "," are escaped
    lines,keep                          the delimiter stays at the end of the payload
    fixed:64                            every frame 64 bytes
    multiprocessing                     the format of multiprocessing.connection
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import Literal, NoReturn

DEFAULT_MAX_SIZE = 16 * 2**20
"""The limit of a frame where none is given, in bytes: 16 MiB."""

UNLIMITED = sys.maxsize // 2
"""What ``max_size=None`` stands for. Half of the address space leaves room for adding a header without a wrap."""

MAX_HEADER_FIELD = 65_535
"""Most bytes before or stripped with a length field; a header is held whole until its length is there."""

MAX_DELIMITER_SIZE = 255
"""Most bytes in one delimiter."""


class Spec:
    """A wire format. One of `Ascii`, `LengthField`, `Varint`, `Netstring`, `Delimited`, `FixedSize`,
    `MultiprocessingPipe`."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name that `parse_spec` turns back into this format."""
        raise NotImplementedError

    def largest(self) -> int:
        """The most bytes after the header that the format itself can announce."""
        return UNLIMITED


@dataclass(frozen=True)
class Ascii(Spec):
    """A length in decimal digits, padded to a fixed width.

    ::

        Ascii(10)        "5         hello"     digits, then spaces
        Ascii(10, ">")   "         5hello"     spaces, then digits
        Ascii(10, "0")   "0000000005hello"     zeros, then digits

    The header is `width` bytes and nothing in it but ASCII digits and the padding on its own side: no sign, no
    underscore, no tab, though ``int()`` would let them through. The length counts the bytes of the payload:
    ``len("é".encode())`` is 2. ``Ascii(10)`` is the sockets tutorial's ``f"{len(msg):<10}"``.

    Args:
        width: Bytes in the header, 1 to 20.
        align: Where the digits stand: ``"<"`` left, ``">"`` right, ``"0"`` right with zeros in front.

    Raises:
        ValueError: If `width` or `align` is none of these.
    """

    width: int = 10
    align: Literal["<", ">", "0"] = "<"

    def __post_init__(self) -> None:
        _check_int("width", self.width, 1, 20)
        if self.align not in ("<", ">", "0"):
            raise ValueError(f"align must be '<', '>' or '0', not {self.align!r}")

    @property
    def name(self) -> str:
        return f"ascii{self.width}" + {"<": "", ">": "-right", "0": "-zero"}[self.align]

    def largest(self) -> int:
        return min(int(10**self.width) - 1, UNLIMITED)


@dataclass(frozen=True)
class LengthField(Spec):
    """An unsigned binary length in front of every payload, alone or inside a larger header.

    ::

        LengthField(4)                      00 00 00 05 | hello
                                            length = 5

        LengthField(3, offset=2)            CA FE | 00 00 05 | hello
                                            2 bytes  length    5 bytes

        LengthField(2, adjust=-2)           00 07 | hello           the length counts itself: 7 - 2 = 5 bytes follow

        LengthField(2, adjust=3)            00 05 | 01 02 03 | hello     three more header bytes follow the length

        LengthField(2, strip=0)             00 05 | hello           the result is the whole frame, header and all

    The semantics of Netty's ``LengthFieldBasedFrameDecoder``: the length plus `adjust` gives the bytes that follow the
    field, and they are what ``max_size`` limits. A length that `adjust` makes negative is a `HeaderError`.

    An encoder writes zeros in the `offset` bytes; it refuses a format whose `strip` is not the header, because nobody
    can know what was stripped.

    Args:
        width: Bytes in the length, 1 to 8.
        byteorder: ``"big"`` or ``"little"``.
        offset: Bytes before the length, 0 to 65,535.
        adjust: Added to the length to give the bytes that follow it.
        strip: Leading bytes of the frame that are not part of the result; None means the header
            (`offset` + `width` bytes).

    Raises:
        ValueError: If a number is out of its range, or if no length could ever be valid.
    """

    width: int
    byteorder: Literal["big", "little"] = "big"
    offset: int = field(default=0, kw_only=True)
    adjust: int = field(default=0, kw_only=True)
    strip: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _check_int("width", self.width, 1, 8)
        if self.byteorder not in ("big", "little"):
            raise ValueError(f"byteorder must be 'big' or 'little', not {self.byteorder!r}")
        _check_int("offset", self.offset, 0, MAX_HEADER_FIELD)
        _check_int("adjust", self.adjust, 1 - 256**self.width, UNLIMITED)
        if self.strip is not None:
            _check_int("strip", self.strip, 0, MAX_HEADER_FIELD)
        # One value for one format, so that equal formats compare equal.
        if self.width == 1:
            object.__setattr__(self, "byteorder", "big")
        if self.strip == self.header_size:
            object.__setattr__(self, "strip", None)

    @property
    def header_size(self) -> int:
        """Bytes up to the end of the length."""
        return self.offset + self.width

    @property
    def name(self) -> str:
        name = f"u{8 * self.width}"
        if self.width > 1:
            name += "be" if self.byteorder == "big" else "le"
        if self.offset:
            name += f",offset={self.offset}"
        if self.adjust:
            name += f",adjust={self.adjust}"
        if self.strip is not None:
            name += f",strip={self.strip}"
        return name

    def largest(self) -> int:
        return min(int(256**self.width) - 1 + self.adjust, UNLIMITED)


@dataclass(frozen=True)
class Varint(Spec):
    """A length in base 128, least significant group first (LEB128), as in protobuf's delimited streams.

    ::

        05 | hello             a length under 128 is one byte
        AC 02 | 300 bytes      the top bit of a byte says that another follows: 0x2C + (2 << 7) = 300

    A length longer than 5 bytes (10 for 64 bits), or past the width, is a `HeaderError`. A length padded with empty
    groups (``85 00``) is accepted within that, as protobuf accepts it.

    Args:
        bits: 32 or 64, the width of the length.
    """

    bits: Literal[32, 64] = 64

    def __post_init__(self) -> None:
        if self.bits not in (32, 64):
            raise ValueError(f"bits must be 32 or 64, not {self.bits!r}")

    @property
    def name(self) -> str:
        return "varint" if self.bits == 64 else "varint32"

    def largest(self) -> int:
        return min(int(2**self.bits) - 1, UNLIMITED)


@dataclass(frozen=True)
class Netstring(Spec):
    """A decimal length, a colon, the payload, and a comma that is checked (D. J. Bernstein, 1997).

    ::

        12:hello world!,
        0:,

    Leading zeros, and anything but digits before the colon, are a `HeaderError`.
    """

    @property
    def name(self) -> str:
        return "netstring"


@dataclass(frozen=True, init=False)
class Delimited(Spec):
    r"""Payloads that end at a delimiter.

    ::

        Delimited(b"\n")             one\ntwo\n
        Delimited(b"\r\n", b"\n")    one\r\ntwo\n          either; the earliest match wins, at a tie the longest
        Delimited(b"\n", keep=True)  one\n | two\n         the delimiter stays at the end of the payload

    ``max_size`` limits the bytes before the delimiter. An encoder writes the first delimiter, and refuses a payload
    that a decoder would cut elsewhere.

    Where one delimiter begins another (``\r`` and ``\r\n``), the shorter is only certain once a further byte, or the
    end of the stream, has come: ``feed_eof()`` returns what the end completes.

    Args:
        delimiters: One or more, each 1 to 255 bytes, no two alike.
        keep: Leave the delimiter at the end of each payload.

    Raises:
        ValueError: If there is no delimiter, an empty one, one too long, or the same one twice.
    """

    delimiters: tuple[bytes, ...]
    keep: bool = False

    def __init__(self, *delimiters: bytes, keep: bool = False) -> None:
        if not delimiters:
            raise ValueError("Delimited needs at least one delimiter")
        for delimiter in delimiters:
            if not isinstance(delimiter, bytes):
                raise TypeError(f"a delimiter must be bytes, not {type(delimiter).__name__}")
            if not 1 <= len(delimiter) <= MAX_DELIMITER_SIZE:
                raise ValueError(
                    f"a delimiter must have 1 to {MAX_DELIMITER_SIZE} bytes, not {len(delimiter)}: {delimiter[:32]!r}"
                )
        if len(set(delimiters)) < len(delimiters):
            raise ValueError(f"the same delimiter stands twice in {delimiters!r}")
        object.__setattr__(self, "delimiters", tuple(map(bytes, delimiters)))
        object.__setattr__(self, "keep", bool(keep))

    def __repr__(self) -> str:
        arguments = [repr(delimiter) for delimiter in self.delimiters]
        if self.keep:
            arguments.append("keep=True")
        return f"Delimited({', '.join(arguments)})"

    @property
    def name(self) -> str:
        name = _DELIMITED_NAMES.get(self.delimiters)
        if name is None:
            name = "delimited:" + "|".join(map(_escape, self.delimiters))
        return name + (",keep" if self.keep else "")


@dataclass(frozen=True)
class FixedSize(Spec):
    """Every frame the same size, with no header.

    ::

        FixedSize(4)    abcdefgh  ->  abcd, efgh

    Args:
        size: Bytes in a frame, at least 1.
    """

    size: int

    def __post_init__(self) -> None:
        _check_int("size", self.size, 1, UNLIMITED)

    @property
    def name(self) -> str:
        return f"fixed:{self.size}"

    def largest(self) -> int:
        return self.size


@dataclass(frozen=True)
class MultiprocessingPipe(Spec):
    """What ``multiprocessing.connection.Connection`` writes on a pipe or a socket.

    ::

        00 00 00 05 | hello                        a signed 32-bit length, big-endian (struct "!i")
        FF FF FF FF | 00 .. 80 00 00 00 | ...      -1, then an unsigned 64-bit length ("!Q"), over 2 GiB

    Any other negative length is a `HeaderError`; the standard library reads -2 as an empty message.
    """

    @property
    def name(self) -> str:
        return "multiprocessing"


_KINDS = {Ascii, LengthField, Varint, Netstring, Delimited, FixedSize, MultiprocessingPipe}
_DELIMITED_NAMES: dict[tuple[bytes, ...], str] = {(b"\n",): "lines", (b"\r\n",): "crlf", (b"\0",): "nul"}
_NAMED: dict[str, Spec] = {
    "varint": Varint(64),
    "varint64": Varint(64),
    "varint32": Varint(32),
    "netstring": Netstring(),
    "lines": Delimited(b"\n"),
    "crlf": Delimited(b"\r\n"),
    "nul": Delimited(b"\0"),
    "multiprocessing": MultiprocessingPipe(),
}
_ASCII = re.compile(r"ascii(\d{1,3})(-left|-right|-zero)?", re.ASCII)
_UNSIGNED = re.compile(r"u(8|16|24|32|40|48|56|64)(be|le)?", re.ASCII)
_OPTION = re.compile(r"(offset|adjust|strip)=(-?\d{1,20})", re.ASCII)


def parse_spec(name: str) -> Spec:
    r"""The wire format of that name; the names are listed at the top of this module.

    >>> parse_spec("u16le,adjust=-2")
    LengthField(width=2, byteorder='little', offset=0, adjust=-2, strip=None)
    >>> parse_spec(r"delimited:\r\n|\n")
    Delimited(b'\r\n', b'\n')

    Raises:
        ValueError: If no format has that name, or if its numbers make no sense; the text names them.
        TypeError: If `name` is no ``str``.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a wire format must be a str, not {type(name).__name__}")
    base, *options = name.split(",")
    if base.startswith("delimited:"):
        spec: Spec = Delimited(*(_unescape(part, name) for part in base[len("delimited:") :].split("|")))
    elif base in _NAMED:
        spec = _NAMED[base]
    elif match := _ASCII.fullmatch(base):
        aligns: dict[str | None, Literal["<", ">", "0"]] = {"-right": ">", "-zero": "0"}
        spec = Ascii(int(match[1]), aligns.get(match[2], "<"))
    elif match := _UNSIGNED.fullmatch(base):
        return _parse_length_field(name, int(match[1]) // 8, match[2], options)
    elif match := re.fullmatch(r"fixed:(\d{1,19})", base, re.ASCII):
        spec = FixedSize(int(match[1]))
    else:
        _unknown(name)
    if options == ["keep"] and isinstance(spec, Delimited):
        return Delimited(*spec.delimiters, keep=True)
    if options:
        raise ValueError(f"wire format {name!r}: {base} does not take {','.join(options)!r}")
    return spec


def resolve(spec: Spec | str, max_size: int | None) -> tuple[Spec, int]:
    """The format and the limit in force, for a core that is being made.

    Raises:
        TypeError, ValueError: If an argument is not of its kind, or if no frame could ever pass the limit.
    """
    if isinstance(spec, str):
        spec = parse_spec(spec)
    elif type(spec) not in _KINDS:  # exactly: the cores look at the fields, not at what a subclass makes of them
        raise TypeError(f"spec must be a wire format or its name, not {type(spec).__name__}")
    limit = UNLIMITED
    if max_size is not None:
        limit = min(_check_int("max_size", max_size, 0, sys.maxsize), UNLIMITED)
    if isinstance(spec, FixedSize) and spec.size > limit:
        raise ValueError(f"max_size={max_size} is less than the size of every frame of {spec!r}")
    if isinstance(spec, LengthField):
        if spec.adjust > limit:
            raise ValueError(f"max_size={max_size} is less than adjust={spec.adjust}: no frame could pass")
        if spec.strip is not None and spec.strip - spec.header_size > min(limit, spec.largest()):
            raise ValueError(f"strip={spec.strip} is more than any frame of {spec!r} within max_size={max_size}")
    return spec, limit


def _parse_length_field(name: str, width: int, order: str | None, options: list[str]) -> LengthField:
    if width > 1 and order is None:
        raise ValueError(f"wire format {name!r} needs a byte order: u{8 * width}be or u{8 * width}le")
    numbers: dict[str, int] = {}
    for option in options:
        match = _OPTION.fullmatch(option)
        if match is None or match[1] in numbers:
            raise ValueError(f"wire format {name!r}: cannot use the option {option!r}")
        numbers[match[1]] = int(match[2])
    return LengthField(
        width,
        "little" if order == "le" else "big",
        offset=numbers.get("offset", 0),
        adjust=numbers.get("adjust", 0),
        strip=numbers.get("strip"),
    )


def _unknown(name: str) -> NoReturn:
    raise ValueError(
        f"no wire format is called {name!r}; there are ascii10 (ascii1-ascii20, -right, -zero), u8, u16be ... u64le, "
        "varint, varint32, netstring, lines, crlf, nul, delimited:..., fixed:N and multiprocessing"
    )


def _check_int(what: str, value: int, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    plain = int.__index__(value)  # what a subclass says about itself does not count
    if not low <= plain <= high:
        raise ValueError(f"{what} must be from {low} to {high}, not {plain}")
    return plain


_ESCAPES = {"\r": r"\r", "\n": r"\n", "\t": r"\t", "\0": r"\0", "\\": r"\\"}
_UNESCAPES = {escape[1]: char.encode("latin-1") for char, escape in _ESCAPES.items()}


def _escape(delimiter: bytes) -> str:
    """The delimiter in printable ASCII, with nothing that a name's own syntax uses."""
    return "".join(
        _ESCAPES.get(char) or (char if "!" <= char <= "~" and char not in "|," else f"\\x{ord(char):02x}")
        for char in delimiter.decode("latin-1")
    )


def _unescape(text: str, name: str) -> bytes:
    def one(match: re.Match[str]) -> str:
        escape = match[1]
        if escape[0] == "x":
            return chr(int(escape[1:], 16))
        return _UNESCAPES[escape].decode("latin-1")

    if re.sub(r"\\(x[0-9a-fA-F]{2}|[rnt0\\])", "", text).count("\\"):
        raise ValueError(rf"wire format {name!r}: a backslash begins \r, \n, \t, \0, \\ or \xNN")
    try:
        return re.sub(r"\\(x[0-9a-fA-F]{2}|[rnt0\\])", one, text).encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"wire format {name!r}: write bytes over 0x7f as \\xNN") from None
