"""Tunnels on streams of HTTP/2: CONNECT, and WebSocket by extended CONNECT, with an upstream that speaks HTTP/1.1."""

from __future__ import annotations

import asyncio
import socket
from base64 import b64decode, b64encode
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest

from support.h2_client import H2Client, Pairs
from support.servers import Running, read_log, serving, until, write_sdk_plugin
from support.tunnels import CONNECTED, SWITCHED, agreeing
from support.upstream import OK, Script, Upstream, UpstreamPeer, answer, answering, sending

H2C: dict[str, Any] = {"h2c": True}
MEGABYTE = 1 << 20
KEY = "sec-websocket-key"


def accept(key: bytes) -> bytes:
    return b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest())


def websocket(first: bytes = b"", *lines: bytes) -> Script:
    """Shakes hands as RFC 6455 asks for, and says back in capitals what comes."""

    async def script(peer: UpstreamPeer) -> None:
        request = await peer.request()
        if request is None:
            return
        head = SWITCHED.split(b"Sec-WebSocket-Accept")[0] + b"Sec-WebSocket-Accept: " + accept(request[KEY])
        await peer.send(b"\r\n".join([head, *lines, b"", b""]) + first)
        while data := await peer.tunnelled():
            await peer.send(data.upper())
        if not peer.closing:
            peer.half_close()

    return script


def asking(path: str = "/chat", *more: tuple[bytes, bytes], protocol: bytes = b"websocket") -> Pairs:
    return [
        (b":method", b"CONNECT"),
        (b":protocol", protocol),
        (b":scheme", b"http"),
        (b":authority", b"test.example"),
        (b":path", path.encode()),
        (b"sec-websocket-version", b"13"),
        *more,
    ]


def connecting(target: bytes = b"far.example:443", *more: tuple[bytes, bytes]) -> Pairs:
    return [(b":method", b"CONNECT"), (b":authority", target), *more]


async def opened(client: H2Client, pairs: Pairs) -> int:
    stream = await client.open(pairs, end=False)
    answer = await client.head(stream)
    assert answer.status == 200, answer
    return stream


async def talk(client: H2Client, stream: int, data: bytes, expected: bytes) -> None:
    answer = client.answers[stream]
    before = answer.size
    await client.send(stream, data)
    await client.until(lambda: answer.size >= before + len(expected) or answer.over)
    assert answer.body[before:] == expected


async def connect(prox: Running) -> H2Client:
    return await H2Client.connect(prox.address)


def forward(upstream: Upstream) -> dict[str, Any]:
    return {"match": {"forward_proxy": True}, "action": {"type": "proxy", "upstream": upstream.address}}


# WebSocket.


async def test_the_server_says_that_it_can() -> None:
    async with serving("127.0.0.1:1", config=H2C) as prox, await connect(prox) as client:
        await client.until(lambda: client.greeted)
        assert client.h2.remote_settings.enable_connect_protocol == 1


async def test_an_upgrade_is_asked_of_the_upstream_with_a_key_of_prox_s_own() -> None:
    async with (
        Upstream(websocket(b"first", b"Sec-WebSocket-Protocol: chat", b"X-A: b")) as upstream,
        serving(upstream.address, config=H2C) as prox,
        await connect(prox) as client,
    ):
        pairs = asking(
            "/chat?a=b",
            (b"sec-websocket-protocol", b"chat"),
            (b"sec-websocket-key", b"mine"),
            (b"origin", b"o"),
        )
        stream = await opened(client, pairs)
        answer = client.answers[stream]
        assert (answer.get(b"sec-websocket-protocol"), answer.get(b"x-a")) == (b"chat", b"b")
        for name in (b"upgrade", b"connection", b"sec-websocket-accept"):
            assert answer.get(name) is None
        await client.until(lambda: answer.size == 5)
        assert answer.body == b"first"
        await talk(client, stream, b"hello", b"HELLO")
        (asked,) = upstream.requests
        assert asked.raw.startswith(b"GET /chat?a=b HTTP/1.1\r\n")
        assert (asked["connection"], asked["upgrade"]) == (b"Upgrade", b"websocket")
        assert len(b64decode(asked[KEY])) == 16
        assert asked.raw.lower().count(b"sec-websocket-key") == 1
        assert (asked["sec-websocket-version"], asked["origin"]) == (b"13", b"o")
        assert ":protocol" not in asked.raw.decode()
        await client.send(stream, b"bye", end=True)
        await client.answer(stream)
        assert (answer.body, answer.ended) == (b"firstHELLOBYE", True)
        await prox.quiet(idle=0, connections=1)


