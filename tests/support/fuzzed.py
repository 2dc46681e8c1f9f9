"""What the fuzzer feeds: functions from any bytes to nothing, or to an exception where prox and the RFCs part.

Those of HTTP/1.1 compare prox with `strict_parser`, which shares no line with it; those of HTTP/2 are in `fuzzed_h2`. Bytes
that made one fail are in tests/fuzz/crashers.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from prox.http.codec.body import ChunkedDecoder
from prox.http.codec.errors import BadMessageError
from prox.http.codec.fields import Headers
from prox.http.codec.request import CHUNKED, METHODS, RequestParser
from prox.http.codec.response import ResponseParser
from prox.http.codec.target import decode_path, encode_path, parse_target, split_host
from support import fuzzed_h2, fuzzed_l4
from support.invariants import converse
from support.mutations import ANSWERS, REQUESTS
from support.strict_parser import FaultError, Message, Reader
from support.wires import Reply, Wires, wires

T = TypeVar("T")

NEXT = b"\xff\xfe"
"""In a conversation: what follows is the upstream's next reply, its first byte says how it is sent."""

CUT = b"\xff\xfd"
"""In a conversation and before chunks: a packet ends here."""

_END = b"\r\n\r\n"
_CHUNKED = b"POST / HTTP/1.1\r\nHost: test.example\r\nTransfer-Encoding: chunked\r\n\r\n"

_requests = RequestParser()
_responses = ResponseParser()


def _head(data: bytes) -> bytes:
    """One head, as connections cut them out of what they read."""
    data = data.lstrip(b"\r\n") + _END
    return data[: data.index(_END) + 4]


def _check_fields(headers: Headers, message: Message) -> None:
    """All fields were read; blanks behind a value may still be there."""
    read = sorted((name, value.strip(b" \t")) for name, value in headers)
    assert read == sorted(message.fields), (read, message.fields)


def _read(read: Callable[[], T]) -> T | BadMessageError:
    """What prox makes of a message."""
    try:
        return read()
    except BadMessageError as error:
        return error


def _read_strictly(read: Callable[[], Message | None]) -> Message | str:
    """What the RFCs make of it: a message, or a fault."""
    try:
        message = read()
    except FaultError as error:
        return str(error)
    assert message is not None
    return message


def request_head(data: bytes) -> None:
    """A request's head: what prox accepts is HTTP and says what prox reads in it; what is plain it accepts."""
    head = _head(data)
    if head == _END:
        return
    message = _read_strictly(Reader(head).request)
    request = _read(lambda: _requests.parse(head))
    if not isinstance(request, BadMessageError):
        wrong = _read(partial(parse_target, request.method, request.request_target))
        if isinstance(wrong, BadMessageError):
            request = wrong
    if isinstance(request, BadMessageError):
        assert isinstance(message, str) or message.unusual, f"refused ({request}) a plain {message}"
        assert request.status in {400, 417, 431, 501, 505}
        return
    if message == "Host differs from the URL":
        return  # the connection compares them
    assert isinstance(message, Message), f"accepted: {message}"
    assert (request.method.encode(), request.request_target) == (message.method, message.target)
    _check_fields(request.headers, message)
    if request.length == CHUNKED:
        assert message.all(b"transfer-encoding")
    else:
        lengths = message.all(b"content-length")
        assert request.length == (int(lengths[0]) if lengths else 0)
    assert request.close == message.is_last_of_client


def response_head(data: bytes) -> None:
    """An answer's head, the same; the first byte chooses the request's method."""
    method = "HEAD" if data[:1] == b"\x01" else "GET"
    head = _head(data[1:])
    message = _read_strictly(lambda: Reader(head).response(method.encode()))
    response = _read(lambda: _responses.parse(head, method))
    if isinstance(response, BadMessageError):
        odd = isinstance(message, str) or message.unusual or message.status < 200
        assert odd, f"refused ({response}) a plain {message}"
        return
    assert isinstance(message, Message), f"accepted: {message}"
    assert response.status == message.status
    _check_fields(response.headers, message)
    if response.length > 0:
        assert response.length == int(message.all(b"content-length")[0])


