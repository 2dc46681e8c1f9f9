"""leastconn: the target with the fewest open connections, the first of equals.

The targets are kept apart by their number of open connections: for each number a bit mask, in which the
lowest bit is the first target of the list. The choice is the lowest bit of the lowest number, and a
connection that begins or ends moves one bit, so a thousand targets cost hardly more than ten. Each target
tells the lists it is in (`Target.watchers`) when its number changes, for it may be in the flat list and in
several groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prox.balancing.target import Target


class LeastConn:
    """Chooses the least used."""

    __slots__ = ("_bits", "_least", "_masks", "targets")

    def __init__(self) -> None:
        self.targets: Sequence[Target] = ()
        self._bits: dict[Target, int] = {}
        self._masks: dict[int, int] = {}
        """By number of open connections: the targets that have so many. No mask is zero."""
        self._least = 0
        """No target has fewer."""

    def replace(self, targets: Sequence[Target]) -> None:
        """Take another list. One that is no longer used must get an empty one, to be told nothing more."""
        for target in self.targets:
            target.watchers = tuple(watcher for watcher in target.watchers if watcher is not self)
        self.targets = targets
        self._bits = {target: 1 << place for place, target in enumerate(targets)}
        self._masks = {}
        for target, bit in self._bits.items():
            self._masks[target.open] = self._masks.get(target.open, 0) | bit
            target.watchers = (*target.watchers, self)
        self._least = min(self._masks, default=0)

    def choose(self) -> Target | None:
        """The first of the least used."""
        if not self.targets:
            return None
        mask = self._masks[self._least]
        return self.targets[(mask & -mask).bit_length() - 1]

    def moved(self, target: Target, before: int) -> None:
        """Take note that `target.open` was `before` until now."""
        bit = self._bits[target]
        masks = self._masks
        now = target.open
        masks[now] = masks.get(now, 0) | bit
        left = masks[before] ^ bit
        if left:
            masks[before] = left
        else:
            del masks[before]
        if now < self._least or (not left and before == self._least):
            self._least = now
