"""The Caller against servers on real unix sockets: the pool, deadlines, and answers that are none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from prox.plugin import Caller, CallError
from prox.plugin.connection import Connection
from prox.plugin.notifications import NotificationQueue
from prox.wire import (
    AuthorizeResult,
    ConnInfo,
    DisconnectInfo,
    FrameTooLarge,
    UpstreamResponseInfo,
    encode_result,
    unmarshal_envelope,
)
from support.plugin_host import open_files, request, until

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ALLOW = encode_result(AuthorizeResult(allow=True))


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def read_call(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    return head + await reader.readexactly(struct.unpack(">I", head)[0])


_serving: set[asyncio.Task[None]] = set()


def until_it_ends(serve: Serve) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
    """Serve each connection until the other side closes it."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the end of the test is one as well: asyncio's streams would report a cancelled task
        finally:
            writer.close()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: one of asyncio's streams that is cancelled at the end is reported to the loop.
        task = asyncio.get_running_loop().create_task(connection(reader, writer))
        _serving.add(task)
        task.add_done_callback(_serving.discard)

    return accepted


@asynccontextmanager
async def plugin(folder: Path, serve: Serve, **settings: Any) -> AsyncIterator[Caller]:
    """A Caller of a server that runs `serve` for each connection."""

    path = str(folder / "s")
    server = await asyncio.start_unix_server(until_it_ends(serve), path, limit=4 * 1024 * 1024)
    caller = Caller(path, **settings)
    try:
        yield caller
    finally:
        caller.close()
        server.close()
        await asyncio.sleep(0)


async def allow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await read_call(reader)
        writer.write(ALLOW)


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)


