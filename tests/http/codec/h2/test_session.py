"""Streams, windows, settings and GOAWAY of a session, at both ends."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from hyperframe.frame import (
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given
from hypothesis import strategies as st

from prox.http.codec.h2 import errors, frames, settings
from prox.http.codec.h2.session import Session
from prox.http.codec.h2.settings import LocalSettings
from support.h2_session import GET, OK, POST, End, Recorder, frame, read_frames

BIG = 1 << 20


def started(*, client: bool = False, **kwargs: Any) -> End:
    """With stream 1 open: a POST whose body is to come, or that was sent."""
    end = End(client=client, **kwargs)
    if client:
        assert end.session.open_stream() == 1
        end.session.send_headers(1, POST, end=False)
        end.said()
    else:
        end.give(end.headers(1, POST, end=False))
        end.events()
    return end


def data(size: int, *, stream: int = 1, end: bool = False, padding: int | None = None) -> bytes:
    flags = frames.END_STREAM if end else 0
    if padding is None:
        return frame(frames.DATA, flags, stream, bytes(size))
    return frame(frames.DATA, flags | frames.PADDED, stream, bytes([padding]) + bytes(size + padding))


def window(stream: int, increment: int) -> bytes:
    return frames.words(frames.WINDOW_UPDATE, stream, increment)


def test_what_is_said_first() -> None:
    for client in (True, False):
        session = Session(
            Recorder(),
            client=client,
            settings=LocalSettings(connection_window=100_000, connect_protocol=True),
        )
        out = session.take_output()
        assert out.startswith(frames.PREFACE) == client
        first, update = read_frames(out.removeprefix(frames.PREFACE))
        assert isinstance(first, SettingsFrame)
        said = {settings.INITIAL_WINDOW_SIZE: 262_144, settings.MAX_FRAME_SIZE: 16384}
        said |= {settings.MAX_HEADER_LIST_SIZE: 65536}
        if client:
            said |= {settings.ENABLE_PUSH: 0}
        else:
            said |= {settings.MAX_CONCURRENT_STREAMS: 100, settings.ENABLE_CONNECT_PROTOCOL: 1}
        assert first.settings == said
        assert isinstance(update, WindowUpdateFrame)
        assert (update.stream_id, update.window_increment) == (0, 100_000 - 65535)


def test_a_request_and_an_answer() -> None:
    end = End()
    end.give(end.headers(1, POST, end=False), data(3), data(2, padding=4), end.headers(1, [(b"a", b"b")]))
    assert end.events() == [
        ("headers", 1, POST, False),
        ("data", 1, bytes(3), 3, False),
        ("data", 1, bytes(2), 7, False),
        ("trailers", 1, [(b"a", b"b")]),
    ]
    assert end.session.open_streams == 1
    end.session.send_headers(1, [(b":status", b"103")], end=False)
    end.session.send_headers(1, OK, end=False)
    end.session.send_data(1, b"x", end=False)
    end.session.send_headers(1, [(b"c", b"d")], end=True)
    assert [said.type for said in end.said()] == [1, 1, 0, 1]
    assert end.session.open_streams == 0
    end.session.send_headers(1, OK, end=True)  # it is gone
    end.session.send_data(1, b"", end=True)
    end.session.reset(1, 0)
    assert not end.session.has_output()
    assert end.session.take_output() == b""


def test_the_same_at_the_other_end() -> None:
    end = started(client=True)
    end.session.send_data(1, b"abc", end=True)
    end.give(end.headers(1, [(b":status", b"103")], end=False), end.headers(1, OK, end=False), data(2))
    end.give(end.headers(1, [(b"a", b"b")]))
    assert [event[0] for event in end.events()] == ["headers", "headers", "data", "trailers"]
    assert end.session.open_streams == 0


@pytest.mark.parametrize("client", [False, True])
def test_data_is_as_long_as_said(client: bool) -> None:
    """RFC 9113 section 8.1.1."""
    for length, sent, fails in [
        (5, data(5, end=True), False),
        (5, data(2) + data(3) + data(0, end=True), False),
        (5, data(4, end=True), True),
        (5, data(6), True),
        (5, data(5) + data(1), True),
        (0, data(0, end=True), False),
        (0, data(1), True),
    ]:
        end = started(client=client)
        if client:
            end.give(end.headers(1, OK, end=False))
            end.events()
        assert end.session.expect_length(1, length)
        end.give(sent)
        assert (("stream_failed", 1, errors.PROTOCOL_ERROR) in end.events()) == fails


def test_trailers_do_not_make_up_for_a_short_body() -> None:
    end = started()
    end.session.expect_length(1, 5)
    end.give(data(4), end.headers(1, [(b"a", b"b")]))
    assert end.events()[-1] == ("stream_failed", 1, errors.PROTOCOL_ERROR)


def test_a_head_that_ends_has_no_length() -> None:
    end = End()
    end.give(end.headers(1, POST))
    assert end.session.expect_length(1, 0)
    assert not end.session.expect_length(1, 5)


# Flow control (RFC 9113 section 6.9).


def test_what_may_be_sent() -> None:
    end = started()
    session = end.session
    assert session.sendable(1) == 65535
    session.send_headers(1, OK, end=False)
    end.said()
    session.send_data(1, bytes(65535), end=False)
    sent = end.said()
    assert [len(said.data) for said in sent if isinstance(said, DataFrame)] == [16384, 16384, 16384, 16383]
    assert session.sendable(1) == 0
    with pytest.raises(ValueError, match="windows"):
        session.send_data(1, b"x", end=False)
    end.give(window(1, 10))
    assert session.sendable(1) == 0
    end.give(window(0, 7))
    assert session.sendable(1) == 7
    assert end.events() == [("writable", 1), ("writable", 0)]
    session.send_data(1, b"", end=True)
    assert session.sendable(1) == 0
    (last,) = end.said()
    assert "END_STREAM" in last.flags


def test_only_the_last_frame_ends() -> None:
    end = started()
    end.session.send_data(1, bytes(40_000), end=True)
    assert ["END_STREAM" in said.flags for said in end.said()] == [False, False, True]


def test_the_first_window_is_changed_for_open_streams() -> None:
    end = started()
    end.session.send_data(1, bytes(100), end=False)
    end.give(frames.settings([(settings.INITIAL_WINDOW_SIZE, 50)]))
    assert end.session.sendable(1) == 0  # in truth -50
    end.give(window(1, 60))
    assert end.session.sendable(1) == 10
    end.events()
    end.give(frames.settings([(settings.INITIAL_WINDOW_SIZE, 0), (settings.INITIAL_WINDOW_SIZE, 70)]))
    assert end.session.sendable(1) == 30
    assert end.events() == [("settings_changed",), ("writable", 0)]


def test_frames_are_as_long_as_the_peer_takes() -> None:
    end = started()
    end.give(frames.settings([(settings.MAX_FRAME_SIZE, 20_000)]))
    end.said()
    end.session.send_headers(1, [*OK, (b"x", b"\xff" * 30_000)], end=False)
    end.session.send_data(1, bytes(30_000), end=False)
    assert [said.body_len for said in end.said()][0::2] == [20_000, 20_000]


def test_the_tables_size_is_said() -> None:
    end = started()
    end.give(frames.settings([(settings.HEADER_TABLE_SIZE, 0)]))
    end.said()
    end.session.send_headers(1, [(b":status", b"200"), (b"x", b"y")], end=False)
    (said,) = end.said()
    assert isinstance(said, HeadersFrame)
    assert said.data.startswith(b"\x20")


@pytest.mark.parametrize("padding", [None, 100])
def test_windows_are_given_back(padding: int | None) -> None:
    """Once half of one is consumed; both together let a peer send without end."""
    end = started(stream_window=100_000, connection_window=150_000)
    given = {0: 0, 1: 0}
    for _ in range(100):
        end.give(data(10_000, padding=padding))
        ((_, _, _, flow, _),) = end.events()
        end.session.consumed(1, flow)
        for said in end.said():
            assert isinstance(said, WindowUpdateFrame)
            assert said.window_increment >= (75_000 if said.stream_id == 0 else 50_000)
            given[said.stream_id] += said.window_increment
    total = 100 * (10_000 if padding is None else 10_101)
    assert total - 75_000 < given[0] <= total
    assert total - 50_000 < given[1] <= total


def test_what_is_not_consumed_stops_the_peer() -> None:
    end = started(stream_window=65535, connection_window=BIG)
    for _ in range(6):
        end.give(data(10_000))
    end.give(data(5535))
    assert not end.session.has_output()
    end.give(data(1))
    assert end.events()[-1] == ("stream_failed", 1, errors.FLOW_CONTROL_ERROR)


def test_the_connections_window_counts_all() -> None:
    end = End(stream_window=65535, connection_window=65535)
    for stream in (1, 3, 5, 7):
        end.give(end.headers(stream, POST, end=False))
    for stream in (1, 3, 5, 7):
        assert end.code is None
        end.give(data(16384, stream=stream))
    assert end.code == errors.FLOW_CONTROL_ERROR


@pytest.mark.parametrize(
    "how", ["reset", "reset by peer", "failed", "refused", "late", "ended", "ended and reset"]
)
def test_no_window_is_lost(how: str) -> None:
    """Whatever becomes of streams, the connection's window is whole in the end."""
    end = End(stream_window=65535, connection_window=100_000, max_concurrent_streams=3)
    for number in range(100):
        stream = 1 + 2 * number
        if how == "refused" and not number:
            for other in (1001, 1003, 1005):
                end.give(end.headers(other, POST, end=False))
        end.now += 1.0
        if how != "refused":
            end.give(end.headers(stream, POST, end=False))
        if how == "late":
            end.session.reset(stream, 0)
        if how == "refused":
            stream += 1010
            end.give(end.headers(stream, POST, end=False))
        end.give(data(5000, stream=stream), data(5000, stream=stream, end=how.startswith("ended")))
        if how == "reset":
            end.session.reset(stream, 0)
            end.session.consumed(stream, 10_000)
        elif how == "reset by peer":
            end.give(frames.words(frames.RST_STREAM, stream, 8))
        elif how == "failed":
            end.give(window(stream, 0))
        elif how == "ended":
            end.session.send_headers(stream, OK, end=True)
            end.session.consumed(stream, 4000)
            end.session.consumed(stream, 6000)
            end.session.consumed(stream, 6000)
        elif how == "ended and reset":
            end.session.send_headers(stream, OK, end=True)
            end.session.reset(stream, 0)
        assert end.code is None, (number, end.owner.error)
    updates = [said for said in end.said() if isinstance(said, WindowUpdateFrame)]
    total = sum(said.window_increment for said in updates if said.stream_id == 0)
    assert 950_000 < total <= 1_000_000


