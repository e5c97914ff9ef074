"""The event loop: many sockets, one thread, over any selector of the standard library.

A turn of the loop: wait; let every ready socket receive once, and its handler hear of it; run the timers that are due
and what `Loop.call_soon` has left; then send what all this has queued, once for each channel. So whatever a turn
produces for a connection leaves in one system call, and nobody waits longer than a turn.

Rules that hold here:

- A loop with nothing to do makes no turns: it waits in the selector, without a limit, until a socket or a timer.
- What is done in one turn is bounded: 256 KiB received for a channel, `ACCEPT_COUNT` accepted for a listener, and what
  is called soon from here on belongs to the next turn.
- Nothing but `Loop.call_soon_threadsafe` may be called from another thread.
"""

from __future__ import annotations

import errno
import heapq
import logging
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, SelectorKey, SelectSelector
from time import monotonic
from typing import TYPE_CHECKING, Any

from ._address import EXHAUSTED, address_name, listening_on, path_of, remove
from ._core import Decoder, Encoder
from ._endpoint import Turn, flush_all, new_selector
from .broadcast import Group
from .channel import Channel, Format, Handler, State
from .spec import DEFAULT_MAX_SIZE, Spec, resolve

if TYPE_CHECKING:
    import ssl
    from typing import TypeAlias

    from typing_extensions import Self

    from ._endpoint_py import Reader, Writer

    Address: TypeAlias = tuple[str, int] | str | os.PathLike[str]

__all__ = ["Channel", "Format", "Group", "Handler", "Listener", "Loop", "State", "Stats", "Timer"]

logger = logging.getLogger("framewire")

ACCEPT_COUNT = 128
"""Most connections that a listener accepts in a turn."""

ACCEPT_AGAIN = 1.0
"""Seconds until a listener tries again when the process or the system has no descriptors left, unless one gets free."""

LONGEST_WAIT = 24 * 3600.0
"""Seconds in one wait at most, since selectors count milliseconds in 32 bits."""

SELECT_LIMIT = 500
"""Most channels unless more are asked for, where ``select()`` watches them: it can do with 512 sockets on Windows."""

FLUSH_ROUNDS = range(4)
"""How often a turn sends what sending has called forth, before it looks for events again: a range, made once."""

HIGH_MARK, LOW_MARK = 256 * 1024, 64 * 1024


@dataclass(frozen=True)
class Settings:
    """What the channels of one listener have in common."""

    spec: Spec | Format
    max_size: int | None
    encoder: Writer | None
    tls: ssl.SSLContext | None
    server_hostname: str | None
    high_mark: int
    low_mark: int
    idle_timeout: float | None
    frame_timeout: float | None
    handshake_timeout: float
    close_timeout: float
    keepalive: bool

    def reader(self) -> Reader:
        if isinstance(self.spec, Format):
            return self.spec.reader(self.max_size)
        return Decoder(self.spec, max_size=self.max_size)


def _settings(
    spec: Spec | Format | str,
    *,
    max_size: int | None = DEFAULT_MAX_SIZE,
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    high_mark: int = HIGH_MARK,
    low_mark: int = LOW_MARK,
    idle_timeout: float | None = None,
    frame_timeout: float | None = None,
    handshake_timeout: float = 10.0,
    close_timeout: float = 5.0,
    keepalive: bool = False,
) -> Settings:
    if not 0 <= low_mark <= high_mark:
        raise ValueError(f"low_mark={low_mark} and high_mark={high_mark} must be 0 <= low_mark <= high_mark")
    timeouts = {"handshake_timeout": handshake_timeout, "close_timeout": close_timeout}
    if idle_timeout is not None:
        timeouts["idle_timeout"] = idle_timeout
    if frame_timeout is not None:
        timeouts["frame_timeout"] = frame_timeout
    for name, seconds in timeouts.items():
        if not seconds > 0:
            raise ValueError(f"{name} must be more than 0 seconds, not {seconds}")
    encoder = None
    if isinstance(spec, Format):
        spec.reader(max_size)  # to hear its complaints now
    else:
        spec, max_size = resolve(spec, max_size)
        with suppress(ValueError):  # a format that can only be read
            encoder = Encoder(spec, max_size=max_size)
    return Settings(
        spec,
        max_size,
        encoder,
        tls,
        server_hostname,
        high_mark,
        low_mark,
        idle_timeout,
        frame_timeout,
        handshake_timeout,
        close_timeout,
        keepalive,
    )


