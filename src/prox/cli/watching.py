"""Telling when a file of the configuration has changed.

The files are looked at every half second, by their names, and compared with what they were when they were read. That is
slower than asking the kernel and sees what it does not tell of: files on network and container mounts, a link far up the
path that points elsewhere now, what changed between reading and watching. A thousand files cost a few milliseconds a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from stat import S_ISDIR
from typing import Final, TypeAlias

State: TypeAlias = tuple[object, ...] | None
"""What tells one state of a file from another; None where there is none."""

_INTERVAL = 0.5
_SETTLE = 0.1
"""A change is told when nothing has changed for so long: an editor writes a file in several steps."""

_MEMBERS: Final = frozenset({".json5", ".crt", ".pem", ".key"})
"""The ends of names that make a file a member of a folder that is read."""

UNKNOWN: Final[State] = ("unknown",)
"""The state of a file that may have changed after it was read: it differs from every other."""

_CLOCK = 20_000_000
"""Nanoseconds by which the clock of a file system may be behind."""


def look(paths: Iterable[Path], since: int | None = None) -> dict[Path, State]:
    """The present state of files, and of folders of service files or certificates. Touches the disk.

    Args:
        paths: what to look at.
        since: what was changed after this time, in nanoseconds, is UNKNOWN.
    """
    return {path: _state(path, since) for path in paths}


async def changed(known: Mapping[Path, State]) -> list[Path]:
    """Wait until some of these are not as they were; which."""
    loop = asyncio.get_running_loop()
    before = known
    while True:
        await asyncio.sleep(_INTERVAL)
        now = await loop.run_in_executor(None, look, known)
        while now != before:
            before = now
            await asyncio.sleep(_SETTLE)
            now = await loop.run_in_executor(None, look, known)
        found = [path for path, state in now.items() if state != known[path]]
        if found:
            return found


def _state(path: Path, since: int | None) -> State:
    try:
        found = path.stat()
        if since is not None and found.st_ctime_ns > since - _CLOCK:
            return UNKNOWN
        if S_ISDIR(found.st_mode):
            return tuple(sorted(entry.name for entry in path.iterdir() if entry.suffix in _MEMBERS))
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