async def test_keys_differ() -> None:
    async with (
        Upstream(websocket()) as upstream,
        serving(upstream.address, config=H2C) as prox,
        await connect(prox) as client,
    ):
        for _ in range(3):
            await opened(client, asking())
        assert len({message[KEY] for message in upstream.requests}) == 3


@pytest.mark.parametrize(
    "head",
    [
        SWITCHED,
        SWITCHED.replace(b"Sec-WebSocket-Accept", b"X-Accept"),
        b"HTTP/1.1 200 OK\r\nConnection: upgrade\r\n",
        SWITCHED.replace(b": websocket", b": other"),
    ],
)
async def test_an_upstream_that_did_not_read_the_key(head: bytes) -> None:
    async with (
        Upstream(sending(head if b"200" not in head else head + b"\r\n")) as upstream,
        serving(upstream.address, config=H2C) as prox,
        await connect(prox) as client,
    ):
        stream = await client.open(asking(), end=False)
        answer = await client.head(stream)
        assert answer.status == 502


async def test_a_refusal() -> None:
    refusal = answer(b"no", b"X-Why: because", status=b"403 No")
    async with (
        Upstream(answering(refusal)) as upstream,
        serving(upstream.address, config=H2C) as prox,
        await connect(prox) as client,
    ):
        for _ in range(2):
            stream = await client.open(asking(), end=False)
            told = await client.answer(stream)
            assert (told.status, told.get(b"x-why"), told.body) == (403, b"because", b"no")
        await prox.quiet(connections=1)


async def test_other_protocols() -> None:
    head = b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: connect-udp\r\nCapsule-Protocol: ?1\r\n\r\n"
    async with (
        Upstream(agreeing(head)) as upstream,
        serving(upstream.address, config=H2C) as prox,
        await connect(prox) as client,
    ):
        stream = await opened(client, asking(protocol=b"connect-udp"))
        await talk(client, stream, b"abc", b"ABC")
        assert KEY not in upstream.requests[0]
        for protocol in (b"h2c", b"HTTP/1.1", b"tls"):
            stream = await client.open(asking(protocol=protocol), end=False)
            told = await client.head(stream)
            assert told.status == 501 or told.reset >= 0
        assert len(upstream.peers) == 1


async def test_streams_beside_each_other() -> None:
    async with (
        Upstream(websocket()) as upstream,
        serving(
            [
                {"match": {"path": "/static"}, "action": {"type": "static", "body_ref": {"text": "static"}}},
                {"action": {"type": "proxy", "upstream": upstream.address}},
            ],
            config=H2C,
        ) as prox,
        await connect(prox) as client,
    ):
        streams = [await opened(client, asking()) for _ in range(5)]
        for turn in range(3):
            for stream in streams:
                await talk(client, stream, b"%d %d" % (turn, stream), b"%d %d" % (turn, stream))
            assert (await client.get("/static")).body == b"static"


async def test_ends_and_resets() -> None:
    async with (
        Upstream(websocket()) as upstream,
        serving(upstream.address, config=H2C) as prox,
        await connect(prox) as client,
    ):
        stream = await opened(client, asking())
        await talk(client, stream, b"abc", b"ABC")
        await client.reset(stream)
        await until(lambda: upstream.peers[0].eof)
        assert upstream.peers[0].reset

        async def cutting(peer: UpstreamPeer) -> None:
            request = await peer.request()
            assert request is not None
            await peer.send(
                SWITCHED.split(b"Sec-")[0] + b"Sec-WebSocket-Accept: " + accept(request[KEY]) + b"\r\n\r\n"
            )
            await peer.tunnelled()
            peer.abort()

        upstream.script = cutting
        stream = await opened(client, asking())
        await client.send(stream, b"x")
        answer = await client.answer(stream)
        assert answer.reset > 0
        await prox.quiet(idle=0, connections=1)


