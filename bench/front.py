"""What a proxy listens for, the certificate that all of them show, and a client for it.

`bench.test` is the name in the certificate and in each ClientHello. One elliptic key, as sites have today: nothing here
measures handshakes, but a peer with another key would spend other memory.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from http.client import HTTPConnection
from socket import IPPROTO_TCP, TCP_NODELAY, create_connection
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

if TYPE_CHECKING:
    from pathlib import Path

NAME = "bench.test"


class Front(Enum):
    """How clients come in: in clear, over TLS that ends at the proxy, or over TLS that it passes on to the origin."""

    PLAIN = "plain"
    TLS = "tls"
    PASSED = "passed"

    @property
    def scheme(self) -> str:
        """Of the client's URL."""
        return "http" if self is Front.PLAIN else "https"


def write_certificate(folder: Path) -> Path:
    """Writes a certificate for `NAME` and its key into one PEM file, and gives its path."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "pair.pem"
    path.write_bytes(
        certificate.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return path


@cache
def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it checks what proxies do, not who they are
    return context


def connected(port: int, front: Front, timeout: float) -> HTTPConnection:
    """A client's connection to 127.0.0.1:`port`.

    Raises:
        OSError: there is none to be had, or its handshake failed.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    sock = create_connection(("127.0.0.1", port), timeout)
    sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    try:
        connection.sock = sock if front is Front.PLAIN else _context().wrap_socket(sock, server_hostname=NAME)
    except BaseException:
        sock.close()
        raise
    return connection
