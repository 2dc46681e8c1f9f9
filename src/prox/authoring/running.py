"""A plugin's process as the tools need it: the test harness, and below it lines and frames as they are."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TypeVar

from prox.sdk.testing import ProcessHarness
from prox.sdk.testing.frames import FrameConnection
from prox.sdk.testing.inbox import Inbox
from prox.wire import HookType, Payload, PushParams, Result

T = TypeVar("T")


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
