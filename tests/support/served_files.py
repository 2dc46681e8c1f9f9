"""A folder to be served, the actions that serve it, and a look at what is held open."""

from __future__ import annotations

import os
from pathlib import Path

from prox.config import model
from prox.proxy.actions.serve import ServeAction

BIG = 64 * 1024 * 1024
"""Size of `big.bin`, which is all zeros and takes no room."""


def make_root(base: Path) -> Path:
    """A root with files of several kinds, beside a secret that is not in it."""
    root = base / "root"
    (root / "folder").mkdir(parents=True)
    (root / "empty folder").mkdir()
    (root / "digits.txt").write_bytes(b"0123456789")
    (root / "empty").touch()
    (root / "index.html").write_text("top")
    (root / "folder" / "index.html").write_text("folder")
    (base / "secret").write_text("secret")
    with (root / "big.bin").open("wb") as big:
        big.truncate(BIG)
    return root


def serve(root: Path | str) -> ServeAction:
    return ServeAction(model.ServeAction.model_construct(type="serve", root=str(root), file=None))


def serve_file(file: Path) -> ServeAction:
    return ServeAction(model.ServeAction.model_construct(type="serve", root=None, file=str(file)))


def open_below(folder: Path) -> list[str]:
    """What this process holds open below a folder."""
    found = []
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names alone
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")  # noqa: PTH115 - it may have gone
        except OSError:
            continue
        if target.startswith(str(folder)):
            found.append(target)
    return found
