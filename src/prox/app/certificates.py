"""Files of certificates and keys, looked into before a configuration is served: what is wrong has its place in it."""

from __future__ import annotations

from collections.abc import Iterator

from prox.config import Loaded, Problem
from prox.config.model import UpstreamTls
from prox.config.walk import models
from prox.tls.client import ClientFiles, TlsFileError, client_context


def file_problems(loaded: Loaded) -> Iterator[Problem]:
    """What is wrong with the files that `tls` of proxy actions names. Reads them."""
    for path, model in models(loaded.config):
        if isinstance(model, UpstreamTls):
            try:
                client_context(ClientFiles(model.ca, model.cert, model.key))
            except TlsFileError as error:
                yield loaded.error(str(error), (*path, error.key))
