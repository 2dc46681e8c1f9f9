"""The body of a request on its way from the client's connection to whoever wants it."""

from __future__ import annotations

from prox.flow import Completion

from .codec.request import CHUNKED
from .codec.trailers import passed_on
from .streams import NOWHERE, Sink, Source


class RequestBody:
    """A request's body, read as fast as its sink takes it and not at all while there is none.

    Until `join`, what came with the head is kept and the connection does not read on, unless `peek` asks.

    Attributes:
        length: bytes in all, or CHUNKED where the client did not say.
        received: bytes of the body that have come so far.
        ended: the whole body has come.
        error: why it broke off, None while it did not.
        most: bytes that it may have, in place of what holds for the connection; see `limit`.
    """

    __slots__ = (
        "_connection",
        "_held",
        "_held_size",
        "_sink",
        "_trailers",
        "_unwanted",
        "_waiter",
        "_wanted",
        "ended",
        "error",
        "length",
        "most",
        "received",
    )

    def __init__(self, connection: Source, length: int) -> None:
        self._connection = connection
        self._held: list[bytes] = []
        self._held_size = 0
        self._sink: Sink | None = None
        self._trailers = b""
        self._unwanted: frozenset[bytes] | None = None
        self._wanted = 0
        self._waiter: Completion | None = None
        self.length = length
        self.received = 0
        self.most = 0
        self.ended = False
        self.error: Exception | None = None

    # The connection's side.

    def feed(self, data: bytes) -> None:
        """The connection read some of the body."""
        self.received += len(data)
        if self._sink is not None:
            self._sink.write(data)
        else:
            self._hold(data)

    def finish(self, data: bytes, trailers: bytes = b"") -> None:
        """The connection read the end of the body, `data` being its last bytes or empty, and what stands behind it."""
        self.received += len(data)
        self.ended = True
        self._trailers = trailers
        if self._sink is not None:
            self._end(self._sink, data)
            return
        if data:
            self._hold(data)
        self._notify()

    def break_off(self, error: Exception) -> None:
        """The body will not come to its end."""
        if self.ended or self.error is not None:
            return
        self.error = error
        if self._sink is not None:
            self._sink.fail(error)
        self._notify()

    # The exchange's side.

    def limit(self, most: int) -> bool:
        """Let it have so many bytes, and break it off with 413 where more come; False where they are too many already."""
        fits = self.length <= most and self.received <= most
        if fits:
            self.most = most
        return fits

    async def peek(self, limit: int) -> bytes:
        """The body's first bytes: `limit` of them, or all where there are fewer; nothing is taken away.

        Returns what there is when the client broke off; `error` is set then.
        """
        while self._held_size < limit and not self.ended and self.error is None:
            self._wanted = limit
            self._waiter = Completion()
            self._connection.resume()
            await self._waiter
        self._wanted = 0
        return b"".join(self._held)[:limit]

    def join(self, sink: Sink, unwanted: frozenset[bytes] | None = None) -> None:
        """Pass all bytes to `sink`, those kept so far first. Once only.

        Args:
            sink: takes them.
            unwanted: folded names of trailer fields that do not go on; None where none does.
        """
        self._sink = sink
        self._unwanted = unwanted
        held = self._held
        self._held = []
        self._held_size = 0
        if self.error is not None:
            sink.fail(self.error)
            return
        if self.ended:
            self._end(sink, b"".join(held) if len(held) != 1 else held[0])
            return
        self._connection.resume()  # first: a sink that is full now pauses again
        for data in held:
            sink.write(data)

    def _end(self, sink: Sink, data: bytes) -> None:
        if self._trailers and self._unwanted is not None:
            sink.end_with_trailers(data, passed_on(self._trailers, self._unwanted))
        else:
            sink.end(data)

    def pause(self) -> None:
        """The sink is full."""
        self._connection.pause()

    def resume(self) -> None:
        """The sink takes bytes again."""
        self._connection.resume()

    def stop(self) -> None:
        """Nobody wants the rest: what comes is dropped."""
        self._sink = NOWHERE
        self._held = []
        self._held_size = 0
        self._connection.stop()

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._held_size += len(data)
        if self._held_size >= self._wanted:
            self._connection.pause()
            self._notify()

    def _notify(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            waiter.set()

    def is_unknown(self) -> bool:
        """Whether the client did not say how long the body is."""
        return self.length == CHUNKED
