"""Tunnels over HTTP/2: CONNECT, and WebSocket by extended CONNECT (RFC 8441), to upstreams of HTTP/1.1."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest

from support.h2_client import Answer, H2Client, Pairs
from support.servers import Running, read_log, serving, until
from support.upstream import Upstream, UpstreamPeer

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

CONNECT: Pairs = [(b":method", b"CONNECT"), (b":authority", b"test.example:443")]
WEBSOCKET: Pairs = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":scheme", b"http"),
    (b":authority", b"test.example"),
    (b":path", b"/chat?a=b"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-protocol", b"chat"),
    (b"origin", b"http://test.example"),
]


@asynccontextmanager
async def talking(
    script: Callable[[UpstreamPeer], Awaitable[None]], log: Path | None = None, **config: object
) -> AsyncIterator[tuple[Upstream, Running, H2Client]]:
    async with Upstream(script) as upstream:
        route: dict[str, Any] = {"action": {"type": "proxy", "upstream": upstream.address}}
        if log is not None:
            route["access_log"] = str(log)
        async with (
            serving(
                [{**route, "match": {"forward_proxy": True}}, route], config={"h2c": True, **config}
            ) as prox,
            await H2Client.connect(prox.address) as client,
        ):
            await client.until(lambda: client.greeted)
            yield upstream, prox, client


async def agree(peer: UpstreamPeer) -> None:
    """Agree to whatever is asked for."""
    head = await peer.head()
    assert head is not None
    if head.method == b"CONNECT":
        await peer.send(b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 7\r\n\r\nhello")
        return
    key = next(value for name, value in head.headers if name.lower() == b"sec-websocket-key")
    accept = b64encode(sha1(key + GUID, usedforsecurity=False).digest())
    await peer.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: chat\r\n\r\nhello" % accept
    )


async def echo(peer: UpstreamPeer) -> None:
    """Agree, send back what comes, end with who ends."""
    await agree(peer)
    size = peer.received.index(b"\r\n\r\n") + 4
    while True:
        if len(peer.received) > size:
            data = peer.received[size:]
            size += len(data)
            await peer.send(data)
        elif not await peer.more():
            break
    if not peer.reset:
        await peer.send(b"bye")
        peer.close()


def _ends(got: Answer, data: bytes) -> Callable[[], bool]:
    return lambda: got.body.endswith(data)


def _is_reset(got: Answer) -> Callable[[], bool]:
    return lambda: got.reset >= 0


@pytest.mark.parametrize("kind", ["connect", "websocket"])
async def test_a_tunnel(kind: str, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with talking(echo, log) as (upstream, prox, client):
        assert client.h2.remote_settings.enable_connect_protocol
        stream = await client.open(CONNECT if kind == "connect" else WEBSOCKET, end=False)
        got = await client.head(stream)
        assert (got.status, got.ended) == (200, False)
        names = [name for name, _ in got.fields]
        assert b"content-length" not in names
        assert not any(name in {b"upgrade", b"connection", b"sec-websocket-accept"} for name in names)
        await client.until(lambda: got.body == b"hello")
        for number in range(3):
            await client.send(stream, b"ping%d" % number)
            await client.until(_ends(got, b"ping%d" % number))
        await client.send(stream, b"", end=True)
        await client.answer(stream)
        assert got.body == b"helloping0ping1ping2bye"
        assert got.reset in {-1, 0}
        received = upstream.peers[0].received
        if kind == "connect":
            assert received.startswith(b"CONNECT test.example:443 HTTP/1.1\r\nHost: ")
        else:
            assert received.startswith(b"GET /chat?a=b HTTP/1.1\r\nHost: ")
            assert b"\r\nUpgrade: websocket\r\n" in received
            assert b"\r\nConnection: Upgrade\r\n" in received
            assert got.get(b"sec-websocket-protocol") == b"chat"
        assert (await client.head(await client.request("BREW"))).status == 501, "the connection goes on"
        await prox.quiet(connections=1)
    (line,) = read_log(log)
    assert (line["bytes_in"], line["bytes_out"]) == (15, 23)
    assert line["method"] == ("CONNECT" if kind == "connect" else "GET")


async def test_a_refusal_is_an_answer() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        await peer.closed()

    async with talking(script) as (_, prox, client):
        for pairs in (CONNECT, WEBSOCKET):
            got = await client.head(await client.open(pairs, end=False))
            await client.until(_is_reset(got))
            assert (got.status, got.body, got.ended, got.reset) == (403, b"no", True, 0)
        await prox.quiet(connections=1)


async def test_what_comes_early_is_not_lost() -> None:
    async with talking(echo) as (upstream, _, client):
        stream = await client.open(CONNECT, end=False)
        await client.send(stream, b"early", end=True)
        got = await client.answer(stream)
        assert got.body == b"helloearlybye"
        assert upstream.peers[0].received.endswith(b"\r\n\r\nearly")


async def test_a_client_that_has_nothing_to_say() -> None:
    async with talking(echo) as (_, prox, client):
        got = await client.answer(await client.open(CONNECT))
        assert (got.status, got.body) == (200, b"hellobye")
        await prox.quiet(connections=1)


async def test_much_both_ways() -> None:
    body = bytes(range(256)) * 8192

    async with talking(echo) as (_, _prox, client):
        stream = await client.open(CONNECT, end=False)
        await client.send(stream, body, end=True)
        assert (await client.answer(stream)).body == b"hello" + body + b"bye"


async def test_the_upstream_ends_first() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await agree(peer)
        peer.half_close()
        await peer.closed()
        assert peer.received.endswith(b"\r\n\r\nstill here")

    async with talking(script) as (_, prox, client):
        stream = await client.open(CONNECT, end=False)
        got = await client.answer(stream)
        assert (got.body, got.ended, got.reset) == (b"hello", True, -1)
        await client.send(stream, b"")
        client.h2.send_data(stream, b"still here", end_stream=True)
        await client.flush()
        await prox.quiet(connections=1)


@pytest.mark.parametrize("who", ["client", "upstream", "connection"])
async def test_who_breaks_off(who: str, tmp_path: Path) -> None:
    log = tmp_path / "access.log"

    async def script(peer: UpstreamPeer) -> None:
        await agree(peer)
        if who == "upstream":
            await peer.more()
            peer.abort()
        await peer.closed()

    async with talking(script, log) as (upstream, prox, client):
        stream = await client.open(CONNECT, end=False)
        got = await client.head(stream)
        await client.until(lambda: got.body == b"hello")
        if who == "client":
            await client.reset(stream)
        elif who == "connection":
            await client.close()
        else:
            await client.send(stream, b"x")
            await client.answer(stream)
            assert got.reset == 10  # CONNECT_ERROR
        await until(lambda: upstream.peers[0].eof)
        await prox.quiet(connections=0 if who == "connection" else 1)
    (line,) = read_log(log)
    assert line["reason"] == ("client_aborted" if who != "upstream" else "upstream_reset")


@pytest.mark.parametrize("protocol", [b"h2c", b"HTTP", b"TLS"])
async def test_another_http_is_not_tunneled(protocol: bytes) -> None:
    async with talking(echo) as (upstream, _, client):
        pairs = [(name, protocol if name == b":protocol" else value) for name, value in WEBSOCKET]
        got = await client.answer(await client.open(pairs, end=False))
        assert got.status == 501
        assert not upstream.peers


async def test_deadlines_of_messages_do_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prox.http.watch._LONGEST_SLEEP", 0.01)
    monkeypatch.setattr("prox.http.upload.BODY_GRACE", 0.01)
    async with talking(echo, read_timeout="10ms", write_timeout="60ms", min_body_rate=10_000_000) as (
        _,
        prox,
        client,
    ):
        stream = await client.open(CONNECT, end=False)
        got = await client.head(stream)
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.15
        number = 0
        while loop.time() < end:
            number += 1
            await client.send(stream, b"%04d" % number)
            await client.until(_ends(got, b"%04d" % number))
        assert not prox.pipeline.counters.ends
        await client.reset(stream)
