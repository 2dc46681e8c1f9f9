"""Durations counted in fixed buckets: an addition to one counter, whatever the number of values."""

from __future__ import annotations

from bisect import bisect_left

CALL_BOUNDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01),
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Upper bounds in seconds for calls between processes of one machine."""


class Histogram:
    """A count for each bucket, and the sum.

    Args:
        bounds: the buckets' upper bounds in seconds, inclusive and rising; above the last there is one more bucket.

    Attributes:
        counts: values by bucket, not cumulative.
        sum: of all values, in seconds.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = CALL_BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def observe(self, seconds: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def add(self, other: Histogram) -> None:
        """Add the values of another with the same bounds.

        Raises:
            ValueError: its bounds are others.
        """
        if other.bounds != self.bounds:
            raise ValueError("histograms with different bounds can't be added")
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum
