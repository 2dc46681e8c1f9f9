"""Calls of a Flow, which goes on inside the read that brought its answer."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from prox.flow import Flow
from prox.plugin import Caller, CallError
from prox.wire import AuthorizeResult, encode_result
from support.plugin_host import request, until

ALLOW = encode_result(AuthorizeResult(allow=True))


class Plugin(asyncio.Protocol):
    """Answers each call with the next of the pieces, or not at all."""

    def __init__(self, answers: list[bytes]) -> None:
        self.answers = answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert len(data) == 4 + struct.unpack_from(">I", data)[0]
        if self.answers:
            self.transport.write(self.answers.pop(0))  # type: ignore[attr-defined] # a stream's transport


async def run(path: Path, answers: list[bytes]) -> tuple[Caller, asyncio.Server]:
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: Plugin(answers), str(path / "s"))
    return Caller(str(path / "s"), max_concurrency=1), server


async def ask(caller: Caller, seconds: float = 5.0) -> AuthorizeResult:
    return await caller.call_request(request(), asyncio.get_running_loop().time() + seconds)


async def in_flow(coro: Coroutine[Any, Any, None]) -> tuple[Flow, asyncio.Future[BaseException | None]]:
    """Begin a Flow outside of any task, as connections do."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[BaseException | None] = loop.create_future()
    flow = Flow(ended.set_result)
    loop.call_soon(flow.run, coro)
    await asyncio.sleep(0)
    return flow, ended


async def test_calls_follow_one_another_on_one_connection(tmp_path: Path) -> None:
    deny = encode_result(AuthorizeResult(allow=False, status=401))
    caller, server = await run(tmp_path, [ALLOW, deny, ALLOW])
    verdicts = []

    async def calls() -> None:
        verdicts.extend([await ask(caller), await ask(caller), await ask(caller)])

    _, ended = await in_flow(calls())
    assert await ended is None
    assert [verdict.allow for verdict in verdicts] == [True, False, True]
    assert caller.connections == 1
    assert caller.in_flight == 0
    caller.close()
    server.close()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(b"", "deadline"), (b"\xff\xff\xff\xff\x00", "too_large"), (b"\x00\x00\x00\x01\xc1", "undecodable")],
)
async def test_errors_come_to_the_flow(tmp_path: Path, answer: bytes, kind: str) -> None:
    caller, server = await run(tmp_path, [ALLOW, answer])

    async def calls() -> None:
        await ask(caller)
        await ask(caller, 0.05)

    _, ended = await in_flow(calls())
    error = await ended
    assert isinstance(error, CallError)
    assert error.kind == kind
    assert caller.in_flight == 0
    caller.close()
    server.close()


async def test_a_cancelled_call_closes_its_connection(tmp_path: Path) -> None:
    caller, server = await run(tmp_path, [ALLOW])

    seen = []

    async def calls() -> None:
        seen.append(await ask(caller))
        seen.append(await ask(caller))

    flow, ended = await in_flow(calls())
    await until(lambda: len(seen) == 1)  # from here it waits in a call that it made inside the read
    assert caller.in_flight == 1
    flow.cancel()
    assert isinstance(await ended, asyncio.CancelledError)
    assert caller.connections == 0
    caller.close()
    server.close()


async def test_surplus_bytes_behind_an_answer_make_it_none(tmp_path: Path) -> None:
    caller, server = await run(tmp_path, [ALLOW + ALLOW, ALLOW])
    seen: list[tuple[bool, int]] = []

    async def calls() -> None:
        with pytest.raises(CallError, match="more bytes follow") as failure:
            await ask(caller)
        seen.append((failure.value.kind == "undecodable", caller.connections))
        seen.append(((await ask(caller)).allow, caller.connections))

    _, ended = await in_flow(calls())
    assert await ended is None
    assert seen == [(True, 0), (True, 1)]
    caller.close()
    server.close()
