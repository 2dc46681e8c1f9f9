"""How much at a time: connections of clients, requests to a target, bytes a second. The package is pure: others wait."""

from prox.limits.buckets import MBPS, Bucket
from prox.limits.caps import ConnectionCaps
from prox.limits.pacing import Clock, Gate, Pacer, Timer
from prox.limits.places import Places

__all__ = ["MBPS", "Bucket", "Clock", "ConnectionCaps", "Gate", "Pacer", "Places", "Timer"]
