"""TLS as the client of an upstream: verified by default, against the system's authorities or those of a file.

A context is made once for each distinct set of settings and contents of files, and outlives reloads as long as both stay:
what is open and what is remembered of sessions go on being used then, and only then.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, NoReturn

from .records import RecordObject


class TlsFileError(Exception):
    """A file of certificates or a key can't be used; the text names it and says why.

    Attributes:
        key: the key of the configuration that names the file, `ca`, `cert` or `key`.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class ClientFiles(NamedTuple):
    """The files that a context is made from; None: the system's authorities, and no client certificate."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def named(self) -> Iterable[Path]:
        """Those that there are."""
        return (Path(path) for path in self if path is not None)


class ClientContexts:
    """The contexts in use, by what they were made from.

    Args:
        before: those of the configuration in force.

    Attributes:
        made: those that were asked for here.
        files: what was read.
    """

    def __init__(self, before: ClientContexts | None = None) -> None:
        self.made: dict[object, ssl.SSLContext] = {}
        self.files: set[Path] = set()
        self._before = {} if before is None else before.made

    def get(self, files: ClientFiles, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
        """The context of these files that offers `protocols` by ALPN.

        Raises:
            TlsFileError: a file can't be used.
        """
        self.files.update(files.named())
        contents = [None if path is None else _digest(key, path) for key, path in files._asdict().items()]
        name = (files, *contents, _authorities() if files.ca is None else None, protocols)
        context = self.made.get(name) or self._before.get(name)
        if context is None:
            context = client_context(files)
            if protocols:
                context.set_alpn_protocols(list(protocols))
        self.made[name] = context
        return context


def client_context(files: ClientFiles) -> ssl.SSLContext:
    """A context that verifies certificate and name of the server; TLS 1.2 at the least.

    Raises:
        TlsFileError: a file can't be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslobject_class = RecordObject
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False  # RFC 9110 section 4.3.4
    if files.ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)  # minds SSL_CERT_FILE and SSL_CERT_DIR
    else:
        _trust(context, files.ca)
    if files.cert is not None:
        _present(context, files.cert, files.key or files.cert)
    return context


def _trust(context: ssl.SSLContext, path: str) -> None:
    # Whatever the file holds is trusted as it is, an intermediate authority or the server's own certificate too.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise TlsFileError("ca", f"{path}: {_what_is_wrong(error, 'certificate')}") from None
    except OSError as error:
        raise TlsFileError("ca", f"{path}: {error.strerror or error}") from None
    if not context.cert_store_stats()["x509"]:
        raise TlsFileError("ca", f"{path}: there is no certificate in it")


def _present(context: ssl.SSLContext, cert: str, key: str) -> None:
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        probe.load_verify_locations(cafile=cert)  # to tell which of the two files is wrong
    except ssl.SSLError as error:
        raise TlsFileError("cert", f"{cert}: {_what_is_wrong(error, 'certificate')}") from None
    except OSError as error:
        raise TlsFileError("cert", f"{cert}: {error.strerror or error}") from None

    def no_password() -> NoReturn:
        raise TlsFileError("key", f"{key}: the key is encrypted; store it without a password")

    try:
        context.load_cert_chain(cert, key, no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsFileError("key", f"{key}: the key does not belong to the certificate {cert}") from None
        raise TlsFileError("key", f"{key}: {_what_is_wrong(error, 'key')}") from None
    except OSError as error:
        raise TlsFileError("key", f"{key}: {error.strerror or error}") from None


def _what_is_wrong(error: ssl.SSLError, what: str) -> str:
    if error.reason in {None, "NO_START_LINE", "NO_CERTIFICATE_OR_CRL_FOUND"}:
        return f"there is no PEM {what} in it"
    return f"it is no PEM {what}: {error.reason.replace('_', ' ').lower()}"


def _authorities() -> tuple[object, ...]:
    """What tells whether the system's authorities have changed."""
    paths = ssl.get_default_verify_paths()
    told: list[object] = []
    for path in (paths.cafile, paths.capath):
        if path is not None:
            found = Path(path).stat()
            told.append((path, found.st_mtime_ns, found.st_size))
    return tuple(told)


def _digest(key: str, path: str) -> bytes:
    try:
        return hashlib.sha256(Path(path).read_bytes()).digest()
    except OSError as error:
        raise TlsFileError(key, f"{path}: {error.strerror or error}") from None
