from __future__ import annotations

import asyncio
import threading

import pytest

from prox.app.threads import in_thread


async def test_the_result_comes_back() -> None:
    undone: list[int] = []
    assert await in_thread(lambda: 7, undone.append) == 7
    assert undone == []


async def test_an_error_comes_back() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0, print)


async def test_what_comes_after_the_caller_was_cancelled_is_undone() -> None:
    began, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    undone = loop.create_future()

    def work() -> int:
        loop.call_soon_threadsafe(began.set)
        go.wait()
        return 7

    task = loop.create_task(in_thread(work, undone.set_result))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not undone.done()
    go.set()
    assert await undone == 7


async def test_an_error_after_the_caller_was_cancelled_is_nobodys() -> None:
    began, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def work() -> int:
        loop.call_soon_threadsafe(began.set)
        go.wait()
        loop.call_soon_threadsafe(ended.set)
        return 1 // 0

    task = loop.create_task(in_thread(work, print))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    await ended.wait()
