"""A route as it is served, and a request that it took."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from prox.balancing import Balancer, Target
from prox.http.codec.fields import Headers
from prox.http.errors import UpstreamError
from prox.http.exchange import Answer, Exchange
from prox.observe.access import AccessLog
from prox.plugin import HookRecord
from prox.routing import Match
from prox.wire import HeaderChanges, Speed, TraceContext

if TYPE_CHECKING:
    from .speed import Pace, RouteSpeed


class Action(Protocol):
    """Serves requests.

    Attributes:
        fallback: serves where this one has no target, can't reach its upstream, or a plugin says so.
    """

    fallback: Action | None

    def serve(self, routed: Routed) -> Coroutine[Any, Any, UpstreamError | None]:
        """Answer the request, or return why it can't be and was not begun."""


class Route:
    """A route, compiled.

    Attributes:
        id: `service:index`, its name towards plugins.
        service: name of the service.
        index: its place among the routes of the service.
        action: what serves it.
        balancer: chooses the target, None without one.
        variables: `set`.
        guarded: whether any plugin is bound to it.
        own_headers: folded names that only plugins may set.
        access_log: None where it is off.
        max_body_bytes: of a request's body; 0 where what holds for the whole service is enough.
        speed: its limits of bandwidth, None where it can't have any.
        forward_proxy: it takes requests for other servers, whose upstream is a proxy too.
        stages: the action and its fallbacks, counted.
    """

    __slots__ = (
        "access_log",
        "action",
        "balancer",
        "forward_proxy",
        "guarded",
        "id",
        "index",
        "max_body_bytes",
        "own_headers",
        "service",
        "speed",
        "stages",
        "variables",
    )

    def __init__(
        self,
        service: str,
        index: int,
        action: Action,
        *,
        balancer: Balancer | None = None,
        variables: dict[str, str] | None = None,
        guarded: bool = False,
        own_headers: frozenset[bytes] = frozenset(),
        access_log: AccessLog | None = None,
        max_body_bytes: int = 0,
        speed: RouteSpeed | None = None,
        forward_proxy: bool = False,
    ) -> None:
        self.id = f"{service}:{index}"
        self.service = service
        self.index = index
        self.action = action
        self.balancer = balancer
        self.variables = variables or {}
        self.guarded = guarded
        self.own_headers = own_headers
        self.access_log = access_log
        self.max_body_bytes = max_body_bytes
        self.speed = speed
        self.forward_proxy = forward_proxy
        self.stages = 1
        following = action.fallback
        while following is not None:
            self.stages += 1
            following = following.fallback


class Routed:
    """A request that a route took.

    Attributes:
        exchange: the request.
        answer: where the action writes; not the exchange itself where a hook sees the answer first.
        match: which route and what its patterns captured.
        target: the balancer's choice.
        client_ip: whose request it is; told where a plugin or a log asks.
        client_address: the same with the port.
        upstream: the address that was asked, for the log.
        headers: what plugins set on the upstream's request.
        replaced: folded names that plugins set or remove: what the client sent under them does not go on.
        appended: what plugins add to the upstream's request beside what the client sent.
        trace: of the request, where a plugin asks for it.
        response_changes: what plugins change in the headers of the client's response, whatever serves it.
        path: decoded path that plugins put in place of the client's, or "".
        strip_query: plugins took the query away.
        speed: what plugins allow of bandwidth, None where they say nothing.
        pace: the limits of bandwidth that hold for it, None for none.
        record: which plugin decided what, None where none was asked.
        hook_seconds: time spent in hooks.
        passed_on: the plugins allowed, and an action was asked.
        stage: how many fallbacks stand before the action that serves it.
    """

    client_ip: str = ""
    client_address: str = ""
    target: Target | None = None
    upstream: str = ""
    headers: Headers = ()  # type: ignore[assignment] # empty, and never changed in place
    replaced: frozenset[bytes] = frozenset()
    appended: Headers = ()  # type: ignore[assignment] # the same
    trace: TraceContext | None = None
    response_changes: list[HeaderChanges] = ()  # type: ignore[assignment] # the same
    path: str = ""
    strip_query: bool = False
    speed: Speed | None = None
    pace: Pace | None = None
    record: HookRecord | None = None
    hook_seconds: float = 0.0
    stage: int = 0
    passed_on: bool = False

    def __init__(self, exchange: Exchange, route: Route, match: Match[Route]) -> None:
        self.exchange = exchange
        self.answer: Answer = exchange
        self.route = route
        self.match = match
