"""Plugins and tunnels: the handshake is guarded as any request, its answer is shown, the end is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.client import Client, get
from support.servers import Running, read_log, serving, until, write_sdk_plugin
from support.tunnels import CONNECTED, SWITCHED, WEBSOCKET, agreeing, connect, upgraded
from support.upstream import OK, Upstream, UpstreamPeer, answer, answering

REQUEST = """
    def note(**what):
        with open(os.environ["NOTES"], "a") as file:
            file.write(json.dumps(what) + "\\n")

    @plugin.on_request
    def ask(request):
        note(hook="request", method=request.method, path=request.path, domain=request.domain, host=request.host,
             headers=dict(request.headers))
        do = json.loads(request.headers.get("x-do", "{}"))
        kind = do.pop("kind", "allow")
        if "response" in do:
            do["response"] = modify(headers=do["response"])
        return {"allow": request.allow, "deny": request.deny, "drop": request.drop, "fallback": request.fallback}[kind](**do)
"""

ALLOWING = """
    plugin = Plugin(features=["response.allow"])
"""

RESPONSE = """
    @plugin.on_response
    async def answer(response):
        note(hook="response", status=response.status, headers=dict(response.headers))
        do = json.loads(response.request.headers.get("x-answer", "{}"))
        while do.pop("wait", False) and not os.path.exists(os.environ["NOTES"] + ".go"):
            await asyncio.sleep(0.002)
        if do.pop("fail", False):
            raise ValueError("as asked")
        return response.modify(**do) if do else None
"""

DISCONNECT = """
    @plugin.on_disconnect
    def end(end):
        note(hook="disconnect", received=end.bytes_received, sent=end.bytes_sent)
