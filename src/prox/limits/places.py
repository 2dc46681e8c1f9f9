"""So many at a time for each target, the next in the order in which they came.

Only who has a place or waits for one is remembered, so addresses may come and go.
"""

from __future__ import annotations

from typing import Generic, TypeVar

W = TypeVar("W")


class _Target(Generic[W]):
    __slots__ = ("taken", "waiting")

    def __init__(self) -> None:
        self.taken = 0
        self.waiting: dict[W, None] = {}


class Places(Generic[W]):
    """The places of one action at its targets. `W` is whatever stands for who waits.

    A place that is released goes to the first who waits: nobody who comes later gets it before.
    """

    __slots__ = ("_by_address", "_most", "_most_waiting")

    def __init__(self) -> None:
        self._by_address: dict[str, _Target[W]] = {}
        self._most = 0
        self._most_waiting = 0

    def configure(self, most: int, most_waiting: int) -> list[W]:
        """Put other limits in force.

        Args:
            most: places at each target; 0 is no limit.
            most_waiting: how many may wait for one at each target; those who wait already stay.

        Returns:
            Those who have waited and have a place now.
        """
        self._most = most
        self._most_waiting = most_waiting
        called = []
        for target in self._by_address.values():
            while target.waiting and (not most or target.taken < most):
                called.append(self._call(target))
                target.taken += 1
        return called

    def is_full(self, address: str) -> bool:
        """Whether who comes now has to wait."""
        target = self._by_address.get(address)
        return target is not None and 0 < self._most <= target.taken

    def take(self, address: str) -> bool:
        """Take a place, if there is one and nobody waits for it."""
        if self.is_full(address):
            return False
        target = self._by_address.get(address)
        if target is None:
            target = self._by_address[address] = _Target()
        target.taken += 1
        return True

    def wait(self, address: str, who: W) -> bool:
        """Wait for a place, after `take` gave none; False where too many do already."""
        target = self._by_address[address]
        if len(target.waiting) >= self._most_waiting:
            return False
        target.waiting[who] = None
        return True

    def give_up(self, address: str, who: W) -> None:
        """Wait no longer; nothing for who does not wait."""
        target = self._by_address.get(address)
        if target is not None:
            target.waiting.pop(who, None)

    def release(self, address: str) -> W | None:
        """Give a place back. It belongs to who is returned, who has waited longest, and must release it in turn."""
        target = self._by_address[address]
        if target.waiting and not 0 < self._most < target.taken:
            return self._call(target)
        target.taken -= 1
        if not target.taken and not target.waiting:
            del self._by_address[address]
        return None

    def figures(self) -> dict[str, tuple[int, int]]:
        """By address: places taken, and how many wait."""
        return {address: (target.taken, len(target.waiting)) for address, target in self._by_address.items()}

    @staticmethod
    def _call(target: _Target[W]) -> W:
        who = next(iter(target.waiting))
        del target.waiting[who]
        return who
