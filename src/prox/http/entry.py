"""What stands behind a listener: who answers, what is allowed, which connections are open."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol, cast

from prox.config.model import Tuning

from .codec.errors import BadMessageError
from .codec.request import RequestParser
from .exchange import Client, Exchange
from .limits import Limits

if TYPE_CHECKING:
    from .server import ServerConnection


class Handler(Protocol):
    """Answers exchanges."""

    def handle(self, exchange: Exchange) -> Coroutine[Any, Any, None]:
        """Answer one exchange; CancelledError means that the client has gone."""

    def malformed(
        self, client: Client, error: BadMessageError, method: str, path: str, bytes_out: int
    ) -> None:
        """A message was refused before it became an exchange.

        Args:
            client: the connection's peer.
            error: why, and what it was answered.
            method: what it asked for; empty where it did not tell.
            path: the same, decoded.
            bytes_out: size of the answer's body.
        """


class Entry:
    """What the connections of one service ask at each request, so that a reload reaches those that are open.

    Attributes:
        handler: answers.
        limits: deadlines and sizes.
        connections: the open ones.
        closing: no further request is taken on any of them.
    """

    def __init__(self, handler: Handler, tuning: Tuning) -> None:
        self.handler = handler
        self.limits = Limits(tuning)
        self.parser = RequestParser()
        self.connections: set[ServerConnection] = set()
        self.closing = False
        self._empty: asyncio.Event | None = None

    def connect(self) -> asyncio.Protocol:
        """The protocol for a connection just accepted."""
        from .server import ServerConnection

        return cast("asyncio.Protocol", ServerConnection(self))

    def drain(self) -> None:
        """Close what is idle; the others after the exchange they are at."""
        self.closing = True
        for connection in list(self.connections):
            connection.drain()

    def forget(self, connection: ServerConnection) -> None:
        """A connection has closed."""
        self.connections.discard(connection)
        if self._empty is not None and not self.connections:
            self._empty.set()

    async def drained(self, timeout: float) -> None:  # noqa: ASYNC109 - what the timeout ends is not this wait
        """Drain, and abort after `timeout` seconds what is still open."""
        self._empty = self._empty or asyncio.Event()
        self.drain()
        if self.connections:
            timer = asyncio.get_running_loop().call_later(timeout, self.abort)
            await self._empty.wait()
            timer.cancel()

    def abort(self) -> None:
        """Close everything at once."""
        self.closing = True
        for connection in list(self.connections):
            connection.abort()
