"""How much at a time: connections of clients, and requests to a target. The package is pure: who waits, waits elsewhere."""

from prox.limits.caps import ConnectionCaps
from prox.limits.places import Places

__all__ = ["ConnectionCaps", "Places"]
