"""From a configuration to what serves it: routes, actions, balancers, and the bindings of plugins.

Building changes nothing that is in force. It touches files (log files are opened, static bodies read), so it runs in a
thread.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from prox import routing
from prox.balancing import Balancer, HealthBook, make
from prox.config import model
from prox.http.pool import Pools
from prox.limits import ConnectionCaps, Groups
from prox.observe.access import AccessLog, AccessLogs
from prox.observe.counters import Counters
from prox.plugin import Binding, RouteInfo
from prox.proxy.actions.drop import DropAction
from prox.proxy.actions.passing import PassAction
from prox.proxy.actions.queued import Queue
from prox.proxy.named import ProxyNames, tell_local
from prox.proxy.route import Route
from prox.proxy.speed import RouteSpeed
from prox.routing import Table
from prox.tls.client import ClientContexts

from .actions import ActionKey, Actions
from .bindings import Bindings
from .errors import StartError
from .front import Step, Steps

if TYPE_CHECKING:
    from prox.tls.store import Store

RouteKey: TypeAlias = tuple[str, str, str, int]
"""What a route is, wherever it stands in the list: its service, its match, and a number where several are alike."""


@dataclass
class BuiltService:
    """A service, ready for a Pipeline as soon as there is a hook index.

    Attributes:
        config: the service.
        tuning: its `config`; what holds for its connections before a route is known.
        table: its routes.
        counters: its figures.
        caps: its connections.
        unrouted_log: for what no route takes.
        passed: its routes by server name, where any passes TLS connections on unopened.
        steps: what its listener does with new connections before their first protocol.
        store: its certificates; None without TLS.
    """

    config: model.Service
    tuning: model.Tuning
    table: Table[Route]
    counters: Counters
    caps: ConnectionCaps
    unrouted_log: AccessLog | None
    passed: Table[Route | None] | None = None
    steps: Steps = field(default_factory=Steps)
    store: Store | None = None


@dataclass
class Built:
    """A configuration, built.

    Attributes:
        config: what it was built from.
        services: by name.
        bindings: plugins on routes, in the order of asking.
        routes: by id, for pushes.
        balancers: by route, so that the next configuration finds them.
        books: what is known of targets, by name of the action, or by route where it has none.
        queues: of actions that limit their connections, by the same.
        speeds: the limits of bandwidth of all routes.
        resets: what puts the configured targets and limits in force in what is used already.
        logs: the access logs opened, by path.
        unopened: why others can't be.
        contexts: for TLS to upstreams.
        files: what was read beside the configuration's own files.
    """

    config: model.Config
    services: dict[str, BuiltService] = field(default_factory=dict)
    bindings: list[Binding] = field(default_factory=list)
    routes: dict[str, RouteInfo] = field(default_factory=dict)
    balancers: dict[RouteKey, Balancer] = field(default_factory=dict)
    books: dict[str | ActionKey, HealthBook] = field(default_factory=dict)
    queues: dict[str | ActionKey, Queue] = field(default_factory=dict)
    speeds: dict[RouteKey, RouteSpeed] = field(default_factory=dict)
    resets: list[Callable[[], None]] = field(default_factory=list)
    logs: dict[str, AccessLog] = field(default_factory=dict)
    unopened: dict[str, str] = field(default_factory=dict)
    contexts: ClientContexts = field(default_factory=ClientContexts)
    files: set[Path] = field(default_factory=set)


class Builder:
    """Builds configurations that follow each other in one process.

    Args:
        pools: where all proxy actions get their connections.
        logs: the process's access logs.
    """

    def __init__(self, pools: Pools, logs: AccessLogs) -> None:
        self._pools = pools
        self._logs = logs
        self._groups = Groups()

    def build(self, config: model.Config, before: Built | None) -> Built:
        """Build `config`; balancers and figures of `before` go on where route and service stay.

        Raises:
            StartError: a file can't be opened or read, or an action can't be served.
        """
        built = Built(config, contexts=ClientContexts(None if before is None else before.contexts))
        bindings = Bindings(config.runtime)
        try:
            for name, service in config.services.items():
                self._service(built, before, bindings, name, service)
        except OSError as error:
            self.discard(built)
            at = f": {error.filename}" if error.filename else ""
            raise StartError(f"{error.strerror or error}{at}") from error
        except BaseException:
            self.discard(built)
            raise
        if built.unopened:
            self.discard(built)
            raise StartError("; ".join(built.unopened.values()))
        built.bindings += [
            bindings.without_route(plugin) for plugin in config.plugins.values() if plugin.autostart
        ]
        return built

    def discard(self, built: Built) -> None:
        """Give back what a build that is not in force (any more) holds."""
        logs, built.logs = built.logs, {}
        for log in logs.values():
            self._logs.release(log)

    def _service(
        self, built: Built, before: Built | None, bindings: Bindings, name: str, config: model.Service
    ) -> None:
        old = before.services.get(name) if before is not None else None
        counters = old.counters if old is not None else Counters()
        caps = old.caps if old is not None else ConnectionCaps()
        actions = Actions(
            config,
            self._pools,
            counters,
            built.contexts,
            lambda action, key: _queue(key, action, built, before),
        )
        tuning = config.config
        built.resets.append(
            partial(
                caps.configure,
                tuning.max_connections,
                tuning.max_connections_per_client,
                actions.is_trusted,
            )
        )
        ceiling = _body_ceiling(config)
        routes: list[tuple[model.Match | None, Route]] = []
        for index, route in enumerate(config.routes):
            key = _route_key(name, route, built)
            action = actions.get(route.action, key)
            balancer = _balancer(key, route, built, before)
            speed = self._speed(key, route, built, before)
            bound = list(bindings.of_route(f"{name}:{index}", config, route))
            built.bindings += bound
            made = Route(
                name,
                index,
                action,
                balancer=balancer,
                variables=dict(route.set),
                guarded=bool(bound),
                own_headers=_own_headers(bound),
                access_log=self._log(
                    built, route.access_log, route.action.access_log, built.config.logging.access_log
                ),
                max_body_bytes=_body_limit(route, tuning, ceiling),
                speed=speed,
                forward_proxy=route.match is not None and route.match.forward_proxy,
            )
            built.routes[made.id] = RouteInfo(
                action=route.action.name,
                balancer=balancer,
                key=key,
                dot_segments=built.config.runtime.dot_segments == "pass",
                speed=speed,
            )
            routes.append((route.match, made))
        built.files |= actions.files | built.contexts.files
        built.services[name] = BuiltService(
            config,
            tuning.model_copy(update={"max_body_bytes": ceiling}),
            routing.compile(routes),
            counters,
            caps,
            self._log(built, built.config.logging.access_log),
            _passed(routes),
            Steps(_before(config, actions)),
        )
        if config.tls:
            self._secure(built, None if old is None else old.store, built.services[name])

    def _secure(self, built: Built, before: Store | None, service: BuiltService) -> None:
        """Give a service TLS; who has none does not pay for what it takes."""
        from .handshake import TlsHandshake
        from .securing import secure

        config = service.config
        secured = secure(config.name, config, before)
        built.files |= secured.files
        built.resets.append(secured.put_in_force)
        service.store = secured.store
        service.steps = replace(
            service.steps, handshake=TlsHandshake(secured.store, config.config.tls_handshake_timeout)
        )

    def _speed(self, key: RouteKey, config: model.Route, built: Built, before: Built | None) -> RouteSpeed:
        speed = None if before is None else before.speeds.get(key)
        speed = built.speeds[key] = speed or RouteSpeed(self._groups)
        built.resets.append(partial(speed.configure, config.speed))
        return speed

    def _log(self, built: Built, *paths: str | None) -> AccessLog | None:
        """The access log that the first of `paths` names, None where that is "off" or none is."""
        path = next((path for path in paths if path is not None), None)
        if path is None or path == "off":
            return None
        log = built.logs.get(path)
        if log is None and path not in built.unopened:
            try:
                log = built.logs[path] = self._logs.open(Path(path))
            except OSError as error:
                built.unopened[path] = f"{error.strerror or error}: {path}"
        return log


def _route_key(service: str, config: model.Route, built: Built) -> RouteKey:
    """What a route is over reloads: its service, match and named action; an inline action may change its mind."""
    match = "" if config.match is None else config.match.model_dump_json()
    number = 0
    while (key := (service, match, config.action.name, number)) in built.speeds:
        number += 1
    return key


def _balancer(key: RouteKey, config: model.Route, built: Built, before: Built | None) -> Balancer | None:
    wanted = config.balancer
    if wanted is None:
        return None
    book = _book(key, config.action, built, before)
    balancer = None if before is None else before.balancers.get(key)
    if balancer is None:
        balancer = make(
            wanted.type,
            wanted.targets,
            fallback=wanted.fallback,
            random=random.random,  # noqa: S311 - a choice among targets is no secret
            book=book,
        )
    else:
        built.resets.append(partial(balancer.reset, wanted.type, wanted.targets, fallback=wanted.fallback))
    built.balancers[key] = balancer
    return balancer


def _book(key: RouteKey, action: model.Action, built: Built, before: Built | None) -> HealthBook:
    """One for all routes that name an action, in whatever service."""
    name = action.name or key
    book = built.books.get(name)
    if book is None:
        book = None if before is None else before.books.get(name)
        book = built.books[name] = book or HealthBook()
        if isinstance(action, model.ProxyAction | model.PassAction):
            queue = built.queues.get(name)
            is_full = None if queue is None else queue.places.is_full
            built.resets.append(partial(book.configure, action.health.min, action.health.max, is_full))
    return book


def _queue(
    key: ActionKey, action: model.ProxyAction | model.PassAction, built: Built, before: Built | None
) -> Queue | None:
    """The queue of an action that has one, shared like its book."""
    name = action.name or key
    queue = built.queues.get(name)
    if queue is not None:
        return queue
    queue = None if before is None else before.queues.get(name)
    if not action.max_connections:
        if queue is not None:
            built.resets.append(partial(queue.configure, 0, 0, None))
        return None
    queue = built.queues[name] = queue or Queue()
    built.resets.append(
        partial(queue.configure, action.max_connections, action.max_queue, action.queue_timeout)
    )
    return queue


def _before(service: model.Service, actions: Actions) -> tuple[Step, ...]:
    """The steps on the raw socket that need no hooks."""
    steps: tuple[Step, ...] = ()
    if service.config.proxy_protocol:
        steps = (ProxyNames(actions.is_trusted),)
    return (*steps, tell_local) if actions.tell_clients else steps


def _passed(routes: list[tuple[model.Match | None, Route]]) -> Table[Route | None] | None:
    """The routes that a ClientHello chooses from: those with a domain, in their order, if any of them passes on.

    One that neither passes on nor drops all of its domain leaves the connection to HTTP, and is None. One for absolute URLs
    is not among them: its domain is not the name of this server.
    """
    if not any(isinstance(route.action, PassAction) for _, route in routes):
        return None
    return routing.compile(
        (model.Match(domain=match.domain), route if _takes_all(match, route) else None)
        for match, route in routes
        if match is not None and match.domain is not None and not match.forward_proxy
    )


def _takes_all(match: model.Match, route: Route) -> bool:
    """Whether a name alone decides that a connection is passed on or dropped."""
    return isinstance(route.action, PassAction) or (
        isinstance(route.action, DropAction) and match.path is None and not match.methods
    )


def _body_ceiling(service: model.Service) -> int:
    """The largest body that any route of a service takes, 0 for any size: what is larger need not wait for a route."""
    own = [route.max_body_bytes for route in service.routes if route.max_body_bytes is not None]
    sizes = [service.config.max_body_bytes, *own]
    return 0 if 0 in sizes else max(sizes)


def _body_limit(route: model.Route, tuning: model.Tuning, ceiling: int) -> int:
    """What a route has to look at by itself, since its connections let more pass."""
    limit = tuning.max_body_bytes if route.max_body_bytes is None else route.max_body_bytes
    return 0 if limit == ceiling else limit


def _own_headers(bound: list[Binding]) -> frozenset[bytes]:
    names = {name for binding in bound for name in binding.plugin.own_headers}
    return frozenset(name.lower().replace("_", "-").encode() for name in names)
