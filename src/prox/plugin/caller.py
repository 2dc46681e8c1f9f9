"""Calls to a plugin's hooks over a pool of connections, each of which carries one call at a time.

The number of connections is the limit of calls in flight. A call takes a free connection at once, without a
turn of the loop; when none is free it waits in a fair queue, within its deadline, while connections are opened
up to the limit. No call costs a task or a timer of its own.

Nothing here needs a running task: the caller may be any coroutine that can await asyncio's futures.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from prox.tasks import spawn
from prox.wire import (
    FRAME_LIMIT,
    AuthorizeResult,
    ConnInfo,
    ConnResult,
    DecodeError,
    DisconnectInfo,
    HookType,
    RequestInfo,
    ResponseModResult,
    ResponsePair,
    UpstreamResponseInfo,
    WireError,
    decode_authorize,
    decode_response_mod,
    decode_result,
    marshal_envelope,
    shown_to,
    understood,
)

from .connection import Connection, connect, own_uid
from .errors import CallError, ErrorKind
from .notifications import NotificationQueue, Notifier

_DIALS: Final = 16
"""Connections that are opened at the same time."""
_IDLE = 60.0
"""Seconds after which a connection without a call is closed; one stays."""


_SIGNS_OF_LIFE: Final = frozenset({ErrorKind.TOO_LARGE, ErrorKind.CLOSED, ErrorKind.UNDECODABLE})
"""Failures that a process must do something for, as one does whose handler raises: it is not mute."""


class Caller:
    """Calls the hooks of one plugin process.

    Args:
        path: the socket that the plugin listens on.
        max_concurrency: calls in flight, and connections.
        max_frame: bytes of one frame, either way.
        uid: the user that the plugin must run as; prox's own when None.
        notifications: what waits for on_disconnect, where it shall outlive this caller.

    Attributes:
        features: what the process has said that it knows.
        failures: calls that were met with silence since the last that was not.
        failing_since: when the first of them failed, in the loop's time.
    """

    def __init__(
        self,
        path: str,
        *,
        max_concurrency: int = 256,
        max_frame: int = FRAME_LIMIT,
        uid: int | None = None,
        notifications: NotificationQueue[DisconnectInfo] | None = None,
    ) -> None:
        self.path = path
        self.max_frame = max_frame
        self.features: frozenset[str] = frozenset()
        self._loop = asyncio.get_running_loop()
        self._uid = own_uid() if uid is None else uid
        self._limit = max_concurrency
        self._idle: deque[Connection] = deque()
        self._connections: set[Connection] = set()
        self._waiters: deque[asyncio.Future[Connection]] = deque()
        self._dialing = 0
        self._trim: asyncio.TimerHandle | None = None
        self._closed = False
        self._drained: asyncio.Future[None] | None = None
        self.failures = 0
        self.failing_since = 0.0
        self.notifications = NotificationQueue() if notifications is None else notifications
        self._notifier = Notifier(self.notifications, self._encode_disconnect, self._dial_notifier)

    @property
    def in_flight(self) -> int:
        """Calls that have a connection and no answer yet."""
        return len(self._connections) - len(self._idle)

    @property
    def connections(self) -> int:
        """Open connections, free ones too."""
        return len(self._connections)

    @property
    def waiting(self) -> int:
        """Calls that wait for a connection."""
        return sum(not waiter.done() for waiter in self._waiters)

    async def call_request(self, info: RequestInfo, deadline: float) -> AuthorizeResult:
        """Ask on_request. `deadline` is a time of the loop's clock, the wait for a connection included.

        Raises:
            CallError: no answer in time, or none that can be used.
            EncodeError: the request can't be encoded.
            FrameTooLarge: its frame is above the limit.
        """
        info = shown_to(info, self.features)
        return await self.ask_request(marshal_envelope(HookType.ON_REQUEST, info, self.max_frame), deadline)

    async def call_response(
        self, info: RequestInfo, response: UpstreamResponseInfo, deadline: float
    ) -> ResponseModResult:
        """Ask on_response; as `call_request`."""
        pair = shown_to(ResponsePair(request=info, response=response), self.features)
        return await self.ask_response(marshal_envelope(HookType.ON_RESPONSE, pair, self.max_frame), deadline)

    async def call_connect(self, conn: ConnInfo, deadline: float) -> ConnResult:
        """Ask on_connect; as `call_request`."""
        return await self.ask_connect(marshal_envelope(HookType.ON_CONNECT, conn, self.max_frame), deadline)

    def notify_disconnect(self, info: DisconnectInfo) -> None:
        """Tell of an end. Never waits; dropped and counted when 10,000 such messages wait."""
        self.notifications.put(info)

    async def ask_request(self, frame: bytes, deadline: float) -> AuthorizeResult:
        """`call_request` for a frame that is encoded already."""
        try:
            connection = self._idle.pop() if self._idle else await self._wait_for_connection(deadline)
            answer = await connection.ask(frame, deadline)
        except CallError as failure:
            self._failed(failure)
            raise
        self.failures = 0
        try:
            result = decode_authorize(answer, self.features)
        except DecodeError as error:
            raise CallError(ErrorKind.UNDECODABLE, str(error)) from error
        if result.changes is not None or result.response is not None:
            result = understood(result, self.features)
        if result.status and not 200 <= result.status <= 599 and not result.allow:
            raise CallError(ErrorKind.UNDECODABLE, f"{result.status} is no status for a denial")
        return result

    async def ask_response(self, frame: bytes, deadline: float) -> ResponseModResult:
        """`call_response` for a frame that is encoded already."""
        answer = await self._ask(frame, deadline)
        try:
            result = decode_response_mod(answer, self.features)
        except DecodeError as error:
            raise CallError(ErrorKind.UNDECODABLE, str(error)) from error
        return result if result.changes is None else understood(result, self.features)

    async def ask_connect(self, frame: bytes, deadline: float) -> ConnResult:
        """`call_connect` for a frame that is encoded already."""
        answer = await self._ask(frame, deadline)
        try:
            result = decode_result(HookType.ON_CONNECT, answer)
        except DecodeError as error:
            raise CallError(ErrorKind.UNDECODABLE, str(error)) from error
        assert isinstance(result, ConnResult)
        return result

    def serve_notifications(self, notifications: NotificationQueue[DisconnectInfo]) -> None:
        """Send what waits in another queue from now on; what waits in the one before stays there."""
        self._notifier.leave()
        self.notifications = notifications
        self._notifier = Notifier(notifications, self._encode_disconnect, self._dial_notifier)

    def warm(self) -> None:
        """Open a first connection, so that the first call need not wait for it."""
        if not self._connections and not self._dialing and not self._closed:
            self._dialing += 1
            spawn(self._dial(), f"connection to {self.path}")

    async def drain(self, seconds: float) -> None:
        """Wait, for at most so long, until no call is in flight or waiting and every notification is sent."""
        end = self._loop.time() + seconds
        await self._notifier.flush(seconds)
        if self.in_flight or self.waiting:
            self._drained = self._loop.create_future()
            await asyncio.wait({self._drained}, timeout=max(end - self._loop.time(), 0))

    def close(self) -> None:
        """Close all connections; calls that are open or wait get a CallError."""
        self._closed = True
        if self._trim is not None:
            self._trim.cancel()
        self._notifier.close()
        for connection in list(self._connections):
            connection.abort()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(CallError(ErrorKind.CLOSED, "the plugin is being stopped"))
        self._waiters.clear()

    async def _ask(self, frame: bytes, deadline: float) -> bytes:
        try:
            connection = self._idle.pop() if self._idle else await self._wait_for_connection(deadline)
            answer = await connection.ask(frame, deadline)
        except CallError as error:
            self._failed(error)
            raise
        self.failures = 0
        return answer

    def _failed(self, error: CallError) -> None:
        if error.kind in _SIGNS_OF_LIFE:
            self.failures = 0
            return
        if not self.failures:
            self.failing_since = self._loop.time()
        self.failures += 1

    async def _wait_for_connection(self, deadline: float) -> Connection:
        if self._closed:
            raise CallError(ErrorKind.CLOSED, "the plugin is being stopped")
        waiter: asyncio.Future[Connection] = self._loop.create_future()
        self._waiters.append(waiter)
        self._open_more()
        timer = self._loop.call_at(deadline, self._expire, waiter)
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.released(waiter.result())  # it came in the turn in which the wait was given up
            raise
        finally:
            timer.cancel()

    def _expire(self, waiter: asyncio.Future[Connection]) -> None:
        if not waiter.done():
            waiter.set_exception(CallError(ErrorKind.DEADLINE, "no free connection in time"))
        self._next_waiter(take=False)

    def _next_waiter(self, *, take: bool = True) -> asyncio.Future[Connection] | None:
        """The call that has waited longest; those that have given up are forgotten."""
        waiters = self._waiters
        while waiters and waiters[0].done():
            waiters.popleft()
        return waiters.popleft() if waiters and take else None

    def released(self, connection: Connection) -> None:
        """A connection is free: for the call that has waited longest, or for the pool."""
        waiter = self._next_waiter() if self._waiters else None
        if waiter is not None:
            waiter.set_result(connection)
            return
        self._idle.append(connection)
        connection.idle_since = self._loop.time()
        if self._trim is None and len(self._idle) > 1:
            self._trim = self._loop.call_later(_IDLE, self._close_idle)
        if self._drained is not None:
            self._check_drained()

    def gone(self, connection: Connection) -> None:
        """A connection has ended: its place may be taken by another."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiters:
            self._open_more()
        if self._drained is not None:
            self._check_drained()

    def _check_drained(self) -> None:
        if self._drained is not None and not self._drained.done() and not self.in_flight and not self.waiting:
            self._drained.set_result(None)

    def _close_idle(self) -> None:
        self._trim = None
        limit = self._loop.time() - _IDLE
        while len(self._idle) > 1 and self._idle[0].idle_since <= limit:
            self._idle[0].abort()
        if len(self._idle) > 1:
            self._trim = self._loop.call_later(_IDLE, self._close_idle)

    def _open_more(self) -> None:
        while (
            not self._closed
            and self._dialing < min(len(self._waiters), _DIALS)
            and len(self._connections) + self._dialing < self._limit
        ):
            self._dialing += 1
            spawn(self._dial(), f"connection to {self.path}")

    async def _dial(self) -> None:
        try:
            connection = await connect(self.path, self._uid, self._new_connection, self._wanted)
        except CallError as error:
            self._dialing -= 1
            waiter = self._next_waiter()
            if waiter is not None:
                waiter.set_exception(error)
        except BaseException:
            self._dialing -= 1
            raise
        else:
            self._dialing -= 1
            self._connections.add(connection)
            if self._closed or connection.closed:
                connection.abort()
                self.gone(connection)
            else:
                self.released(connection)
        self._open_more()

    def _new_connection(self) -> Connection:
        return Connection(self, self.max_frame)

    def _wanted(self) -> bool:
        self._next_waiter(take=False)
        return not self._closed and bool(self._waiters)

    async def _dial_notifier(self, notifier: Notifier[DisconnectInfo]) -> None:
        await connect(self.path, self._uid, lambda: notifier, lambda: not self._closed)

    def _encode_disconnect(self, info: DisconnectInfo) -> bytes | None:
        if info.trace is not None:
            info = shown_to(info, self.features)
        try:
            return marshal_envelope(HookType.ON_DISCONNECT, info, self.max_frame)
        except WireError:
            return None
