"""A plugin's own log records, passed on to prox's log with their values as fields."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import msgspec

from prox.observe.event import Event
from prox.wire import PushParams

_log = logging.getLogger("prox.plugin")

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
_WITHOUT_KEY: Final = "!BADKEY"
"""The name of a last value without one, as Go's slog has it."""
_TRACES: Final = ("traceback", "stack")
"""What is shown as a trace: lines below the record."""


def log_from_plugin(name: str, params: PushParams) -> None:
    """Log the record of a `log` line; a level that is not known counts as info."""
    level = _LEVELS.get(params.level, logging.INFO)
    if not _log.isEnabledFor(level):
        return
    values = _values(params.args or ())
    traces = [values.pop(key) for key in _TRACES if isinstance(values.get(key), str)]
    said = {"plugin_" if key == "plugin" else key: value for key, value in values.items()}
    trace = "\n".join(str(trace).rstrip("\n") for trace in traces)
    _log.log(level, Event(params.message, {"plugin": name, **said}, trace))


def _values(args: Sequence[object]) -> dict[str, object]:
    """Keys and values in turn; of a key that stands there twice the last holds."""
    values = {_name(key): value for key, value in zip(args[::2], args[1::2], strict=False)}
    if len(args) % 2:
        values[_WITHOUT_KEY] = args[-1]
    return values


def _name(key: object) -> str:
    return key if isinstance(key, str) else msgspec.json.encode(key).decode()
