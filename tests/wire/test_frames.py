"""Calls and results: what readers accept from other writers, and what they refuse."""

from __future__ import annotations

import contextlib
import math
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.wire import (
    AuthorizeResult,
    ConnInfo,
    ConnResult,
    DecodeError,
    DisconnectInfo,
    EncodeError,
    FrameTooLarge,
    HookType,
    Payload,
    RequestInfo,
    ResponseModResult,
    ResponsePair,
    Result,
    Speed,
    UpstreamResponseInfo,
    decode_authorize,
    decode_call,
    decode_result,
    encode_result,
    marshal_envelope,
    unmarshal_envelope,
)

pack = msgspec.msgpack.encode

texts = st.text(max_size=40)
headers = st.dictionaries(texts, texts, max_size=8)
counts = st.integers(0, 2**63 - 1)
rates = st.floats(0, 1e9)

requests = st.builds(
    RequestInfo,
    route_id=texts,
    method=texts,
    path=texts,
    query=texts,
    domain=texts,
    host=texts,
    proto=st.sampled_from(["HTTP/1.1", "HTTP/2.0", ""]),
    remote_addr=texts,
    content_length=st.integers(-1, 2**63 - 1),
    headers=headers,
    body=st.binary(max_size=200),
    match_domain=texts,
    match_glob=texts,
    match_path=texts,
    vars=headers,
    target=texts,
)
payloads: st.SearchStrategy[tuple[HookType, Payload]] = st.one_of(
    st.tuples(st.just(HookType.ON_REQUEST), requests),
    st.tuples(
        st.just(HookType.ON_RESPONSE),
        st.builds(
            ResponsePair,
            request=requests,
            response=st.builds(UpstreamResponseInfo, status=st.integers(100, 599), headers=headers),
        ),
    ),
    st.tuples(
        st.just(HookType.ON_CONNECT),
        st.builds(
            ConnInfo, route_id=texts, domain=texts, remote_addr=texts, match_domain=texts, match_glob=texts
        ),
    ),
    st.tuples(
        st.just(HookType.ON_DISCONNECT),
        st.builds(
            DisconnectInfo,
            route_id=texts,
            target=texts,
            remote_addr=texts,
            bytes_received=counts,
            bytes_sent=counts,
            duration_ms=counts,
        ),
    ),
)
results: st.SearchStrategy[tuple[HookType, Result]] = st.one_of(
    st.tuples(
        st.just(HookType.ON_REQUEST),
        st.builds(
            AuthorizeResult,
            allow=st.booleans(),
            drop=st.booleans(),
            fallback=st.booleans(),
            status=st.integers(0, 599),
            body=st.one_of(texts, st.binary(min_size=1, max_size=40)),
            headers=headers,
            speed=st.none() | st.builds(Speed, download_mbps=rates, upload_mbps=rates, group_key=texts),
            strip_query=st.booleans(),
            path=texts,
        ),
    ),
    st.tuples(
        st.just(HookType.ON_RESPONSE),
        st.builds(
            ResponseModResult,
            status=st.just(0) | st.integers(200, 599),
            headers=headers,
            remove=st.lists(texts, max_size=4),
        ),
    ),
    st.tuples(st.just(HookType.ON_CONNECT), st.builds(ConnResult, allow=st.booleans())),
)

GET: dict[str, Any] = {"r": "web:0", "m": "GET", "p": "/", "d": "a.test", "a": "10.0.0.1:1", "h": {}}
REQUEST = RequestInfo(
    route_id="web:0", method="GET", path="/", domain="a.test", remote_addr="10.0.0.1:1", headers={}
)


def call(payload: Any, hook: Any = 1) -> bytes:
    return pack({"t": hook, "d": payload if isinstance(payload, bytes) else pack(payload)})


@given(payloads)
def test_calls_survive_the_way(sent: tuple[HookType, Payload]) -> None:
    assert unmarshal_envelope(marshal_envelope(*sent)) == sent


@given(results)
def test_results_survive_the_way(sent: tuple[HookType, Result]) -> None:
    hook, result = sent
    frame = encode_result(result)
    assert struct.unpack(">I", frame[:4])[0] == len(frame) - 4
    assert decode_result(hook, frame[4:]) == result


@given(payloads)
def test_any_msgpack_reader_understands_a_call(sent: tuple[HookType, Payload]) -> None:
    hook, payload = sent
    frame = marshal_envelope(hook, payload)
    assert struct.unpack(">I", frame[:4])[0] == len(frame) - 4
    envelope = msgspec.msgpack.decode(frame[4:])
    assert set(envelope) == {"t", "d"}
    assert envelope["t"] == hook
    assert envelope["d"] == pack(payload)


