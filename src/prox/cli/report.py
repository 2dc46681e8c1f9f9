"""Problems as lines for people: one each, as compilers write them, in colour on a terminal."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prox.config import Problem

_COLOURS = {"error": typer.colors.RED, "warning": typer.colors.YELLOW, "note": typer.colors.CYAN}


def print_problems(problems: Iterable[Problem], *, to_stderr: bool = False) -> None:
    """Write each problem as `file:line:column: severity: path: message (hint)`."""
    colour = False if os.environ.get("NO_COLOR") else None
    for problem in problems:
        typer.echo(_line(problem), err=to_stderr, color=colour)


def count(problems: Iterable[Problem]) -> str:
    """`2 errors, 1 warning`; empty when there are none."""
    counts = Counter(problem.severity for problem in problems)
    return ", ".join(
        f"{counts[severity]} {severity}{'' if counts[severity] == 1 else 's'}"
        for severity in ("error", "warning", "note")
        if counts[severity]
    )


def shown_path(path: Path) -> str:
    """The path as a person in the working directory would write it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) and path != here else str(path)


def _line(problem: Problem) -> str:
    place = [shown_path(problem.file)] if problem.file is not None else []
    place += [str(number) for number in (problem.line, problem.column) if number is not None]
    severity = typer.style(problem.severity, fg=_COLOURS[problem.severity], bold=True)
    parts = [
        typer.style(":".join(place), bold=True),
        severity,
        typer.style(problem.path, fg=typer.colors.BLUE),
    ]
    known = [part for part, given in zip(parts, (place, True, problem.path), strict=True) if given]
    hint = typer.style(f" ({problem.hint})", dim=True) if problem.hint else ""
    return ": ".join([*known, problem.sentence(shown_path)]) + hint
