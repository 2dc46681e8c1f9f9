"""However a client's bytes are cut into packets, the upstream gets the same requests, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.client import get, post, post_chunked
from support.lasting import Lasting
from support.upstream import UpstreamPeer, answer

REQUESTS = [
    get("/a?b=c&d;e=%2F%20"),
    get("/", "X-One: 1", "Cookie: a=b", "x-one:2", "Empty:"),
    get("/", "Connection: X-Gone", "X-Gone: 1", "X_Gone: 2"),
    get("/", method="HEAD"),
    post(b"hello"),
    post(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    post(bytes(range(256)) * 8),
    post(b"", method="PUT"),
    post_chunked(b"one", b"two", b"0\r\n\r\n"),
    post_chunked(b"\r\n" * 20),
    post_chunked(),
    get("/", "Transfer-Encoding: chunked", method="POST") + b"3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n",
    b"\r\n" + get("/after-an-empty-line"),
    get("/", "Expect: 100-continue", "Content-Length: 3", method="PUT") + b"abc",
]

DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT"
"""Or prox would add one, and answers of different seconds would differ."""


class Split(Lasting):
    """Its upstream sends back what it got."""

    def __init__(self) -> None:
        super().__init__(self._echo, {"max_pipelined": 100})

    @staticmethod
    async def _echo(peer: UpstreamPeer) -> None:
        while (request := await peer.request()) is not None:
            content = b"" if request.method == b"HEAD" else request.body
            target = b"X-Target: " + request.target
            await peer.send(answer(content, target, DATE, length=len(request.body)))

    def exchange(self, data: bytes, methods: list[str], cuts: list[int]) -> tuple[list[object], list[object]]:
        """Send `data` cut at `cuts`; the requests that the upstream got and the answers that came."""
        return self.run(self._exchange(data, methods, cuts))

    async def _exchange(
        self, data: bytes, methods: list[str], cuts: list[int]
    ) -> tuple[list[object], list[object]]:
        seen = len(self.upstream.requests)
        places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
        async with await self.prox.connect() as client:
            await client.send(*(data[start:end] for start, end in pairwise(places)))
            answers: list[object] = []
            for method in methods:
                response = await asyncio.wait_for(client.response(method), 5)
                answers.append((response.line, response.headers, response.body))
        requests = self.upstream.requests[seen:]
        return [
            (request.raw if request.chunks is None else (request.line, request.headers, request.body))
            for request in requests
        ], answers


@pytest.fixture(name="split", scope="module")
def _split() -> Iterator[Split]:
    split = Split()
    yield split
    split.stop()


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(range(len(REQUESTS))), min_size=1, max_size=6),
    st.lists(st.integers(min_value=0, max_value=100_000), max_size=12),
)
def test_cuts_change_nothing(split: Split, numbers: list[int], cuts: list[int]) -> None:
    methods = ["HEAD" if number == 3 else "GET" for number in numbers]
    alone: tuple[list[object], list[object]] = ([], [])
    for number, method in zip(numbers, methods, strict=True):
        requests, answers = split.exchange(REQUESTS[number], [method], [])
        alone[0].extend(requests)
        alone[1].extend(answers)
    joined = b"".join(REQUESTS[number] for number in numbers)
    assert split.exchange(joined, methods, cuts) == alone


def test_byte_by_byte(split: Split) -> None:
    for request, method in [
        (REQUESTS[1], "GET"),
        (REQUESTS[4], "GET"),
        (REQUESTS[8], "GET"),
        (REQUESTS[12], "GET"),
    ]:
        whole = split.exchange(request, [method], [])
        assert split.exchange(request, [method], list(range(len(request)))) == whole
