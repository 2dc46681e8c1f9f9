"""An upstream that does what a test says, and remembers every byte that it was sent."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeAlias

from support.upstream_messages import Message, read_head, read_message

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answer(
    body: bytes = b"ok", *headers: bytes, status: bytes = b"200 OK", length: int | None = None
) -> bytes:
    """A whole answer with a Content-Length, of the body or of what `length` says."""
    lines = [
        b"HTTP/1.1 " + status,
        b"Content-Length: %d" % (len(body) if length is None else length),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class UpstreamPeer:
    """One connection of prox's, seen from the upstream.

    Attributes:
        received: every byte that came.
        requests: the whole messages that were taken with `request`.
        eof: prox closed its side.
        reset: the connection ended with a reset.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._rest = b""
        self.received = b""
        self.requests: list[Message] = []
        self.eof = False
        self.reset = False

    async def more(self) -> bool:
        """Wait for more bytes; False at the end of the connection."""
        try:
            data = await self._reader.read(65536)
        except ConnectionResetError:
            self.reset = True
            data = b""
        if not data:
            self.eof = True
            return False
        self.received += data
        self._rest += data
        return True

    async def head(self) -> Message | None:
        """The head of the next request, which stays to be taken; None at the end of the connection."""
        while True:
            message = read_head(self._rest, request=True)
            if message is not None:
                return message
            if not await self.more():
                return None

    async def request(self) -> Message | None:
        """The next request, strictly parsed; None where the connection ends before there is a whole one."""
        while True:
            message = read_message(self._rest, request=True)
            if message is not None:
                self._rest = self._rest[len(message.raw) :]
                self.requests.append(message)
                return message
            if not await self.more():
                return None

    async def tunnelled(self) -> bytes:
        """What comes next through a tunnel; nothing at its end."""
        if not self._rest:
            await self.more()
        data, self._rest = self._rest, b""
        return data

    async def closed(self) -> None:
        """Wait until prox ends the connection."""
        while not self.eof:
            await self.more()

    async def discard(self) -> int:
        """Read all that comes without keeping it, until the end of the connection; the number of bytes."""
        count = 0
        with suppress(ConnectionResetError):
            while data := await self._reader.read(1 << 18):
                count += len(data)
        self.eof = True
        return count

    async def take(self, size: int) -> None:
        """Read at least `size` bytes, head included, without keeping them."""
        while size > 0:
            data = await self._reader.read(1 << 18)
            assert data, f"the connection ended {size} bytes too early"
            size -= len(data)

    async def send(self, *pieces: bytes) -> None:
        """Send, each piece by itself."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            await asyncio.sleep(0)

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

    @property
    def tls(self) -> ssl.SSLObject:
        """What the handshake came to."""
        tls: ssl.SSLObject = self._writer.get_extra_info("ssl_object")
        return tls

    def cut(self) -> None:
        """Send FIN without a close_notify before it."""
        with socket.fromfd(
            self._writer.get_extra_info("socket").fileno(), socket.AF_INET, socket.SOCK_STREAM
        ) as sock:
            sock.shutdown(socket.SHUT_WR)

    @property
    def closing(self) -> bool:
        """Whether the connection is lost to writing."""
        return self._writer.transport.is_closing()

    @property
    def buffered(self) -> int:
        """Bytes that were sent and that the socket has not taken."""
        return self._writer.transport.get_write_buffer_size()


Script: TypeAlias = Callable[[UpstreamPeer], Awaitable[None]]


def answering(*answers: bytes) -> Script:
    """Answers each request whole, the last answer again and again."""
    left = list(answers)

    async def script(peer: UpstreamPeer) -> None:
        while await peer.request() is not None:
            await peer.send(left.pop(0) if len(left) > 1 else left[0])

    return script


def sending(*pieces: bytes) -> Script:
    """Takes one request, sends the pieces and closes."""

    async def script(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(*pieces)
        peer.close()
        await peer.closed()

    return script


class Upstream:
    """Listens on a port of its own, with TLS where there is a context for it, and runs `script` for each connection.

    Attributes:
        peers: the connections, in the order in which they came.
        address: `127.0.0.1:port`.
    """

    def __init__(
        self, script: Script | None = None, *, tls: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        self._tls = tls
        self._port = port
        self.script = script or answering(OK)
        self.peers: list[UpstreamPeer] = []
        self.address = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._changed = asyncio.Event()
        self._failure: BaseException | None = None

    @property
    def requests(self) -> list[Message]:
        """All requests that the scripts took."""
        return [message for peer in self.peers for message in peer.requests]

    async def peer(self, number: int = 0) -> UpstreamPeer:
        """The connection of this number, as soon as it is there."""
        while len(self.peers) <= number:
            self._changed.clear()
            await self._changed.wait()
        return self.peers[number]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accepted, "127.0.0.1", self._port, limit=1 << 20, ssl=self._tls
        )
        port = self._server.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        return self

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The task is our own: one of asyncio's streams, cancelled before it has begun, is reported to the loop.
        peer = UpstreamPeer(reader, writer)
        self._writers.append(writer)
        self.peers.append(peer)
        self._changed.set()
        task = asyncio.get_running_loop().create_task(self._serve(peer, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, peer: UpstreamPeer, writer: asyncio.StreamWriter) -> None:
        try:
            await self.script(peer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        except BaseException as error:  # what the script found wrong fails the test at the end
            self._failure = self._failure or error
        finally:
            writer.close()

    def stop_listening(self) -> None:
        """Refuse further connections; those that are open stay."""
        assert self._server is not None
        self._server.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in self._writers:  # also those whose task never began
            writer.close()
        if self._failure is not None and error is None:
            raise self._failure
