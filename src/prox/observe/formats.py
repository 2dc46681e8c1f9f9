"""How log records look: JSON lines for machines, a line in colour for people.

They stand on the stdlib and msgspec. structlog would do the same, but it brings rich with it: 7 MiB and 0.2 s
in each process, a sixth of the memory that an idle one may have.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec

from prox.observe.event import Event, below, pair, redacted, visible
from prox.observe.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FIELDS = "prox_fields"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", _FIELDS}
_DIM, _RED, _GREEN, _YELLOW, _CYAN, _PLAIN = (f"\x1b[{number}m" for number in (2, 31, 32, 33, 36, 0))
_COLOURS = {"debug": _DIM, "info": _GREEN, "warn": _YELLOW, "error": _RED}


def fields(**values: object) -> dict[str, object]:
    """The `extra` of a log call: values with any names, which the formatters show beside the message."""
    return {_FIELDS: values}


class JsonFormatter(logging.Formatter):
    """A JSON object a record: ts, level, logger, msg, the fields, and `exception` with the trace."""

    def __init__(self) -> None:
        super().__init__()
        self._encode = msgspec.json.Encoder(enc_hook=repr).encode

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, without its end."""
        line: dict[str, object] = {
            "ts": rfc3339(record.created),
            "level": _level(record),
            "logger": record.name,
            "msg": _message(record),
        }
        if trace := _trace(self, record):
            line["exception"] = trace
        for key, value in _values(record):
            name = key
            while name in line:
                name += "_"
            line[name] = value
        try:
            return self._encode(line).decode()
        except (UnicodeEncodeError, TypeError, ValueError):
            # Lone surrogates, keys that are no text, integers above 64 bits: readable all the same.
            safe = {_encodable(key): _encodable(value) for key, value in line.items()}
            return self._encode(safe).decode()


class ConsoleFormatter(logging.Formatter):
    """A line a record for people: time, level, message, fields; a trace below it.

    What clients and plugins had a hand in can't move the cursor or forge a line: characters that do not print
    are shown by their number.
    """

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, and more lines if it has a trace."""
        level = _level(record)
        time = self.formatTime(record, "%H:%M:%S") + f".{int(record.msecs):03d}"
        words = [
            self._painted(time, _DIM),
            self._painted(f"{level.upper():5}", _COLOURS[level]),
            visible(_message(record)),
        ]
        for key, value in _values(record):
            name, shown = pair(key, value)
            words.append(f"{self._painted(name, _CYAN)}={shown}")
        return "\n".join([" ".join(words), *below(_trace(self, record))])

    def _painted(self, text: str, colour: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colour else text


def _level(record: logging.LogRecord) -> str:
    if record.levelno >= logging.ERROR:
        return "error"
    if record.levelno >= logging.WARNING:
        return "warn"
    return "info" if record.levelno >= logging.INFO else "debug"


def _message(record: logging.LogRecord) -> str:
    return record.msg.text if isinstance(record.msg, Event) else record.getMessage()


def _values(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """What was given beside the message, by an `Event`, `fields` or a plain `extra`; secrets are not shown."""
    plain = ((key, value) for key, value in vars(record).items() if key not in _STANDARD)
    given: Mapping[str, object] = getattr(record, _FIELDS, {})
    event: Mapping[str, object] = record.msg.values if isinstance(record.msg, Event) else {}
    for key, value in (*event.items(), *given.items(), *plain):
        yield key, redacted(key, value)


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if isinstance(record.msg, Event) and record.msg.trace:
        parts.append(record.msg.trace)
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)


def _encodable(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text.encode("utf-8", "backslashreplace").decode()
