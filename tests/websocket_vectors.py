"""WebSocket frames made by hand, what they hold, and what is wrong with them; and what a decoder makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from harness import WAYS as FEEDING
from harness import Give, by_feed, fields

from framewire import FrameTooLarge, FramingError, HeaderError, _websocket_py
from framewire._websocket_py import Close, Deflate, Part, Ping, Pong
from framewire.errors import PayloadError

ROLES = ["server", "client"]
KEY = b"7\xfa!="
"""The key of the examples in RFC 6455, section 5.7."""

MORE, FIN, RSV1 = 0, 0x80, 0x40
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

WAYS = {name: give for name, give in FEEDING.items() if name != "spans"}


def naive_mask(data: bytes, key: bytes, offset: int = 0) -> bytes:
    """Section 5.3, word for word."""
    return bytes(octet ^ key[(offset + i) % 4] for i, octet in enumerate(data))


def masked(data: bytes, key: bytes) -> bytes:
    """The same, faster: all bytes that meet one byte of the key at a time."""
    result = bytearray(data)
    for i in range(4):
        result[i::4] = data[i::4].translate(bytes(octet ^ key[i] for octet in range(256)))
    return bytes(result)


def announce(role: str, first: int, size: int, *, width: int | None = None, key: bytes = KEY) -> bytes:
    """The header that `role` reads, for `size` bytes; `width` bytes of length (0, 2, 8) if not the fewest."""
    has_key = 0x80 if role == "server" else 0
    if width is None:
        width = 0 if size < 126 else 2 if size < 65_536 else 8
    second = {0: size, 2: 126, 8: 127}[width]
    length = size.to_bytes(width, "big") if width else b""
    return bytes([first, has_key | second]) + length + (key if has_key else b"")


def frame(role: str, first: int, payload: bytes = b"", *, width: int | None = None, key: bytes = KEY) -> bytes:
    """A frame as `role` reads it: masked if that is a server."""
    data = masked(payload, key) if role == "server" else payload
    return announce(role, first, len(payload), width=width, key=key) + data


def peer(role: str) -> str:
    return "client" if role == "server" else "server"


class Good(NamedTuple):
    """Whole frames (first byte, payload), what they hold, and the decoder's options."""

    name: str
    frames: list[tuple[int, bytes]]
    messages: list[Any]
    options: dict[str, Any] = {}  # noqa: RUF012

    def made(self, role: str) -> list[bytes]:
        return [frame(role, *one) for one in self.frames]

    def stream(self, role: str) -> bytes:
        return b"".join(self.made(role))


def hexed(text: str) -> bytes:
    return bytes.fromhex(text)


DEFLATE = Deflate()
ALONE = Deflate(server_no_context_takeover=True, client_no_context_takeover=True)
HELLO = hexed("f2 48 cd c9 c9 07 00")  # RFC 7692, section 7.2.3.1
POEM = "Über allen Gipfeln… 😀"

