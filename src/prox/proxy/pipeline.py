"""The way of one request: match, target, hooks, action, and the log at its end.

One coroutine reads like the description of the traffic page. A denial, a fallback and an unreachable upstream all pass
through `_serve`, which is the only place where an action is asked: no action ever runs before its plugins have allowed it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from math import ceil
from time import monotonic
from typing import Any, Final

from prox.http.codec.errors import BadMessageError
from prox.http.codec.fields import Headers
from prox.http.errors import UpstreamError
from prox.http.exchange import Client, Exchange
from prox.observe.access import AccessLog, AccessRecord
from prox.observe.counters import Counters
from prox.plugin import HookError, HookIndex, HookRecord, RequestNotEncodable
from prox.routing import Table
from prox.routing.paths import has_dot_segments
from prox.wire import (
    FEATURE_TRACE,
    HOOK_ON_DISCONNECT,
    HOOK_ON_REQUEST,
    HOOK_ON_RESPONSE,
    TRACE_BYTES,
    DisconnectInfo,
    RequestInfo,
)

from . import hooks
from .altered import altered
from .client import ClientAddresses, Network
from .held import HeldAnswer
from .route import Action, Route, Routed
from .speed import serve_within
from .tracing import RandomBytes, start_trace

_log: Final = logging.getLogger("prox.proxy")


class Pipeline:
    """Serves the requests of one service under one configuration; a reload makes another."""

    def __init__(
        self,
        table: Table[Route],
        index: HookIndex,
        *,
        trusted: Sequence[Network] = (),
        pass_dot_segments: bool = False,
        counters: Counters | None = None,
        service: str = "",
        unrouted_log: AccessLog | None = None,
        random_bytes: RandomBytes = os.urandom,
    ) -> None:
        self._table = table
        self._random_bytes = random_bytes
        self._hooks = index
        self._addresses = ClientAddresses(trusted)
        self._pass_dot_segments = pass_dot_segments
        self.counters = counters or Counters()
        self._running = 0
        self._idle: Callable[[], None] | None = None
        self._service = service
        self._unrouted_log = unrouted_log

    def when_idle(self, call: Callable[[], None]) -> None:
        """Call once, as soon as none of its requests runs: for a configuration that no new request meets."""
        self._idle = call
        self._call_when_idle()

    def malformed(
        self, client: Client, error: BadMessageError, method: str, path: str, bytes_out: int
    ) -> None:
        """A message was refused before it became an exchange."""
        self.counters.request(error.status, 0.0, 0, bytes_out)
        self.counters.ended(error.reason)
        _log.debug("refused a message of %s: %s", client.address, error)
        if self._unrouted_log is not None:
            record = AccessRecord(
                service=self._service,
                route=-1,
                method=method,
                path=path,
                status=error.status,
                duration_ms=0.0,
                bytes_in=0,
                bytes_out=bytes_out,
                client_ip=client.ip,
                user_agent="",
                target="",
                reason=error.reason,
            )
            self._unrouted_log.write(record)

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request."""
        target = exchange.target
        path = target.path
        if "." in path and not self._pass_dot_segments and has_dot_segments(path):
            self._refuse(exchange, 400, "dot_segments")
            return
        if exchange.method == "CONNECT":
            match = self._table.match_connect(exchange.host)
        else:
            match = self._table.match(exchange.host, path, exchange.method, target.authority is not None)
        if match is None:
            self._refuse(exchange, 404, "no_route")
            return
        route = match.value
        routed = Routed(exchange, route, match)
        self._running += 1
        try:
            if route.max_body_bytes and not _fits(exchange, route.max_body_bytes):
                exchange.refuse(413, "request body too large", reason="body_size")
                return
            if route.balancer is not None:
                routed.target = route.balancer.pick(match.key, exchange.started)
            if route.guarded and not self._hooks.hooks_of(route.id).isdisjoint(_OF_EXCHANGES):
                await self._serve_guarded(routed)
            elif route.speed is not None and route.speed.active:
                await self._serve(routed, None)
            else:
                failure = await route.action.serve(routed)
                if failure is not None:
                    await self._fall_back(routed, failure, None)
        except asyncio.CancelledError:
            exchange.reason = exchange.reason or "client_aborted"
            raise
        finally:
            if routed.target is not None:
                routed.target.release()
            try:
                self._log(routed)
            finally:  # a configuration that is no longer in force must come to its end
                self._running -= 1
                if self._idle is not None:
                    self._call_when_idle()

    def _call_when_idle(self) -> None:
        call = self._idle
        if call is not None and not self._running:
            self._idle = None
            call()

    def _refuse(self, exchange: Exchange, status: int, reason: str) -> None:
        """Refuse what no route took."""
        exchange.refuse(status, reason=reason)
        seconds = exchange.age()
        self.counters.request(status, seconds, 0, exchange.bytes_out)
        self.counters.ended(reason)
        if self._unrouted_log is not None:
            record = self._record(exchange, seconds)
            record.service = self._service
            record.client_ip = self._addresses.of(exchange.client, exchange.head.forwarded_for)[0]
            self._unrouted_log.write(record)

    # Hooks.

    async def _serve_guarded(self, routed: Routed) -> None:
        route = routed.route
        self._tell_client(routed)
        served = self._hooks.hooks_of(route.id)
        features = self._hooks.features_of(route.id)
        if FEATURE_TRACE in features:
            start_trace(routed, self._random_bytes(TRACE_BYTES))
        info = None
        held = None
        if not served.isdisjoint(_SHOWN):
            body = routed.exchange.body
            shown = b""
            if body is not None:
                shown = await hooks.body_shown(routed.exchange, body)
                if body.error is not None:
                    return
            info = hooks.request_info(routed, shown)
            if features:
                info = hooks.with_features(routed, info, features)
            if HOOK_ON_RESPONSE in served:
                held = self._hold(routed, info, features)
        try:
            await self._serve(routed, info)
            if held is not None and held.began:
                await held.settled
        finally:
            if held is not None:
                held.cancel()
            if routed.passed_on and HOOK_ON_DISCONNECT in self._hooks.hooks_of(route.id):
                self._hooks.on_disconnect(route.id, self._disconnect_info(routed), stage=routed.stage)

    async def _serve(self, routed: Routed, info: RequestInfo | None) -> None:
        """Ask the plugins, then the action; the same for its fallback where one acts. Without `info` none is asked."""
        verdict = await self._ask(routed, info, 0)
        if verdict == _ALLOWED:
            routed.passed_on = True
            failure = await _acting(routed, routed.route.action)
            if failure is None:
                return
        elif verdict == _FALLBACK:
            failure = UpstreamError("plugin_fallback", "a plugin asked for the fallback")
        else:
            return
        await self._fall_back(routed, failure, info)

    async def _fall_back(self, routed: Routed, failure: UpstreamError, info: RequestInfo | None) -> None:
        """Let the fallback serve what the action could not, after the fallback's own plugins have allowed it."""
        # None for CONNECT: a client that asks for one server must not end at another.
        action = None if routed.exchange.method == "CONNECT" else routed.route.action.fallback
        while action is not None:
            routed.stage += 1
            verdict = await self._ask(routed, info, routed.stage)
            if verdict is None:
                return
            if verdict == _ALLOWED:
                routed.passed_on = True
                next_failure = await _acting(routed, action)
                if next_failure is None:
                    return
                failure = next_failure
            action = action.fallback
        self.counters.upstream_failed(failure.kind)
        _log.error("route %s: %s: %s", routed.route.id, failure.kind, failure)
        headers: Headers | None = None
        if failure.retry_after is not None:
            headers = [(b"Retry-After", b"%d" % max(1, ceil(failure.retry_after)))]
        routed.exchange.refuse(failure.status, reason=failure.kind, headers=headers)

    async def _ask(self, routed: Routed, info: RequestInfo | None, stage: int) -> str | None:
        """Ask on_request of one stage: _ALLOWED, _FALLBACK, or None where the request was answered or dropped."""
        route = routed.route
        if info is None or not self._hooks.has_hook(route.id, HOOK_ON_REQUEST, stage):
            return _ALLOWED
        exchange = routed.exchange
        record = routed.record
        if record is None:
            record = routed.record = HookRecord()
        deadline = self._hooks.deadline(route.id, routed.hook_seconds) if stage else None
        before = monotonic()
        try:
            verdict = await self._hooks.on_request(
                route.id, info, stage=stage, deadline=deadline, record=record
            )
        except HookError:  # the host has logged it
            record.verdict = "error"
            exchange.refuse(503, reason="plugin_error")
            return None
        except RequestNotEncodable as error:
            record.verdict = "error"
            exchange.refuse(error.status, str(error), reason="not_encodable")
            return None
        finally:
            routed.hook_seconds += monotonic() - before
        if verdict.drop:
            exchange.reason = "plugin_dropped"
            exchange.drop()
            return None
        if verdict.fallback:
            hooks.take_verdict(routed, verdict)
            return _FALLBACK
        if not verdict.allow:
            hooks.deny(exchange, verdict)
            return None
        hooks.take_verdict(routed, verdict)
        return _ALLOWED

    def _hold(self, routed: Routed, info: RequestInfo, features: frozenset[str]) -> HeldAnswer:
        route = routed.route
        record = routed.record = HookRecord()

        async def decide(status: int, headers: Headers) -> tuple[int, Headers]:
            before = routed.exchange.age()
            if routed.response_changes:
                headers = altered(headers, routed.response_changes)
            try:
                shown = hooks.response_info(status, headers, features)
                result = await self._hooks.on_response(
                    route.id, info, shown, stage=routed.stage, record=record
                )
            except (HookError, RequestNotEncodable):
                record.verdict = "error"
                raise
            finally:
                routed.hook_seconds += routed.exchange.age() - before
            return hooks.changed(status, headers, result)

        held = HeldAnswer(routed.exchange, decide)
        routed.answer = held
        return held

    def _tell_client(self, routed: Routed) -> None:
        exchange = routed.exchange
        routed.client_ip, routed.client_address = self._addresses.of(
            exchange.client, exchange.head.forwarded_for
        )

    # The end.

    def _log(self, routed: Routed) -> None:
        exchange, route = routed.exchange, routed.route
        seconds = exchange.age()
        body = exchange.body
        received = 0 if body is None else body.received
        self.counters.request(exchange.status, seconds, received, exchange.bytes_out)
        if exchange.reason:
            self.counters.ended(exchange.reason)
        log = route.access_log
        if log is None:
            return
        if not routed.client_address:
            self._tell_client(routed)
        record = routed.record
        line = self._record(exchange, seconds)
        line.service = route.service
        line.route = route.index
        line.client_ip = routed.client_ip
        line.target = routed.upstream
        if record is not None:
            line.plugin = record.plugin
            line.verdict = record.verdict
            line.hook_ms = routed.hook_seconds * 1000
        log.write(line)

    @staticmethod
    def _record(exchange: Exchange, seconds: float) -> AccessRecord:
        """What the log says of any exchange."""
        return AccessRecord(
            service="",
            route=-1,
            method=exchange.method,
            path=exchange.target.path,
            status=exchange.status,
            duration_ms=seconds * 1000,
            bytes_in=0 if exchange.body is None else exchange.body.received,
            bytes_out=exchange.bytes_out,
            client_ip="",
            user_agent=_user_agent(exchange.head.headers),
            target="",
            reason=exchange.reason,
        )

    @staticmethod
    def _disconnect_info(routed: Routed) -> DisconnectInfo:
        exchange = routed.exchange
        return DisconnectInfo(
            route_id=routed.route.id,
            target="" if routed.target is None else routed.target.address,
            remote_addr=routed.client_address,
            bytes_received=0 if exchange.body is None else exchange.body.received,
            bytes_sent=exchange.bytes_out,
            duration_ms=round(exchange.age() * 1000),
            trace=routed.trace,
        )


_SHOWN: Final = frozenset({HOOK_ON_REQUEST, HOOK_ON_RESPONSE})
"""Hooks that are shown the request."""
_OF_EXCHANGES: Final = _SHOWN | {HOOK_ON_DISCONNECT}
"""Hooks that a request may meet."""

_ALLOWED: Final = "allowed"
_FALLBACK: Final = "fallback"


def _acting(routed: Routed, action: Action) -> Coroutine[Any, Any, UpstreamError | None]:
    """An action that serves a request, within the limits of bandwidth that hold for it."""
    speed = routed.route.speed
    if speed is not None and (speed.active or routed.speed is not None):
        limits = speed.begin(routed.exchange.client, routed.speed, asyncio.get_running_loop())
        if limits is not None:
            return serve_within(limits, action, routed)
    return action.serve(routed)


def _fits(exchange: Exchange, most: int) -> bool:
    """Whether a body may be as large as a route allows; what comes later is held to it."""
    return exchange.body is None or exchange.body.limit(most)


def _user_agent(headers: Headers) -> str:
    for name, value in headers:
        if name == b"User-Agent" or name.lower() == b"user-agent":
            return hooks.text_of(value)
    return ""
