"""The Manager with real plugins: a first request, what merges, who is asked in which order, and its life."""

from __future__ import annotations

import asyncio
import logging
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from prox.plugin import (
    Binding,
    HookError,
    HookRecord,
    Manager,
    MatchInfo,
    PluginSpec,
    RequestNotEncodable,
    RouteInfo,
)
from prox.wire import ConnInfo, DisconnectInfo, UpstreamResponseInfo
from support.plugin_host import ALLOW, QUICK, managed, open_files, request, spec, until

VERDICTS = """
    from plugin_child import *
    def handle(hook, call):
        if hook == ON_REQUEST:
            return {
                "/deny": {"ok": False, "s": 401, "b": "no"},
                "/drop": {"ok": False, "dr": True},
                "/fallback": {"ok": False, "fb": True},
            }.get(call["p"], {"ok": True, "h": {sys.argv[1]: call["r"]}})
        if hook == ON_RESPONSE:
            return {"h": {sys.argv[1]: str(call["resp"]["s"])}}
        if hook == ON_CONNECT:
            return {"ok": call["d"] != "bad.test"}
        push("log", level="info", message="end", args=["rx", call["rx"], "r", call["r"]])
    run(handle, "on_request", "on_response", "on_connect", "on_disconnect")
"""


Ask = Callable[[Manager, Any], Awaitable[Any]]
HOOKS_ASKED: list[Ask] = [
    lambda manager, route_id: manager.on_request(route_id, request()),
    lambda manager, route_id: manager.on_response(
        route_id, request(), UpstreamResponseInfo(status=200, headers={})
    ),
    lambda manager, route_id: manager.on_connect(
        route_id, ConnInfo(route_id="web:0", domain="", remote_addr="")
    ),
]


@pytest.mark.parametrize("ask", HOOKS_ASKED)
async def test_a_route_that_is_not_known_is_no_open_door(tmp_path: Path, ask: Ask) -> None:
    routes = {"web:1": RouteInfo(), **{f"web:{n}": RouteInfo() for n in range(20, 40)}}
    async with managed(Binding(route_id="web:0", plugin=spec(tmp_path)), routes=routes) as manager:
        await ask(manager, "web:1")  # known, without plugins
        for unknown in ("web:2", "", "Web:0", "web:1 "):
            with pytest.raises(LookupError, match=r"there are: web:0, web:1, web:20, .*, …$"):
                await ask(manager, unknown)
            assert not manager.has_hook(unknown, "on_request")
            manager.on_disconnect(
                unknown,
                DisconnectInfo(
                    route_id=unknown, remote_addr="", bytes_received=0, bytes_sent=0, duration_ms=0
                ),
            )
        for no_id in (None, 5):
            with pytest.raises(TypeError):
                await ask(manager, no_id)
            with pytest.raises(TypeError):
                manager.has_hook(no_id, "on_request")  # type: ignore[arg-type] # that is what is tried
        await manager.reconfigure([], {})
        with pytest.raises(LookupError, match="there are: none"):
            await ask(manager, "web:0")


async def test_a_request_passes_a_plugin(tmp_path: Path) -> None:
    async with managed(Binding(route_id="web:0", plugin=spec(tmp_path))) as manager:
        assert manager.has_hook("web:0", "on_request")
        result = await manager.on_request("web:0", request())
        assert result.allow
        assert result.headers == {"X-Seen": "web:0"}
        assert manager.states()[0].state == "ready"
    assert manager.states()[0].state == "stopped"


