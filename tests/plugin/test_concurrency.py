"""Many calls at once to plugins that take their time, as real processes: places, queues, deadlines, neighbours."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from prox.plugin import Binding, Caller, HookError, Manager, PluginState
from prox.wire import AuthorizeResult
from support.client import get
from support.plugin_host import managed, request, spec, until
from support.servers import Running, serving
from support.upstream import Upstream

# Calls with a path below /held wait until the file `gate` is there; each says how many were under way with it.
GATED = """
    import threading, time
    from plugin_child import *
    lock = threading.Lock()
    now = most = served = 0
    gate = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gate")
    order = []

    def handle(hook, call):
        global now, most, served
        with lock:
            now += 1
            most = max(most, now)
            order.append(call["p"])
        while call["p"].startswith("/held") and not os.path.exists(gate):
            time.sleep(0.002)
        with lock:
            now -= 1
            return {"ok": True, "h": {"X-Most": str(most), "X-Order": " ".join(order)}}

    run(handle, "on_request")
"""


class Gate:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "gate"

    def open(self) -> None:
        self._path.touch()


@asynccontextmanager
async def gated(
    folder: Path, *, deadline: float = 10.0, **settings: Any
) -> AsyncIterator[tuple[Manager, Gate]]:
    """One plugin on the routes web:0, where `deadline` holds, and web:1."""
    plugin = spec(folder, GATED, **settings)
    bindings = [
        Binding(route_id="web:0", plugin=plugin, timeout=deadline),
        Binding(route_id="web:1", plugin=plugin, timeout=10),
    ]
    gate = Gate(folder)
    async with managed(*bindings) as manager:
        try:
            yield manager, gate
        finally:
            gate.open()


def state_of(manager: Manager, number: int = 0) -> PluginState:
    return manager.states()[number]


def call(manager: Manager, path: str, route_id: str = "web:0") -> asyncio.Task[AuthorizeResult]:
    return asyncio.get_running_loop().create_task(manager.on_request(route_id, request(route_id, path)))


async def in_flight(manager: Manager, calls: int, waiting: int = 0, number: int = 0) -> None:
    """Wait until so many calls have a connection, and so many wait for one."""
    await until(
        lambda: (state_of(manager, number).in_flight, state_of(manager, number).waiting) == (calls, waiting)
    )


async def test_no_more_calls_are_in_flight_than_max_concurrency(tmp_path: Path) -> None:
    async with gated(tmp_path, max_concurrency=4) as (manager, gate):
        calls = [call(manager, f"/held/{number}") for number in range(40)]
        await in_flight(manager, 4, 36)
        gate.open()
        results = await asyncio.gather(*calls)
        assert max(int(result.headers["X-Most"]) for result in results) <= 4
        await in_flight(manager, 0)


async def test_calls_are_answered_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    async with gated(tmp_path, max_concurrency=1) as (manager, gate):
        calls = [call(manager, f"/held/{number}") for number in range(20)]
        await in_flight(manager, 1, 19)
        gate.open()
        # Calls that come while others wait don't get before them.
        await calls[5]
        later = [call(manager, f"/later/{number}") for number in range(5)]
        results = await asyncio.gather(*calls, *later)
        order = max((result.headers["X-Order"] for result in results), key=len).split()
        assert order == [f"/held/{number}" for number in range(20)] + [f"/later/{n}" for n in range(5)]


async def test_the_wait_for_a_place_is_part_of_the_deadline(tmp_path: Path) -> None:
    async with gated(tmp_path, max_concurrency=1, deadline=0.3) as (manager, _):
        loop = asyncio.get_running_loop()
        began = loop.time()
        calls = [call(manager, f"/held/{number}") for number in range(5)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        took = loop.time() - began
        assert [result.kind for result in results if isinstance(result, HookError)] == ["deadline"] * 5
        assert 0.29 < took < 5
        assert state_of(manager).waiting == 0


async def test_calls_that_end_at_their_deadline_leave_their_places_to_others(tmp_path: Path) -> None:
    async with gated(tmp_path, max_concurrency=2, deadline=0.2) as (manager, _):
        for _turn in range(3):
            held = [call(manager, "/held") for _ in range(6)]
            results = await asyncio.gather(*held, return_exceptions=True)
            assert all(isinstance(result, HookError) for result in results)
            assert (await call(manager, "/free", "web:1")).allow
        assert state_of(manager).in_flight == 0


@pytest.mark.parametrize("waits", [True, False])
async def test_a_cancelled_call_frees_its_place(tmp_path: Path, waits: bool) -> None:
    async with gated(tmp_path, max_concurrency=1) as (manager, gate):
        first = call(manager, "/held/first")
        await in_flight(manager, 1)
        second = call(manager, "/held/second")
        await in_flight(manager, 1, 1)
        third = call(manager, "/third")
        await in_flight(manager, 1, 2)
        gone, left = (second, first) if waits else (first, second)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        await in_flight(manager, 1, 1)
        gate.open()
        assert (await left).allow
        assert ("/held/second" in (await third).headers["X-Order"].split()) is not waits
        await in_flight(manager, 0)


def directory_of(pid: int | None) -> Path:
    """The private directory of a plugin's process."""
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    (found,) = [value for value in variables if value.startswith(b"PROX_PLUGIN_DIR=")]
    return Path(os.fsdecode(found.partition(b"=")[2]))


