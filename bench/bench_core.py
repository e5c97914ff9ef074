"""Every workload on both cores, with the limits and the peers beside them, under pytest-benchmark.

    python -m pytest bench/bench_core.py
    python -m pytest bench/bench_core.py -k "D1 and not peer" --benchmark-json=d1.json
    FRAMEWIRE_BENCH_SCALE=0.01 python -m pytest bench/bench_core.py
    python -m pytest bench/bench_core.py --benchmark-save=before                keeps it, as make bench does
    pytest-benchmark compare --between=median,iqr --name=short 0001 0002        two of those that were kept

Ids are workload, kind (c, py, limit, peer) and what is measured. What has to be compared with what, in turn and with a
verdict, is the business of report.py; whether a commit made something slower, that of regression.py.
"""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator
from typing import Any

import peers
import pytest
import websocket_peers
import workloads
from contests import Contest
from rivals import WORKLOADS, contest, data_of
from websocket_rivals import header, mask
from workloads import HEADERS, cut

SCALE = float(os.environ.get("FRAMEWIRE_BENCH_SCALE", "1"))
ROUNDS = 7


def rivals() -> Iterator[Any]:
    """All there is to measure, listed from workloads of two frames."""
    for name, workload in WORKLOADS.items():
        small = contest(workload.scaled(0), "py")
        for run, kind in small.kinds.items():
            for core in ("c", "py") if kind == "py" else (kind,):
                yield pytest.param(name, core, run, id=f"{name}-{core}-{run}")


@pytest.fixture(scope="module")
def contests(request: pytest.FixtureRequest) -> Iterator[dict[str, Contest]]:
    """Both cores on one workload."""
    workload = WORKLOADS[request.param].scaled(SCALE)
    data = data_of(workload)
    both = {core: contest(workload, core, core == "py", data) for core in ("c", "py")}
    gc.collect()
    gc.freeze()  # a million payloads are not looked at again
    yield both
    gc.unfreeze()


@pytest.mark.parametrize(("contests", "kind", "run"), list(rivals()), indirect=["contests"])
def test_core(benchmark: Any, contests: dict[str, Contest], kind: str, run: str) -> None:
    it = contests["c" if kind == "c" else "py"]
    it.check(run)
    target = it.runs[run]
    result: list[Any] = []

    def setup() -> None:
        result.clear()  # what it takes to free is nobody's time
        it.prime()
        gc.collect()

    benchmark.group = str(it.workload)
    benchmark.extra_info.update(core=kind, scale=SCALE, frame_count=it.workload.frame_count)
    gc.disable()
    try:
        benchmark.pedantic(lambda: result.append(target()), setup=setup, rounds=ROUNDS, warmup_rounds=1)
    finally:
        gc.enable()
    if benchmark.stats is not None:
        benchmark.extra_info["ns_per_frame"] = 1e9 * benchmark.stats.stats.median / it.workload.frame_count


@pytest.mark.parametrize("peer", [*peers.HAND, *peers.GUESS, *peers.LIBRARIES, "asyncio"])
def test_no_peer_knows_the_sizes(peer: str) -> None:
    rng = random.Random(workloads.SEED)
    payloads = [rng.randbytes(rng.choice((0, 1, 32, 33, 300, 9000))) for _ in range(2000)]
    chunks = cut(b"".join(HEADERS["u32be"](len(payload)) + payload for payload in payloads), 1000)
    chunks = peers.chunks_for(peer, payloads, chunks)
    if peer == "asyncio":
        assert peers.asyncio_reader(chunks) == payloads
        assert peers.asyncio_reader_streaming(chunks) == len(payloads)
        return
    if peer in peers.LIBRARIES and not peers.installed(peer):
        pytest.skip(f"{peer} is not installed")
    parser = (peers.HAND | peers.GUESS | peers.LIBRARIES)[peer]
    assert workloads.feed(parser(), chunks) == payloads


@pytest.mark.parametrize("peer", websocket_peers.DECODERS)
def test_no_websocket_peer_knows_the_sizes(peer: str) -> None:
    rng = random.Random(workloads.SEED)
    payloads = [rng.randbytes(rng.choice((0, 1, 64, 125, 126, 9000, 70000))) for _ in range(500)]
    keys = [rng.randbytes(4) for _ in payloads]
    frames = [header(0x82, len(payload), key) + mask(payload, key) for payload, key in zip(payloads, keys, strict=True)]
    if not peers.installed(peer.split(",")[0]):
        pytest.skip(f"{peer} is not installed")
    decoder = websocket_peers.DECODERS[peer](text=False, deflate=False)
    assert workloads.feed(decoder, cut(b"".join(frames), 1000)) == payloads
