"""Measures servers beside a raw epoll server in C, and prints their shares of it next to the bars.

    python bench/server_report.py                                      everything: about ten minutes
    python bench/server_report.py --only S1-1x1,S3 --rounds 3 --servers c,framewire        a quick look

The server has a core of its own, and so has the load (load.c, compiled when it is needed). Each run is a server process
of its own; within a round all servers run in turn, in another order each round. bench/README.md says how to read the
table. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from statistics import median
from tempfile import TemporaryFile
from time import sleep
from typing import Any

import framewire

HERE = Path(__file__).parent
BUILD = HERE / "build"

C, FRAMEWIRE, UVLOOP, ASYNCIO = "c", "framewire", "uvloop", "asyncio"
RUN_LIMIT = 60.0
"""Seconds that a server or a load lives beyond what it was asked to measure, whatever happens."""
SPARE_COUNT = 32
"""Descriptors of a server that are no connections."""
DISTURBED = 0.05
"""A run in which the server or the load waited for its core longer than this share of the time is made again ..."""
ATTEMPTS = 3
"""... up to so many times in all."""


@dataclass(frozen=True)
class Server:
    title: str
    script: str
    needs: str = ""
    """A module without which it cannot run."""
    core: str = ""
    """The core of framewire that it has to run on."""

    def command(self, mode: str) -> list[str]:
        if not self.script:
            return [str(BUILD / "server"), mode]
        return [sys.executable, str(HERE / "servers" / self.script), mode]

    def missing(self) -> str:
        """Why it cannot run; empty if it can."""
        if self.needs and find_spec(self.needs) is None:
            return f"{self.needs} is not installed"
        if self.core == "c" and find_spec("framewire._core_c") is None:
            return "the core is not compiled"
        return ""


SERVERS = {
    C: Server("raw C epoll", ""),
    FRAMEWIRE: Server("framewire.loop", "framewire_loop.py", "framewire.loop", "c"),
    "pure": Server("framewire.loop, pure", "framewire_loop.py", "framewire.loop", "py"),
    "selectors": Server("selectors, compiled framer", "selectors_framer.py", "framewire", "c"),
    UVLOOP: Server("uvloop, Python framer", "uvloop_hand.py", "uvloop"),
    ASYNCIO: Server("asyncio, Python framer", "asyncio_hand.py"),
    "twisted": Server("Twisted Int32StringReceiver", "twisted_int32.py", "twisted"),
}


@dataclass(frozen=True)
class Case:
    mode: str
    connections: int
    window: int
    size: int
    bars: tuple[tuple[str, float], ...] = ()
    """(server, factor): framewire must reach that many times its rate."""

    def __str__(self) -> str:
        flight = f"{self.window:,} in flight, {self.size} B"
        if self.mode == "broadcast":
            return f"broadcast: 1 sender, {self.connections:,} receivers, {flight}"
        connections = f"{self.connections:,} connection{'s' if self.connections > 1 else ''}"
        if self.mode == "idle":
            return f"idle: {connections}, each quiet after one message of {self.size} B and its echo"
        return f"echo: {connections}, {flight}" + (" on each" if self.connections > 1 else "")


CASES = {
    "S1-1x1000": Case("echo", 1, 1_000, 32, ((C, 0.40), (UVLOOP, 4.0))),
    "S1-1x1": Case("echo", 1, 1, 32, ((C, 0.75),)),
    "S1-100x10": Case("echo", 100, 10, 32, ((C, 0.60), (UVLOOP, 1.6))),
    "S2-100x1": Case("broadcast", 100, 1, 64),
    "S2-1000x1": Case("broadcast", 1_000, 1, 64, ((C, 0.80),)),
    "S2-100x64": Case("broadcast", 100, 64, 64, ((C, 0.75), (ASYNCIO, 10.0))),
    "S2-1000x64": Case("broadcast", 1_000, 64, 64, ((C, 0.85), (ASYNCIO, 10.0))),
    "S3": Case("idle", 5_000, 1, 32),
}
IDLE_BAR = 1_500
"""Bytes of framewire's own memory for an idle connection, at most."""


class RunError(Exception):
    """A server or the load did not do what it should: the text is what it said."""


