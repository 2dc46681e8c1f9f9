"""Where a TLS connection that is passed on unopened goes: its upstream, connected and told whose connection it is."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from prox.balancing import Target
from prox.config.upstreams import TARGET, Upstream, parse_upstream, render, template_names
from prox.http.dialling import dial
from prox.http.errors import UpstreamError
from prox.http.exchange import Client
from prox.proxy.actions.queued import Queue
from prox.proxy.named import header_of
from prox.proxy.route import Action, Routed


@dataclass(frozen=True, slots=True)
class PassSettings:
    """How an upstream is connected to; seconds, None is no limit.

    Attributes:
        connect_timeout: for name look-up and connect together.
        keep_alive: TCP keep-alive probes after this silence.
        send_proxy: version of the PROXY header that the connection begins with; None: it begins with the client's bytes.
    """

    connect_timeout: float | None = 30.0
    keep_alive: float | None = 30.0
    send_proxy: int | None = None


class PassAction:
    """Connects to the upstream of passed connections.

    Args:
        upstream: `host:port` or a template.
        settings: see there.
        queue: limits connections to a target, None where nothing does.
    """

    fallback: Action | None = None

    def __init__(self, upstream: str, settings: PassSettings, queue: Queue | None = None) -> None:
        self.queue = queue
        self._template = upstream
        self._settings = settings
        self._only = None if template_names(upstream) else parse_upstream(upstream)

    async def serve(self, routed: Routed) -> UpstreamError | None:
        """A request for this host that came in TLS which prox ended itself: as it was for another name, or without one.

        It is refused (RFC 9110 section 15.5.20) and not served by a later route, where other guards may stand.
        """
        routed.exchange.refuse(421, reason="misdirected")
        return None

    def upstream(self, target: Target | None, variables: Mapping[str, str]) -> Upstream:
        """Where a connection goes.

        Args:
            target: the balancer's choice, None without a balancer.
            variables: of the route.

        Raises:
            UpstreamError: of kind bad_upstream.
        """
        if self._only is not None:
            return self._only
        values = variables if target is None else {**variables, TARGET: target.address}
        try:
            return parse_upstream(render(self._template, values))
        except ValueError as error:
            raise UpstreamError("bad_upstream", str(error)) from None

    async def connect(self, upstream: Upstream, client: Client) -> socket.socket:
        """A connection for a client.

        Raises:
            UpstreamError: there is none.
        """
        settings = self._settings
        sock = await dial(
            upstream.host, upstream.port, within=settings.connect_timeout, keep_alive=settings.keep_alive
        )
        if settings.send_proxy is not None:
            try:
                sock.send(header_of(client, settings.send_proxy))  # the first bytes always fit
            except OSError as error:
                sock.close()
                raise UpstreamError("upstream_reset", f"{upstream.host}:{upstream.port}: {error}") from None
        return sock
