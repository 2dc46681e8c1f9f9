"""Field sections of HTTP/2 messages, checked before anything is made of them (RFC 9113 sections 8.2 and 8.3).

HTTP/2 carries bytes that would end a line, a request or a body in HTTP/1.1. A message that has such bytes, fields that speak
of a connection, or pseudo-fields that do not fit is malformed: its stream is reset, and no part of it goes anywhere.
"""

from __future__ import annotations

import re
from typing import Final

from prox.http.codec import fields as h1
from prox.http.codec.errors import BadMessageError
from prox.http.codec.target import HOST_PATTERN
from prox.remembered import remembered

from .errors import StreamError

Pairs = list[tuple[bytes, bytes]]

UNKNOWN: Final = -1
"""The `length` of a message that does not say it."""

_MAX_FIELDS: Final = 1000

# What `_meaning` answers; ORDINARY is falsy: the common case is one test.
_ORDINARY: Final = 0
_HOST: Final = 1
_LENGTH: Final = 2
_COOKIE: Final = 3
_TE: Final = 4
_PSEUDO: Final = 5
_CONNECTION: Final = 6
_BAD: Final = 7

_MEANINGS: Final = {
    b"host": _HOST,
    b"content-length": _LENGTH,
    b"cookie": _COOKIE,
    b"te": _TE,
    b"connection": _CONNECTION,
    b"keep-alive": _CONNECTION,
    b"proxy-connection": _CONNECTION,
    b"transfer-encoding": _CONNECTION,
    b"upgrade": _CONNECTION,
}
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_IN_PATH: Final = re.compile(rb"[\x00-\x20\x7f-\xff#]")


class RequestFields:
    """A request's field section.

    Attributes:
        method: a token, not only a registered one.
        scheme: `http` or `https`; b"" for plain CONNECT.
        authority: of `:authority`, or of Host where there is none; `host:port` for CONNECT; may be b"" otherwise.
        path: from the first `/`, or `*` for OPTIONS; b"" for plain CONNECT.
        protocol: of extended CONNECT (RFC 8441), else b"".
        length: of Content-Length, UNKNOWN without one.
        fields: all others in order, without pseudo-fields and Host; those named cookie are one.
    """

    __slots__ = ("authority", "fields", "length", "method", "path", "protocol", "scheme")

    def __init__(self) -> None:
        self.method = b""
        self.scheme = b""
        self.authority = b""
        self.path = b""
        self.protocol = b""
        self.length = UNKNOWN
        self.fields: Pairs = []


class ResponseFields:
    """An answer's field section.

    Attributes:
        status: 100 to 599, but not 101, which HTTP/2 has not.
        length: of Content-Length, UNKNOWN without one.
        fields: all fields in order, without pseudo-fields.
    """

    __slots__ = ("fields", "length", "status")

    def __init__(self, status: int) -> None:
        self.status = status
        self.length = UNKNOWN
        self.fields: Pairs = []


def request_fields(pairs: Pairs, *, connect_protocol: bool = False) -> RequestFields:
    """Check a request's fields. `connect_protocol`: we have announced extended CONNECT.

    Raises:
        StreamError: where the request is malformed.
    """
    request = RequestFields()
    has_scheme = has_authority = has_path = False
    begun = 0
    for name, value in pairs:
        if name[:1] != b":":
            break
        begun += 1
        if name == b":method":
            if request.method or not h1.is_token(value):
                raise StreamError("invalid :method")
            request.method = value
        elif name == b":path":
            if has_path:
                raise StreamError(":path twice")
            has_path = True
            request.path = value
        elif name == b":scheme":
            if has_scheme:
                raise StreamError(":scheme twice")
            has_scheme = True
            request.scheme = value.lower()
        elif name == b":authority":
            if has_authority:
                raise StreamError(":authority twice")
            has_authority = True
            request.authority = value
        elif name == b":protocol" and connect_protocol:
            if request.protocol or not h1.is_token(value):
                raise StreamError("invalid :protocol")
            request.protocol = value
        else:
            raise StreamError("unknown pseudo-field")
    host = _ordinary(pairs, begun, request)
    if request.method == b"CONNECT" and not request.protocol:
        if has_scheme or has_path:
            raise StreamError("CONNECT has neither :scheme nor :path")
        if not has_authority:
            raise StreamError("CONNECT needs :authority")
        _check_tunnel(request.authority)
    else:
        if request.protocol and request.method != b"CONNECT":
            raise StreamError(":protocol is for CONNECT")
        if not request.method or not has_scheme or not has_path:
            raise StreamError("a pseudo-field is missing")
        if request.protocol and not has_authority:
            raise StreamError("extended CONNECT needs :authority")
        if request.scheme not in {b"http", b"https"}:
            raise StreamError("unknown :scheme")
        if request.path[:1] != b"/" and (request.path != b"*" or request.method != b"OPTIONS"):
            raise StreamError("invalid :path")
        if _NOT_IN_PATH.search(request.path) is not None:
            raise StreamError("invalid :path")
    if has_authority and not _is_host(request.authority):
        raise StreamError("invalid :authority")
    if host is not None:
        if has_authority and host != request.authority:
            raise StreamError("Host differs from :authority")
        if not _is_host(host):
            raise StreamError("invalid Host")
        request.authority = host
    return request


