"""An upstream's response head, read strictly: whatever is wrong here is answered with 502 by the caller."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import httptools

from prox.remembered import remembered

from . import fields
from .errors import BadMessageError

CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2
"""Values of `length` beside a number of bytes."""

_MAX_HEADERS: Final = 1000
_SHORT_BODY: Final = 1024
_ANY_BYTES: Final = bytes(_SHORT_BODY)
_MAX_REMEMBERED: Final = 4096
_BODILESS: Final = frozenset({204, 304})
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")


class ResponseHead(fields.Fields):
    """One response's head.

    Attributes:
        status: 100 to 599.
        reason: the reason phrase as it came.
        minor: the minor version, 0 or 1.
        length: body bytes, CHUNKED or UNTIL_CLOSE; what HEAD, 1xx, 204 and 304 mean for it is applied.
        content_length: the Content-Length value whether or not a body follows (HEAD, 304), None without one.
        close: whether the upstream ends the connection after this answer.
        dropped: folded names that Connection declared hop-by-hop.
        filtered: its lines do not all go on as they are: Connection names some, or a Trailer announces some.
    """

    __slots__ = ("close", "content_length", "dropped", "filtered", "length", "minor", "reason", "status")

    def __init__(
        self,
        minor: int,
        status: int,
        reason: bytes,
        plain: bytes,
        special: fields.Headers,
        meaning: tuple[int, int | None, bool, frozenset[bytes], bool],
    ) -> None:
        super().__init__(plain, special)
        self.minor = minor
        self.status = status
        self.reason = reason
        self.length, self.content_length, self.close, self.dropped, self.filtered = meaning

    def changed(self, status: int, headers: fields.Headers) -> ResponseHead:
        """The same with another status, and with these for the fields that mean nothing to a proxy."""
        plain = b"".join([fields.line_of(*pair) for pair in headers if fields.kind(pair[0]) not in _OWN])
        meaning = (0, None, self.close, frozenset[bytes](), False)
        reason = self.reason if status == self.status else b""
        return ResponseHead(self.minor, status, reason, plain, self.special, meaning)


_OWN: Final = frozenset(
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


class ResponseParser:
    """Reads whole response heads, one after the other."""

    def __init__(self) -> None:
        self._complete = False
        self._parser: httptools.HttpResponseParser | None = None

    def on_headers_complete(self) -> None:
        """Called by httptools."""
        self._complete = True

    def parse(self, head: bytes, method: str) -> ResponseHead:
        """Read one head, the answer to a request of `method`.

        Raises:
            BadMessageError: for anything that RFC 9112 does not allow.
        """
        self._complete = False
        parser, self._parser = self._parser, None
        if parser is not None:
            try:
                parser.feed_data(head)
            except httptools.HttpParserUpgrade:
                pass
            except httptools.HttpParserError:
                # An answer before may have ended the parser: to it, `Proxy-Connection: close` ends a connection.
                parser = None
                self._complete = False
        if parser is None:
            parser = httptools.HttpResponseParser(self)
            try:
                parser.feed_data(head)
            except httptools.HttpParserUpgrade:
                pass
            except httptools.HttpParserError as error:
                raise BadMessageError(f"malformed answer: {error}") from None
        if not self._complete:
            raise BadMessageError("malformed response head")
        if len(head) > 4 * _MAX_HEADERS and head.count(b"\n") - 2 > _MAX_HEADERS:
            raise BadMessageError("too many headers in the answer")
        line, plain, special = fields.split_response(head)
        minor, status, reason = _status_line(line)
        interpret = _interpret if len(head) <= _MAX_REMEMBERED else _interpret.__wrapped__
        response = ResponseHead(minor, status, reason, plain, special, interpret(tuple(special), minor))
        if method == "HEAD" or status < 200 or status in _BODILESS:
            response.length = 0
        elif response.length == UNTIL_CLOSE:
            response.close = True
        elif 0 < response.length <= _SHORT_BODY and not response.close:
            # The parser waits for the body, which our own decoder reads. Bytes in its place cost less than a new parser.
            parser.feed_data(_ANY_BYTES[: response.length])
            self._parser = parser
        return response


@remembered(1024)
def _status_line(line: bytes) -> tuple[int, int, bytes]:
    """Minor version, status and reason phrase."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise BadMessageError("malformed status line")
    return int(match[1]), int(match[2]), match[3] or b""


@lru_cache(maxsize=4096)
def _interpret(
    special: tuple[tuple[bytes, bytes], ...], minor: int
) -> tuple[int, int | None, bool, frozenset[bytes], bool]:
    """What the special fields of an answer with a body say, in the order of ResponseHead. Asked once for each."""
    connection: frozenset[bytes] = frozenset()
    encodings: list[bytes] = []
    content_length: int | None = None
    announces = False
    for name, value in special:
        what = fields.kind(name)
        if what == fields.CONTENT_LENGTH:
            if content_length is not None:
                raise BadMessageError("more than one Content-Length in the answer")
            content_length = fields.content_length(value)
        elif what == fields.TRANSFER_ENCODING:
            encodings.append(value)
        elif what == fields.CONNECTION:
            connection |= fields.connection_options(value)
        elif what == fields.TRAILER:
            announces = True
        elif what == fields.UNDERSCORED_FRAMING:
            raise BadMessageError("a framing header's name is spelled with '_'")
    length = UNTIL_CLOSE if content_length is None else content_length
    if encodings:
        if content_length is not None:
            raise BadMessageError("Content-Length beside Transfer-Encoding in the answer")
        if minor == 0:
            raise BadMessageError("Transfer-Encoding in an HTTP/1.0 answer")
        if len(encodings) != 1 or encodings[0].strip(b" \t").lower() != b"chunked":
            raise BadMessageError("Transfer-Encoding of the answer is not exactly one 'chunked'")
        length = CHUNKED
    close = b"close" in connection or (minor == 0 and b"keep-alive" not in connection)
    dropped = fields.dropped_fields(connection)
    return length, content_length, close, dropped, announces or bool(dropped)
