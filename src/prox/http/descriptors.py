"""How far the process may go with its file descriptors: some are kept back, so that what runs can go on.

The kernel gives the lowest free number, so the number of a new descriptor tells how many are in use. Clients wait first,
connections to upstreams, which those clients need that are here, come next; the last ones are for log files, reloads and
plugins.
"""

from __future__ import annotations

import contextlib
import resource
from typing import NamedTuple

_MOST_KEPT = 64

_MOST_EVER = 1 << 20
"""More than any kernel gives by default."""


class Room(NamedTuple):
    """Numbers of descriptors.

    Attributes:
        limit: none reaches this one (RLIMIT_NOFILE).
        accept: no connection is accepted while the lowest free one is not below.
        connect: the same of connections to upstreams.
    """

    limit: int
    accept: int
    connect: int


def room() -> Room:
    """As it is now: the limit can be changed from outside."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return of_limit(1 << 30 if soft == resource.RLIM_INFINITY else soft)


def raise_limit() -> None:
    """Let the process have as many as it may by itself: the usual soft limit is for programs that use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_EVER if hard == resource.RLIM_INFINITY else min(hard, _MOST_EVER)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):  # a container may forbid it: what there is must do
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def of_limit(limit: int) -> Room:
    """What is kept back of so many."""
    kept = min(_MOST_KEPT, limit // 16)
    return Room(limit, limit - 2 * kept, limit - kept)
