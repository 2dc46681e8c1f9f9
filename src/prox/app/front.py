"""The front door of a listener: what happens between accept(2) and a connection's first protocol.

Most listeners have nothing to do there, and a connection gets its protocol at once. Where a service asks for more, the
connection is an `Arrival` that goes through the steps that are set, in this order: the PROXY header, the ClientHello with
`pass` and `drop`, the TLS handshake. A reload changes the steps for who comes then.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from prox.flow import Flow
from prox.http.arrival import Arrival
from prox.http.entry import Entry
from prox.http.exchange import Client
from prox.http.sockets import reset

_log = logging.getLogger("prox.listen")

Step: TypeAlias = Callable[[Arrival], Awaitable[None]]
"""Does one thing with the raw socket of an arrival.

It returns where the next step goes on; raises TurnedBackError where the connection is refused; or lets the arrival `serve`
or `become` what serves the connection, and then no step follows. Deadlines are its own: `arrival.within`.
"""


@dataclass(frozen=True)
class Steps:
    """What a service does with its new connections; nothing of it is the usual case.

    Attributes:
        before: steps on the raw socket, in order.
        handshake: the TLS handshake, which ends with the connection's protocol; None on a plain listener.
    """

    before: tuple[Step, ...] = ()
    handshake: Step | None = None

    def then(self, step: Step) -> Steps:
        """The same with another step on the raw socket at the end."""
        return replace(self, before=(*self.before, step))

    @property
    def none(self) -> bool:
        """Whether a connection gets its protocol at once."""
        return not self.before and self.handshake is None


class Front:
    """Takes the sockets that a listener accepts.

    Args:
        entry: what stands behind.
        name: of the listener, for the log.
    """

    def __init__(self, entry: Entry, name: str) -> None:
        self._entry = entry
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._steps: Steps | None = None

    def point(self, steps: Steps) -> None:
        """Take these steps with who comes from now on."""
        self._steps = None if steps.none else steps

    def take(self, sock: socket.socket, peer: object) -> None:
        """Serve a socket just accepted; it is closed in the end, whatever happens."""
        steps = self._steps
        if steps is not None:
            arrival = Arrival(self._entry, sock, Client(peer))
            if self._entry.arrive(arrival):
                arrival.run(self._lead(arrival, steps))
            else:
                reset(sock)
            return
        protocol = self._entry.connect(peer)
        if protocol is None:
            reset(sock)
            return
        # A Flow, not a task: it takes no turn of the loop for each step.
        flow = Flow(partial(self._served, protocol))
        flow.run(self._open(protocol, sock))

    async def _lead(self, arrival: Arrival, steps: Steps) -> None:
        for step in steps.before:
            await step(arrival)
            arrival.within(None, "")
            if arrival.over or arrival.served:
                return
        if steps.handshake is not None:
            await steps.handshake(arrival)
            return
        sock = arrival.take_socket()
        protocol = self._entry.follow(arrival)
        try:
            await self._open(protocol, sock)
        except BaseException as error:
            self._served(protocol, error)
            raise

    async def _open(self, protocol: asyncio.Protocol, sock: socket.socket) -> None:
        await self._loop.connect_accepted_socket(lambda: protocol, sock)

    def _served(self, protocol: asyncio.Protocol, error: BaseException | None) -> None:
        if error is not None:
            # The socket is the transport's by now, which closes it.
            _log.debug("a connection on %s could not be served: %s", self._name, error)
            self._entry.lost(protocol)
