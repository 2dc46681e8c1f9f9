"""The deadline that all stages of a route's hooks share."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from prox.plugin import Binding, HookError
from support.plugin_host import managed, request, spec

ROUTE = "web:0"
SLOW = """
    import time
    from plugin_child import *
    run(lambda hook, call: time.sleep(0.5) or {"ok": True, "fb": True}, "on_request")
"""


async def test_what_earlier_stages_took_is_not_there_for_later_ones(tmp_path: Path) -> None:
    plugin, other = spec(tmp_path), spec(tmp_path, name="other")
    bindings = [
        Binding(route_id=ROUTE, plugin=plugin, timeout=3.0),
        Binding(route_id=ROUTE, plugin=other, timeout=3.0, stage=1),
    ]
    async with managed(*bindings) as manager:
        now = asyncio.get_running_loop().time()
        index = manager.index
        assert index.deadline(ROUTE) == pytest.approx(now + 3, abs=0.05)
        assert index.deadline(ROUTE, 1.0) == pytest.approx(now + 2, abs=0.05)
        assert index.deadline(ROUTE, 9.0) == pytest.approx(now, abs=0.05)
        assert index.deadline("web:7") == pytest.approx(now, abs=0.05)


async def test_a_later_stage_fails_when_the_time_of_the_first_is_over(tmp_path: Path) -> None:
    first, second = spec(tmp_path, SLOW, "first"), spec(tmp_path, SLOW, "second")
    bindings = [
        Binding(route_id=ROUTE, plugin=first, timeout=0.8),
        Binding(route_id=ROUTE, plugin=second, timeout=0.8, stage=1),
    ]
    async with managed(*bindings) as manager:
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = manager.index.deadline(ROUTE)
        assert (await manager.index.on_request(ROUTE, request(), deadline=deadline)).fallback
        with pytest.raises(HookError) as failure:
            await manager.index.on_request(ROUTE, request(), stage=1, deadline=deadline)
        assert (failure.value.plugin, failure.value.kind) == ("second", "deadline")
        assert loop.time() - began < 0.98  # both would take 1
        # With a deadline of its own it would have had the time.
        assert (await manager.index.on_request(ROUTE, request(), stage=1)).fallback
