"""What bytes are in on their way from one socket to another: a pipe, which the kernel moves pages through, or a buffer.

splice(2) wants a pipe between two sockets. A pipe costs two descriptors and kernel memory, so a relay has one only while it
moves bytes; a few empty ones are kept for the next.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from typing import Final, Protocol

PIPE_SIZE: Final = 256 * 1024
"""Bytes that a pipe holds; the kernel may grant less to a user who has many."""

_COPIED: Final = 64 * 1024
_SPARE: Final = 32
_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Store(Protocol):
    """Holds bytes between two sockets.

    Attributes:
        held: bytes in it.
    """

    held: int

    def fill(self, source: socket.socket, most: int) -> int:
        """Take at most so many bytes from a socket, while nothing is held; 0 is its end.

        Raises:
            OSError: BlockingIOError where there is nothing now.
        """

    def drain(self, sink: socket.socket) -> int:
        """Give what is held to a socket, as much as it takes.

        Raises:
            OSError: BlockingIOError where it takes nothing now.
        """


class Pipe:
    """A store in the kernel."""

    __slots__ = ("_reading", "_writing", "held")

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.held = 0
        with contextlib.suppress(OSError):  # the user has too many: the usual size must do
            fcntl.fcntl(self._writing, fcntl.F_SETPIPE_SZ, PIPE_SIZE)

    def fill(self, source: socket.socket, most: int) -> int:
        """See Store; OSError with EINVAL where the kernel can't splice from this kind of socket."""
        self.held = count = os.splice(source.fileno(), self._writing, min(most, PIPE_SIZE), flags=_FLAGS)
        return count

    def drain(self, sink: socket.socket) -> int:
        """See Store."""
        count = os.splice(self._reading, sink.fileno(), self.held, flags=_FLAGS)
        if not count:
            raise BrokenPipeError(errno.EPIPE, "the kernel passes nothing on")
        self.held -= count
        return count

    def close(self) -> None:
        """Give its descriptors back."""
        os.close(self._reading)
        os.close(self._writing)


class Buffer:
    """A store in memory, where no pipe can be had."""

    __slots__ = ("_data", "held")

    def __init__(self) -> None:
        self._data = memoryview(b"")
        self.held = 0

    def fill(self, source: socket.socket, most: int) -> int:
        """See Store."""
        data = source.recv(min(most, _COPIED))
        self._data = memoryview(data)
        self.held = len(data)
        return self.held

    def drain(self, sink: socket.socket) -> int:
        """See Store."""
        count = sink.send(self._data)
        self._data = self._data[count:]
        self.held -= count
        return count


class Stores:
    """The stores of all relays of a process.

    Attributes:
        spare: empty pipes that are kept.
    """

    def __init__(self) -> None:
        self.spare: list[Pipe] = []
        self._closed = False

    def take(self) -> Store:
        """An empty store."""
        if self.spare:
            return self.spare.pop()
        try:
            return Pipe()
        except OSError:  # out of descriptors: copying needs none
            return Buffer()

    def give(self, store: Store) -> None:
        """Give a store back, whatever is in it."""
        if not isinstance(store, Pipe):
            return
        if store.held or self._closed or len(self.spare) >= _SPARE:
            store.close()
        else:
            self.spare.append(store)

    def close(self) -> None:
        """Keep none any more."""
        self._closed = True
        while self.spare:
            self.spare.pop().close()


def is_unfit(error: OSError) -> bool:
    """Whether the kernel refuses to splice between these sockets at all."""
    return error.errno in {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
