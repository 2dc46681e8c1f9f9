"""Which headers of a plugin's answer are taken: not those that frame messages, and none that could break them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from prox.remembered import remembered

from .complaints import Complaints

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_FRAMING: Final = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    }
)
NOT_ON_REQUESTS: Final = _FRAMING | {"proxy-authenticate", "proxy-authorization"}
"""Names that a plugin can't set on an upstream request: hop-by-hop (RFC 9110 §7.6.1) and framing ones."""
NOT_ON_RESPONSES: Final = _FRAMING
"""Names that a plugin can't set on an answer. Proxy-Authenticate it can: a 407 needs it."""


@remembered(4096)
def normalise(name: str) -> str:
    """The name by which headers are compared: lower case, `-` for `_`; empty where it is no header name."""
    return name.lower().replace("_", "-") if _TOKEN.fullmatch(name) else ""


@remembered(4096)
def _settable(name: str) -> str:
    """`normalise`, and empty also where no plugin can set it on a request."""
    plain = normalise(name)
    return "" if plain in NOT_ON_REQUESTS else plain


def all_taken(headers: Mapping[str, str], foreign: frozenset[str]) -> bool:
    """Whether `take_headers` would take a request's headers as they are, in the usual case: quickly told.

    False says nothing; True is certain.
    """
    if len(headers) == 1:
        for name, value in headers.items():
            plain = _settable(name)
            return plain != "" and plain not in foreign and value.isprintable()
    seen: set[str] = set()
    for name, value in headers.items():
        plain = _settable(name)
        if not plain or plain in foreign or plain in seen or not value.isprintable():
            return False
        seen.add(plain)
    return True


def take_headers(
    headers: Mapping[str, str],
    into: dict[str, str],
    refused: frozenset[str],
    foreign: frozenset[str],
    complaints: Complaints,
) -> None:
    """Put a plugin's headers over earlier ones in `into`; what can't be taken is left out with a warning.

    Args:
        headers: as the plugin gave them.
        into: headers of the plugins before it; a name counts in any case, and with `_` for `-`.
        refused: normalised names that no plugin can set.
        foreign: normalised names that only other plugins may set.
        complaints: takes the warnings.
    """
    for name, value in headers.items():
        plain = normalise(name)
        if not plain:
            complaints.warn("a header with the name %r is left out: that is no name", name)
        elif plain in refused:
            complaints.warn("header %s is left out: prox sets it itself", name)
        elif plain in foreign:
            complaints.warn("header %s is left out: it is among own_headers of another plugin", name)
        elif not value.isprintable() and _BAD_VALUE.search(value):
            complaints.warn("header %s is left out: its value has control characters", name)
        else:
            if into:
                for other in [known for known in into if known != name and normalise(known) == plain]:
                    del into[other]
            into[name] = value
