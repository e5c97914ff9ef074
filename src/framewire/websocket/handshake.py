"""The opening handshake of a WebSocket connection, without I/O (RFC 6455, section 4, and RFC 7692, section 7).

::

    GET /chat HTTP/1.1                                        HTTP/1.1 101 Switching Protocols
    Host: example.org                                         Upgrade: websocket
    Upgrade: websocket                                        Connection: Upgrade
    Connection: Upgrade                                       Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
    Sec-WebSocket-Version: 13

Strategy. HTTP is h11's; what the fields mean is decided here. h11 gets at most as many bytes as a head may have, and a
new connection object for each request, so that what it has not used is ours again and the limit does not depend on how
the stream was cut.

::

    FramingError
    └── HandshakeError                 no connection: a request or an answer that is not as it must be
        ├── HandshakeRefused           the server has answered something else, such as 404
        └── IncompleteHandshake        the stream ended before the handshake was done     (also an EOFError)
"""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from hashlib import sha1
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

from ..errors import HEAD_SIZE, FramingError
from ._codec import Deflate

try:
    import h11
except ModuleNotFoundError as _error:
    if _error.name != "h11":
        raise
    raise ImportError("WebSockets need h11 for the opening handshake: pip install framewire[web]") from None

if TYPE_CHECKING:
    from typing import TypeAlias

    Fields: TypeAlias = tuple[tuple[str, str], ...]
    Extension: TypeAlias = tuple[str, list[tuple[str, str | None]]]

MAX_HEAD_SIZE = 16 * 1024
MAX_HEADER_COUNT = 100

MAX_BODY_SIZE = 64 * 1024
"""Bytes that are kept of what a server says instead of opening a connection."""

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What is appended to the key (section 1.3)."""

VERSION = "13"

DEFLATE = "permessage-deflate"
FLAGS = ("server_no_context_takeover", "client_no_context_takeover")
WINDOW_BITS = ("server_max_window_bits", "client_max_window_bits")

OURS = {"connection", "upgrade", "content-length", "transfer-encoding"}
"""Fields of a client's request, besides Sec-WebSocket-*, that nobody else sets."""

METHODS = ("GET", "HEAD")


class HandshakeError(FramingError):
    """There is no connection, because a request or the answer to it is not as it must be.

    Attributes:
        reason: What is wrong, with the value.
        field: The header field at fault, if it is one.
        value: What it says; None if it is missing.
        limit: The limit that was exceeded, if one was.
        status: What a server answers it with, if it does.
        offset: Always 0.
        head, looks_like: As in `FramingError`.
    """

    def __init__(
        self,
        reason: str,
        field: str | None = None,
        value: str | None = None,
        limit: int | None = None,
        status: int | None = None,
        head: bytes = b"",
    ) -> None:
        super().__init__(reason, field, value, limit, status, head)
        self.reason = reason
        self.field = field
        self.value = value
        self.limit = limit
        self.status = status
        self.offset = 0
        self.head = head

    @property
    def looks_like(self) -> str | None:
        """Nothing if it is HTTP, which is meant."""
        look = super().looks_like
        return None if look is None or "HTTP" in look or look == "text" else look

    def __str__(self) -> str:
        return self.reason if self.looks_like is None else f"{self.reason}; it looks like {self.looks_like}"


class HandshakeRefused(HandshakeError):
    """The server has not opened the connection, and says why.

    Attributes:
        status: What it has answered, such as 403.
        headers: The fields of its answer: pairs of name (in lower case) and value.
        body: The first 64 KiB of what came with it.
    """

    status: int

    def __init__(self, status: int, headers: Fields = (), body: bytes = b"") -> None:
        super().__init__(f"the server has answered {_status_text(status)}", status=status)
        self.args = (status, headers, body)
        self.headers = headers
        self.body = body


class IncompleteHandshake(HandshakeError, EOFError):
    """The stream ended before the handshake was done."""


class Head:
    """What requests and responses have in common."""

    __slots__ = ()
    headers: Fields

    def values(self, name: str) -> list[str]:
        """The values of a header field, one for each time that it stands there."""
        name = name.lower()
        return [value for key, value in self.headers if key.lower() == name]


