"""The HTTP/2 side of an exchange: one stream, whose answer goes out as far as windows and socket allow.

What does not go out waits in a backlog and pauses the answer's source, so that a client that does not read one stream holds
back that stream alone. The connection takes from backlogs in turn.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING, Final

from prox.flow import Flow
from prox.http.body import RequestBody
from prox.http.codec import fields
from prox.http.codec.errors import BadMessageError
from prox.http.codec.fields import Headers
from prox.http.codec.h2.errors import CANCEL, CONNECT_ERROR, INTERNAL_ERROR, NO_ERROR
from prox.http.codec.response import ResponseHead
from prox.http.codec.trailers import announced
from prox.http.exchange import Exchange
from prox.http.watch import NEVER

from .backlog import Backlog
from .heads import Asked, answer_fields, line_fields, made_fields

if TYPE_CHECKING:
    from prox.http.limits import Limits
    from prox.http.streams import Sink, Source

    from .connection import Http2Connection
    from .inflow import Inflow

_log: Final = logging.getLogger("prox.http")

STREAM_BUFFER: Final = 64 * 1024
"""Bytes that may wait for a client's window before the source is paused; one read more may come."""

_BODILESS: Final = frozenset({204, 304})

_STRIPPED: Final = frozenset(
    {
        fields.CONNECTION,
        fields.CONTENT_LENGTH,
        fields.HOP_BY_HOP,
        fields.TE,
        fields.TRAILER,
        fields.TRANSFER_ENCODING,
        fields.UNDERSCORED_FRAMING,
        fields.UPGRADE,
    }
)


def _nothing(error: BaseException | None) -> None:
    """Nothing ends here."""


_OVER: Final = Flow(_nothing)


