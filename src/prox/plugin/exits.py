"""The exit of a child, seen by its pidfd: not by a pipe, which a grandchild may hold open."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable


class ExitWatch:
    """Tells when a process has exited. It does not reap it: until then its pid, and its group's, can't be reused.

    Args:
        pidfd: of a child that has not been reaped; closed when that has exited.
        on_exit: called once in the loop, before anybody who waits goes on.
    """

    def __init__(self, pidfd: int, on_exit: Callable[[], None] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_exit = on_exit
        self._fd = pidfd
        self._exited: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._fd, self._readable)

    @property
    def exited(self) -> bool:
        """Whether it has."""
        return self._exited.done()

    async def wait(self) -> None:
        """Until it has exited."""
        await asyncio.shield(self._exited)

    async def within(self, seconds: float) -> bool:
        """Wait for at most so long; tell whether it has exited."""
        if not self._exited.done():
            await asyncio.wait({self._exited}, timeout=seconds)
        return self._exited.done()

    def _readable(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        if self._on_exit is not None:
            self._on_exit()
        self._exited.set_result(None)
