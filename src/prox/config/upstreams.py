"""Grammar of upstreams: `host:port`, a URL with an optional path prefix, or a template that becomes one.

A template holds `{target}` and the names that a route gives with `set`. What it becomes can be checked only
with values, so `check_upstream` looks at its form and `parse_upstream` reads the finished text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from .addresses import SCHEMES, split_host_port
from .invalid import InvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping

TARGET = "target"

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# The characters of a path in a request target (RFC 3986 §3.3): the prefix goes on the wire as it stands.
_PREFIX = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*")


class Upstream(NamedTuple):
    """A finished upstream: `prefix` is "" or begins with "/" and does not end with one."""

    tls: bool
    host: str
    port: int
    prefix: str


def check_name(name: str) -> str:
    """The name of a variable that `set` gives to templates."""
    if _NAME.fullmatch(name) is None:
        raise InvalidError(
            f'"{name}" is no name for a variable', "letters, digits, _, - and ., not a digit first"
        )
    if name == TARGET:
        raise InvalidError(f'"{TARGET}" is the name of the balancer\'s choice', "take another name")
    return name


def template_names(template: str) -> tuple[str, ...]:
    """The names in braces, in order; refuses stray braces and what can't be a name."""
    names = tuple(_PLACEHOLDER.findall(template))
    rest = _PLACEHOLDER.sub("", template)
    if "{" in rest or "}" in rest:
        raise InvalidError(f'"{template}" has a brace without its partner')
    for name in names:
        if _NAME.fullmatch(name) is None:
            raise InvalidError(f'"{{{name}}}" in "{template}" is no name of a variable')
    return names


def render(template: str, values: Mapping[str, str]) -> str:
    """The template with each `{name}` replaced; a name without a value stays."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), template)


def parse_upstream(text: str) -> Upstream:
    """Read an upstream without placeholders; only a URL may leave its port to the scheme."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    elif scheme not in SCHEMES:
        raise InvalidError(f'"{text}" has an unknown scheme "{scheme}"', f"schemes: {', '.join(SCHEMES)}")
    authority, slash, path = rest.partition("/")
    if not scheme and slash:
        raise InvalidError(f'"{text}" has a path but no scheme', _as_url(text))
    if "@" in authority:
        raise InvalidError(
            "an upstream holds no user name or password", 'set the header "Authorization" instead'
        )
    if any(mark in rest for mark in "?#"):
        raise InvalidError(f'"{text}" has a query or a fragment', "an upstream may have a path prefix only")
    if not authority:
        raise InvalidError("an upstream is empty" if not text else f'"{text}" has no host')
    try:
        host, port = split_host_port(authority)
    except InvalidError as error:
        raise InvalidError(f'"{text}" is no upstream: {error.message}', error.hint) from None
    if port is None:
        if not scheme:
            raise InvalidError(
                f'"{text}" is no upstream: the port is missing', f'did you mean "http://{text}"?'
            )
        port = SCHEMES[scheme]
    prefix = f"/{path}".rstrip("/") if slash else ""
    if _PREFIX.fullmatch(prefix) is None:
        raise InvalidError(f'the path of "{text}" holds characters that a URL can\'t', "percent-encode them")
    return Upstream(scheme in {"https", "wss"}, host, port, prefix)


def _as_url(text: str) -> str:
    """The suggestion of a URL, where one can be made."""
    url = "http://" + re.split(r"[?#]", text, maxsplit=1)[0]
    try:
        parse_upstream(url)
    except InvalidError:
        return ""
    return f'did you mean "{url}"?'


def check_upstream(template: str) -> str:
    """The form of an upstream or a template of one; returned as it is."""
    if not template:
        raise InvalidError("an upstream is empty")
    names = template_names(template)
    if not names:
        parse_upstream(template)
    elif any(mark <= " " or mark == "\x7f" for mark in template):
        raise InvalidError(f"the upstream {template!r} holds blanks")
    return template


def check_l4_upstream(template: str) -> str:
    """The upstream of a `pass` action: `host:port` or a template of it."""
    if "://" in template or "/" in template:
        raise InvalidError(
            f'"{template}": a passed connection goes to "host:port"', "leave scheme and path out"
        )
    return check_upstream(template)


def is_plain(template: str) -> bool:
    """Whether the upstream is surely without TLS, whatever a template's values are."""
    scheme, separator, _ = template.partition("://")
    return (not separator and "{" not in template) or (bool(separator) and scheme in {"http", "ws"})
