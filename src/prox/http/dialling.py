"""Connects raw sockets to upstreams, for what is said before the first protocol and for what is relayed below it."""

from __future__ import annotations

import asyncio
import errno
import socket

from prox.tasks import spawn

from .descriptors import room
from .errors import UpstreamError


async def dial(host: str, port: int, *, within: float | None, keep_alive: float | None) -> socket.socket:
    """Connect to the first of a name's addresses that can be reached; the socket does not block.

    Args:
        host: a name or an address.
        port: the port.
        within: seconds for look-up and connect together.
        keep_alive: TCP keep-alive probes after this silence.

    Raises:
        UpstreamError: of kind connect_refused, connect_timeout, unresolvable or no_descriptors.
    """
    # A task, since a Flow can't use timeouts.
    task = spawn(_dial(host, port, within), f"connect {host}:{port}")
    try:
        opened = await task
    except asyncio.CancelledError:
        if task.done() and not task.cancelled():
            late = task.result()  # it came when nobody waited for it any more
            if not isinstance(late, UpstreamError):
                late.close()
        raise
    if isinstance(opened, UpstreamError):
        raise opened
    if keep_alive:
        probe(opened, keep_alive)
    return opened


def probe(sock: socket.socket, after: float) -> None:
    """Let the kernel look from time to time whether a peer that is silent is still there."""
    seconds = max(1, round(after))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)


async def _dial(host: str, port: int, within: float | None) -> socket.socket | UpstreamError:
    """The error is returned, since a task that fails is a defect."""
    address = f"{host}:{port}"
    try:
        async with asyncio.timeout(within) as limit:
            sock = await connect(host, port)
    except (socket.gaierror, UnicodeError) as error:
        return UpstreamError("unresolvable", f"{host}: {error}")
    except OSError as error:
        if limit.expired():
            return UpstreamError("connect_timeout", f"no connection to {address} in time")
        kind = "no_descriptors" if error.errno in {errno.EMFILE, errno.ENFILE} else "connect_refused"
        return UpstreamError(kind, f"{address}: {error}")
    if sock.fileno() >= room().connect:
        sock.close()
        return UpstreamError("no_descriptors", f"{address}: file descriptors run short", retry_after=1.0)
    return sock


async def connect(host: str, port: int) -> socket.socket:
    """Connect a socket that does not block, however long it takes.

    Raises:
        OSError: none of the addresses can be reached; socket.gaierror where there is none.
        UnicodeError: the name can't be one.
    """
    loop = asyncio.get_running_loop()
    failure = OSError(errno.EADDRNOTAVAIL, "the name has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure
