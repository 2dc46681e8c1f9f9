"""The HTTP/1.1 side of an exchange: the answer's head and framing, written in as few writes as it takes."""

from __future__ import annotations

from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Final

from .codec import fields
from .codec.body import LAST_CHUNK, chunk, last_chunk
from .codec.fields import Headers
from .codec.request import RequestHead
from .codec.response import ResponseHead
from .codec.target import Target
from .codec.trailers import announced
from .dates import http_date
from .exchange import Exchange, phrase

if TYPE_CHECKING:
    from .body import RequestBody
    from .server import ServerConnection
    from .streams import Sink, Source

_JOIN_LIMIT: Final = 16 * 1024
"""Up to this many bytes of body are copied behind the head; more cost less beside it (64 KiB: 63 µs, not 69)."""

_MAX_REMEMBERED: Final = 256
"""Bytes of a reason phrase; the rest of a longer one is cut off, since nobody reads it (RFC 9112 section 4)."""

_BODILESS: Final = frozenset({204, 304})

_PROTOCOLS: Final = ("HTTP/1.0", "HTTP/1.1")

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


class Http1Exchange(Exchange):
    """One request on an HTTP/1.1 connection, and its answer."""

    def __init__(
        self,
        connection: ServerConnection,
        head: RequestHead,
        target: Target,
        host: str,
        authority: bytes,
        started: float,
    ) -> None:
        super().__init__(head, target, host, authority, connection.client, started)
        self.connection = connection
        self._minor = head.minor
        self._head = b""
        self._chunked = False

    @property
    def protocol(self) -> str:
        """See Exchange."""
        return _PROTOCOLS[self._minor]

    def age(self) -> float:
        """See Exchange."""
        return monotonic() - self.started

    def read_from(self, source: Source | None) -> None:
        """See Exchange."""
        self.source = source
        if source is not None and self.connection.write_paused:
            source.pause()

    def begin(
        self,
        status: int,
        headers: Headers,
        length: int | None,
        *,
        dropped: frozenset[bytes] = frozenset(),
        reason_phrase: bytes | None = None,
    ) -> None:
        """See Exchange. The head waits for the first bytes of the body."""
        self.status = status
        parts = [_status_line(status, reason_phrase)]
        if length is None and self._takes_trailers():
            parts += _announcement(headers, dropped)
        for name, value in headers:
            if fields.kind(name) in _STRIPPED or (dropped and fields.folded_name(name) in dropped):
                continue
            parts.append(fields.line_of(name, value))
        self._frame(parts, length)

    def take(self, head: ResponseHead) -> Sink:
        """See Answer; in one step, since nearly all answers come this way."""
        if head.filtered:
            return super().take(head)
        self.status = head.status
        parts = [_status_line(head.status, head.reason), head.plain]
        length = head.length
        self._frame(parts, length if length > 0 else head.content_length if length == 0 else None)
        return self

    def _frame(self, parts: list[bytes], length: int | None) -> None:
        """Say how the body ends, and whether the connection does."""
        status = self.status
        close = self.connection.closes_after(self)
        if length is not None:
            if status != 204:
                parts.append(b"\r\nContent-Length: %d" % length)
        elif status not in _BODILESS and self.method != "HEAD":
            if self._minor:
                self._chunked = True
                parts.append(b"\r\nTransfer-Encoding: chunked")
            else:
                close = self.connection.close_after_answer()
        if close:
            parts.append(b"\r\nConnection: close")
        elif not self._minor:
            parts.append(b"\r\nConnection: keep-alive")
        parts.append(b"\r\n\r\n")
        self._head = b"".join(parts)

    def write(self, data: bytes) -> None:
        """See Exchange."""
        if self.broken:
            return
        self.bytes_out += len(data)
        if self._chunked:
            data = chunk(data)
        transport = self.connection.transport
        head = self._head
        if head:
            self._head = b""
            if len(data) > _JOIN_LIMIT:
                transport.writelines((head, data))
                return
            data = head + data
        transport.write(data)

    def end(self, data: bytes = b"") -> None:
        """See Exchange."""
        if self.broken:
            return
        self.bytes_out += len(data)
        if self._chunked:
            data = chunk(data) + LAST_CHUNK if data else LAST_CHUNK
        transport = self.connection.transport
        head = self._head
        if head:
            self._head = b""
            if len(data) > _JOIN_LIMIT:
                transport.writelines((head, data))
            else:
                transport.write(head + data)
        elif data:
            transport.write(data)
        self.ended = True
        self.connection.answer_ended()

    def end_with_trailers(self, data: bytes, trailers: bytes) -> None:
        """See Answer."""
        if not trailers or not self._chunked or not self._takes_trailers():
            self.end(data)
            return
        if self.broken:
            return
        if data:
            self.write(data)
        self.flush()
        self.connection.transport.write(last_chunk(trailers))
        self.ended = True
        self.connection.answer_ended()

    def _takes_trailers(self) -> bool:
        rare = self.head.rare
        return rare is not None and rare.trailers

    def flush(self) -> None:
        """Send the head although no byte of the body has come: the upstream may let the client wait for it."""
        if self._head and not self.broken:
            head, self._head = self._head, b""
            self.connection.transport.write(head)

    def fail(self, error: Exception) -> None:
        """See Exchange: the body stays unfinished; a reset where the end of the connection would be its end."""
        if self.broken or self.ended:
            return
        self.reason = self.reason or getattr(error, "kind", "internal_error")
        self.flush()
        self.broken = True
        self.source = None
        self.connection.break_answer(
            reset=self.connection.tunnel is not None or (not self._chunked and self._minor == 0)
        )

    async def tunnel(self, head: ResponseHead) -> RequestBody | None:
        """See Answer."""
        self.status = head.status
        plain = head.plain_without(head.dropped) if head.dropped else head.plain
        parts = [_status_line(head.status, head.reason), plain]
        if head.status == 101:
            names = [value for name, value in head.special if fields.kind(name) == fields.UPGRADE]
            parts.append(b"\r\nConnection: Upgrade\r\nUpgrade: " + b", ".join(names))
        parts.append(b"\r\n\r\n")
        self.connection.transport.write(b"".join(parts))
        self.body = self.connection.open_tunnel(self)
        return self.body

    def unsent(self) -> int:
        """See Exchange."""
        return self.connection.transport.get_write_buffer_size()

    def drop(self) -> None:
        """See Exchange."""
        self.broken = True
        self.connection.break_answer(reset=False)

    def interim(self, status: int, headers: Headers, reason_phrase: bytes | None = None) -> None:
        """See Exchange."""
        if not self._minor or self.status or self.broken:
            return
        kept = [fields.line_of(*pair) for pair in headers if fields.kind(pair[0]) not in _STRIPPED]
        self.connection.transport.write(b"".join([_status_line(status, reason_phrase), *kept, b"\r\n\r\n"]))
        if status == 100:
            self.expects_continue = False

    def send_continue(self) -> None:
        """See Exchange."""
        if self.expects_continue:
            self.interim(100, [])


