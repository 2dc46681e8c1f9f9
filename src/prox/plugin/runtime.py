"""The directories in which plugins put their sockets: one for each process, under one of prox's.

The parent can be walked through but not listed (0711), each directory belongs to its plugin alone (0700), so
nobody else can put a socket there or connect to one. Names are never used twice, so a stale socket of an
earlier life is never met. All calls touch the disk: run them in a thread.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from itertools import count
from pathlib import Path

from .accounts import Account

_LONGEST_BASE = 60
"""A socket's path has at most 107 bytes; what prox and the plugin put behind the base must fit."""


class RuntimeDirectory:
    """The parent directory, made when it is first needed.

    Args:
        base: where to make it; the system's directory for temporary files when None.
    """

    def __init__(self, base: str | None = None) -> None:
        self._base = base
        self._numbers = count(1)
        self.path: Path | None = None

    def open(self) -> Path:
        """Make the parent directory, once."""
        if self.path is None:
            base = self._base or tempfile.gettempdir()
            if self._base is None and len(base.encode()) > _LONGEST_BASE:
                base = "/tmp"  # noqa: S108 - mkdtemp makes a name of its own there, closed to others
            path = Path(tempfile.mkdtemp(prefix="prox-", dir=base)).resolve()
            path.chmod(0o711)
            self.path = path
        return self.path

    def make(self, owner: Account | None = None) -> Path:
        """Make a directory for one process, which belongs to `owner`; to prox's own user when None.

        Raises:
            PermissionError: prox may give nothing to that owner.
        """
        path = self.open() / str(next(self._numbers))
        path.mkdir(mode=0o700)
        try:
            path.chmod(0o700)
            if owner is not None:
                os.chown(path, owner.uid, owner.gid)
        except OSError:
            path.rmdir()
            raise
        return path

    def close(self) -> None:
        """Remove everything; what is gone already is no error."""
        if self.path is not None:
            remove(self.path)
            self.path = None


def remove(path: Path) -> None:
    """Remove a directory and all in it; what can't be removed stays.

    It follows no link, also not one that is put there meanwhile: what is in it belongs to another user, perhaps.
    """
    assert shutil.rmtree.avoids_symlink_attacks
    with contextlib.suppress(RecursionError):  # folders deeper than any program needs
        shutil.rmtree(path, ignore_errors=True)
