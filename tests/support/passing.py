"""Peers for connections that are passed on unopened: raw upstreams, TLS upstreams, clients of both."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar, Self

from support.certificates import authority

RESET = struct.pack("ii", 1, 0)
LIMIT = 10


class Stream:
    """A raw socket with what a test wants of it.

    Attributes:
        opened: all of them; `close_all` closes them.
    """

    opened: ClassVar[list[Stream]] = []

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.opened.append(self)
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, address: tuple[str, int] | str) -> Stream:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        sock = socket.socket(family)
        stream = cls(sock)
        await asyncio.get_running_loop().sock_connect(sock, address)
        return stream

    async def send(self, data: bytes) -> None:
        await asyncio.wait_for(self._loop.sock_sendall(self.sock, data), LIMIT)

    async def receive(self, size: int) -> bytes:
        """So many bytes, or less where the peer ends before."""
        data = b""
        while len(data) < size:
            more = await asyncio.wait_for(self._loop.sock_recv(self.sock, size - len(data)), LIMIT)
            if not more:
                break
            data += more
        return data

    async def is_closed(self) -> bool:
        """Wait for the end; whether nothing came before."""
        try:
            return await self.receive(1) == b""
        except ConnectionError:
            return True

    def end(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    @classmethod
    def close_all(cls) -> None:
        while cls.opened:
            cls.opened.pop().close()


class RawUpstream:
    """Accepts connections that tests speak for."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.port = self.sock.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.accepted: list[Stream] = []

    async def accept(self) -> Stream:
        sock, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(self.sock), LIMIT)
        stream = Stream(sock)
        self.accepted.append(stream)
        return stream

    async def is_left_alone(self) -> bool:
        """Whether nobody has connected."""
        try:
            sock, _ = self.sock.accept()
        except BlockingIOError:
            return True
        sock.close()
        return False

    def close(self) -> None:
        self.sock.close()
        for stream in self.accepted:
            stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


@asynccontextmanager
async def tls_upstream(folder: Path, name: str) -> AsyncIterator[str]:
    """A TLS server that says its name and echoes lines; its address."""
    certificate, key = authority().issue(name).write(folder, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{name}\n".encode())
        try:
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
        await server.wait_closed()


async def tls_connect(
    address: tuple[str, int], name: str, *, alpn: list[str] | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A TLS client that checks the certificate for the name."""
    context = authority().client_context(alpn=alpn or ())
    return await asyncio.wait_for(asyncio.open_connection(*address, ssl=context, server_hostname=name), LIMIT)


async def answers(address: tuple[str, int], name: str) -> bytes:
    """Which upstream a client that asks for a name meets, after a line there and back."""
    reader, writer = await tls_connect(address, name)
    first = await asyncio.wait_for(reader.readline(), LIMIT)
    writer.write(b"there and back\n")
    assert await asyncio.wait_for(reader.readline(), LIMIT) == b"there and back\n"
    writer.close()
    return first.strip()
