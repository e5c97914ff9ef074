"""WebSockets under asyncio, or uvloop: the streams of `framewire.aio`, with messages for payloads.

Waiting, flow control and tasks are those of `framewire.aio`; what bytes mean, the `Protocol` knows. Here is what lies
between them.

Rules that hold here:

- What ends the incoming stream waits its turn: a Close is answered when every message before it has been received by
  the program, which can still answer these.
- Pongs, and the answers to requests for pages, are made only while what waits to be sent is below the high mark.
- A connection is somebody's only when it is open: until then `connect` waits, and a handler is not called.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

from .._address import address_name, listening_on
from ..aio import HIGH_MARK, LARGE_SIZE, LOW_MARK, READ_LIMIT, SINK_SIZE, FramedStream, Server, _Protocol
from ..errors import FramingError
from ._codec import MessageEncoder, Part, Pong
from .handshake import Request, parse_url
from .protocol import MAX_PINGS, ClientProtocol, Protocol, ServerProtocol, State

if TYPE_CHECKING:
    import socket
    import ssl
    from typing import TypeAlias

    from .._wire import BytesLike
    from ..aio import Address

    Handler: TypeAlias = Callable[["WebSocketStream"], Awaitable[object]]

__all__ = ["WebSocketServer", "WebSocketStream", "connect", "serve", "start_server"]

logger = logging.getLogger("framewire")

NORMAL, GOING_AWAY, INTERNAL = 1000, 1001, 1011
"""Codes that a Close may have (RFC 6455, section 7.4.1)."""

NO_CLOSE = 1006
"""The code that stands for the end of a connection without a Close (section 7.1.5). It is never sent."""

CLOSE_TIMEOUT = 5.0
"""Seconds that a peer which was refused has to take the answer."""


async def connect(
    url: str,
    *,
    address: Address | None = None,
    timeout: float | None = None,
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    read_limit: int = READ_LIMIT,
    high_mark: int = HIGH_MARK,
    low_mark: int = LOW_MARK,
    ping_interval: float | None = None,
    ping_timeout: float = 20.0,
    **options: Any,
) -> WebSocketStream:
    """Connect to a WebSocket server.

    ::

        async with await framewire.websocket.aio.connect("ws://example.org/chat") as server:
            await server.send("hello")
            async for message in server:
                print(message)

    Args:
        url: ``ws://host:port/path?query`` or ``wss://``.
        address: Where to connect, if not to where the URL leads: ``(host, port)``, or the path of a Unix socket.
        timeout: Seconds to connect, all handshakes included; None waits as long as it takes.
        tls: An ``ssl.SSLContext`` for a ``wss:`` URL, if the system's certificates will not do.
        server_hostname: What the certificate must be for; the host of the URL unless given.
        read_limit, high_mark, low_mark, ping_interval, ping_timeout: As in `WebSocketStream`.
        options: As in `ClientProtocol`.

    Raises:
        HandshakeError: If the server does not open a WebSocket; `HandshakeRefused` tells what it says instead.
        OSError: If there is no connection; TimeoutError if there is none in time.
        ValueError, TypeError: If an argument makes no sense.
    """
    where = parse_url(url)
    if where.secure and tls is None:
        import ssl

        tls = ssl.create_default_context()
    elif tls is not None and not where.secure:
        raise ValueError(f"{url} is not a wss: URL, but there is a context for TLS")
    stream = WebSocketStream(
        ClientProtocol(url, **options),
        read_limit=read_limit,
        high_mark=high_mark,
        low_mark=low_mark,
        ping_interval=ping_interval,
        ping_timeout=ping_timeout,
    )
    if tls is not None and server_hostname is None:
        server_hostname = where.host
    try:
        await asyncio.wait_for(_connect(stream, address or (where.host, where.port), tls, server_hostname), timeout)
    except asyncio.TimeoutError as error:
        stream.abort()
        if timeout is None or getattr(error, "errno", None) is not None:  # the system's own
            raise
        raise TimeoutError(f"not connected in {timeout:g} s") from None
    except BaseException:
        stream.abort()
        raise
    return stream


async def _connect(
    stream: WebSocketStream, address: Address, tls: ssl.SSLContext | None, server_hostname: str | None
) -> None:
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def opened(stream: WebSocketStream) -> None:
        if not waiter.done():  # else it was given up just now
            waiter.set_result(None)

    def refused(error: Exception) -> None:
        if not waiter.done():
            waiter.set_exception(error)

    stream._when_opened, stream._when_refused = opened, refused
    if isinstance(address, tuple):
        host, port = address
        await loop.create_connection(stream._protocol, host, port, ssl=tls, server_hostname=server_hostname)
    else:
        path = os.fspath(address)
        await loop.create_unix_connection(stream._protocol, path, ssl=tls, server_hostname=server_hostname)
    await waiter


class WebSocketStream(FramedStream):
    """A WebSocket connection under asyncio. `connect` and servers make it.

    Messages are ``str`` for text, and ``bytes`` for anything else. `recv` returns None at the end of the stream:
    `close_code` tells how it ended. For all that is not said here see `FramedStream`.

    Args:
        protocol: The connection without I/O.
        read_limit, high_mark, low_mark: As in `FramedStream`.
        handshake_timeout: Seconds for the opening handshake; None for as long as it takes.
        ping_interval: Seconds between pings, which keep the connection alive in the eyes of proxies, and show whether
            the peer lives. None sends none.
        ping_timeout: Seconds in which something must come after such a ping; else the connection is closed.

    Attributes:
        protocol: The connection without I/O, for what it knows: ``request``, ``deflate``, ``close_received``.
    """

    def __init__(
        self,
        protocol: Protocol,
        *,
        read_limit: int = READ_LIMIT,
        high_mark: int = HIGH_MARK,
        low_mark: int = LOW_MARK,
        handshake_timeout: float | None = None,
        ping_interval: float | None = None,
        ping_timeout: float = 20.0,
    ) -> None:
        self._begin(protocol, read_limit, high_mark, low_mark)
        for name, seconds in (("ping_interval", ping_interval), ("ping_timeout", ping_timeout)):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} must be more than 0 seconds, not {seconds}")
        self.protocol = protocol
        self._handshake_timeout = handshake_timeout
        self._ping_interval = ping_interval
        self._ping_timeout = ping_timeout
        self._is_open = False
        self._when_opened: Callable[[WebSocketStream], object] = lambda _: None
        self._when_refused: Callable[[Exception], object] = lambda _: None
        self._pings: deque[tuple[bytes, asyncio.Future[None]]] = deque(maxlen=MAX_PINGS)
        self._ping_numbers = count()
        self._timer: asyncio.TimerHandle | None = None  # for the handshake, then for pings
        self._received_size = 0
        self._code = NORMAL  # for a Close that is given none

    # What its user calls.

    @property
    def request(self) -> Request | None:
        """What has opened it."""
        return self.protocol.request

    @property
    def subprotocol(self) -> str | None:
        """What was agreed on, if anything was."""
        return self.protocol.subprotocol

    @property
    def close_code(self) -> int | None:
        """How the connection has ended: the code of the peer's Close, 1005 if it had none, 1006 if there was no Close;
        None as long as it has not."""
        code = self.protocol.close_code
        return NO_CLOSE if code is None and self._is_open and self._closed.done() else code

    @property
    def queued_size(self) -> int:
        """Bytes that wait to be sent, headers included."""
        return super().queued_size + self.protocol.queued_size

    @staticmethod
    def _size_of(message: Any) -> int:
        return len(message.data if type(message) is Part else message)

    if TYPE_CHECKING:

        async def recv(self, *, timeout: float | None = None) -> Any: ...
        async def recv_many(self, *, timeout: float | None = None) -> list[Any]: ...
        async def __anext__(self) -> Any: ...

    async def send(self, message: str | BytesLike, /, *, compress: bool = True) -> None:
        """Send one message, text if it is ``str``; waits first while more than the high mark is unsent.

        Args:
            message: What to send.
            compress: Whether to compress it, if that was agreed on; not worth it for what is compressed already.

        Raises:
            FrameTooLarge, ValueError: If the message cannot be sent (see `MessageEncoder.encode`); nothing was.
            RuntimeError: After `close`.
            BrokenPipeError: After the peer has closed the connection.
            OSError: If the connection is lost.
        """
        while self._writing_paused:
            await self._room()
        encoder = self._message_encoder()
        if type(message) is bytes and len(message) >= LARGE_SIZE:
            self._write_large(encoder.encode_parts(message, compress=compress))
        else:
            self._write(encoder.encode(message, compress=compress))

    async def send_many(self, messages: Iterable[str | BytesLike], /, *, compress: bool = True) -> None:
        """Send many messages with one write: all of them or, when one is refused, none.

        Raises:
            FrameTooLarge, ValueError, RuntimeError, OSError: As `send`.
        """
        while self._writing_paused:
            await self._room()
        self._write(self._message_encoder().encode_many(messages, compress=compress))

    async def send_part(self, data: str | BytesLike, /, final: bool = False) -> None:
        """Send a part of a message, of which the first says whether it is text, and `final` that it was the last.

        Raises:
            FrameTooLarge, ValueError, TypeError, RuntimeError, OSError: As `send`; TypeError if the parts of a message
                are not of one kind.
        """
        while self._writing_paused:
            await self._room()
        self._write(self._message_encoder().encode_part(data, final=final))

    def send_eof(self) -> None:
        raise NotImplementedError("a WebSocket cannot be half-closed: close() it")

    async def ping(self, payload: BytesLike | None = None, *, timeout: float | None = None) -> float:
        """Send a Ping, and await its Pong, or that of a later one (RFC 6455, section 5.5.3).

        Args:
            payload: At most 125 bytes; a number that has not been used unless given.
            timeout: Seconds to wait; None waits as long as it takes.

        Returns:
            Seconds that it took.

        Raises:
            TimeoutError: If there is none in time.
            ValueError: If the payload is too large.
            RuntimeError, OSError: As `send`; if the connection ends without the Pong, ConnectionResetError.
        """
        self._message_encoder()
        began = self._loop.time()
        pong = self._send_ping(b"%d" % next(self._ping_numbers) if payload is None else bytes(payload))
        try:
            await asyncio.wait_for(pong, timeout)
        except asyncio.TimeoutError:
            raise TimeoutError(f"no pong came in {timeout:g} s") from None
        return self._loop.time() - began

    async def close(self, code: int | None = None, reason: str = "", *, timeout: float = 5.0) -> None:
        """Close in order: send what is unsent and a Close, await the peer's, and disconnect. Twice is nothing.

        Args:
            code: Why (RFC 6455, section 7.4): 1000 unless given.
            reason: Likewise, at most 123 bytes of UTF-8.
            timeout: Seconds for all that; then the connection is aborted, and what is unsent is lost.

        Raises:
            ValueError: If the code must not be sent, or the reason is too long.
        """
        if not self._closing and self._is_open:
            self._settle()
            if self.protocol.state is State.OPEN:
                self.protocol.close(self._code if code is None else code, reason)
        await super().close(timeout=timeout)

    def __repr__(self) -> str:
        state = "closed" if self._closed.done() else "closing" if self._closing else self.protocol.state.value
        return f"<WebSocketStream {state}>"

    # Its life.

    def _protocol(self) -> _Mover:
        return _Mover(self)

    def _connected(self, transport: Any) -> None:
        super()._connected(transport)
        self._set_timer(self._handshake_timeout, self.abort)
        self._say()
        self._flush()

    def _shake_hands(self) -> None:
        """Something has come or gone before the connection was open: see whether it is now."""
        protocol = self.protocol
        before = protocol.queued_size
        self._say()
        if protocol.opened:
            self._is_open = True
            self._set_timer(self._ping_interval, self._keep_alive)
            self._when_opened(self)
        elif protocol.state is State.CLOSED:
            self._refuse(protocol.error)
        elif before:  # a page, after which another may be asked for
            self._set_timer(self._handshake_timeout, self.abort)
            if protocol.queued_size and not self._reading_paused:
                self._reading_paused = True
                self._transport.pause_reading()

    def _refuse(self, error: Exception | None) -> None:
        """There will be no WebSocket; what a server has to say goes out before the end."""
        name = address_name(self.peername)
        if isinstance(self.protocol, ServerProtocol):
            if error is not None and not isinstance(error, FramingError):
                logger.error("%s: respond() failed", name, exc_info=error)
            elif error is not None:
                logger.info("%s not connected: %s: %s", name, type(error).__name__, error)
        self._closing = self._over = True
        self._say(everything=True)
        self._set_timer(CLOSE_TIMEOUT, self.abort)
        self._end_stream()
        self._when_refused(error or ConnectionResetError("the connection was closed before it was open"))

    def finish_receiving(self) -> None:
        self._code = GOING_AWAY
        super().finish_receiving()

    def _begin_close(self) -> None:
        if self._reading_paused:
            self._resume_reading()
        self._say(everything=True)
        if self.protocol.end_of_sending or not self._is_open:
            self._end_stream()

    def _end_stream(self) -> None:
        """All is said: half-close and await the peer's end, or what the transport can do."""
        self._flush()
        if self._peer_has_ended or not self._transport.can_write_eof():
            self._transport.close()
        elif not self._ending and not self._transport.is_closing():
            self._ending = True
            with suppress(OSError):  # the connection is lost already, and the loop is yet to say so
                self._transport.write_eof()

    def _disconnected(self, error: Exception | None) -> None:
        self._set_timer(None)
        super()._disconnected(error)
        lost = error or ConnectionResetError("the connection is closed")
        self._when_refused(lost)
        for _, pong in self._pings:
            if not pong.done():
                pong.set_exception(lost)
        self._pings.clear()

    def _set_timer(self, seconds: float | None, *call: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self._loop.call_later(seconds, *call)

    # Receiving.

    def _heard(self, size: int) -> None:
        """The protocol has received so many bytes, or the end of the stream."""
        protocol = self.protocol
        self._received_size += size
        if not self._is_open:
            self._shake_hands()
            if not self._is_open:
                return
        messages = protocol.take_messages()  # and no more: the end of the stream stays for _settle()
        if self._pings and Pong in map(type, messages):
            self._answered([message for message in messages if type(message) is Pong])
            messages = [message for message in messages if type(message) is not Pong]
        if messages and not self._over:
            self._deliver(messages)
        if self._stream_ends():
            self._over = True
            if self._closing or not self._payloads:
                self._conclude()
            self._wake_next()
        self._say()

    def _stream_ends(self) -> bool:
        protocol = self.protocol
        return protocol.close_received is not None or protocol.error is not None or protocol.eof_received

    def _settle(self) -> None:
        """Let the protocol do what is due at the end of the stream."""
        with suppress(FramingError):  # it keeps it
            while self.protocol.messages_received():
                pass

    def _conclude(self) -> None:
        """Answer what has ended the incoming stream."""
        self._settle()
        self._say(everything=True)
        if self.protocol.end_of_sending:
            self._end_stream()

    def _check_end(self) -> None:
        if self._stream_ends():
            self._conclude()
        if self.protocol.close_received is not None:
            self._wake_next()  # how the transport ends after that is of no interest
        else:
            super()._check_end()

    # Sending.

    def _message_encoder(self) -> MessageEncoder:
        self._check_lost()
        if self._closing:
            raise RuntimeError("nothing can be sent after close()")
        return self.protocol.writable()

    def _say(self, *, everything: bool = False) -> None:
        """Write what the protocol has to say of itself, as far as there is room."""
        protocol = self.protocol
        while (everything or not self._writing_paused) and (data := b"".join(protocol.data_to_send())):
            self._write(data)
            protocol.data_sent(len(data))

    def _wake_senders(self) -> None:
        if not self._writing_paused and not self._over:
            if self._is_open:
                self._say()
            else:
                self._shake_hands()
                if self._reading_paused and not self.protocol.queued_size:
                    self._resume_reading()
        super()._wake_senders()

    # Pings.

    def _send_ping(self, payload: bytes) -> asyncio.Future[None]:
        self.protocol.ping(payload)
        pong: asyncio.Future[None] = self._loop.create_future()
        self._pings.append((payload, pong))
        self._say()
        return pong

    def _answered(self, pongs: list[Pong]) -> None:
        for pong in pongs:
            while self._pings:
                payload, waiter = self._pings.popleft()
                if not waiter.done():
                    waiter.set_result(None)
                if payload == pong.payload:
                    break

    def _keep_alive(self) -> None:
        if self.protocol.state is State.OPEN:
            with suppress(OSError):
                self._send_ping(b"%d" % next(self._ping_numbers)).cancel()  # anything that comes will do
            self._set_timer(self._ping_timeout, self._look_for_life, self._received_size)

    def _look_for_life(self, received_size: int) -> None:
        if self._received_size > received_size or self._reading_paused:
            self._set_timer(max((self._ping_interval or 0) - self._ping_timeout, 0), self._keep_alive)
        else:
            self._lost = TimeoutError(f"nothing came in {self._ping_timeout:g} s after a ping")
            self._transport.abort()


class _Mover(_Protocol):
    """Moves bytes between a transport and a stream."""

    _stream: WebSocketStream

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._memory is not None:
            return self._memory
        if self._stream.protocol.eof_received:  # TLS asks for one even then
            return memoryview(bytearray(SINK_SIZE))
        return self._stream.protocol.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        protocol = self._stream.protocol
        if protocol.eof_received:
            return
        if self._memory is None:
            protocol.buffer_updated(nbytes)
        else:
            protocol.receive_data(self._memory[:nbytes])
        self._stream._heard(nbytes)

    def eof_received(self) -> bool:
        stream = self._stream
        stream.protocol.receive_eof()
        stream._peer_has_ended = True
        stream._heard(0)
        stream._peer_ended()
        return self._half_closes and not stream._closing

    def connection_lost(self, exc: Exception | None) -> None:
        stream = self._stream
        if exc is None and stream._lost is None and not stream.protocol.eof_received:
            self.eof_received()  # all that Python 3.10 says when the peer has ended TLS in order
        stream._disconnected(stream._lost or exc)


async def start_server(
    handler: Handler,
    address: Address | socket.socket,
    *,
    tls: ssl.SSLContext | None = None,
    backlog: int = 1024,
    reuse_port: bool = False,
    read_limit: int = READ_LIMIT,
    high_mark: int = HIGH_MARK,
    low_mark: int = LOW_MARK,
    handshake_timeout: float | None = 10.0,
    ping_interval: float | None = None,
    ping_timeout: float = 20.0,
    **options: Any,
) -> WebSocketServer:
    """Accept WebSocket connections, and give each to a task of its own when it is open.

    ::

        async def echo(client):
            async for message in client:
                await client.send(message)

        async with await framewire.websocket.aio.start_server(echo, ("127.0.0.1", 8080)) as server:
            await server.serve_forever()

    Args:
        handler: A coroutine function that gets the `WebSocketStream`. When it returns, the connection is closed in
            order: with the code 1011 if it fails, with 1001 if the server shuts down.
        address, tls, backlog, reuse_port: As in `framewire.aio.start_server`.
        read_limit, high_mark, low_mark, handshake_timeout, ping_interval, ping_timeout: As in `WebSocketStream`.
        options: As in `ServerProtocol`. `respond` must not block.

    Raises:
        OSError: If that address cannot be had.
        ValueError, TypeError: If an option makes no sense.
    """
    loop = asyncio.get_running_loop()

    def stream() -> WebSocketStream:
        return WebSocketStream(
            ServerProtocol(**options),
            read_limit=read_limit,
            high_mark=high_mark,
            low_mark=low_mark,
            handshake_timeout=handshake_timeout,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
        )

    stream()  # to hear its complaints now
    sock = listening_on(address, backlog, reuse_port=reuse_port)
    server = WebSocketServer(handler, sock)
    unix = not isinstance(sock.getsockname(), tuple)
    listen: Any = loop.create_unix_server if unix else loop.create_server
    try:
        server._listening = await listen(lambda: server._protocol(stream()), sock=sock, ssl=tls, backlog=backlog)
    except BaseException:
        sock.close()
        raise
    for name in server.addresses:
        logger.info("listening on %s for websocket", address_name(name))
    return server


async def serve(
    handler: Handler, address: Address | socket.socket, *, shutdown_timeout: float = 5.0, **options: Any
) -> None:
    """Serve until the task is cancelled, then shut down in order: ``asyncio.run(serve(handler, ("", 8080)))``.

    Args:
        handler, address, options: As in `start_server`.
        shutdown_timeout: As in `Server.shutdown`.
    """
    server = await start_server(handler, address, **options)
    try:
        await server.serve_forever()
    finally:
        await server.shutdown(timeout=shutdown_timeout)


class WebSocketServer(Server):
    """Listening sockets, and the tasks of their connections; `start_server` makes it. See `framewire.aio.Server`."""

    def __init__(self, handler: Handler, sock: socket.socket) -> None:
        async def handle(stream: Any) -> None:
            self._opening.discard(stream)
            try:
                await handler(stream)
            except Exception as error:
                if not isinstance(error, (FramingError, OSError)):
                    stream._code = INTERNAL
                raise

        super().__init__(handle, sock)
        self._opening: set[WebSocketStream] = set()

    async def shutdown(self, *, timeout: float = 5.0) -> None:
        for stream in list(self._opening):
            stream.abort()
        await super().shutdown(timeout=timeout)

    def _protocol(self, stream: WebSocketStream) -> _Mover:
        """What the loop asks for when it has accepted a connection."""
        self._opening.add(stream)
        stream._when_opened = self._accepted
        stream._when_refused = lambda _: self._opening.discard(stream)
        return stream._protocol()
