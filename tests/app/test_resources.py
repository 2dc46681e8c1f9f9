"""Crowds and slow clients cost a little, and others next to nothing; `script/soak` does the same in full size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def figures(part: str) -> Any:
    """What a part of the soak says, small."""
    command = [sys.executable, "-m", "bench.soak", part, "--small", "--json"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)[part]
    assert told["latency"]["p50"] < 100, told
    return told


def test_idle_connections() -> None:
    told = figures("idle")
    assert told["kib_each"] < 12, told
    assert told["cpu_share"] < 0.5, told
    assert told["all_closed"], told


def test_connections_that_are_reset() -> None:
    told = figures("resets")
    assert told["kib_grown"] < 2048, told
    assert told["all_closed"], told


def test_a_byte_now_and_then() -> None:
    told = figures("trickle")
    assert told["statuses"] == ["408"], told
    assert told["seconds"][0] > 2.9, told
    assert told["seconds"][1] < 8, told


def test_readers_of_a_huge_answer_who_take_their_time() -> None:
    told = figures("slow_readers")
    assert told["kib_grown_each"] < 2048, told
    assert told["kib_taken_each"] < 32 * 1024, told  # what lies in buffers, most of them the kernel's


def test_more_clients_than_descriptors() -> None:
    told = figures("descriptors")
    assert told["kept_back"] > 0, told
    assert told["cpu_share"] < 0.5, told
    assert told["seconds_until_all_are_served"] < 5, told
    assert set(told["statuses"]) <= {"200", "503"}, told
    assert "200" in told["statuses"], told
