"""The guardian: one small process that ends the plugins when prox is gone, after SIGKILL of prox too.

It holds the read end of a pipe. While prox lives, prox writes the process groups of its plugins into it; the
kernel closes the pipe when prox ends, and then the guardian acts (`_guard.py`). Should the guardian itself
die, it is started again and told all groups anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

from prox.tasks import spawn

from .exits import ExitWatch
from .model import Delays

_log = logging.getLogger("prox.plugin")
_PROGRAM = Path(__file__).with_name("_guard.py")
_RESTART_WAIT = 1.0


class Guardian:
    """Keeps the guardian's process and tells it what to guard.

    Args:
        directory: the runtime directory, which the guardian removes at the end.
        delays: how long the guardian waits between SIGTERM and SIGKILL.
    """

    def __init__(self, directory: Path, delays: Delays) -> None:
        self._directory = directory
        self._delays = delays
        self._groups: set[int] = set()
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe: int | None = None
        self._exit: ExitWatch | None = None
        self._stopping = False
        self._changing = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The guardian's process, while it runs."""
        return self._child.pid if self._child else None

    async def start(self) -> None:
        """Start it; where that fails, plugins run without a guardian and the log says so."""
        async with self._changing:
            try:
                pidfd = await asyncio.get_running_loop().run_in_executor(None, self._launch)
            except OSError as error:
                _log.error("the guardian of the plugins can't be started, they may outlive prox: %s", error)
                return
            self._exit = ExitWatch(pidfd)
            self._watch = spawn(self._keep(self._exit), "plugin guardian")

    def add(self, group: int) -> None:
        """Guard a process group. Called in the thread that started it, so that no moment is left out."""
        self._groups.add(group)
        self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        """The group has ended."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    async def stop(self) -> None:
        """Let it end what is left of the groups, and end."""
        self._stopping = True
        async with self._changing:  # one that is just being started is stopped too
            self._close_pipe()
            if self._exit is not None and self._child is not None:
                limit = self._delays.guardian_term + 3
                if not await self._exit.within(limit):
                    self._child.kill()
                    await self._exit.within(self._delays.stop_kill)
                self._child.poll()  # reaps it: whoever watched may not come to it any more
            if self._watch is not None:
                self._watch.cancel()
                await asyncio.wait({self._watch})

    def _launch(self) -> int:
        """Start the guardian, in a thread; its pidfd."""
        program = sys.executable or shutil.which("python3") or "python3"
        theirs, ours = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(ours, False)
        try:
            child = subprocess.Popen(  # noqa: S603 - our own program
                [program, "-I", "-S", str(_PROGRAM), str(self._directory), str(self._delays.guardian_term)],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
            pidfd = os.pidfd_open(child.pid)
        except BaseException:
            os.close(ours)  # it ends when it reads the end of this pipe
            raise
        finally:
            os.close(theirs)
        self._child, self._pipe = child, ours
        for group in list(self._groups):
            self._tell(f"+{group}\n")
        return pidfd

    def _tell(self, line: str) -> None:
        if self._pipe is not None:
            with contextlib.suppress(OSError):  # it has died: the next one is told all groups
                os.write(self._pipe, line.encode())

    def _close_pipe(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            os.close(pipe)

    async def _keep(self, watch: ExitWatch) -> None:
        await watch.wait()
        assert self._child is not None
        self._child.poll()
        if self._stopping:
            return
        _log.warning("the guardian of the plugins has ended; it is started again")
        self._close_pipe()
        await asyncio.sleep(_RESTART_WAIT)
        if not self._stopping:
            await self.start()
