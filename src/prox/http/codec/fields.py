"""Field names: which of them a proxy must look at, and what their values may hold.

A head's fields are split once, in the call that parses them, by one look-up of each name in a set. Those that mean nothing to
a proxy, nearly all, travel as one flat list of name, colon, value and line end, which goes from socket to socket with a single
`extend`; measured, that halves what headers cost. The few others are (name, value) pairs, looked at one by one.

Which bytes a head may hold is checked by httptools (no control character, no bare CR or LF, no folded line); the
tests hold the list of what it lets through, byte by byte, so that a new version can't become lenient unseen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TypeAlias

from .errors import BadMessageError

Headers: TypeAlias = list[tuple[bytes, bytes]]

# What `kind` answers. ORDINARY is falsy: the common case is one test.
ORDINARY = 0
HOST = 1
CONTENT_LENGTH = 2
TRANSFER_ENCODING = 3
CONNECTION = 4
EXPECT = 5
UPGRADE = 6
FORWARDED_FOR = 7
FORWARDED_OTHER = 8
HOP_BY_HOP = 9
TRAILER = 10
UNDERSCORED_FRAMING = 11

_KINDS = {
    b"host": HOST,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"connection": CONNECTION,
    b"expect": EXPECT,
    b"upgrade": UPGRADE,
    b"x-forwarded-for": FORWARDED_FOR,
    b"x-forwarded-host": FORWARDED_OTHER,
    b"x-forwarded-proto": FORWARDED_OTHER,
    b"keep-alive": HOP_BY_HOP,
    b"proxy-connection": HOP_BY_HOP,
    b"proxy-authenticate": HOP_BY_HOP,
    b"proxy-authorization": HOP_BY_HOP,
    b"proxy-authentication-info": HOP_BY_HOP,
    b"te": HOP_BY_HOP,
    b"trailer": TRAILER,
}

# A Connection header may name any field as hop-by-hop; these stay end-to-end all the same, or a client could
# take away what the request's meaning and the guard rely on (RFC 9110 section 7.6.1).
_NO_FIELDS = frozenset(
    {
        b"close",
        b"keep-alive",
        b"upgrade",
        b"te",
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
    }
)

_MAX_REMEMBERED = 4096

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


@lru_cache(maxsize=4096)
def kind(name: bytes) -> int:
    """What a header of this name, in any case, means to a proxy."""
    folded = name.lower()
    found = _KINDS.get(folded)
    if found is not None:
        return found
    alias = _KINDS.get(folded.replace(b"_", b"-"), ORDINARY)
    if alias in {HOST, CONTENT_LENGTH, TRANSFER_ENCODING}:
        return UNDERSCORED_FRAMING
    # Servers behind CGI read X_Forwarded_For as X-Forwarded-For: it must not slip past the one that prox sets. Nor does it
    # count as what a trusted proxy said: that one writes its own spelling, and what stands beside it is the client's.
    return HOP_BY_HOP if alias in {FORWARDED_FOR, FORWARDED_OTHER} else ORDINARY


PLAIN: set[bytes] = set()
"""Names, spelled as peers spell them, that are known to mean nothing to a proxy; filled by `is_plain` up to a bound."""


def is_plain(name: bytes) -> bool:
    """Whether a header's name that is not in PLAIN means nothing to a proxy; it is put there while there is room."""
    if kind(name):
        return False
    if len(PLAIN) < _MAX_REMEMBERED:
        PLAIN.add(name)
    return True


class Fields:
    """The fields of one head.

    Attributes:
        plain: those that mean nothing to a proxy, flat: name, b": ", value, b"\\r\\n", and so on.
        special: the others as pairs, with the names as they came.
    """

    plain: list[bytes]
    special: Headers

    @property
    def headers(self) -> Headers:
        """All fields as pairs; those of one name keep their order."""
        return [*self.special, *self.plain_pairs()]

    def plain_pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """The plain fields as pairs."""
        return zip(self.plain[::4], self.plain[2::4], strict=True)


@lru_cache(maxsize=4096)
def folded_name(name: bytes) -> bytes:
    """The name as it is compared: lower case, with `_` read as `-` (as servers behind CGI read it)."""
    return name.lower().replace(b"_", b"-")


def is_token(value: bytes) -> bool:
    """Whether `value` is a token (RFC 9110 section 5.6.2): a legal method or field name."""
    return _TOKEN.fullmatch(value) is not None


def is_field_value(value: bytes) -> bool:
    """Whether `value` may stand in a header line: no control character but HTAB (RFC 9110 section 5.5)."""
    return _BAD_VALUE.search(value) is None


def list_members(value: bytes) -> list[bytes]:
    """The members of a comma-separated list, folded to lower case, empty ones left out (RFC 9110 section 5.6.1)."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]


def content_length(value: bytes) -> int:
    """The one number of a Content-Length value.

    Raises:
        BadMessageError: for anything but digits; `5, 5` too, which RFC 9110 section 8.6 lets a recipient refuse.
    """
    value = value.strip(b" \t")
    if not value.isdigit() or len(value) > 18:
        raise BadMessageError("invalid Content-Length")
    return int(value)


@lru_cache(maxsize=1024)
def connection_options(value: bytes) -> frozenset[bytes]:
    """The members of a Connection value, folded."""
    return frozenset(list_members(value))


@lru_cache(maxsize=1024)
def dropped_fields(options: frozenset[bytes]) -> frozenset[bytes]:
    """The fields that Connection options declare hop-by-hop, folded, without those that never are."""
    return frozenset(folded_name(option) for option in options) - _NO_FIELDS


def join_headers(first: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A head: its first line with CRLF, its headers, its empty line."""
    parts = [first]
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)
