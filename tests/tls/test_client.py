"""Contexts for upstreams: what is wrong with a file is said with its name, and contexts are shared and kept."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

import prox
from prox.app.loading import load_served
from prox.tls.client import ClientContexts, ClientFiles, TlsFileError, client_context
from support.certificates import authority, localhost


def pair(folder: Path) -> tuple[str, str]:
    certificate, key = authority().issue(subject="prox", client=True).write(folder, "client")
    return str(certificate), str(key)


def test_by_default_the_system_is_trusted_and_names_are_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority().write_ca(tmp_path)))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    context = client_context(ClientFiles())
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    (trusted,) = context.get_ca_certs()
    assert trusted["subject"] == ((("commonName", "Test Root"),),)


def empty(folder: Path) -> ClientFiles:
    (folder / "ca").write_text("")
    return ClientFiles(ca=str(folder / "ca"))


def garbage(folder: Path) -> ClientFiles:
    (folder / "ca").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    return ClientFiles(ca=str(folder / "ca"))


def key_for_ca(folder: Path) -> ClientFiles:
    return ClientFiles(ca=pair(folder)[1])


def gone(folder: Path) -> ClientFiles:
    return ClientFiles(ca=str(folder / "gone"))


def key_for_certificate(folder: Path) -> ClientFiles:
    _, key = pair(folder)
    return ClientFiles(cert=key, key=key)


def certificate_for_key(folder: Path) -> ClientFiles:
    certificate, _ = pair(folder)
    return ClientFiles(cert=certificate, key=certificate)


def other_key(folder: Path) -> ClientFiles:
    certificate, _ = pair(folder)
    (folder / "key").write_bytes(authority().issue("x").key_pem)
    return ClientFiles(cert=certificate, key=str(folder / "key"))


def locked_key(folder: Path) -> ClientFiles:
    made = authority().issue("x")
    certificate, _ = made.write(folder)
    (folder / "key").write_bytes(made.locked_key(b"secret"))
    return ClientFiles(cert=str(certificate), key=str(folder / "key"))


WRONG: list[tuple[Callable[[Path], ClientFiles], str, str]] = [
    (empty, "ca", "/ca: there is no"),
    (garbage, "ca", "/ca: there is no PEM certificate"),
    (key_for_ca, "ca", "/client.key: there is no"),
    (gone, "ca", "/gone: No such file"),
    (key_for_certificate, "cert", "/client.key: there is no PEM certificate"),
    (certificate_for_key, "key", "/client.crt: there is no PEM key"),
    (other_key, "key", "/key: the key does not belong to the certificate"),
    (locked_key, "key", "/key: the key is encrypted"),
]


@pytest.mark.parametrize(("made", "key", "message"), WRONG)
def test_what_is_wrong_with_a_file_is_said(
    tmp_path: Path, made: Callable[[Path], ClientFiles], key: str, message: str
) -> None:
    with pytest.raises(TlsFileError) as caught:
        client_context(made(tmp_path))
    assert caught.value.key == key
    assert str(caught.value).startswith(f"{tmp_path}{message}"), str(caught.value)


def test_it_is_said_with_its_place_before_anything_is_served(tmp_path: Path) -> None:
    files = other_key(tmp_path)
    tls = {"cert": files.cert, "key": files.key}
    document = {
        "services": {"web": {"listen": "127.0.0.1:0", "routes": [{"action": "shop"}]}},
        "actions": {"shop": {"type": "proxy", "upstream": "https://localhost", "tls": tls}},
    }
    with pytest.raises(prox.ConfigError) as caught:
        load_served(document)
    (problem,) = caught.value.problems
    assert problem.path == "actions.shop.tls.key"
    assert "does not belong" in problem.message


def test_contexts_are_made_once_and_kept_while_files_stay(tmp_path: Path) -> None:
    ca = authority().write_ca(tmp_path)
    files = ClientFiles(ca=str(ca))
    first = ClientContexts()
    made = first.get(files, ("h2",))
    assert first.get(files, ("h2",)) is made
    assert first.get(files, ("http/1.1",)) is not made
    assert first.get(ClientFiles(), ("h2",)) is not made
    assert first.files == {ca}
    second = ClientContexts(first)
    assert second.get(files, ("h2",)) is made
    ca.write_bytes(authority().pem + localhost().pem)
    third = ClientContexts(second)
    assert third.get(files, ("h2",)) is not made