@dataclass(frozen=True, slots=True)
class Request(Head):
    """What a client asks for over HTTP.

    Attributes:
        method: Such as ``"GET"``.
        target: As it stands in the request: ``"/chat?room=1"``.
        headers: The header fields: pairs of name, in lower case, and value.
    """

    method: str
    target: str
    headers: Fields = ()

    @property
    def path(self) -> str:
        """The target without a query, decoded: ``"/chat"``."""
        path = self.target.partition("?")[0]
        if not path.startswith("/"):  # absolute-form: RFC 9112, section 3.2.2
            path = "/" + path.partition("://")[2].partition("/")[2]
        return unquote(path)


@dataclass(frozen=True, slots=True)
class Response(Head):
    """An answer over HTTP.

    Attributes:
        status: Such as 200.
        headers: Header fields: pairs of name and value. ``Content-Length`` is added.
        body: What it consists of.
    """

    status: int
    headers: Fields = ()
    body: bytes = b""

    def __post_init__(self) -> None:
        if not isinstance(self.body, bytes):
            raise TypeError(f"the body of a response must be bytes, not {type(self.body).__name__}")


# What stands in the fields.


def new_key() -> str:
    """A key that nobody can guess (section 4.1, item 7)."""
    return b64encode(os.urandom(16)).decode()


def accept_key(key: str) -> str:
    """What a server answers to a key (section 4.2.2, item 5.4).

    >>> accept_key("dGhlIHNhbXBsZSBub25jZQ==")
    's3pPLMBiTxaQ9kYGzzhZRbK+xOo='
    """
    return b64encode(sha1((key + GUID).encode(), usedforsecurity=False).digest()).decode()


_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_NAME = re.compile(_TOKEN)
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)"))?')
_BETWEEN = re.compile(r"[ \t]*(?:,[ \t]*)*")
_BITS = re.compile(r"8|9|1[0-5]")


def parse_extensions(values: Iterable[str]) -> list[Extension]:
    """Parse the values of Sec-WebSocket-Extensions (section 9.1).

    >>> parse_extensions(['permessage-deflate; client_max_window_bits; server_max_window_bits="10", x-other'])
    [('permessage-deflate', [('client_max_window_bits', None), ('server_max_window_bits', '10')]), ('x-other', [])]

    Raises:
        ValueError: If they are not as they must be.
    """
    text = ", ".join(values)
    extensions: list[Extension] = []
    at = _skip(text, 0)
    while at < len(text):
        name = _NAME.match(text, at)
        if name is None:
            raise ValueError(f"no name at {text[at : at + 20]!r}")
        at = name.end()
        parameters: list[tuple[str, str | None]] = []
        while found := _PARAMETER.match(text, at):
            key, value, quoted = found.groups()
            if quoted is not None:
                value = re.sub(r"\\(.)", r"\1", quoted)
                if _NAME.fullmatch(value) is None:
                    raise ValueError(f"a quoted value that is no token, {quoted!r}")
            parameters.append((key.lower(), value))
            at = found.end()
        extensions.append((name[0].lower(), parameters))
        at = _next_item(text, at)
    return extensions


def parse_tokens(values: Iterable[str]) -> list[str]:
    """Parse a list of names, such as that of Connection or Sec-WebSocket-Protocol.

    >>> parse_tokens(["chat, superchat", "other"])
    ['chat', 'superchat', 'other']

    Raises:
        ValueError: If it is not as it must be.
    """
    text = ", ".join(values)
    tokens = []
    at = _skip(text, 0)
    while at < len(text):
        token = _NAME.match(text, at)
        if token is None:
            raise ValueError(f"no name at {text[at : at + 20]!r}")
        tokens.append(token[0])
        at = _next_item(text, token.end())
    return tokens


def _skip(text: str, at: int) -> int:
    """Where the next item begins. Some may be empty: RFC 9110, section 5.6.1.2."""
    found = _BETWEEN.match(text, at)
    assert found is not None
    return found.end()


def _next_item(text: str, at: int) -> int:
    begin = _skip(text, at)
    if begin < len(text) and "," not in text[at:begin]:
        raise ValueError(f"no comma before {text[begin : begin + 20]!r}")
    return begin


def offer_deflate(wish: Deflate) -> str:
    """What a client offers (RFC 7692, section 7.1); it always can limit its own window.

    >>> offer_deflate(Deflate(server_no_context_takeover=True))
    'permessage-deflate; server_no_context_takeover; client_max_window_bits'
    """
    bits = "" if wish.client_max_window_bits == 15 else f"={wish.client_max_window_bits}"
    own = _format_deflate(wish, with_client_bits=False)
    return f"{own}; client_max_window_bits{bits}"


