"""What a strategy is: it holds one list of targets and chooses from it.

Counting is not its business: `Balancer` counts. A target that is left out for a while (because it fails) is not in
the list given to `replace` (see `candidates`); strategies need to know no more about it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args

if TYPE_CHECKING:
    from prox.balancing.target import Target

Kind: TypeAlias = Literal["roundrobin", "random", "leastconn"]
"""The strategies, by the names of the configuration."""

KINDS: tuple[Kind, ...] = get_args(Kind)

Random: TypeAlias = Callable[[], float]
"""A number from 0 to below 1: `random.Random().random`."""


class Strategy(Protocol):
    """One list of targets and the way to choose from it."""

    @property
    def targets(self) -> Sequence[Target]:
        """The list."""
        ...

    def replace(self, targets: Sequence[Target]) -> None:
        """Take another list, each target once, and go on in it where the old one stood."""
        ...

    def choose(self) -> Target | None:
        """A target of the list, None when it is empty."""
        ...
