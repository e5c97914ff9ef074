"""WebSockets on the event loop: a `Server` or a `Client` stands where else a wire format does.

::

    CONNECTING ──> HANDSHAKING ──> OPEN ──────> DRAINING ──────────> LINGERING ──> CLOSED
    TCP            TLS, then       messages     close() was called,  both sides    the socket
                   the opening     go both      or a Close came:     have sent a   is closed
                   handshake       ways         ours goes out, the   Close, and
                                                peer's is awaited    the server
                                                                     ends first

What the bytes mean, the `Protocol` knows. A channel moves them, and sees to what needs a clock or a queue:

- Until the connection is open nothing but the handshake is sent. What is sent to the channel before waits in its
  `Backlog`, as what a slow member of a group misses does.
- A Close, an answered one too, goes out behind all that was sent before, by groups as well. Pongs overtake, but are
  made only while less than the high mark waits.
- Messages are encoded by the protocol's own encoder and queued by the channel: the protocol's queue holds the
  handshake and control frames only.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, Any

from .._endpoint_py import ENDING
from ..broadcast import Backlog
from ..channel import Channel, Format, Handler, State
from ..errors import FramingError
from ..spec import DEFAULT_MAX_SIZE
from ._codec import Deflate, MessageEncoder, Pong
from .handshake import MAX_HEAD_SIZE, MAX_HEADER_COUNT, Request, Response, parse_url
from .protocol import MAX_PINGS, ClientProtocol, Protocol, ServerProtocol
from .protocol import State as ProtocolState

if TYPE_CHECKING:
    import ssl

    from .._wire import BytesLike
    from ..loop import Loop, Settings, Timer

__all__ = ["Client", "Server", "WebSocketChannel"]

logger = logging.getLogger("framewire")

NORMAL, GOING_AWAY, POLICY, INTERNAL = 1000, 1001, 1008, 1011
"""Codes that a Close may have (RFC 6455, section 7.4.1)."""

CONNECTING, HANDSHAKING, OPEN, DRAINING, LINGERING, CLOSED = State


@dataclass(frozen=True, kw_only=True)
class _WebSocket(Format):
    """What both roles can be told."""

    deflate: bool | Deflate = True
    parts: bool = False
    ping_interval: float | None = None
    ping_timeout: float = 20.0

    def __post_init__(self) -> None:
        for name, seconds in (("ping_interval", self.ping_interval), ("ping_timeout", self.ping_timeout)):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} must be more than 0 seconds, not {seconds}")
        self.protocol(DEFAULT_MAX_SIZE)  # to hear its complaints now

    def protocol(self, max_size: int | None) -> Protocol:
        """One connection, without I/O."""
        raise NotImplementedError

    def reader(self, max_size: int | None) -> _Reader:
        return _Reader(self.protocol(max_size))

    def fits(self, other: object) -> bool:
        return type(other) is type(self)  # whatever else was agreed on: it is sent uncompressed

    def channel_type(self, *, tls: bool) -> type[Channel]:
        if tls:
            from .tls import TlsWebSocketChannel  # it takes longer to load than all the rest

            return TlsWebSocketChannel
        return WebSocketChannel


@dataclass(frozen=True, kw_only=True)
class Server(_WebSocket):
    """WebSockets for `Loop.listen`, `Loop.attach` and `Group`, from the side of the server.

    >>> from framewire.loop import Handler, Loop
    >>> from framewire.websocket import Client, Server
    >>> class Echo(Handler):
    ...     def frames_received(self, channel, messages):
    ...         channel.send_many(messages)
    >>> class Caller(Handler):
    ...     def connected(self, channel):
    ...         channel.send_many(["hello", b"world"])
    ...     def frames_received(self, channel, messages):
    ...         print(messages)
    ...         channel.close()
    ...     def disconnected(self, channel, error):
    ...         print(error, channel.websocket.close_code)
    ...         channel.loop.stop()
    >>> with Loop() as loop:
    ...     listener = loop.listen(("127.0.0.1", 0), Echo(), Server())
    ...     channel = loop.connect(listener.address, Caller(), Client("ws://localhost/"))
    ...     loop.run()
    ['hello', b'world']
    None 1000

    Of the options of a `Loop`, ``handshake_timeout`` covers TLS and the opening handshake together, ``frame_timeout`` a
    frame, and ``close_timeout`` the close handshake.

    Args:
        origins, subprotocols, deflate, parts, respond, max_head_size, max_header_count, server_name: As in
            `ServerProtocol`. `respond` is called in the thread of the loop, and must not block.
        ping_interval: Seconds between pings, which keep the connection alive in the eyes of proxies, and show whether
            the peer lives. None sends none.
        ping_timeout: Seconds in which something must come after a ping; else the channel is closed.

    Raises:
        ValueError, TypeError: If an option makes no sense.
    """

    name = "websocket"

    origins: Collection[str] | Callable[[str], bool] | None = None
    subprotocols: Sequence[str] = ()
    respond: Callable[[Request], Response | None] | None = None
    max_head_size: int = MAX_HEAD_SIZE
    max_header_count: int = MAX_HEADER_COUNT
    server_name: str | None = None

    def protocol(self, max_size: int | None) -> ServerProtocol:
        return ServerProtocol(
            origins=self.origins,
            subprotocols=self.subprotocols,
            deflate=self.deflate,
            max_size=max_size,
            parts=self.parts,
            respond=self.respond,
            max_head_size=self.max_head_size,
            max_header_count=self.max_header_count,
            server_name=self.server_name,
        )

    def group_writer(self, max_size: int | None) -> MessageEncoder:
        return MessageEncoder("server", max_size=max_size)


@dataclass(frozen=True, kw_only=True)
class Client(_WebSocket):
    """WebSockets for `Loop.connect`, from the side of the client; see `Server`.

    Args:
        url: As in `ClientProtocol`. It says what to ask for; where, `Loop.connect` is told: or call `connect`.
        origin, subprotocols, headers, deflate, parts, mask_key, max_head_size, max_header_count: As in
            `ClientProtocol`.
        ping_interval, ping_timeout: As in `Server`.

    Raises:
        ValueError, TypeError: If an option makes no sense.
    """

    name = "websocket"

    url: str = field(kw_only=False)
    origin: str | None = None
    subprotocols: Sequence[str] = ()
    headers: Sequence[tuple[str, str]] = ()
    mask_key: Callable[[], bytes] | None = None
    max_head_size: int = MAX_HEAD_SIZE
    max_header_count: int = MAX_HEADER_COUNT

    def protocol(self, max_size: int | None) -> ClientProtocol:
        return ClientProtocol(
            self.url,
            origin=self.origin,
            subprotocols=self.subprotocols,
            headers=self.headers,
            deflate=self.deflate,
            max_size=max_size,
            parts=self.parts,
            mask_key=self.mask_key,
            max_head_size=self.max_head_size,
            max_header_count=self.max_header_count,
        )

    def group_writer(self, max_size: int | None) -> MessageEncoder:
        return MessageEncoder("client", max_size=max_size, mask_key=self.mask_key)

    def connect(
        self, loop: Loop, handler: Handler, *, tls: ssl.SSLContext | None = None, **options: Any
    ) -> WebSocketChannel:
        """Connect to where the URL leads.

        Args:
            loop, handler, options: As for `Loop.connect`.
            tls: For a ``wss:`` URL, if the system's certificates will not do.

        Raises:
            ValueError: If there is a context for TLS, and none is asked for.
        """
        url = parse_url(self.url)
        if tls is not None and not url.secure:
            raise ValueError(f"{self.url} is not a wss: URL, but there is a context for TLS")
        if tls is None and url.secure:
            import ssl

            tls = ssl.create_default_context()
        channel = loop.connect((url.host, url.port), handler, self, tls=tls, **options)
        assert isinstance(channel, WebSocketChannel)
        return channel


class _Reader:
    """A protocol in the manner of a decoder; what is wrong shows in `error`."""

    __slots__ = ("protocol",)

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol

    @property
    def error(self) -> Exception | None:
        return self.protocol.error

    @property
    def buffered_size(self) -> int:
        return self.protocol.buffered_size

    @property
    def needed_size(self) -> int:
        return self.protocol.needed_size

    def feed(self, chunk: BytesLike, /) -> list[Any]:
        self.protocol.receive_data(chunk)
        return self.collect()

    def get_buffer(self, hint: int = -1) -> memoryview:
        return self.protocol.get_buffer(hint)

    def buffer_updated(self, n: int, /) -> list[Any]:
        self.protocol.buffer_updated(n)
        return self.collect()

    def feed_eof(self) -> list[Any]:
        self.protocol.receive_eof()
        return self.collect()

    def collect(self) -> list[Any]:
        """What has come. If that is nothing, the protocol does what is due at the end of the stream."""
        try:
            return self.protocol.messages_received()
        except Exception:
            if self.protocol.error is None:
                raise
            return []


class WebSocketChannel(Channel):
    """One WebSocket connection of a `Loop`: a `Channel` whose payloads are ``str`` and ``bytes``.

    `Handler.connected` comes after the opening handshake. A client's `Handler.disconnected` may come in its place, with
    a `HandshakeError`. `Handler.eof_received` means that the peer has sent a Close, or ended the stream without one;
    the channel closes, whatever that returns.

    Attributes:
        websocket: The protocol, for what it knows: ``request``, ``subprotocol``, ``close_received``, ``close_code``.
    """

    decoder: _Reader

    def __init__(self, loop: Loop, handler: Handler, settings: Settings, peername: Any, **options: Any) -> None:
        super().__init__(loop, handler, settings, peername, **options)
        self.websocket = self.decoder.protocol
        self.encoder = self.websocket.encoder
        self.backlog = Backlog()  # until the connection is open
        self.in_order = self.attended = True
        self._deadline = 0.0
        self._had_pages = False
        self._surplus: list[Any] = []  # messages that came with the handshake
        self._pings: deque[tuple[bytes, Callable[[], object] | None]] = deque(maxlen=MAX_PINGS)  # without a pong
        self._ping_timer: Timer | None = None

    # What its user calls.

    if TYPE_CHECKING:

        def send(self, message: str | BytesLike, /) -> None: ...
        def send_many(self, messages: Iterable[str | BytesLike], /) -> None: ...

    def send_eof(self) -> None:
        raise NotImplementedError("a WebSocket cannot be half-closed: close() it")

    def send_part(self, data: str | BytesLike, /, final: bool = False) -> None:
        """Send a part of a message, of which the first says whether it is text, and `final` that it was the last.

        Raises:
            FrameTooLarge, ValueError, TypeError: As `MessageEncoder.encode_part`; nothing is sent.
            RuntimeError: If the channel is not open, or a member of a group, whose messages would come in between.
        """
        if self._state is not OPEN or self.groups:
            what = "an open channel" if self._state is not OPEN else "a channel that is in no group"
            raise RuntimeError(f"only {what} can send parts")
        self.write(self.websocket.encoder.encode_part(data, final=final))

    def ping(self, payload: BytesLike = b"", answered: Callable[[], object] | None = None) -> None:
        """Send a Ping, before what waits in the backlog.

        Args:
            payload: At most 125 bytes.
            answered: Called when its Pong comes, or that of a later one (RFC 6455, section 5.5.3).

        Raises:
            ValueError: If the payload is too large.
            RuntimeError: If the channel is not open.
            BrokenPipeError: If the peer has closed it.
        """
        if self._state is not OPEN:
            raise RuntimeError("only an open channel can ping")
        payload = bytes(payload)
        self.websocket.ping(payload)
        self._pings.append((payload, answered))
        self._say()

    def close(self, error: Exception | None = None, *, code: int | None = None, reason: str = "") -> None:
        """Receive no more; send what is queued, then a Close; await the peer's, and disconnect.

        All that within the ``close_timeout`` of the channel: what is then unsent is lost.

        Args:
            error: What `Handler.disconnected` shall hear.
            code: What the peer shall hear (RFC 6455, section 7.4): 1000 unless given, or 1001 for a `TimeoutError` and
                1008 for another `error`.
            reason: Likewise, at most 123 bytes of UTF-8.

        Raises:
            ValueError: If the code must not be sent, or the reason is too long.
        """
        if self._state is OPEN:
            if code is None:
                code = NORMAL if error is None else GOING_AWAY if isinstance(error, TimeoutError) else POLICY
            self._conclude(code, reason)
            self.ended = self.websocket.eof_received  # a Close alone is not the end of the stream
        super().close(error)

    def going_away(self) -> None:
        if self._state is OPEN:
            self.close(code=GOING_AWAY)
        else:
            self.close()

    def resume_reading(self) -> None:
        super().resume_reading()
        if not self._pauses and self._surplus:
            self.loop.call_soon(self._read_surplus)

    # What the loop calls.

    def start(self, sock: Any) -> None:
        self._deadline = self.loop.time() + self.settings.handshake_timeout
        super().start(sock)

    def flushed(self) -> None:
        if self._state is HANDSHAKING:
            self._shake_hands()
            return
        if self.websocket.queued_size:
            self._say()
        super().flushed()

    def hold_back(self, channel: Channel | None) -> None:
        if self._told:
            super().hold_back(channel)
        else:
            self.over = False  # nothing that its handler has sent

    # The opening.

    def _open(self) -> None:
        """There is a connection, over which the handshake can begin."""
        self._state = HANDSHAKING
        self._set_timer(self._deadline - self.loop.time(), self._not_opened)
        self._shake_hands()

    def _shake_hands(self) -> None:
        """Send what the handshake has to say, and nothing else, and see whether it is over."""
        protocol = self.websocket
        before = self.sent_size
        self.blocked = False
        self._say()
        while self.flush() and protocol.queued_size:
            self._say()
        if self.failure is not None:
            self._disconnect(self.failure)
        elif protocol.opened:
            self._begin()
        elif protocol.state is ProtocolState.CLOSED:
            self._refuse()
        else:
            self.blocked = True  # for all that is not the handshake
            reading = 0 if protocol.queued_size else EVENT_READ  # more pages than it takes are not read for
            self._watch(EVENT_WRITE | reading if self.unsent_size else EVENT_READ)
            if self.sent_size > before and isinstance(protocol, ServerProtocol):  # a page; it may ask for another
                self._had_pages = True
                self._set_timer(self.settings.handshake_timeout, self._not_opened)

    def _begin(self) -> None:
        """Both sides have agreed: from here on this is a channel like others."""
        self._set_timer(None)
        self._watch(self._interest & ~EVENT_READ)
        self.encoder = self.websocket.encoder  # the handshake may have chosen another
        self._surplus += self.decoder.collect()
        super()._open()
        self._read_surplus()
        interval = self._options.ping_interval
        if interval is not None and self._state is OPEN:
            self._ping_timer = self.loop.call_later(interval, self._send_ping)

    def _read_surplus(self) -> None:
        if self._state is OPEN and not self._pauses and (self._surplus or self.ended):
            self._read()

    def _refuse(self) -> None:
        """There will be no WebSocket; what a server has to say goes out before the end."""
        error = self.websocket.error
        if error is not None and not isinstance(error, FramingError):
            logger.error("%s: respond() failed", self.name, exc_info=error)
        if isinstance(self.websocket, ClientProtocol):
            self._disconnect(error)
            return
        self._state = DRAINING
        self._error = error
        self.mode = ENDING
        self.backlog = None
        self.ended = self.websocket.eof_received
        self._attend()
        self._watch(self._interest & ~EVENT_READ if self.ended else self._interest | EVENT_READ)
        self._set_timer(self.settings.close_timeout, self._out_of_time)
        self.flushed()

    def _not_opened(self) -> None:
        late = TimeoutError(f"no opening handshake in {self.settings.handshake_timeout:g} s")
        self._disconnect(None if self._had_pages else late)

    # Receiving.

    def receive(self) -> list[Any]:
        if self._surplus:
            messages, self._surplus = self._surplus, []
        else:
            messages = super().receive()
        if self._pings and Pong in map(type, messages):
            for pong in [message for message in messages if type(message) is Pong]:
                self._answered(pong)
            messages = [message for message in messages if type(message) is not Pong]
        return messages

    def received(self, n: int, chunk: memoryview | None) -> list[Any]:
        messages = super().received(n, chunk)
        if self.websocket.queued_size:
            self._say()  # pongs, before the answers to what came with the pings
        if self.websocket.close_received is not None and self._state <= OPEN:
            self.ended = True
        return messages

    def _answered(self, pong: Pong) -> None:
        while self._pings:
            payload, answered = self._pings.popleft()
            if answered is not None:
                try:
                    answered()
                except Exception as error:
                    self._handler_failed("ping", error)
            if payload == pong.payload:
                break

    def _read(self) -> None:
        super()._read()
        if self.websocket.queued_size:
            self._say()
        if self.loop.over:  # pongs can be too much for a peer, as answers can
            for channel in self._turn.take_over():
                channel.hold_back(self)

    def _linger(self) -> None:
        if self._state is HANDSHAKING:
            try:
                self._surplus += self.receive()
            except Exception as error:
                self._disconnect(error)
            else:
                self._shake_hands()
        elif self._state is DRAINING and self.websocket.opened and self.decoder.error is None:
            self._await_close()
        else:
            super()._linger()

    # Closing.

    def _await_close(self) -> None:
        """Take what still comes, for the Close and the end of the stream only."""
        try:
            if super().receive():  # nobody hears of it
                self.decoder.collect()
        except Exception as error:
            over = self.websocket.close_received is not None  # who has said so may go without a word
            self._disconnect(self._error or (None if over else error))
            return
        if self.ended:
            self._watch(self._interest & ~EVENT_READ)
        if not self.queued_size:
            self._drained()

    def _conclude(self, code: int, reason: str) -> None:
        """Let the protocol answer the peer's Close or error, or say our own."""
        self.decoder.collect()
        if self.websocket.state is ProtocolState.OPEN:
            self.websocket.close(code, reason)

    def _end_sending(self) -> None:
        for group in self.groups:
            group.discard(self)  # which sends what it has left
        if self._state is not CLOSED:
            while data := self._words():
                self.put(data, 0)
            super()._end_sending()

    def _drained(self) -> None:
        if self.websocket.end_of_sending:
            super()._drained()
        # Else the peer's Close is awaited, or the end of the stream, which is the server's.

    def _out_of_time(self) -> None:
        if self._state is DRAINING and not self.queued_size:
            late = TimeoutError(f"no Close came back in {self.settings.close_timeout:g} s")
            self._disconnect(self._error or (late if self.websocket.close_received is None else None))
        else:
            super()._out_of_time()

    def _handler_failed(self, name: str, error: Exception) -> None:
        if self._state is OPEN:
            self._conclude(INTERNAL, "")
            while data := self._words():
                self.append(data, 0)
            self.flush()
        super()._handler_failed(name, error)

    def _disconnect(self, error: Exception | None) -> None:
        if self._state is not CLOSED:
            if self._ping_timer is not None:
                self._ping_timer.cancel()
            if self._state > CONNECTING and not self.websocket.opened:  # a page is no refusal
                self._state = HANDSHAKING if error or self._error else DRAINING
        super()._disconnect(error)

    # What the protocol has to say.

    def _say(self) -> None:
        """Queue it, but no Close of an open channel, and no more than there is room for."""
        if self.websocket.close_sent is None or self._state is not OPEN:
            while self.unsent_size <= self.high_mark and (data := self._words()):
                self.append(data, 0)

    def _words(self) -> bytes:
        data = b"".join(self.websocket.data_to_send())
        self.websocket.data_sent(len(data))
        return data

    # Keeping it alive.

    @property
    def _options(self) -> _WebSocket:
        options = self.settings.spec
        assert isinstance(options, _WebSocket)
        return options

    def _send_ping(self) -> None:
        if self._state is OPEN and not self.ended:
            self.ping()
            moved = self.received_size, self.sent_size
            self._ping_timer = self.loop.call_later(self._options.ping_timeout, self._look_for_life, *moved)

    def _look_for_life(self, received_size: int, sent_size: int) -> None:
        if self._state is not OPEN:
            return
        sending = self.queued_size and self.sent_size > sent_size
        if self.received_size > received_size or sending or self._pauses:
            interval = self._options.ping_interval or 0.0
            self._ping_timer = self.loop.call_later(interval - self._options.ping_timeout, self._send_ping)
        else:
            self.close(TimeoutError(f"nothing came in {self._options.ping_timeout:g} s after a ping"))
