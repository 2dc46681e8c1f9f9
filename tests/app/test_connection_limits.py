"""`max_connections` and `max_connections_per_client`: who is turned away, how, and what a reload changes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from prox.http import entry as entries
from support.client import Client, get
from support.servers import Running, make_config, read_log, serving, until

OK = {"action": {"type": "static", "body_ref": {"text": "ok"}}}


def capped(**config: Any) -> dict[str, Any]:
    return make_config(OK, config=config)


async def ask(client: Client) -> int:
    return (await client.request(get())).status


async def turned_away(running: Running) -> None:
    """A client that is one too many is told so, whether it asks before or after."""
    async with await running.connect() as client:
        answer = await client.response()
        assert (answer.status, answer.body) == (503, b"too many connections\n")
        assert (b"Connection", b"close") in answer.headers
        await client.closed()


async def test_one_too_many_is_answered_503_until_another_has_gone(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    root = {"logging": {"access_log": str(log)}}
    async with serving(OK, config={"max_connections": 2}, root=root) as running:
        async with await running.connect() as first, await running.connect() as second:
            assert [await ask(first), await ask(second)] == [200, 200]
            await turned_away(running)
            assert [await ask(first), await ask(second)] == [200, 200]
        await running.quiet()
        async with await running.connect() as third:
            assert await ask(third) == 200
        await running.quiet()
        counters = running.pipeline.counters
        assert (counters.active, counters.connections, counters.ends["max_connections"]) == (0, 3, 1)
    (line,) = [line for line in read_log(log) if line["status"] == 503]
    assert (line["reason"], line["client_ip"], line["route"]) == ("max_connections", "127.0.0.1", -1)


async def test_a_client_that_has_sent_its_request_first_reads_the_answer_too() -> None:
    async with serving(OK, config={"max_connections": 1}) as running, await running.connect() as first:
        assert await ask(first) == 200
        for _ in range(20):
            async with await running.connect() as late:
                assert (await late.request(get())).status == 503


async def test_one_client_is_limited_and_others_are_not() -> None:
    async with serving(OK, config={"max_connections_per_client": 1}, listen=":0") as running:
        assert isinstance(running.address, tuple)
        port = running.address[1]
        async with await Client.connect(("127.0.0.1", port)) as first:
            assert await ask(first) == 200
            async with await Client.connect(("127.0.0.1", port)) as second:
                assert (await second.response()).status == 503
            async with await Client.connect(("::1", port)) as other:
                assert await ask(other) == 200
            assert running.pipeline.counters.ends == {"max_connections_per_client": 1}


async def test_a_trusted_proxy_and_a_unix_socket_bring_many_clients(tmp_path: Path) -> None:
    config = {"max_connections_per_client": 1}
    trusted = serving(OK, config=config, trusted_proxies=["127.0.0.0/8"])
    by_path = serving(OK, config=config, listen=f"unix://{tmp_path / 'socket'}")
    for server in (trusted, by_path):
        async with server as running, await running.connect() as first, await running.connect() as second:
            assert [await ask(first), await ask(second)] == [200, 200]


async def test_a_reload_changes_the_limit_and_keeps_the_count() -> None:
    async with serving(OK) as running, await running.connect() as first, await running.connect() as second:
        assert [await ask(first), await ask(second)] == [200, 200]
        for config in ({"max_connections": 1}, {"max_connections_per_client": 2}):
            await running.reload(make_config(OK, config=config))
            await turned_away(running)
            assert [await ask(first), await ask(second)] == [200, 200]  # what is open stays
        await running.reload(make_config(OK, config={"max_connections": 3}))
        async with await running.connect() as third:
            assert await ask(third) == 200
        await until(lambda: running.pipeline.counters.active == 2)


async def test_the_connections_of_a_listener_are_those_of_the_service_that_it_is_given(
    tmp_path: Path,
) -> None:
    listen = f"unix://{tmp_path / 'socket'}"
    before = make_config(OK, listen=listen)
    after = {**before, "services": {"other": {**before["services"]["web"], "config": {"max_connections": 1}}}}
    async with serving(OK, listen=listen) as running, await running.connect() as first:
        path = running.address
        assert isinstance(path, str)
        assert await ask(first) == 200
        old = running.pipeline.counters
        await running.reload(after)
        async with await Client.connect(path) as late:
            assert (await late.response()).status == 503
        assert await ask(first) == 200
        snapshot = running.application.snapshot
        assert snapshot is not None
        new = snapshot.pipelines["other"].counters
        assert (old.active, new.active) == (0, 1)


async def was_reset(running: Running) -> bool:
    """Whether a client's connection is reset without a word, already while it connects or thereafter."""
    try:
        client = await running.connect()
    except ConnectionResetError:
        return True
    async with client:
        await client.closed()
        return client.reset


async def test_those_who_are_told_are_few_and_the_rest_are_reset() -> None:
    async with serving(OK, config={"max_connections": 1}) as running, await running.connect() as first:
        assert await ask(first) == 200
        told = [await running.connect() for _ in range(entries.MOST_TURNED_AWAY)]
        await until(lambda: len(running.entry.turned_away) == entries.MOST_TURNED_AWAY)
        assert await was_reset(running)
        assert running.pipeline.counters.statuses[0] == 1
        for client in told:
            client.close()
        await until(lambda: not running.entry.turned_away)
        await turned_away(running)


async def test_who_was_told_and_does_not_go_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prox.http.turned_away.LINGER", 0.05)
    async with serving(OK, config={"max_connections": 1}) as running, await running.connect() as first:
        assert await ask(first) == 200
        async with await running.connect() as staying:
            assert (await staying.response()).status == 503
            await until(lambda: not running.entry.turned_away)


async def test_who_was_told_and_sends_without_end_is_reset() -> None:
    async with serving(OK, config={"max_connections": 1}) as running, await running.connect() as first:
        assert await ask(first) == 200
        async with await running.connect() as flooding:
            async with asyncio.timeout(2):
                with pytest.raises(ConnectionError):
                    await flooding.send(*[b"x" * 65536] * 1000)


async def test_many_connections_come_and_go_and_every_one_is_counted_down() -> None:
    async with serving(OK, config={"max_connections": 30}) as running:

        async def visit(number: int) -> int:
            async with await running.connect() as client:
                if number % 3 == 0:
                    client.abort()
                    return 0
                return await ask(client)

        statuses = await asyncio.gather(*(visit(number) for number in range(120)))
        assert set(statuses) <= {0, 200, 503}
        await running.quiet()
        assert running.entry.caps.open == running.pipeline.counters.active == 0