"""


class Guarded:
    """A prox with a guard, and what it noted."""

    def __init__(self, prox: Running, upstream: Upstream, notes: Path) -> None:
        self.prox = prox
        self.upstream = upstream
        self._notes = notes

    def notes(self, hook: str) -> list[dict[str, Any]]:
        return [note for note in read_log(self._notes) if note["hook"] == hook]

    def let_go(self) -> None:
        self._notes.with_name("notes.go").touch()


@asynccontextmanager
async def guarded(
    folder: Path,
    upstream: Upstream,
    source: str = REQUEST + RESPONSE + DISCONNECT,
    *,
    match: dict[str, Any] | None = None,
    action: dict[str, Any] | None = None,
    **plugin: Any,
) -> AsyncIterator[Guarded]:
    notes = folder / "notes"
    async with upstream:
        path = write_sdk_plugin(folder, source)
        settings = {"path": path, "env": {"NOTES": str(notes)}, **plugin}
        route: dict[str, Any] = {"action": {"type": "proxy", "upstream": upstream.address, **(action or {})}}
        if match:
            route["match"] = match
        async with serving(route, root={"plugins": {"guard": settings}}, plugins=["guard"]) as prox:
            yield Guarded(prox, upstream, notes)


def do(header: str, **what: Any) -> str:
    return f"{header}: {json.dumps(what)}"


async def exactly(client: Client, size: int) -> bytes:
    received = b""
    while len(received) < size:
        received += await client.take(1)
    return received


async def test_a_guard_sees_the_handshake_and_lets_it_pass(tmp_path: Path) -> None:
    async with (
        guarded(tmp_path, Upstream(agreeing()), own_headers=["X-User"]) as it,
        await it.prox.connect() as client,
    ):
        await upgraded(
            client,
            "/chat",
            "X-User: root",
            "Sec-WebSocket-Protocol: chat",
            do("X-Do", kind="allow", headers={"X-User": "ada", "Upgrade": "h2c", "Connection": "close"}),
        )
        await client.send(b"abc")
        assert await exactly(client, 3) == b"ABC"
        (seen,) = it.notes("request")
        assert (seen["method"], seen["path"], seen["domain"]) == ("GET", "/chat", "test.example")
        assert seen["headers"]["Sec-Websocket-Protocol"] == "chat"
        assert seen["headers"]["Upgrade"] == "websocket"
        assert "X-User" not in seen["headers"]
        (asked,) = it.upstream.requests
        assert (asked["x-user"], asked["upgrade"], asked["connection"]) == (b"ada", b"websocket", b"Upgrade")
        (shown,) = it.notes("response")
        assert shown["status"] == 101


async def test_a_guard_denies(tmp_path: Path) -> None:
    async with guarded(tmp_path, Upstream(agreeing())) as it, await it.prox.connect() as client:
        for _ in range(2):
            denied = do("X-Do", kind="deny", status=401, body="who?")
            response = await client.request(get("/", *WEBSOCKET, denied))
            assert (response.status, response.body) == (401, b"who?")
        assert not it.upstream.peers
        assert not it.notes("disconnect")


async def test_counts_are_told_at_the_end(tmp_path: Path) -> None:
    async with guarded(tmp_path, Upstream(agreeing(first=b"hi"))) as it:
        async with await it.prox.connect() as client:
            await upgraded(client)
            await client.send(b"abc")
            assert await exactly(client, 5) == b"hiABC"
            assert not it.notes("disconnect")
            client.half_close()
            await client.closed()
        await until(lambda: it.notes("disconnect"))
        assert it.notes("disconnect") == [{"hook": "disconnect", "received": 3, "sent": 5}]


async def test_counts_are_told_at_an_abrupt_end(tmp_path: Path) -> None:
    async with guarded(tmp_path, Upstream(agreeing())) as it:
        async with await it.prox.connect() as client:
            await upgraded(client)
            await client.send(b"abc")
            assert await exactly(client, 3) == b"ABC"
            client.abort()
            await until(lambda: it.notes("disconnect"))
        assert it.notes("disconnect") == [{"hook": "disconnect", "received": 3, "sent": 3}]


async def test_on_response_changes_the_headers_of_the_101(tmp_path: Path) -> None:
    async with (
        guarded(tmp_path, Upstream(agreeing(SWITCHED[:-2] + b"X-Gone: 1\r\nX-Kept: 1\r\n\r\n"))) as it,
        await it.prox.connect() as client,
    ):
        change = do(
            "X-Answer", headers={"X-New": "1", "Upgrade": "other", "Connection": "close"}, remove=["X-Gone"]
        )
        head = await upgraded(client, "/", change)
        assert (head["x-new"], head["x-kept"]) == (b"1", b"1")
        assert (head["upgrade"], head["connection"]) == (b"websocket", b"Upgrade")
        assert "x-gone" not in head
        await client.send(b"abc")
        assert await exactly(client, 3) == b"ABC"


@pytest.mark.parametrize(
    ("what", "status"), [({"status": 403}, 403), ({"status": 200}, 200), ({"fail": True}, 502)]
)
async def test_on_response_refuses_a_101(tmp_path: Path, what: dict[str, Any], status: int) -> None:
    async with (
        guarded(tmp_path, Upstream(agreeing()), on_error={"response": "deny"}) as it,
        await it.prox.connect() as client,
    ):
        for _ in range(2):
            response = await client.request(
                get("/", *WEBSOCKET, do("X-Answer", headers={"X-New": "1"}, **what))
            )
            assert response.status == status
            if status != 502:
                assert (response.body, response["x-new"]) == (b"", b"1")
            assert "sec-websocket-accept" not in response
            assert "upgrade" not in response
        await it.prox.quiet(idle=0, connections=1)
        await until(lambda: all(peer.eof for peer in it.upstream.peers))


async def test_bytes_wait_for_on_response(tmp_path: Path) -> None:
    async with (
        guarded(tmp_path, Upstream(agreeing(first=b"first"))) as it,
        await it.prox.connect() as client,
    ):
        await client.send(get("/", *WEBSOCKET, do("X-Answer", wait=True)) + b"early")
        await until(lambda: it.notes("response"))
        await client.send(b" bird")
        assert it.upstream.peers[0].received.endswith(b"\r\n\r\n")
        it.let_go()
        assert (await client.head()).status == 101
        assert await exactly(client, 15) == b"firstEARLY BIRD"


@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_an_end_while_on_response_decides(tmp_path: Path, who: str) -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(SWITCHED, b"last words")
        if who == "client":
            await peer.closed()

    async with (
        guarded(tmp_path, Upstream(script)) as it,
        await it.prox.connect() as client,
    ):
        await client.send(get("/", *WEBSOCKET, do("X-Answer", wait=True)))
        await until(lambda: it.notes("response"))
        if who == "client":
            client.abort()
            await it.prox.quiet(idle=0)
            return
        it.let_go()
        assert (await client.head()).status == 101
        assert await exactly(client, 10) == b"last words"
        await client.closed()
        client.half_close()
        await it.prox.quiet(idle=0)


async def test_a_refused_upgrade_is_shown_too(tmp_path: Path) -> None:
    refusal = answer(b"no", status=b"400 No")
    async with guarded(tmp_path, Upstream(answering(refusal))) as it, await it.prox.connect() as client:
        response = await client.request(get("/", *WEBSOCKET, do("X-Answer", status=418)))
        assert (response.status, response.body) == (418, b"no")
        assert it.notes("response")[0]["status"] == 400


async def test_headers_onto_the_answer_of_an_allowed_upgrade(tmp_path: Path) -> None:
    async with (
        guarded(tmp_path, Upstream(agreeing()), ALLOWING + REQUEST) as it,
        await it.prox.connect() as client,
    ):
        changed = do("X-Do", kind="allow", response={"X-New": "1", "Upgrade": "x"})
        head = await upgraded(client, "/", changed)
        assert (head["x-new"], head["upgrade"]) == (b"1", b"websocket")
        await client.send(b"abc")
        assert await exactly(client, 3) == b"ABC"


async def test_a_plugin_sends_an_upgrade_to_the_fallback(tmp_path: Path) -> None:
    async with Upstream(agreeing(first=b"spare")) as spare:
        action = {"fallback": {"type": "proxy", "upstream": spare.address}}
        async with (
            guarded(tmp_path, Upstream(agreeing()), action=action) as it,
            await it.prox.connect() as client,
        ):
            await upgraded(client, "/", do("X-Do", kind="fallback"))
            assert await exactly(client, 5) == b"spare"
            assert not it.upstream.peers


# CONNECT.


FORWARD = {"forward_proxy": True}


async def test_a_guard_sees_connect(tmp_path: Path) -> None:
    async with (
        guarded(tmp_path, Upstream(agreeing(CONNECTED)), match=FORWARD) as it,
        await it.prox.connect() as client,
    ):
        await client.send(
            connect("Far.example:443", do("X-Do", kind="allow", path="/x", headers={"Host": "evil"}))
        )
        assert (await client.head()).status == 200
        await client.send(b"abc")
        assert await exactly(client, 3) == b"ABC"
        client.half_close()
        await client.closed()
        (seen,) = it.notes("request")
        assert (seen["method"], seen["path"]) == ("CONNECT", "")
        assert (seen["domain"], seen["host"]) == ("far.example", "Far.example:443")
        assert it.notes("response")[0]["status"] == 200
        (asked,) = it.upstream.requests
        assert (asked.target, asked["host"]) == (b"Far.example:443", b"Far.example:443")
        await until(lambda: it.notes("disconnect"))
        assert it.notes("disconnect") == [{"hook": "disconnect", "received": 3, "sent": 3}]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (do("X-Do", kind="deny"), 403),
        (do("X-Do", kind="deny", status=407, headers={"Proxy-Authenticate": "Basic"}), 407),
        (do("X-Do", kind="deny", status=200), 403),
        (do("X-Do", kind="fallback"), 503),
        (do("X-Answer", status=403), 403),
        (do("X-Answer", fail=True), 502),
    ],
)
async def test_a_connect_that_is_refused(tmp_path: Path, request_: str, status: int) -> None:
    action = {"fallback": {"type": "static", "body_ref": {"text": "fallback"}}}
    async with (
        guarded(
            tmp_path,
            Upstream(agreeing(CONNECTED)),
            match=FORWARD,
            action=action,
            on_error={"response": "deny"},
        ) as it,
        await it.prox.connect() as client,
    ):
        for _ in range(2):
            response = await client.request(connect("far.example:443", request_))
            assert response.status == status
        await it.prox.quiet(idle=0, connections=1)


async def test_no_refused_connect_becomes_what_looks_like_a_tunnel(tmp_path: Path) -> None:
    refusal = answer(b"no", status=b"403 No")
    async with (
        guarded(tmp_path, Upstream(answering(refusal, OK)), match=FORWARD) as it,
        await it.prox.connect() as client,
    ):
        response = await client.request(connect("far.example:443", do("X-Answer", status=200)))
        assert response.status == 502


async def test_a_status_that_is_still_a_tunnel(tmp_path: Path) -> None:
    async with (
        guarded(tmp_path, Upstream(agreeing(CONNECTED)), match=FORWARD) as it,
        await it.prox.connect() as client,
    ):
        await client.send(connect("far.example:443", do("X-Answer", status=202)))
        assert (await client.head()).status == 202
        await client.send(b"abc")
        assert await exactly(client, 3) == b"ABC"


async def test_a_client_that_is_dropped(tmp_path: Path) -> None:
    async with guarded(tmp_path, Upstream(agreeing())) as it, await it.prox.connect() as client:
        await client.send(get("/", *WEBSOCKET, do("X-Do", kind="drop")))
        await asyncio.wait_for(client.closed(), 10)
        assert not it.upstream.peers
