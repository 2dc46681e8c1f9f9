"""Who passes how many bytes, and when: streams that share buckets, with one timer for each bucket in which one waits.

Pure: the clock is given (an asyncio loop is one). The order is that of start-time fair queueing: of those who wait the one
that has got least goes next. So shares are equal whatever the size of what each has to pass, and who has been away for a
moment catches up a little.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from .buckets import Bucket

_TICK: Final = 0.02
"""Seconds between two pieces of a stream that has a bucket to itself."""
_SHARED_TICK: Final = 0.01
_ROUND: Final = 0.05
"""Seconds in which each of several has its turn: short beside the two seconds in which shares are to be fair."""
_LONGEST: Final = 0.002
"""Seconds that a piece takes: where few become many, those that had one wait until all others have had as much."""
_LEAST_TICK: Final = 0.001
"""The resolution of the loop's timers."""

_LEAST_PIECE: Final = 256
"""Bytes: smaller pieces cost more than they are worth."""
_LEAST_SHARE: Final = 512

_ALL: Final = float(1 << 30)
"""A piece where there is no limit (any more)."""

_LAG: Final = 4
"""Pieces that a stream may catch up after it had nothing to pass."""


class Timer(Protocol):
    """A call to come."""

    def cancel(self) -> None:
        """It is not to come."""


class Clock(Protocol):
    """Tells the time and calls later; asyncio's loops do."""

    def time(self) -> float:
        """Seconds."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call in `delay` seconds."""


class Pacer:
    """A bucket, and those who wait for it to fill.

    Attributes:
        users: gates that are open on it.
    """

    __slots__ = (
        "_bucket",
        "_clock",
        "_count",
        "_queue",
        "_serving",
        "_timer",
        "_virtual",
        "_waiting",
        "users",
    )

    def __init__(self, clock: Clock, rate: float) -> None:
        self._clock = clock
        self._bucket = Bucket(rate, clock.time())
        self._queue: list[tuple[float, int, _Share]] = []
        self._waiting = 0
        self._count = 0
        self._virtual = 0.0
        self._timer: Timer | None = None
        self._serving = False
        self.users = 0

    @property
    def rate(self) -> float:
        """Bytes a second; 0 is no limit."""
        return self._bucket.rate

    @property
    def is_new(self) -> bool:
        """Whether it is not in use and another in its place would let as much pass."""
        return not self.users and self._bucket.is_new(self._clock.time())

    def set_rate(self, rate: float) -> None:
        """Limit to another rate, for those who wait too."""
        if rate != self._bucket.rate:
            self._bucket.set_rate(rate, self._clock.time())
            self._cancel()
            self._schedule()

    def open(self, gate: Gate) -> _Share:
        """A place for one stream; `close` ends it."""
        self.users += 1
        return _Share(self, gate, self._virtual)

    def close(self, share: _Share) -> None:
        """A stream is over, and what it has not used is there for others."""
        self.users -= 1
        self._bucket.give_back(share.credit)
        share.credit = 0
        share.gate = None
        if share.wanted:
            share.wanted = 0
            self._waiting -= 1
            if not self._waiting:
                self._queue.clear()
                self._cancel()

    def ask(self, share: _Share, size: int) -> int:
        """Bytes of `size` that may pass now. With none, the share waits, and its gate is told when some may."""
        if share.wanted:
            share.wanted = size
            return 0
        if not self._waiting and not self._serving:
            bucket = self._bucket
            level = bucket.level(self._clock.time())
            granted = size if level >= size else int(level)
            if granted == size or granted >= self._least(_TICK):
                # What passes while nobody waits is nobody's loss: it is not held against the stream later.
                self._virtual = share.tag = self._start(share) + granted
                bucket.take(granted)
                return granted
        share.wanted = size
        share.tag = self._start(share)
        self._count += 1
        self._waiting += 1
        heapq.heappush(self._queue, (share.tag, self._count, share))
        if self._timer is None and not self._serving:
            self._schedule()
        return 0

    def _start(self, share: _Share) -> float:
        """Where a share stands: never further back than it may catch up."""
        return max(share.tag, self._virtual - _LAG * self._piece())

    def _least(self, tick: float) -> float:
        """Bytes worth waking up for."""
        rate = self._bucket.rate
        return max(rate * tick, _LEAST_PIECE) if rate else _ALL

    def _piece(self) -> float:
        """Bytes that one of several gets at a time."""
        rate = self._bucket.rate
        return max(rate * min(_LONGEST, _ROUND / max(self._waiting, 1)), _LEAST_SHARE) if rate else _ALL

    def _serve(self) -> None:
        self._timer = None
        self._serving = True
        now = self._clock.time()
        bucket = self._bucket
        queue = self._queue
        try:
            while self._waiting:
                start, _, share = queue[0]
                if not share.wanted:  # it was closed
                    heapq.heappop(queue)
                    continue
                level = bucket.level(now)
                several = self._waiting > 1
                size = min(share.wanted, int(self._piece() if several else self._least(_TICK)))
                if level < size:
                    break
                if not several:
                    size = share.wanted if level >= share.wanted else int(level)
                heapq.heappop(queue)
                bucket.take(size)
                self._waiting -= 1
                share.wanted = 0
                share.tag = start + size
                self._virtual = max(self._virtual, start if several else share.tag)
                share.credit += size
                gate = share.gate
                if gate is not None:
                    gate.wake()
        finally:
            self._serving = False
            self._schedule()

    def _schedule(self) -> None:
        if not self._waiting or self._timer is not None:
            return
        queue = self._queue
        while not queue[0][2].wanted:
            heapq.heappop(queue)
        if self._waiting == 1:
            size = min(float(queue[0][2].wanted), self._least(_TICK))
        else:
            size = max(self._least(_SHARED_TICK), self._piece())
        delay = self._bucket.wait(size, self._clock.time())
        self._timer = self._clock.call_later(max(delay, _LEAST_TICK), self._serve)

    def _cancel(self) -> None:
        timer = self._timer
        if timer is not None:
            self._timer = None
            timer.cancel()


