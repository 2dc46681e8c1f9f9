"""What went wrong with an upstream, in the tokens of the access log."""

from __future__ import annotations

_TOO_LATE = frozenset({"upstream_timeout", "connect_timeout"})


class UpstreamError(Exception):
    """An exchange with an upstream failed.

    Attributes:
        kind: one token: connect_refused, connect_timeout, unresolvable, upstream_closed, upstream_reset, upstream_timeout,
            upstream_truncated, malformed, client_aborted, stopped.
        stale: a connection that had been used before ended without a byte of an answer: the request was not processed.
        status: what the client is answered when nothing was yet (RFC 9110 sections 15.6.3 and 15.6.5).
    """

    def __init__(self, kind: str, message: str, *, stale: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.stale = stale
        self.status = 504 if kind in _TOO_LATE else 502
