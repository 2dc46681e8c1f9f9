"""A connection between accept(2) and its first protocol, where there is something to do on the raw socket first.

Steps are one coroutine: a PROXY header, a look at the ClientHello, the TLS handshake. Each has its deadline, all of them
count as an open connection of the service, and whatever ends them early ends the connection, with a reason that is counted.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from prox.flow import Completion, Flow

from .clientside import ClientConnection
from .exchange import Client
from .sockets import reset

if TYPE_CHECKING:
    from .entry import Entry

_log: Final = logging.getLogger("prox.listen")


class TurnedBackError(Exception):
    """A step refuses the connection.

    Attributes:
        reason: one token, which is counted.
    """

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(text or reason)
        self.reason = reason


class Arrival(ClientConnection):
    """A connection that has no protocol yet.

    A step that gives the socket away (to a transport, which closes it from then on) calls `take_socket`. One that finds what
    serves the connection calls `become`; an arrival whose steps end without it is closed.

    Args:
        entry: what counts it.
        sock: just accepted.
        client: as far as it is known; `readdress` changes it.

    Attributes:
        sock: the raw socket, not blocking.
        over: it has become another connection, or is gone.
        served: a step serves it to its end.
    """

    __slots__ = (
        "_completion",
        "_counted",
        "_entry",
        "_flow",
        "_loop",
        "_owns_socket",
        "_reason",
        "_timer",
        "_waits",
        "over",
        "served",
        "sock",
    )

    def __init__(self, entry: Entry, sock: socket.socket, client: Client) -> None:
        ClientConnection.__init__(self, client)
        sock.setblocking(False)
        self.sock = sock
        self.over = False
        self.served = False
        self._entry = entry
        self._loop = asyncio.get_running_loop()
        self._flow = Flow(self._ended)
        self._completion = Completion()
        self._timer: asyncio.TimerHandle | None = None
        self._reason = ""
        self._owns_socket = True
        self._waits = False
        self._counted = False  # its refusal is

    def run(self, steps: Coroutine[Any, Any, None]) -> None:
        """Go through the steps; whatever they raise ends the connection."""
        self._flow.run(steps)

    def within(self, seconds: float | None, reason: str) -> None:
        """Give what follows so many seconds, None: any number; too late is told by `reason`. The last call holds."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = self._loop.call_later(seconds, self._give_up, reason)

    async def readable(self, size: int = 1) -> None:
        """Wait until the client has sent so many bytes, or its end; they stay in the socket, for `MSG_PEEK` to look at.

        At most half of the socket's receive buffer can be waited for.
        """
        sock = self.sock
        self._completion.reset()
        if size > 1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
        self._loop.add_reader(sock, self._completion.set)
        self._waits = True
        try:
            await self._completion
        finally:
            self._waits = False
            self._loop.remove_reader(sock)
            if size > 1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def readdress(self, client: Client) -> None:
        """The client is another than the peer: a PROXY header said so.

        Raises:
            TurnedBackError: it has too many connections.
        """
        reason = self._entry.readdress(self, client)
        if reason:
            self._counted = True
            raise TurnedBackError(reason)

    def take_socket(self) -> socket.socket:
        """The socket is the caller's from now on, who closes it."""
        self._owns_socket = False
        return self.sock

    def become(self, connection: ClientConnection) -> None:
        """The steps are done: this takes the arrival's place."""
        self.over = True
        self.within(None, "")
        self._entry.replace(self, connection)

    def secured(self, client: Client, *, http2: bool) -> asyncio.Protocol:
        """The protocol for after the TLS handshake."""
        self.client = client
        return self._entry.secured(self, http2=http2)

    def serve(self) -> None:
        """The step at work serves the connection itself, and no other follows: a drain waits for its end."""
        self.served = True
        self.within(None, "")

    def drain(self) -> None:
        """See ClientConnection: where it is not served yet, nothing was asked for."""
        if not self.served:
            self._give_up("shutdown")

    def abort(self) -> None:
        """See ClientConnection."""
        self._give_up("shutdown")

    def _give_up(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._flow.cancel()

    def _ended(self, error: BaseException | None) -> None:
        self.within(None, "")
        if self._owns_socket:
            self._owns_socket = False
            reset(self.sock)
        if self.over:
            if error is not None and not isinstance(error, asyncio.CancelledError):
                _log.debug("a connection could not be served: %s", error)
            return
        self.over = True
        if self.served:
            if error is not None and not isinstance(error, asyncio.CancelledError):
                _log.error("a connection failed inside prox", exc_info=error)
            self._entry.forget(self)
            return
        reason = self._reason
        if not reason and isinstance(error, TurnedBackError):
            reason = error.reason
        if not reason and error is not None and not isinstance(error, OSError | asyncio.CancelledError):
            _log.error("a connection failed inside prox", exc_info=error)
            reason = "internal_error"
        reason = reason or "client_aborted"
        _log.debug(
            "a connection from %s ended before its first request: %s", self.client.address, error or reason
        )
        if self._counted:
            self._entry.forget(self)
        else:
            self._entry.turned_back(self, reason)
