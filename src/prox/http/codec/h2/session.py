"""One HTTP/2 connection, without its socket: streams, flow control, settings, and limits on what a peer may provoke.

The owner feeds `receive` with what it read, is called back for what that means, and writes what `take_output` gives. It
may call any method from within a callback. Nothing is raised for what a peer does: where a stream breaks a rule it is reset
and the owner hears `stream_failed`; where the connection does, GOAWAY is written and the owner hears `session_failed`, once.

Back-pressure: bytes of `data` are taken off the peer's windows, and `consumed` gives them back. While the owner's transport
is full the owner calls neither `send_data` nor `take_output`: what a peer that does not read provokes (answers to PING and
SETTINGS, resets) then collects here, and above a bound the connection ends.
"""

from __future__ import annotations

from typing import Final

from . import abuse, frames, settings
from .abuse import Budget
from .errors import (
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    Http2Error,
    StreamError,
)
from .hpack import Decoder, Encoder
from .owner import Owner
from .settings import DEFAULT_WINDOW, MAX_WINDOW, LocalSettings, PeerSettings
from .streams import ANY_LENGTH, ENDED, RESET_BY_PEER, RESET_BY_US, UNKNOWN, ClosedStreams, Stream

__all__ = ["LocalSettings", "Owner", "Pairs", "Session"]

Pairs = list[tuple[bytes, bytes]]

_MAX_STREAM: Final = 2**31 - 1

# What tells our own PINGs apart.
_ASKED: Final = b"prox\0ask"
_DRAINING: Final = b"prox\0end"


