"""Compiling plugins from Go source with the `go` tool, as `prox build` does.

A program is put in its place by one rename, so that whoever runs or watches it never sees half of one. It is made anew
where it is not newer than the source files of its package and of the module around it; that asks no `go`, so a machine
without one can check. What `go` finds wrong becomes problems with file, line and column.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from prox.config import Problem
from prox.config.gosource import GoSource, go_source, is_compiled, out_of_date
from prox.config.model import Action, Config, Plugin, ProxyAction

INSTALL = "install Go 1.19 or newer: `apt-get install golang-go` on Debian, or https://go.dev/doc/install"

_SUFFIXES = frozenset({".go", ".s", ".S", ".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".m", ".syso"})
"""What the go tool takes from a package's folder."""
_MODULE_FILES = frozenset({"go.mod", "go.sum", "modules.txt"})

_PLACE = re.compile(r"(?P<file>\S[^:\n]*\.go):(?P<line>\d+)(?::(?P<column>\d+))?: (?P<message>.+)")


class BuildError(Exception):
    """Something can't be compiled; `problems` says where and why."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


def sources(config: Config) -> list[GoSource]:
    """What the plugins of a configuration are compiled from, each program once."""
    found = (go_source(plugin.path) for plugin in _plugins(config))
    return list({source.program: source for source in found if source is not None}.values())


def build(source: GoSource, *, force: bool = False) -> Literal["built", "up to date"]:
    """Compile, unless the program is newer than its source; blocks until it is done.

    Args:
        source: what `prox.config.gosource.go_source` says for a path.
        force: compile in any case.

    Raises:
        BuildError: there is no source, no `go`, no place for the program, or a mistake in the source.
    """
    if not source.path.exists():
        raise _failed("there is no such Go source", source.path)
    if not force and source.program.is_file() and not out_of_date(source.program, _inputs(source)):
        return "up to date"
    _check_place(source.program)
    go = shutil.which("go")
    if go is None:
        raise _failed("it is Go source, and there is no `go` in PATH", source.path, INSTALL)
    _compile(go, source)
    return "built"


def _compile(go: str, source: GoSource) -> None:
    folder, what = (source.path, ".") if source.path.is_dir() else (source.path.parent, source.path.name)
    began = time.time_ns()
    try:
        handle, made = tempfile.mkstemp(prefix=f".{source.program.name}-", dir=source.program.parent)
        os.close(handle)
    except OSError as error:
        raise _failed(f"no file can be made there: {error.strerror}", source.program.parent) from None
    try:
        # No version control stamp: go refuses to build where the repository belongs to another user.
        command = [go, "build", "-buildvcs=false", "-o", made, what]
        done = subprocess.run(  # noqa: S603 - the tool, on the source that the configuration names
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        if done.returncode:
            raise BuildError(
                list(_problems((done.stderr + done.stdout).decode("utf-8", "replace"), source, folder))
            )
        if not is_compiled(made):
            raise _failed("it is no program: its package must be `main`", source.path)
        Path(made).chmod(0o755)
        # What is saved while go reads it counts as changed afterwards.
        os.utime(made, ns=(began, began))
        Path(made).replace(source.program)
    finally:
        Path(made).unlink(missing_ok=True)


def _check_place(program: Path) -> None:
    if program.is_dir():
        raise _failed("it is a folder, and the compiled program would stand there", program)
    if program.exists() and not is_compiled(program):
        raise _failed("it is no compiled program, and the compiled one would take its place", program)


def _inputs(source: GoSource) -> Iterator[Path]:
    yield from source.files
    root = _module(source.path if source.path.is_dir() else source.path.parent)
    if root is None:
        return
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name[0] not in "._" and name != "testdata"]
        for name in files:
            if name in _MODULE_FILES or (Path(name).suffix in _SUFFIXES and not name.endswith("_test.go")):
                yield Path(folder, name)


def _module(folder: Path) -> Path | None:
    """The folder of the module that a folder belongs to."""
    return next((parent for parent in (folder, *folder.parents) if (parent / "go.mod").is_file()), None)


def _problems(output: str, source: GoSource, folder: Path) -> Iterator[Problem]:
    """One for each place that go names, with the lines that go on about it; all the rest is one about the source."""
    rest: list[str] = []
    found: list[tuple[re.Match[str], list[str]]] = []
    for line in output.splitlines():
        place = _PLACE.fullmatch(line.removeprefix("vet: "))
        if place is not None:
            found.append((place, []))
        elif found and line.startswith("\t"):
            found[-1][1].append(line.strip())
        elif line.strip() and not line.startswith(("# ", "go: downloading ")):
            rest.append(line.strip())
    for place, more in found:
        column = place["column"]
        yield Problem(
            "error",
            "; ".join([place["message"], *more]),
            Path(os.path.normpath(folder / place["file"])),
            int(place["line"]),
            None if column is None else int(column),
        )
    if rest or not found:
        said = "; ".join(rest) or "go build failed and did not say why"
        hint = f"in {folder}: go mod init guard && go mod tidy" if "go.mod file not found" in output else ""
        yield Problem("error", said, source.path, hint=hint)


def _failed(message: str, file: Path, hint: str = "") -> BuildError:
    return BuildError([Problem("error", message, file, hint=hint)])


def _plugins(config: Config) -> Iterator[Plugin]:
    yield from config.plugins.values()
    actions = [*config.actions.values()]
    for service in config.services.values():
        yield from (reference.plugin for reference in service.plugins)
        for route in service.routes:
            yield from (reference.plugin for reference in route.plugins)
            actions.append(route.action)
    for action in actions:
        yield from _of_action(action)


def _of_action(action: Action) -> Iterator[Plugin]:
    yield from (reference.plugin for reference in action.plugins)
    if isinstance(action, ProxyAction) and action.fallback is not None:
        yield from _of_action(action.fallback)
