"""Tables of messages beside what becomes of them, tried on a whole prox: what counts is what reached the other side.

One prox and one upstream serve all rows, which is quick, and shows that no row leaves anything behind for the next.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

import uvloop

from support.client import Client, CutError, get
from support.servers import Running, serving, until
from support.upstream import OK, Upstream, UpstreamPeer
from support.upstream_messages import Message

_LONG = 3000


class Refused(NamedTuple):
    """A request that is refused, and with it the connection.

    Attributes:
        name: what is wrong.
        data: the request.
        status: the answer.
        rfc: the section that asks for it or allows it.
        in_body: the fault stands behind the head: an upstream may have been asked, and must see the request break off.
    """

    name: str
    data: bytes
    status: int
    rfc: str
    in_body: bool = False


class Forwarded(NamedTuple):
    """A request that goes on.

    Attributes:
        name: what it shows.
        data: the request.
        line: the request line that the upstream gets.
        has: header lines that it gets, each the only one of its name.
        lacks: names of headers that it does not get.
        body: the content that it gets.
        rfc: the section that asks for it or allows it.
    """

    name: str
    data: bytes
    line: bytes
    rfc: str
    has: tuple[bytes, ...] = ()
    lacks: tuple[str, ...] = ()
    body: bytes = b""


class Answered(NamedTuple):
    """An upstream's answer.

    Attributes:
        name: what it shows.
        data: the answer.
        becomes: a status that the client gets in its place; "cut"; or the body that it gets with the upstream's status.
        rfc: the section that asks for it or allows it.
        kept: whether the upstream's connection is used again.
        method: of the request.
        closes: whether the upstream closes behind it.
    """

    name: str
    data: bytes
    becomes: int | str | bytes
    rfc: str
    kept: bool = False
    method: str = "GET"
    closes: bool = False


class Corpus:
    """A prox and its upstream, in a loop that lasts over all rows."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._reply = b""
        self._closes = False
        self.runner.run(self._start())

    async def _start(self) -> None:
        async def script(peer: UpstreamPeer) -> None:
            while (request := await peer.request()) is not None:
                if not request.target.endswith(b"/row") or not self._reply:
                    await peer.send(OK)
                    continue
                await peer.send(self._reply)
                if self._closes:
                    return

        self.upstream = Upstream(script)
        await self.upstream.__aenter__()
        self._serving = serving(self.upstream.address)
        self.prox: Running = await self._serving.__aenter__()

    def stop(self) -> None:
        with self.runner:
            self.runner.run(self._serving.__aexit__(None, None, None))
            self.runner.run(self.upstream.__aexit__(None, None, None))

    def refused(self, row: Refused) -> None:
        """It is answered as the row says, nothing behind it is taken, and no upstream gets it whole."""
        for pieces in _cuts(row.data):
            self.runner.run(self._refused(row, pieces))

    async def _refused(self, row: Refused, pieces: list[bytes]) -> None:
        seen, received = len(self.upstream.requests), self._received()
        async with await self.prox.connect() as client:
            with suppress(ConnectionError):  # it may be refused before the last piece
                await client.send(*pieces, get("/behind"))
            response = await _answer(client)
            assert response.status == row.status, response
            assert response["connection"] == b"close"
            await asyncio.wait_for(client.closed(), 5)
        await self.prox.quiet()
        assert self.upstream.requests[seen:] == []
        if not row.in_body:
            assert self._received() == received, "an upstream was asked"
        await self._serves()

    def _received(self) -> int:
        return sum(len(peer.received) for peer in self.upstream.peers)

    def forwarded(self, row: Forwarded) -> None:
        """The upstream gets what the row says, however the bytes were cut, and nothing else."""
        for pieces in _cuts(row.data):
            self.runner.run(self._forwarded(row, pieces))

    async def _forwarded(self, row: Forwarded, pieces: list[bytes]) -> None:
        seen = len(self.upstream.requests)
        async with await self.prox.connect() as client:
            await client.send(*pieces)
            response = await _answer(client, "HEAD" if row.line.startswith(b"HEAD ") else "GET")
            assert response.status == 200, response
        (found,) = self.upstream.requests[seen:]
        assert found.line == row.line
        assert found.body == row.body
        for expected in row.has:
            name, _, value = expected.partition(b": ")
            assert found.all(name.decode()) == [value]
        for lacking in row.lacks:
            assert lacking not in found, found.headers
        await self.prox.quiet()

    def answered(self, row: Answered) -> None:
        """The client gets what the row says, and the connection is used again or not."""
        for request in self._requests(row):
            for pieces in _cuts(row.data):
                self.runner.run(self._answered(row, request, pieces))

    @staticmethod
    def _requests(row: Answered) -> list[bytes]:
        return [
            get("/row", method=row.method),
            b"%b /row HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n" % row.method.encode(),
        ]

    async def _answered(self, row: Answered, request: bytes, pieces: list[bytes]) -> None:
        await self._empty_pool()
        self._reply, self._closes = b"", row.closes
        first = len(self.upstream.peers)
        self._reply = row.data
        async with await self.prox.connect() as client:
            await client.send(request)
            try:
                response = await _answer(client, row.method)
            except CutError:
                assert row.becomes == "cut"
            else:
                if isinstance(row.becomes, bytes):
                    assert response.body == row.becomes
                else:
                    assert response.status == row.becomes, response
            await self._serves()
        assert len(self.upstream.peers) - first == (1 if row.kept else 2)
        await self.prox.quiet()

    async def _empty_pool(self) -> None:
        for connection in list(self.prox.pools.open):
            connection.close()
        await until(lambda: not self.prox.pools.open)

    async def _serves(self) -> None:
        async with await self.prox.connect() as client:
            assert (await asyncio.wait_for(client.request(get("/after")), 5)).body == b"ok"


async def _answer(client: Client, method: str = "GET") -> Message:
    return await asyncio.wait_for(client.response(method), 5)


def _cuts(data: bytes) -> list[list[bytes]]:
    """The data whole, and in small pieces where that does not take too long."""
    if len(data) > _LONG:
        return [[data]]
    places = [*range(0, len(data), 3), len(data)]
    return [[data], [data[start:end] for start, end in pairwise(places)]]
