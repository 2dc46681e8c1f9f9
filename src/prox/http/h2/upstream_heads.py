"""Heads on the upstream's side: a request's HTTP/1.1 head becomes fields, an answer's fields the head that HTTP/1.1 gives.

`codec.h2.fields` has refused before what HTTP/1.1 would not let through.
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import Final

from prox.http.codec import fields
from prox.http.codec.fields import Headers
from prox.http.codec.h2.errors import StreamError
from prox.http.codec.h2.fields import UNKNOWN, response_fields, trailer_fields
from prox.http.codec.response import CHUNKED, ResponseHead
from prox.remembered import remembered

_MAX_REMEMBERED: Final = 4096
"""Bytes of a head whose meaning is remembered."""

_BODILESS: Final = frozenset({204, 304})

# What speaks of a connection has no place in HTTP/2 (RFC 9113 section 8.2.2); `te` may say that trailers are welcome.
_CONNECTION: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"}
)

# What means something in requests alone.
_PLAIN: Final = frozenset(
    {
        fields.EXPECT,
        fields.FORWARDED_FOR,
        fields.FORWARDED_OTHER,
        fields.HOST,
        fields.MAX_FORWARDS,
        fields.ORDINARY,
    }
)

HTTP_2: Final = 2
"""The `minor` of a head that came over HTTP/2."""


def request_pairs(head: bytes, scheme: bytes) -> Headers:
    """The fields of a request.

    Args:
        head: of HTTP/1.1, as HeadBuilder makes it: the first field is Host.
        scheme: b"http" or b"https".
    """
    lines = head.split(b"\r\n")
    method, target, _ = lines[0].split(b" ")
    authority = lines[1][6:]  # "Host: "
    path = target
    if target[:1] != b"/" and b"://" in target:  # of a forward proxy: the target names all
        scheme, _, rest = target.partition(b"://")
        scheme = scheme.lower()
        authority, slash, path = rest.partition(b"/")
        path = b"/" + path if slash else _rootless(authority)
        authority = authority.partition(b"?")[0]
    pairs = [
        (b":method", method),
        (b":scheme", scheme),
        (b":authority", authority),
        (b":path", path),
    ]
    for line in lines[2:-2]:
        pair = _pair(line)
        if pair is not None:
            pairs.append(pair)
    return pairs


def _rootless(authority: bytes) -> bytes:
    _, mark, query = authority.partition(b"?")
    return b"/?" + query if mark else b"/"


@remembered(4096)
def _pair(line: bytes) -> tuple[bytes, bytes] | None:
    """The field of a line; None where it does not go on."""
    name, _, value = line.partition(b":")
    name = name.lower()
    value = value.strip(b" \t")
    if name in _CONNECTION and (name != b"te" or value.lower() != b"trailers"):
        return None
    return name, value


def read_answer(pairs: Headers, method: str, *, end: bool) -> tuple[ResponseHead, int]:
    """An answer's head, and what Content-Length promises of the DATA to come, or UNKNOWN.

    Raises:
        StreamError: it is malformed.
    """
    size = 0
    for name, value in pairs:
        size += len(name) + len(value)
    status, plain, special, length, announces = (
        _read(tuple(pairs)) if size <= _MAX_REMEMBERED else _make(tuple(pairs))
    )
    bodiless = method == "HEAD" or status < 200 or status in _BODILESS
    framed = 0 if end or bodiless else CHUNKED if length == UNKNOWN else length
    said = None if length == UNKNOWN else length
    meaning: tuple[int, int | None, bool, frozenset[bytes], bool] = (framed, said, False, _NONE, announces)
    head = ResponseHead(HTTP_2, status, _reason(status), plain, list(special), meaning)
    return head, UNKNOWN if bodiless else length


def _make(
    pairs: tuple[tuple[bytes, bytes], ...],
) -> tuple[int, bytes, tuple[tuple[bytes, bytes], ...], int, bool]:
    answer = response_fields(list(pairs))
    special: list[tuple[bytes, bytes]] = []
    lines: list[bytes] = []
    announces = False
    for name, value in answer.fields:
        kind = fields.kind(name)
        if kind in _PLAIN:
            lines += (b"\r\n", name, b": ", value)
        else:
            special.append((name, value))
            announces = announces or kind == fields.TRAILER
    return answer.status, b"".join(lines), tuple(special), answer.length, announces


_read: Final = lru_cache(maxsize=1024)(_make)
_NONE: Final[frozenset[bytes]] = frozenset()


@lru_cache(maxsize=512)
def _reason(status: int) -> bytes:
    """HTTP/2 has no reason phrases: the registered one."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


def trailer_lines(pairs: Headers) -> bytes:
    """The lines of a trailer section, as a Decoder gives them.

    Raises:
        StreamError: it is malformed.
    """
    return b"".join([fields.line_of(name, value) for name, value in trailer_fields(pairs)])


def trailer_pairs(lines: bytes) -> Headers:
    """The fields of trailer lines."""
    pairs: Headers = []
    for line in lines.split(b"\r\n")[1:]:
        pair = _pair(line)
        if pair is not None:
            pairs.append(pair)
    return pairs


__all__ = ["HTTP_2", "StreamError", "read_answer", "request_pairs", "trailer_lines", "trailer_pairs"]
