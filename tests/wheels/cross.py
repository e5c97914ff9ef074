"""Wheels for what this machine is not, by zig's C compiler: to be checked, not to be published.

    musl      x86_64, musllinux: audited; there is no Python for it here that could import it
    aarch64   manylinux_2_17: audited, and run under qemu
    s390x     big-endian: run under qemu, for the order of bytes

No crossing tools are needed: setuptools asks the interpreter's _sysconfigdata module what to compile for, and is given
the one of the target. Whatever cannot be had here raises `Failed`, and is no failure of the release.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import zipfile
from pathlib import Path

from . import debian
from .commands import WORK, Failed, environment, run
from .interpreters import Interpreter
from .making import PYTHON, TOOLS, build_environment, build_wheel, copy, repair

SYSCONFIG = "import sysconfig, sys; print(__import__(sysconfig._get_sysconfigdata_name()).__file__)"
FOREIGN = {"aarch64": ("testing", "3.14"), "s390x": ("stable", "3.13")}
"""The suite of Debian, and the Python in it, for each machine."""


def compiler(target: str) -> dict[str, str]:
    """CC and LDSHARED for a target, as zig names it: ``aarch64-linux-gnu.2.17``.

    Raises:
        Failed: If ziglang is neither here nor to be had.
    """
    extra = Path(__file__).with_name("extra.txt")
    run("zig-install", [PYTHON, "-I", "-m", "pip", "install", "--quiet", "--requirement", extra])
    script = WORK / "zig" / target
    script.parent.mkdir(parents=True, exist_ok=True)
    # The last word is Clang's: -Os is larger than GCC's, and zig takes -Oz for it.
    script.write_text(f'#!/bin/sh\nexec "{PYTHON}" -I -m ziglang cc -target {target} "$@" -Xclang -Oz\n', "utf-8")
    script.chmod(0o755)
    # zig compiles the C library of a target once; -s because strip knows its own machine only.
    cache = os.environ.get("ZIG_GLOBAL_CACHE_DIR", str(WORK / "zig" / "cache"))
    return {"CC": str(script), "LDSHARED": f"{script} -shared -s", "ZIG_GLOBAL_CACHE_DIR": cache}


def pick(interpreters: list[Interpreter], minor: str | None = None) -> Interpreter:
    """A CPython with headers to build with: the one of this version, or the newest that pyenv or the system has."""
    usable = [each for each in interpreters if each.name == "cpython" and each.headers and not each.free_threaded]
    usable = [each for each in usable if minor in (None, each.minor) and (minor or not each.build_env)]
    if not usable:
        raise Failed(f"no CPython {minor or ''} here to build with")
    return usable[-1]


def musl(interpreters: list[Interpreter], tree: Path, out: Path) -> Path:
    """A musllinux_1_2 wheel for x86_64.

    Raises:
        Failed: If it cannot be built here, or may not have its tag.
    """
    interpreter, machine = pick(interpreters), platform.machine()
    python = build_environment(interpreter)
    data = Path(run("musl-sysconfig", [python, "-I", "-c", SYSCONFIG]).strip())
    target = WORK / "zig" / "musl" / "_sysconfigdata_musl.py"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(data.read_text("utf-8").replace("linux-gnu", "linux-musl"), "utf-8")
    own = {"_PYTHON_SYSCONFIGDATA_NAME": target.stem, "PYTHONPATH": str(target.parent)}
    env = environment(FRAMEWIRE_REQUIRE_EXT="1", **compiler(f"{machine}-linux-musl"), **own)
    wheel = build_wheel(python, copy(tree, "musl"), "musl", env)

    # zig names the C library as musl's own linker does; systems that run on it know it by its machine too.
    opened = WORK / "raw" / "musl-opened"
    shutil.rmtree(opened, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(opened)
    (core,) = opened.glob("framewire/_core_c*.so")
    run("musl-needed", [TOOLS / "patchelf", "--replace-needed", "libc.so", f"libc.musl-{machine}.so.1", core])
    wheel.unlink()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(opened.rglob("*")):
            archive.write(path, path.relative_to(opened))
    return repair(wheel, out, f"musllinux_1_2_{machine}", strip=False)


def foreign(machine: str, interpreters: list[Interpreter], tree: Path, out: Path) -> tuple[Path, str]:
    """A wheel for another machine, and what it printed there.

    Raises:
        Failed: If it cannot be built or run here, or may not have its tag, or does not do as it should.
    """
    suite, minor = FOREIGN[machine]
    python = build_environment(pick(interpreters, minor))
    root = debian.unpack(f"{machine}-python{minor}", suite, machine, [f"python{minor}", f"libpython{minor}-dev"])
    own = WORK / "zig" / machine
    shutil.rmtree(own, ignore_errors=True)
    # Of the target's headers only Python's own: the others would stand before zig's.
    for folder in (f"python{minor}", f"{machine}-linux-gnu/python{minor}"):
        shutil.copytree(root / "usr" / "include" / folder, own / "include" / folder)
    (data,) = (root / "usr" / "lib").glob(f"python{minor}/_sysconfigdata__{machine}-linux-gnu.py")
    shutil.copy(data, own)
    cross = {
        **compiler(f"{machine}-linux-gnu.2.17"),
        "CPPFLAGS": f"-I{own}/include/python{minor} -I{own}/include",
        "_PYTHON_HOST_PLATFORM": f"linux-{machine}",
        "_PYTHON_SYSCONFIGDATA_NAME": data.stem,
        "PYTHONPATH": str(own),
    }
    wheel = build_wheel(python, copy(tree, machine), machine, environment(FRAMEWIRE_REQUIRE_EXT="1", **cross))
    wheel = repair(wheel, out, f"manylinux_2_17_{machine}", strip=False)

    site = WORK / "raw" / f"{machine}-opened"
    shutil.rmtree(site, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    program: list[str | Path] = [debian.emulator(machine), "-L", root, root / "usr" / "bin" / f"python{minor}"]
    smoke = Path(__file__).with_name("smoke.py")
    said = run(f"{machine}-smoke", [*program, "-E", "-s", smoke, site], limit=600)
    return wheel, said.strip().splitlines()[-1]


def possible() -> bool:
    """Whether this is a machine that can try."""
    return sys.platform == "linux" and platform.machine() == "x86_64"
