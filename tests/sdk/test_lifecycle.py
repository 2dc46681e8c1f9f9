"""The life of the process: its socket, its end, its standard streams, its background tasks."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
from pathlib import Path

from prox.wire import HookType, Push, Response, decode_authorize, decode_line, marshal_envelope
from support.plugin_driver import TIMEOUT, PluginDriver, request

GUARD = """
import asyncio
from prox.sdk import Plugin
plugin = Plugin()

@plugin.on_request
async def decide(request):
    if request.path == "/slow":
        plugin.log.info("slow began")
        try:
            await asyncio.sleep(float(request.query))
        except asyncio.CancelledError:
            plugin.log.info("slow was cancelled")
            raise
    return request.allow({"Path": request.path})
"""
RUN = "plugin.run()\n"


def mode(path: str | Path) -> str | None:
    """Type and permissions as `ls` shows them; None where there is no file."""
    try:
        return stat.filemode(os.stat(path).st_mode)  # noqa: PTH116 - the path is a str from the plugin
    except FileNotFoundError:
        return None


async def test_the_end_of_stdin_ends_the_process_cleanly(tmp_path: Path) -> None:
    async with PluginDriver(GUARD + RUN, tmp_path) as plugin:
        client = await (await plugin.start()).connect()
        assert (await client.on_request("/x")).allow
        assert mode(plugin.socket) == "srw-------"
        assert await plugin.stop() == (0, [], "")
        assert mode(plugin.socket) is None
        assert await client.closed() == b""


async def test_sigterm_ends_it_the_same_way(tmp_path: Path) -> None:
    async with PluginDriver(GUARD + RUN, tmp_path) as plugin:
        await plugin.start()
        plugin.process.send_signal(signal.SIGTERM)
        assert await plugin.wait() == (0, [], "")
        assert mode(plugin.socket) is None


async def test_sigint_is_for_prox_and_not_for_its_plugins(tmp_path: Path) -> None:
    async with PluginDriver(GUARD + RUN, tmp_path) as plugin:
        client = await (await plugin.start()).connect()
        plugin.process.send_signal(signal.SIGINT)
        for _ in range(3):
            assert (await client.on_request("/x")).allow
        assert (await plugin.stop())[0] == 0


async def test_a_running_hook_is_answered_before_the_end(tmp_path: Path) -> None:
    async with PluginDriver(GUARD + RUN, tmp_path) as plugin:
        client = await (await plugin.start()).connect()
        client.send(marshal_envelope(HookType.ON_REQUEST, request("/slow", query="0.2")))
        await plugin.log("slow began")
        plugin.close_stdin()
        assert decode_authorize(await client.answer()).headers == {"Path": "/slow"}
        assert await client.closed() == b""
        assert (await plugin.wait())[0] == 0


async def test_a_hook_that_does_not_end_is_cancelled(tmp_path: Path) -> None:
    source = GUARD + "import prox.sdk.runtime\nprox.sdk.runtime.GRACE = 0.2\n" + RUN
    async with PluginDriver(source, tmp_path) as plugin:
        client = await (await plugin.start()).connect()
        client.send(marshal_envelope(HookType.ON_REQUEST, request("/slow", query="1000")))
        await plugin.log("slow began")
        plugin.close_stdin()
        assert await client.closed() == b""
        assert await plugin.log("slow was cancelled")  # type: ignore[truthy-bool] # it waits for the line
        status, _, errors = await plugin.wait()
        assert (status, errors) == (0, "")


async def test_lines_that_came_before_the_end_are_still_answered(tmp_path: Path) -> None:
    async with PluginDriver(GUARD + RUN, tmp_path) as plugin:
        for number in range(3):
            plugin.send_configure(f"web:{number}")
        plugin.close_stdin()
        status, lines, _ = await plugin.wait()
        assert status == 0
        assert [decode_line(line) for line in lines[::2]] == [Response("ok")] * 3
        assert [decode_line(line).method for line in lines[1::2]] == ["ready"] * 3  # type: ignore[union-attr]


async def test_a_blocked_thread_does_not_keep_the_process(tmp_path: Path) -> None:
    source = """
import asyncio, threading
import prox.sdk.runtime
prox.sdk.runtime.HARD_END = 0.3
"""
    threads = """
@plugin.background
async def block():
    threading.Thread(target=threading.Event().wait, name="stubborn").start()
    await asyncio.to_thread(threading.Event().wait)
"""
    async with PluginDriver(source + GUARD + threads + RUN, tmp_path) as plugin:
        await plugin.start()
        status, _, errors = await plugin.stop()
        assert status == 0
        assert "did not end by itself" in errors
        assert "stubborn" in errors
        assert mode(plugin.socket) is None


async def test_a_handler_that_blocks_the_loop_does_not_keep_the_process(tmp_path: Path) -> None:
    source = """
import time
import prox.sdk.runtime
from prox.sdk import Plugin
prox.sdk.runtime.HARD_END = 0.3
plugin = Plugin()
@plugin.on_request
def block(request):
    plugin.log.info("blocks")
    time.sleep(1000)
