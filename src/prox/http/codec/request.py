"""A client's request head, read strictly.

httptools splits the head; what it lets through and the RFCs refuse is refused here: the exact form of the request
line, the version, Host, and everything that frames the body. `RequestParser.parse` takes one whole head, so it keeps
nothing between messages and one parser serves all connections of a process.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NoReturn

import httptools

from . import fields
from .errors import BadMessageError
from .fields import Headers
from .target import HOST_PATTERN

CHUNKED: Final = -1
"""The `length` of a body whose end is marked by its last chunk."""

# The IANA method registry, as far as httptools reads it; CONNECT is read and answered by the connection.
METHODS: Final[dict[bytes, str]] = {
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

HOPPING: Final = frozenset({"OPTIONS", "TRACE"})
"""The methods whose Max-Forwards counts (RFC 9110 section 7.6.2)."""

_MAX_REMEMBERED: Final = 4096

_MOST_HOPS: Final = 9
"""Digits of a Max-Forwards that are counted."""

_UPGRADE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:/[!#$%&'*+\-.^_`|~0-9A-Za-z]+)?")
_NEVER_UPGRADED: Final = re.compile(rb"(?i:h2|h3|http|tls)(?![A-Za-z])|(?i:h2c)")

_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")


class Rare:
    """What the special fields of few requests say.

    Attributes:
        trailers: the client takes trailer fields, and may send some (RFC 9110 section 10.1.4).
        announced: the values of Trailer, joined.
        max_forwards: the value of Max-Forwards.
        hops: the same as a number: how often the request may be forwarded, -1 where it does not say.
        upgrade: tokens of Upgrade that may be forwarded, joined; b"" for none (see `upgrades`).
        extended: it came as an extended CONNECT (RFC 8441), which `upgrade` is the `:protocol` of.
    """

    __slots__ = ("announced", "extended", "hops", "max_forwards", "trailers", "upgrade")

    def __init__(self) -> None:
        self.trailers = False
        self.announced = b""
        self.max_forwards = b""
        self.hops = -1
        self.upgrade = b""
        self.extended = False


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
        "rare",
    )

    def __init__(self, minor: int) -> None:
        self.host: bytes | None = None
        self.length = 0
        self.has_length = False
        self.close = minor == 0
        self.expects_continue = False
        self.dropped: frozenset[bytes] = frozenset()
        self.forwarded_for = b""
        self.rare: Rare | None = None


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
        rare: what few requests say, None where this one says nothing of it; always there for CONNECT.
    """

    __slots__ = (
        "close",
        "dropped",
        "expects_continue",
        "forwarded_for",
        "has_length",
        "host_header",
        "length",
        "method",
        "minor",
        "rare",
        "request_target",
    )

    def __init__(
        self,
        method: str,
        request_target: bytes,
        minor: int,
        plain: bytes,
        special: Headers,
        meaning: _Meaning,
    ) -> None:
        super().__init__(plain, special)
        self.method = method
        self.request_target = request_target
        self.minor = minor
        self.host_header = meaning.host
        self.length = meaning.length
        self.has_length = meaning.has_length
        self.close = meaning.close
        self.expects_continue = meaning.expects_continue
        self.dropped = meaning.dropped
        self.forwarded_for = meaning.forwarded_for
        self.rare = meaning.rare


class RequestParser:
    """Reads whole request heads, one after the other."""

    def __init__(self) -> None:
        self._complete = False
        self._parser: httptools.HttpRequestParser
        self._renew()

    def on_headers_complete(self) -> None:
        """Called by httptools."""
        self._complete = True

    def parse(self, head: bytes, max_headers: int = 100) -> RequestHead:
        """Read one head, from its request line to its empty line.

        Raises:
            BadMessageError: with the status that the client deserves.
        """
        self._complete = False
        try:
            self._feed(head)
        except httptools.HttpParserError as error:
            self._renew()
            _request_line(head[: head.find(b"\r\n")])  # may know better
            if _has_unknown_coding(head):
                raise BadMessageError("transfer coding not implemented", 501, "transfer_coding") from None
            raise BadMessageError(f"malformed request: {error}") from None
        try:
            line, plain, special = fields.split_request(head)
            method, target, minor = _request_line(line)
            interpret = _interpret if len(head) <= _MAX_REMEMBERED else _interpret.__wrapped__
            meaning = interpret(tuple(special), minor)
            if not self._complete:
                _refuse("malformed request head")
            if head.count(b"\n") - 2 > max_headers:
                _refuse("too many headers", 431, "header_count")
        except BadMessageError:
            self._renew()
            raise
        request = RequestHead(method, target, minor, plain, special, meaning)
        if request.length or request.close:
            # The parser waits for a body that our own decoder reads, or takes no more after the last message of a
            # connection: the next head needs a new one.
            self._renew()
            if method == "TRACE" and request.length:
                _refuse("TRACE with content")  # RFC 9110 section 9.3.8
        return request

    def _feed(self, head: bytes) -> None:
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._renew()
        except httptools.HttpParserError:
            # A message before may have ended the parser: to it, `Proxy-Connection: close` ends a connection.
            self._renew()
            self._complete = False
            try:
                self._parser.feed_data(head)
            except httptools.HttpParserUpgrade:
                self._renew()

    def _renew(self) -> None:
        self._parser = httptools.HttpRequestParser(self)


