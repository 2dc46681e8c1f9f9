"""Programs that others wrote and that the conformance tests run: where they are, and what happens where they are not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.servers import until

ROOT = Path(__file__).parent.parent.parent
TOOLS = ROOT / "build" / "tools"
"""Where script/conformance puts what no package manager has."""

takes_minutes = pytest.mark.skipif(
    not os.environ.get("PROX_CONFORMANCE"), reason="takes minutes: script/conformance runs it"
)


def tool(name: str) -> str:
    """The path of a program; the test that asks is skipped, and says so, where it is not installed."""
    found = shutil.which(name, path=f"{TOOLS}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    if found is None:
        pytest.skip(f"there is no {name}: script/conformance installs it")
    return found


def import_path() -> None:
    """Make importable what script/conformance has installed beside the environment."""
    path = str(TOOLS / "python")
    if path not in sys.path:
        sys.path.append(path)


async def run(*command: str, given: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
    """Run a program to its end; what it wrote. It must end well."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE if given else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=None if env is None else {**os.environ, **env},
    )
    try:
        out, err = await process.communicate(given or None)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{command}: {err.decode()} {out.decode()[-2000:]}"
    return out


@asynccontextmanager
async def serving_port(command: Sequence[str]) -> AsyncIterator[str]:
    """Run a server that writes the port that it listens on, on 127.0.0.1; its address."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        yield f"127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def toxiproxy() -> AsyncIterator[Toxiproxy]:
    """A toxiproxy, which stands between two peers and spoils what passes."""
    process = await asyncio.create_subprocess_exec(
        *(tool("toxiproxy-server"), "-host", "127.0.0.1", "-port", "0"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await until(lambda: _listening_port(process.pid), "toxiproxy does not listen")
        port = _listening_port(process.pid)
        async with httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{port}") as client:
            yield Toxiproxy(client)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Toxiproxy:
    """Its API.

    Args:
        client: speaks to it.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def before(self, address: str, name: str = "it") -> tuple[str, int]:
        """Stand in front of `address`; where it listens."""
        said = await self._post("/proxies", {"name": name, "listen": "127.0.0.1:0", "upstream": address})
        host, _, port = str(said["listen"]).rpartition(":")
        return host, int(port)

    async def spoil(self, toxic: str, stream: str, name: str = "it", **attributes: int) -> None:
        """Add a toxic to what goes `upstream` or `downstream`."""
        await self._post(
            f"/proxies/{name}/toxics", {"type": toxic, "stream": stream, "attributes": attributes}
        )

    async def refuse(self, name: str = "it") -> None:
        """Take no connections any more, and end those that are open."""
        await self._post(f"/proxies/{name}", {"enabled": False})

    async def _post(self, path: str, content: Mapping[str, object]) -> dict[str, Any]:
        answer = await self._client.post(path, json=content)
        answer.raise_for_status()
        said: dict[str, Any] = answer.json()
        return said


def _listening_port(pid: int) -> int | None:
    """The port of the one socket on which a process listens."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it has been closed
            inodes.add(entry.readlink().name.removeprefix("socket:[").removesuffix("]"))
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *rest = line.split()
        if state == "0A" and rest[5] in inodes:
            return int(local.partition(":")[2], 16)
    return None
