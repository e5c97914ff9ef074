"""What the numbers depend on: the machine, Python, and all versions."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from .. import CORE, CORE_ERROR, __version__
from .libraries import absent, versions

VARIES = ("when", "load")
"""What may differ between two runs that are to be compared."""


def setting(run: str) -> dict[str, str]:
    """
    Args:
        run: What is asked for.
    """
    core = "compiled core" if CORE == "c" else f"pure core ({CORE_ERROR})"
    found = {
        "framewire": __version__,
        "core": core,
        "python": python(),
        "machine": f"{processor()} x {os.cpu_count()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "peers": ", ".join(f"{name} {version}" for name, version in versions().items()) or "none",
        "not installed": ", ".join(absent()) or "none",
        "run": run,
        "when": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
    with suppress(AttributeError, OSError):  # Windows has none
        found["load"] = f"{os.getloadavg()[0]:.1f}"
    return found


def python() -> str:
    text = f"{platform.python_implementation()} {platform.python_version()}"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        text += " free-threaded"
    if hasattr(sys, "gettotalrefcount"):
        text += " debug build"
    if sys.flags.dev_mode:
        text += " -X dev"
    if allocator := os.environ.get("PYTHONMALLOC"):
        text += f" PYTHONMALLOC={allocator}"
    return text


def processor() -> str:
    """Its name, as well as the system can tell."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    if sys.platform == "darwin":
        with suppress(OSError, subprocess.SubprocessError):
            command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    return platform.processor() or platform.machine()
