"""How often OPTIONS and TRACE may be forwarded (RFC 9110 section 7.6.2)."""

from __future__ import annotations

import pytest

from support.client import get, post
from support.servers import serving
from support.upstream import Upstream


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
@pytest.mark.parametrize(
    ("value", "left"), [("1", b"0"), ("10", b"9"), ("007", b"6"), ("9" * 40, b"999999999")]
)
async def test_it_is_counted_down(method: str, value: str, left: bytes) -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        assert (await client.request(get("/a", f"Max-Forwards: {value}", method=method))).status == 200
        assert upstream.requests[0].all("max-forwards") == [left]


async def test_options_that_may_not_be_forwarded() -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        for target in ["*", "/a"]:
            response = await client.request(get(target, "Max-Forwards: 0", method="OPTIONS"))
            assert (response.status, response.body, response["content-length"]) == (200, b"", b"0")
        assert not upstream.peers


async def test_trace_that_may_not_be_forwarded() -> None:
    lines = [
        "Via: 1.1 outer",
        "Cookie: secret",
        "Authorization: secret",
        "X-Internal: secret",
        "max-forwards: 0",
    ]
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        response = await client.request(get("/a?b", *lines, method="TRACE"))
        assert (response.status, response["content-type"]) == (200, b"message/http")
        first, *shown = response.body.removesuffix(b"\r\n\r\n").split(b"\r\n")
        assert first == b"TRACE /a?b HTTP/1.1"
        assert sorted(shown) == [b"Host: test.example", b"Via: 1.1 outer", b"max-forwards: 0"]
        assert not upstream.peers


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "GET"])
@pytest.mark.parametrize("lines", [["x"], [""], ["-1"], ["+1"], ["1.0"], ["1, 2"], ["1", "1"], ["\xb2"]])
async def test_what_is_no_number_is_refused(lines: list[str], method: str) -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        request = get("/", *(f"Max-Forwards: {value}" for value in lines), method=method)
        assert (await client.request(request)).status == 400
        await client.closed()
        assert not upstream.peers


async def test_other_methods_do_not_count() -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        for value in ["0", "5", "007"]:
            request = get("/", f"Max-Forwards: {value}", "Connection: Max-Forwards")
            assert (await client.request(request)).status == 200
        assert [message["max-forwards"] for message in upstream.requests] == [b"0", b"5", b"007"]


async def test_a_name_with_underscores_is_another() -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        assert (await client.request(get("/", "Max_Forwards: 0", method="OPTIONS"))).status == 200
        assert upstream.requests[0].all("max_forwards") == [b"0"]


async def test_trace_has_no_content() -> None:
    async with Upstream() as upstream, serving(upstream.address) as prox, await prox.connect() as client:
        assert (await client.request(post(b"abc", method="TRACE"))).status == 400
        await client.closed()
        assert not upstream.peers
