"""HPACK, the compression of field sections (RFC 7541): one Encoder and one Decoder for each connection.

A decoder never lets a small block grow without bound: strings are bounded by the block, and once the list is above its limit
fields are no longer kept, only the table is, so that the connection can go on.
"""

from __future__ import annotations

from typing import Final

from prox.remembered import remembered

from . import huffman
from .errors import COMPRESSION_ERROR, Http2Error
from .statictable import ENTRIES, NAMES, PLACES, SIZE

Pairs = list[tuple[bytes, bytes]]

DEFAULT_TABLE: Final = 4096
_OVERHEAD: Final = 32
_FIRST_DYNAMIC: Final = SIZE + 1
_LONGEST_INTEGER: Final = 2**28

# Fields whose value hardly comes a second time; in the table they would only push out others.
_CHANGING: Final = frozenset(
    {
        b":path",
        b"age",
        b"content-length",
        b"content-range",
        b"etag",
        b"if-modified-since",
        b"if-none-match",
        b"last-modified",
        b"location",
        b"set-cookie",
    }
)
# Secrets that could be guessed by the size of what compresses them: no table, here or at any later hop (section 7.1.3).
_SECRET: Final = frozenset({b"authorization", b"proxy-authorization"})
_SHORT_SECRET: Final = 20

_PLAIN: Final = 0
_CHANGES: Final = 1
_IS_SECRET: Final = 2
_IS_COOKIE: Final = 3


class Decoder:
    """Reads the field blocks of a connection, in order.

    Args:
        limit: bytes of a list, counted with 32 more for each field.

    Attributes:
        too_large: the last list was above the limit; what `decode` returned of it is its beginning.
    """

    __slots__ = ("_entries", "_limit", "_max", "_size", "too_large")

    def __init__(self, limit: int) -> None:
        self.too_large = False
        self._limit = limit
        self._entries: Pairs = []  # the newest is the last
        self._size = 0
        self._max = DEFAULT_TABLE

    def decode(self, block: bytes) -> Pairs:
        """The fields of a whole block.

        Raises:
            Http2Error: COMPRESSION_ERROR; the tables differ from now on, the connection is lost.
        """
        fields: Pairs = []
        left = self._limit
        place = 0
        end = len(block)
        while place < end:
            first = block[place]
            place += 1
            if first & 0x80:  # indexed
                index = first & 0x7F
                if index == 0x7F:
                    index, place = _integer(block, place, 0x7F)
                pair = ENTRIES[index - 1] if 0 < index <= SIZE else self._entry(index)
            elif first & 0x60 == 0x20:  # the table's size
                if left != self._limit:
                    raise _wrong("table size update behind a field")
                size = first & 0x1F
                if size == 0x1F:
                    size, place = _integer(block, place, 0x1F)
                if size > DEFAULT_TABLE:
                    raise _wrong("table size above what was announced")
                self._max = size
                self._evict()
                continue
            else:
                mask = 0x3F if first & 0x40 else 0x0F
                index = first & mask
                if index == mask:
                    index, place = _integer(block, place, mask)
                if index == 0:
                    name, place = _string(block, place)
                elif index <= SIZE:
                    name = ENTRIES[index - 1][0]
                else:
                    name = self._entry(index)[0]
                value, place = _string(block, place)
                pair = (name, value)
                if first & 0x40:
                    self._entries.append(pair)
                    self._size += len(name) + len(value) + _OVERHEAD
                    if self._size > self._max:
                        self._evict()
            left -= len(pair[0]) + len(pair[1]) + _OVERHEAD
            if left >= 0:
                fields.append(pair)
        self.too_large = left < 0
        return fields

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        place = len(self._entries) + SIZE - index
        if index == 0 or place < 0:
            raise _wrong("index of no entry")
        return self._entries[place]

    def _evict(self) -> None:
        count = 0
        while self._size > self._max:
            name, value = self._entries[count]
            self._size -= len(name) + len(value) + _OVERHEAD
            count += 1
        if count:
            del self._entries[:count]


