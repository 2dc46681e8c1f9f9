"""How much at a time: connections of clients, requests to a target, bytes a second. The package is pure: others wait."""

from prox.limits.buckets import MBPS, Bucket
from prox.limits.caps import ConnectionCaps
from prox.limits.groups import Group, Groups, OwnLimits, Pair, Rates, lower, lowest, megabits
from prox.limits.pacing import Clock, Gate, Metered, Pacer, Timer
from prox.limits.places import Places

__all__ = [
    "MBPS",
    "Bucket",
    "Clock",
    "ConnectionCaps",
    "Gate",
    "Group",
    "Groups",
    "Metered",
    "OwnLimits",
    "Pacer",
    "Pair",
    "Places",
    "Rates",
    "Timer",
    "lower",
    "lowest",
    "megabits",
]