@dataclass(frozen=True)
class Bench:
    """How every run of this report is made."""

    server_core: int
    load_core: int
    seconds: float
    warmup: float
    sleeping: bool

    def start(self, command: list[str], core: int, **options: Any) -> subprocess.Popen[str]:
        """A process on that core, which the alarm ends should nobody else."""

        def prepare() -> None:
            os.sched_setaffinity(0, {core})
            signal.alarm(int(RUN_LIMIT + self.seconds + self.warmup))  # exec keeps it

        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=prepare, **options)

    @contextmanager
    def serve(self, server: Server, mode: str) -> Iterator[tuple[int, int]]:
        """Its process id and its port."""
        environment = os.environ | ({"FRAMEWIRE_CORE": server.core} if server.core else {})
        with TemporaryFile("w+") as said:
            process = self.start(server.command(mode), self.server_core, stderr=said, env=environment)
            try:
                line = process.stdout.readline()
                if not line:
                    raise RunError("it did not start")
                yield process.pid, int(line)
                if process.poll() is not None:
                    raise RunError(f"it ended, with status {process.returncode}")
            except RunError as error:
                said.seek(0)
                raise RunError("\n".join([str(error), *said.read().splitlines()[-8:]])) from None
            finally:
                end(process)

    def load(self, case: Case, pid: int, port: int, connections: int) -> subprocess.Popen[str]:
        numbers = {
            "connections": connections,
            "window": case.window,
            "size": case.size,
            "seconds": self.seconds,
            "warmup": self.warmup,
            "server": pid,
        }
        command = [str(BUILD / "load"), case.mode, str(port), *(f"--{key}={value}" for key, value in numbers.items())]
        if self.sleeping:
            command.append("--sleep")
        return self.start(command, self.load_core, stdin=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, server: Server, case: Case) -> dict[str, float]:
        """One line of the load."""
        if case.mode == "idle":
            return self.weigh(server, case)
        with self.serve(server, case.mode) as (pid, port):
            process = self.load(case, pid, port, case.connections)
            try:
                line, complaint = process.communicate()
            finally:
                end(process)
            if process.returncode != 0:
                raise RunError(complaint.strip() or f"the load ended with status {process.returncode}")
            result: dict[str, float] = json.loads(line)
            return result

    def weigh(self, server: Server, case: Case) -> dict[str, float]:
        """Bytes for each connection, when all have had an answer and fallen quiet."""
        with self.serve(server, "echo") as (pid, port):
            with self.hold(case, pid, port, 10):  # what the first connections load and build is not theirs
                pass
            before = settled(pid)
            with self.hold(case, pid, port, case.connections):
                return {"bytes": (settled(pid) - before) / case.connections}

    @contextmanager
    def hold(self, case: Case, pid: int, port: int, connections: int) -> Iterator[None]:
        """While that many connections are open."""
        process = self.load(case, pid, port, connections)
        try:
            if not process.stdout.readline():
                raise RunError(process.stderr.read().strip())
            yield
            _, complaint = process.communicate()
            if process.returncode != 0:
                raise RunError(complaint.strip())
        finally:
            end(process)


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def settled(pid: int) -> int:
    """The process's own memory once it no longer changes."""
    last = -1
    while (found := own_memory(pid)) != last:
        last = found
        sleep(0.3)
    return found


