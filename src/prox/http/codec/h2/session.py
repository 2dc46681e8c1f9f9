"""One HTTP/2 connection, without its socket: streams, flow control, settings, and limits on what a peer may provoke.

The owner feeds `receive` with what it read, is called back for what that means, and writes what `take_output` gives. It
may call any method from within a callback. Nothing is raised for what a peer does: where a stream breaks a rule it is reset
and the owner hears `stream_failed`; where the connection does, GOAWAY is written and the owner hears `session_failed`, once.

Back-pressure: bytes of `data` are taken off the peer's windows, and `consumed` gives them back. While the owner's transport
is full the owner calls neither `send_data` nor `take_output`: what a peer that does not read provokes (answers to PING and
SETTINGS, resets) then collects here, and above a bound the connection ends.
"""

from __future__ import annotations

from . import abuse, frames, settings
from .errors import (
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    Http2Error,
)
from .hpack import Decoder
from .owner import Owner
from .settings import MAX_WINDOW, LocalSettings
from .speaking import ASKED, DRAINING, Speaker, rapid_reset
from .streams import ANY_LENGTH, ENDED, RESET_BY_PEER, RESET_BY_US, UNKNOWN, Stream

__all__ = ["LocalSettings", "Owner", "Pairs", "Session"]

Pairs = list[tuple[bytes, bytes]]


class Session(Speaker):
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
        "_block",
        "_block_count",
        "_block_end",
        "_block_size",
        "_block_stream",
        "_decoder",
        "_greeted",
        "_preface_left",
        "_reader",
    )

    def __init__(self, owner: Owner, *, client: bool, settings: LocalSettings) -> None:
        super().__init__(owner, client=client, settings=settings)
        self._reader = frames.FrameReader(settings.max_frame_size)
        self._decoder = Decoder(settings.max_header_list_size)
        self._preface_left = 0 if client else len(frames.PREFACE)
        self._greeted = False
        self._block: list[bytes] = []  # of HEADERS that CONTINUATION follows
        self._block_stream = 0
        self._block_size = 0
        self._block_count = 0
        self._block_end = False

    def in_head(self) -> bool:
        """Whether the head of a message has begun to come and is not there yet; any frame but DATA may be its first."""
        if self._block_stream:
            return True
        kind, _, size = self._reader.unfinished()
        return size > 0 and kind != frames.DATA

    def begun(self, stream: int) -> int:
        """Bytes that have come of a stream's DATA frame whose rest has not: `data` has not told of them."""
        kind, place, size = self._reader.unfinished()
        return max(0, size - frames.HEAD_SIZE) if kind == frames.DATA and place == stream else 0

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
            self._doom = rapid_reset()
        self._owner.reset_received(number, code)

    def _peer_ping(self, flags: int, stream: int, payload: bytes) -> None:
        frames.check_ping(payload, stream)
        if not flags & frames.ACK:
            self._idle(frames.PING, 1)
            self._answer(frames.ping(payload, frames.ACK))
        elif payload == DRAINING and self._draining:
            self._draining = False
            self.go_away(NO_ERROR)
        elif payload == ASKED and self._asked:
            self._asked = False
            self._owner.pong()
        else:
            self._idle(frames.PING, 1)

    def _peer_goaway(self, stream: int, payload: bytes) -> None:
        last, code = frames.goaway_words(payload, stream)
        self._idle(frames.GOAWAY, 1)
        self.closing = True
        if self._client:
            for opened in [opened for opened in self._streams.values() if opened.id > last]:
                self._forget(opened, RESET_BY_US)
        self._owner.goaway(last, code)

    def _idle(self, kind: int, cost: int) -> None:
        """Count a frame that brings nothing."""
        if not self._idle_frames.spend(cost, self._now):
            name = frames.NAMES[kind] if kind < len(frames.NAMES) else "unknown"
            raise Http2Error(ENHANCE_YOUR_CALM, f"too many {name} frames", "frame_flood")

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
