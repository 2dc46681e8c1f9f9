"""What a transport does not say or do by itself."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import select
import socket
import ssl
import struct
import termios

_NO_LINGER = struct.pack("ii", 1, 0)
_MOST_LEFT = 256 * 1024


def send_reset(transport: asyncio.Transport) -> None:
    """Close with RST: after a FIN an answer without a length, to an HTTP/1.0 client, would pass for whole."""
    with contextlib.suppress(OSError):  # it is closed already
        sock = _socket_of(transport)
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
    try:
        return os.read(_socket_of(transport).fileno(), _MOST_LEFT)
    except OSError:
        return b""


def tls_left(connection: ssl.SSLObject) -> tuple[bytes, bool]:
    """The same over TLS: what came before the end and was not handed on, and whether the peer said that this is the end.

    A transport that does not read, as its client is slow, is ended by uvloop as soon as the TCP connection is, with up to
    256 KiB in hand. Without a close_notify the end may be anybody's doing (RFC 8446 section 6.1).
    """
    pieces: list[bytes] = []
    try:
        while piece := connection.read(_MOST_LEFT):
            pieces.append(piece)
    except ssl.SSLError:
        return b"".join(pieces), False
    return b"".join(pieces), True


def has_hung_up(transport: asyncio.Transport) -> bool:
    """Whether the peer has sent FIN or RST: a transport that does not read says nothing of it."""
    return _is_told(transport, select.POLLRDHUP)


def has_sent_all(transport: asyncio.Transport) -> bool:
    """Whether the peer's machine has all that was written."""
    if transport.get_write_buffer_size():
        return False
    try:
        left = fcntl.ioctl(_socket_of(transport).fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except OSError:  # the connection has gone
        return True
    return left == b"\0\0\0\0"


def is_lost(transport: asyncio.Transport) -> bool:
    """Whether the connection has ended in both directions, as by RST: where a FIN alone says nothing against it."""
    return _is_told(transport, 0)  # errors and hang-ups are always told


def _is_told(transport: asyncio.Transport, events: int) -> bool:
    poll = select.poll()
    try:
        poll.register(_socket_of(transport).fileno(), events)
    except OSError:
        return True
    return bool(poll.poll(0))


def _socket_of(transport: asyncio.Transport) -> socket.socket:
    """The socket of a transport. OSError where it is lost: over TLS that is known a turn of the loop before it is told."""
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is None:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
    return sock
