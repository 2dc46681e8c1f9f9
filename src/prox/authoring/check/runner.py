"""Runs checks: each once, those that it needs before it, with a plugin that no failed check has touched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from prox.sdk.testing import PluginTestError

from . import connections, features, frames, hooks, life, lines, output, ready
from .model import Check, CheckFailedError, CheckSkippedError, Outcome
from .subject import Subject

CHECKS: tuple[Check, ...] = tuple(
    check
    for group in (
        lines.group,
        ready.group,
        frames.group,
        connections.group,
        hooks.on_request,
        hooks.on_response,
        hooks.on_connect,
        hooks.on_disconnect,
        features.group,
        life.group,
        output.group,
    )
    for check in group.checks
)
"""All checks, in the order in which they run."""

_BY_NAME = {check.name: check for check in CHECKS}


def select(patterns: Sequence[str]) -> list[Check]:
    """The checks whose names match one of the patterns, `frames.*` for instance; all where there is none.

    Raises:
        LookupError: a pattern matches none.
    """
    for pattern in patterns:
        if not any(_matches(check, pattern) for check in CHECKS):
            raise LookupError(f"there is no check {pattern!r}")
    return [check for check in CHECKS if not patterns or any(_matches(check, p) for p in patterns)]


def run(subject: Subject, checks: Sequence[Check]) -> Iterator[Outcome]:
    """Run checks, and give each outcome when it is there; ends the plugin at the end.

    A check that is not among them comes too, where it failed and one of them needs it.
    """
    known: dict[str, Outcome] = {}
    given = {check.name for check in checks}
    try:
        for check in checks:
            outcome = _outcome(subject, check, known)
            for needed in known.values():
                if needed.result == "fail" and needed.check.name not in given:
                    given.add(needed.check.name)
                    yield needed
            yield outcome
    finally:
        subject.discard()


def _matches(check: Check, pattern: str) -> bool:
    return fnmatchcase(check.name, pattern) or check.group == pattern


def _outcome(subject: Subject, check: Check, known: dict[str, Outcome]) -> Outcome:
    outcome = known.get(check.name)
    if outcome is None:
        outcome = known[check.name] = _needed(subject, check, known) or _run(subject, check)
    return outcome


def _needed(subject: Subject, check: Check, known: dict[str, Outcome]) -> Outcome | None:
    """The outcome where a check that this one needs did not pass."""
    if not check.needs:
        return None
    needed = _outcome(subject, _BY_NAME[check.needs], known)
    if needed.result == "pass":
        return None
    if needed.result == "skip":
        return Outcome(check, "skip", needed.message)
    return Outcome(check, "skip", f"{check.needs} has failed")


def _run(subject: Subject, check: Check) -> Outcome:
    try:
        check.run(subject)
    except CheckSkippedError as reason:
        return Outcome(check, "skip", str(reason))
    except CheckFailedError as error:
        message = str(error)
    except (PluginTestError, TimeoutError, OSError) as error:
        message = str(error) or type(error).__name__
    else:
        message = ""
    fallen = subject.fallen
    if fallen and fallen not in message:
        message = "\n".join(filter(None, (message, fallen)))
    if not message:
        return Outcome(check, "pass")
    subject.discard()
    return Outcome(check, "fail", message)
