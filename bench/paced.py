"""Load at a fixed rate, whatever the answers take, with the latency of each.

Requests fall due at even intervals and go out on the connection that has been idle longest. Latency counts
from the moment of sending; where no connection was idle, from the moment at which the request was due, so
that a stall of the proxy is not hidden by requests that were never sent. Raw sockets: what the generator
spends delays what it measures.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.load import CONNECTIONS, HEADERS
from bench.processes import BenchError

_WARM_UP = 0.1  # part of the time whose latencies are left out
_PATIENCE_NS = 2_000_000_000
_LATE_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Paced:
    """What was found.

    Attributes:
        latencies: In ns, ascending.
        queued: The part of the requests that had to wait for a connection.
        late: The part that fell due more than 1 ms before the generator got to send it: it had answers
            to read, or others had its core, and they delayed the proxy's neighbours too.
    """

    latencies: list[int]
    queued: float
    late: float


def _request(port: int, path: str) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        *(f"{name}: {text}" for name, text in HEADERS.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def drive(port: int, path: str, body: bytes, rate: float, seconds: float) -> Paced:
    """Sends `rate` requests a second to 127.0.0.1:`port`.

    Args:
        port: Of the proxy.
        path: Of the request.
        body: What each answer ends with; it must not be part of a head.
        rate: Requests per second.
        seconds: For how long.

    Raises:
        BenchError: an answer was not 200, or a connection closed, or there was no answer within 2 s.
    """
    with ExitStack() as stack:
        poller = stack.enter_context(select.epoll())
        sockets: dict[int, socket.socket] = {}
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
            poller.register(connection, select.EPOLLIN)
            sockets[connection.fileno()] = connection
        gc.disable()
        # Timers may be late by 50 μs unless a thread says that it cares: too coarse for the intervals here.
        Path("/proc/self/timerslack_ns").write_text("1", encoding="ascii")
        try:
            return _run(poller, sockets, _request(port, path), b"\r\n\r\n" + body, rate, seconds)
        finally:
            gc.enable()


def _run(
    poller: select.epoll,
    sockets: dict[int, socket.socket],
    request: bytes,
    end: bytes,
    rate: float,
    seconds: float,
) -> Paced:
    clock = time.monotonic_ns
    interval = round(1e9 / rate)
    start = clock()
    due, last, counted_from = start, start + round(seconds * 1e9), start + round(seconds * 1e9 * _WARM_UP)
    idle = deque(sockets.values())
    sent: dict[int, int] = {}
    heads: dict[int, bytes] = {}
    waiting: deque[int] = deque()
    latencies: list[int] = []
    queued = late = count = 0
    wake = [poller.fileno()]
    while True:
        now = clock()
        while due <= now and due < last:
            count += 1
            late += now - due > _LATE_NS
            if idle:
                connection = idle.popleft()
                sent[connection.fileno()] = clock()
                connection.send(request)
            else:
                waiting.append(due)
                queued += 1
            due += interval
        if due < last:
            pause = max(0, due - clock()) / 1e9
        elif sent:
            pause = 0.01
            if now > last + _PATIENCE_NS:
                raise BenchError(f"{len(sent)} requests without an answer after 2 s")
        else:
            break
        # Sleeps in select because its time limit is in microseconds; epoll's is in whole milliseconds.
        if not select.select(wake, (), (), pause)[0]:
            continue
        for number, _ in poller.poll(0):
            data = sockets[number].recv(65536)
            got = clock()
            if not data:
                raise BenchError("the proxy closed a connection under load")
            if number in heads:
                data = heads.pop(number) + data
            if not data.endswith(end):
                heads[number] = data
                continue
            if not data.startswith(b"HTTP/1.1 200 "):
                raise BenchError(f"the proxy answered {data[:200]!r}")
            began = sent.pop(number)
            if began >= counted_from:
                latencies.append(got - began)
            if waiting:
                sent[number] = waiting.popleft()
                sockets[number].send(request)
            else:
                idle.append(sockets[number])
    latencies.sort()
    return Paced(latencies, queued / max(1, count), late / max(1, count))
