"""The Autobahn test suite against framewire's WebSocket server and client, on both cores.

    python tests/autobahn/run.py                     sections 1 to 7 and 10, and a sample of 12 and 13
    python tests/autobahn/run.py --full --core c     all of 12 and 13: an hour
    python tests/autobahn/run.py --cases '6.*' 7.1.5
    python tests/autobahn/run.py --subject OTHER.py  another program with the commands of subject.py, to compare

The suite needs a Python 2.7, looked for on PATH and under pyenv unless ``--python2 PATH`` says, and is installed once,
under build/autobahn; its own reports, with every byte of every case, are written there too. It runs in a network
namespace of its own where that is allowed, and listens on the loopback only.

Exit status: 0 if every case passes; 1 if one fails, did not run, or is one of 6.4 and not OK; 2 if the suite could not
be installed, or a program of ours or its own broke; 77 if there is no Python 2.7: then nothing was tested.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from environment import InstallError, enter_namespace, find_python2, install

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent.parent / "build" / "autobahn"
IN_NAMESPACE = "--in-namespace"
SKIPPED = 77
"""The exit status that says so, as Automake has it."""

RESULTS = ["OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED", "FAILED"]

SECTIONS = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
SAMPLE = ["12.*.1", "12.*.4", "12.*.11", "12.3.10", "13.*.1", "13.*.4", "13.*.11", "13.5.10"]
"""Of the 18 sizes in each part of 12 and 13: 16 B, 1 KiB and fragments of 256 B for all of them, 128 KiB for some."""

STRICT = "6.4.*"
"""Where NON-STRICT is not enough: what is not UTF-8 has to be refused at its first bad byte."""

START_LIMIT = 30.0
"""Seconds until a server listens."""
CASE_LIMIT, LONG_CASE_LIMIT = 5.0, 120.0
"""Seconds for a case, on average; the suite itself ends one that is too long."""
LONG = ("9.", "12.", "13.")

# Python 2: the suite as its own command runs it, but listening on the loopback only.
WSTEST = """
from autobahntestsuite import fuzzing, wstest
listen = fuzzing.listenWS
fuzzing.listenWS = lambda factory, context: listen(factory, context, interface="127.0.0.1")
wstest.run()
"""

LIST_CASES = """
from autobahntestsuite.case import CaseBasename, CaseCategories, Cases
import json
ids = [case.__name__[len(CaseBasename):].replace("_", ".") for case in Cases]
print(json.dumps([ids, CaseCategories]))
"""


class RunError(Exception):
    """A program did not do what it should: the text says what."""


@dataclass(frozen=True)
class Result:
    """What the suite says of one case."""

    case: str
    verdict: str
    reason: str

    @property
    def passes(self) -> bool:
        if fnmatchcase(self.case, STRICT):
            return self.verdict == "OK"
        return self.verdict in ("OK", "NON-STRICT", "INFORMATIONAL")


class Suite:
    """The installed suite, and the cases that were chosen."""

    def __init__(self, python: str, patterns: list[str]) -> None:
        self.python = python
        listed = subprocess.run([python, "-c", LIST_CASES], check=True, capture_output=True, text=True)
        cases, self.titles = json.loads(listed.stdout)
        for pattern in patterns:
            if not any(fnmatchcase(case, pattern) for case in cases):
                raise RunError(f"no case has the name {pattern}")
        self.cases = [case for case in cases if any(fnmatchcase(case, pattern) for pattern in patterns)]

    @property
    def limit(self) -> float:
        """Seconds in which a run through all these cases must have ended."""
        long = sum(case.startswith(LONG) for case in self.cases)
        return START_LIMIT + (len(self.cases) - long) * CASE_LIMIT + long * LONG_CASE_LIMIT

    def command(self, mode: str, directory: Path, **options: Any) -> list[str]:
        """That of the fuzzing client or server, which leaves its reports in `directory`."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        spec = directory / "spec.json"
        spec.write_text(json.dumps({"outdir": str(directory), "cases": self.cases, "exclude-cases": []} | options))
        return [self.python, "-u", "-c", WSTEST, "--mode", mode, "--spec", str(spec), "--webport", "0"]

    def results(self, directory: Path, agent: str) -> list[Result]:
        """One for each case, also for those that did not run."""
        index = directory / "index.json"
        entries = json.loads(index.read_text()).get(agent, {}) if index.exists() else {}
        return [self._result(case, directory, entries.get(case)) for case in self.cases]

    def _result(self, case: str, directory: Path, entry: dict[str, Any] | None) -> Result:
        """The suite judges how a case went, and how the connection was closed: both must be right."""
        if entry is None:
            return Result(case, "FAILED", "it did not run")
        report = json.loads((directory / entry["reportfile"]).read_text())
        verdict, closing = entry["behavior"], entry["behaviorClose"]
        reason = " ".join(report["result"].split())
        if verdict not in RESULTS or closing not in ("OK", "INFORMATIONAL"):
            return Result(case, "FAILED", f"{verdict}: {reason} {closing}: {' '.join(report['resultClose'].split())}")
        return Result(case, verdict, reason)


