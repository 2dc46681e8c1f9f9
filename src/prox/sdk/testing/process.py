"""`ProcessHarness`: a plugin as prox runs it, as a process of its own, in any language."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

from .base import BaseHarness, HarnessOptions
from .errors import PluginEndedError, PluginTestError
from .inbox import Inbox

AFTER_EOF = 5.0
"""Seconds that a plugin has to end after its stdin, as prox gives it."""
AFTER_SIGTERM = 2.0
"""Seconds that it has after SIGTERM."""
_LAST_WORDS = 0.2
"""Seconds in which the process may exit, and its stderr end, after its stdout."""
_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")


class ProcessHarness(BaseHarness):
    """Runs a program as a plugin, from entering the context to leaving it.

    It has a process group, an environment and a private directory of its own, as under prox, and is ended in the
    same steps.

    Args:
        command: the program and its arguments, or the program alone.
        env: variables beside the few that a plugin gets.
        cwd: its working directory.
        options: as for `Harness`.
    """

    def __init__(
        self,
        command: str | Path | Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        **options: Unpack[HarnessOptions],
    ) -> None:
        super().__init__(**options)
        words = [command] if isinstance(command, str | Path) else list(command)
        program = Path(words[0])
        self._command = [str(program.absolute() if program.exists() else program), *map(str, words[1:])]
        self._env = dict(env or {})
        self._cwd = cwd
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: deque[str] = deque(maxlen=1000)
        self._stderr: threading.Thread | None = None
        self._exit = -1

    @property
    def pid(self) -> int:
        """Number of the process."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, or the negative number of the signal that ended it; None while it runs."""
        process = self._process
        if process is None:
            return None
        if process.returncode is not None:
            return process.returncode
        # Not reaped before `stop`, so that its number and its group's can't be another's until then.
        seen = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if seen is None:
            return None
        return seen.si_status if seen.si_code == os.CLD_EXITED else -seen.si_status

    @property
    def stderr(self) -> str:
        """What it has written to stderr, its last thousand lines at most."""
        return "".join(list(self._errors))

    def _begin(self) -> Inbox:
        self._directory = Path(tempfile.mkdtemp(prefix="prox-plugin-"))
        passed = {name: os.environ[name] for name in os.environ if name in _PASSED or name.startswith("LC_")}
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the program under test
                self._command,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                cwd=self._cwd,
                env=passed | self._env | {"PROX_PLUGIN_DIR": str(self._directory)},
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise PluginEndedError(f"{self._command[0]} can't be started: {_explain(error)}") from error
        self._exit = os.pidfd_open(self._process.pid)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        stdout, stderr = (os.dup(pipe.fileno()) for pipe in (self._process.stdout, self._process.stderr))
        self._process.stdout.close()
        self._process.stderr.close()
        self._stderr = threading.Thread(
            target=self._read_errors, args=(stderr,), name="plugin-stderr", daemon=True
        )
        self._stderr.start()
        return Inbox(stdout)

    def _read_errors(self, fd: int) -> None:
        with open(fd, "rb") as lines:
            for line in lines:
                self._errors.append(line.decode("utf-8", "replace"))

    def _send(self, line: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # whoever waits for the answer learns that it has ended
            self._process.stdin.write(line)

    def _end(self) -> None:
        process, directory, self._directory = self._process, self._directory, None
        if process is None or directory is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        killer = ""
        if not self._exited(AFTER_EOF):
            killer = "SIGTERM"
            os.killpg(process.pid, signal.SIGTERM)
            if not self._exited(AFTER_SIGTERM):
                killer = "SIGKILL"
                os.killpg(process.pid, signal.SIGKILL)
                self._exited(None)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(
                process.pid, signal.SIGKILL
            )  # what it has left behind, while its number can't be another's
        process.wait()
        os.close(self._exit)
        self._lines.join(1)
        if self._stderr is not None:
            self._stderr.join(1)
        shutil.rmtree(directory, ignore_errors=True)
        if killer:
            raise PluginTestError(
                f"the plugin went on for {AFTER_EOF:g} s after its stdin: {killer} ended it"
            )

    def _exited(self, seconds: float | None) -> bool:
        """Wait until it has exited; it is not reaped yet."""
        exits = select.poll()
        exits.register(self._exit, select.POLLIN)
        return bool(exits.poll(None if seconds is None else seconds * 1000))

    def _why_ended(self) -> str:
        if self._directory is not None and self._stderr is not None:
            self._exited(_LAST_WORDS)
            self._stderr.join(_LAST_WORDS)
        status = "" if self.returncode is None else f" with status {self.returncode}"
        return f"{status}; its stderr:\n{self.stderr}" if self.stderr else status


def _explain(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "it is not executable: chmod +x"
    if error.errno == errno.ENOEXEC:
        return "it is no program; a script needs a first line like #!/usr/bin/env python3"
    return error.strerror or str(error)
