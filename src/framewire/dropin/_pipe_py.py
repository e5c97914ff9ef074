"""Messages of ``multiprocessing.connection`` over a descriptor, in Python: the reference for its twin ``ext/pipe.pxi``.

::

    0x00000003 | a b c                                   a length of 4 bytes, signed, big-endian; the body
    0xFFFFFFFF | 0x0000000080000000 | 2 GiB of body      -1 and 8 bytes, unsigned, from 2 GiB on

Rules that hold here:

- Not one byte behind the message is read: whoever waits for the descriptor, passes others over it or shares it with
  another process relies on what is left in it.
- Memory follows the bytes that came: at most the larger of 64 KiB and twice as much is reserved, whatever a
  header says.
- A message goes out with one write, if the system takes it whole.
- What a system call moved is booked before anything else can happen. An exception (a signal's handler raised it, or
  the descriptor is non-blocking) in the middle of a message leaves what has come with the keeper, and the next call
  goes on with it; a message that has gone out in part is told, and nothing can be sent behind it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from struct import Struct
from typing import Any, NoReturn, Protocol

__all__ = ["Keeper", "pipe_recv", "pipe_recv_into", "pipe_send"]

INT = Struct("!i")
LONG = Struct("!iQ")
LONGEST = 0x7FFFFFFF
"""Most bytes in a body whose length takes 4 bytes."""

JOINED = 16384
"""Most bytes in a body that is copied behind its header."""
ROOM = 64 * 1024
"""Bytes reserved before anything has come."""
STEP = 1 << 30
"""Most bytes in one write: some systems refuse 2 GiB."""
MAX_SIZE = (1 << 63) - 1


class Keeper(Protocol):
    """Whoever the descriptor belongs to: keeps what an exception interrupts, and knows what to raise."""

    def _received_in_part(self, partial: bytes | None, /) -> None:
        """Keep the beginning of a message for the next call; None if it is lost."""

    def _resumed(self) -> None:
        """Forget the beginning that was kept: it is in other hands, which give it back if need be."""

    def _sent_in_part(self) -> None:
        """Send nothing more."""

    def _refused(self, head: bytes, /) -> NoReturn:
        """Raise for this header: it is none, or over the limit."""

    def _ended(self, head_size: int, received: int, size: int, /) -> NoReturn:
        """Raise for the end of the stream after so many bytes of a header and of a body of `size` (-1: unknown)."""


def pipe_recv(keeper: Keeper, fd: int, maxlength: int | None = None, partial: bytes = b"") -> bytes:
    """Receive the next message, and no byte behind it.

    Args:
        keeper: Is told of what is not a message: see `Keeper`.
        fd: Where to read.
        maxlength: Most bytes in its body; None is no limit.
        partial: What an interrupted call has left.
    """
    if not partial:  # the fast way, for what comes in one piece
        parts: list[bytes] = []
        try:
            parts.extend(map(os.read, (fd,), (INT.size,)))  # see _fill()
            if len(parts[0]) == INT.size:
                (size,) = INT.unpack(parts[0])
                if 0 < size <= (ROOM if maxlength is None else min(maxlength, ROOM)):
                    parts.extend(map(os.read, (fd,), (size,)))
                    if len(parts[1]) == size:
                        return parts[1]
        except BaseException:
            keeper._received_in_part(b"".join(parts))
            raise
        partial = b"".join(parts)
    head_size = LONG.size if partial[: INT.size] == b"\xff" * INT.size else INT.size
    head, body = [partial[:head_size]], [partial[head_size:]]
    size, received, refused = -1, 0, False
    try:
        keeper._resumed()
        head_size = _fill(fd, head, INT.size)
        if head_size >= INT.size:
            (size,) = INT.unpack_from(b"".join(head))
            if size == -1:
                head_size = _fill(fd, head, LONG.size)
                if head_size == LONG.size:
                    (_, size) = LONG.unpack(b"".join(head))
            else:
                refused = size < 0
        refused = refused or size > (MAX_SIZE if maxlength is None else min(maxlength, MAX_SIZE))
        if size >= 0 and not refused:
            received = _fill(fd, body, size)
    except BaseException:
        keeper._received_in_part(b"".join(head + body))
        raise
    if refused:
        keeper._refused(b"".join(head))
    if received == size:
        return b"".join(body)
    return keeper._ended(head_size, received, size)


def pipe_recv_into(keeper: Keeper, fd: int, buffer: memoryview, partial: bytes = b"") -> int | bytes:
    """Receive the next message into `buffer`; return its size, or, if it is larger than that, the message itself."""
    body = pipe_recv(keeper, fd, None, partial)
    if len(body) > len(buffer):
        return body
    buffer[: len(body)] = body
    return len(body)


def pipe_send(keeper: Keeper, fd: int, data: bytes | memoryview) -> None:
    """Send one message, whose body is `data`, with a single write if the system takes it."""
    size = len(data)
    head = INT.pack(size) if size <= LONGEST else LONG.pack(-1, size)
    total = len(head) + size
    if size <= JOINED:
        head, data = head + data, b""
    body = memoryview(data)
    moved: list[int] = []
    writev: Callable[[int, Any], int] = os.writev
    try:
        if size <= JOINED:  # the fast way, for what goes out in one piece
            moved.extend(map(os.write, (fd,), (head,)))  # see _fill()
        while (done := sum(moved)) < total:
            start = done - len(head)
            buffers = (head[done:], body[:STEP]) if start < 0 else (body[start : start + STEP],)
            moved.extend(map(writev, (fd,), (buffers,)))
    except BaseException as error:
        lost = isinstance(error, OSError) and not isinstance(error, BlockingIOError)
        if 0 < sum(moved) < total and not lost:
            keeper._sent_in_part()
        raise


def _fill(fd: int, parts: list[bytes], size: int) -> int:
    """Read until `parts` hold `size` bytes or the stream ends; return how many they hold."""
    got = sum(map(len, parts))
    while got < size:
        # There is no bytecode, hence no KeyboardInterrupt, between the call and its place in the list.
        parts.extend(map(os.read, (fd,), (min(size - got, max(ROOM, got)),)))
        if not parts[-1]:
            break
        got += len(parts[-1])
    return got
