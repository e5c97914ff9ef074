"""Where the Autobahn test suite runs: an environment for Python 2.7, made once, and a network of its own."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SUITE = "autobahntestsuite==25.10.1"
VIRTUALENV = "virtualenv<20.22"
"""The last that makes environments for Python 2.7."""

INSTALL_LIMIT = 900.0
"""Seconds for each step of the installation."""

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1  # linux/sockios.h, linux/if.h


class InstallError(Exception):
    """The test suite could not be installed: the text says which step failed, and what it said."""


def find_python2(given: str | None = None) -> str | None:
    """A Python 2.7 that works: the one given, or the first on PATH or under pyenv; None if there is none."""
    return next((path for path in ([given] if given else _candidates()) if _is_python2(path)), None)


def _candidates() -> Iterator[str]:
    for name in ("python2.7", "python2"):
        path = shutil.which(name)
        if path is not None:
            yield path
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from (str(path) for path in sorted(root.glob("versions/2.7*/bin/python2.7"), reverse=True))


def _is_python2(path: str) -> bool:
    """Whether it runs: pyenv puts names on PATH that stand for no interpreter."""
    try:
        said = subprocess.run([path, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.stdout.strip() == b"(2, 7)"


def install(python2: str, directory: Path) -> str:
    """The interpreter of an environment with the test suite in it, which is made if it is not there.

    Raises:
        InstallError: If a step fails.
    """
    python = directory / "env" / "bin" / "python"
    stamp = directory / "installed"
    if stamp.exists() and stamp.read_text() == SUITE and python.exists():
        return str(python)
    print(f"installing {SUITE} under {python2}: a minute, once", flush=True)
    stamp.unlink(missing_ok=True)
    tools = directory / "tools"
    for path in (tools, directory / "env"):
        shutil.rmtree(path, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    _step([python2, *pip, "--target", str(tools), VIRTUALENV], environment)
    make = [python2, "-m", "virtualenv", "--quiet", "--no-download", str(directory / "env")]
    _step(make, environment | {"PYTHONPATH": str(tools)})
    _step([str(python), *pip, SUITE], environment)
    stamp.write_text(SUITE)
    return str(python)


def _step(command: list[str], environment: dict[str, str]) -> None:
    said = subprocess.STDOUT
    try:
        subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=said, env=environment, timeout=INSTALL_LIMIT)
    except subprocess.CalledProcessError as error:
        raise InstallError(f"{' '.join(command)}\n{error.stdout.decode(errors='replace')}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"{' '.join(command)}\n{error}") from None


def enter_namespace(mark: str) -> None:
    """Run this program anew in a network namespace of its own, with `mark` as one more argument.

    Returns only if that is not allowed here, after saying so, or if `mark` is there already: then the loopback is up.
    """
    if mark in sys.argv:
        _loopback_up()
        return
    unshare = ["unshare", "--user", "--map-root-user", "--net"]
    try:
        allowed = subprocess.run([*unshare, "true"], capture_output=True, text=True)
    except OSError as error:
        reason = str(error)
    else:
        if allowed.returncode == 0:
            sys.stdout.flush()
            os.execvp(unshare[0], [*unshare, sys.executable, *sys.argv, mark])
        reason = allowed.stderr.strip()
    print(f"NO NETWORK NAMESPACE ({reason}): this machine's own loopback is used instead", file=sys.stderr, flush=True)


def _loopback_up() -> None:
    """A new namespace has a loopback interface, which is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(sock, SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
