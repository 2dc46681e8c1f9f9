"""Limits of bandwidth through the real proxy: the rate that the other end sees, on every path.

Prox and both its peers run in one loop. A machine that is busy elsewhere stops all of them, and what a stop longer than
the burst of a limit costs is no fault of the limit: the lower bound takes it off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from support.client import get
from support.servers import Running, serving
from support.upstream import Upstream, UpstreamPeer

MBPS = 125_000
BIG = 1 << 40


class Stalls:
    """Watches how long the loop did not run."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer = self._loop.call_later(0.005, self._look)
        self.lost = 0.0

    def _look(self) -> None:
        now = self._loop.time()
        self.lost += max(0.0, now - self._last - 0.045)
        self._last = now
        self._timer = self._loop.call_later(0.005, self._look)

    def stop(self) -> None:
        self._timer.cancel()


@asynccontextmanager
async def stalls() -> AsyncIterator[Stalls]:
    watched = Stalls()
    try:
        yield watched
    finally:
        watched.stop()


class Reader(asyncio.Protocol):
    """A client that only counts, from the moment of its request.

    Attributes:
        received: bytes, head included.
    """

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.received = 0
        self.closed = asyncio.get_running_loop().create_future()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(exc)


async def reading(prox: Running, path: str = "/") -> Reader:
    assert isinstance(prox.address, tuple)
    _, reader = await asyncio.get_running_loop().create_connection(lambda: Reader(get(path)), *prox.address)
    return reader


def endless(*, chunked: bool = False) -> Callable[[UpstreamPeer], Any]:
    """An upstream that sends for as long as it can."""

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        piece = b"x" * (256 * 1024)
        if chunked:
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
        else:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG)
        with suppress(OSError):
            while not peer.closing:
                await peer.send(piece)

    return script


async def measured(count: Callable[[], int], mbps: float, seconds: float = 2.0) -> None:
    """Bytes that are counted from now on are within 5 % of the rate."""
    loop = asyncio.get_running_loop()
    async with stalls() as watched:
        begin, before = loop.time(), count()
        await asyncio.sleep(seconds)
        elapsed, passed = loop.time() - begin, count() - before
    assert passed <= 1.05 * mbps * MBPS * elapsed, f"{passed / elapsed / MBPS:.3f} Mbps"
    assert passed >= 0.95 * mbps * MBPS * (elapsed - watched.lost), f"{passed / elapsed / MBPS:.3f} Mbps"


@pytest.mark.parametrize("mbps", [0.1, 1, 50, 500])
async def test_a_download_is_within_5_percent_over_2_seconds(mbps: float) -> None:
    async with Upstream(endless()) as upstream:
        route = {"speed": {"download_mbps": mbps}, "action": {"type": "proxy", "upstream": upstream.address}}
        async with serving([route]) as prox:
            reader = await reading(prox)
            await measured(lambda: reader.received, mbps)
            reader.transport.abort()
            await reader.closed
            await prox.quiet()
