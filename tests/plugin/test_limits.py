"""Limits of the operating system, and another user: they hold from a plugin's first instruction, or it does not run."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from prox.plugin import Binding, HookError, PluginLimits, PluginSpec, PluginStartError, Process, launching
from prox.plugin.runtime import RuntimeDirectory, remove
from support.client import get
from support.other_user import (
    ALLOWING,
    NOBODY,
    needs_root,
    nobody,
    open_folder,
    python_for_nobody,
    skip_unless_nobody_can_read,
    write_program,
)
from support.plugin_host import QUICK, alive, managed, open_files, request, spec, until
from support.servers import serving
from support.upstream import Upstream

TELL = """
    import json, os, resource
    names = ["RLIMIT_AS", "RLIMIT_NOFILE", "RLIMIT_CPU"]
    status = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines())
    print(json.dumps({
        "limits": [resource.getrlimit(getattr(resource, name)) for name in names],
        "nice": os.nice(0),
        "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
        "powers": [status["CapPrm"], status["CapAmb"]],
        "ignored": status["SigIgn"],
        "files": sorted(os.readlink(f"/proc/self/fd/{n}")[:5] for n in range(3)),
        "more": [n for n in os.listdir("/proc/self/fd") if int(n) > 3],
        "leads": os.getpid() == os.getpgid(0) == os.getsid(0),
        "pid": os.getpid(),
        "environment": dict(os.environ),
        "cwd": os.getcwd(),
        "arguments": __import__("sys").argv[1:],
        "reopened": open("/dev/stderr", "w").fileno() > 2,
    }))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as path:
        yield path


async def told(program: PluginSpec) -> Any:
    """What `TELL` says as this plugin, with the directory's owner and mode."""
    runtime = RuntimeDirectory()
    lines: list[Any] = []
    process = Process(program, runtime, QUICK, lines.append)
    await process.start()
    assert process.directory is not None
    state = process.directory.stat()
    status = await asyncio.wait_for(process.wait(), 10)
    await asyncio.get_running_loop().run_in_executor(None, runtime.close)
    assert status == 0, process.stderr
    (line,) = lines
    said = json.loads(line)
    assert said["pid"] == process.pid
    return {**said, "uid": process.uid, "owner": (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode))}


async def refused(program: PluginSpec) -> str:
    """Why it can't be started."""
    runtime = RuntimeDirectory()
    process = Process(program, runtime, QUICK, lambda _line: None)
    with pytest.raises(PluginStartError) as failure:
        await process.start()
    assert process.directory is None or not process.directory.exists()
    await asyncio.get_running_loop().run_in_executor(None, runtime.close)
    return str(failure.value)


def owner_of(pid: int | None) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def limits_of(pid: int | None) -> dict[str, list[str]]:
    """The soft and the hard limit by name."""
    text = Path(f"/proc/{pid}/limits").read_text()
    return {line[:26].strip(): line[26:].split()[:2] for line in text.splitlines()}


# Limits.


async def test_limits_hold_from_its_first_instruction(tmp_path: Path) -> None:
    limits = PluginLimits(memory=1 << 30, open_files=50, cpu_time=1.2, nice=os.nice(0) + 2)
    said = await told(spec(tmp_path, TELL, limits=limits))
    assert said["limits"] == [[1 << 30] * 2, [50, 50], [2, 3]]
    assert said["nice"] == limits.nice
    assert said["uid"] == os.geteuid()


async def test_a_plugin_without_limits_has_those_of_prox(tmp_path: Path) -> None:
    said = await told(spec(tmp_path, TELL, limits=PluginLimits()))
    names = (resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_CPU)
    assert said["limits"] == [list(resource.getrlimit(name)) for name in names]
    assert said["nice"] == os.nice(0)


async def test_nothing_but_the_limits_tells_a_limited_plugin_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROX_SECRET", "hidden")
    settings: dict[str, Any] = {
        "args": ("--a", "b c", "", "ü", "\udcff", "x=y\nz"),
        "env": {"EMPTY": "", "LINES": "a\nb=c", "ODD": "\udcfe", "BIG": "x" * 100_000},
        "cwd": str(tmp_path),
    }
    one = await told(spec(tmp_path, TELL, **settings))
    other = await told(spec(tmp_path, TELL, **settings, limits=PluginLimits(nice=os.nice(0) + 1)))
    assert (one["nice"] + 1, one["arguments"]) == (other["nice"], list(settings["args"]))
    assert other["environment"]["LINES"] == "a\nb=c"
    assert "PROX_SECRET" not in other["environment"]
    for said in (one, other):
        assert said["files"] == ["pipe:"] * 3
        assert said["more"] == []
        assert said["leads"]
        for differs in ("pid", "nice"):
            del said[differs]
        assert said["environment"].pop("PROX_PLUGIN_DIR")
    assert one == other


