"""What is said of the files and settings of TLS before anything is served, and what is served of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from prox.app.loading import load_served
from prox.app.securing import local_names, pair_files
from prox.config import ConfigError, Loaded, Problem, parse
from support.certificates import Certificate, authority, localhost

OK = {"action": {"type": "static", "body_ref": {"text": "ok"}}}


def found(folder: Path, **service: Any) -> list[tuple[str, str, str]]:
    """Severity, path and text of what is said about a service."""
    return [
        (problem.severity, problem.path, problem.message.replace(f"{folder}/", ""))
        for problem in problems(folder, {"web": service})
    ]


def problems(folder: Path, services: dict[str, Any]) -> tuple[Problem, ...]:
    document = {
        "services": {
            name: {"listen": f":{9000 + number}", "routes": [OK], **service}
            for number, (name, service) in enumerate(services.items())
        }
    }
    try:
        loaded: Loaded = load_served(document, folder)
    except ConfigError as error:
        return error.problems
    return loaded.warnings


def test_a_good_pair_is_good(tmp_path: Path) -> None:
    localhost().write(tmp_path)
    assert found(tmp_path, tls_cert="server.crt", tls_key="server.key") == []


def test_all_that_is_wrong_at_once(tmp_path: Path) -> None:
    one, two = (authority().issue("a.example.com") for _ in range(2))
    one.write(tmp_path, "one")
    two.write(tmp_path, "two")
    (tmp_path / "none.pem").write_text("nothing")
    services = {
        "a": {"tls_cert": "one.crt", "tls_key": "two.key"},
        "b": {
            "tls_cert": "none.pem",
            "tls_key": "none.pem",
            "config": {"tls_client_ca": "none.pem", "tls_client_auth": "require"},
        },
        "c": {
            "tls_cert": "one.crt",
            "tls_key": "one.key",
            "colour": "red",
            "config": {
                "tls_ciphers": ["AES", "TLS_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "NO-SUCH"]
            },
        },
        "d": {"routes": [{**OK, "match": {"path": "x"}}]},
    }
    assert [
        (problem.path, problem.message.replace(f"{tmp_path}/", ""))
        for problem in problems(tmp_path, services)
    ] == EXPECTED


EXPECTED = [
    ("services.c.colour", 'unknown key "colour"'),
    ("services.d.routes[0].match.path", 'a path begins with "/", and "x" does not'),
    ("services.a.tls_key", 'the key in "two.key" does not fit the certificate in "one.crt"'),
    ("services.b.config.tls_client_ca", '"none.pem" holds no certificates in PEM that can be used'),
    ("services.b.tls_cert", '"none.pem" holds no certificate in PEM'),
    ("services.b.tls_key", '"none.pem" holds no key in PEM'),
    ("services.c.config.tls_ciphers[0]", 'OpenSSL knows no cipher suite "AES"'),
    ("services.c.config.tls_ciphers[1]", '"TLS_AES_128_GCM_SHA256" is a suite of TLS 1.3, which are all on'),
    ("services.c.config.tls_ciphers[3]", 'OpenSSL knows no cipher suite "NO-SUCH"'),
]


def test_doubts_do_not_refuse(tmp_path: Path) -> None:
    authority().issue("a.example.com", expired=True).write(tmp_path)
    [(severity, path, text)] = found(tmp_path, tls_cert="server.crt", tls_key="server.key")
    assert (severity, path) == ("warning", "services.web.tls_cert")
    assert text.startswith('the certificate "a.example.com" in "server.crt" expired on ')


def test_two_for_one_name(tmp_path: Path) -> None:
    authority().issue("a.example.com", expired=True).write(tmp_path / "all", "a")
    authority().issue("a.example.com", "b.example.com").write(tmp_path / "all", "b")
    said = found(tmp_path, tls_cert="all")
    assert (
        "warning",
        "services.web.tls_cert",
        '"all/a.crt" and "all/b.crt" are both for "a.example.com": the second is shown, which is valid longer',
    ) in said
    assert len(said) == 2


def test_a_key_that_openssl_finds_too_short(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "a.example.com")])
    alternative = x509.SubjectAlternativeName([x509.DNSName("a.example.com")])
    Certificate(authority()._sign(name, key, None, [(alternative, False)]), key).write(tmp_path)
    assert found(tmp_path, tls_cert="server.crt", tls_key="server.key") == [
        ("error", "services.web.tls_cert", 'OpenSSL does not take "server.crt": ee key too small')
    ]


def test_none_at_all_is_made_and_said(tmp_path: Path) -> None:
    [(severity, path, text)] = found(
        tmp_path, tls=True, routes=[{**OK, "match": {"domain": "app.example.com"}}, OK]
    )
    assert (severity, path) == ("note", "services.web.tls")
    assert text == (
        "there is no certificate: prox makes one for localhost, 127.0.0.1, ::1, app.example.com"
        " that no client trusts by itself"
    )


@pytest.mark.parametrize("domain", ["*.example.com", "A.example.com"])
def test_domains_that_a_certificate_can_be_for(domain: str) -> None:
    assert of_domains(domain, "pre-*.example.com", "**.example.com", "a.*.com", "x.**") == [domain.lower()]


def of_domains(*domains: str) -> list[str]:
    routes = [{**OK, "match": {"domain": domain}} for domain in domains if domain != "**.example.com"]
    loaded = parse({"services": {"web": {"listen": ":1", "tls": True, "routes": routes}}}, Path.cwd())
    return local_names(loaded.config.services["web"])


def test_the_default_of_a_folder_is_first(tmp_path: Path) -> None:
    for name in ("a", "default", "z"):
        localhost().write(tmp_path, name)
    loaded = parse({"services": {"web": {"listen": ":1", "tls_cert": str(tmp_path)}}}, Path.cwd())
    assert [certificate.name for certificate, _ in pair_files(loaded.config.services["web"])] == [
        "default.crt",
        "a.crt",
        "z.crt",
    ]
