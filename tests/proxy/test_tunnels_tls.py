"""Tunnels whose ends speak TLS, where asyncio knows no half-close: what came before an end still arrives."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from websockets.asyncio.client import connect as connect_websocket
from websockets.asyncio.server import ServerConnection, serve

from support.certificates import authority, localhost
from support.client import Client
from support.servers import Running, serving
from support.tunnels import CONNECTED, SWITCHED, agreeing, connected, upgraded
from support.upstream import Script, Upstream, UpstreamPeer

MEGABYTE = 1 << 20


class Ends:
    """A prox between a client and an upstream, of which either may speak TLS."""

    def __init__(self, prox: Running, upstream: Upstream, *, tls: bool) -> None:
        self.prox = prox
        self.upstream = upstream
        self._tls = tls

    async def connect(self) -> Client:
        if not self._tls:
            return await self.prox.connect()
        reader, writer = await asyncio.open_connection(
            *self.prox.address, ssl=authority().client_context(), server_hostname="localhost"
        )
        return Client(reader, writer)


def server_context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*localhost().write(folder))
    return context


@asynccontextmanager
async def between(
    folder: Path, script: Script, who: str, *, forward: bool = False, **keys: Any
) -> AsyncIterator[Ends]:
    """`who` speaks TLS: client, upstream or both."""
    client_tls, upstream_tls = who in {"client", "both"}, who in {"upstream", "both"}
    async with Upstream(script, tls=server_context(folder) if upstream_tls else None) as upstream:
        port = upstream.address.rpartition(":")[2]
        action: dict[str, Any] = {"type": "proxy", "upstream": f"http://localhost:{port}"}
        if upstream_tls:
            action |= {
                "upstream": f"wss://localhost:{port}",
                "tls": {"ca": str(authority().write_ca(folder))},
            }
        route: dict[str, Any] = {"action": action}
        if forward:
            route["match"] = {"forward_proxy": True}
        if client_tls:
            chain, key = localhost().write(folder)
            keys |= {"tls_cert": str(chain), "tls_key": str(key), "h2": False}
        async with serving(route, **keys) as prox:
            yield Ends(prox, upstream, tls=client_tls)


async def exactly(client: Client, size: int) -> bytes:
    received = b""
    while len(received) < size:
        received += await client.take(1)
    return received


WHO = pytest.mark.parametrize("who", ["client", "upstream", "both"])


@WHO
async def test_bytes_pass_both_ways(tmp_path: Path, who: str) -> None:
    async with between(tmp_path, agreeing(first=b"first"), who) as it:
        async with await it.connect() as client:
            await upgraded(client)
            await client.send(b"x" * MEGABYTE)
            assert await exactly(client, MEGABYTE + 5) == b"first" + b"X" * MEGABYTE
        await it.prox.quiet(idle=0)


@WHO
async def test_connect(tmp_path: Path, who: str) -> None:
    async with between(tmp_path, agreeing(CONNECTED), who, forward=True) as it:
        async with await it.connect() as client:
            await connected(client)
            await client.send(b"abc")
            assert await exactly(client, 3) == b"ABC"
        await it.prox.quiet(idle=0)


@WHO
async def test_the_client_ends_and_all_that_it_sent_arrives(tmp_path: Path, who: str) -> None:
    got = asyncio.get_running_loop().create_future()

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(SWITCHED)
        got.set_result(await peer.discard())

    async with between(tmp_path, script, who) as it:
        async with await it.connect() as client:
            await upgraded(client)
            await client.send(b"x" * (4 * MEGABYTE))
        assert await got == 4 * MEGABYTE
        await it.prox.quiet(idle=0)


@WHO
async def test_the_upstream_ends_and_all_that_it_sent_arrives(tmp_path: Path, who: str) -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(SWITCHED, b"x" * (4 * MEGABYTE))
        peer.close()

    async with between(tmp_path, script, who) as it, await it.connect() as client:
        await upgraded(client)
        assert await client.discard() == 4 * MEGABYTE
        assert not client.reset
        client.close()
        await it.prox.quiet(idle=0)


@pytest.mark.parametrize("who", ["upstream", "both"])
async def test_an_upstream_that_ends_without_a_word_of_tls(tmp_path: Path, who: str) -> None:
    """What runs in a tunnel knows its own end: the client sees one, no matter whose doing it was."""

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(SWITCHED, b"bye")
        peer.cut()
        await peer.closed()

    async with between(tmp_path, script, who) as it, await it.connect() as client:
        await upgraded(client)
        assert await exactly(client, 3) == b"bye"
        await client.closed()
        assert not client.reset
        client.close()
        await it.prox.quiet(idle=0)


async def test_an_upstream_that_never_says_its_end(tmp_path: Path) -> None:
    """It has got all, and answers no close_notify: prox does not wait for it."""
    got = asyncio.get_running_loop().create_future()

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(SWITCHED)
        got.set_result(await peer.tunnelled())
        cast("asyncio.Transport", peer._writer.transport).pause_reading()  # so that its TLS sees nothing more
        await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    async with between(tmp_path, script, "upstream") as it:
        async with await it.connect() as client:
            await upgraded(client)
            await client.send(b"last")
            assert await got == b"last"
            client.half_close()
            start = loop.time()
            await client.closed()
        await it.prox.quiet(idle=0)
        assert loop.time() - start < 10


@WHO
@pytest.mark.parametrize("end", ["client", "upstream"])
async def test_abrupt_ends(tmp_path: Path, who: str, end: str) -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(SWITCHED)
        await peer.tunnelled()
        if end == "upstream":
            peer.abort()
        else:
            await peer.closed()

    async with between(tmp_path, script, who) as it, await it.connect() as client:
        await upgraded(client)
        await client.send(b"x")
        if end == "client":
            client.abort()
        else:
            await client.discard()
            client.close()
        await it.prox.quiet(idle=0)


@WHO
async def test_a_slow_client_gets_all_in_the_end(tmp_path: Path, who: str) -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(SWITCHED)
        for _ in range(128):
            await peer.send(b"x" * 65536)
        peer.close()

    async with between(tmp_path, script, who) as it, await it.connect() as client:
        await upgraded(client)
        await asyncio.sleep(0.1)
        assert await client.discard(slices=16384) == 8 * MEGABYTE
        client.close()
        await it.prox.quiet(idle=0)


@WHO
async def test_a_silent_tunnel_is_broken_off(tmp_path: Path, who: str) -> None:
    config = {"relay_idle_timeout": 0.1}
    async with between(tmp_path, agreeing(), who, config=config) as it, await it.connect() as client:
        await upgraded(client)
        await client.discard()
        client.close()
        await it.prox.quiet(idle=0)


async def test_wss_to_wss(tmp_path: Path) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "localhost", 0, ssl=server_context(tmp_path), family=2) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        action = {
            "type": "proxy",
            "upstream": f"wss://localhost:{port}/base",
            "tls": {"ca": str(authority().write_ca(tmp_path))},
        }
        chain, key = localhost().write(tmp_path)
        async with serving({"action": action}, tls_cert=str(chain), tls_key=str(key), h2=False) as prox:
            url = f"wss://localhost:{prox.address[1]}/"
            async with connect_websocket(url, ssl=authority().client_context(), proxy=None) as client:
                for size in [0, 1000, 900_000]:
                    await client.send(b"x" * size)
                    assert await client.recv() == b"x" * size
            await prox.quiet(idle=0)


@pytest.mark.parametrize("proto", [None, "h2"])
async def test_a_tunnel_is_asked_for_by_http_1_where_requests_go_by_http_2(
    tmp_path: Path, proto: str | None
) -> None:
    context = server_context(tmp_path)
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with Upstream(agreeing(), tls=context) as upstream:
        action: dict[str, Any] = {
            "type": "proxy",
            "upstream": f"https://localhost:{upstream.address.rpartition(':')[2]}",
            "tls": {"ca": str(authority().write_ca(tmp_path))},
            **({"proto": proto} if proto else {}),
        }
        async with serving({"action": action}) as prox, await prox.connect() as client:
            await upgraded(client)
            await client.send(b"abc")
            assert await exactly(client, 3) == b"ABC"
            assert upstream.peers[0].tls.selected_alpn_protocol() == "http/1.1"


async def test_the_same_without_tls() -> None:
    async with Upstream(agreeing()) as upstream:
        action = {"type": "proxy", "upstream": upstream.address, "proto": "h2"}
        async with serving({"action": action}) as prox, await prox.connect() as client:
            await upgraded(client)
            await client.send(b"abc")
            assert await exactly(client, 3) == b"ABC"
