"""What the supervisors of a Manager share, and whom they tell what plugins bring about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from prox.wire import Push

from .guardian import Guardian
from .life import Life
from .model import Delays
from .pushed import Pushed
from .runtime import RuntimeDirectory

if TYPE_CHECKING:
    from .supervisor import Supervisor


class Listener(Protocol):
    """Who is told what a plugin brings about."""

    def pushed(self, supervisor: Supervisor, life: Life, push: Push) -> None:
        """One of its processes has sent `set_targets` or `set_speed`."""

    def took_charge(self, supervisor: Supervisor, pushes: Iterable[Pushed]) -> None:
        """Another process of it is in charge, which pushed this before it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What all supervisors of a Manager share."""

    listener: Listener
    runtime: RuntimeDirectory
    delays: Delays
    random: Callable[[], float]
    guardian: Callable[[], Guardian | None]
