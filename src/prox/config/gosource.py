"""Go source as the path of a plugin: what is compiled, and the program that comes out of it and that prox runs.

`guard.go` becomes `guard` beside it; the package in the folder `guard` becomes `guard/guard`; `guard` without such a file is
`guard.go`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .files import is_file, is_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

_ELF = b"\x7fELF"


@dataclass(frozen=True, slots=True)
class GoSource:
    """What `prox build` compiles.

    Attributes:
        path: the `.go` file, or the folder of a package.
        program: what comes out.
    """

    path: Path
    program: Path

    @property
    def files(self) -> list[Path]:
        """The file, or the source files of the package, without its tests."""
        if self.path.suffix == ".go" and is_file(self.path):
            return [self.path]
        return source_files(self.path)


def go_source(path: str) -> GoSource | None:
    """What the path of a plugin means as Go source; None where it is a program, or nothing."""
    if is_folder(path):
        folder = Path(path)
        return GoSource(folder, folder / folder.name) if source_files(folder) else None
    if path.endswith(".go"):
        return GoSource(Path(path), Path(path.removesuffix(".go")))
    source = f"{path}.go"
    if is_file(source) and (not is_file(path) or is_compiled(path)):
        return GoSource(Path(source), Path(path))
    return None


def program(path: str) -> str:
    """What is run for the path of a plugin."""
    source = go_source(path)
    return path if source is None else str(source.program)


def source_files(folder: Path) -> list[Path]:
    """The Go files of the package in a folder, without its tests; none where it can't be read."""
    try:
        files = sorted(folder.iterdir())
    except OSError:
        return []
    return [
        file
        for file in files
        if file.suffix == ".go" and not file.name.endswith("_test.go") and file.name[0] not in "._"
    ]


def out_of_date(program: str | Path, sources: Iterable[Path]) -> bool:
    """Whether a program is missing, or not newer than each of these files; what can't be looked at is not counted."""
    try:
        made = Path(program).stat().st_mtime_ns
    except OSError:
        return True
    return any(_changed(source) >= made for source in sources)


def is_compiled(path: str | Path) -> bool:
    """Whether a file is a program that a compiler made, as opposed to a script."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(_ELF)) == _ELF
    except OSError:
        return False


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
