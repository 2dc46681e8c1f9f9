"""A guard in every state in which it can't answer: refused, or allowed only where that is configured."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from prox.observe.event import Event
from prox.plugin import Binding, HookError, HookRecord, Manager, OnError, PluginSpec
from prox.wire import ConnInfo, UpstreamResponseInfo
from support.plugin_host import ALLOW, QUICK, alive, managed, request, spec, until, write_plugin

CONN = ConnInfo(route_id="web:0", domain="a.test", remote_addr="192.0.2.1:1")
ANSWER = UpstreamResponseInfo(status=200, headers={})
HOOKS = '"on_request", "on_response", "on_connect"'


async def kinds(manager: Manager, route_id: str = "web:0") -> list[str]:
    """What each hook answers: ok, or the kind of the error."""
    found = []
    for ask in (
        manager.on_request(route_id, request(route_id)),
        manager.on_response(route_id, request(route_id), ANSWER),
        manager.on_connect(route_id, CONN),
    ):
        try:
            await ask
        except HookError as error:
            known = (error.plugin, error.route_id) == ("plugin", route_id)
            found.append(str(error.kind) if known else str(error))
        else:
            found.append("ok")
    return found


def bound(plugin: PluginSpec, **settings: object) -> Binding:
    return Binding(route_id="web:0", plugin=plugin, **settings)  # type: ignore[arg-type] # typed by the cases


STRICT = OnError(response="deny")

NOT_UP = {
    "missing": None,
    "exits": "sys.exit(1)",
    "mute": "sys.stdin.read()",
    "acknowledges only": "from plugin_child import *\nfor _ in configures(): acknowledge()",
    "deaf": "import time; time.sleep(60)",
}


@pytest.mark.parametrize("state", NOT_UP)
async def test_a_guard_that_does_not_come_up(tmp_path: Path, state: str) -> None:
    body = NOT_UP[state]
    settings = {"start_timeout": 0.2}
    plugin = PluginSpec(path=str(tmp_path / "no"), alias="plugin") if body is None else spec(tmp_path, body)
    plugin = replace(plugin, **settings)  # type: ignore[arg-type] # seconds
    delays = replace(QUICK, stop_eof=0.05, ready_grace=0.05)
    async with managed(bound(plugin, on_error=STRICT), delays=delays) as manager:
        assert manager.has_hook("web:0", "on_request")
        assert manager.has_hook("web:0", "on_connect")
        assert await kinds(manager) == ["not_ready", "ok", "not_ready"]
    assert await kinds(manager) == ["not_ready", "ok", "not_ready"]
    allowed = bound(plugin, on_error=OnError(request="allow", connect="allow"))
    async with managed(allowed, delays=delays) as manager:
        record = HookRecord()
        assert (await manager.on_request("web:0", request(), record=record)).allow
        assert (record.plugin, record.verdict) == ("plugin", "error")
        assert (await manager.on_connect("web:0", CONN)).allow
        assert manager.states()[0].figures["on_request"].errors == {"not_ready": 1}


async def test_it_is_refused_before_it_was_started(tmp_path: Path) -> None:
    manager = Manager()
    manager.configure([bound(spec(tmp_path))], {})
    assert manager.has_hook("web:0", "on_request")
    assert await kinds(manager) == ["not_ready", "ok", "not_ready"]


async def test_the_log_says_what_to_do_when_nothing_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = spec(tmp_path, NOT_UP["acknowledges only"] or "", start_timeout=0.3)
    async with managed(bound(plugin)):
        await until(lambda: "hooks: []" in caplog.text)


async def test_the_log_says_what_is_missing_when_a_start_takes_too_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = spec(tmp_path, NOT_UP["deaf"] or "", start_timeout=0.2)
    async with managed(bound(plugin), delays=replace(QUICK, stop_eof=0.05)):
        assert "has not answered within 0.2 s; what it guards is refused until it does" in caplog.text
        await until(lambda: "has not acknowledged its configuration within 0.2 s" in caplog.text)


async def test_a_discovering_plugin_guards_nothing(tmp_path: Path) -> None:
    plugin = spec(tmp_path, NOT_UP["acknowledges only"] or "", hooks=())
    async with managed(bound(plugin)) as manager:
        assert not manager.has_hook("web:0", "on_request")
        assert (await manager.on_request("web:0", request())).allow
        assert manager.states()[0].state == "ready"


async def test_a_first_push_without_ready_says_that_it_serves_nothing(tmp_path: Path) -> None:
    body = """
        from plugin_child import *
        for _ in configures():
            acknowledge()
            push("set_targets", route_id="web:0", targets=[])
    """
    async with managed(bound(spec(tmp_path, body))) as manager:
        await until(lambda: not manager.has_hook("web:0", "on_request"))
        assert (await manager.on_request("web:0", request())).allow
        assert manager.states()[0].hooks == ()


async def test_the_setting_hooks_decides_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    body = """
        from plugin_child import *
        run(lambda hook, call: {"ok": True} if hook == 1 else {"s": 203}, "on_request", "on_response")
    """
    async with managed(bound(spec(tmp_path, body, hooks=("on_request", "on_connect")))) as manager:
        assert await kinds(manager) == ["ok", "ok", "not_served"]
        assert not manager.has_hook("web:0", "on_response")
        assert "the setting decides" in caplog.text


async def test_a_guard_that_crashes_refuses_until_it_is_back(tmp_path: Path) -> None:
    body = f"""
        from plugin_child import *
        run(lambda hook, call: os._exit(3) if call.get("p") == "/crash" else {{"ok": True}}, {HOOKS})
    """
    async with managed(bound(spec(tmp_path, body), on_error=STRICT)) as manager:
        assert await kinds(manager) == ["ok", "ok", "ok"]
        with pytest.raises(HookError) as failure:
            await manager.on_request("web:0", request(path="/crash"))
        assert failure.value.kind == "closed"
        await until(lambda: manager.states()[0].state == "backing off")
        assert await kinds(manager) == ["not_ready"] * 3  # on_response, too: it was declared once
        assert manager.has_hook("web:0", "on_response")
        await until(lambda: manager.states()[0].state == "ready")
        assert await kinds(manager) == ["ok", "ok", "ok"]
        state = manager.states()[0]
        assert (state.restarts, state.last_exit) == (1, 3)


async def test_no_request_passes_while_a_guard_is_killed_again_and_again(tmp_path: Path) -> None:
    """The plugin denies everything, so whatever is allowed went past it."""
    body = 'from plugin_child import *\nrun(lambda hook, call: {"ok": False}, "on_request")'
    delays = replace(QUICK, restart_first=0.01, restart_most=0.01)
    async with managed(bound(spec(tmp_path, body)), delays=delays) as manager:
        passed = denied = refused = 0
        killed = 0
        over = False

        async def client() -> None:
            nonlocal passed, denied, refused
            while not over:
                assert manager.has_hook("web:0", "on_request")
                try:
                    result = await manager.on_request("web:0", request())
                except HookError:
                    refused += 1
                    await asyncio.sleep(0.001)
                else:
                    passed += result.allow
                    denied += not result.allow

        loop = asyncio.get_running_loop()
        clients = [loop.create_task(client()) for _ in range(4)]
        while killed < 5:
            await until(lambda: manager.states()[0].state == "ready")
            before = denied
            await until(lambda before=before: denied > before + 10)  # type: ignore[misc] # a lambda with a default
            pid = manager.states()[0].pid
            assert pid
            os.kill(pid, signal.SIGKILL)
            killed += 1
            await until(lambda: manager.states()[0].state != "ready")
        over = True
        await asyncio.gather(*clients)
        assert passed == 0
        assert denied
        assert refused


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("time.sleep(60)", "deadline"),
        ('b"\\x00\\x00\\x00\\x04junk"', "undecodable"),
        ('{"yes": True}', "undecodable"),
        ('{"ok": False, "s": 42} if hook == 1 else {"s": 700}', "undecodable"),
        ('b"\\x7f\\xff\\xff\\xff"', "too_large"),
        ("sys.exit()", "closed"),
    ],
)
async def test_a_guard_that_answers_wrongly(tmp_path: Path, answer: str, kind: str) -> None:
    body = f"""
        import time
        from plugin_child import *
        def handle(hook, call):
            if call.get("p") == "/good": return {{"ok": True}}
            if {answer!r} == "sys.exit()": os._exit(0)
            return {answer}
        run(handle, {HOOKS})
    """
    async with managed(bound(spec(tmp_path, body), timeout=0.1)) as manager:
        with pytest.raises(HookError) as failure:
            await manager.on_request("web:0", request())
        assert failure.value.kind == kind
        if kind != "closed":
            assert (await manager.on_request("web:0", request(path="/good"))).allow
            assert manager.states()[0].figures["on_request"].errors == {kind: 1}
    async with managed(
        bound(spec(tmp_path, body), timeout=0.1, on_error=OnError(request="allow"))
    ) as manager:
        assert (await manager.on_request("web:0", request())).allow
        assert manager.states()[0].figures["on_request"].errors == {kind: 1}


FAULTS = {
    "answers too late": ("answer", "time.sleep(60)", "deadline"),
    "answers what is no msgpack": ("answer", 'b"\\x00\\x00\\x00\\x04junk"', "undecodable"),
    "answers with no map": ("answer", 'b"\\x00\\x00\\x00\\x01\\x05"', "undecodable"),
    "answers in the wrong shape": ("answer", '{"ok": "yes", "s": "x"}', "undecodable"),
    "answers too much": ("answer", 'b"\\x7f\\xff\\xff\\xff"', "too_large"),
    "hangs up": ("answer", 'sys._getframe(1).f_locals["connection"].shutdown(2)', "closed"),
    "does not listen": ("before", "listener.shutdown(2)", "connect"),
    "has removed its socket": ("before", "os.unlink(path)", "connect"),
    "refuses the route": ("acknowledge", 'say({"error": "no key"})', "not_configured"),
    "does not acknowledge the route": ("acknowledge", "None", "not_configured"),
    "says ready for nothing": ("hooks", "", "not_served"),
    "says ready without a socket": ("before", 'path = ""', "not_served"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_fault_of_a_plugin_that_runs_for_every_hook(tmp_path: Path, fault: str) -> None:
    """Refused, or let through where that is configured; counted either way, and the plugin goes on."""
    place, code, kind = FAULTS[fault]
    body = f"""
        import time
        from plugin_child import *
        listener, path = listen()
        serve(listener, lambda hook, call: {code if place == "answer" else '{"ok": True}'})
        {code if place == "before" else ""}
        for _ in configures():
            {code if place == "acknowledge" else "acknowledge()"}
            ready(path, {code if place == "hooks" else HOOKS})
    """
    must = ("on_request", "on_response", "on_connect") if kind == "not_served" else None
    plugin = spec(tmp_path, body, start_timeout=0.5, hooks=must)
    strict = bound(plugin, timeout=0.1, on_error=STRICT)
    lenient = Binding(
        route_id="web:1", plugin=plugin, timeout=0.1, on_error=OnError(request="allow", connect="allow")
    )
    async with managed(strict, lenient) as manager:
        pid = manager.states()[0].pid
        assert await kinds(manager) == [kind] * 3
        assert await kinds(manager, "web:1") == ["ok"] * 3
        state = manager.states()[0]
        assert [figures.errors for figures in state.figures.values()] == [{kind: 2}] * 3 + [{}]
        assert (state.pid, state.restarts) == (pid, 0)


@pytest.mark.parametrize("state", ["backing off", "starting"])
async def test_every_hook_while_a_plugin_that_has_declared_them_is_down(tmp_path: Path, state: str) -> None:
    body = f"""
        import time
        from plugin_child import *
        if os.path.exists(__file__ + ".lived"): time.sleep(60)
        open(__file__ + ".lived", "w").close()
        run(lambda hook, call: os._exit(3), {HOOKS})
    """
    wait = 60.0 if state == "backing off" else 0.01
    delays = replace(QUICK, restart_first=wait, restart_most=wait, stop_eof=0.05)
    plugin = spec(tmp_path, body)
    lenient = Binding(
        route_id="web:1", plugin=plugin, on_error=OnError(request="allow", response="allow", connect="allow")
    )
    async with managed(bound(plugin, on_error=STRICT), lenient, delays=delays) as manager:
        with pytest.raises(HookError, match="closed"):
            await manager.on_request("web:0", request())
        await until(lambda: manager.states()[0].state == state)
        assert await kinds(manager) == ["not_ready"] * 3
        assert await kinds(manager, "web:1") == ["ok"] * 3


@pytest.mark.parametrize("shape", ['{"s": 700}', '{"s": 100}', '{"h": 3}', '{"rm": "Server"}'])
async def test_a_wrong_on_response_passes_the_answer_or_refuses_it(tmp_path: Path, shape: str) -> None:
    body = f'from plugin_child import *\nrun(lambda hook, call: {shape}, "on_response")'
    async with managed(bound(spec(tmp_path, body))) as manager:
        assert (await manager.on_response("web:0", request(), ANSWER)).headers == {}
    async with managed(bound(spec(tmp_path, body), on_error=STRICT)) as manager:
        with pytest.raises(HookError) as failure:
            await manager.on_response("web:0", request(), ANSWER)
        assert failure.value.kind == "undecodable"


async def test_one_deadline_holds_for_all_plugins_of_a_hook(tmp_path: Path) -> None:
    body = """
        import time
        from plugin_child import *
        run(lambda hook, call: time.sleep(0.3) or {"ok": True}, "on_request")
    """
    plugins = [spec(tmp_path, body, f"p{n}") for n in range(5)]
    bindings = [Binding(route_id="web:0", plugin=plugin, timeout=0.8) for plugin in plugins]
    async with managed(*bindings) as manager:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(HookError) as failure:
            await manager.on_request("web:0", request())
        assert failure.value.kind == "deadline"
        assert failure.value.plugin == "p2"
        assert loop.time() - began < 1.4  # all of them would take 1.5


async def test_a_binding_may_have_a_tighter_limit(tmp_path: Path) -> None:
    body = """
        import time
        from plugin_child import *
        run(lambda hook, call: time.sleep(0.3) or {"ok": True}, "on_request")
    """
    async with managed(bound(spec(tmp_path, body), plugin_timeout=0.05)) as manager:
        with pytest.raises(HookError, match="deadline"):
            await manager.on_request("web:0", request())


async def test_a_slow_plugin_does_not_slow_another_route(tmp_path: Path) -> None:
    slow = spec(
        tmp_path,
        'from plugin_child import *\nimport time\nrun(lambda *_: time.sleep(60), "on_request")',
        "slow",
    )
    async with managed(
        Binding(route_id="web:0", plugin=replace(slow, max_concurrency=2), timeout=1.5),
        Binding(route_id="web:1", plugin=spec(tmp_path)),
    ) as manager:
        loop = asyncio.get_running_loop()
        stuck = [loop.create_task(manager.on_request("web:0", request())) for _ in range(20)]
        await until(lambda: manager.states()[0].waiting == 18)
        for _ in range(20):
            assert (await manager.on_request("web:1", request("web:1"))).allow
        assert not any(task.done() for task in stuck)
        results = await asyncio.gather(*stuck, return_exceptions=True)
        assert {result.kind for result in results if isinstance(result, HookError)} == {"deadline"}


async def test_a_route_that_its_plugin_does_not_accept_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = """
        from plugin_child import *
        listener, path = listen()
        serve(listener, lambda hook, call: {"ok": True})
        good = os.path.exists(__file__ + ".good")
        for params in configures():
            good = os.path.exists(__file__ + ".good")
            if params["route_id"] == "web:0" and not good:
                say({"error": "no key for this route"})
            else:
                acknowledge()
            ready(path, "on_request")
    """
    plugin = spec(tmp_path, body)
    bindings = [Binding(route_id=f"web:{n}", plugin=plugin) for n in range(2)]
    async with managed(*bindings) as manager:
        assert await kinds(manager, "web:0") == ["not_configured", "ok", "ok"]
        assert await kinds(manager, "web:1") == ["ok", "ok", "ok"]
        assert "does not accept route web:0, it is refused: no key for this route" in caplog.text
        write_plugin(tmp_path, "", Path(plugin.path).name + ".good")
        await manager.reconfigure(bindings, {})
        assert await kinds(manager, "web:0") == ["ok", "ok", "ok"]


async def test_a_program_that_appears_later_is_started(tmp_path: Path) -> None:
    plugin = PluginSpec(path=str(tmp_path / "plugin"))
    async with managed(bound(plugin)) as manager:
        state = manager.states()[0]
        assert state.state == "failed to start"
        assert "no such file" in state.error
        write_plugin(tmp_path, ALLOW)
        await until(lambda: manager.states()[0].state == "ready")
        assert (await manager.on_request("web:0", request())).allow


async def test_a_crash_loop_that_says_something_still_backs_off(tmp_path: Path) -> None:
    body = """
        from plugin_child import *
        listener, path = listen()
        for _ in configures():
            acknowledge()
            ready(path, "on_request")
            push("set_targets", route_id="*", targets=[])
            os._exit(1)
    """
    delays = replace(QUICK, restart_first=0.02, restart_most=5.0)
    async with managed(bound(spec(tmp_path, body)), delays=delays) as manager:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await until(lambda: manager.states()[0].restarts >= 4)
        assert loop.time() - began >= 0.02 + 0.04 + 0.08 + 0.16 - 0.02


async def test_a_socket_that_moves_is_followed(tmp_path: Path) -> None:
    body = """
        from plugin_child import *
        number = 0
        for params in configures():
            acknowledge()
            number += 1
            listener, path = listen(str(number))
            serve(listener, lambda hook, call, number=number: {"ok": True, "h": {"X-Socket": str(number)}})
            ready(path, "on_request")
    """
    binding = bound(spec(tmp_path, body))
    async with managed(binding) as manager:
        assert (await manager.on_request("web:0", request())).headers == {"X-Socket": "1"}
        await manager.reconfigure([binding], {})
        await until(lambda: manager._supervisors[binding.plugin].life.socket.endswith("/2"))  # type: ignore[union-attr] # it runs
        assert (await manager.on_request("web:0", request())).headers == {"X-Socket": "2"}


async def test_a_failed_hook_is_one_line_with_fields(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = """
        from plugin_child import *
        run(lambda hook, call: {}, "on_request")
    """
    async with managed(bound(spec(tmp_path, body))) as manager:
        for _ in range(20):
            with pytest.raises(HookError):
                await manager.on_request("web:0", request())
        told = [record.msg for record in caplog.records if isinstance(record.msg, Event)]
    assert len(told) == 10
    assert told[0].values == {
        "plugin": "plugin",
        "route": "web:0",
        "hook": "on_request",
        "kind": "undecodable",
    }
    assert all(event.text.startswith("hook failed: ") for event in told)
    assert str(told[0]).count("on_request") == 1
    assert str(told[0]).count("plugin=") == 1


async def test_lines_that_are_none_change_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    body = """
        from plugin_child import *
        def odd(params):
            for line in ("no json", "[]", "{}", '{"method": "jump"}', '{"result": "ok"}', '{"error": "e"}',
                         '{"method": "ready", "params": {"hooks": 5}}', '{"method": "set_targets", "params": []}',
                         "x" * 300, chr(0), "{" * 5000):
                say(line)
            say("z" * 200_000)
            push("log", level="warn", message="the last line")
        run(lambda hook, call: {"ok": True}, "on_request", configured=odd)
    """
    async with managed(bound(spec(tmp_path, body, max_line=100_000))) as manager:
        await until(lambda: "the last line" in caplog.text)
        for words in (
            "not a line of the protocol",
            "unknown method 'jump'",
            "no configure is open",
            "above 100000 bytes",
        ):
            assert words in caplog.text
        assert all("plugin plugin" in message or "plugin=plugin" in message for message in caplog.messages)
        assert (await manager.on_request("web:0", request())).allow
        assert manager.states()[0].restarts == 0


async def test_log_lines_keep_their_level_and_values(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "prox.plugin")
    body = """
        from plugin_child import *
        def log(params):
            for level in ("debug", "info", "warn", "error", "loud"):
                push("log", level=level, message="m-" + level, args=["route", "web:0", "n", 3, "ok", True])
            push("log", level="info", message="forged" + chr(10) + "line", args=["odd"])
        run(lambda hook, call: {"ok": True}, "on_request", configured=log)
    """
    async with managed(bound(spec(tmp_path, body))):
        await until(lambda: "forged" in caplog.text)
        found = {
            record.getMessage(): record.levelname
            for record in caplog.records
            if " plugin=plugin" in record.getMessage()
        }
        for level, name in (
            ("debug", "DEBUG"),
            ("info", "INFO"),
            ("warn", "WARNING"),
            ("error", "ERROR"),
            ("loud", "INFO"),
        ):
            assert found[f"m-{level} plugin=plugin route=web:0 n=3 ok=true"] == name
        assert r"forged\nline plugin=plugin !BADKEY=odd" in found


async def test_a_manager_stops_in_time_whatever_its_plugins_do(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    plugins = [spec(tmp_path, stubborn, f"p{n}", start_timeout=0.1) for n in range(3)]
    manager = Manager(delays=replace(QUICK, stop_eof=0.1, stop_term=0.1))
    manager.configure([Binding(route_id="web:0", plugin=plugin) for plugin in plugins], {})
    await manager.start()
    pids = [state.pid for state in manager.states()]
    loop = asyncio.get_running_loop()
    began = loop.time()
    await manager.stop()
    assert loop.time() - began < 5  # they would take a minute
    assert not any(alive(pid) for pid in pids if pid)


async def test_what_a_plugin_declares_later_holds_for_requests_that_began_before(tmp_path: Path) -> None:
    """No on_response is skipped because the request began before the plugin was ready or a reload came."""
    body = """
        from plugin_child import *
        listener, path = listen()
        serve(listener, lambda hook, call: {"s": 203})
        for params in configures():
            acknowledge()
            if os.path.exists(__file__ + ".go"):
                ready(path, "on_response")
    """
    plugin = spec(tmp_path, body, start_timeout=0.1)
    delays = replace(QUICK, ready_grace=0.01)
    async with managed(bound(plugin), delays=delays) as manager:
        began_before = manager.index
        assert not began_before.has_hook("web:0", "on_response")
        write_plugin(tmp_path, "", "plugin.go")
        await manager.reconfigure([bound(plugin)], {})
        await until(lambda: manager.has_hook("web:0", "on_response"))
        assert began_before.has_hook("web:0", "on_response")
        assert not began_before.has_hook("web:0", "on_request")
        assert (await began_before.on_response("web:0", request(), ANSWER)).status == 203
