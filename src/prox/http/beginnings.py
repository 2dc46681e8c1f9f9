"""What can be told of a request from the beginning of its head: that it will never be one, or what it was to be."""

from __future__ import annotations

from typing import Final

from .codec.errors import BadMessageError
from .codec.request import METHODS
from .codec.target import decode_path
from .limits import Limits

_LONGEST_PATH: Final = 1024
_AROUND_A_TARGET: Final = 64
"""Bytes of a request line beside its target."""


def check(data: bytes, limits: Limits) -> None:
    """Refuse a head whose end has not come where it can't become one any more.

    Raises:
        BadMessageError: it is too large, or malformed already.
    """
    first = data.find(b"\n")
    if len(data) > limits.max_header_bytes or (
        first < 0 and len(data) > limits.max_target_bytes + _AROUND_A_TARGET
    ):
        raise too_large(data, limits)
    if first >= 0 and data.count(b"\n") != data.count(b"\r\n"):
        raise BadMessageError("bare LF in the head")
    if first < 0 and not data[:1].isalpha() and data != b"\r":
        raise BadMessageError("malformed request line")


def too_large(data: bytes, limits: Limits) -> BadMessageError:
    """Which limit the head goes over that `data` begins."""
    line = data.find(b"\n")
    if (len(data) if line < 0 else line) > limits.max_target_bytes + _AROUND_A_TARGET:
        return BadMessageError("request target too long", 414, "target_size")
    return BadMessageError("request head too large", 431, "header_size")


def method_and_path(data: bytes) -> tuple[str, str]:
    """What a head that was refused asked for, for the log: empty where it does not tell, a long path cut."""
    parts = data.lstrip(b"\r\n").partition(b"\n")[0].rstrip(b"\r").split(b" ")
    method = METHODS.get(parts[0], "")
    if not method or len(parts) < 2 or parts[1][:1] != b"/":
        return method, ""
    return method, decode_path(parts[1].partition(b"?")[0][:_LONGEST_PATH])
