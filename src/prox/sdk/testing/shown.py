"""Requests as prox shows them to a plugin."""

from __future__ import annotations

from collections.abc import Mapping

from prox.sdk.verdicts import HeaderValues
from prox.wire import BODY_LIMIT, ClientCertificate, RequestInfo, TraceContext

CLIENT = "192.0.2.1:50000"
"""The client's address, unless a test says another (RFC 5737)."""
DOMAIN = "example.com"
ROUTE = "web:0"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""A trace for tests: the W3C's own example."""
_NO_BODY = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})


def make_request(
    method: str = "GET",
    path: str = "/",
    *,
    headers: HeaderValues | None = None,
    body: bytes = b"",
    content_length: int | None = None,
    query: str | None = None,
    domain: str = DOMAIN,
    host: str | None = None,
    proto: str = "HTTP/1.1",
    client: str = CLIENT,
    route_id: str = ROUTE,
    match_domain: str = "",
    match_glob: str = "",
    match_path: str = "",
    vars: Mapping[str, str] | None = None,  # noqa: A002 - the protocol's name
    target: str = "",
    trace: str = TRACE,
    tracestate: str = "",
    certificate: ClientCertificate | None = None,
) -> RequestInfo:
    """A request as prox would show it.

    Args:
        method: of the request.
        path: decoded; what stands behind a `?` is the query, unless `query` is given.
        headers: their names get the form `X-User-Id`; `Host` goes where it belongs. A list of values stands for a header
            that comes more than once.
        body: of the request: shown as prox does it, so not for GET, HEAD, OPTIONS and DELETE, and never more
            than its first 64 KiB.
        content_length: of the whole body; the length of `body` unless given, -1 for a body of unknown length,
            which is not shown.
        query: without `?`.
        domain: host without a port.
        host: the Host header; `domain` unless given.
        proto: `HTTP/1.1` or another.
        client: its `ip:port`.
        route_id: the route that matched.
        match_domain: what `*` in the domain stands for.
        match_glob: what `**` stands for.
        match_path: the path pattern that matched.
        vars: the route's `set` variables.
        target: what the balancer chose.
        trace: `traceparent` as prox would send it to the upstream; a plugin without the feature is not shown it.
        tracestate: what goes with it.
        certificate: what the client showed in the TLS handshake; a plugin without the feature is not shown it.
    """
    if query is None:
        path, _, query = path.partition("?")
    shown, all_values = shown_headers(headers)
    named = shown.pop("Host", None)
    length = len(body) if content_length is None else content_length
    return RequestInfo(
        route_id=route_id,
        method=method,
        path=path,
        query=query,
        domain=domain,
        host=host or named or domain,
        proto=proto,
        remote_addr=client,
        content_length=length,
        headers=shown,
        body=body[:BODY_LIMIT] if length > 0 and method not in _NO_BODY else b"",
        match_domain=match_domain,
        match_glob=match_glob,
        match_path=match_path,
        vars=dict(vars or {}),
        target=target,
        all_values=all_values,
        trace=TraceContext(traceparent=trace, tracestate=tracestate) if trace else None,
        certificate=certificate,
    )


def shown_headers(headers: HeaderValues | None) -> tuple[dict[str, str], dict[str, list[str]]]:
    """First values under names in canonical form, and all values of those that have several."""
    first: dict[str, str] = {}
    several: dict[str, list[str]] = {}
    for name, value in (headers or {}).items():
        if isinstance(value, str):
            first[canonical(name)] = value
        elif value:
            first[canonical(name)] = value[0]
            if len(value) > 1:
                several[canonical(name)] = list(value)
    return first, several


def canonical(name: str) -> str:
    """The form in which prox shows a header's name: `X-User-Id`."""
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))