plugin.run()
"""
    async with PluginDriver(source, tmp_path) as plugin:
        client = await (await plugin.start()).connect()
        client.send(marshal_envelope(HookType.ON_REQUEST, request("/x")))
        await plugin.log("blocks")
        assert (await plugin.stop())[0] == 0
        assert await client.closed() == b""


# The socket


async def test_the_socket_is_in_the_given_directory_and_private(tmp_path: Path) -> None:
    async with PluginDriver(GUARD + RUN, tmp_path) as plugin:
        await plugin.start()
        path = Path(plugin.socket)
        assert path.parent == tmp_path
        assert mode(path) == "srw-------"


async def test_without_a_given_directory_it_makes_one_and_removes_it(tmp_path: Path) -> None:
    async with PluginDriver(GUARD + RUN, tmp_path, own_directory=False) as plugin:
        client = await (await plugin.start()).connect()
        directory = Path(plugin.socket).parent
        assert directory != tmp_path
        assert directory.is_relative_to(tmp_path)  # TMPDIR
        assert mode(directory) == "drwx------"
        assert mode(plugin.socket) == "srw-------"
        assert (await client.on_request("/x")).allow
        assert (await plugin.stop())[0] == 0
        assert mode(directory) is None


async def test_a_stale_socket_of_the_same_name_is_replaced(tmp_path: Path) -> None:
    leave_stale = f"""
import os, socket
socket.socket(socket.AF_UNIX).bind({str(tmp_path)!r} + f"/plugin-{{os.getpid()}}.sock")
"""
    async with PluginDriver(leave_stale + GUARD + RUN, tmp_path, flags=()) as plugin:
        client = await (await plugin.start()).connect()
        assert (await client.on_request("/x")).allow


async def test_a_directory_that_is_not_there_is_said_clearly(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    async with PluginDriver(
        GUARD + RUN, tmp_path, own_directory=False, env={"PROX_PLUGIN_DIR": missing}
    ) as plugin:
        status, lines, errors = await plugin.wait()
        assert status == 1
        assert lines == []
        assert f"can't listen on {missing}/plugin-{plugin.process.pid}.sock: No such file" in errors


async def test_a_path_too_long_for_a_socket_is_said_clearly(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    async with PluginDriver(
        GUARD + RUN, tmp_path, own_directory=False, env={"PROX_PLUGIN_DIR": str(deep)}
    ) as plugin:
        status, _, errors = await plugin.wait()
        assert status == 1
        assert f"can't listen on {deep}" in errors
        assert "path too long" in errors


# Standard streams


async def test_what_is_printed_goes_to_stderr(tmp_path: Path) -> None:
    source = (
        GUARD
        + """
import os, subprocess, sys
print("printed before run")

@plugin.on_configure
def configured(route):
    print("printed text")
    sys.stdout.buffer.write(b"raw bytes\\n")
    sys.stdout.flush()
    os.write(1, b"by descriptor\\n")
    subprocess.run([sys.executable, "-c", "import sys; print('a child', sys.stdin.read())"], check=True)
    print("input:", repr(sys.stdin.read()))
"""
        + RUN
    )
    async with PluginDriver(source, tmp_path) as plugin:
        client = await (await plugin.start()).connect()
        assert (await client.on_request("/x")).allow
        status, lines, errors = await plugin.stop()
        assert (status, lines) == (0, [])
        assert errors.splitlines() == [
            "printed before run",
            "printed text",
            "raw bytes",
            "by descriptor",
            "a child ",
            "input: ''",
        ]


async def test_on_a_terminal_it_says_what_it_is_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(GUARD + RUN)
    ours, theirs = os.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(tmp_path / "plugin.py"),
            stdin=theirs,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)},
        )
        assert process.stderr
        async with asyncio.timeout(TIMEOUT):
            assert b"Ctrl-C ends it" in await process.stderr.readline()
            process.send_signal(signal.SIGINT)
            assert await process.communicate() == (b"", b"")
        assert process.returncode == 0
    finally:
        os.close(ours)
        os.close(theirs)


# Background tasks


async def test_background_tasks_run_from_the_first_configure_to_the_end(tmp_path: Path) -> None:
    source = (
        GUARD
        + """
@plugin.background
async def refresh():
    plugin.set_targets(all_routes=True, targets=["10.0.0.1:80"])
    try:
        await asyncio.Event().wait()
    finally:
        plugin.set_targets(all_routes=True, targets=[])

@plugin.background
async def fail():
    raise RuntimeError("no source")
"""
        + RUN
    )
    async with PluginDriver(source, tmp_path) as plugin:
        await plugin.start()
        push = await plugin.line()
        assert isinstance(push, Push)
        assert push.params.targets == ["10.0.0.1:80"]
        record = await plugin.log("a background task failed")
        assert record.args
        assert record.args[:4] == ["task", "fail", "error", "RuntimeError: no source"]
        await plugin.configure("web:1")
        await plugin.ready()
        status, lines, errors = await plugin.stop()
        assert (status, errors) == (0, "")
        assert lines == [b'{"method":"set_targets","params":{"route_id":"*","targets":[]}}']


async def test_a_background_task_that_ignores_its_end_does_not_keep_the_process(tmp_path: Path) -> None:
    source = (
        "import prox.sdk.runtime\nprox.sdk.runtime.HARD_END = 0.3\nprox.sdk.runtime.BACKGROUND_GRACE = 0.1\n"
        + GUARD
        + """
@plugin.background
async def stubborn():
    while True:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            pass
"""
        + RUN
    )
    async with PluginDriver(source, tmp_path) as plugin:
        await plugin.start()
        assert (await plugin.stop())[0] == 0


async def test_prox_that_is_killed_leaves_no_plugin_and_no_socket(tmp_path: Path) -> None:
    async with PluginDriver(GUARD + RUN, tmp_path) as plugin:
        client = await (await plugin.start()).connect()
        assert plugin.process.stdin
        plugin.process.stdin.close()
        await client.close()
        assert (await plugin.wait())[0] == 0
        with socket.socket(socket.AF_UNIX) as probe:
            assert probe.connect_ex(plugin.socket) != 0


async def test_a_plugin_runs_once(tmp_path: Path) -> None:
    async with PluginDriver(GUARD + RUN + RUN, tmp_path) as plugin:
        await plugin.start()
        status, _, errors = await plugin.stop()
        assert status == 1
        assert "a plugin runs once" in errors
