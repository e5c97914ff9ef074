"""A stream for people who look on: a page, and its WebSocket."""

from __future__ import annotations

import json
import ssl
import time
from collections import deque
from collections.abc import Collection
from itertools import islice
from typing import Any

from ..loop import Channel, Group, Handler, Listener, Loop, Timer
from ..websocket import Server, WebSocketChannel
from .pages import Pages
from .streamer import Streamer
from .text import to_text

INTERVAL = 0.25
"""Seconds between updates: more of them nobody could see."""

NEWEST_COUNT = 50
"""Most messages in an update."""

TEXT_SIZE = 2000
"""Most bytes of a message that are shown."""

PING_INTERVAL = 20.0
"""As `chat_web` has it."""

RECEIVE_SIZE = 1024
"""Most bytes in a message from a page; they are not looked at."""


class WebView(Handler):
    """Shows a stream to browsers: at ``/`` a page, at ``/ws`` messages of JSON for it.

    ::

        out   {"type": "hello", "source": "the clock", "interval": 3.0, "count": 5, "time": 1552068299.0}
              {"type": "update", "count": 7, "newest": ["one more", "and another"], "time": 1552068299.3}
                  at most four times in a second; messages of which there were too many are only counted

    Whoever looks on counts as somebody to send to: the stream goes on for a page alone.

    Args:
        loop: Where it lives.
        streamer: What it shows.
        every: Seconds from one message to the next.
        source: What people call the source.
        origins: The origins of pages that may connect, if not just the one that is served here (see
            `framewire.websocket.Server`).
    """

    def __init__(
        self, loop: Loop, streamer: Streamer, *, every: float, source: str, origins: Collection[str] | None = None
    ) -> None:
        self._loop = loop
        self._streamer = streamer
        self._about = {"source": source, "interval": every}
        self._format = Server(origins=origins, respond=Pages("stream.html"), ping_interval=PING_INTERVAL)
        self._newest: deque[bytes] = deque(maxlen=NEWEST_COUNT)  # since the last update
        self._timer: Timer | None = None
        self.group = Group(loop, self._format, policy="drop_oldest")
        """All pages."""
        streamer.view = self

    def listen(self, address: tuple[str, int], *, tls: ssl.SSLContext | None = None) -> Listener:
        """Serve the page here; raises what `Loop.listen` raises."""
        return self._loop.listen(address, self, self._format, max_size=RECEIVE_SIZE, tls=tls, keepalive=True)

    def connected(self, channel: Channel) -> None:
        assert isinstance(channel, WebSocketChannel)
        self.flush()  # what came before is not for it
        channel.send(self._json("hello", **self._about))
        self.group.add(channel)
        self._streamer.begin()

    def __bool__(self) -> bool:
        return bool(self.group)

    def sent(self, payloads: list[bytes]) -> None:
        if self.group:
            self._newest.extend(islice(payloads, max(len(payloads) - NEWEST_COUNT, 0), None))
            if self._timer is None:
                self._timer = self._loop.call_later(INTERVAL, self.flush)

    def flush(self) -> None:
        """Send an update, if there is something new."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._newest:
            newest = [_shown(payload) for payload in self._newest]
            self._newest.clear()
            self.group.send(self._json("update", newest=newest))

    def _json(self, kind: str, **fields: Any) -> str:
        message = {"type": kind, **fields, "count": self._streamer.sent_count, "time": time.time()}
        return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def _shown(payload: bytes) -> str:
    if len(payload) <= TEXT_SIZE:
        return to_text(payload)
    return f"{to_text(payload[:TEXT_SIZE])}… ({len(payload)} bytes)"
