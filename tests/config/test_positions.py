"""The scanner is compared with json-five, which is too slow to place problems with, but keeps positions too."""

from __future__ import annotations

import pyjson5
import pytest
from hypothesis import given
from hypothesis import strategies as st
from json5.loader import ModelLoader, loads

from prox.config.positions import Position, Positions, has_repeated_key

BLANKS = st.lists(
    st.sampled_from([" ", "\n", "\t", "\r\n", "// line: {\n", "/* block\n, ] */", "/**/"]), max_size=2
).map("".join)
SCALARS = st.sampled_from(
    [
        "1",
        "-0.5",
        "+.5",
        "0x1F",
        "null",
        "true",
        "Infinity",
        '"text"',
        "'it\\'s'",
        '"a: b, {c} // d"',
        '"é\U0001f600"',
        "''",
    ]
)
KEYS = st.sampled_from(
    [
        "a",
        "$b",
        "_c",
        "'d e'",
        '"f:g"',
        '"\\u0068"',
        "ünï",
        '"//"',
        "'/*'",
        '"\\""',
        "'\\\nk'",
        '"null"',
        "''",
    ]
)
MAYBE_COMMA = st.sampled_from(["", ","])


@st.composite
def lists(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    members = draw(st.lists(values, max_size=4))
    padded = [draw(BLANKS) + member + draw(BLANKS) for member in members]
    comma = draw(MAYBE_COMMA) if members else ""
    return f"[{','.join(padded)}{comma}{draw(BLANKS)}]"


@st.composite
def objects(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    keys = draw(st.lists(KEYS, max_size=4, unique=True))
    padded = [f"{draw(BLANKS)}{key}{draw(BLANKS)}:{draw(BLANKS)}{draw(values)}{draw(BLANKS)}" for key in keys]
    comma = draw(MAYBE_COMMA) if keys else ""
    return f"{{{','.join(padded)}{comma}{draw(BLANKS)}}}"


VALUES = st.recursive(SCALARS, lambda inner: lists(inner) | objects(inner), max_leaves=12)
DOCUMENTS = st.tuples(BLANKS, VALUES, BLANKS).map("".join)


def compare(node: object, data: object, path: tuple[str | int, ...], positions: Positions) -> None:
    assert positions.value(path) == Position(node.lineno, node.col_offset + 1)  # type: ignore[attr-defined] # untyped
    if isinstance(data, dict):
        pairs = node.key_value_pairs  # type: ignore[attr-defined] # untyped
        assert len(pairs) == len(data)
        for pair, (key, value) in zip(pairs, data.items(), strict=True):
            assert positions.key((*path, key)) == Position(pair.key.lineno, pair.key.col_offset + 1)
            compare(pair.value, value, (*path, key), positions)
    elif isinstance(data, list):
        for index, (inner, value) in enumerate(zip(node.values, data, strict=True)):  # type: ignore[attr-defined] # untyped
            compare(inner, value, (*path, index), positions)


@given(DOCUMENTS)
def test_positions_are_those_of_a_parser_that_keeps_them(text: str) -> None:
    data = pyjson5.decode(text)
    compare(loads(text, loader=ModelLoader()).value, data, (), Positions(text))
    assert not has_repeated_key(text, data)


@given(DOCUMENTS, KEYS, BLANKS)
def test_a_repeated_key_is_found_anywhere(inner: str, key: str, blanks: str) -> None:
    text = f"{{ x: [{inner}{blanks}, {{ {key}: 1, y: {inner}{blanks}, {blanks}{key}: 2 }}] }}"
    assert has_repeated_key(text, pyjson5.decode(text))
    [repeated] = Positions(text).repeated_keys
    assert len(repeated.path) == 3
    assert repeated.path[:2] == ("x", 1)
    assert repeated.first < repeated.again


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("{a: 1}", ("a",), (1, 5)),
        ("{a: 1}", ("b",), (1, 1)),
        ("{a: [1, {b: 2}]}", ("a", 1, "b", "c"), (1, 13)),
        ("{a: [1, {b: 2}]}", ("a", 7), (1, 5)),
        ("\r\n\r\n  1", (), (3, 3)),
        ("\r{a:\r1}", ("a",), (3, 1)),
    ],
)
def test_a_place_that_is_not_there_is_the_closest_around_it(
    text: str, path: tuple[str | int, ...], value: tuple[int, int]
) -> None:
    assert Positions(text).value(path) == value


def test_equal_keys_in_different_spellings_are_one() -> None:
    text = "{listen: 1, '\\u006cisten': 2, \"listen\": 3, l\\u0069sten: 4}"
    assert has_repeated_key(text, pyjson5.decode(text))
    assert [repeated.again.column for repeated in Positions(text).repeated_keys] == [13, 31, 44]
