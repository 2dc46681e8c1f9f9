"""Attacks on a whole prox: the connection ends with ENHANCE_YOUR_CALM, nothing of it is left, and others are served."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

import pytest

from prox.http.codec.h2 import abuse, frames
from prox.http.codec.h2.errors import ENHANCE_YOUR_CALM
from prox.http.codec.h2.hpack import Encoder
from support.h2_client import Answer, H2Client
from support.h2_session import GET, frame
from support.servers import Running, serving
from support.upstream import OK, Upstream, UpstreamPeer, answering

H2C = {"h2c": True}
HELLO = frames.PREFACE + frames.settings([])


class Raw:
    """A connection on which anything is sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.encoder = Encoder()

    @classmethod
    async def connect(cls, prox: Running) -> Raw:
        assert isinstance(prox.address, tuple)
        raw = cls(*await asyncio.open_connection(*prox.address))
        raw.writer.write(HELLO)
        return raw

    def head(self, stream: int) -> bytes:
        return frames.field_frames(self.encoder.encode(GET), stream, 16384, end=True)

    async def code(self) -> int:
        """The code of the last GOAWAY, once prox has closed; -1 without one."""
        data = b""
        with suppress(ConnectionResetError):
            while piece := await self.reader.read(1 << 16):
                data += piece
        self.writer.transport.abort()
        place, code = 0, -1
        while place < len(data):
            size = int.from_bytes(data[place : place + 3])
            if data[place + 3] == frames.GOAWAY:
                code = int.from_bytes(data[place + 13 : place + 17])
            place += 9 + size
        return code


def over(answer: Answer) -> bool:
    return answer.over


async def is_served(prox: Running) -> None:
    client = await H2Client.connect(prox.address)
    async with client:
        assert (await client.get()).status == 200


async def test_rapid_reset() -> None:
    """CVE-2023-44487: the upstream sees few of the requests, and is rid of those."""
    serves = asyncio.Event()

    async def script(peer: UpstreamPeer) -> None:
        await serves.wait()
        await answering(OK)(peer)

    async with Upstream(script) as upstream, serving(upstream.address, config=H2C) as prox:
        raw = await Raw.connect(prox)
        streams = range(1, 2 * 5000, 2)
        raw.writer.write(
            b"".join([raw.head(stream) + frames.words(frames.RST_STREAM, stream, 8) for stream in streams])
        )
        assert await raw.code() == ENHANCE_YOUR_CALM
        await prox.until(lambda: not prox.entry.connections)
        assert prox.entry.counters.ends["rapid_reset"] == 1
        assert len(upstream.peers) <= abuse.RESETS + 1
        serves.set()
        await is_served(prox)
        await prox.quiet()


@pytest.mark.parametrize(
    ("flood", "reason"),
    [
        (frame(frames.PING, 0, 0, bytes(8)), "unread_answers"),
        (frames.settings([(99, 1)]), "frame_flood"),
        (frame(frames.PRIORITY, 0, 9, b"\0\0\0\1\0"), "frame_flood"),
        (frames.words(frames.WINDOW_UPDATE, 0, 1), "frame_flood"),
        (frame(frames.CONTINUATION, 0, 1), "continuation_flood"),
        (frame(frames.CONTINUATION, 0, 1, bytes(16384)), "continuation_flood"),
    ],
    ids=["PING", "SETTINGS", "PRIORITY", "WINDOW_UPDATE", "CONTINUATION", "large CONTINUATION"],
)
async def test_frames_without_end(flood: bytes, reason: str) -> None:
    async with Upstream(answering(OK)) as upstream, serving(upstream.address, config=H2C) as prox:
        raw = await Raw.connect(prox)
        if "continuation" in reason:
            raw.writer.write(frame(frames.HEADERS, 0, 1))
        raw.writer.write(flood * 4000)
        assert await raw.code() == ENHANCE_YOUR_CALM
        await prox.until(lambda: not prox.entry.connections)
        assert prox.entry.counters.ends[reason] == 1
        assert not upstream.peers
        await is_served(prox)


async def test_a_browser_that_changes_its_mind() -> None:
    """Half of the requests are cancelled, many times what would be too many in a row."""
    async with Upstream(answering(OK)) as upstream, serving(upstream.address, config=H2C) as prox:
        client = await H2Client.connect(prox.address)
        async with client:
            for _ in range(abuse.RESETS + 100):
                cancelled = await client.request()
                kept = await client.request()
                await client.reset(cancelled)
                await client.until(partial(over, client.answers[kept]))
                assert client.answers[kept].status == 200
            assert not client.goaways
