"""Figures of the data plane: plain objects that cost an addition, read by who exposes them.

A service has one `Counters` in each worker; `add` sums those of the workers.
"""

from __future__ import annotations

from typing import Final

from .histogram import Histogram

BOUNDS: Final[tuple[float, ...]] = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""Upper bounds in seconds for whole requests."""


class Counters:
    """Requests by class of status, what was out of the ordinary, connections, body bytes, failures of upstreams, latency."""

    __slots__ = (
        "active",
        "bytes_in",
        "bytes_out",
        "connections",
        "ends",
        "latency",
        "passed",
        "statuses",
        "upstream_faults",
    )

    def __init__(self) -> None:
        self.active = 0
        """Client connections open now."""
        self.connections = 0
        """Client connections accepted."""
        self.statuses = [0] * 6
        """Requests by first digit of their status; at 0 those that were dropped without an answer."""
        self.passed = 0
        """TLS connections that a `pass` route took, and that have ended."""
        self.bytes_in = 0
        """Body bytes from clients, and all bytes of connections that were passed on."""
        self.bytes_out = 0
        """The same to clients."""
        self.ends: dict[str, int] = {}
        """Requests and connections that ended otherwise than asked, by the access log's token: what limits did, too."""
        self.upstream_faults: dict[str, int] = {}
        self.latency = Histogram(BOUNDS)
        """Durations of requests."""

    @property
    def requests(self) -> int:
        """Requests that ended."""
        return sum(self.statuses)

    def opened(self) -> None:
        """A client connected."""
        self.active += 1
        self.connections += 1

    def closed(self) -> None:
        """A client's connection ended."""
        self.active -= 1

    def request(self, status: int, seconds: float, bytes_in: int, bytes_out: int) -> None:
        """A request ended.

        Args:
            status: the one sent, from 100 to 599, or 0 for none.
            seconds: from the end of its head to the end of its answer.
            bytes_in: body bytes from the client.
            bytes_out: body bytes to the client.
        """
        self.statuses[status // 100] += 1
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        self.latency.observe(seconds)

    def passed_on(self, bytes_in: int, bytes_out: int) -> None:
        """A TLS connection that a `pass` route took has ended."""
        self.passed += 1
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out

    def ended(self, reason: str) -> None:
        """A request or a connection ended otherwise than asked, for the `reason` that the access log says."""
        self.ends[reason] = self.ends.get(reason, 0) + 1

    def upstream_failed(self, kind: str) -> None:
        """An upstream failed, in the way that the access log's token `kind` says."""
        self.upstream_faults[kind] = self.upstream_faults.get(kind, 0) + 1

    def add(self, other: Counters) -> None:
        """Add the figures of another."""
        self.active += other.active
        self.connections += other.connections
        self.passed += other.passed
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.statuses = [mine + its for mine, its in zip(self.statuses, other.statuses, strict=True)]
        self.latency.add(other.latency)
        for reason, count in other.ends.items():
            self.ends[reason] = self.ends.get(reason, 0) + count
        for fault, count in other.upstream_faults.items():
            self.upstream_faults[fault] = self.upstream_faults.get(fault, 0) + count
