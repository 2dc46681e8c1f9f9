"""Every limit of a service in one table: what goes over it, what the client is answered, and what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from prox.config.model import Tuning
from prox.tasks import spawn
from support.client import Client, get
from support.servers import Running, serving, until
from support.upstream import Upstream, UpstreamPeer

POST = b"POST / HTTP/1.1\r\nHost: test.example\r\n"


async def answering(peer: UpstreamPeer) -> None:
    while await peer.request() is not None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def silent(peer: UpstreamPeer) -> None:
    await peer.head()
    await peer.closed()


async def endless(peer: UpstreamPeer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nsome")
    await peer.closed()


async def talkative(peer: UpstreamPeer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nX-A: %b\r\nContent-Length: 2\r\n\r\nok" % (b"a" * 2000))


class Case(NamedTuple):
    """What a limit is set to, what a client does, and what comes of it.

    Attributes:
        value: of the limit.
        sent: by the client, each by itself.
        status: of the answer; 0 where none comes.
        counted: under which reason.
        upstream: what it does.
        stays: the connection goes on.
        trickle: what the client goes on to send, bit by bit.
    """

    value: object
    sent: bytes | list[bytes]
    status: int
    counted: str
    upstream: Callable[[UpstreamPeer], Awaitable[None]] = answering
    stays: bool = False
    trickle: bytes = b""


CASES = {
    "max_header_bytes": Case(200, get("/", "X-A: " + "a" * 200), 431, "header_size"),
    "max_header_count": Case(2, get("/", "X-A: a", "X-B: b"), 431, "header_count"),
    "max_target_bytes": Case(100, get("/" + "a" * 100), 414, "target_size"),
    "max_body_bytes": Case(5, POST + b"Content-Length: 6\r\n\r\n", 413, "body_size"),
    "read_header_timeout": Case("60ms", b"GET / HTTP/1.1\r\nX-A: ", 408, "deadline_head", trickle=b"a"),
    "read_timeout": Case(
        "60ms", POST + b"Content-Length: 1000\r\n\r\n", 408, "deadline_body", silent, trickle=b"a"
    ),
    "min_body_rate": Case(
        10_000, POST + b"Content-Length: 1000\r\n\r\n", 408, "deadline_body", silent, trickle=b"a"
    ),
    "write_timeout": Case("60ms", get(), 200, "deadline_answer", endless),
    "response_header_timeout": Case("60ms", get(), 504, "upstream_timeout", silent, stays=True),
    "max_response_header_bytes": Case(1000, get(), 502, "header_size", talkative, stays=True),
    "idle_timeout": Case("60ms", get(), 200, "idle_timeout"),
    "max_requests_per_connection": Case(1, get(), 200, "max_requests_per_connection"),
    "max_pipelined": Case(2, [get(), get() * 3], 0, "max_pipelined", silent, stays=True),
}

ELSEWHERE = {
    "dial_timeout": "tests/http/test_upstream.py",
    "max_connections": "tests/app/test_connection_limits.py",
    "max_connections_per_client": "tests/app/test_connection_limits.py",
    "max_idle_conns": "tests/http/test_upstream.py",
    "max_idle_conns_per_host": "tests/http/test_upstream.py",
}

NO_LIMITS = {"flush_interval", "keep_alive", "disable_compression", "via"}
"""And what has no effect yet: TLS, HTTP/2, relays, the PROXY protocol, sizes of buffers."""

LATER = ("tls_", "h2", "relay_", "proxy_protocol", "read_buffer", "write_buffer")


def test_the_table_is_complete() -> None:
    limits = {name for name in Tuning.model_fields if not name.startswith(LATER)} - NO_LIMITS
    assert limits == CASES.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize("name", CASES)
async def test_a_limit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    if name == "min_body_rate":
        monkeypatch.setattr("prox.http.upload.BODY_GRACE", 0.06)
        monkeypatch.setattr("prox.http.watch._LONGEST_SLEEP", 0.02)
    config: dict[str, Any] = {name: case.value}
    async with (
        Upstream(case.upstream) as upstream,
        serving(upstream.address, config=config) as prox,
        await prox.connect() as client,
    ):
        await go_over(client, case, prox)
        counted = prox.pipeline.counters.ends
        await until(lambda: counted, f"{name} is not counted")
        assert counted == {case.counted: counted[case.counted]}


async def go_over(client: Client, case: Case, prox: Running) -> None:
    trickling = spawn(trickle(client, case.trickle), "trickle") if case.trickle else None
    try:
        first, *others = case.sent if isinstance(case.sent, list) else [case.sent]
        await client.send(first)
        if others:
            await until(lambda: prox.pools.open)
            await client.send(*others)
        if case.status:
            assert (await client.head()).status == case.status
        if not case.stays:
            await client.discard()  # comes to its end
    finally:
        if trickling is not None:
            trickling.cancel()


async def trickle(client: Client, data: bytes) -> None:
    """A byte now and then, which must not put off any deadline."""
    while True:
        await asyncio.sleep(0.01)
        await client.send(data)
