"""The regression job: its workloads run, and it finds what is slower, unless a commit has said so."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parent.parent / "bench"

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the workloads are forked"),
    pytest.mark.skipif(shutil.which("git") is None, reason="no git"),
]
needs_valgrind = pytest.mark.skipif(
    shutil.which("valgrind") is None or sys.implementation.name != "cpython",
    reason="no valgrind, or a compiler at run time, which counts what it compiles",
)

# All of framewire that D5 needs.
DECODER = """
class Decoder:
    def __init__(self, spec):
        self.rest = b""

    def feed(self, chunk):
        data, payloads = self.rest + chunk, []
        while len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[:4], "big"):
            size = 4 + int.from_bytes(data[:4], "big")
            payloads.append(data[4:size])
            data = data[size:]
        self.rest = data
        return payloads
"""
SLOWER = DECODER.replace("        self.rest = data\n", "        self.rest = data\n        sum(range(20))\n")
WRONG = DECODER.replace("data[4:size]", "data[3:size]")
OTHER = DECODER.replace("Decoder", "Reader")


class Project:
    """A repository of its own, with a framewire of one class."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.module = root / "src" / "framewire" / "__init__.py"
        self.module.parent.mkdir(parents=True)
        self.git("init", "-q")

    def git(self, *args: str) -> None:
        name = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *name, *args], cwd=self.root, check=True, capture_output=True)

    def commit(self, text: str, message: str = "one more") -> None:
        self.module.write_text(text)
        self.git("add", ".")
        self.git("commit", "-q", "-m", message)


