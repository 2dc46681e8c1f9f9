"""The payloads and results of the hooks: readable names here, the protocol's short keys on the wire.

What the protocol lets a writer leave out is left out when it has its default; everything else is always
written, and must be there to be read. What belongs to a feature (see `features`) is left out by default.
The structs hold strings, numbers and maps of them and can't form cycles, so the garbage collector need not
track them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    Body: TypeAlias = str | bytes
else:
    Body = Any  # msgspec has no union of the two; `decode_result` checks it


class HeaderChanges(
    msgspec.Struct,
    rename={"remove": "rm", "set": "st", "append": "ad"},
    kw_only=True,
    frozen=True,
    omit_defaults=True,
    gc=False,
):
    """Changes to the headers of a message, done in the order of the attributes.

    A name counts in any case, and with `_` for `-`.

    Attributes:
        remove: names whose fields go.
        set: name to values: fields in place of all that the message has under the name; none where the list is empty.
        append: name to values: fields beside those that the message has.
    """

    remove: list[str] = []
    set: dict[str, list[str]] = {}
    append: dict[str, list[str]] = {}


class TraceContext(
    msgspec.Struct,
    rename={"traceparent": "tp", "tracestate": "ts"},
    kw_only=True,
    frozen=True,
    omit_defaults=True,
    gc=False,
):
    """W3C Trace Context as prox sends it to the upstream: its own span is the parent.

    Attributes:
        traceparent: version 00, trace id, id of prox's span, flags.
        tracestate: the client's, checked; empty for none.
    """

    traceparent: str
    tracestate: str = ""


class ClientCertificate(
    msgspec.Struct,
    rename={"subject": "sj", "fingerprint": "fp"},
    kw_only=True,
    frozen=True,
    omit_defaults=True,
    gc=False,
):
    """The certificate that a client showed in the TLS handshake, verified against `tls_client_ca`.

    Attributes:
        subject: whom it names, as RFC 4514 writes it (`CN=alice,O=Example`); empty where it names nobody.
        fingerprint: SHA-256 of the certificate, in lower-case hex.
    """

    subject: str = ""
    fingerprint: str


class RequestInfo(
    msgspec.Struct,
    rename={
        "route_id": "r",
        "method": "m",
        "path": "p",
        "query": "q",
        "domain": "d",
        "host": "ho",
        "proto": "pr",
        "remote_addr": "a",
        "content_length": "cl",
        "headers": "h",
        "body": "bd",
        "match_domain": "md",
        "match_glob": "mg",
        "match_path": "mp",
        "vars": "v",
        "target": "tg",
        "all_values": "hm",
        "trace": "tr",
        "certificate": "tc",
    },
    kw_only=True,
    frozen=True,
    omit_defaults=True,
    gc=False,
):
    """The request that on_request decides about.

    Attributes:
        route_id: id of the matched route.
        method: as the client wrote it.
        path: decoded, without the query; empty for CONNECT.
        query: as the client sent it, without `?`.
        domain: the host asked for, without a port.
        host: the Host header, with its port.
        proto: `HTTP/1.1` or `HTTP/2.0`.
        remote_addr: the client's `ip:port`.
        content_length: length of the whole body, 0 when there is none, -1 when it is unknown.
        headers: name in canonical form (`X-User-Id`) to first value.
        body: the first 64 KiB, where the body is shown at all.
        match_domain: what `*` in the domain pattern captured, joined by `.`.
        match_glob: what `**` captured.
        match_path: the path pattern that matched.
        vars: the route's `set` variables.
        target: the address that the balancer chose.
        all_values: of headers that came more than once, name to all values in order (feature `headers.multi`).
        trace: of the request (feature `trace`).
        certificate: the client's (feature `tls.client`).
    """

    route_id: str
    method: str
    path: str
    query: str = ""
    domain: str
    host: str = ""
    proto: str = ""
    remote_addr: str
    content_length: int = 0
    headers: dict[str, str]
    body: bytes = b""
    match_domain: str = ""
    match_glob: str = ""
    match_path: str = ""
    vars: dict[str, str] = {}
    target: str = ""
    all_values: dict[str, list[str]] = {}
    trace: TraceContext | None = None
    certificate: ClientCertificate | None = None


class UpstreamResponseInfo(
    msgspec.Struct,
    rename={"status": "s", "headers": "h", "all_values": "hm"},
    kw_only=True,
    frozen=True,
    omit_defaults=True,
    gc=False,
):
    """The answer that on_response may change.

    Attributes:
        status: of the answer.
        headers: name to first value.
        all_values: of headers that are there more than once, name to all values in order (feature `headers.multi`).
    """

    status: int
    headers: dict[str, str]
    all_values: dict[str, list[str]] = {}


class ResponsePair(
    msgspec.Struct, rename={"request": "req", "response": "resp"}, kw_only=True, frozen=True, gc=False
):
    """What on_response is called with: the request as on_request saw it, and the answer to it."""

    request: RequestInfo
    response: UpstreamResponseInfo


class ConnInfo(
    msgspec.Struct,
    rename={
        "route_id": "r",
        "domain": "d",
        "remote_addr": "a",
        "match_domain": "md",
        "match_glob": "mg",
    },
    kw_only=True,
    frozen=True,
    omit_defaults=True,
    gc=False,
):
    """A TLS connection that is to be relayed unread: route, SNI name, client's `ip:port`, captures."""

    route_id: str
    domain: str
    remote_addr: str
    match_domain: str = ""
    match_glob: str = ""


