"""CONNECT through a whole prox, chained to an upstream that is a proxy too."""

from __future__ import annotations

import asyncio
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from support.client import get
from support.servers import read_log, serving, until
from support.tunnels import CONNECTED, WEBSOCKET, agreeing, connect, connected
from support.upstream import OK, Upstream, UpstreamPeer, answer, answering, sending


def chained(upstream: Upstream | str, **match: Any) -> dict[str, Any]:
    """A forward proxy whose parent is `upstream`."""
    address = upstream if isinstance(upstream, str) else upstream.address
    return {
        "match": {"forward_proxy": True, **match},
        "action": {"type": "proxy", "upstream": address, "headers": {"X-Set": "1", "Host": "other.example"}},
    }


async def test_what_the_parent_is_asked_and_the_client_told() -> None:
    async with (
        Upstream(agreeing(b"HTTP/1.1 200 OK then\r\nX-A: b\r\nProxy-Agent: x\r\n\r\n")) as parent,
        serving(chained(parent)) as prox,
        await prox.connect() as client,
    ):
        await client.send(
            connect(
                "Far.example:443",
                "Proxy-Authorization: Basic eDp5",
                "Proxy-Connection: keep-alive",
                "X-One: 1",
            )
        )
        head = await client.head()
        assert (head.status, head["x-a"], head["proxy-agent"]) == (200, b"b", b"x")
        assert "content-length" not in head
        assert "transfer-encoding" not in head
        assert "connection" not in head
        (asked,) = parent.requests
        assert asked.raw.startswith(b"CONNECT Far.example:443 HTTP/1.1\r\nHost: Far.example:443\r\n")
        assert (asked["x-one"], asked["x-set"], asked["x-forwarded-for"]) == (b"1", b"1", b"127.0.0.1")
        for name in ("proxy-authorization", "proxy-connection", "connection", "content-length"):
            assert name not in asked
        await client.send(b"hello")
        assert await client.take(5) == b"HELLO"
        client.half_close()
        await client.closed()
        await prox.quiet(idle=0)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 204 No\r\nConnection: close\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 299 Whatever\r\nTrailer: x\r\nUpgrade: y\r\n\r\n",
    ],
)
async def test_any_2xx_opens_a_tunnel_whatever_it_says_of_framing(head: bytes) -> None:
    async with (
        Upstream(agreeing(head, first=b"a\r\nb")) as parent,
        serving(chained(parent)) as prox,
        await prox.connect() as client,
    ):
        await client.send(connect())
        told = await client.head()
        assert told.raw.split(b" ")[1] == head.split(b" ")[1]
        for name in ("content-length", "transfer-encoding", "connection", "trailer", "upgrade"):
            assert name not in told
        assert "date" in told
        assert await client.take(4) == b"a\r\nb"
        await client.send(b"x")
        assert await client.take(1) == b"X"


async def test_what_a_client_sends_before_the_answer_is_not_lost() -> None:
    go = asyncio.Event()

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await go.wait()
        assert peer.received.endswith(b"\r\n\r\n")  # nothing goes on before the parent has agreed
        await peer.send(CONNECTED)
        received = b""
        while len(received) < 11:
            received += await peer.tunnelled()
        await peer.send(received)

    async with (
        Upstream(script) as parent,
        serving(chained(parent)) as prox,
        await prox.connect() as client,
    ):
        await client.send(connect() + b"early", b"\r\n\r\n", b"GET")
        await until(lambda: parent.requests)
        go.set()
        assert (await client.head()).status == 200
        assert await _exactly(client, 12) == b"early\r\n\r\nGET"


async def _exactly(client: Any, size: int) -> bytes:
    received = b""
    while len(received) < size:
        received += await client.take(1)
    return received


REFUSAL = answer(b"no", b"X-Why: because", b"Proxy-Authenticate: Basic", status=b"407 Who")


