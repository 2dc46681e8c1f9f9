"""Pushes of real plugins: by route, action and to all, in order, checked whole, kept over reloads."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prox.plugin import Binding, HookError, Manager, MatchInfo, PluginSpec, RouteInfo
from prox.wire import Speed
from support.plugin_host import QUICK, Balancer, managed, request, spec, until

# Pushes what stands in the file that is its argument, once for each configure, and says when it is done.
PUSHER = """
    from plugin_child import *
    for params in configures():
        acknowledge()
        push("set_targets", route_id="nobody", targets=[])  # a first push: it serves no hooks
        for line in open(sys.argv[1]):
            say(line.strip())
        push("log", level="warn", message="pushed for " + params["route_id"])
"""


def targets(**params: Any) -> dict[str, Any]:
    return {"method": "set_targets", "params": params}


def pusher(folder: Path, *pushes: dict[str, Any], name: str = "plugin", **settings: Any) -> PluginSpec:
    lines = folder / f"{name}.lines"
    lines.write_text("".join(json.dumps(push) + "\n" for push in pushes))
    return spec(folder, PUSHER, name, args=(str(lines),), **settings)


class Routes:
    """Four routes: two of action backend, one of another, one without a balancer."""

    def __init__(self) -> None:
        self.balancers = [Balancer() for _ in range(3)]
        self.infos = {
            "web:0": RouteInfo(action="backend", balancer=self.balancers[0], key="first"),
            "web:1": RouteInfo(action="backend", balancer=self.balancers[1], key="second"),
            "web:2": RouteInfo(action="other", balancer=self.balancers[2], key="third"),
            "web:3": RouteInfo(action="backend", key="fourth"),
        }

    @property
    def targets(self) -> list[list[str] | None]:
        return [balancer.targets for balancer in self.balancers]

    @property
    def groups(self) -> list[dict[str, list[str]] | None]:
        return [balancer.groups for balancer in self.balancers]


A, B, C = ["10.0.0.1:80"], ["10.0.0.2:80", "b.test:81"], ["[::1]:80"]


@pytest.mark.parametrize(
    ("push", "expected"),
    [
        (targets(route_id="web:0", targets=B), [B, None, None]),
        (targets(action="backend", targets=B), [B, B, None]),
        (targets(route_id="*", targets=A), [A, A, A]),
        (targets(route_id="web:0"), [[], None, None]),
        (targets(route_id="*", targets=[]), [[], [], []]),
    ],
)
async def test_where_a_push_goes(tmp_path: Path, push: dict[str, Any], expected: object) -> None:
    routes = Routes()
    plugin = pusher(tmp_path, push)
    async with managed(Binding(route_id="web:0", plugin=plugin), routes=routes.infos):
        await until(lambda: routes.targets == expected)
        assert routes.groups == [None] * 3


@pytest.mark.parametrize(
    ("address", "reached"),
    [({"route_id": "web:0"}, [0]), ({"action": "backend"}, [0, 1]), ({"route_id": "*"}, [0, 1, 2])],
)
async def test_groups_replace_the_whole_map(
    tmp_path: Path, address: dict[str, str], reached: list[int]
) -> None:
    routes = Routes()
    plugin = pusher(
        tmp_path,
        targets(**address, groups={"eu": A, "us": B}),
        targets(**address, groups={"eu": C, "ap": []}),
    )
    async with managed(Binding(route_id="web:0", plugin=plugin), routes=routes.infos):
        expected = [{"eu": C, "ap": []} if n in reached else None for n in range(3)]
        await until(lambda: routes.groups == expected)
        assert routes.targets == [None] * 3


@pytest.mark.parametrize(
    ("push", "reason"),
    [
        (targets(route_id="web:0", targets=[*B, "no port:"]), "no port"),
        (targets(route_id="web:0", groups={"a": A, "b": ["http://x/path"]}), "path"),
        (targets(route_id="web:0", targets=[""]), "empty"),
        (targets(route_id="web:1", targets=A), "not bound to route web:1"),
        (targets(route_id="web:9", targets=A), "not bound to route web:9"),
        (targets(route_id="web:3", targets=A), "no balancer"),
        (targets(action="nothing", targets=A), "action nothing"),
        (targets(targets=A), "neither route_id nor action"),
        ({"method": "set_speed", "params": {"route_id": "web:0", "download_mbps": -1}}, "no speed"),
        ({"method": "set_speed", "params": {"route_id": "web:1", "download_mbps": 1}}, "not bound"),
        (
            {"method": "set_targets", "params": {"route_id": "web:0", "targets": "x"}},
            "not a line of the protocol",
        ),
    ],
)
async def test_a_push_that_can_not_be_taken_changes_nothing(
    tmp_path: Path, push: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    routes = Routes()
    plugin = pusher(tmp_path, push, targets(route_id="web:0", targets=C))
    bindings = [Binding(route_id=route_id, plugin=plugin) for route_id in ("web:0", "web:3")]
    async with managed(*bindings, routes=routes.infos) as manager:
        await until(lambda: "pushed for web:3" in caplog.text)
        assert [balancer.history for balancer in routes.balancers] == [[C, C], [], []]
        assert reason in caplog.text
        assert manager.speeds == {}


async def test_a_bound_scope_keeps_a_plugin_to_its_routes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    routes = Routes()
    plugin = pusher(
        tmp_path,
        targets(action="backend", targets=A),
        targets(route_id="*", targets=B),
        targets(action="other", targets=C),
        push_scope="bound",
    )
    async with managed(Binding(route_id="web:0", plugin=plugin), routes=routes.infos):
        await until(lambda: "pushed for web:0" in caplog.text)
        assert [balancer.history for balancer in routes.balancers] == [[A, B], [], []]
        assert "action other" in caplog.text


async def test_a_plugin_without_routes_may_push_by_action(tmp_path: Path) -> None:
    routes = Routes()
    plugin = pusher(tmp_path, targets(action="other", targets=C), autostart=True)
    async with managed(Binding(route_id="", plugin=plugin), routes=routes.infos):
        await until(lambda: routes.targets == [None, None, C])


async def test_a_burst_is_applied_in_order_and_whole(tmp_path: Path) -> None:
    routes = Routes()
    plugin = pusher(tmp_path, *(targets(route_id="web:0", targets=[f"10.0.0.1:{n}"]) for n in range(1, 3001)))
    async with managed(Binding(route_id="web:0", plugin=plugin), routes=routes.infos):
        await until(lambda: len(routes.balancers[0].history) == 3000)
        assert routes.balancers[0].history == [[f"10.0.0.1:{n}"] for n in range(1, 3001)]


async def test_a_balancer_that_raises_does_not_keep_the_others_from_theirs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Balancer):
        def set_targets(self, targets: object) -> None:
            raise ValueError("broken")

    routes = Routes()
    routes.infos["web:0"] = RouteInfo(action="backend", balancer=Broken())
    plugin = pusher(tmp_path, targets(route_id="*", targets=A))
    async with managed(Binding(route_id="web:1", plugin=plugin), routes=routes.infos):
        await until(lambda: routes.targets == [None, A, A])
        assert "balancer of route web:0" in caplog.text


async def test_speeds_are_kept_by_route_and_group(tmp_path: Path) -> None:
    def speed(**params: Any) -> dict[str, Any]:
        return {"method": "set_speed", "params": params}

    routes = Routes()
    plugin = pusher(
        tmp_path,
        speed(route_id="web:0", download_mbps=10, upload_mbps=5, group_key="g"),
        speed(action="backend", download_mbps=1.5),
        speed(route_id="*", upload_mbps=3),
        speed(route_id="web:0", download_mbps=7),
    )
    async with managed(Binding(route_id="web:0", plugin=plugin), routes=routes.infos) as manager:
        await until(lambda: manager.speeds.get("web:0", {}).get("") == Speed(download_mbps=7))
        assert manager.speeds == {
            "web:0": {
                "g": Speed(download_mbps=10, upload_mbps=5, group_key="g"),
                "": Speed(download_mbps=7),
            },
            "web:1": {"": Speed(upload_mbps=3)},
            "web:2": {"": Speed(upload_mbps=3)},
        }


async def test_speeds_by_action_reach_bound_routes_without_a_balancer(tmp_path: Path) -> None:
    routes = Routes()
    push = {"method": "set_speed", "params": {"action": "backend", "download_mbps": 2}}
    plugin = pusher(tmp_path, push, push_scope="bound")
    async with managed(Binding(route_id="web:3", plugin=plugin), routes=routes.infos) as manager:
        await until(lambda: manager.speeds)
        assert manager.speeds == {"web:3": {"": Speed(download_mbps=2)}}


# Reloads.

SILENT = """
    from plugin_child import *
    first = True
    for params in configures():
        acknowledge()
        if first and params["route_id"] in ("web:0", ""):
            first = False
            push("set_targets", route_id="web:0", targets=["10.0.0.1:80"])
            push("set_targets", action="backend", groups={"eu": ["10.0.0.3:80"]})
            push("set_speed", route_id="web:0", download_mbps=4)
