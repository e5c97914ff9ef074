"""The versions of each host that its drop-in is known to fit: the first and the last, both included.

They stand here, and not only with the drop-ins, because some of these cannot be imported without their host.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from . import UnsupportedVersion

__all__ = ["CPYTHON", "HIREDIS", "TWISTED", "WEBSOCKETS", "WSPROTO", "Versions", "check", "known", "text"]

Versions: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]

CPYTHON: Versions = ((3, 10), (3, 15))
HIREDIS: Versions = ((3,), (3,))
TWISTED: Versions = ((24,), (26,))
WEBSOCKETS: Versions = ((12,), (17,))
WSPROTO: Versions = ((1, 0), (1, 3))


def known(version: str, versions: Versions) -> bool:
    """Whether a version is one of these. The last one stands for all that begin with its numbers.

    >>> known("1.3.2", ((1, 0), (1, 3))), known("1.4.0", ((1, 0), (1, 3)))
    (True, False)
    """
    first, last = versions
    release = tuple(map(int, re.findall(r"\d+", version.partition("+")[0])))
    return first <= release[: len(first)] and release[: len(last)] <= last


def text(versions: Versions) -> str:
    """As people write it.

    >>> text(((1, 0), (1, 3))), text(((3,), (3,)))
    ('1.0 to 1.3', '3')
    """
    first, last = (".".join(map(str, version)) for version in versions)
    return first if first == last else f"{first} to {last}"


def check(host: str, version: str, versions: Versions) -> None:
    """Refuse what is not known to fit.

    Raises:
        UnsupportedVersion: If this version of the host is not one of these.
    """
    if not known(version, versions):
        module = f"framewire.dropin.{host.lower()}"
        raise UnsupportedVersion(f"{host} {version}: {module} fits {host} {text(versions)}")
