"""What judges a wheel is judged here: on wheels made by hand it must find what is wrong, and nothing in what is right.

And on the compiled core that is installed: it must not be traced.
"""

from __future__ import annotations

import importlib
import re
import struct
import sys
import tarfile
import types
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import EXPECT
from wheels import identifiers, inside, interpreters
from wheels.elf import Elf
from wheels.interpreters import Interpreter
from wheels.packing import pack
from wheels.trying import Trial, short, verdict

ROOT = Path(__file__).parent.parent
WORKFLOW = ROOT / ".github" / "workflows" / "wheels.yml"
TAG = "cp313-cp313-manylinux_2_17_x86_64"
CORE = "framewire/_core_c.cpython-313-x86_64-linux-gnu.so"
INFO = "framewire-1.0.dist-info"
X86_64, S390X, ARM = 62, 22, 40


def make_elf(
    needed: list[str] | None = None,
    run_path: str = "",
    exported: tuple[str, ...] = ("PyInit__core_c",),
    imported: tuple[str, ...] = ("PyList_New", "memcpy"),
    code: bytes = b"\xc3",
    extra: tuple[str, ...] = (),
    width: int = 2,
    order: str = "<",
    machine: int = X86_64,
) -> bytes:
    """A shared library of nothing but the tables that are looked at."""
    strings = bytearray(b"\0")

    def name(text: str) -> int:
        strings.extend(text.encode() + b"\0")
        return len(strings) - len(text) - 1

    wide = width == 2
    dynamic = [(1, name(library)) for library in (["libc.so.6"] if needed is None else needed)]
    dynamic += [(29, name(run_path))] if run_path else []
    symbols = [(0, 0, 0)] + [(name(text), 0x12, 1) for text in exported] + [(name(text), 0x10, 0) for text in imported]
    pack_symbol = (lambda n, i, w: (n, i, 0, w, 0, 0)) if wide else (lambda n, i, w: (n, 0, 0, i, 0, w))
    parts = {
        "": (b"", 0),
        ".text": (code, 0),
        ".dynstr": (bytes(strings), 0),
        ".dynamic": (b"".join(struct.pack(order + ("qQ" if wide else "iI"), *row) for row in dynamic), 2),
        ".dynsym": (
            b"".join(struct.pack(order + ("IBBHQQ" if wide else "IIIBBH"), *pack_symbol(*row)) for row in symbols),
            2,
        ),
        **dict.fromkeys(extra, (b"x", 0)),
    }
    titles = b"".join(title.encode() + b"\0" for title in [*parts, ".shstrtab"])
    parts[".shstrtab"] = (titles, 0)
    body, headers, header_size = bytearray(), [], 64 if wide else 52
    for title, (content, link) in parts.items():
        where = titles.index(title.encode() + b"\0")
        row = (where, 1, 0, 0, header_size + len(body), len(content), link, 0, 1, 0)
        headers.append(struct.pack(order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII"), *row))
        body += content
    start = header_size + len(body)
    top = b"\x7fELF" + bytes([width, 1 if order == "<" else 2, 1]) + bytes(9)
    top += struct.pack(order + ("HHIQQQI" if wide else "HHIIIII"), 3, machine, 1, 0, 0, start, 0)
    top += struct.pack(order + "HHHHHH", header_size, 0, 0, len(headers[0]), len(headers), len(headers) - 1)
    return bytes(top + body) + b"".join(headers)


def make_wheel(folder: Path, changes: dict[str, bytes | None] | None = None, tag: str = TAG) -> Path:
    """A wheel in which nothing is wrong, but for the `changes`: other contents, or None to leave a file out."""
    content: dict[str, bytes | None] = {
        "framewire/__init__.py": b"",
        "framewire/_core_py.py": b"",
        "framewire/py.typed": b"",
        "framewire/servers/web/chat.html": b"",
        CORE: make_elf(),
        f"{INFO}/METADATA": b"Metadata-Version: 2.4\n",
        f"{INFO}/WHEEL": f"Wheel-Version: 1.0\nTag: {tag}\n".encode(),
        f"{INFO}/RECORD": b"",
        f"{INFO}/entry_points.txt": b"",
        f"{INFO}/licenses/LICENSE": b"",
        **(changes or {}),
    }
    path = folder / f"framewire-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)
    return path


SPILL = b"\x55\x48\x89\xe5\x48\x83\xec\x10\x48\x89\x7d\xf8"  # push rbp; mov rbp, rsp; sub rsp, 16; mov [rbp-8], rdi

WRONG: dict[str, tuple[dict[str, bytes | None], str]] = {
    "C source": ({"framewire/_core_c.c": b""}, "no business in a wheel: framewire/_core_c.c"),
    "Cython source": ({"framewire/_core_c.pyx": b""}, "no business"),
    "header": ({"framewire/wire.h": b""}, "no business"),
    "listing": ({"framewire/_core_c.html": b""}, "no business"),
    "tests": ({"tests/test_core.py": b""}, "no business"),
    "no marker of types": ({"framewire/py.typed": None}, "missing: framewire/py.typed"),
    "no licence": ({f"{INFO}/licenses/LICENSE": None}, "missing"),
    "no core": ({CORE: None}, "0 extensions where there has to be one"),
    "two cores": ({"framewire/_core_d.cpython-313-x86_64-linux-gnu.so": make_elf()}, "2 extensions"),
    "another module": ({CORE: None, "framewire/core.so": make_elf()}, "not the name of the compiled core"),
    "another Python": ({CORE: None, CORE.replace("313", "312"): make_elf()}, "not of the ABI cp313"),
    "free-threaded": ({CORE: None, CORE.replace("313", "313t"): make_elf()}, "not of the ABI cp313"),
    "another tag": ({f"{INFO}/WHEEL": b"Tag: cp313-cp313-linux_x86_64\n"}, "tags inside"),
    "too large": ({"framewire/large.py": bytes(400_000)}, "more than 400000"),
    "search path": ({CORE: make_elf(run_path="/nowhere/lib")}, "has a run-time search path: /nowhere/lib"),
    "library": ({CORE: make_elf(needed=["libc.so.6", "libpython3.13.so.1.0"])}, "needs libpython3.13.so.1.0"),
    "exports": ({CORE: make_elf(exported=("PyInit__core_c", "fw_mask"))}, "exports ['PyInit__core_c', 'fw_mask']"),
    "no init": ({CORE: make_elf(exported=())}, "does not export PyInit__core_c"),
    "symbols": ({CORE: make_elf(extra=(".symtab",))}, "not stripped: .symtab"),
    "debug": ({CORE: make_elf(extra=(".debug_info",))}, "not stripped: .debug_info"),
    "assert": ({CORE: make_elf(imported=("__assert_fail",))}, "asserts are live"),
    "traced, 3.10": ({CORE: make_elf(imported=("PyGILState_Ensure",))}, "traced: PyGILState_Ensure"),
    "traced, 3.12": ({CORE: make_elf(imported=("PyThreadState_EnterTracing",))}, "traced"),
    "traced, 3.13": ({CORE: make_elf(imported=("_PyMonitoring_FireLineEvent",))}, "traced"),
    "not optimised": ({CORE: make_elf(code=SPILL * 100)}, "not optimised"),
    "a path": (
        {CORE: make_elf(code=b"\0/home/me/framewire/ext/wire.h\0")},
        "build machine: /home/me/framewire/ext/wire.h",
    ),
    "for macOS": ({CORE: b"\xcf\xfa\xed\xfe _PyInit__core_c ___assert_rtn"}, "asserts are live"),
}


def test_nothing_is_wrong_with_a_good_wheel(tmp_path: Path) -> None:
    assert inside.faults(make_wheel(tmp_path)) == []


def test_frame_pointers_are_no_sign_of_a_core_that_is_not_optimised(tmp_path: Path) -> None:
    core = make_elf(code=b"\x55\x48\x89\xe5\x5d\xc3" * 1000)
    assert inside.faults(make_wheel(tmp_path, {CORE: core})) == []


@pytest.mark.parametrize("fault", WRONG)
def test_each_fault_is_found(tmp_path: Path, fault: str) -> None:
    changes, expected = WRONG[fault]
    assert any(expected in found for found in inside.faults(make_wheel(tmp_path, changes)))


def test_a_pure_wheel_holds_no_core(tmp_path: Path) -> None:
    assert inside.faults(make_wheel(tmp_path, {CORE: None}, "py3-none-any")) == []
    assert inside.faults(make_wheel(tmp_path, {}, "py3-none-any")) == [f"compiled, in a pure wheel: {CORE}"]


@pytest.mark.parametrize(
    ("tag", "core"),
    [
        ("cp314-cp314t-macosx_11_0_arm64", "framewire/_core_c.cpython-314t-darwin.so"),
        ("cp314-cp314t-win_amd64", "framewire/_core_c.cp314t-win_amd64.pyd"),
        ("cp310-cp310-win_arm64", "framewire/_core_c.cp310-win_arm64.pyd"),
        ("cp312-cp312-musllinux_1_2_armv7l", "framewire/_core_c.cpython-312-arm-linux-musleabihf.so"),
    ],
)
def test_every_platform_names_its_extension_in_its_own_way(tmp_path: Path, tag: str, core: str) -> None:
    assert inside.faults(make_wheel(tmp_path, {CORE: None, core: b"PyInit__core_c"}, tag)) == []


@pytest.mark.parametrize(
    ("width", "order", "machine"), [(2, "<", X86_64), (2, ">", S390X), (1, "<", ARM), (1, ">", ARM)]
)
def test_an_elf_file_is_read_in_any_width_and_order(width: int, order: str, machine: int) -> None:
    data = make_elf(["libc.so.6", "libm.so.6"], "/lib", ("a", "b"), ("c",), width=width, order=order, machine=machine)
    elf = Elf(data)
    assert elf.machine == machine
    assert elf.needed == ["libc.so.6", "libm.so.6"]
    assert elf.search_paths == ["/lib"]
    assert elf.exported == {"a", "b"}
    assert elf.imported == {"c"}
    assert elf.section(".text").content == b"\xc3"


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"MZ" * 40, make_elf()[:-100], make_elf()[:100]])
def test_what_is_no_elf_file_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="ELF"):
        Elf(data)


