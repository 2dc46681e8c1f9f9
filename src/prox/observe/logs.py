"""Where log records go. Only `prox serve` calls `setup`.

Code logs through `logging.getLogger("prox.…")`, with values beside the message in `extra=fields(plugin=name)`.
Without `setup` nothing in the stdlib's logging is touched, so a program that embeds prox configures it as it
likes.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, TextIO

from prox.observe.formats import ConsoleFormatter, JsonFormatter
from prox.observe.logfile import open_log

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_log = logging.getLogger("prox.observe")

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
"""The names of the levels in configuration, flag and environment."""


def choose_level(flag: str | None, env: str | None, configured: str | None) -> int:
    """The level in force: the flag's, then that of LOG_LEVEL, then `logging.level`, then info.

    Raises:
        ValueError: the one that counts is no level; the text says which it is and what there is.
    """
    for source, name in (("--log-level", flag), ("LOG_LEVEL", env), ("logging.level", configured)):
        if name:
            level = LEVELS.get(name.strip().lower())
            if level is None:
                raise ValueError(f'{source}: "{name}" is no level; there are debug, info, warn and error')
            return level
    return logging.INFO


def setup(level: int, *, stream: TextIO | None = None, error_log: Path | None = None) -> LogOutput:
    """Send the records of this process to `stream`, and warnings and errors to a file as well.

    A terminal gets lines for people, in colour unless NO_COLOR is set; anything else gets JSON lines.
    Libraries are heard from warning on, prox from `level` on.

    Args:
        level: see `choose_level`.
        stream: standard error if None.
        error_log: absolute path of the file; its folder must exist.

    Raises:
        OSError: the file can't be opened; the text says why.
    """
    return LogOutput(level, sys.stderr if stream is None else stream, error_log)


class LogOutput:
    """The outputs of this process. Made by `setup`."""

    def __init__(self, level: int, stream: TextIO, error_log: Path | None) -> None:
        self._file: _FileHandler | None = None
        self._root = logging.getLogger()
        self._prox = logging.getLogger("prox")
        self._before = (self._root.level, self._prox.level)
        self.configure(level, error_log)
        self._stream = logging.StreamHandler(stream)
        terminal = stream.isatty()
        colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._stream.setFormatter(ConsoleFormatter(colour=colour) if terminal else JsonFormatter())
        self._root.addHandler(self._stream)
        self._root.setLevel(logging.WARNING)

    def configure(self, level: int, error_log: Path | None) -> None:
        """Take another level or another error log, for a reload.

        Raises:
            OSError: the file can't be opened, and nothing is changed.
        """
        path = None if self._file is None else self._file.path
        if error_log != path:
            new = None if error_log is None else _FileHandler(error_log)
            if self._file is not None:
                self._root.removeHandler(self._file)
                self._file.close()
            if new is not None:
                self._root.addHandler(new)
            self._file = new
        self._prox.setLevel(level)

    def reopen(self) -> None:
        """Open the error log anew, after a rotation."""
        if self._file is not None:
            self._file.reopen()

    def close(self) -> None:
        """Leave the stdlib's logging as `setup` found it."""
        for handler in (self._stream, self._file):
            if handler is not None:
                self._root.removeHandler(handler)
                handler.close()
        self._file = None
        self._root.setLevel(self._before[0])
        self._prox.setLevel(self._before[1])


class _FileHandler(logging.Handler):
    """Warnings and errors as JSON lines in a file, each written at once."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.WARNING)
        self.path = path
        self._fd = open_log(path)
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            os.write(self._fd, f"{self.format(record)}\n".encode())
        except OSError:
            # A full disk: the record is on standard error as well.
            return
        except Exception:
            self.handleError(record)

    def reopen(self) -> None:
        try:
            fd = open_log(self.path)
        except OSError as error:
            _log.error("error log is not opened anew: %s", error)
            return
        self.acquire()
        try:
            os.close(self._fd)
            self._fd = fd
        finally:
            self.release()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        super().close()
