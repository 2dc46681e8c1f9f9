"""The HTTP/2 connections to one address, and its HTTP/1.1 connections where it may speak either."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prox.http.call import Supply, UpstreamCall
from prox.http.idle import IdleConnections

if TYPE_CHECKING:
    from .shared import SharedConnection


class StreamSupply(Supply):
    """Gives streams: of the oldest connection that has room, so that the others become idle.

    Args:
        idle: unused HTTP/1.1 connections to the same address.
    """

    __slots__ = ("_connections", "_idle")

    def __init__(self, idle: IdleConnections) -> None:
        self._idle = idle
        self._connections: list[SharedConnection] = []

    def take(self) -> UpstreamCall | None:
        """See Supply."""
        for connection in self._connections:
            if connection.has_room():
                return connection.take()
        return self._idle.take()

    def add(self, connection: SharedConnection) -> None:
        """A connection is open."""
        self._connections.append(connection)

    def remove(self, connection: SharedConnection) -> None:
        """It takes no more requests."""
        if connection in self._connections:
            self._connections.remove(connection)

    def may_rest(self) -> bool:
        """Whether one more connection may stay open unused."""
        return self._idle.has_place()

    def rested(self, change: int) -> None:
        """So many more connections are unused."""
        self._idle.count(change)
