"""Runs CPython's own tests of asyncio streams with `framewire.dropin.asyncio.StreamReader` in place of the host's.

    python tests/host_suites/asyncio_streams.py             test_streams, then test_subprocess
    python tests/host_suites/asyncio_streams.py --plain     the same tests on the host's own reader, to compare
    FRAMEWIRE_CORE=py python tests/host_suites/asyncio_streams.py -v

``--frames`` has every reader in frames mode whenever the host looks at its buffer, so that each of its methods has to
come back from there. The interpreter's test package must be installed. Nothing is left out: what is skipped the tests
skip themselves, with the host's reader too. Exits with 1 if a test fails.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import unittest
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from typing import Any

import framewire
from framewire.dropin import asyncio as dropin

SUITES = ["test.test_asyncio.test_streams", "test.test_asyncio.test_subprocess"]


class AlwaysFrames(dropin.StreamReader):
    """A reader that goes to frames mode before everything that the host calls."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.set_spec("u32be")


def _first_frames(name: str) -> Callable[..., Any]:
    method = getattr(dropin.StreamReader, name)

    def first_frames(self: AlwaysFrames, *args: Any, **options: Any) -> Any:
        self._read_frames()
        return method(self, *args, **options)

    return first_frames


for _name in ("feed_data", "feed_eof", "at_eof", "read", "readline", "readuntil", "readexactly", "_wait_for_data",
              "_maybe_resume_transport"):  # fmt: skip
    setattr(AlwaysFrames, _name, _first_frames(_name))


def run(names: list[str], *, verbosity: int = 1) -> unittest.TestResult:
    """Run these test modules on the reader that is in place now."""
    loader = unittest.defaultTestLoader
    suite = unittest.TestSuite(loader.loadTestsFromModule(import_module(name)) for name in names)
    return unittest.TextTestRunner(verbosity=verbosity).run(suite)


def report_skipped(skipped: list[tuple[unittest.TestCase, str]]) -> None:
    """Print what was skipped, by class and reason."""
    counts = Counter((type(test).__qualname__, " ".join(reason.split())) for test, reason in skipped)
    for (name, reason), count in counts.items():
        print(f"skipped {count} of {name}: {reason}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plain", action="store_true", help="on the host's own reader")
    parser.add_argument("--frames", action="store_true", help="come back from frames mode all the time")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("suites", nargs="*", default=SUITES)
    args = parser.parse_args()
    if args.frames:
        dropin._patch._changes = lambda: [  # type: ignore[assignment]
            (owner, name, AlwaysFrames) for owner, name, _ in dropin._changes()
        ]
    with nullcontext() if args.plain else dropin.patched():
        reader = asyncio.StreamReader
        print(
            f"{reader.__module__}.{reader.__name__}, core {framewire.CORE}, Python {sys.version.split()[0]}", flush=True
        )
        result = run(args.suites, verbosity=2 if args.verbose else 1)
    report_skipped(result.skipped)
    print(f"{result.testsRun} run, {len(result.skipped)} skipped")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
