"""A target: an address, its parts, and how many connections prox has open to it.

A target object lives as long as a list names it or a connection to it is open. So a connection is always
counted down at the object that it was counted up at, and an address that was taken off and put back in the
meantime finds its count again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prox.config.addresses import SCHEMES, check_target, split_host_port

if TYPE_CHECKING:
    from prox.balancing.health import HealthBook
    from prox.balancing.leastconn import LeastConn


class Target:
    """One address of a balancer.

    Args:
        address: what was configured or pushed.
        book: what is known of it.

    Raises:
        prox.config.invalid.InvalidError: (a ValueError) the address is malformed.
    """

    __slots__ = ("__weakref__", "address", "book", "host", "open", "port", "watchers")

    def __init__(self, address: str, book: HealthBook) -> None:
        self.book = book
        self.address = check_target(address)
        """As it was configured or pushed: what `{target}` stands for."""
        scheme, separator, rest = address.partition("://")
        self.host, port = split_host_port(rest if separator else address)
        self.port = port or (SCHEMES[scheme] if separator else 0)
        """0 where the address leaves it to the upstream's template."""
        self.open = 0
        """Connections picked and not yet released."""
        self.watchers: tuple[LeastConn, ...] = ()
        """Lists that keep their targets ordered by `open`."""

    def take(self) -> None:
        """Count one connection up. `Balancer.pick` does it."""
        self.open += 1
        for watcher in self.watchers:
            watcher.moved(self, self.open - 1)

    def release(self) -> None:
        """Count one connection down: once for each pick, when the connection has ended or was not made."""
        self.open -= 1
        for watcher in self.watchers:
            watcher.moved(self, self.open + 1)
        if self.book.failing:
            self.book.ended(self.address)

    def failed(self, now: float) -> None:
        """No connection to it could be made."""
        self.book.failed(self.address, now)

    def reached(self) -> None:
        """A connection to it was made, or there was one."""
        if self.book.failing:
            self.book.reached(self.address)

    def __repr__(self) -> str:
        return f"Target({self.address!r}, open={self.open})"