async def test_the_number_of_connections_has_the_same_limit(tmp_path: Path) -> None:
    """Also where calls end early all the time, each with its connection."""
    async with gated(tmp_path) as (manager, _):
        caller = Caller(str(directory_of(state_of(manager).pid) / "s"), max_concurrency=3)
        loop = asyncio.get_running_loop()
        most = 0
        for number in range(30):
            info = request("web:0", f"/held/{number}")
            calls = [loop.create_task(caller.call_request(info, loop.time() + 10)) for _ in range(10)]
            await until(lambda: caller.in_flight == 3)
            most = max(most, caller.connections)
            for task in calls:
                task.cancel()
            await asyncio.wait(calls)
            assert (caller.waiting, caller.in_flight) == (0, 0)
        assert most == 3
        assert (await caller.call_request(request("web:0", "/free"), loop.time() + 10)).allow
        caller.close()


async def test_a_slow_plugin_slows_no_route_of_another_one(tmp_path: Path) -> None:
    (tmp_path / "quick").mkdir()
    slow, quick = spec(tmp_path, GATED), spec(tmp_path / "quick", GATED)
    bindings = [Binding(route_id="web:0", plugin=slow), Binding(route_id="web:1", plugin=quick)]
    async with managed(*bindings) as manager:
        held = [call(manager, "/held") for _ in range(400)]
        await in_flight(manager, 256, 144)
        loop = asyncio.get_running_loop()
        times = []
        for number in range(50):
            began = loop.time()
            assert (await call(manager, f"/{number}", "web:1")).allow
            times.append(loop.time() - began)
        assert sorted(times)[25] < 1
        assert (state_of(manager).in_flight, state_of(manager).waiting) == (256, 144)
        for task in held:
            task.cancel()
        await asyncio.wait(held)
        Gate(tmp_path).open()


async def test_a_slow_route_takes_no_more_places_than_it_has_calls(tmp_path: Path) -> None:
    async with gated(tmp_path, max_concurrency=8) as (manager, gate):
        held = [call(manager, "/held", "web:0") for _ in range(7)]
        await in_flight(manager, 7)
        for number in range(20):
            assert (await call(manager, f"/{number}", "web:1")).allow
        assert state_of(manager).in_flight == 7
        gate.open()
        await asyncio.gather(*held)


async def test_a_route_that_finds_no_place_waits_its_turn_only(tmp_path: Path) -> None:
    """The slow one never lacks calls; the other's is answered when those before it are."""
    async with gated(tmp_path, max_concurrency=1) as (manager, gate):
        held = [call(manager, f"/held/{number}", "web:0") for number in range(6)]
        await in_flight(manager, 1, 5)
        other = call(manager, "/other", "web:1")
        await in_flight(manager, 1, 6)
        behind = [call(manager, f"/held/behind/{number}", "web:0") for number in range(20)]
        await in_flight(manager, 1, 26)
        gate.open()
        results = await asyncio.gather(other, *held, *behind)
        order = max((result.headers["X-Order"] for result in results), key=len).split()
        assert order.index("/other") == 6


async def test_the_end_of_a_process_ends_the_calls_in_flight_and_those_that_wait(tmp_path: Path) -> None:
    async with gated(tmp_path, max_concurrency=2) as (manager, _):
        calls = [call(manager, "/held") for _ in range(10)]
        await in_flight(manager, 2, 8)
        pid = state_of(manager).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 3)
        assert all(isinstance(result, HookError) for result in results)


# The same with requests, which are flows and no tasks.


@asynccontextmanager
async def served(folder: Path, **settings: Any) -> AsyncIterator[tuple[Running, Gate]]:
    program = spec(folder, GATED)
    async with Upstream() as upstream:
        plugin = {"path": program.path, **settings}
        action = {"type": "proxy", "upstream": upstream.address}
        async with serving(
            {"action": action}, root={"plugins": {"guard": plugin}}, plugins=["guard"]
        ) as prox:
            yield prox, Gate(folder)


async def test_a_client_that_goes_while_its_request_waits_frees_its_place(tmp_path: Path) -> None:
    async with served(tmp_path, max_concurrency=1) as (prox, gate):
        manager = prox.application.manager
        clients = [await prox.connect() for _ in range(3)]
        for number, client in enumerate(clients):
            await client.send(get("/held" if number == 0 else f"/{number}"))
            await in_flight(manager, 1, number)
        clients[1].close()
        await in_flight(manager, 1, 1)
        gate.open()
        for client in (clients[0], clients[2]):
            assert (await client.response()).status == 200
            client.close()
        async with await prox.connect() as client:
            assert (await client.request(get("/last"))).status == 200
        await in_flight(manager, 0)
        await prox.quiet()


async def test_a_client_that_goes_while_its_call_is_in_flight_frees_its_place(tmp_path: Path) -> None:
    async with served(tmp_path, max_concurrency=1) as (prox, _):
        client = await prox.connect()
        await client.send(get("/held"))
        await in_flight(prox.application.manager, 1)
        client.abort()
        async with await prox.connect() as other:
            assert (await other.request(get("/free"))).status == 200
        await prox.quiet()


async def test_requests_that_find_no_place_end_at_their_deadline(tmp_path: Path) -> None:
    program = spec(tmp_path, GATED)
    async with Upstream() as upstream:
        route = {"action": {"type": "proxy", "upstream": upstream.address}, "plugin_timeout": "600ms"}
        root = {"plugins": {"guard": {"path": program.path, "max_concurrency": 1}}}
        async with serving(route, root=root, plugins=["guard"]) as prox:
            clients = [await prox.connect() for _ in range(4)]
            for client in clients:
                await client.send(get("/held"))
            for client in clients:
                assert (await asyncio.wait_for(client.response(), 3)).status == 503
                client.close()
            async with await prox.connect() as client:
                assert (await client.request(get("/free"))).status == 200
            assert len(upstream.requests) == 1
