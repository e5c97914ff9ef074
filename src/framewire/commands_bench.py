"""The command ``framewire bench``: how fast is what is installed here, beside what else there is?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import Commands, Failure, MakeParser, reason, seconds

if TYPE_CHECKING:
    from .benchmark.results import Report

SECONDS, QUICK_SECONDS = 60.0, 10.0


def add_bench(commands: Commands, make_parser: MakeParser) -> None:
    """Add ``bench`` to the commands."""
    parser = make_parser(
        commands.add_parser,
        "bench",
        help="measure it here, beside its peers",
        description="Measure decoding, encoding, reassembly and echo: the core in use, the pure core,\n"
        "and what people use instead, as far as it is installed: hand-written loops,\n"
        "asyncio, multiprocessing, Twisted, msgpack, hiredis. All results are compared\n"
        "before anything is measured.",
        epilog="""\
examples:
  framewire bench                                     a minute
  framewire bench --quick                             fewer sizes, ten seconds
  framewire bench --json before.json --plot before.svg
  framewire bench --compare before.json               after a change

Close what else is running: the numbers are no better than the machine is quiet.""",
    )
    parser.add_argument("--quick", action="store_true", help="fewer sizes of messages, fewer messages, fewer rounds")
    parser.add_argument(
        "--seconds",
        metavar="N",
        type=seconds,
        help=f"measure about this long (default: {SECONDS:g}; with --quick: {QUICK_SECONDS:g})",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help='keep the results in FILE; "-" is standard output, and the tables go to standard error',
    )
    parser.add_argument("--compare", metavar="OLD.json", help="show the ratios to the results in a file of --json")
    parser.add_argument("--plot", metavar="OUT.svg", help="draw decoding: throughput over the size of a payload")
    parser.set_defaults(run=_bench)


def _bench(args: argparse.Namespace) -> int:
    # Here, since the other commands do without, and start sooner so.
    from .benchmark.comparison import compare
    from .benchmark.plot import plot
    from .benchmark.table import render

    old = None if args.compare is None else _read(args.compare)  # what is wrong with it is heard before the minute
    report = _measure(args)
    tables = render(report) + ("" if old is None else f"\n{compare(old, report)}")
    people = sys.stderr if args.json == "-" else sys.stdout
    if people is not None:  # closed
        people.write(tables)
    if args.json is not None:
        _write(args.json, report.to_json())
    if args.plot is not None:
        _write(args.plot, plot(report))
    return 0


def _measure(args: argparse.Namespace) -> Report:
    from .benchmark.contest import Disagreement
    from .benchmark.measure import bench
    from .benchmark.progress import Progress
    from .benchmark.results import Report
    from .benchmark.setting import setting
    from .benchmark.workloads import workloads

    time = args.seconds
    if time is None:
        time = QUICK_SECONDS if args.quick else SECONDS
    about = setting(f"{time:g} s{', quick' if args.quick else ''}")
    with Progress() as progress:
        try:
            results = list(bench(workloads(quick=args.quick), time, show=progress.show))
        except Disagreement as error:
            raise Failure(str(error)) from None
    return Report(about, results)


def _read(path: str) -> Report:
    from .benchmark.results import Report

    try:
        return Report.from_json(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # a ValueError is also what is no JSON, or no UTF-8
        raise Failure(f"{path}: {reason(error)}") from None


def _write(path: str, text: str) -> None:
    if path == "-":
        sys.stdout.write(text)
        return
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{path}: {reason(error)}") from None
