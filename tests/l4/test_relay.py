"""Relays between real sockets: half-closes, resets, back-pressure, idle ends, counts, and no descriptor left."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import resource
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from prox.l4.relay import Relay
from prox.l4.stores import Buffer, Pipe, Store, Stores
from prox.tasks import spawn
from support.servers import until

RESET = struct.pack("ii", 1, 0)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    one.setblocking(False)
    other.setblocking(False)
    return one, other


class Copying(Stores):
    """Gives buffers, as where there are no descriptors."""

    def take(self) -> Store:
        return Buffer()


class Ends:
    """A relay and what is at its ends."""

    def __init__(
        self, stores: Stores, idle_timeout: float | None, make: Callable[..., tuple[socket.socket, ...]]
    ) -> None:
        self.client, client_side = make()
        upstream_side, self.upstream = pair()
        self.sides = client_side, upstream_side
        self.relay = Relay(client_side, upstream_side, stores, idle_timeout=idle_timeout)
        self.loop = asyncio.get_running_loop()

    async def send(self, sock: socket.socket, data: bytes) -> None:
        await asyncio.wait_for(self.loop.sock_sendall(sock, data), 10)

    async def receive(self, sock: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = await asyncio.wait_for(self.loop.sock_recv(sock, size - len(data)), 10)
            if not more:
                break
            data += more
        return data

    async def ended(self) -> None:
        await until(lambda: self.relay.finished.done, "the relay goes on")
        assert all(side.fileno() == -1 for side in self.sides)

    def reset(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@asynccontextmanager
async def relaying(
    stores: Stores | None = None,
    *,
    idle_timeout: float | None = None,
    make: Callable[..., tuple[socket.socket, ...]] = pair,
) -> AsyncIterator[Ends]:
    """A relay that runs; when it is left, no descriptor may be."""
    own = stores or Stores()
    before = descriptors()
    ends = Ends(own, idle_timeout, make)
    ends.relay.start()
    try:
        yield ends
    finally:
        ends.client.close()
        ends.upstream.close()
        ends.relay.stop("stopped")
        own.close()
    assert descriptors() == before


STORES = pytest.mark.parametrize("stores", [Stores, Copying])


@STORES
async def test_both_ways_and_counts(stores: type[Stores]) -> None:
    async with relaying(stores()) as ends:
        await ends.send(ends.client, b"hello")
        assert await ends.receive(ends.upstream, 5) == b"hello"
        await ends.send(ends.upstream, b"welcome back")
        assert await ends.receive(ends.client, 12) == b"welcome back"
        ends.client.close()
        assert await ends.receive(ends.upstream, 1) == b""
        ends.upstream.close()
        await ends.ended()
        assert (ends.relay.received, ends.relay.sent, ends.relay.reason) == (5, 12, "")


async def test_what_came_before_it_began_is_relayed() -> None:
    def make() -> tuple[socket.socket, ...]:
        one, other = pair()
        one.send(b"early")
        one.shutdown(socket.SHUT_WR)
        return one, other

    async with relaying(make=make) as ends:
        assert await ends.receive(ends.upstream, 6) == b"early"
        await ends.send(ends.upstream, b"late")
        ends.upstream.close()
        assert await ends.receive(ends.client, 5) == b"late"
        await ends.ended()


@STORES
@pytest.mark.parametrize("first", ["client", "upstream"])
async def test_half_closes_in_either_order(stores: type[Stores], first: str) -> None:
    async with relaying(stores()) as ends:
        one, other = (ends.client, ends.upstream) if first == "client" else (ends.upstream, ends.client)
        await ends.send(one, b"the last word")
        one.shutdown(socket.SHUT_WR)
        assert await ends.receive(other, 100) == b"the last word"
        assert not ends.relay.finished.done
        for number in range(3):
            await ends.send(other, b"still %d" % number)
            assert await ends.receive(one, 7) == b"still %d" % number
        other.shutdown(socket.SHUT_WR)
        assert await ends.receive(one, 1) == b""
        await ends.ended()
        assert ends.relay.reason == ""


async def test_both_close_at_once() -> None:
    async with relaying() as ends:
        ends.client.shutdown(socket.SHUT_WR)
        ends.upstream.shutdown(socket.SHUT_WR)
        assert await ends.receive(ends.client, 1) == b""
        assert await ends.receive(ends.upstream, 1) == b""
        await ends.ended()
        assert ends.relay.reason == ""


@STORES
@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_a_reset_is_passed_on_as_a_reset(stores: type[Stores], who: str) -> None:
    async with relaying(stores()) as ends:
        one, other = (ends.client, ends.upstream) if who == "client" else (ends.upstream, ends.client)
        await ends.send(one, b"x")
        assert await ends.receive(other, 1) == b"x"
        ends.reset(one)
        with pytest.raises(ConnectionResetError):
            await ends.receive(other, 1)
        await ends.ended()
        assert ends.relay.reason == ("client_aborted" if who == "client" else "upstream_reset")


async def test_a_reset_after_a_half_close_is_passed_on() -> None:
    async with relaying() as ends:
        ends.client.shutdown(socket.SHUT_WR)
        assert await ends.receive(ends.upstream, 1) == b""
        ends.reset(ends.upstream)
        with pytest.raises(ConnectionResetError):
            await ends.receive(ends.client, 1)
        await ends.ended()


async def test_an_end_that_went_after_its_last_word_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads from it any more, and its opposite says nothing."""
    monkeypatch.setattr("prox.l4.relay._LOOK", 0.05)
    async with relaying() as ends:
        ends.client.shutdown(socket.SHUT_WR)
        assert await ends.receive(ends.upstream, 1) == b""
        ends.reset(ends.client)
        await ends.ended()
        assert ends.relay.reason == "client_aborted"
        with pytest.raises(BrokenPipeError):
            ends.upstream.send(b"x")