async def test_the_upstream_ends_first() -> None:
    heard: list[bytes] = []

    async def script(peer: UpstreamPeer) -> None:
        request = await peer.request()
        assert request is not None
        await peer.send(
            SWITCHED.split(b"Sec-")[0] + b"Sec-WebSocket-Accept: " + accept(request[KEY]) + b"\r\n\r\nbye"
        )
        peer.half_close()
        while data := await peer.tunnelled():
            heard.append(data)

    async with (
        Upstream(script) as upstream,
        serving(upstream.address, config=H2C) as prox,
        await connect(prox) as client,
    ):
        stream = await opened(client, asking())
        answer = await client.answer(stream)
        assert (answer.body, answer.ended, answer.reset) == (b"bye", True, -1)
        client.h2.send_data(stream, b"still here", end_stream=True)
        await client.flush()
        await prox.quiet(idle=0, connections=1)
        assert b"".join(heard) == b"still here"


async def test_a_client_that_opens_no_window_holds_its_upstream_back() -> None:
    sent = 0

    async def script(peer: UpstreamPeer) -> None:
        nonlocal sent
        request = await peer.request()
        assert request is not None
        await peer.send(
            SWITCHED.split(b"Sec-")[0] + b"Sec-WebSocket-Accept: " + accept(request[KEY]) + b"\r\n\r\n"
        )
        while sent < 32 * MEGABYTE:
            await peer.send(b"x" * 65536)
            sent += 65536
        peer.half_close()
        await peer.closed()

    async with (
        Upstream(script) as upstream,
        serving(upstream.address, config=H2C) as prox,
        await connect(prox) as client,
    ):
        client.opens_windows = False
        stream = await opened(client, asking())
        last = -1
        while last != sent:
            last = sent
            await asyncio.sleep(0.1)
        assert sent < 16 * MEGABYTE
        await client.reset(stream)
        await prox.quiet(idle=0, connections=1)


async def test_a_limit_of_bodies_is_none_of_tunnels() -> None:
    async with (
        Upstream(websocket()) as upstream,
        serving(
            upstream.address, config={**H2C, "max_body_bytes": 100, "read_timeout": 0.1, "write_timeout": 0.1}
        ) as prox,
        await connect(prox) as client,
    ):
        stream = await opened(client, asking())
        await talk(client, stream, b"x" * 10_000, b"X" * 10_000)
        await asyncio.sleep(0.3)
        await talk(client, stream, b"x" * 10_000, b"X" * 10_000)


async def test_a_silent_tunnel_is_broken_off() -> None:
    async with (
        Upstream(websocket()) as upstream,
        serving(upstream.address, config={**H2C, "relay_idle_timeout": 0.1}) as prox,
        await connect(prox) as client,
    ):
        stream = await opened(client, asking())
        assert (await client.answer(stream)).reset >= 0
        await prox.quiet(idle=0, connections=1)


async def test_a_guard_and_the_log(tmp_path: Path) -> None:
    plugin = write_sdk_plugin(
        tmp_path,
        f"""
        @plugin.on_request
        def ask(request):
            with open({str(tmp_path / "seen")!r}, "a") as file:
                file.write(json.dumps([request.method, request.path, request.proto, dict(request.headers)]) + "\\n")
            return request.allow() if "x-ok" in request.headers else request.deny()

        @plugin.on_response
        def answer(response):
            return response.modify(headers={{"X-Status": str(response.status)}})
        """,
    )
    log = tmp_path / "access"
    async with (
        Upstream(websocket(b"hi")) as upstream,
        serving(
            upstream.address, config=H2C, plugins=[plugin], root={"logging": {"access_log": str(log)}}
        ) as prox,
        await connect(prox) as client,
    ):
        stream = await client.open(asking(), end=False)
        assert (await client.answer(stream)).status == 403
        assert not upstream.peers
        stream = await opened(client, asking("/chat", (b"x-ok", b"1")))
        assert client.answers[stream].get(b"x-status") == b"101"
        await client.until(lambda: client.answers[stream].size == 2)
        await client.send(stream, b"abc", end=True)
        await client.answer(stream)
        await until(lambda: len(read_log(log)) == 2)
        line = read_log(log)[1]
        assert (line["method"], line["path"], line["bytes_in"], line["bytes_out"]) == ("GET", "/chat", 3, 5)
        method, path, proto, _ = read_log(tmp_path / "seen")[1]
        assert (method, path, proto) == ("GET", "/chat", "HTTP/2.0")


