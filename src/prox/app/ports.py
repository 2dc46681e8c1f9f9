"""Handing a TCP port from one of our listeners to another that overlaps it, as from `127.0.0.1:80` to `:80`.

The kernel lets both be bound only with SO_REUSEPORT, which is set for that moment alone: with it any process of the same
user could take a share of our connections, and we of theirs. So it is looked up whether anybody else listens there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

_LISTEN = "0A"  # TCP_LISTEN as /proc/net/tcp shows it


@contextlib.contextmanager
def shared_port(sockets: Sequence[socket.socket]) -> Iterator[None]:
    """Let others that ask for it bind the same port as `sockets`, while this lasts."""
    try:
        for sock in sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield
    finally:
        for sock in sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


def refuse_others(port: int, ours: Sequence[socket.socket]) -> None:
    """Nothing where only sockets of ours listen on a port, whatever the address.

    Raises:
        OSError: another process listens there (EADDRINUSE).
    """
    own = {str(os.fstat(sock.fileno()).st_ino) for sock in ours}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for fields in _rows(Path(table)):
            listens = fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port
            if listens and fields[9] not in own:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _rows(table: Path) -> list[list[str]]:
    """The sockets of a table of the kernel; none where it can't be read, as without IPv6."""
    try:
        lines = table.read_text("ascii").splitlines()
    except OSError:
        return []
    return [line.split() for line in lines[1:]]
