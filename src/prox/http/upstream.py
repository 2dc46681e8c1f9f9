"""A connection to an upstream: one request at a time, its answer handed on in the call that read it.

A connection is used again only when both messages were whole, the upstream keeps it open and not a byte too many came
(the fourth invariant of the security page): whatever is unclear closes it.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Final, cast

from .call import Receiver, UpstreamCall
from .codec.body import LAST_CHUNK, ChunkedDecoder, CloseDecoder, Decoder, LengthDecoder, chunk, last_chunk
from .codec.errors import BadMessageError
from .codec.response import CHUNKED, UNTIL_CLOSE, ResponseParser
from .codec.trailers import passed_on
from .dates import dated
from .errors import UpstreamError
from .secure import reason_of
from .sockets import read_left, tls_left
from .streams import Sink, Source
from .watch import NEVER, Watch

if TYPE_CHECKING:
    from .pool import Origin

WRITE_BUFFER: Final = 256 * 1024
_MAX_INTERIM: Final = 32
_JOIN_LIMIT: Final = 16 * 1024
_END: Final = b"\r\n\r\n"
_NOT_KNOWN: Final = 1 << 62

_parser: Final = ResponseParser()


class UpstreamConnection(UpstreamCall):
    """One connection, an asyncio.Protocol (not by name, see ServerConnection)."""

    __slots__ = (
        "_body",
        "_buffer",
        "_chunked",
        "_deadline",
        "_decoder",
        "_head_timeout",
        "_idle",
        "_idle_timeout",
        "_interims",
        "_keep",
        "_loop",
        "_method",
        "_most_head",
        "_origin",
        "_patient",
        "_paused",
        "_pending",
        "_receiver",
        "_sent",
        "_sink",
        "_stuck_at",
        "_tls",
        "_unwanted",
        "_watch",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, origin: Origin) -> None:
        super().__init__()
        self._origin = origin
        self._idle = origin.idle
        self._head_timeout = origin.settings.response_header_timeout
        self._idle_timeout = origin.settings.idle_timeout
        self._most_head = origin.settings.max_header_bytes
        self._loop = asyncio.get_running_loop()
        self._watch: Watch | None = None
        self._deadline = NEVER
        self._receiver: Receiver | None = None
        self._sink: Sink | None = None
        self._decoder: Decoder | None = None
        self._body: Source | None = None
        self._buffer = b""
        self._pending = b""
        self._chunked = False
        self._sent = True
        self._keep = False
        self._paused = False
        self._patient = False
        self._stuck_at = 0
        self._tls: ssl.SSLObject | None = None
        self._method = ""
        self._interims = 0
        self._unwanted: frozenset[bytes] = frozenset()

    # The request.

    def send(self, head: bytes, method: str, receiver: Receiver) -> None:
        """See UpstreamCall."""
        self._open(method, receiver)
        self._sent = True
        if self._head_timeout is not None:
            self._expect(self._head_timeout)
        self.transport.write(head)

    def upload(
        self,
        head: bytes,
        method: str,
        receiver: Receiver,
        body: Source,
        *,
        chunked: bool,
        patient: bool = False,
    ) -> None:
        """See UpstreamCall."""
        self._open(method, receiver)
        self._patient = patient
        self._sent = False
        self._body = body
        self._chunked = chunked
        self._pending = head

    def flush(self) -> None:
        """See UpstreamCall."""
        if self._pending:
            head, self._pending = self._pending, b""
            self.transport.write(head)

    def write(self, data: bytes) -> None:
        """See UpstreamCall."""
        if self._body is not None:
            self._put(chunk(data) if self._chunked else data)

    def end(self, data: bytes = b"") -> None:
        """See UpstreamCall."""
        if self._body is None:
            return
        if self._chunked:
            data = chunk(data) + LAST_CHUNK if data else LAST_CHUNK
        if data or self._pending:
            self._put(data)
        self._all_sent()

    def end_with_trailers(self, data: bytes, trailers: bytes) -> None:
        """See UpstreamCall."""
        if not self._chunked:
            self.end(data)
        elif self._body is not None:
            end = last_chunk(trailers)
            self._put(chunk(data) + end if data else end)
            self._all_sent()

    def _all_sent(self) -> None:
        self._body = None
        self._sent = True
        timeout = self._head_timeout
        if self._sink is None and timeout is not None:
            self._expect(timeout)

    def fail(self, error: Exception) -> None:
        """The client broke its request off: so does this connection (see Sink)."""
        self._over(UpstreamError("client_aborted", str(error)))

    def _open(self, method: str, receiver: Receiver) -> None:
        self._method = method
        self._receiver = receiver
        self._sink = None
        self._interims = 0
        self.error = None
        self.finished.reset()
        self.used += 1

    def _expect(self, timeout: float) -> None:
        """Set the deadline of what comes next."""
        self._deadline = deadline = self._loop.time() + timeout
        watch = self._watch
        if watch is not None and deadline < watch.next:
            watch.expect(deadline)

    def _put(self, data: bytes) -> None:
        head = self._pending
        if head:
            self._pending = b""
            if len(data) > _JOIN_LIMIT:
                self.transport.writelines((head, data))
                return
            data = head + data
        self.transport.write(data)

    # The answer (this connection is its source).

    def pause(self) -> None:
        """See Source."""
        if self._receiver is not None:  # an idle connection must see its FIN
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """See Source."""
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def stop(self) -> None:
        """See Source: the connection closes, since the rest of the answer is on its way."""
        self._over(UpstreamError("stopped", "the answer was no longer wanted"))

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._tls = transport.get_extra_info("ssl_object")
        self._watch = Watch(self._loop, self._check)

    def pause_writing(self) -> None:
        """The upstream takes the body more slowly than the client sends it."""
        if self._body is not None:
            self._body.pause()
            if self._sink is None and self._head_timeout is not None and not self._patient:
                self._stuck_at = _NOT_KNOWN  # more may be written in this turn
                self._expect(self._head_timeout)

    def resume_writing(self) -> None:
        """The upstream has caught up."""
        if self._body is not None:
            self._deadline = NEVER
            self._body.resume()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._receiver is None:
            # An answer that nobody asked for (or 408 from an upstream that is tired of waiting).
            self._close()
            return
        try:
            if self._sink is None:
                self._receive_head(self._buffer + data if self._buffer else data)
            else:
                self._receive_body(data)
        except BadMessageError as error:
            self._over(UpstreamError(error.reason, str(error)))

    def eof_received(self) -> None:
        """See asyncio.Protocol: the transport closes, `connection_lost` says the rest."""
        if self._receiver is None:
            self._close()  # at once, so that no request is given to it until then
        else:
            self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._receiver is not None:
            if self._tls is not None:
                exc = self._lost_tls(self._tls, exc)
            elif exc is not None:
                left = read_left(self.transport)
                if left:
                    self.data_received(left)
        self._ended(exc)
        self._close()
        if self._watch is not None:
            self._watch.stop()

    def _lost_tls(self, tls: ssl.SSLObject, exc: Exception | None) -> Exception | None:
        """Take what is left; returns why this is no end that the upstream has said, None where it is."""
        left, is_said = tls_left(tls)
        if left:
            self.data_received(left)
        if is_said or exc is not None:
            return None if is_said else exc
        return UpstreamError("upstream_truncated", "the connection ended without close_notify")

    def _receive_head(self, data: bytes) -> None:
        receiver = self._receiver
        assert receiver is not None
        while True:
            end = data.find(_END)
            if end < 0:
                if len(data) > self._most_head:
                    raise _too_large()
                if data[:5] != b"HTTP/"[: len(data)]:
                    raise BadMessageError("the answer is not HTTP/1.1")
                if data.count(b"\n") != data.count(b"\r\n"):
                    raise BadMessageError("bare LF in the answer's head")
                self._buffer = data
                return
            size = end + 4
            if size > self._most_head:
                raise _too_large()
            head = _parser.parse(data if size == len(data) else data[:size], self._method)
            self._buffer = b""
            rest = data[size:]
            if head.status >= 200:
                break
            self._interims += 1
            if head.status == 101 or self._interims > _MAX_INTERIM:
                raise BadMessageError("an unasked 101, or too many interim answers")
            receiver.take_interim(head)
            if self._receiver is not receiver:
                return
            if not rest:
                return
            data = rest
        self._deadline = NEVER
        if self._tls is not None and self.used == 1:
            self._origin.session.keep(self._tls)
        self._keep = not head.close
        if b"\r\nDate: " not in head.plain:
            head.plain = dated(head.plain)
        length = head.length
        if length >= 0:
            self._sink = sink = receiver.take(head)
            if length == len(rest):  # the whole answer in one read
                self._done()
                sink.end(rest)
                self.finished.set()
                return
            self._decoder = LengthDecoder(length)
            if length == 0:  # bytes behind an answer that has no body
                self._keep = False
                self._done()
                sink.end()
                self.finished.set()
                return
        else:
            self._sink = receiver.take(head)
            self._decoder = ChunkedDecoder() if length == CHUNKED else CloseDecoder()
            self._unwanted = head.dropped
            assert length in {CHUNKED, UNTIL_CLOSE}
        if rest:
            self._receive_body(rest)
        else:
            receiver.flush()  # the body may be long in coming: an event stream begins with nothing

    def _receive_body(self, data: bytes) -> None:
        decoder, sink = self._decoder, self._sink
        assert decoder is not None
        assert sink is not None
        piece = decoder.feed(data)
        if not decoder.done:
            if piece:
                sink.write(piece)
            return
        if decoder.rest:
            self._keep = False
        self._done()
        if decoder.trailers:
            sink.end_with_trailers(piece, passed_on(decoder.trailers, self._unwanted))
        else:
            sink.end(piece)
        self.finished.set()

    # The end.

    def _done(self) -> None:
        """The answer was whole: the connection is idle again, or closes. The caller ends the sink."""
        self._receiver = None
        self._decoder = None
        self._sink = None
        if self._keep and self._sent and not self.transport.is_closing():
            if self._paused:
                self.resume()  # who paused it no longer has a say
            if self._idle_timeout is not None:
                self._expect(self._idle_timeout)
            self._idle.put(self)
            return
        body, self._body = self._body, None
        self._close()
        if body is not None:
            body.stop()

    def _over(self, error: UpstreamError) -> None:
        """The exchange has failed, and with it the connection."""
        if self._receiver is None:
            return
        body, sink = self._body, self._sink
        self._receiver = None
        self._decoder = None
        self._sink = None
        self._body = None
        self._buffer = b""
        self._pending = b""
        self._deadline = NEVER
        self.error = error
        self._close()
        if body is not None:
            body.stop()
        if sink is not None:
            sink.fail(error)
        self.finished.set()

    def _ended(self, exc: Exception | None) -> None:
        """The upstream closed or reset the connection."""
        if self._receiver is None:
            return
        sink, decoder = self._sink, self._decoder
        if sink is None or decoder is None:
            silent = not self._buffer and not self._interims
            kind, text = _failure(None if isinstance(exc, UpstreamError) else exc, "no answer came")
            self._over(UpstreamError(kind, text, stale=self.used > 1 and silent and kind != "tls_failed"))
            return
        if exc is None:
            try:
                decoder.eof()
            except BadMessageError as error:
                self._over(UpstreamError("upstream_truncated", str(error)))
                return
            self._keep = False
            self._done()
            sink.end()
            self.finished.set()
            return
        kind, text = _failure(exc, str(exc))
        self._over(UpstreamError(kind, text))

    def _close(self) -> None:
        self._origin.forget(self)
        transport = self.transport
        if self._tls is None or self.error is not None:
            transport.abort()
        elif not transport.is_closing():  # once only: it may call eof_received
            transport.close()  # says close_notify at the end of this turn, and would wait for the upstream's
            self._loop.call_soon(transport.abort)

    # Tunnels (see UpstreamEnd).

    @property
    def most_head(self) -> int:
        """Bytes that the head of an answer may have."""
        return self._most_head

    def may_become_a_head(self, data: bytes) -> bool:
        """Whether what has come may be the beginning of an answer's head."""
        begins = data[:5] == b"HTTP/"[: len(data)]
        return begins and len(data) <= self._most_head and data.count(b"\n") == data.count(b"\r\n")

    def hand_over(self) -> None:
        """It has become a tunnel; whoever has taken its place tells it of its end."""
        self._receiver = None
        if self._watch is not None:
            self._watch.stop()

    def give_up(self, error: UpstreamError) -> None:
        """Break the exchange off."""
        self._over(error)

    def close(self) -> None:
        """Close an idle connection."""
        self._close()

    def _check(self, now: float) -> float:
        if now < self._deadline:
            return self._deadline
        self._deadline = NEVER
        if self._receiver is None:
            self._close()
        elif self._body is None:
            self._over(UpstreamError("upstream_timeout", "no answer within response_header_timeout"))
        elif self._head_timeout is not None:
            waiting = self.transport.get_write_buffer_size()
            if waiting < self._stuck_at:
                self._stuck_at = waiting
                self._deadline = now + self._head_timeout
            else:
                self._over(UpstreamError("upstream_timeout", "no byte taken within response_header_timeout"))
        return self._deadline


def _failure(exc: Exception | None, otherwise: str) -> tuple[str, str]:
    """Kind and text of the end of a connection."""
    if exc is None:
        return "upstream_closed", otherwise
    if isinstance(exc, ssl.SSLError):  # in TLS 1.3 a client certificate is refused after the handshake
        return "tls_failed", reason_of(exc)
    if isinstance(exc, UpstreamError):
        return exc.kind, str(exc)
    return "upstream_reset", otherwise


def _too_large() -> BadMessageError:
    return BadMessageError("the answer's head is larger than max_response_header_bytes", 502, "header_size")