def accept_deflate(extensions: list[Extension], limits: Deflate) -> tuple[Deflate, str] | None:
    """Choose from a client's offers: the first that keeps to RFC 7692 is accepted, with the stricter of both wishes.

    >>> accept_deflate(parse_extensions(["permessage-deflate; client_max_window_bits"]), Deflate())[1]
    'permessage-deflate'
    >>> accept_deflate(parse_extensions(["permessage-deflate; server_max_window_bits=10"]), Deflate())[1]
    'permessage-deflate; server_max_window_bits=10'

    Returns:
        What is agreed on, and the answer; None if nothing is: then messages are not compressed.
    """
    for name, parameters in extensions:
        offer = _read_parameters(parameters, valueless={"client_max_window_bits"}) if name == DEFLATE else None
        if offer is None:  # another extension, or one that must be declined (section 7)
            continue
        limited = "client_max_window_bits" in offer  # only then may the server say how many bits the client has
        agreed = Deflate(
            limits.server_no_context_takeover or "server_no_context_takeover" in offer,
            limits.client_no_context_takeover or "client_no_context_takeover" in offer,
            min(limits.server_max_window_bits, offer.get("server_max_window_bits", 15)),
            min(limits.client_max_window_bits, offer["client_max_window_bits"]) if limited else 15,
        )
        return agreed, _format_deflate(agreed)
    return None


def agree_on_deflate(extensions: list[Extension], wish: Deflate | None) -> Deflate | None:
    """Check a server's answer to `offer_deflate`.

    Raises:
        ValueError: If it is none that may be given to it; the connection has failed then (RFC 7692, section 5.1).
    """
    if not extensions:
        return None
    (name, parameters), *more = extensions
    if wish is None or name != DEFLATE or more:
        raise ValueError("an extension that was not offered")
    answer = _read_parameters(parameters)
    if answer is None:
        raise ValueError("parameters that are unknown, doubled, or have a bad value")
    agreed = Deflate(
        "server_no_context_takeover" in answer,
        "client_no_context_takeover" in answer or wish.client_no_context_takeover,
        answer.get("server_max_window_bits", 15),
        answer.get("client_max_window_bits", wish.client_max_window_bits),
    )
    if wish.server_no_context_takeover and not agreed.server_no_context_takeover:
        raise ValueError("no server_no_context_takeover, which was asked for")
    for name in WINDOW_BITS:
        if getattr(agreed, name) > getattr(wish, name):
            raise ValueError(f"{name} of more than the {getattr(wish, name)} that were offered")
    return agreed


def _read_parameters(
    parameters: list[tuple[str, str | None]], valueless: Collection[str] = ()
) -> dict[str, int] | None:
    """Parameters of permessage-deflate: a flag is 1, bits without a value that need none are 15.

    Returns:
        Them by name; None if one is unknown, doubled, or has a bad value.
    """
    found: dict[str, int] = {}
    for name, value in parameters:
        if name in found:
            return None
        if name in FLAGS and value is None:
            found[name] = 1
        elif name in valueless and value is None:
            found[name] = 15
        elif name in WINDOW_BITS and value is not None and _BITS.fullmatch(value):
            found[name] = int(value)
        else:
            return None
    return found


def _format_deflate(deflate: Deflate, *, with_client_bits: bool = True) -> str:
    flags = [name for name in FLAGS if getattr(deflate, name)]
    names = WINDOW_BITS if with_client_bits else WINDOW_BITS[:1]
    bits = [f"{name}={getattr(deflate, name)}" for name in names if getattr(deflate, name) < 15]
    return "; ".join([DEFLATE, *flags, *bits])


