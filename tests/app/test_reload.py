"""One configuration takes the place of another: connections, requests in flight, listeners, balancers, logs."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

import prox
from prox.tasks import spawn
from support.client import Client, get
from support.servers import Running, make_config, read_log, serving, until
from support.upstream import OK, Upstream, UpstreamPeer, answer


def text(body: str, **route: Any) -> dict[str, Any]:
    return {"action": {"type": "static", "body_ref": {"text": body}}, **route}


def to(upstream: str, **route: Any) -> dict[str, Any]:
    return {"action": {"type": "proxy", "upstream": upstream}, **route}


def services(**named: tuple[str, str]) -> dict[str, Any]:
    """Services that answer with a text, by name: address and text."""
    return {
        "services": {
            name: {"listen": listen, "routes": [text(body)]} for name, (listen, body) in named.items()
        },
        "runtime": {"shutdown_timeout": 0.2},
    }


async def ask(address: tuple[str, int] | str, path: str = "/") -> bytes:
    async with await Client.connect(address) as client:
        return (await client.request(get(path))).body


class Slow:
    """An upstream's script that answers when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, peer: UpstreamPeer) -> None:
        while await peer.request() is not None:
            await self.go.wait()
            await peer.send(OK)


# Connections and requests.


async def test_a_connection_lives_on_and_meets_the_new_routes() -> None:
    async with serving(text("one")) as running, await running.connect() as client:
        assert (await client.request(get("/"))).body == b"one"
        await running.reload(make_config(text("two")))
        assert (await client.request(get("/"))).body == b"two"
        await running.reload(make_config(text("three", match={"path": "/new"})))
        assert (await client.request(get("/"))).status == 404
        assert (await client.request(get("/new"))).body == b"three"


async def test_limits_of_the_new_configuration_hold_on_open_connections() -> None:
    async with serving(text("x")) as running, await running.connect() as client:
        assert (await client.request(get("/"))).status == 200
        await running.reload(make_config(text("x"), config={"max_target_bytes": 10}))
        assert (await client.request(get("/" + "a" * 20))).status == 414


async def test_a_request_in_flight_ends_under_the_old_configuration(tmp_path: Path) -> None:
    slow = Slow()
    old, new = tmp_path / "old.log", tmp_path / "new.log"
    async with (
        Upstream(slow) as upstream,
        serving(to(upstream.address, access_log=str(old))) as running,
        await running.connect() as client,
    ):
        await client.send(get("/before"))
        await upstream.peer()
        await running.reload(make_config(text("new", access_log=str(new))))
        assert await ask(running.address, "/after") == b"new"
        assert sorted(log.path for log in running.application.logs) == [new, old]
        slow.go.set()
        assert (await client.response()).body == b"ok"
        await until(lambda: [log.path for log in running.application.logs] == [new], "the old log stays open")
        assert (await client.request(get("/again"))).body == b"new"
    assert [line["path"] for line in read_log(old)] == ["/before"]
    assert [line["path"] for line in read_log(new)] == ["/after", "/again"]


