"""Makes a release in one folder: the source archive, the pure wheel, and a wheel for each CPython.

::

    sources -> sdist -> tree -> cythonized once -> a copy for each interpreter -> raw wheel -> repaired -> packed

Everything but the archive is made from the archive's own tree, so that nothing else can get in. No container is used: a
wheel may call itself manylinux_2_17 because auditwheel finds no newer symbol in it, and stops if there is one.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tarfile
from pathlib import Path

from .commands import LOGS, ROOT, WORK, Failed, environment, run
from .inside import faults
from .interpreters import Interpreter
from .packing import pack

PYTHON = Path(sys.executable)
TOOLS = PYTHON.parent
BUILD_TOOLS = ("setuptools", "Cython")
LINKER = "gcc -shared -Wl,-O1 -Wl,--as-needed -Wl,-z,relro -Wl,-z,now"
"""In the place of the interpreter's own, which may carry a search path of this machine."""
CYTHONIZE = "import setuptools.build_meta as backend; backend.get_requires_for_build_wheel()"


def pins() -> list[str]:
    """What is needed in an environment that builds, as requirements.txt pins it."""
    lines = (Path(__file__).parent / "requirements.txt").read_text("utf-8").splitlines()
    return [line for line in lines if line.partition("==")[0] in BUILD_TOOLS]


def on_path(*folders: Path) -> str:
    """PATH with these folders before all others."""
    return os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)])


def make_sdist(out: Path) -> Path:
    """The source archive, in `out`.

    Raises:
        Failed: If it could not be made.
    """
    run("sdist", [PYTHON, "-I", "-m", "build", "--sdist", "--no-isolation", "--outdir", out, ROOT])
    return max(out.glob("framewire-*.tar.gz"), key=lambda path: path.stat().st_mtime)


def unpack(sdist: Path, folder: Path) -> Path:
    """The archive's own folder, anew under `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(folder)
    (tree,) = folder.iterdir()
    return tree


def cythonize(tree: Path) -> None:
    """Write the C once: it is the same for every interpreter."""
    run("cythonize", [PYTHON, "-I", "-c", f"import sys; sys.path.insert(0, '')\n{CYTHONIZE}"], cwd=tree)


def copy(tree: Path, name: str) -> Path:
    """A copy of the tree to build in, times of files kept: they say that the C is up to date."""
    target = WORK / "trees" / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(tree, target, copy_function=shutil.copy2)
    return target


def build_wheel(python: Path, tree: Path, name: str, env: dict[str, str]) -> Path:
    """The wheel of a tree, as the build writes it."""
    raw = WORK / "raw" / name
    shutil.rmtree(raw, ignore_errors=True)
    command: list[str | Path] = [
        python,
        "-m",
        "pip",
        "wheel",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--no-cache-dir",
    ]
    run(f"{name}-build", [*command, "--verbose", "--wheel-dir", raw, tree], env, cwd=WORK)
    (wheel,) = raw.iterdir()
    return wheel


def build_environment(interpreter: Interpreter) -> Path:
    """A virtual environment of this interpreter with what builds need; its Python."""
    folder = WORK / "build-env" / interpreter.tag
    python = venv_python(folder)  # not yet there, the first time
    if not python.with_name("ready").exists():
        make_venv(f"{interpreter.tag}-venv", interpreter, folder)
        run(f"{interpreter.tag}-tools", [python, "-I", "-m", "pip", "install", "--quiet", *pins()])
        python.with_name("ready").touch()
    return python


def make_venv(log: str, interpreter: Interpreter, folder: Path) -> Path:
    """A virtual environment, with pip; its Python."""
    bare = ["--without-pip"] if interpreter.pip else []
    run(log, [interpreter.path, "-m", "venv", "--clear", *bare, folder])
    python = venv_python(folder)
    if interpreter.pip:
        run(f"{log}-pip", [python, "-I", interpreter.pip / "pip", "install", "--no-index", interpreter.pip])
    return python


def venv_python(folder: Path) -> Path:
    """The Python of a virtual environment."""
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def repair(wheel: Path, out: Path, plat: str, strip: bool = True) -> Path:
    """The wheel with the tag `plat` and no other, in `out`, if it may have it.

    auditwheel knows the tags of its own C library; for another it has to find the tag by itself, which must be `plat`.

    Raises:
        Failed: If it wants a newer symbol, or a library that is not everywhere.
    """
    asked = plat if plat.startswith("manylinux") and plat.endswith(platform.machine()) else "auto"
    options: list[str | Path] = ["--only-plat", "--plat", asked, "--wheel-dir", out, *(["--strip"] if strip else [])]
    log = f"{wheel.parent.name}-repair"
    run(log, [PYTHON, "-I", "-m", "auditwheel", "repair", *options, wheel], environment(PATH=on_path(TOOLS)))
    stem = wheel.name.rsplit("-", 1)[0]
    made = [path for path in out.glob(f"{stem}-*.whl") if plat in path.name]
    if len(made) != 1:
        raise Failed(f"not {plat}: {[path.name for path in out.glob(f'{stem}-*.whl')]}")
    return pack(made[0])


def make_pure(tree: Path, out: Path) -> Path:
    """The wheel without the compiled core, for whatever has no wheel of its own."""
    wheel = build_wheel(PYTHON, copy(tree, "pure"), "pure", environment(FRAMEWIRE_PURE="1"))
    return pack(Path(shutil.copy(wheel, out)))


def make_wheel(interpreter: Interpreter, tree: Path, out: Path) -> Path:
    """The wheel for one CPython, in `out`.

    Raises:
        Failed: If the compiled core does not compile, or the wheel may not have its tag.
    """
    own = dict(interpreter.build_env)
    if sys.platform == "linux":
        own["LDSHARED"] = LINKER.replace("gcc", os.environ.get("CC", "gcc"), 1)
    env = environment(FRAMEWIRE_REQUIRE_EXT="1", **own)
    wheel = build_wheel(build_environment(interpreter), copy(tree, interpreter.tag), interpreter.tag, env)
    if sys.platform != "linux":
        return pack(Path(shutil.copy(wheel, out)))
    return repair(wheel, out, f"manylinux_2_17_{platform.machine()}")


def audit(files: list[Path]) -> list[str]:
    """What other people's checks find wrong with a set of files; what auditwheel shows is in the logs."""
    wheels = [path for path in files if path.suffix == ".whl"]
    checks: dict[str, list[str | Path]] = {
        "twine": ["twine", "check", "--strict", *files],
        "check-wheel-contents": ["check_wheel_contents", *wheels],
        **{f"show-{path.name}": ["auditwheel", "show", path] for path in wheels if "linux" in path.name},
    }
    said = {name: complaint(name, words) for name, words in checks.items()}
    return [f"{name}: {text}" for name, text in said.items() if text]


def complaint(name: str, words: list[str | Path]) -> str:
    """What a tool says if it fails, else nothing."""
    try:
        run(f"audit-{name}", [PYTHON, "-I", "-m", *words], environment(PATH=on_path(TOOLS)))
    except Failed as error:
        return str(error)
    return ""


def judge(path: Path) -> str:
    """The path again, if nothing is wrong inside.

    Raises:
        Failed: With all that is wrong.
    """
    if found := faults(path):
        raise Failed(f"{path.name}: " + "; ".join(found))
    return f"{path.name}  {path.stat().st_size / 1000:.0f} KB"


def start(out: Path) -> None:
    """Make room for a new set."""
    shutil.rmtree(LOGS, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    for path in out.glob("framewire-*"):
        path.unlink()
