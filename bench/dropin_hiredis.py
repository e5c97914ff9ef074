"""Measures `framewire.dropin.hiredis.Reader` beside hiredis's own on the same payloads, each in its own framing.

python bench/dropin_hiredis.py [--rounds N]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import hiredis

import framewire
from framewire.dropin.hiredis import NOT_ENOUGH_DATA, Reader

CHUNK_SIZE = 64 * 1024
SIZES = {32: 100_000, 1024: 20_000}


def chunks(stream: bytes) -> list[bytes]:
    return [stream[at : at + CHUNK_SIZE] for at in range(0, len(stream), CHUNK_SIZE)]


def read(make: Callable[[], Any], sentinel: object, stream: list[bytes]) -> list[bytes]:
    reader, payloads = make(), []
    for chunk in stream:
        reader.feed(chunk)
        while (payload := reader.gets()) is not sentinel:
            payloads.append(payload)
    return payloads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print(f"core {framewire.CORE}, hiredis {hiredis.__version__}; ns a message, medians of {rounds} rounds")
    for size, count in SIZES.items():
        payloads = [i.to_bytes(4, "big") * (size // 4) for i in range(count)]
        readers: dict[str, tuple[Callable[[], Any], object, list[bytes]]] = {
            "hiredis": (hiredis.Reader, False, chunks(b"".join(b"$%d\r\n%b\r\n" % (size, one) for one in payloads))),
            "framewire": (
                lambda: Reader("u32be"),
                NOT_ENOUGH_DATA,
                chunks(framewire.Encoder("u32be").encode_many(payloads)),
            ),
        }
        times: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(rounds):
            for name, reader in readers.items():
                started = perf_counter()
                received = read(*reader)
                times[name].append((perf_counter() - started) / count * 1e9)
                assert received == payloads, name
        host, ours = (median(times[name]) for name in ("hiredis", "framewire"))
        print(f"{size:>5} B in 64 KiB   hiredis {host:6.0f}   framewire {ours:6.0f}   {host / ours:.2f} x")


if __name__ == "__main__":
    main()
