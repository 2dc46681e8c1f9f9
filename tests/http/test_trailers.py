"""Trailer fields go on behind the body where the client says `TE: trailers`, in both directions, and never into a head."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.client import Client, get
from support.servers import serving, write_sdk_plugin
from support.upstream import OK, Upstream, UpstreamPeer, answering
from support.upstream_messages import Message

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Host\r\n\r\n"
TRAILED = CHUNKED + b"2\r\nok\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\nSet-Cookie: a\r\nX-Two: 2\r\n\r\n"


def upload(*headers: str, trailers: bytes = b"X-Sum: 1\r\n", body: bytes = b"3\r\nabc\r\n") -> bytes:
    head = get("/", "Transfer-Encoding: chunked", "Trailer: X-Sum, Content-Length", *headers, method="POST")
    return head + body + b"0\r\n" + trailers + b"\r\n"


async def asked(client: Client, *headers: str, method: str = "GET") -> Message:
    client.takes_trailers = True
    return await client.request(get("/", *headers, method=method), method)


@pytest.mark.parametrize("te", ["TE: trailers", "te: gzip;q=0.5, Trailers"])
async def test_an_answers_trailers(te: str) -> None:
    async with (
        Upstream(answering(TRAILED)) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        for _ in range(2):
            response = await asked(client, te, "Connection: TE")
            assert (response.body, response.trailers) == (b"ok", [(b"X-Sum", b"1"), (b"X-Two", b"2")])
            assert response["trailer"] == b"X-Sum"
            assert {"x-sum", "set-cookie", "x-two"} & {
                name.decode().lower() for name, _ in response.headers
            } == set()
        assert (upstream.requests[0]["te"], upstream.requests[0]["connection"]) == (b"trailers", b"TE")
        assert len(upstream.peers) == 1


@pytest.mark.parametrize(
    "request_",
    [
        get(),
        get("/", "TE: gzip"),
        get("/", "TE: xtrailers"),
        get("/", "Trailer: X-Sum"),
        get("/", "Connection: trailers"),
        b"GET / HTTP/1.0\r\nTE: trailers\r\nConnection: keep-alive\r\n\r\n",
    ],
)
async def test_an_answers_trailers_that_nobody_asked_for(request_: bytes) -> None:
    async with (
        Upstream(answering(TRAILED)) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        response = await client.request(request_)
        assert response.body == b"ok"
        assert "trailer" not in response
        assert b"X-Sum" not in response.raw
        assert "te" not in upstream.requests[0]


async def test_trailers_of_a_long_answer_that_comes_in_pieces() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(CHUNKED, b"5\r\nhel", b"lo\r\n0", b"\r\nX-S", b"um: 1\r", b"\n\r", b"\n")
        await peer.request()
        await peer.send(OK)

    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        response = await asked(client, "TE: trailers")
        assert (response.body, response.trailers) == (b"hello", [(b"X-Sum", b"1")])
        assert (await asked(client)).body == b"ok"
        assert len(upstream.peers) == 1


async def test_trailers_that_the_upstreams_connection_declares_its_own() -> None:
    reply = TRAILED.replace(b"Trailer:", b"Connection: X-Sum\r\nTrailer:")
    async with (
        Upstream(answering(reply)) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        response = await asked(client, "TE: trailers")
        assert response.trailers == [(b"X-Two", b"2")]
        assert "trailer" not in response


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTrailer: X-Sum\r\n\r\nok"),
        ("GET", CHUNKED + b"2\r\nok\r\n0\r\nHost: evil\r\n\r\n"),
    ],
)
async def test_answers_without_trailers_that_could_go_on(method: str, reply: bytes) -> None:
    async with (
        Upstream(answering(reply)) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        for _ in range(2):
            assert (await asked(client, "TE: trailers", method=method)).trailers == []
        assert len(upstream.peers) == 1


async def test_a_requests_trailers() -> None:
    trailers = b"X-Sum: 1\r\nHost: evil\r\nAuthorization: evil\r\nX_Forwarded_For: evil\r\nx-two:\r\n"
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        data = upload("TE: trailers", trailers=trailers)
        assert (await client.request(data)).status == 200
        await client.send(*(data[at : at + 7] for at in range(0, len(data), 7)))
        assert (await client.response()).status == 200
        for request in upstream.requests:
            assert request.body == b"abc"
            assert request.trailers == [(b"X-Sum", b"1"), (b"x-two", b"")]
            assert request["trailer"] == b"X-Sum"
        assert len(upstream.peers) == 1


@pytest.mark.parametrize("body", [b"", b"3\r\nabc\r\n"])
async def test_a_requests_trailers_where_the_client_takes_none(body: bytes) -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        assert (await client.request(upload(body=body))).status == 200
        (request,) = upstream.requests
        assert request.trailers == []
        assert "trailer" not in request


async def test_trailers_of_what_prox_or_the_connection_says_itself() -> None:
    """Who merges trailers would take them for what the action says, or for what Connection took out of the head."""
    async with Upstream() as upstream:
        action = {"type": "proxy", "upstream": upstream.address, "headers": {"X-User": "guest"}}
        async with serving({"action": action}) as prox, await prox.connect() as client:
            trailers = b"x_user: root\r\nX-Gone: 1\r\nX-Sum: 2\r\n"
            await client.request(upload("TE: trailers", "Connection: X-Gone", trailers=trailers))
        assert upstream.requests[0].trailers == [(b"X-Sum", b"2")]


async def test_trailers_of_a_plugins_own_headers(tmp_path: Path) -> None:
    plugin = write_sdk_plugin(
        tmp_path,
        """
        @plugin.on_request
        async def ask(request):
            return request.allow(headers={"X-Set": "1"})
        @plugin.on_response
        async def answer(response):
            return None
        """,
    )
    root = {"plugins": {"guard": {"path": plugin, "own_headers": ["X-Own"]}}}
    async with (
        Upstream(answering(TRAILED)) as upstream,
        serving(upstream.address, root=root, plugins=["guard"]) as prox,
        await prox.connect() as client,
    ):
        client.takes_trailers = True
        trailers = b"x_own: 1\r\nX-Set: 2\r\nX-Sum: 3\r\n"
        response = await client.request(upload("TE: trailers", trailers=trailers))
        assert response.status == 200
        assert response.trailers == [(b"X-Sum", b"1"), (b"X-Two", b"2")]
        assert upstream.requests[0].trailers == [(b"X-Sum", b"3")]


@pytest.mark.parametrize("trailers", [b"X : 1\r\n", b" X: 1\r\n", b"X: \x00\r\n", b"X\r\n", b"X: 1\n"])
async def test_trailers_that_are_malformed(trailers: bytes) -> None:
    async def script(peer: UpstreamPeer) -> None:
        assert await peer.request() is None

    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(upload("TE: trailers", trailers=trailers))).status == 400
        await client.closed()
