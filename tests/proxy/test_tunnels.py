"""Upgrades through a whole prox, with an upstream that remembers every byte."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from prox.http import switch, tunnel
from prox.tasks import spawn
from support.client import Client, get, post
from support.servers import make_config, read_log, serving, until
from support.tunnels import SWITCHED, WEBSOCKET, agreeing, upgraded
from support.upstream import OK, Script, Upstream, UpstreamPeer, answer, answering, sending

MEGABYTE = 1 << 20


def holding(*, head: bytes = SWITCHED, reading: bool = False) -> Script:
    """Agrees and leaves the rest to the test; reads only where that is asked for."""

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(head)
        if reading:
            await peer.discard()
        await asyncio.Event().wait()

    return script


# The handshake.


async def test_what_the_upstream_is_asked_and_the_client_told() -> None:
    async with Upstream(agreeing()) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            head = await upgraded(client, "/chat?room=1", "Keep-Alive: 5", "X-One: 1")
            assert head["upgrade"] == b"websocket"
            assert head["connection"] == b"Upgrade"
            assert head["sec-websocket-accept"] == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
            assert "content-length" not in head
            assert "transfer-encoding" not in head
        (asked,) = upstream.requests
        assert asked.raw.startswith(b"GET /chat?room=1 HTTP/1.1\r\n")
        assert asked["connection"] == b"Upgrade"
        assert asked["upgrade"] == b"websocket"
        assert asked["sec-websocket-key"] == b"dGhlIHNhbXBsZSBub25jZQ=="
        assert asked["x-forwarded-for"] == b"127.0.0.1"
        assert asked["x-one"] == b"1"
        assert "keep-alive" not in asked
        assert upstream.peers[0].received == asked.raw


async def test_any_protocol() -> None:
    head = (
        b"HTTP/1.1 101 Go on\r\nConnection: x, upgrade\r\nUpgrade: Other/2\r\nX-A: b\r\nKeep-Alive: 5\r\n\r\n"
    )
    async with (
        Upstream(agreeing(head)) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await client.send(get("/", "Connection: upgrade", "Upgrade: one, other/2", method="OPTIONS"))
        told = await client.head()
        assert (told.status, told["upgrade"], told["x-a"]) == (101, b"Other/2", b"b")
        assert "keep-alive" not in told
        await client.send(b"abc")
        assert await client.take(3) == b"ABC"


async def test_a_refusal_is_an_answer_and_both_connections_are_used_again() -> None:
    refusal = answer(b"no", b"X-Why: because", b"Sec-WebSocket-Version: 14", status=b"426 Upgrade Required")
    async with Upstream(answering(refusal, OK, refusal)) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            for number in range(3):
                response = await client.request(get("/", *(WEBSOCKET if number != 1 else ())))
                assert response.status == (200 if number == 1 else 426)
                assert number == 1 or (response.body, response["x-why"]) == (b"no", b"because")
        await prox.quiet(idle=2)  # a tunnel is asked for on a connection of its own
        assert len(upstream.peers) == 2


async def test_interim_answers_go_before_either() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with Upstream(agreeing(early + SWITCHED)) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            await client.send(get("/", *WEBSOCKET))
            assert (await client.head()).status == 103
            assert (await client.head()).status == 101
        upstream.script = answering(early + OK)
        async with await prox.connect() as client:
            await client.send(get("/", *WEBSOCKET))
            assert (await client.message()).status == 103
            assert (await client.message()).status == 200


SPLIT = b"HTTP/1.1 101 A\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


async def test_an_agreement_in_pieces() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(*[SPLIT[i : i + 1] for i in range(len(SPLIT))], b"hello")
        await peer.closed()

    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await upgraded(client)
        assert await client.take(5) == b"hello"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 A\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n",
        b"HTTP/1.1 101 A\r\nConnection: Upgrade\r\nUpgrade: websocket, other\r\n\r\n",
        b"HTTP/1.1 101 A\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 101 A\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 A\r\nConnection: Upgrade\r\nUpgrade: \r\n\r\n",
        b"HTTP/1.1 101 A\r\nConnection: keep-alive\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 A\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.0 101 A\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 A\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX: a\rb\r\n\r\n",
        b"HTTP/1.1 101 A\r\nConnection: Upgrade\r\nUpgrade : websocket\r\n\r\n",
        b"HTTP/1.1 101 A\nConnection: Upgrade\nUpgrade: websocket\n\n",
        b"HTTP/1.1 101 A\r\nConnection: Upgrade\r\nX: " + b"a" * 300_000 + b"\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 A\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"garbage\r\n\r\n",
    ],
)
async def test_an_agreement_that_is_none_is_502(head: bytes) -> None:
    async with Upstream(sending(head + b"more")) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            assert (await client.request(get("/", *WEBSOCKET))).status == 502
        await prox.quiet(idle=0)


@pytest.mark.parametrize(
    "request_",
    [
        get("/"),
        get("/", "Upgrade: websocket"),
        get("/", "Connection: Upgrade", "Upgrade: h2c"),
        post(b"x", "Connection: Upgrade", "Upgrade: websocket"),
    ],
)
async def test_a_101_that_nobody_asked_for_is_502(request_: bytes) -> None:
    async with Upstream(sending(SWITCHED)) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            assert (await client.request(request_)).status == 502
        await prox.quiet(idle=0)


async def test_no_answer_in_time_is_504() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.closed()

    config = {"response_header_timeout": 0.05}
    async with Upstream(script) as upstream, serving(upstream.address, config=config) as prox:
        async with await prox.connect() as client:
            assert (await client.request(get("/", *WEBSOCKET))).status == 504
        await prox.quiet(idle=0)


async def test_an_upstream_that_closes_in_place_of_an_answer_is_502() -> None:
    async with Upstream(sending()) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            assert (await client.request(get("/", *WEBSOCKET))).status == 502
        await prox.quiet(idle=0)


async def test_a_client_that_goes_before_the_answer() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.closed()

    async with Upstream(script) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            await client.send(get("/", *WEBSOCKET))
            await until(lambda: upstream.requests)
        await prox.quiet(idle=0)
        await until(lambda: upstream.peers[0].eof)


# Bytes.


async def test_bytes_that_come_with_either_head_are_not_lost() -> None:
    async with (
        Upstream(agreeing(first=b"first")) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await client.send(get("/", *WEBSOCKET) + b"early")
        assert (await client.head()).status == 101
        received = b""
        while len(received) < 10:
            received += await client.take(1)
        assert received == b"firstEARLY"


async def test_what_follows_a_refusal_is_the_next_request() -> None:
    async with (
        Upstream(answering(answer(status=b"400 No"), OK)) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await client.send(get("/one", *WEBSOCKET) + get("/two"))
        assert (await client.response()).status == 400
        assert (await client.response()).status == 200


async def test_much_both_ways() -> None:
    size = 4 * MEGABYTE
    async with Upstream(agreeing()) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            await upgraded(client)

            async def send() -> None:
                for _ in range(size // MEGABYTE):
                    await client.send(b"x" * MEGABYTE)
                client.half_close()

            sending_ = spawn(send(), "send")
            assert await client.discard() == size
            await sending_
        await prox.quiet(idle=0)


async def test_a_slow_client_holds_its_upstream_back() -> None:
    sent = 0

    async def script(peer: UpstreamPeer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(SWITCHED)
        while sent < 48 * MEGABYTE:
            await peer.send(b"x" * 65536)
            sent += 65536
        peer.half_close()
        await peer.closed()

    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect(receive_buffer=65536) as client,
    ):
        await upgraded(client)
        await _stands(lambda: sent)
        assert sent < 32 * MEGABYTE
        (connection,) = prox.entry.connections
        assert connection.transport.get_write_buffer_size() < 2 * MEGABYTE  # type: ignore[attr-defined] # HTTP/1.1
        assert await client.discard() == 48 * MEGABYTE


async def test_a_slow_upstream_holds_its_client_back() -> None:
    go = asyncio.Event()

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(SWITCHED)
        await go.wait()
        await peer.send(b"%d" % await peer.discard())
        peer.half_close()

    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        await upgraded(client)
        sent = 0

        async def send() -> None:
            nonlocal sent
            while sent < 48 * MEGABYTE:
                await client.send(b"x" * 65536)
                sent += 65536
            client.half_close()

        sending_ = spawn(send(), "send")
        await _stands(lambda: sent)
        assert sent < 32 * MEGABYTE
        (connection,) = prox.pools.open
        assert connection.transport.get_write_buffer_size() < 2 * MEGABYTE
        go.set()
        await sending_
        assert await client.take(1) == b"%d" % (48 * MEGABYTE)


async def _stands(value: Callable[[], int]) -> None:
    """Wait until a number has stopped to grow."""
    last, same = -1, 0
    async with asyncio.timeout(10):
        while same < 10:
            now = value()
            same = same + 1 if now == last and now else 0
            last = now
            await asyncio.sleep(0.01)


# Ends.


async def test_the_client_ends_first() -> None:
    async with Upstream(agreeing()) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            await upgraded(client)
            await client.send(b"last")
            client.half_close()
            assert await client.take(4) == b"LAST"
            await client.closed()
            assert not client.reset
        assert upstream.peers[0].eof
        assert not upstream.peers[0].reset
        await prox.quiet(idle=0)


async def test_the_upstream_ends_first() -> None:
    heard = b""

    async def script(peer: UpstreamPeer) -> None:
        nonlocal heard
        await peer.request()
        await peer.send(SWITCHED, b"bye")
        peer.half_close()
        while data := await peer.tunnelled():
            heard += data

    async with Upstream(script) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            await upgraded(client)
            assert await client.take(3) == b"bye"
            await client.closed()
            await client.send(b"still ", b"here")
            client.half_close()
            await prox.quiet(idle=0)
        assert heard == b"still here"
        assert not upstream.peers[0].reset


async def test_both_end_at_once() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(SWITCHED)
        peer.half_close()
        await peer.closed()

    async with Upstream(script) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            await client.send(get("/", *WEBSOCKET))
            head = await client.head()
            client.half_close()
            assert head.status == 101
            await client.closed()
            assert not client.reset
        await prox.quiet(idle=0)


@pytest.mark.parametrize("first", ["client", "upstream"])
async def test_what_was_sent_before_the_end_arrives(first: str) -> None:
    """Much more than buffers hold, and the end at once behind it."""
    size = 8 * MEGABYTE
    got = 0

    async def script(peer: UpstreamPeer) -> None:
        nonlocal got
        await peer.request()
        await peer.send(SWITCHED)
        if first == "upstream":
            await peer.send(b"x" * size)
            peer.half_close()
            await peer.closed()
        else:
            got = await peer.discard()
            peer.half_close()

    async with Upstream(script) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            await upgraded(client)
            if first == "client":
                await client.send(b"x" * size)
                client.half_close()
                await client.closed()
            else:
                got = await client.discard()
                client.half_close()
                await prox.quiet(idle=0)
        assert got == size


async def test_a_client_that_resets_resets_the_upstream() -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(SWITCHED)
        await peer.closed()

    async with Upstream(script) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            await upgraded(client)
            client.abort()
            await prox.quiet(idle=0)
        await until(lambda: upstream.peers[0].eof)
        assert upstream.peers[0].reset


async def test_an_upstream_that_resets_resets_the_client(tmp_path: Path) -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(SWITCHED, b"half a fra")
        await peer.tunnelled()
        peer.abort()

    log = tmp_path / "access"
    async with Upstream(script) as upstream, serving(upstream.address, root=logging_to(log)) as prox:
        async with await prox.connect() as client:
            await upgraded(client)
            assert await client.take(10) == b"half a fra"
            await client.send(b"x")
            await client.closed()
            assert client.reset
        await prox.quiet(idle=0)
        await until(lambda: read_log(log))
        (line,) = read_log(log)
        assert (line["status"], line["reason"], line["bytes_in"], line["bytes_out"]) == (
            101,
            "upstream_reset",
            1,
            10,
        )
        assert prox.pipeline.counters.upstream_faults == {"upstream_reset": 1}


def logging_to(log: Path) -> dict[str, Any]:
    return {"logging": {"access_log": str(log)}}


@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_a_reset_is_seen_while_nobody_reads(who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other side is slow, so prox does not read from the one that resets."""
    monkeypatch.setattr(tunnel, "LOOK_AGAIN", 0.02)
    monkeypatch.setattr(switch, "LOOK_AGAIN", 0.02)

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(SWITCHED)
        if who == "upstream":
            await _flood(peer)
            peer.abort()
        else:
            await asyncio.Event().wait()

    async with (
        Upstream(script) as upstream,
        serving(upstream.address) as prox,
        await prox.connect(receive_buffer=65536) as client,
    ):
        await upgraded(client)
        if who == "client":
            await _flood(client)
            client.abort()
        await prox.quiet(idle=0)


