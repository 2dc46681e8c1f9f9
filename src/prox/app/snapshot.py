"""A configuration in force, and the end of its last request."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from prox.config import model
from prox.proxy.pipeline import Pipeline

from .build import Built

if TYPE_CHECKING:
    from prox.proxy.passing import Passing


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What is in force at one time; requests that begin under it end under it.

    Attributes:
        config: the configuration.
        built: what was made of it.
        pipelines: what answers requests, by service.
        passings: what passes connections on unopened, by service.
        over: its last request has ended; set some time after `retire`.
    """

    config: model.Config
    built: Built
    pipelines: dict[str, Pipeline]
    passings: dict[str, Passing] = field(default_factory=dict)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def retire(self) -> None:
        """No new request meets it, and no new connection."""
        servers: list[Pipeline | Passing] = [*self.pipelines.values(), *self.passings.values()]
        busy = set(servers)

        def idle(server: Pipeline | Passing) -> None:
            busy.discard(server)
            if not busy:
                self.over.set()

        if not busy:
            self.over.set()
        for server in servers:
            server.when_idle(partial(idle, server))
