"""Between the pipeline and the plugins: what a hook is shown of a request, and what becomes of its verdict."""

from __future__ import annotations

import logging
from typing import Final

from prox.http.body import RequestBody
from prox.http.codec import fields
from prox.http.codec.fields import Headers
from prox.http.codec.request import RequestHead
from prox.http.exchange import Exchange
from prox.wire import AuthorizeResult, RequestInfo, ResponseModResult, UpstreamResponseInfo

from .route import Routed

_log: Final = logging.getLogger("prox.proxy")

_limited: Final[set[str]] = set()
"""Routes on which a limit of speed that has no effect was reported already."""

BODY_SHOWN: Final = 64 * 1024
"""Bytes of a body that on_request sees."""

_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})


_canonical: Final[dict[str, str]] = {}
_MANY: Final = 4096
_LONG: Final = 256
"""Names are remembered, as many and as long as that: a peer may send what names it likes."""


def canonical_name(name: str) -> str:
    """A header's name as hooks get it: `x-user-id` is `X-User-Id`."""
    known = _canonical.get(name)
    if known is not None:
        return known
    known = "-".join([part.capitalize() for part in name.split("-")])
    if len(name) <= _LONG:
        if len(_canonical) >= _MANY:
            _canonical.clear()
        _canonical[name] = known
    return known


def text_of(value: bytes) -> str:
    """Bytes as text: UTF-8, or as Latin-1 where they are not."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def first_values(headers: Headers, hidden: frozenset[bytes] = frozenset()) -> dict[str, str]:
    """Canonical names to first values, without Host and the `hidden` (folded) names."""
    shown: dict[str, str] = {}
    for name, value in headers:
        if fields.kind(name) == fields.HOST or (hidden and fields.folded_name(name) in hidden):
            continue
        shown.setdefault(canonical_name(name.decode("latin-1")), text_of(value.strip(b" \t")))
    return shown


def shown_headers(head: RequestHead, hidden: frozenset[bytes]) -> dict[str, str]:
    """`first_values` of a request's headers, read from the block that most of them are and decoded in one go."""
    plain = fields.without(head.plain, hidden) if hidden else head.plain
    try:
        text = plain.decode()
    except UnicodeDecodeError:  # each value by itself
        return first_values(head.headers, hidden)
    shown: dict[str, str] = {}
    for line in text.split("\r\n")[1:]:
        name, _, value = line.partition(":")
        name = canonical_name(name)
        if name not in shown:
            shown[name] = value.strip(" \t")
    special = head.special
    if len(special) > 1 or (special and fields.kind(special[0][0]) != fields.HOST):
        shown.update(first_values(special, hidden))  # names of the one are never names of the other
    return shown


def request_info(routed: Routed, shown_body: bytes) -> RequestInfo:
    """What on_request is shown; `shown_body` is what `body_shown` gave."""
    exchange = routed.exchange
    match = routed.match
    target = exchange.target
    body = exchange.body
    return RequestInfo(
        route_id=routed.route.id,
        method=exchange.method,
        path=target.path,
        query=text_of(target.query) if target.query else "",
        domain=exchange.host,
        host=exchange.authority.decode("latin-1"),
        proto=exchange.protocol,
        remote_addr=routed.client_address,
        content_length=0 if body is None else body.length,
        headers=shown_headers(exchange.head, routed.route.own_headers),
        body=shown_body,
        match_domain=match.match_domain,
        match_glob=match.match_glob,
        match_path=match.match_path,
        vars=routed.route.variables,
        target="" if routed.target is None else routed.target.address,
    )


async def body_shown(exchange: Exchange, body: RequestBody) -> bytes:
    """The part of a body that on_request is shown. Waits for it."""
    if body.length <= 0 or exchange.method in _WITHOUT_BODY:
        return b""
    exchange.send_continue()
    return await body.peek(BODY_SHOWN)


def take_verdict(routed: Routed, verdict: AuthorizeResult) -> None:
    """Keep what an allowing verdict changes about the upstream's request; later ones go before earlier."""
    if verdict.headers:
        routed.headers = replaced(routed.headers, verdict.headers)
    if verdict.path:
        routed.path = verdict.path
    if verdict.strip_query:
        routed.strip_query = True
    if verdict.speed is not None and routed.route.id not in _limited:
        _limited.add(routed.route.id)
        _log.warning(
            "route %s: a plugin limits the speed, which this version does not do yet", routed.route.id
        )


def deny(exchange: Exchange, verdict: AuthorizeResult) -> None:
    """Answer as the plugin says; its own Content-Type holds."""
    headers = _encoded(verdict.headers)
    if not any(fields.folded_name(name) == b"content-type" for name, _ in headers):
        headers.insert(0, (b"Content-Type", b"text/plain; charset=utf-8"))
    body = verdict.body if isinstance(verdict.body, bytes) else verdict.body.encode()
    exchange.reason = "plugin_denied"
    exchange.respond(exchange.method, verdict.status or 403, headers, body)


def response_info(status: int, headers: Headers) -> UpstreamResponseInfo:
    """What on_response is shown."""
    return UpstreamResponseInfo(status=status, headers=first_values(headers))


def changed(status: int, headers: Headers, result: ResponseModResult) -> tuple[int, Headers]:
    """The answer's head after on_response: removals first, then what is set."""
    if result.remove:
        gone = {fields.folded_name(name.encode()) for name in result.remove}
        headers = [pair for pair in headers if fields.folded_name(pair[0]) not in gone]
    if result.headers:
        headers = replaced(headers, result.headers)
    return result.status or status, headers


def replaced(headers: Headers, new: dict[str, str]) -> Headers:
    """`headers` with all copies of the `new` names, in any case and with `_` for `-`, replaced by one each."""
    pairs = _encoded(new)
    if not headers:
        return pairs
    names = {fields.folded_name(name) for name, _ in pairs}
    return [*(pair for pair in headers if fields.folded_name(pair[0]) not in names), *pairs]


def _encoded(headers: dict[str, str]) -> Headers:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
