"""Looks at what a client said first and takes nothing of it, for steps on a raw socket.

The kernel is told how many bytes are missing at least, so that what comes in pieces does not wake the loop for each of them.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from prox.http.arrival import Arrival, TurnedBackError

_LEAST: Final = 4096
"""Bytes looked at: most of what is peeked for is shorter."""

_PAUSE: Final = 0.02
"""Seconds until the next look where the kernel can't wait for all that is missing: on Unix sockets, or short of memory."""


class Missing(Protocol):
    """What a reader says of bytes that are no whole yet."""

    @property
    def missing(self) -> int:
        """Bytes that are still to come, at least 1."""


T = TypeVar("T")


async def peek(arrival: Arrival, read: Callable[[bytes], T], incomplete: type[Missing]) -> T:
    """Give `read` all that has come from the connection's first byte on, until it has what it wants.

    Args:
        arrival: the connection; its deadline is the caller's.
        read: reads it.
        incomplete: what `read` gives as long as more must come.

    Raises:
        TurnedBackError: the client ends before.
        OSError: the same, by a reset.
    """
    sock = arrival.sock
    wanted = 1
    while True:
        await arrival.readable(wanted)
        try:
            data = sock.recv(max(wanted, _LEAST), socket.MSG_PEEK)
        except BlockingIOError:
            continue
        if len(data) >= wanted:
            found = read(data)
            if not isinstance(found, incomplete):
                return found
            wanted = len(data) + found.missing
        elif not data or _has_hung_up(sock):
            raise TurnedBackError("client_aborted", "the client ended")
        else:
            await asyncio.sleep(_PAUSE)


def is_lost(sock: socket.socket) -> bool:
    """Whether the connection has ended in both directions, as by RST; what came before can still be read."""
    poll = select.poll()
    poll.register(sock.fileno(), 0)  # errors and hang-ups are always told
    return bool(poll.poll(0))


def _has_hung_up(sock: socket.socket) -> bool:
    """Whether no more can come."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))
