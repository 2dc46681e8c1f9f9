"""`configure`: acknowledged in order, refused by an exception, followed by the pushes of its handler."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prox.wire import Push, PushParams, Response
from support.plugin_driver import TIMEOUT, PluginDriver

DISCOVER = """
import asyncio
from prox.sdk import Plugin
plugin = Plugin()

@plugin.on_configure
async def configured(route):
    route.set_targets([route.domain or "none", route.path or "none"])
    if "slow" in route.id:
        await asyncio.sleep(0.05)
    if "bad" in route.id:
        raise LookupError(f"no source for {route.id}")
    asyncio.get_running_loop().create_task(later(route))

async def later(route):
    route.set_speed(upload_mbps=2)

plugin.run()
"""


def targets(route: str, *addresses: str) -> Push:
    return Push("set_targets", PushParams(route_id=route, targets=list(addresses)))


def speed(route: str) -> Push:
    return Push("set_speed", PushParams(route_id=route, upload_mbps=2))


async def test_acknowledgements_keep_the_order_and_pushes_follow_theirs(tmp_path: Path) -> None:
    async with PluginDriver(DISCOVER, tmp_path) as plugin:
        plugin.send_configure("slow:0", domain="*.a.test", path="/x/*")
        plugin.send_configure("bad:0", domain="b.test")
        plugin.send_configure("quick:0")
        plugin.send_configure("")
        lines = [await plugin.line() for _ in range(10)]
        assert lines[:2] == [Response("ok"), targets("slow:0", "*.a.test", "/x/*")]
        speeds = [line for line in lines if isinstance(line, Push) and line.method == "set_speed"]
        assert speeds == [speed("slow:0"), speed("quick:0"), speed("")]
        assert [line for line in lines if line not in speeds] == [
            Response("ok"),
            targets("slow:0", "*.a.test", "/x/*"),
            Response(error="LookupError: no source for bad:0"),  # its push is void
            Response("ok"),
            targets("quick:0", "none", "none"),
            Response("ok"),
            targets("", "none", "none"),
        ]
        record = await plugin.log("on_configure failed")
        assert record.args
        assert record.args[:2] == ["route", "bad:0"]
        status, rest, errors = await plugin.stop()
        assert (status, rest, errors) == (0, [], "")  # a plugin without hooks never says ready


async def test_ready_comes_with_the_first_success(tmp_path: Path) -> None:
    source = DISCOVER.replace("plugin.run()", "plugin.on_request(lambda request: True)\nplugin.run()")
    async with PluginDriver(source, tmp_path) as plugin:
        assert await plugin.configure("bad:0") == Response(error="LookupError: no source for bad:0")
        assert await plugin.configure("good:0") == Response("ok")
        assert (await plugin.ready()).hooks == ["on_request"]
        assert await plugin.line() == targets("good:0", "none", "none")
        assert await plugin.line() == speed("good:0")
        client = await plugin.connect()
        assert (await client.on_request("/")).allow
        assert await plugin.configure("bad:0") == Response(error="LookupError: no source for bad:0")
        assert (await client.on_request("/")).allow
        assert await plugin.configure("bad-no-more:0") == Response(
            error="LookupError: no source for bad-no-more:0"
        )
        assert await plugin.configure("good:1") == Response("ok")
        assert (await plugin.ready()).socket == plugin.socket


async def test_pushes_of_a_thread_wait_for_the_first_acknowledgement(tmp_path: Path) -> None:
    source = """
import threading
from prox.sdk import Plugin
plugin = Plugin()

@plugin.on_request
def decide(request):
    return True

def push():
    plugin.set_targets("web:0", ["early:1"])

thread = threading.Thread(target=push)
thread.start()
thread.join()
plugin.run()
"""
    async with PluginDriver(source, tmp_path) as plugin:
        await plugin.start()
        assert await plugin.line() == targets("web:0", "early:1")


async def test_a_plain_handler_and_none_at_all(tmp_path: Path) -> None:
    source = """
from prox.sdk import Plugin
plugin = Plugin()
@plugin.on_configure
def configured(route):
    plugin.log.info(repr(route))
plugin.run()
"""
    async with PluginDriver(source, tmp_path) as plugin:
        assert await plugin.configure("web:0", domain="a.test,b.test") == Response("ok")
        assert await plugin.log("<Route 'web:0' domain='a.test,b.test' path=''>")  # type: ignore[truthy-bool]
    async with PluginDriver("from prox.sdk import Plugin\nPlugin().run()", tmp_path) as plugin:
        assert await plugin.configure() == Response("ok")
        assert (await plugin.stop())[:2] == (0, [])


async def test_lines_that_are_no_configure_are_reported_and_not_answered(tmp_path: Path) -> None:
    async with PluginDriver(DISCOVER, tmp_path) as plugin:
        for line in (
            b"hello\n",
            b"\xff\xfe\n",
            b"\n",
            b"{}\n",
            b'{"method":"configure"}\n',
            b'{"method":"weather","params":[1]}\n',
        ):
            plugin.send_line(line)
        assert await plugin.configure("web:0") == Response("ok")
        messages = [record.message for record in plugin.logs]
        assert messages == ["a line from prox was not understood"] * 4 + ["prox asked for something unknown"]
        assert plugin.logs[-1].args == ["method", "weather"]


async def test_a_line_in_pieces_and_one_that_is_too_long(tmp_path: Path) -> None:
    async with PluginDriver(DISCOVER, tmp_path) as plugin:
        line = b'{"method":"configure","params":{"route_id":"web:0"}}\n'
        assert plugin.process.stdin
        for byte in line:
            plugin.send_line(bytes([byte]))
            await plugin.process.stdin.drain()
        assert await plugin.line() == Response("ok")
        async with asyncio.timeout(TIMEOUT):
            for _ in range(17):
                plugin.send_line(b"x" * 1024 * 1024)
                await plugin.process.stdin.drain()
        plugin.send_line(b"\n" + line.replace(b"web:0", b"web:1"))
        acknowledged = [await plugin.line() for _ in range(5)]
        assert acknowledged.count(Response("ok")) == 1
        assert [record.args for record in plugin.logs] == [["limit", 16 * 1024 * 1024]]
