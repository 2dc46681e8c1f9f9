"""A new process in the place of one that runs: by order and by a changed program, and whatever comes in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from prox.plugin import (
    Binding,
    Manager,
    PluginSpec,
    PluginState,
)
from support.plugin_host import alive, managed, request, spec, until, write_plugin

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
