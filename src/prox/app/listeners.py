"""All listening sockets of a configuration, and how the next configuration takes them over.

A connection belongs to the address that it came in on: while that is listened on, the connection stays open, whatever
service answers there. Where an address goes its connections end, each after the exchange it is at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeAlias

from prox.config.addresses import ListenAddress
from prox.config.model import Service
from prox.http.entry import Handler
from prox.tasks import spawn

from .build import BuiltService
from .errors import StartError
from .listening import Listener, bind
from .threads import in_thread

Key: TypeAlias = tuple[ListenAddress, str]
"""An address; with port 0, which each service gets its own of, the service's name too."""

Address: TypeAlias = tuple[str, int] | str
"""Where a service really listens: host and port, or the path of a unix socket."""


class Listeners:
    """The listening sockets in force."""

    def __init__(self) -> None:
        self._open: dict[Key, Listener] = {}
        self._drains: dict[Listener, asyncio.Task[None]] = {}

    def address(self, name: str, service: Service) -> Address:
        """Where a service in force listens."""
        return self._open[_key(name, service)].bound

    def values(self) -> Collection[Listener]:
        """All listeners in force."""
        return self._open.values()

    async def bind(self, services: Mapping[str, Service]) -> dict[Key, Listener]:
        """Bind what `services` need and what is not there yet.

        Raises:
            StartError: addresses can't be had, and none is bound; the text names all that can't.
        """
        wanted = dict.fromkeys(_key(name, service) for name, service in services.items())
        leaving = [listener for key, listener in self._open.items() if key not in wanted]
        missing = [key for key in wanted if key not in self._open]
        if not missing:
            return {}

        return await in_thread(
            lambda: _bind_all(missing, leaving), lambda unwanted: release(unwanted.values())
        )

    def swap(
        self,
        services: Mapping[str, BuiltService],
        handlers: Mapping[str, Handler],
        fresh: Mapping[Key, Listener],
        drain: float,
    ) -> None:
        """Point every listener at its service, and let go of those without one.

        Args:
            services: what is to be served.
            handlers: what answers for each of them.
            fresh: what `bind` gave; they are to `accept` next.
            drain: seconds that requests on listeners without a service may take to end.
        """
        self._open.update(fresh)
        wanted = set()
        for name, service in services.items():
            key = _key(name, service.config)
            wanted.add(key)
            self._open[key].point(
                handlers[name], service.tuning, service.caps, service.counters, service.steps
            )
        for key in self._open.keys() - wanted:
            self._let_go(self._open.pop(key), drain)

    async def close(self, drain: float) -> None:
        """Accept no more, and close all connections: idle ones at once, the others after their exchange.

        Args:
            drain: seconds after which what still runs is aborted.
        """
        for listener in self._open.values():
            self._let_go(listener, drain)
        self._open.clear()
        if self._drains:
            # A reload may have given listeners that it removed more time than there is now.
            _, late = await asyncio.wait(self._drains.values(), timeout=drain)
            for listener in list(self._drains):
                listener.abort()
            if late:
                await asyncio.wait(late)

    def abort(self) -> None:
        """Close everything at once, and wait for nothing."""
        for listener in (*self._open.values(), *self._drains):
            listener.close()
            listener.remove()
            listener.abort()
        self._open.clear()

    def _let_go(self, listener: Listener, drain: float) -> None:
        entry = listener.entry
        assert entry is not None
        listener.close()

        async def end() -> None:
            try:
                await asyncio.get_running_loop().run_in_executor(None, listener.remove)
                await entry.drained(drain)
            finally:
                del self._drains[listener]

        self._drains[listener] = spawn(end(), f"drain {listener.address}")


def release(listeners: Iterable[Listener]) -> None:
    """Close listeners that were bound and are not needed."""
    loop = asyncio.get_running_loop()
    for listener in listeners:
        listener.close()
        loop.run_in_executor(None, listener.remove)


def _bind_all(keys: Iterable[Key], leaving: Sequence[Listener]) -> dict[Key, Listener]:
    """All or none, in a thread; see `Listeners.bind`."""
    fresh: dict[Key, Listener] = {}
    refusals = []
    try:
        for key in keys:
            try:
                fresh[key] = bind(key[0], leaving)
            except StartError as error:
                refusals.append(error)
    except BaseException:
        _give_up(fresh.values())
        raise
    if refusals:
        _give_up(fresh.values())
        raise StartError("; ".join(str(error) for error in refusals)) from refusals[0]
    return fresh


def _give_up(listeners: Iterable[Listener]) -> None:
    """The same in the thread in which they were bound."""
    for listener in listeners:
        listener.close()
        listener.remove()


def _key(name: str, service: Service) -> Key:
    address = service.listen
    return address, name if address.kind == "tcp" and address.port == 0 else ""
