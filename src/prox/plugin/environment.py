"""The environment of a plugin: little of prox's own, so that secrets meant for prox don't leak into it."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final

from .model import PluginSpec

PASSED: Final = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_*",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
"""What every plugin gets of prox's own variables."""

DIRECTORY: Final = "PROX_PLUGIN_DIR"
"""The variable that names the plugin's private directory, the place for its socket."""


def plugin_environment(spec: PluginSpec, own: Mapping[str, str], directory: str) -> dict[str, str]:
    """The variables of a plugin: the allowed part of `own`, then what its settings add."""
    patterns = [*PASSED, *spec.env_pass]
    passed = {name: value for name, value in own.items() if any(_matches(name, p) for p in patterns)}
    return passed | dict(spec.env) | {DIRECTORY: directory}


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern.replace("[", "[[]").replace("?", "[?]"))
