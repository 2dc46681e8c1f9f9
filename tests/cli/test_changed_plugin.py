"""`prox serve` and a plugin whose program changes: seen as a changed file, or at SIGHUP."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from support.client import Client, get
from support.prox_process import ProxProcess
from support.servers import make_config
from support.small_guard import write_small_guard
from support.upstream import Upstream


async def guard_of(prox: ProxProcess, upstream: Upstream) -> str:
    """The number of the guard that lets a request through."""
    async with await Client.connect(await prox.address()) as client:
        assert (await client.request(get())).status == 200
    return dict(upstream.requests[-1].headers)[b"X-Guard"].decode()


def write_config(folder: Path, upstream: str) -> Path:
    action = {"type": "proxy", "upstream": upstream}
    config = make_config(
        {"plugins": ["guard"], "action": action}, root={"plugins": {"guard": {"path": "guard"}}}
    )
    path = folder / "config.json5"
    path.write_text(json.dumps(config))
    return path


@pytest.mark.parametrize("arguments", [(), ("--no-watch",)])
async def test_a_changed_program_is_swapped(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    write_small_guard(tmp_path, 1)
    async with (
        Upstream() as upstream,
        ProxProcess(write_config(tmp_path, upstream.address), *arguments) as prox,
    ):
        assert await guard_of(prox, upstream) == "1"
        write_small_guard(tmp_path, 2)
        if arguments:
            prox.signal(signal.SIGHUP)
        await prox.said("plugin guard is swapped")
        assert await guard_of(prox, upstream) == "2"
        assert ("reloading: guard changed" in prox.messages) != bool(arguments)
        assert "plugin guard: its program has changed, the new version is started" in prox.messages
        prox.signal(signal.SIGTERM)
        assert await prox.exited() == 0


async def test_a_changed_program_that_does_not_start_leaves_the_old_one(tmp_path: Path) -> None:
    write_small_guard(tmp_path, 1)
    async with Upstream() as upstream, ProxProcess(write_config(tmp_path, upstream.address)) as prox:
        assert await guard_of(prox, upstream) == "1"
        (tmp_path / "guard").write_text("#!/bin/sh\nexit 3\n")
        await prox.said("plugin guard: the swap failed: the new process has exited (status 3)")
        assert await guard_of(prox, upstream) == "1"
        write_small_guard(tmp_path, 2)
        await prox.said("plugin guard is swapped")
        assert await guard_of(prox, upstream) == "2"
