"""Durations as people write them: `"5s"`, `"1m30s"`, `"100ms"`, or numbers of seconds.

The strings are those of Go's `time.ParseDuration` without a sign, because existing configurations hold them.
"""

from __future__ import annotations

import math
import re

from .invalid import InvalidError

# Go's largest duration; what is longer is a mistake, and timers could not hold it.
MAX_SECONDS = 9_223_372_036.0

_UNITS = {
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "ns": 1e-9,
}
_PART = re.compile(f"(\\d+\\.?\\d*|\\.\\d+)({'|'.join(sorted(_UNITS, key=len, reverse=True))})", re.ASCII)
PATTERN = r"^(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ms|us|\u00b5s|\u03bcs|ns|h|m|s))+)$"
"""The strings that `parse_duration` takes, but for the upper limit: for the JSON Schema."""

_FORM = 'write "5s", "1m30s", "100ms" or a number of seconds'


def parse_duration(value: object) -> float:
    """Seconds; raises `InvalidError` for what is no duration, is negative, or is longer than 292 years."""
    if isinstance(value, str):
        seconds = _parse_text(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) and math.isnan(value):
            raise InvalidError("must be a duration, and this is not a number", _FORM)
        seconds = float(max(-1, min(value, MAX_SECONDS * 2)))  # an int may be too large for a float
    else:
        raise InvalidError("must be a duration", _FORM)
    if seconds < 0:
        raise InvalidError("a duration can't be negative")
    if seconds > MAX_SECONDS:
        raise InvalidError("the duration is too long", "292 years are the most")
    return seconds


def _parse_text(text: str) -> float:
    if text.startswith("-") and _PART.match(text, 1):
        raise InvalidError("a duration can't be negative")
    if text == "0":
        return 0.0
    seconds, at = 0.0, 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            break
        seconds += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    if at == 0 or at < len(text):
        plain = re.fullmatch(r"\d+\.?\d*", text, re.ASCII)
        raise InvalidError(f'"{text}" is no duration', f'did you mean "{text}s"?' if plain else _FORM)
    return seconds
