"""Makes the wheels of a release on one machine, without containers, and tries them.

    python -m tests.wheels build                     dist/: the source archive, the pure wheel, a wheel for each CPython
    python -m tests.wheels test                      each installed without an index or a compiler, suite on both cores
    python -m tests.wheels test --tests quick        the same with the tests of the core only
    python -m tests.wheels build --extra             also Pythons out of Debian's packages, musl, aarch64 and s390x
    python -m tests.wheels pack WHEEL...             deflate them again, smaller
    python -m tests.wheels look FILE...              the look inside, of any platform's wheels
    python -m tests.wheels identifiers               is cibuildwheel configured to build what a release needs?

Interpreters are looked for on PATH and under pyenv; ``--python PATH`` names more. One that is not there is a line that
says so. Exit status 1 if anything fails, or if fewer than three CPythons could be served. Logs: build/wheels/logs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

from . import cross, debian, identifiers, making
from .commands import LOGS, ROOT, WORK, Failed
from .inside import faults
from .interpreters import WANTED, Interpreter, find
from .packing import pack
from .trying import Trial, try_pure, try_wheel, verdict

AT_ONCE = 2
"""Builds, and suites."""
LEAST = 3
"""CPythons that have to be there: less proves too little."""
FROM_DEBIAN = ("3.14", "3.15")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.wheels", description="Makes and tries the wheels of a release."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="make the files of a release")
    test = commands.add_parser("test", help="install them and run the suite")
    for command, run in ((build, do_build), (test, do_test)):
        command.add_argument("--dist", type=Path, default=ROOT / "dist", help="the folder of the files")
        command.add_argument("--python", type=Path, action="append", default=[], help="one more interpreter")
        command.add_argument("--only", default="", help="tags, with commas between them: cp310,cp313")
        command.add_argument("--extra", action="store_true", help="what has to be downloaded or emulated, too")
        command.add_argument("--least", type=int, default=LEAST, help="CPythons that have to be there (%(default)s)")
        command.set_defaults(run=run)
    test.add_argument("--tests", choices=["full", "quick"], default="full")
    packing = commands.add_parser("pack", help="deflate wheels again, smaller")
    packing.add_argument("files", type=Path, nargs="+", metavar="WHEEL")
    packing.set_defaults(run=do_pack)
    look = commands.add_parser("look", help="look inside wheels and source archives")
    look.add_argument("files", type=Path, nargs="+", metavar="FILE")
    look.add_argument("--count", type=int, help="how many wheels there have to be")
    look.set_defaults(run=do_look)
    commands.add_parser("identifiers", help="compare with identifiers.txt").set_defaults(run=do_identifiers)
    options = parser.parse_args()
    return int(options.run(options))


def here(options: argparse.Namespace) -> tuple[list[Interpreter], list[Trial]]:
    """The interpreters to serve, and a line for each that cannot be."""
    found = find(options.python)
    skipped: dict[str, str] = {}
    if options.extra and sys.platform == "linux":
        more = []
        for minor in FROM_DEBIAN:
            tag = "cp" + minor.replace(".", "")
            if tag not in {each.tag for each in found}:
                try:
                    more.append(debian.interpreter(minor))
                except Failed as error:
                    skipped[tag] = f"not on this machine, nor from Debian: {str(error).splitlines()[0]}"
        found = find(options.python, more)
    only = set(options.only.split(",")) - {""}
    if only:
        found = [each for each in found if each.tag in only]
    there = {each.tag for each in found}
    for each in found:
        if each.name == "cpython" and not each.headers:
            skipped[each.tag] = f"{each.path} has no Python.h"
    found = [each for each in found if each.tag not in skipped]
    missing = [tag for tag in WANTED if (not only or tag in only) and (tag not in there or tag in skipped)]
    lines = [Trial(tag, outcome="skipped", notes=[skipped.get(tag, "not on this machine")]) for tag in missing]
    return found, lines


def attempt(subject: str, action: Callable[[], str], lenient: bool = False) -> Trial:
    """Do it, and tell in a line how it went; a `lenient` failure is a thing left out."""
    trial = Trial(subject)
    try:
        trial.notes.append(action())
    except Failed as error:
        trial.outcome = "skipped" if lenient else "FAILED"
        trial.notes.append(str(error))
    print(trial, flush=True)
    return trial


def do_build(options: argparse.Namespace) -> int:
    out: Path = options.dist.resolve()
    making.start(out)
    found, trials = here(options)
    for trial in trials:
        print(trial)
    try:
        sdist = making.make_sdist(out)
        tree = making.unpack(sdist, WORK / "tree")
        making.cythonize(tree)
    except Failed as error:
        print(f"the source archive: {error}")
        return 1
    trials.append(attempt("the source archive", lambda: making.judge(sdist)))
    trials.append(attempt("the pure wheel", lambda: making.judge(making.make_pure(tree, out))))
    cpythons = [each for each in found if each.name == "cpython"]

    def build(each: Interpreter) -> Trial:
        subject = f"{each.tag} ({each.version})"
        return attempt(subject, lambda: making.judge(making.make_wheel(each, tree, out)))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        trials += pool.map(build, cpythons)
    problems = attempt("other checks", lambda: audited(sorted(out.glob("framewire-*"))))
    trials += [problems, attempt("cibuildwheel", check_identifiers, lenient=sys.version_info < (3, 11))]
    if options.extra and cross.possible():
        trials += do_extra(cpythons, tree, WORK / "cross")
    line, well = verdict(trials, options.least)
    print(f"{line}; the files are in {out}, the logs in {LOGS}")
    return 0 if well else 1


def do_extra(cpythons: list[Interpreter], tree: Path, out: Path) -> list[Trial]:
    """What is built to be checked only, and so lies apart from what may be published."""
    out.mkdir(parents=True, exist_ok=True)
    for path in out.glob("framewire-*"):
        path.unlink()

    def foreign(machine: str) -> str:
        wheel, said = cross.foreign(machine, cpythons, tree, out)
        return f"{making.judge(wheel)}: {said}"

    return [
        attempt("musl x86_64", lambda: making.judge(cross.musl(cpythons, tree, out)), lenient=True),
        attempt("aarch64", lambda: foreign("aarch64"), lenient=True),
        attempt("s390x", lambda: foreign("s390x"), lenient=True),
    ]


def do_test(options: argparse.Namespace) -> int:
    files: Path = options.dist.resolve()
    if len(list(files.glob("framewire-*.tar.gz"))) != 1 or len(list(files.glob("*-none-any.whl"))) != 1:
        print(f"no set of wheels in {files}: python -m tests.wheels build makes one", file=sys.stderr)
        return 1
    found, trials = here(options)
    cpythons = [each for each in found if each.name == "cpython"]
    oldest, others = cpythons[:1], [each for each in found if each.name != "cpython"]
    with tempfile.TemporaryDirectory(prefix="framewire-wheels-") as scratch, ThreadPoolExecutor(AT_ONCE) as pool:

        def folder() -> Path:
            return Path(tempfile.mkdtemp(dir=scratch))

        jobs = [pool.submit(try_wheel, each, files, folder(), options.tests) for each in cpythons]
        jobs += [
            pool.submit(try_pure, each, files, folder(), options.tests, from_sources)
            for each, from_sources in [
                *((each, False) for each in [*oldest, *others]),
                *((each, True) for each in oldest),
            ]
        ]
        for job in jobs:
            trials.append(job.result())
            print(trials[-1], flush=True)
    for trial in trials:
        if trial.outcome == "skipped":
            print(trial)
    line, well = verdict(trials, options.least)
    print(f"{line}; the logs are in {LOGS}")
    return 0 if well else 1


def do_pack(options: argparse.Namespace) -> int:
    with ProcessPoolExecutor() as pool:
        for path in pool.map(pack, options.files):
            print(f"{path.name}: {path.stat().st_size} bytes")
    return 0


def do_look(options: argparse.Namespace) -> int:
    bad = 0
    for path in options.files:
        found = faults(path)
        bad += bool(found)
        print(f"{path.name}: {'; '.join(found) or 'nothing wrong'}")
    wheels = sum(path.suffix == ".whl" for path in options.files)
    if options.count not in (None, wheels):
        print(f"{wheels} wheels where there have to be {options.count}")
        bad += 1
    return 1 if bad else 0


def audited(files: list[Path]) -> str:
    if problems := making.audit(files):
        raise Failed("\n".join(problems))
    return "check-wheel-contents, twine check --strict, auditwheel show: nothing to say"


def check_identifiers() -> str:
    if wrong := identifiers.differences():
        raise Failed("; ".join(wrong))
    return f"{len(identifiers.expected())} wheels configured, as listed"


def do_identifiers(options: argparse.Namespace) -> int:
    return 1 if attempt("cibuildwheel", check_identifiers).outcome == "FAILED" else 0


if __name__ == "__main__":
    sys.exit(main())
