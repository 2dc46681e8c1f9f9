"""Upgrades and CONNECT through a whole prox, with an upstream that remembers every byte."""

from __future__ import annotations

from support.client import Client, get
from support.servers import serving
from support.upstream import Script, Upstream, UpstreamPeer

WEBSOCKET = (
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def agreeing(head: bytes = SWITCHED) -> Script:
    """Agrees to the tunnel and says back, in capitals, what comes."""

    async def script(peer: UpstreamPeer) -> None:
        if await peer.request() is None:
            return
        await peer.send(head)
        while await peer.more():
            data, peer._rest = peer._rest, b""
            await peer.send(data.upper())
        peer.half_close()

    return script


async def opened(client: Client) -> None:
    await client.send(get("/chat", *WEBSOCKET))
    assert (await client.head()).status == 101


async def test_bytes_pass_both_ways_until_both_have_ended() -> None:
    async with Upstream(agreeing()) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            await opened(client)
            await client.send(b"hello")
            assert await client.take(5) == b"HELLO"
            client.half_close()
            await client.closed()
        await prox.quiet()