"""


async def test_what_was_pushed_stays_with_the_route_when_its_index_changes(tmp_path: Path) -> None:
    plugin = spec(tmp_path, SILENT, hooks=())
    old = Balancer()
    routes = {"web:0": RouteInfo(action="backend", balancer=old, key="r")}
    async with managed(Binding(route_id="web:0", plugin=plugin), routes=routes) as manager:
        await until(lambda: old.targets and old.groups and manager.speeds)
        new, other = Balancer(), Balancer()
        bindings = [Binding(route_id=f"web:{n}", plugin=plugin) for n in range(2)]
        moved = {
            "web:0": RouteInfo(action="backend", balancer=other, key="new"),
            "web:1": RouteInfo(action="backend", balancer=new, key="r"),
        }
        await manager.reconfigure(bindings, moved)
        assert new.targets == ["10.0.0.1:80"]
        assert other.targets is None
        assert (
            new.groups == other.groups == {"eu": ["10.0.0.3:80"]}
        )  # what was pushed to an action holds for new routes
        assert manager.speeds == {"web:1": {"": Speed(download_mbps=4)}}
        # The route is gone, and with it what was pushed for it.
        await manager.reconfigure(bindings[:1], {"web:0": RouteInfo(balancer=other, key="new")})
        again = Balancer()
        await manager.reconfigure(bindings, moved | {"web:1": RouteInfo(balancer=again, key="r")})
        assert again.targets is None
        assert manager.speeds == {}


async def test_what_a_plugin_pushed_goes_with_it(tmp_path: Path) -> None:
    plugin = spec(tmp_path, SILENT, hooks=())
    routes = Routes()
    async with managed(Binding(route_id="web:0", plugin=plugin), routes=routes.infos) as manager:
        await until(lambda: routes.balancers[0].targets and manager.speeds)
        fresh = Routes()
        await manager.reconfigure([], fresh.infos)
        assert fresh.targets == [None] * 3
        assert fresh.groups == [None] * 3
        assert manager.speeds == {}


async def test_pushed_targets_stay_while_the_plugin_is_down(tmp_path: Path) -> None:
    plugin = spec(tmp_path, SILENT + "\n        os._exit(1)", hooks=())
    routes = Routes()
    async with managed(Binding(route_id="web:0", plugin=plugin), routes=routes.infos) as manager:
        await until(lambda: manager.states()[0].restarts >= 2)
        assert routes.targets[0] == ["10.0.0.1:80"]


NUMBERED = """
    from plugin_child import *
    known = {}
    listener, path = listen()
    serve(listener, lambda hook, call: {"ok": known.get(call["r"]) == call["p"]})
    for params in configures():
        known[params["route_id"]] = params.get("match", {}).get("path", "")
        acknowledge()
        ready(path, "on_request")
