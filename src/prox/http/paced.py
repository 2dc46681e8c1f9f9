"""A limit of bandwidth on the way of bytes: a sink before the sink, made only where a limit holds.

It passes as much of what it is given as its gate lets pass and keeps the rest, which is what one read brought: its source
is paused meanwhile. It has no timer of its own; the gate wakes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from prox.flow import Completion
from prox.limits import Gate, Pacer

from .body import RequestBody
from .codec.fields import Headers
from .codec.response import ResponseHead
from .exchange import Answer
from .streams import NOWHERE, Sink, Source

_ENOUGH: Final = 4096
"""Bytes that are kept before the source is paused: one that brings little at a time must get its share, too."""


class Paced:
    """Sink and source between a source and a sink.

    Args:
        sink: takes the bytes at the rate of the limits.
        pacers: the limits; see Gate.
        impatient: what was kept is dropped when the source breaks off, and the sink told at once. Else it goes first.

    Attributes:
        sink: the same; may be set until the first byte.
        over: everything has passed, or nobody wants the rest.
    """

    __slots__ = (
        "_blocked",
        "_closed",
        "_ended",
        "_error",
        "_gate",
        "_held",
        "_impatient",
        "_offset",
        "_passing",
        "_pausing",
        "_size",
        "_source",
        "_trailers",
        "over",
        "sink",
    )

    def __init__(self, sink: Sink, pacers: Sequence[Pacer], *, impatient: bool = False) -> None:
        self.sink = sink
        self._gate = Gate(pacers, self._go)
        self._impatient = impatient
        self._source: Source | None = None
        self._held: deque[bytes] = deque()
        self._offset = 0  # of what has passed in the first piece
        self._size = 0
        self._blocked = False
        self._pausing = False
        self._passing = False
        self._ended = False
        self._closed = False
        self._trailers = b""
        self._error: Exception | None = None
        self.over = Completion()

    @property
    def held(self) -> int:
        """Bytes that are kept."""
        return self._size

    @property
    def busy(self) -> bool:
        """Whether something waits to be passed on, were it only the end."""
        return not self._closed and (self._size > 0 or self._ended)

    def read_from(self, source: Source | None) -> None:
        """Say what the bytes come from: it is paused while there are too many."""
        self._source = source
        self._pausing = False
        self._steer()

    def close(self) -> None:
        """It is over, whatever is kept: nothing passes any more. Again does nothing."""
        if self._closed:
            return
        self._closed = True
        self._gate.close()
        self._held.clear()
        self._size = 0
        self._source = None
        self.sink = NOWHERE
        self.over.set()

    # The sink's side: this is its source.

    def pause(self) -> None:
        """See Source."""
        self._blocked = True
        self._steer()

    def resume(self) -> None:
        """See Source."""
        self._blocked = False
        if self._size or self._ended:
            self._go()
        else:
            self._steer()

    def stop(self) -> None:
        """See Source."""
        source = self._source
        self.close()
        if source is not None:
            source.stop()

    # The source's side: this is its sink.

    def write(self, data: bytes) -> None:
        """See Sink."""
        if self._closed:
            return
        if not self._size and not self._blocked and not self._passing:
            size = self._gate.take(len(data))
            if size == len(data):
                self.sink.write(data)
                return
            if size:
                self._hold(data, size)
                self._passing = True
                self.sink.write(data[:size])
                self._passing = False
                self._go()
            else:
                self._hold(data, 0)
        else:
            self._hold(data, 0)
        self._steer()

    def end(self, data: bytes = b"") -> None:
        """See Sink."""
        self.end_with_trailers(data, b"")

    def end_with_trailers(self, data: bytes, trailers: bytes) -> None:
        """See Sink."""
        if self._closed:
            return
        self._source = None  # it serves others from now on
        self._ended = True
        self._trailers = trailers
        if data:
            self._hold(data, 0)
        self._go()

    def fail(self, error: Exception) -> None:
        """See Sink."""
        if self._closed:
            return
        self._source = None
        self._ended = True
        self._error = error
        if self._impatient:
            self._held.clear()
            self._size = 0
            self._finish(b"")
        else:
            self._go()

    # What is kept.

    def _hold(self, data: bytes, offset: int) -> None:
        if not self._held:
            self._offset = offset
        self._held.append(data)
        self._size += len(data) - offset

    def _go(self) -> None:
        """Pass on what may pass."""
        if self._passing or self._closed:
            return
        self._passing = True
        while self._size and not self._blocked:
            size = self._gate.take(self._size)
            if not size:
                break
            data = self._next(size)
            if not self._size and self._ended and self._error is None:
                self._finish(data)
            else:
                self.sink.write(data)
        self._passing = False
        if not self._size and self._ended and not self._closed:
            self._finish(b"")
        self._steer()

    def _next(self, size: int) -> bytes:
        """Take so many bytes off what is kept."""
        self._size -= size
        pieces = []
        while size:
            data = self._held[0]
            begin = self._offset
            end = min(begin + size, len(data))
            size -= end - begin
            if end == len(data):
                self._held.popleft()
                self._offset = 0
            else:
                self._offset = end
            pieces.append(data[begin:end] if end - begin < len(data) else data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _finish(self, data: bytes) -> None:
        """Pass on the last bytes and the end."""
        sink, error = self.sink, self._error
        self._closed = True
        self._gate.close()
        self._source = None
        self.sink = NOWHERE
        if error is not None:
            sink.fail(error)
        elif self._trailers:
            sink.end_with_trailers(data, self._trailers)
        else:
            sink.end(data)
        self.over.set()

    def _steer(self) -> None:
        """Pause the source while the sink is full or enough is kept."""
        source = self._source
        if source is None:
            return
        pausing = self._blocked or self._size >= _ENOUGH
        if pausing != self._pausing:
            self._pausing = pausing
            if pausing:
                source.pause()
            else:
                source.resume()


class PacedAnswer(Answer):
    """An answer whose body passes under limits; heads and 1xx go straight on.

    Attributes:
        body: the way of its body.
    """

    def __init__(self, answer: Answer, pacers: Sequence[Pacer]) -> None:
        self._answer = answer
        self.body = Paced(answer, pacers)

    @property
    def began(self) -> bool:
        """See Answer."""
        return self._answer.began

    def read_from(self, source: Source | None) -> None:
        """See Answer."""
        self.body.read_from(source)
        self._answer.read_from(None if source is None else self.body)

    def begin(
        self,
        status: int,
        headers: Headers,
        length: int | None,
        *,
        dropped: frozenset[bytes] = frozenset(),
        reason_phrase: bytes | None = None,
    ) -> None:
        """See Answer."""
        self._answer.begin(status, headers, length, dropped=dropped, reason_phrase=reason_phrase)

    def take(self, head: ResponseHead) -> Sink:
        """See Answer."""
        self.body.sink = self._answer.take(head)
        return self.body

    def write(self, data: bytes) -> None:
        """See Answer."""
        self.body.write(data)

    def end(self, data: bytes = b"") -> None:
        """See Answer."""
        self.body.end(data)

    def end_with_trailers(self, data: bytes, trailers: bytes) -> None:
        """See Answer."""
        self.body.end_with_trailers(data, trailers)

    def fail(self, error: Exception) -> None:
        """See Answer."""
        self.body.fail(error)

    def interim(self, status: int, headers: Headers, reason_phrase: bytes | None = None) -> None:
        """See Answer."""
        self._answer.interim(status, headers, reason_phrase)

    def take_interim(self, head: ResponseHead) -> None:
        """See Answer."""
        self._answer.take_interim(head)

    async def tunnel(self, head: ResponseHead) -> RequestBody | None:
        """See Answer."""
        return await self._answer.tunnel(head)

    def flush(self) -> None:
        """See Answer."""
        self._answer.flush()
