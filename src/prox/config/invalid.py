"""The one exception of all checks: what is wrong, what to do about it, and where below the checked value."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class InvalidError(ValueError):
    """A value that breaks a rule. A ValueError, so that pydantic collects it with the rest.

    `hint` is a sentence for the person (empty: none); `at` leads from the checked value to the part that is
    meant (".." goes up), for rules that look at several parts.
    """

    def __init__(self, message: str, hint: str = "", at: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.at = at


class ManyInvalidError(InvalidError):
    """Several broken rules at once."""

    def __init__(self, errors: Sequence[InvalidError]) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.errors = tuple(errors)


def raise_all(errors: Sequence[InvalidError]) -> None:
    """Raise what was collected, if anything was."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ManyInvalidError(errors)


class AlreadyReportedError(InvalidError):
    """A reference to something whose own problems are reported where it is defined."""


def shown(text: str) -> str:
    """A text in quotation marks; what can't be printed is escaped."""
    return f'"{text}"' if text.isprintable() else repr(text)


def suggestion(given: str, known: Iterable[str]) -> str:
    """`did you mean "plugins"?` for the known name closest to `given`; empty when none is close."""
    by_lower = {name.lower(): name for name in known}
    if not any(character.isalpha() for character in given):
        return ""
    close = difflib.get_close_matches(given.lower(), by_lower, n=1, cutoff=0.6)
    return f'did you mean "{by_lower[close[0]]}"?' if close else ""
