"""The side of the hook socket that answers: one call at a time on each connection, many connections.

A plain handler is called where its frame was read and its answer is written in the same step. A coroutine
runs as a task, so a slow one holds up only its own connection. Whatever fails closes the connection without
an answer: prox then lets `on_error` decide.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Coroutine, Mapping
from typing import Any, cast

from prox.wire import FrameReader, FrameTooLarge, HookType, WireError, decode_call

from .hooks import PLAIN_ANSWERS, Hook
from .log import PluginLog
from .tasks import spawn

DISCONNECTS_LIMIT = 1000
"""on_disconnect handlers that may run beside the calls; more make their connections wait."""


class HookServer:
    """Accepts prox's connections and knows what runs on them."""

    def __init__(self, hooks: Mapping[HookType, Hook], log: PluginLog) -> None:
        self.hooks = hooks
        self.log = log
        self.tasks: set[asyncio.Task[None]] = set()
        self.connections: set[HookConnection] = set()
        self.disconnects = 0
        self.draining = False
        self._all_closed = asyncio.Event()

    def connection(self) -> HookConnection:
        """The protocol of a new connection."""
        return HookConnection(self)

    def closed(self, connection: HookConnection) -> None:
        """Forget a connection that has ended."""
        self.connections.discard(connection)
        if self.draining and not self.connections:
            self._all_closed.set()

    async def drain(self, grace: float) -> None:
        """Let running handlers end for `grace` seconds at most, then cancel them; close all connections."""
        self.draining = True
        deadline = asyncio.get_running_loop().time() + grace
        for connection in list(self.connections):
            connection.close_when_idle()
        while self.tasks and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self.tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        for task in self.tasks:
            task.cancel()
        for connection in list(self.connections):
            connection.close_when_idle()
        if self.connections:
            try:
                await asyncio.wait_for(self._all_closed.wait(), grace / 4)
            except TimeoutError:
                for connection in list(self.connections):
                    connection.abort()

    def run(self, hook: Hook, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run what an asynchronous handler needs to its end."""
        task = spawn(coro, hook.type.hook_name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def disconnect_ended(self, _: asyncio.Task[None]) -> None:
        """Count down an on_disconnect handler that ran beside the calls."""
        self.disconnects -= 1


class HookConnection(asyncio.Protocol):
    """One connection from prox's pool."""

    def __init__(self, server: HookServer) -> None:
        self._server = server
        self._reader = FrameReader()
        self._waiting: deque[bytes] = deque()
        self._running: asyncio.Task[None] | None = None
        self._paused = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not derived from it
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Stop what runs for a caller that has gone."""
        self._waiting.clear()
        if self._running is not None:
            self._running.cancel()
        self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        """Serve the calls that have arrived whole."""
        try:
            frames = self._reader.feed(data)
        except FrameTooLarge as error:
            self._refuse(error)
            return
        self._waiting.extend(frames)
        if self._running is None:
            self._serve_waiting()
        elif self._waiting and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def close_when_idle(self) -> None:
        """Close now, or after the answer that is being made."""
        if self._running is None:
            self._transport.close()

    def abort(self) -> None:
        """Close without waiting for what is not yet sent."""
        self._transport.abort()

    def _serve_waiting(self) -> bool:
        """Serve until a handler has to be waited for; true when the connection is idle and open after it."""
        while self._waiting and self._running is None and not self._transport.is_closing():
            self._serve(self._waiting.popleft())
        return self._running is None and not self._transport.is_closing()

    def _serve(self, body: bytes) -> None:
        try:
            hook_type, payload = decode_call(body)
        except WireError as error:
            self._refuse(error)
            return
        hook = self._server.hooks.get(hook_type)
        if hook is None:
            if hook_type is not HookType.ON_DISCONNECT:
                self._refuse(WireError(f"this plugin does not serve {hook_type.hook_name}"))
            return
        call = hook.wrap(payload)
        try:
            answer = hook.handler(call)
            if answer.__class__ not in PLAIN_ANSWERS and inspect.isawaitable(answer):
                self._start(hook, call, answer)
            else:
                self._answer(hook, answer)
        except Exception as error:
            self._failed(hook, call, error)

    def _answer(self, hook: Hook, answer: object) -> None:
        frame = hook.frame(answer)
        if frame is not None:
            self._transport.write(frame)

    def _start(self, hook: Hook, call: Any, awaitable: Any) -> None:
        server = self._server
        if hook.type is HookType.ON_DISCONNECT and server.disconnects < DISCONNECTS_LIMIT:
            server.disconnects += 1
            task = server.run(hook, self._disconnect(hook, call, awaitable))
            task.add_done_callback(server.disconnect_ended)
        else:
            self._running = server.run(hook, self._finish(hook, call, awaitable))

    async def _disconnect(self, hook: Hook, call: Any, awaitable: Any) -> None:
        try:
            await awaitable
        except Exception as error:
            self._failed(hook, call, error)

    async def _finish(self, hook: Hook, call: Any, awaitable: Any) -> None:
        """Wait for the handler, answer, and go on with the connection, all in the handler's own task."""
        try:
            answer = await awaitable
            if not self._transport.is_closing():
                self._answer(hook, answer)
        except asyncio.CancelledError as error:
            if not self._transport.is_closing():
                self._failed(hook, call, error)
            raise
        except Exception as error:
            self._failed(hook, call, error)
        finally:
            self._running = None
        if self._serve_waiting():
            if self._server.draining:
                self._transport.close()
            elif self._paused:
                self._paused = False
                self._transport.resume_reading()

    def _failed(self, hook: Hook, call: Any, error: BaseException) -> None:
        message = f"{hook.type.hook_name} failed"
        self._server.log.failure(message, error, route=call.route_id, call=repr(call))
        if hook.type is not HookType.ON_DISCONNECT:
            self._transport.close()

    def _refuse(self, error: WireError) -> None:
        self._server.log.error("a frame from prox was refused and its connection closed", error=str(error))
        self._transport.close()
