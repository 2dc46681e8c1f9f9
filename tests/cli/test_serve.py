"""`prox serve` as a user meets it: a process, its signals, its files, its exit status."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from support.client import Client, get
from support.plugin_host import alive
from support.prox_process import PROX, ProxProcess
from support.servers import read_log, until, write_sdk_plugin
from support.upstream import OK, Upstream, UpstreamPeer


def text(body: str, **route: Any) -> dict[str, Any]:
    """A route that answers with a text."""
    return {"action": {"type": "static", "body_ref": {"text": body}}, **route}


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for prox's temporary files whose name is short enough for sockets in it."""
    with TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


def write(path: Path, *routes: dict[str, Any], listen: str = "127.0.0.1:0", **root: Any) -> Path:
    document = {"services": {"web": {"listen": listen, "routes": list(routes)}}, **root}
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serves_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    async with ProxProcess(write(tmp_path / "config.json5", text("hello"))) as prox:
        assert await prox.get() == (200, "hello")
        prox.signal(number)
        assert await prox.exited() == 0
    assert {record["level"] for record in prox.records} == {"info"}
    assert prox.other == ""


async def test_a_wrong_configuration_exits_with_1_and_all_problems(tmp_path: Path) -> None:
    config = tmp_path / "config.json5"
    config.write_text('{services: {web: {lisen: ":80", routes: [{acton: {type: "drop"}}]}}}')
    async with ProxProcess(config) as prox:
        assert await prox.exited() == 1
    assert 'did you mean "listen"?' in prox.other
    assert 'did you mean "action"?' in prox.other
    assert f"{config}:1:" in prox.other


async def test_an_error_log_that_cant_be_opened_exits_with_1_and_its_place(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    config = write(tmp_path / "config.json5", text("x"), logging={"error_log": "pipe"})
    async with ProxProcess(config) as prox:
        assert await prox.exited() == 1
    assert prox.other.startswith("config.json5:1:") or prox.other.startswith(f"{config}:1:")
    assert "logging.error_log: can't open the log file: it is a pipe that nobody reads" in prox.other
    assert "Errno" not in prox.other


async def test_all_addresses_that_are_taken_are_named(tmp_path: Path) -> None:
    async with Upstream() as one, Upstream() as other:
        config = tmp_path / "config.json5"
        config.write_text(
            json.dumps(
                {"services": {name: {"listen": it.address} for name, it in (("a", one), ("b", other))}}
            )
        )
        async with ProxProcess(config) as prox:
            assert await prox.exited() == 1
    assert (
        "; ".join(
            f"can't listen on {it.address}: another process listens there; stop it, or choose another address"
            for it in (one, other)
        )
        in prox.messages
    )


async def test_no_configuration_exits_with_1(tmp_path: Path) -> None:
    async with ProxProcess(tmp_path / "none.json5") as prox:
        assert await prox.exited() == 1
    assert "none.json5" in prox.other


async def test_what_is_not_built_yet_is_refused(tmp_path: Path) -> None:
    config = write(tmp_path / "config.json5", text("x"), admin={"listen": "127.0.0.1:0"})
    async with ProxProcess(config) as prox:
        assert await prox.exited() == 1
    assert "admin" in prox.other


@pytest.mark.parametrize("arguments", [("--no-such-option",), ("--workers", "0"), ("--log-level", "loud")])
async def test_wrong_usage_exits_with_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    async with ProxProcess(write(tmp_path / "config.json5", text("x")), *arguments) as prox:
        assert await prox.exited() == 2


async def test_an_address_that_is_taken_exits_with_1_and_stops_plugins(tmp_path: Path) -> None:
    write_sdk_plugin(tmp_path, f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))")
    async with Upstream() as other:
        config = write(
            tmp_path / "config.json5",
            text("x"),
            listen=other.address,
            plugins={"guard": {"path": "plugin.py", "autostart": True}},
        )
        async with ProxProcess(config) as prox:
            assert await prox.exited() == 1
    (message,) = prox.messages
    assert message.startswith(f"can't listen on {other.address}: another process listens there")
    pid = tmp_path / "pid"
    assert not pid.exists() or not alive(int(pid.read_text()))


async def test_a_log_level_of_the_environment_that_is_none_exits_with_1(tmp_path: Path) -> None:
    async with ProxProcess(write(tmp_path / "config.json5", text("x")), env={"LOG_LEVEL": "loud"}) as prox:
        assert await prox.exited() == 1
    assert prox.other.startswith('prox: LOG_LEVEL: "loud" is no level')


