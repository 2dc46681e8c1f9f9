from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.http.codec import request as request_module
from prox.http.codec.errors import BadMessageError
from prox.http.codec.request import CHUNKED, METHODS, RequestHead, RequestParser


def head(*lines: str, line: str = "GET / HTTP/1.1", host: str | None = "Host: a") -> bytes:
    first = [line] if host is None else [line, host]
    return ("\r\n".join([*first, *lines]) + "\r\n\r\n").encode("latin-1")


def parse(data: bytes, max_headers: int = 100) -> RequestHead:
    return RequestParser().parse(data, max_headers)


def test_a_request() -> None:
    found = parse(
        b"GET /a?b HTTP/1.1\r\nHost: h:8\r\nX-One: 1\r\nx-one:  2 \r\nEmpty:\r\nCookie: \xe9\tb\r\n\r\n"
    )
    assert (found.method, found.request_target, found.minor, found.host_header) == ("GET", b"/a?b", 1, b"h:8")
    assert (found.length, found.close, found.expects_continue) == (0, False, False)
    values = [(name, value.strip(b" \t")) for name, value in found.headers]
    assert sorted(values) == sorted(
        [(b"Host", b"h:8"), (b"X-One", b"1"), (b"x-one", b"2"), (b"Empty", b""), (b"Cookie", b"\xe9\tb")]
    )


def test_a_message_does_not_end_the_parser_for_the_next() -> None:
    parser = RequestParser()
    assert not parser.parse(head("Proxy-Connection: close")).close
    assert parser.parse(head("X: y")).headers == [(b"Host", b"a"), (b"X", b"y")]
    parser.parse(head("Proxy-Connection: close"))
    with pytest.raises(BadMessageError):
        parser.parse(head("X y"))
    assert parser.parse(head()).method == "GET"


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method(method: bytes) -> None:
    target = "a:1" if method == b"CONNECT" else "/"
    assert parse(head(line=f"{method.decode()} {target} HTTP/1.1")).method == method.decode()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET / HTTP/2.0", 505),
        ("GET / HTTP/0.9", 505),
        ("GET / HTTP/1.2", 505),
        ("GET / HTTP/3.1", 505),
        ("GET / HTTP/11", 400),
        ("GET / HTTP/1", 400),
        ("GET / HTTP/1.1.1", 400),
        ("GET / HTTP/01.1", 400),
        ("GET / http/1.1", 400),
        ("GET / HTTPS/1.1", 400),
        ("GET / ", 400),
        ("GET /", 400),
        ("GET", 400),
        ("GET  / HTTP/1.1", 400),
        ("GET /  HTTP/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        (" GET / HTTP/1.1", 400),
        ("GET / / HTTP/1.1", 400),
        ("GET\t/ HTTP/1.1", 400),
        ("GET /\tHTTP/1.1", 400),
        ("GET /a\x00b HTTP/1.1", 400),
        ("GET /a\x7fb HTTP/1.1", 400),
        ("GET /\xe9 HTTP/1.1", 400),
        ("GET /#a HTTP/1.1", 400),
        ("get / HTTP/1.1", 501),
        ("Get / HTTP/1.1", 501),
        ("BREW / HTTP/1.1", 501),
        ("GETX / HTTP/1.1", 501),
        ("PRI * HTTP/1.1", 501),
        ("G@T / HTTP/1.1", 400),
        ("G(T / HTTP/1.1", 400),
    ],
)
def test_request_lines_that_are_refused(line: str, status: int) -> None:
    with pytest.raises(BadMessageError) as caught:
        parse(head(line=line))
    assert caught.value.status == status


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Content-Length: 0", "Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5", "content-length: 5"],
        *(
            [f"Content-Length:{value}"]
            for value in [
                " 5, 6",
                " 5, 5",
                " 5,",
                " +5",
                " -1",
                " 0x5",
                " 5_0",
                " 5 0",
                "",
                " ",
                " 5.0",
                " 1e1",
                " \xb2",
                " five",
                " 18446744073709551616",
                " 99999999999999999999999999",
                " 9999999999999999999",
            ]
        ),
        *(
            [f"Transfer-Encoding:{value}"]
            for value in [
                "",
                " ",
                " identity",
                " chunked, chunked",
                " chunked,",
                " ,chunked",
                " chunked;q=1",
                " identity, chunked",
                " chunked, identity",
                ' "chunked"',
                " chunked\x0b",
                " chun ked",
            ]
        ),
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        ["Content_Length: 5"],
        ["Transfer_Encoding: chunked"],
        ["content_LENGTH: 5", "Content-Length: 5"],
        ["X: a", " folded"],
        ["X: a", "\tfolded"],
        ["X: a", " "],
        ["X : a"],
        ["X\t: a"],
        [": a"],
        ["X"],
        ["X y: a"],
        ["X\x00: a"],
        ["X(: a"],
        ["\xe9: a"],
        ["X: a\x00"],
        ["X: a\rb"],
        ["X: a\nb"],
        ["X: a\nY: b"],
        ["X: a\x1bb"],
        ["X: a\x7f"],
        ["Host: b"],
        ["Host: a"],
        ["host: a"],
    ],
)
def test_heads_that_are_refused(lines: list[str]) -> None:
    with pytest.raises(BadMessageError) as caught:
        parse(head(*lines, line="POST / HTTP/1.1"))
    assert caught.value.status == 400


