"""What can go wrong on the wire; nothing else comes out of `prox.wire`."""

from __future__ import annotations


class WireError(ValueError):
    """A message that does not keep the protocol."""


class DecodeError(WireError):
    """Bytes that are no message, or a message of the wrong shape."""


class EncodeError(WireError):
    """A value that the wire can't carry: text with lone surrogates, an integer above 64 bits."""


class FrameTooLarge(WireError):  # noqa: N818 - the name of a condition that is answered, as in the protocol
    """A frame above the limit.

    Attributes:
        size: bytes of the frame, without the length prefix.
        limit: bytes allowed.
        frames: complete frames that one `FrameReader.feed` found before it.
    """

    def __init__(self, size: int, limit: int, frames: list[bytes] | None = None) -> None:
        super().__init__(f"a frame of {size} bytes is above the limit of {limit}")
        self.size = size
        self.limit = limit
        self.frames = frames or []
