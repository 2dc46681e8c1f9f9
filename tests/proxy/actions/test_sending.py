from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from prox.flow import Completion
from prox.http.codec.fields import Headers
from prox.http.exchange import Exchange
from prox.plugin import ErrorKind, HookError
from prox.proxy.actions.files import THREADS, OpenFile
from prox.proxy.actions.sending import PIECE, FileReader
from prox.proxy.held import HeldAnswer
from support.action_server import ActionServer, Connection, until
from support.served_files import BIG, make_root, open_below, serve


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path)


@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 7])
async def test_content_in_pieces(root: Path, size: int) -> None:
    content = os.urandom(size)
    (root / "random").write_bytes(content)
    async with ActionServer(serve(root)) as server:
        connection = await server.connect()
        for _ in range(2):
            connection.send("/random")
            assert (await connection.reply()).body == content
        connection.send("/random", f"Range: bytes=1-{size - 2}")
        assert (await connection.reply()).body == content[1:-1]
        await connection.close()
    await until(lambda: not open_below(root))


async def stalled(server: ActionServer, connection: Connection) -> FileReader:
    """Ask for the big file, read its head, and wait until the client's slowness has stopped the reader."""
    connection.send("/big.bin")
    status, _ = await connection.head()
    assert status == 200
    reader: Any = server.exchanges[-1].source
    assert isinstance(reader, FileReader)
    await until(lambda: reader._waiter is not None)
    return reader


async def test_a_slow_client_stops_the_reading(root: Path) -> None:
    async with ActionServer(serve(root)) as server:
        connection = await server.connect()
        await stalled(server, connection)
        sent = server.exchanges[0].bytes_out
        assert sent < 16 * 1024 * 1024, "what the kernel and the buffers hold, not the file"
        async with asyncio.timeout(10):
            left = BIG
            while left:
                data = await connection.reader.read(1 << 20)
                assert data.count(0) == len(data) > 0
                left -= len(data)
        connection.send("/digits.txt")
        assert (await connection.reply()).body == b"0123456789"
        await connection.close()
    await until(lambda: not open_below(root))


async def test_a_client_that_goes_away(root: Path) -> None:
    async with ActionServer(serve(root)) as server:
        connection = await server.connect()
        await stalled(server, connection)
        assert open_below(root) == [str(root / "big.bin")]
        await connection.close()
        await until(lambda: server.ended == 1)
        await until(lambda: not open_below(root))
        assert server.exchanges[0].reason == "client_aborted"


async def test_a_client_that_goes_away_while_a_thread_reads(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptor stays the reader's until the read is over."""
    reading, go_on = threading.Event(), threading.Event()
    read = OpenFile.read
    results: list[bytes] = []

    def slow(file: OpenFile, offset: int, size: int) -> bytes:
        if offset:
            with file._lock:
                reading.set()
                go_on.wait(10)
        data = read(file, offset, size)
        results.append(data)
        return data

    monkeypatch.setattr(OpenFile, "read", slow)
    async with ActionServer(serve(root)) as server:
        connection = await server.connect()
        connection.send("/big.bin")
        await connection.head()
        await until(reading.is_set)
        await connection.close()
        await until(lambda: server.ended == 1)
        assert open_below(root), "still open under the read"
        go_on.set()
        await until(lambda: not open_below(root))


async def test_a_client_that_goes_away_before_the_file_is_open(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, go_on = threading.Event(), threading.Event()
    open_it = OpenFile.open_below

    def slow(file: OpenFile, root: str, name: str) -> None:
        opening.set()
        go_on.wait(10)
        open_it(file, root, name)

    monkeypatch.setattr(OpenFile, "open_below", slow)
    async with ActionServer(serve(root)) as server:
        connection = await server.connect()
        connection.send("/big.bin")
        await until(opening.is_set)
        await connection.close()
        await until(lambda: server.ended == 1)
        go_on.set()
        await asyncio.get_running_loop().run_in_executor(THREADS, int)
        await until(lambda: not open_below(root))


async def test_a_file_that_shrinks_breaks_the_answer_off(root: Path) -> None:
    async with ActionServer(serve(root)) as server:
        connection = await server.connect()
        await stalled(server, connection)
        os.truncate(root / "big.bin", 1000)
        received = len(await connection.rest())
        assert received < BIG
        await until(lambda: server.ended == 1)
        assert server.exchanges[0].reason == "file_changed"
        await connection.close()
    await until(lambda: not open_below(root))


async def test_a_file_that_grows_or_is_replaced_is_sent_as_it_was(root: Path) -> None:
    async with ActionServer(serve(root)) as server:
        connection = await server.connect()
        await stalled(server, connection)
        with (root / "big.bin").open("ab") as big:
            big.write(b"more")
        (root / "big.bin").unlink()
        async with asyncio.timeout(10):
            assert (await connection.reader.readexactly(BIG)).count(0) == BIG
        connection.send("/digits.txt")
        assert (await connection.reply()).body == b"0123456789"
        await connection.close()


# Behind on_response.


@pytest.mark.parametrize("path", ["/digits.txt", "/big.bin", "/none"])
async def test_on_response_sees_the_answer_first(root: Path, path: str) -> None:
    decided = Completion()
    asked: list[int] = []

    async def decide(status: int, headers: Headers) -> tuple[int, Headers]:
        asked.append(status)
        await decided
        return status, [*headers, (b"X-Seen", b"yes")]

    def hold(exchange: Exchange) -> HeldAnswer:
        return HeldAnswer(exchange, decide)

    async with ActionServer(serve(root), answer=hold) as server:
        connection = await server.connect()
        connection.send(path)
        await until(lambda: asked)
        assert server.exchanges[0].status == 0
        decided.set()
        status, headers = await connection.head()
        assert headers["x-seen"] == "yes"
        assert [status] == asked
        async with asyncio.timeout(10):
            left = int(headers["content-length"])
            while left:
                left -= len(await connection.reader.read(min(left, 1 << 20)))
        await connection.close()
        await until(lambda: not open_below(root))


async def test_on_response_that_fails_stops_the_reading(root: Path) -> None:

    async def decide(status: int, headers: Headers) -> tuple[int, Headers]:
        raise HookError("guard", "web:0", "on_response", ErrorKind.DEADLINE)

    async with ActionServer(serve(root), answer=lambda exchange: HeldAnswer(exchange, decide)) as server:
        reply = await server.get("/big.bin")
        assert reply.status == 502
        assert b"0" * 10 not in reply.body
        await until(lambda: not open_below(root))
