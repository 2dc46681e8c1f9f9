"""Who still needs a plugin that a reload took out: the hook indexes that hold it, with the requests under them."""

from __future__ import annotations

import asyncio
import contextlib


class Leases:
    """Counts those that need something."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop in which those wait who want to know of the last."""
        self._loop = loop

    def take(self) -> None:
        """One more needs it."""
        self._count += 1
        self._none.clear()

    def give_back_soon(self) -> None:
        """One needs it no more; called in any thread."""
        if self._loop is None:
            self._give_back()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._give_back)

    def _give_back(self) -> None:
        self._count -= 1
        if not self._count:
            self._none.set()

    async def none(self) -> None:
        """Wait until nobody needs it."""
        await self._none.wait()
