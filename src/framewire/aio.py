"""The asyncio driver: frames over one connection, and servers of them, on any event loop of asyncio or uvloop.

Strategy. A protocol receives into the decoder's window and hands each batch of payloads to its connection; whoever
awaits one is woken once for each batch. What is sent in one turn of the event loop is joined and written once, at its
end.

Rules that hold here:

- A payload leaves the queue in the step that returns it, with no await in between: a timeout or a cancellation,
  wherever it comes, loses nothing.
- Sending waits before anything is written, so what was cancelled there was not sent, and nothing is ever sent in part.
- What waits to be received is counted in bytes, with a fixed cost for each frame; above the limit reading pauses. It
  never pauses while that queue is empty: a frame that is not whole could then never become so.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ._address import address_name, listening_on, path_of, remove
from ._core import Decoder, Encoder
from .errors import FramingError
from .spec import DEFAULT_MAX_SIZE, Spec

if TYPE_CHECKING:
    import ssl
    from typing import TypeAlias

    from typing_extensions import Self

    from ._wire import BytesLike

    Handler: TypeAlias = Callable[["FramedStream"], Awaitable[object]]
    Address: TypeAlias = tuple[str, int] | str | os.PathLike[str]

logger = logging.getLogger("framewire")

FRAME_COST = 64
"""Bytes that a payload which waits to be received counts for, besides its own: about what an object costs."""

LARGE_SIZE = 64 * 1024
"""What is queued is written at once when it has reached this size. Also: a ``bytes`` of so many is never copied."""

READ_LIMIT = 256 * 1024
HIGH_MARK, LOW_MARK = 256 * 1024, 64 * 1024

READ_SIZE = 256 * 1024

SINK_SIZE = 16 * 1024
"""Bytes in the window that is lent after an error, to receive what will be dropped."""


async def open_connection(
    address: Address,
    spec: Spec | str = "ascii10",
    *,
    timeout: float | None = None,
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    max_size: int | None = DEFAULT_MAX_SIZE,
    read_limit: int = READ_LIMIT,
    high_mark: int = HIGH_MARK,
    low_mark: int = LOW_MARK,
) -> FramedStream:
    """Connect to a server of frames.

    ::

        async with await framewire.aio.open_connection(("127.0.0.1", 1243)) as server:
            async for payload in server:
                print(payload.decode())

    Args:
        address: ``(host, port)`` for TCP, or the path of a Unix socket.
        spec: A wire format, or its name (see `framewire.spec`).
        timeout: Seconds to connect, the handshake of TLS included; None waits as long as it takes.
        tls: An ``ssl.SSLContext`` for a connection over TLS.
        server_hostname: What the certificate must be for; the host unless given.
        max_size, read_limit, high_mark, low_mark: As in `FramedStream`.

    Raises:
        OSError: If there is no connection; TimeoutError if there is none in time.
        ValueError, TypeError: If the format or a limit makes no sense.
    """
    loop = asyncio.get_running_loop()
    stream = FramedStream(spec, max_size=max_size, read_limit=read_limit, high_mark=high_mark, low_mark=low_mark)
    if tls is not None and server_hostname is None:
        server_hostname = address[0] if isinstance(address, tuple) else ""
    if isinstance(address, tuple):
        connecting: Any = loop.create_connection(
            stream._protocol, address[0], address[1], ssl=tls, server_hostname=server_hostname
        )
    else:
        connecting = loop.create_unix_connection(
            stream._protocol, os.fspath(address), ssl=tls, server_hostname=server_hostname
        )
    try:
        await asyncio.wait_for(connecting, timeout)
    except asyncio.TimeoutError as error:
        stream.abort()
        if timeout is None or getattr(error, "errno", None) is not None:  # the system's own
            raise
        raise TimeoutError(f"not connected in {timeout:g} s") from None
    except BaseException:
        stream.abort()  # cancelled, it may be that just now there was a connection
        raise
    return stream


async def from_socket(
    sock: socket.socket,
    spec: Spec | str = "ascii10",
    *,
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    **options: Any,
) -> FramedStream:
    """Use a connected stream socket, which now belongs to the stream; for the options see `open_connection`."""
    stream = FramedStream(spec, **options)
    try:
        await asyncio.get_running_loop().create_connection(
            stream._protocol, sock=sock, ssl=tls, server_hostname=server_hostname
        )
    except BaseException:
        stream.abort()
        raise
    return stream


class FramedStream:
    """A connection that carries frames, under asyncio. `open_connection` and servers make it.

    Any task may call any method. Tasks that receive from one stream get the payloads in the order in which they asked.

    Args:
        spec: A wire format, or its name (see `framewire.spec`).
        max_size: Most bytes in a payload, in both directions; 16 MiB unless given, None lifts the limit.
        read_limit: Bytes in payloads that wait to be received (each counts 64 more) above which reading pauses.
        high_mark, low_mark: Bytes that wait to be sent at which senders wait, and go on.

    Raises:
        ValueError, TypeError: If the format or a limit makes no sense.
    """

    _size_of: Callable[[Any], int] = staticmethod(len)
    """What a payload counts for ``read_limit``."""

    def __init__(
        self,
        spec: Spec | str,
        *,
        max_size: int | None = DEFAULT_MAX_SIZE,
        read_limit: int = READ_LIMIT,
        high_mark: int = HIGH_MARK,
        low_mark: int = LOW_MARK,
    ) -> None:
        self._begin(Decoder(spec, max_size=max_size), read_limit, high_mark, low_mark)

    def _begin(self, decoder: Any, read_limit: int, high_mark: int, low_mark: int) -> None:
        if read_limit < 0:
            raise ValueError(f"read_limit must not be negative, not {read_limit}")
        if not 0 <= low_mark <= high_mark:
            raise ValueError(f"low_mark={low_mark} and high_mark={high_mark} must be 0 <= low_mark <= high_mark")
        self._decoder: Decoder = decoder
        self._encoder: Encoder | None = None  # made by the first send: some formats can only be read
        self._read_limit = read_limit
        self._marks = high_mark, low_mark
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._payloads: deque[bytes] = deque()
        self._waiting_size = 0  # of these, with what each costs
        self._reading_paused = False
        self._receivers: deque[asyncio.Future[None]] = deque()
        self._over = False  # nothing more will be received
        self._peer_has_ended = False
        self._lost: Exception | None = None  # why the connection was lost
        self._pieces: list[bytes] = []  # frames to be written at the end of this turn
        self._pieces_size = 0
        self._writing_paused = False
        self._senders: deque[asyncio.Future[None]] = deque()
        self._ending = False
        self._closing = False
        self._closed: asyncio.Future[None] = self._loop.create_future()

    # What its user calls.

    @property
    def spec(self) -> Spec:
        """The wire format."""
        return self._decoder.spec

    @property
    def peername(self) -> Any:
        """The peer's address: ``(host, port)``, with two more for IPv6; a path, often empty, for a Unix socket."""
        return self._transport.get_extra_info("peername")

    @property
    def transport(self) -> asyncio.Transport:
        """The transport below, for ``get_extra_info``."""
        transport: asyncio.Transport = self._transport
        return transport

    @property
    def queued_size(self) -> int:
        """Bytes that wait to be sent, headers included."""
        size: int = self._transport.get_write_buffer_size()
        return self._pieces_size + size

    async def recv(self, *, timeout: float | None = None) -> bytes | None:
        """Receive one payload.

        Args:
            timeout: Seconds to wait for it; None waits as long as it takes.

        Returns:
            The payload; None at the end of the stream.

        Raises:
            TimeoutError: If no payload is complete in time. The part that has come is kept.
            HeaderError, FrameTooLarge, IncompleteFrame: When every payload before the error is out, and then by every
                call.
            OSError: If the connection is lost (``ConnectionResetError``...), in the same way.
        """
        if (not self._payloads and not self._over) or self._receivers:
            await self._arrival(timeout)
        if not self._payloads:
            self._check_end()
            return None
        payload = self._payloads.popleft()
        self._waiting_size -= self._size_of(payload) + FRAME_COST
        self._taken()
        return payload

    async def recv_many(self, *, timeout: float | None = None) -> list[bytes]:
        """Receive the payloads that have come, one at least: waits only if there is none. The fast way.

        Returns:
            The payloads in order; an empty list at the end of the stream.

        Raises:
            TimeoutError, HeaderError, FrameTooLarge, IncompleteFrame, OSError: As `recv`.
        """
        if (not self._payloads and not self._over) or self._receivers:
            await self._arrival(timeout)
        if not self._payloads:
            self._check_end()
            return []
        payloads = list(self._payloads)
        self._payloads.clear()
        self._waiting_size = 0
        self._taken()
        return payloads

    def __aiter__(self) -> Self:
        """The payloads up to the end of the stream, each as `recv` returns it."""
        return self

    async def __anext__(self) -> bytes:
        payload = await self.recv()
        if payload is None:
            raise StopAsyncIteration
        return payload

    async def send(self, payload: BytesLike, /) -> None:
        """Send one payload; waits first while more than the high mark is unsent. It goes out in this turn of the loop.

        A ``bytes`` of 64 KiB or more goes to the transport as it is. Anything else is copied at once, and may change
        afterwards.
        If the call is cancelled, nothing of it was sent.

        Raises:
            FrameTooLarge, ValueError: If the payload cannot be sent (see `Encoder.encode`); nothing was.
            RuntimeError: After `send_eof` and `close`.
            OSError: If the connection is lost.
        """
        while self._writing_paused:
            await self._room()
        encoder = self._writable()
        if type(payload) is bytes and len(payload) >= LARGE_SIZE:
            self._write_large(encoder.encode_parts(payload))
        else:
            self._write(encoder.encode(payload))

    async def send_many(self, payloads: Iterable[BytesLike], /) -> None:
        """Send many payloads with one write: all of them or, when one is refused, none.

        Raises:
            FrameTooLarge, ValueError, RuntimeError, OSError: As `send`.
        """
        while self._writing_paused:
            await self._room()
        self._write(self._writable().encode_many(payloads))

    async def flush(self) -> None:
        """Write now, and wait as `send` would: above the high mark until no more than the low mark is unsent.

        With ``high_mark=0, low_mark=0`` it waits until all has gone to the system (over TLS: to be encrypted).

        Raises:
            OSError: If the connection is lost.
        """
        self._flush()
        while self._writing_paused:
            await self._room()
        self._check_lost()

    def send_eof(self) -> None:
        """Say that nothing more will be sent, behind what is. Receiving goes on. Twice is nothing.

        Raises:
            NotImplementedError: Over TLS, which cannot end one direction alone in Python.
        """
        if not self._transport.can_write_eof():
            raise NotImplementedError("a TLS connection cannot be half-closed: close() it")
        if not self._ending and not self._transport.is_closing():
            self._ending = True
            self._flush()
            self._transport.write_eof()

    async def close(self, *, timeout: float = 5.0) -> None:
        """Close in order: send what is unsent, tell the peer, await its end, and disconnect. Twice is nothing.

        Args:
            timeout: Seconds for all that; then the connection is aborted, and what is unsent is lost.
        """
        if not self._closing:
            self._closing = self._over = True
            self._payloads.clear()
            self._wake_next()
            if not self._closed.done():
                self._flush()
                self._begin_close()
        if not self._closed.done():
            timer = self._loop.call_later(timeout, self.abort)
            try:
                await asyncio.shield(self._closed)
            except asyncio.CancelledError:
                self.abort()
                raise
            finally:
                timer.cancel()

    def abort(self) -> None:
        """Disconnect now; what is unsent is lost, and what was received and not taken."""
        self._closing = self._over = True
        self._payloads.clear()
        if self._transport is not None:
            self._transport.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed.done() else "closing" if self._closing else "open"
        return f"<FramedStream {state} {self.spec.name}>"

    # Receiving.

    async def _arrival(self, timeout: float | None) -> None:
        """Wait, behind those that wait already, until there is a payload or the end."""
        self._flush()  # the answer may wait for it
        waiter: asyncio.Future[None] = self._loop.create_future()
        timer = None if timeout is None else self._loop.call_later(timeout, _expire, waiter)
        self._receivers.append(waiter)
        try:
            await waiter
        except BaseException:
            self._receivers.remove(waiter)
            self._wake_next()  # it may have been this one's turn
            raise
        else:
            self._receivers.remove(waiter)
        finally:
            if timer is not None:
                timer.cancel()

    def _taken(self) -> None:
        """Somebody has taken payloads: there may be some for the next, and room for more."""
        self._wake_next()
        if self._reading_paused and self._waiting_size <= self._read_limit // 2:
            self._resume_reading()

    def _resume_reading(self) -> None:
        self._reading_paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _wake_next(self) -> None:
        """Wake the first of those that wait, and nobody else: another may come too late for what there is."""
        if self._receivers and (self._payloads or self._over) and not self._receivers[0].done():
            self._receivers[0].set_result(None)

    def _check_end(self) -> None:
        """There are no payloads, and will be none: raise what is to blame, if anything is."""
        self._wake_next()
        error = self._decoder.error or (None if self._peer_has_ended else self._lost)
        if error is not None and not self._closing:
            raise error.with_traceback(None)

    def _deliver(self, payloads: list[Any]) -> None:
        """The protocol has received these."""
        if self._closing:
            return
        if payloads:
            self._payloads += payloads
            self._waiting_size += sum(map(self._size_of, payloads)) + FRAME_COST * len(payloads)
            if self._waiting_size > self._read_limit and not self._reading_paused and not self._transport.is_closing():
                self._reading_paused = True
                self._transport.pause_reading()
        if self._decoder.error is not None:
            self._over = True
        self._wake_next()

    # Sending.

    def _writable(self) -> Encoder:
        self._check_lost()
        if self._ending or self._closing:
            raise RuntimeError("nothing can be sent after send_eof() and close()")
        if self._encoder is None:
            self._encoder = Encoder(self._decoder.spec, max_size=self._decoder.max_size)
        return self._encoder

    def _check_lost(self) -> None:
        if self._lost is not None:
            raise self._lost.with_traceback(None)
        if self._closed.done() and not self._closing:
            raise ConnectionResetError("the connection is closed")

    def _write(self, data: bytes) -> None:
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(data)
        self._pieces_size += len(data)
        if self._pieces_size >= LARGE_SIZE:
            self._flush()

    def _write_large(self, parts: Iterable[BytesLike]) -> None:
        self._flush()
        for part in parts:
            if part:
                self._transport.write(part)

    def _flush(self) -> None:
        """Write what this turn of the loop has left."""
        if self._pieces:
            pieces, self._pieces, self._pieces_size = self._pieces, [], 0
            if not self._closed.done():
                self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    async def _room(self) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._senders.append(waiter)
        try:
            await waiter
        finally:
            self._senders.remove(waiter)

    # Its life.

    def _protocol(self) -> _Protocol:
        return _Protocol(self)

    def _connected(self, transport: Any) -> None:
        self._transport = transport
        high_mark, low_mark = self._marks
        transport.set_write_buffer_limits(high_mark, low_mark)

    def finish_receiving(self) -> None:
        """Take nothing more from the peer: what has come is the last. A server does so when it shuts down."""
        self._over = True
        if self._reading_paused:
            self._resume_reading()
        self._wake_next()

    def _begin_close(self) -> None:
        """All is handed to the transport: half-close and await the peer's end, or what the transport can do."""
        if self._reading_paused:
            self._resume_reading()
        if not self._transport.can_write_eof() or self._transport.is_closing():
            self._transport.close()
        else:
            try:
                self.send_eof()
            except OSError:  # the connection is lost already, and the loop is yet to say so
                self.abort()
            if self._peer_has_ended:
                self._transport.close()

    def _peer_ended(self) -> None:
        self._peer_has_ended = True
        if self._closing:
            self._transport.close()
        self._over = True
        self._wake_next()

    def _disconnected(self, error: Exception | None) -> None:
        self._transport.close()  # it is closed, but over TLS Python 3.10's would warn that nobody has done it
        self._lost = error
        self._over = True
        self._writing_paused = False
        self._wake_next()
        self._wake_senders()
        if not self._closed.done():
            self._closed.set_result(None)

    def _wake_senders(self) -> None:
        for waiter in self._senders:
            if not waiter.done():
                waiter.set_result(None)


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError("no payload was complete in time; what has come of it is kept"))


