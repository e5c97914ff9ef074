"""A web server that plays a part: it serves the pages, and at ``/ws`` the test itself says what the server says.

::

    with Mock("chat.html") as mock:
        ...                               a browser opens mock.url, somebody joins
        peer = mock.accept()
        assert peer.receive() == {"type": "join", "name": "ann"}
        peer.send(type="welcome", name="ann", members=["ann"], time=0.0)

Its WebSocket is the least that a browser needs, written anew with nothing of framewire in it: text messages in one
frame each, no fragments, no compression (RFC 6455).
"""

from __future__ import annotations

import base64
import hashlib
import json
import queue
import socket
import struct
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

import framewire.servers

PAGES = Path(framewire.servers.__file__).parent / "web"

TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""As strict as the pages have to live with."""

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
TEXT, CLOSE = 1, 8  # opcodes; RFC 6455, 5.2

PATIENCE = 60
"""Seconds after which what should have come is a failure."""


class Peer:
    """The page, as the server sees it."""

    def __init__(self, connection: socket.socket, file: BinaryIO) -> None:
        self._socket = connection
        self._file = file
        self._inbox: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def send(self, **message: Any) -> None:
        self.send_text(json.dumps(message))

    def send_text(self, text: str) -> None:
        self._send(TEXT, text.encode())

    def receive(self) -> dict[str, Any] | None:
        """The next message; None at the end, in whatever way it comes."""
        return self._inbox.get(timeout=PATIENCE)

    def close(self) -> None:
        """End it as a server should."""
        self._send(CLOSE, struct.pack("!H", 1000))

    def drop(self) -> None:
        """Break it off."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def read(self) -> None:
        """Put all that comes into the inbox, until the end."""
        with suppress(OSError, struct.error):  # cut off, also in the middle
            while (frame := self._receive())[0] == TEXT:
                self._inbox.put(json.loads(frame[1]))
        self._inbox.put(None)

    def _send(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            length = struct.pack("!B", size)
        elif size < 2**16:
            length = struct.pack("!BH", 126, size)
        else:
            length = struct.pack("!BQ", 127, size)
        self._socket.sendall(bytes([0x80 | opcode]) + length + payload)

    def _receive(self) -> tuple[int, bytes]:
        first, size = struct.unpack("!BB", self._file.read(2))
        size &= 0x7F  # the bit above tells of the mask; a page always masks
        if size == 126:
            (size,) = struct.unpack("!H", self._file.read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._file.read(8))
        key = self._file.read(4)
        return first & 0x0F, bytes(byte ^ key[i % 4] for i, byte in enumerate(self._file.read(size)))


class Mock(ThreadingHTTPServer):
    """Serves a page, and all that belongs to it.

    Args:
        page: What stands at ``/``: ``chat.html``.
    """

    daemon_threads = False  # so that the end of the context is theirs, too

    def __init__(self, page: str) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.page = page
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.missing: list[str] = []
        """The paths that were asked for and are not there."""
        self.peers: queue.Queue[Peer] = queue.Queue()
        self._errors: list[BaseException] = []
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))

    def accept(self) -> Peer:
        """The next connection of the page."""
        return self.peers.get(timeout=PATIENCE)

    def __enter__(self) -> Mock:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.shutdown()
        self._thread.join()
        for connection in self._sockets:  # a browser keeps some in reserve, on which nothing ever comes
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()
        assert not self._errors, self._errors

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._sockets.append(connection)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):  # the browser may always go
            self._errors.append(error)


class Request(BaseHTTPRequestHandler):
    """One request of the browser."""

    server: Mock

    def do_GET(self) -> None:
        if self.path == "/ws":
            self._talk()
        else:
            self._serve(PAGES / (self.path[1:] or self.server.page))

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self, path: Path) -> None:
        if path.parent != PAGES or not path.is_file():
            self.server.missing.append(self.path)
            self.send_error(404)
            return
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", f"{TYPES[path.suffix]}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def _talk(self) -> None:
        key = self.headers["Sec-WebSocket-Key"].encode()
        self.protocol_version = "HTTP/1.1"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key + GUID).digest()).decode())
        self.end_headers()
        self.close_connection = True
        peer = Peer(self.connection, self.rfile)
        self.server.peers.put(peer)
        peer.read()
