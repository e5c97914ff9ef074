"""Streams and what they hold, written down by hand; and headers made without the code under test."""

from __future__ import annotations

from typing import NamedTuple

from framewire import (
    DEFAULT_MAX_SIZE,
    Ascii,
    Delimited,
    FixedSize,
    FrameTooLarge,
    FramingError,
    HeaderError,
    LengthField,
    MultiprocessingPipe,
    Netstring,
    Spec,
    Varint,
)
from framewire.spec import UNLIMITED


def announce(spec: Spec, size: int) -> bytes:
    """The header that says that `size` bytes follow it, whether that is allowed or not."""
    match spec:
        case Ascii(width, "<"):
            return str(size).ljust(width).encode()
        case Ascii(width, align):
            return str(size).rjust(width, " " if align == ">" else "0").encode()
        case LengthField():
            return bytes(spec.offset) + (size - spec.adjust).to_bytes(spec.width, spec.byteorder)
        case Varint():
            groups = [size >> shift & 0x7F for shift in range(0, max(size.bit_length(), 1), 7)]
            return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])
        case Netstring():
            return f"{size}:".encode()
        case MultiprocessingPipe():
            return size.to_bytes(4, "big") if size < 2**31 else b"\xff\xff\xff\xff" + size.to_bytes(8, "big")
        case _:
            return b""


def trailer(spec: Spec) -> bytes:
    """What stands behind a payload."""
    if isinstance(spec, Netstring):
        return b","
    return spec.delimiters[0] if isinstance(spec, Delimited) and not spec.keep else b""


def frame(spec: Spec, payload: bytes) -> bytes:
    return announce(spec, len(payload)) + payload + trailer(spec)


class Good(NamedTuple):
    """Whole frames: `headers` are the sizes of their headers, and `payloads` what is in them."""

    spec: Spec
    frames: list[bytes]
    headers: list[int]
    payloads: list[bytes]

    @property
    def stream(self) -> bytes:
        return b"".join(self.frames)


HELLO = [b"hello", b"", b"wor ld!"]
X300 = b"x" * 300

