from __future__ import annotations

import pytest

from prox.plugin import Delays
from prox.plugin.backoff import Backoff


def test_waits_double_up_to_thirty_seconds() -> None:
    backoff = Backoff(Delays(), lambda: 0.5)
    assert [backoff.after(0) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_only_a_life_of_ten_seconds_sets_them_back() -> None:
    backoff = Backoff(Delays(), lambda: 0.5)
    assert [backoff.after(9.9) for _ in range(4)] == [1, 2, 4, 8]
    assert backoff.after(10) == 1
    assert backoff.after(0) == 2


@pytest.mark.parametrize(("random", "wait"), [(0.0, 0.8), (1.0, 1.2)])
def test_jitter_is_a_fifth_either_way(random: float, wait: float) -> None:
    assert Backoff(Delays(), lambda: random).after(0) == pytest.approx(wait)


def test_a_crash_loop_of_years_does_not_overflow() -> None:
    backoff = Backoff(Delays(), lambda: 0.5)
    assert {backoff.after(0) for _ in range(5000)} == {1, 2, 4, 8, 16, 30}
