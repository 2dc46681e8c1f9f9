"""Field sections that HTTP/2 carries and that mean no message, or another one in HTTP/1.1 (RFC 9113 section 8)."""

from __future__ import annotations

import h2.config
import h2.connection
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.http.codec.h2.errors import PROTOCOL_ERROR, StreamError
from prox.http.codec.h2.fields import UNKNOWN, request_fields, response_fields, trailer_fields
from support.h2_session import GET, Pairs

METHOD, SCHEME, AUTHORITY, PATH = GET
CONNECT = (b":method", b"CONNECT")
OPTIONS = (b":method", b"OPTIONS")
WEBSOCKET = (b":protocol", b"websocket")
A = (b"a", b"b")


def refused(pairs: Pairs, *, connect_protocol: bool = False) -> bool:
    with pytest.raises(StreamError) as caught:
        request_fields(pairs, connect_protocol=connect_protocol)
    return caught.value.code == PROTOCOL_ERROR


def test_a_request() -> None:
    request = request_fields(
        [
            METHOD,
            (b":path", b"/a?b"),
            AUTHORITY,
            SCHEME,
            A,
            (b"cookie", b"a=1"),
            (b"te", b"trailers"),
            (b"cookie", b"b=2"),
        ]
    )
    assert (request.method, request.scheme, request.authority) == (b"GET", b"http", b"a.example")
    assert (request.path, request.protocol, request.length) == (b"/a?b", b"", UNKNOWN)
    assert request.fields == [A, (b"cookie", b"a=1; b=2"), (b"te", b"trailers")]


def test_host_stands_in_for_authority() -> None:
    request = request_fields([METHOD, SCHEME, PATH, (b"host", b"b.example:80"), A])
    assert (request.authority, request.fields) == (b"b.example:80", [A])
    assert request_fields([*GET, (b"host", b"a.example")]).authority == b"a.example"
    assert request_fields([METHOD, SCHEME, PATH]).authority == b""


def test_length() -> None:
    request = request_fields([*GET, (b"content-length", b"12")])
    assert (request.length, request.fields) == (12, [(b"content-length", b"12")])


def test_other_forms() -> None:
    assert request_fields([OPTIONS, SCHEME, AUTHORITY, (b":path", b"*")]).path == b"*"
    tunnel = request_fields([CONNECT, (b":authority", b"b.example:443")])
    assert (tunnel.authority, tunnel.path, tunnel.scheme) == (b"b.example:443", b"", b"")
    socket = request_fields([CONNECT, WEBSOCKET, SCHEME, AUTHORITY, PATH], connect_protocol=True)
    assert (socket.protocol, socket.path) == (b"websocket", b"/")


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [A],
        # a pseudo-field is missing, comes twice, is unknown or late
        [SCHEME, AUTHORITY, PATH],
        [METHOD, AUTHORITY, PATH],
        [METHOD, SCHEME, AUTHORITY],
        [METHOD, *GET],
        [SCHEME, *GET],
        [AUTHORITY, *GET],
        [PATH, *GET],
        [*GET, A, PATH],
        [A, *GET],
        [(b":status", b"200"), *GET],
        [(b":unknown", b"x"), *GET],
        [(b":", b"x"), *GET],
        [WEBSOCKET, *GET],
        # their forms
        [(b":method", b""), SCHEME, AUTHORITY, PATH],
        [(b":method", b"GE T"), SCHEME, AUTHORITY, PATH],
        [(b":method", b"GET\r\n"), SCHEME, AUTHORITY, PATH],
        [METHOD, (b":scheme", b"ftp"), AUTHORITY, PATH],
        [METHOD, (b":scheme", b""), AUTHORITY, PATH],
        [METHOD, SCHEME, AUTHORITY, (b":path", b"")],
        [METHOD, SCHEME, AUTHORITY, (b":path", b"a")],
        [METHOD, SCHEME, AUTHORITY, (b":path", b"*")],
        [METHOD, SCHEME, AUTHORITY, (b":path", b"http://b/")],
        [METHOD, SCHEME, AUTHORITY, (b":path", b"/ HTTP/1.1\r\nX: y")],
        [METHOD, SCHEME, AUTHORITY, (b":path", b"/a b")],
        [METHOD, SCHEME, AUTHORITY, (b":path", b"/a\tb")],
        [METHOD, SCHEME, AUTHORITY, (b":path", b"/a#b")],
        [METHOD, SCHEME, AUTHORITY, (b":path", b"/\x00")],
        [METHOD, SCHEME, (b":authority", b"user@a.example"), PATH],
        [METHOD, SCHEME, (b":authority", b"a.example\r\nx: y"), PATH],
        [METHOD, SCHEME, (b":authority", b"a.example/x"), PATH],
        [METHOD, SCHEME, (b":authority", b"a b"), PATH],
        # Host
        [*GET, (b"host", b"b.example")],
        [*GET, (b"host", b"a.example:80")],
        [*GET, (b"host", b"a.example"), (b"host", b"a.example")],
        [METHOD, SCHEME, PATH, (b"host", b"a@b")],
        # CONNECT
        [CONNECT],
        [CONNECT, AUTHORITY],
        [CONNECT, (b":authority", b":443")],
        [CONNECT, (b":authority", b"a:0")],
        [CONNECT, (b":authority", b"a:65536")],
        [CONNECT, (b":authority", b"a:443"), SCHEME],
        [CONNECT, (b":authority", b"a:443"), PATH],
        [CONNECT, SCHEME, AUTHORITY, PATH],
    ],
)
def test_malformed_requests(pairs: Pairs) -> None:
    assert refused(pairs)


