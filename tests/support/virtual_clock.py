"""A clock that stands still until it is told to go on, with the timers of an asyncio loop."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class VirtualTimer:
    def __init__(self, call: Callable[[], object]) -> None:
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self.call = None


class VirtualClock:
    """Time in seconds; timers fire `late` seconds after they are due."""

    def __init__(self, late: Callable[[], float] = lambda: 0.0) -> None:
        self.now = 1000.0
        self._late = late
        self._order = count()
        self._timers: list[tuple[float, int, VirtualTimer]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object], /) -> VirtualTimer:
        assert delay > 0
        timer = VirtualTimer(callback)
        heapq.heappush(self._timers, (self.now + delay + self._late(), next(self._order), timer))
        return timer

    @property
    def pending(self) -> int:
        """Timers that are to fire."""
        return sum(timer.call is not None for _, _, timer in self._timers)

    def go_on(self, seconds: float) -> None:
        """Let the time pass, and every timer fire that is due."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            at, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, at)
            call, timer.call = timer.call, None
            if call is not None:
                call()
        self.now = end
