"""Broadcast: the same payloads to many channels, encoded once, sent once to each in a turn.

::

    send, send, send ──> frames of this turn ──join──> flush ──> every member that keeps up: one system call
                                                             ──> the backlog of each that does not: its policy

A member that keeps up has an empty queue between turns, so that there is nothing to look at but its socket. One that
does not gets a `Backlog`: from then on all that is sent to it, by groups or directly, waits there in order until the
socket takes it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ._core import Encoder
from ._endpoint import send_to_all
from ._endpoint_py import LARGE_SIZE
from .channel import Channel, Format, State
from .spec import DEFAULT_MAX_SIZE, Spec

if TYPE_CHECKING:
    from ._endpoint_py import Writer
    from ._wire import BytesLike
    from .loop import Loop

logger = logging.getLogger("framewire")

POLICIES = ("disconnect", "drop_oldest", "wait")


CHUNK_WEIGHT = 64
"""Bytes of memory that a chunk of a backlog costs, besides its content."""


class Group:
    """Channels that all receive the same.

    ::

        room = Group(loop, "ascii10", policy="drop_oldest", limit=256 * 1024)
        room.add(channel)
        room.send(b"hello", exclude=channel)     # to all others

    A channel that is over leaves by itself. What is sent to one channel directly, and what is sent to its groups,
    arrives in the order of the calls; only what several groups send to it in one turn comes group by group.

    A member that does not receive as fast as the group sends is met by the `policy`, as soon as more than `limit` bytes
    wait for it:

    - ``"disconnect"``: it is aborted; `Handler.disconnected` gets a `TimeoutError` that tells how much it has missed.
    - ``"drop_oldest"``: it misses the oldest frames that it has not begun to receive; `dropped` counts them.
    - ``"wait"``: reading from those whose frames are the cause pauses until less than half of the limit waits; who
      sends for another reason (a timer, a file) looks at `full`.

    Args:
        loop: Whose channels these are.
        spec: The wire format of the members. What is sent to WebSockets is ``str`` or bytes, and not compressed.
        policy: What to do about a member that does not keep up.
        limit: Bytes that may wait for a member, at least 64 KiB.
        max_size: Most bytes in a payload.

    Raises:
        ValueError, TypeError: If an argument makes no sense.
    """

    def __init__(
        self,
        loop: Loop,
        spec: Spec | Format | str = "ascii10",
        *,
        policy: str = "disconnect",
        limit: int = 1024 * 1024,
        max_size: int | None = DEFAULT_MAX_SIZE,
    ) -> None:
        if policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, not {policy!r}")
        if limit < LARGE_SIZE:
            raise ValueError(f"limit must be at least {LARGE_SIZE} bytes, not {limit}")
        self._loop = loop
        self._encoder: Writer
        if isinstance(spec, Format):
            self.spec: Spec | Format = spec
            self._encoder = spec.group_writer(max_size)
        else:
            self._encoder = encoder = Encoder(spec, max_size=max_size)
            self.spec = encoder.spec
        self.policy = policy
        self.limit = limit
        self._members: dict[Channel, None] = {}
        self._items: list[tuple[bytes, int, Channel | None]] = []  # frames, how many, who does not get them
        self._size = 0  # of these
        self._sources: set[Channel] = set()  # on whose frames these were sent, if they may have to wait
        self._held: dict[Channel, list[Channel]] = {}  # who is over the limit, and who waits for it
        self._dropped: dict[Channel, list[int]] = {}
        self.dropped_count = 0
        """Frames that members have missed."""
        self.dropped_size = 0
        """Bytes that members have missed, headers included."""
        self.disconnected_count = 0
        """Members that were aborted."""

    def add(self, channel: Channel) -> None:
        """Let a channel receive what is sent from now on. Nothing if it is a member, or over.

        Raises:
            ValueError: If the channel has another wire format.
        """
        spec = channel.settings.spec
        if not (self.spec.fits(spec) if isinstance(self.spec, Format) else self.spec == spec):
            raise ValueError(f"the group sends {self.spec.name}, the channel has {spec.name}")
        if channel in self._members or channel.state > State.OPEN:
            return
        self.flush()  # what was sent before is not for it
        self._members[channel] = None
        channel.groups = (*channel.groups, self)
        channel.in_order = True

    def discard(self, channel: Channel) -> None:
        """Send the channel nothing more. Nothing if it is no member."""
        if channel in self._members:
            self.flush()
            self._members.pop(channel, None)
            self._dropped.pop(channel, None)
            channel.groups = tuple(group for group in channel.groups if group is not self)
            channel.in_order = bool(channel.groups) or channel.backlog is not None
            self.release(channel)

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Channel]:
        return iter(list(self._members))

    def __contains__(self, channel: object) -> bool:
        return channel in self._members

    def send(self, payload: str | BytesLike, /, *, exclude: Channel | None = None) -> None:
        """Send one payload to all members but one. It goes out at the end of this turn of the loop, or before.

        Raises:
            FrameTooLarge, ValueError: As `Encoder.encode`; nothing is sent.
        """
        self._put(self._encoder.encode(payload), 1, exclude)

    def send_many(self, payloads: Iterable[str | BytesLike], /, *, exclude: Channel | None = None) -> None:
        """Send many payloads: all of them or, when one is refused, none.

        Raises:
            FrameTooLarge, ValueError: As `send`.
        """
        if not isinstance(payloads, list):
            payloads = list(payloads)
        self._put(self._encoder.encode_many(payloads), len(payloads), exclude)

    def dropped(self, channel: Channel) -> tuple[int, int]:
        """How many frames, and bytes, this member has missed."""
        count, size = self._dropped.get(channel, (0, 0))
        return count, size

    @property
    def full(self) -> bool:
        """Whether more than the limit waits for a member, under the policy ``"wait"``."""
        return bool(self._held)

    def flush(self) -> None:
        """Send now what this turn has left. The loop does so at the end of a turn."""
        if not self._items:
            return
        items, self._items, self._size = self._items, [], 0
        excluded = {channel for _, _, channel in items if channel is not None}
        everybody: list[Channel] = list(self._members)
        if excluded:
            everybody = [channel for channel in everybody if channel not in excluded]
        self._send(everybody, items)
        for channel in excluded:
            if channel in self._members:
                rest = [item for item in items if item[2] is not channel]
                if rest:
                    self._send([channel], rest)
        self._sources.clear()

    def release(self, channel: Channel) -> None:
        """The channel is no longer over the limit: who waits for it may go on."""
        for source in self._held.pop(channel, ()):
            source.resume_reading()

    def check(self, channel: Channel, backlog: Backlog) -> None:
        """See what the policy says about a member, now that more waits for it."""
        size = backlog.weight + channel.unsent_size
        if size <= self.limit:
            return
        if self.policy == "disconnect":
            self.disconnected_count += 1
            logger.info("%s falls behind: %d bytes wait for it", channel.name, size)
            channel.abort(TimeoutError(f"{size} bytes wait to be received, more than the limit of {self.limit}"))
        elif self.policy == "drop_oldest":
            count, size = backlog.drop(self, size - self.limit)
            if count:
                dropped = self._dropped.setdefault(channel, [0, 0])
                dropped[0] += count
                dropped[1] += size
                self.dropped_count += count
                self.dropped_size += size
        else:
            held = self._held.setdefault(channel, [])
            for source in self._sources:
                if source.state == State.OPEN and source not in held:
                    held.append(source)
                    source.pause_reading()

    def _put(self, data: bytes, count: int, exclude: Channel | None) -> None:
        if not data:
            return
        if not self._items:
            self._loop.to_flush(self)
        if self.policy == "wait" and self._loop.source is not None:
            self._sources.add(self._loop.source)
        self._items.append((data, count, exclude))
        self._size += len(data)
        if self._size >= LARGE_SIZE:
            self.flush()

    def _send(self, channels: list[Channel], items: list[tuple[bytes, int, Channel | None]]) -> None:
        data = items[0][0] if len(items) == 1 else b"".join([item[0] for item in items])
        count = sum([item[1] for item in items])
        behind, left = send_to_all(channels, data, count)
        for channel in left:
            self._begin_backlog(channel)
            channel.look_again()  # not now: handlers may hear of it, and send more, which must come after all of this
        for channel in behind:
            if channel.state != State.CLOSED:
                self._begin_backlog(channel).append(channel, data, count, self)

    def _begin_backlog(self, channel: Channel) -> Backlog:
        if channel.backlog is None:
            channel.backlog = Backlog()
            channel.in_order = channel.attended = True
        return channel.backlog

    def __repr__(self) -> str:
        return f"<Group of {len(self)} {self.spec.name}>"


class Backlog:
    """What waits for a member behind its queue: chunks of whole frames, which can still be dropped."""

    __slots__ = ("_chunks", "size")

    def __init__(self) -> None:
        self._chunks: deque[tuple[bytes, int, Group | None]] = deque()
        self.size = 0
        """Bytes in it."""

    @property
    def weight(self) -> int:
        """Bytes of memory, about: small chunks cost more than they hold."""
        return self.size + CHUNK_WEIGHT * len(self._chunks)

    def append(self, channel: Channel, data: bytes, count: int, group: Group | None) -> None:
        """Put `data` at the end: `count` frames that `group` has sent, or somebody who wants every byte to arrive."""
        self._chunks.append((data, count, group))
        self.size += len(data)
        if group is not None:
            group.check(channel, self)

    def drop(self, group: Group, size: int) -> tuple[int, int]:
        """Drop a group's oldest frames, for `size` bytes of memory if there are so many; return frames and bytes."""
        dropped_count = dropped_size = 0
        kept = []
        while self._chunks and size > 0:
            chunk = self._chunks.popleft()
            if chunk[2] is group:
                dropped_count += chunk[1]
                dropped_size += len(chunk[0])
                size -= len(chunk[0]) + CHUNK_WEIGHT
            else:
                kept.append(chunk)
        self._chunks.extendleft(reversed(kept))
        self.size -= dropped_size
        return dropped_count, dropped_size

    def drain(self, channel: Channel) -> None:
        """The queue is empty: fill it from here, until the socket takes no more."""
        while self._chunks and not channel.unsent_size and channel.failure is None:
            while self._chunks and channel.unsent_size < LARGE_SIZE and not channel.blocked:
                data, count, _ = self._chunks.popleft()
                self.size -= len(data)
                channel.append(data, count)
            channel.flush()
        for group in channel.groups:
            if channel.unsent_size + self.weight <= group.limit // 2:
                group.release(channel)
        if not self._chunks and channel.state != State.CLOSED and not channel.unsent_size:
            channel.caught_up()