class _Protocol(asyncio.BufferedProtocol):
    """Moves bytes between a transport and a stream."""

    def __init__(self, stream: FramedStream, handler: Callable[[FramedStream], object] | None = None) -> None:
        self._stream = stream
        self._decoder = stream._decoder
        self._handler = handler
        self._memory: memoryview | None = None  # to receive into where the decoder's window will not do
        self._half_closes = False

    def connection_made(self, transport: Any) -> None:
        self._half_closes = transport.can_write_eof()
        # uvloop holds the window while it says that something was received: the decoder could not take it back, and
        # would have to copy what has come of a payload at every read.
        if type(transport).__module__.startswith("uvloop"):
            self._memory = _shared_memory()
        self._stream._connected(transport)
        if self._handler is not None:
            self._handler(self._stream)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._memory is not None:
            return self._memory
        if self._decoder.error is not None or self._stream._over:
            return memoryview(bytearray(SINK_SIZE))
        return self._decoder.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if self._decoder.error is not None or self._stream._over:
            return  # what comes now is dropped
        try:
            if self._memory is None:
                payloads = self._decoder.buffer_updated(nbytes)
            else:
                payloads = self._decoder.feed(self._memory[:nbytes])
        except FramingError:
            payloads = []  # the decoder keeps it
        self._stream._deliver(payloads)

    def eof_received(self) -> bool:
        stream = self._stream
        if self._decoder.error is None and not stream._over:
            try:
                payloads = self._decoder.feed_eof()
            except FramingError:
                payloads = []
            stream._deliver(payloads)
        stream._peer_ended()
        return self._half_closes and not stream._closing

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None and not self._stream._over:
            self.eof_received()  # all that Python 3.10 says when the peer has ended TLS in order
        self._stream._disconnected(exc)

    def pause_writing(self) -> None:
        self._stream._writing_paused = True

    def resume_writing(self) -> None:
        self._stream._writing_paused = False
        self._stream._wake_senders()


