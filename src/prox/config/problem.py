"""What is wrong with a configuration, and the exception that holds all of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

Severity = Literal["error", "warning", "note"]

_PLAIN_KEY = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*")
_ORDER = {"error": 0, "warning": 1, "note": 2}


class Place(NamedTuple):
    """A place in a file; line and column count from 1."""

    file: Path
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. Line and column count from 1; they and the file are None where no file was read.

    `path` leads to the place from the root of the configuration, through the files that it is spread over, as in
    `services.web.routes[2].match.path`; `hint` is a sentence about the way out, or empty; `see` is the other place
    that a finding is about.
    """

    severity: Severity
    message: str
    file: Path | None = None
    line: int | None = None
    column: int | None = None
    path: str = ""
    hint: str = ""
    see: Place | None = None

    def sentence(self, show: Callable[[Path], str] = str) -> str:
        """What is wrong; `show` writes the path of a file in it."""
        if self.see is None:
            return self.message
        return f"{self.message}, see {show(self.see.file)}:{self.see.line}:{self.see.column}"

    @property
    def place(self) -> str:
        """`file:line:column`, as far as known."""
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)

    def __str__(self) -> str:
        parts = [part for part in (self.place, self.severity, self.path) if part]
        return ": ".join([*parts, self.sentence()]) + (f" ({self.hint})" if self.hint else "")


class ConfigError(Exception):
    """A configuration that can't be used.

    `problems` holds every finding, errors first; `sources` are the files and folders that were read, or were to be.
    """

    def __init__(self, problems: Iterable[Problem], sources: Iterable[Path] = ()) -> None:
        self.problems = in_order(problems)
        self.sources = tuple(sources)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """By severity, then by place; what was found twice at one place is there once."""
    distinct: dict[tuple[object, ...], Problem] = {}
    for problem in problems:
        # A file that is used twice has two paths, and only one place.
        where = problem.path if problem.line is None else (problem.line, problem.column)
        distinct.setdefault((problem.severity, problem.message, problem.file, where), problem)
    return tuple(
        sorted(
            distinct.values(),
            key=lambda problem: (
                _ORDER[problem.severity],
                str(problem.file or ""),
                problem.line or 0,
                problem.column or 0,
            ),
        )
    )


def show_path(path: Sequence[str | int]) -> str:
    """`("services", "web", "routes", 2)` as `services.web.routes[2]`; odd keys in quotes."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text
