"""`max_connections` of a proxy action: requests wait for a place at their target, in order and within limits.

It stands before the action, so those without the limit pay nothing. A place is held from before the connection is taken
until the exchange is over; since unused connections are taken first, a target never has more connections than places.
"""

from __future__ import annotations

import asyncio
from typing import Final

from prox.http.errors import UpstreamError
from prox.limits import Places
from prox.proxy.actions.proxy import ProxyAction
from prox.proxy.route import Action, Routed

_RETRY_AFTER: Final = 1.0


class Queue:
    """The places of an action, and who waits for one. It outlives reloads, so that nobody is counted twice."""

    def __init__(self) -> None:
        self.places: Places[asyncio.Future[bool]] = Places()
        self._timeout: float | None = None

    def configure(self, most: int, most_waiting: int, timeout: float | None) -> None:
        """Put other limits in force; see the keys `max_connections`, `max_queue` and `queue_timeout`."""
        self._timeout = timeout
        for waiter in self.places.configure(most, most_waiting):
            waiter.set_result(True)

    async def enter(self, address: str) -> UpstreamError | None:
        """Wait for a place, which must be given back by `leave`; or why there is none."""
        places = self.places
        if places.take(address):
            return None
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        if not places.wait(address, waiter):
            return UpstreamError(
                "queue_full", f"too many requests wait for {address}", retry_after=_RETRY_AFTER
            )
        timeout = self._timeout
        timer = None if timeout is None else loop.call_later(timeout, self._too_late, address, waiter)
        try:
            has_place = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.result():
                self.leave(address)  # the place and the end came at the same moment
            else:
                places.give_up(address, waiter)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if has_place:
            return None
        return UpstreamError(
            "queue_timeout", f"no place at {address} within queue_timeout", retry_after=_RETRY_AFTER
        )

    def leave(self, address: str) -> None:
        """Give a place back: the first who waits has it."""
        while (waiter := self.places.release(address)) is not None:
            if not waiter.done():  # cancelled, and has not heard of it
                waiter.set_result(True)
                return

    def _too_late(self, address: str, waiter: asyncio.Future[bool]) -> None:
        if not waiter.done():
            self.places.give_up(address, waiter)
            waiter.set_result(False)


class QueuedAction:
    """A proxy action with `max_connections`."""

    def __init__(self, action: ProxyAction, queue: Queue) -> None:
        self.fallback: Action | None = action.fallback
        self._action = action
        self._queue = queue

    async def serve(self, routed: Routed) -> UpstreamError | None:
        """See Action."""
        address = self._action.address(routed)
        if isinstance(address, UpstreamError):
            return address
        refused = await self._queue.enter(address)
        if refused is not None:
            return refused
        try:
            return await self._action.serve(routed)
        finally:
            self._queue.leave(address)
