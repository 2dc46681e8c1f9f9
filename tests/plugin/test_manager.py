"""The Manager with real plugins: a first request, what it merges, and what a reload keeps."""

from __future__ import annotations

from pathlib import Path

from prox.plugin import Binding
from support.plugin_host import managed, request, spec


async def test_a_request_passes_a_plugin(tmp_path: Path) -> None:
    async with managed(Binding(route_id="web:0", plugin=spec(tmp_path))) as manager:
        assert manager.has_hook("web:0", "on_request")
        result = await manager.on_request("web:0", request())
        assert result.allow
        assert result.headers == {"X-Seen": "web:0"}
        assert manager.states()[0].state == "ready"
    assert manager.states()[0].state == "stopped"
