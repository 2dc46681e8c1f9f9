"""What one end of a connection says: frames of streams as both windows allow, SETTINGS, GOAWAY, and how streams end."""

from __future__ import annotations

from typing import Final

from . import abuse, frames
from .abuse import Budget
from .errors import ENHANCE_YOUR_CALM, NO_ERROR, Http2Error, StreamError
from .hpack import Encoder
from .owner import Owner
from .settings import DEFAULT_WINDOW, LocalSettings, PeerSettings
from .streams import ENDED, RESET_BY_US, UNKNOWN, ClosedStreams, Stream

Pairs = list[tuple[bytes, bytes]]

_MAX_STREAM: Final = 2**31 - 1

# What tells our own PINGs apart.
ASKED: Final = b"prox\0ask"
DRAINING: Final = b"prox\0end"


class Speaker:
    """The half of a session that writes, with the state that both halves share; see Session.

    Args:
        owner: who is called back.
        client: which end we are.
        settings: what we announce; the preface and SETTINGS are in the output at once.
    """

    __slots__ = (
        "_asked",
        "_client",
        "_closed",
        "_connection",
        "_doom",
        "_draining",
        "_encoder",
        "_idle_frames",
        "_lingering",
        "_next_stream",
        "_now",
        "_out",
        "_owner",
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
        self._encoder = Encoder()
        self._streams: dict[int, Stream] = {}
        self._lingering: dict[int, int] = {}  # bytes unconsumed of streams that have ended
        self._closed = ClosedStreams()
        self._connection = Stream(0, DEFAULT_WINDOW, settings.connection_window, headed=True)
        self._next_stream = 1 if client else 2
        self._said_goaway = False
        self._draining = False
        self._asked = False
        self._doom: Http2Error | None = None  # the connection's end, found where no exception may be raised
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
            self._out.append(frames.ping(DRAINING, 0))

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
            self._out.append(frames.ping(ASKED, 0))

    def _answer(self, frame: bytes) -> None:
        """Write what the peer has provoked."""
        self._out.append(frame)
        self._unread += 1
        if self._unread > abuse.UNREAD_ANSWERS and self._doom is None:
            self._doom = Http2Error(ENHANCE_YOUR_CALM, "the peer reads no answers", "unread_answers")

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
            self._doom = rapid_reset()

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


def rapid_reset() -> Http2Error:
    """What ends a connection whose peer resets, or makes us reset, too many streams."""
    return Http2Error(ENHANCE_YOUR_CALM, "too many streams are reset", "rapid_reset")
