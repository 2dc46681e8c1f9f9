from __future__ import annotations

import asyncio
import logging
import socket
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime

import pytest

from prox.http.errors import UpstreamError
from prox.http.pool import OriginSettings, Pools
from prox.tasks import spawn
from support.client import Client, CutError, get, post, post_chunked
from support.servers import serving, until
from support.upstream import OK, Script, Upstream, UpstreamPeer, answer, answering, sending

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def silent(peer: UpstreamPeer) -> None:
    """Takes the request and says nothing."""
    await peer.request()
    await peer.closed()


async def resetting(peer: UpstreamPeer) -> None:
    await peer.request()
    peer.abort()


def stalling(*pieces: bytes) -> Script:
    """Sends the pieces and stays there."""

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(*pieces)
        await peer.closed()

    return script


# Failures before anything of an answer has gone to the client.


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"<html>an answer of HTTP/0.9</html>",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 33,
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 1001 + b"\r\n",
    ],
)
@pytest.mark.parametrize("stays", [True, False])
async def test_broken_heads(data: bytes, stays: bool) -> None:
    async with (
        Upstream(stalling(data) if stays else sending(data)) as upstream,
        serving(upstream.address) as prox,
    ):
        async with await prox.connect() as client:
            await client.send(get())
            response = await client.response()
            assert response.status == 502
            assert b"127.0.0.1" not in response.body
            upstream.script = answering(OK)
            assert (await client.request(get())).status == 200
        await prox.quiet(idle=1)


@pytest.mark.parametrize("script", [sending(), resetting, sending(b"HTTP/1.1 200 OK\r\nX-"), sending(b"H")])
@pytest.mark.parametrize("request_", [get(), post(b"abc")])
async def test_an_upstream_that_closes_without_an_answer(script: Script, request_: bytes) -> None:
    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(request_)).status == 502
        assert len(upstream.peers) == 1  # a fresh connection: nothing says that it was not processed
        assert prox.pipeline.counters.upstream_faults


async def test_a_refused_connection() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        async with serving(f"127.0.0.1:{sock.getsockname()[1]}") as prox, await prox.connect() as client:
            assert (await client.request(post(b"x" * 100))).status == 502
            assert (await client.request(get())).status == 502
            assert prox.pipeline.counters.upstream_faults == {"connect_refused": 2}


async def test_an_upstream_without_an_address() -> None:
    async with serving("no-such-host.invalid:80") as prox, await prox.connect() as client:
        assert (await client.request(get())).status == 502


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "a..example"])
async def test_a_host_that_is_no_name(host: str) -> None:
    origin = Pools().origin(host, 80, OriginSettings())
    with pytest.raises(UpstreamError) as caught:
        await origin.connect()
    assert caught.value.kind == "unresolvable"


async def test_an_upstream_that_can_not_be_reached_in_time() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)  # a full backlog: further connections get no answer
        address = sock.getsockname()
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        action = {"type": "proxy", "upstream": f"127.0.0.1:{address[1]}", "timeout": "100ms"}
        async with serving({"action": action}) as prox, await prox.connect() as client:
            assert (await client.request(get())).status == 504
            assert prox.pipeline.counters.upstream_faults == {"connect_timeout": 1}
        for filler in fillers:
            filler.close()


async def trickling(peer: UpstreamPeer) -> None:
    """Sends a head that gets no end, a byte at a time."""
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nX: ")
    while not peer.closing:
        await peer.send(b"a")
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "script", [silent, trickling, stalling(b"HTTP/1.1 200 OK\r\n"), stalling(b"HTTP/1.1 103 Hi\r\n\r\n")]
)
async def test_an_upstream_that_is_silent(script: Script) -> None:
    config = {"response_header_timeout": "80ms"}
    async with Upstream(script) as upstream, serving(upstream.address, config=config) as prox:
        async with await prox.connect() as client:
            assert (await client.request(get())).status == 504
            assert (await client.request(post(b"abc"))).status == 504
            assert len(upstream.peers) == 2
        await prox.quiet(idle=0)


