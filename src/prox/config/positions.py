"""Where the values of a JSON5 text stand, and which keys are there twice.

The parser that reads configurations (pyjson5) is fast, but keeps no positions and takes the last of two equal
keys. This scanner runs only when there is something to place, over a text that the parser has accepted, so it
need not know what is legal. `has_repeated_key` is the cheap question that is asked for every file.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import NamedTuple

import pyjson5

_TOKEN = re.compile(
    r"""
      [\s\ufeff]+ | //[^\n\r\u2028\u2029]* | /\*.*?\*/
    | (?P<string> "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' )
    | (?P<mark> [{}\[\]:,] )
    | (?P<word> [^\s\ufeff{}\[\]:,"'/]+ )
    """,
    re.DOTALL | re.VERBOSE,
)
# One match for each string, comment and colon: outside of the first two, a colon stands after a key and nowhere else.
_COLONS = re.compile(
    r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|//[^\n\r\u2028\u2029]*|/\*.*?\*/|(:)""", re.DOTALL
)
_LINE_END = re.compile(r"\r\n|\n|\r")


class Position(NamedTuple):
    """Both count from 1; columns count characters."""

    line: int
    column: int


class RepeatedKey(NamedTuple):
    """A key that its object has had before."""

    path: tuple[str | int, ...]
    first: Position
    again: Position


class _Node:
    """A value: where it and its key begin, and what is in it."""

    __slots__ = ("key", "members", "start")

    def __init__(self, start: int, key: int) -> None:
        self.start = start
        self.key = key
        self.members: dict[str | int, _Node] = {}


class Positions:
    """The positions of all values of one text that is valid JSON5."""

    def __init__(self, text: str) -> None:
        self._line_starts = [0, *(match.end() for match in _LINE_END.finditer(text))]
        self._repeated: list[tuple[tuple[str | int, ...], int, int]] = []
        self._root = self._scan(text)

    @property
    def repeated_keys(self) -> list[RepeatedKey]:
        """Every key that stands in its object for the second time or more, in the order of the text."""
        return [
            RepeatedKey(path, self.at_offset(first), self.at_offset(again))
            for path, first, again in self._repeated
        ]

    def at_offset(self, offset: int) -> Position:
        """The position of a character of the text."""
        line = bisect_right(self._line_starts, offset)
        return Position(line, offset - self._line_starts[line - 1] + 1)

    def value(self, path: tuple[str | int, ...]) -> Position:
        """Where the value at `path` begins, or the closest object or list around it that exists."""
        return self.at_offset(self._find(path)[0].start)

    def key(self, path: tuple[str | int, ...]) -> Position:
        """Where the key of the value at `path` begins; the value itself for members of lists."""
        node, exact = self._find(path)
        return self.at_offset(node.key if exact else node.start)

    def _find(self, path: tuple[str | int, ...]) -> tuple[_Node, bool]:
        node = self._root
        for part in path:
            inner = node.members.get(part)
            if inner is None:
                return node, False
            node = inner
        return node, True

    def _scan(self, text: str) -> _Node:
        root: _Node | None = None
        # The objects and lists that are open: node, whether it is an object, and the part of the path to it.
        stack: list[tuple[_Node, bool]] = []
        path: list[str | int] = []
        key: str | None = None
        key_at = 0
        for token in _TOKEN.finditer(text):
            kind = token.lastgroup
            if kind is None:
                continue
            start = token.start()
            mark = token.group() if kind == "mark" else ""
            if mark in {",", ":"}:
                continue
            if mark in {"}", "]"}:
                stack.pop()
                if path:
                    path.pop()
                continue
            if stack and stack[-1][1] and key is None:
                key, key_at = _key(token.group()), start
                continue
            node = _Node(start, start)
            if not stack:
                root = node
            else:
                outer, is_object = stack[-1]
                part: str | int = len(outer.members)
                if is_object:
                    assert key is not None
                    part, node.key, key = key, key_at, None
                    before = outer.members.get(part)
                    if before is not None:
                        self._repeated.append(((*path, part), before.key, key_at))
                outer.members[part] = node
                if mark:
                    path.append(part)
            if mark:
                stack.append((node, mark == "{"))
        return root if root is not None else _Node(0, 0)


def _key(token: str) -> str:
    if token[0] not in "\"'":
        return next(iter(pyjson5.decode(f"{{{token}:0}}"))) if "\\" in token else token
    return str(pyjson5.decode(token)) if "\\" in token else token[1:-1]


def has_repeated_key(text: str, data: object) -> bool:
    """Whether the text has more keys than the data that was read from it."""
    return _COLONS.findall(text).count(":") != _count_keys(data)


def _count_keys(data: object) -> int:
    count = 0
    todo = [data]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            count += len(value)
            todo.extend(value.values())
        elif isinstance(value, list):
            todo.extend(value)
    return count