async def test_every_hook_of_two_plugins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "prox.plugin")
    one, two = (spec(tmp_path, VERDICTS, f"p{n}", args=(f"X-{n}",)) for n in (1, 2))
    async with managed(*(Binding(route_id="web:0", plugin=plugin) for plugin in (one, two))) as manager:
        record = HookRecord()
        result = await manager.on_request("web:0", request(), record=record)
        assert result.headers == {"X-1": "web:0", "X-2": "web:0"}
        assert (record.plugin, record.verdict) == ("p2", "allow")

        record = HookRecord()
        result = await manager.on_request("web:0", request(path="/deny"), record=record)
        assert (result.allow, result.status, result.body) == (False, 401, "no")
        assert (record.plugin, record.verdict) == ("p1", "deny")
        assert (await manager.on_request("web:0", request(path="/drop"))).drop

        record = HookRecord()
        result = await manager.on_request("web:0", request(path="/fallback"), record=record)
        assert result.fallback
        assert (record.plugin, record.verdict) == ("p2", "fallback")

        changed = await manager.on_response("web:0", request(), UpstreamResponseInfo(status=204, headers={}))
        assert changed.headers == {"X-1": "204", "X-2": "204"}

        conn = ConnInfo(route_id="web:0", domain="bad.test", remote_addr="192.0.2.1:1")
        assert not (await manager.on_connect("web:0", conn)).allow

        end = DisconnectInfo(route_id="web:0", remote_addr="a", bytes_received=5, bytes_sent=0, duration_ms=1)
        manager.on_disconnect("web:0", end)
        await until(lambda: sum("rx=5 r=web:0" in line for line in caplog.text.splitlines()) == 2)

        first, second = (state.figures for state in manager.states())
        assert first["on_request"].verdicts == {"allow": 1, "deny": 1, "drop": 1, "fallback": 1}
        assert second["on_request"].calls == 2  # not asked after a denial or a drop
        assert first["on_connect"].verdicts == {"deny": 1}
        assert first["on_disconnect"].calls == 1
        assert {hook: figures.latency.count for hook, figures in first.items()} == {
            "on_request": 4,
            "on_response": 1,
            "on_connect": 1,
            "on_disconnect": 0,
        }
        assert 0 < first["on_request"].latency.sum < 5


async def test_a_route_without_plugins_allows_all(tmp_path: Path) -> None:
    routes = {"web:1": RouteInfo()}
    async with managed(Binding(route_id="web:0", plugin=spec(tmp_path)), routes=routes) as manager:
        assert not manager.has_hook("web:1", "on_request")
        assert not manager.has_hook("web:0", "on_response")
        assert (await manager.on_request("web:1", request("web:1"))).allow
        assert (
            await manager.on_response("web:1", request(), UpstreamResponseInfo(status=200, headers={}))
        ).status == 0
        assert (
            await manager.on_connect("web:1", ConnInfo(route_id="web:1", domain="", remote_addr=""))
        ).allow
        manager.on_disconnect(
            "web:1",
            DisconnectInfo(route_id="", remote_addr="", bytes_received=0, bytes_sent=0, duration_ms=0),
        )


async def test_stages_have_their_own_plugins(tmp_path: Path) -> None:
    one, two = (spec(tmp_path, VERDICTS, f"p{n}", args=(f"X-{n}",)) for n in (1, 2))
    bindings = [
        Binding(route_id="web:0", plugin=one),
        Binding(route_id="web:0", plugin=two, stage=1),
        Binding(route_id="web:0", plugin=one, stage=1),
    ]
    async with managed(*bindings) as manager:
        assert manager.has_hook("web:0", "on_request", 1)
        assert not manager.has_hook("web:0", "on_request", 2)
        assert (await manager.on_request("web:0", request())).headers == {"X-1": "web:0"}
        assert (await manager.on_request("web:0", request(), stage=1)).headers == {"X-2": "web:0"}
        answer = UpstreamResponseInfo(status=200, headers={})
        assert (await manager.on_response("web:0", request(), answer)).headers == {"X-1": "200"}
        assert (await manager.on_response("web:0", request(), answer, stage=1)).headers == {
            "X-1": "200",
            "X-2": "200",
        }


async def test_one_process_for_all_routes_and_settings_that_are_equal(tmp_path: Path) -> None:
    body = """
        from plugin_child import *
        import json
        run(lambda hook, call: {"ok": True, "h": {"X-Pid": str(os.getpid())}}, "on_request",
            configured=lambda params: push("log", level="info", message=json.dumps(params)))
    """
    one = spec(tmp_path, body)
    other = PluginSpec(path=one.path, args=("x",))
    bindings = [
        Binding(route_id="web:0", plugin=one, match=MatchInfo(domain="a.test", path="/x/*")),
        Binding(route_id="web:1", plugin=PluginSpec(path=one.path, alias="another name"), match=MatchInfo()),
        Binding(route_id="web:2", plugin=other),
    ]
    async with managed(*bindings) as manager:
        pids = [
            (await manager.on_request(f"web:{n}", request(f"web:{n}"))).headers["X-Pid"] for n in range(3)
        ]
        assert pids[0] == pids[1] != pids[2]
        assert len(manager.states()) == 2