# Streams.


def test_too_many_streams_are_refused() -> None:
    end = End(max_concurrent_streams=2)
    end.give(end.headers(1), end.headers(3), end.headers(5))
    assert [(said.stream_id, said.error_code) for said in end.resets()] == [(5, errors.REFUSED_STREAM)]
    assert [event[1] for event in end.events()] == [1, 3]
    end.session.send_headers(1, OK, end=True)
    end.give(end.headers(7))
    assert [event[1] for event in end.events()] == [7]


def test_late_frames_of_a_stream_that_we_reset_are_swallowed() -> None:
    end = started()
    end.session.reset(1, errors.CANCEL)
    assert [said.error_code for said in end.resets()] == [errors.CANCEL]
    end.give(data(10), window(1, 5), end.headers(1, [(b"a", b"b")]), frames.words(frames.RST_STREAM, 1, 8))
    assert end.events() == []
    assert end.code is None
    assert not end.session.has_output()


def test_what_was_long_ago_is_a_stream_error() -> None:
    end = End()
    for number in range(400):
        end.give(end.headers(1 + 2 * number))
        end.session.send_headers(1 + 2 * number, OK, end=True)
    end.said()
    end.give(end.headers(1))
    assert [(said.stream_id, said.error_code) for said in end.resets()] == [(1, errors.STREAM_CLOSED)]
    end.give(end.headers(399 * 2 + 1))
    assert end.code == errors.STREAM_CLOSED


