"""Files of certificates and keys, looked into before a configuration is served: what is wrong has its place in it."""

from __future__ import annotations

from collections.abc import Iterator

from prox.config import Finding
from prox.config.model import Config, Service, UpstreamTls
from prox.config.walk import models
from prox.tls.client import ClientFiles, TlsFileError, client_context


def file_findings(config: Config) -> Iterator[Finding]:
    """What is wrong or doubtful about the files that `tls` of services and of proxy actions names. Reads them."""
    for path, model in models(config):
        if isinstance(model, Service) and (model.tls or (model.tls is None and model.tls_cert is not None)):
            # Late: what looks into certificates is loaded by those alone who have some.
            from .securing import faults

            for key, fault, files in faults(model):
                yield Finding(fault.severity, fault.message, (*path, *key), fault.hint, files)
        elif isinstance(model, UpstreamTls):
            named = ClientFiles(model.ca, model.cert, model.key)
            try:
                client_context(named)
            except TlsFileError as error:
                yield Finding("error", str(error), (*path, error.key), files=tuple(named.named()))