"""


def numbered(plugin: PluginSpec, *paths: str) -> tuple[list[Binding], dict[str, RouteInfo]]:
    """Routes in this order, each with its path as what it is."""
    bindings = [
        Binding(route_id=f"web:{n}", plugin=plugin, match=MatchInfo(path=p)) for n, p in enumerate(paths)
    ]
    return bindings, {f"web:{n}": RouteInfo(key=p) for n, p in enumerate(paths)}


async def test_requests_without_pause_over_reloads_that_renumber(tmp_path: Path) -> None:
    """The plugin allows a request only where it knows the route's id as the route with that path."""
    plugin = spec(tmp_path, NUMBERED)
    manager = Manager(delays=QUICK)
    orders = [("/a", "/b", "/c"), ("/x", "/a", "/b", "/c"), ("/b", "/a"), ("/c", "/y", "/b", "/a")]
    manager.configure(*numbered(plugin, *orders[0]))
    async with manager:
        order = orders[0]
        over = False
        asked = 0

        async def client(path: str) -> None:
            nonlocal asked
            while not over:
                index, place = manager.index, order.index(path)
                result = await index.on_request(f"web:{place}", request(f"web:{place}", path))
                assert result.allow, f"{path} was judged as another route"
                asked += 1

        loop = asyncio.get_running_loop()
        clients = [loop.create_task(client(path)) for path in ("/a", "/b")]
        for turn in range(1, 13):
            following = orders[turn % len(orders)]
            prepared = await manager.prepare(*numbered(plugin, *following))
            before = asked
            await until(lambda before=before: asked > before + 4)  # type: ignore[misc] # a lambda with a default
            manager.commit(prepared)
            order = following
            before = asked
            await until(lambda before=before: asked > before + 4)  # type: ignore[misc] # a lambda with a default
        over = True
        await asyncio.gather(*clients)
        assert manager.states()[0].restarts == 0