GOOD = [
    Good("text", [(FIN | TEXT, b"Hello"), (FIN | TEXT, b""), (FIN | TEXT, b"x")], ["Hello", "", "x"]),
    Good("binary", [(FIN | BINARY, b"Hello"), (FIN | BINARY, b""), (FIN | BINARY, b"\xff")], [b"Hello", b"", b"\xff"]),
    Good("text that is not ASCII", [(FIN | TEXT, POEM.encode()), (FIN | TEXT, "é".encode())], [POEM, "é"]),
    Good("sizes around the second length", [(FIN | BINARY, b"x" * n) for n in (125, 126)], [b"x" * 125, b"x" * 126]),
    Good("fragments of text", [(TEXT, b"Hel"), (FIN, b"lo"), (FIN | TEXT, b"!")], ["Hello", "!"]),
    Good("fragments of bytes", [(BINARY, b"a"), (MORE, b"b"), (MORE, b""), (FIN, b"c")], [b"abc"]),
    Good("empty fragments", [(TEXT, b""), (MORE, b""), (FIN, b""), (BINARY, b""), (FIN, b"")], ["", b""]),
    Good("a character over fragments", [(TEXT, b"\xf0\x9f"), (MORE, b"\x98"), (MORE, b""), (FIN, b"\x80")], ["😀"]),
    Good(
        "controls between fragments",
        [(TEXT, b"\xc3"), (FIN | PING, b"a"), (MORE, b"\xa9"), (FIN | PONG, b""), (FIN, b"x"), (FIN | PING, b"")],
        [Ping(b"a"), Pong(b""), "éx", Ping(b"")],
    ),
    Good("the largest control frame", [(FIN | PING, b"\xff" * 125), (FIN | PONG, b"")], [Ping(b"\xff" * 125), Pong()]),
    Good("an empty close", [(FIN | BINARY, b"x"), (FIN | CLOSE, b"")], [b"x", Close()]),
    Good("a close with a code", [(FIN | CLOSE, b"\x03\xe8")], [Close(1000)]),
    Good("a close with a reason", [(FIN | CLOSE, b"\x0f\xa0" + "tschüß".encode())], [Close(4000, "tschüß")]),
    Good("a close inside of a message", [(TEXT, b"begun"), (FIN | CLOSE, b"\x03\xe9away")], [Close(1001, "away")]),
    Good(
        "compressed",
        [(FIN | RSV1 | TEXT, HELLO), (FIN | RSV1 | TEXT, hexed("f2 00 11 00 00")), (FIN | TEXT, b"plain")],
        ["Hello", "Hello", "plain"],
        {"deflate": DEFLATE},
    ),
    Good(
        "compressed, each by itself",
        [(FIN | RSV1 | BINARY, HELLO), (FIN | RSV1 | TEXT, HELLO), (FIN | RSV1 | TEXT, b"\0")],
        [b"Hello", "Hello", ""],
        {"deflate": ALONE},
    ),
    Good(
        "compressed, in fragments",
        [(RSV1 | TEXT, HELLO[:3]), (FIN | PING, b"?"), (MORE, b""), (FIN, HELLO[3:]), (FIN | RSV1 | TEXT, b"\0")],
        [Ping(b"?"), "Hello", ""],
        {"deflate": DEFLATE},
    ),
    Good(
        "compressed in blocks of several kinds",
        [
            (FIN | RSV1 | TEXT, hexed("00 05 00 fa ff 48 65 6c 6c 6f 00")),
            (FIN | RSV1 | TEXT, hexed("f2 48 05 00 00 00 ff ff ca c9 c9 07 00")),
            (FIN | RSV1 | TEXT, hexed("f3 48 cd c9 c9 07 00 00")),  # BFINAL, and what stands behind it
            (FIN | RSV1 | TEXT, hexed("f3 48 cd c9 c9 07 00") + HELLO),
            (FIN | RSV1 | TEXT, hexed("f3 48 cd c9 c9 07 00")),
            (FIN | RSV1 | TEXT, HELLO),
        ],
        ["Hello", "Hello", "Hello", "HelloHello", "Hello", "Hello"],
        {"deflate": DEFLATE},
    ),
]

LONG = "a length of {} in {} bytes, which needs fewer"


class Bad(NamedTuple):
    """Good frames, and one that goes wrong as soon as some bytes of its header or of its payload have come.

    `part` and `shows` say where: ``("header", 1)`` is its first byte; ``("payload", 3)`` the third byte of the payload.
    """

    name: str
    before: list[tuple[int, bytes]]
    messages: list[Any]
    bad: tuple[Any, ...]  # first byte, payload or announced size, width of the length
    error: type[FramingError]
    what: Any  # reason, or (size, limit)
    part: str
    shows: int
    options: dict[str, Any] = {}  # noqa: RUF012

    def parts(self, role: str) -> tuple[bytes, bytes]:
        """What stands before the bad frame, and what stands of that and behind it."""
        first, payload, *width = self.bad
        make = announce if isinstance(payload, int) else frame
        bad = make(role, first, payload, width=width[0] if width else None)
        return b"".join(frame(role, *one) for one in self.before), bad

    def shown(self, role: str) -> int:
        """How many bytes of the stream it takes to see it."""
        before, bad = self.parts(role)
        if self.part == "header":
            return len(before) + self.shows
        return len(before) + len(bad) - len(self.bad[1]) + self.shows


def opcode(first: int) -> Bad:
    reason = f"opcode {first & 15}, which is reserved"
    return Bad(reason, [(FIN | BINARY, b"x")], [b"x"], (first, b"?"), HeaderError, reason, "header", 1)


def reserved(first: int, options: dict[str, Any], before: list[tuple[int, bytes]]) -> Bad:
    reason = f"reserved bits {first >> 4 & 7:03b}, which must not be set here"
    name = f"{reason}: {first:02x} {'with' if options else 'without'} deflate"
    return Bad(name, before, [], (first, b"?"), HeaderError, reason, "header", 1, options)


def closing(name: str, payload: bytes, reason: str, shows: int) -> Bad:
    kind = PayloadError if "UTF-8" in reason else HeaderError
    return Bad(name, [(FIN | TEXT, b"x")], ["x"], (FIN | CLOSE, payload), kind, reason, "payload", shows)


def text(name: str, payload: bytes, start: int, shows: int, before: bytes | None = None) -> Bad:
    """`before` is an earlier fragment."""
    first = FIN | TEXT if before is None else FIN
    earlier = [] if before is None else [(TEXT, before)]
    reason = f"the text is not UTF-8 at byte {start}"
    return Bad(name, earlier, [], (first, payload), PayloadError, reason, "payload", shows)


