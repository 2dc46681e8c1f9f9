from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from prox.tasks import spawn
from support.client import CutError, get, post, post_chunked
from support.servers import Running, serving, until
from support.upstream import OK, Upstream, UpstreamPeer, answer, answering

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("size", [1, 100, 16 * 1024, 16 * 1024 + 1, 300_000])
async def test_bodies_both_ways(size: int) -> None:
    async def echo(peer: UpstreamPeer) -> None:
        while (request := await peer.request()) is not None:
            await peer.send(answer(request.body))

    body = os.urandom(size)
    async with Upstream(echo) as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        known = await client.request(post(body))
        assert known.body == body
        assert upstream.requests[0]["content-length"] == b"%d" % size
        middle = size // 2
        chunked = await client.request(
            post_chunked(*(part for part in (body[:middle], body[middle:]) if part))
        )
        assert chunked.body == body
        assert upstream.requests[1]["transfer-encoding"] == b"chunked"
        assert len(upstream.peers) == 1


async def test_an_empty_chunked_body() -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        assert (await client.request(post_chunked())).status == 200
        assert (upstream.requests[0].body, upstream.requests[0].chunks) == (b"", [])


@pytest.mark.parametrize(
    ("method", "length"), [("POST", [b"0"]), ("PUT", [b"0"]), ("DELETE", [b"0"]), ("GET", [])]
)
async def test_a_length_of_nothing_goes_on(method: str, length: list[bytes]) -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        await client.request(get("/", "Content-Length: 0", method=method))
        await client.request(get("/", method=method))
        assert [message.all("content-length") for message in upstream.requests] == [length, []]


