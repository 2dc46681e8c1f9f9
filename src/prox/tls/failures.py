"""Telling a client why its handshake failed, and prox which one it was.

asyncio's TLS closes a failed connection without sending the alert that OpenSSL has written, so clients see no more than a
cut. Here the failure is kept for who waits for the handshake, and the loop is told to go on: it sends the alert. A client
that speaks plain HTTP gets an answer that it understands.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from .records import RecordObject

_MESSAGE: Final = b"this port speaks HTTPS, and the request was plain HTTP\n"

HTTP: Final = frozenset({"HTTP_REQUEST", "HTTPS_PROXY_REQUEST"})
"""OpenSSL's reasons where what came is plain HTTP."""

PLAIN_HTTP: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%b" % (len(_MESSAGE), _MESSAGE)
)
"""What is sent to a client that speaks plain HTTP where TLS is spoken."""


class Attempt:
    """One handshake.

    Args:
        on_failure: called when it fails: the alert is sent next, and then the client may have a moment to read it.

    Attributes:
        failure: why it failed, None as long as it did not.
    """

    def __init__(self, on_failure: Callable[[ssl.SSLError], None]) -> None:
        self.failure: ssl.SSLError | None = None
        self._on_failure = on_failure

    def failed(self, failure: ssl.SSLError) -> None:
        """It failed."""
        self.failure = failure
        self._on_failure(failure)


attempt: ContextVar[Attempt | None] = ContextVar("attempt", default=None)
"""The handshake that a connection begins with: the loop makes its TLS object in a copy of the context that it was set in."""


class HandshakeObject(RecordObject):
    """A TLS object that hands its failed handshake to the `attempt`."""

    _attempt: Attempt | None = None
    _outgoing: ssl.MemoryBIO | None = None

    def do_handshake(self) -> None:
        """See ssl.SSLObject."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as failure:
            if self._attempt is None or self._attempt.failure is not None:
                raise
            if failure.reason in HTTP and self._outgoing is not None:
                self._outgoing.write(PLAIN_HTTP)
            self._attempt.failed(failure)
            raise ssl.SSLWantReadError from failure  # the loop sends what is there, and waits for the client's end


class ServerContext(ssl.SSLContext):
    """A context whose objects know their attempt."""

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **kwargs: Any
    ) -> ssl.SSLObject:
        """See ssl.SSLContext."""
        made = super().wrap_bio(incoming, outgoing, *args, **kwargs)
        if isinstance(made, HandshakeObject):
            made._attempt = attempt.get()  # noqa: SLF001 - two halves of one mechanism
            made._outgoing = outgoing  # noqa: SLF001 - the same
        return made