def _announcement(headers: Headers, dropped: frozenset[bytes]) -> list[bytes]:
    """The Trailer lines of an answer, without the names of fields that do not go on."""
    values = [announced(value, dropped) for name, value in headers if fields.kind(name) == fields.TRAILER]
    return [fields.line_of(b"Trailer", value) for value in values if value]


def _status_line(status: int, reason_phrase: bytes | None) -> bytes:
    if reason_phrase is not None and len(reason_phrase) > _MAX_REMEMBERED:
        return _make_status_line(status, reason_phrase[:_MAX_REMEMBERED])
    return _make_status_line(status, reason_phrase)


@lru_cache(maxsize=256)
def _make_status_line(status: int, reason_phrase: bytes | None) -> bytes:
    text = phrase(status).encode() if reason_phrase is None else reason_phrase
    return b"HTTP/1.1 %d %b" % (status, text)


def refusal(status: int, length: int, body: bytes) -> bytes:
    """The whole answer to a message that is not worth an exchange; the connection ends after it.

    Args:
        status: 400 to 599.
        length: bytes that the body has, or would have where the request was a HEAD.
        body: the body, empty for a HEAD.
    """
    parts = [
        _status_line(status, None),
        fields.line_of(b"Date", http_date()),
        b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        % length,
        body,
    ]
    return b"".join(parts)
