"""A whole prox between a client and an upstream that are objects: no socket, no process, a clock that is turned by hand.

The connections, the pipeline, the action and the pool are those that serve; only the loop and the transports are made up. So
a conversation takes a millisecond, and every byte and every close is at hand. What is written here stands for the kernel: a
transport that does not read keeps what was sent to it, one that was closed hears nothing more, its loss is told later.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import socket
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any, cast

from prox.app.build import Builder
from prox.config import parse
from prox.http.entry import Entry
from prox.http.pool import Origin, Pools
from prox.http.upstream import UpstreamConnection
from prox.observe.access import AccessLogs
from prox.plugin.index import HookIndex
from prox.plugin.plan import Plan
from prox.proxy.pipeline import Pipeline
from support.strict_parser import Answer, Message, Reader

Call = Callable[..., object]


class _Timer:
    """What `call_at` gives."""

    def __init__(self, when: float, call: Call, args: tuple[Any, ...]) -> None:
        self.when = when
        self.call = call
        self.args = args
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def __lt__(self, other: _Timer) -> bool:
        return self.when < other.when


class Loop:
    """As much of an event loop as connections ask for. Its clock goes on by itself, and by `advance`."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._ready: deque[tuple[Call, tuple[Any, ...]]] = deque()
        self._timers: list[_Timer] = []
        self._turning = False

    def time(self) -> float:
        return monotonic() + self._ahead

    def call_soon(self, call: Call, *args: object, context: object = None) -> None:
        self._ready.append((call, args))

    def call_at(self, when: float, call: Call, *args: object, context: object = None) -> _Timer:
        timer = _Timer(when, call, args)
        heapq.heappush(self._timers, timer)
        return timer

    def call_later(self, delay: float, call: Call, *args: object, context: object = None) -> _Timer:
        return self.call_at(self.time() + delay, call, *args)

    def turn(self) -> None:
        """Call what is to be called soon, and what that calls."""
        if self._turning:  # a call of this turn's; the turn goes on behind it
            return
        self._turning = True
        try:
            while self._ready:
                call, args = self._ready.popleft()
                call(*args)
        finally:
            self._turning = False

    def advance(self, seconds: float) -> None:
        """Let time pass; timers fire when they are due."""
        end = self.time() + seconds
        self.turn()
        while self._timers and self._timers[0].when <= end:
            timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                self._ahead += max(0.0, timer.when - self.time())
                timer.call(*timer.args)
                self.turn()
        self._ahead += max(0.0, end - self.time())


class Transport:
    """One connection as prox has it.

    Attributes:
        sent: all that prox wrote.
        finished: prox has sent FIN, or closed.
        closed: it is closed, by either side.
        aborted: prox closed it by RST, and had sent no FIN before.
    """

    def __init__(self, loop: Loop, protocol: Any, sock: socket.socket, wrote: Callable[[], None]) -> None:
        self._loop = loop
        self._protocol = protocol
        self._sock = sock
        self._wrote = wrote
        self._reading = True
        self._unread: deque[bytes] = deque()
        self._ended = False
        self.sent = b""
        self.finished = False
        self.closed = False
        self.aborted = False

    # What prox does with it.

    def write(self, data: bytes) -> None:
        assert not self.finished or self.closed, "bytes behind a FIN"
        if not self.closed:
            self.sent += data
            self._wrote()

    def writelines(self, pieces: tuple[bytes, ...]) -> None:
        self.write(b"".join(pieces))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.finished = True

    def close(self) -> None:
        if not self.closed:
            self.closed = self.finished = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        if not self.closed:
            self.aborted = not self.finished
            self.close()

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._loop.call_soon(self._hand_over)

    def is_reading(self) -> bool:
        return self._reading

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: object = None) -> Any:
        if name == "socket":
            return self._sock
        return ("127.0.0.1", 5000) if name in {"peername", "sockname"} else default

    # What the peer does.

    def receive(self, data: bytes) -> None:
        """The peer sent `data`."""
        if data:
            self._unread.append(data)
        self._hand_over()
        self._loop.turn()

    def receive_end(self) -> None:
        """The peer sent FIN."""
        self._ended = True
        self._hand_over()
        self._loop.turn()

    @property
    def is_waiting(self) -> bool:
        """Whether something was sent that prox has not read."""
        return bool(self._unread) and not self.closed

    def _hand_over(self) -> None:
        while self._unread and self._reading and not self.closed:
            self._protocol.data_received(self._unread.popleft())
        ended = self._ended and self._reading and not self._unread and not self.closed
        if ended and not self._protocol.eof_received():
            self.close()


@dataclass
class Reply:
    """What the upstream does with one request.

    Attributes:
        data: what it sends.
        cuts: where it is cut into packets.
        early: it does not wait for the content.
        ends: it sends FIN behind it.
    """

    data: bytes
    cuts: tuple[int, ...] = ()
    early: bool = False
    ends: bool = False


@dataclass
class Asked:
    """A request that reached the upstream.

    Attributes:
        message: as it was sent so far.
        raw: its bytes.
        reply: what it was answered, None where it was not.
        early: it was answered before it was whole.
        first: no request was on its connection before it.
    """

    message: Message
    first: bool
    raw: bytes = b""
    reply: Reply | None = None
    early: bool = False


@dataclass
class Upstream:
    """One connection to the upstream, and its requests; canonical HTTP or an assertion fails."""

    transport: Transport
    asked: list[Asked] = field(default_factory=list)
    parsed: int = 0


