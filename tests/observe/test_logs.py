"""Log records, from a logger to the line that somebody reads."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
from typing import TYPE_CHECKING, Any

import pytest

from prox.observe.formats import fields
from prox.observe.logs import choose_level, setup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger("prox.test")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def machine() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    output = setup(logging.DEBUG, stream=stream)
    yield stream
    output.close()


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    output = setup(logging.DEBUG, stream=stream)
    yield stream
    output.close()


def fail(message: str) -> None:
    raise ValueError(message)


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


class TestLevel:
    @pytest.mark.parametrize(
        ("flag", "env", "configured", "level"),
        [
            (None, None, None, logging.INFO),
            ("", "", "", logging.INFO),
            (None, None, "debug", logging.DEBUG),
            (None, "error", "debug", logging.ERROR),
            ("warn", "error", "debug", logging.WARNING),
            ("info", None, "debug", logging.INFO),
            ("Warning", None, None, logging.WARNING),
            (None, " ERROR ", None, logging.ERROR),
            ("info", "nonsense", None, logging.INFO),
        ],
    )
    def test_the_flag_wins_then_the_environment(
        self, flag: str | None, env: str | None, configured: str | None, level: int
    ) -> None:
        assert choose_level(flag, env, configured) == level

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (("loud", None, None), "--log-level"),
            ((None, "loud", None), "LOG_LEVEL"),
            ((None, None, "loud"), "logging.level"),
        ],
    )
    def test_no_level(self, given: tuple[str | None, str | None, str | None], said: str) -> None:
        with pytest.raises(ValueError, match=f'{said}: "loud" is no level'):
            choose_level(*given)

    def test_prox_from_its_level_on_and_libraries_from_warning_on(self) -> None:
        stream = io.StringIO()
        output = setup(logging.INFO, stream=stream)
        log.debug("no")
        log.info("yes")
        logging.getLogger("library").info("no")
        logging.getLogger("library").warning("yes")
        output.configure(logging.ERROR, None)
        log.warning("no")
        output.close()
        assert [line["msg"] for line in read(stream)] == ["yes", "yes"]


class TestJson:
    def test_a_line(self, machine: io.StringIO) -> None:
        log.warning("plugin %s stopped", "auth", extra=fields(code=3, name="auth", hooks=["on_request"]))
        (line,) = read(machine)
        assert line.pop("ts").endswith("Z")
        assert line == {
            "level": "warn",
            "logger": "prox.test",
            "msg": "plugin auth stopped",
            "code": 3,
            "name": "auth",
            "hooks": ["on_request"],
        }

    @pytest.mark.parametrize(
        ("level", "name"),
        [
            (logging.DEBUG, "debug"),
            (logging.INFO, "info"),
            (logging.ERROR, "error"),
            (logging.CRITICAL, "error"),
        ],
    )
    def test_levels(self, machine: io.StringIO, level: int, name: str) -> None:
        log.log(level, "x")
        assert read(machine)[0]["level"] == name

    def test_plain_extra_is_shown_too(self, machine: io.StringIO) -> None:
        log.info("x", extra={"plugin": "auth"})
        assert read(machine)[0]["plugin"] == "auth"

    def test_fields_can_t_replace_what_a_line_is(self, machine: io.StringIO) -> None:
        log.info("x", extra=fields(msg="forged", level="error", ts=1))
        (line,) = read(machine)
        assert (line["msg"], line["level"], line["msg_"], line["level_"], line["ts_"]) == (
            "x",
            "info",
            "forged",
            "error",
            1,
        )

    def test_a_trace(self, machine: io.StringIO) -> None:
        try:
            fail("broken")
        except ValueError:
            log.exception("failed", stack_info=True)
        (line,) = read(machine)
        assert "ValueError: broken" in line["exception"]
        assert "Stack (most recent call last)" in line["exception"]

    def test_no_exception_no_trace(self, machine: io.StringIO) -> None:
        log.error("x", exc_info=True)  # noqa: LOG014 - that is what is tried
        assert "exception" not in read(machine)[0]

    @pytest.mark.parametrize(
        "value", ["\ud800", {1: 2}, object(), 1 << 70, b"\xff", float("nan"), {"a": object}, {(): 1}]
    )
    def test_odd_values_still_give_one_line(self, machine: io.StringIO, value: object) -> None:
        log.info("line\nbreak", extra=fields(value=value))
        (line,) = read(machine)
        assert line["msg"] == "line\nbreak"
        assert "value" in line

    @pytest.mark.parametrize("name", ["token", "Authorization", "set-cookie", "env"])
    def test_secrets_are_not_shown(self, machine: io.StringIO, name: str) -> None:
        log.info("x", extra=fields(**{name: "hunter2"}))
        assert "hunter2" not in machine.getvalue()
        assert read(machine)[0][name] == "[REDACTED]"


class TestConsole:
    def test_a_line(self, person: io.StringIO) -> None:
        log.info(
            "listening", extra=fields(address=":8080", note="two words", empty="", count=3, quoted='a"b')
        )
        text = person.getvalue()
        assert text[2] == text[5] == ":"
        assert (
            text[12:] == ' INFO  listening address=:8080 note="two words" empty="" count=3 quoted="a\\"b"\n'
        )

    def test_nothing_moves_the_cursor(self, person: io.StringIO) -> None:
        log.info("\x1b[2Jforged\nline \u202e", extra=fields(**{"k\r": "\x07"}))
        text = person.getvalue()
        assert text.endswith("\\x1b[2Jforged\\nline \\u202e k\\r=\\x07\n")
        assert text.count("\n") == 1

    def test_a_trace_stands_below(self, person: io.StringIO) -> None:
        try:
            fail("broken \x1b")
        except ValueError:
            log.exception("failed")
        head, *below = person.getvalue().splitlines()
        assert head.endswith("ERROR failed")
        assert below[-1] == "    ValueError: broken \\x1b"
        assert all(line.startswith("    ") for line in below)

    def test_a_real_terminal_gets_colour(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        ours, theirs = pty.openpty()
        with open(theirs, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
            output = setup(logging.INFO, stream=stream)
            log.error("red", extra=fields(key=1))
            output.close()
            shown = os.read(ours, 1000).decode()
        os.close(ours)
        assert "\x1b[31mERROR\x1b[0m red \x1b[36mkey\x1b[0m=1" in shown


class TestErrorLog:
    def test_warnings_and_errors_go_there_as_well(self, tmp_path: Path) -> None:
        stream = io.StringIO()
        output = setup(logging.DEBUG, stream=stream, error_log=tmp_path / "error.log")
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            log.log(level, "x", extra=fields(n=level))
        output.close()
        written = [json.loads(line) for line in (tmp_path / "error.log").read_text().splitlines()]
        assert [line["level"] for line in written] == ["warn", "error"]
        assert len(read(stream)) == 4

    async def test_it_does_not_block_the_loop(self, tmp_path: Path) -> None:
        output = setup(logging.INFO, stream=io.StringIO(), error_log=tmp_path / "error.log")
        log.error("x")
        output.close()
        assert (tmp_path / "error.log").read_text().count("\n") == 1

    def test_rotation(self, tmp_path: Path) -> None:
        path = tmp_path / "error.log"
        output = setup(logging.INFO, stream=io.StringIO(), error_log=path)
        log.error("1")
        path.rename(tmp_path / "old")
        log.error("2")
        output.reopen()
        log.error("3")
        output.close()
        assert [json.loads(line)["msg"] for line in (tmp_path / "old").read_text().splitlines()] == ["1", "2"]
        assert [json.loads(line)["msg"] for line in path.read_text().splitlines()] == ["3"]

    def test_rotation_that_fails_keeps_the_old_file(self, tmp_path: Path) -> None:
        stream = io.StringIO()
        folder = tmp_path / "logs"
        folder.mkdir()
        output = setup(logging.INFO, stream=stream, error_log=folder / "error.log")
        folder.rename(tmp_path / "moved")
        output.reopen()
        output.close()
        assert "does not exist" in read(stream)[0]["msg"]
        assert "does not exist" in (tmp_path / "moved" / "error.log").read_text()

    def test_a_reload_takes_another_file_or_none(self, tmp_path: Path) -> None:
        output = setup(logging.INFO, stream=io.StringIO(), error_log=tmp_path / "a")
        log.error("1")
        output.configure(logging.INFO, tmp_path / "b")
        log.error("2")
        with pytest.raises(OSError, match="does not exist"):
            output.configure(logging.INFO, tmp_path / "none" / "c")
        log.error("3")
        output.configure(logging.INFO, None)
        log.error("4")
        output.reopen()
        output.close()
        assert (tmp_path / "a").read_text().count("\n") == 1
        assert (tmp_path / "b").read_text().count("\n") == 2

    def test_a_full_disk_stops_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "error.log").symlink_to("/dev/full")
        stream = io.StringIO()
        output = setup(logging.INFO, stream=stream, error_log=tmp_path / "error.log")
        log.error("x")
        output.close()
        assert len(read(stream)) == 1


def test_without_setup_nothing_is_configured_and_close_leaves_nothing() -> None:
    root, prox = logging.getLogger(), logging.getLogger("prox")
    before = (list(root.handlers), root.level, list(prox.handlers), prox.level)
    assert prox.level == logging.NOTSET
    setup(logging.DEBUG, stream=io.StringIO()).close()
    assert (list(root.handlers), root.level, list(prox.handlers), prox.level) == before


def test_a_missing_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    before = list(logging.getLogger().handlers)
    with pytest.raises(OSError, match="does not exist"):
        setup(logging.INFO, stream=io.StringIO(), error_log=tmp_path / "none" / "error.log")
    assert logging.getLogger().handlers == before