def answering(*pieces: bytes) -> Serve:
    """Sends the pieces one by one as the answer to each call."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_call(reader)
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0.001)

    return serve


async def test_one_connection_carries_calls_one_after_another(tmp_path: Path) -> None:
    async with plugin(tmp_path, allow) as caller:
        for _ in range(20):
            assert (await caller.call_request(request(), soon())).allow
        assert caller.connections == 1
        assert caller.in_flight == 0


async def test_every_hook_has_its_call(tmp_path: Path) -> None:
    seen = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            hook, payload = unmarshal_envelope(await read_call(reader))
            seen.append((hook, payload))
            if hook == 4:
                continue
            body = msgspec.msgpack.encode({2: {"s": 203, "rm": ["Server"]}}.get(hook, {"ok": False}))
            writer.write(struct.pack(">I", len(body)) + body)

    async with plugin(tmp_path, serve) as caller:
        info = request()
        answer = UpstreamResponseInfo(status=200, headers={"Server": "x"})
        conn = ConnInfo(route_id="web:0", domain="a.test", remote_addr="192.0.2.1:1")
        end = DisconnectInfo(
            route_id="web:0", remote_addr="192.0.2.1:1", bytes_received=1, bytes_sent=2, duration_ms=3
        )
        assert not (await caller.call_request(info, soon())).allow
        assert (await caller.call_response(info, answer, soon())).status == 203
        assert not (await caller.call_connect(conn, soon())).allow
        caller.notify_disconnect(end)
        await until(lambda: len(seen) == 4)
        assert [hook for hook, _ in seen] == [1, 2, 3, 4]
        assert [seen[0][1], seen[2][1], seen[3][1]] == [info, conn, end]


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_an_answer_may_come_in_pieces(tmp_path: Path, size: int) -> None:
    whole = encode_result(AuthorizeResult(allow=False, status=401, body="x" * 40))
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    async with plugin(tmp_path, answering(*pieces)) as caller:
        assert (await caller.call_request(request(), soon())).status == 401
        assert (await caller.call_request(request(), soon())).status == 401
        assert caller.connections == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (struct.pack(">I", 4) + b"\xc1\xc1\xc1\xc1", "undecodable"),
        (struct.pack(">I", 0), "undecodable"),
        (struct.pack(">I", 1) + b"\x80", "undecodable"),  # no ok
        (struct.pack(">I", 5) + b"\x81\xa2ok\x01", "undecodable"),  # ok is a number
        (encode_result(AuthorizeResult(allow=False, status=99)), "undecodable"),
        (encode_result(AuthorizeResult(allow=False, status=600)), "undecodable"),
        (struct.pack(">I", 1024 * 1024 + 1) + b"\x81\xa2ok\xc3", "too_large"),
        (b"\xff\xff\xff\xff", "too_large"),
    ],
)
async def test_a_wrong_answer_is_an_error_of_its_call_only(tmp_path: Path, answer: bytes, kind: str) -> None:
    answers = [answer, ALLOW]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_call(reader)
            writer.write(answers.pop(0))

    async with plugin(tmp_path, serve) as caller:
        with pytest.raises(CallError) as failure:
            await caller.call_request(request(), soon())
        assert failure.value.kind == kind
        assert (await caller.call_request(request(), soon())).allow


async def test_a_call_ends_at_its_deadline_and_its_connection_is_not_used_again(tmp_path: Path) -> None:
    answers = iter([None, ALLOW])
    connections = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        while True:
            await read_call(reader)
            answer = next(answers)
            if answer is not None:
                writer.write(answer)

    async with plugin(tmp_path, serve) as caller:
        began = asyncio.get_running_loop().time()
        with pytest.raises(CallError) as failure:
            await caller.call_request(request(), soon(0.05))
        assert failure.value.kind == "deadline"
        assert 0.04 < asyncio.get_running_loop().time() - began < 5
        assert (await caller.call_request(request(), soon())).allow
        assert len(connections) == 2
        assert caller.connections == 1


async def test_a_late_answer_is_never_taken_for_the_next_call(tmp_path: Path) -> None:
    late: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_call(reader)
            if not late:
                late.append(writer)
                continue
            with contextlib.suppress(Exception):  # it is closed by now
                late[0].write(ALLOW)
            await asyncio.sleep(0.02)
            writer.write(encode_result(AuthorizeResult(allow=False)))

    async with plugin(tmp_path, serve) as caller:
        with pytest.raises(CallError):
            await caller.call_request(request(), soon(0.03))
        assert not (await caller.call_request(request(), soon())).allow


async def test_deadlines_that_get_shorter_are_kept(tmp_path: Path) -> None:
    async with plugin(tmp_path, allow) as caller:
        await caller.call_request(request(), soon(5))
        assert caller.connections == 1
    path = tmp_path / "other"
    path.mkdir()
    slow_now = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_call(reader)
            if slow_now.is_set():
                await reader.read(-1)
                return
            writer.write(ALLOW)

    async with plugin(path, serve) as caller:
        await caller.call_request(request(), soon(5))
        slow_now.set()
        with pytest.raises(CallError, match="in time"):
            await asyncio.wait_for(caller.call_request(request(), soon(0.05)), 2)


@pytest.mark.parametrize(
    "surplus",
    [encode_result(AuthorizeResult(allow=False)), b"\0", b"\xff\xff\xff\xff"],
    ids=["frame", "part", "huge"],
)
async def test_more_than_was_asked_for_is_no_answer(tmp_path: Path, surplus: bytes) -> None:
    async with plugin(tmp_path, answering(ALLOW + surplus)) as caller:
        for _ in range(2):
            with pytest.raises(CallError, match="more bytes follow the answer") as failure:
                await caller.call_request(request(), soon())
            assert failure.value.kind == "undecodable"
            assert caller.connections == 0
            assert caller.failures == 0


async def test_bytes_that_nobody_asked_for_close_the_connection(tmp_path: Path) -> None:
    deny = encode_result(AuthorizeResult(allow=False))
    async with plugin(tmp_path, answering(ALLOW, deny)) as caller:
        assert (await caller.call_request(request(), soon())).allow
        await until(lambda: caller.connections == 0)


async def test_a_cancelled_call_closes_its_connection(tmp_path: Path) -> None:
    async with plugin(tmp_path, mute, max_concurrency=1) as caller:
        task = asyncio.get_running_loop().create_task(caller.call_request(request(), soon()))
        await until(lambda: caller.in_flight == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert caller.connections == 0
        with pytest.raises(CallError, match="in time"):  # the place is free for another connection
            await caller.call_request(request(), soon(0.05))


async def test_a_call_cancelled_while_it_waits_gives_its_place_back(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_call(reader)
            await release.wait()
            writer.write(ALLOW)

    async with plugin(tmp_path, serve, max_concurrency=1) as caller:
        loop = asyncio.get_running_loop()
        first = loop.create_task(caller.call_request(request(), soon()))
        await until(lambda: caller.in_flight == 1)
        waiting = [loop.create_task(caller.call_request(request(), soon())) for _ in range(3)]
        await until(lambda: caller.waiting == 3)
        waiting[0].cancel()
        await until(lambda: caller.waiting == 2)
        release.set()
        assert (await first).allow
        assert all(result.allow for result in await asyncio.gather(*waiting[1:]))
        assert caller.connections == 1
        assert caller.in_flight == 0


async def test_a_connection_given_to_a_call_that_gives_up_in_that_turn_is_not_lost(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_call(reader)
            await release.wait()
            writer.write(ALLOW)

    class Racing:
        """Gives up the second call in the turn in which it is given its connection."""

        def released(self, connection: Connection) -> None:
            caller.released(connection)
            second.cancel()

        def gone(self, connection: Connection) -> None:
            caller.gone(connection)

    async with plugin(tmp_path, serve):
        loop = asyncio.get_running_loop()
        caller = Caller(str(tmp_path / "s"), max_concurrency=1)
        first = loop.create_task(caller.call_request(request(), soon()))
        await until(lambda: caller.in_flight == 1)
        second = loop.create_task(caller.call_request(request(), soon()))
        await until(lambda: caller.waiting == 1)
        (connection,) = caller._connections
        connection._pool = Racing()
        release.set()
        assert (await first).allow
        with pytest.raises(asyncio.CancelledError):
            await second
        assert caller.in_flight == 0
        assert caller.connections == 1
        assert (await caller.call_request(request(), soon())).allow
        caller.close()


async def test_calls_above_the_limit_wait_their_turn(tmp_path: Path) -> None:
    most = 0
    busy = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most, busy
        while True:
            await read_call(reader)
            busy += 1
            most = max(most, busy)
            await asyncio.sleep(0.002)
            busy -= 1
            writer.write(ALLOW)

    async with plugin(tmp_path, serve, max_concurrency=4) as caller:
        order: list[int] = []

        async def call(number: int) -> None:
            assert (await caller.call_request(request(), soon())).allow
            order.append(number)

        await asyncio.gather(*(call(number) for number in range(80)))
        assert most == 4
        assert caller.connections == 4
        assert all(abs(place - number) < 8 for place, number in enumerate(order))  # first come, first served


async def test_waiting_for_a_connection_is_part_of_the_deadline(tmp_path: Path) -> None:
    async with plugin(tmp_path, mute, max_concurrency=1) as caller:
        first = asyncio.get_running_loop().create_task(caller.call_request(request(), soon(9)))
        await until(lambda: caller.in_flight == 1)
        with pytest.raises(CallError) as failure:
            await caller.call_request(request(), soon(0.05))
        assert failure.value.kind == "deadline"
        assert not first.done()
        first.cancel()
        await asyncio.wait({first})


@pytest.mark.parametrize("there", [False, True])
async def test_a_socket_that_is_gone_or_dead_is_an_error_at_once(tmp_path: Path, there: bool) -> None:
    if there:
        (await asyncio.start_unix_server(lambda _r, _w: None, str(tmp_path / "s"))).close()
    caller = Caller(str(tmp_path / "s"))
    results = await asyncio.gather(
        *(caller.call_request(request(), soon()) for _ in range(300)), return_exceptions=True
    )
    assert {result.kind for result in results if isinstance(result, CallError)} == {"connect"}
    assert len(results) == 300
    caller.close()


async def test_a_full_backlog_is_waited_for(tmp_path: Path) -> None:
    import socket

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen(0)
    caller = Caller(str(tmp_path / "s"))
    calls = [
        asyncio.get_running_loop().create_task(caller.call_request(request(), soon(1))) for _ in range(6)
    ]
    await until(lambda: caller.connections >= 1)
    with listener:
        server = await asyncio.start_unix_server(until_it_ends(allow), sock=listener)
        results = await asyncio.gather(*calls)
        assert all(result.allow for result in results)
        caller.close()
        server.close()


async def test_a_peer_of_another_user_is_refused(tmp_path: Path) -> None:
    server = await asyncio.start_unix_server(until_it_ends(allow), str(tmp_path / "s"))
    caller = Caller(str(tmp_path / "s"), uid=os.getuid() + 1)
    with pytest.raises(CallError, match=r"belongs to user") as failure:
        await caller.call_request(request(), soon())
    assert failure.value.kind == "connect"
    caller.close()
    server.close()


async def test_a_plugin_that_closes_instead_of_answering(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_call(reader)

    async with plugin(tmp_path, serve) as caller:
        for _ in range(3):
            with pytest.raises(CallError) as failure:
                await caller.call_request(request(), soon())
            assert failure.value.kind == "closed"


async def test_close_ends_open_and_waiting_calls(tmp_path: Path) -> None:
    async with plugin(tmp_path, mute, max_concurrency=2) as caller:
        calls = [
            asyncio.get_running_loop().create_task(caller.call_request(request(), soon())) for _ in range(5)
        ]
        await until(lambda: caller.in_flight == 2)
        caller.close()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [result.kind for result in results if isinstance(result, CallError)] == ["closed"] * 5
        with pytest.raises(CallError):
            await caller.call_request(request(), soon())


async def test_a_frame_above_the_limit_is_not_sent(tmp_path: Path) -> None:
    async with plugin(tmp_path, allow, max_frame=500) as caller:
        with pytest.raises(FrameTooLarge):
            await caller.call_request(request(path="/" + "x" * 500), soon())
        assert caller.connections == 0


async def test_a_frame_of_the_largest_size_goes_both_ways(tmp_path: Path) -> None:
    big = AuthorizeResult(allow=False, body="y" * (1024 * 1024 - 50))
    async with plugin(tmp_path, answering(encode_result(big))) as caller:
        result = await caller.call_request(request(path="/" + "x" * (1024 * 1024 - 200)), soon())
        assert result.body == big.body


async def test_no_connection_is_left_behind(tmp_path: Path) -> None:
    before = 0
    for turn in range(6):
        async with plugin(tmp_path, mute) as caller:
            with pytest.raises(CallError):
                await caller.call_request(request(), soon(0.01))
        (tmp_path / "s").unlink(missing_ok=True)
        if not turn:  # the loop has opened by now what it keeps
            before = open_files()
    await until(lambda: open_files() <= before)


async def test_notifications_wait_for_a_plugin_that_does_not_read(tmp_path: Path) -> None:
    queue: NotificationQueue[DisconnectInfo] = NotificationQueue(limit=500)
    go = asyncio.Event()
    got = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        await go.wait()
        while True:
            await read_call(reader)
            got += 1

    path = str(tmp_path / "s")
    server = await asyncio.start_unix_server(until_it_ends(serve), path)
    caller = Caller(path, notifications=queue)
    info = DisconnectInfo(
        route_id="web:0", target="t" * 2000, remote_addr="a", bytes_received=0, bytes_sent=0, duration_ms=0
    )
    sent = 0
    while not queue.dropped:
        for _ in range(50):
            caller.notify_disconnect(info)
            sent += 1
        await asyncio.sleep(0)
    assert len(queue) == 500
    go.set()
    await until(lambda: got == sent - queue.dropped)
    caller.close()
    server.close()


async def test_a_slow_reader_of_notifications_delays_no_call(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            hook, _ = unmarshal_envelope(await read_call(reader))
            if hook == 4:
                await reader.read(-1)
                return
            writer.write(ALLOW)

    async with plugin(tmp_path, serve) as caller:
        for _ in range(10):
            caller.notify_disconnect(
                DisconnectInfo(route_id="r", remote_addr="a", bytes_received=0, bytes_sent=0, duration_ms=0)
            )
        for _ in range(10):
            assert (await caller.call_request(request(), soon(1))).allow


async def test_connections_without_use_are_closed_but_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prox.plugin.caller._IDLE", 0.05)
    async with plugin(tmp_path, answering(b"", ALLOW)) as caller:
        await asyncio.gather(*(caller.call_request(request(), soon()) for _ in range(8)))
        assert caller.connections > 1
        await until(lambda: caller.connections == 1)
        assert (await caller.call_request(request(), soon())).allow
