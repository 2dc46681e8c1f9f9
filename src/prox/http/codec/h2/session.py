"""One HTTP/2 connection, without its socket: streams, flow control, settings, and limits on what a peer may provoke.

The owner feeds `receive` with what it read, is called back for what that means, and writes what `take_output` gives. It
may call any method from within a callback. Nothing is raised for what a peer does: where a stream breaks a rule it is reset
and the owner hears `stream_failed`; where the connection does, GOAWAY is written and the owner hears `session_failed`, once.

Back-pressure: bytes of `data` are taken off the peer's windows, and `consumed` gives them back. While the owner's transport
is full the owner calls neither `send_data` nor `take_output`: what a peer that does not read provokes (answers to PING and
SETTINGS, resets) then collects here, and above a bound the connection ends.
"""

from __future__ import annotations

from typing import Protocol

from .errors import Http2Error, StreamError
from .settings import LocalSettings, PeerSettings

Pairs = list[tuple[bytes, bytes]]


class Owner(Protocol):
    """Who has a session. Callbacks are made from within `Session.receive` alone."""

    def headers(self, stream: int, fields: Pairs, end: bool) -> None:
        """A request, or an answer (1xx too). The stream is open; fields are as HPACK gave them, unchecked.

        Check them with `fields.request_fields` or `fields.response_fields`, and `Session.reset` the stream with the
        error's code and `provoked=True` where these raise. `end`: no body follows. Tell `Session.expect_length` the
        Content-Length.
        """

    def headers_too_large(self, stream: int, end: bool) -> None:
        """Instead of `headers`, or of `trailers`: the fields were above max_header_list_size and are dropped.

        The connection is intact. A server answers 431 where it can and then resets the stream; the body, if any, goes on.
        """

    def trailers(self, stream: int, fields: Pairs) -> None:
        """The trailer section, unchecked (`fields.trailer_fields`); the peer's side of the stream has ended with it."""

    def data(self, stream: int, data: bytes, flow: int, end: bool) -> None:
        """Bytes of a body, possibly none with `end`. `flow`: what they took of the windows, padding too: for `consumed`."""

    def reset_received(self, stream: int, code: int) -> None:
        """The peer has reset the stream: it is gone, nothing can be sent on it. Not called for streams that are closed."""

    def stream_failed(self, stream: int, error: StreamError) -> None:
        """The peer broke a rule on an open stream that `headers` told of: it has been reset and is gone."""

    def writable(self, stream: int) -> None:
        """The window of a stream has grown, so `sendable` may have; 0: that of the connection, or of all streams."""

    def settings_changed(self) -> None:
        """`Session.peer` has new values; streams may be openable."""

    def goaway(self, last: int, code: int) -> None:
        """The peer takes no new streams; ours above `last` are gone, it has done nothing for them: safe to try again."""

    def pong(self) -> None:
        """The peer has answered our `ping`."""

    def session_failed(self, error: Http2Error) -> None:
        """The peer broke a rule of the connection. GOAWAY is in the output: write it, close. All streams are gone."""


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

    def __init__(self, owner: Owner, *, client: bool, settings: LocalSettings) -> None:
        self._owner = owner
        self._client = client
        self._settings = settings
        self.peer = PeerSettings()
        self.failed = False
        self.closing = False
        self.last_peer_stream = 0

    @property
    def open_streams(self) -> int:
        """Streams on which one side at least has something to say."""
        return 0

    def receive(self, data: bytes, now: float) -> None:
        """Take what was read, in any pieces. `now`: seconds of a clock that never goes back, for rates of abuse."""

    def has_output(self) -> bool:
        """Whether `take_output` would give something."""
        return False

    def take_output(self) -> bytes:
        """The frames to write, joined; call it after each turn, but not while the transport is full."""
        return b""

    def open_stream(self) -> int:
        """Client side: the id of a new stream, or 0 where the peer's MAX_CONCURRENT_STREAMS or a GOAWAY forbids one.

        It counts as open from now on: `send_headers` must follow.
        """
        return 0

    def may_open(self) -> bool:
        """Client side: whether `open_stream` would give an id."""
        return False

    def send_headers(self, stream: int, fields: Pairs, end: bool) -> None:
        """A head, an interim head or trailers (`end`); names lower case, pseudo-fields first.

        No effect on a stream that is gone, or on which we have ended.
        """

    def sendable(self, stream: int) -> int:
        """Bytes that both windows allow now, never less than 0; 0 for a stream that is gone."""
        return 0

    def send_data(self, stream: int, data: bytes, end: bool) -> None:
        """At most `sendable` bytes, as frames that the peer takes; b"" with `end` needs no window.

        No effect on a stream that is gone, or on which we have ended.
        """

    def consumed(self, stream: int, size: int) -> None:
        """The owner has passed on bytes whose `flow` adds up to `size`: the windows are opened again, in good time.

        Every byte of `flow` is consumed at last, on a stream that both sides have ended too; what was not is given back
        by itself when a stream is reset by either side, and then this has no effect.
        """

    def expect_length(self, stream: int, length: int) -> None:
        """DATA of this stream must add up to `length`, or it fails (RFC 9113 section 8.1.1). Call it in `headers`.

        Not for an answer to HEAD, nor for 304.
        """

    def reset(self, stream: int, code: int, *, provoked: bool = False) -> None:
        """End a stream by RST_STREAM; late frames of it are swallowed. `provoked`: by a fault of the peer, which is counted.

        No effect on a stream that is gone. Nothing is called back.
        """

    def drain(self) -> None:
        """Say that no new streams are wanted: GOAWAY for 2**31-1, and after the answer to a PING the true last id.

        `closing` is set then (RFC 9113 section 6.8). Client side: `closing` is set at once.
        """

    def go_away(self, code: int) -> None:
        """Say so at once, with the true last id; streams that the peer opens from now on are ignored. Streams go on."""

    def ping(self) -> None:
        """Send a PING; `pong` is its answer. One at a time: no effect while one is under way."""
