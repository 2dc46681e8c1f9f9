"""Upgrades and CONNECT: a request that becomes a tunnel where its upstream agrees, and is answered as any other where not.

A tunnel's two directions are the request's body and the answer (see Answer.tunnel), so counts, limits and logs are those
of every request. An upgrade that came as an extended CONNECT (RFC 8441) is asked of the upstream by a handshake of HTTP/1.1.
"""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from hashlib import sha1
from typing import Final

from prox.http.call import Receiver
from prox.http.codec import fields
from prox.http.codec.response import ResponseHead
from prox.http.errors import UpstreamError
from prox.http.switch import UpstreamEnd
from prox.http.upstream import UpstreamConnection

from .route import Routed
from .via import Lines

_WEBSOCKET: Final = b"websocket"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY: Final = frozenset({b"sec-websocket-key"})
_ACCEPT: Final = frozenset({b"sec-websocket-accept"})


async def serve_tunnel(
    routed: Routed,
    connection: UpstreamConnection,
    head: bytes,
    receiver: Receiver,
    *,
    via: Lines | None = None,
    silent: float | None = None,
    idle: float | None = None,
) -> UpstreamError | None:
    """Ask an upstream for a tunnel and wait until it, or the answer that is none, has ended.

    Args:
        routed: the request.
        connection: to the upstream, new.
        head: of the upstream's request.
        receiver: takes an answer that is no agreement.
        via: lines that mark what passes (see via_lines), None for none.
        silent: see UpstreamEnd.start.
        idle: the same.

    Returns:
        Why it failed, None where it did not.
    """
    exchange = routed.exchange
    answer = routed.answer
    upgrade = b"" if exchange.method == "CONNECT" else exchange.upgrade
    handshake: WebSocketHandshake | None = None
    if exchange.extended and upgrade.lower() == _WEBSOCKET:
        handshake = WebSocketHandshake()
        head = handshake.ask(head)
    end = UpstreamEnd(
        connection,
        upgrade,
        None if handshake is None else handshake.is_accepted,
        extended=exchange.extended,
    )
    try:
        answer.read_from(connection)
        end.ask(head, exchange.method, receiver)
        await end.decided
        agreed = end.head
        if agreed is None:
            await connection.finished
            return connection.error
        answer.read_from(end)
        if handshake is not None:
            agreed.plain = fields.without(agreed.plain, _ACCEPT)
        if via is not None:
            agreed.plain += via[agreed.minor]
        body = await answer.tunnel(agreed)
        if body is None:  # a hook refused, and the client has its answer
            end.give_up(UpstreamError("stopped", "a plugin refused the tunnel"))
            return None
        paced = None if routed.pace is None else routed.pace.upload(end, body)
        unsent = exchange.unsent if routed.pace is None else routed.pace.unsent
        end.start(answer, paced or body, unsent, silent=silent, idle=idle)
        body.join(paced or end)
        await end.finished
    except asyncio.CancelledError:
        end.give_up(UpstreamError("client_aborted", "the client went away"))
        raise
    return end.error


class WebSocketHandshake:
    """prox's own side of an upstream's WebSocket handshake (RFC 6455 section 4.1), for a client whose HTTP/2 knows none."""

    def __init__(self) -> None:
        self._key = b64encode(os.urandom(16))

    def ask(self, head: bytes) -> bytes:
        """The request's head with the key in it."""
        return b"%b\r\nSec-WebSocket-Key: %b\r\n\r\n" % (fields.without(head, _KEY)[:-4], self._key)

    def is_accepted(self, head: ResponseHead) -> bool:
        """Whether the upstream has read the key: it is no echo and no answer from a cache."""
        expected = b64encode(sha1(self._key + _GUID, usedforsecurity=False).digest())
        values = [value for name, value in head.headers if fields.folded_name(name) in _ACCEPT]
        return values == [expected]