class Url(NamedTuple):
    """Where a WebSocket URL leads (section 3)."""

    secure: bool
    host: str
    port: int
    target: str
    authorization: str | None

    @property
    def host_field(self) -> str:
        """What the Host field says: without the port if it is the ordinary one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def parse_url(url: str) -> Url:
    """Take a ``ws:`` or ``wss:`` URL to pieces.

    >>> parse_url("ws://[::1]:9001/chat?room=1")
    Url(secure=False, host='::1', port=9001, target='/chat?room=1', authorization=None)

    Raises:
        ValueError: If it is not one.
    """
    if re.search(r"[\0-\x20\x7f]", url):
        raise ValueError("a URL has no spaces and no control characters")  # urlsplit() would take some of them away
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss"):
        raise ValueError(f"a WebSocket has a ws: or wss: URL, not {parts.scheme}:")
    if "#" in url:
        raise ValueError("the URL of a WebSocket has no fragment")
    if not parts.hostname:
        raise ValueError("the URL names no host")
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    secure = parts.scheme == "wss"
    port = parts.port if parts.port is not None else 443 if secure else 80
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    authorization = None
    if parts.username is not None:  # RFC 7617
        login = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
        authorization = f"Basic {b64encode(login).decode()}"
    return Url(secure, host, port, quote(target, safe="!$%&'()*+,/:;=?@[]~"), authorization)


def is_same_origin(origin: str, host: str) -> bool:
    """Whether a page from `origin` comes from the host and port that a Host field names.

    >>> is_same_origin("https://example.org", "example.org"), is_same_origin("https://example.org", "example.org:8443")
    (True, False)
    """
    try:
        page, here = urlsplit(origin), urlsplit(f"//{host}")
        port = {"http": 80, "https": 443}.get(page.scheme)
        if port is None or not page.hostname or origin.lower() != f"{page.scheme}://{page.netloc.lower()}":
            return False
        return (page.hostname, page.port or port) == (here.hostname, here.port or port) and "@" not in page.netloc
    except ValueError:
        return False


# The two sides.


class Handshake:
    """What both sides share: a stream of bytes that is HTTP for a while.

    Attributes:
        opened: Whether it has succeeded; `surplus` has what came behind it.
        ended: Whether it has not, and will not.
        error: Why, if it is an error.
        request, response: What has opened the connection, or should have.
        subprotocol, deflate: What was agreed on.
    """

    def __init__(self, role: Any, deflate: bool | Deflate, max_head_size: int, max_header_count: int) -> None:
        if max_head_size < 1 or max_header_count < 1:
            raise ValueError(f"limits must be 1 or more, not {max_head_size=} and {max_header_count=}")
        self.opened = False
        self.ended = False
        self.error: Exception | None = None
        self.request: Request | None = None
        self.response: Response | None = None
        self.subprotocol: str | None = None
        self.deflate: Deflate | None = None
        self._role = role
        self._wish = (Deflate() if deflate else None) if isinstance(deflate, bool) else deflate
        self._max_head_size = max_head_size
        self._max_header_count = max_header_count
        self._input = bytearray()  # received, and not given to h11
        self._output = bytearray()
        self._eof_received = False
        self._renew()

    def receive_data(self, data: bytes) -> None:
        """Take a chunk of the stream; then `step`."""
        if not (self.opened or self.ended):
            self._input += data

    def receive_eof(self) -> None:
        """Say that there is no more; then `step`."""
        self._eof_received = True

    def step(self) -> bool:
        """Go on by one request or answer, as far as the bytes allow.

        Returns:
            Whether there was one; then there may be `data_to_send`, and another one.
        """
        if self.opened or self.ended:
            return False
        try:
            return self._step()
        except Exception as error:  # an application's own code is called too: the driver will tell
            self._fail(error)
        return True

    def data_to_send(self) -> bytes:
        """What to send now; it is forgotten."""
        data = bytes(self._output)
        self._output.clear()
        return data

    def surplus(self) -> bytes:
        """What came behind the handshake; it is forgotten."""
        data = bytes(self._input)
        self._input.clear()
        return data

    @property
    def buffered_size(self) -> int:
        """Bytes that have come of an unfinished request or answer."""
        return self._head_size + len(self._input)

    def _step(self) -> bool:
        raise NotImplementedError

    def _fail(self, error: Exception) -> None:
        self.error = error
        self.ended = True
        self._input.clear()

    def _renew(self) -> None:
        """Begin with a new request, at what has come of it."""
        self._http = h11.Connection(self._role, max_incomplete_event_size=self._max_head_size)
        self._head = b""  # the first bytes of the request or answer, for errors
        self._head_size = 0  # bytes of it that h11 has

    def _next_event(self) -> Any:
        """What h11 finds next, in as many bytes as a head may have.

        Returns:
            An event; None if more bytes are needed.
        """
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                if not self._input:
                    return None
                room = self._max_head_size - self._head_size
                if not room:
                    reason = f"a head of more than {self._max_head_size} bytes"
                    raise HandshakeError(reason, limit=self._max_head_size, status=431, head=self._head)
                self._give(room)
        except h11.RemoteProtocolError as error:
            raise HandshakeError(f"no HTTP: {error}", status=400, head=self._head) from None
        return event

    def _give(self, size: int) -> None:
        chunk = bytes(self._input[:size])
        del self._input[:size]
        self._head += chunk[: HEAD_SIZE - len(self._head)]
        if self._head[0] <= 0x20:  # h11 would find other words for it when it sees more
            raise HandshakeError("no HTTP", status=400, head=self._head)
        self._head_size += len(chunk)
        self._http.receive_data(chunk)

    def _take_back(self) -> None:
        """What h11 has and has not used is ours again."""
        self._input[:0] = self._http.trailing_data[0]
        self._head_size = 0

    def _fields(self, event: Any) -> Fields:
        if len(event.headers) > self._max_header_count:
            reason = f"{len(event.headers)} header fields, more than {self._max_header_count}"
            raise HandshakeError(reason, limit=self._max_header_count, status=431, head=self._head)
        return tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers])


class ServerHandshake(Handshake):
    """A server's side: requests, of which the last may open a connection. For the arguments see `ServerProtocol`."""

    def __init__(
        self,
        *,
        origins: Collection[str] | Callable[[str], bool] | None = None,
        subprotocols: Iterable[str] = (),
        deflate: bool | Deflate = True,
        respond: Callable[[Request], Response | None] | None = None,
        max_head_size: int = MAX_HEAD_SIZE,
        max_header_count: int = MAX_HEADER_COUNT,
        server_name: str | None = None,
    ) -> None:
        super().__init__(h11.SERVER, deflate, max_head_size, max_header_count)
        if isinstance(origins, str):
            raise TypeError(f"origins must be a collection of them, not {origins!r}")
        self._origins = origins if origins is None or callable(origins) else {one.lower() for one in origins}
        self._subprotocols = _checked_subprotocols(subprotocols)
        self._respond = respond
        self._server = [] if server_name is None else [("Server", server_name)]
        try:
            h11.Response(status_code=200, headers=self._server)
        except h11.LocalProtocolError:
            raise ValueError(f"server_name cannot be sent: {server_name!r}") from None

    def _step(self) -> bool:
        event = self._next_event()
        if event is None:
            if self._eof_received:
                if self._head_size:
                    raise IncompleteHandshake("the stream ended in a request", head=self._head)
                self.ended = True
            return False
        assert isinstance(event, h11.Request)
        self._take_back()
        method, target = event.method.decode(), event.target.decode("latin-1")
        request = self.request = Request(method, target, self._fields(event))
        self._check(request)
        self._http.next_event()  # the end of the request, which has no body
        response = None if self._respond is None else self._respond(request)
        if response is None:
            self._open(request, event.http_version)
            return True
        self._send(response)
        if self._http.our_state is h11.DONE:
            self._renew()
        else:
            self.ended = True
            self._input.clear()
        return True

    def _fail(self, error: Exception) -> None:
        super()._fail(error)
        status, text = 500, ""
        if isinstance(error, HandshakeError):
            if error.status is None:
                return
            status, text = error.status, f": {error.reason}"
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
        ]
        if status == 405:
            headers.append(("Allow", ", ".join(METHODS)))
        elif status == 426:  # RFC 9110, section 15.5.22; RFC 6455, section 4.4
            headers += [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", VERSION)]
        self._send(Response(status, tuple(headers), f"{_status_text(status)}{text}\n".encode()))

    def _renew(self) -> None:
        super()._renew()
        self.request = self.response = None

    def _check(self, request: Request) -> None:
        """What holds for every request."""
        if request.method not in METHODS:
            raise HandshakeError(f"the method {request.method}, which is not GET or HEAD", status=405)
        sizes = request.values("Content-Length")
        if any(size.strip("0") for size in sizes) or request.values("Transfer-Encoding"):
            raise HandshakeError("a request with a body", "Content-Length", ", ".join(sizes) or None, 0, 400)

    def _send(self, response: Response) -> None:
        """Answer with a page.

        Raises:
            ValueError, h11.LocalProtocolError: If it cannot be sent; nothing is.
        """
        headers = [*response.headers, *self._server]
        bodiless = response.status in (204, 304)
        if response.values("Content-Length") or response.values("Transfer-Encoding") or (bodiless and response.body):
            raise ValueError(f"a response of status {response.status} whose size is not that of its body")
        if not bodiless:
            headers.append(("Content-Length", str(len(response.body))))
        head = h11.Response(status_code=response.status, headers=headers, reason=_phrase(response.status))
        self.response = response
        self._output += self._http.send(head) or b""
        if response.body and (self.request is None or self.request.method != "HEAD"):
            self._output += self._http.send(h11.Data(response.body)) or b""
        self._output += self._http.send(h11.EndOfMessage()) or b""

    def _open(self, request: Request, http_version: bytes) -> None:
        """Section 4.2.1, item by item, and 4.2.2."""
        if "websocket" not in _lower_tokens(request, "Upgrade"):
            value = _joined(request, "Upgrade")
            raise HandshakeError("a request that is not for a WebSocket", "Upgrade", value, status=426)
        if request.method != "GET" or http_version != b"1.1":
            raise HandshakeError("a WebSocket needs GET and HTTP/1.1", status=400)
        if "upgrade" not in _lower_tokens(request, "Connection"):
            raise _bad("Connection", _joined(request, "Connection"), "must have upgrade in it")
        version = _single(request, "Sec-WebSocket-Version")
        if version != VERSION:
            raise _bad("Sec-WebSocket-Version", version, f"must be {VERSION}", 400 if version is None else 426)
        key = _single(request, "Sec-WebSocket-Key")
        if key is None or not _is_key(key):
            raise _bad("Sec-WebSocket-Key", key, "must be 16 bytes in base64")
        self._check_origin(request)
        headers = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept_key(key))]
        offered = _parsed(request, "Sec-WebSocket-Protocol", parse_tokens)
        self.subprotocol = next((name for name in self._subprotocols if name in offered), None)
        if self.subprotocol is not None:
            headers.append(("Sec-WebSocket-Protocol", self.subprotocol))
        extensions = _parsed(request, "Sec-WebSocket-Extensions", parse_extensions)
        agreed = None if self._wish is None else accept_deflate(extensions, self._wish)
        if agreed is not None:
            self.deflate, answer = agreed
            headers.append(("Sec-WebSocket-Extensions", answer))
        headers += self._server
        event = h11.InformationalResponse(status_code=101, headers=headers, reason=_phrase(101))
        self._output += self._http.send(event) or b""
        self.response = Response(101, tuple(headers))
        self.opened = True

    def _check_origin(self, request: Request) -> None:
        origin = _single(request, "Origin")
        if origin is None:  # not a browser, for which alone this is (section 10.2)
            return
        if self._origins is None:
            allowed = is_same_origin(origin, _single(request, "Host") or "")
        elif callable(self._origins):
            allowed = self._origins(origin)
        else:
            allowed = origin.lower() in self._origins
        if not allowed:
            raise _bad("Origin", origin, "may not connect to this server", 403)


