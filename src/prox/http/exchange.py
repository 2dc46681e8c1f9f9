"""One request and its answer, whatever the protocol of the connection: all that pipeline and actions know.

An answer is a sink: `begin` says the head, `write` and `end` pass the body, `fail` breaks it off visibly. `read_from` tells
what it is read from; a client that reads slowly pauses that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from http import HTTPStatus
from typing import TYPE_CHECKING

from prox.wire.messages import ClientCertificate

from .codec.fields import Headers, folded_name
from .codec.request import RequestHead
from .codec.response import ResponseHead
from .codec.target import Target
from .dates import http_date

if TYPE_CHECKING:
    from prox.limits import OwnLimits

    from .body import RequestBody
    from .streams import Sink, Source


class Client:
    """The peer of a connection, as it is known before any request.

    Attributes:
        ip: the peer's address, IPv4 never in IPv6 form; empty on a Unix socket.
        address: `ip:port` (`[v6]:port`), as hooks get it.
        scheme: b"http" or b"https".
        forwarded: X-Forwarded-For and -Proto of a request that came without, as lines.
        certificate: what the client showed and was verified; None where it showed none.
        limits: the limits of bandwidth that it has to itself; None while there is none.
        local: the socket address that it connected to; None where nobody asks for it.
    """

    __slots__ = ("address", "certificate", "forwarded", "ip", "limits", "local", "scheme")

    def __init__(self, peer: object, scheme: bytes = b"http") -> None:
        self.ip = ""
        self.address = "unix:0"
        self.limits: OwnLimits | None = None
        self.local: object = None
        self.scheme = scheme
        self.certificate: ClientCertificate | None = None
        if isinstance(peer, tuple) and len(peer) >= 2:
            ip = str(peer[0]).partition("%")[0].removeprefix("::ffff:")
            self.ip = ip
            self.address = f"[{ip}]:{peer[1]}" if ":" in ip else f"{ip}:{peer[1]}"
        self.forwarded = _forwarded(self.ip, scheme)

    def secured(self, certificate: ClientCertificate | None = None) -> Client:
        """The same behind TLS."""
        client = Client(None, b"https")
        client.ip = self.ip
        client.address = self.address
        client.limits = self.limits
        client.local = self.local
        client.certificate = certificate
        client.forwarded = _forwarded(self.ip, b"https")
        return client


def _forwarded(ip: str, scheme: bytes) -> bytes:
    return b"\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b" % (ip.encode() or b"unknown", scheme)


class Answer(ABC):
    """The answer's half of an exchange: what an action writes to.

    Where a hook has to see an answer before the client does, one stands in front of the exchange and holds it back.
    """

    @property
    @abstractmethod
    def began(self) -> bool:
        """Whether a final head was given, although the client may not have it yet."""

    @abstractmethod
    def read_from(self, source: Source | None) -> None:
        """Say what the answer's body is read from: it is paused while the client is slow."""

    @abstractmethod
    def begin(
        self,
        status: int,
        headers: Headers,
        length: int | None,
        *,
        dropped: frozenset[bytes] = frozenset(),
        reason_phrase: bytes | None = None,
    ) -> None:
        """Say the head of the final answer.

        Hop-by-hop and framing headers in `headers`, and those that `dropped` names, are left out: the connection frames.

        Args:
            status: 200 to 999.
            headers: the answer's headers.
            length: bytes of the body, also where none follows (HEAD, 304); None where it is not known.
            dropped: folded names that the upstream's Connection declared hop-by-hop.
            reason_phrase: the upstream's; the registered one when None.
        """

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Pass on some of the body."""

    @abstractmethod
    def end(self, data: bytes = b"") -> None:
        """Pass on the last of the body, if any: the answer is whole."""

    def end_with_trailers(self, data: bytes, trailers: bytes) -> None:  # noqa: ARG002 - dropped unless overridden
        """The same with trailer fields behind it (see Sink), where the client asked for such."""
        self.end(data)

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """Break the answer off such that the client sees that it is not whole."""

    @abstractmethod
    def interim(self, status: int, headers: Headers, reason_phrase: bytes | None = None) -> None:
        """Pass on a 1xx head, where the client's protocol knows it."""

    @abstractmethod
    def flush(self) -> None:
        """Send the head now, although no byte of the body has come."""

    def take_interim(self, head: ResponseHead) -> None:
        """Pass on an upstream's 1xx head."""
        headers = head.headers
        if head.dropped:
            headers = [pair for pair in headers if folded_name(pair[0]) not in head.dropped]
        self.interim(head.status, headers, head.reason)

    def take(self, head: ResponseHead) -> Sink:
        """Pass on an upstream's final head; returns where its body goes."""
        length: int | None = head.length
        if head.length <= 0:
            length = head.content_length if head.length == 0 else None
        self.begin(head.status, head.headers, length, dropped=head.dropped, reason_phrase=head.reason)
        return self

    @abstractmethod
    async def tunnel(self, head: ResponseHead) -> RequestBody | None:
        """Tell the client that the upstream agreed to a tunnel (101, or 2xx to CONNECT), and open it.

        From now on `write` passes raw bytes to the client, and `end` is the end of that direction alone. What the client
        sends is the body that comes back, paused until it is joined; it is the exchange's `body` too, so that both
        are counted. The body's `ended` is the client's half-close.

        Args:
            head: the upstream's, `changed` where a hook changed it. Its hop-by-hop and framing fields do not go on.

        Returns:
            None where a hook refused, and the client was answered so: the upstream is to be told to stop.
        """

    def respond(self, method: str, status: int, headers: Headers, body: bytes = b"") -> None:
        """Answer a request of `method` with a whole message that prox holds itself."""
        self.begin(status, [(b"Date", http_date()), *headers], len(body))
        self.end(b"" if method == "HEAD" or status in {204, 304} else body)


