"""How a connection ends in each state: whatever ends it, nothing of its streams is left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from prox.http.h2.connection import Http2Connection
from prox.tasks import spawn
from support.h2_client import H2Client
from support.servers import Running, make_config, serving, until
from support.upstream import OK, Upstream, UpstreamPeer

ENDS = ["reset", "fin", "close", "abort", "fault"]


async def end(how: str, prox: Running, client: H2Client, stream: int) -> None:
    if how == "reset":
        await client.reset(stream)
    elif how == "fin":
        client.half_close()
    elif how == "close":
        await client.close()
    elif how == "abort":
        prox.entry.abort()
    else:
        await client.raw(b"\x00\x00\x01\x06\x00\x00\x00\x00\x00x")  # PING of one byte


async def thinking(peer: UpstreamPeer) -> None:
    await peer.request()
    await peer.closed()


async def unread(peer: UpstreamPeer) -> None:
    await peer.head()
    await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    await peer.closed()


async def half_an_answer(peer: UpstreamPeer) -> None:
    await peer.head()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome")
    await peer.closed()


async def endless(peer: UpstreamPeer) -> None:
    await peer.head()
    await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not peer.closing:
        await peer.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")


class State:
    """How to come to a state.

    Args:
        script: what the upstream does.
        body: whether the request has one, which does not end.
        windows: whether the client opens its windows.
        there: whether the state is reached.
    """

    def __init__(
        self,
        script: Callable[[UpstreamPeer], Awaitable[None]],
        *,
        body: bool = False,
        windows: bool = True,
        there: Callable[[Upstream, H2Client, int], object],
    ) -> None:
        self.script = script
        self.body = body
        self.windows = windows
        self.there = there


STATES = {
    "upstream thinks": State(thinking, there=lambda upstream, _c, _s: upstream.requests),
    "body on its way": State(unread, body=True, there=lambda _u, client, at: client.answers[at].interims),
    "answer on its way": State(half_an_answer, there=lambda _u, client, at: client.answers[at].size == 4),
    "both on their way": State(
        half_an_answer, body=True, there=lambda _u, client, at: client.answers[at].size == 4
    ),
    "answer waits for the window": State(
        endless,
        windows=False,
        there=lambda _u, client, _s: sum(answer.size for answer in client.answers.values()) == 65_535,
    ),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("name", STATES)
async def test_an_end(name: str, how: str) -> None:
    state = STATES[name]
    async with (
        Upstream(state.script) as upstream,
        serving(upstream.address, config={"h2c": True}) as prox,
        await H2Client.connect(prox.address) as client,
    ):
        client.opens_windows = state.windows
        stream = await client.request("POST" if state.body else "GET", "/", body=b"x" if state.body else None)
        if state.body:
            stream = await client.request("POST", "/", body=b"x" * 100, end=False)
        others = [await client.request("GET", f"/{number}") for number in range(2)]
        while not state.there(upstream, client, stream):
            try:
                async with asyncio.timeout(0.01):
                    await client.more()
            except TimeoutError:
                pass
        await end(how, prox, client, stream)
        if how == "reset":
            for other in others:
                await client.reset(other)
            if state.body:
                await client.reset(1)
            await prox.quiet(connections=1)
        else:
            await client.closed() if how != "close" else None
            await prox.quiet()
        await until(lambda: all(peer.eof or peer.closing for peer in upstream.peers))
        counted = prox.pipeline.counters
        assert set(counted.ends) <= {"client_aborted", "shutdown", "malformed"}


async def test_a_reload_that_takes_the_listener_away() -> None:
    waiting: list[UpstreamPeer] = []

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        waiting.append(peer)
        await peer.closed()

    async with (
        Upstream(script) as upstream,
        serving(upstream.address, config={"h2c": True}) as prox,
        await H2Client.connect(prox.address) as client,
        await H2Client.connect(prox.address) as idle,
    ):
        stream = await client.request()
        await until(lambda: waiting)
        reloading = spawn(prox.reload(make_config(upstream.address, listen="[::1]:0")), "reload")
        await idle.closed()
        assert idle.goaways == [(0, 2**31 - 1), (0, 0)]
        await client.until(lambda: len(client.goaways) == 2)
        await waiting[0].send(OK)
        assert (await client.answer(stream)).body == b"ok"
        await client.closed()
        await reloading


async def test_a_client_that_reads_no_answers_gets_no_more() -> None:
    async with (
        Upstream() as upstream,
        serving(upstream.address, config={"h2c": True}) as prox,
        await H2Client.connect(prox.address) as client,
    ):
        await client.until(lambda: client.greeted)
        (connection,) = prox.entry.connections
        assert isinstance(connection, Http2Connection)
        connection.pause_writing()  # as the transport does
        ends = prox.pipeline.counters.ends
        refused = [await client.request("BREW", end=False) for _ in range(10)]
        served = await client.request()
        await until(lambda: ends.get("unknown_method") == 10)
        await until(lambda: prox.pipeline.counters.requests == 11)
        connection.resume_writing()
        assert {(got.status, got.reset) for got in await client.gather(refused)} == {(0, 11)}
        assert (await client.answer(served)).body == b"ok"
