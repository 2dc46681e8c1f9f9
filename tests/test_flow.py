from __future__ import annotations

import asyncio

import pytest

from prox.flow import Completion, Flow


class Ends:
    """What a Flow said at its ends."""

    def __init__(self) -> None:
        self.all: list[BaseException | None] = []

    def __call__(self, error: BaseException | None) -> None:
        self.all.append(error)


def test_it_runs_at_once_and_inside_the_call_that_completes_its_wait() -> None:
    steps: list[int] = []
    completion = Completion()

    async def run() -> None:
        steps.append(1)
        await completion
        steps.append(3)

    ends = Ends()
    flow = Flow(ends)
    flow.run(run())
    assert (steps, flow.running) == ([1], True)
    steps.append(2)
    completion.set()
    assert (steps, flow.running, ends.all) == ([1, 2, 3], False, [None])
    completion.set()
    assert ends.all == [None]


def test_what_is_done_already_is_not_waited_for() -> None:
    completion = Completion()
    completion.set()
    ends = Ends()

    async def run() -> None:
        await completion

    Flow(ends).run(run())
    assert ends.all == [None]


def test_an_exception_is_told_at_the_end() -> None:
    ends = Ends()
    error = ValueError("no")

    async def run() -> None:
        raise error

    flow = Flow(ends)
    flow.run(run())
    assert ends.all == [error]
    assert not flow.running


def test_one_runs_after_the_other() -> None:
    ends = Ends()
    flow = Flow(ends)
    completions = [Completion(), Completion()]

    async def run(number: int) -> None:
        await completions[number]

    for number in range(2):
        flow.run(run(number))
        completions[number].set()
    assert ends.all == [None, None]


def test_cancelling_a_wait() -> None:
    completion = Completion()
    cleaned: list[str] = []

    async def run() -> None:
        try:
            await completion
        finally:
            cleaned.append("yes")

    ends = Ends()
    flow = Flow(ends)
    flow.run(run())
    flow.cancel()
    assert cleaned == ["yes"]
    assert isinstance(ends.all[0], asyncio.CancelledError)
    completion.set()  # nobody waits for it any more
    flow.cancel()
    assert len(ends.all) == 1


def test_cancelling_what_cancels_itself() -> None:
    ends = Ends()
    flow = Flow(ends)
    never = Completion()

    async def run() -> None:
        flow.cancel()
        await never

    flow.run(run())
    assert isinstance(ends.all[0], asyncio.CancelledError)


def test_waits_of_a_clean_up_are_waits() -> None:
    never, cleaned = Completion(), Completion()
    ends = Ends()
    flow = Flow(ends)

    async def run() -> None:
        try:
            await never
        finally:
            await cleaned

    flow.run(run())
    flow.cancel()
    assert not ends.all
    cleaned.set()
    assert isinstance(ends.all[0], asyncio.CancelledError)


def test_a_coroutine_may_outlive_its_cancellation() -> None:
    ends = Ends()
    flow = Flow(ends)
    never = Completion()

    async def run() -> None:
        try:
            await never
        except asyncio.CancelledError:
            return

    flow.run(run())
    flow.cancel()
    assert ends.all == [None]


async def test_it_waits_for_futures_too() -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()
    found: list[int] = []
    ended = asyncio.Event()

    async def run() -> None:
        found.append(await future)
        await asyncio.sleep(0)

    flow = Flow(lambda _error: ended.set())
    flow.run(run())
    future.set_result(7)
    await ended.wait()
    assert found == [7]


async def test_a_future_that_fails() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    ends = Ends()

    async def run() -> None:
        with pytest.raises(OSError, match="gone"):
            await future

    flow = Flow(ends)
    flow.run(run())
    future.set_exception(OSError("gone"))
    await asyncio.sleep(0)
    assert ends.all == [None]


async def test_cancelling_a_wait_for_a_future_cancels_it() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    ends = Ends()

    async def run() -> None:
        await future

    flow = Flow(ends)
    flow.run(run())
    flow.cancel()
    await asyncio.sleep(0)
    assert future.cancelled()
    assert isinstance(ends.all[0], asyncio.CancelledError)


async def test_cancelling_a_wait_for_a_future_that_is_done_already() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    ends = Ends()

    async def run() -> None:
        await future

    flow = Flow(ends)
    flow.run(run())
    future.set_result(1)
    flow.cancel()
    await asyncio.sleep(0)
    assert isinstance(ends.all[0], asyncio.CancelledError)
