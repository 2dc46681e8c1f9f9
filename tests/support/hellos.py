"""TLS ClientHellos made by hand, well-formed or not."""

from __future__ import annotations

from collections.abc import Iterable

GREASE = (0x1A1A, b"")


def sized(data: bytes, size: int = 2) -> bytes:
    """`data` with its length before it."""
    return len(data).to_bytes(size, "big") + data


def server_names(*names: bytes, kind: int = 0) -> tuple[int, bytes]:
    """The server_name extension."""
    return 0, sized(b"".join(bytes([kind]) + sized(name) for name in names))


def alpn(*protocols: bytes) -> tuple[int, bytes]:
    """The extension of application protocols."""
    return 16, sized(b"".join(sized(protocol, 1) for protocol in protocols))


def body(
    extensions: Iterable[tuple[int, bytes]] | None,
    *,
    version: bytes = b"\x03\x03",
    session: bytes = bytes(32),
    suites: bytes = b"\x1a\x1a\x13\x01\x13\x02",
    compression: bytes = b"\0",
    behind: bytes = b"",
) -> bytes:
    """The body of a ClientHello; no extensions at all where they are None."""
    text = version + bytes(range(32)) + sized(session, 1) + sized(suites) + sized(compression, 1)
    if extensions is not None:
        text += sized(b"".join(kind.to_bytes(2, "big") + sized(value) for kind, value in extensions))
    return text + behind


def message(text: bytes) -> bytes:
    """The handshake message around a body."""
    return b"\x01" + sized(text, 3)


def records(data: bytes, most: int = 16384, version: bytes = b"\x03\x01") -> bytes:
    """Handshake records of at most so many bytes."""
    return b"".join(b"\x16" + version + sized(data[at : at + most]) for at in range(0, len(data), most))


def hello(name: str = "", *protocols: bytes, filler: int = 0, record: int = 16384) -> bytes:
    """A whole hello in records, `filler` bytes larger by an extension that nobody knows."""
    extensions = [GREASE]
    if filler:
        extensions.append((0xFE0D, bytes(filler)))
    if name:
        extensions.append(server_names(name.encode()))
    if protocols:
        extensions.append(alpn(*protocols))
    return records(message(body(extensions)), record)
