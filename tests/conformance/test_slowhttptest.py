"""slowhttptest's attacks end by the deadlines of the configuration, and other clients are served meanwhile."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from prox.http import upload
from prox.tasks import spawn
from support.client import get
from support.judges import takes_minutes, tool
from support.served_files import make_root
from support.servers import Running, serving, until
from support.upstream import Upstream

CONNECTIONS = 200
PATIENCE = 6.0
"""Seconds within which another client has its answer, on a machine that is busy with the attack."""


async def attack(prox: Running, *options: str, seconds: int, path: str) -> str:
    """Run slowhttptest to its end; how it says that it ended."""
    assert isinstance(prox.address, tuple)
    process = await asyncio.create_subprocess_exec(
        *(tool("slowhttptest"), "-u", f"http://127.0.0.1:{prox.address[1]}{path}", "-c", str(CONNECTIONS)),
        *("-r", str(CONNECTIONS), "-l", str(seconds), "-p", "2", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    served = spawn(_serve_others(prox), "serve others")
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        served.cancel()
    with pytest.raises(asyncio.CancelledError):  # nothing else ended it
        await served
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.decode(errors="replace"))
    assert "service available:   NO" not in text, text
    return text[text.rfind("Test ended") :]


async def _serve_others(prox: Running) -> None:
    """Another client, again and again, until it is cancelled."""
    while True:
        async with asyncio.timeout(PATIENCE), await prox.connect() as client:
            assert (await client.request(get())).status == 200
        await asyncio.sleep(0.02)


async def check(prox: Running, *options: str, seconds: int = 12) -> None:
    """No connection of the attack is left when its deadline has come: slowhttptest ends because of that."""
    end = await attack(prox, *options, seconds=seconds, path="/")
    assert "No open connections left" in end, end
    await prox.quiet()


@asynccontextmanager
async def proxying(**tuning: object) -> AsyncIterator[Running]:
    async with Upstream() as upstream, serving(upstream.address, config=tuning) as prox:
        yield prox


HEADERS = ("-H", "-i", "1", "-x", "10")
BODY = ("-B", "-i", "1", "-s", "100000", "-x", "4")
READ = ("-X", "-w", "10", "-y", "20", "-n", "1", "-z", "5")


async def test_slow_headers() -> None:
    async with proxying(read_header_timeout="2s") as prox:
        await check(prox, *HEADERS)


async def test_slow_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "BODY_GRACE", 2.0)
    async with proxying() as prox:
        await check(prox, *BODY)


async def test_slow_bodies_within_a_time() -> None:
    async with proxying(read_timeout="2s", min_body_rate=0) as prox:
        await check(prox, *BODY)


async def test_slow_reads(tmp_path: Path) -> None:
    """Of an answer that does not fit into what systems buffer."""
    make_root(tmp_path)
    routes = {"action": {"type": "serve", "root": str(tmp_path / "root")}}
    async with serving(routes, config={"write_timeout": "2s"}) as prox:
        attacking = spawn(attack(prox, *READ, seconds=5, path="/big.bin"), "attack")
        await until(
            lambda: len(prox.entry.connections) >= CONNECTIONS // 2
        )  # the first may have gone before the last come
        # slowhttptest itself does not notice that it was reset.
        await until(lambda: len(prox.entry.connections) < 3, "slow readers are left")
        assert not attacking.done()
        await attacking


@takes_minutes
@pytest.mark.timeout(150)
@pytest.mark.parametrize("options", [HEADERS, BODY], ids=["headers", "bodies"])
def test_the_defaults(options: tuple[str, ...]) -> None:
    async def main() -> None:
        async with proxying() as prox:
            await check(prox, *options, seconds=90)

    uvloop.run(main())
