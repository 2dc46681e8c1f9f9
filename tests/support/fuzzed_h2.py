"""What the fuzzer feeds to the HTTP/2 codec: field blocks, and all that a peer writes on a connection.

Another implementation of HPACK judges blocks. A session is judged by itself: whatever comes, in whatever pieces, nothing is
raised, the windows add up, what is written are frames in an order that makes sense, and no request has bytes that would be
another one in HTTP/1.1.
"""

from __future__ import annotations

from typing import Any

import hpack
from hyperframe.frame import DataFrame, Frame, HeadersFrame

from prox.http.codec.h2 import frames, settings
from prox.http.codec.h2.errors import Http2Error, StreamError
from prox.http.codec.h2.fields import UNKNOWN, request_fields, response_fields, trailer_fields
from prox.http.codec.h2.hpack import Decoder, Encoder
from prox.http.codec.h2.session import Session
from prox.http.codec.h2.settings import LocalSettings
from support.h2_session import GET, OK, POST, Pairs, Recorder, frame, read_frames

CUT = b"\xff\xfd"
"""Here a block or a packet ends."""

_UNLIMITED = 1 << 40
_WINDOW = 100_000


def field_blocks(data: bytes) -> None:
    """What we read of blocks another decoder reads too, and what it then reads of ours are the same fields."""
    mine = Decoder(_UNLIMITED)
    other = hpack.Decoder(max_header_list_size=_UNLIMITED)
    encoder = Encoder()
    reader = hpack.Decoder(max_header_list_size=_UNLIMITED)
    for block in data.split(CUT):
        try:
            fields = mine.decode(block)
        except Http2Error:
            return
        assert fields == [tuple(pair) for pair in other.decode(block, raw=True)]
        assert fields == [tuple(pair) for pair in reader.decode(encoder.encode(fields), raw=True)]


class _Answering(Recorder):
    """An owner that does with streams what prox would do."""

    def __init__(self, *, client: bool) -> None:
        super().__init__()
        self.session = Session(
            self,
            client=client,
            settings=LocalSettings(
                max_concurrent_streams=3,
                max_header_list_size=500,
                stream_window=_WINDOW,
                connection_window=_WINDOW,
                connect_protocol=True,
            ),
        )
        self.client = client
        self.out = b""
        if client:
            for fields, end in ((POST, False), (GET, True)):
                stream = self.session.open_stream()
                self.session.send_headers(stream, fields, end)
                self.session.send_data(stream, b"body", end=True)

    def headers(self, stream: int, fields: Pairs, end: bool) -> None:
        super().headers(stream, fields, end)
        session = self.session
        try:
            if self.client:
                response_fields(fields)
                return
            request = request_fields(fields, connect_protocol=True)
        except StreamError as error:
            session.reset(stream, error.code, provoked=True)
            return
        head = b"".join(
            [request.method, request.path, request.authority, *[b"".join(pair) for pair in request.fields]]
        )
        assert not {0, 10, 13} & set(head), head
        if request.length != UNKNOWN and not session.expect_length(stream, request.length):
            session.reset(stream, 1, provoked=True)
            return
        session.send_headers(stream, OK, end=False)
        session.send_data(stream, bytes(min(session.sendable(stream), 40_000)), end=end)

    def trailers(self, stream: int, fields: Pairs) -> None:
        super().trailers(stream, fields)
        try:
            trailer_fields(fields)
        except StreamError as error:
            self.session.reset(stream, error.code, provoked=True)
            return
        self.session.send_headers(stream, [(b"x", b"y")], end=True)

    def data(self, stream: int, data: bytes, flow: int, end: bool) -> None:
        super().data(stream, data, flow, end)
        self.session.consumed(stream, flow)
        self.session.send_data(stream, b"", end=end)

    def give(self, packets: list[bytes]) -> None:
        """Feed it."""
        for number, packet in enumerate(packets):
            self.session.receive(packet, float(number))
            self.check()
        self.out += self.session.take_output()

    def check(self) -> None:
        """The windows add up."""
        session = self.session
        if session.failed:
            assert self.error is not None
            assert session.open_streams == 0
            return
        kept = sum(stream.unconsumed for stream in session._streams.values()) + sum(
            session._lingering.values()
        )
        connection = session._connection
        assert connection.receive_window + connection.pending + kept == _WINDOW
        for stream in session._streams.values():
            assert stream.local_open or stream.remote_open
            assert stream.receive_window >= 0
            assert stream.receive_window + stream.pending + stream.unconsumed <= _WINDOW


