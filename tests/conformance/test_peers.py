"""Clients and servers that others wrote, each with each, and prox between them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from aiohttp import web
from yarl import URL

from support.go import COLD
from support.judges import TOOLS, run, serving_port, tool
from support.servers import serving

PEERS = Path(__file__).parent / "peers"


@dataclass
class Item:
    """A request that a client is told to send."""

    method: str
    path: str
    size: int = 0
    chunked: bool = False
    expect: bool = False


ONE_BY_ONE = [
    Item("GET", "/echo?x=1&y=%2F;z"),
    Item("HEAD", "/echo"),
    Item("POST", "/echo"),
    Item("POST", "/echo", size=1),
    Item("PUT", "/echo", size=300_000),
    Item("POST", "/echo", size=300_000, chunked=True),
    Item("PUT", "/echo", size=1000, expect=True),
    Item("GET", "/chunked"),
    Item("DELETE", "/empty"),
    Item("GET", "/trailers"),
    Item("GET", "/hints"),
    Item("GET", "/big"),
    Item("GET", "/close"),
    Item("OPTIONS", "/echo"),
    Item("PATCH", "/echo", size=5),
]
AT_ONCE = [Item("GET", f"/echo/{number}") for number in range(20)]
CONTENT = {
    "/chunked": b"".join(b"%d\n" % number for number in range(20)),
    "/empty": b"",
    "/trailers": b"body",
    "/hints": b"hints",
    "/big": b"x" * 5_000_000,
    "/close": b"close",
}


def check(item: Item, answer: dict[str, Any]) -> None:
    """What a client said of an answer is what the server was to send."""
    assert answer["status"] == (204 if item.path == "/empty" else 200), (item, answer)
    content = CONTENT.get(item.path)
    if content is not None:
        assert (answer["size"], answer["sum"]) == (len(content), hashlib.sha256(content).hexdigest()), item
    elif item.method == "HEAD":
        assert answer["size"] == 0
        assert int(answer["length"]) > 10
    else:
        sum_ = hashlib.sha256(b"x" * item.size).hexdigest()
        said = {"method": item.method, "path": item.path, "size": item.size, "sum": sum_}
        assert json.loads(answer["text"]) == said


# Servers.


async def _serve_aiohttp(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    path = request.path
    if path == "/empty":
        return web.Response(status=204)
    if path in {"/chunked", "/trailers"}:
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        for line in CONTENT[path].splitlines(keepends=True):
            await answer.write(line)
        await answer.write_eof()
        return answer
    answer = web.Response(body=CONTENT.get(path))
    if path == "/close":
        answer.force_close()
    elif path not in CONTENT:
        sum_ = hashlib.sha256(body).hexdigest()
        said = {"method": request.method, "path": request.raw_path, "size": len(body), "sum": sum_}
        answer = web.json_response(said)
    return answer


@asynccontextmanager
async def aiohttp_server() -> AsyncIterator[str]:
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{path:.*}", _serve_aiohttp)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def node_server() -> AsyncIterator[str]:
    async with serving_port([tool("node"), str(PEERS / "server.mjs")]) as address:
        yield address


@asynccontextmanager
async def go_server() -> AsyncIterator[str]:
    async with serving_port([await go_peer(), "serve"]) as address:
        yield address


async def go_peer() -> str:
    """Compile the peer in Go; quick when it was compiled before."""
    go = tool("go")
    program = TOOLS / "peer"
    TOOLS.mkdir(parents=True, exist_ok=True)
    await run(go, "build", "-o", str(program), str(PEERS / "peer.go"), env={"GOFLAGS": "-mod=mod"})
    return str(program)


# Clients.


def _told(status: int, body: bytes, length: str | None) -> dict[str, Any]:
    text = body.decode() if len(body) < 1000 else ""
    sum_ = hashlib.sha256(body).hexdigest()
    return {"status": status, "size": len(body), "sum": sum_, "text": text, "length": length}


async def _pieces(size: int) -> AsyncIterator[bytes]:
    for at in range(0, size, 1000):
        yield b"x" * min(1000, size - at)


async def aiohttp_client(base: str) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as session:

        async def send(item: Item) -> dict[str, Any]:
            data = _pieces(item.size) if item.chunked else b"x" * item.size or None
            url = URL(base + item.path, encoded=True)
            async with session.request(item.method, url, data=data, expect100=item.expect) as answer:
                return _told(answer.status, await answer.read(), answer.headers.get("Content-Length"))

        return [await send(item) for item in ONE_BY_ONE] + await asyncio.gather(*map(send, AT_ONCE))


async def httpx_client(base: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False) as client:

        async def send(item: Item) -> dict[str, Any]:
            content = _pieces(item.size) if item.chunked else b"x" * item.size or None
            headers = {"Expect": "100-continue"} if item.expect else None
            answer = await client.request(item.method, base + item.path, content=content, headers=headers)
            return _told(answer.status_code, answer.content, answer.headers.get("Content-Length"))

        return [await send(item) for item in ONE_BY_ONE] + await asyncio.gather(*map(send, AT_ONCE))


async def curl_client(base: str) -> list[dict[str, Any]]:
    curl = tool("curl")

    async def send(item: Item) -> dict[str, Any]:
        options = ["--head"] if item.method == "HEAD" else ["--request", item.method]
        if item.size or item.method == "POST":
            options += ["--data-binary", "@-"]
        if item.chunked:
            options += ["--header", "Transfer-Encoding: chunked"]
        if item.expect:
            options += ["--header", "Expect: 100-continue", "--expect100-timeout", "10"]
        told = ["--write-out", "%{stderr}%{http_code} %{header_json}"]
        process = await asyncio.create_subprocess_exec(
            *(curl, "--silent", "--http1.1", "--noproxy", "*", "--max-time", "10", *options, *told),
            base + item.path,
            stdin=asyncio.subprocess.PIPE if item.size else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(b"x" * item.size or None)
        assert process.returncode == 0, (item, process.returncode, err)
        status, _, headers = err.decode().partition(" ")
        length = json.loads(headers).get("content-length", [None])[0]
        return _told(int(status), b"" if item.method == "HEAD" else out, length)

    return [await send(item) for item in ONE_BY_ONE] + await asyncio.gather(*map(send, AT_ONCE))


async def _program(*command: str) -> list[dict[str, Any]]:
    given = {"one_by_one": [*map(asdict, ONE_BY_ONE)], "at_once": [*map(asdict, AT_ONCE)]}
    answers: list[dict[str, Any]] = json.loads(await run(*command, given=json.dumps(given).encode()))
    return answers


async def node_client(base: str) -> list[dict[str, Any]]:
    return await _program(tool("node"), str(PEERS / "client.mjs"), base)


async def go_client(base: str) -> list[dict[str, Any]]:
    return await _program(await go_peer(), "ask", base)


SERVERS = [aiohttp_server, node_server, go_server]
CLIENTS: list[Callable[[str], Awaitable[list[dict[str, Any]]]]] = [
    aiohttp_client,
    httpx_client,
    curl_client,
    node_client,
    go_client,
]


@COLD
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("client", CLIENTS)
async def test_each_with_each(
    client: Callable[[str], Awaitable[list[dict[str, Any]]]],
    server: Callable[[], Any],
) -> None:
    async with server() as address, serving(address) as prox:
        assert isinstance(prox.address, tuple)
        answers = await client(f"http://127.0.0.1:{prox.address[1]}")
        for item, answer in zip([*ONE_BY_ONE, *AT_ONCE], answers, strict=True):
            check(item, answer)
        pools = prox.pools
        await prox.until(lambda: len(pools.open) == pools.idle, "an upstream connection was not given back")
