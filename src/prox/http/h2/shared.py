"""An HTTP/2 connection to an upstream, shared by requests: its socket, its streams, its deadlines.

What a turn of the loop makes is written at once; bodies that wait for the socket or for a window take turns in slices.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Final, cast

from prox.http.codec.fields import Headers
from prox.http.codec.h2.errors import NO_ERROR, Http2Error, StreamError, code_name
from prox.http.codec.h2.session import Session
from prox.http.codec.h2.settings import LocalSettings
from prox.http.errors import UpstreamError
from prox.http.secure import reason_of
from prox.http.sockets import read_left
from prox.http.watch import NEVER, Watch

from .upstream import UpstreamStream

if TYPE_CHECKING:
    from prox.http.pool import Origin

    from .supply import StreamSupply

WRITE_BUFFER: Final = 256 * 1024

STREAM_WINDOW: Final = 512 * 1024
"""Bytes of an answer that an upstream may send ahead of its client: the memory that a slow client costs."""

_CONNECTION_WINDOW: Final = 1 << 30
"""No limit: what streams may send together is limited by their number, and no slow client may hold up the others."""

_FRAME: Final = 64 * 1024
"""Bytes of a frame of the upstream's: larger ones cost less."""

_UNTOLD_STREAMS: Final = 100
"""Streams that are opened before the upstream has said how many it takes."""

_AT_ONCE: Final = 32 * 1024
"""Bytes that are not kept for the end of the turn."""


