"""Between the pipeline and the plugins: what a hook is shown of a request, and what becomes of its verdict."""

from __future__ import annotations

from typing import Final

import msgspec

from prox.http.body import RequestBody
from prox.http.codec import fields
from prox.http.codec.fields import Headers
from prox.http.codec.request import RequestHead
from prox.http.exchange import Exchange
from prox.plugin.merge import slower
from prox.wire import (
    FEATURE_HEADERS_MULTI,
    FEATURE_TLS_CLIENT,
    AuthorizeResult,
    HeaderChanges,
    RequestInfo,
    ResponseModResult,
    UpstreamResponseInfo,
)

from .altered import AlteredAnswer, altered, folded, kept, lines_of
from .route import Routed

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


def repeated_values(headers: Headers, hidden: frozenset[bytes] = frozenset()) -> dict[str, list[str]]:
    """Canonical names of what is there more than once to all values in order, without what `first_values` leaves out."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        if fields.kind(name) == fields.HOST or (hidden and fields.folded_name(name) in hidden):
            continue
        values.setdefault(canonical_name(name.decode("latin-1")), []).append(text_of(value.strip(b" \t")))
    return {name: several for name, several in values.items() if len(several) > 1}


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


def with_features(routed: Routed, info: RequestInfo, features: frozenset[str]) -> RequestInfo:
    """What on_request is shown where a plugin of the route has named features; the host sees to who gets what of it."""
    values: dict[str, list[str]] = {}
    if FEATURE_HEADERS_MULTI in features:
        values = repeated_values(routed.exchange.head.headers, routed.route.own_headers)
    return msgspec.structs.replace(
        info,
        all_values=values,
        trace=routed.trace,
        certificate=routed.exchange.client.certificate if FEATURE_TLS_CLIENT in features else None,
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
        _set(routed, _encoded(verdict.headers), frozenset([folded(name) for name in verdict.headers]))
    changes = verdict.changes
    if changes is not None:
        _set(routed, lines_of(changes.set), frozenset([folded(name) for name in changes.set]))
        routed.replaced |= frozenset([folded(name) for name in changes.remove])
        routed.appended = [*routed.appended, *lines_of(changes.append)]
    if verdict.response is not None:
        _alter_answer(routed, verdict.response)
    if verdict.path:
        routed.path = verdict.path
    if verdict.strip_query:
        routed.strip_query = True
    if verdict.speed is not None:
        routed.speed = verdict.speed if routed.speed is None else slower(routed.speed, verdict.speed)


def _set(routed: Routed, pairs: Headers, names: frozenset[bytes]) -> None:
    """Set headers of the upstream's request; `names` are all that the pairs take the place of, folded."""
    if routed.headers:
        pairs = [*kept(routed.headers, names), *pairs]
    routed.headers = pairs
    routed.replaced = routed.replaced | names if routed.replaced else names


def _alter_answer(routed: Routed, changes: HeaderChanges) -> None:
    """Keep what is to be changed in the answer; one that is held back looks at it, any other passes it."""
    routed.response_changes = [*routed.response_changes, changes]
    answer: object = routed.answer
    if isinstance(answer, AlteredAnswer):
        answer.changes = routed.response_changes
    elif answer is routed.exchange:
        routed.answer = AlteredAnswer(routed.exchange, routed.response_changes)


def deny(exchange: Exchange, verdict: AuthorizeResult) -> None:
    """Answer as the plugin says; its own Content-Type holds."""
    headers = _encoded(verdict.headers)
    if verdict.changes is not None:
        headers = altered(headers, [verdict.changes])
    if not any(fields.folded_name(name) == b"content-type" for name, _ in headers):
        headers.insert(0, (b"Content-Type", b"text/plain; charset=utf-8"))
    body = verdict.body if isinstance(verdict.body, bytes) else verdict.body.encode()
    exchange.reason = "plugin_denied"
    status = verdict.status or 403
    if status < 300 and exchange.opens_by_success:
        status = 403
    exchange.respond(exchange.method, status, headers, body)


def response_info(status: int, headers: Headers, features: frozenset[str]) -> UpstreamResponseInfo:
    """What on_response is shown."""
    values: dict[str, list[str]] = {}
    if FEATURE_HEADERS_MULTI in features:
        values = repeated_values(headers)
    return UpstreamResponseInfo(status=status, headers=first_values(headers), all_values=values)


def changed(status: int, headers: Headers, result: ResponseModResult) -> tuple[int, Headers]:
    """The answer's head after on_response: removals first, then what is set."""
    if result.remove:
        headers = kept(headers, {folded(name) for name in result.remove})
    if result.headers:
        headers = [*kept(headers, {folded(name) for name in result.headers}), *_encoded(result.headers)]
    if result.changes is not None:
        headers = altered(headers, [result.changes])
    return result.status or status, headers


def _encoded(headers: dict[str, str]) -> Headers:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