class Encoder:
    """Writes the field blocks of a connection, in order."""

    __slots__ = ("_entries", "_least", "_max", "_names", "_oldest", "_places", "_resized", "_size", "_wanted")

    def __init__(self) -> None:
        self._entries: Pairs = []  # the newest is the last
        self._oldest = 0  # the serial number of the first of them
        self._places: dict[tuple[bytes, bytes], int] = {}  # to serial numbers
        self._names: dict[bytes, int] = {}
        self._size = 0
        self._max = DEFAULT_TABLE
        self._resized = False
        self._least = DEFAULT_TABLE
        self._wanted = DEFAULT_TABLE

    def resize(self, size: int) -> None:
        """The peer offers a table of this size; of a larger one than the default no use is made."""
        size = min(size, DEFAULT_TABLE)
        if size != self._max or self._resized:
            self._least = min(self._least, size) if self._resized else size
            self._wanted = size
            self._resized = True

    def encode(self, fields: Pairs) -> bytes:
        """A whole block; names are lower case."""
        parts: list[bytes] = []
        if self._resized:
            self._say_size(parts)
        for pair in fields:
            index = PLACES.get(pair, 0)
            if index:
                parts.append(_INDEXED[index])
                continue
            serial = self._places.get(pair, -1)
            if serial >= 0:
                index = self._index(serial)
                parts.append(_INDEXED[index] if index < 127 else _number(index, 0x80, 0x7F))
                continue
            name, value = pair
            what = _kind(name)
            if what == _IS_COOKIE:
                what = _IS_SECRET if len(value) < _SHORT_SECRET else _PLAIN
            size = len(name) + len(value) + _OVERHEAD
            index = NAMES.get(name, 0)
            if not index:
                serial = self._names.get(name, -1)
                if serial >= 0:
                    index = self._index(serial)
            if what == _PLAIN and size <= self._max >> 1:
                parts.append(_number(index, 0x40, 0x3F))
                self._add(pair, size)
            elif what == _IS_SECRET:
                parts.append(_number(index, 0x10, 0x0F))
            else:
                parts.append(_number(index, 0x00, 0x0F))
            if not index:
                parts.append(_coded(name))
            parts.append(_code(value) if what == _IS_SECRET else _coded(value))
        return b"".join(parts)

    def _index(self, serial: int) -> int:
        return _FIRST_DYNAMIC + self._oldest + len(self._entries) - 1 - serial

    def _say_size(self, parts: list[bytes]) -> None:
        """The least of the sizes since the last block, then the one that holds (RFC 7541 section 4.2)."""
        self._resized = False
        if self._least < self._wanted:
            parts.append(_number(self._least, 0x20, 0x1F))
            self._max = self._least
            self._evict()
        parts.append(_number(self._wanted, 0x20, 0x1F))
        self._max = self._wanted
        self._evict()

    def _add(self, pair: tuple[bytes, bytes], size: int) -> None:
        serial = self._oldest + len(self._entries)
        self._entries.append(pair)
        self._places[pair] = serial
        self._names[pair[0]] = serial
        self._size += size
        if self._size > self._max:
            self._evict()

    def _evict(self) -> None:
        count = 0
        while self._size > self._max:
            pair = self._entries[count]
            name, value = pair
            serial = self._oldest + count
            if self._places.get(pair, -1) == serial:
                del self._places[pair]
            if self._names.get(name, -1) == serial:
                del self._names[name]
            self._size -= len(name) + len(value) + _OVERHEAD
            count += 1
        if count:
            del self._entries[:count]
            self._oldest += count


def _wrong(message: str) -> Http2Error:
    return Http2Error(COMPRESSION_ERROR, message, "compression")


def _integer(block: bytes, place: int, value: int) -> tuple[int, int]:
    """The rest of an integer whose prefix was all ones, and where it ends (RFC 7541 section 5.1)."""
    shift = 0
    end = len(block)
    while place < end:
        byte = block[place]
        place += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            if value > _LONGEST_INTEGER:
                break
            return value, place
        shift += 7
        if shift > 28:
            break
    raise _wrong("integer that is cut off or too large")


def _string(block: bytes, place: int) -> tuple[bytes, int]:
    """A string, and where it ends (RFC 7541 section 5.2)."""
    if place >= len(block):
        raise _wrong("field that is cut off")
    first = block[place]
    place += 1
    size = first & 0x7F
    if size == 0x7F:
        size, place = _integer(block, place, 0x7F)
    end = place + size
    if end > len(block):
        raise _wrong("string that is cut off")
    if first & 0x80:
        return huffman.decode(block[place:end]), end
    return block[place:end], end


def _number(value: int, pattern: int, mask: int) -> bytes:
    """An integer in a prefix of the bits of `mask`, below those of `pattern`."""
    if value < mask:
        return _BYTES[pattern | value]
    coded = [pattern | mask]
    value -= mask
    while value > 0x7F:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    coded.append(value)
    return bytes(coded)


_BYTES: Final = [bytes([value]) for value in range(256)]
_INDEXED: Final = [bytes([0x80 | index]) for index in range(127)]


@remembered(4096)
def _coded(text: bytes) -> bytes:
    return _code(text)


def _code(text: bytes) -> bytes:
    """A string with its length, in the shorter of both forms."""
    size = huffman.coded_size(text)
    if size < len(text):
        return _number(size, 0x80, 0x7F) + huffman.encode(text)
    return _number(len(text), 0x00, 0x7F) + text


@remembered(1024)
def _kind(name: bytes) -> int:
    if name in _CHANGING:
        return _CHANGES
    if name in _SECRET:
        return _IS_SECRET
    return _IS_COOKIE if name == b"cookie" else _PLAIN
