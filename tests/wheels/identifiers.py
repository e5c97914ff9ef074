"""Whether the configuration of cibuildwheel names the wheels that a release is to have: those of identifiers.txt."""

from __future__ import annotations

import sys
from pathlib import Path

from .commands import ROOT, run

LIST = Path(__file__).with_name("identifiers.txt")
PLATFORMS = {"linux": "x86_64,aarch64,armv7l", "macos": "arm64,x86_64", "windows": "AMD64,ARM64"}


def expected() -> set[str]:
    return set(LIST.read_text("utf-8").split())


def configured() -> set[str]:
    """What cibuildwheel would build, asked of it: no container is needed for that.

    Raises:
        Failed: If it refuses the configuration.
    """
    found: set[str] = set()
    for platform, archs in PLATFORMS.items():
        command = [sys.executable, "-I", "-m", "cibuildwheel", "--print-build-identifiers", "--platform", platform]
        found |= set(run(f"identifiers-{platform}", [*command, "--archs", archs, ROOT]).split())
    return found


def differences() -> list[str]:
    """What is built and not listed, and the other way round."""
    listed, built = expected(), configured()
    more = [f"built, but not in {LIST.name}: {name}" for name in sorted(built - listed)]
    return more + [f"in {LIST.name}, but not built: {name}" for name in sorted(listed - built)]
