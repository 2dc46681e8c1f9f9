"""The access log: whole lines, in few writes, whatever happens to the file."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from prox.observe import access
from prox.observe.access import AccessLog, AccessLogs, AccessRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def record(path: str = "/", **more: Any) -> AccessRecord:
    given: dict[str, Any] = {
        "service": "web",
        "route": 0,
        "method": "GET",
        "path": path,
        "status": 200,
        "duration_ms": 1.5,
        "bytes_in": 0,
        "bytes_out": 2,
        "client_ip": "192.0.2.1",
        "user_agent": "curl/8",
        "target": "10.0.0.1:80",
    }
    return AccessRecord(**(given | more))


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text()
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        await asyncio.sleep(0.005)


class TestRecord:
    async def test_one_that_has_no_form_leaves_nothing_in_the_file(self, tmp_path: Path) -> None:
        log = AccessLog(tmp_path / "a.log")
        log.write(record("/before"))
        with pytest.raises(TypeError):
            log.write(record("/" + "x" * 5000, user_agent=object()))
        log.write(record("/after"))
        log.close()
        assert [line["path"] for line in lines(log.path)] == ["/before", "/after"]

    async def test_its_line(self, tmp_path: Path) -> None:
        log = AccessLog(tmp_path / "a.log")
        log.write(record("/ä b\n\x00", duration_ms=1.23456789))
        log.close()
        (line,) = lines(log.path)
        assert list(line) == [
            *("ts", "service", "route", "method", "path", "status", "duration_ms", "bytes_in", "bytes_out"),
            *("client_ip", "user_agent", "target"),
        ]
        stamp = line.pop("ts")
        assert time.strptime(stamp, f"%Y-%m-%dT%H:%M:%S.{stamp[-4:-1]}Z")
        assert line == {
            "service": "web",
            "route": 0,
            "method": "GET",
            "path": "/ä b\n\x00",
            "status": 200,
            "duration_ms": 1.234,
            "bytes_in": 0,
            "bytes_out": 2,
            "client_ip": "192.0.2.1",
            "user_agent": "curl/8",
            "target": "10.0.0.1:80",
        }

    async def test_where_a_hook_ran(self, tmp_path: Path) -> None:
        log = AccessLog(tmp_path / "a.log")
        log.write(
            record(plugin="auth", verdict="deny", hook_ms=0.0, reason="plugin_denied", status=403, target="")
        )
        log.close()
        (line,) = lines(log.path)
        assert (line["plugin"], line["verdict"], line["hook_ms"], line["reason"]) == (
            "auth",
            "deny",
            0.0,
            "plugin_denied",
        )
        assert line["target"] == ""

    async def test_bytes_that_are_no_utf8_leave_the_line_whole(self, tmp_path: Path) -> None:
        log = AccessLog(tmp_path / "a.log")
        log.write(record("/before"))
        log.write(record(b"/\xff/x".decode("utf-8", "surrogateescape"), user_agent="\ud800"))
        log.write(record("/after"))
        log.close()
        before, odd, after = lines(log.path)
        assert (before["path"], after["path"]) == ("/before", "/after")
        assert (odd["path"], odd["user_agent"]) == ("/\\udcff/x", "\\ud800")


class TestWriting:
    async def test_a_timer_writes_a_few_lines(self, tmp_path: Path) -> None:
        log = AccessLog(tmp_path / "a.log")
        log.write(record("/1"))
        log.write(record("/2"))
        assert not lines(log.path)
        await until(lambda: len(lines(log.path)) == 2)
        log.write(record("/3"))
        await until(lambda: len(lines(log.path)) == 3)
        log.close()

    async def test_a_full_chunk_is_written_at_once_and_by_one_call(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes: list[int] = []
        write = os.write

        def counted(fd: int, data: bytes) -> int:
            sizes.append(len(data))
            return write(fd, data)

        monkeypatch.setattr(os, "write", counted)
        log = AccessLog(tmp_path / "a.log")
        for number in range(1000):
            log.write(record(f"/{number}"))
        assert sizes
        assert all(64 * 1024 <= size < 65 * 1024 for size in sizes)
        log.close()
        assert [line["path"] for line in lines(log.path)] == [f"/{number}" for number in range(1000)]

    async def test_flush_writes_now(self, tmp_path: Path) -> None:
        log = AccessLog(tmp_path / "a.log")
        log.write(record())
        log.flush()
        assert len(lines(log.path)) == 1
        log.close()

    async def test_after_close_lines_are_counted_as_lost(self, tmp_path: Path) -> None:
        log = AccessLog(tmp_path / "a.log")
        log.close()
        log.close()
        log.write(record())
        log.flush()
        log.reopen()
        assert log.dropped == 1
        assert not lines(log.path)

    def test_several_processes_append_whole_lines(self, tmp_path: Path) -> None:
        program = """
import asyncio, sys
from pathlib import Path
from prox.observe.access import AccessLog, AccessRecord
async def main():
    log = AccessLog(Path(sys.argv[1]))
    for number in range(3000):
        log.write(AccessRecord(service="web", route=0, method="GET", path="/" + "x" * (number % 200), status=200,
            duration_ms=1.0, bytes_in=0, bytes_out=0, client_ip="", user_agent="", target=""))
    log.close()
