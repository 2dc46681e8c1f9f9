"""What tests that compile Go share."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

needs_go = pytest.mark.skipif(
    shutil.which("go") is None,
    reason="there is no go in PATH, so no plugin in Go is compiled; on Debian: apt-get install golang-go",
)
COLD = pytest.mark.timeout(180)
"""The first compilation on a machine fetches modules and compiles the standard library."""

HELLO = """package main

import "os"

func main() {
	os.Stdout.WriteString("hello\\n")
}
"""


def write(path: Path, text: str, *, age: float = 0) -> Path:
    """Write a file that was changed so many seconds ago; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    then = time.time() - age
    os.utime(path, (then, then))
    return path