@pytest.fixture
def regression(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("regression")


@pytest.fixture
def project(regression: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(regression, "ROOT", tmp_path)
    return Project(tmp_path)


def test_each_workload_runs_in_a_process_of_its_own_and_gives_what_it_must() -> None:
    command = [sys.executable, str(BENCH / "counted.py"), "1,2"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line for line in lines if "error" in line] == []
    assert [line["rounds"] for line in lines] == [1, 2] * (len(lines) // 2)
    assert len({line["pid"] for line in lines}) == len(lines)
    names = {line["name"] for line in lines}
    assert names >= {"D1 feed", "D1 spans", "D3 feed", "D4 window", "D6 feed", "E1 encode_many", "W1a feed"}
    assert names >= {"endpoint echo", "loop echo"}


@pytest.mark.parametrize(
    ("head", "verdict"),
    [
        ([100.0, 100.0], "-"),
        ([103.0, 103.0], "-"),
        ([103.1, 103.1], "SLOWER"),
        ([96.9, 96.9], "faster"),
        ([100.0, 300.0, 100.0], "-"),  # one run that was disturbed
    ],
)
def test_the_verdict_goes_by_the_median_of_the_ratios(regression: ModuleType, head: list[float], verdict: str) -> None:
    row = regression.Row("D1 feed", [100.0] * len(head), head)
    assert row.verdict(0.03, set()) == verdict
    assert row.verdict(0.03, {"D1 feed"}) == verdict.replace("SLOWER", "slower, accepted")
    assert row.verdict(0.03, {"D3 feed"}) == verdict


def test_the_spread_is_that_of_the_worse_side(regression: ModuleType) -> None:
    assert regression.Row("D1 feed", [100.0, 102.0], [200.0, 210.0]).spread == pytest.approx(0.05)


def test_commits_say_in_their_last_paragraph_what_is_slower(regression: ModuleType, project: Project) -> None:
    project.commit("a = 1", "before\n\nSlower: D1 feed")
    project.commit("a = 2", "a check more\n\nIt costs, and is needed.\n\nSlower: D5 feed, loop echo")
    project.commit("a = 3", "words\n\nSlower: D3 feed is only talked about here.\n\nThe end.")
    project.commit("a = 4", "another\n\nSlower: E1 encode\nReviewed-by: somebody")
    assert regression.accepted("HEAD~3", "HEAD") == {"D5 feed", "loop echo", "E1 encode"}
    assert regression.accepted("HEAD", "HEAD") == set()


def test_the_files_as_they_stand_are_those_that_git_would_know(
    regression: ModuleType, project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (project.root / ".gitignore").write_text("*.so\n")
    (project.root / "gone.py").write_text("")
    project.commit("a = 1")
    (project.root / "gone.py").unlink()
    project.module.write_text("a = 2")
    for name in ("new.py", "core.so"):
        project.module.with_name(name).write_text("")
    now, then = tmp_path_factory.mktemp("trees") / "now", tmp_path_factory.mktemp("trees") / "then"
    regression.lay_out(None, now)
    regression.lay_out("HEAD", then)
    assert files(now) == {".gitignore", "src/framewire/__init__.py", "src/framewire/new.py"}
    assert files(then) == {".gitignore", "src/framewire/__init__.py", "gone.py"}
    assert (now / "src/framewire/__init__.py").read_text() == "a = 2"
    assert (then / "src/framewire/__init__.py").read_text() == "a = 1"


def files(tree: Path) -> set[str]:
    return {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}


@needs_valgrind
def test_what_is_slower_takes_more_instructions(
    regression: ModuleType, project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(regression, "COUNTS", 1)
    project.commit(DECODER)
    project.commit(SLOWER)
    assert regression.main(["--core", "py", "--only", "D5 feed", "--base", "HEAD~1", "--head", "HEAD"]) == 1
    assert "SLOWER" in capsys.readouterr().out


def test_a_commit_that_says_so_may_be_slower(
    regression: ModuleType, project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(regression, "time_all", lambda *_: [regression.Row("D5 feed", [100.0], [120.0])])
    options = ["--times", "--core", "py", "--only", "D5 feed", "--base", "HEAD~1"]
    project.commit(DECODER)
    project.commit(SLOWER)
    assert regression.main(options) == 1
    project.git("commit", "-q", "--amend", "-m", "a sum\n\nSlower: D5 feed")
    assert regression.main(options) == 0
    assert "slower, accepted" in capsys.readouterr().out


def test_counts_that_differ_from_themselves_are_an_error(
    regression: ModuleType, project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(regression, "count_all", lambda *_: [regression.Row("D5 feed", [1000.0, 1002.0], [1000.0] * 2)])
    project.commit(DECODER)
    assert regression.main(["--core", "py", "--only", "D5 feed"]) == 2
    assert "the same counts differ by more than 0.1%: D5 feed" in capsys.readouterr().err


def test_what_the_base_could_not_run_is_no_regression(
    regression: ModuleType, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.commit(OTHER)
    project.commit(DECODER)
    assert regression.main(["--times", "--core", "py", "--only", "D5 feed", "--base", "HEAD~1"]) == 0
    assert "not in the base: AttributeError" in capsys.readouterr().out


def test_times_are_those_of_both_sides(
    regression: ModuleType, project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(regression, "TIMES", 2)
    project.commit(DECODER)
    options = ["--times", "--core", "py", "--only", "D5 feed"]
    assert regression.main([*options, "--threshold", "1000000"]) == 0
    *_, line = capsys.readouterr().out.splitlines()
    assert line.split()[:2] == ["D5", "feed"]
    assert [float(number.replace(",", "")) > 0 for number in line.split()[2:5]] == [True] * 3


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (WRONG, "the head does not run {'D5 feed': 'AssertionError: another result'}"),
        (OTHER, "the head does not run {'D5 feed': \"AttributeError"),
        ("import os\nos.fork = lambda: 1 / 0", "ZeroDivisionError"),
    ],
    ids=["wrong", "incomplete", "broken"],
)
def test_a_head_that_does_not_run_is_an_error(
    regression: ModuleType, project: Project, capsys: pytest.CaptureFixture[str], head: str, why: str
) -> None:
    project.commit(DECODER)
    project.module.write_text(head)
    assert regression.main(["--core", "py", "--only", "D5 feed"]) == 2
    assert why in capsys.readouterr().err


def test_a_base_that_is_not_there_is_an_error(
    regression: ModuleType, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.commit(DECODER)
    assert regression.main(["--base", "nowhere"]) == 2
    assert "git merge-base:" in capsys.readouterr().err
