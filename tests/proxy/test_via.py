from __future__ import annotations

import pytest

from prox.config import ConfigError
from support.client import get
from support.servers import serving
from support.upstream import OK, Upstream, answer, answering

OLD = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"


async def test_there_is_none_unless_it_is_asked_for() -> None:
    async with (
        Upstream(answering(answer(b"ok", b"Via: 1.1 inner"))) as upstream,
        serving(upstream.address) as prox,
        await prox.connect() as client,
    ):
        response = await client.request(get("/", "Via: 1.1 outer"))
        assert response["via"] == b"1.1 inner"
        assert upstream.requests[0]["via"] == b"1.1 outer"


async def test_both_ways_behind_those_of_other_proxies() -> None:
    replies = [OK, answer(b"ok", b"Via: 1.1 inner", b"Connection: X"), OLD]
    async with (
        Upstream(answering(*replies)) as upstream,
        serving(upstream.address, config={"via": "edge.example:80"}) as prox,
        await prox.connect() as client,
    ):
        found = [(await client.request(get("/", *lines))).all("via") for lines in ([], ["Via: 1.0 a"])]
        assert found == [[b"1.1 edge.example:80"], [b"1.1 inner", b"1.1 edge.example:80"]]
        response = await client.request(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert response["via"] == b"1.0 edge.example:80"
        assert [message.all("via") for message in upstream.requests] == [
            [b"1.1 edge.example:80"],
            [b"1.0 a", b"1.1 edge.example:80"],
            [b"1.0 edge.example:80"],
        ]


async def test_interim_answers_and_streams_pass_by() -> None:
    reply = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    async with (
        Upstream(answering(reply + b"2\r\nok\r\n0\r\n\r\n")) as upstream,
        serving(upstream.address, config={"via": "prox"}) as prox,
        await prox.connect() as client,
    ):
        await client.send(get())
        first, final = [await client.message() for _ in range(2)]
        assert (first.status, first.headers) == (103, [(b"Link", b"</a>")])
        assert (final.body, final["via"]) == (b"ok", b"1.1 prox")


@pytest.mark.parametrize("name", ["", "a b", "a,b", "a\r\nX: y", "é", "a:b", "(a)", "[::1"])
async def test_names_that_can_not_stand_there(name: str) -> None:
    with pytest.raises(ConfigError, match="via"):
        async with serving("127.0.0.1:1", config={"via": name}):
            pass
