"""Who runs on which workload, and by how much framewire must win: the one list behind both benches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import limits
import peers
import workloads
from workloads import Data, Workload

Run = Callable[[], Any]

FLOOR, FEED, PURE = "floor", "feed", "pure core"
BEST_HAND = "best hand-written"
"""Stands for the fastest of `peers.HAND`."""

STREAMING = ", streaming"
"""Ends the names of those that drop what a chunk completes before the next; the others keep every payload."""


@dataclass(frozen=True)
class Bar:
    """`top` may take at most `limit` times as long as `bottom`; at least, where `at_least` is set."""

    top: str
    bottom: str
    limit: float
    at_least: bool = False
    pure: bool = False
    """It is about the pure core, whichever core is measured."""

    def met(self, ratio: float) -> bool:
        return ratio >= self.limit if self.at_least else ratio <= self.limit


@dataclass
class Contest:
    """All that is measured on one workload, and compared with `expected` before that."""

    workload: Workload
    prime: Run
    """Runs before each measured one, so that all find the same caches and the same free memory."""
    kept: str = ""
    """The limit whose result is all the memory that a rival's result takes."""
    bars: list[Bar] = field(default_factory=list)
    runs: dict[str, Run] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    """c, py, limit or peer."""

    def add(self, kind: str, name: str, run: Run, expected: Any) -> None:
        self.runs[name] = run
        self.expected[name] = expected
        self.kinds[name] = kind

    def check(self) -> None:
        for name, run in self.runs.items():
            if run() != self.expected[name]:
                raise AssertionError(f"{self.workload.name}: {name!r} gives another result")


def load_core(name: str) -> Any:
    """``c`` or ``py``."""
    return import_module(f"framewire._core_{name}")


def contest(workload: Workload, core: str, with_peers: bool = True, data: Data | None = None) -> Contest:
    return MAKERS[workload.name](workload, data or Data(workload), core, with_peers)


def _fresh(loop: Callable[[Any, list[bytes]], Any], maker: Callable[[], Any], chunks: list[bytes]) -> Any:
    """A loop over a decoder made for it."""
    return loop(maker(), chunks)


def _feeding(workload: Workload, data: Data, core: str, feed_limit: float) -> Contest:
    """D1, D2, D3, D6: the same list of payloads, in one piece and chunk by chunk."""
    decoder, count = partial(load_core(core).Decoder, workload.spec), workload.frame_count
    floor = limits.Floor(data.stream, data.offsets, data.lengths)
    it = Contest(workload, prime=partial(floor.cut, 0, count), kept=FLOOR)
    it.add("limit", FLOOR, partial(floor.cut, 0, count), data.payloads)
    it.add(core, FEED, partial(_fresh, workloads.feed, decoder, data.chunks), data.payloads)
    it.add("limit", "floor, by chunk", partial(workloads.floor, floor, data.batches), data.payloads)
    it.add("limit", FLOOR + STREAMING, partial(workloads.floor_streaming, floor, data.batches), count)
    it.add(core, FEED + STREAMING, partial(_fresh, workloads.feed_streaming, decoder, data.chunks), count)
    it.bars = [Bar(FEED, FLOOR, feed_limit), Bar(FEED + STREAMING, FLOOR + STREAMING, feed_limit)]
    return it


def _spanning(it: Contest, data: Data, core: str) -> None:
    decoder, count = partial(load_core(core).Decoder, it.workload.spec), it.workload.frame_count
    it.add("limit", "scan", partial(workloads.scan, limits.scan_u32be, data.stream, data.stops), count)
    it.add(core, "spans", partial(_fresh, workloads.feed_spans, decoder, data.chunks), count)


