"""TLS to upstreams: whom to expect, how long a handshake may take, and the session that spares the next one a part of it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from .errors import UpstreamError

_FOREVER = 10.0 * 365 * 86400
"""Seconds; the loop wants a number."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How an upstream is reached by TLS.

    Attributes:
        context: whom to trust, what to present and which protocols to offer; the same object means the same settings.
        server_name: in SNI and in the certificate, where it is not the upstream's host.
        handshake_timeout: seconds from the TCP connection to the end of the handshake, None for no limit.
    """

    context: ssl.SSLContext
    server_name: str | None = None
    handshake_timeout: float | None = 10.0


class Session:
    """What is remembered of an origin's last handshake.

    In TLS 1.3 tickets come after the handshake, so it is kept when the first answer of a connection has come.
    """

    def __init__(self) -> None:
        self._session: ssl.SSLSession | None = None

    def keep(self, connection: ssl.SSLObject) -> None:
        """Remember the session of a connection that has answered."""
        session = connection.session
        if session is not None and (session.has_ticket or session.id):
            self._session = session

    def get(self) -> ssl.SSLSession | None:
        """The session to offer."""
        return self._session

    def forget(self) -> None:
        """A handshake has failed: the next one is a whole one."""
        self._session = None


class Handshake:
    """Stands for the context of one connection, since the loop passes no session on.

    Args:
        settings: of the origin.
        session: of the origin.
        begun: is called when the TCP connection stands.
    """

    def __init__(self, settings: TlsSettings, session: Session, begun: Callable[[], None]) -> None:
        self._context = settings.context
        self._session = session
        self._begun = begun
        self.timeout = _FOREVER if settings.handshake_timeout is None else settings.handshake_timeout

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: ARG002 - always a client
        server_hostname: str | None = None,
    ) -> ssl.SSLObject:
        """See ssl.SSLContext."""
        self._begun()
        return self._context.wrap_bio(
            incoming, outgoing, server_hostname=server_hostname, session=self._session.get()
        )


def handshake_error(error: OSError, address: str) -> UpstreamError:
    """What to say of a handshake that failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return UpstreamError("tls_untrusted", f"{address}: {error.verify_message or error}")
    if isinstance(error, ssl.SSLError):
        return UpstreamError("tls_failed", f"{address}: {reason_of(error)}")
    if isinstance(error, ConnectionAbortedError):
        return UpstreamError("tls_timeout", f"{address}: no TLS handshake within tls_handshake_timeout")
    return UpstreamError("tls_failed", f"{address}: the connection ended during the TLS handshake")


def reason_of(error: ssl.SSLError) -> str:
    """OpenSSL's words for what went wrong, as a person may read them."""
    reason = error.reason or ""
    if reason in _HINTS:
        return _HINTS[reason]
    return f"TLS failed: {reason.replace('_', ' ').lower()}" if reason else f"TLS failed: {error}"


_HINTS = {
    "WRONG_VERSION_NUMBER": "what answers there does not speak TLS",
    "HTTP_REQUEST": "what answers there does not speak TLS",
    "PACKET_LENGTH_TOO_LONG": "what answers there does not speak TLS",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the upstream asks for a client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the upstream does not trust the client certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the upstream refuses the client certificate",
}
