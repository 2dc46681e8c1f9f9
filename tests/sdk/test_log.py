"""Log lines: structured ones, those of `logging`, and values that JSON does not know."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from prox.sdk import Plugin
from prox.sdk.log import log_line
from support.plugin_driver import PluginDriver

SPEAKER = """
import logging
from prox.sdk import Plugin
plugin = Plugin()
logger = logging.getLogger("guard.keys")

@plugin.on_configure
def configured(route):
    plugin.log.debug("d")
    plugin.log.info("i", users=3, rate=0.5, ok=True, none=None, path=plugin.__class__, level="x", message="y")
    plugin.log.warn("w")
    plugin.log.warning("w2")
    plugin.log.error("e")
    logger.debug("not shown")
    logger.info("keys: %d", 7, extra={"source": "file"})
    logger.warning("old key", stack_info=True)
    logger.critical("gone")
    logger.info("broken %d", "x")
    try:
        {}["key"]
    except KeyError:
        logger.exception("lookup")

plugin.run(OPTIONS)
"""


async def records(plugin: PluginDriver) -> list[tuple[str, str, list[Any] | None]]:
    await plugin.configure()
    return [(record.level, record.message, record.args) for record in plugin.logs]


async def test_all_ways_to_log(tmp_path: Path) -> None:
    async with PluginDriver(SPEAKER.replace("OPTIONS", ""), tmp_path) as plugin:
        got = await records(plugin)
        assert [(level, message) for level, message, _ in got] == [
            ("debug", "d"),
            ("info", "i"),
            ("warn", "w"),
            ("warn", "w2"),
            ("error", "e"),
            ("info", "keys: 7"),
            ("warn", "old key"),
            ("error", "gone"),
            ("error", "lookup"),
        ]
        args = {message: dict(zip(args[::2], args[1::2], strict=True)) for _, message, args in got if args}
        assert args["i"] == {
            "users": 3,
            "rate": 0.5,
            "ok": True,
            "none": None,
            "path": "<class 'prox.sdk.plugin.Plugin'>",
            "level": "x",
            "message": "y",
        }
        assert args["keys: 7"] == {"logger": "guard.keys", "source": "file"}
        assert args["old key"]["stack"].startswith("Stack (most recent call last)")
        assert "KeyError: 'key'" in args["lookup"]["traceback"]
        status, _, errors = await plugin.stop()
        assert status == 0
        assert "--- Logging error ---" in errors  # of the broken one, told to its author


async def test_the_level_and_leaving_logging_alone(tmp_path: Path) -> None:
    async with PluginDriver(SPEAKER.replace("OPTIONS", "log_level='ERROR'"), tmp_path) as plugin:
        shown = [message for _, message, args in await records(plugin) if args and "logger" in args]
        assert shown == ["gone", "lookup"]
    async with PluginDriver(SPEAKER.replace("OPTIONS", "log_level=None"), tmp_path) as plugin:
        assert [message for _, message, args in await records(plugin) if args and "logger" in args] == []


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("\udcff.txt", "\\udcff.txt"),
        (2**63 - 1, 2**63 - 1),
        (2**63, str(2**63)),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        (b"x", "b'x'"),
        ([1], "[1]"),
        (logging.INFO, 20),
    ],
)
def test_values_that_json_does_not_know(value: Any, written: Any) -> None:
    line = log_line("info", "m", {"k": value})
    assert json.loads(line)["params"] == {"level": "info", "message": "m", "args": ["k", written]}


def test_text_that_is_no_text() -> None:
    line = log_line("info", "file \udcff", {"\ud800": 1})
    assert json.loads(line)["params"] == {"level": "info", "message": "file \\udcff", "args": ["\\ud800", 1]}


def test_before_it_runs_a_plugin_logs_by_logging(caplog: pytest.LogCaptureFixture) -> None:
    plugin = Plugin()
    plugin.log.warning("no keys", path="/etc/keys")
    plugin.log.failure("bad", ValueError("x"))
    assert caplog.records[0].name == "prox.sdk"
    assert caplog.messages[0] == "no keys path='/etc/keys'"
    assert caplog.messages[1].startswith("bad error='ValueError: x'")
