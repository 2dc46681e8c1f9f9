"""Where a body ends: by length, by its last chunk, or with the connection (RFC 9112 sections 6 and 7).

A decoder is fed what was read and gives back the body's bytes; what came behind the body is in `rest` once `done` is
set. Chunks are read as strictly as the RFC is written, since a peer that frames differently from the next one is how
requests are smuggled. Trailer fields are checked and kept apart: none is ever merged into a head.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from .errors import BadMessageError

_MAX_CHUNK_LINE: Final = 4096
_MAX_TRAILERS: Final = 16384
_MAX_EXCESS: Final = 16384
"""Bytes of chunk lines beyond those that their data accounts for: RFC 9112 section 7.1.1 asks for a limit."""
_FAIR_LINE: Final = 16

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_CHUNK_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*"
)
_TRAILER_LINE: Final = re.compile(_TOKEN + rb":[\t\x20-\x7e\x80-\xff]*")

LAST_CHUNK: Final = b"0\r\n\r\n"

# What a chunked body's decoder expects next.
_SIZE: Final = 0
_DATA: Final = 1
_DATA_END: Final = 2
_TRAILERS: Final = 3


class Decoder(Protocol):
    """Reads one body.

    Attributes:
        done: the body has ended.
        rest: the bytes behind it.
        trailers: the lines of its trailer section, each with the line end before it.
    """

    done: bool
    rest: bytes
    trailers: bytes

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in `data`, in one piece; raises BadMessageError for broken framing."""

    def eof(self) -> None:
        """The connection ended: raises BadMessageError where the body had not."""


class LengthDecoder:
    """A body of known length."""

    __slots__ = ("done", "left", "rest", "trailers")

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = False
        self.rest = b""
        self.trailers = b""

    def feed(self, data: bytes) -> bytes:
        """See Decoder."""
        size = len(data)
        if size < self.left:
            self.left -= size
            return data
        self.done = True
        if size > self.left:
            self.rest = data[self.left :]
            data = data[: self.left]
        self.left = 0
        return data

    def eof(self) -> None:
        """See Decoder."""
        if not self.done:
            raise BadMessageError(f"the body is {self.left} bytes short", reason="truncated")


class CloseDecoder:
    """A body that ends with the connection; only an answer may have one."""

    __slots__ = ("done", "rest", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self.trailers = b""

    def feed(self, data: bytes) -> bytes:
        """See Decoder."""
        return data

    def eof(self) -> None:
        """See Decoder."""
        self.done = True


class ChunkedDecoder:
    """A chunked body."""

    __slots__ = ("_buffer", "_excess", "_left", "_state", "done", "rest", "trailers")

    def __init__(self) -> None:
        self._buffer = b""
        self._excess = 0
        self._left = 0
        self._state = _SIZE
        self.done = False
        self.rest = b""
        self.trailers = b""

    def feed(self, data: bytes) -> bytes:
        """See Decoder."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        pieces: list[bytes] = []
        position = 0
        size = len(data)
        while position < size and not self.done:
            if self._state == _DATA:
                piece = data[position : position + self._left]
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _DATA_END
            elif self._state == _DATA_END:
                if not b"\r\n".startswith(data[position : position + 2]):
                    raise BadMessageError("chunk data without its CRLF")
                if size - position < 2:
                    break
                position += 2
                self._state = _SIZE
            else:
                end = data.find(b"\n", position)
                if end < 0:
                    self._check_partial(data, position)
                    break
                if end == position or data[end - 1] != 13:
                    raise BadMessageError("bare LF in a chunked body")
                self._line(data[position : end - 1])
                position = end + 1
        if self.done:
            self.rest = data[position:]
        else:
            self._buffer = data[position:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def eof(self) -> None:
        """See Decoder."""
        if not self.done:
            raise BadMessageError("the chunked body has no end", reason="truncated")

    def _check_partial(self, data: bytes, position: int) -> None:
        size = len(data) - position
        if self._state == _SIZE:
            if size > _MAX_CHUNK_LINE:
                raise BadMessageError("chunk line too long")
        elif size > _MAX_TRAILERS - len(self.trailers):
            raise BadMessageError("trailers too long", 431, "header_size")

    def _line(self, line: bytes) -> None:
        if self._state == _SIZE:
            match = _CHUNK_LINE.fullmatch(line) if len(line) <= _MAX_CHUNK_LINE else None
            if match is None:
                raise BadMessageError("malformed chunk size")
            self._left = int(match[1], 16)
            # A chunk pays for a line of its own and for twice its data; who sends next to nothing but framing is refused.
            self._excess = max(0, self._excess + len(line) - _FAIR_LINE - 2 * self._left)
            if self._excess > _MAX_EXCESS:
                raise BadMessageError("too much framing in a chunked body")
            self._state = _DATA if self._left else _TRAILERS
            return
        if not line:
            self.done = True
            return
        if len(self.trailers) + len(line) + 2 > _MAX_TRAILERS:
            raise BadMessageError("trailers too long", 431, "header_size")
        if _TRAILER_LINE.fullmatch(line) is None:
            raise BadMessageError("malformed trailer")
        self.trailers += b"\r\n" + line


def last_chunk(trailers: bytes) -> bytes:
    """The end of a chunked body with these lines behind it."""
    return b"0%b\r\n\r\n" % trailers


def chunk(data: bytes) -> bytes:
    """`data`, not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)