class ClientHandshake(Handshake):
    """A client's side: a request, and the answer. For the arguments see `ClientProtocol`."""

    def __init__(
        self,
        url: str,
        *,
        origin: str | None = None,
        subprotocols: Iterable[str] = (),
        headers: Iterable[tuple[str, str]] = (),
        deflate: bool | Deflate = True,
        max_head_size: int = MAX_HEAD_SIZE,
        max_header_count: int = MAX_HEADER_COUNT,
    ) -> None:
        super().__init__(h11.CLIENT, deflate, max_head_size, max_header_count)
        self.url = parse_url(url)
        self._subprotocols = _checked_subprotocols(subprotocols)
        self._key = new_key()
        self._body: bytearray | None = None  # of an answer that opens nothing
        fields = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", self._key),
            ("Sec-WebSocket-Version", VERSION),
        ]
        if origin is not None:
            fields.append(("Origin", origin))
        if self._subprotocols:
            fields.append(("Sec-WebSocket-Protocol", ", ".join(self._subprotocols)))
        if self._wish is not None:
            fields.append(("Sec-WebSocket-Extensions", offer_deflate(self._wish)))
        if self.url.authorization is not None:
            fields.append(("Authorization", self.url.authorization))
        for name, value in headers:
            if name.lower() in OURS or name.lower().startswith("sec-websocket-"):
                raise ValueError(f"headers must not have {name}, which belongs to the handshake")
            fields.append((name, value))
        if not any(name.lower() == "host" for name, _ in fields):
            fields.insert(0, ("Host", self.url.host_field))
        self.request = Request("GET", self.url.target, tuple(fields))
        try:
            request = h11.Request(method="GET", target=self.url.target, headers=fields)
            self._output += self._http.send(request) or b""
            self._output += self._http.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError as error:
            raise ValueError(f"headers cannot be sent: {error}") from None

    def _step(self) -> bool:
        while True:
            event = self._next_event()
            if event is None:
                if not self._eof_received:
                    return False
                if self._body is None:
                    raise IncompleteHandshake("the stream ended before an answer", head=self._head)
                self._refuse()
            elif isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    self._take_back()
                    self._open(Response(101, self._fields(event)))
                    return True
            elif isinstance(event, h11.Response):
                self.response = Response(event.status_code, self._fields(event))
                self._body = bytearray()
            elif isinstance(event, h11.Data):
                assert self._body is not None
                self._body += event.data
                if len(self._body) >= MAX_BODY_SIZE:
                    self._refuse()
            else:
                self._refuse()
            if self._body is not None:
                self._head_size = 0  # the limit is that of a head; of the body so much is kept and no more

    def _refuse(self) -> None:
        assert self.response is not None
        assert self._body is not None
        response = self.response
        self.response = Response(response.status, response.headers, bytes(self._body[:MAX_BODY_SIZE]))
        raise HandshakeRefused(response.status, response.headers, self.response.body)

    def _open(self, response: Response) -> None:
        """Section 4.1: what the answer must have."""
        self.response = response
        for name, value in (("Upgrade", "websocket"), ("Connection", "upgrade")):
            if value not in _lower_tokens(response, name):
                raise _bad(name, _joined(response, name), f"must have {value} in it")
        accept = _single(response, "Sec-WebSocket-Accept")
        if accept != accept_key(self._key):
            raise _bad("Sec-WebSocket-Accept", accept, "does not fit the key")
        subprotocol = _single(response, "Sec-WebSocket-Protocol")
        if subprotocol is not None and subprotocol not in self._subprotocols:
            raise _bad("Sec-WebSocket-Protocol", subprotocol, "was not offered")
        extensions = _parsed(response, "Sec-WebSocket-Extensions", parse_extensions)
        try:
            self.deflate = agree_on_deflate(extensions, self._wish)
        except ValueError as error:
            raise _bad("Sec-WebSocket-Extensions", _joined(response, "Sec-WebSocket-Extensions"), str(error)) from None
        self.subprotocol = subprotocol
        self.opened = True


