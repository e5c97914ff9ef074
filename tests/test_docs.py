"""Every example runs: those of the docstrings, of the README and of the pages in docs. No link leads nowhere."""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import itertools
import os
import pkgutil
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import framewire

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MODULES = [
    module.name
    for module in pkgutil.walk_packages(framewire.__path__, "framewire.")
    if module.name != "framewire.__main__"  # it runs the command
]

# What cannot be tried here: a block that speaks of it is left out, and so is the module.
ABSENT = ["dropin.twisted"] if importlib.util.find_spec("twisted") is None else []
if sys.platform == "win32":
    ABSENT.append("dropin.multiprocessing")
if importlib.util.find_spec("framewire._core_c") is None:
    ABSENT.append("_selector")


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text("utf-8")) if kind == language]


def run_examples(text: str, name: str, names: dict[str, object]) -> None:
    """Run a session, among `names` and with new ones added to them."""
    test = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, out=report.write, clear_globs=False)
    assert not runner.failures, report.getvalue()
    names.update(test.globs)


@pytest.mark.parametrize("name", ["framewire", *MODULES])
def test_the_examples_of_a_module(name: str) -> None:
    if name in {f"framewire.{absent}" for absent in ABSENT}:
        pytest.skip("what it needs is not here")
    module = importlib.import_module(name)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        report = io.StringIO()
        runner = doctest.DocTestRunner()
        runner.run(test, out=report.write)
        assert not runner.failures, report.getvalue()


def serve(listener: socket.socket) -> None:
    """The server of the README's loops: says what it was told."""
    client, _ = listener.accept()
    with client:
        while (received := client.recv(1000)) and not received.endswith(b"hello"):
            pass
        client.sendall(b"22        Welcome to the server!5         hello")


README_PROGRAMS = [text for text in blocks(README, "python") if ">>>" not in text]


@pytest.mark.parametrize("number", range(len(README_PROGRAMS)))
def test_the_programs_of_the_readme(number: int) -> None:
    output = io.StringIO()
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.redirect_stdout(output):
        server = threading.Thread(target=serve, args=[listener], daemon=True)
        server.start()
        text = README_PROGRAMS[number].replace('"localhost", 1243', f'"127.0.0.1", {listener.getsockname()[1]}')
        exec(compile(text, README, "exec"), {})
        server.join(60)
    assert output.getvalue() == "Welcome to the server!\nhello\n"


PORTS = ["1243", "8765", "9009", "9010"]


class Reading:
    """A page, read as its reader would: from top to bottom, in one folder, everything tried.

    - A python block with ``>>>`` is a session; the names of one are there in the next.
    - Any other python block is a program, written to the file that its first line names (``# client.py``). With an
      output block behind it, that is what it prints. Without, it is a server: it runs until the next server or the end
      of the page, is then interrupted (Ctrl-C), and has to end.
    - A console block has commands behind ``$``, each with its output.

      One that ends with ``&`` is a server.

    The ports are those that are free.
    """

    def __init__(self, page: Path, folder: Path) -> None:
        self.page = page
        self.folder = folder
        self.names: dict[str, object] = {}
        self.server: subprocess.Popen[str] | None = None
        self.server_count = 0
        with contextlib.ExitStack() as stack:
            free = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in PORTS]
            self.ports = {port: str(sock.getsockname()[1]) for port, sock in zip(PORTS, free, strict=True)}
        for name, module in [("framewire", " -m framewire"), ("python3", "")]:
            command = folder / name
            command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{module} "$@"\n')
            command.chmod(0o755)
        package = Path(framewire.__file__).parent.parent
        self.environment = {
            **os.environ,
            "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{package}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            "PYTHONUNBUFFERED": "1",
        }

    def read(self) -> int:
        """Try all; return how much there was."""
        steps = BLOCK.findall(self.page.read_text("utf-8"))
        count = 0
        try:
            for (kind, text), (next_kind, output) in itertools.pairwise([*steps, ("", "")]):
                if any(word in text for word in ABSENT):
                    continue
                if kind == "python" and ">>>" in text:
                    run_examples(text, self.page.name, self.names)
                elif kind == "python" and self.page != README:
                    self.run(self.here(text), output if next_kind == "output" else None)
                elif kind == "console" and os.name == "posix":
                    self.type(self.here(text))
                else:
                    continue
                count += 1
        finally:
            self.interrupt()
            for value in self.names.values():
                if isinstance(value, socket.socket):
                    value.close()
        return count

    def here(self, text: str) -> str:
        return re.sub("|".join(PORTS), lambda port: self.ports[port[0]], text)

    def run(self, text: str, expected: str | None) -> None:
        first = text.partition("\n")[0]
        assert re.fullmatch(r"# \w+\.py", first), f"a program begins with its name, not {first}"
        program = self.folder / first[2:]
        program.write_text(text, "utf-8")
        if expected is None:
            self.serve([str(program)], text)
            return
        done = subprocess.run(
            [sys.executable, "-W", "error", str(program)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.splitlines() == expected.splitlines(), f"{first}: {done.stderr}"
        assert not done.returncode, done.stderr

    def serve(self, command: list[str], text: str) -> None:
        """Start a server, and wait until it listens on all the ports that `text` names."""
        if os.name != "posix":
            pytest.skip("servers are interrupted with SIGINT")
        self.interrupt()
        self.server_count += 1
        listening = self.folder / f"listening{self.server_count}"
        listening.touch()
        starter = self.folder / "starter"
        starter.write_text(STARTER, "utf-8")
        self.server = subprocess.Popen(
            [sys.executable, "-W", "error", str(starter), str(listening), *command],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        count = sum(port in text for port in self.ports.values())
        deadline = time.monotonic() + 60
        while listening.stat().st_size < count:
            assert self.server.poll() is None, self.server.communicate()[1]
            assert time.monotonic() < deadline, f"{command} does not listen"
            time.sleep(0.01)

    def interrupt(self) -> None:
        server, self.server = self.server, None
        if server is None:
            return
        if server.poll() is None:
            server.send_signal(signal.SIGINT)
        try:
            _, errors = server.communicate(timeout=60)
        finally:
            server.kill()
        assert not errors or errors.splitlines()[-1] == "KeyboardInterrupt", errors

    def type(self, text: str) -> None:
        for step in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            line, _, expected = step.partition("\n")
            if line.endswith(" &"):
                self.serve(shlex.split(line)[:-1], line)
                continue
            done = subprocess.run(
                ["sh", "-c", f"({line}) 2>&1"], env=self.environment, capture_output=True, text=True, timeout=60
            )
            got = done.stdout.rstrip("\n") + "\n"
            assert ELLIPSIS.check_output(expected.rstrip("\n") + "\n", got, doctest.ELLIPSIS), (line, got)


ELLIPSIS = doctest.OutputChecker()

# Runs a program, or the command; a file grows by a byte whenever that listens.
STARTER = """\
import runpy, socket, sys

listen = socket.socket.listen
_, listening, program, *arguments = sys.argv

def listen_and_tell(*args):
    listen(*args)
    with open(listening, "a") as file:
        file.write(".")

socket.socket.listen = listen_and_tell
sys.argv = [program, *arguments]
if program == "framewire":
    runpy.run_module("framewire", run_name="__main__")
else:
    runpy.run_path(program, run_name="__main__")
"""


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_all_that_a_page_shows(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frames.bin").write_bytes(framewire.Encoder("u32be").encode_many([b"one", b"two", b"three"]))
    count = Reading(page, tmp_path).read()
    assert count or page.parent.name == "reference" or page.name == "performance.md"  # these show nothing to try


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
