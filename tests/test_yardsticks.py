"""The yardsticks: framewire's and C's run and agree, a wrong one is refused, and the README's table and plot fit."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "bench" / "yardsticks"

linux = pytest.mark.skipif(sys.platform != "linux", reason="the echo's load is written for epoll")


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A file of the folder; what it imports there and in bench goes with the test."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), str(FOLDER.parent), *sys.path])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    return importlib.import_module(name)


def results() -> dict[str, Any]:
    return {
        "setting": {
            "cpu": "a processor",
            "system": "Linux",
            "run": "3 rounds",
            "versions": {"framewire": "framewire 1", "c": "gcc & friends"},
        },
        "missing": {"go": "there is no go"},
        "cases": {
            "S1-1x1": {"ns": {"framewire": [30_000.0], "c": [20_000.0]}, "failed": {}},
            "dropped": {"ns": {"framewire": [20.0, 16.0, 18.0], "spans": [3.0], "c": [15.0, 99.0, 17.0]}, "failed": {}},
        },
    }


@linux
@pytest.mark.parametrize("rivals", ["framewire", "framewire,c"])
def test_the_command_decodes_compares_and_reports(rivals: str, tmp_path: Path) -> None:
    if "c" in rivals.split(",") and not (os.environ.get("CC") or shutil.which("cc")):
        pytest.skip("there is no C compiler")
    report = tmp_path / "report.json"
    options = ["--only", "dropped,kept", "--rivals", rivals, "--rounds", "1", "--scale", "0.01", "--json", str(report)]
    done = subprocess.run([sys.executable, FOLDER / "run.py", *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cases = json.loads(report.read_text())["cases"]
    names = set(rivals.split(","))
    assert [case["failed"] for case in cases.values()] == [{}, {}]
    assert [set(case["ns"]) for case in cases.values()] == [{*names, "spans"}, names]


@linux
def test_a_yardstick_that_finds_other_payloads_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    run = module("run", monkeypatch)
    stream = run.Stream(Path("unread"), 64, frame_count=2, checksum=7)
    stream.compare({"count": 2, "adler32": 7})
    for wrong in ({"count": 1, "adler32": 7}, {"count": 2, "adler32": 8}):
        with pytest.raises(run.RunError, match="others"):
            stream.compare(wrong)


@linux
def test_a_bar_is_about_medians_and_what_was_not_measured_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    run = module("run", monkeypatch)
    ns = {"framewire": [10.0, 11.0, 90.0], "tokio": [22.0, 21.0, 23.0], "spans": [4.0, 4.0, 4.0]}
    waited = dict.fromkeys(ns, 0.0)
    cases = {"dropped": {"ns": ns, "waited": waited}}
    assert [(row["ratio"], row["verdict"]) for row in run.judge(cases)] == [(2.0, "pass"), (5.5, "SHORT")]
    waited["spans"] = 0.5
    assert [row["verdict"] for row in run.judge(cases)] == ["pass", "SHORT (the cores were busy)"]


def test_the_table_has_every_case_and_row_that_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = module("picture", monkeypatch).table(results()).splitlines()
    assert lines[2:7] == [
        "| 32-byte payloads | decode, dropped | echo, 1 in flight |",
        "|---|---:|---:|",
        "| **framewire**, `feed_spans` | 3.0 ns |  |",
        "| **framewire** | 18.0 ns | 30.0 µs |",
        "| C | 17.0 ns | 20.0 µs |",
    ]
    assert "there is no go" in lines[-1]


def test_the_plot_is_drawn_to_scale_the_fastest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = module("picture", monkeypatch)
    space = "{http://www.w3.org/2000/svg}"
    root = ET.fromstring(picture.plot(results()))
    panel = root.find(f"{space}g")
    assert panel is not None
    widths = [float(bar.attrib["width"]) for bar in panel.iter(f"{space}rect")]
    assert widths == pytest.approx([picture.BAR_WIDTH * ns / 18 for ns in (3, 17, 18)], abs=0.1)
    assert [text.text for text in panel.iter(f"{space}text")][1::2] == ["framewire spans", "C", "framewire"]


def test_only_what_stands_between_the_markers_is_rewritten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    picture = module("picture", monkeypatch)
    readme = tmp_path / "README.md"
    monkeypatch.setattr(picture, "ROOT", tmp_path)
    monkeypatch.setattr(picture, "README", readme)
    monkeypatch.setattr(picture, "PLOT", tmp_path / "plot.svg")
    readme.write_text("no place\n")
    with pytest.raises(SystemExit, match="no place"):
        picture.publish(results())
    readme.write_text(f"above\n{picture.BEGIN}\nold\n{picture.END}\nbelow\n")
    for _ in range(2):
        picture.publish(results())
        text = readme.read_text("utf-8")
        assert text == f"above\n{picture.BEGIN}\n{picture.table(results())}{picture.END}\nbelow\n"
    assert (tmp_path / "plot.svg").read_text("utf-8") == picture.plot(results())
