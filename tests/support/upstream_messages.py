"""A strict reader of HTTP/1.1 messages, written apart from prox's: what it accepts parses anywhere.

It takes bytes and gives whole messages back. It knows no leniency at all, so a byte too many that prox sends fails the test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/1\.1")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)")
_HEADER = re.compile(
    rb"("
    + _TOKEN
    + rb"):[ \t]*((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*"
)
_CHUNK_SIZE = re.compile(rb"(0|[1-9a-f][0-9a-f]*)")
_NUMBER = re.compile(rb"0|[1-9][0-9]*")


class NotStrictError(AssertionError):
    """The bytes are no message that every recipient would read in the same way."""


@dataclass
class Message:
    """One message.

    Attributes:
        raw: its bytes as they came, framing included.
        line: the first line.
        headers: names as sent and values.
        body: the content.
        chunks: the content as it was chunked, None where it was not.
        trailers: what stood behind the content.
    """

    raw: bytes
    line: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    chunks: list[bytes] | None = None
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    whole: bool = field(default=True)

    @property
    def method(self) -> bytes:
        return self.line.split(b" ")[0]

    @property
    def target(self) -> bytes:
        return self.line.split(b" ")[1]

    @property
    def status(self) -> int:
        return int(self.line.split(b" ")[1])

    def all(self, name: str) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name.lower().encode()]

    def __getitem__(self, name: str) -> bytes:
        values = self.all(name)
        if len(values) != 1:
            raise AssertionError(f"{len(values)} headers {name} in {self.headers}")
        return values[0]

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))


def read_head(data: bytes, *, request: bool) -> Message | None:
    """The head at the start of `data`, None where it has no end yet."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    lines = data[:end].split(b"\r\n")
    first = (_REQUEST_LINE if request else _STATUS_LINE).fullmatch(lines[0])
    if first is None:
        raise NotStrictError(f"first line {lines[0]!r}")
    message = Message(data[: end + 4], lines[0], headers := _fields(lines[1:]))
    if request and len(message.all("host")) != 1:
        raise NotStrictError(f"not one Host in {headers}")
    if len(message.all("content-length")) + len(message.all("transfer-encoding")) > 1:
        raise NotStrictError(f"more than one framing header in {headers}")
    return message


def _fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    found = []
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise NotStrictError(f"header line {line!r}")
        found.append((match[1], match[2]))
    return found


def read_message(
    data: bytes, *, request: bool, method: str = "GET", eof: bool = False, trailers: bool = False
) -> Message | None:
    """The message at the start of `data`, None where it is not whole yet.

    Args:
        data: what was received.
        request: whether it is a request or an answer.
        method: of the request, for an answer.
        eof: whether the connection has ended behind `data`.
        trailers: whether there may be some; in a request where it says `TE: trailers`.
    """
    message = read_head(data, request=request)
    if message is None:
        return None
    rest = data[len(message.raw) :]
    if "transfer-encoding" in message:
        if message["transfer-encoding"] != b"chunked":
            raise NotStrictError(f"coding {message['transfer-encoding']!r}")
        if not request and bodiless(message.status, method):
            raise NotStrictError("a coding on an answer without content")
        if request and "te" in message:
            trailers = message["te"] == b"trailers" and message["connection"] == b"TE"
        return _read_chunks(message, rest, trailers=trailers)
    if not request and bodiless(message.status, method):
        return message
    if "content-length" in message:
        value = message["content-length"]
        if _NUMBER.fullmatch(value) is None:
            raise NotStrictError(f"length {value!r}")
        length = int(value)
        if len(rest) < length:
            return None
        message.body = rest[:length]
        message.raw += message.body
        return message
    if request:
        return message
    if not eof:
        return None
    message.body = rest
    message.raw += rest
    return message


def bodiless(status: int, method: str) -> bool:
    """Whether an answer has no content whatever its headers say."""
    return method == "HEAD" or status < 200 or status in {204, 304}


def _read_chunks(message: Message, rest: bytes, *, trailers: bool) -> Message | None:
    chunks: list[bytes] = []
    position = 0
    while True:
        end = rest.find(b"\r\n", position)
        if end < 0:
            return None
        match = _CHUNK_SIZE.fullmatch(rest[position:end])
        if match is None:
            raise NotStrictError(f"chunk line {rest[position:end]!r}")
        size = int(match[1], 16)
        data = rest[end + 2 : end + 2 + size]
        if len(rest) < end + 4 + size:
            return None
        if not size and trailers and rest[end + 2 : end + 4] != b"\r\n":
            last = rest.find(b"\r\n\r\n", end)
            if last < 0:
                return None
            message.trailers = _fields(rest[end + 2 : last].split(b"\r\n"))
            end = last
        if rest[end + 2 + size : end + 4 + size] != b"\r\n":
            raise NotStrictError("a chunk without its CRLF, or trailers")
        position = end + 4 + size
        if not size:
            message.raw += rest[:position]
            message.chunks = chunks
            message.body = b"".join(chunks)
            return message
        chunks.append(data)
