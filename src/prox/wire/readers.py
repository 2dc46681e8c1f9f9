"""Frames and lines out of a stream of bytes that may be cut anywhere. Bytes in, messages out, no I/O."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .errors import FrameTooLarge
from .names import FRAME_LIMIT, LINE_LIMIT

_length = struct.Struct(">I").unpack_from
_PREFIX = 4


class FrameReader:
    """Cuts a stream into frames, given without their length prefix.

    A frame above `limit` ends the reader: what follows can't be trusted to be a frame.
    """

    __slots__ = ("_buffer", "_too_large", "limit")

    def __init__(self, limit: int = FRAME_LIMIT) -> None:
        self.limit = limit
        self._buffer = bytearray()
        self._too_large: FrameTooLarge | None = None

    @property
    def pending(self) -> int:
        """Bytes of a frame that has begun and is not complete."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they were read and return the frames that they complete, in order.

        Raises:
            FrameTooLarge: a frame is above the limit; the complete ones before it are its `frames`. Every
                later call raises it again, without frames.
        """
        if self._too_large is not None:
            raise FrameTooLarge(self._too_large.size, self.limit)
        if not self._buffer and len(data) >= _PREFIX:
            size = _length(data)[0]
            if size == len(data) - _PREFIX and size <= self.limit:  # the usual case: one read, one frame
                return [data[_PREFIX:]]
        self._buffer += data
        return self._cut()

    def _cut(self) -> list[bytes]:
        frames: list[bytes] = []
        buffer, at = self._buffer, 0
        while len(buffer) - at >= _PREFIX:
            size = _length(buffer, at)[0]
            if size > self.limit:
                self._too_large = FrameTooLarge(size, self.limit, frames)
                self._buffer = bytearray()
                raise self._too_large
            end = at + _PREFIX + size
            if len(buffer) < end:
                break
            frames.append(bytes(buffer[at + _PREFIX : end]))
            at = end
        if at:
            del buffer[:at]
        return frames


@dataclass(frozen=True, slots=True)
class OversizeLine:
    """In place of a line above the limit, which is dropped whole.

    Attributes:
        limit: bytes allowed.
        head: the first bytes of the line, for a report.
    """

    limit: int
    head: bytes


class LineReader:
    r"""Cuts a stream into lines, given without their `\n`. Empty lines are left out.

    A line above `limit` is reported once, as soon as that is known, and dropped to its end; memory never
    holds more than the limit and one read.
    """

    __slots__ = ("_buffer", "_dropping", "limit")

    HEAD = 120
    """Bytes of a dropped line that are kept for the report."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self.limit = limit
        self._buffer = bytearray()
        self._dropping = False

    @property
    def pending(self) -> int:
        """Bytes of a line that has begun and not ended."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes | OversizeLine]:
        """Take bytes as they were read and return the lines that they complete, in order."""
        lines: list[bytes | OversizeLine] = []
        at = 0
        while (end := data.find(b"\n", at)) >= 0:
            self._end_line(data[at:end], lines)
            at = end + 1
        if at < len(data) and not self._dropping:
            self._buffer += data[at:] if at else data
            if len(self._buffer) > self.limit:
                lines.append(self._oversize(self._buffer))
                self._dropping = True
                self._buffer = bytearray()
        return lines

    def _end_line(self, tail: bytes, lines: list[bytes | OversizeLine]) -> None:
        if self._dropping:
            self._dropping = False
            return
        if self._buffer:
            self._buffer += tail
            line = bytes(self._buffer)
            self._buffer = bytearray()
        else:
            line = tail
        if len(line) > self.limit:
            lines.append(self._oversize(line))
        elif line and not line.isspace():
            lines.append(line)

    def _oversize(self, line: bytes | bytearray) -> OversizeLine:
        return OversizeLine(self.limit, bytes(line[: self.HEAD]))
