"""Files below a root, opened such that nothing outside of it can be reached, and read in threads.

A name is opened with O_PATH first, which touches nothing but finds the file for good, links followed; then the kernel is
asked (/proc/self/fd) where that file lies, and only a regular file inside the root is opened for reading, through the same
descriptor. So there is no moment between check and use in which a link could be exchanged, and no FIFO or device is opened.
Links may lead anywhere inside the root.

Everything here blocks, and runs in THREADS: a slow disk or a dead network file system must not stop the loop, nor the
threads in which names are resolved.
"""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

THREADS = ThreadPoolExecutor(8, "prox-files")
"""Where files are opened and read; threads start when they are needed."""

INDEX = "index.html"
"""What is served for a folder."""


class RootError(Exception):
    """The root, or the one file, of an action can't be opened: `cause` says why."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def name_below(path: str, prefix: str) -> str | None:
    r"""The name relative to the root that a request's path stands for, "" for the root itself.

    None where no file is to be found under it: a segment that is empty, `.` or `..`, a backslash (a separator to some who
    read paths) or a NUL. An empty segment is not skipped as the kernel would: `//private/x` must not lead past a route for
    `/private/*`.

    Args:
        path: the request's, decoded.
        prefix: the route's fixed prefix, which is taken off.
    """
    if not path.startswith(f"{prefix}/") or "\\" in path or "\0" in path:
        return None
    name = path[len(prefix) + 1 :]
    *folders, last = name.split("/")
    if any(part in {"", ".", ".."} for part in folders) or last in {".", ".."}:
        return None
    return name


class OpenFile:
    """One file while it is served; every method may be called from any thread, and none after `close` has an effect.

    The lock lets `close` wait in its thread for a read that is under way: a descriptor that is closed under a read could be
    another file's by then.

    Attributes:
        name: last part of the name of what was opened, from which its type is told.
        status: of the open file.
        closed: nothing is open any more, and nothing will be.
    """

    __slots__ = ("_fd", "_lock", "closed", "name", "status")

    status: os.stat_result

    def __init__(self) -> None:
        self._fd = -1
        self._lock = Lock()
        self.closed = False
        self.name = ""

    def open_below(self, root: str, name: str) -> None:
        """Open the file `name` below `root`, or the index of the folder `name` where it ends in `/` or is the root.

        Raises:
            RootError: the root can't be opened.
            IsADirectoryError: it is a folder, and `name` does not end in `/`.
            FileNotFoundError: there is none, it is no regular file, or it lies outside of the root.
            OSError: it can't be opened.
        """
        with self._lock:
            if self.closed:
                return
            try:
                root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
            except OSError as error:
                raise RootError(error) from None
            try:
                self._open_inside(root_fd, name + INDEX if not name or name.endswith("/") else name)
            finally:
                os.close(root_fd)
            self.name = name.rpartition("/")[2] or INDEX

    def open_file(self, path: str) -> None:
        """Open the one file of an action, wherever it lies.

        Raises:
            RootError: it can't be opened or is no regular file.
        """
        with self._lock:
            if self.closed:
                return
            try:
                fd = os.open(path, os.O_PATH)
                try:
                    self._reopen(fd)
                finally:
                    os.close(fd)
            except OSError as error:
                raise RootError(error) from None
            self.name = path.rpartition("/")[2]

    def _open_inside(self, root_fd: int, name: str) -> None:
        root = _location(root_fd)
        fd = os.open(name.encode(), os.O_PATH, dir_fd=root_fd)
        try:
            if not _location(fd).startswith(root.rstrip(b"/") + b"/"):
                raise FileNotFoundError("outside of the root")
            self._reopen(fd)
        finally:
            os.close(fd)

    def _reopen(self, fd: int) -> None:
        """Open for reading what an O_PATH descriptor stands for, if it is a regular file."""
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError("a folder")
        if not stat.S_ISREG(mode):
            raise FileNotFoundError("no regular file")
        self._fd = os.open(_handle(fd), os.O_RDONLY | os.O_NONBLOCK)
        self.status = os.fstat(self._fd)

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer where the file ends before.

        Raises:
            OSError: the file can't be read, or was closed.
        """
        with self._lock:
            data = os.pread(self._fd, size, offset)
            if len(data) == size or not data:
                return data
            parts = [data]
            size -= len(data)
            while size and data:
                offset += len(data)
                data = os.pread(self._fd, size, offset)
                parts.append(data)
                size -= len(data)
            return b"".join(parts)

    def close(self) -> None:
        """Close it, once no other thread reads it; what is not open yet will not be."""
        with self._lock:
            self.closed = True
            if self._fd >= 0:
                fd, self._fd = self._fd, -1
                os.close(fd)


def _handle(fd: int) -> bytes:
    return b"/proc/self/fd/%d" % fd


def _location(fd: int) -> bytes:
    """Where the kernel says that it lies, links resolved."""
    return os.readlink(_handle(fd))  # noqa: PTH115 - bytes: names need not be text
