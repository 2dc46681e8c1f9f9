"""One list of targets, and those of it that a strategy may choose from: all but those that are left out for a while.

The only target of a list is never left out. A strategy knows nothing of all this: it is given the list without them. Where
connections are limited, a target that has all it may have is passed over while another has room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prox.balancing.health import HealthBook
    from prox.balancing.strategy import Strategy
    from prox.balancing.target import Target


class Candidates:
    """A list of targets, and a strategy.

    Attributes:
        targets: the whole list.
    """

    __slots__ = ("_book", "_left_out", "_strategy", "_version", "targets")

    def __init__(self, strategy: Strategy, book: HealthBook) -> None:
        self.targets: Sequence[Target] = ()
        self._strategy = strategy
        self._book = book
        self._left_out: Sequence[Target] = ()
        self._version = book.version

    def replace(self, targets: Sequence[Target]) -> None:
        """Take another list. One that is no longer used must get an empty one."""
        self.targets = targets
        self._sort_out()

    def choose(self, now: float) -> Target | None:
        """A target; None where there is none, or all are left out."""
        if self._version != self._book.version:
            self._sort_out()
        if self._left_out:
            for target in self._left_out:
                if self._book.may_try(target.address, now):
                    return target
        chosen = self._strategy.choose()
        is_full = self._book.is_full
        if is_full is not None and chosen is not None and is_full(chosen.address):
            return self._with_room(chosen, is_full)
        return chosen

    def _with_room(self, full: Target, is_full: Callable[[str], bool]) -> Target:
        """The next that is not full, counted around; the full one where all are, and there a request waits."""
        targets = self._strategy.targets
        place = targets.index(full)
        for target in (*targets[place + 1 :], *targets[:place]):
            if not is_full(target.address):
                return target
        return full

    def left_out(self) -> Sequence[Target]:
        """Those that are left out."""
        if self._version != self._book.version:
            self._sort_out()
        return self._left_out

    def _sort_out(self) -> None:
        failing = self._book.failing
        self._version = self._book.version
        if not failing or len(self.targets) < 2:
            left_out: Sequence[Target] = ()
            well = self.targets
        else:
            left_out = tuple(target for target in self.targets if target.address in failing)
            well = tuple(target for target in self.targets if target.address not in failing)
        self._left_out = left_out
        if well != self._strategy.targets:
            self._strategy.replace(well)
