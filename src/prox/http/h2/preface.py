"""A plain connection on which HTTP/2 by prior knowledge is welcome (`h2c`): its first bytes tell which protocol it speaks.

They are the whole test (RFC 9113 section 3.4), and they are handed on untouched: a client that begins with anything else
gets HTTP/1.1. `Upgrade: h2c` is never honoured.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from prox.http.clientside import ClientConnection
from prox.http.exchange import Client
from prox.http.server import ServerConnection

from .connection import Http2Connection

if TYPE_CHECKING:
    from prox.http.entry import Entry

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class FirstBytes(ClientConnection):
    """The protocol until it is known which one it is.

    An asyncio.Protocol, but not by name (see ServerConnection).
    """

    __slots__ = ("_buffer", "_entry", "_over", "_timer", "_transport")

    def __init__(self, entry: Entry, client: Client) -> None:
        ClientConnection.__init__(self, client)
        self._entry = entry
        self._buffer = b""
        self._over = False
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        if self._entry.aborted:
            self._transport.abort()
        seconds = self._entry.limits.read_header_timeout
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._give_up)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        transport = self._transport
        if self._over or transport is None:
            return
        self._buffer += data
        if self._buffer[: len(PREFACE)] == PREFACE:
            self._become(Http2Connection(self._entry, self.client))
        elif self._buffer != PREFACE[: len(self._buffer)]:
            self._become(ServerConnection(self._entry, self.client))

    def _become(self, connection: Http2Connection | ServerConnection) -> None:
        transport = self._transport
        assert transport is not None
        self._stop()
        data, self._buffer = self._buffer, b""
        self._entry.replace(self, connection)
        transport.set_protocol(cast("asyncio.Protocol", connection))
        connection.connection_made(transport)
        connection.data_received(data)

    def _give_up(self) -> None:
        self._timer = None
        self._entry.counters.ended("deadline_head" if self._buffer else "idle_timeout")
        self.abort()

    def _stop(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def eof_received(self) -> None:
        """See asyncio.Protocol: the transport closes."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """See asyncio.Protocol."""
        self._stop()
        self._entry.forget(self)

    def pause_writing(self) -> None:
        """See asyncio.Protocol: nothing is written."""

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""

    def drain(self) -> None:
        """See ClientConnection: nothing was asked for yet."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """See ClientConnection."""
        if self._transport is not None:
            self._transport.abort()
