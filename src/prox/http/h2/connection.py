"""A client's HTTP/2 connection: its socket, its streams, its deadlines.

Streams are served side by side, each an exchange with a flow of its own. What a turn of the loop makes is written at once,
and streams that wait for the socket or for a window take turns in slices, so that no big answer holds up a small one.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from prox.http.clientside import ClientConnection
from prox.http.codec.errors import BadMessageError
from prox.http.codec.fields import Headers
from prox.http.codec.h2.errors import ENHANCE_YOUR_CALM, NO_ERROR, Http2Error, StreamError
from prox.http.codec.h2.fields import UNKNOWN
from prox.http.codec.h2.session import Session
from prox.http.codec.request import CHUNKED
from prox.http.exchange import Client
from prox.http.sockets import send_reset
from prox.http.tunnel import TUNNEL
from prox.http.watch import NEVER, Watch

from . import heads
from .announced import local_settings
from .exchange import Http2Exchange
from .inflow import Inflow
from .refusal import refuse

if TYPE_CHECKING:
    from prox.http.entry import Entry
    from prox.http.limits import Limits

WRITE_BUFFER: Final = 256 * 1024
"""Bytes that may wait in the socket for a slow client before answers wait in their streams."""

_SLICE: Final = 16 * 1024
"""Bytes that a stream sends before the next has its turn: one frame."""

_AT_ONCE: Final = 32 * 1024
"""Bytes that are not kept for the end of the turn: that would cost more than a write saves."""

_MALFORMED: Final = frozenset({"compression", "flow_control", "preface"})
"""Faults of a connection that the log has one name for; what else there is are floods."""

LINGER = 2.0
"""Seconds in which a client may read the last word on a connection."""

DRAIN_GRACE = 2.0
"""Seconds for the answer to the PING behind the first GOAWAY; requests that come later are not served."""


class Http2Connection(ClientConnection):
    """One client's connection; the owner of a session (see codec.h2.session.Owner).

    An asyncio.Protocol, but not by name (see ServerConnection).
    """

    __slots__ = (
        "_deadline",
        "_draining",
        "_entry",
        "_greeted",
        "_head_due",
        "_in_turn",
        "_lingering",
        "_pinged_at",
        "_queue",
        "_read_at",
        "_scheduled",
        "_served",
        "_streams",
        "_unwritten",
        "_watch",
        "loop",
        "session",
        "transport",
        "write_paused",
    )

    transport: asyncio.Transport

    def __init__(self, entry: Entry, client: Client) -> None:
        ClientConnection.__init__(self, client)
        self._entry = entry
        self.loop = asyncio.get_running_loop()
        self.session = Session(self, client=False, settings=local_settings(entry.limits))
        self.write_paused = False
        self._streams: dict[int, Http2Exchange] = {}
        self._queue: dict[int, Http2Exchange] = {}
        self._watch: Watch | None = None
        self._deadline = NEVER
        self._read_at = 0.0
        self._pinged_at = NEVER
        self._head_due = NEVER
        self._greeted = False
        self._draining = False
        self._lingering = False
        self._in_turn = False
        self._scheduled = False
        self._unwritten = 0
        self._served = 0

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)
        if self._entry.aborted:
            self.transport.abort()
        self._read_at = self.loop.time()
        # A client that does not even greet is held to the head's deadline, not to the idle time.
        self._watch = Watch(self.loop, self._check)
        self._expect_idle(self._entry.limits.read_header_timeout)
        silence = self._entry.limits.h2_read_idle_timeout
        if silence is not None:
            self._watch.expect(self._read_at + silence)
        self._flush()
        if self._entry.closing:
            self.drain()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._lingering:
            return
        now = self.loop.time()
        self._read_at = now
        self._pinged_at = NEVER
        self._in_turn = True
        self.session.receive(data, now)
        self._in_turn = False
        self._flush()
        if self.session.in_head():
            self._expect_head(now)
        else:
            self._head_due = NEVER
        if self._draining and not self._streams:
            self._close_if_drained()

    def eof_received(self) -> None:
        """The client sent FIN: it has gone. The transport closes."""
        self._gone("client_aborted")
        self._deadline = self.loop.time() + LINGER  # for what it has not read
        if self._watch is not None:
            self._watch.expect(self._deadline)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """See asyncio.Protocol."""
        self._entry.forget(self)
        if self._watch is not None:
            self._watch.stop()
        self._gone("client_aborted")

    def pause_writing(self) -> None:
        """The client reads more slowly than answers come: from now on they wait in their streams."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.write_paused = False
        self._pump()
        self._flush()
        if not self.write_paused:
            for exchange in list(self._streams.values()):
                if not exchange.waits:
                    exchange.release_source()

    # What the server says.

    def drain(self) -> None:
        """Tell the client to go elsewhere with new requests; close after those that run."""
        if self._draining or self._watch is None:
            return
        self._draining = True
        self.session.drain()
        self._deadline = min(self._deadline, self.loop.time() + DRAIN_GRACE)
        self._watch.expect(self._deadline)
        self.touch()

    def abort(self) -> None:
        """Close at once, so that no client takes what it has for a whole answer."""
        if self._watch is None:  # accepted a moment ago: the transport comes next, and the entry knows
            return
        self._gone("shutdown")
        send_reset(self.transport)

    def count(self, reason: str) -> None:
        """Count what ended otherwise than asked and is in no log."""
        self._entry.counters.ended(reason)

    # What the session says.

    def headers(self, stream: int, fields: Headers, end: bool) -> None:
        """A request has come."""
        entry = self._entry
        limits = entry.limits
        self._served += 1
        if 0 < limits.max_requests_per_connection <= self._served and not self._draining:
            entry.counters.ended("max_requests_per_connection")
            self.drain()
        try:
            asked = heads.read_request(fields, limits, end=end)
        except StreamError as error:
            self.session.reset(stream, error.code, provoked=True)
            self._report(BadMessageError(str(error), 0), fields)
            return
        except BadMessageError as refused:  # another name: compiled, a name has one type
            self._refuse(stream, refused, fields, end=end)
            return
        exchange = Http2Exchange(self, stream, asked, monotonic())
        self._streams[stream] = exchange
        if not end or exchange.asks_for_tunnel:
            self._open_body(exchange, asked, end=end)
        watch = self._watch
        if limits.write_timeout is not None and watch is not None:
            watch.expect(exchange.started + limits.write_timeout)
        exchange.flow.run(entry.handler.handle(exchange))

    def _open_body(self, exchange: Http2Exchange, asked: heads.Asked, *, end: bool) -> None:
        length = asked.length
        if exchange.asks_for_tunnel:  # what comes now is for the other end
            exchange.upload = Inflow(self, exchange.stream, TUNNEL)
            if end:
                exchange.upload.finish(b"", b"")
            return
        if length != UNKNOWN:
            self.session.expect_length(exchange.stream, length)
        exchange.upload = Inflow(self, exchange.stream, CHUNKED if length == UNKNOWN else length)
        exchange.body = exchange.upload.body
        limit = self._entry.limits.read_timeout
        if limit is not None and self._watch is not None:
            self._watch.expect(exchange.started + limit)

    def headers_too_large(self, stream: int, end: bool) -> None:
        """A head, or trailers, above what SETTINGS announced."""
        error = BadMessageError("request head too large", 431, "header_size")
        exchange = self._streams.get(stream)
        if exchange is None:
            self._refuse(stream, error, [], end=end)
        else:
            exchange.break_request(error)

    def data(self, stream: int, data: bytes, flow: int, end: bool) -> None:
        """Some of a body has come."""
        exchange = self._streams.get(stream)
        upload = None if exchange is None else exchange.upload
        if exchange is None or upload is None or upload.over:
            self.session.consumed(stream, flow)
            return
        try:
            upload.receive(data, flow, self._entry.limits.max_body_bytes, end=end)
        except BadMessageError as error:
            exchange.break_request(error)
            return
        if end:
            self.advance(exchange)

    def trailers(self, stream: int, fields: Headers) -> None:
        """A body has ended with trailers."""
        exchange = self._streams.get(stream)
        upload = None if exchange is None else exchange.upload
        if exchange is None or upload is None or upload.over:
            return
        try:
            lines = heads.trailer_lines(fields)
        except StreamError as error:
            self.session.reset(stream, error.code, provoked=True)
            exchange.gone("malformed")
            return
        upload.finish(b"", lines)
        self.advance(exchange)

    def reset_received(self, stream: int, code: int) -> None:  # noqa: ARG002 - Owner's signature
        """The client does not want the answer any more."""
        exchange = self._streams.get(stream)
        if exchange is not None:
            exchange.gone("client_aborted")

    def stream_failed(self, stream: int, error: StreamError) -> None:  # noqa: ARG002 - Owner's signature
        """The client broke a rule on a stream."""
        exchange = self._streams.get(stream)
        if exchange is not None:
            exchange.gone("malformed")

    def writable(self, stream: int) -> None:
        """A window has grown."""
        if self.write_paused or not self._queue:
            return
        if stream == 0:
            self._pump()
            return
        exchange = self._queue.get(stream)
        while exchange is not None and exchange.waits and not self.write_paused:
            size = exchange.send_waiting(_SLICE)
            if size < 0:
                return
            self.wrote(size)
        if exchange is not None and not exchange.waits:
            self._queue.pop(stream, None)

    def settings_changed(self) -> None:
        """The client has greeted: from now on it may be idle."""
        if not self._greeted:
            self._greeted = True
            if not self._streams:
                self._expect_idle(self._entry.limits.idle_timeout)

    def goaway(self, last: int, code: int) -> None:
        """The client wants no pushes, of which there are none; its requests go on."""

    def pong(self) -> None:
        """The client lives, see `data_received`."""

    def session_failed(self, error: Http2Error) -> None:
        """The client broke a rule of the connection."""
        reason = "malformed" if error.reason in _MALFORMED else error.reason
        self._report(BadMessageError(str(error), 0, reason), [])
        self._gone(reason)
        self._linger()

    def _report(self, error: BadMessageError, fields: Headers, size: int = 0) -> None:
        method, path = heads.method_and_path(fields)
        self._entry.handler.malformed(self.client, error, method, path, size)

    def _refuse(self, stream: int, error: BadMessageError, fields: Headers, *, end: bool) -> None:
        """Answer a request that never became an exchange."""
        session = self.session
        if self.write_paused:  # it does not read the answers that it has: more of them would pile up
            session.reset(stream, ENHANCE_YOUR_CALM, provoked=True)
            self._report(BadMessageError(str(error), 0, error.reason), fields)
            return
        size = refuse(session, stream, error, without_body=(b":method", b"HEAD") in fields, end=end)
        self._report(error, fields, size)

    # The way out.

    def touch(self) -> None:
        """There is something to write, at the end of the turn at the latest."""
        if not self._in_turn and not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._end_turn)

    def wrote(self, size: int) -> None:
        """So many bytes of a body were given to the session."""
        self._unwritten += size
        if self._unwritten >= _AT_ONCE or (not self._in_turn and len(self._streams) == 1):
            self._flush()
        else:
            self.touch()

    def queue(self, exchange: Http2Exchange) -> None:
        """Some of an answer waits."""
        self._queue[exchange.stream] = exchange

    def _end_turn(self) -> None:
        self._scheduled = False
        self._flush()

    def _flush(self) -> None:
        self._unwritten = 0
        if self.write_paused or self._watch is None or self.transport.is_closing():
            return
        output = self.session.take_output()
        if output:
            self.transport.write(output)

    def _pump(self) -> None:
        """Let streams that wait send in turn, as far as windows and socket allow; who has sent goes to the end."""
        queue = self._queue
        waiting = list(queue.values())
        while waiting:
            still: list[Http2Exchange] = []
            for exchange in waiting:
                if self.write_paused:
                    return
                if not exchange.waits:
                    continue
                size = exchange.send_waiting(_SLICE)
                stream = exchange.stream
                if size < 0:
                    continue
                queue.pop(stream, None)
                if exchange.waits:
                    queue[stream] = exchange
                    still.append(exchange)
                self.wrote(size)
            waiting = still

    # The end of exchanges.

    def advance(self, exchange: Http2Exchange) -> None:
        """Forget an exchange that is over on every side."""
        if not exchange.closed or exchange.flow.running:
            return
        stream = exchange.stream
        if self._streams.pop(stream, None) is None:
            return
        self._queue.pop(stream, None)
        exchange.finish()
        if not self._streams and not self._lingering:
            if self._draining:
                self._close_if_drained()
            else:
                self._expect_idle(self._entry.limits.idle_timeout)

    def _gone(self, reason: str) -> None:
        """The client has gone: cancel all that it asked for."""
        for exchange in list(self._streams.values()):
            exchange.gone(reason)

    def _close_if_drained(self) -> None:
        if self.session.closing and not self._streams and not self._lingering:
            self._linger()

    def _linger(self) -> None:
        """Send FIN and wait a little for the client's, so that no RST takes the last answers from it."""
        if self._lingering or self._watch is None or self.transport.is_closing():
            return
        self._lingering = True
        output = self.session.take_output()
        if output:
            self.transport.write(output)
        self._deadline = self.loop.time() + LINGER
        self._watch.expect(self._deadline)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    # Deadlines.

    def _expect_idle(self, seconds: float | None) -> None:
        self._deadline = deadline = NEVER if seconds is None else self.loop.time() + seconds
        watch = self._watch
        if watch is not None and deadline < watch.next:
            watch.expect(deadline)

    def _expect_head(self, now: float) -> None:
        seconds = self._entry.limits.read_header_timeout
        if self._head_due == NEVER and seconds is not None and self._watch is not None:
            self._head_due = now + seconds
            self._watch.expect(self._head_due)

    def _check(self, now: float) -> float:
        if self._lingering or self.transport.is_closing():
            if now < self._deadline:
                return self._deadline
            send_reset(self.transport)
            return NEVER
        if now >= self._head_due:
            self._report(BadMessageError("the head came too slowly", 0, "deadline_head"), [])
            self._gone("deadline_head")
            self._say_goodbye(ENHANCE_YOUR_CALM)
            return self._deadline
        due = self._head_due
        limits = self._entry.limits
        for exchange in list(self._streams.values()):
            due = min(due, exchange.check(now, limits))
        if self._draining:
            due = min(due, self._check_drain(now))
        elif not self._streams:
            if now >= self._deadline:
                self._entry.counters.ended("idle_timeout" if self._greeted else "deadline_head")
                self._say_goodbye(NO_ERROR)
                return self._deadline
            due = min(due, self._deadline)
        return min(due, self._check_life(now, limits))

    def _check_drain(self, now: float) -> float:
        if now < self._deadline:
            return self._deadline
        self._deadline = NEVER
        if not self.session.closing:
            self.session.go_away(NO_ERROR)
            self.touch()
        if not self._streams:
            self._linger()
            return self._deadline
        return NEVER

    def _check_life(self, now: float, limits: Limits) -> float:
        """Ask a client of whom nothing is heard whether it is there."""
        silence = limits.h2_read_idle_timeout
        if silence is None:
            return NEVER
        if self._pinged_at == NEVER:
            if now < self._read_at + silence:
                return self._read_at + silence
            self._pinged_at = now
            self.session.ping()
            self.touch()
        patience = limits.h2_ping_timeout
        if patience is None:
            return NEVER
        if now < self._pinged_at + patience:
            return self._pinged_at + patience
        self._entry.counters.ended("ping_timeout")
        self._gone("ping_timeout")
        send_reset(self.transport)
        return NEVER

    def _say_goodbye(self, code: int) -> None:
        self.session.go_away(code)
        self._linger()