@STORES
async def test_last_words_of_an_end_that_takes_no_more(stores: type[Stores]) -> None:
    """An upstream that answers and closes while the client still sends: the answer reaches the client."""
    async with relaying(stores()) as ends:
        await ends.send(ends.client, b"a request")
        await until(lambda: ends.relay.received == 9)
        # Both at once, for whatever the loop looks at first.
        ends.upstream.send(b"no, thank you")
        ends.upstream.close()  # with bytes unread: the kernel sends a reset
        ends.client.send(b"more of it")
        assert await ends.receive(ends.client, 13) == b"no, thank you"
        with pytest.raises(ConnectionResetError):
            await ends.receive(ends.client, 1)
        await ends.ended()
        assert ends.relay.reason == "upstream_reset"


@STORES
async def test_an_end_that_said_all_and_went_resets_who_goes_on(stores: type[Stores]) -> None:
    async with relaying(stores()) as ends:
        await ends.send(ends.upstream, b"that is all")
        ends.upstream.close()
        assert await ends.receive(ends.client, 100) == b"that is all"

        async def go_on() -> None:
            while True:
                await ends.send(ends.client, b"and yet")
                await asyncio.sleep(0)

        with pytest.raises(ConnectionError):
            await go_on()
        await ends.ended()
        assert ends.relay.reason == "upstream_reset"


@STORES
async def test_a_slow_end_stops_the_other(stores: type[Stores]) -> None:
    async with relaying(stores()) as ends:
        sent = 0
        try:
            while True:
                sent += ends.upstream.send(bytes(65536))
        except BlockingIOError:
            pass

        async def more() -> int:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ends.loop.sock_sendall(ends.upstream, bytes(100 * 1024 * 1024)), 0.5)
            return 0

        await more()
        # What is on the way is bounded: the sockets' buffers and one store.
        assert ends.relay.sent < 40 * 1024 * 1024
        ends.reset(ends.client)
        await ends.ended()


@STORES
async def test_megabytes_both_ways_are_what_they_were(stores: type[Stores]) -> None:
    size = 24 * 1024 * 1024
    up = random.Random(1).randbytes(size)
    down = random.Random(2).randbytes(size)
    async with relaying(stores()) as ends:

        async def send(sock: socket.socket, data: bytes) -> None:
            await ends.loop.sock_sendall(sock, data)
            sock.shutdown(socket.SHUT_WR)

        async def digest(sock: socket.socket) -> bytes:
            found = hashlib.sha256()
            while data := await ends.loop.sock_recv(sock, 1 << 18):
                found.update(data)
            return found.digest()

        spawn(send(ends.client, up), "up")
        spawn(send(ends.upstream, down), "down")
        got_up, got_down = await asyncio.gather(digest(ends.upstream), digest(ends.client))
        assert got_up == hashlib.sha256(up).digest()
        assert got_down == hashlib.sha256(down).digest()
        await ends.ended()
        assert (ends.relay.received, ends.relay.sent) == (size, size)


