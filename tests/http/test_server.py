from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from prox.http import server as server_module
from prox.http import upload, watch
from prox.tasks import spawn
from support.client import Client, CutError, get, post, post_chunked
from support.servers import serving, until
from support.upstream import OK, Upstream, UpstreamPeer, answer, answering


async def test_keep_alive() -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            for number in range(5):
                assert (await client.request(get(f"/{number}"))).body == b"ok"
        assert [message.target for message in upstream.requests] == [b"/0", b"/1", b"/2", b"/3", b"/4"]
        assert len(upstream.peers) == 1
        await prox.quiet(idle=1)


async def test_the_connection_closes_where_the_client_asks_for_it() -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox:
        for request in [
            get("/", "Connection: close"),
            get("/", "Connection: x, Close"),
            b"GET / HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.0\r\nHost: a\r\nConnection: close\r\n\r\n",
        ]:
            async with await prox.connect() as client:
                response = await client.request(request)
                assert response["connection"] == b"close"
                await client.closed()
        # What one client asked for holds for no other.
        async with await prox.connect() as client:
            assert (await client.request(get())).status == 200
            assert (await client.request(get())).status == 200


async def test_http_1_0_keep_alive() -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        for _ in range(2):
            response = await client.request(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert response.line == b"HTTP/1.1 200 OK"
            assert response["connection"] == b"keep-alive"
            assert response["content-length"] == b"2"


async def test_http_1_0_gets_no_chunks() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with (
        Upstream(answering(chunked)) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        response = await client.request(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert response.body == b"abc"
        assert response["connection"] == b"close"
        assert "transfer-encoding" not in response


async def test_many_requests_in_one_packet_are_answered_in_order() -> None:
    async def script(peer: UpstreamPeer) -> None:
        while (request := await peer.request()) is not None:
            await peer.send(answer(request.target + b" " + request.body))

    requests = b"".join(
        [
            get("/0"),
            post(b"one", path="/1"),
            post_chunked(b"t", b"wo", path="/2"),
            get("/3"),
            b"\r\n" + get("/4"),
        ]
    )
    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await client.send(requests)
        bodies = [(await client.response()).body for _ in range(5)]
        assert bodies == [b"/0 ", b"/1 one", b"/2 two", b"/3 ", b"/4 "]
        assert len(upstream.peers) == 1


async def test_own_answers_to_many_requests_in_one_packet() -> None:
    route = {"match": {"path": "/a"}, "action": {"type": "static", "status": 200, "body_ref": {"text": "a"}}}
    async with serving(route) as prox, await prox.connect() as client:
        await client.send(b"".join(get("/a") if number % 2 else get("/b") for number in range(100)))
        assert [(await client.response()).status for _ in range(100)] == [404, 200] * 50


async def test_requests_wait_behind_one_that_takes_long() -> None:
    go_on = asyncio.Event()

    async def script(peer: UpstreamPeer) -> None:
        while (request := await peer.request()) is not None:
            if request.target == b"/0":
                await go_on.wait()
            await peer.send(answer(request.target))

    config = {"max_header_bytes": 2000}
    async with (
        Upstream(script) as upstream,
        serving(upstream.address, config=config) as prox,
        await prox.connect() as client,
    ):
        # More than is kept in memory: the rest waits in the socket, and nothing is lost.
        sending = spawn(client.send(*(get(f"/{number}") for number in range(400))), "test")
        await until(lambda: upstream.requests)
        await asyncio.sleep(0.05)
        (connection,) = prox.connections
        assert len(connection._buffer) < 300_000
        assert len(upstream.requests) <= 1
        go_on.set()
        for number in range(400):
            assert (await client.response()).body == b"/%d" % number
        await sending


async def test_a_client_that_does_not_read_gets_no_more_answers(tmp_path: Path) -> None:
    """Requests are small and answers large: unread answers must not pile up."""
    (tmp_path / "big").write_bytes(b"x" * 500_000)
    route = {"action": {"type": "static", "status": 200, "body_ref": {"file": "big"}}}
    async with serving(route, base=tmp_path) as prox:
        async with await prox.connect(receive_buffer=4096) as client:
            await client.send(get() * 60)
            (connection,) = prox.connections
            await until(lambda: connection.write_paused)
            await asyncio.sleep(0.05)
            assert connection.transport.get_write_buffer_size() < 2_000_000
            await client.send(get() * 20)
            await asyncio.sleep(0.02)
            assert connection.transport.get_write_buffer_size() < 2_000_000
            for _ in range(80):
                assert len((await client.response()).body) == 500_000
        await prox.quiet()


async def test_the_upstream_is_not_asked_for_a_client_that_does_not_read() -> None:
    async with (
        Upstream(answering(answer(b"x" * 1_000_000))) as upstream,
        serving(upstream.address) as prox,
        await prox.connect(receive_buffer=4096) as client,
    ):
        await client.send(get() * 25)
        (connection,) = prox.connections
        await until(lambda: connection.write_paused)
        await asyncio.sleep(0.05)
        assert connection.transport.get_write_buffer_size() < 3_000_000
        assert len(upstream.requests) < 10
        for _ in range(25):
            assert len((await client.response()).body) == 1_000_000


# Limits.


@pytest.mark.parametrize("pieces", [1, 2, 50])
@pytest.mark.parametrize(
    ("request_", "config", "status"),
    [
        (get("/" + "a" * 400), {"max_target_bytes": 300}, 414),
        (get("/" + "a" * 4000), {"max_target_bytes": 300, "max_header_bytes": 2000}, 414),
        (get("/", "X: " + "a" * 2000), {"max_header_bytes": 1000}, 431),
        (get("/", *(f"X-{number}: a" for number in range(20))), {"max_header_count": 20}, 431),
        (post(b"x" * 101), {"max_body_bytes": 100}, 413),
        (post_chunked(b"x" * 60, b"y" * 60), {"max_body_bytes": 100}, 413),
        (get(method="BREW"), {}, 501),
        (get().replace(b"HTTP/1.1", b"HTTP/2.0"), {}, 505),
        (get().replace(b"Host", b"Hosts"), {}, 400),
        (get().replace(b"\r\n", b"\n"), {}, 400),
        (get("/", "Expect: 200-ok"), {}, 417),
        (get("/", "Transfer-Encoding: gzip"), {}, 501),
        (get("http://other/"), {}, 400),
        (get("*"), {}, 400),
        (get("other:443", method="CONNECT"), {}, 400),
        (get("/", method="CONNECT"), {}, 400),
        (get("/", "Content-Length: 1", "Transfer-Encoding: chunked", method="POST") + b"0\r\n\r\n", {}, 400),
        (get("/", "Transfer-Encoding: chunked", method="POST") + b"5 \r\nhello\r\n0\r\n\r\n", {}, 400),
    ],
)
async def test_refused_messages_close_the_connection(
    request_: bytes, config: dict[str, int], status: int, pieces: int
) -> None:
    size = -(-len(request_) // pieces)
    async with Upstream() as upstream, serving(upstream.address, config=config) as prox:
        async with await prox.connect() as client:
            await client.send(get("/first"))
            assert (await client.response()).status == 200
            with suppress(ConnectionError):  # it is refused before the last piece
                await client.send(
                    *(request_[at : at + size] for at in range(0, len(request_), size)), get("/behind")
                )
            response = await client.response()
            assert response.status == status
            assert response["connection"] == b"close"
            assert response["content-type"] == b"text/plain; charset=utf-8"
            assert "date" in response
            await client.closed()
        await prox.quiet(connections=0)
        assert [message.target for message in upstream.requests] == [b"/first"]
        counted = prox.pipeline.counters.statuses
        assert counted[2] == 1
        assert counted[status // 100] == 1


@pytest.mark.parametrize("path", ["/a/../b", "/.", "/%2e%2e/x", "/a/%2E", "/a%5c..%5cb", "/a\\..\\b"])
async def test_dot_segments_are_refused(path: str) -> None:
    async with Upstream() as upstream:
        async with serving(upstream.address) as prox, await prox.connect() as client:
            assert (await client.request(get(path))).status == 400
            assert (await client.request(get("/fine"))).status == 200
        runtime = {"runtime": {"dot_segments": "pass"}}
        async with serving(upstream.address, root=runtime) as prox, await prox.connect() as client:
            assert (await client.request(get(path))).status == 200
    assert [message.target for message in upstream.requests] == [b"/fine", path.encode()]


async def test_connect_needs_a_route_that_takes_it() -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        assert (await client.request(get("a:1", method="CONNECT", host="a:1"))).status == 404
        assert not upstream.peers


async def test_requests_per_connection() -> None:
    config = {"max_requests_per_connection": 3}
    async with Upstream() as upstream, serving(upstream.address, config=config) as prox:
        async with await prox.connect() as client:
            await client.send(get() * 5)
            responses = [await client.response() for _ in range(3)]
            assert ["connection" in response for response in responses] == [False, False, True]
            await client.closed()
        assert len(upstream.requests) == 3


# Time.


async def test_a_head_that_trickles() -> None:
    config = {"read_header_timeout": "100ms"}
    async with serving("127.0.0.1:1", config=config) as prox, await prox.connect() as client:
        loop = asyncio.get_running_loop()
        before = loop.time()

        async def trickle() -> None:
            try:
                for byte in get("/" + "a" * 1000):
                    await client.send(bytes([byte]))
                    await asyncio.sleep(0.005)
            except ConnectionError:
                pass

        trickling = spawn(trickle(), "test")
        assert (await client.response()).status == 408
        await client.closed()
        assert loop.time() - before < 3  # all bytes would take more than 5
        trickling.cancel()


async def test_a_connection_without_a_request() -> None:
    async with (
        serving("127.0.0.1:1", config={"read_header_timeout": "50ms"}) as prox,
        await prox.connect() as client,
    ):
        await client.closed()


async def test_an_idle_connection() -> None:
    config = {"idle_timeout": "50ms"}
    async with Upstream() as upstream, serving(upstream.address, config=config) as prox:
        async with await prox.connect() as client:
            assert (await client.request(get())).status == 200
            await client.closed()
        await (await upstream.peer()).closed()
        await prox.quiet(idle=0)


async def test_an_idle_connection_with_unread_answers() -> None:
    config = {"idle_timeout": "100ms"}
    async with (
        Upstream(answering(answer(b"x" * 4_000_000))) as upstream,
        serving(upstream.address, config=config) as prox,
        await prox.connect(receive_buffer=4096) as client,
    ):
        await client.send(get("/", "Connection: close"))
        (connection,) = prox.connections
        await until(lambda: connection.write_paused)
        await client.take(3_600_000)
        await until(lambda: connection._exchange is None)
        await prox.quiet()  # although the client never reads the rest


async def test_read_timeout() -> None:
    config = {"read_timeout": "80ms"}
    async with Upstream() as upstream, serving(upstream.address, config=config) as prox:
        async with await prox.connect() as client:
            await client.send(get("/", "Content-Length: 10", method="POST"), b"123")
            assert (await client.response()).status == 408
            await client.closed()
        peer = await upstream.peer()
        await peer.closed()
        assert peer.requests == []
        await prox.quiet(idle=0)


async def test_min_body_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "BODY_GRACE", 0.1)
    monkeypatch.setattr(watch, "_LONGEST_SLEEP", 0.05)
    config = {"min_body_rate": 1_000_000}
    async with Upstream() as upstream, serving(upstream.address, config=config) as prox:
        async with await prox.connect() as client:
            await client.send(get("/", "Content-Length: 1000000", method="POST"), b"123")
            assert (await client.response()).status == 408
            await client.closed()
        # As fast as is asked for, and with a slow upstream: that is not the client's doing.
        go_on = asyncio.Event()

        async def slow(peer: UpstreamPeer) -> None:
            head = await peer.head()
            assert head is not None
            if head.target == b"/trickle":
                await peer.closed()
                return
            await go_on.wait()
            await peer.take(7_900_000)
            await peer.send(OK)

        upstream.script = slow
        async with await prox.connect() as client:
            body = b"x" * 8_000_000
            sending = spawn(client.send(post(body)), "test")
            await until(lambda: any(connection.is_paused for connection in prox.connections))
            async with await prox.connect() as other:  # one that is too slow, from later on
                await other.send(get("/trickle", "Content-Length: 1000000", method="POST"), b"123")
                assert (await other.response()).status == 408
            go_on.set()
            assert (await client.response()).status == 200
            await sending


async def test_write_timeout() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(answer(b"abc", length=10))
        await peer.closed()

    config = {"write_timeout": "80ms"}
    async with Upstream(script) as upstream, serving(upstream.address, config=config) as prox:
        async with await prox.connect() as client:
            await client.send(get())
            with pytest.raises(CutError):
                await client.response()
        await prox.quiet(idle=0)


# What nobody reads.


async def test_the_rest_of_a_small_body_is_read_away() -> None:
    async with (
        serving({"match": {"path": "/a"}, "action": {"type": "drop"}}) as prox,
        await prox.connect() as client,
    ):
        await client.send(get("/", "Content-Length: 1000", method="POST"))
        assert (await client.response()).status == 404
        await client.send(b"x" * 1000, get("/b"))
        assert (await client.response()).status == 404


async def test_the_rest_of_a_body_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "DRAIN_SECONDS", 0.05)
    monkeypatch.setattr(server_module, "LINGER", 0.05)
    async with (
        serving({"match": {"path": "/a"}, "action": {"type": "drop"}}) as prox,
        await prox.connect() as client,
    ):
        response = await client.request(get("/", "Content-Length: 1000", method="POST"))
        assert (response.status, "connection" in response) == (404, False)
        await client.closed()
        await prox.quiet()


@pytest.mark.parametrize("framing", ["Content-Length: 100000000", "Transfer-Encoding: chunked"])
async def test_a_refused_client_that_still_sends_reads_its_answer(framing: str) -> None:
    """The connection is not reset under the answer: it lingers while the client sends."""
    piece = b"x" * 65536 if framing.startswith("C") else b"10000\r\n" + b"x" * 65536 + b"\r\n"
    async with (
        serving({"match": {"path": "/a"}, "action": {"type": "drop"}}) as prox,
        await prox.connect() as client,
    ):
        await client.send(get("/", framing, method="POST"))
        for _ in range(100):
            await client.send(piece)
        response = await client.response()
        assert (response.status, response["connection"]) == (404, b"close")


async def test_a_client_whose_body_is_refused_at_once_reads_its_answer() -> None:
    async with serving("127.0.0.1:1") as prox, await prox.connect() as client:
        await client.send(get("/", "Transfer-Encoding: chunked", method="POST") + b"nonsense\r\n")
        for _ in range(100):
            await client.send(b"x" * 65536)
        response = await client.response()
        assert (response.status, response["connection"]) == (400, b"close")


async def test_a_refused_client_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "LINGER", 0.05)
    async with serving("127.0.0.1:1") as prox, await prox.connect() as client:
        await client.send(b"nonsense\r\n\r\n")
        assert (await client.response()).status == 400
        await prox.quiet()


# Clients that go.


async def test_a_fin_means_that_the_client_has_gone() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.closed()

    async with Upstream(script) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            await client.send(get())
            peer = await upstream.peer()
            await until(lambda: peer.requests)
            client.half_close()
            await client.closed()
            await peer.closed()
        await prox.quiet(idle=0)


async def test_a_client_that_hangs_up_while_prox_does_not_read_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "_LONGEST_SLEEP", 0.05)
    stalled = asyncio.Event()

    async def script(peer: UpstreamPeer) -> None:
        await peer.head()
        await stalled.wait()

    async with Upstream(script) as upstream, serving(upstream.address) as prox:
        client = await prox.connect()
        await client.send(get("/", "Content-Length: 100000000", method="POST"))
        sending = spawn(client.send(b"x" * 100_000_000), "send")
        (connection,) = prox.connections
        await until(lambda: connection.is_paused)
        timer = connection._watch
        assert timer is not None
        dues = [timer.next]
        while len(dues) < 3:  # it is looked after twice, and let be
            await until(lambda: timer.next != dues[-1])
            dues.append(timer.next)
        assert prox.connections == [connection]
        sending.cancel()
        client.abort()
        await prox.quiet(idle=0)
        stalled.set()


@pytest.mark.alone
async def test_empty_lines_before_a_request() -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        loop = asyncio.get_running_loop()
        assert (await client.request(b"\r\n" + get())).status == 200
        await client.send(b"\r\n")
        await client.send(b"\r", b"\n", get())
        assert (await client.response()).status == 200
        before = loop.time()
        await client.send(b"\r\n" * 500_000, get())
        assert (await client.response()).status == 200
        assert loop.time() - before < 1.5


# Addresses.


async def test_a_unix_listener(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    async with Upstream() as upstream:
        async with serving(upstream.address, listen=f"unix://{path}"):
            async with await Client.connect(str(path)) as client:
                assert (await client.request(get())).status == 200
            assert upstream.requests[0]["x-forwarded-for"] == b"unknown"
        assert not path.exists()


async def test_both_families() -> None:
    async with Upstream() as upstream, serving(upstream.address, listen=":0") as prox:
        assert isinstance(prox.address, tuple)
        port = prox.address[1]
        for host, shown in [("127.0.0.1", b"127.0.0.1"), ("::1", b"::1")]:
            async with await Client.connect((host, port)) as client:
                await client.request(get())
            assert upstream.requests[-1]["x-forwarded-for"] == shown