@pytest.mark.parametrize(
    ("limits", "body", "expected"),
    [
        (PluginLimits(memory=200_000_000), "bytearray(400_000_000)", "MemoryError"),
        (
            PluginLimits(open_files=20),
            "files = [open('/dev/null') for _ in range(20)]",
            "Too many open files",
        ),
    ],
)
async def test_what_goes_beyond_a_limit_fails(
    tmp_path: Path, limits: PluginLimits, body: str, expected: str
) -> None:
    runtime = RuntimeDirectory()
    process = Process(spec(tmp_path, body, limits=limits), runtime, QUICK, lambda _line: None)
    await process.start()
    assert await process.wait() == 1
    assert expected in process.stderr[-1]
    await asyncio.get_running_loop().run_in_executor(None, runtime.close)


async def test_a_plugin_that_has_used_up_its_time_is_ended(tmp_path: Path) -> None:
    runtime = RuntimeDirectory()
    program = spec(tmp_path, "while True: pass", limits=PluginLimits(cpu_time=0.5))
    process = Process(program, runtime, QUICK, lambda _line: None)
    await process.start()
    assert await process.wait() == -signal.SIGXCPU
    await asyncio.get_running_loop().run_in_executor(None, runtime.close)


def test_other_limits_make_another_program_of_it() -> None:
    assert PluginSpec(path="/p") != PluginSpec(path="/p", limits=PluginLimits(nice=1))
    assert PluginSpec(path="/p", limits=PluginLimits(nice=1)) == PluginSpec(
        path="/p", limits=PluginLimits(nice=1)
    )
    assert not PluginLimits()
    assert PluginLimits(nice=0)


# What can't be.


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (PluginLimits(user="no-such-user"), "there is no user no-such-user"),
        (PluginLimits(group="no-such-group"), "there is no group no-such-group"),
        (PluginLimits(user="4242424242"), r"give limits\.group too"),
        (PluginLimits(user=str(2**32 - 1)), "there is no user 4294967295"),
        (PluginLimits(group=str(2**32 - 1)), "there is no group 4294967295"),
        (PluginLimits(open_files=2**62), r"limits\.open_files 4611686018427387904 is above .*LimitNOFILE"),
    ],
)
async def test_limits_that_can_not_be_say_what_to_do(
    tmp_path: Path, limits: PluginLimits, message: str
) -> None:
    said = await refused(spec(tmp_path, "", limits=limits))
    assert re.search(message, said), said


@pytest.mark.parametrize(
    ("first_line", "message"),
    [
        ("#!/no/such/interpreter", "interpreter that its first line names"),
        ("no program", "first line like #!"),
    ],
)
async def test_a_program_that_the_launcher_can_not_start(
    tmp_path: Path, first_line: str, message: str
) -> None:
    path = tmp_path / "plugin"
    path.write_text(first_line + "\n")
    path.chmod(0o755)
    assert message in await refused(PluginSpec(path=str(path), limits=PluginLimits(nice=os.nice(0) + 1)))


async def test_starts_that_fail_and_starts_that_do_not_leave_no_descriptor_behind(tmp_path: Path) -> None:
    good = spec(tmp_path, TELL, limits=PluginLimits(open_files=50))
    bad = tmp_path / "bad"
    bad.write_text("no program")
    bad.chmod(0o755)
    before = 0
    for turn in range(5):
        await told(good)
        await refused(PluginSpec(path=str(bad), limits=good.limits))
        if not turn:
            before = open_files()
    assert open_files() <= before


NOT_ROOT = """
    import asyncio, concurrent.futures.thread, os, resource, sys
    from prox.plugin import *
    from prox.plugin.runtime import RuntimeDirectory
    sys.executable = sys.argv[3]
    resource.setrlimit(resource.RLIMIT_NOFILE, (500, 500))
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    async def main():
        limits = PluginLimits(**eval(sys.argv[2]))
        runtime = RuntimeDirectory()
        process = Process(PluginSpec(path=sys.argv[1], limits=limits), runtime, Delays(), print)
        try:
            await process.start()
        except PluginStartError as error:
            print(error)
        else:
            print(await process.wait())
        finally:
            runtime.close()
    asyncio.run(main())
"""


