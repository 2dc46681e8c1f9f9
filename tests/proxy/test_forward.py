from __future__ import annotations

from typing import Any

import pytest

from prox.config import ConfigError
from support.client import get, post
from support.servers import serving
from support.upstream import Upstream, answer, answering
from support.upstream_messages import Message


async def forwarded(
    request: bytes, *, upstream_path: str = "", service: dict[str, Any] | None = None, **action: Any
) -> Message:
    """The request that the upstream gets."""
    async with Upstream() as upstream:
        route = {
            "action": {"type": "proxy", "upstream": f"http://{upstream.address}{upstream_path}", **action}
        }
        async with serving(route, **(service or {})) as prox, await prox.connect() as client:
            assert (await client.request(request)).status == 200
        (message,) = upstream.requests
        return message


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/a/b/",
        "/a%2Fb%20c",
        "/a;b=c;d/e",
        "/a?b;c=d&e",
        "/?",
        "/a??b",
        "/%zz%",
        "/%C3%A9%ff",
        "//a//b",
        "/a?b=%2F/../x",
        "/a+b?c+d",
        "/<>\"{}|^`'\\",
        "/a?http://b/",
    ],
)
async def test_path_and_query_go_on_byte_for_byte(target: str) -> None:
    assert (await forwarded(get(target))).target == target.encode()


@pytest.mark.parametrize(
    ("prefix", "target", "expected"),
    [
        ("", "/a?b", b"/a?b"),
        ("/", "/a?b", b"/a?b"),
        ("/v1", "/a?b", b"/v1/a?b"),
        ("/v1/", "/a", b"/v1/a"),
        ("/v1/x", "/", b"/v1/x/"),
        ("/v1", "/%2F", b"/v1/%2F"),
    ],
)
async def test_the_upstreams_path_prefix(prefix: str, target: str, expected: bytes) -> None:
    assert (await forwarded(get(target), upstream_path=prefix)).target == expected


async def test_options_for_the_whole_server() -> None:
    assert (await forwarded(get("*", method="OPTIONS"))).line == b"OPTIONS * HTTP/1.1"


async def test_an_absolute_url_where_the_domain_names_its_host() -> None:
    async with Upstream() as upstream:
        named = {
            "match": {"domain": "www.example.com"},
            "action": {"type": "proxy", "upstream": upstream.address},
        }
        everything = {"action": {"type": "static", "status": 418, "body_ref": {"text": "all hosts"}}}
        async with serving([named, everything]) as prox, await prox.connect() as client:
            request = get("http://www.example.com/a?b", host="www.example.com")
            assert (await client.request(request)).status == 200
            assert upstream.requests[0].target == b"/a?b"
            assert upstream.requests[0]["x-forwarded-host"] == b"www.example.com"
            # A route for all hosts takes no absolute URL.
            assert (
                await client.request(get("http://other.example.com/", host="other.example.com"))
            ).status == 404
            assert (
                await client.request(get("http://www.example.com/", host="other.example.com"))
            ).status == 400
            await client.closed()


async def test_the_host() -> None:
    message = await forwarded(get())
    assert message["host"].startswith(b"127.0.0.1:")
    message = await forwarded(get(), headers={"Host": "inner.example"})
    assert message["host"] == b"inner.example"
    assert message["x-forwarded-host"] == b"test.example"


async def test_nothing_else_is_added() -> None:
    message = await forwarded(get("/", "Accept: */*"))
    assert sorted(name for name, _ in message.headers) == [
        b"Accept",
        b"Host",
        b"X-Forwarded-For",
        b"X-Forwarded-Host",
        b"X-Forwarded-Proto",
    ]


async def test_headers_go_on_as_they_came() -> None:
    lines = [
        "COOKIE: a=b",
        "Cookie: c",
        "x-Empty:",
        "Accept-Encoding: gzip",
        "X-Latin: \xe9",
        "Forwarded: for=1",
        "Via: x",
    ]
    message = await forwarded(get("/", *lines))
    for line in lines:
        name, _, value = line.partition(":")
        assert (name.encode(), value.strip().encode("latin-1")) in message.headers
    assert message.all("cookie") == [b"a=b", b"c"]


@pytest.mark.parametrize(
    "name",
    [
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authorization",
        "Proxy-Authenticate",
        "TE",
        "Trailer",
        "Upgrade",
        "keep-alive",
        "te",
    ],
)
async def test_hop_by_hop_headers_of_a_request(name: str) -> None:
    message = await forwarded(get("/", f"{name}: x", "X-Kept: 1"))
    assert name not in message
    assert "x-kept" in message


async def test_headers_that_connection_names() -> None:
    message = await forwarded(
        get(
            "/",
            "Connection: X-One, x_two",
            "connection: X-Three",
            "X-One: 1",
            "X-ONE: 1",
            "X_Two: 2",
            "x-three: 3",
            "X-Four: 4",
        )
    )
    assert {"connection", "x-one", "x_two", "x-two", "x-three"} & {
        name.lower().decode() for name, _ in message.headers
    } == set()
    assert "x-four" in message


