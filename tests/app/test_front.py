"""What a listener does with a connection before its first protocol."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from prox.app.front import Front, Step, Steps
from prox.http.arrival import Arrival, TurnedBackError
from prox.http.exchange import Client as Peer
from support.client import get
from support.servers import Running, serving, until

OK = {"action": {"type": "static", "body_ref": {"text": "ok"}}}


@asynccontextmanager
async def with_steps(*steps: Step, **service: Any) -> AsyncIterator[Running]:
    async with serving(OK, **service) as running:
        front(running).point(Steps(steps))
        yield running


def front(running: Running) -> Front:
    (listener,) = running.application._listeners.values()
    assert listener._front is not None
    return listener._front


def ends(running: Running) -> dict[str, int]:
    return running.entry.counters.ends


async def test_a_protocol_that_gets_no_connection_is_told() -> None:
    async with serving(OK) as running:
        protocol = running.entry.connect(("192.0.2.1", 1))
        assert protocol is not None
        front(running)._served(protocol, ConnectionResetError())
        assert not running.entry.connections
        assert running.entry.counters.active == 0


async def test_steps_come_before_the_protocol_and_lose_nothing() -> None:
    seen = []

    async def peek(arrival: Arrival) -> None:
        await arrival.readable(6)
        seen.append(arrival.sock.recv(6, socket.MSG_PEEK))

    async with with_steps(peek, peek) as running, await running.connect() as client:
        await client.send(b"G", b"ET", b" / HTTP/1.1\r\nHost: a.b\r\n\r\n")
        assert (await client.response()).status == 200
        assert seen == [b"GET / ", b"GET / "]
        assert (await client.request(get())).status == 200
        assert len(seen) == 2
        assert running.entry.counters.active == running.entry.caps.open == 1


async def test_a_step_that_refuses() -> None:
    async def refuse(arrival: Arrival) -> None:
        await arrival.readable()
        raise TurnedBackError("not_today")

    async with with_steps(refuse) as running:
        async with await running.connect() as client:
            await client.send(b"G")
            await client.closed()
        await running.quiet()
        assert ends(running) == {"not_today": 1}
        assert running.entry.counters.active == running.entry.caps.open == 0


async def test_a_step_that_takes_too_long() -> None:
    async def wait(arrival: Arrival) -> None:
        arrival.within(0.05, "too_slow")
        await arrival.readable(4)

    async with with_steps(wait) as running:
        async with await running.connect() as client:
            await client.send(b"GE")
            await client.closed()
        assert ends(running) == {"too_slow": 1}


async def test_a_step_that_fails_is_an_error_of_prox_and_ends_one_connection() -> None:
    failing = [True]

    async def fail(arrival: Arrival) -> None:
        await arrival.readable()
        if failing.pop():
            raise ZeroDivisionError

    async with with_steps(fail) as running:
        async with await running.connect() as client:
            await client.send(b"G")
            await client.closed()
        assert ends(running) == {"internal_error": 1}
        failing += [False]
        async with await running.connect() as client:
            assert (await client.request(get())).status == 200


async def test_connections_on_their_way_count_and_end_with_the_listener() -> None:
    async def wait(arrival: Arrival) -> None:
        await arrival.readable()

    async with with_steps(wait, config={"max_connections": 2}) as running:
        clients = [await running.connect() for _ in range(2)]
        await until(lambda: len(running.entry.connections) == 2)
        with suppress(ConnectionResetError):  # it may come before connecting is over
            async with await running.connect() as third:
                await third.closed()
                assert third.reset
        assert ends(running)["max_connections"] == 1
        assert (await clients[0].request(get())).status == 200
        entry = running.entry
        entry.drain()
        for client in clients:
            await client.closed()
            client.close()
        await until(lambda: not entry.connections)
        assert entry.caps.open == 0
        assert ends(running)["shutdown"] == 1


async def test_a_client_of_another_address() -> None:
    async def readdress(arrival: Arrival) -> None:
        await arrival.readable()
        arrival.readdress(Peer(("192.0.2.7", 7)))

    async with with_steps(readdress, config={"max_connections_per_client": 1}) as running:
        async with await running.connect() as client:
            assert (await client.request(get())).status == 200
            assert [connection.client.address for connection in running.connections] == ["192.0.2.7:7"]
            assert (running.entry.caps.of("192.0.2.7"), running.entry.caps.of("127.0.0.1")) == (1, 0)
            async with await running.connect() as second:
                await second.send(b"G")
                await second.closed()
        await running.quiet()
        assert running.entry.caps.open == running.entry.caps.of("127.0.0.1") == 0
