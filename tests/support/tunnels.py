"""What the two ends of a tunnel say: a WebSocket's handshake, an upstream that agrees, a client that asks."""

from __future__ import annotations

from support.client import Client, get
from support.upstream import Script, UpstreamPeer
from support.upstream_messages import Message

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
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def agreeing(head: bytes = SWITCHED, *, first: bytes = b"") -> Script:
    """Agrees, says `first`, and then says back in capitals what comes, until its end."""

    async def script(peer: UpstreamPeer) -> None:
        if await peer.request() is None:
            return
        await peer.send(head + first)
        while data := await peer.tunnelled():
            await peer.send(data.upper())
        if not peer.closing:
            peer.half_close()

    return script


async def upgraded(client: Client, path: str = "/chat", *headers: str) -> Message:
    """Ask for a WebSocket; the head of the 101."""
    await client.send(get(path, *WEBSOCKET, *headers))
    head = await client.head()
    assert head.status == 101, head
    return head


def connect(
    target: str = "far.example:443", *headers: str, host: str | None = None, version: str = "1.1"
) -> bytes:
    """A CONNECT."""
    lines = [
        f"CONNECT {target} HTTP/{version}",
        f"Host: {target if host is None else host}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode("latin-1")


async def connected(client: Client, target: str = "far.example:443") -> Message:
    """Ask for a tunnel to `target`; the head of the 200."""
    await client.send(connect(target))
    head = await client.head()
    assert head.status == 200, head
    return head
