"""Every rule of RFC 9113 about a frame, broken once; what is sent comes whole, byte by byte, and with frames behind it."""

from __future__ import annotations

import pytest
from hyperframe.frame import GoAwayFrame, RstStreamFrame

from prox.http.codec.h2 import errors, frames, settings
from prox.http.codec.h2.hpack import Encoder
from prox.http.codec.h2.session import Session
from prox.http.codec.h2.settings import LocalSettings
from support.h2_session import GET, OK, POST, End, Pairs, Recorder, frame

PING = frame(frames.PING, 0, 0, bytes(8))


def head(stream: int, fields: Pairs = GET, *, end: bool = True) -> bytes:
    """HEADERS that need no table."""
    block = b"".join(b"\x00%c%b%c%b" % (len(name), name, len(value), value) for name, value in fields)
    return frames.field_frames(block, stream, 16384, end=end)


BLOCK = head(1)[9:]
OPEN = head(1, POST, end=False)
DONE = head(1)
BODY = frame(frames.DATA, 0, 1, b"x")


def said(name: int, value: int) -> bytes:
    return frames.settings([(name, value)])


FATAL: dict[str, tuple[bytes, int]] = {
    # 4.2
    "4.2 a frame above the size": (frame(0, 0, 1, bytes(16385)), errors.FRAME_SIZE_ERROR),
    "4.2 an unknown frame above it": (frame(99, 0, 0, bytes(16385)), errors.FRAME_SIZE_ERROR),
    # 4.3
    "4.3 a block that can't be read": (frame(1, 5, 1, b"\xff"), errors.COMPRESSION_ERROR),
    "4.3 one on a refused stream too": (OPEN + frame(1, 5, 1, b"\xff"), errors.COMPRESSION_ERROR),
    # 5.1
    "5.1 DATA, idle": (frame(0, 1, 1, b"x"), errors.PROTOCOL_ERROR),
    "5.1 RST_STREAM, idle": (frame(3, 0, 1, bytes(4)), errors.PROTOCOL_ERROR),
    "5.1 WINDOW_UPDATE, idle": (frame(8, 0, 1, b"\0\0\0\1"), errors.PROTOCOL_ERROR),
    "5.1 CONTINUATION, idle": (frame(9, 4, 1, BLOCK), errors.PROTOCOL_ERROR),
    "5.1 DATA on a stream of ours": (frame(0, 1, 2, b"x"), errors.PROTOCOL_ERROR),
    # 5.1.1
    "5.1.1 an even id": (head(2), errors.PROTOCOL_ERROR),
    "5.1.1 an id lower than before": (head(5) + head(3), errors.PROTOCOL_ERROR),
    # 5.5
    "5.5 an unknown frame in a block": (frame(1, 1, 1, BLOCK) + frame(99, 0, 0), errors.PROTOCOL_ERROR),
    # 6.1
    "6.1 DATA on 0": (frame(0, 0, 0, b"x"), errors.PROTOCOL_ERROR),
    "6.1 padding longer than DATA": (OPEN + frame(0, 8, 1, b"\x05hell"), errors.PROTOCOL_ERROR),
    "6.1 padding as long as DATA": (OPEN + frame(0, 8, 1, b"\x05hello"[:5]), errors.PROTOCOL_ERROR),
    "6.1 no padding length": (OPEN + frame(0, 8, 1), errors.FRAME_SIZE_ERROR),
    # 6.2
    "6.2 HEADERS on 0": (frame(1, 5, 0, BLOCK), errors.PROTOCOL_ERROR),
    "6.2 padding longer than HEADERS": (frame(1, 13, 1, b"\x7f" + BLOCK[:20]), errors.PROTOCOL_ERROR),
    "6.2 no place for the priority": (frame(1, 0x25, 1, b"\0\0\0\0"), errors.FRAME_SIZE_ERROR),
    "6.2 depends on itself": (frame(1, 0x25, 1, b"\0\0\0\1\0" + BLOCK), errors.PROTOCOL_ERROR),
    "6.2 interrupted by HEADERS": (frame(1, 1, 1, BLOCK) + head(3), errors.PROTOCOL_ERROR),
    "6.2 interrupted by PING": (frame(1, 1, 1, BLOCK) + PING, errors.PROTOCOL_ERROR),
    # 6.3
    "6.3 PRIORITY on 0": (frame(2, 0, 0, b"\0\0\0\3\0"), errors.PROTOCOL_ERROR),
    "6.3 PRIORITY too short": (frame(2, 0, 1, b"\0\0\0\3"), errors.FRAME_SIZE_ERROR),
    "6.3 PRIORITY too long": (frame(2, 0, 1, b"\0\0\0\3\0\0"), errors.FRAME_SIZE_ERROR),
    "6.3 PRIORITY of itself": (frame(2, 0, 1, b"\x80\0\0\1\0"), errors.PROTOCOL_ERROR),
    # 6.4
    "6.4 RST_STREAM on 0": (frame(3, 0, 0, bytes(4)), errors.PROTOCOL_ERROR),
    "6.4 RST_STREAM too short": (OPEN + frame(3, 0, 1, bytes(3)), errors.FRAME_SIZE_ERROR),
    # 6.5
    "6.5 ACK with a payload": (frame(4, 1, 0, bytes(6)), errors.FRAME_SIZE_ERROR),
    "6.5 SETTINGS on a stream": (frame(4, 0, 1, bytes(6)), errors.PROTOCOL_ERROR),
    "6.5 SETTINGS cut off": (frame(4, 0, 0, bytes(5)), errors.FRAME_SIZE_ERROR),
    "6.5.2 ENABLE_PUSH 2": (said(settings.ENABLE_PUSH, 2), errors.PROTOCOL_ERROR),
    "6.5.2 window": (said(settings.INITIAL_WINDOW_SIZE, 1 << 31), errors.FLOW_CONTROL_ERROR),
    "6.5.2 frame size too low": (said(settings.MAX_FRAME_SIZE, 16383), errors.PROTOCOL_ERROR),
    "6.5.2 frame size too high": (said(settings.MAX_FRAME_SIZE, 1 << 24), errors.PROTOCOL_ERROR),
    "RFC 8441 3 value": (said(settings.ENABLE_CONNECT_PROTOCOL, 2), errors.PROTOCOL_ERROR),
    "RFC 8441 3 taken back": (
        said(settings.ENABLE_CONNECT_PROTOCOL, 1) + said(settings.ENABLE_CONNECT_PROTOCOL, 0),
        errors.PROTOCOL_ERROR,
    ),
    # 6.6
    "6.6 PUSH_PROMISE": (frame(5, 4, 1, b"\0\0\0\2" + BLOCK), errors.PROTOCOL_ERROR),
    # 6.7
    "6.7 PING on a stream": (frame(6, 0, 1, bytes(8)), errors.PROTOCOL_ERROR),
    "6.7 PING too short": (frame(6, 0, 0, bytes(7)), errors.FRAME_SIZE_ERROR),
    "6.7 PING too long": (frame(6, 1, 0, bytes(9)), errors.FRAME_SIZE_ERROR),
    # 6.8
    "6.8 GOAWAY on a stream": (frame(7, 0, 1, bytes(8)), errors.PROTOCOL_ERROR),
    "6.8 GOAWAY too short": (frame(7, 0, 0, bytes(7)), errors.FRAME_SIZE_ERROR),
    # 6.9
    "6.9 by 0": (frame(8, 0, 0, bytes(4)), errors.PROTOCOL_ERROR),
    "6.9 too short": (frame(8, 0, 0, bytes(3)), errors.FRAME_SIZE_ERROR),
    "6.9 too short on a stream": (OPEN + frame(8, 0, 1, bytes(3)), errors.FRAME_SIZE_ERROR),
    "6.9.1 overflow": (frame(8, 0, 0, b"\x7f\xff\xff\xff"), errors.FLOW_CONTROL_ERROR),
    "6.9.2 overflow by a setting": (
        OPEN + frame(8, 0, 1, b"\x7f\0\0\0") + said(settings.INITIAL_WINDOW_SIZE, 0x7FFF_FFFF),
        errors.FLOW_CONTROL_ERROR,
    ),
    # 6.10
    "6.10 on 0": (frame(1, 1, 1, BLOCK) + frame(9, 4, 0, b""), errors.PROTOCOL_ERROR),
    "6.10 on another stream": (frame(1, 1, 1, BLOCK) + frame(9, 4, 3, b""), errors.PROTOCOL_ERROR),
    "6.10 alone": (DONE + frame(9, 4, 1, b""), errors.PROTOCOL_ERROR),
    "6.10 behind END_HEADERS": (OPEN + frame(9, 4, 1, b""), errors.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("cut", ["whole", "bytes", "behind"])
@pytest.mark.parametrize("case", FATAL)
def test_ends_the_connection(case: str, cut: str) -> None:
    sent, code = FATAL[case]
    end = End()
    if cut == "bytes":
        for byte in sent:
            end.give(bytes([byte]))
    else:
        end.give(sent + (PING + head(9) if cut == "behind" else b""))
    assert end.code == code
    last = end.said()[-1]
    assert isinstance(last, GoAwayFrame)
    assert last.error_code == code
    assert end.session.open_streams == 0
    end.give(PING)  # what comes now is not read
    assert not end.session.has_output()


RESETS: dict[str, tuple[bytes, int]] = {
    "5.1 DATA, half-closed": (DONE + frame(0, 0, 1, b"x"), errors.STREAM_CLOSED),
    "5.1 HEADERS, half-closed": (DONE + head(1), errors.STREAM_CLOSED),
    "5.1 DATA behind RST_STREAM": (OPEN + frame(3, 0, 1, bytes(4)) + BODY, errors.STREAM_CLOSED),
    "5.1 HEADERS behind RST_STREAM": (OPEN + frame(3, 0, 1, bytes(4)) + head(1), errors.STREAM_CLOSED),
    "6.9 by 0": (OPEN + frame(8, 0, 1, bytes(4)), errors.PROTOCOL_ERROR),
    "6.9.1 overflow": (OPEN + frame(8, 0, 1, b"\x7f\xff\xff\xff"), errors.FLOW_CONTROL_ERROR),
    "8.1 trailers without an end": (OPEN + head(1, [(b"a", b"b")], end=False), errors.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("cut", ["whole", "bytes"])
@pytest.mark.parametrize("case", RESETS)
def test_ends_the_stream(case: str, cut: str) -> None:
    sent, code = RESETS[case]
    end = End()
    if cut == "bytes":
        for byte in sent:
            end.give(bytes([byte]))
    else:
        end.give(sent)
    (reset,) = end.said()
    assert isinstance(reset, RstStreamFrame)
    assert (reset.stream_id, reset.error_code) == (1, code)
    assert ("stream_failed", 1, code) in end.events() or "RST_STREAM" in case
    assert end.code is None
    end.give(head(3))  # the connection goes on
    assert ("headers", 3, GET, True) in end.events()


FINE: dict[str, bytes] = {
    "5.1 PRIORITY, idle": frame(2, 0, 7, b"\0\0\0\1\0"),
    "5.1 PRIORITY, closed": DONE + frame(3, 0, 1, bytes(4)) + frame(2, 0, 1, b"\0\0\0\3\0"),
    "5.1 WINDOW_UPDATE, closed": DONE + frame(3, 0, 1, bytes(4)) + frame(8, 0, 1, b"\0\0\0\1"),
    "5.1 RST_STREAM, closed": DONE + frame(3, 0, 1, bytes(4)) * 2,
    "5.5 an unknown frame": frame(99, 255, 7, b"whatever"),
    "4.1 the reserved bit": DONE[:5] + b"\x80\0\0\x01" + DONE[9:],
    "4.1 unknown flags": frame(6, 0xFE, 0, bytes(8)),
    "6.5.2 an unknown setting": said(0x4242, 1),
    "6.5 ACK that nobody waits for": frame(4, 1, 0),
    "6.7 an answer that nobody waits for": frame(6, 1, 0, bytes(8)),
    "6.8 GOAWAY with text": frame(7, 0, 0, bytes(8) + b"bye"),
    "6.2 padding, priority": frame(1, 0x2D, 1, b"\x03\x80\0\0\3\xff" + BLOCK + bytes(3)),
    "6.10 many pieces": frame(1, 1, 1, b"")
    + b"".join(frame(9, 0, 1, BLOCK[place : place + 2]) for place in range(0, len(BLOCK), 2))
    + frame(9, 4, 1, b""),
}


@pytest.mark.parametrize("cut", ["whole", "bytes"])
@pytest.mark.parametrize("case", FINE)
def test_is_allowed(case: str, cut: str) -> None:
    end = End()
    sent = FINE[case] + head(9)
    if cut == "bytes":
        for byte in sent:
            end.give(bytes([byte]))
    else:
        end.give(sent)
    assert end.code is None
    assert end.events()[-1] == ("headers", 9, GET, True)
    assert not [said for said in end.said() if isinstance(said, RstStreamFrame)]


def test_headers_behind_both_ends_is_the_end_of_the_connection() -> None:
    """5.1: it can't be late, since the stream was not reset."""
    end = End()
    end.give(DONE)
    end.session.send_headers(1, OK, end=True)
    end.give(head(1))
    assert end.code == errors.STREAM_CLOSED


def test_data_behind_both_ends_resets() -> None:
    end = End()
    end.give(DONE)
    end.session.send_headers(1, OK, end=True)
    end.said()
    end.give(BODY)
    assert end.code is None
    assert [(said.stream_id, said.error_code) for said in end.resets()] == [(1, errors.STREAM_CLOSED)]


@pytest.mark.parametrize("cut", ["whole", "bytes"])
@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", frames.PREFACE[:-1] + b"\r", b"PRI * HTTP/2.1\r\n", bytes(24)],
)
def test_a_wrong_preface(sent: bytes, cut: str) -> None:
    """3.4."""
    owner = Recorder()
    session = Session(owner, client=False, settings=LocalSettings())
    for piece in [sent] if cut == "whole" else [bytes([byte]) for byte in sent]:
        session.receive(piece, 0.0)
    assert owner.error is not None
    assert (owner.error.code, owner.error.reason) == (errors.PROTOCOL_ERROR, "preface")


@pytest.mark.parametrize("first", [PING, frame(4, 1, 0), DONE, frame(99, 0, 0)])
@pytest.mark.parametrize("client", [False, True])
def test_the_first_frame_is_settings(first: bytes, client: bool) -> None:
    """3.4."""
    owner = Recorder()
    session = Session(owner, client=client, settings=LocalSettings())
    session.receive((b"" if client else frames.PREFACE) + first, 0.0)
    assert owner.error is not None
    assert owner.error.code == errors.PROTOCOL_ERROR


CLIENT: dict[str, tuple[bytes, int]] = {
    "5.1 HEADERS, idle": (head(3, OK), errors.PROTOCOL_ERROR),
    "5.1.1 a stream of the server's": (head(2, OK), errors.PROTOCOL_ERROR),
    "8.4 a push that we refused": (frame(5, 4, 1, b"\0\0\0\2" + BLOCK), errors.PROTOCOL_ERROR),
    "6.5.2 a server that wants pushes": (said(settings.ENABLE_PUSH, 1), errors.PROTOCOL_ERROR),
    "5.1 WINDOW_UPDATE, idle": (frame(8, 0, 3, b"\0\0\0\1"), errors.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("case", CLIENT)
def test_ends_a_connection_of_ours(case: str) -> None:
    sent, code = CLIENT[case]
    end = End(client=True)
    end.session.open_stream()
    end.session.send_headers(1, GET, end=True)
    end.give(sent)
    assert end.code == code


INTERIM: Pairs = [(b":status", b"103")]


@pytest.mark.parametrize(
    "sent",
    [
        frame(0, 1, 1, b"x"),  # before the head
        head(1, INTERIM),  # an interim head ends
        head(1, INTERIM, end=False) + frame(0, 1, 1, b"x"),
        head(1, OK, end=False) + head(1, [(b"a", b"b")], end=False),
    ],
)
def test_ends_a_stream_of_ours(sent: bytes) -> None:
    """8.1."""
    end = End(client=True)
    end.session.open_stream()
    end.session.send_headers(1, GET, end=True)
    end.said()
    end.give(sent)
    assert ("stream_failed", 1, errors.PROTOCOL_ERROR) in end.events()
    assert end.code is None
    assert [(said.stream_id, said.error_code) for said in end.resets()] == [(1, errors.PROTOCOL_ERROR)]


def test_blocks_are_read_whatever_becomes_of_their_stream() -> None:
    """4.3: the table is the connection's."""
    end = End(max_concurrent_streams=1)
    encoder = Encoder()
    first = encoder.encode([*GET, (b"x-a", b"1")])
    second = encoder.encode([*GET, (b"x-b", b"2")])
    third = encoder.encode([*GET, (b"x-a", b"1"), (b"x-b", b"2")])
    end.give(frames.field_frames(first, 1, 16384, end=True), frames.field_frames(second, 3, 16384, end=True))
    assert [said.stream_id for said in end.said()] == [3]
    end.session.send_headers(1, OK, end=True)
    end.give(frames.field_frames(third, 5, 16384, end=True))
    assert end.events()[-1] == ("headers", 5, [*GET, (b"x-a", b"1"), (b"x-b", b"2")], True)
