"""Messages with values, for formatters of others."""

from __future__ import annotations

import pytest

from prox.observe.event import Event


def test_the_text_has_the_values_behind_it() -> None:
    event = Event("let in", {"plugin": "guard", "n": 3, "ok": True, "of": ["a", None], "to": "two words"})
    assert str(event) == 'let in plugin=guard n=3 ok=true of=["a",null] to="two words"'


def test_a_trace_stands_below() -> None:
    assert str(Event("failed", {}, "one\n  two\x1b")) == "failed\n    one\n      two\\x1b"


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("a b", "", '"a b"=""'),
        ("plugin=x y", 1, '"plugin=x y"=1'),
        ("k", 'say "x"', 'k="say \\"x\\""'),
        ("k", "\n", "k=\\n"),
        ("k", {"a": "\u202e"}, 'k={"a":"\\u202e"}'),
        ("k", 1 << 70, f"k={1 << 70}"),
        ("k", "\ud800", "k=\\ud800"),
        ("k", ["\ud800"], "k=['\\ud800']"),
        ("Token", "hunter2", "Token=[REDACTED]"),
    ],
)
def test_no_value_looks_like_another(key: str, value: object, shown: str) -> None:
    assert str(Event("x", {key: value})) == f"x {shown}"
