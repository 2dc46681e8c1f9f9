"""How much a peer may do that costs us and brings nobody anything (RFC 9113 section 10.5).

Each budget is a bucket: what costs takes from it, time and useful work fill it. Sizes are far above what honest peers do,
and far below what hurts.
"""

from __future__ import annotations

from typing import Final

RESETS: Final = 200
RESETS_A_SECOND: Final = 20
"""Streams that the peer resets or makes us reset before they are answered; each stream that ends well gives one back.

Rapid reset is CVE-2023-44487; that a peer may as well make us do it is CVE-2025-8671.
"""

IDLE_FRAMES: Final = 2000
IDLE_FRAMES_A_SECOND: Final = 500
IDLE_FRAMES_EARNED: Final = 4
"""Frames without content: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, empty DATA, interim heads, unknown ones.

Each frame with content gives some back: gRPC sends a PING with every round trip of data, and some clients update windows
with each frame. (CVE-2019-9511 to 9518.)
"""

SETTINGS_COST: Final = 10
"""That of a SETTINGS frame; each setting in it costs one more."""

USEFUL_SIZE: Final = 512
"""Bytes of a DATA frame of ours that earn something: small ones may be due to tiny window updates."""

CONTINUATIONS: Final = 64
"""Frames of one field block. (CVE-2024-27316 and its kin.)"""

BLOCK_OVERHEAD: Final = 16384
"""Bytes by which a field block may be above twice the limit of the list: it is decoded to the end, to answer 431."""

UNREAD_ANSWERS: Final = 1000
"""Answers to PING and SETTINGS, and resets, that wait because the peer does not read."""


class Budget:
    """A bucket of tokens.

    Args:
        size: of the bucket, full at first.
        rate: tokens a second.
    """

    __slots__ = ("_level", "_rate", "_seen", "_size")

    def __init__(self, size: int, rate: int) -> None:
        self._size = float(size)
        self._rate = float(rate)
        self._level = float(size)
        self._seen = -1.0

    def spend(self, cost: int, now: float) -> bool:
        """Take tokens; False where there are not enough."""
        if self._level < cost:
            if self._seen >= 0.0:
                self._level = min(self._size, self._level + (now - self._seen) * self._rate)
            self._seen = now
            if self._level < cost:
                return False
        elif self._seen < 0.0:
            self._seen = now
        self._level -= cost
        return True

    def earn(self, tokens: int) -> None:
        """Put tokens back."""
        self._level = min(self._size, self._level + tokens)