@dataclass(frozen=True)
class Subject:
    """A program that is an echo server or a client which echoes, on one of the cores."""

    program: Path
    role: str
    core: str

    def __str__(self) -> str:
        return f"{self.role}-{self.core}"

    def test(self, suite: Suite, directory: Path) -> list[Result]:
        """Run the suite against it."""
        ours, theirs = directory.with_suffix(".subject.txt"), directory.with_suffix(".suite.txt")
        port = free_port()
        url = f"ws://127.0.0.1:{port}"
        if self.role == "server":
            fuzzer = suite.command("fuzzingclient", directory, servers=[{"agent": str(self), "url": url}])
            with self._start(ours, str(port)) as server:
                wait_until_listening(server, port, ours)
                with start(fuzzer, theirs) as process:
                    wait_until_ended(process, suite.limit, theirs)
        else:
            with start(suite.command("fuzzingserver", directory, url=url), theirs) as server:
                wait_until_listening(server, port, theirs)
                with self._start(ours, url, str(self)) as process:
                    wait_until_ended(process, suite.limit, ours)
        if ours.stat().st_size:
            print(f"{self} complained: {tail(ours)}")
        return suite.results(directory, str(self))

    def _start(self, log: Path, *arguments: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        return start([sys.executable, str(self.program), self.role, *arguments], log, FRAMEWIRE_CORE=self.core)


# Processes.


@contextmanager
def start(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the block, and whose output goes to a file."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=os.environ | environment
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT
    while not listens(port):
        if time.monotonic() > deadline or process.poll() is not None:
            raise RunError(f"a server did not start: {tail(log)}")
        time.sleep(0.05)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until_ended(process: subprocess.Popen[bytes], limit: float, log: Path) -> None:
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        raise RunError(f"the cases did not end within {limit:.0f} s: {tail(log)}") from None
    if status:
        raise RunError(f"exit status {status}: {tail(log)}")


def tail(log: Path) -> str:
    """Where the output is, and its end."""
    return f"{log}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:])


# What is printed.


def table(title: str, results: list[Result], titles: dict[str, str]) -> str:
    """The counts of every section, and of all."""
    sections: dict[str, Counter[str]] = {}
    for result in results:
        number = result.case.split(".")[0]
        sections.setdefault(f"{number:>2} {titles[number]}", Counter())[result.verdict] += 1
    sections["   all"] = Counter(result.verdict for result in results)
    width = max(map(len, [title, *sections]))
    lines = [f"{title:{width}}  {'  '.join(RESULTS)}"]
    for name, counts in sections.items():
        cells = (f"{counts[verdict] or '-':>{len(verdict)}}" for verdict in RESULTS)
        lines.append(f"{name:{width}}  {'  '.join(cells)}")
    return "\n".join(lines)


def exceptions(results: dict[str, list[Result]]) -> str:
    """Every case that is not OK, with whom, and why."""
    found: dict[Result, list[str]] = {}
    for subject, its in results.items():
        for result in its:
            if result.verdict != "OK":
                found.setdefault(result, []).append(subject)
    return "".join(
        f"{result.case:7} {result.verdict} ({', '.join(subjects)}): {result.reason}\n"
        for result, subjects in sorted(found.items(), key=lambda item: [int(n) for n in item[0].case.split(".")])
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true", help="all of 12 and 13, not only a sample")
    parser.add_argument("--cases", nargs="+", metavar="CASE", help="these instead, as in 7.1.5 or '6.*'")
    parser.add_argument("--core", choices=["c", "py", "both"], default="both")
    parser.add_argument("--role", choices=["server", "client", "both"], default="both")
    parser.add_argument("--python2", metavar="PATH", help="the Python 2.7 that the suite is installed under")
    parser.add_argument("--subject", type=Path, default=HERE / "subject.py", help="the program to test")
    parser.add_argument(IN_NAMESPACE, action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()

    python2 = find_python2(args.python2)
    if python2 is None:
        print(
            f"SKIPPED, nothing was tested: no Python 2.7 ({args.python2 or 'on PATH or under pyenv'})", file=sys.stderr
        )
        return SKIPPED
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # not without ending what was started
    failed: list[str] = []
    results: dict[str, list[Result]] = {}
    try:
        python = install(python2, BUILD)
        enter_namespace(IN_NAMESPACE)
        suite = Suite(python, args.cases or [*SECTIONS, *(["12.*", "13.*"] if args.full else SAMPLE)])
        for core in ["c", "py"] if args.core == "both" else [args.core]:
            for role in ["server", "client"] if args.role == "both" else [args.role]:
                subject = Subject(args.subject, role, core)
                begin = time.monotonic()
                its = results[str(subject)] = subject.test(suite, BUILD / "reports" / str(subject))
                title = f"{subject}, {time.monotonic() - begin:.0f} s"
                print(table(title, its, suite.titles), end="\n\n", flush=True)
                failed += [f"{result.case} ({subject})" for result in its if not result.passes]
    except (InstallError, RunError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 2
    print(exceptions(results))
    print(f"NOT PASSED: {', '.join(failed)}" if failed else "every case passes")
    print(f"reports: {BUILD / 'reports'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
