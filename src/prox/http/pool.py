"""Connections to upstreams that wait for their next request.

One Origin for each address and settings, the most recently used connection first, so that a pool shrinks by itself when
the load does.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast
from weakref import WeakValueDictionary

from prox.tasks import spawn

from .call import Supply, UpstreamCall
from .descriptors import room
from .dialling import connect, probe
from .errors import UpstreamError
from .idle import IdleConnections, Tally
from .secure import Handshake, Session, TlsSettings, handshake_error
from .upstream import UpstreamConnection


@dataclass(frozen=True, slots=True)
class OriginSettings:
    """How an upstream is reached; seconds, None is no limit.

    Attributes:
        connect_timeout: for name look-up and connect together.
        response_header_timeout: from the end of the request to the answer's head.
        idle_timeout: how long an unused connection is kept.
        keep_alive: TCP keep-alive probes after this silence.
        max_header_bytes: of an answer's head.
        max_idle: unused connections kept for one address.
        max_idle_in_all: unused connections kept for all of them.
        tls: how its TLS is done, None without.
    """

    connect_timeout: float | None = 30.0
    response_header_timeout: float | None = 30.0
    idle_timeout: float | None = 120.0
    keep_alive: float | None = 30.0
    max_header_bytes: int = 256 * 1024
    max_idle: int = 4096
    max_idle_in_all: int = 4096
    tls: TlsSettings | None = None


class Origin:
    """The connections to one address.

    Attributes:
        idle: the unused ones.
        supply: gives a call on an open one; compiled, since it is asked at every request.
        session: what is remembered of the last TLS handshake.
    """

    def __init__(self, pools: Pools, host: str, port: int, settings: OriginSettings) -> None:
        self.host = host
        self.port = port
        self.settings = settings
        self.idle = IdleConnections(pools.tally, settings.max_idle, settings.max_idle_in_all)
        self.supply: Supply = self.idle
        self.session = Session()
        self._pools = pools

    def take(self) -> UpstreamCall | None:
        """A call on a connection that is open and free; None when `connect` has to open one."""
        return self.supply.take()

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection has closed."""
        self._pools.open.discard(connection)
        self.idle.forget(connection)

    async def connect(self, preface: bytes = b"") -> UpstreamCall:
        """A call on a new connection.

        Args:
            preface: what is sent before anything else, TLS too: whose connection it is.

        Raises:
            UpstreamError: of kind connect_refused, connect_timeout, unresolvable, tls_untrusted, tls_failed, tls_timeout or
                no_descriptors.
        """
        task = spawn(self._open(preface), f"connect {self.host}:{self.port}")
        try:
            opened = await task
        except asyncio.CancelledError:
            if task.done() and not task.cancelled():
                late = task.result()  # it came when nobody waited for it any more
                if not isinstance(late, UpstreamError):
                    late.close()
            raise
        if isinstance(opened, UpstreamError):
            raise opened
        return opened

    async def _open(self, preface: bytes) -> UpstreamConnection | UpstreamError:
        """A task, since a Flow can't use timeouts. The error is returned, since a task that fails is a defect."""
        address = f"{self.host}:{self.port}"
        connection = UpstreamConnection(self)
        dialling = True
        try:
            async with asyncio.timeout(self.settings.connect_timeout) as limit:

                def connected() -> None:
                    nonlocal dialling
                    dialling = False
                    limit.reschedule(None)

                transport = await self._transport(connection, connected, preface)
        except (socket.gaierror, UnicodeError) as error:
            return UpstreamError("unresolvable", f"{self.host}: {error}")
        except OSError as error:
            if not dialling:
                self.session.forget()
                return handshake_error(error, address)
            if limit.expired():
                return UpstreamError("connect_timeout", f"no connection to {address} in time")
            kind = "no_descriptors" if error.errno in {errno.EMFILE, errno.ENFILE} else "connect_refused"
            return UpstreamError(kind, f"{address}: {error}")
        if transport.get_extra_info("socket").fileno() >= room().connect:
            transport.abort()
            return UpstreamError("no_descriptors", f"{address}: file descriptors run short", retry_after=1.0)
        if self.settings.keep_alive:
            probe(transport.get_extra_info("socket"), self.settings.keep_alive)
        self._pools.open.add(connection)
        return connection

    async def _transport(
        self, connection: UpstreamConnection, connected: Callable[[], None], preface: bytes
    ) -> asyncio.Transport:
        """Connect; `connected` is called where a TLS handshake follows."""
        loop = asyncio.get_running_loop()
        protocol = cast("asyncio.Protocol", connection)
        tls = self.settings.tls
        if tls is None:
            transport, _ = await loop.create_connection(lambda: protocol, self.host, self.port)
            if preface:
                transport.write(preface)
            return transport
        handshake = Handshake(tls, self.session, connected)
        create = partial(
            loop.create_connection,
            lambda: protocol,
            ssl=cast("ssl.SSLContext", handshake),
            server_hostname=tls.server_name or self.host,
            ssl_handshake_timeout=handshake.timeout,
        )
        if preface:
            sock = await connect(self.host, self.port)
            sock.send(preface)  # the first bytes of a connection always fit
            transport, _ = await create(sock=sock)
        else:
            transport, _ = await create(host=self.host, port=self.port)
        return transport


class Pools:
    """All Origins of a process; they outlive reloads, so that open connections go on being used.

    Attributes:
        tally: counts the unused connections, over all addresses.
        open: all connections.
    """

    def __init__(self) -> None:
        # Weak: an Origin goes when no action names it and no connection to it is open.
        self._origins: WeakValueDictionary[tuple[str, int, OriginSettings], Origin] = WeakValueDictionary()
        self.tally = Tally()
        self.open: set[UpstreamConnection] = set()

    @property
    def idle(self) -> int:
        """Unused connections, over all addresses."""
        return self.tally.count

    def origin(self, host: str, port: int, settings: OriginSettings) -> Origin:
        """The Origin of an address, made at its first use."""
        key = (host, port, settings)
        origin = self._origins.get(key)
        if origin is None:
            origin = self._origins[key] = Origin(self, host, port, settings)
        return origin

    def close(self) -> None:
        """Close every connection; the last thing that a server does."""
        self.tally.closed = True
        for connection in list(self.open):
            connection.close()
