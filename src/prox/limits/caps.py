"""How many connections clients have open to a service, and which one is one too many.

Everything is counted whether a limit is set or not: a reload that sets one holds for what is open already. What is open
stays when a limit is lowered below it; nothing new comes in until enough has gone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final

_NETWORK: Final = 0xFFFF_FFFF_FFFF_FFFF << 64


class ConnectionCaps:
    """The connections of one service.

    An IPv6 client is its /64 network: one machine has as many addresses there as it likes. A connection without an address
    (Unix sockets) is nobody's, and one of a proxy that is trusted brings many clients: only `most` holds for them.

    Attributes:
        open: connections now.
    """

    __slots__ = ("_by_client", "_is_trusted", "_most", "_most_per_client", "open")

    def __init__(self) -> None:
        self.open = 0
        self._by_client: dict[str, int] = {}
        self._most = 0
        self._most_per_client = 0
        self._is_trusted: Callable[[str], bool] | None = None

    def configure(
        self, most: int, most_per_client: int, is_trusted: Callable[[str], bool] | None = None
    ) -> None:
        """Put other limits in force.

        Args:
            most: connections in all; 0 is no limit.
            most_per_client: connections of one client; 0 is no limit.
            is_trusted: whether an address is a trusted proxy's.
        """
        self._most = most
        self._most_per_client = most_per_client
        self._is_trusted = is_trusted

    def take(self, ip: str) -> str:
        """Count a connection of `ip`, unless it is one too many: then the name of the limit, and nothing is counted."""
        if 0 < self._most <= self.open:
            reason = "max_connections"
        elif 0 < self._most_per_client <= self.of(ip) and self._is_client(ip):
            reason = "max_connections_per_client"
        else:
            reason = ""
            self.add(ip)
        return reason

    def add(self, ip: str) -> None:
        """Count a connection that is open already."""
        self.open += 1
        key = _client(ip)
        self._by_client[key] = self._by_client.get(key, 0) + 1

    def release(self, ip: str) -> None:
        """A connection that was counted has ended."""
        self.open -= 1
        key = _client(ip)
        left = self._by_client[key] - 1
        if left:
            self._by_client[key] = left
        else:
            del self._by_client[key]

    def of(self, ip: str) -> int:
        """How many connections a client has."""
        return self._by_client.get(_client(ip), 0)

    def _is_client(self, ip: str) -> bool:
        return bool(ip) and (self._is_trusted is None or not self._is_trusted(ip))


def _client(ip: str) -> str:
    return _network(ip) if ":" in ip else ip


@lru_cache(maxsize=4096)
def _network(ip: str) -> str:
    return str(IPv6Address(int(IPv6Address(ip)) & _NETWORK))
