"""Trailer fields: which of them go on to a recipient that asked for some (`TE: trailers`), always behind the body.

None is merged into a head. What frames, routes, authorizes or says how content is read has no meaning behind it, and a
recipient that merges trailers would be fooled by it: such fields are dropped (RFC 9110 section 6.5.1).
"""

from __future__ import annotations

from typing import Final

from . import fields

# Beside those that mean something to a proxy, see `fields.kind`.
_NEVER: Final = frozenset(
    {
        # request modifiers
        b"cache-control",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"max-forwards",
        b"pragma",
        b"range",
        # authentication
        b"authorization",
        b"cookie",
        b"set-cookie",
        b"www-authenticate",
        # control data of answers
        b"age",
        b"date",
        b"expires",
        b"location",
        b"retry-after",
        b"vary",
        b"warning",
        # how content is read
        b"content-encoding",
        b"content-range",
        b"content-type",
        # the way of the message
        b"forwarded",
        b"via",
        b"x-real-ip",
    }
)


def passed_on(lines: bytes, unwanted: frozenset[bytes]) -> bytes:
    """The lines of a trailer section, each with the line end before it, but those that never go on or are `unwanted`.

    Args:
        lines: as a decoder checked them.
        unwanted: folded names.
    """
    kept = [line for line in lines.split(b"\r\n")[1:] if _may_go_on(line[: line.find(b":")], unwanted)]
    return b"\r\n".join([b"", *kept])


def announced(value: bytes, unwanted: frozenset[bytes]) -> bytes:
    """A Trailer value without the names of fields that do not go on."""
    names = [name.strip(b" \t") for name in value.split(b",")]
    return b", ".join([name for name in names if fields.is_token(name) and _may_go_on(name, unwanted)])


def _may_go_on(name: bytes, unwanted: frozenset[bytes]) -> bool:
    folded = fields.folded_name(name)
    return (
        fields.kind(name) == fields.ORDINARY
        and folded not in _NEVER
        and folded not in unwanted
        and not folded.startswith(b"x-forwarded-")
    )