def cut(data: bytes, cuts: tuple[int, ...]) -> list[bytes]:
    """`data` in packets."""
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def packets(reply: Reply, method: bytes) -> list[bytes]:
    """A reply cut into packets; surplus bytes come with the answer's last, or the next request might be sent before them."""
    answer = Answer.of(reply.data, method)
    size = len(reply.data) - len(answer.surplus)
    pieces = cut(reply.data[:size], reply.cuts) or [b""]
    return [*pieces[:-1], pieces[-1] + answer.surplus]


class Wires:
    """One prox; `open` gives it a client.

    Args:
        loop: its loop, see `wires`.

    Attributes:
        client: the transport of the client's connection.
        upstreams: the connections to the upstream, in the order in which prox opened them.
        asked: what reached them, in the order in which it came.
        replies: what the upstream does next; when there is nothing left it says OK.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.pools = Pools()
        route = {"action": {"type": "proxy", "upstream": "127.0.0.1:9"}}
        service = {"listen": "127.0.0.1:0", "routes": [{"match": {"domain": "test.example"}, **route}, route]}
        config = parse({"services": {"web": service}}, Path("/")).config
        built = Builder(self.pools, AccessLogs()).build(config, None)
        web = built.services["web"]
        self.pipeline = Pipeline(web.table, HookIndex(Plan([], {}), {}))
        self.entry = Entry(self.pipeline, web.config.config)
        self._origins: list[Origin] = []
        for host in ("test.example", "other.example"):
            match = web.table.match(host, "/", "GET")
            assert match is not None
            origin = cast("Any", match.value.action)._only.origin
            origin.connect = self._connect
            self._origins.append(origin)
        self._sockets = socket.socketpair()
        self._busy = False
        self.clear()

    def finish(self) -> None:
        """The client goes; the upstream connections that are left are closed."""
        if self.client is not None:
            self.client.receive_end()
        for connection in list(self.pools.open):
            connection.close()
        self.loop.turn()

    def clear(self) -> None:
        """Forget the conversation before."""
        self.client: Transport | None = None
        self.upstreams: list[Upstream] = []
        self.asked: list[Asked] = []
        self.replies: deque[Reply] = deque()

    def stop(self) -> None:
        for sock in self._sockets:
            sock.close()

    def open(self) -> Transport:
        """A client connects."""
        protocol: Any = self.entry.connect(("127.0.0.1", 5000))
        client = self.client = Transport(self.loop, protocol, self._sockets[0], lambda: None)
        protocol.connection_made(client)
        return client

    async def _connect(self, preface: bytes = b"") -> UpstreamConnection:
        connection = UpstreamConnection(self._origins[0])
        upstream = Upstream(Transport(self.loop, connection, self._sockets[1], self._schedule))
        self.upstreams.append(upstream)
        connection.connection_made(cast("asyncio.Transport", upstream.transport))
        self.pools.open.add(connection)
        return connection

    def converse(
        self, sent: bytes, cuts: tuple[int, ...], replies: tuple[Reply, ...], *, leaves: bool
    ) -> None:
        """Hold a conversation to its end.

        Args:
            sent: what the client sends.
            cuts: where it is cut into packets.
            replies: what the upstream does with one request after the other.
            leaves: the client sends FIN behind it, which means that it has gone; else it waits for what is to come.
        """
        self.clear()
        self.replies.extend(replies)
        client = self.open()
        for packet in cut(sent, cuts):
            client.receive(packet)
        if leaves:
            client.receive_end()
            return
        self.loop.advance(LONGEST_DEADLINE)
        for upstream in self.upstreams:  # what waits for an answer's rest waits for ever
            asked = upstream.asked[-1] if upstream.asked else None
            if asked is not None and asked.reply is not None and not upstream.transport.closed:
                message = Answer.of(asked.reply.data, asked.message.method).message
                if message is None or not message.whole:
                    asked.reply = replace(asked.reply, ends=True)
                    upstream.transport.receive_end()

    def _schedule(self) -> None:
        if not self._busy:
            self._busy = True
            self.loop.call_soon(self._answer)

    def _answer(self) -> None:
        self._busy = False
        for upstream in self.upstreams:
            while self._read(upstream):
                pass

    def _read(self, upstream: Upstream) -> bool:
        """Take the request that is on its way, and reply where it is time; whether there may be another."""
        data = upstream.transport.sent[upstream.parsed :]
        message = Reader(data, canonical=True).request() if data else None
        if message is None:
            return False
        asked = upstream.asked[-1] if upstream.asked and not upstream.asked[-1].message.whole else None
        if asked is None:
            asked = Asked(message, first=not upstream.asked)
            upstream.asked.append(asked)
            self.asked.append(asked)
        asked.message, asked.raw = message, data[: message.size]
        if message.whole:
            upstream.parsed += message.size
        # What was on its way when the upstream closed is never answered.
        if asked.reply is None and self._is_time(message) and not upstream.transport.closed:
            reply = asked.reply = self.replies.popleft() if self.replies else Reply(OK)
            asked.early = not message.whole
            for packet in packets(reply, message.method):
                upstream.transport.receive(packet)
            if reply.ends:
                upstream.transport.receive_end()
        return message.whole

    def _is_time(self, message: Message) -> bool:
        return message.whole or (bool(self.replies) and self.replies[0].early)


LONGEST_DEADLINE = 60.0
"""Seconds after which a conversation has met all deadlines of heads and bodies, and not yet that of idle connections."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextlib.contextmanager
def wires() -> Iterator[Wires]:
    """A prox in a loop of its own, that runs only inside its calls."""
    loop = Loop()
    with running(loop):
        made = Wires(loop)
    try:
        yield made
    finally:
        made.stop()


@contextlib.contextmanager
def running(loop: Loop) -> Iterator[None]:
    """Make `loop` the one that runs."""
    asyncio._set_running_loop(cast("asyncio.AbstractEventLoop", loop))
    try:
        yield
    finally:
        asyncio._set_running_loop(None)
