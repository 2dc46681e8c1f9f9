"""What handlers are called with: a request, an answer, a connection, the end of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from prox.wire import (
    FEATURE_HEADERS_MULTI,
    ClientCertificate,
    ConnInfo,
    DisconnectInfo,
    RequestInfo,
    ResponsePair,
)

from . import verdicts
from .headers import Headers
from .tracing import Trace, trace_of
from .verdicts import Changes, HeaderValues, Verdict


def _ip(address: str) -> str:
    host, colon, _ = address.rpartition(":")
    return host.strip("[]") if colon else address


class Request:
    """The client's request, as it came: what another plugin set on it before does not show."""

    __slots__ = ("_features", "_headers", "_info")

    def __init__(self, info: RequestInfo, features: frozenset[str] = frozenset()) -> None:
        self._info = info
        self._features = features
        self._headers: Headers | None = None

    @property
    def route_id(self) -> str:
        """Id of the route that matched: `<service>:<index>`."""
        return self._info.route_id

    @property
    def method(self) -> str:
        """`GET`, `POST` and so on, as the client wrote it."""
        return self._info.method

    @property
    def path(self) -> str:
        """The path without its escapes and without the query."""
        return self._info.path

    @property
    def query(self) -> str:
        """The query as the client wrote it, without `?`."""
        return self._info.query

    @property
    def domain(self) -> str:
        """The host that was asked for, without a port."""
        return self._info.domain

    @property
    def host(self) -> str:
        """The Host header, with its port."""
        return self._info.host

    @property
    def proto(self) -> str:
        """`HTTP/1.1` or `HTTP/2.0`."""
        return self._info.proto

    @property
    def client(self) -> str:
        """The client's address, `ip:port`; the port is 0 where a trusted proxy named the client."""
        return self._info.remote_addr

    @property
    def client_ip(self) -> str:
        """The client's address alone."""
        return _ip(self._info.remote_addr)

    @property
    def headers(self) -> Headers:
        """Name to first value, read-only, in any case; `get_all` has all values (feature `headers.multi`)."""
        headers = self._headers
        if headers is None:
            values = self._info.all_values if FEATURE_HEADERS_MULTI in self._features else None
            headers = self._headers = Headers(self._info.headers, values)
        return headers

    @property
    def content_length(self) -> int:
        """Bytes of the whole body; 0 when there is none, -1 when it is not known before its end."""
        return self._info.content_length

    @property
    def body(self) -> bytes:
        """The first 64 KiB of the body.

        Empty where its length is not known beforehand, and for GET, HEAD, OPTIONS and DELETE.
        """
        return self._info.body

    @property
    def match_domain(self) -> str:
        """What `*` in the route's domain captured, several joined by `.`."""
        return self._info.match_domain

    @property
    def match_glob(self) -> str:
        """What `**` in the route's domain captured."""
        return self._info.match_glob

    @property
    def match_path(self) -> str:
        """The path pattern that matched."""
        return self._info.match_path

    @property
    def vars(self) -> Mapping[str, str]:
        """The route's `set` variables."""
        return MappingProxyType(self._info.vars)

    @property
    def target(self) -> str:
        """The address that the balancer chose, if there is a balancer."""
        return self._info.target

    @property
    def trace(self) -> Trace | None:
        """The trace that it belongs to (feature `trace`); None without the feature, and where the host has no such."""
        return trace_of(self._info.trace)

    @property
    def client_certificate(self) -> ClientCertificate | None:
        """The certificate that the client showed in the TLS handshake, verified (feature `tls.client`).

        `subject` is whom it names (RFC 4514), `fingerprint` its SHA-256 in hex. None without the feature, and where there
        was none.
        """
        return self._info.certificate

    def allow(
        self,
        headers: HeaderValues | None = None,
        *,
        append: HeaderValues | None = None,
        remove: Iterable[str] = (),
        response: Changes | None = None,
        path: str = "",
        strip_query: bool = False,
        download_mbps: float = 0,
        upload_mbps: float = 0,
        group_key: str = "",
    ) -> Verdict:
        """Let the request through; see `prox.sdk.allow`."""
        return verdicts.allow(
            headers,
            append=append,
            remove=remove,
            response=response,
            path=path,
            strip_query=strip_query,
            download_mbps=download_mbps,
            upload_mbps=upload_mbps,
            group_key=group_key,
        )

    def deny(self, status: int = 403, body: str | bytes = "", headers: HeaderValues | None = None) -> Verdict:
        """Answer the client here and now; see `prox.sdk.deny`."""
        return verdicts.deny(status, body, headers)

    def drop(self) -> Verdict:
        """Close the client's connection with no answer."""
        return verdicts.drop()

    def fallback(self) -> Verdict:
        """Let the fallback of the route's action serve the request."""
        return verdicts.fallback()

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.host}{self.path} on {self.route_id}>"


