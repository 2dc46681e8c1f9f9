"""Whatever bytes come, what goes upstream parses strictly, what comes back does, and prox serves on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.client import CutError, get, post, post_chunked
from support.servers import Running, serving
from support.upstream import OK, Upstream, UpstreamPeer, answer
from support.upstream_messages import NotStrictError, read_message

REQUESTS = [
    get("/a?b", "X-One: 1", "Connection: keep-alive, X-One"),
    post(b"hello world", "Expect: 100-continue"),
    post_chunked(b"one", b"two"),
    get("http://test.example/", method="OPTIONS"),
    b"GET / HTTP/1.0\r\n\r\n",
]
ANSWERS = [
    OK,
    answer(b"hello", b"Connection: close, X-A", b"X-A: 1", b"Set-Cookie: a"),
    b"HTTP/1.1 103 Hints\r\nLink: a\r\n\r\n" + OK,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nT: 1\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
]

Change = tuple[int, int, bytes]
# Where, how many bytes go, and what comes in their place.
changes = st.lists(
    st.tuples(
        st.integers(min_value=0, max_value=10_000),
        st.integers(min_value=0, max_value=3),
        st.sampled_from(
            [
                b"",
                b"\r",
                b"\n",
                b"\r\n",
                b"\x00",
                b" ",
                b":",
                b",",
                b"\t",
                b"0",
                b"9",
                b"\xff",
                b"chunked",
                b"\r\n\r\n",
                b"Content-Length: 3\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"X: ",
            ]
        ),
    ),
    max_size=3,
)


def changed(data: bytes, edits: list[Change]) -> bytes:
    for place, gone, put in edits:
        at = place % (len(data) + 1)
        data = data[:at] + put + data[at + gone :]
    return data


class Loop:
    """A prox and an upstream that last over many examples."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.reply = OK
        self.unclean: list[str] = []
        self.runner.run(self._start())

    async def _start(self) -> None:
        async def script(peer: UpstreamPeer) -> None:
            try:
                while await peer.request() is not None:
                    await peer.send(self.reply)
                    if self.reply is not OK:
                        peer.close()
                        return
            except NotStrictError as error:
                self.unclean.append(f"{error}: {peer.received!r}")

        self._upstream = Upstream(script)
        await self._upstream.__aenter__()
        config = {"read_header_timeout": "30ms", "read_timeout": "30ms", "response_header_timeout": "30ms"}
        self._serving = serving(self._upstream.address, config=config)
        self.prox: Running = await self._serving.__aenter__()

    async def send(self, data: bytes) -> bytes:
        """Send and read until nothing comes; what came."""
        async with await self.prox.connect() as client:
            try:
                await client.send(data)
                async with asyncio.timeout(0.2):
                    while True:
                        await client.message("GET")
            except (TimeoutError, CutError, ConnectionError, NotStrictError):
                return client.rest

    async def check(self) -> None:
        """It serves on, and the upstream got nothing that is not strict."""
        assert self.unclean == []
        self.reply = OK
        async with await self.prox.connect() as client:
            assert (await client.request(get())).status == 200

    async def stop(self) -> None:
        await self._serving.__aexit__(None, None, None)
        await self._upstream.__aexit__(None, None, None)


@pytest.fixture(name="loop", scope="module")
def _loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    with loop.runner:
        loop.runner.run(loop.stop())


common = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@common
@given(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=3), changes)
def test_broken_requests(loop: Loop, requests: list[bytes], edits: list[Change]) -> None:
    last = get("/last", "Connection: close")
    loop.reply = OK
    loop.runner.run(loop.send(changed(b"".join(requests), edits) + last))
    loop.runner.run(loop.check())


@common
@given(st.sampled_from(ANSWERS), changes)
def test_broken_answers(loop: Loop, reply: bytes, edits: list[Change]) -> None:
    loop.reply = bytes(bytearray(changed(reply, edits)))
    rest = loop.runner.run(loop.send(get("/", "Connection: close")))
    # What is left is a beginning of an answer that was cut, never bytes that a strict reader refuses.
    read_message(rest, request=False)
    loop.runner.run(loop.check())
