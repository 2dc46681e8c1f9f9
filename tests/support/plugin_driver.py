"""Plays prox for one plugin process: real pipes, a real socket, lines and frames written and read here."""

from __future__ import annotations

import asyncio
import os
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prox.wire import (
    ConfigureParams,
    FrameReader,
    HookType,
    LineReader,
    MatchInfo,
    Payload,
    Push,
    PushParams,
    Request,
    RequestInfo,
    Response,
    Result,
    decode_line,
    decode_result,
    encode_line,
    marshal_envelope,
)

TIMEOUT = 10
"""Seconds that nothing here waits longer than: a failure, never a pause."""


def request(path: str = "/", **values: Any) -> RequestInfo:
    """A request as prox would show it."""
    known: dict[str, Any] = {
        "route_id": "web:0",
        "method": "GET",
        "domain": "a.test",
        "host": "a.test",
        "proto": "HTTP/1.1",
        "remote_addr": "10.0.0.1:1234",
        "headers": {},
    }
    return RequestInfo(path=path, **{**known, **values})


class HookClient:
    """One connection to the plugin's socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._frames = FrameReader()

    @classmethod
    async def connect(cls, path: str) -> HookClient:
        return cls(*await asyncio.open_unix_connection(path))

    async def call(self, hook: HookType, payload: Payload) -> Result:
        return decode_result(hook, await self.exchange(marshal_envelope(hook, payload)))

    async def on_request(self, path: str = "/", **values: Any) -> Any:
        return await self.call(HookType.ON_REQUEST, request(path, **values))

    async def exchange(self, frame: bytes) -> bytes:
        """Send a frame and wait for the one that answers it."""
        self.send(frame)
        return await self.answer()

    def send(self, frame: bytes) -> None:
        self.writer.write(frame)

    async def answer(self) -> bytes:
        """The next frame, without its length prefix; EOFError when the plugin closes instead."""
        async with asyncio.timeout(TIMEOUT):
            try:
                size = struct.unpack(">I", await self.reader.readexactly(4))[0]
                return await self.reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionResetError) as error:
                raise EOFError from error

    async def closed(self) -> bytes:
        """What still comes until the plugin closes the connection."""
        async with asyncio.timeout(TIMEOUT):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return


class PluginDriver:
    """A plugin process that runs `source`, from entering to leaving the context."""

    def __init__(
        self,
        source: str | Path,
        directory: Path,
        *,
        env: Mapping[str, str] | None = None,
        own_directory: bool = True,
        python: str = sys.executable,
        flags: tuple[str, ...] = ("-W", "error"),
    ) -> None:
        self.directory = directory
        if isinstance(source, Path):
            self.script = source
        else:
            self.script = directory / "plugin.py"
            self.script.write_text(source)
        self._command = (python, *flags, str(self.script))
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "TMPDIR": str(directory),
            **(env or {}),
        }
        if own_directory:
            self._env["PROX_PLUGIN_DIR"] = str(directory)
        self._lines = LineReader()
        self._waiting: list[bytes] = []
        self._clients: list[HookClient] = []
        self.logs: list[PushParams] = []
        self.socket = ""
        self.hooks: list[str] = []

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, stderr=pipe, env=self._env, limit=2**20
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            await client.close()
        if self.process.returncode is None:
            self.process.kill()
            await self.process.communicate()

    # Lines

    def send_line(self, line: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(line)

    def send_configure(self, route_id: str = "web:0", *, domain: str = "", path: str = "") -> None:
        match = MatchInfo(domain, path) if domain or path else None
        self.send_line(encode_line(Request("configure", ConfigureParams(route_id, match))))

    async def raw_line(self) -> bytes:
        """The next line as it was written; EOFError at the end."""
        assert self.process.stdout
        async with asyncio.timeout(TIMEOUT):
            while not self._waiting:
                data = await self.process.stdout.read(65536)
                if not data:
                    raise EOFError("the plugin closed stdout")
                for line in self._lines.feed(data):
                    assert isinstance(line, bytes)
                    self._waiting.append(line)
        return self._waiting.pop(0)

    async def line(self) -> Push | Response:
        """The next line that is no log line; those are kept in `logs`."""
        while True:
            message = decode_line(await self.raw_line())
            if isinstance(message, Push) and message.method == "log":
                self.logs.append(message.params)
            else:
                return message

    async def log(self, containing: str) -> PushParams:
        """The first log line whose message holds the text, read on to it where it has not come yet."""
        seen = 0
        while True:
            for record in self.logs[seen:]:
                if containing in record.message:
                    return record
            seen = len(self.logs)
            message = decode_line(await self.raw_line())
            assert isinstance(message, Push), message
            assert message.method == "log", message
            self.logs.append(message.params)

    async def configure(self, route_id: str = "web:0", *, domain: str = "", path: str = "") -> Response:
        """Send `configure` and take the acknowledgement, and `ready` where one follows at once."""
        self.send_configure(route_id, domain=domain, path=path)
        answer = await self.line()
        assert isinstance(answer, Response)
        return answer

    async def ready(self) -> PushParams:
        """Take `ready` and keep what it says."""
        message = await self.line()
        assert isinstance(message, Push)
        assert message.method == "ready"
        self.socket = message.params.socket
        self.hooks = message.params.hooks or []
        return message.params

    async def start(self) -> Self:
        """Configure one route and wait until the plugin is ready."""
        assert await self.configure() == Response("ok")
        await self.ready()
        return self

    # Frames

    async def connect(self) -> HookClient:
        client = await HookClient.connect(self.socket)
        self._clients.append(client)
        return client

    # The end

    def close_stdin(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()

    async def wait(self) -> tuple[int, list[bytes], str]:
        """Wait for the end: exit status, the lines that were not yet read, and what went to stderr."""
        assert self.process.stdout
        assert self.process.stderr
        async with asyncio.timeout(TIMEOUT):
            out, err = await asyncio.gather(self.process.stdout.read(), self.process.stderr.read())
            status = await self.process.wait()
        self._waiting += [line for line in self._lines.feed(out) if isinstance(line, bytes)]
        rest, self._waiting = self._waiting, []
        return status, rest, err.decode()

    async def stop(self) -> tuple[int, list[bytes], str]:
        """Close stdin and wait for the end."""
        self.close_stdin()
        return await self.wait()
