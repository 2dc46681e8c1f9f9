"""Frames: read from bytes in any pieces, and written (RFC 9113 sections 4 and 6).

Here is what can be said of a frame without knowing its stream: lengths, padding, flags, which stream it may be on. All
faults of form end the connection, as RFC 9113 section 5.4.1 allows; most of them must.
"""

from __future__ import annotations

from typing import Final

from .errors import FRAME_SIZE_ERROR, PROTOCOL_ERROR, Http2Error

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

NAMES: Final = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
]

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITIZED: Final = 0x20

HEAD_SIZE: Final = 9


class FrameReader:
    """Takes frames out of what is read.

    Args:
        max_size: of a payload, as we announced it.

    Attributes:
        kind, flags, stream, payload: of the frame that `next` found.
    """

    __slots__ = (
        "_buffer",
        "_max_size",
        "_needed",
        "_pieces",
        "_place",
        "_waiting",
        "flags",
        "kind",
        "payload",
        "stream",
    )

    def __init__(self, max_size: int) -> None:
        self.kind = 0
        self.flags = 0
        self.stream = 0
        self.payload = b""
        self._max_size = max_size
        self._buffer = b""
        self._place = 0
        # The beginning of a frame, until it is `_needed` bytes: joined once, so that single bytes cost no more than bytes.
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._needed = 0

    def feed(self, data: bytes) -> None:
        """Take what was read; `next` then gives what frames there are, all of which must be asked for before more is fed."""
        if self._waiting:
            self._pieces.append(data)
            self._waiting += len(data)
            if self._waiting < self._needed:
                return
            data = b"".join(self._pieces)
            self._pieces = []
            self._waiting = 0
        self._buffer = data
        self._place = 0

    def unfinished(self) -> tuple[int, int, int]:
        """Kind, stream and bytes so far of the frame that has begun to come; kind is -1 while that is not known."""
        if self._waiting < HEAD_SIZE:
            return -1, 0, self._waiting
        begun = b"".join(self._pieces)
        return begun[3], int.from_bytes(begun[5:9], "big") & 0x7FFFFFFF, self._waiting

    def next(self) -> bool:
        """Go to the next whole frame; False where there is none.

        Raises:
            Http2Error: FRAME_SIZE_ERROR as soon as a frame's head says that it is too long.
        """
        buffer = self._buffer
        place = self._place
        left = len(buffer) - place
        size = 0
        if left >= HEAD_SIZE:
            size = buffer[place] << 16 | buffer[place + 1] << 8 | buffer[place + 2]
            if size > self._max_size:
                raise Http2Error(FRAME_SIZE_ERROR, "a frame is longer than SETTINGS_MAX_FRAME_SIZE")
            if left >= HEAD_SIZE + size:
                self.kind = buffer[place + 3]
                self.flags = buffer[place + 4]
                self.stream = (
                    (buffer[place + 5] & 0x7F) << 24
                    | buffer[place + 6] << 16
                    | buffer[place + 7] << 8
                    | buffer[place + 8]
                )
                end = place + HEAD_SIZE + size
                self.payload = buffer[place + HEAD_SIZE : end]
                self._place = end
                return True
        if left:
            self._pieces = [buffer[place:]]
            self._waiting = left
            self._needed = HEAD_SIZE + size
            self._buffer = b""
            self._place = 0
        elif place:
            self._buffer = b""
            self._place = 0
        return False


def unpadded(payload: bytes, flags: int) -> bytes:
    """The payload of DATA or HEADERS without padding (RFC 9113 section 6.1)."""
    if not flags & PADDED:
        return payload
    if not payload:
        raise Http2Error(FRAME_SIZE_ERROR, "a padded frame without the length of its padding")
    end = len(payload) - payload[0]
    if end < 1:
        raise Http2Error(PROTOCOL_ERROR, "padding is longer than its frame")
    return payload[1:end]


def field_block(payload: bytes, flags: int, stream: int) -> bytes:
    """The field block of HEADERS, without padding and priority (RFC 9113 section 6.2)."""
    block = unpadded(payload, flags)
    if not flags & PRIORITIZED:
        return block
    if len(block) < 5:
        raise Http2Error(FRAME_SIZE_ERROR, "HEADERS too short for its priority")
    _check_dependency(block, stream)
    return block[5:]