def test_a_reset_is_told_once() -> None:
    end = started()
    end.give(frames.words(frames.RST_STREAM, 1, errors.CANCEL))
    assert end.events() == [("reset_received", 1, errors.CANCEL)]
    assert end.session.sendable(1) == 0
    end.session.send_headers(1, OK, end=True)
    end.session.reset(1, 0)
    assert not end.session.has_output()


def test_fields_above_the_limit() -> None:
    """The server can still answer 431; the connection goes on, and its table is right."""
    end = End(max_header_list_size=1000)
    large = [*GET, (b"x-large", b"x" * 900)]
    end.give(end.headers(1, large), end.headers(3, [*GET, (b"x", b"y")]))
    assert end.events() == [("headers_too_large", 1, True), ("headers", 3, [*GET, (b"x", b"y")], True)]
    end.session.send_headers(1, [(b":status", b"431")], end=True)
    assert end.session.open_streams == 1
    end.give(end.headers(5, POST, end=False), end.headers(5, [(b"x-large", b"x" * 1000)]))
    assert end.events()[-1] == ("headers_too_large", 5, True)


def test_streams_of_ours() -> None:
    end = End(client=True)
    session = end.session
    end.give(frames.settings([(settings.MAX_CONCURRENT_STREAMS, 2)]))
    assert [session.open_stream() for _ in range(3)] == [1, 3, 0]
    assert not session.may_open()
    session.send_headers(1, GET, end=True)
    end.give(end.headers(1, OK))
    assert session.may_open()
    assert session.open_stream() == 5


