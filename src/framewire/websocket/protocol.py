"""One WebSocket connection without I/O: the opening handshake, messages both ways, and the close handshake.

::

    transport ──> receive_data ──> handshake, then MessageDecoder ──> messages_received ──> application
    transport <── data_to_send <── queue <── handshake, pongs, MessageEncoder <── send <── application

A driver moves bytes and does nothing else, as with `framewire.connection.Connection`: receive, collect until nothing is
left, flush. What happens in which state (RFC 6455, sections 4 and 7)::

    CONNECTING ── the handshake succeeds ──────────────> OPEN
    CONNECTING ── it fails, close(), the end ──────────> CLOSED    the server has told why, in HTTP
    OPEN ──────── close() ─────────────────────────────> CLOSING   a Close is sent; messages still come
    OPEN ──────── a Close comes ───────────────────────> CLOSED    it is answered
    CLOSING ───── a Close comes ───────────────────────> CLOSED
    OPEN, CLOSING ── an error ─────────────────────────> CLOSED    a Close is sent, with the code for it
    OPEN, CLOSING ── the end of the stream ────────────> CLOSED

What ends the incoming stream (a Close, an error, the end) waits its turn: it counts when every message before it has
been collected, so that an application can still answer these. One object, one thread at a time.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Collection, Iterable
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Any

from .._wire import flat
from ..connection import LARGE_SIZE, MAX_BUFFERS, SINK_SIZE
from ..errors import FrameTooLarge, FramingError, HeaderError, PayloadError
from ..spec import DEFAULT_MAX_SIZE
from ._codec import Close, Deflate, MessageDecoder, MessageEncoder, Part, Ping, Pong
from .handshake import (
    MAX_HEAD_SIZE,
    MAX_HEADER_COUNT,
    ClientHandshake,
    HandshakeError,
    Request,
    Response,
    ServerHandshake,
)

if TYPE_CHECKING:
    from typing import TypeAlias

    from .._wire import BytesLike

    Message: TypeAlias = str | bytes | Part | Pong

HIGH_MARK = 256 * 1024
"""Bytes waiting to be sent above which pings are answered by one pong, and requests for pages wait."""

MAX_PINGS = 64
"""Pings of ours that may wait for their pongs; older ones are forgotten."""

REASON_SIZE = 123
"""Most bytes in the reason of a Close (section 5.5: 125 in a control frame, and two are the code)."""

NO_CLOSE = 1006
"""The code that stands for the end of a connection without a Close (section 7.1.5). It is never sent."""

CODES: dict[type[Exception], int] = {HeaderError: 1002, PayloadError: 1007, FrameTooLarge: 1009, MemoryError: 1011}
"""What a Close says to the peer after an error (section 7.4.1)."""

CONTROL = {Ping, Pong, Close}


class State(Enum):
    """Where a connection stands; see the table above."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


CONNECTING, OPEN, CLOSING, CLOSED = State


