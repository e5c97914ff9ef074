"""Every example runs: those of the docstrings, of the README and of the pages in docs."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import os
import pkgutil
import re
import shlex
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import framewire

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MODULES = [
    module.name
    for module in pkgutil.walk_packages(framewire.__path__, "framewire.")
    if module.name != "framewire.__main__"  # it runs the command
]


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text("utf-8")) if kind == language]


def run_examples(text: str, name: str, names: dict[str, object]) -> None:
    test = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, out=report.write, clear_globs=False)
    assert not runner.failures, report.getvalue()


@pytest.mark.parametrize("name", ["framewire", *MODULES])
def test_the_examples_of_a_module(name: str) -> None:
    module = importlib.import_module(name)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        report = io.StringIO()
        runner = doctest.DocTestRunner()
        runner.run(test, out=report.write)
        assert not runner.failures, report.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_sessions_of_a_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frames.bin").write_bytes(framewire.Encoder("u32be").encode_many([b"one", b"two", b"three"]))
    sessions = [text for text in blocks(page, "python") if ">>>" in text]
    assert sessions
    run_examples("\n".join(sessions), page.name, {})


def serve(listener: socket.socket) -> None:
    """The server of the README's loops: says what it was told."""
    client, _ = listener.accept()
    with client:
        while (received := client.recv(1000)) and not received.endswith(b"hello"):
            pass
        client.sendall(b"22        Welcome to the server!5         hello")


PROGRAMS = [(page, text) for page in PAGES for text in blocks(page, "python") if ">>>" not in text]


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_the_programs_of_the_pages(number: int) -> None:
    page, text = PROGRAMS[number]
    output = io.StringIO()
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.redirect_stdout(output):
        server = threading.Thread(target=serve, args=[listener], daemon=True)
        server.start()
        text = text.replace('"localhost", 1243', f'"127.0.0.1", {listener.getsockname()[1]}')
        exec(compile(text, page, "exec"), {})
        server.join(60)
    assert output.getvalue() == "Welcome to the server!\nhello\n"


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell")
def test_the_commands_of_the_pages(tmp_path: Path) -> None:
    command = tmp_path / "framewire"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m framewire "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    count = 0
    for page in PAGES:
        for block in blocks(page, "console"):
            for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                line, _, expected = step.partition("\n")
                done = subprocess.run(
                    ["sh", "-c", f"({line}) 2>&1"], env=environment, capture_output=True, text=True, timeout=60
                )
                assert done.stdout.rstrip("\n") == expected.rstrip("\n"), line
                count += 1
    assert count


ROW = re.compile(r"^\| `((?:[^`\\]|\\.)+)` \| `([^`]+)` \|", re.MULTILINE)
TABLE = [
    (name.replace(r"\|", "|"), value)  # a table's bar is escaped in Markdown
    for name, value in ROW.findall((ROOT / "docs" / "formats.md").read_text("utf-8"))
]


@pytest.mark.parametrize(("name", "value"), TABLE, ids=[name for name, _ in TABLE])
def test_a_name_in_the_table_is_that_format(name: str, value: str) -> None:
    spec = framewire.parse_spec(name)
    assert spec == eval(value, vars(framewire))
    assert spec.name == name


def test_the_table_has_every_format() -> None:
    kinds = {type(framewire.parse_spec(name)) for name, _ in TABLE}
    assert kinds == set(framewire.Spec.__subclasses__())
    plain = {name for name, _ in TABLE}
    assert {f"u{bits}{order}" for bits in range(16, 65, 8) for order in ("be", "le")} | {"u8"} <= plain
    from framewire.spec import _NAMED

    assert {spec.name for spec in _NAMED.values()} <= plain


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