async def test_the_answers_deadline_does_not_run_while_the_client_sends() -> None:
    config = {"response_header_timeout": "80ms"}

    async def script(peer: UpstreamPeer) -> None:
        head = await peer.head()
        if head is not None and head.target == b"/sent":
            await peer.closed()
            return
        await peer.request()
        await peer.send(OK)

    async with (
        Upstream(script) as upstream,
        serving(upstream.address, config=config) as prox,
        await prox.connect() as client,
        await prox.connect() as other,
    ):
        await client.send(get("/", "Content-Length: 4", method="POST"), b"ab")
        await until(lambda: upstream.peers and upstream.peers[0].received.endswith(b"ab"))
        # For one that has sent all it does run, and ends, from later on.
        assert (await other.request(get("/sent"))).status == 504
        await client.send(b"cd")
        assert (await client.response()).status == 200


@pytest.mark.parametrize("framing", ["Content-Length: 100000000", "Transfer-Encoding: chunked"])
async def test_an_upstream_that_takes_nothing_of_a_body(framing: str) -> None:
    async def script(peer: UpstreamPeer) -> None:
        await asyncio.Event().wait()

    async def send(client: Client) -> None:
        with suppress(ConnectionError):
            for _ in range(1000):
                await client.send(
                    b"10000\r\n" + b"x" * 65536 + b"\r\n" if "chunked" in framing else b"x" * 65536
                )

    config = {"response_header_timeout": "150ms"}
    async with Upstream(script) as upstream, serving(upstream.address, config=config) as prox:
        async with await prox.connect() as client:
            await client.send(get("/", framing, method="POST"))
            sending = spawn(send(client), "send")
            response = await client.response()
            assert (response.status, response["connection"]) == (504, b"close")
            sending.cancel()
        assert prox.pipeline.counters.upstream_faults == {"upstream_timeout": 1}
        await prox.quiet(idle=0)


@pytest.mark.parametrize("streams", [False, True])
async def test_an_upstream_that_takes_a_body_slowly(streams: bool) -> None:
    """What it takes, however little, is a sign of life; a stream may rest as long as it likes."""
    begin = asyncio.Event()

    async def script(peer: UpstreamPeer) -> None:
        await begin.wait()
        left = 30_000_000
        while left > 0:
            data = await peer._reader.read(1 << 19)
            left -= len(data)
            await asyncio.sleep(0 if streams else 0.005)
        await peer.send(OK)

    config = {"response_header_timeout": "150ms"}
    async with Upstream(script) as upstream:
        action = {"type": "proxy", "upstream": upstream.address, "stream": streams}
        async with serving({"action": action}, config=config) as prox, await prox.connect() as client:
            sending = spawn(client.send(post(b"x" * 30_000_000)), "send")
            await until(lambda: any(connection.is_paused for connection in prox.connections))
            if streams:
                await asyncio.sleep(0.4)
            begin.set()
            assert (await client.response()).status == 200
            await sending


# Failures within an answer.


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize(
    "data",
    [
        answer(b"abc", length=10),
        answer(b"", length=10),
        CHUNKED + b"3\r\nabc\r\n",
        CHUNKED + b"3\r\nabc\r\n0\r\n",
        CHUNKED + b"5\r\nabc",
        CHUNKED,
    ],
)
async def test_an_answer_that_is_cut(data: bytes, end: str) -> None:
    await is_cut(data, end)


async def test_an_answer_until_the_end_that_is_reset() -> None:
    await is_cut(b"HTTP/1.1 200 OK\r\n\r\nabc", "reset")


async def is_cut(data: bytes, end: str) -> None:
    seen = asyncio.Event()

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(data)
        if end == "reset":
            await seen.wait()
            peer.abort()

    async with Upstream(script) as upstream, serving(upstream.address) as prox:
        for request in [get(), b"GET / HTTP/1.0\r\n\r\n"]:
            seen.clear()
            async with await prox.connect() as client:
                await client.send(request)
                asyncio.get_running_loop().call_later(0.03, seen.set)
                with pytest.raises(CutError) as caught:
                    await client.response()
                assert b"200 OK" in caught.value.received or caught.value.reset
        await prox.quiet(idle=0)


