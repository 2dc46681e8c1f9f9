"""A running prox: the configuration in force, and how another takes its place.

A reload builds and checks everything first; listeners are bound and plugins ready before anything changes; then one step
without an await puts it in force for all services. Whatever fails before that step leaves the old configuration as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from prox.config import model
from prox.http.pool import Pools
from prox.l4.stores import Stores
from prox.observe.access import AccessLogs
from prox.plugin import HookIndex, Manager, Prepared
from prox.proxy.pipeline import Pipeline
from prox.proxy.route import Route
from prox.routing import Table
from prox.tasks import spawn

from .build import Builder, Built, BuiltService
from .errors import StartError
from .listeners import Address, Key, Listeners, release
from .listening import Listener
from .snapshot import Snapshot
from .threads import in_thread

if TYPE_CHECKING:
    from prox.proxy.passing import Passing

_CANCELLED = 2.0
"""Seconds for requests whose connections were aborted to end, before the logs that they write to are closed."""


class Application:
    """Serves configurations, one after the other; once stopped it does not start again.

    Attributes:
        manager: the plugins.
        snapshot: what is in force, None before `start`.
        logs: the access logs.
    """

    def __init__(self, manager: Manager | None = None) -> None:
        self.manager = manager or Manager()
        self.snapshot: Snapshot | None = None
        self.logs = AccessLogs()
        self._pools = Pools()
        self._stores = Stores()
        self._builder = Builder(self._pools, self.logs)
        self._listeners = Listeners()
        self._ending: set[Snapshot] = set()
        self._changing = asyncio.Lock()
        self._applying: asyncio.Task[Exception | None] | None = None
        self._stopped = False

    @property
    def addresses(self) -> dict[str, Address]:
        """Where each service really listens: host and port, or a socket's path."""
        if self.snapshot is None or self._stopped:
            return {}
        return {
            name: self._listeners.address(name, service)
            for name, service in self.snapshot.config.services.items()
        }

    @property
    def files(self) -> frozenset[Path]:
        """What the configuration in force is made of beside its own files: those that were read, and plugins."""
        if self.snapshot is None:
            return frozenset()
        return frozenset(self.snapshot.built.files) | self.manager.programs

    async def start(self, config: model.Config) -> None:
        """Bring up the first configuration: plugins first, then the listeners open.

        Raises:
            StartError: nothing was started.
        """
        try:
            await self.manager.start()
            await self.apply(config)
        except BaseException:
            await self.stop(0)
            raise

    async def apply(self, config: model.Config) -> None:
        """Put a configuration in force, in one step for all services.

        Raises:
            StartError: it can't be, or `stop` was called meanwhile; nothing was changed.
            RuntimeError: it has been stopped.
        """
        async with self._changing:
            if self._stopped:
                raise RuntimeError("the application was stopped")
            applying = self._applying = spawn(self._try_apply(config), "apply a configuration")
            try:
                await asyncio.wait({applying})
            finally:
                self._applying = None
                if not applying.done():
                    applying.cancel()
                    await asyncio.wait({applying})
            if applying.cancelled():
                raise StartError("prox is ending")
            error = applying.result()
            if error is not None:
                raise error

    async def _try_apply(self, config: model.Config) -> Exception | None:
        """Apply as a task of its own, which `stop` can cancel; the error goes to who asked for it."""
        try:
            await self._apply(config)
        except Exception as error:
            return error
        return None

    async def _apply(self, config: model.Config) -> None:
        before = self.snapshot
        with contextlib.ExitStack() as undo:
            built = await in_thread(
                lambda: self._builder.build(config, None if before is None else before.built),
                self._builder.discard,
            )
            undo.callback(self._builder.discard, built)
            fresh = await self._listeners.bind(config.services)
            undo.callback(release, fresh.values())
            prepared = await self.manager.prepare(built.bindings, built.routes)
            undo.callback(self.manager.abandon, prepared)
            for listener in fresh.values():
                listener.listen()
            undo.pop_all()
        self._put_in_force(config, built, fresh, prepared)
        for listener in fresh.values():
            listener.accept()

    def _put_in_force(
        self, config: model.Config, built: Built, fresh: dict[Key, Listener], prepared: Prepared
    ) -> None:
        """Change everything. Nothing in here waits, so that no request sees a half of each configuration."""
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
                service=name,
                unrouted_log=service.unrouted_log,
            )
            for name, service in built.services.items()
        }
        passings = {
            name: self._passing(name, service, service.passed, index)
            for name, service in built.services.items()
            if service.passed is not None
        }
        for name, passing in passings.items():
            built.services[name].steps = built.services[name].steps.then(passing)
        before, self.snapshot = self.snapshot, Snapshot(config, built, pipelines, passings)
        self._listeners.swap(built.services, pipelines, fresh, config.runtime.shutdown_timeout)
        if before is not None:
            self._retire(before)

    def _passing(
        self, name: str, service: BuiltService, routes: Table[Route | None], index: HookIndex
    ) -> Passing:
        """What looks at the ClientHellos of a service."""
        from prox.proxy.passing import Passing

        tuning = service.tuning
        return Passing(
            routes,
            index,
            self._stores,
            service=name,
            ends_tls=bool(service.config.tls),
            counters=service.counters,
            idle_timeout=tuning.relay_idle_timeout,
            keep_alive=tuning.keep_alive,
            unrouted_log=service.unrouted_log,
        )

    def _retire(self, snapshot: Snapshot) -> None:
        """Give back what a configuration holds as soon as its last request has ended and was logged."""
        snapshot.retire()
        self._ending.add(snapshot)

        async def end() -> None:
            await snapshot.over.wait()
            self._ending.discard(snapshot)
            self._builder.discard(snapshot.built)

        spawn(end(), "end of a configuration")

    async def stop(self, drain: float | None = None) -> None:
        """Accept no more, let running requests end, then close everything; plugins last.

        Args:
            drain: seconds that requests in flight may take; `runtime.shutdown_timeout` when None.
        """
        if self._applying is not None:
            self._applying.cancel()
        async with self._changing:
            if self._stopped:
                return
            self._stopped = True
            if drain is None:
                drain = 0.0 if self.snapshot is None else self.snapshot.config.runtime.shutdown_timeout
            try:
                await self._listeners.close(drain)
                await self._last_requests()
            finally:
                self._listeners.abort()
                try:
                    await self.manager.stop()
                finally:
                    self._pools.close()
                    self._stores.close()
                    self.logs.close()

    async def _last_requests(self) -> None:
        if self.snapshot is not None:
            self._retire(self.snapshot)
        endings = [spawn(snapshot.over.wait(), "last requests") for snapshot in self._ending]
        if endings:
            _, late = await asyncio.wait(endings, timeout=_CANCELLED)
            for ending in late:
                ending.cancel()

    def abort(self) -> None:
        """Close all sockets and logs at once, where nothing can be waited for. The process has to end next."""
        self._listeners.abort()
        self.logs.close()
