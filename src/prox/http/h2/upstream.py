"""One request on a shared HTTP/2 connection to an upstream.

The request's body waits here where a window or the socket is full, and its client is paused meanwhile. The answer's window
opens again as the client takes bytes: one slow client costs a window of memory and no other stream its pace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prox.http.call import Receiver, UpstreamCall
from prox.http.codec.fields import Headers
from prox.http.codec.h2.errors import (
    CANCEL,
    HTTP_1_1_REQUIRED,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    StreamError,
    code_name,
)
from prox.http.codec.h2.fields import UNKNOWN
from prox.http.codec.trailers import passed_on
from prox.http.dates import dated
from prox.http.errors import UpstreamError
from prox.http.watch import NEVER

from .backlog import Backlog
from .upstream_heads import read_answer, request_pairs, trailer_lines, trailer_pairs

if TYPE_CHECKING:
    from prox.http.streams import Sink, Source

    from .shared import SharedConnection

MAX_BACKLOG: Final = 64 * 1024
"""Bytes of a request's body that wait for a window before its client is paused."""

_SLICE: Final = 16 * 1024
_MAX_INTERIM: Final = 32
_BODILESS: Final = frozenset({204, 304})
_NOTHING: Final[frozenset[bytes]] = frozenset()


class UpstreamStream(UpstreamCall):
    """One stream, opened when its head is sent.

    Attributes:
        stream: its id, 0 before.
        deadline: when the upstream is too late, in the loop's time.
    """

    __slots__ = (
        "_backlog",
        "_began",
        "_bodiless",
        "_body",
        "_body_paused",
        "_connection",
        "_interims",
        "_method",
        "_patient",
        "_paused",
        "_pending",
        "_receiver",
        "_request_ended",
        "_sink",
        "_trailers",
        "_withheld",
        "deadline",
        "stream",
    )

    def __init__(self, connection: SharedConnection) -> None:
        super().__init__()
        self._connection = connection
        self._receiver: Receiver | None = None
        self._sink: Sink | None = None
        self._body: Source | None = None
        self._pending = b""
        self._backlog: Backlog | None = None
        self._trailers: Headers = []
        self._method = ""
        self._request_ended = False
        self._body_paused = False
        self._patient = False
        self._paused = False
        self._began = False
        self._bodiless = False
        self._withheld = 0
        self._interims = 0
        self.stream = 0
        self.deadline = NEVER
        self.used = connection.served

    # The request.

    def send(self, head: bytes, method: str, receiver: Receiver) -> None:
        """See UpstreamCall."""
        self._method = method
        self._receiver = receiver
        self._request_ended = True
        self._open(head, end=True)
        self._await_head()

    def upload(
        self,
        head: bytes,
        method: str,
        receiver: Receiver,
        body: Source,
        *,
        chunked: bool,  # noqa: ARG002 - HTTP/2 frames by itself
        patient: bool = False,
    ) -> None:
        """See UpstreamCall."""
        self._method = method
        self._receiver = receiver
        self._body = body
        self._patient = patient
        self._pending = head

    def flush(self) -> None:
        """See UpstreamCall."""
        if self._pending:
            head, self._pending = self._pending, b""
            self._open(head, end=False)

    def write(self, data: bytes) -> None:
        """See UpstreamCall."""
        if self._body is not None:
            self.flush()
            self._put(data, last=False)

    def end(self, data: bytes = b"") -> None:
        """See UpstreamCall."""
        if self._body is None:
            return
        if self._pending and not data and not self._trailers:
            head, self._pending = self._pending, b""
            self._body = None
            self._request_ended = True
            self._open(head, end=True)
        else:
            self.flush()
            self._put(data, last=True)
            self._body = None
        if self._request_ended:
            self._await_head()

    def end_with_trailers(self, data: bytes, trailers: bytes) -> None:
        """See UpstreamCall."""
        if self._body is not None:
            self._trailers = trailer_pairs(trailers)
            self.end(data)

    def fail(self, error: Exception) -> None:
        """See UpstreamCall."""
        self._over(UpstreamError("client_aborted", str(error)), CANCEL)

    def _open(self, head: bytes, *, end: bool) -> None:
        connection = self._connection
        self.stream = connection.open(self)
        if not self.stream:
            self._over(
                UpstreamError("upstream_closed", "the connection takes no more streams", unprocessed=True)
            )
            return
        connection.session.send_headers(self.stream, request_pairs(head, connection.scheme), end)
        connection.touch()

    def _await_head(self) -> None:
        if not self._began and self._receiver is not None:
            self.deadline = self._connection.deadline_of_head()

    def _put(self, data: bytes, *, last: bool) -> None:
        """Send what windows and socket take; the rest waits."""
        if self._receiver is None:
            return
        connection = self._connection
        backlog = self._backlog
        if backlog is None:
            session = connection.session
            size = len(data)
            if not connection.write_paused and size <= (session.sendable(self.stream) if size else 0):
                self._emit(data, last=last)
                connection.wrote(size)
                return
            backlog = self._backlog = Backlog(connection.loop.time())
        backlog.add(data)
        backlog.last = last
        connection.queue(self)
        while self.send_waiting():
            pass
        backlog = self._backlog
        if backlog is not None and backlog.size > MAX_BACKLOG and not last:
            self._pause_body()
            if not self._patient and not self._began:
                backlog.since = connection.loop.time()
                self.deadline = connection.deadline_of_head()

    def _emit(self, data: bytes, *, last: bool) -> None:
        session = self._connection.session
        trailers = self._trailers if last else None
        if data or not trailers:
            session.send_data(self.stream, data, last and not trailers)
        if trailers:
            session.send_headers(self.stream, trailers, True)
        if last:
            self._request_ended = True

    def send_waiting(self) -> bool:
        """Send one slice of what waits; whether more could be sent."""
        backlog = self._backlog
        connection = self._connection
        if backlog is None or self._receiver is None or connection.write_paused:
            return False
        if backlog.size:
            data = backlog.take(min(_SLICE, connection.session.sendable(self.stream)))
            if not data:
                return False
            last = backlog.last and not backlog.size
            self._emit(data, last=last)
            connection.wrote(len(data))
            if self._body_paused and not self._patient and not self._began:
                self.deadline = connection.deadline_of_head()  # it takes some
        else:
            last = backlog.last
            if last:
                self._emit(b"", last=True)
                connection.wrote(0)
        if backlog.size:
            return True
        self._backlog = None
        if last:
            self._await_head()
        else:
            self._resume_body()
        return False

    def _pause_body(self) -> None:
        if self._body is not None and not self._body_paused:
            self._body_paused = True
            self._body.pause()

    def _resume_body(self) -> None:
        if self._body_paused:
            self._body_paused = False
            self.deadline = NEVER
            if self._body is not None:
                self._body.resume()

    # The answer.

    def pause(self) -> None:
        """See Source: the window opens no further."""
        self._paused = True

    def resume(self) -> None:
        """See Source."""
        self._paused = False
        withheld, self._withheld = self._withheld, 0
        if withheld:
            self._connection.session.consumed(self.stream, withheld)
            self._connection.touch()

    def stop(self) -> None:
        """See UpstreamCall."""
        self._over(UpstreamError("stopped", "the answer was no longer wanted"), CANCEL)

    # What the connection says.

    def headers(self, pairs: Headers, *, end: bool) -> None:
        """A head has come."""
        receiver = self._receiver
        if receiver is None:
            return
        try:
            head, length = read_answer(pairs, self._method, end=end)
        except StreamError as error:
            self._over(UpstreamError("malformed", str(error)), error.code, provoked=True)
            return
        if head.status < 200:
            self._interims += 1
            if self._interims > _MAX_INTERIM:
                self._over(
                    UpstreamError("malformed", "too many interim answers"), PROTOCOL_ERROR, provoked=True
                )
                return
            receiver.take_interim(head)
            return
        connection = self._connection
        if length != UNKNOWN and not connection.session.expect_length(self.stream, length):
            self._over(
                UpstreamError("malformed", "a body is announced and none follows"),
                PROTOCOL_ERROR,
                provoked=True,
            )
            return
        self._began = True
        self._bodiless = self._method == "HEAD" or head.status in _BODILESS
        self.deadline = NEVER
        head.plain = dated(head.plain)
        self._sink = sink = receiver.take(head)
        if self._receiver is not receiver:  # whoever takes it did not want it
            return
        if end:
            self._done()
            sink.end()
            self.finished.set()
        else:
            receiver.flush()

    def data(self, data: bytes, flow: int, *, end: bool) -> None:
        """Some of the body has come."""
        connection = self._connection
        sink = self._sink
        if sink is None:
            connection.session.consumed(self.stream, flow)
            return
        if data and self._bodiless:  # HTTP/1.1 would take it for the next answer
            text = "an answer that has no body by its status or method has one"
            self._over(UpstreamError("malformed", text), PROTOCOL_ERROR, provoked=True)
            return
        if end:
            connection.session.consumed(self.stream, flow + self._withheld)
            self._done()
            sink.end(data)
            self.finished.set()
            return
        if self._paused:
            self._withheld += flow
        else:
            connection.session.consumed(self.stream, flow)
        if data:
            sink.write(data)

    def trailers(self, pairs: Headers) -> None:
        """The answer has ended with trailers."""
        sink = self._sink
        if sink is None:
            return
        try:
            lines = trailer_lines(pairs)
        except StreamError as error:
            self._over(UpstreamError("malformed", str(error)), error.code, provoked=True)
            return
        if self._withheld:
            self._connection.session.consumed(self.stream, self._withheld)
        self._done()
        sink.end_with_trailers(b"", passed_on(lines, _NOTHING))
        self.finished.set()

    def too_large(self) -> None:
        """A head, or trailers, above what was announced."""
        text = "the answer's head is larger than max_response_header_bytes"
        self._over(UpstreamError("header_size", text), CANCEL, provoked=True)

    def reset_received(self, code: int) -> None:
        """The upstream has ended the stream."""
        if code == REFUSED_STREAM and not self._began:
            error = UpstreamError("upstream_refused", "the upstream refused the stream", unprocessed=True)
        elif code == HTTP_1_1_REQUIRED:
            error = UpstreamError("upstream_reset", "the upstream wants HTTP/1.1 for this")
        elif code == NO_ERROR and self._began:
            error = UpstreamError("upstream_truncated", "the stream ended before the answer did")
        else:
            error = UpstreamError("upstream_reset", f"the upstream reset the stream: {code_name(code)}")
        self._over(error)

    def broken(self, error: UpstreamError) -> None:
        """The stream has gone, or its connection."""
        self._over(error)

    @property
    def silent(self) -> bool:
        """Whether nothing of an answer has come."""
        return not self._began and not self._interims

    def check(self, now: float) -> float:
        """What is due; when to look again."""
        if now < self.deadline:
            return self.deadline
        self.deadline = NEVER
        what = "no answer" if self._request_ended else "no byte taken"
        self._over(UpstreamError("upstream_timeout", f"{what} within response_header_timeout"), CANCEL)
        return NEVER

    # The end.

    def _done(self) -> None:
        """The answer was whole; the caller ends the sink."""
        self._receiver = None
        self._sink = None
        self._withheld = 0
        body, self._body = self._body, None
        connection = self._connection
        connection.forget(self)
        if not self._request_ended:  # nobody reads the rest of the request: RFC 9113 section 8.1
            self._backlog = None
            connection.session.reset(self.stream, NO_ERROR)
            connection.touch()
        if body is not None:
            body.stop()

    def _over(self, error: UpstreamError, code: int = -1, *, provoked: bool = False) -> None:
        """The exchange has failed; `code`: what the upstream is told, unless it has ended the stream itself."""
        if self._receiver is None:
            if self.error is None and not self.finished.done:  # taken and never sent
                self.error = error
                self._connection.forget(self)
                self.finished.set()
            return
        body, sink = self._body, self._sink
        self._receiver = None
        self._sink = None
        self._body = None
        self._pending = b""
        self._backlog = None
        self._withheld = 0
        self.deadline = NEVER
        self.error = error
        connection = self._connection
        if code >= 0 and self.stream:
            connection.session.reset(self.stream, code, provoked=provoked)
            connection.touch()
        connection.forget(self)
        if body is not None:
            body.stop()
        if sink is not None:
            sink.fail(error)
        self.finished.set()
