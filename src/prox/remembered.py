"""Answers remembered for short questions.

Names and lines that peers send are asked about again and again, so answers are kept. But what is kept must be bounded in
bytes too: a peer may send names of 60 KiB, and thousands of those would fill the memory. Long ones are worked out each time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

Question = TypeVar("Question", bytes, str)
Answer = TypeVar("Answer")


def remembered(
    maxsize: int, longest: int = 256
) -> Callable[[Callable[[Question], Answer]], Callable[[Question], Answer]]:
    """Keep the last `maxsize` answers of a pure function of one text, for texts of up to `longest` bytes or characters."""

    def decorate(function: Callable[[Question], Answer]) -> Callable[[Question], Answer]:
        kept = lru_cache(maxsize)(function)

        @wraps(function)
        def ask(question: Question) -> Answer:
            return kept(question) if len(question) <= longest else function(question)

        return ask

    return decorate
