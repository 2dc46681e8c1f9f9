"""The host of external plugins: it starts them, asks their hooks, and takes what they push.

A plugin is a program of its own, in any language. `Manager` is all that a user needs; it works in any asyncio
program, with or without the proxy around it.
"""

from prox.wire import MatchInfo

from .asking import HookRecord
from .caller import Caller
from .errors import (
    CallError,
    ErrorKind,
    HookError,
    PluginError,
    PluginStartError,
    PluginSwapError,
    RequestNotEncodable,
)
from .figures import HookFigures, PluginState, State
from .index import HookIndex
from .limits import PluginLimits
from .manager import Manager, Prepared
from .model import BalancerSink, Binding, Delays, OnError, PluginSpec, RouteInfo
from .process import Process

__all__ = [
    "BalancerSink",
    "Binding",
    "CallError",
    "Caller",
    "Delays",
    "ErrorKind",
    "HookError",
    "HookFigures",
    "HookIndex",
    "HookRecord",
    "Manager",
    "MatchInfo",
    "OnError",
    "PluginError",
    "PluginLimits",
    "PluginSpec",
    "PluginStartError",
    "PluginState",
    "PluginSwapError",
    "Prepared",
    "Process",
    "RequestNotEncodable",
    "RouteInfo",
    "State",
]
