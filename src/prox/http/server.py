"""A client's HTTP/1.1 connection: its socket, its messages, its deadlines.

Requests are served in order, one exchange at a time; what the client sent ahead waits, first here and then in its
socket. A request that is malformed is refused and ends the connection (RFC 9112 section 2.2); so does a FIN, which means
that the client has gone.
"""

from __future__ import annotations

import asyncio
import logging
import re
from time import monotonic
from typing import Final, cast

from prox.flow import Flow

from . import beginnings
from .answer import Http1Exchange, refusal
from .body import RequestBody
from .clientside import ClientConnection
from .codec.errors import BadMessageError
from .codec.request import check_authority
from .codec.target import parse_target, split_host
from .entry import Entry
from .exchange import Client
from .sockets import has_hung_up, has_sent_all, send_reset
from .tunnel import ClientEnd
from .upload import Upload
from .watch import NEVER, Watch

_log: Final = logging.getLogger("prox.http")

WRITE_BUFFER: Final = 256 * 1024
"""Bytes that may wait for a slow client before its source is paused: what one read may bring."""

LINGER = 2.0
"""Seconds in which a refused client that still sends may read its answer."""

DRAIN_SECONDS = 5.0
"""How long it may take to read the rest of a body away that nobody wants."""

CLOSE_NOTIFY: Final = 0.1
"""Seconds between two looks whether a TLS connection that closes has sent all."""

HANG_UP = 0.5
"""Seconds after which it is looked whether a client has gone from whom prox does not read."""

_END: Final = b"\r\n\r\n"
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)*")


