"""What of one answer waits: for its stream's window, the connection's, or the socket."""

from __future__ import annotations


class Backlog:
    """Bytes in the order in which they came, taken in slices.

    Attributes:
        size: bytes that wait.
        last: nothing comes behind them.
        since: when some were taken last, in the loop's time.
    """

    __slots__ = ("_chunks", "_offset", "last", "since", "size")

    def __init__(self, now: float) -> None:
        self._chunks: list[bytes] = []
        self._offset = 0
        self.size = 0
        self.last = False
        self.since = now

    def add(self, data: bytes) -> None:
        """Let some wait."""
        if data:
            self._chunks.append(data)
            self.size += len(data)

    def take(self, most: int) -> bytes:
        """The first bytes, `most` at the most, and not across two chunks: what is copied is sent."""
        if not self._chunks or most <= 0:
            return b""
        chunk = self._chunks[0]
        offset = self._offset
        left = len(chunk) - offset
        if left > most:
            self._offset = offset + most
            self.size -= most
            return chunk[offset : offset + most]
        del self._chunks[0]
        self._offset = 0
        self.size -= left
        return chunk[offset:] if offset else chunk