class Timer:
    """A call that will come; `Loop.call_later` makes it."""

    __slots__ = ("_call", "_loop", "_number", "when")

    def __init__(
        self, loop: Loop, when: float, number: int, call: tuple[Callable[..., object], tuple[Any, ...]]
    ) -> None:
        self._loop = loop
        self._call: tuple[Callable[..., object], tuple[Any, ...]] | None = call
        self._number = number
        self.when = when
        """When it is due, in the time of `Loop.time`."""

    def __lt__(self, other: Timer) -> bool:
        return (self.when, self._number) < (other.when, other._number)

    def cancel(self) -> None:
        """It will not come. Nothing if it has come, or was cancelled before."""
        if self._call is not None:
            self._call = None
            self._loop._timer_cancelled()

    @property
    def pending(self) -> bool:
        """Whether it will still come."""
        return self._call is not None


@dataclass(frozen=True)
class Stats:
    """What a loop has done since it was made, and what it holds now."""

    channel_count: int
    accepted_count: int
    refused_count: int
    received_size: int
    received_count: int
    sent_size: int
    sent_count: int
    queued_size: int


class Loop:
    """An event loop for framed connections.

    >>> from framewire.loop import Handler, Loop
    >>> class Echo(Handler):
    ...     def frames_received(self, channel, payloads):
    ...         channel.send_many(payloads)
    >>> class Client(Handler):
    ...     def connected(self, channel):
    ...         channel.send_many([b"hello", b"world"])
    ...     def frames_received(self, channel, payloads):
    ...         print(payloads)
    ...         channel.loop.stop()
    >>> with Loop() as loop:
    ...     listener = loop.listen(("127.0.0.1", 0), Echo(), "u32be")
    ...     channel = loop.connect(listener.address, Client(), "u32be")
    ...     loop.run()
    [b'hello', b'world']

    `listen`, `connect` and `attach` take these options for their channels:

    - ``max_size``: Most bytes in a payload, in both directions; 16 MiB unless given, None lifts the limit.
    - ``tls``: An ``ssl.SSLContext``.
    - ``high_mark``, ``low_mark``: Bytes in a channel's queue at which senders pause (256 KiB), and resume (64 KiB).
    - ``idle_timeout``: Seconds without a byte in either direction after which a channel is closed.
    - ``frame_timeout``: Seconds that a frame may take from its first byte to its last.
    - ``handshake_timeout``: Seconds for the handshakes of TLS and of WebSockets; 10 unless given.
    - ``close_timeout``: Seconds that `Channel.close` may take; 5 unless given.
    - ``keepalive``: Whether the system shall look for dead peers (``SO_KEEPALIVE``).

    Args:
        selector: A selector of the standard library or one like it, which the loop closes. None takes the compiled one
            where there is epoll, and else ``selectors.DefaultSelector``.
        busy_poll: Seconds, a second at most, for which the loop asks over and over what is ready before it sleeps. It
            does so only after waits that were as short: while a conversation goes on, not while nothing happens. Where
            every message waits for the one before it 50 us can double the rate, at the cost of all of a core: to be
            woken takes the system longer than the rest. 0 for none.

    Raises:
        ValueError: If `busy_poll` is not from 0 to 1.
    """

    def __init__(self, selector: BaseSelector | None = None, *, busy_poll: float = 0.0) -> None:
        if not 0 <= busy_poll <= 1:
            raise ValueError(f"busy_poll={busy_poll!r}: from 0 to 1 second")
        self._selector = new_selector() if selector is None else selector
        self._busy_poll = busy_poll
        self._brisk = False  # the last wait was a short one
        self.turn = Turn()
        # The lists themselves: they are looked at several times in a turn, and a field of a compiled object is slow.
        self._dirty: list[Any] = self.turn.dirty
        self.over: list[Any] = self.turn.over
        self.turn_count = 0
        """How many turns the loop has made."""
        self.source: Channel | None = None
        """The channel whose frames are being handled now."""
        self._now = monotonic()
        self._soon: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._timers: list[Timer] = []
        self._timer_count = self._cancelled_count = 0
        self._groups: list[Group] = []  # those with something to send
        self._channels: set[Channel] = set()
        self._listeners: set[Listener] = set()
        self._connectors: dict[Channel, _Connector] = {}
        self._watched: dict[Any, Callable[[int], None]] = {}
        self._thread: int | None = None
        self._stopping = False
        self._shutdown: Timer | None = None
        self._closed = False
        self._signals: dict[int, Any] = {}  # what was there before us
        self._wakeup_fd: int | None = None  # likewise, while the loop runs
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._woken = False
        self._selector.register(self._wake_receiver, EVENT_READ, self._waken)
        self._past = [0] * 4  # bytes and frames of channels that are gone
        self._accepted_count = self._refused_count = 0

    # Connections.

    def listen(
        self,
        address: Address | socket.socket,
        handler: Handler,
        spec: Spec | Format | str = "ascii10",
        *,
        backlog: int = 1024,
        reuse_port: bool = False,
        max_channels: int | None = None,
        **options: Any,
    ) -> Listener:
        """Accept connections.

        Args:
            address: ``(host, port)`` for TCP, port 0 for any that is free; the path of a Unix socket, which is made;
                or a socket that listens already. The host "" is every interface; with ``"::"`` IPv4 comes in too.
            handler: For all the channels.
            spec: A wire format, or its name; or a `framewire.websocket.Server`.
            backlog: Connections that the system keeps until they are accepted.
            reuse_port: Let several processes listen on one port (``SO_REUSEPORT``).
            max_channels: As soon as the loop has so many channels, further connections are closed at once. Where the
                selector is that of ``select()``, which can watch no more than a few hundred sockets, 500 unless given.
            options: See `Loop`.

        Raises:
            OSError: If that cannot be had.
            ValueError, TypeError: If an option makes no sense.
        """
        settings = _settings(spec, **options)
        self._check_open()
        if max_channels is None and isinstance(self._selector, SelectSelector):
            max_channels = SELECT_LIMIT
        listener = Listener(
            self, listening_on(address, backlog, reuse_port=reuse_port), handler, settings, max_channels
        )
        self._listeners.add(listener)
        listener.resume()
        logger.info("listening on %s for %s", listener.name, settings.spec.name)
        return listener

    def connect(
        self,
        address: Address,
        handler: Handler,
        spec: Spec | Format | str = "ascii10",
        *,
        timeout: float | None = None,
        server_hostname: str | None = None,
        **options: Any,
    ) -> Channel:
        """Connect; `Handler.connected` or `Handler.disconnected` will tell. What is sent before goes out then.

        Args:
            address: ``(host, port)`` for TCP, or the path of a Unix socket. The addresses of a host are tried in turn.
            handler: For this channel.
            spec: A wire format, or its name; or a `framewire.websocket.Client`.
            timeout: Seconds to connect, in all.
            server_hostname: What the certificate must be for; the host unless given.
            options: See `Loop`.

        Raises:
            ValueError, TypeError: If an option makes no sense.
        """
        if not isinstance(address, tuple):
            address = os.fspath(address)
        elif not isinstance(address[0], str):
            raise TypeError(f"the host must be a str, not {address[0]!r}")
        elif server_hostname is None:
            server_hostname = address[0]
        settings = _settings(spec, server_hostname=server_hostname, **options)
        channel = self._new_channel(handler, settings, address, server_side=False)
        channel.outgoing = channel._told = True
        connector = _Connector(self, channel, address, timeout)
        self._connectors[channel] = connector
        self.call_soon(connector.begin)
        return channel

    def attach(
        self,
        sock: socket.socket,
        handler: Handler,
        spec: Spec | Format | str = "ascii10",
        *,
        server_side: bool = True,
        server_hostname: str | None = None,
        **options: Any,
    ) -> Channel:
        """Make a channel of a connected stream socket, which now belongs to the loop.

        `server_side` and `server_hostname` matter only with ``tls``; for the other options see `Loop`.
        """
        settings = _settings(spec, server_hostname=server_hostname, **options)
        channel = self._new_channel(handler, settings, _peername(sock), server_side=server_side)
        self._prepare(sock, settings)
        self.call_soon(self._start, channel, sock)
        return channel

    @property
    def channels(self) -> frozenset[Channel]:
        """The channels that are open or closing."""
        return frozenset(self._channels)

    def stats(self) -> Stats:
        """Counts since the loop was made, and what waits to be sent now."""
        received_size, received_count, sent_size, sent_count = self._past
        queued_size = 0
        for channel in self._channels:
            received_size += channel.received_size
            received_count += channel.received_count
            sent_size += channel.sent_size
            sent_count += channel.sent_count
            queued_size += channel.queued_size
        return Stats(
            len(self._channels),
            self._accepted_count,
            self._refused_count,
            received_size,
            received_count,
            sent_size,
            sent_count,
            queued_size,
        )

    # Calls.

    def time(self) -> float:
        """Seconds of a clock that never goes back, as of the begin of this turn."""
        return self._now

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Call at the end of this turn, or in the next one if it is at its end already."""
        self._soon.append((callback, args))

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any) -> None:
        """`call_soon` for any thread, and for signal handlers: it wakes the loop."""
        self._soon.append((callback, args))
        if not self._woken:
            self._woken = True
            self._wake()

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call after so many seconds."""
        self._timer_count += 1
        timer = Timer(self, monotonic() + max(seconds, 0.0), self._timer_count, (callback, args))
        heapq.heappush(self._timers, timer)
        return timer

    def on_signal(self, signum: int, callback: Callable[..., object], *args: Any) -> None:
        """Call in the loop when this signal comes. `close` puts back what was before.

        Raises:
            ValueError: If this is not the main thread.
        """

        def received(signum: int, frame: object) -> None:
            self.call_soon_threadsafe(callback, *args)

        before = signal.signal(signum, received)
        self._signals.setdefault(signum, before)
        if self._thread is not None:
            self._set_wakeup_fd()

    def watch(self, fileobj: Any, events: int, callback: Callable[[], object]) -> None:
        """Call whenever a descriptor that is none of our connections is ready, such as a terminal's."""

        def ready(events: int) -> None:
            if self._watched.get(fileobj) is ready:  # else it was unwatched in this very turn
                self._run(callback, ())

        self._selector.register(fileobj, events, ready)
        self._watched[fileobj] = ready

    def unwatch(self, fileobj: Any) -> None:
        """Undo `watch`."""
        self._selector.unregister(fileobj)
        del self._watched[fileobj]

    # Running.

    def run(self) -> None:
        """Make turns until `stop`, or until `shutdown` is through.

        Raises:
            RuntimeError: If the loop runs already, or is closed.
        """
        if self._thread is not None:
            raise RuntimeError("the loop is running already")
        self._check_open()
        self._stopping = False
        if self._signals:
            self._set_wakeup_fd()
        self._thread = threading.get_ident()
        try:
            while not self._stopping:
                self._make_turn()
        finally:
            self._thread = None
            if not self._channels:
                self._shutdown = None  # it is through: the loop can be used again
            if self._wakeup_fd is not None:
                signal.set_wakeup_fd(self._wakeup_fd)
                self._wakeup_fd = None

    def stop(self) -> None:
        """Make `run` return after this turn."""
        self._stopping = True

    def shutdown(self, timeout: float = 5.0) -> None:
        """Accept no more, close every channel as `Channel.close` does, and stop when they are gone.

        Args:
            timeout: Seconds after which what is left is aborted.
        """
        if self._shutdown is not None:
            return
        logger.info("shutting down: connections left: %d", len(self._channels))
        self._shutdown = self.call_later(timeout, self._abort_all)
        for listener in list(self._listeners):
            listener.close()
        for channel in list(self._connectors):
            channel.abort()
        for group in {group for channel in self._channels for group in channel.groups}:
            group.flush()
        for channel in list(self._channels):
            channel.going_away()
        self.call_soon(self._look_whether_over)

    def close(self) -> None:
        """Close all that is left, at once. `run` must have returned."""
        if self._closed:
            return
        if self._thread is not None:
            raise RuntimeError("a loop that runs cannot be closed: stop() it")
        self._closed = True
        for listener in list(self._listeners):
            listener.close()
        for channel in list(self._connectors):
            channel.abort()
        for channel in list(self._channels):
            channel.abort()
        self._run_soon()  # the handlers hear of it; what this leaves is never called
        self._soon.clear()
        for signum, before in self._signals.items():
            signal.signal(signum, before)
        self._timers.clear()
        self._selector.close()
        self._wake_receiver.close()
        self._wake_sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # A turn.

    def _make_turn(self) -> None:
        self.turn_count += 1
        due = self._soon or self._timers or self._stopping or self._dirty or self.over or self._groups
        timeout = self._timeout() if due else None
        ready = self._poll(timeout) if self._busy_poll else self._selector.select(timeout)
        self._now = monotonic()
        for key, events in ready:
            key[3](events)  # its data: by number, a field costs more than the rest of this line
        if self._timers:
            self._run_timers()
        if self._soon:
            self._run_soon()
        for _ in FLUSH_ROUNDS:
            if not (self._dirty or self.over or self._groups):
                break
            self._flush()

    def _timeout(self) -> float | None:
        """Seconds until something has to be done that nobody tells of; None if there is nothing."""
        if self._soon or self._stopping or self._dirty or self.over or self._groups:
            return 0
        while self._timers and not self._timers[0].pending:
            heapq.heappop(self._timers)
            self._cancelled_count -= 1
        if not self._timers:
            return None
        return min(max(self._timers[0].when - monotonic(), 0), LONGEST_WAIT)

    def _poll(self, timeout: float | None) -> list[tuple[SelectorKey, int]]:
        """What ``select`` does, asking for a while before it sleeps."""
        begin = monotonic()
        if self._brisk and timeout != 0:
            until = begin + (self._busy_poll if timeout is None else min(self._busy_poll, timeout))
            while not (ready := self._selector.select(0)):
                if monotonic() >= until:
                    break
            else:
                return ready
            if timeout is not None:
                timeout = max(begin + timeout - monotonic(), 0)
        ready = self._selector.select(timeout)
        self._brisk = bool(ready) and monotonic() - begin <= self._busy_poll
        return ready

    def _flush(self) -> None:
        if self._groups:
            groups, self._groups = self._groups, []
            for group in groups:
                group.flush()
        dirty = self.turn.take_dirty()
        try:
            left = flush_all(dirty)
        except BaseException:  # Ctrl-C: the loop may run again
            for channel in dirty:
                channel._listed = False
                channel.look_again()
            raise
        for channel in left:
            channel.flushed()
        if self.over:
            for channel in self.turn.take_over():  # nobody's frames are the cause
                channel.hold_back(None)

    def _run_timers(self) -> None:
        for _ in range(len(self._timers)):  # where the clock is coarse, one that is set now may be due at once
            if not self._timers or self._timers[0].when > self._now:
                break
            timer = heapq.heappop(self._timers)
            call, timer._call = timer._call, None
            if call is not None:
                self._run(*call)
            else:
                self._cancelled_count -= 1

    def _run_soon(self) -> None:
        self._woken = False
        for _ in range(len(self._soon)):
            callback, args = self._soon.popleft()
            self._run(callback, args)

    def _run(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        try:
            callback(*args)
        except Exception:
            logger.exception("%r failed", callback)

    def _timer_cancelled(self) -> None:
        """Forget cancelled timers when they are most of all, so that they cannot pile up."""
        self._cancelled_count += 1
        if self._cancelled_count > 64 and self._cancelled_count > len(self._timers) // 2:
            self._timers = [timer for timer in self._timers if timer.pending]
            heapq.heapify(self._timers)
            self._cancelled_count = 0

    def _wake(self) -> None:
        try:
            self._wake_sender.send(b"\0")
        except (BlockingIOError, InterruptedError):
            pass  # it is awake, many times over
        except OSError:
            if not self._closed:
                raise

    def _waken(self, events: int) -> None:
        with suppress(BlockingIOError, InterruptedError):
            self._wake_receiver.recv(4096)
        self._woken = False  # even if there is nothing to call any more: the next one must wake us again

    def _set_wakeup_fd(self) -> None:
        """A signal that another thread gets must wake this one."""
        before = signal.set_wakeup_fd(self._wake_sender.fileno(), warn_on_full_buffer=False)
        if self._wakeup_fd is None:
            self._wakeup_fd = before

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the loop is closed")

    # What channels and groups ask for.

    def to_flush(self, group: Group) -> None:
        """A group has something to send."""
        self._groups.append(group)

    def watch_channel(self, channel: Channel, before: int, after: int) -> None:
        """Change what a channel waits for."""
        assert channel.sock is not None
        if not before:
            self._selector.register(channel.sock, after, channel.ready)
        elif not after:
            self._selector.unregister(channel.sock)
        else:
            self._selector.modify(channel.sock, after, channel.ready)

    def opened(self, channel: Channel) -> None:
        """A channel is ready for its handler."""
        logger.info("%s connected", channel.name)

    def closed(self, channel: Channel, reached: State, error: Exception | None) -> None:
        """A channel is over."""
        self._channels.discard(channel)
        connector = self._connectors.pop(channel, None)
        if connector is not None:
            connector.cancel()
        for i, amount in enumerate(
            (channel.received_size, channel.received_count, channel.sent_size, channel.sent_count)
        ):
            self._past[i] += amount
        reason = "" if error is None else f": {type(error).__name__}: {error}"
        if reached >= State.OPEN:
            logger.info("%s disconnected%s", channel.name, reason)
        else:
            self._refused_count += not channel.outgoing
            logger.info("%s not connected%s", channel.name, reason)
        for listener in self._listeners:
            listener.resume()  # a descriptor is free
        self._look_whether_over()

    def _new_channel(self, handler: Handler, settings: Settings, peername: Any, *, server_side: bool) -> Channel:
        self._check_open()
        if isinstance(settings.spec, Format):
            tls = settings.tls is not None
            options: dict[str, Any] = {"server_side": server_side} if tls else {}
            return settings.spec.channel_type(tls=tls)(self, handler, settings, peername, **options)
        if settings.tls is not None:
            from .tls import TlsChannel  # it takes longer to load than all the rest

            return TlsChannel(self, handler, settings, peername, server_side=server_side)
        return Channel(self, handler, settings, peername)

    def _prepare(self, sock: socket.socket, settings: Settings) -> None:
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if settings.keepalive:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def _start(self, channel: Channel, sock: socket.socket) -> None:
        if channel.state == State.CLOSED or self._shutdown is not None or self._closed:
            sock.close()
            channel.abort()
            return
        self._channels.add(channel)
        channel.start(sock)

    def accepted(self, listener: Listener, sock: socket.socket, peername: Any) -> None:
        """A listener has a new connection."""
        self._accepted_count += 1
        channel = self._new_channel(listener.handler, listener.settings, peername, server_side=True)
        try:
            self._prepare(sock, listener.settings)
        except OSError:  # it is gone already
            sock.close()
            return
        self._start(channel, sock)

    def refused(self) -> None:
        """A listener has closed a connection without a word."""
        self._refused_count += 1

    def listener_closed(self, listener: Listener) -> None:
        self._listeners.discard(listener)

    def _abort_all(self) -> None:
        for channel in list(self._channels):
            late = TimeoutError(f"{channel.queued_size} bytes could not be sent before the end")
            channel.abort(late if channel.queued_size else None)
        self._look_whether_over()

    def _look_whether_over(self) -> None:
        if self._shutdown is not None and not self._channels:
            self._shutdown.cancel()
            self.call_soon(self.stop)


class Listener:
    """A listening socket of a loop; `Loop.listen` makes it."""

    def __init__(
        self, loop: Loop, sock: socket.socket, handler: Handler, settings: Settings, max_channels: int | None
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._path = path_of(sock)
        self._accepting = False
        self._retry: Timer | None = None
        self.handler = handler
        self.settings = settings
        self.max_channels = max_channels
        self.address: Any = sock.getsockname()
        """Where it listens: ``(host, port)``, with two more for IPv6, or a path."""

    @property
    def name(self) -> str:
        """The address, for people."""
        return address_name(self.address)

    def close(self) -> None:
        """Accept no more; a Unix socket's path is removed. Channels stay."""
        self._suspend()
        if self._retry is not None:
            self._retry.cancel()
        if self._sock.fileno() >= 0:
            self._sock.close()
            if self._path is not None:
                remove(*self._path)
        self._loop.listener_closed(self)

    def resume(self) -> None:
        """Accept, if that was suspended."""
        if not self._accepting and self._sock.fileno() >= 0:
            self._accepting = True
            self._loop._selector.register(self._sock, EVENT_READ, self._ready)
            if self._retry is not None:
                self._retry.cancel()
                self._retry = None

    def _suspend(self) -> None:
        if self._accepting:
            self._accepting = False
            self._loop._selector.unregister(self._sock)

    def _ready(self, events: int) -> None:
        for _ in range(ACCEPT_COUNT):
            if not self._accepting:
                return
            try:
                sock, peername = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    logger.warning("%s cannot accept: %s; trying again", self.name, error)
                    self._suspend()
                    self._retry = self._loop.call_later(ACCEPT_AGAIN, self.resume)
                    return
                logger.info("%s: a connection was gone before it was accepted: %s", self.name, error)
                continue
            if self.max_channels is not None and len(self._loop._channels) >= self.max_channels:
                sock.close()
                self._loop.refused()
                logger.info("%s refused: %d connections are there", address_name(peername), self.max_channels)
                continue
            self._loop.accepted(self, sock, peername)

    def __repr__(self) -> str:
        return f"<Listener {self.name} {self.settings.spec.name}>"


class _Connector:
    """An attempt to connect: every address of a host, one after the other."""

    def __init__(self, loop: Loop, channel: Channel, address: Address, timeout: float | None) -> None:
        self._loop = loop
        self._address = address
        self._found: Iterable[Any] = iter(())
        self._sock: socket.socket | None = None
        self._last: OSError | None = None
        self._timer = None if timeout is None else loop.call_later(timeout, self._late, timeout)
        self.channel = channel

    def begin(self) -> None:
        try:
            self._begin()
        except (TypeError, OverflowError) as error:
            self._end(OSError(errno.EINVAL, f"{self._address!r} is no address: {error}"))

    def _begin(self) -> None:
        if self.channel.state == State.CLOSED:
            return
        if not isinstance(self._address, tuple):
            self._resolved([(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", os.fspath(self._address))])
            return
        host, port = self._address[:2]
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except (OSError, ValueError):  # a name: to look it up may block, so it has a thread of its own
            threading.Thread(target=self._resolve, args=(host, port), daemon=True).start()
        else:
            self._resolved(found)

    def _resolve(self, host: str, port: int) -> None:
        try:
            found: Any = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            found = error if isinstance(error, OSError) else OSError(f"{host!r} is no host name: {error}")
        self._loop.call_soon_threadsafe(self._resolved, found)

    def _resolved(self, found: Any) -> None:
        if isinstance(found, OSError):
            self._end(found)
        else:
            self._found = iter(found)
            self._next()

    def _next(self) -> None:
        """Try the next address."""
        if self.channel.state == State.CLOSED:
            return
        for family, kind, protocol, _, address in self._found:
            try:
                self._sock = sock = socket.socket(family, kind, protocol)
                self._loop._prepare(sock, self.channel.settings)
                sock.connect(address)
            except (BlockingIOError, InterruptedError):
                if family == getattr(socket, "AF_UNIX", None):  # its backlog is full; there is nothing to wait for
                    self._failed(ConnectionRefusedError(errno.ECONNREFUSED, "the backlog of the server is full"))
                    continue
                self._loop._selector.register(sock, EVENT_WRITE, self._ready)
                return
            except OSError as error:
                self._failed(error)
                continue
            except (ValueError, OverflowError) as error:
                self._failed(OSError(errno.EINVAL, f"{address!r} is no address: {error}"))
                continue
            self._end(None)
            return
        self._end(self._last or OSError(f"{self._address!r} has no address"))

    def _ready(self, events: int) -> None:
        if self._sock is None:  # given up in this very turn
            return
        self._loop._selector.unregister(self._sock)
        number = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._failed(OSError(number, os.strerror(number)))
            self._next()
        else:
            self._end(None)

    def _failed(self, error: OSError) -> None:
        self._last = error
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _late(self, timeout: float) -> None:
        self._end(TimeoutError(f"not connected in {timeout:g} s"))

    def cancel(self) -> None:
        """The channel is over."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sock is not None:
            self._loop._selector.unregister(self._sock)
            self._sock.close()
            self._sock = None

    def _end(self, error: OSError | None) -> None:
        if error is not None or self._sock is None:
            self.channel.abort(error)  # which leads to cancel()
            return
        if self._timer is not None:
            self._timer.cancel()
        del self._loop._connectors[self.channel]
        sock, self._sock = self._sock, None
        self.channel.peername = _peername(sock)
        self._loop._start(self.channel, sock)


def _peername(sock: socket.socket) -> Any:
    try:
        return sock.getpeername()
    except OSError:
        return ""
