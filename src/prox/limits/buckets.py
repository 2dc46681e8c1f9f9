"""Token buckets: how many bytes a limit of bandwidth lets pass now. Pure: the time is an argument, in seconds.

A bucket holds what 60 ms bring: a late timer costs nothing, and over any two seconds no more than 3 % too much passes.
"""

from __future__ import annotations

from typing import Final

MBPS: Final = 125_000.0
"""Bytes a second of one megabit a second."""

_BURST: Final = 0.06
_FIRST: Final = 0.002
_LEAST_BURST: Final = 512.0
"""Below 0.07 Mbps: pieces of a few bytes would cost more than they are worth."""

NO_LIMIT: Final = float("inf")


class Bucket:
    """Fills at `rate`, and empties as bytes pass: over any span of t seconds at most `rate` x t + `burst`.

    A new one holds what 2 ms bring: the first of many streams is not to have more than the others.

    Attributes:
        rate: bytes a second; 0 is no limit.
        burst: bytes that may pass at once after a pause.
    """

    __slots__ = ("_at", "_level", "burst", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.burst = _burst(rate)
        self._level = _first(rate)
        self._at = now

    def level(self, now: float) -> float:
        """Bytes that may pass now."""
        level = self._level
        if now > self._at:
            if level < self.burst:
                level = min(level + self.rate * (now - self._at), self.burst)
                self._level = level
            self._at = now
        return level

    def take(self, size: int) -> None:
        """These bytes pass, no more than `level` said."""
        self._level -= size

    def give_back(self, size: int) -> None:
        """These bytes were taken and have not passed."""
        self._level = min(self._level + size, self.burst)

    def wait(self, size: float, now: float) -> float:
        """Seconds until so many bytes may pass; a full bucket is enough for any number."""
        missing = min(size, self.burst) - self.level(now)
        return missing / self.rate if missing > 0 else 0.0

    def is_new(self, now: float) -> bool:
        """Whether it lets no less pass than a new one would."""
        return self.level(now) >= _first(self.rate)

    def set_rate(self, rate: float, now: float) -> None:
        """Fill at another rate from now on."""
        level = self.level(now) if self.rate else _first(rate)
        self._at = max(self._at, now)
        self.rate = rate
        self.burst = _burst(rate)
        self._level = min(level, self.burst) if rate else NO_LIMIT


def _burst(rate: float) -> float:
    return max(rate * _BURST, _LEAST_BURST) if rate else NO_LIMIT


def _first(rate: float) -> float:
    return max(rate * _FIRST, _LEAST_BURST) if rate else NO_LIMIT
