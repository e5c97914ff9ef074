"""Packs a wheel tighter: the same files in the same order, a twenty-fifth smaller to fetch.

The archive stays what every installer reads, deflated; zopfli only looks longer for the shortest way to say it.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from unittest import mock

EFFORT = 15
"""Zopfli's rounds: more find next to nothing."""


class Zopfli:
    """What zipfile expects of a compressor, for raw deflate."""

    def __init__(self, *_: object) -> None:
        self.data = bytearray()

    def compress(self, data: bytes) -> bytes:
        self.data += data
        return b""

    def flush(self) -> bytes:
        import zopfli.zlib

        made: bytes = zopfli.zlib.compress(bytes(self.data), numiterations=EFFORT)
        return made[2:-4]  # without zlib's header and checksum (RFC 1950, section 2.2)


def pack(wheel: Path) -> Path:
    """Pack the wheel anew where it lies; its path again.

    Folders have no entries of their own: a wheel needs none.
    """
    packed = wheel.with_suffix(".packed")
    with (
        mock.patch("zipfile._get_compressor", Zopfli),  # it has no place to name one's own
        zipfile.ZipFile(wheel) as source,
        zipfile.ZipFile(packed, "w") as target,
    ):
        for info in source.infolist():
            if not info.is_dir():
                info.compress_type = zipfile.ZIP_DEFLATED
                target.writestr(info, source.read(info))
    return packed.replace(wheel)
