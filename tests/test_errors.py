"""The exceptions: a tree, fields, and texts built from them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import framewire
from framewire import FrameTooLarge, FramingError, HeaderError, IncompleteFrame, errors

MADE = [
    HeaderError("no good"),
    HeaderError("no good", 7, b"\0\1\2"),
    FrameTooLarge(11, 10),
    FrameTooLarge(None, 10, 3, b"xxxx"),
    FrameTooLarge(2**16, 10, 0, b"SSH-2"),
    IncompleteFrame("header", 3, 7, 20, b"12 "),
    IncompleteFrame("payload", 30, None, 0, b"12:"),
]


def test_the_tree_is_what_the_documentation_draws() -> None:
    assert FramingError.__bases__ == (Exception,)
    assert HeaderError.__bases__ == (FramingError,)
    assert FrameTooLarge.__bases__ == (FramingError, ValueError)
    assert IncompleteFrame.__bases__ == (FramingError, EOFError)
    public = [
        value for name, value in vars(framewire).items() if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert all(name in (errors.__doc__ or "") for name in (cls.__name__ for cls in public))


BEGINS = "in the frame at stream offset {}, which begins"
TEXTS = [
    "no good",
    rf"no good, {BEGINS.format(7)} b'\x00\x01\x02'",
    "size 11 is over the limit of 10 bytes",
    f"no delimiter within the limit of 10 bytes, {BEGINS.format(3)} b'xxxx' and looks like text",
    f"size 65536 is over the limit of 10 bytes, {BEGINS.format(0)} b'SSH-2' and looks like an SSH banner",
    f"the stream ended in the header after 3 bytes, 7 more expected, {BEGINS.format(20)} b'12 '",
    f"the stream ended in the payload after 30 bytes, {BEGINS.format(0)} b'12:'",
]


@pytest.mark.parametrize(("error", "text"), list(zip(MADE, TEXTS, strict=True)))
def test_a_text_is_built_from_the_fields(error: FramingError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize("error", MADE, ids=str)
def test_an_error_is_pickled_and_copied_with_its_fields(error: FramingError) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert vars(twin) == vars(error)
        assert str(twin) == str(error)


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"GET / HTTP/1.1\r\n", "an HTTP request"),
        (b"POST /x HTTP/1.0", "an HTTP request"),
        (b"OPTIONS * HTTP/1", "an HTTP request"),
        (b"PRI * HTTP/2.0\r\n", "an HTTP/2 connection preface"),
        (b"HTTP/1.1 400 Bad", "an HTTP response"),
        (b"\x16\x03\x01\x02\x00\x01", "a TLS hello"),
        (b"\x16\x03\x03\x00\xf8\x01", "a TLS hello"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "a TLS alert"),
        (b"SSH-2.0-OpenSSH_", "an SSH banner"),
        (b"PROXY TCP4 1.2.3", "a PROXY protocol header"),
        (b"\r\n\r\n\0\r\nQUIT\n!!!", "a PROXY protocol header"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip data"),
        (b"12:hello world!,", "a netstring"),
        (b"22        Welcom", "a decimal header padded with spaces, such as ascii10"),
        (b"        22Welcom", "a decimal header padded with spaces on the left"),
        (b"0000000022Welcom", "a decimal header padded with zeros"),
        (b"\0\0\0\x16Welcome to", "a big-endian length field of four bytes"),
        (b"\x16\0\0\0Welcome to", "a little-endian length field of four bytes"),
        (b"Welcome to the s", "text"),
        (b"Hi\r\n", "text"),
        (b"", None),
        (b"\xff\xfe\xfd\xfc", None),
        (b"abc", None),
        (b"\x16\x04\x01\x02", None),
        (b"GETTING", "text"),
    ],
)
def test_bytes_look_like_what_they_are(head: bytes, what: str | None) -> None:
    assert errors.looks_like(head) == what
    assert HeaderError("", 0, head).looks_like == what


@given(st.binary(max_size=16))
def test_any_bytes_look_like_something_or_nothing(head: bytes) -> None:
    what = errors.looks_like(head)
    assert what is None or what.isascii()
    assert str(FrameTooLarge(1, 0, 0, head)).endswith(
        f"looks like {what}" if what else repr(head) if head else "offset 0"
    )


@pytest.mark.parametrize(
    ("error", "builtin"), [(FrameTooLarge(2, 1), ValueError), (IncompleteFrame("header", 1, 2), EOFError)]
)
def test_a_caller_who_knows_only_builtins_catches_them(error: Any, builtin: type[Exception]) -> None:
    with pytest.raises(builtin):
        raise error
    with pytest.raises(FramingError):
        raise error
