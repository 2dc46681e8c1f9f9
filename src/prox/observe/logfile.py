"""Log files: opened to append, never waited for, opened anew when they were rotated.

O_APPEND lets several processes write whole lines to one file. O_NONBLOCK means nothing to a file on a disk,
but where the "file" is a pipe or a terminal a reader that stalls can't stop prox.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_MODE = 0o640  # client addresses and paths are not for everybody


def open_log(path: Path) -> int:
    """A descriptor to append to `path`, which is made if it is not there; its folder is not.

    Raises:
        OSError: it can't be opened; the text says so in full, and `filename` is the path.
    """
    try:
        return os.open(path, _FLAGS, _MODE)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        if error.errno == errno.ENOENT:
            reason = f"the folder {path.parent} does not exist"
        elif error.errno == errno.ENXIO:
            reason = "it is a pipe that nobody reads, or a socket"
        raise OSError(error.errno, f"can't open the log file: {reason}", str(path)) from None
