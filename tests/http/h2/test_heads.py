"""Heads between HTTP/2 fields and the objects that HTTP/1.1 gives."""

from __future__ import annotations

import pytest

from prox.config.model import Tuning
from prox.http.codec import fields
from prox.http.codec.errors import BadMessageError
from prox.http.codec.fields import Headers
from prox.http.codec.h2.errors import StreamError
from prox.http.codec.request import CHUNKED, RequestParser
from prox.http.h2 import heads
from prox.http.limits import Limits

PSEUDO: Headers = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"Test.example:8443"),
    (b":path", b"/a%20b?c=d"),
]


def limits(**values: object) -> Limits:
    return Limits(Tuning.model_validate(values))


def read(pairs: Headers, *, end: bool = True, **values: object) -> heads.Asked:
    return heads.read_request(pairs, limits(**values), end=end)


def test_a_request_is_what_http_1_1_would_make_of_it() -> None:
    asked = read(
        [
            *PSEUDO,
            (b"user-agent", b"test"),
            (b"x-forwarded-for", b"192.0.2.1"),
            (b"te", b"trailers"),
            (b"accept", b"*/*"),
            (b"x_forwarded_for", b"192.0.2.2"),
        ]
    )
    same = RequestParser().parse(
        b"GET /a%20b?c=d HTTP/1.1\r\nhost: Test.example:8443\r\nuser-agent: test\r\nx-forwarded-for: 192.0.2.1\r\n"
        b"te: trailers\r\naccept: */*\r\nx_forwarded_for: 192.0.2.2\r\n\r\n"
    )
    head = asked.head
    assert (head.method, head.request_target, head.minor) == (same.method, same.request_target, same.minor)
    assert (head.plain, head.special) == (same.plain, same.special)
    assert head.forwarded_for == same.forwarded_for == b"192.0.2.1"
    assert head.rare is not None
    assert head.rare.trailers
    assert head.headers == same.headers
    assert (asked.host, asked.authority) == ("test.example", b"Test.example:8443")
    assert (asked.target.path, asked.target.query) == ("/a b", b"c=d")
    assert head.length == same.length == 0


