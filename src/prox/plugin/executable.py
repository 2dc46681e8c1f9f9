"""What tells one version of a plugin's program from another, without reading it.

Only the program counts, not what it reads or imports: a changed data file is no reason for another process. Where the
program is an interpreter, the script that it is given is the program as well.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .model import PluginSpec

_INTERPRETER: Final = re.compile(r"(python|pypy|node|bun|ruby|perl|php|lua|luajit|(ba|da|a|z|k)?sh)[0-9.]*")
_NO_SCRIPT: Final = ("-c", "-e", "-m")
"""Options of interpreters behind which no file follows."""


@dataclass(frozen=True, slots=True)
class FileSignature:
    """A file at one moment: any change to it changes one of these.

    Attributes:
        path: where it really is, behind all links.
        device: number of its file system.
        inode: its number there.
        size: in bytes.
        mtime_ns: when its content was changed.
        ctime_ns: when it was changed in any way.
    """

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    def __str__(self) -> str:
        seconds, fraction = divmod(self.mtime_ns, 1_000_000_000)
        changed = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        return f"{self.path} ({self.size} bytes, {changed}.{fraction // 1000:06}Z)"


@dataclass(frozen=True, slots=True)
class Version:
    """The files of a program at one moment."""

    files: tuple[FileSignature, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.files))


def program_files(spec: PluginSpec) -> tuple[Path, ...]:
    """The files that make up a plugin's program, whether they exist or not."""
    program = Path(spec.path).absolute()
    if not _INTERPRETER.fullmatch(program.name):
        return (program,)
    for argument in spec.args:
        if argument.startswith(_NO_SCRIPT):
            break
        if not argument.startswith("-"):
            return (program, Path(spec.cwd or "").absolute() / argument)
    return (program,)


def version_of(spec: PluginSpec) -> Version | None:
    """The present version of a plugin's program; None where a file of it is missing. Touches the disk."""
    try:
        return Version(tuple(map(_signature, program_files(spec))))
    except OSError:
        return None


def _signature(path: Path) -> FileSignature:
    real = os.path.realpath(path)
    found = Path(real).stat()
    return FileSignature(
        path=real,
        device=found.st_dev,
        inode=found.st_ino,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
    )
