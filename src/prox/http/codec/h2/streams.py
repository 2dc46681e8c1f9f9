"""Streams of a connection, and a short memory of those that are over (RFC 9113 section 5.1)."""

from __future__ import annotations

from typing import Final

ANY_LENGTH: Final = -1

# How a stream that is over ended.
UNKNOWN: Final = 0
ENDED: Final = 1
RESET_BY_US: Final = 2
RESET_BY_PEER: Final = 3

_GENERATION: Final = 128


class Stream:
    """One stream, or, of its windows alone, the connection.

    Attributes:
        id: its number.
        local_open: we have not ended our side.
        remote_open: the peer has not ended its side.
        headed: the peer's head has come; on the server's side from the beginning.
        send_window: bytes that we may send; less than 0 after the peer has made its windows smaller.
        receive_window: bytes that the peer may send.
        unconsumed: bytes received that the application still has.
        pending: bytes consumed whose window the peer has not been told of yet.
        expected: bytes of body that Content-Length says, or ANY_LENGTH.
        received: bytes of body.
    """

    __slots__ = (
        "expected",
        "headed",
        "id",
        "local_open",
        "pending",
        "receive_window",
        "received",
        "remote_open",
        "send_window",
        "unconsumed",
    )

    def __init__(self, stream: int, send_window: int, receive_window: int, headed: bool) -> None:
        self.id = stream
        self.local_open = True
        self.remote_open = True
        self.headed = headed
        self.send_window = send_window
        self.receive_window = receive_window
        self.unconsumed = 0
        self.pending = 0
        self.expected = ANY_LENGTH
        self.received = 0


class ClosedStreams:
    """How the last streams ended: what comes late for one that we reset is no fault, what comes after an end is.

    The memory is two generations: when the younger is full the older is forgotten.
    """

    __slots__ = ("_forgotten", "_old", "_young")

    def __init__(self) -> None:
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self._forgotten = 0

    def add(self, stream: int, how: int) -> None:
        """Remember a stream."""
        self._young[stream] = how
        if len(self._young) >= _GENERATION:
            if self._old:
                self._forgotten = max(self._forgotten, *self._old)
            self._old = self._young
            self._young = {}

    def how(self, stream: int) -> int:
        """How it ended; UNKNOWN where it never was or has been forgotten."""
        return self._young.get(stream, UNKNOWN) or self._old.get(stream, UNKNOWN)

    def may_be_forgotten(self, stream: int) -> bool:
        """Whether a stream that is not known may have been."""
        return stream <= self._forgotten