async def _flood(end: Client | UpstreamPeer) -> None:
    """Send until nobody takes any more."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.3):
            while True:
                await end.send(b"x" * 65536)


async def test_an_upstream_that_is_gone_for_good(tmp_path: Path) -> None:
    """It closes whole while the client goes on sending."""
    async with Upstream(sending(SWITCHED, b"bye")) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            await upgraded(client)
            assert await client.take(3) == b"bye"
            await client.closed()
            with suppress(ConnectionError, RuntimeError):
                for _ in range(1000):
                    await client.send(b"x" * 1000)
                    await asyncio.sleep(0.001)
                pytest.fail("the client's bytes go nowhere, and it is not told")
        await prox.quiet(idle=0)


# Limits.


async def test_a_silent_tunnel_is_broken_off(tmp_path: Path) -> None:
    log = tmp_path / "access"
    config = {"relay_idle_timeout": 0.2}
    async with (
        Upstream(agreeing()) as upstream,
        serving(upstream.address, config=config, root=logging_to(log)) as prox,
    ):
        async with await prox.connect() as client:
            loop = asyncio.get_running_loop()
            await upgraded(client)
            for _ in range(8):  # as long as anything moves it stays
                await client.send(b"x")
                assert await client.take(1) == b"X"
                await asyncio.sleep(0.05)
            last = loop.time()
            await client.discard()
            assert 0.1 < loop.time() - last < 2
        await prox.quiet(idle=0)
        await until(lambda: read_log(log))
        assert read_log(log)[0]["reason"] == "relay_idle_timeout"
        assert prox.pipeline.counters.upstream_faults == {}


async def test_without_a_limit_a_tunnel_may_be_silent_and_half_a_one_may_not() -> None:
    config = {"idle_timeout": 0.2, "read_timeout": 0.1, "write_timeout": 0.1}
    async with Upstream(holding(reading=True)) as upstream, serving(upstream.address, config=config) as prox:
        async with await prox.connect() as client:
            await upgraded(client)
            await asyncio.sleep(0.5)
            await client.send(b"x")
            assert prox.entry.connections
            client.half_close()
            await client.discard()
        await prox.quiet(idle=0)


async def test_who_reads_nothing_is_silent_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(SWITCHED)
        while True:
            await peer.send(b"x" * 65536)

    config = {"relay_idle_timeout": 0.3}
    async with (
        Upstream(script) as upstream,
        serving(upstream.address, config=config) as prox,
        await prox.connect(receive_buffer=65536) as client,
    ):
        await upgraded(client)
        await prox.quiet(idle=0)


# Reload, shutdown, counts.


async def test_a_tunnel_outlives_a_reload() -> None:
    async with Upstream(agreeing()) as upstream, serving(upstream.address) as prox:
        async with await prox.connect() as client:
            await upgraded(client)
            routes = {"match": {"path": "/other"}, "action": {"type": "static", "status": 204}}
            await prox.reload(make_config(routes))
            await asyncio.sleep(0.3)  # longer than shutdown_timeout
            await client.send(b"still")
            assert await client.take(5) == b"STILL"
            async with await prox.connect() as other:
                assert (await other.request(get("/"))).status == 404
                assert (await other.request(get("/other"))).status == 204
            client.half_close()
            await client.closed()
        await prox.quiet(idle=0)


async def test_a_shutdown_breaks_off_what_is_open_at_its_deadline(tmp_path: Path) -> None:
    log = tmp_path / "access"
    async with Upstream(holding(reading=True)) as upstream:
        async with serving(upstream.address, root=logging_to(log)) as prox:
            client = await prox.connect()
            await upgraded(client)
        await client.discard()
        client.close()
        await until(lambda: upstream.peers[0].eof)
    (line,) = read_log(log)
    assert (line["status"], line["reason"]) == (101, "shutdown")


async def test_a_target_is_taken_until_the_end() -> None:
    async with Upstream(agreeing()) as one, Upstream(agreeing()) as two:
        route = {
            "balancer": {"type": "leastconn", "targets": [one.address, two.address]},
            "action": {"type": "proxy", "upstream": "{target}"},
        }
        async with serving(route) as prox:
            clients = [await prox.connect() for _ in range(4)]
            for client in clients:
                await upgraded(client)
            assert (len(one.peers), len(two.peers)) == (2, 2)
            for client in clients:
                client.close()
            await prox.quiet(idle=0)
            picked = [prox.balancer.pick("") for _ in range(2)]
            assert [target.address for target in picked] == [one.address, two.address]
            for target in picked:
                target.release()


async def test_a_place_is_taken_until_the_end() -> None:
    async with Upstream(agreeing()) as upstream:
        action = {"type": "proxy", "upstream": upstream.address, "max_connections": 1, "max_queue": 1}
        async with (
            serving({"action": action}) as prox,
            await prox.connect() as first,
            await prox.connect() as second,
        ):
            await upgraded(first)
            await second.send(get("/", *WEBSOCKET))
            async with await prox.connect() as third:
                await until(lambda: prox.pipeline._running == 2)
                assert (await third.request(get("/", *WEBSOCKET))).status == 503
            first.half_close()
            await first.closed()
            assert (await second.head()).status == 101


async def test_the_access_log_is_written_at_the_end(tmp_path: Path) -> None:
    log = tmp_path / "access"
    async with (
        Upstream(agreeing(first=b"hi")) as upstream,
        serving(upstream.address, root=logging_to(log)) as prox,
    ):
        async with await prox.connect() as client:
            await upgraded(client)
            await client.send(b"abc")
            while len(client.rest) < 5:
                await client._more()
            client.rest = b""
            assert read_log(log) == []
            client.half_close()
            await client.closed()
        await until(lambda: read_log(log))
        (line,) = read_log(log)
        assert (line["status"], line["bytes_in"], line["bytes_out"], line["target"]) == (
            101,
            3,
            5,
            upstream.address,
        )
        assert line.get("reason", "") == ""
        assert line["duration_ms"] > 0


# Fallbacks.


async def test_the_fallback_of_an_upgrade() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        async with Upstream(agreeing()) as upstream:
            spare = {"type": "proxy", "upstream": f"http://{upstream.address}/spare"}
            action = {"type": "proxy", "upstream": f"ws://{address}/main", "fallback": spare}
            async with serving({"action": action}) as prox, await prox.connect() as client:
                await upgraded(client, "/chat?a=b")
                await client.send(b"abc")
                assert await client.take(3) == b"ABC"
            assert upstream.requests[0].target == b"/spare/chat?a=b"


async def test_no_upstream_is_502_and_the_connection_goes_on() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        route: list[dict[str, Any]] = [
            {"match": {"path": "/ok"}, "action": {"type": "static", "status": 204}},
            {"action": {"type": "proxy", "upstream": f"127.0.0.1:{nobody.getsockname()[1]}"}},
        ]
        async with serving(route) as prox, await prox.connect() as client:
            assert (await client.request(get("/", *WEBSOCKET))).status == 502
            assert (await client.request(get("/ok"))).status == 204


@pytest.mark.parametrize("action", ["static", "serve"])
async def test_other_actions_answer_an_upgrade_as_they_answer_all(action: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("hello")
    actions = {
        "static": {"type": "static", "body_ref": {"text": "hello"}},
        "serve": {"type": "serve", "root": str(tmp_path)},
    }
    async with serving({"action": actions[action]}) as prox, await prox.connect() as client:
        for _ in range(2):
            response = await client.request(get("/", *WEBSOCKET))
            assert (response.status, response.body) == (200, b"hello")


async def test_via(tmp_path: Path) -> None:
    async with Upstream(agreeing()) as upstream, serving(upstream.address, config={"via": "edge"}) as prox:
        async with await prox.connect() as client:
            assert (await upgraded(client))["via"] == b"1.1 edge"
        assert upstream.requests[0]["via"] == b"1.1 edge"
