"""What bytes flow through: a source is joined to a sink, and the sink pauses its source when it is full.

Control waits in coroutines; bytes pass by calls, in the call that read them (see the architecture page). A limit or a
counter on the way is a sink before the sink.
"""

from __future__ import annotations

from typing import Final, Protocol


class Source(Protocol):
    """Where bytes come from."""

    def pause(self) -> None:
        """Stop calling the sink until `resume`; bytes that were read already may still come."""

    def resume(self) -> None:
        """Go on after `pause`."""

    def stop(self) -> None:
        """Nobody wants the rest."""


class Sink(Protocol):
    """Where bytes go to."""

    def write(self, data: bytes) -> None:
        """Take some bytes, never empty."""

    def end(self, data: bytes = b"") -> None:
        """Take the last bytes, if any, and end: the message is whole."""

    def end_with_trailers(self, data: bytes, trailers: bytes) -> None:
        """The same with trailer fields behind it, as lines each with the line end before it; a sink may drop them."""

    def fail(self, error: Exception) -> None:
        """The source broke off: what was written is not a whole message and must not be passed off as one."""


class Nowhere:
    """A sink for what nobody wants any more."""

    def write(self, data: bytes) -> None:
        """See Sink."""

    def end(self, data: bytes = b"") -> None:
        """See Sink."""

    def end_with_trailers(self, data: bytes, trailers: bytes) -> None:
        """See Sink."""

    def fail(self, error: Exception) -> None:
        """See Sink."""


NOWHERE: Final = Nowhere()