class _Share:
    """A stream's place at one pacer.

    Attributes:
        credit: bytes that were granted and have not passed.
        wanted: bytes that it waits for, 0 where it does not.
        tag: bytes that it has got, as the order counts them.
    """

    __slots__ = ("credit", "gate", "pacer", "tag", "wanted")

    def __init__(self, pacer: Pacer, gate: Gate, tag: float) -> None:
        self.pacer = pacer
        self.gate: Gate | None = gate
        self.credit = 0
        self.wanted = 0
        self.tag = tag


class Gate:
    """What one stream may pass in one direction, under all the limits that hold for it.

    `take` until it gives 0; `wake` is called when it is worth asking again. No call comes after `close`, which must come.

    Args:
        pacers: the limits, those of the fewest streams first.
        wake: called from a timer, once for each `take` that gave 0.
    """

    __slots__ = ("_shares", "_wake")

    def __init__(self, pacers: Sequence[Pacer], wake: Callable[[], object]) -> None:
        self._wake: Callable[[], object] | None = wake
        self._shares = [pacer.open(self) for pacer in pacers]

    def take(self, most: int) -> int:
        """Bytes of `most` that pass now, which is at least 1; 0 where none may."""
        size = most
        for share in self._shares:
            if share.credit < size:
                # A later limit is only asked for what the earlier ones let pass: nobody hoards.
                share.credit += share.pacer.ask(share, size - share.credit)
                if not share.credit:
                    return 0
                size = min(size, share.credit)
        for share in self._shares:
            share.credit -= size
        return size

    def tell(self, wake: Callable[[], object]) -> None:
        """Call this in place of `wake` from now on."""
        self._wake = wake

    def give_back(self, size: int) -> None:
        """So many bytes of what was taken did not pass."""
        for share in self._shares:
            share.credit += size

    def close(self) -> None:
        """The stream is over; again does nothing."""
        shares, self._shares = self._shares, []
        self._wake = None
        for share in shares:
            share.pacer.close(share)

    def wake(self) -> None:
        """Some may pass (the pacers call this)."""
        wake = self._wake
        if wake is not None:
            wake()


class Metered:
    """A gate for one who reads no more than it may pass on (see prox.l4.relay.Pace).

    Args:
        pacers: the limits; see Gate.
    """

    __slots__ = ("_allowed", "_gate")

    def __init__(self, pacers: Sequence[Pacer]) -> None:
        self._gate = Gate(pacers, _not_told)
        self._allowed = 0

    def tell(self, call: Callable[[], object]) -> None:
        """Call this each time that some may be read after `allowed` gave 0."""
        self._gate.tell(call)

    def allowed(self, most: int) -> int:
        """How many of `most` bytes may be read now; 0 for none."""
        self._give_back(self._allowed)
        self._allowed = self._gate.take(most)
        return self._allowed

    def passed(self, size: int) -> None:
        """So many were; the others are allowed again."""
        self._give_back(self._allowed - size)
        self._allowed = 0

    def _give_back(self, size: int) -> None:
        if size:
            self._gate.give_back(size)

    def close(self) -> None:
        """The stream is over."""
        self._gate.close()


def _not_told() -> None:
    pass