class Session:
    """One end of one HTTP/2 connection.

    Args:
        owner: who is called back.
        client: which end we are.
        settings: what we announce; the preface and SETTINGS are in the output at once.

    Attributes:
        peer: the peer's settings.
        failed: after `session_failed`: whatever is called has no effect.
        closing: the last word of GOAWAY was said or heard: no stream will be opened any more; when `open_streams` is 0
            the connection can be closed.
        last_peer_stream: the highest id of a stream that the peer opened and we took.
    """

    __slots__ = (
        "_asked",
        "_block",
        "_block_count",
        "_block_end",
        "_block_size",
        "_block_stream",
        "_client",
        "_closed",
        "_connection",
        "_decoder",
        "_doom",
        "_draining",
        "_encoder",
        "_greeted",
        "_heard_goaway",
        "_idle_frames",
        "_lingering",
        "_next_stream",
        "_now",
        "_out",
        "_owner",
        "_preface_left",
        "_reader",
        "_resets",
        "_said_goaway",
        "_settings",
        "_streams",
        "_unread",
        "closing",
        "failed",
        "last_peer_stream",
        "peer",
    )

    def __init__(self, owner: Owner, *, client: bool, settings: LocalSettings) -> None:
        self.peer = PeerSettings()
        self.failed = False
        self.closing = False
        self.last_peer_stream = 0
        self._owner = owner
        self._client = client
        self._settings = settings
        self._reader = frames.FrameReader(settings.max_frame_size)
        self._decoder = Decoder(settings.max_header_list_size)
        self._encoder = Encoder()
        self._streams: dict[int, Stream] = {}
        self._lingering: dict[int, int] = {}  # bytes unconsumed of streams that have ended
        self._closed = ClosedStreams()
        self._connection = Stream(0, DEFAULT_WINDOW, settings.connection_window, headed=True)
        self._next_stream = 1 if client else 2
        self._preface_left = 0 if client else len(frames.PREFACE)
        self._greeted = False
        self._said_goaway = False
        self._heard_goaway = False
        self._draining = False
        self._asked = False
        self._doom: Http2Error | None = None
        self._block: list[bytes] = []  # of HEADERS that CONTINUATION follows
        self._block_stream = 0
        self._block_size = 0
        self._block_count = 0
        self._block_end = False
        self._resets = Budget(abuse.RESETS, abuse.RESETS_A_SECOND)
        self._idle_frames = Budget(abuse.IDLE_FRAMES, abuse.IDLE_FRAMES_A_SECOND)
        self._unread = 0
        self._now = 0.0
        self._out: list[bytes] = [frames.PREFACE] if client else []
        self._out.append(frames.settings(settings.pairs(client=client)))
        if settings.connection_window > DEFAULT_WINDOW:
            increment = settings.connection_window - DEFAULT_WINDOW
            self._out.append(frames.words(frames.WINDOW_UPDATE, 0, increment))

    @property
    def open_streams(self) -> int:
        """Streams on which one side at least has something to say."""
        return len(self._streams)

    # What the peer says.

    def receive(self, data: bytes, now: float) -> None:
        """Take what was read, in any pieces. `now`: seconds of a clock that never goes back, for rates of abuse."""
        if self.failed:
            return
        self._now = now
        try:
            if self._preface_left:
                data = self._preface(data)
            reader = self._reader
            reader.feed(data)
            while reader.next():
                self._frame(reader.kind, reader.flags, reader.stream, reader.payload)
                if self._doom is not None:
                    raise self._doom
        except Http2Error as error:
            self._fail(error)

    def _preface(self, data: bytes) -> bytes:
        """Take the client's preface off (RFC 9113 section 3.4)."""
        taken = len(frames.PREFACE) - self._preface_left
        if not frames.PREFACE.startswith(data[: self._preface_left], taken):
            raise Http2Error(PROTOCOL_ERROR, "no connection preface", "preface")
        rest = data[self._preface_left :]
        self._preface_left -= len(data) - len(rest)
        return rest

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._block_stream:
            if kind != frames.CONTINUATION or stream != self._block_stream:
                raise Http2Error(PROTOCOL_ERROR, "a field block is interrupted")
            self._continuation(flags, payload)
        elif not self._greeted and (kind != frames.SETTINGS or flags & frames.ACK):
            raise Http2Error(PROTOCOL_ERROR, "the first frame is not SETTINGS")
        elif kind == frames.DATA:
            self._data(flags, stream, payload)
        elif kind == frames.HEADERS:
            self._headers(flags, stream, payload)
        elif kind == frames.WINDOW_UPDATE:
            self._window_update(stream, payload)
        elif kind == frames.SETTINGS:
            self._peer_settings(flags, stream, payload)
        elif kind == frames.RST_STREAM:
            self._peer_reset(stream, payload)
        elif kind == frames.PING:
            self._peer_ping(flags, stream, payload)
        elif kind == frames.PRIORITY:
            frames.check_priority(payload, stream)
            self._idle(kind, 1)
        elif kind == frames.GOAWAY:
            self._peer_goaway(stream, payload)
        elif kind == frames.PUSH_PROMISE:
            raise Http2Error(PROTOCOL_ERROR, "PUSH_PROMISE is not wanted")
        elif kind == frames.CONTINUATION:
            raise Http2Error(PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        else:
            self._idle(kind, 1)  # RFC 9113 section 5.5: ignored

    def _headers(self, flags: int, stream: int, payload: bytes) -> None:
        if not stream:
            raise Http2Error(PROTOCOL_ERROR, "HEADERS on stream 0")
        block = frames.field_block(payload, flags, stream)
        end = flags & frames.END_STREAM != 0
        if flags & frames.END_HEADERS:
            self._fields(stream, block, end)
            return
        self._block = [block]
        self._block_stream = stream
        self._block_size = len(block)
        self._block_count = 0
        self._block_end = end

    def _continuation(self, flags: int, payload: bytes) -> None:
        self._block_count += 1
        self._block_size += len(payload)
        if self._block_count > abuse.CONTINUATIONS:
            raise Http2Error(ENHANCE_YOUR_CALM, "too many CONTINUATION frames", "continuation_flood")
        if self._block_size > 2 * self._settings.max_header_list_size + abuse.BLOCK_OVERHEAD:
            raise Http2Error(ENHANCE_YOUR_CALM, "a field block without end", "continuation_flood")
        self._block.append(payload)
        if flags & frames.END_HEADERS:
            stream, self._block_stream = self._block_stream, 0
            block = b"".join(self._block)
            self._block = []
            self._fields(stream, block, self._block_end)

    def _fields(self, number: int, block: bytes, end: bool) -> None:
        """A whole field block: whatever becomes of it, it is decoded, or the tables would differ."""
        fields = self._decoder.decode(block)
        too_large = self._decoder.too_large
        stream = self._streams.get(number)
        if stream is None:
            if self._client or not number & 1:
                self._late(number, "HEADERS")
                return
            if number <= self.last_peer_stream or self._said_goaway:
                self._late_headers(number)
                return
            self.last_peer_stream = number
            if len(self._streams) >= self._settings.max_concurrent_streams:
                self._fail_stream(number, REFUSED_STREAM, "too many streams")
                return
            stream = Stream(number, self.peer.initial_window_size, self._settings.stream_window, headed=True)
            self._streams[number] = stream
            if end:
                stream.remote_open = False
            self._idle_frames.earn(abuse.IDLE_FRAMES_EARNED)
            if too_large:
                self._owner.headers_too_large(number, end)
            else:
                self._owner.headers(number, fields, end)
            return
        if not stream.remote_open:
            self._fail_stream(number, STREAM_CLOSED, "HEADERS after the end of the stream")
            return
        if not stream.headed and _is_interim(fields):
            if end:
                self._fail_stream(number, PROTOCOL_ERROR, "an interim head ends the stream")
                return
            self._idle(frames.HEADERS, 1)
            if too_large:
                self._owner.headers_too_large(number, end)
            else:
                self._owner.headers(number, fields, end)
            return
        trailers = stream.headed
        if trailers and not end:
            self._fail_stream(number, PROTOCOL_ERROR, "trailers that do not end the stream")
            return
        if trailers and stream.expected not in {ANY_LENGTH, stream.received}:
            self._fail_stream(number, PROTOCOL_ERROR, "the body is shorter than Content-Length says")
            return
        stream.headed = True
        if end:
            self._end_remote(stream)
        if too_large:
            self._owner.headers_too_large(number, end)
        elif trailers:
            self._owner.trailers(number, fields)
        else:
            self._idle_frames.earn(abuse.IDLE_FRAMES_EARNED)
            self._owner.headers(number, fields, end)

    def _late_headers(self, number: int) -> None:
        """A request on a stream that is over (RFC 9113 sections 5.1 and 5.1.1)."""
        if number > self.last_peer_stream:
            return  # opened after our GOAWAY: section 6.8
        how = self._closed.how(number)
        if how == ENDED:
            raise Http2Error(STREAM_CLOSED, "HEADERS after the end of the stream")
        if how == UNKNOWN and not self._closed.may_be_forgotten(number):
            raise Http2Error(PROTOCOL_ERROR, "a stream's id is lower than one before")
        self._late(number, "HEADERS")

    def _late(self, number: int, name: str) -> None:
        """A frame on a stream that is over, or never was."""
        if self._was_never(number):
            raise Http2Error(PROTOCOL_ERROR, name + " on an idle stream")
        if self._closed.how(number) != RESET_BY_US and not (
            self._said_goaway and number > self.last_peer_stream
        ):
            self._fail_stream(number, STREAM_CLOSED, name + " on a closed stream")

    def _was_never(self, number: int) -> bool:
        """Whether a stream that is not open is idle (RFC 9113 section 5.1)."""
        if self._client:
            return not number & 1 or number >= self._next_stream
        if not number & 1:
            return True
        return number > self.last_peer_stream and not self._said_goaway

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        if not number:
            raise Http2Error(PROTOCOL_ERROR, "DATA on stream 0")
        flow = len(payload)
        data = frames.unpadded(payload, flags)
        connection = self._connection
        if flow > connection.receive_window:
            raise Http2Error(FLOW_CONTROL_ERROR, "DATA above the connection's window", "flow_control")
        connection.receive_window -= flow
        end = flags & frames.END_STREAM != 0
        if data:
            self._idle_frames.earn(abuse.IDLE_FRAMES_EARNED)
        elif not end:
            self._idle(frames.DATA, 1)
        stream = self._streams.get(number)
        if stream is None:
            self._give_back(flow)
            self._late(number, "DATA")
            return
        if not stream.remote_open:
            self._give_back(flow)
            self._fail_stream(number, STREAM_CLOSED, "DATA after the end of the stream")
            return
        if not stream.headed:
            self._give_back(flow)
            self._fail_stream(number, PROTOCOL_ERROR, "DATA before HEADERS")
            return
        if flow > stream.receive_window:
            self._give_back(flow)
            self._fail_stream(number, FLOW_CONTROL_ERROR, "DATA above the stream's window")
            return
        stream.receive_window -= flow
        stream.unconsumed += flow
        stream.received += len(data)
        expected = stream.expected
        if expected != ANY_LENGTH and (stream.received > expected or (end and stream.received < expected)):
            self._fail_stream(number, PROTOCOL_ERROR, "the body is not as long as Content-Length says")
            return
        if end:
            self._end_remote(stream)
        self._owner.data(number, data, flow, end)

    def _window_update(self, number: int, payload: bytes) -> None:
        increment = frames.window_increment(payload)
        self._idle(frames.WINDOW_UPDATE, 1)
        if not number:
            if not increment:
                raise Http2Error(PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            connection = self._connection
            connection.send_window += increment
            if connection.send_window > MAX_WINDOW:
                raise Http2Error(FLOW_CONTROL_ERROR, "the connection's window is too large", "flow_control")
            self._owner.writable(0)
            return
        stream = self._streams.get(number)
        if stream is None:
            if self._was_never(number):
                raise Http2Error(PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
            return
        if not increment:
            self._fail_stream(number, PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            return
        stream.send_window += increment
        if stream.send_window > MAX_WINDOW:
            self._fail_stream(number, FLOW_CONTROL_ERROR, "the stream's window is too large")
            return
        if stream.local_open:
            self._owner.writable(number)

    def _peer_settings(self, flags: int, stream: int, payload: bytes) -> None:
        pairs = frames.settings_pairs(payload, flags, stream)
        if flags & frames.ACK:
            self._idle(frames.SETTINGS, 1)
            return
        self._greeted = True
        self._idle(frames.SETTINGS, abuse.SETTINGS_COST + len(pairs))
        peer = self.peer
        window = peer.initial_window_size
        for name, value in pairs:
            peer.apply(name, value, client=self._client)
            if name == settings.HEADER_TABLE_SIZE:
                self._encoder.resize(value)
        grown = peer.initial_window_size - window
        if grown:
            for opened in self._streams.values():
                opened.send_window += grown
                if opened.send_window > MAX_WINDOW:
                    raise Http2Error(FLOW_CONTROL_ERROR, "a stream's window is too large", "flow_control")
        self._answer(frames.SETTINGS_ACK)
        self._owner.settings_changed()
        if grown > 0:
            self._owner.writable(0)

    def _peer_reset(self, number: int, payload: bytes) -> None:
        code = frames.reset_code(payload, number)
        stream = self._streams.get(number)
        if stream is None:
            if self._was_never(number):
                raise Http2Error(PROTOCOL_ERROR, "RST_STREAM on an idle stream")
            self._idle(frames.RST_STREAM, 1)
            return
        self._forget(stream, RESET_BY_PEER)
        if not self._client and stream.local_open and not self._resets.spend(1, self._now):
            self._doom = _rapid_reset()
        self._owner.reset_received(number, code)

    def _peer_ping(self, flags: int, stream: int, payload: bytes) -> None:
        frames.check_ping(payload, stream)
        if not flags & frames.ACK:
            self._idle(frames.PING, 1)
            self._answer(frames.ping(payload, frames.ACK))
        elif payload == _DRAINING and self._draining:
            self._draining = False
            self.go_away(NO_ERROR)
        elif payload == _ASKED and self._asked:
            self._asked = False
            self._owner.pong()
        else:
            self._idle(frames.PING, 1)

    def _peer_goaway(self, stream: int, payload: bytes) -> None:
        last, code = frames.goaway_words(payload, stream)
        self._idle(frames.GOAWAY, 1)
        self._heard_goaway = True
        self.closing = True
        if self._client:
            for opened in [opened for opened in self._streams.values() if opened.id > last]:
                self._forget(opened, RESET_BY_US)
        self._owner.goaway(last, code)

    def _idle(self, kind: int, cost: int) -> None:
        """Count a frame that brings nothing."""
        if not self._idle_frames.spend(cost, self._now):
            name = frames.NAMES[kind] if kind < len(frames.NAMES) else "UNKNOWN"
            raise Http2Error(ENHANCE_YOUR_CALM, f"too many {name} frames", name.lower() + "_flood")

    def _answer(self, frame: bytes) -> None:
        """Write what the peer has provoked."""
        self._out.append(frame)
        self._unread += 1
        if self._unread > abuse.UNREAD_ANSWERS and self._doom is None:
            self._doom = Http2Error(ENHANCE_YOUR_CALM, "the peer reads no answers", "unread_answers")

    # What we say.

    def has_output(self) -> bool:
        """Whether `take_output` would give something."""
        return len(self._out) != 0

    def take_output(self) -> bytes:
        """The frames to write, joined; call it after each turn, but not while the transport is full."""
        out = self._out
        self._unread = 0
        if not out:
            return b""
        self._out = []
        return out[0] if len(out) == 1 else b"".join(out)

    def may_open(self) -> bool:
        """Client side: whether `open_stream` would give an id."""
        return (
            not self.failed
            and not self.closing
            and len(self._streams) < self.peer.max_concurrent_streams
            and self._next_stream <= _MAX_STREAM
        )

    def open_stream(self) -> int:
        """Client side: the id of a new stream, or 0 where the peer's MAX_CONCURRENT_STREAMS or a GOAWAY forbids one.

        It counts as open from now on: `send_headers` must follow.
        """
        if not self.may_open():
            return 0
        number = self._next_stream
        self._next_stream += 2
        self._streams[number] = Stream(
            number, self.peer.initial_window_size, self._settings.stream_window, headed=False
        )
        return number

    def send_headers(self, stream: int, fields: Pairs, end: bool) -> None:
        """A head, an interim head or trailers (`end`); names lower case, pseudo-fields first.

        No effect on a stream that is gone, or on which we have ended.
        """
        opened = self._streams.get(stream)
        if opened is None or not opened.local_open:
            return
        block = self._encoder.encode(fields)
        self._out.append(frames.field_frames(block, stream, self.peer.max_frame_size, end=end))
        if end:
            self._end_local(opened)

    def sendable(self, stream: int) -> int:
        """Bytes that both windows allow now, never less than 0; 0 for a stream that is gone."""
        opened = self._streams.get(stream)
        if opened is None or not opened.local_open:
            return 0
        return max(0, min(opened.send_window, self._connection.send_window))

    def send_data(self, stream: int, data: bytes, end: bool) -> None:
        """At most `sendable` bytes, as frames that the peer takes; b"" with `end` needs no window.

        No effect on a stream that is gone, or on which we have ended.

        Raises:
            ValueError: for more than `sendable` bytes.
        """
        opened = self._streams.get(stream)
        if opened is None or not opened.local_open:
            return
        size = len(data)
        connection = self._connection
        if size and (size > opened.send_window or size > connection.send_window):
            raise ValueError("more than the windows allow")
        opened.send_window -= size
        connection.send_window -= size
        out = self._out
        flags = frames.END_STREAM if end else 0
        most = self.peer.max_frame_size
        if size <= most:
            out.append(frames.head(size, frames.DATA, flags, stream))
            if size:
                out.append(data)
        else:
            for place in range(0, size, most):
                part = data[place : place + most]
                out.append(frames.head(len(part), frames.DATA, flags if place + most >= size else 0, stream))
                out.append(part)
        if size >= abuse.USEFUL_SIZE:
            self._idle_frames.earn(abuse.IDLE_FRAMES_EARNED)
        if end:
            self._end_local(opened)

    def consumed(self, stream: int, size: int) -> None:
        """The owner has passed on bytes whose `flow` adds up to `size`: the windows are opened again, in good time.

        Every byte of `flow` is consumed at last, on a stream that both sides have ended too; what was not is given back
        by itself when a stream is reset by either side, and then this has no effect.
        """
        opened = self._streams.get(stream)
        if opened is None:
            left = self._lingering.get(stream, 0)
            size = min(size, left)
            if size == left:
                self._lingering.pop(stream, None)
            else:
                self._lingering[stream] = left - size
        else:
            size = min(size, opened.unconsumed)
            opened.unconsumed -= size
            if opened.remote_open:
                opened.pending += size
                if opened.pending >= self._settings.stream_window >> 1:
                    self._out.append(frames.words(frames.WINDOW_UPDATE, stream, opened.pending))
                    opened.receive_window += opened.pending
                    opened.pending = 0
        self._give_back(size)

    def _give_back(self, size: int) -> None:
        """Open the connection's window."""
        connection = self._connection
        connection.pending += size
        if connection.pending >= self._settings.connection_window >> 1 and not self.failed:
            self._out.append(frames.words(frames.WINDOW_UPDATE, 0, connection.pending))
            connection.receive_window += connection.pending
            connection.pending = 0

    def expect_length(self, stream: int, length: int) -> bool:
        """DATA of this stream must add up to `length`, or it fails (RFC 9113 section 8.1.1). Call it in `headers`.

        False: the stream has ended with its head and `length` is not 0: `reset` it. Not for an answer to HEAD, nor for 304.
        """
        opened = self._streams.get(stream)
        if opened is None:
            return length == 0
        opened.expected = length
        return opened.remote_open or length == opened.received

    def reset(self, stream: int, code: int, *, provoked: bool = False) -> None:
        """End a stream by RST_STREAM; late frames of it are swallowed. `provoked`: by a fault of the peer, which is counted.

        No effect on a stream that is gone. Nothing is called back.
        """
        opened = self._streams.get(stream)
        if opened is None:
            self._give_back(self._lingering.pop(stream, 0))
            return
        self._forget(opened, RESET_BY_US)
        self._reset(stream, code, provoked=provoked)

    def drain(self) -> None:
        """Say that no new streams are wanted: GOAWAY for 2**31-1, and after the answer to a PING the true last id.

        `closing` is set then (RFC 9113 section 6.8). Client side: `closing` is set at once.
        """
        if self._client:
            self.go_away(NO_ERROR)
        elif not self.failed and not self._said_goaway and not self._draining:
            self._draining = True
            self._out.append(frames.words(frames.GOAWAY, 0, _MAX_STREAM, NO_ERROR))
            self._out.append(frames.ping(_DRAINING, 0))

    def go_away(self, code: int) -> None:
        """Say so at once, with the true last id; streams that the peer opens from now on are ignored. Streams go on."""
        if not self.failed and not self._said_goaway:
            self._said_goaway = True
            self.closing = True
            self._out.append(frames.words(frames.GOAWAY, 0, self.last_peer_stream, code))

    def ping(self) -> None:
        """Send a PING; `pong` is its answer. One at a time: no effect while one is under way."""
        if not self.failed and not self._asked:
            self._asked = True
            self._out.append(frames.ping(_ASKED, 0))

    # How streams end.

    def _end_remote(self, stream: Stream) -> None:
        stream.remote_open = False
        if not stream.local_open:
            self._ended(stream)

    def _end_local(self, stream: Stream) -> None:
        stream.local_open = False
        if not stream.remote_open:
            self._ended(stream)

    def _ended(self, stream: Stream) -> None:
        del self._streams[stream.id]
        self._closed.add(stream.id, ENDED)
        self._resets.earn(1)
        if stream.unconsumed:
            self._lingering[stream.id] = stream.unconsumed

    def _forget(self, stream: Stream, how: int) -> None:
        del self._streams[stream.id]
        self._closed.add(stream.id, how)
        self._give_back(stream.unconsumed)

    def _reset(self, number: int, code: int, *, provoked: bool) -> None:
        frame = frames.words(frames.RST_STREAM, number, code)
        if not provoked:
            self._out.append(frame)
            return
        self._answer(frame)
        if not self._resets.spend(1, self._now) and self._doom is None:
            self._doom = _rapid_reset()

    def _fail_stream(self, number: int, code: int, message: str) -> None:
        """Reset a stream that the peer has broken a rule on; its owner hears of it if it knew it."""
        stream = self._streams.get(number)
        if stream is None:
            if self._closed.how(number) == UNKNOWN:
                self._closed.add(number, RESET_BY_US)
            self._reset(number, code, provoked=True)
            return
        self._forget(stream, RESET_BY_US)
        self._reset(number, code, provoked=True)
        self._owner.stream_failed(number, StreamError(message, code))

    def _fail(self, error: Http2Error) -> None:
        self.failed = True
        self.closing = True
        self._streams.clear()
        self._lingering.clear()
        self._out.append(frames.words(frames.GOAWAY, 0, self.last_peer_stream, error.code))
        self._owner.session_failed(error)


def _is_interim(fields: Pairs) -> bool:
    """Whether a head is one of 1xx."""
    return bool(fields) and fields[0][0] == b":status" and len(fields[0][1]) == 3 and fields[0][1][:1] == b"1"


def _rapid_reset() -> Http2Error:
    return Http2Error(ENHANCE_YOUR_CALM, "too many streams are reset", "rapid_reset")
