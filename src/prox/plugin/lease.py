"""How plugins learn that a hook index, and every request that began under it, is gone."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .supervisor import Supervisor


class Lease:
    """Keeps plugins from being stopped for as long as it is referred to.

    A class of its own because the index, which holds it, is compiled: mypyc's classes know no weak references.
    """

    __slots__ = ("__weakref__",)

    def __init__(self, supervisors: Iterable[Supervisor]) -> None:
        for supervisor in supervisors:
            supervisor.lease()
            weakref.finalize(self, supervisor.unlease_soon).atexit = False
