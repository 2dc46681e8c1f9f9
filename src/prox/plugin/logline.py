"""A plugin's own log records, passed on to prox's log."""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from prox.wire import PushParams

from .process import printable

_log = logging.getLogger("prox.plugin")

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


def log_from_plugin(name: str, params: PushParams) -> None:
    """Log the record of a `log` line; a level that is not known counts as info."""
    level = _LEVELS.get(params.level, logging.INFO)
    if not _log.isEnabledFor(level):
        return
    args = params.args or []
    pairs = [f" {_text(key)}={_text(value)}" for key, value in zip(args[::2], args[1::2], strict=False)]
    rest = [f" {_text(args[-1])}"] if len(args) % 2 else []
    _log.log(level, "plugin %s: %s%s", name, printable(params.message), "".join(pairs + rest))


def _text(value: object) -> str:
    return printable(value if isinstance(value, str) else msgspec.json.encode(value).decode())
