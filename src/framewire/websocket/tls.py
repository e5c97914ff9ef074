"""WebSocket channels over TLS: ``wss:``."""

from ..tls import TlsChannel
from .loop import WebSocketChannel


class TlsWebSocketChannel(WebSocketChannel, TlsChannel):
    """A `WebSocketChannel` over TLS."""
