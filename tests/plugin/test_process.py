"""One process of a plugin: its environment, its pipes, its end, whatever it does."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from prox.plugin import Delays, PluginSpec, PluginStartError, Process
from prox.plugin.runtime import RuntimeDirectory
from prox.wire import OversizeLine
from support.plugin_host import QUICK, alive, open_files, spec, until, write_plugin


class Run:
    """A process and the lines that it wrote."""

    def __init__(self, program: PluginSpec, delays: Delays = QUICK) -> None:
        self.runtime = RuntimeDirectory()
        self.lines: list[bytes | OversizeLine] = []
        self.process = Process(program, self.runtime, delays, self.lines.append)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.runtime.close)


@asynccontextmanager
async def running(program: PluginSpec, delays: Delays = QUICK) -> AsyncIterator[Run]:
    run = Run(program, delays)
    await run.process.start()
    try:
        yield run
    finally:
        await run.process.stop()
        await run.close()


def members(group: int) -> list[int]:
    """The processes of a group that are no zombies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in {b"Z", b"X"}:
            found.append(int(folder.name))
    return found


async def test_it_gets_a_clean_environment_and_a_private_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROX_SECRET", "hidden")
    monkeypatch.setenv("LC_TIME", "C")
    monkeypatch.setenv("APP_ONE", "1")
    monkeypatch.setenv("APP_TWO", "2")
    body = """
        import json
        where = os.environ["PROX_PLUGIN_DIR"]
        modes = [os.stat(where).st_mode, os.stat(where + "/..").st_mode]
        print(json.dumps([dict(os.environ), os.getcwd(), sys.argv[1:], *modes]))
    """
    program = spec(
        tmp_path, body, args=("--a", "b c"), env={"EXTRA": "x"}, env_pass=("APP_*",), cwd=str(tmp_path)
    )
    async with running(program) as run:
        assert await run.process.wait() == 0
        [line] = run.lines
        assert isinstance(line, bytes)
        environment, cwd, arguments, own, parent = json.loads(line)
        assert environment["EXTRA"] == "x"
        assert environment["APP_ONE"] + environment["APP_TWO"] == "12"
        assert environment["LC_TIME"] == "C"
        assert environment["PATH"] == os.environ["PATH"]
        assert "PROX_SECRET" not in environment
        assert Path(environment["PROX_PLUGIN_DIR"]) == run.process.directory
        assert cwd == str(tmp_path)
        assert arguments == ["--a", "b c"]
        assert stat.S_IMODE(own) == 0o700
        assert stat.S_IMODE(parent) == 0o711


async def test_it_has_only_its_three_pipes_and_leads_its_own_group(tmp_path: Path) -> None:
    body = """
        import json
        print(json.dumps([sorted(map(int, os.listdir("/proc/self/fd"))), os.getpid(), os.getpgid(0), os.getsid(0)]))
    """
    inherited = os.dup(0)
    os.set_inheritable(inherited, True)
    try:
        async with running(spec(tmp_path, body)) as run:
            await run.process.wait()
    finally:
        os.close(inherited)
    [line] = run.lines
    assert isinstance(line, bytes)
    files, pid, group, session = json.loads(line)
    assert files[:3] == [0, 1, 2]
    assert len(files) == 4  # the listing itself is open, too
    assert pid == group == session == run.process.pid


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such file"),
        (lambda p: p.write_text("x"), "not executable"),
        (lambda p: p.mkdir(), "is a folder"),
        (lambda p: p.with_name("plugin.go").write_text("package main"), "prox build"),
        (lambda p: (p.write_text("#!/no/such/interpreter\n"), p.chmod(0o755)), "interpreter"),
        (lambda p: (p.write_text("no program"), p.chmod(0o755)), "first line like #!"),
    ],
)
async def test_what_can_not_be_started_says_what_to_do(tmp_path: Path, make: object, message: str) -> None:
    path = tmp_path / "plugin"
    assert callable(make)
    make(path)
    run = Run(PluginSpec(path=str(path)))
    with pytest.raises(PluginStartError, match=message):
        await run.process.start()
    await run.close()


async def test_go_source_needs_to_be_built(tmp_path: Path) -> None:
    path = tmp_path / "guard.go"
    path.write_text("package main")
    run = Run(PluginSpec(path=str(path)))
    with pytest.raises(PluginStartError, match="`prox build`"):
        await run.process.start()


async def test_a_working_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    run = Run(spec(tmp_path, "", cwd=str(tmp_path / "nowhere")))
    with pytest.raises(PluginStartError, match="nowhere"):
        await run.process.start()


