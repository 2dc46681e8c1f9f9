"""One connection to a plugin's socket: one call at a time, and a deadline for it.

The deadline is a timer of the connection that is moved lazily: it is set when a call needs one earlier than
what is set, and looks at the current call when it fires. Most calls set none.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import Protocol, TypeVar

from prox.wire import FrameReader, FrameTooLarge

from .errors import CallError, ErrorKind

P = TypeVar("P", bound=asyncio.Protocol)

_CREDENTIALS = struct.Struct("3i")
_RETRY = 0.005


class Pool(Protocol):
    """Who owns connections: told when one is free and when one is gone."""

    def released(self, connection: Connection) -> None:
        """Its call was answered; it may carry another."""

    def gone(self, connection: Connection) -> None:
        """It is closed, or closing."""


class Connection(asyncio.Protocol):
    """Carries calls one after another. Whatever goes wrong closes it: it is never reused then."""

    __slots__ = (
        "_call",
        "_deadline",
        "_gone",
        "_loop",
        "_pool",
        "_reader",
        "_timer",
        "_transport",
        "idle_since",
    )

    def __init__(self, pool: Pool, max_frame: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = pool
        self._reader = FrameReader(max_frame)
        self._transport: asyncio.Transport | None = None
        self._call: asyncio.Future[bytes] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._gone = False
        self.idle_since = 0.0

    def call(self, frame: bytes, deadline: float) -> asyncio.Future[bytes]:
        """Write a frame; the future gives the answer's frame without its length, or a CallError.

        A caller that stops waiting must `abort`.
        """
        future: asyncio.Future[bytes] = self._loop.create_future()
        if self._gone:  # it ended in the turn in which it was given out
            future.set_exception(CallError(ErrorKind.CLOSED, "the plugin closed the connection"))
            return future
        self._call = future
        self._deadline = deadline
        timer = self._timer
        if timer is None or timer.when() > deadline:
            if timer is not None:
                timer.cancel()
            self._timer = self._loop.call_at(deadline, self._expire)
        self._transport.write(frame)  # type: ignore[union-attr] # it is connected, or the pool would not have it
        return future

    @property
    def closed(self) -> bool:
        """Whether it is of no use any more."""
        return self._gone

    def abort(self) -> None:
        """Close at once; a call that is open gets an error."""
        self._fail(ErrorKind.CLOSED, "the connection was closed")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = transport  # type: ignore[assignment] # a stream's transport

    def data_received(self, data: bytes) -> None:
        """Called by the loop: bytes of an answer, or bytes that nobody asked for."""
        try:
            frames = self._reader.feed(data)
        except FrameTooLarge as error:
            if not error.frames:
                self._fail(ErrorKind.TOO_LARGE, f"the answer: {error}")
                return
            frames = error.frames
        if not frames:
            if self._call is None:
                self.abort()
            return
        call, self._call = self._call, None
        if call is None or call.done():
            self.abort()
            return
        call.set_result(frames[0])
        if len(frames) > 1 or self._reader.pending:
            self.abort()  # more than was asked for: what follows could be taken for the next call's answer
        else:
            self._pool.released(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """Called by the loop."""
        self._fail(ErrorKind.CLOSED, "the plugin closed the connection before its answer")

    def _expire(self) -> None:
        self._timer = None
        if self._call is None:
            return
        if self._loop.time() < self._deadline - 0.001:
            self._timer = self._loop.call_at(self._deadline, self._expire)
        else:
            self._fail(ErrorKind.DEADLINE, "no answer in time")

    def _fail(self, kind: ErrorKind, detail: str) -> None:
        call, self._call = self._call, None
        if call is not None and not call.done():
            call.set_exception(CallError(kind, detail))
        if self._gone:
            return
        self._gone = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        self._pool.gone(self)


async def connect(path: str, uid: int, make: Callable[[], P], wanted: Callable[[], bool]) -> P:
    """Connect to a plugin's socket and check that the peer runs as the user `uid`.

    Args:
        path: the socket.
        uid: the user that the plugin was started with.
        make: makes the protocol.
        wanted: whether to go on while the plugin's queue of connections is full.

    Raises:
        CallError: it is gone, refuses, or belongs to another user.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:  # its backlog is full; a connect to a unix socket has no other wait
                if not wanted():
                    raise CallError(ErrorKind.CONNECT, f"{path}: the plugin accepts no connection") from None
                await asyncio.sleep(_RETRY)
            else:
                break
        _check_peer(sock, path, uid)
    except OSError as error:
        sock.close()
        raise CallError(ErrorKind.CONNECT, f"{path}: {error.strerror or error}") from error
    except BaseException:
        sock.close()
        raise
    # From here the transport owns the socket, also where making it fails.
    _transport, protocol = await asyncio.get_running_loop().create_unix_connection(make, sock=sock)
    return protocol


def _check_peer(sock: socket.socket, path: str, uid: int) -> None:
    _pid, peer, _gid = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    if peer != uid:
        raise CallError(ErrorKind.CONNECT, f"{path} belongs to user {peer}, the plugin runs as {uid}")


def own_uid() -> int:
    """The user that plugins are started with."""
    return os.getuid()
