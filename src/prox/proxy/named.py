"""The PROXY protocol: whose connection it is that a trusted proxy relays, and telling upstreams the same.

It is required from trusted proxies and refused from others: who may leave it out, or make one up, could choose
the address that caps, hooks and logs see.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Final

from prox.http.arrival import Arrival, TurnedBackError
from prox.http.exchange import Client
from prox.l4.proxy_header import (
    Endpoint,
    IncompleteHeader,
    ProxyHeader,
    ProxyHeaderError,
    read_proxy_header,
    write_proxy_header,
)

from .peeking import peek

_log: Final = logging.getLogger("prox.listen")

TIMEOUT = 5.0
"""Seconds for the header; it is the first thing that a proxy sends."""


class ProxyNames:
    """The step that reads the PROXY header and takes it from the connection.

    Args:
        is_trusted: whether an address is a trusted proxy's. A peer on a Unix socket is trusted by the socket's permissions.
    """

    def __init__(self, is_trusted: Callable[[str], bool]) -> None:
        self._is_trusted = is_trusted

    async def __call__(self, arrival: Arrival) -> None:
        """Read it; the client is whom it names.

        Raises:
            TurnedBackError: the peer is not trusted, or what it sends is no header.
        """
        peer = arrival.client
        if peer.ip and not self._is_trusted(peer.ip):
            raise TurnedBackError(
                "proxy_protocol", "the PROXY protocol is not for a peer that is not trusted"
            )
        arrival.within(TIMEOUT, "proxy_protocol_timeout")
        try:
            header: ProxyHeader | IncompleteHeader = await peek(arrival, read_proxy_header, IncompleteHeader)
        except ProxyHeaderError as error:
            raise TurnedBackError("proxy_protocol", f"the PROXY header: {error}") from None
        assert isinstance(header, ProxyHeader)
        arrival.sock.recv(header.size)
        if isinstance(header.source, tuple):
            client = Client(header.source)
            client.local = header.destination
            arrival.readdress(client)
            _log.debug("%s relays a connection of %s", peer.address, client.address)


async def tell_local(arrival: Arrival) -> None:
    """The step that notes which address the client connected to, where upstreams are told."""
    if arrival.client.local is None and arrival.sock.family != socket.AF_UNIX:
        arrival.client.local = arrival.sock.getsockname()


def header_of(client: Client, version: int) -> bytes:
    """The PROXY header that names a client and what it connected to."""
    local = client.local
    source: Endpoint | None = None
    destination: Endpoint | None = None
    if client.ip and isinstance(local, tuple):
        source = client.ip, int(client.address.rpartition(":")[2])
        destination = str(local[0]), int(local[1])
    return write_proxy_header(version, source, destination)
