"""The environment of a plugin: little of prox's own, so that secrets meant for prox don't leak into it."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final

from .accounts import Account
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

_OF_USER: Final = ("HOME", "USER", "LOGNAME")

DIRECTORY: Final = "PROX_PLUGIN_DIR"
"""The variable that names the plugin's private directory, the place for its socket."""


def plugin_environment(
    spec: PluginSpec, own: Mapping[str, str], directory: str, account: Account | None = None
) -> dict[str, str]:
    """The variables of a plugin: the allowed part of `own`, those of its user, then what its settings add.

    Where it runs as another user, HOME, USER and LOGNAME are that user's and never prox's own; USER and LOGNAME are
    left out where that user has no name.
    """
    patterns = [*PASSED, *spec.env_pass]
    variables = {name: value for name, value in own.items() if any(_matches(name, p) for p in patterns)}
    if account is not None and account.home:
        for name in _OF_USER:
            variables.pop(name, None)
        theirs = {"HOME": account.home, "USER": account.name, "LOGNAME": account.name}
        variables |= {name: value for name, value in theirs.items() if value}
    return variables | dict(spec.env) | {DIRECTORY: directory}


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern.replace("[", "[[]").replace("?", "[?]"))
