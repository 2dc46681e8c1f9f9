"""Requests past real plugins, made with the SDK; each does what a header of the request says."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from prox.http import server as server_module
from prox.tasks import spawn
from support.client import Client, CutError, get, post, post_chunked
from support.servers import Running, read_log, serving, until, write_sdk_plugin
from support.upstream import OK, Upstream, UpstreamPeer, answer, answering
from support.upstream_messages import Message

# Does what the header X-Do says (or the one named in its environment), and notes everything in a file.
GUARD = """
    NAME = os.environ.get("NAME", "guard")
    HEADER = os.environ.get("HEADER", "x-do")

    def note(**what):
        with open(os.environ["NOTES"], "a") as file:
            file.write(json.dumps({"plugin": NAME, **what}) + "\\n")

    @plugin.on_request
    async def ask(request):
        note(hook="request", method=request.method, path=request.path, query=request.query, domain=request.domain,
             host=request.host, proto=request.proto, client=request.client, length=request.content_length,
             headers=dict(request.headers), body=request.body.decode("latin-1"), target=request.target,
             glob=request.match_glob, captured=request.match_domain, pattern=request.match_path,
             vars=dict(request.vars), route=request.route_id)
        do = json.loads(request.headers.get(HEADER, "{}"))
        kind = do.pop("kind", "allow")
        if kind == "hang":
            try:
                await asyncio.sleep(60)
            finally:
                note(hook="cancelled")
        if kind == "fail":
            raise ValueError("as asked")
        if kind == "die":
            os._exit(3)
        return {"allow": request.allow, "deny": request.deny, "drop": request.drop, "fallback": request.fallback}[kind](**do)
"""

RESPONSE = """
    @plugin.on_response
    async def answer(response):
        note(hook="response", status=response.status, headers=dict(response.headers), path=response.request.path)
        do = json.loads(response.request.headers.get("x-answer", "null"))
        if do == "hang":
            await asyncio.sleep(60)
        if do == "wait":
            while not os.path.exists(os.environ["NOTES"] + ".go"):
                await asyncio.sleep(0.002)
            return None
        if do == "fail":
            raise ValueError("as asked")
        return None if do is None else response.modify(**do)
"""

DISCONNECT = """
    @plugin.on_disconnect
    def end(end):
        note(hook="disconnect", route=end.route_id, received=end.bytes_received, sent=end.bytes_sent, target=end.target)
