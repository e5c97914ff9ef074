r"""A chat room with several doors: whoever speaks through one of them is heard through all.

::

    telnet, nc, the select() tutorial's client ──lines─────> RawDoor ────┐
    framewire chat join ────────────────────────frames─────> FramedDoor ─┼── Room
    a browser ──────────────────────────────────WebSocket──> WebDoor ────┘

The room knows who is here, and what they are called. A door knows how bytes on it are read and written: it brings in
whoever comes through it, and tells all behind it what happens in the room. Nothing else knows both, so that a further
door is a further class. (The one for browsers stands in `chat_web`, since it needs more than this package.)

Rules that hold here:

- What is said is one line of text. Whatever else comes in is made one: a frame with line breaks is several lines, and
  bytes that are no UTF-8, and characters that a terminal would obey, are written as escapes.
- Who speaks does not hear it. All others get everything, in the order of the room.
- Nobody can pass for somebody else, or for the server: names have none of the characters that the doors write around
  them, and no two are alike.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar
from unicodedata import normalize

from .. import Delimited, Spec
from ..loop import Channel, Format, Group, Handler, Listener, Loop, State, Timer
from .text import to_text

logger = logging.getLogger("framewire")

LINES = Delimited(b"\n", b"\r\n")
r"""The raw door's format: ends in ``\n``, and takes the ``\r\n`` of telnet as well."""

LINE_SIZE = 4096
"""Most bytes in a line of text; the tutorial's RECV_BUFFER."""

NAME_LENGTH = 32
"""Most characters in a name."""

NAME_TIMEOUT = 10.0
"""Seconds in which somebody has to say who it is, where people have names."""

SERVER = "[server]"
"""Who tells what happens in the room, on the framed door. It is no name that anybody can have."""

NO_NAME = re.compile(r"[\[\]():]")
"""What stands around names on the raw door, and between the host and the port of those who have none."""


class NameRefused(ValueError):
    """Somebody cannot be called so; the text tells why, for that person."""


def to_name(payload: bytes) -> str:
    """The name that a payload holds.

    Raises:
        NameRefused: If that cannot be a name.
    """
    try:
        name = payload.decode()
    except UnicodeDecodeError:
        raise NameRefused("a name must be UTF-8") from None
    if not name:
        raise NameRefused("a name must not be empty")
    if len(name) > NAME_LENGTH:
        raise NameRefused(f"a name must not have more than {NAME_LENGTH} characters")
    if not name.isprintable():
        raise NameRefused("a name must not have characters that cannot be seen")
    if NO_NAME.search(name) or name != name.strip():
        raise NameRefused("a name must not have [ ] ( ) : in it, nor blanks around it")
    return name


@dataclass(eq=False)
class Member:
    """Somebody in the room."""

    name: str
    channel: Channel
    address: tuple[str, int] | None = None
    """Of somebody who has no other name."""


class Room:
    """Who is here, and what is said."""

    def __init__(self) -> None:
        self.doors: list[Door] = []
        self._members: dict[str, Member] = {}

    @property
    def members(self) -> list[Member]:
        """Who is here, in the order in which they came."""
        return list(self._members.values())

    def enter(self, member: Member) -> None:
        """Let somebody in, and tell the others.

        Raises:
            NameRefused: If somebody else is called so, or nearly.
        """
        if self._members.setdefault(_key(member), member) is not member:
            raise NameRefused(f"the name {member.name} is taken")
        for door in self.doors:
            door.entered(member)

    def say(self, member: Member, lines: list[str]) -> None:
        """Tell the others what a member says, line by line."""
        for door in self.doors:
            door.said(member, lines)

    def leave(self, member: Member) -> None:
        """Tell the others that a member has left. Nothing if it is told already."""
        if self._members.get(_key(member)) is member:
            del self._members[_key(member)]
            for door in self.doors:
                door.left(member)


def _key(member: Member) -> str:
    """The same for names that look alike: "Ann" and "ann", and an "é" of one character or of two."""
    return normalize("NFKC", member.name).casefold()


class Door(Handler):
    """One way into a room: how bytes on it are read and written.

    Args:
        room: Where it leads.
        loop: Whose connections come through it.
        policy, limit: What to do about a member that does not keep up; see `Group`.
    """

    spec: Spec | Format | str
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, room: Room, loop: Loop, *, policy: str = "disconnect", limit: int = 1024 * 1024) -> None:
        self.room = room
        self.loop = loop
        self.group = Group(loop, self.spec, policy=policy, limit=limit)
        room.doors.append(self)

    def listen(self, address: tuple[str, int] | socket.socket, **options: Any) -> Listener:
        """Open the door here; for the options see `Loop.listen`."""
        return self.loop.listen(address, self, self.spec, **{"max_size": LINE_SIZE, **self.options, **options})

    # What happens in the room; each tells it to all behind this door but the member.

    def entered(self, member: Member) -> None:
        raise NotImplementedError

    def said(self, member: Member, lines: list[str]) -> None:
        raise NotImplementedError

    def left(self, member: Member) -> None:
        raise NotImplementedError

    # Who comes and goes through this door. A channel's context is its member, once it is one.

    def let_in(self, member: Member) -> None:
        """Let somebody in who has said all that has to be known.

        Raises:
            NameRefused: As `Room.enter`.
        """
        self.room.enter(member)
        member.channel.context = member
        self.group.add(member.channel)

    def eof_received(self, channel: Channel) -> None:
        self._leave(channel)  # it hears no more, though its queue may take a while

    def disconnected(self, channel: Channel, error: Exception | None) -> None:
        self._leave(channel)

    def _leave(self, channel: Channel) -> None:
        if isinstance(channel.context, Member):
            self.room.leave(channel.context)


