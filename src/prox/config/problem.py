"""What is wrong with a configuration, and the exception that holds all of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

Severity = Literal["error", "warning", "note"]

_PLAIN_KEY = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*")
_ORDER = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. Line and column count from 1; they and the file are None where no file was read.

    `path` leads to the place within the file, as in `services.web.routes[2].match.path`; `hint` is a sentence
    about the way out, or empty.
    """

    severity: Severity
    message: str
    file: Path | None = None
    line: int | None = None
    column: int | None = None
    path: str = ""
    hint: str = ""

    @property
    def place(self) -> str:
        """`file:line:column`, as far as known."""
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)

    def __str__(self) -> str:
        parts = [part for part in (self.place, self.severity, self.path) if part]
        return ": ".join([*parts, self.message]) + (f" ({self.hint})" if self.hint else "")


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
    distinct = {
        (problem.severity, problem.message, problem.file, problem.line, problem.column, problem.path): problem
        for problem in problems
    }
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
