"""The peak of memory on D4, on a core given by name: the frame and one read. Run by report.py in a process of its own.

Two looks at it: what Python's allocators gave out (tracemalloc, every platform), and what the process held (the high
water mark of its resident memory, reset before the run; Linux).
"""

from __future__ import annotations

import gc
import json
import re
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import limits
from rivals import load_core
from workloads import HEADERS, READ_SIZE, WORKLOADS, window_streaming

FRAME_COUNT = 8
SLACK = 64 * 1024
"""For what is neither: the interpreter's small objects, the allocator's rounding."""


def resident(key: str) -> int:
    """A line of ``/proc/self/status``, in bytes."""
    match = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) * 1024


def main(core: str) -> list[dict[str, Any]]:
    workload = WORKLOADS["D4"]
    module = load_core(core)
    # Repeated and not joined: making it leaves no free memory behind that would hide what the run takes.
    stream = (HEADERS[workload.spec](workload.payload_size) + b"\x01" * workload.payload_size) * FRAME_COUNT

    def run(part: bytes) -> None:
        window_streaming(module.Decoder(workload.spec), limits.fill, part)

    run(HEADERS[workload.spec](5) + b"hello")
    bar = workload.payload_size + READ_SIZE + SLACK
    rows = []
    if Path("/proc/self/clear_refs").exists():
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the high water mark begins anew
        before = resident("VmRSS")
        run(stream)
        rows.append({"name": "peak of resident memory", "peak": resident("VmHWM") - before, "bar": bar})
    gc.collect()
    tracemalloc.start()
    run(stream)
    rows.append({"name": "peak of memory given out", "peak": tracemalloc.get_traced_memory()[1], "bar": bar})
    return rows


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
