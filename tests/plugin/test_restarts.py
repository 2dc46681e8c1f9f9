"""Restarts: the waits between them, and that they leave nothing behind."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from prox.plugin import Binding, HookError, Manager, PluginSpec
from support.plugin_host import QUICK, managed, open_files, request, spec, until
from support.small_guard import write_small_guard

ROUTE = "web:0"


def left(manager: Manager) -> dict[str, int]:
    """What a process of a plugin could leave behind."""
    root = manager._runtime.path
    assert root is not None
    return {
        "descriptors": open_files(),
        "tasks": len(asyncio.all_tasks()),
        "files": sum(1 for _ in root.rglob("*")),
        "children": sum(len(path.read_text().split()) for path in Path("/proc/self/task").glob("*/children")),
        "threads": threading.active_count(),
    }


async def test_two_hundred_restarts_leave_nothing_behind(tmp_path: Path) -> None:
    """Each process answers, is asked to end in the middle of a call, and leaves its socket."""
    path = write_small_guard(tmp_path, on_call="os._exit(3)")
    plugin = PluginSpec(path=path, alias="plugin")
    delays = replace(QUICK, restart_first=0.0005, restart_most=0.0005)
    async with managed(Binding(route_id=ROUTE, plugin=plugin), delays=delays) as manager:

        async def restart(times: int) -> None:
            for _ in range(times):
                await until(lambda: manager.states()[0].state == "ready")
                before = manager.states()[0].restarts
                with pytest.raises(HookError):
                    await manager.on_request(ROUTE, request())
                await until(lambda before=before: manager.states()[0].restarts > before)  # type: ignore[misc] # a lambda with a default
            await until(lambda: manager.states()[0].state == "ready")

        async def settled() -> dict[str, int]:
            """What is there once a process runs and nothing of those before is being cleaned up."""
            found = left(manager)
            await until(lambda: left(manager)["children"] == 2 and left(manager)["files"] <= 4)
            return found | left(manager)

        await restart(20)  # by now all threads of the executor are there
        before = await settled()
        await restart(200)
        await until(lambda: all(left(manager)[name] <= before[name] for name in before))
        assert manager.states()[0].restarts == 220
        assert manager.states()[0].last_exit == 3


async def test_only_a_life_that_was_long_enough_sets_the_waits_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it said and answered; the waits are longer or shorter by jitter."""
    caplog.set_level("INFO", "prox.plugin")
    body = """
        import time
        from plugin_child import *
        listener, path = listen()
        serve(listener, lambda hook, call: {"ok": True})
        with open(__file__ + ".lives", "a+") as file:
            file.write("x")
            file.seek(0)
            lives = len(file.read())
        for _ in configures():
            acknowledge()
            ready(path, "on_request")
            push("set_targets", route_id="*", targets=[])
            if lives == 5: time.sleep(0.4)
            os._exit(1)
    """
    plugin = spec(tmp_path, body)
    delays = replace(QUICK, restart_first=0.1, restart_most=0.3, restart_jitter=0.5, steady_after=0.4)
    numbers = iter([0.5, 0.5, 0.0, 1.0, 0.5, 0.5] + [0.5] * 50)
    manager = Manager(delays=delays, random=lambda: next(numbers))
    manager.configure([Binding(route_id=ROUTE, plugin=plugin)], {})
    async with manager:
        await until(lambda: manager.states()[0].restarts >= 6)
        text = "is started again in "
        waits = [
            float(record.getMessage().partition(text)[2].removesuffix(" s"))
            for record in caplog.records
            if text in record.getMessage()
        ]
        #      0.1  0.2  0.3 * 0.5 (shown as 0.1 or 0.2)  0.3 * 1.5  then again the first
        assert waits[0] == 0.1
        assert waits[1] == 0.2
        assert waits[2] in {0.1, 0.2}
        assert waits[3] in {0.4, 0.5}
        assert waits[4:6] == [0.1, 0.2]


async def test_failed_starts_back_off_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plugin = PluginSpec(path=str(tmp_path / "plugin"), alias="plugin")
    delays = replace(QUICK, restart_first=0.02, restart_most=5.0)
    async with managed(Binding(route_id=ROUTE, plugin=plugin), delays=delays) as manager:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await until(lambda: manager.states()[0].restarts >= 4)
        assert loop.time() - began >= 0.02 + 0.04 + 0.08 + 0.16 - 0.02
        state = manager.states()[0]
        assert (state.last_exit, state.pid, state.version) == (None, None, "")
        assert state.error.endswith("plugin: no such file")
        assert f"plugin plugin can't be started: {state.error}" in caplog.text