def test_a_source_archive_holds_the_sources_and_nothing_generated(tmp_path: Path) -> None:
    def archive(*names: str) -> Path:
        path = tmp_path / "framewire-1.0.tar.gz"
        with tarfile.open(path, "w:gz") as made:
            for name in names:
                made.addfile(tarfile.TarInfo(f"framewire-1.0/{name}"))
        return path

    good = [*inside.SOURCES, "bench/server.c", "src/framewire/servers/web/chat.html"]
    assert inside.faults(archive(*good)) == []
    assert inside.faults(archive(*good, "ext/_core_c.c")) == ["generated: ext/_core_c.c"]
    assert inside.faults(archive(*(name for name in good if name != "setup.py"))) == ["missing: setup.py"]


def test_the_table_counts_and_asks_for_enough_pythons() -> None:
    three = [Trial(f"cp31{minor} (3.1{minor}.0)") for minor in range(3)]
    assert verdict(three, 3) == ("3 passed, 0 failed, 0 skipped", True)
    assert verdict([*three, Trial("cp314t", outcome="skipped")], 3) == ("3 passed, 0 failed, 1 skipped", True)
    assert verdict([*three, Trial("pypy", outcome="FAILED")], 3) == ("3 passed, 1 failed, 0 skipped", False)
    assert verdict([*three[:2], Trial("pypy")], 3) == (
        "3 passed, 0 failed, 0 skipped; 2 CPythons, and it takes 3",
        False,
    )


