"""What plugins have pushed, kept by what it was addressed to, so that it outlives restarts and reloads.

A push to a route stays with the route whatever its index; a push to an action or to all routes holds for routes
that a reload adds later, too. Of all that reach a route the latest holds. What a plugin pushed goes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from prox.wire import Speed

from .model import PluginSpec
from .plan import Plan, Route
from .pushed import EVERYWHERE, Address, Pushed, to_action, to_route

V = TypeVar("V")


def reached(plan: Plan, plugin: PluginSpec, pushed: Pushed) -> list[Route]:
    """The routes of a plan that a plugin's push reaches and means something for."""
    kind, what = pushed.address
    if kind == "route":
        found = plan.by_key.get(what, []) if plan.bound(plugin, what) else []
    else:
        routes = plan.routes.values() if pushed.address == EVERYWHERE else plan.by_action.get(str(what), [])
        found = [route for route in routes if _is_meant(plan, plugin, route)]
    if isinstance(pushed.value, Speed):
        return found
    return [route for route in found if route.balancer is not None]


def _is_meant(plan: Plan, plugin: PluginSpec, route: Route) -> bool:
    """Whether a push by action or `*` may reach a route: one that the plugin is bound to, or any with a balancer."""
    return plan.bound(plugin, route.key) or (route.balancer is not None and plugin.push_scope == "all")


@dataclass(slots=True)
class _Kept(Generic[V]):
    """The latest value of one kind from each plugin for each address, with its place in time."""

    values: dict[PluginSpec, dict[Address, tuple[int, V]]] = field(default_factory=dict)

    def keep(self, plugin: PluginSpec, address: Address, order: int, value: V) -> None:
        self.values.setdefault(plugin, {})[address] = (order, value)

    def latest(self, plan: Plan, route: Route) -> V | None:
        best = self.placed(plan, route)
        return best[1] if best is not None else None

    def placed(self, plan: Plan, route: Route) -> tuple[int, V] | None:
        """The latest, with its place in time."""
        best: tuple[int, V] | None = None
        for plugin, kept in self.values.items():
            for found in _reaching(kept, plan, plugin, route):
                if best is None or found[0] > best[0]:
                    best = found
        return best

    def prune(self, plan: Plan) -> None:
        for plugin in [gone for gone in self.values if gone not in plan.assignments]:
            del self.values[plugin]
        for plugin, kept in self.values.items():
            for address in [a for a in kept if a[0] == "route" and not plan.bound(plugin, a[1])]:
                del kept[address]


def _reaching(
    kept: Mapping[Address, tuple[int, V]], plan: Plan, plugin: PluginSpec, route: Route
) -> Iterator[tuple[int, V]]:
    bound = plan.bound(plugin, route.key)
    addresses = [to_route(route.key)] if bound else []
    if _is_meant(plan, plugin, route):
        addresses.append(EVERYWHERE)
        if route.action:
            addresses.append(to_action(route.action))
    for address in addresses:
        found = kept.get(address)
        if found is not None:
            yield found


class PushStore:
    """All pushed targets, groups and speeds."""

    def __init__(self) -> None:
        self._order = 0
        self._targets: _Kept[Sequence[str]] = _Kept()
        self._groups: _Kept[Mapping[str, Sequence[str]]] = _Kept()
        self._speeds: dict[str, _Kept[Speed]] = {}

    def keep_targets(self, plugin: PluginSpec, address: Address, targets: Sequence[str]) -> None:
        """A flat list replaces the one before it."""
        self._targets.keep(plugin, address, self._next(), targets)

    def keep_groups(self, plugin: PluginSpec, address: Address, groups: Mapping[str, Sequence[str]]) -> None:
        """A map of lists replaces the one before it."""
        self._groups.keep(plugin, address, self._next(), groups)

    def keep_speed(self, plugin: PluginSpec, address: Address, speed: Speed) -> None:
        """A speed replaces the one before it of the same group key."""
        self._speeds.setdefault(speed.group_key, _Kept()).keep(plugin, address, self._next(), speed)

    def apply(self, plan: Plan, failed: Callable[[Route, Exception], None]) -> None:
        """Give every route of a plan what was pushed for it.

        Args:
            plan: the routes in force.
            failed: told of a balancer that raised; the others get theirs all the same.
        """
        for route in plan.routes.values():
            if route.speed is not None:
                route.speed.set_speeds(self._speeds_of(plan, route))
            if route.balancer is None:
                continue
            targets = self._targets.latest(plan, route)
            groups = self._groups.latest(plan, route)
            try:
                if targets is not None:
                    route.balancer.set_targets(targets)
                if groups is not None:
                    route.balancer.set_groups(groups)
            except Exception as error:
                failed(route, error)

    def speeds(self, plan: Plan) -> dict[str, dict[str, Speed]]:
        """The speeds that hold, by route id and group key (empty: for the route itself)."""
        found = {route.id: self._speeds_of(plan, route) for route in plan.routes.values()}
        return {route_id: speeds for route_id, speeds in found.items() if speeds}

    def speed(self, plan: Plan, route: Route, group: str) -> Speed | None:
        """The speed that holds for a route and a group key."""
        kept = self._speeds.get(group)
        return None if kept is None else kept.latest(plan, route)

    def _speeds_of(self, plan: Plan, route: Route) -> dict[str, Speed]:
        """By group key, in the order in which they were pushed."""
        placed = []
        for group, kept in self._speeds.items():
            found = kept.placed(plan, route)
            if found is not None:
                placed.append((found[0], group, found[1]))
        placed.sort(key=lambda one: one[0])
        return {group: speed for _, group, speed in placed}

    def prune(self, plan: Plan) -> None:
        """Forget what came from plugins that are gone, or was pushed to routes that they are not bound to."""
        self._targets.prune(plan)
        self._groups.prune(plan)
        for kept in self._speeds.values():
            kept.prune(plan)
        self._speeds = {group: kept for group, kept in self._speeds.items() if any(kept.values.values())}

    def _next(self) -> int:
        self._order += 1
        return self._order
