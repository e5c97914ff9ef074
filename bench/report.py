"""Measures framewire beside the limits of the machine and its peers, and prints the ratios next to the bars.

    python bench/report.py                              everything, on the compiled core if there is one
    python bench/report.py --only D1,D3 --scale 0.1     a quick look
    python bench/report.py --core py --json pure.json

All rivals of a workload run in turn, round by round, in one process, in another order each round: bench/README.md says
how to read the table.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter_ns, process_time_ns
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None

import peers
import websocket_peers
from contests import BEST_HAND, Bar, Contest, load_core
from rivals import WORKLOADS, contest


@dataclass
class Times:
    """Nanoseconds of every rival in every round, and the page faults of the last."""

    ns: dict[str, list[int]]
    faults: dict[str, int]


def measure(it: Contest, rounds: int, *, warm: bool = False, cpu_time: bool = False, seed: int = 0) -> Times:
    """Run all rivals in each round, in a new order; a first round, to warm up, is not counted."""
    times = Times({name: [] for name in it.runs}, {})
    names = list(it.runs)
    rng = random.Random(seed)
    clock = process_time_ns if cpu_time else perf_counter_ns
    pins = pin(it) if warm else []
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for round_ in range(-1, rounds):
            rng.shuffle(names)
            for name in names:
                run = it.runs[name]
                it.prime()
                gc.collect()
                faults = page_faults()
                start = clock()
                result = run()
                stop = clock()
                times.faults[name] = page_faults() - faults
                del result  # what it takes to free is nobody's time
                if round_ >= 0:
                    times.ns[name].append(stop - start)
    finally:
        gc.enable()
        gc.unfreeze()
        del pins
    return times


def pin(it: Contest) -> list[Any]:
    """A few of the payloads, spread over the memory that all of them take: while they live, the allocators keep that
    memory, and no run pays the kernel for fresh pages."""
    kept = it.runs[it.kept]() if it.kept else []
    return [*kept[::2000], *kept[-1:]]


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt if resource else 0


def ratios(top: list[int], bottom: list[int]) -> tuple[float, float, float]:
    """The ratio of the medians, the median of the ratios round by round, and the ratio of the least."""
    by_round = median(one / other for one, other in zip(top, bottom, strict=True))
    return median(top) / median(bottom), by_round, min(top) / min(bottom)


def judge(bar: Bar, times: dict[str, list[int]], core: str) -> dict[str, Any] | None:
    """The bar as a row of the report; None if a rival is missing."""
    names = []
    for name in (bar.top, bar.bottom):
        if name.startswith(BEST_HAND):
            hands = [hand + name.removeprefix(BEST_HAND) for hand in peers.HAND]
            name = min((hand for hand in hands if hand in times), key=lambda hand: median(times[hand]), default="")
        names.append(name)
    if not all(name in times for name in names):
        return None
    by_median, by_round, by_least = ratios(times[names[0]], times[names[1]])
    verdict = "-"
    if core == "c" or bar.pure:
        verdict = "pass" if bar.met(by_median) else "SHORT"
        if bar.met(by_median) != bar.met(by_round):
            verdict += " (the rounds disagree)"
    sign = ">=" if bar.at_least else "<="
    return {
        "top": names[0],
        "bottom": names[1],
        "ratio": round(by_median, 3),
        "ratio_by_round": round(by_round, 3),
        "ratio_of_least": round(by_least, 3),
        "bar": f"{sign} {bar.limit:g}",
        "verdict": verdict,
    }


def report(it: Contest, times: Times, core: str) -> dict[str, Any]:
    """Print one workload; return what was printed."""
    scale, unit = (1e-3, "us/frame") if it.workload.payload_size >= 64 * 1024 else (1.0, "ns/frame")
    first = next(iter(times.ns))
    print(f"\n{it.workload}\n  {'':<29}{'':<6}{unit:>10}{'least':>9}{'x ' + first:>19}{'page faults':>14}")
    rows = {}
    for name, measured in times.ns.items():
        values = [scale * time / it.workload.frame_count for time in measured]
        over, faults = ratios(measured, times.ns[first])[0], times.faults[name]
        print(f"  {name:<29}{it.kinds[name]:<6}{median(values):>10.1f}{min(values):>9.1f}{over:>19.2f}{faults:>14,}")
        rows[name] = {"kind": it.kinds[name], "per_frame": values, "median": median(values), "page_faults": faults}
    bars = [row for bar in it.bars if (row := judge(bar, times.ns, core))]
    if bars:
        print(f"  {'':<50}{'medians':>9}{'rounds':>8}{'least':>8}  bar")
    for row in bars:
        what = f"{row['top']} / {row['bottom']}"
        numbers = f"{row['ratio']:>9.2f}{row['ratio_by_round']:>8.2f}{row['ratio_of_least']:>8.2f}"
        print(f"  {what:<50}{numbers}  {row['bar']:<8}{row['verdict']}")
    sys.stdout.flush()
    return {"workload": str(it.workload), "unit": unit, "rivals": rows, "bars": bars}


def report_memory(core: str) -> list[dict[str, Any]]:
    """Print what D4 takes at its peak, measured in a process of its own."""
    script = Path(__file__).with_name("peak.py")
    done = subprocess.run([sys.executable, str(script), core], stdout=subprocess.PIPE, text=True, check=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    for row in rows:
        row["verdict"] = ("pass" if row["peak"] <= row["bar"] else "SHORT") if core == "c" else "-"
        peak, bar = row["peak"] / 2**20, f"<= {row['bar'] / 2**20:.2f} MiB"
        print(f"  {row['name']:<50}{peak:>9.2f}{'':>16}  {bar:<14}{row['verdict']}")
    sys.stdout.flush()
    return rows


def setting(core: str) -> dict[str, Any]:
    """What the numbers depend on."""
    module = load_core(core)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    flags = sysconfig.get_config_var("CONFIG_ARGS") or ""
    flavour = [flag for flag in ("--enable-optimizations", "--with-lto", "--with-pydebug") if flag in flags]
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        flavour.append("free-threaded")
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    libraries = (*peers.LIBRARIES, *websocket_peers.LIBRARIES, "Cython")
    versions = {name: found for name in libraries if (found := peers.installed(name))}
    return {
        "cpu": f"{cpu} x {os.cpu_count()}{load}",
        "system": f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}",
        "python": f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}, "
        f"{' '.join(flavour) or 'plain build'}",
        "allocator": os.environ.get("PYTHONMALLOC", "default"),
        "core": f"{core} ({Path(module.__file__).name}{', DEBUG' if getattr(module, 'DEBUG', False) else ''})",
        "versions": ", ".join(f"{name} {found}" for name, found in versions.items()),
    }


def run_workload(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Make, check, measure and print one workload."""
    it = contest(WORKLOADS[name].scaled(options.scale), options.core, not options.no_peers)
    for run in it.runs:
        it.check(run)
    times = measure(it, options.rounds, warm=options.warm, cpu_time=options.cpu_time, seed=options.seed)
    result = report(it, times, options.core)
    if name == "D4":
        result["memory"] = report_memory(options.core)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--core", choices=["c", "py"], default="c" if find_spec("framewire._core_c") else "py")
    parser.add_argument("--only", metavar="D1,D3", default=",".join(WORKLOADS), help="workloads, in this order")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the frames (0.05 for a quick look)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-peers", action="store_true", help="the core and its limits alone")
    parser.add_argument("--warm", action="store_true", help="let nobody pay for fresh pages (see bench/README.md)")
    parser.add_argument(
        "--cpu-time", action="store_true", help="for a busy machine: do not count time spent waiting for it"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the orders in which the rivals run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there as well")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a bar is not met")
    options = parser.parse_args(arguments)
    names = options.only.split(",")
    if unknown := set(names) - set(WORKLOADS):
        parser.error(f"no workload is called {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")

    about = setting(options.core)
    about["run"] = (
        f"{options.rounds} rounds, seed {options.seed}, scale {options.scale:g}, "
        f"{'warm' if options.warm else 'fresh'} memory, {'CPU' if options.cpu_time else 'wall'} time"
    )
    for key, value in about.items():
        print(f"{key:<10} {value}")
    sys.stdout.flush()
    results: dict[str, Any] = {"setting": about, "workloads": {}}
    for name in names:
        # Each in a process of its own, whose memory no other workload has left its marks on.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            results["workloads"][name] = pool.submit(run_workload, name, options).result()
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    rows = [row for result in results["workloads"].values() for row in result["bars"] + result.get("memory", [])]
    short = [row for row in rows if row["verdict"].startswith("SHORT")]
    passed = sum(row["verdict"].startswith("pass") for row in rows)
    print(f"\n{passed} bars met, {len(short)} short, {len(rows) - passed - len(short)} not judged")
    return 1 if short and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
