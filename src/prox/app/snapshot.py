"""A configuration in force, and the end of its last request."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from prox.config import model
from prox.proxy.pipeline import Pipeline

from .build import Built


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What is in force at one time; requests that begin under it end under it.

    Attributes:
        config: the configuration.
        built: what was made of it.
        pipelines: what answers requests, by service.
        over: its last request has ended; set some time after `retire`.
    """

    config: model.Config
    built: Built
    pipelines: dict[str, Pipeline]
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def retire(self) -> None:
        """No new request meets it."""
        busy = set(self.pipelines)

        def idle(name: str) -> None:
            busy.discard(name)
            if not busy:
                self.over.set()

        if not busy:
            self.over.set()
        for name, pipeline in self.pipelines.items():
            pipeline.when_idle(lambda name=name: idle(name))  # type: ignore[misc] # a lambda's default has no type
