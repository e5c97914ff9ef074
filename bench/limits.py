"""Builds the compiled modules of the benches into bench/build when they are missing or older than their sources, and
loads the limits."""

from __future__ import annotations

import sys
import sysconfig
from functools import cache
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUILD = HERE / "build"

# Those of setup.py, so that the limits and the core are compiled alike: change both together.
UNIX_FLAGS = ["-O3", "-g0", "-fwrapv", "-fvisibility=hidden"]
DIRECTIVES = {
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "language_level": "3",
    "binding": False,
    "embedsignature": True,
    "embedsignature.format": "clinic",
    "autotestdict": False,
    "auto_pickle": False,
    "freethreading_compatible": True,
}


def build(source: Path, include: list[str]) -> None:
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    flags = ["/O2"] if sys.platform == "win32" else UNIX_FLAGS
    extension = Extension(source.stem, [str(source)], define_macros=[("NDEBUG", None)], extra_compile_args=flags)
    built = cythonize(
        [extension],
        include_path=include,
        build_dir=str(BUILD),
        compiler_directives=DIRECTIVES,
        force=True,
        quiet=True,
    )
    command = Distribution({"ext_modules": built}).get_command_obj("build_ext")
    command.build_lib = command.build_temp = str(BUILD)
    command.force = True
    command.ensure_finalized()
    command.run()


@cache
def load(name: str, include: Path | None = None) -> Any:
    """A compiled module of the benches, made from ``name.pyx`` if need be.

    Args:
        include: Where the declarations lie that it takes from others; it is built again when they change.
    """
    source, library = HERE / f"{name}.pyx", BUILD / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    sources = [source, Path(__file__), *(include.glob("*.pxd") if include else [])]
    if not library.exists() or library.stat().st_mtime < max(path.stat().st_mtime for path in sources):
        build(source, [str(include.parent)] if include else [])
        invalidate_caches()
    return import_module(name)


sys.path.insert(0, str(BUILD))
_limits = load("_limits")

Floor = _limits.Floor
Unmasked = _limits.Unmasked
UnmaskedText = _limits.UnmaskedText
Nothing = _limits.Nothing
Empty = _limits.Empty
scan_u32be = _limits.scan_u32be
encode_u32be = _limits.encode_u32be
encode_messages = _limits.encode_messages
fill = _limits.fill
