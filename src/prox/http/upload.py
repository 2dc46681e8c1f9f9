"""A request's body as the client's connection reads it: where it ends, when it pauses, how slow it may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .body import RequestBody
from .codec.body import ChunkedDecoder, Decoder, LengthDecoder
from .codec.errors import BadMessageError
from .watch import NEVER

if TYPE_CHECKING:
    from .exchange import Exchange
    from .limits import Limits
    from .server import ServerConnection

BODY_GRACE = 20.0
"""Seconds before `min_body_rate` is asked for."""

DRAIN_BYTES: Final = 64 * 1024
"""How much of a body that nobody wants is read away so that the connection can be used again."""


class Upload:
    """One body on its way in; the source that its readers pause (see streams.Source).

    Attributes:
        body: the same, for whoever wants it.
        over: it has ended, or the rest is of no interest any more: pausing has no effect.
        paused_at: since when prox does not read, None while it does.
    """

    __slots__ = ("_connection", "_decoder", "_paused_for", "body", "over", "paused_at")

    def __init__(self, connection: ServerConnection, length: int) -> None:
        self._connection = connection
        self._decoder: Decoder = LengthDecoder(length) if length > 0 else ChunkedDecoder()
        self._paused_for = 0.0
        self.paused_at: float | None = None
        self.over = False
        self.body = RequestBody(self, length)

    @property
    def rest(self) -> bytes:
        """What came behind the body."""
        return self._decoder.rest

    @property
    def trailers(self) -> bytes:
        """The lines of its trailer section, see Decoder."""
        return self._decoder.trailers

    def is_long(self) -> bool:
        """Whether what is still to come is too much to read away, or nobody knows how much it is."""
        decoder = self._decoder
        return not isinstance(decoder, LengthDecoder) or decoder.left > DRAIN_BYTES

    def read(self, data: bytes, most: int) -> bytes:
        """The body's bytes in what was read; sets `over` at its end.

        Args:
            data: what was read.
            most: bytes that the body may have, 0 for any number.

        Raises:
            BadMessageError: the framing is broken, or the body too large.
        """
        most = self.body.most or most
        piece = self._decoder.feed(data)
        if most and self.body.received + len(piece) > most:
            raise BadMessageError("request body too large", 413, "body_size")
        if self._decoder.done:
            self.end()
        return piece

    def end(self) -> None:
        """It is over: the connection reads on, whatever the body's readers said."""
        self.resume()
        self.over = True

    def pause(self) -> None:
        """Read no more of the body for now."""
        if self.paused_at is None and not self.over:
            connection = self._connection
            self.paused_at = connection.loop.time()
            connection.stop_reading()

    def resume(self) -> None:
        """Read on."""
        if self.paused_at is not None:
            connection = self._connection
            self._paused_for += connection.loop.time() - self.paused_at
            self.paused_at = None
            connection.transport.resume_reading()

    def stop(self) -> None:
        """Nobody wants the rest of the body: it is read away, or the connection ends after the answer."""
        self.resume()

    def due(self, exchange: Exchange, limits: Limits) -> float:
        """When it is too slow, see `body_due`."""
        return body_due(
            exchange, limits, self.body.received, self._paused_for, paused=self.paused_at is not None
        )


def body_due(exchange: Exchange, limits: Limits, received: int, paused_for: float, *, paused: bool) -> float:
    """When a body is too slow: `read_timeout` for the whole request, `min_body_rate` while prox itself reads.

    Args:
        exchange: its request.
        limits: of the service.
        received: bytes that have come of it.
        paused_for: seconds in which prox did not read.
        paused: it does not now.
    """
    due = NEVER
    if limits.read_timeout is not None:
        due = exchange.started + limits.read_timeout
    if limits.min_body_rate and not paused and not exchange.streams:
        allowed = max(BODY_GRACE, received / limits.min_body_rate)
        due = min(due, exchange.started + paused_for + allowed)
    return due