async def test_a_refusal_is_an_answer_and_the_connection_is_used_again() -> None:
    async with (
        Upstream(answering(REFUSAL)) as parent,
        serving([chained(parent), {"action": {"type": "static", "body_ref": {"text": "static"}}}]) as prox,
        await prox.connect() as client,
    ):
        for _ in range(2):
            response = await client.request(connect())
            assert (response.status, response["x-why"], response.body) == (407, b"because", b"no")
            assert (await client.request(get("/"))).body == b"static"


async def test_what_stands_behind_a_refused_connect_is_no_request() -> None:
    async with (
        Upstream(answering(REFUSAL)) as parent,
        serving([chained(parent), {"action": {"type": "static", "body_ref": {"text": "static"}}}]) as prox,
        await prox.connect() as client,
    ):
        await client.send(connect() + get("/smuggled"))
        response = await client.response()
        assert (response.status, response["connection"]) == (407, b"close")
        await client.closed()


async def test_an_unreachable_parent_is_502_and_no_fallback_acts() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        route = chained(f"127.0.0.1:{nobody.getsockname()[1]}")
        route["action"]["fallback"] = {"type": "static", "body_ref": {"text": "fallback"}}
        async with serving(route) as prox, await prox.connect() as client:
            assert (await client.request(connect())).status == 502
            assert (await client.request(get("http://far.example/", host="far.example"))).body == b"fallback"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (connect("far.example"), 400),
        (connect("far.example:"), 400),
        (connect("far.example:0"), 400),
        (connect("far.example:99999"), 400),
        (connect(":443"), 400),
        (connect("http://far.example:443/"), 400),
        (connect("user@far.example:443"), 400),
        (connect("/"), 400),
        (connect("far.example:443", host="near.example:443"), 400),
        (connect("far.example:443", host="far.example:80"), 400),
        (connect("far.example:443", host="far.example.:443"), 400),
        (connect("far.example:443", "Content-Length: 1") + b"x", 400),
        (connect("far.example:443", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
        (connect("far.example:443", host="far.example"), 200),
        (connect("far.example:443", host="FAR.example:443"), 200),
        (connect("far.example:443", "Content-Length: 0"), 200),
        (connect("far.example:443", *WEBSOCKET), 200),
        (connect("far.example:443", "Expect: 100-continue"), 200),
        (connect("[2001:db8::1]:443"), 200),
        (connect("far.example:443", version="1.0"), 200),
    ],
)
async def test_what_is_malformed_goes_nowhere(request_: bytes, status: int) -> None:
    async with (
        Upstream(agreeing(CONNECTED)) as parent,
        serving(chained(parent)) as prox,
        await prox.connect() as client,
    ):
        await client.send(request_)
        head = await client.head()
        assert head.status == status
        assert len(parent.peers) == (status == 200)
        if status == 200:
            assert "upgrade" not in parent.requests[0]
            assert "expect" not in parent.requests[0]
            await client.send(b"abc")
            assert await _exactly(client, 3) == b"ABC"


async def test_routes_that_take_connect() -> None:
    """What passes through a tunnel is seen by no route and no guard: only those take it that say so."""
    async with Upstream(agreeing(CONNECTED)) as parent, Upstream() as web:
        web_action = {"type": "proxy", "upstream": web.address}
        routes: list[dict[str, Any]] = [
            {"match": {"domain": "web.example"}, "action": web_action},
            {
                "match": {"domain": "no.example", "methods": ["connect"]},
                "action": {"type": "static", "status": 403},
            },
            {"match": {"methods": ["GET", "POST"], "path": "/*"}, "action": web_action},
            {"match": {"methods": ["CONNECT"], "domain": "*.example"}, "action": chained(parent)["action"]},
            {"match": {"forward_proxy": True, "domain": "a.test", "methods": ["GET"]}, "action": web_action},
            {"match": {"forward_proxy": True, "path": "/*"}, "action": web_action},
            chained(parent, domain="*.test"),
            {"action": web_action},
        ]
        async with serving(routes) as prox:
            for host, status in [
                ("web.example", 200),
                ("no.example", 403),
                ("a.example", 200),
                ("a.test", 200),
                ("a.b.test", 404),
                ("test", 404),
            ]:
                async with await prox.connect() as client:
                    await client.send(connect(f"{host}:443"))
                    assert (await client.head()).status == status, host
            assert not web.peers
            assert [message.target for message in parent.requests] == [
                b"web.example:443",
                b"a.example:443",
                b"a.test:443",
            ]


