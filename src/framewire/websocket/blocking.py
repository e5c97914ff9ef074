"""The blocking driver of WebSocket: messages over one socket, and a server with a thread for each connection.

Rules that hold here, besides those of `framewire.blocking`:

- Receiving also sends: pongs, and the answer to a Close. So the protocol is one thing, behind the lock of the senders,
  held for a system call and what it brought, never while somebody waits.
- Nobody reads unless somebody receives: pings are answered, and the peer's Close is seen, by `recv` and `close`.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from .._address import listening_on
from .._wire import flat
from ..blocking import LINGER_TIME, NOTHING, WRITABLE, SocketDriver, ThreadServer, connected, wait
from ..errors import FramingError
from ._codec import Deflate, Part, Pong
from .handshake import Request, Response, parse_url
from .protocol import MAX_PINGS, ClientProtocol, Protocol, ServerProtocol, State

if TYPE_CHECKING:
    import os
    import ssl
    from types import EllipsisType

    from .._wire import BytesLike

Data: TypeAlias = "str | bytes | Part"

CLOSE_TIMEOUT = 5.0
"""Seconds for the close handshake, unless it is said otherwise."""

GOING_AWAY, INTERNAL_ERROR = 1001, 1011
"""Codes of a Close (RFC 6455, section 7.4.1): from a server that shuts down, and from one whose handler has failed."""


def connect(
    url: str,
    *,
    address: tuple[str, int] | str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    tls: ssl.SSLContext | None = None,
    read_size: int | None = None,
    **options: Any,
) -> WebSocket:
    """Connect to a WebSocket server.

    ::

        with framewire.websocket.blocking.connect("ws://127.0.0.1:8080/chat") as server:
            server.send("hello")
            for message in server:
                print(message)

    Args:
        url: ``ws://host:port/path?query``, or ``wss://`` over TLS.
        address: Where to connect to, if not to the host and port in the URL: ``(host, port)``, or the path of a Unix
            socket.
        timeout: Seconds for all of it: to connect, for TLS, for the opening handshake; then the `WebSocket.timeout` of
            every call. None waits as long as it takes.
        tls: An ``ssl.SSLContext`` for ``wss://``; one that trusts the system's authorities unless given.
        read_size: As in `WebSocket`.
        options: ``origin``, ``subprotocols``, ``headers``, ``deflate``, ``max_size``, ``parts``...: as in
            `ClientProtocol`.

    Raises:
        HandshakeRefused: If the server answers something else, such as 404; it has status, header fields and body.
        HandshakeError: If its answer is wrong.
        OSError: If there is no connection; TimeoutError if there is none in time.
        ValueError, TypeError: If an argument makes no sense.
    """
    deadline = None if timeout is None else monotonic() + timeout
    protocol = ClientProtocol(url, **options)
    place = parse_url(url)
    if tls is not None and not place.secure:
        raise ValueError("tls is for wss: URLs")
    sock = connected((place.host, place.port) if address is None else address, timeout)
    try:
        if place.secure:
            if tls is None:
                import ssl

                tls = ssl.create_default_context()
            if deadline is not None:
                sock.settimeout(max(deadline - monotonic(), 0.001))  # 0 would not wait at all
            sock = tls.wrap_socket(sock, server_hostname=place.host, suppress_ragged_eofs=False)
        client = WebSocket(sock, protocol, timeout=timeout, read_size=read_size)
        client._open(deadline)
    except BaseException:
        sock.close()
        raise
    return client


class WebSocket(SocketDriver[Data]):
    """A WebSocket connection. Calls block, until their timeout. `connect` and servers make it.

    A timeout, like any other exception while a call waits, loses nothing: what has come is kept for the next call, and
    what could not be sent is sent first by the next one. (So do not send it again.) Any thread may call any method: one
    can receive while others send, and every message goes out whole.

    Args:
        sock: A connected stream socket. It now belongs to this object, which makes it non-blocking and closes it.
        protocol: A new `ClientProtocol` or `ServerProtocol`.
        timeout: The seconds that a call may take if it does not say otherwise; None waits as long as it takes.
        read_size: Most bytes to read at a time; None leaves it to the decoder, which is fast.
    """

    _connection: Protocol

    def __init__(
        self, sock: socket.socket, protocol: Protocol, *, timeout: float | None = None, read_size: int | None = None
    ) -> None:
        super().__init__(sock, protocol, timeout, read_size)
        self._exclusive = self._sending
        self._pings: deque[tuple[bytes, threading.Event]] = deque(maxlen=MAX_PINGS)  # whose pongs are awaited
        self._going_away = False  # the server shuts down
        self._parted = False  # all is done but to close the socket

    @property
    def protocol(self) -> Protocol:
        """The connection without I/O, for what it knows; to be looked at."""
        return self._connection

    @property
    def request(self) -> Request | None:
        """The request that has opened the connection."""
        return self._connection.request

    @property
    def response(self) -> Response | None:
        """The answer to it."""
        return self._connection.response

    @property
    def subprotocol(self) -> str | None:
        """What was agreed on, if anything was."""
        return self._connection.subprotocol

    @property
    def deflate(self) -> Deflate | None:
        """How messages are compressed; None if they are not."""
        return self._connection.deflate

    @property
    def close_code(self) -> int | None:
        """How the connection ended: see `Protocol.close_code`. None as long as that is not known."""
        return self._connection.close_code

    @property
    def close_reason(self) -> str:
        """Why, if the peer has said so."""
        return "" if self._connection.close_received is None else self._connection.close_received.reason

    def recv(self, *, timeout: float | EllipsisType | None = ...) -> Data | None:
        """Receive one message: text as ``str``, anything else as ``bytes``.

        Args:
            timeout: Seconds that the whole call may take; 0 takes only what is there. Left out, it is `self.timeout`.

        Returns:
            The message; None at the end: `close_code` says whether the peer has closed the connection, and why.

        Raises:
            TimeoutError: If no message is complete in time. The part that has come is kept.
            HeaderError, PayloadError, FrameTooLarge, IncompleteFrame: When every message before the error is out, and
                then by every call. The peer has been told.
            OSError: If the connection is lost (``ConnectionResetError``...), in the same way.
        """
        return self._receive(self._take, timeout)

    def recv_many(self, *, timeout: float | EllipsisType | None = ...) -> list[Data]:
        """Receive the messages that have come, one at least: waits only if there is none.

        Returns:
            The messages in order; an empty list at the end.

        Raises:
            TimeoutError, HeaderError, PayloadError, FrameTooLarge, IncompleteFrame, OSError: As `recv`.
        """
        return self._receive(self._take_all, timeout)

    def __iter__(self) -> Iterator[Data]:
        """The messages up to the end, each as `recv` returns it."""
        return iter(self.recv, None)

    def send(
        self,
        message: str | BytesLike,
        /,
        *,
        compress: bool = True,
        timeout: float | EllipsisType | None = ...,
    ) -> None:
        """Send a message, a text if it is ``str``, behind what an earlier call left unsent.

        Args:
            message: Text, or any contiguous bytes-like object.
            compress: Whether to compress it, if that was agreed on.
            timeout: Seconds that the whole call may take. Left out, it is `self.timeout`.

        Raises:
            TimeoutError: If not all was sent in time. The rest is kept, and goes out first with the next call.
            FrameTooLarge, ValueError: If the message cannot be sent (see `MessageEncoder.encode`); nothing was.
            RuntimeError: After `close`.
            OSError: If the connection is lost, or was closed by the peer (``BrokenPipeError``...).
        """
        self._say(lambda: self._connection.send(message, compress=compress), timeout)

    def send_many(
        self,
        messages: Iterable[str | BytesLike],
        /,
        *,
        compress: bool = True,
        timeout: float | EllipsisType | None = ...,
    ) -> None:
        """Send many messages with as few system calls as possible: all of them or, when one is refused, none.

        Raises:
            TimeoutError, FrameTooLarge, ValueError, RuntimeError, OSError: As `send`.
        """
        messages = list(messages)  # the caller's code runs before the lock is taken
        self._say(lambda: self._connection.send_many(messages, compress=compress), timeout)

    def send_part(
        self, data: str | BytesLike, /, final: bool = False, *, timeout: float | EllipsisType | None = ...
    ) -> None:
        """Send a part of a message, of which the first says whether it is text, and `final` that it was the last.

        Raises:
            TimeoutError, FrameTooLarge, ValueError, TypeError, RuntimeError, OSError: As `send`.
        """
        self._say(lambda: self._connection.send_part(data, final), timeout)

    def ping(self, payload: BytesLike = b"", /, *, timeout: float | EllipsisType | None = ...) -> threading.Event:
        """Send a Ping.

        Returns:
            What is set when the Pong has come, which `recv` must read; never, if the connection ends before.

        Raises:
            ValueError: If the payload has more than 125 bytes.
            TimeoutError, RuntimeError, OSError: As `send`.
        """
        payload = flat(payload)
        answered = threading.Event()

        def say() -> None:
            self._connection.ping(payload)
            self._pings.append((payload, answered))

        self._say(say, timeout)
        return answered

    def close(self, code: int = 1000, reason: str = "", *, timeout: float | None = CLOSE_TIMEOUT) -> None:
        """Close in order: send what is unsent and a Close, await the peer's, and disconnect. Twice is nothing.

        Messages that still come are dropped: who wants them sends a Close with `shutdown`, and goes on receiving.

        Args:
            code: 1000 for a normal end, 1001 for going away, 3000 to 4999 for what applications agree on.
            reason: At most 123 bytes, for people.
            timeout: Seconds for all that, after which the connection is dropped.

        Raises:
            ValueError: If the code may not stand in a Close, or the reason is too long; nothing was done.
        """
        self._begin_close(code, reason)
        try:
            if self._sock.fileno() >= 0:
                self._finish(None if timeout is None else monotonic() + timeout)
        finally:
            super().close()

    def shutdown(self, code: int = 1000, reason: str = "", *, timeout: float | EllipsisType | None = ...) -> None:
        """Send a Close, after which nothing more can be sent. Messages still come, up to the peer's Close.

        Raises:
            ValueError: As `close`.
            TimeoutError, OSError: As `send`.
        """
        self._begin_close(code, reason)
        self.flush(timeout=timeout)

    def __exit__(self, *exc_info: object) -> None:
        self.close(INTERNAL_ERROR if exc_info and exc_info[0] is not None else 1000)

    def __repr__(self) -> str:
        return f"<WebSocket {self._connection.state.value} over {self._sock!r}>"

    # Its parts.

    def _say(self, queue: Callable[[], None], timeout: float | EllipsisType | None) -> None:
        with self._sending:
            self._check_sendable()
            queue()
        self.flush(timeout=timeout)

    def _open(self, deadline: float | None) -> bool:
        """The opening handshake; return whether there is a connection: somebody may have come for a page."""
        protocol = self._connection
        with self._receiving:
            while not protocol.opened:
                self._complete()  # raises what has gone wrong
                if protocol.state is not State.CONNECTING:
                    break
                event = self._read()
                if not wait(self._sock.fileno(), event, deadline):
                    raise TimeoutError("no opening handshake in time")
        return protocol.opened

    def _complete(self) -> bool:
        if not self._payloads:
            with self._sending:
                try:
                    while not self._payloads and (messages := self._connection.messages_received()):
                        self._take_in(messages)
                finally:
                    if self._connection.queued_size:  # a Close, in one way or the other
                        self._write_if_possible()
        return bool(self._payloads) or self._connection.state is State.CLOSED

    def _take_in(self, messages: list[Any]) -> None:
        for message in messages:
            if type(message) is Pong:
                self._answered(message.payload)
            else:
                self._payloads.append(message)

    def _answered(self, payload: bytes) -> None:
        """A Pong stands for all the pings up to its own (RFC 6455, section 5.5.3)."""
        while self._pings:
            sent, answered = self._pings.popleft()
            answered.set()
            if sent == payload:
                break

    def _read(self) -> int:
        if self._connection.eof_received:  # requests for pages still wait until there is room for the answers
            with self._sending:
                return self._write()
        event = super()._read()
        with self._sending:
            waits = self._write_if_possible()
        return event and event | waits

    def _write_if_possible(self) -> int:
        """Send what the protocol has to say; return what the rest of it waits for. If the connection is lost, that is
        for who sends, or for who receives in the end."""
        if self._broken is None:
            with suppress(OSError):
                return self._write() or (WRITABLE if self._connection.queued_size else NOTHING)
        return NOTHING

    def _check_sendable(self) -> None:
        super()._check_sendable()
        if self._going_away:
            raise BrokenPipeError(errno.EPIPE, "the server is shutting down")

    def _end(self, how: int) -> None:
        if how != socket.SHUT_RD:
            super()._end(how)
            return
        with self._sending:
            self._going_away = True
            self._connection.close(GOING_AWAY)  # who receives will see the peer's answer
            self._write_if_possible()

    def _begin_close(self, code: int, reason: str) -> None:
        with self._sending:
            self._connection.close(code, reason)

    def _linger(self) -> None:
        self._begin_close(1000, "")
        self._finish(monotonic() + CLOSE_TIMEOUT)

    def _finish(self, deadline: float | None) -> None:
        """Do the rest of the close handshake, and part in the right order: the server ends first (section 7.1.1)."""
        if self._parted or not self._take_turn(deadline):
            return
        self._parted = True
        try:
            with suppress(OSError, FramingError):
                while self._connection.state is not State.CLOSED:
                    self._payloads.clear()
                    self._fill(deadline)
            with suppress(OSError):
                self.flush(timeout=_left(deadline))
                if not self._connection.eof_received:
                    self._part(deadline)
        finally:
            self._payloads.clear()
            self._receiving.release()

    def _take_turn(self, deadline: float | None) -> bool:
        """Be the one who receives; False if another thread does, and the peer has not ended that in time."""
        if self._receiving.acquire(blocking=False):
            return True
        with suppress(OSError):
            self.flush(timeout=_left(deadline))
        left = _left(deadline)
        if self._receiving.acquire(timeout=-1 if left is None else left):
            return True
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # which wakes it: it must not find the socket closed
        if self._receiving.acquire(timeout=CLOSE_TIMEOUT):
            self._receiving.release()
        return False

    def _part(self, deadline: float | None) -> None:
        """Await the peer's end, once ours has been told if that is due."""
        if self._connection.end_of_sending:
            if self._tls:
                return  # which cannot end one direction alone
            self._sock.shutdown(socket.SHUT_WR)
            linger = monotonic() + LINGER_TIME
            deadline = linger if deadline is None else min(deadline, linger)
        self._read_out(deadline)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - monotonic(), 0)


