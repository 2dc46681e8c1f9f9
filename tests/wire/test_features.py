"""What belongs to features: nothing of it for who names none, and read strictly for who does."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from prox.wire import (
    FEATURES,
    AuthorizeResult,
    ClientCertificate,
    ConnInfo,
    DecodeError,
    DisconnectInfo,
    HeaderChanges,
    HookType,
    Payload,
    RequestInfo,
    ResponseModResult,
    ResponsePair,
    TraceContext,
    UpstreamResponseInfo,
    decode_authorize,
    decode_response_mod,
    decode_result,
    encode_result,
    features_used,
    has_more,
    marshal_envelope,
    shown_to,
    understood,
    unmarshal_envelope,
)
from support.vectors import PLUGIN_CALLS, PROXY_CALLS

pack = msgspec.msgpack.encode
NONE: frozenset[str] = frozenset()

TRACE = TraceContext(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", tracestate="a=1")
REQUEST = RequestInfo(
    route_id="web:0", method="GET", path="/", domain="a", remote_addr="b:1", headers={"X-A": "1"}
)
END = DisconnectInfo(route_id="web:0", remote_addr="b:1", bytes_received=1, bytes_sent=2, duration_ms=3)
CERTIFICATE = ClientCertificate(subject="CN=alice,O=Example", fingerprint="ab" * 32)
MULTI, TRACED, KNOWN = frozenset({"headers.multi"}), frozenset({"trace"}), frozenset({"tls.client"})


def more(payload: Payload, *, values: bool = True, trace: bool = True, certificate: bool = True) -> Payload:
    """The payload with what belongs to features."""
    extra: dict[str, Any] = {}
    if isinstance(payload, RequestInfo):
        extra = {
            "all_values": {"X-A": ["1", "2"]} if values else {},
            "trace": TRACE if trace else None,
            "certificate": CERTIFICATE if certificate else None,
        }
    elif isinstance(payload, DisconnectInfo):
        extra = {"trace": TRACE if trace else None}
    elif isinstance(payload, ResponsePair):
        response = payload.response
        if values:
            response = msgspec.structs.replace(response, all_values={"Set-Cookie": ["a", "b"]})
        request = more(payload.request, values=values, trace=trace, certificate=certificate)
        assert isinstance(request, RequestInfo)
        return ResponsePair(request=request, response=response)
    return msgspec.structs.replace(payload, **extra)


@pytest.mark.parametrize(
    "call", PROXY_CALLS, ids=lambda call: f"{call.hook.name}-{call.payload.get('p', '')}"
)
def test_who_names_none_gets_the_recorded_bytes(call: Any) -> None:
    hook, payload = unmarshal_envelope(call.frame)
    plain = marshal_envelope(hook, payload)
    assert marshal_envelope(hook, shown_to(more(payload), NONE)) == plain
    assert not has_more(payload)
    assert has_more(more(payload)) is (not isinstance(payload, ConnInfo))
    assert msgspec.msgpack.decode(pack(payload)) == call.payload


@pytest.mark.parametrize("payload", [REQUEST, END], ids=["request", "end"])
def test_each_feature_has_its_own(payload: Payload) -> None:
    full = more(payload)
    assert shown_to(full, FEATURES) is full
    assert shown_to(full, MULTI) == more(payload, trace=False, certificate=False)
    assert shown_to(full, TRACED) == more(payload, values=False, certificate=False)
    assert shown_to(full, KNOWN) == more(payload, values=False, trace=False)
    assert shown_to(full, {"response.allow", "later"}) == payload
    hook = HookType.ON_REQUEST if isinstance(payload, RequestInfo) else HookType.ON_DISCONNECT
    assert unmarshal_envelope(marshal_envelope(hook, full)) == (hook, full)


def test_of_a_pair_both_halves() -> None:
    pair = ResponsePair(request=REQUEST, response=UpstreamResponseInfo(status=200, headers={}))
    assert shown_to(more(pair), MULTI) == more(pair, trace=False, certificate=False)
    assert shown_to(more(pair), TRACED) == more(pair, values=False, certificate=False)
    assert shown_to(more(pair), KNOWN) == more(pair, values=False, trace=False)
    assert shown_to(more(pair), NONE) == pair


def test_the_keys_on_the_wire() -> None:
    shown = msgspec.msgpack.decode(pack(more(REQUEST)))
    assert shown["hm"] == {"X-A": ["1", "2"]}
    assert shown["tr"] == {"tp": TRACE.traceparent, "ts": "a=1"}
    assert shown["tc"] == {"sj": "CN=alice,O=Example", "fp": "ab" * 32}
    changes = HeaderChanges(remove=["A"], set={"B": ["1", "2"]}, append={"C": ["3"]})
    result = AuthorizeResult(allow=True, changes=changes, response=changes)
    body = encode_result(result)[4:]
    keys = {"rm": ["A"], "st": {"B": ["1", "2"]}, "ad": {"C": ["3"]}}
    assert msgspec.msgpack.decode(body) == {"ok": True, "hc": keys, "rc": keys}
    assert decode_authorize(body) == result
    assert encode_result(AuthorizeResult(allow=True))[4:] == pack({"ok": True})


def test_results_are_understood_as_far_as_features_go() -> None:
    changes = HeaderChanges(remove=["A"])
    result = AuthorizeResult(allow=True, changes=changes, response=changes)
    assert understood(result, FEATURES) is result
    assert understood(result, MULTI) == AuthorizeResult(allow=True, changes=changes)
    assert understood(result, {"response.allow"}) == AuthorizeResult(allow=True, response=changes)
    assert understood(result, NONE) == AuthorizeResult(allow=True)
    assert understood(ResponseModResult(status=201, changes=changes), NONE) == ResponseModResult(status=201)
    assert features_used(result) == ["headers.multi", "response.allow"]
    assert features_used(AuthorizeResult(allow=True)) == []


@pytest.mark.parametrize("key", ["hc", "rc"])
@pytest.mark.parametrize(
    "value", [5, "x", [1], {"st": {"A": "text"}}, {"rm": "A"}, {"ad": {"A": [1]}}, {"st": []}]
)
def test_wrong_shapes_are_refused_where_the_feature_is_named(key: str, value: Any) -> None:
    body = pack({"ok": True, "h": {"X-A": "1"}, key: value})
    with pytest.raises(DecodeError):
        decode_authorize(body)
    assert decode_authorize(body, NONE) == AuthorizeResult(allow=True, headers={"X-A": "1"})
    assert decode_result(HookType.ON_REQUEST, body, NONE) == AuthorizeResult(allow=True, headers={"X-A": "1"})
    if key == "hc":
        body = pack({"s": 201, key: value})
        with pytest.raises(DecodeError):
            decode_response_mod(body)
        assert decode_response_mod(body, NONE) == ResponseModResult(status=201)


def test_nil_and_unknown_keys_are_read() -> None:
    body = pack({"ok": True, "hc": {"rm": None, "st": {"A": ["1"], "B": None}, "zz": 1}, "rc": None})
    assert decode_authorize(body) == AuthorizeResult(allow=True, changes=HeaderChanges(set={"A": ["1"]}))


@pytest.mark.parametrize("call", PLUGIN_CALLS, ids=lambda call: f"{call.hook.name}-{call.subject}")
def test_recorded_answers_use_no_feature(call: Any) -> None:
    assert features_used(decode_result(call.hook, call.answer[4:], NONE)) == []
