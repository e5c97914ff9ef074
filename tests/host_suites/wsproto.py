"""Runs wsproto's own tests with the classes of framewire.dropin.wsproto in the place of the host's.

    python tests/host_suites/wsproto.py             with both seams, then with each alone
    python tests/host_suites/wsproto.py --stock     the host as it is, to compare

``FRAMEWIRE_CORE=py`` chooses the pure core. The tests come from the source distribution of the wsproto that is
installed, which pip downloads once, into ``build/hosts``. Exit status 1 if anything fails. No test looks inside what is
replaced: all of them count.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

# This file has the name of the host, and its folder stands first on the path.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import pytest  # noqa: E402
import wsproto  # noqa: E402

HOSTS = Path(__file__).resolve().parents[2] / "build" / "hosts"
SEAMS = [["decoder", "masker"], ["decoder"], ["masker"]]


def suite() -> Path:
    """The folder of the host's tests, fetched if it is not there."""
    name = f"wsproto-{wsproto.__version__}"
    folder = HOSTS / name
    if not folder.exists():
        HOSTS.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-binary", ":all:", "--dest", str(HOSTS), f"wsproto=={wsproto.__version__}"]
        subprocess.run(command, check=True)
        with tarfile.open(HOSTS / f"{name}.tar.gz") as archive:
            for member in archive:
                parts = Path(member.name).parts
                if member.isfile() and parts[1] in ("test", "tests") and ".." not in parts:
                    target = HOSTS.joinpath(*parts)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]
    (found,) = folder.glob("test*")
    return found


class Results:
    """A plugin of pytest that counts, and keeps what failed."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.failed: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.count[report.outcome] += 1
        if report.failed:
            self.failed[report.nodeid] = report.longreprtext

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.count["failed"] += 1
            self.failed[report.nodeid] = report.longreprtext


def run(folder: Path) -> Results:
    results = Results()
    options = ["-p", "no:terminal", "-p", "no:cacheprovider", "-c", os.devnull]
    pytest.main([*options, "--rootdir", str(folder.parent), str(folder)], plugins=[results])
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--stock", action="store_true")
    options = parser.parse_args()
    folder = suite()
    bad = False
    for seams in [[]] if options.stock else SEAMS:
        used = "the host's own classes"
        if seams:
            import framewire
            from framewire.dropin import wsproto as dropin

            dropin.install(**{seam: seam in seams for seam in dropin.SEAMS})
            assert list(dropin.installed()) == seams
            used = f"framewire.dropin.wsproto, core {framewire.CORE}, {' and '.join(seams)}"
        results = run(folder)
        for test, reason in results.failed.items():
            print(f"FAILED {test}\n{reason}")
        count = results.count
        print(f"wsproto {wsproto.__version__}, {used}: {count['passed']} passed, {count['failed']} failed")
        bad |= bool(results.failed) or not count["passed"]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
