"""Which limits of bandwidth there are, beside those of one connection: of a route, of a group. Pure; the clock is given."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Final

from .buckets import MBPS
from .pacing import Clock, Pacer

_MANY: Final = 8
"""Limits of one connection that are kept although they are not in use."""


class Rates:
    """Bytes a second in both directions; 0 is no limit.

    Attributes:
        download: towards the client.
        upload: from the client.
    """

    __slots__ = ("download", "upload")

    def __init__(self, download: float = 0.0, upload: float = 0.0) -> None:
        self.download = download
        self.upload = upload

    def __bool__(self) -> bool:
        return self.download > 0 or self.upload > 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rates) and self.download == other.download and self.upload == other.upload

    def __hash__(self) -> int:
        return hash((self.download, self.upload))

    def __repr__(self) -> str:
        return f"Rates({self.download / MBPS:g} Mbps down, {self.upload / MBPS:g} Mbps up)"


NO_RATES: Final = Rates()


def megabits(download: float, upload: float) -> Rates:
    """Rates that are given in megabits a second."""
    return Rates(download * MBPS, upload * MBPS)


def lower(one: float, other: float) -> float:
    """The lower of two rates, where 0 is none."""
    if one and other:
        return min(one, other)
    return one or other


def lowest(one: Rates, other: Rates) -> Rates:
    """The lowest of each direction that is a limit."""
    return Rates(lower(one.download, other.download), lower(one.upload, other.upload))


class Pair:
    """The limits of both directions, for all streams that share them."""

    __slots__ = ("download", "upload")

    def __init__(self, clock: Clock, rates: Rates) -> None:
        self.download = Pacer(clock, rates.download)
        self.upload = Pacer(clock, rates.upload)

    def set_rates(self, rates: Rates) -> None:
        """Limit to other rates, at once."""
        self.download.set_rate(rates.download)
        self.upload.set_rate(rates.upload)

    @property
    def is_new(self) -> bool:
        """Whether another in its place would let as much pass."""
        return self.download.is_new and self.upload.is_new


class Group:
    """The connections that share limits because a plugin says so.

    Attributes:
        key: its name.
        pair: its limits.
        members: connections now.
    """

    __slots__ = ("_made", "key", "members", "pair")

    def __init__(self, key: str, made: Rates, pushed: Rates, clock: Clock) -> None:
        self.key = key
        self.pair = Pair(clock, lowest(made, pushed))
        self.members = 0
        self._made = made

    def begin(self, made: Rates, pushed: Rates) -> None:
        """Its first connection has come, again; see `Groups.enter`."""
        self._made = made
        self.pair.set_rates(lowest(made, pushed))

    def push(self, pushed: Rates) -> None:
        """A plugin has pushed rates: they hold in place of what held, and where they are none what it was made with."""
        self.pair.set_rates(Rates(pushed.download or self._made.download, pushed.upload or self._made.upload))


class Groups:
    """All groups of a process, by key. A group begins with its first connection and ends with its last."""

    __slots__ = ("_groups", "_left")

    def __init__(self) -> None:
        self._groups: dict[str, Group] = {}
        self._left: deque[Group] = deque()

    def __len__(self) -> int:
        return sum(1 for group in self._groups.values() if group.members)

    def find(self, key: str) -> Group | None:
        """The group of this key, where it has connections."""
        group = self._groups.get(key)
        return group if group is not None and group.members else None

    def enter(self, key: str, made: Rates, pushed: Rates, clock: Clock) -> Group:
        """Add a connection; `leave` must follow.

        Args:
            key: the group's.
            made: what the route's configuration and the verdict say, if the connection is the first.
            pushed: what `set_speed` has said, if it is the first.
            clock: for the timers of a new group.
        """
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(key, made, pushed, clock)
        elif not group.members:
            group.begin(made, pushed)
        group.members += 1
        return group

    def leave(self, group: Group) -> None:
        """A connection has ended.

        What is left of a group's rate is remembered for the moment in which a group made anew would have more: coming and
        going is no way around a limit.
        """
        group.members -= 1
        left = self._left
        if not group.members:
            left.append(group)
        for _ in range(min(len(left), 2)):
            one = left.popleft()
            if one.members or self._groups.get(one.key) is not one:
                continue  # it goes on, or has been forgotten already
            if one.pair.is_new:
                del self._groups[one.key]
            else:
                left.append(one)

    def push(self, key: str, rates: Rates) -> None:
        """New rates for a group that has connections."""
        group = self.find(key)
        if group is not None:
            group.push(rates)


class OwnLimits:
    """The limits that one connection has to itself: they last as long as it does, over all its requests."""

    __slots__ = ("_pacers",)

    def __init__(self) -> None:
        self._pacers: dict[tuple[Hashable, float], Pacer] = {}

    def get(self, clock: Clock, what: Hashable, rate: float) -> Pacer:
        """The limit of this rate for `what`: a direction under a route."""
        key = (what, rate)
        pacer = self._pacers.get(key)
        if pacer is None:
            if len(self._pacers) >= _MANY:  # a plugin may say another rate each time
                for old in [old for old, kept in self._pacers.items() if kept.is_new]:
                    del self._pacers[old]
            pacer = self._pacers[key] = Pacer(clock, rate)
        return pacer
