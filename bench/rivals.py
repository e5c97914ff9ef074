"""Who runs on which workload, and by how much framewire must win: the one list behind both benches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import limits
import peers
import websocket_rivals
import workloads
from contests import BEST_HAND, FEED, FLOOR, PURE, STREAMING, Bar, Contest, fresh, load_core
from workloads import Data, Workload

WORKLOADS = workloads.WORKLOADS | websocket_rivals.WORKLOADS


def data_of(workload: Workload) -> Data:
    return (websocket_rivals.Data if workload.name in websocket_rivals.WORKLOADS else Data)(workload)


def contest(workload: Workload, core: str, with_peers: bool = True, data: Data | None = None) -> Contest:
    return MAKERS[workload.name](workload, data or data_of(workload), core, with_peers)


def _feeding(workload: Workload, data: Data, core: str, feed_limit: float) -> Contest:
    """D1, D2, D3, D6: the same list of payloads, in one piece and chunk by chunk."""
    decoder, count = partial(load_core(core).Decoder, workload.spec), workload.frame_count
    floor = limits.Floor(data.stream, data.offsets, data.lengths)
    it = Contest(workload, prime=partial(floor.cut, 0, count), kept=FLOOR)
    it.add("limit", FLOOR, partial(floor.cut, 0, count), data.payloads)
    it.add(core, FEED, partial(fresh, workloads.feed, decoder, data.chunks), data.payloads)
    it.add("limit", "floor, by chunk", partial(workloads.floor, floor, data.batches), data.payloads)
    it.add("limit", FLOOR + STREAMING, partial(workloads.floor_streaming, floor, data.batches), count)
    it.add(core, FEED + STREAMING, partial(fresh, workloads.feed_streaming, decoder, data.chunks), count)
    it.bars = [Bar(FEED, FLOOR, feed_limit), Bar(FEED + STREAMING, FLOOR + STREAMING, feed_limit)]
    return it


def _spanning(it: Contest, data: Data, core: str) -> None:
    decoder, count = partial(load_core(core).Decoder, it.workload.spec), it.workload.frame_count
    it.add("limit", "scan", partial(workloads.scan, limits.scan_u32be, data.stream, data.stops), count)
    it.add(core, "spans", partial(fresh, workloads.feed_spans, decoder, data.chunks), count)


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
        it.add("peer", name, partial(fresh, workloads.feed, parser, chunks), data.payloads)
        it.add("peer", name + STREAMING, partial(fresh, workloads.feed_streaming, parser, chunks), len(data.payloads))
    it.add("peer", "asyncio", partial(peers.asyncio_reader, data.chunks), data.payloads)
    it.add("peer", "asyncio" + STREAMING, partial(peers.asyncio_reader_streaming, data.chunks), len(data.payloads))
    if core != "py":
        pure = partial(load_core("py").Decoder, workload.spec)
        it.add("py", PURE, partial(fresh, workloads.feed, pure, data.chunks), data.payloads)
        it.add("py", PURE + STREAMING, partial(fresh, workloads.feed_streaming, pure, data.chunks), len(data.payloads))
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
    it.add(core, "feed, bare call", partial(fresh, workloads.feed_bare, decoder, data.chunks), None)
    it.add("limit", "None", partial(workloads.feed_sparse, nothing, data.chunks), [])
    it.add("limit", "[]", partial(workloads.feed_sparse, empty, data.chunks), [])
    it.add(core, FEED, partial(fresh, workloads.feed_sparse, decoder, data.chunks), data.payloads)
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
    **websocket_rivals.MAKERS,
}
