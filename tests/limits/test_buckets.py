"""Token buckets: never more than rate x time + burst, never less while there is something to pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.limits import MBPS, Bucket

rates = st.one_of(st.just(0.1 * MBPS), st.floats(0.001 * MBPS, 1000 * MBPS))
steps = st.lists(
    st.tuples(st.floats(0, 0.5), st.integers(1, 1 << 20), st.none() | rates), min_size=1, max_size=60
)


@given(rates, steps)
def test_no_window_has_more_than_rate_times_time_and_a_burst(
    rate: float, steps: list[tuple[float, int, float | None]]
) -> None:
    now = 50.0
    bucket = Bucket(rate, now)
    passed: list[tuple[float, int]] = []  # when, how much
    fastest, burst = rate, bucket.burst
    for wait, size, new_rate in steps:
        now += wait
        if new_rate is not None:
            bucket.set_rate(new_rate, now)
            fastest, burst = max(fastest, new_rate), max(burst, bucket.burst)
        taken = min(size, int(bucket.level(now)))
        bucket.take(taken)
        passed.append((now, taken))
    for first, (begin, _) in enumerate(passed):
        total = 0.0
        for end, amount in passed[first:]:
            total += amount
            assert total <= fastest * (end - begin) + burst + 1e-3


@given(rates, st.floats(1, 1 << 20))
def test_after_the_wait_there_is_as_much_as_was_waited_for(rate: float, size: float) -> None:
    bucket = Bucket(rate, 10.0)
    bucket.take(int(bucket.level(10.0)))
    wait = bucket.wait(size, 10.0)
    assert wait <= 0.07 or rate < 0.1 * MBPS  # never longer than until it is full
    assert bucket.level(10.0 + wait) >= min(size, bucket.burst) - 1e-3
    assert bucket.wait(size, 10.0 + wait + 1e-6) == 0


@pytest.mark.parametrize("mbps", [0.1, 1, 50, 500])
def test_the_burst_is_small_beside_two_seconds(mbps: float) -> None:
    bucket = Bucket(mbps * MBPS, 0.0)
    assert bucket.burst <= 0.05 * 2 * mbps * MBPS
    assert bucket.burst >= 0.04 * mbps * MBPS  # a timer that is 40 ms late costs nothing


def test_changing_the_rate() -> None:
    bucket = Bucket(1000.0 * 100, -1.0)
    assert bucket.level(-1.0) == 512
    assert bucket.level(0.0) == pytest.approx(6000)
    bucket.take(6000)
    assert bucket.level(0.01) == pytest.approx(1000)
    bucket.set_rate(1000.0 * 10, 0.02)  # filled at the old rate until now, but it holds less
    assert bucket.level(0.02) == bucket.burst == pytest.approx(600)
    bucket.take(600)
    assert bucket.level(0.05) == pytest.approx(300)
    bucket.set_rate(0, 0.05)
    assert bucket.level(0.05) == float("inf")
    bucket.take(1 << 40)
    assert bucket.is_new(0.05)
    bucket.set_rate(1000.0 * 10, 1.0)
    assert bucket.level(1.0) == 512  # as a new one, and no more


def test_what_is_given_back_never_fills_beyond_the_burst() -> None:
    bucket = Bucket(100_000.0, 0.0)
    bucket.take(1000)
    assert not bucket.is_new(0.0)
    bucket.give_back(500)
    assert not bucket.is_new(0.0)
    bucket.give_back(50_000)
    assert bucket.level(0.0) == bucket.burst
    assert bucket.is_new(0.0)
