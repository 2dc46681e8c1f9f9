"""An answer whose headers plugins have changed beforehand, when they allowed the request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prox.http.codec import fields
from prox.http.codec.fields import Headers
from prox.http.codec.response import ResponseHead
from prox.http.exchange import Answer, Exchange
from prox.http.streams import Sink, Source
from prox.wire import HeaderChanges

if TYPE_CHECKING:
    from prox.http.body import RequestBody


class AlteredAnswer(Answer):
    """Stands in front of an exchange until the head has passed; the body goes straight on.

    prox's own errors and a plugin's denial are no answers of an action and do not pass here.

    Attributes:
        changes: what plugins change, in the order in which they were asked.
    """

    def __init__(self, exchange: Exchange, changes: list[HeaderChanges]) -> None:
        self._exchange = exchange
        self.changes = changes

    @property
    def began(self) -> bool:
        """See Answer."""
        return self._exchange.began

    def read_from(self, source: Source | None) -> None:
        """See Answer."""
        self._exchange.read_from(source)

    def begin(
        self,
        status: int,
        headers: Headers,
        length: int | None,
        *,
        dropped: frozenset[bytes] = frozenset(),
        reason_phrase: bytes | None = None,
    ) -> None:
        """See Answer."""
        if dropped:
            headers = kept(headers, dropped)
        headers = altered(headers, self.changes)
        self._exchange.begin(status, headers, length, reason_phrase=reason_phrase)

    def take(self, head: ResponseHead) -> Sink:
        """See Answer."""
        super().take(head)
        return self._exchange

    def write(self, data: bytes) -> None:
        """See Answer."""
        self._exchange.write(data)

    def end(self, data: bytes = b"") -> None:
        """See Answer."""
        self._exchange.end(data)

    def end_with_trailers(self, data: bytes, trailers: bytes) -> None:
        """See Answer."""
        self._exchange.end_with_trailers(data, trailers)

    def fail(self, error: Exception) -> None:
        """See Answer."""
        self._exchange.fail(error)

    def interim(self, status: int, headers: Headers, reason_phrase: bytes | None = None) -> None:
        """See Answer: not changed."""
        self._exchange.interim(status, headers, reason_phrase)

    async def tunnel(self, head: ResponseHead) -> RequestBody | None:
        """See Answer."""
        headers = kept(head.headers, head.dropped) if head.dropped else head.headers
        return await self._exchange.tunnel(head.changed(head.status, altered(headers, self.changes)))

    def flush(self) -> None:
        """See Answer."""
        self._exchange.flush()


def altered(headers: Headers, changes: list[HeaderChanges]) -> Headers:
    """The headers of an answer with these changes: all removals, then what is set, then what is appended."""
    gone: set[bytes] = set()
    for change in changes:
        gone.update([folded(name) for name in change.remove])
    put: Headers = []
    for change in changes:
        names = frozenset([folded(name) for name in change.set])
        gone |= names
        put = [*kept(put, names), *lines_of(change.set)]
    headers = [*kept(headers, gone), *put]
    for change in changes:
        headers += lines_of(change.append)
    return headers


def kept(headers: Headers, gone: frozenset[bytes] | set[bytes]) -> Headers:
    """The headers but those of the folded names."""
    return [pair for pair in headers if fields.folded_name(pair[0]) not in gone]


def folded(name: str) -> bytes:
    """The name as it is compared."""
    return fields.folded_name(name.encode())


def lines_of(values: dict[str, list[str]]) -> Headers:
    """A pair for each value."""
    return [(name.encode(), value.encode()) for name, several in values.items() for value in several]
