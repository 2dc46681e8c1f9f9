"""What tests of the host share: plugins written into a folder, short delays, balancers that remember, waiting."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prox.plugin import Binding, Delays, Manager, PluginSpec, RouteInfo
from prox.wire import RequestInfo

QUICK = Delays(
    restart_first=0.05,
    restart_most=0.2,
    restart_jitter=0.0,
    steady_after=10.0,
    ready_grace=0.3,
    stop_eof=0.5,
    stop_term=0.3,
    stop_kill=2.0,
    retire=1.0,
    flush=0.5,
    guardian_term=0.3,
)

ALLOW = """
    from plugin_child import *
    run(lambda hook, call: {"ok": True, "h": {"X-Seen": call["r"]}}, "on_request")
"""


class Balancer:
    """Remembers what was pushed."""

    def __init__(self) -> None:
        self.targets: list[str] | None = None
        self.groups: dict[str, list[str]] | None = None
        self.history: list[list[str]] = []

    def set_targets(self, targets: Sequence[str]) -> None:
        self.targets = list(targets)
        self.history.append(self.targets)

    def set_groups(self, groups: Mapping[str, Sequence[str]]) -> None:
        self.groups = {key: list(targets) for key, targets in groups.items()}


def write_plugin(folder: Path, body: str, name: str = "plugin") -> str:
    """An executable Python program that can import `plugin_child`; its path.

    It takes the place of another in one step: a process that is just being started reads one of both, never half a file.
    """
    path = folder / name
    support = Path(__file__).parent
    written = folder / f".{name}.written"
    written.write_text(
        f"#!{sys.executable}\nimport os, sys\nsys.path.insert(0, {str(support)!r})\n{textwrap.dedent(body)}"
    )
    written.chmod(0o755)
    written.replace(path)
    return str(path)


def spec(folder: Path, body: str = ALLOW, name: str = "plugin", **settings: Any) -> PluginSpec:
    return PluginSpec(path=write_plugin(folder, body, name), alias=name, **settings)


def request(route_id: str = "web:0", path: str = "/", **more: Any) -> RequestInfo:
    fields: dict[str, Any] = {
        "method": "GET",
        "domain": "a.test",
        "remote_addr": "192.0.2.1:1",
        "headers": {},
    }
    return RequestInfo(route_id=route_id, path=path, **(fields | more))


@asynccontextmanager
async def managed(
    *bindings: Binding, routes: Mapping[str, RouteInfo] | None = None, delays: Delays = QUICK
) -> AsyncIterator[Manager]:
    manager = Manager(delays=delays)
    manager.configure(bindings, routes or {})
    async with manager:
        yield manager


async def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait until a condition holds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        assert loop.time() < end, "the condition did not come true in time"
        await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {b"Z", b"X"}


async def freeze(pid: int) -> None:
    """Stop a process as a debugger does, and wait until all of its threads stand still."""
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: _frozen(pid))


def _frozen(pid: int) -> bool:
    stats = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(stat.read_bytes().rpartition(b")")[2].split()[0] == b"T" for stat in stats)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
