"""Which protocol is spoken with upstreams over TLS: they choose, unless `proto` says it."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from support.certificates import authority, localhost
from support.client import get, post
from support.h2_server import Http2Peer, speaking
from support.servers import serving
from support.upstream import OK, Upstream, UpstreamPeer, answer, answering


def context(folder: Path, *protocols: str) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*localhost().write(folder))
    if protocols:
        made.set_alpn_protocols(list(protocols))
    return made


def route(upstream: Upstream, folder: Path, **action: Any) -> dict[str, Any]:
    ca = str(authority().write_ca(folder))
    return {
        "action": {"type": "proxy", "upstream": f"https://{upstream.address}", "tls": {"ca": ca}, **action}
    }


async def either(peer: UpstreamPeer) -> None:
    """Speaks what was agreed on, and says what that is."""
    spoken = peer.tls.selected_alpn_protocol()
    if spoken == "h2":
        await speaking(lambda http2: http2.serve(b"h2"))(peer)
    else:
        await answering(answer(str(spoken).encode()))(peer)


@pytest.mark.parametrize(
    ("offered", "proto", "spoken"),
    [
        (("h2", "http/1.1"), None, b"h2"),
        (("http/1.1",), None, b"http/1.1"),
        ((), None, b"None"),
        (("h2", "http/1.1"), "http/1.1", b"http/1.1"),
        (("h2", "http/1.1"), "h2", b"h2"),
    ],
)
async def test_what_is_spoken(
    tmp_path: Path, offered: tuple[str, ...], proto: str | None, spoken: bytes
) -> None:
    action = {} if proto is None else {"proto": proto}
    async with (
        Upstream(either, tls=context(tmp_path, *offered)) as upstream,
        serving(route(upstream, tmp_path, **action)) as prox,
        await prox.connect() as client,
    ):
        for _ in range(3):
            assert (await client.request(get())).body == spoken
        assert (await client.request(post(bytes(100_000)))).body == spoken
        assert len(upstream.peers) == 1
        await prox.quiet(idle=1, connections=1)


async def test_an_upstream_without_http_2_where_nothing_else_is_wanted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Upstream(either, tls=context(tmp_path, "http/1.1")) as upstream,
        serving(route(upstream, tmp_path, proto="h2")) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 502
        assert prox.pipeline.counters.upstream_faults == {"tls_failed": 1}
        assert "no HTTP/2" in caplog.text
        await prox.quiet(idle=0, connections=1)


@pytest.mark.parametrize("protocols", [("h2",), ("http/1.1",)])
async def test_a_crowd_before_anybody_knows(tmp_path: Path, protocols: tuple[str, ...]) -> None:
    async with (
        Upstream(either, tls=context(tmp_path, *protocols)) as upstream,
        serving(route(upstream, tmp_path)) as prox,
    ):
        clients = [await prox.connect() for _ in range(12)]
        responses = await asyncio.gather(*(client.request(get()) for client in clients))
        assert {response.status for response in responses} == {200}
        assert (len(upstream.peers) == 1) is (protocols == ("h2",))
        for client in clients:
            client.close()
        await prox.quiet()


async def test_those_who_wait_may_all_leave(tmp_path: Path) -> None:
    """What was opened for them is not left behind."""
    async with (
        Upstream(either, tls=context(tmp_path, "http/1.1")) as upstream,
        serving(route(upstream, tmp_path)) as prox,
    ):
        clients = [await prox.connect() for _ in range(3)]
        for client in clients:
            await client.send(get())
            client.abort()
        await prox.quiet(idle=0)
        async with await prox.connect() as client:
            assert (await client.request(get())).status == 200


async def test_a_session_is_resumed(tmp_path: Path) -> None:
    async def once(peer: Http2Peer) -> None:
        request = await peer.request()
        await peer.frame(0x7, 0, 0, request.stream.to_bytes(4, "big") + bytes(4))
        await peer.answer(request.stream)
        await peer.peer.closed()

    async with (
        Upstream(speaking(once), tls=context(tmp_path, "h2")) as upstream,
        serving(route(upstream, tmp_path)) as prox,
        await prox.connect() as client,
    ):
        for number in range(3):
            assert (await client.request(get())).status == 200
            await upstream.peers[number].closed()
        assert [peer.tls.session_reused for peer in upstream.peers] == [False, True, True]


async def test_the_scheme_is_told(tmp_path: Path) -> None:
    peers: list[Http2Peer] = []
    async with (
        Upstream(speaking(lambda peer: peer.serve(), peers), tls=context(tmp_path, "h2")) as upstream,
        serving(route(upstream, tmp_path)) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 200
        assert (await peers[0].request())[":scheme"] == b"https"


async def test_an_upgrade_is_asked_for_in_http_1_1(tmp_path: Path) -> None:
    async def script(peer: UpstreamPeer) -> None:
        if peer.tls.selected_alpn_protocol() == "h2":
            await speaking(lambda http2: http2.serve(b"h2"))(peer)
            return
        await peer.request()
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        await peer.more()
        await peer.send(b"echo")
        await peer.closed()

    async with (
        Upstream(script, tls=context(tmp_path, "h2", "http/1.1")) as upstream,
        serving(route(upstream, tmp_path)) as prox,
    ):
        async with await prox.connect() as client:
            assert (await client.request(get())).body == b"h2"
        async with await prox.connect() as client:
            await client.send(get("/", "Connection: upgrade", "Upgrade: echo"))
            assert (await client.message()).status == 101
            await client.send(b"hello")
            assert await client.take(4) == b"echo"
        assert [peer.tls.selected_alpn_protocol() for peer in upstream.peers] == ["h2", "http/1.1"]


async def test_a_tunnel_through_an_upstream_of_http_2_alone() -> None:
    async with Upstream(speaking(lambda peer: peer.serve())) as upstream:
        action = {"type": "proxy", "upstream": upstream.address, "proto": "h2"}
        async with serving({"action": action}) as prox, await prox.connect() as client:
            response = await client.request(get("/", "Connection: upgrade", "Upgrade: echo"))
            assert response.status == 502


async def test_a_connection_of_http_1_1_is_kept_beside(tmp_path: Path) -> None:
    """An upstream that changes its mind is followed at the next connection."""
    made = context(tmp_path, "http/1.1")

    async def script(peer: UpstreamPeer) -> None:
        if peer.tls.selected_alpn_protocol() == "h2":
            await either(peer)
            return
        await peer.request()
        await peer.send(OK)
        peer.close()

    async with (
        Upstream(script, tls=made) as upstream,
        serving(route(upstream, tmp_path)) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).body == b"ok"
        await prox.quiet(idle=0, connections=1)
        made.set_alpn_protocols(["h2"])
        assert (await client.request(get())).body == b"h2"
        assert (await client.request(get())).body == b"h2"
        assert len(upstream.peers) == 2
