"""What ``websockets`` does with frames, in Python: the reference for its twin ``ext/dropin_websockets.pxi``.

::

    FIN RSV1-3 opcode | MASK length | 0, 2 or 8 bytes of length | 4 bytes of key if MASK | payload        RFC 6455, 5.2

Rules that hold here:

- Only what is plain is done here. Everything else (an error, the end of the stream, a frame that changes the state of
  the connection) is left to the host's own code, which knows what to raise, in which order and with which words.
- A frame is taken whole or not at all. While it is not whole, or if it is the host's to read, its first byte is still
  the first in the reader's buffer.
- What websockets accepts is accepted: lengths that could be shorter, and the top bit of one of 64 bits.
- Keys come from ``secrets.token_bytes``, looked up when one is needed.
"""

from __future__ import annotations

import secrets
import sys
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .._wire import BytesLike

__all__ = ["WebsocketsFraming", "websockets_apply_mask"]

CLOSE, PING, PONG = 0x8, 0x9, 0xA

Place = tuple[int, int, int]
"""Of a whole frame in the buffer: where its key begins, where its payload does, and where that ends."""


def websockets_apply_mask(data: BytesLike, mask: BytesLike) -> bytes:
    """``websockets.frames.apply_mask``: `data` XOR `mask`, repeated. Both are bytes, bytearray or memoryview."""
    for given in (data, mask):
        if not isinstance(given, (bytes, bytearray, memoryview)):
            raise TypeError(f"expected a bytes-like object, {type(given).__name__} found")
    mask = bytes(mask)
    if len(mask) != 4:
        raise ValueError("mask must contain 4 bytes")
    data = bytes(data)
    size = len(data)
    key = mask * (size // 4) + mask[: size % 4]
    return (int.from_bytes(data, sys.byteorder) ^ int.from_bytes(key, sys.byteorder)).to_bytes(size, sys.byteorder)


class WebsocketsFraming:
    """What ``websockets`` does with frames, for its classes.

    Args:
        frames: Its module of that name.
        protocol: Its module of that name.
        send_frame: What ``send_frame`` of a ``Protocol`` must be for `take_all` to answer a ping.
    """

    def __init__(self, frames: Any, protocol: Any, send_frame: Any) -> None:
        self._frames = frames
        self._frame_class = frames.Frame
        self._opcodes = {int(member): member for member in frames.Opcode}
        self._server = protocol.SERVER
        self._recv_frame = protocol.Protocol.recv_frame
        self._send_frame = send_frame

    def take(
        self, cls: Any, reader: Any, mask: bool, max_size: int | None, extended: bool
    ) -> Any | Literal[False] | None:
        """Take one frame from the front of what a ``StreamReader`` holds.

        Args:
            cls: The class of the frame.
            reader: The ``StreamReader``.
            mask: Whether there must be a mask.
            max_size: Most bytes of payload, or None.
            extended: Whether reserved bits may be set.

        Returns:
            The frame; None if it is not whole yet; False if the host is to read what is there. Then nothing was taken.
        """
        buffer = reader.buffer
        place = self._find(buffer, mask, max_size, extended)
        if not place:
            return None if place is None and not reader.eof else False
        frame = self._frame(cls, buffer, place)
        del buffer[: place[2]]
        return frame

    def take_all(self, protocol: Any, data: BytesLike = b"") -> bool:
        """Take every whole frame that a ``Protocol`` has received, and do with it what ``recv_frame`` does.

        Args:
            protocol: The ``Protocol``.
            data: What has just come; what is not taken of it goes into its reader's buffer.

        Returns:
            Whether to go on when more has come. If not, the host is to read what is there, and whatever follows.
        """
        reader = protocol.reader
        buffer = reader.buffer
        if type(data) is not bytes or data:
            reader.feed_data(data)
        if protocol.extensions or protocol.debug or getattr(protocol.recv_frame, "__func__", None) != self._recv_frame:
            return False
        mask = protocol.side is self._server
        while True:
            current_size = protocol.current_size
            max_size, max_fragment_size = protocol.max_message_size, protocol.max_fragment_size
            if max_size is not None and current_size is not None:
                max_size -= current_size
            if max_fragment_size is not None:
                max_size = max_fragment_size if max_size is None else min(max_size, max_fragment_size)
            place = self._find(buffer, mask, max_size, False)
            if not place:
                return place is None and not reader.eof
            fin, opcode = buffer[0] >= 0x80, buffer[0] & 0x0F
            if opcode == CLOSE or (opcode < CLOSE and (opcode != 0) != (current_size is None)):
                return False
            try:
                frame = self._frame(self._frame_class, buffer, place)
                if opcode == PING and not self._pong(protocol, frame.data, not mask):
                    return False
            except Exception:
                return False  # to the host, which will meet the same, and knows what to do
            if opcode < CLOSE and (opcode == 0 or not fin):
                protocol.current_size = None if fin else (current_size or 0) + len(frame.data)
            protocol.events.append(frame)
            del buffer[: place[2]]

    def serialize(self, frame: Any, mask: bool, extensions: Any) -> bytes | None:
        """What a frame is on the wire; None if the host is to write it, or to say why it cannot be written."""
        if type(frame) is not self._frame_class:
            return None
        first, data = _first(frame), frame.data
        if not isinstance(data, (bytes, bytearray)) and not (
            type(data) is memoryview and data.c_contiguous and data.nbytes == len(data)
        ):
            return None
        if first is None or first & 0x70 or (first & 0x08 and (len(data) > 125 or first < 0x80)):
            return None
        if extensions:
            for extension in extensions:
                frame = extension.encode(frame)
            first, data = _first(frame), frame.data
            if first is None:
                raise ValueError(f"invalid opcode: {frame.opcode!r}")
        size, bit = len(data), 0x80 if mask else 0
        if size < 126:
            header = bytes((first, bit | size))
        elif size < 65536:
            header = bytes((first, bit | 126)) + size.to_bytes(2, "big")
        else:
            header = bytes((first, bit | 127)) + size.to_bytes(8, "big")
        if not mask:
            return b"".join((header, data))
        key = secrets.token_bytes(4)
        return b"".join((header, key, self._frames.apply_mask(data, key)))

    def _find(
        self, buffer: bytearray, mask: bool, max_size: int | None, extended: bool
    ) -> Place | Literal[False] | None:
        """Look at a header, as far as it has come: where its frame is, None if not whole, False if it is the host's."""
        there = len(buffer)
        if there < 2:
            return None
        first, second = buffer[0], buffer[1]
        code = second & 0x7F
        if first & 0x0F not in self._opcodes or (second >= 0x80) != mask or (first & 0x70 and not extended):
            return False
        if first & 0x08 and (code > 125 or first < 0x80):
            return False
        at, size = 2, code
        if code > 125:
            at = 4 if code == 126 else 10
            if there < at:
                return None
            size = int.from_bytes(buffer[2:at], "big")
        if max_size is not None and size > max_size:
            return False
        start = at + 4 if mask else at
        return (at, start, start + size) if there >= start + size else None

    def _frame(self, cls: Any, buffer: bytearray, place: Place) -> Any:
        """Make a frame of a copy of what stands in this place."""
        key, start, end = place
        first = buffer[0]
        data: Any = buffer[start:end]
        if key < start:
            data = self._frames.apply_mask(data, buffer[key:start])
        opcode = self._opcodes[first & 0x0F]
        return cls(opcode, data, first >= 0x80, first & 0x40 != 0, first & 0x20 != 0, first & 0x10 != 0)

    def _pong(self, protocol: Any, data: bytes, mask: bool) -> bool:
        if getattr(protocol.send_frame, "__func__", None) != self._send_frame:
            return False
        protocol.writes.append(self.serialize(self._frame_class(self._opcodes[PONG], data), mask, None))
        return True


def _first(frame: Any) -> int | None:
    """The first byte of a frame; None if its opcode does not fit in."""
    opcode = frame.opcode
    if not isinstance(opcode, int) or not 0 <= opcode < 16:
        return None
    return (
        (0x80 if frame.fin else 0)
        | (0x40 if frame.rsv1 else 0)
        | (0x20 if frame.rsv2 else 0)
        | (0x10 if frame.rsv3 else 0)
        | int(opcode)
    )
