"""WebSocket frames as wsproto delivers them, in Python: the reference for its twin ``ext/dropin_wsproto.pxi``.

::

    81 85 37 fa 21 3d 7f 9f 4d 51 58      "hello" from a client: FIN and opcode, MASK and size, key, payload
    81 05 68 65 6c 6c 6f                  the same from a server

Rules that hold here:

- The payload of a data frame is delivered as it comes, part by part; that of a control frame only whole.
- A header that is not whole consumes nothing, and is read again. What is wrong with it is told as soon as it shows, in
  the host's order.
- A chunk is kept as it came, and its payloads are unmasked on their way out of it: one copy. Chunks are joined only
  where something does not end inside one.
- What is rare (a refusal, an extension) is a method of the subclass, which knows the host's words for it.
"""

from __future__ import annotations

from typing import Any, NoReturn

__all__ = ["WsprotoReader", "wsproto_frame", "wsproto_mask"]

BINARY = 2
FIN, RSV, OPCODE, CONTROL, MASKED = 0x80, 0x70, 0x0F, 0x08, 0x80
CONTROL_SIZE = 125
"""Most bytes in the payload of a control frame (RFC 6455, section 5.5)."""

HEADER_SIZE = 14
"""Bytes that are enough for any header."""

SHORT = 1024
"""Most bytes that are masked as a number: beyond that four tables are faster."""

XOR = [bytes(a ^ b for a in range(256)) for b in range(256)]
"""For each byte of a key, what it makes of every byte."""