def test_required_keys_are_written_and_empty_optional_ones_are_not() -> None:
    assert msgspec.msgpack.decode(pack(REQUEST)) == GET
    assert msgspec.msgpack.decode(pack(AuthorizeResult(allow=False))) == {"ok": False}
    assert msgspec.msgpack.decode(pack(ConnResult(allow=False))) == {"ok": False}
    assert msgspec.msgpack.decode(pack(ResponseModResult())) == {}
    gone = DisconnectInfo(route_id="", remote_addr="", bytes_received=0, bytes_sent=0, duration_ms=0)
    assert msgspec.msgpack.decode(pack(gone)) == {"r": "", "a": "", "rx": 0, "tx": 0, "ms": 0}


@pytest.mark.parametrize(
    "width",
    [
        b"\x01",
        b"\xcc\x01",
        b"\xcd\0\x01",
        b"\xce\0\0\0\x01",
        b"\xcf" + bytes(7) + b"\1",
        b"\xd3" + bytes(7) + b"\1",
        b"\xcb\x3f\xf0" + bytes(6),
    ],
)
def test_a_hook_number_of_any_width(width: bytes) -> None:
    body = b"\x82\xa1t" + width + b"\xa1d\xc4" + bytes([len(pack(GET))]) + pack(GET)
    assert decode_call(body) == (HookType.ON_REQUEST, REQUEST)


def test_keys_in_any_order_and_unknown_ones() -> None:
    odd = {"zz": [{"deep": None}], **dict(reversed(GET.items())), "b": b"\xff", "n": -1.5}
    assert decode_call(pack({"zz": 1, "d": pack(odd), "t": 1})) == (HookType.ON_REQUEST, REQUEST)


def test_nil_for_empty_maps_and_left_out_values() -> None:
    assert decode_call(call(GET | {"h": None, "v": None, "bd": None, "q": None})) == (1, REQUEST)
    pair = {"req": GET | {"h": None}, "resp": {"s": 200, "h": None}}
    assert decode_call(call(pair, 2)) == (
        2,
        ResponsePair(request=REQUEST, response=UpstreamResponseInfo(status=200, headers={})),
    )
    bare = {"ok": True, "h": None, "sp": None, "b": None, "dr": None, "s": None, "rp": None}
    assert decode_authorize(pack(bare)) == AuthorizeResult(allow=True)
    assert (
        decode_result(HookType.ON_RESPONSE, pack({"s": None, "h": None, "rm": None})) == ResponseModResult()
    )


def test_integers_as_floats_and_speeds_as_integers() -> None:
    got = decode_authorize(pack({"ok": False, "s": 429.0, "sp": {"dl": 8, "ul": 0.5}}))
    assert got == AuthorizeResult(allow=False, status=429, speed=Speed(download_mbps=8, upload_mbps=0.5))
    assert isinstance(got.status, int)
    _, gone = decode_call(call({"r": "", "a": "", "rx": 1.0, "tx": 2.0, "ms": 3.0, "tg": None}, 4))
    assert gone == DisconnectInfo(route_id="", remote_addr="", bytes_received=1, bytes_sent=2, duration_ms=3)


@pytest.mark.parametrize(
    ("written", "body"),
    [
        (b"\xa2no", "no"),
        (b"\xd9\x02no", "no"),
        (b"\xda\0\x02no", "no"),
        (b"\xdb\0\0\0\x02no", "no"),
        (b"\xc4\x02no", b"no"),
        (b"\xc5\0\x02no", b"no"),
        (b"\xc6\0\0\0\x02no", b"no"),
        (b"\xa3\xff\0\xfe", b"\xff\0\xfe"),  # Go writes any bytes as a string
        (b"\xc4\x02\xff\0", b"\xff\0"),
    ],
)
def test_the_body_of_a_denial_may_be_any_bytes(written: bytes, body: str | bytes) -> None:
    assert decode_authorize(b"\x82\xa2ok\xc2\xa1b" + written) == AuthorizeResult(allow=False, body=body)


def test_text_that_is_not_utf8_is_read_as_latin1() -> None:
    raw = pack(GET | {"h": {"X-Name": "??"}}).replace(b"??", b"J\xfc")
    _, request = decode_call(call(raw))
    assert isinstance(request, RequestInfo)
    assert request.headers == {"X-Name": "J\u00fc"}
    denial = pack({"ok": False, "h": {"b": "??"}}).replace(b"??", b"\xe9!")
    assert decode_authorize(denial) == AuthorizeResult(allow=False, headers={"b": "\u00e9!"})


