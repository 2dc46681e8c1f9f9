"""HTTP/2 to upstreams, against the `h2` library and against peers that break its rules."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from prox.tasks import spawn
from support.client import CutError, get, post, post_chunked
from support.h2_server import Headers, Http2Peer, speaking
from support.servers import serving, until, write_sdk_plugin
from support.upstream import Upstream, UpstreamPeer

MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4

Talk = Callable[[Http2Peer], Awaitable[None]]


def h2(upstream: Upstream, **action: Any) -> dict[str, Any]:
    return {"action": {"type": "proxy", "upstream": upstream.address, "proto": "h2", **action}}


async def serve(peer: Http2Peer) -> None:
    await peer.serve()


async def test_a_request_becomes_fields() -> None:
    peers: list[Http2Peer] = []
    async with (
        Upstream(speaking(serve, peers)) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        response = await client.request(
            get("/a%2Fb?c=d", "X-Name: Value", "Connection: x-drop", "X-Drop: 1", "Cookie: a=1", "TE: gzip")
        )
        assert (response.status, response.body, response.line) == (200, b"ok", b"HTTP/1.1 200 OK")
        request = await peers[0].request()
        assert request.headers == [
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":authority", upstream.address.encode()),
            (b":path", b"/a%2Fb?c=d"),
            (b"x-name", b"Value"),
            (b"x-forwarded-for", b"127.0.0.1"),
            (b"x-forwarded-proto", b"http"),
            (b"x-forwarded-host", b"test.example"),
            (b"cookie", b"a=1"),  # the library puts it there
        ]
        await prox.quiet(idle=1, connections=1)


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 100_000, b"x" * 1_000_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_go_up_whole(body: bytes, chunked: bool) -> None:
    peers: list[Http2Peer] = []
    async with (
        Upstream(speaking(serve, peers)) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        sent = post_chunked(*([body] if body else [])) if chunked else post(body)
        assert (await client.request(sent)).status == 200
        request = await peers[0].request()
        assert request.body == body
        assert ("content-length" in request) is not chunked


@pytest.mark.parametrize("size", [0, 1, 16_384, 1_000_000])
async def test_bodies_come_down_whole(size: int) -> None:
    async def talk(peer: Http2Peer) -> None:
        request = await peer.request()
        connection = peer.connection
        connection.send_headers(request.stream, [(b":status", b"200"), (b"content-length", b"%d" % size)])
        left = size
        while left:
            room = min(
                connection.local_flow_control_window(request.stream), connection.max_outbound_frame_size, left
            )
            if room:
                connection.send_data(request.stream, bytes(room))
                left -= room
                await peer.flush()
            else:
                await peer.more()
        connection.end_stream(request.stream)
        await peer.flush()
        await peer.serve()

    async with (
        Upstream(speaking(talk)) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        response = await client.request(get())
        assert len(response.body) == size
        await prox.quiet(idle=1, connections=1)


async def test_requests_share_connections() -> None:
    peers: list[Http2Peer] = []

    async def talk(peer: Http2Peer) -> None:
        await peer.until(lambda: sum(len(each.requests) for each in peers) == 20)
        release.set()
        await release.wait()
        for stream in list(peer.requests):
            await peer.answer(stream)
        await peer.serve()

    release = asyncio.Event()
    async with Upstream(speaking(talk, peers)) as upstream, serving(h2(upstream)) as prox:
        clients = [await prox.connect() for _ in range(20)]
        responses = await asyncio.gather(*(client.request(get()) for client in clients))
        assert {response.status for response in responses} == {200}
        assert len(upstream.peers) == 1
        for client in clients:
            client.close()
        await prox.quiet(idle=1)


async def test_more_streams_than_the_upstream_takes() -> None:
    peers: list[Http2Peer] = []
    most = 0

    async def talk(peer: Http2Peer) -> None:
        nonlocal most
        while await peer.more():
            waiting = [stream for stream, request in peer.requests.items() if request.ended]
            most = max(most, len(waiting))
            for stream in waiting:
                del peer.requests[stream]
                await peer.answer(stream)

    settings = {MAX_CONCURRENT_STREAMS: 2}
    async with (
        Upstream(speaking(talk, peers, settings)) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as first,
    ):
        assert (await first.request(get())).status == 200
        clients = [await prox.connect() for _ in range(9)]
        responses = await asyncio.gather(*(client.request(get()) for client in clients))
        assert {response.status for response in responses} == {200}
        assert most <= 2
        assert len(upstream.peers) >= 2
        for client in clients:
            client.close()


async def test_connects_are_joined_and_one_that_leaves_does_not_end_them_for_others() -> None:
    peers: list[Http2Peer] = []
    async with Upstream(speaking(serve, peers)) as upstream, serving(h2(upstream)) as prox:
        leaver, stayer = await prox.connect(), await prox.connect()
        await leaver.send(get())
        leaver.abort()
        assert (await stayer.request(get())).status == 200
        stayer.close()
        assert len(upstream.peers) == 1
        await prox.quiet(idle=1)


async def test_interim_heads_and_trailers() -> None:
    async def talk(peer: Http2Peer) -> None:
        request = await peer.request()
        await peer.raw_headers(request.stream, [(b":status", b"103"), (b"link", b"</a>")], end=False)
        await peer.raw_headers(request.stream, [(b":status", b"200"), (b"trailer", b"x-sum")], end=False)
        await peer.frame(0x0, 0, request.stream, b"ok")
        await peer.raw_headers(request.stream, [(b"x-sum", b"1"), (b"content-length", b"9")])
        await peer.serve()

    async with (
        Upstream(speaking(talk)) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        client.takes_trailers = True
        await client.send(get("/", "TE: trailers", "Connection: TE"))
        interim = await client.message()
        assert (interim.status, interim["link"]) == (103, b"</a>")
        response = await client.response()
        assert response.body == b"ok"
        assert response.trailers == [(b"x-sum", b"1")]
        await prox.quiet(idle=1, connections=1)


async def test_te_and_trailers_go_up() -> None:
    peers: list[Http2Peer] = []
    async with (
        Upstream(speaking(serve, peers)) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\r\n"
        response = await client.request(head + b"3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n")
        assert response.status == 200
        request = await peers[0].request()
        assert request["te"] == b"trailers"
        assert request.body == b"abc"
        assert request.trailers == [(b"x-sum", b"6")]


async def test_via_tells_the_protocol() -> None:
    async with (
        Upstream(speaking(serve)) as upstream,
        serving(h2(upstream), config={"via": "prox"}) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get()))["via"] == b"2.0 prox"


@pytest.mark.parametrize("status", [b"204", b"304"])
async def test_answers_without_a_body(status: bytes) -> None:
    async def talk(peer: Http2Peer) -> None:
        while True:
            request = await peer.request(len(peer.requests) and len(peer.requests) - 1)
            await peer.answer(request.stream, b"", (b"content-length", b"5"), status=status)
            if not await peer.more():
                return

    async with (
        Upstream(speaking(talk)) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == int(status)
        assert (await client.request(get())).status == int(status)
        assert len(upstream.peers) == 1


async def test_head() -> None:
    async def talk(peer: Http2Peer) -> None:
        request = await peer.request()
        await peer.answer(request.stream, b"", (b"content-length", b"5"))
        await peer.serve()

    async with (
        Upstream(speaking(talk)) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        response = await client.request(get(method="HEAD"), "HEAD")
        assert response["content-length"] == b"5"
        assert (await client.request(get())).body == b"ok"


# What breaks the rules.

OK: Headers = [(b":status", b"200")]

MALFORMED: dict[str, Headers] = {
    "no status": [(b"a", b"b")],
    "a status of two digits": [(b":status", b"20")],
    "101": [(b":status", b"101")],
    "status twice": [*OK, *OK],
    "another pseudo-field": [*OK, (b":path", b"/")],
    "a pseudo-field behind others": [(b"a", b"b"), *OK],
    "upper case": [*OK, (b"X-Name", b"b")],
    "a line end in a value": [*OK, (b"a", b"b\r\nc: d")],
    "NUL in a value": [*OK, (b"a", b"b\0c")],
    "a blank at the end": [*OK, (b"a", b"b ")],
    "a colon in a name": [*OK, (b"a:b", b"c")],
    "connection": [*OK, (b"connection", b"close")],
    "transfer-encoding": [*OK, (b"transfer-encoding", b"chunked")],
    "content-length twice": [*OK, (b"content-length", b"2"), (b"content-length", b"3")],
    "content-length that is none": [*OK, (b"content-length", b"two")],
    "a body that does not come": [*OK, (b"content-length", b"2")],
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_answers_are_502(name: str) -> None:
    async def talk(peer: Http2Peer) -> None:
        request = await peer.request()
        await peer.raw_headers(request.stream, MALFORMED[name])
        await peer.until(lambda: request.stream in peer.resets)

    async with (
        Upstream(speaking(talk)) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 502
        assert prox.pipeline.counters.upstream_faults == {"malformed": 1}
        await prox.quiet(connections=1)


@pytest.mark.parametrize("length", [1, 3])
async def test_data_that_does_not_fit_content_length_is_cut(length: int) -> None:
    async def talk(peer: Http2Peer) -> None:
        request = await peer.request()
        await peer.raw_headers(request.stream, [*OK, (b"content-length", b"%d" % length)], end=False)
        await peer.frame(0x0, 0x1, request.stream, b"ok")
        await peer.until(lambda: request.stream in peer.resets)

    async with (
        Upstream(speaking(talk)) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        await client.send(get())
        with pytest.raises(CutError):
            await client.response()
        await prox.quiet()


@pytest.mark.parametrize(("method", "status"), [("HEAD", b"200"), ("GET", b"204"), ("GET", b"304")])
async def test_a_body_where_none_may_be_goes_nowhere(method: str, status: bytes) -> None:
    async def talk(peer: Http2Peer) -> None:
        request = await peer.request()
        await peer.raw_headers(request.stream, [(b":status", status)], end=False)
        await peer.frame(0x0, 0x1, request.stream, b"HTTP/1.1 200 OK\r\n\r\n")
        await peer.until(lambda: request.stream in peer.resets)

    async with (
        Upstream(speaking(talk)) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        await client.send(get(method=method))
        await until(lambda: prox.pipeline.counters.upstream_faults == {"malformed": 1})
        await client.discard()
        await prox.quiet()


async def test_a_head_that_is_too_large() -> None:
    async def talk(peer: Http2Peer) -> None:
        request = await peer.request()
        await peer.raw_headers(request.stream, [*OK, (b"a", b"b" * 9000)])
        await peer.until(lambda: request.stream in peer.resets)

    config = {"max_response_header_bytes": 8192}
    async with (
        Upstream(speaking(talk)) as upstream,
        serving(h2(upstream), config=config) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 502
        assert prox.pipeline.counters.upstream_faults == {"header_size": 1}


async def too_many_interims(peer: Http2Peer) -> None:
    request = await peer.request()
    for _ in range(40):
        await peer.raw_headers(request.stream, [(b":status", b"103")], end=False)
    await peer.until(lambda: request.stream in peer.resets)


async def http_1(peer: Http2Peer) -> None:
    await peer.peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await peer.peer.closed()


async def data_first(peer: Http2Peer) -> None:
    request = await peer.request()
    await peer.frame(0x0, 0x1, request.stream, b"ok")
    await peer.until(lambda: request.stream in peer.resets)


async def push(peer: Http2Peer) -> None:
    request = await peer.request()
    await peer.frame(0x5, 0x4, request.stream, struct.pack(">L", 2) + peer.encoder.encode(OK))
    await peer.peer.closed()


async def broken_hpack(peer: Http2Peer) -> None:
    request = await peer.request()
    await peer.frame(0x1, 0x5, request.stream, b"\xff\xff\xff\xff\xff\xff")
    await peer.peer.closed()


async def too_large_frame(peer: Http2Peer) -> None:
    request = await peer.request()
    await peer.raw_headers(request.stream, OK, end=False)
    await peer.frame(0x0, 0, request.stream, bytes(200_000))
    await peer.peer.closed()


@pytest.mark.parametrize("talk", [too_many_interims, http_1, data_first, push, broken_hpack])
async def test_broken_rules_are_502(talk: Talk) -> None:
    async with (
        Upstream(speaking(talk)) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        await client.send(get())
        response = await client.response()
        while response.status < 200:
            response = await client.response()
        assert response.status == 502
        assert prox.pipeline.counters.upstream_faults == {"malformed": 1}
        upstream.script = speaking(serve)
        assert (await client.request(get())).status == 200


async def test_a_broken_rule_of_the_connection_cuts_every_answer() -> None:
    async with Upstream(speaking(too_large_frame)) as upstream, serving(h2(upstream)) as prox:
        client = await prox.connect()
        await client.send(get())
        with pytest.raises(CutError):
            await client.response()
        client.close()
        await prox.quiet(idle=0)


# The ends of streams and connections.


def resetting(code: int) -> Talk:
    async def talk(peer: Http2Peer) -> None:
        request = await peer.request()
        await peer.frame(0x3, 0, request.stream, struct.pack(">L", code))
        await peer.serve()

    return talk


@pytest.mark.parametrize(
    ("code", "kind"), [(2, "upstream_reset"), (8, "upstream_reset"), (13, "upstream_reset")]
)
async def test_a_reset_stream_is_502(code: int, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async with (
        Upstream(speaking(resetting(code))) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 502
        assert prox.pipeline.counters.upstream_faults == {kind: 1}
        assert (await client.request(get())).status == 200
        assert len(upstream.peers) == 1


async def test_a_reset_in_the_middle_is_seen_by_the_client() -> None:
    async def talk(peer: Http2Peer) -> None:
        request = await peer.request()
        await peer.raw_headers(request.stream, OK, end=False)
        await peer.frame(0x0, 0, request.stream, b"some")
        await peer.frame(0x3, 0, request.stream, struct.pack(">L", 0))
        await peer.serve()

    async with (
        Upstream(speaking(talk)) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        await client.send(get())
        with pytest.raises(CutError):
            await client.response()
        assert prox.pipeline.counters.upstream_faults == {"upstream_truncated": 1}


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("DELETE", 200), ("POST", 502)])
async def test_a_refused_stream_is_sent_again_unless_it_has_a_body(method: str, status: int) -> None:
    async with (
        Upstream(speaking(resetting(7))) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        request = post(b"body") if method == "POST" else get(method=method)
        assert (await client.request(request)).status == status
        await prox.quiet(connections=1)


async def test_an_upstream_that_always_refuses_is_asked_a_few_times() -> None:
    async def talk(peer: Http2Peer) -> None:
        while await peer.more():
            for stream in list(peer.requests):
                if stream not in refused:
                    refused.append(stream)
                    await peer.frame(0x3, 0, stream, struct.pack(">L", 7))

    refused: list[int] = []
    async with (
        Upstream(speaking(talk)) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 502
        assert len(refused) == 4
        assert prox.pipeline.counters.upstream_faults == {"upstream_refused": 1}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_goaway_before_a_request_was_begun(method: str) -> None:
    """RFC 9113 section 6.8: what is above the last id was not processed."""
    first = True

    async def talk(peer: Http2Peer) -> None:
        nonlocal first
        await peer.request()
        if first:
            first = False
            await peer.frame(0x7, 0, 0, struct.pack(">LL", 0, 0))
            await peer.peer.closed()
        else:
            await peer.answer(1)
            await peer.serve()

    async with (
        Upstream(speaking(talk)) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get(method=method))).status == 200
        assert len(upstream.peers) == 2
        assert not prox.pipeline.counters.upstream_faults


async def test_goaway_lets_what_runs_end_and_sends_the_next_elsewhere() -> None:
    async def talk(peer: Http2Peer) -> None:
        request = await peer.request()
        if len(upstream.peers) == 1:
            await peer.frame(0x7, 0, 0, struct.pack(">LL", request.stream, 0))
        await peer.answer(request.stream)
        await peer.serve()

    async with (
        Upstream(speaking(talk)) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 200
        await until(lambda: upstream.peers[0].eof)
        assert (await client.request(get())).status == 200
        assert len(upstream.peers) == 2
        await prox.quiet(idle=1, connections=1)


@pytest.mark.parametrize(("again", "status"), [(get(), 200), (post(b"x"), 502)])
async def test_a_connection_that_was_used_ends_without_an_answer(again: bytes, status: int) -> None:
    async def talk(peer: Http2Peer) -> None:
        await peer.answer((await peer.request()).stream)
        if len(upstream.peers) == 1:
            await peer.head(1)
            peer.peer.close()
        else:
            await peer.serve()

    async with (
        Upstream(speaking(talk)) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 200
        assert (await client.request(again)).status == status
        await prox.quiet(connections=1)


async def test_a_client_that_leaves_resets_its_stream_alone() -> None:
    async def talk(peer: Http2Peer) -> None:
        await peer.until(lambda: len(peer.requests) == 2)
        await peer.until(lambda: peer.resets)
        (left,) = set(peer.requests) - set(peer.resets)
        assert set(peer.resets.values()) == {8}
        await peer.answer(left)
        await peer.serve()

    async with Upstream(speaking(talk)) as upstream, serving(h2(upstream)) as prox:
        leaver, stayer = await prox.connect(), await prox.connect()
        await leaver.send(get())
        await stayer.send(get())
        await until(lambda: len(prox.pools.open) == 1)
        leaver.close()
        assert (await stayer.response()).status == 200
        stayer.close()
        await prox.quiet(idle=1)


async def test_an_answer_before_the_end_of_the_request() -> None:
    async def talk(peer: Http2Peer) -> None:
        request = await peer.head()
        await peer.answer(request.stream, b"enough")
        await peer.until(lambda: request.stream in peer.resets)
        assert peer.resets[request.stream] == 0
        await peer.serve()

    async with (
        Upstream(speaking(talk)) as upstream,
        serving(h2(upstream)) as prox,
        await prox.connect() as client,
    ):
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
        response = await client.response()
        assert response.body == b"enough"
        await prox.quiet(idle=1)


# Pressure.


async def test_an_upstream_that_takes_no_body_holds_its_client_back() -> None:
    peers: list[Http2Peer] = []

    async def talk(peer: Http2Peer) -> None:
        peer.automatic = False
        request = await peer.head()
        await peer.until(lambda: len(request.body) == 65_535)
        await resume.wait()
        connection = peer.connection
        connection.increment_flow_control_window(8 << 20)
        connection.increment_flow_control_window(8 << 20, request.stream)
        await peer.flush()
        await peer.until(lambda: request.ended)
        await peer.answer(request.stream, b"%d" % len(request.body))
        await peer.serve()

    resume = asyncio.Event()
    size = 8 << 20
    async with Upstream(speaking(talk, peers)) as upstream, serving(h2(upstream)) as prox:
        client = await prox.connect()
        sending = spawn(client.send(post(bytes(size))), "upload")
        await until(lambda: peers and peers[0].requests and len(peers[0].requests[1].body) == 65_535)
        (connection,) = prox.pools.open
        (stream,) = connection._streams.values()  # type: ignore[union-attr] # HTTP/2
        await until(lambda: stream._body_paused)
        assert stream._backlog is not None
        assert stream._backlog.size < 1 << 20
        assert not sending.done()
        resume.set()
        await sending
        assert (await client.response()).body == b"%d" % size
        client.close()
        await prox.quiet(idle=1)


async def test_a_slow_client_holds_its_stream_back_and_no_other() -> None:
    sent = 0

    async def talk(peer: Http2Peer) -> None:
        nonlocal sent
        slow = await peer.request()
        connection = peer.connection
        connection.send_headers(slow.stream, OK)
        while len(peer.requests) < 2:
            room = min(connection.local_flow_control_window(slow.stream), connection.max_outbound_frame_size)
            if room:
                connection.send_data(slow.stream, bytes(room))
                sent += room
                await peer.flush()
            else:
                await peer.more()
        quick = await peer.request(1)
        await peer.answer(quick.stream, b"quick")
        await peer.serve()

    async with Upstream(speaking(talk)) as upstream, serving(h2(upstream)) as prox:
        slow = await prox.connect(receive_buffer=8192)
        await slow.send(get())
        before = -1
        while before != sent or not sent:  # until it stands
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 32 << 20
        async with await prox.connect() as client:
            assert (await client.request(get())).body == b"quick"
        slow.abort()
        await prox.quiet(idle=1)


# Time.


async def silent(peer: Http2Peer) -> None:
    while await peer.more():
        pass


async def test_an_upstream_that_does_not_answer_in_time() -> None:
    peers: list[Http2Peer] = []
    async with (
        Upstream(speaking(silent, peers)) as upstream,
        serving(h2(upstream), config={"response_header_timeout": 0.1}) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 504
        assert prox.pipeline.counters.upstream_faults == {"upstream_timeout": 1}
        await until(lambda: peers[0].resets == {1: 8})
        await prox.quiet(idle=1, connections=1)


async def test_an_upstream_that_takes_no_body_in_time() -> None:
    async def talk(peer: Http2Peer) -> None:
        peer.automatic = False
        await silent(peer)

    async with (
        Upstream(speaking(talk)) as upstream,
        serving(h2(upstream), config={"response_header_timeout": 0.2}) as prox,
        await prox.connect() as client,
    ):
        sending = spawn(client.send(post(bytes(8 << 20))), "upload")
        assert (await client.response()).status == 504
        assert prox.pipeline.counters.upstream_faults == {"upstream_timeout": 1}
        sending.cancel()


async def test_an_unused_connection_is_closed_with_goaway() -> None:
    peers: list[Http2Peer] = []

    async def talk(peer: Http2Peer) -> None:
        await peer.serve()

    async with (
        Upstream(speaking(talk, peers)) as upstream,
        serving(h2(upstream), config={"idle_timeout": 0.1}) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 200
        await until(lambda: upstream.peers[0].eof)
        assert peers[0].goaway == 0
        await prox.quiet(idle=0)


async def test_a_silent_upstream_is_pinged_and_left_where_it_does_not_answer() -> None:
    peers: list[Http2Peer] = []

    async def deaf(peer: UpstreamPeer) -> None:
        await peer.discard()

    config = {"h2_read_idle_timeout": 0.05, "h2_ping_timeout": 0.1, "response_header_timeout": "1m"}
    async with (
        Upstream(deaf) as upstream,
        serving(h2(upstream), config=config) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 504
        await prox.quiet(idle=0, connections=1)
    async with (
        Upstream(speaking(silent, peers)) as upstream,
        serving(h2(upstream), config=config) as prox,
        await prox.connect() as client,
    ):
        await client.send(get())
        await until(lambda: peers and peers[0].pings > 3)
        await peers[0].answer(1)
        assert (await client.response()).status == 200


async def test_no_more_unused_connections_than_wanted() -> None:
    async with (
        Upstream(speaking(serve)) as upstream,
        serving(h2(upstream), config={"max_idle_conns": 0}) as prox,
        await prox.connect() as client,
    ):
        for _ in range(2):
            assert (await client.request(get())).status == 200
            await prox.quiet(idle=0, connections=1)
        assert len(upstream.peers) == 2


async def test_max_connections_counts_requests() -> None:
    peers: list[Http2Peer] = []
    release = asyncio.Event()

    async def talk(peer: Http2Peer) -> None:
        answered = 0
        while await peer.more():
            await release.wait()
            for stream in list(peer.requests)[answered:]:
                answered += 1
                if stream not in peer.resets:
                    await peer.answer(stream)

    async with (
        Upstream(speaking(talk, peers)) as upstream,
        serving(h2(upstream, max_connections=2)) as prox,
    ):
        clients = [await prox.connect() for _ in range(3)]
        responses = [spawn(client.request(get()), "request") for client in clients]
        done, _ = await asyncio.wait(responses, return_when=asyncio.FIRST_COMPLETED)
        assert [each.result().status for each in done] == [503]
        release.set()
        assert sorted([(await each).status for each in responses]) == [200, 200, 503]
        for client in clients:
            client.close()


async def test_a_connection_that_names_its_client_is_that_clients_alone() -> None:
    named: list[bytes] = []

    async def script(peer: UpstreamPeer) -> None:
        while b"\r\n" not in peer._rest:
            await peer.more()
        line, _, peer._rest = peer._rest.partition(b"\r\n")
        named.append(line)
        spoken = Http2Peer(peer)
        await spoken.start()
        for event in spoken.connection.receive_data(peer._rest):
            spoken._take(event)
        peer._rest = b""
        await spoken.flush()
        await spoken.answer((await spoken.request()).stream)
        await spoken.serve()

    async with Upstream(script) as upstream, serving(h2(upstream, send_proxy=1)) as prox:
        for _ in range(2):
            async with await prox.connect() as client:
                assert (await client.request(get())).status == 200
                await prox.quiet(idle=0, connections=1)
        assert [line.split(b" ")[:2] for line in named] == [[b"PROXY", b"TCP4"]] * 2


async def test_a_plugin_sees_an_answer_before_its_client(tmp_path: Path) -> None:
    """Its body waits in the window meanwhile."""
    plugin = write_sdk_plugin(
        tmp_path,
        """
        @plugin.on_response
        async def mark(response):
            await asyncio.sleep(0.05)
            return response.modify(headers={"X-Seen": str(response.status)})
        """,
    )
    big = bytes(300_000)

    async def talk(peer: Http2Peer) -> None:
        request = await peer.request()
        connection = peer.connection
        connection.send_headers(request.stream, OK)
        sent = 0
        while sent < len(big):
            room = min(
                connection.local_flow_control_window(request.stream),
                connection.max_outbound_frame_size,
                len(big) - sent,
            )
            if room:
                connection.send_data(request.stream, big[sent : sent + room])
                sent += room
                await peer.flush()
            else:
                await peer.more()
        connection.end_stream(request.stream)
        await peer.flush()
        await peer.serve()

    async with (
        Upstream(speaking(talk)) as upstream,
        serving({**h2(upstream), "plugins": [plugin]}) as prox,
        await prox.connect() as client,
    ):
        response = await client.request(get())
        assert response["x-seen"] == b"200"
        assert response.body == big
        await prox.quiet(idle=1, connections=1)
