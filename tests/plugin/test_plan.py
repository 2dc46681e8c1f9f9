"""How bindings are sorted: order, stages, the strictest policy, own headers."""

from __future__ import annotations

from prox.plugin import Binding, MatchInfo, OnError, PluginSpec, RouteInfo
from prox.plugin.plan import NO_ROUTE, Plan
from support.plugin_host import Balancer

A = PluginSpec(path="/a", own_headers=("X-User", "X_Role"))
B = PluginSpec(path="/b", own_headers=("X-Tag",))
C = PluginSpec(path="/c")


def test_plugins_are_called_once_in_order_with_the_strictest_policy() -> None:
    plan = Plan(
        [
            Binding(route_id="w:0", plugin=A, on_error=OnError(request="allow", response="allow")),
            Binding(route_id="w:0", plugin=B, timeout=3.0),
            Binding(route_id="w:0", plugin=A, on_error=OnError(response="deny"), plugin_timeout=0.5, stage=1),
            Binding(route_id="w:0", plugin=C, stage=1),
            Binding(route_id="w:0", plugin=A, plugin_timeout=2.0),
        ],
        {},
    )
    first, second = plan.stages["w:0", 0], plan.stages["w:0", 1]
    assert [step.plugin for step in first.steps] == [A, B]
    assert [step.plugin for step in second.steps] == [C]
    assert first.steps[0].on_error == OnError(request="deny", response="deny", connect="deny")
    assert first.steps[0].timeout == 0.5
    assert first.steps[1].timeout is None
    assert first.timeout == 3.0


def test_own_headers_are_everybodys_but_foreign_to_the_others() -> None:
    plan = Plan([Binding(route_id="w:0", plugin=plugin) for plugin in (A, B, C)], {})
    assert plan.own_headers["w:0"] == {b"x-user", b"x-role", b"x-tag"}
    foreign = [step.foreign for step in plan.stages["w:0", 0].steps]
    assert foreign == [{"x-tag"}, {"x-user", "x-role"}, {"x-user", "x-role", "x-tag"}]


def test_a_plugin_is_told_each_route_once_or_that_it_has_none() -> None:
    match = MatchInfo(domain="a.test")
    plan = Plan(
        [
            Binding(route_id="w:0", plugin=A, match=match),
            Binding(route_id="w:0", plugin=A, match=match, stage=1),
            Binding(route_id="", plugin=A),
            Binding(route_id="", plugin=C),
        ],
        {"w:0": RouteInfo(key="k")},
    )
    assert {route: (a.key, a.match) for route, a in plan.assignments[A].items()} == {"w:0": ("k", match)}
    assert {route: a.key for route, a in plan.assignments[C].items()} == {"": NO_ROUTE}


def test_a_binding_brings_its_balancer_where_the_route_has_none() -> None:
    one, two = Balancer(), Balancer()
    plan = Plan(
        [
            Binding(route_id="w:0", plugin=A, balancer=one),
            Binding(route_id="w:1", plugin=A, balancer=one),
            Binding(route_id="w:2", plugin=A),
        ],
        {"w:1": RouteInfo(balancer=two), "w:3": RouteInfo(action="x")},
    )
    assert [plan.routes[f"w:{n}"].balancer for n in range(4)] == [one, two, None, None]
    assert plan.by_action.keys() == {"x"}


def test_the_alias_is_no_setting() -> None:
    assert PluginSpec(path="/a", alias="x") == PluginSpec(path="/a", alias="y")
    assert hash(PluginSpec(path="/a", env={"A": "1"})) == hash(PluginSpec(path="/a", env={"A": "1"}))
    assert PluginSpec(path="/a", env={"A": "1"}) != PluginSpec(path="/a", env={"A": "2"})
