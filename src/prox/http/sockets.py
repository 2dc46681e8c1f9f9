"""What a transport does not say or do by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import struct

_NO_LINGER = struct.pack("ii", 1, 0)
_MOST_LEFT = 256 * 1024


def send_reset(transport: asyncio.Transport) -> None:
    """Close with RST: after a FIN an answer without a length, to an HTTP/1.0 client, would pass for whole."""
    with contextlib.suppress(OSError):  # it is closed already
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def reset(sock: socket.socket) -> None:
    """Close a socket that has no transport, with RST: nothing of it stays, not in the kernel either."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    sock.close()


def read_left(transport: asyncio.Transport) -> bytes:
    """What the peer sent before its connection was lost and nobody has read; call it in `connection_lost`.

    A write that fails ends a transport at once, although there may be an answer to read that says why the peer went.
    """
    if transport.get_extra_info("ssl_object") is not None:
        return b""
    try:
        return os.read(transport.get_extra_info("socket").fileno(), _MOST_LEFT)
    except OSError:
        return b""


def has_hung_up(transport: asyncio.Transport) -> bool:
    """Whether the peer has sent FIN or RST: a transport that does not read says nothing of it."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))


def is_lost(transport: asyncio.Transport) -> bool:
    """Whether the connection has ended in both directions, as by RST: where a FIN alone says nothing against it."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), 0)  # errors and hang-ups are always told
    return bool(poll.poll(0))