async def test_a_prepared_change_does_nothing_until_it_is_committed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = spec(tmp_path, NUMBERED, "one")
    two = pusher(tmp_path, targets(route_id="*", targets=A), name="two")
    first, second = Balancer(), Balancer()
    bindings, routes = numbered(one, "/a")
    routes["web:0"] = RouteInfo(key="/a", balancer=first)
    manager = Manager(delays=QUICK)
    manager.configure(bindings, routes)
    async with manager:
        index = manager.index
        coming = [*numbered(one, "/b", "/a")[0], Binding(route_id="web:1", plugin=two)]
        infos = {"web:0": RouteInfo(key="/b"), "web:1": RouteInfo(key="/a", balancer=second)}
        prepared = await manager.prepare(coming, infos)
        await until(lambda: "pushed for web:1" in caplog.text)
        assert manager.index is index
        assert len(manager.states()) == 1
        assert [first.targets, second.targets] == [None, None]
        assert (await manager.on_request("web:0", request("web:0", "/a"))).allow
        with pytest.raises(RuntimeError):
            await manager.prepare(coming, infos)

        manager.abandon(prepared)
        with pytest.raises(RuntimeError):
            manager.commit(prepared)
        assert (await manager.on_request("web:0", request("web:0", "/a"))).allow
        assert [first.targets, second.targets] == [None, None]

        caplog.clear()
        prepared = await manager.prepare(coming, infos)
        await until(lambda: "pushed for web:1" in caplog.text)
        assert manager.commit(prepared) is manager.index
        assert [first.targets, second.targets] == [None, A]
        assert (await manager.on_request("web:0", request("web:0", "/b"))).allow
        assert (await manager.on_request("web:1", request("web:1", "/a"))).allow
        # A request that began earlier ends under its index, with the id that the plugin knows by now.
        assert (await index.on_request("web:0", request("web:0", "/a"))).allow


async def test_a_removed_plugin_stops_after_the_requests_that_began_before(tmp_path: Path) -> None:
    plugin = spec(tmp_path)
    delays = replace(QUICK, retire=60.0)
    async with managed(Binding(route_id="web:0", plugin=plugin), delays=delays) as manager:
        held = manager.index
        supervisor = manager._supervisors[plugin]
        await manager.reconfigure([], {})
        assert manager.states() == []
        assert (await held.on_request("web:0", request())).allow
        assert supervisor.running
        del held
        await until(lambda: not supervisor.running)


async def test_a_removed_plugin_stops_when_its_time_is_over(tmp_path: Path) -> None:
    plugin = spec(tmp_path)
    async with managed(Binding(route_id="web:0", plugin=plugin)) as manager:
        held = manager.index
        await manager.reconfigure([], {})
        loop = asyncio.get_running_loop()
        began = loop.time()
        supervisor = next(iter(manager._retiring))
        await until(lambda: supervisor.life is None)
        assert 0.8 < loop.time() - began < 9
        with pytest.raises(HookError):
            await held.on_request("web:0", request())


async def test_a_plugin_that_comes_back_in_time_goes_on(tmp_path: Path) -> None:
    plugin = spec(tmp_path)
    bindings = [Binding(route_id="web:0", plugin=plugin)]
    async with managed(*bindings) as manager:
        held = manager.index
        pid = manager.states()[0].pid
        await manager.reconfigure([], {})
        await manager.reconfigure(bindings, {})
        assert manager.states()[0].pid == pid
        assert held.has_hook("web:0", "on_request")
        assert (await manager.on_request("web:0", request())).allow
        await manager.reconfigure(bindings, {})
        assert manager.states()[0].pid == pid


async def test_a_reload_waits_for_a_new_guard_and_a_hung_one_only_so_long(tmp_path: Path) -> None:
    hung = spec(tmp_path, "import time; time.sleep(60)", "hung", start_timeout=0.2)
    good = spec(tmp_path)
    async with managed(Binding(route_id="web:0", plugin=good)) as manager:
        bindings = [Binding(route_id="web:0", plugin=good), Binding(route_id="web:1", plugin=hung)]
        loop = asyncio.get_running_loop()
        began = loop.time()
        await manager.reconfigure(bindings, {})
        assert 0.15 < loop.time() - began < 5  # it would take a minute
        assert (await manager.on_request("web:0", request())).allow
        with pytest.raises(HookError):
            await manager.on_request("web:1", request("web:1"))
        began = loop.time()
        await manager.reconfigure(bindings, {})  # it has not acknowledged this one either
        assert 0.15 < loop.time() - began < 5
