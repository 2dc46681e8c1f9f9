"""The PROXY protocol, versions 1 and 2: the header by which a proxy names the client that it relays.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt. Strict, as the header comes from a peer that is trusted to speak
it: what is not exactly a header is refused. Type-length-values are skipped after a look at their lengths; a checksum among
them must be right.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple, TypeAlias

Endpoint: TypeAlias = tuple[str, int] | str
"""IP address and port, or the path of a Unix socket. IPv4 is never in IPv6 form."""

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED: Final = 16
_MOST_V1: Final = 107
_LEAST_V1: Final = len(b"PROXY UNKNOWN\r\n")

_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_UNSPECIFIED: Final = 0
_INET: Final = 1
_INET6: Final = 2
_UNIX: Final = 3
_STREAM: Final = 1

_SIZES: Final = {_INET: 12, _INET6: 36, _UNIX: 216}
_UNIX_PATH: Final = 108
_CRC32C: Final = 3


class ProxyHeaderError(ValueError):
    """The bytes are no header of the PROXY protocol."""


class ProxyHeader(NamedTuple):
    """A header.

    Attributes:
        size: bytes that it takes; what follows is the connection's own.
        source: the client; None where the header names nobody (LOCAL, UNKNOWN), and the peer speaks for itself.
        destination: what the client connected to; None like `source`.
    """

    size: int
    source: Endpoint | None = None
    destination: Endpoint | None = None


class IncompleteHeader(NamedTuple):
    """The header has not ended.

    Attributes:
        missing: bytes that are still to come, at least.
    """

    missing: int


def read_proxy_header(data: bytes) -> ProxyHeader | IncompleteHeader:
    """Read a header from all bytes that have come so far; what follows it is not looked at.

    Raises:
        ProxyHeaderError: it is none.
    """
    if data.startswith(_SIGNATURE):
        return _read_v2(data)
    if _SIGNATURE.startswith(data):  # with nothing yet, version 1 may follow, which is shorter
        return IncompleteHeader(_FIXED - len(data) if data else _LEAST_V1)
    if data.startswith(b"PROXY "):
        return _read_v1(data)
    if b"PROXY ".startswith(data):
        return IncompleteHeader(_LEAST_V1 - len(data))
    raise ProxyHeaderError("the connection does not begin with it")


# Version 1: a line of text.


def _read_v1(data: bytes) -> ProxyHeader | IncompleteHeader:
    line, found, _ = data[:_MOST_V1].partition(b"\r\n")
    if not found:
        if len(data) >= _MOST_V1:
            raise ProxyHeaderError("a line that is too long")
        return IncompleteHeader(max(_LEAST_V1 - len(data), 1 if line.endswith(b"\r") else 2))
    size = len(line) + 2
    words = line.decode("latin-1").split(" ")
    if words[1] == "UNKNOWN":
        return ProxyHeader(size)
    if words[1] not in {"TCP4", "TCP6"} or len(words) != 6:
        raise ProxyHeaderError("a line that is no PROXY line")
    _, family, source, destination, source_port, destination_port = words
    return ProxyHeader(
        size,
        (_text_address(source, family), _port(source_port)),
        (_text_address(destination, family), _port(destination_port)),
    )


def _text_address(text: str, family: str) -> str:
    try:
        # A zone is no part of an address on the wire.
        return (
            str(IPv4Address(text))
            if family == "TCP4"
            else _shown(IPv6Address(text.replace("%", "malformed")))
        )
    except ValueError:
        raise ProxyHeaderError("a line with a malformed address") from None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5) or (text[0] == "0" and text != "0"):
        raise ProxyHeaderError("a line with a malformed port")
    port = int(text)
    if port > 65535:
        raise ProxyHeaderError("a line with a malformed port")
    return port


def _shown(address: IPv6Address) -> str:
    mapped = address.ipv4_mapped
    return str(address if mapped is None else mapped)


# Version 2: binary.


def _read_v2(data: bytes) -> ProxyHeader | IncompleteHeader:
    if len(data) > 12 and data[12] not in {_LOCAL, _PROXY}:
        raise ProxyHeaderError(f"an unknown version or command (0x{data[12]:02x})")
    if len(data) < _FIXED:
        return IncompleteHeader(_FIXED - len(data))
    size = _FIXED + int.from_bytes(data[14:16], "big")
    if len(data) < size:
        return IncompleteHeader(size - len(data))
    family, transport = divmod(data[13], 16)
    if family > _UNIX or transport > 2:
        raise ProxyHeaderError(f"an unknown address family (0x{data[13]:02x})")
    if data[12] == _LOCAL or family == _UNSPECIFIED or transport == 0:
        return ProxyHeader(size)  # whatever follows is to be ignored
    begin = _FIXED + _SIZES[family]
    if begin > size:
        raise ProxyHeaderError("addresses that are longer than the header")
    _check_values(data[:size], begin)
    addresses = data[_FIXED:begin]
    if family == _UNIX:
        return ProxyHeader(size, _path(addresses[:_UNIX_PATH]), _path(addresses[_UNIX_PATH:]))
    length = 4 if family == _INET else 16
    ports = addresses[2 * length :]
    return ProxyHeader(
        size,
        (_binary_address(addresses[:length]), int.from_bytes(ports[:2], "big")),
        (_binary_address(addresses[length : 2 * length]), int.from_bytes(ports[2:], "big")),
    )


def _binary_address(data: bytes) -> str:
    return str(IPv4Address(data)) if len(data) == 4 else _shown(IPv6Address(data))


def _path(field: bytes) -> str:
    """A path; an abstract name begins with NUL."""
    name = field.rstrip(b"\0") if field[:1] == b"\0" else field.partition(b"\0")[0]
    return name.decode("utf-8", "surrogateescape")


def _check_values(header: bytes, at: int) -> None:
    """Whether the type-length-values fill the rest of the header, and the checksum among them is right."""
    checked = False
    while at < len(header):
        begin = at + 3
        end = begin + int.from_bytes(header[at + 1 : begin], "big")
        if begin > len(header) or end > len(header):
            raise ProxyHeaderError("a value that is longer than the header")
        if header[at] == _CRC32C:
            if end - begin != 4 or checked:
                raise ProxyHeaderError("a malformed checksum")
            checked = True
            if crc32c(header[:begin] + bytes(4) + header[end:]) != int.from_bytes(header[begin:end], "big"):
                raise ProxyHeaderError("a wrong checksum")
        at = end


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        remainder = value
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
        table.append(remainder)
    return tuple(table)


_CRC_TABLE: Final = _table()


def crc32c(data: bytes) -> int:
    """The CRC32c checksum (RFC 9260 appendix A)."""
    table = _CRC_TABLE
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


# Writing.


def write_proxy_header(version: int, source: Endpoint | None, destination: Endpoint | None) -> bytes:
    """The header that names a client.

    Addresses of two families go as IPv6. A client on a Unix socket is UNKNOWN in version 1, which has no word for it; where
    nothing is known of it the header names nobody.

    Args:
        version: 1 or 2.
        source: the client.
        destination: what it connected to.
    """
    if isinstance(source, tuple) and isinstance(destination, tuple):
        one, other = _address(source[0]), _address(destination[0])
        if type(one) is not type(other):
            one, other = _as_v6(one), _as_v6(other)
        ports = source[1], destination[1]
        if version == 1:
            family = "TCP4" if one.version == 4 else "TCP6"
            return f"PROXY {family} {_written(one)} {_written(other)} {ports[0]} {ports[1]}\r\n".encode()
        packed = one.packed + other.packed + b"".join(port.to_bytes(2, "big") for port in ports)
        return _v2(_INET if one.version == 4 else _INET6, packed)
    if version == 1:
        return b"PROXY UNKNOWN\r\n"
    if isinstance(source, str) and isinstance(destination, str):
        return _v2(_UNIX, _path_field(source) + _path_field(destination))
    return _SIGNATURE + bytes((_PROXY, _UNSPECIFIED, 0, 0))


def _v2(family: int, addresses: bytes) -> bytes:
    return _SIGNATURE + bytes((_PROXY, family << 4 | _STREAM)) + len(addresses).to_bytes(2, "big") + addresses


def _address(text: str) -> IPv4Address | IPv6Address:
    text = text.partition("%")[0]
    return IPv6Address(text) if ":" in text else IPv4Address(text)


def _as_v6(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return IPv6Address(0xFFFF << 32 | int(address)) if address.version == 4 else address


def _written(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(address) if mapped is None else f"::ffff:{mapped}"


def _path_field(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")[:_UNIX_PATH].ljust(_UNIX_PATH, b"\0")
