"""A process that runs and does not answer any more is found and restarted; one that answers is left alone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from prox.plugin import Binding, HookError, Manager, PluginSpec, PluginState
from prox.plugin.liveness import refusal
from prox.wire import ConnInfo, UpstreamResponseInfo
from support.plugin_host import QUICK, alive, freeze, managed, request, spec, until

ROUTE = "web:0"
WATCHFUL = replace(QUICK, probe=0.05, probe_again=0.02, mute_after=0.3, stop_eof=0.1, stop_term=0.1)
HUNG = """
    import signal, time
    from plugin_child import *
    def handle(hook, call):
        if call.get("p") == "/slow": time.sleep(0.2)
        if call.get("p") == "/wrong": return {"yes": True}
        if call.get("p") == "/large": return b"\\x7f\\xff\\xff\\xff"
        if call.get("p") == "/raise": sys._getframe(1).f_locals["connection"].shutdown(2); return None
        if call.get("p") == "/close": listener.close(); os.unlink(path)
        if call.get("p") == "/hang": time.sleep(60)
        return {"ok": True}
    listener, path = listen()
    serve(listener, handle)
    for _ in configures():
        acknowledge()
        ready(path, "on_request", "on_response", "on_connect")
"""


def bound(plugin: PluginSpec, timeout: float = 0.1) -> Binding:
    return Binding(route_id=ROUTE, plugin=plugin, timeout=timeout)


def state(manager: Manager) -> PluginState:
    return manager.states()[0]


async def fails(manager: Manager, path: str = "/") -> str:
    """The kind of a call's error; empty when it has none."""
    try:
        await manager.on_request(ROUTE, request(path=path))
    except HookError as error:
        return error.kind
    return ""


