"""What stands behind a listener: who answers, what is allowed, which connections are open."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from prox.config.model import Tuning
from prox.limits import ConnectionCaps
from prox.observe.counters import Counters

from .clientside import ClientConnection
from .codec.errors import BadMessageError
from .codec.request import RequestParser
from .exchange import Client, Exchange
from .limits import Limits

if TYPE_CHECKING:
    from .arrival import Arrival
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
        self.connections: set[ClientConnection] = set()
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
        client = Client(peer)
        reason = self.caps.take(client.ip)
        if reason:
            return self._turn_away(client, reason)
        self.counters.opened()
        connection = self._first(client)
        self.connections.add(connection)
        return cast("asyncio.Protocol", connection)

    def _first(self, client: Client) -> ClientConnection:
        """What a connection speaks without TLS."""
        if self.limits.h2c:
            from .h2.preface import FirstBytes

            return FirstBytes(self, client)
        from .server import ServerConnection

        return ServerConnection(self, client)

    # Connections that go through steps before their first protocol.

    def arrive(self, connection: ClientConnection) -> bool:
        """Count a connection just accepted. False where it is one too many: it is to be reset.

        It is not told so, since that would take the very steps that the limit saves.
        """
        reason = self.caps.take(connection.client.ip)
        if reason:
            self._refuse(connection.client, reason)
            return False
        self.counters.opened()
        self.connections.add(connection)
        return True

    def readdress(self, connection: ClientConnection, client: Client) -> str:
        """Count a connection under its true client's address; the name of the limit where that one has too many.

        Then it stays counted under its old address until it is given up.
        """
        self.caps.release(connection.client.ip)
        reason = self.caps.take(client.ip)
        if reason:
            self.caps.add(connection.client.ip)
            self._refuse(client, reason)
        else:
            connection.client = client
        return reason

    def replace(self, connection: ClientConnection, successor: ClientConnection) -> None:
        """A connection goes on as another, of the same client."""
        self.connections.remove(connection)
        self.connections.add(successor)

    def turned_back(self, connection: ClientConnection, reason: str) -> None:
        """A connection ended before its first protocol."""
        self.counters.ended(reason)
        self.forget(connection)

    def follow(self, arrival: Arrival) -> asyncio.Protocol:
        """The protocol of a connection that has gone through its steps."""
        connection = self._first(arrival.client)
        arrival.become(connection)
        return cast("asyncio.Protocol", connection)

    def secured(self, arrival: Arrival, *, http2: bool) -> asyncio.Protocol:
        """The protocol of a connection that has made TLS."""
        connection: ClientConnection
        if http2:
            from .h2.connection import Http2Connection

            connection = Http2Connection(self, arrival.client)
        else:
            from .server import ServerConnection

            connection = ServerConnection(self, arrival.client)
        arrival.become(connection)
        return cast("asyncio.Protocol", connection)

    def _refuse(self, client: Client, reason: str) -> None:
        self.handler.malformed(client, BadMessageError("too many connections", 0, reason), "", "", 0)

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

    def forget(self, connection: ClientConnection) -> None:
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
