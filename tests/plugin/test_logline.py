"""A plugin's log records in prox's log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from prox.observe.formats import ConsoleFormatter, JsonFormatter
from prox.plugin.logline import log_from_plugin
from prox.wire import PushParams

LOG = logging.getLogger("prox.plugin")
TRACE = 'Traceback (most recent call last):\n  File "guard.py", line 3\nValueError: \x1b no\n'


@pytest.fixture
def as_json() -> Iterator[io.StringIO]:
    yield from written(JsonFormatter())


@pytest.fixture
def as_text() -> Iterator[io.StringIO]:
    yield from written(ConsoleFormatter(colour=False))


def written(formatter: logging.Formatter) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    LOG.addHandler(handler)
    LOG.setLevel(logging.DEBUG)
    yield stream
    LOG.removeHandler(handler)
    LOG.setLevel(logging.NOTSET)


def say(message: str, *args: object, level: str = "info") -> None:
    log_from_plugin("guard", PushParams(level=level, message=message, args=list(args) or None))


def line(stream: io.StringIO) -> dict[str, Any]:
    (text,) = stream.getvalue().splitlines()
    found: dict[str, Any] = json.loads(text)
    found.pop("ts")
    return found


def test_values_are_fields(as_json: io.StringIO) -> None:
    say("let in", "user", "alice", "n", 3, "ok", True, "of", {"a": [1.5, None]}, level="warn")
    assert line(as_json) == {
        "level": "warn",
        "logger": "prox.plugin",
        "msg": "let in",
        "plugin": "guard",
        "user": "alice",
        "n": 3,
        "ok": True,
        "of": {"a": [1.5, None]},
    }


def test_values_in_text(as_text: io.StringIO) -> None:
    say("let in %s", "user", "two words", "n", 3, "ok", True)
    assert as_text.getvalue()[13:] == 'INFO  let in %s plugin=guard user="two words" n=3 ok=true\n'


def test_odd_keys_are_kept(as_json: io.StringIO) -> None:
    say("x", 5, "five", None, "none", "twice", 1, "twice", 2, "alone")
    found = line(as_json)
    assert [found[key] for key in ("5", "null", "twice", "!BADKEY")] == ["five", "none", 2, "alone"]


@pytest.mark.parametrize(
    "key",
    ["msg", "level", "logger", "plugin", "name", "args", "exc_info", "message", "prox_fields", "exception"],
)
def test_no_name_breaks_or_forges_anything(as_json: io.StringIO, as_text: io.StringIO, key: str) -> None:
    say("real", key, "forged", "traceback", "a trace", "last", 1)
    found = line(as_json)
    assert (found["msg"], found["level"], found["logger"], found["plugin"]) == (
        "real",
        "info",
        "prox.plugin",
        "guard",
    )
    assert found["exception"] == "a trace"
    assert found["last"] == 1
    assert "forged" in found.values()
    assert "real plugin=guard " in as_text.getvalue()
    assert "=forged last=1\n    a trace\n" in as_text.getvalue()


def test_ts_is_not_forged(as_json: io.StringIO) -> None:
    say("x", "ts", "forged", "ts_", "too", "ts__", 3)
    found = json.loads(as_json.getvalue())
    assert found["ts"].endswith("Z")
    assert {"forged", "too", 3} <= {value for value in found.values() if value != "x"}


def test_text_forges_no_line(as_text: io.StringIO) -> None:
    say("one\n00:00:00.000 ERROR two", "k\n", "v\r\x1b[2J", "a=b c", "\u2028")
    (text,) = as_text.getvalue().splitlines()
    assert text.endswith(r'one\n00:00:00.000 ERROR two plugin=guard k\n=v\r\x1b[2J "a=b c"=\u2028')


def test_a_traceback_is_one_string_in_json(as_json: io.StringIO) -> None:
    say("failed", "error", "ValueError", "traceback", TRACE, "stack", "Stack:\n  here", level="error")
    assert line(as_json) == {
        "level": "error",
        "logger": "prox.plugin",
        "msg": "failed",
        "plugin": "guard",
        "error": "ValueError",
        "exception": TRACE + "Stack:\n  here",
    }


def test_a_traceback_is_lines_in_text(as_text: io.StringIO) -> None:
    say("failed", "traceback", TRACE, level="error")
    assert as_text.getvalue().splitlines()[1:] == [
        "    Traceback (most recent call last):",
        '      File "guard.py", line 3',
        "    ValueError: \\x1b no",
    ]


def test_a_traceback_that_is_no_text_is_a_value(as_json: io.StringIO) -> None:
    say("x", "traceback", ["a"])
    assert line(as_json)["traceback"] == ["a"]


def test_plain_logging_shows_it_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "prox.plugin")
    say("let in", "user", "alice")
    assert caplog.messages == ["let in plugin=guard user=alice"]
    assert caplog.records[0].name == "prox.plugin"
