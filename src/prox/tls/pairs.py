"""A certificate and its key, read from two files and checked, so that what is wrong is said before anybody connects.

What a client would refuse although it can be served (expired, an issuer that is missing) is a warning; a chain in the wrong
order is served in the right one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

_SPKI = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
_KEY_BLOCK = re.compile(rb"-----BEGIN (?P<kind>[A-Z ]*PRIVATE KEY)-----.*?-----END (?P=kind)-----", re.DOTALL)
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")


@dataclass(frozen=True)
class Fault:
    """What is wrong with a pair.

    Attributes:
        severity: an "error" keeps it from being served.
        file: which of the two files, the "certificate" or the "key".
        message: names the file and says what is wrong.
        hint: the way out, or empty.
    """

    severity: Literal["error", "warning", "note"]
    file: Literal["certificate", "key"]
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Pair:
    """A certificate with its key, fit to be served.

    Attributes:
        label: where it is from, for messages.
        chain: the certificate and its issuers in PEM, in order.
        key: its key in PEM, not encrypted.
        names: lower-case DNS names, `*.` and all, and IP addresses.
        not_before: when it begins to be valid.
        not_after: when it ends.
        issuer: who signed it (RFC 4514).
        digest: of chain and key: the same for the same contents.
    """

    label: str
    chain: bytes
    key: bytes
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    issuer: str
    digest: bytes


def make_pair(label: str, chain: Sequence[x509.Certificate], key: bytes) -> Pair:
    """A pair of certificates in order and a PEM key that fits the first of them."""
    leaf = chain[0]
    pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)
    return Pair(
        label=label,
        chain=pem,
        key=key,
        names=_names(leaf),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        issuer=leaf.issuer.rfc4514_string(),
        digest=hashlib.sha256(pem + key).digest(),
    )


def read_pair(certificate: Path, key: Path, now: datetime | None = None) -> tuple[Pair | None, list[Fault]]:
    """Read a pair; None where it can't be served. Touches the disk.

    Args:
        certificate: the file of the chain.
        key: the file of the key; it may be the same file.
        now: the time that the certificate is to be valid at.
    """
    chain, faults = _read_chain(certificate)
    public, key_pem, wrong = _read_key(key)
    faults += wrong
    if not chain or not public:
        return None, faults
    leaf = next((each for each in chain if _public_key(each) == public), None)
    if leaf is None:
        faults.append(
            Fault(
                "error",
                "key",
                f'the key in "{key}" does not fit the certificate in "{certificate}"',
                "a certificate and the key that it was requested with belong together",
            )
        )
        return None, faults
    ordered, doubts = _in_order(certificate, leaf, chain)
    faults += doubts
    faults += _doubts_of_time(certificate, ordered, now or datetime.now(UTC))
    pair = make_pair(str(certificate), ordered, key_pem)
    if not pair.names or not _has_names(leaf):
        faults.append(
            Fault(
                "warning",
                "certificate",
                f'the certificate in "{certificate}" has no subjectAltName: clients refuse it',
                "request one that names its hosts",
            )
        )
    return pair, faults


def _read_chain(path: Path) -> tuple[list[x509.Certificate], list[Fault]]:
    def refuse(message: str, hint: str = "") -> tuple[list[x509.Certificate], list[Fault]]:
        return [], [Fault("error", "certificate", message, hint)]

    try:
        data = path.read_bytes()
    except OSError as error:
        return refuse(f'can\'t read "{path}": {(error.strerror or str(error)).lower()}')
    kinds = {match[1] for match in _BLOCK.finditer(data)}
    if b"CERTIFICATE" not in kinds:
        if any(kind.endswith(b"PRIVATE KEY") for kind in kinds):
            return refuse(f'"{path}" holds a key and no certificate', "are certificate and key swapped?")
        return refuse(
            f'"{path}" holds no certificate in PEM', _der_hint(data, f'openssl x509 -inform der -in "{path}"')
        )
    try:
        return x509.load_pem_x509_certificates(data), []
    except ValueError as error:
        return refuse(f'a certificate in "{path}" is broken: {error}')


def _read_key(path: Path) -> tuple[bytes, bytes, list[Fault]]:
    """The public half of a key, and itself in PEM; both empty where it can't be used."""

    def refuse(message: str, hint: str = "") -> tuple[bytes, bytes, list[Fault]]:
        return b"", b"", [Fault("error", "key", message, hint)]

    try:
        data = path.read_bytes()
    except OSError as error:
        return refuse(f'can\'t read "{path}": {(error.strerror or str(error)).lower()}')
    block = _KEY_BLOCK.search(data)
    if block is None:
        if b"-----BEGIN CERTIFICATE-----" in data:
            return refuse(f'"{path}" holds a certificate and no key', "are certificate and key swapped?")
        return refuse(
            f'"{path}" holds no key in PEM', _der_hint(data, f'openssl pkey -inform der -in "{path}"')
        )
    pem = block[0] + b"\n"
    try:
        return load_pem_private_key(pem, None).public_key().public_bytes(*_SPKI), pem, []
    except TypeError:  # cryptography's way to say that it wants a password
        return refuse(
            f'the key in "{path}" is encrypted, and there is nobody to ask for the password',
            f'openssl pkey -in "{path}" -out FILE writes it without one',
        )
    except Exception as error:  # broken ones raise many kinds, of a kind that is not supported among them
        return refuse(f'the key in "{path}" is broken or of a kind that is not supported: {error}')


def _der_hint(data: bytes, command: str) -> str:
    return f"it looks like DER: {command} -out FILE writes PEM" if data[:1] == b"\x30" else ""


def _in_order(
    path: Path, leaf: x509.Certificate, given: Sequence[x509.Certificate]
) -> tuple[list[x509.Certificate], list[Fault]]:
    """The chain from the leaf upwards, and what is odd about how it was given."""
    faults = []
    rest = [each for each in given if each != leaf]
    chain = [leaf]
    while True:
        below = chain[-1]
        issuer = next((each for each in rest if _is_signed_by(below, each)), None)
        if issuer is None:
            break
        rest.remove(issuer)
        chain.append(issuer)
    if rest:
        names = ", ".join(_shown(each) for each in rest)
        faults.append(
            Fault(
                "warning",
                "certificate",
                f'"{path}" holds what is no part of the chain and is not sent: {names}',
            )
        )
    if chain != [each for each in given if each in chain]:
        faults.append(
            Fault(
                "warning",
                "certificate",
                f'the chain in "{path}" is out of order: it is sent in the right one',
                "first the certificate, then its issuer, then the issuer of that one",
            )
        )
    last = chain[-1]
    if last.issuer != last.subject and _names_its_issuer(last):
        faults.append(
            Fault(
                "warning",
                "certificate",
                f'the certificate of the issuer "{last.issuer.rfc4514_string()}" is missing in "{path}":'
                " some clients will not trust it",
                "append the issuer's certificate, which comes with the other",
            )
        )
    return chain, faults


def _is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if certificate.issuer != issuer.subject or certificate == issuer:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # a signature that fails, or of a kind that is not supported
        return False
    return True


def _names_its_issuer(certificate: x509.Certificate) -> bool:
    """Whether it says where its issuer's certificate is had: those that a well-known root signed itself do not."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return any(each.access_method == AuthorityInformationAccessOID.CA_ISSUERS for each in access)


def _doubts_of_time(path: Path, chain: Iterable[x509.Certificate], now: datetime) -> list[Fault]:
    faults = []
    for certificate in chain:
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if now > end:
            what = f"expired on {end:%Y-%m-%d at %H:%M} UTC"
        elif now < begin:
            what = f"is not valid before {begin:%Y-%m-%d, %H:%M} UTC"
        else:
            continue
        faults.append(
            Fault("warning", "certificate", f'the certificate {_shown(certificate)} in "{path}" {what}')
        )
    return faults


def _shown(certificate: x509.Certificate) -> str:
    names = _names(certificate)
    return f'"{names[0]}"' if names else f'"{certificate.subject.rfc4514_string()}"'


def _has_names(certificate: x509.Certificate) -> bool:
    try:
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return True


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple(str(each.value).lower() for each in common)
    found = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    found += [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return tuple(found)


def _public_key(certificate: x509.Certificate) -> bytes:
    try:
        return certificate.public_key().public_bytes(*_SPKI)
    except Exception:  # of a kind that is not supported
        return b""
