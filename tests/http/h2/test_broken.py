"""Connections whose bytes are spoiled at random: prox fails at none of them, and nothing is left of any."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

import h2.config
import h2.connection
import pytest

from support.servers import serving, until
from support.upstream import Upstream

ROUNDS = 40


def conversation(rng: random.Random) -> list[bytes]:
    """What an honest client might send, in pieces."""
    client = h2.connection.H2Connection(
        h2.config.H2Configuration(
            client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False
        )
    )
    client.initiate_connection()
    pieces = [client.data_to_send()]
    for _ in range(rng.randint(1, 6)):
        stream = client.get_next_available_stream_id()
        method = rng.choice(["GET", "POST", "HEAD", "OPTIONS", "BREW", "CONNECT"])
        fields = [(":method", method), (":authority", "test.example:80")]
        if method == "CONNECT" and rng.random() < 0.5:
            fields.append((":protocol", "websocket"))
        if len(fields) == 3 or method != "CONNECT":
            fields += [(":scheme", "http"), (":path", rng.choice(["/", "*", "/a?b"]))]
        for chance, field in [
            (0.4, ("content-length", "5")),
            (0.3, ("expect", "100-continue")),
            (0.3, ("te", "trailers")),
        ]:
            if rng.random() < chance:
                fields.append(field)
        end = rng.random() < 0.4
        client.send_headers(stream, fields, end_stream=end)
        pieces.append(client.data_to_send())
        if not end:
            for _ in range(rng.randint(0, 3)):
                client.send_data(stream, b"x" * rng.choice([0, 5, 5000]))
            pieces.append(client.data_to_send())
            how = rng.random()
            if how < 0.4:
                client.end_stream(stream)
            elif how < 0.6:
                client.send_headers(stream, [("x", "y")], end_stream=True)
            elif how < 0.8:
                client.reset_stream(stream, 8)
        if rng.random() < 0.3:
            client.update_settings({4: rng.choice([0, 1, 100_000])})
        pieces.append(client.data_to_send())
    return pieces


def spoiled(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    """The same with faults: bytes changed, cut, put before; pieces doubled."""
    for _ in range(rng.randint(0, 3)):
        at = rng.randrange(1, len(pieces))
        piece = bytearray(pieces[at])
        how = rng.randrange(4)
        if how == 0 and piece:
            piece[rng.randrange(len(piece))] = rng.randrange(256)
        elif how == 1 and piece:
            del piece[rng.randrange(len(piece)) :]
        elif how == 2:
            piece[0:0] = rng.randbytes(rng.randint(0, 12))
        else:
            pieces.insert(at, pieces[rng.randrange(1, len(pieces))])
            continue
        pieces[at] = bytes(piece)
    return pieces


@pytest.mark.parametrize("seed", range(4))
async def test_spoiled_bytes(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(seed)
    async with Upstream() as upstream:
        route: dict[str, Any] = {"action": {"type": "proxy", "upstream": upstream.address}}
        routes = [{**route, "match": {"forward_proxy": True}}, route]
        async with serving(routes, config={"h2c": True}) as prox:
            for _ in range(ROUNDS):
                _, writer = await asyncio.open_connection(*prox.address)
                for piece in spoiled(rng, conversation(rng)):
                    writer.write(piece)
                    if rng.random() < 0.3:
                        await asyncio.sleep(0)
                if rng.random() < 0.5:
                    writer.transport.abort()
                else:
                    writer.close()
            counters = prox.pipeline.counters
            await until(lambda: counters.connections == ROUNDS)
            await prox.quiet()
            assert counters.requests
    faults = [record for record in caplog.records if record.levelno >= logging.ERROR and record.exc_info]
    assert not faults