GOOD = [
    Good(Ascii(10), [b"5         hello", b"0         ", b"7         wor ld!"], [10] * 3, HELLO),
    Good(Ascii(10, ">"), [b"         5hello", b"         0", b"         7wor ld!"], [10] * 3, HELLO),
    Good(Ascii(10, "0"), [b"0000000005hello", b"0000000000", b"0000000007wor ld!"], [10] * 3, HELLO),
    Good(Ascii(1), [b"5hello", b"0", b"7wor ld!"], [1] * 3, HELLO),
    Good(Ascii(2, ">"), [b"12hello world!", b" 2ok", b"02ok"], [2] * 3, [b"hello world!", b"ok", b"ok"]),
    Good(Ascii(20), [b"5" + b" " * 19 + b"hello", b"0" * 20, b"0" * 19 + b"7wor ld!"], [20] * 3, HELLO),
    Good(LengthField(1), [b"\x05hello", b"\0", b"\x07wor ld!"], [1] * 3, HELLO),
    Good(LengthField(2), [b"\0\x05hello", b"\0\0", b"\0\x07wor ld!"], [2] * 3, HELLO),
    Good(LengthField(3, "little"), [b"\x05\0\0hello", b"\0\0\0", b"\x07\0\0wor ld!"], [3] * 3, HELLO),
    Good(LengthField(4), [b"\0\0\0\x05hello", bytes(4), b"\0\0\0\x07wor ld!"], [4] * 3, HELLO),
    Good(LengthField(4, "little"), [b"\x05\0\0\0hello", bytes(4), b"\x07\0\0\0wor ld!"], [4] * 3, HELLO),
    Good(LengthField(8), [bytes(7) + b"\x05hello", bytes(8), bytes(7) + b"\x07wor ld!"], [8] * 3, HELLO),
    Good(LengthField(2, offset=3), [b"abc\0\x05hello", b"\0\0\0\0\0", b"\xff\xff\xff\0\x07wor ld!"], [5] * 3, HELLO),
    Good(LengthField(1, adjust=-1), [b"\x06hello", b"\x01", b"\x08wor ld!"], [1] * 3, HELLO),
    Good(LengthField(1, adjust=3), [b"\x02hello", b"\0abc", b"\x04wor ld!"], [1] * 3, [b"hello", b"abc", b"wor ld!"]),
    Good(LengthField(2, strip=0), [b"\0\5hello", b"\0\0", b"\0\1x"], [2] * 3, [b"\0\5hello", b"\0\0", b"\0\1x"]),
    Good(LengthField(2, strip=1), [b"\0\x05hello", b"\0\0", b"\0\x01x"], [2] * 3, [b"\x05hello", b"\0", b"\x01x"]),
    Good(LengthField(1, strip=4), [b"\x05hello", b"\x03abc", b"\x04abcd"], [1] * 3, [b"lo", b"", b"d"]),
    Good(Varint(), [b"\x05hello", b"\0", b"\x07wor ld!"], [1] * 3, HELLO),
    # The number is the one in protobuf's own documentation: 300 is AC 02.
    Good(Varint(32), [b"\xac\x02" + X300, b"\x85\0hello", b"\x80\x80\x80\x80\0"], [2, 2, 5], [X300, b"hello", b""]),
    Good(Varint(), [b"\x80" * 9 + b"\0", b"\x01a", b"\x83\x80\0abc"], [10, 1, 3], [b"", b"a", b"abc"]),
    Good(Netstring(), [b"5:hello,", b"0:,", b"12:hello world!,"], [2, 2, 3], [b"hello", b"", b"hello world!"]),
    Good(Netstring(), [b"3:,,,,", b"2:1:,", b"1:,,"], [2] * 3, [b",,,", b"1:", b","]),
    Good(Delimited(b"\n"), [b"hello\n", b"\n", b"wor ld!\n"], [0] * 3, HELLO),
    Good(Delimited(b"\r\n"), [b"he\rl\nlo\r\n", b"\r\n", b"\r\r\n"], [0] * 3, [b"he\rl\nlo", b"", b"\r"]),
    Good(Delimited(b"\r\n", b"\n"), [b"a\rb\n", b"c\r\n", b"\n"], [0] * 3, [b"a\rb", b"c", b""]),
    Good(Delimited(b"\n", keep=True), [b"hello\n", b"\n", b"wor ld!\n"], [0] * 3, [b"hello\n", b"\n", b"wor ld!\n"]),
    Good(Delimited(b"aab", b"ab", keep=True), [b"aaab", b"cab", b"aab"], [0] * 3, [b"aaab", b"cab", b"aab"]),
    Good(Delimited(b"--end--"), [b"--en--end--", b"----end--", b"--end--"], [0] * 3, [b"--en", b"--", b""]),
    Good(Delimited(b"\n", b"\r", b"\r\n"), [b"a\r", b"b\r\n", b"\n"], [0] * 3, [b"a", b"b", b""]),
    # "a" is certain once "abcd" has failed, and then the bytes between belong to the next frame.
    Good(Delimited(b"a", b"abcd"), [b"1a", b"bcxa", b"abcd"], [0] * 3, [b"1", b"bcx", b""]),
    Good(Delimited(b"a", b"aaab"), [b"a", b"a", b"xaaab"], [0] * 3, [b"", b"", b"x"]),
    Good(FixedSize(1), [b"a", b"b", b"c"], [0] * 3, [b"a", b"b", b"c"]),
    Good(FixedSize(4), [b"abcd", b"\0\0\0\0", b"efgh"], [0] * 3, [b"abcd", b"\0\0\0\0", b"efgh"]),
    Good(MultiprocessingPipe(), [b"\0\0\0\x05hello", bytes(4), b"\0\0\0\x07wor ld!"], [4] * 3, HELLO),
    Good(
        MultiprocessingPipe(),
        [b"\xff" * 4 + bytes(7) + b"\x05hello", b"\xff" * 4 + bytes(8), bytes(3) + b"\1x"],
        [12, 12, 4],
        [b"hello", b"", b"x"],
    ),
]  # fmt: skip

NETTY = {
    # The seven pictures of io.netty.handler.codec.LengthFieldBasedFrameDecoder.
    "2 bytes at 0, do not strip": (LengthField(2, strip=0), "000C", "000C"),
    "2 bytes at 0, strip the header": (LengthField(2, strip=2), "000C", ""),
    "2 bytes at 0, the length counts the whole message": (LengthField(2, adjust=-2, strip=0), "000E", "000E"),
    "3 bytes at the end of a 5 bytes header": (LengthField(3, offset=2, strip=0), "CAFE 00000C", "CAFE 00000C"),
    "3 bytes at the beginning of a 5 bytes header": (LengthField(3, adjust=2, strip=0), "00000C CAFE", "00000C CAFE"),
    "2 bytes in the middle of a 4 bytes header": (LengthField(2, offset=1, adjust=1, strip=3), "CA 000C FE", "FE"),
    "the same, counting the whole message": (LengthField(2, offset=1, adjust=-3, strip=3), "CA 0010 FE", "FE"),
}


class Bad(NamedTuple):
    """A stream that goes wrong: in the frame at `offset`, as soon as `shows` bytes have come."""

    name: str
    spec: Spec
    stream: bytes
    payloads: list[bytes]
    error: type[FramingError]
    offset: int
    shows: int
    size: int | None = None
    limit: int | None = None
    max_size: int | None = DEFAULT_MAX_SIZE


