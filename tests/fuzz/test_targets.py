"""The fuzzer's targets hold for what it begins with, and for whatever once made them fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.fuzzed import TARGETS, seeds

CRASHERS = sorted((Path(__file__).parent / "crashers").glob("*/*"))


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    for seed in seeds(name):
        TARGETS[name](seed)
        for place in range(0, len(seed), 7):
            TARGETS[name](seed[:place])


@pytest.mark.parametrize("path", CRASHERS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_crashers(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())
