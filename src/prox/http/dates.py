"""The Date header, made once a second (RFC 9110 section 5.6.7)."""

from __future__ import annotations

import time
from email.utils import formatdate

_made_at = 0
_made = b""


def dated(plain: bytes) -> bytes:
    """The lines of an answer, with a Date where the upstream left it out: RFC 9110 section 6.6.1."""
    return plain if b"\r\ndate:" in plain.lower() else b"%b\r\nDate: %b" % (plain, http_date())


def http_date() -> bytes:
    """Now, as an IMF-fixdate."""
    global _made, _made_at  # noqa: PLW0603 - a cache of one value for the process
    now = int(time.time())
    if now != _made_at:
        _made_at = now
        _made = formatdate(now, usegmt=True).encode()
    return _made