class DisconnectInfo(
    msgspec.Struct,
    rename={
        "route_id": "r",
        "target": "tg",
        "remote_addr": "a",
        "bytes_received": "rx",
        "bytes_sent": "tx",
        "duration_ms": "ms",
        "trace": "tr",
    },
    kw_only=True,
    frozen=True,
    omit_defaults=True,
    gc=False,
):
    """The end of an exchange or of a relayed connection; it has no answer.

    Attributes:
        route_id: id of the route.
        target: the balancer's choice, if there was one.
        remote_addr: the client's `ip:port`.
        bytes_received: body bytes from the client.
        bytes_sent: body bytes to the client.
        duration_ms: milliseconds from its start to its end.
        trace: of the exchange (feature `trace`).
    """

    route_id: str
    target: str = ""
    remote_addr: str
    bytes_received: int
    bytes_sent: int
    duration_ms: int
    trace: TraceContext | None = None


class Speed(
    msgspec.Struct,
    rename={"download_mbps": "dl", "upload_mbps": "ul", "group_key": "gk"},
    kw_only=True,
    frozen=True,
    omit_defaults=True,
    gc=False,
):
    """Bandwidth caps in megabits a second, 0 for none; `group_key` names the bucket that is shared."""

    download_mbps: float = 0
    upload_mbps: float = 0
    group_key: str = ""


class AuthorizeResult(
    msgspec.Struct,
    rename={
        "allow": "ok",
        "drop": "dr",
        "fallback": "fb",
        "status": "s",
        "body": "b",
        "headers": "h",
        "speed": "sp",
        "strip_query": "cq",
        "path": "rp",
        "changes": "hc",
        "response": "rc",
    },
    kw_only=True,
    frozen=True,
    omit_defaults=True,
    gc=False,
):
    """The verdict of on_request.

    Attributes:
        allow: pass the request on.
        drop: close the connection with no answer.
        fallback: let the action's fallback serve it.
        status: of a denial; 0 means 403.
        body: of a denial; text, or bytes where they are not UTF-8.
        headers: onto the upstream request when allowed, onto the denial when not.
        speed: bandwidth caps.
        strip_query: send the upstream no query.
        path: decoded path to send upstream in place of the client's.
        changes: to the headers of the upstream request when allowed, of the denial when not (feature
            `headers.multi`).
        response: changes to the headers of the client's response, when allowed (feature `response.allow`).
    """

    allow: bool
    drop: bool = False
    fallback: bool = False
    status: int = 0
    body: Body = ""
    headers: dict[str, str] = {}
    speed: Speed | None = None
    strip_query: bool = False
    path: str = ""
    changes: HeaderChanges | None = None
    response: HeaderChanges | None = None


class ResponseModResult(
    msgspec.Struct,
    rename={"status": "s", "headers": "h", "remove": "rm", "changes": "hc"},
    kw_only=True,
    frozen=True,
    omit_defaults=True,
    gc=False,
):
    """What on_response changes.

    Attributes:
        status: 200 to 599, or 0 for no change.
        headers: set on the answer.
        remove: names of headers to remove first.
        changes: to headers with several values (feature `headers.multi`).
    """

    status: int = 0
    headers: dict[str, str] = {}
    remove: list[str] = []
    changes: HeaderChanges | None = None


class ConnResult(msgspec.Struct, rename={"allow": "ok"}, kw_only=True, frozen=True, gc=False):
    """The verdict of on_connect."""

    allow: bool


class Envelope(msgspec.Struct, rename={"hook": "t", "data": "d"}, frozen=True, gc=False):
    """What a call's frame holds: the hook's number, and the payload's own msgpack as bytes."""

    hook: int
    data: bytes


Payload: TypeAlias = RequestInfo | ResponsePair | ConnInfo | DisconnectInfo
"""What a hook is called with."""

Result: TypeAlias = AuthorizeResult | ResponseModResult | ConnResult
"""What a hook answers; on_disconnect answers nothing."""
