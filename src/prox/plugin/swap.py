"""A new process in the place of one that runs, without a gap: the old one answers until the new one can.

The new process is started beside the old one and told the same routes. It takes over in one step when it has accepted
all of them, said `ready`, and its socket takes connections. Until then nothing that it says or pushes counts; if it does
not get there in time, it is stopped and the old one stays, as if nothing had happened.

One swap at a time: who orders another meanwhile gets one more, by a process that is started after the order.
Should the old process end first, there is nothing left to protect: the new one is its restart, ready or not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final, Protocol

from prox.tasks import spawn

from .errors import PluginStartError, PluginSwapError
from .life import Assignment, Life
from .liveness import refusal
from .model import PluginSpec

_log = logging.getLogger("prox.plugin")

_TRY_AGAIN: Final = 0.02
"""Seconds between tries to connect to the socket of a new process."""


class Replaceable(Protocol):
    """The plugin whose process is replaced.

    Attributes:
        spec: its settings.
        hooks: what it is taken to serve.
        life: the process in charge; None while it has none.
        in_force: the routes of the configuration in force.
        wanted: the routes that it is told of; others than those in force while a change is being prepared.
    """

    spec: PluginSpec
    hooks: frozenset[str]
    life: Life | None
    in_force: Mapping[str, Assignment]
    wanted: Mapping[str, Assignment]

    @property
    def declared(self) -> bool:
        """Whether it has said what it serves, or its settings have."""

    @property
    def stopping(self) -> asyncio.Future[None]:
        """Done when it is told to stop."""

    async def begin(self) -> Life:
        """Start a process."""

    def take_charge(self, life: Life) -> None:
        """Put a process in charge, in place of the one that is."""

    async def end(self, life: Life) -> None:
        """Stop a process that is not in charge."""

    async def start_now(self) -> None:
        """Start, where it waits for its next start, and wait until it is ready; raises PluginSwapError."""


class Swaps:
    """The swaps of one plugin.

    Attributes:
        coming: the process that is to take over.
        count: swaps that were made.
        error: why the last one failed; empty when it did not.
    """

    def __init__(self, plugin: Replaceable) -> None:
        self._plugin = plugin
        self._next: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._begun: asyncio.Future[None] | None = None
        self.coming: Life | None = None
        self.count = 0
        self.error = ""

    @property
    def active(self) -> bool:
        """Whether one is under way or ordered."""
        return self._task is not None

    @property
    def under_way(self) -> bool:
        """Whether there is a process that is to take over, or is being started."""
        return self.coming is not None or self._begun is not None

    def order(self) -> asyncio.Future[None]:
        """Ask for a process that is started from now on.

        Returns:
            Done when it is in charge and ready; a PluginSwapError when it does not get there.
        """
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = spawn(self._work(), f"swap plugin {self._plugin.spec.name}")
        return self._next

    def tell(self) -> None:
        """The plugin's routes have changed."""
        if self.coming is not None:
            self.coming.tell()

    async def successor(self) -> Life | None:
        """What is to take over at once from a process that has ended; None where no swap is under way."""
        if self._begun is not None:
            await asyncio.wait({self._begun})
        coming, self.coming = self.coming, None
        return coming

    async def over(self) -> None:
        """Wait until none is under way."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _work(self) -> None:
        name = self._plugin.spec.name
        while self._next is not None:
            asked, self._next = self._next, None
            try:
                await self._replace()
            except Exception as error:
                if not isinstance(error, PluginSwapError):
                    _log.exception("the swap of plugin %s met an error of prox's own", name)
                    error = PluginSwapError(f"an error of prox's own: {error!r}")
                self.error = str(error)
                level = logging.INFO if self._plugin.stopping.done() else logging.ERROR
                _log.log(level, "plugin %s: the swap failed: %s", name, error)
                asked.set_exception(error)
                asked.exception()  # nobody need have waited for it
            else:
                self.error = ""
                asked.set_result(None)
        self._task = None

    async def _replace(self) -> None:
        plugin = self._plugin
        self._check_stopping()
        if plugin.life is None:
            await plugin.start_now()
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + plugin.spec.start_timeout
        old, new = plugin.life, await self._begin()
        try:
            await self._become_ready(new, old, deadline)
        except BaseException:
            if plugin.life is not new:
                self.coming = None
                await plugin.end(new)
            raise
        self.coming = None
        if plugin.life is new:  # the old one has ended meanwhile
            return
        plugin.take_charge(new)
        self.count += 1
        _log.info(
            "plugin %s is swapped: process %s in place of %s, which ends its calls",
            *(plugin.spec.name, new.process.pid, old.process.pid),
        )

    async def _begin(self) -> Life:
        self._begun = asyncio.get_running_loop().create_future()
        try:
            self.coming = await self._plugin.begin()
        except (PluginStartError, OSError) as error:
            raise PluginSwapError(f"{error}; {self._who_stays()}") from error
        finally:
            self._begun.set_result(None)
            self._begun = None
        return self.coming

    async def _become_ready(self, new: Life, old: Life, deadline: float) -> None:
        """Tell a new process the routes, and wait until it can take over."""
        plugin, loop = self._plugin, asyncio.get_running_loop()
        if new.told is None:
            new.configure(plugin.in_force)
        while True:
            self._check_stopping()
            if new.process.done:
                raise PluginSwapError(
                    f"the new process has exited ({describe(new.process.returncode)}); {self._who_stays()}"
                )
            problem = "" if plugin.life is new else self._problem(new, old)
            if problem:
                raise PluginSwapError(f"{problem}; {self._who_stays()}")
            if not new.outstanding and new.told is not plugin.wanted:
                new.configure(plugin.wanted)  # it knows what is in force as well, as the old one does
                continue
            missing = self._missing(new)
            left = deadline - loop.time()
            if not missing:
                return
            if left <= 0:
                raise PluginSwapError(
                    f"the new process has not {missing} within {plugin.spec.start_timeout:g} s; {self._who_stays()}"
                )
            events: set[asyncio.Future[Any]] = {new.news(), new.process.ended, plugin.stopping}
            pause = min(left, _TRY_AGAIN) if missing == _CONNECT else left
            await asyncio.wait(events, timeout=pause, return_when=asyncio.FIRST_COMPLETED)

    def _missing(self, new: Life) -> str:
        """What a new process has still to do; empty when it can take over."""
        plugin = self._plugin
        if new.outstanding:
            return "acknowledged its configuration"
        if new.hooks is None:
            serves_none = new.pushed or (plugin.declared and (new.grace_over or plugin.spec.hooks == ()))
            return "" if serves_none and not (plugin.declared and plugin.hooks) else "said ready"
        return _CONNECT if new.hooks and refusal(new.socket) else ""

    def _problem(self, new: Life, old: Life) -> str:
        """Why a new process must not take over, whatever it does."""
        for key, error in new.refused.items():
            if key not in old.refused:
                return f"the new process does not accept a route that the old one serves: {error}"
        if new.hooks is None:
            return ""
        missing = frozenset(self._plugin.spec.hooks or ()) - new.hooks
        if missing:
            return (
                f"the new process does not serve {', '.join(sorted(missing))}, as its setting hooks demands"
            )
        if new.hooks and not new.socket:
            return "the new process names hooks and no socket"
        return ""

    def _who_stays(self) -> str:
        life = self._plugin.life
        if life is None or life.process.done:
            return "no other process runs"
        return f"process {life.process.pid} stays"

    def _check_stopping(self) -> None:
        if self._plugin.stopping.done():
            raise PluginSwapError("the plugin is being stopped")


_CONNECT: Final = "taken a connection to the socket that its ready names"


def describe(status: int | None) -> str:
    """An exit status in words."""
    if status is None:
        return "no status"
    return f"signal {-status}" if status < 0 else f"status {status}"
