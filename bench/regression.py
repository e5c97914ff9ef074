"""Compares what framewire takes now with what it took at an earlier commit, and fails if that is more.

    python bench/regression.py --base main                      the files as they stand beside where they left main
    python bench/regression.py --base HEAD~3 --head HEAD        two commits
    python bench/regression.py --only "D1 feed,loop echo"       beside the last commit

Both are built here, by the same compiler for the same Python, in a temporary folder, and run the workloads of
counted.py, this tree's. What is compared are instructions, counted by valgrind's callgrind: neither the machine nor
what else it does changes them, and 3 % more is too much. Where there is no valgrind, or with ``--times``, it is
processor time, taken in turn by both: then 10 % more is too much, and a busy machine may be wrong about it.

A commit that has a good reason to be slower says in a last paragraph of its message what may be, and above it why::

    Slower: D5 feed, loop echo

Exit status: 0 if nothing is slower but what was said to be; 1 if something is; 2 if that could not be found out.
Needs git, and Cython and setuptools in this environment.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COUNTED = Path(__file__).with_name("counted.py")

TRAILER = "Slower"
SIDES = ("base", "head")  # of equal length, as the paths of both should be
FEW, MANY = 1, 5
"""Rounds: what the many take more than the few is theirs alone, without start, data and the first round's surprises."""
COUNTS, TIMES = 2, 15
"""How often each side is measured."""
STEADY = 0.001
"""Counts of the same that differ by more of themselves are no counts to rely on."""


class MeasureError(Exception):
    """There is nothing to compare: the text says why."""


@dataclass(frozen=True)
class Row:
    """What one workload took, measured as often on one side as on the other."""

    name: str
    base: list[float]
    head: list[float]

    @property
    def ratio(self) -> float:
        return median(head / base for base, head in zip(self.base, self.head, strict=True))

    @property
    def spread(self) -> float:
        """By how much the same differed from itself."""
        return max(max(side) / min(side) - 1 for side in (self.base, self.head))

    def verdict(self, threshold: float, accepted: set[str]) -> str:
        if self.ratio > 1 + threshold:
            return "slower, accepted" if self.name in accepted else "SLOWER"
        return "faster" if self.ratio < 1 - threshold else "-"


# Two trees.


def git(*args: str) -> str:
    done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise MeasureError(f"git {args[0]}: {done.stderr.strip()}")
    return done.stdout.rstrip("\n")


def lay_out(commit: str | None, tree: Path) -> None:
    """The files of a commit; without one, those that stand here and are not ignored."""
    if commit:
        archive = tree.with_suffix(".zip")
        git("archive", "--format=zip", f"--output={archive}", commit)
        shutil.unpack_archive(archive, tree)
        return
    for name in git("ls-files", "-z", "--cached", "--others", "--exclude-standard").rstrip("\0").split("\0"):
        if (ROOT / name).is_file():  # and not deleted since the last commit
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)


