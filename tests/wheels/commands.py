"""Runs programs in an environment of nothing but what they need, with a log each."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "wheels"
LOGS = WORK / "logs"
SHOWN = 30
"""Lines of a log in the error."""

STRANGERS = ("FRAMEWIRE_", "PYTHON", "CFLAGS", "LDFLAGS", "CPPFLAGS", "LDSHARED", "VIRTUAL_ENV", "PYTEST_")
"""Variables of the caller that would change what is built or tested begin so."""

EPOCH = "1700000000"
"""SOURCE_DATE_EPOCH where the caller has set none: the time of every file in a wheel, so that two builds are equal."""


class Failed(Exception):
    """A program failed: the text is the end of its log."""


def environment(**changes: str) -> dict[str, str]:
    """The caller's environment without what would reach into a build or a test."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(STRANGERS)}
    clean.setdefault("SOURCE_DATE_EPOCH", EPOCH)
    return {**clean, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **changes}


def run(
    log: str,
    command: Sequence[str | Path],
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    limit: float = 1800.0,
) -> str:
    """Run a command to its end, and return what it wrote. `log` names the file that keeps it; `limit` is in seconds.

    Raises:
        Failed: If its exit status is not 0, it took too long, or it could not be started.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    path = LOGS / f"{log}.log"
    try:
        done = subprocess.run(
            words,
            env=environment() if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{words[0]}: {error}") from error
    output = done.stdout.decode(errors="replace")
    path.write_text(f"$ {' '.join(words)}\n{output}", "utf-8")
    if done.returncode:
        end = "\n    ".join(output.splitlines()[-SHOWN:])
        raise Failed(f"exit status {done.returncode}, see {path}\n    {end}")
    return output
