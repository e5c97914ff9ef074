"""WebSocket messages: who runs on what, and by how much framewire must win. The frames are made here without it.

W1 is decoding what clients send, each frame masked with a key of its own; W2 is encoding the same messages as a server
and as a client.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Any

import limits
import websocket_peers
import workloads
from contests import FEED, FLOOR, PURE, STREAMING, Bar, Contest, Run, fresh
from peers import installed
from workloads import SEED, Workload

from framewire.websocket import Deflate

KIB = 1024
WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("W1a", "masked binary", 100_000, 64, 64 * KIB),
        Workload("W1b", "masked binary", 2_000, 64 * KIB, 64 * KIB),
        Workload("W1c", "masked text in ASCII", 100_000, 64, 64 * KIB),
        Workload("W1d", "masked text in Russian and Chinese", 100_000, 64, 64 * KIB),
        Workload("W1e", "masked text in Russian and Chinese", 500, 64 * KIB, 64 * KIB),
        Workload("W1f", "masked binary", 20_000, 64, 7),
        Workload("W1g", "masked JSON, deflated", 20_000, 64, 64 * KIB),
        Workload("W1h", "masked JSON, deflated", 200, 64 * KIB, 64 * KIB),
        Workload("W2a", "binary", 100_000, 64, 0),
        Workload("W2b", "binary", 2_000, 64 * KIB, 0),
        Workload("W2c", "text in ASCII", 100_000, 64, 0),
        Workload("W2d", "text in Russian and Chinese", 100_000, 64, 0),
        Workload("W2g", "JSON, deflated", 20_000, 64, 0),
        Workload("W2h", "JSON, deflated", 200, 64 * KIB, 0),
    )
}

FIN, RSV1, TEXT, BINARY, MASKED = 0x80, 0x40, 1, 2, 0x80
FLUSHED = b"\0\0\xff\xff"
"""What ends each message and is not sent: RFC 7692, section 7.2.1."""


class Data(workloads.Data):
    """A workload's messages, and the stream that a client makes of them."""

    def __init__(self, workload: Workload) -> None:
        rng = random.Random(SEED)
        make = next(maker for name, maker in MESSAGES.items() if name in workload.spec)
        self.payloads = [make(rng, workload.payload_size, i) for i in range(workload.frame_count)]
        self.text = isinstance(self.payloads[0], str)
        self.deflate = "deflated" in workload.spec
        self.first = FIN | (RSV1 if self.deflate else 0) | (TEXT if self.text else BINARY)
        self.raw = [message.encode() if isinstance(message, str) else message for message in self.payloads]
        self.bodies = list(deflated(self.raw)) if self.deflate else self.raw
        """What is in the frames, before it is masked."""
        keys = [rng.randbytes(4) for _ in self.bodies]
        self.keys = b"".join(keys)
        headers = [header(self.first, len(body), key) for body, key in zip(self.bodies, keys, strict=True)]
        self.lay(headers, list(map(mask, self.bodies, keys)), workload.chunk_size)


# The messages, of exactly so many bytes.


def _binary(rng: random.Random, size: int, index: int) -> bytes:
    return rng.randbytes(size)


def _ascii(rng: random.Random, size: int, index: int) -> str:
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz ,.", k=size))


