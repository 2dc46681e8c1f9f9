"""A plugin's pipes without a moment of blocking, and without more than a fair part of the loop for each.

What a plugin writes is read in small turns. One that writes faster than prox can take it is made to wait:
after a turn's worth of work its pipe is left alone for four times as long, so a flood slows down the plugin
that makes it and takes a fifth of the loop at most. Nothing that has been read is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Final

from prox.wire import LineReader, OversizeLine

_log = logging.getLogger("prox.plugin")

_CHUNK: Final = 32 * 1024
_TURN: Final = 0.001
"""Seconds of work that one pipe may cause before it rests."""
_REST: Final = 4
"""How many times as long it rests."""
_WINDOW: Final = 0.02
"""Seconds after which earlier work no longer counts."""


class PipeReader:
    """Reads lines from a non-blocking pipe.

    Args:
        fd: the read end; closed with the reader.
        lines: cuts the stream.
        on_line: called with each line; what it raises is logged and does not end the reading.
        on_end: called once, when everything has been read and handled.
    """

    def __init__(
        self,
        fd: int,
        lines: LineReader,
        on_line: Callable[[bytes | OversizeLine], None],
        on_end: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd: int | None = fd
        self._lines = lines
        self._on_line = on_line
        self._on_end = on_end
        self._waiting: deque[bytes | OversizeLine] = deque()
        self._ended = False
        self._window = self._spent = 0.0
        self._rest: asyncio.TimerHandle | None = None
        self._resting = self._closed = False
        self._loop.add_reader(fd, self._readable)

    def close(self) -> None:
        """Stop reading; lines that were read and not handled are lost, so this is for the end only."""
        self._closed = True
        if self._rest is not None:
            self._rest.cancel()
        self._waiting.clear()
        self._close_fd()

    def _close_fd(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            self._loop.remove_reader(fd)
            os.close(fd)

    def _readable(self) -> None:
        assert self._fd is not None
        began = perf_counter()
        try:
            data = os.read(self._fd, _CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._waiting.extend(self._lines.feed(data))
        else:
            self._ended = True
            if self._lines.pending:  # a last line without its end
                self._waiting.extend(self._lines.feed(b"\n"))
            self._close_fd()
        self._work(began)

    def _work(self, began: float) -> None:
        now = began
        waiting = self._waiting
        if began - self._window > _WINDOW:
            self._window, self._spent = began, 0.0
        while waiting:
            self._handle(waiting.popleft())
            now = perf_counter()
            if now - began + self._spent >= _TURN:
                break
        else:
            now = perf_counter()
        if self._closed:
            return
        self._spent += now - began
        if waiting or self._spent >= _TURN:
            if self._fd is not None:
                self._loop.remove_reader(self._fd)
            self._resting = True
            self._rest = self._loop.call_later(self._spent * _REST, self._resume)
            return
        if self._fd is not None and self._resting:
            self._loop.add_reader(self._fd, self._readable)
        self._resting = False
        if self._ended:
            self._on_end()

    def _resume(self) -> None:
        self._spent = 0.0
        self._work(perf_counter())

    def _handle(self, line: bytes | OversizeLine) -> None:
        try:
            self._on_line(line)
        except Exception:
            _log.exception("a line of a plugin could not be handled")


class PipeWriter:
    """Writes lines to a non-blocking pipe, and keeps what does not fit yet.

    Args:
        fd: the write end; closed with the writer.
        on_broken: called once when the other end is closed.
    """

    def __init__(self, fd: int, on_broken: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd: int | None = fd
        self._on_broken = on_broken
        self._begun = b""
        self._queue: deque[bytes] = deque()
        self._armed = False

    def write(self, line: bytes) -> None:
        """Write a line after those that wait; nothing happens when the pipe is closed."""
        if self._fd is None:
            return
        self._queue.append(line)
        if not self._armed:
            self._flush()

    def take_back(self) -> int:
        """Forget the lines of which nothing has been written; their number, counted from the last."""
        count = len(self._queue)
        self._queue.clear()
        return count

    def close(self) -> None:
        """Close the pipe at once: the reader meets its end behind what has been written."""
        fd, self._fd = self._fd, None
        if fd is not None:
            if self._armed:
                self._loop.remove_writer(fd)
            self._queue.clear()
            os.close(fd)

    def _flush(self) -> None:
        assert self._fd is not None
        while self._begun or self._queue:
            data = self._begun or self._queue.popleft()
            try:
                written = os.write(self._fd, data)
            except (BlockingIOError, InterruptedError):
                self._begun = data
                self._arm()
                return
            except OSError:
                self.close()
                self._on_broken()
                return
            self._begun = data[written:]
        if self._armed:
            self._armed = False
            self._loop.remove_writer(self._fd)

    def _arm(self) -> None:
        assert self._fd is not None
        if not self._armed:
            self._armed = True
            self._loop.add_writer(self._fd, self._flush)
