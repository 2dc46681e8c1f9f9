"""One request to an upstream and its answer, whatever the protocol of the connection: all that actions know of it.

A call is the sink of the request's body and the source of the answer's. Base classes and no Protocols: compiled, a call of
their methods is a look into a table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

from prox.flow import Completion

if TYPE_CHECKING:
    from .codec.response import ResponseHead
    from .errors import UpstreamError
    from .streams import Sink, Source


class Receiver(Protocol):
    """Takes an answer."""

    def take_interim(self, head: ResponseHead) -> None:
        """A 1xx head came."""

    def take(self, head: ResponseHead) -> Sink:
        """The final head came: returns where its body goes."""

    def flush(self) -> None:
        """No byte of the body came with the head: what has come must not wait for it."""


class UpstreamCall(ABC):
    """One request at a time: an HTTP/1.1 connection, or a stream of an HTTP/2 connection.

    No method raises: what goes wrong is told by `error` once `finished` is set.

    Attributes:
        finished: set when the exchange is over, whatever its end.
        error: why it failed, None where the answer was whole.
        used: how many requests were sent on the connection, this one included.
    """

    __slots__ = ("error", "finished", "used")

    def __init__(self) -> None:
        self.finished = Completion()
        self.error: UpstreamError | None = None
        self.used = 0

    # The request.

    @abstractmethod
    def send(self, head: bytes, method: str, receiver: Receiver) -> None:
        """Send a request that has no body; `finished` tells when its answer is over.

        Args:
            head: of HTTP/1.1, from the request line to the empty line; a connection of another protocol takes it apart.
            method: its method.
            receiver: takes the answer.
        """

    @abstractmethod
    def upload(
        self,
        head: bytes,
        method: str,
        receiver: Receiver,
        body: Source,
        *,
        chunked: bool,
        patient: bool = False,
    ) -> None:
        """Begin a request whose body is about to be written to this call as a sink.

        Args:
            head: see `send`.
            method: its method.
            receiver: takes the answer.
            body: is paused while the upstream is slow.
            chunked: nobody knows how long the body is.
            patient: the upstream may take no byte of the body for as long as it likes.
        """

    @abstractmethod
    def flush(self) -> None:
        """Send the head although no byte of the body has come."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send some of the body (see Sink)."""

    @abstractmethod
    def end(self, data: bytes = b"") -> None:
        """Send the last of the body (see Sink)."""

    @abstractmethod
    def end_with_trailers(self, data: bytes, trailers: bytes) -> None:
        """Send the last of the body and what stands behind it (see Sink)."""

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """The client broke its request off: so does this call (see Sink)."""

    # The answer.

    @abstractmethod
    def pause(self) -> None:
        """See Source."""

    @abstractmethod
    def resume(self) -> None:
        """See Source."""

    @abstractmethod
    def stop(self) -> None:
        """See Source: the rest of the answer is not wanted; `finished` is set."""


class Supply(ABC):
    """What is open to one address and free for a request."""

    __slots__ = ()

    @abstractmethod
    def take(self) -> UpstreamCall | None:
        """A call on an open connection; None when one has to be opened."""