async def test_configure_is_sent_as_the_protocol_writes_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = """
        from plugin_child import *
        for line in sys.stdin:
            push("log", level="info", message=line.strip())
            acknowledge()
            push("set_targets", action="x", targets=[])
    """
    caplog.set_level(logging.INFO, "prox.plugin")
    bindings = [
        Binding(
            route_id="web:0",
            plugin=spec(tmp_path, body),
            match=MatchInfo(domain="*.example.com", path="/w/*"),
        ),
        Binding(route_id="web:1", plugin=spec(tmp_path, body), match=MatchInfo(path="/only")),
        Binding(route_id="", plugin=spec(tmp_path, body, "auto")),
    ]
    async with managed(*bindings):
        for line in (
            '{"method":"configure","params":{"route_id":"web:0","match":{"domain":"*.example.com","path":"/w/*"}}}',
            '{"method":"configure","params":{"route_id":"web:1","match":{"path":"/only"}}}',
            '{"method":"configure","params":{"route_id":""}}',
        ):
            assert line in caplog.text


async def test_a_request_that_can_not_be_shown_is_refused_whatever_the_policy(tmp_path: Path) -> None:
    from prox.plugin import OnError

    open_to_all = OnError(request="allow")
    async with managed(Binding(route_id="web:0", plugin=spec(tmp_path), on_error=open_to_all)) as manager:
        with pytest.raises(RequestNotEncodable) as failure:
            await manager.on_request("web:0", request(path="/" + "x" * 1024 * 1024))
        assert failure.value.status == 431
        with pytest.raises(RequestNotEncodable) as failure:
            await manager.on_request("web:0", request(path="/\udcff"))
        assert failure.value.status == 400
        assert (await manager.on_request("web:0", request())).allow


async def test_an_answer_too_large_to_be_shown_is_the_policys_business(tmp_path: Path) -> None:
    plugin = spec(tmp_path, VERDICTS, args=("X",), max_frame=2000)
    async with managed(Binding(route_id="web:0", plugin=plugin)) as manager:
        big = UpstreamResponseInfo(status=200, headers={"X-Big": "x" * 3000})
        assert (await manager.on_response("web:0", request(), big)).headers == {}
        assert manager.states()[0].figures["on_response"].errors == {"too_large": 1}
        with pytest.raises(RequestNotEncodable):  # a client can't choose to fail it
            await manager.on_response("web:0", request(path="/" + "x" * 1500), big)


async def test_a_second_start_and_late_configure_are_errors(tmp_path: Path) -> None:
    async with managed(Binding(route_id="web:0", plugin=spec(tmp_path))) as manager:
        with pytest.raises(RuntimeError):
            await manager.start()
        with pytest.raises(RuntimeError):
            manager.configure([], {})


async def test_it_can_be_started_again(tmp_path: Path) -> None:
    manager = Manager(delays=QUICK)
    manager.configure([Binding(route_id="web:0", plugin=spec(tmp_path))], {})
    before = 0
    for turn in range(3):
        async with manager:
            assert (await manager.on_request("web:0", request())).allow
        with pytest.raises(HookError):
            await manager.on_request("web:0", request())
        if not turn:
            before = open_files()
    assert open_files() <= before


async def test_a_cancelled_start_leaves_nothing(tmp_path: Path) -> None:
    body = """
        import time
        with open(__file__ + ".pid", "w") as file: print(os.getpid(), file=file)
        sys.stdin.read()
    """
    plugin = spec(tmp_path, body)
    manager = Manager(delays=QUICK)
    manager.configure([Binding(route_id="web:0", plugin=plugin)], {})
    task = asyncio.get_running_loop().create_task(manager.start())
    await until(lambda: manager.states()[0].pid)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert manager.states()[0].state == "stopped"
    assert manager.states()[0].pid is None


def test_it_works_on_the_stock_loop(tmp_path: Path) -> None:
    plugin = spec(tmp_path, textwrap.dedent(ALLOW))

    async def main() -> None:
        async with managed(Binding(route_id="web:0", plugin=plugin)) as manager:
            results = await asyncio.gather(*(manager.on_request("web:0", request()) for _ in range(50)))
            assert all(result.allow for result in results)

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())