def own_memory(pid: int) -> int:
    """Bytes of private memory that the process wrote to: in pages of its own, or swapped out."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("Private_Dirty:", "Swap:")))


def build() -> None:
    """Compile the load and the C server where they are missing or older than their source."""
    BUILD.mkdir(exist_ok=True)
    compiler = os.environ.get("CC") or which("cc") or which("gcc") or which("clang")
    for source in (HERE / "load.c", HERE / "server.c"):
        program = BUILD / source.stem
        if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
            continue
        if not compiler:
            sys.exit(f"{source.name} needs a C compiler: none is called cc, gcc or clang, and CC names none")
        subprocess.run([compiler, "-O2", "-std=gnu11", "-o", str(program), str(source)], check=True)


def raise_limit(connections: int) -> None:
    """Let servers and load, which inherit it, have as many descriptors as the hard limit allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < connections + SPARE_COUNT:
        sys.exit(
            f"{connections:,} connections need {connections + SPARE_COUNT:,} descriptors; the hard limit is {hard:,} "
            f"(ulimit -Hn): raise it, leave out the case, or ask for less with --scale"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def measure(
    bench: Bench, case: Case, names: Sequence[str], rounds: int, rng: random.Random
) -> tuple[dict[str, list[dict[str, float]]], dict[str, str]]:
    """What the load said of every server in every round, and what went wrong. Who fails once is not run again."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    failed: dict[str, str] = {}
    order = list(names)
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            if name in failed:
                continue
            try:
                runs[name].append(least_disturbed(bench, SERVERS[name], case))
            except RunError as error:
                failed[name] = str(error)
                del runs[name]
    return runs, {name: failed[name] for name in names if name in failed}


def least_disturbed(bench: Bench, server: Server, case: Case) -> dict[str, float]:
    """A run for which others left the cores alone, or the best in that respect of a few."""
    runs = []
    for _ in range(ATTEMPTS):
        runs.append(bench.run(server, case))
        if runs[-1].get("waited", 0.0) <= DISTURBED:
            break
    return min(runs, key=lambda run: run.get("waited", 0.0))


def judge_rate(runs: dict[str, list[dict[str, float]]], other: str, factor: float) -> dict[str, Any]:
    """A bar of framewire against another server, as a row of the report."""
    row: dict[str, Any] = {"bar": f"framewire / {other}", "limit": f">= {factor:g}"}
    if FRAMEWIRE not in runs or other not in runs:
        return row | {"verdict": "not measured"}
    rates = [[run["rate"] for run in runs[name]] for name in (FRAMEWIRE, other)]
    by_median = median(rates[0]) / median(rates[1])
    by_round = median(one / another for one, another in zip(*rates, strict=True))
    verdict = "pass" if by_median >= factor else "SHORT"
    if (by_median >= factor) != (by_round >= factor):
        verdict += " (the rounds disagree)"
    if any(median(run["waited"] for run in runs[name]) > DISTURBED for name in (FRAMEWIRE, other)):
        verdict += " (the cores were busy)"
    return row | {"ratio": round(by_median, 3), "ratio_by_round": round(by_round, 3), "verdict": verdict}


def report_rates(case: Case, runs: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    limit = median(run["rate"] for run in runs[C]) if C in runs else 0.0
    what = "deliveries/s" if case.mode == "broadcast" else "messages/s"
    print(f"  {'':<30}{what:>14}{'x C':>7}{'least':>14}{'most':>14}{'server busy':>13}{'load busy':>11}{'waited':>8}")
    for name, measured in runs.items():
        rates = [run["rate"] for run in measured]
        share = f"{median(rates) / limit:>7.2f}" if limit else f"{'-':>7}"
        busy, load_busy, waited = (
            median(run[key] for run in measured) for key in ("server_busy", "load_busy", "waited")
        )
        print(
            f"  {SERVERS[name].title:<30}{median(rates):>14,.0f}{share}{min(rates):>14,.0f}{max(rates):>14,.0f}"
            f"{busy:>13.0%}{load_busy:>11.0%}{waited:>8.0%}"
        )
    bars = [judge_rate(runs, other, factor) for other, factor in case.bars]
    for row in bars:
        numbers = f"{row['ratio']:>7.2f}, by rounds {row['ratio_by_round']:.2f}" if "ratio" in row else ""
        print(f"  {row['bar']:<30}{numbers:<30}{row['limit']:<10}{row['verdict']}")
    return bars


def report_memory(runs: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    print(f"  {'':<30}{'B/connection':>14}")
    for name, measured in runs.items():
        print(f"  {SERVERS[name].title:<30}{median(run['bytes'] for run in measured):>14,.0f}")
    row: dict[str, Any] = {"bar": "framewire, B/connection", "limit": f"<= {IDLE_BAR}", "verdict": "not measured"}
    if FRAMEWIRE in runs:
        row["bytes"] = median(run["bytes"] for run in runs[FRAMEWIRE])
        row["verdict"] = "pass" if row["bytes"] <= IDLE_BAR else "SHORT"
    found = f"{row['bytes']:>14,.0f}" if "bytes" in row else ""
    print(f"  {row['bar']:<30}{found:<30}{row['limit']:<10}{row['verdict']}")
    return [row]


def installed(name: str) -> str:
    """The version; empty if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def setting(options: argparse.Namespace, bench: Bench) -> dict[str, str]:
    """What the numbers depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    python = f"{platform.python_implementation()} {platform.python_version()}"
    peers = [f"{name} {found}" for name in ("uvloop", "Twisted") if (found := installed(name))]
    return {
        "cpu": f"{cpu} x {os.cpu_count()}, load {os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}",
        "versions": ", ".join([python, f"framewire {framewire.__version__}", *peers]),
        "run": f"{options.rounds} rounds of {options.seconds:g} s, seed {options.seed}, scale {options.scale:g}",
        "cores": f"server {bench.server_core}, load {bench.load_core}{', sleeping' if bench.sleeping else ''}",
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", metavar="S1-1x1,S3", default=",".join(CASES), help="cases, in this order")
    parser.add_argument("--servers", metavar="c,framewire", default=",".join(SERVERS), help=f"of {', '.join(SERVERS)}")
    parser.add_argument("--rounds", type=int, default=7, help="S3 has three at most: it hardly varies")
    parser.add_argument("--seconds", type=float, default=1.0, help="that one run is measured")
    parser.add_argument("--warmup", type=float, default=0.2, help="seconds before that")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the connections, where there are many; no verdict"
    )
    parser.add_argument("--cores", metavar="0,1", help="of the server and of the load")
    parser.add_argument(
        "--sleep", action="store_true", help="the load sleeps while it waits, where it has no core alone"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the orders in which the servers run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there as well")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a bar is not met or a server failed")
    options = parser.parse_args(arguments)
    for given, known in ((options.only, CASES), (options.servers, SERVERS)):
        if unknown := set(given.split(",")) - set(known):
            parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(known)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    if sys.platform != "linux":
        sys.exit("the load and the C server are written for epoll: Linux only")
    options = parse(arguments)
    ours = sorted(os.sched_getaffinity(0))
    server_core, load_core = map(int, options.cores.split(",")) if options.cores else (ours[0], ours[-1])
    sleeping = options.sleep or server_core == load_core
    bench = Bench(server_core, load_core, options.seconds, options.warmup, sleeping)
    cases = {name: CASES[name] for name in options.only.split(",")}
    if options.scale != 1:
        for name, case in cases.items():
            if case.connections > 1:
                cases[name] = replace(case, connections=max(2, round(case.connections * options.scale)), bars=())
    build()
    raise_limit(max(case.connections for case in cases.values()))

    about = setting(options, bench)
    for key, value in about.items():
        print(f"{key:<10} {value}")
    names = options.servers.split(",")
    skipped = {name: why for name in names if (why := SERVERS[name].missing())}
    for name, why in skipped.items():
        print(f"skipped    {SERVERS[name].title}: {why}")
    names = [name for name in names if name not in skipped]
    rng = random.Random(options.seed)
    results: dict[str, Any] = {"setting": about, "skipped": skipped, "cases": {}}
    bars: list[dict[str, Any]] = []
    any_failed = False
    for name, case in cases.items():
        print(f"\n{name}  {case}")
        sys.stdout.flush()
        idle = case.mode == "idle"
        runs, failed = measure(bench, case, names, min(options.rounds, 3) if idle else options.rounds, rng)
        rows = report_memory(runs) if idle else report_rates(case, runs)
        for server, why in failed.items():
            print(f"  {SERVERS[server].title} FAILED: {why.splitlines()[0]} ({why.splitlines()[-1]})")
        sys.stdout.flush()
        results["cases"][name] = {"case": str(case), "runs": runs, "failed": failed, "bars": rows}
        bars += rows
        any_failed = any_failed or bool(failed)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    short = sum(row["verdict"].startswith("SHORT") for row in bars)
    passed = sum(row["verdict"].startswith("pass") for row in bars)
    print(f"\n{passed} bars met, {short} short, {len(bars) - passed - short} not measured")
    return 1 if options.strict and (short or any_failed) else 0


if __name__ == "__main__":
    sys.exit(main())
