"""What a session tells its owner."""

from __future__ import annotations

from typing import Protocol

from .errors import Http2Error, StreamError

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
