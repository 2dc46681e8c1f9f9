"""What a service asks of TLS, and the contexts of OpenSSL's that hold it.

Modern by default: TLS 1.2 with ECDHE and AEAD alone, or 1.3 with its own suites. Renegotiation, compression and early data
are off. What a client is allowed comes from the context that its handshake began with; certificate, authorities and ALPN
from the one that its server name chose, so both are made alike.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from typing import Final, Literal

from .failures import HandshakeObject, ServerContext
from .pairs import Pair

CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
"""Suites of TLS 1.2. All are good, so the client chooses: it knows whether it has AES in hardware."""

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True)
class Policy:
    """What a service asks of TLS.

    Attributes:
        min_version: the oldest version, "1.2" or "1.3".
        ciphers: suites for TLS 1.2 in OpenSSL's names; none: `CIPHERS`.
        client_auth: whether clients are asked for a certificate, and whether they need one.
        client_ca: the authorities that sign those, in PEM; empty where none are asked for.
        protocols: what is offered by ALPN, best first.
    """

    min_version: str = "1.2"
    ciphers: tuple[str, ...] = ()
    client_auth: Literal["off", "request", "require"] = "off"
    client_ca: str = ""
    protocols: tuple[str, ...] = ("http/1.1",)

    def context(self, pair: Pair | None = None) -> ServerContext:
        """A context under this policy, with a certificate or without.

        Raises:
            ssl.SSLError: OpenSSL does not take the ciphers, the authorities or the pair.
        """
        context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
        context.sslobject_class = HandshakeObject
        context.minimum_version = _VERSIONS[self.min_version]
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_ciphers(":".join(self.ciphers or CIPHERS))
        context.set_alpn_protocols(list(self.protocols))
        if self.client_auth != "off":
            context.verify_mode = ssl.CERT_REQUIRED if self.client_auth == "require" else ssl.CERT_OPTIONAL
            context.load_verify_locations(cadata=self.client_ca)
        if pair is not None:
            _load(context, pair)
        return context


def _load(context: ssl.SSLContext, pair: Pair) -> None:
    """Give a context its pair. OpenSSL reads files alone here: the kernel holds one in memory, as it was checked."""
    file = os.memfd_create("prox-certificate", os.MFD_CLOEXEC)
    try:
        with open(file, "wb", closefd=False) as memory:
            memory.write(pair.key + pair.chain)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
