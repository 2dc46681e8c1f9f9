"""What is counted of each plugin: plain numbers, from which the exposition is made elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from prox.observe.histogram import Histogram


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
        latency: seconds of the calls that were answered, the wait for a connection included.
    """

    calls: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)


@dataclass(frozen=True, slots=True)
class PluginState:
    """A plugin as the admin API shows it.

    Attributes:
        alias: its name.
        path: its program.
        state: where it is in its supervision.
        pid: its process, while there is one.
        restarts: starts after the first, other than by a swap.
        last_exit: status of the last process that ended, negative for a signal; None before that.
        error: why the last start failed, or why its process had to be ended; empty once one runs.
        stderr: its last lines of stderr.
        hooks: what it serves.
        features: what it knows beyond the base protocol.
        figures: by hook.
        queued: on_disconnect messages that wait.
        dropped: on_disconnect messages that were dropped because the queue was full.
        in_flight: calls without an answer yet.
        waiting: calls that wait for a connection.
        version: the program's files as they were when its process was started; empty while there is none.
        unresponsive: processes that ran and did not answer any more, and were ended.
        swaps: processes that took the place of another that was running.
        swapping: a swap is under way.
        swap_error: why the last swap failed; empty when it did not.
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
    features: tuple[str, ...]
    figures: Mapping[str, HookFigures]
    queued: int
    dropped: int
    in_flight: int
    waiting: int
    version: str
    unresponsive: int
    swaps: int
    swapping: bool
    swap_error: str
