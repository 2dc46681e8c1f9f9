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
from typing import TypeAlias, cast
from weakref import WeakValueDictionary

from prox.tasks import spawn

from .call import Supply, UpstreamCall
from .descriptors import room
from .dialling import connect, probe
from .errors import UpstreamError
from .h2.shared import SharedConnection
from .h2.supply import StreamSupply
from .idle import IdleConnections, Tally
from .negotiation import ALWAYS, NEVER, Negotiation
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
        http2: whether HTTP/2 is spoken: NEVER, ALWAYS, or where the upstream chooses it by ALPN: OFFERED.
        h2_read_idle_timeout: silence after which an HTTP/2 connection with requests on it is pinged.
        h2_ping_timeout: how long the answer may take.
    """

    connect_timeout: float | None = 30.0
    response_header_timeout: float | None = 30.0
    idle_timeout: float | None = 120.0
    keep_alive: float | None = 30.0
    max_header_bytes: int = 256 * 1024
    max_idle: int = 4096
    max_idle_in_all: int = 4096
    tls: TlsSettings | None = None
    http2: str = NEVER
    h2_read_idle_timeout: float | None = 30.0
    h2_ping_timeout: float | None = 15.0


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
        self._streams = None if settings.http2 == NEVER else StreamSupply(self.idle)
        self.supply: Supply = self._streams or self.idle
        self.session = Session()
        self._pools = pools
        self._attempt: asyncio.Task[_Opened | UpstreamError] | None = None
        self._waiting = 0
        self._unclaimed: _Opened | None = None
        self._chose_one = False

    def take(self) -> UpstreamCall | None:
        """A call on a connection that is open and free; None when `connect` has to open one."""
        return self.supply.take()

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection has closed."""
        self._pools.open.discard(connection)
        self.idle.forget(connection)

    def lost(self, connection: SharedConnection) -> None:
        """The connection has closed."""
        self._pools.open.discard(connection)

    async def connect(self, preface: bytes = b"") -> UpstreamCall:
        """A call on a new connection, or a stream of one that has room by then.

        Args:
            preface: what is sent before anything else, TLS too: whose connection it is.

        Raises:
            UpstreamError: of kind connect_refused, connect_timeout, unresolvable, tls_untrusted, tls_failed, tls_timeout or
                no_descriptors.
        """
        if self._streams is None or self._chose_one or preface:
            return await self._connect_alone(preface)
        return await self._connect_together(self._streams)

    async def _connect_alone(self, preface: bytes) -> UpstreamCall:
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
        return opened if isinstance(opened, UpstreamConnection) else opened.take()

    async def _connect_together(self, streams: StreamSupply) -> UpstreamCall:
        """Requests that come while an HTTP/2 connection is on its way share it; it is given up when the last has left."""
        while True:
            attempt = self._attempt
            if attempt is None:
                attempt = self._attempt = spawn(self._open(b""), f"connect {self.host}:{self.port}")
                attempt.add_done_callback(self._attempted)
            self._waiting += 1
            try:
                opened = await asyncio.shield(attempt)
            finally:
                self._waiting -= 1
                if not self._waiting:
                    if attempt.done():
                        asyncio.get_running_loop().call_soon(self._drop_unclaimed)
                    else:
                        self._attempt = None
                        attempt.cancel()
            if isinstance(opened, UpstreamError):
                raise UpstreamError(opened.kind, str(opened), retry_after=opened.retry_after)
            if isinstance(opened, UpstreamConnection):
                if opened is self._unclaimed:
                    self._unclaimed = None
                    return opened
                return await self._connect_alone(b"")
            call = streams.take()
            if call is not None:
                return call
            if not opened.served:  # it was over before it could be used: so would the next be
                failure = opened.failure or UpstreamError(
                    "upstream_refused", "the upstream takes no requests"
                )
                raise UpstreamError(failure.kind, str(failure))

    def _attempted(self, attempt: asyncio.Task[_Opened | UpstreamError]) -> None:
        given_up = self._attempt is not attempt
        if not given_up:
            self._attempt = None
        if attempt.cancelled():
            return
        opened = attempt.result()
        if isinstance(opened, UpstreamError):
            return
        if given_up:  # and came in the same turn
            opened.close()
            return
        self._unclaimed = opened
        if not self._waiting:
            self._drop_unclaimed()

    def _drop_unclaimed(self) -> None:
        """Nobody waits any more for what was opened."""
        unclaimed, self._unclaimed = self._unclaimed, None
        if isinstance(unclaimed, SharedConnection):
            unclaimed.rest()
        elif unclaimed is not None:
            unclaimed.close()

    async def _open(self, preface: bytes) -> _Opened | UpstreamError:
        """A task, since a Flow can't use timeouts. The error is returned, since a task that fails is a defect."""
        address = f"{self.host}:{self.port}"
        dialling = True
        try:
            async with asyncio.timeout(self.settings.connect_timeout) as limit:

                def connected() -> None:
                    nonlocal dialling
                    dialling = False
                    limit.reschedule(None)

                opened = await self._connection(connected, preface)
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
        if isinstance(opened, UpstreamError):
            return UpstreamError(opened.kind, f"{address}: {opened}")
        if self._pools.tally.closed:  # while this one was on its way
            opened.close()
            return UpstreamError("upstream_closed", "prox ends")
        sock = opened.transport.get_extra_info("socket")
        if sock.fileno() >= room().connect:
            opened.close()
            return UpstreamError("no_descriptors", f"{address}: file descriptors run short", retry_after=1.0)
        if self.settings.keep_alive:
            probe(sock, self.settings.keep_alive)
        self._chose_one = isinstance(opened, UpstreamConnection)
        self._pools.open.add(opened)
        return opened

    async def _connection(self, connected: Callable[[], None], preface: bytes) -> _Opened | UpstreamError:
        """Connect, and see which protocol is spoken."""
        settings = self.settings
        if settings.http2 == NEVER:
            one = UpstreamConnection(self)
            await self._transport(cast("asyncio.Protocol", one), connected, preface)
            return one
        # One that begins with a client's name is that client's alone, and closes after its request.
        streams = StreamSupply(IdleConnections(Tally(), 0, 0)) if preface else self._streams
        assert streams is not None
        if settings.tls is None:
            two = SharedConnection(self, streams)
            await self._transport(cast("asyncio.Protocol", two), connected, preface)
            return two
        negotiation = Negotiation(
            None if settings.http2 == ALWAYS else lambda: UpstreamConnection(self),
            lambda: SharedConnection(self, streams),
        )
        await self._transport(negotiation, connected, preface)
        return negotiation.chosen

    async def _transport(
        self, protocol: asyncio.Protocol, connected: Callable[[], None], preface: bytes
    ) -> asyncio.Transport:
        """Connect; `connected` is called where a TLS handshake follows."""
        create = partial(asyncio.get_running_loop().create_connection, lambda: protocol)
        tls = self.settings.tls
        if tls is not None:
            handshake = Handshake(tls, self.session, connected)
            create = partial(
                create,
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


_Opened: TypeAlias = UpstreamConnection | SharedConnection


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
        self.open: set[_Opened] = set()

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
