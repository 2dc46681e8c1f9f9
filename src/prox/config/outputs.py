"""Whether what prox makes can be made where the configuration says: log files, and the sockets that it listens on.

What `serve` would end with for sure is an error. Permissions are only a doubt: who validates is often not who serves.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .build import Builder
    from .document import Path_
    from .rules import Finding

_NOTHING = 0
_UNKNOWN = 1
"""The system refuses to say."""


def impossible(builder: Builder) -> Iterator[Finding]:
    """Logs and sockets that can't be made."""
    for path, file in _logs(builder):
        mode = _mode(file)
        if stat.S_ISDIR(mode):
            yield f"the log file can't be opened: {file} is a folder", path, "name a file in it"
        elif stat.S_ISSOCK(mode):
            yield f"the log file can't be opened: {file} is a socket", path, ""
        else:
            yield from _no_place("the log file can't be made", path, file)
    for path, file in _sockets(builder):
        mode = _mode(file)
        if mode in {_NOTHING, _UNKNOWN} or stat.S_ISSOCK(mode):
            yield from _no_place("the socket can't be made", path, file)
        else:
            yield f"the socket can't be made: {file} is there already and is none", path, "take another path"


def doubtful(builder: Builder) -> Iterator[Finding]:
    """Logs and sockets that the present user may not make."""
    for path, file in (*_logs(builder), *_sockets(builder)):
        mode, folder = _mode(file), Path(file).parent
        if stat.S_ISREG(mode) and not os.access(file, os.W_OK):
            yield f"the present user may not write {file}", path, ""
        elif mode == _NOTHING and stat.S_ISDIR(_mode(folder)) and not os.access(folder, os.W_OK | os.X_OK):
            yield f"the present user may not make files in {folder}", path, ""


def _no_place(what: str, path: Path_, file: str) -> Iterator[Finding]:
    folder = Path(file).parent
    mode = _mode(folder)
    if mode == _NOTHING:
        yield f"{what}: there is no folder {folder}", path, f"mkdir -p {folder}"
    elif mode != _UNKNOWN and not stat.S_ISDIR(mode):
        yield f"{what}: {folder} is no folder", path, ""


def _logs(builder: Builder) -> Iterator[tuple[Path_, str]]:
    """Every log file, where it is named; a file that is named several times is there once."""
    seen = {"off"}
    for path, file in _all_logs(builder):
        if file is not None and file not in seen:
            seen.add(file)
            yield path, file


def _all_logs(builder: Builder) -> Iterator[tuple[Path_, str | None]]:
    for key in ("error_log", "access_log"):
        section = builder.readable_section("logging", key)
        if section is not None:
            yield ("logging", key), getattr(section, key)
    for name, index, route in builder.readable_routes("access_log"):
        yield ("services", name, "routes", index, "access_log"), route.access_log
    for action_path, action in builder.readable_actions("access_log"):
        yield (*action_path, "access_log"), action.access_log


def _sockets(builder: Builder) -> Iterator[tuple[Path_, str]]:
    for name, service in builder.readable_services("listen"):
        if service.listen.kind == "unix":
            yield ("services", name, "listen"), service.listen.path
    admin = builder.readable_section("admin", "listen")
    if admin is not None and admin.listen.kind == "unix":
        yield ("admin", "listen"), admin.listen.path


def _mode(path: str | Path) -> int:
    """What is there."""
    try:
        return Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return _NOTHING
    except OSError:
        return _UNKNOWN
