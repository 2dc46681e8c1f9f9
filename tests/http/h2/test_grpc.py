"""gRPC's own client and server on either side of prox: all four kinds of call, with and without TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from support.certificates import authority, localhost
from support.servers import Running, serving

SERVICE = "test.Echo"
SIZES = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Echo:
    """What the server does.

    Attributes:
        cancelled: set when a call that waits without end is cancelled.
        metadata: of the last unary call.
    """

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.waits = asyncio.Event()
        self.metadata: dict[str, Any] = {}

    async def unary(self, request: bytes, context: Any) -> bytes:
        self.metadata = dict(context.invocation_metadata())
        await context.send_initial_metadata((("x-first", "1"), ("x-bin", b"\x00\xff")))
        context.set_trailing_metadata((("x-last", "2"), ("y-bin", b"\xff\x00")))
        return request[::-1]

    async def collect(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([request async for request in requests])

    async def split(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number * 1000

    async def chat(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request.upper()

    async def refuse(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not so – 100 %")
        raise AssertionError

    async def wait(self, request: bytes, context: Any) -> bytes:
        self.waits.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError

    @property
    def handlers(self) -> Any:
        """Messages are bytes as they are."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
                "Collect": grpc.stream_unary_rpc_method_handler(self.collect),
                "Split": grpc.unary_stream_rpc_method_handler(self.split),
                "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
                "Refuse": grpc.unary_unary_rpc_method_handler(self.refuse),
                "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            },
        )


class Talk:
    """A channel through prox to a server.

    Attributes:
        echo: what the server does.
        channel: the client's.
        prox: between them.
    """

    def __init__(self, echo: Echo, channel: Any, prox: Running) -> None:
        self.echo = echo
        self.channel = channel
        self.prox = prox

    def unary(self, method: str = "Unary") -> Callable[..., Any]:
        found: Callable[..., Any] = self.channel.unary_unary(f"/{SERVICE}/{method}")
        return found


@asynccontextmanager
async def talking(folder: Path, *, tls: bool) -> AsyncIterator[Talk]:
    """With TLS on both sides of prox, or on neither."""
    echo = Echo()
    server = grpc.aio.server(options=SIZES)
    server.add_generic_rpc_handlers((echo.handlers,))
    root = authority().write_ca(folder)
    chain, key = localhost().write(folder)
    if tls:
        pairs = [(key.read_bytes(), chain.read_bytes())]
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pairs))
        action: dict[str, Any] = {"upstream": f"https://localhost:{port}", "tls": {"ca": str(root)}}
        service: dict[str, Any] = {"tls_cert": str(chain), "tls_key": str(key)}
    else:
        port = server.add_insecure_port("127.0.0.1:0")
        action = {"upstream": f"127.0.0.1:{port}", "proto": "h2"}
        service = {"config": {"h2c": True}}
    await server.start()
    routes = {"action": {"type": "proxy", **action}}
    try:
        async with serving(routes, **service) as prox:
            assert isinstance(prox.address, tuple)
            target = f"localhost:{prox.address[1]}"
            credentials = grpc.ssl_channel_credentials(root.read_bytes())
            make = (
                grpc.aio.secure_channel(target, credentials, options=SIZES)
                if tls
                else grpc.aio.insecure_channel(target, options=SIZES)
            )
            async with make as channel:
                yield Talk(echo, channel, prox)
    finally:
        await server.stop(None)


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "tls")


async def each(*messages: bytes) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def ended(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_one_message_each(tmp_path: Path, tls: bool) -> None:
    async with talking(tmp_path, tls=tls) as talk:
        call = talk.unary()(b"abc", metadata=(("x-mine", "3"), ("z-bin", b"\x00\x01")))
        assert await call == b"cba"
        assert talk.echo.metadata["x-mine"] == "3"
        assert talk.echo.metadata["z-bin"] == b"\x00\x01"
        first, last = dict(await call.initial_metadata()), dict(await call.trailing_metadata())
        assert (first["x-first"], first["x-bin"]) == ("1", b"\x00\xff")
        assert (last["x-last"], last["y-bin"]) == ("2", b"\xff\x00")
        assert await call.code() == grpc.StatusCode.OK


async def test_many_messages_and_one(tmp_path: Path, tls: bool) -> None:
    async with talking(tmp_path, tls=tls) as talk:
        collect = talk.channel.stream_unary(f"/{SERVICE}/Collect")
        assert await collect(each(b"a", b"", b"b" * 100_000, b"c")) == b"a" + b"b" * 100_000 + b"c"


async def test_one_message_and_many(tmp_path: Path, tls: bool) -> None:
    async with talking(tmp_path, tls=tls) as talk:
        split = talk.channel.unary_stream(f"/{SERVICE}/Split")
        assert [part async for part in split(b"50")] == [b"%d" % number * 1000 for number in range(50)]
        assert [part async for part in split(b"0")] == []


async def test_many_messages_each(tmp_path: Path, tls: bool) -> None:
    """Each waits for the answer to the one before: nothing is held back until an end."""
    async with talking(tmp_path, tls=tls) as talk:
        call = talk.channel.stream_stream(f"/{SERVICE}/Chat")()
        for number in range(20):
            await call.write(b"message %d" % number)
            assert await call.read() == b"MESSAGE %d" % number
        await call.done_writing()
        assert await call.read() == grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK


async def test_an_error_with_its_words(tmp_path: Path, tls: bool) -> None:
    """A server that refuses sends one head with END_STREAM, which is head and trailers."""
    async with talking(tmp_path, tls=tls) as talk:
        error = await ended(talk.unary("Refuse")(b""))
        assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "not so – 100 %")
        error = await ended(talk.unary("Unknown")(b""))
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED
        assert await talk.unary()(b"on") == b"no"


async def test_a_large_message_each_way(tmp_path: Path, tls: bool) -> None:
    """Above every window between them."""
    async with talking(tmp_path, tls=tls) as talk:
        message = bytes(range(256)) * 16_000
        assert await talk.unary()(message) == message[::-1]


async def test_many_calls_side_by_side(tmp_path: Path, tls: bool) -> None:
    async with talking(tmp_path, tls=tls) as talk:
        unary = talk.unary()
        texts = [b"call %d" % number for number in range(150)]
        assert await asyncio.gather(*[unary(text) for text in texts]) == [text[::-1] for text in texts]
        await talk.prox.until(lambda: len(talk.prox.pools.open) == talk.prox.pools.idle)


async def test_a_deadline_and_a_cancelled_call_reach_the_server(tmp_path: Path, tls: bool) -> None:
    async with talking(tmp_path, tls=tls) as talk:
        error = await ended(talk.unary("Wait")(b"", timeout=0.2))
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await talk.echo.cancelled.wait()
        talk.echo.cancelled.clear()
        talk.echo.waits.clear()
        call = talk.unary("Wait")(b"")
        waiting = asyncio.ensure_future(call)  # noqa: TID251 - the loop's own: this is no part of prox
        await talk.echo.waits.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await talk.echo.cancelled.wait()


async def test_no_server(tmp_path: Path) -> None:
    """What prox answers then is no gRPC, and is taken for what it means."""
    async with (
        serving(
            {"action": {"type": "proxy", "upstream": "127.0.0.1:1", "proto": "h2"}}, config={"h2c": True}
        ) as prox,
    ):
        assert isinstance(prox.address, tuple)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{prox.address[1]}") as channel:
            error = await ended(channel.unary_unary(f"/{SERVICE}/Unary")(b""))
            assert error.code() == grpc.StatusCode.UNAVAILABLE
