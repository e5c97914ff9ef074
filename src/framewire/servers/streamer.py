"""The streamer: greets every client, then sends all of them the same messages, one by one at an interval.

::

    Clock ───────────┐  take()               send()         ┌─> client
                     ├──────────> Streamer ────┬────> Group ┼─> client, a slow one: the group's policy
    FileLines ───────┘  one at a tick,         │            └─> client
     read when wanted   or many in a turn      └────> View     people who look on: see `stream_web`

Rules that hold here:

- Nothing is taken from the source while nobody is connected. So a file waits for its first reader, and no message is
  sent to nobody. All clients share one position: who comes late gets the greeting, and goes on with the others.
- A tick sends one message, however late it is: two that ran together would surprise a simple client. In a burst there
  are no ticks: as many as can be, in every turn of the loop.
- What is in memory is bounded by the group's limit for each client and one piece of the file.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from selectors import EVENT_READ
from typing import TYPE_CHECKING, Protocol

from .. import DEFAULT_MAX_SIZE, Decoder, Encoder, FrameTooLarge, FramingError, Spec
from ..loop import Channel, Group, Handler, Listener, Loop, Timer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

logger = logging.getLogger("framewire.streamer")

GREETING = b"Welcome to the server!"

CLOSE_TIMEOUT = 10.0
"""Seconds that the clients have at the end to receive what is on its way to them."""

RECEIVE_SIZE = 64 * 1024
"""Most bytes in a frame from a client; they are not looked at."""

BATCH_COUNT = 1000
"""Most messages in a turn of a burst."""

READ_SIZE = 64 * 1024
"""Bytes to read from a file at a time, and what may be queued for a client that is called idle."""

SHORTEST_WAIT, LONGEST_WAIT = 0.001, 0.05
"""Seconds until a burst looks again whether its clients can take more."""


class Source(Protocol):
    """Where messages come from."""

    changed: Callable[[], object]
    """To be called when there is something to take again, and at the end; the streamer puts itself here."""

    title: str
    """What people call it."""

    @property
    def ended(self) -> bool:
        """Whether all has been taken."""

    @property
    def error(self) -> Exception | None:
        """Why it has ended before its time."""

    def take(self, count: int) -> list[bytes]:
        """At most so many messages; none if there are none now."""

    def name(self, number: int) -> str:
        """What people call the message of this number, counted from 1."""

    def close(self) -> None:
        """Give back what it holds. Nothing will be taken any more."""


class View(Protocol):
    """Who looks on, in another way than the clients."""

    def __bool__(self) -> bool:
        """Whether there is anybody."""

    def sent(self, payloads: list[bytes]) -> None:
        """These were sent to the clients."""

    def flush(self) -> None:
        """The stream is over: what is still to be shown must go out now."""


class Clock:
    """The time, whenever it is asked for."""

    title = "the clock"
    ended = False
    error = None

    def __init__(self) -> None:
        self.changed: Callable[[], object] = lambda: None

    def take(self, count: int) -> list[bytes]:
        return [f"The time is {time.time()}".encode() for _ in range(count)]

    def name(self, number: int) -> str:
        return f"message {number}"

    def close(self) -> None:
        pass


class FileLines:
    """The lines of a file, a pipe or a terminal. At most one piece of it is read ahead.

    Args:
        loop: Tells when there is something to read. Only what no selector takes is read without that: regular files,
            which are always ready.
        file: A path, or an open descriptor, which stays open.
        max_size: Most bytes in a line.

    Raises:
        OSError: If there is no such file.
    """

    def __init__(self, loop: Loop, file: str | int, *, max_size: int | None = DEFAULT_MAX_SIZE) -> None:
        self._loop = loop
        self.title = "standard input" if file == 0 else str(file)
        self._owned = isinstance(file, str)
        # Without O_NONBLOCK to open a named pipe would wait for its writer.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        self._fd = file if isinstance(file, int) else os.open(file, flags)
        self._decoder = Decoder("lines", max_size=max_size)
        self._lines: deque[bytes] = deque()
        self._read_count = 0
        self._at_end = False
        self._looking = self._watched = False
        self.changed: Callable[[], object] = lambda: None
        self.error: Exception | None = None
        self._look()

    @property
    def ended(self) -> bool:
        return self._at_end and not self._lines

    def take(self, count: int) -> list[bytes]:
        lines = [self._lines.popleft() for _ in range(min(count, len(self._lines)))]
        if not self._lines:
            self._look()
        return lines

    def name(self, number: int) -> str:
        return f"{self.title}: line {number}"

    def close(self) -> None:
        self._at_end = True
        self._look_away()
        if self._owned:
            self._owned = False
            os.close(self._fd)

    def _look(self) -> None:
        """Have `_ready` called when there is something to read."""
        if self._looking or self._at_end:
            return
        self._looking = True
        try:
            self._loop.watch(self._fd, EVENT_READ, self._ready)
            self._watched = True
        except (OSError, ValueError):  # EPERM from epoll for a regular file; Windows takes nothing but sockets
            self._loop.call_soon(self._ready)

    def _look_away(self) -> None:
        self._looking = False
        if self._watched:
            self._watched = False
            self._loop.unwatch(self._fd)

    def _ready(self) -> None:
        if not self._looking:
            return
        try:
            self._read()
        except BlockingIOError:
            return  # a false alarm
        except FrameTooLarge as error:
            self._fail(f"{self.name(self._read_count + 1)} is over the limit of {error.limit} bytes")
        except OSError as error:
            self._fail(f"{self.title}: {error.strerror}")
        if self._lines or self._at_end:
            self._look_away()
            self.changed()
        elif not self._watched:
            self._loop.call_soon(self._ready)  # half a line

    def _read(self) -> None:
        data = os.read(self._fd, READ_SIZE)
        if not data:
            self._at_end = True
            data = b"\n" if self._decoder.buffered_size else b""  # the last line may lack its end
        lines = self._decoder.feed(data)
        self._read_count += len(lines)
        self._lines += lines

    def _fail(self, text: str) -> None:
        self.error = OSError(text)
        self._at_end = True


class Streamer(Handler):
    """Sends the messages of a source to all who connect. What they send is ignored.

    Args:
        loop: Where it lives. It is shut down when all has been sent.
        source: The messages.
        spec: The wire format.
        every: Seconds from one message to the next. 0 is a burst: many at a time, as fast as the clients receive; the
            slowest of them under the policy ``"wait"``, else the fastest.
        count: Messages after which to end, greetings not counted; None for all.
        policy: What becomes of a client that does not keep up (see `Group`). Unless given, it misses the oldest
            messages; but in a burst all wait for it.
        limit: Bytes that may wait for a client.
        max_size: Most bytes in a message.

    Raises:
        ValueError: If the greeting cannot be written in this format, or another argument makes no sense.
    """

    def __init__(
        self,
        loop: Loop,
        source: Source,
        spec: Spec | str = "ascii10",
        *,
        every: float = 3.0,
        count: int | None = None,
        policy: str | None = None,
        limit: int = 1024 * 1024,
        max_size: int | None = DEFAULT_MAX_SIZE,
    ) -> None:
        Encoder(spec, max_size=RECEIVE_SIZE).encode(GREETING)  # or hear now that this cannot be
        self._loop = loop
        self._source = source
        self._spec = spec
        self._every = every
        self._count = count
        self._timer: Timer | None = None
        self._starving = False  # there is no timer, since the source has nothing
        self._wait = SHORTEST_WAIT
        self._over = False
        policy = policy or ("drop_oldest" if every else "wait")
        self.group = Group(loop, spec, policy=policy, limit=limit, max_size=max_size)
        """All clients."""
        self.sent_count = 0
        """Messages so far."""
        self.view: View | None = None
        self.error: Exception | None = None
        """Why it has ended, if not as it should."""
        source.changed = self._source_changed

    def listen(self, address: tuple[str, int] | str, *, tls: ssl.SSLContext | None = None) -> Listener:
        """Accept clients; raises what `Loop.listen` raises."""
        return self._loop.listen(
            address, self, self._spec, max_size=RECEIVE_SIZE, tls=tls, keepalive=True, close_timeout=CLOSE_TIMEOUT
        )

    def finish(self) -> None:
        """Send what is on its way, close every connection, and shut the loop down."""
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        self._source.close()
        if self.view is not None:
            self.view.flush()
        self._loop.shutdown(CLOSE_TIMEOUT)
        if self.group.dropped_count:
            logger.warning("messages that clients have missed: %d", self.group.dropped_count)

    def connected(self, channel: Channel) -> None:
        channel.send(GREETING)
        self.group.add(channel)
        self.begin()

    def begin(self) -> None:
        """There is somebody to send to."""
        if self._timer is None and not self._starving:
            self._timer = self._loop.call_later(self._every, self._tick)

    def _tick(self) -> None:
        """The next message is due, or in a burst the next ones."""
        last, self._timer = self._timer, None
        if self._over or not (self.group or self.view):
            return  # who connects next will begin again
        if not self._has_room():
            self._timer = self._loop.call_later(max(self._every, self._wait), self._tick)
            self._wait = min(2 * self._wait, LONGEST_WAIT)
            return
        self._wait = SHORTEST_WAIT
        most = 1 if self._every else BATCH_COUNT
        payloads = self._source.take(most if self._count is None else min(most, self._count - self.sent_count))
        if payloads:
            self._send(payloads)
        if self._over:
            return
        if self._source.ended or self.sent_count == self._count:
            self._end()
        elif payloads:
            # Counted from when this one was due, so that being late does not add up.
            late = time.monotonic() - last.when if last is not None else 0
            self._timer = self._loop.call_later(self._every - late, self._tick)
        else:
            self._starving = True

    def _source_changed(self) -> None:
        if self._source.ended:
            self._end()
        elif self._starving:
            self._starving = False
            self._tick()

    def _has_room(self) -> bool:
        if self.group.policy == "wait":
            return not self.group.full
        return self._every > 0 or not self.group or any(channel.queued_size <= READ_SIZE for channel in self.group)

    def _send(self, payloads: list[bytes]) -> None:
        try:
            self.group.send_many(payloads)
        except (FramingError, ValueError):
            self._send_up_to_the_bad_one(payloads)
        else:
            self._count_sent(payloads)
            logger.debug("message %d sent to %d clients", self.sent_count, len(self.group))

    def _send_up_to_the_bad_one(self, payloads: list[bytes]) -> None:
        try:
            for payload in payloads:
                self.group.send(payload)
                self._count_sent([payload])
        except (FramingError, ValueError) as error:
            self.error = ValueError(f"{self._source.name(self.sent_count + 1)}: {error}")
            self.finish()

    def _count_sent(self, payloads: list[bytes]) -> None:
        self.sent_count += len(payloads)
        if self.view is not None:
            self.view.sent(payloads)

    def _end(self) -> None:
        self.error = self.error or self._source.error
        self.finish()
