"""Tries what was made as a stranger would: installed from files, in an environment of its own, without a compiler.

The suite runs on what is installed: from a copy of the source archive, in another folder, by ``python -I``. So neither
the sources nor the folder that a test stands in can be imported in its place.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from .commands import Failed, environment, run
from .interpreters import Interpreter
from .making import make_venv, pins, unpack

QUICK = [f"tests/test_{name}.py" for name in ("core", "layers", "spec", "errors", "connection", "wheels")]
COVERED = ["-m", "not build", "--ignore=tests/test_core.py", "--ignore=tests/test_hostile.py"]
"""What a second run, on the pure core, need not repeat: these run on both cores the first time."""
LEAST = ["pytest>=8", "hypothesis>=6.100", "h11>=0.14"]
"""What the suite cannot do without; it leaves out tests of what else is missing."""

PROGRAMS = ("sh", "env", "grep", "openssl", "nc", "node", "chromium", "chromedriver")
"""All that the tests find on PATH, besides their own environment: no compiler."""
COMPILERS = ("cc", "gcc", "clang", "tcc", "c++", "g++", "x86_64-linux-gnu-gcc", "aarch64-linux-gnu-gcc", "cl")

SUITE_LIMIT = 3600.0
"""Seconds for a run of the suite."""
WHERE = "import framewire, json; print(json.dumps([framewire.__file__, framewire.CORE, framewire.CORE_ERROR]))"
COUNTS = re.compile(r"^=* ?((?:\d+ \w+(?:, )?)+) in ", re.MULTILINE)


@dataclass
class Trial:
    """One line of the table.

    Attributes:
        subject: Who was tried.
        what: The file that was installed.
        outcome: ``ok``, ``FAILED`` or ``skipped``.
        notes: What the programs said, and why something failed or was left out.
    """

    subject: str
    what: str = ""
    outcome: str = "ok"
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        first, *rest = self.notes or [""]
        line = f"{self.subject:<22} {self.outcome:<8} {self.what:<44} {first}".rstrip()
        return "\n".join([line, *(f"{'':<32}{note}" for note in rest)])


def short(file: Path) -> str:
    """A file in a few words: its tag, the last one if it has several, and its size."""
    tag = "source archive" if file.suffix == ".gz" else file.stem.split("-", 2)[2]
    python, dash, platforms = tag.rpartition("-")
    return f"{python}{dash}{platforms.split('.')[-1]}, {file.stat().st_size / 1000:.0f} KB"


def verdict(trials: list[Trial], least: int) -> tuple[str, bool]:
    """The last line, and whether all is well: nothing failed, and at least so many CPythons were tried."""
    count = {outcome: sum(trial.outcome == outcome for trial in trials) for outcome in ("ok", "FAILED", "skipped")}
    wheels = sum(trial.outcome == "ok" and trial.subject.startswith("cp") for trial in trials)
    line = f"{count['ok']} passed, {count['FAILED']} failed, {count['skipped']} skipped"
    if wheels < least:
        line += f"; {wheels} CPythons, and it takes {least}"
    return line, not count["FAILED"] and wheels >= least


class Place:
    """A fresh environment of one interpreter, in a folder of its own far from the sources.

    Attributes:
        python: The Python of the environment.
        without: The variables for what must not find a compiler.
    """

    def __init__(self, interpreter: Interpreter, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        self.python = make_venv(f"{name}-test-venv", interpreter, folder / "env")
        programs = folder / "programs"
        programs.mkdir()
        for program in PROGRAMS:
            if (found := shutil.which(program)) and os.name == "posix":
                (programs / program).symlink_to(found)
        path = os.pathsep.join([str(self.python.parent), str(programs)])
        if os.name != "posix":
            path += os.pathsep + os.environ["PATH"]
        elif seen := [name for name in COMPILERS if shutil.which(name, path=path)]:
            raise Failed(f"there is a compiler on the PATH of the tests: {seen}")
        self.without = environment(PATH=path)

    def pip(self, log: str, *words: str | Path, alone: bool = True) -> None:
        """Run pip: without an index and a compiler if it is to do `alone`."""
        options = ["--no-index", "--no-deps", "--no-cache-dir"] if alone and words[0] == "install" else []
        command: list[str | Path] = [self.python, "-I", "-m", "pip", *words[:1], *options, *words[1:]]
        run(f"{self.name}-{log}", command, self.without if alone else environment(), cwd=self.folder)

    def install_dependencies(self, file: Path) -> str | None:
        """What the tests need, from the index; None, or what could not be had. framewire is gone again afterwards."""
        missing = None
        try:
            self.pip("dependencies", "install", "--quiet", f"framewire[test] @ {file.as_uri()}", alone=False)
            self.pip("away", "uninstall", "--yes", "--quiet", "framewire")
        except Failed:
            self.pip("dependencies-least", "install", "--quiet", *LEAST, alone=False)
            missing = "only some of the test dependencies could be had"
        return missing

    def check_core(self, core: str) -> None:
        """That framewire is imported from this environment, with this core."""
        said = run(f"{self.name}-where", [self.python, "-I", "-c", WHERE], self.without, self.folder)
        where, found, error = json.loads(said)
        if not Path(where).is_relative_to(self.folder / "env"):
            raise Failed(f"framewire was imported from {where}")
        if found != core:
            raise Failed(f"it runs on the core {found!r}, not {core!r}: {error}")

    def command(self, log: str, *words: str) -> str:
        """Run the framewire command."""
        program = self.python.with_name("framewire.exe" if os.name == "nt" else "framewire")
        return run(f"{self.name}-{log}", [program, *words], self.without, self.folder, limit=300)

    def bench(self) -> str:
        """Run the benchmark that comes with the package, if one does."""
        if "bench" not in self.command("help", "--help"):
            return "no bench command yet"
        self.command("bench", "bench", "--quick")
        return "bench ran"

    def suite(self, expect: str, sdist: Path, tests: str, arguments: list[str]) -> str:
        """Run the suite on one core; how many tests did what."""
        tree = unpack(sdist, self.folder / f"suite-{expect}")
        env = {**self.without, "FRAMEWIRE_EXPECT": expect}
        if expect == "pure":
            env["FRAMEWIRE_CORE"] = "py"
        chosen = [name for name in QUICK if (tree / name).exists()] if tests == "quick" else []
        command: list[str | Path] = [
            self.python,
            "-I",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            *chosen,
            *arguments,
        ]
        output = run(f"{self.name}-{expect}", command, env, tree, SUITE_LIMIT)
        counted = COUNTS.findall(output)
        return f"{expect}: {counted[-1] if counted else 'no count'}"


def try_wheel(interpreter: Interpreter, files: Path, folder: Path, tests: str) -> Trial:
    """Install from all the files of a release, as pip chooses, and run everything on both cores."""
    trial = Trial(f"{interpreter.tag} ({interpreter.version})")
    fitting = sorted(files.glob(f"framewire-*-{interpreter.tag.rstrip('t')}-{interpreter.tag}-*.whl"))
    (sdist,) = files.glob("framewire-*.tar.gz")
    try:
        if not fitting:
            raise Failed("no wheel was made for it")
        trial.what = short(fitting[0])
        place = Place(interpreter, folder, interpreter.tag)
        if missing := place.install_dependencies(fitting[0]):
            trial.notes.append(missing)
        # By its name, among all files: so it is also tried that pip takes the compiled one.
        place.pip("install", "install", "--find-links", files, "framewire")
        place.pip("check", "check")
        place.check_core("c")
        run(f"{place.name}-smoke", [place.python, "-I", Path(__file__).with_name("smoke.py")], place.without, folder)
        place.command("version", "--version")
        trial.notes.append(place.bench())
        trial.notes.append(place.suite("compiled", sdist, tests, []))
        trial.notes.append(place.suite("pure", sdist, tests, COVERED))
    except Failed as error:
        trial.outcome = "FAILED"
        trial.notes.append(str(error))
    return trial


def try_pure(interpreter: Interpreter, files: Path, folder: Path, tests: str, from_sources: bool = False) -> Trial:
    """The pure wheel, or the source archive where there is no compiler: both must work, on the pure core."""
    (sdist,) = files.glob("framewire-*.tar.gz")
    (wheel,) = files.glob("framewire-*-py3-none-any.whl")
    file = sdist if from_sources else wheel
    trial = Trial(f"{interpreter.name} {interpreter.version}", short(file))
    try:
        place = Place(interpreter, folder, f"{interpreter.tag}-{'sdist' if from_sources else 'pure'}")
        if missing := place.install_dependencies(wheel):
            trial.notes.append(missing)
        if from_sources:
            place.pip("tools", "install", "--quiet", *pins(), alone=False)
            place.pip("install", "install", "--no-build-isolation", file)
        else:
            place.pip("install", "install", file)
        place.check_core("py")
        place.command("version", "--version")
        trial.notes.append(place.suite("pure", sdist, tests, []))
    except Failed as error:
        trial.outcome = "FAILED"
        trial.notes.append(str(error))
    return trial
