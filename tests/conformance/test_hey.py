"""hey counts what comes back under load: every request is answered, and answered well."""

from __future__ import annotations

import re

import pytest

from support.judges import run, tool
from support.servers import serving
from support.upstream import OK, Upstream, answering


@pytest.mark.parametrize(
    "options",
    [[], ["-disable-keepalive"], ["-m", "POST", "-d", "x" * 5000]],
    ids=["get", "a connection each", "post"],
)
async def test_all_are_answered(options: list[str]) -> None:
    number = 2000
    async with Upstream(answering(OK)) as upstream, serving(upstream.address) as prox:
        assert isinstance(prox.address, tuple)
        url = f"http://127.0.0.1:{prox.address[1]}/"
        out = (await run(tool("hey"), "-n", str(number), "-c", "20", *options, url)).decode()
        assert re.findall(r"\[(\d+)\]\s+(\d+) responses", out) == [("200", str(number))], out
        assert "Error distribution" not in out
        assert len(upstream.requests) == number
        await prox.quiet()
