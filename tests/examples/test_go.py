"""The plugin in Go: compiled by `prox build`, asked by the Manager, run by a real prox, held to the recorded traffic.

`recorded.go` stands on the same protocol part and does what the plugin of tests/vectors did.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from prox.plugin import Binding, MatchInfo, PluginSpec, RouteInfo
from prox.wire import ConnInfo, DisconnectInfo, HookType, Response, Speed, UpstreamResponseInfo
from support.client import Client, get
from support.go import COLD, needs_go
from support.plugin_driver import PluginDriver
from support.plugin_host import Balancer, managed, request, until
from support.prox_process import PROX, ProxProcess
from support.upstream import Upstream, answer, answering
from support.vectors import PLUGIN_CALLS, PLUGIN_LINES, PROXY_CALLS, PROXY_LINES

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/go"
pytestmark = [needs_go, COLD]

KEY = {"X-Api-Key": "k-alice"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, and beside it the plugin of the recordings, both compiled."""
    folder = tmp_path_factory.mktemp("go")
    shutil.copytree(EXAMPLE / "guard", folder / "guard", ignore=shutil.ignore_patterns("guard"))
    shutil.copytree(EXAMPLE / "guard", folder / "recorded", ignore=shutil.ignore_patterns("guard"))
    shutil.copy(EXAMPLE / "config.json5", folder)
    shutil.copy(Path(__file__).with_name("recorded.go"), folder / "recorded/main.go")
    (folder / "recorded.json5").write_text('{ plugins: { recorded: { path: "recorded" } } }')
    for config, said in (
        ("config.json5", "guard/guard: built\n"),
        ("recorded.json5", "recorded/recorded: built\n"),
    ):
        done = subprocess.run(
            [PROX, "build", "-c", config], cwd=folder, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    return folder


@pytest.fixture
def guard(folder: Path) -> PluginSpec:
    return PluginSpec(
        path=str(folder / "guard/guard"), alias="guard", env={"TARGETS": "127.0.0.1:1,127.0.0.1:2"}
    )


@pytest.fixture
def recorded(folder: Path) -> str:
    """A script that becomes the plugin of the recordings."""
    program = str(folder / "recorded/recorded")
    return f"import os; os.execv({program!r}, [{program!r}])"


# The example, asked by the Manager


async def test_every_hook_and_push(guard: PluginSpec, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "prox.plugin")
    balancer = Balancer()
    routes = {"web:0": RouteInfo(balancer=balancer)}
    binding = Binding(route_id="web:0", plugin=guard, match=MatchInfo(path="/api/*"))
    async with managed(binding, routes=routes) as manager:
        [state] = manager.states()
        assert state.state == "ready"
        assert state.hooks == ("on_connect", "on_disconnect", "on_request", "on_response")

        allowed = await manager.on_request("web:0", request(headers=KEY))
        assert (allowed.allow, allowed.headers) == (True, {"X-User": "alice"})
        denied = await manager.on_request("web:0", request())
        assert (denied.allow, denied.status, denied.body) == (False, 401, "a key is needed\n")

        end = DisconnectInfo(
            route_id="web:0", remote_addr="a:1", bytes_received=0, bytes_sent=7, duration_ms=1
        )
        manager.on_disconnect("web:0", end)
        await until(lambda: "ended plugin=guard route=web:0 total=7" in caplog.text)
        upstream = UpstreamResponseInfo(status=200, headers={"Server": "x"})
        changed = await manager.on_response("web:0", request(), upstream)
        assert (changed.headers, changed.remove) == ({"X-Sent-Before": "7"}, ["Server"])

        for domain, allow in (("a.example.com", True), ("example.net", False)):
            info = ConnInfo(route_id="web:0", domain=domain, remote_addr="192.0.2.1:1")
            assert (await manager.on_connect("web:0", info)).allow is allow

        await until(
            lambda: "bound plugin=guard route=web:0 path=/api/*" in caplog.text
        )  # the last of what it says at first
        assert balancer.targets == ["127.0.0.1:1", "127.0.0.1:2"]
        assert manager.speeds["web:0"] == {"": Speed(download_mbps=800, upload_mbps=0)}

        await manager.reconfigure([binding], routes)
        await until(lambda: caplog.text.count("bound plugin=guard route=web:0") == 2)
        assert manager.states()[0].restarts == 0
        assert (await manager.on_request("web:0", request(headers=KEY))).allow
    [state] = manager.states()
    assert (state.last_exit, state.stderr) == (0, ())


async def test_calls_are_answered_at_the_same_time(guard: PluginSpec) -> None:
    async with managed(Binding(route_id="web:0", plugin=guard)) as manager:
        users = ("alice", "bob") * 200
        asked = (manager.on_request("web:0", request(headers={"X-Api-Key": f"k-{user}"})) for user in users)
        answers = await asyncio.gather(*asked)
        assert [verdict.headers["X-User"] for verdict in answers] == list(users)


async def test_without_a_route_it_refuses(guard: PluginSpec, caplog: pytest.LogCaptureFixture) -> None:
    async with managed(Binding(route_id="", plugin=guard)):
        await until(lambda: "bind this plugin to a route" in caplog.text)


# The example in a real prox


def processes(program: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "exe").samefile(program):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.fixture
def served(folder: Path, tmp_path: Path) -> Iterator[Path]:
    """The example with a plugin of its own, for addresses that are free."""
    shutil.copytree(folder / "guard", tmp_path / "guard")
    shutil.copy(folder / "config.json5", tmp_path)
    yield tmp_path
    assert not processes(tmp_path / "guard/guard")


def with_upstream(folder: Path, address: str) -> Path:
    config = folder / "config.json5"
    text = config.read_text()
    assert "127.0.0.1:8080" in text
    config.write_text(text.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:9000", address))
    return config


async def test_through_prox_and_over_a_restart(served: Path) -> None:
    async with Upstream(answering(answer(b"welcome", b"Server: upstream"))) as upstream:
        config = await asyncio.to_thread(with_upstream, served, upstream.address)
        async with ProxProcess(config) as prox:
            async with await Client.connect(await prox.address()) as client:
                denied = await client.request(get())
                assert (denied.status, denied.body) == (401, b"a key is needed\n")
                allowed = await client.request(get("/", "X-Api-Key: k-bob", "x_user: admin", "X-User: admin"))
                assert (allowed.status, allowed.body) == (200, b"welcome")
                assert "Server" not in allowed
                assert allowed["X-Sent-Before"] == b"0"
                assert upstream.requests[0].all("X-User") == [b"bob"]
                assert "x_user" not in upstream.requests[0]
            bound = await prox.said("bound")
            assert (bound["plugin"], bound["route"]) == ("guard", "web:0")
            ended = await prox.said("ended")
            assert (ended["plugin"], ended["route"], ended["total"]) == ("guard", "web:0", 7)

            prox.signal(signal.SIGHUP)
            await prox.said("bound", times=2)
            await prox.said("the new configuration is in force")

            [pid] = await asyncio.to_thread(processes, served / "guard/guard")
            os.kill(pid, signal.SIGKILL)
            await prox.said("plugin guard is started again")
            await prox.said("bound", times=3)
            async with await Client.connect(await prox.address()) as client:
                again = await client.request(get("/", "X-Api-Key: k-alice"))
                assert (again.status, again.body) == (200, b"welcome")
            prox.signal(signal.SIGTERM)
            assert await prox.exited() == 0


# The recorded traffic


async def test_the_recorded_calls_get_the_recorded_answers(recorded: str, tmp_path: Path) -> None:
    async with PluginDriver(recorded, tmp_path) as plugin:
        client = await (await plugin.start()).connect()
        for call in PLUGIN_CALLS:
            assert msgspec.msgpack.decode(await client.exchange(call.call)) == call.decoded, call.subject


async def test_the_lines_after_a_configure_are_the_recorded_ones(recorded: str, tmp_path: Path) -> None:
    async with PluginDriver(recorded, tmp_path) as plugin:
        for _ in range(2):  # and `ready` again after each further one
            plugin.send_configure()
            lines = [json.loads(await plugin.raw_line()) for _ in PLUGIN_LINES]
            assert lines[1]["params"].pop("socket").startswith(str(tmp_path))
            wanted = [json.loads(line) for line in PLUGIN_LINES]
            del wanted[1]["params"]["socket"]
            assert lines == wanted
        status, rest, errors = await plugin.stop()
        assert (status, rest, errors) == (0, [], "what a library prints\n" * 2)


async def test_the_lines_and_calls_of_the_go_proxy_are_served(recorded: str, tmp_path: Path) -> None:
    async with PluginDriver(recorded, tmp_path, own_directory=False) as plugin:
        for line in PROXY_LINES:
            plugin.send_line(line[:7])  # in pieces
            plugin.send_line(line[7:])
        acknowledged = 0
        while acknowledged < len(PROXY_LINES):
            message = await plugin.line()
            if isinstance(message, Response):
                assert message == Response("ok")
                acknowledged += 1
            elif message.method == "ready":
                plugin.socket = message.params.socket
        client = await plugin.connect()
        for call in PROXY_CALLS:
            if call.hook is HookType.ON_DISCONNECT:
                continue
            assert isinstance(msgspec.msgpack.decode(await client.exchange(call.frame)), dict)
        assert (await plugin.stop())[0] == 0
    assert not await asyncio.to_thread(Path(plugin.socket).parent.exists)


async def test_a_route_can_be_refused(recorded: str, tmp_path: Path) -> None:
    async with PluginDriver(recorded, tmp_path) as plugin:
        assert await plugin.configure(path="/refused") == Response(error="not this one")
        await plugin.ready()
        assert await plugin.configure(path="/fine") == Response("ok")


@pytest.mark.parametrize("path", ["/panic", "/huge"])
async def test_a_call_that_fails_ends_its_connection_alone(recorded: str, tmp_path: Path, path: str) -> None:
    async with PluginDriver(recorded, tmp_path) as plugin:
        await plugin.start()
        client, other = await plugin.connect(), await plugin.connect()
        with pytest.raises(EOFError):
            await client.on_request(path)
        assert (await other.on_request("/plain")).allow


async def test_what_is_not_served_or_no_frame_ends_the_connection(recorded: str, tmp_path: Path) -> None:
    async with PluginDriver(recorded, tmp_path) as plugin:
        await plugin.start()
        for data in (b"\0\0\0\x05\x81\xa1t\x04\0", b"\0\0\0\x01\xc1", b"\xff\xff\xff\xff"):
            client = await plugin.connect()
            with pytest.raises(EOFError):
                await client.exchange(data)
        assert plugin.process.returncode is None