_local = threading.local()


def _shared_memory() -> memoryview:
    """Memory to receive into, one for all connections of a thread: between filling and parsing nothing else runs."""
    try:
        memory: memoryview = _local.memory
    except AttributeError:
        memory = _local.memory = memoryview(bytearray(READ_SIZE))
    return memory


async def start_server(
    handler: Handler,
    address: Address | socket.socket,
    spec: Spec | str = "ascii10",
    *,
    tls: ssl.SSLContext | None = None,
    backlog: int = 1024,
    reuse_port: bool = False,
    max_size: int | None = DEFAULT_MAX_SIZE,
    read_limit: int = READ_LIMIT,
    high_mark: int = HIGH_MARK,
    low_mark: int = LOW_MARK,
) -> Server:
    """Accept connections, and give each to a task of its own.

    ::

        async def echo(client):
            async for payload in client:
                await client.send(payload)

        async with await framewire.aio.start_server(echo, ("127.0.0.1", 1243)) as server:
            await server.serve_forever()

    Args:
        handler: A coroutine function that gets the `FramedStream`. When it returns, the connection is closed in order.
            A `FramingError` or an ``OSError`` that it lets through is the peer's fault, and is logged; anything else is
            logged with its traceback. Neither harms another connection.
        address: ``(host, port)`` for TCP, port 0 for any that is free; the path of a Unix socket; or a listening
            socket.
        spec: A wire format, or its name.
        tls: An ``ssl.SSLContext`` for connections over TLS.
        backlog: Connections that the system keeps until they are accepted.
        reuse_port: Let several processes listen on one port (``SO_REUSEPORT``).
        max_size, read_limit, high_mark, low_mark: As in `FramedStream`.

    Raises:
        OSError: If that address cannot be had.
        ValueError, TypeError: If the format or a limit makes no sense.
    """
    loop = asyncio.get_running_loop()
    options = {"max_size": max_size, "read_limit": read_limit, "high_mark": high_mark, "low_mark": low_mark}
    FramedStream(spec, **options)  # type: ignore[arg-type]  # to hear its complaints now
    sock = listening_on(address, backlog, reuse_port=reuse_port)
    server = Server(handler, sock)

    def protocol() -> _Protocol:
        return _Protocol(FramedStream(spec, **options), server._accepted)  # type: ignore[arg-type]

    unix = sock.family == getattr(socket, "AF_UNIX", None)
    listen: Any = loop.create_unix_server if unix else loop.create_server
    try:
        server._listening = await listen(protocol, sock=sock, ssl=tls, backlog=backlog)
    except BaseException:
        sock.close()
        raise
    for name in server.addresses:
        logger.info("listening on %s", address_name(name))
    return server


