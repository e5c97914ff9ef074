"""CPython's own tests of ``multiprocessing.connection``, and of what stands on it, with framewire's in its place.

    python tests/host_suites/multiprocessing_connection.py              what has its connections from there
    python tests/host_suites/multiprocessing_connection.py --stock      the same tests without framewire
    python tests/host_suites/multiprocessing_connection.py --spawn      children that import everything anew

``FRAMEWIRE_CORE=py`` chooses the pure core. The tests are those of the interpreter that runs this: where it comes
without ``test._test_multiprocessing`` there is nothing to run, which is said. A summary names what was skipped, and
why.

Left out are the test classes that use no connection: locks, events, barriers, shared memory and ctypes, heaps, flags,
start methods, the resource tracker, logging, finalizers.
"""

from __future__ import annotations

import argparse
import io
import sys
import types
import unittest
from typing import Any

CASES = [
    "_TestConnection",
    "_TestListener",
    "_TestListenerClient",
    "_TestPoll",
    "_TestPollEintr",
    "_TestPicklingConnections",
    "_TestQueue",
    "TestSimpleQueue",
    "TestWait",
    "TestInvalidHandle",
    "OtherTest",
    "TestIgnoreEINTR",
    "TestInvalidFamily",
    "TestInitializers",
    "_TestRemoteManager",
    "_TestMyManager",
    "_TestManagerRestart",
    "_TestContainers",
    "TestSyncManagerTypes",
    "TestTimeouts",
]
"""As ``test._test_multiprocessing`` names them; the later ones use connections through managers and pools."""

SPAWNED = ["_TestConnection", "_TestPicklingConnections", "_TestQueue", "TestSimpleQueue", "TestWait"]


def module_of_cases(start_method: str, names: list[str]) -> types.ModuleType:
    """A module as those that CPython makes of its tests for each way to start a process, with these classes only."""
    from test import _test_multiprocessing as host

    module = types.ModuleType("framewire_host_suite")
    sys.modules[module.__name__] = module
    host.install_tests_in_module_dict(vars(module), start_method)  # type: ignore[attr-defined]
    wanted = set(names)
    for name in names:
        wanted |= {f"With{kind}{name[1:]}" for kind in ("Processes", "Threads", "Manager")} if name[0] == "_" else set()
    for name, value in list(vars(module).items()):
        if isinstance(value, type) and issubclass(value, unittest.TestCase) and name not in wanted:
            delattr(module, name)
    return module


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stock", action="store_true", help="leave the standard library as it is")
    parser.add_argument("--spawn", action="store_true", help="spawn the children instead of forking them")
    parser.add_argument("cases", nargs="*", help="test classes, as the host's suite names them")
    options = parser.parse_args()
    try:
        import test._test_multiprocessing
    except ImportError as error:
        print(f"SKIPPED: this interpreter comes without its tests ({error})")
        return 0

    made = [0]
    used = "the standard library's"
    if not options.stock:
        import framewire
        from framewire.dropin import multiprocessing as dropin

        class Counted(dropin.Connection):
            """Counts, to prove that the tests run against framewire."""

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                made[0] += 1
                super().__init__(*args, **kwargs)

        dropin.install()
        from multiprocessing import connection, reduction

        reduction.register(Counted, connection.reduce_connection)  # type: ignore[attr-defined]
        connection.Connection = Counted  # type: ignore[misc]
        used = f"framewire's ({framewire.CORE})"

    module = module_of_cases(
        "spawn" if options.spawn else "fork", options.cases or (SPAWNED if options.spawn else CASES)
    )
    output = io.StringIO()
    result = unittest.TextTestRunner(output, verbosity=2).run(unittest.defaultTestLoader.loadTestsFromModule(module))
    for test, reason in result.skipped:
        print(f"skipped {test.id().split('.', 1)[1]}: {reason}")
    if not result.wasSuccessful():
        print(output.getvalue())
    failed = f"{len(result.failures)} failed, {len(result.errors)} errors"
    print(
        f"CPython {sys.version.split()[0]}, connections: {used}, {made[0]} made in this process: "
        f"{result.testsRun} run, {len(result.skipped)} skipped, {failed}"
    )
    return 0 if result.wasSuccessful() and (options.stock or made[0]) else 1


if __name__ == "__main__":
    sys.exit(main())
if __name__ == "__mp_main__":  # a spawned child, which looks for the classes where its parent has them
    module_of_cases("spawn", SPAWNED)
    if "--stock" not in sys.argv:
        from framewire.dropin import multiprocessing as dropin

        dropin.install()
