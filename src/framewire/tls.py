"""Channels over TLS."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, Any

from ._endpoint_py import DIRECT_SIZE, LARGE_SIZE, READ_SIZE
from .channel import Channel, Handler, State

if TYPE_CHECKING:
    from .loop import Loop, Settings

TLS_READ_SIZE = 16 * 1024
"""Most bytes in a record of TLS (RFC 8446, section 5.1), which OpenSSL gives out one at a time."""


class TlsChannel(Channel):
    """A channel over TLS. What the protocol itself has to say may turn a read into a write, and the other way round."""

    __slots__ = ("_read_wants_write", "_secure", "_server_side", "_write_wants_read")

    def __init__(self, loop: Loop, handler: Handler, settings: Settings, peername: Any, *, server_side: bool) -> None:
        super().__init__(loop, handler, settings, peername)
        self.plain = False
        self._server_side = server_side
        self._secure = False  # the handshake is done
        self._read_wants_write = self._write_wants_read = False

    def resume_reading(self) -> None:
        super().resume_reading()
        if not self._pauses:
            self.loop.call_soon(self._read_again)  # as in receive()

    def send_eof(self) -> None:
        raise NotImplementedError("a TLS connection cannot be half-closed: close() it")

    def start(self, sock: socket.socket) -> None:
        settings = self.settings
        assert settings.tls is not None
        self._state = State.HANDSHAKING
        try:
            self.attach(
                settings.tls.wrap_socket(
                    sock,
                    server_side=self._server_side,
                    server_hostname=None if self._server_side else settings.server_hostname,
                    do_handshake_on_connect=False,
                    suppress_ragged_eofs=False,
                )
            )
        except (OSError, ValueError) as error:
            sock.close()
            self._disconnect(error)
            return
        self.blocked = True
        late = TimeoutError(f"no TLS handshake in {settings.handshake_timeout:g} s")
        self._set_timer(settings.handshake_timeout, self._disconnect, late)
        self._shake()

    def _shake(self) -> None:
        assert self.sock is not None
        try:
            self.sock.do_handshake()  # type: ignore[attr-defined]
        except OSError as error:
            if isinstance(error, ssl.SSLWantReadError):
                self._watch(EVENT_READ)
            elif isinstance(error, ssl.SSLWantWriteError):
                self._watch(EVENT_WRITE)
            else:
                self._disconnect(error)
        else:
            self._watch(0)
            self.blocked = False
            self._set_timer(None)
            self._secure = True
            self._open()
            self._read_again()  # a message may have come together with the end of the handshake

    def ready(self, events: int) -> None:
        if not self._secure:
            self._shake()
            return
        if events & EVENT_READ and self._write_wants_read:
            self.flush()
            self.flushed()
        if events & EVENT_WRITE and self._read_wants_write:
            self._watch(self._interest & ~EVENT_WRITE if not self.unsent_size else self._interest)
            self._read_again()
        super().ready(events)

    def _read_again(self) -> None:
        if self._interest & EVENT_READ:
            super().ready(EVENT_READ)

    def receive(self) -> list[bytes]:
        assert self.sock is not None
        decoder, memory = self.decoder, memoryview(bytearray(TLS_READ_SIZE))
        payloads: list[bytes] = []
        before = self.received_size
        self._read_wants_write = False
        try:
            while not self.ended and self.received_size - before < READ_SIZE:
                if decoder.needed_size >= DIRECT_SIZE:
                    payloads += self.received(self.sock.recv_into(decoder.get_buffer(READ_SIZE)), None)
                else:
                    n = self.sock.recv_into(memory)
                    payloads += self.received(n, memory[:n])
        except (ssl.SSLWantReadError, BlockingIOError, InterruptedError):
            return payloads
        except ssl.SSLWantWriteError:
            self._read_wants_write = True
            self._watch(self._interest | EVENT_WRITE)
            return payloads
        except OSError:
            if not payloads:
                raise
            # The payloads before it come first. The next read meets the error again.
        if not self.ended:
            self.loop.call_soon(self._read_again)  # OpenSSL may hold bytes that no selector sees
        return payloads

    def flush(self) -> bool:
        if not self.unsent_size or self.sock is None or not self._secure:
            return not self.unsent_size
        self._write_wants_read = False
        try:
            while self.unsent_size:
                # If this has to be tried again, OpenSSL must find the same bytes at its begin.
                self.sent(self.sock.send(self._record()))
        except (ssl.SSLWantWriteError, BlockingIOError, InterruptedError):
            self.blocked = True
            return False
        except ssl.SSLWantReadError:
            self.blocked = self._write_wants_read = True
            return False
        except OSError as error:
            self.lose(error)
            return True
        self.blocked = False
        return True

    def _record(self) -> bytes | memoryview:
        """About what goes into one record of TLS: small buffers joined, or a part of a large one."""
        buffers = self.unsent()
        if len(buffers[0]) >= TLS_READ_SIZE or len(buffers) == 1:
            return memoryview(buffers[0])[:LARGE_SIZE]
        size = count = 0
        while count < len(buffers) and size < TLS_READ_SIZE:
            size += len(buffers[count])
            count += 1
        return b"".join([*buffers[: count - 1], memoryview(buffers[count - 1])[:LARGE_SIZE]])

    def _half_close(self) -> bool:
        assert self.sock is not None
        try:
            self.sock.unwrap()  # type: ignore[attr-defined]
        except ssl.SSLWantWriteError:
            return False
        except ssl.SSLError:
            pass  # our part was sent; it wants the peer's, or is taken aback by what came instead
        with suppress(OSError):  # the peer has gone
            socket.socket.shutdown(self.sock, socket.SHUT_WR)
        return True