# GOAWAY (RFC 9113 section 6.8) and PING.


def test_draining_says_so_twice() -> None:
    end = started()
    end.session.drain()
    end.session.drain()
    first, ping = end.said()
    assert isinstance(first, GoAwayFrame)
    assert (first.last_stream_id, first.error_code) == (2**31 - 1, 0)
    assert isinstance(ping, PingFrame)
    end.give(end.headers(3))  # it was on the way
    before = end.session.closing
    end.give(frame(frames.PING, frames.ACK, 0, ping.opaque_data))
    (second,) = end.said()
    assert isinstance(second, GoAwayFrame)
    assert (second.last_stream_id, second.error_code) == (3, 0)
    assert (before, end.session.closing) == (False, True)
    end.events()
    end.give(end.headers(5, POST, end=False), data(100, stream=5), window(5, 1), end.headers(3 + 4))
    assert end.events() == []
    assert not end.session.has_output()
    assert end.session.open_streams == 2
    end.give(data(1, end=True))
    assert end.events() == [("data", 1, b"\0", 1, True)]


def test_going_away_at_once() -> None:
    end = started()
    end.session.go_away(errors.NO_ERROR)
    end.session.go_away(errors.NO_ERROR)
    end.session.drain()
    (said,) = end.said()
    assert isinstance(said, GoAwayFrame)
    assert said.last_stream_id == 1
    assert end.session.closing


def test_a_server_that_goes_away() -> None:
    end = End(client=True)
    session = end.session
    for _ in range(3):
        session.send_headers(session.open_stream(), GET, end=True)
    end.give(frames.words(frames.GOAWAY, 0, 3, 0))
    assert end.events() == [("goaway", 3, 0)]
    assert session.closing
    assert session.open_streams == 2
    assert not session.may_open()
    assert session.open_stream() == 0
    end.give(end.headers(3, OK))
    assert end.events() == [("headers", 3, OK, True)]
    end.said()
    session.drain()
    (said,) = end.said()
    assert isinstance(said, GoAwayFrame)
    assert said.last_stream_id == 0


def test_pings() -> None:
    end = End()
    end.give(frame(frames.PING, 0, 0, b"12345678"))
    (pong,) = end.said()
    assert isinstance(pong, PingFrame)
    assert (pong.opaque_data, "ACK" in pong.flags) == (b"12345678", True)
    end.session.ping()
    end.session.ping()
    (ping,) = end.said()
    assert isinstance(ping, PingFrame)
    end.give(frame(frames.PING, frames.ACK, 0, ping.opaque_data))
    end.give(frame(frames.PING, frames.ACK, 0, ping.opaque_data))
    assert end.events() == [("pong",)]


def test_a_failed_session_does_nothing() -> None:
    end = started()
    end.give(frame(frames.PING, 0, 1, bytes(8)))
    end.said()
    session = end.session
    session.send_headers(1, OK, end=False)
    session.send_data(1, b"x", end=False)
    session.consumed(1, BIG)
    session.reset(1, 0)
    session.ping()
    session.drain()
    session.go_away(0)
    end.give(end.headers(3))
    assert (session.sendable(1), session.open_stream(), session.has_output()) == (0, 0, False)


# With another implementation.


class Pair:
    """A session and an `h2` connection, which give each other what they write, in pieces."""

    def __init__(self, *, client: bool, cut: int) -> None:
        self.owner = Recorder()
        self.session = Session(self.owner, client=client, settings=LocalSettings())
        config = h2.config.H2Configuration(client_side=not client, header_encoding=None)
        self.other = h2.connection.H2Connection(config)
        self.cut = cut
        self.told: list[h2.events.Event] = []
        self.other.initiate_connection()
        self.exchange()

    def exchange(self) -> None:
        while True:
            out = self.session.take_output()
            back = self.other.data_to_send() or b""
            if not out and not back:
                return
            for place in range(0, len(out), self.cut):
                self.told += self.other.receive_data(out[place : place + self.cut])
            for place in range(0, len(back), self.cut):
                self.session.receive(back[place : place + self.cut], 0.0)
            assert self.owner.error is None, self.owner.error

    def of(self, kind: type[h2.events.Event]) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]