@pytest.mark.parametrize(
    "pairs",
    [
        [METHOD, WEBSOCKET, SCHEME, AUTHORITY, PATH],
        [CONNECT, WEBSOCKET, AUTHORITY, PATH],
        [CONNECT, WEBSOCKET, SCHEME, AUTHORITY],
        [CONNECT, WEBSOCKET, SCHEME, PATH],
        [CONNECT, WEBSOCKET, WEBSOCKET, SCHEME, AUTHORITY, PATH],
        [CONNECT, (b":protocol", b"a b"), SCHEME, AUTHORITY, PATH],
        [CONNECT, (b":protocol", b""), SCHEME, AUTHORITY, PATH],
    ],
)
def test_malformed_extended_connect(pairs: Pairs) -> None:
    assert refused(pairs, connect_protocol=True)


def test_extended_connect_must_be_announced() -> None:
    assert refused([CONNECT, WEBSOCKET, SCHEME, AUTHORITY, PATH])


BAD_FIELDS = [
    (b"", b"x"),
    (b"A", b"x"),
    (b"x-Upper", b"x"),
    (b"a b", b"x"),
    (b"a:b", b"x"),
    (b"a\r\nb", b"x"),
    (b"a\x00", b"x"),
    (b"a\x7f", b"x"),
    (b"\xc3\xa4", b"x"),
    (b":path", b"/"),
    (b"a", b"x\r\ny: z"),
    (b"a", b"x\ry"),
    (b"a", b"x\ny"),
    (b"a", b"\x00"),
    (b"a", b"x\x01"),
    (b"a", b"x\x7fy"),
    (b"a", b" x"),
    (b"a", b"x "),
    (b"a", b"\tx"),
    (b"a", b"x\t"),
    (b"connection", b"close"),
    (b"keep-alive", b"timeout=5"),
    (b"proxy-connection", b"keep-alive"),
    (b"transfer-encoding", b"chunked"),
    (b"upgrade", b"h2c"),
    (b"te", b"gzip"),
    (b"te", b"trailers, gzip"),
    (b"te", b""),
    (b"content_length", b"5"),
    (b"transfer_encoding", b"chunked"),
    (b"content-length", b"+5"),
    (b"content-length", b"5, 5"),
    (b"content-length", b" 5"),
    (b"content-length", b"5 "),
    (b"content-length", b""),
    (b"content-length", b"0x5"),
    (b"content-length", b"9" * 19),
]


@pytest.mark.parametrize("field", BAD_FIELDS, ids=repr)
def test_malformed_fields(field: tuple[bytes, bytes]) -> None:
    assert refused([*GET, field])
    assert refused([*GET, (b"first", b"x"), field, (b"last", b"x")])
    with pytest.raises(StreamError):
        response_fields([(b":status", b"200"), field])
    if field[0] != b"content-length":
        with pytest.raises(StreamError):
            trailer_fields([field])


def test_two_lengths() -> None:
    twice = [(b"content-length", b"5")] * 2
    assert refused([*GET, *twice])
    with pytest.raises(StreamError):
        response_fields([(b":status", b"200"), *twice])


def test_cookies_are_checked_as_one() -> None:
    assert refused([*GET, (b"cookie", b"a=1"), (b"cookie", b"b\r\n")])
    assert request_fields([*GET, (b"cookie", b"a")]).fields == [(b"cookie", b"a")]


def test_too_many_fields() -> None:
    assert refused([*GET, *[A] * 1001])
    assert len(request_fields([*GET, *[A] * 1000]).fields) == 1000


def test_8_bit_values_are_values() -> None:
    assert request_fields([*GET, (b"a", b"\xe4\t\xff")]).fields == [(b"a", b"\xe4\t\xff")]


def test_an_answer() -> None:
    answer = response_fields([(b":status", b"200"), A, (b"content-length", b"3")])
    assert (answer.status, answer.length, answer.fields) == (200, 3, [A, (b"content-length", b"3")])
    assert response_fields([(b":status", b"103")]).length == UNKNOWN


@pytest.mark.parametrize(
    "status", [b"", b"20", b"2000", b"099", b"600", b"101", b"2x0", b" 200", b"+20", b"\xb2\xb2\xb2"]
)
def test_malformed_statuses(status: bytes) -> None:
    with pytest.raises(StreamError):
        response_fields([(b":status", status)])


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [A],
        [A, (b":status", b"200")],
        [(b":status", b"200")] * 2,
        [(b":status", b"200"), (b":path", b"/")],
    ],
)
def test_malformed_answers(pairs: Pairs) -> None:
    with pytest.raises(StreamError):
        response_fields(pairs)


def test_trailers() -> None:
    assert trailer_fields([A]) == [A]
    assert trailer_fields([]) == []
    with pytest.raises(StreamError):
        trailer_fields([(b":status", b"200")])


PIECES = st.sampled_from(
    [
        METHOD,
        CONNECT,
        SCHEME,
        AUTHORITY,
        PATH,
        A,
        (b"host", b"a.example"),
        (b"cookie", b"a"),
        (b"te", b"trailers"),
        *BAD_FIELDS,
    ]
)


@given(st.lists(PIECES, max_size=8))
def test_what_we_take_another_takes(pairs: Pairs) -> None:
    """`h2` is less strict; what it refuses we refuse."""
    try:
        request_fields(pairs)
    except StreamError:
        return
    if CONNECT in pairs:
        return  # h2 knows no CONNECT
    config = h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    client = h2.connection.H2Connection(config)
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    client.initiate_connection()
    client.send_headers(1, pairs, end_stream=False)
    server.receive_data(client.data_to_send())
