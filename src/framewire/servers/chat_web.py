"""The door of the chat room for browsers: a page, and its WebSocket."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from typing import Any, ClassVar

from .. import FrameTooLarge
from ..loop import Channel, Loop
from ..websocket import Server, WebSocketChannel
from .chat import LINE_SIZE, Member, NamedDoor, Room
from .pages import Pages
from .text import to_text

PING_INTERVAL = 20.0
"""Seconds between pings: proxies close what is silent for a minute, and a browser cannot ping by itself."""

TROUBLE = 1008  # RFC 6455, section 7.4.1: against the policy
TOO_LARGE = 1009


class Unexpected(ValueError):
    """A message that is none of those which the page sends."""


class WebDoor(NamedDoor):
    """Messages of JSON over a WebSocket at ``/ws``, and at ``/`` the page that speaks so.

    ::

        in    {"type": "join", "name": "ann"}                         first, and in time
              {"type": "say", "text": "hello"}
        out   {"type": "welcome", "name": "ann", "members": ["ann", "127.0.0.1:48953"], "time": 1552068299.0}
              {"type": "refused", "reason": "the name ann is taken"}  and the end
              {"type": "entered", "name": "bob", "time": 1552068301.2}
              {"type": "said", "name": "bob", "text": "hi, ann!", "time": 1552068302.7}
              {"type": "left", "name": "bob", "time": 1552068305.5}

    Times are seconds since 1970. Who comes through a door without names stands there by address. What is not
    understood, and a text of more than `LINE_SIZE` bytes, ends the connection.

    Args:
        room, loop, policy, limit: As in `Door`.
        origins: The origins of pages that may connect, if not just the one that is served here (see
            `framewire.websocket.Server`).
    """

    options: ClassVar[dict[str, Any]] = {"max_size": 6 * LINE_SIZE + 64}  # as much as JSON can make of a line

    def __init__(
        self,
        room: Room,
        loop: Loop,
        *,
        policy: str = "disconnect",
        limit: int = 1024 * 1024,
        origins: Collection[str] | None = None,
    ) -> None:
        self.spec = Server(origins=origins, respond=Pages("chat.html"), ping_interval=PING_INTERVAL)
        super().__init__(room, loop, policy=policy, limit=limit)

    def frames_received(self, channel: Channel, payloads: list[Any]) -> None:
        assert isinstance(channel, WebSocketChannel)
        try:
            for message in map(_read, payloads):
                if not self._take(channel, message):
                    return
        except FrameTooLarge as error:
            channel.close(error, code=TOO_LARGE)
        except Unexpected as error:
            channel.close(error, code=TROUBLE, reason=str(error))

    def _take(self, channel: WebSocketChannel, message: dict[str, str]) -> bool:
        """Do what a message says; return whether the connection goes on."""
        inside = isinstance(channel.context, Member)
        if message["type"] == "join" and not inside:
            if not self.introduce(channel, _bytes(message, "name")):
                return False
            members = [member.name for member in self.room.members]
            channel.send(_json("welcome", name=channel.context.name, members=members))
        elif message["type"] == "say" and inside:
            text = _bytes(message, "text")
            if len(text) > LINE_SIZE:
                raise FrameTooLarge(len(text), LINE_SIZE)
            self.room.say(channel.context, [to_text(line) for line in text.splitlines() or [b""]])
        else:
            raise Unexpected("join comes first, and once" if inside or message["type"] == "say" else "no such type")
        return True

    def entered(self, member: Member) -> None:
        self._tell(member, _json("entered", name=member.name))

    def said(self, member: Member, lines: list[str]) -> None:
        self._tell(member, *[_json("said", name=member.name, text=line) for line in lines])

    def left(self, member: Member) -> None:
        self._tell(member, _json("left", name=member.name))

    def say_refused(self, channel: Channel, reason: str) -> None:
        channel.send(_json("refused", reason=reason))  # type: ignore[arg-type]

    def _tell(self, member: Member, *messages: str) -> None:
        self.group.send_many(messages, exclude=member.channel)


def _json(kind: str, **fields: Any) -> str:
    message = {"type": kind, **fields, "time": time.time()}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def _read(message: str | bytes) -> dict[str, str]:
    """The object that a message holds.

    Raises:
        Unexpected: If it is none with a type.
    """
    try:
        if isinstance(message, str):
            found = json.loads(message)
            if isinstance(found, dict) and isinstance(found.get("type"), str):
                return found
    except (ValueError, RecursionError):
        pass
    raise Unexpected("a message is a JSON object with a type")


def _bytes(message: dict[str, str], field: str) -> bytes:
    """A text of a message, as it comes through other doors."""
    text = message.get(field)
    if not isinstance(text, str):
        raise Unexpected(f"the {field} is missing")
    return text.encode("utf-8", "surrogatepass")  # JSON may hold halves of a character; they will be shown as bytes
