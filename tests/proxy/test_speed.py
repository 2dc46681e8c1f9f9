"""Limits of bandwidth through the real proxy: the rate that the other end sees, on every path."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from prox.http.paced import Paced
from prox.limits import Pacer
from prox.tasks import spawn
from support.client import CutError, get, post, post_chunked
from support.h2_client import H2Client
from support.hellos import hello
from support.metering import BIG, MBPS, Reader, endless, measured, reading
from support.servers import Running, make_config, serving, until
from support.upstream import Upstream, UpstreamPeer, answering


class Counting:
    """An upstream that only counts what it is sent, by path."""

    def __init__(self) -> None:
        self.received: dict[bytes, int] = defaultdict(int)

    async def __call__(self, peer: UpstreamPeer) -> None:
        head = await peer.head()
        assert head is not None
        with suppress(ConnectionResetError):
            while data := await peer._reader.read(1 << 18):
                self.received[head.target] += len(data)


def limits(prox: Running) -> list[Pacer]:
    """All limits that clients' connections have to themselves."""
    owners = [connection.client.limits for connection in prox.connections]
    return [pacer for owner in owners if owner is not None for pacer in owner._pacers.values()]


def count_of(reader: Reader) -> int:
    return reader.received


def proxied(upstream: Upstream, **keys: Any) -> dict[str, Any]:
    return {"action": {"type": "proxy", "upstream": upstream.address}, **keys}


@pytest.mark.alone
@pytest.mark.parametrize("rates", [[0.1, 1, 50], [500]])
async def test_downloads_are_within_5_percent_over_2_seconds(rates: list[float]) -> None:
    async with Upstream(endless()) as upstream:
        routes = [
            proxied(upstream, match={"path": f"/{mbps}"}, speed={"download_mbps": mbps}) for mbps in rates
        ]
        async with serving(routes) as prox:
            readers = [await reading(prox, f"/{mbps}") for mbps in rates]
            await asyncio.gather(
                *(
                    measured(partial(count_of, reader), mbps)
                    for reader, mbps in zip(readers, rates, strict=True)
                )
            )
            for reader in readers:
                await reader.abort()
            await prox.quiet()


@pytest.mark.alone
async def test_every_kind_of_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"f" * 4_000_000)
    speed = {"download_mbps": 4}
    async with Upstream(endless()) as plain, Upstream(endless(chunked=True)) as chunked:
        unreachable = {"type": "proxy", "upstream": "127.0.0.1:1"}
        routes = [
            proxied(plain, match={"path": "/plain"}, speed=speed),
            proxied(chunked, match={"path": "/chunked"}, speed=speed),
            {
                "match": {"path": "/static"},
                "speed": speed,
                "action": {"type": "static", "body_ref": {"text": "s" * 4_000_000}},
            },
            {
                "match": {"path": "/file"},
                "speed": speed,
                "action": {"type": "serve", "file": str(tmp_path / "file")},
            },
            {
                "match": {"path": "/fallback"},
                "speed": speed,
                "action": {
                    **unreachable,
                    "fallback": {"type": "static", "body_ref": {"text": "s" * 4_000_000}},
                },
            },
        ]
        async with serving(routes) as prox:
            readers = [await reading(prox, path["match"]["path"]) for path in routes]
            await asyncio.gather(*(measured(partial(count_of, reader), 4) for reader in readers))
            for reader in readers:
                await reader.abort()
            await prox.quiet()


@pytest.mark.alone
async def test_uploads() -> None:
    counting = Counting()
    piece = b"u" * 65536
    async with Upstream(counting) as upstream, serving(proxied(upstream, speed={"upload_mbps": 4})) as prox:
        head = b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % BIG
        known = await reading(prox, head, piece)
        head = b"POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunked = await reading(prox, head, b"%x\r\n%b\r\n" % (len(piece), piece))
        await until(lambda: len(counting.received) == 2)
        await asyncio.gather(
            measured(lambda: counting.received[b"/length"], 4),
            measured(lambda: counting.received[b"/chunks"], 4),
        )
        for reader in (known, chunked):
            await reader.abort()
        await prox.quiet()


