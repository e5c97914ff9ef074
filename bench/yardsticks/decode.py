"""framewire: decodes a stream of frames, u32be, chunk by chunk.

    decode.py STREAM CHUNK_SIZE dropped|kept|spans WARMUP PASSES       see README.md

`feed` copies once: from the chunk into a `bytes` for each payload. `feed_spans` copies nothing and makes no object: its
offsets and lengths point into the chunk.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter_ns
from typing import Any
from zlib import adler32

sys.path.append(str(Path(__file__).parent.parent))

import workloads

import framewire

LOOPS = {"dropped": workloads.feed_streaming, "kept": workloads.feed, "spans": workloads.feed_spans}


def payloads(chunks: list[bytes], mode: str) -> Iterable[bytes]:
    decoder = framewire.Decoder("u32be")
    for chunk in chunks:
        yield from decoder.feed_spans(chunk).tolist() if mode == "spans" else decoder.feed(chunk)


def check(chunks: list[bytes], mode: str) -> dict[str, Any]:
    """How many payloads there are, and the checksum of the frames that they were."""
    count, checksum = 0, 1
    for payload in payloads(chunks, mode):
        count += 1
        checksum = adler32(payload, adler32(len(payload).to_bytes(4, "big"), checksum))
    return {"count": count, "adler32": checksum}


def timed(chunks: list[bytes], mode: str) -> int:
    """Nanoseconds of one pass; what it takes to free the result is not among them."""
    decoder = framewire.Decoder("u32be")
    start = perf_counter_ns()
    result = LOOPS[mode](decoder, chunks)
    stop = perf_counter_ns()
    del result
    return stop - start


def main() -> None:
    path, chunk_size, mode, warmup, passes = sys.argv[1:]
    chunks = workloads.cut(Path(path).read_bytes(), int(chunk_size))
    report = check(chunks, mode)
    for _ in range(int(warmup)):
        timed(chunks, mode)
    report["ns"] = [timed(chunks, mode) for _ in range(int(passes))]
    print(json.dumps(report))


if __name__ == "__main__":
    main()
