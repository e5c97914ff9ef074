"""Runs websockets' own tests with framewire.dropin.websockets installed, at each of its seams.

    python tests/host_suites/websockets.py                      the tests of frames and protocols, from PyPI
    python tests/host_suites/websockets.py --checkout FOLDER    all, from a checkout of the version that is installed
    python tests/host_suites/websockets.py --stock              the host as it is, to compare

``FRAMEWIRE_CORE=py`` chooses the pure core. What PyPI has of the tests is a part of them without its helpers: those of
one version, which are run on that version, downloaded to ``build``. Tests with a time limit may fail on a busy machine:
what has failed is run a second time, alone. Exit status 1 if anything fails then that is not in `WHITE_BOX`.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import io
import logging
import os
import subprocess
import sys
import tarfile
import types
import unittest
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

# This file has the name of the host, and its folder stands first on the path.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

BUILD = Path(__file__).resolve().parents[2] / "build"
VERSION = "16.1.1"
"""The last one of which PyPI has tests."""
MODULES = ["test_frames", "test_protocol", "test_streams", "test_utils"]
SEAMS = ["frame", "protocol", "mask"]

WHITE_BOX = {
    "tests.test_protocol.ErrorTests.test_client_hits_internal_error_reading_frame",
    "tests.test_protocol.ErrorTests.test_server_hits_internal_error_reading_frame",
}
"""They have ``struct.unpack`` fail while a frame is parsed, and see to what comes of it; here nothing calls that."""


def download() -> Path:
    """The folder of the unpacked source distribution."""
    folder = BUILD / f"websockets-{VERSION}"
    if not folder.exists():
        BUILD.mkdir(exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command = [*pip, "--no-binary", "websockets", "--dest", str(BUILD), f"websockets=={VERSION}"]
        subprocess.run(command, check=True)
        with tarfile.open(BUILD / f"websockets-{VERSION}.tar.gz") as archive:
            archive.extractall(BUILD, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder


class GeneratorTestCase(unittest.TestCase):
    """What these tests ask of ``tests.utils``."""

    def assertGeneratorRunning(self, generator: Any) -> None:  # noqa: N802
        next(generator)

    def assertGeneratorReturns(self, generator: Any) -> Any:  # noqa: N802
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("the generator goes on")


class Rsv2Extension:
    """What these tests ask of ``tests.extensions.utils``: every frame has RSV2 set."""

    name = "x-rsv2"

    def decode(self, frame: Any, *, max_size: int | None = None) -> Any:
        assert frame.rsv2
        return dataclasses.replace(frame, rsv2=False)

    def encode(self, frame: Any) -> Any:
        assert not frame.rsv2
        return dataclasses.replace(frame, rsv2=True)


def load_downloaded() -> unittest.TestSuite:
    """The tests that PyPI has, with the helpers that it has not."""
    folder = download()
    sys.path.insert(0, str(folder / "src"))
    helpers: dict[str, dict[str, Any]] = {
        "tests": {"__path__": [str(folder / "tests")]},
        "tests.utils": {"GeneratorTestCase": GeneratorTestCase},
        "tests.extensions": {"__path__": []},
        "tests.extensions.utils": {"Rsv2Extension": Rsv2Extension},
    }
    for name, names in helpers.items():
        sys.modules[name] = module = types.ModuleType(name)
        vars(module).update(names)
    return unittest.defaultTestLoader.loadTestsFromNames([f"tests.{name}" for name in MODULES])


def load_checkout(folder: str) -> unittest.TestSuite:
    os.chdir(folder)
    sys.path.insert(0, folder)
    return unittest.defaultTestLoader.discover("tests", top_level_dir=".")


def run(suite: unittest.TestSuite) -> tuple[int, int, dict[str, str]]:
    """How many ran, how many were skipped, and what failed, with the reasons."""
    result = unittest.TextTestRunner(io.StringIO(), verbosity=0).run(suite)
    return result.testsRun, len(result.skipped), {test.id(): text for test, text in result.failures + result.errors}


def run_at(seam: str, checkout: str | None) -> int:
    """Run the tests at one seam; "stock" is none."""
    suite = load_checkout(checkout) if checkout else load_downloaded()
    calls: Counter[str] = Counter()
    if seam == "stock":
        used = "as it is"
    else:
        import framewire
        from framewire.dropin import websockets as dropin

        count_calls(dropin, calls)
        dropin.install(seam)  # type: ignore[arg-type]
        used = f"framewire ({framewire.CORE}) at the seam {dropin.installed()}"
    warnings.simplefilter("ignore")
    logging.getLogger("websockets").addHandler(logging.NullHandler())
    count, skipped, failed = run(suite)
    again = [name for name in failed if name not in WHITE_BOX]
    if again and len(again) < 50:
        failed = {name: text for name, text in failed.items() if name in WHITE_BOX}
        failed.update(run(unittest.defaultTestLoader.loadTestsFromNames(again))[2])
    white_box = WHITE_BOX & set(failed) if seam in ("frame", "protocol") else set()
    for name in sorted(failed):
        print(f"white box, fails: {name}" if name in white_box else f"FAILED {name}\n{failed[name]}")
    version = importlib.import_module("websockets.version").version
    wrong = len(failed) - len(white_box)
    calls_made = ", ".join(f"{number} calls of {name}" for name, number in sorted(calls.items()))
    print(f"websockets {version}, {used}: {count} ran, {skipped} skipped, {wrong} failed; {calls_made}", flush=True)
    return 1 if wrong or not count or not (calls or seam == "stock") else 0


def count_calls(dropin: Any, calls: Counter[str]) -> None:
    """Count what is done by framewire, to prove that it is."""

    class Counted(dropin.WebsocketsFraming):  # type: ignore[misc, name-defined]
        def take(self, *arguments: Any) -> Any:
            calls["take"] += 1
            return super().take(*arguments)

        def take_all(self, *arguments: Any) -> Any:
            calls["take_all"] += 1
            return super().take_all(*arguments)

        def serialize(self, *arguments: Any) -> Any:
            calls["serialize"] += 1
            return super().serialize(*arguments)

    apply_mask = dropin.websockets_apply_mask

    def counted(data: Any, mask: Any) -> Any:
        calls["apply_mask"] += 1
        return apply_mask(data, mask)

    dropin.WebsocketsFraming = Counted
    dropin.websockets_apply_mask = counted


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--checkout", help="a folder with the tests of the version that is installed")
    parser.add_argument("--stock", action="store_true")
    parser.add_argument("--seam", choices=["stock", *SEAMS], help="this one only, in this process")
    options = parser.parse_args()
    if options.seam:
        return run_at(options.seam, options.checkout)
    status = 0
    for seam in ["stock"] if options.stock else SEAMS:
        command = [sys.executable, __file__, "--seam", seam]
        command += ["--checkout", str(Path(options.checkout).resolve())] if options.checkout else []
        status |= subprocess.run(command, check=False).returncode
    return status


if __name__ == "__main__":
    sys.exit(main())
