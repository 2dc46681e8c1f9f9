"""Runs `async def` tests on uvloop and fails them for what they leave behind."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

TIME_LIMIT = 18.0
"""Seconds for a coroutine test, a little less than pytest's limit."""

settings.register_profile("prox", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("prox")


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


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[BlockBuster]:
    """Fail whatever blocks the event loop in prox's own code."""
    with blockbuster_ctx("prox") as blockbuster:
        yield blockbuster
