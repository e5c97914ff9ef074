"""Measures framewire beside what other languages frame with, and writes the table and the plot of the README.

    python bench/yardsticks/run.py                                 everything that can be built here: ten minutes
    python bench/yardsticks/run.py --only dropped,S1-1x1 --rounds 3               a quick look
    python bench/yardsticks/run.py --install --json all.json --readme             what the README shows
    python bench/yardsticks/run.py --from all.json --readme                       write that again

Each run is a process of its own; within a round all yardsticks run in turn, in another order each round. What is
compared, and how to read it: README.md beside this file. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from zlib import adler32

sys.path.append(str(Path(__file__).parent.parent))

import picture
import server_report
from languages import BUILD, FRAMEWIRE, YARDSTICKS, Yardstick
from server_report import ATTEMPTS, DISTURBED, Bench, Case, RunError, Server
from workloads import WORKLOADS, Data

PASSES = 15
DECODES = ("dropped", "kept")
SPANS = "spans"
"""framewire's other way, beside payloads that are dropped."""
POLLING, BUSY_POLL = "polling", "50e-6"
"""Its loop when it asks for so many seconds before it sleeps, which none of the others does."""
OTHER_TITLES = {SPANS: "framewire spans", POLLING: "framewire polling"}
ECHOES = ("S1-1x1", "S1-1x1000", "S1-100x10")


@dataclass(frozen=True)
class Bar:
    """On that case, `slow` takes at least `factor` times as long as `fast`."""

    case: str
    fast: str
    slow: str
    factor: float = 1.0


BARS = [
    *(Bar("dropped", FRAMEWIRE, slow) for slow in ("tokio", "netty", "go")),
    Bar("dropped", SPANS, "tokio", 6.0),
    *(Bar("kept", FRAMEWIRE, slow) for slow in ("tokio", "netty", "go")),
    Bar("S1-1x1", FRAMEWIRE, "tokio"),
    Bar("S1-1x1", POLLING, "tokio"),
    Bar("S1-1x1000", FRAMEWIRE, "tokio"),
]


@dataclass(frozen=True)
class Measured:
    """A run."""

    ns: float
    waited: float
    """The share of its time for which it was ready, and others had its core."""


Run = Callable[[], Measured]


@dataclass(frozen=True)
class Stream:
    """The bytes that all decode, and what has to come of them."""

    path: Path
    chunk_size: int
    frame_count: int
    checksum: int

    @classmethod
    def write(cls, scale: float) -> Stream:
        workload = WORKLOADS["D1"].scaled(scale)
        data = Data(workload)
        path = BUILD / "D1.bin"
        path.write_bytes(data.stream)
        return cls(path, workload.chunk_size, workload.frame_count, adler32(data.stream))

    def decode(self, yardstick: Yardstick, mode: str) -> Measured:
        """Nanoseconds of a frame: the median of a run's passes."""
        numbers = (self.chunk_size, mode, yardstick.warmup, PASSES)
        begin, had = perf_counter(), processor_time()
        done = subprocess.run(
            [*yardstick.decode, str(self.path), *map(str, numbers)], capture_output=True, text=True, check=False
        )
        waited = 1 - (processor_time() - had) / (perf_counter() - begin)
        if done.returncode != 0:
            raise RunError(done.stderr.strip() or f"it ended with status {done.returncode}")
        report = json.loads(done.stdout)
        self.compare(report)
        return Measured(median(report["ns"]) / self.frame_count, max(0.0, waited))

    def compare(self, report: dict[str, Any]) -> None:
        found, expected = (report["count"], report["adler32"]), (self.frame_count, self.checksum)
        if found != expected:
            raise RunError(f"its payloads are others: count and checksum {found}, not {expected}")


def processor_time() -> float:
    """Seconds, of all processes that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@dataclass(frozen=True)
class EchoServer(Server):
    """A yardstick's echo, as server_report.py runs its servers."""

    program: tuple[str, ...] = ()

    def command(self, mode: str) -> list[str]:
        return [*self.program, mode]


