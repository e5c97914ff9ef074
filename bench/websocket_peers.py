"""What people use for WebSockets today, on the same messages and, to decode, on the same chunks.

Each decoder wears `feed`, and each encoder `encode`, so that the loops run them; each is driven below its sockets, by
what a driver of its own would call. None checks less than it does in use; limits on sizes are lifted.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import limits

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
"""The opening handshake of RFC 6455, section 1.3: picows has no way around it."""


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.write = self.sent.append
        self.socket = socket.socket()

    def __del__(self) -> None:
        self.socket.close()

    def writelines(self, parts: Sequence[Any]) -> None:
        self.sent += map(bytes, parts)  # picows: a header in memory that it uses again

    def get_extra_info(self, name: str) -> Any:
        return {"socket": self.socket, "ssl_object": self}.get(name)  # with TLS it does not send by itself

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False


class PicowsDecoder:
    """picows's protocol, through the window that it lends a transport; a listener takes each frame's payload."""

    def __init__(self, *, text: bool, deflate: bool) -> None:
        self.payloads: list[Any] = []
        loop = asyncio.new_event_loop()
        self.protocol = loop.run_until_complete(self.connect(self.listener(text)))
        loop.close()
        self.receive(UPGRADE)

    def listener(self, text: bool) -> Any:
        take = self.payloads.append

        class Taker(import_module("picows").WSListener):  # type: ignore[misc]
            def on_ws_connected(self, transport: Any) -> None: ...

            def on_ws_frame(self, transport: Any, frame: Any) -> None:
                take(frame.get_payload_as_utf8_text() if text else frame.get_payload_as_bytes())

        return Taker()

    async def connect(self, listener: Any) -> Any:
        picows = import_module("picows.picows")
        protocol = picows.WSProtocol(
            host_port=None,
            ws_path=None,
            is_client_side=False,
            ws_listener_factory=lambda request: listener,
            logger=logging.getLogger("picows"),
            disconnect_on_exception=False,
            websocket_handshake_timeout=None,
            enable_auto_ping=False,
            auto_ping_idle_timeout=1,
            auto_ping_reply_timeout=1,
            auto_ping_strategy=picows.WSAutoPingStrategy.PING_WHEN_IDLE,
            enable_auto_pong=False,
            max_frame_size=2**62,
            extra_headers=None,
            read_buffer_init_size=128 * 1024,
        )
        protocol.connection_made(Transport())
        return protocol

    def receive(self, chunk: bytes) -> None:
        pos, end = 0, len(chunk)
        while pos < end:
            n = limits.fill(self.protocol.get_buffer(-1), chunk, pos)
            self.protocol.buffer_updated(n)
            pos += n

    def feed(self, chunk: bytes) -> list[Any]:
        self.receive(chunk)
        completed = self.payloads[:]
        self.payloads.clear()
        return completed


class CompiledPicowsDecoder(PicowsDecoder):
    """The same with a listener in Cython, which the peers otherwise have no use for."""

    def listener(self, text: bool) -> Any:
        package = Path(import_module("picows").__file__ or "").parent
        return limits.load("_picows", package).Taker(self.payloads, text)


class AiohttpDecoder:
    """aiohttp's compiled reader, and the queue it fills; the queue is emptied the shortest way."""

    def __init__(self, *, text: bool, deflate: bool) -> None:
        reader = import_module("aiohttp._websocket.reader_c")
        self.queue = reader.WebSocketDataQueue(SimpleNamespace(_reading_paused=False), 2**31 - 1, loop=None)
        self.reader = reader.WebSocketReader(self.queue, 0, deflate, True)

    def feed(self, chunk: bytes) -> list[Any]:
        self.reader.feed_data(chunk)
        queued = self.queue._buffer
        completed = [message[1] for message, _ in queued]
        queued.clear()
        return completed


class WebsocketsDecoder:
    """websockets' Sans-I/O protocol."""

    def __init__(self, *, text: bool, deflate: bool) -> None:
        self.protocol = _websockets("SERVER", deflate)
        self.text = text

    def feed(self, chunk: bytes) -> list[Any]:
        self.protocol.receive_data(chunk)
        frames = self.protocol.events_received()
        return [frame.data.decode() for frame in frames] if self.text else [frame.data for frame in frames]