@pytest.mark.parametrize(
    ("arguments", "env", "configured", "info"),
    [
        ((), {}, "warn", False),
        ((), {"LOG_LEVEL": "info"}, "warn", True),
        (("--log-level", "warn"), {"LOG_LEVEL": "info"}, "info", False),
        (("--log-level", "info"), {}, "warn", True),
    ],
)
async def test_log_level(
    tmp_path: Path, arguments: tuple[str, ...], env: dict[str, str], configured: str, info: bool
) -> None:
    config = write(
        tmp_path / "config.json5",
        text("x"),
        listen=f"unix://{tmp_path}/s.sock",
        logging={"level": configured},
    )
    async with ProxProcess(config, *arguments, env=env) as prox:
        if info:
            await prox.said("service web listens on ")
        else:
            await until((tmp_path / "s.sock").exists)
        prox.signal(signal.SIGTERM)
        assert await prox.exited() == 0
    assert bool(prox.records) is info


async def test_a_unix_socket_is_made_and_removed(tmp_path: Path) -> None:
    async with ProxProcess(
        write(tmp_path / "config.json5", text("x"), listen=f"unix://{tmp_path}/s.sock")
    ) as prox:
        assert await prox.address() == str(tmp_path / "s.sock")
        assert await prox.get() == (200, "x")
        prox.signal(signal.SIGTERM)
        assert await prox.exited() == 0
    assert not (tmp_path / "s.sock").exists()


async def test_drain_closes_idle_connections_and_finishes_requests(tmp_path: Path) -> None:
    let_go = asyncio.Event()

    async def slow(peer: UpstreamPeer) -> None:
        await peer.request()
        await let_go.wait()
        await peer.send(OK)

    async with Upstream(slow) as upstream:
        action = {"type": "proxy", "upstream": upstream.address}
        async with ProxProcess(write(tmp_path / "config.json5", {"action": action})) as prox:
            address = await prox.address()
            async with await Client.connect(address) as idle, await Client.connect(address) as busy:
                await busy.send(get("/"))
                await upstream.peer()
                prox.signal(signal.SIGTERM)
                await idle.closed()
                with pytest.raises(ConnectionRefusedError):
                    await Client.connect(address)
                let_go.set()
                answer = await busy.response()
                assert answer.body == b"ok"
                await busy.closed()
                assert await prox.exited() == 0


async def test_a_drain_ends_after_the_shutdown_timeout(tmp_path: Path) -> None:
    async with Upstream(lambda peer: peer.closed()) as upstream:
        config = write(
            tmp_path / "config.json5",
            {"action": {"type": "proxy", "upstream": upstream.address}},
            runtime={"shutdown_timeout": 0.1},
        )
        async with ProxProcess(config) as prox, await Client.connect(await prox.address()) as client:
            await client.send(get("/"))
            await upstream.peer()
            prox.signal(signal.SIGTERM)
            assert await prox.exited() == 0
            assert await client.discard() == 0


async def test_a_second_signal_ends_at_once_and_leaves_nothing(tmp_path: Path, temporary: Path) -> None:
    write_sdk_plugin(
        tmp_path,
        f"""
        open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
        @plugin.on_request
        def guard(request): return True
        """,
    )
    async with Upstream(lambda peer: peer.closed()) as upstream:
        config = write(
            tmp_path / "config.json5",
            {"action": {"type": "proxy", "upstream": upstream.address}, "plugins": ["./plugin.py"]},
            listen=f"unix://{tmp_path}/s.sock",
        )
        async with (
            ProxProcess(config, env={"TMPDIR": str(temporary)}) as prox,
            await Client.connect(await prox.address()) as client,
        ):
            await client.send(get("/"))
            await upstream.peer()
            prox.signal(signal.SIGTERM)
            await prox.said("ending:")
            prox.signal(signal.SIGTERM)
            assert await prox.exited() == 0
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: not alive(pid), "the plugin runs on")
    await until(lambda: not any(temporary.iterdir()), "the runtime directory is left")
    assert not (tmp_path / "s.sock").exists()


async def test_nothing_is_left_behind(tmp_path: Path, temporary: Path) -> None:
    write_sdk_plugin(tmp_path, f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))")
    config = write(
        tmp_path / "config.json5",
        text("x"),
        plugins={"p": {"path": "plugin.py", "autostart": True, "hooks": []}},
    )
    async with ProxProcess(config, env={"TMPDIR": str(temporary)}) as prox:
        await prox.get()
        pid = int((tmp_path / "pid").read_text())
        assert list(temporary.iterdir())  # noqa: ASYNC240 - quick
        prox.signal(signal.SIGTERM)
        assert await prox.exited() == 0
    assert not alive(pid)
    assert not list(temporary.iterdir())  # noqa: ASYNC240 - quick


