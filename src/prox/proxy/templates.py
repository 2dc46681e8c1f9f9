"""Bodies with placeholders: `{path}` and the like become what they stand for in the request that is answered.

What a client sends must not become markup, so values are escaped as the body's media type needs it. An unknown `{…}` is left
as it is: JSON and style sheets are full of braces. A body is taken apart once; one without placeholders stays plain bytes.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable

from .route import Routed

Escape = Callable[[str], str]


def _domain(routed: Routed) -> str:
    authority = routed.exchange.authority
    host = authority[1:].partition(b"]")[0] if authority[:1] == b"[" else authority.partition(b":")[0]
    return host.decode("latin-1").removesuffix(".")


_VALUES: dict[bytes, Callable[[Routed], str]] = {
    b"domain": _domain,
    b"domain.pattern": lambda routed: routed.match.domain_pattern,
    b"host": lambda routed: routed.exchange.authority.decode("latin-1"),
    b"match.domain": lambda routed: routed.match.match_domain,
    b"match.glob": lambda routed: routed.match.match_glob,
    b"match.path": lambda routed: routed.match.match_path,
    b"method": lambda routed: routed.exchange.method,
    b"path": lambda routed: routed.exchange.target.path,
}
"""Placeholders and what they stand for: the domain in the client's case without port, the host with it, the path decoded."""

_PLACEHOLDER = re.compile(rb"\{(" + b"|".join(re.escape(name) for name in _VALUES) + rb")\}")

_SCRIPTS = frozenset(
    {
        "application/ecmascript",
        "application/javascript",
        "application/x-javascript",
        "text/ecmascript",
        "text/javascript",
    }
)
_MARKUP = frozenset({"application/xml", "text/css", "text/html", "text/xml"})
_TEXTS = frozenset({"application/toml", "application/x-sh", "application/yaml"})


class Template:
    """A body with placeholders."""

    __slots__ = ("_escape", "_parts", "_places")

    def __init__(self, body: bytes, escape: Escape) -> None:
        pieces = _PLACEHOLDER.split(body)
        self._escape = escape
        self._parts = pieces[::2]
        self._places = [_VALUES[name] for name in pieces[1::2]]

    def render(self, routed: Routed) -> bytes:
        """The body for one request."""
        parts = [self._parts[0]]
        for place, following in zip(self._places, self._parts[1:], strict=True):
            parts += (self._escape(place(routed)).encode(), following)
        return b"".join(parts)


def compile_body(body: bytes, content_type: str) -> bytes | Template:
    """The body as a template that escapes for `content_type`, or itself where it holds no placeholder."""
    if _PLACEHOLDER.search(body) is None:
        return body
    return Template(body, _escape_for(essence(content_type)))


def is_textual(content_type: str) -> bool:
    """Whether a file of this type may be a template; in any other, braces are just bytes."""
    kind = essence(content_type)
    return (
        kind.startswith("text/") or kind in _TEXTS or kind in _SCRIPTS or _is_json(kind) or _is_markup(kind)
    )


def essence(content_type: str) -> str:
    """`type/subtype` in lower case, without parameters."""
    return content_type.partition(";")[0].strip().lower()


def _is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")


def _is_markup(kind: str) -> bool:
    return kind in _MARKUP or kind.endswith("+xml")


def _escape_for(kind: str) -> Escape:
    if _is_json(kind):
        return _json
    if kind in _SCRIPTS:
        return _script
    # Without a type, browsers guess; and what they guess may be HTML.
    return _markup if _is_markup(kind) or "/" not in kind else str


def _json(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)[1:-1]


def _script(value: str) -> str:
    """For string literals with any of the three quotes."""
    return _json(value).translate(_SCRIPT_ESCAPES)


def _markup(value: str) -> str:
    """For text and attributes; backslash and backtick are for scripts inside of HTML, where entities mean nothing."""
    return html.escape(value).translate(_MARKUP_ESCAPES)


_SCRIPT_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "'`$<>&\u2028\u2029"}
_MARKUP_ESCAPES = {ord(char): f"&#{ord(char)};" for char in "\\`"}
