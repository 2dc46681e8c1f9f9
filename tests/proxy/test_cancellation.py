"""A client that goes away at any point of its request leaves nothing behind.

One test for each point at which the request waits; afterwards no connection is busy, no target counted, no client left.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from prox.http.pool import Origin, OriginSettings, Pools
from prox.tasks import spawn
from support.client import Client, get
from support.servers import Running, read_log, serving, until
from support.upstream import Upstream, UpstreamPeer, answer

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"


async def silent(peer: UpstreamPeer) -> None:
    await peer.head()
    await peer.closed()


async def stalled(peer: UpstreamPeer) -> None:
    """Reads the head and no more."""
    await peer.head()
    await asyncio.Event().wait()


async def hinting(peer: UpstreamPeer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    await peer.closed()


async def half_a_head(peer: UpstreamPeer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nX-Half")
    await peer.closed()


async def head_alone(peer: UpstreamPeer) -> None:
    await peer.request()
    await peer.send(HEAD)
    await peer.closed()


async def flooding(peer: UpstreamPeer) -> None:
    await peer.request()
    await peer.send(HEAD)
    while not peer.eof:
        await peer.send(b"x" * 100_000)


async def answered_and_silent(peer: UpstreamPeer) -> None:
    """The second request on a connection gets nothing: it waits on a connection from the pool."""
    await peer.request()
    await peer.send(answer(b"ok"))
    await peer.request()
    await peer.closed()


async def in_upload(client: Client, upstream: Upstream, prox: Running) -> None:
    await client.send(get("/", "Content-Length: 10", method="POST"), b"abc")
    await until(lambda: upstream.peers and upstream.peers[0].received.endswith(b"abc"))


async def awaiting_the_answer(client: Client, upstream: Upstream, prox: Running) -> None:
    await client.send(get())
    await until(lambda: upstream.peers and b"\r\n\r\n" in upstream.peers[0].received)


async def after_a_hint(client: Client, upstream: Upstream, prox: Running) -> None:
    await client.send(get())
    assert (await client.message()).status == 103


async def in_the_answers_head(client: Client, upstream: Upstream, prox: Running) -> None:
    await client.send(get())
    await until(lambda: any(connection._buffer for connection in prox.upstream_connections))


async def after_the_answers_head(client: Client, upstream: Upstream, prox: Running) -> None:
    await client.send(get())
    await until(lambda: any(connection._sink is not None for connection in prox.upstream_connections))


async def while_it_is_slow(client: Client, upstream: Upstream, prox: Running) -> None:
    await client.send(get())
    await until(lambda: any(connection._paused for connection in prox.upstream_connections))


async def on_a_pooled_connection(client: Client, upstream: Upstream, prox: Running) -> None:
    assert (await client.request(get("/1"))).status == 200
    await client.send(get("/2"))
    await until(lambda: b"/2" in upstream.peers[0].received)


async def with_more_requests_behind(client: Client, upstream: Upstream, prox: Running) -> None:
    await client.send(get("/1") + get("/2") + get("/3"))
    await until(lambda: upstream.peers and b"/1" in upstream.peers[0].received)


async def with_more_requests_than_are_read(client: Client, upstream: Upstream, prox: Running) -> None:
    await client.send(get("/1") + get("/2") * 100)
    (connection,) = prox.connections
    await until(lambda: upstream.peers and connection._is_far_ahead())


async def while_the_upstream_takes_nothing(client: Client, upstream: Upstream, prox: Running) -> None:
    await client.send(get("/", "Content-Length: 100000000", method="POST"))
    sending = spawn(client.send(b"x" * 100_000_000), "send")
    await until(lambda: any(connection.is_paused for connection in prox.connections))
    sending.cancel()
    client.abort()  # a client that closes would send the rest first


async def in_a_body_that_nobody_wants(client: Client, upstream: Upstream, prox: Running) -> None:
    await client.send(get("/a/../b", "Content-Length: 100", method="POST"))
    assert (await client.response()).status == 400


async def in_its_head(client: Client, upstream: Upstream, prox: Running) -> None:
    await client.send(b"GET / HTTP/1.1\r\nHo")
    await until(lambda: any(connection._in_head for connection in prox.connections))


POINTS: list[
    tuple[Callable[[UpstreamPeer], Awaitable[None]], Callable[[Client, Upstream, Running], Awaitable[None]]]
] = [
    (silent, in_its_head),
    (silent, in_upload),
    (silent, awaiting_the_answer),
    (hinting, after_a_hint),
    (half_a_head, in_the_answers_head),
    (head_alone, after_the_answers_head),
    (flooding, while_it_is_slow),
    (answered_and_silent, on_a_pooled_connection),
    (silent, with_more_requests_behind),
    (silent, with_more_requests_than_are_read),
    (stalled, while_the_upstream_takes_nothing),
    (silent, in_a_body_that_nobody_wants),
]


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize(("script", "point"), POINTS, ids=[point.__name__ for _, point in POINTS])
async def test_a_client_that_goes(
    script: Callable[[UpstreamPeer], Awaitable[None]],
    point: Callable[[Client, Upstream, Running], Awaitable[None]],
    end: str,
) -> None:
    async with Upstream(script) as upstream:
        route: dict[str, Any] = {
            "balancer": {"type": "leastconn", "targets": [upstream.address, "127.0.0.1:1"]},
            "action": {"type": "proxy", "upstream": "{target}"},
        }
        async with serving(route) as prox:
            client = await prox.connect(receive_buffer=8192)
            await point(client, upstream, prox)
            getattr(client, end)()
            async with asyncio.timeout(1):
                await prox.quiet(idle=0)
            assert all(not connection._flow.running for connection in prox.connections)
            picked = prox.balancer.pick("")
            assert picked.address == upstream.address  # nothing is counted: it is the first of equals
            picked.release()
            for peer in upstream.peers:
                await peer.closed()


async def test_the_log_says_so_where_prox_did_not_read_from_it(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with Upstream(stalled) as upstream:
        route = {"action": {"type": "proxy", "upstream": upstream.address}, "access_log": str(log)}
        async with serving(route) as prox:
            client = await prox.connect()
            await while_the_upstream_takes_nothing(client, upstream, prox)
            await prox.quiet(idle=0)
    assert [(line["status"], line["reason"]) for line in read_log(log)] == [(0, "client_aborted")]


def full_backlog() -> tuple[socket.socket, list[socket.socket]]:
    """A listener that takes no further connection, and what fills it."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = [socket.socket() for _ in range(3)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
    return listener, fillers


