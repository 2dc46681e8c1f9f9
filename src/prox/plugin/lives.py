"""The processes of one plugin: each is started here, and ended after its last call where it has left its place."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any

from prox.tasks import spawn
from prox.wire import OversizeLine

from .executable import Version, version_of
from .hearing import Hearing
from .host import Host
from .life import Life
from .model import PluginSpec
from .process import STDERR_KEPT, Process

_log = logging.getLogger("prox.plugin")


class Lives:
    """Starts and ends the processes of one plugin.

    Args:
        spec: what is started.
        host: what all plugins share.
        hearing: takes what they say.

    Attributes:
        version: the program as it was when the last one was started, or could not be.
        stderr: the last lines of all of them.
    """

    def __init__(self, spec: PluginSpec, host: Host, hearing: Hearing) -> None:
        self._spec = spec
        self._host = host
        self._hearing = hearing
        self._ending: set[asyncio.Task[None]] = set()
        self.version: Version | None = None
        self.stderr: deque[str] = deque(maxlen=STDERR_KEPT)

    async def begin(self) -> Life:
        """Start a process. It is not in charge and knows no routes yet.

        Raises:
            PluginStartError: it can't be started.
        """
        host, loop = self._host, asyncio.get_running_loop()

        def line(line: bytes | OversizeLine) -> None:
            self._hearing.line(life, line)

        process = Process(
            self._spec, host.runtime, host.delays, line, guardian=host.guardian(), stderr=self.stderr
        )
        life = Life(process)
        # Looked at first: should it change meanwhile, what runs counts as older than it is, never as newer.
        life.version = self.version = await loop.run_in_executor(None, version_of, self._spec)
        await process.start()
        life.began = loop.time()
        _log.debug("plugin %s runs as process %s", self._spec.name, process.pid)
        return life

    async def end(self, life: Life, calls: float = 0.0, hurry: asyncio.Future[None] | None = None) -> None:
        """Stop a process.

        Args:
            life: the process.
            calls: seconds that its calls in flight may take.
            hurry: done when they may not any more.
        """
        if calls and life.caller is not None:
            drained = spawn(life.caller.drain(calls), f"last calls of plugin {self._spec.name}")
            events: set[asyncio.Future[Any]] = {drained, life.process.ended}
            if hurry is not None:
                events.add(hurry)
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
            drained.cancel()
        await life.process.stop()
        life.end()

    def end_soon(self, life: Life, calls: float = 0.0, hurry: asyncio.Future[None] | None = None) -> None:
        """`end`, while its caller goes on."""
        task = spawn(self.end(life, calls, hurry), f"end a process of plugin {self._spec.name}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def ended(self) -> None:
        """Wait until none is being ended."""
        if self._ending:
            await asyncio.wait(self._ending)
