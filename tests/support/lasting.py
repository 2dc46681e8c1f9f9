"""A prox and an upstream on real sockets that last over many examples of a property test."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

from support.client import CutError
from support.servers import Json, Running, serving
from support.upstream import Script, Upstream
from support.upstream_messages import NotStrictError

T = TypeVar("T")


class Lasting:
    """Both, in a loop of their own that runs only inside `run`.

    Args:
        script: what the upstream does with each connection.
        config: tuning of the service.

    Attributes:
        upstream: what prox proxies to.
        prox: what serves.
    """

    def __init__(self, script: Script, config: Json) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.run(self._start(script, config))

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self._runner.run(coro)

    async def _start(self, script: Script, config: Json) -> None:
        self.upstream = Upstream(script)
        await self.upstream.__aenter__()
        self._serving = serving(self.upstream.address, config=config)
        self.prox: Running = await self._serving.__aenter__()

    async def until_quiet(self, data: bytes) -> bytes:
        """Send `data` and read whole answers until nothing comes; the bytes of the one that is not whole."""
        async with await self.prox.connect() as client:
            try:
                await client.send(data)
                async with asyncio.timeout(0.2):
                    while True:
                        await client.message("GET")
            except (TimeoutError, CutError, ConnectionError, NotStrictError):
                return client.rest

    def stop(self) -> None:
        """End both."""
        with self._runner:
            self.run(self._stop())

    async def _stop(self) -> None:
        await self._serving.__aexit__(None, None, None)
        await self.upstream.__aexit__(None, None, None)
