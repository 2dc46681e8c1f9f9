"""The second, slow reading of a frame that the typed decoder refused.

Other writers are right to send what the typed decoder does not take: Go writes nil for an empty map, any
bytes as a string, and an integer may come as a float. Such a message is read here without types, put into
the form that the typed structs want, and then held to the same shape as every other. Only such messages
pay for it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from .errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEPTH_LIMIT = 32
_BODY_KEY = "b"
"""The body of a denial: the one string that may hold any bytes and keeps them."""
_HEADERS_KEY = "h"
"""The one map that must be there; Go writes an empty one as nil."""

_FIXED = {
    0xCA: struct.Struct(">f"),
    0xCB: struct.Struct(">d"),
    0xCC: struct.Struct(">B"),
    0xCD: struct.Struct(">H"),
    0xCE: struct.Struct(">I"),
    0xCF: struct.Struct(">Q"),
    0xD0: struct.Struct(">b"),
    0xD1: struct.Struct(">h"),
    0xD2: struct.Struct(">i"),
    0xD3: struct.Struct(">q"),
}
_CONSTANT = {0xC0: None, 0xC2: False, 0xC3: True}
_STRING = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_BINARY = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_ARRAY = {0xDC: 2, 0xDD: 4}
_MAP = {0xDE: 2, 0xDF: 4}
_EXTENSION = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_FIXED_EXTENSION = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}


class _RawText(bytes):
    """A string whose bytes are not UTF-8."""

    __slots__ = ()


def unpack(data: bytes) -> Any:
    """Read one msgpack value in the form described above.

    Raises:
        DecodeError: the bytes are no msgpack, are nested too deeply, or more follows the value.
    """
    value, end = _Unpacker(data).value(0, 0)
    if end != len(data):
        raise DecodeError(f"{len(data) - end} bytes behind the message")
    return _fit(value)


class _Unpacker:
    """A reader of msgpack that leaves strings undecoded where they are not UTF-8."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def value(self, at: int, depth: int) -> tuple[Any, int]:
        if depth > _DEPTH_LIMIT:
            raise DecodeError("the message is nested too deeply")
        code, at = self._take(at, 1)[0], at + 1
        if code < 0x80:
            return code, at
        if code >= 0xE0:
            return code - 0x100, at
        if code < 0x90:
            return self._map(at, code & 0x0F, depth)
        if code < 0xA0:
            return self._array(at, code & 0x0F, depth)
        if code < 0xC0:
            return self._string(at, code & 0x1F)
        if code in _CONSTANT:
            return _CONSTANT[code], at
        if code in _FIXED:
            number = _FIXED[code]
            return number.unpack(self._take(at, number.size))[0], at + number.size
        if code in _STRING:
            length, at = self._length(at, _STRING[code])
            return self._string(at, length)
        if code in _BINARY:
            length, at = self._length(at, _BINARY[code])
            return self._take(at, length), at + length
        if code in _MAP:
            length, at = self._length(at, _MAP[code])
            return self._map(at, length, depth)
        if code in _ARRAY:
            length, at = self._length(at, _ARRAY[code])
            return self._array(at, length, depth)
        if code in _EXTENSION:
            length, at = self._length(at, _EXTENSION[code])
            self._take(at, length + 1)
            return None, at + length + 1
        if code in _FIXED_EXTENSION:
            length = _FIXED_EXTENSION[code]
            self._take(at, length + 1)
            return None, at + length + 1
        raise DecodeError(f"0x{code:02x} starts no msgpack value")

    def _take(self, at: int, length: int) -> bytes:
        piece = self._data[at : at + length]
        if len(piece) != length:
            raise DecodeError("the message ends too early")
        return piece

    def _length(self, at: int, width: int) -> tuple[int, int]:
        return int.from_bytes(self._take(at, width), "big"), at + width

    def _string(self, at: int, length: int) -> tuple[str | _RawText, int]:
        raw = self._take(at, length)
        try:
            return raw.decode(), at + length
        except UnicodeDecodeError:
            return _RawText(raw), at + length

    def _array(self, at: int, length: int, depth: int) -> tuple[list[Any], int]:
        items = []
        for _ in range(length):
            item, at = self.value(at, depth + 1)
            items.append(item)
        return items, at

    def _map(self, at: int, length: int, depth: int) -> tuple[dict[Any, Any], int]:
        items = {}
        for _ in range(length):
            key, at = self.value(at, depth + 1)
            if not isinstance(key, str | bytes | int | float | bool | None):
                raise DecodeError("a map's key is no plain value")
            if depth == 0 and key in items:
                raise DecodeError(f"the key {key!r} stands there twice")
            item, at = self.value(at, depth + 1)
            items[key] = item
        return items, at


def _fit(value: Any, depth: int = 0) -> Any:
    """Put an untyped value into the form that the typed structs take."""
    match value:
        case dict():
            return dict(_entries(value, depth))
        case list():
            return [_fit(item, depth + 1) for item in value]
        case _RawText():
            return value.decode("latin-1")
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
    return value


def _entries(items: dict[Any, Any], depth: int) -> Iterator[tuple[Any, Any]]:
    for key, item in items.items():
        if item is None:
            if key == _HEADERS_KEY:
                yield key, {}
        elif depth == 0 and key == _BODY_KEY and isinstance(item, _RawText):
            yield key, bytes(item)
        else:
            yield _fit(key), _fit(item, depth + 1)