def response_fields(pairs: Pairs) -> ResponseFields:
    """Check an answer's fields.

    Raises:
        StreamError: where the answer is malformed.
    """
    if not pairs or pairs[0][0] != b":status":
        raise StreamError(":status is missing")
    status = pairs[0][1]
    if len(status) != 3 or not status.isdigit() or not 100 <= int(status) <= 599 or status == b"101":
        raise StreamError("invalid :status")
    response = ResponseFields(int(status))
    kept = response.fields
    for index in range(1, len(pairs)):
        pair = pairs[index]
        name, value = pair
        meaning = _meaning(name)
        if meaning >= _TE:
            raise _fault(meaning)
        if meaning == _LENGTH:
            if response.length != UNKNOWN:
                raise StreamError("more than one Content-Length")
            response.length = _length(value)
        kept.append(pair)
    _check_values(kept)
    return response


def trailer_fields(pairs: Pairs) -> Pairs:
    """Check a trailer section; returns it.

    Raises:
        StreamError: where it is malformed; a pseudo-field is (RFC 9113 section 8.1).
    """
    for name, _ in pairs:
        meaning = _meaning(name)
        if meaning >= _TE:
            raise _fault(meaning)
    _check_values(pairs)
    return pairs


def _ordinary(pairs: Pairs, begin: int, request: RequestFields) -> bytes | None:
    """Check and take the fields behind the pseudo-fields; returns Host."""
    host: bytes | None = None
    cookies: list[bytes] | None = None
    place = 0
    kept = request.fields
    for index in range(begin, len(pairs)):
        pair = pairs[index]
        name, value = pair
        meaning = _meaning(name)
        if meaning == _ORDINARY:
            kept.append(pair)
        elif meaning == _COOKIE:
            if cookies is None:
                cookies = [value]
                place = len(kept)
                kept.append(pair)
            else:
                cookies.append(value)
        elif meaning == _LENGTH:
            if request.length != UNKNOWN:
                raise StreamError("more than one Content-Length")
            request.length = _length(value)
            kept.append(pair)
        elif meaning == _HOST:
            if host is not None:
                raise StreamError("Host twice")
            host = value
        elif meaning == _TE and value == b"trailers":
            kept.append(pair)
        else:
            raise _fault(meaning)
    if cookies is not None and len(cookies) > 1:
        kept[place] = (b"cookie", b"; ".join(cookies))  # RFC 9113 section 8.2.3
    _check_values(kept)
    return host


def _check_values(pairs: Pairs) -> None:
    """No control character, no blank at an end (RFC 9113 section 8.2.1)."""
    if len(pairs) > _MAX_FIELDS:
        raise StreamError("too many fields")
    values = [value for _, value in pairs]
    for value in values:
        if value and (value[0] == 32 or value[0] == 9 or value[-1] == 32 or value[-1] == 9):
            raise StreamError("a field's value begins or ends with a blank")
    if _CONTROL.search(b" ".join(values)) is not None:
        raise StreamError("a field's value has a control character")


@remembered(1024)
def _meaning(name: bytes) -> int:
    found = _MEANINGS.get(name, _ORDINARY)
    if found != _ORDINARY:
        return found
    if name[:1] == b":":
        return _PSEUDO
    if _NAME.fullmatch(name) is None or h1.kind(name) == h1.UNDERSCORED_FRAMING:
        return _BAD
    return _ORDINARY


def _fault(meaning: int) -> StreamError:
    if meaning == _PSEUDO:
        return StreamError("a pseudo-field behind others")
    if meaning == _TE:
        return StreamError("TE is not 'trailers'")
    if meaning == _CONNECTION:
        return StreamError("a field that speaks of the connection")
    return StreamError("invalid field name")


def _length(value: bytes) -> int:
    if value[:1] in {b" ", b"\t"} or value[-1:] in {b" ", b"\t"}:
        raise StreamError("invalid Content-Length")
    try:
        return h1.content_length(value)
    except BadMessageError:
        raise StreamError("invalid Content-Length") from None


@remembered(1024)
def _is_host(value: bytes) -> bool:
    """Host and port, without user information (RFC 9113 section 8.3.1); empty where a URI's authority is."""
    return HOST_PATTERN.fullmatch(value) is not None


def _check_tunnel(authority: bytes) -> None:
    host, _, port = authority.rpartition(b":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise StreamError("CONNECT needs host:port")