class WsprotoDecoder:
    """wsproto's connection, which hands messages out in the parts in which they come."""

    def __init__(self, *, text: bool, deflate: bool) -> None:
        self.connection = _wsproto("SERVER", deflate)
        self.parts: list[Any] = []
        self.join = ("" if text else b"").join

    def feed(self, chunk: bytes) -> list[Any]:
        completed: list[Any] = []
        parts = self.parts
        self.connection.receive_data(chunk)
        for event in self.connection.events():
            parts.append(event.data)
            if event.message_finished:
                completed.append(self.join(parts) if len(parts) > 1 else parts[0])
                parts.clear()
        return completed


class PicowsEncoder:
    """picows's transport, on one that keeps what it is given."""

    def __init__(self, *, client: bool, deflate: bool) -> None:
        picows = import_module("picows")
        self.types = picows.WSMsgType
        self.below = Transport()
        loop = asyncio.new_event_loop()
        self.transport = picows.WSTransport(client, self.below, logging.getLogger("picows"), loop)
        loop.close()

    def encode(self, messages: list[Any]) -> list[bytes]:
        kind = self.types.TEXT if isinstance(messages[0], str) else self.types.BINARY
        send = self.transport.send
        for message in messages:
            send(kind, message)
        return self.below.sent


class AiohttpEncoder:
    """aiohttp's writer, awaited as its users do."""

    def __init__(self, *, client: bool, deflate: bool) -> None:
        self.below = Transport()
        self.writer = import_module("aiohttp._websocket.writer").WebSocketWriter(
            SimpleNamespace(_paused=False), self.below, use_mask=client, compress=15 if deflate else 0
        )

    def encode(self, messages: list[Any]) -> list[bytes]:
        asyncio.run(self.send(messages))
        return self.below.sent

    async def send(self, messages: list[Any]) -> None:
        send = self.writer.send_frame
        if isinstance(messages[0], str):
            for message in messages:
                await send(message.encode(), 1)
        else:
            for message in messages:
                await send(message, 2)


class WebsocketsEncoder:
    """websockets' Sans-I/O protocol; what is to be sent is taken after each message."""

    def __init__(self, *, client: bool, deflate: bool) -> None:
        self.protocol = _websockets("CLIENT" if client else "SERVER", deflate)

    def encode(self, messages: list[Any]) -> list[bytes]:
        sent: list[bytes] = []
        protocol = self.protocol
        if isinstance(messages[0], str):
            for message in messages:
                protocol.send_text(message.encode())
                sent += protocol.data_to_send()
        else:
            for message in messages:
                protocol.send_binary(message)
                sent += protocol.data_to_send()
        return sent


class WsprotoEncoder:
    """wsproto's connection."""

    def __init__(self, *, client: bool, deflate: bool) -> None:
        self.connection = _wsproto("CLIENT" if client else "SERVER", deflate)

    def encode(self, messages: list[Any]) -> list[bytes]:
        events = import_module("wsproto.events")
        event = events.TextMessage if isinstance(messages[0], str) else events.BytesMessage
        send = self.connection.send
        return [send(event(data=message)) for message in messages]


def _websockets(side: str, deflate: bool) -> Any:
    of = import_module("websockets.protocol")
    protocol = of.Protocol(of.Side[side], state=of.State.OPEN, max_size=None)
    if deflate:
        extension = import_module("websockets.extensions.permessage_deflate").PerMessageDeflate
        protocol.extensions = [extension(False, False, 15, 15)]
    return protocol


def _wsproto(side: str, deflate: bool) -> Any:
    of = import_module("wsproto.connection")
    extensions = []
    if deflate:
        extensions.append(import_module("wsproto.extensions").PerMessageDeflate())
        extensions[0].finalize("permessage-deflate")  # nothing but the defaults was agreed on
    return of.Connection(of.ConnectionType[side], extensions)


LIBRARIES = ("picows", "aiohttp", "websockets", "wsproto")

DECODERS: dict[str, Callable[..., Any]] = {
    "picows": PicowsDecoder,
    "picows, compiled": CompiledPicowsDecoder,
    "aiohttp": AiohttpDecoder,
    "websockets": WebsocketsDecoder,
    "wsproto": WsprotoDecoder,
}
ENCODERS: dict[str, Callable[..., Any]] = {
    "picows": PicowsEncoder,
    "aiohttp": AiohttpEncoder,
    "websockets": WebsocketsEncoder,
    "wsproto": WsprotoEncoder,
}
WITHOUT_DEFLATE = {"picows", "picows, compiled"}
"""Leaves permessage-deflate to its users."""