FIELDS = st.lists(
    st.tuples(
        st.sampled_from([b"x-a", b"x-b", b"date"]),
        st.text("abc ", max_size=9).map(str.strip).map(str.encode),
    ),
    max_size=4,
)
BODIES = st.lists(st.integers(0, 40_000), max_size=3)


@given(FIELDS, BODIES, FIELDS, BODIES, FIELDS, st.sampled_from([1 << 20, 1000, 61]))
def test_a_server_for_another_client(
    fields: list[Any], up: list[int], answered: list[Any], down: list[int], trailers: list[Any], cut: int
) -> None:
    pair = Pair(client=False, cut=cut)
    for stream in (1, 3):
        pair.other.send_headers(stream, POST + fields)
        for size in up:
            for place in range(0, size, 16000):
                pair.other.send_data(stream, bytes(min(16000, size - place)), pad_length=5)
                pair.exchange()
                took = sum(
                    event[3] for event in pair.owner.events if event[0] == "data" and event[1] == stream
                )
                pair.session.consumed(stream, took)
        pair.other.end_stream(stream)
        pair.exchange()
        events = [
            event for event in pair.owner.events if event[0] in {"headers", "data"} and event[1] == stream
        ]
        assert events[0] == ("headers", stream, POST + fields, False)
        assert b"".join(event[2] for event in events[1:]) == bytes(sum(up))
        assert events[-1][4] is True
        pair.session.send_headers(stream, OK + answered, end=False)
        for size in down:
            left = size
            while left:
                part = min(left, pair.session.sendable(stream))
                pair.session.send_data(stream, bytes(part), end=False)
                left -= part
                pair.exchange()
                for event in pair.of(h2.events.DataReceived):
                    pair.other.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    event.flow_controlled_length = 0
                pair.exchange()
        if trailers:
            pair.session.send_headers(stream, trailers, end=True)
        else:
            pair.session.send_data(stream, b"", end=True)
        pair.exchange()
    assert [event.headers for event in pair.of(h2.events.ResponseReceived)] == [OK + answered] * 2
    assert sum(len(event.data) for event in pair.of(h2.events.DataReceived)) == 2 * sum(down)
    assert [event.headers for event in pair.of(h2.events.TrailersReceived)] == [trailers] * 2 * bool(trailers)
    assert len(pair.of(h2.events.StreamEnded)) == 2
    assert pair.session.open_streams == 0


@given(FIELDS, BODIES, st.sampled_from([1 << 20, 1000, 61]))
def test_a_client_of_another_server(fields: list[Any], sizes: list[int], cut: int) -> None:
    pair = Pair(client=True, cut=cut)
    first, second = pair.session.open_stream(), pair.session.open_stream()
    pair.session.send_headers(first, POST + fields, end=False)
    pair.session.send_headers(second, GET, end=True)
    total = 0
    for wanted in sizes:
        size = min(wanted, pair.session.sendable(first))
        pair.session.send_data(first, bytes(size), end=False)
        total += size
    pair.session.send_data(first, b"", end=True)
    pair.exchange()
    assert [event.headers for event in pair.of(h2.events.RequestReceived)] == [POST + fields, GET]
    assert sum(len(event.data) for event in pair.of(h2.events.DataReceived)) == total
    pair.other.send_headers(first, [(b":status", b"103")])
    for stream in (second, first):
        pair.other.send_headers(stream, OK + fields)
        pair.other.send_data(stream, b"abc")
        pair.other.send_headers(stream, [(b"x-t", b"1")], end_stream=True)
    pair.exchange()
    told = [event for event in pair.owner.events if event[0] in {"headers", "data", "trailers"}]
    assert [event[:2] for event in told if event[0] == "trailers"] == [
        ("trailers", second),
        ("trailers", first),
    ]
    assert ("headers", second, OK + fields, False) in told
    assert pair.session.open_streams == 0
    pair.other.close_connection()
    pair.exchange()
    assert pair.session.closing


def test_another_client_resets() -> None:
    pair = Pair(client=False, cut=1000)
    pair.other.send_headers(1, GET)
    pair.other.reset_stream(1, 8)
    pair.exchange()
    assert pair.owner.events[-1] == ("reset_received", 1, 8)
    pair.other.send_headers(3, GET)
    pair.exchange()
    pair.session.reset(3, errors.CANCEL)
    pair.exchange()
    assert [event.error_code for event in pair.of(h2.events.StreamReset)] == [errors.CANCEL]
    assert not [said for said in pair.told if isinstance(said, RstStreamFrame)]
