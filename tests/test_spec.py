"""Wire formats as values, and by name."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import specs

from framewire import (
    DEFAULT_MAX_SIZE,
    Ascii,
    Delimited,
    FixedSize,
    LengthField,
    MultiprocessingPipe,
    Netstring,
    Spec,
    Varint,
    parse_spec,
)
from framewire.spec import UNLIMITED, resolve

NAMES = [
    ("ascii10", Ascii(10)),
    ("ascii1", Ascii(1)),
    ("ascii20", Ascii(20)),
    ("ascii8-right", Ascii(8, ">")),
    ("ascii4-zero", Ascii(4, "0")),
    ("u8", LengthField(1)),
    ("u16be", LengthField(2)),
    ("u16le", LengthField(2, "little")),
    ("u24le", LengthField(3, "little")),
    ("u32be", LengthField(4)),
    ("u64le", LengthField(8, "little")),
    ("u56be", LengthField(7)),
    ("u32be,offset=2,adjust=-4,strip=0", LengthField(4, offset=2, adjust=-4, strip=0)),
    ("u16le,adjust=-2", LengthField(2, "little", adjust=-2)),
    ("varint", Varint(64)),
    ("varint32", Varint(32)),
    ("netstring", Netstring()),
    ("lines", Delimited(b"\n")),
    ("crlf", Delimited(b"\r\n")),
    ("nul", Delimited(b"\0")),
    ("lines,keep", Delimited(b"\n", keep=True)),
    (r"delimited:\r\n|\n", Delimited(b"\r\n", b"\n")),
    (r"delimited:\x7c|\x2c|\\,keep", Delimited(b"|", b",", b"\\", keep=True)),
    (r"delimited:\xff\x80\t\0", Delimited(b"\xff\x80\t\0")),
    (r"delimited:--end--", Delimited(b"--end--")),
    (r"delimited:\x20", Delimited(b" ")),
    ("fixed:64", FixedSize(64)),
    ("multiprocessing", MultiprocessingPipe()),
]

ALIASES = [
    ("ascii10-left", Ascii(10)),
    ("varint64", Varint(64)),
    ("u8be", LengthField(1)),
    ("u8le", LengthField(1)),
    ("u32be,adjust=-4,offset=2,strip=0", LengthField(4, offset=2, adjust=-4, strip=0)),
    (r"delimited:\n", Delimited(b"\n")),
    ("u32be,strip=4", LengthField(4)),
]


@pytest.mark.parametrize(("name", "spec"), NAMES)
def test_a_name_and_its_format_are_the_same(name: str, spec: Spec) -> None:
    assert parse_spec(name) == spec
    assert spec.name == name


@pytest.mark.parametrize(("name", "spec"), ALIASES)
def test_some_formats_have_other_names_too(name: str, spec: Spec) -> None:
    assert parse_spec(name) == spec


@given(specs())
def test_every_format_has_a_name_that_leads_back_to_it(spec: Spec) -> None:
    assert parse_spec(spec.name) == spec
    assert spec.name.isascii()
    assert spec.name.isprintable()


@given(st.lists(st.binary(min_size=1, max_size=4), min_size=1, max_size=3, unique=True), st.booleans())
def test_every_delimiter_can_be_written_in_a_name(delimiters: list[bytes], keep: bool) -> None:
    spec = Delimited(*delimiters, keep=keep)
    assert parse_spec(spec.name) == spec
    assert spec.name.isascii()
    assert spec.name.isprintable()
    assert " " not in spec.name


@given(specs())
def test_a_format_is_a_value(spec: Spec) -> None:
    twin = eval(repr(spec), {cls.__name__: cls for cls in type(spec).__mro__})
    assert twin == spec
    assert hash(twin) == hash(spec)
    for copied in (copy.copy(spec), copy.deepcopy(spec), pickle.loads(pickle.dumps(spec))):
        assert copied == spec
        assert repr(copied) == repr(spec)


def test_formats_that_differ_are_not_equal() -> None:
    all_specs = [spec for _, spec in NAMES]
    assert len(set(all_specs)) == len(all_specs)
    assert len({repr(spec) for spec in all_specs}) == len(all_specs)


def test_one_format_has_one_value() -> None:
    """What says the same in other words is equal."""
    assert LengthField(1, "little") == LengthField(1, "big")
    assert LengthField(4, strip=4) == LengthField(4)
    assert LengthField(4, offset=2, strip=6) == LengthField(4, offset=2)
    assert LengthField(4, strip=0) != LengthField(4)
    assert Delimited(b"\n", keep=1) == Delimited(b"\n", keep=True)  # type: ignore[arg-type]
    assert Delimited(b"a", b"b") != Delimited(b"b", b"a")  # the first is the one that is written


@pytest.mark.parametrize("spec", [spec for _, spec in NAMES], ids=lambda spec: spec.name)
def test_a_format_is_frozen(spec: Spec) -> None:
    for field in dataclasses.fields(spec):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(spec, field.name, 5)
    assert isinstance(spec, Spec)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Ascii(0), ValueError, "width.*0"),
        (lambda: Ascii(21), ValueError, "width.*21"),
        (lambda: Ascii(-1), ValueError, "width.*-1"),
        (lambda: Ascii(10, "^"), ValueError, r"align.*'\^'"),
        (lambda: Ascii(10, None), ValueError, "align.*None"),
        (lambda: Ascii("10"), TypeError, "width.*str"),
        (lambda: Ascii(10.0), TypeError, "width.*float"),
        (lambda: Ascii(True), TypeError, "width.*bool"),
        (lambda: LengthField(0), ValueError, "width.*0"),
        (lambda: LengthField(9), ValueError, "width.*9"),
        (lambda: LengthField(2, "middle"), ValueError, "byteorder.*'middle'"),
        (lambda: LengthField(2, "="), ValueError, "byteorder"),
        (lambda: LengthField(2, offset=-1), ValueError, "offset.*-1"),
        (lambda: LengthField(2, offset=65_536), ValueError, "offset.*65536"),
        (lambda: LengthField(1, adjust=-256), ValueError, "adjust.*-256"),
        (lambda: LengthField(8, adjust=-(2**64)), ValueError, "adjust.*-18446744073709551616"),
        (lambda: LengthField(8, adjust=2**63), ValueError, "adjust.*9223372036854775808"),
        (lambda: LengthField(2, strip=-1), ValueError, "strip.*-1"),
        (lambda: LengthField(2, strip=65_536), ValueError, "strip.*65536"),
        (lambda: LengthField(2, adjust=1.0), TypeError, "adjust.*float"),
        (lambda: LengthField(None), TypeError, "width.*NoneType"),
        (lambda: Varint(16), ValueError, "bits.*16"),
        (lambda: Varint("64"), ValueError, "bits.*'64'"),
        (lambda: Delimited(), ValueError, "at least one"),
        (lambda: Delimited(b""), ValueError, "not 0"),
        (lambda: Delimited(b"x" * 256), ValueError, "not 256"),
        (lambda: Delimited(b"\n", b"\n"), ValueError, "twice"),
        (lambda: Delimited("\n"), TypeError, "str"),
        (lambda: Delimited(bytearray(b"\n")), TypeError, "bytearray"),
        (lambda: FixedSize(0), ValueError, "size.*0"),
        (lambda: FixedSize(-5), ValueError, "size.*-5"),
        (lambda: FixedSize(2**63), ValueError, "size.*9223372036854775808"),
        (lambda: FixedSize("5"), TypeError, "size.*str"),
    ],
)
def test_an_impossible_format_dies_when_it_is_made_with_the_value_in_its_text(
    make: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        make()


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "ascii",
            "ascii10-up",
            "ascii\u0661\u0660",
            "ascii 10",
            "ASCII10",
            "u32",
            "u16",
            "u12be",
            "u72be",
            "u32be,",
        ),
        *("u32be,keep", "u32be,offset", "u32be,offset=x", "u32be,offset=+1", "u32be,offset=1,offset=1", "u32be,size=5"),
        *("varint16", "varint,keep", "netstring,", "line", "lines,keep,keep", "lines,drop", "fixed:", "fixed:-1"),
        *("fixed:\u0663", "fixed:" + "9" * 30, "delimited:\\", r"delimited:\q", r"delimited:\x1", "delimited:€"),
        "multiprocessing ",
    ],
)
def test_a_name_that_is_none_is_a_value_error_that_repeats_it(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        parse_spec(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ascii0", "width must be from 1 to 20, not 0"),
        ("ascii21", "width must be from 1 to 20, not 21"),
        ("u8,adjust=-256", "adjust must be from -255 .* not -256"),
        ("u16be,offset=-1", "offset must be from 0 .* not -1"),
        ("fixed:0", "size must be from 1 .* not 0"),
        ("delimited:", "1 to 255 bytes, not 0"),
        ("delimited:a|", "1 to 255 bytes, not 0"),
        ("delimited:a|a", "twice"),
    ],
)
def test_a_name_with_an_impossible_value_is_refused_as_that_value(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_spec(name)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'nonsense'.*ascii10.*u16be.*varint.*netstring.*multiprocessing"):
        parse_spec("nonsense")


@pytest.mark.parametrize(
    ("spec", "largest"),
    [
        (Ascii(1), 9),
        (Ascii(10), 10**10 - 1),
        (Ascii(20), UNLIMITED),
        (LengthField(1), 255),
        (LengthField(1, adjust=-255), 0),
        (LengthField(2, adjust=10), 65_545),
        (LengthField(8), UNLIMITED),
        (LengthField(8, adjust=1 - 2**64), 0),
        (Varint(32), 2**32 - 1),
        (Varint(64), UNLIMITED),
        (Netstring(), UNLIMITED),
        (Delimited(b"\n"), UNLIMITED),
        (FixedSize(5), 5),
        (MultiprocessingPipe(), UNLIMITED),
    ],
    ids=repr,
)
def test_the_largest_size_that_a_format_can_announce(spec: Spec, largest: int) -> None:
    assert spec.largest() == min(largest, UNLIMITED)


def test_no_limit_leaves_room_for_a_header_without_a_wrap() -> None:
    assert resolve("u8", None) == (LengthField(1), UNLIMITED)
    assert resolve("u8", sys.maxsize)[1] == UNLIMITED
    assert sys.maxsize > UNLIMITED + 2**17
    assert DEFAULT_MAX_SIZE == 16 * 1024 * 1024


@pytest.mark.parametrize(
    ("spec", "max_size", "says"),
    [
        (FixedSize(10), 9, "max_size=9"),
        (LengthField(1, adjust=10), 9, "adjust=10"),
        (LengthField(1, strip=20), 9, "strip=20"),
        (LengthField(1, adjust=-200, strip=60), None, "strip=60"),
        (Ascii(5), -1, "max_size.*-1"),
        (Ascii(5), sys.maxsize + 1, "max_size"),
    ],
    ids=repr,
)
def test_a_limit_that_no_frame_could_pass_is_refused(spec: Spec, max_size: int | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        resolve(spec, max_size)


@pytest.mark.parametrize("spec", [None, 5, b"u8", Ascii, object()], ids=repr)
def test_what_is_no_format_is_a_type_error(spec: Any) -> None:
    with pytest.raises(TypeError, match="wire format"):
        resolve(spec, 5)


def test_the_table_of_names_in_the_documentation_is_right() -> None:
    """Each name in it parses; the ranges are tried at both ends."""
    from framewire import spec as module

    assert module.__doc__ is not None
    table = module.__doc__.partition("::\n\n")[2].splitlines()
    names = [
        word for line in table if line.startswith("    ") for word in line.split("    ")[1].split() if word != "..."
    ]
    assert len(names) >= 17
    for name in names:
        assert isinstance(parse_spec(name.replace("fixed:N", "fixed:5")), Spec)
