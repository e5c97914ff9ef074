"""What is built and installed, with a C compiler and without.

The builds run in a copy of the sources, without the network: they need setuptools and Cython in this environment.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import framewire

ROOT = Path(__file__).parent.parent
BANNER = "NO COMPILED CORE in this build"
NOT_FOR_WHEELS = (".c", ".h", ".pyx", ".pxd", ".html")

needs_tools = pytest.mark.skipif(
    any(importlib.util.find_spec(tool) is None for tool in ("setuptools", "Cython", "pip")),
    reason="needs pip, setuptools and Cython to build without the network",
)
compiles = pytest.mark.skipif(
    os.name != "posix" or sys.implementation.name != "cpython", reason="no compiler to take away by CC=false"
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources in which nothing has been built."""
    copy = tmp_path_factory.mktemp("tree") / "framewire"
    left_out = shutil.ignore_patterns(
        ".git", ".venv*", "build", "dist", "*.egg-info", ".*_cache", "__pycache__", "*.so"
    )
    shutil.copytree(ROOT, copy, ignore=left_out)
    return copy


@pytest.fixture(scope="module")
def sdist(tree: Path) -> Path:
    script = "import setuptools.build_meta as backend; print(backend.build_sdist('dist'))"
    done = call(["-c", script], cwd=tree)
    assert done.returncode == 0, done.stdout
    return tree / "dist" / done.stdout.split()[-1]


def call(args: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, **options
    )  # type: ignore[call-overload, no-any-return]


def pip(*args: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pip in an environment of no other switches than these."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FRAMEWIRE_")}
    command, *rest = map(str, args)
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--verbose"]
    return call(["-m", "pip", "--disable-pip-version-check", command, *options, *rest], env={**clean, **environment})


@needs_tools
@compiles
@pytest.mark.build
def test_without_a_compiler_it_installs_and_says_what_runs(sdist: Path, tmp_path: Path) -> None:
    done = pip("install", "--target", tmp_path, sdist, CC="false")
    assert done.returncode == 0, done.stdout
    assert BANNER in done.stdout
    assert "FRAMEWIRE_REQUIRE_EXT=1" in done.stdout

    clean = {name: value for name, value in os.environ.items() if name != "FRAMEWIRE_CORE"}
    environment = {**clean, "PYTHONPATH": str(tmp_path)}
    script = "import framewire as fw; print(fw.__file__, fw.CORE, fw.CORE_ERROR, fw.Decoder('u8').feed(b'\\2ok'))"
    done = call(["-c", script], env=environment)
    assert done.stdout == f"{tmp_path / 'framewire' / '__init__.py'} py not built for this interpreter [b'ok']\n"
    done = call(["-m", "framewire", "--version"], env=environment)
    assert "pure-Python core (not built for this interpreter)" in done.stdout
    done = call(["-c", "import framewire"], env={**environment, "FRAMEWIRE_CORE": "c"})
    assert done.returncode == 1
    assert "ImportError: FRAMEWIRE_CORE=c, but there is no compiled core: not built for this interpreter" in done.stdout


@needs_tools
@compiles
@pytest.mark.build
def test_a_required_core_that_does_not_compile_is_an_error(tree: Path, tmp_path: Path) -> None:
    done = pip("wheel", "--wheel-dir", tmp_path, tree, CC="false", FRAMEWIRE_REQUIRE_EXT="1")
    assert done.returncode != 0
    assert BANNER in done.stdout
    assert not list(tmp_path.iterdir())


@needs_tools
@pytest.mark.build
def test_a_pure_wheel_fits_everywhere_and_holds_python_only(tree: Path, tmp_path: Path) -> None:
    done = pip("wheel", "--wheel-dir", tmp_path, tree, FRAMEWIRE_PURE="1", FRAMEWIRE_REQUIRE_EXT="1")
    assert done.returncode == 0, done.stdout
    assert BANNER in done.stdout
    (wheel,) = tmp_path.iterdir()
    assert wheel.name == f"framewire-{framewire.__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    package = tree / "src" / "framewire"
    files = [*package.rglob("*.py"), *(package / "servers" / "web").iterdir()]
    sources = {path.relative_to(tree / "src").as_posix() for path in files}
    info = f"framewire-{framewire.__version__}.dist-info"
    about = {f"{info}/{name}" for name in ["METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt"]}
    assert names == sources | {"framewire/py.typed", f"{info}/licenses/LICENSE"} | about


@needs_tools
@pytest.mark.build
def test_the_source_archive_holds_all_that_a_build_and_a_test_need(sdist: Path, tree: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ["ext", "tests", "src/framewire", "bench", "docs", "examples"]:
        here = {path.relative_to(tree).as_posix() for path in (tree / folder).rglob("*") if path.is_file()}
        assert here - names == set()
    assert {"pyproject.toml", "setup.py", "Makefile", "README.md", "CHANGELOG.md", "LICENSE"} <= names
    generated = {name for name in names if name.endswith((".c", ".so", ".pyd", ".pyc", ".html"))}
    by_hand = ("bench/", "src/framewire/servers/web/")
    assert [name for name in generated if not name.startswith(by_hand)] == []


def test_what_is_installed_holds_no_sources_of_the_core() -> None:
    try:
        installed = importlib.metadata.distribution("framewire")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("run from the sources: nothing is installed")
    if installed.read_text("RECORD") is None:
        pytest.skip("run from the sources, beside which a build has left a list of them")
    names = [str(file) for file in installed.files or []]
    if not any(name.endswith("framewire/__init__.py") for name in names):
        pytest.skip("an editable installation has no files of its own")
    assert [name for name in names if name.endswith(NOT_FOR_WHEELS) and "/servers/web/" not in name] == []
    if framewire.CORE == "c":
        assert len([name for name in names if "_core_c" in name]) == 1
