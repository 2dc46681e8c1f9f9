"""The supervision of one plugin: start, hold to the protocol, restart with back-off, stop.

A program that can't be started, one that exits and one that never says `ready` are all the same to its routes:
in error, never bypassed. Supervision ends only when it is told to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from prox.tasks import spawn
from prox.wire import (
    HOOK_ON_CONNECT,
    HOOK_ON_REQUEST,
    HOOK_TYPES,
    METHOD_LOG,
    METHOD_READY,
    METHOD_SET_SPEED,
    METHOD_SET_TARGETS,
    DecodeError,
    DisconnectInfo,
    OversizeLine,
    Push,
    PushParams,
    Response,
    decode_line,
)

from .backoff import Backoff
from .caller import Caller
from .complaints import Complaints
from .errors import PluginStartError
from .figures import HookFigures, PluginState, State
from .guardian import Guardian
from .life import Assignment, Life
from .logline import log_from_plugin
from .model import Delays, PluginSpec
from .notifications import NotificationQueue
from .process import STDERR_KEPT, Process, printable
from .runtime import RuntimeDirectory

_log = logging.getLogger("prox.plugin")

_UNTIL_READY: Final = frozenset({HOOK_ON_REQUEST, HOOK_ON_CONNECT})
"""What a plugin is taken to serve before it has said so."""


class Listener(Protocol):
    """Who is told what a plugin brings about."""

    def pushed(self, supervisor: Supervisor, life: Life, push: Push) -> None:
        """It has sent `set_targets` or `set_speed`."""

    def hooks_changed(self, supervisor: Supervisor) -> None:
        """It serves other hooks than before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What all supervisors of a Manager share."""

    listener: Listener
    runtime: RuntimeDirectory
    delays: Delays
    random: Callable[[], float]
    guardian: Callable[[], Guardian | None]


class Supervisor:
    """Keeps one plugin running.

    Attributes:
        spec: its settings.
        hooks: what it is taken to serve at this moment; a lock that is down is still a lock.
        life: its present process; None between two.
        figures: by hook.
        notifications: what waits for on_disconnect.
        complaints: writes warnings about it, at a limited rate.
        wanted: the routes that it is told of, now and after a restart.
    """

    def __init__(self, spec: PluginSpec, host: Host) -> None:
        self.spec = spec
        self.hooks = _UNTIL_READY if spec.hooks is None else frozenset(spec.hooks)
        self.life: Life | None = None
        self.figures = {name: HookFigures() for name in HOOK_TYPES}
        self.notifications: NotificationQueue[DisconnectInfo] = NotificationQueue()
        self.complaints = Complaints(spec.name)
        self.wanted: Mapping[str, Assignment] = {}
        self._host = host
        self._backoff = Backoff(host.delays, host.random)
        self._state = State.STOPPED
        self._known_hooks = spec.hooks is not None
        self._starts = 0
        self._last_exit: int | None = None
        self._error = ""
        self._stderr: deque[str] = deque(maxlen=STDERR_KEPT)
        self._task: asyncio.Task[None] | None = None
        self._stop: asyncio.Future[None]
        self._waits: set[asyncio.Future[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leases = 0
        self._unleased = asyncio.Event()
        self._unleased.set()

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

    def state(self) -> PluginState:
        """What is known of it."""
        life = self.life
        caller = life.caller if life else None
        return PluginState(
            alias=self.name,
            path=self.spec.path,
            state=self._state,
            pid=life.process.pid if life else None,
            restarts=max(self._starts - 1, 0),
            last_exit=self._last_exit,
            error=self._error,
            stderr=tuple(self._stderr),
            hooks=tuple(sorted(self.hooks)),
            figures=self.figures,
            queued=len(self.notifications),
            dropped=self.notifications.dropped,
            in_flight=caller.in_flight if caller else 0,
            waiting=caller.waiting if caller else 0,
        )

    def start(self) -> None:
        """Begin supervision."""
        self._state = State.STARTING
        self._loop = asyncio.get_running_loop()
        self._stop = self._loop.create_future()
        self._task = spawn(self._supervise(), f"plugin {self.name}")

    def configure(self, routes: Mapping[str, Assignment]) -> None:
        """Tell it its routes, now and after each restart."""
        self.wanted = routes
        if self.life is not None:
            self.life.configure(routes)

    def took_effect(self) -> None:
        """The routes that it was told of last are in force: forget the others."""
        if self.life is not None:
            self.life.forget_others(self.wanted)

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
        self._leases += 1
        self._unleased.clear()

    def unlease_soon(self) -> None:
        """A hook index that held it is gone, and so are the requests that began under it; called in any thread."""
        if self._loop is None:
            self._unlease()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._unlease)

    def notify(self, key: Hashable, info: DisconnectInfo) -> None:
        """Queue an on_disconnect message for a route. Never waits."""
        life = self.life
        known = life.id_of(key, info.route_id) if life is not None else None
        if known is not None and known != info.route_id:
            info = msgspec.structs.replace(info, route_id=known)
        self.notifications.put(info)

    def _unlease(self) -> None:
        self._leases -= 1
        if not self._leases:
            self._unleased.set()

    async def retire(self) -> None:
        """Stop after the last hook of the requests in flight, or when the time for that is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._host.delays.retire
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                await self._unleased.wait()
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
            await asyncio.wait({self._stop}, timeout=wait)
        self._state = State.STOPPED
        self._tell_waits(always=True)

    async def _live(self) -> float:
        """Run one process from start to exit; the seconds that it lived."""
        loop = asyncio.get_running_loop()
        self._state = State.STARTING
        self._starts += 1
        host = self._host
        process = Process(
            self.spec, host.runtime, host.delays, self._line, guardian=host.guardian(), stderr=self._stderr
        )
        began = loop.time()
        try:
            await process.start()
        except (PluginStartError, OSError) as error:
            self._state = State.FAILED
            self._error = str(error)
            _log.error("plugin %s can't be started: %s", self.name, error)
            self._tell_waits()
            return 0.0
        self._error = ""
        _log.debug("plugin %s runs as process %s", self.name, process.pid)
        self.life = life = Life(process)
        life.configure(self.wanted)
        reminder = loop.call_later(self.spec.start_timeout, self._remind, life)
        try:
            events: set[asyncio.Future[Any]] = {process.ended, self._stop}
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
            if self._stop.done():
                self._state = State.STOPPED
                await process.stop()
        finally:
            reminder.cancel()
            life.end()
            self.life = None
        self._last_exit = process.returncode
        if not self._stop.done():
            self._state = State.BACKING_OFF
            _log.warning("plugin %s has exited (%s)", self.name, _describe(process.returncode))
        return loop.time() - began

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

    # What it says.

    def _line(self, line: bytes | OversizeLine) -> None:
        life = self.life
        if life is None:
            return
        if isinstance(line, OversizeLine):
            self.complaints.warn("a line above %d bytes is dropped: %s …", line.limit, _shown(line.head))
            return
        try:
            message = decode_line(line)
        except DecodeError as error:
            self.complaints.warn("%s: %s", error, _shown(line))
            return
        if isinstance(message, Response):
            self._acknowledged(life, message)
        elif message.method == METHOD_READY:
            self._ready(life, message.params)
        elif message.method in {METHOD_SET_TARGETS, METHOD_SET_SPEED}:
            self._first_push(life)
            self._host.listener.pushed(self, life, message)
        elif message.method == METHOD_LOG:
            log_from_plugin(self.name, message.params)
        else:
            self.complaints.warn("unknown method %r", message.method)

    def _acknowledged(self, life: Life, answer: Response) -> None:
        route = life.acknowledged(answer.error)
        if route is None:
            self.complaints.warn("an answer, but no configure is open: %s", answer.error or answer.result)
            return
        if answer.error:
            _log.error(
                "plugin %s does not accept route %s, it is refused: %s",
                self.name,
                route[0] or "(none)",
                printable(answer.error),
            )
        if life.outstanding:
            return
        if not self.hooks:
            self._state = State.READY
        if not self._settled():
            asyncio.get_running_loop().call_later(self._host.delays.ready_grace, self._grace_over, life)
        self._tell_waits()

    def _grace_over(self, life: Life) -> None:
        life.grace_over = True
        self._tell_waits()

    def _ready(self, life: Life, params: PushParams) -> None:
        named = frozenset(params.hooks or ())
        unknown = named - HOOK_TYPES.keys()
        hooks = named - unknown
        if life.hooks == hooks and life.socket == params.socket:
            return
        if unknown:
            self.complaints.warn("ready names unknown hooks: %s", ", ".join(sorted(unknown)))
        if hooks and not params.socket:
            self.complaints.warn("ready names hooks and no socket: they can't be called")
        must = self.spec.hooks
        if must is not None and hooks != frozenset(must):
            self.complaints.warn(
                "its setting hooks is [%s], its ready says [%s]: the setting decides",
                ", ".join(sorted(must)),
                ", ".join(sorted(hooks)),
            )
        self._new_caller(life, params.socket)
        life.hooks = hooks
        life.features = frozenset(params.features or ())
        self._state = State.READY
        self._serves(hooks)
        self._tell_waits()

    def _new_caller(self, life: Life, socket: str) -> None:
        if socket == life.socket and life.caller is not None:
            return
        before, life.caller, life.socket = life.caller, None, socket
        if socket:
            life.caller = Caller(
                socket,
                max_concurrency=self.spec.max_concurrency,
                max_frame=self.spec.max_frame,
                uid=life.process.uid,
                notifications=self.notifications,
            )
            life.caller.warm()
        if before is not None:
            spawn(_close_after_calls(before, self._host.delays.retire), f"old socket of plugin {self.name}")

    def _first_push(self, life: Life) -> None:
        if life.pushed:
            return
        life.pushed = True
        if life.hooks is None:
            self._state = State.READY
            if not self._known_hooks:
                self._serves(frozenset())
            self._tell_waits()

    def _serves(self, hooks: frozenset[str]) -> None:
        self._known_hooks = True
        if self.spec.hooks is None and hooks != self.hooks:
            self.hooks = hooks
            self._host.listener.hooks_changed(self)

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


async def _close_after_calls(caller: Caller, seconds: float) -> None:
    await caller.drain(seconds)
    caller.close()


def _describe(status: int | None) -> str:
    if status is None:
        return "no status"
    return f"signal {-status}" if status < 0 else f"status {status}"


def _shown(line: bytes) -> str:
    return printable(line[:120].decode("utf-8", "replace"))
