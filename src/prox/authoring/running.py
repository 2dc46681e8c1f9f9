"""A plugin's process as the tools need it: the test harness, and below it lines and frames as they are."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import struct
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from prox.sdk.testing import ProcessHarness
from prox.sdk.testing.frames import FrameConnection
from prox.sdk.testing.inbox import Inbox
from prox.wire import HookType, Payload, PushParams, Result

T = TypeVar("T")

_TURN = 0.0002
"""Seconds between two looks whether something was read: nothing tells it."""


class RunningPlugin(ProcessHarness):
    """A plugin that was started; the arguments are those of `ProcessHarness`."""

    def ask(self, hook: HookType, payload: Payload) -> Result:
        """Call a hook with a payload as it is; raises as `request` does."""
        return self._call(hook, payload)

    # Lines

    @property
    def inbox(self) -> Inbox:
        """All that it has written to stdout."""
        return self._lines

    def ready(self) -> PushParams:
        """Its `ready`; waits for it and raises as `hooks` does."""
        return self._ready()

    def send(self, data: bytes) -> None:
        """Write to its stdin."""
        self._send(data)

    def send_bytewise(self, data: bytes) -> None:
        """Write to its stdin so that each byte is read by itself."""
        assert self._process is not None
        assert self._process.stdin is not None
        send_bytewise(self._process.stdin.fileno(), self._send, data, self.timeout)

    def until(self, condition: Callable[[], T], timeout: float) -> T:
        """Wait for what it writes; see `Inbox.until`."""
        return self._lines.until(condition, timeout)

    # Frames

    def connection(self, timeout: float | None = None) -> FrameConnection:
        """A new connection to its socket.

        Raises:
            OSError: it accepts none.
        """
        return FrameConnection(self._ready().socket, self.timeout if timeout is None else timeout)

    # The process

    @property
    def directory(self) -> Path | None:
        """Its private directory, while it runs."""
        return self._directory

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.returncode is None

    def close_stdin(self) -> None:
        """Let it know that it is to end."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        if self.running:
            os.kill(self.pid, number)

    def exited(self, seconds: float) -> bool:
        """Wait for its exit; false when that takes longer."""
        return self._exited(seconds)

    def end(self) -> None:
        """End it at once, whatever it does."""
        if self._process is not None and self._process.returncode is None:
            os.killpg(self.pid, signal.SIGKILL)
        self.stop()


def send_bytewise(fd: int, send: Callable[[bytes], None], data: bytes, timeout: float) -> None:
    """Send each byte when the one before it has been read from this pipe or socket; all the rest after `timeout`."""
    end = time.monotonic() + timeout
    for at in range(len(data)):
        send(data[at : at + 1])
        while _unread(fd):
            if time.monotonic() > end:
                send(data[at + 1 :])
                return
            time.sleep(_TURN)


def _unread(fd: int) -> int:
    """Bytes that the other side has not read: of a pipe exactly, of a socket more or less, and 0 when it has all."""
    what = termios.TIOCOUTQ if stat.S_ISSOCK(os.fstat(fd).st_mode) else termios.FIONREAD
    count: int = struct.unpack("i", fcntl.ioctl(fd, what, bytes(4)))[0]
    return count
