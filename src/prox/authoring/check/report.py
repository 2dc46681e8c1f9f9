"""The outcomes of checks for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from .model import PAGE, Outcome


def text_lines(outcome: Outcome) -> Iterator[str]:
    """One outcome: a line, and below it what there is to say."""
    check = outcome.check
    name = check.name.partition(".")[2]
    match outcome.result:
        case "pass":
            yield f"  ok    {name}"
        case "skip":
            yield f"  skip  {name}: {outcome.message}"
        case "fail":
            yield f"  FAIL  {name}: {check.says}"
            yield from (f"          {line}" for line in outcome.message.splitlines())
            yield f"          See {PAGE}#{check.section}"


def summary(outcomes: Sequence[Outcome]) -> str:
    """`40 passed, 1 failed, 6 skipped`."""
    counts = Counter(outcome.result for outcome in outcomes)
    shown = ((counts["pass"], "passed"), (counts["fail"], "failed"), (counts["skip"], "skipped"))
    return ", ".join(f"{count} {word}" for count, word in shown if count) or "nothing checked"


def as_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Everything, for programs."""
    counts = Counter(outcome.result for outcome in outcomes)
    return {
        "passed": counts["pass"],
        "failed": counts["fail"],
        "skipped": counts["skip"],
        "checks": [
            {
                "name": outcome.check.name,
                "says": outcome.check.says,
                "reference": f"{PAGE}#{outcome.check.section}",
                "result": outcome.result,
                "message": outcome.message,
            }
            for outcome in outcomes
        ],
    }