async def test_the_log_is_written_when_prox_ends_during_a_request(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with (
        Upstream(Slow()) as upstream,
        serving(to(upstream.address, access_log=str(log))) as running,
        await running.connect() as client,
    ):
        await client.send(get("/under/the/old"))
        await upstream.peer()
        await running.reload(make_config(to(upstream.address, access_log=str(log))))
        await running.server.stop(0)
    assert [line["path"] for line in read_log(log)] == ["/under/the/old"]


async def test_an_unchanged_access_log_stays_open(tmp_path: Path) -> None:
    config = make_config(text("x", access_log=str(tmp_path / "access.log")))
    async with prox.Server(config) as server:
        (before,) = server.application.logs
        await server.reload()
        await asyncio.sleep(0)
        (after,) = server.application.logs
        assert after is before
        assert await ask(server.addresses["web"]) == b"x"
    assert len(read_log(tmp_path / "access.log")) == 1


def _pipelines() -> list[object]:
    gc.collect()
    return [found for found in gc.get_objects() if type(found).__name__ == "Pipeline"]


async def test_configurations_that_are_over_leave_no_trace() -> None:
    of_others = {id(found) for found in _pipelines()}
    async with serving(text("0")) as running:
        for number in range(5):
            await running.reload(make_config(text(str(number))))
        await until(lambda: not running.application._ending, "an old configuration is held")
        assert len([found for found in _pipelines() if id(found) not in of_others]) == 1


async def test_no_request_is_lost_over_twenty_reloads() -> None:
    """Under load on kept and on new connections, with routes and plugins that come and go."""
    async with Upstream() as upstream:
        configs = [
            make_config(to(upstream.address)),
            make_config(
                [
                    to(upstream.address, match={"path": "/*"}),
                    text("other", match={"path": "/other"}),
                ]
            ),
        ]
        async with serving(to(upstream.address)) as running:
            over = asyncio.Event()
            counts = [0, 0]

            async def kept() -> None:
                async with await running.connect() as client:
                    while not over.is_set():
                        assert (await client.request(get("/x"))).body == b"ok"
                        counts[0] += 1

            async def fresh() -> None:
                while not over.is_set():
                    assert await ask(running.address, "/x") == b"ok"
                    counts[1] += 1

            load = [spawn(work(), "load") for work in (kept, kept, kept, fresh, fresh)]
            for number in range(20):
                await running.reload(configs[number % 2])
                await asyncio.sleep(0.01)
            over.set()
            await asyncio.gather(*load)
            assert min(counts) > 20, counts


# Services and listeners.


async def test_services_come_and_go(tmp_path: Path) -> None:
    path = f"unix://{tmp_path}/s"
    async with prox.Server(services(one=("127.0.0.1:0", "1"))) as server:
        one = server.addresses["one"]
        await server.reload(services(one=("127.0.0.1:0", "1"), two=("127.0.0.1:0", "2"), three=(path, "3")))
        assert server.addresses["one"] == one
        bodies = [await ask(server.addresses[name]) for name in ("one", "two", "three")]
        assert bodies == [b"1", b"2", b"3"]
        two = server.addresses["two"]
        await server.reload(services(one=("127.0.0.1:0", "1!")))
        with pytest.raises(ConnectionRefusedError):
            await ask(two)
        await until(lambda: not (tmp_path / "s").exists(), "the socket's file is left")
        assert server.addresses == {"one": one}
        assert await ask(one) == b"1!"


async def test_each_service_gets_a_port_of_its_own_for_port_0() -> None:
    config = services(one=("127.0.0.1:0", "1"), two=("127.0.0.1:0", "2"))
    async with prox.Server(config) as server:
        before = server.addresses
        assert before["one"] != before["two"]
        assert [await ask(before["one"]), await ask(before["two"])] == [b"1", b"2"]
        await server.reload()
        assert server.addresses == before


async def test_another_address_for_the_same_service() -> None:
    async with prox.Server(services(web=("127.0.0.1:0", "one"))) as server:
        before = server.addresses["web"]
        async with await Client.connect(before) as client:
            assert (await client.request(get("/"))).body == b"one"
            await server.reload(services(web=("127.0.0.2:0", "two")))
            await client.closed()
        with pytest.raises(ConnectionRefusedError):
            await ask(before)
        assert await ask(server.addresses["web"]) == b"two"


async def test_an_address_may_change_its_service() -> None:
    async with Upstream() as upstream:
        address = upstream.address
    host, _, port = address.partition(":")
    async with (
        prox.Server(services(old=(address, "old"))) as server,
        await Client.connect((host, int(port))) as client,
    ):
        assert (await client.request(get("/"))).body == b"old"
        await server.reload(services(new=(address, "new")))
        assert (await client.request(get("/"))).body == b"new"


@pytest.mark.parametrize("wide", ["", "0.0.0.0"])
async def test_an_address_may_grow_and_shrink(wide: str) -> None:
    """`127.0.0.1:p` to `:p` and back: both are never bound at the same time but by one prox."""
    async with Upstream() as upstream:
        port = int(upstream.address.partition(":")[2])
    near = ("127.0.0.1", port)
    async with prox.Server(services(web=(f"127.0.0.1:{port}", "narrow"))) as server:
        assert await ask(near) == b"narrow"
        await server.reload(services(web=(f"{wide}:{port}", "wide")))
        assert await ask(near) == b"wide"
        await server.reload(services(web=(f"127.0.0.1:{port}", "narrow again")))
        assert await ask(near) == b"narrow again"
        with pytest.raises(ConnectionRefusedError):
            await ask(("127.0.0.2", port))


async def test_a_listener_that_cant_be_bound_refuses_the_reload(tmp_path: Path) -> None:
    log = tmp_path / "new.log"
    async with Upstream() as taken, prox.Server(services(web=("127.0.0.1:0", "one"))) as server:
        before = server.addresses
        wanted = services(
            web=("127.0.0.1:0", "two"), more=(f"unix://{tmp_path}/s", "x"), bad=(taken.address, "x")
        )
        wanted["logging"] = {"access_log": str(log)}
        async with await Client.connect(before["web"]) as client:
            with pytest.raises(prox.StartError, match="another process listens there"):
                await server.reload(wanted)
            assert (await client.request(get("/"))).body == b"one"
        assert server.addresses == before
        assert not list(server.application.logs)
        await until(lambda: not (tmp_path / "s").exists(), "the socket's file is left")


async def test_a_removed_listener_lets_its_requests_end() -> None:
    slow = Slow()
    async with Upstream(slow) as upstream:
        config = make_config(to(upstream.address))
        config["runtime"] = {"shutdown_timeout": 5}
        async with prox.Server(config) as server:
            address = server.addresses["web"]
            async with await Client.connect(address) as busy, await Client.connect(address) as idle:
                await busy.send(get("/"))
                await upstream.peer()
                await server.reload(
                    services(other=("127.0.0.1:0", "x")) | {"runtime": {"shutdown_timeout": 5}}
                )
                await idle.closed()
                slow.go.set()
                assert (await busy.response()).body == b"ok"
                await busy.closed()
            await until(lambda: not server.application._listeners._drains, "the drain goes on")


async def test_a_removed_listener_aborts_what_takes_too_long() -> None:
    async with (
        Upstream(Slow()) as upstream,
        serving(upstream.address) as running,
        await running.connect() as client,
    ):
        await client.send(get("/"))
        await upstream.peer()
        await running.reload(services(other=("127.0.0.1:0", "x")) | {"runtime": {"shutdown_timeout": 0.05}})
        assert await client.discard() == 0


async def test_stop_does_not_wait_longer_for_a_listener_that_was_removed_with_more_time() -> None:
    async with (
        Upstream(Slow()) as upstream,
        serving(upstream.address) as running,
        await running.connect() as client,
    ):
        await client.send(get("/"))
        await upstream.peer()
        await running.reload(services(other=("127.0.0.1:0", "x")) | {"runtime": {"shutdown_timeout": 60}})
        await running.server.stop(0.05)
        assert await client.discard() == 0


# What stays with a route.


def balanced(*targets: str, kind: str = "leastconn", **more: Any) -> dict[str, Any]:
    return {
        "balancer": {"type": kind, "targets": list(targets)},
        "action": {"type": "proxy", "upstream": "{target}", **more},
    }


def named(name: bytes, slow: Slow | None = None) -> Upstream:
    async def script(peer: UpstreamPeer) -> None:
        while await peer.request() is not None:
            if slow is not None:
                await slow.go.wait()
            await peer.send(answer(name))

    return Upstream(script)


async def test_counts_of_connections_stay() -> None:
    slow = Slow()
    async with named(b"a", slow) as a, named(b"b") as b:
        route = balanced(a.address, b.address)
        async with serving(route) as running, await running.connect() as busy:
            await busy.send(get("/"))
            await a.peer()
            await running.reload(make_config(balanced(a.address, b.address, headers={"X-New": "1"})))
            assert [await ask(running.address) for _ in range(3)] == [b"b"] * 3
            slow.go.set()
            assert (await busy.response()).body == b"a"
            assert {target.open for target in targets(running)} == {0}


async def test_configured_targets_and_the_strategy_change() -> None:
    async with (
        named(b"a") as a,
        named(b"b") as b,
        serving(balanced(a.address, kind="roundrobin")) as running,
    ):
        assert await ask(running.address) == b"a"
        balancer = running.balancer
        await running.reload(make_config(balanced(b.address, kind="random")))
        assert running.balancer is balancer
        assert balancer.kind == "random"
        assert [await ask(running.address) for _ in range(3)] == [b"b"] * 3


async def test_a_route_is_itself_wherever_it_stands() -> None:
    async with named(b"a") as a:
        route = balanced(a.address) | {"match": {"path": "/balanced"}}
        async with serving(route) as running:
            balancer = running.balancer
            await running.reload(make_config([text("first", match={"path": "/first"}), route]))
            assert running.balancer is balancer
            assert await ask(running.address, "/balanced") == b"a"


async def test_figures_of_a_service_go_on() -> None:
    async with serving(text("x")) as running:
        await ask(running.address)
        counters = running.pipeline.counters
        await running.reload(make_config(text("y")))
        assert running.pipeline.counters is counters


def targets(running: Running) -> list[Any]:
    return list(running.balancer._known.values())
