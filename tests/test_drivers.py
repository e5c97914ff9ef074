"""Every driver over every transport: the checks of `drivers.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from drivers import CHECKS, AioDriver, Begin, BlockingDriver, LoopDriver, UvloopDriver, scene
from pairs import over_tcp, over_unix, tls_contexts

__all__ = ["scene"]


@pytest.fixture(params=[BlockingDriver, LoopDriver, AioDriver, UvloopDriver], ids=["blocking", "loop", "aio", "uvloop"])
def driver(request: pytest.FixtureRequest) -> Any:
    if request.param is UvloopDriver:
        pytest.importorskip("uvloop", reason="uvloop is not installed")
    return request.param


@pytest.fixture(params=["unix", "tcp", "tls"])
def transport(request: pytest.FixtureRequest) -> Any:
    if request.param == "tls":
        return over_tcp, tls_contexts(request.getfixturevalue("certificate"))
    return {"unix": over_unix, "tcp": over_tcp}[request.param], None


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_driver(check: Callable[[Begin], None], scene: Begin) -> None:
    check(scene)
