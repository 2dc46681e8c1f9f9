"""The life of a plugin process: listen, answer `configure`, serve, and end when stdin does.

stdin and stdout belong to the protocol, so `run` moves them to private descriptors first: whatever the
plugin or its children print goes to stderr, and nothing can read the plugin's lines away.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from prox.wire import (
    METHOD_READY,
    ConfigureParams,
    DecodeError,
    LineReader,
    OversizeLine,
    Push,
    PushParams,
    Response,
    decode_request,
    encode_line,
)

from .endpoint import BACKLOG, Endpoint
from .hooks import Hook
from .log import PluginLog
from .outbox import Held, Outbox, holding
from .pushes import Route
from .server import HookServer
from .tasks import spawn

GRACE = 2.0
"""Seconds that running handlers get at the end."""
BACKGROUND_GRACE = 0.5
"""Seconds that background tasks get to clean up after they were cancelled."""
FLUSH = 0.5
"""Seconds for the last lines to prox."""
HARD_END = 4.0
"""Seconds after which the process ends whatever still runs in it; prox sends SIGTERM after 5."""

_OK = encode_line(Response(result="ok"))


def take_stdio() -> tuple[int, int]:
    """Private descriptors for the lines from and to prox; 0 becomes empty and 1 becomes stderr."""
    lines_in, lines_out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    if sys.stdout is not None:
        sys.stdout.flush()  # what was printed before now goes to stderr
        if reconfigure := getattr(sys.stdout, "reconfigure", None):
            reconfigure(line_buffering=True)
    return lines_in, lines_out


class Runtime:
    """Runs one plugin from start to end."""

    def __init__(
        self,
        *,
        hooks: Sequence[Hook],
        features: frozenset[str] = frozenset(),
        on_configure: Callable[[Route], Any] | None,
        background: Sequence[Callable[[], Coroutine[Any, Any, None]]],
        outbox: Outbox,
        log: PluginLog,
        endpoint: Endpoint | None,
        end_in: Callable[[float], None],
    ) -> None:
        """Needs an `endpoint` for hooks; `end_in` sees to it that all ends after so many seconds at the latest."""
        self._hooks = {hook.type: hook for hook in hooks}
        self._features = sorted(features)
        self._on_configure = on_configure
        self._background = background
        self._outbox = outbox
        self._log = log
        self._endpoint = endpoint
        self._end_in = end_in
        self._background_tasks: list[asyncio.Task[None]] = []
        self._background_started = False
        self._lines: asyncio.Queue[bytes | OversizeLine | None] = asyncio.Queue()
        self._stopping = asyncio.Event()
        self._ready: bytes | None = None

    async def main(self, lines_in: int, lines_out: int) -> None:
        """Serve until `lines_in` ends or SIGTERM comes."""
        self._outbox.start(lines_out)
        endpoint = self._endpoint
        server = HookServer(self._hooks, self._log)
        listener = None
        try:
            if endpoint:
                loop = asyncio.get_running_loop()
                listener = await loop.create_unix_server(
                    server.connection, sock=endpoint.sock, backlog=BACKLOG
                )
                self._ready = self._ready_line(endpoint)
            self._handle_signals(interactive=os.isatty(lines_in))
            self._read_lines(lines_in)
            configuring = spawn(self._configure_all(), "configure")
            await self._stopping.wait()
            self._lines.put_nowait(None)
            if listener:
                listener.close()
            await asyncio.wait(
                [configuring, spawn(server.drain(GRACE), "drain")], timeout=GRACE + BACKGROUND_GRACE
            )
            configuring.cancel()
            await self._end_background()
        finally:
            if listener:
                listener.close()

    def _ready_line(self, endpoint: Endpoint) -> bytes:
        hooks = [hook.hook_name for hook in sorted(self._hooks)]
        ready = PushParams(socket=str(endpoint.path), hooks=hooks, features=self._features or None)
        return encode_line(Push(METHOD_READY, ready))

    # The end

    def _handle_signals(self, *, interactive: bool) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        if interactive:
            loop.add_signal_handler(signal.SIGINT, self._stop)
            sys.stderr.write("This plugin speaks with prox on stdin and stdout. Ctrl-D or Ctrl-C ends it.\n")
        else:  # Ctrl-C in prox's terminal reaches the whole group; prox ends us by closing stdin
            loop.add_signal_handler(signal.SIGINT, lambda: None)

    def _stop(self) -> None:
        self._end_in(HARD_END)
        self._stopping.set()

    async def _end_background(self) -> None:
        for task in self._background_tasks:
            task.cancel()
        if self._background_tasks:
            await asyncio.wait(self._background_tasks, timeout=BACKGROUND_GRACE)

    # Lines from prox

    def _read_lines(self, fd: int) -> None:
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._read, args=(fd, loop), name="prox-stdin", daemon=True)
        thread.start()

    def _read(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        reader = LineReader()
        try:
            while data := _read_some(fd):
                for line in reader.feed(data):
                    loop.call_soon_threadsafe(self._lines.put_nowait, line)
        except OSError as error:
            self._log.error("stdin can't be read", error=str(error))
        except RuntimeError:  # the loop has ended before stdin did
            return
        finally:
            os.close(fd)
        self._end_in(HARD_END)  # here, because a handler may hold up the loop
        with suppress(RuntimeError):  # the same
            loop.call_soon_threadsafe(self._stopping.set)

    async def _configure_all(self) -> None:
        while (line := await self._lines.get()) is not None:
            if isinstance(line, OversizeLine):
                self._log.error("a line from prox is too long", limit=line.limit)
                continue
            try:
                request = decode_request(line)
            except DecodeError as error:
                self._log.error("a line from prox was not understood", error=str(error))
                continue
            if request.params is None:
                self._log.warn("prox asked for something unknown", method=request.method)
                continue
            await self._configure(request.params)

    async def _configure(self, params: ConfigureParams) -> None:
        held = Held()
        token = holding.set(held)
        try:
            if self._on_configure is not None:
                result = self._on_configure(Route(params, self.send))
                if inspect.isawaitable(result):
                    await result
        except Exception as error:
            self._log.failure("on_configure failed", error, route=params.route_id)
            text = f"{type(error).__name__}: {error}".encode("utf-8", "backslashreplace").decode()
            self._outbox.refuse(encode_line(Response(error=text)), held)
            return
        finally:
            holding.reset(token)
        self._outbox.acknowledge([_OK, self._ready] if self._ready else [_OK], held)
        self._start_background()

    def send(self, push: Push) -> None:
        """Queue a push."""
        self._outbox.push(encode_line(push))

    # Background tasks

    def _start_background(self) -> None:
        if self._background_started or self._stopping.is_set():
            return
        self._background_started = True
        for function in self._background:
            name = getattr(function, "__qualname__", repr(function))
            self._background_tasks.append(spawn(self._run_background(function, name), name))

    async def _run_background(self, function: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        try:
            await function()
        except Exception as error:
            self._log.failure("a background task failed", error, task=name)


def _read_some(fd: int) -> bytes:
    while True:
        try:
            return os.read(fd, 65536)
        except BlockingIOError:  # whoever started us made the pipe non-blocking
            readable = select.poll()
            readable.register(fd, select.POLLIN)
            readable.poll()


def end_in(seconds: float) -> None:
    """End the process after `seconds`, whatever still runs in it: a thread, a handler that blocks."""
    timer = threading.Timer(seconds, _end)
    timer.name = "prox-end"
    timer.daemon = True
    timer.start()


def _end() -> None:
    others = [t.name for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
    sys.stderr.write(f"the plugin did not end by itself; threads still running: {others or 'the main one'}\n")
    sys.stderr.flush()
    os._exit(0)
