"""An upstream that answers before it has the whole request, and closes: the client gets that answer all the same.

The upstream is a thread, so that its reset may come while prox writes.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from prox.tasks import spawn
from support.client import Client, get
from support.servers import serving
from support.upstream import answer

ANSWER = answer(b"no", status=b"413 Too Large")


@pytest.fixture(name="address", params=["closes at once", "reads a little"])
def _address(request: pytest.FixtureRequest) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(100)
                if request.param == "reads a little":
                    connection.recv(1 << 20)
                connection.sendall(ANSWER)  # closing with unread bytes resets

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


async def upload(client: Client) -> None:
    try:
        await client.send(get("/", "Content-Length: 100000000", method="POST"), *([b"x" * 65536] * 40))
    except ConnectionError:
        return


async def test_an_answer_of_an_upstream_that_resets(address: str) -> None:
    statuses: Counter[int] = Counter()
    async with serving(address) as prox:
        for _ in range(150):
            async with await prox.connect() as client:
                sending = spawn(upload(client), "upload")
                statuses[(await asyncio.wait_for(client.response(), 5)).status] += 1
                sending.cancel()
        await prox.quiet(idle=0)
    assert statuses == {413: 150}
