"""The lines to prox, written whole and in order by a thread of their own.

prox may read slowly; handlers and the event loop must not wait for it. Anything may be put here from any
thread. Pushes are never dropped. Log lines are, above a limit, and the loss is reported.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import ContextVar

LOG_LIMIT = 4 * 1024 * 1024
"""Bytes of log lines that may wait to be written."""
_BATCH = 256 * 1024


class Held:
    """Pushes made while `configure` is being handled: they must follow its acknowledgement."""

    __slots__ = ("lines", "released")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.released = False


holding: ContextVar[Held | None] = ContextVar("holding", default=None)
"""Where pushes of the running context go; set while a configure handler runs."""


class Outbox:
    """A queue of lines and the thread that writes them.

    Pushes wait until the first `configure` has been acknowledged, because prox takes a push before `ready`
    as the word of a plugin that serves no hooks.
    """

    def __init__(self, dropped_logs: Callable[[int], bytes]) -> None:
        """`dropped_logs` makes the line that reports how many log lines were dropped."""
        self._dropped_logs = dropped_logs
        self._changed = threading.Condition()
        self._lines: deque[tuple[bytes, bool]] = deque()
        self._early: list[bytes] = []
        self._before_start: tuple[bytes, ...] = ()
        self._open = False
        self._log_bytes = 0
        self._dropped = 0
        self._closing = False
        self._broken = False
        self._thread: threading.Thread | None = None

    @property
    def started(self) -> bool:
        """Whether lines are on their way to prox."""
        return self._thread is not None

    def start(self, fd: int) -> None:
        """Begin to write to `fd`, which from now on belongs to the outbox."""
        self._before_start = tuple(self._early)
        self._thread = threading.Thread(target=self._write_all, args=(fd,), name="prox-outbox", daemon=True)
        self._thread.start()

    def close(self, timeout: float) -> bool:
        """Write what is queued, for `timeout` seconds at most; false when that was not enough.

        After that it may be started again, as tests do.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                return False
        self._thread = None
        self._closing = self._broken = self._open = False
        self._early = list(self._before_start)
        return True

    def push(self, line: bytes) -> None:
        """Queue a push: behind the acknowledgement of the `configure` that is being handled, if one is."""
        held = holding.get()
        with self._changed:
            if held is not None and not held.released:
                held.lines.append(line)
            elif self._open:
                self._add([line])
            else:
                self._early.append(line)

    def acknowledge(self, lines: Iterable[bytes], held: Held) -> None:
        """Queue the answer to a `configure` and what follows it, then the pushes that waited for it."""
        with self._changed:
            held.released = True
            self._open = True
            self._add([*lines, *self._early, *held.lines])
            self._early.clear()

    def refuse(self, line: bytes, held: Held) -> None:
        """Queue the refusal of a `configure`; the pushes that its handler made are void."""
        with self._changed:
            held.released = True
            self._add([line])

    def log(self, line: bytes) -> None:
        """Queue a log line, unless too many wait."""
        with self._changed:
            if self._log_bytes + len(line) > LOG_LIMIT:
                self._dropped += 1
                return
            if self._dropped:
                self._add_log(self._dropped_logs(self._dropped))
                self._dropped = 0
            self._add_log(line)

    def _add(self, lines: Iterable[bytes]) -> None:
        if not self._broken:
            self._lines.extend((line, False) for line in lines)
            self._changed.notify()

    def _add_log(self, line: bytes) -> None:
        if not self._broken:
            self._lines.append((line, True))
            self._log_bytes += len(line)
            self._changed.notify()

    def _take(self) -> bytes:
        """The next lines to write, as one piece; empty when there will be no more."""
        with self._changed:
            while not self._lines and not self._closing:
                self._changed.wait()
            batch: list[bytes] = []
            size = 0
            while self._lines and size < _BATCH:
                line, is_log = self._lines.popleft()
                batch.append(line)
                size += len(line)
                if is_log:
                    self._log_bytes -= len(line)
            return b"".join(batch)

    def _write_all(self, fd: int) -> None:
        try:
            while batch := self._take():
                _write(fd, batch)
        except OSError:  # prox has gone: nobody will read the rest
            with self._changed:
                self._broken = True
                self._lines.clear()
        finally:
            os.close(fd)


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:  # whoever started us made the pipe non-blocking
            writable = select.poll()
            writable.register(fd, select.POLLOUT)
            writable.poll()
