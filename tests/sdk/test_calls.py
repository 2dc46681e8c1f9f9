"""What a handler is given and what it may answer, without a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import prox.sdk
from prox.sdk import (
    Connection,
    Disconnect,
    Headers,
    Plugin,
    Request,
    Response,
    allow,
    deny,
    drop,
    fallback,
    modify,
)
from prox.wire import (
    AuthorizeResult,
    ConnInfo,
    DisconnectInfo,
    ResponseModResult,
    ResponsePair,
    Speed,
    UpstreamResponseInfo,
    encode_result,
)
from support.plugin_driver import request


def test_headers_in_any_case() -> None:
    headers = Headers({"X-User-Id": "7", "Accept": "*/*"})
    assert (
        headers["x-user-id"]
        == headers["X-USER-ID"]
        == headers["X-User-Id"]
        == headers.get("x-UsEr-Id")
        == "7"
    )
    assert "ACCEPT" in headers
    assert "cookie" not in headers
    assert headers.get("cookie") is None
    assert headers.get("cookie", "none") == "none"
    assert list(headers) == ["X-User-Id", "Accept"]
    assert dict(headers) == {"X-User-Id": "7", "Accept": "*/*"}
    assert len(headers) == 2
    with pytest.raises(KeyError, match="Cookie"):
        headers["Cookie"]
    with pytest.raises(TypeError):
        headers["X"] = "1"  # type: ignore[index] # this is the test


def test_every_fact_of_a_request() -> None:
    info = request(
        "/a b",
        method="POST",
        query="x=1&y",
        host="a.test:8080",
        content_length=70000,
        headers={"Cookie": "s=1"},
        body=b"x",
        match_domain="a",
        match_glob="b.c",
        match_path="/*",
        vars={"region": "eu"},
        target="10.0.0.9:80",
    )
    got = Request(info)
    assert got.headers is got.headers
    assert got.headers["cookie"] == "s=1"
    assert got.client_ip == "10.0.0.1"
    assert got.client == "10.0.0.1:1234"
    assert repr(got) == "<Request POST a.test:8080/a b on web:0>"
    with pytest.raises(TypeError):
        got.vars["region"] = "us"  # type: ignore[index] # this is the test
    names = "route_id method path query domain host proto content_length body vars target"
    for name in [*names.split(), "match_domain", "match_glob", "match_path"]:
        assert getattr(got, name) == getattr(info, name), name
        with pytest.raises(AttributeError):
            setattr(got, name, "other")


@pytest.mark.parametrize(
    ("address", "ip"),
    [
        ("10.0.0.1:80", "10.0.0.1"),
        ("[::1]:80", "::1"),
        ("10.0.0.1:0", "10.0.0.1"),
        ("unix", "unix"),
        ("", ""),
    ],
)
def test_the_clients_address_without_its_port(address: str, ip: str) -> None:
    assert Request(request(remote_addr=address)).client_ip == ip


def test_an_answer_a_connection_and_an_end() -> None:
    pair = ResponsePair(
        request=request("/x"), response=UpstreamResponseInfo(status=404, headers={"Server": "n"})
    )
    answer = Response(pair)
    assert (answer.status, answer.route_id, answer.request.path) == (404, "web:0", "/x")
    assert answer.headers["SERVER"] == "n"
    assert answer.headers is answer.headers
    assert answer.request is answer.request
    assert answer.modify(201, {"A": "b"}, ["Server"]) == modify(201, {"A": "b"}, ["Server"])
    conn = Connection(
        ConnInfo(route_id="tls:0", domain="s.test", remote_addr="[::1]:5", match_domain="s", match_glob="g")
    )
    assert (conn.route_id, conn.domain, conn.client, conn.client_ip) == ("tls:0", "s.test", "[::1]:5", "::1")
    assert (conn.match_domain, conn.match_glob) == ("s", "g")
    end = Disconnect(
        DisconnectInfo(
            route_id="tls:0",
            target="t:1",
            remote_addr="10.0.0.1:5",
            bytes_received=3,
            bytes_sent=4,
            duration_ms=1500,
        )
    )
    assert (end.route_id, end.target, end.client, end.client_ip) == ("tls:0", "t:1", "10.0.0.1:5", "10.0.0.1")
    assert (end.bytes_received, end.bytes_sent, end.duration) == (3, 4, 1.5)


def test_verdicts() -> None:
    got = Request(request())
    assert allow() == got.allow() == AuthorizeResult(allow=True)
    assert (
        allow({"X": "1"}, path="/new", strip_query=True, download_mbps=8, upload_mbps=0.5, group_key="g")
        == got.allow(
            {"X": "1"}, path="/new", strip_query=True, download_mbps=8, upload_mbps=0.5, group_key="g"
        )
        == AuthorizeResult(
            allow=True,
            headers={"X": "1"},
            path="/new",
            strip_query=True,
            speed=Speed(download_mbps=8, upload_mbps=0.5, group_key="g"),
        )
    )
    assert deny() == got.deny() == AuthorizeResult(allow=False, status=403)
    assert (
        deny(401, b"no", {"WWW-Authenticate": "Basic"})
        == got.deny(401, b"no", {"WWW-Authenticate": "Basic"})
        == AuthorizeResult(allow=False, status=401, body=b"no", headers={"WWW-Authenticate": "Basic"})
    )
    assert drop() == got.drop() == AuthorizeResult(allow=False, drop=True)
    assert fallback() == got.fallback() == AuthorizeResult(allow=False, fallback=True)
    assert modify() == ResponseModResult()
    assert modify(remove=("Server",)) == ResponseModResult(remove=["Server"])


def test_zero_speeds_are_left_out() -> None:
    assert encode_result(allow(group_key="g", download_mbps=0.0)) == encode_result(
        AuthorizeResult(allow=True, speed=Speed(group_key="g"))
    )


WRONG: list[tuple[Callable[..., Any], dict[str, Any], type[Exception]]] = [
    (allow, {"headers": {"X": 1}}, TypeError),
    (allow, {"headers": {"X": None}}, TypeError),
    (allow, {"headers": {b"X": "1"}}, TypeError),
    (allow, {"path": 5}, TypeError),
    (allow, {"group_key": 5}, TypeError),
    (allow, {"download_mbps": -1}, ValueError),
    (allow, {"upload_mbps": float("inf")}, ValueError),
    (allow, {"download_mbps": float("nan")}, ValueError),
    (deny, {"headers": {"X": 1}}, TypeError),
    (deny, {"body": None}, TypeError),
    (deny, {"body": {"a": 1}}, TypeError),
    (deny, {"status": 199}, ValueError),
    (deny, {"status": 600}, ValueError),
    (deny, {"status": "401"}, TypeError),
    (modify, {"status": 100}, ValueError),
    (modify, {"status": 0}, ValueError),
    (modify, {"headers": {"X": 1}}, TypeError),
    (modify, {"remove": "Server"}, TypeError),
    (modify, {"remove": [1]}, TypeError),
]


@pytest.mark.parametrize(("make", "values", "error"), WRONG)
def test_verdicts_that_prox_would_refuse_fail_where_they_are_made(
    make: Callable[..., Any], values: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        make(**values)


def test_a_verdict_keeps_its_own_copy_of_the_headers() -> None:
    headers = {"X": "1"}
    verdict = allow(headers)
    headers["X"] = "2"
    assert verdict.headers == {"X": "1"}


@pytest.mark.parametrize("name", ["on_request", "on_response", "on_connect", "on_disconnect", "on_configure"])
def test_one_handler_for_each_hook(name: str) -> None:
    def handler(_: Any) -> None:
        """Do nothing."""

    register = getattr(Plugin(), name)
    assert register(handler) is handler
    with pytest.raises(TypeError, match=f"{name} has a handler already"):
        register(handler)


def test_the_public_surface() -> None:
    assert prox.sdk.__all__ == sorted(prox.sdk.__all__)
    for name in prox.sdk.__all__:
        assert getattr(prox.sdk, name).__doc__, name
