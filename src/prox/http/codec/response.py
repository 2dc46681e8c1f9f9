"""An upstream's response head, read strictly: whatever is wrong here is answered with 502 by the caller."""

from __future__ import annotations

import re
from functools import lru_cache

import httptools

from . import fields
from .errors import BadMessageError

CHUNKED = -1
UNTIL_CLOSE = -2
"""Values of `length` beside a number of bytes."""

_MAX_HEADERS = 1000
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
    length: int = UNTIL_CLOSE
    content_length: int | None = None
    close: bool = False
    dropped: frozenset[bytes] = frozenset()


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
        response.minor, response.status, response.reason = _status_line(fields.split_head(head, response))
        _interpret(response, method)
        return response


@lru_cache(maxsize=1024)
def _status_line(line: bytes) -> tuple[int, int, bytes]:
    """Minor version, status and reason phrase."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise BadMessageError("malformed status line")
    return int(match[1]), int(match[2]), match[3] or b""


def _interpret(response: ResponseHead, method: str) -> None:
    connection: frozenset[bytes] | None = None
    encodings: list[bytes] | None = None
    if not response.minor:
        response.close = True
    for name, value in response.special:
        what = fields.kind(name)
        if what == fields.CONTENT_LENGTH:
            if response.content_length is not None:
                raise BadMessageError("more than one Content-Length in the answer")
            response.content_length = response.length = fields.content_length(value)
        elif what == fields.TRANSFER_ENCODING:
            encodings = [*(encodings or ()), value]
        elif what == fields.CONNECTION:
            options = fields.connection_options(value)
            connection = options if connection is None else connection | options
        elif what == fields.UNDERSCORED_FRAMING:
            raise BadMessageError("a framing header's name is spelled with '_'")
    if encodings is not None:
        if response.content_length is not None:
            raise BadMessageError("Content-Length beside Transfer-Encoding in the answer")
        if response.minor == 0:
            raise BadMessageError("Transfer-Encoding in an HTTP/1.0 answer")
        if len(encodings) != 1 or encodings[0].strip(b" \t").lower() != b"chunked":
            raise BadMessageError("Transfer-Encoding of the answer is not exactly one 'chunked'")
        response.length = CHUNKED
    if connection is not None:
        response.dropped = fields.dropped_fields(connection)
        if b"close" in connection:
            response.close = True
        elif b"keep-alive" in connection:
            response.close = False
    status = response.status
    if method == "HEAD" or status < 200 or status in {204, 304}:
        response.length = 0
    elif response.length == UNTIL_CLOSE:
        response.close = True
