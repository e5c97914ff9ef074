"""Pythons that this machine does not have, out of Debian's packages: downloaded, unpacked, and installed nowhere.

Needs apt-get and dpkg, no more rights than anybody has, and a mirror: the machine's own. What Debian testing holds
moves with time, so whoever asks has to live with a `Failed`.
"""

from __future__ import annotations

import platform
import re
import shutil
from dataclasses import replace
from pathlib import Path

from .commands import WORK, Failed, run
from .interpreters import Interpreter, ask
from .making import TOOLS

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "s390x": "s390x"}
LOADERS = {"x86_64": "lib64/ld-linux-x86-64.so.2", "aarch64": "lib/ld-linux-aarch64.so.1"}
MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def mirror() -> str:
    """Where the machine gets its own packages from."""
    for path in sorted(Path("/etc/apt").glob("sources.list.d/*.sources")):
        if found := re.search(r"^URIs:\s*(\S+/debian)/?\s*$", path.read_text("utf-8"), re.MULTILINE):
            return found.group(1)
    return MIRROR


def unpack(name: str, suite: str, machine: str, packages: list[str]) -> Path:
    """A folder like / with these packages and all that they need, for `machine` as `uname -m` calls it.

    Raises:
        Failed: If there is no apt-get, no network, no such package.
    """
    home = WORK / "debian" / name
    root = home / "root"
    if (home / "ready").exists():
        return root
    shutil.rmtree(home, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial", "root"):
        (home / folder).mkdir(parents=True)
    (home / "status").touch()  # as if nothing were installed: everything that is needed comes along
    (home / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror()} {suite} main\n", "utf-8")
    settings = {
        "Dir::Etc::sourcelist": home / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::Lists": home / "lists",
        "Dir::State::status": home / "status",
        "Dir::Cache": home / "cache",
        "APT::Architecture": ARCHITECTURES[machine],
        "APT::Architectures": ARCHITECTURES[machine],
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "1",
    }
    apt = ["apt-get", *(f"-o{key}={value}" for key, value in settings.items())]
    run(f"{name}-apt-update", [*apt, "update"], limit=300)
    run(
        f"{name}-apt-download",
        [*apt, "install", "-y", "--download-only", "--no-install-recommends", *packages],
        limit=600,
    )
    for package in sorted((home / "cache" / "archives").glob("*.deb")):
        run(f"{name}-dpkg", ["dpkg", "-x", package, root])
    for link in ("lib", "lib64", "bin"):
        if not (root / link).exists():
            (root / link).symlink_to(f"usr/{link}")
    (home / "ready").touch()
    return root


def interpreter(minor: str) -> Interpreter:
    """CPython `minor` from Debian testing, which runs here as it is.

    Raises:
        Failed: If it cannot be had, or does not start.
    """
    machine = platform.machine()
    if machine not in LOADERS:
        raise Failed(f"no loader known for {machine}")
    root = unpack(f"python{minor}", "testing", machine, [f"python{minor}-venv", f"libpython{minor}-dev"])
    program = root / "usr" / "bin" / f"python{minor}"
    # An RPATH and not a RUNPATH: it has to reach the modules of the standard library too. The loader is the one that
    # came with that C library.
    paths: list[str | Path] = ["--force-rpath", "--set-rpath", root / "usr" / "lib" / f"{machine}-linux-gnu"]
    loader: list[str | Path] = ["--set-interpreter", root / "usr" / LOADERS[machine]]
    run(f"python{minor}-patchelf", [TOOLS / "patchelf", *paths, *loader, program])
    # After all other folders: an ordinary -I would bring that C library's headers too, which are newer than ours.
    found = ask(program, {"CPPFLAGS": f"-idirafter {root / 'usr' / 'include'}"})
    if found is None:
        raise Failed(f"{program} does not start")
    # Debian's ensurepip looks for pip in /usr/share, wherever it stands itself.
    (pip,) = (root / "usr" / "share" / "python-wheels").glob("pip-*.whl")
    return replace(found, pip=pip)


def emulator(machine: str) -> Path:
    """qemu's user emulation of `machine`, from PATH or from Debian.

    Raises:
        Failed: If it cannot be had.
    """
    for name in (f"qemu-{machine}-static", f"qemu-{machine}"):
        if found := shutil.which(name):
            return Path(found)
    root = unpack("qemu", "stable", platform.machine(), ["qemu-user-static"])
    for name in (f"qemu-{machine}-static", f"qemu-{machine}"):
        if (found_here := root / "usr" / "bin" / name).exists():
            return found_here
    raise Failed(f"no emulator of {machine} in qemu-user-static")
