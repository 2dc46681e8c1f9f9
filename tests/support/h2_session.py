"""A session on its own: what it calls is kept, what it writes is read again frame by frame."""

from __future__ import annotations

from typing import Any

from hyperframe.frame import Frame, RstStreamFrame

from prox.http.codec.h2 import frames
from prox.http.codec.h2.errors import Http2Error, StreamError
from prox.http.codec.h2.hpack import Encoder
from prox.http.codec.h2.session import Session
from prox.http.codec.h2.settings import LocalSettings

Pairs = list[tuple[bytes, bytes]]

GET: Pairs = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a.example"), (b":path", b"/")]
POST: Pairs = [(b":method", b"POST"), *GET[1:]]
OK: Pairs = [(b":status", b"200")]


class Recorder:
    """An owner that keeps what it is told.

    Attributes:
        events: what was called, with its arguments.
        error: of the session, None as long as it lives.
    """

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.error: Http2Error | None = None

    def headers(self, stream: int, fields: Pairs, end: bool) -> None:
        self.events.append(("headers", stream, fields, end))

    def headers_too_large(self, stream: int, end: bool) -> None:
        self.events.append(("headers_too_large", stream, end))

    def trailers(self, stream: int, fields: Pairs) -> None:
        self.events.append(("trailers", stream, fields))

    def data(self, stream: int, data: bytes, flow: int, end: bool) -> None:
        self.events.append(("data", stream, data, flow, end))

    def reset_received(self, stream: int, code: int) -> None:
        self.events.append(("reset_received", stream, code))

    def stream_failed(self, stream: int, error: StreamError) -> None:
        self.events.append(("stream_failed", stream, error.code))

    def writable(self, stream: int) -> None:
        self.events.append(("writable", stream))

    def settings_changed(self) -> None:
        self.events.append(("settings_changed",))

    def goaway(self, last: int, code: int) -> None:
        self.events.append(("goaway", last, code))

    def pong(self) -> None:
        self.events.append(("pong",))

    def session_failed(self, error: Http2Error) -> None:
        assert self.error is None, "told twice"
        self.error = error


class End:
    """One end, greeted.

    Attributes:
        session: the end itself.
        owner: what it told.
        encoder: the peer's.
    """

    def __init__(self, *, client: bool = False, **settings: Any) -> None:
        self.owner = Recorder()
        self.session = Session(self.owner, client=client, settings=LocalSettings(**settings))
        self.encoder = Encoder()
        self.now = 0.0
        self._client = client
        self.give(b"" if client else frames.PREFACE, frames.settings([]))
        self.said()
        self.events()

    def give(self, *pieces: bytes) -> None:
        """Let it receive."""
        self.session.receive(b"".join(pieces), self.now)

    def headers(self, stream: int, fields: Pairs = GET, *, end: bool = True, size: int = 16384) -> bytes:
        """Frames of the peer's, with its compression."""
        return frames.field_frames(self.encoder.encode(fields), stream, size, end=end)

    def events(self) -> list[tuple[Any, ...]]:
        """What was told since the last time."""
        events = list(self.owner.events)
        self.owner.events.clear()
        return events

    def said(self) -> list[Frame]:
        """What was written since the last time, as hyperframe reads it."""
        return read_frames(self.session.take_output().removeprefix(frames.PREFACE))

    def resets(self) -> list[RstStreamFrame]:
        """The same, where there should be nothing but resets."""
        found = self.said()
        assert all(isinstance(frame, RstStreamFrame) for frame in found), found
        return [frame for frame in found if isinstance(frame, RstStreamFrame)]

    @property
    def code(self) -> int | None:
        """The error code with which the connection ended, None while it lives."""
        if self.owner.error is None:
            assert not self.session.failed
            return None
        assert self.session.failed
        return self.owner.error.code


def read_frames(data: bytes) -> list[Frame]:
    """All frames of `data`, which ends with one."""
    found = []
    while data:
        frame, size = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + size]))
        found.append(frame)
        data = data[9 + size :]
    return found


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Any frame."""
    return frames.head(len(payload), kind, flags, stream) + payload