class Exchange(Answer):
    """One request and its answer.

    Attributes:
        head: the request's head as its codec read it.
        method: registered method, upper case.
        target: the request target taken apart.
        host: the host asked for: lower case, without port; empty where the client named none.
        authority: host and port as the client wrote them.
        body: None where there is none.
        expects_continue: the client waits for 100 before it sends its body.
        client: the connection's peer.
        started: when the head was complete, in the loop's time.
        status: of the answer, 0 before it began.
        bytes_out: body bytes of the answer so far.
        ended: the answer is complete.
        broken: the answer was broken off, or the client has gone.
        reason: why the exchange ended otherwise than asked, one token for the access log, or "".
        streams: the body may take its time: no rate is asked of it.
        source: where the answer's body is read from.
    """

    def __init__(
        self, head: RequestHead, target: Target, host: str, authority: bytes, client: Client, started: float
    ) -> None:
        self.head = head
        self.method = head.method
        self.target = target
        self.host = host
        self.authority = authority
        self.client = client
        self.started = started
        self.expects_continue = head.expects_continue
        self.body: RequestBody | None = None
        self.status = 0
        self.bytes_out = 0
        self.ended = False
        self.broken = False
        self.reason = ""
        self.streams = False
        self.source: Source | None = None

    @property
    def upgrade(self) -> bytes:
        """What the client asks to go over to: tokens of its Upgrade that may be forwarded, joined; b"" for none.

        An extended CONNECT of HTTP/2 (RFC 8441) is a GET with its `:protocol` here, and `extended`.
        """
        rare = self.head.rare
        return b"" if rare is None else rare.upgrade

    @property
    def extended(self) -> bool:
        """Whether the upgrade is an extended CONNECT: prox asks the upstream itself, by a handshake of its own."""
        rare = self.head.rare
        return rare is not None and rare.extended

    @property
    def asks_for_tunnel(self) -> bool:
        """Whether it is CONNECT or an upgrade: `body` is None until the tunnel opens. Then `head.rare` is there."""
        rare = self.head.rare
        return rare is not None and (self.method == "CONNECT" or rare.upgrade != b"")

    @property
    def opens_by_success(self) -> bool:
        """Whether the client takes any 2xx for an open tunnel: CONNECT or extended CONNECT. Then `head.rare` is there."""
        rare = self.head.rare
        return rare is not None and (rare.extended or self.method == "CONNECT")

    @property
    @abstractmethod
    def protocol(self) -> str:
        """As hooks get it, `HTTP/1.1`."""

    @abstractmethod
    def age(self) -> float:
        """Seconds since the head was complete."""

    @property
    def began(self) -> bool:
        """See Answer."""
        return self.status != 0

    def unsent(self) -> int:
        """Bytes of the answer that the client has not taken yet, as far as prox knows."""
        return 0

    @abstractmethod
    def drop(self) -> None:
        """Close without an answer."""

    @abstractmethod
    def send_continue(self) -> None:
        """Say 100 Continue, if the client waits for it and has not been told."""

    def refuse(
        self, status: int, text: str = "", *, reason: str = "", headers: Headers | None = None
    ) -> None:
        """Answer with one of prox's own short texts, that names no plugin and no upstream."""
        if reason:
            self.reason = reason
        body = f"{text or phrase(status)}\n".encode()
        self.respond(
            self.method, status, [(b"Content-Type", b"text/plain; charset=utf-8"), *(headers or [])], body
        )


def phrase(status: int) -> str:
    """The registered reason phrase, or an empty text."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
