"""Hardship: what crowds, slow clients and a want of descriptors do to prox, and to others that use it meanwhile.

    python -m bench.soak [part ...] [--small] [--json]

Each part has a prox of its own (`script/soak` takes the compiled one), an upstream in this process and a bystander apart,
who asks every 10 ms. Printed are memory, descriptors, processor time and the bystander's latency: all are to stay flat.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from types import TracebackType

PROX = Path(sys.executable).with_name("prox")
GET = b"GET %b HTTP/1.1\r\nHost: soak.example\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)
_TICK = os.sysconf("SC_CLK_TCK")

Figures = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much of everything: connections, clients, seconds."""

    idle: int = 10_000
    resets: int = 2_000
    tricklers: int = 1_000
    reading: float = 30.0
    readers: int = 20
    crowd: int = 2_000
    rest: float = 2.0
    """Seconds in which nothing happens, to see what that costs."""


SMALL = Sizes(idle=300, resets=300, tricklers=60, reading=2.0, readers=4, crowd=200, rest=0.3)


class Prox:
    """A prox whose only route leads to this process."""

    def __init__(self, folder: Path, upstream: int) -> None:
        proxied = {"type": "proxy", "upstream": f"127.0.0.1:{upstream}"}
        service = {
            "listen": "127.0.0.1:0",
            "config": {"read_header_timeout": "3s"},
            "routes": [{"action": proxied}],
        }
        path = folder / "config.json5"
        path.write_text(json.dumps({"services": {"web": service}}))
        log = folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(PROX), "serve", "-c", str(path)], stderr=output, stdin=subprocess.DEVNULL
            )
        self.pid = self._process.pid
        while not (found := re.search(r"listens on 127\.0\.0\.1:(\d+)", log.read_text(encoding="utf-8"))):
            if self._process.poll() is not None:
                raise RuntimeError(f"prox did not start: {log.read_text(encoding='utf-8')}")
            time.sleep(0.01)
        self.address = ("127.0.0.1", int(found[1]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def kib(self) -> int:
        """Resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index] # Linux has it

    @property
    def files(self) -> int:
        """Open descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208 - names are enough

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    async def cpu_share(self, seconds: float) -> float:
        """Its part of one core."""
        before, began = self.cpu, time.monotonic()
        await asyncio.sleep(seconds)
        return round((self.cpu - before) / (time.monotonic() - began), 3)

    async def settled(self, files: int) -> bool:
        """Whether it comes back to so many descriptors within 5 s."""
        deadline = time.monotonic() + 5
        while self.files > files and time.monotonic() < deadline:  # noqa: ASYNC110 - another process tells no event
            await asyncio.sleep(0.02)
        return self.files <= files


def _watch(port: int, pipe: Connection) -> None:
    """Ask every 10 ms over one connection; each message on the pipe is answered with the latencies since the last."""
    seconds: list[float] = []
    refused = 0
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            began = time.monotonic()
            sock.sendall(GET % b"/")
            answer = b""
            while not answer.endswith((b"ok", b"\n")) or answer.endswith(b"\r\n"):
                received = sock.recv(4096)
                if not received:
                    raise EOFError(f"the bystander's connection was closed after {answer!r}")
                answer += received
            seconds.append(time.monotonic() - began)
            refused += not answer.endswith(b"ok")
            if pipe.poll(0.01):
                if pipe.recv() is None:
                    return
                pipe.send((seconds, refused))
                seconds, refused = [], 0


class Bystander:
    """Somebody else, in a process of its own so that what loads this one does not count."""

    def __init__(self, prox: Prox) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_watch, args=(prox.address[1], other), daemon=True)
        self._process.start()
        self._pipe.send("warm up")
        self._pipe.recv()

    async def latency(self) -> dict[str, float]:
        """Milliseconds since it was asked last, and how many requests were answered 503."""
        self._pipe.send("tell")
        seconds, refused = await asyncio.to_thread(self._pipe.recv)  # who may be waiting for our upstream
        seconds.sort()
        at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
        told = {name: round(seconds[int(part * (len(seconds) - 1))] * 1000, 2) for name, part in at.items()}
        return told | {"asked": len(seconds), "refused": refused}

    def stop(self) -> None:
        """Let it end."""
        with suppress(OSError):
            self._pipe.send(None)
        self._process.join(5)


class Upstream:
    """Answers `/huge` for as long as it is read, all else at once.

    Attributes:
        sent: bytes of huge answers that went away.
    """

    def __init__(self) -> None:
        self.sent = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b" /huge " not in head:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    continue
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (4 << 30))
                piece = b"x" * 65536
                for _ in range((4 << 30) // len(piece)):
                    writer.write(piece)
                    await writer.drain()
                    self.sent += len(piece)
        writer.close()


async def connect(prox: Prox, receive_buffer: int = 0) -> socket.socket:
    """A connection of bytes."""
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, prox.address)
    return sock


