"""The rows of the security page on HTTP/2: whatever is sent, the upstream gets whole, canonical requests or none."""

from __future__ import annotations

from typing import Any

import pytest

from support.h2_client import H2Client, Pairs
from support.servers import serving, until
from support.strict_parser import Reading
from support.upstream import Upstream

PSEUDO: Pairs = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":authority", b"test.example"),
    (b":path", b"/"),
]
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"

REFUSED: dict[str, Pairs] = {
    "a length that is less": [*PSEUDO, (b"content-length", b"3")],
    "a length of nothing": [*PSEUDO, (b"content-length", b"0")],
    "a length that is more": [*PSEUDO, (b"content-length", b"300")],
    "two lengths": [*PSEUDO, (b"content-length", b"38"), (b"content-length", b"0")],
    "a list of lengths": [*PSEUDO, (b"content-length", b"38, 38")],
    "a signed length": [*PSEUDO, (b"content-length", b"+38")],
    "a length with a prefix": [*PSEUDO, (b"content-length", b"0x26")],
    "a length with a separator": [*PSEUDO, (b"content-length", b"3_8")],
    "an empty length": [*PSEUDO, (b"content-length", b"")],
    "transfer-encoding": [*PSEUDO, (b"transfer-encoding", b"chunked")],
    "transfer_encoding": [*PSEUDO, (b"transfer_encoding", b"chunked")],
    "content_length": [*PSEUDO, (b"content_length", b"0")],
    "connection": [*PSEUDO, (b"connection", b"x-forwarded-for")],
    "upgrade": [*PSEUDO, (b"upgrade", b"h2c")],
    "te": [*PSEUDO, (b"te", b"trailers, deflate")],
    "CRLF in a value": [*PSEUDO, (b"x", b"a\r\n\r\n" + SMUGGLED)],
    "LF in a value": [*PSEUDO, (b"x", b"a\ntransfer-encoding: chunked")],
    "NUL in a value": [*PSEUDO, (b"x", b"a\0b")],
    "CRLF in a name": [*PSEUDO, (b"x: a\r\ntransfer-encoding", b"chunked")],
    "space behind a name": [*PSEUDO, (b"content-length ", b"0")],
    "upper case": [*PSEUDO, (b"Content-Length", b"0")],
    "CRLF in the path": [*PSEUDO[:3], (b":path", b"/ HTTP/1.1\r\nHost: evil\r\n\r\n")],
    "space in the path": [*PSEUDO[:3], (b":path", b"/ HTTP/1.1")],
    "fragment in the path": [*PSEUDO[:3], (b":path", b"/#/admin")],
    "no slash": [*PSEUDO[:3], (b":path", b"admin")],
    "CRLF in the method": [(b":method", b"GET / HTTP/1.1\r\nHost: evil\r\n\r\nPOST"), *PSEUDO[1:]],
    "CRLF in the authority": [*PSEUDO[:2], (b":authority", b"a\r\nx: y"), PSEUDO[3]],
    "CRLF in the scheme": [PSEUDO[0], (b":scheme", b"http\r\nx: y"), *PSEUDO[2:]],
    "path in the authority": [*PSEUDO[:2], (b":authority", b"test.example/admin?"), PSEUDO[3]],
    "user in the authority": [*PSEUDO[:2], (b":authority", b"evil@test.example"), PSEUDO[3]],
    "another host": [*PSEUDO, (b"host", b"evil")],
    "two hosts": [*PSEUDO, (b"host", b"test.example"), (b"host", b"test.example")],
    "no host": [PSEUDO[0], PSEUDO[1], PSEUDO[3]],
    "CRLF in a cookie": [*PSEUDO, (b"cookie", b"a"), (b"cookie", b"b\r\nx: y")],
    "connect without a port": [(b":method", b"CONNECT"), (b":authority", b"test.example")],
    "connect to port 0": [(b":method", b"CONNECT"), (b":authority", b"test.example:0")],
    "an unknown pseudo-field": [*PSEUDO, (b":x", b"y")],
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_refused(name: str) -> None:
    config: dict[str, Any] = {"h2c": True}
    async with (
        Upstream() as upstream,
        serving(upstream.address, config=config) as prox,
        await H2Client.connect(prox.address) as client,
    ):
        stream = await client.open(REFUSED[name], end=False)
        await client.send(stream, SMUGGLED, end=True)
        got = await client.answer(stream)
        assert (got.status, got.reset) == (0, 1)
        assert prox.pipeline.counters.ends == {"malformed": 1}
        await prox.quiet(connections=1)
        good = await client.request("POST", "/good", body=b"good")
        assert (await client.answer(good)).status == 200
        whole = []
        for peer in upstream.peers:
            reading = Reading.of_requests(peer.received)
            assert not reading.fault or not reading.messages
            whole += [message.target for message in reading.messages]
        assert whole == [b"/good"]


LEGAL: dict[str, tuple[Pairs, bytes]] = {
    "8 bit in a value": ([*PSEUDO, (b"x", b"\xe9\xff")], b"\r\nx: \xe9\xff\r\n"),
    "tab in a value": ([*PSEUDO, (b"x", b"a\tb")], b"\r\nx: a\tb\r\n"),
    "an empty value": ([*PSEUDO, (b"x", b"")], b"\r\nx: \r\n"),
    "any token": ([*PSEUDO, (b"!#$%&'*+-.^_`|~09az", b"a")], b"\r\n!#$%&'*+-.^_`|~09az: a\r\n"),
    "a body that looks like a request": (PSEUDO, b"\r\n26\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
    "credentials of a hop": ([*PSEUDO, (b"proxy-authorization", b"Basic YTpi")], b""),
    "an underscored forward": ([*PSEUDO, (b"x_forwarded_for", b"192.0.2.1")], b""),
    "an expectation": ([*PSEUDO, (b"expect", b"100-continue")], b"\r\nExpect: 100-continue\r\n"),
}


@pytest.mark.parametrize("name", LEGAL)
async def test_what_goes_on(name: str) -> None:
    pairs, wanted = LEGAL[name]
    async with (
        Upstream() as upstream,
        serving(upstream.address, config={"h2c": True}) as prox,
        await H2Client.connect(prox.address) as client,
    ):
        stream = await client.open(pairs, end=False)
        await client.send(stream, SMUGGLED, end=True)
        assert (await client.answer(stream)).status == 200
        received = upstream.peers[0].received
        reading = Reading.of_requests(received)
        assert not reading.fault
        (message,) = reading.messages
        assert message.body == SMUGGLED
        assert wanted in received
        assert b"roxy-" not in received
        assert b"_forwarded" not in received


async def test_the_dot_segments_of_a_path() -> None:
    async with (
        Upstream() as upstream,
        serving(upstream.address, config={"h2c": True}) as prox,
        await H2Client.connect(prox.address) as client,
    ):
        for path in ("/a/../b", "/a/%2e%2e/b", "/."):
            assert (await client.get(path)).status == 400
        assert not upstream.peers


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


@pytest.mark.parametrize("how", ["no end", "half a frame", "trickling"])
async def test_a_head_that_does_not_end(how: str) -> None:
    async with (
        Upstream() as upstream,
        serving(upstream.address, config={"h2c": True, "read_header_timeout": "80ms"}) as prox,
        await H2Client.connect(prox.address) as client,
    ):
        assert (await client.get()).status == 200
        block = b"\x83\x86\x84\x41\x01a"
        whole = _frame(1, 0 if how == "no end" else 4, 3, block)
        if how == "no end":
            await client.raw(whole)
        elif how == "half a frame":
            await client.raw(whole[:-3])
        else:
            for byte in whole[:-3]:
                await client.raw(bytes([byte]))
        await client.closed()
        assert [code for code, _ in client.goaways] == [11]
        assert prox.pipeline.counters.ends == {"deadline_head": 1}
        assert len(upstream.requests) == 1
        await prox.quiet()


async def test_a_frame_that_comes_slowly_counts_for_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prox.http.upload.BODY_GRACE", 0.05)
    monkeypatch.setattr("prox.http.watch._LONGEST_SLEEP", 0.01)
    async with (
        Upstream() as upstream,
        serving(upstream.address, config={"h2c": True, "min_body_rate": 4000}) as prox,
        await H2Client.connect(prox.address) as client,
    ):
        stream = await client.request("POST", "/", end=False)
        body = b"x" * 2000
        frame = _frame(0, 1, stream, body)
        await client.raw(frame[:-1])
        await until(lambda: upstream.peers)
        (connection,) = prox.entry.connections
        await until(lambda: connection.loop.time() > connection._read_at + 0.2)  # type: ignore[attr-defined] # when it read
        await client.raw(frame[-1:])
        assert (await client.answer(stream)).status == 200
        assert upstream.requests[0].body == body
