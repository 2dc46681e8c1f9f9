"""The configuration as prox works with it: every name resolved, every default filled in, nothing mutable.

The models are also the grammar of the document: keys, types, bounds and the rules within one object are
declared here once. They do no I/O; what they must ask about files and names goes through `Context`. A field marked
`SECRET` is never to be shown (`secret_fields`).
"""

from .actions import (
    Action,
    DropAction,
    Health,
    PassAction,
    ProxyAction,
    ServeAction,
    StaticAction,
    UpstreamTls,
)
from .base import SECRET, Context, Model, secret_fields
from .plugins import HOOKS, OnError, Plugin, PluginLimits, PluginRef, Policy
from .resources import Resource
from .root import Admin, Config, Logging, Runtime
from .routes import Balancer, Match, Route, Speed
from .services import Service
from .tls import Acme, AcmeDns, AcmeS3
from .tuning import Tuning

__all__ = [
    "HOOKS",
    "SECRET",
    "Acme",
    "AcmeDns",
    "AcmeS3",
    "Action",
    "Admin",
    "Balancer",
    "Config",
    "Context",
    "DropAction",
    "Health",
    "Logging",
    "Match",
    "Model",
    "OnError",
    "PassAction",
    "Plugin",
    "PluginLimits",
    "PluginRef",
    "Policy",
    "ProxyAction",
    "Resource",
    "Route",
    "Runtime",
    "ServeAction",
    "Service",
    "Speed",
    "StaticAction",
    "Tuning",
    "UpstreamTls",
    "secret_fields",
]
