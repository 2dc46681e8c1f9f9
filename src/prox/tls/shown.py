"""What is known of a certificate that a client showed, and that was verified in the handshake."""

from __future__ import annotations

import hashlib

from cryptography import x509

from prox.wire import ClientCertificate


def shown_certificate(der: bytes) -> ClientCertificate:
    """Its subject (RFC 4514) and its fingerprint; a subject that can't be read is empty, which no guard lets pass."""
    try:
        subject = x509.load_der_x509_certificate(der).subject.rfc4514_string()
    except ValueError:
        subject = ""
    return ClientCertificate(subject=subject, fingerprint=hashlib.sha256(der).hexdigest())
