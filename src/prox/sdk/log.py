"""Structured log lines for prox, and the way there for Python's own `logging`."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

from prox.wire import METHOD_LOG, EncodeError, Push, PushParams, encode_line

from .outbox import Outbox

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}

_own = logging.getLogger("prox.sdk")


def log_line(level: str, message: str, fields: dict[str, Any]) -> bytes:
    """One `log` line; values that JSON has no form for are written as their text."""
    args: list[Any] = []
    for key, value in fields.items():
        args += (str(key), _plain(value))
    try:
        return encode_line(Push(METHOD_LOG, PushParams(level=level, message=message, args=args or None)))
    except EncodeError:  # lone surrogates, as file names may hold
        args = [_printable(arg) if isinstance(arg, str) else arg for arg in args]
        params = PushParams(level=level, message=_printable(message), args=args or None)
        return encode_line(Push(METHOD_LOG, params))


def dropped_logs_line(count: int) -> bytes:
    """The line that reports log lines which were dropped."""
    return log_line("warn", "log lines were dropped, because prox reads too slowly", {"count": count})


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | str():
            return value
        case int() if -(2**63) <= value < 2**63:
            return int(value)
        case float() if abs(value) < float("inf"):
            return float(value)
    return str(value)


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class PluginLog:
    """Structured records: a message and named values, `plugin.log.info("reloaded", users=12)`.

    Before `run()` they go to the standard logger `prox.sdk`.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._on_failure: Callable[[str, BaseException], None] | None = None

    def debug(self, message: str, /, **fields: Any) -> None:
        """Details for whoever looks for a fault."""
        self._log("debug", message, fields)

    def info(self, message: str, /, **fields: Any) -> None:
        """What happens in normal operation."""
        self._log("info", message, fields)

    def warn(self, message: str, /, **fields: Any) -> None:
        """What someone should look at."""
        self._log("warn", message, fields)

    warning = warn

    def error(self, message: str, /, **fields: Any) -> None:
        """What failed."""
        self._log("error", message, fields)

    def failure(self, message: str, error: BaseException, /, **fields: Any) -> None:
        """What failed, with the traceback of `error`."""
        if self._on_failure is not None:
            self._on_failure(message, error)
        fields["error"] = f"{type(error).__name__}: {error}"
        fields["traceback"] = "".join(traceback.format_exception(error))
        self._log("error", message, fields)

    def _log(self, level: str, message: str, fields: dict[str, Any]) -> None:
        if self._outbox.started:
            self._outbox.log(log_line(level, str(message), fields))
        else:
            values = "".join(f" {key}={value!r}" for key, value in fields.items())
            _own.log(_LEVELS[level], "%s%s", message, values)


class ForwardingHandler(logging.Handler):
    """Sends the records of `logging` to prox: with the logger's name, `extra` values and the traceback."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self._outbox = outbox

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record."""
        try:
            fields: dict[str, Any] = {"logger": record.name}
            fields |= {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
            if record.exc_info:
                fields["traceback"] = "".join(traceback.format_exception(*record.exc_info))
            if record.stack_info:
                fields["stack"] = record.stack_info
            self._outbox.log(log_line(_level(record.levelno), record.getMessage(), fields))
        except Exception:
            self.handleError(record)


def _level(number: int) -> str:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warn"
    return "info" if number >= logging.INFO else "debug"
