"""Durations in buckets."""

from __future__ import annotations

import pytest

from prox.observe.histogram import CALL_BOUNDS, Histogram


def test_each_value_falls_into_the_bucket_whose_bound_it_does_not_pass() -> None:
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.0, 0.1, 0.11, 1.0, 1.01, 60.0):
        histogram.observe(seconds)
    assert histogram.counts == [2, 2, 2]
    assert histogram.count == 6
    assert histogram.sum == pytest.approx(62.22)


def test_they_are_added() -> None:
    one, other = Histogram((0.1,)), Histogram((0.1,))
    one.observe(0.05)
    other.observe(0.05)
    other.observe(5.0)
    one.add(other)
    assert (one.counts, one.count) == ([2, 1], 3)
    assert one.sum == pytest.approx(5.1)
    with pytest.raises(ValueError, match="different bounds"):
        one.add(Histogram())


def test_the_bounds_for_calls_rise() -> None:
    assert list(CALL_BOUNDS) == sorted(set(CALL_BOUNDS))
    assert len(Histogram().counts) == len(CALL_BOUNDS) + 1
