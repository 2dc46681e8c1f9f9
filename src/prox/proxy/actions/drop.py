"""Close the connection without an answer."""

from __future__ import annotations

from prox.http.errors import UpstreamError
from prox.proxy.route import Action, Routed


class DropAction:
    """Serves nothing."""

    fallback: Action | None = None

    async def serve(self, routed: Routed) -> UpstreamError | None:
        """See Action."""
        routed.exchange.reason = "dropped"
        routed.exchange.drop()
        return None
