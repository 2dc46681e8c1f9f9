"""Reads the server name of a TLS ClientHello (RFC 8446 sections 4.1.2 and 5.1, RFC 6066 section 3, RFC 7301).

The hello may be spread over any number of reads and of TLS records; who calls has all bytes from the connection's first on.
Whether a connection is passed on unopened hangs on this name, so a hello that could be read in two ways (an extension twice,
lengths that do not add up) names nobody: it is `Broken`, and left to a TLS implementation to refuse.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MOST_HELLO: Final = 64 * 1024
"""Bytes of the longest hello that is read; with post-quantum key shares a few thousand are usual."""

_MOST_WIRE: Final = MOST_HELLO + 1024
"""Bytes of the longest hello with the headers of its records: a byte each is for no hello of a usual length too many."""

_RECORD_HEADER: Final = 5
_MOST_RECORD: Final = 16 * 1024
"""Bytes of the longest plaintext record (RFC 8446 section 5.1)."""

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_HOST_NAME: Final = 0

_NAME: Final = re.compile(
    rb"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*",
    re.IGNORECASE,
)
_IPV4: Final = re.compile(rb"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)")


class Hello(NamedTuple):
    """What a ClientHello says.

    Attributes:
        server_name: the host asked for, in lower case; empty where there is none or it is no name of a host (an IP literal,
            illegal characters, a dot at the end). With Encrypted Client Hello it is the outer name.
        protocols: what ALPN offers, in the client's order.
    """

    server_name: str
    protocols: tuple[bytes, ...]


class Incomplete(NamedTuple):
    """The hello has not ended.

    Attributes:
        missing: bytes that are still to come, at least, whatever records they come in.
    """

    missing: int


class NoTls(NamedTuple):
    """The first bytes are no TLS handshake."""


class Broken(NamedTuple):
    """TLS, but no hello that can be read in one way only.

    Attributes:
        why: for the log.
    """

    why: str


class HelloReader:
    """Reads one hello. What was read before is not read again, whatever pieces it comes in."""

    __slots__ = ("_at", "_message", "_wanted")

    def __init__(self) -> None:
        self._at = 0  # where the record begins that has not ended
        self._message = bytearray()  # the message in the records before it
        self._wanted = 0  # its size; 0 while that is not known

    def read(self, data: bytes) -> Hello | Incomplete | NoTls | Broken:
        """Read on; never raises.

        Args:
            data: all that has come so far, from the connection's first byte on.
        """
        if data[:1] not in {b"", b"\x16"} or data[1:2] not in {b"", b"\x03"}:
            return NoTls()
        try:
            return self._read(data)
        except _BrokenError as error:
            return Broken(str(error))

    def _read(self, data: bytes) -> Hello | Incomplete | NoTls:
        message = self._message
        while True:
            body = self._at + _RECORD_HEADER
            header = data[self._at : body]
            if header and header[0] != _HANDSHAKE:
                raise _BrokenError("a record of another type within the hello")
            if len(header) > 1 and header[1] != 3:
                raise _BrokenError("a record of an unknown version within the hello")
            if len(header) < _RECORD_HEADER:
                return self._missing(len(message), _RECORD_HEADER - len(header))
            length = int.from_bytes(header[3:], "big")
            if not 0 < length <= _MOST_RECORD:
                if not self._at:
                    return NoTls()
                raise _BrokenError(f"a record of {length} bytes")
            end = body + length
            if end > _MOST_WIRE and len(data) > _MOST_WIRE:
                raise _BrokenError("a ClientHello in too many records")
            message += data[body:end]
            if not self._wanted and len(message) >= 4:
                self._wanted = _size(message)
            if self._wanted and len(message) >= self._wanted:
                return _parse(bytes(message[4 : self._wanted]))
            rest = end - len(data)
            if rest > 0:
                have = len(message)
                del message[have - (length - rest) :]  # it is read again when the record is whole
                return self._missing(have, 0, rest)
            self._at = end

    def _missing(self, have: int, header: int, rest: int = 0) -> Incomplete:
        """What must still come: the message, and the headers of as few records as it can be in.

        Args:
            have: bytes of the message that are here.
            header: bytes of a record's header that are missing, 0 where it is here.
            rest: bytes of that record that are missing.
        """
        wanted = (self._wanted or 4) - have
        if header or wanted <= rest:
            return Incomplete(header + _at_least(wanted))
        return Incomplete(rest + _RECORD_HEADER + _at_least(wanted - rest))


def read_hello(data: bytes) -> Hello | Incomplete | NoTls | Broken:
    """Read what has come so far, all at once."""
    return HelloReader().read(data)


class _BrokenError(Exception):
    pass


def _size(message: bytearray) -> int:
    if message[0] != _CLIENT_HELLO:
        raise _BrokenError("the first message is no ClientHello")
    size = 4 + int.from_bytes(message[1:4], "big")
    if size > MOST_HELLO:
        raise _BrokenError(f"a ClientHello of {size} bytes")
    return size


def _at_least(size: int) -> int:
    """The fewest bytes that `size` bytes of a message take, when a record's header has been counted."""
    return size + (size - 1) // _MOST_RECORD * _RECORD_HEADER


