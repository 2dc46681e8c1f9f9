"""The access log: one JSON line a request, written by one call for many lines.

A line costs the event loop its encoding and nothing more. Lines are gathered and written when 64 KiB are full
or 0.2 s have passed. A file that takes no bytes (a full disk, a pipe nobody reads) never stops traffic: up to
1 MiB waits for it to get better, what comes after that is dropped and counted, and both ends of the trouble
are logged once. Only whole lines reach a file, even when a write stops in the middle of one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from prox.observe.logfile import open_log
from prox.observe.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_log = logging.getLogger("prox.access")

_CHUNK = 64 * 1024
_MOST = 1024 * 1024
_DELAY = 0.2


class AccessRecord(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One line. What stands below `target` is left out when it is empty."""

    ts: str = ""
    """When the line was written, RFC 3339; set by `AccessLog.write`."""
    service: str
    route: int
    """Index of the route in the service, -1 when none matched."""
    method: str
    path: str
    """The client's path, decoded, without the query."""
    status: int
    """0 when the connection was closed without an answer."""
    duration_ms: float
    """From the end of the request's head to the end of the answer."""
    bytes_in: int
    """Body bytes from the client."""
    bytes_out: int
    """Body bytes to the client."""
    client_ip: str
    user_agent: str
    target: str
    """Address of the upstream; empty when none was asked."""
    plugin: str = ""
    """The plugin that decided, where a hook ran."""
    verdict: str = ""
    """allow, deny, drop, fallback or error."""
    hook_ms: float | None = None
    """Time spent in hooks."""
    reason: str = ""
    """Why the connection was closed."""
    server_name: str = ""
    """The name in the ClientHello of a connection that was passed on or dropped unopened."""


class AccessLog:
    """The access log of one file, shared by all routes that name it. Made by `AccessLogs.open`.

    Raises:
        OSError: the file can't be opened.
    """

    __slots__ = ("_buffer", "_encode", "_fd", "_lost", "_stuck", "_timer", "_torn", "dropped", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dropped = 0
        """Lines that were lost, since the beginning."""
        self._fd = open_log(path)
        self._buffer = bytearray()
        self._encode = msgspec.json.Encoder().encode_into
        self._timer: asyncio.TimerHandle | None = None
        self._stuck = False
        """The last write did not take everything: only the timer tries again."""
        self._torn = False
        """The file ends in the middle of the line that the buffer begins with."""
        self._lost = 0
        """Lines dropped since the trouble began."""

    def write(self, record: AccessRecord) -> None:
        """Add a line; sets `record.ts` and cuts durations to microseconds. Needs a running loop."""
        buffer = self._buffer
        length = len(buffer)
        if length >= _MOST or self._fd < 0:
            self._lose(1)
            return
        record.ts = rfc3339(time.time())
        record.duration_ms = int(record.duration_ms * 1000) / 1000
        if record.hook_ms is not None:
            record.hook_ms = int(record.hook_ms * 1000) / 1000
        try:
            self._encode(record, buffer, length)
        except UnicodeEncodeError:
            # A path may hold bytes that are no UTF-8, decoded to lone surrogates.
            del buffer[length:]
            self._encode(_printable(record), buffer, length)
        except BaseException:
            del buffer[length:]  # grown, and not written to: it must not reach the file
            raise
        buffer += b"\n"
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_DELAY, self._due)
        elif length >= _CHUNK and not self._stuck:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        buffer = self._buffer
        if not buffer or self._fd < 0:
            return
        trouble = ""
        try:
            taken = os.write(self._fd, buffer)
        except BlockingIOError:
            taken, trouble = 0, "its reader does not read"
        except OSError as error:
            taken, trouble = 0, os.strerror(error.errno or 0)
        if taken == len(buffer):
            buffer.clear()
            self._torn = False
            if self._stuck:
                self._stuck = False
                _log.warning("access log %s is written again, %d lines were lost", self.path, self._lost)
                self._lost = 0
            return
        if taken:
            self._torn = buffer[taken - 1] != _NEWLINE
            del buffer[:taken]
        elif not self._stuck:
            self._stuck = True
            _log.error("access log %s can't be written: %s", self.path, trouble)

    def reopen(self) -> None:
        """Open the path anew after a rotation: what was gathered goes to the old file, the rest to the new.

        A path that can't be opened is logged, and the old file is written on.
        """
        if self._fd < 0:
            return
        try:
            fd = open_log(self.path)
        except OSError as error:
            _log.error("access log is not opened anew: %s", error)
            return
        self._drain()
        os.close(self._fd)
        self._fd = fd
        if self._torn:
            # The rest of a line whose beginning is in the old file.
            del self._buffer[: self._buffer.index(_NEWLINE) + 1]
            self._torn = False
            self._lose(1)

    def close(self) -> None:
        """Write what was gathered and close the file. What is written later is dropped."""
        if self._fd < 0:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drain()
        os.close(self._fd)
        self._fd = -1
        left = self._buffer.count(_NEWLINE)
        if left:
            self._lose(left)
            _log.error("access log %s is closed, %d lines were lost", self.path, self._lost)
        self._buffer.clear()

    def _drain(self) -> None:
        """Write until all is written or the file takes no more."""
        before = -1
        while self._buffer and before != len(self._buffer):
            before = len(self._buffer)
            self.flush()

    def _due(self) -> None:
        self._timer = None
        self._drain()
        if self._buffer:
            self._timer = asyncio.get_running_loop().call_later(_DELAY, self._due)

    def _lose(self, lines: int) -> None:
        self.dropped += lines
        self._lost += lines


class AccessLogs:
    """The access logs of a process: one for each file, however many routes and configurations name it.

    `open` may be called in any thread, as a configuration is built in one; the rest belongs to the loop's.
    """

    def __init__(self) -> None:
        self._open: dict[Path, tuple[AccessLog, int]] = {}
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[AccessLog]:
        return iter([log for log, _ in list(self._open.values())])

    def open(self, path: Path) -> AccessLog:
        """The log of an absolute path, opened if it is the first time. Each `open` wants one `release`.

        Raises:
            OSError: the file can't be opened; the text says why.
        """
        with self._lock:
            log, uses = self._open.get(path) or (AccessLog(path), 0)
            self._open[path] = (log, uses + 1)
        return log

    def release(self, log: AccessLog) -> None:
        """Give back what `open` gave; the last one closes the file. After `close` it does nothing."""
        with self._lock:
            found, uses = self._open.get(log.path, (None, 0))
            if found is not log:
                return
            if uses > 1:
                self._open[log.path] = (log, uses - 1)
                return
            del self._open[log.path]
        log.close()

    def reopen(self) -> None:
        """Open all files anew, after a rotation."""
        for log in self:
            log.reopen()

    def close(self) -> None:
        """Write and close everything, at the end of the process."""
        for log in self:
            log.close()
        self._open.clear()


_NEWLINE = 0x0A


def _printable(record: AccessRecord) -> AccessRecord:
    """The record with what can't be encoded shown by its number."""
    copy = msgspec.structs.replace(record)
    for name in record.__struct_fields__:
        value = getattr(copy, name)
        if isinstance(value, str):
            setattr(copy, name, value.encode("utf-8", "backslashreplace").decode())
    return copy
