"""One connection of an event loop: its life, its deadlines, and what its handler hears.

A channel lives through these states, in this order, and may skip any of them but the last::

    CONNECTING ──> HANDSHAKING ──> OPEN ──> DRAINING ──> LINGERING ──> CLOSED
    TCP or Unix    TLS             frames   close() was   all is sent,  the socket is
    connection     handshake       go both  called, the   the peer was  closed
    under way      under way       ways     queue goes    told; its end
                                            out           is awaited

LINGERING is there because a socket that is closed while bytes of the peer are unread resets the connection, and a
reset can destroy what the peer has not read yet.

Rules that hold here:

- `Handler.disconnected` comes exactly once, last, and never out of another call of the handler.
- An exception of a handler aborts its own channel, and no other.
- Whatever may close the channel (any call of the handler) is followed by a look at the state.
"""

from __future__ import annotations

import logging
import socket
from enum import IntEnum
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, Any

from ._address import address_name
from ._endpoint import Endpoint
from ._endpoint_py import ENDING, GONE, READ_SIZE

if TYPE_CHECKING:
    from ._endpoint_py import Reader, Writer
    from .broadcast import Backlog, Group
    from .loop import Loop, Settings, Timer

logger = logging.getLogger("framewire")

IDLE_LOOKS = 4
"""How often in an idle timeout a channel is looked at: it is closed between 1 and 1.25 timeouts after its last byte."""


class State(IntEnum):
    CONNECTING = 0
    HANDSHAKING = 1
    OPEN = 2
    DRAINING = 3
    LINGERING = 4
    CLOSED = 5


CONNECTING, HANDSHAKING, OPEN, DRAINING, LINGERING, CLOSED = State  # a look into an enumeration costs as much as a call


class Format:
    """A wire format with channels of its own kind, because it is more than frames: `framewire.websocket.Server`.

    It stands where else a `Spec` does, for `Loop.listen` and its like, and for `Group`.
    """

    name: str
    """For people."""

    def reader(self, max_size: int | None) -> Reader:
        """What comes in on one channel."""
        raise NotImplementedError

    def group_writer(self, max_size: int | None) -> Writer:
        """What goes out to all channels of a group.

        Raises:
            ValueError: If nothing can be the same for all.
        """
        raise NotImplementedError

    def fits(self, other: object) -> bool:
        """Whether what a group of this format sends is right for a channel of the other one."""
        return self == other

    def channel_type(self, *, tls: bool) -> type[Channel]:
        """The kind of its channels: a subclass of `TlsChannel`, or of `Channel` alone."""
        raise NotImplementedError


class Handler:
    """What happens on channels; override what you need. One handler may serve any number of channels.

    Calls come from the loop's thread, one at a time, and must not block. An exception out of one is logged with its
    traceback and aborts the channel; others do not notice.
    """

    def connected(self, channel: Channel) -> None:
        """The channel is ready, its TLS handshake done."""

    def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
        """Payloads have come, in order: all that one read has completed, at least one."""

    def eof_received(self, channel: Channel) -> bool | None:
        """The peer will send no more. Return true to go on sending; else the channel drains and closes."""

    def sending_paused(self, channel: Channel) -> None:
        """More waits to be sent than the channel's high mark; better send nothing now.

        Whoever only answers what it receives need not care: reading pauses and resumes by itself.
        """

    def sending_resumed(self, channel: Channel) -> None:
        """What waits to be sent has fallen to the low mark."""

    def disconnected(self, channel: Channel, error: Exception | None) -> None:
        """The channel is over; the last call.

        Args:
            channel: The channel, on which nothing can be done any more.
            error: None if both sides have ended it; a `FramingError`, an ``OSError`` (`TimeoutError` for a deadline) or
                the handler's own exception if that is what did.
        """


