"""What a transport does not say or do by itself."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct

_NO_LINGER = struct.pack("ii", 1, 0)


def send_reset(transport: asyncio.Transport) -> None:
    """Close with RST: after a FIN an answer without a length, to an HTTP/1.0 client, would pass for whole."""
    with contextlib.suppress(OSError):  # it is closed already
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def has_hung_up(transport: asyncio.Transport) -> bool:
    """Whether the peer has sent FIN or RST: a transport that does not read says nothing of it."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))
