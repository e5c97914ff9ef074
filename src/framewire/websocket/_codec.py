"""The codec in use: that of the core in use (see `framewire.CORE`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core import CORE
from .._websocket_py import Close, Deflate, Message, Part, Ping, Pong

if TYPE_CHECKING or CORE == "py":
    from .._websocket_py import MessageDecoder, MessageEncoder, mask
else:
    from framewire._core_c import MessageDecoder, MessageEncoder, mask

__all__ = ["Close", "Deflate", "Message", "MessageDecoder", "MessageEncoder", "Part", "Ping", "Pong", "mask"]
