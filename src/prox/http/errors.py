"""What went wrong with an upstream, in the tokens of the access log."""

from __future__ import annotations

from typing import Final

_STATUS: Final = {
    "upstream_timeout": 504,
    "connect_timeout": 504,
    "tls_timeout": 504,
    "no_target": 503,
    "no_healthy_target": 503,
    "no_descriptors": 503,
    "queue_full": 503,
    "queue_timeout": 503,
    "plugin_fallback": 503,
}


class UpstreamError(Exception):
    """An exchange with an upstream failed.

    Attributes:
        kind: one token: connect_refused, connect_timeout, unresolvable, tls_untrusted, tls_failed, tls_timeout,
            upstream_closed, upstream_refused, upstream_reset, upstream_timeout, upstream_truncated, malformed, header_size,
            client_aborted, stopped, no_target, no_healthy_target, no_descriptors, queue_full, queue_timeout,
            plugin_fallback, bad_upstream.
        stale: a connection that had been used before ended without a byte of an answer: the request was hardly processed.
        unprocessed: the upstream has said that it has done nothing for the request (RFC 9113 section 8.7).
        status: what the client is answered when nothing was yet (RFC 9110 sections 15.6.3 and 15.6.5).
        retry_after: seconds after which it may be otherwise; None where nobody knows.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        stale: bool = False,
        unprocessed: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.stale = stale
        self.unprocessed = unprocessed
        self.retry_after = retry_after
        self.status = _STATUS.get(kind, 502)
