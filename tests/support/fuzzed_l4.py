"""Fuzzing targets below HTTP: what a connection says before its first protocol."""

from __future__ import annotations

import contextlib
import ssl
import sys
import tempfile
from functools import cache
from pathlib import Path

from prox.l4.hello import Hello, HelloReader, Incomplete, read_hello
from prox.l4.proxy_header import IncompleteHeader, ProxyHeader, ProxyHeaderError, read_proxy_header
from support.certificates import localhost
from support.hellos import hello, records

NO_HELLO = object()
"""OpenSSL refused, or waits for more."""


@cache
def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(*localhost().write(Path(folder)))
    return context


def name_for_openssl(data: bytes) -> object:
    """The server name that a server of OpenSSL's would act on, None where it reads a hello without one, or NO_HELLO."""
    seen: list[str | None] = []
    context = _context()
    context.sni_callback = lambda _socket, name, _context: seen.append(name)
    incoming = ssl.MemoryBIO()
    incoming.write(data)
    server = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None  # Python can't decode what is no ASCII
    try:
        server.do_handshake()
    except ssl.SSLError:
        pass
    finally:
        sys.unraisablehook = hook
    return seen[0] if seen else NO_HELLO


def client_hello(data: bytes) -> None:
    """A name that is read is the one that OpenSSL reads, and pieces do not matter."""
    found = read_hello(data)
    reader = HelloReader()
    for size in range(0, len(data), 7):
        early = reader.read(data[:size])
        if not isinstance(early, Incomplete):
            assert early == found
            break
        assert early.missing > 0
    else:
        assert reader.read(data) == found
    if isinstance(found, Hello) and found.server_name:
        name = name_for_openssl(data)
        assert name is NO_HELLO or (isinstance(name, str) and name.lower() == found.server_name)


def proxy_header(data: bytes) -> None:
    """A header is the same whatever follows it, and none of what it is made of says something else."""
    try:
        found = read_proxy_header(data)
    except ProxyHeaderError:
        return
    if isinstance(found, IncompleteHeader):
        assert found.missing > 0
        return
    assert read_proxy_header(data[: found.size]) == found
    for size in range(found.size):
        early = read_proxy_header(data[:size])
        assert isinstance(early, IncompleteHeader)
        assert size + early.missing <= found.size
    assert isinstance(found, ProxyHeader)


def hello_seeds() -> list[bytes]:
    """Hellos of our own, and one of OpenSSL's."""
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="a.example.com")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    real = outgoing.read()
    return [
        real,
        records(real[5:], 30),
        hello("a.example.com", b"h2"),
        hello("a.example.com", record=9),
        hello(""),
    ]


def header_seeds() -> list[bytes]:
    """Headers of both versions."""
    signature = b"\r\n\r\n\0\r\nQUIT\n"
    return [
        b"PROXY TCP4 192.0.2.7 198.51.100.9 5000 443\r\n",
        b"PROXY TCP6 2001:db8::7 ::ffff:1.2.3.4 5000 443\r\n",
        b"PROXY UNKNOWN x\r\n",
        signature + b"\x21\x11\0\x13" + bytes(12) + b"\x04\0\x04abcd",
        signature + b"\x21\x11\0\x13" + bytes(12) + b"\x03\0\x04abcd",
        signature + b"\x21\x21\0\x24" + bytes(36),
        signature + b"\x21\x31\0\xd8" + b"/a".ljust(108, b"\0") * 2,
        signature + b"\x20\0\0\0GET",
    ]
