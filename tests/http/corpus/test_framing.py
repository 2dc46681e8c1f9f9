"""Requests of which two readers could disagree where they end."""

from __future__ import annotations

import pytest

from support.client import get
from support.corpus import Corpus, Forwarded, Refused

CHUNKED = "Transfer-Encoding: chunked"
BODY = b"5\r\nhello\r\n0\r\n\r\n"


def sent(*headers: str, body: bytes = b"hello", version: str = "1.1") -> bytes:
    return get("/", *headers, method="POST").replace(b"HTTP/1.1", f"HTTP/{version}".encode()) + body


LENGTHS = [
    "5, 6",
    "5, 5",
    "5,",
    ",5",
    "+5",
    "-5",
    "-0",
    "0x5",
    "5_0",
    "5 0",
    "5\t0",
    "",
    " ",
    "5.0",
    "5e0",
    "five",
    "\xb2",
    "5;",
    '"5"',
    "18446744073709551621",
    "9" * 19,
    "9" * 400,
]
CODINGS = [
    "",
    " ",
    "identity",
    "chunked, chunked",
    "chunked,",
    ",chunked",
    ", chunked",
    "chunked;q=1",
    "chunked; a=b",
    "identity, chunked",
    "chunked, identity",
    '"chunked"',
    "chun ked",
    "chunked\xa0",
    "chunked;",
    "=chunked",
]

REFUSED = [
    Refused("length and coding", sent("Content-Length: 5", CHUNKED, body=BODY), 400, "9112 6.1"),
    Refused("coding and length", sent(CHUNKED, "Content-Length: 5", body=BODY), 400, "9112 6.1"),
    Refused("coding and a length of 0", sent(CHUNKED, "Content-Length: 0", body=BODY), 400, "9112 6.1"),
    Refused("lengths that differ", sent("Content-Length: 5", "Content-Length: 6"), 400, "9112 6.3"),
    Refused(
        "lengths that differ by a zero", sent("Content-Length: 5", "Content-Length: 05"), 400, "9112 6.3"
    ),
    Refused("the same length twice", sent("Content-Length: 5", "content-length: 5"), 400, "9112 6.3"),
    *(Refused(f"length {value!r}", sent(f"Content-Length: {value}"), 400, "9110 8.6") for value in LENGTHS),
    Refused("length behind a vertical tab", sent("Content-Length: \x0b5"), 400, "9110 5.5"),
    Refused("length behind a form feed", sent("Content-Length: 5\x0c"), 400, "9110 5.5"),
    *(
        Refused(f"coding {value!r}", sent(f"Transfer-Encoding: {value}", body=BODY), 400, "9112 6.1")
        for value in CODINGS
    ),
    Refused(
        "coding behind a vertical tab", sent("Transfer-Encoding: \x0bchunked", body=BODY), 400, "9110 5.5"
    ),
    Refused("coding twice", sent(CHUNKED, CHUNKED, body=BODY), 400, "9112 6.1"),
    Refused(
        "coding twice, the last is none",
        sent(CHUNKED, "Transfer-Encoding: identity", body=BODY),
        400,
        "9112 6.1",
    ),
    Refused("coding on HTTP/1.0", sent(CHUNKED, body=BODY, version="1.0"), 400, "9112 6.1"),
    *(
        Refused(f"unknown coding {value!r}", sent(f"Transfer-Encoding: {value}", body=BODY), 501, "9112 6.1")
        for value in [
            "gzip",
            "gzip, chunked",
            "chunked, gzip",
            "x-chunked",
            "chunkedd",
            "xchunked",
            "cow",
            "gzip;q=1",
        ]
    ),
    Refused(
        "unknown coding in a second line", sent(CHUNKED, "Transfer-Encoding: cow", body=BODY), 501, "9112 6.1"
    ),
    *(
        Refused(f"name {name}", sent(f"{name}: 5"), 400, "9110 8.6")
        for name in ["Content_Length", "content_LENGTH", "CONTENT_LENGTH"]
    ),
    Refused("name Transfer_Encoding", sent("Transfer_Encoding: chunked", body=BODY), 400, "9112 6.1"),
    Refused(
        "a length beside its spelling with _", sent("Content-Length: 5", "Content_Length: 6"), 400, "9112 6.3"
    ),
    Refused("space before the colon of a length", sent("Content-Length : 5"), 400, "9112 5.1"),
    Refused(
        "tab before the colon of a coding", sent("Transfer-Encoding\t: chunked", body=BODY), 400, "9112 5.1"
    ),
    Refused("space before a coding", sent("X: a", " Transfer-Encoding: chunked", body=BODY), 400, "9112 5.2"),
    Refused("folded length", sent("Content-Length:", " 5"), 400, "9112 5.2"),
    Refused("folded coding", sent("Transfer-Encoding:", "\tchunked", body=BODY), 400, "9112 5.2"),
    Refused("coding behind a bare CR", sent("X: a\rTransfer-Encoding: chunked", body=BODY), 400, "9112 2.2"),
    Refused("coding behind a bare LF", sent("X: a\nTransfer-Encoding: chunked", body=BODY), 400, "9112 2.2"),
    Refused("coding behind NUL", sent("X: a\x00Transfer-Encoding: chunked", body=BODY), 400, "9110 5.5"),
    Refused(
        "TRACE with content", get("/", "Content-Length: 5", method="TRACE") + b"hello", 400, "9110 9.3.8"
    ),
]

