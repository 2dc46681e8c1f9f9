from __future__ import annotations

import pytest

from prox.config.invalid import InvalidError, ManyInvalidError, raise_all, shown, suggestion


@pytest.mark.parametrize(
    ("given", "known", "hint"),
    [
        ("plugin", ["plugins", "routes"], 'did you mean "plugins"?'),
        ("PLUGINS", ["plugins"], 'did you mean "plugins"?'),
        ("xyzzy", ["plugins"], ""),
        ("1.1", ["1.2"], ""),
        ("", ["a"], ""),
    ],
)
def test_suggestions(given: str, known: list[str], hint: str) -> None:
    assert suggestion(given, known) == hint


def test_several_errors_are_one_exception() -> None:
    raise_all([])
    first, second = InvalidError("a"), InvalidError("b")
    with pytest.raises(InvalidError) as one:
        raise_all([first])
    assert one.value is first
    with pytest.raises(ManyInvalidError, match="a; b") as many:
        raise_all([first, second])
    assert many.value.errors == (first, second)


def test_texts_that_cannot_be_printed_are_escaped() -> None:
    assert shown("a b") == '"a b"'
    assert shown("a\nb") == "'a\\nb'"
