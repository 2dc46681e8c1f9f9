"""One life of a plugin's process as the protocol sees it: what it was told, what it acknowledged, what it said.

It knows under which id the plugin knows each route. A reload changes ids; until the plugin has acknowledged an
id's new `configure`, what it says of that id is read under the old numbering, and hooks are asked under the id
that the plugin knows for the route.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from prox.wire import METHOD_CONFIGURE, ConfigureParams, MatchInfo, Request, encode_line

from .caller import Caller
from .process import Process


@dataclass(frozen=True, slots=True)
class Assignment:
    """A route that a plugin is bound to, under its id of one configuration."""

    key: Hashable
    match: MatchInfo | None


class Life:
    """What is known of one process of a plugin.

    Attributes:
        process: the process.
        caller: its hooks; None until `ready`, or where it serves none.
        socket: the path that it said in `ready`.
        hooks: what it said that it serves; None until `ready`.
        features: what it said that it knows.
        pushed: it has pushed something.
        refused: the routes whose `configure` it answered with an error, and the error.
        grace_over: the wait for `ready` behind the last acknowledgement is over.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.caller: Caller | None = None
        self.socket = ""
        self.hooks: frozenset[str] | None = None
        self.features: frozenset[str] = frozenset()
        self.pushed = False
        self.refused: dict[Hashable, str] = {}
        self.grace_over = False
        self._asked: deque[tuple[str, Hashable]] = deque()
        self._asked_keys: Counter[Hashable] = Counter()
        self._moving: set[Hashable] = set()
        self._moved: asyncio.Future[None] | None = None
        self._key_of: dict[str, Hashable] = {}
        self._id_of: dict[Hashable, str] = {}

    @property
    def outstanding(self) -> int:
        """`configure` lines without an answer yet."""
        return len(self._asked)

    def configure(self, routes: Mapping[str, Assignment]) -> None:
        """Tell it its routes. Lines of an earlier configuration that have not gone out are taken back."""
        for _ in range(self.process.take_back()):
            self._answered(self._asked.pop()[1])
        for route_id, route in routes.items():
            match = route.match if route.match != _NO_MATCH else None
            self._asked.append((route_id, route.key))
            self._asked_keys[route.key] += 1
            self.process.send(encode_line(Request(METHOD_CONFIGURE, ConfigureParams(route_id, match))))

    def acknowledged(self, error: str) -> tuple[str, Hashable] | None:
        """Take the answer to the oldest open `configure`: its id and route; None where none is open."""
        if not self._asked:
            return None
        route_id, key = self._asked.popleft()
        self._answered(key)
        before = self._key_of.get(route_id)
        if before is not None and before != key and self._id_of.get(before) == route_id:
            del self._id_of[before]
            if before in self._asked_keys:
                self._moving.add(before)
        self._key_of[route_id] = key
        self._id_of[key] = route_id
        if error:
            self.refused[key] = error
        else:
            self.refused.pop(key, None)
        self._tell_moved()
        return route_id, key

    def _answered(self, key: Hashable) -> None:
        self._asked_keys[key] -= 1
        if self._asked_keys[key] <= 0:
            del self._asked_keys[key]
        self._moving.discard(key)

    def key_of(self, route_id: str) -> Hashable:
        """The route that the plugin means by an id; None where it was told of none."""
        return self._key_of.get(route_id)

    def id_of(self, key: Hashable, route_id: str) -> str | None:
        """The id under which the plugin knows a route, `route_id` where that is one of them."""
        return route_id if self._key_of.get(route_id) == key else self._id_of.get(key)

    async def moved(self, key: Hashable, deadline: float) -> None:
        """Wait, until the deadline at most, while a known route has given up its id for one not acknowledged."""
        while key in self._moving:
            loop = asyncio.get_running_loop()
            if self._moved is None:
                self._moved = loop.create_future()
            timer = loop.call_at(deadline, self._tell_moved)
            try:
                await asyncio.shield(self._moved)
            finally:
                timer.cancel()
            if loop.time() >= deadline - 0.001:
                return

    def end(self) -> None:
        """The process is gone."""
        self._moving.clear()
        self._tell_moved()
        if self.caller is not None:
            self.caller.close()

    def _tell_moved(self) -> None:
        moved, self._moved = self._moved, None
        if moved is not None:
            moved.set_result(None)

    def forget_others(self, routes: Mapping[str, Assignment]) -> None:
        """Forget what is no longer in force and not asked for."""
        for route_id in [known for known in self._key_of if known not in routes]:
            key = self._key_of.pop(route_id)
            if self._id_of.get(key) == route_id:
                del self._id_of[key]
        keys = {route.key for route in routes.values()}
        for key in [refused for refused in self.refused if refused not in keys]:
            del self.refused[key]


_NO_MATCH = MatchInfo()
