"""Send a request to an upstream, and its answer to the client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import monotonic
from typing import Final

from prox.config.upstreams import Upstream, parse_upstream, render, template_names
from prox.http.call import Receiver, UpstreamCall
from prox.http.codec.fields import Headers
from prox.http.errors import UpstreamError
from prox.http.exchange import Client
from prox.http.negotiation import ALWAYS, NEVER, OFFERED
from prox.http.pool import Origin, OriginSettings, Pools
from prox.http.secure import TlsSettings
from prox.http.upstream import UpstreamConnection
from prox.proxy import recipient
from prox.proxy.forward import HeadBuilder
from prox.proxy.named import header_of
from prox.proxy.route import Action, Routed
from prox.proxy.tunnels import serve_tunnel
from prox.proxy.via import MarkedAnswer, via_lines

_log: Final = logging.getLogger("prox.proxy")

_UNREACHABLE: Final = frozenset(
    {"connect_refused", "connect_timeout", "tls_failed", "tls_timeout", "tls_untrusted", "unresolvable"}
)
"""What leaves a target out for a while."""

_ENDED_BY_LIMIT: Final = frozenset({"relay_idle_timeout", "idle_timeout"})
"""What ends a tunnel without anybody's fault."""

_RETRIED: Final = frozenset({"GET", "HEAD"})
_MOST_RETRIES: Final = 3
_MAX_RENDERED: Final = 4096


class Destination:
    """An upstream that a template became: where to connect, and what its requests say."""

    __slots__ = ("_plain", "_pools", "_tls", "address", "host", "origin", "prefix", "supply", "upstream")

    def __init__(
        self,
        upstream: Upstream,
        pools: Pools,
        settings: OriginSettings,
        tls: Callable[[str], TlsSettings],
        proto: str | None,
    ) -> None:
        self.upstream = upstream
        self._pools = pools
        self._plain = settings
        self._tls = tls
        http2 = ALWAYS if proto == "h2" else NEVER
        if upstream.tls:
            http2 = OFFERED if proto is None else http2
            settings = replace(settings, tls=tls(http2), http2=http2)
        elif http2 != NEVER:
            settings = replace(settings, http2=http2)
        host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
        self.address = f"{host}:{upstream.port}"
        self.host = (host if upstream.port == (443 if upstream.tls else 80) else self.address).encode()
        self.prefix = upstream.prefix.encode()
        self.origin: Origin = pools.origin(upstream.host, upstream.port, settings)
        self.supply = self.origin.supply

    def tunnels(self) -> Origin:
        """Where tunnels go to: by HTTP/1.1, in which they are asked for, whatever other requests are sent by."""
        if self.origin.settings.http2 == NEVER:
            return self.origin
        settings = replace(self._plain, tls=self._tls(NEVER)) if self.upstream.tls else self._plain
        return self._pools.origin(self.upstream.host, self.upstream.port, settings)


