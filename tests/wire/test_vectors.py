"""Every recorded frame and line: read as recorded, written so that it reads the same."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from prox.wire import (
    HookType,
    Push,
    RequestInfo,
    Response,
    decode_line,
    decode_request,
    decode_result,
    encode_line,
    encode_result,
    marshal_envelope,
    unmarshal_envelope,
)
from support.vectors import PLUGIN_CALLS, PLUGIN_LINES, PROXY_CALLS, PROXY_LINES, PluginCall, ProxyCall


def on_the_wire(value: msgspec.Struct) -> Any:
    """The keys and values that are written, read back without types."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value))


@pytest.mark.parametrize(
    "call", PROXY_CALLS, ids=lambda call: f"{call.hook.name}-{call.payload.get('p', '')}"
)
def test_calls_of_the_go_proxy(call: ProxyCall) -> None:
    hook, payload = unmarshal_envelope(call.frame)
    assert hook is call.hook
    assert on_the_wire(payload) == call.payload
    assert unmarshal_envelope(marshal_envelope(hook, payload)) == (hook, payload)


def test_a_recorded_request_in_readable_names() -> None:
    _, payload = unmarshal_envelope(next(c.frame for c in PROXY_CALLS if c.payload.get("bd")))
    assert isinstance(payload, RequestInfo)
    assert payload == RequestInfo(
        route_id="web:1",
        method="POST",
        path="/post",
        domain="127.0.0.1",
        host="127.0.0.1:8020",
        proto="HTTP/1.1",
        remote_addr="127.0.0.1:52406",
        content_length=7,
        headers={
            "User-Agent": "curl/7.88.1",
            "Accept": "*/*",
            "Content-Type": "application/json",
            "Content-Length": "7",
        },
        body=b'{"a":1}',
        match_path="/post",
    )


def test_an_unknown_length_is_written_and_none_is_not() -> None:
    lengths = {call.payload["m"]: call.payload.get("cl") for call in PROXY_CALLS if "m" in call.payload}
    assert lengths == {"GET": None, "POST": 7, "PUT": -1}


@pytest.mark.parametrize("call", PLUGIN_CALLS, ids=lambda call: f"{call.hook.name}-{call.subject}")
def test_answers_of_the_go_sdk(call: PluginCall) -> None:
    hook, payload = unmarshal_envelope(call.call)
    assert hook is call.hook
    assert unmarshal_envelope(marshal_envelope(hook, payload)) == (hook, payload)
    result = decode_result(hook, call.answer[4:])
    assert on_the_wire(result) == call.decoded
    assert decode_result(hook, encode_result(result)[4:]) == result


@pytest.mark.parametrize("line", PROXY_LINES)
def test_lines_of_the_go_proxy(line: bytes) -> None:
    assert encode_line(decode_request(line)) == line


@pytest.mark.parametrize("line", PLUGIN_LINES)
def test_lines_of_the_go_sdk(line: str) -> None:
    message = decode_line(line.encode())
    assert isinstance(message, Response if '"result"' in line else Push)
    assert json.loads(encode_line(message)) == json.loads(line)


def test_every_kind_of_call_and_line_was_recorded() -> None:
    assert {call.hook for call in PROXY_CALLS} == set(HookType)
    assert {call.hook for call in PLUGIN_CALLS} == set(HookType) - {HookType.ON_DISCONNECT}
    methods = {decode_line(line.encode()).method for line in PLUGIN_LINES[1:]}  # type: ignore[union-attr] # the first is the acknowledgement
    assert methods == {"ready", "set_targets", "set_speed", "log"}
