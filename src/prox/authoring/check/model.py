"""What a check is, and what comes out of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .subject import Subject

PAGE = "docs/reference/protocol.md"
"""The page that the sections of checks are on."""


class CheckFailedError(Exception):
    """The plugin does not do what the check asks for; the text says what it did, and what to do about it."""


class CheckSkippedError(Exception):
    """The check does not apply; the text says why."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that the protocol asks of a plugin.

    Attributes:
        name: `group.name`.
        says: it in one sentence.
        section: anchor of the section of the protocol page that asks for it.
        run: raises where the plugin does not do it.
        needs: the check without which this one says nothing.
    """

    name: str
    says: str
    section: str
    run: Callable[[Subject], None]
    needs: str = ""

    @property
    def group(self) -> str:
        """The part of its name before the dot."""
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out of a check; the message is empty where it passed."""

    check: Check
    result: Literal["pass", "fail", "skip"]
    message: str = ""


@dataclass(slots=True)
class Group:
    """Checks of one kind; `needs` holds for all of them that say nothing else."""

    name: str
    needs: str = ""
    checks: list[Check] = field(default_factory=list)

    def check(
        self, name: str, section: str, *, needs: str | None = None
    ) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
        """Enter a function as a check; its docstring is the sentence."""

        def enter(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
            assert function.__doc__, f"{name} does not say what it checks"
            says = " ".join(function.__doc__.split())
            needed = self.needs if needs is None else needs
            self.checks.append(Check(f"{self.name}.{name}", says, section, function, needed))
            return function

        return enter
