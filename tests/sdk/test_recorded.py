"""A Python plugin that does the same as the recorded Go one gives the same answers and the same lines."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from prox.wire import HookType, Push, Response, decode_authorize
from support.plugin_driver import PluginDriver
from support.vectors import PLUGIN_CALLS, PLUGIN_LINES, PROXY_CALLS, PROXY_LINES

PLUGIN = Path(__file__).with_name("recorded_plugin.py")


async def test_the_recorded_calls_get_the_recorded_answers(tmp_path: Path) -> None:
    async with PluginDriver(PLUGIN, tmp_path) as plugin:
        client = await (await plugin.start()).connect()
        for call in PLUGIN_CALLS:
            answer = await client.exchange(call.call)
            assert msgspec.msgpack.decode(answer) == call.decoded, call.subject


async def test_the_lines_after_a_configure_are_the_recorded_ones(tmp_path: Path) -> None:
    async with PluginDriver(PLUGIN, tmp_path) as plugin:
        plugin.send_configure()
        lines = [json.loads(await plugin.raw_line()) for _ in PLUGIN_LINES]
        logs = [line for line in lines if line.get("method") == "log"]
        others = [line for line in lines if line.get("method") != "log"]
        assert others[1]["params"].pop("socket").startswith(str(tmp_path))
        wanted = [json.loads(line) for line in PLUGIN_LINES]
        del wanted[1]["params"]["socket"]
        assert others == wanted[:-1]
        assert logs == wanted[-1:]  # logs need not wait for the acknowledgement
        assert (await plugin.stop())[0] == 0


async def test_the_lines_and_calls_of_the_go_proxy_are_served(tmp_path: Path) -> None:
    async with PluginDriver(PLUGIN, tmp_path, own_directory=False) as plugin:
        for line in PROXY_LINES:
            plugin.send_line(line)
        acknowledged: list[Response] = []
        while len(acknowledged) < len(PROXY_LINES):
            message = await plugin.line()
            if isinstance(message, Response):
                acknowledged.append(message)
            elif message.method == "ready":
                plugin.socket = message.params.socket
        assert set(acknowledged) == {Response("ok")}
        client = await plugin.connect()
        for call in PROXY_CALLS:
            if call.hook is HookType.ON_DISCONNECT:
                client.send(call.frame)  # is not answered: the next answer belongs to the next call
                continue
            answer = await client.exchange(call.frame)
            if call.payload.get("p") == "/deny":
                assert decode_authorize(answer).status == 401
        last = PROXY_CALLS[-1]
        assert last.hook is HookType.ON_CONNECT
        assert msgspec.msgpack.decode(answer) == {"ok": False}


async def test_a_repeated_configure_repeats_ready_with_the_same_socket(tmp_path: Path) -> None:
    async with PluginDriver(PLUGIN, tmp_path) as plugin:
        seen = []
        for route in ("web:0", "web:1", "web:0"):
            assert await plugin.configure(route) == Response("ok")
            seen.append(await plugin.ready())
            pushes = [await plugin.line() for _ in range(7)]
            assert all(isinstance(push, Push) and push.method.startswith("set_") for push in pushes)
        assert seen == [seen[0]] * 3
        assert seen[0].hooks == ["on_request", "on_response", "on_connect"]
