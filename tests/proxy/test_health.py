"""Passive health as clients see it: targets that can't be reached, and those that can again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from prox.http import descriptors, pool
from support.client import Client, get
from support.servers import make_config, serving, until
from support.upstream import Upstream

SORRY = {"type": "static", "status": 299, "body_ref": {"text": "sorry"}}


@contextmanager
def closed_port() -> Iterator[str]:
    """An address that refuses connections, and that nobody else gets meanwhile."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{sock.getsockname()[1]}"


def balanced(*targets: str, health: Any = None, **action: Any) -> dict[str, Any]:
    return {
        "balancer": {"type": "roundrobin", "targets": list(targets)},
        "action": {
            "type": "proxy",
            "upstream": "{target}",
            "health": health or {"min": "30s", "max": "60s"},
            **action,
        },
    }


def listening(host: str, port: int) -> socket.socket:
    """Listen on a port that `closed_port` holds."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, port))
    return sock


async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    writer.close()


async def ask(client: Client) -> int:
    return (await client.request(get())).status


async def test_a_target_that_refuses_is_left_out() -> None:
    with closed_port() as gone:
        async with (
            Upstream() as upstream,
            serving(balanced(gone, upstream.address)) as prox,
            await prox.connect() as client,
        ):
            statuses = [await ask(client) for _ in range(6)]
            assert statuses == [502, 200, 200, 200, 200, 200]
            assert prox.balancer.snapshot()["left_out"] == [gone]
            assert prox.pipeline.counters.ends == {"connect_refused": 1}


async def test_one_request_tries_it_and_it_is_back() -> None:
    route = balanced("gone:1", "there:1", health={"min": "50ms", "max": "50ms"})
    async with Upstream() as upstream:
        with closed_port() as gone:
            route["balancer"]["targets"] = [gone, upstream.address]
            async with serving(route) as prox, await prox.connect() as client:
                assert [await ask(client), await ask(client)] == [502, 200]
                failing = prox.balancer.book.failing[gone]
                again = failing.until
                while failing.until == again:  # a request that tries it fails, others don't
                    status = await ask(client)
                    assert status == (200 if failing.until == again else 502)
                host, _, port = gone.rpartition(":")
                server = await asyncio.start_server(answer_once, sock=listening(host, int(port)))
                async with server:
                    while prox.balancer.book.failing:
                        assert await ask(client) == 200
                    assert [await ask(client) for _ in range(4)] == [200] * 4
                    assert "left_out" not in prox.balancer.snapshot()
                await prox.quiet(connections=1)


@pytest.mark.parametrize("fallback", [None, SORRY])
async def test_all_left_out(fallback: Any) -> None:
    with closed_port() as one, closed_port() as two:
        action = {"fallback": fallback} if fallback else {}
        async with serving(balanced(one, two, **action)) as prox, await prox.connect() as client:
            first = [await ask(client) for _ in range(2)]
            answer = await client.request(get())
            if fallback:
                assert [*first, answer.status] == [299] * 3
            else:
                assert first == [502, 502]
                assert answer.status == 503
                assert answer.body == b"Service Unavailable\n"
                assert 28 <= int(answer["Retry-After"]) <= 30
                assert prox.pipeline.counters.ends["no_healthy_target"] == 1
            await prox.quiet(connections=1)


async def test_the_only_target_is_asked_each_time() -> None:
    with closed_port() as gone:
        async with serving(balanced(gone)) as prox, await prox.connect() as client:
            assert [await ask(client) for _ in range(4)] == [502] * 4


async def test_a_reload_keeps_what_is_known_and_takes_the_new_times() -> None:
    with closed_port() as gone:
        async with (
            Upstream() as upstream,
            serving(balanced(gone, upstream.address)) as prox,
            await prox.connect() as client,
        ):
            assert await ask(client) == 502
            await prox.reload(make_config(balanced(gone, upstream.address)))
            assert [await ask(client) for _ in range(3)] == [200] * 3
            assert prox.balancer.snapshot()["left_out"] == [gone]


async def test_routes_of_an_action_share_what_is_known() -> None:
    def route(path: str) -> dict[str, Any]:
        return {
            "match": {"path": path},
            "balancer": {"type": "roundrobin", "targets": [gone, upstream.address]},
            "action": "shared",
        }

    with closed_port() as gone:
        async with Upstream() as upstream:
            root = {"actions": {"shared": {"type": "proxy", "upstream": "{target}"}}}
            async with (
                serving([route("/a"), route("/b")], root=root) as prox,
                await prox.connect() as client,
            ):
                assert (await client.request(get("/a"))).status == 502
                assert [(await client.request(get("/b"))).status for _ in range(2)] == [200, 200]


async def test_an_upstream_that_breaks_off_is_not_left_out() -> None:
    """What a client's request can bring about takes no target from others."""

    async def reset(peer: Any) -> None:
        await peer.request()
        peer.abort()

    async with (
        Upstream(reset) as bad,
        Upstream() as good,
        serving(balanced(bad.address, good.address)) as prox,
        await prox.connect() as client,
    ):
        assert [await ask(client) for _ in range(4)] == [502, 200, 502, 200]


async def test_a_request_that_is_cancelled_while_it_tries_lets_the_next_one_try() -> None:
    with socket.socket() as full:  # its queue is full: connecting hangs
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = f"127.0.0.1:{full.getsockname()[1]}"
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        async with serving(balanced(address, "127.0.0.1:1")) as prox:
            book = prox.balancer.book
            book.failed(address, 0.0)
            async with await prox.connect() as impatient:
                await impatient.send(get())
                await until(lambda: book.failing[address].trying)
            await until(lambda: not book.failing[address].trying)
            await prox.quiet()
        for filler in fillers:
            filler.close()


async def test_short_of_descriptors_a_request_that_needs_a_connection_is_503(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        monkeypatch.setattr(pool, "room", lambda: descriptors.Room(3, 3, 3))
        answer = await client.request(get())
        assert (answer.status, answer["Retry-After"]) == (503, b"1")
        assert prox.pipeline.counters.upstream_faults == {"no_descriptors": 1}
        monkeypatch.undo()
        assert await ask(client) == 200
        await prox.quiet(connections=1, idle=1)
