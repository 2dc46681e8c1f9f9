"""`prox serve` as a process of its own, and what it says."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prox.tasks import spawn
from support.client import Client, get

PROX = Path(sys.executable).with_name("prox")
TIMEOUT = 10
"""Seconds that nothing here waits longer than: a failure, never a pause."""


class ProxProcess:
    """Runs `prox serve` from entering to leaving the context; there it must have ended by itself, or is killed.

    Args:
        config: the file or folder to serve.
        arguments: further arguments.
        env: further variables.

    Attributes:
        records: what it has logged so far.
        pid: of the process.
    """

    def __init__(self, config: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self._command = [str(PROX), "serve", "-c", str(config), *arguments]
        without = {"LOG_LEVEL", "NO_COLOR"}
        self._env = {name: value for name, value in os.environ.items() if name not in without} | dict(
            env or {}
        )
        self.records: list[dict[str, Any]] = []
        self.other = ""
        """What it wrote to stderr and is no record."""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=self._env
        )
        self.pid = self._process.pid
        self._more = asyncio.Condition()
        self._reading = spawn(self._read(), "read the log")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            async with self._more:
                try:
                    self.records.append(json.loads(line))
                except ValueError:
                    self.other += line.decode()
                self._more.notify_all()

    @property
    def messages(self) -> list[str]:
        """The texts of the records."""
        return [record["msg"] for record in self.records]

    async def said(self, text: str, times: int = 1) -> dict[str, Any]:
        """Wait until a record whose text contains `text` was logged so many times; the last of them."""

        def found() -> list[dict[str, Any]]:
            return [record for record in self.records if text in record["msg"]]

        async with self._more:
            try:
                async with asyncio.timeout(TIMEOUT):
                    await self._more.wait_for(lambda: len(found()) >= times)
            except TimeoutError:
                raise AssertionError(f'"{text}" was not said in {self.messages} {self.other}') from None
        return found()[times - 1]

    async def address(self, service: str = "web") -> tuple[str, int] | str:
        """Where a service listens."""
        text = (await self.said(f"service {service} listens on "))["msg"].rpartition(" ")[2]
        if text.startswith("unix://"):
            return str(text.removeprefix("unix://"))
        host, _, port = text.rpartition(":")
        return host.strip("[]"), int(port)

    async def get(self, path: str = "/", service: str = "web") -> tuple[int, str]:
        """Status and body of a request on a connection of its own."""
        async with await Client.connect(await self.address(service)) as client:
            answer = await client.request(get(path))
            return answer.status, answer.body.decode()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def exited(self) -> int:
        """Wait until it ends; its status."""
        async with asyncio.timeout(TIMEOUT):
            return await self._process.wait()
