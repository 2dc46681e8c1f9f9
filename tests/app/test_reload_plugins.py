"""What a reload does with plugins, seen from a client: kept, added, removed, changed, and no request past a guard."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import prox
from prox.tasks import spawn
from support.client import Client, get
from support.plugin_host import alive
from support.servers import make_config, until, write_sdk_plugin
from support.upstream import OK, Upstream, UpstreamPeer

GUARD = """
@plugin.on_request
def guard(request):
    with open(os.environ["PIDS"], "a") as file:
        file.write(f"{os.getpid()}\\n")
    if "x-key" not in request.headers:
        return request.deny(401, "who are you?")
    return request.allow(headers={"X-Guard": os.environ.get("NAME", "guard")})
"""


class World:
    """A prox in front of an upstream, with plugins in a folder."""

    def __init__(self, folder: Path, upstream: Upstream) -> None:
        self.folder = folder
        self.upstream = upstream
        self.pid_file = folder / "pids"

    def config(
        self, *plugins: str, route: dict[str, Any] | None = None, **settings: dict[str, Any]
    ) -> dict[str, Any]:
        """One route to the upstream with these plugins; `settings` by name."""
        named = {
            name: {"path": f"{name}.py", "env": {"PIDS": str(self.pid_file), **more.pop("env", {})}, **more}
            for name in plugins
            for more in [dict(settings.get(name, {}))]
        }
        action = {"type": "proxy", "upstream": self.upstream.address}
        return make_config(
            {"plugins": list(plugins), "action": action, **(route or {})}, root={"plugins": named}
        )

    def pids(self) -> list[int]:
        """The processes that were asked, each once, in their order."""
        text = self.pid_file.read_text() if self.pid_file.exists() else ""
        return list(dict.fromkeys(int(line) for line in text.split()))


async def ask(server: prox.Server, *headers: str, path: str = "/") -> tuple[int, bytes]:
    async with await Client.connect(server.addresses["web"]) as client:
        answer = await client.request(get(path, *headers))
        return answer.status, answer.body


async def test_a_plugin_is_kept(tmp_path: Path) -> None:
    write_sdk_plugin(tmp_path, GUARD, "guard.py")
    async with Upstream() as upstream:
        world = World(tmp_path, upstream)
        async with prox.Server(world.config("guard"), base=tmp_path) as server:
            assert await ask(server) == (401, b"who are you?")
            await server.reload(world.config("guard", route={"match": {"path": "/*"}}))
            assert await ask(server, "X-Key: 1") == (200, b"ok")
            assert len(world.pids()) == 1
        assert not alive(world.pids()[0])


async def test_a_plugin_is_added_and_removed(tmp_path: Path) -> None:
    write_sdk_plugin(tmp_path, GUARD, "guard.py")
    async with Upstream() as upstream:
        world = World(tmp_path, upstream)
        async with prox.Server(world.config(), base=tmp_path) as server:
            assert await ask(server) == (200, b"ok")
            await server.reload(world.config("guard"))
            assert await ask(server) == (401, b"who are you?")
            await server.reload(world.config())
            assert await ask(server) == (200, b"ok")
            (pid,) = world.pids()
            await until(lambda: not alive(pid), "the removed plugin runs on")


async def test_a_plugin_with_other_settings_is_another_process(tmp_path: Path) -> None:
    write_sdk_plugin(tmp_path, GUARD, "guard.py")
    async with Upstream() as upstream:
        world = World(tmp_path, upstream)
        async with prox.Server(world.config("guard"), base=tmp_path) as server:
            assert (await ask(server, "X-Key: 1"))[0] == 200
            await server.reload(world.config("guard", guard={"env": {"NAME": "second"}}))
            assert (await ask(server, "X-Key: 1"))[0] == 200
            first, second = world.pids()
            await until(lambda: not alive(first), "the first plugin runs on")
            assert alive(second)
        guards = [dict(request.headers)[b"X-Guard"] for request in upstream.requests]
        assert guards == [b"guard", b"second"]


async def test_a_request_in_flight_keeps_the_plugin_that_was_removed(tmp_path: Path) -> None:
    """Its on_response is still to come."""
    write_sdk_plugin(
        tmp_path,
        """
        @plugin.on_response
        def mark(response): return response.modify(headers={"X-Mark": "old"})
        """,
        "mark.py",
    )
    go = asyncio.Event()

    async def slow(peer: UpstreamPeer) -> None:
        while await peer.request() is not None:
            await go.wait()
            await peer.send(OK)

    async with Upstream(slow) as upstream:
        world = World(tmp_path, upstream)
        async with (
            prox.Server(world.config("mark"), base=tmp_path) as server,
            await Client.connect(server.addresses["web"]) as client,
        ):
            await client.send(get("/"))
            await upstream.peer()
            await server.reload(world.config())
            go.set()
            assert (b"X-Mark", b"old") in (await client.response()).headers
            assert b"X-Mark" not in dict((await client.request(get("/"))).headers)


async def test_requests_without_pause_while_a_guard_is_added(tmp_path: Path) -> None:
    """None is lost, and none that is sent when the reload is in force goes past the guard."""
    write_sdk_plugin(tmp_path, GUARD, "guard.py")
    async with Upstream() as upstream:
        world = World(tmp_path, upstream)
        async with prox.Server(world.config(), base=tmp_path) as server:
            in_force = False
            over = asyncio.Event()
            statuses: dict[bool, list[int]] = {False: [], True: []}

            async def load() -> None:
                async with await Client.connect(server.addresses["web"]) as client:
                    while not over.is_set():
                        guarded = in_force
                        answer = await client.request(get("/"))
                        statuses[guarded].append(answer.status)

            clients = [spawn(load(), "load") for _ in range(4)]
            for _ in range(2):
                await until(lambda: len(statuses[False]) > 20)
                await server.reload(world.config("guard"))
                in_force = True
                seen = len(statuses[True])
                await until(lambda seen=seen: len(statuses[True]) > seen + 20)  # type: ignore[misc] # see snapshot.py
                assert set(statuses[True]) == {401}
                in_force = False
                statuses[False].clear()
                await server.reload(world.config())
            over.set()
            await asyncio.gather(*clients)
            assert set(statuses[False]) <= {200, 401}


async def test_a_guard_that_does_not_come_up_refuses(tmp_path: Path) -> None:
    write_sdk_plugin(tmp_path, "sys.exit(3)", "guard.py")
    async with Upstream() as upstream:
        world = World(tmp_path, upstream)
        async with prox.Server(world.config(), base=tmp_path) as server:
            await server.reload(world.config("guard", guard={"start_timeout": 0.2}))
            assert (await ask(server, "X-Key: 1"))[0] == 503
            await server.reload(world.config())
            assert await ask(server) == (200, b"ok")


async def test_a_refused_reload_ends_the_plugins_that_it_started(tmp_path: Path) -> None:
    write_sdk_plugin(tmp_path, GUARD, "guard.py")
    write_sdk_plugin(
        tmp_path, f"open({str(tmp_path / 'late')!r}, 'w').write(str(os.getpid()))\n{GUARD}", "late.py"
    )
    async with Upstream() as upstream:
        world = World(tmp_path, upstream)
        async with prox.Server(world.config("guard"), base=tmp_path) as server:
            assert (await ask(server))[0] == 401
            refused = world.config("guard", "late")
            refused["services"]["bad"] = {"listen": upstream.address, "routes": []}
            with pytest.raises(prox.StartError):
                await server.reload(refused)
            assert (await ask(server, "X-Key: 1"))[0] == 200
            assert len(world.pids()) == 1
            late = tmp_path / "late"
            assert not late.exists() or not alive(int(late.read_text()))


PUSHER = """
@plugin.on_configure
def configured(route):
    if os.environ["TARGETS"] and not os.path.exists(os.environ["DONE"]):
        open(os.environ["DONE"], "w").close()
        route.set_targets(os.environ["TARGETS"].split())
