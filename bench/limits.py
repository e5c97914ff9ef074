"""Builds the limit module (_limits.pyx) into bench/build when it is missing or older than its source, and loads it."""

from __future__ import annotations

import sys
import sysconfig
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / "build"
SOURCE = HERE / "_limits.pyx"

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


def build() -> None:
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    flags = ["/O2"] if sys.platform == "win32" else UNIX_FLAGS
    extension = Extension("_limits", [str(SOURCE)], define_macros=[("NDEBUG", None)], extra_compile_args=flags)
    built = cythonize([extension], build_dir=str(BUILD), compiler_directives=DIRECTIVES, force=True, quiet=True)
    command = Distribution({"ext_modules": built}).get_command_obj("build_ext")
    command.build_lib = command.build_temp = str(BUILD)
    command.force = True
    command.ensure_finalized()
    command.run()


library = BUILD / f"_limits{sysconfig.get_config_var('EXT_SUFFIX')}"
if not library.exists() or library.stat().st_mtime < max(SOURCE.stat().st_mtime, Path(__file__).stat().st_mtime):
    build()
sys.path.insert(0, str(BUILD))
_limits = import_module("_limits")

Floor = _limits.Floor
Nothing = _limits.Nothing
Empty = _limits.Empty
scan_u32be = _limits.scan_u32be
encode_u32be = _limits.encode_u32be
fill = _limits.fill
