"""What a plugin writes to its stdout: read by a thread of its own, so that it never waits, and sorted."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from prox.wire import (
    METHOD_LOG,
    METHOD_READY,
    METHOD_SET_SPEED,
    METHOD_SET_TARGETS,
    DecodeError,
    LineReader,
    OversizeLine,
    Push,
    PushParams,
    Response,
    decode_line,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of the plugin's log.

    Attributes:
        level: `debug`, `info`, `warn` or `error`.
        message: its text.
        fields: its named values.
    """

    level: str
    message: str
    fields: dict[str, Any] = field(default_factory=dict)


class Inbox:
    """Everything that was read, in order and by kind; `until` waits for more."""

    def __init__(self, fd: int) -> None:
        """Read from `fd`, which belongs to the inbox, until it ends."""
        self.lines: list[bytes] = []
        self.answers: deque[Response] = deque()
        self.ready: PushParams | None = None
        self.pushes: list[Push] = []
        self.logs: list[LogRecord] = []
        self.warnings: list[str] = []
        self.ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(fd,), name="plugin-stdout", daemon=True)
        self._thread.start()

    def until(self, condition: Callable[[], T], timeout: float) -> T:
        """Wait until the condition holds, no more lines will come, or the time is over: its last value."""
        with self._changed:
            self._changed.wait_for(lambda: self.ended or condition(), timeout)
            return condition()

    def touch(self) -> None:
        """Have all conditions looked at again."""
        with self._changed:
            self._changed.notify_all()

    def join(self, timeout: float) -> None:
        """Wait for the end of the output."""
        self._thread.join(timeout)

    def _read(self, fd: int) -> None:
        lines = LineReader()
        try:
            while data := os.read(fd, 65536):
                with self._changed:
                    for line in lines.feed(data):
                        self._take(line)
                    self._changed.notify_all()
        finally:
            os.close(fd)
            with self._changed:
                self.ended = True
                self._changed.notify_all()

    def _take(self, line: bytes | OversizeLine) -> None:
        if isinstance(line, OversizeLine):
            self.warnings.append(f"a line above {line.limit} bytes: {line.head!r}")
            self.lines.append(line.head)
            return
        self.lines.append(line)
        try:
            message = decode_line(line)
        except DecodeError as error:
            self.warnings.append(f"{error}: {line[:200]!r}")
            return
        if isinstance(message, Response):
            self.answers.append(message)
        elif message.method == METHOD_READY:
            self.ready = message.params
        elif message.method == METHOD_LOG:
            self.logs.append(_record(message.params))
        elif message.method in {METHOD_SET_TARGETS, METHOD_SET_SPEED}:
            self.pushes.append(message)
        else:
            self.warnings.append(f"there is no method {message.method!r}")


def _record(params: PushParams) -> LogRecord:
    args = params.args or []
    return LogRecord(
        params.level, params.message, {str(k): v for k, v in zip(args[::2], args[1::2], strict=False)}
    )