class ServerConnection(ClientConnection):
    """One client's connection.

    An asyncio.Protocol, but not by name: mypyc compiles no class with a base that it does not compile.
    """

    __slots__ = (
        "_buffer",
        "_close",
        "_deadline",
        "_entry",
        "_exchange",
        "_flow",
        "_in_head",
        "_lingering",
        "_served",
        "_starting",
        "_upload",
        "_watch",
        "loop",
        "transport",
        "tunnel",
        "write_paused",
    )

    transport: asyncio.Transport

    def __init__(self, entry: Entry, client: Client) -> None:
        ClientConnection.__init__(self, client)
        self._entry = entry
        self.loop = asyncio.get_running_loop()
        self._watch: Watch | None = None
        self._deadline = 0.0
        self._buffer = b""
        self._exchange: Http1Exchange | None = None
        self._flow = Flow(self._flow_ended)
        self._upload: Upload | None = None
        self._close = False
        self._in_head = False
        self._lingering = False
        self._starting = False
        self._served = 0
        self.tunnel: ClientEnd | None = None
        self.write_paused = False

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)
        if self._entry.aborted:
            self.transport.abort()
        # A connection on which nothing comes is held to the head's deadline, not to the idle time.
        self._deadline = self._after(self._entry.limits.read_header_timeout)
        self._watch = Watch(self.loop, self._check)
        self._watch.expect(self._deadline)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._upload is not None:
            self._receive_body(self._upload, data)
        elif self._exchange is None and not self._buffer and not self.write_paused:
            if not self._lingering:
                self._receive_head(data)
        elif not self._lingering:
            self._buffer += data
            if self._exchange is not None and self._exchange.method == "CONNECT":
                self._close = True  # see _open
            if self._exchange is None and not self.write_paused:
                data, self._buffer = self._buffer, b""
                self._receive_head(data)
            elif self._is_far_ahead():
                self._entry.counters.ended("max_pipelined")
                self.stop_reading()

    def eof_received(self) -> None:
        """The client sent FIN: it has gone, as nginx and Go hold it. The transport closes."""
        self._gone()
        self._deadline = self._after(self._entry.limits.idle_timeout)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """See asyncio.Protocol."""
        self._entry.forget(self)
        if self._watch is not None:
            self._watch.stop()
        if self.tunnel is None or not self.tunnel.over:
            self._gone()

    def pause_writing(self) -> None:
        """The client reads more slowly than its source writes."""
        self.write_paused = True
        if self._exchange is not None and self._exchange.source is not None:
            self._exchange.source.pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.write_paused = False
        if self._exchange is None:
            self._next()
        elif self._exchange.source is not None:
            self._exchange.source.resume()

    @property
    def is_paused(self) -> bool:
        """Whether a body comes faster than it is taken, so that prox does not read on."""
        return self._upload is not None and self._upload.paused_at is not None

    def stop_reading(self) -> None:
        """Read no more for now. The transport will not tell that the client has gone: the watch looks."""
        self.transport.pause_reading()
        if self._watch is not None:
            self._watch.expect(self.loop.time() + HANG_UP)

    # What the server says.

    def drain(self) -> None:
        """Close now if idle, else after the current exchange."""
        self._close = True
        if self._exchange is None and not self._lingering and self._watch is not None:
            self._hang_up()

    def abort(self) -> None:
        """Close at once, so that no client takes what it has for a whole answer."""
        if self._watch is None:  # accepted a moment ago: the transport comes next, and the entry knows
            return
        exchange = self._exchange
        if exchange is not None and not exchange.ended:
            exchange.reason = exchange.reason or "shutdown"
        self._gone()
        send_reset(self.transport)

    # Requests.

    def _receive_head(self, data: bytes) -> None:
        """Serve the requests whose heads stand at the start of `data`, until one has to wait."""
        entry = self._entry
        while True:
            end = data.find(_END)
            if end < 0:
                self._incomplete(data)
                return
            if data[:2] == b"\r\n":  # empty lines before a request are skipped: RFC 9112 section 2.2
                empty = _EMPTY_LINES.match(data)
                assert empty is not None
                data = data[empty.end() :]
                if not data:
                    return
                continue
            size = end + 4
            if size == len(data):
                head = data
            else:
                head = data[:size]
                self._buffer = data[size:]
            try:
                exchange = self._open(head)
            except BadMessageError as error:
                self._refuse(error, head)
                return
            self._exchange = exchange
            self._starting = True
            if self._upload is not None and self._buffer:
                data, self._buffer = self._buffer, b""
                self._receive_body(self._upload, data)
                if not self._is_serving():  # the body's first bytes were refused
                    self._starting = False
                    return
            self._flow.run(entry.handler.handle(exchange))
            self._starting = False
            # A client that does not read its answers gets no more of them: what it sent ahead waits.
            if self._is_serving() or not self._buffer or self.write_paused:
                return
            data, self._buffer = self._buffer, b""

    def _open(self, head: bytes) -> Http1Exchange:
        entry = self._entry
        limits = entry.limits
        if len(head) > limits.max_header_bytes:
            raise beginnings.too_large(head, limits)
        request = entry.parser.parse(head, limits.max_header_count)
        if len(request.request_target) > limits.max_target_bytes:
            raise BadMessageError("request target too long", 414, "target_size")
        self._in_head = False
        self._served += 1
        if request.close or entry.closing:
            self._close = True
        elif 0 < limits.max_requests_per_connection <= self._served:
            self._close = True
            entry.counters.ended("max_requests_per_connection")
        started = monotonic()  # the loop's clock, but that one stands still within a turn
        target = parse_target(request.method, request.request_target)
        authority = request.host_header or b""
        if target.authority is not None:
            check_authority(request, target.authority)
            authority = target.authority
            if request.method == "CONNECT" and self._buffer:
                self._close = (
                    True  # what came behind it is for the tunnel: no request, whatever becomes of it
                )
        exchange = Http1Exchange(self, request, target, split_host(authority), authority, started)
        if limits.write_timeout is not None and self._watch is not None:
            self._watch.expect(started + limits.write_timeout)
        if request.length:
            self._open_body(exchange, request.length)
        return exchange

    def _open_body(self, exchange: Http1Exchange, length: int) -> None:
        limits = self._entry.limits
        if limits.max_body_bytes and length > limits.max_body_bytes:
            raise BadMessageError("request body too large", 413, "body_size")
        self._upload = upload = Upload(self, length)
        exchange.body = upload.body
        if limits.read_timeout is not None and self._watch is not None:
            self._watch.expect(exchange.started + limits.read_timeout)

    def _incomplete(self, data: bytes) -> None:
        """Keep a head whose end has not come, unless it can't become one any more."""
        limits = self._entry.limits
        try:
            beginnings.check(data, limits)
        except BadMessageError as error:
            self._refuse(error, data)
            return
        if not self._in_head and self._watch is not None:
            self._in_head = True
            self._deadline = min(self._deadline, self._after(limits.read_header_timeout))
            self._watch.expect(self._deadline)
        self._buffer = data

    def _receive_body(self, upload: Upload, data: bytes) -> None:
        try:
            piece = upload.read(data, self._entry.limits.max_body_bytes)
        except BadMessageError as error:
            self._break_request(error)
            return
        if upload.over:
            self._upload = None
            self._buffer = upload.rest
            upload.body.finish(piece, upload.trailers)
            self._advance()
        elif piece:
            upload.body.feed(piece)

    def open_tunnel(self, exchange: Http1Exchange) -> RequestBody:
        """The upstream agreed to a tunnel: what the client has sent behind its request, and all that it will send."""
        early, self._buffer = self._buffer, b""
        self._close = True
        self.tunnel = ClientEnd(self, exchange, early)
        return self.tunnel.body

    # The end of an exchange.

    def answer_ended(self) -> None:
        """The exchange's answer is complete, or will never be."""
        if self.tunnel is not None:
            self.tunnel.answer_ended()
        self._advance()

    def _flow_ended(self, error: BaseException | None) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if error is not None and not isinstance(error, asyncio.CancelledError):
            _log.error("an exchange failed inside prox", exc_info=error)
            exchange.reason = exchange.reason or "internal_error"
        if not exchange.ended and not exchange.broken:
            if exchange.status == 0:
                self._close = True
                exchange.refuse(500)
            else:
                exchange.fail(RuntimeError("the answer was left unfinished"))
        self._advance()

    def _advance(self) -> None:
        """Go on to the next request when this exchange is over on every side."""
        exchange = self._exchange
        if exchange is None or not exchange.ended or self._flow.running:
            return
        if self._upload is not None:
            if self._close:
                self._linger()
                return
            self._upload.body.stop()
            if self._reading_body():
                self._deadline = self._after(DRAIN_SECONDS)
                if self._watch is not None:
                    self._watch.expect(self._deadline)
                return
        self._exchange = None
        self._deadline = self._after(self._entry.limits.idle_timeout)
        if self._watch is not None:
            self._watch.expect(self._deadline)
        if self._close:
            if self._buffer:
                self._linger()
            else:
                self._hang_up()
        elif self._buffer and not self.write_paused:
            self._next()

    def _next(self) -> None:
        """Serve what the client sent ahead."""
        if self._buffer and not self._starting and not self.transport.is_closing():
            if self._is_far_ahead():
                self.transport.resume_reading()
            data, self._buffer = self._buffer, b""
            self._receive_head(data)

    def _is_far_ahead(self) -> bool:
        """Whether the client has sent ahead all that is read before an answer: `max_pipelined` heads, or a full one."""
        limits, buffer = self._entry.limits, self._buffer
        return len(buffer) > limits.max_header_bytes or buffer.count(_END) >= limits.max_pipelined

    def _is_serving(self) -> bool:
        return self._exchange is not None

    def _reading_body(self) -> bool:
        return self._upload is not None

    def closes_after(self, exchange: Http1Exchange) -> bool:
        """Whether the connection ends after this answer, whose head is about to be written.

        It does too when a body is on its way that nobody will read and that is too long to read away.
        """
        upload = self._upload
        if upload is not None and (exchange.expects_continue or upload.is_long()):
            self._close = True
        return self._close

    def close_after_answer(self) -> bool:
        """The answer ends with the connection."""
        self._close = True
        return True

    def break_answer(self, *, reset: bool) -> None:
        """The answer stops here; `reset` where only a reset tells the client that it is not whole."""
        self._close = True
        if reset:
            send_reset(self.transport)
        else:
            self._deadline = self._after(self._entry.limits.idle_timeout)
            self._hang_up()

    def _gone(self) -> None:
        """The client has gone: cancel what it asked for."""
        self._buffer = b""
        exchange, tunnel = self._exchange, self.tunnel
        if exchange is None:
            return
        self._exchange = None
        upload = self._forget_upload()
        if not exchange.ended:
            exchange.broken = True
            exchange.reason = exchange.reason or "client_aborted"
        if upload is not None:
            upload.body.break_off(ConnectionResetError("the client went away"))
        elif tunnel is not None:
            tunnel.lost()
        self._flow.cancel()

    def abandon(self) -> None:
        """The client has gone without a word of its transport."""
        self._gone()

    def _break_request(self, error: BadMessageError) -> None:
        """The request turned out malformed, too large or too slow while it was served."""
        exchange, upload = self._exchange, self._forget_upload()
        self._exchange = (
            None  # the end of its answer is not yet that of the connection: the client still sends
        )
        self._close = True
        if exchange is not None and not exchange.ended:
            exchange.reason = error.reason
            if exchange.status == 0:
                exchange.refuse(error.status, str(error))
            else:
                exchange.broken = True
                send_reset(self.transport)
            if not self._flow.running:  # it was refused before anybody was asked
                self._entry.handler.malformed(
                    self.client, error, exchange.method, exchange.target.path, exchange.bytes_out
                )
        self._linger()
        if upload is not None:
            upload.body.break_off(error)
        self._flow.cancel()

    def _refuse(self, error: BadMessageError, head: bytes) -> None:
        """Answer a message that never became an exchange, and end the connection."""
        method, path = beginnings.method_and_path(head)
        text = f"{error}\n".encode()
        told = b"" if method == "HEAD" else text
        self._entry.handler.malformed(self.client, error, method, path, len(told))
        self.transport.write(refusal(error.status, len(text), told))
        self._close = True
        self._linger()

    def _forget_upload(self) -> Upload | None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.over = True
        return upload

    def _linger(self) -> None:
        """Send FIN and wait a little for the client's, so that no RST takes the answer from it."""
        self._exchange = None
        self._forget_upload()
        self._buffer = b""
        if self.transport.is_closing():
            return
        self._lingering = True
        self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:  # TLS: it says close_notify and reads on until the client's
            self.transport.close()
        self._deadline = self._after(LINGER)
        if self._watch is not None:
            self._watch.expect(self._deadline)

    def _hang_up(self) -> None:
        """Close when all is sent. A client may answer close_notify as late as when it needs the connection: nobody waits."""
        self.transport.close()
        if self._watch is not None and not self.transport.can_write_eof():
            self._watch.expect(self.loop.time() + CLOSE_NOTIFY)

    # Deadlines.

    def _after(self, seconds: float | None) -> float:
        return NEVER if seconds is None else self.loop.time() + seconds

    def _check(self, now: float) -> float:
        exchange = self._exchange
        if exchange is None or self.transport.is_closing():
            return self._check_idle(now)
        if self.tunnel is not None:
            return self.tunnel.check(now)
        latest = NEVER
        if self.is_paused or self._is_far_ahead():
            if has_hung_up(self.transport):
                self._gone()
                send_reset(self.transport)
                return NEVER
            latest = now + HANG_UP
        return min(latest, self._check_exchange(now, exchange))

    def _check_exchange(self, now: float, exchange: Http1Exchange) -> float:
        if exchange.ended and self._upload is not None and not self._flow.running:
            if now >= self._deadline:  # the rest of a body that nobody wants does not come
                self._linger()
            return self._deadline
        due = NEVER
        if self._upload is not None and not exchange.ended and not exchange.status:
            due = self._upload.due(exchange, self._entry.limits)
            if now >= due:
                self._break_request(BadMessageError("the body came too slowly", 408, "deadline_body"))
                return self._deadline
        limit = self._entry.limits.write_timeout
        if limit is not None:  # the whole answer, counted from the request's head
            if now >= exchange.started + limit:
                exchange.reason = "deadline_answer"
                self.abort()
                return NEVER
            due = min(due, exchange.started + limit)
        return due

    def _check_idle(self, now: float) -> float:
        """A connection between requests, or one that is about to close."""
        transport = self.transport
        if now < self._deadline:
            if self._lingering or not transport.is_closing() or transport.can_write_eof():
                return self._deadline
            if not has_sent_all(transport):
                return min(self._deadline, now + CLOSE_NOTIFY)
            transport.abort()
            return NEVER
        if self._lingering or transport.is_closing() or transport.get_write_buffer_size():
            send_reset(transport)  # what it does not read by now it never will
        elif self._in_head:
            self._refuse(BadMessageError("the head came too slowly", 408, "deadline_head"), self._buffer)
            return self._deadline
        else:
            self._entry.counters.ended("idle_timeout")
            self._deadline = self._after(self._entry.limits.idle_timeout)
            self._hang_up()
            return self._deadline
        return NEVER
