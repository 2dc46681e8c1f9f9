"""A client's connection that is one too many: it is told so and closed, without a request being read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from .answer import refusal

LINGER = 2.0
"""Seconds in which a client may read the answer, as after any other refusal."""

_MOST_READ = 64 * 1024
"""Bytes that are read away; a client that sends more wants no answer."""


class TurnedAway:
    """Answers 503 at once, waits a little for the client's FIN, so that no RST takes the answer from it, and closes.

    An asyncio.Protocol, but not by name (see ServerConnection).

    Args:
        ended: called at the end of the connection.
        text: the body of the answer.
    """

    __slots__ = ("_ended", "_read", "_text", "_timer", "_transport")

    def __init__(self, ended: Callable[[TurnedAway], None], text: bytes) -> None:
        self._ended = ended
        self._text = text
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._read = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        self._timer = asyncio.get_running_loop().call_later(LINGER, self._transport.abort)
        self._transport.write(refusal(503, len(self._text), self._text))
        self._transport.write_eof()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._read += len(data)
        if self._read > _MOST_READ:
            self.abort()

    def eof_received(self) -> None:
        """See asyncio.Protocol: the transport closes."""

    def pause_writing(self) -> None:
        """See asyncio.Protocol: nothing more is written."""

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """See asyncio.Protocol."""
        if self._timer is not None:
            self._timer.cancel()
        self._ended(self)

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