@pytest.mark.parametrize("value", ["gzip", "gzip, chunked", "chunked, gzip", "foo", "x-chunked", "chunkedd"])
def test_transfer_codings_that_are_not_known(value: str) -> None:
    with pytest.raises(BadMessageError) as caught:
        parse(head(f"Transfer-Encoding: {value}", line="POST / HTTP/1.1"))
    assert caught.value.status == 501


@pytest.mark.parametrize(
    "host",
    [
        "a b",
        "a/b",
        "a@b",
        "a,b",
        "a?b",
        "a#b",
        "a:b",
        "a:1:2",
        "a:123456",
        "[::1",
        "::1",
        "a\\b",
        "a%2eb",
        "\xe9",
        'a"b',
        "<a>",
    ],
)
def test_hosts_that_are_refused(host: str) -> None:
    with pytest.raises(BadMessageError) as caught:
        parse(head(host=f"Host: {host}"))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "host", ["", "a", "A.example", "a:80", "a:", "[::1]:80", "127.0.0.1", "a_b", "xn--a", "a."]
)
def test_hosts(host: str) -> None:
    assert parse(head(host=f"Host: {host}")).host_header == host.encode()


def test_a_request_without_host() -> None:
    with pytest.raises(BadMessageError):
        parse(head(host=None))
    assert parse(head(host=None, line="GET / HTTP/1.0")).host_header is None


def test_a_chunked_body() -> None:
    for value in ["chunked", "Chunked", "\tCHUNKED"]:
        found = parse(head(f"Transfer-Encoding: {value}", line="POST / HTTP/1.1"))
        assert (found.length, found.has_length) == (CHUNKED, False)


def test_a_chunked_body_on_http_1_0() -> None:
    with pytest.raises(BadMessageError) as caught:
        parse(head("Transfer-Encoding: chunked", line="POST / HTTP/1.0"))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("value", "length"), [("0", 0), ("5", 5), ("007", 7), (" 12 ", 12), ("999999999999999999", 10**18 - 1)]
)
def test_a_body_of_known_length(value: str, length: int) -> None:
    found = parse(head(f"Content-Length: {value}", line="POST / HTTP/1.1"))
    assert (found.length, found.has_length) == (length, True)


@pytest.mark.parametrize(
    ("version", "connection", "close"),
    [
        ("1.1", None, False),
        ("1.1", "keep-alive", False),
        ("1.1", "close", True),
        ("1.1", "Close", True),
        ("1.1", "keep-alive, close", True),
        ("1.1", "x-a,close ,x-b", True),
        ("1.1", "closed", False),
        ("1.0", None, True),
        ("1.0", "keep-alive", False),
        ("1.0", "Keep-Alive", False),
        ("1.0", "close", True),
        ("1.0", "keep-alive, close", True),
    ],
)
def test_whether_the_connection_stays(version: str, connection: str | None, close: bool) -> None:
    lines = [] if connection is None else [f"Connection: {connection}"]
    assert parse(head(*lines, line=f"GET / HTTP/{version}")).close is close


def test_connection_in_several_lines() -> None:
    found = parse(head("Connection: X-One", "connection: x-two, Close"))
    assert found.close
    assert found.dropped == {b"x-one", b"x-two"}


def test_what_connection_names() -> None:
    found = parse(
        head(
            "Connection: X-One, x_two, Host, Content-Length, X-Forwarded-For, X_Forwarded_Proto, close, keep-alive"
        )
    )
    assert found.dropped == {b"x-one", b"x-two"}


def test_expectations() -> None:
    assert parse(head("Expect: 100-Continue", "Content-Length: 1", line="PUT / HTTP/1.1")).expects_continue
    assert not parse(
        head("Expect: 100-continue", "Content-Length: 1", line="PUT / HTTP/1.0")
    ).expects_continue
    with pytest.raises(BadMessageError) as caught:
        parse(head("Expect: 200-ok"))
    assert caught.value.status == 417


def test_forwarded_for() -> None:
    found = parse(head("X-Forwarded-For: 10.0.0.1", "x-forwarded-for: 10.0.0.2, 10.0.0.3"))
    assert found.forwarded_for == b"10.0.0.1, 10.0.0.2, 10.0.0.3"


def test_forwarded_for_is_not_what_is_spelled_with_underscores() -> None:
    """Behind a trusted proxy the right-most address counts, and that proxy appends to its own spelling only."""
    assert parse(head("X-Forwarded-For: 10.0.0.1", "X_Forwarded_For: 6.6.6.6")).forwarded_for == b"10.0.0.1"


