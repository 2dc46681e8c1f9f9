"""Requests without pause through the proxy while its guard is killed, hung, swapped and reloaded.

The upstream counts what comes without the header that only the guard sets, and what comes twice.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from prox.app.application import Application
from prox.app.loading import load_served
from prox.plugin import Delays, Manager, PluginState
from prox.tasks import spawn
from support.client import Client, CutError, get
from support.plugin_host import QUICK, until
from support.servers import make_config
from support.small_guard import write_small_guard

DEADLINE = 0.1
"""The route's `plugin_timeout`."""
MARGIN = 3.0
"""Seconds that a busy machine may add to a request; one that waits for no deadline waits for ever."""
HASTY = replace(
    QUICK,
    restart_first=0.001,
    restart_most=0.002,
    stop_eof=0.02,
    stop_term=0.02,
    probe=0.02,
    probe_again=0.01,
    mute_after=0.02,
)


PATIENT = replace(HASTY, stop_eof=5.0, stop_term=5.0, retire=15.0)
"""For what must not be lost, however busy the machine is."""


class Backend(asyncio.Protocol):
    """An upstream that allows nothing to be forgotten.

    Attributes:
        guards: requests by the value of `X-Guard`.
        seen: how often each request came.
    """

    def __init__(self, guards: Counter[str], seen: Counter[str]) -> None:
        self.guards = guards
        self.seen = seen
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment] # a stream's transport

    def data_received(self, data: bytes) -> None:
        *heads, self._rest = (self._rest + data).split(b"\r\n\r\n")
        for head in heads:
            names = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
            headers = [(name.lower(), value.strip().decode()) for name, _, value in names]
            found = [value for name, value in headers if name == b"x-guard"]
            self.guards[",".join(found) or "none"] += 1
            self.seen[dict(headers)[b"x-number"]] += 1
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


class Soak:
    """A prox with a guard on its only route, and clients that never pause.

    Attributes:
        statuses: answers by status.
        longest: seconds that a request took at most.
        guards: what the upstream saw.
        seen: requests that the upstream saw.
    """

    def __init__(self, folder: Path, deadline: float, delays: Delays) -> None:
        self.folder = folder
        self.deadline = deadline
        self.manager = Manager(delays=delays)
        self.application = Application(self.manager)
        self.statuses: Counter[int] = Counter()
        self.guards: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.longest = 0.0
        self.over = False
        self._sent = 0
        self._version = 1

    def state(self) -> PluginState:
        return self.manager.states()[0]

    async def apply(self, upstream: str, routes: int) -> None:
        """Put a configuration with so many routes in force; the guarded one is the last of them."""
        route: dict[str, Any] = {
            "plugins": ["guard"],
            "plugin_timeout": f"{self.deadline * 1000:.0f}ms",
            "action": {"type": "proxy", "upstream": upstream},
        }
        others = [{**route, "match": {"path": f"/other/{number}"}} for number in range(routes - 1)]
        guard = {"path": "guard", "own_headers": ["X-Guard"]}
        config = make_config([*others, route], root={"plugins": {"guard": guard}})
        loaded = await asyncio.get_running_loop().run_in_executor(None, load_served, config, self.folder)
        await self.application.apply(loaded.config)

    async def client(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.over:
            async with await Client.connect(self.application.addresses["web"]) as client:
                while not self.over:
                    self._sent += 1
                    began = loop.time()
                    try:
                        answer = await client.request(get("/", f"X-Number: {self._sent}", "x_guard: forged"))
                    except CutError:
                        break
                    self.longest = max(self.longest, loop.time() - began)
                    self.statuses[answer.status] += 1

    async def ready(self) -> int:
        """Wait until the guard answers again; its process."""
        before = self.statuses[200]
        await until(lambda: self.statuses[200] > before + 4 and self.state().state == "ready")
        return self.state().pid or 0

    async def swap(self) -> None:
        self._version += 1
        write_small_guard(self.folder, self._version)
        await self.manager.swap("guard")


@asynccontextmanager
async def soaking(
    folder: Path, deadline: float = DEADLINE, delays: Delays = HASTY
) -> AsyncIterator[tuple[Soak, str]]:
    write_small_guard(folder)
    soak = Soak(folder, deadline, delays)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Backend(soak.guards, soak.seen), "127.0.0.1", 0)
    upstream = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await soak.manager.start()
    try:
        await soak.apply(upstream, 1)
        clients = [spawn(soak.client(), "client") for _ in range(6)]
        yield soak, upstream
        soak.over = True
        await asyncio.gather(*clients)
    finally:
        await soak.application.stop(0)
        server.close()


@pytest.mark.alone
async def test_no_request_passes_unguarded_whatever_happens_to_the_guard(tmp_path: Path) -> None:
    events = ["kill"] * 35 + ["hang"] * 15 + ["swap"] * 25 + ["reload"] * 25
    Random(4).shuffle(events)
    async with soaking(tmp_path) as (soak, upstream):
        for number, event in enumerate(events):
            pid = await soak.ready()
            if event == "kill":
                os.kill(pid, signal.SIGKILL)
                await until(lambda pid=pid: soak.state().pid != pid)  # type: ignore[misc] # a lambda with a default
            elif event == "hang":
                os.kill(pid, signal.SIGSTOP)
                await until(lambda pid=pid: soak.state().pid != pid)  # type: ignore[misc] # a lambda with a default
            elif event == "swap":
                await soak.swap()
            else:
                await soak.apply(upstream, 1 + number % 3)
        await soak.ready()
    state = soak.state()
    assert set(soak.statuses) <= {200, 503}
    assert soak.statuses[200] > 5 * len(events)
    assert soak.statuses[503]
    assert all(guard.isdigit() for guard in soak.guards), soak.guards
    assert len(soak.guards) > 20
    assert max(soak.seen.values()) == 1
    assert soak.longest < DEADLINE + MARGIN
    assert state.swaps == 25
    assert state.restarts >= 50
    assert state.unresponsive >= 15


async def test_twenty_swaps_lose_no_request(tmp_path: Path) -> None:
    async with soaking(tmp_path, 10.0, PATIENT) as (soak, _):
        for _ in range(20):
            await soak.ready()
            await soak.swap()
        await soak.ready()
    assert set(soak.statuses) == {200}
    assert set(soak.guards) == {str(number) for number in range(1, 22)}
    assert set(soak.seen.values()) == {1}
    assert len(soak.seen) == soak.statuses[200]
    assert (soak.state().swaps, soak.state().restarts) == (20, 0)
