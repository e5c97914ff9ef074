"""Ways to give a stream to a decoder, and what came of it in a form that can be compared."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import pytest

from framewire import FrameTooLarge, FramingError, HeaderError, IncompleteFrame

Give = Callable[[Any, bytes], "list[bytes]"]

needs_sizes = pytest.mark.skipif(sys.implementation.name == "pypy", reason="PyPy does not tell the sizes of objects")

ERRORS = (HeaderError, FrameTooLarge, IncompleteFrame)


def size_of(thing: object) -> int:
    """Bytes of memory, as the object itself tells; 0 on PyPy, where none does."""
    return sys.getsizeof(thing, 0)


class Outcome(NamedTuple):
    """What a stream came to. `error` leaves out the head, which is shorter where fewer bytes had come."""

    payloads: list[bytes]
    error: tuple[Any, ...] | None
    buffered_size: int


def fields(error: Exception | None) -> tuple[Any, ...] | None:
    """The type and the fields of an error, its head apart."""
    if error is None:
        return None
    if not isinstance(error, FramingError):
        return (type(error),)
    names = ("offset", "size", "limit", "reason", "part", "received", "missing")
    return (type(error), *((name, getattr(error, name)) for name in names if hasattr(error, name)))


def by_feed(decoder: Any, chunk: bytes) -> list[bytes]:
    return decoder.feed(chunk)


def by_spans(decoder: Any, chunk: bytes) -> list[bytes]:
    return decoder.feed_spans(chunk).tolist()


def by_windows(hint: int = -1) -> Give:
    """Give each chunk through as many windows as it takes."""

    def give(decoder: Any, chunk: bytes) -> list[bytes]:
        if decoder.error is not None:
            decoder.get_buffer(hint)  # raises it
        payloads: list[bytes] = []
        at = 0
        while at < len(chunk) and decoder.error is None:
            window = decoder.get_buffer(hint)
            n = min(len(window), len(chunk) - at)
            assert n > 0
            window[:n] = chunk[at : at + n]
            at += n
            try:
                payloads += decoder.buffer_updated(n)
            except FramingError:
                if not payloads:
                    raise
        return payloads

    return give


WAYS = {"feed": by_feed, "spans": by_spans, "window": by_windows(), "windows of 3": by_windows(3)}


def run(decoder: Any, chunks: Iterable[bytes], give: Give = by_feed, *, eof: bool = False) -> Outcome:
    """Give the chunks to the decoder until it fails, and check on the way what holds for every stream."""
    payloads: list[bytes] = []
    try:
        for chunk in chunks:
            given = give(decoder, chunk)
            assert all(type(payload) is bytes for payload in given)
            payloads += given
            if decoder.error is not None:
                break
        else:
            if eof:
                payloads += decoder.feed_eof()
    except ERRORS as error:
        raised = error
    else:
        raised = decoder.error
    assert raised is decoder.error
    if decoder.error is not None:
        assert decoder.buffered_size == decoder.needed_size == 0
        for call in (lambda: decoder.feed(b"1"), decoder.get_buffer, lambda: decoder.feed_spans(b""), decoder.feed_eof):
            with pytest.raises(type(decoder.error)) as again:
                call()
            assert again.value is decoder.error
    return Outcome(payloads, fields(decoder.error), decoder.buffered_size)


def split(stream: bytes, size: int) -> list[bytes]:
    return [stream[i : i + size] for i in range(0, len(stream), size)]


def two_way_splits(stream: bytes) -> Iterator[tuple[bytes, bytes]]:
    return ((stream[:i], stream[i:]) for i in range(len(stream) + 1))
