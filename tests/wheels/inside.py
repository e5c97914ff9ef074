"""The look inside: what is wrong with a wheel or a source archive, found without installing it.

A wheel is judged by its names and by the bytes of its extension. Of an ELF extension the tables are read; of the others
(macOS, Windows) only what their bytes show. Whether the core is traced is also tried, in tests/test_wheels.py.
"""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path, PurePosixPath

from .elf import X86_64, Elf

SIZE_LIMIT = 400_000
"""Bytes in a wheel."""

INIT = "PyInit__core_c"
"""The one symbol of the extension that Python needs."""

NAME = re.compile(r"framewire-([\w.!+]+)-(\w+)-(\w+)-([\w.]+)\.whl")
EXTENSION = re.compile(r"framewire/_core_c(?:\.(?:cpython-|cp)(\d+t?)-[-\w]+)?\.(?:so|pyd)")
WEB_PAGES = {".html", ".css", ".js", ".svg"}
INFO = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
NEEDED_INFO = INFO - {"top_level.txt"}

C_LIBRARY = re.compile(
    r"lib(?:c|m|pthread)\.so\.\d+|libc\.musl-\w+\.so\.1|ld-linux-\w+(?:-\w+)*\.so\.\d|libgcc_s\.so\.1"
)
LIVE_ASSERT = re.compile(rb"__assert_fail|__assert_rtn|_wassert")
TRACING = re.compile(rb"_?PyMonitoring_\w+|\bPyThreadState_(?:Enter|Leave)Tracing|\bPyGILState_Ensure")
"""What Cython's tracing calls: from Python 3.13, in 3.11 and 3.12, in 3.10. Nothing else in the core does."""
BUILD_PATH = re.compile(
    rb"/(?:home|root|tmp|Users|build|builds|project|private|opt|usr|var)/[\w.+-]+[\w.+/-]*|[A-Za-z]:[\\/](?:Users|a)[\\/]"
)
UNOPTIMISED = re.compile(rb"\x55\x48\x89\xe5.{0,8}?\x48\x89\x7d", re.DOTALL)
"""x86-64: push rbp; mov rbp, rsp; and the first argument to the stack at once, as compilers do without -O."""
UNOPTIMISED_LIMIT = 16
"""How often this may come by chance; a core built with -O0 has it in every function, some 700 times."""

GENERATED = (".c", ".so", ".pyd", ".pyc", ".html")
HAND_WRITTEN = re.compile(r"(?:bench|src/framewire/servers/web|tests|docs|examples)/.*\.(?:c|html)")
SOURCES = {"pyproject.toml", "setup.py", "PKG-INFO", "README.md", "LICENSE", "ext/_core_c.pyx", "tests/conftest.py"}


def wheel_faults(path: Path, size_limit: int = SIZE_LIMIT) -> list[str]:
    """What is wrong with the wheel at `path`, a sentence each."""
    named = NAME.fullmatch(path.name)
    if named is None:
        return [f"not the name of a wheel of framewire: {path.name}"]
    version, _, abi, platform = named.groups()
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    faults = list(name_faults(content, f"framewire-{version}.dist-info/"))
    if path.stat().st_size > size_limit:
        faults.append(f"{path.stat().st_size} bytes, more than {size_limit}")
    faults += tag_faults(content.get(f"framewire-{version}.dist-info/WHEEL", b""), named.group(0))

    extensions = {name: EXTENSION.fullmatch(name) for name in content if name.endswith((".so", ".pyd", ".dylib"))}
    if platform == "any":
        return faults + [f"compiled, in a pure wheel: {name}" for name in extensions]
    if len(extensions) != 1:
        return [*faults, f"{len(extensions)} extensions where there has to be one: {sorted(extensions)}"]
    ((name, matched),) = extensions.items()
    if matched is None:
        faults.append(f"not the name of the compiled core: {name}")
    elif matched.group(1) != abi.removeprefix("cp"):
        faults.append(f"{name} is not of the ABI {abi}")
    return faults + extension_faults(content[name])


def name_faults(names: dict[str, bytes], info: str) -> Iterator[str]:
    """Files that have no place in a wheel, and those that are missing."""
    for name in sorted(names):
        path = PurePosixPath(name)
        ours = name.startswith("framewire/") and (
            path.suffix == ".py"
            or name == "framewire/py.typed"
            or EXTENSION.fullmatch(name)
            or (path.parent.name == "web" and path.suffix in WEB_PAGES)
        )
        described = name.startswith(info) and (name.removeprefix(info) in INFO or "/sboms/" in name)
        if not ours and not described and path.suffix not in (".so", ".pyd", ".dylib"):  # these are counted apart
            yield f"no business in a wheel: {name}"
    needed = {"framewire/__init__.py", "framewire/_core_py.py", "framewire/py.typed"}
    for name in sorted((needed | {info + part for part in NEEDED_INFO}) - names.keys()):
        yield f"missing: {name}"


def tag_faults(description: bytes, name: str) -> list[str]:
    """Where the tags inside say something else than the name of the file."""
    _, _, python, abi, platforms = name.removesuffix(".whl").split("-")
    outside = {f"{python}-{abi}-{platform}" for platform in platforms.split(".")}
    inside = set(message_from_bytes(description).get_all("Tag") or [])
    return [] if inside == outside else [f"tags inside: {sorted(inside)}; in the name: {sorted(outside)}"]


def extension_faults(data: bytes) -> list[str]:
    """What is wrong with a compiled core, of any platform."""
    faults = [f"a path of the build machine: {path.decode()}" for path in sorted(set(BUILD_PATH.findall(data)))]
    if LIVE_ASSERT.search(data):
        faults.append("asserts are live: compiled without NDEBUG")
    if traces := sorted(set(TRACING.findall(data))):
        faults.append(f"traced: {b', '.join(traces).decode()}")
    if INIT.encode() not in data:
        faults.append(f"does not export {INIT}")
    if data[:4] == b"\x7fELF":
        faults += elf_faults(Elf(data))
    return faults


def elf_faults(core: Elf) -> Iterator[str]:
    """What else an extension for Linux shows."""
    for name in core.needed:
        if not C_LIBRARY.fullmatch(name):
            yield f"needs {name}"
    for path in core.search_paths:
        yield f"has a run-time search path: {path}"
    if core.exported - {"_init", "_fini"} != {INIT}:
        yield f"exports {sorted(core.exported)}, not {INIT} alone"
    for section in core.sections:
        if section.name == ".symtab" or section.name.startswith((".debug", ".zdebug")):
            yield f"not stripped: {section.name}"
    if core.machine == X86_64 and len(UNOPTIMISED.findall(core.section(".text").content)) > UNOPTIMISED_LIMIT:
        yield "not optimised: functions begin by writing their arguments to the stack"


def sdist_faults(path: Path) -> list[str]:
    """What is wrong with the source archive at `path`."""
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    missing = [f"missing: {name}" for name in sorted(SOURCES - names)]
    made = {name for name in names if name.endswith(GENERATED) and not HAND_WRITTEN.fullmatch(name)}
    return missing + [f"generated: {name}" for name in sorted(made)]


def faults(path: Path) -> list[str]:
    """What is wrong with a file that is to be published."""
    return sdist_faults(path) if path.name.endswith(".tar.gz") else wheel_faults(path)
