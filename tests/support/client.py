"""A client of bytes: it sends what it is told, in the pieces it is told, and reads answers strictly."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Self

from support.upstream_messages import Message, bodiless, read_head, read_message


class CutError(AssertionError):
    """The connection ended before the answer did.

    Attributes:
        received: what came of it.
        reset: the end was a reset.
    """

    def __init__(self, received: bytes, *, reset: bool) -> None:
        super().__init__(f"the answer is cut: {received[:200]!r}")
        self.received = received
        self.reset = reset


class Client:
    """One connection.

    Attributes:
        reset: it ended with a reset.
        rest: what came and was not taken.
        takes_trailers: whether an answer may have some.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._eof = False
        self.reset = False
        self.rest = b""
        self.takes_trailers = False

    @classmethod
    async def connect(cls, address: tuple[str, int] | str, *, receive_buffer: int = 0) -> Self:
        """Connect to a host and port or to a path."""
        if isinstance(address, str):
            return cls(*await asyncio.open_unix_connection(address))
        sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 16)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(reader, writer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    @property
    def address(self) -> str:
        """Its own `ip:port`."""
        host, port = self._writer.get_extra_info("sockname")[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def send(self, *pieces: bytes) -> None:
        """Send, giving the other side a chance to read each piece by itself."""
        for number, piece in enumerate(pieces):
            if number:
                for _ in range(3):
                    await asyncio.sleep(0)
            self._writer.write(piece)
            await self._writer.drain()

    async def _more(self) -> None:
        try:
            data = await self._reader.read(1 << 18)
        except ConnectionResetError:
            self.reset = True
            data = b""
        self._eof = not data
        self.rest += data

    async def message(self, method: str = "GET") -> Message:
        """The next message, interim or final; CutError where the connection ends within it."""
        while True:
            message = read_message(
                self.rest,
                request=False,
                method=method,
                eof=self._eof and not self.reset,
                trailers=self.takes_trailers,
            )
            if message is not None:
                self.rest = self.rest[len(message.raw) :]
                return message
            if self._eof:
                raise CutError(self.rest, reset=self.reset)
            await self._more()

    async def head(self) -> Message:
        """The head of the next message; its body stays to be read."""
        while True:
            message = read_head(self.rest, request=False)
            if message is not None:
                self.rest = self.rest[len(message.raw) :]
                return message
            if self._eof:
                raise CutError(self.rest, reset=self.reset)
            await self._more()

    async def response(self, method: str = "GET") -> Message:
        """The next final answer."""
        while True:
            message = await self.message(method)
            if message.status >= 200:
                assert message.status != 101
                return message

    async def request(self, data: bytes, method: str = "GET") -> Message:
        """Send a request and read its answer."""
        await self.send(data)
        return await self.response(method)

    async def closed(self) -> None:
        """Wait for the end of the connection; nothing may come before it."""
        while not self._eof:
            await self._more()
        assert self.rest == b"", self.rest

    async def take(self, size: int) -> bytes:
        """At least `size` bytes, and not kept."""
        while len(self.rest) < size and not self._eof:
            await self._more()
        taken, self.rest = self.rest, b""
        return taken

    async def discard(self, *, slices: int = 1 << 18) -> int:
        """Read until the end without keeping anything; the number of bytes."""
        count = len(self.rest)
        self.rest = b""
        with suppress(ConnectionResetError):
            while data := await self._reader.read(slices):
                count += len(data)
        self._eof = True
        return count

    def half_close(self) -> None:
        """Send FIN."""
        self._writer.write_eof()

    def close(self) -> None:
        """Close."""
        self._writer.close()

    def abort(self) -> None:
        """Reset the connection."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


def get(path: str = "/", *headers: str, method: str = "GET", host: str = "test.example") -> bytes:
    """A request without a body."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def post(body: bytes, *headers: str, path: str = "/", method: str = "POST") -> bytes:
    """A request with a body of known length."""
    return get(path, f"Content-Length: {len(body)}", *headers, method=method) + body


def post_chunked(*chunks: bytes, path: str = "/", headers: tuple[str, ...] = ()) -> bytes:
    """A request with a chunked body, its end included."""
    framed = b"".join(b"%x\r\n%b\r\n" % (len(data), data) for data in chunks)
    return get(path, "Transfer-Encoding: chunked", *headers, method="POST") + framed + b"0\r\n\r\n"


__all__ = ["Client", "CutError", "bodiless", "get", "post", "post_chunked"]
