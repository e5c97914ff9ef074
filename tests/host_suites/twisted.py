"""Runs Twisted's own tests with the receivers of framewire.dropin.twisted in the place of the host's.

    python tests/host_suites/twisted.py             the tests of protocols.basic
    python tests/host_suites/twisted.py --more      and those of what stands on them: AMP, DNS, FTP, HTTP, mail, IRC
    python tests/host_suites/twisted.py --stock     the host as it is, to compare

The names are rebound before a test module is imported, because the classes there are derived from them at import.
Exit status 1 if anything fails. What is skipped is named with its reason.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

# This file has the name of the host, and its folder stands first on the path.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

BASIC = ["twisted.protocols.test.test_basic"]
MORE = [
    "twisted.test.test_amp",
    "twisted.names.test.test_client",
    "twisted.names.test.test_dns",
    "twisted.names.test.test_names",
    "twisted.names.test.test_server",
    "twisted.test.test_finger",
    "twisted.test.test_ftp",
    "twisted.test.test_ident",
    "twisted.test.test_memcache",
    "twisted.test.test_postfix",
    "twisted.test.test_protocols",
    "twisted.test.test_sip",
    "twisted.mail.test.test_imap",
    "twisted.mail.test.test_pop3",
    "twisted.mail.test.test_pop3client",
    "twisted.mail.test.test_smtp",
    "twisted.web.test.test_http",
    "twisted.words.test.test_irc",
]

_NETSTRINGS = "twisted.protocols.test.test_basic.NetstringReceiverTests."
WHITE_BOX = {
    _NETSTRINGS + "test_consumeLength",
    _NETSTRINGS + "test_consumeLengthBorderCase1",
    _NETSTRINGS + "test_consumeLengthBorderCase2",
    _NETSTRINGS + "test_consumeLengthBorderCase3",
    _NETSTRINGS + "test_receiveNetstringPortions_1",
    _NETSTRINGS + "test_receiveTwoNetstrings",
}
"""They call private methods of the host's netstring receiver: inherited here, but not what receives. They show nothing
(the first four), or nothing by those calls."""


def missing(name: str) -> str:
    """What the tests in this module need beside Twisted and is not here."""
    try:
        importlib.import_module(name)
    except ImportError as error:
        return str(error)
    return ""


def run(names: list[str]) -> tuple[int, dict[str, str], dict[str, str]]:
    """Run these modules; return how many tests ran, and what failed and what was skipped, with the reasons."""
    from twisted.trial.reporter import TreeReporter
    from twisted.trial.runner import TestLoader, TrialRunner

    texts = io.StringIO()

    class Reporter(TreeReporter):  # type: ignore[misc]
        def __init__(self, *_: Any, **options: Any) -> None:
            super().__init__(texts, **options)

    suite = TestLoader().loadByNames(names, True)
    with tempfile.TemporaryDirectory() as folder:
        before = Path.cwd()
        try:
            result = TrialRunner(Reporter, workingDirectory=str(Path(folder, "trial"))).run(suite)
        finally:
            os.chdir(before)
    failed = {test.id(): str(failure).strip()[-2000:] for test, failure in [*result.failures, *result.errors]}
    skipped = {test.id(): str(reason) for test, reason in result.skips}
    return result.testsRun, failed, skipped


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--more", action="store_true")
    parser.add_argument("--stock", action="store_true")
    options = parser.parse_args()
    if options.stock:
        what = "the host's own receivers"
    else:
        import framewire
        from framewire.dropin import twisted as dropin

        dropin.install()
        what = f"framewire.dropin.twisted, core {framewire.CORE}"
    names, left_out = list(BASIC), {}
    for name in MORE if options.more else []:
        if reason := missing(name):
            left_out[name] = reason
        else:
            names.append(name)
    count, failed, skipped = run(names)
    print(f"{what}, Twisted {importlib.import_module('twisted').version.public()}, {len(names)} modules")
    for test, reason in {**left_out, **skipped}.items():
        print(f"skipped {test}: {reason}")
    for test, reason in failed.items():
        print(f"FAILED {test}\n{reason}")
    print(f"{count} ran, {count - len(failed) - len(skipped)} passed, {len(skipped)} skipped, {len(failed)} failed")
    if not options.stock:
        print(f"of these, {len(WHITE_BOX)} call private methods that are inherited and not in use; see WHITE_BOX")
    return 1 if failed or not count else 0


if __name__ == "__main__":
    sys.exit(main())
