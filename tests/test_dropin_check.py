"""``python -m framewire.dropin --check``: what it says of the hosts that are here, and of those that are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import framewire
from framewire.dropin import UnsupportedVersion, __main__, _check, _versions

NAMES = ["asyncio", "hiredis", "multiprocessing", "twisted", "websockets", "wsproto"]


def module_of(name: str) -> ModuleType:
    try:
        return import_module(f"framewire.dropin.{name}")
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


def host(name: str) -> _check.Host:
    return next(one for one in _check.HOSTS if one.name == name)


def absent(name: str) -> str:
    raise metadata.PackageNotFoundError(name)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    source = str(Path(framewire.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "framewire.dropin", *arguments],
        env={**os.environ, "PYTHONPATH": source, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_drop_in_is_there() -> None:
    assert [one.name for one in _check.HOSTS] == NAMES
    folder = Path(_check.__file__).parent
    assert [path.stem for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_table_and_the_module_say_the_same(name: str) -> None:
    module = module_of(name)
    assert host(name).versions == module.VERSIONS
    assert set(host(name).seams) == set(module.SEAMS)
    assert ("install" in host(name).offers) == hasattr(module, "install") == bool(module.SEAMS)
    assert set(module.__all__) <= set(vars(module))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "hiredis"])
def test_all_have_the_same_shape(name: str) -> None:
    module = module_of(name)
    assert not module.installed()
    for _ in range(2):
        module.install()
        assert module.installed()
    with module.patched():
        assert module.installed()
    assert module.installed()
    for _ in range(2):
        module.uninstall()
        assert not module.installed()
    with module.patched():
        assert module.installed()
    assert not module.installed()


def test_the_command_prints_a_table() -> None:
    done = run("--check")
    found = json.loads(run("--check", "--json").stdout)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"framewire {framewire.__version__}, {found['python']}, ")
    assert [line.split()[0] for line in lines[3:]] == NAMES
    assert done.stdout == _check.table(found) + "\n"
    refused = [one["host"] for one in found["hosts"] if one["accepted"] is False]
    assert done.returncode == (1 if refused else 0), done.stdout
    for one in found["hosts"]:
        assert (one["installed"] is None) == (one["accepted"] is None)
        assert (one["reason"] is not None) == (one["accepted"] is False)


def test_it_tells_which_core_and_why() -> None:
    found = json.loads(run("--check", "--json", FRAMEWIRE_CORE="py").stdout)
    assert (found["core"], found["core_reason"]) == ("pure", "FRAMEWIRE_CORE=py asked for the pure core")
    assert "pure core (FRAMEWIRE_CORE=py asked for the pure core)" in _check.table(found).splitlines()[0]
    here = _check.check()
    assert here["core"] == ("compiled" if framewire.CORE == "c" else "pure")
    assert here["core_reason"] == framewire.CORE_ERROR


def test_without_the_flag_there_is_only_usage() -> None:
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert "--check" in done.stderr


def only(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(_check, "HOSTS", (host(name),))


@pytest.mark.parametrize("name", ["hiredis", "twisted", "websockets", "wsproto"])
def test_what_is_not_installed_is_not_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    only(monkeypatch, name)
    monkeypatch.setattr(metadata, "version", absent)
    assert __main__.main(["--check"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.split("  ")[0] == name
    assert "not installed" in line
    assert _versions.text(host(name).versions) in line


def test_what_is_refused_is_told_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = module_of("wsproto")
    monkeypatch.setattr(module.wsproto, "__version__", "9.0")
    only(monkeypatch, "wsproto")
    assert __main__.main(["--check"]) == 1
    text = "wsproto 9.0: framewire.dropin.wsproto fits wsproto 1.0 to 1.3"
    assert capsys.readouterr().out.endswith(f"no: {text}\n")
    assert __main__.main(["--check", "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["hosts"]
    assert (found["accepted"], found["reason"]) == (False, text)


def test_a_host_that_is_broken_is_one_more_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> ModuleType:
        raise ImportError(f"{name} has lost its halves")

    monkeypatch.setattr(_check, "import_module", broken)
    assert host("asyncio").refusal() == "ImportError: framewire.dropin.asyncio has lost its halves"


def test_checking_changes_nothing() -> None:
    modules = [import_module(f"framewire.dropin.{name}") for name in ("asyncio", "multiprocessing")]
    with modules[0].patched():
        _check.check()
        assert [bool(module.installed()) for module in modules] == [True, False]


VERSIONS: list[tuple[str, Any, bool]] = [
    ("1.0.0", ((1, 0), (1, 3)), True),
    ("1.3.99", ((1, 0), (1, 3)), True),
    ("1.3", ((1, 0), (1, 3)), True),
    ("1.3.0rc1", ((1, 0), (1, 3)), True),
    ("1.3.2+local.9", ((1, 0), (1, 3)), True),
    ("1.4.0", ((1, 0), (1, 3)), False),
    ("1.10", ((1, 0), (1, 3)), False),
    ("0.9", ((1, 0), (1, 3)), False),
    ("24.3.0", ((24,), (26,)), True),
    ("26.10.0", ((24,), (26,)), True),
    ("27.0", ((24,), (26,)), False),
    ("3.9.1", ((3, 10), (3, 15)), False),
]


@pytest.mark.parametrize(("version", "versions", "good"), VERSIONS)
def test_versions_are_compared_as_numbers(version: str, versions: Any, good: bool) -> None:
    assert _versions.known(version, versions) == good
    if good:
        _versions.check("Host", version, versions)
    else:
        with pytest.raises(UnsupportedVersion, match=rf"^Host {version}: framewire\.dropin\.host fits Host "):
            _versions.check("Host", version, versions)