def build(tree: Path) -> None:
    """Compile the core in place, with none of the switches that may be set here."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("FRAMEWIRE_")}
    env |= {"FRAMEWIRE_REQUIRE_EXT": "1"}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=tree, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise MeasureError(f"the {tree.name} does not build:\n{done.stdout[-4000:]}")


def accepted(base: str, head: str) -> set[str]:
    """The workloads that the commits between say are slower."""
    lines = git("log", f"--format=%(trailers:key={TRAILER},valueonly)", f"{base}..{head}").splitlines()
    return {name.strip() for line in lines for name in line.split(",")} - {""}


# Measuring.


def run(tree: Path, core: str, rounds: Sequence[int], names: Sequence[str], *tool: str) -> list[dict[str, Any]]:
    """The lines that counted.py prints."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tree / "src"), "PYTHONHASHSEED": "0", "FRAMEWIRE_CORE": core}
    script = [sys.executable, "-S", str(COUNTED), ",".join(map(str, rounds)), *names]
    done = subprocess.run([*tool, *script], env=env, cwd=tree, capture_output=True, text=True)
    if done.returncode:
        raise MeasureError(f"the {tree.name} does not run:\n{done.stderr[-4000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def failures(lines: Sequence[dict[str, Any]]) -> dict[str, str]:
    return {line["name"]: line["error"] for line in lines if "error" in line}


def count(tree: Path, core: str, names: Sequence[str], profiles: Path) -> dict[str, float]:
    """Instructions of each workload in one round."""
    profiles.mkdir()
    tool = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={profiles}/%p"]
    lines = run(tree, core, (FEW, MANY), names, *tool)
    if failed := failures(lines):
        raise MeasureError(f"the {tree.name} does not run under valgrind: {failed}")
    totals: dict[str, list[int]] = {}
    for line in lines:
        total = re.search(r"^totals: (\d+)", (profiles / str(line["pid"])).read_text(), re.MULTILINE)
        if total is None:
            raise MeasureError(f"callgrind has not counted {line['name']}")
        totals.setdefault(line["name"], []).append(int(total[1]))
    return {name: (many - few) / (MANY - FEW) for name, (few, many) in totals.items()}


def count_all(folder: Path, core: str, names: Sequence[str], jobs: int) -> list[Row]:
    """Everything `COUNTS` times, several at once: instructions do not mind."""
    with ThreadPoolExecutor(jobs) as pool:
        sides = [
            [pool.submit(count, folder / side, core, names, folder / f"{side}-{i}") for i in range(COUNTS)]
            for side in SIDES
        ]
    base, head = ([one.result() for one in side] for side in sides)
    return [Row(name, [one[name] for one in base], [one[name] for one in head]) for name in names]


def time_all(folder: Path, core: str, names: Sequence[str]) -> list[Row]:
    """Nanoseconds of a round, the least of many, by turns and one at a time."""
    found: dict[tuple[str, str], list[float]] = {(side, name): [] for side in SIDES for name in names}
    for i in range(TIMES):
        for name in names:
            for side in SIDES if i % 2 else reversed(SIDES):
                (line,) = run(folder / side, core, [4 * MANY], [name])
                found[side, name].append(line["ns"])
    return [Row(name, *(found[side, name] for side in SIDES)) for name in names]


def report(rows: Sequence[Row], new: dict[str, str], threshold: float, accepted: set[str]) -> list[str]:
    """Print the table; return the verdicts."""
    print(f"\n{'':<16}{'base':>14}{'head':>14}{'head/base':>12}{'spread':>10}")
    verdicts = [row.verdict(threshold, accepted) for row in rows]
    for row, verdict in zip(rows, verdicts, strict=True):
        sides = f"{median(row.base):>14,.0f}{median(row.head):>14,.0f}"
        print(f"{row.name:<16}{sides}{row.ratio:>12.4f}{row.spread:>10.3%}  {verdict}")
    for name, why in new.items():
        print(f"{name:<16}not in the base: {why}")
    return verdicts


def compare(options: argparse.Namespace) -> int:
    head = options.head or "HEAD"
    base = git("merge-base", options.base, head)
    counting = not options.times and shutil.which("valgrind") is not None
    threshold = (options.threshold or (3 if counting else 10)) / 100
    print(f"base       {git('log', '-1', '--format=%h %s', base)}")
    print(f"head       {git('log', '-1', '--format=%h %s', head) if options.head else 'the files as they stand'}")
    print(f"python     {platform.python_version()}, {platform.python_compiler()}, core {options.core}")
    print(f"measured   {'instructions, by callgrind' if counting else 'nanoseconds of processor time'}, in a round")
    sys.stdout.flush()
    with TemporaryDirectory(prefix="regression-") as place:
        folder = Path(place)
        trees = [folder / side for side in SIDES]
        for tree, commit in zip(trees, (base, options.head), strict=True):
            lay_out(commit, tree)
        if options.core == "c":
            with ThreadPoolExecutor(options.jobs) as pool:
                list(pool.map(build, trees))
        # A first look, which also leaves compiled modules behind for all that follow.
        old, now = (run(tree, options.core, [FEW], options.only) for tree in trees)
        if failed := failures(now):
            raise MeasureError(f"the head does not run {failed}")
        new = failures(old)
        names = [line["name"] for line in now if line["name"] not in new]
        if counting:
            rows = count_all(folder, options.core, names, options.jobs)
        else:
            rows = time_all(folder, options.core, names)
    verdicts = report(rows, new, threshold, accepted(base, head))
    if counting and (unsteady := [row.name for row in rows if row.spread > STEADY]):
        raise MeasureError(f"the same counts differ by more than {STEADY:.1%}: {', '.join(unsteady)}")
    if slower := verdicts.count("SLOWER"):
        print(f"\n{slower} slower by more than {threshold:.0%}; '{TRAILER}:' and a reason would be accepted.")
    return 1 if slower else 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--base", metavar="COMMIT", default="HEAD", help="or where the head has left it")
    parser.add_argument("--head", metavar="COMMIT", help="instead of the files as they stand")
    parser.add_argument("--only", metavar="NAMES", type=lambda names: names.split(","), default=[], help="by commas")
    parser.add_argument("--core", choices=["c", "py"], default="c")
    parser.add_argument("--threshold", metavar="PERCENT", type=float, help="3 for instructions, 10 for times")
    parser.add_argument("--times", action="store_true", help="compare times even where there is valgrind")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="builds and counts at once")
    try:
        return compare(parser.parse_args(arguments))
    except MeasureError as error:
        print(f"regression.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
