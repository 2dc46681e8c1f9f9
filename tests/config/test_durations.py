from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.config.durations import MAX_SECONDS, PATTERN, parse_duration
from prox.config.invalid import InvalidError

UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "\u00b5s": 1e-6, "ns": 1e-9}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5s", 5.0),
        ("1m30s", 90.0),
        ("100ms", 0.1),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("0", 0.0),
        ("0s", 0.0),
        ("2us", 2e-6),
        ("2\u00b5s", 2e-6),
        ("2ns", 2e-9),
        (3, 3.0),
        (0.25, 0.25),
    ],
)
def test_durations(value: object, seconds: float) -> None:
    assert parse_duration(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ("5", "no duration", 'did you mean "5s"?'),
        ("", "no duration", "write"),
        ("s", "no duration", "write"),
        ("5 s", "no duration", "write"),
        ("5sec", "no duration", "write"),
        ("five", "no duration", "write"),
        ("\uff15s", "no duration", "write"),
        ("-5s", "negative", ""),
        (-1, "negative", ""),
        (math.nan, "not a number", "write"),
        (math.inf, "too long", ""),
        (10**400, "too long", ""),
        (-(10**400), "negative", ""),
        ("9999999999999h", "too long", ""),
        (True, "must be a duration", "write"),
        (None, "must be a duration", "write"),
        ([], "must be a duration", "write"),
    ],
)
def test_bad_durations_say_why(value: object, message: str, hint: str) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_duration(value)
    assert message in caught.value.message
    assert hint in caught.value.hint


@given(st.lists(st.tuples(st.integers(0, 1000), st.sampled_from(sorted(UNITS))), min_size=1, max_size=5))
def test_parts_add_up(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert parse_duration(text) == pytest.approx(sum(number * UNITS[unit] for number, unit in parts))


@given(st.text(alphabet="0123456789.hmsu\u00b5n -+e", max_size=8))
def test_the_schemas_pattern_accepts_what_is_parsed(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except InvalidError as refusal:
        too_long = "too long" in str(refusal)  # the pattern knows no upper limit
        assert too_long or re.search(PATTERN, text) is None
    else:
        assert 0 <= seconds <= MAX_SECONDS
        assert re.search(PATTERN, text)
