"""What prox announces to a client of HTTP/2, and holds it to."""

from __future__ import annotations

from typing import Final

from prox.http.codec.h2.settings import LocalSettings
from prox.http.limits import Limits

MAX_STREAMS: Final = 100
"""Requests of one connection that are served at a time; one more is refused, and the client may try it again."""

STREAM_WINDOW: Final = 256 * 1024
"""Bytes of a request's body that a client may send ahead of its reader: what one read of HTTP/1.1 may bring."""


def local_settings(limits: Limits) -> LocalSettings:
    """What prox announces to a client: its limits, and a window for each stream that the others do not share."""
    return LocalSettings(
        max_concurrent_streams=MAX_STREAMS,
        # The RFC counts 32 bytes more for each field; what is above the limit by our own count is answered with its name.
        max_header_list_size=limits.max_header_bytes + 32 * (limits.max_header_count + 8),
        stream_window=STREAM_WINDOW,
        connection_window=MAX_STREAMS * STREAM_WINDOW,
        connect_protocol=True,
    )
