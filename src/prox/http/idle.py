"""The unused connections to one address, apart from `Origin` so that it is compiled: it is asked twice a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .call import Supply

if TYPE_CHECKING:
    from .upstream import UpstreamConnection


class Tally:
    """What all addresses together keep.

    Attributes:
        count: unused connections.
        closed: nothing is kept any more.
    """

    __slots__ = ("closed", "count")

    def __init__(self) -> None:
        self.count = 0
        self.closed = False


class IdleConnections(Supply):
    """Those of one address.

    Args:
        tally: what all addresses together keep.
        most: how many are kept.
        most_in_all: how many are kept for all addresses.
    """

    __slots__ = ("_connections", "_most", "_most_in_all", "_others", "_tally")

    def __init__(self, tally: Tally, most: int, most_in_all: int) -> None:
        self._tally = tally
        self._most = most
        self._most_in_all = most_in_all
        self._connections: list[UpstreamConnection] = []
        self._others = 0

    def take(self) -> UpstreamConnection | None:
        """The one used last; None when a new one has to be opened."""
        if not self._connections:
            return None
        self._tally.count -= 1
        return self._connections.pop()

    def put(self, connection: UpstreamConnection) -> None:
        """Keep a connection for its next request, or close it where there are enough."""
        if self.has_place():
            self._connections.append(connection)
            self._tally.count += 1
        else:
            connection.transport.abort()

    def has_place(self) -> bool:
        """Whether one more may be kept."""
        tally = self._tally
        kept = len(self._connections) + self._others
        return kept < self._most and tally.count < self._most_in_all and not tally.closed

    def count(self, change: int) -> None:
        """So many more unused connections to the address are kept elsewhere."""
        self._others += change
        self._tally.count += change

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection has closed."""
        if connection in self._connections:
            self._connections.remove(connection)
            self._tally.count -= 1
