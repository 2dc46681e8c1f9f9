"""A new process in the place of one that runs: by order and by a changed program, and whatever comes in between."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from prox.plugin import (
    Binding,
    HookError,
    Manager,
    MatchInfo,
    PluginSpec,
    PluginState,
    PluginSwapError,
    RouteInfo,
)
from prox.wire import ConnInfo, DisconnectInfo, UpstreamResponseInfo
from support.plugin_host import QUICK, Balancer, alive, managed, request, spec, until, write_plugin

T = TypeVar("T")
ROUTE = "web:0"


def version(number: object, *more: str) -> str:
    """A guard that shows its version; `more` are lines that come before its first acknowledgement."""
    lines = "\n    ".join(more)
    return f"""
    import time
    from plugin_child import *
    def handle(hook, call):
        if call.get("p") == "/slow":
            open(__file__ + ".asked", "w").close()
            while not os.path.exists(__file__ + ".go"): time.sleep(0.005)
        return {{"ok": True, "h": {{"X-Version": "{number}"}}}}
    {lines}
    run(handle, "on_request", "on_response", "on_connect")
    """


def bound(plugin: PluginSpec, route_id: str = ROUTE, **settings: object) -> Binding:
    return Binding(route_id=route_id, plugin=plugin, **settings)  # type: ignore[arg-type] # typed by the cases


async def asked(manager: Manager, path: str = "/", route_id: str = ROUTE) -> str:
    """The version that answers."""
    return (await manager.on_request(route_id, request(route_id, path))).headers["X-Version"]


def state(manager: Manager) -> PluginState:
    return manager.states()[0]


def mark(plugin: PluginSpec, name: str) -> Path:
    return Path(f"{plugin.path}.{name}")


def remove(plugin: PluginSpec) -> None:
    Path(plugin.path).unlink()


WAIT = 'while not os.path.exists(__file__ + ".ready"): time.sleep(0.005)'
"""A line that holds up a start until the plugin's file `.ready` is there."""


def children() -> list[int]:
    """The processes that this one has started and that run."""
    lists = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return [int(pid) for pids in lists for pid in pids if alive(int(pid))]


