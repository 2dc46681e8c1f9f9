"""Chunked requests: what is not framed to the letter breaks off, and what goes on is framed anew (RFC 9112 section 7.1)."""

from __future__ import annotations

import pytest

from support.client import get
from support.corpus import Corpus, Forwarded, Refused

LAST = b"0\r\n\r\n"


def chunked(body: bytes) -> bytes:
    return get("/", "Transfer-Encoding: chunked", method="POST") + body


def refused(name: str, body: bytes, rfc: str = "9112 7.1", status: int = 400) -> list[Refused]:
    """In the first chunk, which comes with the head, and behind one that went upstream."""
    return [
        Refused(f"{name}, first", chunked(body), status, rfc, in_body=True),
        Refused(f"{name}, later", chunked(b"3\r\nabc\r\n" + body), status, rfc, in_body=True),
    ]


REFUSED = [
    *(
        row
        for size in [
            b"+5",
            b"-5",
            b"0x5",
            b"0X5",
            b"x5",
            b"5_0",
            b" 5",
            b"\t5",
            b"5 ",
            b"5\t",
            b"\x0b5",
            b"5.",
            b"5h",
            b"",
            b"g",
            b"\xb2",
            b"'5'",
            b"10000000000000005",
            b"ffffffffffffffff5",
            b"0" * 20 + b"5",
            b"0" * 5000 + b"5",
        ]
        for row in refused(f"size {size[:24]!r}", size + b"\r\nhello\r\n" + LAST)
    ),
    *(
        row
        for extension in [
            b";",
            b";;a",
            b";a;",
            b"; a",
            b" ;a",
            b";a =b",
            b";a= b",
            b";a=",
            b';a="b',
            b';a="b"c',
            b";a=b c",
            b";\xe9",
            b";a=\x00",
            b";a=b\nc",
            b";a\rb",
            b';a="\n"',
            b';a="\x00"',
            b";(",
            b",a",
            b";a=" + b"b" * 5000,
        ]
        for row in refused(
            f"extension {extension[:24]!r}", b"5" + extension + b"\r\nhello\r\n" + LAST, "9112 7.1.1"
        )
    ),
    *refused("extensions out of proportion", (b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 20 + LAST, "9112 7.1.1"),
    *refused("LF behind the size", b"5\nhello\r\n" + LAST),
    *refused("CR behind the size", b"5\rhello\r\n" + LAST),
    *refused("CR CR LF behind the size", b"5\r\r\nhello\r\n" + LAST),
    *refused("LF behind the data", b"5\r\nhello\n" + LAST),
    *refused("CR behind the data", b"5\r\nhello\r" + LAST),
    *refused("nothing behind the data", b"5\r\nhello" + LAST),
    *refused("data past the size", b"5\r\nhello!\r\n" + LAST),
    *refused("data short of the size", b"6\r\nhello\r\n" + LAST),
    *refused("an empty line before the size", b"\r\n5\r\nhello\r\n" + LAST),
    *refused("an empty line behind the data", b"5\r\nhello\r\n\r\n" + LAST),
    *refused("a request in the place of the last chunk", get("/smuggled")),
    *refused("a last chunk with LF", b"0\n\n"),
    *refused("LF behind the last chunk", b"0\r\n\n"),
    *(
        row
        for line in [
            b"X : 1",
            b" X: 1",
            b"X",
            b": 1",
            b"X y: 1",
            b"X: \x00",
            b"X: a\rb",
            b"X: a\nY: b",
            b"(: 1",
            b"\xe9: 1",
        ]
        for row in refused(f"trailer {line!r}", b"0\r\n" + line + b"\r\n\r\n", "9112 7.1.2")
    ),
    *refused("a folded trailer", b"0\r\nX: 1\r\n 2\r\n\r\n", "9112 5.2"),
    *refused("a trailer without end", b"0\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", "6585 5", 431),
    *refused("trailers without end", b"0\r\n" + b"X: a\r\n" * 4000 + b"\r\n", "6585 5", 431),
]


def forwarded(name: str, body: bytes, content: bytes = b"hello", rfc: str = "9112 7.1") -> Forwarded:
    lacks = ("content-length", "trailer", "x-t", "authorization")
    return Forwarded(
        name, chunked(body), b"POST / HTTP/1.1", rfc, (b"Transfer-Encoding: chunked",), lacks, content
    )


FORWARDED = [
    forwarded("a chunk", b"5\r\nhello\r\n" + LAST),
    forwarded("no chunk", LAST, b""),
    forwarded("several", b"2\r\nhe\r\n3\r\nllo\r\n" + LAST),
    forwarded("upper case", b"A\r\n0123456789\r\n" + LAST, b"0123456789"),
    forwarded("zeros before the size", b"0005\r\nhello\r\n000\r\n\r\n"),
    forwarded("extensions are dropped", b'5;a;b=c;d="e;\\"f"\r\nhello\r\n0;x\r\n\r\n', rfc="9112 7.1.1"),
    forwarded("data that looks like the end", b"5\r\n0\r\n\r\n\r\n" + LAST, b"0\r\n\r\n"),
    forwarded(
        "trailers are dropped",
        b"5\r\nhello\r\n0\r\nX-T: 1\r\nHost: evil\r\nAuthorization: a\r\nContent-Length: 9\r\n\r\n",
        rfc="9110 6.5.1",
    ),
]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name)
def test_refused(corpus: Corpus, row: Refused) -> None:
    corpus.refused(row)


@pytest.mark.parametrize("row", FORWARDED, ids=lambda row: row.name)
def test_forwarded(corpus: Corpus, row: Forwarded) -> None:
    corpus.forwarded(row)
