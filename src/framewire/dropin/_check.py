"""What of the hosts is here, and whether the drop-ins would take it: what ``python -m framewire.dropin`` tells."""

from __future__ import annotations

import platform
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any

from .. import CORE, CORE_ERROR, __version__
from . import UnsupportedVersion, _versions
from ._versions import Versions

__all__ = ["HOSTS", "Host", "check", "table"]


@dataclass(frozen=True)
class Host:
    """A library that a drop-in is for.

    Attributes:
        name: Of the library, and of the drop-in's module.
        distribution: What it is called where it is installed from; None if it comes with Python.
        versions: Those that are known to fit, the first and the last.
        offers: How a program gets the drop-in.
        seams: What ``install`` can replace.
    """

    name: str
    distribution: str | None
    versions: Versions
    offers: tuple[str, ...]
    seams: tuple[str, ...]

    def installed(self) -> str | None:
        """The version that is here; None if there is none."""
        if self.distribution is None:
            return platform.python_version()
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None

    def refusal(self) -> str | None:
        """Why what is here would not do; None if it does. It is tried: put in place, and taken back."""
        try:
            module = import_module(f"framewire.dropin.{self.name}")
            with getattr(module, "patched", nullcontext)():
                return None
        except UnsupportedVersion as error:
            return str(error)
        except Exception as error:  # a host that is broken is one more answer
            return f"{type(error).__name__}: {error}"


HOSTS = (
    Host("asyncio", None, _versions.CPYTHON, ("subclass", "install"), ("StreamReader",)),
    Host("hiredis", "hiredis", _versions.HIREDIS, ("class",), ()),
    Host("multiprocessing", None, _versions.CPYTHON, ("subclass", "install"), ("Connection",)),
    Host("twisted", "Twisted", _versions.TWISTED, ("subclass", "install"), ("protocols.basic",)),
    Host("websockets", "websockets", _versions.WEBSOCKETS, ("mixin", "install"), ("frame", "protocol", "mask")),
    Host("wsproto", "wsproto", _versions.WSPROTO, ("class", "install"), ("decoder", "masker")),
)


def check() -> dict[str, Any]:
    """Everything that is known, as JSON has it. ``accepted`` is None for what is not installed."""
    hosts = []
    for host in HOSTS:
        installed = host.installed()
        reason = None if installed is None else host.refusal()
        hosts.append(
            {
                "host": host.name,
                "installed": installed,
                "known": _versions.text(host.versions),
                "offers": list(host.offers),
                "seams": list(host.seams),
                "accepted": None if installed is None else reason is None,
                "reason": reason,
            }
        )
    return {
        "framewire": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "core": "compiled" if CORE == "c" else "pure",
        "core_reason": CORE_ERROR,
        "hosts": hosts,
    }


def table(found: dict[str, Any]) -> str:
    """What `check` has found, for people."""
    why = f" ({found['core_reason']})" if found["core_reason"] else ""
    rows = [("host", "installed", "known to fit", "offers", "seams", "accepted")]
    rows += [
        (
            one["host"],
            one["installed"] or "not installed",
            one["known"],
            ", ".join(one["offers"]),
            ", ".join(one["seams"]) or "-",
            {None: "-", True: "yes", False: f"no: {one['reason']}"}[one["accepted"]],
        )
        for one in found["hosts"]
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([f"framewire {found['framewire']}, {found['python']}, {found['core']} core{why}", "", *lines])
