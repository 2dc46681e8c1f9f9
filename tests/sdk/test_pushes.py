"""Pushes: what they say, whole lines in order from any thread, and a prox that reads slowly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prox.sdk import Plugin
from prox.sdk.pushes import speed_push, targets_push
from prox.wire import Push, encode_line
from support.plugin_driver import PluginDriver


@pytest.mark.parametrize(
    ("push", "line"),
    [
        (targets_push("web:0", ["a:1"]), {"route_id": "web:0", "targets": ["a:1"]}),
        (targets_push("web:0", []), {"route_id": "web:0", "targets": []}),
        (targets_push("web:0", ("a:1", "b:2")), {"route_id": "web:0", "targets": ["a:1", "b:2"]}),
        (targets_push(None, {"a:1"}, action="backend"), {"action": "backend", "targets": ["a:1"]}),
        (targets_push(None, ["a:1"], all_routes=True), {"route_id": "*", "targets": ["a:1"]}),
        (
            targets_push("web:0", None, groups={"eu": ("a:1",), "us": []}),
            {"route_id": "web:0", "groups": {"eu": ["a:1"], "us": []}},
        ),
        (targets_push("web:0", None, groups={}), {"route_id": "web:0", "groups": {}}),
        (speed_push("web:0", download_mbps=8), {"route_id": "web:0", "download_mbps": 8}),
        (
            speed_push(None, action="backend", upload_mbps=0.5, group_key="g"),
            {"action": "backend", "upload_mbps": 0.5, "group_key": "g"},
        ),
        (speed_push(None, all_routes=True), {"route_id": "*"}),
    ],
)
def test_what_a_push_says(push: Push, line: dict[str, Any]) -> None:
    assert json.loads(encode_line(push))["params"] == line


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"targets": ["a:1"]},
        {"route_id": "web:0"},
        {"route_id": "web:0", "targets": "a:1"},
        {"route_id": "web:0", "groups": {"k": "a:1"}},
        {"route_id": "web:0", "targets": [], "groups": {}},
        {"route_id": "web:0", "action": "backend", "targets": []},
        {"route_id": "web:0", "all_routes": True, "targets": []},
        {"action": "backend", "all_routes": True, "targets": []},
    ],
)
def test_a_push_that_says_too_little_or_too_much(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Plugin().set_targets(**wrong)


def test_speeds_that_are_none() -> None:
    with pytest.raises(TypeError):
        Plugin().set_speed(download_mbps=8)
    for rate in (-1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="no speed"):
            Plugin().set_speed("web:0", download_mbps=rate)
        with pytest.raises(ValueError, match="no speed"):
            Plugin().set_speed("web:0", upload_mbps=rate)


THREADS = """
import asyncio, logging, threading
from prox.sdk import Plugin
plugin = Plugin()

@plugin.on_request
def decide(request):
    return request.allow()

def push(name):
    for number in range(2000):
        plugin.set_targets(f"web:{name}", [f"10.0.0.1:{number}", "x" * (number % 7) * 100 + ":1"])

@plugin.background
async def start():
    threads = [threading.Thread(target=push, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    await asyncio.to_thread(push, 4)
    for thread in threads:
        thread.join()
    plugin.set_targets("done", [])

plugin.run()
"""


async def test_ten_thousand_pushes_of_five_threads_arrive_whole_and_in_order(tmp_path: Path) -> None:
    async with PluginDriver(THREADS, tmp_path, flags=()) as plugin:
        await plugin.start()
        seen: dict[str, list[int]] = {}
        while (push := await plugin.line()).params.route_id != "done":  # type: ignore[union-attr]
            assert isinstance(push, Push)
            address, filler = push.params.targets or ["", ""]
            number = int(address.partition(":")[2])
            assert len(filler) == number % 7 * 100 + 2
            seen.setdefault(push.params.route_id, []).append(number)
        assert seen == {f"web:{name}": list(range(2000)) for name in range(5)}


SLOW_READER = """
import logging
from prox.sdk import Plugin
plugin = Plugin()

@plugin.on_request
def decide(request):
    if request.path == "/flood":
        for number in range(3000):
            plugin.set_targets("web:0", [f"10.0.0.1:{number}", "x" * 1000])
            logging.info("x" * 3000)
        plugin.set_targets("done", [])
    if request.path == "/log":
        logging.info("again")
    return request.allow()

plugin.run()
"""


async def test_hooks_go_on_while_prox_does_not_read_and_only_logs_are_lost(tmp_path: Path) -> None:
    async with PluginDriver(SLOW_READER, tmp_path, flags=()) as plugin:
        client = await (await plugin.start()).connect()
        for _ in range(2):
            assert (await client.on_request("/flood")).allow
            assert (await client.on_request("/other")).allow
        numbers = []
        for _ in range(2):
            while (push := await plugin.line()).params.route_id != "done":  # type: ignore[union-attr]
                assert isinstance(push, Push)
                assert push.params.targets
                numbers.append(int(push.params.targets[0].partition(":")[2]))
        assert numbers == [*range(3000), *range(3000)]
        await client.on_request("/log")
        assert (await plugin.log("again")).level == "info"
        kept = sum(record.message == "x" * 3000 for record in plugin.logs)
        losses = [record for record in plugin.logs if record.message.startswith("log lines were dropped")]
        assert 0 < kept < 6000
        assert {record.level for record in losses} == {"warn"}
        assert kept + sum(record.args[1] for record in losses if record.args) == 6000


async def test_a_prox_that_has_gone_does_not_hold_up_the_plugin(tmp_path: Path) -> None:
    async with PluginDriver(SLOW_READER, tmp_path, flags=()) as plugin:
        client = await (await plugin.start()).connect()
        plugin.process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        for _ in range(2):
            assert (await client.on_request("/flood")).allow
        plugin.close_stdin()
        assert await plugin.process.wait() == 0