def _ascii(what: str, header: bytes, align: str = "<") -> Bad:
    assert len(header) == 10, header
    spec = Ascii(10, align)  # type: ignore[arg-type]
    return Bad(f"ascii10{align} {what}", spec, frame(spec, b"x") + header + b"hello", [b"x"], HeaderError, 11, 21)


def _netstring(header: bytes, shows: int) -> Bad:
    return Bad(f"netstring {header!r}", Netstring(), b"1:x," + header, [b"x"], HeaderError, 4, 4 + shows)


def _over(spec: Spec, size: int, max_size: int | None, what: str = "") -> Bad:
    """A header that announces more than the limit."""
    header = announce(spec, size)
    limit = UNLIMITED if max_size is None else max_size
    name = f"{spec.name} announces {size} over {max_size}{what}"
    shows = len(header)
    return Bad(name, spec, header + b"hello", [], FrameTooLarge, 0, shows, size, limit, max_size)


HUGE: list[tuple[Spec, list[int]]] = [
    (Ascii(20), [2**62, 2**63, 2**64, 10**20 - 1]),
    (Ascii(20, ">"), [2**64]),
    (Ascii(20, "0"), [2**64 - 1]),
    (LengthField(8), [2**62, 2**63 - 1, 2**63, 2**64 - 1]),
    (LengthField(8, "little"), [2**63, 2**64 - 1]),
    (LengthField(8, adjust=7), [2**64 - 1, 2**64, 2**64 + 6]),
    (LengthField(8, adjust=-1), [2**63, 2**64 - 2]),
    (LengthField(8, strip=0), [2**64 - 1]),
    (LengthField(8, offset=2, strip=3), [2**63]),
    (Varint(), [2**62, 2**63, 2**64 - 1]),
    (Netstring(), [2**62, 2**63, 2**64, 10**20 - 1]),
    (MultiprocessingPipe(), [2**62, 2**63, 2**64 - 1]),
]
"""Over every limit, None included, up to the edges of 64 bits."""

OVER_1000: list[tuple[Spec, list[int]]] = [
    (Ascii(10), [1001, 10**10 - 1]),
    (LengthField(2), [1001]),
    (LengthField(3), [2**24 - 1]),
    (LengthField(4), [2**31, 2**32 - 1]),
    (LengthField(4, "little"), [2**32 - 1]),
    (LengthField(5), [2**40 - 1]),
    (LengthField(7), [2**56 - 1]),
    (LengthField(2, adjust=4), [1001]),
    (LengthField(2, adjust=-4), [1001]),
    (Varint(32), [2**31, 2**32 - 1]),
    (Netstring(), [1001]),
    (MultiprocessingPipe(), [1001, 2**31 - 1, 2**31]),
]