FORWARDED = [
    Forwarded(
        "a length",
        sent("Content-Length: 5"),
        b"POST / HTTP/1.1",
        "9112 6.3",
        (b"Content-Length: 5",),
        ("transfer-encoding",),
        b"hello",
    ),
    Forwarded(
        "zeros before it",
        sent("Content-Length: 0005"),
        b"POST / HTTP/1.1",
        "9110 8.6",
        (b"Content-Length: 5",),
        (),
        b"hello",
    ),
    Forwarded(
        "blanks around it",
        sent("Content-Length: \t 5 "),
        b"POST / HTTP/1.1",
        "9110 5.5",
        (b"Content-Length: 5",),
        (),
        b"hello",
    ),
    Forwarded(
        "its name in any case",
        sent("CONTENT-length:5"),
        b"POST / HTTP/1.1",
        "9110 5.1",
        (b"Content-Length: 5",),
        (),
        b"hello",
    ),
    Forwarded(
        "a length of 0",
        sent("Content-Length: 0", body=b""),
        b"POST / HTTP/1.1",
        "9110 8.6",
        (b"Content-Length: 0",),
    ),
    Forwarded(
        "none at all",
        sent(body=b""),
        b"POST / HTTP/1.1",
        "9112 6.3",
        (),
        ("content-length", "transfer-encoding"),
    ),
    Forwarded(
        "content of a GET",
        get("/", "Content-Length: 5") + b"hello",
        b"GET / HTTP/1.1",
        "9110 9.3.1",
        (b"Content-Length: 5",),
        (),
        b"hello",
    ),
    Forwarded(
        "chunks",
        sent(CHUNKED, body=BODY),
        b"POST / HTTP/1.1",
        "9112 7.1",
        (b"Transfer-Encoding: chunked",),
        ("content-length",),
        b"hello",
    ),
    Forwarded(
        "chunks in any case",
        sent("transfer-ENCODING: ChunKed", body=BODY),
        b"POST / HTTP/1.1",
        "9112 7",
        (b"Transfer-Encoding: chunked",),
        (),
        b"hello",
    ),
    Forwarded(
        "a request as content",
        sent("Content-Length: 40", body=get("/", host="a").ljust(40)),
        b"POST / HTTP/1.1",
        "9112 6",
        (),
        (),
        get("/", host="a").ljust(40),
    ),
    Forwarded(
        "a length on HTTP/1.0",
        sent("Content-Length: 5", version="1.0"),
        b"POST / HTTP/1.1",
        "9112 6.3",
        (b"Content-Length: 5",),
        (),
        b"hello",
    ),
]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name)
def test_refused(corpus: Corpus, row: Refused) -> None:
    corpus.refused(row)


@pytest.mark.parametrize("row", FORWARDED, ids=lambda row: row.name)
def test_forwarded(corpus: Corpus, row: Forwarded) -> None:
    corpus.forwarded(row)