async def test_a_signal_while_plugins_start_ends_it(tmp_path: Path) -> None:
    write_sdk_plugin(tmp_path, f"open({str(tmp_path / 'pid')!r}, 'w').close(); sys.stdin.read()")
    config = write(tmp_path / "config.json5", text("x", plugins=["./plugin.py"]))
    async with ProxProcess(config) as prox:
        await until((tmp_path / "pid").exists)
        prox.signal(signal.SIGTERM)
        assert await prox.exited() == 0
    assert not any("listens on" in message for message in prox.messages)


# Reloads.


async def test_sighup_reloads_and_reopens_logs(tmp_path: Path) -> None:
    logging = {"access_log": "access.log", "error_log": "error.log"}
    config = write(tmp_path / "config.json5", text("one"), logging=logging)
    async with ProxProcess(config, "--no-watch") as prox:
        address = await prox.address()
        async with await Client.connect(address) as client:
            assert (await client.request(get("/1"))).body == b"one"
            for name in ("access.log", "error.log"):
                (tmp_path / name).rename(tmp_path / f"{name}.1")
            write(config, text("two"), logging=logging)
            prox.signal(signal.SIGHUP)
            await prox.said("is in force")
            assert (await client.request(get("/2"))).body == b"two"
        prox.signal(signal.SIGTERM)
        assert await prox.exited() == 0
    assert [line["path"] for line in read_log(tmp_path / "access.log.1")] == ["/1"]
    assert [line["path"] for line in read_log(tmp_path / "access.log")] == ["/2"]
    assert (tmp_path / "error.log").exists()


async def test_no_watch_leaves_changes_alone(tmp_path: Path) -> None:
    config = write(tmp_path / "config.json5", text("one"))
    async with ProxProcess(config, "--no-watch") as prox, ProxProcess(config) as watching:
        await prox.get()
        await watching.get()
        write(config, text("two"))
        await watching.said("is in force")
        assert await prox.get() == (200, "one")
        assert not any("reloading" in message for message in prox.messages)


def in_place(path: Path) -> None:
    write(path, text("two"))


def renamed_over(path: Path) -> None:
    write(path.with_suffix(".new"), text("two")).rename(path)


def removed_and_written(path: Path) -> None:
    path.unlink()
    write(path, text("two"))


@pytest.mark.parametrize("change", [in_place, renamed_over, removed_and_written])
async def test_a_changed_file_is_a_reload(tmp_path: Path, change: Any) -> None:
    config = write(tmp_path / "config.json5", text("one"))
    async with ProxProcess(config) as prox:
        assert await prox.get() == (200, "one")
        change(config)
        await prox.said("reloading: config.json5 changed")
        await prox.said("is in force")
        assert await prox.get() == (200, "two")


