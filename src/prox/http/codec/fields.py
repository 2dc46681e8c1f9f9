"""Field lines: which of them a proxy must look at, and what their values may hold.

A head is checked by httptools: no control character, no bare CR or LF, no folded line, no bad name; the tests hold the list
of what it lets through, byte by byte, so that a new version can't become lenient unseen. Then the lines that mean something
to a proxy are taken out as (name, value) pairs. All others, nearly all, stay the one block of bytes that they were and go on
as such: only one can be meant whose colon stands where a name with its first letter would end, so most lines cost a look.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, TypeAlias

from prox.remembered import remembered

from .errors import BadMessageError

Headers: TypeAlias = list[tuple[bytes, bytes]]

# What `kind` answers. ORDINARY is falsy: the common case is one test.
ORDINARY: Final = 0
HOST: Final = 1
CONTENT_LENGTH: Final = 2
TRANSFER_ENCODING: Final = 3
CONNECTION: Final = 4
EXPECT: Final = 5
UPGRADE: Final = 6
FORWARDED_FOR: Final = 7
FORWARDED_OTHER: Final = 8
HOP_BY_HOP: Final = 9
TRAILER: Final = 10
UNDERSCORED_FRAMING: Final = 11
TE: Final = 12
MAX_FORWARDS: Final = 13

_KINDS: Final = {
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
    b"te": TE,
    b"trailer": TRAILER,
    b"max-forwards": MAX_FORWARDS,
}

# As most peers spell them.
_SPELLED: Final = frozenset([*_KINDS, *[name.title() for name in _KINDS], b"TE"])

# A Connection header may name any field as hop-by-hop; these stay end-to-end all the same, or a client could
# take away what the request's meaning and the guard rely on (RFC 9110 section 7.6.1).
_NO_FIELDS: Final = frozenset(
    {
        b"close",
        b"keep-alive",
        b"upgrade",
        b"te",
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"max-forwards",
        b"date",
        b"forwarded",
    }
)
_NO_FAMILY: Final = b"x-forwarded-"

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


@remembered(1024)
def kind(name: bytes) -> int:
    """What a header of this name, in any case and with `_` for `-`, means to a proxy.

    Servers behind CGI read X_Forwarded_For as X-Forwarded-For, so it must not slip past; a framing header so spelled is told
    apart, since no honest client sends one. Nor does X_Forwarded_For count as an address: a trusted proxy appends to its own
    spelling, and what stands beside that is the client's.
    """
    folded = name.lower()
    dashed = folded.replace(b"_", b"-")
    found = _KINDS.get(dashed, ORDINARY)
    if folded != dashed:
        if found in {HOST, CONTENT_LENGTH, TRANSFER_ENCODING}:
            return UNDERSCORED_FRAMING
        if found in {FORWARDED_FOR, FORWARDED_OTHER}:
            return HOP_BY_HOP
        if found == MAX_FORWARDS:
            return ORDINARY
    return found


def _line_pattern(names: Iterable[bytes]) -> re.Pattern[bytes]:
    """Lines of a checked head, with the line end before them, of these folded names."""
    spelled = b"|".join(re.escape(name).replace(rb"\-", b"[-_]") for name in sorted(names))
    return re.compile(rb"\r\n(?i:" + spelled + rb"):[^\r]*")


def _places(names: Iterable[bytes]) -> list[tuple[int, ...]]:
    """For each first letter of a line, where the colon stands if its name is one of these."""
    places: list[tuple[int, ...]] = [()] * 256
    for letter in range(256):
        folded = folded_name(bytes([letter]))
        places[letter] = tuple(sorted({len(name) for name in names if name[:1] == folded}))
    return places


class Fields:
    """The fields of one head.

    Attributes:
        plain: the lines of fields that mean nothing to a proxy, each with the line end before it.
        special: the others as pairs, with the names as they came.
    """

    __slots__ = ("plain", "special")

    def __init__(self, plain: bytes, special: Headers) -> None:
        self.plain = plain
        self.special = special

    @property
    def headers(self) -> Headers:
        """All fields as pairs; those of one name keep their order."""
        return [*self.special, *map(_split_line, self.plain.split(b"\r\n")[1:])]

    def plain_without(self, names: frozenset[bytes]) -> bytes:
        """The plain lines but those of the folded `names`, which a peer may have chosen."""
        lines = self.plain.split(b"\r\n")
        return b"\r\n".join([line for line in lines if folded_name(line[: line.find(b":")]) not in names])


def split_request(head: bytes) -> tuple[bytes, bytes, Headers]:
    """Split a request's checked head into its first line and what `Fields` holds: plain, special."""
    return _split(head, _REQUEST_PLACES)