class Http2Exchange(Exchange):
    """One stream's request, and its answer.

    Attributes:
        stream: its id.
        flow: runs who answers.
        upload: the request's body on its way in, None where there is none.
        closed: the stream has ended on our side, or is gone.
        tunneled: it has become a tunnel.
    """

    def __init__(self, connection: Http2Connection, stream: int, asked: Asked, started: float) -> None:
        super().__init__(asked.head, asked.target, asked.host, asked.authority, connection.client, started)
        self.connection = connection
        self.stream = stream
        self.flow = Flow(self._flow_ended)
        self.upload: Inflow | None = None
        self.closed = False
        self.tunneled = False
        self._fields: Headers | None = None
        self._trailers: Headers | None = None
        self._backlog: Backlog | None = None
        self._holds_source = False

    @property
    def protocol(self) -> str:
        """See Exchange."""
        return "HTTP/2.0"

    def age(self) -> float:
        """See Exchange."""
        return monotonic() - self.started

    # The answer.

    def read_from(self, source: Source | None) -> None:
        """See Exchange."""
        self.source = source
        self._holds_source = False
        if source is not None and self.connection.write_paused:
            self._hold_source()

    def begin(
        self,
        status: int,
        headers: Headers,
        length: int | None,
        *,
        dropped: frozenset[bytes] = frozenset(),
        reason_phrase: bytes | None = None,  # noqa: ARG002 - HTTP/2 has none
    ) -> None:
        """See Exchange. The head waits for the first bytes of the body."""
        self.status = status
        kept = [
            pair
            for pair in headers
            if fields.kind(pair[0]) not in _STRIPPED
            and not (dropped and fields.folded_name(pair[0]) in dropped)
        ]
        said = made_fields(status, kept)
        if length is None and self._takes_trailers():
            for name, value in headers:
                if fields.kind(name) == fields.TRAILER and (names := announced(value, dropped)):
                    said.append((b"trailer", names))
        self._frame(said, length)

    def take(self, head: ResponseHead) -> Sink:
        """See Answer; in one step, since nearly all answers come this way."""
        if head.filtered:
            return super().take(head)
        self.status = head.status
        length = head.length
        self._frame(
            answer_fields(head.status, head.plain),
            length if length > 0 else head.content_length if length == 0 else None,
        )
        return self

    def _frame(self, said: Headers, length: int | None) -> None:
        if length is not None and self.status != 204:
            said.append((b"content-length", b"%d" % length))
        self._fields = said

    def write(self, data: bytes) -> None:
        """See Exchange."""
        if not self.broken:
            self.bytes_out += len(data)
            self._pass(data, last=False)

    def end(self, data: bytes = b"") -> None:
        """See Exchange."""
        if self.broken or self.ended:
            return
        self.bytes_out += len(data)
        self.ended = True
        self.source = None
        self._pass(data, last=True)
        if self.closed:
            self.connection.advance(self)

    def end_with_trailers(self, data: bytes, trailers: bytes) -> None:
        """See Answer."""
        if trailers and self._takes_trailers() and self.method != "HEAD" and self.status not in _BODILESS:
            self._trailers = line_fields(trailers)
        self.end(data)

    def _takes_trailers(self) -> bool:
        rare = self.head.rare
        return rare is not None and rare.trailers

    def flush(self) -> None:
        """Send the head although no byte of the body has come: the upstream may let the client wait for it."""
        if self._fields is not None and not self.broken:
            self._pass(b"", last=False)

    def fail(self, error: Exception) -> None:
        """See Exchange: the stream is reset, which no client takes for an end."""
        if self.broken or self.ended:
            return
        self.reason = self.reason or getattr(error, "kind", "internal_error")
        self.flush()
        # RFC 9113 section 8.5: what ended was the connection at the other end.
        self.reset(CONNECT_ERROR if self.tunneled and self.method == "CONNECT" else INTERNAL_ERROR)

    def unsent(self) -> int:
        """See Exchange."""
        backlog = self._backlog
        return self.connection.transport.get_write_buffer_size() + (0 if backlog is None else backlog.size)

    def drop(self) -> None:
        """See Exchange: the stream alone, since others may run beside it."""
        self.reset(CANCEL)

    def interim(self, status: int, headers: Headers, reason_phrase: bytes | None = None) -> None:  # noqa: ARG002 - HTTP/2 has none
        """See Exchange."""
        if self.status or self.broken:
            return
        kept = [pair for pair in headers if fields.kind(pair[0]) not in _STRIPPED]
        self.connection.session.send_headers(self.stream, made_fields(status, kept), False)
        self.connection.touch()
        if status == 100:
            self.expects_continue = False

    def send_continue(self) -> None:
        """See Exchange."""
        if self.expects_continue:
            self.interim(100, [])

    async def tunnel(self, head: ResponseHead) -> RequestBody | None:
        """See Answer: 200 on the stream, whatever status an upgrade has in HTTP/1.1 (RFC 8441 section 5)."""
        assert self.upload is not None
        self.status = 200 if head.status == 101 else head.status
        plain = head.plain_without(head.dropped) if head.dropped else head.plain
        self._fields = answer_fields(self.status, plain)
        self.tunneled = True
        self.body = self.upload.body
        self.flush()
        return self.body

    # The way out.

    def _pass(self, data: bytes, *, last: bool) -> None:
        """Send what can be sent, let the rest wait."""
        connection = self.connection
        backlog = self._backlog
        if backlog is None:
            if not connection.write_paused:
                size = len(data)
                room = connection.session.sendable(self.stream) if size else 0
                if size <= room:
                    self._emit(data, last=last)
                    connection.wrote(size)
                    return
                if room or self._fields is not None:
                    self._emit(data[:room], last=False)
                    connection.wrote(room)
                    data = data[room:]
            backlog = self._backlog = Backlog(connection.loop.time())
            connection.queue(self)
        backlog.add(data)
        backlog.last = last
        if backlog.size > STREAM_BUFFER:
            self._hold_source()

    def _emit(self, data: bytes, *, last: bool) -> None:
        """Give the session what the windows allow."""
        session = self.connection.session
        head, self._fields = self._fields, None
        end = last and self._trailers is None
        if head is not None:
            session.send_headers(self.stream, head, end and not data)
        if data or (end and head is None):
            session.send_data(self.stream, data, end)
        if last:
            self.closed = True
            if self._trailers is not None:
                session.send_headers(self.stream, self._trailers, True)

    def send_waiting(self, most: int) -> int:
        """Send up to so many bytes of what waits; returns how many, -1 where the windows allow none.

        Nothing waits any more where `waits` is False then.
        """
        backlog = self._backlog
        assert backlog is not None
        connection = self.connection
        room = min(connection.session.sendable(self.stream), most) if backlog.size else 0
        if backlog.size and not room and self._fields is None:
            return -1
        data = backlog.take(room)
        left = backlog.size
        self._emit(data, last=backlog.last and not left)
        if left:
            if not data:
                return -1
            backlog.since = connection.loop.time()
        else:
            self._backlog = None
            self.release_source()
            if self.closed:
                connection.advance(self)
        return len(data)

    @property
    def waits(self) -> bool:
        """Whether some of the answer waits."""
        return self._backlog is not None

    def _hold_source(self) -> None:
        source = self.source
        if source is not None and not self._holds_source:
            self._holds_source = True
            source.pause()

    def release_source(self) -> None:
        """The client has caught up."""
        if self._holds_source:
            self._holds_source = False
            if self.source is not None:
                self.source.resume()

    # The end.

    def reset(self, code: int) -> None:
        """Break the stream off; who answers hears of it when the present call is over."""
        if not self.closed:
            self.connection.session.reset(self.stream, code)
            self.connection.touch()
        self._abandon()
        self.connection.loop.call_soon(self._leave)

    def gone(self, reason: str) -> None:
        """The stream is no more: cancel what was asked for on it."""
        if not self.ended:
            self.reason = self.reason or reason
        self._abandon()
        self._leave()

    def break_request(self, error: BadMessageError) -> None:
        """The request turned out too large or too slow while it was served."""
        if not self.ended:
            self.reason = error.reason
            if self.status == 0:
                self.refuse(error.status, str(error))
            else:
                self.connection.session.reset(self.stream, CANCEL)
                self.connection.touch()
                self._abandon()
        self._leave(error)

    def _abandon(self) -> None:
        """Nothing more is sent on the stream."""
        self.closed = True
        if not self.ended:
            self.broken = True
        self.source = None
        self._backlog = None
        self._fields = None

    def _leave(self, error: Exception | None = None) -> None:
        upload = self.upload
        if upload is not None:
            upload.break_off(error or ConnectionResetError("the client went away"))
        self.flow.cancel()
        self.connection.advance(self)

    def _flow_ended(self, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, asyncio.CancelledError):
            _log.error("an exchange failed inside prox", exc_info=error)
            self.reason = self.reason or "internal_error"
        if not self.ended and not self.broken:
            if self.status == 0:
                self.refuse(500)
            else:
                self.fail(RuntimeError("the answer was left unfinished"))
        self.connection.advance(self)

    def finish(self) -> None:
        """All is over: who still sends is told that nobody wants it (RFC 9113 section 8.1)."""
        self.flow = _OVER  # its own holds on to this exchange: the two would wait for the garbage collector
        upload = self.upload
        if upload is not None and upload.open:
            upload.over = True
            self.connection.session.reset(self.stream, NO_ERROR)
            self.connection.touch()

    # Deadlines.

    def check(self, now: float, limits: Limits) -> float:
        """Act on what is due; when to look again."""
        due = NEVER
        upload = self.upload
        if upload is not None and not upload.over and not self.status and not self.asks_for_tunnel:
            due = upload.due(self, limits)
            if now >= due:
                self.break_request(BadMessageError("the body came too slowly", 408, "deadline_body"))
                return NEVER
        limit = limits.write_timeout
        if limit is not None and not self.tunneled and not self.closed:
            if now >= self.started + limit:  # the whole answer, counted from the request's head
                self._miss("deadline_answer")
                return NEVER
            due = min(due, self.started + limit)
        backlog = self._backlog
        if backlog is not None and self.ended and limits.idle_timeout is not None:
            if now >= backlog.since + limits.idle_timeout:  # what it does not read by now it never will
                self._miss("idle_timeout")
                return NEVER
            due = min(due, backlog.since + limits.idle_timeout)
        return due

    def _miss(self, reason: str) -> None:
        self.connection.session.reset(self.stream, CANCEL)
        self.connection.touch()
        if self.ended:  # and logged already
            self.connection.count(reason)
        self.gone(reason)