async def test_headers_that_connection_can_not_take_away() -> None:
    message = await forwarded(
        post(
            b"abc",
            "Connection: Host, Content-Length, X-Forwarded-For, X-Forwarded-Proto",
            "X-Forwarded-For: 9.9.9.9",
        )
    )
    assert message["content-length"] == b"3"
    assert message["x-forwarded-for"] == b"9.9.9.9, 127.0.0.1"
    assert message["x-forwarded-proto"] == b"http"


async def test_upgrades_are_not_forwarded() -> None:
    message = await forwarded(
        get(
            "/",
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
        )
    )
    for name in ["connection", "upgrade", "http2-settings"]:
        assert name not in message


async def test_hop_by_hop_headers_of_an_answer() -> None:
    reply = answer(
        b"ok",
        b"Connection: X-Gone, x_too, keep-alive",
        b"Keep-Alive: timeout=5",
        b"X-Gone: 1",
        b"X-Too: 1",
        b"Proxy-Authenticate: Basic",
        b"Trailer: X",
        b"Upgrade: h2c",
        b"Set-Cookie: a",
        b"set-cookie: b",
        b"Server: x",
        b"Date: now",
    )
    async with (
        Upstream(answering(reply)) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        response = await client.request(get())
        assert sorted(response.headers) == [
            (b"Content-Length", b"2"),
            (b"Date", b"now"),
            (b"Server", b"x"),
            (b"Set-Cookie", b"a"),
            (b"set-cookie", b"b"),
        ]


# X-Forwarded-*.


async def test_forwarded_for_is_appended() -> None:
    message = await forwarded(
        get(
            "/",
            "X-Forwarded-For: 10.0.0.1",
            "X-Other: 1",
            "x-forwarded-for: 10.0.0.2",
            "X-Forwarded-Host: evil",
            "X-Forwarded-Proto: https",
        )
    )
    assert message["x-forwarded-for"] == b"10.0.0.1, 10.0.0.2, 127.0.0.1"
    assert message["x-forwarded-host"] == b"test.example"
    assert message["x-forwarded-proto"] == b"http"


@pytest.mark.parametrize("name", ["X_Forwarded_For", "x_forwarded_host", "X-Forwarded_Proto"])
async def test_forwarded_headers_spelled_with_underscores_are_dropped(name: str) -> None:
    message = await forwarded(get("/", f"{name}: evil"))
    assert all(value != b"evil" for _, value in message.headers)


async def test_forwarded_headers_of_a_trusted_proxy() -> None:
    service = {"trusted_proxies": ["127.0.0.0/8"]}
    message = await forwarded(
        get(
            "/",
            "X-Forwarded-For: 10.0.0.1",
            "X-Forwarded-Host: outer.example",
            "X-Forwarded-Proto: https",
            "X_Forwarded_Host: evil",
        ),
        service=service,
    )
    assert message["x-forwarded-for"] == b"10.0.0.1, 127.0.0.1"
    assert message["x-forwarded-host"] == b"outer.example"
    assert message["x-forwarded-proto"] == b"https"
    message = await forwarded(get(), service=service)
    assert message["x-forwarded-host"] == b"test.example"
    assert message["x-forwarded-proto"] == b"http"


async def test_forwarded_headers_that_the_action_sets() -> None:
    message = await forwarded(
        get("/", "X-Forwarded-For: 10.0.0.1", "x-forwarded-proto: x"),
        headers={"x-forwarded-proto": "https", "X-Forwarded-For": "0.0.0.0"},
    )
    assert message["x-forwarded-proto"] == b"https"
    assert message["x-forwarded-for"] == b"0.0.0.0"
    assert message["x-forwarded-host"] == b"test.example"


async def test_an_http_1_0_client_without_host() -> None:
    message = await forwarded(b"GET /a HTTP/1.0\r\n\r\n")
    assert message.line == b"GET /a HTTP/1.1"
    assert message["x-forwarded-host"] == b""


# The action's headers.


async def test_headers_of_the_action_replace_the_clients() -> None:
    message = await forwarded(
        get("/", "X-Key: client", "x-key: client", "X_KEY: client", "X-Kept: 1"),
        headers={"X-Key": "action", "X-New": "n é"},
    )
    assert [(name, value) for name, value in message.headers if b"client" in value] == []
    assert message["x-key"] == b"action"
    assert message["x-new"] == "n é".encode()
    assert message["x-kept"] == b"1"


@pytest.mark.parametrize("name", ["Transfer-Encoding", "Content-Length", "Connection", "Upgrade", "TE"])
async def test_headers_of_the_action_that_frame_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        await forwarded(get(), headers={name: "chunked"})
