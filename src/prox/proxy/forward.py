"""The head of the request that goes upstream.

Of the headers only those go on that mean nothing to a proxy, byte for byte, without those that the action or a plugin
sets; what is hop-by-hop, frames or tells the client's address is made anew. Path and query go on as they came, too, unless a
plugin rewrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prox.http.codec import fields
from prox.http.codec.request import HOPPING, Rare
from prox.http.codec.target import encode_path
from prox.http.codec.trailers import announced
from prox.http.exchange import Exchange

from .route import Routed
from .via import via_lines


class HeadBuilder:
    """Makes the heads of one proxy action.

    Args:
        headers: what the action sets; `Host` replaces the upstream's own.
        via: the name that prox gives itself in Via; None for no Via.
    """

    def __init__(self, headers: Mapping[str, str], via: str | None = None) -> None:
        lines = {
            fields.folded_name(name.encode()): (name.encode(), value.encode())
            for name, value in headers.items()
        }
        host = lines.pop(b"host", None)
        self._host = None if host is None else host[1]
        self._lines = {name: fields.line_of(*pair) for name, pair in lines.items()}
        self._fixed = b"".join(self._lines.values())
        self._replaced = frozenset(lines)
        self._tells_client = self._replaced.isdisjoint(_FORWARDED)
        self._via = None if via is None else via_lines(via)

    def build(self, routed: Routed, host: bytes, prefix: bytes, *, trusted: bool) -> bytes:
        """The whole head, from the request line to the empty line.

        Args:
            routed: the request.
            host: the upstream's own host, for Host.
            prefix: the upstream's path prefix, "" or from its first "/" without the last.
            trusted: the peer is a trusted proxy, whose X-Forwarded-Proto and -Host are kept.
        """
        exchange = routed.exchange
        target = exchange.target.raw
        if prefix or routed.path or routed.strip_query:
            target = self._target(routed, prefix)
        host = self._host or host
        plain = exchange.head.plain
        fixed = self._fixed
        tells_client = self._tells_client
        own = routed.replaced
        replaced = self._replaced
        if own:
            tells_client = tells_client and own.isdisjoint(_FORWARDED)
            if not own.isdisjoint(replaced):
                fixed = b"".join([line for name, line in self._lines.items() if name not in own])
            replaced |= own
            if b"host" in own:
                host = next((value for name, value in routed.headers if name.lower() == b"host"), host)
        named = exchange.target.authority
        if named is not None and (routed.route.forward_proxy or exchange.method == "CONNECT"):
            # The next hop is a proxy too: Host repeats what the target names, whatever the action or a plugin sets (RFC 9112
            # section 3.2).
            host = named
            target = self._for_proxy(routed, prefix, named)
        if exchange.head.dropped:
            plain = exchange.head.plain_without(exchange.head.dropped)
        theirs = routed.route.own_headers
        if theirs:  # only plugins set them, so not the action either
            replaced |= theirs
            if not theirs.isdisjoint(self._replaced):
                fixed = b"".join([line for name, line in self._lines.items() if name not in own | theirs])
        if replaced:
            plain = fields.without(plain, replaced)
        parts = [b"%b %b HTTP/1.1\r\nHost: %b" % (exchange.method.encode(), target, host), plain]
        if exchange.body is not None:
            self._frame(parts, exchange.body.length, exchange.expects_continue)
        elif exchange.method not in _WITHOUT_CONTENT and _says_length(exchange):
            parts.append(b"\r\nContent-Length: 0")
        if tells_client and not trusted and not exchange.head.forwarded_for:
            parts += (exchange.client.forwarded, b"\r\nX-Forwarded-Host: ", exchange.authority)
        else:
            parts += self._forwarded(routed, own | self._replaced, trusted=trusted)
        if exchange.head.rare is not None:
            parts += self._rare(routed, exchange.head.rare)
        if self._via is not None:
            # A head of HTTP/2 is told as one of HTTP/1.1; Via names what was received.
            parts.append(self._via[2 if exchange.protocol == "HTTP/2.0" else exchange.head.minor])
        parts.append(fixed)
        for name, value in routed.headers:
            if name.lower() != b"host":
                parts.append(fields.line_of(name, value))
        if routed.appended:
            parts += [fields.line_of(name, value) for name, value in routed.appended]
        parts.append(b"\r\n\r\n")
        return b"".join(parts)

    def not_in_trailers(self, routed: Routed) -> frozenset[bytes]:
        """Folded names of fields that no trailer of the client's may say: those that prox sets itself, or took out."""
        names = self._replaced | routed.route.own_headers | routed.exchange.head.dropped
        return names | routed.replaced

    def _rare(self, routed: Routed, rare: Rare) -> list[bytes]:
        """That trailers are welcome, which ones come, and how often the request may still be forwarded."""
        exchange = routed.exchange
        unwanted = self.not_in_trailers(routed)
        lines: list[bytes] = []
        if rare.upgrade:
            lines.append(b"\r\nUpgrade: " + rare.upgrade)
        if rare.upgrade or rare.trailers:
            options = (
                b"Upgrade, TE" if rare.upgrade and rare.trailers else b"Upgrade" if rare.upgrade else b"TE"
            )
            lines.append(b"\r\nConnection: " + options)
        if rare.trailers:
            lines.append(b"\r\nTE: trailers")
            if exchange.body is not None and exchange.body.is_unknown():
                names = announced(rare.announced, unwanted)
                if names:
                    lines.append(fields.line_of(b"Trailer", names))
        if rare.max_forwards and b"max-forwards" not in unwanted:
            if exchange.method in HOPPING:
                lines.append(b"\r\nMax-Forwards: %d" % (rare.hops - 1))
            else:
                lines.append(fields.line_of(b"Max-Forwards", rare.max_forwards))
        return lines

    def _for_proxy(self, routed: Routed, prefix: bytes, named: bytes) -> bytes:
        """The client's absolute URL, with its path and query as they are to be, or what CONNECT names."""
        target = routed.exchange.target
        if target.scheme is None:
            return target.raw
        path = target.raw
        if prefix or routed.path or routed.strip_query:
            path = self._target(routed, prefix)
        elif path == b"*":
            path = b""  # OPTIONS for the whole server: the last proxy makes it one, RFC 9112 section 3.2.4
        return b"%b://%b%b" % (target.scheme, named, path)

    @staticmethod
    def _target(routed: Routed, prefix: bytes) -> bytes:
        target = routed.exchange.target
        if not routed.path and not routed.strip_query:
            return prefix + target.raw if target.raw[:1] == b"/" else prefix
        path = encode_path(routed.path) if routed.path else target.raw.partition(b"?")[0]
        if path[:1] != b"/":
            path = b"/" + path
        if target.query is None or routed.strip_query:
            return prefix + path
        return b"%b%b?%b" % (prefix, path, target.query)

    @staticmethod
    def _frame(parts: list[bytes], length: int, expects_continue: bool) -> None:
        parts.append(b"\r\nContent-Length: %d" % length if length >= 0 else b"\r\nTransfer-Encoding: chunked")
        if expects_continue:
            parts.append(b"\r\nExpect: 100-continue")

    @staticmethod
    def _forwarded(routed: Routed, replaced: frozenset[bytes], *, trusted: bool) -> list[bytes]:
        """The three lines where X-Forwarded-For goes on, another sets one of them, or a trusted proxy has."""
        exchange = routed.exchange
        client = exchange.client
        chain = exchange.head.forwarded_for
        ip = client.ip.encode()
        values = {
            b"X-Forwarded-For": chain + b", " + ip if chain and ip else chain or ip or b"unknown",
            b"X-Forwarded-Host": exchange.authority,
            b"X-Forwarded-Proto": client.scheme,
        }
        if trusted:
            for name, value in reversed(exchange.head.headers):
                if fields.kind(name) == fields.FORWARDED_OTHER:
                    values[
                        b"X-Forwarded-Host" if name.lower().endswith(b"host") else b"X-Forwarded-Proto"
                    ] = value
        return [fields.line_of(name, value) for name, value in values.items() if name.lower() not in replaced]


def _says_length(exchange: Exchange) -> bool:
    """Whether the client says that its request has no content: some servers ask for it (RFC 9110 section 8.6)."""
    return any(fields.kind(name) == fields.CONTENT_LENGTH for name, _ in exchange.head.headers)


_FORWARDED: Final = frozenset({b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"})
_WITHOUT_CONTENT: Final = frozenset({"GET", "HEAD"})
