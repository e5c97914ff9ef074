"""The client of the chat: ``framewire chat join``.

A dialect knows how the messages of a door are read and how one comes in (`Raw`, `Framed`); a screen knows where lines
are typed and shown (see `terminal`); `Join` puts them together.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import zlib
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from .. import Spec
from ..loop import Channel, Handler, Loop, State
from .chat import LINE_SIZE, LINES, SERVER
from .terminal import Screen, new_screen, obeys_escapes
from .text import to_text

PROMPT = "[Me] "

CONNECT_TIMEOUT = 10.0

LEAVE_TIMEOUT = 1.0
"""Seconds for the server to end its side when we leave, and then for what is unsent; the tutorial's may never do."""

HIGH_MARK, LOW_MARK = 16 * 1024, 4 * 1024
"""Bytes that may wait to be sent: little, since LEAVE_TIMEOUT is short."""

MESSAGE_SIZE = 64 * 1024
"""Most bytes in what a server sends at a time; more than `LINE_SIZE`, for names and escapes."""

COLOURS = (*range(31, 37), *range(91, 97))
DEFAULT, DIM = 0, 2


class Disconnected(Exception):
    """The connection is lost, or there was none; the text is for people."""


class Message(NamedTuple):
    """What somebody says; without a name, what has happened."""

    name: str | None
    text: str


# How a door is spoken through.


class Dialect(Protocol):
    spec: Spec | str

    def hello(self) -> list[bytes]:
        """What is sent first."""

    def read(self, payloads: list[bytes]) -> Iterator[Message]:
        """The messages in what has come."""


class Raw:
    """Lines, as the raw door and the server of the select() tutorial write them."""

    spec: Spec | str = LINES

    def hello(self) -> list[bytes]:
        return []

    def read(self, payloads: list[bytes]) -> Iterator[Message]:
        for payload in payloads:
            said = re.fullmatch(rb"\r\[([^\]]*)\] (.*)", payload, re.DOTALL)
            if said is not None:
                yield Message(to_text(said[1]), to_text(said[2]))
            else:
                yield Message(None, to_text(payload.lstrip(b"\r")))


class Framed:
    """Frames: our name, and from then on pairs of name and text from the server."""

    spec: Spec | str = "ascii10"

    def __init__(self, name: str) -> None:
        self._name = name
        self._half: list[bytes] = []

    def hello(self) -> list[bytes]:
        return [self._name.encode("utf-8", "surrogateescape")]

    def read(self, payloads: list[bytes]) -> Iterator[Message]:
        parts = self._half + payloads
        self._half = [parts.pop()] if len(parts) % 2 else []
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            yield Message(None if name == SERVER.encode() else to_text(name), to_text(text))


def render(message: Message, *, coloured: bool) -> str:
    """A message as a line. A name has its colour, the same wherever it appears."""
    if message.name is None:
        return _paint(message.text, DIM) if coloured else message.text
    name = f"[{message.name}]"
    if coloured:
        name = _paint(name, COLOURS[zlib.crc32(message.name.encode()) % len(COLOURS)])
    return f"{name} {message.text}"


def _paint(text: str, style: int) -> str:
    return f"\x1b[{style}m{text}\x1b[{DEFAULT}m"


def cut(line: bytes, size: int = LINE_SIZE) -> Iterator[bytes]:
    """A line in pieces of at most so many bytes, whole characters each, for servers end connections over longer ones.

    >>> list(cut("déjà".encode(), 3))
    [b'd\\xc3\\xa9', b'j\\xc3\\xa0']
    """
    while len(line) > size:
        end = size
        while end > size - 3 and line[end] & 0xC0 == 0x80:  # in the middle of a character
            end -= 1
        yield line[:end]
        line = line[end:]
    yield line


class Join(Handler):
    """Somebody who joins a chat.

    Args:
        loop: It is stopped when that is over.
        address: Of the server.
        dialect: How its door is spoken through.
    """

    def __init__(self, loop: Loop, address: tuple[str, int], dialect: Dialect) -> None:
        self._loop = loop
        self._peer = f"{address[0]}:{address[1]}"
        self._dialect = dialect
        self._screen: Screen | None = None
        self._coloured = obeys_escapes(sys.stdout) and not os.environ.get("NO_COLOR")
        self._status: int | None = None  # set when it is us who leave
        self._error: Exception | None = None
        self._channel = loop.connect(
            address,
            self,
            dialect.spec,
            timeout=CONNECT_TIMEOUT,
            max_size=MESSAGE_SIZE,
            high_mark=HIGH_MARK,
            low_mark=LOW_MARK,
            close_timeout=LEAVE_TIMEOUT,
            keepalive=True,
        )

    def run(self) -> int:
        """Chat until the input ends, or a signal comes.

        Returns:
            The exit status: 0, or what a shell shows for a program that the signal ended.

        Raises:
            Disconnected: If it is not us who end it.
            OSError: If nothing can be written to standard output any more.
        """
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"):
            if hasattr(signal, name):  # Windows has the first two
                signum = getattr(signal, name)
                self._loop.on_signal(signum, self._leave, 128 + signum)
        try:
            self._loop.run()
        finally:
            if self._screen is not None:
                self._screen.end()
        if self._screen is None and self._status is None:
            raise Disconnected(f"cannot connect to {self._peer}{self._reason()}")
        if self._screen is not None and self._screen.failure is not None:
            raise self._screen.failure
        if self._status is None or self._error is not None:
            raise Disconnected(f"Disconnected from chat server{self._reason()}")
        return self._status

    def _reason(self) -> str:
        return "" if self._error is None else f": {getattr(self._error, 'strerror', None) or self._error}"

    def _leave(self, status: int) -> None:
        """Say that no more will come, hear what still does, and go; the second time go at once."""
        leaving, self._status = self._status is not None, status
        if leaving:
            self._channel.abort()
        elif self._channel.state == State.OPEN:
            self._channel.send_eof()
            self._loop.call_later(LEAVE_TIMEOUT, self._channel.close)
        else:
            self._channel.close()

    # From the server.

    def connected(self, channel: Channel) -> None:
        channel.send_many(self._dialect.hello())
        self._screen = new_screen(self._loop, self, PROMPT)
        self._screen.begin()

    def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
        assert self._screen is not None
        self._screen.show([render(message, coloured=self._coloured) for message in self._dialect.read(payloads)])

    def sending_paused(self, channel: Channel) -> None:
        if self._screen is not None:
            self._screen.pause()

    def sending_resumed(self, channel: Channel) -> None:
        if self._screen is not None:
            self._screen.resume()

    def disconnected(self, channel: Channel, error: Exception | None) -> None:
        self._error = error
        self._loop.stop()

    # From the screen.

    def typed(self, lines: list[str]) -> None:
        if self._status is None and self._channel.state == State.OPEN:
            said = [line.replace("\r", "").encode("utf-8", "surrogateescape") for line in lines]
            self._channel.send_many([piece for line in said for piece in cut(line)])

    def ended(self) -> None:
        self._leave(0)