@pytest.mark.alone
async def test_tunnels_in_both_directions() -> None:
    received = 0

    async def script(peer: UpstreamPeer) -> None:
        nonlocal received
        await peer.request()
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")

        async def count() -> None:
            nonlocal received
            with suppress(ConnectionResetError):
                while data := await peer._reader.read(1 << 18):
                    received += len(data)

        async def say() -> None:
            with suppress(OSError):
                while not peer.closing:
                    await peer.send(b"d" * 65536)

        await asyncio.gather(count(), say())

    speed = {"download_mbps": 8, "upload_mbps": 2}
    async with Upstream(script) as upstream, serving(proxied(upstream, speed=speed)) as prox:
        reader = await reading(prox, get("/", "Connection: Upgrade", "Upgrade: x"), b"u" * 65536)
        await until(lambda: received)
        await asyncio.gather(measured(lambda: reader.received, 8), measured(lambda: received, 2))
        await reader.abort()
        await prox.quiet()


@pytest.mark.alone
async def test_passed_connections_in_both_directions() -> None:
    received = 0

    async def script(peer: UpstreamPeer) -> None:
        async def count() -> None:
            nonlocal received
            with suppress(ConnectionResetError):
                while data := await peer._reader.read(1 << 18):
                    received += len(data)

        async def say() -> None:
            with suppress(OSError):
                while not peer.closing:
                    await peer.send(b"d" * 65536)

        await asyncio.gather(count(), say())

    async with Upstream(script) as upstream:
        route = {
            "match": {"domain": "a.example.com"},
            "speed": {"download_mbps": 20, "upload_mbps": 2},
            "action": {"type": "pass", "upstream": upstream.address},
        }
        async with serving(route) as prox:
            readers = [await reading(prox, hello("a.example.com"), b"u" * 65536) for _ in range(2)]
            await until(lambda: received > 50_000 and all(reader.received for reader in readers))
            await asyncio.gather(
                *(measured(partial(count_of, reader), 20) for reader in readers),
                measured(lambda: received, 4),
            )
            for reader in readers:
                await reader.abort()
            await prox.quiet()
            (speed,) = prox.application.snapshot.built.speeds.values()  # type: ignore[union-attr] # it runs
            assert speed.active


@pytest.mark.alone
async def test_the_streams_of_an_http2_connection_share_its_limit() -> None:
    counting = Counting()
    async with Upstream(endless()) as upstream, Upstream(counting) as taker:
        speed = {"download_mbps": 8, "upload_mbps": 2}
        routes = [proxied(upstream, match={"methods": ["GET"]}, speed=speed), proxied(taker, speed=speed)]
        async with (
            serving(routes, config={"h2c": True}) as prox,
            await H2Client.connect(prox.address) as client,
        ):
            downs = [client.answers[await client.request()] for _ in range(4)]
            ups = [await client.request("POST", f"/{number}", end=False) for number in range(2)]

            async def read() -> None:
                while await client.more():
                    pass

            async def send() -> None:
                while True:
                    for stream in ups:
                        if room := client._room(stream):
                            client.h2.send_data(stream, b"u" * room)
                    await client.flush()
                    await asyncio.sleep(0.002)

            tasks = [spawn(read(), "read"), spawn(send(), "send")]
            await until(lambda: all(answer.size for answer in downs) and len(counting.received) == 2)
            before = [answer.size for answer in downs]
            await asyncio.gather(
                measured(lambda: sum(answer.size for answer in downs), 8),
                measured(lambda: sum(counting.received.values()), 2),
            )
            shares = [answer.size - old for answer, old in zip(downs, before, strict=True)]
            assert max(shares) <= 1.2 * min(shares)
            for task in tasks:
                task.cancel()
            await client.close()
            await prox.quiet()