async def serve(
    handler: Handler,
    address: Address | socket.socket,
    spec: Spec | str = "ascii10",
    *,
    shutdown_timeout: float = 5.0,
    **options: Any,
) -> None:
    """Serve until the task is cancelled, then shut down in order: ``asyncio.run(serve(handler, ("", 1243)))``.

    Args:
        handler, address, spec, options: As in `start_server`.
        shutdown_timeout: As in `Server.shutdown`.
    """
    server = await start_server(handler, address, spec, **options)
    try:
        await server.serve_forever()
    finally:
        await server.shutdown(timeout=shutdown_timeout)


class Server:
    """Listening sockets, and the tasks of their connections; `start_server` makes it."""

    def __init__(self, handler: Handler, sock: socket.socket) -> None:
        self._handler = handler
        self._path = path_of(sock)
        self._listening: Any = None
        self._ending = False
        self._tasks: dict[FramedStream, asyncio.Task[None]] = {}
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def addresses(self) -> list[Any]:
        """Where it listens: ``(host, port)``, with two more for IPv6, or a path."""
        return [sock.getsockname() for sock in self._listening.sockets]

    @property
    def connections(self) -> frozenset[FramedStream]:
        """The connections whose handlers run."""
        return frozenset(self._tasks)

    async def serve_forever(self) -> None:
        """Wait until `shutdown`, or until the task is cancelled."""
        await asyncio.shield(self._over)

    async def shutdown(self, *, timeout: float = 5.0) -> None:
        """Accept no more; let every handler take what has come, see the end of its stream, and return.

        Args:
            timeout: Seconds after which the handlers that still run are cancelled, and their connections aborted.
        """
        self._ending = True
        self._listening.close()
        if self._path is not None:
            remove(*self._path)
        for stream in self._tasks:
            stream.finish_receiving()
        try:
            if self._tasks:
                await asyncio.wait([*self._tasks.values()], timeout=timeout)
        finally:
            for stream, task in self._tasks.items():
                stream.abort()
                task.cancel()
        if self._tasks:
            await asyncio.wait([*self._tasks.values()])
        if not self._over.done():
            self._over.set_result(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.shutdown()

    def _accepted(self, stream: FramedStream) -> None:
        if self._ending:  # it was accepted before, and took until now to be ready
            stream.abort()
            return
        task = stream._loop.create_task(self._serve(stream))
        self._tasks[stream] = task
        task.add_done_callback(lambda _: self._tasks.pop(stream))

    async def _serve(self, stream: FramedStream) -> None:
        name = address_name(stream.peername)
        logger.info("%s connected", name)
        reason = ""
        try:
            await self._handler(stream)
        except (FramingError, OSError) as error:
            reason = f": {type(error).__name__}: {error}"
        except Exception:
            logger.exception("%s: the handler failed", name)
        finally:
            with suppress(OSError):
                await stream.close()
            logger.info("%s disconnected%s", name, reason)
