r"""Payloads as lines and lines as payloads: the styles of ``--as``."""

from __future__ import annotations

import re
from binascii import hexlify
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from . import CORE, Encoder
from .arguments import say

Batch: TypeAlias = list[bytes]
Render: TypeAlias = Callable[[Batch], bytes]


class Lines:
    """Payloads as lines, in one of the styles of ``--as``."""

    def __init__(self, style: str) -> None:
        self.render: Render = {"text": self._text, "escape": escape, "hex": to_hex}[style]
        self._encode_lines = Encoder("lines", max_size=None).encode_many
        self._broken_count = 0

    def _text(self, payloads: Batch) -> bytes:
        if CORE == "c":
            # In half the time of what follows; the ValueError is for a line break in a payload.
            with suppress(ValueError):
                return self._encode_lines(payloads)
        data = b"\n".join([*payloads, b""])
        if data.count(b"\n") > len(payloads):
            self._broken_count += sum(b"\n" in payload for payload in payloads)
        return data

    def note(self) -> None:
        if count := self._broken_count:
            held = "1 payload holds" if count == 1 else f"{count} payloads hold"
            say(f"{held} a line break; --as escape writes one line for each")


def escape(payloads: Batch) -> bytes:
    r"""Each payload as a line of printable ASCII, with ``\\ \t \n \r \xNN`` for everything else.

    >>> escape([b"tab\t", "\u00e9".encode()])
    b'tab\\t\n\\xc3\\xa9\n'
    """
    data = b"\n".join([*payloads, b""])
    if data.translate(None, _PLAIN) == b"\n" * len(payloads):
        return data  # nothing but the line breaks behind the payloads is not plain
    return b"\n".join([*map(_escape, payloads), b""])


def _escape(data: bytes) -> bytes:
    return data.decode("latin-1").encode("unicode_escape")


_PLAIN = bytes(set(range(0x20, 0x7F)) - {ord("\\")})
_ESCAPE = re.compile(rb"\\([\\tnr]|x[0-9a-fA-F]{2}|)")


def parse_escaped(lines: Batch) -> Batch:
    r"""The payloads that `escape` has written so; bytes that need no escape may stand for themselves.

    >>> parse_escaped([rb"tab\t", rb"\xc3\xa9", "\u00e9".encode()])
    [b'tab\t', b'\xc3\xa9', b'\xc3\xa9']

    Raises:
        ValueError: At a backslash that begins no escape.
    """
    return lines if b"\\" not in b"".join(lines) else [*map(_parse_escaped, lines)]


def _parse_escaped(line: bytes) -> bytes:
    if b"\\" not in line:
        return line
    # The codec knows more escapes, and lets unknown ones pass with a warning.
    rest = line.replace(rb"\\", b"")
    if rest.count(b"\\") == sum(map(rest.count, [rb"\t", rb"\n", rb"\r", rb"\x"])):
        with suppress(UnicodeDecodeError):  # digits missing after \x
            return line.decode("unicode_escape").encode("latin-1")
    at = next(match.start() for match in _ESCAPE.finditer(line) if not match[1])
    raise ValueError(rf"the backslash at byte {at} begins no escape; there are \\ \t \n \r and \xNN")


def to_hex(payloads: Batch) -> bytes:
    return b"\n".join([*map(hexlify, payloads), b""])


def parse_hex(lines: Batch) -> Batch:
    """The payloads of these hexadecimal digits; blanks between the bytes do no harm.

    Raises:
        ValueError: If there is anything else.
    """
    return [*map(_parse_hex, lines)]


def _parse_hex(line: bytes) -> bytes:
    try:
        return bytes.fromhex(line.decode("ascii"))
    except ValueError:
        raise ValueError(f"{line[:20].decode('latin-1')!r} is not pairs of hexadecimal digits") from None
