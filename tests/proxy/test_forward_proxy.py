"""Requests with an absolute URL, for an upstream that is a proxy too."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.client import get
from support.servers import serving, write_sdk_plugin
from support.tunnels import WEBSOCKET, agreeing
from support.upstream import Upstream


def forward(upstream: Upstream, prefix: str = "", **action: Any) -> dict[str, Any]:
    address = f"http://{upstream.address}{prefix}" if prefix else upstream.address
    return {"match": {"forward_proxy": True}, "action": {"type": "proxy", "upstream": address, **action}}


def ask(url: str, *headers: str, method: str = "GET") -> bytes:
    """A request for a proxy; Host is the URL's."""
    host = url.split("//", 1)[1].split("/", 1)[0].split("?", 1)[0]
    return get(url, *headers, method=method, host=host)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://far.example/a/b?c=d", b"http://far.example/a/b?c=d"),
        ("http://Far.example:8080/%7Ea?%zz;", b"http://Far.example:8080/%7Ea?%zz;"),
        ("http://far.example", b"http://far.example/"),
        ("http://far.example?x", b"http://far.example/?x"),
        ("HTTPS://far.example/", b"https://far.example/"),
        ("ws://far.example/x", b"ws://far.example/x"),
        ("http://[2001:db8::1]:81/", b"http://[2001:db8::1]:81/"),
    ],
)
async def test_the_url_is_kept(url: str, target: bytes) -> None:
    async with (
        Upstream() as upstream,
        serving(forward(upstream, headers={"Host": "other.example", "X-Set": "1"})) as prox,
        await prox.connect() as client,
    ):
        assert (
            await client.request(ask(url, "Proxy-Authorization: Basic eDp5", "Proxy-Connection: close, X-A"))
        ).status == 200
        (asked,) = upstream.requests
        assert asked.target == target
        assert asked["host"] == target.split(b"//")[1].split(b"/")[0]
        assert asked["x-set"] == b"1"
        assert asked["x-forwarded-for"] == b"127.0.0.1"
        assert asked["x-forwarded-host"] == asked["host"]
        for name in ("proxy-authorization", "proxy-connection", "connection"):
            assert name not in asked


async def test_options_for_the_whole_server() -> None:
    async with Upstream() as upstream, serving(forward(upstream)) as prox, await prox.connect() as client:
        assert (await client.request(ask("http://far.example", method="OPTIONS"))).status == 200
        assert upstream.requests[0].target == b"http://far.example"
        assert (await client.request(ask("http://far.example/", method="OPTIONS"))).status == 200
        assert upstream.requests[1].target == b"http://far.example/"


async def test_a_prefix_of_the_upstream_goes_into_the_url() -> None:
    async with Upstream() as upstream, serving(forward(upstream, "/via")) as prox:
        async with await prox.connect() as client:
            await client.request(ask("http://far.example/a?b"))
        assert upstream.requests[0].target == b"http://far.example/via/a?b"


async def test_a_plugin_rewrites_path_and_query_inside_the_url(tmp_path: Path) -> None:
    plugin = write_sdk_plugin(
        tmp_path,
        """
        @plugin.on_request
        def ask(request):
            assert request.path == "/a" and request.domain == "far.example" and request.query == "b"
            return request.allow(path="/new one", strip_query=True, headers={"Host": "evil.example"})
        """,
    )
    async with Upstream() as upstream, serving(forward(upstream), plugins=[plugin]) as prox:
        async with await prox.connect() as client:
            assert (await client.request(ask("http://far.example:81/a?b"))).status == 200
        (asked,) = upstream.requests
        assert asked.target == b"http://far.example:81/new%20one"
        assert asked["host"] == b"far.example:81"


async def test_bodies_and_connections_are_as_ever() -> None:
    async with Upstream() as upstream, serving(forward(upstream)) as prox, await prox.connect() as client:
        for _ in range(2):
            head = ask("http://far.example/", "Content-Length: 3", method="POST")
            assert (await client.request(head + b"abc")).status == 200
        assert [message.body for message in upstream.requests] == [b"abc", b"abc"]
        assert len(upstream.peers) == 1


async def test_which_requests_it_takes() -> None:
    async with Upstream() as far, Upstream() as near:
        routes: list[dict[str, Any]] = [
            {**forward(far), "match": {"forward_proxy": True, "domain": "*.far.example", "path": "/a/*"}},
            {"match": {"domain": "near.example"}, "action": {"type": "proxy", "upstream": near.address}},
            {"match": {"path": "/only"}, "action": {"type": "static", "status": 204}},
        ]
        async with serving(routes) as prox, await prox.connect() as client:
            for request, status in [
                (ask("http://x.far.example/a/b"), 200),
                (ask("http://x.far.example/b"), 404),
                (ask("http://else.example/a/b"), 404),
                (ask("http://else.example/only"), 404),
                (get("/a/b", host="x.far.example"), 404),
                (ask("http://near.example/n?q"), 200),
                (get("/only", host="else.example"), 204),
            ]:
                assert (await client.request(request)).status == status, request
        assert [message.target for message in far.requests] == [b"http://x.far.example/a/b"]
        (asked,) = near.requests  # the route of a host that is prox's own: its upstream is no proxy
        assert (asked.target, asked["host"]) == (b"/n?q", near.address.encode())


@pytest.mark.parametrize(
    "request_",
    [
        get("http://far.example/", host="near.example"),
        get("http://user@far.example/", host="far.example"),
        get("http:///", host=""),
        get("ftp://far.example/", host="far.example"),
        get("http://far.example/#a", host="far.example"),
    ],
)
async def test_what_is_malformed_goes_nowhere(request_: bytes) -> None:
    async with Upstream() as upstream, serving(forward(upstream)) as prox, await prox.connect() as client:
        assert (await client.request(request_)).status == 400
        await client.closed()
        assert not upstream.peers


async def test_a_websocket_by_way_of_a_proxy() -> None:
    async with (
        Upstream(agreeing()) as upstream,
        serving(forward(upstream)) as prox,
        await prox.connect() as client,
    ):
        await client.send(ask("http://far.example/chat", *WEBSOCKET))
        assert (await client.head()).status == 101
        await client.send(b"abc")
        assert await client.take(3) == b"ABC"
        assert upstream.requests[0].target == b"http://far.example/chat"


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
async def test_curl() -> None:
    async with Upstream() as upstream, serving(forward(upstream)) as prox:
        process = await asyncio.create_subprocess_exec(
            "curl",
            *("--silent", "--show-error", "--fail", "--max-time", "10", "--proxy-user", "x:y"),
            *("--proxy", "http://{}:{}".format(*prox.address)),
            "http://far.example/a?b",
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        assert (process.returncode, output) == (0, b"ok")
        (asked,) = upstream.requests
        assert (asked.target, asked["host"]) == (b"http://far.example/a?b", b"far.example")
        assert "proxy-authorization" not in asked
        assert "proxy-connection" not in asked
