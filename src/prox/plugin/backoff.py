"""The waits between restarts: doubling to a limit, with jitter, reset only by a life that was long enough."""

from __future__ import annotations

from collections.abc import Callable

from .model import Delays


class Backoff:
    """Tells how long to wait before the next start.

    Args:
        delays: the waits.
        random: gives a number from 0 to 1, for the jitter.
    """

    def __init__(self, delays: Delays, random: Callable[[], float]) -> None:
        self._delays = delays
        self._random = random
        self._failures = 0

    def after(self, lived: float) -> float:
        """Seconds to wait after a life of `lived` seconds; a start that failed lived 0."""
        delays = self._delays
        if lived >= delays.steady_after:
            self._failures = 0
        wait = min(delays.restart_first * 2.0 ** min(self._failures, 32), delays.restart_most)
        self._failures += 1
        return wait * (1 + delays.restart_jitter * (2 * self._random() - 1))
