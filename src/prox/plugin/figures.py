"""What is counted of each plugin: plain numbers, from which the exposition is made elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """Where a plugin is in its supervision."""

    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing off"
    FAILED = "failed to start"
    STOPPED = "stopped"


@dataclass(slots=True)
class HookFigures:
    """Figures of one hook.

    Attributes:
        calls: requests and connections that it was asked about.
        verdicts: by name: allow, deny, drop, fallback; change and keep for on_response.
        errors: by kind.
    """

    calls: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class PluginState:
    """A plugin as the admin API shows it.

    Attributes:
        alias: its name.
        path: its program.
        state: where it is in its supervision.
        pid: its process, while there is one.
        restarts: starts after the first.
        last_exit: status of the last process that ended, negative for a signal; None before that.
        error: why the last start failed; empty when it did not.
        stderr: its last lines of stderr.
        hooks: what it serves.
        figures: by hook.
        queued: on_disconnect messages that wait.
        dropped: on_disconnect messages that were dropped because the queue was full.
        in_flight: calls without an answer yet.
        waiting: calls that wait for a connection.
    """

    alias: str
    path: str
    state: State
    pid: int | None
    restarts: int
    last_exit: int | None
    error: str
    stderr: tuple[str, ...]
    hooks: tuple[str, ...]
    figures: Mapping[str, HookFigures]
    queued: int
    dropped: int
    in_flight: int
    waiting: int
