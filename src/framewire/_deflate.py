"""permessage-deflate (RFC 7692), the part that moves bytes: messages are compressed, and what was negotiated for it.

Both cores use these, since zlib is what takes the time here.

Rules that hold here:

- A decompressor never makes more than it was told to: what a few bytes can swell to is found out without swelling.
- A message ends in an empty stored block, of which the last four bytes are left out on the wire (section 7.2.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

TAIL: Final = b"\0\0\xff\xff"
"""What the end of a message leaves out."""

PIECE_SIZE: Final = 4096
"""Bytes that zlib is given at a time behind a block that was the last one: what it leaves of them, it copies."""

NO_MEMORY: Final = "Error -4 "
"""How the text of a ``zlib.error`` begins where there was no memory (Z_MEM_ERROR)."""

LEAST_WINDOW_BITS: Final = 9
"""zlib has a window of 512 bytes at least, where the protocol has 256 (``window_bits=8``)."""


@dataclass(frozen=True)
class Deflate:
    """What two peers have agreed on about compression: the parameters of permessage-deflate (RFC 7692, section 7.1).

    Args:
        server_no_context_takeover: The server compresses each message by itself.
        client_no_context_takeover: The client does.
        server_max_window_bits: The server looks back for repetitions at most 2 ** this many bytes: 8 to 15.
        client_max_window_bits: The client does.

    Raises:
        ValueError: If the window bits are not 8 to 15.
    """

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15

    def __post_init__(self) -> None:
        for name in ("server_max_window_bits", "client_max_window_bits"):
            bits = getattr(self, name)
            if not isinstance(bits, int):
                raise TypeError(f"{name} must be an int, not {bits!r}")
            if not 8 <= bits <= 15:
                raise ValueError(f"{name} must be 8 to 15, not {bits!r}")

    def compressor(self, role: str) -> Compressor:
        """For what `role` ("server" or "client") sends."""
        return Compressor(*self._of(role))

    def decompressor(self, role: str) -> Decompressor:
        """For what `role` ("server" or "client") has sent."""
        return Decompressor(*self._of(role))

    def _of(self, role: str) -> tuple[int, bool]:
        if role == "server":
            return self.server_max_window_bits, self.server_no_context_takeover
        return self.client_max_window_bits, self.client_no_context_takeover


class Compressor:
    """Compresses the messages of one direction."""

    def __init__(self, window_bits: int, forget: bool) -> None:
        import zlib  # here, since few need it

        self._zlib = zlib
        self._window_bits = window_bits
        self._forget = forget
        self._deflate: Any = None

    def compress(self, data: Any, *, final: bool) -> bytes:
        """The next part of a message, whole bytes of it; the tail is cut off the last one."""
        zlib = self._zlib
        if self._deflate is None:
            # Without any looking back a window of 256 bytes is never exceeded, whatever zlib's own is.
            strategy = zlib.Z_DEFAULT_STRATEGY if self._window_bits >= LEAST_WINDOW_BITS else zlib.Z_HUFFMAN_ONLY
            bits = max(self._window_bits, LEAST_WINDOW_BITS)
            self._deflate = zlib.compressobj(wbits=-bits, strategy=strategy)
        made: bytes = self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        if not final:
            return made
        if self._forget:
            self._deflate = None
        return made[: -len(TAIL)] if made.endswith(TAIL) else b"\0"  # section 7.2.3.6: nothing is one empty block


class Decompressor:
    """Decompresses the messages of one direction."""

    def __init__(self, window_bits: int, forget: bool) -> None:
        import zlib

        self._zlib = zlib
        self._bits = -max(window_bits, LEAST_WINDOW_BITS)
        self._forget = forget
        self._inflate: Any = None
        self._begun = False  # data of the message has come
        self._final_seen = False

    def decompress(self, data: bytes, room: int | None, *, final: bool = False) -> bytes | None:
        """What the next part of a message comes to, and at most `room` bytes of it, plus one that tells of more.

        Returns:
            None if the data is damaged.
        """
        if final:
            if not data and not self._begun:
                return b""  # no data is no message (section 7.2.3.6), but it can only mean an empty one
            data += TAIL
        self._begun = not final and (self._begun or bool(data))
        try:
            made = self._decompress(data, room)
            if self._inflate.eof:
                made += self._go_on(len(data), data, None if room is None else room - len(made))
        except self._zlib.error as error:
            if str(error).startswith(NO_MEMORY):
                raise MemoryError from None
            return None
        if final and (self._forget or self._final_seen):
            self._inflate = None
            self._final_seen = False
        return made

    def _decompress(self, data: bytes, room: int | None) -> bytes:
        if self._inflate is None:
            self._inflate = self._zlib.decompressobj(self._bits)
        made: bytes = self._inflate.decompress(data, 0 if room is None else room + 1)
        return made

    def _go_on(self, at: int, data: bytes, room: int | None) -> bytes:
        """There was a block that says it is the last one (section 7.2.3.4), which zlib takes for the end. What follows
        in the message, and has come up to `at`, are blocks like any others."""
        parts = []
        self._final_seen = True
        while self._inflate is not None and self._inflate.eof and (room is None or room >= 0):
            at -= len(self._inflate.unused_data)
            self._inflate = None
            # In pieces: each of these blocks may be a few bytes, and leaves all behind it as a copy.
            while at < len(data) and (room is None or room >= 0) and not (self._inflate and self._inflate.eof):
                piece = data[at : at + PIECE_SIZE]
                parts.append(self._decompress(piece, room))
                at += len(piece)
                if room is not None:
                    room -= len(parts[-1])
        return b"".join(parts)