async def test_silence_ends_it() -> None:
    async with relaying(idle_timeout=0.2) as ends:
        began = ends.loop.time()
        for _ in range(4):
            await asyncio.sleep(0.1)
            await ends.send(ends.client, b"x")
            await ends.receive(ends.upstream, 1)
        assert not ends.relay.finished.done
        assert await ends.receive(ends.client, 1) == b""
        assert await ends.receive(ends.upstream, 1) == b""
        assert ends.loop.time() - began > 0.55
        await ends.ended()
        assert ends.relay.reason == "relay_idle_timeout"


async def test_stop_resets_both() -> None:
    async with relaying() as ends:
        await ends.send(ends.client, b"x")
        assert await ends.receive(ends.upstream, 1) == b"x"
        ends.relay.stop("shutdown")
        for sock in (ends.client, ends.upstream):
            with pytest.raises(ConnectionResetError):
                await ends.receive(sock, 1)
        assert ends.relay.reason == "shutdown"
        assert ends.relay.finished.done


async def test_unix_sockets_are_relayed() -> None:
    def make() -> tuple[socket.socket, ...]:
        one, other = socket.socketpair()
        one.setblocking(False)
        other.setblocking(False)
        return one, other

    async with relaying(make=make) as ends:
        await ends.send(ends.client, b"hello")
        assert await ends.receive(ends.upstream, 5) == b"hello"
        await ends.send(ends.upstream, b"there")
        ends.upstream.close()
        assert await ends.receive(ends.client, 6) == b"there"


async def test_where_the_kernel_refuses_it_copies() -> None:
    class Unfit(Pipe):
        __slots__ = ()

        def fill(self, source: socket.socket, most: int) -> int:
            raise OSError(errno.EINVAL, "refused")

    class Refusing(Stores):
        def take(self) -> Store:
            return Unfit()

    async with relaying(Refusing()) as ends:
        await ends.send(ends.client, b"hello")
        assert await ends.receive(ends.upstream, 5) == b"hello"
        await ends.send(ends.upstream, b"there")
        assert await ends.receive(ends.client, 5) == b"there"


class Slow:
    """A pace of so many bytes a second, all of it in slices."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._credit = 0.0
        self._last: float | None = None

    def allowed(self, most: int) -> int:
        now = asyncio.get_running_loop().time()
        self._credit += 0 if self._last is None else (now - self._last) * self._rate
        self._last = now
        size = min(most, int(self._credit))
        if not size:
            asyncio.get_running_loop().call_later(2000 / self._rate, self._call)
        return size

    def passed(self, size: int) -> None:
        self._credit -= size

    def tell(self, call: Callable[[], None]) -> None:
        self._call = call


@STORES
async def test_a_pace_is_kept(stores: type[Stores]) -> None:
    async with relaying(stores()) as ends:
        pace = ends.relay._down.pace = Slow(1_000_000)
        pace.tell(lambda: ends.relay._go_on(ends.relay._down))
        spawn(ends.loop.sock_sendall(ends.upstream, bytes(500_000)), "send")
        began = ends.loop.time()
        assert len(await ends.receive(ends.client, 500_000)) == 500_000
        assert 0.4 < ends.loop.time() - began < 0.7


async def test_idle_relays_hold_no_pipe_and_spare_ones_are_used_again() -> None:
    stores = Stores()
    async with relaying(stores) as ends:
        for _ in range(3):
            await ends.send(ends.client, b"x")
            assert await ends.receive(ends.upstream, 1) == b"x"
            await ends.send(ends.upstream, b"x")
            assert await ends.receive(ends.client, 1) == b"x"
        assert ends.relay._up.store is None
        assert ends.relay._down.store is None
        assert 1 <= len(stores.spare) <= 2


def test_a_pipe_with_something_in_it_is_not_used_again() -> None:
    one, other = pair()
    stores = Stores()
    store = stores.take()
    one.send(b"secret")
    assert store.fill(other, 100) == 6
    stores.give(store)
    assert not stores.spare
    stores.give(stores.take())
    assert len(stores.spare) == 1
    stores.close()
    assert not stores.spare
    one.close()
    other.close()


def test_where_descriptors_run_short_it_copies() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        store = Stores().take()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(store, Buffer)
