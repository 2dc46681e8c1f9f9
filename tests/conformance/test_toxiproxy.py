"""Networks that are late, slow, cut or reset, by toxiproxy: 502, 504 or a visibly cut answer, and in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from support.client import Client, CutError, get, post
from support.judges import Toxiproxy, toxiproxy
from support.servers import Running, serving
from support.upstream import Upstream, UpstreamPeer, answer

BODY = bytes(range(256)) * 40
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"%x\r\n%b\r\n" % (len(BODY), BODY) * 3
    + b"0\r\n\r\n"
)
UNTIL_CLOSE = b"HTTP/1.0 200 OK\r\n\r\n" + BODY
LIMITS = {"response_header_timeout": "400ms", "read_header_timeout": "400ms", "idle_timeout": "2s"}
AT_ONCE = 1.0
"""Seconds in which an answer must be there that waits for no deadline."""


async def origin(peer: UpstreamPeer) -> None:
    """Answers by path."""
    while (request := await peer.request()) is not None:
        if request.target == b"/chunked":
            await peer.send(CHUNKED)
        elif request.target == b"/until-close":
            await peer.send(UNTIL_CLOSE)
            peer.close()
            return
        else:
            await peer.send(answer(request.body or BODY))


@dataclass
class Spoilt:
    """A prox, what stands beside it, and where clients connect."""

    prox: Running
    toxics: Toxiproxy
    address: tuple[str, int] | str
    upstream: Upstream

    async def ask(self, data: bytes, within: float) -> tuple[int, bytes]:
        """Status and body; status 0 where the answer was cut visibly."""
        async with asyncio.timeout(within), await Client.connect(self.address) as client:
            try:
                message = await client.request(data)
            except CutError:
                return 0, b""
            return message.status, message.body


@asynccontextmanager
async def upstream_side() -> AsyncIterator[Spoilt]:
    """toxiproxy between prox and its upstream. At the end nothing may hang."""
    async with toxiproxy() as toxics, Upstream(origin) as upstream:
        host, port = await toxics.before(upstream.address)
        async with serving(f"{host}:{port}", config=LIMITS) as prox:
            yield Spoilt(prox, toxics, prox.address, upstream)
            await prox.quiet()


@asynccontextmanager
async def client_side() -> AsyncIterator[Spoilt]:
    """toxiproxy between clients and prox, which serves on whatever becomes of them."""
    async with (
        toxiproxy() as toxics,
        Upstream(origin) as upstream,
        serving(upstream.address, config=LIMITS) as prox,
    ):
        assert isinstance(prox.address, tuple)
        address = await toxics.before(f"127.0.0.1:{prox.address[1]}")
        yield Spoilt(prox, toxics, address, upstream)
        await prox.quiet()
        direct = Spoilt(prox, toxics, prox.address, upstream)
        assert await direct.ask(get(), AT_ONCE) == (200, BODY)


async def test_late_answers() -> None:
    async with upstream_side() as it:
        await it.toxics.spoil("latency", "downstream", latency=150)
        assert await it.ask(get(), AT_ONCE) == (200, BODY)
    async with upstream_side() as it:
        await it.toxics.spoil("latency", "downstream", latency=3000)
        assert (await it.ask(get(), AT_ONCE))[0] == 504


async def test_an_upstream_that_swallows_all() -> None:
    async with upstream_side() as it:
        await it.toxics.spoil("timeout", "downstream", timeout=0)
        assert (await it.ask(get(), AT_ONCE))[0] == 504
        assert (await it.ask(post(b"x"), AT_ONCE))[0] == 504


async def test_an_upstream_that_swallows_all_and_closes() -> None:
    async with upstream_side() as it:
        await it.toxics.spoil("timeout", "downstream", timeout=100)
        assert (await it.ask(get(), AT_ONCE))[0] == 502


async def test_an_upstream_that_closes_late() -> None:
    async with upstream_side() as it:
        await it.toxics.spoil("slow_close", "downstream", delay=200)
        assert await it.ask(get("/until-close"), AT_ONCE) == (200, BODY)
        assert await it.ask(get(), AT_ONCE) == (200, BODY)


async def test_answers_in_slices() -> None:
    async with upstream_side() as it:
        await it.toxics.spoil("slicer", "downstream", average_size=7, size_variation=3, delay=0)
        assert await it.ask(get(), 5) == (200, BODY)
        assert await it.ask(get("/chunked"), 5) == (200, BODY * 3)
        assert await it.ask(get("/until-close"), 5) == (200, BODY)


async def test_requests_in_slices() -> None:
    async with upstream_side() as it:
        await it.toxics.spoil("slicer", "upstream", average_size=7, size_variation=3, delay=0)
        assert await it.ask(post(BODY * 2), 5) == (200, BODY * 2)


@pytest.mark.parametrize("path", ["/", "/chunked"])
async def test_answers_that_are_cut(path: str) -> None:
    async with upstream_side() as it:
        await it.toxics.spoil("limit_data", "downstream", bytes=5000)
        assert (await it.ask(get(path), AT_ONCE))[0] == 0
    async with upstream_side() as it:
        await it.toxics.spoil("limit_data", "downstream", bytes=10)  # within the head
        assert (await it.ask(get(path), AT_ONCE))[0] == 502


async def test_requests_that_are_cut() -> None:
    async with upstream_side() as it:
        await it.toxics.spoil("limit_data", "upstream", bytes=300)
        assert (await it.ask(post(BODY), AT_ONCE))[0] in {502, 504}
        assert it.upstream.requests == []


async def test_resets_by_the_upstream() -> None:
    async with upstream_side() as it:
        await it.toxics.spoil("reset_peer", "downstream", timeout=0)
        assert (await it.ask(get(), AT_ONCE))[0] == 502
        assert (await it.ask(post(b"x"), AT_ONCE))[0] == 502


async def test_an_upstream_that_has_gone() -> None:
    async with upstream_side() as it:
        assert await it.ask(get(), AT_ONCE) == (200, BODY)
        await it.toxics.refuse()
        assert (await it.ask(get(), AT_ONCE))[0] == 502


async def test_clients_far_away() -> None:
    async with client_side() as it:
        await it.toxics.spoil("latency", "upstream", latency=100, jitter=50)
        await it.toxics.spoil("latency", "downstream", latency=100, jitter=50)
        assert await it.ask(get(), AT_ONCE) == (200, BODY)


async def test_clients_in_slices() -> None:
    async with client_side() as it:
        await it.toxics.spoil("slicer", "upstream", average_size=7, size_variation=3, delay=0)
        await it.toxics.spoil("slicer", "downstream", average_size=50, size_variation=20, delay=0)
        assert await it.ask(post(BODY), 5) == (200, BODY)
        assert len(it.upstream.requests) == 1


async def test_clients_whose_bytes_are_lost() -> None:
    async with client_side() as it:
        await it.toxics.spoil("timeout", "upstream", timeout=0)
        assert (await it.ask(get(), 2))[0] in {0, 408}  # the head's deadline
        assert it.upstream.requests == []


async def test_clients_that_are_cut() -> None:
    async with client_side() as it:
        await it.toxics.spoil("limit_data", "upstream", bytes=300)
        async with await Client.connect(it.address) as client:
            await client.send(post(BODY))
            async with asyncio.timeout(AT_ONCE):
                await client.discard()
        assert it.upstream.requests == []
        assert len(it.upstream.peers) <= 1


async def test_clients_that_reset() -> None:
    async with client_side() as it:
        await it.toxics.spoil("reset_peer", "downstream", timeout=100)
        async with await Client.connect(it.address) as client:
            await client.send(get("/chunked"), get())
            async with asyncio.timeout(AT_ONCE):
                await client.discard()


async def test_clients_that_close_late() -> None:
    async with client_side() as it:
        await it.toxics.spoil("slow_close", "upstream", delay=300)
        assert await it.ask(get("/", "Connection: close"), AT_ONCE) == (200, BODY)


async def test_clients_that_read_slowly() -> None:
    async with client_side() as it:
        await it.toxics.spoil("bandwidth", "downstream", rate=100)
        status, body = await it.ask(get("/chunked"), 5)
        assert (status, len(body)) == (200, 3 * len(BODY))
