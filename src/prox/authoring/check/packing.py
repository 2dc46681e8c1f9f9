"""msgpack written in other ways than prox does: what a reader must take, because writers differ."""

from __future__ import annotations

import struct
from typing import Any


def frame(body: bytes) -> bytes:
    """A frame that holds these bytes."""
    return struct.pack(">I", len(body)) + body


def call(
    hook: int, payload: bytes, *, wide: bool = False, reverse: bool = False, more: bool = False
) -> bytes:
    """The frame of a call: with the widest forms, the other order of keys, or a further key."""
    envelope: dict[str, Any] = {"t": int(hook), "d": payload}
    if more:
        envelope |= {"x": 1, "later": {"a": [1.5, None]}}
    if reverse:
        envelope = dict(reversed(envelope.items()))
    return frame(pack(envelope, wide=wide))


def pack(value: Any, *, wide: bool = False, reverse: bool = False) -> bytes:
    """A value in the shortest forms or in the widest, maps with their keys in this order or in the other."""
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            return _integer(value, wide=wide)
        case float():
            return b"\xcb" + struct.pack(">d", value)
        case bytes():
            return _head(len(value), ((0xFF, "B", 0xC4), (0xFFFF, "H", 0xC5)), 0xC6, wide=wide) + value
        case str():
            data = value.encode()
            if len(data) < 32 and not wide:
                return bytes([0xA0 | len(data)]) + data
            return _head(len(data), ((0xFF, "B", 0xD9), (0xFFFF, "H", 0xDA)), 0xDB, wide=wide) + data
        case list():
            head = bytes([0x90 | len(value)]) if len(value) < 16 and not wide else _long(0xDD, len(value))
            return head + b"".join(pack(item, wide=wide, reverse=reverse) for item in value)
        case dict():
            head = bytes([0x80 | len(value)]) if len(value) < 16 and not wide else _long(0xDF, len(value))
            items = reversed(value.items()) if reverse else value.items()
            parts = (pack(part, wide=wide, reverse=reverse) for item in items for part in item)
            return head + b"".join(parts)
    raise TypeError(type(value).__name__)


def _integer(value: int, *, wide: bool) -> bytes:
    if wide:
        return b"\xd3" + struct.pack(">q", value)
    if -32 <= value < 128:
        return struct.pack(">b", value) if value < 0 else bytes([value])
    return (b"\xd3" + struct.pack(">q", value)) if value < 0 else (b"\xcf" + struct.pack(">Q", value))


def _head(size: int, forms: tuple[tuple[int, str, int], ...], widest: int, *, wide: bool) -> bytes:
    for limit, code, first in forms:
        if size <= limit and not wide:
            return bytes([first]) + struct.pack(f">{code}", size)
    return _long(widest, size)


def _long(first: int, size: int) -> bytes:
    return bytes([first]) + struct.pack(">I", size)
