"""An answer that is held back until on_response has seen its head."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from prox.flow import Completion, Flow
from prox.http.codec import fields
from prox.http.codec.fields import Headers
from prox.http.codec.response import ResponseHead
from prox.http.exchange import Answer, Exchange
from prox.http.streams import Source
from prox.plugin import HookError, RequestNotEncodable

from .altered import kept

if TYPE_CHECKING:
    from prox.http.body import RequestBody

_BODILESS: Final = frozenset({204, 304})

Decide = Callable[[int, Headers], Coroutine[Any, Any, tuple[int, Headers]]]
"""Given status and headers of an answer, those that the client gets; an error of the host refuses the answer."""


class HeldAnswer(Answer):
    """Stands in front of an exchange; what was read meanwhile waits here, and its source is paused.

    It is the exchange's source too, so that a client that catches up does not wake what is held.

    Attributes:
        settled: the decision was made, and what waited was passed on.
    """

    def __init__(self, exchange: Exchange, decide: Decide) -> None:
        self._exchange = exchange
        self._decide = decide
        self._source: Source | None = None
        self._waiting: list[bytes] = []
        self._ended = False
        self._trailers = b""
        self._error: Exception | None = None
        self._refused = False
        self._paused = False
        self._flow: Flow | None = None
        self.settled = Completion()

    @property
    def began(self) -> bool:
        """Whether there is an answer to wait for."""
        return self._flow is not None

    def cancel(self) -> None:
        """The exchange is over."""
        if self._flow is not None:
            self._flow.cancel()

    def read_from(self, source: Source | None) -> None:
        """See Answer."""
        self._source = source
        self._exchange.read_from(None if source is None else self)

    def pause(self) -> None:
        """See Source."""
        self._paused = True
        if self._source is not None:
            self._source.pause()

    def resume(self) -> None:
        """See Source."""
        self._paused = False
        if self._source is not None and (self.settled.done or not self.began):
            self._source.resume()

    def stop(self) -> None:
        """See Source."""
        source, self._source = self._source, None
        if source is not None:
            source.stop()

    def begin(
        self,
        status: int,
        headers: Headers,
        length: int | None,
        *,
        dropped: frozenset[bytes] = frozenset(),
        reason_phrase: bytes | None = None,
    ) -> None:
        """See Answer: asks, and keeps everything until there is an answer."""
        if self._source is not None:
            self._source.pause()
        self._flow = Flow(self._asked)
        self._flow.run(self._ask(status, headers, length, dropped, reason_phrase))

    async def _ask(
        self,
        status: int,
        headers: Headers,
        length: int | None,
        dropped: frozenset[bytes],
        reason_phrase: bytes | None,
    ) -> None:
        if dropped:  # here: what plugins set under these names is not what the upstream declared hop-by-hop
            headers = kept(headers, dropped)
        try:
            new_status, headers = await self._decide(status, headers)
        except (HookError, RequestNotEncodable):
            self._refuse()
            return
        if new_status != status:
            if new_status < 300 and self._exchange.opens_by_success:
                self._refuse()
                return
            reason_phrase = None
            if status in _BODILESS:
                length = 0  # whatever the upstream said of a body that it did not send
        self._exchange.begin(new_status, headers, length, reason_phrase=reason_phrase)
        self._release(without_body=new_status != status and new_status in _BODILESS)

    def _refuse(self) -> None:
        self._refused = True
        self._waiting.clear()
        self._exchange.refuse(502, reason="plugin_error")
        self.stop()
        self.settled.set()

    def _release(self, *, without_body: bool) -> None:
        waiting, self._waiting = self._waiting, []
        if without_body:
            self._refused = True
            self._exchange.end()
            self.stop()
        elif self._error is not None:
            for data in waiting:
                self._exchange.write(data)
            self._exchange.fail(self._error)
        elif self._ended:
            self._exchange.end_with_trailers(b"".join(waiting), self._trailers)
        else:
            self._exchange.flush()
            for data in waiting:
                self._exchange.write(data)
        self.settled.set()
        # Last: what comes from now on goes straight on.
        if self._source is not None and not self._paused:
            self._source.resume()

    def _asked(self, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, asyncio.CancelledError) and not self.settled.done:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "on_response failed inside prox", "exception": error}
            )
            self._refuse()

    def write(self, data: bytes) -> None:
        """See Answer."""
        if self._refused:
            return
        if self.settled.done:
            self._exchange.write(data)
        else:
            self._waiting.append(data)

    def end(self, data: bytes = b"") -> None:
        """See Answer."""
        self.end_with_trailers(data, b"")

    def end_with_trailers(self, data: bytes, trailers: bytes) -> None:
        """See Answer."""
        self._source = None  # it serves others from now on
        if self._refused:
            return
        if self.settled.done:
            self._exchange.end_with_trailers(data, trailers)
        else:
            if data:
                self._waiting.append(data)
            self._trailers = trailers
            self._ended = True

    def fail(self, error: Exception) -> None:
        """See Answer."""
        self._source = None
        if self._refused:
            return
        if self.settled.done:
            self._exchange.fail(error)
        else:
            self._error = error

    def interim(self, status: int, headers: Headers, reason_phrase: bytes | None = None) -> None:
        """See Answer: not held."""
        self._exchange.interim(status, headers, reason_phrase)

    async def tunnel(self, head: ResponseHead) -> RequestBody | None:
        """See Answer: asks first. A status of a plugin's own that opens no tunnel refuses it, with an empty body."""
        headers = kept(head.headers, head.dropped) if head.dropped else head.headers
        try:
            status, headers = await self._decide(head.status, headers)
        except (HookError, RequestNotEncodable):
            self._refuse()
            return None
        if status == head.status or (head.status >= 200 and 200 <= status < 300):
            self.settled.set()
            return await self._exchange.tunnel(head.changed(status, headers))
        if status < 300 and self._exchange.opens_by_success:  # a 101 in place of which a plugin says 200
            self._refuse()
            return None
        self._refused = True
        headers = [pair for pair in headers if not fields.folded_name(pair[0]).startswith(b"sec-websocket-")]
        self._exchange.begin(status, headers, 0)
        self._exchange.end()
        self.settled.set()
        return None

    def flush(self) -> None:
        """See Answer."""
        if self.settled.done and not self._refused:
            self._exchange.flush()
