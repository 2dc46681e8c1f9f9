"""From the TLS settings of a service to what its listener shows and asks: files read, certificates checked, contexts made.

`faults` says before anything is served what is wrong with the files; `secure` makes the store.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from prox.config import model
from prox.tls.pairs import Fault, Pair, read_pair
from prox.tls.policy import Policy
from prox.tls.selfsigned import LOCAL, self_signed
from prox.tls.store import Chosen, Store, by_name

from .errors import StartError

_DEFAULT: Final = "default"
"""The stem of the file in a folder that is shown to clients without a server name."""


@dataclass(frozen=True)
class Secured:
    """TLS of a service, ready to be put in force.

    Attributes:
        store: shows the certificates; the one of the configuration before where the policy is the same.
        chosen: what it is to show.
        files: what was read, and folders whose members matter.
    """

    store: Store
    chosen: Chosen
    files: frozenset[Path]

    def put_in_force(self) -> None:
        """Show the certificates from now on."""
        self.store.configure(self.chosen)


class Placed(NamedTuple):
    """What is wrong; `key` leads to it from the service, `files` are those that it is about."""

    key: tuple[str | int, ...]
    fault: Fault
    files: tuple[Path, ...] = ()


def secure(name: str, service: model.Service, before: Store | None) -> Secured:
    """TLS of a service that has it. Touches the disk.

    Args:
        name: of the service.
        service: its configuration.
        before: the store of the configuration in force.

    Raises:
        StartError: a file can't be used; it could be when the configuration was checked.
    """
    pairs = []
    files: set[Path] = set()
    refused: list[str] = []
    if service.tls_cert is None:
        pairs.append(self_signed(local_names(service), () if before is None else before.pairs))
    else:
        files.add(Path(service.tls_cert))
        for certificate, key in pair_files(service):
            files |= {certificate, key}
            pair, wrong = read_pair(certificate, key)
            refused += [fault.message for fault in wrong if fault.severity == "error"]
            if pair is not None:
                pairs.append(pair)
    if service.config.tls_client_ca is not None:
        files.add(Path(service.config.tls_client_ca))
    if refused:
        raise StartError(f"service {name}: {'; '.join(refused)}")
    try:
        policy = _policy(service)
        store = before if before is not None and before.policy == policy else Store(policy, before)
        return Secured(store, store.prepare(pairs), frozenset(files))
    except (ssl.SSLError, ValueError) as error:
        raise StartError(f"service {name}: TLS can't be set up: {_reason(error)}") from error


def faults(service: model.Service) -> Iterator[Placed]:
    """All that is wrong or doubtful about the files and settings of a service's TLS. Touches the disk.

    The service may be one that is not valid in other ways.
    """
    tuning = service.config
    if tuning.tls_client_ca is not None:
        authorities = Path(tuning.tls_client_ca)
        wrong = _client_ca_fault(authorities)
        if wrong is not None:
            yield Placed(("config", "tls_client_ca"), wrong, (authorities,))
    policy = Policy(tuning.tls_min_version)
    for index, cipher in enumerate(tuning.tls_ciphers):
        wrong = _cipher_fault(cipher)
        if wrong is not None:
            yield Placed(("config", "tls_ciphers", index), wrong)
    if service.tls_cert is None:
        if service.acme is None:
            names = ", ".join((*LOCAL, *local_names(service)))
            text = f"there is no certificate: prox makes one for {names} that no client trusts by itself"
            yield Placed(
                ("tls",),
                Fault("note", "certificate", text, 'give "tls_cert" and "tls_key" for others to use it'),
            )
        return
    pairs = []
    for certificate, key in pair_files(service):
        pair, found = read_pair(certificate, key)
        if pair is not None:
            pairs.append(pair)
            found += _refused(pair, policy)
        for fault in found:
            of_key = fault.file == "key" and service.tls_key is not None
            yield Placed(("tls_key",) if of_key else ("tls_cert",), fault, (certificate, key))
    for fault in _twice(pairs):
        yield Placed(("tls_cert",), fault)


def pair_files(service: model.Service) -> list[tuple[Path, Path]]:
    """The files of certificates and keys, the default's first. Touches the disk."""
    assert service.tls_cert is not None
    certificate = Path(service.tls_cert)
    if service.tls_key is not None:
        return [(certificate, Path(service.tls_key))]
    try:
        found = sorted(file for file in certificate.iterdir() if file.suffix in {".crt", ".pem"})
    except OSError:  # it was there when the configuration was read
        found = []
    found.sort(key=lambda file: file.stem != _DEFAULT)
    return [(file, file.with_suffix(".key")) for file in found]


def local_names(service: model.Service) -> list[str]:
    """The domains of a service's routes that a certificate can be for."""
    names = []
    for route in service.routes:
        domain = None if route.match is None else route.match.domain
        if domain is None:
            continue
        first, _, rest = domain.lower().partition(".")
        if "*" not in rest and ("*" not in first or first == "*") and domain.isascii():
            names.append(domain.lower())
    return list(dict.fromkeys(names))


def _policy(service: model.Service) -> Policy:
    tuning = service.config
    authorities = ""
    if tuning.tls_client_ca is not None:
        authorities = Path(tuning.tls_client_ca).read_text("ascii", "replace")
    return Policy(
        min_version=tuning.tls_min_version,
        ciphers=tuning.tls_ciphers,
        client_auth=tuning.tls_client_auth,
        client_ca=authorities,
        protocols=("h2", "http/1.1") if service.h2 else ("http/1.1",),
    )


def _client_ca_fault(path: Path) -> Fault | None:
    try:
        authorities = path.read_text("ascii", "replace")
    except OSError as error:
        return Fault(
            "error", "certificate", f'can\'t read "{path}": {(error.strerror or str(error)).lower()}'
        )
    try:
        Policy(client_auth="require", client_ca=authorities).context()
    except (ssl.SSLError, ValueError):
        return Fault("error", "certificate", f'"{path}" holds no certificates in PEM that can be used')
    return None


def _cipher_fault(cipher: str) -> Fault | None:
    """Why a name does not stand for a suite of TLS 1.2; aliases of OpenSSL's stand for many, weak ones among them."""
    if cipher.startswith("TLS_"):
        return Fault(
            "error",
            "certificate",
            f'"{cipher}" is a suite of TLS 1.3, which are all on',
            "name suites of TLS 1.2 alone",
        )
    try:
        known = {suite["name"] for suite in Policy(ciphers=(cipher,)).context().get_ciphers()}
    except ssl.SSLError:
        known = set()
    if cipher in known:
        return None
    return Fault(
        "error",
        "certificate",
        f'OpenSSL knows no cipher suite "{cipher}"',
        "openssl ciphers -s -tls1_2 lists their names",
    )


def _refused(pair: Pair, policy: Policy) -> list[Fault]:
    """Why OpenSSL does not take a pair that could be read: its key is too short, as a rule."""
    try:
        policy.context(pair)
    except ssl.SSLError as error:
        return [Fault("error", "certificate", f'OpenSSL does not take "{pair.label}": {_reason(error)}')]
    return []


def _twice(pairs: list[Pair]) -> Iterator[Fault]:
    chosen = by_name(pairs)
    for pair in pairs:
        for name in pair.names:
            winner = chosen[name]
            if winner is not pair:
                yield Fault(
                    "warning",
                    "certificate",
                    f'"{pair.label}" and "{winner.label}" are both for "{name}": the second is shown, which is valid longer',
                )


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return str(error)
