"""How the compiled core is built; everything else is declared in pyproject.toml.

Switches, read from the environment, each on when set to 1:

FRAMEWIRE_PURE         build no extension: the result is a py3-none-any wheel
FRAMEWIRE_REQUIRE_EXT  fail when the extension cannot be compiled, instead of installing without it
FRAMEWIRE_DEBUG        assertions, counted copies, and Cython's own checks
FRAMEWIRE_SANITIZE     FRAMEWIRE_DEBUG under the address and undefined-behaviour sanitizers
FRAMEWIRE_ANNOTATE     Cython's annotated listing, in build/release/cython
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Stated in full, because a CFLAGS in the environment replaces the interpreter's own flags. To GCC the sources say
# themselves what is to be fast and what small (FW_SMALL in wire.h), Clang has to choose for all of them.
OPTIMIZE = "-Oz" if sys.platform == "darwin" else "-O2"
UNIX_FLAGS = [OPTIMIZE, "-g0", "-fwrapv", "-fvisibility=hidden", "-fno-asynchronous-unwind-tables"]
DEBUG_FLAGS = ["-O1", "-g", "-fwrapv", "-fno-omit-frame-pointer", "-UNDEBUG"]
SANITIZE_FLAGS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]

BANNER = """
**********************************************************************
framewire: NO COMPILED CORE in this build: {reason}
framewire will run on its pure-Python core, which gives the same
results, slower. Set FRAMEWIRE_REQUIRE_EXT=1 to make this an error.
After a compiler is there: pip install --no-cache-dir --force-reinstall
**********************************************************************
"""


def switch(name: str) -> bool:
    return os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}


SANITIZE = switch("FRAMEWIRE_SANITIZE")
DEBUG = SANITIZE or switch("FRAMEWIRE_DEBUG")
# Each flavour builds in a place of its own: setuptools and Cython compare times of files, and would take what another
# flavour left behind for up to date.
BUILD_BASE = "build/" + ("sanitize" if SANITIZE else "debug" if DEBUG else "release")


def extensions() -> list[Any]:
    if switch("FRAMEWIRE_PURE"):
        print(BANNER.format(reason="FRAMEWIRE_PURE is set"), file=sys.stderr)
        return []
    if sys.implementation.name != "cpython":
        # PyPy runs the pure core many times faster than an extension through its C-API layer.
        print(BANNER.format(reason=f"{sys.implementation.name} is faster without it"), file=sys.stderr)
        return []
    from Cython.Build import cythonize

    if sys.platform == "win32":
        flags = ["/Od", "/Zi"] if DEBUG else ["/O2"]
    else:
        flags = DEBUG_FLAGS if DEBUG else UNIX_FLAGS
    core = Extension(
        "framewire._core_c",
        ["ext/_core_c.pyx"],
        include_dirs=["ext"],
        depends=[str(path) for path in sorted(Path("ext").iterdir())],
        define_macros=[
            ("FRAMEWIRE_DEBUG", "1") if DEBUG else ("NDEBUG", None),
            ("CYTHON_COMPRESS_STRINGS", "0"),  # wheels are compressed themselves, and better
        ],
        extra_compile_args=flags + (SANITIZE_FLAGS if SANITIZE else []),
        extra_link_args=SANITIZE_FLAGS if SANITIZE else [],
    )
    built = cythonize(
        [core],
        include_path=["ext"],
        build_dir=f"{BUILD_BASE}/cython",  # generated C stays out of the tree and out of wheels
        annotate=switch("FRAMEWIRE_ANNOTATE"),
        compiler_directives={
            # Unsafe ones live here and not in the .pyx, whose header would win over a debug build.
            "boundscheck": DEBUG,
            "wraparound": DEBUG,
            "initializedcheck": DEBUG,
            "cdivision": not DEBUG,
            "language_level": "3",
            # Plain method descriptors are called faster than Cython's own function objects; the clinic format keeps
            # their signatures readable by inspect.
            "binding": False,
            "embedsignature": True,
            "embedsignature.format": "clinic",
            "autotestdict": False,
            "auto_pickle": False,
            "freethreading_compatible": True,
        },
    )
    for extension in built:
        extension.optional = not switch("FRAMEWIRE_REQUIRE_EXT")  # cythonize() drops Extension(optional=...)
    return list(built)


class BuildCore(build_ext):
    """The ordinary build, that says loudly when an optional extension could not be built."""

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception as error:
            print(BANNER.format(reason=f"it did not compile ({error})"), file=sys.stderr)
            raise


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildCore},
    options={"build": {"build_base": BUILD_BASE}},
)