class SharedConnection:
    """One connection; the owner of a session (see codec.h2.owner.Owner). An asyncio.Protocol, but not by name.

    Attributes:
        session: its codec.
        scheme: of its requests.
        failure: why it is over, None while it is not.
        served: how many requests were sent on it.
        write_paused: the socket is full.
    """

    __slots__ = (
        "_closed",
        "_counted",
        "_greeted",
        "_head_timeout",
        "_idle_since",
        "_idle_timeout",
        "_in_turn",
        "_kept",
        "_origin",
        "_ping_timeout",
        "_pinged_at",
        "_queue",
        "_read_at",
        "_read_idle_timeout",
        "_scheduled",
        "_streams",
        "_supply",
        "_taken",
        "_tls",
        "_unwritten",
        "_watch",
        "failure",
        "loop",
        "scheme",
        "served",
        "session",
        "transport",
        "write_paused",
    )

    transport: asyncio.Transport

    def __init__(self, origin: Origin, supply: StreamSupply) -> None:
        settings = origin.settings
        self.loop = asyncio.get_running_loop()
        self._origin = origin
        self._supply = supply
        self._head_timeout = settings.response_header_timeout
        self._idle_timeout = settings.idle_timeout
        self._read_idle_timeout = settings.h2_read_idle_timeout
        self._ping_timeout = settings.h2_ping_timeout
        self.scheme = b"http" if settings.tls is None else b"https"
        self.session = Session(
            self,
            client=True,
            settings=LocalSettings(
                max_header_list_size=settings.max_header_bytes,
                stream_window=STREAM_WINDOW,
                connection_window=_CONNECTION_WINDOW,
                max_frame_size=_FRAME,
            ),
        )
        self.failure: UpstreamError | None = None
        self.served = 0
        self.write_paused = False
        self._streams: dict[int, UpstreamStream] = {}
        self._queue: dict[int, UpstreamStream] = {}
        self._taken = 0
        self._watch: Watch | None = None
        self._tls: ssl.SSLObject | None = None
        self._kept = False
        self._counted = False
        self._greeted = False
        self._closed = False
        self._in_turn = False
        self._scheduled = False
        self._unwritten = 0
        self._idle_since = NEVER
        self._read_at = 0.0
        self._pinged_at = NEVER

    # What the supply says.

    def has_room(self) -> bool:
        """Whether one more request may be sent."""
        if self._closed or not self.session.may_open():
            return False
        busy = self.session.open_streams + self._taken
        return busy < (self.session.peer.max_concurrent_streams if self._greeted else _UNTOLD_STREAMS)

    def take(self) -> UpstreamStream:
        """A call, for which there is room."""
        self._taken += 1
        self.served += 1
        self._count_idle()
        return UpstreamStream(self)

    # What streams say.

    def open(self, stream: UpstreamStream) -> int:
        """The id of a stream whose head is sent next, or 0."""
        number = 0 if self._closed else self.session.open_stream()
        if number:
            self._taken -= 1
            if not self._streams and self._read_idle_timeout is not None:
                self._read_at = self.loop.time()
                if self._watch is not None:
                    self._watch.expect(self._read_at + self._read_idle_timeout)
            self._streams[number] = stream
        return number

    def forget(self, stream: UpstreamStream) -> None:
        """A stream is over."""
        if stream.stream:
            self._streams.pop(stream.stream, None)
            self._queue.pop(stream.stream, None)
        else:
            self._taken -= 1
        self.rest()

    def queue(self, stream: UpstreamStream) -> None:
        """Some of a body waits."""
        self._queue[stream.stream] = stream

    def deadline_of_head(self) -> float:
        """When a head that is waited for from now on is late."""
        if self._head_timeout is None:
            return NEVER
        due = self.loop.time() + self._head_timeout
        watch = self._watch
        if watch is not None and due < watch.next:
            watch.expect(due)
        return due

    def touch(self) -> None:
        """There is something to write, at the end of the turn at the latest."""
        if not self._in_turn and not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._end_turn)

    def wrote(self, size: int) -> None:
        """So many bytes of a body were given to the session."""
        self._unwritten += size
        if self._unwritten >= _AT_ONCE:
            self._flush()
        else:
            self.touch()

    def _end_turn(self) -> None:
        self._scheduled = False
        self._flush()

    def _flush(self) -> None:
        self._unwritten = 0
        if self.write_paused or self._watch is None or self.transport.is_closing():
            return
        output = self.session.take_output()
        if output:
            self.transport.write(output)

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._tls = transport.get_extra_info("ssl_object")
        self._read_at = self.loop.time()
        self._watch = Watch(self.loop, self._check)
        self._supply.add(self)
        self._idle_since = self._read_at
        if self._idle_timeout is not None:
            self._watch.expect(self._idle_since + self._idle_timeout)
        if self._supply.may_rest():  # where it may not it is here for the request that waits for it
            self._count_idle()
        self._flush()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._closed:
            return
        if not self._greeted and data[:5] == b"HTTP/":
            self._fail(UpstreamError("malformed", "the upstream speaks HTTP/1.1 and no HTTP/2"))
            return
        now = self.loop.time()
        self._read_at = now
        self._pinged_at = NEVER
        self._in_turn = True
        self.session.receive(data, now)
        self._in_turn = False
        self._flush()
        if self.session.closing and not self._streams and not self._taken:
            self.close()

    def eof_received(self) -> None:
        """See asyncio.Protocol: the transport closes."""
        self._fail(UpstreamError("upstream_closed", "the upstream closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if exc is not None and self._tls is None and not self._closed:
            left = read_left(self.transport)  # it may say why
            if left:
                self.data_received(left)
        if exc is None:
            error = UpstreamError("upstream_closed", "the upstream closed the connection")
        elif isinstance(exc, ssl.SSLError):
            error = UpstreamError("tls_failed", reason_of(exc))
        else:
            error = UpstreamError("upstream_reset", "the upstream reset the connection")
        self._fail(error)
        if self._watch is not None:
            self._watch.stop()

    def pause_writing(self) -> None:
        """See asyncio.Protocol: from now on bodies wait in their streams."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self.write_paused = False
        self._pump()
        self._flush()

    def _pump(self) -> None:
        """Let streams that wait send in turn, as far as windows and socket allow."""
        waiting = list(self._queue.values())
        while waiting and not self.write_paused:
            waiting = [stream for stream in waiting if stream.send_waiting()]

    # What the session says.

    def headers(self, stream: int, fields: Headers, end: bool) -> None:
        """See Owner."""
        if not self._kept and self._tls is not None:
            self._kept = True
            self._origin.session.keep(self._tls)
        call = self._streams.get(stream)
        if call is not None:
            call.headers(fields, end=end)

    def headers_too_large(self, stream: int, end: bool) -> None:  # noqa: ARG002 - Owner's signature
        """See Owner."""
        call = self._streams.get(stream)
        if call is not None:
            call.too_large()

    def trailers(self, stream: int, fields: Headers) -> None:
        """See Owner."""
        call = self._streams.get(stream)
        if call is not None:
            call.trailers(fields)

    def data(self, stream: int, data: bytes, flow: int, end: bool) -> None:
        """See Owner."""
        call = self._streams.get(stream)
        if call is None:
            self.session.consumed(stream, flow)
        else:
            call.data(data, flow, end=end)

    def reset_received(self, stream: int, code: int) -> None:
        """See Owner."""
        call = self._streams.get(stream)
        if call is not None:
            call.reset_received(code)

    def stream_failed(self, stream: int, error: StreamError) -> None:
        """See Owner."""
        call = self._streams.get(stream)
        if call is not None:
            call.broken(UpstreamError("malformed", str(error)))

    def writable(self, stream: int) -> None:
        """See Owner."""
        if self.write_paused or not self._queue:
            return
        if not stream:
            self._pump()
            return
        call = self._queue.get(stream)
        while call is not None and call.send_waiting():
            pass

    def settings_changed(self) -> None:
        """See Owner."""
        self._greeted = True

    def goaway(self, last: int, code: int) -> None:
        """See Owner: the upstream takes no more streams; what it has not begun is safe to send elsewhere."""
        self._supply.remove(self)
        text = f"the upstream goes away: {code_name(code)}"
        gone = [call for number, call in self._streams.items() if number > last]
        for call in gone:
            call.broken(UpstreamError("upstream_closed", text, unprocessed=True))

    def pong(self) -> None:
        """See Owner: `data_received` has noted that it lives."""

    def session_failed(self, error: Http2Error) -> None:
        """See Owner."""
        if not self.transport.is_closing() and not self.write_paused:
            output = self.session.take_output()
            if output:
                self.transport.write(output)
        self._fail(UpstreamError("malformed", f"HTTP/2: {error}"))

    # Time.

    def _check(self, now: float) -> float:
        due = NEVER
        for call in list(self._streams.values()):
            due = min(due, call.check(now))
        if self._closed:
            return NEVER
        if self._idle_timeout is not None and not self._streams and not self._taken:
            if now >= self._idle_since + self._idle_timeout:
                self.close()
                return NEVER
            due = min(due, self._idle_since + self._idle_timeout)
        return min(due, self._check_silence(now))

    def _check_silence(self, now: float) -> float:
        """Ask an upstream that is silent whether it lives, while it has something to answer."""
        silence = self._read_idle_timeout
        if silence is None or not self._streams:
            return NEVER
        if self._pinged_at != NEVER:
            if self._ping_timeout is None:
                return NEVER
            if now >= self._pinged_at + self._ping_timeout:
                self._fail(UpstreamError("upstream_timeout", "no answer to a PING within h2_ping_timeout"))
                return NEVER
            return self._pinged_at + self._ping_timeout
        if now >= self._read_at + silence:
            self._pinged_at = now
            self.session.ping()
            self._flush()
            return NEVER if self._ping_timeout is None else now + self._ping_timeout
        return self._read_at + silence

    # The end.

    def rest(self) -> None:
        """Wait for the next request, where none is on it."""
        if self._closed or self._streams or self._taken:
            return
        if self.session.closing:
            self.touch()
            self.loop.call_soon(self._close_if_drained)
            return
        self._idle_since = self.loop.time()
        if self._idle_timeout is not None and self._watch is not None:
            self._watch.expect(self._idle_since + self._idle_timeout)
        self._count_idle()

    def _count_idle(self) -> None:
        """Tell the tally whether this connection is unused; there may be enough of such."""
        unused = not self._closed and not self._streams and not self._taken
        if unused == self._counted:
            return
        if not unused:
            self._counted = False
            self._supply.rested(-1)
        elif self._supply.may_rest():
            self._counted = True
            self._supply.rested(1)
        else:
            self.loop.call_soon(self._close_if_drained)

    def _close_if_drained(self) -> None:
        if not self._streams and not self._taken:
            self.close()

    def close(self) -> None:
        """Close; requests that are on it break off."""
        if self._closed:
            return
        if self._watch is not None and not self.transport.is_closing() and not self.write_paused:
            self.session.go_away(NO_ERROR)
            self._flush()
        self._fail(UpstreamError("upstream_closed", "the connection was closed"))

    def _fail(self, error: UpstreamError) -> None:
        """The connection is over, and with it what is on it."""
        if self._closed:
            return
        self._closed = True
        self.failure = error
        self._count_idle()
        self._supply.remove(self)
        self._origin.lost(self)
        calls = list(self._streams.values())
        self._streams.clear()
        self._queue.clear()
        for call in calls:
            stale = call.used > 1 and call.silent and error.kind in {"upstream_closed", "upstream_reset"}
            call.broken(UpstreamError(error.kind, str(error), stale=stale))
        transport = self.transport
        if self._tls is not None and not transport.is_closing():
            transport.close()  # says close_notify at the end of this turn
        self.loop.call_soon(transport.abort)  # what was written last goes out before