class Response:
    """The upstream's answer before it goes to the client, and the request that it answers."""

    __slots__ = ("_features", "_headers", "_pair", "_request")

    def __init__(self, pair: ResponsePair, features: frozenset[str] = frozenset()) -> None:
        self._pair = pair
        self._features = features
        self._request: Request | None = None
        self._headers: Headers | None = None

    @property
    def request(self) -> Request:
        """The request, as on_request saw it."""
        if self._request is None:
            self._request = Request(self._pair.request, self._features)
        return self._request

    @property
    def route_id(self) -> str:
        """Id of the route that matched."""
        return self._pair.request.route_id

    @property
    def status(self) -> int:
        """The upstream's status."""
        return self._pair.response.status

    @property
    def headers(self) -> Headers:
        """Name to first value, read-only, in any case; `get_all` has all values (feature `headers.multi`)."""
        if self._headers is None:
            response = self._pair.response
            values = response.all_values if FEATURE_HEADERS_MULTI in self._features else None
            self._headers = Headers(response.headers, values)
        return self._headers

    def modify(
        self,
        status: int | None = None,
        headers: HeaderValues | None = None,
        remove: Iterable[str] = (),
        *,
        append: HeaderValues | None = None,
    ) -> Changes:
        """Change the answer; see `prox.sdk.modify`."""
        return verdicts.modify(status, headers, remove, append=append)

    def __repr__(self) -> str:
        return f"<Response {self.status} to {self.request!r}>"


class Connection:
    """A TLS connection that prox is about to relay unread."""

    __slots__ = ("_info",)

    def __init__(self, info: ConnInfo) -> None:
        self._info = info

    @property
    def route_id(self) -> str:
        """Id of the route that matched."""
        return self._info.route_id

    @property
    def domain(self) -> str:
        """The name that the client asked for (SNI)."""
        return self._info.domain

    @property
    def client(self) -> str:
        """The client's address, `ip:port`."""
        return self._info.remote_addr

    @property
    def client_ip(self) -> str:
        """The client's address alone."""
        return _ip(self._info.remote_addr)

    @property
    def match_domain(self) -> str:
        """What `*` in the route's domain captured, several joined by `.`."""
        return self._info.match_domain

    @property
    def match_glob(self) -> str:
        """What `**` in the route's domain captured."""
        return self._info.match_glob

    def __repr__(self) -> str:
        return f"<Connection to {self.domain} on {self.route_id}>"


class Disconnect:
    """The end of an exchange or of a relayed connection."""

    __slots__ = ("_info",)

    def __init__(self, info: DisconnectInfo) -> None:
        self._info = info

    @property
    def route_id(self) -> str:
        """Id of the route."""
        return self._info.route_id

    @property
    def target(self) -> str:
        """The address that the balancer chose, if there is a balancer."""
        return self._info.target

    @property
    def client(self) -> str:
        """The client's address, `ip:port`."""
        return self._info.remote_addr

    @property
    def client_ip(self) -> str:
        """The client's address alone."""
        return _ip(self._info.remote_addr)

    @property
    def bytes_received(self) -> int:
        """Body bytes from the client."""
        return self._info.bytes_received

    @property
    def bytes_sent(self) -> int:
        """Body bytes to the client."""
        return self._info.bytes_sent

    @property
    def duration(self) -> float:
        """Seconds from start to end."""
        return self._info.duration_ms / 1000

    @property
    def trace(self) -> Trace | None:
        """The trace of the exchange (feature `trace`); see `Request.trace`."""
        return trace_of(self._info.trace)

    def __repr__(self) -> str:
        return f"<Disconnect of {self.client} on {self.route_id}>"
