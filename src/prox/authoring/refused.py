"""What prox leaves out of a plugin's headers, said in words for the plugin's author."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from prox.plugin.headers import NOT_ON_REQUESTS, NOT_ON_RESPONSES, normalise
from prox.wire import AuthorizeResult, Result

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def refused_headers(result: Result) -> Iterator[str]:
    """One sentence for each header of a result that prox would leave out."""
    headers: Mapping[str, str] = getattr(result, "headers", {})
    allowed = isinstance(result, AuthorizeResult) and result.allow
    reserved = NOT_ON_REQUESTS if allowed else NOT_ON_RESPONSES
    for name, value in headers.items():
        plain = normalise(name)
        if not plain:
            yield f"{name!r} is no name of a header"
        elif plain in reserved:
            yield f"{name} is set by prox itself"
        elif _CONTROL.search(value):
            yield f"the value of {name} has control characters: {value!r}"
    for name in getattr(result, "remove", ()):
        if not normalise(name):
            yield f"{name!r} is no name of a header to remove"
