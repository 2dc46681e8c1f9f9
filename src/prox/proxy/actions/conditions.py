"""Conditional requests: whether a client's copy is still good (RFC 9110 section 13).

Pure: the request's headers, the file's validators and the time come in, a status goes out.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Mapping
from typing import NamedTuple

NAMES = frozenset(
    {b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since", b"range"}
)
"""The headers that are looked at, folded."""

_TAG = rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAG_PATTERN = re.compile(_TAG)
_TAG_LIST = re.compile(rb"[ \t,]*" + _TAG + rb"(?:[ \t]*,[ \t,]*" + _TAG + rb")*[ \t,]*")

_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_MONTH = b"(?P<month>" + b"|".join(_MONTHS) + b")"
_TIME = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DAY = rb"(?P<day>[0-9]{2})"
_DATES = (
    re.compile(
        rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), "
        + _DAY
        + b" "
        + _MONTH
        + rb" (?P<year>[0-9]{4}) "
        + _TIME
        + b" GMT"
    ),
    re.compile(
        rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, "
        + _DAY
        + b"-"
        + _MONTH
        + rb"-(?P<year>[0-9]{2}) "
        + _TIME
        + b" GMT"
    ),
    re.compile(
        rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) "
        + _MONTH
        + rb" (?P<day>[0-9]{2}| [0-9]) "
        + _TIME
        + rb" (?P<year>[0-9]{4})"
    ),
)
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class Validators(NamedTuple):
    """What tells one version of a file from another."""

    etag: bytes
    """A strong entity tag, with its quotes."""
    modified: int
    """Unix time of the last change, as Last-Modified says it."""


def precondition(headers: Mapping[bytes, bytes], current: Validators, now: float) -> int:
    """412 or 304 where a precondition of a GET or HEAD says so, else 200 (section 13.2.2).

    Args:
        headers: by folded name, several of one name joined by commas.
        current: the file's.
        now: Unix time, to read dates with two digits for the year.
    """
    if_match = headers.get(b"if-match")
    if if_match is not None:
        if not _matches(if_match, current.etag, weak=False):
            return 412
    elif b"if-unmodified-since" in headers:
        since = parse_date(headers[b"if-unmodified-since"], now)
        if since is not None and current.modified > since:
            return 412
    if_none_match = headers.get(b"if-none-match")
    if if_none_match is not None:
        if _matches(if_none_match, current.etag, weak=True):
            return 304
    elif b"if-modified-since" in headers:
        since = parse_date(headers[b"if-modified-since"], now)
        if since is not None and current.modified <= since:
            return 304
    return 200


def range_holds(headers: Mapping[bytes, bytes], current: Validators, now: float) -> bool:
    """Whether If-Range, if any, lets the Range apply: the client has a part of this very version (section 13.1.5)."""
    if_range = headers.get(b"if-range")
    if if_range is None:
        return True
    if_range = if_range.strip(b" \t")
    if if_range[:1] == b'"' or if_range[:2] == b"W/":
        return if_range == current.etag
    return parse_date(if_range, now) == current.modified


def _matches(value: bytes, etag: bytes, *, weak: bool) -> bool:
    """Whether the list holds the tag or is `*`; a malformed one holds nothing (section 8.8.3.2)."""
    if value.strip(b" \t") == b"*":
        return True
    if _TAG_LIST.fullmatch(value) is None:
        return False
    tags = _TAG_PATTERN.findall(value)
    if weak:
        tags = [tag.removeprefix(b"W/") for tag in tags]
    return etag in tags


def parse_date(value: bytes, now: float) -> int | None:
    """Unix time of an HTTP-date in any of its three forms, None for anything else (section 5.6.7)."""
    value = value.strip(b" \t")
    for pattern in _DATES:
        match = pattern.fullmatch(value)
        if match is not None:
            break
    else:
        return None
    month = _MONTHS.index(match["month"]) + 1
    day, hour, minute, second = (int(match[part]) for part in ("day", "hour", "minute", "second"))
    if not 1 <= day <= _DAYS[month - 1] or hour > 23 or minute > 59 or second > 60:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        this_year = 1970 + int(now // 31556952)
        year += this_year - this_year % 100
        if year > this_year + 50:
            year -= 100
    return timegm((year, month, day, hour, minute, second)) if year >= 1900 else None
