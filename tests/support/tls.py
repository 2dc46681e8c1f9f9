"""Serving and asking over TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support.certificates import Certificate, authority, localhost
from support.client import Client
from support.servers import Json, Running, serving

OK: Json = {"action": {"type": "static", "body_ref": {"text": "ok"}}}


@asynccontextmanager
async def serving_tls(
    folder: Path, routes: str | Json = OK, *, certificate: Certificate | None = None, **service: Any
) -> AsyncIterator[Running]:
    """Serve `routes` with a certificate for localhost, HTTP/1.1 alone unless told otherwise."""
    chain, key = (certificate or localhost()).write(folder)
    document = {"tls_cert": str(chain), "tls_key": str(key), "h2": False, **service}
    async with serving(routes, **document) as running:
        yield running


async def connect(running: Running, context: ssl.SSLContext | None = None, name: str = "localhost") -> Client:
    """A client that has shaken hands."""
    assert isinstance(running.address, tuple)
    reader, writer = await asyncio.open_connection(
        *running.address, ssl=context or authority().client_context(), server_hostname=name
    )
    return Client(reader, writer)


def port(running: Running) -> int:
    """Where it listens."""
    assert isinstance(running.address, tuple)
    return running.address[1]


def ends(running: Running) -> dict[str, int]:
    """What ended otherwise than asked."""
    return running.entry.counters.ends
