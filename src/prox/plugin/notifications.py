"""Messages that no one answers: on_disconnect, in a bounded queue, on a connection of its own.

The queue belongs to the plugin and outlives its processes; a message that finds it full is dropped and counted.
It has a connection apart from the calls', so a plugin that is slow to take these messages delays no verdict.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from prox.tasks import spawn

from .errors import CallError

T = TypeVar("T")

_log = logging.getLogger("prox.plugin")

QUEUE_LIMIT: Final = 10_000
"""Messages that wait for one plugin."""
_TOGETHER: Final = 64
_RETRY: Final = 1.0


class NotificationQueue(Generic[T]):
    """Messages that wait for a plugin.

    Attributes:
        dropped: messages that found the queue full.
    """

    def __init__(self, limit: int = QUEUE_LIMIT) -> None:
        self._limit = limit
        self.waiting: deque[T] = deque()
        self.dropped = 0
        self.wake: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self.waiting)

    def put(self, message: T) -> None:
        """Queue a message, or drop and count it. Never waits."""
        if len(self.waiting) >= self._limit:
            self.dropped += 1
            return
        self.waiting.append(message)
        if self.wake is not None:
            self.wake()


class Notifier(asyncio.Protocol, Generic[T]):
    """Sends what is queued, over a connection that it opens when there is something to send.

    Args:
        queue: what to send; one notifier at a time serves it.
        encode: the frame of a message, or None to leave it out.
        dial: opens a connection with this object as its protocol.
    """

    def __init__(
        self,
        queue: NotificationQueue[T],
        encode: Callable[[T], bytes | None],
        dial: Callable[[Notifier[T]], Awaitable[object]],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue = queue
        self._encode = encode
        self._dial = dial
        self._transport: asyncio.Transport | None = None
        self._paused = self._busy = self._closed = False
        self._retry: asyncio.TimerHandle | None = None
        self._flushed: asyncio.Future[None] | None = None
        queue.wake = self._wake
        if queue:
            self._wake()

    def close(self) -> None:
        """Stop sending at once; what waits stays in the queue."""
        self._let_go()
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> None:
        """Stop sending; what waits stays in the queue, what was written still goes out."""
        self._let_go()
        if self._transport is not None:
            self._transport.close()

    def _let_go(self) -> None:
        self._closed = True
        if self._queue.wake == self._wake:
            self._queue.wake = None
        if self._retry is not None:
            self._retry.cancel()
        self._tell_flushed()

    async def flush(self, seconds: float) -> None:
        """Wait, for at most so long, until everything queued has been handed to the plugin's socket."""
        if self._closed or self._empty():
            return
        self._flushed = self._loop.create_future()
        await asyncio.wait({self._flushed}, timeout=seconds)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = transport  # type: ignore[assignment] # a stream's transport
        if self._closed:
            transport.close()
            return
        self._transport.set_write_buffer_limits(high=0)  # type: ignore[union-attr] # set above
        self._pump()

    def data_received(self, data: bytes) -> None:
        """Nothing is answered here; what comes all the same is not read."""

    def pause_writing(self) -> None:
        """Called by the loop: what was written has not gone out."""
        self._paused = True

    def resume_writing(self) -> None:
        """Called by the loop: it has."""
        self._paused = False
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """Called by the loop."""
        self._transport = None
        self._paused = False
        if self._queue and not self._closed:
            self._retry = self._loop.call_later(_RETRY, self._try_again)

    def _empty(self) -> bool:
        return not self._queue and (self._transport is None or self._transport.get_write_buffer_size() == 0)

    def _tell_flushed(self) -> None:
        if self._flushed is not None and not self._flushed.done():
            self._flushed.set_result(None)

    def _wake(self) -> None:
        if not self._busy and not self._closed and self._retry is None:
            self._busy = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._busy = False
        if self._closed:
            return
        if self._transport is not None:
            self._pump()
        else:
            self._busy = True
            spawn(self._open(), "connection for a plugin's notifications")

    def _try_again(self) -> None:
        self._retry = None
        self._wake()

    async def _open(self) -> None:
        try:
            await self._dial(self)
        except CallError as error:
            _log.debug("no connection for on_disconnect: %s", error)
            if not self._closed:
                self._retry = self._loop.call_later(_RETRY, self._try_again)
        finally:
            self._busy = False
            if self._queue:
                self._wake()

    def _pump(self) -> None:
        """Send some of what waits; the rest in a later turn."""
        if self._transport is None or self._paused or self._closed:
            return
        waiting = self._queue.waiting
        frames: list[bytes] = []
        while waiting and len(frames) < _TOGETHER:
            frame = self._encode(waiting.popleft())
            if frame is not None:
                frames.append(frame)
        if frames:
            self._transport.write(b"".join(frames))
        if waiting:
            self._wake()
        elif self._empty():
            self._tell_flushed()