def check_priority(payload: bytes, stream: int) -> None:
    """PRIORITY means nothing, but its form does (RFC 9113 section 6.3)."""
    if not stream:
        raise Http2Error(PROTOCOL_ERROR, "PRIORITY on stream 0")
    if len(payload) != 5:
        raise Http2Error(FRAME_SIZE_ERROR, "PRIORITY of a wrong length")
    _check_dependency(payload, stream)


def _check_dependency(payload: bytes, stream: int) -> None:
    if number(payload, 0) & 0x7FFF_FFFF == stream:
        raise Http2Error(PROTOCOL_ERROR, "a stream depends on itself")


def reset_code(payload: bytes, stream: int) -> int:
    """The code of RST_STREAM (RFC 9113 section 6.4)."""
    if not stream:
        raise Http2Error(PROTOCOL_ERROR, "RST_STREAM on stream 0")
    if len(payload) != 4:
        raise Http2Error(FRAME_SIZE_ERROR, "RST_STREAM of a wrong length")
    return number(payload, 0)


def settings_pairs(payload: bytes, flags: int, stream: int) -> list[tuple[int, int]]:
    """The settings of SETTINGS, none for an acknowledgement (RFC 9113 section 6.5)."""
    if stream:
        raise Http2Error(PROTOCOL_ERROR, "SETTINGS on a stream")
    if flags & ACK and payload:
        raise Http2Error(FRAME_SIZE_ERROR, "SETTINGS with ACK and a payload")
    if len(payload) % 6:
        raise Http2Error(FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
    return [
        (payload[place] << 8 | payload[place + 1], number(payload, place + 2))
        for place in range(0, len(payload), 6)
    ]


def check_ping(payload: bytes, stream: int) -> None:
    """PING (RFC 9113 section 6.7)."""
    if stream:
        raise Http2Error(PROTOCOL_ERROR, "PING on a stream")
    if len(payload) != 8:
        raise Http2Error(FRAME_SIZE_ERROR, "PING of a wrong length")


def goaway_words(payload: bytes, stream: int) -> tuple[int, int]:
    """The last stream and the code of GOAWAY (RFC 9113 section 6.8)."""
    if stream:
        raise Http2Error(PROTOCOL_ERROR, "GOAWAY on a stream")
    if len(payload) < 8:
        raise Http2Error(FRAME_SIZE_ERROR, "GOAWAY too short")
    return number(payload, 0) & 0x7FFF_FFFF, number(payload, 4)


def window_increment(payload: bytes) -> int:
    """The increment of WINDOW_UPDATE; 0 is a fault of its stream (RFC 9113 section 6.9)."""
    if len(payload) != 4:
        raise Http2Error(FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong length")
    return number(payload, 0) & 0x7FFF_FFFF


def number(data: bytes, place: int) -> int:
    """32 bits at a place."""
    return data[place] << 24 | data[place + 1] << 16 | data[place + 2] << 8 | data[place + 3]


def head(size: int, kind: int, flags: int, stream: int) -> bytes:
    """A frame's first nine bytes."""
    return ((size << 16 | kind << 8 | flags) << 32 | stream).to_bytes(HEAD_SIZE, "big")


def words(kind: int, stream: int, *values: int) -> bytes:
    """A whole frame whose payload is 32-bit numbers, without flags: RST_STREAM, GOAWAY, WINDOW_UPDATE."""
    return head(4 * len(values), kind, 0, stream) + b"".join([value.to_bytes(4, "big") for value in values])


def settings(pairs: list[tuple[int, int]]) -> bytes:
    """SETTINGS."""
    payload = b"".join([name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in pairs])
    return head(len(payload), SETTINGS, 0, 0) + payload


SETTINGS_ACK: Final = head(0, SETTINGS, ACK, 0)


def ping(payload: bytes, flags: int) -> bytes:
    """PING with its eight bytes."""
    return head(8, PING, flags, 0) + payload


def field_frames(block: bytes, stream: int, max_size: int, *, end: bool) -> bytes:
    """HEADERS, and CONTINUATION for what is longer than a frame."""
    flags = END_STREAM if end else 0
    if len(block) <= max_size:
        return head(len(block), HEADERS, flags | END_HEADERS, stream) + block
    parts = [head(max_size, HEADERS, flags, stream), block[:max_size]]
    for place in range(max_size, len(block), max_size):
        part = block[place : place + max_size]
        last = place + max_size >= len(block)
        parts.append(head(len(part), CONTINUATION, END_HEADERS if last else 0, stream))
        parts.append(part)
    return b"".join(parts)
