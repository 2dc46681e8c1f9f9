"""The Manager: all plugins of a configuration, the index of their hooks, and the way of their pushes.

A change of configuration has two halves. `prepare` starts what is new and tells every plugin its routes, and
changes nothing that is in force; `commit` puts it all in force in one synchronous step, or `abandon` undoes it.
"""

from __future__ import annotations

import asyncio
import logging
import random as _random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from prox.tasks import spawn
from prox.wire import (
    AuthorizeResult,
    ConnInfo,
    ConnResult,
    DisconnectInfo,
    Push,
    RequestInfo,
    ResponseModResult,
    Speed,
    UpstreamResponseInfo,
)

from .asking import HookRecord
from .executable import Version, program_files, version_of
from .figures import PluginState
from .guardian import Guardian
from .host import Host
from .index import HookIndex
from .life import Life
from .model import Binding, Delays, PluginSpec, RouteInfo
from .plan import Plan, Route
from .pushed import Pushed, hint, read_push
from .pushes import PushStore, reached
from .runtime import RuntimeDirectory
from .supervisor import Supervisor

_log = logging.getLogger("prox.plugin")


class Prepared:
    """A configuration that plugins know and that is not in force yet; for one `commit` or `abandon`."""

    def __init__(self, plan: Plan, supervisors: dict[PluginSpec, Supervisor]) -> None:
        self.plan = plan
        self.supervisors = supervisors
        self.outdated: list[Supervisor] = []
        """Plugins that go on and whose program has changed."""