def split_response(head: bytes) -> tuple[bytes, bytes, Headers]:
    """The same for a response; all special fields of one are for its next recipient alone."""
    return _split(head, _RESPONSE_PLACES)


def _split(head: bytes, places: list[tuple[int, ...]]) -> tuple[bytes, bytes, Headers]:
    special: Headers = []
    plain: list[bytes] = []
    lines = head.split(b"\r\n")
    first = lines[0]
    start = end = len(first)
    for line in lines[1:-2]:
        for place in places[line[0]]:
            if place < len(line) and line[place] == 58:  # ":"
                name = line[:place]
                if name in _SPELLED or kind(name) != ORDINARY:
                    special.append((name, line[place + 1 :].lstrip(b" \t")))
                    if start < end:
                        plain.append(head[start:end])
                    start = end + len(line) + 2
                    break
        end += len(line) + 2
    if start < end:
        plain.append(head[start:end])
    return first, plain[0] if len(plain) == 1 else b"".join(plain), special


def _split_line(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name, value.strip(b" \t")


@lru_cache(maxsize=256)
def _pattern_of(names: frozenset[bytes]) -> re.Pattern[bytes]:
    return _line_pattern(names)


def without(plain: bytes, names: frozenset[bytes]) -> bytes:
    """Plain lines but those of the folded `names`, which are few and come again: a configuration's or a plugin's."""
    folded = plain.lower().replace(b"_", b"-")
    for name in names:
        if b"\r\n" + name in folded:
            return _pattern_of(names).sub(b"", plain)
    return plain  # as nearly always


@remembered(4096)
def folded_name(name: bytes) -> bytes:
    """The name as it is compared: lower case, with `_` read as `-` (as servers behind CGI read it)."""
    return name.lower().replace(b"_", b"-")


# In answers, what tells a server about its client means nothing.
_REQUEST_PLACES: Final = _places(_KINDS)
_RESPONSE_PLACES: Final = _places(
    _KINDS.keys()
    - {b"host", b"expect", b"max-forwards", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"}
)


def is_token(value: bytes) -> bool:
    """Whether `value` is a token (RFC 9110 section 5.6.2): a legal method or field name."""
    return _TOKEN.fullmatch(value) is not None


def list_members(value: bytes) -> list[bytes]:
    """The members of a comma-separated list, folded to lower case, empty ones left out (RFC 9110 section 5.6.1)."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]


@remembered(1024)
def content_length(value: bytes) -> int:
    """The one number of a Content-Length value.

    Raises:
        BadMessageError: for anything but digits; `5, 5` too, which RFC 9110 section 8.6 lets a recipient refuse.
    """
    value = value.strip(b" \t")
    if not value.isdigit() or len(value) > 18:
        raise BadMessageError("invalid Content-Length")
    return int(value)


@remembered(1024)
def connection_options(value: bytes) -> frozenset[bytes]:
    """The members of a Connection value, folded."""
    return frozenset(list_members(value))


def dropped_fields(options: frozenset[bytes]) -> frozenset[bytes]:
    """The fields that Connection options declare hop-by-hop, folded, without those that never are."""
    names = frozenset(folded_name(option) for option in options) - _NO_FIELDS
    return frozenset(name for name in names if not name.startswith(_NO_FAMILY))


def line_of(name: bytes, value: bytes) -> bytes:
    """A field line, with the line end before it."""
    return b"\r\n%b: %b" % (name, value)
