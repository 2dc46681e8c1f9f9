"""Coroutines that are run by the calls they wait for.

The data plane's control is written as coroutines, but a task of asyncio's costs a turn of the loop for each wait, and its
answer would be written a turn after it was read. A Flow runs its coroutine at once and goes on with it inside the call that
completes what it waits for; it awaits asyncio's futures too.

A Flow is no task: `asyncio.current_task()` is None in it, so it can't use `asyncio.timeout` or `asyncio.wait_for`.
Deadlines in the data plane belong to connections anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, Final

_ENDED: Final[Any] = object()
_NOTHING: Final[Any] = None
_NO_STEPS: Final[Any] = None


class Completion:
    """One moment that a Flow may wait for, and that any call brings about with `set`."""

    __slots__ = ("_flow", "done")

    def __init__(self) -> None:
        self.done = False
        self._flow: Flow | None = None

    def reset(self) -> None:
        """It is to come again."""
        self.done = False

    def set(self) -> None:
        """It has come: the Flow that waits goes on inside this call. Again changes nothing."""
        if self.done:
            return
        self.done = True
        flow = self._flow
        if flow is not None:
            self._flow = None
            flow._step(None)

    def __await__(self) -> Generator[Completion, None, None]:
        if not self.done:
            yield self


class Flow:
    """Runs coroutines, one at a time.

    Args:
        on_end: called at the end of each, with the exception that ended it or None; CancelledError tells that `cancel`
            took effect.

    Attributes:
        running: a coroutine was begun and has not ended.
    """

    __slots__ = ("_cancelled", "_coro", "_on_end", "_steps", "_waiting", "running")

    def __init__(self, on_end: Callable[[BaseException | None], None]) -> None:
        self._on_end = on_end
        self._coro: Coroutine[Any, Any, None] = _NOTHING
        self._steps: Iterator[Any] = _NO_STEPS
        self._waiting: Completion | asyncio.Future[Any] | None = None
        self._cancelled = False
        self.running = False

    def run(self, coro: Coroutine[Any, Any, None]) -> None:
        """Run `coro` until its first wait; the calls that it waits for go on with it."""
        self._coro = coro
        self._steps = coro.__await__()
        self._cancelled = False
        self.running = True
        self._step(None)

    def cancel(self) -> None:
        """Raise CancelledError where the coroutine waits, or at its next wait when it is just running."""
        if not self.running or self._cancelled:
            return
        self._cancelled = True
        waiting = self._waiting
        if isinstance(waiting, Completion):
            waiting._flow = None
            self._step(asyncio.CancelledError())
        elif waiting is not None:
            waiting.cancel()

    def _wake(self, _future: asyncio.Future[Any]) -> None:
        self._step(asyncio.CancelledError() if self._cancelled else None)

    def _step(self, error: BaseException | None) -> None:
        self._waiting = None
        try:
            # The end is told by a value: an exception would cost as much as ten calls.
            awaited = next(self._steps, _ENDED) if error is None else self._coro.throw(error)
        except StopIteration:
            awaited = _ENDED
        except BaseException as failure:
            self._finish(failure)
            return
        if awaited is _ENDED:
            self._finish(None)
        elif type(awaited) is Completion:
            self._waiting = awaited
            awaited._flow = self
            if self._cancelled and error is None:
                # Cancelled while it ran, by its own doing: what it waits for now may never come.
                awaited._flow = None
                self._step(asyncio.CancelledError())
        elif awaited is None:
            asyncio.get_running_loop().call_soon(self._step, None)
        else:
            awaited._asyncio_future_blocking = False
            self._waiting = awaited
            awaited.add_done_callback(self._wake)
            if self._cancelled and error is None:
                awaited.cancel()

    def _finish(self, error: BaseException | None) -> None:
        self.running = False
        # Compiled, a coroutine that has ended still holds all that it knew: what leads to this Flow would be a circle.
        self._coro = _NOTHING
        self._steps = _NO_STEPS
        self._on_end(error)
