"""Who is here: the cores, and the peers that are installed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .. import CORE, Decoder, Encoder, _core_py
from .contest import COMPILED, PURE

MODULES = {
    "Twisted": "twisted.protocols.basic",
    "msgpack": "msgpack",
    "hiredis": "hiredis",
    "multiprocessing": "multiprocessing.connection",
}
"""What is imported of each peer; all of the others are a few lines of Python, or asyncio."""


def cores() -> dict[str, tuple[Any, Any]]:
    """Decoder and Encoder of the core in force, and of the pure one."""
    pure = (_core_py.Decoder, _core_py.Encoder)
    return {COMPILED: (Decoder, Encoder), PURE: pure} if CORE == "c" else {PURE: pure}


@cache
def library(name: str) -> Any:
    """Its module; None if it is not here, or cannot be imported."""
    try:
        return import_module(MODULES[name])
    except ImportError:
        return None


def absent() -> list[str]:
    return [name for name in MODULES if library(name) is None]


def versions(names: Iterable[str] = ("Twisted", "msgpack", "hiredis")) -> dict[str, str]:
    """Of the peers that are here and are no part of Python."""
    found = {}
    for name in names:
        if library(name) is not None:
            try:
                found[name] = version(name)
            except PackageNotFoundError:  # copied there, not installed
                found[name] = "unknown"
    return found
