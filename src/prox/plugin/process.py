"""One life of a plugin's process: started, talked to over its pipes, seen to exit, stopped within limits.

The process leads a session and group of its own. When it exits, what is left of its group is killed before the
process is reaped, so the group's number can't have been given to another yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from prox.tasks import spawn
from prox.wire import LineReader, OversizeLine

from .accounts import Account, find_account
from .environment import plugin_environment
from .errors import PluginStartError
from .exits import ExitWatch
from .guardian import Guardian
from .launching import Started, cannot_change, check_program, start_program
from .model import Delays, PluginSpec
from .pipes import PipeReader, PipeWriter
from .runtime import RuntimeDirectory, remove

_log = logging.getLogger("prox.plugin")

STDERR_KEPT: Final = 50
"""Lines of stderr that are kept for the state."""
_STDERR_LINE: Final = 4096
"""Bytes of one line of stderr that are logged; of a longer one the head is."""


class Process:
    """A plugin's subprocess.

    Args:
        spec: what to run.
        runtime: gives the private directory.
        delays: the limits of stopping.
        on_line: called with each line of its stdout, in order.
        guardian: ends its group should prox be killed; None: nobody does.
        stderr: keeps the last lines of its stderr; shared by all lives of a plugin.
    """

    def __init__(
        self,
        spec: PluginSpec,
        runtime: RuntimeDirectory,
        delays: Delays,
        on_line: Callable[[bytes | OversizeLine], None],
        guardian: Guardian | None = None,
        stderr: deque[str] | None = None,
    ) -> None:
        self.spec = spec
        self.returncode: int | None = None
        """Exit status, or the negative number of the signal that ended it; None while it runs."""
        self.stderr = deque(maxlen=STDERR_KEPT) if stderr is None else stderr
        self.directory: Path | None = None
        self.uid = os.geteuid()
        """The user that it runs as, known once it is started."""
        self._runtime = runtime
        self._delays = delays
        self._on_line = on_line
        self._guardian = guardian
        self._child: subprocess.Popen[bytes] | None = None
        self._exit: ExitWatch | None = None
        self._writer: PipeWriter | None = None
        self._readers: list[PipeReader] = []
        self._open_readers = 0
        self._drain_limit: asyncio.TimerHandle | None = None
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Done with the exit status when it has exited and everything that it wrote has been handled."""

    @property
    def pid(self) -> int | None:
        """Its process id, which is also its group's, from the start on."""
        return self._child.pid if self._child else None

    @property
    def done(self) -> bool:
        """Whether it has exited and everything that it wrote has been handled."""
        return self.ended.done()

    async def start(self) -> None:
        """Start the program.

        Raises:
            PluginStartError: it can't be started; the text says what to do about it.
        """
        loop = asyncio.get_running_loop()
        started = await loop.run_in_executor(None, self._launch)
        self._exit = ExitWatch(started.pidfd, self._exited)
        self._writer = PipeWriter(started.stdin, self._stdin_closed)
        self._open_readers = 2
        self._readers = [
            PipeReader(started.stdout, LineReader(self.spec.max_line), self._on_line, self._reader_ended),
            PipeReader(started.stderr, LineReader(_STDERR_LINE), self._error_line, self._reader_ended),
        ]

    def send(self, line: bytes) -> None:
        """Write a line to its stdin; it never waits, and nothing happens when the process is gone."""
        if self._writer is not None:
            self._writer.write(line)

    def take_back(self) -> int:
        """How many of the lines sent last have not gone out; they are forgotten."""
        return self._writer.take_back() if self._writer is not None else 0

    async def wait(self) -> int:
        """Until it has exited and its output is handled: the exit status, negative for a signal."""
        return await asyncio.shield(self.ended)

    async def stop(self) -> None:
        """End it: its stdin first, then SIGTERM to its group, then SIGKILL. It always ends in time.

        A cancelled stop kills at once.
        """
        watch = self._exit
        if watch is None or self.done:
            return
        if self._writer is not None:
            self._writer.close()
        try:
            if not await watch.within(self._delays.stop_eof):
                _log.warning("plugin %s goes on after its stdin has ended: SIGTERM", self.spec.name)
                self._kill(signal.SIGTERM)
            if not await watch.within(self._delays.stop_term):
                _log.warning("plugin %s goes on after SIGTERM: SIGKILL", self.spec.name)
                self._kill(signal.SIGKILL)
            if not await watch.within(self._delays.stop_kill):
                _log.error("plugin %s (process %s) can't be killed", self.spec.name, self.pid)
                return
        except asyncio.CancelledError:
            self._kill(signal.SIGKILL)
            raise
        await self.wait()

    def _launch(self) -> Started:
        """Start the child, in a thread."""
        program = check_program(self.spec)
        account = find_account(self.spec.limits)
        if account is not None:
            self.uid = account.uid
        self.directory = self._make_directory(account)
        try:
            environment = plugin_environment(self.spec, os.environ, str(self.directory), account)
            started = start_program(self.spec, program, environment, account, self._guardian)
        except PluginStartError:
            remove(self.directory)
            raise
        self._child = started.child
        return started

    def _make_directory(self, account: Account | None) -> Path:
        try:
            return self._runtime.make(account)
        except PermissionError as error:
            if account is None:
                raise
            raise PluginStartError(cannot_change(self.spec.limits)) from error

    def _kill(self, number: signal.Signals) -> None:
        if self.returncode is None and self._child is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, number)

    def _exited(self) -> None:
        """Called when the process has become a zombie."""
        child = self._child
        assert child is not None
        self._kill(signal.SIGKILL)
        self.returncode = child.wait()  # a zombie: this does not wait
        if self._guardian is not None:
            self._guardian.remove(child.pid)
        if self._writer is not None:
            self._writer.close()
        if self._open_readers:
            self._drain_limit = asyncio.get_running_loop().call_later(self._delays.drain, self._finish)
        else:
            self._finish()

    def _reader_ended(self) -> None:
        self._open_readers -= 1
        if not self._open_readers and self.returncode is not None:
            self._finish()

    def _finish(self) -> None:
        if self._drain_limit is not None:
            self._drain_limit.cancel()
        for reader in self._readers:
            reader.close()
        if not self.ended.done():
            assert self.returncode is not None
            self.ended.set_result(self.returncode)
            spawn(self._clean(), f"remove the directory of plugin {self.spec.name}")

    async def _clean(self) -> None:
        if self.directory is not None:
            await asyncio.get_running_loop().run_in_executor(None, remove, self.directory)

    def _stdin_closed(self) -> None:
        if self.returncode is None:
            _log.warning("plugin %s has closed its stdin: it can't be configured any more", self.spec.name)

    def _error_line(self, line: bytes | OversizeLine) -> None:
        raw, cut = (line.head, " …") if isinstance(line, OversizeLine) else (line, "")
        text = printable(raw.decode("utf-8", "replace")) + cut
        self.stderr.append(text)
        _log.info("plugin %s: %s", self.spec.name, text)


def printable(text: str) -> str:
    """The text with control characters shown as escapes, so that a plugin can't forge log lines."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in text.rstrip("\r\n"))
