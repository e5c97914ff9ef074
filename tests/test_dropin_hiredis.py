"""The reader with the interface of hiredis-py's: what it gives, and that it refuses what the real one refuses."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import MAX_SIZE, chunkings, specs, streams

from framewire import FrameTooLarge, FramingError, HeaderError
from framewire.dropin import hiredis as dropin
from framewire.dropin.hiredis import NOT_ENOUGH_DATA, Reader


@pytest.fixture(scope="module", autouse=True)
def core_in_use(core: ModuleType) -> Iterator[None]:
    before, dropin.Decoder = dropin.Decoder, core.Decoder
    yield
    dropin.Decoder = before


def drain(reader: Reader) -> list[Any]:
    """Every payload, and the error at last if there is one."""
    payloads = []
    while True:
        try:
            payload = reader.gets()
        except FramingError as error:
            return [*payloads, (type(error), error.offset)]
        if payload is NOT_ENOUGH_DATA:
            return payloads
        payloads.append(payload)


@given(st.data())
def test_it_gives_what_a_decoder_gives_for_any_chunks(data: st.DataObject) -> None:
    spec = data.draw(specs())
    try:
        decoder = dropin.Decoder(spec, max_size=MAX_SIZE)
    except ValueError:
        return
    stream = data.draw(streams(spec))
    expected: list[Any] = []
    try:
        expected += decoder.feed(stream)
        decoder.feed(b"")
    except FramingError as error:
        expected.append((type(error), error.offset))
    reader = Reader(spec, max_size=MAX_SIZE)
    seen: list[Any] = []
    for chunk in data.draw(chunkings(stream)):
        reader.feed(b"<" + chunk + b">", 1, len(chunk))
        if data.draw(st.booleans()):
            seen += drain(reader)
    seen += drain(reader)
    assert [one for i, one in enumerate(seen) if type(one) is bytes or one not in seen[:i]] == expected


def test_an_empty_payload_is_not_taken_for_none_there() -> None:
    reader = Reader("u8")
    reader.feed(b"\0\1x")
    assert [reader.gets(), reader.gets()] == [b"", b"x"]
    assert reader.gets() is NOT_ENOUGH_DATA
    with pytest.raises(TypeError, match="compare with `is`"):
        bool(reader.gets())
    assert copy.deepcopy(NOT_ENOUGH_DATA) is pickle.loads(pickle.dumps(NOT_ENOUGH_DATA)) is NOT_ENOUGH_DATA
    assert repr(NOT_ENOUGH_DATA) == "NOT_ENOUGH_DATA"


@pytest.mark.parametrize("sentinel", [False, None, object(), b""])
def test_the_callers_own_sentinel_comes_back(sentinel: Any) -> None:
    assert Reader(notEnoughData=sentinel).gets() is sentinel


def test_offset_and_length_save_a_slice() -> None:
    reader = Reader("u8")
    reader.feed(bytearray(b"....\5hel"), 4)
    reader.feed(memoryview(b"..lo\1x...."), 2, 3)
    reader.feed("x")  # text is UTF-8
    reader.feed(b"abc", 3)
    reader.feed(b"abc", 0, 0)
    assert [reader.gets(), reader.gets()] == [b"hello", b"x"]
    assert not reader.has_data()


def test_has_data_and_len_count_what_was_not_returned() -> None:
    reader = Reader("u8")
    assert (reader.has_data(), reader.len()) == (False, 0)
    reader.feed(b"\5hel")
    assert (reader.has_data(), reader.len()) == (True, 4)
    assert reader.gets() is NOT_ENOUGH_DATA
    reader.feed(b"lo\2ok\7")
    assert (reader.has_data(), reader.len()) == (True, 5 + 2 + 1)
    assert repr(reader) == "<Reader of LengthField(width=1, byteorder='big', offset=0, adjust=0, strip=None), 8 bytes>"
    reader.gets()
    assert (reader.has_data(), reader.len()) == (True, 3)
    reader.gets()
    assert (reader.has_data(), reader.len()) == (True, 1)


def test_text_comes_in_the_encoding_and_can_be_asked_for_as_bytes() -> None:
    reader = Reader("u8", encoding="utf-8")
    reader.feed(b"\2\xc3\xa9" * 3 + b"\1\xff\2ok\1\xff\1\xff")
    assert reader.gets() == "\xe9"
    assert reader.gets(False) == "\xe9".encode()
    reader.set_encoding("latin-1")
    assert reader.gets() == "\xc3\xa9"
    reader.set_encoding("utf-8")
    with pytest.raises(UnicodeDecodeError):
        reader.gets()
    assert reader.gets() == "ok"
    reader.set_encoding("utf-8", "replace")
    assert reader.gets() == "\ufffd"
    reader.set_encoding()
    assert reader.gets() == b"\xff"


def test_an_error_waits_its_turn_and_poisons_the_reader() -> None:
    reader = Reader("ascii10")
    reader.feed(b"3         oneGET / HTTP/1.1\r\n")
    assert reader.gets() == b"one"
    errors = []
    for _ in range(3):
        with pytest.raises(HeaderError, match="an HTTP request") as caught:
            reader.gets()
        errors.append(caught.value)
        reader.feed(b"3         two" * 1000)
        assert (reader.has_data(), reader.len()) == (False, 0)
    assert errors[0] is errors[1] is errors[2]
    with pytest.raises(ValueError, match="negative input"):
        reader.feed(b"abc", -1)


def test_the_callers_own_error_class_is_raised_with_ours_as_its_cause() -> None:
    class InvalidResponse(Exception):
        pass

    reader = Reader("u32be", protocolError=InvalidResponse, replyError=InvalidResponse, max_size=10)
    reader.feed(b"\0\0\0\x0b")
    errors = []
    for _ in range(2):
        with pytest.raises(InvalidResponse, match="size 11 is over the limit of 10 bytes") as caught:
            reader.gets()
        assert isinstance(caught.value.__cause__, FrameTooLarge)
        errors.append(caught.value)
    assert errors[0] is errors[1]
    reader = Reader("u32be", protocolError=lambda text: 3, max_size=10)  # type: ignore[arg-type, return-value]
    reader.feed(b"\0\0\0\x0b")
    with pytest.raises(TypeError, match="made no exception: int"):
        reader.gets()


def test_the_idle_memory_is_a_number_without_effect() -> None:
    reader = Reader("u32be")
    assert reader.getmaxbuf() == 16384
    reader.setmaxbuf(1)
    assert reader.getmaxbuf() == 1
    reader.feed((100_000).to_bytes(4, "big") + bytes(100_000))
    assert reader.gets() == bytes(100_000)
    reader.setmaxbuf(None)
    assert reader.getmaxbuf() == 16384


def test_a_parser_as_redis_py_writes_them_runs_unchanged() -> None:
    class InvalidResponse(Exception):
        pass

    class Parser:
        not_enough = object()

        def __init__(self, reads: list[bytes]) -> None:
            self.reads = reads
            self.buffer = bytearray(64)
            self.reader = Reader(
                protocolError=InvalidResponse, replyError=Exception, encoding="utf-8", errors="strict",
                notEnoughData=self.not_enough,
            )  # fmt: skip

        def read_response(self, decode: bool) -> Any:
            response = self.reader.gets() if decode else self.reader.gets(False)
            while response is self.not_enough:
                chunk = self.reads.pop(0)
                self.buffer[: len(chunk)] = chunk
                self.reader.feed(self.buffer, 0, len(chunk))
                response = self.reader.gets() if decode else self.reader.gets(False)
            return response

    parser = Parser([b"\0\0\0\5he", b"llo\0\0\0\0\0\0", b"\0\2ok\xff\xff\xff\xff"])
    assert [parser.read_response(True), parser.read_response(False), parser.read_response(True)] == ["hello", b"", "ok"]
    with pytest.raises(InvalidResponse):
        parser.read_response(True)


CALLS: dict[str, Callable[[Any], Any]] = {
    "feed(int)": lambda reader: reader.feed(1),
    "feed(None)": lambda reader: reader.feed(None),
    "feed()": lambda reader: reader.feed(),
    "feed by name": lambda reader: reader.feed(buf=b""),
    "feed text": lambda reader: reader.feed("\xe9"),
    "feed a lone surrogate": lambda reader: reader.feed("\udc80"),
    "feed strided": lambda reader: reader.feed(memoryview(b"abcd")[::2]),
    "too many": lambda reader: reader.feed(b"abc", 0, 2, 3),
    "offset beyond": lambda reader: reader.feed(b"abc", 4),
    "offset at the end": lambda reader: reader.feed(b"abc", 3),
    "nothing at the end": lambda reader: reader.feed(b"abc", 3, 0),
    "offset negative": lambda reader: reader.feed(b"abc", -1),
    "length beyond": lambda reader: reader.feed(b"abc", 0, 9),
    "length beyond the rest": lambda reader: reader.feed(b"abc", 1, 3),
    "length -1": lambda reader: reader.feed(b"", 0, -1),
    "length negative": lambda reader: reader.feed(b"abc", 0, -2),
    "offset text": lambda reader: reader.feed(b"abc", "x"),
    "offset float": lambda reader: reader.feed(b"abc", 1.5),
    "length float": lambda reader: reader.feed(b"abc", 0, 1.5),
    "gets too many": lambda reader: reader.gets(1, 2),
    "gets by name": lambda reader: reader.gets(shouldDecode=False),
    "setmaxbuf negative": lambda reader: reader.setmaxbuf(-1),
    "setmaxbuf text": lambda reader: reader.setmaxbuf("x"),
    "setmaxbuf float": lambda reader: reader.setmaxbuf(1.5),
    "setmaxbuf None": lambda reader: (reader.setmaxbuf(None), reader.getmaxbuf()),
    "setmaxbuf 0": lambda reader: (reader.setmaxbuf(0), reader.getmaxbuf()),
    "setmaxbuf()": lambda reader: reader.setmaxbuf(),
    "set_encoding unknown": lambda reader: reader.set_encoding("nope"),
    "set_encoding errors unknown": lambda reader: reader.set_encoding(errors="nope"),
    "set_encoding int": lambda reader: reader.set_encoding(1),
    "set_encoding None": lambda reader: reader.set_encoding(None),
    "set_encoding names": lambda reader: reader.set_encoding(encoding="latin-1", errors="strict"),
    "len": lambda reader: reader.len(),
    "len()": lambda reader: len(reader),
    "has_data": lambda reader: reader.has_data(),
    "protocolError int": lambda reader: type(reader)(protocolError=1),
    "replyError int": lambda reader: type(reader)(replyError=1),
    "encoding unknown": lambda reader: type(reader)(encoding="nope"),
    "encoding int": lambda reader: type(reader)(encoding=1),
    "errors unknown": lambda reader: type(reader)(encoding="utf-8", errors="nope"),
    "errors alone unknown": lambda reader: type(reader)(errors="nope"),
    "unknown option": lambda reader: type(reader)(bogus=1),
}


def outcome(call: Callable[[Any], Any], reader: Any) -> Any:
    try:
        return call(reader)
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_arguments_are_taken_and_refused_as_by_the_real_one(call: Callable[[Any], Any]) -> None:
    real: Any = pytest.importorskip("hiredis", reason="hiredis is optional")
    assert outcome(call, Reader()) == outcome(call, real.Reader())
