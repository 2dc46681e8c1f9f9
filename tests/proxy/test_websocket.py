"""WebSockets of real clients and servers through prox: their frames pass as they are."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from aiohttp import ClientSession, WSMsgType, web
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

from support.servers import Running, serving, until

Handler = Callable[[ServerConnection], Awaitable[None]]

MANY = 16 * 1024 * 1024


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


class Tunnelled:
    """A WebSocket server behind prox.

    Attributes:
        prox: what stands before it.
    """

    def __init__(self, prox: Running) -> None:
        self.prox = prox

    @property
    def url(self) -> str:
        return "ws://{}:{}/chat?room=1".format(*self.prox.address)

    def connect(self, **options: Any) -> Any:
        return connect(self.url, **{"compression": None, "max_size": None, "proxy": None, **options})


@asynccontextmanager
async def behind(handler: Handler = echo, **options: Any) -> AsyncIterator[Tunnelled]:
    options = {"compression": None, "max_size": None, **options}
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        host, port = next(iter(server.sockets)).getsockname()[:2]
        async with serving(f"{host}:{port}") as prox:
            yield Tunnelled(prox)


async def test_messages_of_all_sizes() -> None:
    async with behind() as it, it.connect() as client:
        for size in [0, 1, 125, 126, 65535, 65536, 1 << 20]:
            await client.send("é" * size)
            assert await client.recv() == "é" * size
            data = os.urandom(size)
            await client.send(data)
            assert await client.recv() == data


async def test_a_message_of_16_mib() -> None:
    async with behind() as it, it.connect() as client:
        message = os.urandom(1 << 16) * (MANY >> 16)
        await client.send(message)
        assert await client.recv() == message


async def test_fragments() -> None:
    fragments: list[bytes] = []

    async def by_fragments(connection: ServerConnection) -> None:
        fragments.extend([fragment async for fragment in connection.recv_streaming(decode=False)])
        await connection.send([b"one", b"", b"two" * 30_000, b"three"])

    async with behind(by_fragments) as it, it.connect() as client:
        await client.send([b"a" * 70_000, b"b", b"", b"c" * 10])
        received = [fragment async for fragment in client.recv_streaming()]
        assert received[:1] == [b"one"]
        assert b"".join(received) == b"one" + b"two" * 30_000 + b"three"
        assert b"".join(fragments) == b"a" * 70_000 + b"b" + b"c" * 10
        assert len([fragment for fragment in fragments if fragment]) >= 3


async def test_pings_both_ways_and_between_fragments() -> None:
    async def pinging(connection: ServerConnection) -> None:
        await (await connection.ping(b"from the server"))
        await connection.send("pong came")
        await echo(connection)

    async with behind(pinging) as it, it.connect() as client:
        assert await client.recv() == "pong came"
        await (await client.ping(b"x" * 125))

        async def pieces() -> AsyncIterator[bytes]:
            yield b"one"
            await (await client.ping(b"between"))
            yield b"two"

        await client.send(pieces())
        assert await client.recv() == b"onetwo"


async def test_many_side_by_side() -> None:
    async with behind() as it:

        async def talk(number: int) -> None:
            async with it.connect() as client:
                for turn in range(20):
                    await client.send(f"{number} {turn}")
                    assert await client.recv() == f"{number} {turn}"

        await asyncio.gather(*[talk(number) for number in range(30)])
        await it.prox.quiet(idle=0)


@pytest.mark.parametrize("who", ["client", "server", "both"])
async def test_a_close_in_either_order(who: str) -> None:
    seen: list[tuple[int | None, str | None]] = []

    async def closing(connection: ServerConnection) -> None:
        if who != "client":
            await connection.close(4001, "from the server")
        await connection.wait_closed()
        seen.append((connection.close_code, connection.close_reason))

    async with behind(closing) as it:
        async with it.connect() as client:
            if who != "server":
                await client.close(4000, "from the client")
            await client.wait_closed()
        expected = {"client": [(4000, "from the client")], "server": [(4001, "from the server")]}.get(
            who, [(4000, "from the client"), (4001, "from the server")]
        )
        assert (client.close_code, client.close_reason) in expected
        await it.prox.quiet(idle=0)
        await until(lambda: seen)
        assert seen[0] in expected


async def test_a_server_that_breaks_off() -> None:
    async def breaking(connection: ServerConnection) -> None:
        await connection.recv()
        connection.transport.abort()

    async with behind(breaking) as it, it.connect() as client:
        await client.send("x")
        with pytest.raises(ConnectionClosedError):
            await client.recv()
        await it.prox.quiet(idle=0)


async def test_a_client_that_breaks_off() -> None:
    ended = asyncio.get_running_loop().create_future()

    async def waiting(connection: ServerConnection) -> None:
        await connection.wait_closed()
        ended.set_result(connection.close_code)

    async with behind(waiting) as it:
        client: ClientConnection = await it.connect()
        client.transport.abort()
        assert await ended == 1006
        await it.prox.quiet(idle=0)


async def test_subprotocols_and_headers() -> None:
    async with (
        behind(subprotocols=[websockets.Subprotocol("chat.v2"), websockets.Subprotocol("chat.v1")]) as it,
        it.connect(
            subprotocols=["other", "chat.v1"],
            additional_headers={"Authorization": "Bearer x"},
            origin="http://o",
        ) as client,
    ):
        assert client.subprotocol == "chat.v1"
        await client.send("x")
        assert await client.recv() == "x"


async def test_compression_is_between_the_ends() -> None:
    """The extension is negotiated by those who speak the protocol, window sizes and all."""
    factory = ServerPerMessageDeflateFactory(server_max_window_bits=10, client_max_window_bits=10)
    async with (
        behind(extensions=[factory]) as it,
        it.connect(compression="deflate") as client,
    ):
        assert "server_max_window_bits=10" in client.response.headers["Sec-WebSocket-Extensions"]
        message = "all the same " * 100_000
        await client.send(message)
        assert await client.recv() == message


async def test_a_refusal_is_the_server_s() -> None:
    def refusing(connection: ServerConnection, _request: object) -> Any:
        return connection.respond(403, "not you\n")

    async with behind(process_request=refusing) as it:
        with pytest.raises(InvalidStatus) as refused:
            await it.connect()
        assert refused.value.response.status_code == 403
        assert refused.value.response.body == b"not you\n"


async def test_slow_readers_and_much_to_read() -> None:
    async def pouring(connection: ServerConnection) -> None:
        for _ in range(200):
            await connection.send(b"x" * 65536)

    async with behind(pouring) as it, it.connect(max_queue=1) as client:
        await asyncio.sleep(0.1)
        assert sum([len(message) async for message in client]) == 200 * 65536


async def test_aiohttp_both_sides() -> None:
    closed: list[int | None] = []

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("chat",), compress=True)
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data.upper())
            elif message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        closed.append(socket.close_code)
        return socket

    application = web.Application()
    application.router.add_get("/chat", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        async with serving(f"{host}:{port}") as prox, ClientSession() as session:
            url = "http://{}:{}/chat".format(*prox.address)
            async with session.ws_connect(url, protocols=("chat",), compress=15) as socket:
                assert socket.protocol == "chat"
                await socket.send_str("hello" * 1000)
                assert (await socket.receive()).data == "HELLO" * 1000
                await socket.send_bytes(b"\x00" * 3_000_000)
                assert (await socket.receive()).data == b"\x00" * 3_000_000
                await socket.ping()
                await socket.close(code=4002)
            await until(lambda: closed)
            assert closed == [4002]
    finally:
        await runner.cleanup()
