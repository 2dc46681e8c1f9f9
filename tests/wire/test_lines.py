"""Lines on stdin and stdout: both directions, and what is no line of the protocol."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.wire import (
    ConfigureParams,
    DecodeError,
    EncodeError,
    MatchInfo,
    Push,
    PushParams,
    Request,
    Response,
    decode_line,
    decode_request,
    encode_line,
)

texts = st.text(max_size=30)
targets = st.lists(texts, max_size=4)
pushes = st.builds(
    Push,
    method=st.sampled_from(["ready", "set_targets", "set_speed", "log"]),
    params=st.builds(
        PushParams,
        route_id=texts,
        action=texts,
        targets=st.none() | targets,
        groups=st.none() | st.dictionaries(texts, targets, max_size=3),
        download_mbps=st.floats(0, 1e6),
        upload_mbps=st.floats(0, 1e6),
        group_key=texts,
        socket=texts,
        hooks=st.none() | targets,
        features=st.none() | targets,
        level=texts,
        message=texts,
        args=st.none()
        | st.lists(st.one_of(texts, st.integers(-(2**53), 2**53), st.booleans(), st.none()), max_size=4),
    ),
)
configures = st.builds(
    Request,
    method=st.just("configure"),
    params=st.builds(
        ConfigureParams, route_id=texts, match=st.none() | st.builds(MatchInfo, domain=texts, path=texts)
    ),
)


@given(pushes)
def test_pushes_survive_the_way(push: Push) -> None:
    line = encode_line(push)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_line(line) == push


@given(configures)
def test_configures_survive_the_way(request: Request) -> None:
    line = encode_line(request)
    assert line.count(b"\n") == 1
    assert decode_request(line) == request


def test_what_is_empty_is_left_out() -> None:
    assert (
        encode_line(Request("configure", ConfigureParams("")))
        == b'{"method":"configure","params":{"route_id":""}}\n'
    )
    assert encode_line(Response("ok")) == b'{"result":"ok"}\n'
    assert encode_line(Response(error="no")) == b'{"error":"no"}\n'
    assert json.loads(encode_line(Push("set_targets", PushParams(route_id="w:0", targets=[])))) == {
        "method": "set_targets",
        "params": {"route_id": "w:0", "targets": []},
    }


def test_no_targets_empty_targets_and_no_groups_are_told_apart() -> None:
    def params(text: str) -> PushParams:
        push = decode_line(b'{"method":"set_targets","params":{%s}}' % text.encode())
        assert isinstance(push, Push)
        return push.params

    assert params("").targets is None
    assert params('"targets":null').targets is None
    assert params('"targets":[]').targets == []
    assert params('"groups":{}').groups == {}
    assert params('"groups":{"a":[]}') == PushParams(groups={"a": []})


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ({"result": "ok"}, Response("ok")),
        ({"result": "ok", "error": None}, Response("ok")),
        ({"result": "ok", "error": ""}, Response("ok")),
        ({"result": None}, Response("null")),
        ({"result": {"n": 1}}, Response('{"n":1}')),
        ({"result": "ok", "method": None}, Response("ok")),
        ({"error": "no such map"}, Response(error="no such map")),
        ({"error": "no", "result": "ok"}, Response(error="no")),
        ({"error": {"code": -1}}, Response(error='{"code":-1}')),
    ],
)
def test_answers_to_configure(line: Any, answer: Response) -> None:
    assert decode_line(json.dumps(line).encode()) == answer


def test_an_unknown_method_keeps_its_name_whatever_its_parameters() -> None:
    for params in ({"targets": 5}, [1], "x", None):
        line = json.dumps({"method": "set_weather", "params": params}).encode()
        assert decode_line(line) == Push("set_weather", PushParams())
        assert decode_request(line) == Request("set_weather")


def test_parameters_may_be_missing_and_hold_unknown_keys() -> None:
    assert decode_line(b'{"method":"ready","id":7}') == Push("ready", PushParams())
    assert decode_line(b'{"method":"log","params":{"message":"m","zz":{}}}') == Push(
        "log", PushParams(message="m")
    )
    assert decode_request(
        b'{"method":"configure","params":{"route_id":"a:0","match":null,"zz":1},"id":1}\r'
    ) == (Request("configure", ConfigureParams("a:0")))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"{}",
        b"[]",
        b"null",
        b'{"error":null}',
        b'{"error":""}',
        b'{"method":5}',
        b'{"method":"set_targets","params":5}',
        b'{"method":"set_targets","params":{"targets":"a"}}',
        b'{"method":"set_targets","params":{"targets":[1]}}',
        b'{"method":"set_targets","params":{"groups":{"a":"b"}}}',
        b'{"method":"set_speed","params":{"download_mbps":"8"}}',
        b'{"result":"ok"} {"result":"ok"}',
        b'{"result":"ok"',
        b'{"result":"\xff"}',
        b'{"result":' + b"[" * 100_000,
    ],
)
def test_what_is_no_line_of_a_plugin(line: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_line(line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x",
        b"{}",
        b'{"params":{}}',
        b'{"method":"configure"}',
        b'{"method":"configure","params":{}}',
        b'{"method":"configure","params":{"route_id":5}}',
    ],
)
def test_what_is_no_line_of_prox(line: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_request(line)


@given(st.binary(max_size=200))
def test_garbage_raises_only_decode_errors(line: bytes) -> None:
    for read in (decode_line, decode_request):
        with contextlib.suppress(DecodeError):
            read(line)


def test_text_that_json_cannot_carry() -> None:
    with pytest.raises(EncodeError, match="Response"):
        encode_line(Response("\ud800"))
    with pytest.raises(EncodeError, match="Push"):
        encode_line(Push("log", PushParams(args=[object()])))
