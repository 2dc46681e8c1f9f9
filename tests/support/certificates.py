"""Certificates made for tests: an authority, what it signs, what is wrong with them."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_YEAR = timedelta(days=365)


@dataclass(frozen=True)
class Certificate:
    """A certificate, its key, and those that signed it.

    Attributes:
        certificate: itself.
        key: its key.
        issuers: the chain that a server sends behind it: the intermediate authorities, not the root.
    """

    certificate: x509.Certificate
    key: Key
    issuers: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        """Itself in PEM."""
        return pem_of(self.certificate)

    @property
    def chain(self) -> bytes:
        """Itself and its issuers in PEM, as a server sends them."""
        return b"".join(pem_of(each) for each in (self.certificate, *self.issuers))

    @property
    def key_pem(self) -> bytes:
        """Its key in PEM."""
        return self.locked_key(None)

    def locked_key(self, password: bytes | None) -> bytes:
        """Its key in PEM, encrypted where there is a password."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption()
            if password is None
            else serialization.BestAvailableEncryption(password),
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 in hex."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def write(self, folder: Path, name: str = "server") -> tuple[Path, Path]:
        """Write chain and key as `name.crt` and `name.key`; their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        certificate.write_bytes(self.chain)
        key.write_bytes(self.key_pem)
        return certificate, key


class Authority(Certificate):
    """A certificate that signs others."""

    @classmethod
    def root(cls, name: str = "Test Root") -> Self:
        """One that signs itself, which is what clients trust."""
        key = _a_key(name)
        subject = _name(name)
        made = _builder(subject, key, subject, None, _authority_extensions()).sign(key, hashes.SHA256())
        return cls(made, key)

    def intermediate(self, name: str = "Test Intermediate") -> Authority:
        """One below this."""
        key = _a_key(name)
        made = self._sign(_name(name), key, None, _authority_extensions())
        return Authority(made, key, (made, *self.issuers))

    def issue(
        self,
        *names: str,
        subject: x509.Name | str | None = None,
        expired: bool = False,
        future: bool = False,
        client: bool = False,
        rsa_key: bool = False,
        common_name_only: bool = False,
    ) -> Certificate:
        """A certificate for names and addresses.

        Args:
            names: DNS names and IP addresses.
            subject: what it says of its owner; the first name by default.
            expired: it ended yesterday.
            future: it begins tomorrow.
            client: for a client and no server.
            rsa_key: of RSA, not of an elliptic curve.
            common_name_only: the name stands in its subject alone.
        """
        key: Key = _rsa_key() if rsa_key else ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.ExtendedKeyUsage([usage]), False),
        ]
        if names and not common_name_only:
            extensions.append((x509.SubjectAlternativeName([_general(name) for name in names]), False))
        if not isinstance(subject, x509.Name):
            subject = _name(subject or (names[0] if names else "nobody"))
        now = datetime.now(UTC)
        validity = None
        if expired:
            validity = (now - _YEAR, now - timedelta(days=1))
        elif future:
            validity = (now + timedelta(days=1), now + _YEAR)
        made = self._sign(subject, key, validity, extensions)
        # An authority's own `issuers` begin with itself, unless it is the root.
        return Certificate(made, key, self.issuers)

    def _sign(
        self,
        subject: x509.Name,
        key: Key,
        validity: tuple[datetime, datetime] | None,
        extensions: Sequence[tuple[x509.ExtensionType, bool]],
    ) -> x509.Certificate:
        builder = _builder(subject, key, self.certificate.subject, validity, extensions).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
        )
        return builder.sign(self.key, hashes.SHA256())

    def write_ca(self, folder: Path, name: str = "ca.pem") -> Path:
        """Write the authority's certificate alone; its path."""
        path = folder / name
        path.write_bytes(self.pem)
        return path

    def client_context(
        self, own: Certificate | None = None, folder: Path | None = None, alpn: Sequence[str] = ()
    ) -> ssl.SSLContext:
        """What a client trusts this authority by; `own` (written to `folder`) is its own certificate."""
        context = ssl.create_default_context(cadata=self.pem.decode())
        if own is not None:
            assert folder is not None
            context.load_cert_chain(*own.write(folder, "client"))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


def pem_of(certificate: x509.Certificate) -> bytes:
    """A certificate in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


@cache
def authority() -> Authority:
    """One root for a whole run."""
    return Authority.root()


@cache
def localhost() -> Certificate:
    """A certificate of `authority` for localhost, 127.0.0.1 and ::1."""
    return authority().issue("localhost", "127.0.0.1", "::1")


@cache
def _a_key(_owner: str) -> Key:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def _rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _authority_extensions() -> list[tuple[x509.ExtensionType, bool]]:
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return [(x509.BasicConstraints(ca=True, path_length=None), True), (usage, True)]


def _builder(
    subject: x509.Name,
    key: Key,
    issuer: x509.Name,
    validity: tuple[datetime, datetime] | None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    begin, end = validity or (now - timedelta(hours=1), now + _YEAR)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder
