"""Reading a certificate and its key: what is wrong is said, what can be mended is."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from prox.tls.pairs import Pair, read_pair
from support.certificates import Certificate, authority, pem_of


def read(
    folder: Path, certificate: bytes | None, key: bytes | None
) -> tuple[Pair | None, list[tuple[str, str, str, str]]]:
    """Write the two files and read them; faults with the folder's name left out."""
    for name, content in (("a.crt", certificate), ("a.key", key)):
        if content is not None:
            (folder / name).write_bytes(content)
    pair, faults = read_pair(folder / "a.crt", folder / "a.key")
    return pair, [
        (
            fault.severity,
            fault.file,
            fault.message.replace(f"{folder}/", ""),
            fault.hint.replace(f"{folder}/", ""),
        )
        for fault in faults
    ]


def test_a_good_pair(tmp_path: Path) -> None:
    made = authority().intermediate().issue("A.example.com", "*.b.example.com", "192.0.2.1", "2001:db8::1")
    pair, faults = read(tmp_path, made.chain, made.key_pem)
    assert faults == []
    assert pair is not None
    assert pair.names == ("a.example.com", "*.b.example.com", "192.0.2.1", "2001:db8::1")
    assert pair.chain == made.chain
    assert pair.issuer == "CN=Test Intermediate"
    assert pair.not_after - pair.not_before > timedelta(days=300)
    again, _ = read(tmp_path, made.chain, made.key_pem)
    assert again == pair


def test_both_in_one_file_and_remarks_between(tmp_path: Path) -> None:
    made = authority().issue("a.example.com")
    both = b"remarks\n" + made.key_pem + b"more\n" + made.chain
    pair, faults = read(tmp_path, both, both)
    assert (pair is not None, faults) == (True, [])


@pytest.mark.parametrize("kind", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("rsa", [False, True], ids=["ec", "rsa"])
def test_kinds_of_keys(tmp_path: Path, kind: PrivateFormat, *, rsa: bool) -> None:
    made = authority().issue("a.example.com", rsa_key=rsa)
    key = made.key.private_bytes(Encoding.PEM, kind, NoEncryption())
    if not rsa:  # what `openssl ecparam -genkey` writes before it
        key = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + key
    pair, faults = read(tmp_path, made.chain, key)
    assert faults == []
    assert pair is not None
    load_pem_private_key(pair.key, None)


def wrong() -> list[tuple[str, bytes | None, bytes | None, list[tuple[str, str, str, str]]]]:
    made = authority().issue("a.example.com")
    other = authority().issue("a.example.com")
    der = made.certificate.public_bytes(Encoding.DER)
    key = load_pem_private_key(made.key_pem, None).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )
    return [
        (
            "missing",
            None,
            None,
            [
                ("error", "certificate", 'can\'t read "a.crt": no such file or directory', ""),
                ("error", "key", 'can\'t read "a.key": no such file or directory', ""),
            ],
        ),
        (
            "no PEM",
            b"hello",
            b"",
            [
                ("error", "certificate", '"a.crt" holds no certificate in PEM', ""),
                ("error", "key", '"a.key" holds no key in PEM', ""),
            ],
        ),
        (
            "DER",
            der,
            key,
            [
                (
                    "error",
                    "certificate",
                    '"a.crt" holds no certificate in PEM',
                    'it looks like DER: openssl x509 -inform der -in "a.crt" -out FILE writes PEM',
                ),
                (
                    "error",
                    "key",
                    '"a.key" holds no key in PEM',
                    'it looks like DER: openssl pkey -inform der -in "a.key" -out FILE writes PEM',
                ),
            ],
        ),
        (
            "swapped",
            made.key_pem,
            made.chain,
            [
                (
                    "error",
                    "certificate",
                    '"a.crt" holds a key and no certificate',
                    "are certificate and key swapped?",
                ),
                (
                    "error",
                    "key",
                    '"a.key" holds a certificate and no key',
                    "are certificate and key swapped?",
                ),
            ],
        ),
        (
            "another key",
            made.chain,
            other.key_pem,
            [
                (
                    "error",
                    "key",
                    'the key in "a.key" does not fit the certificate in "a.crt"',
                    "a certificate and the key that it was requested with belong together",
                )
            ],
        ),
        (
            "encrypted",
            made.chain,
            made.locked_key(b"secret"),
            [
                (
                    "error",
                    "key",
                    'the key in "a.key" is encrypted, and there is nobody to ask for the password',
                    'openssl pkey -in "a.key" -out FILE writes it without one',
                )
            ],
        ),
    ]


