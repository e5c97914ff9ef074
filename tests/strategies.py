"""Any wire format, payloads for it, streams that look like it, and any chunking."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st
from vectors import announce, frame

from framewire import (
    Ascii,
    Delimited,
    FixedSize,
    LengthField,
    MultiprocessingPipe,
    Netstring,
    Spec,
    Varint,
)

MAX_SIZE = 300
"""The limit that most random tests use: small enough to be met often."""

ALPHABETS = [b"0123456789", b"0123456789 +-_:,\t", b"\0\1\2\3\x7f\x80\xff", b"ab", b"ab\r\n", bytes(range(256))]


def from_alphabet(alphabet: bytes, max_size: int = 24) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(alphabet), max_size=max_size).map(bytes)


@st.composite
def length_fields(draw: st.DrawFn, *, writable: bool = False) -> LengthField:
    width = draw(st.integers(1, 8))
    offset = draw(st.integers(0, 5) | st.just(0))
    adjust = draw(st.integers(-6, 6) | st.just(0))
    strip = None if writable else draw(st.none() | st.integers(0, offset + width + 6))
    byteorder = draw(st.sampled_from(["big", "little"]))
    return LengthField(width, byteorder, offset=offset, adjust=adjust, strip=strip)


DELIMITERS = st.lists(st.sampled_from(b"ab\r\n"), min_size=1, max_size=4).map(bytes)


@st.composite
def delimited(draw: st.DrawFn, *, writable: bool = False) -> Delimited:
    delimiters = draw(st.lists(DELIMITERS, min_size=1, max_size=3, unique=True))
    keep = draw(st.booleans())
    if writable and not keep:
        # The first must not begin another.
        delimiters.sort(key=len, reverse=True)
    return Delimited(*delimiters, keep=keep)


def specs(*, writable: bool = False) -> st.SearchStrategy[Spec]:
    """Every format; with `writable`, only what an Encoder accepts."""
    return st.one_of(
        st.builds(Ascii, st.integers(1, 20), st.sampled_from(["<", ">", "0"])),
        length_fields(writable=writable),
        st.builds(Varint, st.sampled_from([32, 64])),
        st.just(Netstring()),
        delimited(writable=writable),
        st.builds(FixedSize, st.integers(1, 20)),
        st.just(MultiprocessingPipe()),
    )


def payloads_of(spec: Spec) -> st.SearchStrategy[bytes]:
    """Payloads, most of which the format can carry."""
    if isinstance(spec, FixedSize):
        return st.binary(min_size=spec.size, max_size=spec.size)
    if isinstance(spec, Delimited):
        body = from_alphabet(b"ab\r\nx", 8)
        return st.builds(bytes.__add__, body, st.sampled_from(spec.delimiters)) if spec.keep else body
    smallest = spec.adjust if isinstance(spec, LengthField) and spec.adjust > 0 else 0
    largest = min(spec.largest(), MAX_SIZE)
    return st.one_of(
        st.binary(min_size=min(smallest, largest), max_size=min(largest, smallest + 20)),
        # Around the sizes where a length takes another digit or byte.
        st.sampled_from([9, 10, 99, 100, 127, 128, 255, 256, MAX_SIZE])
        .filter(lambda size: smallest <= size <= largest)
        .map(lambda size: bytes(i & 0xFF for i in range(size)))
        if largest >= 9
        else st.just(bytes(largest)),
    )


EDGES = sorted(
    {0, 1, 2, 9, 10, 99, 100, 10**9, 10**10, 10**19, 10**20 - 1}
    | {MAX_SIZE + i for i in range(-4, 5)}
    | {2**bits + i for bits in (7, 8, 15, 16, 24, 31, 32, 62, 63, 64) for i in (-1, 0, 1)}
)


@st.composite
def likely(draw: st.DrawFn, spec: Spec) -> bytes:
    """A piece of a stream that takes a decoder of this format somewhere: a frame, a header, or noise."""
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return draw(from_alphabet(draw(st.sampled_from(ALPHABETS))))
    if kind == 1 and not isinstance(spec, (Delimited, FixedSize)):
        try:
            return announce(spec, draw(st.sampled_from(EDGES))) + draw(st.binary(max_size=4))
        except OverflowError:  # more than the field can say
            return b""
    if kind == 2 and isinstance(spec, Delimited):
        return draw(st.sampled_from(spec.delimiters))
    payload = draw(payloads_of(spec))
    try:
        whole = frame(spec, payload)
    except OverflowError:
        return payload
    if kind == 3:
        cut = draw(st.integers(0, len(whole)))
        return whole[:cut] + draw(st.binary(max_size=2)) + whole[cut:]
    return whole


def streams(spec: Spec) -> st.SearchStrategy[bytes]:
    """Arbitrary bytes that lean towards this format."""
    return st.lists(likely(spec), max_size=8).map(b"".join)


@st.composite
def chunkings(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """The stream cut at any places."""
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    edges = [0, *cuts, len(stream)]
    return [stream[start:stop] for start, stop in pairwise(edges)]