def test_the_number_of_headers() -> None:
    lines = [f"X-{number}: a" for number in range(9)]
    assert len(parse(head(*lines), 10).headers) == 10
    with pytest.raises(BadMessageError) as caught:
        parse(head(*lines), 9)
    assert (caught.value.status, caught.value.reason) == (431, "header_count")


HEADS = [
    head(),
    head("Connection: close"),
    head("Connection: keep-alive"),
    head("Connection: foo, close"),
    head("Connection: upgrade", "Upgrade: websocket"),
    head("Upgrade: h2c"),
    head("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
    head("Content-Length: 5", line="POST / HTTP/1.1"),
    head("Content-Length: 0", line="POST / HTTP/1.1"),
    head("Content-Length: 5", "Connection: upgrade", "Upgrade: x", line="POST / HTTP/1.1"),
    head("Transfer-Encoding: chunked", line="POST / HTTP/1.1"),
    head("Transfer-Encoding: gzip", line="POST / HTTP/1.1"),
    head(line="GET / HTTP/1.0", host=None),
    head("Connection: keep-alive", line="GET / HTTP/1.0"),
    head("Connection: close, keep-alive", line="GET / HTTP/1.0"),
    head(line="CONNECT a:1 HTTP/1.1"),
    head(line="BREW / HTTP/1.1"),
    head(line="GET / HTTP/2.0"),
    head(line="PRI * HTTP/2.0"),
    head(host=None),
    head("X: a\x00"),
    head("X: a", " b"),
    head("Expect: 100-continue", "Content-Length: 3", line="PUT / HTTP/1.1"),
    head(*[f"X-{number}: a" for number in range(200)]),
    b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\r\n\r\n",
]


def outcome(parser: RequestParser, data: bytes) -> object:
    try:
        found = parser.parse(data)
    except BadMessageError as error:
        return error.status, error.reason, str(error)
    return found.method, found.request_target, found.minor, found.length, found.close, sorted(found.headers)


@given(st.lists(st.sampled_from(HEADS), min_size=2, max_size=5))
def test_a_parser_remembers_nothing_of_earlier_heads(heads: list[bytes]) -> None:
    """One parser serves all connections: what one client sent must not change what another's request means."""
    shared = RequestParser()
    for data in heads:
        assert outcome(shared, data) == outcome(RequestParser(), data)


@given(st.integers(min_value=0, max_value=len(HEADS) - 1), st.integers(min_value=0), st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(number: int, place: int, value: int) -> None:
    """Only the documented exception may come out, and what is read has one meaning."""
    data = bytearray(HEADS[number])
    data[place % len(data)] = value
    if data.find(b"\r\n\r\n") != len(data) - 4:
        return
    parser = RequestParser()
    try:
        found = parser.parse(bytes(data))
    except BadMessageError:
        return
    assert found.length >= CHUNKED
    for name, field_value in found.headers:
        assert name
        assert not set(field_value) & set(b"\r\n\x00")


def test_heads_that_are_long_are_not_remembered() -> None:
    parser = RequestParser()
    kept = request_module._interpret.cache_info().currsize
    for number in range(20):
        value = b"%d" % number * 6000
        head = b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: %b\r\n\r\n" % value
        assert parser.parse(head).forwarded_for == value
    assert request_module._interpret.cache_info().currsize == kept


# Upgrades and CONNECT.


@pytest.mark.parametrize(
    ("lines", "upgrade"),
    [
        (["Connection: upgrade", "Upgrade: websocket"], b"websocket"),
        (["Connection: x, UPGRADE", "Upgrade: WebSocket , a/1"], b"WebSocket, a/1"),
        (["Connection: upgrade", "Upgrade: a", "upgrade: b"], b"a, b"),
        (
            ["Connection: upgrade", "Upgrade: h2c, httpx, http, HTTP/3, h2-14, H2C-1, tls/1.2, tlsx"],
            b"httpx, tlsx",
        ),
        (["Connection: upgrade", "Upgrade: a b, a/b/c, /a, a/, ,"], b""),
        (["Connection: upgrade"], b""),
        (["Upgrade: websocket"], b""),
        (["Connection: upgrade", "Upgrade: websocket", "Content-Length: 0"], b"websocket"),
        (["Connection: upgrade", "Upgrade: websocket", "Content-Length: 1"], b""),
        (["Connection: upgrade", "Upgrade: websocket", "Transfer-Encoding: chunked"], b""),
    ],
)
def test_upgrades(lines: list[str], upgrade: bytes) -> None:
    request = parse(head(*lines))
    assert (b"" if request.rare is None else request.rare.upgrade) == upgrade


def test_no_upgrade_on_http_1_0() -> None:
    request = parse(head("Connection: upgrade", "Upgrade: websocket", line="GET / HTTP/1.0"))
    assert request.rare is None


def test_an_upgrade_is_no_matter_of_the_request_before() -> None:
    first = parse(head("Connection: upgrade", "Upgrade: websocket"))
    assert first.rare is not None
    assert parse(head("Connection: upgrade")).rare is None
    assert parse(head("Connection: upgrade", "Upgrade: websocket")).rare is not None