def session(data: bytes) -> None:
    """The first byte says which end we are; the preface and the first SETTINGS go before all."""
    client = data[:1] == b"\x01"
    packets = [b"" if client else frames.PREFACE, frames.settings([]), *data[1:].split(CUT)]
    cut = _Answering(client=client)
    cut.give(packets)
    whole = _Answering(client=client)
    whole.give([b"".join(packets)])
    assert (cut.events, cut.out) == (whole.events, whole.out)
    assert str(cut.error) == str(whole.error)
    _check_output(cut.out.removeprefix(frames.PREFACE))


def _check_output(out: bytes) -> None:
    ended: set[int] = set()
    begun: set[int] = set()
    for said in read_frames(out):
        _check_frame(said, begun, ended)


def _check_frame(said: Frame, begun: set[int], ended: set[int]) -> None:
    assert said.body_len <= settings.MOST_FRAME_SIZE
    if isinstance(said, HeadersFrame | DataFrame):
        assert said.stream_id not in ended
        assert isinstance(said, HeadersFrame) or said.stream_id in begun
        begun.add(said.stream_id)
        if "END_STREAM" in said.flags:
            ended.add(said.stream_id)
    elif said.type == frames.RST_STREAM:
        ended.add(said.stream_id)


def block_seeds() -> list[bytes]:
    """Field blocks of our own and of the other implementation."""
    mine, other = Encoder(), hpack.Encoder()
    lists: list[Any] = [
        GET,
        [*GET, (b"x-a", b"1"), (b"cookie", b"a")],
        [*POST, (b"x-a", b"1"), (b"x" * 40, b"y" * 100)],
    ]
    other.header_table_size = 100
    return [
        CUT.join([mine.encode(fields) for fields in lists]),
        CUT.join([other.encode(fields, huffman=False) for fields in lists]),
        b"\x20\x3f\xe1\x1f\x40\x01a\x01b\xbe" + CUT + b"\xbe\x1f\x00\x00",
    ]


def session_seeds() -> list[bytes]:
    """A few turns of each kind of frame."""
    encoder = Encoder()

    def head(stream: int, fields: Pairs, *, end: bool, size: int = 16384) -> bytes:
        return frames.field_frames(encoder.encode(fields), stream, size, end=end)

    body = frame(frames.DATA, 0, 1, b"abc") + frame(frames.DATA, frames.PADDED, 1, b"\x02ab\0\0")
    last = frame(frames.DATA, frames.END_STREAM, 1, b"x")
    control = [
        frame(frames.PING, 0, 0, bytes(8)),
        frames.settings([(settings.INITIAL_WINDOW_SIZE, 5), (settings.HEADER_TABLE_SIZE, 0)]),
        frames.words(frames.WINDOW_UPDATE, 0, 100),
        frames.words(frames.WINDOW_UPDATE, 1, 100),
        frame(frames.PRIORITY, 0, 3, b"\0\0\0\1\0"),
        frame(99, 0, 0, b"x"),
        frames.words(frames.GOAWAY, 0, 0, 0),
        frames.words(frames.RST_STREAM, 1, 8),
    ]
    lengthy = [*POST, (b"content-length", b"6")]
    server = [
        head(1, lengthy, end=False, size=7) + body + last,
        *(head(3, GET, end=True), head(5, POST, end=False), head(5, [(b"a", b"b")], end=True)),
        *control,
    ]
    encoder = Encoder()
    answers = [
        head(1, [(b":status", b"103")], end=False),
        head(1, OK, end=False) + body + head(1, [(b"a", b"b")], end=True),
        head(3, OK, end=True),
        *control,
    ]
    return [
        b"\0" + CUT.join(server),
        b"\0" + b"".join(server),
        b"\1" + CUT.join(answers),
        b"\1" + b"".join(control),
    ]
