"""The request target: its four forms, the host it names, and its path decoded once (RFC 9112 section 3.2)."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from prox.remembered import remembered

from .errors import BadMessageError

# uri-host [":" port] of RFC 3986, without percent escapes: no client sends them and no guard expects them.
_HOST: Final = rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~!$&'()*+;=-]*)"
HOST_PATTERN: Final = re.compile(_HOST + rb"(?::[0-9]{0,5})?")
_ABSOLUTE: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(.*)")


class Target:
    """A request target taken apart.

    Attributes:
        raw: path and query as the client sent them, from the first `/` (`*` for OPTIONS).
        path: the path decoded once; an invalid escape stays an escape, bytes that are not UTF-8 become Latin-1.
        query: what stands behind `?`, undecoded, None where there is no `?`.
        authority: host and port of an absolute URL, None in the other forms.
        scheme: of an absolute URL, else None.
    """

    __slots__ = ("authority", "path", "query", "raw", "scheme")

    def __init__(
        self,
        raw: bytes,
        path: str,
        query: bytes | None,
        authority: bytes | None = None,
        scheme: bytes | None = None,
    ) -> None:
        self.raw = raw
        self.path = path
        self.query = query
        self.authority = authority
        self.scheme = scheme


def parse_target(method: str, target: bytes) -> Target:
    """Take a target apart.

    Raises:
        BadMessageError: 400 where the form does not fit the method or is none of the four.
    """
    if method == "CONNECT":
        return _connect_target(target)
    if target[:1] == b"/":
        path, mark, query = target.partition(b"?")
        return Target(target, decode_path(path), query if mark else None)
    if target == b"*":
        if method != "OPTIONS":
            raise BadMessageError("the target * is for OPTIONS alone")
        return Target(target, "*", None)
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise BadMessageError("malformed request target")
    scheme, authority, rest = match.groups()
    scheme = scheme.lower()
    if (
        scheme not in {b"http", b"https", b"ws", b"wss"}
        or not authority
        or HOST_PATTERN.fullmatch(authority) is None
    ):
        raise BadMessageError("malformed absolute URL")
    if authority[:1] == b":":
        raise BadMessageError("an absolute URL without a host")
    path, mark, query = rest.partition(b"?")
    if not path:
        if method == "OPTIONS" and not mark:  # it is for the whole server: RFC 9112 section 3.2.4
            return Target(b"*", "*", None, authority, scheme)
        path = b"/"
        rest = b"/" + rest
    return Target(rest, decode_path(path), query if mark else None, authority, scheme)


def _connect_target(target: bytes) -> Target:
    """`host:port` alone, with a port that is one (RFC 9110 section 9.3.6)."""
    host, colon, port = target.rpartition(b":")
    if (
        not colon
        or not host
        or HOST_PATTERN.fullmatch(host) is None
        or not port.isdigit()
        or not 0 < int(port) < 65536
    ):
        raise BadMessageError("CONNECT needs host:port")
    return Target(target, "", None, target)


def decode_path(path: bytes) -> str:
    """The path decoded once, as routes match it and plugins see it."""
    if b"%" in path:
        path = unquote_to_bytes(path)
    try:
        return path.decode()
    except UnicodeDecodeError:
        return path.decode("latin-1")


def encode_path(path: str) -> bytes:
    """A decoded path as it may stand in a request line."""
    return quote(path, safe="/:@!$&'()*+,;=-._~").encode()


@remembered(4096)
def split_host(authority: bytes) -> str:
    """The host of `host[:port]`, lower case, without port, brackets and a trailing dot."""
    if authority[:1] == b"[":
        return authority[1 : authority.index(b"]")].decode("ascii").lower()
    return authority.partition(b":")[0].decode("latin-1").lower().removesuffix(".")