def test_crumbs_of_cookies_are_one_line() -> None:
    asked = read([*PSEUDO, (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2"), (b"cookie", b"c=3")])
    assert asked.head.plain == b"\r\ncookie: a=1; b=2; c=3\r\nx: y"


def test_host_stands_for_the_authority() -> None:
    pairs = [pair for pair in PSEUDO if pair[0] != b":authority"]
    asked = read([*pairs, (b"host", b"other.example")])
    assert asked.authority == asked.head.host_header == b"other.example"
    assert asked.head.special == [(b"host", b"other.example")]
    assert read([*PSEUDO, (b"host", b"Test.example:8443")]).head.special == [(b"host", b"Test.example:8443")]


def test_the_body() -> None:
    assert read([*PSEUDO], end=False).head.length == CHUNKED
    asked = read([*PSEUDO, (b"content-length", b"5")], end=False)
    assert (asked.length, asked.head.length, asked.head.has_length) == (5, 5, True)
    assert read([*PSEUDO, (b"content-length", b"0")]).head.has_length
    with pytest.raises(StreamError):
        read([*PSEUDO, (b"content-length", b"5")])


def test_options_and_connect() -> None:
    star = [(b":method", b"OPTIONS"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"*")]
    assert read(star).target.path == "*"
    asked = read([(b":method", b"CONNECT"), (b":authority", b"test.example:443")], end=False)
    assert (asked.head.method, asked.target.raw, asked.target.path) == ("CONNECT", b"test.example:443", "")
    assert asked.head.rare is not None
    assert not asked.head.rare.extended
    assert asked.head.length == 0


def test_extended_connect_is_an_upgrade() -> None:
    pairs: Headers = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *PSEUDO[1:]]
    asked = read(pairs, end=False)
    assert asked.head.method == "GET"
    assert asked.head.rare is not None
    assert (asked.head.rare.upgrade, asked.head.rare.extended) == (b"websocket", True)
    assert asked.target.path == "/a b"
    assert read(pairs, end=False).head.rare is not asked.head.rare


@pytest.mark.parametrize(
    ("pairs", "values", "status", "reason"),
    [
        ([*PSEUDO, (b"x", b"a" * 100)], {"max_header_bytes": 100}, 431, "header_size"),
        ([*PSEUDO, (b"x", b"a"), (b"y", b"b")], {"max_header_count": 2}, 431, "header_count"),
        ([*PSEUDO[:3], (b":path", b"/" + b"a" * 100)], {"max_target_bytes": 100}, 414, "target_size"),
        (
            [*PSEUDO[:3], (b":path", b"/" + b"a" * 200)],
            {"max_target_bytes": 100, "max_header_bytes": 150},
            414,
            "target_size",
        ),
        ([*PSEUDO, (b"content-length", b"6")], {"max_body_bytes": 5}, 413, "body_size"),
        ([(b":method", b"BREW"), *PSEUDO[1:]], {}, 501, "unknown_method"),
        ([*PSEUDO, (b"expect", b"the unexpected")], {}, 417, "expectation"),
    ],
)
def test_what_is_answered(pairs: Headers, values: dict[str, object], status: int, reason: str) -> None:
    with pytest.raises(BadMessageError) as caught:
        read(pairs, end=False, **values)
    assert (caught.value.status, caught.value.reason) == (status, reason)


def test_crumbs_count_once() -> None:
    crumbs: Headers = [(b"cookie", b"a=%d" % number) for number in range(50)]
    read([*PSEUDO, *crumbs], max_header_count=2)


MALFORMED: dict[str, Headers] = {
    "upper case": [*PSEUDO, (b"X-A", b"a")],
    "no name": [*PSEUDO, (b"", b"a")],
    "space in a name": [*PSEUDO, (b"a b", b"a")],
    "colon in a name": [*PSEUDO, (b"a:b", b"a")],
    "CR in a value": [*PSEUDO, (b"a", b"b\rc: d")],
    "LF in a value": [*PSEUDO, (b"a", b"b\nc: d")],
    "CRLF in a value": [*PSEUDO, (b"a", b"b\r\nc: d")],
    "NUL in a value": [*PSEUDO, (b"a", b"b\0")],
    "DEL in a value": [*PSEUDO, (b"a", b"b\x7f")],
    "blank before a value": [*PSEUDO, (b"a", b" b")],
    "tab behind a value": [*PSEUDO, (b"a", b"b\t")],
    "LF in a special value": [*PSEUDO, (b"x-forwarded-for", b"a\nb")],
    "LF in a crumb": [*PSEUDO, (b"cookie", b"a"), (b"cookie", b"b\r\nc: d")],
    "connection": [*PSEUDO, (b"connection", b"close")],
    "keep-alive": [*PSEUDO, (b"keep-alive", b"1")],
    "proxy-connection": [*PSEUDO, (b"proxy-connection", b"close")],
    "transfer-encoding": [*PSEUDO, (b"transfer-encoding", b"chunked")],
    "transfer_encoding": [*PSEUDO, (b"transfer_encoding", b"chunked")],
    "content_length": [*PSEUDO, (b"content_length", b"1")],
    "upgrade": [*PSEUDO, (b"upgrade", b"h2c")],
    "te": [*PSEUDO, (b"te", b"gzip")],
    "te twice over": [*PSEUDO, (b"te", b"trailers, gzip")],
    "two hosts": [*PSEUDO, (b"host", b"Test.example:8443"), (b"host", b"Test.example:8443")],
    "another host": [*PSEUDO, (b"host", b"other.example")],
    "bad host": [*[pair for pair in PSEUDO if pair[0] != b":authority"], (b"host", b"a/b")],
    "user in the authority": [*PSEUDO[:2], (b":authority", b"u@test.example"), PSEUDO[3]],
    "empty authority": [*PSEUDO[:2], (b":authority", b""), PSEUDO[3]],
    "no authority": [pair for pair in PSEUDO if pair[0] != b":authority"],
    "no method": PSEUDO[1:],
    "no scheme": [pair for pair in PSEUDO if pair[0] != b":scheme"],
    "no path": PSEUDO[:3],
    "empty path": [*PSEUDO[:3], (b":path", b"")],
    "an absolute URL": [*PSEUDO[:3], (b":path", b"http://test.example/")],
    "star": [*PSEUDO[:3], (b":path", b"*")],
    "space in the path": [*PSEUDO[:3], (b":path", b"/a b")],
    "CRLF in the path": [*PSEUDO[:3], (b":path", b"/ HTTP/1.1\r\na: b")],
    "fragment": [*PSEUDO[:3], (b":path", b"/#a")],
    "8 bit in the path": [*PSEUDO[:3], (b":path", b"/\xe9")],
    "path twice": [*PSEUDO, (b":path", b"/")],
    "method twice": [*PSEUDO, (b":method", b"GET")],
    "authority twice": [*PSEUDO, (b":authority", b"a")],
    "status": [*PSEUDO, (b":status", b"200")],
    "unknown": [*PSEUDO, (b":unknown", b"a")],
    "pseudo behind": [*PSEUDO[:3], (b"a", b"b"), PSEUDO[3]],
    "another scheme": [(b":method", b"GET"), (b":scheme", b"ftp"), *PSEUDO[2:]],
    "bad method": [(b":method", b"GE T"), *PSEUDO[1:]],
    "protocol without connect": [*PSEUDO, (b":protocol", b"websocket")],
    "connect with a path": [(b":method", b"CONNECT"), *PSEUDO[1:]],
    "connect without a port": [(b":method", b"CONNECT"), (b":authority", b"test.example")],
    "connect without a host": [(b":method", b"CONNECT"), (b":authority", b":443")],
    "connect with a length": [
        (b":method", b"CONNECT"),
        (b":authority", b"test.example:443"),
        (b"content-length", b"5"),
    ],
    "lengths": [*PSEUDO, (b"content-length", b"5"), (b"content-length", b"5")],
    "length list": [*PSEUDO, (b"content-length", b"5, 5")],
    "signed length": [*PSEUDO, (b"content-length", b"+5")],
    "hops": [*PSEUDO, (b"max-forwards", b"-1")],
    "trace": [(b":method", b"TRACE"), *PSEUDO[1:]],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed(name: str) -> None:
    for again in range(2):  # what is remembered must not let it pass
        with pytest.raises(StreamError):
            read(MALFORMED[name], end=False)
        if name != "trace":
            with pytest.raises(StreamError):
                read([*MALFORMED[name], (b"x-large", b"a" * 5000)], end=bool(again))


def test_what_the_log_is_told() -> None:
    assert heads.method_and_path([*PSEUDO, (b"A", b"b")]) == ("GET", "/a b")
    assert heads.method_and_path([(b":method", b"BREW"), *PSEUDO[1:]]) == ("", "")
    assert heads.method_and_path([]) == ("", "")


def test_trailers() -> None:
    assert heads.trailer_lines([(b"a", b"b"), (b"c", b"d")]) == b"\r\na: b\r\nc: d"
    for name, value in [(b":path", b"/"), (b"A", b"b"), (b"a", b"b\r\nc: d"), (b"connection", b"close")]:
        with pytest.raises(StreamError):
            heads.trailer_lines([(name, value)])


def test_answers() -> None:
    plain = b"\r\nServer: test\r\nSet-Cookie: a=1\r\nSet-Cookie:b=2 \r\nX-Empty: "
    said = [
        (b":status", b"404"),
        (b"server", b"test"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"x-empty", b""),
    ]
    assert heads.answer_fields(404, plain) == said
    heads.answer_fields(404, plain).append((b"a", b"b"))
    assert heads.answer_fields(404, plain) == said, "what is remembered was changed"
    assert heads.answer_fields(200, b"") == [(b":status", b"200")]
    assert heads.made_fields(200, [(b"X-A", b" a ")]) == [(b":status", b"200"), (b"x-a", b"a")]


def test_special_fields_are_those_of_http_1_1() -> None:
    asked = read([*PSEUDO, (b"proxy-authorization", b"secret"), (b"trailer", b"x"), (b"max-forwards", b"3")])
    kinds = [fields.kind(name) for name, _ in asked.head.special]
    assert kinds == [fields.HOST, fields.HOP_BY_HOP, fields.TRAILER, fields.MAX_FORWARDS]
    assert asked.head.plain == b""
