"""What httptools lets through, byte by byte: a new version that becomes lenient fails here."""

from __future__ import annotations

import pytest

from prox.http.codec.errors import BadMessageError
from prox.http.codec.request import RequestParser
from prox.http.codec.response import ResponseParser

DIGITS = frozenset(b"0123456789")
LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
TOKEN = DIGITS | LETTERS | frozenset(b"!#$%&'*+-.^_`|~")
VALUE = frozenset(range(256)) - frozenset(range(32)) - {0x7F} | {0x09}
VISIBLE = frozenset(range(0x21, 0x7F))
HOST = DIGITS | LETTERS | frozenset(b"!$&'()*+;=-._~")

# Each row: where in the head, a head with <> there, and every byte that may stand at <>.
REQUESTS = [
    ("before the method", b"<>GET / HTTP/1.1\r\nHost: a\r\n\r\n", b""),
    ("in the method", b"G<>T / HTTP/1.1\r\nHost: a\r\n\r\n", b"E"),
    ("behind the method", b"GET<>/ HTTP/1.1\r\nHost: a\r\n\r\n", b" "),
    ("behind the method's space", b"GET <>/ HTTP/1.1\r\nHost: a\r\n\r\n", b"*/"),
    ("in the path", b"GET /a<>b HTTP/1.1\r\nHost: a\r\n\r\n", VISIBLE - {ord("#")}),
    ("in the query", b"GET /?a<>b HTTP/1.1\r\nHost: a\r\n\r\n", VISIBLE - {ord("#")}),
    ("in a path with a colon", b"GET /a<>b:c HTTP/1.1\r\nHost: a\r\n\r\n", VISIBLE - {ord("#")}),
    ("behind a path with a colon", b"GET /a:b<> HTTP/1.1\r\nHost: a\r\n\r\n", VISIBLE - {ord("#")}),
    ("in the query with a colon", b"GET /?a<>b:c HTTP/1.1\r\nHost: a\r\n\r\n", VISIBLE - {ord("#")}),
    ("in a URL", b"GET http://a/<>b:c HTTP/1.1\r\nHost: a\r\n\r\n", VISIBLE - {ord("#")}),
    ("at the target's end", b"GET /<> HTTP/1.1\r\nHost: a\r\n\r\n", VISIBLE - {ord("#")}),
    ("before the version", b"GET / <>HTTP/1.1\r\nHost: a\r\n\r\n", b""),
    ("major version", b"GET / HTTP/<>.1\r\nHost: a\r\n\r\n", b"1"),
    ("minor version", b"GET / HTTP/1.<>\r\nHost: a\r\n\r\n", b"01"),
    ("behind the version", b"GET / HTTP/1.1<>\r\nHost: a\r\n\r\n", b""),
    ("CR of the request line", b"GET / HTTP/1.1<>\nHost: a\r\n\r\n", b"\r"),
    ("LF of the request line", b"GET / HTTP/1.1\r<>Host: a\r\n\r\n", b"\n"),
    ("before the first name", b"GET / HTTP/1.1\r\n<>Host: a\r\n\r\n", b""),
    ("at a name's start", b"GET / HTTP/1.1\r\nHost: a\r\n<>XY: a\r\n\r\n", TOKEN),
    ("in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX<>Y: a\r\n\r\n", TOKEN | {ord(":")}),
    ("at a name's end", b"GET / HTTP/1.1\r\nHost: a\r\nXY<>: a\r\n\r\n", TOKEN | {ord(":")}),
    ("in place of the colon", b"GET / HTTP/1.1\r\nHost: a\r\nXY<>a\r\n\r\n", b":"),
    ("at a value's start", b"GET / HTTP/1.1\r\nHost: a\r\nX: <>a\r\n\r\n", VALUE),
    ("in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a<>b\r\n\r\n", VALUE),
    ("at a value's end", b"GET / HTTP/1.1\r\nHost: a\r\nX: a<>\r\n\r\n", VALUE),
    ("as the whole value", b"GET / HTTP/1.1\r\nHost: a\r\nX:<>\r\n\r\n", VALUE),
    ("CR of a field", b"GET / HTTP/1.1\r\nHost: a\r\nX: a<>\nY: b\r\n\r\n", b"\r"),
    ("LF of a field", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r<>Y: b\r\n\r\n", b"\n"),
    ("CR of the last field", b"GET / HTTP/1.1\r\nHost: a<>\n\r\n", b"\r"),
    ("at the start of a last line", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n<>\r\n\r\n", b""),
    ("in the host", b"GET / HTTP/1.1\r\nHost: a<>b\r\n\r\n", HOST),
    ("in the port", b"GET / HTTP/1.1\r\nHost: a:<>\r\n\r\n", DIGITS | frozenset(b" \t")),
    ("behind a length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1<>\r\n\r\n", DIGITS | {0x20}),
    (
        "before a length",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:<>1\r\n\r\n",
        DIGITS | frozenset(b" \t"),
    ),
]

RESPONSES = [
    ("before the version", b"<>HTTP/1.1 200 OK\r\n\r\n", b""),
    ("major version", b"HTTP/<>.1 200 OK\r\n\r\n", b"1"),
    ("minor version", b"HTTP/1.<> 200 OK\r\n\r\n", b"01"),
    ("before the status", b"HTTP/1.1<>200 OK\r\n\r\n", b" "),
    ("first digit", b"HTTP/1.1 <>00 OK\r\n\r\n", b"12345"),
    ("last digit", b"HTTP/1.1 20<> OK\r\n\r\n", DIGITS),
    ("behind the status", b"HTTP/1.1 200<>OK\r\n\r\n", b" "),
    ("in the reason", b"HTTP/1.1 200 O<>K\r\n\r\n", VALUE),
    ("CR of the status line", b"HTTP/1.1 200 OK<>\nX: a\r\n\r\n", b"\r"),
    ("LF of the status line", b"HTTP/1.1 200 OK\r<>X: a\r\n\r\n", b"\n"),
    ("at a name's start", b"HTTP/1.1 200 OK\r\n<>XY: a\r\n\r\n", TOKEN),
    ("in a name", b"HTTP/1.1 200 OK\r\nX<>Y: a\r\n\r\n", TOKEN | {ord(":")}),
    ("at a name's end", b"HTTP/1.1 200 OK\r\nXY<>: a\r\n\r\n", TOKEN | {ord(":")}),
    ("in place of the colon", b"HTTP/1.1 200 OK\r\nXY<>a\r\n\r\n", b":"),
    ("at a value's start", b"HTTP/1.1 200 OK\r\nX: <>a\r\n\r\n", VALUE),
    ("in a value", b"HTTP/1.1 200 OK\r\nX: a<>b\r\n\r\n", VALUE),
    ("at a value's end", b"HTTP/1.1 200 OK\r\nX: a<>\r\n\r\n", VALUE),
    ("CR of a field", b"HTTP/1.1 200 OK\r\nX: a<>\nY: b\r\n\r\n", b"\r"),
    ("LF of a field", b"HTTP/1.1 200 OK\r\nX: a\r<>Y: b\r\n\r\n", b"\n"),
    ("at the start of a last line", b"HTTP/1.1 200 OK\r\nX: a\r\n<>\r\n\r\n", b""),
    ("in a length", b"HTTP/1.1 200 OK\r\nContent-Length: 1<>2\r\n\r\n", DIGITS),
]


def taken(template: bytes, parse: object) -> set[int]:
    """The bytes with which the head is not refused."""
    assert callable(parse)
    found = set()
    for value in range(256):
        try:
            parse(template.replace(b"<>", bytes([value])))
        except BadMessageError:
            continue
        found.add(value)
    return found


@pytest.mark.parametrize(
    ("template", "allowed"), [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS]
)
def test_bytes_of_a_request(template: bytes, allowed: frozenset[int] | bytes) -> None:
    parser = RequestParser()
    assert taken(template, parser.parse) == set(allowed)


@pytest.mark.parametrize(
    ("template", "allowed"), [row[1:] for row in RESPONSES], ids=[row[0] for row in RESPONSES]
)
def test_bytes_of_an_answer(template: bytes, allowed: frozenset[int] | bytes) -> None:
    parser = ResponseParser()
    assert taken(template, lambda head: parser.parse(head, "GET")) == set(allowed)