async def test_a_client_that_goes_while_prox_connects() -> None:
    listener, fillers = full_backlog()
    with listener:
        port = listener.getsockname()[1]
        async with serving(f"127.0.0.1:{port}") as prox:
            client = await prox.connect()
            await client.send(get())
            await until(lambda: any(connection._flow.running for connection in prox.connections))
            client.close()
            await prox.quiet(idle=0)
            await until(
                lambda: not any(task.get_name().startswith("connect") for task in asyncio.all_tasks())
            )
        for filler in fillers:
            filler.close()


async def test_a_connection_that_comes_when_nobody_waits_for_it_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cancelled in the very turn of the loop in which it was opened."""
    async with Upstream(silent) as upstream:
        host, port = upstream.address.split(":")
        pools = Pools()
        origin = pools.origin(host, int(port), OriginSettings())
        opened = asyncio.Event()
        original = Origin._open

        async def told(self: Origin, preface: bytes) -> object:
            result = await original(self, preface)
            opened.set()
            asyncio.get_running_loop().call_soon(waiting.cancel)
            return result

        monkeypatch.setattr(Origin, "_open", told)
        waiting = spawn(origin.connect(), "wait")
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert opened.is_set()
        peer = await upstream.peer()  # else the test may end in the turn in which the upstream accepts
        await until(lambda: peer.eof)
        await until(lambda: not pools.open)
        assert pools.idle == 0


async def test_a_server_that_stops_ends_what_still_runs() -> None:
    async with Upstream(flooding) as upstream:
        async with serving(upstream.address) as prox:
            client = await prox.connect(receive_buffer=8192)
            await while_it_is_slow(client, upstream, prox)
            pools = prox.pools
        await until(lambda: not pools.open)
        assert pools.idle == 0
        await client.discard()
        client.close()
