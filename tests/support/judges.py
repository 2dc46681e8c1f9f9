"""Programs that others wrote and that the conformance tests run: where they are, and what happens where they are not."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

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
