"""One suite for both cores.

``FRAMEWIRE_EXPECT`` says what this installation must have: ``compiled`` (the default) makes the suite fail where the
compiled core is missing; ``pure`` leaves it out, and `test_layers.py` checks that it is indeed not in use.
``FRAMEWIRE_EXAMPLES=N`` makes the random tests N times as long and truly random; a failure prints how to repeat it.
"""

from __future__ import annotations

import importlib
import os
import signal
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings
from pairs import make_certificate

EXPECT = os.environ.get("FRAMEWIRE_EXPECT", "compiled")
if EXPECT not in ("compiled", "pure"):
    raise pytest.UsageError(f"FRAMEWIRE_EXPECT must be 'compiled' or 'pure', not {EXPECT!r}")

CORES = ["py"] if EXPECT == "pure" else ["c", "py"]

collect_ignore = ["test_twins.py", "test_websocket_twins.py"] if EXPECT == "pure" else []  # they need two

# Whoever is started in the background by a shell has SIGINT ignored, and so has every program that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

EXAMPLES = int(os.environ.get("FRAMEWIRE_EXAMPLES", "1"))
settings.register_profile(
    "framewire",
    max_examples=100 * EXAMPLES,
    derandomize=EXAMPLES == 1,
    deadline=None,  # no timed test, nor a limit to how long examples may take to make
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
    print_blob=True,
)
settings.load_profile("framewire")


@pytest.fixture(scope="session", params=CORES)
def core(request: pytest.FixtureRequest) -> ModuleType:
    """The module of one core: Decoder, Encoder, Spans."""
    return importlib.import_module(f"framewire._core_{request.param}")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for ``localhost`` with its key, made once."""
    return make_certificate(tmp_path_factory.mktemp("tls"))