def _foreign(rng: random.Random, size: int, index: int) -> str:
    """Russian and Chinese by turns."""
    letters, width = [(range(0x430, 0x450), 2), (range(0x4E00, 0x9FA6), 3)][index % 2]
    return "".join(map(chr, rng.choices(letters, k=size // width))) + " " * (size % width)


def _json(rng: random.Random, size: int, index: int) -> str:
    """As a market reports it: one trade, or as many as there is room for."""
    trades: list[Any] = []
    room = size - 2
    while not trades or room > 100:
        trade = {"n": index + len(trades), "at": rng.randrange(10**4, 10**5), "side": rng.choice(["buy", "sell"])}
        trades.append(trade)
        room -= len(json.dumps(trade)) + 2
    return json.dumps(trades if len(trades) > 1 else trades[0]).ljust(size)


MESSAGES: dict[str, Callable[[random.Random, int, int], str | bytes]] = {
    "binary": _binary,
    "ASCII": _ascii,
    "Russian": _foreign,
    "JSON": _json,
}


# The frames: RFC 6455, section 5.2.


def header(first: int, size: int, key: bytes) -> bytes:
    masked = MASKED if key else 0
    if size < 126:
        return bytes([first, masked | size]) + key
    if size < 65536:
        return bytes([first, masked | 126]) + size.to_bytes(2, "big") + key
    return bytes([first, masked | 127]) + size.to_bytes(8, "big") + key


def mask(data: bytes, key: bytes) -> bytes:
    size = len(data)
    keys = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(keys, "little")).to_bytes(size, "little")


def deflated(messages: list[bytes]) -> Iterator[bytes]:
    deflate = zlib.compressobj(wbits=-15)
    for message in messages:
        yield (deflate.compress(message) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(FLUSHED)


def inflated(bodies: list[bytes]) -> list[bytes]:
    inflate = zlib.decompressobj(wbits=-15).decompress
    return [inflate(body + FLUSHED) for body in bodies]


def read(frames: bytes | list[bytes]) -> list[str | bytes]:
    """The messages in what an encoder has made, each in one frame of its own."""
    stream = frames if isinstance(frames, bytes) else b"".join(frames)
    inflate = zlib.decompressobj(wbits=-15).decompress
    messages: list[str | bytes] = []
    pos = 0
    while pos < len(stream):
        first, size = stream[pos], stream[pos + 1] & 0x7F
        pos, key_size = pos + 2, 4 if stream[pos + 1] & MASKED else 0
        if size > 125:
            width = 2 if size == 126 else 8
            size = int.from_bytes(stream[pos : pos + width], "big")
            pos += width
        key, body = stream[pos : pos + key_size], stream[pos + key_size : pos + key_size + size]
        pos += key_size + size
        body = mask(body, key) if key else body
        body = inflate(body + FLUSHED) if first & RSV1 else body
        messages.append(body.decode() if first & 0x0F == TEXT else body)
    return messages


# The loops that are not in workloads.py, and a view.


def joined(parts: list[Any]) -> list[Any]:
    """The messages of which these are the parts."""
    messages: list[Any] = []
    pending: list[Any] = []
    for part in parts:
        pending.append(part.data)
        if part.final:
            messages.append(type(part.data)().join(pending))
            pending = []
    return messages


def encode(encoder: Any, messages: list[Any]) -> Any:
    return encoder.encode(messages)


def encode_many(encoder: Any, messages: list[Any]) -> bytes:
    return encoder.encode_many(messages)


def encode_each(encoder: Any, messages: list[Any]) -> list[bytes]:
    encode_one = encoder.encode
    return [encode_one(message) for message in messages]


# The contests.


def load_codec(core: str) -> Any:
    """``c`` or ``py``."""
    return import_module("framewire._core_c" if core == "c" else "framewire._websocket_py")


def rivals(of: dict[str, Callable[..., Any]], data: Data) -> dict[str, Callable[..., Any]]:
    """The peers that are here, and that can do it."""
    unable = websocket_peers.WITHOUT_DEFLATE if data.deflate else set()
    return {name: peer for name, peer in of.items() if name not in unable and installed(name.split(",")[0])}


def decoder_of(core: str, data: Data, **options: Any) -> Callable[[], Any]:
    return partial(load_codec(core).MessageDecoder, "server", deflate=Deflate() if data.deflate else None, **options)


def encoder_of(core: str, data: Data, role: str) -> Callable[[], Any]:
    return partial(load_codec(core).MessageEncoder, role, deflate=Deflate() if data.deflate else None)


def _decoding(
    workload: Workload, data: Data, core: str, with_peers: bool, over_floor: float = 0, ahead: Mapping[str, float] = {}
) -> Contest:
    """All of W1: every message in one list; and dropped, chunk by chunk."""
    floor, batches = _floors(data)
    it = Contest(workload, prime=floor, kept=FLOOR)
    it.add("limit", FLOOR, floor, data.payloads)
    if batches:
        it.add("limit", "floor, by chunk", partial(workloads.floor, *batches), data.payloads)
        it.add("limit", FLOOR + STREAMING, partial(workloads.floor_streaming, *batches), workload.frame_count)
    _both_ways(it, core, FEED, decoder_of(core, data), data)
    if with_peers:
        for name, peer in rivals(websocket_peers.DECODERS, data).items():
            _both_ways(it, "peer", name, partial(peer, text=data.text, deflate=data.deflate), data)
        if core != "py":
            _both_ways(it, "py", PURE, decoder_of("py", data), data)
    if over_floor:
        it.bars += [Bar(FEED + how, FLOOR + how, over_floor) for how in ("", STREAMING)]
    # Where payloads are kept, in fresh memory, not even the floor is so far ahead of the peers: see README.md.
    it.bars += [Bar(peer + STREAMING, FEED + STREAMING, factor, at_least=True) for peer, factor in ahead.items()]
    return it


def _both_ways(it: Contest, kind: str, name: str, maker: Callable[[], Any], data: Data) -> None:
    it.add(kind, name, partial(fresh, workloads.feed, maker, data.chunks), data.payloads)
    it.add(kind, name + STREAMING, partial(fresh, workloads.feed_streaming, maker, data.chunks), len(data.payloads))


def _floors(data: Data) -> tuple[Run, tuple[Any, list[tuple[int, int]]] | None]:
    """The limit in one piece; and what it takes to do the same chunk by chunk, if it can."""
    if data.deflate:
        return lambda: [body.decode() for body in inflated(data.bodies)], None
    floor = (limits.UnmaskedText if data.text else limits.Unmasked)(data.stream, data.offsets, data.lengths)
    return partial(floor.cut, 0, len(data.payloads)), (floor, data.batches)


def _w1a(workload: Workload, data: Data, core: str, with_peers: bool) -> Contest:
    ahead = {"picows": 4, "picows, compiled": 4, "aiohttp": 10, "websockets": 40}
    it = _decoding(workload, data, core, with_peers, 1.3, ahead)
    _parts(it, data, core)
    return it


def _w1b(workload: Workload, data: Data, core: str, with_peers: bool) -> Contest:
    it = _decoding(workload, data, core, with_peers, 1.2)
    _parts(it, data, core)
    decoder, size = decoder_of(core, data), sum(data.lengths)
    floor = limits.Unmasked(data.stream, data.offsets, data.lengths)
    it.add("limit", "floor, each dropped", floor.copy_each, size)
    window = partial(workloads.window_streaming, fill=limits.fill, stream=data.stream)
    it.add(core, "window, each dropped", lambda: window(decoder()), size)
    return it


def _parts(it: Contest, data: Data, core: str) -> None:
    decoder = decoder_of(core, data, parts=True)
    it.add(core, "parts", partial(fresh, workloads.feed, decoder, data.chunks), data.payloads, joined)


def _w1(workload: Workload, data: Data, core: str, with_peers: bool) -> Contest:
    return _decoding(workload, data, core, with_peers)


def _w2(workload: Workload, data: Data, core: str, with_peers: bool) -> Contest:
    limit = _write(data)
    it = Contest(workload, prime=limit["server"])
    for role, write in limit.items():
        it.add("limit", f"write, {role}", write, data.payloads, read)
        for name, loop in (("encode_many", encode_many), ("encode", encode_each)):
            run = partial(fresh, loop, encoder_of(core, data, role), data.payloads)
            it.add(core, f"{name}, {role}", run, data.payloads, read)
        others = rivals(websocket_peers.ENCODERS, data) if with_peers else {}
        for name, peer in others.items():
            maker = partial(peer, client=role == "client", deflate=data.deflate)
            it.add("peer", f"{name}, {role}", partial(fresh, encode, maker, data.payloads), data.payloads, read)
    return it


def _write(data: Data) -> dict[str, Run]:
    """The limits: frames written with known keys, of bytes that are there already; of zlib's, if they are deflated."""

    def size(key: bytes) -> int:
        return sum(len(header(data.first, len(body), key)) + len(body) for body in data.bodies)

    def write(size: int, keys: bytes | None) -> bytes:
        bodies = list(deflated(data.raw)) if data.deflate else data.raw
        return limits.encode_messages(bodies, size, data.first, keys)

    return {"server": partial(write, size(b""), None), "client": partial(write, size(bytes(4)), data.keys)}


MAKERS: dict[str, Callable[[Workload, Any, str, bool], Contest]] = {
    **{name: _w1 if name.startswith("W1") else _w2 for name in WORKLOADS},
    "W1a": _w1a,
    "W1b": _w1b,
}
