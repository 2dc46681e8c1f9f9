"""The way of a TLS connection that may be passed on unopened: server name, route, target, guards, upstream, relay, log.

It reads like the pipeline of requests, and keeps its rule: nothing goes to an upstream before the plugins have allowed it,
and a plugin that can't be asked is no plugin that allowed.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from time import monotonic
from typing import Final, NoReturn, TypeAlias

from prox.balancing import Target
from prox.http.arrival import Arrival, TurnedBackError
from prox.http.dialling import probe
from prox.http.errors import UpstreamError
from prox.http.exchange import Client
from prox.l4.hello import Broken, Hello, HelloReader, Incomplete, NoTls
from prox.l4.relay import Relay
from prox.l4.stores import Stores
from prox.observe.access import AccessLog, AccessRecord
from prox.observe.counters import Counters
from prox.plugin import HookError, HookIndex, HookRecord, RequestNotEncodable
from prox.routing import Match, Table
from prox.wire import HOOK_ON_CONNECT, HOOK_ON_DISCONNECT, ConnInfo, DisconnectInfo

from .actions.passing import PassAction
from .peeking import is_lost, peek
from .route import Route

_log: Final = logging.getLogger("prox.proxy")

HELLO_TIMEOUT = 5.0
"""Seconds for the whole ClientHello, however it comes."""

HelloOrNot: TypeAlias = Hello | NoTls | Broken

_UNREACHABLE: Final = frozenset({"connect_refused", "connect_timeout", "unresolvable"})
"""What leaves a target out for a while."""

_UNRECOGNIZED_NAME: Final = b"\x15\x03\x03\x00\x02\x02\x70"
"""The TLS alert to a client whose name nothing answers for (RFC 6066 section 3)."""


class Passed:
    """A connection that a route passes on.

    Attributes:
        client: whose it is.
        route: the route.
        match: what its pattern captured.
        name: the server name asked for.
        started: when its hello was there.
        target: the balancer's choice.
        upstream: the address that was asked, for the log.
        relay: relays it, None before it does.
        record: which plugin decided what.
        hook_seconds: time spent in hooks.
        allowed: no plugin stood in its way.
        reason: why it ended otherwise than asked, one token for the access log, or "".
    """

    def __init__(self, client: Client, route: Route, match: Match[Route | None], name: str) -> None:
        self.client = client
        self.route = route
        self.match = match
        self.name = name
        self.started = monotonic()
        self.target: Target | None = None
        self.upstream = ""
        self.relay: Relay | None = None
        self.record: HookRecord | None = None
        self.hook_seconds = 0.0
        self.allowed = False
        self.reason = ""

    @property
    def received(self) -> int:
        """Bytes from the client."""
        return 0 if self.relay is None else self.relay.received

    @property
    def sent(self) -> int:
        """Bytes to the client."""
        return 0 if self.relay is None else self.relay.sent


class Passing:
    """Looks at the new connections of one service under one configuration: a step of its front door.

    Args:
        table: the routes that have a domain, by domain alone; None those that leave a connection to HTTP.
        index: the hooks.
        stores: of all relays.
        service: its name.
        ends_tls: whether what is not passed on meets a TLS handshake next.
        counters: the service's figures.
        idle_timeout: silence after which a relay ends, in seconds; None: never.
        keep_alive: TCP keep-alive probes to clients after this silence.
        unrouted_log: for connections that no route takes.
    """

    def __init__(
        self,
        table: Table[Route | None],
        index: HookIndex,
        stores: Stores,
        *,
        service: str = "",
        ends_tls: bool = True,
        counters: Counters | None = None,
        idle_timeout: float | None = None,
        keep_alive: float | None = None,
        unrouted_log: AccessLog | None = None,
    ) -> None:
        self._table = table
        self._hooks = index
        self._stores = stores
        self._service = service
        self._ends_tls = ends_tls
        self._counters = counters or Counters()
        self._idle_timeout = idle_timeout
        self._keep_alive = keep_alive
        self._unrouted_log = unrouted_log
        self._running = 0
        self._idle: Callable[[], None] | None = None

    def when_idle(self, call: Callable[[], None]) -> None:
        """Call once, as soon as none of its connections is open: for a configuration that no new one meets."""
        self._idle = call
        self._call_when_idle()

    async def __call__(self, arrival: Arrival) -> None:
        """Pass a connection on to its end, drop it, or let it go on with nothing taken from it.

        Raises:
            TurnedBackError: it is dropped, or there is nothing that it could go on to.
        """
        arrival.within(HELLO_TIMEOUT, "hello_timeout")
        hello: HelloOrNot | Incomplete = await peek(arrival, HelloReader().read, Incomplete)
        assert not isinstance(hello, Incomplete)
        arrival.within(None, "")
        if isinstance(hello, Hello) and hello.server_name:
            match = self._table.match(hello.server_name, "", "")
            route = None if match is None else match.value
            if match is not None and route is not None:
                passed = Passed(arrival.client, route, match, hello.server_name)
                if not isinstance(route.action, PassAction):
                    self._drop(passed)
                arrival.serve()
                await self._pass(arrival, route.action, passed)
                return
        if not self._ends_tls and not isinstance(hello, NoTls):
            self._refuse(arrival, hello)

    async def _pass(self, arrival: Arrival, action: PassAction, passed: Passed) -> None:
        """One connection, from its hello to its end."""
        route = passed.route
        self._running += 1
        try:
            if route.balancer is not None:
                passed.target = route.balancer.pick(passed.match.key, passed.started)
            if await self._is_allowed(passed):
                passed.allowed = True
                await self._connect_and_relay(arrival, action, passed)
        except UpstreamError as error:
            self._report(passed, error)
        except asyncio.CancelledError:
            passed.reason = passed.reason or "shutdown"
            raise
        finally:
            if passed.target is not None:
                passed.target.release()
            try:
                self._end(passed)
            finally:  # a configuration that is no longer in force must come to its end
                self._running -= 1
                self._call_when_idle()

    async def _is_allowed(self, passed: Passed) -> bool:
        """Ask on_connect of the route's plugins."""
        route, match = passed.route, passed.match
        if not route.guarded or not self._hooks.has_hook(route.id, HOOK_ON_CONNECT):
            return True
        record = passed.record = HookRecord()
        info = ConnInfo(
            route_id=route.id,
            domain=passed.name,
            remote_addr=passed.client.address,
            match_domain=match.match_domain,
            match_glob=match.match_glob,
        )
        try:
            result = await self._hooks.on_connect(route.id, info, record=record)
        except HookError:  # the host has logged it
            record.verdict = "error"
            passed.reason = "plugin_error"
            return False
        except RequestNotEncodable:
            record.verdict = "error"
            passed.reason = "not_encodable"
            return False
        finally:
            passed.hook_seconds = monotonic() - passed.started
        if not result.allow:
            passed.reason = "plugin_denied"
        return result.allow

    async def _connect_and_relay(self, arrival: Arrival, action: PassAction, passed: Passed) -> None:
        """Raises UpstreamError where there is no connection to the upstream."""
        balancer = passed.route.balancer
        if passed.target is None and balancer is not None:
            if balancer.wait(passed.match.key, monotonic()) is not None:
                raise UpstreamError(
                    "no_healthy_target", "all targets are left out, as they could not be reached"
                )
            raise UpstreamError("no_target", "the balancer has no target")
        upstream = action.upstream(passed.target, passed.route.variables)
        host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
        address = f"{host}:{upstream.port}"
        place = address if passed.target is None else passed.target.address
        queue = action.queue
        if queue is not None:
            refused = await queue.enter(place)
            if refused is not None:
                raise refused
        try:
            if is_lost(arrival.sock):  # while a plugin was asked, or there was no place
                passed.reason = "client_aborted"
                return
            passed.upstream = address
            try:
                sock = await action.connect(upstream, passed.client)
            except UpstreamError as error:
                if passed.target is not None and error.kind in _UNREACHABLE:
                    passed.target.failed(monotonic())
                raise
            if passed.target is not None:
                passed.target.reached()
            await self._relay(arrival, sock, passed)
        finally:
            if queue is not None:
                queue.leave(place)

    async def _relay(self, arrival: Arrival, upstream: socket.socket, passed: Passed) -> None:
        client = arrival.take_socket()
        if self._keep_alive and client.family != socket.AF_UNIX:
            probe(client, self._keep_alive)
        speed = passed.route.speed
        limits = None
        if speed is not None and speed.active:
            limits = speed.begin(passed.client, None, asyncio.get_running_loop())
        relay = passed.relay = Relay(
            client,
            upstream,
            self._stores,
            idle_timeout=self._idle_timeout,
            upload=None if limits is None else limits.metered_upload(),
            download=None if limits is None else limits.metered_download(),
        )
        try:
            relay.start()
            await relay.finished
        finally:
            relay.stop("shutdown")
            passed.reason = relay.reason
            if limits is not None:
                limits.leave()

    # The end.

    def _report(self, passed: Passed, error: UpstreamError) -> None:
        self._counters.upstream_failed(error.kind)
        _log.error("route %s: %s: %s", passed.route.id, error.kind, error)
        passed.reason = error.kind

    def _end(self, passed: Passed) -> None:
        route = passed.route
        seconds = monotonic() - passed.started
        if passed.allowed and route.guarded and HOOK_ON_DISCONNECT in self._hooks.hooks_of(route.id):
            info = DisconnectInfo(
                route_id=route.id,
                target="" if passed.target is None else passed.target.address,
                remote_addr=passed.client.address,
                bytes_received=passed.received,
                bytes_sent=passed.sent,
                duration_ms=round(seconds * 1000),
            )
            self._hooks.on_disconnect(route.id, info)
        self._counters.passed_on(passed.received, passed.sent)
        if passed.reason:
            self._counters.ended(passed.reason)
        if route.access_log is not None:
            self._write(route.access_log, passed, seconds)

    def _drop(self, passed: Passed) -> NoReturn:
        """Raises TurnedBackError."""
        passed.reason = "dropped"
        if passed.route.access_log is not None:
            self._write(passed.route.access_log, passed, 0.0)
        raise TurnedBackError("dropped", f"dropped by route {passed.route.id}")

    def _refuse(self, arrival: Arrival, hello: Hello | Broken) -> NoReturn:
        """Nothing here answers for a TLS client. Raises TurnedBackError."""
        name = hello.server_name if isinstance(hello, Hello) else ""
        reason = "malformed" if isinstance(hello, Broken) else "no_route"
        if reason == "no_route":
            arrival.sock.send(_UNRECOGNIZED_NAME)
            arrival.sock.shutdown(socket.SHUT_WR)
        if self._unrouted_log is not None:
            record = _record(self._service, -1, arrival.client, name)
            record.reason = reason
            self._unrouted_log.write(record)
        text = (
            hello.why
            if isinstance(hello, Broken)
            else f"no route passes {name or 'a nameless connection'} on"
        )
        raise TurnedBackError(reason, text)

    @staticmethod
    def _write(log: AccessLog, passed: Passed, seconds: float) -> None:
        line = _record(passed.route.service, passed.route.index, passed.client, passed.name)
        line.duration_ms = seconds * 1000
        line.bytes_in = passed.received
        line.bytes_out = passed.sent
        line.target = passed.upstream
        line.reason = passed.reason
        if passed.record is not None:
            line.plugin = passed.record.plugin
            line.verdict = passed.record.verdict
            line.hook_ms = passed.hook_seconds * 1000
        log.write(line)

    def _call_when_idle(self) -> None:
        call = self._idle
        if call is not None and not self._running:
            self._idle = None
            call()


def _record(service: str, route: int, client: Client, name: str) -> AccessRecord:
    """A line of the access log of what was no request."""
    return AccessRecord(
        service=service,
        route=route,
        method="",
        path="",
        status=0,
        duration_ms=0.0,
        bytes_in=0,
        bytes_out=0,
        client_ip=client.ip,
        user_agent="",
        target="",
        server_name=name,
    )
