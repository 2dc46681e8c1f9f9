"""prox between clients and servers that others wrote."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from typing import Self

import aiohttp
import httpx
import pytest
from aiohttp import web

from support.servers import Running, serving


async def echo(request: web.Request) -> web.StreamResponse:
    """Say what came, as JSON."""
    body = await request.read()
    return web.json_response(
        {
            "method": request.method,
            "path": request.raw_path,
            "host": request.headers["Host"],
            "for": request.headers.get("X-Forwarded-For"),
            "size": len(body),
            "sum": hashlib.sha256(body).hexdigest(),
        }
    )


async def stream(request: web.Request) -> web.StreamResponse:
    """Send a chunked answer in pieces, each after the client had time to read the one before."""
    answer = web.StreamResponse(headers={"X-Stream": "yes"})
    await answer.prepare(request)
    for number in range(20):
        await answer.write(b"%d\n" % number)
        await asyncio.sleep(0)
    await answer.write_eof()
    return answer


def url(prox: Running) -> str:
    assert isinstance(prox.address, tuple)
    host, port = prox.address
    return f"http://{host}:{port}"


class Peer:
    """An aiohttp server."""

    def __init__(self) -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/stream", stream)
        app.router.add_route("*", "/{path:.*}", echo)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        self.address = ""

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


@pytest.mark.parametrize("size", [0, 1, 70_000, 5_000_000])
async def test_aiohttp_on_both_sides(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with Peer() as peer, serving(peer.address) as prox, aiohttp.ClientSession() as session:
        for _ in range(3):
            async with session.post(f"{url(prox)}/a%2Fb;c?q=1&q=2", data=io.BytesIO(body)) as answer:
                assert answer.status == 200
                said = await answer.json()
        assert said["path"] == "/a%2Fb;c?q=1&q=2"
        assert said["host"] == peer.address
        assert said["for"] == "127.0.0.1"
        assert (said["size"], said["sum"]) == (len(body), hashlib.sha256(body).hexdigest())


async def test_aiohttp_uploads_in_chunks_and_reads_a_stream() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(100):
            yield b"%d" % number * 100

    whole = b"".join([b"%d" % number * 100 for number in range(100)])
    async with Peer() as peer, serving(peer.address) as prox, aiohttp.ClientSession() as session:
        async with session.put(url(prox), data=pieces()) as answer:
            assert (await answer.json())["sum"] == hashlib.sha256(whole).hexdigest()
        async with session.get(f"{url(prox)}/stream") as answer:
            assert answer.headers["X-Stream"] == "yes"
            assert (await answer.text()).split() == [str(number) for number in range(20)]


async def test_httpx_keeps_its_connections() -> None:
    async with Peer() as peer, serving(peer.address) as prox, httpx.AsyncClient(trust_env=False) as client:
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            answer = await client.request(
                method, f"{url(prox)}/x", content=b"body" if method != "GET" else None
            )
            assert answer.json()["method"] == method
        head = await client.head(f"{url(prox)}/x")
        assert (head.status_code, head.content) == (200, b"")
        answers = await asyncio.gather(*(client.get(f"{url(prox)}/{number}") for number in range(50)))
        assert [answer.json()["path"] for answer in answers] == [f"/{number}" for number in range(50)]