async def test_a_tunnel_that_a_limit_slows_is_not_idle() -> None:
    """A read of 100 KB takes 0.8 s to pass; nothing comes meanwhile, and nothing moves for longer than the limit then."""

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        await peer.send(b"d" * 100_000)
        await peer.closed()

    config = {"relay_idle_timeout": "300ms"}
    async with Upstream(script) as upstream:
        route = proxied(upstream, speed={"download_mbps": 1})
        async with serving(route, config=config) as prox:
            reader = await reading(prox, get("/", "Connection: Upgrade", "Upgrade: x"))
            await reader.closed
            assert reader.received > 100_000
            await prox.quiet()


async def test_what_passes_is_what_was_sent() -> None:
    """Bodies of all kinds and sizes under a limit, on one connection, with trailers and without bodies."""
    body = random.Random(1).randbytes(120_000)
    pieces = [body[at : at + 7000] for at in range(0, len(body), 7000)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    replies = {
        b"/length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
        b"/chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n",
        b"/trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n"
        + chunks
        + b"0\r\nX-End: yes\r\n\r\n",
        b"/none": b"HTTP/1.1 204 No Content\r\n\r\n",
        b"/empty": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"/head": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body),
        b"/small": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    }

    async def script(peer: UpstreamPeer) -> None:
        while (request := await peer.request()) is not None:
            bodies.append(request.body)
            await peer.send(replies[request.target])

    bodies: list[bytes] = []
    speed = {"download_mbps": 10, "upload_mbps": 10}
    async with Upstream(script) as upstream, serving(proxied(upstream, speed=speed)) as prox:
        async with await prox.connect() as client:
            client.takes_trailers = True
            for path in ("/length", "/chunks", "/none", "/small", "/trailers", "/empty", "/length"):
                answer = await client.request(get(path, "TE: trailers"))
                assert answer.body == (
                    body if path in {"/length", "/chunks", "/trailers"} else answer.body[:2]
                )
                assert answer.whole
                assert bool(answer.trailers) == (path == "/trailers")
            answer = await client.request(get("/head", method="HEAD"), "HEAD")
            assert answer.body == b""
            bodies.clear()
            await client.send(
                post(body, path="/small") + post_chunked(*pieces, path="/small") + get("/small")
            )
            for _ in range(3):
                assert (await client.response()).body == b"ok"
            assert bodies == [body, body, b""]
        await prox.quiet()


@pytest.mark.alone
async def test_the_requests_of_a_connection_share_its_limit() -> None:
    """Many small answers in a row are no way around it; another connection has a limit of its own."""
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000
    loop = asyncio.get_running_loop()

    async def ask(prox: Running) -> float:
        start = loop.time()
        async with await prox.connect() as client:
            for _ in range(80):
                assert len((await client.request(get())).body) == 5000
        return loop.time() - start

    async with Upstream(answering(reply)) as upstream:
        route = proxied(upstream, speed={"download_mbps": 5})
        async with serving(route) as prox:
            start = loop.time()
            took = await asyncio.gather(ask(prox), ask(prox))
            assert min(took) > 80 * 5000 / (5 * MBPS) - 0.07
            assert loop.time() - start < 2 * 80 * 5000 / (5 * MBPS)


@pytest.mark.alone
async def test_a_shared_limit_goes_on_over_a_reload_that_changes_it() -> None:
    async with Upstream(endless()) as upstream:
        route = proxied(upstream, speed={"download_mbps": 4, "shared": True})
        async with serving(route) as prox:
            readers = [await reading(prox) for _ in range(4)]
            await measured(lambda: sum(reader.received for reader in readers), 4, 1.0)
            assert max(r.received for r in readers) <= 1.2 * min(r.received for r in readers)
            route["speed"]["download_mbps"] = 40
            await prox.reload(make_config(route))
            readers.append(await reading(prox))
            await measured(lambda: sum(reader.received for reader in readers), 40, 1.0)
            for reader in readers:
                await reader.abort()
            await prox.quiet()
            (speed,) = prox.application.snapshot.built.speeds.values()  # type: ignore[union-attr] # it runs
            assert speed._pair is not None
            assert speed._pair.download.users == 0
            assert speed._pair.download._timer is None


