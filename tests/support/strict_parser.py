"""HTTP/1.1 as RFC 9110 and 9112 write it, read a second time, by rules that prox had no part in.

`Reading.of_requests` says which requests a client has sent and where its stream stops being HTTP. A request is *plain* where
every proxy must forward it, *unusual* where one may answer it by itself (an unknown method, an odd Host). `canonical` is the
narrower language that prox itself must speak: what it accepts is read alike by everybody, which leaves no room.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

Fields = list[tuple[bytes, bytes]]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21\x22\x24-\x7e]+) HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):([\t\x20-\x7e\x80-\xff]*)")
_TAB_IN_FRAMING = re.compile(rb"(?i:content-length|transfer-encoding):.*\t.*")
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)((?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*)")
_NUMBER = re.compile(rb"[0-9]+")
_HOST_BYTES = re.compile(rb"[0-9A-Za-z._~!$&'()*+,;=%:\[\]-]*")
_HOST = re.compile(rb"[0-9A-Za-z.-]+(?::[0-9]{1,5})?")
_PATH = re.compile(rb"/[0-9A-Za-z/_-]*(?:\?[0-9A-Za-z&=/_-]*)?")
_URL = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?]*)[\x21-\x7e]*")
_COMMON = {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"}
_RARE_FIELDS = {b"expect", b"max-forwards", b"te", b"trailer", b"upgrade"}
_FRAMING = {b"content-length", b"transfer-encoding"}
_MOST_FIELDS = 100
_MOST_HEAD = 60_000
_LONGEST_CHUNK_LINE = 4096
_LONGEST_TARGET = 16_000
_MOST_TRAILERS = 16_000


class FaultError(Exception):
    """The bytes are not HTTP/1.1 that everybody reads alike, and no more bytes will help."""


class _MoreError(Exception):
    """The bytes are the beginning of something."""


@dataclass
class Message:
    """A request or an answer, or its beginning.

    Attributes:
        first: the parts of its first line: method, target, minor version; or minor version, status, reason.
        fields: names as sent, values without blanks around.
        body: the content, as far as it has come.
        trailers: fields behind the content.
        whole: nothing is missing.
        broken: what is wrong with its content, so that it will never be whole.
        until_close: only the end of the connection ends it.
        size: bytes that it takes of the stream.
        unusual: why a proxy may answer it, or 502, instead of passing it on; empty where it may not.
    """

    first: tuple[bytes, bytes, bytes]
    fields: Fields
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    whole: bool = False
    broken: str = ""
    until_close: bool = False
    size: int = 0
    unusual: str = ""

    @property
    def method(self) -> bytes:
        return self.first[0]

    @property
    def target(self) -> bytes:
        return self.first[1]

    @property
    def status(self) -> int:
        return int(self.first[1])

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name]

    @property
    def options(self) -> set[bytes]:
        """The members of Connection."""
        return {
            member.strip(b" \t").lower() for value in self.all(b"connection") for member in value.split(b",")
        } - {b""}

    @property
    def is_last_of_client(self) -> bool:
        """Whether the client takes its answer for the last of the connection."""
        return b"close" in self.options or (self.first[2] == b"0" and b"keep-alive" not in self.options)


@dataclass
class Reading:
    """What a stream means.

    Attributes:
        messages: the whole ones.
        fault: why what stands behind them is none; empty where nothing is wrong yet.
        begun: the head behind them was good, and its body is broken or on its way.
        rest: bytes behind the whole messages.
    """

    messages: list[Message] = field(default_factory=list)
    fault: str = ""
    begun: Message | None = None
    rest: bytes = b""

    @classmethod
    def of_requests(cls, data: bytes, *, canonical: bool = False) -> Reading:
        """Read a stream of requests."""
        reading = cls()
        while data:
            try:
                message = Reader(data, canonical=canonical).request()
            except FaultError as error:
                reading.fault = str(error)
                break
            if message is None or not message.whole:
                reading.begun = message
                reading.fault = message.broken if message is not None else ""
                break
            reading.messages.append(message)
            data = data[message.size :]
        reading.rest = data
        return reading


@dataclass
class Answer:
    """What an upstream said to one request.

    Attributes:
        interim: the status of each 1xx before the answer.
        message: the answer, perhaps without all of its content; None where there is none.
        fault: why there never will be one; empty where nothing is wrong yet.
        surplus: bytes behind it.
    """

    interim: list[int] = field(default_factory=list)
    message: Message | None = None
    fault: str = ""
    surplus: bytes = b""

    @classmethod
    def of(cls, data: bytes, method: bytes, *, canonical: bool = False) -> Answer:
        """Read the answer at the start of a stream."""
        answer = cls()
        while True:
            try:
                message = Reader(data, canonical=canonical).response(method)
            except FaultError as error:
                answer.fault = str(error)
                return answer
            if message is None:
                return answer
            data = data[message.size :]
            if message.status >= 200 or message.unusual:
                answer.message = message
                answer.surplus = data if message.whole else b""
                return answer
            answer.interim.append(message.status)


class Reader:
    """Reads the message at the start of `data`."""

    def __init__(self, data: bytes, *, canonical: bool = False) -> None:
        self._data = data
        self._at = 0
        self._canonical = canonical

    def request(self) -> Message | None:
        """The request, perhaps without all of its content; None where its head has no end yet.

        Raises:
            FaultError: it must be refused.
        """
        if not self._canonical:
            while self._data.startswith(b"\r\n", self._at):
                self._at += 2
        try:
            lines = self._head()
        except _MoreError:
            return None
        match = _REQUEST_LINE.fullmatch(lines[0])
        if match is None:
            raise FaultError(f"request line {lines[0]!r}")
        message = Message((match[1], match[2], match[3]), self._fields(lines[1:]))
        if self._canonical and message.first[2] != b"1":
            raise FaultError("a version other than 1.1")
        self._check_target(message)
        self._check_host(message)
        length = self._length(message, minor=match[3])
        if any(_TAB_IN_FRAMING.fullmatch(line) for line in lines):
            message.unusual = "a tab beside a framing value, which is legal and no peer sends"
        self._look(message, length, sum(map(len, lines)))
        try:
            if length == -1:
                self._chunks(message)
            elif length:
                self._take(message, length)
            message.whole = True
        except _MoreError:
            pass
        except FaultError as error:
            if self._canonical:
                raise
            message.broken = str(error)
        message.size = self._at
        return message

    def response(self, method: bytes) -> Message | None:
        """The answer to `method`, interim or final, perhaps without all of its content; None where its head has no end yet.

        Raises:
            FaultError: it must not be passed on.
        """
        try:
            lines = self._head()
        except _MoreError:
            return None
        match = _STATUS_LINE.fullmatch(lines[0])
        if match is None:
            raise FaultError(f"status line {lines[0]!r}")
        message = Message((match[1], match[2], match[3] or b""), self._fields(lines[1:]))
        length = self._length(message, minor=match[1])
        if any(_TAB_IN_FRAMING.fullmatch(line) for line in lines):
            message.unusual = "a tab beside a framing value, which is legal and no peer sends"
        if self._canonical and (match[1] != b"1" or match[3] is None):
            raise FaultError(f"status line {lines[0]!r}")
        bodiless = method == b"HEAD" or message.status < 200 or message.status in {204, 304}
        if self._canonical and bodiless and message.all(b"transfer-encoding"):
            raise FaultError("a coding on an answer without content")
        if message.status == 101:
            message.unusual = "an unasked 101"
        if len(message.fields) > _MOST_FIELDS or sum(map(len, lines)) > _MOST_HEAD:
            message.unusual = "a large head"
        try:
            if bodiless:
                pass
            elif length == -1:
                self._chunks(message)
            elif length is None:
                message.until_close = True
                message.body, self._at = self._data[self._at :], len(self._data)
            else:
                self._take(message, length)
            message.whole = not message.until_close
        except _MoreError:
            pass
        except FaultError as error:
            if self._canonical:
                raise
            message.broken = str(error)
        message.size = self._at
        return message

    def _head(self) -> list[bytes]:
        end = self._data.find(b"\r\n\r\n", self._at)
        if end < 0:
            raise _MoreError
        head = self._data[self._at : end]
        self._at = end + 4
        return head.split(b"\r\n")

    @staticmethod
    def _fields(lines: list[bytes]) -> Fields:
        fields = []
        for line in lines:
            match = _FIELD.fullmatch(line)
            if match is None:
                raise FaultError(f"field line {line!r}")
            name = match[1].lower()
            if b"_" in name and name.replace(b"_", b"-") in _FRAMING:
                raise FaultError(f"a framing field spelled {name!r}")
            fields.append((match[1], match[2].strip(b" \t")))
        return fields

    def _check_target(self, message: Message) -> None:
        method, target, _ = message.first
        if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
            return
        if method == b"CONNECT":
            return
        match = _URL.fullmatch(target)
        if match is None or self._canonical:
            raise FaultError(f"target {target!r}")
        hosts = message.all(b"host")
        if hosts and hosts[0].lower() != match[1].lower():
            raise FaultError("Host differs from the URL")

    def _check_host(self, message: Message) -> None:
        hosts = message.all(b"host")
        if len(hosts) > 1 or (message.first[2] == b"1" and not hosts):
            raise FaultError(f"{len(hosts)} Host")
        if hosts and _HOST_BYTES.fullmatch(hosts[0]) is None:
            raise FaultError(f"Host {hosts[0]!r}")

    def _length(self, message: Message, *, minor: bytes) -> int | None:
        """Bytes of the body, -1 for chunks, None where nothing says it."""
        lengths = message.all(b"content-length")
        codings = message.all(b"transfer-encoding")
        if len(lengths) + len(codings) > 1:
            raise FaultError("more than one framing field")
        if codings:
            if codings[0].lower() != b"chunked" or (self._canonical and codings[0] != b"chunked"):
                raise FaultError(f"coding {codings[0]!r}")
            if minor == b"0":
                raise FaultError("a coding on HTTP/1.0")
            return -1
        if not lengths:
            return None
        if _NUMBER.fullmatch(lengths[0]) is None:
            raise FaultError(f"length {lengths[0]!r}")
        if len(lengths[0]) > 1 and lengths[0].startswith(b"0"):
            if self._canonical:
                raise FaultError(f"length {lengths[0]!r}")
            message.unusual = "zeros before a length"
        if len(lengths[0]) > 15:
            message.unusual = "an enormous length"
        return int(lengths[0][:30])

    @staticmethod
    def _look(message: Message, length: int | None, size: int) -> None:
        """Say why a proxy may answer the request instead of forwarding it."""
        names = {name.lower() for name, _ in message.fields}
        method, target, _ = message.first
        hosts = message.all(b"host")
        reasons = {
            "method": method not in _COMMON,
            "target": _PATH.fullmatch(target) is None or len(target) > _LONGEST_TARGET,
            "host": not hosts or _HOST.fullmatch(hosts[0]) is None,
            "field": not names.isdisjoint(_RARE_FIELDS),
            "size": len(message.fields) > _MOST_FIELDS or size > _MOST_HEAD,
            "content": bool(length) and method in {b"GET", b"HEAD", b"OPTIONS"},
        }
        message.unusual = message.unusual or ", ".join(name for name, holds in reasons.items() if holds)

    def _take(self, message: Message, length: int) -> None:
        message.body = self._data[self._at : self._at + length]
        self._at += len(message.body)
        if len(message.body) < length:
            raise _MoreError

    def _chunks(self, message: Message) -> None:
        while True:
            line = self._line(_LONGEST_CHUNK_LINE)
            match = _CHUNK.fullmatch(line)
            if match is None or len(match[1]) > 15:
                raise FaultError(f"chunk line {line!r}")
            size = int(match[1], 16)
            if self._canonical and line != b"%x" % size:
                raise FaultError(f"chunk line {line!r}")
            if not size:
                break
            data = self._data[self._at : self._at + size]
            message.body += data
            self._at += len(data)
            end = self._data[self._at : self._at + 2]
            if len(data) < size or (len(end) < 2 and b"\r\n".startswith(end)):
                raise _MoreError
            if end != b"\r\n":
                raise FaultError("a chunk without its CRLF")
            self._at += 2
        for line in self._trailer_lines():
            match = _FIELD.fullmatch(line)
            if match is None:
                raise FaultError(f"trailer line {line!r}")
            message.trailers.append((match[1], match[2].strip(b" \t")))

    def _trailer_lines(self) -> Iterator[bytes]:
        room = _MOST_TRAILERS
        while line := self._line(room):
            room -= len(line) + 2
            yield line

    def _line(self, longest: int) -> bytes:
        """The line that begins here; a bare CR or LF in it is a fault of whoever reads it."""
        end = self._data.find(b"\r\n", self._at)
        if end < 0:
            if b"\n" in self._data[self._at :] or len(self._data) - self._at > longest:
                raise FaultError("a line that is too long, or a bare LF")
            raise _MoreError
        line = self._data[self._at : end]
        if len(line) > longest:
            raise FaultError("a line that is too long")
        self._at = end + 2
        return line