@pytest.mark.parametrize(("body", "status"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", -9)])
async def test_its_exit_is_seen_with_its_last_words(
    tmp_path: Path, body: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "prox.plugin")
    run = Run(
        spec(tmp_path, f'print("last line", file=sys.stderr)\nprint("pushed", end="", flush=True)\n{body}')
    )
    await run.process.start()
    assert await run.process.wait() == status
    assert run.process.done
    assert run.lines == [b"pushed"]
    assert list(run.process.stderr) == ["last line"]
    assert "plugin plugin: last line" in caplog.text
    directory = run.process.directory
    assert directory is not None
    await until(lambda: not directory.exists())
    await run.close()


async def test_its_exit_is_seen_although_a_grandchild_holds_its_pipes(tmp_path: Path) -> None:
    body = """
        import subprocess
        p = subprocess.Popen(["sleep", "60"], start_new_session=True)
        print(p.pid, flush=True)
    """
    run = Run(spec(tmp_path, body), replace(QUICK, drain=0.1))
    await run.process.start()
    await asyncio.wait_for(run.process.wait(), 3)
    [line] = run.lines
    assert isinstance(line, bytes)
    assert alive(int(line))  # it has a session of its own: only the guardian finds it
    os.kill(int(line), signal.SIGKILL)
    await run.close()


async def test_what_is_left_of_its_group_ends_with_it(tmp_path: Path) -> None:
    body = """
        import subprocess
        print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
    """
    run = Run(spec(tmp_path, body))
    await run.process.start()
    await asyncio.wait_for(run.process.wait(), 3)
    [line] = run.lines
    assert isinstance(line, bytes)
    grandchild = int(line)
    await until(lambda: not alive(grandchild))
    await run.close()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("sys.stdin.read(); sys.exit(7)", 7),
        ("import time; print('up', flush=True); time.sleep(60)", -signal.SIGTERM),
        (
            "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
            -signal.SIGKILL,
        ),
        (
            """
            import signal, subprocess, time
            signal.signal(15, signal.SIG_IGN)
            print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
            while True: time.sleep(60)
            """,
            -signal.SIGKILL,
        ),
        ("print('up', flush=True)\nwhile True: os.write(1, b'x' * 65536 + b'\\n')", -signal.SIGTERM),
        ("print('up', flush=True)\nwhile True: os.write(2, b'x' * 65536)", -signal.SIGTERM),
        ("print('up', flush=True)\nos.kill(os.getpid(), 19)", -signal.SIGKILL),
    ],
    ids=["eof", "sigterm", "ignores", "forks", "floods stdout", "floods stderr", "stopped"],
)
async def test_stop_always_ends(tmp_path: Path, body: str, status: int) -> None:
    ends_itself = status >= 0  # as soon as its interpreter has got so far
    run = Run(spec(tmp_path, body), replace(QUICK, stop_eof=10.0 if ends_itself else 0.1, stop_term=0.1))
    await run.process.start()
    if "up" in body or "Popen" in body:
        await until(lambda: run.lines)
    await asyncio.wait_for(run.process.stop(), 12 if ends_itself else 3)
    assert run.process.returncode == status
    assert run.process.pid is not None
    assert not alive(run.process.pid)
    await run.process.stop()  # again is no error
    await run.close()


async def test_a_stop_ends_although_a_grandchild_in_a_session_of_its_own_holds_the_pipes(
    tmp_path: Path,
) -> None:
    body = """
        import subprocess, time
        print(subprocess.Popen(["sleep", "60"], start_new_session=True).pid, flush=True)
        time.sleep(60)
    """
    run = Run(spec(tmp_path, body), replace(QUICK, stop_eof=0.1, stop_term=0.1, drain=0.1))
    await run.process.start()
    await until(lambda: run.lines)
    await asyncio.wait_for(run.process.stop(), 3)
    assert run.process.returncode == -signal.SIGTERM
    [line] = run.lines
    assert isinstance(line, bytes)
    assert alive(int(line))  # only the guardian finds it
    os.kill(int(line), signal.SIGKILL)
    await run.close()


async def test_a_plugin_that_goes_on_in_ever_new_children_is_ended(tmp_path: Path) -> None:
    """What it started with has exited; each further process forks and exits, too quickly to be signalled by its number."""
    body = """
        import signal, time
        end = time.monotonic() + 5
        print("up", flush=True)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while time.monotonic() < end:
            if os.fork(): os._exit(0)
    """
    run = Run(spec(tmp_path, body))
    await run.process.start()
    assert await asyncio.wait_for(run.process.wait(), 3) == 0
    assert run.process.pid is not None
    group = run.process.pid
    await until(lambda: not members(group), 2)
    await run.process.stop()
    await run.close()


async def test_a_stop_ends_although_what_was_sent_is_never_read(tmp_path: Path) -> None:
    run = Run(
        spec(tmp_path, "import time; print('up', flush=True); time.sleep(60)"), replace(QUICK, stop_eof=0.05)
    )
    await run.process.start()
    await until(lambda: run.lines)
    for _ in range(500):
        run.process.send(b"x" * 1000 + b"\n")
    await asyncio.wait_for(run.process.stop(), 3)
    assert run.process.returncode == -signal.SIGTERM
    await run.close()