class RawDoor(Door):
    r"""Plain text in lines, for whoever has no framing: exactly what the chat server of the select() tutorial writes.

    ::

        [127.0.0.1:48953] entered our chatting room\n
        \r[('127.0.0.1', 48953)] hello\n               the \r returns over the "[Me] " of the tutorial's client
        Client (127.0.0.1, 48953) is offline\n

    Who comes through another door stands there by name: ``\r[ann] hello``. A line of more than `LINE_SIZE` bytes ends
    the connection; what follows the last line break is never said.
    """

    spec = LINES

    def connected(self, channel: Channel) -> None:
        self.let_in(Member(channel.name, channel, tuple(channel.peername[:2])))

    def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
        self.room.say(channel.context, [*map(to_text, payloads)])

    def entered(self, member: Member) -> None:
        self._tell(member, [f"[{_joined(member, ':')}] entered our chatting room"])

    def said(self, member: Member, lines: list[str]) -> None:
        who = member.name if member.address is None else str(member.address)
        self._tell(member, [f"\r[{who}] {line}" for line in lines])

    def left(self, member: Member) -> None:
        self._tell(member, [f"Client ({_joined(member, ', ')}) is offline"])

    def _tell(self, member: Member, lines: Iterable[str]) -> None:
        self.group.send_many([line.encode() for line in lines], exclude=member.channel)


def _joined(member: Member, separator: str) -> str:
    """The host and the port of a member with this between them, or its name."""
    return member.name if member.address is None else separator.join(map(str, member.address))


class NamedDoor(Door):
    """A door where people say who they are before anything else, and in time."""

    def connected(self, channel: Channel) -> None:
        late = NameRefused(f"no name came in {NAME_TIMEOUT:g} seconds")
        channel.context = self.loop.call_later(NAME_TIMEOUT, self.refuse, channel, late)

    def disconnected(self, channel: Channel, error: Exception | None) -> None:
        if isinstance(channel.context, Timer):
            channel.context.cancel()
        super().disconnected(channel, error)

    def introduce(self, channel: Channel, name: bytes) -> bool:
        """Let somebody in who has said this name, or not; return whether."""
        channel.context.cancel()
        try:
            self.let_in(Member(to_name(name), channel))
        except NameRefused as reason:
            self.refuse(channel, reason)
            return False
        logger.info("%s is %s", channel.name, channel.context.name)
        return True

    def refuse(self, channel: Channel, reason: NameRefused) -> None:
        """Say why somebody cannot come in, and close the connection."""
        if channel.state == State.OPEN:
            logger.info("%s refused: %s", channel.name, reason)
            self.say_refused(channel, str(reason))
            channel.close()

    def say_refused(self, channel: Channel, reason: str) -> None:
        raise NotImplementedError


class FramedDoor(NamedDoor):
    """Frames of ascii10: who comes in says its name, and from then on what it has to say.

    ::

        in    3         ann | 5         hello | ...
        out   3         bob | 8         hi, ann! | 8         [server] | 29        cat entered our chatting room | ...
              the pairs: who speaks, and what

    Who comes through a door without names stands there by address: ``127.0.0.1:48953``. A name that cannot be had is
    refused by a pair of frames from the server, and the end. A frame of more than `LINE_SIZE` bytes, or one that is not
    whole in time, ends the connection.
    """

    spec = "ascii10"
    options: ClassVar[dict[str, Any]] = {"frame_timeout": NAME_TIMEOUT}

    def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
        if not isinstance(channel.context, Member):
            name, *payloads = payloads
            if not self.introduce(channel, name):
                return
        lines = [to_text(line) for payload in payloads for line in payload.splitlines() or [b""]]
        if lines:
            self.room.say(channel.context, lines)

    def entered(self, member: Member) -> None:
        self._tell(member, SERVER, [f"{member.name} entered our chatting room"])

    def said(self, member: Member, lines: list[str]) -> None:
        self._tell(member, member.name, lines)

    def left(self, member: Member) -> None:
        self._tell(member, SERVER, [f"{member.name} is offline"])

    def _tell(self, member: Member, name: str, lines: list[str]) -> None:
        who = name.encode()  # both of a pair in one call, so that no policy can part them
        self.group.send_many([part for line in lines for part in (who, line.encode())], exclude=member.channel)

    def say_refused(self, channel: Channel, reason: str) -> None:
        channel.send_many([SERVER.encode(), reason.encode()])