def made_head(method: str, target: bytes, plain: bytes, special: Headers) -> RequestHead:
    """A head that came in another form than HTTP/1.1's, told as one of HTTP/1.1.

    Args:
        method: registered method.
        target: the request target.
        plain: lines that mean nothing to a proxy, see Fields; checked.
        special: the other fields, Host among them.

    Raises:
        BadMessageError: with the status that the client deserves.
    """
    size = 0
    for _, value in special:
        size += len(value)
    interpret = _interpret if size <= _MAX_REMEMBERED else _interpret.__wrapped__
    return RequestHead(method, target, 1, plain, special, interpret(tuple(special), 1))


def _refuse(message: str, status: int = 400, reason: str = "malformed") -> NoReturn:
    raise BadMessageError(message, status, reason)


def _request_line(line: bytes) -> tuple[str, bytes, int]:
    """Method, target and minor version; one space between them and no other (RFC 9112 section 3)."""
    try:
        method, target, version = line.split(b" ")
    except ValueError:
        raise BadMessageError("malformed request line") from None
    if version == b"HTTP/1.1":
        minor = 1
    elif version == b"HTTP/1.0":
        minor = 0
    elif _VERSION.fullmatch(version):
        raise BadMessageError("HTTP version not supported", 505, "version")
    else:
        raise BadMessageError("malformed HTTP version")
    # All else that a target may not hold is refused by httptools; to it, `GET /` with a bare LF is a whole line of HTTP/0.9,
    # and `a:b HTTP/1.1` behind it a field.
    if b"#" in target:
        raise BadMessageError("a fragment in the request target")
    if b"\n" in target:
        raise BadMessageError("bare LF in the head")
    name = METHODS.get(method)
    if name is None:
        if not fields.is_token(method):
            raise BadMessageError("malformed method")
        raise BadMessageError("method not implemented", 501, "unknown_method")
    return name, target, minor


@lru_cache(maxsize=1024)
def _interpret(special: tuple[tuple[bytes, bytes], ...], minor: int) -> _Meaning:
    """What these fields say. Requests of a client, and of most clients of a service, say the same: asked once."""
    meaning = _Meaning(minor)
    connection: frozenset[bytes] = frozenset()
    hosts = 0
    encodings: list[bytes] = []
    upgrade: list[bytes] = []
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
        elif what == fields.UPGRADE:
            upgrade += upgrades(value)
        elif what == fields.FORWARDED_FOR:
            meaning.forwarded_for += b", " + value if meaning.forwarded_for else value
        elif what == fields.EXPECT:
            meaning.expects_continue = _expectation(value) and minor == 1
        elif what == fields.UNDERSCORED_FRAMING:
            raise BadMessageError("a framing header's name is spelled with '_'")
        elif what in {fields.TE, fields.TRAILER, fields.MAX_FORWARDS}:
            meaning.rare = meaning.rare or Rare()
            _interpret_rare(meaning.rare, what, value, minor)
    _check_host(meaning.host, hosts, minor)
    if encodings:
        _check_encoding(encodings, minor, has_length=meaning.has_length)
        meaning.length = CHUNKED
    if upgrade and b"upgrade" in connection and minor == 1 and not meaning.length:
        meaning.rare = meaning.rare or Rare()
        meaning.rare.upgrade = b", ".join(upgrade)
    meaning.dropped = fields.dropped_fields(connection)
    if b"close" in connection:
        meaning.close = True
    elif minor == 0 and b"keep-alive" in connection:
        meaning.close = False
    return meaning


def upgrades(value: bytes) -> list[bytes]:
    """The members of an Upgrade value that may go on (RFC 9110 section 7.8).

    Not another version of HTTP, which would carry requests past routes and guards, and not TLS, which is between two hops.
    """
    members = [member.strip(b" \t") for member in value.split(b",")]
    return [member for member in members if _UPGRADE.fullmatch(member) and not _NEVER_UPGRADED.match(member)]


def _interpret_rare(rare: Rare, what: int, value: bytes, minor: int) -> None:
    if what == fields.TE:
        # Not asked whether Connection names TE too, as it must: what it loses where it doesn't is trailers alone.
        rare.trailers = rare.trailers or (minor == 1 and b"trailers" in fields.list_members(value))
    elif what == fields.TRAILER:
        rare.announced += b", " + value if rare.announced else value
    else:
        value = value.strip(b" \t")
        if rare.max_forwards or not value.isdigit():
            raise BadMessageError("invalid Max-Forwards")
        rare.max_forwards = value
        rare.hops = int(value) if len(value) <= _MOST_HOPS else 10**_MOST_HOPS


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


def check_authority(request: RequestHead, authority: bytes) -> None:
    """What a request for a proxy, with an absolute URL or CONNECT, must keep to; `authority` is what its target names.

    Host must repeat it, since that is what routes and guards go by (RFC 9112 sections 3.2.2 and 3.2.3); to CONNECT many
    clients say it without the port. CONNECT has no content (RFC 9110 section 9.3.6).

    Raises:
        BadMessageError: it does not.
    """
    host = request.host_header
    if request.method == "CONNECT":
        if request.length:
            raise BadMessageError("CONNECT with content")
        request.rare = Rare()  # none of its other fields means anything to it; the one there may be shared
        if host is not None and host.lower() not in {
            authority.lower(),
            authority.lower().rpartition(b":")[0],
        }:
            raise BadMessageError("Host differs from what CONNECT names")
    elif host is not None and host.lower() != authority.lower():
        raise BadMessageError("Host differs from the absolute URL")


def _expectation(value: bytes) -> bool:
    if value.strip(b" \t").lower() == b"100-continue":
        return True
    raise BadMessageError("expectation failed", 417, "expectation")
