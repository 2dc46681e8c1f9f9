"""Which parts of a file a Range header asks for (RFC 9110 section 14).

A Range is a wish: one that is malformed, of another unit or wasteful is ignored, and the whole is sent.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_RANGES = 32
"""More parts in one request are ignored: no player or downloader asks for so many."""

_SPECIFIER = re.compile(rb"[Bb][Yy][Tt][Ee][Ss]=(.*)", re.DOTALL)
_RANGE = re.compile(rb"([0-9]+)-([0-9]*)|-([0-9]+)")
_MAX_DIGITS = 18


class ByteRange(NamedTuple):
    """Bytes `first` to `last`, both included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """How many bytes: at least one."""
        return self.last - self.first + 1

    def header(self, size: int) -> bytes:
        """The value of Content-Range."""
        return b"bytes %d-%d/%d" % (self.first, self.last, size)


def parse_ranges(value: bytes, size: int) -> list[ByteRange] | None:
    """The parts of a file of `size` bytes, in the order asked for; those beyond its end are left out.

    Returns:
        An empty list where nothing of what is asked for exists (416); None where the header is to be ignored: it is
        malformed, names more than MAX_RANGES, more bytes than there are, or more than two overlaps (section 14.2).
    """
    match = _SPECIFIER.fullmatch(value)
    if match is None:
        return None
    members = [member for part in match[1].split(b",") if (member := part.strip(b" \t"))]
    if not members or len(members) > MAX_RANGES:
        return None
    ranges: list[ByteRange] = []
    for member in members:
        parsed = _RANGE.fullmatch(member)
        if parsed is None:
            return None
        first_digits, last_digits, suffix_digits = parsed.groups()
        if suffix_digits is not None:
            length = _number(suffix_digits)
            if length and not size:
                return None  # the whole of an empty file, which Content-Range can't express
            first, last = max(size - length, 0), size - 1
            if not length:
                continue
        else:
            first = _number(first_digits)
            last = _number(last_digits) if last_digits else size - 1
            if last_digits and last < first:
                return None
        if first < size:
            ranges.append(ByteRange(first, min(last, size - 1)))
    if _is_wasteful(ranges, size):
        return None
    return ranges


def _number(digits: bytes) -> int:
    """Numbers beyond any file's size are all alike, and cost nothing to read."""
    digits = digits.lstrip(b"0")
    return int(digits or b"0") if len(digits) <= _MAX_DIGITS else 10**_MAX_DIGITS


def _is_wasteful(ranges: list[ByteRange], size: int) -> bool:
    if sum(part.length for part in ranges) > size:
        return True
    in_order = sorted(ranges)
    end = -1
    overlaps = 0
    for part in in_order:
        overlaps += part.first <= end
        end = max(end, part.last)
    return overlaps > 2
