"""Configurations beside what is said about them.

Each `golden/NAME.json5`, and each folder `golden/NAME` with a `config.json5` or with services, has its findings in
`NAME.txt` or `NAME/expected.txt`. After a wanted change: `PROX_WRITE_GOLDEN=1 pytest tests/config/test_golden.py`,
and read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prox.config import ConfigError, load

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path for path in GOLDEN.iterdir() if path.suffix == ".json5" or path.is_dir())


def findings(path: Path) -> str:
    try:
        loaded = load(path)
    except ConfigError as error:
        problems = error.problems
    else:
        problems = (*loaded.unbuilt(), *loaded.warnings)
    return "".join(f"{problem}\n" for problem in problems).replace(f"{GOLDEN}/", "")


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_findings_are_those_of_the_file_beside(case: Path) -> None:
    if case.is_file():
        expected = case.with_suffix(".txt")
        found = findings(case)
    else:
        expected = case / "expected.txt"
        found = findings(case / "config.json5" if (case / "config.json5").exists() else case)
    if "PROX_WRITE_GOLDEN" in os.environ:
        expected.write_text(found)
    assert found == expected.read_text()