async def test_a_cancelled_stop_kills(tmp_path: Path) -> None:
    run = Run(spec(tmp_path, "import time; print('up', flush=True); time.sleep(60)"), Delays())
    await run.process.start()
    await until(lambda: run.lines)
    task = asyncio.get_running_loop().create_task(run.process.stop())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.wait_for(run.process.wait(), 3) == -signal.SIGKILL
    await run.close()


async def test_a_plugin_that_never_reads_its_stdin_blocks_nobody(tmp_path: Path) -> None:
    async with running(spec(tmp_path, "import time; print('up', flush=True); time.sleep(60)")) as run:
        await until(lambda: run.lines)
        line = b"x" * 1000 + b"\n"
        for _ in range(500):
            run.process.send(line)
        taken = run.process.take_back()
        assert 300 < taken < 500  # the pipe holds about 64
        assert run.process.take_back() == 0


async def test_lines_to_a_slow_reader_arrive_whole_and_in_order(tmp_path: Path) -> None:
    body = """
        import time
        for number, line in enumerate(sys.stdin):
            if number % 100 == 0: time.sleep(0.01)
            assert line == f"{number} " + "y" * 500 + chr(10)
            if number == 999: print("all", flush=True)
    """
    async with running(spec(tmp_path, body)) as run:
        for number in range(1000):
            run.process.send(b"%d " % number + b"y" * 500 + b"\n")
        await until(lambda: run.lines == [b"all"])


async def test_a_plugin_that_closes_its_stdin_is_no_error(tmp_path: Path) -> None:
    body = "import time; os.close(0); print('up', flush=True); time.sleep(60)"
    async with running(spec(tmp_path, body), replace(QUICK, stop_eof=0.0)) as run:
        await until(lambda: run.lines)
        run.process.send(b"hello\n")
        run.process.send(b"hello\n")
        assert not run.process.done


async def test_a_line_above_the_limit_is_dropped_and_the_next_one_read(tmp_path: Path) -> None:
    body = """
        sys.stdout.write("z" * (20 * 1024 * 1024) + chr(10) + "next" + chr(10))
    """
    async with running(spec(tmp_path, body)) as run:
        await run.process.wait()
        big, following = run.lines
        assert isinstance(big, OversizeLine)
        assert big.limit == 16 * 1024 * 1024
        assert following == b"next"


@pytest.mark.parametrize("target", [1, 2])
@pytest.mark.alone
async def test_a_flood_slows_down_only_its_plugin(tmp_path: Path, target: int) -> None:
    body = f"""
        data = b'{{"x": 1}}' * 1 + b"\\n"
        data = data * 6000
        while True: os.write({target}, data)
    """
    run = Run(spec(tmp_path, body))
    handled = 0

    def on_line(line: bytes | OversizeLine) -> None:
        nonlocal handled
        handled += 1
        sum(range(200))  # some work, as a push has

    run.process._on_line = on_line
    await run.process.start()
    loop = asyncio.get_running_loop()
    await until(lambda: handled or run.process.stderr)
    worst = total = 0.0
    for _ in range(100):
        began = loop.time()
        await asyncio.sleep(0.001)
        late = loop.time() - began - 0.001
        total += late
        worst = max(worst, late)
    assert total / 100 < 0.01, (
        f"a turn of the loop was late by {total / 100:.4f} s on average, {worst:.3f} at worst"
    )
    await run.process.stop()
    await run.close()


async def test_many_lines_are_all_handled_in_order(tmp_path: Path) -> None:
    body = """
        sys.stdout.write("".join(f"{number}\\n" for number in range(100_000)))
    """
    async with running(spec(tmp_path, body), replace(QUICK, drain=10)) as run:
        await run.process.wait()
        assert run.lines == [b"%d" % number for number in range(100_000)]


async def test_an_endless_line_on_stderr_is_cut(tmp_path: Path) -> None:
    body = """
        os.write(2, b"e" * 3_000_000)
        os.write(2, b"\\nend \\x1b[31m of it\\n")
    """
    async with running(spec(tmp_path, body)) as run:
        await run.process.wait()
        first, last = run.process.stderr
        assert len(first) < 5000
        assert last == r"end \x1b[31m of it"


async def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "")
    before = 0
    for turn in range(8):
        run = Run(PluginSpec(path=path))
        await run.process.start()
        await run.process.wait()
        with pytest.raises(PluginStartError):
            await Run(PluginSpec(path=path + "x")).process.start()
        await run.close()
        if not turn:
            before = open_files()
    assert open_files() <= before
