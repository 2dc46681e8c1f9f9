"""random: each target as likely as any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prox.balancing.strategy import Random
    from prox.balancing.target import Target


class Randomly:
    """Chooses by lot."""

    __slots__ = ("_random", "targets")

    def __init__(self, random: Random) -> None:
        self.targets: Sequence[Target] = ()
        self._random = random

    def replace(self, targets: Sequence[Target]) -> None:
        """Take another list."""
        self.targets = targets

    def choose(self) -> Target | None:
        """Any target of the list."""
        targets = self.targets
        return targets[int(self._random() * len(targets))] if targets else None
