"""How TLS connections end: close_notify where an answer is whole, none where it is not, and nobody is waited for long."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

from prox.http import server as server_module
from prox.http.sockets import has_hung_up, has_sent_all, is_lost
from support.certificates import authority
from support.client import get, post
from support.servers import Running, until
from support.tls import connect, ends, serving_tls
from support.upstream import Upstream, UpstreamPeer


class Tls:
    """A client that tells a close_notify from a mere FIN, and does only what it is told."""

    def __init__(self, running: Running, *, receive_buffer: int = 0) -> None:
        assert isinstance(running.address, tuple)
        self._address = running.address
        self._receive_buffer = receive_buffer

    async def __aenter__(self) -> Self:
        self.socket = socket.socket()
        if self._receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        self.socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        await self._loop.sock_connect(self.socket, self._address)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = authority().client_context().wrap_bio(self._in, self._out, server_hostname="localhost")
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
        await self._flush()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()

    async def _flush(self) -> None:
        await self._loop.sock_sendall(self.socket, self._out.read())

    async def _fill(self) -> bool:
        data = await self._loop.sock_recv(self.socket, 1 << 16)
        if data:
            self._in.write(data)
        return bool(data)

    async def send(self, data: bytes) -> None:
        self._tls.write(data)
        await self._flush()

    async def read(self) -> bytes:
        """What comes next; nothing after close_notify, ConnectionResetError after a FIN or RST without."""
        while True:
            try:
                return self._tls.read(1 << 16)
            except ssl.SSLWantReadError:
                if not await self._fill():
                    raise ConnectionResetError("a FIN without close_notify") from None
            except ssl.SSLZeroReturnError:
                return b""

    async def rest(self) -> bytes:
        """All until close_notify."""
        data = b""
        while piece := await self.read():
            data += piece
        return data


async def test_a_whole_answer_ends_with_close_notify(tmp_path: Path) -> None:
    async with serving_tls(tmp_path) as running:
        for request in (get("/", "Connection: close"), b"GET / HTTP/1.0\r\n\r\n"):
            async with Tls(running) as client:
                await client.send(request)
                assert (await client.rest()).endswith(b"\r\n\r\nok")
        await running.quiet()


async def test_a_refusal_is_read_by_a_client_that_still_sends(tmp_path: Path) -> None:
    async with serving_tls(tmp_path, config={"max_body_bytes": 1000}) as running, Tls(running) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a.b\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(100):
            with suppress(ConnectionError):
                await client.send(b"x" * 16384)
        assert (await client.rest()).startswith(b"HTTP/1.1 413 ")


async def test_a_malformed_request_is_refused(tmp_path: Path) -> None:
    async with serving_tls(tmp_path) as running:
        async with Tls(running) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
            assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
        await running.quiet()
        assert ends(running) == {"malformed": 1}


async def test_a_refused_client_that_does_not_go_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "LINGER", 0.2)
    async with serving_tls(tmp_path) as running, Tls(running) as client:
        await client.send(b"nonsense\r\n\r\n")
        await until(lambda: not running.entry.connections)


async def test_nobody_waits_for_the_close_notify_of_an_idle_client(tmp_path: Path) -> None:
    async with (
        serving_tls(tmp_path, root={"runtime": {"shutdown_timeout": 15}}) as running,
        Tls(running) as client,
    ):
        await client.send(get())
        assert await client.read()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await running.entry.drained(15)
        assert loop.time() - began < 5
        assert await client.rest() == b""


async def test_an_idle_connection_is_closed_in_time(tmp_path: Path) -> None:
    async with serving_tls(tmp_path, config={"idle_timeout": "200ms"}) as running, Tls(running) as client:
        await client.send(get())
        assert (await client.rest()).endswith(b"ok")
        await running.quiet()
        assert ends(running) == {"idle_timeout": 1}


async def test_a_slow_reader_gets_all_of_a_last_answer(tmp_path: Path) -> None:
    body = b"0123456789abcdef" * (1 << 19)  # 8 MiB: more than all buffers hold
    route = {"action": {"type": "static", "body_ref": {"text": body.decode()}}}
    async with serving_tls(tmp_path, route) as running, Tls(running, receive_buffer=8192) as client:
        await client.send(get("/", "Connection: close"))
        await until(lambda: any(connection.transport.is_closing() for connection in running.connections))
        received = await client.read()
        for _ in range(5):  # longer than between two looks whether it has all
            await asyncio.sleep(server_module.CLOSE_NOTIFY / 2)
            received += await client.read()
        received += await client.rest()
        assert received.endswith(body)
        assert len(received) < len(body) + 500
        await running.quiet()


async def test_an_answer_that_breaks_off_has_no_close_notify(tmp_path: Path) -> None:
    async def half(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        peer.close()

    async with Upstream(half) as upstream, serving_tls(tmp_path, upstream.address) as running:
        async with Tls(running) as client:
            await client.send(b"GET / HTTP/1.0\r\nHost: a.b\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                await client.rest()
        async with Tls(running) as client:  # here the last chunk is missing, which tells as much
            await client.send(get())
            assert (await client.rest()).endswith(b"\r\n\r\n3\r\nabc\r\n")


async def test_a_body_cut_by_a_mere_fin_is_not_taken_for_whole(tmp_path: Path) -> None:
    async with Upstream() as upstream, serving_tls(tmp_path, upstream.address) as running:
        for request in (
            b"POST / HTTP/1.1\r\nHost: a.b\r\nContent-Length: 10\r\n\r\nabc",
            b"POST / HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ):
            async with Tls(running) as client:
                await client.send(request)
                await until(lambda: any(connection._flow.running for connection in running.connections))
        await running.quiet(idle=0)
        assert upstream.requests == []


async def test_a_client_that_goes_while_nobody_reads(tmp_path: Path) -> None:
    async def never(peer: UpstreamPeer) -> None:
        await peer.head()
        await asyncio.sleep(30)

    async with Upstream(never) as upstream, serving_tls(tmp_path, upstream.address) as running:
        async with await connect(running) as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: a.b\r\nContent-Length: 100000000\r\n\r\n")
            client._writer.write(b"x" * 20_000_000)
            await until(lambda: any(connection.is_paused for connection in running.connections))
            client.abort()
        await running.quiet()
        assert ends(running) == {"client_aborted": 1}


async def test_pipelined_and_large_bodies(tmp_path: Path) -> None:
    async with Upstream() as upstream, serving_tls(tmp_path, upstream.address) as running:
        async with await connect(running) as client:
            await client.send(get("/1") + post(b"x" * 300_000, path="/2") + get("/3"))
            for _ in range(3):
                assert (await client.response()).status == 200
        assert [message.target for message in upstream.requests] == [b"/1", b"/2", b"/3"]
        assert upstream.requests[1].body == b"x" * 300_000


async def test_a_connection_that_is_lost_and_not_yet_told(tmp_path: Path) -> None:
    """uvloop tells a turn of the loop later; what happens in between must not fail."""
    async with serving_tls(tmp_path) as running, Tls(running) as client:
        await client.send(get())
        assert await client.read()
        (connection,) = running.connections
        transport = connection.transport
        transport.get_extra_info("uvloop.sslproto").connection_lost(None)
        assert has_sent_all(transport)
        assert has_hung_up(transport)
        assert is_lost(transport)
        connection._check(connection.loop.time())
        connection.abort()
        await running.quiet()
