"""Rooms and floors: imports point downward only, each module stands alone, and the core is chosen once, loudly."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CORES, EXPECT

import framewire

PACKAGE = Path(framewire.__file__).parent

# What stands directly below each floor; "" is the front door. Downward is any number of steps.
BELOW: dict[str, set[str]] = {
    "errors": set(),
    "spec": set(),
    "_wire": {"errors", "spec"},
    "_core_py": {"_wire"},
    "_deflate": set(),
    "_websocket_py": {"_core_py", "_deflate"},
    "_core_c": {"_websocket_py"},
    "_core": {"_core_py", "_core_c"},
    "connection": {"_core"},
    "blocking": {"connection", "_address"},
    "_address": set(),
    "aio": {"connection", "_address"},
    "_endpoint_py": {"_core"},
    "_selector": {"_core_c"},
    "_endpoint": {"_endpoint_py", "_selector"},
    "channel": {"_endpoint", "_address"},
    "broadcast": {"channel"},
    "tls": {"channel"},
    "loop": {"broadcast", "tls"},
    "": {"blocking", "aio", "loop"},
    "websocket": {"websocket", "", "blocking", "aio", "loop"},
    "servers": {"servers", "", "blocking", "aio", "loop", "websocket"},
    "dropin": {"dropin", "", "_core"},
    "arguments": {"", "websocket"},
    "lines": {"arguments"},
    "status_line": set(),
    "pump": {"lines", "status_line"},
    "commands_stream": {"pump", "servers"},
    "commands_chat": {"arguments", "servers"},
    "benchmark": {"benchmark", "", "blocking", "aio", "loop", "status_line"},
    "commands_bench": {"arguments", "benchmark"},
    "cli": {"commands_stream", "commands_chat", "commands_bench"},
    "__main__": {"cli"},
}


# A channel knows of what type the loop is that has made it; at run time it imports nothing from above.
TYPES_ABOVE: dict[str, set[str]] = {"channel": {"broadcast", "loop"}, "broadcast": {"loop"}, "tls": {"loop"}}


def below(floor: str) -> set[str]:
    """Everything that a floor stands on."""
    found: set[str] = set()
    todo = [floor]
    while todo:
        new = BELOW[todo.pop()] - found
        found |= new
        todo += new
    return found


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imported(name: str, *, without_types: bool = False) -> set[str]:
    """The full names of what this module imports, wherever in it; or only what is not just for type checkers."""
    path = modules()[name]
    package = ["framewire", *name.split(".")] if name else ["framewire"]
    if path.name != "__init__.py":
        package.pop()
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    if without_types:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                skipped |= {inner for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            target = ".".join([*base, *filter(None, [node.module])])
            found |= {f"{target}.{alias.name}" if target == "framewire" else target for alias in node.names}
    return found


def floors(name: str, *, without_types: bool = False) -> set[str]:
    """The floors of framewire that this module imports."""
    names = imported(name, without_types=without_types)
    inside = {one.split(".")[1] if "." in one else "" for one in names if one.split(".")[0] == "framewire"}
    return {one if one in BELOW else "" for one in inside}  # "from framewire import Decoder" is the front door


@pytest.mark.parametrize("name", [name for name in modules() if name])
def test_imports_point_downward_only(name: str) -> None:
    floor = name.split(".")[0]
    assert floor in BELOW, f"{name} has no floor: give it one, here and in the design"
    assert floors(name) <= below(floor) | TYPES_ABOVE.get(floor, set())
    assert floors(name, without_types=True) <= below(floor)


def test_the_rule_is_able_to_see() -> None:
    assert below("connection") == {
        *("_core", "_core_py", "_core_c", "_websocket_py", "_deflate", "_wire", "errors", "spec")
    }
    assert floors("_wire") == {"errors", "spec"}
    assert floors("_core") == {"_core_c", "_core_py"}
    assert floors("") >= {"_core", "errors", "spec"}


def python(code: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter that finds the same framewire."""
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), **environment}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={name: value for name, value in env.items() if value is not None},
        capture_output=True,
        text=True,
        check=False,
    )


NEEDS = {
    "framewire._selector": "framewire._core_c",
    "framewire.dropin.twisted": "twisted",
    "framewire.dropin.wsproto": "wsproto",
    "framewire.servers.chat_web": "h11",
    "framewire.servers.pages": "h11",
    "framewire.servers.stream_web": "h11",
    **dict.fromkeys(
        [f"framewire.websocket.{name}" for name in ("aio", "blocking", "handshake", "loop", "protocol", "tls")], "h11"
    ),
}


