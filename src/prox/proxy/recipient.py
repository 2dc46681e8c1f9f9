"""What prox answers where a request may not be forwarded any more: it is the final recipient (RFC 9110 section 7.6.2)."""

from __future__ import annotations

from typing import Final

from prox.http.codec import fields
from prox.http.codec.request import HOPPING
from prox.http.exchange import Exchange

# What TRACE shows of a request. The others may tell a client what proxies in front of this one added, or be a secret that a
# script in a browser may not read (RFC 9110 section 9.3.8).
_SHOWN: Final = frozenset({b"host", b"max-forwards", b"user-agent", b"via"})


def ends_here(exchange: Exchange) -> bool:
    """Whether `Max-Forwards: 0` makes prox the final recipient."""
    rare = exchange.head.rare
    return rare is not None and rare.hops == 0 and exchange.method in HOPPING


def answer(exchange: Exchange) -> None:
    """Answer OPTIONS with nothing to say, TRACE with the request."""
    if exchange.method == "OPTIONS":
        exchange.respond("OPTIONS", 200, [])
        return
    head = exchange.head
    lines = [b"TRACE %b HTTP/1.%d" % (head.request_target, head.minor)]
    for name, value in head.headers:
        if fields.folded_name(name) in _SHOWN:
            lines.append(b"%b: %b" % (name, value))
    body = b"\r\n".join([*lines, b"", b""])
    exchange.respond("TRACE", 200, [(b"Content-Type", b"message/http")], body)
