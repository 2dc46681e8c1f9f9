"""Whether a process that runs still answers: its socket is tried, and calls that fail in a row are counted.

Where nobody listens at its path any more, a connection is refused; two tries tell that from a socket that is being
made anew. A process that hangs still takes connections, the kernel does that for it: it is found by its calls, when
several failed in a row and none was answered for some time. Few failures in a moment are no reason, nor is silence.
"""

from __future__ import annotations

import asyncio
import socket
from types import TracebackType
from typing import Final, Self

from .caller import Caller
from .life import Life
from .model import Delays

_TRIES: Final = 2
"""Refused connections in a row that say that nobody listens."""


class Liveness:
    """Looks after one process while it is entered.

    Attributes:
        found: done, with the reason, when the process does not answer any more.
    """

    def __init__(self, life: Life, delays: Delays) -> None:
        self._loop = asyncio.get_running_loop()
        self._life = life
        self._delays = delays
        self._tried: Caller | None = None
        self._refused = 0
        self._timer: asyncio.TimerHandle | None = None
        self.found: asyncio.Future[str] = self._loop.create_future()

    def __enter__(self) -> Self:
        self._timer = self._loop.call_later(self._delays.probe, self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        caller = self._life.caller
        reason = ""
        if caller is not None and self._life.hooks:
            reason = self._mute(caller) or self._gone(caller)
        if reason:
            self.found.set_result(reason)
            return
        wait = self._delays.probe_again if self._refused else self._delays.probe
        self._timer = self._loop.call_later(wait, self._look)

    def _mute(self, caller: Caller) -> str:
        silent = self._loop.time() - caller.failing_since
        if caller.failures < self._delays.mute_calls or silent < self._delays.mute_after:
            return ""
        return f"{caller.failures} calls in a row had no answer, for {silent:.1f} s"

    def _gone(self, caller: Caller) -> str:
        if caller is not self._tried:
            self._tried, self._refused = caller, 0
        reason = refusal(caller.path)
        self._refused = self._refused + 1 if reason else 0
        return f"its socket {caller.path}: {reason}" if self._refused >= _TRIES else ""


def refusal(path: str) -> str:
    """Why no connection to a Unix socket can be opened; empty where one can, or its queue of connections is full.

    Never waits: whether the peer takes it is not asked.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(path)
        except BlockingIOError:
            return ""
        except OSError as error:
            return error.strerror or str(error)
    return ""
