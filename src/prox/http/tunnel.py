"""The client's end of a tunnel over HTTP/1.1: its connection, once the upstream has agreed to an upgrade or a CONNECT.

What the client sends is the body of its request and what it gets is the answer, so whatever counts or limits these holds
here too. On a plain socket a FIN ends one direction alone. TLS in asyncio knows no half-close: the end of one direction is
that of the tunnel, once what had been read before it is passed on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from .body import RequestBody
from .sockets import is_lost, send_reset
from .watch import NEVER

if TYPE_CHECKING:
    from .answer import Http1Exchange
    from .server import ServerConnection

TUNNEL: Final = -2
"""The `length` of what a tunnel brings: it ends with the direction."""

LOOK_AGAIN = 0.5
"""Seconds after which it is looked whether a client that prox does not read from is lost."""


class ClientEnd:
    """The transport's protocol in place of the connection, which stays the owner of deadlines and of the exchange.

    An asyncio.Protocol, but not by name (see ServerConnection). The source of `body`.

    Args:
        connection: what the client spoke HTTP on.
        exchange: the request for the tunnel.
        early: what the client sent behind its request already.

    Attributes:
        body: what the client sends.
    """

    __slots__ = ("_connection", "_exchange", "_halves", "_paused", "body", "transport")

    def __init__(self, connection: ServerConnection, exchange: Http1Exchange, early: bytes) -> None:
        self._connection = connection
        self._exchange = exchange
        self.transport = connection.transport
        self._halves = self.transport.can_write_eof()
        self._paused = False
        self.body = RequestBody(self, TUNNEL)
        self.transport.set_protocol(cast("asyncio.Protocol", self))
        self.pause()  # until the body is joined
        if early:
            self.body.feed(early)

    # The source of the body.

    def pause(self) -> None:
        """See Source."""
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self._connection.stop_reading()

    def resume(self) -> None:
        """See Source."""
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def stop(self) -> None:
        """See Source: what the client still sends is read away, so that its end is seen."""
        self.resume()

    # The answer.

    def answer_ended(self) -> None:
        """The upstream's direction has ended: so does the client's answer, and over TLS the tunnel."""
        if self.body.ended or self.transport.is_closing():
            return
        if self._halves:
            self.transport.write_eof()
        else:
            self.body.finish(b"")

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol: it was made long ago."""

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if not self.body.ended:
            self.body.feed(data)

    def eof_received(self) -> bool:
        """See asyncio.Protocol: the client's direction has ended. True: the transport stays open for the other."""
        if self.body.ended:
            return self._halves
        if self._halves:
            self.body.finish(b"")
            return True
        source = self._exchange.source
        self._exchange.ended = True  # as far as the client takes it
        self.body.finish(b"")
        if source is not None:
            source.stop()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._connection.resume_writing()

    # What the connection says.

    def lost(self) -> None:
        """The client has gone."""
        self.body.break_off(ConnectionResetError("the client went away"))

    @property
    def over(self) -> bool:
        """Whether both directions have ended."""
        return self.body.ended and self._exchange.ended

    def check(self, now: float) -> float:
        """Called by the connection's watch: a transport that does not read tells of no reset."""
        if not self._paused:
            return NEVER
        if is_lost(self.transport):
            self._connection.abandon()
            send_reset(self.transport)
            return NEVER
        return now + LOOK_AGAIN
