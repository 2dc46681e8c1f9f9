"""One life of a plugin's process as the protocol sees it: what it was told, what it acknowledged, what it said.

It knows under which id the plugin knows each route. A reload changes ids; until the plugin has acknowledged an
id's new `configure`, what it says of that id is read under the old numbering, and hooks are asked under the id
that the plugin knows for the route.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prox.wire import METHOD_CONFIGURE, ConfigureParams, MatchInfo, Request, encode_line

from .caller import Caller
from .executable import Version
from .process import Process

if TYPE_CHECKING:
    from .pushed import Pushed


@dataclass(frozen=True, slots=True)
class Assignment:
    """A route that a plugin is bound to, under its id of one configuration."""

    key: Hashable
    match: MatchInfo | None


class Era:
    """Calls that were made under the same numbering of routes.

    Attributes:
        calls: those that are open.
        ended: called when the last one ends, once a new era has begun.
    """

    __slots__ = ("calls", "ended")

    def __init__(self) -> None:
        self.calls = 0
        self.ended: Callable[[Era], None] | None = None

    def leave(self) -> None:
        """A call has ended."""
        self.calls -= 1
        if self.ended is not None and not self.calls:
            self.ended(self)


class Life:
    """What is known of one process of a plugin.

    Attributes:
        process: the process.
        caller: its hooks; None until `ready`, or where it serves none.
        socket: the path that it said in `ready`.
        hooks: what it said that it serves; None until `ready`.
        features: of those that prox knows, what it said that it knows.
        pushed: it has pushed something.
        refused: the routes whose `configure` it answered with an error, and the error.
        era: the calls under the present ids.
        grace_over: the wait for `ready` behind the last acknowledgement is over.
        told: the routes that it was told last.
        version: the program that it runs; None where that was missing when it was looked at.
        began: when it was started, in the loop's time.
        in_charge: its hooks are asked; not so for one that is to take the place of another.
        left: another has taken its place.
        held: what it pushed while it was not in charge, the latest of each place, in order.
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
        self.told: Mapping[str, Assignment] | None = None
        self.version: Version | None = None
        self.began = 0.0
        self.in_charge = False
        self.left = False
        self.held: dict[object, Pushed] = {}
        self.era = Era()
        self._asked: deque[tuple[str, Hashable]] = deque()
        self._asked_keys: Counter[Hashable] = Counter()
        self._moving: Counter[str] = Counter()
        self._known: set[Hashable] = set()
        self._held: Mapping[str, Assignment] = {}
        self._ending: set[Era] = set()
        self._moved: asyncio.Future[None] | None = None
        self._news: asyncio.Future[None] | None = None
        self._key_of: dict[str, Hashable] = {}
        self._id_of: dict[Hashable, str] = {}

    @property
    def outstanding(self) -> int:
        """`configure` lines without an answer yet."""
        return len(self._asked) + len(self._held)

    def configure(self, routes: Mapping[str, Assignment]) -> None:
        """Tell it its routes. Lines of an earlier configuration that have not gone out are taken back.

        From now on no route is asked about under an id that is to mean another one, and the lines go out when no
        such call is open any more: no call is judged as one of another route.
        """
        self.told = routes
        for _ in range(self.process.take_back()):
            self._answered(self._asked.pop()[1])
        for route in self._held.values():
            self._answered(route.key)
        for route in routes.values():
            self._asked_keys[route.key] += 1
        self._held = routes
        self._find_moving()
        renumbers = False
        for route_id in self._moving:
            before = self._key_of.get(route_id)
            if before is not None:
                renumbers = True
                if self._id_of.get(before) == route_id:
                    del self._id_of[before]
        if renumbers and self.era.calls:
            self._ending.add(self.era)
            self.era.ended = self._era_ended
            self.era = Era()
        if not self._ending:
            self._send()

    def _find_moving(self) -> None:
        """Find the ids to which open `configure` lines give another meaning than they have, or than each other."""
        told = [*self._asked, *((route_id, route.key) for route_id, route in self._held.items())]
        meaning = dict(self._key_of)
        moving = {route_id for route_id, key in told if meaning.setdefault(route_id, key) != key}
        self._moving = Counter(route_id for route_id, _ in told if route_id in moving)

    def _era_ended(self, era: Era) -> None:
        self._ending.discard(era)
        if not self._ending:
            self._send()

    def _send(self) -> None:
        routes, self._held = self._held, {}
        for route_id, route in routes.items():
            match = route.match if route.match != _NO_MATCH else None
            self._asked.append((route_id, route.key))
            self.process.send(encode_line(Request(METHOD_CONFIGURE, ConfigureParams(route_id, match))))

    def acknowledged(self, error: str) -> tuple[str, Hashable] | None:
        """Take the answer to the oldest open `configure`: its id and route; None where none is open."""
        if not self._asked:
            return None
        route_id, key = self._asked.popleft()
        self._answered(key)
        self._key_of[route_id] = key
        if route_id in self._moving:
            self._moving[route_id] -= 1
            if not self._moving[route_id]:
                del self._moving[route_id]
        if route_id not in self._moving:
            self._id_of[key] = route_id
        self._known.add(key)
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

    def key_of(self, route_id: str) -> Hashable:
        """The route that the plugin means by an id; None where it was told of none."""
        return self._key_of.get(route_id)

    def id_of(self, key: Hashable, route_id: str) -> str | None:
        """The id under which the plugin surely knows a route: `route_id` where that is one of them.

        Surely, because no line is under way that gives the id another meaning.
        """
        if self._key_of.get(route_id) == key and route_id not in self._moving:
            return route_id
        return self._id_of.get(key)

    def caller_now(self, hook: str, key: Hashable, route_id: str) -> Caller | None:
        """Who calls a hook that it serves of a route that it knows as `route_id`; None where any of that is in doubt."""
        if self.refused or self.hooks is None or hook not in self.hooks:
            return None
        if self._key_of.get(route_id) != key or route_id in self._moving:
            return None
        return self.caller

    async def moved(self, key: Hashable, deadline: float) -> None:
        """Wait, until the deadline at most, while a route that it knows is getting another id."""
        loop = asyncio.get_running_loop()
        while not self.left and key not in self._id_of and key in self._known and key in self._asked_keys:
            if self._moved is None:
                self._moved = loop.create_future()
            timer = loop.call_at(deadline, self._tell_moved)
            try:
                await asyncio.shield(self._moved)
            finally:
                timer.cancel()
            if loop.time() >= deadline - 0.001:
                return

    def news(self) -> asyncio.Future[None]:
        """Done when something is known that was not when it was asked for."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        return self._news

    def tell(self) -> None:
        """Wake who waits for `news`."""
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)

    def leave(self) -> None:
        """Another has taken its place: calls that wait for its answers to `configure` turn to that one."""
        self.in_charge = False
        self.left = True
        self._tell_moved()

    def end(self) -> None:
        """The process is gone."""
        self.in_charge = False
        self._asked.clear()
        self._held = {}
        self._asked_keys.clear()
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
        self._known &= keys
        for key in [refused for refused in self.refused if refused not in keys]:
            del self.refused[key]


_NO_MATCH = MatchInfo()