NO_VERDICT: list[Any] = [
    {},
    {"ok": None},
    {"ok": 1},
    {"ok": "true"},
    {"dr": True},
    [],
    [True],
    None,
    True,
    "ok",
    {"ok": True, "h": {"a": 1}},
    {"ok": True, "h": ["a"]},
    {"ok": True, "s": "401"},
    {"ok": True, "s": 1.5},
    {"ok": True, "b": 5},
    {"ok": True, "b": ["a"]},
    {"ok": True, "sp": 5},
    {"ok": True, "sp": {"dl": "8"}},
    {"ok": True, "sp": {"dl": -1}},
    {"ok": True, "sp": {"ul": math.inf}},
    {"ok": True, "sp": {"ul": math.nan}},
    {"ok": True, "sp": {"dl": -math.inf}},
    {"ok": True, "s": 2**64 - 1.0},
]


@pytest.mark.parametrize("shape", NO_VERDICT, ids=repr)
def test_a_verdict_of_the_wrong_shape_is_refused(shape: Any) -> None:
    with pytest.raises(DecodeError):
        decode_result(HookType.ON_REQUEST, pack(shape))


@pytest.mark.parametrize("shape", [{}, {"ok": None}, {"ok": 0}, [], None, {"allow": True}], ids=repr)
def test_a_connection_verdict_of_the_wrong_shape_is_refused(shape: Any) -> None:
    with pytest.raises(DecodeError):
        decode_result(HookType.ON_CONNECT, pack(shape))


@pytest.mark.parametrize("status", [1, 100, 101, 199, 600, 1000, -200, "200", 200.5])
def test_a_response_status_out_of_range_is_refused(status: Any) -> None:
    with pytest.raises(DecodeError):
        decode_result(HookType.ON_RESPONSE, pack({"s": status}))


def pairs(*pairs: tuple[Any, Any], head: bytes = b"") -> bytes:
    """A map that is written pair by pair, so that a key may stand there twice."""
    encode = msgspec.msgpack.encode
    return (head or bytes([0x80 | len(pairs)])) + b"".join(
        encode(key) + encode(value) for key, value in pairs
    )


NO, YES = ("ok", False), ("ok", True)
TWICE = {
    "a denial, then an allowance": pairs(NO, YES),
    "an allowance, then a denial": pairs(YES, NO),
    "the same": pairs(YES, YES),
    "apart": pairs(NO, ("h", {"X-Token": "ok"}), ("x", [1, {"ok": 1}]), YES),
    "another key": pairs(YES, ("h", {"A": "b"}), ("h", {})),
    "an unknown key": pairs(YES, ("x", 1), ("x", 2)),
    "another width of the text": b"\x82\xa2ok\xc2\xd9\x02ok\xc3",
    "map 16": pairs(NO, YES, head=b"\xde\0\2"),
    "map 32": pairs(NO, YES, head=b"\xdf\0\0\0\2"),
    "beside what the second reading is for": pairs(NO, ("h", None), YES),
    "beside an odd key": pairs(NO, ("x", {(1, 2): 3}), YES),
    "beside text that is no text": b"\x83\xa2ok\xc2\xa1x\xa1\xff\xa2ok\xc3",
}


@pytest.mark.parametrize("body", TWICE.values(), ids=TWICE)
def test_a_key_that_stands_there_twice_is_refused(body: bytes) -> None:
    for hook in (HookType.ON_REQUEST, HookType.ON_CONNECT, HookType.ON_RESPONSE):
        with pytest.raises(DecodeError):
            decode_result(hook, body)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (pairs(YES, ("h", {"ok": "ok", "h": "h"})), {"ok": "ok", "h": "h"}),
        (pairs(("h", {"A": "b"}), YES), {"A": "b"}),
        (pairs(("x", "ok"), ("y", {"ok": True}), YES), {}),
        (pairs(YES, *((f"k{n}", {"x": b"ok"}) for n in range(14))), {}),
        (pairs(YES, *((f"k{n}", n) for n in range(299)), head=b"\xde\1\x2c"), {}),
        (pairs(YES, ("h", {"A": "b"}), head=b"\xdf\0\0\0\2"), {"A": "b"}),
        (b"\x82\xa2ok\xc3\xa1x\xa1\xff", {}),
    ],
)
def test_keys_that_only_look_alike_are_fine(body: bytes, headers: dict[str, str]) -> None:
    result = decode_result(HookType.ON_REQUEST, body)
    assert isinstance(result, AuthorizeResult)
    assert (result.allow, result.headers) == (True, headers)


