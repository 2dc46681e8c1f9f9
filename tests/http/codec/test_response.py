from __future__ import annotations

import pytest

from prox.http.codec.errors import BadMessageError
from prox.http.codec.response import CHUNKED, UNTIL_CLOSE, ResponseHead, ResponseParser


def head(*lines: str, line: str = "HTTP/1.1 200 OK") -> bytes:
    return ("\r\n".join([line, *lines]) + "\r\n\r\n").encode("latin-1")


def parse(data: bytes, method: str = "GET") -> ResponseHead:
    return ResponseParser().parse(data, method)


def test_an_answer() -> None:
    found = parse(head("Server: x", "Set-Cookie: a=1", "set-cookie: b=2", "Content-Length: 3"))
    assert (found.status, found.reason, found.minor, found.length, found.close) == (200, b"OK", 1, 3, False)
    assert sorted(found.headers) == sorted(
        [(b"Server", b"x"), (b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"Content-Length", b"3")]
    )
    cookies = [value for name, value in found.headers if name.lower() == b"set-cookie"]
    assert cookies == [b"a=1", b"b=2"]


def test_an_answer_does_not_end_the_parser_for_the_next() -> None:
    parser = ResponseParser()
    assert not parser.parse(head("Content-Length: 3", "Proxy-Connection: close"), "GET").close
    assert parser.parse(head("Content-Length: 3"), "GET").length == 3
    parser.parse(head("Content-Length: 3", "Proxy-Connection: close"), "GET")
    with pytest.raises(BadMessageError):
        parser.parse(head("X y"), "GET")


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        ("HTTP/1.1 200 OK", 200, b"OK"),
        ("HTTP/1.1 200 ", 200, b""),
        ("HTTP/1.1 200", 200, b""),
        ("HTTP/1.1 299 Not a\treal \xe9 one", 299, b"Not a\treal \xe9 one"),
        ("HTTP/1.0 404 Not Found", 404, b"Not Found"),
        ("HTTP/1.1 599 x", 599, b"x"),
    ],
)
def test_status_lines(line: str, status: int, reason: bytes) -> None:
    found = parse(head("Content-Length: 0", line=line))
    assert (found.status, found.reason) == (status, reason)


@pytest.mark.parametrize(
    "line",
    [
        "HTTP/1.1 99 x",
        "HTTP/1.1 600 x",
        "HTTP/1.1 999 x",
        "HTTP/1.1 000 x",
        "HTTP/1.1 20 x",
        "HTTP/1.1 2000 x",
        "HTTP/1.1 2x0 x",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1",
        "HTTP/2.0 200 OK",
        "HTTP/2 200",
        "HTTP/1.2 200 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "HTTP/1.1 200 O\x00K",
        "HTTP/1.1 200 O\x1bK",
        " HTTP/1.1 200 OK",
    ],
)
def test_status_lines_that_are_refused(line: str) -> None:
    with pytest.raises(BadMessageError):
        parse(head("Content-Length: 0", line=line))


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 3", "Transfer-Encoding: chunked"],
        ["Content-Length: 3", "Content-Length: 3"],
        ["Content-Length: 3", "Content-Length: 4"],
        *(
            [f"Content-Length: {value}"]
            for value in ["", "3, 3", "+3", "-3", "0x3", "3 3", "x", "99999999999999999999"]
        ),
        *(
            [f"Transfer-Encoding: {value}"]
            for value in ["", "gzip", "gzip, chunked", "chunked, chunked", "identity", "chunked;a=b"]
        ),
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Content_Length: 3"],
        ["Transfer_Encoding: chunked"],
        ["X: a", " folded"],
        ["X : a"],
        [": a"],
        ["X"],
        ["X: a\x00b"],
        ["X: a\rb"],
        ["X: a\nb"],
        ["X: a\x7f"],
        [f"X-{number}: a" for number in range(1001)],
    ],
)
def test_heads_that_are_refused(lines: list[str]) -> None:
    with pytest.raises(BadMessageError):
        parse(head(*lines))


def test_a_coding_in_an_http_1_0_answer() -> None:
    with pytest.raises(BadMessageError):
        parse(head("Transfer-Encoding: chunked", line="HTTP/1.0 200 OK"))


@pytest.mark.parametrize(
    ("method", "status", "lines", "length", "content_length"),
    [
        ("GET", 200, ["Content-Length: 3"], 3, 3),
        ("GET", 200, ["Transfer-Encoding: Chunked"], CHUNKED, None),
        ("GET", 200, [], UNTIL_CLOSE, None),
        ("HEAD", 200, ["Content-Length: 3"], 0, 3),
        ("HEAD", 200, ["Transfer-Encoding: chunked"], 0, None),
        ("HEAD", 200, [], 0, None),
        ("GET", 204, [], 0, None),
        ("GET", 204, ["Content-Length: 3"], 0, 3),
        ("GET", 304, ["Content-Length: 3"], 0, 3),
        ("GET", 304, [], 0, None),
        ("GET", 103, ["Link: a"], 0, None),
        ("GET", 205, [], UNTIL_CLOSE, None),
        ("GET", 205, ["Content-Length: 0"], 0, 0),
    ],
)
def test_where_the_body_ends(
    method: str, status: int, lines: list[str], length: int, content_length: int | None
) -> None:
    found = parse(head(*lines, line=f"HTTP/1.1 {status} x"), method)
    assert (found.length, found.content_length) == (length, content_length)
    assert found.close is (length == UNTIL_CLOSE)


@pytest.mark.parametrize(
    ("version", "connection", "close"),
    [
        ("1.1", "close", True),
        ("1.1", "keep-alive", False),
        ("1.0", "keep-alive", False),
        ("1.0", "x", True),
        ("1.1", "a, Close", True),
    ],
)
def test_whether_the_connection_stays(version: str, connection: str, close: bool) -> None:
    found = parse(head(f"Connection: {connection}", "Content-Length: 0", line=f"HTTP/{version} 200 OK"))
    assert found.close is close


def test_an_answer_without_length_ends_the_connection_whatever_it_says() -> None:
    assert parse(head("Connection: keep-alive")).close


def test_what_connection_names() -> None:
    assert parse(head("Connection: X-One, x_two, close", "Content-Length: 0")).dropped == {b"x-one", b"x-two"}


def test_a_parser_remembers_nothing() -> None:
    parser = ResponseParser()
    for data in [
        head("Content-Length: 3"),
        head("Connection: close", "Content-Length: 3"),
        head("Transfer-Encoding: chunked"),
        head("Connection: upgrade", "Upgrade: x", line="HTTP/1.1 101 Switching Protocols"),
        head(line="HTTP/1.0 200 OK"),
    ]:
        parser.parse(data, "GET")
        assert parser.parse(head("Content-Length: 2"), "GET").length == 2
        with pytest.raises(BadMessageError):
            parser.parse(head("X: \x00"), "GET")