class Channel(Endpoint):
    """One connection of a `Loop`. `Loop.listen`, `Loop.connect` and `Loop.attach` make it.

    All its methods are for the loop's thread (see `Loop.call_soon_threadsafe`).
    """

    __slots__ = (
        "_began",
        "_closing",
        "_error",
        "_frame_timer",
        "_half_closed",
        "_held_back",
        "_interest",
        "_moved",
        "_paused",
        "_pauses",
        "_state",
        "_timer",
        "_told",
        "backlog",
        "context",
        "groups",
        "handler",
        "loop",
        "outgoing",
        "peername",
        "settings",
    )

    def __init__(self, loop: Loop, handler: Handler, settings: Settings, peername: Any) -> None:
        super().__init__(loop.turn, settings.reader(), settings.encoder, settings.high_mark)
        self.loop = loop
        self.handler = handler
        self.settings = settings
        self.peername = peername
        """The peer's address: ``(host, port)``, with two more for IPv6; a path, often empty, for a Unix socket."""
        self.context: Any = None
        """Yours."""
        self.outgoing = False
        """Whether `Loop.connect` has made it."""
        self.groups: tuple[Group, ...] = ()
        self.backlog: Backlog | None = None
        self._state = CONNECTING
        self._error: Exception | None = None
        self._interest = 0
        self._pauses = 0  # how many reasons there are not to read
        self._paused: list[Channel] | None = None  # those that wait until this queue is short
        self._timer: Timer | None = None
        self._frame_timer: Timer | None = None
        self._half_closed = False
        self._closing = False  # it was closed while the connection was under way
        self._held_back = False  # the handler was told to pause, and will be told to resume
        self._told = False  # the handler knows of it, and will have to hear of its end
        self._moved = 0  # bytes by the last look
        self._began: float | None = None  # when the frame began that is not whole

    # What its user calls.

    @property
    def name(self) -> str:
        """The peer, for people: ``127.0.0.1:48953``."""
        return address_name(self.peername)

    @property
    def state(self) -> State:
        """Where in its life the channel is."""
        return self._state

    @property
    def queued_size(self) -> int:
        """Bytes that wait to be sent, headers included."""
        return self.unsent_size + (self.backlog.size if self.backlog is not None else 0)

    def send_eof(self) -> None:
        """Send what is queued, then say that nothing more will come. Receiving goes on.

        Raises:
            NotImplementedError: Over TLS, which cannot end one direction alone in Python (nor can asyncio).
        """
        if self.mode != ENDING and self._state <= OPEN:
            self._end_sending()

    def close(self, error: Exception | None = None) -> None:
        """Receive no more; send what is queued; then tell the peer, await its end, and disconnect.

        All that within the ``close_timeout`` of the channel: what is then unsent is lost.

        Args:
            error: What `Handler.disconnected` shall hear.
        """
        if self._state < OPEN:
            if self.outgoing and self.queued_size:  # it will be sent, once there is a connection
                self.mode = ENDING
                self._closing = True
                self._error = error
            else:
                self._disconnect(error)
        elif self._state is OPEN:
            self._state = DRAINING
            self._error = error
            self._end_sending()
            if self._state is not DRAINING:  # a group had something left for it, which could not be sent
                return
            # What still comes is thrown away: a peer that is sending may read nothing before it is rid of that.
            over = self.ended and self.decoder.error is None
            self._watch(self._interest & ~EVENT_READ if over else self._interest | EVENT_READ)
            self._resume_others()
            self._set_timer(self.settings.close_timeout, self._out_of_time)

    def abort(self, error: Exception | None = None) -> None:
        """Disconnect now; what is unsent is lost."""
        self._disconnect(error)

    def going_away(self) -> None:
        """Close because the loop shuts down; for a format in which that is worth a word."""
        self.close()

    def pause_reading(self) -> None:
        """Receive nothing until `resume_reading`, which must follow as many times."""
        self._pauses += 1
        if self._pauses == 1 and self._state is OPEN:
            self._watch(self._interest & ~EVENT_READ)

    def resume_reading(self) -> None:
        """Undo one `pause_reading`."""
        if self._pauses == 0:
            raise RuntimeError("resume_reading() without pause_reading()")
        self._pauses -= 1
        if self._pauses == 0 and self._state is OPEN and not self.ended:
            self._watch(self._interest | EVENT_READ)

    def __repr__(self) -> str:
        return f"<Channel {self._state.name.lower()} {self.name} {self.settings.spec.name}>"

    # What the loop calls.

    def start(self, sock: socket.socket) -> None:
        """Begin with a socket that is connected."""
        self.attach(sock)
        self._open()

    def ready(self, events: int) -> None:
        """The socket is ready."""
        if events == EVENT_READ == self._interest and self._state is OPEN:  # as it mostly is
            self._read()
            return
        if events & self._interest & EVENT_WRITE:
            self.flush()
            self.flushed()
        if events & self._interest & EVENT_READ:
            if self._state is OPEN:
                self._read()
            else:
                self._linger()

    def flushed(self) -> None:
        """See to what follows from an attempt to send."""
        if self._state is CLOSED:
            return
        if self.failure is None and not self.unsent_size and self.backlog is not None:
            self.backlog.drain(self)
        if self.failure is not None:
            self._disconnect(self._error or self.failure)
            return
        if self._held_back and self.queued_size <= self.settings.low_mark:
            self._held_back = self.over = False
            self._attend()
            self._resume_others()
            self._call("sending_resumed")
        if self.sock is None:
            return
        if self.unsent_size:
            self._watch(self._interest | EVENT_WRITE)
        else:
            self._watch(self._interest & ~EVENT_WRITE)
            if self.mode == ENDING and self.backlog is None and self._state <= DRAINING:
                self._drained()

    def hold_back(self, channel: Channel | None) -> None:
        """The queue is above its high mark: pause reading from `channel`, which is the cause."""
        if self._state is CLOSED or not self.over:
            return
        if self.queued_size <= self.settings.low_mark:  # it has gone out meanwhile
            self.over = False
            return
        self.attended = self._held_back = True
        if channel is not None and channel._state is OPEN:
            channel.pause_reading()
            if self._paused is None:
                self._paused = []
            self._paused.append(channel)
        self._call("sending_paused")

    def put_in_order(self, data: bytes, count: int) -> None:
        for group in self.groups:
            group.flush()
        if self.backlog is None:
            self.append(data, count)
            return
        self.backlog.append(self, data, count, None)
        if self.queued_size > self.high_mark and not self.over:
            self.over = True
            self._turn.over.append(self)

    def caught_up(self) -> None:
        """The backlog is empty."""
        self.backlog = None
        self.in_order = bool(self.groups)
        self._attend()

    # Its life.

    def _open(self) -> None:
        self._state = OPEN
        self.loop.opened(self)
        if self.unsent_size or self.attended:  # sent while there was no connection
            self.look_again()
            if self.backlog is not None and self.flush():  # what is sent from now on must find it behind a queue
                self.backlog.drain(self)
        if self._closing:
            self.close(self._error)
            return
        self._told = True
        self._call("connected")
        if self._state is OPEN:
            if not self._pauses:
                self._watch(self._interest | EVENT_READ)
            settings = self.settings
            if settings.idle_timeout is not None:
                self._set_timer(settings.idle_timeout / IDLE_LOOKS, self._look, 1)

    def look_again(self) -> None:
        """Have `flushed` called at the end of this turn, if the endpoint is `attended`."""
        if not self._listed:
            self._listed = True
            self._turn.dirty.append(self)

    def _read(self) -> None:
        try:
            payloads = self.receive()
        except Exception as error:  # the connection is lost, or there is no memory
            self._disconnect(error)
            return
        if payloads:
            loop = self.loop
            loop.source = self
            try:
                self.handler.frames_received(self, payloads)
            except Exception as error:
                self._handler_failed("frames_received", error)
            loop.source = None
            if loop.over:
                for channel in self._turn.take_over():
                    channel.hold_back(self)
        if self.settings.frame_timeout is not None:
            self._watch_frame(bool(payloads))
        if self.ended and self._state is OPEN:
            self._incoming_over()

    def _incoming_over(self) -> None:
        self._watch(self._interest & ~EVENT_READ)
        error = self.decoder.error
        if error is not None:
            self.close(error)
        elif not self._call("eof_received") or self.mode == ENDING:
            self.close()

    def _end_sending(self) -> None:
        for group in self.groups:
            group.discard(self)  # which sends what it has left
        if self._state is CLOSED:
            return
        self.mode = ENDING
        self.attended = True
        self.look_again()

    def _drained(self) -> None:
        """All is sent, and nothing will be."""
        try:
            if not self._half_closed and not self._half_close():
                self._watch(self._interest | EVENT_WRITE)
                return
        except OSError as error:
            self._disconnect(self._error or error)
            return
        self._half_closed = True
        self._attend()
        if self.ended and self.decoder.error is None:  # the peer has ended too
            self._disconnect(self._error)
        elif self._state is DRAINING:
            self._state = LINGERING
            self._watch(EVENT_READ)

    def _half_close(self) -> bool:
        """Tell the peer that nothing more will come; return whether that has gone out."""
        assert self.sock is not None
        self.sock.shutdown(socket.SHUT_WR)
        return True

    def _linger(self) -> None:
        """Take what still comes, for nothing, up to the peer's end."""
        assert self.sock is not None
        lost = None
        try:
            if socket.socket.recv(self.sock, READ_SIZE):  # below TLS, for which this is no longer anything
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            lost = error
        if self._state is LINGERING:
            self._disconnect(self._error)  # an error is the end, in another way
        elif lost is not None:
            self._disconnect(self._error or lost)
        else:
            self.ended = True
            self._watch(self._interest & ~EVENT_READ)

    def _disconnect(self, error: Exception | None) -> None:
        if self._state is CLOSED:
            return
        reached = self._state
        error = self._error if error is None else error
        self._state = CLOSED
        self.mode = GONE
        self._set_timer(None)
        if self._frame_timer is not None:
            self._frame_timer.cancel()
            self._frame_timer = None
        for group in self.groups:
            group.discard(self)
        self.backlog = None
        sock = self.sock
        self._watch(0)
        self.detach()
        if sock is not None:
            sock.close()
        self._resume_others()
        self.loop.closed(self, reached, error)
        if self._told:
            self.loop.call_soon(self._say_disconnected, error)

    def _say_disconnected(self, error: Exception | None) -> None:
        try:
            self.handler.disconnected(self, error)
        except Exception:
            logger.exception("%s: disconnected() failed", self.name)

    # Its parts.

    def _call(self, name: str) -> object:
        """Call the handler; what it raises is the end of this channel only."""
        try:
            result: object = getattr(self.handler, name)(self)
        except Exception as error:
            self._handler_failed(name, error)
            return None
        return result

    def _handler_failed(self, name: str, error: Exception) -> None:
        logger.exception("%s: %s() failed", self.name, name, exc_info=error)
        self._disconnect(error)

    def _watch(self, interest: int) -> None:
        if interest != self._interest and self.sock is not None:
            self.loop.watch_channel(self, self._interest, interest)
            self._interest = interest

    def _attend(self) -> None:
        """Whether the loop has to look after every flush."""
        self.attended = self.over or self.backlog is not None or (self.mode == ENDING and bool(self.unsent_size))

    def _resume_others(self) -> None:
        if self._paused is not None:
            paused, self._paused = self._paused, None
            for channel in paused:
                channel.resume_reading()

    # Its deadlines.

    def _set_timer(self, seconds: float | None, *call: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, *call)

    def _look(self, looks: int) -> None:
        """Has anything moved?"""
        settings = self.settings
        assert settings.idle_timeout is not None
        moved = self.received_size + self.sent_size
        if moved != self._moved:
            self._moved, looks = moved, 0
        if looks >= IDLE_LOOKS:
            self.close(TimeoutError(f"idle for {settings.idle_timeout:g} s"))
        else:
            self._set_timer(settings.idle_timeout / IDLE_LOOKS, self._look, looks + 1)

    def _watch_frame(self, progress: bool) -> None:
        timeout = self.settings.frame_timeout
        assert timeout is not None
        if not self.decoder.buffered_size:
            self._began = None
        elif progress or self._began is None:
            self._began = self.loop.time()
            if self._frame_timer is None and self._state is OPEN:
                self._frame_timer = self.loop.call_later(timeout, self._look_at_frame)

    def _look_at_frame(self) -> None:
        timeout = self.settings.frame_timeout
        assert timeout is not None
        self._frame_timer = None
        if self._began is None or self._state is not OPEN:
            return  # it was completed; the next one will set the timer again
        if self._pauses:  # that it is not complete is not the peer's fault
            self._began = self.loop.time()
        left = self._began + timeout - self.loop.time()
        if left <= 0:
            missing = self.decoder.needed_size
            self.close(
                TimeoutError(f"a frame was not complete after {timeout:g} s: {missing} bytes or more are missing")
            )
        else:
            self._frame_timer = self.loop.call_later(left, self._look_at_frame)

    def _out_of_time(self) -> None:
        """Closing has taken too long."""
        if self._state is LINGERING:  # all was sent; the peer just does not go
            self._disconnect(self._error)
        else:
            lost = TimeoutError(f"{self.queued_size} bytes could not be sent in {self.settings.close_timeout:g} s")
            self._disconnect(self._error or lost)