def chunks(data: bytes) -> None:
    """A chunked body in packets: its content, its end and its faults are those of the RFC, however it is cut."""
    packets = data.split(CUT)
    whole = b"".join(packets)
    message = Reader(_CHUNKED + whole).request()
    assert message is not None
    decoder = ChunkedDecoder()
    body = b""
    while packets and not decoder.done:
        piece = _read(partial(decoder.feed, packets.pop(0)))
        if isinstance(piece, BadMessageError):
            assert not message.whole, f"refused ({piece}) {message}"
            return
        body += piece
    if not decoder.done:
        assert not message.whole, f"{message} has no end for prox"
        assert not message.broken, f"not refused: {message.broken}"
        return
    assert message.whole, f"whole for prox: {message}"
    assert body == message.body
    assert decoder.rest + b"".join(packets) == whole[message.size - len(_CHUNKED) :]
    lines = [line.split(b":", 1) for line in decoder.trailers.split(b"\r\n")[1:]]
    assert [(name, value.strip(b" \t")) for name, value in lines] == message.trailers


def target(data: bytes) -> None:
    """A request target: the path that routes see is the one that a server sees, decoded once."""
    if any(byte <= 0x20 or byte >= 0x7F for byte in data) or b"#" in data or not data:
        return  # refused before
    for method in ("GET", "OPTIONS", "CONNECT"):
        parsed = _read(partial(parse_target, method, data))
        if isinstance(parsed, BadMessageError) or method == "CONNECT":
            continue
        assert parsed.raw == b"*" or parsed.raw.startswith(b"/")
        assert data.endswith(parsed.raw) or parsed.raw in {b"/", b"*"} or parsed.raw[1:2] == b"?"
        path = parsed.raw.partition(b"?")[0]
        assert decode_path(path) == parsed.path
        assert decode_path(encode_path(parsed.path)) == parsed.path
        if parsed.authority is not None:
            assert split_host(parsed.authority) == split_host(parsed.authority).lower()


_stack = contextlib.ExitStack()


@functools.cache
def _wires() -> Wires:
    return _stack.enter_context(wires())  # for as long as the process lasts


def conversation(data: bytes) -> None:
    """Both sides at once, see `invariants`. The first byte says whether the client leaves."""
    said, *answers = data.split(NEXT)
    packets = said[1:].split(CUT)
    sent = b"".join(packets)
    replies = []
    for answer in answers:
        pieces = answer[1:].split(CUT)
        flags = answer[0] if answer else 0
        replies.append(Reply(b"".join(pieces), _places(pieces), bool(flags & 1), bool(flags & 2)))
    converse(_wires(), sent, _places(packets), tuple(replies), leaves=said[:1] == b"\x01")


def _places(pieces: list[bytes]) -> tuple[int, ...]:
    places = []
    at = 0
    for piece in pieces[:-1]:
        at += len(piece)
        places.append(at)
    return tuple(places)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "conversation": conversation,
    "request_head": request_head,
    "response_head": response_head,
    "chunks": chunks,
    "target": target,
    "field_blocks": fuzzed_h2.field_blocks,
    "h2_session": fuzzed_h2.session,
    "client_hello": fuzzed_l4.client_hello,
    "proxy_header": fuzzed_l4.proxy_header,
}


def seeds(name: str) -> list[bytes]:
    """What the fuzzer begins with."""
    match name:
        case "conversation":
            alone = [b"\0" + request for request in REQUESTS]
            answered = [b"\0" + REQUESTS[0] + REQUESTS[6] + NEXT + b"\0" + answer for answer in ANSWERS]
            cut = b"\0" + REQUESTS[3][:40] + CUT + REQUESTS[3][40:] + REQUESTS[1]
            return [
                *alone,
                *answered,
                cut,
                b"\1" + REQUESTS[6][:-3],
                b"\0" + REQUESTS[3][:70] + NEXT + b"\3" + ANSWERS[0],
            ]
        case "request_head":
            return [*REQUESTS, *(name + b" / HTTP/1.1\r\nHost: a" for name in METHODS)]
        case "response_head":
            return [flag + answer for answer in ANSWERS for flag in (b"\0", b"\1")]
        case "chunks":
            return [
                b"3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n",
                b"3\r" + CUT + b"\nabc\r\n0\r\n\r\nGET",
                b'1;a="b\\""\r\n.\r\n0\r\n\r\n',
            ]
        case "field_blocks":
            return fuzzed_h2.block_seeds()
        case "h2_session":
            return fuzzed_h2.session_seeds()
        case "client_hello":
            return fuzzed_l4.hello_seeds()
        case "proxy_header":
            return fuzzed_l4.header_seeds()
        case _:
            return [
                b"/a/%2e%2E/b?c=d",
                b"http://test.example:80/x",
                b"*",
                b"[::1]:443",
                b"/\xc3\xa9".replace(b"\xc3\xa9", b"%C3%A9%ff"),
            ]