# CONNECT.


async def test_connect_is_chained() -> None:
    async with (
        Upstream(agreeing(CONNECTED[:-2] + b"Content-Length: 5\r\nX-A: b\r\n\r\n", first=b"first")) as parent,
        serving(forward(parent), config=H2C) as prox,
        await connect(prox) as client,
    ):
        stream = await opened(client, connecting(b"Far.example:443", (b"proxy-authorization", b"Basic eDp5")))
        answer = client.answers[stream]
        assert (answer.get(b"x-a"), answer.get(b"content-length")) == (b"b", None)
        await client.until(lambda: answer.size == 5)
        await talk(client, stream, b"hello", b"HELLO")
        (asked,) = parent.requests
        assert asked.raw.startswith(b"CONNECT Far.example:443 HTTP/1.1\r\nHost: Far.example:443\r\n")
        assert "proxy-authorization" not in asked
        await client.send(stream, b"bye", end=True)
        assert (await client.answer(stream)).body == b"firstHELLOBYE"
        await prox.quiet(idle=0, connections=1)


async def test_a_connect_that_is_refused() -> None:
    async with (
        Upstream(answering(answer(b"no", status=b"403 No"), OK)) as parent,
        serving([forward(parent), {"action": {"type": "static"}}], config=H2C) as prox,
        await connect(prox) as client,
    ):
        stream = await client.open(connecting(), end=False)
        told = await client.answer(stream)
        assert (told.status, told.body) == (403, b"no")
        assert (await client.get("/")).status == 200


async def test_early_data_is_not_lost() -> None:
    async with (
        Upstream(agreeing(CONNECTED)) as parent,
        serving(forward(parent), config=H2C) as prox,
        await connect(prox) as client,
    ):
        stream = await client.open(connecting(), end=False)
        await client.send(stream, b"early", end=True)
        told = await client.answer(stream)
        assert (told.status, told.body) == (200, b"EARLY")


@pytest.mark.parametrize("pairs", [connecting(), asking()])
async def test_a_request_that_ends_at_once(pairs: Pairs) -> None:
    async with (
        Upstream(websocket() if pairs[1][0] == b":protocol" else agreeing(CONNECTED)) as upstream,
        serving(
            [forward(upstream), {"action": {"type": "proxy", "upstream": upstream.address}}], config=H2C
        ) as prox,
        await connect(prox) as client,
    ):
        stream = await client.open(pairs)
        told = await client.answer(stream)
        assert (told.status, told.body) == (200, b"")
        await prox.quiet(idle=0, connections=1)


async def test_no_route_and_no_upstream() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        routes: list[dict[str, Any]] = [
            {
                "match": {"forward_proxy": True, "domain": "far.example"},
                "action": {"type": "proxy", "upstream": f"127.0.0.1:{nobody.getsockname()[1]}"},
            },
            {"action": {"type": "static"}},
        ]
        async with serving(routes, config=H2C) as prox, await connect(prox) as client:
            for target, status in [(b"far.example:443", 502), (b"near.example:443", 404)]:
                stream = await client.open(connecting(target), end=False)
                assert (await client.answer(stream)).status == status


@pytest.mark.parametrize("kind", ["static", "serve", "denial"])
@pytest.mark.parametrize("pairs", [connecting(), asking("/")], ids=["connect", "websocket"])
async def test_no_answer_that_looks_like_a_tunnel(kind: str, pairs: Pairs, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("hello")
    actions: dict[str, Any] = {
        "static": {"type": "static", "body_ref": {"text": "hello"}},
        "serve": {"type": "serve", "root": str(tmp_path)},
        "denial": {"type": "static", "status": 403},
    }
    plugin = write_sdk_plugin(
        tmp_path, "plugin.on_request(lambda request: request.deny(status=200, body='hello'))"
    )
    routes = [{"match": {"forward_proxy": True}, "action": actions[kind]}, {"action": actions[kind]}]
    plugins = [plugin] if kind == "denial" else []
    async with serving(routes, config=H2C, plugins=plugins) as prox, await connect(prox) as client:
        stream = await client.open(pairs, end=False)
        assert (await client.answer(stream)).status >= 400
