"""h2spec breaks the rules of RFC 9113 and of HPACK one by one and looks at what comes back, through a proxied upstream."""

from __future__ import annotations

import asyncio
import re

from support.judges import tool
from support.servers import Running, serving
from support.upstream import Upstream, answer, answering

WITHOUT_PREFACE = [
    "generic",
    "hpack",
    "http2/3.5/1",
    *[f"http2/{section}" for section in (4, 5, 6, 7, 8)],
]
"""All but the wrong preface: where a plain port speaks HTTP/1.1 too it is a bad HTTP/1.1 request, answered as one."""


async def judge(prox: Running, *arguments: str) -> int:
    """Run h2spec with its strict cases; how many there were, all of which passed."""
    assert isinstance(prox.address, tuple)
    process = await asyncio.create_subprocess_exec(
        *(
            tool("h2spec"),
            "--strict",
            "--host",
            "127.0.0.1",
            "--port",
            str(prox.address[1]),
            "--timeout",
            "5",
        ),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        out = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    counted = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", out)
    assert counted is not None, out
    number, passed, skipped, failed = map(int, counted.groups())
    assert (passed, skipped, failed) == (number, 0, 0), out[out.find("Failures:") :]
    return number


async def test_with_prior_knowledge() -> None:
    async with (
        Upstream(answering(answer(b"x" * 64))) as upstream,
        serving(upstream.address, config={"h2c": True}) as prox,
    ):
        assert await judge(prox, *WITHOUT_PREFACE) == 145
        await prox.quiet()


async def test_over_tls() -> None:
    async with (
        Upstream(answering(answer(b"x" * 64))) as upstream,
        serving(upstream.address, tls=True) as prox,
    ):
        assert await judge(prox, "--tls", "--insecure") == 146
        await prox.quiet()
