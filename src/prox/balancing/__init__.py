"""Which target a connection goes to: `make` builds a route's `Balancer`, `Balancer.pick` asks it.

One file for each strategy. The package is pure: randomness and time are passed in. Each worker has balancers of its
own.
"""

from prox.balancing.balancer import Balancer, Snapshot, make
from prox.balancing.health import HealthBook
from prox.balancing.strategy import KINDS, Kind, Random, Strategy
from prox.balancing.target import Target

__all__ = ["KINDS", "Balancer", "HealthBook", "Kind", "Random", "Snapshot", "Strategy", "Target", "make"]
