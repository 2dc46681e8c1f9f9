"""Grammar of `match`: domain patterns, path patterns and methods.

Routing compiles what these functions accept, so a pattern that gets through here always has a meaning.
All of them raise `InvalidError` with the reason.
"""

from __future__ import annotations

import re

from .invalid import InvalidError, suggestion

# IANA's HTTP Method Registry without PRI, which is no method but the HTTP/2 preface (RFC 9113 §3.4).
METHODS = frozenset(
    {
        *("ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "CONNECT", "COPY", "DELETE", "GET"),
        *("HEAD", "LABEL", "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF"),
        *("MKWORKSPACE", "MOVE", "OPTIONS", "ORDERPATCH", "PATCH", "POST", "PROPFIND", "PROPPATCH", "PUT"),
        *(
            "QUERY",
            "REBIND",
            "REPORT",
            "SEARCH",
            "TRACE",
            "UNBIND",
            "UNCHECKOUT",
            "UNLINK",
            "UNLOCK",
            "UPDATE",
        ),
        *("UPDATEREDIRECTREF", "VERSION-CONTROL"),
    }
)

_LABEL = re.compile(r"[a-z0-9_*-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def split_domain(pattern: str) -> tuple[str, ...]:
    """The labels of a domain pattern, in lower case.

    `*` is one label, `a-*-b` part of one, `**` one or more and only as the last label.
    """
    if not pattern:
        raise InvalidError("a domain is empty", "leave it out to match every host")
    labels = tuple(pattern.lower().split("."))
    for label in labels:
        _check_label(pattern, label)
    if "**" in labels[:-1]:
        raise InvalidError(f'"**" may only be the last label of a domain, not as in "{pattern}"')
    if len(labels) < 2:
        raise InvalidError(f'a domain needs at least two labels, and "{pattern}" has one')
    return labels


def _check_label(pattern: str, label: str) -> None:
    if not label:
        raise InvalidError(f'the domain "{pattern}" has an empty label')
    if label == "**":
        return
    if label.count("*") > 1:
        hint = '"**" stands for one or more labels and must stand alone' if "**" in label else ""
        raise InvalidError(f'a label may hold one "*", and "{label}" in "{pattern}" holds more', hint)
    if len(label) > 63:
        raise InvalidError(f'a label of a domain has at most 63 characters, and "{label}" has {len(label)}')
    if _LABEL.fullmatch(label) is None:
        raise InvalidError(f'"{pattern}" is no domain pattern: "{label}" is no label', _domain_hint(pattern))


def _domain_hint(pattern: str) -> str:
    if not pattern.isascii():
        try:
            return f'write the form that is sent: "{pattern.encode("idna").decode()}"'
        except UnicodeError:
            return 'write the form that is sent, with "xn--"'
    if "://" in pattern:
        return "give the name alone, without a scheme"
    if ":" in pattern:
        return "give the name alone: the port of a request is not compared"
    if "/" in pattern:
        return 'give the name alone: paths go to "match.path"'
    if "," in pattern:
        return "a route has one domain; write a route for each"
    return ""


def split_paths(pattern: str) -> tuple[str, ...]:
    """The alternatives of a path pattern: each is exact, or a prefix that ends in `/*`."""
    paths = tuple(part.strip(" \t") for part in pattern.split(","))
    for path in paths:
        if not path:
            empty = "a path pattern is empty" if len(paths) == 1 else f'"{pattern}" has an empty path'
            raise InvalidError(empty, "leave it out to match every path" if len(paths) == 1 else "")
        if not path.startswith("/"):
            raise InvalidError(f'a path begins with "/", and "{path}" does not', f'did you mean "/{path}"?')
        if "*" in path.removesuffix("/*"):
            hint = f'"{path.rstrip("*").rstrip("/")}/*" matches all below it' if path.endswith("*") else ""
            raise InvalidError(
                f'"*" may only stand at the end of a path, after "/", not as in "{path}"', hint
            )
        if "?" in path or "#" in path:
            raise InvalidError(f'"{path}" is no path', "the query is not matched")
        if _CONTROL.search(path):
            raise InvalidError(f"the path {path!r} holds a control character")
    return paths


def check_method(name: str) -> str:
    """The method in capitals; it must be a registered one, as prox answers any other with 501."""
    method = name.upper()
    if method not in METHODS:
        raise InvalidError(f'"{name}" is no registered HTTP method', suggestion(name, METHODS))
    return method
