from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.http.codec.body import ChunkedDecoder, last_chunk
from prox.http.codec.trailers import announced, passed_on

# RFC 9110 section 6.5.1: what frames, routes, changes a request, authenticates, controls an answer, frames content.
NEVER = [
    "Content-Length",
    "Transfer-Encoding",
    "content_length",
    "Host",
    "Connection",
    "Keep-Alive",
    "Upgrade",
    "TE",
    "Trailer",
    "Expect",
    "Max-Forwards",
    "Max_Forwards",
    "Cache-Control",
    "Range",
    "If-None-Match",
    "If-Range",
    "Authorization",
    "AUTHORIZATION",
    "Proxy-Authorization",
    "Proxy-Authenticate",
    "WWW-Authenticate",
    "Cookie",
    "Set-Cookie",
    "set_cookie",
    "Date",
    "Location",
    "Vary",
    "Content-Type",
    "Content-Encoding",
    "Content-Range",
    "X-Forwarded-For",
    "x_forwarded_host",
    "X-Forwarded-Port",
    "Forwarded",
    "Via",
    "X-Real-IP",
]


@pytest.mark.parametrize("name", NEVER)
def test_fields_that_never_go_on(name: str) -> None:
    line = f"\r\n{name}: x".encode()
    assert passed_on(b"\r\nX-A: 1" + line + b"\r\nX-B: 2", frozenset()) == b"\r\nX-A: 1\r\nX-B: 2"
    assert announced(b"X-A, %b,X-B" % name.encode(), frozenset()) == b"X-A, X-B"


def test_fields_that_go_on_as_they_came() -> None:
    lines = b"\r\ngrpc-status: 0\r\nX-Sum:1\r\nX-Sum: \xe9 \r\nServer-Timing:"
    assert passed_on(lines, frozenset()) == lines
    assert passed_on(b"", frozenset()) == b""


def test_fields_that_are_unwanted() -> None:
    unwanted = frozenset({b"x-user-id"})
    assert passed_on(b"\r\nX-User-Id: 1\r\nx_user_id: 2\r\nX-A: 3", unwanted) == b"\r\nX-A: 3"
    assert announced(b"x_user_id, X-A", unwanted) == b"X-A"


@pytest.mark.parametrize(
    ("value", "expected"), [(b"", b""), (b",", b""), (b"a b, c", b"c"), (b" a ,\tb", b"a, b"), (b"a:b", b"")]
)
def test_names_that_are_announced(value: bytes, expected: bytes) -> None:
    assert announced(value, frozenset()) == expected


@given(st.lists(st.sampled_from([b"X-A: 1", b"x-b:", b"Host: evil", b"X-User: 2"]), max_size=6), st.data())
def test_a_decoder_keeps_them_apart(lines: list[bytes], data: st.DataObject) -> None:
    encoded = b"3\r\nabc\r\n" + last_chunk(b"".join(b"\r\n" + line for line in lines))
    decoder = ChunkedDecoder()
    cut = data.draw(st.integers(min_value=0, max_value=len(encoded)))
    assert decoder.feed(encoded[:cut]) + (b"" if decoder.done else decoder.feed(encoded[cut:])) == b"abc"
    assert decoder.done
    assert decoder.trailers == b"".join(b"\r\n" + line for line in lines)
