"""roundrobin: strictly in turn, from the first or from where this worker starts.

A new list goes on where the old one stood: with the target that would have been next, if that is still there.
A plugin that pushes the same targets every second would otherwise send most connections to the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prox.balancing.target import Target


class RoundRobin:
    """Chooses in turn.

    Args:
        start: the place of the first choice, counted around; several workers start at different ones so that
            they do not all send their first connections to the same target.
    """

    __slots__ = ("_next", "targets")

    def __init__(self, start: int = 0) -> None:
        self.targets: Sequence[Target] = ()
        self._next = start

    def replace(self, targets: Sequence[Target]) -> None:
        """Take another list and go on in it."""
        old = self.targets
        if old and targets:
            following = old[self._next % len(old)]
            if following in targets:
                self._next = targets.index(following)
        self.targets = targets

    def choose(self) -> Target | None:
        """The next target."""
        targets = self.targets
        if not targets:
            return None
        place = self._next
        if place >= len(targets):
            place %= len(targets)
        self._next = place + 1
        return targets[place]