async def ask(sock: socket.socket, path: bytes = b"/") -> bytes:
    """The first bytes of an answer."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, GET % path)
    return await loop.sock_recv(sock, 4096)


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


# The parts. Each gets a prox that is warm, and a bystander who was asked just before.


async def idle(prox: Prox, upstream: Upstream, bystander: Bystander, sizes: Sizes) -> Figures:  # noqa: ARG001 - see Part
    """Connections on which one request was asked, and then nothing."""
    before, files = prox.kib, prox.files
    crowd = []
    for _ in range(sizes.idle):
        crowd.append(await connect(prox))
        await ask(crowd[-1])
    connecting = await bystander.latency()
    share = await prox.cpu_share(2 * sizes.rest)
    figures = {
        "connections": sizes.idle,
        "kib_each": round((prox.kib - before) / sizes.idle, 2),
        "cpu_share": share,
        "while_connecting": connecting,
        "latency": await bystander.latency(),
    }
    for sock in crowd:
        sock.close()
    return figures | {"all_closed": await prox.settled(files + 1)}


async def resets(prox: Prox, upstream: Upstream, bystander: Bystander, sizes: Sizes) -> Figures:  # noqa: ARG001 - see Part
    """Connections opened and reset as fast as this can, in the middle of a head, three times over."""
    files = prox.files
    memory, took = [], []
    for _ in range(3):
        began = time.monotonic()
        for number in range(sizes.resets):
            sock = await connect(prox)
            sock.send((GET % b"/")[: number % 40])
            reset(sock)
        took.append(time.monotonic() - began)
        closed = await prox.settled(files + 1)
        memory.append(prox.kib)
    return {
        "connections": sizes.resets,
        "seconds": round(min(took), 2),
        "kib_grown": memory[-1] - memory[0],
        "latency": await bystander.latency(),
        "all_closed": closed,
    }


async def trickle(prox: Prox, upstream: Upstream, bystander: Bystander, sizes: Sizes) -> Figures:  # noqa: ARG001 - see Part
    """Clients that send a byte of their head now and then, as long as they may."""
    before = prox.kib
    loop = asyncio.get_running_loop()
    head = b"GET / HTTP/1.1\r\nHost: soak.example\r\nX-Slow: " + b"a" * 1000

    async def client() -> tuple[float, bytes]:
        sock = await connect(prox)
        began = time.monotonic()
        answering = loop.sock_recv(sock, 4096)
        answer = asyncio.ensure_future(answering)  # noqa: TID251 - a script
        for byte in head:
            with suppress(OSError):
                await loop.sock_sendall(sock, bytes([byte]))
            done, _ = await asyncio.wait({answer}, timeout=0.25)
            if done:
                break
        sock.close()
        return time.monotonic() - began, answer.result()[9:12]

    ended = await asyncio.gather(*(client() for _ in range(sizes.tricklers)))
    return {
        "clients": sizes.tricklers,
        "statuses": sorted({status.decode() for _, status in ended}),
        "seconds": [round(min(ended)[0], 2), round(max(ended)[0], 2)],
        "kib_grown": prox.kib - before,
        "latency": await bystander.latency(),
    }


async def slow_readers(prox: Prox, upstream: Upstream, bystander: Bystander, sizes: Sizes) -> Figures:
    """Clients that read 10 KiB a second of 4 GiB."""
    before = prox.kib
    loop = asyncio.get_running_loop()
    clients = [await connect(prox, receive_buffer=4096) for _ in range(sizes.readers)]
    for client in clients:
        await loop.sock_sendall(client, GET % b"/huge")
    until = time.monotonic() + sizes.reading
    most, read = 0, 0
    while time.monotonic() < until:
        for client in clients:
            read += len(await loop.sock_recv(client, 1024))
        most = max(most, prox.kib)
        await asyncio.sleep(0.1)
    latency = await bystander.latency()
    sent = upstream.sent
    for client in clients:
        client.close()
    return {
        "readers": sizes.readers,
        "kib_read_each": read // 1024 // sizes.readers,
        "kib_taken_each": sent // 1024 // sizes.readers,
        "kib_grown_each": round((most - before) / sizes.readers, 1),
        "latency": latency,
    }


async def descriptors(prox: Prox, upstream: Upstream, bystander: Bystander, sizes: Sizes) -> Figures:  # noqa: ARG001 - see Part
    """More clients than descriptors, all of which ask; half of them go, and the others are served."""
    limit = prox.files + sizes.crowd // 2
    _, hard = resource.prlimit(prox.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(prox.pid, resource.RLIMIT_NOFILE, (limit, hard))
    crowd = [await connect(prox) for _ in range(sizes.crowd)]
    loop = asyncio.get_running_loop()
    for sock in crowd:
        await loop.sock_sendall(sock, GET % b"/")
    await asyncio.sleep(0.3)
    share = await prox.cpu_share(2 * sizes.rest)
    while_short = await bystander.latency()
    files = prox.files
    gone = time.monotonic()
    for sock in crowd[: sizes.crowd * 2 // 3]:
        sock.close()
    async with asyncio.timeout(10):
        answers = [await loop.sock_recv(sock, 4096) for sock in crowd[sizes.crowd * 2 // 3 :]]
    back = time.monotonic() - gone
    for sock in crowd:
        sock.close()
    return {
        "limit": limit,
        "kept_back": limit - files,
        "cpu_share": share,
        "seconds_until_all_are_served": round(back, 2),
        "statuses": sorted({answer[9:12].decode() for answer in answers}),
        "latency": while_short,
    }


Part: TypeAlias = Callable[[Prox, Upstream, Bystander, Sizes], Coroutine[Any, Any, Figures]]

PARTS: dict[str, Part] = {
    "idle": idle,
    "resets": resets,
    "trickle": trickle,
    "slow_readers": slow_readers,
    "descriptors": descriptors,
}


@contextmanager
def temporary() -> Iterator[Path]:
    """A folder for a moment."""
    with tempfile.TemporaryDirectory(prefix="prox-soak-") as folder:
        yield Path(folder)


async def run(name: str, sizes: Sizes) -> Figures:
    """Run one part.

    Returns:
        Its figures; `calm` is the bystander's latency before.
    """
    upstream = Upstream()
    server = await asyncio.start_server(upstream.answer, "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    with temporary() as folder, Prox(folder, port) as prox:
        for _ in range(200):
            sock = await connect(prox)
            await ask(sock)
            sock.close()
        bystander = await asyncio.to_thread(Bystander, prox)
        try:
            await asyncio.sleep(sizes.rest)
            calm = await bystander.latency()
            return {"calm": calm, **await PARTS[name](prox, upstream, bystander, sizes)}
        finally:
            await asyncio.to_thread(bystander.stop)
            server.close()


def main() -> None:
    """Run what the command line names, or all."""
    parser = argparse.ArgumentParser(prog="bench.soak", description="Hardship for prox.")
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="what to run; all when none is named")
    parser.add_argument("--small", action="store_true", help="less of everything, in a few seconds")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sizes = SMALL if options.small else Sizes()
    figures = {name: asyncio.run(run(name, sizes)) for name in options.part or PARTS}
    if options.json:
        print(json.dumps(figures))
        return
    for name, values in figures.items():
        print(f"{name}: {PARTS[name].__doc__}")
        for key, value in values.items():
            print(f"  {key}: {value}")


if __name__ == "__main__":
    main()
