"""Upstreams' answers: what is not HTTP is 502, what breaks off shows, and neither connection is used again (RFC 9112 8)."""

from __future__ import annotations

import pytest

from support.corpus import Answered, Corpus

STATUS = b"HTTP/1.1 200 OK\r\n"
CHUNKED = STATUS + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH = STATUS + b"Content-Length: 2\r\n\r\n"
WHOLE = LENGTH + b"ok"


def bad(name: str, data: bytes, rfc: str) -> Answered:
    return Answered(name, data, 502, rfc)


def framed(*lines: bytes) -> bytes:
    return STATUS + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + b"2\r\nok\r\n0\r\n\r\n"


BAD = [
    *(
        bad(f"line {line!r}", line + b"\r\nContent-Length: 2\r\n\r\nok", "9112 4")
        for line in [
            b"HTTP/2.0 200 OK",
            b"HTTP/0.9 200 OK",
            b"HTTP/1.2 200 OK",
            b"HTTP/1 200 OK",
            b"HTTP/11 200 OK",
            b"http/1.1 200 OK",
            b"HTTP/1.1",
            b"HTTP/1.1 ",
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1 099 x",
            b"HTTP/1.1 600 x",
            b"HTTP/1.1 999 x",
            b"HTTP/1.1 2x0 OK",
            b"HTTP/1.1 +20 OK",
            b"HTTP/1.1 -20 OK",
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1\t200 OK",
            b"HTTP/1.1 200OK",
            b"HTTP/1.1 200\tOK",
            b" HTTP/1.1 200 OK",
            b"HTTP/1.1 200 O\x00K",
            b"HTTP/1.1 200 O\x1bK",
            b"HTTP/1.1 200 O\x7fK",
            b"HTTP/1.1 200 O\rK",
            b"ICY 200 OK",
            b"200 OK",
            b"GET / HTTP/1.1",
        ]
    ),
    bad("HTTP/0.9", b"<html>hello</html>\r\n\r\n", "9112 2.3"),
    bad("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "9112 2.3"),
    bad("empty lines first", b"\r\n\r\n" + WHOLE, "9112 4"),
    bad("LF as line ends", WHOLE.replace(b"\r\n", b"\n"), "9112 2.2"),
    bad("LF behind the status line", WHOLE.replace(b"\r\n", b"\n", 1), "9112 2.2"),
    bad("CR behind the status line", WHOLE.replace(b"\r\n", b"\r", 1), "9112 2.2"),
    *(
        bad(f"field {line!r}", STATUS + b"Content-Length: 2\r\n" + line + b"\r\n\r\nok", rfc)
        for line, rfc in [
            (b"X : a", "9112 5.1"),
            (b"X\t: a", "9112 5.1"),
            (b": a", "9110 5.1"),
            (b"X", "9112 5"),
            (b"X y: a", "9110 5.1"),
            (b"(: a", "9110 5.1"),
            (b"\xe9: a", "9110 5.1"),
            (b"X\x00: a", "9110 5.1"),
            (b"X: a\x00", "9110 5.5"),
            (b"X: a\x0b", "9110 5.5"),
            (b"X: \x1b[0m", "9110 5.5"),
            (b"X: a\x7f", "9110 5.5"),
            (b"X: a\rb", "9112 2.2"),
            (b"X: a\nSet-Cookie: b", "9112 2.2"),
            (b"X: a\r\n b", "9112 5.2"),
            (b"X: a\r\n\tb", "9112 5.2"),
            (b"X: a\r\n ", "9112 5.2"),
            (b"X: a\r", "9112 2.2"),
        ]
    ),
    *(
        bad(f"length {value!r}", STATUS + b"Content-Length:" + value + b"\r\n\r\nok", "9112 6.3")
        for value in [
            b"",
            b" ",
            b" 2, 2",
            b" 2, 3",
            b" 2,",
            b" +2",
            b" -2",
            b" 0x2",
            b" 2_0",
            b" 2 0",
            b" 2.0",
            b" two",
            b" \xb2",
            b" " + b"9" * 19,
            b" 2;a",
        ]
    ),
    bad("two lengths that differ", STATUS + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", "9112 6.3"),
    bad("the same length twice", STATUS + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", "9112 6.3"),
    bad("Content_Length", STATUS + b"Content_Length: 2\r\n\r\nok", "9112 6.3"),
    bad("Transfer_Encoding", framed(b"Transfer_Encoding: chunked"), "9112 6.3"),
    bad("length and coding", framed(b"Content-Length: 2", b"Transfer-Encoding: chunked"), "9112 6.3"),
    bad("coding and length", framed(b"Transfer-Encoding: chunked", b"Content-Length: 12"), "9112 6.3"),
    *(
        bad(f"coding {value!r}", framed(b"Transfer-Encoding:" + value), "9112 6.1")
        for value in [
            b"",
            b" ",
            b" gzip",
            b" identity",
            b" gzip, chunked",
            b" chunked, gzip",
            b" chunked, chunked",
            b" chunked,",
            b" ,chunked",
            b" chunked;a=b",
            b" xchunked",
            b" chunkedx",
            b' "chunked"',
        ]
    ),
    bad("coding twice", framed(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), "9112 6.1"),
    bad(
        "coding on HTTP/1.0",
        framed(b"Transfer-Encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0"),
        "9112 6.1",
    ),
    bad(
        "an unasked 101",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        "9110 15.2.2",
    ),
    bad("too many interim answers", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 33 + WHOLE, "9110 15.2"),
    bad("a broken interim answer", b"HTTP/1.1 103 Early Hints\r\nX : a\r\n\r\n" + WHOLE, "9112 5.1"),
    bad("a head without end", STATUS + b"X: " + b"a" * 300_000, "6585 5"),
    bad("too many fields", STATUS + b"X: a\r\n" * 1001 + b"\r\n", "6585 5"),
    *(
        Answered(f"nothing but {data!r}", data, 502, "9112 8", closes=True)
        for data in [
            b"H",
            b"HTTP/1.1 200",
            STATUS,
            STATUS + b"Content-Length: 2\r\n",
            b"HTTP/1.1 103 Early Hints\r\n\r\n",
            b"\r\n",
        ]
    ),
]

CUT = [
    Answered("short of its length", LENGTH + b"o", "cut", "9112 8", closes=True),
    Answered("nothing of its length", LENGTH, "cut", "9112 8", closes=True),
    *(
        Answered(f"chunks that end with {body!r}", CHUNKED + body, "cut", "9112 8", closes=True)
        for body in [
            b"",
            b"2",
            b"2\r\n",
            b"2\r\no",
            b"2\r\nok",
            b"2\r\nok\r\n",
            b"2\r\nok\r\n0",
            b"2\r\nok\r\n0\r\n",
            b"2\r\nok\r\n0\r\nX: a\r\n",
            b"2\r\nok\r\n0\r\n\r",
        ]
    ),
    *(
        Answered(f"chunks with {body[:24]!r}", CHUNKED + body, "cut", "9112 7.1")
        for body in [
            b"x\r\nok\r\n0\r\n\r\n",
            b"+2\r\nok\r\n0\r\n\r\n",
            b"0x2\r\nok\r\n0\r\n\r\n",
            b" 2\r\nok\r\n0\r\n\r\n",
            b"2 \r\nok\r\n0\r\n\r\n",
            b"2\nok\r\n0\r\n\r\n",
            b"2\r\nok\n0\r\n\r\n",
            b"2\r\nokay\r\n0\r\n\r\n",
            b"2\r\nok0\r\n\r\n",
            b"2;\r\nok\r\n0\r\n\r\n",
            b"2;a=\nb\r\nok\r\n0\r\n\r\n",
            b"ffffffffffffffff2\r\nok\r\n0\r\n\r\n",
            b"2;" + b"a" * 5000 + b"\r\nok\r\n0\r\n\r\n",
            b"2\r\nok\r\n0\r\nX : a\r\n\r\n",
            b"2\r\nok\r\n0\r\nX: a\x00\r\n\r\n",
            b"2\r\nok\r\n0\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
            b"2\r\nok\r\n0\n\n",
            b"\r\n2\r\nok\r\n0\r\n\r\n",
            WHOLE,
        ]
    ),
]

SURPLUS = [
    Answered("bytes behind a body", WHOLE + b"x", b"ok", "9112 9.2"),
    Answered("CRLF behind a body", WHOLE + b"\r\n", b"ok", "9112 9.2"),
    Answered("a second answer", WHOLE + WHOLE, b"ok", "9112 9.2"),
    Answered("bytes behind no body", STATUS + b"Content-Length: 0\r\n\r\nx", b"", "9112 9.2"),
    Answered("bytes behind chunks", CHUNKED + b"2\r\nok\r\n0\r\n\r\nx", b"ok", "9112 9.2"),
    Answered("bytes behind 204", b"HTTP/1.1 204 No Content\r\n\r\nx", b"", "9112 6.3"),
    Answered("content of 304", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok", b"", "9112 6.3"),
    Answered(
        "chunks of 304",
        b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"",
        "9112 6.3",
    ),
    Answered("content of HEAD", WHOLE, b"", "9112 6.3", method="HEAD"),
]

WHOLE_ONES = [
    Answered("by length", WHOLE, b"ok", "9112 6.3", kept=True),
    Answered(
        "zeros before the length", STATUS + b"Content-Length: 002\r\n\r\nok", b"ok", "9110 8.6", kept=True
    ),
    Answered("no reason", b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", b"ok", "9112 4", kept=True),
    Answered(
        "no blank before no reason",
        b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
        b"ok",
        "9112 4",
        kept=True,
    ),
    Answered("chunks", CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n", b"ok", "9112 7.1", kept=True),
    Answered(
        "chunks with extensions and trailers",
        CHUNKED + b'2;a="b"\r\nok\r\n0;c\r\nX: a\r\nContent-Length: 9\r\n\r\n',
        b"ok",
        "9112 7.1.1",
        kept=True,
    ),
    Answered("until the end", STATUS + b"\r\nok", b"ok", "9112 6.3", closes=True),
    Answered("until the end, on HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\nok", b"ok", "9112 6.3", closes=True),
    Answered("HTTP/1.0 by length", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", "9112 9.3"),
    Answered(
        "HTTP/1.0 that stays",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
        b"ok",
        "9112 9.3",
        kept=True,
    ),
    Answered(
        "one that says close",
        STATUS + b"Content-Length: 2\r\nConnection: x, Close\r\n\r\nok",
        b"ok",
        "9112 9.6",
    ),
    Answered("behind 100", b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE, b"ok", "9110 15.2.1", kept=True),
    Answered(
        "behind 102 and 103",
        b"HTTP/1.1 102 x\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\nContent-Length: 9\r\n\r\n" + WHOLE,
        b"ok",
        "9110 15.2",
        kept=True,
    ),
    Answered("204", b"HTTP/1.1 204 No Content\r\n\r\n", 204, "9110 15.3.5", kept=True),
    Answered(
        "204 with a length",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        204,
        "9110 8.6",
        kept=True,
    ),
    Answered(
        "205", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", 205, "9110 15.3.6", kept=True
    ),
    Answered(
        "304 with a length",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        304,
        "9110 8.6",
        kept=True,
    ),
    Answered(
        "an unknown status", b"HTTP/1.1 299 x\r\nContent-Length: 2\r\n\r\nok", 299, "9110 15", kept=True
    ),
    Answered(
        "HEAD with a length",
        STATUS + b"Content-Length: 9\r\n\r\n",
        200,
        "9110 9.3.2",
        kept=True,
        method="HEAD",
    ),
    Answered("HEAD with a coding", CHUNKED, 200, "9110 9.3.2", kept=True, method="HEAD"),
    Answered("HEAD with neither", STATUS + b"\r\n", 200, "9110 9.3.2", kept=True, method="HEAD"),
]


@pytest.mark.parametrize("row", [*BAD, *CUT, *SURPLUS, *WHOLE_ONES], ids=lambda row: row.name)
def test_answer(corpus: Corpus, row: Answered) -> None:
    corpus.answered(row)