@pytest.mark.parametrize(
    "data",
    [b"3\r\nabc\r\nx\r\n", b"3\r\nabcd\r\n", b"3\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\nX : y\r\n\r\n"],
)
async def test_an_answer_with_broken_chunks(data: bytes) -> None:
    async with Upstream(stalling(CHUNKED, data)) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            await client.send(get())
            with pytest.raises(CutError):
                await client.response()
        await prox.quiet(idle=0)


@pytest.mark.parametrize(
    ("data", "request_", "method"),
    [
        (OK + b"surplus", get(), "GET"),
        (answer(b"") + b"x", get(), "GET"),
        (CHUNKED + b"2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", get(), "GET"),
        (b"HTTP/1.1 204 No Content\r\n\r\nbody", get(), "GET"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nbody", get(), "GET"),
        (OK, get(method="HEAD"), "HEAD"),
    ],
)
async def test_surplus_bytes_end_a_connections_use(data: bytes, request_: bytes, method: str) -> None:
    async with Upstream(answering(data, OK)) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            first = await client.request(request_, method)
            assert first.body in {b"", b"ok"}
            second = await client.request(get())
            assert second.body == b"ok"
        if method != "HEAD" or not data.endswith(b"ok"):
            assert len(upstream.peers) == 2
        await prox.quiet()


async def test_bytes_on_an_idle_connection_end_its_use() -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        await client.request(get())
        await upstream.peers[0].send(answer(b"evil"))
        await until(lambda: prox.pools.idle == 0)
        assert (await client.request(get())).body == b"ok"
        assert len(upstream.peers) == 2


@pytest.mark.parametrize(
    "data",
    [
        answer(b"ok", b"Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nok",
    ],
)
async def test_answers_that_end_the_upstreams_connection(data: bytes) -> None:
    async with (
        Upstream(sending(data)) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        for _ in range(2):
            response = await client.request(get())
            assert response.body == b"ok"
            assert "connection" not in response
        assert len(upstream.peers) == 2
        await prox.quiet(idle=0, connections=1)


async def test_http_1_0_upstream_that_keeps_alive() -> None:
    data = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"
    async with (
        Upstream(answering(data)) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        for _ in range(2):
            assert (await client.request(get())).line == b"HTTP/1.1 200 OK"
        assert len(upstream.peers) == 1


# Interim answers.


async def test_interim_answers_are_passed_on() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nKeep-Alive: 5\r\n\r\n"
    more = b"HTTP/1.1 102 Working\r\n\r\n"
    async with Upstream(answering(hints + more + OK)) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            for _ in range(2):
                await client.send(get())
                first, second, final = [await client.message() for _ in range(3)]
                assert (first.line, first.headers) == (b"HTTP/1.1 103 Early Hints", [(b"Link", b"</a>")])
                assert second.status == 102
                assert (final.status, final.body) == (200, b"ok")
            assert len(upstream.peers) == 1
        async with await prox.connect() as client:
            await client.send(b"GET / HTTP/1.0\r\n\r\n")
            assert (await client.message()).status == 200


# Stale connections.


async def one_and_close(peer: UpstreamPeer) -> None:
    """Answers once and closes at the next request without a byte."""
    await peer.request()
    await peer.send(OK)
    await peer.request()


async def one_and_reset(peer: UpstreamPeer) -> None:
    await peer.request()
    await peer.send(OK)
    await peer.request()
    peer.abort()


@pytest.mark.parametrize("script", [one_and_close, one_and_reset])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_get_that_met_a_stale_connection_is_sent_once_more(script: Script, method: str) -> None:
    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get("/1"))).status == 200
        response = await client.request(get("/2", method=method), method)
        assert response.status == 200
        assert [[message.target for message in peer.requests] for peer in upstream.peers] == [
            [b"/1", b"/2"],
            [b"/2"],
        ]


@pytest.mark.parametrize(
    "request_",
    [
        post(b"abc"),
        post(b""),
        get(method="DELETE"),
        get(method="OPTIONS"),
        get("/", "Content-Length: 1") + b"x",
        post_chunked(b"abc"),
    ],
)
async def test_anything_else_is_not_sent_twice(request_: bytes) -> None:
    async with (
        Upstream(one_and_close) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 200
        assert (await client.request(request_)).status == 502
        assert len(upstream.requests) == 2


async def test_a_get_is_not_sent_a_third_time() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        if len(upstream.peers) == 1:
            await peer.send(OK)
            await peer.request()

    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 200
        assert (await client.request(get())).status == 502
        assert len(upstream.requests) == 3


@pytest.mark.parametrize("first", [b"H", b"HTTP/1.1 103 x\r\n\r\n"])
async def test_a_get_of_which_something_was_answered_is_not_sent_again(first: bytes) -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.send(first)

    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 200
        assert (await client.request(get())).status == 502
        assert len(upstream.requests) == 2


# The pool.


async def test_a_closed_idle_connection_is_not_taken() -> None:
    async with (
        Upstream(sending(OK)) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        for number in range(3):
            assert (await client.request(post(b"abc"))).status == 200
            await until(lambda: prox.pools.idle == 0 and not prox.pools.open)
            assert len(upstream.peers) == number + 1


async def test_the_connection_used_last_is_taken_first() -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox:
        gate = asyncio.Event()

        async def script(peer: UpstreamPeer) -> None:
            while await peer.request() is not None:
                await gate.wait()
                await peer.send(OK)

        upstream.script = script
        clients = [await prox.connect() for _ in range(3)]
        for client in clients:
            await client.send(get())
        await until(lambda: len(upstream.requests) == 3)
        gate.set()
        for client in clients:
            await client.response()
        for _ in range(5):
            await clients[0].request(get())
        assert sorted(len(peer.requests) for peer in upstream.peers) == [1, 1, 6]
        for client in clients:
            client.close()
        await prox.quiet(idle=3)


@pytest.mark.parametrize("config", [{"max_idle_conns": 2}, {"max_idle_conns_per_host": 2}])
async def test_idle_connections_are_limited(config: dict[str, int]) -> None:
    gate = asyncio.Event()

    async def script(peer: UpstreamPeer) -> None:
        while await peer.request() is not None:
            await gate.wait()
            await peer.send(OK)

    async with Upstream(script) as upstream, serving(upstream.address, config=config) as prox:
        clients = [await prox.connect() for _ in range(5)]
        for client in clients:
            await client.send(get())
        await until(lambda: len(upstream.requests) == 5)
        gate.set()
        for client in clients:
            assert (await client.response()).status == 200
            client.close()
        await prox.quiet(idle=2)
        assert len(upstream.peers) == 5


async def test_a_failure_is_logged_with_its_route(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "prox.proxy"):
        async with (
            Upstream(sending()) as upstream,
            serving(upstream.address) as prox,
            await prox.connect() as client,
        ):
            await client.request(get())
    assert "web:0" in caplog.text
    assert "upstream_closed" in caplog.text


# What an answer gets on its way.


@pytest.mark.parametrize("line", [b"Date: Thu, 01 Jan 1970 00:00:00 GMT", b"date:x", b"DATE: y"])
async def test_a_date_goes_on(line: bytes) -> None:
    async with (
        Upstream(answering(answer(b"ok", b"X: a", line, b"Connection: Date"))) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        response = await client.request(get())
        assert response.all("date") == [line.partition(b":")[2].strip()]


@pytest.mark.parametrize(
    "reply", [OK, answer(b"ok", b"X-Date: a", b"Expires: Date: b"), CHUNKED + b"0\r\n\r\n"]
)
async def test_a_date_is_added_where_there_is_none(reply: bytes) -> None:
    """RFC 9110 section 6.6.1: a recipient with a clock does that, for a final answer."""
    async with (
        Upstream(answering(b"HTTP/1.1 103 Early Hints\r\n\r\n" + reply)) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await client.send(get())
        first, final = [await client.message() for _ in range(2)]
        assert "date" not in first
        age = time.time() - parsedate_to_datetime(final["date"].decode()).timestamp()
        assert -1 < age < 10


async def test_what_connection_names_in_an_interim_answer_is_dropped() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nConnection: X-Gone\r\nX_Gone: 1\r\nLink: </a>\r\n\r\n"
    async with (
        Upstream(answering(hints + OK)) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await client.send(get())
        assert (await client.message()).headers == [(b"Link", b"</a>")]