asyncio.run(main())
"""
        path = tmp_path / "a.log"
        running = [subprocess.Popen([sys.executable, "-c", program, str(path)]) for _ in range(2)]
        assert [process.wait(15) for process in running] == [0, 0]
        assert len(lines(path)) == 6000


class TestRotation:
    async def test_no_line_is_lost_or_doubled(self, tmp_path: Path) -> None:
        path, old = tmp_path / "a.log", tmp_path / "a.log.1"
        log = AccessLog(path)
        log.write(record("/1"))
        log.flush()
        path.rename(old)
        log.write(record("/2"))
        log.reopen()
        log.write(record("/3"))
        log.close()
        assert [line["path"] for line in lines(old)] == ["/1", "/2"]
        assert [line["path"] for line in lines(path)] == ["/3"]

    async def test_a_path_that_can_t_be_opened_keeps_the_old_file(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder = tmp_path / "logs"
        folder.mkdir()
        log = AccessLog(folder / "a.log")
        folder.rename(tmp_path / "moved")
        log.write(record("/1"))
        log.reopen()
        log.write(record("/2"))
        log.close()
        assert [line["path"] for line in lines(tmp_path / "moved" / "a.log")] == ["/1", "/2"]
        assert "does not exist" in caplog.text


class TestTrouble:
    async def test_a_full_disk_is_reported_once_and_bounded(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "a.log").symlink_to("/dev/full")
        log = AccessLog(tmp_path / "a.log")
        for number in range(10_000):
            log.write(record(f"/{number}"))
        assert len(log._buffer) < 1024 * 1024 + 1024
        assert 0 < log.dropped < 10_000
        assert [entry.levelno for entry in caplog.records] == [logging.ERROR]
        assert "No space left" in caplog.text
        kept = 10_000 - log.dropped
        (tmp_path / "a.log").unlink()
        log.reopen()
        log.flush()
        assert [line["path"] for line in lines(log.path)] == [f"/{number}" for number in range(kept)]
        assert f"{log.dropped} lines were lost" in caplog.records[-1].getMessage()
        log.close()

    async def test_closed_while_full_says_what_is_lost(
        self, caplog: pytest.LogCaptureFixture, tmp_path: Path
    ) -> None:
        (tmp_path / "a.log").symlink_to("/dev/full")
        log = AccessLog(tmp_path / "a.log")
        log.write(record())
        log.write(record())
        log.close()
        assert log.dropped == 2
        assert "2 lines were lost" in caplog.records[-1].getMessage()

    async def test_a_pipe_that_stalls_gets_whole_lines(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "pipe"
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        log = AccessLog(path)
        for number in range(2000):
            log.write(record(f"/{number}"))
        assert log._torn
        got = bytearray()

        def read() -> bool:
            while True:
                try:
                    got.extend(os.read(reader, 1 << 20))
                except BlockingIOError:
                    break
            return got.count(b"\n") == 2000

        await until(read)
        assert [json.loads(line)["path"] for line in got.splitlines()] == [
            f"/{number}" for number in range(2000)
        ]
        assert [entry.levelno for entry in caplog.records] == [logging.ERROR, logging.WARNING]
        log.close()
        os.close(reader)

    async def test_a_torn_line_is_not_finished_in_another_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.log"
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        log = AccessLog(path)
        for number in range(2000):
            log.write(record(f"/{number}"))
        assert log._torn
        path.rename(tmp_path / "pipe")
        log.reopen()
        log.close()
        written = os.read(reader, 1 << 20)
        os.close(reader)
        whole = written.count(b"\n")
        assert log.dropped == 1
        assert [line["path"] for line in lines(path)] == [f"/{number}" for number in range(whole + 1, 2000)]

    def test_a_missing_folder_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match=r"the folder .*/none does not exist.*none/a\.log"):
            AccessLog(tmp_path / "none" / "a.log")

    def test_a_folder_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="Is a directory"):
            AccessLog(tmp_path)

    def test_a_pipe_without_a_reader_does_not_block(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OSError, match="nobody reads"):
            AccessLog(tmp_path / "pipe")


class TestLogs:
    async def test_one_log_for_a_file_until_the_last_user_is_gone(self, tmp_path: Path) -> None:
        logs = AccessLogs()
        first = logs.open(tmp_path / "a.log")
        assert logs.open(tmp_path / "a.log") is first
        assert logs.open(tmp_path / "b.log") is not first
        logs.release(first)
        first.write(record("/1"))
        logs.release(first)
        assert len(lines(tmp_path / "a.log")) == 1
        assert logs.open(tmp_path / "a.log") is not first
        logs.close()
        assert not list(logs)

    async def test_all_are_reopened_and_closed(self, tmp_path: Path) -> None:
        logs = AccessLogs()
        for name in ("a.log", "b.log"):
            logs.open(tmp_path / name).write(record("/1"))
            (tmp_path / name).rename(tmp_path / f"{name}.1")
        logs.reopen()
        for log in logs:
            log.write(record("/2"))
        logs.close()
        for name in ("a.log", "b.log"):
            assert [line["path"] for line in lines(tmp_path / f"{name}.1")] == ["/1"]
            assert [line["path"] for line in lines(tmp_path / name)] == ["/2"]


def test_the_file_is_not_for_everybody(tmp_path: Path) -> None:
    log = access.AccessLog(tmp_path / "a.log")
    assert (tmp_path / "a.log").stat().st_mode & 0o007 == 0
    log.close()
