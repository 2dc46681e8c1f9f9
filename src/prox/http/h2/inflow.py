"""The body of one stream's request on its way in: its window is opened again as its reader takes bytes.

A reader that pauses keeps the window shut, so that its client stops; what the window let through already is passed on. So a
slow upstream costs a window of memory and no other stream its pace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prox.http.body import RequestBody
from prox.http.codec.errors import BadMessageError
from prox.http.tunnel import TUNNEL
from prox.http.upload import body_due

if TYPE_CHECKING:
    from prox.http.exchange import Exchange
    from prox.http.limits import Limits

    from .connection import Http2Connection


class Inflow:
    """One body; the source that its readers pause (see streams.Source).

    Attributes:
        body: the same, for whoever wants it.
        over: it has ended or broken off.
        open: the client has not ended it.
        paused_at: since when the window is kept shut, None while it is not.
    """

    __slots__ = (
        "_connection",
        "_paused_for",
        "_stream",
        "_unwanted",
        "_withheld",
        "body",
        "open",
        "over",
        "paused_at",
    )

    def __init__(self, connection: Http2Connection, stream: int, length: int) -> None:
        self._connection = connection
        self._stream = stream
        self._withheld = 0
        self._paused_for = 0.0
        self._unwanted = False
        self.paused_at: float | None = None
        self.over = False
        self.open = True
        self.body = RequestBody(self, length)

    def receive(self, data: bytes, flow: int, most: int, *, end: bool) -> None:
        """Take what a DATA frame brought.

        Args:
            data: its bytes.
            flow: what it took of the windows.
            most: bytes that the body may have, 0 for any number.
            end: it was the last.

        Raises:
            BadMessageError: the body is too large.
        """
        body = self.body
        most = body.most or most
        if most and body.length != TUNNEL and body.received + len(data) > most:
            raise BadMessageError("request body too large", 413, "body_size")
        if end:
            self.finish(data, b"")
            self._give_back(flow)
            return
        if data and not self._unwanted:
            body.feed(data)
        if self.paused_at is None:
            self._give_back(flow)
        else:
            self._withheld += flow

    def finish(self, data: bytes, trailers: bytes) -> None:
        """The body has ended with these bytes and trailer lines."""
        self.resume()
        self.over = True
        self.open = False
        if self._unwanted:
            self.body.ended = True
        else:
            self.body.finish(data, trailers)

    def break_off(self, error: Exception) -> None:
        """The body will not come to its end."""
        if not self.over:
            self.over = True
            self.body.break_off(error)

    def pause(self) -> None:
        """Open the window no further for now."""
        if self.paused_at is None and not self.over:
            self.paused_at = self._connection.loop.time()

    def resume(self) -> None:
        """Open it again."""
        if self.paused_at is not None:
            self._paused_for += self._connection.loop.time() - self.paused_at
            self.paused_at = None
            withheld, self._withheld = self._withheld, 0
            if withheld:
                self._give_back(withheld)

    def stop(self) -> None:
        """Nobody wants the rest: it is thrown away until the answer has ended, which tells the client to stop."""
        self._unwanted = True
        self.resume()

    def due(self, exchange: Exchange, limits: Limits) -> float:
        """When it is too slow, see `body_due`."""
        received = self.body.received + self._connection.session.begun(self._stream)
        return body_due(exchange, limits, received, self._paused_for, paused=self.paused_at is not None)

    def _give_back(self, flow: int) -> None:
        connection = self._connection
        connection.session.consumed(self._stream, flow)
        connection.touch()
