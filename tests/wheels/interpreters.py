"""The Pythons of this machine: those on PATH, pyenv's, and those named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

WANTED = ("cp310", "cp311", "cp312", "cp313", "cp314", "cp314t", "cp315", "cp315t")
"""The wheels of a release, by the tag of the interpreter."""

ASK = """
import json, os, sys, sysconfig
minor = "%d.%d" % sys.version_info[:2]
free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
print(json.dumps([sys.implementation.name, minor, free, sys.version.split()[0], sys.prefix != sys.base_prefix,
    os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))]))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python that can be run, and what a build for it has to know.

    Attributes:
        path: The program, under the name it was found by.
        name: ``cpython``, ``pypy`` and so on.
        minor: ``3.13``.
        free_threaded: Whether it has been built without the lock.
        version: ``3.13.1``.
        headers: Whether Python.h is there, without which nothing can be compiled for it.
        build_env: More of the environment for a build.
        pip: A wheel of pip to put into virtual environments, where ensurepip would not find its own.
    """

    path: Path
    name: str
    minor: str
    free_threaded: bool
    version: str
    headers: bool
    build_env: dict[str, str] = field(default_factory=dict, compare=False)
    pip: Path | None = None

    @property
    def tag(self) -> str:
        """``cp313``, ``cp314t``, ``pypy311``."""
        short = {"cpython": "cp"}.get(self.name, self.name)
        return short + self.minor.replace(".", "") + "t" * self.free_threaded


def order(interpreter: Interpreter) -> tuple[bool, tuple[int, ...], bool]:
    """The key that sorts CPython before the others, then by version."""
    return interpreter.name != "cpython", tuple(map(int, interpreter.minor.split("."))), interpreter.free_threaded


def ask(path: Path, build_env: dict[str, str] | None = None) -> Interpreter | None:
    """What the program at `path` is; None if that is no Python, or does not start, or is in a virtual environment."""
    try:
        done = subprocess.run([path, "-I", "-c", ASK], capture_output=True, text=True, timeout=60)
        name, minor, free, version, virtual, headers = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return (
        None if virtual else Interpreter(path, name, minor, free, version, headers or bool(build_env), build_env or {})
    )


def candidates() -> Iterator[Path]:
    """Programs that may be Pythons."""
    names = [f"python3.{minor}{suffix}" for minor in range(10, 16) for suffix in ("", "t")] + ["pypy3"]
    for folder in os.get_exec_path():
        for name in names:
            if found := shutil.which(name, path=folder):
                yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for program in ("python3", "pypy3"):
        yield from sorted(pyenv.glob(f"versions/*/bin/{program}"))


def find(named: Iterable[Path] = (), more: Iterable[Interpreter] = ()) -> list[Interpreter]:
    """One interpreter for each tag, in order: those `named` first, then what is on PATH, under pyenv, and `more`.

    One with headers is preferred to one without.
    """
    asked = [*(ask(path) for path in [*named, *candidates()]), *more]
    best: dict[str, Interpreter] = {}
    for found in asked:
        supported = found is not None and tuple(map(int, found.minor.split("."))) >= (3, 10)
        if found and supported and (found.tag not in best or (found.headers and not best[found.tag].headers)):
            best[found.tag] = found
    return sorted(best.values(), key=order)
