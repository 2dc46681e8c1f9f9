from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from support.client import Client, get, post
from support.servers import read_log, serving, until
from support.upstream import OK, Upstream, UpstreamPeer, answer, answering, sending


def static(text: str, status: int = 200, **keys: Any) -> dict[str, Any]:
    return {"type": "static", "status": status, "body_ref": {"text": text}, **keys}


def closed_port() -> str:
    """An address where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


async def body(client: Client, request: bytes) -> tuple[int, bytes]:
    response = await client.request(request)
    return response.status, response.body


# Routes.


async def test_the_first_route_that_matches() -> None:
    routes = [
        {"match": {"domain": "*.example.com", "path": "/api/*"}, "action": static("api")},
        {"match": {"domain": "www.example.com"}, "action": static("www")},
        {"match": {"methods": ["post"]}, "action": static("post")},
        {"match": {"path": "/exact, /other/*"}, "action": static("path")},
    ]
    async with serving(routes) as prox, await prox.connect() as client:
        for request, expected in [
            (get("/api/x", host="WWW.Example.com:8080"), (200, b"api")),
            (get("/api", host="www.example.com"), (200, b"www")),
            (get("/%61pi/x", host="www.example.com"), (200, b"api")),
            (post(b"abc"), (200, b"post")),
            (get("/exact"), (200, b"path")),
            (get("/exact?x"), (200, b"path")),
            (get("/other/"), (200, b"path")),
            (get("/exact/"), (404, b"Not Found\n")),
            (get("/api/x", host="a.b.example.com"), (404, b"Not Found\n")),
        ]:
            assert await body(client, request) == expected


async def test_http_1_0_without_host_matches_routes_without_a_domain() -> None:
    routes = [{"match": {"domain": "example.**"}, "action": static("domain")}, {"action": static("any")}]
    async with serving(routes) as prox, await prox.connect() as client:
        assert await body(client, b"GET / HTTP/1.0\r\n\r\n") == (200, b"any")


async def test_drop() -> None:
    async with serving({"action": {"type": "drop"}}) as prox:
        async with await prox.connect() as client:
            await client.send(get() + get())
            await client.closed()
        await prox.quiet()
        assert prox.pipeline.counters.statuses[0] == 1


# Targets.


async def test_targets_are_taken_in_turn() -> None:
    async with Upstream(answering(answer(b"1"))) as one, Upstream(answering(answer(b"2"))) as two:
        route = {
            "balancer": {"type": "roundrobin", "targets": [one.address, two.address]},
            "action": {"type": "proxy", "upstream": "http://{target}/base"},
        }
        async with serving(route) as prox, await prox.connect() as client:
            assert [(await body(client, get("/x")))[1] for _ in range(4)] == [b"1", b"2", b"1", b"2"]
        assert one.requests[0].target == b"/base/x"
        assert one.requests[0]["host"] == one.address.encode()


async def test_variables_of_a_template() -> None:
    async with Upstream() as upstream:
        host, port = upstream.address.split(":")
        action = {"type": "proxy", "upstream": "http://{where}:{port}/{base}"}
        routes = [
            {"match": {"path": "/a"}, "set": {"where": host, "port": port, "base": "one"}, "action": action},
            {"match": {"path": "/b"}, "set": {"where": host, "port": port, "base": "two"}, "action": action},
        ]
        async with serving(routes) as prox, await prox.connect() as client:
            await client.request(get("/a"))
            await client.request(get("/b"))
        assert [message.target for message in upstream.requests] == [b"/one/a", b"/two/b"]
        assert len(upstream.peers) == 1


async def test_no_target_is_503() -> None:
    route = {
        "balancer": {"type": "random", "targets": ["127.0.0.1:1"]},
        "action": {"type": "proxy", "upstream": "{target}"},
    }
    async with serving(route) as prox, await prox.connect() as client:
        prox.balancer.set_targets([])
        assert (await client.request(get())).status == 503
        assert prox.pipeline.counters.upstream_faults == {"no_target": 1}


async def test_leastconn_counts_are_given_back_whatever_the_end() -> None:
    async def script(peer: UpstreamPeer) -> None:
        request = await peer.request()
        if request is None:
            return
        if request.target == b"/broken":
            await peer.send(b"nonsense\r\n\r\n")
        elif request.target == b"/cut":
            await peer.send(answer(b"abc", length=10))
        elif request.target == b"/slow":
            await peer.closed()
        else:
            await peer.send(OK)

    async with Upstream(script) as one, Upstream(script) as two:
        route = {
            "balancer": {"type": "leastconn", "targets": [one.address, two.address]},
            "action": {"type": "proxy", "upstream": "{target}"},
        }
        async with serving(route) as prox:
            for path in ["/", "/broken", "/cut", "/slow", "/"]:
                async with await prox.connect() as client:
                    await client.send(get(path))
                    if path != "/slow":
                        await client.take(1)
                    else:
                        await until(lambda: any(m.target == b"/slow" for m in one.requests + two.requests))
            await prox.quiet()
            # Balanced as if nothing were open: the first of equals.
            picked = [prox.balancer.pick("") for _ in range(2)]
            assert [target.address for target in picked] == [one.address, two.address]
            for target in picked:
                target.release()


# Fallbacks.


async def test_the_fallback_of_a_refused_connection() -> None:
    async with Upstream() as upstream:
        inner = {"type": "proxy", "upstream": f"http://{upstream.address}/spare", "headers": {"X-Spare": "1"}}
        route = {
            "action": {
                "type": "proxy",
                "upstream": f"http://{closed_port()}/main",
                "headers": {"X-Main": "1"},
                "fallback": inner,
            }
        }
        async with serving(route) as prox, await prox.connect() as client:
            for request in [get("/a?b"), post(b"x" * 200_000, path="/a?b")]:
                assert (await client.request(request)).status == 200
        # Each action starts from the client's request.
        for message in upstream.requests:
            assert message.target == b"/spare/a?b"
            assert "x-spare" in message
            assert "x-main" not in message
        assert len(upstream.requests[1].body) == 200_000


async def test_a_chain_of_fallbacks() -> None:
    last = static("sorry", 503, headers={"Retry-After": "5"})
    route = {
        "action": {
            "type": "proxy",
            "upstream": closed_port(),
            "fallback": {"type": "proxy", "upstream": closed_port(), "fallback": last},
        }
    }
    async with serving(route) as prox, await prox.connect() as client:
        response = await client.request(get())
        assert (response.status, response.body, response["retry-after"]) == (503, b"sorry", b"5")
        route["action"]["fallback"] = {"type": "proxy", "upstream": closed_port()}
        await prox.reload({"services": {"web": {"listen": "127.0.0.1:0", "routes": [route]}}})
        assert (await client.request(get())).status == 502


async def test_the_fallback_of_a_balancer_without_a_target() -> None:
    route = {
        "balancer": {"type": "random", "targets": ["127.0.0.1:1"]},
        "action": {"type": "proxy", "upstream": "{target}", "fallback": static("none")},
    }
    async with serving(route) as prox, await prox.connect() as client:
        prox.balancer.set_targets([])
        assert await body(client, get()) == (200, b"none")


async def test_no_fallback_once_the_request_has_gone_out() -> None:
    async with Upstream(sending()) as upstream:
        route = {"action": {"type": "proxy", "upstream": upstream.address, "fallback": static("spare")}}
        async with serving(route) as prox, await prox.connect() as client:
            assert (await client.request(get())).status == 502


# The access log.


async def logged(path: Path, count: int) -> list[dict[str, Any]]:
    await until(lambda: len(read_log(path)) >= count, f"fewer than {count} lines")
    return read_log(path)


async def test_the_access_log(tmp_path: Path) -> None:
    log = tmp_path / "access.log"

    async def script(peer: UpstreamPeer) -> None:
        while (request := await peer.request()) is not None:
            if request.target == b"/cut":
                await peer.send(answer(b"abc", length=10))
                return
            if request.target == b"/slow":
                await peer.closed()
            await peer.send(answer(b"hello"))

    async with Upstream(script) as upstream:
        routes: list[dict[str, Any]] = [
            {"match": {"path": "/drop"}, "action": {"type": "drop"}},
            {
                "match": {"path": "/quiet"},
                "action": {"type": "proxy", "upstream": upstream.address},
                "access_log": "off",
            },
            {"match": {"path": "/own"}, "action": static("abcd", 202)},
            {"match": {"path": "/refused"}, "action": {"type": "proxy", "upstream": closed_port()}},
            {"action": {"type": "proxy", "upstream": upstream.address}},
        ]
        async with serving(routes, root={"logging": {"access_log": str(log)}}) as prox:
            async with await prox.connect() as client:
                await client.request(post(b"abc", "User-Agent: test/1", path="/a%20b?c=d"))
                await client.request(get("/quiet"))
                await client.request(get("/own"))
                await client.request(get("/refused"))
                await client.request(get("/own", method="HEAD"), "HEAD")
            for path in ["/drop", "/cut", "/slow"]:
                async with await prox.connect() as client:
                    await client.send(get(path))
                    if path == "/slow":
                        await until(lambda: any(m.target == b"/slow" for m in upstream.requests))
                        client.abort()
                    else:
                        await client.discard()
            lines = await logged(log, 7)
        first = lines[0]
        assert first["ts"].startswith("20")
        assert 0 <= first["duration_ms"] < 5000
        expected = {
            "service": "web",
            "route": 4,
            "method": "POST",
            "path": "/a b",
            "status": 200,
            "bytes_in": 3,
            "bytes_out": 5,
            "client_ip": "127.0.0.1",
            "user_agent": "test/1",
            "target": upstream.address,
        }
        assert {key: first[key] for key in expected} == expected
        assert "plugin" not in first
        assert "verdict" not in first
        rows = [
            (line["path"], line["status"], line["bytes_out"], line.get("reason", "")) for line in lines[1:]
        ]
        assert rows == [
            ("/own", 202, 4, ""),
            ("/refused", 502, 12, "connect_refused"),
            ("/own", 202, 0, ""),
            ("/drop", 0, 0, "dropped"),
            ("/cut", 200, 3, "upstream_truncated"),
            ("/slow", 0, 0, "client_aborted"),
        ]


@pytest.mark.parametrize(
    ("data", "config", "expected"),
    [
        (b"GET /a%20b?c HTTP/1.1\r\n\r\n", {}, ("GET", "/a b", 400, "malformed")),
        (b"GET /a HTTP/2.0\r\n\r\n", {}, ("GET", "/a", 505, "version")),
        (b"BREW /a HTTP/1.1\r\nHost: a\r\n\r\n", {}, ("", "", 501, "unknown_method")),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {}, ("", "", 400, "malformed")),
        (get("/" + "a" * 2000), {"max_target_bytes": 100}, ("GET", "/" + "a" * 1023, 414, "target_size")),
        (get("/a", "X: " + "a" * 2000), {"max_header_bytes": 500}, ("GET", "/a", 431, "header_size")),
        (get("/a", "Content-Length: 9"), {"max_body_bytes": 5}, ("GET", "/a", 413, "body_size")),
        (get("/a", "Transfer-Encoding: chunked") + b"x\r\n", {}, ("GET", "/a", 400, "malformed")),
        (get("/a", "Expect: x"), {}, ("GET", "/a", 417, "expectation")),
        (b"\r\nGET /a HTTP/1.1\r\nHo", {"read_header_timeout": "20ms"}, ("GET", "/a", 408, "deadline_head")),
        (get("/a/../b"), {}, ("GET", "/a/../b", 400, "dot_segments")),
    ],
)
async def test_refused_messages_are_in_the_access_log(
    data: bytes, config: dict[str, Any], expected: tuple[str, str, int, str], tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    root = {"logging": {"access_log": str(log)}}
    async with serving("127.0.0.1:1", config=config, root=root) as prox, await prox.connect() as client:
        response = await client.request(data)
        (line,) = await logged(log, 1)
    assert (line["method"], line["path"], line["status"], line["reason"]) == expected
    assert (line["service"], line["route"], line["client_ip"]) == ("web", -1, "127.0.0.1")
    assert line["bytes_out"] == len(response.body)


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.0.0.7", "203.0.113.9"),
        ("nonsense, 10.0.0.7", "10.0.0.7"),
        ("[2001:db8::1]:99", "2001:db8::1"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("", "127.0.0.1"),
    ],
)
async def test_the_clients_address_behind_trusted_proxies(chain: str, expected: str, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    routes = {"action": static("a"), "access_log": str(log)}
    async with (
        serving(routes, trusted_proxies=["127.0.0.1/32", "10.0.0.0/8"]) as prox,
        await prox.connect() as client,
    ):
        await client.request(get("/", f"X-Forwarded-For: {chain}") if chain else get())
        assert (await logged(log, 1))[0]["client_ip"] == expected


async def test_forwarded_for_of_a_stranger_is_not_believed(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with (
        serving({"action": static("a"), "access_log": str(log)}) as prox,
        await prox.connect() as client,
    ):
        await client.request(get("/", "X-Forwarded-For: 203.0.113.9"))
        assert (await logged(log, 1))[0]["client_ip"] == "127.0.0.1"


async def test_own_answers_name_no_upstream(caplog: pytest.LogCaptureFixture) -> None:
    address = closed_port()
    with caplog.at_level(logging.ERROR):
        async with serving(address) as prox, await prox.connect() as client:
            response = await client.request(get())
    assert address.encode() not in response.raw
    assert address in caplog.text


async def test_a_failure_inside_prox_is_500_and_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving({"action": static("a")}) as prox, await prox.connect() as client:

        class Broken:
            fallback = None

            async def serve(self, _: object) -> None:
                raise RuntimeError("a defect")

        match = prox.pipeline._table.match("a.test", "/", "GET")
        assert match is not None
        monkeypatch.setattr(match.value, "action", Broken())
        response = await client.request(get())
        assert (response.status, response["connection"]) == (500, b"close")
        assert b"defect" not in response.body
        await client.closed()
    assert "a defect" in caplog.text


async def test_counters() -> None:
    async with (
        Upstream() as upstream,
        serving({"match": {"path": "/a"}, "action": {"type": "proxy", "upstream": upstream.address}}) as prox,
    ):
        async with await prox.connect() as client:
            await client.request(post(b"abc", path="/a"))
            await client.request(get("/b"))
            await client.request(b"nonsense\r\n\r\n")
        counters = prox.pipeline.counters
        assert counters.statuses == [0, 0, 1, 0, 2, 0]
        assert (counters.bytes_in, counters.requests) == (3, 3)
        assert counters.bytes_out >= 2


async def test_a_log_that_fails_does_not_keep_a_configuration_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving({"action": static("a")}) as prox, await prox.connect() as client:

        class Failing:
            def write(self, _: object) -> None:
                raise RuntimeError("a defect")

        match = prox.pipeline._table.match("a.test", "/", "GET")
        assert match is not None
        idle: list[bool] = []
        monkeypatch.setattr(match.value, "access_log", Failing())
        await client.request(get())
        prox.pipeline.when_idle(lambda: idle.append(True))
        assert idle == [True]
