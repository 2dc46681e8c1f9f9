"""One file of a configuration: its data, where everything in it stands, and sentences for syntax errors."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyjson5

from .positions import Position, Positions, has_repeated_key
from .problem import ConfigError, Place, Problem, show_path

if TYPE_CHECKING:
    from collections.abc import Iterator

Path_ = tuple[str | int, ...]

_NEAR = re.compile(r"near (\d+)")
_UNCLOSED_WHAT = re.compile(r"Unclosed b'(\w+)'")
_HEX = re.compile(r"[0-9a-fA-F]+")
_WORD = re.compile(r"[A-Za-z_$][\w.:/-]*")
_BLANKS = re.compile(r"(?:[\s\ufeff]|//[^\n\r]*|/\*.*?\*/)*", re.DOTALL)
_UNCLOSED = {
    "object": ("the object that begins here is not closed", '"}" is missing'),
    "array": ("the list that begins here is not closed", '"]" is missing'),
    "string": ("the text that begins here is not closed in its line", "a quotation mark is missing"),
    "comment": ("the comment that begins here is not closed", '"*/" is missing'),
    "NumericLiteral": ("the number that begins here can't be read", ""),
}


class Document:
    """A file, or a value of the calling program (`file` is None). Relative paths in it count from `base`."""

    def __init__(self, data: object, base: Path, file: Path | None = None, text: str = "") -> None:
        self.data = data
        self.base = base
        self.file = file
        self._text = text

    @cached_property
    def _positions(self) -> Positions:
        return Positions(self._text)

    def problem(
        self,
        severity: Literal["error", "warning", "note"],
        message: str,
        path: Path_,
        hint: str = "",
        *,
        at_key: bool = False,
        above: Path_ = (),
        see: Place | None = None,
    ) -> Problem:
        """A finding about the value at `path`, or about its key.

        `above` leads from the root of the configuration to this document, and `see` is another place.
        """
        shown = show_path((*above, *path))
        if self.file is None:
            return Problem(severity, message, path=shown, hint=hint)
        line, column = self._positions.key(path) if at_key else self._positions.value(path)
        return Problem(severity, message, self.file, line, column, shown, hint, see)

    def repeated_keys(self, above: Path_ = ()) -> Iterator[Problem]:
        """The keys that stand twice in one object."""
        if self.file is None or not has_repeated_key(self._text, self.data):
            return
        for path, first, again in self._positions.repeated_keys:
            message = (
                f'the key "{path[-1]}" is there twice; it was in line {first.line}, column {first.column}'
            )
            yield Problem("error", message, self.file, *again, show_path((*above, *path)))

    def key_place(self, path: Path_) -> Place | None:
        """Where a key stands, for mentioning it in a problem of another place."""
        return None if self.file is None else Place(self.file, *self._positions.key(path))


def read_document(file: Path) -> Document:
    """Read a file of UTF-8 JSON5. Raises OSError, and ConfigError for what is in it."""
    raw = file.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = len(raw[: error.start].rpartition(b"\n")[2].decode("utf-8-sig", "replace")) + 1
        raise ConfigError([Problem("error", "this is no UTF-8 text", file, line, column)]) from None
    try:
        data = pyjson5.decode(text)
    except pyjson5.Json5DecoderException as error:
        raise ConfigError([_syntax_problem(file, text, str(error.args[0]))]) from None
    return Document(data, file.parent, file, text)


def _syntax_problem(file: Path, text: str, said: str) -> Problem:
    """The parser's message in words, at the character that it means."""
    near = _NEAR.search(said)
    offset = max(0, min(int(near[1]) - 1, len(text))) if near else 0
    if said.startswith("No JSON data"):
        offset, message, hint = 0, "there is nothing in this file", 'the least is "{}"'
    elif said.startswith("Extra data"):
        after = _BLANKS.match(text, offset + 1)
        offset = after.end() if after else offset
        message, hint = "the document ends before this", "the whole file is one object in braces"
    elif unclosed := _UNCLOSED_WHAT.search(said):
        message, hint = _UNCLOSED.get(unclosed[1], ("what begins here is not closed", ""))
        if unclosed[1] == "comment":
            offset = max(text.rfind("/*", 0, offset + 1), 0)
    elif "nesting" in said:
        message, hint = "the document is nested too deeply", ""
    else:
        message, hint = _unexpected(text, offset, said)
    return Problem("error", message, file, *_position(text, offset), hint=hint)


def _unexpected(text: str, offset: int, said: str) -> tuple[str, str]:
    """What to say about a character that can't stand where it does."""
    expected, _, found = said.partition("found U+")
    code = _HEX.match(found)
    character = _shown(chr(int(code[0], 16))) if code else "this"
    word = _WORD.match(text, offset)
    before = text[:offset].rstrip()
    if "Stray" in expected or (character == '","' and "IdentifierStart" in expected):
        return "there is a comma too many", ""
    if "b'comma'" in expected:
        close = "]" if "U+005d" in expected else "}"
        hint = "at the end of the line before?" if "\n" in text[len(before) : offset] else ""
        return f'a comma or "{close}" is missing before {character}', hint
    if "b'colon'" in expected:
        hint = "a key with such a character stands in quotation marks" if len(before) == offset else ""
        return f'a ":" is missing before {character}', hint
    if "IdentifierStart" in expected:
        return f"a key can't begin with {character}", "put it in quotation marks"
    if any(word in expected for word in ("hexadecimal", "surrogate", "escape", "U+005c")):
        return (
            "the escape sequence is not complete",
            "\\xHH, \\uHHHH, or a pair of those for what is above U+FFFF",
        )
    if word:
        return f'"{word[0]}" is no value', "put texts in quotation marks"
    if "b'JSON5Value'" in expected:
        return f"a value is missing before {character}", ""
    return f"{character} can't stand here", ""


def _position(text: str, offset: int) -> Position:
    before = text[:offset]
    lines = re.split(r"\r\n|\n|\r", before)
    return Position(len(lines), len(lines[-1]) + 1)


def _shown(character: str) -> str:
    if character in "\r\n":
        return "the end of the line"
    if character == '"':
        return "'\"'"
    return f'"{character}"' if character.isprintable() else f"the character U+{ord(character):04X}"
