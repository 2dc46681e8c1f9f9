"""What a peer can't do without end (RFC 9113 section 10.5), and what honest peers do all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest
from hyperframe.frame import GoAwayFrame

from prox.http.codec.h2 import abuse, errors, frames, settings
from prox.http.codec.h2.abuse import Budget
from support.h2_session import GET, OK, POST, End, frame


def each_stream(make: Callable[[End, int], bytes]) -> Callable[[End], Iterator[bytes]]:
    """A turn on a new stream each."""

    def turns(end: End) -> Iterator[bytes]:
        for number in count():
            yield make(end, 1 + 2 * number)

    return turns


def each(*parts: bytes, first: Callable[[End], bytes] = lambda end: b"") -> Callable[[End], Iterator[bytes]]:
    """The same in each turn."""

    def turns(end: End) -> Iterator[bytes]:
        yield first(end)
        while True:
            yield b"".join(parts)

    return turns


def open_one(end: End) -> bytes:
    return end.headers(1, POST, end=False)


def refused(end: End, stream: int) -> bytes:
    return end.headers(stream, POST, end=False)


FLOODS: dict[str, tuple[Callable[[End], Iterator[bytes]], str]] = {
    "rapid reset": (
        each_stream(lambda end, stream: end.headers(stream) + frames.words(frames.RST_STREAM, stream, 8)),
        "rapid_reset",
    ),
    "made to reset by WINDOW_UPDATE": (
        each_stream(lambda end, stream: end.headers(stream) + frames.words(frames.WINDOW_UPDATE, stream, 0)),
        "rapid_reset",
    ),
    "made to reset by DATA": (
        each_stream(lambda end, stream: end.headers(stream) + frame(frames.DATA, 0, stream, b"x")),
        "rapid_reset",
    ),
    "DATA on a closed stream": (
        each(
            frame(frames.DATA, 0, 1, b"x"),
            first=lambda end: end.headers(1) + frames.words(frames.RST_STREAM, 1, 8),
        ),
        "rapid_reset",
    ),
    "too many streams": (each_stream(refused), "rapid_reset"),
    "PING": (each(frame(frames.PING, 0, 0, bytes(8))), "frame_flood"),
    "PING answered that was not sent": (each(frame(frames.PING, frames.ACK, 0, bytes(8))), "frame_flood"),
    "SETTINGS": (each(frames.settings([])), "frame_flood"),
    "SETTINGS with much in it": (each(frames.settings([(99, 1)] * 500)), "frame_flood"),
    "SETTINGS acknowledged": (each(frame(frames.SETTINGS, frames.ACK, 0)), "frame_flood"),
    "PRIORITY": (each(frame(frames.PRIORITY, 0, 7, b"\0\0\0\1\0")), "frame_flood"),
    "tiny WINDOW_UPDATE": (each(frames.words(frames.WINDOW_UPDATE, 0, 1)), "frame_flood"),
    "WINDOW_UPDATE on closed streams": (
        each(
            frames.words(frames.WINDOW_UPDATE, 1, 1),
            first=lambda end: end.headers(1) + frames.words(frames.RST_STREAM, 1, 8),
        ),
        "frame_flood",
    ),
    "empty DATA": (each(frame(frames.DATA, 0, 1), first=open_one), "frame_flood"),
    "padding alone": (
        each(frame(frames.DATA, frames.PADDED, 1, b"\x03" + bytes(3)), first=open_one),
        "frame_flood",
    ),
    "RST_STREAM again": (
        each(
            frames.words(frames.RST_STREAM, 1, 8),
            first=lambda end: end.headers(1),
        ),
        "frame_flood",
    ),
    "GOAWAY": (each(frames.words(frames.GOAWAY, 0, 0, 0)), "frame_flood"),
    "unknown": (each(frame(99, 0, 0, b"x")), "frame_flood"),
    "CONTINUATION": (
        each(frame(frames.CONTINUATION, 0, 1), first=lambda end: frame(frames.HEADERS, 1, 1)),
        "continuation_flood",
    ),
    "CONTINUATION with much in it": (
        each(frame(frames.CONTINUATION, 0, 1, bytes(16384)), first=lambda end: frame(frames.HEADERS, 1, 1)),
        "continuation_flood",
    ),
}


@pytest.mark.parametrize("case", FLOODS)
def test_floods(case: str) -> None:
    turns, reason = FLOODS[case]
    end = End()
    for number, turn in enumerate(turns(end)):
        assert number < 10_000, "without end"
        if "too many" not in case:
            end.session.take_output()
        end.now += 0.0001
        end.give(turn)
        if end.session.failed:
            break
    assert end.code == errors.ENHANCE_YOUR_CALM
    assert end.owner.error is not None
    assert end.owner.error.reason == reason
    assert isinstance(end.said()[-1], GoAwayFrame)


def test_interim_heads() -> None:
    end = End(client=True)
    end.session.open_stream()
    end.session.send_headers(1, GET, end=True)
    for _ in range(abuse.IDLE_FRAMES + 100):
        end.give(end.headers(1, [(b":status", b"103")], end=False))
    assert end.owner.error is not None
    assert end.owner.error.reason == "frame_flood"


def test_answers_that_are_not_read() -> None:
    """An owner takes no output while its transport is full."""
    end = End()
    for number in range(abuse.UNREAD_ANSWERS + 1):
        end.now = float(number)
        assert end.code is None
        end.give(frame(frames.PING, 0, 0, bytes(8)))
    assert end.owner.error is not None
    assert end.owner.error.reason == "unread_answers"
    assert end.code == errors.ENHANCE_YOUR_CALM


def test_streams_that_we_reset_without_fault_are_not_counted() -> None:
    end = End()
    for number in range(3 * abuse.RESETS):
        stream = 1 + 2 * number
        end.give(end.headers(stream))
        end.session.reset(stream, errors.CANCEL)
    assert end.code is None
    for number in range(3 * abuse.RESETS, 6 * abuse.RESETS):
        stream = 1 + 2 * number
        end.give(end.headers(stream))
        end.session.reset(stream, errors.PROTOCOL_ERROR, provoked=True)
    assert end.owner.error is not None
    assert end.owner.error.reason == "rapid_reset"


def test_streams_that_end_well_pay_for_resets() -> None:
    """A browser that leaves pages, a watcher that ends its calls."""
    end = End()
    for number in range(2000):
        stream = 1 + 4 * number
        end.give(end.headers(stream), end.headers(stream + 2))
        end.session.send_headers(stream, OK, end=True)
        end.give(frames.words(frames.RST_STREAM, stream + 2, 8))
    assert end.code is None


def test_resets_at_leisure() -> None:
    end = End()
    for number in range(2000):
        end.now += 1.0 / abuse.RESETS_A_SECOND
        stream = 1 + 2 * number
        end.give(end.headers(stream), frames.words(frames.RST_STREAM, stream, 8))
    assert end.code is None


def test_a_stream_that_we_have_answered_may_be_reset() -> None:
    end = End()
    for number in range(2000):
        stream = 1 + 2 * number
        end.give(end.headers(stream, POST, end=False))
        end.session.send_headers(stream, OK, end=True)
        end.give(frames.words(frames.RST_STREAM, stream, 0))
    assert end.code is None


def test_a_transfer_with_pings_and_small_updates() -> None:
    """As gRPC does it: a PING and two WINDOW_UPDATE with each frame of data, both ways."""
    end = End()
    end.give(end.headers(1, POST, end=False))
    end.session.send_headers(1, OK, end=False)
    for _ in range(20_000):
        end.give(frame(frames.DATA, 0, 1, bytes(50)), frame(frames.PING, 0, 0, bytes(8)))
        end.session.consumed(1, 50)
        end.session.send_data(1, bytes(1000), end=False)
        end.give(frames.words(frames.WINDOW_UPDATE, 0, 1000), frames.words(frames.WINDOW_UPDATE, 1, 1000))
        end.session.take_output()
    assert end.code is None


def test_data_in_drops_does_not_pay() -> None:
    """CVE-2019-9511: windows opened byte by byte, so that each takes a frame of ours."""
    end = End()
    end.give(end.headers(1), frames.settings([(settings.INITIAL_WINDOW_SIZE, 0)]))
    end.session.send_headers(1, OK, end=False)
    for _ in range(abuse.IDLE_FRAMES + 1):
        end.give(frames.words(frames.WINDOW_UPDATE, 1, 1))
        if end.session.sendable(1):
            end.session.send_data(1, b"x", end=False)
        end.session.take_output()
    assert end.owner.error is not None
    assert end.owner.error.reason == "frame_flood"


def test_a_large_head_in_honest_pieces() -> None:
    end = End()
    fields = [*GET, *[(b"x-%d" % number, b"\xff" * 1000) for number in range(60)]]
    end.give(end.headers(1, fields, size=4096))
    assert end.events() == [("headers", 1, fields, True)]


def test_a_budget() -> None:
    budget = Budget(3, 2)
    assert [budget.spend(1, 10.0) for _ in range(4)] == [True, True, True, False]
    assert not budget.spend(1, 10.4)
    assert budget.spend(1, 10.6)
    assert not budget.spend(1, 10.6)
    budget.earn(100)
    assert budget.spend(3, 10.6)
    assert not budget.spend(1, 10.6)
    assert not budget.spend(4, 99.0)
    assert budget.spend(3, 99.0)
