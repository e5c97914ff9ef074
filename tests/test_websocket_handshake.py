"""The opening handshake: what stands in the fields, and both sides over every cut of the stream."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import framewire
from framewire import FramingError
from framewire.websocket import Deflate
from framewire.websocket.handshake import (
    MAX_BODY_SIZE,
    ClientHandshake,
    Handshake,
    HandshakeError,
    HandshakeRefused,
    IncompleteHandshake,
    Request,
    Response,
    ServerHandshake,
    accept_deflate,
    accept_key,
    agree_on_deflate,
    is_same_origin,
    offer_deflate,
    parse_extensions,
    parse_tokens,
    parse_url,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455, section 1.2
FIELDS = {
    "Host": "example.org",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def request(line: str = "GET /chat HTTP/1.1", *more: str, without: str = "", **fields: str) -> bytes:
    """A request for a WebSocket, with these fields instead or besides; underscores in names are hyphens."""
    values = {**FIELDS, **{name.replace("_", "-"): value for name, value in fields.items()}}
    values.pop(without, None)
    lines = [line, *(f"{name}: {value}" for name, value in values.items()), *more, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def page(target: str = "/", method: str = "GET", *more: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: example.org", *more, "", ""]).encode()


def run(handshake: Handshake, *chunks: bytes, eof: bool = False) -> bytes:
    """Give it the chunks; return what it has to say to them."""
    handshake.data_to_send()
    output = b""
    for chunk in chunks:
        handshake.receive_data(chunk)
        while handshake.step():
            output += handshake.data_to_send()
        assert not handshake.data_to_send()
    if eof:
        handshake.receive_eof()
        while handshake.step():
            output += handshake.data_to_send()
    return output


def outcome(make: Callable[[], Handshake], chunks: list[bytes], *, eof: bool = False) -> tuple[Any, ...]:
    """All that a stream came to, to be compared."""
    handshake = make()
    output = run(handshake, *chunks, eof=eof)
    error = handshake.error
    fields = None
    if isinstance(error, HandshakeError):
        fields = (error.reason, error.field, error.value, error.limit, error.status)
    return (
        output,
        handshake.opened,
        handshake.ended,
        type(error),
        fields,
        handshake.subprotocol,
        handshake.deflate,
        handshake.request,
        handshake.response,
    )


def check_every_cut(make: Callable[[], Handshake], stream: bytes, *, eof: bool = False) -> Any:
    """The same for one chunk, for two cut anywhere, and for single bytes; return it."""
    whole = outcome(make, [stream], eof=eof)
    for cut in range(1, len(stream)):
        assert outcome(make, [stream[:cut], stream[cut:]], eof=eof) == whole, cut
    assert outcome(make, [stream[i : i + 1] for i in range(len(stream))], eof=eof) == whole
    return whole


def refusal(stream: bytes, *, eof: bool = False, **options: Any) -> tuple[HandshakeError, bytes]:
    """The error that a server has with this stream, and its answer."""
    server = ServerHandshake(**options)
    output = run(server, stream, eof=eof)
    assert server.ended
    assert not server.opened
    assert isinstance(server.error, HandshakeError)
    return server.error, output


# What stands in the fields


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        (["a"], [("a", [])]),
        (["a, b"], [("a", []), ("b", [])]),
        (["a", "b"], [("a", []), ("b", [])]),
        ([" ,a ,\t, b,, "], [("a", []), ("b", [])]),
        (["a;x;y=1"], [("a", [("x", None), ("y", "1")])]),
        (["A ; X = 1\t;y"], [("a", [("x", "1"), ("y", None)])]),
        (['a;x="1"'], [("a", [("x", "1")])]),
        (['a;x="\\1\\2"'], [("a", [("x", "12")])]),
        (["a;x;x=2"], [("a", [("x", None), ("x", "2")])]),
    ],
)
def test_extensions_are_parsed(values: list[str], expected: object) -> None:
    assert parse_extensions(values) == expected


@pytest.mark.parametrize(
    "value",
    ["a b", "a;", "a;=1", "a;x=", 'a;x="', 'a;x=""', 'a;x="1 2"', 'a;x="\\"', "a/b", ";x", "a=1", '"a"', "a;;x"],
)
def test_extensions_that_are_not_as_they_must_be_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_extensions([value])


@given(st.text(alphabet='ab;,="\\ \t10', max_size=40))
def test_any_text_is_extensions_or_refused(text: str) -> None:
    try:
        extensions = parse_extensions([text])
    except ValueError:
        return
    again = ", ".join(
        "; ".join([name, *(key if value is None else f"{key}={value}" for key, value in parameters)])
        for name, parameters in extensions
    )
    assert parse_extensions([again]) == extensions


@pytest.mark.parametrize("value", ["a b", "a/b", "a;b", "é"])
def test_names_that_are_not_as_they_must_be_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"no (name|comma)"):
        parse_tokens([value])


DEFLATE = "permessage-deflate"


@pytest.mark.parametrize(
    ("offer", "limits", "agreed", "answer"),
    [
        ("", {}, {}, ""),
        ("; client_max_window_bits", {}, {}, ""),
        ("; client_max_window_bits", {"client_max_window_bits": 9}, {"client_max_window_bits": 9}, "c=9"),
        ("; client_max_window_bits=10", {}, {"client_max_window_bits": 10}, "c=10"),
        ("; client_max_window_bits=10", {"client_max_window_bits": 12}, {"client_max_window_bits": 10}, "c=10"),
        ("; client_max_window_bits=8", {}, {"client_max_window_bits": 8}, "c=8"),
        ("", {"client_max_window_bits": 9}, {}, ""),  # a client that has not said it can limit itself
        ("; server_max_window_bits=8", {}, {"server_max_window_bits": 8}, "s=8"),
        ("; server_max_window_bits=12", {"server_max_window_bits": 10}, {"server_max_window_bits": 10}, "s=10"),
        ("", {"server_max_window_bits": 10}, {"server_max_window_bits": 10}, "s=10"),
        ("; server_no_context_takeover", {}, {"server_no_context_takeover": True}, "S"),
        ("", {"server_no_context_takeover": True}, {"server_no_context_takeover": True}, "S"),
        ("; client_no_context_takeover", {}, {"client_no_context_takeover": True}, "C"),
        ("", {"client_no_context_takeover": True}, {"client_no_context_takeover": True}, "C"),
    ],
)
def test_an_offer_is_accepted_with_the_stricter_of_both_wishes(
    offer: str, limits: dict[str, Any], agreed: dict[str, Any], answer: str
) -> None:
    words = {"s": "server_max_window_bits", "c": "client_max_window_bits"}
    words |= {"S": "server_no_context_takeover", "C": "client_no_context_takeover"}
    expected = DEFLATE + (f"; {words[answer[0]]}{answer[1:]}" if answer else "")
    assert accept_deflate(parse_extensions([DEFLATE + offer]), Deflate(**limits)) == (Deflate(**agreed), expected)


BAD_PARAMETERS = [
    "x",
    "server_no_context_takeover=1",
    "client_no_context_takeover=true",
    "server_max_window_bits=7",
    "server_max_window_bits=16",
    "server_max_window_bits=010",
    "client_max_window_bits=0",
    "client_max_window_bits=1e1",
    "client_max_window_bits=10; client_max_window_bits=10",
    "server_no_context_takeover; server_no_context_takeover",
    "server_max_window_bits",  # which needs a value
]


@pytest.mark.parametrize("parameters", BAD_PARAMETERS)
def test_an_offer_with_bad_parameters_is_declined_and_the_next_one_taken(parameters: str) -> None:
    bad = f"{DEFLATE}; {parameters}"
    assert accept_deflate(parse_extensions([bad]), Deflate()) is None
    assert accept_deflate(parse_extensions([f"x-other, {bad}, {DEFLATE}"]), Deflate()) == (Deflate(), DEFLATE)


@pytest.mark.parametrize(
    ("wish", "answer", "agreed"),
    [
        ({}, "", {}),
        ({}, "; server_no_context_takeover", {"server_no_context_takeover": True}),
        ({}, "; client_no_context_takeover", {"client_no_context_takeover": True}),
        ({}, '; client_max_window_bits="10"', {"client_max_window_bits": 10}),
        ({}, "; server_max_window_bits=10", {"server_max_window_bits": 10}),
        ({"server_max_window_bits": 12}, "; server_max_window_bits=10", {"server_max_window_bits": 10}),
        ({"client_max_window_bits": 12}, "", {"client_max_window_bits": 12}),
        ({"client_no_context_takeover": True}, "", {"client_no_context_takeover": True}),
    ],
)
def test_an_answer_to_an_offer_is_understood(wish: dict[str, Any], answer: str, agreed: dict[str, Any]) -> None:
    assert agree_on_deflate(parse_extensions([DEFLATE + answer]), Deflate(**wish)) == Deflate(**agreed)


@pytest.mark.parametrize(
    ("wish", "answer"),
    [
        (None, DEFLATE),
        (Deflate(), "x-other"),
        (Deflate(), f"{DEFLATE}, {DEFLATE}"),
        (Deflate(), f"{DEFLATE}, x-other"),
        (Deflate(), f"{DEFLATE}; client_max_window_bits"),
        (Deflate(server_no_context_takeover=True), DEFLATE),
        (Deflate(server_max_window_bits=10), DEFLATE),
        (Deflate(server_max_window_bits=10), f"{DEFLATE}; server_max_window_bits=11"),
        (Deflate(client_max_window_bits=10), f"{DEFLATE}; client_max_window_bits=11"),
        *((Deflate(), f"{DEFLATE}; {parameters}") for parameters in BAD_PARAMETERS),
    ],
)
def test_an_answer_that_no_offer_allows_is_refused(wish: Deflate | None, answer: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        agree_on_deflate(parse_extensions([answer]), wish)


@given(*[st.builds(Deflate, st.booleans(), st.booleans(), *[st.integers(8, 15)] * 2)] * 2)
def test_any_server_and_any_client_agree(wish: Deflate, limits: Deflate) -> None:
    accepted = accept_deflate(parse_extensions([offer_deflate(wish)]), limits)
    assert accepted is not None
    at_server, answer = accepted
    at_client = agree_on_deflate(parse_extensions([answer]), wish)
    assert at_client == at_server
    for name in ("server_max_window_bits", "client_max_window_bits"):
        assert getattr(at_server, name) == min(getattr(wish, name), getattr(limits, name))


@pytest.mark.parametrize(
    ("url", "secure", "host", "port", "target", "field"),
    [
        ("ws://example.org", False, "example.org", 80, "/", "example.org"),
        ("WS://Example.ORG:80/", False, "example.org", 80, "/", "example.org"),
        ("ws://example.org:443", False, "example.org", 443, "/", "example.org:443"),
        ("wss://example.org:443/a/b?c=d&e", True, "example.org", 443, "/a/b?c=d&e", "example.org"),
        ("wss://example.org:80", True, "example.org", 80, "/", "example.org:80"),
        ("ws://[::1]", False, "::1", 80, "/", "[::1]"),
        ("ws://[::1]:8080?x", False, "::1", 8080, "/?x", "[::1]:8080"),
        (
            "ws://b\u00fccher.example/\u00fc%20",
            False,
            "xn--bcher-kva.example",
            80,
            "/%C3%BC%20",
            "xn--bcher-kva.example",
        ),
    ],
)
def test_urls_are_taken_to_pieces(url: str, secure: bool, host: str, port: int, target: str, field: str) -> None:
    parts = parse_url(url)
    assert parts == (secure, host, port, target, None)
    assert parts.host_field == field


def test_a_login_in_a_url_is_sent() -> None:
    assert parse_url("ws://Aladdin:open%20sesame@example.org").authorization == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    asked = sent(ClientHandshake("ws://Aladdin:open%20sesame@example.org/"))
    assert b"\r\nAuthorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n" in asked
    assert b"Host: example.org\r\n" in asked


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://a",
            "a",
            "ws:a",
            "ws://",
            "ws://:80",
            "ws://a#",
            "ws://a/#b",
            "ws://a:65536",
            "ws://a:b",
            "ws://a/b c",
        ),
        *("ws://a/\r\nX: y", " ws://a", "ws://[::1", "ws://a\t/"),
    ],
)
def test_what_is_no_url_of_a_websocket_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_url(url)


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://example.org", "example.org", True),
        ("http://example.org", "Example.org:80", True),
        ("https://EXAMPLE.org:443", "example.org", True),
        ("https://example.org", "example.org:443", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://localhost:8080", "localhost:8080", True),
        ("http://localhost:8080", "localhost:8081", False),
        ("http://localhost:8080", "127.0.0.1:8080", False),
        ("http://example.org", "example.org:443", False),
        ("http://example.org.evil.example", "example.org", False),
        ("http://evil.example/http://example.org", "example.org", False),
        ("http://evil.example@example.org", "example.org", False),
        ("http://example.org/", "example.org", False),
        ("null", "null", False),
        ("", "", False),
        ("http://", "", False),
        ("file://", "", False),
        ("http://a:b", "a:b", False),
        ("http://[", "[", False),
        ("chrome-extension://abc", "abc", False),
    ],
)
def test_a_page_has_the_same_origin_if_host_and_port_are_the_same(origin: str, host: str, same: bool) -> None:
    assert is_same_origin(origin, host) is same


@pytest.mark.parametrize(
    ("target", "path"), [("/", "/"), ("/a%20b?c", "/a b"), ("http://h/a/b?c", "/a/b"), ("http://h", "/"), ("/?/x", "/")]
)
def test_a_request_has_a_path(target: str, path: str) -> None:
    assert Request("GET", target).path == path


# A server


def test_the_example_of_the_rfc_opens_a_connection() -> None:
    server = ServerHandshake()
    assert run(server, request()).split(b"\r\n") == [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        b"",
        b"",
    ]
    assert server.opened
    assert server.request is not None
    assert (server.request.method, server.request.target) == ("GET", "/chat")
    assert server.request.values("HOST") == ["example.org"]
    assert server.response is not None
    assert server.response.status == 101
    assert (server.subprotocol, server.deflate) == (None, None)


def test_a_body_of_nothing_is_none() -> None:
    server = ServerHandshake()
    run(server, request(Content_Length="0"))
    assert server.opened


def test_a_bad_request_behind_a_head_is_answered_in_full() -> None:
    server = ServerHandshake(respond=lambda request: Response(200, (), b"hello"))
    output = run(server, page("/", "HEAD") + b"nonsense\r\n\r\n")
    assert b"illegal request line" in output.rpartition(b"\r\n\r\n")[2]


def test_what_comes_behind_the_request_is_left_over() -> None:
    server = ServerHandshake()
    run(server, request() + b"\x81\x85frame")
    assert server.surplus() == b"\x81\x85frame"


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(request(), id="good"),
        pytest.param(request(Sec_WebSocket_Extensions=DEFLATE, Sec_WebSocket_Protocol="b, a"), id="negotiated"),
        pytest.param(page() + page("/missing") + request(), id="pages-first"),
        pytest.param(page("/", "HEAD") + page("/", "GET", "Connection: close") + request(), id="closed-by-a-page"),
        pytest.param(request("POST / HTTP/1.1"), id="405"),
        pytest.param(request(Origin="http://evil.example"), id="403"),
        pytest.param(page("/plain"), id="426"),
        pytest.param(request(Sec_WebSocket_Key="short"), id="400"),
        pytest.param(request(X="x" * 400), id="431"),
        pytest.param(b"\x16\x03\x01\x02\x00 and more", id="tls"),
        pytest.param(b"\r\n" + request(), id="blank-line"),
        pytest.param(b"nonsense\r\n\r\n", id="nonsense"),
        pytest.param(request("GET / HTTP/1.1", "Bad Name: 1"), id="bad-name"),
        pytest.param(page() + b"\x00" * 10, id="nonsense-after-a-page"),
        pytest.param(page() + page("/broken"), id="500"),
    ],
)
@pytest.mark.parametrize("eof", [False, True])
def test_the_outcome_is_the_same_for_every_cut(stream: bytes, eof: bool) -> None:
    def respond(request: Request) -> Response | None:
        if request.target == "/broken":
            raise ZeroDivisionError
        pages = {"/": Response(200, (("Content-Type", "text/plain"),), b"hello"), "/missing": Response(404)}
        return pages.get(request.target)

    def make() -> Handshake:
        return ServerHandshake(
            respond=respond, subprotocols=["a", "b"], max_head_size=600 if b"xxx" not in stream else 400
        )

    check_every_cut(make, stream, eof=eof)


@pytest.mark.parametrize("cut", range(1, len(request())))
def test_an_end_in_a_request_is_an_error_and_not_answered(cut: int) -> None:
    error, output = refusal(request()[:cut], eof=True)
    assert isinstance(error, IncompleteHandshake)
    assert isinstance(error, EOFError)
    assert not output


def test_an_end_between_requests_is_none() -> None:
    for stream in (b"", page()):
        server = ServerHandshake(respond=lambda request: Response(200, (), b"hello"))
        run(server, stream, eof=True)
        assert (server.ended, server.opened, server.error) == (True, False, None)


@pytest.mark.parametrize(
    ("stream", "status", "field"),
    [
        (page(), 426, "Upgrade"),
        (page("/", "HEAD"), 426, "Upgrade"),
        (request(Upgrade="h2c"), 426, "Upgrade"),
        (request(Sec_WebSocket_Version="8"), 426, "Sec-WebSocket-Version"),
        (request(without="Sec-WebSocket-Version"), 400, "Sec-WebSocket-Version"),
        (request("GET / HTTP/1.1", "Sec-WebSocket-Version: 13"), 400, "Sec-WebSocket-Version"),
        (request(without="Connection"), 400, "Connection"),
        (request(Connection="keep-alive"), 400, "Connection"),
        (request(without="Sec-WebSocket-Key"), 400, "Sec-WebSocket-Key"),
        (request(Sec_WebSocket_Key=KEY[:-4]), 400, "Sec-WebSocket-Key"),
        (request(Sec_WebSocket_Key="*" + KEY[1:]), 400, "Sec-WebSocket-Key"),
        (request(Sec_WebSocket_Key="\xe9" + KEY[1:]), 400, "Sec-WebSocket-Key"),
        (request("GET / HTTP/1.1", f"Sec-WebSocket-Key: {KEY}"), 400, "Sec-WebSocket-Key"),
        (request(without="Host"), 400, None),
        (request("GET / HTTP/1.1", "Host: example.com"), 400, None),
        (request("GET / HTTP/1.0"), 400, None),
        (request("HEAD / HTTP/1.1"), 400, None),
        (request("GET / HTTP/2.0"), 400, None),
        (request("POST / HTTP/1.1"), 405, None),
        (request("OPTIONS * HTTP/1.1"), 405, None),
        (request(Content_Length="1") + b"x", 400, "Content-Length"),
        (request(Transfer_Encoding="chunked") + b"0\r\n\r\n", 400, "Content-Length"),
        (request(Sec_WebSocket_Extensions="a;"), 400, "Sec-WebSocket-Extensions"),
        (request(Sec_WebSocket_Protocol="a b"), 400, "Sec-WebSocket-Protocol"),
        (request(Origin="http://evil.example"), 403, "Origin"),
        (request(Origin="null"), 403, "Origin"),
        (request("GET / HTTP/1.1", "Origin: http://example.org", "Origin: http://example.org"), 400, "Origin"),
        (request("GET / HTTP/1.1", *["X: y"] * 96), 431, None),
        (request(X="x" * 16384), 431, None),
        (b"\x16\x03\x01\x02\x00", 400, None),
    ],
)
def test_a_wrong_request_is_answered_with_the_reason(stream: bytes, status: int, field: str | None) -> None:
    error, output = refusal(stream)
    assert (error.status, error.field, error.offset) == (status, field, 0)
    assert isinstance(error, FramingError)
    head, _, body = output.partition(b"\r\n\r\n")
    assert re.match(rb"HTTP/1.1 %d [A-Z]" % status, head)
    assert b"close" in head.lower()
    assert body == (
        b"" if stream.startswith(b"HEAD") else f"{head[9:].splitlines()[0].decode()}: {error.reason}\n".encode()
    )
    if status == 405:
        assert b"\r\nAllow: GET, HEAD\r\n" in head
    if status == 426:
        assert b"\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" in head


def test_another_protocol_is_recognized() -> None:
    error, _ = refusal(b"\x16\x03\x01\x02\x00\x01")
    assert error.looks_like == "a TLS hello"
    assert "looks like a TLS hello" in str(error)
    assert refusal(page())[0].looks_like is None


@pytest.mark.parametrize("size", [len(request()) - 1, len(request())])
def test_the_limit_of_a_head_is_exact(size: int) -> None:
    whole = check_every_cut(lambda: ServerHandshake(max_head_size=size), request())
    assert whole[1] is (size == len(request()))
    if not whole[1]:
        assert whole[4] == (f"a head of more than {size} bytes", None, None, size, 431)


def test_the_limit_of_fields_is_exact() -> None:
    opened = ServerHandshake(max_header_count=5)
    run(opened, request())
    assert opened.opened
    error, _ = refusal(request(), max_header_count=4)
    assert (error.status, error.limit) == (431, 4)


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        (None, None, 101),
        (None, "http://example.org", 101),
        (None, "https://example.org", 101),
        (None, "http://example.org:8080", 403),
        (["https://Example.org"], "https://example.org", 101),
        (["https://example.org"], "http://example.org", 403),
        (["https://example.org"], None, 101),
        ([], "http://example.org", 403),
        (lambda origin: origin == "null", "null", 101),
        (lambda origin: origin == "null", "http://example.org", 403),
        (lambda origin: False, None, 101),
    ],
)
def test_origins_decide_from_where_browsers_may_come(origins: Any, origin: str | None, status: int) -> None:
    fields = {} if origin is None else {"Origin": origin}
    assert run(ServerHandshake(origins=origins), request(**fields)).startswith(b"HTTP/1.1 %d" % status)


@pytest.mark.parametrize(
    ("spoken", "offered", "chosen"),
    [
        ([], "a", None),
        (["a"], None, None),
        (["a"], "b", None),
        (["a", "b"], "b, a", "a"),
        (["a", "b"], "c, b", "b"),
        (["a"], "A", None),
    ],
)
def test_the_preferred_subprotocol_is_chosen(spoken: list[str], offered: str | None, chosen: str | None) -> None:
    server = ServerHandshake(subprotocols=spoken)
    output = run(server, request(**({} if offered is None else {"Sec_WebSocket_Protocol": offered})))
    assert server.subprotocol == chosen
    assert (f"\r\nSec-WebSocket-Protocol: {chosen}\r\n".encode() in output) is (chosen is not None)


@pytest.mark.parametrize(
    ("deflate", "agreed"), [(True, Deflate()), (False, None), (Deflate(server_max_window_bits=9),) * 2]
)
def test_compression_is_accepted_unless_it_is_not_wanted(deflate: Any, agreed: Deflate | None) -> None:
    server = ServerHandshake(deflate=deflate)
    output = run(server, request(Sec_WebSocket_Extensions=DEFLATE))
    assert server.deflate == agreed
    assert (b"permessage-deflate" in output) is (agreed is not None)


def test_pages_are_served_on_one_connection_until_somebody_wants_a_websocket() -> None:
    seen = []

    def respond(request: Request) -> Response | None:
        seen.append((request.method, request.path))
        return None if request.values("Upgrade") else Response(200, (("Content-Type", "text/html"),), b"<p>hello")

    server = ServerHandshake(respond=respond, server_name="framewire")
    first = run(server, page("/?q"))
    assert first == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nServer: framewire\r\nContent-Length: 8\r\n\r\n<p>hello"
    )
    assert run(server, page("/style.css", "HEAD")) == first[:-8]
    assert server.buffered_size == 0
    assert run(server, request()).startswith(b"HTTP/1.1 101 ")
    assert server.opened
    assert seen == [("GET", "/"), ("HEAD", "/style.css"), ("GET", "/chat")]


@pytest.mark.parametrize("stream", [page("/", "GET", "Connection: close"), b"GET / HTTP/1.0\r\n\r\n"])
def test_a_client_that_wants_one_page_gets_one(stream: bytes) -> None:
    server = ServerHandshake(respond=lambda request: Response(200, (), b"hello"))
    assert b"\r\nConnection: close\r\n" in run(server, stream + stream)
    assert (server.ended, server.error, server.step()) == (True, None, False)


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_may_have_no_body(status: int) -> None:
    server = ServerHandshake(respond=lambda request: Response(status))
    assert b"Content-Length" not in run(server, page(), page())
    assert not server.ended


@pytest.mark.parametrize(
    "response",
    [
        Response(101),
        Response(99),
        Response(200, (("Content-Length", "7"),)),
        Response(200, (("Transfer-Encoding", "chunked"),)),
        Response(204, (), b"x"),
        Response(200, (("X", "a\r\nY: b"),)),
        Response(200, (("X Y", "a"),)),
        Response(200, (("X", "\u20ac"),)),
    ],
)
def test_an_answer_that_cannot_be_sent_is_an_error_of_the_application(response: Response) -> None:
    server = ServerHandshake(respond=lambda request: response)
    assert run(server, page()).startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert server.ended
    assert server.error is not None
    assert not isinstance(server.error, FramingError)


@pytest.mark.parametrize("options", [{"respond": lambda request: 1 // 0}, {"origins": lambda origin: 1 // 0}])
def test_an_error_of_the_application_is_told_and_not_shown(options: dict[str, Any]) -> None:
    server = ServerHandshake(**options)
    output = run(server, request(Origin="http://example.org"))
    assert output.startswith(b"HTTP/1.1 500 ")
    assert output.endswith(b"\r\n\r\n500 Internal Server Error\n")
    assert isinstance(server.error, ZeroDivisionError)


def test_the_body_of_an_answer_is_bytes() -> None:
    with pytest.raises(TypeError, match="bytes, not str"):
        Response(200, (), "hello")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"origins": "https://example.org"},
        {"subprotocols": "chat"},
        {"subprotocols": ["a", "a"]},
        {"subprotocols": ["a b"]},
        {"subprotocols": [""]},
        {"max_head_size": 0},
        {"max_header_count": 0},
        {"server_name": "a\r\nb"},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        ServerHandshake(**options)


@given(st.binary(max_size=60), st.integers(0, 200))
def test_any_bytes_are_answered_or_waited_for(noise: bytes, at: int) -> None:
    stream = request()
    stream = stream[:at] + noise + stream[at + len(noise) :]
    server = ServerHandshake()
    output = run(server, stream, eof=True)
    assert server.opened or server.ended
    if server.opened:
        assert output.startswith(b"HTTP/1.1 101 ")
    elif not isinstance(server.error, IncompleteHandshake):
        assert output.startswith(b"HTTP/1.1 4")
    assert server.error is None or isinstance(server.error, HandshakeError)


# A client


def sent(client: ClientHandshake) -> bytes:
    return client.data_to_send()


def answer(client: Any, line: str = "HTTP/1.1 101 Switching Protocols", *more: str, **fields: str | None) -> bytes:
    """What a server answers, with these fields instead or besides."""
    key = client.request.values("Sec-WebSocket-Key")[0]
    values = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept_key(key)}
    values |= {name.replace("_", "-"): value for name, value in fields.items()}  # type: ignore[misc]
    lines = [line, *(f"{name}: {value}" for name, value in values.items() if value is not None), *more, "", ""]
    return "\r\n".join(lines).encode()


def test_a_client_asks_as_the_rfc_wants_it() -> None:
    client = ClientHandshake(
        "ws://example.org:8080/chat?room=1",
        origin="http://example.org",
        subprotocols=["a", "b"],
        headers=[("User-Agent", "framewire")],
    )
    lines = sent(client).split(b"\r\n")
    key = client.request.values("Sec-WebSocket-Key")[0] if client.request else ""
    assert lines == [
        b"GET /chat?room=1 HTTP/1.1",
        b"Host: example.org:8080",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: " + key.encode(),
        b"Sec-WebSocket-Version: 13",
        b"Origin: http://example.org",
        b"Sec-WebSocket-Protocol: a, b",
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        b"User-Agent: framewire",
        b"",
        b"",
    ]
    assert b"Extensions" not in sent(ClientHandshake("ws://example.org", deflate=False))
    assert sent(ClientHandshake("ws://a")) != sent(ClientHandshake("ws://a"))  # a new key for each


def test_a_client_may_name_another_host() -> None:
    assert sent(ClientHandshake("ws://127.0.0.1", headers=[("host", "example.org")])).count(b"ost: ") == 1


@pytest.mark.parametrize(
    "options",
    [
        {"headers": [("Upgrade", "x")]},
        {"headers": [("sec-websocket-key", KEY)]},
        {"headers": [("Content-Length", "1")]},
        {"headers": [("X", "a\r\nb")]},
        {"headers": [("X Y", "a")]},
        {"headers": [("X", "\u20ac")]},
        {"origin": "a\nb"},
        {"subprotocols": "chat"},
    ],
)
def test_a_client_refuses_to_send_what_is_wrong(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        ClientHandshake("ws://example.org", **options)


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ((), {}),
        ((), {"Sec_WebSocket_Protocol": "b", "Sec_WebSocket_Extensions": DEFLATE}),
        ((), {"Connection": "keep-alive, UPGRADE", "Upgrade": "WebSocket"}),
        (("X: y",), {}),
    ],
)
def test_an_answer_opens_a_connection_wherever_it_is_cut(more: tuple[str, ...], fields: dict[str, Any]) -> None:
    stream = answer(ClientHandshake("ws://a"), "HTTP/1.1 101 x", *more, **fields)
    for cut in range(len(stream) + 1):
        client = ClientHandshake("ws://example.org", subprotocols=["a", "b"])
        stream = answer(client, "HTTP/1.1 101 x", *more, **fields)
        run(client, stream[:cut], stream[cut:], b"" if cut % 2 else b"\x81\x00")
        assert client.opened, cut
        assert client.subprotocol == fields.get("Sec_WebSocket_Protocol")
        assert client.deflate == (Deflate() if "Sec_WebSocket_Extensions" in fields else None)
        assert client.response is not None
        assert client.response.status == 101


def test_what_comes_behind_the_answer_is_left_over() -> None:
    client = ClientHandshake("ws://example.org")
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    run(client, early + answer(client) + b"\x81\x05hello")
    assert client.opened
    assert client.surplus() == b"\x81\x05hello"


@pytest.mark.parametrize(
    ("more", "fields", "field"),
    [
        ((), {"Upgrade": None}, "Upgrade"),
        ((), {"Upgrade": "h2c"}, "Upgrade"),
        ((), {"Connection": None}, "Connection"),
        ((), {"Connection": "close"}, "Connection"),
        ((), {"Sec_WebSocket_Accept": None}, "Sec-WebSocket-Accept"),
        ((), {"Sec_WebSocket_Accept": accept_key(KEY)}, "Sec-WebSocket-Accept"),
        (("Sec-WebSocket-Accept: x",), {}, "Sec-WebSocket-Accept"),
        ((), {"Sec_WebSocket_Protocol": "c"}, "Sec-WebSocket-Protocol"),
        (("Sec-WebSocket-Protocol: a",), {"Sec_WebSocket_Protocol": "a"}, "Sec-WebSocket-Protocol"),
        ((), {"Sec_WebSocket_Extensions": "x-other"}, "Sec-WebSocket-Extensions"),
        ((), {"Sec_WebSocket_Extensions": "a b"}, "Sec-WebSocket-Extensions"),
        ((), {"Sec_WebSocket_Extensions": f"{DEFLATE}; server_max_window_bits=7"}, "Sec-WebSocket-Extensions"),
        (["X: y"] * 100, {}, None),
        (["X: " + "x" * 16384], {}, None),
    ],
)
def test_an_answer_that_is_wrong_is_an_error(more: Any, fields: dict[str, Any], field: str | None) -> None:
    client = ClientHandshake("ws://example.org", subprotocols=["a", "b"])
    assert not run(client, answer(client, "HTTP/1.1 101 x", *more, **fields))
    assert client.ended
    assert not client.opened
    assert type(client.error) is HandshakeError
    assert client.error.field == field


REFUSALS = [
    (b"HTTP/1.1 403 Forbidden\r\nX: y\r\nContent-Length: 5\r\n\r\nno, no", b"no, n"),
    (b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnot\r\n4\r\n you\r\n0\r\n\r\n", b"not you"),
    (b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nuntil the end", b"until the end"),
    (b"HTTP/1.0 200 OK\r\n\r\n", b""),
    (b"HTTP/1.1 301 Moved\r\nLocation: ws://b\r\nContent-Length: 0\r\n\r\n", b""),
    (b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\ncut short", b"cut short"),
]


@pytest.mark.parametrize(("stream", "body"), REFUSALS)
def test_another_answer_is_a_refusal_with_all_that_was_said(stream: bytes, body: bytes) -> None:
    pieces = [[stream[:cut], stream[cut:]] for cut in range(len(stream) + 1)]
    for chunks in [*pieces, [stream[i : i + 1] for i in range(len(stream))]]:
        client = ClientHandshake("ws://example.org")
        run(client, *chunks, eof=True)
        assert isinstance(client.error, HandshakeRefused)
        assert client.error.status == int(stream[9:12])
        assert client.error.body == body
        assert client.response is not None
        assert client.response.headers == client.error.headers
        assert str(client.error.status) in str(client.error)
    if b"X: y" in stream:
        assert ("x", "y") in client.error.headers


@pytest.mark.parametrize("size", [1, 1000, 10**6])
def test_of_a_long_answer_the_beginning_is_kept(size: int) -> None:
    client = ClientHandshake("ws://example.org")
    stream = b"HTTP/1.1 500 Error\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * (MAX_BODY_SIZE + 1)
    run(client, *(stream[i : i + size] for i in range(0, len(stream), size)))
    assert isinstance(client.error, HandshakeRefused)
    assert client.error.body == b"x" * MAX_BODY_SIZE


@pytest.mark.parametrize("stream", [b"", b"H", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"])
def test_an_end_before_the_answer_is_an_error(stream: bytes) -> None:
    client = ClientHandshake("ws://example.org")
    run(client, stream, eof=True)
    assert isinstance(client.error, IncompleteHandshake)


@pytest.mark.parametrize(
    "stream", [b"\x15\x03\x03\x00\x02", b"SSH-2.0-x\r\n\r\n", b"\x81\x05hello", b"HTTP/1.1 1x1\r\n\r\n"]
)
def test_what_is_no_answer_is_an_error_at_every_cut(stream: bytes) -> None:
    def make() -> Handshake:
        client = ClientHandshake("ws://example.org")
        client.request = None  # its key is another one each time
        return client

    assert check_every_cut(make, stream, eof=True)[3] is not type(None)


def test_endless_hints_are_over_the_limit() -> None:
    client = ClientHandshake("ws://example.org", max_head_size=1000)
    run(client, b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)
    assert isinstance(client.error, HandshakeError)
    assert client.error.limit == 1000


def test_a_server_and_a_client_understand_each_other() -> None:
    client = ClientHandshake("ws://example.org/chat", subprotocols=["b", "a"], origin="http://example.org")
    server = ServerHandshake(subprotocols=["a", "b"])
    run(client, run(server, sent(client)))
    assert (client.opened, server.opened) == (True, True)
    assert client.subprotocol == server.subprotocol == "a"
    assert client.deflate == server.deflate == Deflate()


def test_without_h11_the_import_says_what_to_do() -> None:
    code = "import sys; sys.modules['h11'] = None; import framewire.websocket, framewire.websocket.handshake"
    path = str(Path(framewire.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.endswith(
        "ImportError: WebSockets need h11 for the opening handshake: pip install framewire[web]\n"
    )
