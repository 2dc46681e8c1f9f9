"""Which targets are left out because they could not be reached, and until when.

Nothing is probed: what requests meet is what is known. A target to which a connection fails is left out for `shortest`
seconds; then one request tries it, and where that fails too the time doubles, up to `longest`. A connection that is made
forgets it all. Only connecting counts: what happens on a connection a client can bring about, and could so take a target
out of service for everybody.

A book is kept for each action, by address, so it holds for all routes that use the action, and for targets that a plugin
pushes away and back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_MANY: Final = 1024
"""Addresses that have failed before old ones are looked for that nobody asked about any more."""


class Failing:
    """An address that could not be reached.

    Attributes:
        delay: seconds for which it is left out.
        until: when it may be tried again.
        trying: a request is on its way to find out.
    """

    __slots__ = ("delay", "trying", "until")

    def __init__(self, delay: float, until: float) -> None:
        self.delay = delay
        self.until = until
        self.trying = False


class HealthBook:
    """What is known of the targets of one action. Times are those of one monotonic clock, in seconds.

    Attributes:
        failing: by address.
        version: another number whenever an address came to `failing` or left it.
        is_full: whether an address has all the connections that it may have; None where that is not limited.
    """

    __slots__ = ("_longest", "_shortest", "failing", "is_full", "version")

    def __init__(self, shortest: float = 1.0, longest: float = 30.0) -> None:
        self._shortest = shortest
        self._longest = longest
        self.failing: dict[str, Failing] = {}
        self.version = 0
        self.is_full: Callable[[str], bool] | None = None

    def configure(
        self, shortest: float, longest: float, is_full: Callable[[str], bool] | None = None
    ) -> None:
        """Put other times in force, from the next failure on."""
        self._shortest = shortest
        self._longest = longest
        self.is_full = is_full

    def may_try(self, address: str, now: float) -> bool:
        """Whether a failing address gets this request; True once for each time that it may be tried."""
        failing = self.failing[address]
        if failing.trying or now < failing.until:
            return False
        failing.trying = True
        return True

    def failed(self, address: str, now: float) -> None:
        """No connection to it could be made. Requests that had chosen it before it was left out change nothing."""
        failing = self.failing.get(address)
        if failing is None:
            if len(self.failing) >= _MANY:
                self._forget_old(now)
            self.failing[address] = Failing(self._shortest, now + self._shortest)
            self.version += 1
        elif failing.trying or now >= failing.until:
            failing.delay = min(max(failing.delay * 2, self._shortest), self._longest)
            failing.until = now + failing.delay
            failing.trying = False

    def reached(self, address: str) -> None:
        """A connection to it was made."""
        if self.failing.pop(address, None) is not None:
            self.version += 1

    def ended(self, address: str) -> None:
        """A request to it has ended: if it was to try it and did not get so far, the next one may."""
        failing = self.failing.get(address)
        if failing is not None:
            failing.trying = False

    def wait(self, address: str, now: float) -> float:
        """Seconds until a failing address may be tried, 0 while one request does."""
        failing = self.failing[address]
        return max(0.0, failing.until - now)

    def _forget_old(self, now: float) -> None:
        """What was not even tried for so long is no target any more."""
        old = [
            address
            for address, failing in self.failing.items()
            if not failing.trying and failing.until + self._longest < now
        ]
        for address in old:
            del self.failing[address]
        if old:
            self.version += 1