class Protocol:
    """What both ends of a WebSocket connection share: see `ServerProtocol` and `ClientProtocol`.

    Attributes:
        close_received: The peer's `Close`, as soon as it has come; its code is 1005 if it had none.
        close_sent: Ours.
    """

    def __init__(
        self,
        role: str,
        handshake: ServerHandshake | ClientHandshake,
        max_size: int | None,
        parts: bool,
        mask_key: Callable[[], bytes] | None = None,
    ) -> None:
        self.close_received: Close | None = None
        self.close_sent: Close | None = None
        self._role = role
        self._state = CONNECTING
        self._opened = False
        self._handshake = handshake
        self._codec_options: tuple[Any, ...] = max_size, parts, mask_key
        self._make_codec(None)  # to hear its complaints now
        self._error: Exception | None = None  # of the handshake
        self._messages: list[Any] = []  # received and not collected
        self._eof_received = False
        self._sink: memoryview | None = None  # memory for windows that cannot be the decoder's
        self._window: memoryview | None = None  # the one of them that is lent
        self._outbox = _Outbox()
        self._pings: deque[bytes] = deque(maxlen=MAX_PINGS)  # not answered yet
        self._late_pong: bytes | None = None  # the newest ping, which waits for room
        self._close_called = False

    # The opening.

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._state

    @property
    def opened(self) -> bool:
        """Whether the opening handshake has succeeded, whatever has come after it."""
        return self._opened

    @property
    def request(self) -> Request | None:
        """The request of the opening handshake: a client's from the start, a server's when it has come."""
        return self._handshake.request

    @property
    def response(self) -> Response | None:
        """The answer to it, as far as it is known; of a refusal too."""
        return self._handshake.response

    @property
    def subprotocol(self) -> str | None:
        """What was agreed on (RFC 6455, section 1.9), if anything was."""
        return self._handshake.subprotocol

    @property
    def deflate(self) -> Deflate | None:
        """How messages are compressed; None if they are not."""
        return self._handshake.deflate

    # Receiving.

    def receive_data(self, chunk: BytesLike, /) -> None:
        """Take a chunk of the stream; then collect `messages_received`, and send what there is to send.

        It never raises what is wrong with the bytes: that is for `messages_received`, in its turn. Once it is known
        (`error`), further bytes are dropped, here and in `buffer_updated`, so that nothing grows.

        Raises:
            RuntimeError: After `receive_eof`.
        """
        self._check_not_ended()
        self._window = None
        if self._state is CONNECTING:
            self._handshake.receive_data(flat(chunk))
            self._shake()
        elif self._opened:
            self._decode(self._decoder.feed, chunk)

    def get_buffer(self, hint: int = -1) -> memoryview:
        """Lend a window to receive into, then `buffer_updated`: see `Decoder.get_buffer`.

        Raises:
            RuntimeError: After `receive_eof`.
        """
        self._check_not_ended()
        if self._opened and self.error is None:
            self._sink = self._window = None
            return self._decoder.get_buffer(hint)
        if self._sink is None:
            self._sink = memoryview(bytearray(SINK_SIZE))
        self._window = self._sink[:hint] if hint > 0 else self._sink
        return self._window

    def buffer_updated(self, n: int, /) -> None:
        """Say that `n` bytes were received into the window; then go on as after `receive_data`.

        Raises:
            ValueError: If `n` is negative or more than the window holds; the window stays lent.
            RuntimeError: If no window is lent, or after `receive_eof`.
        """
        self._check_not_ended()
        if self._window is None:
            self._decode(self._decoder.buffer_updated, n)
        elif not 0 <= n <= len(self._window):
            raise ValueError(f"n={n} bytes cannot have been received into a window of {len(self._window)}")
        elif n:
            self.receive_data(self._window[:n])

    def receive_eof(self) -> None:
        """Say that the peer will send no more; then go on as after `receive_data`. Twice is nothing."""
        if self._eof_received:
            return
        self._eof_received = True
        if self._state is CONNECTING:
            self._handshake.receive_eof()
            self._shake()
        elif self._opened:
            self._decode(self._decoder.feed_eof)

    def messages_received(self) -> list[Message]:
        """The messages received since the last call, in order: call it until there are none.

        Text is ``str``, anything else ``bytes``; with ``parts=True`` they come as `Part`. A `Pong` comes if it answers
        a `ping` of ours; others do not, and no Ping, which is answered at once.

        The call that has nothing to return does what is due then: it answers a Close, or sends one for an error.

        Raises:
            HandshakeError: If there is no connection, and then by every call.
            HeaderError, PayloadError, FrameTooLarge, IncompleteFrame: When every message before the error has been
                collected, and then by every call.
        """
        messages = self.take_messages()
        if not messages:
            self._end()
        return messages

    def take_messages(self) -> list[Message]:
        """As `messages_received`, but nothing is done at the end: for a driver that has messages wait."""
        messages, self._messages = self._messages, []
        return messages

    @property
    def error(self) -> Exception | None:
        """What ended the incoming stream, as soon as it is known: messages from before it may still wait for
        `messages_received`. None while all is well."""
        return self._error or (self._decoder.error if self._opened else None)

    @property
    def eof_received(self) -> bool:
        """Whether `receive_eof` was called."""
        return self._eof_received

    @property
    def buffered_size(self) -> int:
        """Bytes that have come of an unfinished request, answer or frame."""
        return self._decoder.buffered_size if self._opened else self._handshake.buffered_size

    @property
    def needed_size(self) -> int:
        """Bytes, one at least, without which nothing more can come out."""
        return self._decoder.needed_size if self._opened else 1

    @property
    def close_code(self) -> int | None:
        """How the connection ended (RFC 6455, section 7.1.5): the code of the peer's Close, 1005 if it had none, 1006
        if there was no Close. None as long as it has not, and if it never was open."""
        if self.close_received is not None:
            return self.close_received.code
        return NO_CLOSE if self._opened and self._state is CLOSED else None

    # Sending.

    @property
    def encoder(self) -> MessageEncoder:
        """What encodes the messages: another one from the moment when the connection is open."""
        return self._encoder

    def send(self, message: str | BytesLike, /, *, compress: bool = True) -> None:
        """Queue a message, to be sent with `data_to_send`: a text if it is ``str``.

        A ``bytes`` of 64 KiB or more that a server sends uncompressed is kept, not copied. Anything else is copied now,
        and may change afterwards.

        Args:
            message: What to send.
            compress: Whether to compress it, if that was agreed on; not worth it for what is compressed already.

        Raises:
            FrameTooLarge, ValueError: As `MessageEncoder.encode`; nothing is queued.
            RuntimeError: Before the connection is open, and after `close`.
            BrokenPipeError: After the peer has closed the connection.
        """
        encoder = self.writable()
        if type(message) is bytes and len(message) >= LARGE_SIZE:
            self._outbox.put(*encoder.encode_parts(message, compress=compress))
        else:
            self._outbox.put(encoder.encode(message, compress=compress))

    def send_many(self, messages: Iterable[str | BytesLike], /, *, compress: bool = True) -> None:
        """Queue many messages: as `send` for each, but all of them or, when one is refused, none."""
        self._outbox.put(self.writable().encode_many(messages, compress=compress))

    def send_part(self, data: str | BytesLike, /, final: bool = False) -> None:
        """Queue a part of a message, of which the first says whether it is text. Control frames may come in between.

        Raises:
            FrameTooLarge, ValueError, TypeError, RuntimeError, BrokenPipeError: As `send`.
        """
        self._outbox.put(self.writable().encode_part(data, final=final))

    def write_frames(self, data: bytes, count: int = 0) -> None:
        """Queue frames that were encoded elsewhere, once for many peers: whole ones, and for a client masked.

        Args:
            data: The frames.
            count: How many, for those who keep accounts.

        Raises:
            RuntimeError, BrokenPipeError: As `send`.
        """
        self.writable()
        self._outbox.put(data)

    def ping(self, payload: BytesLike = b"", /) -> None:
        """Queue a Ping; its `Pong` comes among `messages_received`. A Pong also answers the pings before it (5.5.3).

        Raises:
            ValueError: If the payload has more than 125 bytes.
            RuntimeError, BrokenPipeError: As `send`.
        """
        payload = flat(payload)
        self._outbox.put(self.writable().ping(payload))
        self._pings.append(payload)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begin the close handshake: queue a Close, the last frame that is sent. Messages still come, until the peer's.

        A connection that is not open yet is given up. Twice is nothing.

        Raises:
            ValueError: If the code may not stand in a Close, or the reason has more than 123 bytes.
        """
        frame = self._encoder.close(code, reason)
        self._close_called = True
        if self._state is CONNECTING:
            self._state = CLOSED
        elif self._state is OPEN:
            self._state = CLOSING
            self._put_close(frame, Close(code, reason))

    def data_to_send(self) -> list[bytes | memoryview]:
        """What to send next: buffers for one ``sock.sendmsg``, or to be written one behind the other.

        Then say with `data_sent` how much of it was sent; until then the same bytes come again.

        Returns:
            At most 16 buffers, none of them empty; an empty list if nothing is queued.
        """
        return self._outbox.first()

    def data_sent(self, n: int, /) -> None:
        """Say that the first `n` bytes of `data_to_send` were sent; they are forgotten.

        Raises:
            ValueError: If that is negative or more than there was.
        """
        self._outbox.sent(n)
        if self._outbox.size <= HIGH_MARK:
            if self._late_pong is not None and self.close_sent is None:
                self._outbox.put(self._encoder.pong(self._late_pong))
            self._late_pong = None
            if self._state is CONNECTING:
                self._shake()

    @property
    def queued_size(self) -> int:
        """Bytes still to be sent, headers included."""
        return self._outbox.size

    @property
    def end_of_sending(self) -> bool:
        """Whether all is sent and nothing will be: time for the driver to half-close its transport.

        A server ends the stream first; a client waits for that (RFC 6455, section 7.1.1), unless there was an error.
        """
        if self._state is not CLOSED or self._outbox.size:
            return False
        return self._role == "server" or self._eof_received or self.close_received is None

    @property
    def closed(self) -> bool:
        """Whether both directions are over: nothing more can come, and nothing is left to send.

        An error ends the incoming direction, as its end does.
        """
        return self.end_of_sending and (self._eof_received or self.error is not None)

    # Its parts.

    def _make_codec(self, deflate: Deflate | None) -> None:
        max_size, parts, mask_key = self._codec_options
        self._decoder = MessageDecoder(self._role, max_size=max_size, deflate=deflate, parts=parts)
        self._encoder = MessageEncoder(self._role, max_size=max_size, deflate=deflate, mask_key=mask_key)

    def _shake(self) -> None:
        """Go on with the handshake, as far as the bytes and the room for answers allow."""
        handshake = self._handshake
        while self._outbox.size <= HIGH_MARK and handshake.step():
            self._outbox.put(handshake.data_to_send())
        if handshake.opened:
            self._opened = True
            self._state = OPEN
            if handshake.deflate is not None:
                self._make_codec(handshake.deflate)
            self._decode(self._decoder.feed, handshake.surplus())
            if self._eof_received:
                self._decode(self._decoder.feed_eof)
        elif handshake.ended:
            self._state = CLOSED
            self._error = handshake.error
        elif self._outbox.size > HIGH_MARK < handshake.buffered_size:
            self._state = CLOSED
            self._error = HandshakeError("requests that come faster than their answers are taken", limit=HIGH_MARK)

    def _check_not_ended(self) -> None:
        if self._eof_received:
            raise RuntimeError("nothing can come after receive_eof()")

    def _decode(self, decode: Callable[..., list[Any]], *args: object) -> None:
        if self._decoder.error is None:
            try:
                messages = decode(*args)
            except FramingError:
                return  # the decoder keeps it
            if not CONTROL.isdisjoint(map(type, messages)):
                messages = [message for message in messages if type(message) not in CONTROL or self._heed(message)]
            self._messages += messages

    def _heed(self, control: Ping | Pong | Close) -> bool:
        """Do what a control frame asks for; return whether the application should see it."""
        if type(control) is Ping:
            self._answer_ping(control.payload)
        elif type(control) is Pong:
            return self._is_answered(control.payload)
        else:
            assert type(control) is Close
            self.close_received = control
        return False

    def _answer_ping(self, payload: bytes) -> None:
        if self.close_sent is not None:
            return
        if self._outbox.size > HIGH_MARK:
            self._late_pong = payload  # section 5.5.3 lets one pong do, for the newest
        else:
            self._outbox.put(self._encoder.pong(payload))

    def _is_answered(self, payload: bytes) -> bool:
        if payload not in self._pings:
            return False  # nobody has asked (section 5.5.3)
        while self._pings.popleft() != payload:
            pass
        return True

    def _end(self) -> None:
        """Every message is collected: it is the turn of what ends the incoming stream, if anything does."""
        if self.error is not None:
            self._fail(self.error)
            raise self.error.with_traceback(None)
        if self.close_received is not None:
            if self._state is OPEN:  # section 5.5.1: answered by its code
                code = self.close_received.code
                self._put_close(self._encoder.close(code), Close(code))
            self._state = CLOSED
        elif self._eof_received and self._state is not CONNECTING:
            self._state = CLOSED

    def _fail(self, error: Exception) -> None:
        """Section 7.1.7: tell the peer, if it listens and has not been told anything else."""
        code = next((code for kind, code in CODES.items() if isinstance(error, kind)), None)
        if self._state is OPEN and code is not None:
            reason = str(getattr(error, "reason", "")) or f"more than {getattr(error, 'limit', 0)} bytes"
            reason = reason.encode()[:REASON_SIZE].decode(errors="ignore")
            self._put_close(self._encoder.close(code, reason), Close(code, reason))
        self._state = CLOSED

    def _put_close(self, frame: bytes, close: Close) -> None:
        self.close_sent = close
        self._outbox.put(frame)

    def writable(self) -> MessageEncoder:
        """The `encoder`, if messages can be sent.

        Raises:
            RuntimeError, BrokenPipeError: As `send`.
        """
        if self._state is OPEN:
            return self._encoder
        if self._state is CONNECTING:
            raise RuntimeError("nothing can be sent before the connection is open")
        if self._close_called:
            raise RuntimeError("nothing can be sent after close()")
        how = f"failed: {self.error}" if self.error is not None else f"was closed by the peer: {self.close_code}"
        raise BrokenPipeError(errno.EPIPE, f"the connection {how}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state.value}>"


class ServerProtocol(Protocol):
    r"""A server's end of a WebSocket connection, which serves plain HTTP until somebody asks for a WebSocket.

    >>> client, server = ClientProtocol("ws://example.org/chat"), ServerProtocol()
    >>> def move(here, there):
    ...     for buffer in here.data_to_send():
    ...         there.receive_data(buffer)
    ...         here.data_sent(len(buffer))
    >>> move(client, server)
    >>> move(server, client)
    >>> client.opened, server.opened, server.request.target
    (True, True, '/chat')
    >>> client.send_many(["hello", b"wonderful", "world"])
    >>> move(client, server)
    >>> server.messages_received()
    ['hello', b'wonderful', 'world']

    A request that is neither for a WebSocket nor for what `respond` knows is answered with the status that says why
    (400, 403, 405, 426, 431, with a text), and is a `HandshakeError` here. A stream that ends between requests was no
    WebSocket, and no error: then `state` is CLOSED, and `opened` false.

    Args:
        origins: From which pages browsers may connect (RFC 6455, section 10.2). None: from those of the same host and
            port, as the Host field has it. A collection of origins, such as ``{"https://example.org"}``: from these.
            A function: gets the origin, and says. Programs other than browsers send no Origin, and are let in. (Where
            only names tell who may come in, give the origins: a foreign name may be made to lead to this host.)
        subprotocols: Those it speaks, the preferred one first. The first that the client offers is chosen, if any.
        deflate: Whether to accept compression; or a `Deflate` that says with what parameters at most.
        max_size: Most bytes in a message, in both directions; 16 MiB unless given, None lifts the limit.
        parts: Hand messages out as they come, as `Part`.
        respond: Gets every `Request` first. It returns a `Response`, such as a page, or None to go on: then it must be
            for a WebSocket. Requests come by GET and HEAD, without a body; the answer's body is left out after HEAD.
        max_head_size: Most bytes in the head of a request.
        max_header_count: Most fields in it.
        server_name: The Server field of answers; None leaves it out.

    Raises:
        ValueError, TypeError: If an argument makes no sense.
    """

    def __init__(
        self,
        *,
        origins: Collection[str] | Callable[[str], bool] | None = None,
        subprotocols: Iterable[str] = (),
        deflate: bool | Deflate = True,
        max_size: int | None = DEFAULT_MAX_SIZE,
        parts: bool = False,
        respond: Callable[[Request], Response | None] | None = None,
        max_head_size: int = MAX_HEAD_SIZE,
        max_header_count: int = MAX_HEADER_COUNT,
        server_name: str | None = None,
    ) -> None:
        handshake = ServerHandshake(
            origins=origins,
            subprotocols=subprotocols,
            deflate=deflate,
            respond=respond,
            max_head_size=max_head_size,
            max_header_count=max_header_count,
            server_name=server_name,
        )
        super().__init__("server", handshake, max_size, parts)


class ClientProtocol(Protocol):
    """A client's end of a WebSocket connection; see `ServerProtocol` for an example.

    What the server says instead of opening is a `HandshakeRefused`, with status, header fields and body.

    Args:
        url: ``ws://host:port/path?query`` or ``wss://``; a name and password in it are sent (Basic authentication).
        origin: The Origin field: only what acts for a web page has one.
        subprotocols: Those it speaks, the preferred one first.
        headers: More header fields, as pairs of name and value.
        deflate: Whether to offer compression; or a `Deflate` that says with what parameters.
        max_size: Most bytes in a message, in both directions; 16 MiB unless given, None lifts the limit.
        parts: Hand messages out as they come, as `Part`.
        mask_key: Returns the four bytes that mask a frame; the system's randomness unless given.
        max_head_size: Most bytes in the head of the answer.
        max_header_count: Most fields in it.

    Raises:
        ValueError, TypeError: If an argument makes no sense.
    """

    def __init__(
        self,
        url: str,
        *,
        origin: str | None = None,
        subprotocols: Iterable[str] = (),
        headers: Iterable[tuple[str, str]] = (),
        deflate: bool | Deflate = True,
        max_size: int | None = DEFAULT_MAX_SIZE,
        parts: bool = False,
        mask_key: Callable[[], bytes] | None = None,
        max_head_size: int = MAX_HEAD_SIZE,
        max_header_count: int = MAX_HEADER_COUNT,
    ) -> None:
        handshake = ClientHandshake(
            url,
            origin=origin,
            subprotocols=subprotocols,
            headers=headers,
            deflate=deflate,
            max_head_size=max_head_size,
            max_header_count=max_header_count,
        )
        super().__init__("client", handshake, max_size, parts, mask_key)
        self._outbox.put(handshake.data_to_send())


class _Outbox:
    """Bytes that wait to be sent: large ones as they are, small ones joined to be a buffer of 64 KiB or so."""

    def __init__(self) -> None:
        self.size = 0
        self._buffers: deque[bytes | memoryview] = deque()
        self._small: list[bytes] = []  # what will be joined to be the next of them
        self._small_size = 0

    def put(self, *parts: Any) -> None:
        for part in parts:
            self.size += len(part)
            if len(part) >= LARGE_SIZE:
                self._join()
                self._buffers.append(part)
            elif part:
                self._small.append(part)
                self._small_size += len(part)
                if self._small_size >= LARGE_SIZE:
                    self._join()

    def first(self) -> list[bytes | memoryview]:
        if len(self._buffers) < MAX_BUFFERS:
            self._join()
        return list(islice(self._buffers, MAX_BUFFERS))

    def sent(self, n: int) -> None:
        ready = self.size - self._small_size
        if not 0 <= n <= ready:
            raise ValueError(f"n={n} bytes cannot have been sent of the {ready} that data_to_send() gave")
        self.size -= n
        while n:
            buffer = self._buffers.popleft()
            if n < len(buffer):
                self._buffers.appendleft(memoryview(buffer)[n:])
                break
            n -= len(buffer)

    def _join(self) -> None:
        if self._small:
            self._buffers.append(b"".join(self._small))
            self._small.clear()
            self._small_size = 0
