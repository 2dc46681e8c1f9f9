"""The supervision of one plugin: start, restart with back-off, swap, stop.

A program that can't be started, one that exits, one that never says `ready` and one that does not answer any more are
all the same to its routes: in error, never bypassed. Supervision ends only when it is told to.

Of its processes one is in charge; another is there while a swap is under way, or ends its last calls after one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Hashable, Mapping
from typing import Any, Final

import msgspec

from prox.tasks import spawn
from prox.wire import HOOK_ON_CONNECT, HOOK_ON_REQUEST, HOOK_TYPES, DisconnectInfo, Push

from .backoff import Backoff
from .complaints import Complaints
from .errors import PluginStartError, PluginSwapError
from .executable import Version
from .figures import HookFigures, PluginState, State
from .hearing import Hearing
from .host import Host
from .leases import Leases
from .life import Assignment, Life
from .liveness import Liveness
from .lives import Lives
from .model import PluginSpec
from .notifications import NotificationQueue
from .swap import Swaps, describe

_log = logging.getLogger("prox.plugin")

_UNTIL_READY: Final = frozenset({HOOK_ON_REQUEST, HOOK_ON_CONNECT})
"""What a plugin is taken to serve before it has said so."""


class Supervisor:
    """Keeps one plugin running.

    Attributes:
        spec: its settings.
        hooks: what it is taken to serve at this moment; a lock that is down is still a lock.
        features: what it said last that it knows beyond the base protocol.
        life: its process in charge; None between two.
        figures: by hook.
        notifications: what waits for on_disconnect.
        complaints: writes warnings about it, at a limited rate.
        wanted: the routes that it is told of, now and after a restart.
        in_force: the routes that are asked about; others than `wanted` while a change is being prepared.
    """

    def __init__(self, spec: PluginSpec, host: Host) -> None:
        self.spec = spec
        self.hooks = _UNTIL_READY if spec.hooks is None else frozenset(spec.hooks)
        self.features: frozenset[str] = frozenset()
        self.life: Life | None = None
        self.figures = {name: HookFigures() for name in HOOK_TYPES}
        self.notifications: NotificationQueue[DisconnectInfo] = NotificationQueue()
        self.complaints = Complaints(spec.name)
        self.wanted: Mapping[str, Assignment] = {}
        self.in_force: Mapping[str, Assignment] = {}
        self._host = host
        self._backoff = Backoff(host.delays, host.random)
        self._lives = Lives(spec, host, Hearing(self, host.delays))
        self._swaps = Swaps(self)
        self._state = State.STOPPED
        self._known_hooks = spec.hooks is not None
        self._restarts = self._unresponsive = 0
        self._last_exit: int | None = None
        self._error = ""
        self._task: asyncio.Task[None] | None = None
        self._stop: asyncio.Future[None]
        self._replaced: asyncio.Future[None] | None = None
        self._hurry = asyncio.Event()
        self._reminder: asyncio.TimerHandle | None = None
        self._waits: set[asyncio.Future[None]] = set()
        self._leases = Leases()

    @property
    def name(self) -> str:
        """Its alias."""
        return self.spec.name

    @property
    def status(self) -> State:
        """Where it is in its supervision."""
        return self._state

    @property
    def running(self) -> bool:
        """Whether it is supervised: started and not told to stop."""
        return self._task is not None and not self._stop.done()

    @property
    def down(self) -> bool:
        """Whether it has no process and waits for its next start."""
        return self._state in {State.BACKING_OFF, State.FAILED, State.STOPPED}

    @property
    def declared(self) -> bool:
        """Whether it has said what it serves, or its settings have."""
        return self._known_hooks

    def state(self) -> PluginState:
        """What is known of it."""
        life = self.life
        caller = life.caller if life else None
        return PluginState(
            alias=self.name,
            path=self.spec.path,
            state=self._state,
            pid=life.process.pid if life else None,
            restarts=self._restarts,
            last_exit=self._last_exit,
            error=self._error,
            stderr=tuple(self._lives.stderr),
            hooks=tuple(sorted(self.hooks)),
            features=tuple(sorted(self.features)),
            figures=self.figures,
            queued=len(self.notifications),
            dropped=self.notifications.dropped,
            in_flight=caller.in_flight if caller else 0,
            waiting=caller.waiting if caller else 0,
            version=str(life.version) if life and life.version else "",
            unresponsive=self._unresponsive,
            swaps=self._swaps.count,
            swapping=self._swaps.active,
            swap_error=self._swaps.error,
        )

    def start(self) -> None:
        """Begin supervision."""
        self._state = State.STARTING
        loop = asyncio.get_running_loop()
        self._leases.begin(loop)
        self._stop = loop.create_future()
        self._task = spawn(self._supervise(), f"plugin {self.name}")

    def configure(self, routes: Mapping[str, Assignment]) -> None:
        """Tell it its routes, now and after each restart. The first that it is told are in force at once."""
        self.wanted = routes
        self.in_force = self.in_force or routes
        if self.life is not None:
            self.life.configure(routes)
        self._swaps.tell()

    def took_effect(self) -> None:
        """The routes that it was told of last are in force: forget the others."""
        self.in_force = self.wanted
        for life in (self.life, self._swaps.coming):
            if life is not None:
                life.forget_others(self.wanted)

    def order_swap(self) -> asyncio.Future[None]:
        """Ask for a new process in the place of the present one; see `Swaps.order`."""
        return self._swaps.order()

    def outdated(self, present: Version | None) -> bool:
        """Whether another version of its program is there than runs, or is being started."""
        newest = self._swaps.coming or self.life
        return present is not None and present != (
            newest.version if newest is not None else self._lives.version
        )

    async def answered(self, seconds: float) -> bool:
        """Wait until it has acknowledged all it was told and said what it serves, or can't be started."""
        if self._settled():
            return True
        wait = asyncio.get_running_loop().create_future()
        self._waits.add(wait)
        try:
            await asyncio.wait({wait}, timeout=seconds)
        finally:
            self._waits.discard(wait)
        return wait.done()

    def lease(self) -> None:
        """A hook index holds it."""
        self._leases.take()

    def unlease_soon(self) -> None:
        """A hook index that held it is gone, and so are the requests that began under it; called in any thread."""
        self._leases.give_back_soon()

    def notify(self, key: Hashable, info: DisconnectInfo) -> None:
        """Queue an on_disconnect message for a route. Never waits."""
        life = self.life
        known = life.id_of(key, info.route_id) if life is not None else None
        if known is not None and known != info.route_id:
            info = msgspec.structs.replace(info, route_id=known)
        self.notifications.put(info)

    async def retire(self) -> None:
        """Stop after the last hook of the requests in flight, or when the time for that is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._host.delays.retire
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                await self._leases.none()
                if self.life is not None and self.life.caller is not None:
                    await self.life.caller.drain(end - loop.time())
        await self.stop()

    async def stop(self) -> None:
        """Stop the process within the limits of `Delays`; on_disconnect messages get a moment to go out."""
        if self._task is None:
            return
        life = self.life
        if not self._stop.done() and life is not None and life.caller is not None and self.notifications:
            await life.caller.drain(self._host.delays.flush)
        if not self._stop.done():
            self._stop.set_result(None)
        await asyncio.wait({self._task})
        await self._swaps.over()
        await self._lives.ended()

    @property
    def stopping(self) -> asyncio.Future[None]:
        """Done when it is told to stop."""
        return self._stop

    async def _supervise(self) -> None:
        while not self._stop.done():
            try:
                lived = await self._live()
            except Exception:
                _log.exception("the supervision of plugin %s met an error of its own", self.name)
                lived = 0.0
            if self._stop.done():
                break
            wait = self._backoff.after(lived)
            _log.info("plugin %s is started again in %.1f s", self.name, wait)
            await self._pause(wait)
            self._restarts += not self._stop.done()
        self._state = State.STOPPED
        self._tell_waits(always=True)

    async def _pause(self, seconds: float) -> None:
        """Wait for the next start, unless one is wanted now."""
        if not self._hurry.is_set():
            hurried = spawn(self._hurry.wait(), f"order to start plugin {self.name}")
            events: set[asyncio.Future[Any]] = {self._stop, hurried}
            await asyncio.wait(events, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
        self._hurry.clear()

    async def _live(self) -> float:
        """Run processes from a start to an exit that nobody takes over from; the seconds that the last one lived."""
        self._state = State.STARTING
        try:
            self.take_charge(await self.begin())
        except (PluginStartError, OSError) as error:
            self._state = State.FAILED
            self._error = str(error)
            _log.error("plugin %s can't be started: %s", self.name, error)
            self._tell_waits()
            return 0.0
        try:
            while True:
                life = await self._end_of_charge()
                if self._stop.done():
                    self._state = State.STOPPED
                    await life.process.stop()
                    self._last_exit = life.process.returncode
                    break
                await self._lost(life)
                successor = await self._swaps.successor()
                if successor is None or self._stop.done():
                    break
                self._restarts += 1
                self.take_charge(successor)
        finally:
            if self._reminder is not None:
                self._reminder.cancel()
            if self.life is not None:
                self._lives.end_soon(self.life)  # after an error of our own it still runs
                self.life.end()
                self.life = None
        return asyncio.get_running_loop().time() - life.began

    async def _end_of_charge(self) -> Life:
        """Wait until the process in charge has ended, does not answer any more, or is to stop; the process."""
        while True:
            life, replaced = self.life, self._replaced
            assert life is not None
            assert replaced is not None
            with Liveness(life, self._host.delays) as liveness:
                events: set[asyncio.Future[Any]] = {life.process.ended, liveness.found, replaced, self._stop}
                await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
            if self.life is not life:
                continue
            if liveness.found.done() and not life.process.done and not self._stop.done():
                self._unresponsive += 1
                self._error = liveness.found.result()
                _log.error("plugin %s runs and does not answer, it is restarted: %s", self.name, self._error)
            return life

    async def _lost(self, life: Life) -> None:
        """The process in charge has ended, or must."""
        self._state = State.BACKING_OFF
        self.life = None
        life.end()
        if life.process.done:
            _log.warning("plugin %s has exited (%s)", self.name, describe(life.process.returncode))
        elif self._swaps.under_way:
            self._lives.end_soon(life)
        else:
            await life.process.stop()
        self._last_exit = life.process.returncode

    # Its processes.

    async def begin(self) -> Life:
        """See `Lives.begin`."""
        return await self._lives.begin()

    def take_charge(self, life: Life) -> None:
        """Put a process in charge in one step: what is asked from now on is asked of it.

        Calls in flight on the one before, if there is one, end there; then that is stopped.
        """
        loop = asyncio.get_running_loop()
        before, self.life = self.life, life
        life.in_charge = True
        self._error = ""
        if life.told is not self.wanted:
            life.configure(self.wanted)
        if before is not None:
            before.leave()
            if before.caller is not None:
                before.caller.serve_notifications(NotificationQueue())
            self._lives.end_soon(before, self._host.delays.retire, self._stop)
        if life.caller is not None:
            life.caller.serve_notifications(self.notifications)
        self._state = State.STARTING
        self.heard(life)
        pushes, life.held = life.held, {}
        self._host.listener.took_charge(self, pushes.values())
        if self._reminder is not None:
            self._reminder.cancel()
        self._reminder = loop.call_at(life.began + self.spec.start_timeout, self._remind, life)
        replaced, self._replaced = self._replaced, loop.create_future()
        if replaced is not None and not replaced.done():
            replaced.set_result(None)
        self._tell_waits()

    async def end(self, life: Life) -> None:
        """Stop a process that is not in charge."""
        await self._lives.end(life)

    async def start_now(self) -> None:
        """Start, where it waits for its next start, and wait until it is ready.

        Raises:
            PluginSwapError: it does not get ready in time.
        """
        if self.down:
            self._state = State.STARTING
            self._hurry.set()
        if not await self.answered(self.spec.start_timeout):
            raise PluginSwapError(f"it has not become ready within {self.spec.start_timeout:g} s")
        if self._stop.done():
            raise PluginSwapError("the plugin is being stopped")
        if self._state is State.FAILED:
            raise PluginSwapError(self._error)

    def _remind(self, life: Life) -> None:
        if self.life is not life or self._settled_life(life):
            return
        missing = "acknowledged its configuration" if life.outstanding else "said ready or pushed anything"
        advice = "" if self._known_hooks else "; a plugin that serves no hooks needs the setting `hooks: []`"
        _log.error(
            "plugin %s has not %s within %g s, its routes are refused%s",
            self.name,
            missing,
            self.spec.start_timeout,
            advice,
        )

    # What they say.

    def heard(self, life: Life) -> None:
        """What is known of a process has changed: of the one in charge, that is what the plugin is."""
        life.tell()
        if life is not self.life:
            return
        if life.hooks is not None:
            self._state = State.READY
            self.features = life.features
            self._serves(life.hooks)
        elif life.pushed:
            self._state = State.READY
            if not self._known_hooks:
                self._serves(frozenset())
        elif not life.outstanding and not self.hooks:
            self._state = State.READY
        self._tell_waits()

    def pushed(self, life: Life, push: Push) -> None:
        """A process has sent `set_targets` or `set_speed`: nothing comes of it where another has its place by now."""
        if not life.left:
            self._host.listener.pushed(self, life, push)

    def _serves(self, hooks: frozenset[str]) -> None:
        self._known_hooks = True
        if self.spec.hooks is None and hooks != self.hooks:
            self.hooks = hooks

    # Who waits for it.

    def _settled(self) -> bool:
        return self._state is State.FAILED or (self.life is not None and self._settled_life(self.life))

    def _settled_life(self, life: Life) -> bool:
        if life.outstanding or life.process.pid is None:
            return False
        return life.hooks is not None or not self.hooks or life.grace_over

    def _tell_waits(self, *, always: bool = False) -> None:
        if self._waits and (always or self._settled()):
            for wait in self._waits:
                if not wait.done():
                    wait.set_result(None)
