"""What went wrong with an upstream, in the tokens of the access log."""

from __future__ import annotations

from typing import Final

_STATUS: Final = {"upstream_timeout": 504, "connect_timeout": 504, "no_target": 503, "plugin_fallback": 503}


class UpstreamError(Exception):
    """An exchange with an upstream failed.

    Attributes:
        kind: one token: connect_refused, connect_timeout, unresolvable, upstream_closed, upstream_reset, upstream_timeout,
            upstream_truncated, malformed, client_aborted, stopped, no_target, plugin_fallback, bad_upstream.
        stale: a connection that had been used before ended without a byte of an answer: the request was not processed.
        status: what the client is answered when nothing was yet (RFC 9110 sections 15.6.3 and 15.6.5).
    """

    def __init__(self, kind: str, message: str, *, stale: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.stale = stale
        self.status = _STATUS.get(kind, 502)