def echo(bench: Bench, yardstick: Yardstick, case: Case) -> Measured:
    bench = replace(bench, warmup=yardstick.seconds)
    run = bench.run(EchoServer(yardstick.title, "", program=yardstick.echo), case)
    if not run["rate"]:
        raise RunError("no message came back while it was measured: the cores are busy")
    return Measured(1e9 / run["rate"], run["waited"])


def least_disturbed(run: Run) -> Measured:
    """A run that others left its cores to, or the best in that respect of a few."""
    runs = []
    for _ in range(ATTEMPTS):
        runs.append(run())
        if runs[-1].waited <= DISTURBED:
            break
    return min(runs, key=lambda run: run.waited)


def measure(runs: dict[str, Run], rounds: int, rng: random.Random) -> dict[str, Any]:
    """Each in every round, and what went wrong. Who fails once is not run again."""
    measured: dict[str, list[Measured]] = {name: [] for name in runs}
    failed: dict[str, str] = {}
    order = list(runs)
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            if name in failed:
                continue
            try:
                measured[name].append(least_disturbed(runs[name]))
            except RunError as error:
                failed[name] = str(error)
                del measured[name]
    return {
        "ns": {name: [run.ns for run in found] for name, found in measured.items()},
        "waited": {name: median(run.waited for run in found) for name, found in measured.items()},
        "failed": failed,
    }


def contest(case: str, names: Sequence[str], stream: Stream, bench: Bench) -> dict[str, Run]:
    """What runs in a round."""
    if case in ECHOES:
        servers = {name: YARDSTICKS[name] for name in names}
        if FRAMEWIRE in names:
            ours = YARDSTICKS[FRAMEWIRE]
            servers[POLLING] = replace(ours, echo=(*ours.echo, "--busy-poll", BUSY_POLL))
        return {name: partial(echo, bench, server, server_report.CASES[case]) for name, server in servers.items()}
    runs: dict[str, Run] = {name: partial(stream.decode, YARDSTICKS[name], case) for name in names}
    if case == "dropped" and FRAMEWIRE in names:
        runs[SPANS] = partial(stream.decode, YARDSTICKS[FRAMEWIRE], SPANS)
    return runs


def judge(cases: dict[str, Any]) -> list[dict[str, Any]]:
    """Each bar whose two sides were measured."""
    rows = []
    for bar in BARS:
        times = cases.get(bar.case, {}).get("ns", {})
        if not {bar.fast, bar.slow} <= times.keys():
            continue
        ratio = median(times[bar.slow]) / median(times[bar.fast])
        by_round = median(slow / fast for slow, fast in zip(times[bar.slow], times[bar.fast], strict=True))
        verdict = "pass" if ratio >= bar.factor else "SHORT"
        if (ratio >= bar.factor) != (by_round >= bar.factor):
            verdict += " (the rounds disagree)"
        if max(cases[bar.case]["waited"][side] for side in (bar.fast, bar.slow)) > DISTURBED:
            verdict += " (the cores were busy)"
        rows.append(
            {
                "bar": f"{bar.case}: {title(bar.slow)} / {title(bar.fast)}",
                "ratio": round(ratio, 3),
                "ratio_by_round": round(by_round, 3),
                "limit": f">= {bar.factor:g}",
                "verdict": verdict,
            }
        )
    return rows


def title(row: str) -> str:
    return OTHER_TITLES[row] if row in OTHER_TITLES else YARDSTICKS[row].title


def show(case: str, result: dict[str, Any]) -> None:
    times = result["ns"]
    print(f"\n{case}\n  {'':<24}{'ns/message':>12}{'least':>12}{'x framewire':>13}{'waited':>8}")
    ours = median(times[FRAMEWIRE]) if FRAMEWIRE in times else 0.0
    for row, measured in sorted(times.items(), key=lambda item: median(item[1])):
        over = f"{median(measured) / ours:>13.2f}" if ours else f"{'-':>13}"
        print(f"  {title(row):<24}{median(measured):>12,.1f}{min(measured):>12,.1f}{over}{result['waited'][row]:>8.0%}")
    for row, why in result["failed"].items():
        print(f"  {title(row)} FAILED: {why.splitlines()[-1]}")
    sys.stdout.flush()


