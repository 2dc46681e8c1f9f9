"""The head of the request that goes upstream.

Of the client's headers only those go on that mean nothing to a proxy, byte for byte, without those that the action or a plugin
sets; what is hop-by-hop, frames or tells the client's address is made anew. Path and query go on as they came, too, unless a
plugin rewrote them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prox.http.codec import fields
from prox.http.codec.target import encode_path

from .route import Routed


class HeadBuilder:
    """Makes the heads of one proxy action.

    Args:
        headers: what the action sets; `Host` replaces the upstream's own.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        lines = {
            fields.folded_name(name.encode()): (name.encode(), value.encode())
            for name, value in headers.items()
        }
        host = lines.pop(b"host", None)
        self._host = None if host is None else host[1]
        self._lines = lines
        self._fixed = b"".join(b"%b: %b\r\n" % pair for pair in lines.values())
        self._replaced = frozenset(lines)
        self._plain = not (lines.keys() & _FORWARDED)

    def build(self, routed: Routed, host: bytes, prefix: bytes, *, trusted: bool) -> bytes:
        """The whole head, from the request line to the empty line.

        Args:
            routed: the request.
            host: the upstream's own host, for Host.
            prefix: the upstream's path prefix, "" or from its first "/" without the last.
            trusted: the peer is a trusted proxy, whose X-Forwarded-Proto and -Host are kept.
        """
        exchange = routed.exchange
        parts = [
            exchange.method.encode(),
            b" ",
            self._target(routed, prefix),
            b" HTTP/1.1\r\nHost: ",
            self._host or host,
            b"\r\n",
        ]
        dropped = exchange.dropped
        fixed = self._fixed
        forwarded = self._plain
        own: frozenset[bytes] = frozenset()
        if routed.route.own_headers:
            dropped |= routed.route.own_headers
        if self._replaced:
            dropped |= self._replaced
        if routed.headers:
            own = frozenset([fields.folded_name(name) for name, _ in routed.headers])
            dropped |= own
            forwarded = forwarded and own.isdisjoint(_FORWARDED)
            if not own.isdisjoint(self._replaced):
                fixed = b"".join(
                    b"%b: %b\r\n" % pair for name, pair in self._lines.items() if name not in own
                )
            if b"host" in own:
                parts[4] = next(value for name, value in routed.headers if name.lower() == b"host")
        if dropped:
            for name, value in exchange.plain_pairs():
                if fields.folded_name(name) not in dropped:
                    parts += (name, b": ", value, b"\r\n")
        else:
            parts += exchange.plain
        if exchange.body is not None:
            self._frame(parts, exchange.body.length, exchange.expects_continue)
        if forwarded and not trusted:
            self._forwarded(parts, routed)
        else:
            self._forwarded_carefully(parts, routed, own | self._lines.keys(), trusted=trusted)
        parts.append(fixed)
        for name, value in routed.headers:
            if name.lower() != b"host":
                parts += (name, b": ", value, b"\r\n")
        parts.append(b"\r\n")
        return b"".join(parts)

    @staticmethod
    def _target(routed: Routed, prefix: bytes) -> bytes:
        target = routed.exchange.target
        if not routed.path and not routed.strip_query:
            if not prefix:
                return target.raw
            return prefix + target.raw if target.raw[:1] == b"/" else prefix
        path = encode_path(routed.path) if routed.path else target.raw.partition(b"?")[0]
        if path[:1] != b"/":
            path = b"/" + path
        if target.query is None or routed.strip_query:
            return prefix + path
        return b"%b%b?%b" % (prefix, path, target.query)

    @staticmethod
    def _frame(parts: list[bytes], length: int, expects_continue: bool) -> None:
        if length >= 0:
            parts.append(b"Content-Length: %d\r\n" % length)
        else:
            parts.append(b"Transfer-Encoding: chunked\r\n")
        if expects_continue:
            parts.append(b"Expect: 100-continue\r\n")

    @staticmethod
    def _forwarded(parts: list[bytes], routed: Routed) -> None:
        exchange = routed.exchange
        ip = exchange.client.ip.encode()
        if exchange.forwarded_for:
            ip = exchange.forwarded_for + b", " + ip if ip else exchange.forwarded_for
        parts += (
            b"X-Forwarded-For: ",
            ip or b"unknown",
            b"\r\nX-Forwarded-Host: ",
            exchange.authority,
            b"\r\nX-Forwarded-Proto: ",
            exchange.client.scheme,
            b"\r\n",
        )

    @classmethod
    def _forwarded_carefully(
        cls, parts: list[bytes], routed: Routed, replaced: frozenset[bytes], *, trusted: bool
    ) -> None:
        """The same where one of the three is set otherwise, or comes from a trusted proxy."""
        lines: list[bytes] = []
        cls._forwarded(lines, routed)
        kept: dict[bytes, bytes] = {}
        if trusted:
            for name, value in routed.exchange.headers:
                if fields.kind(name) == fields.FORWARDED_OTHER:
                    kept.setdefault(name.lower(), value)
        for line in b"".join(lines).split(b"\r\n")[:-1]:
            name = line.partition(b":")[0]
            folded = name.lower()
            if folded not in replaced:
                parts.append(b"%b: %b\r\n" % (name, kept[folded]) if folded in kept else line + b"\r\n")


_FORWARDED = frozenset({b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"})
