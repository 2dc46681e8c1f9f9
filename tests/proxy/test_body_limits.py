"""`max_body_bytes` of services and routes: a route's own is in place of the service's, larger or smaller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.client import Client
from support.servers import read_log, serving
from support.upstream import Upstream


def route(upstream: str, path: str, **keys: Any) -> dict[str, Any]:
    return {"match": {"path": path}, "action": {"type": "proxy", "upstream": upstream}, **keys}


def upload(path: str, size: int, *, chunked: bool) -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: test.example\r\n" % path.encode()
    if not chunked:
        return head + b"Content-Length: %d\r\n\r\n" % size + b"x" * size
    pieces = b"".join(b"%x\r\n%b\r\n" % (part, b"x" * part) for part in _parts(size))
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"


def _parts(size: int) -> list[int]:
    return [min(50, size - start) for start in range(0, size, 50)]


async def ask(client: Client, data: bytes, *, at_once: bool) -> int:
    await client.send(*([data] if at_once else [data[at : at + 70] for at in range(0, len(data), 70)]))
    return (await client.response()).status


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
async def test_each_route_has_its_own(tmp_path: Path, chunked: bool, at_once: bool) -> None:
    log = tmp_path / "access.log"
    async with Upstream() as upstream:
        routes = [
            route(upstream.address, "/small", max_body_bytes=100),
            route(upstream.address, "/large", max_body_bytes=1000),
            route(upstream.address, "/any"),
        ]
        root = {"logging": {"access_log": str(log)}}
        async with serving(routes, config={"max_body_bytes": 300}, root=root) as prox:
            for path, limit in (("/small", 100), ("/large", 1000), ("/any", 300)):
                for size, expected in ((limit, 200), (limit + 1, 413)):
                    async with await prox.connect() as client:
                        data = upload(path, size, chunked=chunked)
                        assert await ask(client, data, at_once=at_once) == expected
            async with await prox.connect() as client:
                assert await ask(client, upload("/nowhere", 1001, chunked=False), at_once=at_once) == 413
            await prox.quiet()
            assert prox.pipeline.counters.ends["body_size"] == 4
    refused = [(line["path"], line["reason"]) for line in read_log(log) if line["status"] == 413]
    assert sorted(refused) == [(path, "body_size") for path in ("/any", "/large", "/nowhere", "/small")]


async def test_a_route_without_a_limit_takes_what_the_service_does_not() -> None:
    async with Upstream() as upstream:
        routes = [route(upstream.address, "/all", max_body_bytes=0), route(upstream.address, "/few")]
        async with serving(routes, config={"max_body_bytes": 10}) as prox:
            for path, size, expected in (("/all", 5000, 200), ("/few", 11, 413), ("/few", 10, 200)):
                async with await prox.connect() as client:
                    assert await ask(client, upload(path, size, chunked=False), at_once=True) == expected


async def test_a_small_body_that_is_refused_keeps_the_connection() -> None:
    async with Upstream() as upstream:
        routes = [route(upstream.address, "/few", max_body_bytes=10), route(upstream.address, "/more")]
        async with serving(routes) as prox, await prox.connect() as client:
            assert await ask(client, upload("/few", 11, chunked=False), at_once=False) == 413
            assert await ask(client, upload("/more", 11, chunked=False), at_once=True) == 200


async def test_the_client_that_waits_is_told_before_it_sends() -> None:
    async with Upstream() as upstream:
        routes = [route(upstream.address, "/few", max_body_bytes=10), route(upstream.address, "/more")]
        async with serving(routes) as prox, await prox.connect() as client:
            head = b"POST /few HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n"
            await client.send(head)
            assert (await client.message("POST")).status == 413
            await client.closed()
            assert upstream.requests == []
