"""Settings of both ends of a connection (RFC 9113 section 6.5, RFC 8441 section 3)."""

from __future__ import annotations

from typing import Final

from .errors import FLOW_CONTROL_ERROR, PROTOCOL_ERROR, Http2Error

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6
ENABLE_CONNECT_PROTOCOL: Final = 0x8

DEFAULT_WINDOW: Final = 65535
MAX_WINDOW: Final = 2**31 - 1
LEAST_FRAME_SIZE: Final = 16384
MOST_FRAME_SIZE: Final = 2**24 - 1
UNLIMITED: Final = 2**32 - 1


class LocalSettings:
    """What we announce, and hold the peer to. One object may serve all connections of a listener.

    Attributes:
        max_concurrent_streams: that the peer may have open at once; beyond it REFUSED_STREAM (server side).
        max_header_list_size: bytes of one message's fields as RFC 9113 section 6.5.2 counts them (32 more for each).
        stream_window: bytes that the peer may send on one stream ahead of `Session.consumed`; 65535 at the least.
        connection_window: the same for all streams of a connection together; 65535 at the least.
        max_frame_size: of a frame's payload that is taken, 16384 to 2**24-1.
        connect_protocol: whether extended CONNECT is announced (RFC 8441; server side).
    """

    __slots__ = (
        "connect_protocol",
        "connection_window",
        "max_concurrent_streams",
        "max_frame_size",
        "max_header_list_size",
        "stream_window",
    )

    def __init__(
        self,
        *,
        max_concurrent_streams: int = 100,
        max_header_list_size: int = 65536,
        stream_window: int = 262_144,
        connection_window: int = 1_048_576,
        max_frame_size: int = LEAST_FRAME_SIZE,
        connect_protocol: bool = False,
    ) -> None:
        self.max_concurrent_streams = max_concurrent_streams
        self.max_header_list_size = max_header_list_size
        self.stream_window = max(DEFAULT_WINDOW, min(stream_window, MAX_WINDOW))
        self.connection_window = max(DEFAULT_WINDOW, min(connection_window, MAX_WINDOW))
        self.max_frame_size = max(LEAST_FRAME_SIZE, min(max_frame_size, MOST_FRAME_SIZE))
        self.connect_protocol = connect_protocol

    def pairs(self, *, client: bool) -> list[tuple[int, int]]:
        """What the first SETTINGS frame says."""
        said = [
            (INITIAL_WINDOW_SIZE, self.stream_window),
            (MAX_FRAME_SIZE, self.max_frame_size),
            (MAX_HEADER_LIST_SIZE, self.max_header_list_size),
        ]
        if client:
            said.insert(0, (ENABLE_PUSH, 0))
        else:
            said.insert(0, (MAX_CONCURRENT_STREAMS, self.max_concurrent_streams))
            if self.connect_protocol:
                said.append((ENABLE_CONNECT_PROTOCOL, 1))
        return said


class PeerSettings:
    """What the peer announced; RFC defaults until then.

    Attributes:
        header_table_size: that its decoder offers our encoder.
        max_concurrent_streams: that we may open (client side).
        initial_window_size: of streams that are opened from now on.
        max_frame_size: that it takes.
        max_header_list_size: that it says it takes; advice, not enforced by the session.
        connect_protocol: whether it takes extended CONNECT.
    """

    __slots__ = (
        "connect_protocol",
        "header_table_size",
        "initial_window_size",
        "max_concurrent_streams",
        "max_frame_size",
        "max_header_list_size",
    )

    def __init__(self) -> None:
        self.header_table_size = 4096
        self.max_concurrent_streams = UNLIMITED
        self.initial_window_size = DEFAULT_WINDOW
        self.max_frame_size = LEAST_FRAME_SIZE
        self.max_header_list_size = UNLIMITED
        self.connect_protocol = False

    def apply(self, name: int, value: int, *, client: bool) -> None:
        """Take one setting of the peer; unknown names are ignored. `client`: we are the client.

        Raises:
            Http2Error: where the value is out of its range (RFC 9113 section 6.5.2).
        """
        if name == HEADER_TABLE_SIZE:
            self.header_table_size = value
        elif name == ENABLE_PUSH:
            if value > (0 if client else 1):
                raise Http2Error(PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH out of range")
        elif name == MAX_CONCURRENT_STREAMS:
            self.max_concurrent_streams = value
        elif name == INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise Http2Error(FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE out of range")
            self.initial_window_size = value
        elif name == MAX_FRAME_SIZE:
            if not LEAST_FRAME_SIZE <= value <= MOST_FRAME_SIZE:
                raise Http2Error(PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE out of range")
            self.max_frame_size = value
        elif name == MAX_HEADER_LIST_SIZE:
            self.max_header_list_size = value
        elif name == ENABLE_CONNECT_PROTOCOL:
            if value > 1 or (self.connect_protocol and value == 0):
                raise Http2Error(PROTOCOL_ERROR, "SETTINGS_ENABLE_CONNECT_PROTOCOL out of range")
            self.connect_protocol = value == 1