BAD = [
    # What int() would let through.
    _ascii("a plus sign", b"+5        "),
    _ascii("a minus sign", b"-1        "),
    _ascii("an underscore", b"1_0       "),
    _ascii("a blank in front", b" 5        "),
    _ascii("a blank inside", b"1 0       "),
    _ascii("nothing but blanks", b"          "),
    _ascii("a tab", b"5\t        "),
    _ascii("a line feed", b"5\n        "),
    _ascii("a form feed and a vertical tab", b"5\x0c\x0b       "),
    _ascii("a zero byte", b"5\0        "),
    _ascii("Arabic-Indic digits", "\u0663\u0663".encode() + b"      "),
    _ascii("a full-width digit", "\uff15".encode() + b"       "),
    _ascii("a superscript", "\u00b2".encode() + b"        "),
    _ascii("Latin-1 superscripts", b"\xb2\xb3        "),
    _ascii("a no-break space", b"5\xa0        "),
    _ascii("an em space", b"5\xe2\x80\x83      "),
    _ascii("hexadecimal", b"0x5       "),
    _ascii("a decimal point", b"5.0       "),
    _ascii("a slash, the byte before 0", b"1/        "),
    _ascii("a colon, the byte behind 9", b"1:        "),
    _ascii("zeros and a letter", b"000000000a"),
    _ascii("a blank behind", b"        5 ", ">"),
    _ascii("a tab in front", b"\t        5", ">"),
    _ascii("nothing but blanks", b"          ", ">"),
    _ascii("a minus sign", b"        -1", ">"),
    _ascii("blanks in front", b"         5", "0"),
    _ascii("a blank behind", b"000000005 ", "0"),
    _ascii("a sign in front", b"+000000005", "0"),
    Bad("ascii1 a blank", Ascii(1), b"1x hello", [b"x"], HeaderError, 2, 3),
    Bad("ascii20 a sign at the end", Ascii(20), b"1" + b" " * 18 + b"-x", [], HeaderError, 0, 20),
    Bad("ascii8 a digit behind the blank", Ascii(8), b"1      5x", [], HeaderError, 0, 8),
    Bad("ascii16 a letter in the second half", Ascii(16, "0"), b"0000000000000a01", [], HeaderError, 0, 16),
    # Netstrings: each shows at the first byte that cannot be.
    _netstring(b"05:hello,", 2),
    _netstring(b"00:,", 2),
    _netstring(b":,", 1),
    _netstring(b"-1:,", 1),
    _netstring(b"+5:hello,", 1),
    _netstring(b" 5:hello,", 1),
    _netstring(b"5 :hello,", 2),
    _netstring(b"1_0:", 2),
    _netstring(b"5;hello,", 2),
    _netstring(b"5:hello;", 8),
    _netstring(b"5:hello5:world,", 8),
    _netstring(b"0:5:hello,", 3),
    _netstring(b"\xd9\xa3:", 1),
    _netstring(b"1" * 21 + b":", 21),
    # Lengths over the limit, up to the edges of 64 bits.
    *(_over(spec, size, max_size) for max_size in (1000, None) for spec, sizes in HUGE for size in sizes),
    *(_over(spec, size, 1000) for spec, sizes in OVER_1000 for size in sizes),
    # A length that adjust makes negative.
    Bad("u8 adjust=-3 of 2", LengthField(1, adjust=-3), b"\x04x\x02hello", [b"x"], HeaderError, 2, 3),
    Bad("u64be adjust=-1 of 0", LengthField(8, adjust=-1), bytes(8) + b"hello", [], HeaderError, 0, 8),
    Bad("u64be adjust=1-2**64 of 0", LengthField(8, adjust=1 - 2**64), bytes(8), [], HeaderError, 0, 8),
    Bad("u8 adjust=-255 of -1", LengthField(1, adjust=-255), b"\xff\xfe", [b""], HeaderError, 1, 2),
    Bad("u8 shorter than its strip", LengthField(1, strip=4), b"\x03abc\x02ab", [b""], HeaderError, 4, 5),
    # Varints: too long, and past the width.
    Bad("varint of 11 bytes", Varint(), b"\x01x" + b"\x80" * 10 + b"\0", [b"x"], HeaderError, 2, 12),
    Bad("varint past 64 bits", Varint(), b"\xff" * 9 + b"\x02", [], HeaderError, 0, 10),
    Bad("varint far past 64 bits", Varint(), b"\x80" * 9 + b"\x7f", [], HeaderError, 0, 10),
    Bad("varint32 of 6 bytes", Varint(32), b"\x01x" + b"\x80" * 5 + b"\0", [b"x"], HeaderError, 2, 7),
    Bad("varint32 past 32 bits", Varint(32), b"\xff" * 4 + b"\x10", [], HeaderError, 0, 5),
    Bad("varint32 far past 32 bits", Varint(32), b"\x80" * 4 + b"\x7f", [], HeaderError, 0, 5),
    # multiprocessing: -1 is an escape; the standard library takes -2 for an empty message.
    Bad("multiprocessing -2", MultiprocessingPipe(), b"\0\0\0\1x\xff\xff\xff\xfe", [b"x"], HeaderError, 5, 9),
    Bad("multiprocessing -2**31", MultiprocessingPipe(), b"\x80\0\0\0", [], HeaderError, 0, 4),
    # No delimiter within the limit: shows with the first byte over it that cannot be one's beginning.
    Bad("lines", Delimited(b"\n"), b"12345\n123456789\n", [b"12345"], FrameTooLarge, 6, 12, None, 5, 5),
    Bad("lines, one byte over", Delimited(b"\n"), b"12345\n123456\n", [b"12345"], FrameTooLarge, 6, 12, None, 5, 5),
    Bad("crlf", Delimited(b"\r\n"), b"12345\r\n12345\r6\r\n", [b"12345"], FrameTooLarge, 7, 14, None, 5, 5),
    Bad("keep", Delimited(b"\n", keep=True), b"12345\n123456\n", [b"12345\n"], FrameTooLarge, 6, 12, None, 5, 5),
    Bad("no room at all", Delimited(b"\n"), b"\n\nx", [b"", b""], FrameTooLarge, 2, 3, None, 0, 0),
    Bad("the longest of three", Delimited(b"aaaa", b"\n", b"\r"), b"aaab\n", [], FrameTooLarge, 0, 4, None, 2, 2),
]  # fmt: skip


def ids(vectors: list[Good]) -> list[str]:
    """Readable and distinct."""
    return [f"{i}-{vector.spec.name!r}" for i, vector in enumerate(vectors)]
