"""A protocol of your own: a header of 4 bytes, in which a kind and flags stand before the length.

::

    kind  flags  length (2 bytes, of the whole frame)  body
    01    00     00 09                                 h e l l o

    python examples/custom_protocol.py
"""

import struct

import framewire

HEADER = struct.Struct(">BBH")
# The length stands at offset 2 and counts the header too; strip=0 leaves the header in what the decoder gives.
SPEC = framewire.LengthField(2, offset=2, adjust=-HEADER.size, strip=0)


def pack(kind: int, flags: int, body: bytes) -> bytes:
    return HEADER.pack(kind, flags, HEADER.size + len(body)) + body


def unpack(frame: bytes) -> tuple[int, int, bytes]:
    kind, flags, _ = HEADER.unpack_from(frame)
    return kind, flags, frame[HEADER.size :]


def main() -> None:
    stream = pack(1, 0, b"hello") + pack(2, 0x80, b"") + pack(1, 0, b"world")
    decoder = framewire.Decoder(SPEC, max_size=1000)
    for at in range(0, len(stream), 5):  # any chunks will do
        for frame in decoder.feed(stream[at : at + 5]):
            print("kind {} flags {:#04x} body {!r}".format(*unpack(frame)))
    decoder.feed_eof()  # raises IncompleteFrame, had the stream ended inside a frame


if __name__ == "__main__":
    main()
