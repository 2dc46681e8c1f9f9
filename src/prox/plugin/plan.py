"""One configuration of the host, sorted by what is asked of it: built once for each reload, never changed."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from .headers import normalise
from .life import Assignment
from .model import BalancerSink, Binding, OnError, PluginSpec, RouteInfo, SpeedSink

NO_ROUTE: Final = "(no route)"
"""The key of a plugin that runs without a route."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route in force."""

    id: str
    key: Hashable
    action: str
    balancer: BalancerSink | None
    dot_segments: bool
    speed: SpeedSink | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A plugin's turn in a hook of a route.

    Attributes:
        plugin: whose turn it is.
        key: the route.
        on_error: the strictest of its bindings.
        timeout: the shortest of its bindings' own limits.
        foreign: normalised request headers that it can't set, because they are other plugins' own.
        dot_segments: whether it may rewrite the path to one with segments `.` or `..`.
    """

    plugin: PluginSpec
    key: Hashable
    on_error: OnError
    timeout: float | None
    foreign: frozenset[str]
    dot_segments: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """The plugins of one stage of a route in their order, and the deadline that they share."""

    steps: tuple[Step, ...]
    timeout: float


class Plan:
    """Bindings and routes of one configuration.

    Attributes:
        routes: by id.
        by_key: routes by what they are.
        by_action: routes by the name of their action.
        assignments: by plugin, the routes that it is told of, by id.
        stages: by route id and stage.
        own_headers: by route id, what only plugins may set, normalised.
    """

    def __init__(self, bindings: Iterable[Binding], routes: Mapping[str, RouteInfo]) -> None:
        self.routes: dict[str, Route] = {}
        self.by_key: dict[Hashable, list[Route]] = {}
        self.by_action: dict[str, list[Route]] = {}
        self.assignments: dict[PluginSpec, dict[str, Assignment]] = {}
        self.stages: dict[tuple[str, int], Stage] = {}
        self.own_headers: dict[str, frozenset[bytes]] = {}
        grouped: dict[str, list[Binding]] = {}
        for binding in bindings:
            self.assignments.setdefault(binding.plugin, {})
            if binding.route_id:
                grouped.setdefault(binding.route_id, []).append(binding)
        for route_id, info in routes.items():
            self._add_route(route_id, info, grouped.get(route_id, ()))
        for route_id, bound in grouped.items():
            if route_id not in self.routes:
                self._add_route(route_id, RouteInfo(), bound)
            self._bind(self.routes[route_id], sorted(bound, key=lambda binding: binding.stage))
        self._bound = {
            plugin: {route.key for route in assigned.values()}
            for plugin, assigned in self.assignments.items()
        }
        for assigned in self.assignments.values():
            if not assigned:
                assigned[""] = Assignment(NO_ROUTE, None)

    def bound(self, plugin: PluginSpec, key: Hashable) -> bool:
        """Whether a plugin is bound to a route."""
        return key in self._bound.get(plugin, ())

    def _add_route(self, route_id: str, info: RouteInfo, bound: Iterable[Binding]) -> None:
        balancer = info.balancer
        if balancer is None:
            balancer = next((binding.balancer for binding in bound if binding.balancer is not None), None)
        key = route_id if info.key is None else info.key
        route = Route(route_id, key, info.action, balancer, info.dot_segments, info.speed)
        self.routes[route_id] = route
        self.by_key.setdefault(key, []).append(route)
        if info.action:
            self.by_action.setdefault(info.action, []).append(route)

    def _bind(self, route: Route, bound: list[Binding]) -> None:
        policies: dict[PluginSpec, OnError] = {}
        timeouts: dict[PluginSpec, float | None] = {}
        stage_of: dict[PluginSpec, int] = {}
        for binding in bound:
            plugin = binding.plugin
            stage_of.setdefault(plugin, binding.stage)
            policies[plugin] = binding.on_error.strictest(policies.get(plugin, binding.on_error))
            timeouts[plugin] = _shorter(timeouts.get(plugin), binding.plugin_timeout)
            self.assignments[plugin].setdefault(route.id, Assignment(route.key, binding.match))
        own = {plugin: frozenset(map(normalise, plugin.own_headers)) - {""} for plugin in stage_of}
        everybodys = frozenset().union(*own.values())
        if everybodys:
            self.own_headers[route.id] = frozenset(name.encode() for name in everybodys)
        timeout = min(binding.timeout for binding in bound)
        for stage in sorted({binding.stage for binding in bound}):
            steps = tuple(
                Step(
                    plugin=plugin,
                    key=route.key,
                    on_error=policies[plugin],
                    timeout=timeouts[plugin],
                    foreign=everybodys - own[plugin],
                    dot_segments=route.dot_segments,
                )
                for plugin, first in stage_of.items()
                if first == stage
            )
            if steps:
                self.stages[route.id, stage] = Stage(steps, timeout)


def _shorter(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