def _bad(field: str, value: str | None, rule: str, status: int = 400) -> HandshakeError:
    text = f"{field} {'is missing and' if value is None else repr(value)} {rule}"
    return HandshakeError(text, field, value, status=status)


def _joined(head: Head, name: str) -> str | None:
    return ", ".join(head.values(name)) or None


def _single(head: Head, name: str) -> str | None:
    """The value of a field that stands there once at most."""
    values = head.values(name)
    if len(values) > 1:
        raise _bad(name, ", ".join(values), "must not be there more than once")
    return values[0] if values else None


def _parsed(head: Head, name: str, parse: Callable[[list[str]], Any]) -> Any:
    values = head.values(name)
    try:
        return parse(values)
    except ValueError as error:
        raise _bad(name, ", ".join(values), f"has {error}") from None


def _lower_tokens(head: Head, name: str) -> list[str]:
    # Not parse_tokens(): other protocols that are proposed in Upgrade have slashes in them.
    return [token.strip().lower() for value in head.values(name) for token in value.split(",")]


def _is_key(key: str) -> bool:
    try:
        return len(key) == 24 and len(b64decode(key, validate=True)) == 16
    except ValueError:
        return False


def _checked_subprotocols(subprotocols: Iterable[str]) -> tuple[str, ...]:
    names = (subprotocols,) if isinstance(subprotocols, str) else tuple(subprotocols)
    if isinstance(subprotocols, str) or len(set(names)) < len(names):
        raise ValueError(f"subprotocols must be different names, not {subprotocols!r}")
    for name in names:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"a subprotocol must be a name of letters, digits and !#$%&'*+-.^_`|~, not {name!r}")
    return names


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _status_text(status: int) -> str:
    return f"{status} {_phrase(status)}".rstrip()
