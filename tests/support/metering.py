"""Rates as an end of a connection sees them.

Prox and both its peers run in one loop. A machine that is busy elsewhere stops all of them, and what a stop longer than
the burst of a limit costs is no fault of the limit: the lower bound of `measured` takes it off.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from support.client import get
from support.servers import Running
from support.upstream import UpstreamPeer

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
    """A client that sends one request, and then `data` again and again; of what comes it only counts the bytes.

    Attributes:
        received: bytes, head included.
    """

    def __init__(self, request: bytes, data: bytes = b"") -> None:
        self._request = request
        self._data = data
        self._writing = True
        self.received = 0
        self.closed = asyncio.get_running_loop().create_future()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(self._request)
        self._go_on()

    def _go_on(self) -> None:
        while self._data and self._writing and not self.transport.is_closing():
            self.transport.write(self._data)

    def pause_writing(self) -> None:
        self._writing = False

    def resume_writing(self) -> None:
        self._writing = True
        self._go_on()

    def data_received(self, data: bytes) -> None:
        self.received += len(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(exc)

    async def abort(self) -> None:
        """Reset the connection: an end behind what prox does not read yet it could not see."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
        await self.closed


async def reading(prox: Running, request: bytes | str = "/", data: bytes = b"") -> Reader:
    assert isinstance(prox.address, tuple)
    head = request if isinstance(request, bytes) else get(request)
    loop = asyncio.get_running_loop()
    _, reader = await loop.create_connection(lambda: Reader(head, data), *prox.address)
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
    """What is counted from now on is within 5 % of the rate."""
    loop = asyncio.get_running_loop()
    async with stalls() as watched:
        begin, before = loop.time(), count()
        await asyncio.sleep(seconds)
        elapsed, passed = loop.time() - begin, count() - before
    assert passed <= 1.05 * mbps * MBPS * elapsed, f"{passed / elapsed / MBPS:.3f} Mbps"
    assert passed >= 0.95 * mbps * MBPS * (elapsed - watched.lost), f"{passed / elapsed / MBPS:.3f} Mbps"
