"""What the model accepts and this version does not do yet.

`serve` refuses what matters to security or protocol ("error"); anything else that has no effect is said
("note"). Each row is a key; it is taken out when the key begins to act.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from .model import (
    Config,
    Model,
    Runtime,
    Service,
    Tuning,
)
from .problem import Problem, Severity, in_order, show_path
from .walk import models

if TYPE_CHECKING:
    from pathlib import Path

    from .document import Path_


class Finding(NamedTuple):
    """`path` leads from the root of the whole configuration, through the names of services and actions.

    `files` are those that it is about, beside the configuration's own: it may be gone when they have changed.
    """

    severity: Severity
    message: str
    path: Path_
    hint: str = ""
    files: tuple[Path, ...] = ()


class _Row(NamedTuple):
    severity: Severity
    what: str
    acts: Callable[[Any], bool] = bool  # whether a value asks for anything
    ever: bool = True  # whether a later version will do it


def _more_than_one(value: int | None) -> bool:
    return value is not None and value > 1


def _set(_: Any) -> bool:
    return True


UNBUILT: dict[type[Model], dict[str, _Row]] = {
    Config: {"admin": _Row("error", "the admin API")},
    Runtime: {"workers": _Row("note", "several worker processes", _more_than_one)},
    Service: {
        "acme": _Row("error", "automatic certificates"),
    },
    Tuning: {
        "disable_compression": _Row(
            "note", "asking upstreams for compressed answers", lambda value: not value
        ),
        "flush_interval": _Row("note", "answers are never held back", lambda value: value > 0, ever=False),
        "read_buffer_size": _Row("note", "sizes of buffers", _set),
        "write_buffer_size": _Row("note", "sizes of buffers", _set),
    },
}


def unbuilt(config: Config) -> list[Problem]:
    """What `serve` refuses (severity "error") and what has no effect (severity "note"), without positions."""
    return list(
        in_order(
            Problem(finding.severity, finding.message, path=show_path(finding.path), hint=finding.hint)
            for finding in findings(config)
        )
    )


def findings(config: Config) -> Iterator[Finding]:
    """The same with paths in parts, so that a caller who knows the files can place them."""
    for path, model in models(config):
        rows = UNBUILT.get(type(model), {})
        for key in model.model_fields_set & rows.keys():
            row = rows[key]
            if row.acts(getattr(model, key)):
                yield _finding(row, (*path, key))


def _finding(row: _Row, path: Path_) -> Finding:
    if row.severity == "error":
        return Finding(row.severity, f"not available in this version: {row.what}", path)
    when = " in this version" if row.ever else ""
    return Finding(row.severity, f"has no effect{when}: {row.what}", path)