class Manager:
    """Runs plugins and asks their hooks.

    Args:
        delays: all waiting of supervision.
        runtime_dir: where the plugins' directories are made; the system's for temporary files when None.
        random: a number from 0 to 1, for jitter.
    """

    def __init__(
        self,
        *,
        delays: Delays | None = None,
        runtime_dir: str | Path | None = None,
        random: Callable[[], float] = _random.random,  # noqa: S311 - jitter is no secret
    ) -> None:
        self._delays = delays or Delays()
        self._runtime = RuntimeDirectory(None if runtime_dir is None else str(runtime_dir))
        self._guardian: Guardian | None = None
        self._host = Host(
            listener=self,
            runtime=self._runtime,
            delays=self._delays,
            random=random,
            guardian=lambda: self._guardian,
        )
        self._plan = Plan((), {})
        self._preparing: Prepared | None = None
        self._supervisors: dict[PluginSpec, Supervisor] = {}
        self._retiring: dict[Supervisor, asyncio.Task[None]] = {}
        self._pushes = PushStore()
        self._running = False
        self.index = self._new_index()

    # Life.

    def configure(self, bindings: Iterable[Binding], routes: Mapping[str, RouteInfo]) -> None:
        """Set the configuration to `start` with. Once started, use `reconfigure`."""
        if self._running:
            raise RuntimeError("the manager runs: use reconfigure")
        self._plan = Plan(bindings, routes)
        self._supervisors = {plugin: Supervisor(plugin, self._host) for plugin in self._plan.assignments}
        self.index = self._new_index()

    async def start(self) -> None:
        """Start all plugins and wait until each has answered, or its `start_timeout` is over.

        A plugin that does not come up is no error here: it is started again, and its routes are refused.
        """
        if self._running:
            raise RuntimeError("the manager runs already")
        self._running = True
        try:
            await self._launch(self._plan, self._supervisors.values())
        except BaseException:
            await self.stop()
            raise

    async def reconfigure(self, bindings: Iterable[Binding], routes: Mapping[str, RouteInfo]) -> None:
        """`prepare` and `commit`: as `configure` while it does not run."""
        if not self._running:
            self.configure(bindings, routes)
            return
        self.commit(await self.prepare(bindings, routes))

    async def stop(self) -> None:
        """Stop all plugins within the limits of `Delays`, those at the same time, and then the guardian."""
        if not self._running:
            return
        coming = self._preparing.supervisors.values() if self._preparing is not None else ()
        supervisors = {*self._supervisors.values(), *self._retiring, *coming}
        await _all(*(supervisor.stop() for supervisor in supervisors))
        for task in self._retiring.values():
            task.cancel()
        self._running = False
        guardian, self._guardian = self._guardian, None
        if guardian is not None:
            await guardian.stop()
        await asyncio.get_running_loop().run_in_executor(None, self._runtime.close)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # A change of configuration.

    async def prepare(self, bindings: Iterable[Binding], routes: Mapping[str, RouteInfo]) -> Prepared:
        """Start new plugins and tell all of them their routes; what is in force stays as it is.

        Waits until each has answered, `start_timeout` at most. One that runs and is down is not waited for: it
        refuses until it is back. New plugins come first, so that the time in which the others know the new ids
        and the old ones are in force is short.
        """
        if not self._running:
            raise RuntimeError("the manager does not run")
        if self._preparing is not None:
            raise RuntimeError("another change is being prepared")
        plan = Plan(bindings, routes)
        supervisors: dict[PluginSpec, Supervisor] = {}
        prepared = self._preparing = Prepared(plan, supervisors)
        try:
            new = []
            for plugin in plan.assignments:
                found = self._supervisors.get(plugin) or self._take_back(plugin)
                if found is None:
                    found = Supervisor(plugin, self._host)
                    new.append(found)
                supervisors[plugin] = found
            await self._launch(plan, new)
            kept = [supervisor for supervisor in supervisors.values() if supervisor not in new]
            for supervisor in kept:
                supervisor.configure(plan.assignments[supervisor.spec])
            await _all(*(self._answer(supervisor) for supervisor in kept if not supervisor.down))
            prepared.outdated = await self._outdated(kept)
        except BaseException:
            self.abandon(prepared)
            raise
        return prepared

    def commit(self, prepared: Prepared) -> HookIndex:
        """Put a prepared configuration in force: its index, and what was pushed for its routes.

        Plugins that it does not name stop after the last hook of the requests that began under earlier ones. Those
        that go on and whose program has changed are swapped: they begin it now, and nobody waits for it.
        """
        self._use(prepared)
        removed = [found for plugin, found in self._supervisors.items() if plugin not in prepared.supervisors]
        self._plan = prepared.plan
        self._supervisors = dict(prepared.supervisors)
        for supervisor in self._supervisors.values():
            supervisor.took_effect()
        self._pushes.prune(self._plan)
        self._pushes.apply(self._plan, _balancer_failed)
        self.index = self._new_index()
        self._retire(removed)
        for supervisor in prepared.outdated:
            _log.info("plugin %s: its program has changed, the new version is started", supervisor.name)
            supervisor.order_swap()
        return self.index

    def abandon(self, prepared: Prepared) -> None:
        """Forget a prepared configuration: what it started stops, the others are told their routes again."""
        self._use(prepared)
        new = []
        for plugin, supervisor in prepared.supervisors.items():
            if self._supervisors.get(plugin) is supervisor:
                supervisor.configure(self._plan.assignments[plugin])
            else:
                new.append(supervisor)
        self._pushes.prune(self._plan)
        self._retire(new)

    async def swap(self, plugin: str | PluginSpec) -> None:
        """Put a new process in the place of a plugin's present one, without a gap.

        It is started beside the old one, told the routes in force, and takes over in one step when it is ready;
        calls in flight end on the old one. A plugin that is down is started at once. Where a swap is under way, this
        is one more after it, so that the process is always one that was started after the call.

        Args:
            plugin: the alias of a plugin in force, or its settings.

        Raises:
            LookupError: there is no such plugin in force.
            PluginSwapError: the new process did not get ready in time; the old one stays.
            RuntimeError: the manager does not run.
        """
        if not self._running:
            raise RuntimeError("the manager does not run")
        found = [one for one in self._supervisors.values() if one.running and plugin in {one.name, one.spec}]
        if not found:
            raise LookupError(f"no plugin {plugin if isinstance(plugin, str) else plugin.name} is in force")
        orders = [supervisor.order_swap() for supervisor in found]
        await asyncio.wait(orders)
        for order in orders:
            order.result()

    @property
    def programs(self) -> frozenset[Path]:
        """The files of the plugins in force whose change is a reason for a reload."""
        return frozenset(file for plugin in self._supervisors for file in program_files(plugin))

    async def _outdated(self, supervisors: Sequence[Supervisor]) -> list[Supervisor]:
        """Those of which another version of the program is there than runs."""

        def look() -> list[Version | None]:
            return [version_of(supervisor.spec) for supervisor in supervisors]

        present = await asyncio.get_running_loop().run_in_executor(None, look)
        return [one for one, version in zip(supervisors, present, strict=True) if one.outdated(version)]

    def _new_index(self) -> HookIndex:
        return HookIndex(self._plan, self._supervisors)

    def _use(self, prepared: Prepared) -> None:
        if prepared is not self._preparing:
            raise RuntimeError("this change was committed or abandoned already")
        self._preparing = None

    async def _launch(self, plan: Plan, supervisors: Iterable[Supervisor]) -> None:
        """Start plugins and wait until they have answered."""
        starting = list(supervisors)
        if not starting:
            return
        if self._guardian is None:
            directory = await asyncio.get_running_loop().run_in_executor(None, self._runtime.open)
            self._guardian = Guardian(directory, self._delays)
            await self._guardian.start()
        for supervisor in starting:
            supervisor.configure(plan.assignments[supervisor.spec])
            supervisor.start()
        await _all(*(self._answer(supervisor) for supervisor in starting))

    async def _answer(self, supervisor: Supervisor) -> None:
        if not await supervisor.answered(supervisor.spec.start_timeout):
            _log.error(
                "plugin %s has not answered within %g s; what it guards is refused until it does",
                supervisor.name,
                supervisor.spec.start_timeout,
            )

    def _take_back(self, plugin: PluginSpec) -> Supervisor | None:
        """A plugin that an earlier change took out and that still runs."""
        for supervisor, task in list(self._retiring.items()):
            if supervisor.spec == plugin and supervisor.running:
                del self._retiring[supervisor]
                task.cancel()
                return supervisor
        return None

    def _retire(self, supervisors: Sequence[Supervisor]) -> None:
        for supervisor in supervisors:
            if supervisor.running:
                task = spawn(supervisor.retire(), f"retire plugin {supervisor.name}")
                self._retiring[supervisor] = task
                task.add_done_callback(partial(self._retired, supervisor))

    def _retired(self, supervisor: Supervisor, task: asyncio.Task[None]) -> None:
        if self._retiring.get(supervisor) is task:
            del self._retiring[supervisor]

    # Hooks: the present index.

    def has_hook(self, route_id: str, hook: str, stage: int = 0) -> bool:
        """`HookIndex.has_hook` of the index in force."""
        return self.index.has_hook(route_id, hook, stage)

    async def on_request(
        self, route_id: str, info: RequestInfo, *, stage: int = 0, record: HookRecord | None = None
    ) -> AuthorizeResult:
        """`HookIndex.on_request` of the index in force."""
        return await self.index.on_request(route_id, info, stage=stage, record=record)

    async def on_response(
        self,
        route_id: str,
        info: RequestInfo,
        resp: UpstreamResponseInfo,
        *,
        stage: int = 0,
        record: HookRecord | None = None,
    ) -> ResponseModResult:
        """`HookIndex.on_response` of the index in force."""
        return await self.index.on_response(route_id, info, resp, stage=stage, record=record)

    async def on_connect(self, route_id: str, conn: ConnInfo) -> ConnResult:
        """`HookIndex.on_connect` of the index in force."""
        return await self.index.on_connect(route_id, conn)

    def on_disconnect(self, route_id: str, info: DisconnectInfo, *, stage: int = 0) -> None:
        """`HookIndex.on_disconnect` of the index in force."""
        self.index.on_disconnect(route_id, info, stage=stage)

    # What can be seen.

    def states(self) -> list[PluginState]:
        """All plugins in force, in the order of the configuration."""
        return [supervisor.state() for supervisor in self._supervisors.values()]

    @property
    def speeds(self) -> dict[str, dict[str, Speed]]:
        """The speeds pushed by `set_speed`, by route id and group key (empty: for the route itself)."""
        return self._pushes.speeds(self._plan)

    # What plugins bring about.

    def pushed(self, supervisor: Supervisor, life: Life, push: Push) -> None:
        """Take a push: check it whole, keep it, and give it to the routes in force."""
        coming = self._preparing
        in_force = self._supervisors.get(supervisor.spec) is supervisor
        if not in_force and (coming is None or coming.supervisors.get(supervisor.spec) is not supervisor):
            return  # a plugin that is being stopped has no routes
        warn = supervisor.complaints.warn
        pushed = read_push(push, life)
        if isinstance(pushed, str):
            warn("%s changes nothing: %s", push.method, pushed)
        elif not (in_force and self._reached(supervisor, pushed)) and (
            coming is None or not reached(coming.plan, supervisor.spec, pushed)
        ):
            warn("%s changes nothing: it reaches no route%s", push.method, hint(pushed.address))
        elif life.in_charge:
            self._take(supervisor, pushed)
        else:
            life.held.pop(pushed.place, None)
            life.held[pushed.place] = pushed

    def took_charge(self, supervisor: Supervisor, pushes: Iterable[Pushed]) -> None:
        """Take what a plugin's new process pushed before it was in charge."""
        for pushed in pushes:
            self._take(supervisor, pushed)

    def _take(self, supervisor: Supervisor, pushed: Pushed) -> None:
        plugin, address, value = supervisor.spec, pushed.address, pushed.value
        if isinstance(value, Speed):
            self._pushes.keep_speed(plugin, address, value)
            for route in self._reached(supervisor, pushed):
                latest = self._pushes.speed(self._plan, route, value.group_key)
                if route.speed is not None and latest is not None:
                    route.speed.push(value.group_key, latest)
            return
        if isinstance(value, Mapping):
            self._pushes.keep_groups(plugin, address, value)
        else:
            self._pushes.keep_targets(plugin, address, value)
        for route in self._reached(supervisor, pushed):
            if route.balancer is None:
                continue
            try:
                if isinstance(value, Mapping):
                    route.balancer.set_groups(value)
                else:
                    route.balancer.set_targets(value)
            except Exception as error:
                _balancer_failed(route, error)

    def _reached(self, supervisor: Supervisor, pushed: Pushed) -> list[Route]:
        """The routes in force that a push means something for."""
        if self._supervisors.get(supervisor.spec) is not supervisor:
            return []
        return reached(self._plan, supervisor.spec, pushed)


def _balancer_failed(route: Route, error: Exception) -> None:
    _log.error("the balancer of route %s did not take what was pushed", route.id, exc_info=error)


async def _all(*coros: object) -> None:
    """Run side by side; the failure of one is raised after all have ended."""
    tasks = [spawn(coro, "plugins") for coro in coros]  # type: ignore[arg-type,var-annotated] # coroutines
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        task.result()
