"""Streams cut anywhere: whole, byte by byte, with the next message behind, and at random."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.wire import FRAME_LIMIT, LINE_LIMIT, FrameReader, FrameTooLarge, LineReader, OversizeLine
from support.vectors import PLUGIN_CALLS, PLUGIN_LINES, PROXY_CALLS

FRAMES = [call.frame for call in PROXY_CALLS] + [call.answer for call in PLUGIN_CALLS]
BODIES = [frame[4:] for frame in FRAMES]


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 100, 4096, 10**6])
def test_recorded_frames_in_pieces(size: int) -> None:
    stream = b"".join(FRAMES)
    reader = FrameReader()
    got = [body for at in range(0, len(stream), size) for body in reader.feed(stream[at : at + size])]
    assert got == BODIES
    assert reader.pending == 0


def test_one_read_is_one_frame() -> None:
    reader = FrameReader()
    assert [reader.feed(frame) for frame in FRAMES] == [[body] for body in BODIES]


@given(st.lists(st.binary(max_size=60), max_size=6), st.lists(st.integers(0, 10**6), max_size=12))
def test_frames_cut_anywhere(bodies: list[bytes], places: list[int]) -> None:
    reader = FrameReader()
    got = [body for piece in cut(b"".join(map(frame, bodies)), places) for body in reader.feed(piece)]
    assert got == bodies
    assert reader.pending == 0


def test_a_frame_with_the_next_one_begun_behind_it() -> None:
    reader = FrameReader()
    assert reader.feed(frame(b"one") + frame(b"two")[:5]) == [b"one"]
    assert reader.pending == 5
    assert reader.feed(frame(b"two")[5:] + frame(b"three")) == [b"two", b"three"]
    assert reader.pending == 0


def test_a_frame_at_the_limit_and_one_above_it() -> None:
    assert FrameReader().limit == FRAME_LIMIT == 1024 * 1024
    for body in (b"x" * 10, b""):
        assert FrameReader(limit=10).feed(frame(body)) == [body]
    with pytest.raises(FrameTooLarge, match="11 bytes is above the limit of 10"):
        FrameReader(limit=10).feed(frame(b"x" * 11))


@pytest.mark.parametrize("piece", [1, 2, 100])
def test_an_oversize_frame_is_refused_at_its_header_and_ends_the_reader(piece: int) -> None:
    reader = FrameReader(limit=10)
    stream = frame(b"good") + struct.pack(">I", 2**32 - 1)
    got: list[bytes] = []

    def feed() -> None:
        for at in range(0, len(stream), piece):
            got.extend(reader.feed(stream[at : at + piece]))

    with pytest.raises(FrameTooLarge) as caught:
        feed()
    assert got + caught.value.frames == [b"good"]
    assert caught.value.size == 2**32 - 1
    with pytest.raises(FrameTooLarge) as again:
        reader.feed(frame(b"late"))
    assert again.value.frames == []


@pytest.mark.parametrize("size", [1, 2, 3, 50, 10**6])
def test_recorded_lines_in_pieces(size: int) -> None:
    stream = "".join(line + "\n" for line in PLUGIN_LINES).encode()
    reader = LineReader()
    got = [line for at in range(0, len(stream), size) for line in reader.feed(stream[at : at + size])]
    assert got == [line.encode() for line in PLUGIN_LINES]
    assert reader.pending == 0


lines = st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b""))


@given(st.lists(lines, max_size=8), st.lists(st.integers(0, 10**6), max_size=12), st.integers(5, 40))
def test_lines_cut_anywhere(sent: list[bytes], places: list[int], limit: int) -> None:
    reader = LineReader(limit)
    stream = b"".join(line + b"\n" for line in sent)
    got = [line for piece in cut(stream, places) for line in reader.feed(piece)]
    wanted = [
        OversizeLine(limit, line[: LineReader.HEAD]) if len(line) > limit else line
        for line in sent
        if len(line) > limit or line.strip()
    ]
    assert [g.limit if isinstance(g, OversizeLine) else g for g in got] == [
        w.limit if isinstance(w, OversizeLine) else w for w in wanted
    ]
    assert reader.pending == 0


def test_an_empty_line_is_no_line() -> None:
    assert LineReader().feed(b"\n\r\n  \n{}\r\n\n") == [b"{}\r"]


def test_a_line_above_the_limit_is_dropped_whole_and_reading_goes_on() -> None:
    assert LineReader().limit == LINE_LIMIT == 16 * 1024 * 1024
    reader = LineReader(limit=8)
    assert reader.feed(b"good\n12345678\n123456789\nnext\n") == [
        b"good",
        b"12345678",
        OversizeLine(8, b"123456789"),
        b"next",
    ]
    assert reader.feed(b"123456") == []
    assert reader.feed(b"789") == [OversizeLine(8, b"123456789")]
    assert reader.feed(b"more" * 1000) == []
    assert reader.pending == 0
    assert reader.feed(b"end\nnext\n") == [b"next"]
    assert reader.feed(b"last\n") == [b"last"]


def test_a_stream_without_line_ends_is_reported_once_and_not_kept() -> None:
    reader = LineReader(limit=1000)
    reports = [line for _ in range(100) for line in reader.feed(b"x" * 500)]
    assert reports == [OversizeLine(1000, b"x" * 120)]
    assert reader.pending == 0


def test_an_unfinished_line_is_pending() -> None:
    reader = LineReader()
    assert reader.feed(b'{"method":') == []
    assert reader.pending == 10