def test_a_line_of_the_table_names_the_file_and_its_size(tmp_path: Path) -> None:
    wheel = tmp_path / "framewire-1.0-cp313-cp313-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
    wheel.write_bytes(bytes(123_456))
    assert short(wheel) == "cp313-cp313-manylinux_2_17_x86_64, 123 KB"
    assert short(wheel) in str(Trial("cp313 (3.13.1)", short(wheel), notes=["one", "two"]))
    archive = wheel.rename(tmp_path / "framewire-1.0.tar.gz")
    assert short(archive) == "source archive, 123 KB"


def test_one_interpreter_is_taken_for_each_tag_with_headers_if_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Interpreter(Path("/a"), "cpython", "3.13", False, "3.13.1", headers=False)
    known = {
        "/a": bare,
        "/b": replace(bare, path=Path("/b"), headers=True),
        "/c": replace(bare, path=Path("/c"), free_threaded=True),
        "/d": replace(bare, path=Path("/d"), minor="3.9"),
        "/e": replace(bare, path=Path("/e"), name="pypy", minor="3.11"),
        "/f": replace(bare, path=Path("/f"), minor="3.10"),
    }
    monkeypatch.setattr(interpreters, "candidates", lambda: map(Path, [*known, "/g"]))
    monkeypatch.setattr(interpreters, "ask", lambda path: known.get(path.as_posix()))
    found = interpreters.find()
    assert [each.tag for each in found] == ["cp310", "cp313", "cp313t", "pypy311"]
    assert found[1].path == Path("/b")


