"""The TLS handshake of a client's connection: the step of the front door that ends with the connection's protocol."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Final, cast

from prox.http.arrival import Arrival, TurnedBackError
from prox.tls.failures import HTTP, Attempt, attempt
from prox.tls.store import Store

if TYPE_CHECKING:
    from prox.wire import ClientCertificate

DEADLINE: Final = "deadline_handshake"

_LAST_WORD = 1.0
"""Seconds in which a client whose handshake failed may read why."""

_FOREVER = 365 * 86400.0
"""The loop wants a number of seconds. How long closing may take is the connection's business, as without TLS."""

_REASONS = dict.fromkeys(HTTP, "tls_plain_http") | {
    "CERTIFICATE_VERIFY_FAILED": "tls_client_certificate",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "tls_client_certificate",
}


class TlsHandshake:
    """Makes TLS connections of arrivals.

    Args:
        store: the certificates, and what is asked of clients.
        seconds: how long a handshake may take; None: any time.
    """

    def __init__(self, store: Store, seconds: float | None) -> None:
        self._store = store
        self._seconds = _FOREVER if seconds is None else seconds

    async def __call__(self, arrival: Arrival) -> None:
        """Shake hands; afterwards the arrival is what ALPN chose.

        Raises:
            TurnedBackError: it failed.
        """
        trial = Attempt(lambda failure: arrival.within(_LAST_WORD, _reason(failure)))
        attempt.set(trial)
        first = _First(arrival, asks=self._store.policy.client_auth != "off")
        error: OSError | None = None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: first,
                arrival.take_socket(),
                ssl=self._store.context,
                ssl_handshake_timeout=self._seconds,
                ssl_shutdown_timeout=_FOREVER,
            )
        except OSError as failure:  # of TLS, resets and the deadline
            error = trial.failure or failure
        if arrival.over:
            return
        error = error or trial.failure or ConnectionResetError()
        raise TurnedBackError(_reason(error), _shown(error))


class _First(asyncio.Protocol):
    """The protocol until the handshake is done."""

    def __init__(self, arrival: Arrival, *, asks: bool) -> None:
        self._arrival = arrival
        self._asks = asks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol: it is done."""
        transport = cast("asyncio.Transport", transport)
        connection: ssl.SSLObject = transport.get_extra_info("ssl_object")
        shown = connection.getpeercert(binary_form=True) if self._asks else None
        client = self._arrival.client.secured(None if shown is None else _certificate(shown))
        protocol = self._arrival.secured(client, http2=connection.selected_alpn_protocol() == "h2")
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


def _certificate(der: bytes) -> ClientCertificate:
    from prox.tls.shown import shown_certificate

    return shown_certificate(der)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return _REASONS.get(error.reason, "tls_handshake")
    return DEADLINE if isinstance(error, ConnectionAbortedError) else "client_aborted"


def _shown(error: OSError) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    return f"TLS: {(reason or str(error) or 'the client went away').replace('_', ' ').lower()}"
