"""Runs `async def` tests on uvloop and fails them for what they leave behind; the whole run, too, for its directories.

Several processes may share a run (`script/test`). A test that measures time is marked `alone`: nothing runs beside it.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import inspect
import os
import re
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

TIME_LIMIT = 18.0
"""Seconds for a coroutine test, a little less than pytest's limit."""

settings.register_profile("prox", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("prox")


def pytest_configure(config: pytest.Config) -> None:
    """Name the marks."""
    config.addinivalue_line("markers", "alone: measures time, so no other test of the run goes on meanwhile")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the tests that run alone, so that the other processes wait for them once."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("alone") is None)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let tests of several processes go side by side, but for one that runs alone; who waits does so on no test's time.

    All pass one door. Who runs alone keeps it shut until the others are done, then until it is done itself.
    """
    if not hasattr(item.config, "workerinput"):
        return (yield)
    shared = Path(
        item.config.option.basetemp
    ).parent  # of the whole run: pytest-xdist gives each process a folder in it
    shared.mkdir(parents=True, exist_ok=True)
    with (shared / "door").open("w") as door, (shared / "running").open("w") as running:
        fcntl.flock(door, fcntl.LOCK_EX)
        if item.get_closest_marker("alone") is None:
            fcntl.flock(running, fcntl.LOCK_SH)
            fcntl.flock(door, fcntl.LOCK_UN)
        else:
            fcntl.flock(running, fcntl.LOCK_EX)
        return (yield)


def pytest_collection_finish() -> None:
    """Keep what was imported out of the collections that each coroutine test ends with: they would take half the time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test in a loop of its own; exceptions that nobody handled in the loop fail the test."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    wanted = {name: pyfuncitem.funcargs[name] for name in inspect.signature(function).parameters}
    unhandled: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unhandled.append(context))
        # pytest's own alarm does not wake a loop that waits without a timer.
        async with asyncio.timeout(TIME_LIMIT):
            await function(**wanted)
        gc.collect()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    assert not unhandled, f"the loop's exception handler was called: {unhandled}"
    return True


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pytest's, with a shorter name: the path of a socket has 107 bytes at most, and the test and prox need theirs."""
    return tmp_path_factory.mktemp(re.sub(r"\W", "_", request.node.name)[:15])


@pytest.fixture(scope="session", autouse=True)
def own_temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the run a folder for temporary files, and fail it where a plugin host's directory is left in it.

    A run that was killed can't clean up; the next one does it.
    """
    tmp_path_factory.getbasetemp()  # pytest's own folders stay where they are
    prefix = "prox-tests-"
    for stale in Path(tempfile.gettempdir()).glob(f"{prefix}*-*"):
        if not Path("/proc", stale.name.removeprefix(prefix).partition("-")[0]).exists():
            shutil.rmtree(stale, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-"))
    folder.chmod(0o1777)  # tests start programs as other users
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)
        yield
    end = time.monotonic() + 5
    while (left := sorted(path.name for path in folder.glob("prox-*"))) and time.monotonic() < end:
        time.sleep(0.02)  # the guardian of a prox that was killed may be at it
    shutil.rmtree(folder, ignore_errors=True)
    assert not left, f"directories of plugin hosts are left: {left}"


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[BlockBuster]:
    """Fail whatever blocks the event loop in prox's own code."""
    with blockbuster_ctx("prox") as blockbuster:
        yield blockbuster