def serve(
    handler: Callable[[WebSocket], object],
    address: tuple[str, int] | str | os.PathLike[str] | socket.socket,
    *,
    max_connections: int = 100,
    timeout: float | None = None,
    tls: ssl.SSLContext | None = None,
    handshake_timeout: float = 10.0,
    backlog: int = 128,
    **options: Any,
) -> ThreadServer[WebSocket]:
    """Listen for connections, to serve each in a thread of its own.

    ::

        def echo(client):
            for message in client:
                client.send(message)

        with framewire.websocket.blocking.serve(echo, ("127.0.0.1", 8080)) as server:
            server.serve_forever()

    Args:
        handler: Gets the `WebSocket`, in the connection's thread, once it is open. When it returns, the connection is
            closed with code 1000. A `FramingError` or an ``OSError`` that it lets through is the peer's fault, and is
            logged; anything else is logged with its traceback; the code is then 1011. Neither harms another connection.
        address: ``(host, port)`` for TCP, port 0 for any that is free; the path of a Unix socket; or a listening
            socket.
        max_connections: Most threads at a time. Further connections wait until one ends.
        timeout: The `WebSocket.timeout` of every connection, in seconds.
        tls: An ``ssl.SSLContext`` for connections over TLS.
        handshake_timeout: Seconds for the handshake of TLS, and then for that of WebSocket, pages before it included.
        backlog: Connections that the system keeps until they are accepted.
        options: ``origins``, ``subprotocols``, ``deflate``, ``max_size``, ``parts``, ``respond``...: as in
            `ServerProtocol`.

    Raises:
        OSError: If that address cannot be had.
        ValueError, TypeError: If an argument makes no sense.
    """
    if max_connections < 1:
        raise ValueError(f"max_connections must be at least 1, not {max_connections}")
    ServerProtocol(**options)  # to hear its complaints now

    def accepted(sock: socket.socket) -> WebSocket:
        if tls is not None:
            sock.settimeout(handshake_timeout)
            sock = tls.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return WebSocket(sock, ServerProtocol(**options), timeout=timeout)

    def handle(client: WebSocket) -> None:
        try:
            opened = client._open(monotonic() + handshake_timeout)
        except TimeoutError:
            if client.protocol.buffered_size:
                raise
            opened = False  # a browser that has come for a page keeps its connection for a while
        if opened:
            handler(client)

    return ThreadServer(handle, listening_on(address, backlog), accepted, max_connections)
