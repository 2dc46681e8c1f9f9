"""An action behind a real HTTP/1.1 connection, without pipeline and plugins, and a client that speaks raw bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import NamedTuple, Self

from prox.config.model import Tuning
from prox.http.codec.errors import BadMessageError
from prox.http.entry import Entry
from prox.http.exchange import Answer, Client, Exchange
from prox.proxy.held import HeldAnswer
from prox.proxy.route import Action, Route, Routed
from prox.routing import Match

TIMEOUT = 10
"""Seconds that nothing here waits longer than: a failure, never a pause."""


class Reply(NamedTuple):
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    """By lower-case name; a name that comes twice fails."""
    body: bytes


class ActionServer:
    """Serves one action, from entering to leaving the context.

    Args:
        action: serves every request.
        match: what the route captured, by the names of Match.
        answer: what stands before the exchange, given it.

    Attributes:
        exchanges: all that were begun.
        ended: how many were over, whether served or cancelled.
    """

    def __init__(
        self,
        action: Action,
        match: Mapping[str, str] | None = None,
        *,
        answer: Callable[[Exchange], Answer] | None = None,
    ) -> None:
        self._route = Route("web", 0, action)
        self._match = Match(0, self._route, **(match or {}))
        self._answer = answer
        self.exchanges: list[Exchange] = []
        self.ended = 0
        self.port = 0
        self._entry = Entry(self, Tuning())

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self._entry.abort()
        await self._server.wait_closed()

    def _connect(self) -> asyncio.Protocol:
        protocol = self._entry.connect()
        assert protocol is not None
        return protocol

    async def handle(self, exchange: Exchange) -> None:
        """See prox.http.entry.Handler."""
        self.exchanges.append(exchange)
        routed = Routed(exchange, self._route, self._match)
        if self._answer is not None:
            routed.answer = self._answer(exchange)
        try:
            failure = await self._route.action.serve(routed)
            assert failure is None, failure
            if isinstance(routed.answer, HeldAnswer):
                await routed.answer.settled
        finally:
            self.ended += 1

    def malformed(
        self, client: Client, error: BadMessageError, method: str, path: str, bytes_out: int
    ) -> None:
        """See prox.http.entry.Handler."""
        raise AssertionError(f"a test sent what is malformed: {error}")

    async def connect(self) -> Connection:
        """A client's connection."""
        return await Connection.open("127.0.0.1", self.port)

    async def get(self, target: str = "/", *headers: str, method: str = "GET", host: str = "a.test") -> Reply:
        """Ask once on a connection of its own."""
        connection = await self.connect()
        try:
            connection.send(target, *headers, method=method, host=host)
            return await connection.reply(method)
        finally:
            await connection.close()


class Connection:
    """A client that sends and reads bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        """Connect."""
        return cls(*await asyncio.open_connection(host, port, limit=2**20))

    def send(self, target: str = "/", *headers: str, method: str = "GET", host: str = "a.test") -> None:
        """Send a request without a body."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *headers, "", ""]
        self.writer.write("\r\n".join(lines).encode("latin-1"))

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read a head."""
        async with asyncio.timeout(TIMEOUT):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        assert lines[0].startswith("HTTP/1.1 ")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(": ")
            assert name.lower() not in headers, f"{name} is there twice"
            headers[name.lower()] = value
        return int(lines[0].split(" ")[1]), headers

    async def reply(self, method: str = "GET") -> Reply:
        """Read a whole answer."""
        status, headers = await self.head()
        length = int(headers.get("content-length", 0))
        if method == "HEAD" or status in {204, 304} or status < 200:
            length = 0
        async with asyncio.timeout(TIMEOUT):
            return Reply(status, headers, await self.reader.readexactly(length))

    async def rest(self) -> bytes:
        """All that still comes until the connection ends."""
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.read()

    async def close(self) -> None:
        """Close it."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds that no event announces."""
    deadline = asyncio.get_running_loop().time() + TIMEOUT
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it never came true"
        await asyncio.sleep(0.002)
