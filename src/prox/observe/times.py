"""Time stamps of logs: RFC 3339, UTC, milliseconds."""

from __future__ import annotations

import time

# The text up to the second of the last stamp. One tuple, so that threads never see half of it.
_last = (0, "1970-01-01T00:00:00.")


def rfc3339(seconds: float) -> str:
    """`2025-03-01T12:00:00.123Z` for a time of `time.time()`; the text of a second is made once."""
    global _last  # noqa: PLW0603 - a cache of one entry
    whole = int(seconds)
    second, text = _last
    if whole != second:
        text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(whole))
        _last = (whole, text)
    return f"{text}{int((seconds - whole) * 1000):03d}Z"
