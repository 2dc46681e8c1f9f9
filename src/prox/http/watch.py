"""One timer for a connection, moved lazily: what is due is looked up when it fires, not set at every read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

NEVER: Final = float("inf")

_LONGEST_SLEEP = 10.0
"""Seconds until the timer looks again although nothing is due: deadlines no shorter than this need no `expect`."""


class Watch:
    """Calls `check(now)`, which acts on what is due and returns when it wants to be called next (or NEVER).

    Times are those of the loop's clock, in seconds.

    Attributes:
        next: when it fires next; only what is due sooner needs `expect`.
    """

    __slots__ = ("_check", "_loop", "_timer", "next")

    def __init__(self, loop: asyncio.AbstractEventLoop, check: Callable[[float], float]) -> None:
        self._loop = loop
        self._check = check
        self.next = loop.time() + _LONGEST_SLEEP
        self._timer: asyncio.TimerHandle | None = loop.call_at(self.next, self._fire)

    def expect(self, at: float) -> None:
        """Make sure that `check` is called no later than `at`."""
        if at < self.next and self._timer is not None:
            self._timer.cancel()
            self.next = at
            self._timer = self._loop.call_at(at, self._fire)

    def stop(self) -> None:
        """No more calls."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        now = self._loop.time()
        self.next = now + _LONGEST_SLEEP
        due = self._check(now)
        if self._timer is None:  # stopped by the check
            return
        # Never sooner than a millisecond, the loop's resolution: a due time just passed must not spin.
        self.next = min(max(due, now + 0.001), self.next)
        self._timer = self._loop.call_at(self.next, self._fire)
