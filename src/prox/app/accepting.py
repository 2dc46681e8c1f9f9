"""Accepts connections for one listening socket, and stops for a while when file descriptors run short.

libuv's own servers accept and close when there is no descriptor left, and asyncio's spin. Here accepting pauses while the
last ones are in use: who connects waits in the kernel's queue, what runs goes on, and a timer looks whether there is room
again. It pauses before the last one is taken, so that reloads, logs, plugins and upstreams still get theirs.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from typing import TypeAlias

from prox.http.descriptors import room

_log = logging.getLogger("prox.listen")

Take: TypeAlias = Callable[[socket.socket, object], None]
"""Serves a socket just accepted, which is its own from then on, of a peer."""

BATCH = 32
"""Connections accepted in one turn of the loop: those that are open get theirs, too."""

RETRY = 0.1
"""Seconds between two looks for free descriptors."""

_SAY_AGAIN = 10.0
"""Seconds in which the same trouble is logged once."""

_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

# accept(2) reports what became of a connection that waited: the next one may be well.
_ITS_OWN = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPERM,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EINTR,
    }
)


class Acceptor:
    """Hands on the connections of a listening socket, from `start` to `stop`.

    Args:
        sock: listening, not blocking; stays the caller's.
        name: for the log.
        take: gets them.

    Attributes:
        pauses: how often accepting paused for want of descriptors.
    """

    def __init__(self, sock: socket.socket, name: str, take: Take) -> None:
        self._socket = sock
        self._name = name
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._most = room().accept
        self._timer: asyncio.TimerHandle | None = None
        self._started = False
        self._since = 0.0
        self._said = float("-inf")
        self.pauses = 0

    def start(self) -> None:
        """Accept."""
        self._started = True
        self._loop.add_reader(self._socket, self._accept)

    def stop(self) -> None:
        """Accept no more."""
        if not self._started:
            return
        self._started = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        else:
            self._loop.remove_reader(self._socket)

    def _accept(self) -> None:
        self._most = room().accept
        for _ in range(BATCH):
            try:
                sock, peer = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _ITS_OWN:
                    continue
                self._pause(error)
                return
            number = sock.fileno()
            self._take(sock, peer)
            if number >= self._most:
                self._pause(None)
                return

    # Out of descriptors.

    def _pause(self, error: OSError | None) -> None:
        self._loop.remove_reader(self._socket)
        self._since = self._loop.time()
        self._timer = self._loop.call_later(RETRY, self._look)
        self.pauses += 1
        if self._since < self._said + _SAY_AGAIN:
            return
        self._said = self._since
        if error is None or error.errno in _SHORT:
            why = "file descriptors run short" if error is None else os.strerror(error.errno or 0)
            _log.warning(
                "%s accepts no connections for now: %s (the limit of open files is %d)",
                self._name,
                why,
                room().limit,
            )
        else:
            _log.error("%s can't accept connections: %s", self._name, error)

    def _look(self) -> None:
        """Go on where there is room: the lowest free descriptor is the next connection's."""
        self._most = room().accept
        try:
            number = os.dup(self._socket.fileno())
        except OSError:
            number = self._most
        else:
            os.close(number)
        if number >= self._most:
            self._timer = self._loop.call_later(RETRY, self._look)
            return
        self._timer = None
        paused = self._loop.time() - self._since
        if paused >= 1:
            _log.info("%s accepts connections again, after %.1f s", self._name, paused)
        self._loop.add_reader(self._socket, self._accept)