async def test_a_link_that_points_elsewhere_is_a_reload(tmp_path: Path) -> None:
    """As Kubernetes mounts configuration: the folder is a link that is replaced by renaming."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "config.json5", text(name))
    (tmp_path / "data").symlink_to("one")
    async with ProxProcess(tmp_path / "data" / "config.json5") as prox:
        assert await prox.get() == (200, "one")
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").rename(tmp_path / "data")
        await prox.said("is in force")
        assert await prox.get() == (200, "two")


async def test_fragments_and_body_files_are_watched(tmp_path: Path) -> None:
    (tmp_path / "body.txt").write_text("one")
    route = {"action": {"type": "static", "body_ref": {"file": "body.txt"}}}
    (tmp_path / "web.json5").write_text(json.dumps({"listen": "127.0.0.1:0", "routes": [route]}))
    config = tmp_path / "config.json5"
    config.write_text('{services: {web: "web.json5"}}')
    async with ProxProcess(config) as prox:
        assert await prox.get() == (200, "one")
        (tmp_path / "body.txt").write_text("two")
        await prox.said("reloading: body.txt changed")
        await prox.said("is in force")
        assert await prox.get() == (200, "two")
        (tmp_path / "web.json5").write_text(json.dumps({"listen": "127.0.0.1:0", "routes": [text("three")]}))
        await prox.said("reloading: web.json5 changed")
        await prox.said("is in force", 2)
        assert await prox.get() == (200, "three")


async def test_services_of_a_folder_come_and_go(tmp_path: Path) -> None:
    def service(name: str) -> Path:
        path = tmp_path / f"{name}.json5"
        path.write_text(json.dumps({"listen": "127.0.0.1:0", "routes": [text(name)]}))
        return path

    service("web")
    async with ProxProcess(tmp_path) as prox:
        assert await prox.get() == (200, "web")
        other = service("other")
        await prox.said("is in force")
        assert await prox.get(service="other") == (200, "other")
        other.unlink()
        await prox.said("is in force", 2)
        with pytest.raises(ConnectionRefusedError):
            await prox.get(service="other")
        assert await prox.get() == (200, "web")


async def test_a_bad_configuration_changes_nothing(tmp_path: Path) -> None:
    config = write(tmp_path / "config.json5", text("one"))
    async with ProxProcess(config) as prox:
        assert await prox.get() == (200, "one")
        config.write_text('{services: {web: {lisen: ":80", routes: [{acton: 1}]}}}')
        await prox.said("the one before stays in force")
        errors = [record["msg"] for record in prox.records if record["level"] == "error"]
        assert any('"lisen"' in message and f"{config}:1:" in message for message in errors)
        assert any('"acton"' in message for message in errors)
        assert await prox.get() == (200, "one")
        write(config, text("two"))
        await prox.said("the new configuration is in force")
        assert await prox.get() == (200, "two")


async def test_a_fragment_that_was_missing_is_watched(tmp_path: Path) -> None:
    config = write(tmp_path / "config.json5", text("one"))
    async with ProxProcess(config) as prox:
        assert await prox.get() == (200, "one")
        config.write_text('{services: {web: "web.json5"}}')
        await prox.said("the one before stays in force")
        (tmp_path / "web.json5").write_text(json.dumps({"listen": "127.0.0.1:0", "routes": [text("two")]}))
        await prox.said("the new configuration is in force")
        assert await prox.get() == (200, "two")


async def test_a_deleted_configuration_changes_nothing(tmp_path: Path) -> None:
    config = write(tmp_path / "config.json5", text("one"))
    async with ProxProcess(config) as prox:
        assert await prox.get() == (200, "one")
        config.unlink()
        await prox.said("the one before stays in force")
        assert await prox.get() == (200, "one")


async def test_log_settings_change_with_a_reload(tmp_path: Path) -> None:
    config = write(tmp_path / "config.json5", text("one"), logging={"level": "info"})
    async with ProxProcess(config) as prox:
        await prox.get()
        write(config, text("two"), logging={"error_log": "none/error.log"})
        await prox.said("the one before stays in force")
        assert await prox.get() == (200, "one")
        write(config, text("two"), logging={"level": "warn", "error_log": "error.log"})
        await until((tmp_path / "error.log").exists)
        await prox.said("reloading", 2)
        count = len(prox.records)
        config.write_text("{")
        await prox.said("the one before stays in force", 2)
        assert {record["level"] for record in prox.records[count:]} == {"error"}
        # stderr comes first.
        await until(lambda: "the one before stays in force" in (tmp_path / "error.log").read_text())
        logged = [json.loads(line) for line in (tmp_path / "error.log").read_text().splitlines()]
        assert any("the one before stays in force" in record["msg"] for record in logged)


async def test_an_error_log_that_goes_while_a_reload_is_at_work(tmp_path: Path) -> None:
    write_sdk_plugin(tmp_path, f"import shutil; shutil.rmtree({str(tmp_path / 'logs')!r})")
    (tmp_path / "logs").mkdir()
    config = write(tmp_path / "config.json5", text("one"))
    async with ProxProcess(config) as prox:
        await prox.get()
        plugins = {"p": {"path": "plugin.py", "autostart": True, "hooks": []}}
        write(config, text("two"), plugins=plugins, logging={"error_log": "logs/error.log"})
        await prox.said("all else of the new configuration is in force")
        assert await prox.get() == (200, "two")
        assert not [message for message in prox.messages if "before stays in force" in message]
        [said] = [message for message in prox.messages if "can't open the log file" in message]
        assert said.startswith(f"{config}:1:")
        assert "Errno" not in said


async def test_what_changes_while_plugins_start_is_not_missed(tmp_path: Path) -> None:
    write_sdk_plugin(
        tmp_path,
        f"""
        import time, pathlib
        pathlib.Path({str(tmp_path / "started")!r}).touch()
        while not pathlib.Path({str(tmp_path / "go")!r}).exists(): time.sleep(0.01)
        """,
    )
    plugins = {"p": {"path": "plugin.py", "autostart": True, "hooks": []}}
    config = write(tmp_path / "config.json5", text("one"), plugins=plugins)
    async with ProxProcess(config) as prox:
        await until((tmp_path / "started").exists)
        write(config, text("two"), plugins=plugins)
        (tmp_path / "go").touch()
        await prox.said("the new configuration is in force")
        assert await prox.get() == (200, "two")


def test_a_terminal_gets_lines_for_people(tmp_path: Path) -> None:
    config = write(tmp_path / "config.json5", text("x"))
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [PROX, "serve", "-c", config], stderr=theirs, env={**os.environ, "NO_COLOR": "1"}
    )
    os.close(theirs)
    try:
        shown = b""
        while b"\n" not in shown:
            shown += os.read(ours, 4096)
    finally:
        process.terminate()
        assert process.wait(10) == 0
        os.close(ours)
    assert b" INFO  service web listens on 127.0.0.1:" in shown
