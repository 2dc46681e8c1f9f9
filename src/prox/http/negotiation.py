"""Which protocol a TLS connection to an upstream speaks: the server has chosen when the handshake ends (RFC 7301)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from .errors import UpstreamError

if TYPE_CHECKING:
    from .h2.shared import SharedConnection
    from .upstream import UpstreamConnection

NEVER: Final = "never"
OFFERED: Final = "offered"
ALWAYS: Final = "always"
"""Values of `OriginSettings.http2`."""

PROTOCOLS: Final = {NEVER: ("http/1.1",), OFFERED: ("h2", "http/1.1"), ALWAYS: ("h2",)}
"""What ALPN offers."""


class Negotiation(asyncio.Protocol):
    """Gives the transport to the connection that fits.

    Args:
        one: makes an HTTP/1.1 connection; None where there may be none.
        two: makes an HTTP/2 connection.

    Attributes:
        chosen: the connection, or why there is none.
    """

    def __init__(
        self, one: Callable[[], UpstreamConnection] | None, two: Callable[[], SharedConnection]
    ) -> None:
        self._one = one
        self._two = two
        self.chosen: UpstreamConnection | SharedConnection | UpstreamError = UpstreamError(
            "tls_failed", "the upstream offers no HTTP/2 (ALPN)"
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            self._give(self._two(), transport)
        elif self._one is not None:
            self._give(self._one(), transport)
        else:
            cast("asyncio.Transport", transport).abort()

    def _give(
        self, connection: UpstreamConnection | SharedConnection, transport: asyncio.BaseTransport
    ) -> None:
        self.chosen = connection
        transport.set_protocol(cast("asyncio.Protocol", connection))
        connection.connection_made(transport)
