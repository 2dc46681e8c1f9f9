"""From a configuration to what serves it: routes, actions, balancers, and the bindings of plugins.

Building changes nothing that is in force. It may touch files (log files are opened, static bodies read), so it runs in a thread.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from prox import routing
from prox.balancing import Balancer, make
from prox.config import model
from prox.http.pool import OriginSettings, Pools
from prox.observe.access import AccessLog, AccessLogs
from prox.observe.counters import Counters
from prox.plugin import Binding, OnError, PluginSpec, RouteInfo
from prox.proxy.actions.drop import DropAction
from prox.proxy.actions.proxy import ProxyAction
from prox.proxy.client import ClientAddresses
from prox.proxy.route import Action, Route
from prox.routing import Table
from prox.wire import MatchInfo

from .errors import StartError


@dataclass
class BuiltService:
    """A service, ready for a Pipeline as soon as there is a hook index."""

    config: model.Service
    table: Table[Route]
    counters: Counters


@dataclass
class Built:
    """A configuration, built.

    Attributes:
        config: what it was built from.
        services: by name.
        bindings: plugins on routes, in the order of asking.
        routes: by id, for pushes.
        balancers: by what their route is, so that the next configuration finds them.
        resets: what puts the configured targets in force in balancers that are used already.
        logs: the access logs opened, one entry for each opening.
    """

    config: model.Config
    services: dict[str, BuiltService] = field(default_factory=dict)
    bindings: list[Binding] = field(default_factory=list)
    routes: dict[str, RouteInfo] = field(default_factory=dict)
    balancers: dict[tuple[object, ...], Balancer] = field(default_factory=dict)
    resets: list[Callable[[], None]] = field(default_factory=list)
    logs: list[AccessLog] = field(default_factory=list)


class Builder:
    """Builds configurations that follow each other in one process.

    Args:
        pools: where all proxy actions get their connections.
        logs: the process's access logs.
    """

    def __init__(self, pools: Pools, logs: AccessLogs) -> None:
        self._pools = pools
        self._logs = logs

    def build(self, config: model.Config, before: Built | None) -> Built:
        """Build `config`; balancers and figures of `before` go on where route and service stay.

        Raises:
            StartError: a log file can't be opened.
        """
        built = Built(config)
        try:
            for name, service in config.services.items():
                _ServiceBuild(self, built, before, name, service).run()
        except OSError as error:
            self.discard(built)
            raise StartError(str(error)) from error
        for plugin in config.plugins.values():
            if plugin.autostart:
                built.bindings.append(Binding(route_id="", plugin=plugin_spec(plugin, config.runtime)))
        return built

    def discard(self, built: Built) -> None:
        """Give back what a build that is not in force (any more) holds."""
        for log in built.logs:
            self._logs.release(log)
        built.logs.clear()

    def open_log(self, built: Built, *paths: str | None) -> AccessLog | None:
        """The access log that the first of `paths` names, None where that is "off" or none is."""
        path = next((path for path in paths if path is not None), None)
        if path is None or path == "off":
            return None
        log = self._logs.open(Path(path))
        built.logs.append(log)
        return log

    @property
    def pools(self) -> Pools:
        """Where connections come from."""
        return self._pools


class _ServiceBuild:
    """Builds one service."""

    def __init__(
        self, builder: Builder, built: Built, before: Built | None, name: str, config: model.Service
    ) -> None:
        self._builder = builder
        self._built = built
        self._before = before
        self._name = name
        self._config = config
        self._addresses = ClientAddresses(config.trusted_proxies)
        self._actions: dict[int, Action] = {}
        old = before.services.get(name) if before is not None else None
        self._counters = old.counters if old is not None else Counters()

    def run(self) -> None:
        routes = [(route.match, self._route(index, route)) for index, route in enumerate(self._config.routes)]
        self._built.services[self._name] = BuiltService(self._config, routing.compile(routes), self._counters)

    def _route(self, index: int, config: model.Route) -> Route:
        built = self._built
        action = config.action
        balancer = self._balancer(config)
        bindings = list(self._bindings(f"{self._name}:{index}", config, balancer))
        built.bindings += bindings
        route = Route(
            self._name,
            index,
            self._action(action),
            balancer=balancer,
            variables=dict(config.set),
            guarded=bool(bindings),
            own_headers=frozenset(
                name.lower().replace("_", "-").encode()
                for binding in bindings
                for name in binding.plugin.own_headers
            ),
            access_log=self._builder.open_log(
                built, config.access_log, action.access_log, built.config.logging.access_log
            ),
        )
        key = self._key(config)
        built.routes[route.id] = RouteInfo(action=action.name, balancer=balancer, key=key)
        return route

    def _key(self, config: model.Route) -> tuple[object, ...]:
        """What a route is, whatever its index: its service, match and action."""
        match = None if config.match is None else config.match.model_dump_json()
        return (self._name, match, config.action.name or repr(config.action))

    def _balancer(self, config: model.Route) -> Balancer | None:
        wanted = config.balancer
        if wanted is None:
            return None
        key = (*self._key(config), "balancer")
        while key in self._built.balancers:  # two routes that are alike to the letter
            key = (*key, "again")
        balancer = None if self._before is None else self._before.balancers.get(key)
        if balancer is None:
            balancer = make(wanted.type, wanted.targets, fallback=wanted.fallback, random=random.random)
        else:
            kept = balancer
            self._built.resets.append(
                lambda: kept.reset(wanted.type, wanted.targets, fallback=wanted.fallback)
            )
        self._built.balancers[key] = balancer
        return balancer

    def _bindings(self, route_id: str, config: model.Route, balancer: Balancer | None) -> Iterator[Binding]:
        match = config.match
        shown = MatchInfo(domain=match.domain or "", path=match.path or "") if match is not None else None
        stages: list[Iterable[model.PluginRef]] = [
            (*self._config.plugins, *config.action.plugins, *config.plugins),
            *(action.plugins for action in _fallbacks(config.action)),
        ]
        for stage, references in enumerate(stages):
            for reference in references:
                yield Binding(
                    route_id=route_id,
                    plugin=plugin_spec(reference.plugin, self._built.config.runtime),
                    match=shown,
                    balancer=balancer,
                    timeout=config.plugin_timeout,
                    plugin_timeout=reference.timeout,
                    on_error=_on_error(reference.on_error or reference.plugin.on_error),
                    stage=stage,
                )

    def _action(self, config: model.Action) -> Action:
        action = self._actions.get(id(config))
        if action is None:
            action = self._actions[id(config)] = self._make_action(config)
        return action

    def _make_action(self, config: model.Action) -> Action:
        match config:
            case model.ProxyAction():
                return self._proxy(config)
            case model.StaticAction():
                from prox.proxy.actions.static import StaticAction

                return StaticAction(config)
            case model.ServeAction():
                from prox.proxy.actions.serve import ServeAction

                return ServeAction(config)
            case model.DropAction():
                return DropAction()
            case model.PassAction():
                raise StartError("pass actions are not served yet")

    def _proxy(self, config: model.ProxyAction) -> ProxyAction:
        tuning = self._config.config
        settings = OriginSettings(
            connect_timeout=config.timeout or tuning.dial_timeout,
            response_header_timeout=tuning.response_header_timeout,
            idle_timeout=tuning.idle_timeout,
            keep_alive=tuning.keep_alive,
            max_idle=tuning.max_idle_conns_per_host,
            max_idle_in_all=tuning.max_idle_conns,
        )
        return ProxyAction(
            config.upstream,
            self._builder.pools,
            settings,
            headers=config.headers,
            fallback=None if config.fallback is None else self._action(config.fallback),
            is_trusted=self._addresses.is_trusted,
            failed=self._counters.upstream_failed,
        )


def _fallbacks(action: model.Action) -> Iterator[model.Action]:
    while isinstance(action, model.ProxyAction) and action.fallback is not None:
        action = action.fallback
        yield action


def _on_error(config: model.OnError) -> OnError:
    return OnError(request=config.request, response=config.response, connect=config.connect)


def plugin_spec(config: model.Plugin, runtime: model.Runtime) -> PluginSpec:
    """How the host runs a configured plugin."""
    return PluginSpec(
        path=config.path,
        alias=config.alias,
        args=config.args,
        env=dict(config.env),
        env_pass=config.env_pass,
        cwd=config.cwd,
        hooks=config.hooks,
        start_timeout=config.start_timeout,
        max_concurrency=config.max_concurrency,
        push_scope=config.push_scope,
        own_headers=config.own_headers,
        autostart=config.autostart,
        max_line=runtime.max_plugin_line_bytes,
        max_frame=runtime.max_plugin_frame_bytes,
    )
