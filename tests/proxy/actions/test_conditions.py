from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.proxy.actions.conditions import Validators, parse_date, precondition, range_holds

MODIFIED = 1_700_000_000
NOW = MODIFIED + 1_000_000
CURRENT = Validators(b'"abc"', MODIFIED)


def date(seconds: int) -> bytes:
    return formatdate(MODIFIED + seconds, usegmt=True).encode()


BEFORE, SAME, AFTER = date(-1), date(0), date(1)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        # If-Match: strong comparison (section 13.1.1)
        ({b"if-match": b'"abc"'}, 200),
        ({b"if-match": b"*"}, 200),
        ({b"if-match": b'"x", "abc"'}, 200),
        ({b"if-match": b'"x"'}, 412),
        ({b"if-match": b'W/"abc"'}, 412),
        ({b"if-match": b"abc"}, 412),
        ({b"if-match": b""}, 412),
        # If-None-Match: weak comparison (section 13.1.2)
        ({b"if-none-match": b'"abc"'}, 304),
        ({b"if-none-match": b'W/"abc"'}, 304),
        ({b"if-none-match": b" * "}, 304),
        ({b"if-none-match": b',"x" ,\tW/"y",, "abc",'}, 304),
        ({b"if-none-match": b'"x"'}, 200),
        ({b"if-none-match": b'"ABC"'}, 200),
        ({b"if-none-match": b'"x, \\"abc\\""'}, 200),
        ({b"if-none-match": b'"x,"abc"'}, 200),
        ({b"if-none-match": b'w/"abc"'}, 200),
        ({b"if-none-match": b'"x" "abc"'}, 200),
        ({b"if-none-match": b'*, "abc"'}, 200),
        # If-Modified-Since (section 13.1.3)
        ({b"if-modified-since": SAME}, 304),
        ({b"if-modified-since": AFTER}, 304),
        ({b"if-modified-since": BEFORE}, 200),
        ({b"if-modified-since": b"yesterday"}, 200),
        ({b"if-modified-since": SAME + b", " + SAME}, 200),
        # If-Unmodified-Since (section 13.1.4)
        ({b"if-unmodified-since": SAME}, 200),
        ({b"if-unmodified-since": AFTER}, 200),
        ({b"if-unmodified-since": BEFORE}, 412),
        ({b"if-unmodified-since": b"1"}, 200),
        # Precedence (section 13.2.2)
        ({b"if-none-match": b'"x"', b"if-modified-since": SAME}, 200),
        ({b"if-none-match": b'"abc"', b"if-modified-since": BEFORE}, 304),
        ({b"if-match": b'"abc"', b"if-unmodified-since": BEFORE}, 200),
        ({b"if-match": b'"x"', b"if-none-match": b'"abc"'}, 412),
        ({b"if-match": b'"abc"', b"if-none-match": b'"abc"'}, 304),
        ({b"if-unmodified-since": BEFORE, b"if-modified-since": SAME}, 412),
    ],
)
def test_precondition(headers: dict[bytes, bytes], status: int) -> None:
    assert precondition(headers, CURRENT, NOW) == status


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        (None, True),
        (b'"abc"', True),
        (b'W/"abc"', False),
        (b'"x"', False),
        (b'"abc", "x"', False),
        (b"abc", False),
        (b"", False),
        (b"*", False),
        (SAME, True),
        (BEFORE, False),
        (AFTER, False),
    ],
)
def test_range_holds(value: bytes | None, holds: bool) -> None:
    headers = {} if value is None else {b"if-range": value}
    assert range_holds(headers, CURRENT, NOW) is holds


def test_a_weak_tag_of_our_own_never_continues_a_download() -> None:
    assert not range_holds({b"if-range": b'W/"abc"'}, Validators(b'"abc"', 0), NOW)


@pytest.mark.parametrize(
    "text",
    [b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"],
)
def test_the_three_forms_of_a_date(text: bytes) -> None:
    assert parse_date(text, NOW) == 784111777
    assert parse_date(b" " + text + b"\t", NOW) == 784111777


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"0",
        b"784111777",
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 08:49:37 +0000",
        b"sun, 06 nov 1994 08:49:37 gmt",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 00 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 24:00:00 GMT",
        b"Sun, 06 Nov 1994 08:60:37 GMT",
        b"Sun, 06 Nov 1994 08:49:61 GMT",
        b"Sun, 06 Nov 0000 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMTx",
    ],
)
def test_no_dates(text: bytes) -> None:
    assert parse_date(text, NOW) is None


def test_two_digits_are_never_more_than_50_years_ahead() -> None:
    now = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
    years = {76: 2076, 77: 1977, 99: 1999, 0: 2000, 26: 2026}
    for digits, year in years.items():
        seconds = parse_date(b"Sunday, 06-Nov-%02d 08:49:37 GMT" % digits, now)
        assert seconds is not None
        assert datetime.fromtimestamp(seconds, UTC).year == year


@given(st.integers(0, 2**37))
def test_what_last_modified_says_is_read_back(seconds: int) -> None:
    assert parse_date(formatdate(seconds, usegmt=True).encode(), NOW) == seconds


@given(st.binary())
def test_any_bytes_are_a_date_or_none(value: bytes) -> None:
    parse_date(value, NOW)
    precondition({b"if-none-match": value, b"if-modified-since": value}, CURRENT, NOW)