@needs_root
@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            {"user": "root"},
            "prox runs as user 65534, who may start nothing as somebody else: run prox as root, or take",
        ),
        ({"group": "root"}, "or take limits.group out"),
        ({"user": "root", "group": "root"}, "or take limits.user and limits.group out"),
        ({"nice": -1}, "limits.nice -1: only root, or who has CAP_SYS_NICE, may put it before prox"),
        ({"open_files": 501}, "limits.open_files 501 is above what prox itself may have"),
        ({"open_files": 500, "user": NOBODY}, "0"),
    ],
)
def test_what_a_prox_that_is_not_root_can_not_do(folder: Path, limits: dict[str, Any], message: str) -> None:
    path = write_program(folder, "")
    skip_unless_nobody_can_read(Path(launching.__file__))
    ran = subprocess.run(
        [
            *(sys.executable, "-c", textwrap.dedent(NOT_ROOT)),
            *(path, repr(limits), python_for_nobody()),
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert message in ran.stdout


# Another user.


@needs_root
async def test_another_user_is_one_in_every_respect(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.setenv("USER", "root")
    monkeypatch.chdir("/")
    user = nobody()
    program = PluginSpec(path=write_program(folder, TELL), limits=PluginLimits(user=NOBODY, open_files=40))
    said = await told(program)
    groups = sorted({*os.getgrouplist(NOBODY, user.pw_gid)})
    assert said["ids"] == [[user.pw_uid] * 3, [user.pw_gid] * 3, groups]
    assert said["powers"] == ["0" * 16] * 2
    assert said["owner"] == (user.pw_uid, user.pw_gid, 0o700)
    assert said["uid"] == user.pw_uid
    assert said["limits"][1] == [40, 40]
    assert said["more"] == []
    assert said["reopened"]
    environment = said["environment"]
    assert (environment["HOME"], environment["USER"], environment["LOGNAME"]) == (
        user.pw_dir,
        NOBODY,
        NOBODY,
    )


@needs_root
async def test_users_and_groups_may_be_numbers(folder: Path) -> None:
    path = write_program(folder, TELL)
    said = await told(PluginSpec(path=path, limits=PluginLimits(user="4242424242", group="4242424241")))
    assert said["ids"] == [[4242424242] * 3, [4242424241] * 3, [4242424241]]
    assert said["environment"]["HOME"] == "/"
    assert not {"USER", "LOGNAME"} & said["environment"].keys()
    listed = await told(PluginSpec(path=path, limits=PluginLimits(user=str(nobody().pw_uid))))
    assert listed["environment"]["USER"] == NOBODY


@needs_root
async def test_a_group_alone_takes_the_others_away(folder: Path) -> None:
    said = await told(PluginSpec(path=write_program(folder, TELL), limits=PluginLimits(group="4242424241")))
    assert said["ids"] == [[0] * 3, [4242424241] * 3, [4242424241]]


async def test_prox_own_user_and_group_need_no_right(tmp_path: Path) -> None:
    own = pwd.getpwuid(os.geteuid()).pw_name
    said = await told(spec(tmp_path, TELL, limits=PluginLimits(user=own, group=str(os.getegid()))))
    assert said["ids"][0] == [os.geteuid()] * 3


@needs_root
async def test_a_working_directory_that_is_closed_to_the_user(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    path = write_program(folder, TELL)
    limits = PluginLimits(user=NOBODY)
    said = await refused(PluginSpec(path=path, limits=limits, cwd=str(closed)))
    assert f"its working directory {closed} can't be entered as user nobody: Permission denied" in said
    # prox's own is left: relative paths would get round what keeps the user out of the folders above.
    monkeypatch.chdir(closed)
    assert (await told(PluginSpec(path=path, limits=limits)))["cwd"] == "/"


@needs_root
async def test_a_program_that_the_user_may_not_run(folder: Path) -> None:
    path = write_program(folder, TELL, mode=0o700)
    said = await refused(PluginSpec(path=path, limits=PluginLimits(user=NOBODY)))
    assert f"user nobody may not run {path}" in said


@needs_root
async def test_a_directory_that_the_user_can_not_reach(folder: Path) -> None:
    runtime = folder / "closed"
    runtime.mkdir(mode=0o700)
    program = PluginSpec(path=write_program(folder, TELL), limits=PluginLimits(user=NOBODY))
    process = Process(program, RuntimeDirectory(str(runtime)), QUICK, lambda _line: None)
    with pytest.raises(PluginStartError, match="user nobody can't reach the directory for its socket"):
        await process.start()


@needs_root
async def test_hooks_of_a_plugin_of_another_user(folder: Path) -> None:
    program = PluginSpec(path=write_program(folder, ALLOWING), limits=PluginLimits(user=NOBODY))
    async with managed(Binding(route_id="web:0", plugin=program)) as manager:
        assert (await manager.on_request("web:0", request())).allow
        (state,) = manager.states()
        assert owner_of(state.pid) == nobody().pw_uid


@contextmanager
def listening(folder: Path, user: str | None) -> Iterator[str]:
    """A socket on which a process of this user listens; of the tests' own when None."""
    path = folder / "run" / "s"
    path.parent.mkdir()
    if user is not None:
        shutil.chown(path.parent, user)
    script = f"""
        import socket, time
        listener = socket.socket(socket.AF_UNIX)
        listener.bind({str(path)!r})
        listener.listen()
        print("up", flush=True)
        time.sleep(60)
    """
    command = [python_for_nobody(), "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, user=user, stdout=subprocess.PIPE, cwd="/") as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            yield str(path)
        finally:
            holder.kill()


@needs_root
@pytest.mark.parametrize("user", [NOBODY, None])
async def test_a_socket_that_another_user_listens_on_is_refused(folder: Path, user: str | None) -> None:
    """The plugin names a socket of root's; and one that runs as root names a socket of nobody's."""
    with listening(folder, NOBODY if user is None else None) as path:
        program = PluginSpec(
            path=write_program(folder, ALLOWING), env={"SOCKET": path}, limits=PluginLimits(user=user)
        )
        async with managed(Binding(route_id="web:0", plugin=program)) as manager:
            with pytest.raises(HookError, match="belongs to user") as failure:
                await manager.on_request("web:0", request())
            assert failure.value.kind == "connect"


@needs_root
async def test_a_plugin_of_another_user_is_stopped(folder: Path) -> None:
    body = """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(os.fork() or os.getpid(), flush=True)
        time.sleep(60)
    """
    program = PluginSpec(path=write_program(folder, body), limits=PluginLimits(user=NOBODY))
    runtime = RuntimeDirectory()
    lines: list[Any] = []
    process = Process(program, runtime, QUICK, lines.append)
    await process.start()
    await until(lambda: len(lines) == 2)
    await asyncio.wait_for(process.stop(), 3)
    assert process.returncode == -signal.SIGKILL
    await until(lambda: not any(alive(int(line)) for line in lines))
    await asyncio.get_running_loop().run_in_executor(None, runtime.close)
    assert runtime.path is None


CAPABLE = """
    import asyncio, os, sys
    from prox.plugin import *
    from support.plugin_host import request
    async def main():
        plugin = PluginSpec(path=sys.argv[1], limits=PluginLimits(user="4242424242", group="4242424242"))
        async with Manager() as manager:
            await manager.reconfigure([Binding(route_id="web:0", plugin=plugin)], {})
            assert (await manager.on_request("web:0", request())).allow
            (state,) = manager.states()
            status = dict(line.split(":\\t") for line in open(f"/proc/{state.pid}/status").read().splitlines())
            print(os.getuid(), status["Uid"].split(), status["CapPrm"], status["CapEff"], status["CapAmb"])
            own = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines())
            print(own["CapEff"])
    asyncio.run(main())
"""


@needs_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
@pytest.mark.parametrize("root", [False, True])
def test_capabilities_of_prox_are_not_handed_on(folder: Path, root: bool) -> None:
    """What lets a prox that is not root change users would let the plugin become root; and so few are enough."""
    path = write_program(folder, ALLOWING)
    powers = ",".join(f"+{name}" for name in ("setuid", "setgid", "chown", "kill", "dac_override"))
    user = nobody()
    ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    if root:
        setting = ["--inh-caps=-all", f"--bounding-set=-all,{powers}"]
    else:
        setting = [*ids, f"--inh-caps={powers}", f"--ambient-caps={powers}"]
    ran = subprocess.run(
        ["setpriv", *setting, sys.executable, "-c", textwrap.dedent(CAPABLE), path],
        env={**os.environ, "PYTHONPATH": f"{Path(__file__).parents[1]}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert ran.returncode == 0, ran.stderr
    first, second = ran.stdout.splitlines()
    assert first == f"{0 if root else user.pw_uid} {['4242424242'] * 4} {'0' * 16} {'0' * 16} {'0' * 16}"
    assert int(second, 16) != 0


async def test_the_removal_of_a_directory_follows_no_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    directory = tmp_path / "1"
    (directory / "a").mkdir(parents=True)
    (directory / "a" / "link").symlink_to(precious)
    (directory / "top").symlink_to(precious / "file")
    await asyncio.get_running_loop().run_in_executor(None, remove, directory)
    assert not directory.exists()
    assert (precious / "file").exists()


# From the configuration.


@needs_root
async def test_limits_of_the_configuration_reach_the_process(folder: Path) -> None:
    path = write_program(folder, ALLOWING)
    limits = {"user": NOBODY, "open_files": 99, "cpu_time": "1h", "nice": os.nice(0) + 1}
    async with Upstream() as upstream:
        root = {"plugins": {"guard": {"path": path, "limits": limits}}}
        async with serving(upstream.address, root=root, plugins=["guard"]) as prox:
            async with await prox.connect() as client:
                assert (await client.request(get())).status == 200
            (state,) = prox.application.manager.states()
            rows = limits_of(state.pid)
            assert rows["Max open files"] == ["99", "99"]
            assert rows["Max cpu time"] == ["3600", "3601"]
            assert owner_of(state.pid) == nobody().pw_uid
