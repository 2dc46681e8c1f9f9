from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from prox.cli import watching
from prox.cli.watching import UNKNOWN, changed, look


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_INTERVAL", 0.01)
    monkeypatch.setattr(watching, "_SETTLE", 0.05)


def test_what_is_not_there_has_no_state(tmp_path: Path) -> None:
    assert look([tmp_path / "none"]) == {tmp_path / "none": None}


def test_a_file_of_the_same_size_written_again_has_another_state(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    before = look([path])
    os.utime(path, ns=(0, 0))
    assert look([path]) != before


def test_a_folder_is_its_service_files(tmp_path: Path) -> None:
    before = look([tmp_path])
    (tmp_path / "access.log").touch()
    assert look([tmp_path]) == before
    (tmp_path / "web.json5").touch()
    assert look([tmp_path]) != before


def test_what_changed_since_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "file"
    began = time.time_ns()
    path.write_text("x")
    assert look([path], began)[path] == UNKNOWN
    assert look([path], began + 1_000_000_000)[path] == look([path])[path]


async def test_changes_are_told_when_they_have_settled(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    known = await asyncio.to_thread(look, [one, two, tmp_path])
    waiting = asyncio.get_running_loop().create_task(changed(known))
    for number in range(10):
        one.write_text("x" * number)
        await asyncio.sleep(0.01)
    two.write_text("x")
    assert await waiting == [one, two]


async def test_a_change_that_was_taken_back_is_none(tmp_path: Path) -> None:
    folder = tmp_path
    known = await asyncio.to_thread(look, [folder])
    waiting = asyncio.get_running_loop().create_task(changed(known))
    (folder / "a.json5").touch()
    await asyncio.sleep(0.03)
    (folder / "a.json5").unlink()
    done, _ = await asyncio.wait({waiting}, timeout=0.3)
    assert not done
    (folder / "b.json5").touch()
    assert await waiting == [folder]
