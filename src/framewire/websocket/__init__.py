r"""WebSocket (RFC 6455): messages in the frames that browsers speak, with compression (RFC 7692).

>>> from framewire.websocket import MessageDecoder, MessageEncoder
>>> MessageDecoder("client").feed(MessageEncoder("server").encode_many(["hello", b"world"]))
['hello', b'world']

What stands on what::

    websocket.blocking  websocket.aio  websocket.loop      drivers: a thread a connection | asyncio | the event loop
              ServerProtocol, ClientProtocol               a connection without I/O
      opening handshake       MessageDecoder, MessageEncoder
      (HTTP, by h11)          (frames and messages; need nothing but framewire)

The handshake, and so all above it, needs h11: ``pip install framewire[web]``. Those names are loaded when they are
first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ._codec import Close, Deflate, Message, MessageDecoder, MessageEncoder, Part, Ping, Pong, mask

if TYPE_CHECKING:
    from .handshake import HandshakeError, HandshakeRefused, IncompleteHandshake, Request, Response
    from .loop import Client, Server, WebSocketChannel
    from .protocol import ClientProtocol, ServerProtocol, State

__all__ = [
    "Client",
    "ClientProtocol",
    "Close",
    "Deflate",
    "HandshakeError",
    "HandshakeRefused",
    "IncompleteHandshake",
    "Message",
    "MessageDecoder",
    "MessageEncoder",
    "Part",
    "Ping",
    "Pong",
    "Request",
    "Response",
    "Server",
    "ServerProtocol",
    "State",
    "WebSocketChannel",
    "mask",
]

_LATER = {
    **dict.fromkeys(["HandshakeError", "HandshakeRefused", "IncompleteHandshake", "Request", "Response"], "handshake"),
    **dict.fromkeys(["ClientProtocol", "ServerProtocol", "State"], "protocol"),
    **dict.fromkeys(["Client", "Server", "WebSocketChannel"], "loop"),
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
