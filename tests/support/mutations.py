"""Messages, and changes to them that go for what frames and separates: what the property tests are fed."""

from __future__ import annotations

from hypothesis import strategies as st

from support.client import get, post, post_chunked
from support.upstream import OK, answer

REQUESTS = [
    get("/a?b", "X-One: 1", "Connection: keep-alive, X-One"),
    get("/", "Cookie: a=b", "Empty:", "x-one:2", "Cookie: c=d"),
    get("/", method="HEAD"),
    post(b"hello world", "Expect: 100-continue"),
    post(b"GET /inner HTTP/1.1\r\nHost: a\r\n\r\n"),
    post(b"", method="PUT"),
    post_chunked(b"one", b"two"),
    post_chunked(b"0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: test.example\r\n\r\n"),
    post_chunked(),
    get("/", "Transfer-Encoding: chunked", "TE: trailers", method="POST")
    + b"3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n",
    get("http://test.example/", method="OPTIONS"),
    get("*", "Max-Forwards: 3", method="OPTIONS"),
    get(
        "/chat",
        "Connection: keep-alive, Upgrade",
        "Upgrade: h2c, websocket, other/1",
        "Sec-WebSocket-Key: abc",
    ),
    b"GET / HTTP/1.0\r\n\r\n",
    get("/", "Connection: close"),
    b"\r\n" + get("/after-an-empty-line"),
]

ANSWERS = [
    OK,
    answer(b"hello", b"Connection: close, X-A", b"X-A: 1", b"Set-Cookie: a"),
    b"HTTP/1.1 103 Hints\r\nLink: a\r\n\r\n" + OK,
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nT: 1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n5\r\nHTTP/\r\na\r\n0123456789\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\n",
    answer(b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
    b"",
]

Change = tuple[int, int, bytes]
"""Where, how many bytes go, and what comes in their place."""

SPLINTERS = [
    b"",
    b"\r",
    b"\n",
    b"\r\n",
    b"\x00",
    b" ",
    b":",
    b",",
    b";",
    b"_",
    b"\t",
    b"0",
    b"9",
    b"\xff",
    b"chunked",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"\r\nContent-Length: 3",
    b"\r\nTransfer-Encoding: chunked",
    b"\r\nContent_Length: 3",
    b"\r\nConnection: content-length, host, x-forwarded-for",
    b"\r\nConnection: close",
    b"\r\nHost: other.example",
    b"\r\nConnection: upgrade",
    b"\r\nX: ",
    b"\r\n x",
    b"GET / HTTP/1.1\r\nHost: test.example\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
]

changes = st.lists(
    st.tuples(st.integers(0, 10_000), st.integers(0, 3), st.sampled_from(SPLINTERS)), max_size=3
)
cuts = st.lists(st.integers(0, 10_000), max_size=4).map(tuple)


def changed(data: bytes, edits: list[Change]) -> bytes:
    for place, gone, put in edits:
        at = place % (len(data) + 1)
        data = data[:at] + put + data[at + gone :]
    return data