class _Reader:
    """Takes fields with a length before them; what does not fit is broken."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._end = len(data)

    def more(self) -> bool:
        return self._at < self._end

    def take(self, size: int) -> bytes:
        before = self._at
        self._at += size
        if self._at > self._end:
            raise _BrokenError("a field is longer than what it is in")
        return self._data[before : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))


def _parse(body: bytes) -> Hello:
    hello = _Reader(body)
    if hello.number(1) != 3:
        raise _BrokenError("an unknown version")
    hello.take(1 + 32)  # the rest of the version, random
    if len(hello.vector(1)) > 32:
        raise _BrokenError("a session identifier that is too long")
    suites = hello.vector(2)
    if not suites or len(suites) % 2:
        raise _BrokenError("cipher suites of an odd length")
    if not hello.vector(1):
        raise _BrokenError("no compression method")
    name = b""
    protocols: tuple[bytes, ...] = ()
    if hello.more():
        name, protocols = _extensions(_Reader(hello.vector(2)))
        if hello.more():
            raise _BrokenError("bytes behind the extensions")
    return Hello(_host(name), protocols)


def _extensions(extensions: _Reader) -> tuple[bytes, tuple[bytes, ...]]:
    seen: set[int] = set()
    name: bytes = b""
    protocols: tuple[bytes, ...] = ()
    while extensions.more():
        kind = extensions.number(2)
        value = extensions.vector(2)
        if kind in seen:
            raise _BrokenError(f"extension {kind} twice")
        seen.add(kind)
        if kind == _SERVER_NAME:
            name = _server_name(value)
        elif kind == _ALPN:
            protocols = _protocols(value)
    return name, protocols


def _server_name(value: bytes) -> bytes:
    outer = _Reader(value)
    names = _Reader(outer.vector(2))
    if outer.more() or not names.more():
        raise _BrokenError("a list of server names that does not fill its extension")
    found = None
    while names.more():
        kind = names.number(1)
        name = names.vector(2)
        if kind != _HOST_NAME:
            raise _BrokenError("a server name of an unknown type")
        if found is not None:
            raise _BrokenError("two server names")
        if not name or b"\0" in name:
            raise _BrokenError("an empty server name, or one with NUL")
        found = name
    return found or b""


def _protocols(value: bytes) -> tuple[bytes, ...]:
    outer = _Reader(value)
    names = _Reader(outer.vector(2))
    found = []
    while names.more():
        found.append(names.vector(1))
    if outer.more() or not all(found) or not found:
        raise _BrokenError("a list of protocols that does not fill its extension")
    return tuple(found)


def _host(name: bytes) -> str:
    """The name as routes compare it."""
    if _NAME.fullmatch(name) is None or _IPV4.fullmatch(name):
        return ""
    return name.decode("ascii").lower()
