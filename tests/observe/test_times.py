from __future__ import annotations

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from prox.observe.times import rfc3339


@given(st.lists(st.floats(0, 4e9), max_size=5))
def test_agrees_with_datetime(times: list[float]) -> None:
    for seconds in times:
        shown = rfc3339(seconds)
        assert len(shown) == 24
        read = dt.datetime.fromisoformat(shown).timestamp()
        assert -1e-6 <= seconds - read < 0.001001


def test_known() -> None:
    assert rfc3339(0.0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1740830400.5) == "2025-03-01T12:00:00.500Z"
    assert rfc3339(1740830400.75) == "2025-03-01T12:00:00.750Z"
