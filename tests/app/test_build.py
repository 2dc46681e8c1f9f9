"""Building: what is refused, and that a large configuration holds nothing up."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

import prox
from support.client import Client, get
from support.servers import make_config, read_log, serving


def text(body: str, **route: Any) -> dict[str, Any]:
    return {"action": {"type": "static", "body_ref": {"text": body}}, **route}


def make_pipe(path: Path) -> Path:
    """A log file that can't be opened: nobody reads it."""
    os.mkfifo(path)
    return path


async def test_every_log_that_cant_be_opened_is_an_error(tmp_path: Path) -> None:
    for name in ("a.pipe", "c.pipe"):
        make_pipe(tmp_path / name)
    config = make_config([text("x", access_log=name) for name in ("a.pipe", "b.log", "c.pipe", "a.pipe")])
    with pytest.raises(prox.StartError) as caught:
        await prox.Server(config, base=tmp_path).start()
    assert str(caught.value) == "; ".join(
        f"can't open the log file: it is a pipe that nobody reads, or a socket: {tmp_path}/{name}"
        for name in ("a.pipe", "c.pipe")
    )


async def test_logs_of_a_refused_configuration_are_closed(tmp_path: Path) -> None:
    make_pipe(tmp_path / "b.log")
    async with prox.Server(make_config(text("x")), base=tmp_path) as server:
        with pytest.raises(prox.StartError):
            await server.reload(make_config([text("a", access_log="a.log"), text("b", access_log="b.log")]))
        assert list(server.application.logs) == []


@pytest.mark.parametrize(
    ("route", "action", "root", "written"),
    [
        ("route.log", "action.log", "root.log", "route.log"),
        (None, "action.log", "root.log", "action.log"),
        (None, None, "root.log", "root.log"),
        ("off", "action.log", "root.log", None),
        (None, "off", "root.log", None),
    ],
)
async def test_the_access_log_of_the_route_beats_the_actions_and_the_roots(
    tmp_path: Path, route: str | None, action: str | None, root: str | None, written: str | None
) -> None:
    wanted = text("x")
    wanted["action"] |= {"access_log": action} if action else {}
    wanted |= {"access_log": route} if route else {}
    async with (
        serving(wanted, base=tmp_path, root={"logging": {"access_log": root}}) as running,
        await running.connect() as client,
    ):
        await client.request(get("/"))
    found = {name for name in ("route.log", "action.log", "root.log") if read_log(tmp_path / name)}
    assert found == ({written} if written else set())


@pytest.mark.alone
@pytest.mark.alone
async def test_ten_thousand_routes_hold_no_request_up() -> None:
    """They are loaded and built in a thread; the loop waits for none of it but the swap."""
    action = {"type": "proxy", "upstream": "{target}"}
    routes = [
        {
            "match": {"domain": f"host{number}.example.com", "path": "/api/*"},
            "balancer": {"type": "leastconn", "targets": [f"10.0.{number // 250}.{number % 250}:80"]},
            "action": "pool",
        }
        for number in range(10_000)
    ]
    large = make_config([*routes, text("last")], root={"actions": {"pool": action}})
    async with (
        prox.Server(make_config(text("first"))) as server,
        await Client.connect(server.addresses["web"]) as client,
    ):
        reloading = asyncio.get_running_loop().create_task(server.reload(large))
        began = time.monotonic()
        longest = 0.0
        while not reloading.done():
            before = time.monotonic()
            await client.request(get("/"))
            longest = max(longest, time.monotonic() - before)
            await asyncio.wait({reloading}, timeout=0.005)
        await reloading
        assert (await client.request(get("/"))).body == b"last"
        assert longest < 0.5
        assert time.monotonic() - began < 15
