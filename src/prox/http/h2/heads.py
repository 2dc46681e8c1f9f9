"""Heads between HTTP/2 fields and what the rest of prox knows: the same objects that HTTP/1.1 gives.

A request's fields become the lines and pairs of a `RequestHead`, an answer's lines become fields. Nothing goes over that
HTTP/1.1 would not let through: `codec.h2.fields` has refused it before. What a client's requests have in common is worked
out once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from prox.http.codec import fields
from prox.http.codec.errors import BadMessageError
from prox.http.codec.fields import Headers
from prox.http.codec.h2.errors import StreamError
from prox.http.codec.h2.fields import UNKNOWN, request_fields, trailer_fields
from prox.http.codec.request import CHUNKED, METHODS, Rare, RequestHead, made_head, upgrades
from prox.http.codec.target import Target, decode_path, parse_target, split_host
from prox.http.limits import Limits
from prox.remembered import remembered

_MAX_REMEMBERED: Final = 4096
"""Bytes of a head whose meaning is remembered."""

_LONGEST_PATH: Final = 1024


class Asked:
    """What a request's fields say.

    Attributes:
        head: as the pipeline knows heads.
        target: the target taken apart.
        host: the host asked for, without port.
        authority: host and port.
        length: of Content-Length, UNKNOWN without one.
    """

    __slots__ = ("authority", "head", "host", "length", "target")

    def __init__(self, head: RequestHead, target: Target, authority: bytes, length: int) -> None:
        self.head = head
        self.target = target
        self.host = split_host(authority)
        self.authority = authority
        self.length = length


class _Line:
    """The pseudo-fields: what HTTP/1.1 has in its first line and in Host."""

    __slots__ = ("authority", "method", "path", "protocol")

    def __init__(self, method: bytes, path: bytes, authority: bytes, protocol: bytes) -> None:
        self.method = method
        self.path = path
        self.authority = authority
        self.protocol = protocol


class _Section:
    """The other fields."""

    __slots__ = ("authority", "count", "length", "plain", "special")

    def __init__(self, authority: bytes, plain: bytes, special: Headers, length: int, count: int) -> None:
        self.authority = authority
        self.plain = plain
        self.special = special
        self.length = length
        self.count = count


def read_request(pairs: Headers, limits: Limits, *, end: bool) -> Asked:
    """Make a request of its fields.

    Args:
        pairs: as HPACK gave them.
        limits: sizes.
        end: no body follows.

    Raises:
        StreamError: it is malformed.
        BadMessageError: it is to be answered: too large, a method that is not known, an expectation.
    """
    size = 0
    begun = 0
    for name, value in pairs:
        size += len(name) + len(value) + 4
        if name[:1] == b":":
            begun += 1
    if size > limits.max_header_bytes:
        raise _too_large(pairs, limits)
    first, others = tuple(pairs[:begun]), tuple(pairs[begun:])
    if size <= _MAX_REMEMBERED:
        line = _read_line(first)
        section = _read_section(line.authority, others)
    else:
        line = _make_line(first)
        section = _make_section(line.authority, others)
    if len(line.path) > limits.max_target_bytes:
        raise BadMessageError("request target too long", 414, "target_size")
    if section.count > limits.max_header_count:
        raise BadMessageError("too many headers", 431, "header_count")
    if limits.max_body_bytes and section.length > limits.max_body_bytes:
        raise BadMessageError("request body too large", 413, "body_size")
    method = METHODS.get(line.method)
    if method is None:
        raise BadMessageError("method not implemented", 501, "unknown_method")
    length = section.length
    if end and length > 0:
        raise StreamError("a body is announced and none follows")
    if method == "TRACE" and not end:
        raise StreamError("TRACE with content")  # RFC 9110 section 9.3.8
    authority = section.authority
    try:
        head = made_head(method, line.path or authority, section.plain, section.special)
        target = parse_target(method if not line.protocol else "GET", head.request_target)
    except BadMessageError as error:
        if error.status == 400:
            raise StreamError(str(error)) from None
        raise
    if method == "CONNECT":
        _open_tunnel(head, line.protocol, length)
    elif not end:
        head.length = CHUNKED if length == UNKNOWN else length
    return Asked(head, target, authority, length)


def _open_tunnel(head: RequestHead, protocol: bytes, length: int) -> None:
    """Say in a head of CONNECT what is asked for; RFC 8441 makes of it a request that wants to go over to `protocol`."""
    if length > 0:
        raise StreamError("CONNECT with content")
    rare = Rare()
    if head.rare is not None:
        rare.trailers = head.rare.trailers
    head.rare = rare
    head.length = 0
    head.has_length = False
    if protocol:
        if upgrades(protocol) != [
            protocol
        ]:  # not another version of HTTP, which would pass routes and guards by
            raise BadMessageError("protocol not implemented", 501, "unknown_protocol")
        head.method = "GET"
        rare.upgrade = protocol
        rare.extended = True


def _make_line(pairs: tuple[tuple[bytes, bytes], ...]) -> _Line:
    asked = request_fields(list(pairs), connect_protocol=True)
    return _Line(asked.method, asked.path, asked.authority, asked.protocol)


def _make_section(authority: bytes, pairs: tuple[tuple[bytes, bytes], ...]) -> _Section:
    whole = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")]
    if authority:
        whole.append((b":authority", authority))
    asked = request_fields([*whole, *pairs])
    if not asked.authority:
        raise StreamError("neither :authority nor Host")
    special: Headers = [(b"host", asked.authority)]
    lines: list[bytes] = []
    for name, value in asked.fields:
        if fields.kind(name) != fields.ORDINARY:
            special.append((name, value))
        else:
            lines += (b"\r\n", name, b": ", value)
    return _Section(asked.authority, b"".join(lines), special, asked.length, len(asked.fields) + 1)


_read_line: Final = lru_cache(maxsize=1024)(_make_line)
_read_section: Final = lru_cache(maxsize=512)(_make_section)


def _too_large(pairs: Headers, limits: Limits) -> BadMessageError:
    for name, value in pairs:
        if name == b":path" and len(value) > limits.max_target_bytes:
            return BadMessageError("request target too long", 414, "target_size")
    return BadMessageError("request head too large", 431, "header_size")


def method_and_path(pairs: Headers) -> tuple[str, str]:
    """What fields that were refused asked for, for the log: empty where they do not tell, a long path cut."""
    said = dict(pairs[:8])
    method = METHODS.get(said.get(b":method", b""), "")
    path = said.get(b":path", b"")
    if not method or path[:1] != b"/":
        return method, ""
    return method, decode_path(path.partition(b"?")[0][:_LONGEST_PATH])


def trailer_lines(pairs: Headers) -> bytes:
    """The lines of a trailer section, as a Decoder gives them.

    Raises:
        StreamError: it is malformed.
    """
    return b"".join([fields.line_of(name, value) for name, value in trailer_fields(pairs)])


# Answers.


def answer_fields(status: int, plain: bytes) -> Headers:
    """The fields of an answer's head whose lines mean nothing to a proxy; the caller may add to them."""
    pairs = _pairs_of(plain) if len(plain) <= _MAX_REMEMBERED else _split(plain)
    return [_status(status), *pairs]


def made_fields(status: int, headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    """The same of headers as pairs, in any case."""
    return [_status(status), *[(_lower(name), value.strip(b" \t")) for name, value in headers]]


def line_fields(lines: bytes) -> Headers:
    """The fields of trailer lines."""
    return _split(lines)


def _split(plain: bytes) -> Headers:
    pairs: Headers = []
    for line in plain.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        pairs.append((_lower(name), value.strip(b" \t")))
    return pairs


_pairs_of: Final = lru_cache(maxsize=1024)(_split)
_statuses: Final[dict[int, tuple[bytes, bytes]]] = {}


def _status(status: int) -> tuple[bytes, bytes]:
    known = _statuses.get(status)
    if known is None:
        known = _statuses[status] = (b":status", b"%d" % status)
    return known


@remembered(4096)
def _lower(name: bytes) -> bytes:
    return name.lower()
