"""A certificate that prox signs itself, so that `tls: true` works on a developer's machine."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .pairs import Pair, make_pair

LABEL: Final = "self-signed"

LOCAL: Final = ("localhost", "127.0.0.1", "::1")
"""What it is always for."""

_LIFE: Final = timedelta(days=397)
"""The longest that browsers take."""


def self_signed(names: Iterable[str], before: Iterable[Pair] = ()) -> Pair:
    """A new certificate for `LOCAL` and `names`; one of `before` where it is for the same and has half of its life left."""
    wanted = tuple(dict.fromkeys((*LOCAL, *names)))
    now = datetime.now(UTC)
    for pair in before:
        if pair.label == LABEL and set(pair.names) == set(wanted) and pair.not_after - now > _LIFE / 2:
            return pair
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "prox, self-signed")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in wanted]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return make_pair(LABEL, [certificate], pem)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
