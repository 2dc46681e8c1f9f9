"""What is started for the path of a plugin: as prox would, and Go source is compiled first."""

from __future__ import annotations

import os
from pathlib import Path

from prox.config import Problem
from prox.config.gosource import go_source

from .gobuild import BuildError, build


def program(path: str) -> Path:
    """The program of a plugin.

    Args:
        path: a program, a script, a `.go` file or the folder of a Go package.

    Raises:
        BuildError: there is none, or it can't be compiled; `problems` says what to do.
    """
    source = go_source(os.path.abspath(path))  # noqa: PTH100 - without `.` and `..`: a folder's name is its program's
    if source is not None:
        build(source)
        return source.program.absolute()
    file = Path(path)
    if not file.exists():
        raise BuildError([Problem("error", "there is no such program", file)])
    if file.is_dir():
        raise BuildError([Problem("error", "it is a folder without Go source", file)])
    if not os.access(file, os.X_OK):
        raise BuildError([Problem("error", "it is not executable", file, hint=f"chmod +x {path}")])
    return file.absolute()
