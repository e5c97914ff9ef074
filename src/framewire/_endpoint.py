"""Chooses the endpoint and the selector that go with the core in force."""

from __future__ import annotations

from selectors import BaseSelector, DefaultSelector
from typing import TYPE_CHECKING

from ._core import CORE

if not TYPE_CHECKING and CORE == "c":
    from ._core_c import HAS_EPOLL, HAS_SOCKETS
else:
    HAS_EPOLL = HAS_SOCKETS = False

if TYPE_CHECKING or not HAS_SOCKETS:
    from ._endpoint_py import Endpoint, Turn, flush_all, send_to_all
else:
    from ._core_c import Endpoint, Turn, flush_all, send_to_all

__all__ = ["Endpoint", "Turn", "flush_all", "new_selector", "send_to_all"]


def new_selector() -> BaseSelector:
    """The fastest selector that there is."""
    if HAS_EPOLL:
        from ._selector import CompiledEpollSelector

        return CompiledEpollSelector()
    return DefaultSelector()
