"""Puts other objects in the place of a library's own, and the very same ones back.

_patch = Patch(changes)           changes() -> [(module or class, name, new), ...]
install, uninstall, installed, patched = _patch.install, _patch.uninstall, _patch.installed, _patch.patched
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

__all__ = ["Patch"]

_ABSENT = object()


class Patch:
    """A set of attributes that are replaced together.

    Args:
        changes: Called by each `install` that has something to do; returns ``(owner, name, new)`` for each attribute
            to replace. This is where to import the library, and to raise `UnsupportedVersion`: nothing has been
            changed by then.
    """

    def __init__(self, changes: Callable[[], Iterable[tuple[Any, str, Any]]]) -> None:
        self._changes = changes
        self._lock = RLock()
        self._done: list[tuple[Any, str, Any, Any]] = []  # owner, name, old, new

    def install(self) -> None:
        """Replace the library's own objects. Once it is done, calling again changes nothing.

        Raises:
            UnsupportedVersion: If the library is of a version that is not known to fit; nothing was changed.
        """
        with self._lock:
            if self._done:
                return
            try:
                for owner, name, new in list(self._changes()):
                    # Not getattr(): what a class inherits is not its own, and its methods come as other objects.
                    old = vars(owner).get(name, _ABSENT)
                    setattr(owner, name, new)
                    self._done.append((owner, name, old, new))
            except BaseException:
                self._restore()
                raise

    def uninstall(self) -> None:
        """Put back the very objects that `install` has replaced; without an `install` it does nothing.

        Raises:
            RuntimeError: If somebody else has replaced one of them since, and would lose it; nothing was changed.
        """
        with self._lock:
            for owner, name, _, new in self._done:
                if vars(owner).get(name, _ABSENT) is not new:
                    raise RuntimeError(f"{owner.__name__}.{name} was replaced again since install(): undo that first")
            self._restore()

    def installed(self) -> bool:
        """Whether the library uses the replacements now."""
        return bool(self._done)

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Have the replacements in place inside a ``with`` block, and afterwards what was there before it.

        Blocks can be nested; inside or after an `install` one changes nothing.

        Raises:
            UnsupportedVersion: As `install`.
        """
        before = self.installed()
        self.install()
        try:
            yield
        finally:
            if not before:
                self.uninstall()

    def _restore(self) -> None:
        while self._done:
            owner, name, old, _ = self._done.pop()
            if old is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, old)
