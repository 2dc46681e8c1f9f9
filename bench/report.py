"""Tables of text, and the same figures as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.measure import Spread

Json = dict[str, "Json"] | list["Json"] | str | float | bool | None


@dataclass(slots=True)
class Section:
    """One part of the report.

    Attributes:
        name: Key in the JSON file.
        title: What was measured, and under what load.
        columns: Heads; the first column is flush left, the others right.
        bar: What the project wants of it.
        notes: What a reader must know of the run; below the table.
        data: The figures, in SI units where the keys name no other.
    """

    name: str
    title: str
    columns: list[str]
    bar: str = ""
    rows: list[list[str]] = field(default_factory=list)
    data: dict[str, Json] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The table as GitHub's Markdown, aligned to be read as it is."""
        table = [self.columns, *self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(self.columns))]
        lines = [
            "| "
            + " | ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            + " |"
            for row in table
        ]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        lines.insert(1, "| " + " | ".join(rule) + " |")
        title = f"### {self.title}" + (f"\n{self.bar}" if self.bar else "")
        return "\n".join(
            [title, "", *lines, "", *(f"- {note}" for note in self.notes), *([""] if self.notes else [])]
        )


def ratio(spread: Spread) -> str:
    """A ratio with the lowest and highest seen."""
    return f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})"


def as_json(spread: Spread) -> Json:
    """The three figures."""
    return {"median": spread.median, "low": spread.low, "high": spread.high}


def machine_line(machine: dict[str, str]) -> str:
    """All in one line: what a figure is worth nothing without."""
    named = [f"{name} {value}" for name, value in machine.items() if name not in {"cpu", "kernel"}]
    where = "the proxy on one core, all else on the others"
    return f"Machine: {machine['cpu']}, Linux {machine['kernel']}, {', '.join(named)}; {where}"