class ProxyAction:
    """Serves requests from upstreams.

    Args:
        upstream: `host:port`, URL or template (see the configuration reference).
        pools: where connections come from.
        settings: timeouts.
        tls: how TLS upstreams are reached, by what is said of HTTP/2; asked for each that there is.
        proto: "h2", "http/1.1", or None: what a TLS upstream chooses, else HTTP/1.1.
        headers: set on every request.
        fallback: serves where there is no target or the upstream can't be reached.
        stream: bodies may take their time.
        via: the name that prox gives itself in Via; None for no Via.
        is_trusted: whether a peer is a trusted proxy.
        failed: counts a failure by its kind.
        relay_idle_timeout: seconds in which nothing moves in a tunnel before it is broken off; None for no limit.
        send_proxy: version of the PROXY header that each connection begins with, 0 without: then it is one client's, and
            `settings` must keep none for the next.
    """

    def __init__(
        self,
        upstream: str,
        pools: Pools,
        settings: OriginSettings,
        tls: Callable[[str], TlsSettings],
        *,
        proto: str | None = None,
        headers: Mapping[str, str],
        fallback: Action | None,
        stream: bool = False,
        via: str | None = None,
        is_trusted: Callable[[str], bool],
        failed: Callable[[str], None],
        relay_idle_timeout: float | None = None,
        send_proxy: int = 0,
    ) -> None:
        self.fallback = fallback
        self._template = upstream
        self._names = frozenset(template_names(upstream))
        self._pools = pools
        self._settings = settings
        self._tls = tls
        self._proto = proto
        self._builder = HeadBuilder(headers, via)
        self._via = None if via is None else via_lines(via)
        self._stream = stream
        self._is_trusted = is_trusted
        self._failed = failed
        self._relay_idle_timeout = relay_idle_timeout
        self._send_proxy = send_proxy
        self._rendered: dict[object, Destination] = {}
        self._only = (
            None if self._names else Destination(parse_upstream(upstream), pools, settings, tls, proto)
        )

    async def serve(self, routed: Routed) -> UpstreamError | None:
        """See Action. Returns an error only while nothing of the request has gone to an upstream."""
        destination = self._only or self._destination(routed)
        if isinstance(destination, UpstreamError):
            return destination
        exchange = routed.exchange
        if exchange.head.rare is not None:
            if recipient.ends_here(exchange):
                recipient.answer(exchange)
                return None
            if exchange.asks_for_tunnel:
                return await self._tunnel(routed, destination)
        routed.upstream = destination.address
        head = self._builder.build(
            routed, destination.host, destination.prefix, trusted=self._is_trusted(exchange.client.ip)
        )
        body = exchange.body
        if self._stream or (body is not None and is_grpc(exchange.head.headers)):
            exchange.streams = True
        answer = routed.answer
        receiver: Receiver = answer if self._via is None else MarkedAnswer(answer, self._via)
        connection: UpstreamCall | None = destination.supply.take()
        fresh = connection is None
        retried = 0
        while True:
            if connection is None:
                try:
                    connection = await destination.origin.connect(self._preface(exchange.client))
                except UpstreamError as unreachable:
                    if routed.target is not None and unreachable.kind in _UNREACHABLE:
                        routed.target.failed(monotonic())
                    return unreachable
                if routed.target is not None:
                    routed.target.reached()
            answer.read_from(connection)
            if body is None:
                connection.send(head, exchange.method, receiver)
            else:
                paced = None if routed.pace is None else routed.pace.upload(connection, body)
                connection.upload(
                    head,
                    exchange.method,
                    receiver,
                    paced or body,
                    chunked=body.is_unknown(),
                    patient=exchange.streams,
                )
                body.join(paced or connection, self._unwanted_trailers(routed))
                connection.flush()
            try:
                await connection.finished
            except asyncio.CancelledError:
                connection.stop()
                raise
            error = connection.error
            if error is None:
                target = routed.target
                if target is not None and target.book.failing:
                    target.reached()
                return None
            retried += 1
            if body is not None or not _may_be_retried(error, exchange.method, fresh=fresh, retried=retried):
                self._report(routed, error)
                return None
            connection, fresh = None, True

    async def _tunnel(self, routed: Routed, destination: Destination) -> UpstreamError | None:
        """Serve an upgrade or a CONNECT, on a connection of its own: a tunnel would take it away from others anyway."""
        exchange = routed.exchange
        target = routed.target
        routed.upstream = destination.address
        head = self._builder.build(
            routed, destination.host, destination.prefix, trusted=self._is_trusted(exchange.client.ip)
        )
        answer = routed.answer
        receiver: Receiver = answer if self._via is None else MarkedAnswer(answer, self._via)
        try:
            connection = await destination.tunnels().connect(self._preface(exchange.client))
        except UpstreamError as unreachable:
            if target is not None and unreachable.kind in _UNREACHABLE:
                target.failed(monotonic())
            return unreachable
        if target is not None:
            target.reached()
        if not isinstance(connection, UpstreamConnection):
            connection.stop()
            return UpstreamError(
                "bad_upstream", "the upstream speaks no HTTP/1.1, in which tunnels are asked for"
            )
        error = await serve_tunnel(
            routed,
            connection,
            head,
            receiver,
            via=self._via,
            silent=self._relay_idle_timeout,
            idle=self._settings.idle_timeout,
        )
        if error is not None:
            self._report(routed, error)
        return None

    def _preface(self, client: Client) -> bytes:
        """What a new connection begins with."""
        return header_of(client, self._send_proxy) if self._send_proxy else b""

    def address(self, routed: Routed) -> str | UpstreamError:
        """The target that a request goes to, as it is counted: the balancer's, or the upstream."""
        target = routed.target
        if target is not None and "target" in self._names:
            return target.address
        destination = self._only or self._destination(routed)
        return destination if isinstance(destination, UpstreamError) else destination.address

    def _unwanted_trailers(self, routed: Routed) -> frozenset[bytes] | None:
        """See RequestBody.join: trailers go on where the client asks for some itself."""
        rare = routed.exchange.head.rare
        return self._builder.not_in_trailers(routed) if rare is not None and rare.trailers else None

    def _report(self, routed: Routed, error: UpstreamError) -> None:
        """Answer for a failed upstream; where the answer had begun it was broken off already."""
        exchange = routed.exchange
        if error.kind == "client_aborted":
            exchange.reason = exchange.reason or error.kind
            return
        if error.kind == "stopped":
            return
        if error.kind in _ENDED_BY_LIMIT:
            exchange.reason = error.kind
            return
        self._failed(error.kind)
        _log.error("route %s: upstream %s: %s: %s", routed.route.id, routed.upstream, error.kind, error)
        exchange.reason = error.kind
        if not routed.answer.began and not exchange.status and not exchange.broken:
            exchange.refuse(error.status)

    def _destination(self, routed: Routed) -> Destination | UpstreamError:
        """The upstream of a template, for this request's target and the route's variables."""
        target = routed.target
        if target is None and "target" in self._names:
            return _no_target(routed)
        values = routed.route.variables
        key: object
        if target is None:
            key = tuple(values.items())
        elif values:
            values = {**values, "target": target.address}
            key = tuple(values.items())
        else:
            key = target.address
            values = {"target": target.address}
        destination = self._rendered.get(key)
        if destination is None:
            try:
                upstream = parse_upstream(render(self._template, values))
            except ValueError as error:
                return UpstreamError("bad_upstream", str(error))
            destination = Destination(upstream, self._pools, self._settings, self._tls, self._proto)
            if len(self._rendered) >= _MAX_RENDERED:
                self._rendered.clear()
            self._rendered[key] = destination
        return destination


def _may_be_retried(error: UpstreamError, method: str, *, fresh: bool, retried: int) -> bool:
    """Whether a request without a body may be sent once more: see RFC 9110 section 9.2.2 and RFC 9113 section 8.7."""
    if error.unprocessed:
        return retried <= _MOST_RETRIES
    return error.stale and not fresh and method in _RETRIED


def _no_target(routed: Routed) -> UpstreamError:
    balancer = routed.route.balancer
    wait = None if balancer is None else balancer.wait(routed.match.key, monotonic())
    if wait is None:
        return UpstreamError("no_target", "the balancer has no target")
    return UpstreamError(
        "no_healthy_target", "all targets are left out, as they could not be reached", retry_after=wait
    )


def is_grpc(headers: Headers) -> bool:
    """Whether a request is gRPC, whose streams last as long as they like."""
    return any(
        name.lower() == b"content-type" and value.startswith(b"application/grpc") for name, value in headers
    )