def _d1(workload: Workload, data: Data, core: str, with_peers: bool) -> Contest:
    it = _feeding(workload, data, core, 1.2)
    _spanning(it, data, core)
    it.bars.append(Bar("spans", "scan", 1.3))
    if not with_peers:
        return it
    rivals = {**peers.HAND, **peers.GUESS}
    rivals |= {name: parser for name, parser in peers.LIBRARIES.items() if peers.installed(name)}
    for name, parser in rivals.items():
        chunks = peers.chunks_for(name, data.payloads, data.chunks)
        it.add("peer", name, partial(_fresh, workloads.feed, parser, chunks), data.payloads)
        it.add("peer", name + STREAMING, partial(_fresh, workloads.feed_streaming, parser, chunks), len(data.payloads))
    it.add("peer", "asyncio", partial(peers.asyncio_reader, data.chunks), data.payloads)
    it.add("peer", "asyncio" + STREAMING, partial(peers.asyncio_reader_streaming, data.chunks), len(data.payloads))
    if core != "py":
        pure = partial(load_core("py").Decoder, workload.spec)
        it.add("py", PURE, partial(_fresh, workloads.feed, pure, data.chunks), data.payloads)
        it.add("py", PURE + STREAMING, partial(_fresh, workloads.feed_streaming, pure, data.chunks), len(data.payloads))
    factors = {"msgpack": 2, "hiredis": 4, BEST_HAND: 8, "twisted": 20, "asyncio": 40}
    for how in ("", STREAMING):
        it.bars += [Bar(peer + how, FEED + how, factor, at_least=True) for peer, factor in factors.items()]
        it.bars.append(Bar((FEED if core == "py" else PURE) + how, BEST_HAND + how, 1.0, pure=True))
    return it


def _d2(workload: Workload, data: Data, core: str, with_peers: bool) -> Contest:
    return _feeding(workload, data, core, 1.3)


def _d3(workload: Workload, data: Data, core: str, with_peers: bool) -> Contest:
    it = _feeding(workload, data, core, 1.15)
    _spanning(it, data, core)
    it.bars.append(Bar("spans", FEED, 0.5))
    return it


def _d4(workload: Workload, data: Data, core: str, with_peers: bool) -> Contest:
    decoder, size = partial(load_core(core).Decoder, workload.spec), sum(data.lengths)
    floor = limits.Floor(data.stream, data.offsets, data.lengths)
    it = Contest(workload, prime=floor.copy_each, kept="copy, kept")
    it.add("limit", "copy, dropped", floor.copy_each, size)
    it.add(core, "window, dropped", lambda: workloads.window_streaming(decoder(), limits.fill, data.stream), size)
    it.add("limit", "copy, kept", partial(floor.cut, 0, workload.frame_count), data.payloads)
    it.add(core, "window, kept", lambda: workloads.window(decoder(), limits.fill, data.stream), data.payloads)
    it.bars = [Bar("window, dropped", "copy, dropped", 1.15), Bar("window, kept", "copy, kept", 1.15)]
    return it


def _d5(workload: Workload, data: Data, core: str, with_peers: bool) -> Contest:
    decoder = partial(load_core(core).Decoder, workload.spec)
    nothing, empty = limits.Nothing(), limits.Empty()
    it = Contest(workload, prime=partial(workloads.feed_bare, nothing, data.chunks))
    it.add("limit", "None, bare call", partial(workloads.feed_bare, nothing, data.chunks), None)
    it.add("limit", "[], bare call", partial(workloads.feed_bare, empty, data.chunks), None)
    it.add(core, "feed, bare call", partial(_fresh, workloads.feed_bare, decoder, data.chunks), None)
    it.add("limit", "None", partial(workloads.feed_sparse, nothing, data.chunks), [])
    it.add("limit", "[]", partial(workloads.feed_sparse, empty, data.chunks), [])
    it.add(core, FEED, partial(_fresh, workloads.feed_sparse, decoder, data.chunks), data.payloads)
    it.bars = [Bar("feed, bare call", "None, bare call", 2.5), Bar(FEED, "None", 2.5)]
    return it


def _d6(workload: Workload, data: Data, core: str, with_peers: bool) -> Contest:
    return _feeding(workload, data, core, 1.2)


def _e1(workload: Workload, data: Data, core: str, with_peers: bool) -> Contest:
    encoder = partial(load_core(core).Encoder, workload.spec)
    write = partial(limits.encode_u32be, data.payloads, len(data.stream))
    it = Contest(workload, prime=write)
    it.add("limit", "write", write, data.stream)
    it.add(core, "encode_many", lambda: encoder().encode_many(data.payloads), data.stream)
    it.bars = [Bar("encode_many", "write", 1.3)]
    return it


MAKERS: dict[str, Callable[[Workload, Data, str, bool], Contest]] = {
    "D1": _d1,
    "D2": _d2,
    "D3": _d3,
    "D4": _d4,
    "D5": _d5,
    "D6": _d6,
    "E1": _e1,
}