def test_on_disconnect_has_no_answer() -> None:
    with pytest.raises(DecodeError, match="no answer"):
        decode_result(HookType.ON_DISCONNECT, pack({"ok": True}))


def test_two_messages_in_one_frame_are_refused() -> None:
    with pytest.raises(DecodeError):
        decode_authorize(pack({"ok": True}) * 2)
    with pytest.raises(DecodeError):
        decode_authorize(pack({"ok": True, "h": None}) + b"\0")


@pytest.mark.parametrize("hook", [0, 5, 255, -1, 2**40, "1", None, True])
def test_an_unknown_hook_is_refused(hook: Any) -> None:
    with pytest.raises(DecodeError):
        decode_call(call(GET, hook))


@pytest.mark.parametrize(
    "body",
    [
        pack({"t": 1}),
        pack({"d": pack(GET)}),
        pack({"t": 1, "d": GET}),
        call({}),
        call(GET | {"h": 5}),
        call(GET | {"bd": "text"}),
        call({k: v for k, v in GET.items() if k != "r"}),
        call(GET, 2),
        call(b""),
        call(b"\xc1"),
    ],
)
def test_a_call_of_the_wrong_shape_is_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_call(body)


@pytest.mark.parametrize(
    "body",
    [
        b"\x91" * 100_000,
        b"\x81\xa1z" + b"\x91" * 100_000,
        b"\x81\xa2ok" + b"\x81\xa1a" * 50_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xffab",
        b"\x81\x91\x01\x01",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xd8\x01",
    ],
)
def test_nested_cut_and_boasting_messages_are_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_authorize(body)
    with pytest.raises(DecodeError):
        decode_call(call(body))


@given(st.binary(max_size=300))
def test_garbage_raises_only_decode_errors(body: bytes) -> None:
    for hook in (HookType.ON_REQUEST, HookType.ON_RESPONSE, HookType.ON_CONNECT):
        with contextlib.suppress(DecodeError):
            decode_result(hook, body)
    for read in (decode_call, unmarshal_envelope, lambda raw: decode_call(call(raw))):
        with contextlib.suppress(DecodeError):
            read(body)


@given(payloads, st.data())
def test_a_damaged_call_raises_only_decode_errors(
    sent: tuple[HookType, Payload], data: st.DataObject
) -> None:
    frame = bytearray(marshal_envelope(*sent))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(4, len(frame) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DecodeError):
        decode_call(bytes(frame[4:]))


@pytest.mark.parametrize("cut", [0, 1, 3, 4, 5])
def test_a_frame_whose_length_is_not_its_own_is_refused(cut: int) -> None:
    frame = marshal_envelope(HookType.ON_REQUEST, REQUEST)
    with pytest.raises(DecodeError):
        unmarshal_envelope(frame[:cut])
    with pytest.raises(DecodeError):
        unmarshal_envelope(frame + bytes(cut + 1))


def test_what_the_wire_cannot_carry() -> None:
    for odd in (
        msgspec.structs.replace(REQUEST, path="\ud800"),
        msgspec.structs.replace(REQUEST, headers={"X": "\udcff"}),
        msgspec.structs.replace(REQUEST, content_length=2**64),
    ):
        with pytest.raises(EncodeError, match="on_request"):
            marshal_envelope(HookType.ON_REQUEST, odd)
    with pytest.raises(EncodeError, match="AuthorizeResult"):
        encode_result(AuthorizeResult(allow=True, headers={"\ud800": ""}))


def test_frames_above_the_limit() -> None:
    big = msgspec.structs.replace(REQUEST, headers={"X": "x" * 2000})
    size = len(marshal_envelope(HookType.ON_REQUEST, big)) - 4
    assert marshal_envelope(HookType.ON_REQUEST, big, limit=size)
    with pytest.raises(FrameTooLarge) as caught:
        marshal_envelope(HookType.ON_REQUEST, big, limit=size - 1)
    assert (caught.value.size, caught.value.limit) == (size, size - 1)
    with pytest.raises(FrameTooLarge):
        encode_result(AuthorizeResult(allow=True, body=b"x" * 1024 * 1024))
    with pytest.raises(FrameTooLarge):
        marshal_envelope(HookType.ON_REQUEST, msgspec.structs.replace(REQUEST, query="x" * 1024 * 1024))


def test_wire_structs_are_values() -> None:
    with pytest.raises(AttributeError):
        REQUEST.path = "/other"  # type: ignore[misc] # this is the test
    one, other = AuthorizeResult(allow=True), AuthorizeResult(allow=True)
    assert one == other
    assert one.headers is not other.headers