def begin(coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start what may fail."""
    return asyncio.get_running_loop().create_task(coro)


async def begin_swap(manager: Manager, folder: Path, body: str = version(2, WAIT)) -> asyncio.Task[None]:
    """Order a swap, and wait until the new process runs."""
    write_plugin(folder, body)
    swap = begin(manager.swap("plugin"))
    coming = manager._supervisors[next(iter(manager._supervisors))]._swaps
    await until(lambda: coming.coming is not None)
    assert state(manager).swapping
    return swap


async def test_an_ordered_swap(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "prox.plugin")
    plugin = spec(tmp_path, version(1))
    async with managed(bound(plugin)) as manager:
        before = state(manager)
        assert await asked(manager) == "1"
        write_plugin(tmp_path, version(2))
        await manager.swap("plugin")
        assert await asked(manager) == "2"
        after = state(manager)
        assert after.pid != before.pid
        assert (before.swaps, after.swaps, after.restarts, after.last_exit) == (0, 1, 0, None)
        assert after.version != before.version
        assert str(tmp_path / "plugin") in after.version
        assert (after.state, after.swapping, after.swap_error) == ("ready", False, "")
        assert f"plugin plugin is swapped: process {after.pid} in place of {before.pid}" in caplog.text
        await until(lambda: not alive(before.pid or 0))
        await manager.swap(plugin)
        assert state(manager).swaps == 2


async def test_calls_in_flight_end_on_the_old_process(tmp_path: Path) -> None:
    plugin = spec(tmp_path, version(1))
    async with managed(bound(plugin)) as manager:
        old = state(manager).pid or 0
        slow = begin(asked(manager, "/slow"))
        await until(mark(plugin, "asked").exists)
        write_plugin(tmp_path, version(2))
        await manager.swap("plugin")
        assert await asked(manager) == "2"
        assert alive(old)
        mark(plugin, "go").touch()
        assert await slow == "1"
        await until(lambda: not alive(old))


async def test_calls_on_the_old_process_get_their_time_and_no_more(tmp_path: Path) -> None:
    plugin = spec(tmp_path, version(1))
    delays = replace(QUICK, retire=0.1)
    async with managed(bound(plugin), delays=delays) as manager:
        old = state(manager).pid or 0
        slow = begin(asked(manager, "/slow"))
        await until(mark(plugin, "asked").exists)
        await manager.swap("plugin")
        await until(lambda: not alive(old))
        with pytest.raises(HookError, match="closed"):
            await slow


NOT_READY = {
    "exits": ("sys.exit(3)", "the new process has exited (status 3)"),
    "is mute": ("sys.stdin.read()", "has not acknowledged its configuration within 0.5 s"),
    "only acknowledges": (
        "from plugin_child import *\nfor _ in configures(): acknowledge()",
        "has not said ready within 0.5 s",
    ),
    "only pushes": (
        "from plugin_child import *\nfor _ in configures(): acknowledge(); push('set_targets', route_id='*')",
        "has not said ready within 0.5 s",
    ),
    "accepts no route": (
        "from plugin_child import *\nfor _ in configures(): say({'error': 'no key'}); ready(listen()[1], 'on_request')",
        "does not accept a route that the old one serves: no key",
    ),
    "has no socket": (
        "from plugin_child import *\nfor _ in configures(): acknowledge(); ready('', 'on_request')",
        "names hooks and no socket",
    ),
    "does not listen": (
        "from plugin_child import *\nfor _ in configures(): acknowledge(); ready('/tmp/no/such', 'on_request')",
        "has not taken a connection to the socket that its ready names within 0.5 s",
    ),
    "is missing": (None, "no such file"),
}


@pytest.mark.parametrize("case", NOT_READY)
async def test_the_old_process_stays_where_the_new_one_does_not_get_ready(
    tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    body, reason = NOT_READY[case]
    plugin = spec(tmp_path, version(1), start_timeout=0.5)
    async with managed(bound(plugin)) as manager:
        pid = state(manager).pid
        assert await asked(manager) == "1"
        if body is None:
            remove(plugin)
        else:
            write_plugin(tmp_path, body)
        with pytest.raises(PluginSwapError) as failure:
            await manager.swap("plugin")
        assert reason in str(failure.value)
        assert f"process {pid} stays" in str(failure.value)
        assert f"plugin plugin: the swap failed: {failure.value}" in caplog.text
        after = state(manager)
        assert (after.pid, after.swaps, after.restarts, after.swapping) == (pid, 0, 0, False)
        assert (after.state, after.swap_error) == ("ready", str(failure.value))
        assert await asked(manager) == "1"
        await until(lambda: len(children()) == 2)  # the guardian and the old one
        write_plugin(tmp_path, version(2))
        await manager.swap("plugin")
        assert await asked(manager) == "2"
        assert state(manager).swap_error == ""


async def test_a_new_process_without_a_hook_that_the_settings_demand_does_not_take_over(
    tmp_path: Path,
) -> None:
    plugin = spec(tmp_path, version(1), hooks=("on_request", "on_response", "on_connect"))
    async with managed(bound(plugin)) as manager:
        write_plugin(tmp_path, version(2).replace('"on_request", ', ""))
        with pytest.raises(PluginSwapError, match="does not serve on_request"):
            await manager.swap("plugin")
        assert await asked(manager) == "1"


async def test_hooks_change_with_the_process(tmp_path: Path) -> None:
    async with managed(bound(spec(tmp_path, version(1).replace(', "on_response"', "")))) as manager:
        held = manager.index
        assert not manager.has_hook(ROUTE, "on_response")
        swap = await begin_swap(manager, tmp_path)
        assert not manager.has_hook(ROUTE, "on_response")
        mark(manager._plan.stages[ROUTE, 0].steps[0].plugin, "ready").touch()
        await swap
        assert manager.has_hook(ROUTE, "on_response")
        assert held.has_hook(ROUTE, "on_response")
        answer = UpstreamResponseInfo(status=200, headers={})
        assert (await manager.on_response(ROUTE, request(), answer)).headers == {"X-Version": "2"}
        conn = ConnInfo(route_id=ROUTE, domain="a.test", remote_addr="192.0.2.1:1")
        assert (await manager.on_connect(ROUTE, conn)).allow


async def test_a_swap_from_a_process_that_never_got_ready(tmp_path: Path) -> None:
    plugin = spec(tmp_path, "sys.stdin.read()", start_timeout=0.1)
    async with managed(bound(plugin)) as manager:
        with pytest.raises(HookError, match="not_ready"):
            await asked(manager)
        manager._supervisors[plugin].spec = replace(plugin, start_timeout=5.0)
        write_plugin(tmp_path, version(2))
        await manager.swap("plugin")
        assert await asked(manager) == "2"
        assert state(manager).swaps == 1


async def test_a_swap_of_one_that_is_down_starts_it_at_once(tmp_path: Path) -> None:
    plugin = spec(tmp_path, "sys.exit(1)", start_timeout=0.2)
    delays = replace(QUICK, restart_first=60.0, restart_most=60.0)
    async with managed(bound(plugin), delays=delays) as manager:
        await until(lambda: state(manager).state == "backing off")
        manager._supervisors[plugin].spec = replace(plugin, start_timeout=5.0)
        write_plugin(tmp_path, version(2))
        await manager.swap("plugin")
        assert await asked(manager) == "2"
        assert (state(manager).swaps, state(manager).restarts) == (0, 1)


async def test_a_swap_of_one_that_is_down_and_can_not_be_started_says_so(tmp_path: Path) -> None:
    plugin = PluginSpec(path=str(tmp_path / "plugin"), alias="plugin", start_timeout=0.5)
    delays = replace(QUICK, restart_first=60.0, restart_most=60.0)
    async with managed(bound(plugin), delays=delays) as manager:
        with pytest.raises(PluginSwapError, match="no such file"):
            await manager.swap("plugin")
        write_plugin(tmp_path, "sys.exit(1)")
        with pytest.raises(PluginSwapError, match=r"has not become ready within 0.5 s"):
            await manager.swap("plugin")
        assert state(manager).restarts == 2  # it backs off, while the swap waits for it


async def test_who_is_swapped(tmp_path: Path) -> None:
    manager = Manager(delays=QUICK)
    with pytest.raises(RuntimeError, match="does not run"):
        await manager.swap("plugin")
    async with managed(bound(spec(tmp_path, version(1)))) as manager:
        with pytest.raises(LookupError, match="no plugin other is in force"):
            await manager.swap("other")


# By a changed program.


async def test_a_reload_swaps_what_has_changed_and_nothing_else(tmp_path: Path) -> None:
    one, two = spec(tmp_path, version(1), "one"), spec(tmp_path, version(1), "two")
    bindings = [bound(one), bound(two, "web:1")]
    async with managed(*bindings) as manager:
        pids = [found.pid for found in manager.states()]
        await manager.reconfigure(bindings, {})
        assert not any(found.swapping for found in manager.states())
        write_plugin(tmp_path, version(2), "two")
        await manager.reconfigure(bindings, {})
        await until(lambda: manager.states()[1].swaps)
        assert await asked(manager) == "1"
        assert await asked(manager, route_id="web:1") == "2"
        assert manager.states()[0].pid == pids[0]
        assert manager.states()[1].pid != pids[1]
        assert manager.programs == {Path(one.path), Path(two.path)}


async def test_a_reload_tries_again_what_did_not_get_ready(tmp_path: Path) -> None:
    plugin = spec(tmp_path, version(1))
    async with managed(bound(plugin)) as manager:
        write_plugin(tmp_path, "sys.exit(3)")
        await manager.reconfigure([bound(plugin)], {})
        await until(lambda: state(manager).swap_error)
        assert await asked(manager) == "1"
        write_plugin(tmp_path, version(2))
        await manager.reconfigure([bound(plugin)], {})
        await until(lambda: state(manager).swaps)
        assert await asked(manager) == "2"


async def test_a_program_that_is_gone_is_no_reason(tmp_path: Path) -> None:
    plugin = spec(tmp_path, version(1))
    async with managed(bound(plugin)) as manager:
        remove(plugin)
        await manager.reconfigure([bound(plugin)], {})
        assert not state(manager).swapping
        assert await asked(manager) == "1"


async def test_a_reload_starts_a_repaired_program_at_once(tmp_path: Path) -> None:
    plugin = spec(tmp_path, "sys.exit(1)", start_timeout=0.2)
    delays = replace(QUICK, restart_first=60.0, restart_most=60.0)
    async with managed(bound(plugin), delays=delays) as manager:
        await until(lambda: state(manager).state == "backing off")
        write_plugin(tmp_path, version(2))
        await manager.reconfigure([bound(plugin)], {})
        await until(lambda: state(manager).state == "ready")
        assert await asked(manager) == "2"


# What comes in the middle.


async def test_pushes_count_from_the_change_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "prox.plugin")

    def pusher(name: str) -> str:
        return f"""
        from plugin_child import *
        import threading, time
        listener, path = listen()
        serve(listener, lambda hook, call: {{"ok": True}})
        def later():
            while not os.path.exists(__file__ + ".{name}"): time.sleep(0.005)
            push("set_targets", route_id="web:0", targets=["{name}-late:1"])
            push("log", level="info", message="{name} has pushed late")
        threading.Thread(target=later, daemon=True).start()
        for _ in configures():
            acknowledge()
            for number in (1, 2, 3):
                push("set_targets", route_id="web:0", targets=["{name}:" + str(number)])
            push("set_speed", route_id="web:0", download_mbps=len("{name}"))
            push("set_targets", route_id="web:7", targets=["nowhere:1"])
            push("log", level="info", message="{name} has pushed")
            while "{name}" == "second" and not os.path.exists(__file__ + ".ready"): time.sleep(0.005)
            ready(path, "on_request")
            time.sleep(0.05)
        """

    balancer = Balancer()
    plugin = spec(tmp_path, pusher("first"))
    routes = {ROUTE: RouteInfo(balancer=balancer)}
    async with managed(bound(plugin), routes=routes) as manager:
        await until(lambda: balancer.targets == ["first:3"])
        slow = manager._supervisors[plugin].life
        assert slow is not None
        swap = await begin_swap(manager, tmp_path, pusher("second"))
        await until(lambda: "second has pushed" in caplog.text)
        assert balancer.targets == ["first:3"]
        assert manager.speeds[ROUTE][""].download_mbps == 5
        mark(plugin, "first").touch()
        await until(lambda: "first has pushed late" in caplog.text)
        assert balancer.targets == ["first-late:1"]
        mark(plugin, "ready").touch()
        await swap
        assert balancer.targets == ["second:3"]
        assert manager.speeds[ROUTE][""].download_mbps == 6
        assert caplog.text.count("set_targets changes nothing: it is not bound to route web:7") == 2
        mark(plugin, "second").touch()
        await until(lambda: balancer.targets == ["second-late:1"])
        assert balancer.history[-3:] == [["first-late:1"], ["second:3"], ["second-late:1"]]


async def test_what_the_old_process_pushes_after_the_change_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "prox.plugin")
    body = """
        from plugin_child import *
        def handle(hook, call):
            if call["p"] != "/slow": return {"ok": True}
            open(__file__ + ".asked", "w").close()
            while not os.path.exists(__file__ + ".go"): time.sleep(0.005)
            push("set_targets", route_id="web:0", targets=["old:1"])
            ready("/no/where", "on_response")
            push("log", level="info", message="the old one has spoken")
            return {"ok": True}
        import time
        run(handle, "on_request")
    """
    balancer = Balancer()
    plugin = spec(tmp_path, body)
    async with managed(bound(plugin), routes={ROUTE: RouteInfo(balancer=balancer)}) as manager:
        slow = begin(manager.on_request(ROUTE, request(path="/slow")))
        await until(mark(plugin, "asked").exists)
        write_plugin(tmp_path, version(2))
        await manager.swap("plugin")
        mark(plugin, "go").touch()
        assert (await slow).allow
        await until(lambda: "the old one has spoken" in caplog.text)
        assert balancer.targets is None
        assert await asked(manager) == "2"
        assert "on_response" in state(manager).hooks


async def test_a_flood_of_early_pushes_is_kept_within_bounds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "prox.plugin")
    flood = (
        "for number in range(5000): push('set_targets', route_id='*', targets=[f'10.0.0.{number % 250 + 1}:80'])",
        'push("log", level="info", message="all pushed")',
        WAIT,
    )
    balancer = Balancer()
    plugin = spec(tmp_path, version(1))
    async with managed(bound(plugin), routes={ROUTE: RouteInfo(balancer=balancer)}) as manager:
        swap = await begin_swap(manager, tmp_path, version(2, *flood))
        await until(lambda: "all pushed" in caplog.text)
        coming = manager._supervisors[plugin]._swaps.coming
        assert coming is not None
        assert len(coming.held) == 1
        assert balancer.targets is None
        mark(plugin, "ready").touch()
        await swap
        assert balancer.history == [["10.0.0.250:80"]]


async def test_the_old_process_dies_in_the_middle(tmp_path: Path) -> None:
    """There is nothing left to protect: the new one is its restart."""
    plugin = spec(tmp_path, version(1))
    delays = replace(QUICK, restart_first=60.0, restart_most=60.0)
    async with managed(bound(plugin), delays=delays) as manager:
        old = state(manager).pid or 0
        swap = await begin_swap(manager, tmp_path)
        os.kill(old, signal.SIGKILL)
        await until(lambda: state(manager).pid not in {old, None})
        assert state(manager).state == "starting"
        with pytest.raises(HookError, match="not_ready"):
            await asked(manager)
        mark(plugin, "ready").touch()
        await swap
        assert await asked(manager) == "2"
        after = state(manager)
        assert (after.restarts, after.swaps, after.last_exit, after.state) == (1, 0, -9, "ready")


async def test_both_die_in_the_middle(tmp_path: Path) -> None:
    plugin = spec(tmp_path, version(1))
    async with managed(bound(plugin)) as manager:
        old = state(manager).pid or 0
        swap = await begin_swap(manager, tmp_path)
        coming = manager._supervisors[plugin]._swaps.coming
        assert coming is not None
        write_plugin(tmp_path, version(3))
        for pid in (old, coming.process.pid or 0):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(PluginSwapError, match="has exited"):
            await swap
        gone = {old, coming.process.pid, None}
        await until(lambda: state(manager).pid not in gone and state(manager).state == "ready")
        assert await asked(manager) == "3"


async def test_a_stop_in_the_middle(tmp_path: Path) -> None:
    plugin = spec(tmp_path, version(1))
    async with managed(bound(plugin)) as manager:
        old = state(manager).pid or 0
        swap = await begin_swap(manager, tmp_path)
        coming = manager._supervisors[plugin]._swaps.coming
        assert coming is not None
        pids = [old, coming.process.pid or 0]
    assert not any(map(alive, pids))
    assert state(manager).state == "stopped"
    with pytest.raises(PluginSwapError, match="is being stopped"):
        await swap


async def test_a_stop_while_the_old_process_ends_its_calls(tmp_path: Path) -> None:
    plugin = spec(tmp_path, version(1))
    async with managed(bound(plugin), delays=replace(QUICK, retire=60.0)) as manager:
        old = state(manager).pid or 0
        slow = begin(asked(manager, "/slow"))
        await until(mark(plugin, "asked").exists)
        await manager.swap("plugin")
        assert alive(old)
    assert not alive(old)
    with pytest.raises(HookError):
        await slow


async def test_two_orders_at_once(tmp_path: Path) -> None:
    """Who orders while a swap is under way gets a process that was started after the order; they share it."""
    plugin = spec(tmp_path, version(1))
    async with managed(bound(plugin)) as manager:
        first = await begin_swap(manager, tmp_path)
        write_plugin(tmp_path, version(3))
        others = [begin(manager.swap("plugin")) for _ in range(3)]
        mark(plugin, "ready").touch()
        await first
        await asyncio.gather(*others)
        assert await asked(manager) == "3"
        assert state(manager).swaps == 2


async def test_an_order_that_nobody_waits_for_any_more_goes_on(tmp_path: Path) -> None:
    plugin = spec(tmp_path, version(1))
    async with managed(bound(plugin)) as manager:
        swap = await begin_swap(manager, tmp_path)
        swap.cancel()
        mark(plugin, "ready").touch()
        await until(lambda: state(manager).swaps == 1)
        assert await asked(manager) == "2"


NUMBERED = """
    from plugin_child import *
    import time
    known = {}
    listener, path = listen()
    serve(listener, lambda hook, call: {"ok": known.get(call["r"]) == call["p"], "h": {"X-Version": "VERSION"}})
    HOLD
    for params in configures():
        known[params["route_id"]] = params.get("match", {}).get("path", "")
        acknowledge()
        ready(path, "on_request")
"""


def numbered(plugin: PluginSpec, *paths: str) -> tuple[list[Binding], dict[str, RouteInfo]]:
    """Routes in this order, each with its path as what it is."""
    bindings = [bound(plugin, f"web:{n}", match=MatchInfo(path=path)) for n, path in enumerate(paths)]
    return bindings, {f"web:{n}": RouteInfo(key=path) for n, path in enumerate(paths)}


@pytest.mark.parametrize("move", ["before the commit", "after the commit", "after an abandoned change"])
async def test_a_reload_in_the_middle(tmp_path: Path, move: str) -> None:
    """The new process knows the routes in force and those to come, as the old one does."""
    plugin = spec(tmp_path, NUMBERED.replace("VERSION", "1").replace("HOLD", ""))
    manager = Manager(delays=QUICK)
    manager.configure(*numbered(plugin, "/a", "/b", "/c"))
    async with manager:

        async def check(number: str, *paths: str) -> None:
            for place, path in enumerate(paths):
                result = await manager.on_request(f"web:{place}", request(f"web:{place}", path))
                assert result.allow, f"{path} was judged as another route"
                assert result.headers["X-Version"] == number

        swap = await begin_swap(manager, tmp_path, NUMBERED.replace("VERSION", "2").replace("HOLD", WAIT))
        prepared = await manager.prepare(*numbered(plugin, "/b", "/x", "/c", "/a"))
        await check("1", "/a", "/b", "/c")
        if move == "before the commit":
            mark(plugin, "ready").touch()
            await swap
            await check("2", "/a", "/b", "/c")
            manager.commit(prepared)
        elif move == "after the commit":
            manager.commit(prepared)
            await check("1", "/b", "/x", "/c", "/a")
            mark(plugin, "ready").touch()
            await swap
        else:
            manager.abandon(prepared)
            mark(plugin, "ready").touch()
            await swap
            await check("2", "/a", "/b", "/c")
            return
        await check("2", "/b", "/x", "/c", "/a")


async def test_a_reload_that_takes_the_plugin_out_in_the_middle(tmp_path: Path) -> None:
    plugin = spec(tmp_path, version(1))
    async with managed(bound(plugin)) as manager:
        old = state(manager).pid or 0
        supervisor = manager._supervisors[plugin]
        swap = await begin_swap(manager, tmp_path)
        coming = supervisor._swaps.coming
        assert coming is not None
        await manager.reconfigure([], {})
        with pytest.raises(PluginSwapError, match="is being stopped"):
            await swap
        await until(lambda: not supervisor.running and not alive(old) and not alive(coming.process.pid or 0))


async def test_messages_of_ends_go_to_the_process_in_charge(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "prox.plugin")

    def body(number: int, line: str = "") -> str:
        return f"""
        from plugin_child import *
        import time
        def handle(hook, call):
            if hook == ON_DISCONNECT: push("log", level="info", message=f"{number} was told of {{call['rx']}}")
            return {{"ok": True}} if hook == ON_REQUEST else None
        listener, path = listen()
        serve(listener, handle)
        {line}
        for _ in configures():
            ready(path, "on_request", "on_disconnect")
            while {number} == 2 and not os.path.exists(__file__ + ".ready"): time.sleep(0.005)
            acknowledge()
        """

    def told(number: int) -> DisconnectInfo:
        return DisconnectInfo(
            route_id=ROUTE, remote_addr="a", bytes_received=number, bytes_sent=0, duration_ms=1
        )

    plugin = spec(tmp_path, body(1))
    async with managed(bound(plugin)) as manager:
        swap = await begin_swap(manager, tmp_path, body(2))
        coming = manager._supervisors[plugin]._swaps.coming
        await until(lambda: coming is not None and coming.caller is not None)
        manager.on_disconnect(ROUTE, told(1))
        await until(lambda: "1 was told of 1" in caplog.text)
        mark(plugin, "ready").touch()
        await swap
        manager.on_disconnect(ROUTE, told(2))
        await until(lambda: "2 was told of 2" in caplog.text)
        assert "2 was told of 1" not in caplog.text
        assert state(manager).queued == 0
