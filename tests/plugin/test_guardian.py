"""The guardian: nothing that a plugin started is left when prox is gone, after SIGKILL too."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from prox.plugin import Binding, Manager
from prox.plugin.guardian import Guardian
from support.other_user import NOBODY, needs_root, open_folder, write_program
from support.plugin_host import QUICK, alive, spec, until, write_plugin

HOST = """
    import asyncio, os, sys
    from prox.plugin import *
    async def main():
        manager = Manager(delays=Delays(guardian_term=0.2))
        limits = PluginLimits(user=sys.argv[2]) if sys.argv[2:] else None
        plugin = PluginSpec(path=sys.argv[1], limits=limits, start_timeout=1)
        manager.configure([Binding(route_id="web:0", plugin=plugin)], {})
        await manager.start()
        print(manager._runtime.path, flush=True)
        await asyncio.sleep(60)
    asyncio.run(main())
"""

FAMILY = """
    import signal, subprocess, time
    from plugin_child import *
    for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "60"])
    stray = subprocess.Popen(["sleep", "60"], start_new_session=True)
    with open(os.path.join(os.path.dirname(__file__), "pids"), "w") as file:
        print(os.getpid(), child.pid, stray.pid, file=file)
    listener, path = listen()
    for _ in configures():
        acknowledge()
        ready(path, "on_request")
    time.sleep(60)
"""


async def test_no_orphan_is_left_after_sigkill_of_the_host(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, FAMILY)
    host = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(HOST), path, stdout=subprocess.PIPE
    )
    assert host.stdout is not None
    directory = Path((await host.stdout.readline()).decode().strip())
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 3
    assert all(alive(pid) for pid in pids)
    host.kill()
    await host.wait()
    await until(lambda: not any(alive(pid) for pid in pids) and not directory.exists())


STUBBORN = """
    import os, signal, subprocess, sys, time
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "60"])
    stray = subprocess.Popen(["sleep", "60"], start_new_session=True)
    with open(os.environ["PROX_PLUGIN_DIR"] + "/pids", "w") as file:
        print(os.getpid(), child.pid, stray.pid, file=file)
    for line in sys.stdin:
        print('{"result": "ok"}')
        print('{"method": "ready", "params": {"socket": "/none", "hooks": []}}', flush=True)
    time.sleep(60)
"""


@needs_root
async def test_no_orphan_of_another_user_is_left_after_sigkill_of_the_host() -> None:
    with open_folder() as folder:
        path = write_program(folder, STUBBORN)
        host = await asyncio.create_subprocess_exec(
            sys.executable, "-c", textwrap.dedent(HOST), path, NOBODY, stdout=subprocess.PIPE
        )
        assert host.stdout is not None
        directory = Path((await host.stdout.readline()).decode().strip())
        pids = [int(word) for word in (directory / "1" / "pids").read_text().split()]
        assert len(pids) == 3
        assert all(alive(pid) for pid in pids)
        host.kill()
        await host.wait()
        await until(lambda: not any(alive(pid) for pid in pids) and not directory.exists())


async def test_it_follows_no_link_when_it_removes_the_directory(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    directory = tmp_path / "run"
    (directory / "1").mkdir(parents=True)
    (directory / "1" / "folder").symlink_to(precious)
    (directory / "1" / "file").symlink_to(precious / "file")
    guardian = Guardian(directory, QUICK)
    await guardian.start()
    await guardian.stop()
    assert not directory.exists()
    assert (precious / "file").exists()


async def test_a_stop_ends_what_left_its_group(tmp_path: Path) -> None:
    manager = Manager(delays=QUICK)
    manager.configure([Binding(route_id="web:0", plugin=spec(tmp_path, FAMILY))], {})
    await manager.start()
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    await manager.stop()
    assert not any(alive(pid) for pid in pids)


async def test_a_guardian_that_dies_is_replaced_and_told_all(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    guardian = Guardian(directory, QUICK)
    guarded = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    guardian.add(guarded.pid)
    await guardian.start()
    first = guardian.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: guardian.pid != first)
    assert alive(guarded.pid)
    await guardian.stop()
    assert await asyncio.wait_for(guarded.wait(), 3) == -signal.SIGTERM
    assert not directory.exists()


async def test_it_ignores_the_signals_that_end_prox(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    guardian = Guardian(directory, QUICK)
    await guardian.start()
    pid = guardian.pid
    assert pid is not None
    await until(lambda: b"_guard.py" in Path(f"/proc/{pid}/cmdline").read_bytes())
    ignored = 1 << (signal.SIGTERM - 1)

    def ignores() -> bool:
        status = Path(f"/proc/{pid}/status").read_text()
        return bool(int(status.split("SigIgn:")[1].split()[0], 16) & ignored)

    await until(ignores)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    await asyncio.sleep(0.02)
    assert alive(pid)
    await guardian.stop()
    assert not alive(pid)
