"""A client's HTTP/2 connection in front of the real pipeline: requests, bodies, ends, and what the upstream gets of them."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from prox.http.h2.exchange import Http2Exchange
from prox.tasks import spawn
from support.h2_client import H2Client
from support.servers import Running, make_config, read_log, serving, until
from support.upstream import OK, Script, Upstream, UpstreamPeer, answer, answering, sending

H2C = {"h2c": True}


def h2c(**config: object) -> dict[str, Any]:
    return {**H2C, **config}


async def connect(prox: Running, **kwargs: Any) -> H2Client:
    return await H2Client.connect(prox.address, **kwargs)


@asynccontextmanager
async def talking(
    script: Script | None = None, **config: object
) -> AsyncIterator[tuple[Upstream, Running, H2Client]]:
    """An upstream, a prox in front of it, and a client of that."""
    async with (
        Upstream(script) as upstream,
        serving(upstream.address, config=h2c(**config)) as prox,
        await connect(prox) as client,
    ):
        yield upstream, prox, client


async def test_a_request_and_its_answer() -> None:
    async with talking(answering(answer(b"hello", b"Content-Type: text/plain", b"X-A: 1", b"X-A: 2"))) as (
        upstream,
        prox,
        client,
    ):
        got = await client.get(
            "/a%2Fb?c=d", (b"user-agent", b"test"), (b"cookie", b"a=1"), (b"cookie", b"b=2")
        )
        assert (got.status, got.body, got.ended) == (200, b"hello", True)
        names = [name for name, _ in got.fields]
        assert names == [b"content-type", b"x-a", b"x-a", b"date", b"content-length"]
        assert upstream.peers[0].received == (
            b"GET /a%%2Fb?c=d HTTP/1.1\r\nHost: %b\r\nuser-agent: test\r\ncookie: a=1; b=2\r\n"
            b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: test.example\r\n\r\n"
            % upstream.address.encode()
        )
        await client.close()
        await prox.quiet(idle=1)


async def test_http_1_1_on_the_same_port() -> None:
    async with (
        Upstream() as upstream,
        serving(upstream.address, config=H2C) as prox,
        await prox.connect() as client,
    ):
        await client.send(b"P", b"ROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.message("PROPFIND")).body == b"ok"
        await client.send(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        )
        assert (await client.message()).line == b"HTTP/1.1 200 OK"
        assert b"h2c" not in upstream.requests[1].raw


async def test_streams_run_side_by_side() -> None:
    waiting: dict[bytes, UpstreamPeer] = {}

    async def script(peer: UpstreamPeer) -> None:
        message = await peer.request()
        assert message is not None
        waiting[message.target] = peer
        await peer.closed()

    async with talking(script) as (_upstream, prox, client):
        streams = [await client.request("GET", f"/{number}") for number in range(20)]
        await until(lambda: len(waiting) == 20)
        for number in reversed(range(20)):
            await waiting[b"/%d" % number].send(answer(b"%d" % number))
            got = await client.answer(streams[number])
            assert got.body == b"%d" % number
        assert prox.pipeline.counters.requests == 20


@pytest.mark.parametrize("said", [True, False])
async def test_a_body_goes_upstream(said: bool) -> None:
    body = b"0123456789" * 30_000
    fields = [(b"content-length", b"%d" % len(body))] if said else []
    async with talking() as (upstream, _prox, client):
        stream = await client.request("POST", "/", *fields, body=body)
        assert (await client.answer(stream)).status == 200
        (message,) = upstream.requests
        assert message.body == body
        framing = b"Content-Length: 300000" if said else b"Transfer-Encoding: chunked"
        assert framing in upstream.peers[0].received


async def test_heads_without_bodies() -> None:
    async with talking(
        answering(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nETag: a\r\nContent-Length: 7\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
        )
    ) as (_upstream, _prox, client):
        head = await client.get(method="HEAD")
        assert (head.status, head.get(b"content-length"), head.body) == (200, b"5", b"")
        not_modified = await client.get()
        assert (not_modified.status, not_modified.get(b"content-length"), not_modified.ended) == (
            304,
            b"7",
            True,
        )
        none = await client.get()
        assert (none.status, none.get(b"content-length"), none.ended) == (204, None, True)


async def test_fields_of_a_connection_do_not_reach_the_client() -> None:
    said = answer(
        b"ok",
        b"Connection: X-Hop, keep-alive",
        b"X-Hop: a",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: close",
        b"X-END: b",
    )
    async with talking(answering(said)) as (_upstream, _prox, client):
        got = await client.get()
        assert [name for name, _ in got.fields] == [b"x-end", b"date", b"content-length"]


async def test_an_exchange_does_not_wait_for_the_garbage_collector() -> None:
    async with talking() as (_upstream, _prox, client):
        await client.get()
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                await client.get()
            left = [it for it in gc.get_objects() if isinstance(it, Http2Exchange)]
            assert len(left) <= 1, "they hold on to themselves"
        finally:
            gc.enable()


async def test_via() -> None:
    async with talking(via="gate") as (upstream, _prox, client):
        got = await client.get()
        assert b"\r\nVia: 2.0 gate\r\n" in upstream.peers[0].received
        assert got.get(b"via") == b"1.1 gate"


async def test_interim_answers() -> None:
    pieces = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nKeep-Alive: timeout=5\r\n\r\n", OK
    async with talking(sending(*pieces)) as (_upstream, _prox, client):
        got = await client.get()
        assert (got.interims, got.body) == ([(103, [(b"link", b"</a>")])], b"ok")


async def test_expect_continue() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.head()
        assert b"Expect: 100-continue" in peer.received
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.request()
        await peer.send(OK)
        await peer.closed()

    async with talking(script) as (upstream, _prox, client):
        stream = await client.request("POST", "/", (b"expect", b"100-continue"), end=False)
        await client.until(lambda: client.answers[stream].interims)
        assert client.answers[stream].interims[0][0] == 100
        await client.send(stream, b"body", end=True)
        assert (await client.answer(stream)).status == 200
        assert upstream.requests[0].body == b"body"


async def test_trailers_both_ways() -> None:
    said = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Host\r\n\r\n"
        b"2\r\nok\r\n0\r\nX-Sum: 7\r\nHost: evil\r\n\r\n"
    )
    async with talking(answering(said)) as (upstream, _prox, client):
        stream = await client.request("POST", "/", (b"te", b"trailers"), (b"trailer", b"x-sent"), end=False)
        await client.send(stream, b"body")
        await client.send_trailers(
            stream, [(b"x-sent", b"1"), (b"authorization", b"evil"), (b"content-length", b"9")]
        )
        got = await client.answer(stream)
        assert (got.body, got.trailers, got.get(b"trailer")) == (b"ok", [(b"x-sum", b"7")], b"X-Sum")
        received = upstream.peers[0].received
        assert b"\r\nTE: trailers\r\nTrailer: x-sent\r\n" in received
        assert received.endswith(b"4\r\nbody\r\n0\r\nx-sent: 1\r\n\r\n")
        plain = await client.get()
        assert (plain.body, plain.trailers) == (b"ok", None), "trailers that were not asked for"


async def test_an_empty_last_frame_and_padding() -> None:
    async with talking() as (upstream, _prox, client):
        stream = await client.request("POST", "/", (b"content-length", b"4"), end=False)
        client.h2.send_data(stream, b"body", pad_length=200)
        client.h2.send_data(stream, b"", end_stream=True)
        await client.flush()
        assert (await client.answer(stream)).status == 200
        assert upstream.requests[0].body == b"body"


# Requests that are refused.


@pytest.mark.parametrize(
    ("length", "sent"), [(b"5", b"123456"), (b"5", b"1234"), (b"0", b"1")], ids=["more", "less", "none"]
)
async def test_a_length_that_does_not_hold(length: bytes, sent: bytes, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with Upstream() as upstream:
        route = {"action": {"type": "proxy", "upstream": upstream.address}, "access_log": str(log)}
        async with serving(route, config=H2C) as prox, await connect(prox) as client:
            stream = await client.request("POST", "/", (b"content-length", length), end=False)
            peer = await upstream.peer()
            await client.send(stream, sent, end=True)
            got = await client.answer(stream)
            assert (got.status, got.reset) == (0, 1)
            await until(lambda: peer.eof)
            assert not upstream.requests, "a request whose body is not what it says was whole"
            assert (await client.get()).status == 200, "the connection goes on"
            await prox.quiet(connections=1)
    first, second = read_log(log)
    assert (first["status"], first["reason"], second["status"]) == (0, "malformed", 200)


async def test_a_malformed_request_is_reset_and_reported() -> None:
    async with talking() as (upstream, prox, client):
        stream = await client.open([*client.pseudo(), (b"x", b"a\r\nb: c")])
        assert (await client.answer(stream)).reset == 1
        stream = await client.open([*client.pseudo(), (b"transfer-encoding", b"chunked")], end=False)
        assert (await client.answer(stream)).reset == 1
        assert (await client.get()).status == 200
        assert len(upstream.requests) == 1
        counters = prox.pipeline.counters
        assert (counters.ends, counters.statuses[0]) == ({"malformed": 2}, 2)


async def test_malformed_trailers() -> None:
    async with talking() as (upstream, prox, client):
        stream = await client.request("POST", "/", (b"te", b"trailers"), body=b"body", end=False)
        peer = await upstream.peer()
        await client.send_trailers(stream, [(b"x", b"a\r\nb: c")])
        assert (await client.answer(stream)).reset == 1
        await until(lambda: peer.eof)
        assert not upstream.requests
        await prox.quiet(connections=1)


@pytest.mark.parametrize("end", [True, False])
async def test_what_is_refused_with_an_answer(end: bool) -> None:
    async with talking(max_body_bytes=10) as (upstream, _prox, client):
        stream = await client.request("BREW", end=end)
        got = await client.answer(stream)
        assert (got.status, got.body) == (501, b"method not implemented\n")
        if not end:
            await client.until(lambda: client.answers[stream].reset == 0)
        assert (await client.get()).status == 200
        assert len(upstream.requests) == 1


async def test_a_body_that_becomes_too_large() -> None:
    async with talking(sending(), max_body_bytes=10) as (upstream, prox, client):
        stream = await client.request("POST", "/", body=b"12345", end=False)
        peer = await upstream.peer()
        await client.send(stream, b"6789012")
        got = await client.head(stream)
        assert (got.status, got.ended) == (413, True)
        await client.until(lambda: got.reset == 0)
        await until(lambda: peer.eof)
        await prox.quiet(connections=1)
        assert prox.pipeline.counters.ends == {"body_size": 1}


# Ends.


async def test_an_early_answer_ends_the_upload() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.head()
        await peer.send(answer(b"no", status=b"403 Forbidden"))
        await peer.closed()

    async with talking(script) as (_upstream, prox, client):
        stream = await client.request("POST", "/", body=b"x" * 1000, end=False)
        got = await client.head(stream)
        await client.until(lambda: got.reset >= 0)
        assert (got.status, got.body, got.ended, got.reset) == (403, b"no", True, 0)
        assert not client.goaways
        await prox.quiet(connections=1)


async def test_a_client_resets_while_the_upstream_thinks(tmp_path: Path) -> None:
    log = tmp_path / "access.log"

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.closed()

    async with Upstream(script) as upstream:
        route = {"action": {"type": "proxy", "upstream": upstream.address}, "access_log": str(log)}
        async with serving(route, config=H2C) as prox, await connect(prox) as client:
            stream = await client.request()
            peer = await upstream.peer()
            await until(lambda: peer.requests)
            await client.reset(stream)
            await until(lambda: peer.eof)
            await prox.quiet(connections=1)
            await until(lambda: read_log(log))
    (line,) = read_log(log)
    assert (line["status"], line["reason"]) == (0, "client_aborted")


async def test_a_client_resets_in_the_middle_of_both_bodies() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome")
        await peer.closed()

    async with talking(script) as (upstream, prox, client):
        stream = await client.request("POST", "/", body=b"x" * 1000, end=False)
        await client.until(lambda: client.answers[stream].body == b"some")
        peer = await upstream.peer()
        await client.reset(stream)
        await until(lambda: peer.eof)
        assert (await client.head(await client.request())).status == 200
        await client.close()
        await prox.quiet()


@pytest.mark.parametrize("how", ["close", "fin"])
async def test_a_client_goes_away(how: str) -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.closed()

    async with talking(script) as (upstream, prox, client):
        for _ in range(3):
            await client.request()
        peers = [await upstream.peer(number) for number in range(3)]
        await until(lambda: all(peer.requests for peer in peers))
        if how == "close":
            await client.close()
        else:
            client.half_close()
        await until(lambda: all(peer.eof for peer in peers))
        await prox.quiet()
        assert prox.pipeline.counters.ends == {"client_aborted": 3}


async def test_an_upstream_that_breaks_off_resets_the_stream() -> None:
    async with talking(sending(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome")) as (
        _upstream,
        prox,
        client,
    ):
        got = await client.get()
        assert (got.status, got.body, got.ended, got.reset) == (200, b"some", False, 2)
        assert prox.pipeline.counters.ends == {"upstream_truncated": 1}
        assert not client.goaways


async def test_an_upstream_that_does_not_answer() -> None:
    async with talking(sending()) as (_upstream, _prox, client):
        assert (await client.get()).status == 502
        assert (await client.get()).status == 502


async def test_a_fault_of_the_connection_ends_it() -> None:
    async with talking(sending()) as (_upstream, prox, client):
        assert (await client.get()).status == 502
        await client.raw(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00")  # WINDOW_UPDATE by nothing
        await client.closed()
        assert [code for code, _ in client.goaways] == [1]
        await prox.quiet()
        assert prox.pipeline.counters.ends["malformed"] == 1


# Limits.


async def test_max_requests_per_connection() -> None:
    async with talking(max_requests_per_connection=2) as (_upstream, prox, client):
        assert (await client.get()).status == 200
        assert (await client.get()).status == 200
        await client.closed()
        assert client.goaways[-1] == (0, 3)
        assert prox.pipeline.counters.ends == {"max_requests_per_connection": 1}
        await prox.quiet()


async def test_idle_timeout() -> None:
    async with talking(idle_timeout="60ms") as (_upstream, prox, client):
        assert (await client.get()).status == 200
        await client.closed()
        assert client.goaways == [(0, 1)]
        assert prox.pipeline.counters.ends == {"idle_timeout": 1}


async def test_a_client_that_does_not_greet() -> None:
    async with (
        serving("127.0.0.1:1", config=h2c(read_header_timeout="60ms")) as prox,
        await prox.connect() as client,
    ):
        await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        await client.discard()
        client.close()
        assert prox.pipeline.counters.ends == {"deadline_head": 1}
        async with await prox.connect() as other:
            await other.send(b"PRI * HT")
            await other.discard()
        assert prox.pipeline.counters.ends == {"deadline_head": 2}
        await prox.quiet()


@pytest.mark.parametrize("limit", ["read_timeout", "min_body_rate"])
async def test_a_slow_body(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prox.http.upload.BODY_GRACE", 0.06)
    monkeypatch.setattr("prox.http.watch._LONGEST_SLEEP", 0.02)
    value: object = "60ms" if limit == "read_timeout" else 10_000
    async with talking(sending(), **{limit: value}) as (_upstream, prox, client):
        stream = await client.request("POST", "/", body=b"x", end=False)
        got = await client.head(stream)
        await client.until(lambda: got.reset >= 0)
        assert (got.status, got.ended, got.reset) == (408, True, 0)
        assert prox.pipeline.counters.ends == {"deadline_body": 1}
        await prox.quiet(connections=1)


async def test_write_timeout() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nsome")
        await peer.closed()

    async with talking(script, write_timeout="60ms") as (_upstream, prox, client):
        got = await client.get()
        assert (got.body, got.reset) == (b"some", 8)
        assert prox.pipeline.counters.ends == {"deadline_answer": 1}
        await prox.quiet(connections=1)


async def test_a_client_that_does_not_answer_pings() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.closed()

    async with talking(script, h2_read_idle_timeout="50ms", h2_ping_timeout="50ms") as (
        upstream,
        prox,
        client,
    ):
        await client.request()
        await client.until(lambda: client.pings >= 2)  # it answers, and stays
        peer = await upstream.peer()
        await until(lambda: peer.eof)  # it does not read on
        assert prox.pipeline.counters.ends == {"ping_timeout": 2}  # its connection and its request
        await prox.quiet()


# Drain.


async def test_drain_lets_streams_end() -> None:
    waiting: list[UpstreamPeer] = []

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        waiting.append(peer)
        await peer.closed()

    async with talking(script) as (_upstream, prox, client):
        stream = await client.request()
        await until(lambda: waiting)
        ending = spawn(prox.entry.drained(10), "drain")
        await client.until(lambda: client.goaways)
        assert client.goaways[0] == (0, 2**31 - 1)
        await client.until(lambda: len(client.goaways) == 2)
        assert client.goaways[1] == (0, stream)
        await waiting[0].send(OK)
        assert (await client.answer(stream)).body == b"ok"
        await client.closed()
        await ending


async def test_drain_closes_what_is_idle() -> None:
    async with talking() as (_upstream, prox, client):
        assert (await client.get()).status == 200
        ending = spawn(prox.entry.drained(10), "drain")
        await client.closed()
        assert client.goaways == [(0, 2**31 - 1), (0, 1)]
        await ending


async def test_abort_at_the_deadline(tmp_path: Path) -> None:
    log = tmp_path / "access.log"

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.closed()

    async with Upstream(script) as upstream:
        route = {"action": {"type": "proxy", "upstream": upstream.address}, "access_log": str(log)}
        async with serving(route, config=H2C) as prox, await connect(prox) as client:
            await client.request()
            peer = await upstream.peer()
            await until(lambda: peer.requests)
            await prox.entry.drained(0.05)
            await client.closed()
            assert client.was_reset
            await until(lambda: peer.eof)
    (line,) = read_log(log)
    assert line["reason"] == "shutdown"


async def test_a_reload_reaches_open_connections() -> None:
    async with (
        Upstream(answering(answer(b"one"))) as first,
        Upstream(answering(answer(b"two"))) as second,
        serving(first.address, config=H2C) as prox,
        await connect(prox) as client,
    ):
        assert (await client.get()).body == b"one"
        await prox.reload(make_config(second.address, config=h2c(max_target_bytes=50)))
        assert (await client.get()).body == b"two"
        assert (await client.get("/" + "a" * 50)).status == 414
        assert not client.goaways