"""


async def test_pushed_targets_stay_with_the_route(tmp_path: Path) -> None:
    """The plugin pushes once, at its first `configure`."""
    write_sdk_plugin(tmp_path, PUSHER, "push.py")
    async with Upstream() as upstream:
        env = {"TARGETS": upstream.address, "DONE": str(tmp_path / "done")}
        plugins = {"push": {"path": "push.py", "env": env, "hooks": []}}

        def config(**more: Any) -> dict[str, Any]:
            route = {
                "match": {"path": "/pushed"},
                "plugins": ["push"],
                "balancer": {"type": "roundrobin", "targets": ["127.0.0.1:1"]},
                "action": {"type": "proxy", "upstream": "{target}"},
            }
            return make_config([*more.pop("first", []), {**route, **more}], root={"plugins": plugins})

        async with prox.Server(config(), base=tmp_path) as server:
            assert await ask(server, path="/pushed") == (200, b"ok")
            other = {"match": {"path": "/other"}, "action": {"type": "static", "body_ref": {"text": "x"}}}
            await server.reload(config(first=[other]))
            assert await ask(server, path="/pushed") == (200, b"ok")
            await server.reload(config(balancer={"type": "random", "targets": ["127.0.0.1:2"]}))
            assert await ask(server, path="/pushed") == (200, b"ok")
            await server.reload(
                config(action={"type": "proxy", "upstream": "{target}", "headers": {"X-A": "1"}})
            )
            assert await ask(server, path="/pushed") == (200, b"ok")
            # Another route has the configured list, and so has this one when it is back.
            await server.reload(config(match={"path": "/elsewhere"}))
            assert (await ask(server, path="/elsewhere"))[0] == 502
            await server.reload(config())
            assert (await ask(server, path="/pushed"))[0] == 502
