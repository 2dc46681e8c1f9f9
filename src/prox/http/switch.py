"""The upstream's end of a tunnel: an HTTP/1.1 connection that is asked to become one.

It stands in the connection's place while the handshake is on its way. Agreement (101 with a token that was asked for, or
2xx to CONNECT) makes it a tunnel for good; anything else is an ordinary answer, and the connection goes on as what it was.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from prox.flow import Completion

from .codec import fields
from .codec.errors import BadMessageError
from .codec.response import ResponseHead, ResponseParser
from .dates import dated
from .errors import UpstreamError
from .sockets import has_sent_all, is_lost, read_left, send_reset, tls_left
from .watch import NEVER, Watch

if TYPE_CHECKING:
    from .call import Receiver
    from .streams import Sink, Source
    from .upstream import UpstreamConnection

FLUSH = 30.0
"""Seconds that an upstream may take for what a tunnel that has ended still holds for it."""

CLOSE_NOTIFY: Final = 0.1
"""Seconds between two looks whether a TLS connection that closes has sent all: nobody waits for a close_notify."""

LOOK_AGAIN = 0.5
"""Seconds after which it is looked whether an upstream that prox does not read from is lost."""

_SHARE: Final = 0.125
"""How much of a limit may pass between two looks, and with it the error of the limit."""

_END: Final = b"\r\n\r\n"
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})

_parser: Final = ResponseParser()


class UpstreamEnd:
    """Asks for a tunnel and is one end of it: the source of the answer, the sink of what the client sends.

    An asyncio.Protocol, but not by name (see ServerConnection).

    Args:
        connection: what is asked; nothing else is on it.
        upgrade: the tokens that the request asks for; b"" for CONNECT.
        proves: whether the head of an agreement keeps to what else the request asked for.
        extended: the client would take any 2xx for an agreement, so one that is none can't be passed on.

    Attributes:
        decided: the upstream has agreed, or the connection is what it was and has the answer, or the end of it.
        head: of its agreement, None while there is none.
        finished: both directions have ended, or the tunnel is broken.
        error: why it broke, None where it didn't.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_connection",
        "_extended",
        "_halves",
        "_idle",
        "_in_ended",
        "_loop",
        "_moved",
        "_out_ended",
        "_paused",
        "_proves",
        "_seen",
        "_silent",
        "_since",
        "_sink",
        "_tokens",
        "_unsent",
        "_until",
        "_unwanted",
        "_watch",
        "decided",
        "error",
        "finished",
        "head",
        "transport",
    )

    def __init__(
        self,
        connection: UpstreamConnection,
        upgrade: bytes,
        proves: Callable[[ResponseHead], bool] | None = None,
        *,
        extended: bool = False,
    ) -> None:
        self._connection = connection
        self._tokens = frozenset(fields.list_members(upgrade))
        self._proves = proves
        self._extended = extended
        self._loop = asyncio.get_running_loop()
        self._halves = connection.transport.can_write_eof()
        self._buffer = b""
        self._sink: Sink | None = None
        self._body: Source | None = None
        self._paused = False
        self._unwanted = False
        self._in_ended = False
        self._out_ended = False
        self._watch: Watch | None = None
        self._until = NEVER
        self._silent: float | None = None
        self._idle: float | None = None
        self._unsent: Callable[[], int] | None = None
        self._moved = 0
        self._seen = -1
        self._since = 0.0
        self.transport = connection.transport
        self.decided = Completion()
        self.finished = Completion()
        self.error: UpstreamError | None = None
        self.head: ResponseHead | None = None

    def ask(self, head: bytes, method: str, receiver: Receiver) -> None:
        """Send the request; `receiver` takes an answer that is no agreement."""
        self._connection.send(head, method, receiver)
        self.transport.set_protocol(cast("asyncio.Protocol", self))

    def start(
        self,
        sink: Sink,
        body: Source,
        unsent: Callable[[], int],
        *,
        silent: float | None = None,
        idle: float | None = None,
    ) -> None:
        """Pass on what comes. The caller joins `body` to this then.

        Args:
            sink: takes what the upstream says.
            body: is paused while the upstream is slow.
            unsent: bytes of the answer that the client has not taken yet.
            silent: seconds in which nothing moves before the tunnel is broken off, None for no limit.
            idle: the same where one direction has ended: who does not close the other may have forgotten it.
        """
        self._sink = sink
        self._body = body
        self._unsent = unsent
        self._silent = silent
        self._idle = idle
        self._watch = Watch(self._loop, self._check)
        self._look_soon()
        data, self._buffer = self._buffer, b""
        if data:
            self.data_received(data)
        if not self._paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def give_up(self, error: UpstreamError) -> None:
        """Break it off."""
        if self.head is None:
            self._back()
            self._connection.give_up(error)
            self.decided.set()
        elif not self.finished.done:
            self._break(error)
            send_reset(self.transport)

    # The handshake.

    def _receive_head(self, data: bytes) -> None:
        connection = self._connection
        while True:
            end = data.find(_END)
            if end < 0:
                if connection.may_become_a_head(data):
                    self._buffer = data
                else:
                    self._answered(data)
                return
            size = end + 4
            if size <= connection.most_head and self._is_agreement(data):
                self._agreed(data[:size], data[size:])
                return
            if data[9:10] == b"2" and self._extended:
                self.give_up(
                    UpstreamError("upgrade_ignored", "the upstream answers as if no upgrade was asked for")
                )
                return
            if data[9:10] != b"1":
                self._answered(data)
                return
            connection.data_received(data[:size])  # an interim head, or a 101 that nobody asked for
            if connection.finished.done:
                self._back()
                self.decided.set()
                return
            data = data[size:]
            self._buffer = b""
            if not data:
                return

    def _is_agreement(self, data: bytes) -> bool:
        return data[9:12] == b"101" if self._tokens else data[9:10] == b"2"

    def _agreed(self, raw: bytes, rest: bytes) -> None:
        try:
            # Framing fields mean nothing in a 2xx to CONNECT, however wrong they are: RFC 9110 section 9.3.6.
            head = _parser.parse(raw if self._tokens else fields.without(raw, _FRAMING), "HEAD")
        except BadMessageError as error:
            self.give_up(UpstreamError(error.reason, str(error)))
            return
        if self._tokens:
            if head.minor == 0 or not self._was_asked(head):
                self.give_up(UpstreamError("malformed", "a 101 to what was not asked for"))
                return
        elif b"\r\nDate: " not in head.plain:
            head.plain = dated(head.plain)
        self.head = head
        self._buffer = rest
        self.transport.pause_reading()  # until somebody takes it
        self._connection.hand_over()
        self.decided.set()

    def _was_asked(self, head: ResponseHead) -> bool:
        """Whether the upstream names a protocol, and one that was asked for (RFC 9110 section 7.8)."""
        named: list[bytes] = []
        switches = False
        for name, value in head.special:
            what = fields.kind(name)
            if what == fields.UPGRADE:
                named += fields.list_members(value)
            elif what == fields.CONNECTION:
                switches = switches or b"upgrade" in fields.connection_options(value)
        if not switches or not named or not self._tokens.issuperset(named):
            return False
        return self._proves is None or self._proves(head)

    def _answered(self, data: bytes) -> None:
        """It is an ordinary answer."""
        self._back()
        self._connection.data_received(data)
        self.decided.set()

    def _back(self) -> None:
        """The connection is again what it was."""
        self._buffer = b""
        self.transport.set_protocol(cast("asyncio.Protocol", self._connection))

    # The source of the answer.

    def pause(self) -> None:
        """See Source."""
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()
            if self._watch is not None:
                self._watch.expect(self._loop.time() + LOOK_AGAIN)

    def resume(self) -> None:
        """See Source."""
        if self._paused:
            self._paused = False
            if self._sink is not None and not self.transport.is_closing():
                self.transport.resume_reading()

    def stop(self) -> None:
        """See Source: what the upstream still says is read away, and its end is that of the tunnel, as is the client's."""
        self._unwanted = True
        self.resume()
        if self._out_ended:
            self._finish()

    # The sink of what the client sends.

    def write(self, data: bytes) -> None:
        """See Sink."""
        if not self._out_ended and not self.transport.is_closing():
            self._moved += len(data)
            self.transport.write(data)

    def end(self, data: bytes = b"") -> None:
        """See Sink: the client's direction has ended."""
        if self._out_ended or self.finished.done:
            return
        if data:
            self.write(data)
        self._out_ended = True
        if self._in_ended or self._unwanted:
            self._finish()
        elif self._halves:
            if not self.transport.is_closing():
                self.transport.write_eof()
            self._look_soon()
        else:
            self._end_answer()
            self._finish()

    def end_with_trailers(self, data: bytes, trailers: bytes) -> None:  # noqa: ARG002 - a tunnel has none
        """See Sink."""
        self.end(data)

    def fail(self, error: Exception) -> None:
        """See Sink: the client has gone, and the upstream is to see that it did not end."""
        self.give_up(UpstreamError("client_aborted", str(error)))

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol: it was made long ago."""

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._sink is not None:
            self._moved += len(data)
            if not self._unwanted and not self._in_ended:
                self._sink.write(data)
        elif self.head is None:
            self._receive_head(self._buffer + data if self._buffer else data)
        else:
            self._buffer += data

    def eof_received(self) -> bool:
        """See asyncio.Protocol: the upstream's direction has ended. True: the transport stays open for the other."""
        if self.head is None:
            self._back()
            self._connection.eof_received()
            self.decided.set()
            return False
        if self._in_ended or self.finished.done:
            return False
        self._end_answer()
        if self._out_ended or not self._halves:
            self._finish()
        else:
            self._look_soon()
        return self._halves

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._watch is not None:
            self._watch.stop()
        if self.head is None:
            self._connection.connection_lost(exc)
            self.decided.set()
            return
        if not self.finished.done:
            self._lost(exc)
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        if self._body is not None:
            self._body.pause()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        if self._body is not None:
            self._body.resume()

    # The end.

    def _lost(self, exc: Exception | None) -> None:
        """The connection has ended before both directions had: pass on what there is.

        Without an error it is the end, over TLS without a close_notify too: what runs in a tunnel knows its own end.
        """
        tls: ssl.SSLObject | None = self.transport.get_extra_info("ssl_object")
        left = b""
        if tls is not None:
            left, _ = tls_left(tls)
        elif exc is not None:
            left = read_left(self.transport)
        if left:
            self.data_received(left)
        if exc is None or self._in_ended:
            self._end_answer()
            self._finish()
        else:
            self._break(UpstreamError("upstream_reset", "the upstream broke the tunnel off"))

    def _end_answer(self) -> None:
        if not self._in_ended:
            self._in_ended = True
            if self._sink is not None and not self._unwanted:
                self._sink.end()

    def _finish(self) -> None:
        """Both directions have ended: what is on its way to the upstream still goes out."""
        if self.finished.done:
            return
        self._out_ended = True
        body, self._body = self._body, None
        if body is not None:
            body.stop()
        if not self.transport.is_closing():
            now = self._loop.time()
            self._until = now + FLUSH
            self.transport.close()
            if self._watch is not None:
                self._watch.expect(self._until if self._halves else now + CLOSE_NOTIFY)
        self.finished.set()

    def _break(self, error: UpstreamError) -> None:
        """The tunnel is broken: so is what the client gets."""
        self.error = error
        self._out_ended = True
        body, self._body = self._body, None
        if body is not None:
            body.stop()
        sink = self._sink
        if sink is not None and not self._in_ended:
            self._in_ended = True
            sink.fail(error)
        self.finished.set()

    # Time.

    def _look_soon(self) -> None:
        """One direction has ended, or the tunnel begins: another limit holds."""
        limit = self._limit()
        if limit is not None and self._watch is not None:
            self._since = self._loop.time()
            self._watch.expect(self._since + limit * _SHARE)

    def _limit(self) -> float | None:
        if not (self._in_ended or self._out_ended) or self._idle is None:
            return self._silent
        return self._idle if self._silent is None else min(self._idle, self._silent)

    def _check(self, now: float) -> float:
        if self.finished.done:
            if now >= self._until or (not self._halves and has_sent_all(self.transport)):
                self.transport.abort()
                return NEVER
            return self._until if self._halves else min(self._until, now + CLOSE_NOTIFY)
        due = NEVER
        if self._paused:
            if is_lost(self.transport):  # a transport that does not read does not tell
                self.give_up(UpstreamError("upstream_reset", "the upstream broke the tunnel off"))
                return NEVER
            due = now + LOOK_AGAIN
        limit = self._limit()
        if limit is None or self._unsent is None:
            return due
        # What waits to be taken moves too: a slow reader is not idle, but one that stands still is.
        seen = self._moved - self._unsent() - self.transport.get_write_buffer_size()
        if seen != self._seen:
            self._seen = seen
            self._since = now
        elif now >= self._since + limit:
            which = "relay_idle_timeout" if limit == self._silent else "idle_timeout"
            self.give_up(UpstreamError(which, f"nothing moved in the tunnel within {which}"))
            return NEVER
        return min(due, self._since + limit, now + limit * _SHARE)