async def test_a_client_that_goes_leaves_nothing() -> None:
    async with Upstream(endless()) as upstream:
        route = proxied(upstream, speed={"download_mbps": 1, "upload_mbps": 1})
        async with serving(route) as prox:
            readers = [await reading(prox) for _ in range(3)]
            await until(lambda: all(reader.received for reader in readers))
            pacers = limits(prox)
            assert len(pacers) == 6
            await until(lambda: sum(pacer._timer is not None for pacer in pacers) == 3)
            for reader in readers:
                await reader.abort()
            await prox.quiet()
            assert [(pacer.users, pacer._timer) for pacer in pacers] == [(0, None)] * 6


async def test_what_is_held_is_no_more_than_a_read() -> None:
    async with Upstream(endless()) as upstream, Upstream(Counting()) as counting:
        routes = [
            proxied(upstream, match={"methods": ["GET"]}, speed={"download_mbps": 0.1}),
            proxied(counting, speed={"upload_mbps": 0.1}),
        ]
        async with serving(routes) as prox:
            down = await reading(prox)
            head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % BIG
            up = await reading(prox, head, b"u" * 65536)
            await asyncio.sleep(0.5)
            exchanges = [connection._exchange for connection in prox.connections]
            assert len(exchanges) == 2
            held = {}
            for exchange in exchanges:
                assert exchange is not None
                if exchange.method == "GET":
                    source = exchange.source
                    assert isinstance(source, Paced)
                    held["GET"] = source.held
                else:
                    assert exchange.body is not None
                    assert isinstance(exchange.body._sink, Paced)
                    held["POST"] = exchange.body._sink.held
                    received = exchange.body.received
            assert 50_000 < held["GET"] <= 260_096
            assert 50_000 < held["POST"] <= 260_096
            assert received < 300_000
            for reader in (down, up):
                await reader.abort()
            await prox.quiet()


async def test_an_upstream_that_breaks_off() -> None:
    """The client gets what came, at the rate, and sees that it is not whole."""

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"x" * 40_000)
        peer.close()

    async with Upstream(script) as upstream, serving(proxied(upstream, speed={"download_mbps": 1})) as prox:
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with await prox.connect() as client:
            await client.send(get())
            with pytest.raises(CutError) as cut:
                await client.response()
            assert len(cut.value.received) > 40_000
            assert loop.time() - start > 40_000 / MBPS - 0.1
        await prox.quiet()


async def test_write_timeout_still_holds() -> None:
    async with Upstream(endless()) as upstream:
        route = proxied(upstream, speed={"download_mbps": 1})
        async with serving(route, config={"write_timeout": "300ms"}) as prox:
            reader = await reading(prox)
            await asyncio.wait_for(reader.closed, 3)
            assert 1000 < reader.received < 2 * MBPS
            await prox.quiet()
            assert prox.pipeline.counters.ends["deadline_answer"] == 1


async def test_a_client_that_prox_slows_is_not_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prox.http.upload.BODY_GRACE", 0.2)
    counting = Counting()
    async with Upstream(counting) as upstream:
        route = proxied(upstream, speed={"upload_mbps": 0.1})
        async with serving(route, config={"min_body_rate": 1_000_000}) as prox:
            head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % BIG
            began = asyncio.get_running_loop().time()
            reader = await reading(prox, head, b"u" * 65536)
            await asyncio.sleep(1.2)
            assert not reader.closed.done()
            took = asyncio.get_running_loop().time() - began
            assert 5_000 < counting.received[b"/"] < 5_000 + took * 0.1 * MBPS
            await reader.abort()
            await prox.quiet()


async def test_what_has_no_limit_has_no_pacer() -> None:
    async with Upstream() as upstream:
        routes = [proxied(upstream, match={"path": "/limited"}, speed={"upload_mbps": 1}), proxied(upstream)]
        async with serving(routes) as prox, await prox.connect() as client:
            await client.request(get("/"))
            assert limits(prox) == []
            await client.request(get("/limited"))
            (pacer,) = limits(prox)
            assert pacer.rate == MBPS