@pytest.mark.parametrize(
    "name", ["framewire", *(f"framewire.{name}" for name in modules() if name and name != "__main__")]
)
def test_each_module_can_be_imported_alone(name: str) -> None:
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"needs {NEEDS[name]}")
    done = python(f"import {name}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_front_door_has_what_it_says() -> None:
    assert len(framewire.__all__) == len(set(framewire.__all__))
    assert set(framewire.__all__) <= set(vars(framewire))
    done = python("import framewire, sys; print(*sys.modules)")
    loaded = {name.split(".")[1] for name in done.stdout.split() if name.startswith("framewire.")}
    assert not loaded & {"cli", "servers", "dropin", "__main__"}


@pytest.mark.parametrize("name", sorted(below("blocking") - {"_core_c", "_address"}))
def test_below_the_drivers_there_is_no_socket_clock_thread_or_log(name: str) -> None:
    used = {one.split(".")[0] for one in imported(name)}
    assert not used & {"socket", "ssl", "select", "selectors", "asyncio", "time", "threading", "logging", "subprocess"}


# The choice of the core.


def test_the_core_that_runs_is_the_one_expected() -> None:
    chosen = os.environ.get("FRAMEWIRE_CORE") or ("py" if EXPECT == "pure" else "c")
    assert chosen == framewire.CORE
    assert (framewire.CORE_ERROR is None) == (framewire.CORE == "c")
    for cls in (framewire.Decoder, framewire.Encoder, framewire.Spans):
        assert cls.__module__ == f"framewire._core_{framewire.CORE}"


def test_the_compiled_core_has_not_vanished() -> None:
    if EXPECT == "compiled":
        assert CORES == ["c", "py"]
        assert importlib.util.find_spec("framewire._core_c"), "no compiled core; FRAMEWIRE_EXPECT=pure says it is meant"
    else:
        assert CORES == ["py"]
        assert framewire.CORE == "py"


@pytest.mark.parametrize("chosen", CORES)
def test_the_environment_chooses_the_core(chosen: str) -> None:
    code = "import framewire; print(framewire.CORE, framewire.Decoder('u8').feed(b'\\1x'), framewire.CORE_ERROR)"
    done = python(code, FRAMEWIRE_CORE=chosen)
    reason = "None" if chosen == "c" else "FRAMEWIRE_CORE=py asked for the pure core"
    assert (done.stdout, done.stderr) == (f"{chosen} [b'x'] {reason}\n", "")


@pytest.mark.parametrize("chosen", [None, ""])
def test_without_a_choice_the_best_available_core_runs(chosen: str | None) -> None:
    there = importlib.util.find_spec("framewire._core_c") is not None
    done = python("import framewire; print(framewire.CORE)", FRAMEWIRE_CORE=chosen)
    assert (done.stdout, done.stderr) == ("c\n" if there else "py\n", "")


@pytest.mark.parametrize("chosen", ["bogus", "C", "c ", "pure", "0"])
def test_a_choice_that_is_none_is_an_import_error(chosen: str) -> None:
    done = python("import framewire", FRAMEWIRE_CORE=chosen)
    assert done.returncode == 1
    assert f"ImportError: FRAMEWIRE_CORE must be 'c' or 'py', not {chosen!r}" in done.stderr


HIDE = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "framewire._core_c":
            {what}
sys.meta_path.insert(0, Hide())
"""
MISSING = HIDE.format(what="raise ModuleNotFoundError('hidden', name=name)")
BROKEN = HIDE.format(what="raise ImportError('undefined symbol: nonsense', name=name)")
DEPENDENCY = HIDE.format(what="raise ModuleNotFoundError('No module named other', name='other')")


def test_asking_for_a_compiled_core_that_is_missing_is_an_import_error() -> None:
    done = python(MISSING + "import framewire", FRAMEWIRE_CORE="c")
    assert done.returncode == 1
    assert "ImportError: FRAMEWIRE_CORE=c, but there is no compiled core: not built" in done.stderr


def test_a_missing_compiled_core_is_quietly_replaced_and_told() -> None:
    done = python(MISSING + "import framewire; print(framewire.CORE, framewire.CORE_ERROR)", FRAMEWIRE_CORE=None)
    assert (done.stdout, done.stderr) == ("py not built for this interpreter\n", "")


def test_a_compiled_core_that_does_not_load_is_not_passed_over_in_silence() -> None:
    always = "import warnings; warnings.simplefilter('always')\n"
    warned = python(BROKEN + always + "import framewire; print(framewire.CORE)", FRAMEWIRE_CORE=None)
    assert warned.stdout == "py\n"
    assert "RuntimeWarning" in warned.stderr
    assert "undefined symbol: nonsense" in warned.stderr
    failed = python(BROKEN + "import framewire", FRAMEWIRE_CORE="c")
    assert "undefined symbol: nonsense" in failed.stderr
    assert failed.returncode == 1


def test_a_module_that_the_compiled_core_needs_and_does_not_find_is_an_error() -> None:
    done = python(DEPENDENCY + "import framewire", FRAMEWIRE_CORE=None)
    assert done.returncode == 1
    assert "No module named other" in done.stderr


@pytest.mark.parametrize("chosen", CORES)
def test_both_cores_stay_importable_by_name(chosen: str) -> None:
    code = f"import framewire._core_{chosen} as core; print(core.Decoder('u8').feed(b'\\1x'))"
    for other in CORES:
        assert python(code, FRAMEWIRE_CORE=other).stdout == "[b'x']\n"
