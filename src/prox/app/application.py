"""A running prox: the configuration in force, and how another takes its place.

A reload builds and checks everything first; listeners are bound and plugins ready before anything changes; then one step without
an await puts it in force for all services. Whatever fails before that step leaves the old configuration as it was.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from prox.config import model
from prox.config.addresses import ListenAddress
from prox.http.pool import Pools
from prox.http.server import Entry
from prox.observe.access import AccessLogs
from prox.plugin import Manager
from prox.proxy.pipeline import Pipeline
from prox.tasks import spawn

from .build import Builder, Built
from .errors import StartError
from .listening import Listener, bind

_log = logging.getLogger("prox.app")


@dataclass(frozen=True)
class Snapshot:
    """What is in force."""

    config: model.Config
    built: Built
    pipelines: dict[str, Pipeline]


class Application:
    """Serves configurations, one after the other.

    Attributes:
        manager: the plugins.
        snapshot: what is in force, None before `start`.
    """

    def __init__(self, manager: Manager | None = None) -> None:
        self.manager = manager or Manager()
        self.snapshot: Snapshot | None = None
        self.logs = AccessLogs()
        self._pools = Pools()
        self._builder = Builder(self._pools, self.logs)
        self._listeners: dict[ListenAddress, Listener] = {}
        self._leaving: set[Entry] = set()
        self._changing = asyncio.Lock()

    @property
    def addresses(self) -> dict[str, tuple[str, int] | str]:
        """Where each service really listens: host and port, or a socket's path."""
        if self.snapshot is None:
            return {}
        return {
            name: self._listeners[service.listen].bound
            for name, service in self.snapshot.config.services.items()
        }

    async def start(self, config: model.Config) -> None:
        """Bring up the first configuration: plugins first, then the listeners open.

        Raises:
            StartError: nothing was started.
        """
        await self.manager.start()
        try:
            await self.apply(config)
        except BaseException:
            await self.manager.stop()
            self._pools.close()
            raise

    async def apply(self, config: model.Config) -> None:
        """Put a configuration in force, in one step for all services.

        Raises:
            StartError: it can't be; nothing was changed.
        """
        async with self._changing:
            await self._apply(config)

    async def _apply(self, config: model.Config) -> None:
        loop = asyncio.get_running_loop()
        before = self.snapshot
        built = await loop.run_in_executor(
            None, self._builder.build, config, None if before is None else before.built
        )
        fresh: dict[ListenAddress, Listener] = {}
        try:
            for service in config.services.values():
                if service.listen not in self._listeners:
                    fresh[service.listen] = await loop.run_in_executor(None, bind, service.listen)
            prepared = await self.manager.prepare(built.bindings, built.routes)
        except BaseException:
            for listener in fresh.values():
                listener.close()
            self._builder.discard(built)
            raise
        # From here to the end of _swap nothing waits: no request sees half of each configuration.
        for reset in built.resets:
            reset()
        index = self.manager.commit(prepared)
        pipelines = {
            name: Pipeline(
                service.table,
                index,
                trusted=service.config.trusted_proxies,
                pass_dot_segments=config.runtime.dot_segments == "pass",
                counters=service.counters,
            )
            for name, service in built.services.items()
        }
        self.snapshot = Snapshot(config, built, pipelines)
        opening = self._swap(config, pipelines, fresh)
        for listener, entry in opening:
            await listener.open(entry)
        if before is not None:
            self._builder.discard(before.built)

    def _swap(
        self, config: model.Config, pipelines: dict[str, Pipeline], fresh: dict[ListenAddress, Listener]
    ) -> list[tuple[Listener, Entry]]:
        """Point every listener at its service, and let go of those without one."""
        self._listeners.update(fresh)
        wanted: set[ListenAddress] = set()
        opening: list[tuple[Listener, Entry]] = []
        for name, service in config.services.items():
            wanted.add(service.listen)
            listener = self._listeners[service.listen]
            if listener.entry is None:
                opening.append((listener, Entry(pipelines[name], service.config)))
            else:
                listener.entry.handler = pipelines[name]
                listener.entry.tuning = service.config
        for address in self._listeners.keys() - wanted:
            listener = self._listeners.pop(address)
            listener.close()
            if listener.entry is not None:
                self._leave(listener.entry, config.runtime.shutdown_timeout)
        return opening

    def _leave(self, entry: Entry, timeout: float) -> None:
        """Let the connections of a closed listener end."""
        self._leaving.add(entry)

        async def end() -> None:
            await entry.drained(timeout)
            self._leaving.discard(entry)

        spawn(end(), "drain a removed listener")

    async def stop(self, timeout: float | None = None) -> None:
        """Accept no more, let running requests end, then close everything; plugins last.

        Args:
            timeout: seconds that requests in flight may take; `runtime.shutdown_timeout` when None.
        """
        async with self._changing:
            if timeout is None:
                timeout = 0.0 if self.snapshot is None else self.snapshot.config.runtime.shutdown_timeout
            for listener in self._listeners.values():
                listener.close()
            entries = [listener.entry for listener in self._listeners.values() if listener.entry is not None]
            self._listeners.clear()
            drains = [spawn(entry.drained(timeout), "drain") for entry in (*entries, *self._leaving)]
            try:
                if drains:
                    await asyncio.wait(drains)
            finally:
                for entry in (*entries, *self._leaving):
                    entry.abort()
                await self.manager.stop()
                self._pools.close()
                self.logs.close()


__all__ = ["Application", "Snapshot", "StartError"]