@pytest.mark.parametrize("kind", ["static", "serve", "catch-all"])
async def test_no_answer_that_looks_like_a_tunnel(kind: str, tmp_path: Path) -> None:
    actions: dict[str, Any] = {
        "static": {"type": "static", "body_ref": {"text": "hello"}},
        "serve": {"type": "serve", "root": str(tmp_path)},
    }
    async with Upstream(answering(OK)) as upstream:
        route: dict[str, Any] = {"match": {"forward_proxy": True}, "action": actions.get(kind)}
        if kind == "catch-all":
            route = {"action": {"type": "proxy", "upstream": upstream.address}}
        async with serving(route) as prox, await prox.connect() as client:
            assert (await client.request(connect())).status >= 400
        assert not upstream.peers


@pytest.mark.parametrize(
    "pieces", [(b"HTTP/1.1 101 No\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",), (b"garbage\r\n\r\n",), ()]
)
async def test_a_broken_parent_is_502(pieces: tuple[bytes, ...]) -> None:
    async with (
        Upstream(sending(*pieces)) as parent,
        serving(chained(parent)) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(connect())).status == 502
        await prox.quiet(idle=0, connections=1)


async def test_the_log_of_a_tunnel(tmp_path: Path) -> None:
    log = tmp_path / "access"
    async with (
        Upstream(agreeing(CONNECTED)) as parent,
        serving(chained(parent), root={"logging": {"access_log": str(log)}}) as prox,
        await prox.connect() as client,
    ):
        await connected(client)
        await client.send(b"abc")
        assert await _exactly(client, 3) == b"ABC"
        client.half_close()
        await client.closed()
        await until(lambda: read_log(log))
        (line,) = read_log(log)
        assert (line["method"], line["path"], line["status"]) == ("CONNECT", "", 200)
        assert (line["bytes_in"], line["bytes_out"], line["target"]) == (3, 3, parent.address)


async def test_a_parent_kills_the_tunnel() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(CONNECTED)
        await peer.tunnelled()
        peer.abort()

    async with (
        Upstream(script) as parent,
        serving(chained(parent)) as prox,
        await prox.connect() as client,
    ):
        await connected(client)
        await client.send(b"x")
        await client.closed()
        assert client.reset
        await prox.quiet(idle=0)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
async def test_curl_through_two_proxes() -> None:
    """curl asks one prox, which asks another that answers itself; the tunnel ends at a third."""
    async with serving({"action": {"type": "static", "body_ref": {"text": "the end"}}}) as end:
        host, port = end.address[0], end.address[1]

        async def relay(peer: UpstreamPeer) -> None:
            request = await peer.request()
            assert request is not None
            assert request.target == b"end.example:%d" % int(port)
            reader, writer = await asyncio.open_connection(host, int(port))
            await peer.send(CONNECTED)
            writer.write(await peer.tunnelled())
            await peer.send(await reader.read(65536))
            writer.close()

        async with (
            Upstream(relay) as parent,
            serving(chained(parent)) as inner,
            serving(chained("{}:{}".format(*inner.address))) as outer,
        ):
            process = await asyncio.create_subprocess_exec(
                "curl",
                *("--silent", "--show-error", "--fail", "--max-time", "10", "--proxytunnel"),
                *("--proxy", "http://{}:{}".format(*outer.address)),
                f"http://end.example:{port}/",
                stdout=asyncio.subprocess.PIPE,
            )
            output, _ = await process.communicate()
            assert (process.returncode, output) == (0, b"the end")
