"""An upstream's response head, read strictly: whatever is wrong here is answered with 502 by the caller."""

from __future__ import annotations

import re
from functools import lru_cache

import httptools

from prox.remembered import remembered

from . import fields
from .errors import BadMessageError

CHUNKED = -1
UNTIL_CLOSE = -2
"""Values of `length` beside a number of bytes."""

_MAX_HEADERS = 1000
_MAX_REMEMBERED = 4096
_BODILESS = frozenset({204, 304})
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")


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
    """

    status: int
    reason: bytes
    minor: int
    length: int
    content_length: int | None
    close: bool
    dropped: frozenset[bytes]


class ResponseParser:
    """Reads whole response heads, one after the other."""

    def __init__(self) -> None:
        self._complete = False

    def on_headers_complete(self) -> None:
        """Called by httptools."""
        self._complete = True

    def parse(self, head: bytes, method: str) -> ResponseHead:
        """Read one head, the answer to a request of `method`.

        Raises:
            BadMessageError: for anything that RFC 9112 does not allow.
        """
        response = ResponseHead()
        self._complete = False
        try:
            # A new one each time: the last one may still wait for a body, which our own decoder read.
            httptools.HttpResponseParser(self).feed_data(head)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            raise BadMessageError(f"malformed answer: {error}") from None
        if not self._complete:
            raise BadMessageError("malformed response head")
        if head.count(b"\r\n") - 2 > _MAX_HEADERS:
            raise BadMessageError("too many headers in the answer")
        response.minor, status, response.reason = _status_line(fields.split_response(head, response))
        response.status = status
        interpret = _interpret if len(head) <= _MAX_REMEMBERED else _interpret.__wrapped__
        meaning = interpret(tuple(response.special), response.minor)
        length, response.content_length, response.close, response.dropped = meaning
        if method == "HEAD" or status < 200 or status in _BODILESS:
            length = 0
        elif length == UNTIL_CLOSE:
            response.close = True
        response.length = length
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
) -> tuple[int, int | None, bool, frozenset[bytes]]:
    """What the special fields of an answer with a body say: length, content_length, close, dropped. Asked once for each."""
    connection: frozenset[bytes] = frozenset()
    encodings: list[bytes] = []
    content_length: int | None = None
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
    return length, content_length, close, fields.dropped_fields(connection)
