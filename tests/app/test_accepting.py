"""Accepting: the options of a connection, and what happens when file descriptors run short."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
from pathlib import Path
from typing import cast

from prox.app import accepting
from prox.app.accepting import BATCH, Acceptor
from prox.tasks import spawn
from support.client import Client, get
from support.prox_process import ProxProcess
from support.servers import serving

OK = {"action": {"type": "static", "body_ref": {"text": "ok"}}}

CONFIG = """{
  services: {
    web: { listen: "127.0.0.1:0", routes: [{ access_log: "%s", action: { type: "static", body_ref: { text: "%s" } } }] },
  },
}"""


async def test_the_options_of_a_connection() -> None:
    async with serving(OK) as running, await running.connect() as client:
        assert (await client.request(get())).status == 200
        (connection,) = running.connections
        sock = connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not os.get_inheritable(sock.fileno())
        assert not os.get_blocking(sock.fileno())


async def test_more_than_a_batch_at_once_are_all_accepted() -> None:
    async with serving(OK) as running:
        clients = [await running.connect() for _ in range(3 * BATCH + 1)]
        answers = await asyncio.gather(*(client.request(get()) for client in clients))
        assert {answer.status for answer in answers} == {200}
        for client in clients:
            client.close()
        await running.quiet()


class Failing:
    """A listening socket on which accepting goes wrong in ways that a kernel does not show on demand."""

    def __init__(self, sock: socket.socket, errors: list[OSError]) -> None:
        self._socket = sock
        self._errors = errors

    def fileno(self) -> int:
        return self._socket.fileno()

    def accept(self) -> tuple[socket.socket, object]:
        if self._errors:
            raise self._errors.pop(0)
        return self._socket.accept()


class Greeting(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(b"hello")
        transport.close()


def greet(sock: socket.socket, _peer: object) -> None:
    spawn(asyncio.get_running_loop().connect_accepted_socket(Greeting, sock), "greet")


async def greeted_after(errors: list[OSError]) -> int:
    """How often an acceptor paused before it served a client."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        acceptor = Acceptor(
            Failing(sock, errors),  # type: ignore[arg-type] # the calls that an acceptor makes
            "here",
            greet,
        )
        acceptor.start()
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        async with asyncio.timeout(2):
            assert await reader.read() == b"hello"
        writer.close()
        acceptor.stop()
        return acceptor.pauses


async def test_what_became_of_a_waiting_connection_does_not_stop_the_next() -> None:
    assert await greeted_after([OSError(103, "Software caused connection abort")]) == 0


async def test_any_other_error_pauses() -> None:
    assert await greeted_after([OSError(23, "Too many open files in system")]) == 1
    assert await greeted_after([OSError(5, "Input/output error")] * 2) == 2


async def test_stopping_while_it_pauses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        acceptor = Acceptor(sock, "here", greet)
        acceptor.start()
        acceptor._pause(None)
        acceptor.stop()
        acceptor.stop()
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        try:
            async with asyncio.timeout(3 * accepting.RETRY):
                await reader.read()
        except TimeoutError:
            pass
        else:
            raise AssertionError("it was accepted")
        finally:
            writer.close()


def cpu(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_files(pid: int) -> int:
    """How many descriptors a process has."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


async def test_out_of_descriptors(tmp_path: Path) -> None:
    config, log = tmp_path / "config.json5", tmp_path / "access.log"
    config.write_text(CONFIG % (log, "one"))
    async with ProxProcess(config) as prox:
        address = await prox.address()
        first = await Client.connect(address)
        assert (await first.request(get())).status == 200
        used = open_files(prox.pid)
        resource.prlimit(prox.pid, resource.RLIMIT_NOFILE, (used + 60, used + 60))
        accepted_by_now = 40  # of 50 that come in at first, so that there is room for the other 30
        crowd = [await Client.connect(address) for _ in range(80)]
        for client in crowd:
            await client.send(get())
        await prox.said("accepts no connections for now: file descriptors run short")

        # What runs goes on, and nothing spins.
        assert (await first.request(get())).status == 200
        before, began = cpu(prox.pid), time.monotonic()
        await asyncio.sleep(0.5)
        assert (cpu(prox.pid) - before) / (time.monotonic() - began) < 0.2

        # A reload with a log file of its own, on what is kept back.
        config.write_text(CONFIG % (tmp_path / "other.log", "two"))
        await prox.said("the new configuration is in force")
        assert (await first.request(get())).body == b"two"

        # Back within 2 s; those who waited are served.
        answered = [await crowd[0].response()]
        for client in crowd[:accepted_by_now]:
            client.close()
        async with asyncio.timeout(2):
            answered += [await client.response() for client in crowd[accepted_by_now:]]
        assert {answer.status for answer in answered} == {200}
        for client in (first, *crowd):
            client.close()
    assert (tmp_path / "other.log").exists()
