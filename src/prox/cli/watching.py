"""Telling when a file of the configuration has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from watchfiles import Change, awatch

_SETTLE_MS = 200
"""Changes that follow each other this closely are one: an editor writes a file in several steps."""


async def watch_files(sources: Sequence[Path], changed: Callable[[str], None]) -> None:
    """Call `changed` with a reason whenever one of `sources` changes, appears anew or goes; never returns.

    Folders are watched rather than files, since editors and configuration management replace files by renaming. A symbolic
    link is followed too: mounted configuration changes where the link points.
    """
    files = {path for path in sources if not path.is_dir()}
    folders = {path for path in sources if path.is_dir()}
    targets = {path.resolve() for path in files}
    watched = {path.parent for path in files | targets} | folders

    def matters(_change: Change, name: str) -> bool:
        path = Path(name)
        return path in files or path in targets or (path.parent in folders and path.suffix == ".json5")

    present = [path for path in watched if path.exists()]
    if not present:
        return
    async for changes in awatch(*present, watch_filter=matters, step=_SETTLE_MS, recursive=False):
        names = sorted({Path(name).name for _, name in changes})
        changed(f"{', '.join(names)} changed")