async def test_a_socket_that_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also where calls over connections that are open still get answers."""
    async with managed(bound(spec(tmp_path, HUNG)), delays=WATCHFUL) as manager:
        pid = state(manager).pid
        assert await fails(manager, "/close") == ""
        await until(lambda: state(manager).pid not in {pid, None} and state(manager).state == "ready")
        assert await fails(manager) == ""
        after = state(manager)
        assert (after.restarts, after.unresponsive, after.swaps) == (1, 1, 0)
        assert "plugin plugin runs and does not answer, it is restarted: its socket /" in caplog.text
        assert "No such file or directory" in caplog.text
        assert not alive(pid or 0)


async def test_a_socket_that_refuses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with managed(
        bound(spec(tmp_path, HUNG.replace("os.unlink(path)", "None"))), delays=WATCHFUL
    ) as manager:
        assert await fails(manager, "/close") == ""
        await until(lambda: state(manager).restarts == 1 and state(manager).state == "ready")
        assert "Connection refused" in caplog.text
        assert await fails(manager) == ""


@pytest.mark.parametrize("hook", ["on_request", "on_response", "on_connect"])
async def test_a_process_that_hangs(tmp_path: Path, hook: str, caplog: pytest.LogCaptureFixture) -> None:
    async with managed(bound(spec(tmp_path, HUNG), timeout=0.05), delays=WATCHFUL) as manager:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "on_request": lambda: manager.on_request(ROUTE, request()),
            "on_response": lambda: manager.on_response(
                ROUTE, request(), UpstreamResponseInfo(status=200, headers={})
            ),
            "on_connect": lambda: manager.on_connect(
                ROUTE, ConnInfo(route_id=ROUTE, domain="a.test", remote_addr="192.0.2.1:1")
            ),
        }
        pid = state(manager).pid or 0
        await calls[hook]()
        await freeze(pid)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(5):
            if hook == "on_response":
                await calls[hook]()  # its policy allows
            else:
                with pytest.raises(HookError, match="deadline"):
                    await calls[hook]()
        assert state(manager).pid == pid
        await until(lambda: state(manager).pid != pid)
        assert loop.time() - began >= WATCHFUL.mute_after
        await until(lambda: state(manager).state == "ready")
        await calls[hook]()
        assert state(manager).unresponsive == 1
        assert "5 calls in a row had no answer" in caplog.text
        assert not alive(pid)


async def test_calls_in_flight_of_a_hung_process_fail_when_it_is_given_up(tmp_path: Path) -> None:
    plugin = spec(tmp_path, HUNG)
    bindings = [bound(plugin), Binding(route_id="web:1", plugin=plugin, timeout=60.0)]
    delays = replace(WATCHFUL, mute_after=0.1)
    async with managed(*bindings, delays=delays) as manager:
        long = asyncio.get_running_loop().create_task(manager.on_request("web:1", request("web:1", "/hang")))
        for _ in range(5):
            assert await fails(manager, "/hang") == "deadline"
        with pytest.raises(HookError, match="closed"):
            await long
        assert await fails(manager) in {"not_ready", ""}


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/slow", "deadline"), ("/wrong", "undecodable"), ("/large", "too_large"), ("/raise", "closed")],
)
async def test_what_is_no_reason(tmp_path: Path, path: str, kind: str) -> None:
    """Slow answers among others that come, answers of no use and connections that it ends are no silence."""
    binding = bound(spec(tmp_path, HUNG), 0.1 if kind == "deadline" else 5.0)
    async with managed(binding, delays=replace(WATCHFUL, mute_after=0.1)) as manager:
        pid = state(manager).pid
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.6
        while loop.time() < end:
            assert await fails(manager, path) == kind
            if path == "/slow":
                assert await fails(manager) == ""
        assert state(manager).pid == pid
        assert state(manager).unresponsive == 0


async def test_few_failures_and_silence_are_no_reason(tmp_path: Path) -> None:
    async with managed(bound(spec(tmp_path, HUNG)), delays=replace(WATCHFUL, mute_after=0.05)) as manager:
        pid = state(manager).pid
        for _ in range(4):
            assert await fails(manager, "/slow") == "deadline"
        await asyncio.sleep(0.3)  # several looks at it: what must not happen has no event
        assert state(manager).pid == pid
        assert await fails(manager) == ""


async def test_a_plugin_without_hooks_is_not_tried(tmp_path: Path) -> None:
    body = """
        from plugin_child import *
        for _ in configures():
            acknowledge()
            ready("/no/where")
    """
    async with managed(bound(spec(tmp_path, body)), delays=WATCHFUL) as manager:
        pid = state(manager).pid
        await asyncio.sleep(0.3)  # several looks at it: what must not happen has no event
        assert state(manager).pid == pid


async def test_restarts_of_what_never_answers_back_off(tmp_path: Path) -> None:
    body = """
        from plugin_child import *
        for _ in configures():
            acknowledge()
            ready("/no/where", "on_request")
    """
    delays = replace(WATCHFUL, restart_first=0.05, restart_most=10.0, probe=0.01, probe_again=0.01)
    async with managed(bound(spec(tmp_path, body)), delays=delays) as manager:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await until(lambda: state(manager).unresponsive >= 3 and state(manager).restarts >= 3)
        assert loop.time() - began >= 0.05 + 0.1 + 0.2 - 0.02
        assert await fails(manager) in {"not_ready", "connect"}


async def test_a_hung_process_during_a_swap_is_replaced_at_once(tmp_path: Path) -> None:
    plugin = spec(tmp_path, HUNG)
    delays = replace(WATCHFUL, restart_first=60.0, restart_most=60.0, mute_after=0.1)
    async with managed(bound(plugin), delays=delays) as manager:
        pid = state(manager).pid or 0
        hold = 'while not os.path.exists(__file__ + ".ready"): time.sleep(0.005)\n    for _'
        spec(tmp_path, HUNG.replace("for _", hold))
        swap = asyncio.get_running_loop().create_task(manager.swap("plugin"))
        await freeze(pid)
        for _ in range(5):
            assert await fails(manager) == "deadline"
        await until(lambda: state(manager).unresponsive == 1 and state(manager).state == "starting")
        await until(lambda: not alive(pid))
        spec(tmp_path, "", "plugin.ready")
        await swap
        assert await fails(manager) == ""
        assert (state(manager).restarts, state(manager).swaps) == (1, 0)


async def test_what_a_try_says(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    assert refusal(path) == "No such file or directory"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        assert refusal(path) == "Connection refused"
        listener.listen(0)
        for _ in range(5):  # its queue is full from some on: it is busy, not gone
            assert refusal(path) == ""
    assert "too long" in refusal("/" + "x" * 200)
