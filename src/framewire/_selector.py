"""The selector of the standard library for epoll, with a compiled wait."""

from __future__ import annotations

import math
from selectors import EpollSelector, SelectorKey
from typing import TYPE_CHECKING, Any

from ._core_c import EpollWaiter  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from typing import TypeAlias

    Ready: TypeAlias = list[tuple[SelectorKey, int]]


LONGEST_WAIT = 2**31 - 1
"""Milliseconds in one wait at most: they are counted in 32 bits."""


class CompiledEpollSelector(EpollSelector):
    """``selectors.EpollSelector`` whose `select` makes no object for an event that has come before."""

    def __init__(self) -> None:
        super().__init__()
        self._waiter = EpollWaiter(self.fileno())

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        key = super().register(fileobj, events, data)
        self._waiter.keep(key)
        return key

    def unregister(self, fileobj: Any) -> SelectorKey:
        key = super().unregister(fileobj)
        self._waiter.forget(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        key: SelectorKey = super().modify(fileobj, events, data)
        self._waiter.keep(key)
        return key

    def select(self, timeout: float | None = None) -> Ready:
        if timeout is None:
            return self._waiter.wait(-1)  # type: ignore[no-any-return]
        ready: Ready = self._waiter.wait(min(math.ceil(timeout * 1000), LONGEST_WAIT) if timeout > 0 else 0)
        return ready
