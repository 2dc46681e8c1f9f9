"""What the operating system lets a plugin's process have, where its settings say so."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginLimits:
    """Limits of each process of a plugin; None leaves it what prox itself has. They hold from its first instruction.

    What it starts inherits them, each process with an account of its own.

    Attributes:
        memory: bytes of address space (RLIMIT_AS).
        open_files: descriptors (RLIMIT_NOFILE).
        cpu_time: seconds of processor time, counted in whole ones; then it gets SIGXCPU, a second later SIGKILL
            (RLIMIT_CPU).
        nice: scheduling priority, from -20 (first) to 19 (last).
        user: who it runs as, a name or a number; its group, supplementary groups and home directory follow.
        group: its group, a name or a number; of the user's when None.
    """

    memory: int | None = None
    open_files: int | None = None
    cpu_time: float | None = None
    nice: int | None = None
    user: str | None = None
    group: str | None = None

    def __bool__(self) -> bool:
        """Whether anything is limited."""
        return self != _NONE


_NONE = PluginLimits()
