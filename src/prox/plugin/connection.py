"""One connection to a plugin's socket: one call at a time, and a deadline for it.

The deadline is a timer of the connection that is moved lazily: it is set when a call needs one earlier than
what is set, and looks at the current call when it fires. Most calls set none.

A Flow (see prox.flow) goes on inside the call that read its answer; a task is woken by a future, a turn later.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import Final, Protocol, TypeVar, cast

from prox.flow import Completion
from prox.wire import FrameReader, FrameTooLarge

from .errors import CallError, ErrorKind

P = TypeVar("P")

_CREDENTIALS: Final = struct.Struct("iII")
_RETRY: Final = 0.005
_NEVER: Final = float("inf")
_length: Final = struct.Struct(">I").unpack_from
_PREFIX: Final = 4


class Pool(Protocol):
    """Who owns connections: told when one is free and when one is gone."""

    def released(self, connection: Connection) -> None:
        """Its call was answered; it may carry another."""

    def gone(self, connection: Connection) -> None:
        """It is closed, or closing."""


class Connection:
    """Carries calls one after another. Whatever goes wrong closes it: it is never reused then.

    An asyncio.Protocol, but not by name: mypyc compiles no class with a base that it does not compile.
    """

    __slots__ = (
        "_answer",
        "_call",
        "_deadline",
        "_done",
        "_due",
        "_error",
        "_gone",
        "_in_pieces",
        "_loop",
        "_max_frame",
        "_pool",
        "_reader",
        "_timer",
        "_transport",
        "_write",
        "idle_since",
    )

    def __init__(self, pool: Pool, max_frame: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = pool
        self._max_frame = max_frame
        self._reader = FrameReader(max_frame)
        self._in_pieces = False
        self._transport: asyncio.Transport | None = None
        self._write: Callable[[bytes], None]
        self._call: Completion | asyncio.Future[bytes] | None = None
        self._done = Completion()
        self._answer = b""
        self._error: CallError | None = None
        self._deadline = 0.0
        self._due = _NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._gone = False
        self.idle_since = 0.0

    async def ask(self, frame: bytes, deadline: float) -> bytes:
        """Write a frame and wait for the answer's, given without its length. Giving up closes the connection.

        Raises:
            CallError: no answer in time, or none at all.
        """
        if self._gone:  # it ended in the turn in which it was given out
            raise CallError(ErrorKind.CLOSED, "the plugin closed the connection")
        self._deadline = deadline
        if deadline < self._due:
            self._fire_at(deadline)
        if asyncio.current_task(self._loop) is not None:
            return await self._ask_in_task(frame)
        call = self._call = self._done
        call.done = False
        self._write(frame)
        try:
            await call
        except BaseException:
            if self._call is call:
                self.abort()
            raise
        error = self._error
        if error is not None:
            raise error
        answer, self._answer = self._answer, b""
        return answer

    async def _ask_in_task(self, frame: bytes) -> bytes:
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._call = future
        self._write(frame)
        try:
            return await future
        except BaseException:
            if not future.done() or future.cancelled():
                self.abort()
            else:  # it was answered in this turn: the connection is free again and may carry another call
                future.exception()
            raise

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
        self._write = transport.write  # type: ignore[attr-defined] # the same

    def data_received(self, data: bytes) -> None:
        """Called by the loop: bytes of an answer, or bytes that nobody asked for."""
        size = len(data) - _PREFIX
        if size < 0 or self._in_pieces or size > self._max_frame or size != _length(data)[0]:
            self._receive_pieces(data)
            return
        call = self._call  # the usual case: one read, one whole answer
        if call is self._done:
            self._call = None
            self._answer = data[_PREFIX:]
            self._pool.released(self)
            self._done.set()
        else:
            self._received(data[_PREFIX:], surplus=False)

    def _receive_pieces(self, data: bytes) -> None:
        surplus = False
        try:
            frames = self._reader.feed(data)
        except FrameTooLarge as error:
            if not error.frames:
                self._fail(ErrorKind.TOO_LARGE, f"the answer: {error}")
                return
            frames, surplus = error.frames, True
        self._in_pieces = self._reader.pending > 0
        if frames:
            self._received(frames[0], surplus=surplus or self._in_pieces or len(frames) > 1)
        elif self._call is None:
            self.abort()

    def _received(self, answer: bytes, *, surplus: bool) -> None:
        call, self._call = self._call, None
        if call is None or (isinstance(call, asyncio.Future) and call.done()):
            self.abort()
            return
        if surplus:  # which of them is meant for the answer can't be known
            self._call = call
            self._fail(ErrorKind.UNDECODABLE, "more bytes follow the answer's frame")
            return
        self._pool.released(self)
        if isinstance(call, Completion):
            self._answer = answer
            call.set()
        else:
            call.set_result(answer)

    def eof_received(self) -> None:
        """Called by the loop, which then closes the transport."""

    def pause_writing(self) -> None:
        """Called by the loop: the plugin reads slowly. One call writes one frame, so there is nothing to hold back."""

    def resume_writing(self) -> None:
        """Called by the loop."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """Called by the loop."""
        self._fail(ErrorKind.CLOSED, "the plugin closed the connection before its answer")

    def _fire_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._due = _NEVER
        if self._call is None:
            return
        if self._loop.time() < self._deadline - 0.001:
            self._fire_at(self._deadline)
        else:
            self._fail(ErrorKind.DEADLINE, "no answer in time")

    def _fail(self, kind: ErrorKind, detail: str) -> None:
        """Close, if that is still to be done, and give a call that is open an error."""
        call, self._call = self._call, None
        if not self._gone:
            self._gone = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._transport is not None:
                self._transport.abort()
            self._pool.gone(self)
        if isinstance(call, Completion):
            self._error = CallError(kind, detail)
            call.set()
        elif call is not None and not call.done():
            call.set_exception(CallError(kind, detail))


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
        # No await inside `except`: compiled, that would leave the exception behind as the one that is being handled.
        while not _connected(sock, path):
            _check_wanted(wanted, path)
            await asyncio.sleep(_RETRY)
        _check_peer(sock, path, uid)
    except OSError as error:
        sock.close()
        raise CallError(ErrorKind.CONNECT, f"{path}: {error.strerror or error}") from error
    except BaseException:
        sock.close()
        raise
    # From here the transport owns the socket, also where making it fails.
    protocol = make()
    await asyncio.get_running_loop().create_unix_connection(
        lambda: cast("asyncio.Protocol", protocol), sock=sock
    )
    return protocol


def _connected(sock: socket.socket, path: str) -> bool:
    """Whether it is by now; not while the plugin's backlog is full: a connect to a unix socket has no other wait."""
    try:
        sock.connect(path)
    except BlockingIOError:
        return False
    return True


def _check_wanted(wanted: Callable[[], bool], path: str) -> None:
    if not wanted():
        raise CallError(ErrorKind.CONNECT, f"{path}: the plugin accepts no connection")


def _check_peer(sock: socket.socket, path: str, uid: int) -> None:
    _pid, peer, _gid = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    if peer != uid:
        raise CallError(ErrorKind.CONNECT, f"{path} belongs to user {peer}, the plugin runs as {uid}")


def own_uid() -> int:
    """The user that plugins are started with, unless they are given another."""
    return os.geteuid()