def test_this_python_can_be_asked_what_it_is(tmp_path: Path) -> None:
    asked = interpreters.ask(Path(sys.executable))
    if sys.prefix != sys.base_prefix:
        assert asked is None  # a virtual environment
    else:
        assert asked is not None
        assert asked.minor == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert interpreters.ask(tmp_path / "python3") is None


def test_a_list_that_differs_from_the_configuration_is_told_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = identifiers.expected()
    assert len(listed) == len(interpreters.WANTED) * 10
    monkeypatch.setattr(identifiers, "configured", lambda: listed - {"cp310-win_amd64"} | {"cp39-win_amd64"})
    assert identifiers.differences() == [
        "built, but not in identifiers.txt: cp39-win_amd64",
        "in identifiers.txt, but not built: cp310-win_amd64",
    ]


@pytest.mark.skipif(not WORKFLOW.exists(), reason="the source archive holds no workflows")
def test_the_workflow_counts_the_wheels_and_one_job_alone_may_publish() -> None:
    text = WORKFLOW.read_text("utf-8")
    assert f"--count {len(identifiers.expected()) + 1} " in text
    assert text.count("id-token: write") == 1
    publishing = text[text.index("  publish:") :]
    assert "id-token: write" in publishing
    assert "if: startsWith(github.ref, 'refs/tags/v')" in publishing
    assert re.findall(r"uses: (?!actions/)\S+@(?![0-9a-f]{40}\b)", text) == []


@pytest.mark.skipif(EXPECT == "pure", reason="only the compiled core could be")
def test_the_compiled_core_is_not_traced() -> None:
    core: Any = importlib.import_module("framewire._core_c")
    decoder, seen = core.Decoder("u8"), []

    def note(frame: Any, event: str, argument: Any) -> Any:
        seen.append(frame.f_code.co_filename)
        return note

    def python() -> list[bytes]:
        return decoder.feed(b"\2ok")

    before = sys.gettrace(), sys.getprofile()
    try:
        sys.settrace(note)
        sys.setprofile(note)
        frames = python()
    finally:
        sys.setprofile(before[1])
        sys.settrace(before[0])
    assert frames == [b"ok"]
    assert __file__ in seen
    assert [name for name in seen if name.endswith((".pyx", ".pxi"))] == []


def test_packing_keeps_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compressor = types.ModuleType("zopfli.zlib")  # of the release's tools; any zlib stream must do
    compressor.compress = lambda data, numiterations: zlib.compress(data, 9)  # type: ignore[attr-defined]
    package = types.ModuleType("zopfli")
    package.zlib = compressor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zopfli", package)
    monkeypatch.setitem(sys.modules, "zopfli.zlib", compressor)
    content = {
        "framewire/__init__.py": b"%d, " * 4000 % tuple(range(4000)),
        "framewire/py.typed": b"",
        CORE: bytes(range(256)) * 99,
    }
    wheel = tmp_path / f"framewire-1.0-{TAG}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("framewire/", b"")
        for name, data in content.items():
            info = zipfile.ZipInfo(name, (2023, 11, 14, 22, 13, 20))
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o100755 << 16
            archive.writestr(info, data)
    before = wheel.stat().st_size
    assert pack(wheel) == wheel
    assert wheel.stat().st_size < before
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == content
        for info in archive.infolist():
            assert (info.date_time, info.external_attr >> 16) == ((2023, 11, 14, 22, 13, 20), 0o100755)
    assert list(tmp_path.iterdir()) == [wheel]