async def test_trailers_that_nobody_asked_for_and_extensions_are_dropped() -> None:
    request = get("/", "Transfer-Encoding: chunked", "Trailer: X-Sum, Host", method="POST")
    request += b"3;a=b\r\nabc\r\n0;c\r\nX-Sum: 1\r\nHost: evil\r\nContent-Length: 9\r\n\r\n"
    reply = CHUNKED + b'2;x="y"\r\nok\r\n0\r\nX-Sum: 2\r\nSet-Cookie: a\r\n\r\n'
    async with Upstream(answering(reply)) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            response = await client.request(request)
            assert response.body == b"ok"
            assert {name for name, _ in response.headers} == {b"Date", b"Transfer-Encoding"}
        (seen,) = upstream.requests
        assert seen.body == b"abc"
        assert "x-sum" not in seen
        assert "trailer" not in seen
        assert b"evil" not in upstream.peers[0].received


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_content(status: int) -> None:
    replies = [
        b"HTTP/1.1 %d x\r\nETag: a\r\n\r\n" % status,
        b"HTTP/1.1 %d x\r\nETag: a\r\nContent-Length: 5\r\n\r\n" % status,
        b"HTTP/1.1 %d x\r\nETag: a\r\nTransfer-Encoding: chunked\r\n\r\n" % status,
    ]
    async with (
        Upstream(answering(*replies)) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        found = [await client.request(get()) for _ in replies]
        assert [response.status for response in found] == [status] * 3
        assert all(response["etag"] == b"a" for response in found)
        lengths = [response.all("content-length") for response in found]
        assert lengths == [[], [b"5"] if status == 304 else [], []]
        assert not any("transfer-encoding" in response for response in found)
        assert len(upstream.peers) == 1


async def test_205_keeps_its_length() -> None:
    reply = b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"
    async with (
        Upstream(answering(reply)) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        for _ in range(2):
            response = await client.request(get())
            assert (response.status, response["content-length"]) == (205, b"0")


async def test_head() -> None:
    replies = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n",
        CHUNKED,
        b"HTTP/1.1 404 Not Found\r\n\r\n",
    ]
    async with (
        Upstream(answering(*replies)) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        found = [await client.request(get(method="HEAD"), "HEAD") for _ in replies]
        assert [response.status for response in found] == [200, 200, 404]
        assert found[0]["content-length"] == b"12345"
        assert "content-length" not in found[1]
        assert len(upstream.peers) == 1
    async with serving("127.0.0.1:1") as prox, await prox.connect() as client:
        response = await client.request(get(method="HEAD"), "HEAD")
        assert response.status == 502
        assert int(response["content-length"]) > 0
        await client.request(get(method="HEAD"), "HEAD")


# Streams.


async def test_an_answer_is_passed_on_as_it_comes() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        for gate in gates:
            await gate.wait()
            await peer.send(b"5\r\nhello\r\n")
        await last.wait()
        await peer.send(b"0\r\n\r\n")

    last = asyncio.Event()
    gates = [asyncio.Event() for _ in range(3)]
    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await client.send(get())
        for gate in gates:
            gate.set()
            assert b"hello" in await client.take(5)
        last.set()
        assert await client.take(5) == b"0\r\n\r\n"


async def test_a_request_is_passed_on_as_it_comes() -> None:
    async def script(peer: UpstreamPeer) -> None:
        assert await peer.head() is not None
        heads.set()
        while b"one" not in peer.received:
            await peer.more()
        first.set()
        await peer.request()
        await peer.send(OK)

    heads, first = asyncio.Event(), asyncio.Event()
    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await client.send(get("/", "Transfer-Encoding: chunked", method="POST"))
        await heads.wait()  # the head does not wait for the body
        await client.send(b"3\r\none\r\n")
        await first.wait()
        await client.send(b"3\r\ntwo\r\n0\r\n\r\n")
        assert (await client.response()).status == 200
        assert upstream.requests[0].body == b"onetwo"


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


class Buffered:
    """The most that prox and its sockets' writers held."""

    def __init__(self, prox: Running) -> None:
        self._prox = prox
        self.most = 0

    def look(self) -> None:
        sizes = [c.transport.get_write_buffer_size() + len(c._buffer) for c in self._prox.connections]
        sizes += [
            c.transport.get_write_buffer_size() + len(c._buffer) for c in self._prox.upstream_connections
        ]
        self.most = max(self.most, *sizes, 0)


SIZE = 256 * 1024 * 1024


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_memory_stays_flat_over_a_large_answer(framing: str) -> None:
    piece = b"x" * (1 << 20)

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(
            CHUNKED if framing == "chunked" else b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE
        )
        for _ in range(SIZE // len(piece)):
            await peer.send(b"100000\r\n" + piece + b"\r\n" if framing == "chunked" else piece)
        if framing == "chunked":
            await peer.send(b"0\r\n\r\n")
        await peer.closed()

    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await client.send(get("/", "Connection: close"))
        watched = Buffered(prox)
        await until(lambda: any(connection.write_paused for connection in prox.connections))
        before = resident()
        taken = 0
        while data := await client.take(1):
            taken += len(data)
            watched.look()
        assert taken >= SIZE
        assert watched.most < 2 << 20
        assert resident() - before < 24 << 20


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_memory_stays_flat_over_a_large_request(framing: str) -> None:
    piece = b"x" * (1 << 20)
    go_on = asyncio.Event()
    received = 0

    async def script(peer: UpstreamPeer) -> None:
        nonlocal received
        await go_on.wait()
        while received < SIZE:
            data = await peer._reader.read(1 << 18)
            received += len(data)
            watched.look()
        if framing == "chunked":
            await asyncio.sleep(0.02)
        await peer.send(OK)

    async def send() -> None:
        for _ in range(SIZE // len(piece)):
            await client.send(b"100000\r\n" + piece + b"\r\n" if framing == "chunked" else piece)
        if framing == "chunked":
            await client.send(b"0\r\n\r\n")

    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        watched = Buffered(prox)
        head = "Transfer-Encoding: chunked" if framing == "chunked" else f"Content-Length: {SIZE}"
        await client.send(get("/", head, method="POST"))
        sending = spawn(send(), "send")
        await until(lambda: any(connection.is_paused for connection in prox.connections))
        before = resident()
        go_on.set()
        assert (await client.response()).status == 200
        await sending
        assert watched.most < 2 << 20
        assert resident() - before < 24 << 20


# Expect: 100-continue.


async def expectant() -> bytes:
    return get("/", "Content-Length: 5", "Expect: 100-continue", method="PUT")


async def test_100_continue_comes_from_the_upstream() -> None:
    async def script(peer: UpstreamPeer) -> None:
        head = await peer.head()
        assert head is not None
        assert head["expect"] == b"100-continue"
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.request()
        await peer.send(OK)

    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await client.send(await expectant())
        assert (await client.message()).status == 100
        await client.send(b"hello")
        assert (await client.message()).status == 200
        assert upstream.requests[0].body == b"hello"


async def test_100_continue_that_the_upstream_does_not_know() -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        await client.send(await expectant())
        await until(lambda: upstream.peers and b"\r\n\r\n" in upstream.peers[0].received)
        await client.send(b"hello")  # a client waits only so long
        response = await client.message()
        assert (response.status, upstream.requests[0].body) == (200, b"hello")
        assert "connection" not in response


async def test_a_body_that_is_not_waited_for() -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        await client.send(await expectant() + b"hello" + get())
        assert [(await client.message()).status for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("status", [b"417 Expectation Failed", b"401 Unauthorized"])
async def test_a_body_that_is_refused_before_it_came(status: bytes) -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.head()
        await peer.send(answer(b"no", status=status))
        await peer.closed()

    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await client.send(await expectant())
        response = await client.message()
        assert (response.status, response["connection"]) == (int(status[:3]), b"close")
        await client.closed()
        client.close()
        await prox.quiet(idle=0)


async def test_prox_itself_refuses_before_the_body() -> None:
    async with (
        serving({"match": {"path": "/a"}, "action": {"type": "drop"}}) as prox,
        await prox.connect() as client,
    ):
        await client.send(await expectant())
        response = await client.message()
        assert (response.status, response["connection"]) == (404, b"close")
        await client.closed()


async def test_an_expectation_of_http_1_0_is_ignored() -> None:
    request = b"PUT / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello"
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        assert (await client.request(request)).status == 200
        assert "expect" not in upstream.requests[0]


# Answers that come before the request is whole.


@pytest.mark.parametrize("framing", ["Content-Length: 100000000", "Transfer-Encoding: chunked"])
async def test_an_early_answer(framing: str) -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.head()
        await peer.send(answer(b"no", status=b"413 Too Large"))
        await peer.discard()

    data = b"x" * 65536
    piece = b"10000\r\n" + data + b"\r\n" if "chunked" in framing else data
    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await client.send(get("/", framing, method="POST"), piece)
        response = await client.response()
        assert (response.status, response.body, response["connection"]) == (413, b"no", b"close")
        await client.closed()
        client.close()
        await prox.quiet(idle=0)


async def test_an_early_answer_to_a_body_that_is_nearly_over() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.head()
        await peer.send(answer(b"no", status=b"413 Too Large"))
        await peer.discard()

    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await client.send(get("/", "Content-Length: 10", method="POST"), b"12345")
        response = await client.response()
        assert (response.status, "connection" in response) == (413, False)
        upstream.script = answering(OK)
        await client.send(b"67890", get())
        assert (await client.response()).status == 200
        assert len(upstream.peers) == 2  # the first was left in the middle of a request


async def test_an_answer_that_begins_early_and_ends_after_the_request() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.head()
        await peer.send(CHUNKED, b"2\r\nok\r\n")
        request = await peer.request()
        assert request is not None
        await peer.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(request.body), request.body))

    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await client.send(get("/", "Transfer-Encoding: chunked", method="POST"), b"3\r\nabc\r\n")
        assert b"ok" in await client.take(1)
        await client.send(b"3\r\ndef\r\n0\r\n\r\n")
        rest = await client.take(8)
        while not rest.endswith(b"0\r\n\r\n"):
            rest += await client.take(1)
        assert b"abcdef" in rest


# Requests that break off.


@pytest.mark.parametrize("kind", ["length", "chunked"])
@pytest.mark.parametrize("end", ["half_close", "close", "abort"])
async def test_a_client_that_breaks_off_its_upload(kind: str, end: str) -> None:
    async def script(peer: UpstreamPeer) -> None:
        assert await peer.request() is None  # never passed off as whole
        finished.set()

    finished = asyncio.Event()
    head = "Content-Length: 10" if kind == "length" else "Transfer-Encoding: chunked"
    async with Upstream(script) as upstream, serving(upstream.address) as prox:
        client = await prox.connect()
        await client.send(get("/", head, method="POST"), b"5\r\nab" if kind == "chunked" else b"abcd")
        await until(lambda: upstream.peers and upstream.peers[0].received.endswith((b"ab\r\n", b"abcd")))
        getattr(client, end)()
        await finished.wait()
        await prox.quiet(idle=0)
        client.close()


async def test_chunks_that_are_broken_abort_the_upstreams_request() -> None:
    async def script(peer: UpstreamPeer) -> None:
        assert await peer.request() is None

    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await client.send(get("/", "Transfer-Encoding: chunked", method="POST"), b"3\r\nabc\r\n")
        await until(lambda: upstream.peers and b"abc" in upstream.peers[0].received)
        await client.send(b"+3\r\nabc\r\n0\r\n\r\n")
        assert (await client.response()).status == 400
        await client.closed()
        client.close()
        await prox.quiet(idle=0)


async def test_chunks_that_are_broken_after_the_answer_began() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.head()
        await peer.send(CHUNKED + b"2\r\nok\r\n")
        assert await peer.request() is None

    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await client.send(get("/", "Transfer-Encoding: chunked", method="POST"), b"3\r\nabc\r\n")
        head = await client.head()
        assert head.status == 200
        await client.send(b"zz\r\n")
        with pytest.raises(CutError):
            await client.response()
        client.close()
        await prox.quiet(idle=0)


async def test_a_client_that_goes_in_the_middle_of_a_download() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(answer(b"x" * 100, length=1 << 40))
        while not peer.eof:
            await peer.send(b"x" * 65536)

    async with Upstream(script) as upstream, serving(upstream.address) as prox:
        client = await prox.connect()
        await client.send(get())
        await client.take(1_000_000)
        client.abort()
        await prox.quiet(idle=0)


@pytest.mark.parametrize(
    "framing", [b"Transfer-Encoding: chunked", b"Content-Length: 5", b"Connection: close"]
)
async def test_a_head_does_not_wait_for_its_body(framing: bytes) -> None:
    seen = asyncio.Event()

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n%b\r\n\r\n" % framing)
        await seen.wait()
        await peer.send(b"5\r\nhello\r\n0\r\n\r\n" if b"chunked" in framing else b"hello")
        if b"close" in framing:
            peer.close()

    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await client.send(get("/"))
        async with asyncio.timeout(10):
            head = await client.head()
        assert (head.status, head["content-type"]) == (200, b"text/event-stream")
        seen.set()
        expected = b"hello" if b"Length" in framing else b"5\r\nhello\r\n0\r\n\r\n"
        assert await client.take(len(expected)) == expected