def length(size: int, width: int) -> Bad:
    return Bad(
        f"{size} in {width} bytes",
        [(FIN | PING, b"")],
        [Ping()],
        (FIN | BINARY, size, width),
        HeaderError,
        LONG.format(size, width),
        "header",
        2 + width,
    )


def large(name: str, size: int, limit: int, options: dict[str, Any], shows: int) -> Bad:
    return Bad(name, [], [], (FIN | BINARY, size), FrameTooLarge, (size, limit), "header", shows, options)


BAD = [
    *(opcode(first) for first in (0x83, 0x84, 0x85, 0x86, 0x87, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x03, 0x0B)),
    *(reserved(first, {}, []) for first in (0xC1, 0xC2, 0xA1, 0x91, 0xF1, 0xC9, 0xC8, 0x41)),
    *(reserved(first, {"deflate": DEFLATE}, []) for first in (0xA1, 0x92, 0xE1, 0xD1, 0xC9, 0xC8, 0xCA)),
    *(reserved(first, {"deflate": DEFLATE}, [(TEXT, b"x")]) for first in (0xC0, 0x40, 0xA0)),
    *(
        Bad(f"a control in fragments: {first}", [], [], (first, b""), HeaderError, "a control frame in fragments",
            "header", 1)
        for first in (CLOSE, PING, PONG)
    ),
    Bad("a continuation of nothing", [(FIN | TEXT, b"x")], ["x"], (FIN, b"y"), HeaderError,
        "a continuation without a message", "header", 1),
    Bad("a continuation of what is over", [(TEXT, b"x"), (FIN, b"y")], ["xy"], (MORE, b"z"), HeaderError,
        "a continuation without a message", "header", 1),
    *(
        Bad(f"a message inside of another: {first:02x}", [(BINARY, b"x"), (FIN | PING, b"y")], [Ping(b"y")],
            (first, b""), HeaderError, "a new message inside of another", "header", 1)
        for first in (FIN | TEXT, FIN | BINARY, TEXT, BINARY)
    ),
    *(
        Bad(f"a control frame of {size} bytes: {first:02x}", [], [], (first, size), HeaderError,
            "a control frame of more than 125 bytes", "header", 2)
        for first in (FIN | CLOSE, FIN | PING, FIN | PONG) for size in (126, 65_536)
    ),
    *(length(size, 2) for size in (0, 1, 125)),
    *(length(size, 8) for size in (0, 125, 126, 65_535)),
    Bad("the highest bit of a length", [(FIN | TEXT, b"")], [""], (FIN | TEXT, 2**63), HeaderError,
        "a length whose highest bit is set", "header", 3),
    large("over the limit, short", 101, 100, {"max_size": 100}, 2),
    large("over the limit of nothing", 1, 0, {"max_size": 0}, 2),
    large("over the limit, two bytes", 301, 300, {"max_size": 300}, 4),
    large("over the limit, eight bytes", 2**62, 16 * 2**20, {}, 10),
    large("over any limit", 2**63 - 1, 2**62, {"max_size": None}, 10),
    large("over the limit of a frame", 51, 50, {"max_frame_size": 50}, 2),
    Bad("over the limit, all fragments", [(BINARY, b"x" * 60), (MORE, b""), (MORE, b"y" * 30)], [], (FIN, 11),
        FrameTooLarge, (101, 100), "header", 2, {"max_size": 100}),
    Bad("over the limit on the wire", [(RSV1 | BINARY, b"\0" + hexed("64 00 9b ff") + b"x" * 100)], [],
        (FIN, 1100), FrameTooLarge, (1205, 100 + 100 // 8 + 1024), "header", 4,
        {"max_size": 100, "deflate": DEFLATE}),
    Bad("decompressed, over the limit", [(FIN | RSV1 | TEXT, HELLO), (FIN | PING, b"")], ["Hello", Ping()],
        (FIN | RSV1 | TEXT, hexed("00 06 00 f9 ff 48 65 6c 6c 6f 6f 00")), FrameTooLarge, (6, 5), "payload", 11,
        {"max_size": 5, "deflate": DEFLATE}),
    Bad("damaged data", [(FIN | RSV1 | TEXT, HELLO)], ["Hello"], (FIN | RSV1 | TEXT, b"\x07" + HELLO), PayloadError,
        "the compressed data of a message is damaged", "payload", 1, {"deflate": DEFLATE}),
    Bad("looks back too far", [], [], (FIN | RSV1 | TEXT, hexed("f2 00 11 00 00")), PayloadError,
        "the compressed data of a message is damaged", "payload", 3, {"deflate": DEFLATE}),
    Bad("looks back over what was to be forgotten", [(FIN | RSV1 | TEXT, HELLO)], ["Hello"],
        (FIN | RSV1 | TEXT, hexed("f2 00 11 00 00")), PayloadError, "the compressed data of a message is damaged",
        "payload", 3, {"deflate": ALONE}),
    Bad("compressed text that is not UTF-8", [], [], (FIN | RSV1 | TEXT, hexed("00 03 00 fc ff 61 ff 62 00")),
        PayloadError, "the text is not UTF-8 at byte 1", "payload", 7, {"deflate": DEFLATE}),
    Bad("compressed text that is cut", [], [], (FIN | RSV1 | TEXT, hexed("00 02 00 fd ff 61 c3 00")),
        PayloadError, "the text is not UTF-8 at byte 1", "payload", 8, {"deflate": DEFLATE}),
    closing("half a code", b"\x03", "a close frame of 1 byte, which is half a status code", 1),
    *(
        closing(f"close {code}", code.to_bytes(2, "big") + b"ok", f"a close frame with the status code {code}", 4)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
    ),
    closing("a reason that is no text", b"\x03\xe8ok\xff.", "the reason of the close frame is not UTF-8 at byte 2", 6),
    closing("a reason that is cut", b"\x03\xe8\xe2\x82", "the reason of the close frame is not UTF-8 at byte 0", 4),
    text("a lone continuation", b"ab\x80cd", 2, 3),
    text("an overlong slash", b"a\xc0\xafb", 1, 2),
    text("an overlong in three bytes", b"a\xe0\x80\xafb", 1, 3),
    text("an overlong in four bytes", b"a\xf0\x8f\xbf\xbf", 1, 3),
    text("a surrogate", b"ab\xed\xa0\x80cd", 2, 4),
    text("the last surrogate", b"\xed\xbf\xbf", 0, 2),
    text("over U+10FFFF", b"a\xf4\x90\x80\x80b", 1, 3),
    text("five bytes", b"\xf8\x88\x80\x80\x80", 0, 1),
    text("FE", b"hello\xfe", 5, 6),
    text("a character cut by another", b"\xe2\x82a", 0, 3),
    text("a character cut by the end", b"abc\xe2\x82", 3, 5),
    text("behind sixteen bytes of ASCII", b"0123456789abcdef\xff!", 16, 17),
    text("behind what is not ASCII", POEM.encode() + b"\xc1?", len(POEM.encode()), len(POEM.encode()) + 1),
    text("over fragments", b"\x41x", 1, 1, before=b"a\xc3"),
    text("over fragments, in its last byte", b"\xa0x", 1, 1, before=b"a\xed"),
    text("in the second fragment", b"ok\xff", 4, 3, before=b"ok"),
    text("cut by the end of the last fragment", b"\x82", 1, 1, before=b"a\xe2"),
]  # fmt: skip


class Outcome(NamedTuple):
    """What a stream came to; the error without its head, which is shorter where fewer bytes had come."""

    messages: list[Any]
    error: tuple[Any, ...] | None
    buffered_size: int
    closed: bool


def run(decoder: Any, chunks: Iterable[bytes], give: Give = by_feed, *, eof: bool = False) -> Outcome:
    """Give the chunks to the decoder until it fails, and check on the way what holds for every stream."""
    messages: list[Any] = []
    try:
        for chunk in chunks:
            messages += give(decoder, chunk)
            if decoder.error is not None:
                break
        else:
            if eof:
                messages += decoder.feed_eof()
    except FramingError as error:
        raised: Exception | None = error
    else:
        raised = decoder.error
    assert raised is decoder.error
    if decoder.error is not None:
        assert decoder.buffered_size == decoder.needed_size == 0
        for call in (lambda: decoder.feed(b"1"), decoder.get_buffer, decoder.feed_eof):
            with pytest.raises(type(decoder.error)) as again:
                call()
            assert again.value is decoder.error
    return Outcome(messages, fields(decoder.error), decoder.buffered_size, decoder.closed)


def joined(messages: Iterable[Any]) -> list[Any]:
    """The messages that parts make; what is not over stands at the end, in a list."""
    whole: list[Any] = []
    open_parts: list[Any] = []
    for message in messages:
        if not isinstance(message, Part):
            whole.append(message)
            continue
        open_parts.append(message.data)
        assert len({type(data) for data in open_parts}) == 1
        if message.final:
            whole.append(type(message.data)().join(open_parts))
            open_parts = []
    return [*whole, open_parts] if open_parts else whole


def codec_of(core: ModuleType) -> ModuleType:
    """Where the codec of a core is."""
    return core if hasattr(core, "MessageDecoder") else _websocket_py


def with_roles(vectors: list[Any]) -> Iterator[Any]:
    for vector in vectors:
        for role in ROLES:
            yield pytest.param(vector, role, id=f"{vector.name}-{role}")
