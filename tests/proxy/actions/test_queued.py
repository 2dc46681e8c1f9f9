"""`max_connections` of a proxy action: who waits, who is refused, and that no place is lost."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from prox.limits import Places
from support.client import Client, get
from support.servers import Running, make_config, serving, until
from support.upstream import Upstream, UpstreamPeer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SORRY = {"type": "static", "status": 299, "body_ref": {"text": "sorry"}}


class Gate:
    """An upstream that answers when it is told to.

    Attributes:
        asked: paths in the order in which they came.
        at_once: most requests that it had at a time.
    """

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.at_once = 0
        self._held = 0
        self._may = asyncio.Semaphore(0)

    def let(self, count: int) -> None:
        for _ in range(count):
            self._may.release()

    async def script(self, peer: UpstreamPeer) -> None:
        while (message := await peer.request()) is not None:
            self.asked.append(message.target)
            self._held += 1
            self.at_once = max(self.at_once, self._held)
            try:
                await self._may.acquire()
            finally:
                self._held -= 1
            await peer.send(OK)


def limited(upstream: str, most: int = 1, **action: Any) -> dict[str, Any]:
    return {"action": {"type": "proxy", "upstream": upstream, "max_connections": most, **action}}


def places(running: Running) -> Places[Any]:
    snapshot = running.application.snapshot
    assert snapshot is not None
    (queue,) = snapshot.built.queues.values()
    return queue.places


async def clients(running: Running, stack: AsyncExitStack, count: int) -> list[Client]:
    return [await stack.enter_async_context(await running.connect()) for _ in range(count)]


async def waiting(running: Running, upstream: str, count: int) -> None:
    await until(lambda: places(running).figures().get(upstream, (0, 0))[1] == count, f"{count} do not wait")


async def test_requests_wait_in_order_and_there_are_never_more_connections() -> None:
    gate = Gate()
    async with (
        Upstream(gate.script) as upstream,
        serving(limited(upstream.address, 2, max_queue=10)) as prox,
        AsyncExitStack() as stack,
    ):
        crowd = await clients(prox, stack, 8)
        for number, client in enumerate(crowd):
            await client.send(get(f"/{number}"))
            await until(lambda n=number: sum(map(sum, places(prox).figures().values())) == n + 1)  # type: ignore[misc]
        await waiting(prox, upstream.address, 6)
        assert len(prox.pools.open) == 2
        gate.let(8)
        assert [(await client.response()).status for client in crowd] == [200] * 8
        assert [int(path[1:]) for path in gate.asked] == sorted(range(8))
        assert gate.at_once == 2
        assert len(prox.pools.open) == 2
        await prox.quiet(connections=8, idle=2)
        assert places(prox).figures() == {}


async def test_a_full_queue_is_503_at_once() -> None:
    gate = Gate()
    async with (
        Upstream(gate.script) as upstream,
        serving(limited(upstream.address, max_queue=1)) as prox,
        AsyncExitStack() as stack,
    ):
        first, second, third = await clients(prox, stack, 3)
        await first.send(get())
        await until(lambda: gate.asked)
        await second.send(get())
        await waiting(prox, upstream.address, 1)
        answer = await third.request(get())
        assert (answer.status, answer["Retry-After"]) == (503, b"1")
        assert prox.pipeline.counters.ends == {"queue_full": 1}
        gate.let(2)
        assert [(await client.response()).status for client in (first, second)] == [200, 200]
        await prox.quiet(connections=3)


async def test_without_a_queue_nobody_waits() -> None:
    gate = Gate()
    async with (
        Upstream(gate.script) as upstream,
        serving(limited(upstream.address, fallback=SORRY)) as prox,
        AsyncExitStack() as stack,
    ):
        first, second = await clients(prox, stack, 2)
        await first.send(get())
        await until(lambda: gate.asked)
        assert (await second.request(get())).status == 299
        gate.let(1)
        assert (await first.response()).status == 200


async def test_who_waits_too_long_gets_503_or_the_fallback() -> None:
    for fallback, expected in ((None, 503), (SORRY, 299)):
        gate = Gate()
        keys: dict[str, Any] = {
            "max_queue": 5,
            "queue_timeout": "50ms",
            **({"fallback": fallback} if fallback else {}),
        }
        async with (
            Upstream(gate.script) as upstream,
            serving(limited(upstream.address, **keys)) as prox,
            AsyncExitStack() as stack,
        ):
            first, second = await clients(prox, stack, 2)
            await first.send(get())
            await until(lambda gate=gate: gate.asked)  # type: ignore[misc]
            answer = await second.request(get())
            assert answer.status == expected
            if fallback is None:
                assert answer["Retry-After"] == b"1"
                assert prox.pipeline.counters.ends == {"queue_timeout": 1}
            assert places(prox).figures() == {upstream.address: (1, 0)}
            gate.let(1)
            assert (await first.response()).status == 200
            await prox.quiet(connections=2)
            assert places(prox).figures() == {}


async def test_a_client_that_goes_gives_its_place_to_the_next() -> None:
    gate = Gate()
    async with (
        Upstream(gate.script) as upstream,
        serving(limited(upstream.address, max_queue=5)) as prox,
        AsyncExitStack() as stack,
    ):
        first, second, third = await clients(prox, stack, 3)
        await first.send(get("/1"))
        await until(lambda: gate.asked)
        await second.send(get("/2"))
        await waiting(prox, upstream.address, 1)
        await third.send(get("/3"))
        await waiting(prox, upstream.address, 2)
        second.abort()  # while it waits
        await waiting(prox, upstream.address, 1)
        first.abort()  # while it is served
        await until(lambda: gate.asked == [b"/1", b"/3"])
        gate.let(2)
        assert (await third.response()).status == 200
        await prox.quiet(connections=1)
        assert places(prox).figures() == {}


async def test_any_number_of_clients_that_come_and_go_leave_no_place_taken() -> None:
    async with (
        Upstream() as upstream,
        serving(limited(upstream.address, 3, max_queue=20, queue_timeout="200ms")) as prox,
    ):

        async def visit(number: int) -> int:
            async with await prox.connect() as client:
                await client.send(get())
                if number % 3 == 0:
                    for _ in range(number % 7):
                        await asyncio.sleep(0)
                    client.abort()
                    return 0
                return (await client.response()).status

        for _ in range(5):
            statuses = await asyncio.gather(*(visit(number) for number in range(60)))
            assert set(statuses) <= {0, 200, 503}
            assert 200 in statuses
        await prox.quiet()
        assert places(prox).figures() == {}


async def test_each_target_has_places_of_its_own_and_a_full_one_is_passed_over() -> None:
    gate = Gate()
    async with Upstream(gate.script) as one, Upstream() as two:
        route = limited("{target}", max_queue=5)
        route["balancer"] = {"type": "roundrobin", "targets": [one.address, two.address]}
        async with serving(route) as prox, AsyncExitStack() as stack:
            first, second = await clients(prox, stack, 2)
            await first.send(get())
            await until(lambda: gate.asked)
            assert [(await second.request(get())).status for _ in range(5)] == [200] * 5
            assert len(two.requests) == 5
            gate.let(1)
            assert (await first.response()).status == 200


async def test_an_upstream_that_fails_gives_its_place_back() -> None:
    async with serving(limited("127.0.0.1:1", max_queue=50)) as prox, AsyncExitStack() as stack:
        crowd = await clients(prox, stack, 10)
        for client in crowd:
            await client.send(get())
        assert [(await client.response()).status for client in crowd] == [502] * 10
        assert places(prox).figures() == {}


async def test_a_reload_counts_on_and_calls_those_who_may_come_now() -> None:
    gate = Gate()
    async with (
        Upstream(gate.script) as upstream,
        serving(limited(upstream.address, max_queue=5)) as prox,
        AsyncExitStack() as stack,
    ):
        first, second, third, fourth = await clients(prox, stack, 4)
        await first.send(get())
        await until(lambda: gate.asked)
        await second.send(get())
        await third.send(get())
        await waiting(prox, upstream.address, 2)
        await prox.reload(make_config(limited(upstream.address, 2)))
        await waiting(prox, upstream.address, 1)
        assert places(prox).figures() == {upstream.address: (2, 1)}
        assert (
            await fourth.request(get())
        ).status == 503  # max_queue is 0 now, and the others keep their places
        before = places(prox)
        await prox.reload(make_config(limited(upstream.address, 0)))
        await until(lambda: len(gate.asked) == 3)
        gate.let(3)
        assert [(await client.response()).status for client in (first, second, third)] == [200] * 3
        await prox.quiet(connections=4)
        assert before.figures() == {}


async def test_services_share_the_places_of_an_action() -> None:
    gate = Gate()
    async with Upstream(gate.script) as upstream:
        action = limited(upstream.address)["action"]
        service = {"listen": "127.0.0.1:0", "routes": [{"action": "shared"}]}
        root = {"actions": {"shared": action}}
        document = make_config({"action": "shared"}, root=root)
        document["services"]["other"] = service
        async with serving({"action": "shared"}, root=root) as prox:
            await prox.reload(document)
            other = prox.server.addresses["other"]
            async with await prox.connect() as first, await Client.connect(other) as second:
                await first.send(get())
                await until(lambda: gate.asked)
                assert (await second.request(get())).status == 503
                gate.let(1)
                assert (await first.response()).status == 200
