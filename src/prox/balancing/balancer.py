"""A route's balancer: the flat list, the groups, and the counts that outlive both.

Lists come from the configuration and, replaced as a whole, from plugins; the flat list and the groups are
apart from each other. Once groups were pushed (an empty map is one), a key chooses its group: an unknown key
or an empty group gives no target, or with `fallback` a random one of all groups. The empty key, which is what
a route without captures has, always uses the flat list.

One target object stands for an address in all lists of a balancer, so leastconn sees all its connections. Targets
that could not be reached are left out for a while (see `health`), in each list that has others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict
from weakref import WeakValueDictionary

from prox.balancing.candidates import Candidates
from prox.balancing.health import HealthBook
from prox.balancing.leastconn import LeastConn
from prox.balancing.random import Randomly
from prox.balancing.roundrobin import RoundRobin
from prox.balancing.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prox.balancing.strategy import Kind, Random, Strategy


class Snapshot(TypedDict, total=False):
    """A balancer as the admin API shows it; `groups` only where some were pushed, `left_out` only where targets are."""

    type: Kind
    targets: list[str]
    groups: dict[str, list[str]]
    left_out: list[str]


def make(
    kind: Kind,
    targets: Iterable[str] = (),
    *,
    fallback: bool = False,
    random: Random,
    start: int = 0,
    book: HealthBook | None = None,
) -> Balancer:
    """A new balancer.

    Args:
        kind: the strategy.
        targets: the flat list.
        fallback: a random target of all groups for a key that has none.
        random: numbers from 0 to below 1.
        start: the place in its lists from which roundrobin begins, so that workers differ.
        book: what is known of the targets; a new one when None.

    Raises:
        prox.config.invalid.InvalidError: (a ValueError) an address is malformed.
    """
    balancer = Balancer(kind, fallback, random, start, book or HealthBook())
    balancer.set_targets(targets)
    return balancer


class Balancer:
    """Chooses targets for one route and counts the connections to them. Made by `make`."""

    __slots__ = (
        "_all_grouped",
        "_flat",
        "_groups",
        "_known",
        "_random",
        "_start",
        "book",
        "fallback",
        "kind",
    )

    def __init__(self, kind: Kind, fallback: bool, random: Random, start: int, book: HealthBook) -> None:
        self.kind: Kind = kind
        self.book = book
        self.fallback = fallback
        self._random = random
        self._start = start
        # Weak: a target goes when no list and no connection holds it any longer.
        self._known: WeakValueDictionary[str, Target] = WeakValueDictionary()
        self._flat = self._list()
        self._groups: dict[str, Candidates] | None = None
        self._all_grouped = Candidates(Randomly(random), book)

    def pick(self, key: str = "", now: float = 0.0) -> Target | None:
        """A target for one more connection, counted up; None when there is none, or all are left out.

        `release` it afterwards.

        Args:
            key: the first capture, which chooses the group.
            now: the time, by which targets that were left out are tried again.
        """
        groups = self._groups
        target = self._flat.choose(now) if groups is None or not key else self._of_group(key, groups, now)
        if target is not None:
            target.take()
        return target

    @staticmethod
    def release(target: Target) -> None:
        """Count down what `pick` gave, whatever was replaced since."""
        target.release()

    def wait(self, key: str, now: float) -> float | None:
        """Where `pick` gives nothing: seconds until a target is tried again; None when there is none at all."""
        lists = [self._flat]
        if self._groups is not None and key:
            lists = [self._groups[key]] if key in self._groups else []
            if self.fallback:
                lists.append(self._all_grouped)
        left_out = [target for candidates in lists for target in candidates.left_out()]
        return min((self.book.wait(target.address, now) for target in left_out), default=None)

    def set_targets(self, addresses: Iterable[str]) -> None:
        """Replace the flat list; an address that stands twice counts once.

        Raises:
            prox.config.invalid.InvalidError: (a ValueError) an address is malformed, and nothing is changed.
        """
        self._flat.replace(self._targets(addresses))

    def set_groups(self, groups: Mapping[str, Iterable[str]]) -> None:
        """Replace all groups, as `set_targets` does with the flat list.

        Raises:
            prox.config.invalid.InvalidError: (a ValueError) an address is malformed, and nothing is changed.
        """
        wanted = {key: self._targets(addresses) for key, addresses in groups.items()}
        lists = self._groups or {}
        for gone in lists.keys() - wanted.keys():
            lists[gone].replace(())
        self._groups = {key: lists[key] if key in lists else self._list() for key in wanted}
        for key, targets in wanted.items():
            self._groups[key].replace(targets)
        self._all_grouped.replace(
            tuple(dict.fromkeys(target for targets in wanted.values() for target in targets))
        )

    def reconfigure(self, kind: Kind, *, fallback: bool) -> None:
        """Change the strategy under the same lists and counts: for a route that a reload keeps."""
        self.fallback = fallback
        if kind == self.kind:
            return
        self.kind = kind
        self._flat = self._moved(self._flat)
        if self._groups is not None:
            self._groups = {key: self._moved(group) for key, group in self._groups.items()}

    def reset(self, kind: Kind, addresses: Iterable[str], *, fallback: bool) -> None:
        """Go back to what a configuration says, without what was pushed; counts stay.

        Raises:
            prox.config.invalid.InvalidError: (a ValueError) an address is malformed, and nothing is changed.
        """
        targets = self._targets(addresses)
        self.reconfigure(kind, fallback=fallback)
        for group in (self._groups or {}).values():
            group.replace(())
        self._groups = None
        self._all_grouped.replace(())
        self._flat.replace(targets)

    def snapshot(self) -> Snapshot:
        """The lists as they are now."""
        shown = Snapshot(type=self.kind, targets=[target.address for target in self._flat.targets])
        if self._groups is not None:
            shown["groups"] = {
                key: [target.address for target in group.targets] for key, group in self._groups.items()
            }
        left_out = {
            target.address: None
            for candidates in (self._flat, *(self._groups or {}).values())
            for target in candidates.left_out()
        }
        if left_out:
            shown["left_out"] = list(left_out)
        return shown

    def _of_group(self, key: str, groups: Mapping[str, Candidates], now: float) -> Target | None:
        group = groups.get(key)
        target = None if group is None else group.choose(now)
        if target is None and self.fallback:
            return self._all_grouped.choose(now)
        return target

    def _list(self) -> Candidates:
        return Candidates(self._strategy(), self.book)

    def _strategy(self) -> Strategy:
        match self.kind:
            case "roundrobin":
                return RoundRobin(self._start)
            case "random":
                return Randomly(self._random)
            case "leastconn":
                return LeastConn()

    def _moved(self, old: Candidates) -> Candidates:
        targets = old.targets
        old.replace(())
        new = self._list()
        new.replace(targets)
        return new

    def _targets(self, addresses: Iterable[str]) -> Sequence[Target]:
        targets = []
        for address in dict.fromkeys(addresses):
            target = self._known.get(address)
            if target is None:
                target = self._known[address] = Target(address, self.book)
            targets.append(target)
        return tuple(targets)