"""


def do(**what: Any) -> str:
    return f"X-Do: {json.dumps(what)}"


class Guarded:
    """A prox with a guard, its upstream, and what both saw."""

    def __init__(self, prox: Running, upstream: Upstream, notes: Path) -> None:
        self.prox = prox
        self.upstream = upstream
        self._notes = notes

    def notes(self, hook: str = "request") -> list[dict[str, Any]]:
        return [note for note in read_log(self._notes) if note["hook"] == hook]

    def let_go(self) -> None:
        """End the waiting of on_response."""
        self._notes.with_name("notes.go").touch()

    async def connect(self) -> Client:
        return await self.prox.connect()

    async def request(self, data: bytes, method: str = "GET") -> Message:
        """Send on a connection of its own."""
        async with await self.prox.connect() as client:
            return await client.request(data, method)


@asynccontextmanager
async def guarded(
    folder: Path,
    source: str = GUARD,
    *,
    upstream: Upstream | None = None,
    route: dict[str, Any] | None = None,
    service: dict[str, Any] | None = None,
    action: dict[str, Any] | None = None,
    runtime: dict[str, Any] | None = None,
    **plugin: Any,
) -> AsyncIterator[Guarded]:
    notes = folder / "notes"
    async with upstream or Upstream() as served:
        path = write_sdk_plugin(folder, source)
        settings = {"path": path, "env": {"NOTES": str(notes), **plugin.pop("env", {})}, **plugin}
        where = {"action": {"type": "proxy", "upstream": served.address, **(action or {})}, **(route or {})}
        root = {"plugins": {"guard": settings}, "runtime": runtime or {}}
        async with serving(where, root=root, plugins=["guard"], **(service or {})) as prox:
            yield Guarded(prox, served, notes)


# on_request.


async def test_what_the_guard_sees(tmp_path: Path) -> None:
    route = {"match": {"domain": "*.example.**", "path": "/a/*"}, "set": {"k": "v"}}
    async with guarded(tmp_path, route=route) as it:
        request = get(
            "/a/%C3%A9%2Fb?q=%20&r",
            "X-One: 1",
            "x-ONE: 2",
            "X-Latin: \xe9",
            "x_under: 3",
            host="WWW.Example.co.uk:81",
        )
        assert (await it.request(request)).status == 200
        (seen,) = it.notes()
        headers = seen.pop("headers")
        assert seen.pop("client").startswith("127.0.0.1:")
        assert seen == {
            "plugin": "guard",
            "hook": "request",
            "method": "GET",
            "path": "/a/é/b",
            "query": "q=%20&r",
            "domain": "www.example.co.uk",
            "host": "WWW.Example.co.uk:81",
            "proto": "HTTP/1.1",
            "length": 0,
            "body": "",
            "target": "",
            "captured": "www",
            "glob": "co.uk",
            "pattern": "/a/*",
            "vars": {"k": "v"},
            "route": "web:0",
        }
        assert headers == {"X-One": "1", "X-Latin": "é", "X_under": "3"}


async def test_allow(tmp_path: Path) -> None:
    async with guarded(tmp_path, action={"headers": {"X-Action": "action", "X-Both": "action"}}) as it:
        await it.request(
            get(
                "/a?b",
                do(headers={"X-User": "u1", "X-Both": "plugin", "Host": "inner.example"}),
                "X-User: evil",
                "x-user: evil",
                "X_User: evil",
                "X-Kept: 1",
            )
        )
        (message,) = it.upstream.requests
        assert message.all("x-user") == [b"u1"]
        assert b"evil" not in message.raw
        assert message.all("x-both") == [b"plugin"]
        assert message["host"] == b"inner.example"
        assert (message["x-action"], message["x-kept"], message.target) == (b"action", b"1", b"/a?b")


async def test_headers_that_a_plugin_can_not_set(tmp_path: Path) -> None:
    bad = {
        "Content-Length": "99",
        "transfer_encoding": "chunked",
        "Connection": "close",
        "Upgrade": "h2c",
        "X-Crlf": "a\r\nX-Evil: 1",
        "X-Nul": "a\x00",
        "Not A Name": "1",
        "X-Good": "é",
    }
    async with guarded(tmp_path) as it:
        await it.request(post(b"abc", do(headers=bad)))
        (message,) = it.upstream.requests
        assert message.body == b"abc"
        names = {name.lower() for name, _ in message.headers}
        assert not names & {
            b"transfer_encoding",
            b"transfer-encoding",
            b"connection",
            b"upgrade",
            b"x-crlf",
            b"x-nul",
            b"x-evil",
        }
        assert message["x-good"] == "é".encode()


@pytest.mark.parametrize("prefix", ["", "/base"])
async def test_path_and_query_of_a_plugin(tmp_path: Path, prefix: str) -> None:
    async with Upstream() as upstream:
        action = {"upstream": f"http://{upstream.address}{prefix}"}
        async with guarded(tmp_path, upstream=Upstream(), action=action) as it:
            cases: list[tuple[dict[str, Any], str]] = [
                ({}, "/a%2Fb?c=d"),
                ({"path": "/new path/é?#"}, "/new%20path/%C3%A9%3F%23?c=d"),
                ({"path": "x"}, "/x?c=d"),
                ({"strip_query": True}, "/a%2Fb"),
                ({"path": "/x", "strip_query": True}, "/x"),
            ]
            for what, target in cases:
                await it.request(get("/a%2Fb?c=d", do(**what)))
                assert upstream.requests[-1].target == (prefix + target).encode()


LEAVING = ["/../../etc", "..", "/a/./b", "/a/..", "\\..\\x"]


async def test_a_path_that_would_leave_the_prefix_is_no_answer(tmp_path: Path) -> None:
    async with guarded(tmp_path) as it:
        for path in LEAVING:
            assert (await it.request(get("/", do(path=path)))).status == 503
        assert not it.upstream.peers
        assert (await it.request(get("/", do(path="/a..b/.c")))).status == 200
        denied = await it.request(get("/", do(kind="deny", status=403)))
        assert denied.status == 403


async def test_a_path_that_would_leave_the_prefix_with_on_error_allow(tmp_path: Path) -> None:
    async with guarded(tmp_path, on_error="allow") as it:
        for path in LEAVING:
            assert (await it.request(get("/as-it-came", do(path=path)))).status == 200
        assert {request.target for request in it.upstream.requests} == {b"/as-it-came"}


async def test_a_path_that_would_leave_the_prefix_where_dot_segments_pass(tmp_path: Path) -> None:
    async with guarded(tmp_path, runtime={"dot_segments": "pass"}) as it:
        assert (await it.request(get("/", do(path="/a/../b")))).status == 200
        assert it.upstream.requests[-1].target == b"/a/../b"


async def test_deny(tmp_path: Path) -> None:
    async with guarded(tmp_path) as it, await it.connect() as client:
        plain = await client.request(get("/", do(kind="deny")))
        assert (plain.status, plain.body, plain["content-type"]) == (403, b"", b"text/plain; charset=utf-8")
        full = await client.request(
            get(
                "/",
                do(
                    kind="deny",
                    status=401,
                    body="<b>é</b>",
                    headers={
                        "Content-Type": "text/html",
                        "WWW-Authenticate": "Basic",
                        "Connection": "close",
                        "Content-Length": "1",
                    },
                ),
            )
        )
        assert (full.status, full.body.decode(), full["content-type"]) == (401, "<b>é</b>", b"text/html")
        assert full["www-authenticate"] == b"Basic"
        assert "connection" not in full
        for status in [204, 304]:
            empty = await client.request(get("/", do(kind="deny", status=status, body="not to be sent")))
            assert (empty.status, empty.body) == (status, b"")
        head = await client.request(get("/", do(kind="deny", body="abc"), method="HEAD"), "HEAD")
        assert (head.status, head["content-length"]) == (403, b"3")
        # A denial keeps the connection.
        assert (await client.request(post(b"abc", do(kind="deny", status=499)))).status == 499
        assert (await client.request(get())).status == 200
        assert len(it.upstream.requests) == 1


async def test_drop(tmp_path: Path) -> None:
    log = tmp_path / "access"
    async with guarded(tmp_path, route={"access_log": str(log)}) as it:
        async with await it.connect() as client:
            await client.send(get("/", do(kind="drop")))
            await client.closed()
        assert not it.upstream.peers
        await until(lambda: len(read_log(log)) == 1)
        (line,) = read_log(log)
        assert (line["status"], line["plugin"], line["verdict"]) == (0, "guard", "drop")


async def test_fallback(tmp_path: Path) -> None:
    spare = {"type": "static", "status": 200, "body_ref": {"text": "spare"}}
    async with guarded(tmp_path, action={"fallback": spare}) as it:
        assert (await it.request(get("/", do(kind="fallback")))).body == b"spare"
        assert not it.upstream.peers
    async with guarded(tmp_path) as it:
        assert (await it.request(get("/", do(kind="fallback")))).status == 503


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (1, 1),
        (64 * 1024 - 1, 64 * 1024 - 1),
        (64 * 1024, 64 * 1024),
        (64 * 1024 + 1, 64 * 1024),
        (500_000, 64 * 1024),
    ],
)
async def test_the_body_that_is_shown(tmp_path: Path, size: int, shown: int) -> None:
    body = bytes(number % 251 for number in range(size))
    async with guarded(tmp_path) as it:
        async with await it.connect() as client:
            await client.send(get("/", f"Content-Length: {size}", method="POST"))
            for start in range(0, size, 40_000):
                await client.send(body[start : start + 40_000])
            assert (await client.response()).status == 200
        (seen,) = it.notes()
        assert (seen["length"], seen["body"].encode("latin-1")) == (size, body[:shown])
        assert it.upstream.requests[0].body == body


async def test_bodies_that_are_not_shown(tmp_path: Path) -> None:
    async with guarded(tmp_path) as it, await it.connect() as client:
        for request, length in [
            (post_chunked(b"abc"), -1),
            (get("/", "Content-Length: 3", method="DELETE") + b"abc", 3),
            (get("/", "Content-Length: 3") + b"abc", 3),
        ]:
            assert (await client.request(request)).status == 200
            seen = it.notes()[-1]
            assert (seen["body"], seen["length"]) == ("", length)
            assert it.upstream.requests[-1].body == b"abc"


async def test_a_guard_that_needs_the_body_of_a_client_that_waits_for_100(tmp_path: Path) -> None:
    async with guarded(tmp_path) as it, await it.connect() as client:
        await client.send(get("/", "Content-Length: 3", "Expect: 100-continue", method="PUT"))
        assert (await client.message()).status == 100
        await client.send(b"abc")
        assert (await client.message()).status == 200
        assert it.notes()[0]["body"] == "abc"
        assert "expect" not in it.upstream.requests[0]
        # Without a body to show, the upstream is asked.
        await client.send(get("/", "Transfer-Encoding: chunked", "Expect: 100-continue", method="PUT"))
        await until(lambda: b"Expect: 100-continue" in it.upstream.peers[0].received)
        await client.send(b"0\r\n\r\n")
        assert (await client.message()).status == 200


async def test_a_client_that_breaks_off_the_body_that_a_guard_needs(tmp_path: Path) -> None:
    async with guarded(tmp_path, service={"config": {"read_timeout": "100ms"}}) as it:
        async with await it.connect() as client:
            await client.send(get("/", "Content-Length: 10", method="POST"), b"abc")
        await it.prox.quiet()
        async with await it.connect() as client:
            await client.send(get("/", "Content-Length: 10", method="POST"), b"abc")
            assert (await client.response()).status == 408
        assert it.notes() == []
        assert not it.upstream.peers


async def test_the_target_is_chosen_before_the_guard_and_given_back(tmp_path: Path) -> None:
    async with Upstream() as one, Upstream() as two:
        route = {"balancer": {"type": "leastconn", "targets": [one.address, two.address]}}
        async with guarded(tmp_path, route=route, action={"upstream": "{target}"}) as it:
            for what in [do(kind="deny"), do(kind="drop"), do()]:
                async with await it.connect() as client:
                    await client.send(get("/", what))
                    await client.take(1)
            assert [note["target"] for note in it.notes()] == [one.address] * 3
            assert len(one.requests) == 1
            it.prox.balancer.set_targets([])
            # That there is none is answered after the guard.
            assert (await it.request(get("/", do(kind="deny")))).status == 403
            assert (await it.request(get())).status == 503


# Several plugins.


async def test_several_plugins(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    path = write_sdk_plugin(tmp_path, GUARD)
    plugins = {
        name: {"path": path, "env": {"NOTES": str(notes), "NAME": name, "HEADER": f"x-{name}"}}
        for name in ["service", "action", "route", "spare"]
    }
    spare = {"type": "static", "status": 200, "body_ref": {"text": "spare"}, "plugins": ["spare"]}

    def each(**what: dict[str, Any]) -> list[str]:
        return [f"X-{name}: {json.dumps(value)}" for name, value in what.items()]

    async with Upstream() as upstream:
        action = {
            "type": "proxy",
            "upstream": upstream.address,
            "plugins": ["action", "service"],
            "fallback": spare,
        }
        route = {"action": action, "plugins": ["route"]}
        async with (
            serving(route, plugins=["service"], root={"plugins": plugins}) as prox,
            await prox.connect() as client,
        ):

            def asked() -> list[str]:
                names = [note["plugin"] for note in read_log(notes)]
                notes.unlink(missing_ok=True)
                return names

            lines = each(
                service={
                    "headers": {"X-A": "service", "x-b": "service"},
                    "path": "/service",
                    "strip_query": True,
                },
                action={"headers": {"X-B": "action", "X_A": "action"}},
                route={"path": "/route"},
            )
            assert (await client.request(get("/a?b", *lines))).status == 200
            assert asked() == ["service", "action", "route"]
            (message,) = upstream.requests
            assert message.target == b"/route"
            assert (message.all("x-a") + message.all("x_a"), message.all("x-b")) == ([b"action"], [b"action"])

            lines = each(action={"kind": "deny", "status": 401})
            assert (await client.request(get("/", *lines))).status == 401
            assert asked() == ["service", "action"]

            # A fallback does not end the asking, and has guards of its own.
            assert (await client.request(get("/", *each(service={"kind": "fallback"})))).body == b"spare"
            assert asked() == ["service", "action", "route", "spare"]
            lines = each(service={"kind": "fallback"}, route={"kind": "deny", "status": 402})
            assert (await client.request(get("/", *lines))).status == 402
            asked()
            lines = each(service={"kind": "fallback"}, spare={"kind": "deny", "status": 405})
            assert (await client.request(get("/", *lines))).status == 405
            assert len(upstream.requests) == 1


async def test_own_headers(tmp_path: Path) -> None:
    async with guarded(tmp_path, own_headers=["X-User-Id"], action={"headers": {"X-Other": "1"}}) as it:
        lines = ["X-User-Id: evil", "x-user-id: evil", "X_User_Id: evil", "X-USER_ID: evil"]
        await it.request(get("/", *lines))
        await it.request(get("/", *lines, do(headers={"X-User-Id": "u1"})))
        first, second = it.upstream.requests
        assert b"evil" not in first.raw + second.raw
        assert second["x-user-id"] == b"u1"
        assert "evil" not in json.dumps(it.notes())


# Guards in error.


async def test_a_guard_that_is_not_ready(tmp_path: Path) -> None:
    """It never says ready: listeners open after start_timeout, and nothing passes."""
    program = tmp_path / "mute"
    program.write_text("#!/bin/sh\nexec cat >/dev/null\n")
    program.chmod(0o755)
    log = tmp_path / "access"
    async with Upstream() as upstream:
        route = {"action": {"type": "proxy", "upstream": upstream.address}, "access_log": str(log)}
        root = {"plugins": {"guard": {"path": str(program), "start_timeout": "100ms"}}}
        async with serving(route, plugins=["guard"], root=root) as prox, await prox.connect() as client:
            for _ in range(3):
                response = await client.request(post(b"x" * 100))
                assert response.status == 503
                assert b"guard" not in response.body
            assert not upstream.peers
            await until(lambda: len(read_log(log)) == 3)
            line = read_log(log)[0]
            assert (line["status"], line["plugin"], line["verdict"], line["reason"]) == (
                503,
                "guard",
                "error",
                "plugin_error",
            )


async def test_a_guard_that_fails_dies_or_hangs(tmp_path: Path) -> None:
    async with guarded(tmp_path, route={"plugin_timeout": "200ms"}) as it, await it.connect() as client:
        for kind in ["fail", "hang", "die"]:
            assert (await client.request(get("/", do(kind=kind)))).status == 503
        # It is down now, and is never gone round.
        for _ in range(3):
            assert (await client.request(get())).status == 503
        assert not it.upstream.peers


async def test_a_guard_in_error_that_may_be_gone_round(tmp_path: Path) -> None:
    async with (
        guarded(tmp_path, on_error="allow", route={"plugin_timeout": "200ms"}) as it,
        await it.connect() as client,
    ):
        for kind in ["fail", "hang", "die", "allow"]:
            assert (await client.request(get("/", do(kind=kind)))).status == 200
        assert (await client.request(get("/", do(kind="deny")))).status in {200, 403}


async def test_a_guard_that_is_killed(tmp_path: Path) -> None:
    source = GUARD + "\n    open(os.environ['NOTES'] + '.pid', 'w').write(str(os.getpid()))\n"
    async with guarded(tmp_path, source) as it, await it.connect() as client:
        assert (await client.request(get())).status == 200
        os.kill(int((tmp_path / "notes.pid").read_text()), signal.SIGKILL)
        await until(lambda: len(it.notes()) == 1)
        response = await client.request(get())
        while response.status == 200:  # until the end of the process has been seen
            response = await client.request(get())
        assert response.status == 503
        before = len(it.upstream.requests)
        assert (await client.request(get())).status == 503
        assert len(it.upstream.requests) == before


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("size", [0, 200_000])  # of which prox reads no more than the guard is shown
async def test_a_client_that_goes_while_its_guard_thinks(tmp_path: Path, size: int, end: str) -> None:
    async with guarded(tmp_path, GUARD + DISCONNECT) as it:
        client = await it.connect()
        await client.send(get("/", do(kind="hang"), f"Content-Length: {size}", method="POST"), b"x" * size)
        await until(it.notes)
        getattr(client, end)()
        async with asyncio.timeout(1):
            await until(lambda: it.notes("cancelled"))
            await it.prox.quiet()
        assert not it.upstream.peers
        assert it.notes("disconnect") == []  # no action was asked


@pytest.mark.parametrize("request_", [get("/\xe9".encode().decode("latin-1"), "X: " + "a" * 3000)])
async def test_a_request_that_is_too_large_for_the_guard(tmp_path: Path, request_: bytes) -> None:
    service = {"config": {"max_header_bytes": 2_000_000, "max_target_bytes": 4000}}
    async with guarded(tmp_path, on_error="allow", service=service) as it, await it.connect() as client:
        large = get("/", "X: " + "a" * 1_500_000)
        response = await client.request(large)
        assert response.status == 431  # whatever on_error says
        assert not it.upstream.peers


# on_response.


async def test_on_response(tmp_path: Path) -> None:
    reply = answer(b"hello", b"Server: x", b"X-A: 1", b"x-a: 2", b"X_A: 3", b"X-Keep: 1", status=b"201 Made")

    def ask(what: object) -> str:
        return f"X-Answer: {json.dumps(what)}"

    async with (
        guarded(tmp_path, GUARD + RESPONSE, upstream=Upstream(answering(reply))) as it,
        await it.connect() as client,
    ):
        kept = await client.request(get("/p"))
        assert (kept.line, kept.body, kept.all("x-a")) == (b"HTTP/1.1 201 Made", b"hello", [b"1", b"2"])
        seen = it.notes("response")[0]
        assert (seen["status"], seen["path"], seen["headers"]["X-A"]) == (201, "/p", "1")

        changed = await client.request(
            get(
                "/",
                ask(
                    {
                        "status": 202,
                        "headers": {"x-a": "new", "X-New": "n", "Content-Length": "1"},
                        "remove": ["server", "x_keep", "Content-Length"],
                    }
                ),
            )
        )
        assert (changed.line, changed.body) == (b"HTTP/1.1 202 Accepted", b"hello")
        assert changed.all("x-a") + changed.all("x_a") == [b"new"]
        assert (changed["x-new"], "server" in changed, "x-keep" in changed) == (b"n", False, False)

        head = await client.request(get("/", ask({"status": 299}), method="HEAD"), "HEAD")
        assert (head.status, head["content-length"]) == (299, b"5")

        for status in [204, 304]:
            without = await client.request(get("/", ask({"status": status})))
            assert (without.status, without.body) == (status, b"")
        before = len(it.notes("response"))
        await client.send(get("/", ask("wait")))
        await until(lambda: len(it.notes("response")) > before)
        it.let_go()
        assert (await client.response()).body == b"hello"


@pytest.mark.parametrize(
    "first", [b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"]
)
async def test_a_status_with_content_in_place_of_one_without(tmp_path: Path, first: bytes) -> None:
    async with (
        guarded(tmp_path, GUARD + RESPONSE, upstream=Upstream(answering(first))) as it,
        await it.connect() as client,
    ):
        for _ in range(2):
            changed = await client.request(get("/", 'X-Answer: {"status": 200}'))
            assert (changed.status, changed.body) == (200, b"")


async def test_a_long_answer_whose_body_is_dropped(tmp_path: Path) -> None:
    async def endless(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not peer.eof:
            await peer.send(b"5\r\nhello\r\n")

    async with (
        guarded(tmp_path, GUARD + RESPONSE, upstream=Upstream(endless)) as it,
        await it.connect() as client,
    ):
        assert (await client.request(get("/", 'X-Answer: {"status": 204}'))).status == 204
        it.upstream.script = answering(OK)
        assert (await client.request(get())).status == 200


async def test_a_long_answer_waits_for_on_response_outside_of_memory(tmp_path: Path) -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n")
        for _ in range(30):
            await peer.send(b"x" * 1_000_000)
            sent.append(1)

    sent: list[int] = []
    async with (
        guarded(tmp_path, GUARD + RESPONSE, upstream=Upstream(script)) as it,
        await it.connect() as client,
    ):
        await client.send(get("/", 'X-Answer: "wait"'))
        await until(lambda: it.notes("response"))
        await until(lambda: any(connection._paused for connection in it.prox.upstream_connections))
        assert len(sent) < 15
        it.let_go()
        assert (await client.head()).status == 200
        left = 30_000_000
        while left:
            left -= len(await client.take(1))


async def test_on_response_in_error(tmp_path: Path) -> None:
    for policy, status in [("deny", 502), ("allow", 200)]:
        folder = tmp_path / policy
        folder.mkdir()
        on_error = {"response": policy}
        route = {"plugin_timeout": "300ms"}
        async with (
            guarded(folder, GUARD + RESPONSE, on_error=on_error, route=route) as it,
            await it.connect() as client,
        ):
            for what in ["fail", "hang"]:
                response = await client.request(get("/", f'X-Answer: "{what}"'))
                assert response.status == status
            # The upstream's connection, idle since, serves on.
            assert (await client.request(get())).status == 200
            assert len(it.upstream.peers) == 1


async def test_a_held_answer_has_no_say_over_its_connections_next_request(tmp_path: Path) -> None:
    """While one answer waits for on_response, its connection serves another request."""
    async with guarded(
        tmp_path, GUARD + RESPONSE, on_error={"response": "deny"}, route={"plugin_timeout": "300ms"}
    ) as it:
        go_on = asyncio.Event()

        async def script(peer: UpstreamPeer) -> None:
            while (request := await peer.request()) is not None:
                if request.target == b"/second":
                    await go_on.wait()
                await peer.send(OK)

        it.upstream.script = script
        async with await it.connect() as one, await it.connect() as two:
            await one.send(get("/first", 'X-Answer: "hang"'))
            await until(lambda: it.notes("response"))
            await two.send(get("/second"))
            await until(lambda: len(it.upstream.requests) == 2)
            assert len(it.upstream.peers) == 1
            assert (await one.response()).status == 502
            go_on.set()
            assert (await two.response()).status == 200


@pytest.mark.parametrize(
    "reply",
    [
        answer(b"abc", length=10),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n",
    ],
)
async def test_an_upstream_that_breaks_while_its_answer_is_held(tmp_path: Path, reply: bytes) -> None:
    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(reply)

    async with (
        guarded(tmp_path, GUARD + RESPONSE, upstream=Upstream(script)) as it,
        await it.connect() as client,
    ):
        await client.send(get("/", 'X-Answer: "wait"'))
        await until(lambda: it.notes("response"))
        # It has seen the end, or reads no further before the plugin has decided.
        await until(lambda: all(connection._paused for connection in it.prox.upstream_connections))
        it.let_go()
        with pytest.raises(CutError) as caught:
            await client.response()
        assert caught.value.received.count(b"HTTP/1.1") == 1


async def test_a_client_that_goes_while_its_answer_is_held(tmp_path: Path) -> None:
    async with guarded(tmp_path, GUARD + RESPONSE + DISCONNECT) as it:
        client = await it.connect()
        await client.send(get("/", 'X-Answer: "hang"'))
        await until(lambda: it.notes("response"))
        client.abort()
        await it.prox.quiet()
        await until(lambda: it.notes("disconnect"))


async def test_on_response_is_not_asked_for_proxs_own_answers(tmp_path: Path) -> None:
    async with guarded(tmp_path, GUARD + RESPONSE, action={"upstream": "127.0.0.1:1"}) as it:
        assert (await it.request(get())).status == 502
        assert (await it.request(get("/", do(kind="deny")))).status == 403
        assert it.notes("response") == []


# on_disconnect.


async def test_on_disconnect(tmp_path: Path) -> None:
    async def script(peer: UpstreamPeer) -> None:
        while (request := await peer.request()) is not None:
            if request.target == b"/slow":
                await peer.send(answer(b"abc", length=10))
                await peer.closed()
            await peer.send(answer(b"hello"))

    async with guarded(tmp_path, GUARD + DISCONNECT, upstream=Upstream(script)) as it:
        await it.request(post(b"abc"))
        await it.request(get("/", do(kind="deny")))
        client = await it.connect()
        await client.send(get("/slow"))
        head = await client.head()
        assert head.status == 200
        await client.take(3)
        client.abort()
        await until(lambda: len(it.notes("disconnect")) == 2)
        rows = [(note["route"], note["received"], note["sent"]) for note in it.notes("disconnect")]
        assert rows == [("web:0", 3, 5), ("web:0", 0, 3)]


# The access log.


async def test_the_access_log_names_the_plugin_and_its_verdict(tmp_path: Path) -> None:
    log = tmp_path / "access"
    spare = {"type": "static", "status": 200, "body_ref": {"text": "spare"}}
    async with guarded(tmp_path, route={"access_log": str(log)}, action={"fallback": spare}) as it:
        for kind in ["allow", "deny", "fallback", "fail"]:
            await it.request(get("/", do(kind=kind)))
        await until(lambda: len(read_log(log)) == 4)
        lines = read_log(log)
        assert [(line["verdict"], line["status"]) for line in lines] == [
            ("allow", 200),
            ("deny", 403),
            ("fallback", 200),
            ("error", 503),
        ]
        assert [(line.get("plugin"), line.get("hook_ms", -1) > 0) for line in lines] == [("guard", True)] * 4


async def test_a_body_that_is_still_coming_when_the_guard_denies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "LINGER", 0.5)
    async with guarded(tmp_path) as it, await it.connect() as client:
        await client.send(get("/", "Content-Length: 10000000", do(kind="deny"), method="POST"))
        sending = spawn(client.send(b"x" * 10_000_000), "send")
        response = await client.response()
        assert (response.status, response["connection"]) == (403, b"close")
        sending.cancel()
