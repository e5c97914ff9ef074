"""Encode: payloads become a stream, about a chunk of it at a time.

Each rival has a function from a list of payloads to the bytes that a socket would be given.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeAlias

from .contest import FLOOR, Contest, Run, Take
from .libraries import cores, library
from .workloads import Workload, ascii10, batched, frames, msgpack_bin, u32be

Encode: TypeAlias = Callable[[list[bytes]], bytes]

PACK = struct.Struct(">I").pack
LARGE = 8 * 1024
"""Bytes of a payload beside which a part in a join costs nothing."""


def encoding(workload: Workload) -> Contest:
    """Who encodes, on this workload."""
    batches = batched(workload.payloads())
    it = Contest(workload)

    def add(name: str, encode: Encode, header: Callable[[int], bytes] = u32be) -> None:
        it.add(name, encode_each(encode, batches), [frames(header, batch) for batch in batches])

    it.add(FLOOR, join_known(batches), [frames(u32be, batch) for batch in batches])
    for name, (_, encoder) in cores().items():
        add(name, encoder("u32be").encode_many)
    add("tutorial's loop", tutorial, ascii10)
    add("struct and slices", struct_and_join)
    if library("Twisted"):
        add("Twisted", twisted())
    if library("msgpack"):
        add("msgpack", msgpack(), msgpack_bin)
    return it


def encode_each(encode: Encode, batches: list[list[bytes]]) -> Run:
    def run(take: Take) -> None:
        for batch in batches:
            take([encode(batch)])

    return run


def join_known(batches: list[list[bytes]]) -> Run:
    """The floor: one ``join`` in C for each batch, of parts that are there already and as few as can be."""
    known = [parts_of(batch) for batch in batches]

    def run(take: Take) -> None:
        for parts in known:
            take([b"".join(parts)])

    return run


def parts_of(batch: list[bytes]) -> list[bytes]:
    """Small payloads: the ready stream, in two parts, since a join of one part makes no copy. Large ones: headers and
    payloads, so that the payloads are read from where all others read them, whatever of that the caches hold."""
    if len(batch[0]) < LARGE:
        stream = frames(u32be, batch)
        return [stream[:1], stream[1:]]
    return [part for payload in batch for part in (u32be(len(payload)), payload)]


def tutorial(payloads: list[bytes]) -> bytes:
    return b"".join([bytes(f"{len(payload):<10}", "utf-8") + payload for payload in payloads])


def struct_and_join(payloads: list[bytes]) -> bytes:
    pack = PACK
    return b"".join([pack(len(payload)) + payload for payload in payloads])


def twisted() -> Encode:
    """``sendString``, on a transport that keeps what is written."""
    sender = library("Twisted").Int32StringReceiver()
    written: list[bytes] = []

    class Transport:
        write = staticmethod(written.append)

    sender.transport = Transport

    def encode(payloads: list[bytes]) -> bytes:
        for payload in payloads:
            sender.sendString(payload)
        data = b"".join(written)
        written.clear()
        return data

    return encode


def msgpack() -> Encode:
    """``pack`` with ``autoreset`` off: into the packer's own buffer, which is its fastest way."""
    packer = library("msgpack").Packer(autoreset=False)

    def encode(payloads: list[bytes]) -> bytes:
        pack = packer.pack
        for payload in payloads:
            pack(payload)
        data: bytes = packer.bytes()
        packer.reset()
        return data

    return encode