def setting(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """What the numbers depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return {
        "cpu": f"{cpu}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}",
        "versions": {name: YARDSTICKS[name].version() for name in names},
        "run": f"{options.rounds} rounds",
        "order": f"seed {options.seed}",
        "scale": options.scale,
    }


def install(names: Sequence[str]) -> None:
    """What is missing, from Debian's packages."""
    packages = [package for name in names if YARDSTICKS[name].missing() for package in YARDSTICKS[name].packages]
    if not packages:
        return
    if os.geteuid() != 0:
        sys.exit(f"--install needs root: apt-get install {' '.join(packages)}")
    for command in (["update", "-q"], ["install", "-qy", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", *command], check=True)


def build(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Those that can run, and why the others cannot."""
    BUILD.mkdir(parents=True, exist_ok=True)
    missing = {name: why for name in names if (why := YARDSTICKS[name].missing())}
    for name, why in missing.items():
        print(f"skipped    {YARDSTICKS[name].title}: {why} (Debian: {' '.join(YARDSTICKS[name].packages)})")
    found = [name for name in names if name not in missing]
    for name in found:
        YARDSTICKS[name].build()
    return found, missing


def run(options: argparse.Namespace, cases: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Build, check, measure and print all of it."""
    if options.install:
        install(names)
    names, missing = build(names)
    results: dict[str, Any] = {"setting": setting(options, names), "missing": missing, "cases": {}}
    for key, value in results["setting"].items():
        print(f"{key:<10} {'; '.join(value.values()) if isinstance(value, dict) else value}")
    stream = Stream.write(options.scale)
    cores = sorted(os.sched_getaffinity(0))
    bench = Bench(cores[0], cores[-1], options.seconds, 0.0, cores[0] == cores[-1])
    if set(cases) & set(ECHOES):
        server_report.build()
    rng = random.Random(options.seed)
    for case in cases:
        results["cases"][case] = measure(contest(case, names, stream, bench), options.rounds, rng)
        show(case, results["cases"][case])
    results["bars"] = judge(results["cases"])
    return results


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    everything = (*DECODES, *ECHOES)
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", metavar="dropped,S1-1x1", default=",".join(everything), help=", ".join(everything))
    parser.add_argument("--rivals", metavar="c,tokio", default=",".join(YARDSTICKS), help=", ".join(YARDSTICKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="for which one echo is measured")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the frames (0.01 to try it)")
    parser.add_argument("--seed", type=int, default=0, help="of the orders in which they run")
    parser.add_argument("--install", action="store_true", help="get what is missing by apt-get; as root")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round there as well")
    parser.add_argument(
        "--from", type=Path, metavar="FILE", dest="stored", help="measure nothing: take what --json wrote"
    )
    parser.add_argument("--readme", action="store_true", help="rewrite the table in the README, and its plot")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a bar is not met or a yardstick failed")
    options = parser.parse_args(arguments)
    if options.readme and options.scale != 1:
        parser.error("--readme is for the whole stream, not for a part of it")
    for given, known in ((options.only, everything), (options.rivals, YARDSTICKS)):
        if unknown := set(given.split(",")) - set(known):
            parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(known)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    if sys.platform != "linux":
        sys.exit("the echo's load is written for epoll: Linux only")
    options = parse(arguments)
    if options.stored:
        results = json.loads(options.stored.read_text())
    else:
        results = run(options, options.only.split(","), options.rivals.split(","))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.readme:
        picture.publish(results)
    print(f"\n  {'':<44}{'medians':>9}{'rounds':>8}  bar")
    for row in results["bars"]:
        print(f"  {row['bar']:<44}{row['ratio']:>9.2f}{row['ratio_by_round']:>8.2f}  {row['limit']:<6}{row['verdict']}")
    short = [row for row in results["bars"] if row["verdict"].startswith("SHORT")]
    failed = any(case["failed"] for case in results["cases"].values())
    print(f"\n{len(results['bars']) - len(short)} bars met, {len(short)} short")
    return 1 if options.strict and (short or failed) else 0


if __name__ == "__main__":
    sys.exit(main())
