"""Headers as hooks are shown them: read in one go, and yet what reading them one by one gives."""

from __future__ import annotations

import pytest

from prox.http.codec.request import RequestHead, RequestParser
from prox.proxy.hooks import first_values, shown_headers

NONE: frozenset[bytes] = frozenset()


def parsed(lines: bytes) -> RequestHead:
    return RequestParser().parse(b"GET / HTTP/1.1\r\nHost: a.test\r\n" + lines + b"\r\n")


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"x-user-id: 7\r\nAccept: */*\r\n",
        b"X-A:no blank\r\nX-B:\r\nX-C: \t two \r\nX-D: tab\t\r\nX-E: last \r\n",
        b"X-A: 1\r\nx-a: 2\r\nX-B: 3\r\n",
        "X-A: ü\r\nX-B: €\r\n".encode(),
        b"X-A: \xfc\r\nX-B: \xc3\xbc\r\n",
        b"X-A: a: b:c\r\nX_A: 2\r\n",
        b"Connection: close, x-b\r\nX-B: 1\r\nX-Forwarded-For: 192.0.2.1\r\nTE: trailers\r\n",
        b"X-User: root\r\nx_user: root\r\nX-A: 1\r\n",
        b"X-Long: " + b"x" * 20_000 + b"\r\nX-A: 1\r\n",
    ],
)
@pytest.mark.parametrize("hidden", [NONE, frozenset({b"x-user", b"x-forwarded-for"})])
def test_one_go_gives_the_same_as_one_by_one(lines: bytes, hidden: frozenset[bytes]) -> None:
    head = parsed(lines)
    assert shown_headers(head, hidden) == first_values(head.headers, hidden)


def test_names_are_canonical_and_first_values_count() -> None:
    assert shown_headers(parsed(b"x-USER-id: 1\r\nX-User-Id: 2\r\n"), NONE) == {"X-User-Id": "1"}


def test_host_and_hidden_names_are_not_shown() -> None:
    exchange = parsed(b"X-User: 1\r\nx_user: 2\r\nX-A: 3\r\n")
    assert shown_headers(exchange, frozenset({b"x-user"})) == {"X-A": "3"}
