"""What stands behind a listener: who answers, what is allowed, which connections are open."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from prox.config.model import Tuning
from prox.limits import ConnectionCaps
from prox.observe.counters import Counters

from .codec.errors import BadMessageError
from .codec.request import RequestParser
from .exchange import Client, Exchange
from .limits import Limits

if TYPE_CHECKING:
    from .server import ServerConnection
    from .turned_away import TurnedAway

MOST_TURNED_AWAY: Final = 128
"""Connections that are being told at a time that they are too many; one more is reset without a word."""


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
        caps: counts the service's connections and limits them.
        counters: the service's figures.
        connections: the open ones.
        turned_away: those that are told that they are too many.
        closing: no further request is taken on any of them.
        aborted: none may stay open.
    """

    def __init__(
        self,
        handler: Handler,
        tuning: Tuning,
        caps: ConnectionCaps | None = None,
        counters: Counters | None = None,
    ) -> None:
        self.handler = handler
        self.limits = Limits(tuning)
        self.caps = caps or ConnectionCaps()
        self.counters = counters or Counters()
        self.parser = RequestParser()
        self.connections: set[ServerConnection] = set()
        self.turned_away: set[TurnedAway] = set()
        self.closing = False
        self.aborted = False
        self._empty: asyncio.Event | None = None

    def point(self, handler: Handler, tuning: Tuning, caps: ConnectionCaps, counters: Counters) -> None:
        """Let another service, or the same one under another configuration, answer; the open connections become its own."""
        self.handler = handler
        self.limits = Limits(tuning)
        if caps is not self.caps:
            for connection in self.connections:
                self.caps.release(connection.client.ip)
                self.counters.closed()
                caps.add(connection.client.ip)
                counters.opened()
        self.caps = caps
        self.counters = counters

    def connect(self, peer: object = None) -> asyncio.Protocol | None:
        """The protocol for a connection just accepted, None where it is to be reset."""
        from .server import ServerConnection

        client = Client(peer)
        reason = self.caps.take(client.ip)
        if reason:
            return self._turn_away(client, reason)
        self.counters.opened()
        connection = ServerConnection(self, client)
        self.connections.add(connection)
        return cast("asyncio.Protocol", connection)

    def lost(self, protocol: asyncio.Protocol) -> None:
        """A connection never came to the protocol that `connect` gave."""
        protocol.connection_lost(None)

    def _turn_away(self, client: Client, reason: str) -> asyncio.Protocol | None:
        from .turned_away import TurnedAway

        told = len(self.turned_away) < MOST_TURNED_AWAY
        error = BadMessageError("too many connections", 503 if told else 0, reason)
        text = f"{error}\n".encode() if told else b""
        self.handler.malformed(client, error, "", "", len(text))
        if not told:
            return None
        turned_away = TurnedAway(self.turned_away.discard, text)
        self.turned_away.add(turned_away)
        return cast("asyncio.Protocol", turned_away)

    def drain(self) -> None:
        """Close what is idle; the others after the exchange they are at."""
        self.closing = True
        for connection in list(self.connections):
            connection.drain()

    def forget(self, connection: ServerConnection) -> None:
        """A connection has closed."""
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        self.caps.release(connection.client.ip)
        self.counters.closed()
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
        self._abort_turned_away()

    def abort(self) -> None:
        """Close everything at once."""
        self.closing = True
        self.aborted = True
        for connection in list(self.connections):
            connection.abort()
        self._abort_turned_away()

    def _abort_turned_away(self) -> None:
        for turned_away in list(self.turned_away):
            turned_away.abort()