class WsprotoReader:
    """Turns chunks into the host's frames: `receive_bytes` takes, `process_buffer` gives one.

    A subclass has the methods ``_refused``, ``_inbound_header`` and ``_inbound_payload``.

    Args:
        client: Whether this is the client's end, to which nothing comes masked; to a server everything does.
        extensions: The host's extensions, in the order in which they are asked.
        frame: The host's ``Frame``, a tuple: opcode, payload, whether its frame is over, whether its message is.
        opcodes: The host's ``Opcode`` for each of the 16 values; None for those that are not allowed.
    """

    def __init__(self, client: bool, extensions: Any, frame: Any, opcodes: tuple[Any, ...]) -> None:
        if hasattr(self, "_frame"):
            raise RuntimeError("a decoder is made once")
        self.client = client
        self.extensions = extensions
        self._frame = frame
        self._opcodes = opcodes
        self._data = b""
        self._pos = 0
        self._pending: list[bytes] = []  # chunks behind `_data`
        self._busy = False  # an extension is being asked
        self._first = -1  # byte of the header of the frame under way
        self._opcode = 0  # of its next part
        self._left = 0  # bytes of its payload that have not been delivered
        self._key = b""  # for the next of them; empty if there is none

    def receive_bytes(self, data: bytes) -> None:
        """Take a chunk of the stream."""
        if type(data) is not bytes:
            data = b"" + data
        if self._pending or self._pos < len(self._data):
            self._pending.append(data)
        else:
            self._data, self._pos = data, 0

    def process_buffer(self) -> Any:
        """The next frame, or part of a data frame; None if more bytes are needed.

        Raises:
            ParseFailed: If the frame is not allowed; again by each further call.
        """
        payload = self._payload()
        return None if payload is None else self._deliver(payload)

    def process_message(self, messages: Any) -> Any:
        """As `process_buffer`; a frame of data has been through ``messages``, a ``MessageDecoder`` of the host."""
        payload = self._payload()
        if payload is None:
            return None
        if self._first & CONTROL:
            return self._deliver(payload)
        opened = messages.opcode
        if opened is None:
            if self._opcode and not self._left and self._first >= FIN:  # a message in one piece
                if self._opcode == BINARY:
                    return self._deliver(payload)
                try:
                    return self._deliver(payload.decode())
                except UnicodeDecodeError:
                    pass  # the host has the words for it
        elif not self._opcode and messages.decoder is None:  # a further piece of a binary message
            if not self._left and self._first >= FIN:
                messages.opcode = None
            return self._deliver(payload, opened)
        return messages.process_frame(self._deliver(payload))

    def _deliver(self, payload: bytes | str, opened: Any = None) -> Any:
        """The frame, or the part, with this payload; `opened` is the opcode of the message that it is a piece of."""
        finished, fin = not self._left, self._first >= FIN
        if opened is None:
            opcode = self._opcodes[self._opcode]
        else:
            opcode, fin = opened, fin and finished
        if finished:
            self._first = -1
        else:
            self._opcode = 0
        return self._frame(opcode, payload, finished, fin)

    def _payload(self) -> bytes | None:
        """What there is of the payload of the frame under way; None if that is nothing yet."""
        if self._busy:
            raise RuntimeError("process_buffer() called from inside an extension")
        if self._first < 0:
            if len(self._data) - self._pos < HEADER_SIZE:
                self._join()
            if not self._begin():
                return None
        left = self._left
        if len(self._data) - self._pos < left:
            self._join()
        part = self._data[self._pos : self._pos + left]
        if len(part) < left and (not part or self._first & CONTROL):
            return None
        self._pos += len(part)
        self._left = left = left - len(part)
        if self._pos == len(self._data):
            self._data, self._pos = b"", 0
            self._join()
        key = self._key
        if key:
            turn = len(part) % 4
            part = _masked(part, key)
            self._key = key[turn:] + key[:turn]
        if self.extensions:
            self._busy = True
            try:
                part = self._inbound_payload(part, not left, self._first >= FIN)
            finally:
                self._busy = False
        return part

    def _begin(self) -> bool:
        """Read a header; return whether it is whole."""
        data, pos = self._data, self._pos
        there = len(data) - pos
        if there < 2:
            return False
        first, second = data[pos], data[pos + 1]
        code = second & 0x7F
        if self._opcodes[first & OPCODE] is None or (first & CONTROL and (first < FIN or code > CONTROL_SIZE)):
            self._refused(first, second, 0)
        size, head = code, 2
        if code > 125:
            head = 4 if code == 126 else 10
            if there < head:
                return False
            size = int.from_bytes(data[pos + 2 : pos + head], "big")
            if size <= (125 if code == 126 else 65535) or size >> 63:
                self._refused(first, second, size)
        if self.extensions:
            self._busy = True
            try:
                self._inbound_header(first, size)
            finally:
                self._busy = False
        elif first & RSV:
            self._refused(first, second, size)
        if (second >= MASKED) == bool(self.client):
            self._refused(first, second, size)
        key = b""
        if second >= MASKED:
            key = data[pos + head : pos + head + 4]
            if len(key) < 4:
                return False
            head += 4
        self._pos = pos + head
        self._first, self._opcode, self._left, self._key = first, first & OPCODE, size, key
        return True

    def _join(self) -> None:
        """Put what has come later behind `_data`."""
        if self._pending:
            self._data, self._pos = self._data[self._pos :] + b"".join(self._pending), 0
            self._pending.clear()

    def _refused(self, first: int, second: int, size: int) -> NoReturn:
        """Raise for a header that begins with these two bytes; the size is 0 if it is not known yet."""
        raise NotImplementedError

    def _inbound_header(self, first: int, size: int) -> None:
        """Ask the extensions for a header; raise if one of them refuses it."""
        raise NotImplementedError

    def _inbound_payload(self, payload: bytes, finished: bool, fin: bool) -> bytes:
        """What the extensions make of a part of a payload; `finished` if it is the last one of its frame."""
        raise NotImplementedError


def wsproto_frame(first: int, payload: bytes | bytearray, key: bytes | None) -> bytearray:
    """A frame: the first byte as given, the payload masked if there is a key."""
    size = len(payload)
    masked = 0 if key is None else MASKED
    if size <= 125:
        frame = bytearray((first, masked | size))
    elif size <= 65535:
        frame = bytearray((first, masked | 126)) + size.to_bytes(2, "big")
    else:
        frame = bytearray((first, masked | 127)) + size.to_bytes(8, "big")
    if key is None:
        frame += payload
    else:
        frame += key
        frame += _masked(payload, key)
    return frame


def wsproto_mask(data: bytes | bytearray, key: bytes) -> bytearray:
    """The bytes XOR the four bytes of the key, over and over."""
    return bytearray(_masked(data, key))


def _masked(data: bytes | bytearray, key: bytes) -> bytes:
    size = len(data)
    if size <= SHORT:
        keys = (key * (size // 4 + 1))[:size]
        return (int.from_bytes(data, "little") ^ int.from_bytes(keys, "little")).to_bytes(size, "little")
    masked = bytearray(data)
    for i, byte in enumerate(key):
        masked[i::4] = masked[i::4].translate(XOR[byte])
    return bytes(masked)
