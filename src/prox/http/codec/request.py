"""A client's request head, read strictly.

httptools splits the head; what it lets through and the RFCs refuse is refused here: the exact form of the request
line, the version, Host, and everything that frames the body. `RequestParser.parse` takes one whole head, so it keeps
nothing between messages and one parser serves all connections of a process.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Generic, NoReturn, TypeVar

import httptools

from . import fields
from .errors import BadMessageError
from .target import HOST_PATTERN

CHUNKED = -1
"""The `length` of a body whose end is marked by its last chunk."""

# The IANA method registry, as far as httptools reads it; CONNECT is read and answered by the connection.
METHODS: dict[bytes, str] = {
    name.encode(): name
    for name in [
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "DELETE",
        "OPTIONS",
        "PATCH",
        "TRACE",
        "CONNECT",
        "ACL",
        "BIND",
        "CHECKOUT",
        "COPY",
        "LINK",
        "LOCK",
        "MERGE",
        "MKACTIVITY",
        "MKCALENDAR",
        "MKCOL",
        "MOVE",
        "PROPFIND",
        "PROPPATCH",
        "QUERY",
        "REBIND",
        "REPORT",
        "SEARCH",
        "UNBIND",
        "UNLINK",
        "UNLOCK",
    ]
}

_MAX_REMEMBERED = 4096

_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")


class RequestHead(fields.Fields):
    """One request's head.

    Attributes:
        method: registered method, upper case.
        request_target: as it was sent.
        minor: the minor version, 0 or 1.
        host_header: the Host value, None where an HTTP/1.0 client sent none.
        length: body bytes to come, 0 for none, CHUNKED for a chunked body.
        has_length: whether a Content-Length was there (0 is said too).
        close: whether the connection ends after this exchange.
        expects_continue: whether the client waits for 100 before it sends the body.
        dropped: folded names that Connection declared hop-by-hop.
        forwarded_for: the X-Forwarded-For values, joined.
    """

    method: str
    request_target: bytes
    minor: int
    host_header: bytes | None = None
    length: int = 0
    has_length: bool = False
    close: bool = False
    expects_continue: bool = False
    dropped: frozenset[bytes] = frozenset()
    forwarded_for: bytes = b""


Head = TypeVar("Head", bound=RequestHead)


class RequestParser(Generic[Head]):
    """Reads whole request heads, one after the other.

    Args:
        make: makes the object that a head's attributes are set on, so that a connection's exchange is its own head.
    """

    def __init__(self, make: Callable[[], Head]) -> None:
        self._make = make
        self._complete = False
        self._parser: httptools.HttpRequestParser
        self._renew()

    def on_headers_complete(self) -> None:
        """Called by httptools."""
        self._complete = True

    def parse(self, head: bytes, max_headers: int = 100) -> Head:
        """Read one head, from its request line to its empty line.

        Raises:
            BadMessageError: with the status that the client deserves.
        """
        request = self._make()
        self._complete = False
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._renew()
        except httptools.HttpParserError as error:
            self._renew()
            _request_line(request, head[: head.find(b"\r\n")])  # may know better
            if _has_unknown_coding(head):
                raise BadMessageError("transfer coding not implemented", 501, "transfer_coding") from None
            raise BadMessageError(f"malformed request: {error}") from None
        try:
            _request_line(request, fields.split_request(head, request))
            interpret = _interpret if len(head) <= _MAX_REMEMBERED else _interpret.__wrapped__
            meaning = interpret(tuple(request.special), request.minor)
            if not self._complete:
                _refuse("malformed request head")
            if head.count(b"\r\n") - 2 > max_headers:
                _refuse("too many headers", 431, "header_count")
        except BadMessageError:
            self._renew()
            raise
        request.host_header = meaning.host
        request.close = meaning.close
        if not meaning.usual:
            request.length = meaning.length
            request.has_length = meaning.has_length
            request.expects_continue = meaning.expects_continue
            request.dropped = meaning.dropped
            request.forwarded_for = meaning.forwarded_for
        if request.length or request.close:
            # The parser waits for a body that our own decoder reads, or takes no more after the last message of a
            # connection: the next head needs a new one.
            self._renew()
        return request

    def _renew(self) -> None:
        self._parser = httptools.HttpRequestParser(self)


def _refuse(message: str, status: int = 400, reason: str = "malformed") -> NoReturn:
    raise BadMessageError(message, status, reason)


def _request_line(request: RequestHead, line: bytes) -> None:
    """Method, target and version; one space between them and no other (RFC 9112 section 3)."""
    try:
        method, target, version = line.split(b" ")
    except ValueError:
        raise BadMessageError("malformed request line") from None
    if version == b"HTTP/1.1":
        request.minor = 1
    elif version == b"HTTP/1.0":
        request.minor = 0
    elif _VERSION.fullmatch(version):
        raise BadMessageError("HTTP version not supported", 505, "version")
    else:
        raise BadMessageError("malformed HTTP version")
    if b"#" in target:  # all else that a target may not hold is refused by httptools
        raise BadMessageError("a fragment in the request target")
    name = METHODS.get(method)
    if name is None:
        if not fields.is_token(method):
            raise BadMessageError("malformed method")
        raise BadMessageError("method not implemented", 501, "unknown_method")
    request.method = name
    request.request_target = target


class _Meaning:
    """What the special fields of a request say; shared by requests that say the same."""

    __slots__ = (
        "close",
        "dropped",
        "expects_continue",
        "forwarded_for",
        "has_length",
        "host",
        "length",
        "usual",
    )

    def __init__(self, minor: int) -> None:
        self.host: bytes | None = None
        self.length = 0
        self.has_length = False
        self.close = minor == 0
        self.expects_continue = False
        self.dropped: frozenset[bytes] = frozenset()
        self.forwarded_for = b""
        self.usual = True


@lru_cache(maxsize=1024)
def _interpret(special: tuple[tuple[bytes, bytes], ...], minor: int) -> _Meaning:
    """What these fields say. Requests of a client, and of most clients of a service, say the same: asked once."""
    meaning = _Meaning(minor)
    connection: frozenset[bytes] = frozenset()
    hosts = 0
    encodings: list[bytes] = []
    for name, value in special:
        what = fields.kind(name)
        if what == fields.HOST:
            hosts += 1
            meaning.host = value.strip(b" \t")
        elif what == fields.CONNECTION:
            connection |= fields.connection_options(value)
        elif what == fields.CONTENT_LENGTH:
            if meaning.has_length:
                raise BadMessageError("more than one Content-Length")
            meaning.has_length = True
            meaning.length = fields.content_length(value)
        elif what == fields.TRANSFER_ENCODING:
            encodings.append(value)
        elif what == fields.FORWARDED_FOR:
            meaning.forwarded_for += b", " + value if meaning.forwarded_for else value
        elif what == fields.EXPECT:
            meaning.expects_continue = _expectation(value) and minor == 1
        elif what == fields.UNDERSCORED_FRAMING:
            raise BadMessageError("a framing header's name is spelled with '_'")
    _check_host(meaning.host, hosts, minor)
    if encodings:
        _check_encoding(encodings, minor, has_length=meaning.has_length)
        meaning.length = CHUNKED
    meaning.dropped = fields.dropped_fields(connection)
    if b"close" in connection:
        meaning.close = True
    elif minor == 0 and b"keep-alive" in connection:
        meaning.close = False
    framed = meaning.has_length or meaning.length
    meaning.usual = not (framed or meaning.expects_continue or meaning.dropped or meaning.forwarded_for)
    return meaning


def _check_host(host: bytes | None, hosts: int, minor: int) -> None:
    if hosts > 1:
        raise BadMessageError("more than one Host")
    if host is None:
        if minor == 1:
            raise BadMessageError("no Host")
    elif HOST_PATTERN.fullmatch(host) is None:
        raise BadMessageError("invalid Host")


def _check_encoding(encodings: list[bytes], minor: int, *, has_length: bool) -> None:
    """Exactly one `chunked`, alone, on HTTP/1.1 (RFC 9112 sections 6.1 and 6.3)."""
    if has_length:
        raise BadMessageError("Content-Length beside Transfer-Encoding")
    if minor == 0:
        raise BadMessageError("Transfer-Encoding on HTTP/1.0")
    if len(encodings) == 1 and encodings[0].strip(b" \t").lower() == b"chunked":
        return
    if _is_unknown_coding(b",".join(encodings)):
        raise BadMessageError("transfer coding not implemented", 501, "transfer_coding")
    raise BadMessageError("Transfer-Encoding must be exactly one 'chunked'")


def _is_unknown_coding(value: bytes) -> bool:
    """Whether a Transfer-Encoding names a coding that prox does not know: that is 501 (RFC 9112 section 6.1)."""
    names = [coding.split(b";")[0].strip(b" \t") for coding in fields.list_members(value)]
    return any(fields.is_token(name) and name not in {b"chunked", b"identity"} for name in names)


def _has_unknown_coding(head: bytes) -> bool:
    """The same of a head that httptools refused."""
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    return any(name.lower() == b"transfer-encoding" and _is_unknown_coding(value) for name, _, value in lines)


def _expectation(value: bytes) -> bool:
    if value.strip(b" \t").lower() == b"100-continue":
        return True
    raise BadMessageError("expectation failed", 417, "expectation")
