"""The shortest proof that a compiled core works: both cores to the same bytes and back. Needs nothing but framewire.

python smoke.py [FOLDER]      FOLDER: where framewire lies unpacked, if it is not installed
"""

from __future__ import annotations

import importlib
import platform
import sys

sys.path[:0] = sys.argv[1:2]

FORMATS = [
    *(f"u{bits}{order}" for bits in (16, 24, 32, 40, 48, 56, 64) for order in ("be", "le")),
    *("u8", "varint", "varint32", "netstring", "ascii10", "lines", "crlf", "nul", "multiprocessing"),
]
SIZES = [*range(70), 127, 128, 255]
KEY = b"7\xfa!="


def main() -> None:
    import framewire
    from framewire import _core_py, _websocket_py

    core = importlib.import_module("framewire._core_c")
    assert framewire.CORE == "c", framewire.CORE_ERROR
    payloads = [bytes(65 + (size + i) % 26 for i in range(size)) for size in SIZES]
    for name in FORMATS:
        fast, plain = core.Encoder(name), _core_py.Encoder(name)
        stream = b"".join(map(plain.encode, payloads))
        assert fast.encode_many(payloads) == stream, name
        whole = core.Decoder(name).feed(stream)
        decoder = core.Decoder(name)
        assert whole == [frame for byte in stream for frame in decoder.feed(bytes([byte]))], name
        assert whole == payloads, name
        assert whole == _core_py.Decoder(name).feed(stream), name
    for payload in payloads:
        for offset in range(4):
            assert core.mask(payload, KEY, offset) == _websocket_py.mask(payload, KEY, offset), (payload, offset)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    print(
        f"framewire {framewire.__version__}, compiled core, {python}, {platform.machine()}, {sys.byteorder}-endian: ok"
    )


main()
