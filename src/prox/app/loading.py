"""Loading a configuration that is about to be served: what this version can't do yet is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prox.config import ConfigError, Loaded, load, parse

from .certificates import file_findings


def load_served(config: Mapping[str, object] | str | Path, base: Path | None = None) -> Loaded:
    """Load a mapping, a file or a folder. It reads files, so inside an event loop it belongs into a thread.

    Raises:
        ConfigError: with every problem.
    """
    loaded = (
        parse(config, base or Path.cwd(), file_findings)
        if isinstance(config, Mapping)
        else load(config, file_findings)
    )
    found = (*loaded.unbuilt(), *loaded.warnings)
    if any(problem.severity == "error" for problem in found):
        raise ConfigError(found, loaded.sources)
    return loaded
