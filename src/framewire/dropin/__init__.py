"""Backends that give existing libraries framewire's framing layer: a module for each, wearing that library's interface.

Nothing here changes a library by being imported. Where a library makes its objects itself, so that no class of ours
could be passed to it, its module has ``install()``, ``uninstall()``, ``installed()`` and the context manager
``patched()``.
"""

from __future__ import annotations

__all__ = ["UnsupportedVersion"]


class UnsupportedVersion(RuntimeError):
    """The library, or the platform, is none that this backend is known to fit; nothing was changed."""
