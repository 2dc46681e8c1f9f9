"""A whole prox on a port of its own, and a look inside for what must be clean after each request."""

from __future__ import annotations

import asyncio
import json
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import prox
from prox.app.application import Application
from prox.http.entry import Entry
from prox.http.pool import Pools
from prox.http.server import ServerConnection
from prox.http.upstream import UpstreamConnection
from prox.proxy.pipeline import Pipeline
from support.client import Client

Json = dict[str, Any]


class Running:
    """A prox that serves one service, `web`.

    Attributes:
        server: the library's object.
    """

    def __init__(self, server: prox.Server) -> None:
        self.server = server

    @property
    def address(self) -> tuple[str, int] | str:
        return self.server.addresses["web"]

    @property
    def application(self) -> Application:
        return self.server.application

    @property
    def pools(self) -> Pools:
        return self.application._pools

    @property
    def upstream_connections(self) -> list[UpstreamConnection]:
        """Those of HTTP/1.1."""
        return [each for each in self.pools.open if isinstance(each, UpstreamConnection)]

    @property
    def pipeline(self) -> Pipeline:
        assert self.application.snapshot is not None
        return self.application.snapshot.pipelines["web"]

    @property
    def entry(self) -> Entry:
        (listener,) = self.application._listeners.values()
        assert listener.entry is not None
        return listener.entry

    @property
    def connections(self) -> list[ServerConnection]:
        """The clients' HTTP/1.1 connections."""
        return [found for found in self.entry.connections if isinstance(found, ServerConnection)]

    @property
    def balancer(self) -> Any:
        assert self.application.snapshot is not None
        (balancer,) = self.application.snapshot.built.balancers.values()
        return balancer

    async def connect(self, *, receive_buffer: int = 0) -> Client:
        return await Client.connect(self.address, receive_buffer=receive_buffer)

    async def reload(self, config: Mapping[str, object]) -> None:
        await self.server.reload(config)

    async def until(self, holds: Callable[[], object], what: str = "") -> None:
        """Wait for something that has no event; fails after 15 s."""
        await until(holds, what)

    async def quiet(self, *, idle: int | None = None, connections: int = 0) -> None:
        """Wait until no request is being served; then nothing may be left of any.

        Args:
            idle: upstream connections that are kept for reuse; any number when None.
            connections: client connections that stay open.
        """
        pools, entry = self.pools, self.entry
        await until(lambda: len(pools.open) == pools.idle, f"busy upstream connections: {len(pools.open)}")
        await until(lambda: len(entry.connections) == connections, "client connections left")
        if idle is not None:
            await until(lambda: pools.idle == idle, f"{pools.idle} idle upstream connections, not {idle}")


async def until(holds: Callable[[], object], what: str = "") -> None:
    """Wait for something that has no event; fails after 15 s."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 15
    while not holds():
        assert loop.time() < deadline, what or "it never came"
        await asyncio.sleep(0.002)


@asynccontextmanager
async def serving(
    routes: str | Json | Sequence[Json],
    *,
    config: Json | None = None,
    listen: str = "127.0.0.1:0",
    base: Path | None = None,
    root: Json | None = None,
    **service: Any,
) -> AsyncIterator[Running]:
    """Serve `routes`: a list, one route, or the upstream of one that takes everything.

    Args:
        routes: what to serve.
        config: the service's tuning.
        listen: its address.
        base: folder from which relative paths count.
        root: further keys of the root.
        service: further keys of the service.
    """
    document = make_config(routes, config=config, listen=listen, root=root, **service)
    async with prox.Server(document, base=base) as server:
        yield Running(server)


def make_config(
    routes: str | Json | Sequence[Json],
    *,
    config: Json | None = None,
    listen: str = "127.0.0.1:0",
    root: Json | None = None,
    **service: Any,
) -> Json:
    """The document that `serving` serves."""
    if isinstance(routes, str):
        routes = {"action": {"type": "proxy", "upstream": routes}}
    if isinstance(routes, dict):
        routes = [routes]
    web = {"listen": listen, "routes": list(routes), "config": config or {}, **service}
    return {"services": {"web": web}, "runtime": {"shutdown_timeout": 0.2}, **(root or {})}


def write_sdk_plugin(folder: Path, body: str, name: str = "plugin.py") -> str:
    """A plugin made with the SDK: `body` registers handlers on `plugin`; its path."""
    path = folder / name
    source = textwrap.dedent(body)
    path.write_text(
        f"#!{sys.executable}\n"
        "from prox.sdk import *\nfrom prox.sdk import Plugin\nimport asyncio, json, os, sys\n"
        f"plugin = Plugin()\n{source}\nplugin.run()\n"
    )
    path.chmod(0o755)
    return str(path)


def read_log(path: Path) -> list[Json]:
    """The lines of an access log."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