WRONG = wrong()


@pytest.mark.parametrize("case", WRONG, ids=[case[0] for case in WRONG])
def test_what_is_wrong(
    tmp_path: Path, case: tuple[str, bytes | None, bytes | None, list[tuple[str, str, str, str]]]
) -> None:
    _, certificate, key, expected = case
    assert read(tmp_path, certificate, key) == (None, expected)


def test_broken_contents(tmp_path: Path) -> None:
    made = authority().issue("a.example.com")
    for certificate, key, file in (
        (made.chain.replace(b"MII", b"AAA", 1), made.key_pem, "certificate"),
        (made.chain, made.key_pem.replace(b"MIG", b"AAA", 1), "key"),
    ):
        pair, [(severity, of, message, _)] = read(tmp_path, certificate, key)
        assert pair is None
        assert (severity, of) == ("error", file)
        assert " is broken" in message


@pytest.mark.parametrize(
    ("state", "what"), [("expired", "expired on 20"), ("future", "is not valid before 20")]
)
def test_a_certificate_out_of_its_time_is_served_with_a_warning(
    tmp_path: Path, state: str, what: str
) -> None:
    made = authority().issue("a.example.com", expired=state == "expired", future=state == "future")
    pair, [(severity, file, message, _)] = read(tmp_path, made.chain, made.key_pem)
    assert pair is not None
    assert (severity, file) == ("warning", "certificate")
    assert message.startswith(f'the certificate "a.example.com" in "a.crt" {what}')


def test_a_chain_out_of_order_is_mended(tmp_path: Path) -> None:
    upper = authority().intermediate("Upper")
    made = upper.intermediate("Lower").issue("a.example.com")
    first, second = made.issuers
    jumbled = b"".join(pem_of(each) for each in (second, made.certificate, first))
    pair, faults = read(tmp_path, jumbled, made.key_pem)
    assert pair is not None
    assert pair.chain == made.chain
    assert [(severity, message) for severity, _, message, _ in faults] == [
        ("warning", 'the chain in "a.crt" is out of order: it is sent in the right one')
    ]


def test_what_is_no_part_of_the_chain_is_left_out(tmp_path: Path) -> None:
    made, other = authority().issue("a.example.com"), authority().issue("b.example.com")
    pair, faults = read(tmp_path, made.chain + other.chain, made.key_pem)
    assert pair is not None
    assert pair.chain == made.chain
    assert [message for _, _, message, _ in faults] == [
        '"a.crt" holds what is no part of the chain and is not sent: "b.example.com"'
    ]


def test_an_issuer_that_is_missing(tmp_path: Path) -> None:
    """Told by what the certificate says of where its issuer is had: those that a private authority signed do not."""
    made = with_access(authority().intermediate().issue("a.example.com"))
    _, faults = read(tmp_path, pem_of(made), authority().key_pem)
    assert [(severity, message) for severity, _, message, _ in faults] == [
        (
            "warning",
            'the certificate of the issuer "CN=Test Root" is missing in "a.crt": some clients will not trust it',
        )
    ]


def with_access(like: Certificate) -> x509.Certificate:
    """A certificate of the root's own key that names the place of its issuer's certificate."""
    root = authority()
    old = like.certificate
    place = x509.AccessDescription(
        x509.oid.AuthorityInformationAccessOID.CA_ISSUERS,
        x509.UniformResourceIdentifier("http://ca.example.com/ca.der"),
    )
    return (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(root.certificate.subject)
        .public_key(root.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(old.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example.com")]), critical=False)
        .add_extension(x509.AuthorityInformationAccess([place]), critical=False)
        .sign(root.key, hashes.SHA256())
    )


def test_a_certificate_without_names(tmp_path: Path) -> None:
    made = authority().issue("Old.Example.com", common_name_only=True)
    pair, faults = read(tmp_path, made.chain, made.key_pem)
    assert pair is not None
    assert pair.names == ("old.example.com",)
    assert [message for _, _, message, _ in faults] == [
        'the certificate in "a.crt" has no subjectAltName: clients refuse it'
    ]
