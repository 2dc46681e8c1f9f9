"""Relays two sockets: what one sends goes to the other, inside the kernel where it can.

Each direction reads only while all that it read before is passed on, so a slow end stops the other, and what is held is
bounded by a store. An end of one direction (FIN) is passed on when all before it is; a reset is passed on as a reset. The
sockets belong to the relay, which closes both when both directions have ended, or one end is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from prox.flow import Completion

from .stores import Buffer, Pipe, Store, Stores, is_unfit

_TURN: Final = 1024 * 1024
"""Bytes that one direction moves before others have their turn."""

_NO_LINGER: Final = struct.pack("ii", 1, 0)

_LOOK: Final = 15.0
"""Seconds between two looks whether an end that has said its last word is still there."""

_LAST_WORDS: Final = 10.0
"""Seconds in which what an end said before it broke must be taken."""


class Pace(Protocol):
    """Limits the rate of a direction."""

    def allowed(self, most: int) -> int:
        """How many of `most` bytes may be read now; 0 for none: then the call that `tell` was given comes."""

    def passed(self, size: int) -> None:
        """So many were."""

    def tell(self, call: Callable[[], None]) -> None:
        """Call this each time that some may be read again."""


class _Way:
    """One direction.

    Attributes:
        source: where bytes come from.
        sink: where they go.
        taken: bytes read.
        given: bytes passed on.
        store: what is between, None where nothing is.
        copies: the kernel can't splice these sockets.
        ended: the source has said its last word, and the sink was told.
    """

    __slots__ = (
        "copies",
        "ended",
        "given",
        "pace",
        "reading",
        "sink",
        "source",
        "store",
        "taken",
        "writing",
    )

    def __init__(self, source: socket.socket, sink: socket.socket, pace: Pace | None) -> None:
        self.source = source
        self.sink = sink
        self.pace = pace
        self.taken = 0
        self.given = 0
        self.store: Store | None = None
        self.copies = False
        self.reading = False
        self.writing = False
        self.ended = False


class Relay:
    """Joins a client and an upstream, from `start` to `finished`.

    Args:
        client: connected, not blocking.
        upstream: the same.
        stores: where bytes are on their way.
        idle_timeout: seconds of silence in both directions after which it ends; None: never.
        upload: limits what the client sends.
        download: limits what the upstream sends.

    Attributes:
        finished: it has ended, and both sockets are closed.
        reason: why, where it was not by the last word of both: client_aborted, upstream_reset, relay_idle_timeout, or what
            `stop` was given.
    """

    def __init__(
        self,
        client: socket.socket,
        upstream: socket.socket,
        stores: Stores,
        *,
        idle_timeout: float | None = None,
        upload: Pace | None = None,
        download: Pace | None = None,
    ) -> None:
        self.finished = Completion()
        self.reason = ""
        self._loop = asyncio.get_running_loop()
        self._stores = stores
        self._idle_timeout = idle_timeout
        self._up = _Way(client, upstream, upload)
        self._down = _Way(upstream, client, download)
        self._active = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._broken_until = 0.0

    @property
    def received(self) -> int:
        """Bytes from the client."""
        return self._up.taken

    @property
    def sent(self) -> int:
        """Bytes to the client."""
        return self._down.given

    def start(self) -> None:
        """Relay."""
        for sock in (self._up.source, self._up.sink):
            if sock.family != socket.AF_UNIX:
                with contextlib.suppress(OSError):  # it is gone already, which reading will tell
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._idle_timeout is not None:
            self._look_at(self._active + self._idle_timeout)
        for way in (self._up, self._down):
            if way.pace is not None:
                way.pace.tell(partial(self._go_on, way))
            self._read(way)

    def stop(self, reason: str) -> None:
        """End now: both ends see a reset, so that none takes what it has for the whole."""
        if not self.finished.done:
            self._finish(reason, reset=True)

    # Moving.

    def _read(self, way: _Way) -> None:
        if not way.reading:
            way.reading = True
            self._loop.add_reader(way.source, self._move, way)

    def _read_no_more(self, way: _Way) -> None:
        if way.reading:
            way.reading = False
            self._loop.remove_reader(way.source)

    def _write(self, way: _Way) -> None:
        if not way.writing:
            way.writing = True
            self._loop.add_writer(way.sink, self._move, way)

    def _write_no_more(self, way: _Way) -> None:
        if way.writing:
            way.writing = False
            self._loop.remove_writer(way.sink)

    def _move(self, way: _Way) -> None:
        """Pass on what there is; called while the source has something, or the sink has room again."""
        store = way.store
        if store is None:
            store = way.store = Buffer() if way.copies else self._stores.take()
        before = way.taken + way.given
        most = way.given + _TURN
        while way.given < most:
            if not store.held:
                size = _TURN if way.pace is None else self._allowed(way, way.pace)
                if not size or not self._fill(way, store, size):
                    break
            if not self._drain(way, store):
                break
        if self._idle_timeout is not None and way.taken + way.given != before:
            self._active = self._loop.time()

    def _allowed(self, way: _Way, pace: Pace) -> int:
        size = pace.allowed(_TURN)
        if not size:
            self._read_no_more(way)
            self._rest(way)
        return size

    def _go_on(self, way: _Way) -> None:
        if not way.ended:
            self._read(way)

    def _rest(self, way: _Way) -> None:
        """Nothing is on its way."""
        store, way.store = way.store, None
        if store is not None:
            self._stores.give(store)

    def _fill(self, way: _Way, store: Store, size: int) -> bool:
        """Read; whether there is something to pass on."""
        try:
            count = store.fill(way.source, size)
        except BlockingIOError:
            self._write_no_more(way)
            self._rest(way)
            self._read(way)
            return False
        except OSError as error:
            if isinstance(store, Pipe) and is_unfit(error):
                self._rest(way)
                way.copies = True
                self._loop.call_soon(self._again, way)
            else:
                self._finish(self._reason_of(way.source), reset=True)
            return False
        if not count:
            self._end(way)
            return False
        way.taken += count
        if way.pace is not None:
            way.pace.passed(count)
        return True

    def _again(self, way: _Way) -> None:
        if not self.finished.done and not way.ended:
            self._move(way)

    def _drain(self, way: _Way, store: Store) -> bool:
        """Pass on; whether all is."""
        try:
            while store.held:
                way.given += store.drain(way.sink)
        except BlockingIOError:
            self._read_no_more(way)
            self._write(way)
            return False
        except OSError:
            self._break(way)
            return False
        if way.writing:
            self._write_no_more(way)
            self._read(way)
        return True

    # Ends.

    def _end(self, way: _Way) -> None:
        """The source has said its last word, and all of it is passed on."""
        if self._broken_until:
            self._finish(self.reason, reset=True)
            return
        self._quiet(way)
        try:
            way.sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._finish(self._reason_of(way.sink), reset=True)
            return
        if self._up.ended and self._down.ended:
            self._finish("", reset=False)
        else:
            self._look_at(self._loop.time() + _LOOK)

    def _break(self, way: _Way) -> None:
        """The sink takes nothing any more. What it said before is still passed on, then the source sees a reset."""
        self._quiet(way)
        self.reason = self.reason or self._reason_of(way.sink)
        other = self._down if way is self._up else self._up
        if other.ended:
            self._finish(self.reason, reset=True)
            return
        self._broken_until = self._loop.time() + _LAST_WORDS
        self._look_at(self._broken_until)

    def _quiet(self, way: _Way) -> None:
        way.ended = True
        self._read_no_more(way)
        self._write_no_more(way)
        self._rest(way)

    def _reason_of(self, sock: socket.socket) -> str:
        return "client_aborted" if sock is self._up.source else "upstream_reset"

    def _finish(self, reason: str, *, reset: bool) -> None:
        self.reason = self.reason or reason
        self._quiet(self._up)
        self._quiet(self._down)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for sock in (self._up.source, self._up.sink):
            if reset:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            sock.close()
        self.finished.set()

    # Time.

    def _look_at(self, at: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self._broken_until:
            if now >= self._broken_until:
                self._finish(self.reason, reset=True)
            else:
                self._look_at(self._broken_until)
            return
        due = []
        if self._idle_timeout is not None:
            due.append(self._active + self._idle_timeout)
            if now >= due[0]:
                self._finish("relay_idle_timeout", reset=False)
                return
        for way in (self._up, self._down):
            if way.ended:
                # Nobody reads from it any more, so nobody hears that it is gone.
                if _is_gone(way.source):
                    self._finish(self._reason_of(way.source), reset=True)
                    return
                due.append(now + _LOOK)
        if due:
            self._look_at(min(due))


def _is_gone(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock.fileno(), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))
